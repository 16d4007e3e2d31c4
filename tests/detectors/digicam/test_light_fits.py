"""Light of flashes: several levels together give gain and crosstalk, dark counts inside take the bias away."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from firstlight.detectors.digicam.light_fits import (
    SHARED,
    Charges,
    Shared,
    choose_levels,
    fit_gain,
    fit_levels,
    pulse_model,
)
from firstlight.detectors.digicam.options import GainParameters, LevelParameters, LightParameters
from firstlight.fit import fit_many
from firstlight.fit.models.compound_poisson import shape_constants, shape_nodes

LIGHT = LightParameters()
LOW, N_BINS = -64, 512


def drawn(rng, n_pixels, entries, levels, rate=2.75, gain=5.1, noise=0.96, smearing=0.45, crosstalk=0.095):
    """Return charges drawn from the spectrum itself, and the true gains."""
    gains = gain * (1 + 0.05 * rng.normal(size=n_pixels))
    model = pulse_model(1, 0.0, LIGHT)
    edges = LOW - 0.5 + np.arange(N_BINS + 1.0)
    counts = np.zeros((n_pixels, len(levels), N_BINS), dtype=np.int64)
    value, derivative = np.empty(N_BINS), np.empty((7, N_BINS))
    for pixel in range(n_pixels):
        for place, light in enumerate(levels):
            p = np.array([rate, crosstalk, 0.3, gains[pixel], noise, smearing, light])
            model.integral(edges, p, np.array(model.constants), value, derivative)
            counts[pixel, place] = rng.multinomial(entries, value / value.sum())
    beyond = np.zeros((n_pixels, len(levels)), dtype=np.int64)
    return Charges(counts, beyond, LOW, np.arange(len(levels)) * 50.0, 1), gains


LEVELS = (0.0, 0.5, 1.5, 4.0, 20.0)


@pytest.fixture(scope="module")
def scan():
    rng = np.random.default_rng(21)
    charges, gains = drawn(rng, 60, 5000, LEVELS)
    result, chosen = fit_gain(charges, GainParameters(), LIGHT, np.full(60, 2.75))
    return charges, gains, result, chosen


def test_all_levels_together_give_the_truth(scan):
    _, gains, result, chosen = scan
    # the darkest level and those with 0.2 to 8 photo-electrons
    assert chosen.tolist() == [0, 1, 2, 3]
    truth = {
        "gain": gains, "crosstalk": 0.095, "baseline": 0.3, "electronics_noise": 0.96, "gain_smearing": 0.45,
        "photo_electrons_1": 0.5, "photo_electrons_2": 1.5, "photo_electrons_3": 4.0,
    }  # fmt: skip
    for name, pull in result.pulls(truth).items():
        assert abs(pull.mean()) < 3.5 / np.sqrt(60), name
        assert 0.72 < pull.std() < 1.32, name
    assert np.all(result.value("photo_electrons_0") == 0)
    # p-values are flat
    assert 0.3 < result.p_value.mean() < 0.75


def test_the_light_of_every_level_has_statistical_and_common_errors(scan):
    charges, _, result, _ = scan
    shared = Shared(**{name: result.value(name) for name in SHARED})
    table = fit_levels(
        charges, shared, LevelParameters(), LIGHT, 8.0, covariance=result.covariance[:, :6, :6]
    ).frame
    light = table["photo_electrons"].to_numpy().reshape(60, -1)
    statistical = table["photo_electrons_error"].to_numpy().reshape(60, -1)
    common = table["scale_error"].to_numpy().reshape(60, -1)
    for place, true in enumerate(LEVELS[1:], 1):
        pull = (light[:, place] - true) / np.hypot(statistical, common)[:, place]
        assert abs(pull.mean()) < 3.5 / np.sqrt(60), true
        assert 0.7 < pull.std() < 1.35, true
    # with much light what is common is larger than what is counted
    assert np.all(common[:, -1] > statistical[:, -1])
    assert np.all(light[:, 0] < 0.02)


def test_without_dark_counts_the_light_comes_out_too_high():
    rng = np.random.default_rng(22)
    charges, _ = drawn(rng, 30, 10_000, (0.0, 1.0, 2.0))
    with_dark, _ = fit_gain(charges, GainParameters(), LIGHT, np.full(30, 2.75))
    without, _ = fit_gain(charges, GainParameters(), LIGHT, np.zeros(30))
    assert with_dark.value("photo_electrons_1").mean() == pytest.approx(1.0, abs=4 * 0.012 / np.sqrt(30))
    # a pedestal with dark counts in it is no pedestal: the fit without them cannot describe it
    assert np.median(without.p_value) < 1e-3


def test_levels_that_tell_something_are_chosen():
    light = np.array([0.0, 0.01, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 30.0])
    chosen = choose_levels(light, GainParameters(levels=4))
    assert chosen.size == 4
    assert chosen[0] == 0
    assert np.all((light[chosen[1:]] >= 0.2) & (light[chosen[1:]] <= 8))
    assert choose_levels(np.array([20.0, 40.0]), GainParameters()).size == 0
    assert choose_levels(np.array([1.0]), GainParameters(levels=1)).tolist() == [0]


def test_a_scan_without_light_gives_nothing():
    rng = np.random.default_rng(23)
    charges, _ = drawn(rng, 10, 2000, (0.0, 0.0))
    assert fit_gain(charges, GainParameters(), LIGHT, np.full(10, 2.75)) is None


def test_pixels_without_entries_have_no_fit():
    rng = np.random.default_rng(24)
    charges, _ = drawn(rng, 12, 3000, (0.0, 1.0, 3.0))
    charges.counts[5] = 0
    charges.counts[6] = 0
    charges.counts[6, :, 64] = 3000
    result, _ = fit_gain(charges, GainParameters(), LIGHT, np.full(12, 2.75))
    status = result.table().frame["status"].to_list()
    assert status[5] == "no_data"
    # a pixel that always reads the same has no spectrum
    assert status[6] == "no_data"
    assert np.count_nonzero(result.ok) == 10


# ---------------------------------------------------------------- third-party toys


def toy(digicam_data, name, sample):
    with h5py.File(digicam_data / "toy_hdf5" / f"events_digicamtoy_{name}.hdf5") as file:
        samples = file["data/adc_count"][()][:, :, sample]
    counts = np.bincount(samples.ravel())
    low = np.flatnonzero(counts)[0] - 4
    return np.append(counts[low:], np.zeros(8)), low - 0.5 + np.arange(counts.size - low + 9.0)


def test_a_toy_with_one_photo_electron(digicam_data):
    counts, edges = toy(digicam_data, "nsb_0_pe_1", 9)
    result = fit_many(counts, edges, "generalised_poisson", edges=True, exposure=counts.sum())
    expected = {
        "photo_electrons": (0.9895, 0.0123), "crosstalk": (0.0821, 0.0073), "gain": (4.918, 0.030),
        "electronics_noise": (1.2528, 0.018), "gain_smearing": (0.771, 0.046),
    }  # fmt: skip
    for name, (value, error) in expected.items():
        assert result.value(name)[0] == pytest.approx(value, abs=0.25 * error), name
        assert result.error(name)[0] == pytest.approx(error, rel=0.1), name
    assert result.p_value[0] > 0.05


def test_a_toy_with_dark_counts_needs_them_in_the_model(digicam_data):
    counts, edges = toy(digicam_data, "nsb_3_pe_1", 9)
    total = counts.sum()
    without = fit_many(counts, edges, "generalised_poisson", edges=True, exposure=total)
    assert without.value("photo_electrons")[0] == pytest.approx(1.069, abs=0.005)
    time, height = np.loadtxt(digicam_data / "pulse" / "pulse_SST-1M_pixel_0.dat", unpack=True)[:2]
    heights, weights = shape_nodes(time, height / height.max())
    # light arrives at 20.1 ns, sample 9 is taken at 36 ns: a little after the maximum
    flash = np.interp(36 - 20.1, time, height / height.max())
    model = pulse_model(1, 0.0, LIGHT).with_constants(shape_constants(heights, weights, flash))
    start = [3.0, 0.08, 280.0, 5.0, 1.25, 0.8, 1.0]
    held = {"rate": 3.0}
    result = fit_many(counts, edges, model, edges=True, exposure=total, start=start, fixed=held)
    assert result.value("photo_electrons")[0] == pytest.approx(1.013, abs=0.005)
    assert result.error("photo_electrons")[0] == pytest.approx(0.012, rel=0.15)
    assert result.value("gain")[0] == pytest.approx(4.949, abs=0.034)
