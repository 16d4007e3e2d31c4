"""Files of the original scripts and of other tools: layouts, what goes in and comes out again, and what is refused."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Table
from firstlight.detectors.digicam.calibration import PIXELS
from firstlight.detectors.digicam.channels import channel_map
from firstlight.detectors.digicam.legacy import (
    combs,
    exports,
    fit_files,
    histograms,
    read_calibration,
    scan_files,
)
from firstlight.detectors.digicam.legacy.exporting import CONVENTION, to_ecsv
from firstlight.detectors.digicam.legacy.file_names import (
    DEFAULT_LEVELS,
    listed_files,
    parse_levels,
    parse_list,
)
from firstlight.detectors.digicam.legacy.merged_runs import shifted
from firstlight.detectors.digicam.legacy.merging import merge_cubes, merge_npz
from firstlight.detectors.digicam.legacy.npz import NpzFile, Rows, write_npz
from firstlight.detectors.digicam.legacy.template_histograms import TemplateHistograms
from firstlight.detectors.digicam.options import LightParameters, Options
from firstlight.errors import InputError, UsageError
from firstlight.steps.step import Context

REFERENCE = np.arange(1296) % 40 + 270


def sample_cube(seed=1):
    """Return samples of all pixels about their references, with some at 0, 4094 and 4095."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((1296, 4097), dtype=np.int64)
    for value in (-2, -1, 0, 1, 2, 40):
        counts[np.arange(1296), 1 + REFERENCE + value] += rng.integers(0, 50, 1296)
    counts[7, [1, 4095, 4096]] += 3, 4, 5
    axes = (Axis("channel", 1296), Axis("adc", 4095, -0.5, 4094.5, unit="LSB"))
    return HistogramCube(axes, counts)


def light_cube(levels=(0.0, 200.0), n_bins=128, seed=2, low=-64):
    rng = np.random.default_rng(seed)
    counts = np.zeros((1296, len(levels), n_bins + 2), dtype=np.int64)
    for index in range(len(levels)):
        place = np.clip(65 + rng.poisson(8 * index, (1296, 40)) * 5, 1, n_bins)
        np.add.at(counts[:, index], (np.arange(1296)[:, None], place), 1)
    counts[5, 1, -1] += 3
    axes = (
        Axis("channel", 1296),
        Axis("level", len(levels), labels=tuple(f"{level:g}" for level in levels)),
        Axis("charge", n_bins, low - 0.5, low + n_bins - 0.5),
    )
    return HistogramCube(axes, counts)


def scan_of(cube, wanted=None, reference=REFERENCE, n_samples=1):
    levels = np.array([float(label) for label in cube.axis("level").labels])
    return scan_files.LightHistograms(
        cube, levels, reference, n_samples, levels if wanted is None else np.array(wanted, dtype=float)
    )


# ---------------------------------------------------------------- npz


def test_arrays_are_read_by_numpy_and_back(tmp_path):
    whole = np.arange(24.0).reshape(2, 3, 4)
    path = write_npz(
        tmp_path / "a.npz", {"a": whole, "b": Rows((2, 3, 4), "<i4", iter(whole)), "c": np.array("word")}
    )
    with np.load(path, allow_pickle=False) as found:
        assert np.array_equal(found["a"], whole)
        assert found["b"].dtype == np.int32
        assert np.array_equal(found["b"], whole)
        assert str(found["c"]) == "word"
    with NpzFile(path) as file:
        assert file.keys == ["a", "b", "c"]
        assert file.shape("b") == (2, 3, 4)
        assert np.array_equal(np.stack(list(file.rows("b"))), whole)
        assert str(file.array("c")) == "word"


def test_the_same_arrays_make_the_same_file(tmp_path):
    arrays = {"a": np.arange(5), "b": np.ones(3)}
    assert (
        write_npz(tmp_path / "1.npz", arrays).read_bytes()
        == write_npz(tmp_path / "2.npz", arrays).read_bytes()
    )


def test_rows_of_a_file_in_fortran_order(tmp_path):
    table = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.savez(tmp_path / "f.npz", table=table)
    with NpzFile(tmp_path / "f.npz") as file:
        assert np.array_equal(np.stack(list(file.rows("table"))), table)


@pytest.mark.filterwarnings("ignore::numpy.exceptions.VisibleDeprecationWarning")
def test_odd_npz_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        NpzFile(tmp_path / "none.npz", "histogram file")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="no npz file"):
        NpzFile(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with NpzFile(tmp_path / "objects.npz") as file, pytest.raises(InputError, match="Python objects"):
        file.array("a")
    good = write_npz(tmp_path / "good.npz", {"a": np.random.default_rng(1).random(4000)}).read_bytes()
    (tmp_path / "cut.npz").write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match="cut off"):
        NpzFile(tmp_path / "cut.npz")
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 0xFF
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with NpzFile(tmp_path / "damaged.npz") as file, pytest.raises(InputError, match="damaged"):
        file.array("a")
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr'")
    with NpzFile(tmp_path / "short.npz") as file, pytest.raises(InputError, match="damaged"):
        file.array("a")


