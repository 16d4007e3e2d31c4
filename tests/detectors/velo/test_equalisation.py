"""Equalisation: files, trim rules on real Timepix chips, baselines on a chip with known truth."""

from __future__ import annotations

import tarfile
from dataclasses import fields

import numpy as np
import pytest

from firstlight.detectors.velo.equalisation import (
    ABOUT,
    FILES,
    Equalisation,
    available,
    baseline_by,
    choose,
    compare_rules,
    digest_of,
    prefixes_in,
    read_equalisation,
    read_matrix,
    uncut,
    write_equalisation,
    write_matrix,
)
from firstlight.detectors.velo.timepix import falling_edge, read_s_curve, read_timepix_means
from firstlight.detectors.velo.trims import MASK_CODES, RULES, compute_trims, predict, trim_law
from firstlight.errors import InputError, UsageError

CHIP = "Module0_VP3-1"
TIMEPIX = "velo/timepix_equalisation"


@pytest.fixture(scope="module")
def sample(sample_data, tmp_path_factory):
    """Return a folder with the equalisation files of the simulated scan."""
    folder = tmp_path_factory.mktemp("equalisation")
    with tarfile.open(sample_data / "velo" / "synthetic_fe55_scan_dev.tar.xz") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            content = archive.extractfile(member) if member.isfile() and "_THR_" not in name else None
            if content is not None:
                (folder / name).write_bytes(content.read())
    return folder


@pytest.fixture(scope="module")
def truth(sample_data):
    with np.load(sample_data / "velo" / "synthetic_fe55_scan_dev_truth.npz") as content:
        return {name: content[name] for name in ("base", "mask", "trim")}


@pytest.fixture
def simulated():
    """Return the equalisation of a chip that obeys the cubic law, with its true baseline."""
    rng = np.random.default_rng(91)
    n = 65536
    low, distance = rng.normal(1298, 28, n), rng.normal(232.5, 9, n)
    trim = compute_trims(low, low + distance, "cubic").trim
    base = low + trim_law(trim) * distance
    measured = [values + rng.normal(0, 0.35, n) for values in (low, low + distance, base)]
    cut = [np.floor(values) for values in measured]
    found = Equalisation(
        CHIP,
        mask=np.zeros(n, dtype=np.int8),
        trim=trim,
        trim0_mean=cut[0],
        trimF_mean=cut[1],
        trim0_width=np.full(n, 8.5),
        control_mean=cut[2],
        predicted_mean=predict(cut[0], cut[1], trim, "legacy16", whole=True),
    )
    return found, base


def matrix_text(value="1298", rows=256, columns=256):
    return (", ".join([value] * columns) + "\n") * rows


# --- files


