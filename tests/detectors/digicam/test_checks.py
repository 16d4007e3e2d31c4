"""Checks of the camera: each fires where its fault is, with the right number and pixels, and nowhere else."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from firstlight.data.cube import HistogramCube
from firstlight.data.schema import Block
from firstlight.detectors.digicam import calibration
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.checks import checks, summary
from firstlight.detectors.digicam.light_source import lit_pixels
from firstlight.detectors.digicam.options import GainParameters, LightParameters
from firstlight.detectors.digicam.pulse import PulseTemplate
from firstlight.detectors.digicam.scene import REMARKS, Scene, outlier_cuts, pixel_names, whole_modules
from firstlight.detectors.digicam.simulation.truth import Fault
from firstlight.run.finishing import Products

if "digicam_fake_run" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "digicam_fake_run", Path(__file__).with_name("fake_run.py")
    )
    sys.modules["digicam_fake_run"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["digicam_fake_run"])
fake_run = sys.modules["digicam_fake_run"]
changed, dead, judged, make_run = fake_run.changed, fake_run.dead, fake_run.judged, fake_run.make_run

PIXEL = np.arange(N_PIXELS)
TYPICAL = 700


def of(*pixels):
    return np.isin(PIXEL, pixels)


@pytest.fixture(scope="module")
def run():
    return make_run()


@pytest.fixture(scope="module")
def flashes():
    """A scan of flashes alone: without samples flags are quick."""
    return make_run(("led",))


@pytest.fixture(scope="module")
def dark_run():
    return make_run(("dark",))


@pytest.fixture(scope="module")
def sector():
    """Flashes of the light source of 2016 before sector 1."""
    return make_run(("led",), context=fake_run.context_of(sector=1))


def found(products, context, name, subject=""):
    """Return the one check of a name and subject."""
    same = [check for check in checks(products, context) if (check.name, check.subject) == (name, subject)]
    assert len(same) == 1, [(check.name, check.subject) for check in checks(products, context)]
    assert "nan" not in same[0].rule.split()
    assert "None" not in same[0].rule
    return same[0]


def fired(products, context):
    return {(check.name, check.subject) for check in checks(products, context) if check.verdict != "ok"}


# -- what is judged ------------------------------------------------------------------------------------------------


def test_a_run_without_faults_has_none(run):
    all_checks = checks(*run)
    assert {check.verdict for check in all_checks} == {"ok"}
    names = [(check.name, check.subject) for check in all_checks]
    assert len(set(names)) == len(names) == 37
    assert all(math.isfinite(check.value) and math.isfinite(check.limit) for check in all_checks)
    assert all(not check.details for check in all_checks)


@pytest.mark.parametrize(
    ("kinds", "wanted", "left_out"),
    [
        (("hv_off",), {("statistics", "HV off"), ("dead pixels", ""), ("goodness of fit", "HV off")},
         {("spread of the gain", ""), ("unlit pixels", ""), ("pixels without pulses", ""), ("baseline of HV off and dark", "")}),
        (("dark",), {("pixels without pulses", ""), ("dark rate of the camera", ""), ("goodness of fit", "pulses in the dark")},
         {("unlit pixels", ""), ("dark counts in the light", ""), ("gain of dark run and flashes", "")}),
        (("led",), {("dark counts in the light", ""), ("unlit pixels", ""), ("sample of the light", "")},
         {("dead pixels", ""), ("missing modules", ""), ("pixels without pulses", ""), ("dark rate of the camera", "")}),
        (("dc",), {("statistics", "continuous light"), ("continuous light rises with the level", "")},
         {("dead pixels", ""), ("noisy pixels", ""), ("outliers", "")}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) and isinstance(value[0], str) else None,
)  # fmt: skip
def test_what_a_run_does_not_have_is_not_judged(kinds, wanted, left_out):
    products, context = make_run(kinds)
    names = {(check.name, check.subject) for check in checks(products, context)}
    assert wanted <= names
    assert not left_out & names
    assert fired(products, context) == ({("dark counts in the light", "")} if kinds == ("led",) else set())


def test_nothing_gives_no_judgement():
    assert checks({}, fake_run.context_of()) == []
    assert summary({}, fake_run.context_of()) == []


def test_remarks_and_cuts_are_those_of_the_calibration(run):
    assert set(REMARKS) == set(calibration.FLAGS) - set(calibration._FATAL)
    rng = np.random.default_rng(3)
    for values in (
        rng.normal(5, 0.3, N_PIXELS),
        np.full(N_PIXELS, 2.0),
        np.where(PIXEL < 15, 1.0, np.nan),
        np.where(PIXEL < 30, rng.standard_cauchy(N_PIXELS), np.nan),
    ):
        low, high = outlier_cuts(values, 6.0)
        np.testing.assert_array_equal((values < low) | (values > high), calibration.outliers(values, 6.0))


def test_names_of_pixels_stand_for_whole_modules(run):
    module = run[1].channels.column("module")
    where = (module == 7) | of(3, 1200)
    assert whole_modules(where, module) == [7]
    assert pixel_names(where, module, lambda pixel: f"{pixel} LSB") == (
        "module 7 (all 12 pixels)", "pixel 3: 3 LSB", "pixel 1200: 1200 LSB",
    )  # fmt: skip
    assert len(pixel_names(np.ones(N_PIXELS, dtype=bool) & (module > 1), module, most=5)) == 5


# -- data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "subject", "number", "verdict"),
    [
        ("hv_off", "HV off", 99, "warn"),
        ("hv_off", "HV off", 19, "no-statistics"),
        ("dark", "dark", 999, "warn"),
        ("dark", "dark", 199, "no-statistics"),
        ("dark", "dark", 1000, "ok"),
    ],
)
def test_few_events(run, kind, subject, number, verdict):
    products, context = run
    few = changed(
        products, "events/files", (products["events/files"].frame["kind"] == kind).to_numpy(), n_events=number
    )
    check = found(few, context, "statistics", subject)
    assert (check.verdict, check.value) == (verdict, number)


def test_the_level_with_fewest_events_counts(run):
    products, context = run
    few = changed(products, "light/levels", fake_run.LEVEL == 240, n_events=900)
    assert found(few, context, "statistics", "flashes").value == 900
    assert "240 DAC" in found(few, context, "statistics", "flashes").rule
    uneven = found(few, context, "levels of the scan", "flashes")
    assert (uneven.verdict, uneven.details) == ("warn", ("240 DAC: 900 events",))
    none = changed(products, "light/levels", fake_run.LEVEL == 240, n_events=99)
    assert found(none, context, "statistics", "flashes").verdict == "no-statistics"


@pytest.mark.parametrize(("missing", "verdict"), [(15, "ok"), (20, "warn"), (1000, "bad")])
def test_missing_event_numbers(run, missing, verdict):
    products, context = run
    where = (products["events/files"].frame["kind"] == "dark").to_numpy()
    lossy = changed(products, "events/files", where, n_missing=missing)
    check = found(lossy, context, "missing events")
    assert check.verdict == verdict
    assert check.value == pytest.approx(missing / (16_000 + missing))
    assert check.details == (f"dark_None.fits.fz: {missing:,} of {2000 + missing:,}",)


def test_missing_numbers_say_nothing_after_a_selection(run):
    lossy = changed(run[0], "events/files", n_missing=1000)
    check = found(lossy, fake_run.context_of(cut=True), "missing events")
    assert check.verdict == "no-statistics"


def test_empty_files_and_triggered_events(run):
    products, context = run
    empty = changed(products, "events/files", (products["events/files"].frame["level"] == 180).fill_null(False).to_numpy(), n_events=0, n_clocked=0)  # fmt: skip
    check = found(empty, context, "empty files")
    assert (check.verdict, check.details) == ("warn", ("led_180.0.fits.fz",))
    mixed = changed(
        products,
        "events/files",
        (products["events/files"].frame["kind"] == "dark").to_numpy(),
        n_clocked=1900,
    )
    check = found(mixed, context, "triggered events")
    assert check.verdict == "warn"
    assert check.value == pytest.approx(100 / 16_000)
    # types that are not known in any event are no triggers
    unknown = changed(products, "events/files", n_clocked=0)
    assert "triggered events" not in {check.name for check in checks(unknown, context)}


def test_levels_that_were_asked_for_and_events_after_the_last(run):
    products, _ = run
    context = fake_run.context_of(scan_levels=(0, 180, 200, 240, 300, 420))
    check = found(products, context, "levels of the scan", "flashes")
    assert (check.verdict, check.value, check.details) == ("warn", 1, ("200 DAC: no event",))
    after = changed(products, "light/levels", fake_run.LEVEL == 420, n_after=500)
    check = found(after, fake_run.context_of(), "levels of the scan", "flashes")
    assert check.verdict == "warn"
    assert "500 events come after the last level" in check.rule


# -- pixels --------------------------------------------------------------------------------------------------------


def test_dead_pixels_and_a_missing_module_are_told_apart(run):
    products, context = run
    module = context.channels.column("module")
    broken = judged(dead(products, (module == 33) | of(31, 529)), context)
    check = found(broken, context, "missing modules")
    assert (check.verdict, check.value, check.details) == ("bad", 1, ("module 33 (sector 1)",))
    check = found(broken, context, "dead pixels")
    assert (check.verdict, check.value, check.details) == ("warn", 2, ("pixel 31", "pixel 529"))
    assert fired(broken, context) == {("missing modules", ""), ("dead pixels", "")}
    # eleven of twelve: pixels, not a module
    eleven = np.flatnonzero(module == 33)[:11]
    check = found(judged(dead(products, of(*eleven)), context), context, "dead pixels")
    assert (check.verdict, check.value) == ("warn", 11)
    many = judged(dead(products, of(*range(0, 280, 20))), context)
    assert found(many, context, "dead pixels").verdict == "bad"


def test_saturated_pixels(run):
    products, context = run
    cube = products["samples/dark"]
    counts = cube.counts.copy()
    counts[TYPICAL, -1] = 3
    bad = judged({**products, "samples/dark": HistogramCube(cube.axes, counts)}, context)
    check = found(bad, context, "saturated pixels")
    assert (check.verdict, check.details) == ("warn", (f"pixel {TYPICAL}",))


def test_noisy_and_silent_pixels_and_few_entries(run):
    products, context = run
    noisy = judged(changed(products, "hv_off/pixels", of(97), electronics_noise=4.0), context)
    check = found(noisy, context, "noisy pixels")
    assert (check.verdict, check.details) == ("warn", ("pixel 97: 4.00 LSB",))
    silent = judged(fake_run.silent(products, of(486)), context)
    check = found(silent, context, "pixels without pulses")
    assert (check.verdict, check.details) == ("warn", ("pixel 486",))
    few = judged(changed(products, "dark/pixels", of(5), status="no_data"), context)
    assert found(few, context, "pixels with few entries").details == ("pixel 5",)


def test_few_pulses_do_not_tell_silent_pixels(dark_run):
    products, context = dark_run
    few = changed(products, "pulses/pixels", n_pulses=calibration._ENOUGH_PULSES - 1)
    assert found(judged(few, context), context, "pixels without pulses").verdict == "no-statistics"
    enough = changed(products, "pulses/pixels", n_pulses=calibration._ENOUGH_PULSES)
    assert found(judged(enough, context), context, "pixels without pulses").verdict == "ok"


def test_outliers_name_the_quantity(flashes):
    products, context = flashes
    odd = judged(changed(products, "gain/pixels", of(TYPICAL), gain=7.0, crosstalk=0.3), context)
    check = found(odd, context, "outliers")
    assert (check.verdict, check.value) == ("warn", 1)
    assert check.details == (f"pixel {TYPICAL}: gain 7, crosstalk 0.3",)


def test_more_than_a_hundredth_of_the_pixels_is_bad(dark_run):
    products, context = dark_run
    verdicts = [
        found(judged(fake_run.silent(products, n > PIXEL), context), context, "pixels without pulses").verdict
        for n in (1, 12, 13)
    ]  # fmt: skip
    assert verdicts == ["warn", "warn", "bad"]


# -- fits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ["hv_off", "dark", "gain"])
def test_fits_that_did_not_converge(run, product):
    products, context = run
    subject = {"hv_off": "HV off", "dark": "dark", "gain": "flashes, levels together"}[product]
    open_ = judged(changed(products, f"{product}/pixels", of(8), status="max_iter"), context)
    check = found(open_, context, "convergence", subject)
    assert (check.verdict, check.value, check.details) == ("warn", 1, ("pixel 8: max iter",))
    bound = judged(changed(products, f"{product}/pixels", of(8), status="at_bound"), context)
    check = found(bound, context, "convergence", subject)
    assert check.verdict == "ok"
    assert "1 ended at the limit" in check.rule
    many = judged(changed(products, f"{product}/pixels", PIXEL < 70, status="failed"), context)
    assert found(many, context, "convergence", subject).verdict == "bad"


def test_a_dead_pixel_has_no_fit_that_could_fail(run):
    products, context = run
    broken = judged(dead(products, of(31)), context)
    assert found(broken, context, "convergence", "dark").verdict == "ok"


@pytest.mark.parametrize(("share", "verdict"), [(0.03, "ok"), (0.12, "warn"), (0.6, "bad")])
@pytest.mark.parametrize(
    ("product", "subject"),
    [("hv_off/pixels", "HV off"), ("dark/pixels", "dark"), ("gain/pixels", "flashes, levels together")],
)
def test_models_that_do_not_describe_the_data(run, product, subject, share, verdict):
    products, context = run
    rng = np.random.default_rng(5)
    p_value = np.where(rng.random(N_PIXELS) < share, 1e-4, rng.uniform(0.01, 1, N_PIXELS))
    check = found(
        judged(changed(products, product, p_value=p_value), context), context, "goodness of fit", subject
    )
    assert check.verdict == verdict
    assert check.value == pytest.approx(np.mean(p_value < 0.01))
    assert len(check.details) == (0 if verdict == "ok" else 20)


def test_too_few_p_values_are_not_judged_and_levels_are_named(run):
    products, context = run
    p_value = np.where(PIXEL < 19, 1e-9, np.nan)
    check = found(changed(products, "dark/pixels", p_value=p_value), context, "goodness of fit", "dark")
    assert (check.verdict, check.value) == ("no-statistics", 19)
    rows = (products["levels/light"].frame["level"] == 300).to_numpy()
    light = changed(products, "levels/light", rows, p_value=1e-7)
    check = found(light, context, "goodness of fit", "flashes, single levels")
    assert check.verdict == "warn"
    assert all("at 300 DAC: p 1e-07" in text for text in check.details)


# -- camera --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spread", "verdict"), [(0.056, "ok"), (0.14, "warn"), (0.28, "bad")])
def test_spread_of_the_gain(flashes, spread, verdict):
    products, context = flashes
    gain = 5.15 * (1 + spread * np.random.default_rng(7).standard_normal(N_PIXELS).clip(-3, 3))
    check = found(judged(changed(products, "gain/pixels", gain=gain), context), context, "spread of the gain")
    assert check.verdict == verdict
    # a robust width of 1296 values is known to 1.17 / sqrt(2 n)
    assert check.value == pytest.approx(spread, rel=5 * 1.17 / math.sqrt(2 * N_PIXELS))


@pytest.mark.parametrize(
    ("column", "name", "value", "verdict"),
    [
        ("gain", "gain of the camera", 8.0, "warn"), ("gain", "gain of the camera", 1.0, "bad"),
        ("crosstalk", "crosstalk of the camera", 0.3, "warn"), ("crosstalk", "crosstalk of the camera", 0.6, "bad"),
        ("crosstalk", "crosstalk of the camera", 0.01, "warn"),
    ],
)  # fmt: skip
def test_medians_of_the_camera(flashes, column, name, value, verdict):
    products, context = flashes
    spread = 0.001 * np.random.default_rng(8).standard_normal(N_PIXELS)
    check = found(
        judged(changed(products, "gain/pixels", **{column: value + spread}), context), context, name
    )
    assert check.verdict == verdict


@pytest.mark.parametrize(
    ("rate", "verdict"), [(0.2, "warn"), (15.0, "warn"), (500.0, "bad"), (0.01, "bad"), (6.0, "ok")]
)
def test_dark_rate_of_the_camera(dark_run, rate, verdict):
    products, context = dark_run
    values = rate * (1 + 0.1 * np.random.default_rng(8).standard_normal(N_PIXELS).clip(-3, 3))
    check = found(
        judged(changed(products, "dark/pixels", rate=values), context), context, "dark rate of the camera"
    )
    assert check.verdict == verdict
    assert "MHz" in check.rule


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "ok"), (1.06, "warn"), (0.8, "bad")])
def test_gain_of_dark_run_and_flashes(run, factor, verdict):
    products, context = run
    gain = products["dark/pixels"].frame["gain"].to_numpy() * factor
    moved = judged(changed(products, "dark/pixels", gain=gain), context)
    check = found(moved, context, "gain of dark run and flashes")
    assert check.verdict == verdict
    # the sample is 1.1 ns after the maximum of the pulse: flashes are measured at less than the height
    seen = PulseTemplate.default().at(56 - fake_run.TIME + PulseTemplate.default().peak_time)
    assert check.value == pytest.approx(1 / (seen * factor) - 1, abs=0.003)


def test_one_pixel_whose_gains_differ(run):
    products, context = run
    moved = judged(changed(products, "dark/pixels", of(40), gain=6.1), context)
    check = found(moved, context, "gain of dark run and flashes")
    assert check.verdict == "warn"
    assert len(check.details) == 1
    assert check.details[0].startswith("pixel 40: ")


@pytest.mark.parametrize(("shift", "verdict"), [(0.05, "ok"), (0.2, "warn"), (-2.0, "bad")])
def test_baselines_of_hv_off_and_dark(run, shift, verdict):
    products, context = run
    baseline = products["hv_off/pixels"].frame["baseline"].to_numpy() - shift
    check = found(
        judged(changed(products, "hv_off/pixels", baseline=baseline), context),
        context,
        "baseline of HV off and dark",
    )
    assert check.verdict == verdict
    # errors of 1296 medians of some 0.02 LSB
    assert check.value == pytest.approx(shift, abs=0.004)
    made = 2.75e-3 * 5.15 * PulseTemplate.default().integral() / (1 - 0.095)
    assert f"dark counts make {made:.2f}" in check.rule


def test_one_pixel_whose_baseline_moved(run):
    products, context = run
    baseline = products["hv_off/pixels"].frame["baseline"].to_numpy() - np.where(of(12), 3.0, 0.0)
    check = found(
        judged(changed(products, "hv_off/pixels", baseline=baseline), context),
        context,
        "baseline of HV off and dark",
    )
    assert check.verdict == "warn"
    assert len(check.details) == 1
    name, value, _ = check.details[0].split()[1:]
    assert name == "12:"
    assert float(value) == pytest.approx(3, abs=0.03)


# -- light ---------------------------------------------------------------------------------------------------------


def test_dark_counts_left_out_of_the_light_say_by_how_much(run):
    products, context = make_run(dark_inside=False)
    check = found(products, context, "dark counts in the light")
    rate = np.median(products["dark/pixels"].frame["rate"].to_numpy())
    assert check.verdict == "warn"
    assert check.value == pytest.approx(1e-3 * rate * 17.97, rel=2e-3)
    assert f"{check.value:.1%} at 1 p.e." in check.rule
    inside = found(*run, "dark counts in the light")
    assert (inside.verdict, inside.value) == ("ok", 0)


def test_dark_counts_in_a_window_of_samples():
    light = LightParameters(extractor="integration", search=0)
    products, _ = make_run(("led",))
    context = fake_run.context_of(light=light, gain=GainParameters(dark_rate="none"))
    check = found(products, context, "dark counts in the light")
    # dark counts reach into the window for 7 samples longer than into one, over the largest charge of a pulse
    pulse = PulseTemplate.default()
    start = np.arange(0.0, 60.0, 0.1)
    window = sum(pulse.at(start + 4.0 * k) for k in range(7)).max()
    assert check.value == pytest.approx(2.75e-3 * 7 * pulse.integral() / window, rel=1e-3)


def test_unlit_pixels(flashes, sector):
    products, context = flashes
    rows = (products["levels/light"].frame["channel"] == TYPICAL).to_numpy()
    unlit = judged(changed(products, "levels/light", rows, photo_electrons=0.0), context)
    check = found(unlit, context, "unlit pixels")
    assert (check.verdict, check.value, check.details) == ("warn", 1, (f"pixel {TYPICAL}",))
    module = context.channels.column("module")
    channel = products["levels/light"].frame["channel"].to_numpy()
    dark = judged(changed(products, "levels/light", np.isin(channel, np.flatnonzero(np.isin(module, (4, 9)))), photo_electrons=0.0), context)  # fmt: skip
    check = found(dark, context, "unlit pixels")
    assert (check.verdict, check.value) == ("bad", 24)
    assert check.details == ("module 4 (all 12 pixels)", "module 9 (all 12 pixels)")
    off = judged(changed(products, "levels/light", photo_electrons=0.0), context)
    check = found(off, context, "unlit pixels")
    assert check.verdict == "bad"
    assert "no pixel" in check.rule
    # what the light source does not reach is not unlit
    assert found(*sector, "unlit pixels").verdict == "ok"
    assert f"{lit_pixels(sector=1, version=1).sum()} pixels" in found(*sector, "unlit pixels").rule


def test_a_pixel_whose_light_was_not_fitted_is_judged_by_its_mean_charge(flashes):
    products, context = flashes
    rows = (products["levels/light"].frame["channel"] == TYPICAL).to_numpy()
    failed = changed(products, "levels/light", rows, photo_electrons=None, status="no_data")
    assert found(failed, context, "unlit pixels").verdict == "ok"
    dark = changed(failed, "levels/light", rows, mean=0.25)
    assert found(dark, context, "unlit pixels").details == (f"pixel {TYPICAL}",)


def test_swapped_cables_and_the_wrong_sector(sector):
    products, context = sector
    assert found(products, context, "light beside the light source").verdict == "ok"
    lit = context.channels.column("lit")
    one, other = int(np.flatnonzero(lit)[100]), int(np.flatnonzero(~lit)[100])
    frame = products["levels/light"].frame
    light = frame["photo_electrons"].to_numpy().reshape(N_PIXELS, -1).copy()
    light[[one, other]] = light[[other, one]]
    swapped = judged(changed(products, "levels/light", photo_electrons=light.ravel()), context)
    stray, unlit = (
        found(swapped, context, name) for name in ("light beside the light source", "unlit pixels")
    )
    assert (stray.verdict, stray.details, unlit.details) == ("warn", (f"pixel {other}",), (f"pixel {one}",))
    assert "cables swapped" in stray.rule
    # of two other sectors one sees light, and the innermost boards of all three
    wrong = fake_run.context_of(sector=2)
    turned = judged(products, wrong)
    check = found(turned, wrong, "light beside the light source")
    assert check.verdict == "bad"
    assert "cts_sector" in check.rule
    assert check.value == (lit & ~wrong.channels.column("lit")).sum() == 384
    assert found(turned, wrong, "unlit pixels").value == 384


def test_a_light_source_that_reaches_all_is_no_one_sector_source(flashes):
    context = fake_run.context_of(sector=3)
    check = found(judged(flashes[0], context), context, "light beside the light source")
    assert check.verdict == "bad"
    assert "cts_sector" in check.rule
    assert check.value == (~lit_pixels(sector=3, version=1)).sum()


@pytest.mark.parametrize(("fall", "verdict"), [(0.4, "warn"), (0.02, "ok")])
def test_light_that_falls_with_the_level(flashes, fall, verdict):
    products, context = flashes
    frame = products["levels/light"].frame
    light = frame["photo_electrons"].to_numpy().reshape(N_PIXELS, -1).copy()
    light[TYPICAL, 3] = light[TYPICAL, 2] * (1 - fall)
    moved = changed(products, "levels/light", photo_electrons=light.ravel())
    check = found(judged(moved, context), context, "light rises with the level")
    assert check.verdict == verdict
    assert [text.split(":")[0] for text in check.details] == (
        [f"pixel {TYPICAL}"] if verdict == "warn" else []
    )
    if verdict == "warn":
        assert "at 240 DAC" in check.details[0]
        # beyond the ADC the light is too small anyway
        saturated = (frame["level"] == 300).to_numpy()
        assert (
            found(
                changed(moved, "levels/light", saturated, saturated=0.5),
                context,
                "light rises with the level",
            ).verdict
            == "ok"
        )


def test_continuous_light_that_falls(run):
    products, context = run
    block = products["continuous/moments"]
    values = block.values.copy()
    values[TYPICAL, 3, 0] = values[TYPICAL, 2, 0] - 1.0
    check = found({**products, "continuous/moments": Block(values, block.axes, block.unit, "", block.coordinates)}, context,
                  "continuous light rises with the level")  # fmt: skip
    assert (check.verdict, check.value) == ("warn", 1)
    assert check.details[0].startswith(f"pixel {TYPICAL}: ")


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "ok"), (0.9, "warn")])
def test_gain_under_continuous_light(run, factor, verdict):
    products, context = run
    block = products["continuous/moments"]
    values = block.values.copy()
    noise = fake_run.TRUTH["electronics_noise"] ** 2 + 1 / 12
    values[:, :, 2] = noise + factor * (values[:, :, 2] - noise)
    moved = {**products, "continuous/moments": Block(values, block.axes, block.unit, "", block.coordinates)}
    check = found(moved, context, "gain under continuous light")
    assert check.verdict == verdict
    # the calibration has gains 1.3 % larger: the sample stands beside the maximum
    assert check.value == pytest.approx(factor / 1.013 - 1, abs=0.01)
    rest = {name: product for name, product in moved.items() if not name.startswith("dc/")}
    assert "gain under continuous light" not in {check.name for check in checks(rest, context)}


def test_saturated_flashes(flashes):
    products, context = flashes
    frame = products["levels/light"].frame
    rows = ((frame["level"] >= 300) & (frame["channel"] < 40)).to_numpy()
    check = found(changed(products, "levels/light", rows, saturated=0.05), context, "saturated flashes")
    assert (check.verdict, check.value) == ("warn", 40)
    assert check.details == ("300 DAC: 40 pixels", "420 DAC: 40 pixels")


def test_late_pixels_and_the_sample_of_the_light(flashes):
    products, context = flashes
    late = judged(changed(products, "timing/pixels", of(TYPICAL), time=fake_run.TIME + 2.3), context)
    check = found(late, context, "arrival times")
    assert (check.verdict, check.details) == ("warn", (f"pixel {TYPICAL}: 57.2 ns",))
    # 1.2 ns from the sample at 56 ns
    assert found(late, context, "sample of the light").verdict == "ok"
    beside = judged(changed(products, "timing/pixels", of(TYPICAL), time=61.0), context)
    check = found(beside, context, "sample of the light")
    assert (check.verdict, check.details) == ("warn", (f"pixel {TYPICAL}: at 56 ns, light at 61.0 ns",))
    all_beside = products["timing/pixels"].frame["time"].to_numpy() + 6.0
    assert (
        found(
            judged(changed(products, "timing/pixels", time=all_beside), context),
            context,
            "sample of the light",
        ).verdict
        == "bad"
    )
    few = changed(products, "timing/pixels", PIXEL > 10, time=None)
    assert found(judged(few, context), context, "arrival times").verdict == "no-statistics"
    # where the highest sample is taken, there is no one to be beside of
    free = fake_run.context_of(light=LightParameters(extractor="local_max"))
    assert "sample of the light" not in {check.name for check in checks(beside, free)}


# -- headline numbers ----------------------------------------------------------------------------------------------


def test_headline_numbers(run):
    products, context = run
    rows = {row["label"]: row for row in summary(products, context)}
    assert rows["good pixels"] == {"label": "good pixels", "value": 1296, "unit": "of 1,296"}
    assert rows["gain, median"]["value"] == pytest.approx(5.15, abs=0.005)
    assert rows["gain, median"]["unit"].startswith("LSB/p.e.")
    assert rows["crosstalk, median"]["value"] == pytest.approx(0.095, abs=0.002)
    assert rows["dark rate, median"]["value"] == pytest.approx(2.75, abs=0.02)
    assert "MHz" in rows["dark rate, median"]["unit"]
    assert rows["electronics noise, median"]["value"] == pytest.approx(0.96, abs=0.001)
    assert rows["baseline, median"]["value"] == pytest.approx(284.25, abs=0.01)
    assert rows["arrival time, spread"]["value"] == pytest.approx(0.3, abs=0.03)
    assert rows["brightest level, median"]["value"] == pytest.approx(22, rel=0.02)
    assert rows["events"]["value"] == 16_000


def test_a_one_sector_run_tells_of_lit_pixels_only():
    """What a fit of flashes says of pixels without light does not move the medians of the camera."""
    context = fake_run.context_of(sector=1)
    products, _ = make_run(("led",), context=context)
    unlit = ~context.channels.column("lit")
    wide = 4.6 + 0.4 * np.random.default_rng(2).standard_normal(N_PIXELS).clip(-3, 3)
    odd = judged(changed(products, "gain/pixels", unlit, gain=wide), context)
    rows = {row["label"]: row["value"] for row in summary(odd, context)}
    assert rows["gain, median"] == pytest.approx(5.15, abs=0.01)
    assert found(odd, context, "gain of the camera").verdict == "ok"
    assert f"{int((~unlit).sum())} good pixels" in found(odd, context, "spread of the gain").rule


def test_light_of_good_pixels_only_makes_the_typical_one(run):
    products, context = run
    scene = Scene(products, context)
    np.testing.assert_allclose(scene.typical_light, fake_run.LIGHT_OF, rtol=0.03, atol=0.01)
    # at 3 p.e., that nearest to 2
    assert scene.levels[scene.level_shown] == 300
    assert np.nanmedian(scene.relative_light) == pytest.approx(1, abs=0.01)


# -- a simulated campaign ------------------------------------------------------------------------------------------


def test_planted_faults_of_a_campaign_are_found(campaign):
    from firstlight.detector import get_detector
    from firstlight.run.finished import context_of

    truth, run = campaign.truth, campaign.run
    context = context_of(run, get_detector("digicam"))
    by_name = {(check.name, check.subject): check for check in checks(Products(run), context)}
    module = context.channels.column("module")

    def numbers(name):
        return {
            int(text.split(":")[0].split()[1])
            for text in by_name[name, ""].details
            if text.startswith("pixel")
        }

    missing = sorted(set(module[truth.fault == int(Fault.MISSING)].tolist()))
    assert [text.split()[1] for text in by_name["missing modules", ""].details] == [
        str(number) for number in missing
    ]
    constant = np.isin(truth.fault, [int(Fault.DEAD), int(Fault.SATURATED)])
    assert numbers("dead pixels") == set(np.flatnonzero(constant).tolist())
    assert numbers("noisy pixels") == set(np.flatnonzero(truth.fault == int(Fault.NOISY)).tolist())
    assert numbers("pixels without pulses") == set(
        np.flatnonzero(truth.fault == int(Fault.NO_VOLTAGE)).tolist()
    )
    assert numbers("saturated pixels") >= set(np.flatnonzero(truth.fault == int(Fault.SATURATED)).tolist())
    for name in (
        "gain of the camera", "crosstalk of the camera", "dark rate of the camera", "dark counts in the light",
        "spread of the gain", "missing events", "light rises with the level", "continuous light rises with the level",
    ):  # fmt: skip
        assert by_name[name, ""].verdict == "ok", by_name[name, ""].rule
    # medians of 1,274 pixels whose gains are known to 2 % in the dark
    assert abs(by_name["gain of dark run and flashes", ""].value) < 0.01
    assert abs(by_name["baseline of HV off and dark", ""].value) < 0.01