# ---------------------------------------------------------------- histograms


def test_samples_have_the_keys_and_shapes_of_the_original(tmp_path):
    cube = sample_cube()
    path = histograms.write_samples(tmp_path / "adc_hv_off.npz", cube, REFERENCE)
    with np.load(path) as found:
        assert found["adcs"].shape == (1296, 4096)
        assert found["adcs"].dtype == np.float64
        assert np.array_equal(found["adcs_bin_centers"], np.arange(4096.0))
        # what was saturated stands in the last bin, as in the original
        assert found["adcs"][7, [0, 4094, 4095]].tolist() == [3, 4, 5]
        assert found["adcs"].sum() == cube.total


def test_samples_come_back_as_products(tmp_path):
    cube = sample_cube()
    path = histograms.write_samples(tmp_path / "adc_hv_off.npz", cube, REFERENCE)
    counts, reference = histograms.read_adcs(path)
    assert np.array_equal(reference, REFERENCE)
    products = histograms.samples_products("hv_off", counts, reference)
    assert np.array_equal(products["samples/hv_off"].counts, cube.counts)
    groups = products["samples/hv_off_groups"]
    near = groups.values[:, 0].astype(np.int64)
    # all but the few far away are in the bins about the reference
    assert near.sum() == cube.total - 12
    bins = np.asarray(groups.coordinates["bin"])
    assert np.array_equal(near[:, bins == 40][:, 0], cube.counts[np.arange(1296), 1 + REFERENCE + 40])


def test_a_file_of_the_original_gets_its_references_from_the_medians(tmp_path):
    counts = np.zeros((1296, 4096))
    counts[np.arange(1296), REFERENCE] = 10
    counts[np.arange(1296), REFERENCE + 1] = 4
    counts[np.arange(1296), REFERENCE - 1] = 5
    counts[33] = 0
    np.savez_compressed(tmp_path / "o.npz", adcs=counts, adcs_bin_centers=np.arange(4096.0))
    _, reference = histograms.read_adcs(tmp_path / "o.npz")
    wanted = REFERENCE.copy()
    wanted[33] = np.median(np.delete(REFERENCE, 33))
    assert np.array_equal(reference, wanted)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"adcs": np.zeros((1855, 4096))}, "1855 pixels: a histogram of another camera"),
        ({"adcs": np.zeros((1296, 256))}, "256 bins, must have 4096"),
        ({"adcs": np.zeros((2, 1296, 4096))}, "must have 2 axes"),
        ({"adcs": np.full((1296, 4096), 0.5)}, "not all whole numbers"),
        ({"adcs": np.full((1296, 4096), -1)}, "not all whole numbers"),
        ({"adcs": np.full((1296, 4096), np.nan)}, "not all whole numbers"),
        ({"mpes": np.zeros((1, 1))}, "no array 'adcs'"),
        ({"adcs": np.zeros((1296, 4096)), "reference": np.zeros(5)}, "reference has the shape"),
    ],
)
def test_histograms_of_something_else_are_refused(tmp_path, arrays, text):
    np.savez_compressed(tmp_path / "h.npz", **arrays)
    with pytest.raises(InputError, match=text):
        histograms.read_adcs(tmp_path / "h.npz")


def test_heights_of_pulses_there_and_back(tmp_path):
    counts = np.zeros((1296, 514), dtype=np.int64)
    counts[:, 1 + 64 + 5] = 7  # 5 LSB above the reference
    counts[2, [0, -1]] = 2, 3
    cube = HistogramCube((Axis("channel", 1296), Axis("charge", 512, -64.5, 447.5)), counts)
    path = histograms.write_spe(tmp_path / "spe.npz", cube, REFERENCE)
    with np.load(path) as found:
        assert found["adcs"].shape == (1296, 4096)
        assert found["adcs"][100, REFERENCE[100] + 5] == 7
        assert found["adcs"][2, 4095] == 5
    table, reference = histograms.read_adcs(path)
    products = histograms.spe_products(table, reference)
    assert np.array_equal(products["pulses/charge"].values, cube.values)
    assert products["pulses/charge"].counts[2, -1] == 5
    assert products["pulses/pixels"].frame["n_pulses"].to_list()[:3] == [7, 7, 12]


# ---------------------------------------------------------------- light levels


def test_first_bin_is_that_of_the_original_for_its_baselines():
    rng = np.random.default_rng(4)
    assert scan_files.first_centre(np.rint(rng.normal(2010, 4, 1296))) == 1950
    assert scan_files.first_centre(np.rint(rng.normal(284, 6, 1296))) == 200
    # a dead pixel does not move it, and it is never negative
    assert scan_files.first_centre(np.append(np.rint(rng.normal(284, 6, 1295)), 0)) == 200
    assert scan_files.first_centre(np.full(1296, 20)) == 0


