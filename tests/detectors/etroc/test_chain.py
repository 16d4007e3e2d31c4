"""The chain of the ETROC: the same however it is run, made again when something changed, true to simulations."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from firstlight.detector import get_detector
from firstlight.detectors.etroc.simulate import load_truth, simulate
from firstlight.run.chain import Settings, process
from firstlight.run.execution import Executor
from firstlight.run.progress import silent
from firstlight.run.store import open_run
from firstlight.testing.equality import product_difference, sorted_rows
from firstlight.testing.workbench import Divided

DETECTOR = get_detector("etroc")
QUICK = {"resolution": {"bootstrap": 20}}


def go(files, output, configuration=None, detector=DETECTOR, **more):
    settings = Settings(**{"progress": silent(), "plots": False, **more})
    return process(detector, list(files), output, QUICK if configuration is None else configuration, settings)


def bytes_of(run):
    """Return the content of every file of products."""
    return {name: product.path.read_bytes() for name, product in run.items()}


def values_of(run):
    found = {}
    for name, product in run.items():
        value = product.value
        found[name] = value.frame if hasattr(value, "frame") else value.counts
    return found


def same(one, other):
    return one.equals(other) if isinstance(one, pl.DataFrame) else np.array_equal(one, other)


def reused(run):
    return {name: entry["reused"] for name, entry in run.record["steps"].items() if name != "channels"}


def check_of(run, name):
    (check,) = (check for check in run.record["checks"] if check["name"] == name)
    return check


def counts_of(run):
    return {(what, unit): count for what, unit, count in run["events/counts"].to_polars().iter_rows()}


# files with packets, in which hits of a packet must stay together whatever the size of a chunk
KINDS = {
    "telescope": {"n_events": 900, "n_files": 2},
    "telescope2": {
        "n_events": 600,
        "n_files": 2,
        "faults": {"bit_flip": 3, "dropped_header": 2, "fifo_empty": 5},
    },
    "kc705": {"n_events": 600, "n_files": 2, "faults": {"dropped_trailer": 2}},
    "injection": {"n_events": 100, "thresholds": tuple(range(340, 460, 20)), "charges": (10,)},
}


@pytest.fixture(scope="module", params=KINDS)
def simulated(request, tmp_path_factory):
    """Return files of a kind, and the run of them."""
    folder = tmp_path_factory.mktemp(request.param)
    files = simulate(folder / "data", seed=7, kind=request.param, **KINDS[request.param])
    return files, go(files, folder / "run")


# ---------------------------------------------------------------- the same however it is run


@pytest.mark.parametrize(("chunk", "span"), [(1000, None), (37, None), (100, 250)])
def test_products_do_not_depend_on_where_chunks_end(simulated, tmp_path, chunk, span):
    files, whole = simulated
    sources = tuple(Divided(source, chunk, span or source.span_events) for source in DETECTOR.load("sources"))
    parts = go(files, tmp_path / "run", detector=replace(DETECTOR, sources=sources))
    one, other = values_of(whole), values_of(parts)
    assert list(one) == list(other)
    for name, value in one.items():
        assert same(value, other[name]), name


def test_two_processes_give_the_same_bytes(tmp_path):
    # what merges is the same for all kinds; starting processes takes most of the time
    files = simulate(tmp_path / "data", seed=7, kind="telescope2", **KINDS["telescope2"])
    one, two = (go(files, tmp_path / str(jobs), executor=Executor(jobs=jobs)) for jobs in (1, 2))
    assert bytes_of(one) == bytes_of(two)


def test_pixels_and_points_do_not_depend_on_the_order_of_files(simulated, tmp_path):
    files, whole = simulated
    backwards = go(files[::-1], tmp_path / "run")
    names = [name for name in whole if name.startswith(("pixels/", "injection/", "original/", "channels/"))]
    assert len(names) > 5
    for name in names:
        left, right = (sorted_rows(run[name].value) for run in (whole, backwards))
        # means of codes may differ in their last digit
        what = product_difference(left, right, tolerance=1e-12)
        assert not what, f"{name}: {what}"
    if "events/counts" in whole:
        assert counts_of(whole) == counts_of(backwards)


def test_words_add_up_file_by_file(simulated):
    _, whole = simulated
    words = (
        whole["ingest/counters"].to_polars().filter(unit="words").group_by("file").agg(pl.col("count").sum())
    )
    told = whole["ingest/files"].to_polars().unique("file").filter(pl.col("n_words") > 0)
    assert sorted(words.iter_rows()) == sorted(told.select("file", "n_words").iter_rows())
    assert check_of(whole, "words accounted for")["verdict"] == "ok"


# ---------------------------------------------------------------- kept, made again


def test_the_same_again_computes_nothing(simulated, tmp_path):
    files, whole = simulated
    run = go(files, tmp_path / "run")
    before = {
        name: product.path.stat().st_mtime_ns for name, product in run.items() if "channels/" not in name
    }
    again = go(files, tmp_path / "run")
    assert set(reused(again).values()) == {True}
    assert {name: again[name].path.stat().st_mtime_ns for name in before} == before
    # keys know nothing of place and time
    keys = {name: entry["key"] for name, entry in whole.record["steps"].items()}
    assert {name: entry["key"] for name, entry in again.record["steps"].items()} == keys


@pytest.fixture
def beam(tmp_path):
    return simulate(tmp_path / "data", seed=11, n_events=1500)


def test_content_of_a_cut_file_counts(beam, tmp_path):
    cuts = tmp_path / "my_cuts.csv"
    configuration = {**QUICK, "cut": {"file": str(cuts)}}
    head = "board_id,variable,cut_type,cut_value,output\n"
    cuts.write_text(head + "*,calibration_code,>,125,\n")
    first = go(beam, tmp_path / "run", configuration)
    n_first = first["cut/events"].to_polars()["accepted"].sum()
    assert set(reused(go(beam, tmp_path / "run", configuration)).values()) == {True}
    cuts.write_text(head + "*,calibration_code,>,125,\n0,time_over_threshold,>,95,\n")
    second = go(beam, tmp_path / "run", configuration)
    state = reused(second)
    assert {name for name, kept in state.items() if not kept} == {
        "cut", "times", "cut_times", "timewalk", "resolution",
    }  # fmt: skip
    assert 0 < second["cut/events"].to_polars()["accepted"].sum() < n_first
    cuts.unlink()
    with pytest.raises(Exception, match="my_cuts") as caught:
        go(beam, tmp_path / "run", configuration)
    assert caught.value.exit_status == 2


def test_a_renamed_cut_file_of_the_same_content(beam, tmp_path):
    """The place of a file is a parameter; its content decides what the products are."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("board_id,variable,cut_type,cut_value\n*,calibration_code,>,125\n")
    runs = [
        go(beam, tmp_path / name[0], {**QUICK, "cut": {"file": str(tmp_path / name)}})
        for name in ("a.csv", "b.csv")
    ]
    one, other = (values_of(run) for run in runs)
    assert all(same(one[name], other[name]) for name in one)


