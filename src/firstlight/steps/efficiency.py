"""Efficiencies: exact binomial intervals, the correction for accidental coincidences, and their table.

A probe says that a particle went through; it is found if the channels under test fired. Statistics and
systematics are kept apart: the interval is that of the binomial distribution alone, the uncertainty of the
correction for accidentals stands in a column of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["EFFICIENCY_COLUMNS", "Estimate", "clopper_pearson", "efficiency_table", "estimate"]

EFFICIENCY_COLUMNS = (
    Column("n_probes", pl.Int64, "probes", minimum=0),
    Column("n_found", pl.Int64, "of these, found, accidentals included", minimum=0),
    Column("n_effective", pl.Float64, "probes without background that have the same statistical weight"),
    Column("efficiency", pl.Float64, "efficiency, accidentals subtracted", nullable=True),
    Column("low", pl.Float64, "lower end of the Clopper-Pearson interval", nullable=True),
    Column("high", pl.Float64, "upper end of the Clopper-Pearson interval", nullable=True),
    Column("accidental", pl.Float64, "probability that something else was found", nullable=True),
    Column("systematic", pl.Float64, "uncertainty from the correction for accidentals", nullable=True),
)


def clopper_pearson(
    passed: ArrayLike, total: ArrayLike, level: float = 0.6827
) -> tuple[FloatArray, FloatArray]:
    """Return the exact central interval of a binomial probability.

    ``low`` solves ``P(k >= passed | low) = (1 - level) / 2`` and ``high`` solves ``P(k <= passed | high) =
    (1 - level) / 2``: quantiles of beta distributions (C. Clopper, E. Pearson, Biometrika 26 (1934) 404). It covers at least
    `level` for every true value; for few trials it covers more.

    Parameters
    ----------
    passed, total : array-like
        Successes and trials, broadcast against each other. Need not be whole numbers: effective numbers of
        weighted events may stand here, and then the interval is an approximation.
    level : float
        Confidence level, between 0 and 1.

    Returns
    -------
    low, high : ndarray of the broadcast shape
        0 below 0 of n, 1 above n of n, NaN for 0 of 0.

    Raises
    ------
    UsageError
        If `level` is not between 0 and 1, or there are more successes than trials or fewer than none.
    """
    from scipy.special import betaincinv

    if not 0 < level < 1:
        what = f"confidence level must be between 0 and 1, not {level}"
        raise UsageError(what)
    given = np.broadcast_arrays(np.asarray(passed, dtype=np.float64), np.asarray(total, dtype=np.float64))
    success, trials = given
    known = np.isfinite(success) & np.isfinite(trials)
    if np.any(known & ((success < 0) | (success > trials))):
        what = "successes must be between 0 and the number of trials"
        raise UsageError(what)
    tail = (1 - level) / 2
    some, all_passed = success > 0, success >= trials
    # arguments at the edges are replaced by harmless ones; their results are not used
    low = betaincinv(np.where(some, success, 1.0), np.where(known, trials - success, 0.0) + 1, tail)
    failed = np.where(all_passed | ~known, 1.0, trials - success)
    high = betaincinv(np.where(known, success, 0.0) + 1, failed, 1 - tail)
    low = np.where(some, low, 0.0)
    high = np.where(all_passed, 1.0, high)
    empty = ~known | (trials <= 0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


@dataclass(frozen=True)
class Estimate:
    """Efficiencies with their uncertainties; every field has the same shape.

    Parameters
    ----------
    n_effective : ndarray
        Probes without background that have the same statistical weight.
    efficiency, low, high : ndarray
        Corrected for accidentals, with the binomial interval.
    accidental, systematic : ndarray
        Probability of an accidental coincidence, and what its uncertainty does to the efficiency.
    """

    n_effective: FloatArray
    efficiency: FloatArray
    low: FloatArray
    high: FloatArray
    accidental: FloatArray
    systematic: FloatArray


def estimate(
    found: ArrayLike,
    total: ArrayLike,
    *,
    n_effective: ArrayLike | None = None,
    accidental: ArrayLike = 0.0,
    accidental_error: ArrayLike = 0.0,
    level: float = 0.6827,
) -> Estimate:
    """Return efficiencies from counts.

    A probe is found if the particle was seen or, by accident, something else was: ``f = 1 - (1 - e) (1 - a)``,
    so that ``e = (f - a) / (1 - a)``.

    Parameters
    ----------
    found, total : array-like
        Probes that were found and all probes, or their background-subtracted sums of weights.
    n_effective : array-like, optional
        Effective number of probes, ``(sum of w)^2 / sum of w^2``; `total` by default.
    accidental, accidental_error : array-like
        Probability of an accidental coincidence and its uncertainty.
    level : float
        Confidence level of the interval.

    Returns
    -------
    Estimate
        NaN where there is no probe. The efficiency is not clipped: a fluctuation of the subtraction may
        take it below 0 or above 1; the interval stays within 0 and 1.
    """
    arrays = [np.asarray(value, dtype=np.float64) for value in (found, total, accidental, accidental_error)]
    seen, trials, chance, error = np.broadcast_arrays(*arrays)
    size = np.broadcast_to(np.asarray(trials if n_effective is None else n_effective, float), trials.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(trials > 0, seen / trials, np.nan)
        size = np.where(trials > 0, size, 0.0)
        chance = np.where((trials > 0) & (chance < 1), chance, np.nan)
        raw_low, raw_high = clopper_pearson(np.clip(fraction, 0, 1) * size, size, level)
        value, low, high = ((x - chance) / (1 - chance) for x in (fraction, raw_low, raw_high))
        systematic = error * np.abs(1 - fraction) / (1 - chance) ** 2
    return Estimate(size, value, np.clip(low, 0, 1), np.clip(high, 0, 1), chance, systematic)


def efficiency_table(
    name: str,
    labels: Mapping[Column, Sequence[Any] | NDArray[Any]],
    counts: tuple[ArrayLike, ArrayLike],
    result: Estimate,
    more: Mapping[Column, Sequence[Any] | NDArray[Any]] | None = None,
    description: str = "",
) -> Table:
    """Return a table of efficiencies.

    Parameters
    ----------
    name : str
        Name of the table.
    labels : mapping of Column to sequence
        What each row is about; stands before the numbers.
    counts : tuple of array-like, each of shape (n_rows,)
        Found probes and all probes, as counted.
    result : Estimate
        Of shape (n_rows,).
    more : mapping of Column to sequence, optional
        Stands after the numbers: verdict, rule.
    description : str
        What a row is.
    """
    after = dict(more or {})
    found, total = counts
    values: dict[str, Any] = {"n_probes": total, "n_found": found}
    for field in ("n_effective", "efficiency", "low", "high", "accidental", "systematic"):
        values[field] = getattr(result, field)
    columns = (*labels, *EFFICIENCY_COLUMNS, *after)
    values |= {column.name: given for column, given in [*labels.items(), *after.items()]}
    series = []
    for column in columns:
        one = pl.Series(column.name, np.asarray(values[column.name]))
        one = one.fill_nan(None) if column.nullable and one.dtype.is_float() else one
        series.append(one.cast(column.dtype))
    return Table(pl.DataFrame(series), TableSchema(name, columns, description))
