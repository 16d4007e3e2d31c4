"""The verbs of SpinQuest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from firstlight.cli.common import (
    run_options,
    settings_from,
    tell,
    values_from,
)
from firstlight.cli.process import finish
from firstlight.detectors.spinquest import detector
from firstlight.detectors.spinquest.commands_events import convert, geometry, plot, simulate
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from firstlight.run.store import Run

__all__ = ["commands"]

Command = Any
_IMPORTED = (".json", ".csv")


@click.group()
def commands() -> None:
    """Verbs of SpinQuest."""


def _input_options(command: Command) -> Command:
    """Add what all verbs that read raw files have."""
    options = (
        click.option("--directory", type=click.Path(path_type=Path), help="Folder to search; the present one if nothing is named."),
        click.option("--pattern", help="In folders only files of this name, with wildcards."),
        click.option("--no-recursive", is_flag=True, help="Do not look in sub-folders."),
        click.option("--max-files", type=click.IntRange(min=1), help="Read at most so many files; all by default."),
        click.option("--max-events", type=click.IntRange(min=1), help="Read at most so many events, of the first files."),
        click.option("--in-time", is_flag=True, help="Only hits whose in-time flag is set."),
        click.option("--trigger", metavar="NAMES", help="Only events with one of these triggers: NIM1,...,FPGA5."),
        click.option("--first-hit", is_flag=True, help="Only the first hit of each element in each event."),
        click.option("--cut", "cuts", multiple=True, metavar="SQL", help="Only hits with: tdc_time between 800 and 1300."),
        click.option("--geometry", metavar="NAME|FILE", help="auto (the default), E1039, E906, original, or a table of planes."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _view_options(command: Command) -> Command:
    """Add how occupancies are drawn."""
    options = (
        click.option("--quantity", type=click.Choice(["hits", "events"]), help="All hits, or the fraction of events."),
        click.option("--scale", type=click.Choice(["linear", "log", "per-detector"]), help="Colour scale of the maps."),
        click.option("--groups", metavar="FILE", help="TOML file that says which planes are drawn together."),
        click.option("--legacy-layout", is_flag=True, help="Flat file names of the original, and its data files."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _quality_options(command: Command) -> Command:
    """Add what verdicts are held against."""
    command = click.option("--mask", metavar="FILE", help="Known-bad elements: lines like 'D0X 74 # hot'.")(
        command
    )
    return click.option(
        "--reference", metavar="RUN|FILE", help="What is normal: a run, or an occupancy file of the original."
    )(command)


def _files(files: tuple[Path, ...], options: dict[str, Any]) -> list[Path]:
    from firstlight.data.patterns import find_files

    directory = options.pop("directory")
    pattern, recursive = options.pop("pattern"), not options.pop("no_recursive")
    limit = options.pop("max_files")
    paths = [*files, directory] if directory is not None else list(files or [Path()])
    found = find_files(paths, suffixes=detector.suffixes, pattern=pattern, recursive=recursive)
    return found[:limit]


def _values(options: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that the options of a verb say, and take them out of the options."""
    trigger = options.pop("trigger", None)
    names = tuple(name.strip() for name in trigger.split(",") if name.strip()) if trigger else ()
    given = {
        "in_time": options.pop("in_time", False),
        "trigger": names,
        "first_hit": options.pop("first_hit", False),
        "cuts": options.pop("cuts", ()),
        "geometry": options.pop("geometry", None),
        "view__quantity": options.pop("quantity", None),
        "view__scale": options.pop("scale", None),
        "view__groups": options.pop("groups", None),
        "view__legacy_layout": options.pop("legacy_layout", False),
        "quality__reference": options.pop("reference", None),
        "quality__mask": options.pop("mask", None),
    }
    return values_from(options["config"], options.pop("settings"), **given)


def _telling(options: dict[str, Any]) -> dict[str, Any]:
    return {"as_json": options["as_json"], "quiet": options["quiet"], "fail_on": options["fail_on"]}


@commands.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@_input_options
@_view_options
@_quality_options
@run_options("QTracker_Station_Occupancies")
def occupancy(files: tuple[Path, ...], max_events: int | None, **options: Any) -> None:
    """Occupancies of all planes: counts, maps, spectra, verdicts and a report.

    FILES are ROOT files or folders; the present folder and those below it if there are none. The output folder holds
    the files of the original tool under their names too. An occupancy file of the original (JSON or CSV) is
    drawn and judged again.
    """
    if len(files) == 1 and files[0].suffix in _IMPORTED:
        _drop_input_options(options, max_events)
        tell(_import(files[0], _values(options), options), **_telling(options))
        return
    found = _files(files, options)
    finish(detector, found, _values(options), options, max_events=max_events)


def _drop_input_options(options: dict[str, Any], max_events: int | None) -> None:
    searching = ("directory", "pattern", "no_recursive", "max_files")
    asked = [name for name in ("in_time", "trigger", "first_hit", "cuts", *searching) if options.get(name)]
    asked += ["max_events"] if max_events is not None else []
    for name in searching:
        options.pop(name, None)
    if asked:
        option = {"cuts": "cut"}.get(asked[0], asked[0].replace("_", "-"))
        what = f"--{option} needs raw files: counts that were made before cannot be cut"
        raise UsageError(what)


