"""Distributions over the pixels: parameters, discrepancies, probability plots, groups, profiles, fit quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.velo.views.scene import EXPECTED_GAIN, groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = [
    "draw_discrepancy",
    "draw_distribution",
    "draw_fit_quality",
    "draw_gain",
    "draw_groups",
    "draw_probability_plots",
    "draw_profiles",
]

_ALL, _GOOD = "#b8c0c9", "#1f5f99"
_SIZE = 11.0
_LINES = ("#d1662a", "#20262c", "#3b8c5a", "#8e5ba6")


def draw_distribution(
    values: ArrayLike,
    *,
    label: str,
    title: str,
    good: ArrayLike | None = None,
    lines: Mapping[str, tuple[float, float]] | None = None,
    electrons_per_dac: float = float("nan"),
    zero: float = 0.0,
    limits: tuple[float, float] | None = None,
    bins: int = 80,
    about: str = "",
) -> Canvas:
    """Draw how one value is distributed over the pixels: all fitted ones, and those with a good fit.

    Parameters
    ----------
    values : array
        NaN where there is none.
    label : str
        Of x, with the unit.
    title : str
        What it is.
    good : array of bool, same shape, optional
        Pixels with a good fit.
    lines : mapping of str to (float, float), optional
        Value and uncertainty of vertical lines: ``{"ASIC": (1541.2, 0.1)}``; those that are NaN are left out.
    electrons_per_dac, zero : float
        For an axis in electrons above, ``electrons_per_dac * (x - zero)``; none where NaN.
    limits : (float, float), optional
        Ends of the histogram; a range that outliers do not stretch by default.
    bins : int
        Number of bins.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_fits import add_top_axis

    above = 0.55 if np.isfinite(electrons_per_dac) else 0.0
    canvas = draw.sheet(7.4, 4.9 + above)
    _heading(canvas, title, about)
    ax = draw.place(canvas, 0.95, 0.68, 0.25, 0.8 + above, _SIZE)
    _histogram(ax, values, good, limits, bins, lines or {})
    ax.set(xlabel=label, ylabel="pixels")
    if above:
        add_top_axis(ax, electrons_per_dac, zero, f"electrons at {electrons_per_dac:.2f} e⁻/DAC")
    return canvas


def _heading(canvas: Canvas, title: str, about: str) -> None:
    height = canvas.get_size_inches()[1]
    canvas.text(0.02, 1 - 0.1 / height, title, fontsize=_SIZE + 2, weight="bold", va="top")
    canvas.text(0.02, 1 - 0.38 / height, about, fontsize=_SIZE - 1, color="#3a4149", va="top")


def _histogram(
    ax: Axes,
    values: ArrayLike,
    good: ArrayLike | None,
    limits: tuple[float, float] | None,
    bins: int,
    lines: Mapping[str, tuple[float, float]],
) -> None:
    from firstlight.view.draw import no_data
    from firstlight.view.draw_fits import text_box, with_error

    array = np.asarray(values, dtype=np.float64).ravel()
    finite = array[np.isfinite(array)]
    if not finite.size:
        no_data(ax, "no pixel has a value")
        return
    chosen = np.ones(array.size, dtype=bool) if good is None else np.asarray(good, dtype=bool).ravel()
    of_good = array[chosen & np.isfinite(array)]
    low, high = limits or _range(of_good if of_good.size else finite, lines)
    edges = np.linspace(low, high, bins + 1)
    counts = np.histogram(finite, edges)[0]
    words = []
    if good is not None:
        ax.stairs(counts, edges, fill=True, color=_ALL, label="all fitted")
        words += _numbers("all fitted", finite, low, high)
    inner = np.histogram(of_good, edges)[0]
    ax.stairs(inner, edges, fill=True, color=_GOOD, alpha=0.35)
    ax.stairs(inner, edges, color=_GOOD, linewidth=1.1, label="good fit" if good is not None else "pixels")
    words = [*_numbers("good fit" if good is not None else "pixels", of_good, low, high), *words]
    for number, (name, (value, error)) in enumerate(lines.items()):
        if not np.isfinite(value):
            continue
        colour, style = _LINES[number % 4], ("-", "--", "-.", ":")[number % 4]
        ax.axvline(
            value, color=colour, linestyle=style, linewidth=1.5, label=f"{name} {with_error(value, error)}"
        )
    text_box(ax, words, size=0.9)
    ax.set(xlim=(low, high), ylim=(0, 1.45 * max(counts.max(), 1)))
    ax.legend(loc="upper left", fontsize=0.9 * _SIZE, frameon=True, framealpha=0.85, edgecolor="none")


