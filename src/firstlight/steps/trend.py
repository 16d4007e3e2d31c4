"""Trends: quantities from spill to spill, or run to run, and the points that step out of line.

Points are in order of arrival and evenly spaced; numbers of spills need not increase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.run.config import StrictModel
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["POINTS", "SERIES", "TrendParameters", "judge_trend"]


class TrendParameters(StrictModel):
    """Limits of `judge_trend`.

    Attributes
    ----------
    pull_limit : float
        A point is flagged beyond this pull ...
    minimum_change : float
        ... if it also differs by more than this fraction of what is expected, for ratios and rates ...
    minimum_change_of : dict of str to float
        ... or by more than this much in its own unit, for quantities named here.
    window : int
        What is expected of a point is the median of so many points before and after it.
    """

    pull_limit: float = 5.0
    minimum_change: float = 0.1
    minimum_change_of: dict[str, float] = {}
    window: int = 10


POINTS = TableSchema(
    "trend points",
    (
        Column("quantity", pl.String, "what is followed"),
        Column("subject", pl.String, "of which part of the detector; empty for the whole"),
        Column("index", pl.Int64, "order of arrival"),
        Column("label", pl.String, "spill or run"),
        Column("value", pl.Float64, "the quantity", nullable=True),
        Column("error", pl.Float64, "its statistical standard deviation", nullable=True),
        Column("unit", pl.String, "unit of value and error"),
        Column("expected", pl.Float64, "median of the neighbouring points", nullable=True),
        Column("pull", pl.Float64, "difference in standard deviations", nullable=True),
        Column("state", pl.String, "ok, high, low, no_statistics"),
    ),
    "a quantity of a part of the detector in a spill",
)
SERIES = TableSchema(
    "trend series",
    (
        Column("quantity", pl.String, "what is followed"),
        Column("subject", pl.String, "of which part of the detector"),
        Column("unit", pl.String, "unit of the values"),
        Column("n_points", pl.Int64, "points with a value"),
        Column("median", pl.Float64, "median of the values", nullable=True),
        Column("spread", pl.Float64, "robust standard deviation of the values", nullable=True),
        Column("slope", pl.Float64, "robust slope (Theil-Sen) from point to point", nullable=True),
        Column("n_flagged", pl.Int64, "points out of line"),
    ),
    "a quantity of a part of the detector",
)


# points at least on either side of a lasting change
_LEVEL = 5
# standard deviations, where there is no deviation at all to measure a change with
_CERTAIN = 1e6


def judge_trend(points: pl.DataFrame, parameters: TrendParameters | None = None) -> tuple[Table, Table]:
    """Judge the points of all series.

    Parameters
    ----------
    points : polars.DataFrame
        Columns quantity, subject, index, label, value, error, unit.
    parameters : TrendParameters, optional
        Limits.

    Returns
    -------
    points, series : Table
        The points with what was expected of them, and a summary of each series.

    Notes
    -----
    The standard deviation of a difference is made of the errors of the point and of what is expected, and of
    the spread of the series: ``1.4826 median |x - median|`` of the others, less what their errors explain.

    A change that lasts moves the median of the neighbours along with the point. It is looked for by itself: the
    first point of the new level is flagged, against the median of the points before it, where the medians of
    up to `window` points before and after differ by more than `pull_limit` standard deviations of one point.
    """
    limits = parameters or TrendParameters()
    judged, series = [], []
    for (quantity, subject), part in points.group_by(["quantity", "subject"], maintain_order=True):
        ordered = part.sort("index")
        value = ordered["value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        error = ordered["error"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        expected, pull = _expect(value, error, limits.window)
        state = _states(value, expected, pull, limits, str(quantity))
        for at, before, size in _lasting_changes(value, error, limits, str(quantity)):
            expected[at], pull[at], state[at] = before, size, "high" if size > 0 else "low"
        judged.append(
            ordered.with_columns(
                value=pl.Series(value), error=pl.Series(error), expected=pl.Series(expected), pull=pl.Series(pull),
                state=pl.Series(state, dtype=pl.String),
            )
        )  # fmt: skip
        known = value[np.isfinite(value)]
        series.append(
            {
                "quantity": quantity,
                "subject": subject,
                "unit": ordered["unit"][0],
                "n_points": known.size,
                "median": float(np.median(known)) if known.size else None,
                "spread": robust_spread(known) if known.size > 2 else None,
                "slope": _slope(value) if known.size > 2 else None,
                "n_flagged": sum(flag in ("high", "low") for flag in state),
            }
        )
    frame = pl.concat(judged) if judged else pl.DataFrame(schema=POINTS.dtypes)
    return Table.from_frame(POINTS, frame), Table.from_rows(SERIES, series)


def _expect(
    value: NDArray[np.float64], error: NDArray[np.float64], window: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    expected = np.full(value.size, np.nan)
    pull = np.full(value.size, np.nan)
    for index in range(value.size):
        near = [
            other
            for other in range(max(index - window, 0), min(index + window + 1, value.size))
            if other != index and np.isfinite(value[other])
        ]
        if len(near) < 2 or not np.isfinite(value[index]):
            continue
        others = value[near]
        expected[index] = np.median(others)
        statistical = np.nan_to_num(error[near])
        # two neighbours that disagree say nothing about which of the points is odd
        spread = robust_spread(others) if len(near) > 2 else float(np.ptp(others))
        extra = max(spread**2 - float(np.median(statistical**2)), 0.0)
        own = float(np.nan_to_num(error[index]))
        variance = own**2 + float(np.median(statistical**2)) * np.pi / 2 / len(near) + extra
        change = float(value[index] - expected[index])
        # numbers that are known exactly, and never change but here
        certain = np.copysign(_CERTAIN, change) if change else 0.0
        pull[index] = change / np.sqrt(variance) if variance > 0 else certain
    return expected, pull


def _lasting_changes(
    value: NDArray[np.float64], error: NDArray[np.float64], limits: TrendParameters, quantity: str
) -> list[tuple[int, float, float]]:
    """Return where a new level begins: index, level before it, and the change in standard deviations."""
    known = np.flatnonzero(np.isfinite(value))
    found: list[tuple[int, float, float]] = []
    best = np.inf
    last = -2
    for place in range(_LEVEL, known.size - _LEVEL + 1):
        before = known[max(place - limits.window, 0) : place]
        after = known[place : place + limits.window]
        level, new = float(np.median(value[before])), float(np.median(value[after]))
        rest = np.abs(np.concatenate([value[before] - level, value[after] - new]))
        own = float(np.median(np.nan_to_num(error[np.concatenate([before, after])])))
        width = max(1.4826 * float(np.median(rest)), own)
        least = limits.minimum_change_of.get(quantity, limits.minimum_change * abs(level))
        if abs(new - level) <= max(limits.pull_limit * width, least):
            continue
        if abs(value[known[place]] - new) > abs(value[known[place]] - level):
            continue  # the new level is shorter than what was looked at, and begins later
        # next to the true place the change is seen too: the division that leaves the least rest is the one
        change = (
            int(known[place]),
            level,
            (new - level) / width if width > 0 else float(np.sign(new - level)),
        )
        if place == last + 1 and found:
            if rest.mean() < best:
                found[-1], best = change, rest.mean()
        else:
            found.append(change)
            best = rest.mean()
        last = place
    return found


def _states(
    value: NDArray[np.float64],
    expected: NDArray[np.float64],
    pull: NDArray[np.float64],
    limits: TrendParameters,
    quantity: str,
) -> list[str]:
    change = np.abs(value - expected)
    needed = limits.minimum_change_of.get(quantity)
    least = np.full(value.size, needed) if needed is not None else limits.minimum_change * np.abs(expected)
    flagged = (np.abs(pull) > limits.pull_limit) & (change > least)
    sides = np.where(pull > 0, "high", "low")
    return [
        "no_statistics" if not np.isfinite(p) else str(side) if flag else "ok"
        for p, side, flag in zip(pull, sides, flagged, strict=True)
    ]


def _slope(value: NDArray[np.float64]) -> float:
    index = np.flatnonzero(np.isfinite(value))
    i, j = np.triu_indices(index.size, 1)
    rise = value[index[j]] - value[index[i]]
    return float(np.median(rise / (index[j] - index[i])))
