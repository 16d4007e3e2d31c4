"""Profiles along a plane, histograms above one another, totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.view.draw_layouts import FLAGGED, FRAME, log_ticks, no_data, short_number, text_size
from firstlight.view.style import STATE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = ["Band", "draw_bands", "draw_group_totals", "draw_positions", "draw_ratio"]

BLUE, ORANGE, PALE = "#1f5f99", "#d1662a", "#c3d6ea"


def _steps(edges: Values, values: Values) -> Values:
    """Return the outline of a histogram, from the baseline and back, of shape (2 n + 2, 2)."""
    heights = np.concatenate([[0.0], np.repeat(np.nan_to_num(values), 2), [0.0]])
    return np.stack([np.repeat(edges, 2), heights], axis=1)


def _edges(positions: Values) -> Values:
    if positions.size == 1:
        return np.array([positions[0] - 0.5, positions[0] + 0.5])
    middle = (positions[1:] + positions[:-1]) / 2
    return np.concatenate([[2 * positions[0] - middle[0]], middle, [2 * positions[-1] - middle[-1]]])


def _visible_top(values: Values, robust: bool) -> float:
    """Return the end of a scale from 0; a few values far above the others do not count."""
    filled = values[np.isfinite(values) & (values > 0)]
    if not filled.size:
        return 1.0
    top = float(filled.max())
    typical = 1.8 * float(np.quantile(filled, 0.95))
    if robust and filled.size >= 20 and top > typical:
        top = typical
    return top


def _round_up(value: float) -> float:
    size = 10.0 ** np.floor(np.log10(value))
    return float(
        next(step * size for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if value <= step * size * (1 + 1e-9))
    )


@dataclass(frozen=True)
class Band:
    """One histogram of `draw_bands`.

    Parameters
    ----------
    label : str
        Stands to the right.
    edges : ndarray, shape (n + 1,)
        Bin edges.
    values : ndarray, shape (n,)
        Heights from 0.
    marked : ndarray, shape (n,), optional
        A part of the values, filled (in-time hits).
    reference : ndarray, shape (n,), optional
        What is expected, as a dashed line.
    states : ndarray of str, shape (n,), optional
        State of each channel: flagged ones are marked below the baseline.
    """

    label: str
    edges: Values
    values: Values
    marked: Values | None = None
    reference: Values | None = None
    states: NDArray[Any] | None = None


def draw_bands(ax: Axes, bands: Sequence[Band], *, x_label: str, robust: bool = False) -> Axes:
    """Draw histograms above one another in one axes, each from 0 to the number at its tick.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    bands : sequence of Band
        From top to bottom.
    x_label : str
        What runs along x, with its unit.
    robust : bool
        A few values far above all others go off the scale; a red triangle with the number stands for each.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    from matplotlib.collections import LineCollection, PolyCollection

    if not bands:
        return no_data(ax, "nothing to draw")
    height = 0.8
    grey: dict[str, Any] = {"ha": "center", "va": "center", "color": "#56616c", "fontsize": text_size(ax)}
    lines, fills, dashed, ticks, labels = [], [], [], [], []
    for number, band in enumerate(bands):
        base = len(bands) - 1 - number
        top = _visible_top(np.asarray(band.values, dtype=np.float64), robust)
        if band.reference is not None:
            # a dead plane is seen against what is expected of it
            top = max(top, _visible_top(np.asarray(band.reference, dtype=np.float64), robust))
        top = _round_up(top)
        factor = np.array([1.0, height / top])

        def placed(
            values: Values,
            edges: Values = band.edges,
            factor: Values = factor,
            base: int = base,
            top: float = top,
        ) -> Values:
            return np.asarray(_steps(edges, np.minimum(values, top)) * factor + [0, base])

        lines.append(placed(band.values))
        fills.append(placed(band.values if band.marked is None else band.marked))
        if band.reference is not None:
            dashed.append(placed(band.reference)[1:-1])
        ticks.append(base + height)
        empty = not np.nansum(np.abs(band.values)) and band.reference is None
        labels.append("" if empty else short_number(top))
        if empty:
            ax.text(0.5, base + height / 2, "no hit", transform=ax.get_yaxis_transform(), **grey)
        _off_scale(ax, band, top, base + height)
        _mark_states(ax, band.edges, band.states, base - 0.11, base - 0.02)
    marked = any(band.marked is not None for band in bands)
    ax.add_collection(PolyCollection(fills, facecolors=ORANGE if marked else PALE, linewidths=0))
    ax.add_collection(LineCollection(lines, colors=BLUE, linewidths=0.8), autolim=False)
    if dashed:
        ax.add_collection(
            LineCollection(dashed, colors="#3a4149", linewidths=0.7, linestyles=(0, (4, 2.5))), autolim=False
        )
    ax.set_ylim(-0.16, len(bands) - 1 + height + 0.14)
    ax.set_xlim(min(band.edges[0] for band in bands), max(band.edges[-1] for band in bands))
    ax.set_yticks(ticks, labels)
    ax.set_xlabel(x_label)
    for number, band in enumerate(bands):
        base = len(bands) - 1 - number
        place = ax.get_yaxis_transform()
        ax.text(1.008, base + height / 2, band.label, transform=place, va="center", fontsize=text_size(ax))
    return ax


