"""The three codes of a hit: calibration of every pixel and half, distributions, TOT against TOA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.etroc.views.occupancy import key_below, map_overlays
from firstlight.detectors.etroc.views.scene import FIRST_LEFT_COLUMN, HALF_COLOURS, Panel, mosaic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.etroc.views.scene import Draw, Scene

__all__ = ["draw_calibration_map", "draw_codes", "draw_tot_against_toa"]

_CODES = {"toa": "TOA", "tot": "TOT", "cal": "CAL"}
_MOST_PANELS = 6


def draw_codes(scene: Scene) -> Canvas:
    """Draw the distributions of the codes of each board; those of CAL have a logarithmic axis."""
    panels = [
        Panel(_code(scene, code), name) for code, name in _CODES.items() if scene.cube(code) is not None
    ]
    return mosaic(panels, len(panels), title="Codes of all hits", about=scene.about, height=3.3, left=0.72)


def _code(scene: Scene, code: str) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import no_data

        found = scene.cube(code)
        if found is None or not found[0].values.sum():
            no_data(ax, "no hits")
            return
        cube, boards = found
        values, edges = np.asarray(cube.values), np.asarray(cube.axes[1].edges)
        filled = np.flatnonzero(values.sum(axis=0))
        width = max(1, -(-(filled[-1] - filled[0] + 1) // 128)) if code != "cal" else 1
        edges, values = _rebinned(edges, values, width)
        outside = np.zeros(len(values), dtype=np.int64)
        if code == "cal":
            low, high = peak_range([np.repeat(np.arange(row.size), row) for row in values])
            outside = values.sum(axis=1) - values[:, low : high + 1].sum(axis=1)
            edges, values = edges[low : high + 2], values[:, low : high + 1]
        for row, board, far in zip(values, boards, outside, strict=False):
            if row.sum():
                median = _median(edges, row)
                label = f"board {board}: {median:.0f}" if len(boards) < 5 else f"board {board}"
                label += f", {far:,} outside" if far else ""
                ax.stairs(row, edges, color=scene.colour(board), linewidth=1.2, label=label)
        filled = np.flatnonzero(values.sum(axis=0))
        margin = 0.02 * (edges[filled[-1] + 1] - edges[filled[0]])
        ax.set_xlim(edges[filled[0]] - margin, edges[filled[-1] + 1] + margin)
        bins = f"{width} codes" if width > 1 else "code"
        ax.set(xlabel=f"{_CODES[code]} code", ylabel=f"hits per {bins}")
        highest = float(values.max())
        if code == "cal":
            ax.set_yscale("log")
            ax.set_ylim(0.5, highest ** (1.15 + 0.11 * max(len(boards), 1)) * 2)
        else:
            ax.set_ylim(0, highest * (1.22 + 0.11 * max(len(boards), 1)))
        ax.legend(loc="upper right", fontsize=8.5, title="median", title_fontsize=8.5)

    return draw


def peak_range(groups: Sequence[NDArray[Any]]) -> tuple[int, int]:
    """Return a range of codes around the peaks of all groups, 15 robust standard deviations to each side."""
    ends = []
    for codes in groups:
        if codes.size:
            low, middle, high = np.quantile(codes, (0.25, 0.5, 0.75))
            reach = max(15 * (high - low) / 1.349, 12.0)
            ends.append((middle - reach, middle + reach))
    return (
        (int(max(min(low for low, _ in ends), 0)), int(min(max(high for _, high in ends), 1023)))
        if ends
        else (0, 1023)
    )


def _rebinned(
    edges: NDArray[np.float64], values: NDArray[np.int64], width: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if width == 1:
        return edges, values
    starts = np.arange(0, values.shape[1], width)
    summed = np.add.reduceat(values, starts, axis=1)
    step = edges[1] - edges[0]
    return np.append(edges[starts], edges[starts[-1]] + width * step), summed


def _median(edges: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    index = int(np.searchsorted(np.cumsum(counts), 0.5 * counts.sum()))
    return float(0.5 * (edges[index] + edges[index + 1]))


def draw_tot_against_toa(scene: Scene) -> Canvas:
    """Draw TOT against TOA of all hits with EA 0, in codes, a panel for each board."""
    hits = scene.frame("ingest/hits").select("board", "col", "toa", "tot", "ea")
    if (hits["ea"] != 0).any():
        hits = hits.filter(pl.col("ea") == 0)
    boards = scene.boards[:_MOST_PANELS]
    toa, tot = hits["toa"].to_numpy(), hits["tot"].to_numpy()
    limits = (_range(toa, 1023), _range(tot, 511))
    panels = [
        Panel(
            _joint(hits.filter(pl.col("board") == board).select("toa", "tot"), limits),
            scene.name(board),
            bar=True,
        )
        for board in boards
    ]
    if scene.has_halves and len(boards) == 1:
        of_board = hits.filter(pl.col("board") == boards[0])
        left = of_board.filter(pl.col("col") >= FIRST_LEFT_COLUMN)
        right = of_board.filter(pl.col("col") < FIRST_LEFT_COLUMN)
        panels = [
            Panel(_joint(part, limits), f"{scene.name(boards[0])}, {name}", bar=True)
            for part, name in ((right, "right half (columns 0-7)"), (left, "left half (columns 8-15)"))
        ]
    columns = min(len(panels), 3)
    single = len(panels) == 1
    return mosaic(
        panels, columns, title="TOT against TOA", about="hits with error bits 0; a few far outside are left out",
        width=6.2 if single else 10.0, height=3.9 if columns < 3 else 3.3, left=0.72,
    )  # fmt: skip


def _range(codes: NDArray[Any], most: int) -> tuple[float, float]:
    """Return the range of the codes but for the last 0.5 % on each side."""
    if not codes.size:
        return -0.5, most + 0.5
    low, high = np.quantile(codes, (0.005, 0.995))
    margin = 0.06 * max(float(high - low), 4.0)
    return max(np.floor(low - margin), 0.0) - 0.5, min(np.ceil(high + margin), most) + 0.5


def _joint(hits: pl.DataFrame, limits: tuple[tuple[float, float], tuple[float, float]]) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw_density import draw_density

        # bins are whole codes wide, or the pattern of bins would beat against that of codes
        sizes = [max(1, round((high - low) / 90)) for low, high in limits]
        if hits.height < 3000:
            sizes = [3 * size for size in sizes]
        bins = [-(-int(high - low) // size) for (low, high), size in zip(limits, sizes, strict=True)]
        whole = [(low, low + n * size) for (low, _), n, size in zip(limits, bins, sizes, strict=True)]
        draw_density(
            ax, hits["toa"].to_numpy(), hits["tot"].to_numpy(), labels=("TOA code", "TOT code"),
            limits=(whole[0], whole[1]), bins=(bins[0], bins[1]), colour_axes=bar, colour_label="hits per bin",
        )  # fmt: skip

    return draw


def draw_calibration_map(scene: Scene) -> Canvas:
    """Draw the mean CAL of every pixel, and how CAL is distributed in each half of the chip."""
    boards = scene.boards[:_MOST_PANELS]
    hits = scene.frame("ingest/hits").filter((pl.col("ea") == 0) & (pl.col("cal") > 0))
    images = {board: _calibration(scene, board) for board in boards}
    maps = [
        Panel(_calibration_map(scene, board, images[board]), scene.name(board), bar=True, square=True)
        for board in boards
    ]
    shown = [
        Panel(_by_half(scene, hits.filter(pl.col("board") == board)), f"board {board}: CAL of each half")
        for board in boards
    ]
    words = "hits with error bits 0; colours leave out a few pixels far away"
    if len(boards) == 1:
        return mosaic(
            [maps[0], shown[0]], 2, title="Calibration", about=words, height=4.75, below=0.95, left=0.85
        )
    panels = []
    for start in range(0, len(boards), 3):
        for row in (maps, shown):
            part = row[start : start + 3]
            panels += part + [Panel(lambda ax, _: ax.set_axis_off())] * (3 - len(part))
    return mosaic(panels, 3, title="Calibration", about=words, height=3.5, below=0.9, left=0.78)


def _calibration(scene: Scene, board: int) -> NDArray[np.float64]:
    mode = scene.image(board, "cal_mode")
    return mode if np.isfinite(mode).any() else scene.image(board, "cal_mean")


def _calibration_map(scene: Scene, board: int, image: NDArray[np.float64]) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw_pixels import draw_pixels

        overlays = map_overlays(scene.states(board), scene.image(board, "hits"))
        draw_pixels(
            ax,
            image,
            label="most frequent CAL code",
            overlays=overlays,
            colour_axes=bar,
            colour_map="cividis",
        )
        if scene.has_halves:
            ax.axvline(7.5, color="#1d1d1d", linewidth=1.2, linestyle=(0, (4, 3)))
            ax.set_xlabel("column (right half | left half)")
        key_below(ax, overlays)

    return draw


def _by_half(scene: Scene, hits: pl.DataFrame) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import no_data

        right, left = "right half", "left half"
        parts = {"all columns": (hits, "#1f5f99")}
        if scene.has_halves:
            parts = {
                right: (hits.filter(pl.col("col") < FIRST_LEFT_COLUMN), HALF_COLOURS["right"]),
                left: (hits.filter(pl.col("col") >= FIRST_LEFT_COLUMN), HALF_COLOURS["left"]),
            }
        if not hits.height:
            no_data(ax, "no hits")
            return
        low, high = peak_range([part["cal"].to_numpy() for part, _ in parts.values()])
        highest = 1
        for name, (part, colour) in parts.items():
            codes = part["cal"].to_numpy()
            shown = codes[(codes >= low) & (codes <= high)].astype(np.int64)
            counts = np.bincount(shown - low, minlength=high - low + 1)
            outside = codes.size - shown.size
            if not codes.size:
                continue
            words = f"{name}: median {np.median(codes):.0f}" + (f", {outside:,} outside" if outside else "")
            ax.stairs(counts, np.arange(low, high + 2) - 0.5, color=colour, fill=True, alpha=0.3)
            ax.stairs(counts, np.arange(low, high + 2) - 0.5, color=colour, linewidth=1.2, label=words)
            highest = max(highest, int(counts.max()))
        ax.set_yscale("log")
        ax.set(
            xlabel="CAL code", ylabel="hits per code", xlim=(low - 0.5, high + 0.5), ylim=(0.6, 30 * highest)
        )
        ax.legend(loc="upper left", fontsize=8.5)

    return draw
