"""One step at a time: from files to a run directory, and from there step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from firstlight.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from firstlight.run.finishing import Settings
    from firstlight.run.store import Run

__all__ = ["advance", "begin", "commands_of", "kept_parameters", "open_etroc", "redraw", "reprocess"]

# the steps that a verb makes
_STEPS = {
    "ingest": ("pixels",),
    "events": ("events",),
    "cut": ("cut",),
    "times": ("times",),
    "cut-times": ("cut_times",),
    "timewalk": ("timewalk",),
    "resolution": ("resolution",),
    "scan": ("injection", "original"),
}


def commands_of(step: str) -> str:
    """Return the verb that makes a step."""
    return next((verb for verb, steps in _STEPS.items() if step in steps), step)


def begin(
    files: Sequence[Path],
    output: Path,
    changes: Mapping[str, Any],
    settings: Settings,
    steps: Sequence[str] = (),
) -> Run:
    """Read files into a run directory, and make the first steps.

    Parameters
    ----------
    files : sequence of Path
        Raw files of one run.
    output : Path
        The run directory.
    changes : mapping
        Options and step parameters, as in a configuration file.
    settings : Settings
        How to run.
    steps : sequence of str
        Steps that are made beside those of ``ingest``.
    """
    from firstlight.detector import get_detector
    from firstlight.run.chain import process

    return process(get_detector("etroc"), files, output, changes, settings, steps=(*_STEPS["ingest"], *steps))


def advance(folder: Path, verb: str, changes: Mapping[str, Any], settings: Settings) -> Run:
    """Make one step of a run again, and steps before it that are out of date.

    Steps after it that no longer fit are taken away; `status` names them.

    Parameters
    ----------
    folder : Path
        A run directory.
    verb : str
        Which step: ``events``, ``cut``, ``times``, ``cut-times``, ``timewalk``, ``resolution``, ``scan``.
    changes : mapping
        Step parameters, over those of the run.
    settings : Settings
        How to run.

    Raises
    ------
    UsageError
        If a step before it was not made or failed, or the step cannot do its work with these data.
    StoreError
        If it is no run directory of an ETROC.
    """
    from firstlight.run.finished import derive_again

    run = open_etroc(folder)
    step, *more = _STEPS[verb]
    _check_before(run, step)
    made = {*run.record.get("steps", {}), *run.record.get("outdated", [])}
    wanted = [name for name in _before(step) if name in made]
    if settings.force:
        # what is before it is made again only where it is not up to date
        run = derive_again(run, {}, replace(settings, force=False, plots=False), steps=wanted)
        run = derive_again(run, changes, settings, steps=(step, *more))
    else:
        run = derive_again(run, changes, settings, steps=(*wanted, step, *more))
    for name in (*wanted, step):
        if f"{name}/problem" in run:
            reason = run[f"{name}/problem"].to_polars()["reason"][0]
            raise UsageError(reason, where=f"{folder}, step {commands_of(name)}")
    if not any(name.startswith(f"{step}/") for name in run):
        _refuse_absent(run, step)
    return run


def kept_parameters(run: Run, verb: str, given: Mapping[str, Any]) -> list[str]:
    """Return parameters of a step that are not the default and were not given this time, as ``step.key=value``."""
    from firstlight.detectors.etroc.chain import CHAIN

    models = {step.name: step.parameters() for step in CHAIN}
    found = []
    for step in _STEPS[verb]:
        now = run.record["configuration"].get(step, {})
        for key, default in models[step].model_dump(mode="json").items():
            if key in now and now[key] != default and key not in given.get(step, {}):
                found.append(f"{step}.{key}={now[key]}")
    return found


def open_etroc(folder: Path) -> Run:
    """Return a run directory of an ETROC.

    Raises
    ------
    StoreError
        If it is none; a run of the original's package is told apart.
    """
    from firstlight.detectors.etroc.legacy.run_manager import is_layout
    from firstlight.run.store import open_run

    if folder.is_dir() and not (folder / "run.json").is_file() and is_layout(folder):
        what = "is a run directory of the original's package"
        raise StoreError(what, where=folder, hint=f"firstlight etroc import {folder} -o RUN")
    run = open_run(folder)
    if run.record.get("detector") != "etroc":
        what = f"is a run of the detector {run.record.get('detector')}, not of etroc"
        raise StoreError(what, where=folder)
    return run


def _before(step: str) -> list[str]:
    from firstlight.detectors.etroc.chain import CHAIN

    names = [each.name for each in CHAIN]
    return names[: names.index(step)]


def _check_before(run: Run, step: str) -> None:
    """Refuse where a step before it failed or is missing."""
    unfinished = run.record.get("unfinished", {})
    for name in _before(step):
        if name in unfinished:
            verb = commands_of(name)
            error = unfinished[name].get("error", "it began and did not end")
            what = f"the step {verb} before it is not complete: {error}"
            raise UsageError(what, where=run.folder, hint=f"firstlight etroc {verb} {run.folder}")
    for name in _needed(step):
        verb = commands_of(name)
        hint = f"firstlight etroc {verb} {run.folder}"
        made = name in run.record.get("steps", {}) or name in run.record.get("outdated", [])
        if not made:
            what = f"the step {verb} must be made first"
            raise UsageError(what, where=run.folder, hint=hint)


def _needed(step: str) -> list[str]:
    """Return the steps whose products a step needs, and theirs, in order."""
    from firstlight.detectors.etroc.chain import CHAIN
    from firstlight.steps.step import ProductStep

    by_name = {each.name: each for each in CHAIN}
    found: list[str] = []
    waiting = [step]
    while waiting:
        each = by_name[waiting.pop()]
        owners = {name.split("/")[0] for name in each.needs} if isinstance(each, ProductStep) else set()
        for owner in sorted(owners - set(found)):
            found.append(owner)
            waiting.append(owner)
    return [name for name in by_name if name in found]


def _refuse_absent(run: Run, step: str) -> None:
    from firstlight.detectors.etroc.ingest import is_injection

    injection = is_injection(run["ingest/files"].to_polars())
    kind = "a charge-injection scan" if injection else "not a charge-injection scan"
    hint = "firstlight etroc scan" if injection else "firstlight etroc events"
    what = f"the step {commands_of(step)} has nothing to do: the run is {kind}"
    raise UsageError(what, where=run.folder, hint=f"{hint} {run.folder}")


def reprocess(folder: Path, changes: Mapping[str, Any], settings: Settings, cuts: Path | None = None) -> Run:
    """Apply cuts and parameters again to the hits that were read; all steps that follow are made again.

    Parameters
    ----------
    folder : Path
        A run directory.
    changes : mapping
        Step parameters, over those of the run.
    settings : Settings
        How to run.
    cuts : Path, optional
        Cut file of all runs. By default ``Individual_Runs/RUN/cuts.csv`` of a scan, else ``cuts.csv`` and
        ``time_cuts.csv`` of the run directory, where they are.
    """
    from firstlight.detectors.etroc.cut_files import chosen_cuts
    from firstlight.detectors.etroc.ingest import is_injection
    from firstlight.run.finished import derive_again

    run = open_etroc(folder)
    values: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else value for key, value in changes.items()
    }
    if "ingest/files" not in run:
        what = "nothing was read into this run"
        raise UsageError(what, where=folder, hint="firstlight etroc ingest FILES -o RUN")
    if is_injection(run["ingest/files"].to_polars()):
        own = folder / "Individual_Runs"
        scan = values.setdefault("injection", {})
        if cuts is not None:
            scan.setdefault("cuts", rows_of(cuts))
        elif own.is_dir():
            scan.setdefault("cut_files", str(own))
    else:
        for step, name in (("cut", "cuts.csv"), ("cut_times", "time_cuts.csv")):
            given = cuts if step == "cut" else None
            if given is not None or (folder / name).is_file():
                values[step] = {**chosen_cuts(folder, name, given), **values.get(step, {})}
    return derive_again(run, values, settings)


def rows_of(path: Path) -> tuple[str, ...]:
    """Return the rows of a cut file, as a parameter."""
    from firstlight.detectors.etroc.cuts import read_cuts

    return tuple(
        ",".join(
            (
                cut.board,
                cut.variable,
                cut.comparison,
                f"{cut.value:g}" if isinstance(cut.value, float) else cut.value,
            )
        )
        for cut in read_cuts(path)
    )


def redraw(folder: Path, settings: Settings, max_toa: float | None, max_tot: float | None) -> Path:
    """Draw all figures of a run again and return the report.

    Parameters
    ----------
    folder : Path
        A run directory.
    settings : Settings
        How.
    max_toa, max_tot : float, optional
        Ends of the axes of times [ns]; 0: from the data. As before where not given.
    """
    from firstlight.run.finished import derive_again

    run = open_etroc(folder)
    view = {"max_toa": max_toa, "max_tot": max_tot}
    changes = {"view": {key: value for key, value in view.items() if value is not None}}
    derive_again(run, changes, settings, steps=())
    return folder / "report" / "index.html"