def _off_scale(ax: Axes, band: Band, top: float, place: float) -> None:
    above = np.flatnonzero(np.asarray(band.values) > top * (1 + 1e-9))
    if not above.size:
        return
    middle = (band.edges[1:] + band.edges[:-1])[above] / 2
    hot = STATE_COLOURS["hot"]
    ax.plot(
        middle, np.full(middle.size, place), "^", color=hot, markersize=4.5, linestyle="none", clip_on=False
    )
    for x, value in list(zip(middle, band.values[above], strict=True))[:3]:
        ax.annotate(
            short_number(value),
            (x, place),
            xytext=(5, -1),
            textcoords="offset points",
            fontsize=0.85 * text_size(ax),
            color=hot,
            va="center",
        )


def _mark_states(ax: Axes, edges: Values, states: NDArray[Any] | None, low: float, high: float) -> None:
    """Draw a strip of colours for channels that are not well."""
    from matplotlib.collections import PolyCollection

    if states is None:
        return
    for state in (*FLAGGED, "masked", "no_statistics"):
        found = np.flatnonzero(states == state)
        if found.size:
            boxes = [
                [(edges[i], low), (edges[i + 1], low), (edges[i + 1], high), (edges[i], high)] for i in found
            ]
            ax.add_collection(
                PolyCollection(boxes, facecolors=STATE_COLOURS[state], linewidths=0), autolim=False
            )


def draw_positions(
    ax: Axes,
    counts: ArrayLike,
    positions: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    states: Sequence[str] | NDArray[Any] | None = None,
    labels: tuple[str, str] = ("position", "hits"),
) -> Axes:
    """Draw the profile of one plane as steps.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    counts, positions : array, shape (n,)
        One value for each channel, in the order of its position.
    reference : array, shape (n,), optional
        What is expected: a dashed line.
    states : sequence of str, shape (n,), optional
        Flagged channels get their colour, see `STATE_COLOURS`.
    labels : (str, str)
        Of x and y.
    """
    from matplotlib.collections import PolyCollection

    values, places = np.asarray(counts, dtype=np.float64), np.asarray(positions, dtype=np.float64)
    if not values.size:
        return no_data(ax, "the plane has no channels")
    edges = _edges(places)
    if not np.isfinite(values).any():
        return no_data(ax, "no channel has a value")
    ax.stairs(values, edges, fill=True, color=PALE)
    ax.stairs(values, edges, color=BLUE, linewidth=0.9, label="measured")
    if reference is not None:
        expected = np.asarray(reference, dtype=np.float64)
        ax.stairs(
            expected,
            edges,
            color="#20262c",
            linewidth=0.9,
            linestyle=(0, (3, 2)),
            baseline=None,
            label="expected",
        )
    low, high = min(0.0, float(np.nanmin(values))), float(np.nanmax(values))
    high = high if high > low else low + 1
    flagged = reference is not None or states is not None
    if states is not None:
        flags = np.asarray(states, dtype=str)
        for state in (*FLAGGED, "masked"):
            found = np.flatnonzero(flags == state)
            if found.size:
                # the whole height of a channel, so that a dead one is seen as well as a hot one
                bars = [
                    [(edges[i], low), (edges[i + 1], low), (edges[i + 1], high), (edges[i], high)]
                    for i in found
                ]
                colour = STATE_COLOURS[state]
                ax.add_collection(
                    PolyCollection(bars, facecolors=colour, alpha=0.3, linewidths=0), autolim=False
                )
                ax.plot([], [], "s", color=colour, alpha=0.5, label=f"{state} {found.size}")
    ax.set(
        xlim=(edges[0], edges[-1]),
        ylim=(low, high + (0.25 if flagged else 0.06) * (high - low)),
        xlabel=labels[0],
        ylabel=labels[1],
    )
    if flagged:
        ax.legend(loc="upper center", ncols=6, handlelength=1.2, columnspacing=1.0)
    return ax


