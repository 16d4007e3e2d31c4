"""Histograms and trends: spectra, distributions, hits per event, one point for each spill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.view.draw_curves import BLUE, ORANGE, PALE
from firstlight.view.draw_layouts import FRAME, log_bar, log_ticks, no_data, text_size
from firstlight.view.style import STATE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = [
    "draw_counts_of_counts",
    "draw_cube_2d",
    "draw_distribution",
    "draw_flagged_distribution",
    "draw_shifts",
    "draw_spectrum",
    "draw_trend",
    "name_places",
    "rebin_counts",
]


def draw_spectrum(
    ax: Axes,
    edges: ArrayLike,
    counts: ArrayLike,
    *,
    marked: ArrayLike | None = None,
    names: Sequence[str] = ("all hits", "in time"),
    labels: tuple[str, str] = ("", "hits"),
    log: bool = False,
) -> Axes:
    """Draw histograms as steps, and a marked part of the first as a filled one.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    edges : array, shape (n + 1,)
        Bin edges.
    counts : array, shape (n,) or (m, n)
        One histogram, or several as lines.
    marked : array, shape (n,), optional
        Part of the counts: in-time hits.
    names : sequence of str
        For the legend: of the lines, then of the marked part.
    labels : (str, str)
        Of x and y, with units.
    log : bool
        Logarithmic counts.
    """
    rows = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    places = np.asarray(edges, dtype=np.float64)
    if not rows.size or not np.nansum(rows) > 0:
        return no_data(ax, "no entries")
    if marked is not None:
        ax.stairs(
            np.asarray(marked, dtype=np.float64),
            places,
            fill=True,
            color=ORANGE,
            alpha=0.75,
            label=names[len(rows)],
        )
    for number, row in enumerate(rows):
        name = names[number] if len(rows) > 1 or marked is not None else None
        ax.stairs(
            row,
            places,
            linewidth=1.1,
            color=f"C{number % 8}",
            linestyle="-" if number < 8 else "--",
            label=name,
        )
    if log:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
    filled = np.flatnonzero(rows.sum(axis=0))
    ax.set(xlim=(places[filled[0]], places[filled[-1] + 1]), xlabel=labels[0], ylabel=labels[1])
    if len(rows) > 1 or marked is not None:
        ax.legend(loc="best", ncols=2 if len(rows) > 4 else 1)
    return ax


def draw_cube_2d(
    ax: Axes,
    counts: ArrayLike,
    extent: tuple[float, float, float, float],
    *,
    labels: tuple[str, str] = ("", ""),
    colour_label: str = "hits",
    smallest: float | None = None,
    largest: float | None = None,
    bar: bool = True,
    bar_axes: Axes | None = None,
) -> Axes:
    """Draw counts over two axes with logarithmic colours; empty cells stay white.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    counts : array, shape (n_x, n_y)
        NaN where there is nothing to count.
    extent : (float, float, float, float)
        Left, right, bottom, top edge.
    labels : (str, str)
        Of x and y, with units.
    colour_label : str
        Of the colour bar.
    smallest, largest : float, optional
        Ends of the colours, for several axes with the same colours; those of the counts by default.
    bar : bool
        Whether to draw a colour bar.
    bar_axes : matplotlib Axes, optional
        Where the colour bar stands; beside `ax` by default.
    """
    import matplotlib as mpl
    from matplotlib.colors import LogNorm

    image = np.asarray(counts, dtype=np.float64)
    if not image.size or not np.nansum(image) > 0:
        return no_data(ax, "no entries")
    shown = np.ma.masked_invalid(np.where(image > 0, image, np.nan))
    low = float(shown.min()) if smallest is None else smallest
    high = float(shown.max()) if largest is None else largest
    norm = LogNorm(low, max(high, 1.01 * low))
    drawn = ax.imshow(
        shown.T,
        aspect="auto",
        origin="lower",
        extent=extent,
        norm=norm,
        cmap=mpl.colormaps["viridis_r"],
        interpolation="none",
    )
    ax.set(xlabel=labels[0], ylabel=labels[1])
    if bar:
        places: dict[str, Any] = {"ax": ax, "pad": 0.01} if bar_axes is None else {"cax": bar_axes}
        extend = "min" if low > shown.min() else "neither"
        colour_bar = ax.figure.colorbar(drawn, label=colour_label, extend=extend, **places)
        colour_bar.outline.set_visible(False)
        log_bar(colour_bar, low, max(high, 1.01 * low))
    return ax


def draw_shifts(
    ax: Axes,
    values: ArrayLike,
    names: Sequence[str],
    labels: Sequence[str],
    bar_axes: Axes | None = None,
    *,
    colour_label: str = "shift [ns]",
    smallest_range: float = 5.0,
) -> Axes:
    """Draw how several quantities move from spill to spill, each against its own median.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array, shape (n_quantities, n_labels)
        NaN where there is none.
    names, labels : sequence of str
        Of the rows and of the columns.
    bar_axes : matplotlib Axes, optional
        Where the colour bar stands; beside `ax` by default.
    colour_label : str
        With the unit.
    smallest_range : float
        Colours reach at least so far to both sides, so that noise stays pale.
    """
    import warnings

    import matplotlib as mpl

    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).any():
        return no_data(ax, "no value in any of them")
    with warnings.catch_warnings():
        # rows without any value have no median
        warnings.simplefilter("ignore", RuntimeWarning)
        shift = array - np.nanmedian(array, axis=1)[:, np.newaxis]
    reach = max(smallest_range, float(np.nanmax(np.abs(shift))))
    colours = mpl.colormaps["RdBu_r"].with_extremes(bad=STATE_COLOURS["no_statistics"])
    image = np.ma.masked_invalid(shift)
    drawn = ax.imshow(image, aspect="auto", vmin=-reach, vmax=reach, cmap=colours, interpolation="none")
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    name_places(ax, labels)
    places: dict[str, Any] = {"ax": ax, "pad": 0.01} if bar_axes is None else {"cax": bar_axes}
    colour_bar = ax.figure.colorbar(drawn, label=colour_label, **places)
    colour_bar.outline.set_visible(False)
    return ax


def draw_distribution(
    ax: Axes,
    values: ArrayLike,
    limits: tuple[float | None, float | None] = (None, None),
    *,
    bins: int = 60,
    labels: tuple[str, str] = ("", "channels"),
) -> Axes:
    """Draw how one value is distributed over the channels, with the limits of a check.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array, shape (n,)
        Values that are not finite are counted in the text, not drawn.
    limits : (float or None, float or None)
        Lines of the accepted range; the text says how many are outside.
    bins : int
        Number of bins; those at the ends hold all that is far outside.
    labels : (str, str)
        Of x and y, with units.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    finite = array[np.isfinite(array)]
    if not finite.size:
        return no_data(ax, "no channel has a value")
    known = [limit for limit in limits if limit is not None]
    low, high = np.quantile(finite, (0.005, 0.995))
    margin = 0.25 * (high - low) or 0.5 * max(abs(float(low)), 1e-3)
    low = min([max(float(finite.min()), low - margin), *known])
    high = max([min(float(finite.max()), high + margin), *known])
    low, high = (low, high) if low < high else (low - margin, high + margin)
    counts, edges = np.histogram(np.clip(finite, low, high), bins=bins, range=(low, high))
    ax.stairs(counts, edges, fill=True, color=PALE)
    ax.stairs(counts, edges, color=BLUE, linewidth=0.9)
    for limit in known:
        ax.axvline(limit, color=STATE_COLOURS["hot"], linestyle="--", linewidth=1.1)
    lines = [f"n {finite.size:,}", f"median {np.median(finite):.4g}", f"std {finite.std():.3g}"]
    if known:
        outside = sum(
            int(np.count_nonzero(finite < limit if side == 0 else finite > limit))
            for side, limit in enumerate(limits)
            if limit is not None
        )
        lines.append(f"outside limits {outside:,}")
    if array.size > finite.size:
        lines.append(f"without a value {array.size - finite.size:,}")
    _text_box(ax, lines)
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, counts.max() * 1.3), xlabel=labels[0], ylabel=labels[1])
    return ax