def test_the_sample_is_read_and_written_byte_by_byte(sample, truth, tmp_path):
    found = read_equalisation(sample, CHIP)
    assert found.notes == ()
    assert found.mask.dtype == found.trim.dtype == np.int8
    np.testing.assert_array_equal(found.mask, truth["mask"].ravel())
    np.testing.assert_array_equal(found.trim, truth["trim"].ravel())
    assert found.masked.sum() == 126
    assert np.isnan(found.trim0_mean).sum() == 90
    assert np.isnan(found.control_mean).sum() == 126
    assert found.trim0_mean[:4].tolist() == [1298, 1306, 1290, 1273]
    assert found.control_mean[256 * 255] == pytest.approx(
        float((sample / f"{CHIP}_Control_Noise_Mean.csv").read_text().splitlines()[255].split(",")[0])
    )
    assert "126 masked" in repr(found)
    paths = write_equalisation(tmp_path, found)
    assert len(paths) == 8
    for end in FILES.values():
        name = f"{CHIP}_{end}.csv"
        written, given = (tmp_path / name).read_bytes(), (sample / name).read_bytes()
        if end == "Control_Noise_Mean":
            # missing means are "0.00" there
            given = given.replace(b"000.00", b"0000.00").replace(b" 0.00", b" 0000.00")
            np.testing.assert_array_equal(read_matrix(tmp_path / name), read_matrix(sample / name))
            continue
        if end == "Trim0_Noise_Width":
            again = read_equalisation(tmp_path, CHIP)
            np.testing.assert_array_equal(again.trim0_width, found.trim0_width)
            continue
        assert written == given, end
    pulses = (tmp_path / f"{CHIP}_Matrix_TP.csv").read_text().splitlines()
    assert pulses[255].startswith("1,0,0,")
    assert sum(line.count("1") for line in pulses) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blanks_nan_and_line_ends_are_understood(tmp_path, end):
    path = tmp_path / "x.csv"
    rows = [["08.80", "  nan", " -nan", "0000", *["12.5"] * 252] for _ in range(256)]
    # with a byte-order mark, commas at the ends of lines, and an empty line
    path.write_bytes(("\ufeff" + end.join(", ".join(row) + "," for row in rows) + end + end).encode("utf-8"))
    values = read_matrix(path).reshape(256, 256)
    assert np.isnan(values[:, 1:3]).all()
    np.testing.assert_array_equal(values[:, [0, 3, 4]], np.tile([8.8, 0, 12.5], (256, 1)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (matrix_text(rows=255), "has 255 lines, must have 256"),
        (matrix_text(rows=257), "has 257 lines, must have 256"),
        (matrix_text(columns=255), "line 1 has 255 columns, must have 256"),
        (matrix_text(rows=16) + "1298, 1299\n" + matrix_text(rows=239), "line 17 has 2 columns"),
        (matrix_text(rows=16) + "\n" + matrix_text("12x8", rows=1) + matrix_text(rows=239), "line 18, column 1: '12x8' is not"),
        (matrix_text("-3"), "line 1, column 1: -3 is not a number from 0 on"),
        (matrix_text("inf"), "line 1, column 1: inf is not"),
        ("", "has 0 lines"),
    ],
)  # fmt: skip
def test_files_that_are_no_matrices_say_where(tmp_path, text, says):
    path = tmp_path / f"{CHIP}_Trim0_Noise_Mean.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_equalisation(tmp_path, CHIP)
    assert caught.value.where == str(path)
    assert caught.value.exit_status == 3


def test_codes_must_be_whole_numbers_in_range(tmp_path):
    path = tmp_path / f"{CHIP}_Matrix_Trim.csv"
    for value, says in (
        ("16", "16 is not a whole number from 0 to 15"),
        ("7.5", "7.5 is not"),
        ("nan", "nan is not"),
    ):
        path.write_text(matrix_text(value))
        with pytest.raises(InputError, match=says):
            read_equalisation(tmp_path, CHIP)
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(InputError, match="it is not a text file"):
        read_equalisation(tmp_path, CHIP)