def draw_ratio(
    ax: Axes,
    counts: ArrayLike,
    reference: ArrayLike,
    positions: ArrayLike,
    *,
    label: str = "measured / expected",
) -> Axes:
    """Draw the ratio of counts to what is expected, with the Poisson errors of the counts.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    counts, reference, positions : array, shape (n,)
        Channels with nothing expected are left out; ratios beyond 0 .. 2 stand at the edge as triangles.
    label : str
        Of y.
    """
    values, expected, places = (np.asarray(x, dtype=np.float64) for x in (counts, reference, positions))
    usable = np.isfinite(values) & (expected > 0)
    if not usable.any():
        return no_data(ax, "nothing is expected in any channel")
    ratio = values[usable] / expected[usable]
    error = np.sqrt(np.maximum(values[usable], 1.0)) / expected[usable]
    inside = ratio <= 2
    ax.axhline(1.0, color=FRAME, linewidth=0.8)
    x = places[usable]
    style: dict[str, Any] = {"fmt": "o", "markersize": 2.5, "elinewidth": 0.7, "color": BLUE}
    ax.errorbar(x[inside], ratio[inside], error[inside], **style)
    ax.plot(
        x[~inside], np.full(np.count_nonzero(~inside), 1.95), "^", color=STATE_COLOURS["hot"], markersize=5
    )
    edges = _edges(places)
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, 2), ylabel=label)
    return ax


def draw_group_totals(
    ax: Axes,
    totals: ArrayLike,
    names: Sequence[str],
    *,
    label: str = "hits",
    changes: Sequence[int] = (),
    named: bool = False,
) -> Axes:
    """Draw the total of each group as a bar, aligned with the columns of a map of planes.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw; logarithmic where the totals span more than a factor 30.
    totals : array, shape (n_groups,)
        One number for each group.
    names : sequence of str
        Names of the groups.
    label : str
        Of y.
    changes : sequence of int
        Groups before which a separator is drawn.
    named : bool
        Whether the names stand below; not above a map.
    """
    from matplotlib.collections import PolyCollection

    values = np.asarray(totals, dtype=np.float64)
    if not values.size or not np.nansum(values) > 0:
        return no_data(ax, "no hits")
    filled = values[values > 0]
    low = 0.0
    if filled.max() > 30 * filled.min():
        low = max(float(filled.min()) / 3, float(filled.max()) * 1e-7)
        ax.set_yscale("log")
    bars = [
        [(i - 0.4, low), (i + 0.4, low), (i + 0.4, value), (i - 0.4, value)]
        for i, value in enumerate(values)
        if value > 0
    ]
    ax.add_collection(PolyCollection(bars, facecolors=BLUE, linewidths=0), autolim=False)
    for i in np.flatnonzero(~(values > 0)):
        ax.text(
            int(i), 0.02, "0", transform=ax.get_xaxis_transform(), ha="center", color=STATE_COLOURS["hot"]
        )
    if low:
        ticks, words = log_ticks(low, float(filled.max()) * 2.0, most=4)
        ax.set_yticks(ticks, words)
        ax.minorticks_off()
    else:
        ticks = [0.0, _round_up(float(filled.max()) / 2.2)]
        ax.set_yticks([*ticks, 2 * ticks[1]], [short_number(tick) for tick in (*ticks, 2 * ticks[1])])
    ax.set(
        xlim=(-0.5, values.size - 0.5), ylim=(low, float(filled.max()) * (2.0 if low else 1.2)), ylabel=label
    )
    ax.vlines(np.asarray(changes) - 0.5, 0, 1, transform=ax.get_xaxis_transform(), color=FRAME, linewidth=0.6)
    ax.set_xticks(range(values.size) if named else [], list(names) if named else [], rotation=90)
    return ax