def draw_flagged_distribution(
    ax: Axes,
    values: ArrayLike,
    *,
    flagged: ArrayLike | None = None,
    cuts: tuple[float | None, float | None] = (None, None),
    bins: int = 60,
    labels: tuple[str, str] = ("", "channels"),
    names: tuple[str, str] = ("good", "flagged"),
) -> Axes:
    """Draw how one value is distributed over the channels, flagged ones apart, with median and robust width.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array, shape (n,)
        Values that are not finite are counted in the text, not drawn.
    flagged : array of bool, shape (n,), optional
        Channels that count neither for the median nor for the width.
    cuts : (float or None, float or None)
        Lines beyond which a value is an outlier; the text says how many are beyond.
    bins : int
        Bins of an axis that a few values far outside do not stretch; those are counted in the text.
    labels : (str, str)
        Of x and y, with units.
    names : (str, str)
        What channels are called that are not flagged, and those that are.
    """
    from firstlight.steps.spread import robust_spread
    from firstlight.view.draw_pixels import robust_range

    array = np.asarray(values, dtype=np.float64).ravel()
    known = np.isfinite(array)
    if not known.any():
        return no_data(ax, "no channel has a value")
    marked = np.zeros(array.size, dtype=bool) if flagged is None else np.asarray(flagged, dtype=bool).ravel()
    good, others = array[known & ~marked], array[known & marked]
    base = good if good.size else others
    middle, spread = float(np.median(base)), robust_spread(base)
    low, high = robust_range(base, 5.0)
    width = high - low
    for cut in cuts:
        # lines near by are shown, those of a wide cut must not make the histogram narrow
        if cut is not None and low - width < cut < high + width:
            low, high = min(low, cut - 0.03 * width), max(high, cut + 0.03 * width)
    edges = np.linspace(low, high, bins + 1)
    counts, counts_others = (np.histogram(part, edges)[0] for part in (good, others))
    ax.axvspan(middle - spread, middle + spread, color=FRAME, alpha=0.13, linewidth=0)
    ax.axvline(middle, color=FRAME, linewidth=1.1)
    ax.stairs(counts, edges, fill=True, color=PALE)
    ax.stairs(counts, edges, color=BLUE, linewidth=1.0, label=f"{names[0]} {good.size:,}")
    if others.size:
        total = counts + counts_others
        ax.stairs(total, edges, baseline=counts, fill=True, color=STATE_COLOURS["hot"], alpha=0.8,
                  label=f"{names[1]} {others.size:,}")  # fmt: skip
    # as many decimals as the width has
    decimals = int(np.clip(2 - np.floor(np.log10(spread)), 0, 6)) if spread > 0 else 4
    lines = [f"median {middle:.{decimals}f}", f"robust width {spread:.3g}"]
    for cut in cuts:
        if cut is not None:
            ax.axvline(cut, color=STATE_COLOURS["hot"], linestyle="--", linewidth=1.1)
    if any(cut is not None for cut in cuts):
        lower = -np.inf if cuts[0] is None else cuts[0]
        upper = np.inf if cuts[1] is None else cuts[1]
        lines.append(f"beyond the cuts {int(((array < lower) | (array > upper)).sum()):,}")
    outside = int(known.sum() - counts.sum() - counts_others.sum())
    if outside:
        lines.append(f"off the scale {outside:,}")
    if not known.all():
        lines.append(f"without a value {int((~known).sum()):,}")
    _text_box(ax, lines)
    top = float((counts + counts_others).max(initial=1))
    ax.set(xlim=(low, high), ylim=(0, 1.42 * top), xlabel=labels[0], ylabel=labels[1])
    ax.legend(loc="upper left")
    return ax