def test_light_has_the_keys_and_shapes_of_the_original(tmp_path):
    cube = light_cube()
    path = scan_files.write_scan(tmp_path / "mpe.npz", scan_of(cube, (0, 25, 200)))
    with np.load(path) as found:
        mpes, centres = found["mpes"], found["mpes_bin_centers"]
        assert mpes.shape == (3, 1296, 2146)
        assert mpes.dtype == np.float64
        assert centres[0] == 200
        assert centres[-1] == 2345
        assert found["mpes_levels"].tolist() == [0, 25, 200]
        assert not mpes[1].any()
        # the same charge stands at reference + charge
        assert mpes[2, 17, REFERENCE[17] + 10 - 200] == cube.counts[17, 1, 1 + 64 + 10]
        assert found["mpes_overflow"][2, 5] == 3
        assert mpes.sum() + found["mpes_overflow"].sum() + found["mpes_underflow"].sum() == cube.total


def test_light_comes_back_as_products(tmp_path):
    cube = light_cube()
    path = scan_files.write_scan(tmp_path / "mpe.npz", scan_of(cube, (0, 25, 200)))
    products, reference = scan_files.scan_products(path)
    assert np.array_equal(reference, REFERENCE)
    found = products["light/charge"]
    assert found.axis("level").labels == ("0", "200")
    n = min(found.values.shape[2], cube.values.shape[2])
    assert np.array_equal(found.values[:, :, :n], cube.values[:, :, :n])
    assert found.total == cube.total
    assert products["light/levels"].frame["n_events"].to_list() == [40, 43]


def test_light_of_the_original_has_flow_in_its_bins_at_the_ends(tmp_path):
    mpes = np.zeros((2, 1296, 2146))
    mpes[:, :, 2010 - 1950] = 50
    mpes[1, :, 2021 - 1950] = 20
    mpes[1, 8, [0, -1]] = 4, 6
    np.savez_compressed(tmp_path / "o.npz", mpes=mpes, mpes_bin_centers=np.arange(1950.0, 4096.0))
    products, reference = scan_files.scan_products(tmp_path / "o.npz", (10, 20))
    assert (reference == 2010).all()
    cube = products["light/charge"]
    assert cube.counts[8, 1, 0] == 4
    assert cube.counts[8, 1, -1] == 6
    assert cube.values[8, 1].sum() == 70
    assert cube.values[8, 1, 64] == 50
    assert cube.values[8, 1, 64 + 11] == 20
    with pytest.raises(UsageError, match="2 levels, 3 are given"):
        scan_files.scan_products(tmp_path / "o.npz", (10, 20, 30))


def test_sums_of_samples_are_counted_above_zero(tmp_path):
    light = LightParameters(extractor="integration")
    cube = light_cube(low=-128)
    path = scan_files.write_scan(tmp_path / "mpe.npz", scan_of(cube, n_samples=7))
    with np.load(path) as found:
        assert found["mpes_bin_centers"][0] == -128
    with pytest.raises(
        UsageError, match="charges of the histogram file are of 7 samples, the parameters say 1"
    ):
        scan_files.scan_products(path)
    assert not scan_files.zero_of(path).any()
    products, _ = scan_files.scan_products(path, parameters=light)
    assert np.array_equal(products["light/charge"].values, cube.values)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (
            {"mpes": np.zeros((1, 30, 4)), "mpes_bin_centers": np.arange(4)},
            "30 pixels: a histogram of another camera",
        ),
        ({"mpes": np.zeros((1, 1296, 4)), "mpes_bin_centers": np.arange(5)}, "not 4 centres"),
        ({"mpes": np.zeros((1, 1296, 4)), "mpes_bin_centers": 2.0 * np.arange(4)}, "bins of 1 LSB"),
        ({"mpes": np.zeros((1, 1296, 4))}, "no array 'mpes_bin_centers'"),
        ({"mpes": np.zeros((1, 1296, 4)), "mpes_bin_centers": np.arange(4)}, "empty"),
    ],
)
def test_light_of_something_else_is_refused(tmp_path, arrays, text):
    np.savez_compressed(tmp_path / "h.npz", **arrays)
    with pytest.raises(InputError, match=text):
        scan_files.scan_products(tmp_path / "h.npz", (5,))


