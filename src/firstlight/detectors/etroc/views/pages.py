"""Which figures and tables the report of an ETROC run has, in which order and with which words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.detectors.etroc.views import codes, decode, injection, occupancy, resolution, times, walk
from firstlight.detectors.etroc.views.scene import Scene
from firstlight.view.figure import Figure, ReportTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matplotlib.figure import Figure as Canvas

    from firstlight.steps.step import Context

__all__ = ["figures", "tables"]

_DPI = 120
_MAP = (
    "Row 0 is at the bottom; the dashed line divides the halves of the chip (columns 0-7 right, 8-15 left). Dead, masked "
    "and missing pixels have a colour of their own, which is in the key with their number."
)


def figures(products: Mapping[str, Any], context: Context) -> list[Figure]:
    """Return the figures of a run, the result first; those whose products are missing are left out.

    Parameters
    ----------
    products : mapping
        Products of the run by "step/product", as far as they are there.
    context : Context
        Its channel map has the columns ``board``, ``row`` and ``col``.
    """
    scene = Scene(products, context)
    parts = (_resolution, _injection, _walk, _times, _pixels, _codes, _events, _decoding)
    return [figure for part in parts for figure in part(scene)]


def tables(products: Mapping[str, Any], _: Context) -> list[ReportTable]:
    """Return the tables of the report, those with rows."""
    offered = (
        ReportTable(
            "resolution/boards", "Numbers: time resolution",
            "Every board by every estimator, after each iteration of the time-walk correction. Errors by formula and from "
            "the bootstrap, in which time walk and resolution are done again; where the squares have no solution the negative square stands, and no resolution.",
            "Resolution",
            ("board", "iteration", "estimator", "events", "square", "resolution", "resolution_error", "bootstrap_error", "low",
             "high", "tail_fraction", "tail_scale", "status"),
        ),
        ReportTable("resolution/pairs", "Pairs of boards", "Differences of the times of two boards.", "Resolution"),
        ReportTable("injection/lines", "Numbers: threshold against charge", "Lines through the thresholds of each board.", "Charge injection"),
        ReportTable("injection/curves", "Numbers: S-curves", "Fit of each charge.", "Charge injection"),
        ReportTable("injection/noise", "Noise bands", "Where a board counts noise.", "Charge injection"),
        ReportTable("injection/suggestions", "Suggested thresholds", "The first is the lowest above the noise.", "Charge injection"),
        ReportTable("original/lines", "Lines of the original", "Lines through the largest thresholds with a hit, as the original has them.",
                    "Charge injection"),
        ReportTable("original/noise", "Noise bands of the original", "From the smallest threshold with hits to the plateau.",
                    "Charge injection"),
        ReportTable("injection/jitter", "Jitter", "Jitter of the time of arrival at each charge.", "Charge injection"),
        ReportTable("timewalk/coefficients", "Time-walk curves", "Coefficients of the curves that were fitted to all events.",
                    "Time walk", where="fold = -1"),
        ReportTable("times/calibration", "Calibration", "CAL and bin of each board or pixel in each slice of the run.", "Times"),
        ReportTable(
            "pixels/table", "Pixels that are not good", "Dead, hot, stuck, with few hits or a noisy calibration.", "Pixels",
            ("board", "row", "col", "hits", "bad_ea", "zero_cal", "toa_mean", "toa_std", "cal_mean", "cal_std", "jitter", "state"),
            "NOT good",
        ),
        ReportTable("events/counts", "Events", "What became of hits and packets when events were built.", "Events and cuts"),
        ReportTable("cut/flow", "Cuts on codes", "Events that are left after each cut.", "Events and cuts"),
        ReportTable("cut_times/flow", "Cuts on times", "Events that are left after each cut.", "Events and cuts"),
        ReportTable("ingest/counters", "Words", "What became of the words of each file; they add up to all words.", "Decoding"),
        ReportTable(
            "ingest/files", "Files with rejected words", "The first word of each file that was not used, and why.", "Decoding",
            ("file", "name", "kind", "n_words", "n_hits", "first_rejected"), "first_rejected IS NOT NULL",
        ),
    )  # fmt: skip
    return [table for table in offered if _has_rows(products, table)]


def _has_rows(products: Mapping[str, Any], table: ReportTable) -> bool:
    if table.product not in products:
        return False
    frame = products[table.product].frame
    if table.product == "pixels/table":
        frame = frame.filter(~pl.col("good"))
    if table.product == "ingest/files":
        frame = frame.filter(pl.col("first_rejected").is_not_null())
    return bool(frame.height)


def _figure(
    name: str, title: str, caption: str, section: str, draw: Callable[..., Canvas], scene: Scene, *more: Any
) -> Figure:
    return Figure(name, title, caption, section, partial(draw, scene, *more), dpi=_DPI)


def _resolution(scene: Scene) -> Iterator[Figure]:
    section = "Resolution"
    if scene.filled("resolution/boards"):
        yield _figure(
            "resolution", "Time resolution",
            "Time resolution of each board [ps] after the last iteration, a colour and symbol for each estimator; the numbers have "
            "the bootstrap error where there is one. Where squared widths have no solution, the negative square stands in red "
            "instead of a number.",
            section, resolution.draw_summary, scene,
        )  # fmt: skip
    if scene.filled("timewalk/hits") and len(scene.boards) > 1:
        yield _figure(
            "pairs", "Differences of pairs of boards",
            "Differences of the corrected times of two boards [ps] with Poisson intervals; an offset between boards is not "
            "removed, and does not matter for the width. Curves are what the joint likelihood expects: all (orange), both boards in their core (green dashes), one or both in their tail (filled). Below: (events − model) / "
            "√model of bins with at least 5 expected.",
            section, resolution.draw_pairs, scene,
        )  # fmt: skip
    if scene.filled("resolution/replicas"):
        yield _figure(
            "bootstrap", "Bootstrap",
            "Resolution [ps] of each board in samples of the events drawn with replacement, each with its own time-walk fit. "
            "Orange: the result (line) and its 68.3 % interval (band); dashes: normal distribution of the same mean and width.",
            section, resolution.draw_bootstrap, scene,
        )  # fmt: skip
    if scene.filled("resolution/boards") and scene.frame("resolution/boards")["iteration"].n_unique() > 1:
        yield _figure(
            "iterations", "Resolution against iteration",
            "Resolution [ps] after each iteration of the time-walk correction, with the errors by formula; red crosses at the "
            "bottom have no solution.",
            section, resolution.draw_iterations, scene,
        )  # fmt: skip
    if scene.filled("resolution/slices"):
        for by in scene.frame("resolution/slices")["by"].unique(maintain_order=True).to_list():
            yield _figure(
                f"resolution_by_{by}", f"Resolution by {by}",
                "Resolution [ps] of each board in parts of the run; dashes are the whole run, crosses at the bottom parts without a "
                "result. The key has χ² for a constant.",
                section, resolution.draw_slices, scene, by,
            )  # fmt: skip


def _injection(scene: Scene) -> Iterator[Figure]:
    section = "Charge injection"
    if not scene.filled("injection/points"):
        return
    if scene.filled("injection/curves"):
        yield _figure(
            "threshold_line", "Threshold against charge",
            "Threshold with half of the hits [DAC] against injected charge [fC], with the line and its 1σ band; open diamonds and "
            "grey dashes are the largest thresholds with a hit. Yellow: noise; stars: suggested thresholds. Below: distance to the line.",
            section, injection.draw_line, scene,
        )  # fmt: skip
    yield _figure(
        "s_curves", "S-curves",
        "Share of injected charges that are seen against threshold [DAC], a colour for each charge, with the fitted curves. "
        "Yellow is the noise band, whose points are not fitted; triangles at the top are off the scale.",
        section, injection.draw_s_curves, scene,
    )  # fmt: skip
    if scene.filled("injection/curves") or scene.filled("injection/jitter"):
        yield _figure(
            "noise_jitter", "Noise and jitter against charge",
            "Left: fitted width of the S-curves [DAC], the noise. Right: jitter of the time of arrival [ps] at the threshold "
            "named in the key. Open points are not good.",
            section, injection.draw_noise_and_jitter, scene,
        )  # fmt: skip
    yield _figure(
        "hit_map", "Hits of the scan",
        "Hits of every point of the scan by threshold [DAC] and charge [fC]; shares above 1 are noise. White points have no hit, "
        "grey ones were not measured; the dashed lines are the ends of the noise band.",
        section, injection.draw_hit_map, scene,
    )  # fmt: skip


def _walk(scene: Scene) -> Iterator[Figure]:
    if scene.filled("timewalk/hits"):
        yield _figure(
            "time_walk", "Time walk before and after",
            "Mean time of the other boards less the raw time of a board [ns] against TOT [ns], with medians (points), the fitted "
            "curve and its 1σ band (orange); below, what the correction leaves [ps]. Colours: hits per bin.",
            "Time walk", walk.draw_walk, scene,
        )  # fmt: skip


def _times(scene: Scene) -> Iterator[Figure]:
    if scene.filled("times/hits"):
        yield _figure(
            "times", "Times",
            "Time of arrival and time over threshold [ns] of the accepted hits, a colour for each board. TOA counts backwards from "
            "12.5 ns: a late hit has a small code.",
            "Times", times.draw_times, scene,
        )  # fmt: skip
        if len(scene.boards) > 1:
            yield _figure(
                "correlations", "Boards against each other",
                "TOA (above) and TOT (below) of two boards [ns] in the same events; colours: events per bin. The dashed line has "
                "slope 1 through the median difference.",
                "Times", times.draw_correlations, scene,
            )  # fmt: skip
    if scene.filled("times/calibration") and scene.frame("times/calibration")["slice"].n_unique() > 1:
        yield _figure(
            "calibration_trend", "Calibration along the run",
            "CAL code of each slice of the run against its first event. Where pixels have their own calibration, pale lines are the "
            "shifts of single pixels from their mean and points the mean shift of all.",
            "Times", times.draw_calibration_trend, scene,
        )  # fmt: skip


def _pixels(scene: Scene) -> Iterator[Figure]:
    section = "Pixels"
    if scene.filled("pixels/table"):
        if scene.has_maps:
            caption = f"Hits of every pixel, with frames around pixels that are hot, stuck, or have few hits or a noisy calibration. {_MAP}"
            yield _figure("occupancy", "Occupancy", caption, section, occupancy.draw_occupancy, scene)
        else:
            yield _figure(
                "hits_of_boards", "Hits of each board", "Hits of each board; one pixel of each is read out.", section,
                occupancy.draw_totals, scene,
            )  # fmt: skip
        if scene.has_maps and scene.filled("ingest/hits"):
            caption = f"Most frequent CAL code of every pixel, and how the codes of each half are distributed. {_MAP}"
            yield _figure(
                "calibration",
                "Calibration of the pixels",
                caption,
                section,
                codes.draw_calibration_map,
                scene,
            )
    if scene.filled("ingest/hits") and _has_error_bits(scene):
        yield _figure(
            "error_bits", "Error bits (EA)",
            "Hits with each value of the error bits, and the share of hits with other than 0 in every pixel [%]. Hits with error "
            "bits stay out of means.",
            section, occupancy.draw_error_bits, scene,
        )  # fmt: skip


def _has_error_bits(scene: Scene) -> bool:
    """Return whether any hit has error bits."""
    return bool((scene.frame("ingest/hits")["ea"] > 0).any())


def _codes(scene: Scene) -> Iterator[Figure]:
    if any(scene.cube(code) is not None and scene.cube(code)[0].total for code in ("toa", "tot", "cal")):  # type: ignore[index]
        yield _figure(
            "codes", "Codes",
            "Codes of TOA, TOT and CAL of all hits, a colour for each board; CAL with a logarithmic axis. Medians are in the keys.",
            "Codes", codes.draw_codes, scene,
        )  # fmt: skip
    if scene.filled("ingest/hits"):
        yield _figure(
            "tot_toa", "TOT against TOA",
            "TOT code against TOA code of hits with EA 0; colours: hits per bin, logarithmic. Bins are whole codes wide.",
            "Codes", codes.draw_tot_against_toa, scene,
        )  # fmt: skip


def _events(scene: Scene) -> Iterator[Figure]:
    if scene.filled("events/hits") or scene.filled("events/counts"):
        yield _figure(
            "events", "Events",
            "What became of hits and packets when events were built (a colour for each unit), the hits of an event, and which "
            "boards it has.",
            "Events and cuts", occupancy.draw_events, scene,
        )  # fmt: skip
    if scene.filled("cut/flow") or scene.filled("cut_times/flow"):
        yield _figure(
            "cut_flow", "Cut flow",
            "Events that are left after each cut (blue) and those that it takes away (orange); the numbers are left, taken away, and "
            "passing this cut alone.",
            "Events and cuts", occupancy.draw_cut_flow, scene,
        )  # fmt: skip


def _decoding(scene: Scene) -> Iterator[Figure]:
    section = "Decoding"
    if scene.filled("ingest/counters"):
        yield _figure(
            "words", "What became of every word",
            "Words of each file by what became of them (left), and those that were not used by reason (right, logarithmic). The key "
            "has the totals of all files.",
            section, decode.draw_words, scene,
        )  # fmt: skip
    if scene.filled("ingest/packets"):
        yield _figure(
            "packets", "Packets",
            "Packets of each file: good, without trailer, with a wrong checksum or a wrong number of hits; beside it the hits of a "
            "packet for each link.",
            section, decode.draw_packets, scene,
        )  # fmt: skip
        yield _figure(
            "triggers", "Trigger counter and bunch crossings",
            "By how much the L1A counter (8 bits) of a packet is ahead of the previous one of its link: 0 is in order, −1 the same "
            "counter again. Right: bunch crossings of the packets, 0 to 3563.",
            section, decode.draw_triggers, scene,
        )  # fmt: skip
