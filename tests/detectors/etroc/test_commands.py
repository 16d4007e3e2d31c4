"""The verbs of the ETROC and the original's scripts: what they make, in which order, and what they say when it cannot be."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import polars as pl
import pytest
from click.testing import CliRunner

from firstlight.cli.main import cli
from firstlight.detectors.etroc.legacy.run_manager import open_layout
from firstlight.detectors.etroc.simulate import load_truth, simulate
from firstlight.errors import CheckFailedError, ConfigError, InputError, StoreError, UsageError
from firstlight.run.store import open_run

CUTS = "board_id,variable,cut_type,cut_value,output\n*,calibration_code,>,125,\n*,calibration_code,<,150,\n"
TIME_CUTS = (
    "cut_type,cut_direction,variable_1,board_id_1,variable_2,board_id_2,value_1,value_2,value_3,output\n"
    "diag-dist,<,time_of_arrival_ns,0,time_of_arrival_ns,1,0.8,,,near\n"
)
FAST = ("--no-plots", "-q")


def call(*words):
    # nothing can be answered: a question would end the command
    return CliRunner().invoke(cli, ["etroc", *(str(word) for word in words)], input="")


def run(*words):
    result = call(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refused(kind, *words):
    """Return the error of a command that is refused."""
    result = call(*words)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return result.exception


def rows_of(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def states_of(folder):
    content = json.loads(run("status", folder, "--json"))
    return {step["step"]: step["state"] for step in content["steps"]}


def accepted(folder, step="cut"):
    return int(open_run(folder)[f"{step}/events"].to_polars()["accepted"].sum())


def check_of(run_, name):
    (check,) = (check for check in run_.record["checks"] if check["name"] == name)
    return check


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with one beam file, one event in eight of which has hits with hit flag 0."""
    folder = tmp_path_factory.mktemp("beam")
    (path,) = simulate(folder, seed=71, n_events=1500)
    lines = path.read_text().splitlines()
    for index in range(1, len(lines), 24):
        words = lines[index].split()
        lines[index] = " ".join([*words[:4], "0", *words[5:]])
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def ingested(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingested") / "run"
    run("ingest", data, "-o", folder, *FAST)
    return folder


@pytest.fixture(scope="module")
def finished(ingested, tmp_path_factory):
    """Return a run of which every step was made by its verb."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(ingested, folder)
    run("events", folder, *FAST)
    run("cut", folder, "--suggest", *FAST)
    run("times", folder, *FAST)
    run("cut-times", folder, "--suggest", *FAST)
    run("timewalk", folder, *FAST)
    run("resolution", folder, "--bootstrap", 10, *FAST)
    return folder


@pytest.fixture
def fresh(ingested, tmp_path):
    """Return a run into which files were read."""
    return shutil.copytree(ingested, tmp_path / "run")


@pytest.fixture
def done(finished, tmp_path):
    """Return a copy of a run of which every step was made."""
    return shutil.copytree(finished, tmp_path / "run")


# ---------------------------------------------------------------- help


VERBS = [
    "ingest",
    "events",
    "cut",
    "times",
    "cut-times",
    "timewalk",
    "resolution",
    "scan",
    "reprocess",
    "replot",
    "status",
    "verify",
    "simulate",
    "process",
    "process_etroc1_single_run_txt",
    "process_etroc1_single_charge_injection_run",
    "cut_etroc1_single_run",
    "calculate_times_in_ns",
    "cut_times_in_ns",
    "calculate_time_walk_correction",
    "analyse_time_resolution",
    "process_etroc1_charge_injection_data_dir",
    "reprocess_etroc1_charge_injection_data_dir",
    "analyse_dac_vs_charge",
]


def test_help_lists_every_verb():
    listed = re.findall(r"^  ([a-z][\w-]*)(?: |$)", run("--help"), flags=re.MULTILINE)
    assert not set(VERBS) - set(listed)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    text = run(verb, "--help")
    assert f"etroc {verb}" in text
    about = text.split("Options:")[0].splitlines()[2:]
    assert len(" ".join(about).split()) >= 4


# the options that the original's scripts have, by their first spelling there
ORIGINAL = {
    "process_etroc1_single_run_txt": "--file --keep-all -k --event_pattern -p",
    "process_etroc1_single_charge_injection_run": "--file --keep-all -k",
    "cut_etroc1_single_run": "--keep-events -k",
    "calculate_times_in_ns": "--max_toa -a --max_tot -t",
    "cut_times_in_ns": "--max_toa -a --max_tot -t --keep-events -k",
    "calculate_time_walk_correction": "--iterations -i --order -p",
    "analyse_time_resolution": "",
    "process_etroc1_charge_injection_data_dir": "--directory -d --keep-all -k --make_plots -p --inhibit_date -i -b0 "
    "--board0_default -b1 --board1_default -b3 --board3_default -f --filter_default -t --trigger_board",
    "reprocess_etroc1_charge_injection_data_dir": "-p --make_plots -b0 -b1 -b3 -f --filter_default -t --trigger_board",
    "analyse_dac_vs_charge": "-n --noise_with_charge -r --rolling_mean -d --difference_from_mean -c --hit_center -w "
    "--hit_window --trigger_board --trigger_board_hit_center --trigger_board_hit_window -f --noise_edge_offset",
}


@pytest.mark.parametrize("script", ORIGINAL)
def test_every_option_of_the_original(script):
    command = cli.get_command(None, "etroc").get_command(None, script)
    known = {spelling for parameter in command.params for spelling in parameter.opts}
    wanted = {*ORIGINAL[script].split(), "--log-level", "-l", "--log-file", "--out-directory", "-o"}
    assert not wanted - known
    assert all(parameter.help for parameter in command.params)


# ---------------------------------------------------------------- step by step


def test_ingest_tells_what_was_read(data, tmp_path):
    folder = tmp_path / "run"
    told = run("ingest", data, "-o", folder, "--no-plots")
    truth = load_truth(data.parent)
    assert f"{truth['lines']:,}" in told
    assert states_of(folder) == {
        "ingest": "done", "pixels": "done", "events": "not done", "cut": "left out", "times": "left out",
        "cut_times": "left out", "timewalk": "left out", "resolution": "left out", "injection": "not done",
        "original": "left out",
    }  # fmt: skip
    assert set(open_run(folder)) == {
        *(f"ingest/{name}" for name in ("hits", "packets", "counters", "files")),
        *(f"pixels/{name}" for name in ("table", "toa", "tot", "cal")),
        "channels/map",
        "channels/groups",
    }


def test_ingest_of_a_folder_takes_what_matches(data, tmp_path):
    shutil.copy(data, tmp_path / data.name)
    shutil.copy(data, tmp_path / "other.txt")
    run("ingest", tmp_path, "--pattern", "F9*.txt", "-o", tmp_path / "run", *FAST)
    assert open_run(tmp_path / "run").record["files"] == [data.name]


def test_ingest_with_boards_of_links(tmp_path):
    files = simulate(tmp_path / "data", seed=72, kind="telescope2", n_events=300)
    run("ingest", *files, "--boards", "0=0,4=1,12=2", "-o", tmp_path / "run", *FAST)
    groups = open_run(tmp_path / "run")["channels/groups"].to_polars()
    assert groups.select("board", "links").rows() == [(0, "0"), (1, "4"), (2, "12")]
    assert "LINK=BOARD" in str(
        refused(UsageError, "ingest", *files, "--boards", "0:0", "-o", tmp_path / "x", *FAST)
    )
    error = refused(ConfigError, "ingest", *files, "--boards", "5=0", "-o", tmp_path / "x", *FAST)
    assert error.known == ["0", "4", "12"]


def test_ingest_with_a_template_of_names(data, tmp_path):
    name = tmp_path / "run7_A1P5_B2P6_C3P7.txt"
    shutil.copy(data, name)
    run(
        "ingest",
        name,
        "--template",
        "run{run}_{pixel_0}_{pixel_1}_{pixel_3}.txt",
        "-o",
        tmp_path / "run",
        *FAST,
    )
    pixels = open_run(tmp_path / "run")["ingest/files"].to_polars().sort("board")["pixel"].to_list()
    assert pixels == ["A1P5", "B2P6", "C3P7"]


def test_every_step_was_made(finished):
    states = states_of(finished)
    assert {name: state for name, state in states.items() if state != "done"} == {
        "injection": "not done", "original": "left out",
    }  # fmt: skip
    for name in ("cuts.csv", "time_cuts.csv"):
        assert (finished / name).is_file()
    own = open_run(finished)
    assert own.record["configuration"]["resolution"]["bootstrap"] == 10
    assert own["resolution/boards"].to_polars().filter(estimator="likelihood")["good"].all()
    good = run("verify", finished)
    assert re.search(r"(\d+) of \1 products, steps and inputs are right", good)


def test_steps_are_kept_and_forced(done):
    product = open_run(done)["timewalk/hits"].path
    before = product.stat().st_mtime_ns
    run("timewalk", done, *FAST)
    assert product.stat().st_mtime_ns == before
    run("timewalk", done, "--force", *FAST)
    assert product.stat().st_mtime_ns > before
    assert states_of(done)["resolution"] == "done"


def test_options_of_the_steps(done):
    run("events", done, "--building", "order", "--event-pattern", "0,1,3", "-k", "--one-hit", "first", *FAST)
    states = states_of(done)
    assert {states[name] for name in ("cut", "times", "cut_times", "timewalk", "resolution")} == {
        "out of date"
    }
    run("times", done, "--cal", "median", "--events-per-slice", 500, *FAST)
    run("timewalk", done, "-p", 3, "-i", 2, "--method", "spline", "--crossfit", 3, "--window", 0, *FAST)
    run(
        "resolution", done, "--bootstrap", 5, "--estimator", "std", "--seed", 4, "--slices", 2, "--minimum-events", 50,
        *FAST,
    )  # fmt: skip
    own = open_run(done)
    configuration = own.record["configuration"]
    assert configuration["events"] == {
        "building": "order", "pattern": [0, 1, 3], "keep_all": True, "accept_ea": [0], "one_hit": "first",
    }  # fmt: skip
    assert (configuration["times"]["cal"], configuration["times"]["events_per_slice"]) == ("median", 500)
    assert configuration["timewalk"] == {
        "order": 3,
        "iterations": 2,
        "method": "spline",
        "folds": 3,
        "window": 0,
    }
    boards = own["resolution/boards"].to_polars()
    assert boards["iteration"].max() == 2
    assert boards.filter(iteration=2, estimator="std")["bootstrap_error"].null_count() == 0
    assert own["resolution/replicas"].to_polars()["replica"].max() == 4
    assert own["resolution/slices"].to_polars().filter(by="time")["label"].n_unique() == 2
    assert set(own["timewalk/coefficients"].to_polars()["method"]) == {"spline"}


def test_any_parameter_can_be_set(done):
    run("timewalk", done, "--set", "timewalk.order=4", *FAST)
    assert open_run(done).record["configuration"]["timewalk"]["order"] == 4
    error = refused(ConfigError, "timewalk", done, "--set", "timewalk.odrer=4", *FAST)
    assert "order" in error.known


def test_hit_flag_0(fresh):
    run("events", fresh, *FAST)
    fewer = open_run(fresh)["events/hits"].to_polars()
    assert fewer["hit_flag"].all()
    run("events", fresh, "--keep-all", *FAST)
    more = open_run(fresh)["events/hits"].to_polars()
    assert more.height > fewer.height
    assert (~more["hit_flag"]).sum() > 40


def test_steps_print_json(done):
    told = json.loads(run("timewalk", done, "--json", "-q", "--no-plots"))
    assert told["detector"] == "etroc"
    assert {check["verdict"] for check in told["checks"]} <= {"ok", "warn", "no-statistics"}
    (events,) = (row["value"] for row in told["summary"] if row["label"] == "events")
    assert events == open_run(done)["events/hits"].to_polars()["event"].n_unique()


# ---------------------------------------------------------------- the wrong order


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("times",), "events"),
        (("cut", "--none"), "events"),
        (("cut-times", "--none"), "events"),
        (("timewalk",), "events"),
        (("resolution",), "events"),
    ],
)
def test_a_step_too_early_names_the_one_before(fresh, words, missing):
    error = refused(UsageError, words[0], fresh, *words[1:], *FAST)
    assert error.exit_status == 2
    assert f"the step {missing} must be made first" in str(error)
    assert error.hint == f"firstlight etroc {missing} {fresh}"


def test_each_step_needs_the_one_before_it(fresh):
    run("events", fresh, *FAST)
    for verb, missing in (("timewalk", "times"), ("resolution", "times")):
        assert f"the step {missing} must be made first" in str(refused(UsageError, verb, fresh, *FAST))
    assert "before the step times" in str(refused(UsageError, "cut-times", fresh, "--suggest", *FAST))
    run("times", fresh, *FAST)
    assert "the step timewalk must be made first" in str(refused(UsageError, "resolution", fresh, *FAST))


@pytest.mark.parametrize(
    ("script", "more", "missing"),
    [
        ("cut_etroc1_single_run", (), "cuts.csv"),
        ("calculate_times_in_ns", (), "events"),
        ("calculate_time_walk_correction", (), "events"),
        ("analyse_time_resolution", (), "events"),
    ],
)
def test_scripts_too_early(fresh, script, more, missing):
    error = refused(UsageError, script, "-o", fresh, *more, *FAST)
    assert missing in str(error)
    assert error.exit_status == 2


@pytest.mark.parametrize(
    "verb", ["events", "cut", "times", "timewalk", "reprocess", "replot", "status", "verify"]
)
def test_what_is_no_run_directory(tmp_path, verb):
    error = refused(StoreError, verb, tmp_path / "nothing")
    assert str(tmp_path / "nothing") in str(error)
    assert "run" in str(error)


def test_runs_of_other_detectors(tmp_path):
    from firstlight.run.store import Run

    folder = tmp_path / "run"
    with Run.writing(folder, "velo") as other:
        other.save()
    assert "velo" in str(refused(StoreError, "events", folder))


def test_scans_and_beams_are_told_apart(done):
    error = refused(UsageError, "scan", done, *FAST)
    assert "not a charge-injection scan" in str(error)
    assert "events" in error.hint


# ---------------------------------------------------------------- cuts


def test_a_missing_cut_file_is_no_cut_silently(fresh):
    run("events", fresh, *FAST)
    error = refused(ConfigError, "cut", fresh, *FAST)
    assert (error.exit_status, "cuts.csv" in str(error)) == (2, True)
    assert "--suggest" in error.hint
    assert "--none" in error.hint
    assert "cut/events" not in open_run(fresh)
    error = refused(ConfigError, "cut", fresh, "--cuts", fresh / "mine.csv", *FAST)
    assert "mine.csv" in str(error)


def test_exit_statuses_of_a_process(fresh):
    def status_of(*words):
        command = [sys.executable, "-m", "firstlight", "etroc", *map(str, words)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in found.stderr
        return found.returncode, found.stderr

    code, told = status_of("cut_etroc1_single_run", "-o", fresh)
    assert code == 2
    assert "cuts.csv: the cut file does not exist" in told
    assert "--suggest" in told
    assert status_of("verify", fresh)[0] == 0
    (fresh / "products" / "ingest" / "hits.parquet").write_bytes(b"PAR1")
    assert status_of("verify", fresh)[0] == 4


def test_suggested_cuts_are_written_and_used(fresh):
    run("events", fresh, *FAST)
    told = run("cut", fresh, "--suggest", "--no-plots")
    path = fresh / "cuts.csv"
    assert f"wrote {path}" in told
    rows = pl.read_csv(path)
    assert rows.height >= 12
    assert set(rows["board_id"]) == {0, 1, 3}
    assert told.count("board 0: calibration_code >") == 1
    before = accepted(fresh)
    n_events = open_run(fresh)["cut/events"].to_polars().height
    assert 0.9 * n_events < before < n_events
    # they are the user's now: what is edited counts, and is kept when new ones are suggested
    path.write_text(CUTS + "0,time_over_threshold,>,95,\n")
    run("cut", fresh, *FAST)
    assert 0 < accepted(fresh) < 0.6 * n_events
    run("cut", fresh, "--suggest", *FAST)
    assert accepted(fresh) == before
    assert (fresh / "cuts.backup.csv").read_text().endswith("95,\n")


def test_rows_and_no_cuts(fresh):
    run("events", fresh, *FAST)
    run("cut", fresh, "--none", *FAST)
    n_events = open_run(fresh)["cut/events"].to_polars().height
    assert accepted(fresh) == n_events
    run("cut", fresh, "--cut", "*,calibration_code,>,125", "--cut", "0,time_over_threshold,>=,95", *FAST)
    hits = open_run(fresh)["events/hits"].to_polars()
    good = hits.group_by("event").agg(
        (pl.col("cal") > 125).all() & (pl.col("tot").filter(pl.col("board") == 0) >= 95).all()
    )
    assert accepted(fresh) == good["cal"].sum()
    flow = open_run(fresh)["cut/flow"].to_polars()
    assert flow["events_before"][0] == n_events
    assert flow["events_after"].to_list() == sorted(flow["events_after"], reverse=True)
    assert flow["events_after"][-1] == accepted(fresh)


def test_ways_to_cut_exclude_one_another(fresh):
    run("events", fresh, *FAST)
    error = refused(UsageError, "cut", fresh, "--none", "--cut", "*,calibration_code,>,125", *FAST)
    assert "exclude" in str(error)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("*,callibration_code,>,125", "calibration_code"),
        ("*,calibration_code,=>,125", ">="),
        ("7,calibration_code,>,125", "board"),
    ],
)
def test_wrong_cuts_name_what_exists(fresh, row, told):
    run("events", fresh, *FAST)
    error = refused(Exception, "cut", fresh, "--cut", row, *FAST)
    assert told in str(error)
    assert error.exit_status in (2, 3)
    # after a cut that failed nothing is made of events that were not cut
    assert states_of(fresh)["cut"] == "failed"
    error = refused(UsageError, "times", fresh, *FAST)
    assert "the step cut before it is not complete" in str(error)
    assert error.hint == f"firstlight etroc cut {fresh}"
    run("cut", fresh, "--none", *FAST)
    run("times", fresh, *FAST)


# ---------------------------------------------------------------- replot, reprocess, status, verify


def test_replot(done):
    (page,) = (
        line
        for line in run("replot", done, "--max-toa", 9, "--max-tot", 7).splitlines()
        if "index.html" in line
    )
    assert page.endswith("report/index.html")
    own = open_run(done)
    assert own.record["configuration"]["view"] == {"max_toa": 9.0, "max_tot": 7.0}
    pictures = sorted((done / "figures").rglob("*.png"))
    assert len(pictures) > 6
    assert own.record["steps"]["timewalk"]["reused"]
    assert own.record["steps"]["resolution"]["reused"]
    for picture in pictures:
        picture.unlink()
    run("replot", "-o", done, "-q")
    assert sorted((done / "figures").rglob("*.png")) == pictures
    # no ends of axes were given: those of before
    assert open_run(done).record["configuration"]["view"] == {"max_toa": 9.0, "max_tot": 7.0}
    assert "no run directory" in str(refused(UsageError, "replot"))


def test_reprocess_applies_what_was_edited(done):
    before = accepted(done)
    run("reprocess", done, *FAST)
    assert accepted(done) == before
    (done / "cuts.csv").write_text(CUTS + "0,time_over_threshold,>,95,\n")
    run("reprocess", done, *FAST)
    after = accepted(done)
    assert 0 < after < before
    assert set(states_of(done).values()) <= {"done", "left out"}
    own = open_run(done)
    assert own["resolution/boards"].to_polars().filter(estimator="std")["events"].max() <= after
    content = {name: product.path.read_bytes() for name, product in own.items()}
    run("reprocess", done, *FAST)
    assert {name: product.path.read_bytes() for name, product in open_run(done).items()} == content
    assert not [f for f in json.loads(run("verify", done, "--json"))["findings"] if not f["good"]]


def test_status_in_words(done):
    told = run("status", done)
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith("  ")}
    assert list(rows)[:8] == [
        "ingest",
        "pixels",
        "events",
        "cut",
        "times",
        "cut_times",
        "timewalk",
        "resolution",
    ]
    assert re.search(r"timewalk +done +\d+\.\d\d s, hits, coefficients", rows["timewalk"])
    assert "1 used" in rows["inputs"]


@pytest.mark.parametrize("name", ["timewalk/hits", "pixels/cal"])
def test_verify_finds_what_was_tampered_with(done, name):
    path = open_run(done)[name].path
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    result = call("verify", done)
    assert isinstance(result.exception, CheckFailedError)
    assert result.exception.exit_status == 4
    assert f"wrong {name}" in result.output


def test_verify_finds_an_input_that_changed(data, tmp_path):
    own = shutil.copy(data, tmp_path / data.name)
    run("ingest", own, "-o", tmp_path / "run", *FAST)
    with (tmp_path / data.name).open("a") as stream:
        stream.write("0 200 90 140 1 2022-04-09 01:18:00\n")
    result = call("verify", tmp_path / "run")
    assert result.exception.exit_status == 4
    assert f"wrong {data.name}: input has changed since it was read" in result.output


def original_run(folder):
    """Write the reports of three tasks as the original's package does; return the folder."""
    folder.mkdir(parents=True)
    (folder / "run_info.txt").write_text(
        "This directory contains data for the run 'run46', created by the RunManager v0.3.0 on 2023-03-29 14:05:06.1"
    )
    reports = {
        "proccess_etroc1_data_run_txt": "task_status: no errors\nTask completed successfully with no errors\n"
        "The task finished running on: 2023-03-29 15:00:01.5.\n",
        "apply_event_cuts": "task_status: incomplete\nTask is incomplete\n"
        "The task finished running on: 2023-03-29 15:00:02.5.\n",
        "calculate_times_in_ns": "task_status: there were errors\nTask could not be completed because there were errors\n"
        "The task finished running on: 2023-03-29 15:00:03.5\n--------\n"
        '  File "script.py", line 19, in task\nKeyError: 3\n',
    }
    for name, text in reports.items():
        (folder / name).mkdir()
        (folder / name / "task_report.txt").write_text(text)
    return folder


def test_status_of_a_run_of_the_original(tmp_path):
    folder = original_run(tmp_path / "run46")
    told = run("status", folder)
    assert "run of the original" in told
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith("  ")}
    assert "no errors" in rows["proccess_etroc1_data_run_txt"]
    assert "incomplete" in rows["apply_event_cuts"]
    assert "there were errors" in rows["calculate_times_in_ns"]
    assert "KeyError: 3" in rows["calculate_times_in_ns"]
    content = json.loads(run("status", folder, "--json"))
    assert [row["status"] for row in content] == ["no errors", "incomplete", "there were errors"]
    # what is no run of ours is not treated as one
    error = refused(StoreError, "events", folder)
    assert "original" in str(error)


