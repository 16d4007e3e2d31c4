"""The checks of light: dark counts inside of fits, the light source, light against level, times, continuous light."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.counting import SAMPLE_PERIOD
from firstlight.detectors.digicam.scene import pixel_names
from firstlight.steps.spread import robust_spread
from firstlight.steps.step import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from firstlight.detectors.digicam.scene import Scene

    FloatArray = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["light_checks"]

_TYPICAL_RATE = 2.75  # MHz, 2018
_BIAS = 0.01
_MANY = 0.01  # of the pixels
_SEEN = 0.1  # of the median light: a pixel with less is not lit
_WRONG = 0.2  # of the pixels that it does not reach: cables are not swapped by the sector
_DROP, _SIGMAS = 0.02, 5.0
_SATURATED = 0.01  # of the flashes
_LOAD = 0.03
_FAR, _LATE = 6.0, 2.0  # robust standard deviations and ns


def light_checks(scene: Scene) -> Iterator[Check]:
    """Return the judgements on flashes and on continuous light."""
    yield from _dark_counts(scene)
    yield from _source(scene)
    yield from _rising(scene)
    yield from _saturation(scene)
    yield from _times(scene)
    yield from _continuous(scene)


def _dark_counts(scene: Scene) -> Iterator[Check]:
    """Say by how much the light is wrong where dark counts are left out: those in a charge add f I1 on average."""
    if not scene.has("gain/pixels"):
        return
    from firstlight.detectors.digicam.pulse import PulseTemplate

    parameters, light = scene.gain_parameters, scene.light_parameters
    pulse = PulseTemplate.read(Path(parameters.template)) if parameters.template else PulseTemplate.default()
    if light.n_samples > 1:
        # heights relative to the charge of a flash
        pulse = pulse.windowed(light.n_samples, before=min(light.window_start, light.n_samples - 1))
    integral = pulse.integral()
    if scene.dark_counts_inside:
        rate = float(np.nanmedian(scene.column("gain/pixels", "rate")))
        added = 1e-3 * rate * integral
        rule = f"dark counts are inside of the fits of flashes: {rate:.2f} MHz add {added:.3f} p.e. to a charge on average"
        yield Check("dark counts in the light", "ok", 0.0, _BIAS, rule)
        return
    known = scene.column("dark/pixels", "rate")
    known = known[np.isfinite(known)]
    rate = float(np.median(known)) if known.size else _TYPICAL_RATE
    where = "the dark run has" if known.size else "usual are"
    bias = 1e-3 * rate * integral
    rule = (
        f"dark counts are left out of the fits of flashes ({where} {rate:.2f} MHz): the light of every level is up to "
        f"{bias:.3f} p.e. too high, {bias:.1%} at 1 p.e.; add a dark run to the files, or gain.dark_rate=fit"
    )
    verdict: Verdict = "warn" if bias > _BIAS else "ok"
    yield Check("dark counts in the light", verdict, bias, _BIAS, rule)


def _brightest(scene: Scene) -> FloatArray:
    """Return the light of the highest level, shape (1296,) [p.e.]; from the mean charge for pixels whose fits failed."""
    light = scene.light[:, -1]
    mean = scene.of_levels("mean")
    rise = mean[:, -1] - mean[:, 0]
    known = np.isfinite(light) & (light > 0) & (rise > 0)
    if not known.any():
        return light
    return np.where(np.isfinite(light), light, rise * float(np.median(light[known] / rise[known])))


def _source(scene: Scene) -> Iterator[Check]:
    """Compare which pixels see light with which ones the light source stands before."""
    if not scene.levels.size:
        return
    module = scene.context.channels.column("module")
    brightest, lit = _brightest(scene), scene.lit
    explained = scene.flags["dead"] | scene.flags["no_pulses"]
    known = brightest[np.isfinite(brightest) & ~explained]
    # the brightest tenth sees light, wherever the light source stands
    seen = known[known > 0.2 * np.quantile(known, 0.9)] if known.size else known
    if not seen.size:
        rule = "no pixel sees light: is the light source on, is the sample of the light right?"
        yield Check("unlit pixels", "bad", int(lit.sum()), _MANY * N_PIXELS, rule)
        return
    middle = float(np.median(seen))
    light = np.nan_to_num(brightest) > _SEEN * middle
    unlit = lit & ~light & np.isfinite(brightest) & ~explained
    number = int(unlit.sum())
    verdict: Verdict = "bad" if number > _MANY * N_PIXELS else "warn" if number else "ok"
    rule = (
        f"{number} of {int(lit.sum()):,} pixels before the light source have less than {_SEEN:.0%} of the usual light "
        f"({middle:.3g} p.e. at {scene.levels[-1]:g} DAC); dead pixels and those without high voltage not counted"
    )
    yield Check("unlit pixels", verdict, number, _MANY * N_PIXELS, rule, details=pixel_names(unlit, module))
    if lit.all():
        return
    stray = ~lit & light & ~scene.flags["dead"]
    number = int(stray.sum())
    others = int((~lit).sum())
    rule = f"{number} of {others} pixels that the light source does not reach see light"
    verdict = "warn" if number else "ok"
    if number > _WRONG * others:
        rule += ": the option cts_sector or cts_version is not that of this run"
        verdict = "bad"
    elif number and unlit.any():
        rule += f", {int(unlit.sum())} that it reaches see none: are cables swapped?"
    yield Check("light beside the light source", verdict, number, 0, rule, details=pixel_names(stray, module))


def _rising(scene: Scene) -> Iterator[Check]:
    """Find pixels whose light falls from one level to the next by more than its errors."""
    if scene.levels.size < 2:
        return
    light = np.where(np.nan_to_num(scene.of_levels("saturated")) > _SATURATED, np.nan, scene.light)
    yield _falling(
        scene, "light rises with the level", scene.levels, light, scene.of_levels("photo_electrons_error"), scene.usable_light, "p.e."
    )  # fmt: skip


def _continuous(scene: Scene) -> Iterator[Check]:
    """Find pixels whose mean sample falls from level to level, and compare the gain under load with that of the bias circuit."""
    levels = scene.continuous_levels
    if levels.size < 2:
        return
    values = scene.products["continuous/moments"].values
    mean, error = values[:, :, 0], values[:, :, 1]
    usable = ~scene.flagged & scene.lit
    # a fall of a mean that has no zero is one of the light above that of the lowest level
    yield _falling(
        scene, "continuous light rises with the level", levels, mean - mean[:, [0]], error, usable, "LSB"
    )
    left = scene.relative_gain / scene.of_continuous_levels("gain_factor")
    known = np.isfinite(left) & usable[:, None]
    enough = np.flatnonzero(known.sum(axis=0) >= 20)
    if not enough.size:
        return
    brightest = int(enough[-1])
    chosen = known[:, brightest]
    value = float(np.median(left[chosen, brightest])) - 1
    verdict: Verdict = "warn" if abs(value) > _LOAD else "ok"
    told = float(np.median(scene.relative_gain[chosen, brightest]))
    factor = float(np.median(scene.of_continuous_levels("gain_factor")[chosen, brightest]))
    rule = f"at {levels[brightest]:g} DAC fluctuations tell {told:.1%} of the gain, resistance and capacitance of the bias circuit leave {factor:.1%}"
    if verdict == "warn":
        rule += ": dc.resistance and dc.capacitance are not those of this camera, rates of continuous light are wrong by as much"
    yield Check("gain under continuous light", verdict, value, _LOAD, rule)


def _falling(
    scene: Scene,
    name: str,
    levels: FloatArray,
    values: FloatArray,
    error: FloatArray,
    usable: Mask,
    unit: str,
) -> Check:
    """Judge values that must not fall from level to level, by more than errors and 2 %."""
    drop = values[:, :-1] - values[:, 1:]
    with np.errstate(invalid="ignore"):
        falls = (drop > _SIGMAS * np.hypot(error[:, :-1], error[:, 1:])) & (
            drop > _DROP * np.abs(values[:, :-1])
        )
    where = np.asarray(falls.any(axis=1) & usable)
    number, judged = int(where.sum()), int(usable.sum())

    def told(pixel: int) -> str:
        place = int(np.argmax(falls[pixel]))
        one, other = values[pixel, place : place + 2]
        return f"{one:.3g} {unit} at {levels[place]:g} DAC, {other:.3g} at {levels[place + 1]:g}"

    verdict: Verdict = (
        "no-statistics" if not judged else "bad" if number > 0.05 * judged else "warn" if number else "ok"
    )
    rule = f"the light of {number} of {judged:,} pixels falls from one level to the next by more than {_SIGMAS:g} standard errors"
    return Check(
        name,
        verdict,
        number,
        0,
        rule,
        details=pixel_names(where, scene.context.channels.column("module"), told),
    )


def _saturation(scene: Scene) -> Iterator[Check]:
    if not scene.levels.size:
        return
    saturated = np.where(scene.usable_light[:, None], np.nan_to_num(scene.of_levels("saturated")), 0.0)
    number = (saturated > _SATURATED).sum(axis=0)
    judged = int(scene.usable_light.sum())
    levels = np.flatnonzero(number)
    rule = f"no pixel has more than {_SATURATED:.0%} of its flashes beyond the ADC"
    if levels.size:
        first = levels[0]
        rule = (
            f"from {scene.levels[first]:g} DAC on pixels have more than {_SATURATED:.0%} of their flashes beyond the ADC; their light "
            "there is too small"
        )
    verdict: Verdict = "no-statistics" if not judged else "warn" if levels.size else "ok"
    details = tuple(f"{scene.levels[k]:g} DAC: {number[k]:,} pixels" for k in levels)
    yield Check("saturated flashes", verdict, float(number.max(initial=0)), 0, rule, details=details[:40])


def _times(scene: Scene) -> Iterator[Check]:
    """Judge when the light comes: far from the other pixels, or from the sample at which it is measured."""
    if not scene.has("timing/pixels"):
        return
    time = scene.column("timing/pixels", "time")
    usable = np.isfinite(time) & ~scene.flagged & ~scene.flags["unlit"] & scene.lit
    module = scene.context.channels.column("module")
    if usable.sum() < 20:
        rule = f"{int(usable.sum())} pixels have a time of the light, 20 are needed to judge it"
        yield Check("arrival times", "no-statistics", int(usable.sum()), 20, rule)
        return
    middle, spread = float(np.median(time[usable])), robust_spread(time[usable])
    far = usable & (np.abs(np.nan_to_num(time) - middle) > max(_FAR * spread, _LATE))
    rule = (
        f"light comes at {middle:.2f} ns with a spread of {spread:.2f} ns; {int(far.sum())} of {int(usable.sum()):,} pixels are more than "
        f"{max(_FAR * spread, _LATE):.1f} ns from that"
    )
    details = pixel_names(far, module, lambda pixel: f"{time[pixel]:.1f} ns")
    yield Check("arrival times", "warn" if far.any() else "ok", int(far.sum()), 0, rule, details=details)
    light = scene.light_parameters
    if light.extractor not in ("fixed_max", "integration") or (
        light.extractor == "integration" and light.search
    ):
        return
    sample = scene.context.channels.column("light_sample")
    away = np.abs(SAMPLE_PERIOD * sample - np.nan_to_num(time))
    missed = usable & (sample >= 0) & (away > SAMPLE_PERIOD)
    number = int(missed.sum())
    verdict: Verdict = "bad" if number > 0.1 * usable.sum() else "warn" if number else "ok"
    rule = f"{number} of {int(usable.sum()):,} pixels are measured more than a sample ({SAMPLE_PERIOD:g} ns) beside the maximum of the pulse"
    details = pixel_names(
        missed,
        module,
        lambda pixel: f"at {SAMPLE_PERIOD * sample[pixel]:.0f} ns, light at {time[pixel]:.1f} ns",
    )
    yield Check("sample of the light", verdict, number, 0, rule, details=details)
