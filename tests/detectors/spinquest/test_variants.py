"""File variants that the samples do not have: plural names, padding, matrices, what cannot be read."""

from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest
import uproot

from firstlight.detector import get_detector
from firstlight.detectors.spinquest.layouts import PADDING
from firstlight.detectors.spinquest.source import RootHits
from firstlight.errors import InputError
from firstlight.run.chain import Settings, process
from firstlight.run.progress import Progress

QUIET = Settings(progress=Progress(quiet=True), plots=False)


def write(path, name, **branches):
    with uproot.recreate(path) as file:
        kinds = {key: ak.type(ak.Array(value)).content for key, value in branches.items()}
        file.mktree(name, kinds)
        file[name].extend(branches)
    return path


def run_on(path, folder, **configuration):
    return process(get_detector("spinquest"), [path], folder, configuration, QUIET)


def test_plural_names_with_padding_and_empty_times(tmp_path):
    ids = np.full((3, 8), PADDING[1], dtype=np.int32)
    elements = ids.copy()
    ids[0, :3], elements[0, :3] = [1, 1, 31], [5, 6, 2]
    ids[2, :2], elements[2, :2] = [13, 13], [7, 7]
    flags = np.zeros((3, 8), dtype=np.int32)
    flags[0, 0] = 1
    path = write(
        tmp_path / "mock.root",
        "tree",
        detectorIDs=ak.Array(list(ids)),
        elementIDs=ak.Array(list(elements)),
        hitsInTime=ak.Array(list(flags)),
        tdcTimes=ak.values_astype(ak.Array([[1.0], [], []])[:, :0], np.float64),
        driftDistances=ak.values_astype(ak.Array([[1.0], [], []])[:, :0], np.float64),
        fpgaTriggers=np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=np.int32),
        nimTriggers=np.array([[0] * 5, [0, 1, 0, 0, 0], [0] * 5], dtype=np.int32),
    )
    run = run_on(path, tmp_path / "run")
    spills = run["spills/spills"].to_polars()
    counts = run["occupancy/counts"].value
    assert spills["n_events"].sum() == 3
    assert spills["n_empty"].sum() == 1
    assert counts.select(kind="hits").sum() == 5
    assert counts.select(kind="events").sum() == 4
    assert counts.select(kind="in_time").sum() == 1
    assert spills["n_padding"].sum() == 24 - 5
    assert (spills["FPGA1"][0], spills["FPGA4"][0], spills["NIM2"][0]) == (1, 1, 1)
    assert run["tdc/all"].value.total == 0


def test_hit_matrix(tmp_path):
    matrix = np.zeros((4, 30, 201), dtype=bool)
    matrix[0, 0, 0] = matrix[0, 2, 159] = matrix[3, 29, 133] = True
    path = write(tmp_path / "matrix.root", "tree", hit_matrix=matrix)
    assert RootHits().describe(path).kind == "hit matrix"
    run = run_on(path, tmp_path / "run")
    table = run["channels/map"].to_polars()
    counts = run["occupancy/counts"].value.select(kind="hits")
    fired = (
        table.filter(table["channel"].is_in(np.flatnonzero(counts).tolist()))
        .select("detector_id", "element_id")
        .rows()
    )
    assert fired == [(1, 1), (3, 160), (30, 134)]
    assert run["spills/spills"].to_polars()["n_empty"].sum() == 2


def test_a_dst_is_refused_by_name(tmp_path):
    path = tmp_path / "run_000001_spin.root"
    with uproot.recreate(path) as file:
        file.mktree("T", {"DST.SQEvent": "int32"})
        file["T"].extend({"DST.SQEvent": np.arange(3, dtype=np.int32)})
    with pytest.raises(
        InputError, match="DST with objects that only the software of the experiment can read"
    ):
        RootHits().describe(path)


def test_a_tree_without_hits_says_what_is_there(tmp_path):
    path = write(tmp_path / "other.root", "events", energy=np.arange(3.0), charge=np.arange(3))
    with pytest.raises(InputError, match="no tree with hits: found events with energy, charge"):
        RootHits().describe(path)


def test_counts_of_the_original_hold_ids_outside_the_geometry(tmp_path):
    path = write(
        tmp_path / "noisy.root",
        "tree",
        detectorID=ak.Array([np.array([0, 1, 1, 99], dtype=np.int32), np.array([1], dtype=np.int32)]),
        elementID=ak.Array([np.array([7, 3, 250, 1], dtype=np.int32), np.array([3], dtype=np.int32)]),
    )
    run_on(path, tmp_path / "run")
    assert json.loads((tmp_path / "run/total_hits_data.json").read_text()) == {"1_3": 2}
    run_on(path, tmp_path / "legacy", view={"legacy_layout": True})
    total = json.loads((tmp_path / "legacy/total_hits_data.json").read_text())
    assert total == {"1_3": 2, "0_7": 1, "99_1": 1, "1_250": 1}
    assert json.loads((tmp_path / "legacy/file_hits_data.json").read_text()) == {"noisy.root": total}
    group = json.loads((tmp_path / "legacy/Station_1_data.json").read_text())
    assert {"detector": "D0U", "element": 201, "hits": 0} in group
    assert {"detector": "D0U", "element": 3, "hits": 2} in group
