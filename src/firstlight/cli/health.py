"""The verbs `status` and `verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from firstlight.cli.common import json_option
from firstlight.errors import CheckFailedError

__all__ = ["status", "tell_status", "tell_verification", "verify"]

_COLOURS = {
    "done": "green",
    "failed": "red",
    "stopped": "yellow",
    "incomplete": "red",
    "out of date": "yellow",
}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def status(run: Path, as_json: bool) -> None:
    """Say which steps of a run are done, and why others are not.

    RUN is a run directory. A step that failed is shown with its error; the traceback stands in the JSON.
    """
    tell_status(run, as_json=as_json)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def verify(run: Path, as_json: bool) -> None:
    """Verify a run: products whole, steps up to date, inputs unchanged.

    RUN is a run directory. The exit status is 4 if anything is wrong.
    """
    tell_verification(run, as_json=as_json)


def tell_status(folder: Path, *, as_json: bool) -> None:
    """Say how far each step of a run has come."""
    from firstlight.run.health import step_states
    from firstlight.run.store import open_run

    run = open_run(folder)
    states = step_states(run)
    if as_json:
        content = {
            "run": str(folder),
            "verdict": run.record.get("verdict"),
            "steps": [asdict(s) for s in states],
        }
        click.echo(json.dumps(content, indent=1))
        return
    click.secho(f"{folder}: {run.record.get('title', run.record['detector'])}", bold=True)
    for state in states:
        mark = click.style(f"{state.state:<11}", fg=_COLOURS.get(state.state))
        took = "" if state.seconds is None else f"{state.seconds:.2f} s, "
        made = ", ".join(name.split("/")[1] for name in state.products) or "nothing to do with these data"
        told = (
            state.reason.splitlines()[0] if state.reason else f"{took}{made}" if state.state == "done" else ""
        )
        click.echo(f"  {state.step:<14} {mark} {told}".rstrip())
    used = [entry for entry in run.record.get("inputs", []) if entry["status"] == "used"]
    refused = len(run.record.get("inputs", [])) - len(used)
    rest = f", {refused} refused or skipped" if refused else ""
    click.echo(f"  inputs         {len(used)} used{rest}; verdict {run.record.get('verdict')}")


def tell_verification(folder: Path, *, as_json: bool) -> None:
    """Say what is wrong with a run.

    Raises
    ------
    CheckFailedError
        If anything is.
    """
    from firstlight.run.health import verify_run
    from firstlight.run.store import open_run

    findings = verify_run(open_run(folder))
    bad = [finding for finding in findings if not finding.good]
    if as_json:
        click.echo(json.dumps({"run": str(folder), "findings": [asdict(f) for f in findings]}, indent=1))
    else:
        for finding in bad:
            click.echo(f"  {click.style('wrong', fg='red')} {finding.what}: {finding.reason.splitlines()[0]}")
        lost = sum("cannot be compared" in finding.reason for finding in findings)
        gone = f" ({lost} inputs are not where they were)" if lost else ""
        click.echo(
            f"{len(findings) - len(bad)} of {len(findings)} products, steps and inputs are right{gone}"
        )
    if bad:
        things = "1 thing is" if len(bad) == 1 else f"{len(bad)} things are"
        what = f"{things} wrong in {folder}"
        raise CheckFailedError(
            what, hint="run the command that made it again, it makes only what is not up to date"
        )