def test_absent_files_are_none_with_a_note(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_equalisation(tmp_path / "nowhere", CHIP)
    found = read_equalisation(tmp_path, CHIP)
    assert all(getattr(found, name) is None for name in FILES)
    assert "no equalisation files of Module0_VP3-1" in found.notes[0]
    assert not found.masked.any()
    assert available(found) == ()
    (tmp_path / "Module1_VP0-0_Trim0_Noise_Mean.csv").write_text(matrix_text())
    assert "there are some of Module1_VP0-0" in read_equalisation(tmp_path, CHIP).notes[0]
    found = read_equalisation(tmp_path, "Module1_VP0-0")
    assert found.notes == (
        "Module1_VP0-0_Matrix_Mask.csv is missing: no pixel is masked",
        "none of the files gives a baseline",
    )
    assert prefixes_in(tmp_path) == ["Module1_VP0-0"]


def test_the_digest_follows_the_contents(tmp_path):
    assert digest_of(tmp_path, CHIP) == ""
    path = tmp_path / f"{CHIP}_Matrix_Mask.csv"
    path.write_text("1")
    first = digest_of(tmp_path, CHIP)
    assert len(first) == 24
    assert digest_of(tmp_path, "Module9_VP0-0") == ""
    path.write_text("2")
    second = digest_of(tmp_path, CHIP)
    path.rename(tmp_path / f"{CHIP}_Matrix_Trim.csv")
    assert len({first, second, digest_of(tmp_path, CHIP)}) == 3


def test_numbers_are_printed_as_in_c(tmp_path):
    values = np.zeros(65536)
    values[:5] = [8.8, np.nan, 0.0, 12.345, 132.1]
    path = write_matrix(tmp_path / "w.csv", values, form="%05.2f", separator=", ")
    assert path.read_text().startswith("08.80,   nan, 00.00, 12.35, 132.10, 00.00")
    values[:5] = [1298, 0, 7, 12000, 1]
    path = write_matrix(path, values.astype(np.int64), form="%04d", separator=", ")
    assert path.read_text().splitlines()[0].startswith("1298, 0000, 0007, 12000, 0001, ")
    assert not path.read_text().splitlines()[0].endswith((" ", ","))
    assert len(path.read_text().splitlines()) == 256


# --- trim rules


@pytest.mark.parametrize(
    ("file", "linear15", "legacy16"),
    [
        ("Run2_chip1/thresholdMeans1", -0.25, 1.56),
        ("Run2_chip2/thresholdMeans2", -0.19, 1.53),
        ("Run2_chip4/thresholdMeans4", 0.05, 1.77),
        ("Run1_D03_W0063/thresholdMeans0", 0.28, 2.11),
    ],
)
def test_fifteen_steps_hold_on_real_chips_and_sixteen_do_not(sample_data, file, linear15, legacy16):
    """Plain mean over all pixels of measured minus predicted, without any rounding."""
    means = read_timepix_means(sample_data / TIMEPIX / f"{file}.txt.gz")
    for rule, expected in (("linear15", linear15), ("legacy16", legacy16)):
        difference = means.chosen - predict(means.trim0, means.trimF, means.trim, rule)
        assert difference.mean() == pytest.approx(expected, abs=0.005)
    # the original rounds up the halves that sixteenths of whole numbers often are, and is as wrong otherwise
    exact, whole = (predict(means.trim0, means.trimF, means.trim, "legacy16", whole=w) for w in (False, True))
    halves = (exact % 1 == 0.5).mean()
    assert halves > 0.1
    assert (whole - exact).mean() == pytest.approx(halves / 2, abs=0.02)


def test_a_chip_with_pixels_that_do_not_respond(sample_data):
    means = read_timepix_means(sample_data / TIMEPIX / "Run2_chip6/thresholdMeans6.txt.gz")
    assert np.isnan(means.trim0).sum() == np.isnan(means.trimF).sum() == 2
    assert np.isnan(means.chosen).sum() == 1026
    difference = means.chosen - predict(means.trim0, means.trimF, means.trim, "linear15")
    assert np.nanmedian(difference) == pytest.approx(0.0, abs=0.07)
    assert np.nanmean(difference) == pytest.approx(0.46, abs=0.005)
    trims = compute_trims(means.trim0, means.trimF, "linear15")
    assert ((trims.mask == 1) | (trims.mask == 2) | (trims.mask == 3)).sum() == (
        np.isnan(means.trim0) | np.isnan(means.trimF)
    ).sum()
    assert np.isfinite(trims.predicted[trims.mask == 0]).all()


def test_chosen_trims_bring_real_chips_to_one_threshold(sample_data):
    means = read_timepix_means(sample_data / TIMEPIX / "Run2_chip1/thresholdMeans1.txt.gz")
    trims = compute_trims(means.trim0, means.trimF, "linear15")
    good = trims.mask == 0
    assert good.mean() > 0.998
    assert set(trims.mask[~good]) == {4}
    # half a step of 53 / 15 THL is the best that a trim of whole steps can do
    step = (means.trimF - means.trim0)[good] / 15
    assert (abs(trims.predicted[good] - trims.target) <= step / 2 + 1e-9).all()
    # the trims that were really chosen aim elsewhere; with their target ours are the same
    target = float(np.mean(predict(means.trim0, means.trimF, means.trim, "linear15")))
    again = compute_trims(means.trim0, means.trimF, "linear15", target=target)
    assert (abs(again.trim.astype(int) - means.trim) <= 1).mean() > 0.95


def test_rules_at_their_ends_and_in_the_middle():
    low, high = 1300.0, 1300.0 + 232.4625
    assert predict(low, high, 15, "linear15") == pytest.approx(high)
    assert predict(low, high, 15, "cubic") == pytest.approx(high)
    assert predict(low, high, 16, "legacy16") == pytest.approx(high)
    for rule in RULES:
        assert predict(low, high, 0, rule) == low
    # the published law of the average trim: 1422.5 at trim 8 for 1296 at trim 0; straight lines 1420.0 and 1412.2
    middle = {rule: float(predict(1296.0, 1296.0 + 232.4625, 8, rule)) for rule in RULES}
    assert middle == pytest.approx({"cubic": 1422.5, "linear15": 1420.0, "legacy16": 1412.2}, abs=0.05)
    assert (np.diff(trim_law(np.arange(16))) > 0).all()
    with pytest.raises(UsageError, match="unknown trim rule 'linear'") as caught:
        predict(low, high, 3, "linear")
    assert caught.value.known == list(RULES)


def test_halves_are_rounded_away_from_zero_as_in_c():
    # 3 steps of 8 / 16 are 1.5, 5 of them 2.5
    assert predict([1000, 1000, 1000], [1008, 1008, 992], [3, 5, 3], "legacy16", whole=True).tolist() == [
        1002,
        1003,
        998,
    ]


def test_the_sample_was_made_by_the_rule_of_sixteen_steps(sample):
    found = read_equalisation(sample, CHIP)
    trims = compute_trims(found.trim0_mean, found.trimF_mean, "legacy16")
    np.testing.assert_array_equal(trims.mask, found.mask)
    assert trims.target == 1413
    # where the sample rounds a half to the even side it differs by one
    free = (trims.mask == 0) & (trims.trim == found.trim)
    assert (trims.trim == found.trim)[trims.mask == 0].mean() > 0.995
    difference = (trims.predicted - found.predicted_mean)[free]
    exact = (found.trim * (found.trimF_mean - found.trim0_mean) / 16)[free]
    halves = exact % 1 == 0.5
    assert set(difference[halves]) == {0.0, 1.0}
    assert not difference[~halves].any()


def test_masks_have_the_codes_of_the_original():
    low = np.array([0, 0, 1300, 1200, 1418, 1300, 1300, 1300.0, np.nan])
    high = np.array([0, 1530, 0, 1400, 1700, 1530, 2300, 1300.0, 1530])
    trims = compute_trims(low, high, "legacy16", target=1410)
    # pixel 6 has steps of 62.5 DAC: no trim comes closer than 25 DAC to the target
    assert trims.mask.tolist() == [1, 2, 3, 4, 0, 0, 0, 4, 2]
    trims = compute_trims(low, high, "legacy16", target=1394)
    assert trims.mask.tolist() == [1, 2, 3, 4, 4, 0, 5, 4, 2]
    assert trims.trim[trims.mask > 0].tolist() == [0] * 8
    assert np.isnan(trims.predicted[trims.mask > 0]).all()
    assert len(MASK_CODES) == 7
    with pytest.raises(InputError, match="no pixel responds both"):
        compute_trims([0, 1300], [1500, 0], "linear15")
    with pytest.raises(UsageError, match="unknown trim rule"):
        compute_trims([1300], [1500], "square")


@pytest.mark.parametrize("rule", RULES)
def test_the_chosen_trim_is_the_best_of_all(rule):
    rng = np.random.default_rng(17)
    low = np.floor(rng.normal(1298, 28, 20000))
    high = np.floor(low + rng.normal(232, 9, 20000))
    trims = compute_trims(low, high, rule, target=1414)
    good = trims.mask == 0
    assert good.mean() > 0.99
    every = np.stack([predict(low, high, trim, rule) for trim in range(16)])
    best = abs(every - 1414).min(axis=0)
    chosen = abs(predict(low, high, trims.trim, rule) - 1414)
    np.testing.assert_allclose(chosen[good], best[good], atol=1e-9)
    # what is masked could not have been reached: beyond half a step outside the range
    assert set(trims.mask[~good]) <= {4}
    step = (high - low) / (16 if rule == "legacy16" else 15)
    assert (best[~good] > 0.4 * step[~good]).all()


# --- baseline


def test_baselines_recover_the_truth(simulated):
    found, base = simulated
    assert available(found) == tuple(ABOUT)
    control = choose(found)
    assert control.name == "control"
    assert choose(found, "control").value is not None
    difference = control.value - base
    # cut to whole numbers, and corrected for it
    assert abs(difference.mean()) < 0.01
    assert difference.std() == pytest.approx(np.hypot(0.35, 1 / np.sqrt(12)), abs=0.01)
    assert control.common_error == 0.0
    assert control.error[0] == pytest.approx(np.hypot(0.4, 1 / np.sqrt(12)))
    assert "0.5 DAC added" in control.source
    cubic = choose(found, "cubic")
    assert abs((cubic.value - base).mean()) < 0.01
    assert cubic.common_error < 0.02
    assert cubic.error[0] == pytest.approx((cubic.value - control.value).std())
    legacy = choose(found, "legacy16")
    np.testing.assert_array_equal(legacy.value, found.predicted_mean)
    assert (legacy.value - base).mean() == pytest.approx(-10.7, abs=0.3)
    assert legacy.common_error == pytest.approx(-(legacy.value - base).mean(), abs=0.02)


def test_rules_of_the_sample_against_its_control_scan(sample, truth):
    found = read_equalisation(sample, CHIP)
    rules = {bias.rule: bias for bias in compare_rules(found)}
    assert list(rules) == ["cubic", "linear15", "predicted", "legacy16"]
    assert {bias.n_pixels for bias in rules.values()} == {65410}
    assert rules["predicted"].bias == pytest.approx(-10.72, abs=0.005)
    assert rules["predicted"].spread == pytest.approx(1.05, abs=0.005)
    assert abs(rules["cubic"].bias) < 0.005
    assert rules["cubic"].spread == pytest.approx(0.41, abs=0.005)
    assert rules["linear15"].bias == pytest.approx(-2.52, abs=0.01)
    # halves are rounded up, not to the even side
    assert rules["legacy16"].bias == pytest.approx(rules["predicted"].bias + 0.09, abs=0.02)
    assert compare_rules(found, ["cubic"]) == (rules["cubic"],)
    # control and true baseline
    difference = (choose(found).value - truth["base"].ravel())[~found.masked]
    assert abs(difference.mean()) < 0.005
    assert difference.std() == pytest.approx(0.348, abs=0.002)


def test_without_a_control_scan_the_cubic_law_is_taken(simulated):
    found, base = simulated
    found = Equalisation(**{**{f.name: getattr(found, f.name) for f in fields(found)}, "control_mean": None})
    assert available(found)[0] == "cubic"
    chosen = choose(found)
    assert chosen.name == "cubic"
    # 2 % of the range for a pixel, 0.5 % for the chip
    assert np.median(chosen.error) == pytest.approx(4.7, abs=0.1)
    assert chosen.common_error == pytest.approx(1.16, abs=0.02)
    assert compare_rules(found) == ()
    for name in ("linear15", "legacy16", "predicted"):
        other = choose(found, name)
        bias = (other.value - base).mean()
        assert abs(bias) < 1.1 * other.common_error, name
    predicted = choose(Equalisation(CHIP, predicted_mean=found.predicted_mean))
    assert (predicted.name, predicted.common_error) == ("predicted", 10.0)


def test_a_baseline_that_is_not_there_says_what_it_needs(simulated):
    found = Equalisation(CHIP, trim0_mean=simulated[0].trim0_mean)
    with pytest.raises(
        InputError, match=r"'cubic' needs Module0_VP3-1_TrimF_Noise_Mean.csv, Module0_VP3-1_Matrix_Trim.csv"
    ):
        baseline_by(found, "cubic")
    with pytest.raises(InputError, match="'control' needs Module0_VP3-1_Control_Noise_Mean"):
        choose(found, "control")
    with pytest.raises(InputError, match="no file gives a baseline"):
        choose(found)
    with pytest.raises(UsageError, match="unknown baseline 'contrl'") as caught:
        choose(found, "contrl")
    assert "control" in caught.value.hint
    with pytest.raises(UsageError, match="unknown baseline 'x'"):
        baseline_by(found, "x")
    with pytest.raises(InputError, match="does not exist"):
        choose(found, "missing/base.csv")


def test_a_baseline_from_a_file(tmp_path, simulated):
    found, base = simulated
    values = base.copy()
    values[3] = 0
    path = write_matrix(tmp_path / "my_base.csv", values, form="%.4f", separator=",")
    chosen = choose(found, str(path))
    assert chosen.name == "my_base.csv"
    assert np.isnan(chosen.value[3])
    assert np.isnan(chosen.error[3])
    np.testing.assert_allclose(np.delete(chosen.value, 3), np.delete(base, 3), atol=1e-4)
    assert chosen.common_error < 0.01
    alone = choose(Equalisation(CHIP), str(path))
    assert alone.error[0] == pytest.approx(0.4)
    assert "is assumed" in alone.source


def test_only_whole_numbers_were_cut():
    assert uncut(np.array([1298.0, np.nan, 1300.0]))[[0, 2]].tolist() == [1298.5, 1300.5]
    assert uncut(np.array([1298.0, 1300.25])).tolist() == [1298.0, 1300.25]


# --- test pulses


@pytest.mark.parametrize(
    ("chip", "edges"),
    [
        ("Run2_chip1", (368.45, 405.6, 452.71)),
        ("Run2_chip2", (351.38, 386.84, 435.57)),
        ("Run2_chip4", (427.07, 458.88, 506.98)),
        ("Run1_D03_W0063", (372.32, 318.68, 226.8)),
    ],
)
def test_edges_of_real_s_curves(sample_data, chip, edges):
    for pulse, expected in zip((20, 50, 100), edges, strict=True):
        threshold, hits = read_s_curve(sample_data / TIMEPIX / chip / "SCurve" / f"voltage_{pulse}.txt")
        assert falling_edge(threshold, hits) == pytest.approx(expected, abs=0.006)


def test_an_edge_is_where_the_curve_falls_for_the_last_time():
    threshold = np.arange(6.0)
    assert falling_edge(threshold, np.array([0, 900, 300, 1000, 600, 100.0])) == pytest.approx(4.2)
    assert falling_edge(threshold[::-1], np.array([0, 900, 300, 1000, 600, 100.0])) == pytest.approx(0.8)
    assert np.isnan(falling_edge(threshold, np.array([0, 100, 200, 300, 400, 600.0])))


def test_tables_of_timepix_chips_are_checked(tmp_path):
    path = tmp_path / "means.txt"
    path.write_text("0 0 1 2 3 4\n")
    with pytest.raises(InputError, match="has 1 rows, must have 65536"):
        read_timepix_means(path)
    path.write_text("0 0 1\n")
    with pytest.raises(InputError, match="row 1 has 3 columns, must have 6"):
        read_timepix_means(path)
    path.write_text("0 x\n")
    with pytest.raises(InputError, match="not a number"):
        read_s_curve(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_s_curve(tmp_path / "nothing.txt")
