"""The verbs: scripts of the original as their README has them, steering files, single results, sums, pictures; what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image

from firstlight.cli.main import cli
from firstlight.data.schema import Table
from firstlight.detectors.digicam import commands_original
from firstlight.detectors.digicam.camera import patch_pixels
from firstlight.detectors.digicam.legacy import scripts
from firstlight.detectors.digicam.legacy.merged_runs import merged_products, shifted
from firstlight.detectors.digicam.legacy.pictures import Choice, figures_of_file
from firstlight.detectors.digicam.simulate import load_truth, simulate
from firstlight.detectors.digicam.steering import read_steering
from firstlight.errors import (
    ConfigError,
    FirstlightError,
    InputError,
    InputsRefusedError,
    StoreError,
    UsageError,
)
from firstlight.run.store import open_run

LEVELS = (0, 150, 250, 300, 350)
PER_LEVEL = 24
TEMPLATE = "CameraDigicam@localhost.localdomain_0_000.%s.fits.fz"


def call(*words):
    return CliRunner().invoke(cli, ["digicam", *(str(word) for word in words)], input="")


def run(*words):
    result = call(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refused(kind, *words):
    """Return what a command says that is refused."""
    result = call(*words)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return str(result.exception)


def is_picture(path):
    with Image.open(path) as image:
        return min(image.size) > 200 and len(image.convert("L").getcolors(1 << 20)) > 3


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return numbered raw files, as for the original scripts: 109 to 111, 117, 124 and 125."""
    folder = tmp_path_factory.mktemp("raw")
    kinds = {"hv_off": 30, "dark": 24, "led": PER_LEVEL}
    simulate(folder, seed=21, n_events=kinds, kinds=("hv_off",), layout="scan", n_files=3, faults="none")
    rest = folder / "rest"
    simulate(
        rest, seed=21, n_events=kinds, kinds=("dark", "led"), levels=LEVELS, layout="scan", n_files=2, faults="none",
    )  # fmt: skip
    for path in rest.glob("*.fits.fz"):
        path.rename(folder / path.name)
    shutil.copy(rest / "truth.parquet", folder / "truth_of_rest.parquet")
    return folder


@pytest.fixture(scope="module")
def hv_off(raw, tmp_path_factory):
    """Return the results of the first example of the README, with all its options."""
    data, output = tmp_path_factory.mktemp("my_data_dir"), tmp_path_factory.mktemp("my_output_dir")
    for number in range(3):
        shutil.copy(raw / (TEMPLATE % (109 + number)), data / f"thefilename_{number}.fits.fz")
    told = readme(0, data, output)
    return output, told


# the examples of the README of the original, word by word
README = """\
./analyse_hvoff.py -c -p -d /my/data/dir --file_namebase thefilename_ -f 0,1,2 --output_directory \
 /my/output/dir --histo_filename ouput_histo_file.npz --fit_filename ouput_fit_file.npz
./analyse_hvoff.py -p /my/output/dir --histo_filename ouput_histo_file.npz --fit_filename ouput_fit_file.npz
./analyse_hvoff.py /my/output/dir --histo_filename ouput_histo_file.npz --fit_filename ouput_fit_file.npz
""".splitlines()


def readme(number, data, output):
    words = README[number].split()
    assert words[0] == "./analyse_hvoff.py"
    words = [{"/my/data/dir": data, "/my/output/dir": output}.get(word, word) for word in words[1:]]
    return run("analyse_hvoff", *words)


# ---------------------------------------------------------------- the README, example by example


def test_readme_creates_and_fits(raw, hv_off):
    output, told = hv_off
    truth = load_truth(raw)
    with np.load(output / "ouput_histo_file.npz") as found:
        assert found["adcs"].shape == (1296, 4096)
        assert found["adcs"].sum() == 30 * 1296 * 50
    with np.load(output / "ouput_fit_file.npz") as found:
        fit = found["adcs_fit_result"]
    assert fit.shape == (1296, 3, 2)
    assert fit[:, 0, 0] == pytest.approx(1500, abs=0.01)
    # a rounded sample has an error of sigma / sqrt(1500)
    pulls = (fit[:, 1, 0] - truth.baseline) / (truth.sigma_e / np.sqrt(1500))
    assert abs(pulls.mean()) < 0.15
    assert 0.9 < pulls.std() < 1.1
    assert np.median(fit[:, 2, 0] / truth.sigma_e) == pytest.approx(1, abs=0.01)
    assert "read 3 raw files" in told
    assert f"wrote {output / 'ouput_fit_file.npz'}" in told
    record = open_run(output / "ouput_histo_file")
    assert record.record["detector"] == "digicam"
    assert {"samples/hv_off", "hv_off/pixels", "calibration/pixels"} <= set(record)


def test_readme_fits_saved_histograms(raw, hv_off):
    output, _ = hv_off
    before = (output / "ouput_fit_file.npz").read_bytes()
    (output / "ouput_fit_file.npz").unlink()
    told = readme(1, None, output)
    assert "read" not in told.split("wrote")[0]
    assert (output / "ouput_fit_file.npz").read_bytes() == before


def test_readme_displays(hv_off):
    output, _ = hv_off
    shutil.rmtree(output / "figures")
    told = readme(2, None, output)
    pictures = sorted(path.name for path in (output / "figures").glob("*.png"))
    assert pictures == [f"ouput_histo_file_{name}.png" for name in ("mean", "sigma", "spectra")]
    assert all(is_picture(output / "figures" / name) for name in pictures)
    assert f"3 pictures in {output / 'figures'}" in told
    assert f"firstlight report {output / 'ouput_histo_file'}" in told


def test_quiet_says_nothing(hv_off):
    output, _ = hv_off
    words = (
        "-p",
        "--histo_filename",
        "ouput_histo_file.npz",
        "--fit_filename",
        "ouput_fit_file.npz",
        "-q",
        "--no-plots",
    )
    assert run("analyse_hvoff", output, *words) == ""


# ---------------------------------------------------------------- options of analyse_hvoff


def create_only(raw, output, *words):
    # with or without a slash at the end of directories
    words = ("-d", f"{raw}/", "-f", "109,110,111", "--output_directory", f"{output}/", *words)
    run("analyse_hvoff", "-c", "--no-plots", *words)
    with np.load(output / "adc_hv_off.npz") as found:
        return found["adcs"]


def test_histogram_of_any_batch_size_is_the_same(raw, hv_off, tmp_path, monkeypatch):
    with np.load(hv_off[0] / "ouput_histo_file.npz") as found:
        whole = found["adcs"]
    sizes = []
    real = scripts.EventFiles.read

    def read(self, span, columns, channels, *, chunk_events=None):
        sizes.append(chunk_events)
        return real(self, span, columns, channels, chunk_events=chunk_events)

    monkeypatch.setattr(scripts.EventFiles, "read", read)
    found = create_only(raw, tmp_path, "-n", 7)
    assert np.array_equal(found, whole)
    # (the first events are looked at before)
    assert {size for size in sizes if size != 100} == {7}


