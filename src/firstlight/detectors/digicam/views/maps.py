"""The camera as a picture: one value of every pixel beside its distribution, and what is wrong with pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.calibration import FLAGS
from firstlight.detectors.digicam.scene import QUANTITIES, REMARKS, whole_modules
from firstlight.detectors.digicam.views.sheet import SIZE, WIDTH, heading
from firstlight.view.draw_pixels import Overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.digicam.scene import Scene

    Values = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["FLAG_COLOURS", "draw_flags", "draw_quantity", "draw_values"]

FLAG_COLOURS = {
    "dead": "#1d1d1d",
    "noisy": "#d0342c",
    "saturated": "#8e6bbf",
    "no_pulses": "#1f5f99",
    "unlit": "#b9c4cf",
    "few_entries": "#8a94a0",
    "not_converged": "#e0a030",
    "at_limit": "#d9c2ef",
    "bad_fit": "#3fa7a7",
    "outlier": "#d1662a",
}
_FINE, _RING, _LIT, _UNKNOWN = "#dcebe1", "#d0342c", "#c98a00", "#dfe3e7"
_HEIGHT, _SIDE = 5.55, 4.25
_MOST_NUMBERED = 60


def draw_quantity(scene: Scene, key: str) -> Canvas:
    """Draw the map of one of `QUANTITIES` and its distribution."""
    quantity = QUANTITIES[key]
    values = scene.values(key)
    cuts = scene.cuts(values) if quantity.cut else (-np.inf, np.inf)
    unlit = scene.flags["unlit"] if quantity.needs == "light" else scene.without_light(key)
    silent = scene.flags["no_pulses"] if quantity.needs == "pulses" else None
    return draw_values(
        scene, values, title=quantity.title, label=quantity.label, unlit=unlit, silent=silent, cuts=cuts
    )  # fmt: skip


def draw_values(
    scene: Scene,
    values: Values,
    *,
    title: str,
    label: str,
    unlit: Mask | None = None,
    silent: Mask | None = None,
    cuts: tuple[float, float] = (-np.inf, np.inf),
) -> Canvas:
    """Draw one value of every pixel at its place, and how it is distributed.

    Parameters
    ----------
    scene : Scene
        Of the run.
    values : ndarray, shape (1296,)
        NaN where there is none.
    title : str
        Above the figure.
    label : str
        Of the colours, with the unit.
    unlit, silent : ndarray of bool, shape (1296,), optional
        Pixels whose value means nothing, since they see no light or have no pulses.
    cuts : (float, float)
        Values beyond are outliers; infinite without cuts.
    """
    from firstlight.view import draw

    canvas = draw.sheet(WIDTH, _HEIGHT)
    heading(canvas, title, scene.about)
    ax = draw.place(canvas, 0.72, 0.78, WIDTH - 0.72 - _SIDE, _HEIGHT - 0.78 - _SIDE, SIZE)
    bar = draw.place(canvas, 5.12, 1.05, WIDTH - 5.26, 0.98, SIZE)
    right = draw.place(canvas, 6.75, 0.78, 0.2, 0.75, SIZE)
    overlays = _hidden(scene, values, unlit, silent)
    shown = ~np.any([overlay.where for overlay in overlays], axis=0)
    _map(ax, bar, scene, values, overlays, label)
    _distribution(right, scene, np.where(shown, values, np.nan), cuts, label)
    return canvas


def _hidden(scene: Scene, values: Values, unlit: Mask | None, silent: Mask | None) -> list[Overlay]:
    """Return the pixels whose value is not shown, and why; the last reason of a pixel is the one that is seen."""
    nothing = np.zeros(values.shape, dtype=bool)
    dead = scene.flags["dead"]
    dark = nothing if unlit is None else unlit & ~dead
    still = nothing if silent is None else silent & ~dead
    unknown = ~np.isfinite(values) & ~dead & ~dark & ~still
    found = [
        Overlay("no value", unknown, _UNKNOWN),
        Overlay("unlit", dark & ~still, FLAG_COLOURS["unlit"]),
        Overlay("no pulses", still, FLAG_COLOURS["no_pulses"]),
        Overlay("dead", dead, FLAG_COLOURS["dead"]),
    ]
    return [overlay for overlay in found if overlay.where.any()] or found[-1:]


def _map(ax: Axes, bar: Axes, scene: Scene, values: Values, overlays: Sequence[Overlay], label: str) -> None:
    from firstlight.view.draw_pixels import draw_camera, draw_rings

    channels = scene.context.channels
    covered = np.any([overlay.where for overlay in overlays], axis=0)
    draw_camera(ax, values, channels, label=label, overlays=overlays, colour_axes=bar)
    ringed = scene.flagged & ~covered
    draw_rings(ax, channels, ringed, colour=_RING, width=1.1)
    _frames(ax, scene)
    handles = [
        _patch(overlay.label, overlay.colour, overlay.where) for overlay in overlays if overlay.where.any()
    ]
    if ringed.any():
        handles.append(_line(f"flagged {int(ringed.sum())}", _RING, marker="h"))
    _key(ax, [*handles, *_frame_handles(scene)])


def _frames(ax: Axes, scene: Scene) -> None:
    """Draw the outlines of the sectors with their numbers, and of what the light source reaches."""
    from firstlight.view.draw_pixels import draw_outline

    channels = scene.context.channels
    sector = channels.column("sector")
    for number in np.unique(sector):
        draw_outline(ax, channels, sector == number, colour="#20262c", width=1.0)
    # the corners of the square that the camera leaves free
    for number, (x, y) in {1: (0.99, 0.02), 2: (0.01, 0.94), 3: (0.01, 0.02)}.items():
        ax.text(
            x, y, f"sector {number}", transform=ax.transAxes, ha="right" if x > 0.5 else "left", fontsize=0.85 * SIZE,
            color="#3a4149",
        )  # fmt: skip
    if not scene.lit.all():
        draw_outline(ax, channels, scene.lit, colour=_LIT, width=2.0)
    ticks = np.arange(-400, 401, 200)
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)


def _frame_handles(scene: Scene) -> list[Artist]:
    return [] if scene.lit.all() else [_line("light source", _LIT)]


def _patch(label: str, colour: str, where: Mask) -> Artist:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, edgecolor="#7d8894", linewidth=0.6, label=f"{label} {int(where.sum()):,}")


def _line(label: str, colour: str, marker: str = "") -> Artist:
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"color": colour, "linewidth": 2.0}
    if marker:
        style = {
            "linestyle": "none",
            "marker": marker,
            "markersize": 8,
            "markerfacecolor": "none",
            "color": colour,
        }
    return Line2D([], [], label=label, **style)


def _key(
    ax: Axes, handles: Sequence[Artist], place: tuple[float, float] = (-0.1, -0.115), ncols: int = 5
) -> None:
    if handles:
        ax.legend(
            handles=list(handles), loc="upper left", bbox_to_anchor=place, ncols=ncols, fontsize=0.88 * SIZE,
            handlelength=1.2, columnspacing=1.0, handletextpad=0.5, borderaxespad=0.0,
        )  # fmt: skip


def _distribution(ax: Axes, scene: Scene, values: Values, cuts: tuple[float, float], label: str) -> None:
    from firstlight.view.draw_histograms import draw_flagged_distribution

    limits = tuple(float(cut) if np.isfinite(cut) else None for cut in cuts)
    draw_flagged_distribution(
        ax, values, flagged=scene.flagged, cuts=(limits[0], limits[1]), labels=(label, "pixels")
    )


def draw_flags(scene: Scene) -> Canvas:
    """Draw the most serious flag of every pixel at its place, and how many pixels have each flag."""
    from firstlight.view import draw
    from firstlight.view.draw_pixels import draw_camera

    height, side = 6.1, 4.95
    canvas = draw.sheet(WIDTH, height)
    heading(canvas, "Flags of pixels", scene.about)
    ax = draw.place(canvas, 0.72, 0.6, WIDTH - 0.72 - side, height - 0.6 - side, SIZE)
    right = draw.place(canvas, 7.35, 1.35, 1.05, 0.85, SIZE)
    channels = scene.context.channels
    # the last one painted is the most serious: remarks first, then from the end of the list to its beginning
    order = sorted(scene.flags, key=lambda name: (name not in REMARKS, -list(FLAGS).index(name)))
    overlays = [Overlay("fine", np.ones(len(channels), dtype=bool), _FINE)]
    overlays += [Overlay(name, scene.flags[name], FLAG_COLOURS[name]) for name in order]
    draw_camera(ax, np.full(len(channels), np.nan), channels, label="", overlays=overlays)
    _frames(ax, scene)
    _name_pixels(ax, scene)
    _bars(right, scene)
    _key(right, _frame_handles(scene), (0.0, -0.16))
    return canvas


def _name_pixels(ax: Axes, scene: Scene) -> None:
    """Write the numbers of flagged pixels beside them, of modules that are flagged as a whole that of the module."""
    from matplotlib.patheffects import withStroke

    from firstlight.view.draw_pixels import draw_outline

    channels = scene.context.channels
    module, x, y = (channels.column(name) for name in ("module", "x", "y"))
    style: dict[str, Any] = {
        "fontsize": 0.72 * SIZE, "color": "#16191d", "path_effects": [withStroke(linewidth=2.0, foreground="white")],
        "textcoords": "offset points",
    }  # fmt: skip
    whole = whole_modules(scene.flagged, module)
    for number in whole:
        own = module == number
        draw_outline(ax, channels, own, colour=_RING, width=1.6)
        place = (float(x[own].mean()), float(y[own].max()))
        ax.annotate(f"module {number}", place, xytext=(0, 6), ha="center", **style)
    single = np.flatnonzero(scene.flagged & ~np.isin(module, whole))
    if single.size <= _MOST_NUMBERED:
        for pixel in single:
            ax.annotate(str(pixel), (float(x[pixel]), float(y[pixel])), xytext=(3.5, 3.0), **style)


def _bars(ax: Axes, scene: Scene) -> None:
    """Draw how many pixels have each flag; what it means stands below its name."""
    numbers = {name: int(where.sum()) for name, where in scene.flags.items()}
    place = np.arange(len(FLAGS))[::-1]
    top = max(*numbers.values(), 10)
    for y, (name, number) in zip(place, numbers.items(), strict=True):
        ax.barh(y, max(number - 0.5, 0.0), left=0.5, color=FLAG_COLOURS[name], height=0.6)
        ax.text(
            -0.03, y, name.replace("_", " "), transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=SIZE,
            weight="bold" if number else "normal", color="#16191d" if number else "#8a94a0",
        )  # fmt: skip
        text = f"{number:,}  ({100 * number / scene.lit.size:.2g} %)" if number else "–"
        ax.text(1.03, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=0.92 * SIZE)
    ax.set(xscale="log", xlim=(0.5, 1.15 * top), ylim=(-0.6, len(FLAGS) - 0.4), xlabel="pixels")
    ticks = [tick for tick in (1, 10, 100, 1000) if tick <= 1.15 * top]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.set_yticks([])
    ax.minorticks_off()
