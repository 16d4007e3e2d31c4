"""The verbs of the ETROC: the steps one by one, on a run directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import (
    Group,
    fail_on_option,
    json_option,
    progress_from,
    progress_options,
    run_options,
    settings_from,
    tell,
    values_from,
)
from firstlight.cli.health import tell_status, tell_verification
from firstlight.detectors.etroc.commands_original import ORIGINAL
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from firstlight.run.finishing import Settings

__all__ = ["commands", "step_settings"]

Command = Any


@click.group(cls=Group)
def commands() -> None:
    """Verbs of the ETROC."""


def _step_options(command: Command) -> Command:
    """Add what every step on a run directory has."""
    options = (
        click.argument("run", type=click.Path(path_type=Path)),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One parameter: timewalk.order=4."
        ),
        click.option("--force", is_flag=True, help="Make it again although nothing changed."),
        click.option("--no-plots", is_flag=True, help="No figures and no report."),
        fail_on_option,
        json_option,
        progress_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


def step_settings(options: dict[str, Any]) -> Settings:
    """Return how a step is run, from the options of its verb."""
    from firstlight.run.finishing import Settings

    return Settings(
        progress=progress_from(options),
        force=options.get("force", False),
        plots=not options.get("no_plots", False),
        command=("firstlight", *sys.argv[1:]),
    )


def _advance(verb: str, options: dict[str, Any], changes: dict[str, Any]) -> None:
    """Make one step and say how it ended.

    `changes` are parameters by ``step__name``; None was not given, and an empty value is a choice too (no cuts).
    """
    from firstlight.detectors.etroc.stepwise import advance, kept_parameters

    values = values_from(None, options.get("settings", ()))
    for key, value in changes.items():
        if value is not None:
            step, _, name = key.partition("__")
            values.setdefault(step, {})[name] = value
    run = advance(options["run"], verb, values, step_settings(options))
    if not (options["as_json"] or options["quiet"]):
        for line in kept_parameters(run, verb, values):
            click.echo(f"  as asked before: {line}")
    tell(run, as_json=options["as_json"], quiet=options["quiet"], fail_on=options["fail_on"])


@commands.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--pattern", "name_pattern", help="In folders only files of this name, with wildcards.")
@click.option("--boards", metavar="LINK=BOARD,...", help="Board of each link: 12=0,42=0,44=1.")
@click.option(
    "--template", "templates", multiple=True, metavar="TEMPLATE", help="Template of file names, tried first."
)
@run_options("firstlight-etroc")
def ingest(
    paths: tuple[Path, ...],
    name_pattern: str | None,
    boards: str | None,
    templates: tuple[str, ...],
    **options: Any,
) -> None:
    """Read files of any format into one hit table, one packet table and counters.

    PATHS are files or folders; the format of each file is recognised. Files that cannot be added up (other formats,
    folders, pixels) make runs of their own.
    """
    from firstlight.cli.process import finish
    from firstlight.detector import get_detector
    from firstlight.face import choose

    detector, files = choose(paths, get_detector("etroc"), name_pattern)
    given = {"boards": _boards(boards)} if boards else {}
    values = values_from(options["config"], options["settings"], name_templates=templates, **given)
    finish(detector, files, values, options, steps=("pixels",))


def _boards(text: str) -> dict[str, int]:
    found = {}
    for pair in text.split(","):
        link, equals, board = pair.partition("=")
        if not (equals and link.strip().isdigit() and board.strip().isdigit()):
            what = f"--boards {text!r} must be LINK=BOARD pairs of numbers, such as 12=0,42=0"
            raise UsageError(what)
        found[link.strip()] = int(board)
    return found


@commands.command("import")
@click.argument("original", type=click.Path(path_type=Path))
@run_options("firstlight-etroc")
def import_run(original: Path, **options: Any) -> None:
    """Open a run made by the original's package, with its events and cuts.

    ORIGINAL is its run directory: with data/data.sqlite, or the individual runs of a charge-injection folder. Times, time
    walk and resolution, or S-curves, are made by our chain, in a run directory of our own.
    """
    from firstlight.detectors.etroc.import_original import import_original

    values = values_from(options["config"], options["settings"])
    run = import_original(original, options["output"], settings_from(options), values)
    tell(run, as_json=options["as_json"], quiet=options["quiet"], fail_on=options["fail_on"])


@commands.command()
@_step_options
@click.option(
    "--building", type=click.Choice(["auto", "pattern", "order", "counters"]), help="How; auto by default."
)
@click.option("--event-pattern", "--boards", "pattern", metavar="0,1,3", help="Boards in order of read-out.")
@click.option("--keep-all", "-k", is_flag=True, default=None, help="Hits with hit flag 0 too.")
@click.option(
    "--one-hit", type=click.Choice(["drop", "first", "largest_tot", "keep"]), help="Several hits of a board."
)
def events(
    building: str | None, pattern: str | None, keep_all: bool | None, one_hit: str | None, **options: Any
) -> None:
    """Build events of the hits of a run."""
    given = {"building": building, "pattern": pattern, "keep_all": keep_all, "one_hit": one_hit}
    _advance("events", options, {f"events__{name}": value for name, value in given.items()})


def _cut_options(file: str, example: str) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        options = (
            click.option(
                "--cuts",
                "file",
                type=click.Path(path_type=Path),
                help=f"Cut file; {file} of the run by default.",
            ),
            click.option(
                "--cut", "rows", multiple=True, metavar="ROW", help=f"A row of such a file: '{example}'."
            ),
            click.option(
                "--suggest",
                is_flag=True,
                help=f"Cuts that follow from the data; written as {file}, to be edited.",
            ),
            click.option("--none", "nothing", is_flag=True, help="No cut."),
            click.option(
                "--keep-events",
                "-k",
                is_flag=True,
                default=None,
                help="A board without hit passes every cut.",
            ),
        )
        for option in reversed(options):
            command = option(command)
        return command

    return add


@commands.command()
@_step_options
@_cut_options("cuts.csv", "*,calibration_code,>,125")
def cut(**options: Any) -> None:
    """Choose events by cuts on codes."""
    _cut("cut", "cut", "cuts.csv", options)


@commands.command("cut-times")
@_step_options
@_cut_options("time_cuts.csv", "diag-dist,<,time_of_arrival_ns,0,time_of_arrival_ns,1,0.8,,")
def cut_times(**options: Any) -> None:
    """Choose events by cuts on times in ns."""
    _cut("cut-times", "cut_times", "time_cuts.csv", options)


def _cut(verb: str, step: str, name: str, options: dict[str, Any]) -> None:
    from firstlight.detectors.etroc.cut_files import chosen_cuts, write_suggestion
    from firstlight.detectors.etroc.stepwise import open_etroc

    # What is wrong with the directory comes before what is wrong with its cut file.
    open_etroc(options["run"])
    own = {key: options.pop(key) for key in ("file", "rows", "suggest", "nothing")}
    keep = options.pop("keep_events")
    if own["suggest"] and (own["nothing"] or own["rows"] or own["file"] is not None):
        what = "--suggest, a cut file, rows of cuts and --none exclude one another"
        raise UsageError(what)
    if own["suggest"]:
        path, reasons = write_suggestion(options["run"], step, name)
        if not options["quiet"] and not options["as_json"]:
            for line in reasons:
                click.echo(f"  {line}")
            click.echo(f"  wrote {path}")
        own["file"] = path
    values = chosen_cuts(options["run"], name, own["file"], own["rows"], nothing=own["nothing"])
    changes = {f"{step}__{key}": value for key, value in values.items()}
    _advance(verb, options, {**changes, f"{step}__keep_events": keep})


@commands.command()
@_step_options
@click.option(
    "--cal", type=click.Choice(["robust", "board", "mean", "median", "event"]), help="Calibration code used."
)
@click.option("--events-per-slice", type=click.IntRange(min=1), help="Events of a slice of the run.")
def times(cal: str | None, events_per_slice: int | None, **options: Any) -> None:
    """Convert codes to ns."""
    _advance("times", options, {"times__cal": cal, "times__events_per_slice": events_per_slice})


@commands.command()
@_step_options
@click.option("--order", "-p", type=click.IntRange(0, 8), help="Order of the polynomial; pieces of a spline.")
@click.option("--iterations", "-i", type=click.IntRange(0, 20), help="Iterations after the first one.")
@click.option("--method", type=click.Choice(["ols", "odr", "spline"]), help="How the curve is fitted.")
@click.option(
    "--crossfit",
    "folds",
    type=click.IntRange(1, 50),
    help="Parts of the events, each corrected with the others.",
)
@click.option("--window", type=click.FloatRange(0), help="Fit events within so many robust widths; 0: all.")
def timewalk(**options: Any) -> None:
    """Correct times for time walk."""
    names = ("order", "iterations", "method", "folds", "window")
    given = {f"timewalk__{name}": options.pop(name) for name in names}
    _advance("timewalk", options, given)


@commands.command()
@_step_options
@click.option(
    "--bootstrap", type=click.IntRange(0, 100_000), help="Bootstrap samples of the events; 0: none."
)
@click.option("--estimator", type=click.Choice(["likelihood", "std"]), help="Estimator that is bootstrapped.")
@click.option("--seed", type=int, help="Of the bootstrap.")
@click.option("--slices", type=click.IntRange(1, 1000), help="Parts of the run.")
@click.option("--minimum-events", type=click.IntRange(20), help="Parts with fewer events are left out.")
@click.option("--run-table", metavar="CSV", help="Table with Run, HV0, HV1 ...: resolution by bias voltage.")
def resolution(estimator: str | None, **options: Any) -> None:
    """Time resolution of every board."""
    names = ("bootstrap", "seed", "slices", "minimum_events", "run_table")
    given = {f"resolution__{name}": options.pop(name) for name in names}
    given["resolution__bootstrap_estimator"] = estimator
    _advance("resolution", options, given)


@commands.command()
@_step_options
@click.option(
    "--injections", type=click.IntRange(1), help="Injected charges of a run; from the plateau by default."
)
@click.option("--trigger-board", type=click.IntRange(0, 255), help="Board that triggers.")
@click.option("--cut", "cuts", multiple=True, metavar="ROW", help="Cuts on hits: '#,calibration_code,<,200'.")
@click.option(
    "--first-split", is_flag=True, default=None, help="Only the first file of a run, as the original."
)
def scan(
    injections: int | None,
    trigger_board: int | None,
    cuts: tuple[str, ...],
    first_split: bool | None,
    **options: Any,
) -> None:
    """Charge injection: S-curves, thresholds against charge, noise, jitter."""
    splits = None if first_split is None else "first" if first_split else "all"
    given = {"injections": injections, "trigger_board": trigger_board, "cuts": cuts or None, "splits": splits}
    _advance("scan", options, {f"injection__{name}": value for name, value in given.items()})


@commands.command()
@_step_options
@click.option(
    "--cuts",
    "file",
    type=click.Path(path_type=Path),
    help="Cut file of all runs; by default those that are there.",
)
def reprocess(file: Path | None, **options: Any) -> None:
    """Apply cuts and parameters again, to the hits that were read.

    Cut files in the run directory are used: cuts.csv and time_cuts.csv, or for a charge-injection scan
    Individual_Runs/RUN/cuts.csv of each run. Doing it twice changes nothing.
    """
    from firstlight.detectors.etroc.stepwise import reprocess as again

    values = values_from(None, options["settings"])
    run = again(options["run"], values, step_settings(options), file)
    tell(run, as_json=options["as_json"], quiet=options["quiet"], fail_on=options["fail_on"])


@commands.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out-directory",
    "-o",
    type=click.Path(path_type=Path),
    help="The run directory, as the original spells it.",
)
@click.option(
    "--max-toa",
    "--max_toa",
    "-a",
    type=click.FloatRange(0),
    help="End of the axis of TOA [ns]; 0: from the data.",
)
@click.option("--max-tot", "--max_tot", "-t", type=click.FloatRange(0), help="End of the axis of TOT [ns].")
@click.option("--log-level", "-l", hidden=True)
@click.option("--log-file", is_flag=True, hidden=True)
@progress_options
def replot(
    run: Path | None, out_directory: Path | None, max_toa: float | None, max_tot: float | None, **options: Any
) -> None:
    """Draw all figures of a run again."""
    from firstlight.detectors.etroc.stepwise import redraw

    folder = run or out_directory
    if folder is None:
        what = "no run directory given"
        raise UsageError(what, hint="firstlight etroc replot RUN")
    page = redraw(folder, step_settings(options), max_toa, max_tot)
    if not options["quiet"]:
        click.echo(page)


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--quiet", "-q", is_flag=True, help="Do not name the files.")
def sqlite(run: Path, quiet: bool) -> None:
    """Write the files of the original for all steps that are done: SQLite tables, event filters, task reports."""
    from firstlight.detectors.etroc.original_files import write_all

    for path in write_all(run):
        if not quiet:
            click.echo(path)


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def status(run: Path, as_json: bool) -> None:
    """Say which steps of a run are done; runs of the original's run manager too."""
    from firstlight.detectors.etroc.legacy.run_manager import is_layout

    if (run / "run.json").is_file() or not is_layout(run):
        tell_status(run, as_json=as_json)
        return
    from firstlight.detectors.etroc.legacy.original_run import status_of

    rows = status_of(run).to_dicts()
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=1))
        return
    click.secho(f"{run}: run of the original", bold=True)
    for row in rows:
        colour = {"no errors": "green", "incomplete": "yellow"}.get(row["status"], "red")
        told = row["error"] or row["ended"] or ""
        click.echo(f"  {row['task']:<38} {click.style(row['status'], fg=colour)}  {told}")


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def verify(run: Path, as_json: bool) -> None:
    """Verify a run: products whole, steps up to date, inputs unchanged. Exit status 4 if not."""
    from firstlight.detectors.etroc.stepwise import open_etroc

    open_etroc(run)
    tell_verification(run, as_json=as_json)


for _command in ORIGINAL:
    commands.add_command(_command)