def test_events_are_limited_in_total_and_a_sector_is_marked(raw, tmp_path):
    assert create_only(raw, tmp_path, "--evt_max", 14, "--cts_sector", 2).sum() == 14 * 1296 * 50
    lit = open_run(tmp_path / "adc_hv_off")["channels/map"].to_polars()["lit"]
    assert lit.sum() == 528
    assert call("analyse_hvoff", "-c", "--cts_sector", 4).exit_code == 2


def test_directory_is_that_of_raw_files_where_they_are_read(raw, tmp_path):
    words = ("-c", raw, "-f", "109", "--evt_max", 2, "--output_directory", tmp_path, "--no-plots", "-q")
    run("analyse_hvoff", *words)
    assert (tmp_path / "adc_hv_off.npz").is_file()
    text = refused(UsageError, "analyse_hvoff", "-c", "extra", "-d", raw, "--output_directory", tmp_path)
    assert "a third directory is given: extra" in text


def test_a_missing_raw_file_is_named(raw, tmp_path):
    result = call("analyse_hvoff", "-c", "-d", raw, "-f", "109,115", "--output_directory", tmp_path)
    assert isinstance(result.exception, InputError)
    assert f"1 of 2 raw files do not exist: {TEMPLATE % 115}" in str(result.exception)
    assert result.exception.exit_status == 3
    assert not (tmp_path / "adc_hv_off.npz").exists()


