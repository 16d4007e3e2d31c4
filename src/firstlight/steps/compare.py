"""Comparison of per-channel counts with a reference.

The reference is scaled before it is compared, once for the whole run, and once more for every group, so
that a group whose share has changed is one line and not hundreds. Counts of a spill are correlated and
plain Poisson pulls over-flag: the dispersion is fitted, and pulls are quoted with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.errors import InputError
from firstlight.run.config import StrictModel
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CompareParameters", "Comparison", "compare_counts"]


class CompareParameters(StrictModel):
    """Limits of `compare_counts`, then those of `compare_constants.compare_column`.

    Attributes
    ----------
    minimum_expected : float
        Counts in the reference, after scaling, below which a channel is not compared.
    pull_limit : float
        A channel is flagged beyond this pull, with the fitted dispersion.
    ratio_limit : float
        And only if its ratio is beyond this factor, up or down.
    minimum_excess : float
        And only if the one of the two that has more has so many counts more than the other tells, in its own
        counts: a single burst in a short run gives some tens. What is gone needs none of this.
    scale_limit : float
        A group is flagged if its scale differs from that of the whole by more than this fraction ...
    scale_pull_limit : float
        ... and by more than so many standard deviations, with the spread of the groups in it.
    constant_pull_limit : float
        A constant of a channel has changed beyond so many errors and as many standard deviations of the
        differences.
    changed_limit : float
        Fraction of the channels that may have changed.
    region_pull_limit : float
        A region of channels has changed beyond so many errors of its mean pull, and as many standard deviations
        of those of all regions.
    shift_limit : float
        The mean of a constant is shifted if it differs by more than this fraction ...
    shift_pull_limit : float
        ... and by more than so many standard deviations.
    lost_limit : float
        Fraction of the channels with a value in the reference that may have none now, over as many as are new ...
    lost_pull_limit : float
        ... and over so many standard deviations of the number that come and go by chance.
    """

    minimum_expected: float = 10.0
    pull_limit: float = 6.0
    ratio_limit: float = 1.5
    minimum_excess: float = 50.0
    scale_limit: float = 0.15
    scale_pull_limit: float = 4.0
    constant_pull_limit: float = 6.0
    changed_limit: float = 0.001
    region_pull_limit: float = 6.0
    shift_limit: float = 0.01
    shift_pull_limit: float = 5.0
    lost_limit: float = 0.01
    lost_pull_limit: float = 5.0


CHANNELS = TableSchema(
    "compared channels",
    (
        Column("channel", pl.Int64, "channel of the channel map"),
        Column("group", pl.String, "group of the channel"),
        Column("position", pl.Int64, "position in the group"),
        Column("count", pl.Int64, "count of this run"),
        Column("reference", pl.Int64, "count of the reference"),
        Column("expected", pl.Float64, "reference scaled to this run and group"),
        Column("ratio", pl.Float64, "count / expected", nullable=True),
        Column("ratio_error", pl.Float64, "statistical standard deviation of the ratio", nullable=True),
        Column(
            "pull", pl.Float64, "difference in standard deviations, with the fitted dispersion", nullable=True
        ),
        Column(
            "state", pl.String, "ok, high, low, gone (was there, is not), new (was not, is), no_statistics"
        ),
    ),
    "a channel",
)
GROUPS = TableSchema(
    "compared groups",
    (
        Column("group", pl.String, "group of channels"),
        Column("count", pl.Int64, "count of this run"),
        Column("reference", pl.Int64, "count of the reference"),
        Column("scale", pl.Float64, "scale of the group relative to that of the whole run", nullable=True),
        Column(
            "scale_error",
            pl.Float64,
            "standard deviation of the scale, with the fitted dispersion",
            nullable=True,
        ),
        Column(
            "chi2_ndf", pl.Float64, "chi2 per degree of freedom of its channels, as if Poisson", nullable=True
        ),
        Column("n_compared", pl.Int64, "channels with enough statistics"),
        Column("n_flagged", pl.Int64, "channels that are high, low, gone or new"),
        Column("state", pl.String, "ok, high, low, gone, no_statistics"),
    ),
    "a group of channels",
)


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Parameters
    ----------
    channels, groups : Table
        A row each.
    scale : float
        Total of this run / total of the reference, over good channels.
    chi2_ndf : float
        Over all compared channels with one scale a group, as if Poisson: 1 for Poisson counts.
    chi2_ndf_one_scale : float
        The same with one scale for the whole run.
    dispersion : float
        Factor by which variances exceed Poisson (robust, at least 1).
    """

    channels: Table
    groups: Table
    scale: float
    chi2_ndf: float
    chi2_ndf_one_scale: float
    dispersion: float


