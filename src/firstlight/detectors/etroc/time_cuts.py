"""Cuts on times in ns: the file ``time_cuts.csv``, its shapes, and which events pass.

With x and y the two variables and v1, v2, v3 the values of a row, an event passes

=================  ==================  ===================================================================
cut_type           cut_direction       where
=================  ==================  ===================================================================
simple             comparison          x compared with v1; the board may be ``*`` (all) or ``#`` (any)
1d-dist            inside, outside     abs(x - v1) < v2, or > v2
circle             inside, outside     (x - v1)^2 + (y - v2)^2 < v3^2, or > v3^2
corner-ur, ...     inside, outside     in a quadrant with a rounded corner, or not in it (see `in_corner`)
diagonal           comparison          x + y compared with v1
diag-dist          comparison          abs(x - y) / sqrt(2) compared with v1
fit-dist           comparison          distance from the line fitted to all events compared with v1
=================  ==================  ===================================================================

An event where a hit is missing fails, whatever the cut, or passes with `keep_events`. (In the original it passes
``outside`` of a corner and ``<>``.) A row whose cut_type begins with ``#`` is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.etroc.cuts import (
    ALL,
    ANY,
    COMPARISONS,
    BoardEvents,
    Flow,
    Row,
    flow,
    read_rows,
    write_rows,
)
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

__all__ = [
    "CORNERS", "DIRECTIONS", "SHAPES", "TimeCut", "apply_time_cuts", "fit_line", "in_corner", "read_time_cuts",
    "write_time_cuts",
]  # fmt: skip

DIRECTIONS = ("inside", "outside")
"""Directions of cuts that have an inside."""

CORNERS = {"corner-ur": (1, 1), "corner-ul": (-1, 1), "corner-dr": (1, -1), "corner-dl": (-1, -1)}
"""Where the corner of the quadrant is: 1 right (up), -1 left (down), along x and y."""


@dataclass(frozen=True)
class _Shape:
    variables: int
    values: int
    known: tuple[str, ...]  # of cut_direction


_COMPARED, _SIDED = tuple(COMPARISONS), DIRECTIONS
SHAPES = {
    "simple": _Shape(1, 1, _COMPARED),
    "1d-dist": _Shape(1, 2, _SIDED),
    "circle": _Shape(2, 3, _SIDED),
    **{name: _Shape(2, 3, _SIDED) for name in CORNERS},
    "diagonal": _Shape(2, 1, _COMPARED),
    "diag-dist": _Shape(2, 1, _COMPARED),
    "fit-dist": _Shape(2, 1, _COMPARED),
}
"""Shapes of cuts by name: how many variables and values they take, and which directions."""

_ORIGINAL = {
    "time_of_arrival_ns": "toa_ns",
    "time_over_threshold_ns": "tot_ns",
    "fbin": "bin_ns",
    "time_of_arrival": "toa",
    "time_over_threshold": "tot",
    "calibration_code": "cal",
}
VARIABLES = (*_ORIGINAL, *_ORIGINAL.values(), "channel", "row", "col", "ea", "event", "file")
"""Names that a time cut may have: those of the original, and ours."""

COLUMNS = (
    "cut_type", "cut_direction", "variable_1", "board_id_1", "variable_2", "board_id_2", "value_1", "value_2", "value_3",
    "output",
)  # fmt: skip


@dataclass(frozen=True)
class TimeCut:
    """A row of ``time_cuts.csv``.

    Parameters
    ----------
    shape : str
        One of `SHAPES`.
    direction : str
        A comparison, ``inside`` or ``outside``.
    variables : tuple of (str, str)
        Variable and board of x, and of y where the shape has one.
    values : tuple of float
        v1, v2, v3: as many as the shape takes.
    label : str or None
        Asks for plots after the cut.
    row : int
        Row of the file, from 0; rows that are left out count.
    line : int
        Line of the file, from 1; 0 where the cut is from no file.
    """

    shape: str
    direction: str
    variables: tuple[tuple[str, str], ...]
    values: tuple[float, ...]
    label: str | None = None
    row: int = 0
    line: int = 0

    @property
    def text(self) -> str:
        """The cut in words."""
        words = {ALL: "all boards", ANY: "any board"}
        short = {
            "time_of_arrival_ns": "TOA",
            "toa_ns": "TOA",
            "time_over_threshold_ns": "TOT",
            "tot_ns": "TOT",
        }
        who = ", ".join(
            f"{short.get(name, name)} of {words.get(board, f'board {board}')}"
            for name, board in self.variables
        )
        return f"{self.shape} {self.direction} {', '.join(f'{value:g}' for value in self.values)}: {who}"


def read_time_cuts(source: Path | Sequence[str]) -> list[TimeCut]:
    """Read ``time_cuts.csv``, or rows as in such a file; rows whose cut_type begins with ``#`` are left out.

    Raises
    ------
    InputError
        The file does not exist, or is wrong; names the row, the column and what exists. A wild card is possible for
        the board of a simple cut only, and never for board_id_2.
    """
    cuts = []
    # a line that begins with # is a row that is left out, but counts
    for row in read_rows(source, COLUMNS[:9], keep_comments=True):
        if not row.fields["cut_type"].startswith("#"):
            cuts.append(_time_cut(row))
    return cuts


def _time_cut(row: Row) -> TimeCut:
    name = row.chosen("cut_type", "kind of cut", SHAPES)
    shape = SHAPES[name]
    kind = "comparison" if shape.known is _COMPARED else "direction"
    direction = row.chosen("cut_direction", kind, shape.known)
    variables = []
    for number in range(1, shape.variables + 1):
        column = f"variable_{number}"
        wildcards = (ALL, ANY) if name == "simple" else ()
        variables.append(
            (row.chosen(column, "variable", VARIABLES), row.board(f"board_id_{number}", wildcards))
        )
    values = tuple(row.number(f"value_{number}") for number in range(1, shape.values + 1))
    if shape.values > 1 and values[-1] < 0:
        column = f"value_{shape.values}"
        raise row.wrong(column, f"{values[-1]:g} is negative, and is a distance or a radius")
    return TimeCut(name, direction, tuple(variables), values, row.label, row.row, row.line)


def write_time_cuts(path: Path, cuts: Sequence[TimeCut]) -> None:
    """Write ``time_cuts.csv``; the column ``output`` only where a cut has a label."""
    has_labels = any(cut.label for cut in cuts)
    rows = [list(COLUMNS if has_labels else COLUMNS[:9])]
    for cut in cuts:
        names = [text for pair in cut.variables for text in pair]
        values = [repr(value) for value in cut.values]
        row = [cut.shape, cut.direction, *names, *[""] * (4 - len(names)), *values, *[""] * (3 - len(values))]
        rows.append([*row, cut.label or ""] if has_labels else row)
    write_rows(path, rows)


def in_corner(x: Floats, y: Floats, corner: tuple[int, int], values: Sequence[float]) -> Bools:
    """Return which points are in a quadrant with a rounded corner.

    The quadrant of ``corner-ur`` is x < v1 and y < v2: its corner (v1, v2) is up and right of it. The corner is replaced by
    a quarter of the circle of radius v3 around (v1 - v3, v2 - v3), which touches both edges from within: where
    x > v1 - v3 and y > v2 - v3, only points within the circle are in the region. The other corners are mirror images:
    ``corner-dl`` is x > v1 and y > v2 with the circle around (v1 + v3, v2 + v3). Edges are outside.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Points; one of NaN is not in the region.
    corner : tuple of int
        Of `CORNERS`.
    values : sequence of float
        v1, v2 and v3.
    """
    edge_x, edge_y, radius = values
    # seen from the centre of the circle, towards the corner
    right = corner[0] * (x - edge_x) + radius
    up = corner[1] * (y - edge_y) + radius
    beyond = (right > 0) & (up > 0) & (right * right + up * up >= radius * radius)
    return np.asarray((right < radius) & (up < radius) & ~beyond, dtype=bool)


def fit_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line of y on x; NaN where x does not vary.

    Ordinary linear regression: slope = cov(x, y) / var(x).
    """
    if x.size < 2:
        return math.nan, math.nan
    mean_x, mean_y = float(x.mean()), float(y.mean())
    spread = float(np.square(x - mean_x).sum())
    if spread == 0:
        return math.nan, math.nan
    slope = float(((x - mean_x) * (y - mean_y)).sum()) / spread
    return slope, mean_y - slope * mean_x