def test_a_parameter_makes_what_follows_again(beam, tmp_path):
    go(beam, tmp_path / "run")
    again = go(beam, tmp_path / "run", {**QUICK, "timewalk": {"order": 3}})
    assert {name for name, kept in reused(again).items() if not kept} == {"timewalk", "resolution"}
    drawn = go(beam, tmp_path / "run", {**QUICK, "timewalk": {"order": 3}, "view": {"max_toa": 9.0}})
    assert set(reused(drawn).values()) == {True}


def test_the_seed_of_the_bootstrap_is_all_that_is_random(beam, tmp_path):
    one = go(beam, tmp_path / "one")
    other = go(beam, tmp_path / "other", {"resolution": {"bootstrap": 20, "seed": 2}})
    left, right = (run["resolution/replicas"].to_polars() for run in (one, other))
    assert not left.equals(right)
    columns = ("board", "iteration", "estimator", "events", "resolution", "resolution_error", "status")
    assert (
        one["resolution/boards"]
        .to_polars()
        .select(columns)
        .equals(other["resolution/boards"].to_polars().select(columns))
    )


# ---------------------------------------------------------------- truth: time resolution


def core_of(run, estimator="likelihood"):
    table = run["resolution/boards"].to_polars()
    last = table.filter(
        (pl.col("iteration") == pl.col("iteration").max()) & (pl.col("estimator") == estimator)
    )
    return last.sort("board")


