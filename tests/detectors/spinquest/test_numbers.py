"""The numbers that were computed independently of this package, on real and synthetic sample files."""

from __future__ import annotations

import json
from pathlib import Path

import awkward as ak
import numpy as np
import polars as pl
import pytest
import uproot

from firstlight.detector import get_detector
from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.detectors.spinquest.legacy import imported_run
from firstlight.detectors.spinquest.simulate import simulate_spill
from firstlight.errors import InputError, InputsRefusedError
from firstlight.run.chain import Settings, process
from firstlight.run.comparison import compare_runs
from firstlight.run.progress import Progress
from firstlight.steps.multiplicity import moments

QUIET = Settings(progress=Progress(quiet=True), plots=False)
READABLE = (
    "mc_rus/JPsi_Dump_track1.root",
    "mc_rus/MUM_Dump_10K.root",
    "mc_rus/Mess_Gen_mc_events.root",
    "mc_rus/Mess_Gen_single_muons.root",
    "mc_rus/QTracker_basic_JPsi_Dump.root",
    "mc_rus/mc_events_randomized_329.root",
    "mc_rus/noisy_output.root",
    "mc_trackqa/JPsi_Target_1K.root",
    "mc_trackqa/trackQA1.root",
    "synthetic_sraw/synth_sraw_e1039.root",
    "synthetic_sraw/synth_sraw_e906layout.root",
    "synthetic_sraw/synth_sraw_lzma.root",
    "synthetic_sraw/synth_sraw_uprootflat.root",
    "synthetic_sraw/synth_sraw_zeroevents.root",
)
REASONS = {
    "broken/DY_Dump_in_JPsi_Target.root": "without any tree",
    "broken/Signal_rus.root": r"too short for a ROOT file \(2 bytes\)",
    "broken/synth_sraw_truncated.root": "ends too early",
    "synthetic_sraw/synth_sraw_unsplit.root": "unsplit",
}


@pytest.fixture(scope="session")
def spinquest_data(sample_data: Path):
    return sample_data / "spinquest"


@pytest.fixture(scope="module")
def expected(spinquest_data: Path):
    return json.loads((spinquest_data / "expected.json").read_text())


def run_on(paths, folder, **configuration):
    return process(get_detector("spinquest"), paths, folder, configuration, QUIET)


@pytest.mark.parametrize("name", READABLE)
def test_counts_of_every_readable_file(name, spinquest_data, expected, tmp_path):
    want = expected[name]
    run = run_on([spinquest_data / name], tmp_path / "run", geometry="E1039")
    spills = run["spills/spills"].to_polars()
    counts = run["occupancy/counts"].value
    hits, events = counts.select(kind="hits"), counts.select(kind="events")
    assert spills["n_events"].sum() == want["events"]
    assert hits.sum() == want.get("hits_valid", 0)
    assert spills["n_bad_detector"].sum() == want.get("hits_bad_detector", 0)
    assert spills["n_bad_element"].sum() == want.get("hits_bad_element", 0)
    assert spills["n_padding"].sum() == want.get("sentinel_hits", 0)
    assert spills["n_empty"].sum() == want.get("zero_hit_events", 0)
    assert np.count_nonzero(hits) == want.get("nonzero_cells_valid", 0)
    assert hits.sum() - events.sum() == want.get("duplicate_hits_same_event_det_ele", 0)
    assert spills["n_header_differs"].sum() == 0
    if "hottest_cell_valid" in want:
        cells = (
            run["channels/map"].to_polars().with_columns(hits=pl.Series(hits)).sort("hits", descending=True)
        )
        best = want["hottest_cell_valid"]
        top = cells.filter(pl.col("hits") == best["hits"])
        assert cells["hits"][0] == best["hits"]
        assert (best["det"], best["ele"]) in set(top.select("detector_id", "element_id").iter_rows())
    by_plane = (
        run["channels/map"]
        .to_polars()
        .with_columns(hits=pl.Series(hits))
        .group_by("detector_id")
        .agg(pl.col("hits").sum())
    )
    found = {str(det): n for det, n in by_plane.iter_rows() if n}
    assert found == want.get("hits_by_detector_valid", {})


