"""How the channels of each kind of channel map are placed in an axes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import UsageError
from firstlight.view.style import ABSENT, STATE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap

    Pixels = NDArray[np.float64]

__all__ = [
    "FLAGGED",
    "FRAME",
    "LAYOUTS",
    "MASKED",
    "ZERO",
    "hexagon_corners",
    "log_ticks",
    "no_data",
    "short_number",
    "text_size",
]

ZERO = "#cfe3f8"  # a channel that exists and counted nothing
MASKED = "#c9b6e4"
FRAME = "#7d8894"
FLAGGED = ("hot", "dead", "low")


def short_number(value: float) -> str:
    """Return a number in few characters: ``12.4k``, ``0.25``."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.3g}{unit}" if abs(scaled) < 1000 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}" if size >= 10 and float(value).is_integer() else f"{value:.3g}"


def log_ticks(low: float, high: float, most: int = 8) -> tuple[list[float], list[str]]:
    """Return at most so many ticks of a logarithmic axis, and their labels as plain numbers."""
    if not 0 < low < high:
        return [], []
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    wide = np.log10(high / low)
    steps = (1.0, 2.0, 5.0) if wide < 2.3 else (1.0,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    ticks = ticks[:: -(-len(ticks) // most)] if len(ticks) > 1 else [low, high]
    return ticks, [short_number(tick) for tick in ticks]


def log_bar(bar: Any, low: float, high: float, most: int = 8) -> None:
    """Give a logarithmic colour bar ticks with plain numbers."""
    ticks, labels = log_ticks(low, high, most)
    bar.set_ticks(ticks, labels=labels)
    bar.ax.minorticks_off()


def text_size(ax: Axes) -> float:
    """Return the size of the letters in an axes, that of its labels [pt]."""
    return float(ax.yaxis.label.get_fontsize())


def no_data(ax: Axes, reason: str) -> Axes:
    """Say in an axes why there is nothing to see."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, color="#c8ced4")
    text = f"no data: {reason}"
    ax.text(
        0.5,
        0.5,
        text,
        transform=ax.transAxes,
        ha="center",
        va="center",
        color="#56616c",
        wrap=True,
        fontsize=text_size(ax),
    )
    return ax


_View = tuple["Sequence[str] | None", "Sequence[str] | None", bool, bool]


def _order(channels: ChannelMap, view: _View) -> tuple[list[str], list[str]]:
    """Return groups in drawing order and the section of each ("" where there are none)."""
    groups, sections, _, _ = view
    known = channels.groups
    if groups is None:
        groups = [str(name) for name in known["group"]]
    if sections is None and "section" in known.columns:
        section_of = dict(zip(known["group"].to_list(), known["section"].to_list(), strict=True))
        sections = [str(section_of.get(group, "")) for group in groups]
    return list(groups), list(sections) if sections is not None else [""] * len(groups)


def _planes(
    ax: Axes,
    pixels: Pixels,
    channels: ChannelMap,
    _: NDArray[np.bool_],
    states: NDArray[Any] | None,
    view: _View,
) -> None:
    from matplotlib.collections import LineCollection

    groups, sections = _order(channels, view)
    separators, horizontal = view[2:]
    if not groups:
        no_data(ax, "no plane to draw")
        return
    position = channels.column("position").astype(np.int64)
    members = [channels.channels_of(group) for group in groups]
    every = np.concatenate(members)
    low, high = int(position[every].min()), int(position[every].max())
    image = _blank(high - low + 1, len(groups))
    column = np.full(len(channels), -1, dtype=np.int64)
    for number, rows in enumerate(members):
        image[position[rows] - low, number] = _bytes(pixels[rows])
        column[rows] = number
    across, along = (-0.5, len(groups) - 0.5), (low - 0.5, high + 0.5)
    label = channels.labels.get("position", "position")
    if horizontal:
        extent = (*along, across[1], across[0])
        ax.imshow(
            image.transpose(1, 0, 2), aspect="auto", extent=extent, origin="upper", interpolation="none"
        )
        ax.set(xlabel=label)
        ax.set_yticks(range(len(groups)), groups)
        ax.tick_params(axis="y", length=0)
    else:
        ax.imshow(image, aspect="auto", extent=(*across, *along), origin="lower", interpolation="none")
        ax.set(ylabel=label)
        ax.set_xticks(range(len(groups)), groups, rotation=90)
        ax.tick_params(axis="x", length=0)
    _first_and_last(ax, low, high, "x" if horizontal else "y")
    frames = [
        _box(number - 0.5, number + 0.5, position[rows].min() - 0.5, position[rows].max() + 0.5, horizontal)
        for number, rows in enumerate(members)
        if rows.size
    ]
    if separators:
        ax.add_collection(LineCollection(frames, colors=FRAME, linewidths=0.4), autolim=False)
        _sections(ax, sections, along, horizontal)
    if states is not None:
        shown = column >= 0
        _mark(
            ax, column[shown], position[shown], states[shown], lambda a, b, c, d: _box(a, b, c, d, horizontal)
        )


def _bytes(pixels: Pixels) -> NDArray[np.uint8]:
    # whole numbers are drawn several times faster
    return np.asarray(np.rint(255 * pixels), dtype=np.uint8)


def _blank(rows: int, columns: int) -> NDArray[np.uint8]:
    """Return an image without any channel, of shape (rows, columns, 4)."""
    from matplotlib.colors import to_rgba

    return np.broadcast_to(_bytes(np.array(to_rgba(ABSENT))), (rows, columns, 4)).copy()


def _first_and_last(ax: Axes, low: int, high: int, which: str) -> None:
    """Set whole-number ticks that include the first and the last position."""
    span = max(high - low, 1)
    step = next((s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if span / s <= 9), span)
    ticks = [value for value in range(-(-low // step) * step, high + 1, step) if value - low >= 0.6 * step]
    ticks = [low, *[value for value in ticks if high - value >= 0.6 * step], high]
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_ticks(sorted(set(ticks)))


def _box(left: float, right: float, bottom: float, top: float, swapped: bool) -> list[tuple[float, float]]:
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    return [(y, x) for x, y in corners] if swapped else corners


def _sections(ax: Axes, sections: list[str], along: tuple[float, float], horizontal: bool) -> None:
    from matplotlib.collections import LineCollection

    changes = [i for i in range(1, len(sections)) if sections[i] != sections[i - 1]]
    lines = [[(i - 0.5, along[0]), (i - 0.5, along[1])] for i in changes]
    if horizontal:
        lines = [[(y, x) for x, y in line] for line in lines]
    ax.add_collection(LineCollection(lines, colors="#20262c", linewidths=1.3), autolim=False)
    edges = [0, *changes, len(sections)]
    if len(edges) <= 2 or horizontal:
        return
    size = text_size(ax)
    for number, (start, stop) in enumerate(pairwise(edges)):
        # two heights, so that the labels of narrow sections do not meet
        style = {"lw": 0.8, "color": FRAME, "shrinkA": 0, "shrinkB": 0, "arrowstyle": "-"}
        ax.annotate(
            sections[start],
            ((start + stop - 1) / 2, 1.0),
            xytext=(0, 5 if number % 2 == 0 else 10 + 1.1 * size),
            fontsize=size,
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            annotation_clip=False,
            arrowprops=style if number % 2 else None,
        )


def _mark(
    ax: Axes,
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    states: NDArray[Any],
    box: Callable[[float, float, float, float], list[tuple[float, float]]],
) -> None:
    """Hatch masked cells and put a tick on flagged ones."""
    from matplotlib.collections import PolyCollection

    # a single channel of many would be a hair: its mark has a least height
    pad = max(0.0, (int(row.max()) - int(row.min()) + 1) / 160 - 1.0) / 2 if row.size else 0.0
    for state in ("masked", *reversed(FLAGGED)):
        found = np.flatnonzero(states == state)
        if not found.size:
            continue
        start = -0.5 if state == "masked" else 0.18
        extra = {"masked": 0.0, "hot": 2.5 * pad}.get(state, pad)
        polygons = [
            box(x + start, x + 0.5, first - 0.5 - extra, last + 0.5 + extra)
            for x, first, last in _runs(column[found], row[found])
        ]
        style: dict[str, Any] = {"facecolors": STATE_COLOURS[state], "linewidths": 0}
        if state == "masked":
            style = {
                "facecolors": "none",
                "edgecolors": STATE_COLOURS[state],
                "hatch": "////",
                "linewidths": 0.3,
            }
        ax.add_collection(PolyCollection(polygons, **style), autolim=False)


def _runs(column: NDArray[np.int64], row: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return (column, first row, last row) of adjacent cells."""
    order = np.lexsort((row, column))
    column, row = column[order], row[order]
    breaks = np.flatnonzero((np.diff(column) != 0) | (np.diff(row) > 1)) + 1
    starts, stops = np.append(0, breaks), np.append(breaks, column.size) - 1
    return [(int(column[a]), int(row[a]), int(row[b])) for a, b in zip(starts, stops, strict=True)]


def _grid(
    ax: Axes,
    pixels: Pixels,
    channels: ChannelMap,
    chosen: NDArray[np.bool_],
    states: NDArray[Any] | None,
    _: _View,
) -> None:

    row, col = (channels.column(name).astype(np.int64)[chosen] for name in ("row", "col"))
    if not row.size:
        no_data(ax, "no channel to draw")
        return
    cells = row * (int(col.max()) + 1) + col
    if np.unique(cells).size != cells.size:
        what = "two channels stand at the same row and column"
        raise UsageError(what, where=repr(channels), hint="draw one group at a time: groups=[...]")
    top, left = int(row.min()), int(col.min())
    image = _blank(int(row.max()) - top + 1, int(col.max()) - left + 1)
    image[row - top, col - left] = _bytes(pixels[chosen])
    extent = (left - 0.5, int(col.max()) + 0.5, int(row.max()) + 0.5, top - 0.5)
    ax.imshow(image, extent=extent, origin="upper", interpolation="none")
    names = [channels.labels.get(name, name) for name in ("col", "row")]
    ax.set(xlabel=names[0], ylabel=f"{names[1]} ({top} at the top)")
    _first_and_last(ax, left, int(col.max()), "x")
    _first_and_last(ax, top, int(row.max()), "y")
    if states is not None:
        _mark(ax, col, row, states[chosen], lambda a, b, c, d: _box(a, b, c, d, False))


def _hexagons(
    ax: Axes,
    pixels: Pixels,
    channels: ChannelMap,
    chosen: NDArray[np.bool_],
    states: NDArray[Any] | None,
    _: _View,
) -> None:
    from matplotlib.collections import PolyCollection

    centre = np.stack([channels.column(name).astype(np.float64)[chosen] for name in ("x", "y")], axis=1)
    if not centre.size:
        no_data(ax, "no channel to draw")
        return
    corners = hexagon_corners(centre)
    outlines = centre[:, np.newaxis] + corners
    ax.add_collection(
        PolyCollection(list(outlines), facecolors=pixels[chosen], edgecolors="face", linewidths=0.2)
    )
    if states is not None:
        of_chosen = states[chosen]
        for state in ("masked", *FLAGGED):
            found = of_chosen == state
            if not found.any():
                continue
            style: dict[str, Any] = {
                "facecolors": "none",
                "edgecolors": STATE_COLOURS[state],
                "linewidths": 1.4,
            }
            style |= {"hatch": "////", "linewidths": 0.3} if state == "masked" else {}
            shapes = list(centre[found][:, np.newaxis] + 0.88 * corners)
            ax.add_collection(PolyCollection(shapes, **style), autolim=False)
    ax.set_aspect("equal")
    reach = np.abs(corners).max(axis=0)
    low, high = centre.min(axis=0) - 1.3 * reach, centre.max(axis=0) + 1.3 * reach
    labels = {name: channels.labels.get(name, name) for name in ("x", "y")}
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=labels["x"], ylabel=labels["y"])


def hexagon_corners(centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners of one hexagon around 0 from the distance of nearest neighbours.

    Parameters
    ----------
    centre : ndarray, shape (n, 2)
        Of all hexagons, which are alike.

    Returns
    -------
    ndarray, shape (6, 2)
        Counter-clockwise.
    """
    if len(centre) == 1:
        distance, angle = 1.0, 0.0
    else:
        # hexagons are all alike: the closest pair of a sample tells size and direction
        sample = centre[:: max(1, len(centre) // 64)]
        steps = centre[np.newaxis] - sample[:, np.newaxis]
        lengths = np.hypot(steps[..., 0], steps[..., 1])
        lengths[lengths == 0] = np.inf
        first, second = np.unravel_index(int(np.argmin(lengths)), lengths.shape)
        distance = float(lengths[first, second])
        angle = float(np.arctan2(steps[first, second, 1], steps[first, second, 0]))
    directions = angle + np.pi / 6 + np.arange(6) * np.pi / 3
    return np.asarray(distance / np.sqrt(3) * np.stack([np.cos(directions), np.sin(directions)], axis=1))


LAYOUTS: dict[str, Callable[..., None]] = {"planes": _planes, "grid": _grid, "hexagons": _hexagons}