def _one_variable(cut: TimeCut, x: Floats) -> Bools:
    if cut.shape == "simple":
        return np.asarray(COMPARISONS[cut.direction](x, cut.values[0]))
    distance = np.abs(x - cut.values[0])
    return np.asarray(distance < cut.values[1] if cut.direction == "inside" else distance > cut.values[1])


def _two_variables(cut: TimeCut, x: Floats, y: Floats) -> Bools:
    if cut.shape == "circle":
        square, limit = (x - cut.values[0]) ** 2 + (y - cut.values[1]) ** 2, cut.values[2] ** 2
        return np.asarray(square < limit if cut.direction == "inside" else square > limit)
    if cut.shape in CORNERS:
        inside = in_corner(x, y, CORNERS[cut.shape], cut.values)
        return inside if cut.direction == "inside" else ~inside
    if cut.shape == "diagonal":
        value = x + y
    elif cut.shape == "diag-dist":
        value = np.abs(x - y) / math.sqrt(2)
    else:
        slope, intercept = fit_line(x, y)
        value = np.abs(slope * x - y + intercept) / math.sqrt(slope * slope + 1)
    return np.asarray(COMPARISONS[cut.direction](value, cut.values[0])) & ~np.isnan(value)


def apply_time_cuts(
    times: pl.DataFrame,
    cuts: Sequence[TimeCut],
    boards: Sequence[int],
    *,
    keep_events: bool = False,
    n_events: int | None = None,
) -> tuple[Bools, pl.DataFrame]:
    """Return which events pass all time cuts.

    Parameters
    ----------
    times : polars.DataFrame
        Of the schema TIMED, with all events: the line of ``fit-dist`` is fitted to all that have both hits, whatever other
        cuts say. Further columns (codes) can be cut on.
    cuts : sequence of TimeCut
        All must pass.
    boards : sequence of int
        Boards of the telescope, for ``*`` and ``#``.
    keep_events : bool
        Whether an event with a missing hit passes every cut on that board, instead of none.
    n_events : int, optional
        Events, with those without hits; by default as many as `times` needs.

    Returns
    -------
    accepted : ndarray of bool, shape (n_events,)
        By event number.
    flow : polars.DataFrame
        Of the schema FLOW, with a first row before any cut.

    Raises
    ------
    InputError
        A cut is on a board, or a variable, that the times do not have; or a cut of two variables is on a board with several
        hits in an event.
    """
    found = BoardEvents(times["event"].to_numpy(), times["board"].to_numpy(), boards, n_events)
    columns: dict[str, Floats] = {}
    flows = []
    for cut in cuts:
        place = f"time cut {cut.row} (line {cut.line})" if cut.line else f"time cut {cut.row}"
        for name, board in cut.variables:
            found.check(board, place)
            if name not in columns:
                columns[name] = _column(times, name, place)
        if len(cut.variables) == 1:
            name, board = cut.variables[0]
            passed = found.with_wildcards(board, _passes(cut, columns[name]), keep_events)
        else:
            x, y = (_by_event(found, columns[name], int(board), place) for name, board in cut.variables)
            known = np.isfinite(x) & np.isfinite(y)
            passed = np.full(found.n_events, keep_events)
            passed[known] = _two_variables(cut, x[known], y[known])
        flows.append(Flow(cut.row, cut.text, cut.label, passed))
    return flow(found.n_events, flows)


def _passes(cut: TimeCut, values: Floats) -> Callable[[NDArray[np.int64]], Bools]:
    return lambda rows: _one_variable(cut, values[rows]) & ~np.isnan(values[rows])


def _column(times: pl.DataFrame, variable: str, place: str) -> Floats:
    import polars as pl

    name = _ORIGINAL.get(variable, variable)
    if name not in times.columns:
        raise InputError.unknown("variable", variable, times.columns, where=place)
    return times[name].cast(pl.Float64).to_numpy()


def _by_event(found: BoardEvents, values: Floats, board: int, place: str) -> Floats:
    """Return the values of a board by event, NaN where it has no hit."""
    rows = found.rows[board]
    several = rows.size - int(np.count_nonzero(found.present[board]))
    if several:
        what = f"board {board} has events with several hits ({several} hits too many)"
        raise InputError(what, where=place, hint="choose one hit of a board when events are built")
    result: NDArray[Any] = np.full(found.n_events, np.nan)
    result[found.event[rows]] = values[rows]
    return result
