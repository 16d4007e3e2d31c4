"""The run layout of the original: reports, runs that its package made, and its files after each of our steps."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Table
from firstlight.detectors.etroc.legacy import run_manager
from firstlight.detectors.etroc.legacy.original_run import describe_original, read_original, status_of
from firstlight.detectors.etroc.legacy.run_manager import (
    TaskWriter,
    open_layout,
    require_task,
    write_run_info,
)
from firstlight.detectors.etroc.legacy.sqlite import read_etroc1_data, read_filter, read_table, write_filter
from firstlight.detectors.etroc.legacy.writers import (
    DEFAULT_INJECTION_CUTS,
    OriginalOptions,
    write_individual_run,
    write_original_files,
)
from firstlight.detectors.etroc.options import Options, OriginalParameters
from firstlight.detectors.etroc.original_step import original
from firstlight.detectors.etroc.tables import (
    ACCEPTED,
    COEFFICIENTS,
    CORRECTED,
    EVENT_HITS,
    FILES,
    FLOW,
    HITS,
    PAIRS,
    POINTS,
    TIMED,
)
from firstlight.errors import ConfigError, InputError, UsageError
from firstlight.steps.step import Context

BOARDS = (0, 1, 3)
BASE = "TDC_Data_PhaseAdj0_F9P5_QSel0_DAC535_F11P5_QSel20_DAC{}_F5P5_QSel0_DAC720"

# as lip-pps-run-manager writes them: 0.2.0 does not tell its version in the report, 0.3.0 does
INFO = "This directory contains data for the run '{}', created by the RunManager v{} on 2023-03-29 14:05:06.123456"
GOOD = "task_status: {}\nTask completed successfully with no errors\nThe task finished running on: {}.\n"
BAD = (
    "task_status: there were errors\nTask could not be completed because there were errors\n"
    "The task finished running on: {}\n--------\n"
    '  File "script.py", line 19, in task\n    raise ValueError("task_status: no errors")\n\n'
    "ValueError: task_status: no errors\n"
)
BACKEND = "\nLIP-PPS-Run-Manager v {} was used as the managing backend.\n"


def original_task(folder, name, status, second=0, version="0.3.0", text=GOOD):
    """Write the report of a task as the original's package does."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    stamp = f"2023-03-29 15:00:{second:02d}.5"
    report = (BAD.format(stamp) if status == "there were errors" else text.format(status, stamp)) + (
        BACKEND.format(version) if version >= "0.3" else ""
    )
    (folder / name / "task_report.txt").write_text(report, encoding="utf-8")


def original_info(folder, version="0.3.0", name=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run_info.txt").write_text(INFO.format(name or folder.name, version), encoding="utf-8")


# -- reports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0"])
def test_reports_of_the_original_are_read(tmp_path, version):
    run = tmp_path / "run"
    original_info(run, version, "Beam's run")
    original_task(run, "good", "no errors", 3, version)
    original_task(run, "loop", "incomplete", 1, version)
    original_task(run, "bad", "there were errors", 2, version)
    (run / "data").mkdir()
    layout = open_layout(run)
    assert (layout.name, layout.version) == ("Beam's run", version)
    assert layout.created == datetime(2023, 3, 29, 14, 5, 6, 123456)
    assert list(layout.tasks) == ["loop", "bad", "good"]
    assert [report.status for report in layout.tasks.values()] == [
        "incomplete",
        "there were errors",
        "no errors",
    ]
    bad = layout.tasks["bad"]
    # the traceback quotes the words of a good report: a search in the text would call this a success
    assert not bad.completed
    assert bad.traceback.endswith("ValueError: task_status: no errors")
    assert "managing backend" not in bad.traceback
    assert bad.ended == datetime(2023, 3, 29, 15, 0, 2, 500000)
    assert layout.tasks["good"].version == ("0.3.0" if version == "0.3.0" else "")
    assert layout.completed("good")
    assert not layout.completed("loop", "bad", "data")


def test_what_is_no_run_is_told(tmp_path):
    original_info(tmp_path / "out" / "run46")
    with pytest.raises(InputError, match="not a run directory") as found:
        open_layout(tmp_path / "out")
    assert found.value.known == ["run46"]
    with pytest.raises(InputError, match="not a run directory"):
        open_layout(tmp_path / "nothing")


def test_a_report_without_status_is_unknown(tmp_path):
    original_info(tmp_path)
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "task_report.txt").write_text("something else\n")
    assert open_layout(tmp_path).tasks["task"].status == "unknown"


