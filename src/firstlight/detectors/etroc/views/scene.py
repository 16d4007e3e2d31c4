"""What the figures of a run share: products by board, colours, names, and where panels stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.data.cube import HistogramCube
    from firstlight.steps.step import Context

    Values = NDArray[np.float64]
    Draw = Callable[[Axes, Axes | None], object]

__all__ = [
    "ESTIMATORS",
    "FIRST_LEFT_COLUMN",
    "Panel",
    "Scene",
    "board_colour",
    "heading",
    "mosaic",
    "number_or_nan",
    "short_names",
]

FIRST_LEFT_COLUMN = 8  # columns 0-7 are the right half of an ETROC2, 8-15 the left one
HALF_COLOURS = {"right": "#d1662a", "left": "#1f5f99"}
SIZE = 10.0
WIDTH = 10.0

# estimator of the table: name, marker, colour
ESTIMATORS = {
    "likelihood": ("joint likelihood (core)", "o", "#1f5f99"),
    "std": ("standard deviation", "s", "#d1662a"),
    "std_delta": ("standard deviation to the mean of the others", "D", "#b59b2b"),
    "effective": ("smallest 68.3 % interval", "^", "#3b8c5a"),
    "fwhm": ("FWHM / 2.355", "v", "#8e5ba6"),
}
_BOARD_COLOURS = ("#1f5f99", "#d1662a", "#3b8c5a", "#8e5ba6", "#a8323e", "#5b7083", "#b59b2b", "#3fa7a7")


def board_colour(number: int) -> str:
    """Return the colour of the board at a position in the list of boards."""
    return _BOARD_COLOURS[number % len(_BOARD_COLOURS)]


def number_or_nan(value: object) -> float:
    """Return a number of a table, NaN for null."""
    return float(value) if isinstance(value, int | float) else float("nan")


def short_names(names: Sequence[str]) -> list[str]:
    """Return what files are called in a figure: their names without what all have in common."""
    shown = list(names)
    if len(names) > 1:
        start = _common(names)
        # a number is not cut in two
        while start and names[0][start - 1].isdigit():
            start -= 1
        end = _common([name[start:][::-1] for name in names])
        while end and names[0][len(names[0]) - end].isdigit():
            end -= 1
        shown = [name[start : len(name) - end] or name for name in names]
    return [name if len(name) <= 26 else f"{name[:12]}…{name[-12:]}" for name in shown]


def _common(names: Sequence[str]) -> int:
    """Return with how many equal characters all names begin."""
    shortest = min(len(name) for name in names)
    return next((i for i in range(shortest) if len({name[i] for name in names}) > 1), shortest)


@dataclass(frozen=True)
class Scene:
    """The products of a run as the figures want them.

    Parameters
    ----------
    products : mapping
        Products of the run by "step/product", as far as they are there.
    context : Context
        Its channel map has the columns ``board``, ``row`` and ``col``.
    """

    products: Mapping[str, Any]
    context: Context
    _wide: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict, repr=False)

    def has(self, *names: str) -> bool:
        """Return whether all these products are there."""
        return all(name in self.products for name in names)

    def frame(self, name: str) -> pl.DataFrame:
        """Return a table product as a frame."""
        found: pl.DataFrame = self.products[name].frame
        return found

    def filled(self, name: str) -> bool:
        """Return whether a table product is there and has rows."""
        return self.has(name) and self.frame(name).height > 0

    @cached_property
    def boards(self) -> list[int]:
        """Numbers of the boards, from the channel map and whatever else has hits."""
        frame = self.context.channels.frame
        found: set[int] = set(frame["board"].unique().to_list()) if "board" in frame.columns else set()
        if self.filled("ingest/hits"):
            found |= set(self.frame("ingest/hits")["board"].unique().to_list())
        if self.filled("injection/points"):
            found |= set(self.frame("injection/points")["board"].unique().to_list())
        return sorted(int(board) for board in found)

    def end_of(self, column: str) -> float | None:
        """Return where the axis of TOA or TOT in ns ends, if that was asked for."""
        view = getattr(self.context.options, "view", None)
        asked = {"toa_ns": "max_toa", "tot_ns": "max_tot"}.get(column, "")
        return float(getattr(view, asked, 0.0)) or None

    def colour(self, board: int) -> str:
        """Return the colour of a board, the same in every figure."""
        return board_colour(self.boards.index(board) if board in self.boards else 7)

    def name(self, board: int) -> str:
        """Return a board in words, with its chip where the map knows it."""
        groups = self.context.channels.groups
        chip = None
        if "board" in groups.columns and "chip_id" in groups.columns:
            rows = groups.filter(pl.col("board") == board)["chip_id"].drop_nulls()
            chip = rows[0] if len(rows) else None
        return f"board {board}" if chip in (None, "", 0) else f"board {board}, chip {chip}"

    @property
    def about(self) -> str:
        """Name of the set-up and label of the run, for the second line of titles."""
        label = str(getattr(self.context.options, "label", "") or "")
        return ", ".join(part for part in (self.context.channels.name, label) if part)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a chip: 16 x 16 (ETROC2), or 4 x 4 (ETROC1)."""
        frame = self.context.channels.frame
        largest = [int(frame[name].max() or 0) for name in ("row", "col") if name in frame.columns]  # type: ignore[arg-type]
        return (16, 16) if max(largest, default=0) > 3 else (4, 4)

    @property
    def has_halves(self) -> bool:
        """Whether the chip has two halves with a calibration of their own."""
        return self.shape == (16, 16)

    @cached_property
    def has_maps(self) -> bool:
        """Whether some board has more than one pixel, so that a map shows something."""
        if not self.filled("pixels/table"):
            return False
        placed = self.frame("pixels/table").filter(pl.col("row").is_not_null() & pl.col("col").is_not_null())
        return bool(placed.height) and int(placed.group_by("board").len()["len"].max() or 0) > 1  # type: ignore[arg-type]

    def image(self, board: int, column: str) -> Values:
        """Return a column of the pixel table by row and column of a board, NaN where there is no value."""
        frame = self.frame("pixels/table").filter((pl.col("board") == board) & pl.col("row").is_not_null())
        values = np.full(self.shape, np.nan)
        inside = frame.filter((pl.col("row") < self.shape[0]) & (pl.col("col") < self.shape[1]))
        values[inside["row"].to_numpy(), inside["col"].to_numpy()] = (
            inside[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        )
        return values

    def states(self, board: int) -> NDArray[np.str_]:
        """Return the state of each pixel of a board; ``"absent"`` where the run does not have it."""
        frame = self.frame("pixels/table").filter((pl.col("board") == board) & pl.col("row").is_not_null())
        states = np.full(self.shape, "absent", dtype="U24")
        inside = frame.filter((pl.col("row") < self.shape[0]) & (pl.col("col") < self.shape[1]))
        states[inside["row"].to_numpy(), inside["col"].to_numpy()] = inside["state"].to_numpy()
        return states

    @cached_property
    def accepted(self) -> pl.DataFrame | None:
        """Events that pass all cuts, in a column ``event``; None where nothing was cut."""
        found: pl.DataFrame | None = None
        for name in ("cut/events", "cut_times/events"):
            if self.has(name):
                passed = self.frame(name).filter(pl.col("accepted")).select("event")
                found = passed if found is None else found.join(passed, on="event", how="semi")
        return found

    @cached_property
    def timed(self) -> pl.DataFrame:
        """Hits in ns of the accepted events."""
        frame = self.frame("times/hits")
        return frame if self.accepted is None else frame.join(self.accepted, on="event", how="semi")

    @cached_property
    def corrected(self) -> pl.DataFrame:
        """Hits of the last iteration of the time-walk correction."""
        frame = self.frame("timewalk/hits")
        return frame.filter(pl.col("iteration") == frame["iteration"].max())

    @cached_property
    def last_iteration(self) -> int:
        """Last iteration of the time-walk correction."""
        for name in ("resolution/boards", "timewalk/hits", "timewalk/coefficients"):
            if self.filled(name):
                return int(self.frame(name)["iteration"].max())  # type: ignore[arg-type]
        return 0

    def wide(self, name: str, column: str) -> pl.DataFrame:
        """Return a column of a hit table with one row for each event and one column for each board.

        Where a board has several hits in an event the first one stands.
        """
        if (name, column) not in self._wide:
            known = {"times/hits": lambda: self.timed, "timewalk/hits": lambda: self.corrected}
            frame = known[name]() if name in known else self.frame(name)
            wide = frame.pivot(on="board", index="event", values=column, aggregate_function="first")
            self._wide[name, column] = wide.sort("event")
        return self._wide[name, column]

    def pairs(self, most: int = 6) -> list[tuple[int, int]]:
        """Return the pairs of boards, the first ones where there are many."""
        found = [(one, two) for index, one in enumerate(self.boards) for two in self.boards[index + 1 :]]
        return found[:most]

    def cube(self, code: str) -> tuple[HistogramCube, list[int]] | None:
        """Return the histograms of a code and the board of each row; None where they are not there."""
        if f"pixels/{code}" not in self.products:
            return None
        cube: HistogramCube = self.products[f"pixels/{code}"]
        labels = cube.axes[0].labels
        if labels:
            return cube, [int("".join(c for c in label if c.isdigit()) or 0) for label in labels]
        rows = cube.axes[0].bins
        return cube, self.boards if rows == len(self.boards) else list(range(rows))


class Panel(NamedTuple):
    """One panel of `mosaic`.

    Parameters
    ----------
    draw : callable
        ``draw(axes, colour_axes)``; the second is None where there is no place for a colour bar.
    title : str
        Above it.
    bar : bool
        Whether a place for a colour bar is wanted.
    square : bool
        Whether the axes is a square, as for a chip.
    """

    draw: Draw
    title: str = ""
    bar: bool = False
    square: bool = False


def heading(canvas: Canvas, title: str, about: str) -> None:
    """Write the title of a figure and a second line."""
    height = canvas.get_size_inches()[1]
    canvas.text(0.012, 1 - 0.1 / height, title, fontsize=SIZE + 2.5, weight="bold", va="top")
    canvas.text(0.012, 1 - 0.37 / height, about, fontsize=SIZE - 0.5, color="#3a4149", va="top")


def mosaic(
    panels: Sequence[Panel],
    columns: int,
    *,
    title: str,
    about: str = "",
    width: float = WIDTH,
    height: float = 3.4,
    below: float = 0.62,
    left: float = 0.78,
    above: float = 0.34,
    foot: float = 0.0,
    right: float = 0.12,
) -> Canvas:
    """Return a figure of panels in rows, each at a place that is known beforehand.

    Parameters
    ----------
    panels : sequence of Panel
        Row by row.
    columns : int
        Panels of a row.
    title, about : str
        Title of the figure and second line.
    width, height : float
        Of the figure, and of one row [in].
    below, left, above : float
        Space for the labels of each panel [in].
    foot : float
        Space below all of them [in], for a key.
    right : float
        Space to the right of a panel without colour bar [in].
    """
    from firstlight.view.draw import place, sheet

    rows = -(-len(panels) // columns)
    head = 0.62
    total = head + rows * height + foot
    canvas = sheet(width, total)
    heading(canvas, title, about)
    cell = width / columns
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        bar_space = 0.88 if panel.bar else right
        wide, high = cell - left - bar_space, height - above - below
        if panel.square:
            wide = high = min(wide, high)
        x, y = column * cell + left, total - head - row * height - above - high
        ax = place(canvas, x, y, width - x - wide, total - y - high, SIZE)
        bar = None
        if panel.bar:
            bar = place(canvas, x + wide + 0.08, y, width - x - wide - 0.2, total - y - high, SIZE)
        panel.draw(ax, bar)
        if panel.title:
            ax.set_title(panel.title, fontsize=SIZE + 0.5)
    return canvas
