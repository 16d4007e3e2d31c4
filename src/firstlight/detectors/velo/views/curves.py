"""Flux against threshold with the fit, residuals and pulls; several curves together; a sheet of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.velo.views.curve_data import (
    Curve,
    curve_of_aligned,
    curve_of_area,
    curve_of_pixel,
    curve_of_selection,
    expected_rate,
    point_pulls,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "Curve",
    "curve_of_aligned",
    "curve_of_area",
    "curve_of_pixel",
    "curve_of_selection",
    "draw_flux_curve",
    "draw_flux_curves",
    "draw_gallery",
    "expected_rate",
    "point_pulls",
]

_SIZE = 11.0


def draw_flux_curve(
    curve: Curve, *, residuals: bool = False, pulls: bool = False, log: bool = False, about: str = ""
) -> Canvas:
    """Draw the flux against the threshold with Poisson errors and fit, and below it residuals and pulls.

    Parameters
    ----------
    curve : Curve
        From `curve_of_pixel`, `curve_of_area` or `curve_of_selection`, or made by hand.
    residuals, pulls : bool
        Whether there is a panel of each.
    log : bool
        Logarithmic flux.
    about : str
        Second line of the title.
    """
    panels = [name for name, wanted in (("residuals", residuals), ("pulls", pulls)) if wanted]
    panels = panels if curve.fitted is not None else []
    canvas, ax, below = _stack(len(panels), f"Flux against threshold: {curve.title}", about, curve.electrons)
    _draw_main(ax, curve, log)
    lowest = below[-1] if below else ax
    for panel, name in zip(below, panels, strict=True):
        _draw_panel(panel, curve, name)
        panel.set_xlim(ax.get_xlim())
    for other in (ax, *below):
        if other is not lowest:
            other.set_xlabel("")
            other.tick_params(labelbottom=False)
    lowest.set_xlabel(curve.axis)
    canvas.align_ylabels([ax, *below])
    return canvas


def _stack(
    n_panels: int, title: str, about: str, electrons: tuple[float, float] | None
) -> tuple[Canvas, Axes, list[Axes]]:
    from firstlight.view import draw

    above, panel, gap = 0.75 + (0.5 if electrons else 0.0), 1.15, 0.14
    height = above + 3.5 + n_panels * (panel + gap) + 0.62
    canvas = draw.sheet(7.6, height)
    canvas.text(0.02, 1 - 0.1 / height, title, fontsize=_SIZE + 1.5, weight="bold", va="top")
    canvas.text(0.02, 1 - 0.37 / height, about, fontsize=_SIZE - 1, color="#3a4149", va="top")
    bottom = height - above - 3.5
    ax = draw.place(canvas, 1.2, bottom, 0.25, above, _SIZE)
    below = []
    for number in range(n_panels):
        low = bottom - (number + 1) * (panel + gap)
        below.append(draw.place(canvas, 1.2, low, 0.25, height - low - panel, _SIZE))
    return canvas, ax, below


def _draw_main(ax: Axes, curve: Curve, log: bool) -> None:
    from firstlight.view.draw_fits import add_top_axis, draw_fit, text_box

    line = curve.fine or (None if curve.fitted is None else (curve.threshold, curve.fitted))
    words = ("threshold [DAC]", f"flux [{curve.unit}]")
    draw_fit(
        ax,
        curve.threshold,
        curve.rate,
        curve.error,
        curve=line,
        labels=words,
        log=log,
        dashed=not curve.converged,
    )
    if ax.get_legend() is not None:
        ax.legend(loc="lower left")
    if curve.notes:
        text_box(ax, curve.notes, size=0.9)
    if not log and np.isfinite(curve.rate).any():
        ax.set_ylim(top=1.2 * float(np.nanmax(curve.rate)) or 1.0)
    if curve.electrons is not None:
        gain, baseline = curve.electrons
        where = f", baseline {baseline:.1f} DAC" if baseline else ""
        add_top_axis(ax, gain, baseline, f"electrons (K {gain:.2f} e⁻/DAC{where})")


def _draw_panel(ax: Axes, curve: Curve, name: str) -> None:
    from firstlight.view.draw_fits import draw_differences

    fitted = np.full(curve.threshold.size, np.nan) if curve.fitted is None else curve.fitted
    if name == "residuals":
        words = ("threshold [DAC]", "data − fit\n[hits/s]")
        draw_differences(ax, curve.threshold, curve.rate, fitted, curve.error, labels=words)
        return
    error = curve.expected_error if curve.expected_error is not None else curve.error
    words = ("threshold [DAC]", "pull")
    # far above the edge nothing is expected: no pull
    flat = np.asarray(error if error.ndim == 1 else error.mean(axis=0))
    flat = np.where(flat > 1e-3 * np.nanmax(flat, initial=0.0), flat, 0.0)
    draw_differences(ax, curve.threshold, curve.rate, fitted, flat, pulls=True, labels=words)


def draw_flux_curves(
    curves: Mapping[str, Curve], *, title: str, log: bool = False, about: str = ""
) -> Canvas:
    """Draw several curves in one axes: ASIC and ASICgood, warm and cold.

    Parameters
    ----------
    curves : mapping of str to Curve
        By the name in the legend, all in the same unit.
    title, about : str
        Title and second line.
    log : bool
        Logarithmic flux.
    """
    from firstlight.view.draw_fits import draw_fit

    canvas, ax, _ = _stack(0, title, about, None)
    low, high, top = np.inf, -np.inf, 0.0
    for number, (name, curve) in enumerate(curves.items()):
        line = curve.fine or (None if curve.fitted is None else (curve.threshold, curve.fitted))
        colour = f"C{number % 8}"
        draw_fit(
            ax, curve.threshold, curve.rate, curve.error, curve=line, names=(name, f"{name}, fit"), colour=colour,
            curve_colour=colour, labels=("threshold [DAC]", f"flux [{curve.unit}]"), log=log,
        )  # fmt: skip
        low, high = min(low, ax.get_xlim()[0]), max(high, ax.get_xlim()[1])
        top = max(top, float(np.nanmax(curve.rate, initial=0.0)))
    if curves:
        ax.set_xlim(low, high)
        ax.set_ylim(top=(2.0 if log else 1.12) * top or 1.0)
        ax.legend(loc="lower left" if log else "upper right")
    return canvas


def draw_gallery(curves: Sequence[tuple[str, Curve]], *, about: str = "") -> Canvas:
    """Draw many small curves on one sheet, three to a row, each under a heading of its own.

    Parameters
    ----------
    curves : sequence of (str, Curve)
        Heading and curve: good, poor fit, without a hit, noisy, few hits.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_fits import draw_fit, text_box

    columns = 3
    n_rows = max(1, -(-len(curves) // columns))
    width, height = 12.6, 0.95 + 2.75 * n_rows
    canvas = draw.sheet(width, height)
    canvas.text(0.01, 1 - 0.1 / height, "Example pixels", fontsize=_SIZE + 2, weight="bold", va="top")
    canvas.text(0.01, 1 - 0.38 / height, about, fontsize=_SIZE - 1, color="#3a4149", va="top")
    for number, (heading, curve) in enumerate(curves):
        across, down = number % columns, number // columns
        left, top = 0.75 + 4.15 * across, 0.98 + 2.75 * down
        ax = draw.place(canvas, left, height - top - 1.98, width - left - 3.4, top, _SIZE - 1.5)
        line = curve.fine or (None if curve.fitted is None else (curve.threshold, curve.fitted))
        draw_fit(
            ax, curve.threshold, curve.rate, curve.error, curve=line, legend=False, dashed=not curve.converged
        )
        ax.set_ylim(top=1.4 * float(np.nanmax(curve.rate + np.atleast_2d(curve.error)[-1])))
        ax.set_title(f"{heading}: {curve.title.removeprefix('pixel ')}", fontsize=_SIZE - 1, loc="left")
        if curve.notes:
            text_box(ax, [note for note in curve.notes if not note.startswith(("N ", "C ", "K "))], size=0.85)
        last = down == n_rows - 1 or number + columns >= len(curves)
        ax.set(xlabel="threshold [DAC]" if last else "", ylabel="flux [hits/s]" if across == 0 else "")
    return canvas