# ---------------------------------------------------------------- the original's scripts


def script(name, folder, *words):
    return run(name, "-o", folder, "--no-plots", *words)


@pytest.fixture
def original(data, tmp_path):
    """Return a run directory of the original's first command."""
    folder = tmp_path / "run46"
    script("process_etroc1_single_run_txt", folder, "--file", data, "-k", "-p", 1)
    return folder


def test_the_scripts_leave_tasks_of_the_original(original, data):
    (original / "cuts.csv").write_text(CUTS)
    script("cut_etroc1_single_run", original)
    script("calculate_times_in_ns", original, "-a", 12, "-t", 8, "-l", "INFO", "--log-file")
    (original / "time_cuts.csv").write_text(TIME_CUTS)
    script("cut_times_in_ns", original, "-a", 0, "-t", 0, "-k")
    told = script("calculate_time_walk_correction", original, "-i", 2, "-p", 3)
    assert "calculate_time_walk_correction/data.sqlite" in told
    told = script("analyse_time_resolution", original)
    assert "analyse_time_resolution/time_resolution.sqlite" in told
    layout = open_layout(original)
    assert list(layout.tasks) == [
        "proccess_etroc1_data_run_txt", "apply_event_cuts", "calculate_times_in_ns", "apply_time_cuts",
        "calculate_time_walk_correction", "analyse_time_resolution",
    ]  # fmt: skip
    assert {report.status for report in layout.tasks.values()} == {"no errors"}
    copied = original / "proccess_etroc1_data_run_txt" / "original_data" / data.name
    assert copied.read_bytes() == data.read_bytes()
    assert (original / "apply_event_cuts" / "cuts.backup.csv").read_text() == CUTS
    # the columns and tables of the original
    columns = (
        "event data_board_id time_of_arrival time_over_threshold calibration_code hit_flag datetime pixel_id"
    )
    path = original / "data" / "data.sqlite"
    assert [row[1] for row in rows_of(path, "pragma table_info(etroc1_data)")] == columns.split()
    path = original / "calculate_times_in_ns" / "data.sqlite"
    more = [row[1] for row in rows_of(path, "pragma table_info(etroc1_data)")]
    assert set(more) == {*columns.split(), "fbin", "time_of_arrival_ns", "time_over_threshold_ns"}
    path = original / "calculate_time_walk_correction" / "data.sqlite"
    tables = {row[0] for row in rows_of(path, "select name from sqlite_master where type = 'table'")}
    assert {"etroc1_data", "twc_fit_info", "twc_info"} <= tables
    walk = [row[1] for row in rows_of(path, "pragma table_info(etroc1_data)")]
    assert {f"time_of_arrival_twc_iteration_{k}" for k in range(3)} <= set(walk)
    fits = [row[1] for row in rows_of(path, "pragma table_info(twc_fit_info)")]
    assert {"p0", "p1", "p2", "p3"} <= set(fits)
    assert "p4" not in fits
    # the number of iterations, with the first one
    assert rows_of(path, "select max_twc_iterations from twc_info") == [(3,)]
    path = original / "analyse_time_resolution" / "time_resolution.sqlite"
    assert rows_of(path, "select distinct twc_iteration from timing_info order by 1") == [(0,), (1,), (2,)]
    # the same numbers as ours
    info = rows_of(
        path,
        "select data_board_id, 1000 * time_resolution from timing_info where twc_iteration = 2 "
        "and step_name = 'Final' order by 1",
    )
    own = open_run(original)["resolution/boards"].to_polars()
    std = own.filter(estimator="std", iteration=2).sort("board")
    assert dict(info) == pytest.approx(dict(std.select("board", "resolution").iter_rows()), rel=1e-9)


