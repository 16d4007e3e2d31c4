"""What the pictures of an event have in common: hits in space, colours, titles, legends; and the side views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.geometry import OUTLINES, Geometry, element_position, wire_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from firstlight.detectors.spinquest.display.event import Event

    FloatArray = NDArray[np.float64]

__all__ = ["FRAME", "STATES", "Scene", "canvas", "draw_xz", "draw_yz", "legend", "scene_of", "short_name"]

# in-time flag -> words and colour, told apart by colour-blind people too; in drawing order
STATES = {0: ("out of time", "#e69f00"), -1: ("hit, no in-time flag", "#44337a"), 1: ("in time", "#0072b2")}
FRAME = "#c3cad2"
_BAR = 9.0  # drawn thickness of bars along z [cm]; the true one would be a hair
_MOST_PAIRS = 900  # of U and V wires of a station, beyond which their crossings say nothing


@dataclass(frozen=True, eq=False)
class Scene:
    """An event in space.

    Attributes
    ----------
    event : Event
        Its hits.
    planes : polars.DataFrame
        Planes that are drawn, in drawing order, with the columns of `geometry.Plane`.
    column, state : ndarray of int, shape (n_hits,)
        Row of the plane of each hit; key of `STATES`.
    position : ndarray, shape (n_hits,)
        Along the measuring direction [cm].
    low, high : ndarray, shape (n_hits, 3)
        x, y, z of the ends of the element [cm].
    """

    event: Event
    planes: pl.DataFrame  # those that are drawn, in drawing order
    column: NDArray[np.int64]  # row of the plane
    state: NDArray[np.int8]
    position: FloatArray  # along the measuring direction
    low: FloatArray  # (n_hits, 3): x, y, z of one end
    high: FloatArray

    def of_plane(self, name: str) -> NDArray[Any]:
        """Return a column of the geometry for each hit."""
        return self.planes[name].to_numpy()[self.column]

    @property
    def states(self) -> list[tuple[int, str, str]]:
        """Return the states that occur, in drawing order: key, words, colour."""
        return [(key, *words) for key, words in STATES.items() if (self.state == key).any()]

    @property
    def entries(self) -> list[tuple[str, str]]:
        """Return the entries of a legend of the states: words, colour."""
        return [(words, colour) for _, words, colour in reversed(self.states)]


def scene_of(event: Event, geometry: Geometry) -> Scene:
    """Return where the hits of an event are."""
    planes = geometry.planes.sort("drawing_order")
    # planes that need not be there (D1) only if they have hits
    seen = pl.col("detector_id").is_in(np.unique(event.detector_id).tolist())
    planes = planes.filter(seen | (pl.col("n_optional") < pl.col("n_elements")))
    ids = planes["detector_id"].to_numpy()
    order = np.argsort(ids)
    column = order[np.minimum(np.searchsorted(ids[order], event.detector_id), ids.size - 1)]
    ends = np.array(wire_ends(geometry, event.detector_id, event.element_id)).T.reshape(-1, 2, 3)
    where = element_position(geometry, event.detector_id, event.element_id)
    return Scene(event, planes, column, event.state, where, ends[:, 0], ends[:, 1])


def canvas(scene: Scene, width: float, height: float, what: str, layout: Any = "constrained") -> Figure:
    """Return a figure with the title of the event; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    lines = [" · ".join([what, *scene.event.facts])]
    if len(lines[0]) > 185:
        facts = scene.event.facts
        lines = [" · ".join([what, *facts[:4]]), " · ".join(facts[4:])]
    size, text = 0.17, "\n".join(line for line in lines if line)
    if layout == "constrained":
        # room above the axes: constrained layout knows nothing of figure texts
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - (0.36 + size * len(lines)) / height))  # type: ignore[union-attr, call-arg]
    figure.text(0.012, 1 - 0.08 / height, scene.event.title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.34 / height, text, fontsize=9.5, va="top", color="#444444", linespacing=1.3)
    return figure


def legend(figure: Figure, entries: Sequence[tuple[str, str]], width: float, height: float) -> None:
    """Put coloured squares with words into the upper right corner."""
    from matplotlib.patches import Patch

    squares = [Patch(facecolor=colour, edgecolor="#9aa3ad", label=words) for words, colour in entries]
    figure.legend(
        handles=squares, loc="upper right", ncols=len(squares), handlelength=1.0, handleheight=1.0,
        columnspacing=1.2, bbox_to_anchor=(1 - 0.05 / width, 1 - 0.02 / height), borderaxespad=0.1,
    )  # fmt: skip


