"""The scripts of the original as verbs: their names, options, numbers and files."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import progress_from, tell
from firstlight.detectors.etroc.original_files import individual_runs, single_hits, write_files
from firstlight.errors import ConfigError, FirstlightError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from firstlight.run.finishing import Settings
    from firstlight.run.store import Run

__all__ = ["ORIGINAL"]

Command = Any
_LEVELS = ["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"]
# what the original computes: means of CAL, orthogonal regression on all events, standard deviations
_AS_ORIGINAL: dict[str, dict[str, Any]] = {
    "cut": {"suggest": False},
    "cut_times": {"suggest": False},
    "times": {"cal": "mean"},
    "timewalk": {"method": "odr", "folds": 1, "window": 0},
    "resolution": {"bootstrap": 0},
}


def _common(command: Command) -> Command:
    """Add what every script of the original has, and how much is said."""
    options = (
        click.option("--log-level", "-l", type=click.Choice(_LEVELS), default="WARNING", help="INFO and DEBUG say more."),
        click.option("--log-file", is_flag=True, help="Not needed: the log is in run.log of the run directory."),
        click.option("--out-directory", "-o", type=click.Path(path_type=Path), default="./out", show_default=True, help="Run directory."),
        click.option("--no-plots", is_flag=True, help="No figures and no report."),
        click.option("--quiet", "-q", is_flag=True, help="No progress, no summary."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _settings(options: Mapping[str, Any]) -> Settings:
    from firstlight.run.finishing import Settings

    loud = options["log_level"] in ("INFO", "DEBUG")
    return Settings(
        progress=progress_from({"quiet": options["quiet"], "verbose": loud}),
        plots=not options["no_plots"],
        command=("firstlight", *sys.argv[1:]),
    )


@contextmanager
def _reported(folder: Path, task: str, parameters: Mapping[str, Any]) -> Iterator[None]:
    """Leave a task report with the traceback where a step fails, as the run manager of the original does."""
    from firstlight.detectors.etroc.legacy.run_manager import TaskWriter

    try:
        yield
    except FirstlightError:
        if (folder / "run.json").is_file():
            with TaskWriter(folder, task, parameters=dict(parameters)):
                raise
        raise


def _told(run: Run, written: Sequence[Path], options: Mapping[str, Any]) -> None:
    tell(run, as_json=False, quiet=options["quiet"], fail_on=None)
    if not options["quiet"]:
        names = [
            path.relative_to(run.folder).as_posix() for path in written if path.suffix in (".sqlite", ".fd")
        ]
        shown = [name for name in names if not name.startswith("Individual_Runs/")][:6]
        rest = len(names) - len(shown)
        inside = f"{' and ' if shown else ''}{rest} more, in Individual_Runs/RUN" if rest else ""
        click.echo(f"  wrote {', '.join(shown)}{inside}")


def _parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {"log_level", "log_file", "quiet", "no_plots"}
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in options.items()
        if key not in hidden
    }


def _script(name: str) -> Callable[[Any], click.Command]:
    """Make a verb of the name that a script had."""

    def make(function: Any) -> click.Command:
        command: click.Command = click.command(name)(_common(function))
        command.short_help = f"original: {(function.__doc__ or '').strip().splitlines()[0]}"
        return command

    return make


def _check_kind(file: Path, kinds: Sequence[str], other: str) -> None:
    """Refuse a file of another format, with the verb that reads it; a file that is not recognised is refused later."""
    from firstlight.detectors.etroc.source import SOURCES

    found = next((source for source in SOURCES if source.sniff(file)), None)
    if found is not None and found.name not in kinds:
        what = f"is {found.title}"
        verb = other if found.name in ("beam", "injection") else "process"
        raise UsageError(what, where=file, hint=f"firstlight etroc {verb}")


@_script("process_etroc1_single_run_txt")
@click.option("--file", required=True, type=click.Path(path_type=Path), help="Beam text file.")
@click.option("--keep-all", "-k", is_flag=True, help="Keep hits with hit flag 0.")
@click.option("--event_pattern", "-p", type=click.IntRange(0, 5), default=1, show_default=True,
              help="0 in order of read-out with missing boards, 1 [0,1,3], 2 [0,1], 3 [0,3], 4 [1,3], 5 [0,3,1].")  # fmt: skip
def process_single_run(file: Path, keep_all: bool, event_pattern: int, **options: Any) -> None:
    """Read a beam text file and build events."""
    from firstlight.detectors.etroc.options import PATTERNS
    from firstlight.detectors.etroc.stepwise import begin

    _check_kind(file, ("beam", "raw32"), "process_etroc1_single_charge_injection_run")
    pattern = PATTERNS[event_pattern]
    events = {
        "building": "pattern" if pattern else "order",
        "pattern": pattern,
        "keep_all": keep_all,
        "one_hit": "keep",
    }
    task = "proccess_etroc1_data_run_txt"
    parameters = {"file": str(file), "keep_all": keep_all, "event_pattern": event_pattern}
    with _reported(options["out_directory"], task, parameters):
        changes = {**_AS_ORIGINAL, "events": events}
        run = begin([file], options["out_directory"], changes, _settings(options), ("events",))
    _told(run, write_files(run, "ingest", parameters, inputs=(file,), kind="beam"), options)


@_script("process_etroc1_single_charge_injection_run")
@click.option("--file", required=True, type=click.Path(path_type=Path), help="A split of a run.")
@click.option("--keep-all", "-k", is_flag=True, help="Keep hits with hit flag 0.")
def process_single_injection(file: Path, keep_all: bool, **options: Any) -> None:
    """Read one charge-injection file."""
    from firstlight.detectors.etroc.stepwise import begin

    _check_kind(file, ("injection", "single_board"), "process_etroc1_single_run_txt")
    parameters = {"file": str(file), "keep_all": keep_all}
    with _reported(options["out_directory"], "proccess_etroc1_data_run", parameters):
        run = begin(
            [file], options["out_directory"], {"injection": {"keep_all": keep_all}}, _settings(options)
        )
    written = write_files(
        run, "ingest", parameters, inputs=(file,), kind="injection", products=single_hits(run, keep_all)
    )
    _told(run, written, options)


def _step(
    options: Mapping[str, Any], verb: str, task: str, changes: Mapping[str, Any], given: Mapping[str, Any]
) -> Run:
    from firstlight.detectors.etroc.stepwise import advance

    with _reported(options["out_directory"], task, given):
        return advance(options["out_directory"], verb, changes, _settings(options))


@_script("cut_etroc1_single_run")
@click.option(
    "--keep-events", "-k", is_flag=True, help="An event without a hit on the board of a cut passes it."
)
def cut_single_run(keep_events: bool, **options: Any) -> None:
    """Apply cuts.csv of the run directory to the events."""
    from firstlight.detectors.etroc.cut_files import chosen_cuts
    from firstlight.detectors.etroc.stepwise import open_etroc

    open_etroc(options["out_directory"])
    task = "apply_event_cuts"
    given = {"keep_events": keep_events}
    with _reported(options["out_directory"], task, given):
        cuts = chosen_cuts(options["out_directory"], "cuts.csv", None)
    run = _step(options, "cut", task, {"cut": {**cuts, "keep_events": keep_events}}, given)
    _told(run, write_files(run, "cut", given), options)


def _axes(command: Command) -> Command:
    options = (
        click.option("--max_toa", "-a", type=click.FloatRange(0), default=0.0, help="End of the axis of TOA in figures [ns]; 0: from the data."),
        click.option("--max_tot", "-t", type=click.FloatRange(0), default=0.0, help="End of the axis of TOT in figures [ns]."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@_script("calculate_times_in_ns")
@_axes
@click.option("--fbin_choice", type=click.Choice(["mean", "median", "event"]), default="mean", show_default=True,
              help="Calibration code that is used.")  # fmt: skip
def calculate_times(max_toa: float, max_tot: float, fbin_choice: str, **options: Any) -> None:
    """Convert codes to ns."""
    given = {"max_toa": max_toa, "max_tot": max_tot, "fbin_choice": fbin_choice}
    changes = {"times": {"cal": fbin_choice}, "view": {"max_toa": max_toa, "max_tot": max_tot}}
    run = _step(options, "times", "calculate_times_in_ns", changes, given)
    _told(run, write_files(run, "times", given), options)


@_script("cut_times_in_ns")
@_axes
@click.option(
    "--keep-events", "-k", is_flag=True, help="An event without a hit on the board of a cut passes it."
)
def cut_times_in_ns(max_toa: float, max_tot: float, keep_events: bool, **options: Any) -> None:
    """Apply time_cuts.csv of the run directory to the events."""
    from firstlight.detectors.etroc.cut_files import chosen_cuts
    from firstlight.detectors.etroc.stepwise import open_etroc

    open_etroc(options["out_directory"])
    given = {"max_toa": max_toa, "max_tot": max_tot, "keep_events": keep_events}
    with _reported(options["out_directory"], "apply_time_cuts", given):
        cuts = chosen_cuts(options["out_directory"], "time_cuts.csv", None)
    changes = {
        "cut_times": {**cuts, "keep_events": keep_events},
        "view": {"max_toa": max_toa, "max_tot": max_tot},
    }
    run = _step(options, "cut-times", "apply_time_cuts", changes, given)
    _told(run, write_files(run, "cut-times", given), options)


@_script("calculate_time_walk_correction")
@click.option(
    "--iterations",
    "-i",
    type=click.IntRange(0, 20),
    default=1,
    show_default=True,
    help="Iterations after the first.",
)
@click.option(
    "--order", "-p", type=click.IntRange(0, 8), default=2, show_default=True, help="Order of the polynomial."
)
def calculate_time_walk(iterations: int, order: int, **options: Any) -> None:
    """Correct times for time walk, by orthogonal distance regression on all events."""
    given = {"iterations": iterations, "order": order}
    run = _step(options, "timewalk", "calculate_time_walk_correction", {"timewalk": given}, given)
    _told(run, write_files(run, "timewalk", given), options)


@_script("analyse_time_resolution")
def analyse_time_resolution(**options: Any) -> None:
    """Time resolution of each board; steps in between that were not made are made with their defaults."""
    import polars as pl

    from firstlight.detectors.etroc.stepwise import open_etroc

    folder: Path = options["out_directory"]
    done = {name.split("/")[0] for name in open_etroc(folder)}
    written: list[Path] = []
    for verb, step, task in (
        ("times", "times", "calculate_times_in_ns"), ("timewalk", "timewalk", "calculate_time_walk_correction"),
    ):  # fmt: skip
        if step not in done:
            run = _step({**options, "no_plots": True}, verb, task, {}, {})
            written += write_files(run, verb, {})
    run = _step(options, "resolution", "analyse_time_resolution", {}, {})
    if not options["quiet"]:
        for row in (
            run["resolution/boards"].to_polars().filter(pl.col("estimator") == "std").iter_rows(named=True)
        ):
            width = row["status"] if row["resolution"] is None else f"{row['resolution']:.3f} ps"
            click.echo(
                f"  iteration {row['iteration']}, board {row['board']}: {width} (standard deviations, as in timing_info)"
            )
    _told(run, [*written, *write_files(run, "resolution", {})], options)


def _boards(command: Command) -> Command:
    options = (
        click.option("--board0_default", "-b0", type=int, default=535, show_default=True, help="Threshold of board 0 while it is not scanned."),
        click.option("--board1_default", "-b1", type=int, default=720, show_default=True, help="The same of board 1."),
        click.option("--board3_default", "-b3", type=int, default=720, show_default=True, help="The same of board 3."),
        click.option("--filter_default", "-f", is_flag=True, help="Keep points without hits."),
        click.option("--trigger_board", "-t", type=click.Choice(["0", "1", "3"]), default="0", show_default=True, help="Board that triggers."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _scan_changes(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    fixed = {board: options[f"board{board}_default"] for board in (0, 1, 3)}
    return {
        "injection": {"fixed_thresholds": fixed, "trigger_board": int(options["trigger_board"])},
        "original": {"filter_default": options["filter_default"]},
    }


@_script("process_etroc1_charge_injection_data_dir")
@click.option(
    "--directory",
    "-d",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of charge-injection files.",
)
@click.option("--keep-all", "-k", is_flag=True, help="Keep hits with hit flag 0.")
@click.option("--make_plots", "-p", is_flag=True, help="Figures and report.")
@click.option("--inhibit_date", "-i", is_flag=True, help="No date before the name of the run directory.")
@click.option("--first-split", is_flag=True, help="Only the first file of a run, as the original did.")
@_boards
def process_data_dir(
    directory: Path, keep_all: bool, make_plots: bool, inhibit_date: bool, first_split: bool, **options: Any
) -> None:
    """Read a folder of charge-injection files: all runs, all splits."""
    from firstlight.data.patterns import find_files
    from firstlight.detectors.etroc.source import SOURCES
    from firstlight.detectors.etroc.stepwise import begin

    output: Path = options["out_directory"]
    if not inhibit_date:
        output = output.parent / f"{datetime.now(UTC):%Y%m%d}-{output.name}"
    if not directory.is_dir():
        what = "the folder does not exist"
        raise ConfigError(what, where=directory)
    source = next(source for source in SOURCES if source.name == "injection")
    files = [
        path for path in find_files([directory], suffixes=(".dat",), recursive=False) if source.sniff(path)
    ]
    if not files:
        what = "the folder holds no charge-injection file"
        raise UsageError(
            what, where=directory, hint="names are TDC_Data_PhaseAdj0_F9P5_QSel0_DAC535_..._Split_0.dat"
        )
    changes = _scan_changes(options)
    changes["injection"] |= {"keep_all": keep_all, "splits": "first" if first_split else "all"}
    given = {
        "directory": str(directory),
        "keep_all": keep_all,
        "first_split": first_split,
        **_given_boards(options),
    }
    options = {**options, "out_directory": output, "no_plots": options["no_plots"] or not make_plots}
    with _reported(output, "process_etroc1_data_directory", given):
        run = begin(files, output, changes, _settings(options), ("injection", "original"))
    used = [path for path in files if not first_split or path.name.endswith("_Split_0.dat")]
    written = write_files(run, "injection", given, inputs=tuple(used), products=individual_runs(run))
    _told(run, [*written, *write_files(run, "merge", given)], options)


def _given_boards(options: Mapping[str, Any]) -> dict[str, Any]:
    names = ("board0_default", "board1_default", "board3_default", "filter_default", "trigger_board")
    return {name: options[name] for name in names}


@_script("reprocess_etroc1_charge_injection_data_dir")
@click.option("--make_plots", "-p", is_flag=True, help="Figures and report.")
@_boards
def reprocess_data_dir(make_plots: bool, **options: Any) -> None:
    """Apply the cut files of the individual runs again, and merge them."""
    from firstlight.detectors.etroc.stepwise import reprocess

    folder: Path = options["out_directory"]
    given = _given_boards(options)
    options = {**options, "no_plots": options["no_plots"] or not make_plots}
    with _reported(folder, "reprocess_etroc1_data_directory", given):
        run = reprocess(folder, _scan_changes(options), _settings(options))
    written = write_files(run, "injection", given, reprocess=True, products=individual_runs(run))
    _told(run, [*written, *write_files(run, "merge", given)], options)


@_script("analyse_dac_vs_charge")
@click.option(
    "--noise_with_charge",
    "-n",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Charge whose noise is used [fC]; 0: mean and median over charges.",
)
@click.option(
    "--rolling_mean",
    "-r",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Thresholds in the mean.",
)
@click.option(
    "--difference_from_mean",
    "-d",
    type=click.FloatRange(0),
    default=50,
    show_default=True,
    help="A plateau is within so many hits of the mean.",
)
@click.option(
    "--hit_center",
    "-c",
    type=click.FloatRange(0),
    default=4450,
    show_default=True,
    help="Hits of the plateau.",
)
@click.option(
    "--hit_window",
    "-w",
    type=click.FloatRange(0),
    default=150,
    show_default=True,
    help="It is within so many hits of that.",
)
@click.option("--trigger_board", type=click.Choice(["0", "1", "3"]), help="Board with values of its own.")
@click.option("--trigger_board_hit_center", type=click.FloatRange(0), help="Hits of its plateau.")
@click.option("--trigger_board_hit_window", type=click.FloatRange(0), help="And window.")
@click.option("--noise_edge_offset", "-f", type=float, default=4, show_default=True, help="The noise ends so far below the plateau [DAC].")  # fmt: skip
def analyse_dac_vs_charge(trigger_board: str | None, **options: Any) -> None:
    """Threshold against charge, noise band and suggested thresholds."""
    names = (
        "noise_with_charge", "rolling_mean", "difference_from_mean", "hit_center", "hit_window",
        "trigger_board_hit_center", "trigger_board_hit_window", "noise_edge_offset",
    )  # fmt: skip
    given = {name: options.pop(name) for name in names}
    changes: dict[str, dict[str, Any]] = {"original": given}
    if trigger_board is not None:
        changes["injection"] = {"trigger_board": int(trigger_board)}
    if given["noise_with_charge"]:
        _check_charge(options["out_directory"], given["noise_with_charge"])
    run = _step(options, "scan", "calculate_dac_points", changes, given)
    _told(run, write_files(run, "dac", given), options)
    if not options["quiet"]:
        for row in run["original/lines"].to_polars().iter_rows(named=True):
            if row["slope"] is not None:
                click.echo(
                    f"  board {row['board']}: DAC = {row['offset']:.1f} + {row['slope']:.2f} Q (largest threshold with a hit)"
                )
        known = run["injection/points"].to_polars()["injections"].drop_nulls()
        for row in run["original/limits"].to_polars().iter_rows(named=True):
            if row["noise_max_dac"] is None and known.len():
                number = int(known[0])
                click.echo(
                    f"  board {row['data_board_id']}: no threshold has {given['hit_center']:g} ± {given['hit_window']:g} hits, "
                    f"the plateau is at {number}: try -c {number} -w {round(0.06 * number)} -d {round(0.03 * number)}"
                )
                continue
            click.echo(
                f"  board {row['data_board_id']}: noise from {row['noise_min_dac']} to {row['noise_max_dac']} DAC"
            )


def _check_charge(folder: Path, charge: int) -> None:
    """Refuse a charge that the scan does not have."""
    from firstlight.detectors.etroc.stepwise import open_etroc

    run = open_etroc(folder)
    if "injection/points" in run:
        charges = run["injection/points"].to_polars()["charge"].unique().sort().to_list()
        if charge not in charges:
            raise UsageError.unknown(
                "charge", str(charge), [f"{each:g}" for each in charges], where="-n/--noise_with_charge"
            )


ORIGINAL = (
    process_single_run,
    process_single_injection,
    cut_single_run,
    calculate_times,
    cut_times_in_ns,
    calculate_time_walk,
    analyse_time_resolution,
    process_data_dir,
    reprocess_data_dir,
    analyse_dac_vs_charge,
)
