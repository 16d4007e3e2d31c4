"""Times in ns: their distributions, correlations between boards, and the calibration along the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.detectors.etroc.views.scene import Panel, mosaic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from firstlight.detectors.etroc.views.scene import Draw, Scene

__all__ = ["draw_calibration_trend", "draw_correlations", "draw_times"]

_NAMES = {"toa_ns": "TOA", "tot_ns": "TOT"}
_MOST_LINES = 400


def draw_times(scene: Scene) -> Canvas:
    """Draw TOA and TOT of the accepted hits in ns."""
    panels = [Panel(_distribution(scene, column)) for column in _NAMES]
    frame = scene.timed
    kept = "accepted events" if scene.accepted is not None else "all events"
    about = f"{frame.height:,} hits of {kept}; TOA = 12.5 ns − bin × code, bin = 3.125 ns / CAL"
    return mosaic(panels, 2, title="Times", about=about, height=3.3, above=0.12)


def _distribution(scene: Scene, column: str) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import no_data

        frame = scene.timed.drop_nulls(column)
        if not frame.height:
            no_data(ax, "no hit has a time")
            return
        low, high = np.quantile(frame[column].to_numpy(), (0.001, 0.999))
        margin = 0.05 * max(float(high - low), 0.1)
        if (end := scene.end_of(column)) is not None:
            low, high, margin = min(float(low) - margin, 0.0), end, 0.0
        # bins of whole steps of the converter of each board, or the two patterns would beat
        number = 2 if column == "tot_ns" else 1
        quantum = number * float(frame["bin_ns"].median() or 0.02)  # type: ignore[arg-type]
        steps = max(number, round(float(high - low + 2 * margin) / 70 / quantum))
        highest = 1
        for board in scene.boards:
            rows = frame.filter(pl.col("board") == board)
            if not rows.height:
                continue
            values = rows[column].to_numpy()
            own = number * float(rows["bin_ns"].median() or 0.02)  # type: ignore[arg-type]
            edges = np.arange(low - margin, high + margin + steps * own, steps * own)
            counts = np.histogram(values, edges)[0]
            label = f"{scene.name(board)}: median {np.median(values):.3f} ns"
            ax.stairs(counts, edges, color=scene.colour(board), linewidth=1.2, label=label)
            highest = max(highest, int(counts.max()))
        ax.set(xlabel=f"{_NAMES[column]} [ns]", ylabel=f"hits per {1e3 * steps * quantum:.0f} ps")
        ax.set_xlim(low - margin, high + margin)
        ax.set_ylim(0, highest * (1.1 + 0.1 * len(scene.boards)))
        ax.legend(loc="upper right", fontsize=8.5)

    return draw


def draw_correlations(scene: Scene) -> Canvas:
    """Draw TOA of each board against that of each other one, and TOT likewise."""
    pairs = scene.pairs(3)
    panels = [Panel(_pair(scene, column, *pair), bar=True) for column in _NAMES for pair in pairs]
    kept = "accepted events" if scene.accepted is not None else "all events"
    count = len(scene.boards) * (len(scene.boards) - 1) // 2
    more = f"; {len(pairs)} of {count} pairs" if count > len(pairs) else ""
    return mosaic(
        panels, len(pairs), title="Boards against each other", about=f"{kept}{more}", left=0.68,
        height=2.95, below=0.6, above=0.22, width=10.0 if len(pairs) > 1 else 6.0,
    )  # fmt: skip


def _pair(scene: Scene, column: str, one: int, two: int) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw import no_data
        from firstlight.view.draw_density import draw_density
        from firstlight.view.draw_fits import text_box

        wide = scene.wide("times/hits", column)
        both = (str(one), str(two))
        if any(name not in wide.columns for name in both) or wide.drop_nulls(both).height < 3:
            if bar is not None:
                bar.set_axis_off()
            no_data(ax, "no event has both boards")
            return
        x, y = (wide.drop_nulls(both)[name].to_numpy() for name in both)
        name = _NAMES[column]
        draw_density(
            ax, x, y, labels=(f"{name} of board {one} [ns]", f"{name} of board {two} [ns]"), bins=(70, 70),
            limits=(_limits(x, scene.end_of(column)), _limits(y, scene.end_of(column))), colour_axes=bar, colour_label="events per bin",
        )  # fmt: skip
        words = [f"n {x.size:,}", f"correlation {np.corrcoef(x, y)[0, 1]:.3f}".replace("-", "−")]
        text_box(ax, words, right=False, size=0.85)
        if column == "toa_ns":
            shift = float(np.median(y - x))
            ends = np.array(ax.get_xlim())
            ax.plot(ends, ends + shift, color="#16191d", linewidth=0.8, linestyle=(0, (4, 3)))

    return draw


def _limits(values: np.ndarray, end: float | None) -> tuple[float, float]:
    if end is not None:
        return min(float(values.min()), 0.0), end
    low, high = np.quantile(values, (0.001, 0.999))
    margin = 0.06 * max(float(high - low), 0.05)
    return float(low - margin), float(high + margin)


def draw_calibration_trend(scene: Scene) -> Canvas:
    """Draw CAL along the run: of each pixel as a shift from its own mean, and the mean of them."""
    boards = [board for board in scene.boards if _slices(scene, board).height][:6]
    columns = min(len(boards), 3)
    panels = [Panel(_trend(scene, board), scene.name(board)) for board in boards]
    frame = scene.frame("times/calibration")
    about = f"{frame['slice'].n_unique()} slices of the run; a slice without hits has no point"
    return mosaic(panels, columns, title="Calibration along the run", about=about, height=2.9, left=0.98,
                  width=10.0 if columns > 1 else 6.0)  # fmt: skip


def _slices(scene: Scene, board: int) -> pl.DataFrame:
    return scene.frame("times/calibration").filter((pl.col("board") == board) & pl.col("cal").is_not_null())


def _trend(scene: Scene, board: int) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from matplotlib.collections import LineCollection

        frame = _slices(scene, board).sort("channel", "slice")
        channels = frame["channel"].unique(maintain_order=True).to_list()
        if len(channels) == 1:
            error = frame["cal_error"].fill_null(0.0).to_numpy()
            ax.errorbar(frame["first_event"].to_numpy(), frame["cal"].to_numpy(), error, fmt="o-", markersize=4,
                        linewidth=0.8, color=scene.colour(board))  # fmt: skip
            ax.axhline(float(np.average(frame["cal"].to_numpy(), weights=frame["hits"].to_numpy())),
                       color="#7d8894", linewidth=0.9)  # fmt: skip
            ax.set(xlabel="first event of the slice", ylabel="CAL code")
        else:
            weighted = (pl.col("cal") * pl.col("hits")).sum().over("channel") / pl.col("hits").sum().over(
                "channel"
            )
            frame = frame.with_columns(shift=pl.col("cal") - weighted)
            lines = [
                np.stack([part["first_event"].to_numpy(), part["shift"].to_numpy()], axis=1)
                for part in frame.partition_by("channel")[:_MOST_LINES]
                if part.height > 1
            ]
            ax.add_collection(LineCollection(lines, colors=scene.colour(board), linewidths=0.6, alpha=0.3))
            mean = frame.group_by("slice").agg(
                pl.col("first_event").first(),
                ((pl.col("shift") * pl.col("hits")).sum() / pl.col("hits").sum()).alias("mean"),
                pl.col("shift").std().alias("std"), pl.len().alias("n"),
            ).sort("slice")  # fmt: skip
            error = (mean["std"] / mean["n"].sqrt()).fill_null(0.0).to_numpy()
            ax.errorbar(mean["first_event"].to_numpy(), mean["mean"].to_numpy(), error, fmt="o-", color="#16191d",
                        markersize=4, linewidth=1.0, label=f"mean of {len(channels)} pixels")  # fmt: skip
            reach = 1.2 * max(float(np.quantile(np.abs(frame["shift"].to_numpy()), 0.98)), 0.05)
            ax.set(ylim=(-reach, reach), xlabel="first event of the slice", ylabel="CAL − mean of the pixel")
            ax.legend(loc="upper right", fontsize=8.5)
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.locator_params(axis="x", nbins=4)

    return draw
