"""Continuous light: what it does to mean and width of the samples, and which rate it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.digicam.scene import median_of_known, quantile_of_known
from firstlight.detectors.digicam.views.maps import draw_values
from firstlight.detectors.digicam.views.sheet import SIZE, WIDTH, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.digicam.scene import Scene

    Values = NDArray[np.float64]

__all__ = ["draw_continuous", "draw_rate_map", "level_shown"]

_BAND, _EXPECTED = "#1f5f99", "#d1662a"
_SHOWN = 100.0  # MHz
_COMMON = ("95 % of the pixels", "68 %", "median")


def level_shown(scene: Scene) -> int:
    """Return the index of the level whose median rate is nearest to 100 MHz; -1 without rates."""
    middle = median_of_known(np.where(scene.flagged[:, None], np.nan, scene.of_continuous_levels("rate")))
    known = np.isfinite(middle) & (middle > 0)
    if not known.any():
        return -1
    return int(np.argmin(np.where(known, np.abs(np.log(np.where(known, middle, 1.0) / _SHOWN)), np.inf)))


def draw_rate_map(scene: Scene) -> Canvas:
    """Draw the rate of photo-electrons of every pixel at one level of continuous light."""
    index = level_shown(scene)
    return draw_values(
        scene, scene.of_continuous_levels("rate")[:, index], label="rate of photo-electrons [MHz]",
        title=f"Continuous light at level {scene.continuous_levels[index]:g} DAC", silent=scene.flags["no_pulses"],
    )  # fmt: skip


def draw_continuous(scene: Scene) -> Canvas:
    """Draw against the level: shift of the mean sample, rate of photo-electrons, gain that fluctuations tell."""
    from firstlight.view import draw

    panels = [(scene.shift, "shift of the mean sample [LSB]")]
    rate, gain = scene.of_continuous_levels("rate"), scene.relative_gain
    panels += [(rate, "rate of photo-electrons [MHz]")] if np.isfinite(rate).any() else []
    panels += [(gain, "gain of fluctuations / gain")] if np.isfinite(gain).any() else []
    canvas = draw.sheet(WIDTH, 4.4)
    heading(canvas, "Continuous light", scene.about)
    width = WIDTH / len(panels)
    usable = (~scene.flagged & scene.lit)[:, None]
    levels = scene.continuous_levels
    margin = 0.03 * float(np.ptp(levels)) or 1.0
    for number, (values, label) in enumerate(panels):
        ax = draw.place(canvas, number * width + 0.82, 0.62, WIDTH - (number + 1) * width + 0.15, 0.75, SIZE)
        _bands(ax, levels, np.where(usable, values, np.nan), label, log=values is not gain)
        if values is rate:
            _exponential(ax, scene, levels)
        if values is gain:
            _factor(ax, scene, levels)
        ax.set_xlim(float(levels[0]) - margin, float(levels[-1]) + margin)
        handles, names = ax.get_legend_handles_labels()
        # the bands are the same in all panels
        chosen = [own for own, name in zip(handles, names, strict=True) if number == 0 or name not in _COMMON]
        if chosen:
            ax.legend(
                handles=chosen, loc="lower left" if values is gain else "upper left", fontsize=0.88 * SIZE
            )
    return canvas


def _bands(ax: Axes, levels: Values, values: Values, label: str, *, log: bool) -> None:
    """Draw the median and the bands of the pixels against the level."""
    from firstlight.view.draw import no_data

    middle = median_of_known(values)
    known = np.isfinite(middle) & ((middle > 0) | (not log))
    if not known.any():
        no_data(ax, "no level has a value")
        return
    # a light that is nearly off would take most of a logarithmic axis
    floor = max(0.5 * float(middle[known].min()), 2e-4 * float(middle[known].max())) if log else -np.inf
    for share, alpha, name in ((0.025, 0.15, _COMMON[0]), (0.1587, 0.35, _COMMON[1])):
        low, high = (
            np.maximum(quantile_of_known(values, part)[known], 0.1 * floor) for part in (share, 1 - share)
        )
        ax.fill_between(levels[known], low, high, color=_BAND, alpha=alpha, linewidth=0, label=name)
    ax.plot(levels[known], middle[known], "o-", color=_BAND, markersize=4, linewidth=1.4, label=_COMMON[2])
    ax.set(xlabel="level [DAC]", ylabel=label)
    top = quantile_of_known(values, 0.975)[known]
    if log:
        ax.set(yscale="log", ylim=(floor, 4 * float(np.nanmax(top))))
    else:
        bottom = quantile_of_known(values, 0.025)[known]
        reach = max(0.05, 1.6 * float(np.nanmax(np.abs(np.concatenate([bottom, top]) - 1))))
        ax.set_ylim(1 - reach, 1 + reach)


def _exponential(ax: Axes, scene: Scene, levels: Values) -> None:
    """Draw the exponential of the median pixel where it was fitted."""
    begin, slope = (scene.column("dc/pixels", name) for name in ("rate_at_zero", "slope"))
    good = ~scene.flagged & np.isfinite(begin) & np.isfinite(slope)
    if good.any():
        fine = np.linspace(levels[0], levels[-1], 100)
        curve = np.median(begin[good, None] * np.exp(slope[good, None] * fine), axis=0)
        low = ax.get_ylim()[0]
        shown = curve > low
        ax.plot(
            fine[shown],
            curve[shown],
            color=_EXPECTED,
            linestyle="--",
            linewidth=1.2,
            zorder=1.5,
            label="exponential",
        )


def _factor(ax: Axes, scene: Scene, levels: Values) -> None:
    """Draw the gain that the resistance of the bias circuit leaves, at the levels at which fluctuations tell it."""
    from firstlight.view.draw_layouts import FRAME

    ax.axhline(1.0, color=FRAME, linewidth=0.9, zorder=0)
    left = median_of_known(
        np.where(scene.flagged[:, None], np.nan, scene.of_continuous_levels("gain_factor"))
    )
    known = np.isfinite(left) & np.isfinite(scene.relative_gain).any(axis=0)
    if known.any():
        ax.plot(
            levels[known],
            left[known],
            "s--",
            color=_EXPECTED,
            markersize=4,
            linewidth=1.2,
            label="1 / (1 + f R C)",
        )
        ax.set_ylim(bottom=min(ax.get_ylim()[0], 0.97 * float(left[known].min())))
