"""Light against level: of the camera, of single pixels, and the level for a wanted light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.digicam.options import LedParameters
from firstlight.detectors.digicam.scene import median_of_known, quantile_of_known
from firstlight.detectors.digicam.views.maps import draw_values
from firstlight.detectors.digicam.views.sheet import SIZE, WIDTH, heading
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.digicam.light_curve import LightCurves
    from firstlight.detectors.digicam.scene import Scene

    Values = NDArray[np.float64]

__all__ = ["draw_light_curve", "draw_light_map", "draw_relative_light", "levels_for"]

_BAND, _ODD = "#1f5f99", ("#d1662a", "#8e5ba6", "#3b8c5a")
_LOWEST = 0.02  # p.e.: below there is nothing on a logarithmic axis
_SHIFT = 0.05  # p.e.: curves are smooth in the logarithm of the light and this


def draw_light_map(scene: Scene) -> Canvas:
    """Draw the light of every pixel at the level that is shown, and its distribution."""
    level = scene.levels[scene.level_shown]
    return draw_values(
        scene, scene.light[:, scene.level_shown], title=f"Light at level {level:g} DAC", label="light [p.e.]",
        unlit=scene.flags["unlit"],
    )  # fmt: skip


def draw_relative_light(scene: Scene) -> Canvas:
    """Draw the light of every pixel relative to the median pixel, mean of levels."""
    return draw_values(
        scene, scene.relative_light, title="Relative light yield", label="light / light of the median pixel",
        unlit=scene.flags["unlit"],
    )  # fmt: skip


def curves_of_light(scene: Scene) -> LightCurves:
    """Return the monotone curves of light against level of all pixels."""
    from firstlight.detectors.digicam.light_curve import curves_of

    return curves_of(scene.products["levels/light"], scene.parameters("led", LedParameters).minimum_light)


def levels_for(wanted: Values, curves: LightCurves) -> Values:
    """Return the level at which each pixel has a wanted light, on a fine grid of its curve.

    `LightCurves.level_for` does it to the last digit for one light; this is for many of them, to a five hundredth of the scan.

    Parameters
    ----------
    wanted : ndarray, shape (m,)
        Photo-electrons.
    curves : LightCurves
        Of all pixels.

    Returns
    -------
    ndarray, shape (n_pixels, m)
        DAC; NaN beyond the curve of a pixel.
    """
    grid = np.linspace(curves.level[0], curves.level[-1], 1000)
    light = np.log(np.maximum(curves.light_at(grid), 0) + _SHIFT)
    target = np.log(np.asarray(wanted) + _SHIFT)
    found = np.full((light.shape[0], target.size), np.nan)
    for pixel, row in enumerate(light):
        known = np.isfinite(row)
        if known.sum() > 1:
            rising, first = np.unique(np.maximum.accumulate(row[known]), return_index=True)
            found[pixel] = np.interp(target, rising, grid[known][first], left=np.nan, right=np.nan)
    return found


def draw_light_curve(scene: Scene) -> Canvas:
    """Draw light against level, pixels relative to the median, and the level for a wanted light."""
    from firstlight.view import draw
    from firstlight.view.draw import no_data

    canvas = draw.sheet(WIDTH, 6.3)
    heading(canvas, "Light against level", scene.about)
    ax = draw.place(canvas, 0.85, 2.75, 4.2, 0.75, SIZE)
    low = draw.place(canvas, 0.85, 0.62, 4.2, 3.7, SIZE)
    right = draw.place(canvas, 6.75, 0.62, 0.2, 0.75, SIZE)
    light = np.where(scene.usable_light[:, None], scene.light, np.nan)
    if not np.isfinite(light).any():
        no_data(ax, "no pixel has light")
        low.set_axis_off()
        right.set_axis_off()
        return canvas
    chosen = _typical_and_odd(scene, light)
    curves = curves_of_light(scene)
    _curves(ax, scene, light, chosen, curves)
    _ratios(low, scene, light, chosen)
    low.set_xlim(ax.get_xlim())
    _inverse(right, np.where(scene.usable_light[:, None], 1.0, np.nan), curves)
    return canvas


def _typical_and_odd(scene: Scene, light: Values) -> list[tuple[str, int]]:
    """Return the pixel nearest to the median, and those farthest from it; or the pixels asked for."""
    wanted = (
        [pixel for name, pixel in scene.examples("gain/pixels", ("gain",)) if name == "chosen"]
        if scene.has("gain/pixels")
        else []
    )
    if wanted:
        return [(f"pixel {pixel}", pixel) for pixel in wanted[:4]]
    relative = np.where(scene.usable_light, scene.relative_light, np.nan)
    known = np.isfinite(relative) & (relative > 0) & np.isfinite(light).any(axis=1)
    if not known.any():
        return []
    order = np.argsort(np.where(known, np.abs(np.log(np.where(known, relative, 1.0))), np.inf), kind="stable")
    brightest = np.argsort(np.where(known, relative, -np.inf), kind="stable")[::-1]
    typical = int(order[0])
    found = [(f"pixel {typical}: typical", typical)]
    for words, pixel in (
        ("brightest", int(brightest[0])),
        ("darkest", int(brightest[int(known.sum()) - 1])),
    ):
        if pixel != typical:
            found.append((f"pixel {pixel}: {words}", pixel))
    return found


def _curves(
    ax: Axes, scene: Scene, light: Values, chosen: list[tuple[str, int]], curves: LightCurves
) -> None:
    levels = scene.levels
    errors = scene.of_levels("photo_electrons_error")
    bands = {share: quantile_of_known(light, share) for share in (0.025, 0.1587, 0.8413, 0.975)}
    bands = {share: np.maximum(np.nan_to_num(band), _LOWEST / 10) for share, band in bands.items()}
    ax.fill_between(
        levels, bands[0.025], bands[0.975], color=_BAND, alpha=0.15, linewidth=0, label="95 % of the pixels"
    )
    ax.fill_between(levels, bands[0.1587], bands[0.8413], color=_BAND, alpha=0.35, linewidth=0, label="68 %")
    typical = scene.typical_light
    ax.plot(
        levels, np.where(typical > _LOWEST / 10, typical, np.nan), color=_BAND, linewidth=1.6, label="median"
    )
    for number, (name, pixel) in enumerate(chosen):
        colour = "#20262c" if number == 0 else _ODD[(number - 1) % 3]
        shown = np.where(light[pixel] > _LOWEST / 2, light[pixel], np.nan)
        error = np.minimum(errors[pixel], 0.99 * np.nan_to_num(shown, nan=1.0))
        through = curves.level[curves.used[pixel]]
        if through.size > 1:
            fine = np.linspace(through[0], through[-1], 200)
            height = curves.light_at(fine)[pixel]
            ax.plot(fine, np.where(height > _LOWEST / 2, height, np.nan), color=colour, linewidth=0.8)
        ax.errorbar(levels, shown, error, fmt="o", markersize=3.2, elinewidth=0.8, color=colour, label=name)
    top = float(np.nanmax(light))
    ax.set(yscale="log", ylim=(_LOWEST, 2.2 * top), ylabel="light [p.e.]", xlim=_margins(levels))
    ax.tick_params(labelbottom=False)
    ax.legend(loc="upper left", fontsize=0.88 * SIZE)


def _margins(levels: Values) -> tuple[float, float]:
    margin = 0.03 * (levels[-1] - levels[0]) or 1.0
    return float(levels[0] - margin), float(levels[-1] + margin)


def _ratios(ax: Axes, scene: Scene, light: Values, chosen: list[tuple[str, int]]) -> None:
    """Draw the light over that of the median pixel; what changes from level to level is no matter of the yield."""
    from firstlight.view.draw_layouts import FRAME

    levels, typical = scene.levels, scene.typical_light
    bright = typical > 0.1
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(bright, light / typical, np.nan)
        errors = np.where(bright, scene.of_levels("photo_electrons_error") / typical, np.nan)
    ax.axhline(1, color=FRAME, linewidth=0.9)
    low, high = (quantile_of_known(ratio, share) for share in (0.1587, 0.8413))
    ax.fill_between(levels, low, high, color=_BAND, alpha=0.35, linewidth=0)
    for number, (_, pixel) in enumerate(chosen):
        colour = "#20262c" if number == 0 else _ODD[(number - 1) % 3]
        ax.errorbar(
            levels,
            ratio[pixel],
            errors[pixel],
            fmt="o-",
            markersize=3.2,
            linewidth=0.8,
            elinewidth=0.8,
            color=colour,
        )
    known = ratio[np.isfinite(ratio)]
    spread = robust_spread(known) if known.size else 0.1
    farthest = max(
        (
            float(np.nanmax(np.abs(ratio[pixel] - 1)))
            for _, pixel in chosen
            if np.isfinite(ratio[pixel]).any()
        ),
        default=0.0,
    )
    reach = min(max(4 * spread, 1.15 * farthest, 0.05), 1.5)
    ax.set(ylim=(1 - reach, 1 + reach), xlabel="level [DAC]", ylabel="pixel / median")


def _inverse(ax: Axes, usable: Values, curves: LightCurves) -> None:
    """Draw which level gives a wanted light; `usable` is 1 for pixels that count, NaN for others, shape (1296, 1)."""
    from firstlight.view.draw import no_data
    from firstlight.view.draw_fits import text_box

    light = usable * curves.light
    top = float(np.nanmax(light, initial=0.0))
    if top <= 0.1 or curves.level.size < 2:
        no_data(ax, "no level has light enough, or there is one level only")
        return
    round_ones = np.array([1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 300.0])
    wanted = np.geomspace(0.1, top, 60)
    every = usable * levels_for(np.concatenate([wanted, round_ones]), curves)
    found = every[:, : wanted.size]
    enough = np.isfinite(found).sum(axis=0) >= max(0.5 * np.isfinite(light).any(axis=1).sum(), 1)
    found = np.where(enough, found, np.nan)
    low, high = (quantile_of_known(found, share) for share in (0.1587, 0.8413))
    ax.fill_between(wanted, low, high, color=_BAND, alpha=0.35, linewidth=0)
    ax.plot(wanted, median_of_known(found), color=_BAND, linewidth=1.6)
    ax.set(xscale="log", xlabel="wanted light [p.e.]", ylabel="level [DAC]", xlim=(0.1, top))
    middle = median_of_known(every[:, wanted.size :])
    rows = [
        f"{number:g} p.e.: {level:.0f} DAC"
        for number, level in zip(round_ones, middle, strict=True)
        if np.isfinite(level)
    ]
    text_box(ax, ["median pixel", *rows], top=False, size=0.92)
