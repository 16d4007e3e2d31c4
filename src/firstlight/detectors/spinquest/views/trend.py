"""Figures of quantities that are followed from spill to spill, and of efficiencies."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.views.times import head
from firstlight.view.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.spinquest.views.maps import Scene

__all__ = ["efficiencies", "trend_of_planes", "trend_of_spills"]

_OVERALL = ("events", "hits per event", "in-time fraction")
_FLAG = "#111111"


def _points(products: Mapping[str, Any]) -> pl.DataFrame | str:
    if "trend/points" not in products:
        return "spills were not followed"
    points: pl.DataFrame = products["trend/points"].frame
    if points["index"].n_unique() < 2:
        return "there is one spill only" if points.height else "there are no spills"
    return points


def _labels(points: pl.DataFrame) -> list[str]:
    return points.select("index", "label").unique().sort("index")["label"].to_list()


def _foot(labels: Sequence[str]) -> float:
    """Return the space below the axis [in]: many or long labels are written upwards."""
    upwards = sum(map(len, labels[:: -(-len(labels) // 24)])) > 70
    return min(2.5, 0.7 + 0.085 * max(map(len, labels))) if upwards else 0.75


def trend_of_spills(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    """Return the figure of what belongs to whole spills, or why there is none."""
    points = _points(products)
    if isinstance(points, str):
        return points
    triggers = sorted(name for name in points["quantity"].unique().to_list() if name.startswith("trigger "))
    caption = (
        "Spills in order of arrival, evenly spaced, with statistical errors; red: out of line with the spills around. "
        "Numbers of hits differ from event to event far more than chance, so that hits per event scatter."
    )
    return Figure(
        "trend", "Trend from spill to spill", caption, "Spills",
        partial(_draw_spills, scene, points, [*_OVERALL, *triggers]),
    )  # fmt: skip


def _draw_spills(scene: Scene, points: pl.DataFrame, quantities: Sequence[str]) -> Canvas:
    from firstlight.view import draw
    from firstlight.view.style import STATE_COLOURS

    labels = _labels(points)
    foot = _foot(labels)
    height = 0.85 + 1.35 * len(quantities) + foot
    canvas = draw.sheet(11, height)
    head(canvas, "Trend from spill to spill", scene, 11)
    for number, quantity in enumerate(quantities):
        top = 0.85 + 1.35 * number
        ax = draw.place(canvas, 1.5, height - top - 1.15, 0.4, top, 11)
        part = points.filter((pl.col("quantity") == quantity) & (pl.col("subject") == "")).sort("index")
        value = part["value"].fill_null(np.nan).to_numpy()
        last = number == len(quantities) - 1
        if not np.isfinite(value).any():
            draw.no_data(ax, f"{quantity}: the files do not say")
            continue
        name = quantity.replace("trigger ", "") + ("\nper event" if quantity.startswith("trigger") else "")
        error = part["error"].fill_null(np.nan).to_numpy()
        draw.draw_trend(
            ax,
            labels,
            value,
            np.where(np.isfinite(error), error, 0.0),
            y_label=name.replace("hits per", "hits\nper").replace("in-time ", "in-time\n"),
            named=last,
        )
        odd = part["state"].is_in(["high", "low"]).to_numpy()
        ax.plot(np.flatnonzero(odd), value[odd], "o", color=STATE_COLOURS["hot"], markersize=7, zorder=4)
        ax.margins(y=0.25)
        if last:
            ax.set_xlabel("spill")
    return canvas


def trend_of_planes(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    """Return the figure of the share of hits and the mean time of every plane, or why there is none."""
    points = _points(products)
    if isinstance(points, str):
        return points
    caption = (
        "Left: share of the hits of a spill that each plane has, against its median over the spills. Right: mean TDC time "
        "against its median. Framed: out of line with the spills around; grey: not enough hits, or no times."
    )
    return Figure(
        "trend_of_planes", "Trend of every plane", caption, "Spills", partial(_draw_planes, scene, points), dpi=110
    )  # fmt: skip


def _draw_planes(scene: Scene, points: pl.DataFrame) -> Canvas:
    from firstlight.view import draw

    labels = _labels(points)
    foot = _foot(labels)
    followed = set(points["subject"].unique().to_list())
    planes = [plane for plane in scene.planes if plane in followed]
    height = 1.05 + 0.165 * max(len(planes), 4) + foot
    canvas = draw.sheet(12, height)
    head(canvas, "Trend of every plane", scene, 11)
    share, odd_share = _matrix(points, "share of hits", planes, len(labels))
    time, odd_time = _matrix(points, "mean TDC time", planes, len(labels))
    middle = _row_median(share)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = 100 * (share / middle - 1)
    columns = (
        (relative, odd_share, "share of hits\n− its median [%]", 1.0, 10.0, True),
        (time, odd_time, "mean TDC time\n− its median [ns]", 6.85, 5.0, False),
    )
    for values, odd, words, left, smallest, named in columns:
        ax = draw.place(canvas, left, foot, 12 - left - 4.2, 1.0, 8.5)
        bar = draw.place(canvas, left + 4.3, foot, 12 - left - 4.45, 1.0, 9)
        if not np.isfinite(values).any():
            bar.remove()
            draw.no_data(ax, "no times in these files")
            continue
        draw.draw_shifts(
            ax,
            values,
            planes if named else [""] * len(planes),
            labels,
            bar,
            colour_label=words,
            smallest_range=smallest,
        )
        _frame(ax, odd)
        ax.set_xlabel("spill")
    return canvas


def _row_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = [row[np.isfinite(row)] for row in values]
    return np.array([[np.median(row)] if row.size else [np.nan] for row in known])


def _matrix(
    points: pl.DataFrame, quantity: str, planes: Sequence[str], size: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.full((len(planes), size), np.nan)
    odd = np.zeros(values.shape, dtype=bool)
    row_of = {plane: row for row, plane in enumerate(planes)}
    chosen = points.filter((pl.col("quantity") == quantity) & pl.col("value").is_not_null())
    for subject, index, value, state in chosen.select("subject", "index", "value", "state").iter_rows():
        if subject in row_of:
            values[row_of[subject], index] = value
            odd[row_of[subject], index] = state in ("high", "low")
    return values, odd


def _frame(ax: Axes, odd: NDArray[np.bool_]) -> None:
    """Draw a frame around cells."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    cells = [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in zip(*np.nonzero(odd), strict=True)]
    ax.add_collection(
        PatchCollection(cells, facecolor="none", edgecolor=_FLAG, linewidth=1.8, zorder=4), autolim=False
    )


