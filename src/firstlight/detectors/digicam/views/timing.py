"""When the light comes, and what a pulse looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.digicam.views.sheet import SIZE, WIDTH, heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from firstlight.data.cube import HistogramCube
    from firstlight.detectors.digicam.scene import Scene

__all__ = ["draw_highest_samples", "draw_template"]

_SHOWN = (-25.0, 75.0)  # ns about the maximum
_FLASH, _SHAPE = "#1f5f99", "#d1662a"


def draw_highest_samples(scene: Scene) -> Canvas:
    """Draw which sample is the highest of its trace, for every pixel, and for all together."""
    from firstlight.view import draw

    cube: HistogramCube = scene.products["light/peak"]
    counts = cube.values.astype(np.float64)
    n_pixels, n_samples = counts.shape
    canvas = draw.sheet(WIDTH, 4.6)
    heading(canvas, "Highest sample of the trace", scene.about)
    ax = draw.place(canvas, 0.75, 0.62, 4.05, 0.75, SIZE)
    bar = draw.place(canvas, 6.08, 0.8, 3.78, 1.0, SIZE)
    right = draw.place(canvas, 7.55, 0.62, 0.2, 0.75, SIZE)
    draw.draw_cube_2d(
        ax, counts, (-0.5, n_pixels - 0.5, -0.5, n_samples - 0.5), labels=("pixel", "highest sample"), colour_label="flashes",
        bar_axes=bar,
    )  # fmt: skip
    usable = scene.usable_light if scene.has("levels/light") else ~scene.flagged
    total = counts[usable].sum(axis=0) if usable.any() else counts.sum(axis=0)
    share = 100 * total / max(total.sum(), 1)
    right.stairs(
        share, np.arange(n_samples + 1) - 0.5, orientation="horizontal", fill=True, color=_FLASH, alpha=0.35
    )
    right.stairs(share, np.arange(n_samples + 1) - 0.5, orientation="horizontal", color=_FLASH)
    right.set(ylim=ax.get_ylim(), xlabel="flashes of good pixels [%]", xlim=(0, None))
    sample = scene.context.channels.column("light_sample")
    known = sample[sample >= 0]
    if known.size:
        low, high = float(known.min()), float(known.max())
        for axes in (ax, right):
            axes.axhspan(low - 0.5, high + 0.5, color=_SHAPE, alpha=0.18, linewidth=0)
        words = f"sample {low:.0f}" if low == high else f"samples {low:.0f} to {high:.0f}"
        right.text(
            0.97, 0.97, f"light is measured\nat {words}", transform=right.transAxes, ha="right", va="top", color="#8a3d12",
            fontsize=0.9 * SIZE,
        )  # fmt: skip
    return canvas


def draw_template(scene: Scene) -> Canvas:
    """Draw the measured shape of a pulse with its spread, beside the shape that the fits use."""
    from firstlight.detectors.digicam.pulse import PulseTemplate
    from firstlight.view import draw
    from firstlight.view.draw_layouts import FRAME

    table = scene.products["template/shape"]
    time, amplitude, spread = (
        table.array(name).astype(np.float64) for name in ("time", "amplitude", "spread")
    )
    entries = table.array("entries").astype(np.float64)
    shape = PulseTemplate.default()
    inside = (time > _SHOWN[0]) & (time < _SHOWN[1])
    canvas = draw.sheet(WIDTH, 5.4)
    heading(canvas, "Shape of a pulse", scene.about)
    ax = draw.place(canvas, 0.85, 2.0, 0.2, 0.75, SIZE)
    low = draw.place(canvas, 0.85, 0.6, 0.2, 3.55, SIZE)
    ax.fill_between(time, amplitude - spread, amplitude + spread, color=_FLASH, alpha=0.22, linewidth=0)
    ax.plot(
        time,
        amplitude,
        ".-",
        color=_FLASH,
        markersize=4,
        linewidth=1.0,
        label="flashes, ± spread of pixels and levels",
    )
    fine = np.arange(*_SHOWN, 0.1)
    ax.plot(
        fine, shape.at(fine + shape.peak_time), color=_SHAPE, linewidth=1.2, label="shape that the fits use"
    )
    ax.axhline(0, color=FRAME, linewidth=0.8)
    ax.set(xlim=_SHOWN, ylabel="height, 1 at the maximum")
    ax.tick_params(labelbottom=False)
    ax.legend(loc="upper right")
    expected = _bin_means(shape, time)
    difference = amplitude - expected
    error = spread / np.sqrt(np.maximum(entries, 1))
    low.axhspan(-0.01, 0.01, color=FRAME, alpha=0.15, linewidth=0)
    low.axhline(0, color=FRAME, linewidth=0.8)
    low.errorbar(time, difference, error, fmt="o", markersize=3, elinewidth=0.8, color=_FLASH)
    reach = max(0.03, 1.2 * float(np.nanmax(np.abs(difference[inside])))) if inside.any() else 0.03
    low.set(xlim=_SHOWN, ylim=(-reach, reach), xlabel="time after the maximum [ns]", ylabel="difference")
    if inside.any():
        width = _width(time[inside], amplitude[inside])
        integral = float(np.trapezoid(amplitude[inside], time[inside]))
        lines = [
            f"width at half height {width:.2f} ns, shape of the fits {shape.width():.2f} ns",
            f"integral {integral:.2f} ns, shape of the fits {shape.integral():.2f} ns",
        ]
        ax.text(
            0.985,
            0.66,
            "\n".join(lines),
            transform=ax.transAxes,
            ha="right",
            fontsize=0.92 * SIZE,
            color="#3a4149",
        )
    return canvas


def _bin_means(shape: object, time: np.ndarray) -> np.ndarray:
    """Return the mean of a shape over the bins of a measured one."""
    step = float(np.median(np.diff(time))) if time.size > 1 else 1.0
    parts = (np.arange(10) + 0.5) / 10 - 0.5
    heights = shape.at(time[:, None] + step * parts + shape.peak_time)  # type: ignore[attr-defined]
    return np.asarray(heights.mean(axis=1))


def _width(time: np.ndarray, amplitude: np.ndarray) -> float:
    """Return the width of a pulse at half of its height [ns]; NaN where it does not cross it twice."""
    above = amplitude >= 0.5
    if not above.any() or above[0] or above[-1]:
        return float("nan")
    first, last = int(np.argmax(above)), int(above.size - 1 - np.argmax(above[::-1]))
    rise = np.interp(0.5, amplitude[first - 1 : first + 1], time[first - 1 : first + 1])
    fall = np.interp(-0.5, -amplitude[last : last + 2], time[last : last + 2])
    return float(fall - rise)
