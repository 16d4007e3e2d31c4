"""A chain from raw files to a run: the same however it is run, kept when nothing changed, honest about what failed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import awkward as ak
import numpy as np
import polars as pl
import pytest
import uproot

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detector import get_detector
from firstlight.detectors.spinquest.source import RootHits
from firstlight.errors import ConfigError, InputError, InputsRefusedError, StoreError, UsageError
from firstlight.run import reading
from firstlight.run.chain import Settings, process
from firstlight.run.execution import Executor
from firstlight.run.progress import silent
from firstlight.run.store import Run, open_run
from firstlight.steps.step import ChunkStep

DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
DETECTOR = get_detector("spinquest")
# the steps that read and one that follows: judging every channel takes most of the time and is tested elsewhere
_STEPS = [step for step in DETECTOR.load("chain") if step.name != "quality"]
QUICK = replace(DETECTOR, chain=tuple(_STEPS), checks=None, exports=None)


def settings(**more) -> Settings:
    return Settings(**{"progress": silent(), "plots": False, **more})


def go(
    files: list[Path],
    output: Path,
    configuration: dict | None = None,
    max_events: int | None = None,
    detector=QUICK,
    **more,
) -> Run:
    return process(detector, files, output, configuration or {}, settings(**more), max_events=max_events)


def content_of(run: Run) -> dict[str, str]:
    """Digest of every product file of a run."""
    return {name: hashlib.sha256(run[name].path.read_bytes()).hexdigest() for name in sorted(run)}


def values_of(run: Run) -> dict[str, object]:
    found = {}
    for name in sorted(run):
        value = run[name].value
        found[name] = (
            value.frame.to_dicts()
            if hasattr(value, "frame")
            else np.asarray(getattr(value, "values", None)).tolist()
        )
    return found


def reused(run: Run) -> dict[str, bool]:
    return {
        name: entry.get("reused", False) for name, entry in run.record["steps"].items() if name != "channels"
    }


# ---------------------------------------------------------------- the numbers


def test_counts_are_those_of_the_files(raw_files, tmp_path, write_hits):
    written = [write_hits(path, seed=seed) for seed, path in enumerate(raw_files, 1)]
    run = go(raw_files, tmp_path / "run")
    totals = run["occupancy/totals"].to_polars().row(0, named=True)
    assert totals["n_events"] == 120
    assert totals["n_empty"] == sum(40 - np.unique(w.event).size for w in written)
    channels = run["channels/map"].to_polars()
    counts = run["occupancy/counts"].value.select(kind="hits")
    sizes = dict(channels.group_by("detector_id").len().iter_rows())
    cells = dict(zip(zip(channels["detector_id"], channels["element_id"], strict=True), counts, strict=True))
    expected: dict[tuple[int, int], int] = {}
    for w in written:
        for cell in zip(w.detector.tolist(), w.element.tolist(), strict=True):
            expected[cell] = expected.get(cell, 0) + 1
    inside = {cell: n for cell, n in expected.items() if cell[1] <= sizes.get(cell[0], 0)}
    assert {cell: int(n) for cell, n in cells.items() if n} == inside
    invalid = run["spills/invalid"].to_polars()
    assert invalid["hits"].sum() == sum(expected.values()) - sum(inside.values())


def test_everything_in_is_counted_out(raw_files, tmp_path):
    run = go(raw_files, tmp_path / "run")
    spills = run["spills/spills"].to_polars()
    hits = run["multiplicity/hits_per_event"].value.select(section="all")
    assert (hits * np.arange(hits.size)).sum() == spills.select(
        "n_hits", "n_bad_detector", "n_bad_element"
    ).sum().sum_horizontal()[0]
    assert run["tdc/all"].value.total == spills["n_hits"].sum()
    assert run["tdc/in_time"].value.total == spills["n_in_time"].sum()
    assert (
        run["occupancy/by_file"].to_polars()["hits"].sum() == run["occupancy/totals"].to_polars()["n_hits"][0]
    )


def write_spills(path: Path, spills: list[int], time: float = 1000.0) -> Path:
    """Write an event of two hits for each spill number; one hit has the given time."""
    n = len(spills)
    branches = {
        "spillID": np.array(spills, dtype=np.int32),
        "detectorID": ak.Array([[1, 2]] * n),
        "elementID": ak.Array([[1, 2]] * n),
        "tdcTime": ak.Array([[time, 1000.0]] * n),
        "hitInTime": ak.Array([[1, 0]] * n),
    }
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: ak.type(ak.Array(values)).content for name, values in branches.items()})
        file["tree"].extend(branches)
    return path


def test_spills_stay_in_the_order_of_the_file(tmp_path):
    path = write_spills(tmp_path / "a.root", [5, 5, 3, 9, 3])
    for name, detector in (("whole", QUICK), ("parts", replace(QUICK, sources=(InPieces(chunk=2),)))):
        run = go([path], tmp_path / name, detector=detector)
        spills = run["spills/spills"].to_polars()
        assert spills.select("spill_id", "n_events").rows() == [(5, 2), (3, 2), (9, 1)]


@pytest.mark.parametrize("time", [1e9, -5e9, 1e12, 1e30, float("inf"), float("nan"), 0.0])
def test_damaged_times_spoil_nothing_but_themselves(tmp_path, time):
    run = go([write_spills(tmp_path / "a.root", [1], time)], tmp_path / "run")
    planes = run["spills/planes"].to_polars()
    assert planes["n_hits"].head(2).to_list() == [1, 1]
    assert planes.select("tdc_mean", "tdc_std").head(2).rows() == [(None, None), (1000.0, 0.0)]


# ---------------------------------------------------------------- the same however it is run


def test_processes_and_a_dask_cluster_give_identical_products(raw_files, tmp_path):
    distributed = pytest.importorskip("distributed")
    real = DATA / "spinquest" / "synthetic_sraw" / "synth_sraw_e906layout.root"
    raw_files = [*raw_files, *([real] if real.exists() else [])]
    configuration = {"trigger": ["FPGA1", "FPGA2"], "cuts": ["tdc_time between 700 and 1400"]}
    serial = go(raw_files, tmp_path / "serial", configuration, detector=DETECTOR)
    jobs = go(raw_files, tmp_path / "jobs", configuration, detector=DETECTOR, executor=Executor(jobs=2))
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    ) as cluster:
        executor = Executor(dask=cluster.scheduler_address)
        dask = go(raw_files, tmp_path / "dask", configuration, detector=DETECTOR, executor=executor)
    assert content_of(serial) == content_of(jobs) == content_of(dask)
    assert {name: p.provenance["key"] for name, p in serial.items()} == {
        name: p.provenance["key"] for name, p in dask.items()
    }
    assert serial.record["cut_flow"] == jobs.record["cut_flow"] == dask.record["cut_flow"]
    for name in ("total_hits_data.json", "file_hits_data.json", "verdicts.json"):
        assert (serial.folder / name).read_bytes() == (dask.folder / name).read_bytes()


@dataclass(frozen=True)
class InPieces(RootHits):
    """The same source, in chunks of a few events."""

    chunk: int = 1

    def read(self, span, columns, channels, *, chunk_events=None):
        return super().read(span, columns, channels, chunk_events=self.chunk)


@pytest.mark.parametrize(("span", "chunk"), [(None, 1), (14, 7), (3, 1000)])
def test_products_do_not_depend_on_where_chunks_and_spans_end(raw_files, tmp_path, span, chunk):
    configuration = {"trigger": ["FPGA1"], "first_hit": True, "in_time": True}
    pieces = replace(QUICK, sources=(InPieces(span_events=span, chunk=chunk),))
    whole = values_of(go(raw_files, tmp_path / "whole", configuration))
    assert values_of(go(raw_files, tmp_path / "parts", configuration, detector=pieces)) == whole


# ---------------------------------------------------------------- kept, made again, forced


def test_second_run_keeps_everything(raw_files, tmp_path):
    first = go(raw_files, tmp_path / "run")
    before = {name: first[name].path.stat().st_mtime_ns for name in first if not name.startswith("channels/")}
    again = go(raw_files, tmp_path / "run")
    assert set(reused(again).values()) == {True}
    assert {name: again[name].path.stat().st_mtime_ns for name in before} == before


def test_parameter_of_one_step_makes_only_that_step_again(raw_files, tmp_path):
    first = go(raw_files, tmp_path / "run", detector=DETECTOR)
    total = first["tdc/all"].value.total
    again = go(raw_files, tmp_path / "run", {"tdc": {"bins": 108}}, detector=DETECTOR)
    made = {name for name, kept in reused(again).items() if not kept}
    assert made == {"tdc", "quality"}  # verdicts use the spectra
    assert again["tdc/all"].value.axes[1].bins == 108
    assert again["tdc/all"].value.total == total == first["occupancy/totals"].to_polars()["n_hits"][0]


@pytest.mark.parametrize(
    "configuration",
    [{"trigger": ["FPGA1"]}, {"in_time": True}, {"cuts": ["tdc_time > 1000"]}, {"first_hit": True}],
)
def test_step_made_again_alone_sees_the_same_cuts(raw_files, tmp_path, configuration):
    """With fewer steps fewer columns are read: cuts must still reach the hits."""
    go(raw_files, tmp_path / "run", configuration)
    again = go(
        raw_files, tmp_path / "run", {**configuration, "tdc": {"bins": 108}, "occupancy": {"marks": {}}}
    )
    fresh = go(
        raw_files, tmp_path / "fresh", {**configuration, "tdc": {"bins": 108}, "occupancy": {"marks": {}}}
    )
    assert reused(again)["multiplicity"]
    assert values_of(again) == values_of(fresh)
    assert again.record["cut_flow"] == fresh.record["cut_flow"]


def test_option_makes_all_again(raw_files, tmp_path):
    go(raw_files, tmp_path / "run")
    assert not any(reused(go(raw_files, tmp_path / "run", {"in_time": True})).values())


def test_how_it_is_drawn_makes_nothing_again(raw_files, tmp_path):
    go(raw_files, tmp_path / "run")
    assert all(reused(go(raw_files, tmp_path / "run", {"view": {"scale": "linear"}})).values())


def test_force_makes_all_again_with_the_same_result(raw_files, tmp_path):
    first = content_of(go(raw_files, tmp_path / "run"))
    forced = go(raw_files, tmp_path / "run", force=True)
    assert not any(reused(forced).values())
    assert content_of(forced) == first


def test_changed_file_makes_all_again(raw_files, tmp_path, write_hits):
    go(raw_files, tmp_path / "run")
    write_hits(raw_files[0], seed=77)
    again = go(raw_files, tmp_path / "run")
    assert not any(reused(again).values())
    assert values_of(again) == values_of(go(raw_files, tmp_path / "fresh"))


def test_changed_geometry_file_makes_all_again(raw_files, tmp_path):
    """Same path, same name, same number of channels: only the content tells."""
    from firstlight.detectors.spinquest import geometry

    lines = (geometry.FOLDER / "E1039.csv").read_text().splitlines()
    header = next(line for line in lines if not line.startswith("#"))
    column = header.split(",").index("n_elements")
    path = tmp_path / "planes.csv"

    def write(exchanged: bool) -> None:
        table = [line.split(",") for line in lines]
        one, other = (next(row for row in table if name in row[1:2]) for name in ("D0U", "D0X"))
        if exchanged:
            one[column], other[column] = other[column], one[column]
        path.write_text("\n".join(",".join(row) for row in table) + "\n")

    write(exchanged=False)
    go(raw_files, tmp_path / "run", {"geometry": str(path)})
    write(exchanged=True)
    again = go(raw_files, tmp_path / "run", {"geometry": str(path)})
    assert not any(reused(again)[name] for name in ("occupancy", "spills", "tdc"))
    assert values_of(again) == values_of(go(raw_files, tmp_path / "fresh", {"geometry": str(path)}))


def test_moved_files_and_moved_run_are_recognised(raw_files, tmp_path):
    go(raw_files, tmp_path / "run")
    shutil.move(tmp_path / "raw", tmp_path / "elsewhere")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    again = go([tmp_path / "elsewhere" / path.name for path in raw_files], tmp_path / "moved")
    assert all(reused(again).values())


@pytest.mark.parametrize("damage", ["gone", "half", "another key"])
def test_damaged_product_is_made_again(raw_files, tmp_path, damage):
    first = go(raw_files, tmp_path / "run")
    before = content_of(first)
    path = first["tdc/all"].path
    if damage == "gone":
        path.unlink()
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:500])
    else:
        first.put("tdc/all", first["drift/all"].value, {"key": "other"})
    again = go(raw_files, tmp_path / "run")
    assert not reused(again)["tdc"]
    assert reused(again)["drift"]
    assert content_of(again) == before


def test_fewer_files_leave_nothing_of_the_others(raw_files, tmp_path):
    go(raw_files, tmp_path / "run")
    assert values_of(go(raw_files[:1], tmp_path / "run")) == values_of(go(raw_files[:1], tmp_path / "fresh"))


def test_run_says_where_it_comes_from_without_absolute_paths(raw_files, tmp_path):
    run = go(raw_files, tmp_path / "run")
    text = (run.folder / "run.json").read_text()
    assert str(tmp_path) not in text
    record = json.loads(text)
    assert [entry["path"] for entry in record["inputs"]] == [f"../raw/{path.name}" for path in raw_files]
    assert all(
        entry["digest"].startswith("sha256:") and entry["n_events"] == 40 for entry in record["inputs"]
    )
    assert record["inputs"][0]["conditions"] == {"run": 5994, "spill": 1}
    assert record["configuration"]["tdc"]["bins"] == 216
    for name, entry in record["products"].items():
        assert entry["key"] == record["steps"][name.split("/")[0]]["key"]
        assert (run.folder / entry["file"]).is_file()


# ---------------------------------------------------------------- what cannot be used


def bad_file(path: Path) -> Path:
    path.write_bytes(b"root" + b"x" * 500)
    return path


def test_bad_file_is_refused_by_name_and_the_others_are_done(raw_files, tmp_path):
    with pytest.raises(InputsRefusedError, match="1 of 4 input files were refused") as caught:
        go([*raw_files, bad_file(tmp_path / "bad.root")], tmp_path / "run")
    assert values_of(caught.value.run) == values_of(go(raw_files, tmp_path / "fresh"))
    refused = [entry for entry in open_run(tmp_path / "run").record["inputs"] if entry["status"] == "refused"]
    assert [entry["path"] for entry in refused] == ["../bad.root"]
    assert refused[0]["reason"]


def test_bad_files_are_tolerated_up_to_a_number(raw_files, tmp_path):
    bad = [bad_file(tmp_path / f"bad{i}.root") for i in range(2)]
    go([*raw_files, *bad], tmp_path / "run", allow_bad=2)
    with pytest.raises(InputsRefusedError):
        go([*raw_files, *bad], tmp_path / "run", allow_bad=1)


def test_only_bad_files_is_an_error_that_names_each(tmp_path):
    with pytest.raises(InputError, match="none of 2 input files can be used") as caught:
        go([bad_file(tmp_path / "bad.root"), tmp_path / "missing.root"], tmp_path / "run")
    assert "bad.root" in str(caught.value)
    assert "missing.root" in str(caught.value)


def test_file_that_fails_midway_leaves_nothing_of_it(raw_files, tmp_path):
    """The first spans of the file are good: they must not be counted."""
    damaged = tmp_path / "raw" / "damaged.root"
    rng = np.random.default_rng(1)
    with uproot.recreate(damaged) as file:
        detector = ak.values_astype(ak.from_regular(rng.integers(1, 7, (30, 5))), np.int32)
        element = ak.concatenate([detector[:25], detector[25:, :4]])  # the last events lack an element ID
        file["tree"] = {
            "detectorID": detector, "elementID": element, "spillID": np.full(30, 9, dtype=np.int32),
            "tdcTime": ak.values_astype(detector, np.float64), "hitInTime": ak.ones_like(detector),
            "fpgaTrigger": np.ones((30, 5), dtype=np.int32), "nimTrigger": np.ones((30, 5), dtype=np.int32),
        }  # fmt: skip
    spans = replace(QUICK, sources=(RootHits(span_events=10),))
    files = [raw_files[0], damaged, *raw_files[1:]]
    for cut in ({}, {"trigger": ["FPGA1"]}):
        with pytest.raises(InputsRefusedError) as caught:
            go(files, tmp_path / "run", cut, detector=spans)
        run = caught.value.run
        assert "damaged.root" in str(caught.value)
        assert values_of(run) == values_of(go(raw_files, tmp_path / "fresh", cut))
        assert run.record["cut_flow"] == open_run(tmp_path / "fresh").record["cut_flow"]
        with pytest.raises(InputsRefusedError):  # the second run keeps the products and still says so
            go(files, tmp_path / "run", cut, detector=spans)


def test_file_that_lacks_what_a_cut_needs_is_refused_with_the_reason(raw_files, tmp_path, write_hits):
    other = write_hits(tmp_path / "raw" / "no_times.root", with_times=False).path
    with pytest.raises(InputsRefusedError) as caught:
        go([*raw_files, other], tmp_path / "run", {"first_hit": True})
    assert "the file has no TDC times, and --first-hit was asked for" in str(caught.value)


def test_file_that_was_not_reached_is_said_to_be_skipped(raw_files, tmp_path):
    run = go(raw_files, tmp_path / "run", max_events=60)
    assert run["occupancy/totals"].to_polars()["n_events"][0] == 60
    statuses = [entry["status"] for entry in run.record["inputs"]]
    assert statuses == ["used", "used", "skipped"]
    assert "max-events" in run.record["inputs"][2]["reason"]
    again = go(raw_files, tmp_path / "run", max_events=60)
    assert [entry["status"] for entry in again.record["inputs"]] == statuses
    assert all(reused(again).values())


def test_run_of_files_without_any_event(tmp_path, write_hits):
    run = go([write_hits(tmp_path / "empty.root", n_events=0).path], tmp_path / "run")
    assert run["occupancy/totals"].to_polars().row(0) == (0, 0, 0)


def test_wrong_configuration_is_found_before_anything_is_written(raw_files, tmp_path):
    with pytest.raises(ConfigError, match=r"'quality\.hot_rat', did you mean"):
        go(raw_files, tmp_path / "run", {"quality": {"hot_rat": 3}}, detector=DETECTOR)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mask", "reference"])
def test_missing_side_input_is_found_before_hours_of_reading(raw_files, tmp_path, monkeypatch, name):
    monkeypatch.setattr(reading, "_run_task", lambda _: pytest.fail("files were read"))
    with pytest.raises(ConfigError, match="does not exist"):
        go(raw_files, tmp_path / "run", {"quality": {name: str(tmp_path / "nowhere.txt")}}, detector=DETECTOR)


def test_no_file_is_a_wrong_call(tmp_path):
    with pytest.raises(UsageError, match="no input file"):
        go([], tmp_path / "run")


def test_log_that_cannot_be_written_is_an_error_of_the_store(raw_files, tmp_path):
    (tmp_path / "run" / "run.log").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be written"):
        go(raw_files, tmp_path / "run")


def test_logger_is_left_as_it_was(raw_files, tmp_path):
    log = logging.getLogger("firstlight")
    before = (log.level, list(log.handlers))
    go(raw_files, tmp_path / "run")
    assert (log.level, log.handlers) == before
    assert "step occupancy" in (tmp_path / "run" / "run.log").read_text()


# ---------------------------------------------------------------- stopped


def test_interrupt_leaves_a_valid_run_and_the_next_one_carries_on(raw_files, tmp_path, monkeypatch):
    from firstlight.detectors.spinquest import trend

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trend, "judge_trend", stop)
        with pytest.raises(KeyboardInterrupt):
            go(raw_files, tmp_path / "run")
    stopped = open_run(tmp_path / "run")
    for name in stopped:
        _ = stopped[name].value
    again = go(raw_files, tmp_path / "run")
    assert {name for name, kept in reused(again).items() if not kept} == {"trend"}
    assert values_of(again) == values_of(go(raw_files, tmp_path / "fresh"))


def test_killed_run_carries_on(raw_files, tmp_path, write_hits):
    """kill -9 at several moments: whatever stands there is whole, and the next run ends with the right numbers."""
    files = [write_hits(tmp_path / "raw" / f"{i}.root", seed=i, n_events=150).path for i in range(3)]
    wanted = values_of(go(files, tmp_path / "fresh"))
    command = [
        sys.executable,
        "-m",
        "firstlight",
        "process",
        *map(str, files),
        "-o",
        str(tmp_path / "run"),
        "--no-plots",
        "-q",
        "--force",
    ]
    for delay in (0.05, 0.1, 0.2):
        with subprocess.Popen(command, stderr=subprocess.PIPE) as started:
            log = tmp_path / "run" / "run.log"
            while started.poll() is None and "read " not in (
                log.read_text().rsplit("start", 1)[-1] if log.exists() else ""
            ):
                time.sleep(0.01)
            time.sleep(delay)
            started.send_signal(signal.SIGKILL)
        if (tmp_path / "run" / "run.json").exists():
            run = open_run(tmp_path / "run")
            for name in run:
                assert run.has(name, run[name].provenance["key"]) or not run[name].path.exists()
    assert values_of(go(files, tmp_path / "run")) == wanted


# ---------------------------------------------------------------- small things


def test_names_of_files_are_short_and_unique():
    assert reading.unique_names(["/a/x.root", "/a/y.root"]) == ["x.root", "y.root"]
    assert reading.unique_names(["/a/b/x.root", "/a/c/x.root", "/a/c/y.root"]) == [
        "b/x.root",
        "c/x.root",
        "y.root",
    ]


def test_spans_do_not_depend_on_the_number_of_processes():
    source = DETECTOR.load("sources")[0]
    spans = reading.spans_of([Path("a"), Path("b"), Path("c")], [450_000, -1, 10], [source] * 3, None)
    assert [(s.index, s.start, s.stop) for s in spans] == [
        (0, 0, 200_000),
        (0, 200_000, 400_000),
        (0, 400_000, 450_000),
        (2, 0, 10),
    ]
    limited = reading.spans_of([Path("a"), Path("b")], [30, 30], [source] * 2, 40)
    assert [(s.index, s.start, s.stop) for s in limited] == [(0, 0, 30), (1, 0, 10)]


def test_channel_map_of_a_run_is_kept_with_it(raw_files, tmp_path):
    run = go(raw_files, tmp_path / "run")
    assert run["channels/map"].to_polars().height == run.record["channels"]["n_channels"]
    assert isinstance(run["channels/groups"].to_polars(), pl.DataFrame)


def test_malformed_mask_and_groups_are_found_before_anything_is_read(raw_files, tmp_path, monkeypatch):
    from firstlight.run import chain

    def never(*_args, **_kwargs):
        pytest.fail("files were read")

    monkeypatch.setattr(chain, "read_files", never)
    mask, groups = tmp_path / "mask.txt", tmp_path / "groups.toml"
    mask.write_text("D0X 999\n")
    groups.write_text('[groups]\nmine = ["D0XX"]\n')
    for configuration, message in (
        ({"quality": {"mask": str(mask)}}, "outside of D0X"),
        ({"view": {"groups": str(groups)}}, "D0XX"),
    ):
        with pytest.raises(ConfigError, match=message):
            process(get_detector("spinquest"), raw_files, tmp_path / "run", configuration)


def test_another_version_of_a_source_makes_products_again(raw_files, tmp_path):
    detector = get_detector("spinquest")
    settings = Settings(progress=silent(), plots=False)
    process(detector, raw_files, tmp_path / "run", {}, settings)
    newer = replace(
        detector, sources=tuple(replace(source, version=99) for source in detector.load("sources"))
    )
    assert process(detector, raw_files, tmp_path / "run", {}, settings).record["steps"]["occupancy"]["reused"]
    assert not process(newer, raw_files, tmp_path / "run", {}, settings).record["steps"]["occupancy"][
        "reused"
    ]


# ---------------------------------------------------------------- what a plan finds out of its inputs


def _seen(chunk, parameters, context):
    return {chunk.span.index: dict(context.conditions_of(chunk.span.index))}


def _kept(total, parameters, context):
    rows = [{"file": context.files[index], "point": float(found["point"])} for index, found in total.items()]
    schema = TableSchema("points", (Column("file", pl.String, "file"), Column("point", pl.Float64, "point")))
    return {"points": Table.from_rows(schema, rows)}


def test_conditions_that_a_plan_finds_reach_the_steps_the_record_and_the_keys(raw_files, tmp_path):
    step = ChunkStep("seen", _seen, _kept, lambda _: {"events": ("n_hits",)}, merge=lambda a, b: {**a, **b})

    def detector(offset: float):
        def plan(options, descriptions):
            found = DETECTOR.load("plan")(options, descriptions)
            points = {one.path: {"point": offset + place} for place, one in enumerate(descriptions)}
            return replace(found, conditions=points)

        return replace(QUICK, chain=(step,), plan=plan, figures=None, summary=None)

    run = go(raw_files, tmp_path / "run", detector=detector(10.0))
    points = run["seen/points"].to_polars()
    assert points["point"].to_list() == [10.0 + place for place in range(len(raw_files))]
    recorded = [entry["conditions"] for entry in run.record["inputs"]]
    assert [found["point"] for found in recorded] == points["point"].to_list()
    # the fields of the name are still there
    assert all(len(found) > 1 for found in recorded)
    again = go(raw_files, tmp_path / "run", detector=detector(10.0))
    assert reused(again)["seen"]
    other = go(raw_files, tmp_path / "run", detector=detector(20.0))
    assert not reused(other)["seen"]
    assert other["seen/points"].to_polars()["point"][0] == 20.0