def test_a_damaged_raw_file_is_refused_and_the_others_are_used(raw, tmp_path):
    for number in (109, 110):
        shutil.copy(raw / (TEMPLATE % number), tmp_path)
    good = (tmp_path / (TEMPLATE % 110)).read_bytes()
    (tmp_path / (TEMPLATE % 110)).write_bytes(good[: len(good) // 2])
    text = refused(
        InputsRefusedError, "analyse_hvoff", "-c", "-p", "-d", tmp_path, "-f", "109,110", "--output_directory", tmp_path, "--no-plots",
    )  # fmt: skip
    assert TEMPLATE % 110 in text
    with np.load(tmp_path / "adc_hv_off.npz") as found:
        assert found["adcs"].sum() == 10 * 1296 * 50
    assert (tmp_path / "adc_hv_off_fit.npz").is_file()


@pytest.mark.parametrize("verb", ["analyse_hvoff", "analyse_dark", "analyse_ac_dac_scan"])
def test_a_fit_needs_a_histogram(tmp_path, verb):
    result = call(verb, "-p", tmp_path)
    assert isinstance(result.exception, InputError)
    assert "the histogram file does not exist" in str(result.exception)
    assert "make it with -c" in str(result.exception)
    assert result.exception.exit_status == 3


@pytest.mark.parametrize("verb", ["analyse_hvoff", "analyse_dark", "analyse_dark_spe", "analyse_ac_dac_scan"])
def test_there_is_nothing_to_display(tmp_path, verb):
    assert issubclass(InputError, FirstlightError)
    assert "make" in refused(InputError, verb, tmp_path)


@pytest.mark.parametrize(
    ("verb", "array", "shape"),
    [
        ("analyse_hvoff", "adcs", (1855, 4096)),
        ("analyse_dark", "adcs", (1855, 4096)),
        ("analyse_ac_dac_scan", "mpes", (2, 1855, 10)),
    ],
)
def test_a_histogram_of_another_camera(tmp_path, verb, array, shape):
    arrays = {array: np.zeros(shape), f"{array}_bin_centers": np.arange(shape[-1])}
    np.savez_compressed(tmp_path / "h.npz", **arrays)
    text = refused(InputError, verb, "-p", tmp_path, "--histo_filename", "h.npz")
    assert "1855 pixels: a histogram of another camera" in text


# ---------------------------------------------------------------- histograms of the original tool


def original_samples(path, spectra, first=0):
    """Write a histogram file as the original does, of some pixels only."""
    counts = np.zeros((1296, 4096))
    for pixel, values in spectra.items():
        counts[pixel] = np.bincount(values, minlength=4096)[:4096]
    np.savez_compressed(path, adcs=counts, adcs_bin_centers=np.arange(4096.0))


def test_a_histogram_of_the_original_is_fitted(tmp_path):
    rng = np.random.default_rng(31)
    spectra = {k: np.rint(rng.normal(2010.3, 0.95, 40000)).astype(int) for k in (0, 650, 1295)}
    original_samples(tmp_path / "adc_hv_off.npz", spectra)
    told = run("analyse_hvoff", "-p", tmp_path, "--no-plots")
    assert "adc_hv_off.npz is imported into the run" in told
    with np.load(tmp_path / "adc_hv_off_fit.npz") as found:
        fit = found["adcs_fit_result"]
    done = np.flatnonzero(np.isfinite(fit).all(axis=(1, 2)))
    assert done.tolist() == [0, 650, 1295]
    # nothing is known of events: errors are those of independent samples
    width = np.sqrt((0.95**2 + 1 / 12) / 40000)
    assert fit[done, 1, 1] == pytest.approx(width, rel=0.05)
    assert np.abs((fit[done, 1, 0] - 2010.3) / width).max() < 4
    assert np.abs((fit[done, 2, 0] - 0.95) / fit[done, 2, 1]).max() < 4
    run_ = open_run(tmp_path / "adc_hv_off_imported")
    assert run_["hv_off/pixels"].to_polars()["baseline_error"].is_not_null().sum() == 3


def test_a_changed_histogram_is_not_taken_for_that_of_its_run(raw, tmp_path):
    create_only(raw, tmp_path, "--evt_max", 4)
    with np.load(tmp_path / "adc_hv_off.npz") as found:
        arrays = dict(found)
    arrays["adcs"][:, :] = 0
    arrays["adcs"][5, 283:288] = 20, 200, 500, 200, 20
    np.savez_compressed(tmp_path / "adc_hv_off.npz", **arrays)
    assert "is imported into the run" in run("analyse_hvoff", "-p", tmp_path, "--no-plots")
    with np.load(tmp_path / "adc_hv_off_fit.npz") as found:
        assert found["adcs_fit_result"][5, 1, 0] == pytest.approx(285, abs=0.01)


def dark_samples(
    rng, n_samples, rate=3.0, gain=5.2, crosstalk=0.09, baseline=284.2, noise=0.96, smearing=0.45
):
    """Return samples of traces with dark counts, drawn pulse by pulse."""
    from firstlight.detectors.digicam.pulse import PulseTemplate

    pulse = PulseTemplate.default()
    length = 400_000.0  # ns
    samples = rng.normal(baseline, noise, n_samples)
    times = np.sort(rng.uniform(0, length, n_samples))
    n_pulses = rng.poisson(rate * 1e-3 * length)
    for start in rng.uniform(-100, length, n_pulses):
        family = total = 1
        while family:
            family = rng.poisson(crosstalk * family)
            total += family
        charge = gain * total + rng.normal(0, smearing * np.sqrt(total))
        first, last = np.searchsorted(times, (start, start + 100))
        samples[first:last] += charge * pulse.at(times[first:last] - start)
    return np.rint(samples).astype(int)


def test_a_dark_histogram_of_the_original_is_fitted(tmp_path):
    rng = np.random.default_rng(32)
    # (samples far apart: neighbours do not share pulses)
    original_samples(tmp_path / "adc_hv_on.npz", {k: dark_samples(rng, 30000) for k in (3, 1000)})
    told = run("analyse_dark", "-p", tmp_path, "--no-plots")
    with np.load(tmp_path / "adc_hv_on_fit.npz") as found:
        fit, names = found["adcs_fit_result"], found["parameter_names"].tolist()
        assert fit.shape == (1296, 6, 2)
        assert names == ["rate", "crosstalk", "baseline", "gain", "sigma_e", "sigma_1"]
    assert np.flatnonzero(np.isfinite(fit[:, 0, 0])).tolist() == [3, 1000]
    for pixel in (3, 1000):
        truth = np.array([3.0, 0.09, 284.2, 5.2, 0.96])
        assert (np.abs(fit[pixel, :5, 0] - truth) < 5 * fit[pixel, :5, 1]).all(), fit[pixel]
        assert 0 < fit[pixel, 0, 1] < 0.5
        assert fit[pixel, 5].tolist() == [0.45, 0]
    assert "rate" in told
    figures = {figure.name: figure for figure in figures_of_file(tmp_path / "adc_hv_on.npz", Choice((3,)))}
    assert {"adc_hv_on_spectra", "adc_hv_on_gain", "adc_hv_on_rate"} <= set(figures)
    (ax,) = (ax for ax in figures["adc_hv_on_spectra"].draw().axes if ax.lines)
    data, curve = ax.containers[0].lines[0].get_ydata(), ax.lines[-1].get_ydata()
    # what is drawn is the fit: it goes through the points
    assert curve[data > 100] == pytest.approx(data[data > 100], rel=0.25)


# ---------------------------------------------------------------- analyse_dark, analyse_dark_spe


@pytest.fixture(scope="module")
def results(raw, tmp_path_factory):
    """Return a directory with the fit without high voltage."""
    folder = tmp_path_factory.mktemp("results")
    run("analyse_hvoff", "-c", "-p", "-d", raw, "--output_directory", folder, "--no-plots", "-q")
    return folder


def test_dark_runs(raw, results):
    words = ("-d", raw, "-f", "117,118", "--output_directory", results, "--no-plots")
    told = run("analyse_dark", "-c", "-p", *words)
    with np.load(results / "adc_hv_on.npz") as found:
        assert found["adcs"].sum() == 24 * 1296 * 50
    # 1200 samples are too few for a fit, which is said and no reason to fail
    assert "0 pixels" in told
    # all pixels together are not
    (line,) = [line for line in told.splitlines() if "all pixels together: rate" in line]
    rate, error = (float(word) for word in line.split("rate ")[1].split(" MHz")[0].split(" ± "))
    assert abs(rate - 2.77) < 5 * error
    with np.load(results / "adc_hv_on_fit.npz") as found:
        assert np.isnan(found["adcs_fit_result"]).all()
        assert set(found["status"]) == {"no_data"}


def test_dark_pulses(raw, results):
    words = ("-d", raw, "-f", "117,118", "--output_directory", results, "--no-plots")
    told = run("analyse_dark_spe", "-c", "-p", *words)
    with np.load(results / "spe_hv_on.npz") as found:
        adcs = found["adcs"]
    assert adcs.shape == (1296, 4096)
    truth = load_truth(raw)
    heights = np.concatenate(
        [np.repeat(np.arange(4096), adcs[k].astype(int)) - truth.baseline[k] for k in range(1296)]
    )
    # 2.8 MHz in 40 of 50 samples; the most frequent height is that of one avalanche
    assert heights.size == pytest.approx(24 * 1296 * 40 * 4e-3 * 2.77, rel=0.1)
    counts, edges = np.histogram(heights, np.arange(0, 12, 0.5))
    assert edges[counts.argmax()] == pytest.approx(5.0, abs=0.75)
    with np.load(results / "spe_hv_on_fit.npz") as found:
        assert found["adcs_fit_result"].shape == (1296, 9, 2)
        assert found["dark_rate"].shape == (1296, 2)
    assert "adcs_fit_result (1296, 9, 2)" in told


def test_dark_pulses_need_the_fit_without_voltage(raw, tmp_path):
    result = call("analyse_dark_spe", "-c", "-p", "-d", raw, "-f", "117", "--output_directory", tmp_path)
    assert isinstance(result.exception, InputError)
    assert "the fit without high voltage does not exist" in str(result.exception)
    assert "make it with analyse_hvoff -p" in str(result.exception)
    # it is missed before anything is read
    assert list(tmp_path.iterdir()) == []


def test_dark_pulses_of_the_original(results, tmp_path):
    rng = np.random.default_rng(33)
    shutil.copy(results / "adc_hv_off_fit.npz", tmp_path)
    with np.load(tmp_path / "adc_hv_off_fit.npz") as found:
        baseline, noise = found["adcs_fit_result"][44, 1:, 0]
    n = rng.choice([1, 2, 3], p=[0.9, 0.09, 0.01], size=20000)
    values = baseline + 5.4 * n + rng.normal(0, np.sqrt(noise**2 + 0.2 * n))
    original_samples(tmp_path / "spe_hv_on.npz", {44: np.rint(values).astype(int)})
    run("analyse_dark_spe", "-p", tmp_path)
    with np.load(tmp_path / "spe_hv_on_fit.npz") as found:
        fit = found["adcs_fit_result"][44]
    assert abs(fit[2, 0] - 5.4) < 4 * fit[2, 1]
    assert fit[0] == pytest.approx([noise, 0])
    assert fit[3, 0] == pytest.approx(18000, rel=0.02)
    assert is_picture(tmp_path / "figures" / "spe_hv_on_gain.png")


# ---------------------------------------------------------------- analyse_ac_dac_scan


SCAN = ("-f", "124,125", "-l", ",".join(map(str, LEVELS)), "-e", PER_LEVEL)
NAMES = ("--histo_filename", "mpe.npz", "--fit_filename", "mpe_fit.npz", "--led_fit_filename", "led.npz")


@pytest.fixture(scope="module")
def scan(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    told = run(
        "analyse_ac_dac_scan", "-c", "-t", "-k", "-d", raw, *SCAN, *NAMES, "--output_directory", folder, "--no-plots"
    )  # fmt: skip
    return folder, told


def test_scan_histograms(raw, scan):
    folder, told = scan
    with np.load(folder / "mpe.npz") as found:
        mpes, centres = found["mpes"], found["mpes_bin_centers"]
        assert mpes.shape == (5, 1296, 2146)
        assert found["mpes_levels"].tolist() == list(LEVELS)
        entries = mpes.sum(axis=2) + found["mpes_overflow"] + found["mpes_underflow"]
        assert (entries == PER_LEVEL).all()
    with np.load(folder / "peaks.npz") as found:
        assert found["peaks"].shape == (1296, 51)
        assert found["peaks"].sum() == 5 * PER_LEVEL * 1296
        # light at 40 ns, highest 14.7 ns later
        assert np.median(found["peaks"].argmax(axis=1)) == 14
    with np.load(folder / "full_mpe.npz") as found:
        bright = (mpes @ centres / np.maximum(mpes.sum(axis=2), 1))[-1] - load_truth(raw).baseline
        assert np.median(bright) > 20
        full = found["full_mpe"].sum(axis=1)
        # two or three of five levels are brighter than 5 LSB
        assert set(full[:50]) <= {PER_LEVEL * k for k in (1, 2, 3)}
    assert "5 levels with events" in told
    assert open_run(folder / "mpe")["light/levels"].to_polars()["n_events"].to_list() == [PER_LEVEL] * 5


def test_light_is_looked_for_where_the_peaks_are(raw, scan, tmp_path):
    peaks = np.zeros((1296, 51))
    peaks[:, 13] = 1
    np.savez(tmp_path / "p.npz", peaks=peaks, peaks_bin_centers=np.arange(51.0))
    told = run(
        "analyse_ac_dac_scan", "-c", "-d", raw, *SCAN, *NAMES, "--peak_histo_filename", "p.npz", "--output_directory", tmp_path,
        "--no-plots", "--evt_max", PER_LEVEL,
    )  # fmt: skip
    assert "the light is looked for where" in told
    assert (open_run(tmp_path / "mpe")["channels/map"].to_polars()["light_sample"] == 13).all()
    with np.load(tmp_path / "mpe.npz") as found:
        # levels that were not reached are there, and empty
        assert found["mpes"].shape[0] == 5
        assert not found["mpes"][1:].any()


def flashes(rng, n, mu, gain=5.2, crosstalk=0.09, baseline=284.2, noise=0.96, smearing=0.45):
    """Return whole charges of flashes, avalanche by avalanche."""
    total = family = rng.poisson(mu, n)
    while family.any():
        family = rng.poisson(crosstalk * family)
        total = total + family
    return np.rint(
        baseline + gain * total + rng.normal(0, 1, n) * np.sqrt(noise**2 + total * smearing**2)
    ).astype(int)


LIGHT = {0: 0.0, 100: 0.3, 200: 1.0, 250: 2.0, 300: 4.0, 350: 7.5}
PIXELS = (2, 640, 1290)


@pytest.fixture(scope="module")
def original_scan(tmp_path_factory):
    """Return a scan as the original keeps it, of some pixels, and all that is made of it."""
    folder = tmp_path_factory.mktemp("original")
    rng = np.random.default_rng(34)
    mpes = np.zeros((len(LIGHT), 1296, 2146))
    for index, mu in enumerate(LIGHT.values()):
        for pixel in PIXELS:
            mpes[index, pixel] = np.bincount(flashes(rng, 5000, mu) - 150, minlength=2146)[:2146]
    np.savez_compressed(folder / "mpe.npz", mpes=mpes, mpes_bin_centers=150.0 + np.arange(2146))
    levels = ",".join(map(str, LIGHT))
    told = run("analyse_ac_dac_scan", "-k", "-g", "-p", "-a", folder, "-l", levels, *NAMES)
    return folder, told


def test_gain_of_all_levels(original_scan):
    folder, told = original_scan
    with np.load(folder / "full_mpe_fit.npz") as found:
        fit = found["full_mpe_fit_result"]
    assert fit.shape == (1296, 26, 2)
    for pixel in PIXELS:
        for index, truth in enumerate((284.2, 5.2, 0.96, 0.45)):
            assert abs(fit[pixel, index, 0] - truth) < 5 * fit[pixel, index, 1], (
                pixel,
                index,
                fit[pixel, index],
            )
    assert 0 < fit[2, 1, 1] < 0.02
    assert "of that gain" in told


def test_light_of_every_level(original_scan):
    folder, told = original_scan
    with np.load(folder / "mpe_fit.npz") as found:
        fit, levels = found["mpe_fit_result"], found["levels"]
    assert fit.shape == (6, 1296, 8, 2)
    assert levels.tolist() == list(LIGHT)
    assert np.isnan(np.delete(fit, PIXELS, axis=1)).all()
    for pixel in PIXELS:
        own = fit[:, pixel]
        assert (own[:, 6, 0] == 5000).all()
        assert abs(own[0, 1, 0] - 0.09) < 5 * own[0, 1, 1]
        assert abs(own[0, 2, 0] - 5.2) < 5 * own[0, 2, 1]
        # light is known up to the gain and crosstalk that all levels share
        scale = np.hypot(own[0, 2, 1] / 5.2, own[0, 1, 1])
        truth = np.array(list(LIGHT.values()))
        allowed = 5 * np.hypot(np.nan_to_num(own[:, 0, 1]), scale * truth) + 1e-3
        assert (np.abs(own[:, 0, 0] - truth) < allowed).all(), own[:, 0]
    assert "no rate of dark counts is known" in told


def test_light_against_level(original_scan):
    folder, _ = original_scan
    with np.load(folder / "led.npz") as found, np.load(folder / "mpe_fit.npz") as fit:
        parameters = found["parameters"]
        light = fit["mpe_fit_result"][:, 640, 0]
    assert parameters.shape == (1296, 5, 7)
    assert np.isnan(np.delete(parameters, PIXELS, axis=0)).all()
    own = parameters[640]
    assert own[:, 1] == pytest.approx(np.sqrt(np.diag(own[:, 2:])))
    # what numpy makes of the same points
    x = np.array(list(LIGHT), dtype=float)
    error = np.where(light[:, 1] > 0, light[:, 1], np.nan)
    used = np.isfinite(error)
    wanted, covariance = np.polyfit(x[used], light[used, 0], 4, w=1 / error[used], cov="unscaled")
    if used.all():
        assert own[:, 0] == pytest.approx(wanted, rel=1e-6)
        assert own[:, 2:] == pytest.approx(covariance, rel=1e-4)
    assert np.polyval(own[:, 0], 250) == pytest.approx(2.0, rel=0.1)


def test_dark_counts_are_inside_of_the_fit(original_scan, tmp_path):
    folder, _ = original_scan
    shutil.copy(folder / "mpe.npz", tmp_path)
    dark = np.zeros((1296, 6, 2))
    dark[:, :, 0] = 3.0, 0.09, 284.2, 5.2, 0.96, 0.45
    np.savez(tmp_path / "dark_fit.npz", adcs_fit_result=dark)
    levels = ",".join(map(str, LIGHT))
    words = ("-p", tmp_path, "-l", levels, *NAMES, "--input_fit_dark_filename", "dark_fit.npz", "--no-plots")
    told = run("analyse_ac_dac_scan", *words)
    assert "with dark counts inside of the spectra" in told
    with np.load(folder / "mpe_fit.npz") as without, np.load(tmp_path / "mpe_fit.npz") as found:
        less = found["mpe_fit_result"][2, 640, 0, 0] - without["mpe_fit_result"][2, 640, 0, 0]
    # 3 MHz give 0.05 photo-electrons in a pulse of 18 ns
    assert -0.09 < less < -0.02


def test_pictures_of_a_scan(original_scan):
    folder, _ = original_scan
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"mpe_spectra", "full_mpe_spectra", "full_mpe_gain", "mpe_fit_light", "mpe_fit_curves"} <= names
    assert all(is_picture(folder / "figures" / f"{name}.png") for name in names)


def test_fit_files_that_are_asked_for_must_be_there(original_scan):
    folder, _ = original_scan
    text = refused(
        InputError, "analyse_ac_dac_scan", "-g", folder, *NAMES, "--input_fit_hvoff_filename", "none.npz"
    )
    assert "fit without high voltage does not exist" in text


@pytest.mark.parametrize("flag", ["-k", "-g", "-a"])
def test_steps_of_a_scan_need_those_before(tmp_path, flag):
    before = {"-k": "make it with -c", "-g": "make it with -k", "-a": "analyse_ac_dac_scan -p"}
    assert before[flag] in refused(InputError, "analyse_ac_dac_scan", flag, tmp_path)


@pytest.mark.parametrize("levels", ["0,25,10", "a,b", "1,,2", "5,5"])
def test_malformed_levels(tmp_path, levels):
    result = call("analyse_ac_dac_scan", "-c", "-d", tmp_path, "-l", levels)
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_status == 2


def test_other_number_of_levels_than_in_the_file(original_scan, tmp_path):
    shutil.copy(original_scan[0] / "mpe.npz", tmp_path)
    text = refused(UsageError, "analyse_ac_dac_scan", "-p", tmp_path, "-l", "0,350,50", *NAMES)
    assert "the histogram file has 6 levels, 8 are given" in text


def test_help_names_all_options_of_the_original():
    common = (
        "-q, --quiet",
        "-c, --create_histo",
        "-f, --file_list",
        "--evt_max",
        "-n, --n_evt_per_batch",
        "--file_basename",
    )
    common += ("-d, --directory", "--histo_filename", "--output_directory", "--fit_filename")
    own = {
        "analyse_hvoff": ("-p, --perform_fit", "--cts_sector"),
        "analyse_dark": ("-p, --perform_fit",),
        "analyse_dark_spe": ("-p, --perform_fit", "--input_fit_filename"),
        "analyse_ac_dac_scan": (
            "-t, --create_time_histo", "-k, --create_full_histo", "-g, --perform_fit_gain", "-p, --perform_fit_mu",
            "-a, --perform_fit_acled", "-l, --scan_level", "-e, --events_per_level", "--peak_histo_filename",
            "--led_fit_filename", "--input_fit_hvoff_filename", "--input_fit_dark_filename",
        ),
    }  # fmt: skip
    for command in commands_original.ORIGINAL:
        text = run(command.name, "--help")
        assert "\n  Examples:\n    firstlight digicam" in text
        for option in (*common, *own[command.name]):
            assert option in text, (command.name, option)


# ---------------------------------------------------------------- steering files


STEERING = """\
# Analysis module
analysis_module : analyse_hvoff
create_histo      : False
perform_analysis  : False
display_results   : False
verbose           : False
log_file_basename : log
mc            :     False
file_basename :     CameraDigicam@localhost.localdomain_0_000.%d.fits.fz
directory     :     {raw}
file_list     :     [109, 110, 111]
output_directory  : {output}
histo_filename    : hv_off.npz
evt_min           : 10
evt_max           : 5*5
n_evt_per_batch   : 10
n_pixels          : 1296
angle_cts         : 120
adcs_min           : 0
adcs_max           : 4095
adcs_binwidth      : 1
"""


@pytest.fixture
def steering(raw, tmp_path):
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    path = tmp_path / "hv_off.yml"
    path.write_text(STEERING.format(raw=raw, output=tmp_path / "out"))
    return path


def test_steering_file_of_the_original(steering, tmp_path):
    told = run("steer", steering, "-c", "-a", "-s")
    out = tmp_path / "out"
    with np.load(out / "hv_off.npz") as found:
        # the first 25 events, without the first 10
        assert found["adcs"].sum() == 15 * 1296 * 50
    with np.load(out / "hv_off_fit.npz") as found:
        assert np.isfinite(found["adcs_fit_result"][:, 1, 0]).mean() > 0.99
    assert pl.read_csv(out / "hv_off_fit.csv").shape == (1296, 7)
    assert "adcs_binwidth changes nothing: bins are 1 LSB wide" in told
    lit = open_run(out / "hv_off")["channels/map"].to_polars()["lit"]
    assert lit.sum() == 528
    assert not (out / "figures").exists()
    # nothing asked for: what is there is displayed
    run("steer", "-y", steering)
    assert is_picture(out / "figures" / "hv_off_mean.png")


def test_keys_of_steering_files(steering):
    steering.write_text(steering.read_text() + "histo_filname: x.npz\n")
    text = refused(ConfigError, "steer", steering)
    assert "unknown key 'histo_filname', did you mean 'histo_filename'" in text


@pytest.mark.parametrize(
    ("text", "job", "parameters"),
    [
        (
            (
                "analysis_module: analyse_dark\ndark_analysis: fit_baseline\nbaseline_per_event_limit: 50\nevt_max: 10000\n"
                "baseline_param_data: b.npz\nwindow_width: 7\nangle_cts: 120.\n"
            ),
            "dark",
            {"light": {"window_width": 7}},
        ),
        (
            (
                "analysis_module: analyse_charge_scan\nfile_list: [0, 1]\nac_level: [1, 3, 6]\ndc_level: [0]\nmin_event: 0\n"
                "max_event: 500000\nintegration_method: integration_saturation\nthreshold_sat: 3800\ncentral_sample: 59\n"
                "timing_width: 3\nfull_histo_filename: full_mpe.npz\n"
            ),
            "scan",
            {"light": {"extractor": "integration_sat", "threshold_sat": 3800, "search": 3}},
        ),
        (
            "analysis_module: analyse_synchro\nevt_max: 5000*25\nevt_min: 5000*10\nsample_max: 50\nfile_list: [124]\n",
            "time",
            {},
        ),
        (
            "analysis_module: analyse_gain\nmean_range_for_mpe: [40, 100000]\nmpe_max_peaks_to_fit: 25\n",
            "gain",
            {},
        ),
        ("analysis_module: analyse_dc_led\ndc_level: [0, 10]\nfrequency_list: [600]\n", "dc", {}),
        (
            "analysis_module: analyse_timing\ntiming_filename: t.npz\npixel_list: [482, 516]\nn_pixels: 2\n",
            "timing",
            {},
        ),
    ],
)
def test_files_of_the_original_are_understood(tmp_path, text, job, parameters):
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    (tmp_path / "s.yml").write_text(text)
    steering, found, needless = read_steering(tmp_path / "s.yml")
    assert steering.job == job
    assert found == parameters
    if job == "scan":
        assert steering.scan_level == (1, 3, 6)
        assert steering.evt_max == 500000
        assert list(needless) == ["dc_level"]
    if job == "time":
        assert (steering.evt_min, steering.evt_max) == (50000, 125000)
    if job == "dc":
        assert steering.scan_level == (0, 10)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("analysis_module: analyse_shower", "there is no such analysis"),
        ("angle_cts: 90", "0, 120 or 240 degrees"),
        ("n_pixels: 21", "the camera has 1296 pixels"),
        ("integration_method: sum", "must be one of fixed_max"),
        ("evt_max: many", "evt_max"),
        ("light: {extractor: sum}\ncreate_histo: True", "light.extractor"),
        ("file_list:\ncreate_histo: True", "'file_list' is missing"),
        ("histo_filename: [", "not valid YAML"),
    ],
)
def test_values_of_steering_files(steering, line, why):
    key = line.split(":")[0]
    kept = [
        one
        for one in steering.read_text().splitlines()
        if not one.startswith((key, line.split("\n")[-1].split(":")[0]))
    ]
    steering.write_text("\n".join([*kept, line, ""]))
    result = call("steer", steering)
    assert isinstance(result.exception, ConfigError), (result.output, result.exception)
    assert why in str(result.exception)
    assert result.exception.exit_status == 2


