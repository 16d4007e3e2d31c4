"""Event display: one event of a file as the classical map, side views, wires and drift circles.

Every figure is a `matplotlib.figure.Figure` that needs no display. Reading is in `display_event`, the side
views are in `display_scene`, the interactive page in `display_html`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.display.event import (
    Event,
    event_range,
    only_in_time,
    open_events,
    read_event,
    read_events,
)
from firstlight.detectors.spinquest.display.scene import (
    FRAME,
    STATES,
    Scene,
    canvas,
    draw_xz,
    draw_yz,
    legend,
    scene_of,
    short_name,
)
from firstlight.detectors.spinquest.geometry import Geometry, element_position
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from firstlight.run.progress import Progress

    FloatArray = NDArray[np.float64]

__all__ = ["STATES", "VIEWS", "VIEW_COLOURS", "draw", "draw_map", "draw_station", "draw_wires", "plot_events"]

VIEWS = ("map", "xz", "yz", "station", "wires")
VIEW_COLOURS = {"X": "#0072b2", "U": "#d55e00", "V": "#009e73", "Y": "#b0508e"}
_NOT_FIRED, _NOT_THERE = "#ffffff", "#dfe3e8"
_ZOOM = 16  # cells of the enlarged parts


def draw_map(event: Event, geometry: Geometry) -> Figure:
    """Draw the classical map: planes in drawing order, elements 1 .. n, and the number of hits above.

    Parameters
    ----------
    event : Event
        See `read_event`.
    geometry : Geometry
        Planes in their drawing order.
    """
    from matplotlib.colors import ListedColormap

    from firstlight.view.style import styled

    scene = scene_of(event, geometry)
    sizes = scene.planes["n_elements"].to_numpy()
    largest, n_planes = int(sizes.max()), sizes.size
    cells = np.where(np.arange(1, largest + 1)[:, np.newaxis] <= sizes, 1, 0)
    codes = {key: code for code, key in enumerate(STATES, start=2)}
    np.maximum.at(
        cells,
        (event.element_id - 1, scene.column),
        np.array([codes[int(key)] for key in scene.state], dtype=int),
    )
    colours = [_NOT_THERE, _NOT_FIRED, *(colour for _, colour in STATES.values())]
    width, height = 15.0, 8.6
    with styled():
        figure = canvas(scene, width, height, f"map of all planes, geometry {geometry.version}")
        totals, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 5.2))
        axes.imshow(
            cells, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5, origin="lower", aspect="auto",
            extent=(-0.5, n_planes - 0.5, 0.5, largest + 0.5),
        )  # fmt: skip
        edges = np.arange(n_planes + 1) - 0.5
        axes.stairs(sizes + 0.5, edges, baseline=0.5, color="#7b8794", linewidth=0.7)
        axes.vlines(edges[1:-1], 0.5, np.maximum(sizes[1:], sizes[:-1]) + 0.5, color="#e3e7eb", linewidth=0.5)
        names = scene.planes["group"].to_list()
        starts = [0, *(i for i in range(1, n_planes) if names[i] != names[i - 1]), n_planes]
        for axis in (axes, totals):
            axis.vlines(np.array(starts[1:-1]) - 0.5, 0, 1, transform=axis.get_xaxis_transform(), color="#5b7083", linewidth=0.9)  # fmt: skip
        bottom = np.zeros(n_planes)
        for key, _, colour in scene.states:
            count = np.bincount(scene.column[scene.state == key], minlength=n_planes)
            totals.bar(np.arange(n_planes), count, width=0.8, bottom=bottom, color=colour)
            bottom += count
        for first, last in itertools.pairwise(starts):
            totals.text(
                (first + last - 1) / 2, 1.04, names[first], transform=totals.get_xaxis_transform(),
                rotation=38, ha="left", va="bottom", fontsize=8.5, rotation_mode="anchor",
            )  # fmt: skip
        totals.set_ylabel("hits")
        totals.set_ylim(0, max(1.0, bottom.max(initial=0) * 1.1))
        totals.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        totals.tick_params(bottom=False, labelbottom=False)
        axes.set(xlim=(-0.5, n_planes - 0.5), ylim=(0.5, largest + 0.5), ylabel="element")
        axes.set_yticks([1, *range(25, largest - 8, 25), largest])
        axes.set_xticks(range(n_planes), scene.planes["name"].to_list(), rotation=90, fontsize=8)
        axes.set_xlabel("plane")
        legend(
            figure,
            [*scene.entries, ("not fired", _NOT_FIRED), ("no such element", _NOT_THERE)],
            width,
            height,
        )
    return figure


def draw_station(event: Event, geometry: Geometry) -> Figure:
    """Draw the cells of chambers and tubes with their drift circles: all of them, and enlarged the fullest part.

    One row for each double layer; parameters as in `draw_map`.
    """
    from firstlight.view.style import styled

    scene = scene_of(event, geometry)
    layers = scene.planes.filter(pl.col("kind").is_in(["chamber", "prop_tube"])).with_columns(
        (pl.col("group") + " " + pl.col("view").str.head(1)).alias("row")
    )
    rows = [table for _, table in layers.group_by("row", maintain_order=True)]
    width, height = 15.0, 1.35 + 0.72 * len(rows)
    with styled():
        what = f"drift circles seen along the wires, layers not to scale in z, geometry {geometry.version}"
        figure = canvas(scene, width, height, what, layout="none")
        grid = figure.add_gridspec(
            len(rows), 2, width_ratios=(2.5, 1), left=0.062, right=0.988, bottom=0.5 / height,
            top=1 - 0.88 / height, wspace=0.1, hspace=0.6,
        )  # fmt: skip
        for index, table in enumerate(rows):
            strip, zoom = (figure.add_subplot(grid[index, side]) for side in (0, 1))
            _draw_layers(strip, zoom, scene, table, geometry)
            if index == 0:
                strip.set_title("all cells", fontsize=10)
                zoom.set_title(f"enlarged: {_ZOOM} cells", fontsize=10)
            if index == len(rows) - 1:
                strip.set_xlabel("position across the wires (cm)")
                zoom.set_xlabel("position across the wires (cm)")
        legend(figure, scene.entries, width, height)
    return figure


def _draw_layers(strip: Axes, zoom: Axes, scene: Scene, table: pl.DataFrame, geometry: Geometry) -> None:
    """Draw the layers of one view of one station, all of them and the fullest part."""
    ids = table["detector_id"].to_list()
    chosen = np.isin(scene.event.detector_id, ids)
    pitch, largest = float(table["pitch"].max()), int(table["n_elements"].max())  # type: ignore[arg-type]
    z_low, z_high = float(table["z0"].min()), float(table["z0"].max())  # type: ignore[arg-type]
    elements = [np.arange(1, size + 1) for size in table["n_elements"]]
    wires = np.concatenate(
        [element_position(geometry, number, some) for number, some in zip(ids, elements, strict=True)]
    )
    wire_z = np.repeat(table["z0"].to_numpy(), [some.size for some in elements])
    centre = _fullest(scene, chosen, pitch)
    centre = float(wires.mean()) if centre is None else centre
    margin = 0.55 * max(z_high - z_low, pitch)
    half = _ZOOM * pitch / 2
    edge = pitch * max(2.0, largest * 0.01)
    for axes, limits, marker in (
        (strip, (wires.min() - edge, wires.max() + edge), 1.4),
        (zoom, (centre - half, centre + half), 2.4),
    ):
        axes.plot(wires, wire_z, ".", color="#b4bdc7", markersize=marker, zorder=1)
        _draw_circles(axes, scene, chosen, marker * 1.5)
        axes.set(xlim=limits, ylim=(z_low - margin, z_high + margin))
        axes.tick_params(labelsize=7.5, pad=1.5, length=2.5)
    zoom.set_yticks([])
    strip.set_yticks(table["z0"].to_list(), table["name"].to_list(), fontsize=8)
    strip.axvspan(centre - half, centre + half, color="#eef3f8", zorder=0)
    strip.text(1.006, 0.5, _counted(int(chosen.sum())), transform=strip.transAxes, va="center", fontsize=8.5)


def _counted(number: int) -> str:
    return f"{number or 'no'} hit{'' if number == 1 else 's'}"


def _fullest(scene: Scene, chosen: NDArray[np.bool_], pitch: float) -> float | None:
    """Return the middle of the hits in the fullest window of `_ZOOM` cells [cm]; hits in time count if there are any."""
    best = chosen & (scene.state == 1)
    place = np.sort(scene.position[best if best.any() else chosen])
    if not place.size:
        return None
    last = np.searchsorted(place, place + (_ZOOM - 3) * pitch, side="right")
    start = int(np.argmax(last - np.arange(place.size)))
    return float(place[start] + place[last[start] - 1]) / 2


def _draw_circles(axes: Axes, scene: Scene, chosen: NDArray[np.bool_], marker: float) -> None:
    """Draw fired wires, and circles of the drift distance where it is known."""
    from matplotlib.collections import EllipseCollection

    radius = np.abs(scene.event.drift)
    for key, _, colour in scene.states:
        some = chosen & (scene.state == key)
        place = np.stack([scene.position[some], scene.low[some, 2]], axis=1)
        axes.plot(place[:, 0], place[:, 1], ".", color=colour, markersize=marker * 1.5, zorder=3 + key / 10)
        size = np.nan_to_num(2 * radius[some])
        drawn = (size > 0) & (size < 4 * scene.of_plane("pitch")[some])
        circles: Collection = EllipseCollection(
            size[drawn], size[drawn], np.zeros(int(drawn.sum())), units="x", offsets=place[drawn],
            offset_transform=axes.transData, facecolors="none", edgecolors=colour, linewidths=0.9, zorder=3 + key / 10,
        )  # fmt: skip
        axes.add_collection(circles, autolim=False)


def draw_wires(event: Event, geometry: Geometry) -> Figure:
    """Draw fired wires, tubes and bars as who looks along the beam sees them, station by station.

    Parameters as in `draw_map`.
    """
    from matplotlib.collections import LineCollection

    from firstlight.view.style import styled

    scene = scene_of(event, geometry)
    stations = scene.planes["station"].unique(maintain_order=True).to_list()
    rows = -(-len(stations) // 3)
    width, height = 15.0, 1.1 + 4.6 * rows
    station, view = scene.of_plane("station"), scene.of_plane("view").astype("U1")
    bars = np.isin(scene.of_plane("kind"), ("hodoscope", "dark_photon"))
    late = scene.state == 0
    with styled():
        figure = canvas(scene, width, height, f"seen along the beam, geometry {geometry.version}")
        panels = figure.subplots(rows, 3, squeeze=False).ravel()
        for axes, name in zip(panels, stations, strict=False):
            planes = scene.planes.filter(pl.col("station") == name)
            own = station == name
            crowd = max(0.25, min(1.0, 60 / max(int((own & ~bars).sum()), 1)))
            lines = np.stack([scene.low[:, :2], scene.high[:, :2]], axis=1)
            frames = LineCollection(_frames(planes), colors=FRAME, linewidths=0.8, zorder=0)
            axes.add_collection(frames, autolim=False)
            _draw_bars(axes, scene, own & bars)
            grey = own & ~bars & late
            axes.add_collection(
                LineCollection(
                    list(lines[grey]), colors="#a9b1ba", linewidths=0.5, alpha=max(crowd, 0.4), zorder=2
                ),
                autolim=False,
            )
            for letter, colour in VIEW_COLOURS.items():
                some = own & ~bars & ~late & (view == letter)
                wires = LineCollection(
                    list(lines[some]), colors=colour, linewidths=0.9, alpha=crowd, zorder=3
                )
                axes.add_collection(wires, autolim=False)
            x_half = float((planes["x0"].abs() + planes["width"] / 2).max()) * 1.05  # type: ignore[arg-type]
            y_half = float((planes["y0"].abs() + planes["height"] / 2).max()) * 1.05  # type: ignore[arg-type]
            # x points to the left of who looks along the beam
            axes.set(
                xlim=(x_half, -x_half),
                ylim=(-y_half, y_half),
                xlabel="x (cm)",
                ylabel="y (cm)",
                aspect="equal",
            )
            names = dict.fromkeys(
                short_name(g["name"].to_list()) for _, g in planes.group_by("group", maintain_order=True)
            )
            axes.set_title(f"{name}: {', '.join(names)}, {_counted(int(own.sum()))}")
        for axes in panels[len(stations) :]:
            axes.set_visible(False)
        entries = [(f"{letter} wires, tubes, bars", colour) for letter, colour in VIEW_COLOURS.items()]
        entries = [
            (words.replace(", tubes, bars", "") if words[0] in "UV" else words, c) for words, c in entries
        ]
        legend(figure, [*entries, *([("out of time", "#a9b1ba")] if late.any() else [])], width, height)
    return figure


def _frames(planes: pl.DataFrame) -> list[FloatArray]:
    """Return the outlines of planes in x and y, each of shape (5, 2)."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) / 2
    table = planes.select("x0", "y0", "width", "height").to_numpy()
    return [row[:2] + corners * row[2:] for row in table]


