"""One quantity against another as a density, with its profile and the curve that describes it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from firstlight.view.draw_curves import ORANGE
from firstlight.view.draw_layouts import log_bar, no_data, text_size
from firstlight.view.draw_pixels import robust_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = ["Profile", "draw_density", "profile_of"]

_EFFICIENCY_OF_MEDIAN = 1.2533  # error of a median over that of a mean, normal values


class Profile(NamedTuple):
    """Median of y in bins of x.

    Parameters
    ----------
    centre : ndarray, shape (n,)
        Mean x of the bin.
    median : ndarray, shape (n,)
        Median y.
    error : ndarray, shape (n,)
        Statistical error of the median.
    spread : ndarray, shape (n,)
        Half of the interval between the quantiles 15.9 % and 84.1 %.
    number : ndarray of int, shape (n,)
        Entries of the bin.
    """

    centre: Values
    median: Values
    error: Values
    spread: Values
    number: NDArray[np.int64]


def profile_of(x: ArrayLike, y: ArrayLike, *, bins: int = 20, least: int = 10) -> Profile:
    """Return the median of y in bins of x; tails of y do not pull it.

    Parameters
    ----------
    x, y : array, shape (n,)
        Pairs; those with a value that is not finite are left out.
    bins : int
        Bins of equal width between the quantiles 0.5 % and 99.5 % of x.
    least : int
        Bins with fewer entries are left out.
    """
    across, up = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    both = np.isfinite(across) & np.isfinite(up)
    across, up = across[both], up[both]
    if across.size < least:
        nothing = np.empty(0)
        return Profile(nothing, nothing, nothing, nothing, np.empty(0, dtype=np.int64))
    low, high = np.quantile(across, (0.005, 0.995))
    if not low < high:
        low, high = low - 0.5, high + 0.5
    place = np.clip(np.floor((across - low) / (high - low) * bins), -1, bins).astype(np.int64)
    place[(across >= low) & (across <= high) & (place == bins)] = bins - 1
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(bins + 1))
    rows = []
    for first, last in pairwise(ends):
        chosen = order[first:last]
        if chosen.size < least:
            continue
        lower, median, upper = np.quantile(up[chosen], (0.1587, 0.5, 0.8413))
        spread = 0.5 * (upper - lower)
        error = _EFFICIENCY_OF_MEDIAN * spread / np.sqrt(chosen.size)
        rows.append((across[chosen].mean(), median, error, spread, chosen.size))
    table = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Profile(table[0], table[1], table[2], table[3], table[4].astype(np.int64))


def draw_density(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    labels: tuple[str, str],
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    bins: tuple[int, int] = (80, 80),
    profile: int = 0,
    curve: tuple[ArrayLike, ArrayLike] | None = None,
    band: ArrayLike | None = None,
    names: tuple[str, str] = ("median", "fit"),
    colour_label: str = "hits per bin",
    colour_axes: Axes | None = None,
    bar: bool = True,
    legend: bool = True,
) -> Axes:
    """Draw pairs of values as a density with logarithmic colours, their profile, and a curve with its band.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    x, y : array, shape (n,)
        Pairs; those with a value that is not finite are left out, those outside are counted in a corner.
    labels : (str, str)
        Of x and y, with units.
    limits : ((float, float), (float, float)), optional
        Of x and y; robust ranges by default.
    bins : (int, int)
        Bins of x and y.
    profile : int
        Bins of the profile of medians with their errors; none for 0.
    curve : (array, array), optional
        x and y of a curve.
    band : array, optional
        Uncertainty of the curve at each of its points.
    names : (str, str)
        Of profile and curve in the legend.
    colour_label : str
        What the colours count.
    colour_axes : matplotlib Axes, optional
        Where the colour bar stands; beside `ax` by default.
    bar : bool
        Whether there is a colour bar.
    legend : bool
        Whether profile and curve are named.
    """
    across, up = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    both = np.isfinite(across) & np.isfinite(up)
    if not both.all():
        across, up = across[both], up[both]
    if not across.size:
        if colour_axes is not None:
            colour_axes.set_axis_off()
        return no_data(ax, "no pair of values")
    x_range, y_range = limits or (robust_range(across, 5.0), robust_range(up, 5.0))
    counts = np.histogram2d(across, up, bins, (x_range, y_range))[0]
    outside = int(across.size - counts.sum())
    _show(ax, counts, x_range, y_range, colour_label, bar, colour_axes)
    if profile:
        found = profile_of(across, up, bins=profile)
        style: dict[str, Any] = {"fmt": "o", "markersize": 3.6, "elinewidth": 1.1, "color": "#16191d"}
        ax.errorbar(found.centre, found.median, found.error, label=names[0], zorder=4, **style)
    if curve is not None:
        place, height = (np.asarray(part, dtype=np.float64) for part in curve)
        if band is not None:
            width = np.asarray(band, dtype=np.float64)
            ax.fill_between(
                place, height - width, height + width, color=ORANGE, alpha=0.35, linewidth=0, zorder=3
            )
        ax.plot(place, height, color=ORANGE, linewidth=1.6, label=names[1], zorder=3.5)
    if outside:
        ax.text(
            0.985, 0.015, f"off the scale: {outside:,}", transform=ax.transAxes, ha="right", va="bottom",
            fontsize=0.85 * text_size(ax), color="#3a4149",
        )  # fmt: skip
    ax.set(xlim=x_range, ylim=y_range, xlabel=labels[0], ylabel=labels[1])
    if legend and (profile or curve is not None):
        ax.legend(loc="upper right", fontsize=0.9 * text_size(ax))
    return ax


def _show(
    ax: Axes,
    counts: Values,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    label: str,
    bar: bool,
    colour_axes: Axes | None,
) -> None:
    from matplotlib.colors import LogNorm

    high = max(float(counts.max()), 2.0)
    drawn = ax.imshow(
        np.ma.masked_equal(counts.T, 0), origin="lower", aspect="auto", extent=(*x_range, *y_range),
        norm=LogNorm(0.8, high), cmap="YlGnBu", interpolation="none",
    )  # fmt: skip
    if not bar:
        return
    places: dict[str, Any] = {"ax": ax, "pad": 0.02} if colour_axes is None else {"cax": colour_axes}
    drawn_bar = ax.figure.colorbar(drawn, label=label, **places)
    drawn_bar.outline.set_visible(False)
    log_bar(drawn_bar, 0.8, high)
    size = text_size(ax)
    drawn_bar.ax.tick_params(labelsize=0.9 * size)
    drawn_bar.ax.yaxis.label.set_fontsize(size)