def _numbers(name: str, values: Values, low: float, high: float) -> list[str]:
    from firstlight.view.draw_fits import with_error

    if not values.size:
        return [f"{name}: none"]
    outside = int(((values < low) | (values > high)).sum())
    spread = float(values.std(ddof=1)) if values.size > 1 else float("nan")
    return [
        f"{name}: {values.size:,}",
        f"  mean {with_error(float(values.mean()), spread / float(np.sqrt(values.size)))}",
        f"  median {np.median(values):.5g}",
        f"  spread {spread:.3g}",
        f"  off the scale: {outside:,}",
    ]


def _range(values: Values, lines: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Return a range that outliers do not stretch and lines nearby do."""
    from firstlight.view.draw_pixels import robust_range

    low, high = robust_range(values, 5.0)
    width = high - low
    for value, _ in lines.values():
        if low - 0.5 * width < value < high + 0.5 * width:
            low, high = min(low, value - 0.05 * width), max(high, value + 0.05 * width)
    return low, high


def draw_gain(
    gain: ArrayLike,
    *,
    parts: Mapping[str, float],
    good: ArrayLike | None = None,
    lines: Mapping[str, tuple[float, float]] | None = None,
    reference: tuple[float, float] | None = EXPECTED_GAIN,
    title: str = "K (gain)",
    about: str = "",
) -> Canvas:
    """Draw the distribution of K, and below it the mean with each part of its uncertainty.

    Parameters
    ----------
    gain : array
        K of each pixel [e-/DAC].
    parts : mapping of str to float
        Uncertainties of the mean K [e-/DAC] by origin: statistical, baseline, common.
    good, lines
        As of `draw_distribution`.
    reference : (float, float), optional
        What is expected of the design, and its uncertainty [e-/DAC].
    title, about : str
        Title and second line.
    """
    from firstlight.view import draw
    from firstlight.view.draw_groups import Budget, draw_budgets

    array = np.asarray(gain, dtype=np.float64).ravel()
    chosen = np.isfinite(array) & (True if good is None else np.asarray(good, dtype=bool).ravel())
    canvas = draw.sheet(7.4, 7.0)
    _heading(canvas, title, about)
    ax = draw.place(canvas, 1.0, 2.75, 0.25, 0.75, _SIZE)
    low = draw.place(canvas, 1.0, 0.65, 0.25, 4.5, _SIZE)
    limits = None
    if chosen.any():
        low_end, high_end = _range(array[chosen], lines or {})
        if reference is not None:
            high_end = max(high_end, reference[0] + 1.15 * reference[1])
            low_end = min(low_end, reference[0] - 1.15 * reference[1])
        limits = (low_end, high_end)
    _histogram(ax, array, good, limits, 80, lines or {})
    ax.set(ylabel="pixels")
    ax.tick_params(labelbottom=False)
    mean = float(array[chosen].mean()) if chosen.any() else float("nan")
    words = None if reference is None else (*reference, f"expected {reference[0]} ± {reference[1]}")
    shown = {f"{name} ±{size:.2g}" if np.isfinite(size) else name: size for name, size in parts.items()}
    draw_budgets(low, [Budget("mean K", mean, shown)], label="K [e⁻/DAC]", reference=words, numbers=False)
    if limits is not None:
        low.set_xlim(limits)
        low.set_ylim(-0.5, 1.15)
        key = low.get_legend()
        handles = [] if key is None else key.legend_handles
        low.legend(
            handles=handles,
            loc="upper left",
            ncols=3,
            fontsize=0.82 * _SIZE,
            columnspacing=1.0,
            handlelength=1.4,
        )
    return canvas


def draw_discrepancy(
    values: ArrayLike,
    errors: ArrayLike,
    reference: float,
    reference_error: float,
    *,
    good: ArrayLike | None = None,
    title: str,
    name: str = "ASIC",
    about: str = "",
) -> Canvas:
    """Draw (value - reference) / sqrt(error^2 + reference_error^2), in 20 bins within +-10.

    Parameters
    ----------
    values, errors : array
        Of each pixel.
    reference, reference_error : float
        What they are compared with.
    good : array of bool, optional
        Pixels with a good fit.
    title : str
        What is compared.
    name : str
        What the reference is: ``"ASIC"``, ``"ASICgood"``.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_fits import draw_pulls, with_error

    array, error = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = (array - reference) / np.sqrt(error**2 + reference_error**2)
    canvas = draw.sheet(7.4, 4.9)
    _heading(canvas, title, about)
    ax = draw.place(canvas, 0.95, 0.68, 0.25, 0.8, _SIZE)
    words = (f"(value − {name}) / √(u² + u²({name}))", "pixels")
    notes = [f"{name} {with_error(reference, reference_error)}"]
    marked = None if good is None else (good, "good fits")
    draw_pulls(ax, pulls, labels=words, notes=notes, marked=marked)
    return canvas


def draw_probability_plots(values: Mapping[str, ArrayLike], *, about: str = "") -> Canvas:
    """Draw normal probability plots (QQ) side by side: target and K.

    Parameters
    ----------
    values : mapping of str to array
        Values by label with unit.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_fits import draw_quantiles

    canvas = draw.sheet(max(6.2 * len(values), 6.2), 5.2)
    _heading(canvas, "Normal probability plot", about)
    for number, (label, array) in enumerate(values.items()):
        ax = draw.place(canvas, 0.95 + 6.2 * number, 0.68, 6.2 * (len(values) - 1 - number) + 0.2, 0.8, _SIZE)
        draw_quantiles(ax, array, labels=("quantile of the normal distribution", label))
    return canvas


def draw_groups(
    values: ArrayLike,
    *,
    label: str,
    title: str,
    groups: Mapping[str, ArrayLike] | None = None,
    limits: tuple[float, float] | None = None,
    about: str = "",
) -> Canvas:
    """Draw the distributions of groups of pixels over one another, and the difference of the first two.

    Parameters
    ----------
    values : array, shape (256, 256)
        NaN where there is none, and for pixels that are not to be counted.
    label : str
        Of x, with the unit.
    title : str
        What it is.
    groups : mapping of str to array of bool, optional
        Pixels of each group; even and odd columns and the rows 0 and 15 of every 16 by default.
    limits : (float, float), optional
        Ends of the histogram.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_groups import draw_histogram_difference, draw_overlaid

    array = np.asarray(values, dtype=np.float64)
    masks = dict(groups_of() if groups is None else groups)
    parts = {name: array[np.asarray(where, dtype=bool)] for name, where in masks.items()}
    canvas = draw.sheet(7.4, 7.0)
    _heading(canvas, title, about)
    top = draw.place(canvas, 1.15, 2.75, 0.25, 0.75, _SIZE)
    below = draw.place(canvas, 1.15, 0.68, 0.25, 4.5, _SIZE)
    draw_overlaid(top, parts, limits=limits, labels=("", "share of pixels"))
    top.tick_params(labelbottom=False)
    names = list(parts)
    if len(names) < 2:
        draw.no_data(below, "there is one group only")
        return canvas
    ends = top.get_xlim() if np.isfinite(array).any() else limits
    words = (label, f"{names[0]} −\n{names[1]}")
    draw_histogram_difference(below, parts[names[0]], parts[names[1]], limits=ends, labels=words)
    canvas.align_ylabels([top, below])
    return canvas


def draw_profiles(values: ArrayLike, *, label: str, title: str, about: str = "") -> Canvas:
    """Draw the mean of a value by column and by row, with its error.

    Parameters
    ----------
    values : array, shape (256, 256)
        NaN where there is none.
    label : str
        With the unit.
    title : str
        What it is.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_groups import draw_profile

    array = np.asarray(values, dtype=np.float64)
    row, column = np.indices(array.shape)
    canvas = draw.sheet(11.5, 6.4)
    _heading(canvas, title, about)
    top = draw.place(canvas, 0.95, 3.75, 0.25, 0.75, _SIZE)
    below = draw.place(canvas, 0.95, 0.65, 0.25, 3.5, _SIZE)
    odd = np.arange(array.shape[1]) % 2 == 1
    edge = np.isin(np.arange(array.shape[0]) % 16, (0, 15))
    draw_profile(top, column, array, labels=("column", label), marked=(odd, "odd columns", "even columns"))
    draw_profile(below, row, array, labels=("row", label), marked=(edge, "rows 0, 15 mod 16", "other rows"))
    for ax, size in ((top, array.shape[1]), (below, array.shape[0])):
        ax.set_xticks([*range(0, size - 15, 32), size - 1])
    return canvas


def draw_fit_quality(p_values: ArrayLike, pulls: ArrayLike | None = None, *, about: str = "") -> Canvas:
    """Draw p-values of all fits, and beside them the pulls of single points.

    Parameters
    ----------
    p_values : array
        One for each fit.
    pulls : array, optional
        (counts - expected) / sqrt(expected) of points of which enough is expected.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_fits import draw_p_values, draw_pulls

    two = pulls is not None
    width = 12.4 if two else 6.2
    canvas = draw.sheet(width, 4.8)
    _heading(canvas, "Quality of the fits", about)
    ax = draw.place(canvas, 0.95, 0.68, width - 6.0, 0.8, _SIZE)
    draw_p_values(ax, p_values, y_label="pixels")
    if two:
        ax = draw.place(canvas, 7.15, 0.68, 0.2, 0.8, _SIZE)
        words: Any = ("(counts − expected) / √expected", "points")
        draw_pulls(ax, np.asarray(pulls), bins=80, reach=5.0, labels=words)
    return canvas
