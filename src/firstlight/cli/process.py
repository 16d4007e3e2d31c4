"""The verb `process`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import run_options, settings_from, tell, values_from
from firstlight.errors import FirstlightError, InputsRefusedError
from firstlight.face import choose

if TYPE_CHECKING:
    from collections.abc import Collection

    from firstlight.detector import Detector

__all__ = ["finish", "process"]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--detector", "name", help="Name of the detector; recognised from the files by default.")
@click.option("--pattern", help="In folders only files of this name, with wildcards.")
@click.option("--max-events", type=click.IntRange(min=1), help="Read at most so many events.")
@run_options("firstlight-run")
def process(
    paths: tuple[Path, ...],
    name: str | None,
    pattern: str | None,
    max_events: int | None,
    **options: Any,
) -> None:
    """From raw files to a report.

    PATHS are files or folders. The detector is recognised from the files, its default chain is run, and a
    run directory with products, figures and a report is written.
    """
    from firstlight.detector import get_detector

    detector = get_detector(name) if name else None
    detector, files = choose(paths, detector, pattern)
    values = values_from(options["config"], options["settings"])
    finish(detector, files, values, options, max_events=max_events)


def finish(
    detector: Detector,
    files: list[Path],
    values: dict[str, Any],
    options: dict[str, Any],
    *,
    max_events: int | None = None,
    steps: Collection[str] | None = None,
) -> None:
    """Run a chain as the options of a command say, and tell how it ended.

    Inputs that cannot be added up make runs of their own, in folders below the output. With `steps` only these are made
    of those that follow reading.
    """
    runs = detector.divided(files)
    if len(runs) == 1:
        _finish_one(detector, files, values, options, max_events, steps)
        return
    errors: list[FirstlightError] = []
    output: Path = options["output"]
    for name, own in runs.items():
        if not options["as_json"] and not options["quiet"]:
            click.secho(f"{name} ({len(own)} {'input' if len(own) == 1 else 'inputs'})", bold=True)
        try:
            _finish_one(detector, own, values, {**options, "output": output / name}, max_events, steps)
        except FirstlightError as error:
            errors.append(error)
            click.echo(f"  {error}", err=True)
    _index(output, list(runs), options)
    if errors:
        raise max(errors, key=lambda error: error.exit_status)


def _index(output: Path, names: list[str], options: dict[str, Any]) -> None:
    """Write the page that leads to the reports of several runs."""
    from firstlight.run.store import open_run
    from firstlight.view.report import write_index

    runs = [open_run(output / name) for name in names if (output / name / "run.json").is_file()]
    if runs and not options["no_plots"]:
        page = write_index(output, runs, "firstlight")
        if not options["as_json"] and not options["quiet"]:
            click.echo(f"all runs: {page}")


def _finish_one(
    detector: Detector,
    files: list[Path],
    values: dict[str, Any],
    options: dict[str, Any],
    max_events: int | None,
    steps: Collection[str] | None,
) -> None:
    from firstlight.run.chain import process as run_chain

    telling = {"as_json": options["as_json"], "quiet": options["quiet"], "fail_on": options["fail_on"]}
    try:
        run = run_chain(
            detector, files, options["output"], values, settings_from(options),
            max_events=max_events, where=options["config"], steps=steps,
        )  # fmt: skip
    except InputsRefusedError as error:
        # what was good is told before the status says that something was refused
        from firstlight.run.store import Run

        if isinstance(error.run, Run):
            tell(error.run, **{**telling, "fail_on": None})
        raise
    tell(run, **telling)