# how many hits an event has, with each number of a pattern
@pytest.mark.parametrize(
    ("number", "pattern"), [(1, (0, 1, 3)), (2, (0, 1)), (3, (0, 3)), (4, (1, 3)), (5, (0, 3, 1)), (0, ())]
)
def test_patterns(data, tmp_path, number, pattern):
    folder = tmp_path / "run"
    told = run("process_etroc1_single_run_txt", "--file", data, "-o", folder, "-k", "-p", number, *FAST)
    assert not told
    hits = open_run(folder)["events/hits"].to_polars()
    boards = [int(line.split()[0]) for line in data.read_text().splitlines()[1:]]
    if not pattern:
        # in order of read-out, boards may be missing: two hits make an event, single hits are counted
        counts = {
            (what, unit): n for what, unit, n in open_run(folder)["events/counts"].to_polars().iter_rows()
        }
        assert hits.height + counts["single", "hits"] == len(boards)
        sizes = hits.group_by("event").len()["len"]
        assert (sizes.min(), sizes.max()) == (2, 3)
        assert counts["complete events", "events"] == (sizes == 3).sum()
        return
    found, at = 0, 0
    while at <= len(boards) - len(pattern):
        match = tuple(boards[at : at + len(pattern)]) == pattern
        found, at = found + match, at + (len(pattern) if match else 1)
    assert hits.height == len(pattern) * found
    if found:
        assert hits.sort("event", "record").group_by("event", maintain_order=True).agg("board")["board"].unique().to_list() == [list(pattern)]  # fmt: skip


