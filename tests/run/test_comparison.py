"""Two runs held against each other: counts, constants, or both, of any detector."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.cli.main import main
from firstlight.data.channels import ChannelMap
from firstlight.data.schema import Column, Table, TableSchema
from firstlight.errors import InputError
from firstlight.run.chain import Settings, process
from firstlight.run.comparison import compare_runs
from firstlight.run.comparison_constants import places_of, regions_of, same_channels
from firstlight.run.progress import silent
from firstlight.run.store import Run, open_run
from firstlight.steps.compare import CompareParameters

EXAMPLE = Path(__file__).parents[1] / "example_detector"
QUIET = Settings(progress=silent(), plots=False)
SIDE = 32
ROW, COLUMN = np.divmod(np.arange(SIDE * SIDE), SIDE)


@pytest.fixture(autouse=True)
def bars(monkeypatch):
    """Return the example detector, known to comparisons as if it were installed."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from bars import detector

    monkeypatch.setattr("firstlight.run.comparison.get_detector", lambda _: detector)
    yield detector
    for name in [name for name in sys.modules if name.split(".")[0] == "bars"]:
        del sys.modules[name]


def grid(side=SIDE):
    row, column = np.divmod(np.arange(side * side), side)
    return ChannelMap("chip", "1", pl.DataFrame({"channel": row * side + column, "row": row, "col": column}), "grid")  # fmt: skip


def measured(seed, true_seed=0, n=SIDE * SIDE):
    """Return a measurement of constants as a table; the seed is that of the measurement."""
    true, rng = np.random.default_rng(true_seed).normal(50, 5, n), np.random.default_rng([1, seed])
    error = np.full(n, 0.5)
    return {
        "channel": np.arange(n), "gain": true + rng.normal(0, error), "gain_error": error,
        "offset": true / 10 + rng.normal(0, error), "offset_statistical": error, "chi2": rng.chisquare(5, n),
    }  # fmt: skip


def written(folder, columns, channels=None, **others):
    """Write a run that has constants and, unlike real ones, nothing else."""
    run = Run.create(folder, "bars")
    channels = channels or grid()

    def put(name, frame):
        schema = TableSchema(name, tuple(Column(c, t, c, "mV", nullable=True) for c, t in frame.schema.items()))  # fmt: skip
        run.put(name, Table(frame, schema), {"key": f"{folder.name}-{name}"})

    put("channels/map", channels.frame)
    put("fit/events", pl.DataFrame({"event": [1, 2], "time": [1.0, 2.0], "time_error": [1.0, 1.0]}))
    put("fit/channels", pl.DataFrame(columns))
    for name, frame in others.items():
        put(name.replace("__", "/"), pl.DataFrame(frame))
    about = {"name": channels.name, "version": channels.version, "layout": channels.layout, "labels": {}}
    run.record.update(channels=about, configuration={}, files=[], cut=False)
    run.save()
    return run


def compared(tmp_path, new, old, settings=QUIET, **limits):
    runs = [written(tmp_path / name, columns) for name, columns in (("new", new), ("old", old))]
    return compare_runs(*runs, tmp_path / "comparison", CompareParameters(**limits), settings)


def attention(run):
    return [
        (check["name"], check["subject"], check["verdict"])
        for check in run.record["checks"]
        if check["verdict"] not in ("ok", "no-statistics")
    ]


@pytest.mark.parametrize("seed", [3, 30, 300])
def test_repeated_measurement_is_ok(tmp_path, seed):
    run = compared(tmp_path, measured(seed), measured(seed + 1))
    assert attention(run) == []
    assert run.record["verdict"] == "ok"
    columns = run["constants/columns"].to_polars()
    assert columns.select("product", "column").rows() == [
        ("fit/channels", "gain"),
        ("fit/channels", "offset"),
    ]
    assert columns["n_compared"].to_list() == [SIDE * SIDE] * 2
    assert columns["pull_width"].to_numpy() == pytest.approx(1.0, abs=0.1)
    assert run["constants/channels"].to_polars().height == 0
    assert run["constants/columns"].provenance["used"] == ["fit/channels", "fit/channels"]
    assert set(run) == {"constants/columns", "constants/channels", "constants/regions"}