@pytest.mark.parametrize("name", [name for name in READABLE if "sraw" in name and "zero" not in name])
def test_in_time_hits_and_triggers(name, spinquest_data, expected, tmp_path):
    want = expected[name]
    run = run_on([spinquest_data / name], tmp_path / "run")
    spills = run["spills/spills"].to_polars()
    assert spills["n_in_time"].sum() == want["in_time_hits_flag_bit1"]
    assert run["occupancy/counts"].value.select(kind="in_time").sum() == want["in_time_hits_flag_bit1"]
    for trigger, number in want["trigger_bits"].items():
        assert spills[trigger.replace("MATRIX", "FPGA")].sum() == number
    assert spills["n_no_trigger"].sum() == want["events_without_trigger_bit"]
    cut = run_on([spinquest_data / name], tmp_path / "cut", in_time=True)
    assert cut["occupancy/counts"].value.select(kind="hits").sum() == want["in_time_hits_flag_bit1"]
    assert cut.record["cut_flow"][0]["left"] == want["in_time_hits_flag_bit1"]


@pytest.mark.parametrize("name", ["synth_sraw_e1039", "synth_sraw_e906layout", "synth_sraw_lzma"])
def test_sums_of_the_writers_own_counts(name, spinquest_data, tmp_path):
    path = spinquest_data / f"synthetic_sraw/{name}.root"
    tree = uproot.open(path)["save"]
    leaf = next(key for key in tree.keys(recursive=True) if "fNHits" in key)
    written = tree[leaf].array(library="np").sum(axis=0)
    run = run_on([path], tmp_path / "run")
    frame = (
        run["channels/map"]
        .to_polars()
        .with_columns(hits=pl.Series(run["occupancy/counts"].value.select(kind="hits")))
    )
    found = dict(frame.group_by("detector_id").agg(pl.col("hits").sum()).iter_rows())
    assert written[0] == sum(found.values())
    assert [found.get(plane, 0) for plane in range(1, written.size)] == written[1:].tolist()
    assert run["spills/spills"].to_polars()["n_header_differs"].sum() == 0


def test_a_header_that_contradicts_its_hits_is_reported(tmp_path):
    path = tmp_path / "spill.root"
    with uproot.recreate(path) as file:
        hits = {"detectorID": "var * int16", "elementID": "var * int16"}
        file.mktree(
            "save", {"fNHits": "63 * int32", **{f"fAllHits.{key}": kind for key, kind in hits.items()}}
        )
        header = np.zeros((3, 63), dtype=np.int32)
        header[:, 0] = 2
        header[0, 1] = header[1, 2] = header[2, 1] = 2
        ids = ak.values_astype(ak.Array([[1, 1], [1, 1], [1, 1]]), np.int16)
        file["save"].extend({"fNHits": header, "fAllHits.detectorID": ids, "fAllHits.elementID": ids})
    run = run_on([path], tmp_path / "run")
    assert run["spills/spills"].to_polars()["n_header_differs"].sum() == 1
    (check,) = [entry for entry in run.record["checks"] if entry["name"] == "hits per event as written"]
    assert check["verdict"] == "bad"


def test_triggers_of_rus(spinquest_data, expected, tmp_path):
    name = "mc_rus/MUM_Dump_10K.root"
    spills = run_on([spinquest_data / name], tmp_path / "run")["spills/spills"].to_polars()
    for family, prefix in (("fpgaTrigger", "FPGA"), ("nimTrigger", "NIM")):
        assert [spills[f"{prefix}{i}"].sum() for i in range(1, 6)] == expected[name][family]


def test_lzma_and_flat_leaves_hold_the_same(spinquest_data, tmp_path):
    runs = [
        run_on([spinquest_data / f"synthetic_sraw/synth_sraw_{kind}.root"], tmp_path / kind)
        for kind in ("lzma", "uprootflat")
    ]
    for product in ("occupancy/counts", "tdc/all", "tdc/in_time", "drift/all", "multiplicity/hits_per_event"):
        one, other = (run[product].to_numpy() for run in runs)
        assert np.array_equal(one, other)