def test_steering_files_that_cannot_be_read(tmp_path):
    assert "one steering file is needed" in refused(UsageError, "steer")
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    assert "does not exist" in refused(ConfigError, "steer", tmp_path / "none.yml")
    (tmp_path / "list.yml").write_text("- 1\n")
    assert "top level" in refused(ConfigError, "steer", tmp_path / "list.yml")
    (tmp_path / "empty.yml").write_text("mc: False\n")
    assert "'analysis_module' is missing" in refused(ConfigError, "steer", tmp_path / "empty.yml")


def test_yaml_makes_no_objects(tmp_path):
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    (tmp_path / "evil.yml").write_text("analysis_module: !!python/object/apply:os.getcwd []\n")
    assert "not valid YAML" in refused(ConfigError, "steer", tmp_path / "evil.yml")


def test_a_scan_from_toml_files(raw, tmp_path):
    shared = tmp_path / "shared.toml"
    shared.write_text(
        f"directory = '{raw}'\noutput_directory = '{tmp_path}'\nscan_level = {list(LEVELS)}\nevents_per_level = {PER_LEVEL}\n"
        "window_width = 5\nintegration_method = 'integration'\ncentral_sample = 14\nfile_list = [124, 125]\n"
    )
    (tmp_path / "mpe.toml").write_text(
        "analysis_module = 'analyse_mpe'\ncreate_histo = true\nhisto_filename = 'mpe.npz'\n[light]\nsearch = 0\n"
    )
    run("steer", tmp_path / "mpe.toml", "-i", shared, "-q")
    light = open_run(tmp_path / "mpe").record["configuration"]["light"]
    assert light["extractor"] == "integration"
    assert light["window_width"] == 5
    assert light["search"] == 0
    with np.load(tmp_path / "mpe.npz") as found:
        assert found["mpes"].sum() == 5 * PER_LEVEL * 1296
        assert int(found["samples_in_charge"]) == 5
    (tmp_path / "gain.toml").write_text(
        "analysis_module = 'gain'\ncreate_histo = true\nhisto_filename = 'full_mpe.npz'\nmpe_histo_filename = 'mpe.npz'\n"
        "mean_range_for_mpe = [40, 100000]\n"
    )
    run("steer", tmp_path / "gain.toml", "-i", shared, "-q")
    with np.load(tmp_path / "full_mpe.npz") as found:
        full = found["full_mpe"].sum()
    assert 0 < full < 3 * PER_LEVEL * 1296


