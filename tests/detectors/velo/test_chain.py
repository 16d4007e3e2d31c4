"""Runs of the VELO: what becomes of every frame, of missing files, of several scans, and which files are written."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import firstlight
from firstlight.cli.main import cli
from firstlight.detectors.velo.flags import Flag
from firstlight.detectors.velo.legacy import COLLECTION, collect, read_collection
from firstlight.detectors.velo.simulate import load_truth, simulate
from firstlight.errors import CheckFailedError, ConfigError, InputError, UsageError
from firstlight.run.store import open_run

CHIP = "Module0_VP3-1"
# only bright pixels are fitted where fits are not the point
FEW = {"fit": {"minimum_counts": 600}}


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def process(folder, output, **configuration):
    return firstlight.process(folder, output, configuration=configuration, plots=False, quiet=True)


def column(run_, product, name):
    """Return a column of floats, NaN where null."""
    return run_[product].to_polars()[name].cast(float).fill_null(np.nan).to_numpy()


def row_of(run_, selection="good"):
    return (
        run_["calibration/selections"]
        .to_polars()
        .row(by_predicate=pl.col("selection") == selection, named=True)
    )


def bias_of(run_, truth):
    """Return by what fraction the mean gain of good pixels is off: of those pixels, as a cut on counts prefers low gains."""
    pixels = run_["calibration/pixels"].to_polars()
    good = pixels["good"].to_numpy()
    assert good.sum() > 500
    return pixels["gain"].to_numpy()[good].mean() / truth["gain"].ravel()[good].mean() - 1


def check_of(run_, name):
    (check,) = (check for check in run_.record["checks"] if check["name"] == name)
    return check


# ---------------------------------------------------------------- two scans with all faults


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Return a folder with a warm scan that has all faults and a cold one that has none, and one of their runs."""
    folder = tmp_path_factory.mktemp("campaign")
    simulate(folder / "data", seed=601, step=5, acquisitions=7, rate=4.5)
    # no noise either: there is no hit at the highest thresholds
    simulate(folder / "data", seed=601, labels=("cold",), step=5, acquisitions=4, rate=6.0, faults="none")
    told = run(
        "process", folder / "data", "-o", folder / "out", "--no-plots", "--set", "fit.minimum_counts=150"
    )
    return folder, told.output


@pytest.fixture(scope="module")
def warm(campaign):
    folder, _ = campaign
    return open_run(folder / "out" / "synthetic_warmFe55"), load_truth(folder / "data" / "synthetic_warmFe55")


@pytest.fixture(scope="module")
def cold(campaign):
    folder, _ = campaign
    return open_run(folder / "out" / "synthetic_coldFe55"), load_truth(folder / "data" / "synthetic_coldFe55")


def test_scans_of_two_temperatures_make_two_runs(campaign, warm, cold):
    folder, output = campaign
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "synthetic_coldFe55",
        "synthetic_warmFe55",
    ]
    assert "synthetic_warmFe55 (1 input)" in output
    for (own, truth), label, gain in ((warm, "warm", 13.2), (cold, "cold", 14.264)):
        good = row_of(own)
        assert good["gain_mean"] == pytest.approx(gain, rel=5e-3)
        assert good["target_mean"] == pytest.approx(truth["target"].mean(), rel=5e-3)
        assert (own.folder / "matrices" / f"E0matrix_ST_2s621ms_{label}.csv").is_file()


def test_sums_are_the_truth(warm, cold):
    for own, truth in (warm, cold):
        np.testing.assert_array_equal(own["scan/counts"].to_numpy(), truth["counts_sum"])
        assert list(own["scan/counts"].value.coordinates["threshold"]) == truth["thresholds"].tolist()
        points = own["scan/points"].to_polars()
        np.testing.assert_array_equal(points["n_good"], truth["good_acq"])
        np.testing.assert_allclose(points["live_time"], truth["good_acq"] * 2.621, rtol=1e-14)
        np.testing.assert_array_equal(
            own["scan/pixels"].to_polars()["n_saturated"], truth["n_saturated"].ravel()
        )


# statuses of the faults, with words of the reason
FAULTS = {
    "bad": ("bad pattern", "column 255"),
    "missing": ("missing", "no such file"),
    "empty": ("empty", "no hit"),
    "truncated": ("truncated", "of 256"),
    "text": ("text", "'ERR' is no whole number"),
    "not_square": ("not square", "255 values, 256 are expected"),
    "condition": ("outlier", ""),
}