def test_levels_with_light_are_added_up(tmp_path):
    cube = light_cube()
    path = scan_files.write_scan(tmp_path / "mpe.npz", scan_of(cube))
    counts, centres = scan_files.add_levels(path)
    # level 200 has 40 LSB on average, level 0 none
    shift = REFERENCE - 200 - 64
    for pixel in (3, 700):
        wanted = cube.values[pixel, 1]
        assert np.array_equal(counts[pixel, shift[pixel] : shift[pixel] + wanted.size], wanted)
        assert counts[pixel].sum() == wanted.sum()
    # with a baseline that is above the light of a pixel it has none
    none, _ = scan_files.add_levels(path, np.where(np.arange(1296) == 3, 400.0, np.nan), (5, 60))
    assert not none[3].any()
    assert np.array_equal(none[4], counts[4])
    assert not scan_files.add_levels(path, within=(60, 1e4))[0].any()
    full = scan_files.write_full(tmp_path / "full_mpe.npz", counts, centres, scan_files.zero_of(path))
    assert np.array_equal(scan_files.zero_of(full), REFERENCE)
    assert np.array_equal(scan_files.read_full(full)[0], counts)


@pytest.mark.parametrize("n_samples", [50, 92])
def test_highest_samples(tmp_path, n_samples):
    counts = np.zeros((1296, n_samples + 2), dtype=np.int64)
    counts[:, 11] = 9
    cube = HistogramCube((Axis("channel", 1296), Axis("sample", n_samples, -0.5, n_samples - 0.5)), counts)
    path = scan_files.write_peaks(tmp_path / "peaks.npz", cube)
    with np.load(path) as found:
        assert found["peaks"].shape == (1296, 51 if n_samples == 50 else 93)
    assert (scan_files.read_peaks(path).argmax(axis=1) == 10).all()


# ---------------------------------------------------------------- fit files


def test_fit_files_there_and_back(tmp_path):
    rng = np.random.default_rng(5)
    values = rng.normal(10, 1, (1296, 3))
    path = fit_files.write_fit(
        tmp_path / "f.npz", fit_files.HV_OFF, values, values / 100, {"status": np.full(1296, "ok")}
    )
    with np.load(path) as found:
        assert found["adcs_fit_result"].shape == (1296, 3, 2)
        assert found["parameter_names"].tolist() == ["norm", "mean", "sigma"]
        assert "Borel" in str(found["crosstalk_convention"])
    found = fit_files.read_fit(path, fit_files.HV_OFF)
    assert np.array_equal(found.value("sigma"), values[:, 2])
    assert np.array_equal(found.error("mean"), values[:, 1] / 100)
    assert list(found.beside) == ["status"]
    frame = fit_files.to_frame(found)
    assert frame.columns == ["channel", "norm", "norm_error", "mean", "mean_error", "sigma", "sigma_error"]


def test_fits_of_something_else_are_refused(tmp_path):
    fit_files.write_fit(tmp_path / "spe.npz", fit_files.SPE, np.ones((1296, 9)), np.ones((1296, 9)))
    with pytest.raises(
        InputError, match="this is a fit of dark pulses, not a fit without high voltage"
    ) as caught:
        fit_files.read_fit(tmp_path / "spe.npz", fit_files.HV_OFF)
    assert "analyse_hvoff -p" in str(caught.value)
    np.savez(tmp_path / "other.npz", adcs_fit_result=np.ones((1855, 3, 2)))
    with pytest.raises(InputError, match="another camera"):
        fit_files.read_fit(tmp_path / "other.npz", fit_files.HV_OFF)
    with pytest.raises(InputError, match="fit without high voltage does not exist") as caught:
        fit_files.read_fit(tmp_path / "none.npz", fit_files.HV_OFF)
    assert "make it with analyse_hvoff -p" in str(caught.value)


def test_a_comb_finds_its_gain_without_start_values(tmp_path):
    rng = np.random.default_rng(6)
    counts = np.zeros((1296, 300), dtype=np.int64)
    chosen = np.array([0, 600, 1295])
    gain = np.array([5.0, 5.3, 5.6])
    for pixel, own in zip(chosen, gain, strict=True):
        n = rng.poisson(np.repeat([1.0, 4.0], 20000))
        value = 30 + own * n + rng.normal(0, np.sqrt(0.9**2 + 0.2 * n))
        counts[pixel] = np.bincount(np.rint(value).astype(int), minlength=300)[:300]
    centres = 200.0 + np.arange(300)
    start = combs.peak_distances(counts, centres)
    result = combs.fit_all_levels(counts, centres, (*start, 0.45 * start[2]))
    values, errors, beside = combs.full_arrays(result)
    assert values.shape == (1296, 26)
    pulls = ((values[chosen, 1] - gain) / errors[chosen, 1], (values[chosen, 0] - 230) / errors[chosen, 0])
    assert np.abs(pulls).max() < 4
    assert np.isnan(np.delete(values, chosen, axis=0)).all()
    # (peaks above all light have no area)
    assert beside["status"][600] in ("ok", "at_bound")
    # areas are numbers of flashes: of a mean of 1 and of 4 photo-electrons
    assert values[600, 4 + 1] == pytest.approx(20000 * (np.exp(-1) + 4 * np.exp(-4)), rel=0.03)


