"""Which figures and tables the report of a DigiCam run has, in which order and with which words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.options import CalibrationParameters
from firstlight.detectors.digicam.scene import QUANTITIES, Scene
from firstlight.detectors.digicam.views import continuous, light, maps, quality, spectra, timing
from firstlight.view.figure import Figure, ReportTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matplotlib.figure import Figure as Canvas

    from firstlight.steps.step import Context

__all__ = ["figures", "tables"]

_DPI = 130
_MAP = (
    "Left: the camera as its software draws it, lines are sectors. Rings are pixels whose constants are not to be used; dead ones and "
    "those without a value have a colour of their own, in the key with their number. The colours end where few values are beyond, how many "
    "is told above and below the bar. Right: distribution with median (line) and robust width (band); flagged pixels are red."
)
_SPECTRUM = (
    "Points are counts with their Poisson intervals, the line is the fit; numbers above are avalanches. Below: (counts − fit) / √fit of "
    "bins with at least 5 expected."
)
_CHOSEN = "A typical pixel, that with the smallest p-value and the largest outlier, or those of the option view.pixels."


def figures(products: Mapping[str, Any], context: Context) -> list[Figure]:
    """Return the figures of a run: what needs attention, the calibration, then its details.

    Parameters
    ----------
    products : mapping
        Products of the run by "step/product", as far as they are there; figures without their products are left out.
    context : Context
        Its channel map is that of the camera.
    """
    scene = Scene(products, context)
    parts = (_attention, _calibration, _light, _times, _continuous, _spectra, _quality)
    return [figure for part in parts for figure in part(scene)]


def tables(products: Mapping[str, Any], _: Context) -> list[ReportTable]:
    """Return the tables of the report, those with rows."""
    offered = (
        ReportTable(
            "calibration/flagged", "Flagged pixels",
            "Pixels with flags, those whose constants are not to be used first; pixels that the light source does not reach, and that "
            "have no other flag, are left out.",
            "Attention", limit=300,
        ),
        ReportTable(
            "calibration/camera", "The calibration in numbers",
            "Median and robust spread of the good pixels. Crosstalk is the mean number of avalanches that an avalanche starts, and as "
            "probability that it starts any: 1 − exp(−number).",
            "Calibration",
        ),
        ReportTable(
            "events/files", "Files", "What each file was taken with, what says so, and which events it has.", "Files", limit=400
        ),
        ReportTable("light/levels", "Levels of flashes", "Events of each level of the scan.", "Files"),
        ReportTable("continuous/levels", "Levels of continuous light", "Events of each level.", "Files"),
    )  # fmt: skip
    return [table for table in offered if table.product in products and products[table.product].frame.height]


def _figure(
    name: str, title: str, caption: str, section: str, draw: Callable[..., Canvas], scene: Scene, *more: Any
) -> Figure:
    return Figure(name, title, caption, section, partial(draw, scene, *more), dpi=_DPI)


def _attention(scene: Scene) -> Iterator[Figure]:
    if not scene.has("calibration/pixels"):
        return
    yield _figure(
        "flags", "Flags of pixels",
        "Left: the most serious flag of every pixel; numbers are pixels whose constants are not to be used, modules that are so as a "
        "whole have a red outline. Right: pixels with each flag, a pixel may have several. Saturated, unlit, at limit and bad fit are "
        "remarks, with the others constants are not to be used."
        + ("" if scene.lit.all() else " The golden line is what the light source reaches."),
        "Attention", maps.draw_flags, scene,
    )  # fmt: skip


def _calibration(scene: Scene) -> Iterator[Figure]:
    limit = scene.parameters("calibration", CalibrationParameters).outlier
    for key in ("gain", "crosstalk", "dark_rate", "electronics_noise", "baseline", "gain_smearing"):
        quantity = QUANTITIES[key]
        values = scene.values(key)
        known = values[np.isfinite(values)]
        # what was held fixed is the same everywhere, and no result
        if not known.size or (known.size > 1 and np.ptp(known) == 0):
            continue
        cut = (
            f" Dashed lines: cuts of outliers, {limit:g} robust widths from the median of all pixels."
            if quantity.cut
            else ""
        )
        yield _figure(
            f"map_{key}", quantity.title, f"{quantity.about} {_MAP}{cut}", "Calibration", maps.draw_quantity, scene, key
        )  # fmt: skip
    if quality.pairs_of(scene):
        yield _figure(
            "pairs", "Parameters against each other",
            "One point a good pixel, flagged ones are red rings; the cross has the median standard errors. With the overvoltage gain, crosstalk and dark "
            "rate rise together: a correlation says that pixels have different overvoltages. The correlation without errors takes off what the errors of "
            "the fits add to spread and covariance.",
            "Calibration", quality.draw_pairs, scene,
        )  # fmt: skip


def _light(scene: Scene) -> Iterator[Figure]:
    if not scene.levels.size or not np.isfinite(scene.light).any():
        return
    yield _figure(
        "light_curve", "Light against level",
        "Left: mean photo-electrons of a flash at each level, median and bands of the good pixels, and some pixels with their errors. Below: pixel over "
        "median; a slope is a pixel whose light source has another curve. Right: the level that gives a wanted light, median and 68 % of the pixels, "
        "interpolated in the logarithm of the light.",
        "Light", light.draw_light_curve, scene,
    )  # fmt: skip
    if scene.level_shown >= 0:
        yield _figure(
            "map_light", "Light at a level",
            f"Mean photo-electrons of a flash at the level whose median is nearest to 2 p.e., or at that of the option view.level. {_MAP}",
            "Light", light.draw_light_map, scene,
        )  # fmt: skip
    if np.isfinite(scene.relative_light).any():
        yield _figure(
            "map_relative_light", "Relative light yield",
            "Light of each pixel over that of the median pixel, mean of the levels between 0.5 and 100 p.e.: efficiency of the pixel and uniformity of the "
            f"light source, which flashes alone cannot tell apart. {_MAP}",
            "Light", light.draw_relative_light, scene,
        )  # fmt: skip


def _times(scene: Scene) -> Iterator[Figure]:
    section = "Times and shape"
    if np.isfinite(scene.values("time")).any():
        quantity = QUANTITIES["time"]
        yield _figure(
            "map_time", quantity.title, f"{quantity.about} {_MAP}", section, maps.draw_quantity, scene, "time"
        )
    if scene.has("light/peak"):
        yield _figure(
            "highest_samples", "Highest sample of the trace",
            "Left: how often which sample of a pixel is the highest of its trace, all levels together; a pixel without light, and the levels without, are "
            "spread over the trace. Right: the same of all good pixels. The band is the sample at which the light is measured.",
            section, timing.draw_highest_samples, scene,
        )  # fmt: skip
    if scene.has("template/shape") and len(scene.products["template/shape"]) > 3:
        yield _figure(
            "template", "Shape of a pulse",
            "Mean shape of the pulses of flashes, aligned at their maxima, with the spread over pixels and levels, and the shape that the fits use. Below: "
            "measured less used, the band is 1 % of the maximum.",
            section, timing.draw_template, scene,
        )  # fmt: skip


def _continuous(scene: Scene) -> Iterator[Figure]:
    section = "Continuous light"
    if not scene.continuous_levels.size:
        return
    yield _figure(
        "continuous", "Continuous light",
        "Against the level, median and bands of the good pixels. Shift of the mean sample from the baseline in the dark, or from the lowest level without a dark "
        "run; the rate of photo-electrons that makes it, dark counts taken off, with the exponential that was fitted; and the gain that the fluctuations tell "
        "(variance that pulses add over the shift, Campbell) over that of the calibration, with what the resistance of the bias circuit leaves.",
        section, continuous.draw_continuous, scene,
    )  # fmt: skip
    if continuous.level_shown(scene) >= 0:
        yield _figure(
            "map_rate", "Rate of continuous light",
            f"Rate of photo-electrons at the level whose median is nearest to 100 MHz. {_MAP}", section, continuous.draw_rate_map, scene,
        )  # fmt: skip


def _spectra(scene: Scene) -> Iterator[Figure]:
    section = "Spectra"
    if scene.has("gain/pixels", "gain/chosen", "light/charge", "light/levels"):
        chosen = scene.examples("gain/pixels", ("gain", "crosstalk", "electronics_noise"))
        for number, (what, pixel) in enumerate(chosen[:6]):
            yield _figure(
                f"spectrum_light_{number}", f"Flashes, pixel {pixel}: {what}",
                "Charges of the levels that were fitted together: gain, crosstalk, baseline and noise are common to all, each level has its own light. Charges "
                f"are counted from the reference, a whole number near the baseline. {_SPECTRUM}",
                section, spectra.draw_light, scene, pixel, what,
            )  # fmt: skip
    if scene.has("samples/dark", "dark/pixels"):
        yield _figure(
            "spectrum_dark", "Samples in the dark",
            f"All samples of a pixel: the foot of the pedestal and the shoulders are pulses at random times, sampled anywhere. {_CHOSEN} {_SPECTRUM} Neighbouring "
            "samples share pulses, so that pulls are not independent.",
            section, spectra.draw_dark, scene,
        )  # fmt: skip
    if scene.has("samples/dark_residual", "dark/camera"):
        yield _figure(
            "spectrum_camera", "All pixels in the dark",
            "Samples of all pixels above the baselines of their events, and one fit to all of them. Pixels differ in gain and noise, and some are noisy, which one "
            "set of parameters cannot describe: the numbers are an overview, those of the pixels are the calibration. Below: what is left of the fit.",
            section, spectra.draw_camera_spectrum, scene,
        )  # fmt: skip
    if scene.has("samples/hv_off", "hv_off/pixels"):
        yield _figure(
            "spectrum_hv_off", "Samples without high voltage", f"All samples of a pixel. {_CHOSEN} {_SPECTRUM}",
            section, spectra.draw_hv_off, scene,
        )  # fmt: skip
    if scene.has("pulses/charge") and scene.products["pulses/charge"].values.any():
        yield _figure(
            "spectrum_pulses", "Pulses found in the dark",
            "Charge of a window about each pulse that was found in the dark. Left: single pixels. Right: all good pixels, each in units of its own gain, so that the "
            "peaks of 1, 2, 3 avalanches stand above each other.",
            section, spectra.draw_pulses, scene,
        )  # fmt: skip


def _quality(scene: Scene) -> Iterator[Figure]:
    section = "Quality"
    if quality.fits_of(scene):
        yield _figure(
            "p_values", "p-values of the fits",
            "Probability of a larger deviance, spread evenly where a model describes the data; without pixels that are dead, noisy, silent or unlit. Many below 0.01: "
            "the model is wrong. Samples in the dark are not independent, which makes both ends a little higher.",
            section, quality.draw_p_values, scene,
        )  # fmt: skip
    if scene.has("dark/pixels", "gain/pixels"):
        yield _figure(
            "dark_against_flashes", "Dark run against flashes",
            "Gain, as height of the pulse at its maximum, and crosstalk from samples in the dark and from flashes: two fits of different data. Left: pixel by pixel, "
            "the cross has the median errors. Right: differences over their errors with the unit normal distribution.",
            section, quality.draw_comparison, scene,
        )  # fmt: skip
    if scene.has("dark/pixels") and quality.other_rates(scene):
        yield _figure(
            "dark_rates", "Dark rate by other methods",
            "Against the rate of the fit: that of traces without a pulse, −ln(N0/N)/T, and pulses found by the search, which misses those that overlap.",
            section, quality.draw_rates, scene,
        )  # fmt: skip