def compare_counts(
    counts: NDArray[np.int64],
    reference: NDArray[np.int64],
    group: NDArray[np.int64],
    names: Sequence[str],
    position: NDArray[np.int64] | None = None,
    parameters: CompareParameters | None = None,
) -> Comparison:
    """Compare per-channel counts with a reference.

    Parameters
    ----------
    counts, reference : ndarray of int, shape (n_channels,)
        Hits or events.
    group : ndarray of int, shape (n_channels,)
        Group of each channel.
    names : sequence of str
        Name of each group.
    position : ndarray of int, shape (n_channels,), optional
        Position in the group; the channel by default.
    parameters : CompareParameters, optional
        Limits.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    With ``r`` reference counts scaled by ``s``, the difference ``n - s r`` of two Poisson counts has the
    variance ``s (n + r) = n s + s r`` where both have the same mean; this is multiplied by the dispersion
    ``max(1, (median |pull| / 0.6745)**2)`` of the group's channels, or of all where those are few.
    """
    limits = parameters or CompareParameters()
    if counts.shape != reference.shape or counts.shape != group.shape:
        what = f"counts have the shape {counts.shape}, reference {reference.shape}, groups {group.shape}"
        raise InputError(what, hint="both must have the same channel map")
    n_groups = len(names)
    scale = _robust_scale(counts, reference)
    scales = np.full(n_groups, np.nan)
    expected = reference * scale
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = np.where(
            expected >= limits.minimum_expected,
            (counts - expected) / np.sqrt(scale * (counts + reference)),
            np.nan,
        )
    for index in range(n_groups):
        rows = group == index
        scales[index] = _robust_scale(counts[rows], reference[rows])
        if np.isfinite(scales[index]):
            expected[rows] = reference[rows] * scales[index]
    of_channel = np.where(np.isfinite(scales), scales, scale)[group]
    variance = of_channel * (counts + reference)
    compared = expected >= limits.minimum_expected
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = np.where(compared, (counts - expected) / np.sqrt(variance), np.nan)
        ratio = np.where(expected > 0, counts / expected, np.nan)
        ratio_error = ratio * np.sqrt(1 / np.maximum(counts, 1) + 1 / reference)
    overall = _dispersion(pull)
    dispersion = np.array([_dispersion(pull[group == index], overall) for index in range(n_groups)])
    chi2 = np.array([_chi2_ndf(pull[group == index], 1) for index in range(n_groups)])
    pull = pull / np.sqrt(dispersion)[group]
    state = _channel_states(counts, reference, expected, ratio, pull, compared, scale, limits)
    channels = pl.DataFrame(
        {
            "channel": np.arange(counts.size),
            "group": [str(names[index]) for index in group],
            "position": np.arange(counts.size) if position is None else position.astype(np.int64),
            "count": counts,
            "reference": reference,
            "expected": expected,
            "ratio": ratio,
            "ratio_error": ratio_error,
            "pull": pull,
            "state": state,
        }
    )
    rows_of_groups = _group_rows(
        counts, reference, group, names, scales / scale, dispersion, chi2, compared, state, limits, scale
    )
    ndf = sum(int(np.isfinite(scales[index])) for index in range(n_groups))
    return Comparison(
        Table.from_frame(CHANNELS, channels), Table.from_rows(GROUPS, rows_of_groups), scale,
        _chi2_ndf(pull * np.sqrt(dispersion)[group], ndf), _chi2_ndf(plain, 1), overall,
    )  # fmt: skip


# a count of none is no chance where so many are expected
_EMPTY = 8.0