def test_hits_of_flag_0_are_kept_on_demand(data, tmp_path):
    sizes = {}
    for name, words in (("all", ("-k",)), ("hits", ())):
        run("process_etroc1_single_run_txt", "--file", data, "-o", tmp_path / name, *words, *FAST)
        sizes[name] = rows_of(tmp_path / name / "data" / "data.sqlite", "select hit_flag, count(*) from etroc1_data group by 1")  # fmt: skip
    assert [flag for flag, _ in sizes["all"]] == [0, 1]
    assert [flag for flag, _ in sizes["hits"]] == [1]


@pytest.mark.parametrize("choice", ["mean", "median", "event"])
def test_choices_of_the_calibration(original, choice):
    script("calculate_times_in_ns", original, "--fbin_choice", choice)
    frame = open_run(original)["times/hits"].to_polars().with_columns(open_run(original)["events/hits"].to_polars()["cal"].cast(pl.Float64))  # fmt: skip
    cal = 3.125 / frame["bin_ns"]
    if choice == "event":
        expected = frame["cal"]
    else:
        average = pl.col("cal").mean() if choice == "mean" else pl.col("cal").median()
        expected = frame.select(average.over("board"))["cal"]
    assert (cal - expected).abs().max() < 1e-9


def test_cuts_that_keep_events(original, data):
    """A board without a hit passes with -k, and fails without."""
    script("process_etroc1_single_run_txt", original, "--file", data, "-p", 0)
    (original / "cuts.csv").write_text(CUTS)
    counts = []
    for words in ((), ("-k",)):
        script("cut_etroc1_single_run", original, *words)
        counts.append(accepted(original))
    assert 0 < counts[0] < counts[1]
    parts = open_run(original)["events/hits"].to_polars().group_by("event").agg(
        pl.len(), pl.col("cal").is_between(126, 149).all().alias("good")
    )  # fmt: skip
    assert counts[0] == parts.filter(pl.col("good") & (pl.col("len") == 3)).height
    assert counts[1] == parts.filter("good").height


