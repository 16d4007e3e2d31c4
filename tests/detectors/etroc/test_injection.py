"""Charge injection: the sample scan with its known numbers, and simulated scans with known truth."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.detectors.etroc.injection import (
    count_points,
    estimate_injections,
    jitter_vs_charge,
    noise_band,
)
from firstlight.detectors.etroc.injection_lines import (
    COMMON_NOISE,
    MIDDLE_OF_STEP,
    fit_curves,
    fit_lines,
    suggest,
)
from firstlight.detectors.etroc.injection_original import (
    combined_data,
    dac_charge_data,
    noise_limit_data,
    original_lines,
    original_noise,
)
from firstlight.detectors.etroc.tables import (
    CURVES,
    FILES,
    HITS,
    JITTER,
    LINES,
    NOISE,
    POINTS,
    SUGGESTIONS,
)
from firstlight.errors import InputError, UsageError

SAMPLE = (
    Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[4] / "shared" / "data"))
    / "etroc"
    / "synthetic_etroc1_charge_injection"
)
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample data: set FIRSTLIGHT_DATA")
NAME = re.compile(
    r"TDC_Data_PhaseAdj(\d+)_(\w+?)_QSel(\d+)_DAC(\d+)_(\w+?)_QSel(\d+)_DAC(\d+)_(\w+?)_QSel(\d+)_DAC(\d+)_Split_(\d+).dat"
)
NUMBERS = ("toa_mean", "toa_std", "tot_mean", "tot_std", "cal_mean", "jitter", "jitter_error")


def _hits(columns):
    return pl.DataFrame(columns, schema={name: HITS.dtypes[name] for name in columns})


def _files(rows):
    names = ["file", "run", "split", "board", "pixel", "phase", "charge", "threshold"]
    return pl.DataFrame(rows, schema={name: FILES.dtypes[name] for name in names}, orient="row")


@pytest.fixture(scope="module")
def sample():
    """Return hits and files of the sample, read here and not by the package."""
    rows, parts = [], []
    for number, path in enumerate(sorted(SAMPLE.glob("*.dat"))):
        fields = NAME.fullmatch(path.name).groups()
        for place, board in enumerate((0, 1, 3)):
            pixel, charge, threshold = fields[1 + 3 * place : 4 + 3 * place]
            rows.append(
                (number, path.name.split("_Split")[0], int(fields[10]), board, pixel, int(fields[0]),
                 float(charge), float(threshold))
            )  # fmt: skip
        text = path.read_text().split()
        lines = np.array(text, dtype=np.int64).reshape(-1, 5)
        parts.append(np.column_stack([np.full(len(lines), number), lines]))
    table = np.concatenate(parts)
    names = ("file", "board", "toa", "tot", "cal", "hit_flag")
    return _hits(dict(zip(names, table.T, strict=True))), _files(rows)


def _split_0(hits, files):
    first = files.filter(pl.col("split") == 0)
    return hits.join(first.select("file").unique(), on="file", how="semi", maintain_order="left"), first


@needs_sample
def test_sample_points_are_those_of_all_splits(sample):
    hits, files = sample
    points = count_points(hits, files, hits["cal"] < 200)
    POINTS.validate(points)
    assert points.columns == POINTS.names
    assert points.height == 104
    assert points["board"].unique().to_list() == [1]
    assert points["all_hits"].sum() == 70188
    assert points["hits"].sum() == 69877
    assert points["splits"].sum() == 140
    assert points["injections"].unique().to_list() == [1000]
    assert points.filter(pl.col("hits") == 0).height == 36
    assert count_points(hits, files)["hits"].sum() == 70188
    first, first_files = _split_0(hits, files)
    assert count_points(first, first_files, first["cal"] < 200)["hits"].sum() == 57070
    # the options of the original say the same about which board is scanned
    same = count_points(hits, files, hits["cal"] < 200, defaults={0: 535, 1: 720, 3: 720}, trigger_board=0)
    assert same.equals(points)


@needs_sample
def test_sample_line_and_noise(sample):
    hits, files = sample
    points = count_points(hits, files, hits["cal"] < 200)
    noise, curves = noise_band(points), fit_curves(points)
    lines = fit_lines(curves)
    for table, schema in ((noise, NOISE), (curves, CURVES), (lines, LINES)):
        schema.validate(table)
        assert table.columns == schema.names
    band = noise.row(0, named=True)
    assert (band["noise_min"], band["noise_max"], band["status"]) == (
        334,
        354,
        "ok",
    )  # truth: from 330, below 352
    assert band["baseline"] == pytest.approx(341, abs=5)
    assert band["width"] == pytest.approx(22, abs=5)
    assert curves["status"].to_list() == [COMMON_NOISE] * 4  # steps of 10 with a noise of 3
    assert curves["good"].all()
    assert curves["points_rise"].to_list() == [1, 1, 2, 1]
    assert curves["last_with_hits"].to_list() == [424, 474, 514, 564]
    assert curves["plateau"].to_numpy() == pytest.approx(0.9955, abs=0.001)
    assert curves["noise"].to_numpy() == pytest.approx(3.0, abs=0.3)
    assert (np.abs(curves["noise"] - 3.0) < 3 * curves["noise_error"]).all()
    assert (np.abs(curves["dac50"] - 330 - 9 * curves["charge"]) < 3 * curves["dac50_error"]).all()
    assert curves["p_value"].min() > 0.01
    line = lines.row(0, named=True)
    assert (line["charges"], line["ndf"], line["status"]) == (4, 2, "ok")
    assert line["offset"] == pytest.approx(330, abs=1.0)
    assert line["slope"] == pytest.approx(9.0, abs=0.06)
    assert abs(line["offset"] - 330) < 3 * line["offset_error"]
    assert line["offset_error"] < 0.4
    suggestions = suggest(lines, noise, curves=curves, sigmas=3)
    SUGGESTIONS.validate(suggestions)
    assert suggestions["threshold"].to_list()[:3] == [358, 367, 376]  # 330.2 + 8.99 (3, 4, 5)
    assert suggestions.row(3)[1:] == ("noise", pytest.approx((363 - 330.2) / 8.99, abs=0.03), 363)
    jitter = jitter_vs_charge(points)
    JITTER.validate(jitter)
    assert jitter["threshold"].to_list() == [354] * 4
    assert jitter["status"].to_list() == ["ok"] * 4


@needs_sample
def test_sample_as_the_original(sample):
    first, files = _split_0(*sample)
    combined = combined_data(first, files, first["cal"] < 200)
    assert combined.columns == [
        "data_board_id", "hits", "phase_adjust", "pixel_id", "board_injected_charge",
        "board_discriminator_threshold",
    ]  # fmt: skip
    assert combined.height == 68  # runs without hits vanish
    assert combined["hits"].sum() == 57070
    every = combined_data(first, files, first["cal"] < 200, filter_default=True)
    assert every.height == 104
    assert every["hits"].sum() == 57070
    for table in (combined, every):
        points = dac_charge_data(table)
        assert points["board_discriminator_threshold"].to_list() == [424, 474, 514, 564]
        line = original_lines(points).row(0, named=True)
        assert line["offset"] == pytest.approx(333.0, abs=1e-9)
        assert line["slope"] == pytest.approx(9.20, abs=1e-9)
        limits = noise_limit_data(table, hit_center=1000, hit_window=60, difference_from_mean=30)
        assert limits.rows() == [(1, 334.0, 370.0)]
        suggestions = suggest(original_lines(points), original_noise(limits))
        assert suggestions.rows() == [(1, "last", 5, 379), (1, "last", 6, 389), (1, "last", 7, 398)]
    # with the hits of a plateau elsewhere nothing is found, and that is said
    wrong = noise_limit_data(combined)
    assert wrong["noise_max_dac"].to_list() == [None]
    assert original_noise(wrong)["status"].to_list() == ["no plateau at these hits"]
    own = {"trigger_board_hit_center": 1000, "trigger_board_hit_window": 60, "difference_from_mean": 30}
    assert noise_limit_data(combined, trigger_board=1, **own)["noise_max_dac"].to_list() == [370]
    assert noise_limit_data(combined, trigger_board=0, **own)["noise_max_dac"].to_list() == [None]
    one = noise_limit_data(
        combined, noise_with_charge=10, hit_center=1000, hit_window=60, difference_from_mean=30
    )
    assert one.rows() == [(1, 334.0, 380.0)]  # at 10 fC the first flat point is 384
    with pytest.raises(UsageError, match="rolling_mean"):
        noise_limit_data(combined, rolling_mean=0)


def _scans(
    seed, n_scans, x, *, n=1000, plateau=1.0, noise=3.0, charges=(10, 15, 20, 25), band=(330, 352), known=True
):
    """Return points of many scans of the generator, each with a line of its own, as pixels; and their offsets."""
    from scipy.special import ndtr

    rng = np.random.default_rng(seed)
    step, parts = x[1] - x[0], []
    offsets = 330 + rng.uniform(0, step, n_scans)
    for number, offset in enumerate(offsets):
        for charge in charges:
            hits = rng.binomial(n, plateau * ndtr((offset + 9.0 * charge - x) / noise))
            noisy = (n * rng.uniform(1.4, 2.6, x.size)).astype(np.int64)
            if band is not None:
                hits = np.where(x < band[0], 0, np.where(x < band[1], noisy, hits))
            columns = {"pixel": f"{number:04d}", "charge": float(charge), "threshold": x, "all_hits": hits}
            parts.append(pl.DataFrame(columns))
    frame = pl.concat(parts).with_columns(
        pl.lit("run").alias("run"), pl.lit(1).alias("board"), pl.lit(1).alias("splits"),
        pl.col("all_hits").alias("hits"), pl.lit(n if known else None, pl.Int64).alias("injections"),
        *(pl.lit(None, pl.Float64).alias(name) for name in NUMBERS),
    )  # fmt: skip
    return frame.select(POINTS.names).cast(POINTS.dtypes), offsets


def _pulls(points, offsets, noise=3.0):
    curves = fit_curves(points)
    lines = fit_lines(curves)
    CURVES.validate(curves)
    truth = offsets[curves["pixel"].cast(pl.Int64).to_numpy()] + 9.0 * curves["charge"].to_numpy()
    good = curves["good"].to_numpy()
    own = good & (curves["charge"] == 15).to_numpy()  # a common noise is one number for all charges
    here = offsets[lines["pixel"].cast(pl.Int64).to_numpy()]
    return curves, {
        "dac50": ((curves["dac50"] - truth) / curves["dac50_error"]).to_numpy()[good],
        "noise": ((curves["noise"] - noise) / curves["noise_error"]).to_numpy()[own],
        "offset": ((lines["offset"] - here) / lines["offset_error"]).to_numpy(),
        "slope": ((lines["slope"] - 9.0) / lines["slope_error"]).to_numpy(),
    }


@pytest.mark.parametrize(
    ("step", "options", "status"),
    [
        (2.0, {}, "ok"),
        (10.0, {}, COMMON_NOISE),
        (2.0, {"n": 20}, "ok"),
        (3.0, {"plateau": 0.9}, "ok"),
        (1.0, {"noise": 1.5, "n": 300}, "ok"),
    ],
)
def test_pulls(step, options, status):
    points, offsets = _scans(11, 150, np.arange(324.0, 584.0, step), **options)
    curves, pulls = _pulls(points, offsets, options.get("noise", 3.0))
    assert set(curves["status"]) == {status}
    for name in ("dac50", "offset", "slope"):
        assert abs(pulls[name].mean()) < 0.2, name
        assert 0.85 < pulls[name].std() < 1.15, name
    # the noise of few injections is low: the likelihood of a width is not symmetric
    assert abs(pulls["noise"].mean()) < (0.45 if options.get("n") == 20 else 0.25)
    assert 0.85 < pulls["noise"].std() < 1.2
    assert np.mean(curves["p_value"].to_numpy() < 0.05) < 0.08


def test_steps_wider_than_the_noise():
    points, offsets = _scans(12, 100, np.arange(324.0, 584.0, 15.0))
    curves, pulls = _pulls(points, offsets)
    assert set(curves["status"]) == {COMMON_NOISE, MIDDLE_OF_STEP}
    assert abs(pulls["dac50"].mean()) < 0.25
    assert 0.8 < pulls["dac50"].std() < 1.2
    between = curves.filter(pl.col("status") == MIDDLE_OF_STEP)
    assert not between["good"].any()
    assert between["noise"].null_count() == between.height
    truth = offsets[between["pixel"].cast(pl.Int64).to_numpy()] + 9.0 * between["charge"].to_numpy()
    assert between["dac50_error"].to_numpy() == pytest.approx(15 / np.sqrt(12))
    assert np.abs(between["dac50"].to_numpy() - truth).max() < 7.5 + 3
    # no curve of such a scan tells the noise, yet the lines are right within their errors
    points, offsets = _scans(13, 40, np.arange(324.0, 684.0, 40.0), noise=0.5, band=(320, 330))
    curves, pulls = _pulls(points, offsets, 0.5)
    assert set(curves["status"]) == {MIDDLE_OF_STEP}
    assert np.abs(pulls["slope"]).max() < 3


def test_injections_from_the_plateau():
    x = np.arange(324.0, 584.0, 3.0)
    for n, plateau, seed in ((1000, 1.0, 1), (20, 1.0, 2), (1000, 0.9, 3), (4450, 0.97, 4), (200, 0.7, 5)):
        points, _ = _scans(seed, 10, x, n=n, plateau=plateau)
        for scan in points.partition_by("pixel"):
            found = estimate_injections(scan)
            assert found >= scan.filter(pl.col("threshold") >= 352)["all_hits"].max()
            assert found == (n if plateau == 1 else pytest.approx(n, rel=0.2 if plateau < 0.9 else 0.05))
    # scans that start in the rise of each curve have no plateau, however similar some counts are
    points, _ = _scans(6, 20, np.arange(400.0, 460.0, 1.0), charges=(7, 8, 9), noise=3.0, band=None)
    rise = points.filter(pl.col("threshold") > 330 + 9 * pl.col("charge"))
    assert [estimate_injections(scan) for scan in rise.partition_by("pixel")] == [None] * 20


def test_an_unknown_number_of_injections_changes_little():
    x = np.arange(324.0, 584.0, 3.0)
    points, offsets = _scans(14, 60, x, plateau=0.9)
    unknown = pl.concat(
        scan.with_columns(pl.lit(estimate_injections(scan), pl.Int64).alias("injections"))
        for scan in points.partition_by("pixel", maintain_order=True)
    )
    known, _ = _pulls(points, offsets)
    curves, pulls = _pulls(unknown, offsets)
    assert np.abs((curves["dac50"] - known["dac50"]) / known["dac50_error"]).max() < 0.3
    assert 0.85 < pulls["dac50"].std() < 1.15


def test_curves_that_cannot_be_fitted_say_why():
    x = np.arange(324.0, 584.0, 2.0)
    points, offsets = _scans(15, 1, x)

    def status(frame, **options):
        curves = fit_curves(frame, **options)
        bad = curves.filter(~pl.col("good"))
        assert bad["dac50_error"].null_count() == bad.height
        return dict(zip(curves["charge"], curves["status"], strict=True))

    rise = offsets[0] + 9 * 15  # of 15 fC
    late = points.filter((pl.col("charge") != 15) | (pl.col("threshold") > rise))
    assert status(late) == {10: "ok", 15: "no plateau", 20: "ok", 25: "ok"}
    assert fit_lines(fit_curves(late))["charges"].to_list() == [3]
    early = points.filter(pl.col("threshold") < rise)
    assert status(early) == {10: "ok", 15: "does not fall", 20: "does not fall", 25: "does not fall"}
    line = fit_lines(fit_curves(early)).row(0, named=True)
    assert (line["charges"], line["status"], line["good"], line["slope"]) == (1, "one charge", False, None)
    dead = points.with_columns(pl.when(pl.col("charge") == 15).then(0).otherwise("hits").alias("hits"))
    assert status(dead)[15] == "no hits above the noise"
    inside = points.filter((pl.col("charge") != 15) | (pl.col("threshold") < 350))
    assert status(inside)[15] == "no points above the noise"
    few = points.with_columns(pl.lit(500, pl.Int64).alias("injections"))
    assert set(status(few).values()) == {"more hits than injections"}
    assert noise_band(few)["status"].to_list() == ["more hits than injections at most thresholds"]
    unknown = points.with_columns(pl.lit(None, pl.Int64).alias("injections"))
    assert set(status(unknown).values()) == {"injections not known"}
    assert fit_lines(fit_curves(unknown))["status"].to_list() == ["no curve"]
    assert status(points, plateau=1.0)[15] == "ok"
    with pytest.raises(UsageError, match="plateau"):
        fit_curves(points, plateau=1.1)
    with pytest.raises(UsageError, match="charge_error"):
        fit_lines(fit_curves(points), charge_error=-1)


def test_two_charges_and_errors_of_charges():
    points, _ = _scans(16, 1, np.arange(324.0, 584.0, 2.0), charges=(10, 20))
    curves = fit_curves(points)
    line = fit_lines(curves).row(0, named=True)
    assert (line["ndf"], line["chi2"]) == (0, pytest.approx(0, abs=1e-9))
    y, e = curves["dac50"].to_numpy(), curves["dac50_error"].to_numpy()
    assert line["slope"] == pytest.approx((y[1] - y[0]) / 10)
    assert line["slope_error"] == pytest.approx(np.hypot(*e) / 10)
    assert line["offset_error"] == pytest.approx(np.hypot(2 * e[0], e[1]))
    wide = fit_lines(curves, charge_error=0.5).row(0, named=True)
    assert wide["slope"] == pytest.approx(line["slope"])
    assert wide["slope_error"] == pytest.approx(
        np.hypot(np.hypot(*e), np.sqrt(2) * 0.5 * line["slope"]) / 10, rel=1e-6
    )


def test_noise_band_of_other_scans():
    x = np.arange(324.0, 584.0, 2.0)
    points, _ = _scans(17, 1, x, band=(331, 345))
    band = noise_band(points).row(0, named=True)
    assert (band["noise_min"], band["noise_max"]) == (332, 346)
    assert band["baseline"] == pytest.approx(338, abs=1)
    assert band["width"] == pytest.approx(14, abs=0.1)
    # hits in excess at one threshold far above do not move the band, nor the curves
    extra = points.with_columns(
        pl.col("all_hits", "hits")
        + 300 * ((pl.col("threshold") == 400) & (pl.col("charge") == 20)).cast(pl.Int64)
    )
    assert noise_band(extra).equals(noise_band(points))
    assert fit_curves(extra)["dac50"].to_numpy() == pytest.approx(
        fit_curves(points)["dac50"].to_numpy(), abs=0.05
    )
    quiet, _ = _scans(17, 1, x, band=None)
    assert noise_band(quiet)["status"].to_list() == ["no noise in the scan"]
    assert set(fit_curves(quiet)["status"]) == {"ok"}
    assert suggest(fit_lines(fit_curves(quiet)), noise_band(quiet)).is_empty()
    inside = noise_band(points.filter(pl.col("threshold") > 336)).row(0, named=True)
    assert (inside["status"], inside["noise_max"]) == ("the scan starts inside the noise", 346)
    assert inside["baseline"] is None


def _simulated_runs(seed, boards=(0, 1, 3), n=400, jitter=1.2):
    """Return hits and files: boards are scanned one after the other, board 0 triggers in the runs of the others."""
    from scipy.special import ndtr

    rng = np.random.default_rng(seed)
    rest = {0: (0.0, 535.0), 1: (0.0, 720.0), 3: (0.0, 720.0)}
    columns = {name: [] for name in ("file", "board", "toa", "tot", "cal")}
    rows, number = [], 0
    for board in boards:
        for charge in (15.0, 25.0):
            for threshold in np.arange(440.0, 600.0, 5.0):
                count = rng.binomial(n, ndtr((330 + 9 * charge - threshold) / 3.0))
                run = f"run_b{board}_q{charge:g}_d{threshold:g}"
                splits = 3 if rng.random() < 0.25 else 1
                for split in range(splits):
                    for one, at in rest.items():
                        setting = (charge, threshold) if one == board else at
                        rows.append((number, run, split, one, f"F{one}P5", 0, *setting))
                    fired = {board: count // splits + (split < count % splits)}
                    if board != 0:
                        fired[0] = 7
                    for one, size in fired.items():
                        columns["file"].append(np.full(size, number))
                        columns["board"].append(np.full(size, one))
                        columns["toa"].append(np.rint(rng.normal(200 + charge, jitter, size)))
                        columns["tot"].append(np.rint(rng.normal(80, 1, size)))
                        cal = np.rint(rng.normal(138, 0.7, size))
                        cal[rng.random(size) < 0.004] = 400
                        columns["cal"].append(cal)
                    number += 1
    whole = {name: np.concatenate(parts).astype(np.int64) for name, parts in columns.items()}
    return _hits(whole), _files(rows)


def test_several_boards_scanned_one_after_the_other():
    hits, files = _simulated_runs(21)
    points = count_points(hits, files, hits["cal"] < 200)
    # the board that triggers has hits in all runs, and is part of the scan in its own only
    assert points.group_by("board").len().sort("board").rows() == [(0, 64), (1, 64), (3, 64)]
    assert all(f"_b{row['board']}_" in row["run"] for row in points.to_dicts())
    given = count_points(hits, files, hits["cal"] < 200, defaults={0: 535, 1: 720, 3: 720}, trigger_board=0)
    assert given.equals(points)
    assert points["injections"].unique().to_list() == [400]
    lines = fit_lines(fit_curves(points))
    assert lines["good"].all()
    assert (np.abs(lines["offset"] - 330) < 3.5 * lines["offset_error"]).all()
    assert (np.abs(lines["slope"] - 9) < 3.5 * lines["slope_error"]).all()
    jitter = jitter_vs_charge(points)
    assert jitter["threshold"].to_list() == [440.0] * 6
    truth = 3125 / 138 * np.sqrt(1.2**2 + 1 / 12)
    assert (np.abs(jitter["jitter"] - truth) < 4 * jitter["jitter_error"]).all()
    assert set(jitter_vs_charge(points, threshold=441)["status"]) == {"not measured"}
    # what the original makes of it
    every = combined_data(hits, files, filter_default=True)
    # a run of board 1 or 3 without hits keeps a row of 0; where the board has hits the trigger board is dropped
    # and where all boards are at their default, here board 0 at 535 and 15 fC, a run without hits is lost
    assert every.group_by("data_board_id").len().sort("data_board_id").rows() == [(0, 63), (1, 64), (3, 64)]
    assert every.filter(pl.col("hits") == 0).height == points.filter(pl.col("all_hits") == 0).height - 1
    plain = combined_data(hits, files)
    assert plain["hits"].sum() == hits.height
    assert plain.filter(pl.col("data_board_id") == 0).height > 128  # hits of the trigger board stay


def test_a_scan_passes_the_default_of_its_board():
    hits, files = _simulated_runs(22, boards=(0, 1))
    files = files.with_columns(
        pl.when((pl.col("board") == 0) & pl.col("run").str.starts_with("run_b1"))
        .then(25.0)
        .otherwise("charge")
        .alias("charge")
    )
    for options in ({}, {"defaults": {0: 535, 1: 720, 3: 720}}):
        points = count_points(hits, files, **options).filter(pl.col("board") == 0)
        assert points.filter(pl.col("threshold") == 535)["charge"].to_list() == [15.0, 25.0]
        assert points.height == 64
        assert all("_b0_" in run for run in points["run"])


def test_scan_without_hits_and_files_without_settings():
    hits, files = _simulated_runs(23, boards=(1,))
    none = hits.clear()
    points = count_points(none, files)
    assert points.height == 64
    assert points["hits"].sum() == 0
    assert noise_band(points)["status"].to_list() == ["injections not known"]
    curves = fit_curves(points)
    assert set(curves["status"]) == {"injections not known"}
    lines = fit_lines(curves)
    assert lines["status"].to_list() == ["no curve"]
    assert set(jitter_vs_charge(points)["status"]) == {"few hits"}
    assert suggest(lines, noise_band(points), curves=curves).is_empty()
    known = count_points(none, files, injections={1: 400})
    assert set(fit_curves(known)["status"]) == {"no hits above the noise"}
    combined = combined_data(none, files)
    assert combined.is_empty()
    assert original_lines(dac_charge_data(combined)).is_empty()
    assert original_noise(noise_limit_data(combined)).is_empty()
    assert combined_data(none, files, filter_default=True).height == 64
    bare = files.with_columns(pl.lit(None, pl.Float64).alias("charge"))
    empty = count_points(hits, bare)
    POINTS.validate(empty)
    assert empty.is_empty()
    assert fit_lines(fit_curves(empty)).is_empty()
    assert jitter_vs_charge(empty).is_empty()


def test_pixels_need_no_name():
    points, _ = _scans(24, 1, np.arange(324.0, 584.0, 2.0))
    points = points.with_columns(pl.lit(None, pl.String).alias("pixel"))
    noise, curves = noise_band(points), fit_curves(points)
    assert set(curves["status"]) == {"ok"}
    assert suggest(fit_lines(curves), noise, curves=curves).height == 4
    assert jitter_vs_charge(points).height == 4


def test_jitter_is_robust_and_stuck_converters_are_said():
    files = _files([(0, "run", 0, 1, "F1P5", 0, 20.0, 400.0)])
    rng = np.random.default_rng(3)
    n = 764

    def jitter(toa, cal=None):
        cal = np.full(n, 175) if cal is None else cal
        hits = _hits(
            {
                "file": np.zeros(n, int),
                "board": np.ones(n, int),
                "toa": toa,
                "tot": np.full(n, 75),
                "cal": cal,
            }
        )
        return jitter_vs_charge(count_points(hits, files, injections=n)).row(0, named=True)

    toa = rng.choice([235, 236], n, p=[0.7, 0.3])
    clean = jitter(toa)
    assert clean["jitter"] == pytest.approx(3125 / 175 * toa.std(ddof=1), rel=1e-9)
    with_outlier = toa.copy()
    with_outlier[0] = 362
    robust = jitter(with_outlier)
    assert robust["jitter"] == pytest.approx(clean["jitter"], rel=0.01)
    away = np.full(n, 175)
    away[0] = 300
    assert jitter(with_outlier, away)["jitter"] == pytest.approx(clean["jitter"], rel=0.01)
    stuck = jitter(np.full(n, 819))
    assert (stuck["jitter"], stuck["status"]) == (None, "stuck")


def test_wrong_input_is_refused():
    hits, files = _simulated_runs(25, boards=(1,))
    with pytest.raises(UsageError, match="accepted has the shape"):
        count_points(hits, files, np.ones(3, dtype=bool))
    with pytest.raises(UsageError, match="accepted has the shape"):
        combined_data(hits, files, np.ones(3, dtype=bool))
    with pytest.raises(UsageError, match="must be positive"):
        count_points(hits, files, injections=0)
    with pytest.raises(InputError, match="not in the table of files"):
        count_points(hits, files.filter(pl.col("file") > 0))
    different = files.with_columns(pl.col("threshold") + pl.col("split"))
    with pytest.raises(InputError, match="differ in pixel"):
        count_points(hits, different)
    points, _ = _scans(26, 1, np.arange(324.0, 584.0, 2.0))
    with pytest.raises(UsageError, match="sigmas"):
        suggest(fit_lines(fit_curves(points)), noise_band(points), sigmas=-1)
