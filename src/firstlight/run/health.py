"""The health of a run directory: which steps are done, and whether what is there is whole and up to date."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from firstlight.detector import get_detector
from firstlight.errors import FirstlightError
from firstlight.run.chain import IMPORTED, Chain
from firstlight.run.finished import context_of
from firstlight.run.finishing import Settings
from firstlight.run.provenance import digest_file
from firstlight.steps.step import ProductStep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from firstlight.run.store import Run

__all__ = ["Finding", "StepState", "step_states", "verify_run"]

State = Literal["done", "failed", "stopped", "incomplete", "out of date", "not done", "left out"]


@dataclass(frozen=True)
class StepState:
    """How far one step of a run has come.

    Parameters
    ----------
    step : str
        Its name.
    state : {"done", "failed", "stopped", "incomplete", "out of date", "not done", "left out"}
        ``stopped``: by the user; ``incomplete``: it began and did not end, the process was killed; ``out of date``: it was
        done, and what it used has changed since; ``not done``: what it needs is there; ``left out``: what it needs is not.
    products : tuple of str
        What it made.
    seconds : float or None
        How long that took.
    reason : str
        What it failed of, or what it lacks.
    traceback : str
        Of a failed step.
    """

    step: str
    state: State
    products: tuple[str, ...] = ()
    seconds: float | None = None
    reason: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that was verified.

    Parameters
    ----------
    what : str
        Product or input.
    good : bool
        Whether it is as it should be.
    reason : str
        What is wrong, or how it was verified.
    """

    what: str
    good: bool
    reason: str


def step_states(run: Run) -> list[StepState]:
    """Return how far each step of the detector's chain has come in a run.

    Raises
    ------
    DetectorError
        If the run is of a detector that is not installed.
    """
    detector = get_detector(run.record["detector"])
    unfinished: dict[str, Any] = run.record.get("unfinished", {})
    done: dict[str, Any] = run.record.get("steps", {})
    states = []
    for step in detector.load("chain"):
        if step.name in unfinished:
            entry = unfinished[step.name]
            state: State = {"failed": "failed", "stopped": "stopped"}.get(entry["state"], "incomplete")  # type: ignore[assignment]
            reason = entry.get("error", f"began {entry.get('began', 'at an unknown time')} and did not end")
            states.append(StepState(step.name, state, reason=reason, traceback=entry.get("traceback", "")))
        elif step.name in done:
            entry = done[step.name]
            states.append(StepState(step.name, "done", tuple(entry["products"]), entry.get("seconds")))
        else:
            needs = step.needs if isinstance(step, ProductStep) else ()
            lacking = [name for name in needs if name not in run]
            reason = f"needs {', '.join(lacking)}" if lacking else ""
            possible = isinstance(step, ProductStep) and not lacking
            state = "not done" if possible else "left out"
            if step.name in run.record.get("outdated", []):
                state, reason = "out of date", "what it used has changed since"
            states.append(StepState(step.name, state, reason=reason))
    return states


def verify_run(run: Run) -> list[Finding]:
    """Return what is wrong, and what is right, with the files of a run.

    Every product must be there, whole, and of the key that run.json tells; every step must be up to date with what it
    used; every input that can still be found must be the one that was read.

    Parameters
    ----------
    run : Run
        A run directory.
    """
    return [*_products(run), *_steps(run), *_inputs(run)]


def _products(run: Run) -> Iterator[Finding]:
    for name in run:
        try:
            _ = run[name].value
        except FirstlightError as error:
            yield Finding(name, False, error.what)
        else:
            yield Finding(name, True, "whole")
    for step, entry in run.record.get("unfinished", {}).items():
        yield Finding(f"step {step}", False, entry.get("error", "began and did not end"))


def _steps(run: Run) -> Iterator[Finding]:
    detector = get_detector(run.record["detector"])
    done = run.record.get("steps", {})
    for name in run.record.get("outdated", []):
        yield Finding(
            f"step {name}", False, "is out of date: what it used has changed since, and its products are gone"
        )
    if "channels/map" not in run:
        return
    context = context_of(run, detector)
    chain = Chain(detector, run, context.options, Settings())
    chain.context, chain.new_steps = context, dict(done)
    for step in chain.steps:
        if not isinstance(step, ProductStep) or step.name not in done:
            continue
        if done[step.name]["version"] == IMPORTED:
            yield Finding(f"step {step.name}", True, "imported")
            continue
        missing = [name for name in step.needs if name not in run]
        if missing:
            yield Finding(f"step {step.name}", False, f"was made of {', '.join(missing)}, which is not there")
            continue
        try:
            current = chain.key_of(step)[0] == done[step.name]["key"]
        except FirstlightError as error:
            yield Finding(f"step {step.name}", False, f"a file that it used is gone: {error}")
            continue
        stale = "is out of date: parameters, what it used or its version are others than when it was made"
        yield Finding(f"step {step.name}", current, "up to date" if current else stale)


def _inputs(run: Run) -> Iterator[Finding]:
    for entry in run.record.get("inputs", []):
        path = Path(run.folder / entry["path"])
        if entry["status"] != "used" or not entry["digest"]:
            continue
        if not path.exists():
            yield Finding(path.name, True, "input is not where it was, and cannot be compared")
            continue
        same = digest_file(path) == entry["digest"]
        yield Finding(path.name, same, "input unchanged" if same else "input has changed since it was read")