def assert_true(run, truth):
    """Let core and standard deviation of every board be those that were simulated, within 4 errors."""
    expected = 1000 * np.array(truth["expected_sigma_ns"])
    for estimator in ("likelihood", "std"):
        found = core_of(run, estimator)
        assert found["good"].all(), found
        error = found["resolution_error"].to_numpy()
        # one hit of another particle moves a standard deviation, and its error says so
        assert (error < (0.05 if estimator == "likelihood" else 0.1) * expected).all(), found
        assert (np.abs(found["resolution"].to_numpy() - expected) < 4 * error).all(), (expected, found)
    # nothing else was simulated
    assert (core_of(run)["tail_fraction"] < 0.05).all(), core_of(run)


@pytest.mark.parametrize("seed", [21, 22, 23])
def test_resolution_of_a_telescope(tmp_path, seed):
    files = simulate(tmp_path / "data", seed=seed, n_events=4000)
    truth = load_truth(tmp_path / "data")
    run = go(files, tmp_path / "run")
    assert run["channels/groups"].to_polars()["board"].to_list() == [0, 1, 3]
    assert counts_of(run)["complete events", "events"] == truth["pattern_events"]
    assert_true(run, truth)
    found = core_of(run)
    # a bootstrap of 20 samples knows its error to 16 %
    np.testing.assert_allclose(found["bootstrap_error"], found["resolution_error"], rtol=0.6)


def test_walk_of_another_shape(tmp_path):
    files = simulate(tmp_path / "data", seed=24, n_events=4000, walk="exponential")
    run = go(files, tmp_path / "run", {**QUICK, "timewalk": {"order": 4}})
    assert_true(run, load_truth(tmp_path / "data"))


def test_tails_are_told_apart_from_the_core(tmp_path):
    files = simulate(tmp_path / "data", seed=25, n_events=12_000, tail_fraction=0.05)
    run = go(files, tmp_path / "run", {"resolution": {"bootstrap": 0}})
    found = core_of(run)
    # jitter of 40, 45 and 50 ps with the width of a code
    np.testing.assert_allclose(found["resolution"], (40.5, 45.5, 50.4), rtol=0, atol=1.5)
    assert (found["tail_fraction"] > 0.03).all()
    assert (found["tail_fraction"] < 0.07).all()
    # standard deviations have the tails in them, as far as the cuts on times let them: right, and not what one wants
    whole = 1000 * np.array(load_truth(tmp_path / "data")["expected_sigma_ns"])
    width = core_of(run, "std")["resolution"].to_numpy()
    assert (width > 1.15 * found["resolution"].to_numpy()).all()
    assert (width < 1.05 * whole).all()


def test_drifting_calibration_is_followed(tmp_path):
    files = simulate(tmp_path / "data", seed=26, n_events=12_000, cal_slope=3.0)
    truth = load_truth(tmp_path / "data")
    run = go(files, tmp_path / "run", {"resolution": {"bootstrap": 0}})
    check = [c for c in run.record["checks"] if c["name"] == "drift of the calibration"]
    assert {c["subject"] for c in check} == {"board 0", "board 1", "board 3"}
    assert {c["verdict"] for c in check} == {"warn"}
    expected = 1000 * np.array(truth["expected_sigma_ns"])
    found = core_of(run)
    assert (
        np.abs(found["resolution"].to_numpy() - expected) < 4 * found["resolution_error"].to_numpy()
    ).all(), found


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("telescope2", {}),
        ("telescope2", {"interleave": True, "l1a_offset": 7}),
        ("kc705", {}),
        ("kc705", {"binary": True}),
    ],
    ids=["tamalero", "tamalero interleaved", "kc705 text", "kc705 binary"],
)
def test_resolution_of_a_telescope_of_etroc2(tmp_path, kind, more):
    files = simulate(tmp_path / "data", seed=31, kind=kind, n_events=5000, n_files=2, **more)
    truth = load_truth(tmp_path / "data")
    run = go(files, tmp_path / "run")
    packets = run["ingest/packets"].to_polars()
    assert (packets.height, run["ingest/hits"].to_polars().height) == (truth["packets"], truth["hits"])
    assert packets["crc_ok"].all()
    counts = counts_of(run)
    assert (
        counts["complete events", "events"] + counts["incomplete events", "events"]
        == truth["events_generated"]
    )
    links = dict(run["ingest/hits"].to_polars().group_by("link").len().iter_rows())
    assert links == {int(link): count for link, count in truth["hits_by_link"].items()}
    assert_true(run, truth)