def efficiencies(products: Mapping[str, Any], about: str) -> list[Figure]:
    """Return the figure of the efficiency of every plane, where it was measured."""
    if "efficiency/planes" not in products:
        return []
    frame = products["efficiency/planes"].frame
    caption = (
        "Efficiency of every plane with its Clopper-Pearson interval at 68 %. Open points: lower limits; crosses above the "
        "axis: no efficiency, for the reason that the table gives."
    )
    return [
        Figure("efficiencies", "Efficiency of every plane", caption, "Efficiency", partial(_draw_efficiencies, frame, about))
    ]  # fmt: skip


def _draw_efficiencies(frame: pl.DataFrame, about: str) -> Canvas:
    from firstlight.view import draw

    canvas = draw.sheet(12, 4.6)
    canvas.text(0.012, 0.96, "Efficiency of every plane", fontsize=13, fontweight="bold", va="top")
    canvas.text(0.012, 0.885, about, fontsize=10, va="top")
    ax = draw.place(canvas, 0.9, 0.95, 0.2, 0.75, 10)
    place = np.arange(frame.height)
    value, low, high = (frame[name].fill_null(np.nan).to_numpy() for name in ("efficiency", "low", "high"))
    shown = np.clip(value, 0, 1)
    known = np.isfinite(shown)
    limit = (frame["state"] == "lower limit").to_numpy()
    error = np.array([np.clip(shown - low, 0, None), np.clip(high - shown, 0, None)])
    for chosen, face, label in (
        (known & ~limit, "#1f5f99", "efficiency"),
        (known & limit, "white", "lower limit"),
    ):
        if chosen.any():
            ax.errorbar(
                place[chosen],
                shown[chosen],
                np.nan_to_num(error[:, chosen]),
                fmt="o",
                markersize=4.5,
                color="#1f5f99",
                markerfacecolor=face,
                label=label,
            )
    bottom = max(0.0, np.floor(20 * (np.nanmin(low) if known.any() else 0.0) - 1) / 20)
    ax.plot(
        place[~known],
        np.full(int((~known).sum()), 0.035),
        "x",
        color="#8a949e",
        markersize=5,
        label="none",
        transform=ax.get_xaxis_transform(),
    )
    ax.axhline(1, color="#8a949e", linewidth=0.8)
    ax.set_xticks(place, frame["plane"].to_list(), rotation=90)
    ax.set(xlim=(-0.7, frame.height - 0.3), ylim=(bottom, 1 + 0.03 * (1 - bottom)), ylabel="efficiency")
    ax.grid(axis="y", color="#e3e7eb")
    ax.legend(loc="lower left", ncols=3)
    return canvas
