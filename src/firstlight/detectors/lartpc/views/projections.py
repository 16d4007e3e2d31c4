"""An event seen along the three axes: charge summed along the line of sight, or markers by cluster, particle or time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.views.marks import (
    ABOVE,
    charge_colours,
    charge_norm,
    charge_ticks,
    colours_of,
    draw_truth,
    finish_axes,
    key_columns,
    key_of_labels,
    marker_area,
)
from firstlight.detectors.lartpc.views.scene import length_text, unit_scale
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.views.cubes import Cube
    from firstlight.detectors.lartpc.views.scene import Layer, Scene, Zoom

    Floats = NDArray[np.float64]

__all__ = ["PLANES", "charge_image", "draw_projection", "draw_projections", "pixel_of"]

PLANES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
_BINS = 160


def charge_image(
    positions: Floats, charge: Floats, cube: Cube, plane: str, pixel: float
) -> tuple[Floats, tuple[float, float, float, float]]:
    """Return the charge of a cube summed along one axis.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Where [m].
    charge : ndarray, shape (n,)
        Electrons.
    cube : Cube
        What is shown; charge outside is left out.
    plane : str
        Of `PLANES`.
    pixel : float
        Edge of a pixel [m]. Their borders are whole multiples of it, as those of voxels are: the two do not beat.

    Returns
    -------
    image : ndarray, shape (rows, columns)
        Electrons in each pixel, low values first; the first axis of the plane runs along the columns.
    extent : (float, float, float, float)
        Left, right, bottom and top edge [m].
    """
    if plane not in PLANES:
        raise UsageError.unknown("plane", plane, PLANES)
    axes = list(PLANES[plane])
    keep = cube.holds(positions)
    low = np.floor(cube.limits[axes, 0] / pixel)
    n_columns, n_rows = (np.floor(cube.limits[axes, 1] / pixel) - low + 1).astype(np.int64)
    # centres of voxels of this very size lie half a pixel from a border, so that rounding cannot move them
    column, row = (np.floor(positions[axes][:, keep] / pixel) - low[:, np.newaxis]).astype(np.int64)
    image = np.bincount(row * n_columns + column, weights=charge[keep], minlength=n_rows * n_columns)
    left, bottom = low * pixel
    extent = (float(left), float(left + n_columns * pixel), float(bottom), float(bottom + n_rows * pixel))
    return image.reshape(n_rows, n_columns).astype(np.float64), extent


def pixel_of(layer: Layer, cube: Cube) -> float:
    """Return the edge of the pixels of an image [m]: that of the voxels, or a multiple where those are too small to see."""
    finest = cube.edge / _BINS
    return layer.edge * float(np.ceil(finest / layer.edge - 1e-9)) if layer.edge > 0 else finest


def draw_projection(
    ax: Axes,
    layer: Layer,
    cube: Cube,
    plane: str,
    *,
    norm: Any = None,
    units: str = "mm",
    colour_by: str = "charge",
) -> Any:
    """Draw a layer along the axis that is not in the plane, with the same scale on both axes.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    layer : Layer
        What is drawn.
    cube : Cube
        What is shown.
    plane : str
        Of `PLANES`.
    norm : Normalize, optional
        Scale of the colours.
    units : str
        Of `UNITS`.
    colour_by : {"charge", "label", "time"}
        Charge is summed along the line of sight; by anything else every voxel is a marker.

    Returns
    -------
    ScalarMappable
        For a colour bar.
    """
    if plane not in PLANES:
        raise UsageError.unknown("plane", plane, PLANES)
    axes = PLANES[plane]
    scale = unit_scale(units)
    drawn: Any
    if colour_by == "charge":
        image, extent = charge_image(layer.positions, layer.charge, cube, plane, pixel_of(layer, cube))
        drawn = ax.imshow(
            np.where(image > 0, image, np.nan), origin="lower", norm=norm or _norm(image), cmap=charge_colours(),
            extent=(extent[0] * scale, extent[1] * scale, extent[2] * scale, extent[3] * scale), interpolation="nearest", zorder=3,
        )  # fmt: skip
    else:
        shown = layer.inside(cube)
        area = marker_area(shown.charge, float(layer.charge.max(initial=1.0)), smallest=3.0)
        drawn = ax.scatter(
            shown.positions[axes[0]] * scale, shown.positions[axes[1]] * scale, s=area, linewidths=0, zorder=3,
            **colours_of(shown, colour_by, norm or charge_norm([layer])),
        )  # fmt: skip
    finish_axes(ax, cube, (plane[0], plane[1]), axes, units, scale)
    ax.grid(color="#e9edf0", linewidth=0.6)
    return drawn


def _flat(axes: tuple[int, int], scale: float) -> Callable[[Floats], tuple[Floats, ...]]:
    return lambda positions: (positions[axes[0]] * scale, positions[axes[1]] * scale)


def _norm(*images: Floats) -> Any:
    from matplotlib.colors import LogNorm

    filled = np.concatenate([image[image > 0] for image in images])
    if not filled.size:
        return LogNorm(1, 10)
    low, high = max(1.0, float(np.quantile(filled, 0.01))), float(filled.max())
    return LogNorm(low, max(high, 2 * low), clip=True)


def draw_projections(
    scene: Scene,
    *,
    layer: str | None = None,
    zoom: Zoom = "core",
    units: str = "mm",
    colour_by: str = "charge",
    truth: bool = True,
    above: float = ABOVE,
    limits: Cube | None = None,
    words: str = "cluster",
) -> Figure:
    """Draw an event along z, y and x with a common scale.

    Parameters
    ----------
    scene : Scene
        From `scene_of`.
    layer : str, optional
        Which layer; the first by default.
    zoom, units, truth, above, limits
        As in `draw_panels`.
    colour_by : {"charge", "label", "time"}
        What the colours mean.
    words : str
        What a label is: ``"cluster"``, ``"particle"``.

    Returns
    -------
    matplotlib Figure
    """
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    chosen = scene.layers[0] if layer is None else scene.layer(layer)
    cube = limits or scene.cube(zoom)
    scale = unit_scale(units)
    panel, right = 3.5, 1.3 if colour_by != "label" else 1.75
    width, height = 3 * (panel + 0.85) + right, panel + 2.05
    with styled():
        figure = sheet(width, height)
        images = [
            charge_image(chosen.positions, chosen.charge, cube, plane, pixel_of(chosen, cube))[0]
            for plane in PLANES
        ]
        norm = _norm(*images) if colour_by == "charge" else None
        handles: list[Any] = []
        drawn: Any = None
        for index, (plane, axes) in enumerate(PLANES.items()):
            left = 0.72 + index * (panel + 0.85)
            ax = place(figure, left, 1.0, width - left - panel, 1.05)
            drawn = draw_projection(ax, chosen, cube, plane, norm=norm, units=units, colour_by=colour_by)
            along = "xyz"[3 - sum(axes)]
            ax.set_title(f"seen along {along}", fontsize=10)
            if truth and scene.truth:
                handles = draw_truth(ax, scene.truth, cube, _flat(axes, scale), above=above)
        share = float(chosen.charge[cube.holds(chosen.positions)].sum() / max(chosen.charge.sum(), 1e-300))
        about = f"{chosen.name}: {chosen.about}, {chosen.charge.sum():,.0f} e⁻, {share:.1%} of it shown"
        figure.text(0.15 / width, 1 - 0.28 / height, scene.title, fontsize=13, fontweight="bold", va="center")
        figure.text(0.15 / width, 1 - 0.55 / height, about, fontsize=9, color="#56616c", va="center")
        box = (1 - (right - 0.1) / width, 1.1 / height, 0.16 / width, (panel - 0.2) / height)
        if colour_by == "label":
            figure.legend(
                handles=key_of_labels(chosen, words, most=14), loc="upper left", fontsize=8.5, handletextpad=0.1,
                bbox_to_anchor=(1 - (right - 0.02) / width, 1 - 0.98 / height), borderpad=0,
            )  # fmt: skip
        else:
            bar = figure.colorbar(drawn, cax=figure.add_axes(box))
            if norm is not None:
                ticks, names = charge_ticks(norm)
                bar.set_ticks(ticks, labels=names)
                bar.ax.minorticks_off()
                pixel = length_text(pixel_of(chosen, cube))
                bar.set_label(f"electrons per pixel of {pixel} × {pixel}", fontsize=9)
            else:
                bar.set_label("drift time [µs]", fontsize=9)
            bar.ax.tick_params(labelsize=8)
        if handles:
            figure.legend(
                handles=handles, loc="lower center", ncols=key_columns(width), fontsize=9, bbox_to_anchor=(0.46, 0.0),
                columnspacing=1.4, handletextpad=0.4,
            )  # fmt: skip
    return figure