def test_heights_of_pulses_are_fitted_about_the_baseline_without_voltage():
    rng = np.random.default_rng(7)
    counts = np.zeros((1296, 4096), dtype=np.int64)
    for pixel, gain in ((5, 5.0), (900, 5.5)):
        n = rng.choice([1, 2, 3], p=[0.9, 0.09, 0.01], size=20000)
        value = 284.3 + gain * n + rng.normal(0, np.sqrt(0.95**2 + 0.2 * n))
        counts[pixel] = np.bincount(np.rint(value).astype(int), minlength=4096)[:4096]
    reference = np.full(1296, 284)
    baseline = np.full(1296, 284.3)
    result = combs.fit_pulses(counts, reference, baseline, np.full(1296, 0.95))
    values, errors, beside = combs.spe_arrays(result, reference, baseline)
    assert values.shape == (1296, 9)
    for pixel, gain in ((5, 5.0), (900, 5.5)):
        assert abs(values[pixel, 2] - gain) < 4 * errors[pixel, 2]
        assert values[pixel, 0] == pytest.approx(0.95)
        assert errors[pixel, 0] == 0
        assert values[pixel, 6] == pytest.approx(0, abs=1e-9)
        assert beside["crosstalk_probability"][pixel] == pytest.approx(0.1, abs=0.01)
    # without a baseline there is no fit
    baseline[5] = np.nan
    again = combs.spe_arrays(
        combs.fit_pulses(counts, reference, baseline, np.full(1296, 0.95)), reference, baseline
    )
    assert np.isnan(again[0][5]).all()
    assert np.isfinite(again[0][900]).all()


# ---------------------------------------------------------------- names and levels


def test_levels():
    assert parse_levels("0,100,20") == (0, 20, 40, 60, 80, 100)
    assert parse_levels(" 5, 10 ,20,40") == (5, 10, 20, 40)
    assert parse_levels("250") == (250,)
    assert parse_levels("1,2,4,") == (1, 2, 4)
    assert len(DEFAULT_LEVELS) == 80
    assert 125 not in DEFAULT_LEVELS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty entry"),
        ("1,,2,3", "empty entry"),
        ("1,a", "'a' is no level"),
        ("1,nan", "'nan' is no level"),
        ("0,25,10", "10 does not lead from 0 to 25"),
        ("0,100,0", "0 does not lead"),
        ("100,0,10", "10 does not lead from 100 to 0"),
        ("100,200,300", "300 does not lead"),
        ("5,5", "level 5 is there twice"),
        ("-5,5", "cannot be negative"),
    ],
)
def test_malformed_levels(text, why):
    with pytest.raises(UsageError, match=why):
        parse_levels(text)


ENDINGS = (".fits.fz", ".hdf5", ".npz")


def test_names_of_raw_files(tmp_path):
    for name in (
        "run_7.fits.fz",
        "run_70.fits.fz",
        "run_008.fits.fz",
        "a.12.fits.fz",
        "b_03.hdf5",
        "truth.json",
    ):
        (tmp_path / name).touch()

    def found(basename, *numbers):
        return [path.name for path in listed_files(tmp_path, basename, numbers, ENDINGS)]

    assert found("a.%s.fits.fz", "12") == ["a.12.fits.fz"]
    assert found("a.%d.fits.fz", "12") == ["a.12.fits.fz"]
    assert found("b_%02d.hdf5", "3") == ["b_03.hdf5"]
    # without a place for the number: base, number, ending
    assert found("run_", "7", "70", "8") == ["run_7.fits.fz", "run_70.fits.fz", "run_008.fits.fz"]
    (tmp_path / "run_0008.hdf5").touch()
    with pytest.raises(UsageError, match="2 files are 'run_' with the number 8"):
        found("run_", "8")
    with pytest.raises(InputError, match=r"2 of 3 raw files do not exist: a\.13\.fits\.fz") as caught:
        found("a.%s.fits.fz", "12", "13", "14")
    assert "did you mean a.12.fits.fz" in str(caught.value)
    with pytest.raises(UsageError, match="one %s"):
        found("%s_%s", "1")
    with pytest.raises(UsageError, match="'x' is no whole number"):
        found("a.%d.fits.fz", "x")
    with pytest.raises(InputError, match="directory with the raw files does not exist"):
        listed_files(tmp_path / "none", "a", ["1"], ENDINGS)
    with pytest.raises(UsageError, match="empty entry"):
        parse_list("1,,2")


# ---------------------------------------------------------------- sums


def test_counts_are_moved_by_whole_bins():
    counts = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
    assert shifted(counts, np.array([0, 1, -1]), 3).tolist() == [
        [1, 2, 3, 4, 5],
        [1, 0, 2, 3, 9],
        [3, 3, 4, 0, 5],
    ]
    assert shifted(counts, np.array([0, 9, -9]), 4).tolist() == [
        [1, 2, 3, 4, 0, 5], [1, 0, 0, 0, 0, 14], [10, 0, 0, 0, 0, 5],
    ]  # fmt: skip


