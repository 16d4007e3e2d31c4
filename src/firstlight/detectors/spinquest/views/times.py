"""Figures of a SpinQuest run on times and drift distances."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.view.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.data.cube import HistogramCube
    from firstlight.detectors.spinquest.views.maps import Scene

__all__ = ["drift_distances", "head", "tdc_spectra", "times_of_elements"]

_KINDS = {
    "chamber": "chambers",
    "hodoscope": "hodoscopes",
    "dark_photon": "dark photon",
    "prop_tube": "prop. tubes",
}
_ROW_ELEMENTS = 900  # elements side by side in the figure of times
_COLUMNS = 1300  # columns of its images at most


def _kind_of(scene: Scene) -> dict[str, str]:
    frame = scene.channels.groups
    return dict(zip(frame["group"].to_list(), frame["kind"].to_list(), strict=True))


def head(canvas: Canvas, title: str, scene: Scene, size: float = 12.0) -> None:
    """Write the title, and what the run is, at the top left."""
    height = float(canvas.get_size_inches()[1])
    canvas.text(0.008, 1 - 0.1 / height, title, fontsize=size + 3, va="top", weight="bold")
    canvas.text(0.008, 1 - (0.2 + 0.021 * size) / height, scene.about, fontsize=size, va="top")


def _times(products: Mapping[str, Any]) -> tuple[HistogramCube, HistogramCube | None] | str:
    """Return the TDC spectra of all and, where the flag is filled, in-time hits; or why there are none."""
    if "tdc/all" not in products:
        return "the files have no TDC times"
    cube: HistogramCube = products["tdc/all"]
    if not cube.values.sum():
        axis = cube.axes[1]
        low, high = axis.edges[0], axis.edges[-1]
        if not cube.total:
            return "no hit has a TDC time"
        return (
            f"all {cube.total:,} TDC times are outside {low:g} to {high:g} {axis.unit} (simulations write 0)"
        )
    # products of a run are read when they are asked for: `get` would not find them
    marked = products["tdc/in_time"] if "tdc/in_time" in products else None  # noqa: SIM401
    return cube, marked if marked is not None and marked.total else None


def _flag(marked: object) -> str:
    return "Orange: in-time hits." if marked is not None else "The in-time flag is not filled in these files."


def tdc_spectra(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    """Return the TDC spectra of all planes, or why there are none."""
    times = _times(products)
    if isinstance(times, str):
        return times
    cube, marked = times
    rows = scene.channels.sum_groups(cube.values)
    parts = None if marked is None else scene.channels.sum_groups(marked.values)
    caption = f"One spectrum for each plane, from 0 to the number at its tick. {_flag(marked)} A later hit has a smaller time."
    return Figure(
        "tdc_spectra", "TDC spectra of all planes", caption, "Times",
        partial(_draw_tdc, scene, cube.axes[1].edges, rows, parts), dpi=100,
    )  # fmt: skip


def _split(names: Sequence[str], kinds: Sequence[str], sections: Sequence[str], most: int) -> list[list[str]]:
    """Return planes in `most` columns at most of about equal length, kind after kind, sections kept together."""
    order = sorted(range(len(names)), key=lambda i: list(_KINDS).index(kinds[i]))
    blocks: list[list[str]] = []
    before = None
    for i in order:
        if (sections[i], kinds[i]) != before:
            blocks.append([])
        before = (sections[i], kinds[i])
        blocks[-1].append(names[i])
    columns: list[list[str]] = [[]]
    target = -(-len(names) // most)
    for block in blocks:
        if columns[-1] and len(columns[-1]) + len(block) / 2 > target and len(columns) < most:
            columns.append([])
        columns[-1] += block
    return columns


def _draw_tdc(
    scene: Scene, edges: NDArray[np.float64], rows: NDArray[np.int64], parts: NDArray[np.int64] | None
) -> Canvas:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from firstlight.view import draw

    kind = _kind_of(scene)
    index = {name: i for i, name in enumerate(scene.channels.group_names)}
    planes = list(scene.planes)
    section = dict(zip(scene.planes, scene.sections, strict=True))
    columns = _split(planes, [kind[p] for p in planes], [section[p] for p in planes], 4)
    size, longest = 12.0, max(len(column) for column in columns)
    height = 0.44 * longest + 1.75
    canvas = draw.sheet(16, height)
    head(canvas, "TDC spectra", scene, size)
    key: list[Any] = [Line2D([], [], color="#1f5f99", label="all hits")]
    key += [Patch(facecolor="#d1662a", label="in time")] if parts is not None else []
    canvas.legend(handles=key, loc="upper right", ncols=2, fontsize=size)
    width = 16 / len(columns)
    for number, column in enumerate(columns):
        bottom = height - 1.1 - 0.44 * len(column)
        ax = draw.place(canvas, number * width + 0.95, bottom, 16 - (number + 1) * width + 0.8, 1.1, size)
        bands = [
            draw.Band(p, edges, rows[index[p]], None if parts is None else parts[index[p]]) for p in column
        ]
        draw.draw_bands(ax, bands, x_label="TDC time [ns]")
        filled = np.flatnonzero(rows[[index[p] for p in column]].sum(axis=0))
        if filled.size:
            ax.set_xlim(edges[filled[0]], edges[filled[-1] + 1])
        words = list(dict.fromkeys(_KINDS[kind[p]] for p in column))
        ax.set_title(", ".join(words), fontsize=size, loc="left")
        ax.set_ylabel(f"hits per {edges[1] - edges[0]:g} ns (each from 0)" if not number else "")
    return canvas


def times_of_elements(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    """Return the TDC time against the element, or why there is none."""
    times = _times(products)
    if isinstance(times, str):
        return times
    cube = times[0]
    kind = _kind_of(scene)
    rows: list[list[str]] = []
    filled = 0
    before = ""
    order = sorted(scene.groups().items(), key=lambda item: list(_KINDS).index(kind[item[1][0]]))
    for _, planes in order:
        number = sum(scene.channels.channels_of(plane).size for plane in planes)
        if not rows or kind[planes[0]] != before or filled + number > _ROW_ELEMENTS:
            rows.append([])
            filled = 0
        rows[-1] += planes
        filled, before = filled + number, kind[planes[0]]
    caption = (
        "TDC time against element, plane beside plane; elements count from 1 at the left of each plane. "
        "Colours are logarithmic; white: no hit."
    )
    wide = [_times_of_row(cube.values, row, scene) for row in rows]
    axis = cube.axes[1]
    return Figure(
        "tdc_time_of_elements", "TDC time of every element", caption, "Times",
        partial(_draw_time_map, scene, axis.edges, [row for row in wide if row[0].any()]), dpi=100,
    )  # fmt: skip


_Row = tuple["NDArray[np.int64]", list[str], "NDArray[np.float64]"]


def _times_of_row(counts: NDArray[np.int64], planes: Sequence[str], scene: Scene) -> _Row:
    """Return counts[column, time], planes, and the columns at which they end; many elements share columns."""
    members = [scene.channels.channels_of(plane) for plane in planes]
    step = -(-sum(rows.size for rows in members) // _COLUMNS)
    images = []
    for rows in members:
        starts = np.arange(0, rows.size, step)
        images.append(np.add.reduceat(counts[rows], starts, axis=0))
    image = np.concatenate(images)
    pairs = image[:, : image.shape[1] // 2 * 2].reshape(image.shape[0], -1, 2).sum(axis=2)
    return pairs, list(planes), np.cumsum([0, *(part.shape[0] for part in images)], dtype=np.float64)


def _draw_time_map(scene: Scene, edges: NDArray[np.float64], rows: Sequence[_Row]) -> Canvas:
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    from firstlight.view import draw

    size, each = 12.0, 2.15
    height = each * len(rows) + 0.95
    canvas = draw.sheet(14, height)
    head(canvas, "TDC time of every element, planes side by side", scene, size)
    largest = max(float(row[0].max()) for row in rows)
    for number, (image, planes, ends) in enumerate(rows):
        ax = draw.place(
            canvas, 0.95, height - 0.85 - each * (number + 1) + 0.5, 1.3, 0.85 + each * number + 0.1, size
        )
        filled = np.flatnonzero(image.sum(axis=0))
        low, high = int(filled[0]), int(filled[-1]) + 1
        extent = (0.0, float(ends[-1]), float(edges[2 * low]), float(edges[2 * high]))
        draw.draw_cube_2d(
            ax,
            image[:, low:high],
            extent,
            labels=("", "TDC time [ns]"),
            largest=largest,
            smallest=1,
            bar=False,
        )
        ax.vlines(ends[1:-1], *extent[2:], color="#20262c", linewidth=0.7)
        sizes = [scene.channels.channels_of(plane).size for plane in planes]
        narrow = ends[-1] / len(planes) < 0.045 * ends[-1]
        words = [p if narrow else f"{p}\n1–{n}" for p, n in zip(planes, sizes, strict=True)]
        ax.set_xticks((ends[1:] + ends[:-1]) / 2, words, rotation=90 if narrow else 0)
        ax.tick_params(axis="x", length=0, labelsize=size - 1)
    bar = draw.place(canvas, 12.85, height - 0.95 - min(5.0, each * len(rows) - 0.6), 0.95, 0.95, size)
    drawn = canvas.colorbar(ScalarMappable(LogNorm(1, max(largest, 2)), mpl.colormaps["viridis_r"]), cax=bar)
    draw.log_bar(drawn, 1, max(largest, 2))
    drawn.set_label(f"hits per {2 * (edges[1] - edges[0]):g} ns and element")
    return canvas


def drift_distances(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    """Return the drift distances of the planes with wires, or why there are none."""
    if "drift/all" not in products:
        return "the files have no drift distances"
    cube: HistogramCube = products["drift/all"]
    kind = _kind_of(scene)
    rows = scene.channels.sum_groups(cube.values)
    # 0 is what bars have, and what is written where no distance is known
    rows = rows.copy()
    found: dict[str, list[str]] = {}
    index = {name: i for i, name in enumerate(scene.channels.group_names)}
    for section, planes in scene.groups().items():
        with_wires = [
            plane
            for plane in planes
            if kind[plane] in ("chamber", "prop_tube") and rows[index[plane]][1:].any()
        ]
        if with_wires:
            found[section] = with_wires
    if not found:
        return "no chamber or proportional tube has a drift distance other than 0"
    chosen = {section: [(p, rows[index[p]]) for p in planes] for section, planes in found.items()}
    caption = "Absolute drift distance of the hits of each plane, planes of a group together."
    return Figure(
        "drift_distances",
        "Drift distances",
        caption,
        "Drift",
        partial(_draw_drift, scene, cube.axes[1].edges, chosen),
    )


def _draw_drift(
    scene: Scene, edges: NDArray[np.float64], chosen: Mapping[str, list[tuple[str, NDArray[np.int64]]]]
) -> Canvas:
    from firstlight.view import draw

    n_columns = min(4, len(chosen))
    n_rows = -(-len(chosen) // n_columns)
    size, tall = 12.0, 3.3
    height = n_rows * tall + 0.75
    canvas = draw.sheet(15, height)
    head(canvas, "Drift distances", scene, size)
    width = 15 / n_columns
    for number, (section, planes) in enumerate(chosen.items()):
        row, column = divmod(number, n_columns)
        ax = draw.place(
            canvas, column * width + 0.78, height - 0.75 - (row + 1) * tall + 0.6,
            15 - (column + 1) * width + 0.12, 0.75 + row * tall + 0.35, size,
        )  # fmt: skip
        rows = np.array([counts for _, counts in planes])
        bin_width = f"{edges[1] - edges[0]:.2g} cm"
        draw.draw_spectrum(
            ax, edges, rows, names=[name for name, _ in planes],
            labels=("drift distance [cm]", f"hits per {bin_width}" if not column else ""),
        )  # fmt: skip
        ax.set_ylim(0, 1.38 * np.quantile(rows[:, 1:], 0.999))
        ax.set_title(section, fontsize=size, loc="left")
    return canvas