def test_every_planted_frame_is_listed_with_its_reason(warm):
    own, truth = warm
    events = json.loads(str(truth["events"]))
    frames = own["scan/frames"].to_polars()
    assert frames.height == 25 * 7
    left = frames.filter(pl.col("status") != "good")
    planted = {tuple(place): kind for kind in FAULTS for place in events[kind]}
    assert left.height == len(planted) > 15
    assert set(planted.values()) == set(FAULTS)
    for place, kind in planted.items():
        (frame,) = left.filter(
            (pl.col("threshold") == place[0]) & (pl.col("acquisition") == place[1])
        ).to_dicts()
        status, words = FAULTS[kind]
        assert frame["status"] == status, (kind, frame)
        assert words in frame["reason"]
        assert frame["reason"]
        assert frame["file"] == f"{CHIP}_ECS_data_ST_2s621ms_THR_{place[0]}_{place[1]}.csv"
        assert (frame["digest"] == "") == (kind == "missing")
    check = check_of(own, "frames")
    assert check["rule"].startswith(f"{len(planted)} of 175 frames are left out")
    assert len(check["details"]) == len(planted)


def test_a_threshold_without_any_good_frame_is_told_and_not_fitted(warm):
    own, truth = warm
    bad = json.loads(str(truth["events"]))["allbad_threshold"]
    points = own["scan/points"].to_polars().filter(pl.col("threshold") == bad)
    assert points.select("n_good", "n_left_out", "live_time").row(0) == (0, 7, 0.0)
    assert points["rate"][0] is None
    check = check_of(own, "thresholds")
    assert check["verdict"] == "warn"
    assert check["details"] == [f"{bad} DAC"]
    fitted = own["fit/pixels"].to_polars().filter(pl.col("good"))
    # 25 thresholds, one of them without light, four parameters
    assert fitted["ndf"].unique().to_list() == [20]
    curve = (
        own["fit/curves"].to_polars().filter((pl.col("threshold") == bad) & (pl.col("selection") == "all"))
    )
    assert np.isnan(curve["rate"].cast(float).fill_null(np.nan)[0])


def test_thresholds_above_all_hits_are_good_frames(cold):
    own, truth = cold
    dark = truth["counts_sum"].sum(axis=(1, 2)) == 0
    assert dark.sum() >= 2
    points = own["scan/points"].to_polars()
    assert (points["n_good"] == 4).all()
    assert (points["rate"].to_numpy()[dark] == 0).all()
    assert check_of(own, "frames")["verdict"] == "ok"
    assert check_of(own, "thresholds")["verdict"] == "ok"


def test_faulty_pixels_are_flagged_and_not_used(warm):
    own, truth = warm
    table = own["fit/pixels"].to_polars()
    bits, good = table["flags"].to_numpy(), table["good"].to_numpy()
    for name in ("silent", "noisy", "hot"):
        assert len(truth[name])
        assert not good[truth[name]].any()
    assert (bits[truth["noisy"]] & Flag.NOISY).all()
    assert (bits[truth["hot"]] & Flag.SATURATED).all()
    masked = truth["mask"].ravel() > 0
    assert (bits[masked] == Flag.MASKED).all()
    assert not (bits[~masked] & Flag.MASKED).any()
    healthy = ~masked & (truth["noise_rate"].ravel() == 0) & (truth["N"].ravel() > 0.1)
    assert not (bits[healthy] & (Flag.NOISY | Flag.DEAD)).any()


def test_masked_pixels_are_never_zero(warm):
    own, truth = warm
    masked = truth["mask"].ravel() > 0
    tables = {
        "fit/pixels": (
            "counts",
            "step",
            "slope",
            "width",
            "position",
            "position_error",
            "deviance",
            "fit_type",
        ),
        "baseline/pixels": ("baseline", "baseline_error", "control", "predicted", "cubic"),
        "calibration/pixels": ("baseline", "target", "gain", "gain_statistical", "gain_baseline"),
    }
    for product, names in tables.items():
        for name in names:
            assert np.isnan(column(own, product, name)[masked]).all(), (product, name)
    for path in (own.folder / "matrices").glob("*matrix*.csv"):
        matrix = np.loadtxt(path, delimiter=",")
        assert matrix.shape == (256, 256)
        assert np.isnan(matrix[truth["mask"] > 0]).all(), path.name
        assert not np.isnan(matrix).all(), path.name