def test_histogram_files_are_added(tmp_path):
    cubes = [light_cube(seed=seed) for seed in (1, 2)]
    paths = [scan_files.write_scan(tmp_path / f"{k}.npz", scan_of(cube)) for k, cube in enumerate(cubes)]
    key, total = merge_npz(paths, tmp_path / "sum.npz")
    assert key == "mpes"
    with np.load(tmp_path / "sum.npz") as found, np.load(paths[0]) as one, np.load(paths[1]) as other:
        assert np.array_equal(found["mpes"], one["mpes"] + other["mpes"])
        assert np.array_equal(found["mpes_overflow"], one["mpes_overflow"] + other["mpes_overflow"])
        assert found["mpes"].sum() == total
        assert np.array_equal(found["mpes_levels"], one["mpes_levels"])


def test_histograms_that_cannot_be_added(tmp_path):
    path = histograms.write_samples(tmp_path / "a.npz", sample_cube(), REFERENCE)
    np.savez(tmp_path / "other.npz", adcs=np.zeros((1855, 4096)))
    with pytest.raises(InputError, match="1855 pixels: a histogram of another camera"):
        merge_npz([path, tmp_path / "other.npz"], tmp_path / "sum.npz")
    np.savez(tmp_path / "bins.npz", adcs=np.zeros((1296, 4000)))
    with pytest.raises(InputError, match=r"shape \(1296, 4000\), that of a\.npz has \(1296, 4096\)"):
        merge_npz([path, tmp_path / "bins.npz"], tmp_path / "sum.npz")
    one = scan_files.write_scan(tmp_path / "1.npz", scan_of(light_cube()))
    two = scan_files.write_scan(tmp_path / "2.npz", scan_of(light_cube(levels=(0.0, 60.0))))
    with pytest.raises(InputError, match=r"levels are not those of 1\.npz"):
        merge_npz([one, two], tmp_path / "sum.npz")
    three = scan_files.write_scan(tmp_path / "3.npz", scan_of(light_cube(), reference=REFERENCE + 100))
    with pytest.raises(InputError, match=r"bins are not those of 1\.npz: 300 to 2445 and 200 to 2345"):
        merge_npz([one, three], tmp_path / "sum.npz")
    with pytest.raises(InputError, match="no array 'adcs'"):
        merge_npz([path, one], tmp_path / "sum.npz")
    np.savez(tmp_path / "none.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="no histogram file"):
        merge_npz([tmp_path / "none.npz", path], tmp_path / "sum.npz")
    assert not (tmp_path / "sum.npz").exists()


def write_cube(path, cube):
    import uhi.io.hdf5

    with h5py.File(path, "w") as file:
        uhi.io.hdf5.write(file.create_group("histogram"), cube.to_uhi())
    return path


def test_cubes_are_added(tmp_path):
    cubes = [light_cube(seed=1), light_cube(seed=2)]
    paths = [write_cube(tmp_path / f"{k}.h5", cube) for k, cube in enumerate(cubes)]
    total = merge_cubes(paths, tmp_path / "sum.h5")
    assert np.array_equal(total.counts, cubes[0].counts + cubes[1].counts)
    again = merge_cubes([tmp_path / "sum.h5", paths[0]], tmp_path / "more.h5")
    assert again.total == total.total + cubes[0].total
    other = write_cube(tmp_path / "other.h5", light_cube(n_bins=64))
    with pytest.raises(InputError, match=r"axes are not those of 0\.h5: channel"):
        merge_cubes([paths[0], other], tmp_path / "bad.h5")
    with h5py.File(tmp_path / "block.h5", "w") as file:
        file["block"] = [1, 2]
    with pytest.raises(InputError, match="no group 'histogram'"):
        merge_cubes([tmp_path / "block.h5", other], tmp_path / "bad.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(InputError, match="cannot be read"):
        merge_cubes([tmp_path / "text.h5", other], tmp_path / "bad.h5")
    with pytest.raises(UsageError, match="one of the inputs"):
        merge_cubes(paths, paths[0])


# ---------------------------------------------------------------- constants for other tools


def calibration_table():
    rng = np.random.default_rng(8)
    frame = {}
    for column in PIXELS.columns:
        if column.dtype == pl.String:
            frame[column.name] = ["dark"] * 1296
        elif column.dtype == pl.Boolean:
            frame[column.name] = [True] * 1296
        elif column.dtype.is_integer():
            frame[column.name] = list(range(1296)) if column.name == "channel" else [3] * 1296
        else:
            frame[column.name] = rng.uniform(0.05, 0.5, 1296)
    frame["gain"] = np.where(np.arange(1296) == 4, np.nan, 5.2)
    frame["crosstalk"] = np.full(1296, 0.1)
    frame["flags"] = ["noisy,outlier" if k == 4 else "" for k in range(1296)]
    return Table.from_frame(PIXELS, pl.DataFrame(frame))


def test_constants_are_exported(tmp_path):
    table = calibration_table()
    context = Context(channel_map(), Options())
    written = exports({"calibration/pixels": table}, context, tmp_path)
    assert [path.name for path in written] == ["calibration.csv", "calibration.ecsv", "calibration.h5"]
    plain = pl.read_csv(written[0])
    assert plain.columns == table.frame.columns
    assert plain["gain"].null_count() == 1
    with h5py.File(written[2]) as file:
        group = file["pixels"]
        assert group["gain"].attrs["unit"] == "LSB/p.e."
        assert group["crosstalk"].attrs["convention"] == CONVENTION
        assert group["dc_to_pe"][7] == pytest.approx(0.9 / 5.2)
        assert np.isnan(group["dc_to_pe"][4])
        assert group["flags"].asstr()[4] == "noisy,outlier"
        assert group["x"][0] == pytest.approx(12.15)
        assert file.attrs["tool"] == "firstlight"
    found = read_calibration(written[2]).frame
    assert found["gain"][0] == 5.2
    assert found["gain"][4] is None
    assert found["charge_per_photoelectron"][7] == pytest.approx(5.2 / 0.9)
    assert found["good"].all()


def test_nothing_is_exported_of_a_run_without_constants(tmp_path):
    assert exports({}, Context(channel_map(), Options()), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_astropy_reads_our_tables(tmp_path):
    tables = pytest.importorskip("astropy.table", reason="astropy is not installed")
    path = tmp_path / "calibration.ecsv"
    path.write_text(to_ecsv(calibration_table(), {"crosstalk": CONVENTION}))
    found = tables.Table.read(path, format="ascii.ecsv")
    assert len(found) == 1296
    assert str(found["gain"].unit) == "adu / electron"
    assert str(found["dark_rate"].unit) == "MHz"
    assert "LSB/p.e." in found["gain"].description
    assert found["gain"][0] == 5.2
    assert found["gain"].mask[4]
    assert found["flags"][4] == "noisy,outlier"
    assert found["good"].dtype == bool
    assert found["good"].all()
    assert found["channel"].dtype == np.int32
    assert found.meta["crosstalk"] == CONVENTION


# ---------------------------------------------------------------- calibrations of other tools


def medians(path):
    frame = read_calibration(path).frame
    return {name: frame[name].median() for name in frame.columns}, {
        name: frame[name].null_count() for name in frame.columns
    }


def test_calibration_of_digicampipe(digicam_data):
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    path = digicam_data / "calibration" / "calibration_20180814.yml"
    found, missing = medians(path)
    assert found["gain"] == pytest.approx(20.133, abs=5e-4)
    assert found["electronics_noise"] == pytest.approx(3.2802, abs=5e-5)
    assert found["gain_smearing"] == pytest.approx(1.798, abs=5e-4)
    assert found["crosstalk_probability"] == pytest.approx(0.094861, abs=5e-7)
    assert found["crosstalk"] == pytest.approx(-np.log(1 - 0.094861), abs=1e-6)
    assert found["dark_rate"] == pytest.approx(2.9881, abs=5e-5)  # 0.0029881 /ns
    assert found["baseline"] == pytest.approx(284.46, abs=5e-3)
    assert found["deviance"] == pytest.approx(5695.1, abs=0.05)
    assert found["ndf"] == 186
    assert missing["gain"] == 1
    assert missing["dark_rate"] == 13
    assert missing["baseline"] == 0
    table = read_calibration(path)
    assert table.schema.column("dark_rate").unit == "MHz"
    assert "sums of 7 samples" in table.schema.description


def test_calibration_of_digicampipe_in_heights(digicam_data):
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    path = digicam_data / "calibration" / "calibration_parameters_20180508.yml"
    found, missing = medians(path)
    assert found["gain"] == pytest.approx(5.1523, abs=5e-5)
    assert found["electronics_noise"] == pytest.approx(0.96296, abs=5e-6)
    assert found["gain_smearing"] == pytest.approx(0.5087, abs=5e-5)
    assert found["dark_rate"] == pytest.approx(2.5237, abs=5e-5)
    assert missing["gain"] == 5
    assert missing["dark_rate"] == 14
    assert "crosstalk" not in found
    assert "heights of pulses" in read_calibration(path).schema.description


def test_calibration_of_sst1mpipe(digicam_data):
    folder = digicam_data / "calibration"
    found, _ = medians(folder / "20230302_0136_0137_Tel1_fitted_parameters.h5")
    assert found["gain"] == pytest.approx(20.28531688826942)
    assert found["electronics_noise"] == pytest.approx(4.749038515781406)
    assert found["charge_per_photoelectron"] == pytest.approx(22.560180195740728)
    # what is not a rate, and not an unbiased crosstalk, has columns of its own
    assert "dark_rate" not in found
    assert "crosstalk" not in found
    assert found["dark_counts"] == pytest.approx(0.09035590962700935)
    assert found["crosstalk_of_maximum"] == pytest.approx(0.10291486050780373)
    average, missing = medians(folder / "averaged_calib_param_v2_2023_2024_tel1.h5")
    assert average["dark_rate"] == pytest.approx(1.7863493588867043)
    assert average["crosstalk"] == pytest.approx(0.10498133001274171)
    assert average["gain_spread"] == pytest.approx(0.3044404783171314)
    assert missing["gain"] == 1
    assert missing["channel"] == 0


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.yml", "gain: [1, 2", "cannot be read"),
        ("b.yml", "- 1\n- 2", "no list 'gain'"),
        ("c.yml", "gains: [1]", "no list 'gain'"),
        ("d.yml", "gain: [1, two]", "not all numbers"),
        ("e.yml", "gain: [1, 2, 3]", "3 values beside 1296 pixels"),
        ("g.yml", "gain: [1, 2]\npixel_id: [0, 1]", "not the 1296 pixels"),
        ("f.h5", "text", "no HDF5 file"),
    ],
)
def test_other_calibrations_are_refused(tmp_path, name, text, why):
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=why):
        read_calibration(tmp_path / name)


def test_other_hdf5_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = [1]
    with pytest.raises(InputError, match="no group df_param"):
        read_calibration(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("df_param").attrs["nblocks"] = 1
    with pytest.raises(InputError, match="not a frame in the fixed format of pandas"):
        read_calibration(tmp_path / "b.h5")
    with pytest.raises(InputError, match="does not exist"):
        read_calibration(tmp_path / "none.h5")


def test_pixels_of_a_calibration_may_stand_in_any_order(tmp_path):
    pytest.importorskip("yaml", reason="pyyaml is not installed")
    order = np.random.default_rng(9).permutation(1296)
    (tmp_path / "c.yml").write_text(f"pixel_id: {order.tolist()}\ngain: {(order * 2.0).tolist()}\n")
    assert np.array_equal(
        read_calibration(tmp_path / "c.yml").frame["gain"].to_numpy(), 2.0 * np.arange(1296)
    )


# ---------------------------------------------------------------- shape of a pulse


def test_template_of_a_level_scan(digicam_data):
    pytest.importorskip("astropy", reason="astropy is not installed")
    found = TemplateHistograms.read(digicam_data / "template_scan" / "template_scan_dac_250.fits.gz")
    assert found.total == 754551722
    assert found.lit.sum() == 664
    assert int(found.counts[700].sum(dtype=np.int64)) == 1923448
    profile = found.profile().frame
    top = profile.row(int(profile["amplitude"].arg_max()), named=True)
    assert top["amplitude"] == pytest.approx(0.24694, abs=5e-6)
    assert top["time"] == 6.25
    shape = found.shape().frame
    assert shape["amplitude"].max() == 1
    assert shape["time"][int(shape["amplitude"].arg_max())] == 0
    dark = int(np.flatnonzero(~found.lit)[0])
    with pytest.raises(UsageError, match="no pulse was counted"):
        found.profile([dark])
    with pytest.raises(UsageError, match="there is no pixel 1296"):
        found.profile([1296])


def test_template_files_of_something_else(tmp_path):
    fits = pytest.importorskip("astropy.io.fits", reason="astropy is not installed")

    def write(name, *arrays):
        units = [fits.PrimaryHDU(arrays[0]), *(fits.ImageHDU(array) for array in arrays[1:])]
        fits.HDUList(units).writeto(tmp_path / name)
        return tmp_path / name

    ends, edges = np.zeros((2, 2)), np.arange(5.0)
    good = np.zeros((1296, 4, 4), dtype=np.uint16)
    for name, arrays, why in (
        ("a.fits", (good[:30], ends, edges, edges), "30 pixels, the camera has 1296"),
        ("b.fits", (good, ends, edges, np.arange(4.0)), "with 5 and 4 edges"),
        ("c.fits", (good, ends, edges, -edges), "edges do not rise"),
        ("d.fits", (good, ends), "are not counts"),
    ):
        with pytest.raises(InputError, match=why):
            TemplateHistograms.read(write(name, *arrays))
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(InputError, match="no FITS file"):
        TemplateHistograms.read(tmp_path / "text.fits")
    with pytest.raises(InputError, match="does not exist"):
        TemplateHistograms.read(tmp_path / "none.fits")


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("yaml", "yaml", lambda path: read_calibration(path)),
        ("astropy.io.fits", "digicam", lambda path: TemplateHistograms.read(path)),
    ],
)
def test_a_missing_library_is_named(tmp_path, monkeypatch, package, extra, call):
    path = tmp_path / ("c.yml" if package == "yaml" else "t.fits")
    path.write_text("gain: [1]")
    real = importlib.import_module

    def without(name, *rest):
        if name == package:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(UsageError, match=r"is not installed") as caught:
        call(path)
    assert f"firstlight[{extra}]" in str(caught.value)
    assert isinstance(path, Path)