# ---------------------------------------------------------------- single results


@pytest.fixture
def finished(campaign, tmp_path):
    """Return a copy of the run of a campaign."""
    return shutil.copytree(campaign.run.folder, tmp_path / "run")


@pytest.mark.parametrize(
    "verb", ["gain", "led", "dc", "timing", "template", "merge", "display", "simulate", "steer"]
)
def test_help_has_examples(verb):
    text = run(verb, "--help")
    assert "\n  Example" in text
    assert "\\b" not in text
    assert all(
        option in text for option in {"led": ("--inverse", "--per", "--output", "--jobs")}.get(verb, ())
    )


def test_gain_of_a_run(finished):
    before = open_run(finished)["gain/pixels"].to_polars()
    told = run("gain", finished, "--no-plots")
    assert "gain" in told
    assert "LSB/p.e.   (median of" in told
    assert open_run(finished)["gain/pixels"].to_polars().equals(before)
    names = {path.name for path in finished.iterdir()}
    assert {"calibration.csv", "calibration.ecsv", "calibration.h5", "original"} <= names
    with np.load(finished / "original" / "adc_hv_off_fit.npz") as found:
        assert found["adcs_fit_result"].shape == (1296, 3, 2)
    assert open_run(finished).record["exports"]


def test_timing_of_a_run(finished):
    told = run("timing", finished, "--no-plots")
    (line,) = [line for line in told.splitlines() if line.startswith("  time  ")]
    assert float(line.split()[1]) == pytest.approx(54.7, abs=0.5)
    assert "ns   (median of" in line