def _robust_scale(counts: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Return the scale of a group from its totals, without channels that are far from the others."""
    filled = (counts > 0) & (reference > 0)
    if not filled.any():
        return float("nan")
    both = keep = filled
    for _ in range(6):
        scale = counts[keep].sum() / reference[keep].sum()
        # a channel that is empty in one of the two by chance belongs to the totals, one that is dead does not
        by_chance = np.where(reference == 0, counts < _EMPTY * scale, reference * scale < _EMPTY)
        both = filled | (by_chance & (counts + reference > 0))
        pull = (counts - scale * reference) / np.sqrt(np.maximum(scale * (counts + reference), 1e-12))
        width = max(float(np.median(np.abs(pull[both]))) / 0.6745, 1.0)
        new = both & (np.abs(pull) < 5 * width)
        if not counts[new].any() or not reference[new].any() or np.array_equal(new, keep):
            break
        keep = new
    return float(counts[keep].sum() / reference[keep].sum())


def _dispersion(pull: NDArray[np.float64], otherwise: float = 1.0) -> float:
    known = pull[np.isfinite(pull)]
    if known.size < 8:
        return otherwise
    return float(max(1.0, (np.median(np.abs(known)) / 0.6745) ** 2))


def _chi2_ndf(pull: NDArray[np.float64], parameters: int) -> float:
    known = pull[np.isfinite(pull)]
    return float((known**2).sum() / (known.size - parameters)) if known.size > parameters else float("nan")


def _channel_states(
    counts: NDArray[np.int64],
    reference: NDArray[np.int64],
    expected: NDArray[Any],
    ratio: NDArray[np.float64],
    pull: NDArray[np.float64],
    compared: NDArray[np.bool_],
    scale: float,
    limits: CompareParameters,
) -> list[str]:
    state = np.where(compared, "ok", "no_statistics").astype(object)
    far = compared & (np.abs(pull) > limits.pull_limit)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(counts > expected, counts - expected, (expected - counts) * reference / expected)
    many = excess >= limits.minimum_excess
    state[far & many & (ratio > limits.ratio_limit)] = "high"
    state[far & many & (ratio < 1 / limits.ratio_limit)] = "low"
    state[far & (counts == 0)] = "gone"
    # what the reference had none of cannot be scaled: its own minimum is held against what is there now
    appeared = ~compared & (
        counts > np.maximum(limits.minimum_expected * 5, 20 * (expected + max(scale, 1.0)))
    )
    state[appeared] = "new"
    return [str(value) for value in state]


def _group_rows(
    counts: NDArray[np.int64],
    reference: NDArray[np.int64],
    group: NDArray[np.int64],
    names: Sequence[str],
    scales: NDArray[np.float64],
    dispersion: NDArray[np.float64],
    chi2: NDArray[np.float64],
    compared: NDArray[np.bool_],
    state: list[str],
    limits: CompareParameters,
    whole: float,
) -> list[dict[str, object]]:
    n_groups = len(names)
    total = np.bincount(group, counts, n_groups).astype(np.int64)
    before = np.bincount(group, reference, n_groups).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = scales * np.sqrt(dispersion * (1 / total + 1 / before))
    # groups differ by a few per cent from spill to spill: their own spread belongs to the error of each
    known = np.isfinite(scales) & np.isfinite(error)
    spread = robust_spread(scales[known]) if known.sum() > 4 else 0.0
    flagged = np.isin(np.array(state), ["high", "low", "gone", "new"])
    rows: list[dict[str, object]] = []
    for index, name in enumerate(names):
        inside = group == index
        verdict = "ok"
        if not compared[inside].any():
            verdict = "no_statistics"
        elif total[index] == 0 or not np.isfinite(scales[index]):
            verdict = "gone"
        else:
            # a small number says that it is precise: what it would be without a change counts as well
            expected = dispersion[index] / before[index] * (1 + 1 / whole)
            pull = (scales[index] - 1) / np.hypot(max(error[index], np.sqrt(expected)), spread)
            if abs(scales[index] - 1) > limits.scale_limit and abs(pull) > limits.scale_pull_limit:
                verdict = "high" if pull > 0 else "low"
        rows.append(
            {
                "group": str(name),
                "count": int(total[index]),
                "reference": int(before[index]),
                "scale": _or_none(scales[index]),
                "scale_error": _or_none(error[index]),
                "chi2_ndf": _or_none(chi2[index]),
                "n_compared": int(compared[inside].sum()),
                "n_flagged": int(flagged[inside].sum()),
                "state": verdict,
            }
        )
    return rows


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
