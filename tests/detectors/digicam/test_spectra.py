"""Fits without flashes: known truth comes back with honest errors, and the numbers of the sample files are found."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from digicam_helpers import go

from firstlight.detectors.digicam.options import DarkParameters, HvOffParameters
from firstlight.detectors.digicam.spectra import Spectra, dark_model, fit_dark, fit_hv_off
from firstlight.fit import fit_many
from firstlight.fit.models.compound_poisson import shape_constants, shape_nodes


def spectra_of(values: np.ndarray, n_groups: int = 20) -> Spectra:
    """Return spectra of values[channel, entry], in groups of neighbouring entries."""
    n_channels, n = values.shape
    low, n_bins = -20, 60
    groups = np.zeros((n_groups, n_channels, n_bins), dtype=np.int64)
    group = np.arange(n) * n_groups // n
    np.add.at(groups, (group[None, :].repeat(n_channels, 0), np.arange(n_channels)[:, None], values - low), 1)
    edges = low - 0.5 + np.arange(n_bins + 1)
    return Spectra(
        groups.sum(axis=0), edges, np.full(n_channels, n), groups, np.zeros(n_channels, dtype=np.int64)
    )


def test_hv_off_fits_have_no_bias_and_the_right_errors():
    rng = np.random.default_rng(12)
    n = 600
    mean, width = rng.uniform(-0.5, 0.5, n), rng.uniform(0.8, 1.3, n)
    values = np.rint(rng.normal(mean[:, None], width[:, None], (n, 20_000))).astype(int)
    result = fit_hv_off(spectra_of(values, 40), HvOffParameters())
    assert result.ok.all()
    for name, truth in (("mean", mean), ("width", width)):
        pull = result.pulls({name: truth})[name]
        assert abs(pull.mean()) < 0.1
        # errors of 40 groups are known to 11 %, which widens pulls by 1 %
        assert 0.9 < pull.std() < 1.1


def test_neighbouring_samples_that_share_their_noise_have_larger_errors():
    rng = np.random.default_rng(13)
    n_channels, n_events, n_samples = 150, 400, 50
    rho = 0.6
    noise = rng.normal(size=(n_channels, n_events, n_samples))
    for index in range(1, n_samples):
        noise[..., index] = rho * noise[..., index - 1] + np.sqrt(1 - rho**2) * noise[..., index]
    values = np.rint(1.2 * noise + 0.3).astype(int).reshape(n_channels, -1)
    spectra = spectra_of(values, 40)
    result = fit_hv_off(spectra, HvOffParameters())
    plain = fit_many(spectra.counts, spectra.edges, "gaussian", edges=True)
    assert 0.8 < result.pulls({"mean": 0.3})["mean"].std() < 1.2
    assert plain.pulls({"mean": 0.3})["mean"].std() > 1.6


def test_the_campaign_comes_back_with_honest_errors(campaign):
    """End to end: simulated raw files to constants; errors of the dark fit know that samples share pulses."""
    truth, table = campaign.truth, campaign.run["calibration/pixels"].to_polars()
    good = table["good"].to_numpy() & (truth.fault == 0)
    assert np.count_nonzero(good) > 1250
    known = {
        "baseline": "baseline", "electronics_noise": "sigma_e", "crosstalk": "crosstalk", "dark_rate": "dark_rate",
    }  # fmt: skip
    for name, true in known.items():
        pull = ((table[name] - truth.seen(true)) / table[f"{name}_error"]).to_numpy()[good]
        pull = pull[np.isfinite(pull)]
        # 400 dark events in 40 groups: errors are known to 11 %
        assert abs(np.mean(pull)) < 0.12, name
        assert 0.9 < np.std(pull) < 1.25, name
    gain = table["peak_gain"].to_numpy()[good] / truth.seen("gain")[good]
    # half a nanosecond of jitter flattens the pulse by 0.3 %
    assert np.median(gain) == pytest.approx(1, abs=8e-3)


def test_errors_from_groups_are_those_of_a_bootstrap(campaign):
    run = campaign.run
    cube, groups = run["samples/dark"].value, run["samples/dark_groups"].value
    some = slice(400, 416)
    counts = groups.values.sum(axis=1, dtype=np.int64)[some]
    bins = np.asarray(groups.coordinates["bin"], dtype=float)
    spectra = Spectra(
        counts, np.append(bins - 0.5, bins[-1] + 0.5), cube.counts.sum(axis=1)[some], np.moveaxis(groups.values[some], 1, 0),
        np.zeros(16, dtype=np.int64),
    )  # fmt: skip
    robust = fit_dark(spectra, DarkParameters())
    drawn = fit_dark(spectra, DarkParameters(bootstrap=40))
    for name in ("rate", "gain", "baseline", "crosstalk"):
        ratio = drawn.error(name) / robust.error(name)
        # 40 repetitions know an error to 11 %, the median of 16 pixels to 4 %; few groups make the bootstrap smaller by 3 %
        assert np.nanmedian(ratio) == pytest.approx(1, abs=0.15), name


def test_the_real_dark_event(digicam_data, tmp_path):
    run = go([digicam_data / "zfits" / "SST1M_01_20180822_001.fits.fz"], tmp_path / "run")
    found = {row["parameter"]: row for row in run["dark/camera"].to_polars().iter_rows(named=True)}
    expected = {
        "rate": (2.24, 0.05), "crosstalk": (0.087, 0.008), "gain": (5.30, 0.05), "electronics_noise": (0.966, 0.004),
    }  # fmt: skip
    for name, (value, error) in expected.items():
        assert abs(found[name]["value"] - value) < 3 * error, name
        # the errors are those of 64,800 samples
        assert found[name]["error"] == pytest.approx(error, rel=0.3), name
    assert found["converged"]["value"] == 1


def toy(digicam_data, name):
    with h5py.File(digicam_data / "toy_hdf5" / f"events_digicamtoy_{name}.hdf5") as file:
        return file["data/adc_count"][()]


def toy_model(digicam_data):
    time, height = np.loadtxt(digicam_data / "pulse" / "pulse_SST-1M_pixel_0.dat", unpack=True)[:2]
    heights, weights = shape_nodes(time, height / height.max())
    return dark_model().with_constants(shape_constants(heights, weights))


def pooled(samples):
    counts = np.bincount(samples.ravel())
    low = np.flatnonzero(counts)[0] - 4
    return np.append(counts[low:], np.zeros(8)), low - 0.5 + np.arange(counts.size - low + 9)


def test_a_third_party_toy_without_pulses(digicam_data):
    counts, edges = pooled(toy(digicam_data, "nsb_0_pe_0"))
    result = fit_many(counts, edges, "gaussian", edges=True)
    assert counts @ (edges[:-1] + 0.5) / counts.sum() == pytest.approx(279.99884, abs=1e-5)
    assert result.value("width")[0] == pytest.approx(1.2489, abs=2e-4)


def test_a_third_party_toy_of_dark_counts(digicam_data):
    # the first samples of the toy miss pulses that began before its window
    counts, edges = pooled(toy(digicam_data, "nsb_3_pe_0")[:, :, 14:])
    model = toy_model(digicam_data)
    result = fit_many(counts, edges, model, edges=True, exposure=counts.sum(), fixed={"photo_electrons": 0.0})
    truth = {"rate": 3.0, "crosstalk": 0.08, "gain": 4.987, "baseline": 280.0, "electronics_noise": 1.25}
    for name, value in truth.items():
        # likelihood errors; samples of an event are correlated, which doubles them
        assert abs(result.value(name)[0] - value) < 3 * 2 * result.error(name)[0], name
    assert result.value("rate")[0] == pytest.approx(3.0, abs=3 * 0.06)
    assert result.p_value[0] > 1e-3