def test_faults_of_read_out_are_counted_and_do_no_harm(tmp_path):
    faults = {
        "dropped_header": 4, "dropped_trailer": 3, "bit_flip": 5, "alarm_1": 6, "alarm_3": 7, "wrong_chip": 2,
        "fifo_empty": 9, "filler": 8, "full_packet": 1, "truncated": 1,
    }  # fmt: skip
    files = simulate(tmp_path / "data", seed=32, kind="telescope2", n_events=4000, faults=faults)
    truth = load_truth(tmp_path / "data")["expected"]
    run = go(files, tmp_path / "run")
    hits, packets = run["ingest/hits"].to_polars(), run["ingest/packets"].to_polars()
    assert hits.height == truth["known_hits"], truth
    assert (hits["ea"] == 1).sum() == faults["alarm_1"]
    assert (hits["ea"] == 3).sum() == faults["alarm_3"]
    assert (~packets["crc_ok"].fill_null(value=True)).sum() == faults["bit_flip"] == truth["bad_crc"]
    # packets of an unknown chip are not complete
    assert packets.filter("complete").height == truth["complete"] - truth["wrong_chip"]
    words = run["ingest/counters"].to_polars().filter(unit="words")
    assert words["count"].sum() == run["ingest/files"].to_polars()["n_words"].sum()
    found = dict(words.select("word", "count").iter_rows())
    assert found["FIFO empty"] == faults["fifo_empty"]
    assert found["filler"] == faults["filler"]
    assert found["trailer: no header"] == truth["trailers_without_header"]
    assert found["trailer: unknown chip"] == faults["wrong_chip"]
    assert found["data: no header"] == truth["data_without_header"]
    # hits with error bits are not used for timing
    assert set(run["events/hits"].to_polars()["ea"].unique()) == {0}
    assert check_of(run, "checksums")["verdict"] == "warn"
    assert core_of(run)["good"].all()


@pytest.mark.parametrize("kind", ["telescope", "telescope2"])
def test_four_boards(tmp_path, kind):
    files = simulate(tmp_path / "data", seed=33, kind=kind, n_events=4000, boards=(0, 1, 2, 3))
    truth = load_truth(tmp_path / "data")
    run = go(files, tmp_path / "run")
    assert run["resolution/pairs"].to_polars().filter(iteration=1).height == 6
    assert len(core_of(run)) == 4
    assert_true(run, truth)


@pytest.mark.parametrize("kind", ["telescope", "telescope2"])
def test_two_boards_have_a_pair_and_no_resolution(tmp_path, kind):
    files = simulate(tmp_path / "data", seed=34, kind=kind, n_events=4000, boards=(0, 1))
    truth = load_truth(tmp_path / "data")
    run = go(files, tmp_path / "run")
    assert "resolution/boards" not in run
    assert "needs three boards or more" in run["resolution/problem"].to_polars()["reason"][0]
    pair = run["resolution/pairs"].to_polars().filter(iteration=1).row(0, named=True)
    expected = 1000 * np.hypot(*truth["expected_sigma_ns"])
    assert abs(pair["std"] - expected) < 4 * pair["std_error"]
    assert check_of(run, "time resolution")["verdict"] == "no-statistics"


