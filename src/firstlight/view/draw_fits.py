"""Fits and whether they are good: points with a curve, residuals, pulls, p-values, normal probability plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from firstlight.view.draw_curves import BLUE, ORANGE, PALE
from firstlight.view.draw_layouts import FRAME, no_data, text_size
from firstlight.view.style import STATE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = [
    "QuantileLine",
    "add_top_axis",
    "draw_differences",
    "draw_fit",
    "draw_p_values",
    "draw_pulls",
    "draw_quantiles",
    "poisson_interval",
    "text_box",
    "with_error",
]


class QuantileLine(NamedTuple):
    """Straight line of a normal probability plot.

    Parameters
    ----------
    mean, sigma : float
        Where the line is at 0 and how steep: mean and standard deviation of the normal distribution that
        the middle of the values follows.
    correlation : float
        Of the ordered values and the normal quantiles; 1 for normal values.
    """

    mean: float
    sigma: float
    correlation: float


def text_box(
    ax: Axes, lines: Sequence[str], *, right: bool = True, top: bool = True, size: float = 1.0
) -> None:
    """Write lines into a corner of an axes; `size` is relative to its labels."""
    box = {"facecolor": "white", "edgecolor": "#c8ced4", "alpha": 0.9, "boxstyle": "round,pad=0.4"}
    ax.text(
        0.985 if right else 0.015,
        0.97 if top else 0.03,
        "\n".join(lines),
        transform=ax.transAxes,
        va="top" if top else "bottom",
        ha="right" if right else "left",
        multialignment="left",
        bbox=box,
        fontsize=size * text_size(ax),
        zorder=5,
    )


def with_error(value: float, error: float) -> str:
    """Return a value and its error with two digits of the error: ``13.58 ± 0.27``; the value alone without one."""
    if not np.isfinite(value):
        return "not known"
    if not (np.isfinite(error) and error > 0):
        return f"{value:.6g}".replace("-", "−")
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    if digits > 7:
        return f"{value:.6g} ± {error:.2g}".replace("-", "−")
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def poisson_interval(counts: ArrayLike, level: float = 0.6827) -> Values:
    """Return the distance from Poisson counts to the ends of their central interval.

    Parameters
    ----------
    counts : array, shape (n,)
        Counts; also 0, whose interval reaches to 1.84.
    level : float
        Confidence level.

    Returns
    -------
    ndarray, shape (2, n)
        Downwards and upwards (Garwood 1936).
    """
    from scipy.special import gammaincinv

    number = np.asarray(counts, dtype=np.float64)
    tail = (1 - level) / 2
    low = np.where(number > 0, gammaincinv(np.maximum(number, 1e-9), tail), 0.0)
    return np.stack([number - low, gammaincinv(number + 1, 1 - tail) - number])


def add_top_axis(ax: Axes, scale: float, offset: float, label: str) -> None:
    """Add an axis above that shows ``scale * (x - offset)``, such as electrons above a threshold in DAC."""
    if not (np.isfinite(scale) and np.isfinite(offset)) or scale == 0:
        return

    def forward(x: Any) -> Any:
        return scale * (np.asarray(x) - offset)

    def back(y: Any) -> Any:
        return np.asarray(y) / scale + offset

    above = ax.secondary_xaxis("top", functions=(forward, back))
    above.set_xlabel(label, fontsize=text_size(ax))
    above.tick_params(labelsize=text_size(ax))
    above.spines["top"].set_visible(True)


def draw_fit(
    ax: Axes,
    x: ArrayLike,
    values: ArrayLike,
    errors: ArrayLike | None = None,
    *,
    curve: tuple[ArrayLike, ArrayLike] | None = None,
    labels: tuple[str, str] = ("", ""),
    names: tuple[str, str] = ("data", "fit"),
    colour: str = BLUE,
    curve_colour: str = ORANGE,
    log: bool = False,
    legend: bool = True,
    dashed: bool = False,
) -> Axes:
    """Draw points with errors, and the curve fitted to them.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    x, values : array, shape (n,)
        NaN leaves a point out.
    errors : array, shape (n,) or (2, n), optional
        Standard deviations, or distances downwards and upwards.
    curve : (array, array), optional
        x and y of the curve, any number of points.
    labels : (str, str)
        Of x and y, with units.
    names : (str, str)
        Of points and curve in the legend.
    colour, curve_colour : str
        Of points and curve.
    log : bool
        Logarithmic y.
    legend : bool
        Whether there is one.
    dashed : bool
        Whether the curve is dashed, as that of a fit that did not converge.
    """
    place, height = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if not np.isfinite(height).any():
        return no_data(ax, "no point has a value")
    spread = None if errors is None else np.asarray(errors, dtype=np.float64)
    many = place.size > 60
    style: dict[str, Any] = {"markersize": 2.4 if many else 4.0, "elinewidth": 0.8, "color": colour}
    ax.errorbar(place, height, spread, fmt="o", label=names[0], zorder=2, **style)
    if curve is not None:
        line: dict[str, Any] = {"color": curve_colour, "linewidth": 1.6, "linestyle": "--" if dashed else "-"}
        ax.plot(np.asarray(curve[0]), np.asarray(curve[1]), label=names[1], zorder=3, **line)
    margin = 0.02 * (np.nanmax(place) - np.nanmin(place)) or 0.5
    ax.set(xlim=(np.nanmin(place) - margin, np.nanmax(place) + margin), xlabel=labels[0], ylabel=labels[1])
    positive = height[height > 0]
    if log and positive.size:
        ax.set_yscale("log")
        ax.set_ylim(0.5 * positive.min(), 2.0 * positive.max())
    else:
        ax.set_ylim(bottom=min(0.0, 1.1 * float(np.nanmin(height))))
    if legend:
        ax.legend(loc="best")
    return ax


def draw_differences(
    ax: Axes,
    x: ArrayLike,
    values: ArrayLike,
    fitted: ArrayLike,
    errors: ArrayLike,
    *,
    pulls: bool = False,
    labels: tuple[str, str] = ("", ""),
) -> Axes:
    """Draw residuals (value - fit) with their errors, or pulls (residual / error).

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    x, values, fitted, errors : array, shape (n,)
        Points whose error is not positive have no pull; the errors of residuals may be (2, n).
    pulls : bool
        Pulls, with a band of one standard deviation, instead of residuals.
    labels : (str, str)
        Of x and y, with units.
    """
    place = np.asarray(x, dtype=np.float64)
    residual = np.asarray(values, dtype=np.float64) - np.asarray(fitted, dtype=np.float64)
    spread = np.asarray(errors, dtype=np.float64)
    ax.axhline(0.0, color=FRAME, linewidth=0.9, zorder=1)
    size = 2.4 if place.size > 60 else 4.0
    if pulls:
        usable = np.isfinite(residual) & (spread > 0)
        shown = residual[usable] / spread[usable]
        ax.axhspan(-1, 1, color=PALE, alpha=0.55, linewidth=0)
        ax.vlines(place[usable], 0, shown, color=BLUE, linewidth=0.8)
        ax.plot(place[usable], shown, "o", color=BLUE, markersize=size)
        top = max(3.2, 1.15 * float(np.abs(shown).max(initial=0.0)))
        ax.set_ylim(-top, top)
    else:
        ax.errorbar(place, residual, spread, fmt="o", markersize=size, elinewidth=0.8, color=BLUE)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    return ax


def draw_pulls(
    ax: Axes,
    pulls: ArrayLike,
    *,
    bins: int = 20,
    reach: float = 10.0,
    labels: tuple[str, str] = ("pull", "channels"),
    inside: float = 3.0,
    notes: Sequence[str] = (),
    marked: tuple[ArrayLike, str] | None = None,
    normal: bool = True,
) -> Axes:
    """Draw how pulls are distributed, with the unit normal distribution, and say how many are near 0.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    pulls : array, shape (n,)
        Those that are not finite are left out.
    bins : int
        Bins in +-`reach`; what is outside is counted in the text.
    reach : float
        Largest pull that is drawn.
    labels : (str, str)
        Of x and y.
    inside : float
        The text says which share is within this many standard deviations.
    notes : sequence of str
        Further lines of the text.
    marked : (array of bool, str), optional
        A part of the pulls to fill, and its name.
    normal : bool
        Whether the unit normal distribution is drawn, scaled to the number of pulls.
    """
    array = np.asarray(pulls, dtype=np.float64).ravel()
    finite = array[np.isfinite(array)]
    if not finite.size:
        return no_data(ax, "no channel has a pull")
    edges = np.linspace(-reach, reach, bins + 1)
    counts, _ = np.histogram(finite, edges)
    ax.stairs(counts, edges, fill=marked is None, color=PALE)
    ax.stairs(counts, edges, color=BLUE, linewidth=1.0, label="all" if marked is not None else None)
    lines = [
        f"n {finite.size:,}",
        f"mean {finite.mean():+.3f}".replace("-", "−"),
        f"std {finite.std():.3g}",
        f"within {inside:g}σ: {_percent(np.abs(finite) < inside)}",
    ]
    if marked is not None:
        part = array[np.asarray(marked[0], dtype=bool).ravel() & np.isfinite(array)]
        ax.stairs(np.histogram(part, edges)[0], edges, fill=True, color=ORANGE, alpha=0.6, label=marked[1])
        lines.append(f"  of {marked[1]}: {_percent(np.abs(part) < inside)}")
    if normal:
        x = np.linspace(-reach, reach, 401)
        bell = finite.size * (edges[1] - edges[0]) * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
        ax.plot(x, bell, color="#20262c", linewidth=1.0, linestyle=(0, (4, 2)), label="unit normal")
    if normal or marked is not None:
        ax.legend(loc="upper left")
    outside = int(finite.size - counts.sum())
    if outside:
        lines.append(f"beyond ±{reach:g}: {outside:,}")
    for side in (-inside, inside):
        ax.axvline(side, color=FRAME, linewidth=0.8, linestyle=":")
    text_box(ax, [*lines, *notes])
    ax.set(xlim=(-reach, reach), xlabel=labels[0], ylabel=labels[1])
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    return ax


def _percent(where: NDArray[np.bool_]) -> str:
    return f"{100 * where.mean():.1f} %" if where.size else "–"


def draw_p_values(
    ax: Axes, p_values: ArrayLike, *, bins: int = 50, limit: float = 0.05, y_label: str = "channels"
) -> Axes:
    """Draw p-values of fits, which are spread evenly where model and errors are right.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    p_values : array, shape (n,)
        Those that are not finite are left out.
    bins : int
        Bins of 0 .. 1.
    limit : float
        The text says which share is below.
    y_label : str
        What is counted.
    """
    array = np.asarray(p_values, dtype=np.float64).ravel()
    finite = array[np.isfinite(array)]
    if not finite.size:
        return no_data(ax, "no fit has a p-value")
    counts, edges = np.histogram(finite, bins=bins, range=(0.0, 1.0))
    level = finite.size / bins
    ax.stairs(counts, edges, fill=True, color=PALE)
    ax.stairs(counts, edges, color=BLUE, linewidth=1.0)
    ax.axhline(level, color="#20262c", linestyle=(0, (4, 2)), linewidth=1.1, label="even: expected")
    band = np.sqrt(level)
    ax.axhspan(level - band, level + band, color="#20262c", alpha=0.12, linewidth=0)
    found, error = float((finite < limit).mean()), float(np.sqrt(limit * (1 - limit) / finite.size))
    lines = [
        f"fits {finite.size:,}",
        f"below {limit:g}: {100 * found:.2f} %",
        f"expected {100 * limit:g} ± {100 * error:.2f} %",
    ]
    text_box(ax, lines)
    ax.set(xlim=(0, 1), xlabel="p-value of the fit", ylabel=y_label)
    ax.set_ylim(0, max(1.5 * level, min(1.3 * counts.max(), 6 * level)))
    if counts.max() > 6 * level:
        text = f"first bin: {counts[0]:,}"
        ax.text(0.03, 0.9, text, transform=ax.transAxes, color=STATE_COLOURS["hot"], fontsize=text_size(ax))
    ax.legend(loc="lower right")
    return ax


def draw_quantiles(
    ax: Axes, values: ArrayLike, *, labels: tuple[str, str] = ("normal quantile", ""), most: int = 3000
) -> QuantileLine | None:
    """Draw ordered values against the quantiles of the normal distribution, with a line.

    Normal values lie on the line, whose height at 0 is their mean and whose slope their standard deviation.
    It goes through the values between the quantiles 5 % and 95 %, so that tails do not tilt it.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array, shape (n,)
        Those that are not finite are left out.
    labels : (str, str)
        Of x and y, with units.
    most : int
        Of more points than this those in the middle are thinned out; tails are always drawn in full.

    Returns
    -------
    QuantileLine or None
        The line; None where there are less than 3 values.
    """
    from scipy.special import ndtri

    array = np.asarray(values, dtype=np.float64).ravel()
    ordered = np.sort(array[np.isfinite(array)])
    n = ordered.size
    if n < 3 or ordered[0] == ordered[-1]:
        no_data(ax, "fewer than three different values")
        return None
    # medians of the order statistics (Filliben 1975)
    share = (np.arange(1, n + 1) - 0.3175) / (n + 0.365)
    share[0], share[-1] = 1 - 0.5 ** (1 / n), 0.5 ** (1 / n)
    quantile = np.asarray(ndtri(share))
    middle = (share > 0.05) & (share < 0.95) if n >= 40 else np.ones(n, dtype=bool)
    sigma, mean = (float(value) for value in np.polyfit(quantile[middle], ordered[middle], 1))
    line = QuantileLine(mean, sigma, float(np.corrcoef(quantile, ordered)[0, 1]))
    shown = np.arange(n)
    if n > most:
        tail = most // 4
        shown = np.unique(np.r_[:tail, np.linspace(tail, n - tail, most // 2).astype(np.int64), n - tail : n])
    ax.plot(quantile[shown], ordered[shown], ".", color=BLUE, markersize=3.5, label="values")
    ends = quantile[[0, -1]] * 1.05
    ax.plot(ends, mean + sigma * ends, color=ORANGE, linewidth=1.4, label=f"line: {mean:.5g} + {sigma:.3g} z")
    ax.set(xlabel=labels[0], ylabel=labels[1])
    # values far outside would hide the shape of all others
    low, high = mean - 1.5 * sigma * abs(ends[0]), mean + 1.5 * sigma * abs(ends[1])
    outside = int(((ordered < low) | (ordered > high)).sum())
    ax.set_ylim(max(low, ordered[0] - 0.3 * sigma), min(high, ordered[-1] + 0.3 * sigma))
    lines = [f"n {n:,}", f"correlation {line.correlation:.4f}"]
    text_box(ax, [*lines, f"off the scale: {outside:,}"] if outside else lines, top=False)
    ax.legend(loc="upper left")
    return line
