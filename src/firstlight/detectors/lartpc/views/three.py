"""Tracks in space with matplotlib: raw, drifted and hits side by side, and the display of the original."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from firstlight.detectors.lartpc.views.cubes import Cube, Part, core_cube, cube_of, cube_of_limits
from firstlight.detectors.lartpc.views.marks import (
    ABOVE,
    bar_label,
    charge_colours,
    charge_norm,
    charge_ticks,
    colours_of,
    draw_truth,
    key_columns,
    key_of_labels,
    marker_area,
)
from firstlight.detectors.lartpc.views.scene import (
    drifted_layer,
    hits_layer,
    raw_layer,
    scene_of,
    title_of,
    unit_scale,
)
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]
    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.lartpc.drift import Drifted
    from firstlight.detectors.lartpc.readout.hits import Hits
    from firstlight.detectors.lartpc.track import Track
    from firstlight.detectors.lartpc.views.scene import Layer, Scene, Zoom

__all__ = ["VIEW", "display_track", "draw_layer", "draw_panels", "draw_track", "prepare_axes"]

VIEW = (22.0, -58.0)  # elevation and azimuth, degrees
_PANEL = 4.35  # in
_WORDS = {"raw": "raw", "drifted": "drifted", "hits": "hits"}


def prepare_axes(
    figure: Figure, place: Any, cube: Cube, *, units: str = "mm", view: tuple[float, float] = VIEW
) -> Axes3D:
    """Add axes in space that show a cube: equal aspect, no perspective, units on every axis.

    Parameters
    ----------
    figure : matplotlib Figure
        Where they stand.
    place : tuple of float or SubplotSpec
        Left, bottom, width, height as shares of the figure; or a place of a grid.
    cube : Cube
        What they show.
    units : str
        Of `UNITS`.
    view : (float, float)
        Elevation and azimuth [degrees].
    """
    scale = unit_scale(units)
    add: Any = figure.add_axes if isinstance(place, tuple | list) else figure.add_subplot
    ax = cast("Axes3D", add(place, projection="3d", proj_type="ortho", computed_zorder=False))
    ax.view_init(*view)
    # labels of one panel reach over the edge of the next
    ax.patch.set_visible(False)
    low, high = (cube.limits * scale).T
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    ax.set_box_aspect((1, 1, 1), zoom=0.92)
    for axis, name in ((ax.xaxis, "x"), (ax.yaxis, "y"), (ax.zaxis, "z")):
        axis.set_label_text(f"{name} [{units}]")
        axis.get_major_locator().set_params(nbins=5)
        axis.set_pane_color((0.975, 0.98, 0.985, 1.0))
        axis.line.set_color("#8c96a0")
        axis._axinfo["grid"].update(color="#dde2e7", linewidth=0.6)
    ax.tick_params(labelsize=8, pad=1)
    return ax


def draw_layer(
    ax: Axes3D,
    layer: Layer,
    cube: Cube,
    *,
    norm: Normalize | None = None,
    units: str = "mm",
    colour_by: str = "charge",
    largest: float | None = None,
    full: float | None = None,
    alpha: float = 1.0,
) -> Any:
    """Draw the part of a layer that lies in a cube: colour and area of a marker follow its charge.

    Parameters
    ----------
    ax : Axes3D
        From `prepare_axes`.
    layer : Layer
        What is drawn.
    cube : Cube
        What the axes show; markers outside would be drawn over the labels.
    norm : Normalize, optional
        Scale of the colours; `charge_norm` of the layer by default.
    units : str
        Of `UNITS`.
    colour_by : {"charge", "label", "time"}
        What the colours mean.
    largest : float, optional
        Area of the largest marker [pt2]; smaller where there are many markers by default.
    full : float, optional
        Charge that has it; the largest of the layer by default.
    alpha : float
        1 is opaque.

    Returns
    -------
    PathCollection
        What was drawn, for a colour bar.
    """
    scale = unit_scale(units)
    norm = norm or charge_norm([layer])
    shown = layer.inside(cube)
    area = marker_area(
        shown.charge, full if full is not None else float(layer.charge.max(initial=1.0)), largest
    )
    return ax.scatter(
        *(shown.positions * scale), s=area, linewidths=0, depthshade=False, zorder=5, alpha=alpha,
        **colours_of(shown, colour_by, norm),
    )  # fmt: skip


def draw_panels(
    scene: Scene,
    *,
    zoom: Zoom = "core",
    units: str = "mm",
    view: tuple[float, float] = VIEW,
    truth: bool = True,
    above: float = ABOVE,
    colour_by: str = "charge",
    limits: Cube | None = None,
    whole: bool = True,
    charges: tuple[float, float] | None = None,
) -> Figure:
    """Draw the stages of an event side by side, with common limits and one colour bar.

    Parameters
    ----------
    scene : Scene
        From `scene_of`.
    zoom : {"core", "all"} or float
        What the panels show: the largest connected piece, everything, or the cube that holds a share of the charge.
    units : str
        Of `UNITS`.
    view : (float, float)
        Elevation and azimuth [degrees].
    truth : bool
        Mark origin, direction and interactions.
    above : float
        Bremsstrahlung and delta rays with less energy are not marked [keV].
    colour_by : {"charge", "label", "time"}
        What the colours mean; layers without it are coloured by charge.
    limits : Cube, optional
        What the panels show, instead of `zoom`.
    whole : bool
        Add a panel with the whole event where the others show less than two thirds of it.
    charges : (float, float), optional
        Ends of the colours [electrons].

    Returns
    -------
    matplotlib Figure
    """
    from firstlight.view.draw import sheet
    from firstlight.view.style import styled

    cube = limits or scene.cube(zoom)
    norm = charge_norm(scene.layers, charges)
    scale = unit_scale(units)
    panels: list[tuple[Layer, Cube, str]] = []
    if whole and cube.edge < 0.67 * scene.whole.edge and _shown(scene.layers[0], cube) < 0.999:
        panels.append((scene.layers[0], scene.whole, "whole event"))
    panels += [(layer, cube, _WORDS.get(layer.name, layer.name)) for layer in scene.layers]
    marked = scene.truth if truth else None
    # one panel or two have their legend beside them: below it would be wider than the figure
    beside = 3.3 if marked and len(panels) <= 2 else 0.0
    frame = _Frame(len(panels), 0.62 if marked and not beside else 0.2, beside)
    with styled():
        figure = sheet(frame.width, frame.height)
        handles: list[Any] = []
        drawn = None
        for index, (layer, box, words) in enumerate(panels):
            ax = prepare_axes(figure, frame.panel(index), box, units=units, view=view)
            chosen = colour_by if _has(layer, colour_by) else "charge"
            drawn = draw_layer(ax, layer, box, norm=norm, units=units, colour_by=chosen)
            if marked:
                size = 16.0 if box is scene.whole and cube is not box else 34.0
                handles = draw_truth(
                    ax, marked, box, lambda some: tuple(some * scale), above=above, size=size
                )
            _name_panel(figure, frame, index, layer, box, words)
            if box is scene.whole and cube is not box:
                _outline(ax, cube, scale)
        frame.text(figure, 0.12, 0.28, scene.title, fontsize=13, fontweight="bold", va="center")
        if colour_by == "charge" or not any(_has(layer, colour_by) for layer in scene.layers):
            _colour_bar(figure, frame.bar, norm, bar_label(scene.layers))
        elif colour_by == "label":
            layer = next(layer for layer in scene.layers if layer.label is not None)
            figure.legend(
                handles=key_of_labels(layer, "no."), loc="upper left", fontsize=8, handletextpad=0.1, borderpad=0,
                bbox_to_anchor=(frame.bar[0] - 0.1 / frame.width, frame.bar[1] + frame.bar[3]),
            )  # fmt: skip
        elif drawn is not None:
            _bar(figure, frame.bar, drawn, "drift time [µs]")
        if handles:
            where: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0)}
            where["ncols"] = key_columns(frame.width)
            if beside:
                where = {"loc": "upper left", "bbox_to_anchor": (1 - beside / frame.width, 0.83)}
            figure.legend(
                handles=handles, fontsize=8.5 if beside else 9, columnspacing=1.4, handletextpad=0.4, **where
            )
    return figure


@dataclass(frozen=True)
class _Frame:
    """Places in a figure of so many panels [in], with room below and at the right for the legend."""

    n_panels: int
    bottom: float
    beside: float

    @property
    def width(self) -> float:
        return _PANEL * self.n_panels + 1.1 + self.beside

    @property
    def height(self) -> float:
        return self.bottom + _PANEL + 0.55

    def panel(self, index: int) -> tuple[float, float, float, float]:
        left, bottom = index * _PANEL - 0.12, self.bottom - 0.2
        return left / self.width, bottom / self.height, _PANEL / self.width, _PANEL / self.height

    @property
    def bar(self) -> tuple[float, float, float, float]:
        left = self.n_panels * _PANEL + 0.15
        size = 0.16 / self.width, (_PANEL - 1.2) / self.height
        return left / self.width, (self.bottom + 0.45) / self.height, *size

    def text(self, figure: Figure, left: float, top: float, words: str, **look: Any) -> None:
        figure.text(left / self.width, 1 - top / self.height, words, **look)


def draw_track(
    track: Track,
    drifted: Drifted | None = None,
    hits: Hits | None = None,
    *,
    edge: float | None = None,
    **options: Any,
) -> Figure:
    """Draw a track, what of it drifted and what was read out; `options` as in `draw_panels`."""
    return draw_panels(scene_of(track, drifted, hits, edge=edge), **options)


def _has(layer: Layer, colour_by: str) -> bool:
    return (
        colour_by == "charge"
        or (colour_by == "label" and layer.label is not None)
        or colour_by in layer.values
    )


def _shown(layer: Layer, cube: Cube) -> float:
    """Return the share of the charge of a layer that lies in a cube."""
    total = float(layer.charge.sum())
    return float(layer.charge[cube.holds(layer.positions)].sum()) / total if total else 1.0


def _name_panel(figure: Figure, frame: _Frame, index: int, layer: Layer, cube: Cube, words: str) -> None:
    """Write above a panel what it shows: stage, markers, and how much of the charge lies in it."""
    share = _shown(layer, cube)
    charge = f"{layer.charge.sum():,.0f} e⁻" + (f", {share:.1%} of it shown" if share < 0.9995 else "")
    left = index * _PANEL + 0.3
    frame.text(figure, left, 0.62, words, fontsize=11, va="center")
    look = {"fontsize": 8.5, "color": "#56616c", "va": "top", "linespacing": 1.25}
    frame.text(figure, left, 0.8, f"{layer.about}\n{charge}", **look)


def _outline(ax: Axes3D, cube: Cube, scale: float) -> None:
    """Draw the edges of a cube that other panels show larger."""
    low, high = (cube.limits * scale).T
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        for corner in np.ndindex(2, 2):
            ends = np.empty((3, 2))
            ends[axis] = low[axis], high[axis]
            ends[first] = (low, high)[corner[0]][first]
            ends[second] = (low, high)[corner[1]][second]
            ax.plot(*ends, color="#56616c", linewidth=0.7, zorder=6)


def _colour_bar(
    figure: Figure, place: tuple[float, float, float, float], norm: Normalize, label: str
) -> None:
    from matplotlib.cm import ScalarMappable

    bar = _bar(figure, place, ScalarMappable(norm, charge_colours()), label)
    ticks, labels = charge_ticks(norm)
    bar.set_ticks(ticks, labels=labels)
    bar.ax.minorticks_off()


def _bar(figure: Figure, place: tuple[float, float, float, float], drawn: Any, label: str) -> Any:
    axes = figure.add_axes(place)
    bar = figure.colorbar(drawn, cax=axes)
    bar.set_label(label, fontsize=9)
    axes.spines["outline"].set_linewidth(0.5)
    axes.tick_params(labelsize=8)
    return bar


# ---------------------------------------------------------------- as the original


def display_track(
    raw: Track | None = None,
    drifted: Drifted | None = None,
    hits: Hits | None = None,
    *,
    resolution: float = 1e-5,
    max_num_e: float | None = None,
    max_pixel_samples: float | None = None,
    plot_lims: ArrayLike | None = None,
    units: str = "cm",
    show_initial_vector: bool = True,
    center: bool = False,
    show_origin: bool = True,
    view_angles: Sequence[float] | None = None,
    no_axes: bool = False,
    show_title: bool = True,
    track: Track | None = None,
) -> tuple[Figure, Axes3D, NDArray[np.float64]]:
    """Draw an event in one axes, with the options of the original display.

    Parameters
    ----------
    raw, drifted, hits : Track, Drifted, Hits, optional
        What is drawn, one above the other.
    resolution : float
        Edge of the voxels [m]; at least 1/500 of the extent, and larger where there would be too many.
    max_num_e, max_pixel_samples : float, optional
        Charge of the largest marker of a track, and of a hit; the largest that there is by default [electrons].
    plot_lims : array, shape (3, 2), optional
        Limits in `units`; by default a cube around the hits and the core of the track, or around the track.
    units : str
        Of `UNITS`.
    show_initial_vector, show_origin : bool
        Mark the truth.
    center : bool
        Put the mean position of the points at zero.
    view_angles : (float, float), optional
        Elevation and azimuth [degrees].
    no_axes, show_title : bool
        Leave the axes away; write a title.
    track : Track, optional
        Where truth and title come from if `raw` is not drawn.

    Returns
    -------
    figure : matplotlib Figure
    ax : Axes3D
    plot_lims : ndarray, shape (3, 2)
        Limits in `units`.

    Raises
    ------
    UsageError
        If there is nothing to draw, or an option makes no sense.
    """
    from firstlight.view.draw import sheet
    from firstlight.view.style import styled

    scale = unit_scale(units)
    source = track if track is not None else raw
    if not resolution > 0:
        what = f"resolution {resolution} m is no length"
        raise UsageError(what, hint="metres: 1e-5")
    points = [some.positions for some in (raw, drifted, hits) if some is not None]
    if not points:
        what = "there is nothing to display"
        raise UsageError(what, hint="a track, drifted electrons or hits")
    edge = max(resolution, cube_of(*points, margin=0.0).edge / 500)
    layers: list[Layer] = []
    if raw is not None:
        layers.append(raw_layer(raw, edge=edge))
    if drifted is not None:
        layers.append(drifted_layer(drifted, edge=edge))
    if hits is not None:
        layers.append(hits_layer(hits))
    offset = points[0].mean(axis=1) if center and points[0].size else np.zeros(3)
    around = [layer.positions for layer in layers if layer.name == "hits" and len(layer)]
    if around:
        # few pixels trigger on a small track: its core is shown with them
        around += [
            core_cube(Part(layer.positions, layer.charge, layer.edge), margin=0.0).limits
            for layer in layers
            if layer.name == "raw" and len(layer)
        ]
    cube = cube_of(*(around or [layer.positions for layer in layers]))
    shown = Cube(cube.centre - offset, cube.edge) if plot_lims is None else cube_of_limits(plot_lims, scale)
    cube = Cube(shown.centre + offset, shown.edge)
    with styled():
        figure = sheet(7.2, 6.2)
        ax = prepare_axes(figure, (0.0, 0.03, 0.86, 0.85), shown, units=units, view=_angles(view_angles))
        norm = charge_norm(layers)
        for layer in reversed(layers):  # the finest on top
            moved = _moved(layer, offset)
            alpha = 0.55 if layer.name == "hits" and len(layers) > 1 else 1.0
            full = max_pixel_samples if layer.name == "hits" else max_num_e
            most = 100.0 if layer.name == "hits" else 25.0
            full = full if full is not None else float(layer.charge.max(initial=1.0))
            draw_layer(ax, moved, shown, norm=norm, units=units, largest=most, full=full, alpha=alpha)
        if source is not None and source.truth is not None:
            handles = draw_truth(
                ax, source.truth, cube, lambda some: tuple((some - offset[:, np.newaxis]) * scale),
                origin=show_origin, direction=show_initial_vector, interactions=False,
            )  # fmt: skip
            if handles:
                ax.legend(handles=handles, loc="upper right", fontsize=8)
        limits = shown.limits * scale if plot_lims is None else np.asarray(plot_lims, dtype=np.float64)
        ax.set(xlim=limits[0], ylim=limits[1], zlim=limits[2])
        ax.set_box_aspect(np.diff(limits, axis=1).ravel(), zoom=0.92)
        if no_axes:
            ax.set_axis_off()
        if show_title:
            figure.text(0.03, 0.945, title_of(source), fontsize=11, fontweight="bold")
            about = "\n".join(f"{layer.name}: {layer.about}" for layer in layers)
            figure.text(0.03, 0.93, about, fontsize=8, color="#56616c", va="top")
        _colour_bar(figure, (0.865, 0.16, 0.022, 0.6), norm, bar_label(layers))
    return figure, ax, limits


def _angles(view: Sequence[float] | None) -> tuple[float, float]:
    if view is None:
        return VIEW
    if len(view) != 2:
        what = f"view_angles are {list(view)}"
        raise UsageError(what, hint="elevation and azimuth in degrees: (30, -60)")
    return float(view[0]), float(view[1])


def _moved(layer: Layer, offset: NDArray[np.float64]) -> Layer:
    return replace(layer, positions=layer.positions - offset[:, np.newaxis])
