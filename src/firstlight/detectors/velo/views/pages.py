"""Which figures and tables the report of a run has, in which order and with which words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.velo.channels import N_PIXELS
from firstlight.detectors.velo.flags import Flag
from firstlight.detectors.velo.views import collection, curves, distributions, maps, scan
from firstlight.detectors.velo.views.scene import EXPECTED_GAIN, QUANTITIES, Scene, groups_of
from firstlight.view.figure import Figure, ReportTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.steps.step import Context

__all__ = [
    "discrepancy_figure",
    "distribution_figure",
    "example",
    "figures",
    "gallery",
    "map_figure",
    "reference_of",
    "tables",
]

_DPI = 120  # the maps have three picture elements for each pixel of the chip
_MAPPED = (
    "K", "target", "E0", "sigma", "s2", "N", "C", "f", "A", "B", "background", "p-value", "totalflux", "saturated",
)  # fmt: skip
_SHOWN = ("E0", "sigma", "s2", "N", "C", "f", "A", "B", "background")
_RULES = {
    "cubic": "cubic law",
    "linear15": "15 steps",
    "legacy16": "16 steps (the original's)",
    "predicted": "file TrimBest_Noise_Predict",
}
_KEY = (
    "Row 0 is at the bottom. White: dead; grey: no good fit; black: masked; the numbers are in the key. Colours leave "
    "out a few values far away, which are counted at the ends of the colour bar."
)


def figures(products: Mapping[str, Any], context: Context) -> list[Figure]:
    """Return the figures of a run, in the order of the report; those whose products are missing are left out.

    Parameters
    ----------
    products : mapping
        ``scan/...``, ``fit/...``, ``baseline/...``, ``calibration/...``, as far as they are there.
    context : Context
        Its channel map has the mask.
    """
    scene = Scene(products, context)
    parts = (_noise, _result, _maps, _curves, _quality, _scan, _baseline)
    return [figure for part in parts for figure in part(scene)]


def tables(products: Mapping[str, Any], _: Context) -> list[ReportTable]:
    """Return the tables of the report."""
    groups = (
        "selection", "n_pixels", "n_good", "target_mean", "target_spread", "gain_mean", "gain_spread",
        "gain_statistical", "gain_baseline", "gain_common", "gain_asic", "gain_asic_error", "gain_aligned",
    )  # fmt: skip
    offered = (
        ReportTable(
            "calibration/selections", "Target and K by group of pixels",
            "Means over good pixels with each part of the uncertainty, and the values of the summed curve (ASIC).", "Result", groups,
        ),
        ReportTable("fit/selections", "Fits of summed curves", "Parameters of the curve of each selection of pixels.", "Curves"),
        ReportTable(
            "fit/pixels", "Noisy pixels", "Pixels that count where no photon of the source reaches.", "Quality",
            ("channel", "row", "column", "counts", "position", "width", "p_value", "status", "good"),
            f"(flags & {int(Flag.NOISY)}) > 0 AND NOT masked",
        ),
        ReportTable("scan/points", "Thresholds", "Open time, frames and hits of each threshold.", "Scan"),
        ReportTable(
            "scan/frames", "Frames left out", "Every frame that was not used, and why.", "Scan",
            ("file", "threshold", "acquisition", "status", "reason", "total", "last_column_mean"), "status <> 'good'",
        ),
        ReportTable("baseline/rules", "Rules for the baseline", "What each rule gives, against the control scan.", "Baseline"),
    )  # fmt: skip
    return [table for table in offered if table.product in products]


def _noise(scene: Scene) -> Iterator[Figure]:
    if not scene.has("noise/pixels", "noise/counts"):
        return
    yield Figure(
        "noise", "Noise scan",
        "Fitted mean noise of every pixel, distributions of means and widths (fitted, and hit-weighted as in the original), "
        "widths along rows and columns, and one pixel with its fit; readings at 63 stand for 63 or more.",
        "Noise", partial(_draw_noise, scene), dpi=_DPI,
    )  # fmt: skip


def _draw_noise(scene: Scene) -> Canvas:
    from firstlight.detectors.velo.noise import NoiseScan, parse_name
    from firstlight.detectors.velo.views_noise import noise_overview

    counts = scene.products["noise/counts"]
    name = next(name for name in scene.context.files if name.endswith((".dat", ".dat.xz")))
    thresholds = np.asarray(counts.coordinates["threshold"], dtype=np.int64)
    scan = NoiseScan(parse_name(name.rsplit("/", 1)[-1]), thresholds, np.asarray(counts.values))
    return noise_overview(scan, scene.products["noise/pixels"])


# -- result ----------------------------------------------------------------------------------------------------


def _result(scene: Scene) -> Iterator[Figure]:
    gain, target = scene.quantity("K"), scene.quantity("target")
    if gain is None or target is None or not np.isfinite(gain).any():
        return
    selection = partial(scene.selection, "calibration/selections")
    parts = {
        words: selection("all", column)
        for column, words in (
            ("gain_statistical", "statistical"), ("gain_baseline", "baseline"), ("gain_common", "common"),
        )
    }  # fmt: skip
    asic = {name: reference_of(scene, "K", key) for name, key in (("ASIC", "all"), ("ASICgood", "good"))}
    yield Figure(
        "K", "K (gain)",
        "K of every pixel, and below it the mean of the good ones with each part of its uncertainty apart: statistical, "
        "from the baseline, and common to all pixels (energy per electron-hole pair), which more pixels do not make smaller. "
        f"Lines: summed curves. Band: {EXPECTED_GAIN[0]} ± {EXPECTED_GAIN[1]} e⁻/DAC, what the original tool expects of the design.",
        "Result", partial(distributions.draw_gain, gain, parts=parts, good=scene.good, lines=asic, about=scene.about),
    )  # fmt: skip
    found = distribution_figure(scene, "target")
    if found is not None:
        caption = "Position of the edge less the baseline, for every pixel. The axis above is in electrons at the mean K."
        yield Figure("target", "Target", caption, "Result", found.draw)
    budget = _budget(scene)
    if budget.height > 1:
        yield Figure(
            "K_of_groups", "K by group of pixels",
            "Mean K of the good pixels of each group with the parts of its uncertainty; squares: K of the summed curve. "
            "The common part moves all groups together.",
            "Result",
            partial(collection.draw_gain_summary, budget, title="K by group of pixels", about=scene.about),
        )  # fmt: skip


def _budget(scene: Scene) -> pl.DataFrame:
    """Return the selections as `draw_gain_summary` wants them; those of good pixels repeat the others."""
    names = {
        "all": "all pixels", "even": "even columns", "odd": "odd columns", "rows": "rows 0, 15 mod 16",
        "superpixel_even": "even super-pixels", "superpixel_odd": "odd super-pixels",
    }  # fmt: skip
    if scene.legacy_rows:
        names["rows"] = "rows 15, 30, … 255"
    if not scene.has("calibration/selections"):
        return pl.DataFrame()
    frame = scene.frame("calibration/selections").filter(
        pl.col("selection").is_in(list(names)) & pl.col("gain_mean").is_not_null()
    )
    wanted = [
        name
        for name in ("gain_mean", "gain_statistical", "gain_baseline", "gain_common", "gain_asic")
        if name in frame.columns
    ]
    return frame.select(pl.col("selection").replace(names).alias("dataset"), *wanted)


# -- maps ------------------------------------------------------------------------------------------------------


def _maps(scene: Scene) -> Iterator[Figure]:
    kinds = scene.image("fit/pixels", "fit_type")
    if kinds is not None:
        yield Figure(
            "map_fit_type", "Map: type of fit",
            "What became of the fit of every pixel, in the colours of the original tool: good red, bad pale yellow, "
            "too few hits light grey, not found grey; dead pixels are white, masked ones black. Row 0 is at the bottom.",
            "Maps", partial(maps.draw_fit_types, kinds, masked=scene.masked, dead=scene.dead, about=scene.about), dpi=_DPI,
        )  # fmt: skip
    for key in _MAPPED:
        found = map_figure(scene, key)
        if found is not None:
            yield found


def map_figure(scene: Scene, key: str, limits: tuple[float, float] | None = None) -> Figure | None:
    """Return the map of one of the quantities of `QUANTITIES`; None where it is not there.

    Parameters
    ----------
    scene : Scene
        Products of a run.
    key : str
        ``"E0"``, ``"K"`` ...
    limits : (float, float), optional
        Ends of the colours.
    """
    quantity, values = QUANTITIES[key], scene.quantity(key)
    if values is None or not np.isfinite(values).any():
        return None
    good, other = scene.good if quantity.only_good else None, "no good fit"
    words = _KEY if quantity.only_good else _KEY.replace(" grey: no good fit;", "")
    if key == "saturated":
        draw = partial(
            maps.draw_count_map,
            values,
            title=quantity.title,
            label=quantity.label,
            masked=scene.masked,
            about=scene.about,
        )
        text = "Readings of every pixel at 63, where the counter stops: hits were lost. Pale: none. A ring marks each where they are few."
        return Figure(f"map_{key}", f"Map: {quantity.title}", text, "Maps", draw, dpi=_DPI)
    dead: NDArray[np.bool_] | None = scene.dead
    label = "dead"
    if key == "totalflux":
        dead, label = scene.silent, "no hit"
        words = words.replace("White: dead", "White: no hit")
    if key == "p-value":
        limits = limits or (0.0, 1.0)
        good, other = np.isfinite(values), "not fitted"
        words = _KEY.replace("no good fit", "not fitted")
    if key == "baseline":
        # a dead pixel has a baseline
        dead = None
        words = words.replace("White: dead", "White: no baseline")
    draw = partial(
        maps.draw_parameter_map, values, title=quantity.title, label=quantity.label, masked=scene.masked, good=good,
        other_label=other, dead=dead, dead_label=label, limits=limits, scale=quantity.scale, about=scene.about,
    )  # fmt: skip
    text = f"{quantity.label} of every pixel. {words}"
    return Figure(f"map_{key}", f"Map: {quantity.title}", text, "Maps", draw, dpi=_DPI)


# -- curves ----------------------------------------------------------------------------------------------------


def _curves(scene: Scene) -> Iterator[Figure]:
    if scene.has("fit/curves"):
        for selection, name in (("all", "ASIC"), ("good", "ASICgood")):
            if not scene.frame("fit/curves").filter(pl.col("selection") == selection)["rate"].count():
                continue
            yield Figure(
                f"flux_{name}", f"Flux against threshold: {name}",
                "Mean flux of a pixel with Poisson errors and the fit to the sum. The positions of the pixels differ, so that "
                "one edge does not describe the sum within the small errors of so many hits: residuals and pulls show by how much. "
                "The axis above is in electrons.",
                "Curves", partial(_draw_selection, scene, selection),
            )  # fmt: skip
    if not scene.has("scan/counts", "scan/points"):
        return
    place = example(scene)
    if place is None:
        return
    row, column = place
    yield Figure(
        "flux_area", "Flux against threshold: an area",
        "Mean flux of the pixels within 5 of the good pixel with most hits; the line is the mean of the fits of the single pixels.",
        "Curves", partial(_draw_area, scene, row, column),
    )  # fmt: skip
    yield Figure(
        "flux_pixel", "Flux against threshold: a pixel",
        "The good pixel with most hits, with Poisson intervals, fit, residuals and pulls.",
        "Curves", partial(_draw_pixel, scene, row, column),
    )  # fmt: skip
    if scene.has("fit/pixels"):
        yield Figure(
            "gallery", "Example pixels",
            "One sheet of examples: typical good fits, the poorest fit, a noisy pixel, a dead one, one with few hits, a masked one.",
            "Curves", partial(_draw_gallery, scene),
        )  # fmt: skip


def _draw_selection(scene: Scene, selection: str) -> Canvas:
    curve = curves.curve_of_selection(scene, selection)
    return curves.draw_flux_curve(curve, residuals=True, pulls=True, about=scene.about)


def _draw_area(scene: Scene, row: int, column: int) -> Canvas:
    curve = curves.curve_of_area(scene, row, column, 5.0)
    return curves.draw_flux_curve(curve, residuals=True, pulls=True, about=scene.about)


def _draw_pixel(scene: Scene, row: int, column: int) -> Canvas:
    curve = curves.curve_of_pixel(scene, row, column)
    return curves.draw_flux_curve(curve, residuals=True, pulls=True, about=scene.about)


def example(scene: Scene) -> tuple[int, int] | None:
    """Return row and column of the good pixel with most hits."""
    counts = scene.image("scan/pixels", "counts")
    if counts is None:
        counts = np.asarray(scene.products["scan/counts"].values).sum(axis=0).astype(float)
    usable = ~scene.masked if scene.good is None or not scene.good.any() else scene.good
    counts = np.where(usable, np.nan_to_num(counts), -1.0)
    if counts.max() <= 0:
        return None
    row, column = np.unravel_index(int(np.argmax(counts)), counts.shape)
    return int(row), int(column)


def gallery(scene: Scene) -> list[tuple[str, tuple[int, int]]]:
    """Return examples of pixels: what each is an example of, and its row and column."""
    counts = scene.image("scan/pixels", "counts")
    if counts is None:
        counts = scene.image("fit/pixels", "counts")
    if counts is None:
        return []
    counts = np.nan_to_num(counts)
    good = np.zeros(counts.shape, dtype=bool) if scene.good is None else scene.good
    p_value = scene.image("fit/pixels", "p_value")
    found: list[tuple[str, tuple[int, int]]] = []

    def add(name: str, where: NDArray[np.bool_], order: NDArray[np.float64], share: float = 0.5) -> None:
        index = np.flatnonzero(where.ravel() & np.isfinite(order.ravel()))
        if index.size:
            chosen = index[np.argsort(order.ravel()[index], kind="stable")[int(share * (index.size - 1))]]
            row, column = np.unravel_index(int(chosen), counts.shape)
            found.append((name, (int(row), int(column))))

    add("good, most hits", good, counts, 1.0)
    add("good, typical", good, counts, 0.6)
    add("good, fewest hits", good, counts, 0.0)
    kinds = scene.image("fit/pixels", "fit_type")
    noisy = ((scene.flags & int(Flag.NOISY)) > 0) & ~scene.masked
    if p_value is not None and kinds is not None:
        bad = (kinds == 0) & ~noisy
        # of many that fit badly for no reason but their errors: the worst of those with many hits
        many = bad & (counts > (np.median(counts[bad]) if bad.any() else 0))
        add("poorest fit", many, p_value, 0.0)
    add("noisy", noisy, counts, 0.5)
    add("dead", scene.dead, counts, 0.5)
    add("too few hits", (kinds == -2) & ~scene.dead if kinds is not None else ~good, counts, 1.0)
    add("masked", scene.masked, counts, 1.0)
    outside = ((scene.flags & int(Flag.EDGE_OUTSIDE_SCAN)) > 0) & ~noisy & ~scene.masked
    add("edge outside the scan", outside, counts, 0.9)
    return found


def _draw_gallery(scene: Scene) -> Canvas:
    chosen = [(name, curves.curve_of_pixel(scene, *place)) for name, place in gallery(scene)]
    return curves.draw_gallery(chosen, about=scene.about)


# -- quality ---------------------------------------------------------------------------------------------------


def _quality(scene: Scene) -> Iterator[Figure]:
    if scene.has("fit/pixels"):
        yield from _fit_quality(scene)
        yield from _parameters(scene)
    yield from filter(None, (discrepancy_figure(scene, key) for key in ("target", "K")))
    gain, target = scene.quantity("K"), scene.quantity("target")
    if gain is None or target is None or not np.isfinite(gain).any():
        return
    good = np.isfinite(gain) if scene.good is None else scene.good
    values = {"target": np.where(good, target, np.nan), "K": np.where(good, gain, np.nan)}
    yield Figure(
        "QQ", "Normal probability plots",
        "Ordered values of good pixels against quantiles of the normal distribution: normal values lie on the line, whose "
        "height at 0 is the mean and whose slope the standard deviation. Tails that leave the line are outliers.",
        "Quality",
        partial(
            distributions.draw_probability_plots,
            {QUANTITIES[key].label: values[key] for key in ("target", "K")}, about=scene.about,
        ),
    )  # fmt: skip
    for key in ("target", "K"):
        yield Figure(
            f"groups_{key}", f"Groups of pixels: {QUANTITIES[key].title}",
            "Distributions of good pixels in even and odd columns and in the rows at the edges of the hardware's "
            "period of 16, each normalised to 1, and the difference of even and odd columns with Poisson errors.",
            "Quality",
            partial(
                distributions.draw_groups, values[key], label=QUANTITIES[key].label, title=f"{QUANTITIES[key].title} by group",
                groups=groups_of(scene.legacy_rows), about=scene.about,
            ),
        )  # fmt: skip
    yield Figure(
        "profiles_K", "K by column and by row",
        "Mean K of the good pixels of each column and of each row, with its error from their spread.",
        "Quality",
        partial(distributions.draw_profiles, values["K"], label="mean K [e⁻/DAC]", title="K by column and by row", about=scene.about),
    )  # fmt: skip


def _fit_quality(scene: Scene) -> Iterator[Figure]:
    p_values = scene.image("fit/pixels", "p_value")
    if p_values is not None:
        yield Figure(
            "fit_quality", "p-values and pulls",
            "Left: p-values of all fits, spread evenly where the flux equation is right. Right: difference to the fit of single "
            "points of which at least 10 hits are expected, of a sample of good pixels; four parameters adjust to the points of "
            "a pixel: the fewer points it has, the narrower is the distribution than the normal one.",
            "Quality", partial(_draw_quality, scene, np.where(scene.masked, np.nan, p_values)),
        )  # fmt: skip
    if scene.flags.any():
        counts = {str(flag.name): int(((scene.flags & int(flag)) > 0).sum()) for flag in Flag}
        yield Figure(
            "flags", "Flags of pixels",
            "How many pixels carry each flag; a pixel may carry several. Masked, dead, noisy, saturated, edge outside, not "
            "converged, at bound, poor fit and low statistics keep a pixel out of the means.",
            "Quality", partial(maps.draw_reasons, counts, N_PIXELS, about=scene.about),
        )  # fmt: skip


def _draw_quality(scene: Scene, p_values: NDArray[np.float64]) -> Canvas:
    pulls = curves.point_pulls(scene) if scene.has("scan/counts", "scan/points") else None
    return distributions.draw_fit_quality(p_values, pulls, about=scene.about)


def _parameters(scene: Scene) -> Iterator[Figure]:
    for key in _SHOWN:
        found = distribution_figure(scene, key)
        if found is not None:
            yield found


def reference_of(scene: Scene, key: str, selection: str = "good") -> tuple[float, float]:
    """Return the value of the summed curve of a selection and its uncertainty; NaN where not known.

    Parameters
    ----------
    scene : Scene
        Products of a run.
    key : str
        A name of `QUANTITIES`.
    selection : str
        ``"all"`` (ASIC), ``"good"`` (ASICgood), ``"even"`` ...
    """
    summed = {"target": "target_asic", "K": "gain_asic"}.get(key)
    if summed is not None:
        both = (summed, f"{summed}_error")
        value, error = (scene.selection("calibration/selections", selection, name) for name in both)
        return value, error
    return scene.parameter(selection, QUANTITIES[key].column)


def distribution_figure(scene: Scene, key: str, limits: tuple[float, float] | None = None) -> Figure | None:
    """Return the distribution of one of `QUANTITIES` with ASIC and ASICgood; None where it is not there.

    Parameters
    ----------
    scene : Scene
        Products of a run.
    key : str
        ``"E0"``, ``"K"`` ...
    limits : (float, float), optional
        Ends of the histogram.
    """
    values, quantity = scene.quantity(key), QUANTITIES[key]
    if values is None or not np.isfinite(values).any():
        return None
    lines = {name: reference_of(scene, key, which) for name, which in (("ASIC", "all"), ("ASICgood", "good"))}
    text = f"{quantity.label}: all pixels that were fitted, and those with a good fit. Lines: fits of the summed curves"
    text += (
        "; the rate there is the mean of all pixels, many of which see little of the source."
        if key in ("N", "C")
        else "."
    )
    text += " The summed edge is wider by the spread of the positions." if key == "sigma" else ""
    draw = partial(
        distributions.draw_distribution, values, label=quantity.label, title=quantity.title, good=scene.good, lines=lines,
        electrons_per_dac=scene.selection("calibration/selections", "all", "gain_mean") if key == "target" else float("nan"),
        limits=limits, about=scene.about,
    )  # fmt: skip
    return Figure(f"distribution_{key}", f"Distribution: {quantity.title}", text, "Quality", draw)


def discrepancy_figure(scene: Scene, key: str, selection: str = "good") -> Figure | None:
    """Return the discrepancy of every pixel to a summed curve, in standard deviations; None without one.

    Parameters
    ----------
    scene : Scene
        Products of a run.
    key : str
        A name of `QUANTITIES` that has an error.
    selection : str
        ``"all"`` (ASIC) or ``"good"`` (ASICgood).
    """
    values, errors, quantity = scene.quantity(key), scene.error(key), QUANTITIES[key]
    reference, spread = reference_of(scene, key, selection)
    if values is None or errors is None or not np.isfinite(reference):
        return None
    baseline = {"target": "baseline_error", "K": "gain_baseline"}.get(key)
    extra = None if baseline is None else scene.image("calibration/pixels", baseline)
    if extra is not None:
        errors = np.hypot(errors, np.nan_to_num(extra))
    name = {"all": "ASIC", "good": "ASICgood"}.get(selection, selection)
    title = f"Discrepancy to {name}: {quantity.title}"
    return Figure(
        f"discrepancy_{key}", title,
        f"Difference of every pixel to the value of {name}, the summed curve, in standard deviations of the two. Pixels differ "
        "from one another by more than their uncertainties: the distribution is wider than 1.",
        "Quality",
        partial(
            distributions.draw_discrepancy, values, errors, reference, float(np.nan_to_num(spread)), good=scene.good,
            title=title, name=name, about=scene.about,
        ),
    )  # fmt: skip


# -- scan and baseline -----------------------------------------------------------------------------------------


def _scan(scene: Scene) -> Iterator[Figure]:
    if not scene.has("scan/frames"):
        return
    frames = scene.frame("scan/frames")
    yield Figure(
        "frame_status", "Frames of the scan",
        "What became of the frame of every threshold and acquisition; the bars are the frames that were used.",
        "Scan", partial(scan.draw_frame_status, frames, about=scene.about),
    )  # fmt: skip
    yield Figure(
        "timeline", "Rate of every frame",
        "Above: hits per second of the chip, of every frame in order; frames that were left out have the colour of the reason. "
        "Middle: deviation from the median of the good frames of the same threshold in Poisson errors: a drift shows as a trend. "
        "Below: all frames left out, also those without a rate.",
        "Scan", partial(scan.draw_timeline, frames, about=scene.about),
    )  # fmt: skip


def _baseline(scene: Scene) -> Iterator[Figure]:
    if not scene.has("baseline/pixels"):
        return
    control = scene.image("baseline/pixels", "control")
    rules = {words: scene.image("baseline/pixels", name) for name, words in _RULES.items()}
    known = {words: image for words, image in rules.items() if image is not None and np.isfinite(image).any()}
    if control is not None and np.isfinite(control).any() and known:
        differences = {
            words: np.where(scene.masked, np.nan, image - control) for words, image in known.items()
        }
        yield Figure(
            "baseline_rules", "Rules for the baseline",
            "Baseline that each rule predicts from the noise scans at trim 0 and 15, less that of the control scan, which was "
            "measured at the chosen trim. A baseline too low makes the target too large and K too small; the key says by how much.",
            "Baseline",
            partial(
                scan.draw_baseline_comparison, differences,
                target=scene.selection("calibration/selections", "all", "target_mean"), about=scene.about,
            ),
        )  # fmt: skip
    values = scene.quantity("baseline")
    if values is not None and np.isfinite(values).any():
        quantity = QUANTITIES["baseline"]
        yield Figure(
            "distribution_baseline", "Distribution: baseline", "Baseline of every pixel that is not masked, by the rule that was used.",
            "Baseline",
            partial(distributions.draw_distribution, values, label=quantity.label, title="Baseline", about=scene.about),
        )  # fmt: skip
        found = map_figure(scene, "baseline")
        if found is not None:
            yield Figure(found.name, found.title, found.caption, "Baseline", found.draw, dpi=found.dpi)
