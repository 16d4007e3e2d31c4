"""Comparison of per-channel constants with those of a reference: any column that has an error.

A common shift of all channels is one number, and differences that spread more than their errors say are one
more: neither flags a channel. A channel is flagged if it moved differently from the others, by more than its
errors and more than the others spread; a region of channels if it did so as a whole, which is seen long before
any of its channels is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.errors import InputError
from firstlight.steps.compare import CompareParameters
from firstlight.steps.spread import ROBUST, robust_spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Flags = NDArray[np.bool_]

__all__ = [
    "ColumnComparison",
    "channel_table",
    "column_table",
    "columns_with_errors",
    "compare_column",
    "compare_regions",
    "compare_tables",
    "region_table",
]

_ERRORS = ("_error", "_statistical")
_PER_BIN, _BINS = 200, 10
_FEW = 8  # channels of a region, and regions, below which neither is judged

COLUMNS = TableSchema(
    "compared columns",
    (
        Column("product", pl.String, "table of the two runs"),
        Column("column", pl.String, "column of the table"),
        Column("unit", pl.String, "unit of the column"),
        Column("n_compared", pl.Int64, "channels with a value and its error in both"),
        Column("n_lost", pl.Int64, "channels with a value in the reference only"),
        Column("n_new", pl.Int64, "channels with a value in this run only"),
        Column("n_changed", pl.Int64, "channels whose difference is beyond errors and spread"),
        Column("mean", pl.Float64, "mean of this run, over compared channels", nullable=True),
        Column("reference_mean", pl.Float64, "mean of the reference, over the same", nullable=True),
        Column("mean_difference", pl.Float64, "mean of this run less the reference", nullable=True),
        Column("mean_error", pl.Float64, "standard deviation of the mean difference", nullable=True),
        Column("median_difference", pl.Float64, "median of this run less the reference", nullable=True),
        Column("spread", pl.Float64, "robust standard deviation of the differences", nullable=True),
        Column("pull_width", pl.Float64, "robust standard deviation of the differences in errors", nullable=True),
        Column(
            "relative_shift", pl.Float64,
            "mean difference over the mean of the reference, or over the spread of its channels if larger", nullable=True,
        ),
        Column("relative_error", pl.Float64, "standard deviation of the relative shift", nullable=True),
        Column("state", pl.String, "ok, identical, changed (channels), shifted (the mean), shifted and changed, no_statistics"),
    ),
    "one column of one table",
)  # fmt: skip
CHANNELS = TableSchema(
    "changed channels",
    (
        Column("product", pl.String, "table of the two runs"),
        Column("column", pl.String, "column of the table; null: lost or new in the table", nullable=True),
        Column("channel", pl.Int64, "channel of the channel map"),
        Column("place", pl.String, "its place in the channel map"),
        Column("state", pl.String, "changed, lost (a value in the reference only), new (in this run only)"),
        Column("value", pl.Float64, "value of this run", nullable=True),
        Column("error", pl.Float64, "its error", nullable=True),
        Column("reference", pl.Float64, "value of the reference", nullable=True),
        Column("reference_error", pl.Float64, "its error", nullable=True),
        Column("difference", pl.Float64, "value less reference", nullable=True),
        Column("pull", pl.Float64, "difference less the median difference, in errors of both", nullable=True),
    ),
    "a channel that differs",
)
REGIONS = TableSchema(
    "compared regions",
    (
        Column("product", pl.String, "table of the two runs"),
        Column("column", pl.String, "column of the table"),
        Column("region", pl.String, "group of channels, or tile of the channel map"),
        Column("n_compared", pl.Int64, "channels with a value and its error in both"),
        Column("difference", pl.Float64, "weighted mean of this run less the reference, less the median of all channels"),
        Column("error", pl.Float64, "its error, with the spread of all differences"),
        Column("pull", pl.Float64, "mean of the pulls of its channels in standard deviations"),
        Column("state", pl.String, "ok, changed (as a whole, differently from the others)"),
    ),
    "one region of channels in one column",
)  # fmt: skip


@dataclass(frozen=True)
class ColumnComparison:
    """One column of two runs, channel by channel.

    Parameters
    ----------
    product, column, unit : str
        Which.
    value, error, reference, reference_error : ndarray, shape (n_channels,)
        Values of the two and their errors; NaN where not known.
    difference : ndarray, shape (n_channels,)
        Value less reference; NaN where not compared.
    total_error : ndarray, shape (n_channels,)
        Both errors in quadrature; NaN where not compared.
    changed, lost, new : ndarray of bool, shape (n_channels,)
        What became of each channel.
    numbers : mapping
        The row of the column in the product ``constants/columns``.
    """

    product: str
    column: str
    unit: str
    value: Values
    error: Values
    reference: Values
    reference_error: Values
    difference: Values
    total_error: Values
    changed: Flags
    lost: Flags
    new: Flags
    numbers: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Table and column, for headings."""
        return f"{self.product}: {self.column}"

    @property
    def pull(self) -> Values:
        """Difference less the median difference, in errors of both; NaN where not compared."""
        shift = self.numbers["median_difference"]
        return (self.difference - (np.nan if shift is None else shift)) / self.total_error


