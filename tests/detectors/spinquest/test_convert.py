"""Conversions to Parquet, flat ROOT and CSV: nothing is lost, nothing invented."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Chunk, Span
from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.convert import EVENT_TABLE, HIT_TABLE, to_csv, to_flat_root, to_parquet
from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.detectors.spinquest.source import EVENTS, SOURCES
from firstlight.errors import UsageError

REPOSITORY = Path(__file__).parents[3]
DATA = Path(os.environ.get("FIRSTLIGHT_DATA", REPOSITORY.parent / "shared" / "data")) / "spinquest"
SRAW = DATA / "synthetic_sraw" / "synth_sraw_e1039.root"
pytestmark = pytest.mark.skipif(not SRAW.is_file(), reason="no SpinQuest data; set FIRSTLIGHT_DATA")

CHANNELS = channel_map(load_geometry("E1039"))
# events, hits, padding: published with the data
KNOWN = {
    "synthetic_sraw/synth_sraw_e1039.root": (160, 158_274, 0),
    "synthetic_sraw/synth_sraw_e906layout.root": (60, 19_020, 0),
    "synthetic_sraw/synth_sraw_uprootflat.root": (30, 6_832, 0),
    "synthetic_sraw/synth_sraw_zeroevents.root": (0, 0, 0),
    "mc_rus/MUM_Dump_10K.root": (10_000, 351_905, 0),
    "mc_rus/noisy_output.root": (910, 252_214, 0),
    "mc_rus/mc_events_randomized_329.root": (329, 74_241, 0),
    "mc_trackqa/trackQA1.root": (283, 20_430, 121_070),
    "mc_trackqa/JPsi_Target_1K.root": (1_343, 96_887, 574_613),
}
BAD = {
    "broken/DY_Dump_in_JPsi_Target.root": "without any tree",
    "broken/Signal_rus.root": "too short",
    "broken/synth_sraw_truncated.root": "ends too early",
    "synthetic_sraw/synth_sraw_unsplit.root": "unsplit",
}


def read_whole(path: Path) -> Chunk:
    found = SOURCES[0].describe(path)
    wanted = {
        "hits": ("event", "channel", "detector_id", "element_id", "tdc_time", "drift_distance", "in_time"),
        "events": tuple(EVENTS.names),
        "header": ("n_hits",),
    }
    (chunk,) = SOURCES[0].read(
        Span(str(path), 0, 0, found.n_events), wanted, CHANNELS, chunk_events=1_000_000
    )
    return chunk


@pytest.mark.parametrize("name", KNOWN)
def test_parquet_has_every_hit_and_event(name: str, tmp_path: Path) -> None:
    path, (n_events, n_hits, n_padding) = DATA / name, KNOWN[name]
    report = to_parquet([path], tmp_path, chunk_events=97, geometry="E1039")
    (one,) = report.converted
    assert (one.n_events, one.n_hits, one.n_padding) == (n_events, n_hits, n_padding)
    assert not report.refused
    assert report.outputs == tuple(tmp_path / path.stem / f"{table}.parquet" for table in ("hits", "events"))
    hits, events = (pl.read_parquet(output) for output in one.outputs)
    assert (hits.height, events.height) == (n_hits, n_events)
    HIT_TABLE.validate(hits)
    EVENT_TABLE.validate(events)
    assert not hits["detector_id"].is_in([32767, 2147483647]).any()
    chunk = read_whole(path)
    for column in ("channel", "detector_id", "element_id", "tdc_time", "drift_distance", "in_time"):
        assert np.array_equal(
            hits[column].to_numpy(), chunk.table("hits").array(column), equal_nan=column[0] in "td"
        )
    assert np.array_equal(hits["entry"].to_numpy(), chunk.table("hits").array("event"))
    assert np.array_equal(events["entry"].to_numpy(), np.arange(n_events))
    for column in ("run_id", "event_id", "spill_id", "n_hits", "n_padding"):
        assert np.array_equal(events[column].to_numpy(), chunk.table("events").array(column))


def test_parquet_says_what_its_columns_mean(tmp_path: Path) -> None:
    (one,) = to_parquet([SRAW], tmp_path).converted
    metadata = pl.read_parquet_metadata(one.outputs[0])
    columns = {column["name"]: column for column in json.loads(metadata["firstlight_schema"])["columns"]}
    assert columns["tdc_time"]["unit"] == "ns"
    assert columns["drift_distance"]["unit"] == "cm"
    assert all(column["description"] for column in columns.values())
    assert json.loads(metadata["firstlight_inputs"]) == [SRAW.name]


def test_events_without_hits_and_triggers_are_kept(tmp_path: Path) -> None:
    (one,) = to_parquet([SRAW], tmp_path).converted
    events = pl.read_parquet(one.outputs[1])
    assert (events["n_hits"] == 0).sum() == 10
    sums = {name: int(events[name].sum()) for name in TRIGGERS}
    assert (sums["FPGA1"], sums["FPGA5"], sums["NIM1"], sums["NIM3"]) == (36, 25, 24, 55)
    hits = pl.read_parquet(one.outputs[0])
    assert (hits["in_time"] == 1).sum() == 125_011
    assert hits.filter(pl.col("detector_id") == 43)["plane"].unique().to_list() == ["H4Y2L"]


def test_unknown_planes_and_missing_triggers_are_null(tmp_path: Path) -> None:
    (one,) = to_parquet([DATA / "mc_rus" / "noisy_output.root"], tmp_path).converted
    hits, events = (pl.read_parquet(output) for output in one.outputs)
    unknown = hits.filter(pl.col("plane").is_null())
    assert unknown["detector_id"].unique().to_list() == [0]
    assert unknown.height == 1_983
    assert events["NIM1"].null_count() == events.height


def test_merged_files_keep_the_order_and_leave_out_the_bad(tmp_path: Path) -> None:
    good = ["synthetic_sraw/synth_sraw_uprootflat.root", "mc_trackqa/trackQA1.root"]
    names = [good[0], *BAD, good[1]]
    report = to_parquet([DATA / name for name in names], tmp_path / "out", merged=True, chunk_events=50)
    hits = pl.read_parquet(tmp_path / "out" / "hits.parquet")
    assert hits.height == report.n_hits == sum(KNOWN[name][1] for name in good)
    assert hits["file"].unique(maintain_order=True).to_list() == [Path(name).name for name in good]
    assert set(report.refused) == {str(DATA / name) for name in BAD}
    for name, reason in BAD.items():
        assert reason in report.refused[str(DATA / name)]
    # neither parts nor temporary files stay behind
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["events.parquet", "hits.parquet"]


@pytest.mark.parametrize("convert", [to_parquet, to_flat_root, to_csv])
def test_only_bad_files(convert, tmp_path: Path) -> None:
    report = convert([DATA / name for name in BAD], tmp_path)
    assert not report.converted
    assert not report.outputs
    assert len(report.refused) == len(BAD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", KNOWN)
def test_flat_root_reads_back_the_same(name: str, tmp_path: Path) -> None:
    path = DATA / name
    report = to_flat_root([path], tmp_path, chunk_events=89)
    (one,) = report.converted
    (output,) = one.outputs
    assert (one.n_events, one.n_hits) == KNOWN[name][:2]
    before, after = SOURCES[0].describe(path), SOURCES[0].describe(output)
    assert after.kind.startswith("SRAW")
    assert after.n_events == before.n_events
    for fact in ("has_in_time", "has_trigger"):
        assert after.facts[fact] == before.facts[fact]
    old, new = read_whole(path), read_whole(output)
    for column in ("event", "channel", "detector_id", "element_id", "tdc_time", "drift_distance", "in_time"):
        assert np.array_equal(
            old.table("hits").array(column), new.table("hits").array(column), equal_nan=column[0] in "td"
        ), column
    for column in [*EVENTS.names[:6], *TRIGGERS, "n_hits"]:
        assert np.array_equal(old.table("events").array(column), new.table("events").array(column)), column
    assert new.table("events").array("n_padding").sum() == 0
    # the header of the writer agrees with the hits
    header = new.block("header").values
    if before.n_events:
        assert np.array_equal(header[:, 0], new.table("events").array("n_hits"))
        known = new.table("hits").array("channel") >= 0
        counts = np.bincount(new.table("hits").array("detector_id")[known], minlength=header.shape[1])
        assert (header.sum(axis=0)[1:] >= counts[1:]).all()


def test_flat_root_has_the_names_that_the_original_tool_reads(tmp_path: Path) -> None:
    import uproot

    output = tmp_path / "flat.root"
    to_flat_root([SRAW], output)
    with uproot.open(output) as file:
        tree = file["save"]
        arrays = tree.arrays(["fAllHits.detectorID", "fAllHits.elementID"], library="np")
        assert sum(map(len, arrays["fAllHits.detectorID"])) == 158_274
        assert arrays["fAllHits.detectorID"][0].dtype == np.int16
        assert tree["fNHits"].array(library="np").shape == (160, 63)
        assert len(tree["fTriggerHits.detectorID"].array()) == 160


def test_flat_root_does_not_overwrite_its_input(tmp_path: Path) -> None:
    path = tmp_path / SRAW.name
    path.write_bytes(SRAW.read_bytes())
    with pytest.raises(UsageError, match="overwrite the input"):
        to_flat_root([path], tmp_path)
    assert path.read_bytes() == SRAW.read_bytes()


def test_csv(tmp_path: Path) -> None:
    path = DATA / "synthetic_sraw" / "synth_sraw_uprootflat.root"
    (one,) = to_csv([path], tmp_path, chunk_events=7).converted
    frame = pl.read_csv(one.outputs[0])
    assert frame.columns == HIT_TABLE.names
    assert frame.height == 6_832


def test_files_of_one_name_in_two_folders(tmp_path: Path) -> None:
    source = DATA / "synthetic_sraw" / "synth_sraw_uprootflat.root"
    paths = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / source.name)
        paths[-1].write_bytes(source.read_bytes())
    report = to_parquet(paths, tmp_path / "out")
    assert len(set(report.outputs)) == 4
    assert all(path.is_file() for path in report.outputs)


@pytest.mark.parametrize("convert", [to_parquet, to_flat_root, to_csv])
def test_wrong_calls(convert, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no input file"):
        convert([], tmp_path)
    with pytest.raises(UsageError, match="more than once"):
        convert([SRAW, SRAW], tmp_path)
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(UsageError, match="folder"):
        convert([SRAW], occupied)


def test_the_second_time_replaces_the_first(tmp_path: Path) -> None:
    first = to_parquet([SRAW], tmp_path)
    second = to_parquet([SRAW], tmp_path)
    assert first == second
    assert pl.read_parquet(second.outputs[0]).height == 158_274