def _draw_bars(axes: Axes, scene: Scene, chosen: NDArray[Any]) -> None:
    """Draw each fired bar once; one with a hit in time is in time."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(scene.state[rows] == 0, kind="stable")]
    chosen = rows[np.unique(scene.event.channel[rows], return_index=True)[1]]
    low, high = scene.low[chosen, :2], scene.high[chosen, :2]
    along = (high - low) / np.linalg.norm(high - low, axis=1, keepdims=True)
    across = (
        np.stack([-along[:, 1], along[:, 0]], axis=1) * scene.of_plane("cell_width")[chosen, np.newaxis] / 2
    )
    corners = np.stack([low - across, low + across, high + across, high - across], axis=1)
    view = scene.of_plane("view").astype("U1")[chosen]
    late = scene.state[chosen] == 0
    colours = ["#a9b1ba" if out else VIEW_COLOURS[str(name)] for name, out in zip(view, late, strict=True)]
    order = np.argsort(~late, kind="stable")
    axes.add_collection(
        PolyCollection(
            list(corners[order]), facecolors=[to_rgba(colours[i], 0.16) for i in order],
            edgecolors=[to_rgba(colours[i], 0.75) for i in order], linewidths=0.6, zorder=1,
        ), autolim=False,
    )  # fmt: skip


def draw(view: str, event: Event, geometry: Geometry) -> Figure:
    """Draw one of `VIEWS`; `UsageError` if it is none of them."""
    drawers = {"map": draw_map, "xz": draw_xz, "yz": draw_yz, "station": draw_station, "wires": draw_wires}
    if view not in drawers:
        raise UsageError.unknown("view", view, VIEWS)
    return drawers[view](event, geometry)


def plot_events(
    path: str | Path,
    events: str | int | range,
    views: Sequence[str],
    output: str | Path,
    *,
    geometry: str | Path | Geometry = "auto",
    interactive: bool = True,
    dpi: int = 110,
    in_time: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Draw events of a file into a folder.

    Parameters
    ----------
    path : str or Path
        A file with hits.
    events : str, int or range
        See `event_range`.
    views : sequence of str
        Some of `VIEWS`; may be empty.
    output : str or Path
        Folder for ``<stem>_event_<N>_<view>.png`` and ``<stem>_events_<first>-<last>.html``.
    geometry : str, Path or Geometry
        See `open_events`.
    interactive : bool
        Whether the page with all these events is written; it holds a limited number of them and says so.
    dpi : int
        Resolution of the pictures.
    in_time : bool
        Draw only hits in time.
    progress : Progress, optional
        Where progress is shown.

    Returns
    -------
    list of Path
        What was written, in order.
    """
    from firstlight.run.progress import silent
    from firstlight.view.save import save_canvas

    for view in views:
        if view not in VIEWS:
            raise UsageError.unknown("view", view, VIEWS)
    description, table = open_events(path, geometry)
    numbers = event_range(events, description.n_events, path)
    channels = channel_map(table)
    folder, stem = Path(output), Path(path).stem
    written = []
    total = len(numbers) * len(views) + interactive
    with (progress or silent()).bar("drawing", total, "figures") as advance:
        for number in numbers if views else ():
            event = read_event(path, number, channels=channels, geometry=table)
            event = only_in_time(event) if in_time else event
            for view in views:
                target = folder / f"{stem}_event_{number}_{view}.png"
                written.append(save_canvas(draw(view, event, table), target, dpi))
                advance(1, target.name)
        if interactive:
            from firstlight.detectors.spinquest.display.page import MAXIMUM_EVENTS, event_page

            shown = numbers[:MAXIMUM_EVENTS]
            chosen = read_events(path, shown, channels=channels, geometry=table)
            chosen = [only_in_time(event) for event in chosen] if in_time else chosen
            target = folder / f"{stem}_events_{shown[0]}-{shown[-1]}.html"
            note = (
                "" if len(shown) == len(numbers) else f"{len(shown)} of the {len(numbers)} events asked for"
            )
            written.append(event_page(chosen, table, target, note=note))
            advance(1, target.name)
    return written