def test_a_task_that_fails_leaves_its_traceback_and_the_next_one_refuses(original):
    (original / "cuts.csv").write_text("board_id,variable,cut_type,cut_value\n*,no_such_code,>,3\n")
    error = refused(Exception, "cut_etroc1_single_run", "-o", original, *FAST)
    assert "no_such_code" in str(error)
    report = open_layout(original).tasks["apply_event_cuts"]
    assert report.status == "there were errors"
    assert not report.completed
    assert "no_such_code" in report.traceback
    assert "Traceback" in (original / "apply_event_cuts" / "task_report.txt").read_text()
    assert states_of(original)["cut"] == "failed"
    traceback = next(
        s["traceback"] for s in json.loads(run("status", original, "--json"))["steps"] if s["step"] == "cut"
    )
    assert "Traceback" in traceback
    assert "no_such_code" in traceback
    for verb in ("calculate_times_in_ns", "analyse_time_resolution"):
        error = refused(UsageError, verb, "-o", original, *FAST)
        assert "cut" in str(error)
        assert "not complete" in str(error)
    (original / "cuts.csv").write_text(CUTS)
    script("cut_etroc1_single_run", original)
    assert open_layout(original).completed("apply_event_cuts")
    script("calculate_times_in_ns", original)


def test_resolution_makes_what_is_missing_in_between(original):
    script("analyse_time_resolution", original)
    assert {states_of(original)[name] for name in ("times", "timewalk", "resolution")} == {"done"}
    assert open_layout(original).completed("calculate_times_in_ns", "calculate_time_walk_correction")