def test_planted_changes_are_found(tmp_path):
    new = measured(5)
    new["gain"][[100, 200]] += 9.0
    new["offset"] += 1.0
    block = (ROW // 4 == 3) & (COLUMN // 4 == 5)
    new["gain"][block] += 1.4
    new["gain"][300:320] = np.nan
    run = compared(tmp_path, new, measured(6))
    assert attention(run) == [
        ("channels changed", "fit/channels: gain", "warn"),
        ("regions changed", "fit/channels: gain", "warn"),
        ("mean of the constants", "fit/channels: offset", "warn"),
        ("channels lost", "fit/channels", "warn"),
    ]
    assert run.record["verdict"] == "warn"
    channels = run["constants/channels"].to_polars()
    changed = channels.filter(state="changed")
    assert set(changed.select("channel", "place").rows()) == {(100, "row 3, col 4"), (200, "row 6, col 8")}
    assert channels.filter(state="lost")["channel"].to_list() == list(range(300, 320))
    regions = run["constants/regions"].to_polars()
    assert regions.filter(state="changed").select("column", "region").rows() == [("gain", "row 12-15, col 20-23")]  # fmt: skip
    values = {entry["label"]: entry["value"] for entry in run.record["summary"]}
    assert values == {
        "constants compared": 2, "constants shifted": 1, "regions changed": 1,
        "channels changed": 2, "channels lost": 20, "channels new": 0,
    }  # fmt: skip


def test_channels_that_come_and_go_by_chance_are_not_lost(tmp_path):
    new, old, random = measured(7), measured(8), np.random.default_rng(9)
    for part in (new, old):
        part["gain"][random.random(SIDE * SIDE) < 0.05] = np.nan
    run = compared(tmp_path, new, old)
    (check,) = (check for check in run.record["checks"] if check["name"] == "channels lost")
    lost = int(run["constants/columns"].to_polars()["n_lost"][0])
    assert 25 < lost < 80
    assert check["verdict"] == "ok"
    assert f"{lost} of " in check["rule"]


def test_limits_are_used_and_recorded(tmp_path):
    new = measured(5)
    new["offset"] += 1.0
    run = compared(tmp_path, new, measured(6), shift_limit=0.5)
    assert attention(run) == []
    assert run.record["configuration"]["compare"]["shift_limit"] == 0.5


def test_figures_and_report(tmp_path):
    new = measured(5)
    new["gain"][100] += 9.0
    new["gain"][101] = np.nan
    run = compared(tmp_path, new, measured(6), Settings(progress=silent()))
    names = [figure["name"] for figure in run.record["figures"]]
    assert names == ["constants_differences", "constants_map", "constants_old_and_new"]
    assert all((run.folder / figure["file"]).stat().st_size > 10_000 for figure in run.record["figures"])
    page = (run.folder / "report" / "index.html").read_text()
    assert "row 3, col 4" in page
    assert 'class="trouble"' not in page


@pytest.mark.parametrize("layout", ["hexagons", "strips", "planes"])
def test_other_layouts_are_drawn(tmp_path, layout):
    number = np.arange(128)
    frame = pl.DataFrame(
        {"channel": number, "x": number % 16 + 0.5 * (number // 16 % 2), "y": 0.87 * (number // 16),
         "position": number % 16 if layout == "planes" else number, "group": [f"p{index // 16}" for index in number]}
    )  # fmt: skip
    channels = ChannelMap("camera", "1", frame, layout)
    runs = []
    for seed in (5, 6):
        columns = measured(seed, n=128)
        columns["gain"][7] += 40 * (seed == 5)
        runs.append(written(tmp_path / str(seed), columns, channels))
    run = compare_runs(*runs, tmp_path / "comparison", settings=Settings(progress=silent()))
    names = [figure["name"] for figure in run.record["figures"]]
    assert ("constants_map" in names) == (layout != "planes")
    assert run["constants/channels"].to_polars()["channel"].to_list() == [7]
    assert set(run["constants/regions"].to_polars()["region"]) == {f"p{index}" for index in range(8)}


# ---------------------------------------------------------------- what can be compared


def test_nothing_in_common_says_what_there_is(tmp_path):
    bare = {"channel": np.arange(SIDE * SIDE), "chi2": np.ones(SIDE * SIDE)}
    with pytest.raises(InputError, match="neither counts per channel nor constants with errors") as caught:
        compared(tmp_path, bare, measured(1))
    assert "fit/channels" in caught.value.known
    assert not (tmp_path / "comparison").exists()
    runs = [written(tmp_path / name, measured(1, n=s * s), grid(s)) for name, s in (("a", 16), ("b", 17))]
    with pytest.raises(InputError, match="nor the same channels"):
        compare_runs(*runs, tmp_path / "comparison", settings=QUIET)


def test_what_only_one_run_has_is_told(tmp_path):
    width = {"channel": np.arange(SIDE * SIDE), "width": np.ones(SIDE * SIDE), "width_error": np.ones(SIDE * SIDE)}  # fmt: skip
    new = written(tmp_path / "new", measured(1), fit__more=width)
    old = written(tmp_path / "old", measured(2))
    run = compare_runs(new, old, tmp_path / "comparison", settings=QUIET)
    assert run.record["notes"] == ["only this run has fit/more: width: not compared"]


def test_another_chip_is_told(tmp_path):
    other = ChannelMap("other chip", "1", grid().frame, "grid")
    runs = written(tmp_path / "new", measured(1)), written(tmp_path / "old", measured(2), other)
    run = compare_runs(*runs, tmp_path / "comparison", settings=QUIET)
    assert run.record["notes"] == ["channels of chip are compared with those of other chip"]
    assert run["constants/columns"].to_polars()["n_compared"].to_list() == [SIDE * SIDE] * 2


def test_channels_are_the_same_at_the_same_places():
    one = grid()
    assert same_channels(one, grid())
    assert not same_channels(one, grid(16))
    turned = one.frame.rename({"row": "col", "col": "row"})
    assert not same_channels(one, ChannelMap("chip", "1", turned, "grid"))
    positions = one.frame.with_columns(position="channel")
    assert not same_channels(one, ChannelMap("chip", "1", positions, "strips"))
    assert same_channels(one, ChannelMap("other chip", "2", one.frame, "grid"))


def test_regions_are_tiles_that_hold_all_channels():
    for side, number in ((256, 256), (32, 64), (8, 4), (2, 1)):
        channels = grid(side)
        region, names = regions_of(channels)
        assert len(names) == len(set(names)) == number
        assert np.bincount(region, minlength=number).tolist() == [side * side // number] * number
    assert regions_of(grid(256))[1][17] == "row 16-31, col 16-31"
    assert places_of(grid(8))[9] == "row 1, col 1"
    # sides that tiles do not divide
    region, names = regions_of(grid(53))
    assert np.bincount(region).min() >= 1
    assert names[-1].endswith("col 50-52")


def test_runs_with_counts_have_both_parts(bars, tmp_path):
    """The example has counts but no groups, and constants whose column of errors has another name."""
    runs = []
    for seed in (3, 4):
        files = bars.load("simulate")(tmp_path / f"raw{seed}", seed=seed)
        runs.append(process(bars, files, tmp_path / f"run{seed}", settings=QUIET))
    counts = compare_runs(*runs, tmp_path / "counts", settings=Settings(progress=silent()))
    assert set(counts) == {"compare/channels", "compare/groups"}
    assert counts.record["verdict"] == "ok"
    assert counts["compare/groups"].to_polars().select("group", "n_compared").rows() == [("bars", 63)]
    for run in runs:
        frame = run["response/bars"].to_polars().rename({"error": "response_error"})
        schema = TableSchema("bars", tuple(Column(c, t, c, nullable=True) for c, t in frame.schema.items()))
        run.put("response/bars", Table(frame, schema), {"key": run.folder.name})
    both = compare_runs(*runs, tmp_path / "both", settings=Settings(progress=silent()))
    assert set(both.record["steps"]) == {"compare", "constants"}
    for table in ("channels", "groups"):
        assert both[f"compare/{table}"].to_polars().equals(counts[f"compare/{table}"].to_polars())
    # the seed of the example is that of its responses, too: these are other bars
    (row,) = both["constants/columns"].to_polars().iter_rows(named=True)
    assert row["column"] == "response"
    assert row["n_compared"] == 63
    assert row["pull_width"] > 3
    names = [figure["name"] for figure in both.record["figures"]]
    # one group has no scale relative to others
    assert names == ["ratio_map", "pulls", "constants_differences", "constants_map", "constants_old_and_new"]
    # and a comparison of counts alone in the same place leaves no constants of before
    bare = process(bars, sorted((tmp_path / "raw4").iterdir()), tmp_path / "bare", settings=QUIET)
    again = compare_runs(runs[0], bare, tmp_path / "both", settings=QUIET)
    assert set(again) == {"compare/channels", "compare/groups"}
    assert not (tmp_path / "both" / "products" / "constants" / "columns.parquet").exists()


# ---------------------------------------------------------------- the command


def test_command_and_its_exit_status(tmp_path, capsys):
    new = measured(5)
    new["gain"][100:110] += 9.0
    for name, columns in (("new", new), ("old", measured(6)), ("again", measured(7))):
        written(tmp_path / name, columns)

    def command(*arguments):
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, capsys.readouterr().out

    place = ("-o", tmp_path / "c", "--no-plots")
    status, out = command("compare", tmp_path / "new", tmp_path / "old", *place, "--json")
    assert status == 0
    told = json.loads(out)
    assert told["verdict"] == "warn"
    assert {entry["label"]: entry["value"] for entry in told["summary"]}["channels changed"] == 10
    assert command("compare", tmp_path / "new", tmp_path / "old", *place, "--fail-on", "warn")[0] == 4
    assert command("compare", tmp_path / "new", tmp_path / "old", *place, "--fail-on", "bad")[0] == 0
    limits = ("--set", "changed_limit=0.5", "--set", "region_pull_limit=100")
    assert (
        command("compare", tmp_path / "new", tmp_path / "old", *place, *limits, "--fail-on", "warn")[0] == 0
    )
    assert command("compare", tmp_path / "again", tmp_path / "old", *place, "--fail-on", "warn")[0] == 0
    assert command("compare", tmp_path / "again", tmp_path / "old", *place, "--set", "shift_limt=1")[0] == 2
    assert open_run(tmp_path / "c").record["verdict"] == "ok"