# ---------------------------------------------------------------- files of the original


PARAMETERS = ("E0", "f", "s", "A")


def test_files_have_the_names_of_the_original(warm):
    own, _ = warm
    expected = {f"{u}{name}matrix_ST_2s621ms_warm.csv" for name in PARAMETERS for u in ("", "u")}
    expected |= {
        "Fittypematrix_ST_2s621ms_warm.csv", "Fixedfittypematrix_ST_2s621ms_warm.csv", "targetmatrix_ST_2s621ms_warm.csv", "utargetmatrix_ST_2s621ms_warm.csv",
        "K_matrix_ST_2s621ms_warm.csv", "uK_matrix_ST_2s621ms_warm.csv", "ASIC_paramswarm.csv",
        "ASICgood_paramswarm.csv", "log_file_synthetic_warmFe55_warm.csv",
    }  # fmt: skip
    # and what the physical equation has beside f and A
    expected |= {f"{u}{name}matrix_ST_2s621ms_warm.csv" for name in ("N", "C") for u in ("", "u")}
    assert {path.name for path in (own.folder / "matrices").iterdir()} == expected


def matrix(own, name):
    return np.loadtxt(own.folder / "matrices" / f"{name}_ST_2s621ms_warm.csv", delimiter=",").ravel()


def test_matrices_hold_what_the_tables_hold(warm):
    own, _ = warm
    for name, product, column_ in (
        ("E0matrix", "fit/pixels", "position"), ("uE0matrix", "fit/pixels", "position_error"),
        ("smatrix", "fit/pixels", "width"), ("Fittypematrix", "fit/pixels", "fit_type"),
        ("targetmatrix", "calibration/pixels", "target"), ("K_matrix", "calibration/pixels", "gain"),
    ):  # fmt: skip
        np.testing.assert_array_equal(matrix(own, name), column(own, product, column_))
    step, slope, width = (column(own, "fit/pixels", name) for name in ("step", "slope", "width"))
    fraction, amplitude = matrix(own, "fmatrix"), matrix(own, "Amatrix")
    with np.errstate(invalid="ignore", divide="ignore"):
        told = fraction * amplitude, (1 - fraction) * amplitude / (np.sqrt(2 * np.pi) * width)
    good = column(own, "fit/pixels", "good") == 1
    np.testing.assert_allclose(told[0][good], slope[good], rtol=1e-9)
    np.testing.assert_allclose(told[1][good], step[good], rtol=1e-9)


def test_files_of_the_chip_and_the_log(warm):
    own, truth = warm
    folder = own.folder / "matrices"
    for name, selection in (("ASIC", "all"), ("ASICgood", "good")):
        rows = [line.split(",") for line in (folder / f"{name}_paramswarm.csv").read_text().splitlines()]
        assert {len(row) for row in rows} == {3}
        assert "E0" in [row[0] for row in rows]
        assert rows[-1][0] == "target"
        assert float(rows[-1][1]) == pytest.approx(row_of(own, selection)["target_asic"], rel=1e-8)
    log = (folder / "log_file_synthetic_warmFe55_warm.csv").read_text().splitlines()
    assert log[0] == "Fittype,Pixels,Percentage"
    counts = {line.split(",")[0]: int(line.split(",")[1]) for line in log[1:5]}
    assert list(counts) == ["good", "bad", "notfound", "cut"]
    assert sum(counts.values()) == (truth["mask"] == 0).sum()
    assert counts["good"] == column(own, "fit/pixels", "good").sum()
    assert log[5] == "Kmean,Kstd,uKmean"
    assert float(log[6].split(",")[0]) == pytest.approx(row_of(own)["gain_mean"], rel=1e-8)
    assert log[7] == "ASICgood"