def test_gain_needs_light(hv_off):
    output, _ = hv_off
    text = refused(UsageError, "gain", output / "ouput_histo_file", "--no-plots")
    assert "there is no result of gain: it needs flashes of several levels" in text
    assert "hv_off (30 events)" in text


def test_light_against_level_of_a_run(finished, tmp_path):
    told = run("led", finished, "--no-plots")
    assert "level 1 " in told
    assert "DAC   (median of" in told
    table = run("led", finished, "--no-plots", "--inverse", 1.5, "-q")
    lines = table.splitlines()
    assert lines[0] == "pixel,level,error"
    assert len(lines) == 1297
    levels = pl.read_csv(table.encode())["level"].drop_nulls()
    assert 250 < levels.median() < 330
    told = run(
        "led", finished, "--no-plots", "--inverse", 1.5, "--per", "patch", "--table", tmp_path / "dac.csv"
    )
    patches = pl.read_csv(tmp_path / "dac.csv")
    assert patches.columns == ["patch", "level", "error"]
    assert patches.height == 432
    assert f"levels of {patches['level'].count()} of 432 patches" in told
    # a patch lies between its pixels
    pixels = pl.read_csv(table.encode())["level"].to_numpy()[patch_pixels()]
    own = patches["level"].to_numpy().astype(float)
    known = np.isfinite(pixels).all(axis=1) & np.isfinite(own)
    low, high = pixels[known].min(axis=1), pixels[known].max(axis=1)
    assert known.sum() > 400
    assert ((own[known] > low - 1) & (own[known] < high + 1)).all()