def columns_with_errors(frame: pl.DataFrame) -> dict[str, str]:
    """Return the numeric columns that have an error, and the column of the error.

    The error of ``NAME`` is ``NAME_error``, or ``NAME_statistical`` where there is no such column.
    """
    found = {}
    for name in frame.columns:
        error = next((name + end for end in _ERRORS if name + end in frame.columns), None)
        if error and frame[name].dtype.is_numeric() and frame[error].dtype.is_numeric():
            found[name] = error
    return found


def compare_column(
    value: Values,
    error: Values,
    reference: Values,
    reference_error: Values,
    *,
    parameters: CompareParameters | None = None,
    product: str = "",
    column: str = "",
    unit: str = "",
) -> ColumnComparison:
    """Compare one value of every channel with a reference.

    Parameters
    ----------
    value, error : ndarray, shape (n_channels,)
        Of this run; a value of NaN is not known. Without an error a value is known, but not compared.
    reference, reference_error : ndarray, shape (n_channels,)
        Of the reference.
    parameters : CompareParameters, optional
        Limits.
    product, column, unit : str
        For the tables.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    The error of the mean difference is that of the differences as they spread, and at least that of their
    errors, which are taken as independent. A channel has changed if its difference is further from the median
    difference than ``constant_pull_limit`` errors and as many robust standard deviations of the differences
    of those channels whose errors are about as large (up to ten classes of equal size): errors that are all
    too small, or a spread that all share, flag nothing, be the errors of channels as different as they may.
    """
    limits = parameters or CompareParameters()
    if not value.shape == error.shape == reference.shape == reference_error.shape:
        what = (
            f"values have the shapes {value.shape}, {error.shape}, {reference.shape}, {reference_error.shape}"
        )
        raise InputError(what, hint="both must have the same channel map")
    known, known_before = np.isfinite(value), np.isfinite(reference)
    with np.errstate(invalid="ignore"):
        total = np.hypot(error, reference_error)
        compared = known & known_before & np.isfinite(total) & (total > 0)
    difference = np.where(compared, value - reference, np.nan)
    total = np.where(compared, total, np.nan)
    changed = np.zeros(value.shape, dtype=bool)
    numbers: dict[str, Any] = {
        "product": product, "column": column, "unit": unit, "n_compared": int(compared.sum()),
        "n_lost": int((known_before & ~known).sum()), "n_new": int((known & ~known_before).sum()),
        "n_changed": 0, **dict.fromkeys(COLUMNS.names[7:-1]), "state": "no_statistics",
    }  # fmt: skip
    if compared.any():
        delta, sigma = difference[compared], total[compared]
        numbers |= _moments(value[compared], reference[compared], delta, sigma)
        distance = np.abs(delta - numbers["median_difference"])
        usual = np.maximum(sigma, _spread_by_error(distance, sigma))
        changed[compared] = distance > limits.constant_pull_limit * usual
        numbers["n_changed"] = int(changed.sum())
        numbers["state"] = _state(numbers, delta, limits)
    return ColumnComparison(
        product, column, unit,
        np.where(known, value, np.nan), np.where(known, error, np.nan),
        np.where(known_before, reference, np.nan), np.where(known_before, reference_error, np.nan),
        difference, total, changed, known_before & ~known, known & ~known_before, numbers,
    )  # fmt: skip


