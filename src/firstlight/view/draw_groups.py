"""Groups of channels and pairs of runs beside each other: overlaid histograms, profiles, correlations, error budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.steps.spread import robust_spread
from firstlight.view.draw_curves import BLUE, ORANGE
from firstlight.view.draw_fits import text_box, with_error
from firstlight.view.draw_layouts import FRAME, log_bar, no_data, text_size
from firstlight.view.draw_pixels import robust_range
from firstlight.view.style import STATE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = [
    "BUDGET_COLOURS",
    "Budget",
    "draw_budgets",
    "draw_histogram_difference",
    "draw_joint",
    "draw_overlaid",
    "draw_profile",
    "draw_scatter",
]

BUDGET_COLOURS = ("#1f5f99", "#d1662a", "#8a94a0", "#3b8c5a")


@dataclass(frozen=True)
class Budget:
    """One result with its uncertainty in parts.

    Parameters
    ----------
    label : str
        Stands to the left.
    value : float
        The result.
    parts : mapping of str to float
        Standard deviation of each part, in the order of drawing.
    marks : mapping of str to float
        Further values of the same quantity, drawn as open symbols.
    colour : str
        Of the point.
    """

    label: str
    value: float
    parts: Mapping[str, float]
    marks: Mapping[str, float] | None = None
    colour: str = "#20262c"

    @property
    def total(self) -> float:
        """Square root of the sum of the squares of the parts that are known."""
        known = [part for part in self.parts.values() if np.isfinite(part)]
        return float(np.sqrt(np.sum(np.square(known)))) if known else float("nan")


def draw_budgets(
    ax: Axes,
    entries: Sequence[Budget],
    *,
    label: str,
    reference: tuple[float, float, str] | None = None,
    numbers: bool = True,
) -> Axes:
    """Draw results one below the other, each with one bar for every part of its uncertainty and one for all.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    entries : sequence of Budget
        From top to bottom.
    label : str
        Of x, with the unit.
    reference : (float, float, str), optional
        Value, uncertainty and name of something to compare with: a band.
    numbers : bool
        Whether the value stands to the right of the axes.
    """
    known = [entry for entry in entries if np.isfinite(entry.value)]
    if not known:
        return no_data(ax, "no result")
    names = list(dict.fromkeys(name for entry in known for name in entry.parts))
    marked = [(name, value) for entry in known for name, value in (entry.marks or {}).items()]
    marks = list(dict.fromkeys(name for name, value in marked if np.isfinite(value)))
    if reference is not None:
        centre, error, _ = reference
        ax.axvspan(centre - error, centre + error, color="#e7d9a8", alpha=0.6, linewidth=0)
        ax.axvline(centre, color="#a3862b", linewidth=1.2)
    for number, entry in enumerate(known):
        y = len(known) - 1 - number
        _one_budget(ax, entry, y, names, marks)
        if numbers:
            text = with_error(entry.value, entry.total)
            place = ax.get_yaxis_transform()
            ax.text(1.01, y, text, transform=place, va="center", fontsize=0.92 * text_size(ax))
    ax.set_yticks(range(len(known)), [entry.label for entry in reversed(known)])
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(-0.55, len(known) - 0.45), xlabel=label)
    sized = {name for entry in known for name, size in entry.parts.items() if np.isfinite(size)}
    words = [name if name in sized else f"{name}: not known" for name in names]
    ax.legend(handles=_budget_key(words, marks, reference))
    return ax


def _one_budget(ax: Axes, entry: Budget, y: float, names: Sequence[str], marks: Sequence[str]) -> None:
    """Draw the value with the whole uncertainty, and below it one bar for each part."""
    centre = y + (0.2 if names else 0.0)
    if np.isfinite(entry.total):
        ends = [entry.value - entry.total, entry.value + entry.total]
        ax.plot(ends, [centre, centre], color=entry.colour, linewidth=6, alpha=0.18, solid_capstyle="butt")
    ax.plot(entry.value, centre, "o", color=entry.colour, markersize=5.5, zorder=4)
    style: dict[str, Any] = {"capsize": 3, "elinewidth": 1.8, "capthick": 1.4, "fmt": "none"}
    for index, name in enumerate(names):
        size = entry.parts.get(name, float("nan"))
        if np.isfinite(size):
            # an error too small to be seen is still there: as the caps of its bar
            place = y - 0.02 - 0.34 * index / max(len(names) - 1, 1)
            ax.errorbar(entry.value, place, xerr=size, color=BUDGET_COLOURS[index % 4], **style)
    for index, name in enumerate(marks):
        value = (entry.marks or {}).get(name, float("nan"))
        if np.isfinite(value):
            ax.plot(value, centre, _MARKS[index % 4], **_OPEN)


_MARKS = "sD^v"
_OPEN: dict[str, Any] = {
    "markerfacecolor": "white",
    "markeredgecolor": "#20262c",
    "markersize": 6,
    "zorder": 3,
}


def _budget_key(
    names: Sequence[str], marks: Sequence[str], reference: tuple[float, float, str] | None
) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=BUDGET_COLOURS[index % 4], linewidth=1.8, marker="|", markersize=7, label=name)
        for index, name in enumerate(names)
    ]
    if names:
        handles.append(Line2D([], [], color="#20262c", alpha=0.25, linewidth=6, label="all, in quadrature"))
    handles += [
        Line2D([], [], linestyle="none", marker=_MARKS[index % 4], label=name, **_OPEN)
        for index, name in enumerate(marks)
    ]
    if reference is not None:
        handles.append(Patch(facecolor="#efe4bf", edgecolor="#a3862b", label=reference[2]))
    return handles


def draw_overlaid(
    ax: Axes,
    groups: Mapping[str, ArrayLike],
    *,
    limits: tuple[float, float] | None = None,
    bins: int = 50,
    labels: tuple[str, str] = ("", "share of channels"),
    colours: Mapping[str, str] | None = None,
) -> Axes:
    """Draw the distributions of several groups over one another, each normalised to 1.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    groups : mapping of str to array
        Values of each group; those that are not finite are left out, those outside `limits` are counted.
    limits : (float, float), optional
        Ends of the histogram; a robust range of all values by default.
    bins : int
        Number of bins.
    labels : (str, str)
        Of x and y, with units.
    colours : mapping of str to str, optional
        Colour of some groups.
    """
    finite = {name: _finite(values) for name, values in groups.items()}
    finite = {name: values for name, values in finite.items() if values.size}
    if not finite:
        return no_data(ax, "no group has a value")
    low, high = limits or robust_range(np.concatenate(list(finite.values())), 4.5)
    edges = np.linspace(low, high, bins + 1)
    highest = 0.0
    for number, (name, values) in enumerate(finite.items()):
        counts, _ = np.histogram(values, edges)
        share = counts / values.size
        error = values.std() / np.sqrt(values.size)
        words = f"{name}: {with_error(float(values.mean()), float(error))}  (n {values.size:,})"
        outside = values.size - int(counts.sum())
        words += f", {outside:,} outside" if outside else ""
        style: dict[str, Any] = {"linewidth": 1.4, "linestyle": "-" if number < 3 else "--"}
        ax.stairs(share, edges, color=(colours or {}).get(name, f"C{number % 8}"), label=words, **style)
        highest = max(highest, float(share.max()))
    ax.set(xlim=(low, high), xlabel=labels[0], ylabel=labels[1])
    ax.set_ylim(0, highest * (1.12 + 0.11 * len(finite)))
    ax.legend(loc="upper left", title="mean ± its error", alignment="left")
    return ax


def draw_histogram_difference(
    ax: Axes,
    first: ArrayLike,
    second: ArrayLike,
    *,
    limits: tuple[float, float] | None = None,
    bins: int = 50,
    labels: tuple[str, str] = ("", "difference of shares"),
) -> Axes:
    """Draw the difference of two normalised histograms with its Poisson errors, and chi2 for no difference.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    first, second : array
        Values; those that are not finite are left out.
    limits, bins, labels
        As of `draw_overlaid`.
    """
    one, two = _finite(first), _finite(second)
    if not one.size or not two.size:
        return no_data(ax, "one of the groups has no value")
    low, high = limits or robust_range(np.concatenate([one, two]), 4.5)
    edges = np.linspace(low, high, bins + 1)
    counts = [np.histogram(values, edges)[0] for values in (one, two)]
    difference = counts[0] / one.size - counts[1] / two.size
    variance = counts[0] / one.size**2 + counts[1] / two.size**2
    middle = (edges[1:] + edges[:-1]) / 2
    ax.axhline(0, color=FRAME, linewidth=0.9)
    ax.errorbar(middle, difference, np.sqrt(variance), fmt="o", markersize=3, elinewidth=0.9, color=BLUE)
    filled = variance > 0
    chi2 = float(np.sum(difference[filled] ** 2 / variance[filled]))
    text_box(ax, [f"χ² {chi2:.1f} in {int(filled.sum()) - 1} bins"], size=0.9)
    reach = 1.5 * float(np.max(np.abs(difference) + np.sqrt(variance)))
    ax.set(xlim=(low, high), ylim=(-reach, reach), xlabel=labels[0], ylabel=labels[1])
    return ax


def _finite(values: ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def draw_joint(
    ax: Axes,
    first: ArrayLike,
    second: ArrayLike,
    *,
    labels: tuple[str, str],
    bins: int = 90,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    equal: bool = True,
    colour_label: str = "channels",
) -> Axes:
    """Draw one value of each channel against another one, as a density, with the line of equality.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    first, second : array, shape (n,)
        Pairs; those with a value that is not finite are left out.
    labels : (str, str)
        Of x and y, with units.
    bins : int
        Bins of each axis.
    limits : ((float, float), (float, float)), optional
        Of x and y; robust ranges by default, values outside are counted.
    equal : bool
        Whether the line y = x is drawn where it crosses the axes; the line of the best fit is drawn always.
    colour_label : str
        What the colours count.
    """
    from matplotlib.colors import LogNorm

    x, y = np.asarray(first, dtype=np.float64).ravel(), np.asarray(second, dtype=np.float64).ravel()
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if x.size < 3:
        return no_data(ax, "fewer than three channels have both values")
    x_range, y_range = limits or (robust_range(x, 5.0), robust_range(y, 5.0))
    counts = np.histogram2d(x, y, bins, (x_range, y_range))[0]
    shown = np.ma.masked_equal(counts.T, 0)
    high = max(float(counts.max()), 2.0)
    drawn = ax.imshow(
        shown, origin="lower", aspect="auto", extent=(*x_range, *y_range),
        norm=LogNorm(1, high), cmap="viridis_r", interpolation="none",
    )  # fmt: skip
    bar = ax.figure.colorbar(drawn, ax=ax, pad=0.02, label=f"{colour_label} per bin")
    bar.outline.set_visible(False)
    log_bar(bar, 1, high)
    inside = (x >= x_range[0]) & (x <= x_range[1]) & (y >= y_range[0]) & (y <= y_range[1])
    correlation = float(np.corrcoef(x[inside], y[inside])[0, 1]) if inside.sum() > 2 else float("nan")
    ends = np.array(x_range)
    if equal and x_range[0] < y_range[1] and y_range[0] < x_range[1]:
        ax.plot(ends, ends, color="#20262c", linewidth=1.0, linestyle=(0, (4, 2)), label="equal")
    ratio = float(np.median(y[inside]) / np.median(x[inside])) if inside.any() else float("nan")
    ax.plot(ends, ratio * ends, color=ORANGE, linewidth=1.2, label=f"ratio of medians {ratio:.4f}")
    lines = [f"n {x.size:,}", f"correlation {correlation:.3f}", f"off the scale: {int((~inside).sum()):,}"]
    text_box(ax, lines, top=False)
    ax.set(xlim=x_range, ylim=y_range, xlabel=labels[0], ylabel=labels[1])
    ax.legend(loc="upper left")
    return ax


def draw_scatter(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    errors: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    common: ArrayLike | None = None,
    marked: ArrayLike | None = None,
    labels: tuple[str, str],
    line: float | None = None,
    name: str = "",
) -> Axes:
    """Draw one value of each channel against another one as points, with their correlation and the size of the errors.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    x, y : array, shape (n,)
        Pairs; those with a value that is not finite are left out.
    errors : (array or None, array or None)
        Standard errors of x and y: the median ones are drawn as a cross. The text tells the correlation that values without
        errors would have.
    common : array, shape (n,), optional
        Covariance of the errors of x and y, where both are of one fit.
    marked : array of bool, shape (n,), optional
        Channels that are drawn in red, and count for nothing.
    labels : (str, str)
        Of x and y, with units.
    line : float, optional
        Slope of a line through the origin: 1 for equality.
    name : str
        Of that line, for the legend.
    """
    across, up = (np.asarray(part, dtype=np.float64).ravel() for part in (x, y))
    both = np.isfinite(across) & np.isfinite(up)
    red = np.zeros(both.size, dtype=bool) if marked is None else np.asarray(marked, dtype=bool).ravel()
    used = both & ~red
    if used.sum() < 3:
        return no_data(ax, "fewer than three channels have both values")
    x_range, y_range = (_wider(robust_range(part[used], 5.0)) for part in (across, up))
    ax.plot(across[used], up[used], "o", markersize=2.6, color=BLUE, alpha=0.45, markeredgewidth=0)
    ax.plot(
        across[both & red],
        up[both & red],
        "o",
        markersize=4.5,
        color=STATE_COLOURS["hot"],
        markerfacecolor="none",
    )
    own = [_part(one, used) for one in errors]
    lines = [f"n {int(used.sum()):,}", *_correlations(across[used], up[used], own, _part(common, used))]
    widths = [np.nan if one is None else _median_of_known(one) for one in own]
    if np.isfinite(widths).any():
        place = (x_range[1] - 0.1 * (x_range[1] - x_range[0]), y_range[0] + 0.1 * (y_range[1] - y_range[0]))
        cross = [width if np.isfinite(width) else None for width in widths]
        ax.errorbar(
            *place, xerr=cross[0], yerr=cross[1], color="#20262c", elinewidth=1.3, capsize=2.5, zorder=4
        )
    if line is not None:
        ends = np.array(x_range)
        ax.plot(ends, line * ends, color=ORANGE, linewidth=1.2, label=name or None)
        if name:
            ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.16), fontsize=0.9 * text_size(ax))
    inside = (across >= x_range[0]) & (across <= x_range[1]) & (up >= y_range[0]) & (up <= y_range[1])
    outside = int((both & ~inside).sum())
    text_box(ax, [*lines, f"off the scale: {outside:,}"] if outside else lines, right=False, size=0.9)
    ax.set(xlim=x_range, ylim=y_range, xlabel=labels[0], ylabel=labels[1])
    return ax


def _wider(limits: tuple[float, float]) -> tuple[float, float]:
    margin = 0.06 * (limits[1] - limits[0])
    return limits[0] - margin, limits[1] + margin


def _part(values: ArrayLike | None, where: NDArray[np.bool_]) -> Values | None:
    return None if values is None else np.asarray(values, dtype=np.float64).ravel()[where]


def _median_of_known(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _correlations(x: Values, y: Values, errors: Sequence[Values | None], common: Values | None) -> list[str]:
    """Return the correlation of the bulk as words, and that of the true values: errors hide or feign a part of it."""
    bulk = np.ones(x.size, dtype=bool)
    for values in (x, y):
        bulk &= np.abs(values - np.median(values)) <= 5 * max(robust_spread(values), 1e-30)
    if bulk.sum() < 3 or not (x[bulk].std() > 0 and y[bulk].std() > 0):
        return []
    covariance = np.cov(x[bulk], y[bulk])
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    error = (1 - correlation**2) / np.sqrt(bulk.sum())
    found = [f"correlation {correlation:+.3f} ± {error:.3f}".replace("-", "−")]
    if all(one is None for one in errors):
        return found
    left = [
        covariance[k, k] - (0.0 if one is None else np.nan_to_num(_median_of_known(one[bulk])) ** 2)
        for k, one in enumerate(errors)
    ]
    shared = 0.0 if common is None else np.nan_to_num(_median_of_known(common[bulk]))
    if min(left[0] / covariance[0, 0], left[1] / covariance[1, 1]) < 0.05:
        return [*found, "all of the spread is errors"]
    true = (covariance[0, 1] - shared) / np.sqrt(left[0] * left[1])
    return [*found, f"without errors {np.clip(true, -1, 1):+.2f}".replace("-", "−")]


def draw_profile(
    ax: Axes,
    positions: ArrayLike,
    values: ArrayLike,
    *,
    labels: tuple[str, str],
    marked: tuple[ArrayLike, str, str] | None = None,
) -> Axes:
    """Draw the mean of the values at every position with its error: by row, by column.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    positions : array of int, shape (n,)
        Row or column of each channel, from 0.
    values : array, shape (n,)
        Those that are not finite are left out.
    labels : (str, str)
        Of x and y, with units.
    marked : (array of bool, str, str), optional
        For each position whether its point has another colour, and what both colours are.
    """
    place, array = np.asarray(positions, dtype=np.int64).ravel(), np.asarray(values, dtype=np.float64).ravel()
    used = np.isfinite(array)
    if not used.any():
        return no_data(ax, "no channel has a value")
    size = int(place.max()) + 1
    n = np.bincount(place[used], minlength=size)
    mean, error = _mean_and_error(place[used], array[used], n)
    x = np.arange(size)
    flagged = np.zeros(size, dtype=bool) if marked is None else np.asarray(marked[0], dtype=bool)
    style: dict[str, Any] = {"fmt": "o", "markersize": 2.6, "elinewidth": 0.7}
    overall = float(array[used].mean())
    ax.axhline(overall, color=FRAME, linewidth=0.9)
    name = None if marked is None else marked[2]
    ax.errorbar(x[~flagged], mean[~flagged], error[~flagged], color=BLUE, label=name, **style)
    if marked is not None and flagged.any():
        ax.errorbar(x[flagged], mean[flagged], error[flagged], color=ORANGE, label=marked[1], **style)
        ax.legend(loc="upper right", ncols=2)
    # positions with few channels scatter far: they do not set the scale
    many = n >= 0.3 * np.median(n[n > 0])
    low, high = robust_range(mean[many], 5.0)
    margin = 0.35 * (high - low)
    low, high = low - margin, high + margin
    pulls = (mean[many] - overall) / np.maximum(error[many], 1e-30)
    text_box(ax, [f"χ²/ndf about the mean {float(np.mean(pulls**2)):.2f}"], right=False, size=0.9)
    outside = int(((mean < low) | (mean > high)).sum())
    if outside:
        text_box(ax, [f"off the scale: {outside}"], right=False, top=False, size=0.9)
    ax.set(xlim=(-1, size), ylim=(low, high), xlabel=labels[0], ylabel=labels[1])
    return ax


def _mean_and_error(place: NDArray[np.int64], array: Values, n: NDArray[np.int64]) -> tuple[Values, Values]:
    """Return mean and its standard error at each position; NaN without a channel."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(place, array, minlength=n.size) / n
        square = np.bincount(place, (array - mean[place]) ** 2, minlength=n.size)
        return mean, np.sqrt(square / np.maximum(n - 1, 1) / n)