def test_continuous_light_of_a_run(finished):
    told = run("dc", finished, "--no-plots")
    assert "level 100 " in told
    table = pl.read_csv(run("dc", finished, "--no-plots", "--rate", 100, "-q").encode())
    frame = open_run(finished)["dc/pixels"].to_polars()
    assert table["level"].to_numpy() == pytest.approx(
        frame["level_100"].cast(pl.Float64).to_numpy(), abs=1e-3, nan_ok=True
    )
    assert 290 < table["level"].median() < 330


def test_shape_of_a_pulse(finished, tmp_path):
    told = run("template", finished, "--no-plots", "--shape", tmp_path / "pulse.txt")
    assert f"wrote {tmp_path / 'pulse.txt'}" in told
    table = np.loadtxt(tmp_path / "pulse.txt")
    assert table[:, 1].max() == pytest.approx(1, abs=0.03)
    assert abs(table[table[:, 1].argmax(), 0]) < 3
    assert (finished / "template.txt").read_text() == (tmp_path / "pulse.txt").read_text()


def test_shape_of_a_pulse_from_histograms(digicam_data, tmp_path):
    pytest.importorskip("astropy", reason="astropy is not installed")
    path = digicam_data / "template_scan" / "template_scan_dac_250.fits.gz"
    told = run("template", path, "--shape", tmp_path / "pulse.txt")
    assert "754,551,722 samples of 664 pixels with light" in told
    assert "maximum of 0.24694 at 6.25 ns" in told
    from firstlight.detectors.digicam.pulse import PulseTemplate

    assert PulseTemplate.read(tmp_path / "pulse.txt").amplitude.max() == pytest.approx(1, abs=0.01)


def test_pixels_are_whole_numbers(finished):
    assert "no list of whole numbers" in refused(UsageError, "display", finished, "--pixels", "1,x")
    assert "there is no pixel 1296" in refused(UsageError, "display", finished, "--pixels", "1,1296")


def test_a_run_of_another_detector(finished):
    record = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps({**record, "detector": "velo"}))
    assert "is a run of the detector velo" in refused(FirstlightError, "gain", finished)


# ---------------------------------------------------------------- simulate, merge, display


def test_simulate(tmp_path):
    told = run(
        "simulate", "-o", tmp_path, "--seed", 5, "--kinds", "hv_off,led", "--levels", "100,200,100", "--events", 3,
        "--led-events", 4, "--faults", "none", "--format", "arrays",
    )  # fmt: skip
    names = [line.split("/")[-1] for line in told.split()]
    assert names == ["hv_off.npz", "led_100.npz", "led_200.npz"]
    with np.load(tmp_path / "led_200.npz") as found:
        assert found["samples"].shape == (4, 1296, 50)
    with np.load(tmp_path / "hv_off.npz") as found:
        assert found["samples"].shape[0] == 3
    assert "seed" in run("simulate", "--set", "help")
    assert "unknown argument 'n_event'" in refused(UsageError, "simulate", "--set", "n_event=3")


def test_runs_are_merged(raw, tmp_path):
    for number, name in ((109, "a"), (110, "b"), (111, "c")):
        create = (
            "analyse_hvoff",
            "-c",
            "-d",
            raw,
            "-f",
            number,
            "--histo_filename",
            f"{name}.npz",
            "--no-plots",
            "-q",
        )
        run(*create, "--output_directory", tmp_path)
    told = run("merge", tmp_path / "a", tmp_path / "b", tmp_path / "c", "-o", tmp_path / "all", "--no-plots")
    assert "the sum of 3 runs: a, b, c" in told
    total = open_run(tmp_path / "all")
    parts = [open_run(tmp_path / name) for name in "abc"]
    counts = sum(part["samples/hv_off"].value.counts for part in parts)
    assert np.array_equal(total["samples/hv_off"].value.counts, counts)
    groups = total["samples/hv_off_groups"].value
    assert groups.values.sum() == sum(int(part["samples/hv_off_groups"].value.values.sum()) for part in parts)
    assert total["events/files"].to_polars()["n_events"].to_list() == [10, 10, 10]
    assert {"hv_off/pixels", "calibration/pixels"} <= set(total)
    # groups stand at the reference of the first run, whatever that of the others
    reference = [part["channels/map"].to_polars()["reference"].to_numpy() for part in (total, parts[1])]
    moved = np.flatnonzero(reference[0] != reference[1])
    assert moved.size
    pixel = int(moved[0])
    bins = np.asarray(groups.coordinates["bin"])
    cube = total["samples/hv_off"].value.counts[pixel]
    assert np.array_equal(groups.values[pixel].sum(axis=0), cube[1 + reference[0][pixel] + bins])


