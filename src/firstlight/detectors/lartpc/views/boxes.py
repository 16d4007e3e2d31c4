"""Small views in space for sheets of many events: an orthographic cube in flat axes, drawn in one go.

Axes in space of matplotlib take a tenth of a second each and fill small panels with numbers. Here a cube has one
length written on it, which is all that a small panel can say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.views.marks import (
    charge_norm,
    colours_of,
    draw_truth,
    marker_area,
)
from firstlight.detectors.lartpc.views.scene import length_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Truth
    from firstlight.detectors.lartpc.views.cubes import Cube
    from firstlight.detectors.lartpc.views.scene import Layer

    Floats = NDArray[np.float64]

__all__ = ["draw_box", "project"]

_EDGE = "#c3cad1"
_HALF = 0.86  # half of the width of a turned cube, in edges


def project(positions: Floats, view: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    """Return positions as somebody sees them from a direction: to the right, upwards, and towards the viewer.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        In any unit.
    view : (float, float)
        Elevation and azimuth [degrees], as in matplotlib.
    """
    elevation, azimuth = np.radians(view)
    towards = np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    up = np.cross(towards, right)
    return right @ positions, up @ positions, towards @ positions


def draw_box(
    ax: Axes,
    layer: Layer,
    cube: Cube,
    *,
    view: tuple[float, float],
    norm: Normalize | None = None,
    colour_by: str = "charge",
    truth: Truth | None = None,
    interactions: bool = True,
    above: float = 20.0,
    letters: float = 7.0,
    largest: float | None = None,
    scale: bool = True,
) -> list[Any]:
    """Draw a layer in a cube seen from a direction, with the length of its edge written on it.

    Parameters
    ----------
    ax : matplotlib Axes
        Flat axes; they lose their ticks.
    layer : Layer
        What is drawn.
    cube : Cube
        What is shown.
    view : (float, float)
        Elevation and azimuth [degrees].
    norm : Normalize, optional
        Scale of the colours.
    colour_by : {"charge", "label", "time"}
        What the colours mean.
    truth : Truth, optional
        Mark origin, direction and, if wanted, `interactions` with more energy than `above` [keV].
    letters : float
        Size of letters [pt].
    largest : float, optional
        Area of the largest marker [pt2].
    scale : bool
        Write the length of an edge.

    Returns
    -------
    list of artists
        Handles of the truth for a legend.
    """
    _draw_edges(ax, cube, view, letters, scale=scale)
    handles: list[Any] = []
    shown = layer.inside(cube)
    if len(shown):
        right, up, towards = project((shown.positions - cube.centre[:, np.newaxis]) / cube.edge, view)
        order = np.argsort(towards, kind="stable")
        colours = colours_of(shown, colour_by, norm or charge_norm([layer]))
        colours["c"] = [colours["c"][index] for index in order]
        area = marker_area(shown.charge, float(layer.charge.max(initial=1.0)), largest)[order]
        ax.scatter(right[order], up[order], s=area, linewidths=0, zorder=5, **colours)
    if truth is not None:
        handles = draw_truth(
            ax, truth, cube, lambda some: project((some - cube.centre[:, np.newaxis]) / cube.edge, view)[:2],
            above=above, interactions=interactions, size=2.8 * letters,
        )  # fmt: skip
    ax.set(xlim=(-_HALF, _HALF), ylim=(-_HALF, _HALF), aspect="equal")
    ax.set_axis_off()
    return handles


def _draw_edges(ax: Axes, cube: Cube, view: tuple[float, float], letters: float, *, scale: bool) -> None:
    """Draw the edges of a cube that lie behind, and write on the lowest ones what they are."""
    corners = np.array(list(np.ndindex(2, 2, 2)), dtype=float).T - 0.5
    right, up, towards = project(corners, view)
    pairs = [
        (a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(corners[:, a] - corners[:, b]).sum() == 1
    ]
    nearest = int(np.argmax(towards))
    lines = np.array([[(right[a], up[a]), (right[b], up[b])] for a, b in pairs if nearest not in (a, b)])
    from matplotlib.collections import LineCollection

    ax.add_collection(LineCollection(list(lines), colors=_EDGE, linewidths=0.6, zorder=1), autolim=False)
    # one edge along each axis, on the outline: below for x and y, at the right for z
    for axis, name in enumerate("xyz"):
        own = [(a, b) for a, b in pairs if corners[axis, a] != corners[axis, b] and nearest not in (a, b)]
        outer = (lambda pair: up[pair[0]] + up[pair[1]]) if axis < 2 else (lambda pair: -right[pair[0]] - right[pair[1]])  # fmt: skip
        a, b = min(own, key=outer)
        x, y = float(right[a] + right[b]) / 2, float(up[a] + up[b]) / 2
        away = 1 + 0.075 / max(float(np.hypot(x, y)), 1e-9)
        words = f"{name}  {length_text(cube.edge)}" if scale and axis == 0 else name
        angle = float(np.degrees(np.arctan2(up[b] - up[a], right[b] - right[a])))
        angle = (angle + 90) % 180 - 90 if axis < 2 else 0.0
        ax.text(
            away * x, away * y, words, fontsize=letters, color="#56616c", ha="center", va="center",
            rotation=angle, rotation_mode="anchor",
        )  # fmt: skip