def _text_box(ax: Axes, lines: Sequence[str], *, right: bool = True) -> None:
    box = {"facecolor": "white", "edgecolor": "#c8ced4", "alpha": 0.9, "boxstyle": "round,pad=0.4"}
    style: dict[str, Any] = {"bbox": box, "fontsize": text_size(ax), "ha": "right" if right else "left"}
    ax.text(0.985 if right else 0.015, 0.97, "\n".join(lines), transform=ax.transAxes, va="top", **style)


def draw_trend(
    ax: Axes,
    labels: Sequence[str],
    values: ArrayLike,
    errors: ArrayLike | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    *,
    y_label: str = "",
    named: bool = True,
) -> Axes:
    """Draw one value for each spill, run or file: evenly spaced, in the order given, with labels.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    labels : sequence of str, length n
        What each point is; of many, some are written.
    values : array, shape (n,)
        NaN leaves a gap.
    errors : array, shape (n,), optional
        Standard deviations.
    limits : (float or None, float or None)
        Lines of the accepted range; points outside are red.
    y_label : str
        With the unit.
    named : bool
        Whether labels are written.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).any():
        return no_data(ax, "no value in any of them")
    place = np.arange(array.size)
    spread = None if errors is None else np.asarray(errors, dtype=np.float64)
    ax.errorbar(place, array, spread, fmt="o-", markersize=4, linewidth=0.8, elinewidth=0.9, color=BLUE)
    outside = np.zeros(array.size, dtype=bool)
    for side, limit in enumerate(limits):
        if limit is not None:
            ax.axhline(limit, color=STATE_COLOURS["hot"], linestyle="--", linewidth=1.0)
            outside |= array < limit if side == 0 else array > limit
    ax.plot(place[outside], array[outside], "o", color=STATE_COLOURS["hot"], markersize=6, zorder=3)
    ax.set(xlim=(-0.5, array.size - 0.5), ylabel=y_label)
    name_places(ax, labels if named else [])
    return ax


def name_places(ax: Axes, labels: Sequence[str], most: int = 24) -> None:
    """Write labels at 0, 1, 2 ... along x, evenly thinned to at most `most` of them."""
    step = max(1, -(-len(labels) // most))
    chosen = list(range(0, len(labels), step))
    ax.set_xticks(chosen, [labels[i] for i in chosen])
    long = sum(len(labels[i]) for i in chosen) > 70
    ax.tick_params(axis="x", rotation=90 if long else 0)


def draw_counts_of_counts(
    ax: Axes,
    counts: ArrayLike,
    *,
    labels: tuple[str, str] = ("hits per event", "events per bin"),
    moments: Mapping[str, float] | None = None,
) -> Axes:
    """Draw how many events have how many hits; events without any have a bar of their own.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw; x is logarithmic where the numbers go beyond 100 and span more than a factor 10.
    counts : array of int, shape (n,)
        Events with 0, 1, 2 ... hits.
    labels : (str, str)
        Of x and y.
    moments : mapping, optional
        ``mean``, ``median``, ``std`` of all events for the text box; made from `counts` by default.
    """
    from firstlight.steps.multiplicity import moments as moments_of

    number = np.asarray(counts, dtype=np.int64)
    if not number.sum():
        return no_data(ax, "no events")
    edges, rows = rebin_counts(number[np.newaxis])
    empty = int(number[0])
    ax.stairs(rows[0], edges, fill=True, color=PALE)
    ax.stairs(rows[0], edges, color=BLUE, linewidth=1.0)
    first, log = float(edges[1] - edges[0]), edges[-1] - edges[-2] > 1.5 * (edges[1] - edges[0])
    low, high = float(edges[0]), float(edges[-1])
    # on a logarithmic axis the bar of empty events stands apart
    bar = (low / 2.4, low / 1.4) if log else (low - first, low)
    middle, left = (np.sqrt(bar[0] * bar[1]), bar[0] / 1.5) if log else (np.mean(bar), bar[0] - first)
    ax.fill_between(bar, 0, empty, color=STATE_COLOURS["low"], linewidth=0)
    style: dict[str, Any] = {
        "xytext": (0, 3),
        "textcoords": "offset points",
        "fontsize": 0.85 * text_size(ax),
    }
    ax.annotate(f"no hit:\n{empty:,}", (float(middle), empty), ha="center", va="bottom", **style)
    highest = max(float(rows.max()), empty)
    ax.set(xlim=(left, high), ylim=(0, 1.15 * highest), xlabel=labels[0], ylabel=labels[1])
    if log:
        ax.set_xscale("log")
        ax.set_xticks(*log_ticks(max(low, 1.0), high))
        ax.minorticks_off()
    else:
        ax.locator_params(axis="x", integer=True)
    known = moments_of(number) if moments is None else moments
    names = {"n": "events", "mean": "mean", "median": "median", "std": "std", "maximum": "largest"}
    # the text stands on the side where the histogram is low
    share = np.log(edges / left) / np.log(high / left) if log else (edges - left) / (high - left)
    reach = [float(rows[0][side].max(initial=0)) for side in (share[:-1] < 0.35, share[1:] > 0.65)]
    right = max(reach[0], empty) >= reach[1]
    words = [f"{name} {known[key]:,.6g}" for key, name in names.items() if key in known]
    _text_box(ax, words, right=right)
    return ax


def rebin_counts(counts: NDArray[np.int64]) -> tuple[Values, Values]:
    """Return bins of the numbers 1, 2, 3 ... and the events in them.

    Parameters
    ----------
    counts : ndarray, shape (n_rows, n)
        Events with 0, 1, 2 ... hits.

    Returns
    -------
    edges : ndarray, shape (n_bins + 1,)
        Half-integer edges: equal ones from 1 on, or growing ones where the numbers span more than a factor 10.
    rows : ndarray, shape (n_rows, n_bins)
        Events in each bin.
    """
    filled = np.flatnonzero(counts.sum(axis=0))
    filled = filled[filled > 0]
    low, high = (int(filled[0]), int(filled[-1])) if filled.size else (1, 1)
    if high > max(100, 10 * low):
        # ten bins a decade, none narrower than the one before
        inner = [low]
        width = 1
        while inner[-1] <= high:
            width = max(width, round(inner[-1] * 0.26))
            inner.append(inner[-1] + width)
        starts = np.array(inner)
    else:
        step = -(-high // 60)
        starts = np.arange(1, high + 1 + step, step)
    upto = np.concatenate([np.zeros((counts.shape[0], 1)), np.cumsum(counts, axis=1)], axis=1)
    at = np.minimum(starts, counts.shape[1])
    return starts - 0.5, np.diff(upto[:, at], axis=1)
