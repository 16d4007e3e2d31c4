"""The command line: exit statuses, what goes where, and errors that say what exists instead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from firstlight.cli.main import main
from firstlight.run.store import Run

DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
BROKEN = DATA / "spinquest" / "broken"
needs_data = pytest.mark.skipif(not BROKEN.is_dir(), reason=f"sample data not found in {DATA}")
BROKEN_FILES = ("DY_Dump_in_JPsi_Target.root", "Signal_rus.root", "synth_sraw_truncated.root")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        found = capsys.readouterr()
        return Ended(status, found.out, found.err)

    return run


@pytest.fixture
def raw(tmp_path, write_hits) -> Path:
    return write_hits(tmp_path / "raw" / "run_005994_spill_000000001_sraw.root").path


def process(cli, *arguments: str | Path) -> Ended:
    return cli("process", *arguments, "--no-plots")


# ---------------------------------------------------------------- status 0: done


def test_process_recognises_the_detector_and_writes_a_run(cli, raw, tmp_path):
    ended = process(cli, raw.parent, "-o", "run")
    assert ended.status == 0, ended.err
    assert "verdict: " in ended.out
    assert "run:     run" in ended.out
    assert Run.open(tmp_path / "run").record["detector"] == "spinquest"


def test_files_of_the_original_tool_stand_beside_the_products(cli, raw, tmp_path):
    assert cli("spinquest", "occupancy", raw, "--no-plots", "-q").status == 0
    folder = tmp_path / "QTracker_Station_Occupancies"
    total = json.loads((folder / "total_hits_data.json").read_text())
    by_file = json.loads((folder / "file_hits_data.json").read_text())
    assert by_file == {raw.name: total}


def test_json_is_all_of_standard_output(cli, raw):
    for command in (("process", raw), ("spinquest", "occupancy", raw)):
        ended = cli(*command, "-o", "run", "--no-plots", "--json")
        assert ended.status == 0, ended.err
        content = json.loads(ended.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert content["detector"] == "spinquest"
        assert content["inputs"][0]["status"] == "used"
        assert {"summary", "checks", "verdict"} <= content.keys()


def test_json_stays_json_when_a_file_is_refused(cli, raw, tmp_path):
    (tmp_path / "bad.root").write_bytes(b"no")
    ended = process(cli, raw, "bad.root", "--json", "-o", "run")
    assert ended.status == 3
    assert [entry["status"] for entry in json.loads(ended.out)["inputs"]] == ["used", "refused"]


def test_quiet_says_nothing(cli, raw):
    ended = process(cli, raw, "--quiet", "-o", "run")
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_verbose_says_more_and_cleans_up_after_itself(cli, raw):
    import logging

    before = list(logging.getLogger("firstlight").handlers)
    ended = process(cli, raw, "--verbose", "-o", "run")
    assert "step occupancy" in ended.err
    assert logging.getLogger("firstlight").handlers == before


@pytest.mark.parametrize(
    "verb",
    [
        (),
        ("process",),
        ("inspect",),
        ("detectors",),
        ("spinquest",),
        ("spinquest", "occupancy"),
        ("report",),
        ("warmup",),
        ("demo",),
    ],
)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_verb_has_help(cli, verb, option):
    ended = cli(*verb, option)
    assert ended.status == 0, ended.err
    assert "Usage: firstlight" in ended.out


def test_version(cli):
    assert "0.1.0" in cli("--version").out


def test_inspect_tells_what_a_file_holds(cli, raw):
    ended = cli("inspect", raw)
    assert ended.status == 0
    assert "detector    spinquest" in ended.out
    content = json.loads(cli("inspect", raw, "--json").out)
    assert content[0]["n_events"] == 40


def test_detectors_are_listed(cli):
    assert "spinquest" in cli("detectors").out
    assert json.loads(cli("detectors", "--json").out)[0]["origin"] == "built in"


def test_the_demo_takes_names_of_detectors(cli):
    assert "did you mean 'etroc'" in cli("demo", "etrok").err
    ended = cli("demo", "etroc", "--detector", "etroc", "-o", "shown", "-q")
    assert ended.status == 0, ended.err
    assert Path("shown/index.html").is_file()
    assert [path.name for path in Path("shown").iterdir() if path.is_dir()] == ["etroc"]
    run = Run.open("shown/etroc/run").record
    assert run["verdict"] == "warn"
    assert {check["name"] for check in run["checks"] if check["verdict"] == "warn"} >= {"words not used"}


def test_options_override_the_file_and_set(cli, raw, tmp_path):
    (tmp_path / "run.toml").write_text('geometry = "E906"\n[tdc]\nbins = 54\n')
    ended = cli(
        "spinquest", "occupancy", raw, "-o", "run", "--config", "run.toml", "--set", "tdc.bins=27",
        "--set", "geometry=original", "--geometry", "E1039", "--no-plots", "-q",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    configuration = Run.open("run").record["configuration"]
    assert (configuration["geometry"], configuration["tdc"]["bins"]) == ("E1039", 27)


# ---------------------------------------------------------------- status 2: the command line is wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("proces", "x"), "Did you mean process"),
        (("spinqest",), "Did you mean spinquest"),
        (("spinquest", "ocupancy"), "occupancy"),
        (("process", "--detector", "spinqest", "{raw}"), "did you mean 'spinquest'"),
        (("process", "{raw}", "--outptu", "x"), "--output"),
        (("process",), "Missing argument"),
        (("process", "{raw}", "--jobs", "0"), "--jobs"),
        (("process", "{raw}", "--fail-on", "worse"), "'warn', 'bad', 'error'"),
        (("process", "{raw}", "--set", "tdc.bin=3"), "did you mean 'bins'"),
        (("process", "{raw}", "--set", "tdc.bins=0"), "tdc.bins"),
        (("process", "{raw}", "--set", "tdc.low=9999"), "must be below high"),
        (("process", "{raw}", "--set", "qualty.mask=x"), "did you mean 'quality'"),
        (("process", "{raw}", "--set", "novalue"), "KEY=VALUE"),
        (("process", "{raw}", "--config", "nothing.toml"), "does not exist"),
        (("spinquest", "occupancy", "{raw}", "--trigger", "FPGA9"), "did you mean FPGA"),
        (("spinquest", "occupancy", "{raw}", "--cut", "tdc_time >"), "is not a condition"),
        (("spinquest", "occupancy", "{raw}", "--cut", "tdctime > 3"), "did you mean 'tdc_time'"),
        (("spinquest", "occupancy", "{raw}", "--geometry", "E1040"), "E1039"),
        (("spinquest", "occupancy", "{raw}", "--scale", "logg"), "'log'"),
    ],
)
def test_wrong_command_line_is_status_2_and_names_what_exists(cli, raw, tmp_path, arguments, message):
    ended = cli(
        *(str(raw) if word == "{raw}" else word for word in arguments),
        *(() if len(arguments) < 3 else ("-o", "run")),
    )
    assert ended.status == 2, ended.err
    assert message in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--mask", "D0X 999\n", "line 1"),
        ("--mask", "D0x 1\n", "did you mean"),
        ("--mask", None, "does not exist"),
        ("--geometry", "nonsense,with\n1,2\n", "geometry.txt"),
        ("--reference", None, "does not exist"),
    ],
)
def test_malformed_side_files_are_named(cli, raw, tmp_path, option, content, message):
    path = tmp_path / ("geometry.txt" if option == "--geometry" else "side.txt")
    if content is not None:
        path.write_text(content)
    ended = cli("spinquest", "occupancy", raw, option, path, "-o", "run", "--no-plots")
    assert ended.status in (2, 3), ended.err
    assert message in ended.err
    assert path.name in ended.err
    assert "Traceback" not in ended.err


# ---------------------------------------------------------------- status 3: an input cannot be used


@needs_data
@pytest.mark.parametrize("command", [("process",), ("spinquest", "occupancy")])
def test_every_broken_file_is_named_and_the_good_one_is_done(cli, raw, tmp_path, command):
    broken = [BROKEN / name for name in BROKEN_FILES]
    ended = cli(*command, raw, *broken, "-o", "run", "--no-plots")
    assert ended.status == 3
    assert "3 of 4 input files were refused" in ended.err
    assert "--allow-bad 3" in ended.err
    for path in broken:
        assert f"refused {path.name}: " in ended.out
    assert "Traceback" not in ended.out + ended.err
    run = Run.open(tmp_path / "run")
    assert run["occupancy/totals"].to_polars()["n_events"][0] == 40
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in run.record["inputs"]}
    assert "without any tree" in reasons["DY_Dump_in_JPsi_Target.root"]
    assert "too short" in reasons["Signal_rus.root"]
    assert "truncated" in reasons["synth_sraw_truncated.root"]


@needs_data
def test_broken_files_are_tolerated_up_to_a_number(cli, raw):
    broken = [BROKEN / name for name in BROKEN_FILES]
    assert process(cli, raw, *broken, "-o", "run", "--allow-bad", "3").status == 0
    assert process(cli, raw, *broken, "-o", "run", "--allow-bad", "2").status == 3


@needs_data
@pytest.mark.parametrize(
    "command", [("process", "--detector", "spinquest"), ("spinquest", "occupancy"), ("inspect",)]
)
def test_only_broken_files(cli, command, tmp_path):
    ended = cli(
        *command,
        *(BROKEN / name for name in BROKEN_FILES),
        *(() if command[0] == "inspect" else ("-o", "run", "--no-plots")),
    )
    assert ended.status == 3
    for name in BROKEN_FILES:
        assert name in ended.out + ended.err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    "command", [("process",), ("spinquest", "occupancy"), ("spinquest", "process"), ("inspect",)]
)
def test_folder_without_raw_files(cli, tmp_path, command):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    ended = cli(*command, "empty")
    assert ended.status == 3
    assert "no file found" in ended.err
    assert ".root" in ended.err


def test_no_files_means_this_folder_for_the_verb_of_the_original(cli, tmp_path):
    ended = cli("spinquest", "occupancy", "-o", "run")
    assert ended.status == 3
    assert "no file found" in ended.err


def test_missing_file_names_what_is_there(cli, raw):
    ended = process(cli, raw.with_name("run_005994_spill_000000002_sraw.root"))
    assert ended.status == 3
    assert raw.name in ended.err


# ---------------------------------------------------------------- status 4: a check failed, and --fail-on asked


def test_failed_check_is_status_4_only_when_asked(cli, raw):
    assert process(cli, raw, "-o", "run").status == 0
    ended = process(cli, raw, "-o", "run", "--fail-on", "warn")
    assert ended.status == 4
    assert "checks failed (--fail-on warn)" in ended.err
    verdicts = {check["verdict"] for check in Run.open("run").record["checks"]}
    assert "warn" in verdicts
    assert process(cli, raw, "-o", "run", "--fail-on", "bad").status == (4 if "bad" in verdicts else 0)


# ---------------------------------------------------------------- the output cannot be written


def test_output_that_is_a_file(cli, raw, tmp_path):
    (tmp_path / "file").touch()
    ended = process(cli, raw, "-o", "file")
    assert ended.status != 0
    assert "cannot be made a run directory" in ended.err
    assert "another --output" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(cli, raw, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    for output in ("locked", "locked/run"):
        ended = process(cli, raw, "-o", output)
        assert ended.status != 0
        assert "Traceback" not in ended.err
        assert "another --output" in ended.err


def test_output_on_a_file_system_that_takes_no_files(cli, raw):
    ended = process(cli, raw, "-o", "/proc/firstlight")
    assert ended.status != 0
    assert "cannot be made a run directory" in ended.err


def test_output_that_holds_a_run_of_another_detector(cli, raw, tmp_path):
    Run.create(tmp_path / "run", "velo").save()
    ended = process(cli, raw, "-o", "run")
    assert ended.status != 0
    assert "is a run of the detector 'velo', not 'spinquest'" in ended.err


def test_output_with_a_damaged_record(cli, raw, tmp_path):
    process(cli, raw, "-o", "run", "-q")
    (tmp_path / "run" / "run.json").write_text("{")
    ended = process(cli, raw, "-o", "run")
    assert ended.status != 0
    assert "is damaged" in ended.err
    assert "Traceback" not in ended.err


# ---------------------------------------------------------------- as a process


def firstlight(*arguments: str | Path, **more) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "firstlight", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def test_warnings_and_progress_stay_off_standard_output(raw, tmp_path):
    done = firstlight("process", raw, "-o", "run", "--no-plots", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["detector"] == "spinquest"
    assert "Warning" not in done.stderr


def test_reader_that_goes_away_is_no_traceback(raw, tmp_path):
    code = f"{sys.executable} -m firstlight inspect {' '.join([str(raw)] * 300)} | head -c 1"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_interrupt_ends_with_130_and_keeps_what_is_done(tmp_path, write_hits):
    files = [write_hits(tmp_path / "raw" / f"{i}.root", seed=i, n_events=1000).path for i in range(3)]
    command = [
        sys.executable,
        "-m",
        "firstlight",
        "process",
        *files,
        "-o",
        tmp_path / "run",
        "--no-plots",
        "--force",
    ]
    for _ in range(3):
        with subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as started:
            log = tmp_path / "run" / "run.log"
            before = log.read_text().count("start") if log.exists() else 0
            while started.poll() is None and not (log.exists() and log.read_text().count("start") > before):
                time.sleep(0.01)
            started.send_signal(signal.SIGINT)
            _, err = started.communicate(timeout=30)
        if started.returncode != 0:  # Python loses an interrupt that comes while it tidies up: once more
            break
    assert started.returncode == 130
    assert "stopped; what was finished is kept" in err
