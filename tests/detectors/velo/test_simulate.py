"""Simulated scans: do they look like real ones byte by byte, and do they hold what their truth says."""

from __future__ import annotations

import json
import lzma
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from firstlight.detectors.velo.simulate import (
    load_truth,
    simulate,
    simulate_counts,
    simulate_noise_scan,
    truth_of,
)
from firstlight.detectors.velo.simulation.chip import (
    FRAME_FAULTS,
    LINES_WITH_K_BETA,
    PIXEL_FAULTS,
    chosen_faults,
    stream,
    trim_law,
)
from firstlight.detectors.velo.simulation.kernels import draw, write_text
from firstlight.detectors.velo.simulation.noise import counter_states, pack
from firstlight.errors import ConfigError, InputError

PREFIX = "Module0_VP3-1"
NAME = re.compile(r"Module0_VP3-1_ECS_data_ST_2s621ms_THR_(\d+)_(\d+)\.csv")
ALL = (*FRAME_FAULTS, *PIXEL_FAULTS, "strange_columns")
SEED = 20
SHUTTER = 2.621


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return a small scan with every fault, and its truth."""
    (folder,) = simulate(
        tmp_path_factory.mktemp("scan"),
        SEED,
        start=1480,
        stop=1576,
        n_thresholds=9,
        acquisitions=6,
        faults=ALL,
    )
    return folder, load_truth(folder)


@pytest.fixture(scope="module")
def sample(sample_data):
    """Return file names and some file contents of the sample scan."""
    archive = sample_data / "velo" / "synthetic_fe55_scan_dev.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no sample scan in {sample_data}")
    names, contents = [], {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if not name.endswith(".csv"):
                continue
            names.append(name)
            if "THR" not in name or "THR_1495_2" in name:
                file = tar.extractfile(member)
                assert file is not None
                contents[name] = file.read()
    return names, contents


def frame_path(folder, threshold, acquisition):
    return folder / f"{PREFIX}_ECS_data_ST_2s621ms_THR_{threshold}_{acquisition}.csv"


def read_frame(folder, threshold, acquisition):
    return np.loadtxt(frame_path(folder, threshold, acquisition), delimiter=",", dtype=np.int64)


def events_of(truth):
    return json.loads(str(truth["events"]))


def faulty(truth):
    return {tuple(w) for key, found in events_of(truth).items() if key != "allbad_threshold" for w in found}


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# layout


def test_files_have_the_layout_of_the_sample(sample, tmp_path):
    names, contents = sample
    (folder,) = simulate(tmp_path, 3, start=1495, n_thresholds=1, acquisitions=3, faults="none")
    ours = bytes_of(folder)
    assert set(contents) <= set(ours)
    for name, sampled in contents.items():
        if re.search("THR|Trim.csv", name):
            # numbers without leading zeros: everything else must be the same
            forms = [re.sub(rb"\d+", b"9", text) for text in (sampled, ours[name])]
        else:
            forms = [re.sub(rb"\d", b"9", text) for text in (sampled, ours[name])]
        assert forms[0] == forms[1], name
        assert re.search(rb"\b0\d", ours[name]) is None or "Noise" in name
    frames = [name for name in names if "THR" in name]
    assert all(NAME.fullmatch(name) for name in frames)
    assert {name for name in ours if "THR" in name} == {
        f"{PREFIX}_ECS_data_ST_2s621ms_THR_1495_{number}.csv" for number in range(3)
    }


def test_masked_pixels_in_the_equalisation_are_zeros_of_the_same_width(scan):
    folder, truth = scan
    masked = truth["mask"] > 0
    for name, zero in (
        ("Trim0_Noise_Width", b"00.00"),
        ("TrimBest_Noise_Predict", b"0000"),
        ("Control_Noise_Mean", b"0000.00"),
        ("Matrix_Trim", b"0"),
    ):
        lines = (folder / f"{PREFIX}_{name}.csv").read_bytes().splitlines()
        fields = np.array([re.split(b", ?", line) for line in lines])
        assert (fields[masked] == zero).all(), name
        if "Matrix" not in name:
            assert {len(field) for field in fields.ravel()} == {len(zero)}, name
            assert (fields[~masked] != zero).all(), name


def test_undefined_width_is_written_as_c_does(scan):
    folder, truth = scan
    text = (folder / f"{PREFIX}_Trim0_Noise_Width.csv").read_bytes()
    assert text.count(b"  nan") == truth["undefined_widths"].size == 3
    width = np.loadtxt(folder / f"{PREFIX}_Trim0_Noise_Width.csv", delimiter=",")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(width)), np.sort(truth["undefined_widths"]))


def test_text_of_a_frame():
    counts = np.array([[0, 9, 10], [63, 7, 30]], dtype=np.uint8)
    text = np.empty(18, dtype=np.uint8)
    assert text[: write_text(counts, text)].tobytes() == b"0,9,10\n63,7,30\n"


# reproducibility


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    options = {"start": 1500, "stop": 1530, "n_thresholds": 4, "acquisitions": 5}
    runs = [
        bytes_of(simulate(tmp_path / str(number), seed, threads=threads, **options)[0])
        for number, (seed, threads) in enumerate(((5, 1), (5, 3), (6, 2)))
    ]
    assert runs[0] == runs[1]
    assert (tmp_path / "0/synthetic_warmFe55_truth.npz").read_bytes() == (
        tmp_path / "1/synthetic_warmFe55_truth.npz"
    ).read_bytes()
    common = set(runs[0]) & set(runs[2])
    different = {name for name in common if runs[0][name] != runs[2][name]}
    assert common - different <= {f"{PREFIX}_Matrix_TP.csv"} | {
        name for name in common if not any(runs[0][name].strip(b"0,\n"))
    }


def test_a_frame_does_not_depend_on_the_others(tmp_path):
    (many,) = simulate(tmp_path / "many", 5, start=1500, stop=1530, step=10, acquisitions=4, faults="none")
    (few,) = simulate(tmp_path / "few", 5, start=1510, stop=1510, step=7, acquisitions=2, faults="none")
    (broken,) = simulate(
        tmp_path / "broken", 5, start=1500, stop=1530, step=10, acquisitions=4, faults="missing"
    )
    many, few, broken = bytes_of(many), bytes_of(few), bytes_of(broken)
    assert all(many[name] == content for name, content in few.items())
    assert len(broken) == len(many) - 1
    assert all(many[name] == content for name, content in broken.items())


def test_older_frames_are_replaced(tmp_path):
    for acquisitions in (3, 2):
        (folder,) = simulate(
            tmp_path, 5, start=1590, stop=1600, step=10, acquisitions=acquisitions, faults="none"
        )
    assert len(list(folder.glob("*THR*"))) == 4


# truth


def test_truth_is_what_the_good_frames_add_up_to(scan):
    folder, truth = scan
    left_out = faulty(truth)
    total = np.zeros_like(truth["counts_sum"])
    saturated = np.zeros((256, 256), dtype=int)
    number = np.zeros(9, dtype=int)
    for index, threshold in enumerate(truth["thresholds"]):
        for acquisition in range(6):
            if (threshold, acquisition) not in left_out:
                frame = read_frame(folder, threshold, acquisition)
                assert frame.shape == (256, 256)
                assert frame.max() <= 63
                total[index] += frame
                saturated += frame == 63
                number[index] += 1
    np.testing.assert_array_equal(truth["counts_sum"], total)
    np.testing.assert_array_equal(truth["n_saturated"], saturated)
    np.testing.assert_array_equal(truth["good_acq"], number)
    assert truth["acquisitions"] == 6
    assert truth["shutter_time"] == SHUTTER


def test_truth_has_the_keys_of_the_sample(sample_data, scan):
    path = sample_data / "velo" / "synthetic_fe55_scan_dev_truth.npz"
    if not path.is_file():
        pytest.skip("no truth of the sample scan")
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) <= set(scan[1])
        for name in file.files:
            assert file[name].ndim == scan[1][name].ndim, name
        # every list that the sample has
        assert set(json.loads(str(file["events"]))) <= set(events_of(scan[1]))


def test_counts_scatter_around_the_rates_as_poisson(scan):
    _, truth = scan
    chip = truth_of(SEED, rate=3.2, faults=ALL)
    np.testing.assert_array_equal(chip.mask, truth["mask"])
    live = truth["good_acq"] * SHUTTER
    mean = np.stack([chip.rates(t) for t in truth["thresholds"]]) * live[:, np.newaxis, np.newaxis]
    usable = mean > 1.0
    usable[:, truth["noise_rate"] > 5] = False  # counters that stop at 63 are another test
    pull = (truth["counts_sum"][usable] - mean[usable]) / np.sqrt(mean[usable])
    assert usable.sum() > 300_000
    assert abs(pull.mean()) * np.sqrt(pull.size) < 4
    # variance of the squared pull is 2 + 1/mean
    error = np.sqrt((2 + 1 / mean[usable]).sum()) / pull.size
    assert abs((pull**2).mean() - 1) < 4 * error
    few = (mean > 0) & (mean < 1.0)
    expected = mean[few].sum()
    assert abs(truth["counts_sum"][few].sum() - expected) < 4 * np.sqrt(expected)
    assert (truth["counts_sum"][mean == 0] == 0).all()


def test_rate_is_the_integral_of_the_spectrum():
    chip = truth_of(8, faults="none", k_beta=True)
    row, column = 125, 150
    spread, step, slope = (m[row, column] for m in (chip.width, chip.step, chip.slope))
    grid = np.arange(1300.0, 1700.0, 0.01)
    for threshold in (1480.0, 1530.0, 1545.0, 1552.5, 1570.0):
        expected = 0.0
        for energy, share in LINES_WITH_K_BETA:
            position = chip.base[row, column] + energy / 3.69 / chip.gain[row, column]
            # density above the threshold: a peak, and a shelf that ends at it, both smeared
            peak = stats.norm.pdf(grid, position, spread)
            shelf = stats.norm.sf(grid, position, spread)
            density = share * (step * peak + slope * shelf)
            expected += density[grid >= threshold].sum() * 0.01
        assert chip.rates(threshold)[row, column] == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_rate_far_above_and_far_below_the_line():
    chip = truth_of(8, faults="none")
    np.testing.assert_allclose(
        chip.rates(1300.0), chip.step + chip.slope * (chip.position - 1300.0), rtol=1e-12
    )
    assert (chip.rates(1900.0) >= 0).all()
    assert chip.rates(1900.0).max() < 1e-30


@pytest.mark.parametrize("mean", [0.03, 2.3, 18.0, 64.0])
def test_readings_are_poisson_and_stop_at_63(mean):
    size = 200_000
    counts = np.empty(size, dtype=np.uint8)
    flat = np.full(size, mean)
    draw(flat, np.exp(-flat), stream(31, "test").random(size), counts)
    expected = stats.poisson.pmf(np.arange(63), mean) * size
    expected = np.append(expected, stats.poisson.sf(62, mean) * size)
    observed = np.bincount(counts, minlength=64)
    assert observed.size == 64
    common = expected > 8
    observed = np.append(observed[common], observed[~common].sum())
    expected = np.append(expected[common], max(expected[~common].sum(), 1e-9))
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1]
    square = ((observed - expected) ** 2 / expected).sum()
    assert 1e-3 < stats.chi2.sf(square, expected.size - 1) < 0.999
    if mean < 20:
        assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / size))
        assert counts.var() == pytest.approx(mean, abs=4 * np.sqrt((mean + 2 * mean**2) / size))


def test_a_counter_without_light_and_one_with_too_much():
    mean = np.array([0.0, 5000.0])
    counts = np.empty(2, dtype=np.uint8)
    draw(mean, np.exp(-mean), np.array([1 - 2.0**-53, 0.0]), counts)
    assert counts.tolist() == [0, 63]


# faults of frames


def test_every_fault_is_where_the_truth_says(scan):
    folder, truth = scan
    events = events_of(truth)
    open_ = truth["mask"][:, -1] == 0
    assert all(events[name] for name in events)
    for threshold, acquisition in events["bad"]:
        column = read_frame(folder, threshold, acquisition)[:, -1]
        assert column[open_].mean() == truth["bad_cut"] == 4697 / 256
    assert {a for t, a in events["bad"] if t == events["allbad_threshold"]} == set(range(6))
    assert len(events["bad"]) == 7
    for threshold, acquisition in events["strange"]:
        column = read_frame(folder, threshold, acquisition)[:, -1]
        assert column[open_].mean() > 25
    for threshold, acquisition in events["empty"]:
        line = b",".join([b"0"] * 256) + b"\n"
        assert frame_path(folder, threshold, acquisition).read_bytes() == 256 * line
    for threshold, acquisition in events["truncated"]:
        content = frame_path(folder, threshold, acquisition).read_bytes()
        assert content.count(b"\n") < 255
        assert not content.endswith(b"\n")
    for threshold, acquisition in events["text"]:
        content = frame_path(folder, threshold, acquisition).read_bytes()
        assert content.count(b"ERR") == 1
        assert content.count(b",") == 255 * 256
        assert content.endswith(b"\n")
        with pytest.raises(ValueError, match="ERR"):
            read_frame(folder, threshold, acquisition)
    for threshold, acquisition in events["not_square"]:
        assert read_frame(folder, threshold, acquisition).shape == (256, 255)
    for threshold, acquisition in events["condition"]:
        frame = read_frame(folder, threshold, acquisition)
        index = truth["thresholds"].tolist().index(threshold)
        usual = truth["counts_sum"][index].mean() / truth["good_acq"][index]
        assert frame.mean() > 2 * usual + 1
        assert not frame[truth["mask"] > 0].any()
        assert f"(thr == {threshold} and acq == {acquisition})" in str(truth["condition"])
    missing = {tuple(where) for where in events["missing"]}
    there = {tuple(map(int, NAME.fullmatch(path.name).groups())) for path in folder.glob("*THR*")}
    assert there == {(int(t), a) for t in truth["thresholds"] for a in range(6)} - missing
    assert (truth["good_acq"] > 0).sum() == 8


def test_good_frames_have_no_corrupted_column(scan):
    folder, truth = scan
    left_out = faulty(truth)
    for threshold in truth["thresholds"]:
        for acquisition in range(6):
            if (threshold, acquisition) not in left_out:
                column = read_frame(folder, threshold, acquisition)[:, -1]
                assert abs(column.mean() - truth["bad_cut"]) > 1


@pytest.mark.parametrize("fault", FRAME_FAULTS)
def test_each_fault_can_be_had_alone(fault, tmp_path):
    (folder,) = simulate(tmp_path, 4, start=1580, stop=1600, step=10, acquisitions=2, faults=(fault,))
    truth = load_truth(folder)
    names = {"bad_threshold": "bad", "bad_columns": "bad", "light_leak": "condition"}
    events = events_of(truth)
    found = {name for name, where in events.items() if where and name != "allbad_threshold"}
    assert found == {names.get(fault, fault)}
    assert (events["allbad_threshold"] is not None) == (fault == "bad_threshold")
    assert not truth["mask"].any()
    assert truth["noisy"].size == truth["silent"].size == 0
    assert truth["good_acq"].sum() == 6 - len(faulty(truth))


def test_faults_that_have_no_room_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no room for all faults"):
        simulate(tmp_path, n_thresholds=2, acquisitions=2)
    assert not list(tmp_path.rglob("*.csv"))


# faults of pixels


def test_pixels_do_what_the_truth_says(scan):
    _, truth = scan
    counts = truth["counts_sum"].reshape(9, -1)
    mask = truth["mask"].ravel()
    assert {1: 60, 2: 40, 3: 40, 5: 18}.items() <= dict(
        zip(*np.unique(mask, return_counts=True), strict=True)
    ).items()
    assert 20 <= (mask == 4).sum() <= 40
    assert truth["silent"].size == 30
    assert truth["noisy"].size == 40
    assert truth["hot"].tolist() == truth["noisy"][:5].tolist()
    lists = [truth[name] for name in ("silent", "noisy", "undefined_widths")]
    assert np.unique(np.concatenate(lists)).size == 73
    assert not mask[np.concatenate(lists)].any()
    assert not counts[:, mask > 0].any()
    assert not counts[:, truth["silent"]].any()
    np.testing.assert_array_equal(counts[:, truth["hot"]], 63 * truth["good_acq"][:, np.newaxis] * np.ones(5))
    np.testing.assert_array_equal(truth["n_saturated"].ravel()[truth["hot"]], truth["good_acq"].sum())
    # above the line hardly more than the constant rate is left
    noisy = truth["noisy"][5:]
    rate = truth["noise_rate"].ravel()[noisy]
    assert ((rate >= 2) & (rate <= 10)).all()
    index = np.flatnonzero(truth["good_acq"])[-1]
    mean = truth_of(SEED, rate=3.2, faults=ALL).rates(truth["thresholds"][index]).ravel()[noisy]
    assert (mean >= rate).all()
    mean = mean * truth["good_acq"][index] * SHUTTER
    pull = (counts[index, noisy] - mean) / np.sqrt(mean)
    assert abs(pull.mean()) < 4 / np.sqrt(35)
    assert 1e-4 < stats.chi2.sf((pull**2).sum(), 35) < 1 - 1e-4


def test_codes_of_the_mask_follow_the_files(scan):
    folder, truth = scan
    read = {
        name: np.loadtxt(folder / f"{PREFIX}_{name}.csv", delimiter=",")
        for name in (
            "Trim0_Noise_Mean",
            "TrimF_Noise_Mean",
            "TrimBest_Noise_Predict",
            "Matrix_Trim",
            "Matrix_Mask",
        )
    }
    first, last = read["Trim0_Noise_Mean"], read["TrimF_Noise_Mean"]
    mask = read["Matrix_Mask"]
    np.testing.assert_array_equal(mask, truth["mask"])
    np.testing.assert_array_equal(mask == 1, (first == 0) & (last == 0))
    np.testing.assert_array_equal(mask == 2, (first == 0) & (last > 0))
    np.testing.assert_array_equal(mask == 3, (first > 0) & (last == 0))
    # the rule of the equalisation, from what the files say
    target = (int(first[first > 0].mean()) + int(last[last > 0].mean())) // 2
    both = (first > 0) & (last > 0)
    per_trim = np.where(both, last - first, 16.0) / 16
    trim = np.rint((target - first) / per_trim)
    predicted = first + np.rint(trim * per_trim)
    outside = both & ((trim < 0) | (trim > 15))
    np.testing.assert_array_equal(mask == 4, outside)
    np.testing.assert_array_equal(mask == 5, both & ~outside & (abs(predicted - target) > 25))
    good = mask == 0
    np.testing.assert_array_equal(read["Matrix_Trim"], np.where(good, trim, 0))
    np.testing.assert_array_equal(read["TrimBest_Noise_Predict"], np.where(good, predicted, 0))


def test_dead_columns(tmp_path):
    chip = truth_of(9, dead_columns=(3, 200))
    assert chip.dead_columns == (3, 200)
    assert not chip.rates(1400.0)[:, [3, 200]].any()
    assert not np.isin(np.concatenate([chip.silent, chip.noisy]) % 256, (3, 200)).any()
    (folder,) = simulate(
        tmp_path, 9, start=1500, n_thresholds=1, acquisitions=2, faults="none", dead_columns=[7]
    )
    truth = load_truth(folder)
    assert truth["dead_columns"].tolist() == [7]
    assert not truth["counts_sum"][:, :, 7].any()
    assert truth["counts_sum"][:, :, 8].any()


def test_gain_drift(tmp_path):
    drift = 0.04
    (folder,) = simulate(
        tmp_path, 9, start=1530, stop=1560, step=15, acquisitions=3, faults="none", gain_drift=drift
    )
    truth, chip = load_truth(folder), truth_of(9, rate=3.2, faults="none")
    assert truth["gain_drift"] == drift
    for index, threshold in enumerate(truth["thresholds"]):
        done = (index * 3 + np.arange(3)) / 8
        expected = sum(chip.rates(threshold, gain=1 + drift * (d - 0.5)) for d in done).sum() * SHUTTER
        found = truth["counts_sum"][index].sum()
        assert abs(found - expected) < 4 * np.sqrt(expected)
        if index != 1:
            assert abs(found - 3 * chip.rates(threshold).sum() * SHUTTER) > 20 * np.sqrt(expected)
    later = chip.position - chip.base
    np.testing.assert_allclose(later, 5895 / 3.69 / chip.gain)


# the chip


def test_chip_has_the_numbers_of_the_specification():
    chip = truth_of(12)
    good = chip.mask == 0
    n = np.sqrt(good.sum())
    assert chip.trim0[good].mean() == pytest.approx(1298, abs=5 * 28 / n + 0.1)
    assert chip.trim0[good].std() == pytest.approx(28, rel=0.02)
    assert chip.trim_range[good].mean() == pytest.approx(232.5, abs=5 * 9 / n)
    assert 4.0 < chip.base[good].std() < 5.0
    assert chip.gain[good].mean() == pytest.approx(13.2, abs=5 * 0.45 / n)
    assert chip.gain[:, 1::2].mean() / chip.gain[:, ::2].mean() == pytest.approx(1.01 / 0.99, abs=5e-4 * 3)
    edge = np.isin(np.arange(256) % 16, (0, 15))
    for width in (chip.width, chip.noise_width):
        assert width[edge].mean() / width[~edge].mean() == pytest.approx(1.1, abs=0.005)
    assert chip.width[~edge].mean() == pytest.approx(4.5, abs=0.02)
    assert chip.width.min() >= 2.5
    np.testing.assert_allclose(chip.position, chip.base + 5895 / 3.69 / chip.gain)
    # published: 1.0 hits/s at 1480 DAC where the source is brightest
    assert chip.rates(1480.0)[115:135, 140:160].mean() == pytest.approx(1.0, abs=0.06)
    assert chip.step[125, 150] / 0.45 == pytest.approx(1.01, abs=0.25)
    assert chip.step[0, 0] < 0.1 * chip.step[125, 150]


def test_trim_law_is_the_published_one():
    span = float(np.polyval((0.02758, -0.6792, 19.48, 0), 15))
    assert span == pytest.approx(232.5, abs=0.1)
    assert 1296 + span * trim_law(8) == pytest.approx(1422.5, abs=0.05)
    assert trim_law(0) == 0
    assert trim_law(15) == 1


def test_legacy_prediction_is_low_and_the_control_scan_right():
    chip = truth_of(13)
    good = chip.mask == 0
    assert -11.5 < (chip.predicted_mean - chip.base)[good].mean() < -10.0
    control = (chip.control_mean - chip.base)[good]
    assert abs(control.mean()) < 0.01
    assert control.std() == pytest.approx(0.35, rel=0.02)
    bias = np.median(5895 / 3.69 / (chip.position - chip.predicted_mean)[good] / chip.gain[good])
    assert 0.91 < bias < 0.93
    assert abs((chip.trim0_mean - chip.trim0)[good].mean() + 0.5) < 0.01


def test_cold_chip_is_the_same_chip(tmp_path):
    warm, cold = truth_of(14, "warm"), truth_of(14, "cold")
    good = (warm.mask == 0) & (cold.mask == 0)
    assert warm.target[good].mean() == pytest.approx(121.2, abs=0.2)
    assert cold.target[good].mean() == pytest.approx(112.1, abs=0.2)
    assert np.corrcoef(warm.gain[good], cold.gain[good])[0, 1] > 0.98
    assert warm.bad_cut == 18.34765625
    assert cold.bad_cut == pytest.approx(17.6941176471, abs=1e-9)
    assert set(cold.silent) & set(warm.silent)
    folders = simulate(
        tmp_path,
        14,
        labels=("warm", "cold"),
        start=1550,
        stop=1600,
        step=50,
        acquisitions=3,
        faults="bad_columns",
    )
    assert [folder.name for folder in folders] == ["synthetic_warmFe55", "synthetic_coldFe55"]
    assert [str(load_truth(folder)["label"]) for folder in folders] == ["warm", "cold"]
    for folder in folders:
        truth = load_truth(folder)
        (threshold, acquisition), *_ = events_of(truth)["bad"]
        column = read_frame(folder, threshold, acquisition)[:, -1]
        # nothing is masked in scans without that fault
        assert column.sum() in (4697, 4512)
        assert column.mean() == truth["bad_cut"]


def test_second_line():
    single, double = truth_of(15, faults="none"), truth_of(15, faults="none", k_beta=True)
    np.testing.assert_array_equal(single.position, double.position)
    assert single.lines == ((5895.0, 1.0),)
    own = truth_of(15, faults="none", lines=[(5895.0, 1.0)])
    np.testing.assert_array_equal(own.rates(1550.0), single.rates(1550.0))
    # above K-alpha only K-beta is left, with 12 % of the rate
    assert (
        double.rates(1549.0).sum() / double.rates(1480.0).sum()
        > single.rates(1549.0).sum() / single.rates(1480.0).sum()
    )
    far = double.position + 25 < 1570
    ratio = double.rates(1556.0)[far].sum() / single.rates(1556.0)[far].sum()
    assert ratio > 1.5


# counts without files


def test_summed_counts_are_those_of_many_frames():
    chip = truth_of(16)
    thresholds = [1490.0, 1545.0, 1600.0]
    counts = simulate_counts(chip, thresholds, acquisitions=50, seed=3)
    assert counts.shape == (3, 256, 256)
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(
        counts, simulate_counts(chip, thresholds, acquisitions=50, seed=3, threads=1)
    )
    mean = np.stack([chip.rates(t) for t in thresholds]) * 50 * SHUTTER
    quiet = (mean > 5) & (chip.noise_rate < 1)
    pull = (counts[quiet] - mean[quiet]) / np.sqrt(mean[quiet])
    assert abs(pull.mean()) * np.sqrt(pull.size) < 4
    assert pull.var() == pytest.approx(1, abs=4 * np.sqrt(2.2 / pull.size))
    assert (counts.reshape(3, -1)[:, chip.hot] == 63 * 50).all()
    assert not counts[mean == 0].any()
    other = simulate_counts(chip, thresholds, acquisitions=50, seed=4)
    pull = (counts[quiet] - other[quiet]) / np.sqrt(2 * mean[quiet])
    assert pull.var() == pytest.approx(1, abs=4 * np.sqrt(2.2 / pull.size))


def test_readings_that_stop_are_cut_in_sums_too():
    chip = truth_of(16, faults="none", rate=40.0)
    counts = simulate_counts(chip, [1560.0, 1540.0], acquisitions=30)
    mean = chip.rates(1540.0) * SHUTTER
    bright = mean > 50
    assert bright.sum() > 10_000
    assert counts[1].max() <= 30 * 63
    values = np.arange(64)
    for low, high in ((30, 31), (62, 63), (80, 81)):
        some = (mean > low) & (mean < high)
        expected = np.minimum(values, 63) @ stats.poisson.pmf(values, mean[some][:, np.newaxis]).T
        expected = expected + 63 * stats.poisson.sf(63, mean[some])
        found = counts[1][some] / 30
        assert found.mean() == pytest.approx(expected.mean(), abs=5 * np.sqrt(high / 30 / some.sum()))


# sizes


def test_default_scan_is_small(tmp_path):
    (folder,) = simulate(tmp_path, 2)
    truth = load_truth(folder)
    np.testing.assert_array_equal(truth["thresholds"], np.arange(1480, 1601, 4))
    assert truth["acquisitions"] == 8
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 60e6
    numbers = {name: len(found) for name, found in events_of(truth).items() if isinstance(found, list)}
    assert numbers == {
        "bad": 14, "strange": 0, "missing": 3, "empty": 2, "truncated": 2, "text": 1, "not_square": 1, "condition": 2,
    }  # fmt: skip
    assert len(list(folder.iterdir())) == 31 * 8 - 3 + 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "huge"}, "huge"),
        ({"labels": ("hot",)}, "hot"),
        ({"faults": ("missin",)}, "missin"),
        ({"shutter": "2.6s"}, "open time"),
        ({"shutter": "0s000ms"}, "open time"),
        ({"start": 1600, "stop": 1480}, "thresholds"),
        ({"n_thresholds": 0}, "thresholds"),
        ({"n_thresholds": 50, "step": 4}, "not 50"),
        ({"acquisitions": 0}, "acquisitions"),
        ({"gain_drift": 2.0}, "gain_drift"),
        ({"rate": 0.0}, "rate"),
        ({"dead_columns": (256,)}, "256"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_scans_are_refused(options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        simulate(tmp_path, **options)
    assert not list(tmp_path.rglob("*.csv"))


def test_names_of_faults():
    assert chosen_faults("all") == {*FRAME_FAULTS, *PIXEL_FAULTS}
    assert chosen_faults("none") == frozenset()
    assert chosen_faults("hot") == {"hot"}
    assert truth_of(3, faults="hot").noisy.size == 5
    assert truth_of(3, faults=("noisy",)).noisy.size == 35
    assert truth_of(3, faults=("noisy",)).hot.size == 0


def test_folder_without_truth(tmp_path):
    with pytest.raises(InputError, match="no truth file"):
        load_truth(tmp_path)


# noise scans


def decode(content):
    """Return counts (point, row, column) of a dump, by the rule, bit by bit."""
    state, hits = 0, {0: 0}
    state = 1
    for number in range(1, 64):
        hits[state] = number
        top, next_ = state >> 5 & 1, state >> 4 & 1
        state = ((state << 1) & 63) | (top ^ next_)
    table = np.array([hits[s] for s in range(64)], dtype=np.uint8)
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8)).reshape(-1, 6)
    states = bits @ (1 << np.arange(5, -1, -1))
    return table[states].reshape(-1, 256, 256).transpose(0, 2, 1)


def test_states_of_the_counter():
    states = counter_states()
    assert states[:9].tolist() == [0, 1, 2, 4, 8, 16, 33, 3, 6]
    assert np.unique(states).size == 64


def test_real_dump_survives_decoding_and_packing(sample_data):
    path = sample_data / "velo/velopix_noise_scan/ECS_Scan_Trim0_1360_2_55_repeatA.dat.xz"
    if not path.is_file():
        pytest.skip("no real noise scan")
    content = lzma.decompress(path.read_bytes())
    counts = decode(content)
    assert counts.sum(dtype=np.int64) == 43_242_739
    assert pack(counts) == content


def test_noise_scan_is_what_its_truth_says(tmp_path):
    (path,) = simulate_noise_scan(tmp_path, 21)
    assert path.name == "Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_1of1.dat"
    assert path.stat().st_size == 55 * 49_152
    truth = load_truth(tmp_path / "Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_truth.npz")
    counts = decode(path.read_bytes())
    np.testing.assert_array_equal(counts.sum(axis=0), truth["counts_sum"])
    np.testing.assert_array_equal((counts == 63).sum(axis=0), truth["n_saturated"])
    np.testing.assert_array_equal(truth["thresholds"], np.arange(1360, 1251, -2))
    responds = truth["amplitude"] > 0
    assert (~responds).sum() == 100
    assert not truth["counts_sum"][~responds].any()
    # as in the real scan most pixels stop at 63, for some 7 points, and a third is cut off at the low end
    saturates = truth["n_saturated"] > 0
    assert saturates.mean() > 0.9
    assert 6 < truth["n_saturated"][saturates].mean() < 8
    assert 0.2 < (counts[-1] > 0).mean() < 0.4
    # readings below the stop follow the rate
    place = truth["thresholds"][:, np.newaxis, np.newaxis]
    mean = truth["amplitude"] * np.exp(-0.5 * ((place - truth["mean"]) / truth["width"]) ** 2)
    some = (mean > 5) & (mean < 20)
    pull = (counts[some] - mean[some]) / np.sqrt(mean[some])
    assert abs(pull.mean()) * np.sqrt(pull.size) < 4
    assert pull.var() == pytest.approx(1, abs=0.01)
    assert truth["width"][1:15].mean() == pytest.approx(8.1, abs=0.05)
    assert (counts[mean > 130] == 63).all()
    stops = stats.poisson.sf(62, mean[mean > 30])
    expected = truth["n_saturated"].sum()
    assert abs(stops.sum() - expected) < 4 * np.sqrt((stops * (1 - stops)).sum())


def test_moments_of_a_whole_scan_are_those_of_the_files(tmp_path):
    chip = truth_of(22)
    (path,) = simulate_noise_scan(tmp_path, chip=chip, first=1440, step=2, n_points=141, prefix=PREFIX)
    assert path.name == "Module0_VP3-1_ECS_Scan_Trim0_1440_2_141_1of1.dat"
    counts = decode(path.read_bytes()).astype(np.float64)
    place = np.arange(1440, 1440 - 2 * 141, -2.0)
    total = np.maximum(counts.sum(axis=0), 1)
    mean = np.tensordot(place, counts, 1) / total
    width = np.sqrt(np.maximum(np.tensordot(place**2, counts, 1) / total - mean**2, 0))
    good = (chip.mask == 0) & ~np.isnan(chip.trim0_width)
    # both scatter with some 0.35 DAC, and the file is cut to whole numbers
    difference = (chip.trim0_mean - mean)[good]
    assert difference.mean() == pytest.approx(-0.5, abs=0.03)
    assert difference.std() < 0.75
    assert (chip.trim0_width - width)[good].mean() == pytest.approx(0, abs=0.06)


def test_parts_of_a_noise_scan_add_up(tmp_path):
    options = {"trim": 15, "first": 1600, "step": 8, "n_points": 16, "prefix": PREFIX}
    parts = simulate_noise_scan(tmp_path / "parts", 23, masks=3, **options)
    (whole,) = simulate_noise_scan(tmp_path / "whole", 23, **options)
    assert [path.name for path in parts] == [
        f"{PREFIX}_ECS_Scan_TrimF_1600_8_16_{k}of3.dat" for k in (1, 2, 3)
    ]
    decoded = [decode(path.read_bytes()) for path in parts]
    seen = sum((counts > 0).astype(int) for counts in decoded)
    assert seen.max() == 1
    assert all((counts > 0).any() for counts in decoded)
    np.testing.assert_array_equal(sum(decoded), decode(whole.read_bytes()))


def test_scan_at_the_chosen_trims_sees_the_baseline(tmp_path):
    scan_, *noise = simulate(
        tmp_path, 24, start=1600, n_thresholds=1, acquisitions=1, faults=PIXEL_FAULTS, noise_scans=True
    )
    assert scan_.is_dir()
    assert [path.name for path in noise] == [
        f"{PREFIX}_ECS_Scan_Trim0_1440_4_71_1of1.dat",
        f"{PREFIX}_ECS_Scan_TrimF_1680_4_76_1of1.dat",
        f"{PREFIX}_ECS_Scan_Control_1500_2_81_1of1.dat",
    ]
    truth = load_truth(scan_)
    counts = decode(noise[2].read_bytes()).astype(np.float64)
    good = truth["mask"] == 0
    mean = np.tensordot(1500 - 2.0 * np.arange(81), counts, 1) / np.maximum(counts.sum(axis=0), 1)
    assert not counts[:, ~good].any()
    assert (mean - truth["base"])[good].mean() == pytest.approx(0, abs=0.02)
    assert (mean - truth["base"])[good].std() < 0.6


@pytest.mark.parametrize("options", [{"trim": 16}, {"step": 0}, {"masks": 0}, {"n_points": 5000}])
def test_impossible_noise_scans_are_refused(options, tmp_path):
    with pytest.raises(ConfigError, match=r"trims are|cannot be"):
        simulate_noise_scan(tmp_path, **options)