def test_a_run_of_the_original_is_opened(original, tmp_path):
    """What our scripts leave, without what is ours, is a run of the original."""
    (original / "cuts.csv").write_text(CUTS)
    script("cut_etroc1_single_run", original)
    ours = open_run(original)
    events, cuts = (ours[name].to_polars() for name in ("events/hits", "cut/events"))
    (original / "run.json").unlink()
    for name in ("products", "report", "figures"):
        shutil.rmtree(original / name, ignore_errors=True)
    assert "run of the original" in run("status", original)
    run("import", original, "-o", tmp_path / "mine", "--set", "resolution.bootstrap=5", *FAST)
    mine = open_run(tmp_path / "mine")
    codes = ("event", "board", "toa", "tot", "cal", "hit_flag")
    assert mine["events/hits"].to_polars().select(codes).equals(events.select(codes))
    assert mine["cut/events"].to_polars().equals(cuts)
    assert mine["resolution/boards"].to_polars().filter(estimator="likelihood")["good"].all()
    assert run("verify", tmp_path / "mine")


def test_files_of_the_original_on_demand(done):
    assert not (done / "data").exists()
    told = run("sqlite", done)
    assert "data.sqlite" in told
    ((count, events),) = rows_of(
        done / "data" / "data.sqlite", "select count(*), count(distinct event) from etroc1_data"
    )
    hits = open_run(done)["events/hits"].to_polars()
    assert (count, events) == (hits.height, hits["event"].n_unique())
    rows = rows_of(
        done / "analyse_time_resolution" / "time_resolution.sqlite",
        "select data_board_id, 1000 * time_resolution from timing_info where twc_iteration = 1 order by 1",
    )
    boards = open_run(done)["resolution/boards"].to_polars().filter(estimator="std", iteration=1)
    assert dict(rows) == pytest.approx(dict(boards.select("board", "resolution").iter_rows()), rel=1e-9)