def test_one_board_has_codes_and_nothing_else(tmp_path):
    (whole,) = simulate(tmp_path / "data", seed=35, n_events=800)
    one = tmp_path / "one.txt"
    one.write_text(
        "".join(line for line in whole.read_text().splitlines(keepends=True) if line.startswith("1 "))
    )
    run = go([one], tmp_path / "run")
    assert "needs two boards or more" in run["timewalk/problem"].to_polars()["reason"][0]
    assert "resolution/pairs" not in run
    assert run["pixels/table"].to_polars()["hits"].sum() > 700


# ---------------------------------------------------------------- truth: charge injection


def test_two_boards_are_scanned(tmp_path):
    folder = tmp_path / "data"
    thresholds = tuple(range(324, 575, 10))
    files = simulate(
        folder, seed=41, kind="injection", scanned=(1, 3), charges=(10, 15, 20), thresholds=thresholds
    )
    truth = load_truth(folder)
    run = go(files, tmp_path / "run")
    assert len(files) == run["ingest/files"].to_polars()["file"].n_unique()
    points = run["injection/points"].to_polars()
    assert points.height == truth["runs"] == 2 * 3 * len(thresholds)
    assert points.select("all_hits", "hits").sum().row(0) == (
        truth["total_hits"],
        truth["hits_with_cal_below_200"],
    )
    expected = {(p["board"], p["charge"], p["threshold"]): (p["hits"], p["splits"]) for p in truth["points"]}
    found = points.select("board", "charge", "threshold", "all_hits", "splits").iter_rows()
    assert {
        (board, charge, threshold): (hits, splits) for board, charge, threshold, hits, splits in found
    } == expected
    curves = run["injection/curves"].to_polars()
    assert curves["good"].all()
    pull = (curves["dac50"] - 330 - 9 * curves["charge"]) / curves["dac50_error"]
    assert (pull.abs() < 4).all(), curves
    assert ((curves["noise"] - 3.0) / curves["noise_error"]).abs().max() < 4
    lines = run["injection/lines"].to_polars().sort("board")
    assert lines["board"].to_list() == [1, 3]
    assert ((lines["offset"] - 330) / lines["offset_error"]).abs().max() < 4
    assert ((lines["slope"] - 9) / lines["slope_error"]).abs().max() < 4
    # the same pixel is not taken for the trigger while the other one is scanned
    assert set(points["board"].unique()) == {1, 3}
    assert not [name for name in run if name.startswith(("events/", "times/", "resolution/"))]


def test_jitter_of_a_probe(tmp_path):
    folder = tmp_path / "data"
    files = simulate(folder, seed=42, kind="probe")
    truth = load_truth(folder)
    for path, pixel in zip(files, truth["files"], strict=True):
        run = go([path], tmp_path / path.parent.name)
        row = run["pixels/table"].to_polars().row(by_predicate=pl.col("hits") > 100, named=True)
        assert row["hits"] == pixel["hits"]
        if pixel.get("stuck"):
            assert row["state"] == "stuck"
            assert run.record["verdict"] == "bad"
        else:
            assert row["good"]
            # the width of a code is known to jitter_error, the rounding to codes included
            assert row["jitter"] == pytest.approx(pixel["jitter_ps"], abs=4 * row["jitter_error"] + 2.0), (
                pixel
            )


def test_record_of_a_run_names_no_place(simulated):
    files, whole = simulated
    text = json.dumps({**open_run(whole.folder).record, "activity": {}})
    assert str(files[0].parent) not in text


def test_the_demo_finds_what_was_planted(tmp_path):
    files = simulate(tmp_path / "data", seed=44, **DETECTOR.demo)
    truth, faults = load_truth(tmp_path / "data"), DETECTOR.demo["faults"]
    run = go(files, tmp_path / "run")
    assert {check["name"] for check in run.record["checks"] if check["verdict"] != "ok"} == {
        "words not used", "drift of the calibration",
    }  # fmt: skip
    unused = run["ingest/counters"].to_polars().filter(~pl.col("used") & (pl.col("word") != "header line"))
    assert unused["count"].sum() == faults["cut_line"] + faults["large_code"]
    assert_true(run, truth)