def short_name(names: Sequence[str]) -> str:
    """Return what the names of planes have in common at their beginning: ``"D0"``."""
    same = [len(set(letters)) == 1 for letters in zip(*names, strict=False)]
    return names[0][: same.index(False) if False in same else len(same)] or names[0]


def draw_xz(event: Event, geometry: Geometry) -> Figure:
    """Draw the event from above (bend plane): x over z; parameters as in `draw_map`."""
    return _draw_side(event, geometry, 0)


def draw_yz(event: Event, geometry: Geometry) -> Figure:
    """Draw the event from the side: y over z; parameters as in `draw_map`."""
    return _draw_side(event, geometry, 1)


def _draw_side(event: Event, geometry: Geometry, axis: int) -> Figure:
    from firstlight.view.style import styled

    scene = scene_of(event, geometry)
    kind, view = scene.of_plane("kind"), scene.of_plane("view").astype("U1")
    letter, own = "xy"[axis], "XY"[axis]
    z, first, second = scene.low[:, 2], scene.low[:, axis], scene.high[:, axis]
    measured, bars = view == own, np.isin(kind, ("hodoscope", "dark_photon"))
    stereo = np.isin(view, ("U", "V"))
    width, height = 15.0, 7.4
    with styled():
        what = ("seen from above, in the bend plane", "seen from the side")[axis]
        figure = canvas(scene, width, height, f"{what}, geometry {geometry.version}")
        axes = figure.subplots()
        _draw_setup(axes, scene.planes, axis)
        for key, _, colour in scene.states:
            chosen = scene.state == key
            faint: dict[str, Any] = {"alpha": 0.16, "linewidth": 4.0, "capstyle": "butt"}
            _segments(axes, z, first, second, chosen & bars & ~measured, colour, **faint)
            alpha = (0.6, 0.3)[axis] if stereo.sum() < 200 else 0.2
            _segments(axes, z, first, second, chosen & stereo, colour, alpha=alpha, linewidth=0.9)
        for key, _, colour in scene.states:
            chosen = (scene.state == key) & measured
            pitch = scene.of_plane("cell_width") / 2
            _boxes(axes, z, (first + second) / 2, pitch, chosen & bars, colour)
            for name, size in (("prop_tube", 34.0), ("chamber", 20.0)):
                some = chosen & (kind == name)
                hollow = name == "prop_tube"
                axes.scatter(
                    z[some], ((first + second) / 2)[some], s=size, marker="o", zorder=5 + key / 10,
                    facecolors="none" if hollow else colour, edgecolors=colour if hollow else "white",
                    linewidths=1.2 if hollow else 0.3,
                )  # fmt: skip
        crossings = _draw_crossings(axes, scene) if axis else ""
        axes.set(
            xlabel="z along the beam (cm)", ylabel=f"{letter} ({'to the left' if axis == 0 else 'up'}) (cm)"
        )
        other = "YX"[axis]
        axes.text(
            0.004, 0.012, f"points: wires and tubes that measure {letter}; boxes: bars that measure {letter} (thickness "
            f"not to scale); thin lines: extent in {letter} of fired U and V wires; pale bands: that of {other} bars.\n"
            f"Fired {other} wires and tubes are not shown here. {crossings}",
            transform=axes.transAxes, fontsize=8, color="#555555", va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )  # fmt: skip
        legend(figure, scene.entries, width, height)
    return figure


def _draw_crossings(axes: Axes, scene: Scene) -> str:
    """Draw where a U, an X and a V wire of a station cross within a cell, and return words on it.

    The planes are some 10 cm apart: positions are taken to their middle along lines from the origin, which
    is right to a few cm.
    """
    event, view = scene.event, scene.of_plane("view").astype("U1")
    chambers = scene.planes.filter(pl.col("kind") == "chamber")
    angle = scene.of_plane("angle") + scene.of_plane("theta_z")
    left_out = []
    for (_,), group in chambers.group_by(["group"], maintain_order=True):
        own = np.isin(event.detector_id, group["detector_id"].to_list()) & (scene.state != 0)
        middle = float(group["z0"].mean())  # type: ignore[arg-type]
        place = scene.position * middle / scene.low[:, 2]
        u, v, x = (np.flatnonzero(own & (view == letter)) for letter in "UVX")
        if not (u.size and v.size and x.size):
            continue
        if u.size * v.size > _MOST_PAIRS:
            left_out.append(short_name(group["name"].to_list()))
            continue
        u, v = (some.ravel() for some in np.meshgrid(u, v))
        turn = np.sin(angle[v] - angle[u])
        across = (place[u] * np.sin(angle[v]) - place[v] * np.sin(angle[u])) / turn
        up = (place[v] * np.cos(angle[u]) - place[u] * np.cos(angle[v])) / turn
        known = np.sort(place[x])
        gap = np.abs(known[np.clip(np.searchsorted(known, across)[:, np.newaxis] + (-1, 0), 0, x.size - 1)] - across[:, np.newaxis])  # fmt: skip
        inside = np.abs(up - float(group["y0"].mean())) < float(group["height"].max()) / 2  # type: ignore[arg-type]
        good = (gap.min(axis=1) < 1.2 * float(group["pitch"].max())) & inside  # type: ignore[arg-type]
        key = int(scene.state[u[0]])
        axes.plot(
            np.full(int(good.sum()), middle), up[good], "x", color=STATES[key][1], markersize=5, zorder=5
        )
    words = "Crosses: where U, X and V wires meet within a cell, right to a few cm."
    return words + (f" Too many wires for it in {', '.join(left_out)}." if left_out else "")


