"""Figures of the constants of two runs: differences in errors, differences at their places, new over old."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.view.figure import Figure, ReportTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.steps.compare_constants import ColumnComparison

    Draw = Callable[[Axes, ColumnComparison], object]

__all__ = ["draw_difference_maps", "draw_differences", "draw_old_and_new", "figures", "tables"]

_CHANGED, _LOST, _NEW = "#d0342c", "#1d1d1d", "#3b8c5a"
_MOST_CIRCLES = 300
_MANY = 3000  # points beyond which a scatter plot is a histogram


def figures(
    found: Sequence[ColumnComparison],
    channels: ChannelMap,
    limit: float,
    regions: Mapping[str, Sequence[NDArray[np.int64]]] | None = None,
) -> list[Figure]:
    """Return the figures of a comparison of constants.

    Parameters
    ----------
    found : sequence of ColumnComparison
        All columns; those that are identical, or have nothing to compare, are left out.
    channels : ChannelMap
        Of both runs.
    limit : float
        Errors beyond which a channel has changed.
    regions : mapping, optional
        For the title of each column the channels of every region that changed.
    """
    shown = [part for part in found if part.numbers["state"] not in ("identical", "no_statistics")]
    if not shown:
        return []
    drawn = [
        Figure(
            "constants_differences", "Differences of the constants in errors",
            "This run less the reference, divided by both errors in quadrature; all that is far outside is in the "
            "bins at the ends. The line is the normal distribution around the median that repeated measurements "
            f"follow; dashes are {limit:g} errors or, if larger, as many robust standard deviations from the median.",
            "Constants", lambda: draw_differences(shown, limit),
        ),
    ]  # fmt: skip
    if channels.layout != "planes":
        about = (
            "This run less the reference at the place of each channel; colours reach five robust standard "
            "deviations to both sides of the median difference, which is pale. Circles are changed channels "
            f"(where no more than {_MOST_CIRCLES}), frames are regions that changed as a whole."
        )
        if channels.layout == "grid":
            about += " Blue-grey has a value in neither."
        drawn.append(
            Figure(
                "constants_map", "Map of the differences", about, "Constants",
                lambda: draw_difference_maps(shown, channels, regions or {}), dpi=130,
            )
        )  # fmt: skip
    drawn.append(
        Figure(
            "constants_old_and_new", "New over old constants",
            "This run over the reference, a channel each; the line is equality, red are changed channels. Of many "
            "channels the colour is their number. Far outside is not shown: the numbers of it stand in the panels.",
            "Constants", lambda: draw_old_and_new(shown),
        )
    )  # fmt: skip
    return drawn


def tables() -> list[ReportTable]:
    """Return the tables of a comparison of constants."""
    return [
        ReportTable(
            "constants/columns", "Constants",
            "Every column with an error, this run against the reference.", "Constants",
        ),
        ReportTable(
            "constants/regions", "Changed regions",
            "Groups or tiles of channels that moved as a whole, differently from the others.",
            "Constants", where="state = 'changed'",
        ),
        ReportTable(
            "constants/channels", "Changed constants",
            "Channels that moved differently from the others: beyond the errors of both and the spread of all, the "
            "largest first.",
            "Constants", where="state = 'changed'",
        ),
    ]  # fmt: skip


def draw_differences(found: Sequence[ColumnComparison], limit: float) -> Canvas:
    """Draw how the differences in errors are distributed, a panel for each column."""
    return _panels(found, (4.3, 3.1), lambda ax, part: _difference_panel(ax, part, limit))


def _difference_panel(ax: Axes, part: ColumnComparison, limit: float) -> None:
    ratio = part.difference / part.total_error
    ratio = ratio[np.isfinite(ratio)]
    middle, width = float(np.median(ratio)), max(part.numbers["pull_width"], 1.0)
    reach = 1.35 * limit * width
    low, high = min(middle - reach, -1.0), max(middle + reach, 1.0)
    edges = np.linspace(low, high, 71)
    inside = np.clip(ratio, low, np.nextafter(high, low))
    counts, _ = np.histogram(inside, edges)
    ax.stairs(counts, edges, fill=True, color="#bcd2e4")
    x = np.linspace(low, high, 351)
    ax.plot(x, ratio.size * (edges[1] - edges[0]) * np.exp(-((x - middle) ** 2) / 2) / np.sqrt(2 * np.pi), color="#d1662a")  # fmt: skip
    for place in (middle - limit * width, middle + limit * width):
        ax.axvline(place, ymax=0.8, color="#56616c", linewidth=0.8, linestyle="--")
    numbers = part.numbers
    text = [
        f"{numbers['n_compared']:,} channels",
        f"median {round(middle, 3) + 0:+.3f}",
        f"width {numbers['pull_width']:.3f}",
        f"changed {numbers['n_changed']:,}",
    ]
    ax.set(
        yscale="log", xlim=(low, high), xlabel="difference [errors]", ylabel="channels",
        ylim=(0.5, 20 * max(counts.max(), 1)),
    )  # fmt: skip
    ax.text(0.03, 0.97, "\n".join(text[:2]), transform=ax.transAxes, va="top", fontsize=8.5)
    ax.text(0.97, 0.97, "\n".join(text[2:]), transform=ax.transAxes, va="top", ha="right", fontsize=8.5)


def draw_difference_maps(
    found: Sequence[ColumnComparison],
    channels: ChannelMap,
    regions: Mapping[str, Sequence[NDArray[np.int64]]] | None = None,
) -> Canvas:
    """Draw the difference of every channel at its place, a panel for each column.

    Parameters
    ----------
    found : sequence of ColumnComparison
        Columns.
    channels : ChannelMap
        Layout ``grid``, ``hexagons`` or ``strips``.
    regions : mapping, optional
        For the title of each column the channels of every region that gets a frame.
    """
    from matplotlib.patches import Patch

    panel = _pixel_panel if channels.layout == "grid" else _place_panel

    def draw(ax: Axes, part: ColumnComparison) -> None:
        panel(ax, part, channels)
        if channels.layout in ("grid", "hexagons"):
            x, y = _positions(channels)
            _circles(ax, x[part.changed], y[part.changed])
            for rows in (regions or {}).get(part.title, ()):
                _frame(ax, x[rows], y[rows])

    canvas = _panels(found, (4.6, 3.8), draw, reach=12)
    flags = (("a value in the reference only", "lost", _LOST), ("in this run only", "new", _NEW))
    handles = [
        Patch(facecolor=colour, label=label)
        for label, name, colour in flags
        if channels.layout == "grid" and any(getattr(part, name).any() for part in found)
    ]
    if handles:
        canvas.legend(handles=handles, loc="outside lower center", ncols=2)
    return canvas


def _limits(part: ColumnComparison) -> tuple[float, float]:
    middle = part.numbers["median_difference"]
    reach = 5 * part.numbers["spread"] or float(np.nanmax(np.abs(part.difference - middle))) or 1.0
    return middle - reach, middle + reach


def _label(part: ColumnComparison) -> str:
    return f"difference [{part.unit}]" if part.unit else "difference"


def _pixel_panel(ax: Axes, part: ColumnComparison, channels: ChannelMap) -> None:
    from firstlight.view.draw_pixels import Overlay, draw_pixels

    row, column = (np.asarray(channels.column(name), dtype=np.int64) for name in ("row", "col"))
    first, shape = (row.min(), column.min()), (np.ptp(row) + 1, np.ptp(column) + 1)

    def image(values: NDArray[np.generic], *, nothing: float) -> NDArray[np.generic]:
        whole = np.full(shape, nothing)
        whole[row - first[0], column - first[1]] = values
        return whole

    flags = (("lost", part.lost, _LOST), ("new", part.new, _NEW))
    overlays = [
        Overlay(label, image(where, nothing=False).astype(bool), colour)
        for label, where, colour in flags
        if where.any()
    ]
    draw_pixels(
        ax, image(part.difference, nothing=np.nan), label=_label(part), overlays=overlays, limits=_limits(part),
        colour_map="RdBu_r", empty="#b9c4cf",
    )  # fmt: skip
    text = ", ".join(f"{overlay.label} {overlay.where.sum():,}" for overlay in overlays)
    ax.set_title(text, loc="right", fontsize=8)


def _place_panel(ax: Axes, part: ColumnComparison, channels: ChannelMap) -> None:
    from firstlight.view.draw import draw_channel_map

    draw_channel_map(
        ax, part.difference, channels, colour_label=_label(part), limits=_limits(part),
        zero_is_empty=False, colour_map="RdBu_r",
    )  # fmt: skip


def _positions(channels: ChannelMap) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where channels are drawn in an axes."""
    names = ("col", "row") if channels.layout == "grid" else ("x", "y")
    x, y = (np.asarray(channels.column(name), dtype=np.float64) for name in names)
    return (x - x.min(), y - y.min()) if channels.layout == "grid" else (x, y)