def test_collection_of_results_has_its_header(warm):
    own, _ = warm
    with (own.folder / "results_collection.csv").open(newline="") as stream:
        header, *rows = list(csv.reader(stream))
    assert tuple(header[:17]) == COLLECTION
    assert COLLECTION[0] == "Results"
    assert len(rows) == 1
    found = dict(zip(header, rows[0], strict=True))
    assert [found[name] for name in COLLECTION[:4]] == ["synthetic_warmFe55", "warm", "2s621ms", "after"]
    good, every = row_of(own), row_of(own, "all")
    for name, value in (
        ("targetmean", good["target_mean"]), ("utargetmean", good["target_spread"]),
        ("targetASIC", every["target_asic"]), ("targetASICgood", good["target_asic"]),
        ("Kmean", good["gain_mean"]), ("Kstd", good["gain_spread"]), ("uKmean", good["gain_mean_error"]),
        ("KASIC", every["gain_asic"]), ("KASICgood", good["gain_asic"]), ("Kcommon", good["gain_common"]),
    ):  # fmt: skip
        assert float(found[name]) == pytest.approx(value, rel=1e-8), name


def test_a_collection_keeps_the_rows_of_others(tmp_path):
    path = tmp_path / "results_collection.csv"
    # as the original writes it: without a header
    old = ["resultsold", "warm", "2s621ms", "False", *(str(number) for number in range(13))]
    path.write_text(",".join(old) + "\n")
    row = dict(zip(COLLECTION, ["resultsnew", "warm", "2s621ms", "after", *([1.5] * 13)], strict=True))
    collect(path, row)
    collect(path, row | {"Kmean": 2.5})
    collect(path, row | {"label": "cold"})
    rows = read_collection(path)
    assert [(found["Results"], found["label"], found["Kmean"]) for found in rows] == [
        ("resultsold", "warm", "6"), ("resultsnew", "warm", "2.5"), ("resultsnew", "cold", "1.5")
    ]  # fmt: skip
    (path.parent / "short.csv").write_text("resultsold,warm\n")
    with pytest.raises(InputError, match="row 1 has 2 columns, a collection of results has 17"):
        read_collection(path.parent / "short.csv")