def test_the_geometry_of_e906_is_chosen_by_the_number_of_planes(spinquest_data, tmp_path):
    run = run_on([spinquest_data / "synthetic_sraw/synth_sraw_e906layout.root"], tmp_path / "run")
    assert run.record["channels"]["version"] == "E906"
    assert run["channels/map"].to_polars()["detector_id"].max() == 54
    assert run["spills/spills"].to_polars()["n_hits"].sum() == 19020


@pytest.mark.parametrize("name", REASONS)
def test_what_cannot_be_read_is_named_and_stops_nothing(name, spinquest_data, tmp_path):
    good = spinquest_data / "synthetic_sraw/synth_sraw_lzma.root"
    with pytest.raises(InputError, match=REASONS[name]):
        run_on([spinquest_data / name], tmp_path / "alone")
    with pytest.raises(InputsRefusedError, match=REASONS[name]) as caught:
        run_on([spinquest_data / name, good], tmp_path / "both")
    assert caught.value.run["occupancy/counts"].value.select(kind="hits").sum() == 6832
    refused = [entry for entry in caught.value.run.record["inputs"] if entry["status"] == "refused"]
    assert len(refused) == 1


def test_files_of_the_original_under_their_names(spinquest_data, tmp_path):
    name = "synth_sraw_e1039.root"
    run = run_on([spinquest_data / "synthetic_sraw" / name], tmp_path / "run")
    total = json.loads((tmp_path / "run/total_hits_data.json").read_text())
    by_file = json.loads((tmp_path / "run/file_hits_data.json").read_text())
    assert by_file == {name: total}
    assert sum(total.values()) == 158274
    assert len(total) == 4338
    assert total["33_10"] == 488
    assert run.record["exports"][:2] == ["total_hits_data.json", "file_hits_data.json"]


# -- real beam data: occupancies of two spills of run 5994 ------------------------------------------------------


