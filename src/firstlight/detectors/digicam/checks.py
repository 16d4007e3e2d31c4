"""The headline numbers and the checks of a DigiCam run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.checks_light import light_checks
from firstlight.detectors.digicam.options import CalibrationParameters, DarkParameters
from firstlight.detectors.digicam.scene import Scene, column, pixel_names
from firstlight.steps.spread import robust_spread
from firstlight.steps.step import Check, Context, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["FITS", "checks", "summary"]

_KINDS = {
    "hv_off": "HV off",
    "dark": "dark",
    "led": "flashes",
    "dc": "continuous light",
    "sky": "triggered events",
}
# events for nothing at all, and for a number that is good enough, with what it is good for
_ENOUGH = {
    "hv_off": (20, 100, "tell the baseline of a pixel to 0.02 LSB"),
    "dark": (200, 1000, "tell the gain of a pixel in the dark to 1 %"),
    "led": (100, 1000, "tell 1 p.e. of a level to 4 %"),
    "dc": (5, 50, "tell the mean of a pixel to 0.1 LSB under 100 MHz"),
}
_MISSING = (1e-3, 0.05)  # of the event numbers
_UNEVEN = 0.5  # of the median number of events of a level
_TRIGGERED = 1e-3
_MANY = 0.01  # of the pixels
_PULSES = 20  # of a typical pixel
_SMALL_P = 0.01
FITS = {
    "hv_off/pixels": ("HV off", 0.05),
    "dark/pixels": ("dark", 0.05),
    "spe/pixels": ("pulses in the dark", 0.2),
    "gain/pixels": ("flashes, levels together", 0.05),
    "levels/light": ("flashes, single levels", 0.05),
}
"""Tables of fits with p-values: what they are called, and which share of small p-values is too many."""
_HOPELESS = 0.5
_SPREAD = (0.10, 0.20)
# median of the camera: name, words, unit, range that is usual, range that nothing explains
_USUAL = (
    ("peak_gain", "gain", "LSB/p.e.", (4.0, 7.0), (2.0, 15.0)),
    ("crosstalk", "crosstalk", "avalanches that an avalanche starts", (0.03, 0.20), (0.005, 0.40)),
    ("dark_rate", "dark rate", "MHz", (0.5, 8.0), (0.05, 100.0)),
)
_AGREE = (0.03, 0.15)
_BASELINE = (0.1, 1.0)  # LSB
_FEW = 20  # pixels for a median


def summary(products: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """Return the headline numbers of a run."""
    scene = Scene(products, context)
    rows: list[dict[str, Any]] = []
    if scene.has("calibration/pixels"):
        good = int(np.count_nonzero(~scene.flagged))
        rows.append({"label": "good pixels", "value": good, "unit": f"of {N_PIXELS:,}"})
        rows += _medians(scene)
    if scene.levels.size:
        rows += _light_numbers(scene)
    if scene.has("events/files"):
        frame = scene.frame("events/files")
        rows.append(
            {
                "label": "events",
                "value": int(frame["n_events"].sum()),
                "unit": f"in {frame.height} file{'s' if frame.height > 1 else ''}",
            }
        )
    return rows


def _medians(scene: Scene) -> Iterator[dict[str, Any]]:
    asked = (
        ("gain", "gain", "LSB/p.e.", 3), ("crosstalk", "crosstalk", "", 4),
        ("dark_rate", "dark rate", "MHz", 3), ("electronics_noise", "electronics noise", "LSB", 4),
        ("baseline", "baseline", "LSB", 2),
    )  # fmt: skip
    for name, words, unit, digits in asked:
        known = scene.column("calibration/pixels", name)[scene.telling(name)]
        if known.size:
            middle, spread = float(np.median(known)), robust_spread(known)
            told = (
                f"spread {spread:.2g}"
                if name == "baseline" or not middle
                else f"spread {abs(spread / middle):.1%}"
            )
            yield {
                "label": f"{words}, median",
                "value": round(middle, digits),
                "unit": f"{unit}, {told}".lstrip(", "),
            }
    time = scene.column("calibration/pixels", "time")[~scene.flagged & ~scene.flags["unlit"]]
    time = time[np.isfinite(time)]
    if time.size > 1:
        yield {"label": "arrival time, spread", "value": round(robust_spread(time), 3), "unit": "ns"}


def _light_numbers(scene: Scene) -> Iterator[dict[str, Any]]:
    relative = scene.relative_light[scene.usable_light]
    relative = relative[np.isfinite(relative)]
    if relative.size > 1:
        yield {
            "label": "relative light yield, spread",
            "value": round(100 * robust_spread(relative), 1),
            "unit": "%",
        }
    typical = scene.typical_light
    if np.isfinite(typical).any():
        top = int(np.nanargmax(typical))
        unit = f"p.e. at {scene.levels[top]:g} DAC"
        yield {"label": "brightest level, median", "value": round(float(typical[top]), 2), "unit": unit}


def checks(products: Mapping[str, Any], context: Context) -> list[Check]:
    """Return the judgements on a run: data, pixels, fits, camera, light."""
    scene = Scene(products, context)
    parts: tuple[Callable[[Scene], Iterator[Check]], ...] = (
        _events, _files, _levels, _pixels, _convergence, _fits, _camera, _agreement, _baselines, light_checks,
    )  # fmt: skip
    return [check for part in parts for check in part(scene)]


def _grade(value: float, limits: tuple[float, float]) -> Verdict:
    return "bad" if value > limits[1] else "warn" if value > limits[0] else "ok"


# -- data ----------------------------------------------------------------------------------------------------------


def _events(scene: Scene) -> Iterator[Check]:
    """Judge how much there is of each kind of run; of a scan the level with the fewest events counts."""
    if not scene.has("events/files"):
        return
    totals = dict(scene.frame("events/files").group_by("kind").agg(pl.col("n_events").sum()).iter_rows())
    for kind, (least, enough, what) in _ENOUGH.items():
        if kind not in totals:
            continue
        number, where = int(totals[kind]), ""
        product = {"led": "light/levels", "dc": "continuous/levels"}.get(kind)
        if product is not None and scene.has(product) and scene.frame(product).height:
            row = scene.frame(product).sort("n_events", "level").row(0, named=True)
            number, where = int(row["n_events"]), f" at {row['level']:g} DAC, the level with fewest"
        verdict: Verdict = "no-statistics" if number < least else "warn" if number < enough else "ok"
        rule = f"{number:,} events{where}: {enough:,} {what}"
        yield Check("statistics", verdict, number, enough, rule, _KINDS[kind])


def _files(scene: Scene) -> Iterator[Check]:
    if not scene.has("events/files"):
        return
    frame = scene.frame("events/files")
    missing, present = int(frame["n_missing"].sum()), int(frame["n_events"].sum())
    everything = missing + present
    incomplete = frame.filter(pl.col("n_missing") > 0).sort("n_missing", descending=True)
    details = tuple(
        f"{name}: {lost:,} of {lost + events:,}"
        for name, lost, events in incomplete.select("file", "n_missing", "n_events").iter_rows()
    )
    share = missing / everything if everything else 0.0
    rule = (
        f"{missing:,} of {everything:,} event numbers from the first to the last of their file have no event"
    )
    if scene.context.cut:
        rule += "; events were selected while reading, so that this says nothing"
        yield Check("missing events", "no-statistics", share, _MISSING[0], rule)
    else:
        yield Check("missing events", _grade(share, _MISSING), share, _MISSING[0], rule, details=details[:40])
    empty = frame.filter(pl.col("n_events") == 0)["file"].to_list()
    if empty:
        rule = f"{len(empty)} of {frame.height} files have no event"
        yield Check("empty files", "warn", len(empty), 0, rule, details=tuple(empty[:40]))
    # types may be unknown in all events; then none is said to be of the clock
    clocked = frame.filter((pl.col("n_clocked") > 0) & pl.col("kind").is_in(["hv_off", "dark", "led", "dc"]))
    if clocked.height:
        total = int(clocked["n_events"].sum())
        others = total - int(clocked["n_clocked"].sum())
        rule = f"{others:,} of {total:,} events without a sky are not of the clock (type 8): showers and cosmic light"
        rule += "; --set 'event_types=[8]' leaves them out" if others else ""
        verdict: Verdict = "warn" if others > _TRIGGERED * total else "ok"
        yield Check("triggered events", verdict, others / total, _TRIGGERED, rule)


def _levels(scene: Scene) -> Iterator[Check]:
    """Find levels of a scan without events, with few, and events after the last one."""
    for product, kind in (("light/levels", "led"), ("continuous/levels", "dc")):
        if not scene.has(product) or not scene.frame(product).height:
            continue
        frame = scene.frame(product)
        numbers = frame["n_events"].to_numpy()
        usual, after = float(np.median(numbers)), int(frame["n_after"].sum())
        asked = [float(level) for level in getattr(scene.context.options, "scan_levels", ())]
        lost = [level for level in asked if level not in frame["level"].to_list()]
        few = frame.filter(pl.col("n_events") < _UNEVEN * usual)
        details = [f"{level:g} DAC: no event" for level in lost]
        details += [
            f"{level:g} DAC: {number:,} events"
            for level, number in few.select("level", "n_events").iter_rows()
        ]
        parts = [f"{frame.height} levels of {usual:,.0f} events each"]
        parts += [f"{len(lost)} levels that were asked for have none"] if lost else []
        parts += [f"{few.height} have less than {_UNEVEN:.0%} of that"] if few.height else []
        if after:
            parts.append(
                f"{after:,} events come after the last level: are `scan_levels` and `events_per_level` those of the scan?"
            )
        number = len(lost) + few.height + (after > 0)
        yield Check(
            "levels of the scan",
            "warn" if number else "ok",
            number,
            0,
            ", ".join(parts),
            _KINDS[kind],
            tuple(details[:40]),
        )


# -- pixels --------------------------------------------------------------------------------------------------------


def _pixels(scene: Scene) -> Iterator[Check]:
    """Name the pixels of each flag; modules of which all pixels are dead are named as such, and not counted again."""
    if not scene.has("calibration/pixels"):
        return
    module = scene.context.channels.column("module")
    missing = scene.missing_modules
    samples = scene.has("samples/hv_off") or scene.has("samples/dark")
    if samples:
        rule = f"modules of which no pixel has samples that vary: {len(missing)} of {np.unique(module).size}"
        verdict: Verdict = "bad" if missing else "ok"
        details = tuple(f"module {number} (sector {_sector(scene, number)})" for number in missing)
        yield Check("missing modules", verdict, len(missing), 0, rule, details=details)
        dead = scene.flags["dead"] & ~np.isin(module, missing)
        width = scene.parameters("calibration", CalibrationParameters).dead_width
        text = f"are dead: the width of their samples is below {width:g} LSB"
        yield _flagged(
            scene, "dead pixels", dead, text + (", missing modules not counted" if missing else "")
        )
        yield _flagged(
            scene,
            "saturated pixels",
            scene.flags["saturated"],
            "have samples at the end of the ADC, 4095 LSB",
        )
    noise = scene.column("calibration/pixels", "electronics_noise")
    if np.isfinite(noise).any():
        ratio = scene.parameters("calibration", CalibrationParameters).noisy_ratio
        text = f"are noisy: more than {ratio:g} times the median noise of {np.nanmedian(noise):.3g} LSB"
        yield _flagged(
            scene, "noisy pixels", scene.flags["noisy"], text, lambda pixel: f"{noise[pixel]:.2f} LSB"
        )
    if scene.has("pulses/pixels"):
        yield _silent(scene)
    yield _flagged(
        scene, "pixels with few entries", scene.flags["few_entries"], "have too few entries for a fit"
    )
    limit = scene.parameters("calibration", CalibrationParameters).outlier
    text = f"are more than {limit:g} robust standard deviations from the median in gain, crosstalk, noise or dark rate"
    yield _flagged(scene, "outliers", scene.flags["outlier"], text, lambda pixel: _outlying(scene, pixel))


def _silent(scene: Scene) -> Check:
    pulses = scene.column("pulses/pixels", "n_pulses")[~scene.flags["dead"]]
    usual = float(np.median(pulses)) if pulses.size else 0.0
    if usual < _PULSES:
        rule = (
            f"the median pixel has {usual:.0f} pulses in the dark, {_PULSES} are needed to tell silent ones"
        )
        return Check("pixels without pulses", "no-statistics", usual, _PULSES, rule)
    text = "have no pulses in the dark: is their high voltage on?"
    return _flagged(scene, "pixels without pulses", scene.flags["no_pulses"], text)


def _sector(scene: Scene, module: int) -> int:
    channels = scene.context.channels
    return int(channels.column("sector")[channels.column("module") == module][0])


def _flagged(
    scene: Scene, name: str, where: Mask, text: str, told: Callable[[int], str] | None = None
) -> Check:
    number, limit = int(where.sum()), _MANY * N_PIXELS
    verdict: Verdict = "bad" if number > limit else "warn" if number else "ok"
    details = pixel_names(where, scene.context.channels.column("module"), told)
    return Check(name, verdict, number, limit, f"{number:,} of {N_PIXELS:,} pixels {text}", details=details)


def _outlying(scene: Scene, pixel: int) -> str:
    """Return which values of a pixel are far from those of the others."""
    found = []
    for name in ("gain", "crosstalk", "electronics_noise", "dark_rate"):
        values = scene.column("calibration/pixels", name)
        low, high = scene.cuts(values)
        if values[pixel] < low or values[pixel] > high:
            found.append(f"{name.replace('_', ' ')} {values[pixel]:.3g}")
    return ", ".join(found)


def _convergence(scene: Scene) -> Iterator[Check]:
    """Count the pixels whose fit did not end well, fit by fit; dead and dark pixels have nothing to fit."""
    for product in ("hv_off/pixels", "dark/pixels", "gain/pixels"):
        if not scene.has(product):
            continue
        frame = scene.frame(product)
        status = np.full(N_PIXELS, "no_data", dtype=object)
        status[frame["channel"].to_numpy()] = frame["status"].to_list()
        judged = ~scene.without_fit(product)
        open_ = judged & ~np.isin(status, ("ok", "at_bound", "no_data"))
        bound = int(np.count_nonzero(judged & (status == "at_bound")))
        rule = f"{int(open_.sum())} of {int(judged.sum()):,} fits did not converge, {bound} ended at the limit of a parameter"
        share = open_.sum() / max(judged.sum(), 1)
        verdict: Verdict = _grade(share, (0.0, 0.05)) if judged.any() else "no-statistics"
        words = np.array([str(one).replace("_", " ") for one in status])
        details = pixel_names(open_, scene.context.channels.column("module"), words.item)
        yield Check("convergence", verdict, float(open_.sum()), 0, rule, FITS[product][0], details)


def _fits(scene: Scene) -> Iterator[Check]:
    """Judge whether models describe the data: p-values of right ones are spread evenly."""
    for product, (words, limit) in FITS.items():
        if not scene.has(product):
            continue
        frame = scene.frame(product)
        left_out = scene.without_fit(product) | scene.flags["noisy"]
        channel = frame["channel"].to_numpy()
        p_value = np.where(left_out[channel], np.nan, column(frame, "p_value"))
        known = np.flatnonzero(np.isfinite(p_value))
        if known.size < _FEW:
            rule = f"{known.size} fits have a p-value, {_FEW} are needed to judge them"
            yield Check("goodness of fit", "no-statistics", known.size, _FEW, rule, words)
            continue
        small = known[p_value[known] < _SMALL_P]
        share = small.size / known.size
        # as many by chance as a good model has now and then
        allowed = limit + 3 * float(np.sqrt(limit * (1 - limit) / known.size))
        rule = f"{share:.2%} of {known.size:,} fits have a p-value below {_SMALL_P:g}, {_SMALL_P:.0%} would be even"
        if product in ("hv_off/pixels", "dark/pixels"):
            rule += "; neighbouring samples are not independent, which makes some more"
        elif share > allowed and product in ("gain/pixels", "levels/light") and not scene.dark_counts_inside:
            rule += "; dark counts are left out of these fits"
        worst = small[np.argsort(p_value[small], kind="stable")][:20]
        own_level = frame["level"].to_list() if "level" in frame.columns else None
        details = tuple(
            f"pixel {channel[row]}"
            + (f" at {own_level[row]:g} DAC" if own_level else "")
            + f": p {p_value[row]:.1g}"
            for row in worst
        )
        verdict = _grade(share, (allowed, _HOPELESS))
        yield Check(
            "goodness of fit", verdict, share, allowed, rule, words, details if verdict != "ok" else ()
        )


# -- camera --------------------------------------------------------------------------------------------------------


def _camera(scene: Scene) -> Iterator[Check]:
    """Hold spread of the gain and medians of the camera against what is usual."""
    if not scene.has("calibration/pixels"):
        return
    gain = scene.column("calibration/pixels", "gain")[scene.telling("gain")]
    if gain.size >= _FEW:
        share = robust_spread(gain) / float(np.median(gain))
        rule = f"the gains of {gain.size:,} good pixels differ by {share:.1%} rms, 5.6 % are usual"
        yield Check("spread of the gain", _grade(share, _SPREAD), share, _SPREAD[0], rule)
    for name, words, unit, usual, possible in _USUAL:
        telling = scene.telling("gain" if name == "peak_gain" else name)
        values = scene.column("calibration/pixels", name)[telling]
        values = values[np.isfinite(values)]
        if values.size < _FEW:
            continue
        middle = float(np.median(values))
        low, high = usual
        verdict: Verdict = (
            "ok" if low <= middle <= high else "warn" if possible[0] <= middle <= possible[1] else "bad"
        )
        rule = f"the median {words} of {values.size:,} good pixels is {middle:.3g} {unit}, {low:g} to {high:g} are usual"
        yield Check(f"{words} of the camera", verdict, middle, low if middle < low else high, rule)


def _agreement(scene: Scene) -> Iterator[Check]:
    """Compare the gain of the dark run with that of flashes, both as heights of the pulse."""
    if not scene.has("dark/pixels", "gain/pixels", "calibration/pixels"):
        return
    flash, error = scene.flash_gain
    dark, dark_error = (scene.column("dark/pixels", name) for name in ("gain", "gain_error"))
    usable = ~scene.flagged & ~scene.flags["unlit"] & np.isfinite(flash) & np.isfinite(dark) & (dark > 0)
    if usable.sum() < _FEW:
        rule = f"{int(usable.sum())} pixels have a gain of both, {_FEW} are needed to compare them"
        yield Check("gain of dark run and flashes", "no-statistics", int(usable.sum()), _FEW, rule)
        return
    ratio = np.where(usable, flash / np.where(usable, dark, 1.0), np.nan)
    middle = float(np.nanmedian(ratio))
    with np.errstate(invalid="ignore"):
        pull = (flash - middle * dark) / np.hypot(error, middle * dark_error)
        far = usable & (np.abs(pull) > 6) & (np.abs(ratio / middle - 1) > 0.1)
    rule = (
        f"the gain of flashes, as height of the pulse, is {abs(middle - 1):.1%} {'above' if middle >= 1 else 'below'} that of the dark run "
        f"(median of {int(usable.sum()):,} pixels); {int(far.sum())} pixels differ by more than 10 % and 6 standard errors from that"
    )
    verdict = _grade(abs(middle - 1), _AGREE)
    verdict = "warn" if verdict == "ok" and far.any() else verdict
    details = pixel_names(
        far,
        scene.context.channels.column("module"),
        lambda pixel: f"{flash[pixel]:.2f} and {dark[pixel]:.2f} LSB",
    )
    yield Check(
        "gain of dark run and flashes",
        verdict,
        middle - 1,
        _AGREE[0],
        rule,
        details=details,
    )


def _baselines(scene: Scene) -> Iterator[Check]:
    """Compare the rise of the mean sample from HV off to dark with what dark counts make: f G I1 / (1 - l)."""
    if not scene.has("hv_off/pixels", "dark/pixels", "samples/dark"):
        return
    from firstlight.detectors.digicam.pulse import PulseTemplate

    template = scene.parameters("dark", DarkParameters).template
    pulse = PulseTemplate.read(Path(template)) if template else PulseTemplate.default()
    rate, gain, crosstalk = (scene.column("dark/pixels", name) for name in ("rate", "gain", "crosstalk"))
    cube = scene.products["samples/dark"]
    counts = cube.values
    mean = counts @ cube.axes[1].centers / np.maximum(counts.sum(axis=1), 1)
    rise = mean - scene.column("hv_off/pixels", "baseline")
    expected = pulse.moments(1e-3 * rate, gain, 0.0, crosstalk).mean
    usable = ~scene.flagged & ~scene.flags["saturated"] & np.isfinite(rise) & np.isfinite(expected)
    if usable.sum() < _FEW:
        rule = f"{int(usable.sum())} pixels have a baseline of both, {_FEW} are needed to compare them"
        yield Check("baseline of HV off and dark", "no-statistics", int(usable.sum()), _FEW, rule)
        return
    left = np.where(usable, rise - expected, np.nan)
    middle, spread = float(np.nanmedian(left)), robust_spread(left[usable])
    far = usable & (np.abs(np.nan_to_num(left) - middle) > max(6 * spread, _BASELINE[0]))
    moved, made = (float(np.median(values[usable])) for values in (rise, expected))
    rule = (
        f"samples in the dark are {abs(moved):.3f} LSB {'above' if moved >= 0 else 'below'} those without high voltage, dark counts make "
        f"{made:.3f} LSB (f G I1 / (1 − l)): {abs(middle):.3f} LSB are not explained; {int(far.sum())} pixels differ from that"
    )
    verdict = _grade(abs(middle), _BASELINE)
    verdict = "warn" if verdict == "ok" and far.any() else verdict
    details = pixel_names(
        far, scene.context.channels.column("module"), lambda pixel: f"{left[pixel]:+.2f} LSB"
    )
    yield Check("baseline of HV off and dark", verdict, middle, _BASELINE[0], rule, details=details)