def _segments(
    axes: Axes,
    z: FloatArray,
    first: FloatArray,
    second: FloatArray,
    chosen: NDArray[np.bool_],
    colour: str,
    **look: Any,
) -> None:
    """Draw lines at z from first to second, each place only once."""
    from matplotlib.collections import LineCollection

    # bars of one plane reach equally far but for its rotation: one band shows them all
    grid = 5.0 if look["linewidth"] > 2 else 0.01
    rows = np.unique(np.round(np.stack([z, first, second], axis=1)[chosen] / grid), axis=0) * grid
    lines = np.stack([rows[:, [0, 1]], rows[:, [0, 2]]], axis=1)
    axes.add_collection(LineCollection(list(lines), colors=colour, zorder=3, **look), autolim=False)


def _boxes(
    axes: Axes, z: FloatArray, middle: FloatArray, half: FloatArray, chosen: NDArray[np.bool_], colour: str
) -> None:
    from matplotlib.collections import PolyCollection

    across = np.array([-1, 1, 1, -1]) * _BAR / 2
    along = np.array([-1, -1, 1, 1])
    corners = np.stack(
        [
            z[chosen][:, np.newaxis] + across,
            middle[chosen][:, np.newaxis] + half[chosen][:, np.newaxis] * along,
        ],
        axis=2,
    )
    axes.add_collection(
        PolyCollection(list(corners), facecolors=colour, edgecolors="white", linewidths=0.3, zorder=4),
        autolim=False,
    )


def _draw_setup(axes: Axes, planes: pl.DataFrame, axis: int) -> None:
    """Draw planes as lines, magnets and dump as outlines, and set the limits."""
    from matplotlib.patches import Rectangle

    centre, size = planes[("x0", "y0")[axis]].to_numpy(), planes[("width", "height")[axis]].to_numpy()
    z = planes["z0"].to_numpy()
    limit = float(np.max(np.abs(centre) + size / 2)) * 1.04
    for outline in OUTLINES:
        half = (outline.x_half, outline.y_half)[axis] or limit * 0.55
        if outline.z_high == outline.z_low:
            axes.plot([outline.z_low], [0], marker="D", color="#555555", markersize=6, zorder=3)
            axes.text(outline.z_low, limit * 0.06, outline.name, ha="center", va="bottom", fontsize=9)
            continue
        size_z = outline.z_high - outline.z_low
        known = (outline.x_half, outline.y_half)[axis] is not None
        box = Rectangle(
            (outline.z_low, -half), size_z, 2 * half, facecolor="#f4f1ea", edgecolor="#a89f8d", linewidth=1.0,
            linestyle="-" if known else "--", zorder=0,
        )  # fmt: skip
        axes.add_patch(box)
        words = outline.name + (
            "" if known else "\n(height not to scale)" if axis else "\n(width not to scale)"
        )
        words += " (opening)" if known else ""
        axes.text(
            outline.z_low + size_z / 2, half * 0.97, words, ha="center", va="top", fontsize=9, color="#6b6353"
        )
    axes.vlines(z, centre - size / 2, centre + size / 2, color=FRAME, linewidth=0.8, zorder=1)
    axes.axhline(0, color="#8c96a0", linewidth=0.6, linestyle=(0, (8, 4)), zorder=1)
    place = -np.inf
    for _, group in sorted(planes.group_by("group"), key=lambda item: float(item[1]["z0"].mean())):  # type: ignore[arg-type]
        name = short_name(group["name"].to_list())
        place = max(float(group["z0"].mean()), place + 27)  # type: ignore[arg-type]
        axes.text(
            place, 1.01, name, transform=axes.get_xaxis_transform(),
            rotation=90, ha="center", va="bottom", fontsize=8.5, color="#333333",
        )  # fmt: skip
    axes.set(xlim=(min(-350.0, z.min() - 40), z.max() + 45), ylim=(-limit * 1.1, limit))