def test_a_file_that_is_not_there(tmp_path):
    error = refused(
        InputError, "process_etroc1_single_run_txt", "--file", tmp_path / "no.txt", "-o", tmp_path / "run"
    )
    assert "no.txt" in str(error)
    assert error.exit_status == 3


# ---------------------------------------------------------------- charge injection


@pytest.fixture(scope="module")
def scan_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan-data")
    simulate(
        folder,
        seed=73,
        kind="injection",
        n_events=200,
        charges=(10, 20),
        thresholds=tuple(range(334, 534, 10)),
    )
    return folder


@pytest.fixture(scope="module")
def scan(scan_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan") / "run"
    run("process_etroc1_charge_injection_data_dir", "-d", scan_data, "-o", folder, "-i", "-f", *FAST)
    return folder


def combined(folder):
    return rows_of(
        folder / "merge_etroc1_runs" / "data.sqlite",
        "select data_board_id, board_injected_charge, board_discriminator_threshold, hits from combined_etroc1_data",
    )


def test_a_scan_is_read_and_merged(scan, scan_data):
    truth = load_truth(scan_data)
    rows = combined(scan)
    assert len(rows) == truth["runs"] == 40
    assert sum(row[3] for row in rows) == truth["hits_with_cal_below_200"]
    layout = open_layout(scan)
    assert list(layout.tasks) == ["process_etroc1_data_directory", "merge_etroc1_runs"]
    assert layout.completed(*layout.tasks)
    inside = sorted((scan / "Individual_Runs").iterdir())
    assert len(inside) == 40
    for folder in inside:
        assert (folder / "cuts.csv").read_text().endswith("#,calibration_code,<,200\n")
        assert open_layout(folder).completed("proccess_etroc1_data_run", "apply_event_cuts")
    # all splits of a run are in it
    sizes = {folder.name: rows_of(folder / "data" / "data.sqlite", "select count(*) from etroc1_data")[0][0] for folder in inside}  # fmt: skip
    assert sum(sizes.values()) == truth["total_hits"]


def test_points_without_hits_are_left_out_by_default(scan, scan_data, tmp_path):
    run("process_etroc1_charge_injection_data_dir", "-d", scan_data, "-o", tmp_path / "run", "-i", *FAST)
    assert combined(tmp_path / "run") == [row for row in combined(scan) if row[3]]


def test_a_date_stands_before_the_name(scan_data, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(scan_data.glob("*QSel10_DAC4*_Split_0.dat")):
        shutil.copy(path, few)
    before = f"{datetime.now(UTC):%Y%m%d}"
    run("process_etroc1_charge_injection_data_dir", "-d", few, "-o", tmp_path / "out", *FAST)
    (made,) = (path for path in tmp_path.iterdir() if path.name.endswith("-out"))
    assert made.name.partition("-")[0] in {before, f"{datetime.now(UTC):%Y%m%d}"}


def test_options_of_boards(scan_data, tmp_path):
    """A board that is not at its default threshold is the one that is scanned; the trigger board never is."""
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(scan_data.glob("*QSel10_DAC4*_Split_0.dat")):
        shutil.copy(path, few)
    words = ("-d", few, "-i", "-f", *FAST)
    run(
        "process_etroc1_charge_injection_data_dir",
        *words,
        "-o",
        tmp_path / "a",
        "-b0",
        535,
        "-b1",
        720,
        "-b3",
        720,
    )
    assert {row[0] for row in combined(tmp_path / "a")} == {1}
    error = call("process_etroc1_charge_injection_data_dir", *words, "-o", tmp_path / "b", "-t", 5)
    assert error.exit_code == 2
    assert open_run(tmp_path / "a").record["configuration"]["injection"]["trigger_board"] == 0


def test_line_and_noise(scan, tmp_path):
    folder = shutil.copytree(scan, tmp_path / "run")
    told = run("analyse_dac_vs_charge", "-o", folder, "-c", 200, "-w", 15, "-d", 10, "--no-plots")
    assert "board 1: DAC = " in told
    path = folder / "calculate_dac_points" / "data.sqlite"
    points = rows_of(path, "select board_injected_charge, board_discriminator_threshold from dac_charge_data")
    largest = {
        charge: max(row[2] for row in combined(scan) if row[1] == charge and row[3]) for charge in (10, 20)
    }
    assert dict(points) == largest
    ((_, low, high),) = rows_of(path, "select * from noise_limit_data")
    assert low == min(row[2] for row in combined(scan) if row[3])
    assert low < high < 400
    more = ("-n", 10, "-r", 5, "-f", 0, "--trigger_board", 0, "--trigger_board_hit_center", 200, "--trigger_board_hit_window", 15)  # fmt: skip
    run("analyse_dac_vs_charge", "-o", folder, "-c", 200, "-w", 15, "-d", 10, *more, *FAST)
    configuration = open_run(folder).record["configuration"]["original"]
    assert (configuration["noise_with_charge"], configuration["rolling_mean"]) == (10, 5)
    assert configuration["noise_edge_offset"] == 0
    assert configuration["trigger_board_hit_center"] == 200
    assert configuration["filter_default"] is True, "an option of an earlier step was lost"


def test_reprocessing_a_scan(scan, tmp_path):
    folder = shutil.copytree(scan, tmp_path / "run")
    before = combined(folder)
    (first,) = (folder / "Individual_Runs").glob("*_QSel10_DAC364_*")
    (first / "cuts.csv").write_text(
        "board_id,variable,cut_type,cut_value,output\n#,calibration_code,<,138,\n"
    )
    run("reprocess_etroc1_charge_injection_data_dir", "-o", folder, "-f", *FAST)
    after = combined(folder)
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    # the cut file of one run changes that run
    assert len(changed) == 1
    ((one, other),) = changed
    assert one[:3] == other[:3]
    assert f"QSel{one[1]}_DAC{one[2]}" in first.name
    assert 0 < other[3] < one[3]
    run("reprocess_etroc1_charge_injection_data_dir", "-o", folder, "-f", *FAST)
    assert combined(folder) == after


def test_one_cut_for_all_runs(scan, tmp_path):
    folder = shutil.copytree(scan, tmp_path / "run")
    cuts = tmp_path / "mine.csv"
    cuts.write_text("board_id,variable,cut_type,cut_value\n#,calibration_code,<,138\n")
    run("reprocess", folder, "--cuts", cuts, *FAST)
    hits = open_run(folder)["ingest/hits"].to_polars()
    assert (
        open_run(folder)["injection/points"].to_polars()["hits"].sum()
        == hits.filter(pl.col("cal") < 138).height
    )


def test_verb_scan(scan_data, tmp_path):
    folder = tmp_path / "run"
    run("ingest", scan_data, "-o", folder, *FAST)
    assert states_of(folder)["injection"] == "not done"
    run("scan", folder, "--injections", 200, "--trigger-board", 0, *FAST)
    points = open_run(folder)["injection/points"].to_polars()
    assert points["injections"].unique().to_list() == [200]
    assert points.height == 40
    run("scan", folder, "--first-split", "--cut", "#,calibration_code,<,138", *FAST)
    own = open_run(folder)
    assert own["injection/points"].to_polars()["splits"].unique().to_list() == [1]
    assert own.record["configuration"]["injection"]["injections"] == 200
    error = refused(UsageError, "events", folder, *FAST)
    assert "a charge-injection scan" in str(error)
    assert error.hint == f"firstlight etroc scan {folder}"


def test_a_single_run_of_a_scan(scan_data, tmp_path):
    path = next(scan_data.glob("*F11P5_QSel20_DAC434_*_Split_0.dat"))
    run("process_etroc1_single_charge_injection_run", "--file", path, "-k", "-o", tmp_path / "run", *FAST)
    columns = [
        row[1] for row in rows_of(tmp_path / "run" / "data" / "data.sqlite", "pragma table_info(etroc1_data)")
    ]
    assert columns == [
        "event",
        "data_board_id",
        "time_of_arrival",
        "time_over_threshold",
        "calibration_code",
        "hit_flag",
        "phase_adjust",
        "pixel_id",
        "board_injected_charge",
        "board_discriminator_threshold",
    ]
    query = "select count(*), count(distinct event), min(board_injected_charge), max(board_discriminator_threshold) from etroc1_data where data_board_id = 1"  # fmt: skip
    lines = len(path.read_text().splitlines())
    assert rows_of(tmp_path / "run" / "data" / "data.sqlite", query) == [(lines, lines, 20, 434)]


def test_folders_without_a_scan(tmp_path, data):
    verb = "process_etroc1_charge_injection_data_dir"
    assert "does not exist" in str(refused(ConfigError, verb, "-d", tmp_path / "no", "-o", tmp_path / "run"))
    assert "no file found" in str(refused(InputError, verb, "-d", tmp_path, "-o", tmp_path / "run"))
    shutil.copy(data, tmp_path / "beam.dat")
    error = refused(UsageError, verb, "-d", tmp_path, "-o", tmp_path / "run")
    assert "no charge-injection file" in str(error)
    assert "Split_0.dat" in error.hint


# ---------------------------------------------------------------- simulate


def test_simulate(tmp_path):
    told = run(
        "simulate", "--seed", 9, "--set", "kind=kc705", "--set", "n_events=50", "-o", tmp_path / "data"
    )
    assert "TDC_Data_0.dat" in told
    assert load_truth(tmp_path / "data")["seed"] == 9
    error = refused(UsageError, "simulate", "--set", "kind=kc706", "-o", tmp_path / "data")
    assert "kc705" in error.known