# ---------------------------------------------------------------- again, and with changes


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return a small scan of which no frame is faulty."""
    folder = tmp_path_factory.mktemp("scan")
    pixels = ("masked", "silent")
    (found,) = simulate(folder, seed=602, step=6, acquisitions=2, rate=6.0, faults=pixels)
    return found


@pytest.fixture
def copied(scan, tmp_path):
    """Return a copy of it that may be spoilt; frames are links."""
    folder = tmp_path / "warm_copy"
    folder.mkdir()
    for path in scan.iterdir():
        if "_THR_" in path.name:
            (folder / path.name).hardlink_to(path)
        else:
            shutil.copyfile(path, folder / path.name)
    return folder


def files_of(run_):
    """Return the contents of all products and of the files of the original."""
    skipped = {"run.json", "run.log", ".lock"}
    paths = [path for path in run_.folder.rglob("*") if path.is_file() and path.name not in skipped]
    return {str(path.relative_to(run_.folder)): path.read_bytes() for path in paths}


def test_same_input_twice_gives_the_same_bytes(scan, tmp_path):
    runs = [process(scan, tmp_path / number / "run", **FEW) for number in ("one", "two")]
    first, second = (files_of(own) for own in runs)
    assert set(first) == set(second)
    assert len(first) > 30
    different = [name for name in first if first[name] != second[name]]
    assert different == []


def test_only_what_changed_is_made_again(scan, tmp_path):
    def keys(own):
        return {name: step["key"] for name, step in own.record["steps"].items()}

    before = process(scan, tmp_path / "run", **FEW)
    times = {path: path.stat().st_mtime_ns for path in (before.folder / "products").rglob("*.*")}
    times = {path: time for path, time in times.items() if path.parent.name != "channels"}
    first, gain = keys(before), row_of(before)["gain_mean"]
    again = process(scan, tmp_path / "run", **FEW)
    assert keys(again) == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other = process(scan, tmp_path / "run", **FEW, calibration={"energy": 5900.0})
    assert {name for name, key in keys(other).items() if key != first[name]} == {"calibration"}
    assert row_of(other)["gain_mean"] / gain == pytest.approx(5900 / 5895, rel=1e-9)
    less = process(scan, tmp_path / "run", **FEW, scan={"exclude": "acq == 1"})
    assert {name for name, key in keys(less).items() if key != first[name]} >= {"scan", "fit", "calibration"}
    assert less["scan/frames"].to_polars()["status"].value_counts().sort("status").rows() == [
        ("excluded", 21), ("good", 21)
    ]  # fmt: skip


def test_another_mask_is_noticed(copied, tmp_path):
    process(copied, tmp_path / "run", **FEW)
    path = copied / f"{CHIP}_Matrix_Mask.csv"
    mask = np.loadtxt(path, delimiter=",", dtype=int)
    mask[120:130] = 1
    np.savetxt(path, mask, fmt="%d", delimiter=",")
    own = process(copied, tmp_path / "run", **FEW)
    assert own["fit/pixels"].to_polars()["masked"].to_numpy().sum() == (mask > 0).sum()


# ---------------------------------------------------------------- baselines


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """Return the counts of a scan that tells gains well, and its truth: a folder with few frames of much light."""
    folder = tmp_path_factory.mktemp("bright")
    (found,) = simulate(folder, seed=603, step=3, acquisitions=3, rate=6.0, faults=("masked",), control=False)
    return found, load_truth(found)


def test_without_a_control_scan_the_cubic_law_is_used(bright, tmp_path):
    folder, truth = bright
    own = process(folder, tmp_path / "run", **FEW)
    rules = own["baseline/rules"].to_polars()
    assert rules.filter("used")["rule"].to_list() == ["cubic"]
    assert set(rules["rule"]) == {"cubic", "linear15", "legacy16", "predicted"}
    check = check_of(own, "baseline")
    assert check["verdict"] == "warn"
    assert "predicted, not measured" in check["rule"]
    good = own["calibration/pixels"].to_polars()["good"].to_numpy()
    mean = own["calibration/pixels"].to_polars()["gain"].to_numpy()[good].mean()
    assert mean == pytest.approx(truth["gain"].ravel()[good].mean(), rel=5e-3)

    low = process(folder, tmp_path / "run", **FEW, baseline={"choice": "legacy16"})
    assert row_of(low)["gain_mean"] / mean - 1 == pytest.approx(-0.08, abs=0.01)
    assert "gains 6-8 % low" in check_of(low, "baseline")["rule"]
    # of a prediction the error that all pixels share is as large as it can be wrong
    assert row_of(low)["gain_baseline"] > 0.05 * row_of(low)["gain_mean"]


def test_a_baseline_that_is_not_there_says_what_it_needs(bright, tmp_path):
    folder, _ = bright
    with pytest.raises(InputError, match="Control_Noise_Mean"):
        process(folder, tmp_path / "run", **FEW, baseline={"choice": "control"})
    with pytest.raises(ConfigError, match=r"no-such-file\.csv"):
        process(folder, tmp_path / "run", **FEW, baseline={"choice": str(tmp_path / "no-such-file.csv")})


def test_two_lines_of_a_source(tmp_path):
    (folder,) = simulate(
        tmp_path, seed=604, step=3, acquisitions=3, rate=6.0, faults=("masked",), k_beta=True
    )
    truth = load_truth(folder)["gain"].ravel()
    bias = {}
    for model in ("two_line", "physical"):
        own = process(folder, tmp_path / "run", fit={"model": model, "minimum_counts": 900})
        pixels = own["calibration/pixels"].to_polars()
        good = pixels["good"].to_numpy()
        assert good.sum() > 5000
        bias[model] = np.median(pixels["gain"].to_numpy()[good] / truth[good]) - 1
    assert abs(bias["two_line"]) < 1e-3
    assert bias["physical"] < -2e-3
    names = {path.name for path in (tmp_path / "run" / "matrices").iterdir()}
    assert "targetmatrix_ST_2s621ms_warm.csv" in names


# ---------------------------------------------------------------- what may be missing or odd


def test_without_a_mask_all_pixels_are_judged_by_their_counts(scan, copied, tmp_path):
    (copied / f"{CHIP}_Matrix_Mask.csv").unlink()
    own = process(copied, tmp_path / "run", **FEW)
    check = check_of(own, "mask")
    assert check["verdict"] == "warn"
    assert "there is no file of the mask" in check["rule"]
    assert not own["fit/pixels"].to_polars()["masked"].any()
    assert abs(bias_of(own, load_truth(scan))) < 0.01


def test_without_any_equalisation_positions_are_found(scan, copied, tmp_path):
    for path in copied.iterdir():
        if "_THR_" not in path.name:
            path.unlink()
    own = process(copied, tmp_path / "run", **FEW)
    with_all = process(scan, tmp_path / "all", **FEW)
    pixels, known = own["fit/pixels"].to_polars(), with_all["fit/pixels"].to_polars()
    both = pixels["good"].to_numpy() & known["good"].to_numpy()
    assert both.sum() > 1000
    np.testing.assert_array_equal(pixels["position"].to_numpy()[both], known["position"].to_numpy()[both])
    assert (pixels["flags"].to_numpy() & Flag.BASELINE_MISSING).all()
    assert own["calibration/pixels"].to_polars()["gain"].is_nan().all()
    check = check_of(own, "baseline")
    assert check["verdict"] == "bad"
    assert check["rule"] == "there is no baseline: positions are known, targets and gains are not"
    # a baseline that was asked for is another matter
    with pytest.raises(InputError, match="Control_Noise_Mean"):
        process(copied, tmp_path / "run", **FEW, baseline={"choice": "control"})


def test_an_acquisition_that_is_there_twice_is_counted_once(scan, copied, tmp_path):
    twin = f"{CHIP}_ECS_data_ST_2s621ms_THR_1504_1.csv"
    shutil.copyfile(copied / twin, copied / twin.replace("_1.csv", "_01.csv"))
    own = process(copied, tmp_path / "run", **FEW)
    frames = own["scan/frames"].to_polars().filter(pl.col("status") != "good")
    assert frames["file"].to_list() == [twin.replace("_1.csv", "_01.csv")]
    assert frames["status"].to_list() == ["repeated"]
    assert "same chip, threshold, acquisition and open time" in frames["reason"][0]
    np.testing.assert_array_equal(own["scan/counts"].to_numpy(), load_truth(scan)["counts_sum"])


def test_frames_of_another_open_time_can_be_left_out(scan, copied, tmp_path):
    for acquisition in (0, 1):
        name = f"{CHIP}_ECS_data_ST_2s621ms_THR_1504_{acquisition}.csv"
        shutil.copyfile(copied / name, copied / name.replace("2s621ms", "1s311ms"))
    own = process(copied, tmp_path / "run", **FEW, scan={"shutter": "2s621ms"})
    frames = own["scan/frames"].to_polars().filter(pl.col("status") != "good")
    assert frames["status"].to_list() == ["excluded"] * 2
    assert frames["reason"][0] == "shutter 1.311 s, 2.621 s was asked for"
    np.testing.assert_array_equal(own["scan/counts"].to_numpy(), load_truth(scan)["counts_sum"])
    # without that they are added, with their own open time
    own = process(copied, tmp_path / "run", **FEW)
    points = own["scan/points"].to_polars().filter(pl.col("threshold") == 1504)
    assert points["live_time"][0] == pytest.approx(2 * (2.621 + 1.311), rel=1e-12)


def test_of_two_chips_in_a_folder_one_must_be_chosen(scan, copied, tmp_path):
    for path in scan.glob("*_THR_*"):
        (copied / path.name.replace(CHIP, "Module0_VP0-0")).hardlink_to(path)
    with pytest.raises(UsageError, match="there are data of 2 chips") as error:
        process(copied, tmp_path / "run", **FEW)
    assert list(error.value.known) == ["Module0_VP0-0", CHIP]
    assert "--set prefix=" in error.value.hint
    own = process(copied, tmp_path / "run", **FEW, prefix=CHIP)
    np.testing.assert_array_equal(own["scan/counts"].to_numpy(), load_truth(scan)["counts_sum"])
    with pytest.raises(ConfigError, match="unknown chip 'Module0_VP3-2'"):
        process(copied, tmp_path / "run", **FEW, prefix="Module0_VP3-2")


def test_frames_that_cannot_be_read_stop_nothing(scan, copied, tmp_path):
    def spoil(threshold, acquisition, content):
        path = copied / f"{CHIP}_ECS_data_ST_2s621ms_THR_{threshold}_{acquisition}.csv"
        text = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content(text))

    spoil(1480, 0, None)
    spoil(1486, 0, lambda text: b"")
    spoil(1492, 1, lambda text: text[: len(text) // 3])
    spoil(1498, 0, lambda text: text.replace(b"\n", b",1\n"))
    spoil(1504, 1, lambda text: b"row,of,names\n" + text)
    spoil(1510, 0, lambda text: b"64" + text[1:])
    # a threshold of which nothing is left
    spoil(1516, 0, lambda text: text[:1000])
    spoil(1516, 1, None)
    own = process(copied, tmp_path / "run", fit={"minimum_counts": 450})
    left = own["scan/frames"].to_polars().filter(pl.col("status") != "good")
    assert left.select("threshold", "acquisition", "status").rows() == [
        (1480, 0, "missing"), (1486, 0, "empty file"), (1492, 1, "truncated"), (1498, 0, "not square"),
        (1504, 1, "text"), (1510, 0, "out of range"), (1516, 0, "truncated"), (1516, 1, "missing"),
    ]  # fmt: skip
    assert (left["reason"] != "").all()
    points = own["scan/points"].to_polars()
    assert points["n_good"].to_list() == [1, 1, 1, 1, 1, 1, 0, *([2] * 14)]
    truth = load_truth(scan)
    np.testing.assert_array_equal(own["scan/counts"].to_numpy()[7:], truth["counts_sum"][7:])
    assert abs(bias_of(own, truth)) < 0.01


def test_thresholds_and_acquisitions_can_be_chosen(scan, tmp_path):
    wanted = {"threshold": [1480, 1600, 12], "acquisitions": 3}
    own = process(scan, tmp_path / "run", **FEW, scan=wanted)
    frames = own["scan/frames"].to_polars()
    assert list(own["scan/counts"].value.coordinates["threshold"]) == list(range(1480, 1601, 12))
    missing = frames.filter(pl.col("status") == "missing")
    assert missing["acquisition"].unique().to_list() == [2]
    assert missing["threshold"].to_list() == list(range(1480, 1601, 12))
    excluded = frames.filter(pl.col("status") == "excluded")
    assert set(excluded["threshold"]) == set(range(1486, 1600, 12))
    assert set(excluded["reason"]) == {"threshold outside the scan that was asked for"}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("temperature > 3", "unknown variable 'temperature'"),
        ("thr == 1494 and", "thr == 1494 and"),
        ("__import__('os').system('true')", "cannot have a call"),
    ],
)
def test_a_condition_that_is_wrong_is_refused_before_anything_is_read(scan, tmp_path, condition, message):
    with pytest.raises(ConfigError) as error:
        process(scan, tmp_path / "run", scan={"exclude": condition})
    assert message in str(error.value)
    assert "thr, acq" in str(error.value) or "There is" in str(error.value)
    assert not (tmp_path / "run" / "products").exists()


def test_folders_without_frames_are_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no file found"):
        process(empty, tmp_path / "run")
    with pytest.raises(InputError, match="no such file or folder"):
        process(tmp_path / "nowhere", tmp_path / "run")


def test_folders_without_frames_beside_a_scan_do_no_harm(copied, tmp_path):
    parent = tmp_path / "parent"
    (parent / "empty").mkdir(parents=True)
    copied.rename(parent / "warm")
    (parent / "warm" / "notes.txt").write_text("nothing")
    options = ("--no-plots", "-q", "--set", "fit.minimum_counts=600")
    run("process", parent, "-o", tmp_path / "run", *options)
    (used,) = open_run(tmp_path / "run").record["inputs"]
    assert used["status"] == "used"
    assert used["path"].endswith("warm")


def test_results_as_json_and_the_exit_status(scan, copied, tmp_path):
    (copied / f"{CHIP}_Matrix_Mask.csv").unlink()
    options = ("--no-plots", "-q", "--set", "fit.minimum_counts=600")
    told = json.loads(
        run("process", copied, "-o", tmp_path / "run", "--no-plots", "--json", *options[2:]).output
    )
    assert told["detector"] == "velo"
    assert {check["name"] for check in told["checks"]} >= {
        "frames",
        "thresholds",
        "mask",
        "baseline",
        "convergence",
    }
    labels = [entry["label"] for entry in told["summary"]]
    assert "gain K, mean of good pixels" in labels
    assert told["inputs"][0]["status"] == "used"
    assert any(path.endswith("results_collection.csv") for path in map(str, told["exports"]))
    result = CliRunner().invoke(
        cli, ["process", str(copied), "-o", str(tmp_path / "run"), *options, "--fail-on", "warn"]
    )
    assert isinstance(result.exception, CheckFailedError)
    assert result.exception.exit_status == 4
    assert "there is no file of the mask" in str(result.exception)
    assert "bad" not in {check["verdict"] for check in told["checks"]}
    run("process", copied, "-o", tmp_path / "run", *options, "--fail-on", "bad")