def _moments(value: Values, reference: Values, delta: Values, sigma: Values) -> dict[str, float]:
    """Return the numbers of the compared channels of a column."""
    n = delta.size
    mean, before = float(delta.mean()), float(reference.mean())
    observed = float(delta.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    error = float(max(observed, np.sqrt(np.sum(sigma**2)) / n))
    # what lies around 0 has no relative change: its own spread from channel to channel is the scale
    scale = max(abs(before), robust_spread(reference))
    return {
        "mean": float(value.mean()),
        "reference_mean": before,
        "mean_difference": mean,
        "mean_error": error,
        "median_difference": float(np.median(delta)),
        "spread": robust_spread(delta),
        "pull_width": robust_spread(delta / sigma),
        "relative_shift": mean / scale if scale else float("nan"),
        "relative_error": error / scale if scale else float("nan"),
    }


def _spread_by_error(distance: Values, sigma: Values) -> Values:
    """Return how far channels are from the median as a rule, among those with errors of about the same size."""
    spread = np.empty_like(distance)
    order = np.argsort(sigma, kind="stable")
    for part in np.array_split(order, min(max(distance.size // _PER_BIN, 1), _BINS)):
        spread[part] = ROBUST * float(np.median(distance[part]))
    return spread


def _state(numbers: Mapping[str, Any], delta: Values, limits: CompareParameters) -> str:
    if not delta.any():
        return "identical"
    shift, error = abs(numbers["mean_difference"]), numbers["mean_error"]
    # without a scale (all channels of the reference are 0) any shift is large
    small = abs(numbers["relative_shift"]) <= limits.shift_limit
    shifted = not small and shift > limits.shift_pull_limit * error
    many = numbers["n_changed"] > limits.changed_limit * numbers["n_compared"]
    return {(0, 0): "ok", (1, 0): "shifted", (0, 1): "changed"}.get((shifted, many), "shifted and changed")


def compare_regions(
    part: ColumnComparison,
    region: NDArray[np.int64],
    names: Sequence[str],
    parameters: CompareParameters | None = None,
) -> list[dict[str, Any]]:
    """Compare groups of channels: whether all of a group moved, be it less than the error of each.

    Parameters
    ----------
    part : ColumnComparison
        A column.
    region : ndarray of int, shape (n_channels,)
        Region of each channel.
    names : sequence of str
        Name of each region.
    parameters : CompareParameters, optional
        Limits.

    Returns
    -------
    list of dict
        A row of ``constants/regions`` for each region with enough channels; none where there are few regions.

    Notes
    -----
    Pulls are clipped at ``constant_pull_limit``, so that a single channel makes no region, and averaged. The error
    of the average is the robust width of all pulls (at least 1) over the root of their number; a region has changed
    if the average is beyond ``region_pull_limit`` errors, and beyond as many robust standard deviations of all regions.
    """
    limits = parameters or CompareParameters()
    rows = np.flatnonzero(np.isfinite(part.total_error))
    number = np.bincount(region[rows], minlength=len(names))
    chosen = np.flatnonzero(number >= _FEW)
    if chosen.size < _FEW:
        return []
    width = max(float(part.numbers["pull_width"]), 1.0)
    reach = limits.constant_pull_limit * width
    total, weight, weighted = (
        np.bincount(region[rows], values, len(names))
        for values in (
            np.clip(part.pull[rows], -reach, reach),
            part.total_error[rows] ** -2,
            part.pull[rows] / part.total_error[rows],
        )
    )
    pull = total[chosen] / np.sqrt(number[chosen]) / width
    usual = max(robust_spread(pull), 1.0)
    changed = np.abs(pull) > limits.region_pull_limit * usual
    about = {"product": part.product, "column": part.column}
    return [
        {
            **about, "region": str(names[index]), "n_compared": int(number[index]),
            "difference": float(weighted[index] / weight[index]), "error": float(width / np.sqrt(weight[index])),
            "pull": float(pull[place]), "state": "changed" if changed[place] else "ok",
        }
        for place, index in enumerate(chosen.tolist())
    ]  # fmt: skip


def region_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return all regions of all columns, a row each."""
    return Table.from_rows(REGIONS, rows)


def compare_tables(
    product: str, table: Table, reference: Table, parameters: CompareParameters | None = None
) -> list[ColumnComparison]:
    """Compare all columns that have errors in two tables with a row per channel.

    Parameters
    ----------
    product : str
        Name of the table.
    table, reference : Table
        With the column ``channel``, of the same channels. Where there is a column ``good``, a channel that is not
        good has no value.
    parameters : CompareParameters, optional
        Limits.

    Raises
    ------
    InputError
        If the tables do not have the same channels.
    """
    frames = [part.frame.sort("channel") for part in (table, reference)]
    if not frames[0]["channel"].cast(pl.Int64).equals(frames[1]["channel"].cast(pl.Int64)):
        what = f"{product} has {len(table)} rows, {len(reference)} in the reference, of other channels"
        raise InputError(what, hint="both must have the same channel map")
    errors, others = (columns_with_errors(frame) for frame in frames)
    return [
        compare_column(
            *_known(frames[0], name, errors[name]), *_known(frames[1], name, others[name]),
            parameters=parameters, product=product, column=name, unit=table.schema.column(name).unit,
        )
        for name in errors
        if name in others
    ]  # fmt: skip


def _known(frame: pl.DataFrame, name: str, error: str) -> tuple[Values, Values]:
    """Return a column and its error, NaN where the channel is not good."""
    values, errors = (frame[part].cast(pl.Float64).fill_null(np.nan).to_numpy() for part in (name, error))
    if "good" in frame.columns and frame["good"].dtype == pl.Boolean:
        good = frame["good"].fill_null(value=False).to_numpy()
        return np.where(good, values, np.nan), np.where(good, errors, np.nan)
    return values, errors


def column_table(found: Sequence[ColumnComparison]) -> Table:
    """Return the numbers of all columns, a row each."""
    return Table.from_rows(COLUMNS, [part.numbers for part in found])


def channel_table(found: Sequence[ColumnComparison], places: Sequence[str]) -> Table:
    """Return the channels that changed, the largest pull of each column first, and those that are lost or new.

    Parameters
    ----------
    found : sequence of ColumnComparison
        All columns.
    places : sequence of str, length n_channels
        What to call each channel.
    """
    frames = [_rows(part.product, part.column, "changed", _by_size(part), places, part) for part in found]
    for product in dict.fromkeys(part.product for part in found):
        for state in ("lost", "new"):
            rows = np.flatnonzero(_in_any(found, product, state))
            frames.append(_rows(product, None, state, rows, places))
    return Table.from_frame(CHANNELS, pl.concat(frames)) if frames else Table.from_rows(CHANNELS, [])


def _by_size(part: ColumnComparison) -> NDArray[np.intp]:
    rows = np.flatnonzero(part.changed)
    return rows[np.argsort(-np.abs(part.pull[rows]), kind="stable")]


def _in_any(found: Sequence[ColumnComparison], product: str, state: str) -> Flags:
    """Return the channels that are lost or new in any column of a table."""
    flags = [getattr(part, state) for part in found if part.product == product]
    return np.asarray(np.any(flags, axis=0), dtype=bool)


def _rows(
    product: str,
    column: str | None,
    state: str,
    rows: NDArray[np.intp],
    places: Sequence[str],
    part: ColumnComparison | None = None,
) -> pl.DataFrame:
    nothing = np.full(rows.size, np.nan)
    names = ("value", "error", "reference", "reference_error", "difference", "pull")
    values = {name: nothing if part is None else getattr(part, name)[rows] for name in names}
    texts = {"product": product, "column": column, "state": state}
    return pl.DataFrame(
        {
            **{name: pl.Series(name, [text] * rows.size, dtype=pl.String) for name, text in texts.items()},
            "channel": rows,
            "place": pl.Series("place", [places[row] for row in rows], dtype=pl.String),
            **values,
        }
    )
