"""The verb `process`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import run_options, settings_from, tell, values_from
from firstlight.errors import InputError, InputsRefusedError

if TYPE_CHECKING:
    from firstlight.detector import Detector

__all__ = ["choose", "finish", "process"]


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


def choose(
    paths: tuple[Path, ...], detector: Detector | None, pattern: str | None
) -> tuple[Detector, list[Path]]:
    """Return the detector of some paths and its files.

    Raises
    ------
    InputError
        If no detector takes any file for its own, or several do.
    """
    from firstlight.data.patterns import find_files
    from firstlight.detector import detector_names, get_detector, recognise

    if detector is not None:
        return detector, find_files(paths, suffixes=detector.suffixes, pattern=pattern)
    suffixes = tuple({suffix for name in detector_names() for suffix in get_detector(name).suffixes})
    files = find_files(paths, suffixes=suffixes, pattern=pattern)
    found = recognise(files)
    if not found:
        what = f"no detector takes any of {len(files)} files for its own"
        hint = "firstlight inspect FILE says why; --detector NAME chooses one"
        raise InputError(
            what, where=files[0].parent, known=[f"detector {name}" for name in detector_names()], hint=hint
        )
    if len(found) > 1:
        counts = ", ".join(f"{name} ({len(paths)} files)" for name, paths in found.items())
        what = f"the files belong to several detectors: {counts}"
        raise InputError(what, where=files[0].parent, hint="--detector NAME chooses one")
    (name,) = found
    chosen = get_detector(name)
    # files of the right ending that were not recognised are not passed over: the chain refuses them by name
    return chosen, [path for path in files if path.name.endswith(chosen.suffixes)]


def finish(
    detector: Detector,
    files: list[Path],
    values: dict[str, Any],
    options: dict[str, Any],
    *,
    max_events: int | None = None,
) -> None:
    """Run a chain as the options of a command say, and tell how it ended."""
    from firstlight.run.chain import process as run_chain

    telling = {"as_json": options["as_json"], "quiet": options["quiet"], "fail_on": options["fail_on"]}
    try:
        run = run_chain(
            detector, files, options["output"], values, settings_from(options),
            max_events=max_events, where=options["config"],
        )  # fmt: skip
    except InputsRefusedError as error:
        # what was good is told before the status says that something was refused
        from firstlight.run.store import Run

        if isinstance(error.run, Run):
            tell(error.run, **{**telling, "fail_on": None})
        raise
    tell(run, **telling)
