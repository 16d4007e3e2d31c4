"""Constants of a simulated campaign: truth in time and shape, planted faults named, nothing told that is not known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from digicam_helpers import context_of, go

from firstlight.detectors.digicam.calibration import FLAGS, PIXELS, calibrate, outliers
from firstlight.detectors.digicam.options import CalibrationParameters
from firstlight.detectors.digicam.pulse import PulseTemplate
from firstlight.detectors.digicam.simulation.truth import Fault
from firstlight.detectors.digicam.timing import arrival_times, write_shape


def flags_of(table, fault, truth):
    own = table.filter(pl.Series(truth.fault == int(fault)))
    assert own.height > 0
    return own, [set(filter(None, text.split(","))) for text in own["flags"]]


def test_every_planted_fault_is_named(campaign):
    truth, table = campaign.truth, campaign.run["calibration/pixels"].to_polars()
    for fault, name in (
        (Fault.DEAD, "dead"),
        (Fault.MISSING, "dead"),
        (Fault.NOISY, "noisy"),
        (Fault.NO_VOLTAGE, "no_pulses"),
    ):
        own, flags = flags_of(table, fault, truth)
        assert all(name in found for found in flags), fault
        assert not own["good"].any()
    own, flags = flags_of(table, Fault.SATURATED, truth)
    assert all("saturated" in found for found in flags)
    # who has no pulses has no gain
    own, _ = flags_of(table, Fault.NO_VOLTAGE, truth)
    assert own.select("gain", "crosstalk", "dark_rate").null_count().sum_horizontal()[0] == 3 * own.height
    assert own["baseline"].is_not_null().all()


def test_pixels_without_a_fault_are_good(campaign):
    truth, table = campaign.truth, campaign.run["calibration/pixels"].to_polars()
    sound = table.filter(pl.Series(truth.fault == int(Fault.NONE)))
    # six robust standard deviations: one of 1270 by chance and by the tails of the truth
    assert np.count_nonzero(~sound["good"].to_numpy()) <= 6


def test_flags_are_bits_and_words():
    assert list(FLAGS) == PIXELS.column("flag_bits").description.split(": ")[1].replace(",", "").split()[1::2]


def test_flags_and_bits_say_the_same(campaign):
    table = campaign.run["calibration/pixels"].to_polars()
    bits = {name: 1 << place for place, name in enumerate(FLAGS)}
    expected = [sum(bits[name] for name in filter(None, text.split(","))) for text in table["flags"]]
    assert table["flag_bits"].to_list() == expected


def test_light_arrives_when_it_was_sent(campaign):
    truth, table = campaign.truth, campaign.run["timing/pixels"].to_polars()
    good = (truth.fault == int(Fault.NONE)) & table["time"].is_not_null().to_numpy()
    assert np.count_nonzero(good) > 1250
    # light comes at 40 ns, the pulse is highest 14.7 ns later
    expected = 40.0 + PulseTemplate.default().peak_time + truth.seen("time_offset")
    difference = (table["time"].to_numpy() - expected)[good]
    assert abs(np.median(difference)) < 0.05
    assert np.std(difference) < 0.15
    assert set(table["sample"].to_numpy()[good]) <= {12, 13, 14, 15}


def test_arrival_times_have_the_errors_they_say():
    rng = np.random.default_rng(31)
    shape = PulseTemplate.default()
    n, noise = 800, 0.5
    times = rng.uniform(40, 60, n)
    at = 4.0 * np.arange(50)
    pulses = 20 * shape.at(at - times[:, None] + shape.peak_time) + noise * rng.normal(size=(n, 50))
    found, error, height = arrival_times(pulses, np.full(n, noise), shape)
    pull = (found - times) / error
    assert abs(pull.mean()) < 3.5 / np.sqrt(n)
    assert 0.9 < pull.std() < 1.1
    assert height.mean() == pytest.approx(20, abs=0.05)
    none, _, _ = arrival_times(np.full((1, 50), -1.0), np.ones(1), shape)
    assert np.isnan(none[0])


def test_the_shape_of_the_pulse_comes_back(campaign, tmp_path):
    table = campaign.run["template/shape"].value
    time, amplitude = table.array("time"), table.array("amplitude")
    shape = PulseTemplate.default()
    near = (time > -12) & (time < 30) & (table.array("entries") > 100)
    # light arrives within a nanosecond everywhere: samples four apart leave gaps
    assert np.count_nonzero(near) > 10
    difference = amplitude - shape.at(time + shape.peak_time)
    # light of half a nanosecond's jitter and bins of a nanosecond flatten it a little
    assert np.abs(difference[near]).max() < 0.03
    path = write_shape(table, tmp_path / "shape.txt")
    again = PulseTemplate.read(path)
    assert again.width() == pytest.approx(shape.width(), rel=0.04)


def test_outliers_are_those_far_from_the_camera():
    rng = np.random.default_rng(32)
    values = rng.normal(5, 0.3, 1000)
    values[7], values[9], values[11] = 9.0, np.nan, 1.0
    found = np.flatnonzero(outliers(values, 6.0))
    assert found.tolist() == [7, 11]
    assert not outliers(values[:10], 6.0).any()


def test_nothing_is_calibrated_from_nothing():
    assert calibrate({}, CalibrationParameters(), context_of({"kind": "sky"})) == {}


def test_a_run_without_high_voltage_alone_gives_baseline_and_noise(campaign, tmp_path):
    files = [path for path in campaign.files if path.name.startswith("hv_off")]
    table = go(files, tmp_path / "run")["calibration/pixels"].to_polars()
    truth = campaign.truth
    sound = truth.fault == int(Fault.NONE)
    assert set(table["electronics_noise_from"].to_numpy()[sound]) == {"hv_off"}
    assert table["gain"].null_count() == 1296
    pull = (
        (table["electronics_noise"] - truth.seen("sigma_e")) / table["electronics_noise_error"]
    ).to_numpy()
    # 200 events are 20 groups: errors are known to 16 %
    assert 0.9 < np.std(pull[sound]) < 1.2
    assert table["good"].to_numpy()[sound].all()