def test_light_of_runs_is_merged(campaign):
    one = campaign.run
    both, channels, notes = merged_products([one, one])
    for name in ("light/charge", "light/peak", "samples/dark", "pulses/charge"):
        n = one[name].value.counts.shape[-1] - 2
        assert np.array_equal(both[name].values[..., :n], 2 * one[name].value.values), name
        assert both[name].total == 2 * one[name].value.total
    assert np.array_equal(both["light/waveform"].values, 2 * one["light/waveform"].value.values)
    groups = one["samples/dark_groups"].value
    assert np.array_equal(both["samples/dark_groups"].values, 2 * groups.values)
    moments, own = both["continuous/moments"].values, one["continuous/moments"].value.values
    assert moments[:, :, [0, 2, 3]] == pytest.approx(own[:, :, [0, 2, 3]], nan_ok=True)
    assert moments[:, :, 1] == pytest.approx(own[:, :, 1] / np.sqrt(2), nan_ok=True)
    frame, before = both["pulses/pixels"].frame, one["pulses/pixels"].to_polars()
    assert frame["n_pulses"].equals(2 * before["n_pulses"])
    assert frame["rate"].to_numpy() == pytest.approx(before["rate"].to_numpy(), nan_ok=True)
    assert both["light/levels"].frame["n_events"].equals(2 * one["light/levels"].to_polars()["n_events"])
    assert len(channels) == 1296
    assert notes == ("the sum of 2 runs: run, run",)


def test_runs_with_other_references_are_moved(campaign):
    """A run whose charges were counted from another number gives the same sums."""
    one = campaign.run
    moved = Moved(one, 2)
    plain, _, _ = merged_products([one, one])
    found, _, notes = merged_products([one, moved])
    assert "moved by up to 2 LSB" in notes[1]
    charge, wanted = found["light/charge"], plain["light/charge"]
    n = min(charge.values.shape[2], wanted.values.shape[2])
    # (a broken pixel may have charges at the ends of the range, which two bins leave)
    ends = wanted.values[:, :, :3].any(axis=(1, 2)) | wanted.values[:, :, n - 3 :].any(axis=(1, 2))
    assert np.array_equal(charge.values[~ends, :, :n], wanted.values[~ends, :, :n])
    assert (~ends).sum() > 1250
    assert charge.total == wanted.total
    assert np.array_equal(found["light/waveform"].values, plain["light/waveform"].values)
    bins = [np.asarray(products["samples/dark_groups"].coordinates["bin"]) for products in (found, plain)]
    assert np.array_equal(bins[0], bins[1])
    assert np.array_equal(found["samples/dark_groups"].values, plain["samples/dark_groups"].values)
    assert found["continuous/moments"].values[..., 0] == pytest.approx(
        plain["continuous/moments"].values[..., 0], nan_ok=True
    )


class Moved(dict):
    """A run as it would be with references lower by some LSB."""

    def __init__(self, run, by):
        super().__init__({name: run[name] for name in run})
        self.folder, self.record = run.folder, run.record
        frame = run["channels/map"].to_polars().with_columns(pl.col("reference") - by)
        self["channels/map"] = Stored(Table(frame, run["channels/map"].value.schema))
        charge = run["light/charge"].value
        self["light/charge"] = Stored(
            replace(charge, counts=shifted(charge.counts, np.full(1296, by), charge.axes[2].bins))
        )
        wave, n_events = run["light/waveform"].value, run["light/levels"].to_polars()["n_events"].to_numpy()
        self["light/waveform"] = Stored(replace(wave, values=wave.values + by * n_events[None, :, None]))
        groups = run["samples/dark_groups"].value
        bins = [value + by for value in groups.coordinates["bin"]]
        self["samples/dark_groups"] = Stored(replace(groups, coordinates={**groups.coordinates, "bin": bins}))
        moments = run["continuous/moments"].value
        values = moments.values.copy()
        values[..., 0] += by
        self["continuous/moments"] = Stored(replace(moments, values=values))


class Stored:
    def __init__(self, value):
        self.value = value

    def to_polars(self):
        return self.value.frame


def test_what_cannot_be_merged(hv_off, finished, tmp_path):
    output, _ = hv_off
    own = output / "ouput_histo_file"
    assert "two inputs or more" in refused(UsageError, "merge", own, "-o", tmp_path / "x")
    assert "is a run, and not all others are" in refused(
        UsageError, "merge", own, f"{own}.npz", "-o", tmp_path / "x"
    )
    assert "one of the inputs" in refused(UsageError, "merge", own, finished, "-o", own)
    assert "no run directory, no histogram file" in refused(
        InputError, "merge", tmp_path, own, "-o", tmp_path / "x"
    )
    record = json.loads((finished / "run.json").read_text())
    record["configuration"]["samples"]["first_sample"] = 4
    (finished / "run.json").write_text(json.dumps(record))
    text = refused(InputError, "merge", own, finished, "-o", tmp_path / "x")
    assert "was read with samples.first_sample = 4" in text
    assert not (tmp_path / "x").exists()


def test_histogram_files_are_merged(hv_off, tmp_path):
    path = hv_off[0] / "ouput_histo_file.npz"
    shutil.copy(path, tmp_path / "again.npz")
    told = run("merge", path, tmp_path / "again.npz", "-o", tmp_path / "sum.npz")
    assert f"{2 * 30 * 1296 * 50:,} entries of 2 files" in told
    cube = hv_off[0] / "ouput_histo_file" / "products" / "samples" / "hv_off.h5"
    shutil.copy(cube, tmp_path / "copy.h5")
    run("merge", cube, tmp_path / "copy.h5", "-o", tmp_path / "sum.h5")
    with h5py.File(tmp_path / "sum.h5") as file:
        assert file["histogram/storage/values"][()].sum() == 2 * 30 * 1296 * 50
    # the sum of histograms is fitted like any other
    run(
        "analyse_hvoff",
        "-p",
        tmp_path,
        "--histo_filename",
        "sum.npz",
        "--fit_filename",
        "f.npz",
        "--no-plots",
        "-q",
    )
    with np.load(tmp_path / "f.npz") as found, np.load(hv_off[0] / "ouput_fit_file.npz") as one:
        pair = found["adcs_fit_result"][:, 1, 0], one["adcs_fit_result"][:, 1, 0]
    assert np.nanmax(np.abs(pair[0] - pair[1])) < 1e-3


def test_display_of_files(hv_off, original_scan, tmp_path):
    output, _ = hv_off
    files = (output / "ouput_fit_file.npz", original_scan[0] / "mpe_fit.npz")
    told = run("display", *files, "-o", tmp_path, "--pixels", "2,640", "--level", 290)
    names = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert names == {
        "ouput_fit_file_mean.png", "ouput_fit_file_sigma.png", "mpe_fit_light.png", "mpe_fit_curves.png",
    }  # fmt: skip
    assert told.count("wrote") == len(names)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "no histogram or fit file" in refused(InputError, "display", tmp_path / "other.npz")
    assert "no run directory and no histogram" in refused(InputError, "display", tmp_path)
    assert issubclass(StoreError, FirstlightError)