def _circles(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    if 0 < x.size <= _MOST_CIRCLES:
        ax.scatter(x, y, s=16, facecolors="none", edgecolors="#1d1d1d", linewidths=0.5)


def _frame(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    from matplotlib.patches import Rectangle

    corner = (float(x.min()) - 0.5, float(y.min()) - 0.5)
    size = (float(np.ptp(x)) + 1, float(np.ptp(y)) + 1)
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#1d1d1d", linewidth=1.2))


def draw_old_and_new(found: Sequence[ColumnComparison]) -> Canvas:
    """Draw the value of every channel over that of the reference, a panel for each column."""
    return _panels(found, (4.3, 3.7), _scatter_panel)


def _scatter_panel(ax: Axes, part: ColumnComparison) -> None:
    from firstlight.view.draw import draw_cube_2d
    from firstlight.view.draw_pixels import robust_range

    compared = np.isfinite(part.difference)
    old, new, changed = part.reference[compared], part.value[compared], part.changed[compared]
    both = np.concatenate([old, new])
    low, high = robust_range(both, 5.0)
    if changed.sum() > 0.5 * _MANY or not changed.any():
        reddened = np.zeros_like(changed)
    else:
        reddened = changed
        low, high = min(low, both[np.tile(changed, 2)].min()), max(high, both[np.tile(changed, 2)].max())
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin
    inside = (old >= low) & (old <= high) & (new >= low) & (new <= high)
    if old.size > _MANY:
        counts, _, _ = np.histogram2d(old, new, bins=120, range=((low, high), (low, high)))
        draw_cube_2d(ax, counts, (low, high, low, high), colour_label="channels")
    else:
        ax.plot(old, new, ".", markersize=3, color="#1f5f99")
    ax.plot((low, high), (low, high), color="#56616c", linewidth=0.8)
    ax.plot(old[reddened], new[reddened], "o", markersize=3, markerfacecolor="none", color=_CHANGED)
    unit = f" [{part.unit}]" if part.unit else ""
    ax.set(xlim=(low, high), ylim=(low, high), xlabel=f"reference{unit}", ylabel=f"this run{unit}")
    text = f"{int((~inside).sum()):,} outside\n{int(changed.sum()):,} changed"
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=8.5)


def _panels(
    found: Sequence[ColumnComparison], size: tuple[float, float], draw: Draw, reach: int = 24
) -> Canvas:
    """Draw a panel for each column, of a size in inches, at most `reach` of them."""
    from matplotlib.figure import Figure as Canvas

    shown = found[:reach]
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    canvas = Canvas(figsize=(size[0] * columns, size[1] * rows))
    names = [part.column for part in found]
    for index, part in enumerate(shown, 1):
        ax = canvas.add_subplot(rows, columns, index)
        draw(ax, part)
        if names.count(part.column) > 1:
            ax.set_title(part.title, fontsize=8.5)
        else:
            ax.set_title(part.column)
    return canvas