def _import(path: Path, values: dict[str, Any], options: dict[str, Any]) -> Run:
    from firstlight.detectors.spinquest.legacy import imported_run

    return imported_run(path, options["output"], values, settings_from(options))


@commands.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@_input_options
@_view_options
@_quality_options
@run_options("spinquest-quality")
def quality(inputs: tuple[Path, ...], max_events: int | None, **options: Any) -> None:
    """Dead, hot and low elements, dead blocks and planes, shifted times: with the rule and its numbers.

    INPUTS are ROOT files or folders, an occupancy file of the original tool, or one finished run, which is
    judged again without its raw files. verdicts.json and suggested_mask.txt in the run directory are for machines.
    """
    run = _again(inputs, options, max_events) or None
    if run is not None:
        tell(run, **_telling(options))
    elif len(inputs) == 1 and inputs[0].suffix in _IMPORTED:
        _drop_input_options(options, max_events)
        tell(_import(inputs[0], _values(options), options), **_telling(options))
    else:
        found = _files(inputs, options)
        finish(detector, found, _values(options), options, max_events=max_events)


def _again(inputs: tuple[Path, ...], options: dict[str, Any], max_events: int | None) -> Run | None:
    """Judge a finished run again, if that is what was given."""
    from firstlight.run.finished import derive_again
    from firstlight.run.store import open_run

    if len(inputs) != 1 or not (inputs[0] / "run.json").is_file():
        return None
    source = click.get_current_context().get_parameter_source("output")
    if source is ParameterSource.COMMANDLINE and options["output"].resolve() != inputs[0].resolve():
        what = "a finished run is judged again in its own directory, not in --output"
        raise UsageError(what, where=inputs[0], hint="copy the directory and judge the copy")
    _drop_input_options(options, max_events)
    return derive_again(open_run(inputs[0]), _values(options), settings_from(options), options["config"])


@commands.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@_input_options
@run_options("spinquest-trend")
def trend(inputs: tuple[Path, ...], max_events: int | None, **options: Any) -> None:
    """Hits per event, in-time fraction, triggers, shares and times of planes from spill to spill.

    INPUTS are ROOT files or folders, or one finished run.
    """
    run = _again(inputs, options, max_events)
    if run is None:
        found = _files(inputs, options)
        finish(detector, found, _values(options), options, max_events=max_events)
    else:
        tell(run, **_telling(options))


@commands.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--reference",
    required=True,
    metavar="RUN|FILE",
    help="A run, ROOT files, or an occupancy file of the original.",
)
@_input_options
@run_options("spinquest-comparison")
def compare(inputs: tuple[Path, ...], reference: str, max_events: int | None, **options: Any) -> None:
    """Compare the elements of some spills with a reference: ratio, pulls with fitted dispersion, scale of each plane.

    INPUTS are ROOT files or folders, one finished run, or an occupancy file of the original tool.
    """
    from firstlight.run.comparison import compare_runs

    output: Path = options["output"]
    run = _as_run(inputs, output / "run", options, max_events)
    other = _as_run((Path(reference),), output / "reference", options, None)
    settings = settings_from(options)
    tell(compare_runs(run, other, output, settings=settings), **_telling(options))


def _as_run(inputs: tuple[Path, ...], output: Path, options: dict[str, Any], max_events: int | None) -> Run:
    from dataclasses import replace

    from firstlight.run.chain import process
    from firstlight.run.store import open_run

    if len(inputs) == 1 and (inputs[0] / "run.json").is_file():
        return open_run(inputs[0])
    options = {**options, "output": output}
    settings = replace(settings_from(options), plots=False)
    if len(inputs) == 1 and inputs[0].suffix in _IMPORTED:
        from firstlight.detectors.spinquest.legacy import imported_run

        return imported_run(inputs[0], output, _values(options), settings)
    found = _files(inputs, options)
    return process(detector, found, output, _values(options), settings, max_events=max_events)


@commands.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@_input_options
@run_options("spinquest-efficiency")
def efficiency(inputs: tuple[Path, ...], max_events: int | None, **options: Any) -> None:
    """Efficiency of every plane, and of its elements: partner planes and coincidences, with intervals.

    INPUTS are ROOT files or folders with real or simulated tracks. Where partner planes are uncorrelated there
    are no tracks, and this is said rather than an efficiency.
    """
    from dataclasses import replace

    from firstlight.detectors.spinquest.efficiency import efficiency as step

    for path in inputs:
        if (path / "run.json").is_file():
            what = "is a finished run, which holds no events: efficiencies need the raw files"
            raise UsageError(what, where=path)
    found = _files(inputs, options)
    finish(replace(detector, chain=(step,)), found, _values(options), options, max_events=max_events)


for _command in (plot, convert, simulate, geometry):
    commands.add_command(_command)