# C1
def test_a_failing_task_leaves_report_and_traceback_and_the_next_refuses(tmp_path):
    write_run_info(tmp_path, "run 46")

    def step():
        what = "no column cal"
        raise KeyError(what)

    with pytest.raises(KeyError), TaskWriter(tmp_path, "apply_event_cuts"):
        step()
    first = (tmp_path / "apply_event_cuts" / "task_report.txt").read_text().splitlines()[0]
    assert first == "task_status: there were errors"
    report = open_layout(tmp_path).tasks["apply_event_cuts"]
    assert report.status == "there were errors"
    assert "in step" in report.traceback
    assert report.traceback.endswith("KeyError: 'no column cal'")
    with pytest.raises(InputError, match=r"there were errors.*no column cal"):
        require_task(tmp_path, "apply_event_cuts")
    with pytest.raises(InputError, match="was not run"):
        require_task(tmp_path, "calculate_times_in_ns")
    with pytest.raises(InputError, match="apply_event_cuts"):
        write_original_files(tmp_path, {}, "times")


# C2
def test_an_interrupted_loop_is_incomplete(tmp_path):
    write_run_info(tmp_path)
    with TaskWriter(tmp_path, "process", total=3) as task:
        task.tick()
        task.tick()
    layout = open_layout(tmp_path)
    assert layout.tasks["process"].status == "incomplete"
    with pytest.raises(InputError, match="status 'incomplete'"):
        require_task(tmp_path, "process")
    with TaskWriter(tmp_path, "process", total=3) as task:
        task.tick(3)
    assert require_task(tmp_path, "process").completed


def test_a_killed_task_is_not_finished(tmp_path):
    write_run_info(tmp_path)
    with TaskWriter(tmp_path, "apply_event_cuts"):
        report = open_layout(tmp_path).tasks["apply_event_cuts"]
        assert report.status == "not finished"
        assert not report.completed
        # the original's package finds no report and does not call it done either
        assert not (tmp_path / "apply_event_cuts" / "task_report.txt").exists()


# C3
def test_running_again_cleans_the_folder(tmp_path):
    write_run_info(tmp_path)
    with TaskWriter(tmp_path, "apply_event_cuts") as task:
        (task.path / "CutflowPlots" / "0-old").mkdir(parents=True)
        (task.path / "old.fd").write_text("old")
    with TaskWriter(tmp_path, "apply_event_cuts") as task:
        assert sorted(path.name for path in task.path.iterdir()) == ["task_report.json"]
    names = sorted(path.name for path in (tmp_path / "apply_event_cuts").iterdir())
    assert names == ["task_report.json", "task_report.txt"]


def test_a_link_in_the_place_of_a_task_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("kept")
    run = tmp_path / "run"
    write_run_info(run)
    (run / "task").symlink_to(outside)
    with TaskWriter(run, "task"):
        pass
    assert (outside / "precious.txt").read_text() == "kept"
    assert not (run / "task").is_symlink()