@pytest.fixture(scope="module")
def real(spinquest_data: Path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    files = {
        "510": "spill_001924510_total_hits_data.json",
        "430": "spill_001924430_total_hits_data_matrix.json",
    }
    return {
        key: imported_run(spinquest_data / "real_run005994" / file, folder / key, {}, QUIET)
        for key, file in files.items()
    }


def hits_of(run, plane, element):
    counts = run["occupancy/counts"].value.select(kind="hits")
    channels = channel_map(load_geometry("E1039"))
    return int(counts[channels.channels_of(plane)[element - 1]])


def test_spill_510_read_again(real):
    counts = real["510"]["occupancy/counts"].value.select(kind="hits")
    assert np.count_nonzero(counts) == 4440
    assert counts.sum() == 4_099_549
    assert counts.max() == hits_of(real["510"], "H1L", 10) == 12_397
    channels = channel_map(load_geometry("E1039"))
    totals = dict(zip(channels.group_names, channels.sum_groups(counts), strict=True))
    assert (totals["D0U"], totals["D0Vp"], totals["DP2BR"]) == (274_336, 2, 3_606)


def test_last_elements_are_there(real, spinquest_data):
    for key, want in (("510", 72_815), ("430", 70_232)):
        counts = real[key]["occupancy/counts"].value.select(kind="hits")
        original = load_geometry("original").planes
        channels = channel_map(load_geometry("E1039"))
        last = sum(
            int(counts[channels.channels_of(row["name"])[row["n_elements"] - 1]])
            for row in original.iter_rows(named=True)
        )
        assert last == want


def test_hits_per_event_of_the_real_spill(spinquest_data):
    values = np.loadtxt(spinquest_data / "real_run005994/spill_001924430_hits_per_event.csv", skiprows=1)
    found = moments(np.bincount(values.astype(int)))
    assert found["n"] == 3716
    assert found["mean"] == pytest.approx(1089.0401, abs=1e-4)
    assert found["median"] == 666
    assert found["std"] == pytest.approx(1146.6971, abs=1e-4)
    assert found["maximum"] == 6309


def flagged(run, *states):
    frame = run["quality/channels"].to_polars().filter(pl.col("state").is_in(states))
    return set(frame.select("plane", "element").iter_rows())


@pytest.mark.parametrize("key", ["510", "430"])
def test_verdicts_on_the_real_spills(real, key):
    run = real[key]
    planes = run["quality/planes"].to_polars()
    assert planes.filter(pl.col("state") == "dead")["plane"].to_list() == ["D0Vp"]
    hot = flagged(run, "hot")
    assert ("D0X", 74) in hot
    assert not hot & {(plane, e) for plane in ("H4Y1L", "H4Y1R", "H4Y2L", "H4Y2R") for e in (8, 9)}
    assert not hot & {("D0X", 155), ("D0X", 156), ("P2Y2", 72), ("P2Y1", 53)}
    assert len(hot) <= 3
    dead = flagged(run, "dead")
    triples = [*range(6, 9), *range(57, 60), *range(70, 73), *range(121, 124), *range(134, 137)]
    assert {("D0Xp", e) for e in triples} <= dead
    assert {("D0X", e) for e in (151, 152, 154, 157, 160)} <= dead
    assert {("D2X", e) for e in (49, 53, 57)} | {("D2Up", 88), ("D2Up", 89), ("D0Up", 195)} <= dead
    blocks = set(
        run["quality/blocks"]
        .to_polars()
        .filter(pl.col("complete"))
        .select("plane", "first", "last")
        .iter_rows()
    )
    assert {("P1X1", 65, 72), ("P1X2", 65, 72), ("P2X1", 33, 40), ("P2X2", 33, 40)} <= blocks
    subjects = [check["subject"] for check in run.record["checks"] if check["name"] == "plane dead"]
    assert subjects == ["D0Vp"]


def test_the_real_spills_against_each_other(real, tmp_path):
    run = compare_runs(real["510"], real["430"], tmp_path / "cmp", settings=QUIET)
    found = {entry["label"]: entry["value"] for entry in run.record["summary"]}
    assert found["scale"] == pytest.approx(1.0130, abs=2e-4)
    assert found["chi2 / ndf, one scale"] == pytest.approx(1.46, abs=0.01)
    groups = {row["group"]: row for row in run["compare/groups"].to_polars().iter_rows(named=True)}
    for plane, change in {"H1B": 4.4, "H1T": 4.8, "H1R": 4.7, "DP1BR": -5.4, "DP2TR": -5.1}.items():
        assert 100 * (groups[plane]["scale"] - 1) == pytest.approx(change, abs=0.15)
    assert run.record["verdict"] == "ok"


def test_one_real_spill_as_reference_of_the_other(real, spinquest_data, tmp_path):
    reference = str(spinquest_data / "real_run005994/spill_001924430_total_hits_data.csv")
    path = spinquest_data / "real_run005994/spill_001924510_total_hits_data.json"
    run = imported_run(path, tmp_path / "run", {"quality": {"reference": reference}}, QUIET)
    assert not flagged(run, "dead", "hot", "low")


# -- simulated spills with known truth ---------------------------------------------------------------------------


def judged(tmp_path, seed, faults):
    path = tmp_path / "spill.root"
    simulate_spill(path, seed=seed, n_events=3716, faults=faults)
    return run_on([path], tmp_path / "run")


def test_every_planted_fault_is_found_and_named(tmp_path):
    faults = ["dead:D0Vp", "dead:D2X:100", "hot:D0X:74=40", "rate:D3pXp=0.6", "shift:D2U=36", "block:P1X1:20"]
    run = judged(tmp_path, 4711, faults)
    bad = {(c["name"], c["subject"]) for c in run.record["checks"] if c["verdict"] in ("bad", "warn")}
    assert bad == {
        ("plane dead", "D0Vp"),
        ("dead elements", "D2X"),
        ("hot elements", "D0X"),
        ("plane low", "D3pXp"),
        ("time shifted", "D2U"),
        ("dead block", "P1X1"),
        ("dead elements", "P1X1"),
    }
    assert flagged(run, "hot") == {("D0X", 74)}
    assert ("D2X", 100) in flagged(run, "dead")
    assert {("P1X1", e) for e in range(17, 25)} <= flagged(run, "dead")


@pytest.mark.parametrize("seed", [1234, 99, 31337])
def test_a_clean_spill_gives_at_most_three_false_alarms(tmp_path, seed):
    run = judged(tmp_path, seed, [])
    assert len(flagged(run, "dead", "hot", "low")) <= 3
    assert not [c for c in run.record["checks"] if c["verdict"] == "bad"]
