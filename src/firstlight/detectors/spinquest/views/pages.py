"""Figures of a SpinQuest run beside the maps: times, drift distances, multiplicities, triggers, trends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.views.times import drift_distances, head, tdc_spectra, times_of_elements
from firstlight.detectors.spinquest.views.trend import trend_of_planes, trend_of_spills
from firstlight.steps.multiplicity import moments
from firstlight.view.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.spinquest.views.maps import Scene

__all__ = ["left_out_page", "pages"]


def pages(products: Mapping[str, Any], scene: Scene) -> tuple[list[Figure], list[tuple[str, str]]]:
    """Return the figures that can be drawn, and (title, reason) of those that cannot.

    Parameters
    ----------
    products : mapping
        Products by name; any may be missing.
    scene : Scene
        What all figures share.
    """
    makers: dict[str, Callable[[Mapping[str, Any], Scene], Figure | str]] = {
        "TDC spectra": tdc_spectra,
        "TDC time of every element": times_of_elements,
        "Drift distances": drift_distances,
        "Hits per event": _multiplicity,
        "Triggers": _triggers,
        "Trend from spill to spill": trend_of_spills,
        "Trend of every plane": trend_of_planes,
        "Hits that belong to no element": _invalid,
    }
    drawn: list[Figure] = []
    left_out: list[tuple[str, str]] = []
    for title, make in makers.items():
        result = make(products, scene)
        if isinstance(result, Figure):
            drawn.append(result)
        else:
            left_out.append((title, result))
    return drawn, left_out


def left_out_page(reasons: Sequence[tuple[str, str]]) -> Figure:
    """Return a small figure that says what was not drawn and why."""
    text = "; ".join(f"{title}: {reason}" for title, reason in reasons)
    return Figure(
        "left_out", "Figures left out", f"Not drawn. {text}.", "Data", partial(_draw_left_out, tuple(reasons))
    )


def _draw_left_out(reasons: Sequence[tuple[str, str]]) -> Canvas:
    from firstlight.view import draw

    height = 0.45 + 0.3 * len(reasons)
    canvas = draw.sheet(10, height)
    canvas.text(0.01, 1 - 0.08 / height, "Not drawn", fontsize=12, va="top", weight="bold")
    for number, (title, reason) in enumerate(reasons):
        y = 1 - (0.42 + 0.3 * number) / height
        canvas.text(0.01, y, title, fontsize=10, va="top")
        canvas.text(0.29, y, f"no data: {reason}", fontsize=10, va="top", color="#56616c")
    return canvas


# -- events ------------------------------------------------------------------------------------------------


def _multiplicity(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    if "multiplicity/hits_per_event" not in products:
        return "hits per event were not counted"
    block = products["multiplicity/hits_per_event"]
    counts = np.asarray(block.values)
    if not counts[0].sum():
        return "there are no events"
    names = [str(name) for name in block.coordinates["section"]]
    caption = (
        "Left: number of hits of each event; events without any hit have a bar of their own. "
        "Right: the same for each detector group; the text says how many events have no hit there, and the mean."
    )
    return Figure(
        "hits_per_event",
        "Hits per event",
        caption,
        "Events",
        partial(_draw_multiplicity, scene, counts, names),
    )


def _draw_multiplicity(scene: Scene, counts: NDArray[np.int64], names: Sequence[str]) -> Canvas:
    from firstlight.view import draw

    size = 11.0
    canvas = draw.sheet(13, 6.4)
    head(canvas, "Hits per event", scene, size)
    left = draw.place(canvas, 0.85, 0.65, 6.75, 0.85, size)
    draw.draw_counts_of_counts(left, counts[0])
    order = scene.channels.groups["section"].unique(maintain_order=True).to_list()
    rows = [names.index(name) for name in order if name in names and counts[names.index(name), 1:].any()]
    right = draw.place(canvas, 6.95, 0.65, 2.75, 0.85, size)
    if not rows:
        draw.no_data(right, "no hit belongs to a detector group")
        return canvas
    edges, values = draw.rebin_counts(counts[rows])
    bands = []
    for i, heights in zip(rows, values, strict=True):
        found = moments(counts[i])
        words = f"{names[i]}: mean {found['mean']:.3g}, none {counts[i, 0] / counts[i].sum():.0%}"
        bands.append(draw.Band(words, edges, heights))
    draw.draw_bands(right, bands, x_label="hits per event in the detector group")
    right.set_ylabel("events per bin (each from 0)")
    if edges[-1] - edges[-2] > edges[1] - edges[0]:
        right.set_xscale("log")
        right.set_xticks(*draw.log_ticks(max(edges[0], 1.0), edges[-1]))
        right.minorticks_off()
    return canvas


def _triggers(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    if "spills/triggers" not in products or not products["spills/triggers"].frame.height:
        return "the files have no trigger bits"
    frame = products["spills/triggers"].frame
    names = frame["trigger"].unique(maintain_order=True).to_list()
    events = np.array([int(frame.filter(pl.col("trigger") == name)["n_events"][0]) for name in names])
    without = products["spills/spills"].frame["n_no_trigger"].sum() if "spills/spills" in products else None
    table = frame.pivot(on="plane", index="trigger", values="n_hits")
    hits = table.select(scene.planes).to_numpy().astype(np.float64)
    if not events.sum() and not without:
        return "no event has a trigger bit"
    caption = (
        "Left: events in which a trigger fired; one event may have several. "
        "Right: mean number of hits of each plane in these events."
    )
    return Figure(
        "triggers",
        "Triggers",
        caption,
        "Events",
        partial(_draw_triggers, scene, names, events, without, hits),
    )


def _draw_triggers(
    scene: Scene,
    names: Sequence[str],
    events: NDArray[np.int64],
    without: int | None,
    hits: NDArray[np.float64],
) -> Canvas:
    from firstlight.view import draw

    size = 11.5
    canvas = draw.sheet(16, 5.6)
    head(canvas, "Triggers", scene, size)
    left = draw.place(canvas, 0.9, 0.95, 12.9, 0.85, size)
    labels = [*names, *(["none"] if without is not None else [])]
    values = np.array([*events, *([without] if without is not None else [])])
    left.barh(np.arange(values.size), values, color=["#1f5f99"] * len(names) + ["#e0a030"], height=0.75)
    for i, value in enumerate(values):
        left.text(value, i, f" {value:,}", va="center", fontsize=size)
    left.set_yticks(range(values.size), labels)
    left.set(ylim=(values.size - 0.5, -0.5), xlim=(0, 1.5 * max(int(values.max()), 1)), xlabel="events")
    left.locator_params(axis="x", nbins=3)
    right = draw.place(canvas, 3.5, 0.95, 1.3, 0.85, size)
    fired = events > 0
    if not fired.any():
        draw.no_data(right, "no trigger fired")
        return canvas
    mean = np.where(fired[:, np.newaxis], hits / np.maximum(events, 1)[:, np.newaxis], np.nan)
    shown = mean[np.isfinite(mean) & (mean > 0)]
    draw.draw_cube_2d(
        right, mean.T, (-0.5, len(scene.planes) - 0.5, -0.5, len(names) - 0.5),
        colour_label="hits per event", smallest=float(np.quantile(shown, 0.02)) if shown.size else None,
        bar_axes=draw.place(canvas, 14.9, 0.95, 0.9, 0.85, size),
    )  # fmt: skip
    # the same rows as on the left; hits of events without a trigger are not counted apart
    right.set_yticks([])
    right.set_ylim(left.get_ylim())
    if without is not None:
        right.text(-0.3, len(names), "not counted", va="center", fontsize=size, color="#56616c")
    right.set_xticks(range(len(scene.planes)), scene.planes, rotation=90)
    right.tick_params(length=0)
    right.tick_params(axis="x", labelsize=10.5)
    changes = [i - 0.5 for i in range(1, len(scene.sections)) if scene.sections[i] != scene.sections[i - 1]]
    right.vlines(changes, -0.5, len(names) - 0.5, color="#20262c", linewidth=0.8)
    return canvas


def _invalid(products: Mapping[str, Any], scene: Scene) -> Figure | str:
    if "spills/invalid" not in products:
        return "hits outside the geometry were not counted"
    frame: pl.DataFrame = products["spills/invalid"].frame
    if not frame.height:
        return "every hit belongs to an element of the geometry"
    caption = "Hits with IDs that are not in the geometry: they are counted here and nowhere else."
    return Figure(
        "invalid_hits",
        "Hits that belong to no element",
        caption,
        "Data",
        partial(_draw_invalid, scene, frame),
    )


def _draw_invalid(scene: Scene, frame: pl.DataFrame) -> Canvas:
    from firstlight.view import draw

    canvas = draw.sheet(14, 5)
    total = int(frame["hits"].sum())
    head(canvas, f"Hits that belong to no element: {total:,}", scene)
    ax = draw.place(canvas, 1.0, 1.15, 0.2, 0.8, 11.5)
    per = frame.group_by("reason", "detector_id").agg(pl.col("hits").sum()).sort("detector_id")
    ids = sorted(per["detector_id"].unique().to_list())
    index = {detector: i for i, detector in enumerate(ids)}
    base = np.zeros(len(ids))
    colours = ("#d1662a", "#1f5f99", "#8e5ba6")
    for colour, (reason,) in zip(
        colours, per.select("reason").unique(maintain_order=True).iter_rows(), strict=False
    ):
        part = per.filter(pl.col("reason") == reason)
        at = np.array([index[i] for i in part["detector_id"]])
        counts = part["hits"].to_numpy()
        ax.bar(at, counts, 0.8, base[at], color=colour, label=f"{reason}: {counts.sum():,} hits")
        base[at] += counts
    name_of = dict(scene.channels.groups.select("detector_id", "group").iter_rows())
    draw.name_places(ax, [f"{i} {name_of.get(i, '')}".strip() for i in ids], 90)
    ax.set(
        xlabel="detector ID as written, and plane",
        ylabel="hits",
        xlim=(-0.6, max(len(ids), 6) - 0.4),
    )
    ax.set_ylim(0, 1.25 * base.max())
    ax.legend(loc="upper right", fontsize=11.5, ncols=3)
    return canvas