@pytest.mark.parametrize("name", ["..", "../other", "data", "Individual_Runs", "a/b", "", ".hidden"])
def test_a_task_cannot_wipe_what_is_no_task(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be the name of a task"):
        TaskWriter(tmp_path, name)


# C4
def test_no_token_gets_into_a_report(tmp_path, monkeypatch):
    signature = "123456789:AAFqpZk3s0meTh1ngThatLooksLikeOne_xyz"
    monkeypatch.setenv("BOT_TOKEN", signature)
    local_variable = signature
    raw = tmp_path / "raw.txt"
    raw.write_text("0 1 2 3 1\n")
    run = tmp_path / "run"
    write_run_info(run)
    parameters = {
        "order": 2,
        "bot_token": local_variable,
        "notify": {"chat_id": 42, "url": f"https://x/bot{signature}/y"},
    }
    with TaskWriter(run, "good", parameters=parameters, inputs=[raw]) as task:
        task.note(f"told {signature}")

    def send():
        what = f"cannot reach https://x/bot{signature}/sendMessage"
        raise ValueError(what)

    with pytest.raises(ValueError, match="cannot reach"), TaskWriter(run, "bad", parameters=parameters):
        send()
    for path in run.rglob("*"):
        if path.is_file():
            content = path.read_text(encoding="utf-8")
            assert signature not in content, path
            assert "AAFqpZk3" not in content, path
    kept = json.loads((run / "good" / "task_report.json").read_text())
    assert kept["parameters"] == {
        "order": 2,
        "bot_token": "(not kept)",
        "notify": {"chat_id": "(not kept)", "url": "https://x/bot(not kept)/y"},
    }
    assert kept["inputs"][0]["size"] == 10
    assert kept["inputs"][0]["digest"].startswith("sha256:")
    # neither variables nor scripts: nothing but the two reports
    assert sorted(path.name for path in (run / "good").iterdir()) == ["task_report.json", "task_report.txt"]
    with pytest.raises(ConfigError, match="is a object"):
        TaskWriter(run, "task", parameters={"client": object()})


# C5
def test_reports_of_another_version_are_read(tmp_path):
    write_run_info(tmp_path)
    with TaskWriter(tmp_path, "apply_event_cuts", parameters={"keep": True}):
        pass
    path = tmp_path / "apply_event_cuts" / "task_report.json"
    content = json.loads(path.read_text())
    # an older version had less, a newer one has more, and a broken file leaves the text
    for changed in (
        {key: content[key] for key in ("format", "task", "status")},
        {**content, "format_version": 99, "weather": {"fine": True}, "parameters": "none"},
        {"format": "something else"},
        [],
    ):
        path.write_text(json.dumps(changed))
        assert open_layout(tmp_path).tasks["apply_event_cuts"].completed
    path.write_text("{")
    report = open_layout(tmp_path).tasks["apply_event_cuts"]
    assert report.completed
    assert report.ended is not None
    original_info(tmp_path / "next", "1.7.2rc1")
    assert open_layout(tmp_path / "next").version == "1.7.2rc1"


def test_our_reports_say_what_ours_know(tmp_path):
    write_run_info(tmp_path, "run 46")
    again = write_run_info(tmp_path, "another name")
    layout = open_layout(tmp_path)
    assert layout.name == "run 46"
    assert again == tmp_path / "run_info.txt"
    with TaskWriter(tmp_path, "task", parameters={"order": 2, "path": Path("a"), "none": float("nan")}):
        pass
    report = open_layout(tmp_path).tasks["task"]
    assert report.version == layout.version == run_manager.__version__
    assert report.started <= report.ended
    assert report.parameters == {"order": 2, "path": "a", "none": "nan"}


# -- runs of the original ----------------------------------------------------------------------------------


def original_database(path, table, columns, rows):
    """Write a SQLite file as pandas does for the original."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"datetime": "TIMESTAMP", "pixel_id": "TEXT"}
    with closing(sqlite3.connect(path)) as connection:
        declared = ", ".join(f'"{name}" {kinds.get(name, "INTEGER")}' for name in columns)
        connection.execute(f'CREATE TABLE "{table}" ({declared})')
        connection.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(columns))})', rows)  # noqa: S608
        connection.commit()


CODES = ("data_board_id", "time_of_arrival", "time_over_threshold", "calibration_code", "hit_flag")
BEAM = ("event", *CODES, "datetime", "pixel_id")


def original_beam_run(folder, n_events=6):
    original_info(folder)
    original_task(folder, "proccess_etroc1_data_run_txt", "no errors", 1)
    raw = folder / "proccess_etroc1_data_run_txt" / "original_data" / "F9P5_F11P6_F5P15_Beam_46.txt"
    raw.parent.mkdir()
    raw.write_text("log line\n")
    pixels = {0: "F9P5", 1: "F11P6", 3: "F5P15"}
    rows = [
        (
            event,
            board,
            100 + event,
            60 + board,
            140 - board,
            1,
            f"2022-04-09 01:18:{event:02d}",
            pixels[board],
        )
        for event in range(n_events)
        for board in BOARDS
    ]
    original_database(folder / "data" / "data.sqlite", "etroc1_data", BEAM, rows)
    original_task(folder, "apply_event_cuts", "no errors", 2)
    accepted = pl.DataFrame({"event": range(n_events), "accepted": [event != 2 for event in range(n_events)]})
    accepted.write_ipc(folder / "event_filter.fd", compression="lz4")
    return rows


def test_a_beam_run_of_the_original_is_opened(tmp_path):
    run = tmp_path / "run"
    rows = original_beam_run(run)
    original_task(run, "calculate_times_in_ns", "there were errors", 3)
    told = describe_original(run)
    assert (told.kind, told.layout.name, told.individual) == ("beam", "run", ())
    assert told.databases == {"data/data.sqlite": ("etroc1_data",)}
    status = status_of(run)
    assert status["status"].to_list() == ["no errors", "no errors", "there were errors"]
    assert status["ended"][0] == "2023-03-29 15:00:01"
    assert status["started"].null_count() == 3
    assert status["error"].to_list() == [None, None, "ValueError: task_status: no errors"]
    data = read_original(run)
    EVENT_HITS.validate(data.hits)
    FILES.validate(data.files)
    ACCEPTED.validate(data.accepted)
    assert data.hits.select("event", "board", "toa", "tot", "cal").rows() == [row[:5] for row in rows]
    assert data.hits["time"][0] == 1_649_467_080
    # pixel p of the 4 x 4 chip: row p % 4, column p // 4
    assert data.hits.select("row", "col").rows()[:3] == [(1, 1), (2, 1), (3, 3)]
    assert data.files["pixel"].to_list() == ["F9P5", "F11P6", "F5P15"]
    assert data.files["board"].to_list() == [0, 1, 3]
    assert data.files["name"][0] == "F9P5_F11P6_F5P15_Beam_46.txt"
    assert data.accepted["accepted"].to_list() == [True, True, False, True, True, True]
    assert data.accepted_in_time is None
    assert data.points is None


def original_scan(folder):
    """Write a merged directory of three runs; the last one has no hit."""
    original_info(folder)
    combined = []
    for threshold, hits in ((410, 5), (420, 3), (430, 0)):
        name = BASE.format(threshold)
        run = folder / "Individual_Runs" / name
        original_info(run)
        original_task(run, "proccess_etroc1_data_run", "no errors")
        rows = [(hit, 1, 300 - hit, 80, 138 if hit else 500, 1) for hit in range(hits)]
        original_database(run / "data" / "data.sqlite", "etroc1_data", ("event", *CODES), rows)
        (run / "cuts.csv").write_text(DEFAULT_INJECTION_CUTS)
        original_task(run, "apply_event_cuts", "no errors")
        accepted = pl.DataFrame(
            {"event": range(hits), "accepted": [hit > 0 for hit in range(hits)]},
            schema={"event": pl.Int64, "accepted": pl.Boolean},
        )
        accepted.write_ipc(run / "event_filter.fd")
        combined.append((1, max(hits - 1, 0), 0, "F11P5", 20, threshold))
    original_task(folder, "process_etroc1_data_directory", "no errors", 1)
    original_task(folder, "merge_etroc1_runs", "no errors", 2)
    columns = (
        "data_board_id",
        "hits",
        "phase_adjust",
        "pixel_id",
        "board_injected_charge",
        "board_discriminator_threshold",
    )
    original_database(folder / "merge_etroc1_runs" / "data.sqlite", "combined_etroc1_data", columns, combined)


def test_a_merged_scan_of_the_original_is_opened(tmp_path):
    folder = tmp_path / "20230329-scan"
    original_scan(folder)
    told = describe_original(folder)
    assert told.kind == "scan"
    assert [path.name for path in told.individual] == [BASE.format(dac) for dac in (410, 420, 430)]
    data = read_original(folder)
    EVENT_HITS.validate(data.hits)
    FILES.validate(data.files)
    POINTS.validate(data.points)
    assert data.hits.height == 8
    # the runs follow one another, a hit an event
    assert data.hits["event"].to_list() == list(range(8))
    assert data.hits["file"].to_list() == [0] * 5 + [1] * 3
    assert data.accepted["accepted"].to_list() == [False, True, True, True, True, False, True, True]
    assert data.files.height == 9
    of_board = data.files.filter(board=1)
    assert of_board["threshold"].to_list() == [410, 420, 430]
    assert of_board["charge"].to_list() == [20, 20, 20]
    assert of_board["n_hits"].to_list() == [5, 3, 0]
    points = data.points
    assert points["run"].to_list() == [BASE.format(dac) for dac in (410, 420, 430)]
    assert points.select("all_hits", "hits").rows() == [(5, 4), (3, 2), (0, 0)]
    assert points["toa_mean"].to_list() == [297.5, 298.5, None]
    assert points["cal_mean"].to_list() == [138.0, 138.0, None]


def test_a_single_injection_run_tells_its_conditions(tmp_path):
    run = tmp_path / "run"
    original_info(run)
    original_task(run, "proccess_etroc1_data_run", "no errors")
    columns = (
        "event",
        *CODES,
        "phase_adjust",
        "pixel_id",
        "board_injected_charge",
        "board_discriminator_threshold",
    )
    rows = [(0, 1, 300, 80, 138, 1, 7, "F11P5", 20, 420), (1, 0, 300, 80, 138, 1, 7, "F9P5", 0, 535)]
    original_database(run / "data" / "data.sqlite", "etroc1_data", columns, rows)
    assert describe_original(run).kind == "injection"
    files = read_original(run).files
    assert files.select("board", "pixel", "phase", "charge", "threshold").rows() == [
        (0, "F9P5", 7, 0.0, 535.0),
        (1, "F11P5", 7, 20.0, 420.0),
    ]


def test_runs_without_data_are_told(tmp_path):
    original_info(tmp_path)
    original_task(tmp_path, "proccess_etroc1_data_run_txt", "there were errors")
    with pytest.raises(InputError, match=r"has neither data/data.sqlite nor Individual_Runs") as found:
        read_original(tmp_path)
    assert "proccess_etroc1_data_run_txt" in found.value.known


def test_codes_that_are_no_codes_are_told(tmp_path):
    run = tmp_path / "run"
    original_info(run)
    original_database(
        run / "data" / "data.sqlite",
        "etroc1_data",
        BEAM,
        [(0, -1, 1, 1, 1, 1, "2022-04-09 01:18:00", "F9P5")],
    )
    with pytest.raises(InputError, match="no codes of the chip"):
        read_original(run)


# -- our chain in the original's files ---------------------------------------------------------------------


def frame(schema, columns, height):
    """Return a frame of a schema; one value for all rows, or a column each."""
    parts = []
    for column in schema.columns:
        values = columns.get(column.name)
        single = values is None or isinstance(values, str | int | float)
        parts.append(pl.Series(column.name, [values] * height if single else values).cast(column.dtype))
    return pl.DataFrame(parts)


def table(schema, height, **columns):
    return Table(frame(schema, columns, height), schema)


def beam_products(path):
    """Return the products of a beam file by plain numpy: exact pattern, CAL mean, ordinary least squares."""
    lines = [line.split() for line in path.read_text().splitlines()[1:]]
    codes = np.array([line[:5] for line in lines], dtype=int)
    stamp = np.array([f"{line[5]}T{line[6]}" for line in lines], dtype="datetime64[s]").astype(int)
    board = codes[:, 0]
    starts = np.flatnonzero((board[:-2] == 0) & (board[1:-1] == 1) & (board[2:] == 3))
    rows = (starts[:, None] + np.arange(3)).ravel()
    size, n_events = len(rows), len(starts)
    toa, tot, cal = (codes[rows, at].reshape(-1, 3) for at in (1, 2, 3))
    event = np.repeat(np.arange(n_events), 3)
    numbers = np.tile(BOARDS, n_events)
    common = {"event": event, "board": numbers, "channel": np.tile([0, 1, 2], n_events), "file": 0}
    names = path.name.split("_")
    products = {
        "ingest/files": table(
            FILES, 3, file=0, name=path.name, kind="beam", run="run", n_words=len(lines), n_records=len(lines),
            n_hits=len(lines), board=BOARDS, pixel=names[:3],
        ),
        "events/hits": table(
            EVENT_HITS, size, **common, record=rows, link=numbers, row=1, col=1, toa=toa.ravel(), tot=tot.ravel(),
            cal=cal.ravel(), ea=0, hit_flag=np.ones(size, dtype=bool), time=stamp[rows],
        ),
    }  # fmt: skip
    passed = ((cal > 125) & (cal < 150) & (toa > 20) & (toa < 500)).all(axis=1)
    width = 3.125 / cal[passed].mean(axis=0)
    toa_ns, tot_ns = 12.5 - toa * width, (2 * tot - tot // 32) * width
    root = np.sqrt(2)
    in_time = (
        (tot_ns[:, 0] > 2.5)
        & (np.abs(toa_ns[:, 0] - toa_ns[:, 1]) / root < 0.8)
        & (np.abs(toa_ns[:, 0] - toa_ns[:, 2]) / root < 0.9)
    )
    products["cut/events"] = table(ACCEPTED, n_events, event=np.arange(n_events), accepted=passed)
    products["times/hits"] = table(
        TIMED, size, **common, bin_ns=np.tile(width, n_events), toa_ns=toa_ns.ravel(), tot_ns=tot_ns.ravel()
    )
    products["cut_times/events"] = table(ACCEPTED, n_events, event=np.arange(n_events), accepted=in_time)
    products["cut_times/flow"] = table(
        FLOW,
        2,
        row=[-1, 2],
        cut=["all", "last"],
        label=[None, "Both"],
        events_before=1,
        events_after=1,
        events_alone=1,
    )
    used = passed & in_time
    delta = (toa_ns.sum(axis=1, keepdims=True) - toa_ns) / 2 - toa_ns
    curves = [np.polynomial.polynomial.polyfit(tot_ns[used, at], delta[used, at], 2) for at in range(3)]
    correction = np.stack(
        [np.polynomial.polynomial.polyval(tot_ns[:, at], curves[at]) for at in range(3)], axis=1
    )
    final = toa_ns + correction
    products["timewalk/coefficients"] = table(
        COEFFICIENTS, 9, iteration=0, board=np.repeat(BOARDS, 3), method="ols", fold=-1, power=np.tile(range(3), 3),
        value=np.concatenate(curves),
    )  # fmt: skip
    good = np.repeat(used, 3)
    chosen = {key: value[good] if isinstance(value, np.ndarray) else value for key, value in common.items()}
    products["timewalk/hits"] = table(
        CORRECTED, int(good.sum()), **chosen, iteration=0, tot_ns=tot_ns[used].ravel(), delta_ns=delta[used].ravel(),
        correction_ns=correction[used].ravel(), toa_ns=final[used].ravel(),
    )  # fmt: skip
    pairs = [(0, 1), (0, 2), (1, 2)]
    differences = [1000 * (final[used, one] - final[used, two]) for one, two in pairs]
    products["resolution/pairs"] = table(
        PAIRS, 3, iteration=0, board_1=[BOARDS[one] for one, _ in pairs], board_2=[BOARDS[two] for _, two in pairs],
        events=int(used.sum()), mean=[d.mean() for d in differences], std=[d.std(ddof=1) for d in differences],
        std_error=0.0, effective=0.0,
    )  # fmt: skip
    return products


@pytest.fixture(scope="module")
def beam_file(sample_data):
    path = sample_data / "etroc" / "synthetic_etroc1_telescope" / "F9P5_F11P5_F5P5_Beam_0.txt"
    if not path.is_file():
        pytest.skip(f"sample data not found in {path.parent}")
    return path


def test_the_chain_leaves_the_files_of_the_original(tmp_path, beam_file):
    products = beam_products(beam_file)
    run = tmp_path / "run46"
    run.mkdir()
    (run / "cuts.csv").write_text("board_id,variable,cut_type,cut_value\n*,calibration_code,>,125\n")
    options = OriginalOptions(inputs=(beam_file,), parameters={"pattern": [0, 1, 3]})
    written = []
    for stage in ("ingest", "cut", "times", "cut-times", "timewalk", "resolution"):
        paths = write_original_files(run, products, stage, options)
        assert all(path.is_file() for path in paths), stage
        written += paths
    names = {path.relative_to(run).as_posix() for path in written}
    assert names == {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} - {
        "cuts.csv"
    }
    reports = {f"{task}/task_report.{kind}" for task in open_layout(run).tasks for kind in ("txt", "json")}
    assert names - reports == {
        "run_info.txt",
        "data/data.sqlite",
        "proccess_etroc1_data_run_txt/original_data/F9P5_F11P5_F5P5_Beam_0.txt",
        "event_filter.fd",
        "apply_event_cuts/event_filter.fd",
        "apply_event_cuts/cuts.backup.csv",
        "calculate_times_in_ns/data.sqlite",
        "time_filter.fd",
        "apply_time_cuts/time_filter.fd",
        "calculate_time_walk_correction/data.sqlite",
        "analyse_time_resolution/time_resolution.sqlite",
        "analyse_time_resolution/twc_iteration_0/Final/data.sqlite",
    }
    assert status_of(run)["status"].unique().to_list() == ["no errors"]
    # the original's numbers for this file
    with closing(sqlite3.connect(run / "data" / "data.sqlite")) as connection:
        query = (
            "SELECT COUNT(*), COUNT(DISTINCT event), SUM(time_of_arrival), SUM(time_over_threshold),"
            " SUM(calibration_code) FROM etroc1_data"
        )
        assert connection.execute(query).fetchone() == (54_807, 18_269, 14_316_860, 5_295_659, 7_710_238)
        first = connection.execute("SELECT datetime, pixel_id FROM etroc1_data LIMIT 1").fetchone()
    line = next(line for line in beam_file.read_text().splitlines()[1:] if line.split()[0] == "0").split()
    assert first == (f"{line[5]} {line[6]}", "F9P5")
    assert read_filter(run / "event_filter.fd")["accepted"].sum() == 17_760
    info = read_table(run / "calculate_times_in_ns" / "data.sqlite", "board_info_data")
    assert np.allclose(info["calibration_code_mean"], [140.002646, 137.996284, 134.998198], rtol=0, atol=5e-7)
    timing = read_table(run / "analyse_time_resolution" / "time_resolution.sqlite", "timing_info")
    assert timing["step_name"].to_list() == ["Final"] * 3
    assert timing["step_order"].to_list() == [3] * 3
    assert timing["twc_iteration"].to_list() == [0] * 3
    for column in ("time_resolution", "time_resolution_new"):
        assert np.allclose(1000 * timing[column], [41.079, 45.107, 50.803], rtol=0, atol=0.02)
    assert np.allclose(1000 * timing["time_resolution_unc"], [0.472, 0.430, 0.382], rtol=0, atol=1e-3)
    assert np.allclose(1000 * timing["time_resolution_new_unc"], [0.429, 0.422, 0.419], rtol=0, atol=1e-3)
    data = read_original(run)
    assert data.hits.select("event", "board", "toa", "tot", "cal", "time", "hit_flag").equals(
        products["events/hits"].frame.select("event", "board", "toa", "tot", "cal", "time", "hit_flag")
    )
    assert data.accepted.equals(products["cut/events"].frame)
    assert data.accepted_in_time.equals(products["cut_times/events"].frame)


def test_a_step_refuses_after_one_that_failed(tmp_path, beam_file):
    products = beam_products(beam_file)
    write_original_files(tmp_path, products, "ingest")
    with pytest.raises(InputError, match="unknown product 'cut/events'"):
        write_original_files(tmp_path, {}, "cut")
    assert open_layout(tmp_path).tasks["apply_event_cuts"].status == "there were errors"
    with pytest.raises(InputError, match="there were errors"):
        write_original_files(tmp_path, products, "times")
    write_original_files(tmp_path, products, "cut")
    report = open_layout(tmp_path).tasks["apply_event_cuts"]
    assert report.completed
    # without a cut file everything passes, which is said
    assert "no cuts.csv: 17760 of 18269 events are accepted" in report.text
    with pytest.raises(UsageError, match="unknown stage 'time'"):
        write_original_files(tmp_path, products, "time")


def injection_products(folder):
    """Return the products of three runs, the first in two splits, and their raw files."""
    files, hits, inputs = [], [], []
    names = [BASE.format(410) + "_Split_0.dat", BASE.format(410) + "_Split_1.dat"]
    names += [BASE.format(dac) + "_Split_0.dat" for dac in (420, 430)]
    for index, (name, size) in enumerate(zip(names, (4, 2, 3, 0), strict=True)):
        path = folder / name
        path.write_text("".join(f" 1 {300 - hit}  80 {138 if hit else 500} 1\n" for hit in range(size)))
        inputs.append(path)
        run = name.partition("_Split")[0]
        threshold = int(run.split("DAC")[2].partition("_")[0])
        told = frame(
            FILES,
            {
                "file": index, "name": name, "kind": "injection", "run": run, "split": 0, "n_words": size,
                "n_records": size, "n_hits": size, "board": BOARDS, "pixel": ["F9P5", "F11P5", "F5P5"], "phase": 0,
                "charge": [0.0, 20.0, 0.0], "threshold": [535.0, float(threshold), 720.0],
            },
            3,
        )  # fmt: skip
        files.append(told)
        hits += [(index, hit, 300 - hit, 138 if hit else 500) for hit in range(size)]
    size = len(hits)
    file, record, toa, cal = (list(values) for values in zip(*hits, strict=True))
    events = table(
        EVENT_HITS, size, event=range(size), file=file, record=record, link=1, board=1, channel=21, row=1, col=1, toa=toa,
        tot=80, cal=cal, ea=0, hit_flag=[True] * size,
    )  # fmt: skip
    accepted = table(ACCEPTED, size, event=range(size), accepted=[code < 200 for code in cal])
    points = table(
        POINTS, 3, run=[BASE.format(dac) for dac in (410, 420, 430)], board=1, pixel="F11P5", charge=20.0,
        threshold=[410.0, 420.0, 430.0], splits=[2, 1, 1], all_hits=[6, 3, 0], hits=[4, 2, 0],
    )  # fmt: skip
    raw = Table(events.frame.select(HITS.names), HITS)
    products = {
        "ingest/files": Table(pl.concat(files), FILES), "ingest/hits": raw, "events/hits": events, "cut/events": accepted,
        "injection/points": points,
    }  # fmt: skip
    found = original.run(products, OriginalParameters(filter_default=True), Context(None, Options()))
    products |= {f"original/{name}": value for name, value in found.items()}
    return products, tuple(inputs)


def test_a_scan_leaves_the_files_of_the_original(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    products, inputs = injection_products(raw)
    run = tmp_path / "20230329-scan"
    options = OriginalOptions(inputs=inputs)
    for stage in ("injection", "merge", "dac"):
        paths = write_original_files(run, products, stage, options)
        assert all(path.is_file() for path in paths), stage
    first = run / "Individual_Runs" / BASE.format(410)
    names = {path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()}
    assert names == {
        "run_info.txt",
        "cuts.csv",
        "data/data.sqlite",
        "event_filter.fd",
        "apply_event_cuts/event_filter.fd",
        "apply_event_cuts/cuts.backup.csv",
        "apply_event_cuts/task_report.txt",
        "apply_event_cuts/task_report.json",
        "proccess_etroc1_data_run/task_report.txt",
        "proccess_etroc1_data_run/task_report.json",
        f"proccess_etroc1_data_run/original_data/{BASE.format(410)}_Split_0.dat",
        f"proccess_etroc1_data_run/original_data/{BASE.format(410)}_Split_1.dat",
    }
    # all splits of a run, counted from 0
    data = read_etroc1_data(first / "data" / "data.sqlite")
    assert data["event"].to_list() == list(range(6))
    assert read_filter(first / "event_filter.fd")["accepted"].to_list() == [
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    empty = run / "Individual_Runs" / BASE.format(430)
    assert read_etroc1_data(empty / "data" / "data.sqlite").height == 0
    assert read_filter(empty / "event_filter.fd").height == 0
    dac = read_table(run / "calculate_dac_points" / "data.sqlite", "dac_charge_data")
    assert dac.rows() == [(1, 20, 420)]
    # read again as a run of the original
    again = read_original(run)
    assert again.points.select("run", "board", "all_hits", "hits").rows() == [
        (BASE.format(410), 1, 6, 4),
        (BASE.format(420), 1, 3, 2),
        (BASE.format(430), 1, 0, 0),
    ]


def test_reprocessing_keeps_data_and_cut_files(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    products, inputs = injection_products(raw)
    run = tmp_path / "scan"
    write_original_files(run, products, "injection", OriginalOptions(inputs=inputs))
    first = run / "Individual_Runs" / BASE.format(410)
    cuts = DEFAULT_INJECTION_CUTS + "#,calibration_code,<,138\n"
    (first / "cuts.csv").write_text(cuts)
    before = (first / "data" / "data.sqlite").read_bytes()
    changed = {**products, "cut/events": table(ACCEPTED, 9, event=range(9), accepted=[False] * 9)}
    for _ in range(2):
        write_original_files(run, changed, "injection", OriginalOptions(reprocess=True))
        assert (first / "data" / "data.sqlite").read_bytes() == before
        assert (first / "cuts.csv").read_text() == cuts
        assert (first / "apply_event_cuts" / "cuts.backup.csv").read_text() == cuts
        assert not read_filter(first / "event_filter.fd")["accepted"].any()
        # the copies of the raw files stay
        assert len(list((first / "proccess_etroc1_data_run" / "original_data").iterdir())) == 2
    assert open_layout(run).completed("reprocess_etroc1_data_directory")


def test_files_of_the_same_name_from_two_folders(tmp_path):
    products, _ = injection_products(tmp_path)
    name = BASE.format(410) + "_Split_0.dat"
    inputs = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / name
        path.write_text(folder)
        inputs.append(path)
    files = products["ingest/files"].frame.filter(pl.col("file") < 2)
    named = files.with_columns(
        name=pl.when(pl.col("file") == 0).then(pl.lit(f"a/{name}")).otherwise(pl.lit(f"b/{name}")),
        run=pl.concat_str(pl.lit("run"), pl.col("file")),
    )
    products["ingest/files"] = Table(named, FILES)
    run = tmp_path / "scan"
    write_original_files(run, products, "injection", OriginalOptions(inputs=tuple(inputs)))
    for at, folder in enumerate("ab"):
        copy = run / "Individual_Runs" / f"run{at}" / "proccess_etroc1_data_run" / "original_data" / name
        assert copy.read_text() == folder
    write_original_files(run, products, "ingest", OriginalOptions(inputs=tuple(inputs)))
    copies = (run / "proccess_etroc1_data_run" / "original_data").iterdir()
    assert sorted(path.name for path in copies) == [f"a_{name}", f"b_{name}"]


def test_an_individual_run_alone(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    products, inputs = injection_products(raw)
    hits = products["events/hits"].frame.filter(file=2)
    folder = tmp_path / "Individual_Runs" / BASE.format(420)
    write_individual_run(folder, hits, hits["cal"] < 200, sources=inputs[2:3])
    assert read_etroc1_data(folder / "data" / "data.sqlite")["event"].to_list() == [0, 1, 2]
    data = read_original(folder)
    assert data.files.filter(board=1).select("charge", "threshold").row(0) == (20.0, 420.0)
    assert data.accepted["accepted"].to_list() == [False, True, True]


def test_writing_a_filter_twice_is_the_same(tmp_path):
    accepted = table(ACCEPTED, 3, event=range(3), accepted=[True, False, True]).frame
    one = write_filter(tmp_path / "a.fd", accepted).read_bytes()
    assert write_filter(tmp_path / "b.fd", accepted).read_bytes() == one
