"""The health of a run: how far each step has come, what verification finds, and steps made one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from firstlight.cli.main import cli
from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detector import GROUP, get_detector
from firstlight.errors import CheckFailedError, ConfigError, StoreError
from firstlight.run.chain import Settings, process
from firstlight.run.config import StrictModel
from firstlight.run.finished import derive_again
from firstlight.run.health import step_states, verify_run
from firstlight.run.progress import silent
from firstlight.run.store import open_run
from firstlight.steps.step import ProductStep

PROJECT = Path(__file__).parents[1] / "example_detector"
QUIET = Settings(progress=silent(), plots=False)
CHUNKS = ["occupancy", "multiplicity", "charge"]


class RankingParameters(StrictModel):
    """Which bars are listed.

    Attributes
    ----------
    count : int
        Bars listed at most.
    weakest : bool
        From the weakest bar up.
    """

    count: int = 10
    weakest: bool = False


RANKING = TableSchema(
    "ranking", (Column("channel", pl.Int32, "bar"), Column("response", pl.Float64, "its response")), "a bar"
)


def rank(products, parameters, _):
    """Return the bars of the largest or smallest response."""
    known = products["response/bars"].frame.drop_nulls("response")
    found = known.sort("response", descending=not parameters.weakest).head(parameters.count)
    return {"bars": Table.from_frame(RANKING, found.select("channel", "response"))}


ranking = ProductStep("ranking", rank, needs=("response/bars",), parameters=RankingParameters)


@pytest.fixture(scope="module", autouse=True)
def bars_installed(tmp_path_factory):
    """Let `get_detector("bars")` find the example, in this process and in those that it starts."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.mktemp("site")
    information = site / "bars-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: bars\nVersion: 0.1.0\n")
    points = [f"[{GROUP}]", *(f"{key} = {value}" for key, value in project["entry-points"][GROUP].items())]
    (information / "entry_points.txt").write_text("\n".join(points) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        for folder in (PROJECT, site):
            patch.syspath_prepend(str(folder))
        known = [str(PROJECT), str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        patch.setenv("PYTHONPATH", os.pathsep.join(part for part in known if part))
        yield
    for name in [name for name in sys.modules if name.split(".")[0] == "bars"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def longer_chain(bars_installed, monkeypatch):
    """Let one more step follow the last one of the example."""
    from bars import chain

    monkeypatch.setattr(chain, "CHAIN", (*chain.CHAIN, ranking))
    return chain


@pytest.fixture
def files(tmp_path):
    return get_detector("bars").load("simulate")(tmp_path / "raw", n_events=1000)


def go(files, output, configuration=None, **more):
    return process(get_detector("bars"), files, output, configuration or {}, QUIET, **more)


def states_of(run):
    return {state.step: state.state for state in step_states(run)}


def with_step(monkeypatch, chain, name, function):
    """Let a step of the chain do something else."""
    steps = [replace(step, run=function) if step.name == name else step for step in chain.CHAIN]
    monkeypatch.setattr(chain, "CHAIN", tuple(steps))


def wrong(run):
    return {finding.what: finding.reason for finding in verify_run(run) if not finding.good}


# ---------------------------------------------------------------- states of steps


def test_all_steps_are_done(files, tmp_path):
    run = go(files, tmp_path / "run")
    states = step_states(run)
    assert [(state.step, state.state) for state in states] == [
        (name, "done") for name in (*CHUNKS, "response", "ranking")
    ]
    for state in states:
        assert state.products
        assert all(name in run for name in state.products)
        assert state.seconds >= 0
        assert not state.reason + state.traceback
    assert states_of(open_run(run.folder)) == states_of(run)


def test_a_step_that_raises_has_failed(files, tmp_path, monkeypatch, longer_chain):
    def fail(*_):
        what = "the bars fell over"
        raise ValueError(what)

    with_step(monkeypatch, longer_chain, "response", fail)
    with pytest.raises(ValueError, match="fell over"):
        go(files, tmp_path / "run")
    run = open_run(tmp_path / "run")
    states = {state.step: state for state in step_states(run)}
    assert {name: states[name].state for name in CHUNKS} == dict.fromkeys(CHUNKS, "done")
    failed = states["response"]
    assert (failed.state, failed.reason) == ("failed", "ValueError: the bars fell over")
    assert failed.traceback.startswith("Traceback")
    assert "in fail" in failed.traceback
    assert failed.traceback.rstrip().endswith("ValueError: the bars fell over")
    assert (states["ranking"].state, states["ranking"].reason) == ("left out", "needs response/bars")
    assert wrong(run) == {"step response": "ValueError: the bars fell over"}


def test_what_failed_is_made_when_it_can_be(files, tmp_path, monkeypatch, longer_chain):
    good = longer_chain.CHAIN
    with monkeypatch.context() as patch:
        with_step(patch, longer_chain, "ranking", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go(files, tmp_path / "run")
        assert states_of(open_run(tmp_path / "run"))["ranking"] == "failed"
    assert good == longer_chain.CHAIN
    run = go(files, tmp_path / "run")
    assert set(states_of(run).values()) == {"done"}
    assert run.record["steps"]["response"]["reused"]
    assert not run.record.get("unfinished")
    assert not wrong(run)


def test_a_failed_step_leaves_no_older_result_that_looks_new(files, tmp_path, monkeypatch, longer_chain):
    run = go(files, tmp_path / "run")
    with monkeypatch.context() as patch:
        with_step(patch, longer_chain, "ranking", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            derive_again(run, {"ranking": {"count": 3}}, QUIET)
    run = open_run(tmp_path / "run")
    assert states_of(run)["ranking"] == "failed"
    assert "step ranking" in wrong(run)


def test_a_step_that_was_interrupted_is_stopped(files, tmp_path, monkeypatch, longer_chain):
    def interrupt(*_):
        raise KeyboardInterrupt

    with_step(monkeypatch, longer_chain, "ranking", interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(files, tmp_path / "run")
    states = {state.step: state for state in step_states(open_run(tmp_path / "run"))}
    assert states["ranking"].state == "stopped"
    assert states["response"].state == "done"
    assert "KeyboardInterrupt" in states["ranking"].traceback


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from bars import chain
from firstlight.detector import get_detector
from firstlight.run.chain import Settings, process
from firstlight.run.progress import silent

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

chain.CHAIN = tuple(replace(step, run=die) if step.name == "response" else step for step in chain.CHAIN)
files = sorted(Path(sys.argv[1]).glob("*.csv"))
process(get_detector("bars"), files, Path(sys.argv[2]), {}, Settings(progress=silent(), plots=False))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_leaves_its_step_incomplete(files, tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", KILLED, str(files[0].parent), str(tmp_path / "run")], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert found.returncode == -signal.SIGKILL, found.stderr
    run = open_run(tmp_path / "run")
    states = {state.step: state for state in step_states(run)}
    assert states["response"].state == "incomplete"
    assert "did not end" in states["response"].reason
    assert states["charge"].state == "done"
    assert wrong(run) == {"step response": "began and did not end"}
    again = go(files, tmp_path / "run")
    assert set(states_of(again).values()) == {"done"}
    assert again.record["steps"]["charge"]["reused"]
    assert not wrong(again)


# ---------------------------------------------------------------- steps one by one


def test_steps_can_be_made_one_by_one(files, tmp_path):
    # the checks of the example need its responses
    run = go(files, tmp_path / "run", steps=("response",))
    assert states_of(run) == dict.fromkeys([*CHUNKS, "response"], "done") | {"ranking": "not done"}
    run = derive_again(run, {}, QUIET, steps=("ranking",))
    assert set(states_of(run).values()) == {"done"}
    whole = go(files, tmp_path / "whole")
    assert set(whole) == set(run)
    for name in whole:
        assert whole[name].path.read_bytes() == run[name].path.read_bytes(), name
    assert not wrong(run)


def test_a_changed_parameter_makes_later_steps_out_of_date(files, tmp_path):
    go(files, tmp_path / "run")
    run = derive_again(open_run(tmp_path / "run"), {"response": {"min_hits": 90}}, QUIET, steps=("response",))
    states = {state.step: state for state in step_states(run)}
    assert states["response"].state == "done"
    assert (states["ranking"].state, states["ranking"].reason) == (
        "out of date",
        "what it used has changed since",
    )
    # what no longer fits is taken away rather than left standing
    assert "ranking/bars" not in run
    assert not (run.folder / "products" / "ranking" / "bars.parquet").exists()
    found = wrong(run)
    assert set(found) == {"step ranking"}
    assert "out of date" in found["step ranking"]
    run = derive_again(run, {}, QUIET, steps=("ranking",))
    assert states_of(run)["ranking"] == "done"
    assert not wrong(run)
    assert run.record["steps"]["response"]["parameters"] == {"min_hits": 90}


def test_unchanged_steps_are_kept_although_they_were_not_asked_for(files, tmp_path):
    run = go(files, tmp_path / "run")
    before = {name: run[name].path.stat().st_mtime_ns for name in run if not name.startswith("ranking/")}
    run = derive_again(run, {"ranking": {"count": 2}}, QUIET, steps=("ranking",))
    assert set(states_of(run).values()) == {"done"}
    assert run["ranking/bars"].to_polars().height == 2
    assert {name: run[name].path.stat().st_mtime_ns for name in before} == before


def test_one_step_can_be_forced(files, tmp_path):
    run = go(files, tmp_path / "run")
    before = {name: product.path.stat().st_mtime_ns for name, product in run.items()}
    run = derive_again(run, {}, replace(QUIET, force=True), steps=("ranking",))
    assert set(states_of(run).values()) == {"done"}
    assert set(run) == set(before)
    again = {name for name, product in run.items() if product.path.stat().st_mtime_ns != before[name]}
    assert again == {"ranking/bars"}


def test_one_parameter_leaves_the_others_of_its_step(files, tmp_path):
    run = go(
        files, tmp_path / "run", {"ranking": {"count": 5, "weakest": True}, "response": {"min_hits": 60}}
    )
    weakest = run["ranking/bars"].to_polars()
    assert weakest.height == 5
    run = derive_again(open_run(run.folder), {"ranking": {"count": 3}}, QUIET)
    assert run.record["configuration"]["ranking"] == {"count": 3, "weakest": True}
    assert run.record["configuration"]["response"] == {"min_hits": 60}
    assert run["ranking/bars"].to_polars().equals(weakest.head(3))
    run = derive_again(open_run(run.folder), {"ranking": {"weakest": False}}, QUIET, steps=("ranking",))
    assert run.record["configuration"]["ranking"] == {"count": 3, "weakest": False}
    assert run["ranking/bars"].to_polars()["response"].min() > weakest["response"].max()


def test_a_wrong_parameter_changes_nothing(files, tmp_path):
    run = go(files, tmp_path / "run")
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(ConfigError, match="unknown key") as caught:
        derive_again(run, {"ranking": {"cuont": 3}}, QUIET)
    assert "count" in caught.value.known
    assert (run.folder / "run.json").read_bytes() == before


# ---------------------------------------------------------------- verification


def test_a_good_run_is_verified(files, tmp_path):
    run = go(files, tmp_path / "run")
    findings = {finding.what: finding for finding in verify_run(run)}
    assert all(finding.good for finding in findings.values())
    assert findings["response/bars"].reason == "whole"
    assert findings["step ranking"].reason == "up to date"
    assert [findings[path.name].reason for path in files] == ["input unchanged"] * 2


@pytest.mark.parametrize("damage", ["gone", "half", "rewritten"])
def test_a_tampered_product_is_found(files, tmp_path, damage):
    run = go(files, tmp_path / "run")
    path = run["response/bars"].path
    if damage == "gone":
        path.unlink()
    elif damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        pl.read_parquet(path).with_columns(pl.col("response") * 1.01).write_parquet(path)
    found = wrong(open_run(run.folder))
    assert set(found) == {"response/bars"}
    assert len(found["response/bars"]) > 8
    # what made it again makes it right
    assert not wrong(go(files, tmp_path / "run"))


def test_a_changed_input_is_found(files, tmp_path):
    run = go(files, tmp_path / "run")
    text = files[1].read_text()
    files[1].write_text(text.replace("20.", "21.", 1))
    assert wrong(run) == {files[1].name: "input has changed since it was read"}
    files[1].unlink()
    assert not wrong(run)
    (told,) = (finding for finding in verify_run(run) if finding.what == files[1].name)
    assert "cannot be compared" in told.reason


def test_a_step_that_is_out_of_date_is_found(files, tmp_path, monkeypatch, longer_chain):
    run = go(files, tmp_path / "run")
    steps = [
        replace(step, version=step.version + 1) if step.name == "response" else step
        for step in longer_chain.CHAIN
    ]
    monkeypatch.setattr(longer_chain, "CHAIN", tuple(steps))
    found = wrong(run)
    assert set(found) == {"step response"}
    assert "out of date" in found["step response"]


def test_a_changed_parameter_in_the_record_is_found(files, tmp_path):
    run = go(files, tmp_path / "run")
    path = run.folder / "run.json"
    record = json.loads(path.read_text())
    record["configuration"]["ranking"]["count"] = 4
    path.write_text(json.dumps(record))
    assert set(wrong(open_run(run.folder))) == {"step ranking"}


# ---------------------------------------------------------------- commands


def call(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_status_shows_every_step(files, tmp_path, monkeypatch, longer_chain):
    def fail(*_):
        what = "two lines\nof trouble"
        raise ValueError(what)

    with_step(monkeypatch, longer_chain, "response", fail)
    with pytest.raises(ValueError, match="trouble"):
        go(files, tmp_path / "run")
    told = call("status", tmp_path / "run")
    assert told.exit_code == 0, told.exception
    rows = {line.split()[0]: line for line in told.output.splitlines() if line.startswith("  ")}
    assert list(rows) == [*CHUNKS, "response", "ranking", "inputs"]
    assert "done" in rows["charge"]
    assert "ValueError: two lines" in rows["response"]
    assert "of trouble" not in told.output
    assert "left out" in rows["ranking"]
    assert "needs response/bars" in rows["ranking"]
    content = json.loads(call("status", tmp_path / "run", "--json").output)
    (failed,) = (step for step in content["steps"] if step["state"] == "failed")
    assert "of trouble" in failed["traceback"]


def test_verify_ends_with_4_if_anything_is_wrong(files, tmp_path):
    run = go(files, tmp_path / "run")
    good = call("verify", run.folder)
    assert good.exit_code == 0, good.exception
    count = len(verify_run(run))
    assert f"{count} of {count} products, steps and inputs are right" in good.output
    run["response/bars"].path.write_bytes(b"PAR1")
    bad = call("verify", run.folder)
    assert isinstance(bad.exception, CheckFailedError)
    assert bad.exception.exit_status == 4
    assert "response/bars" in bad.output
    found = json.loads(call("verify", run.folder, "--json").output)
    assert [entry["what"] for entry in found["findings"] if not entry["good"]] == ["response/bars"]


@pytest.mark.parametrize("verb", ["status", "verify"])
def test_what_is_no_run_is_told(tmp_path, verb):
    for folder in (tmp_path, tmp_path / "nothing"):
        found = call(verb, folder)
        assert isinstance(found.exception, StoreError)
        assert str(folder) in str(found.exception)
