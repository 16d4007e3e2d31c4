"""The group of verbs of one detector: what every detector has, and its own."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from firstlight.cli.common import Group, run_options, values_from
from firstlight.errors import UsageError

__all__ = ["detector_group"]


def _arguments(make: Any) -> str:
    """Return what a simulator says of itself."""
    return inspect.cleandoc(make.__doc__ or "").split("Returns\n")[0].rstrip()


def detector_group(name: str) -> click.Group:
    """Return the verbs of a detector: `process`, `simulate` where it can, and those of its own.

    Parameters
    ----------
    name : str
        Name of the detector.
    """
    from firstlight.detector import get_detector

    detector = get_detector(name)
    own = detector.load("commands")
    text = f"{detector.title}.\n\n{detector.documentation}"
    group = Group(name, help=text, context_settings={"help_option_names": ["-h", "--help"]})

    @click.command("process")
    @click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
    @click.option("--pattern", help="In folders only files of this name, with wildcards.")
    @click.option("--max-events", type=click.IntRange(min=1), help="Read at most so many events.")
    @run_options(f"firstlight-{name}")
    def process(paths: tuple[Path, ...], pattern: str | None, max_events: int | None, **options: Any) -> None:
        """From raw files to a report: the default chain."""
        from firstlight.cli.process import finish
        from firstlight.face import choose

        _, files = choose(paths, detector, pattern)
        values = values_from(options["config"], options["settings"])
        finish(detector, files, values, options, max_events=max_events)

    @click.command("simulate")
    @click.option(
        "--output", "-o", type=click.Path(path_type=Path), default=f"{name}-simulated", show_default=True
    )
    @click.option("--seed", type=int, default=1, show_default=True)
    @click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="An argument of the simulator, values as in TOML; --set help lists them.",
    )
    @click.option("--quiet", "-q", is_flag=True, help="Do not name the files.")
    def simulate(output: Path, seed: int, settings: tuple[str, ...], quiet: bool) -> None:
        """Write raw files with known truth."""
        if detector.simulate is None:
            what = f"the detector {name} has no simulator"
            raise UsageError(what)
        make = detector.load("simulate")
        if settings == ("help",):
            click.echo(_arguments(make))
            return
        values = values_from(None, settings)
        try:
            made = make(output, seed=seed, **values)
        except TypeError as error:
            known = list(inspect.signature(make).parameters)[2:]
            what = f"--set: {error}"
            raise UsageError(what, known=known, hint="--set help") from error
        for path in made:
            if not quiet:
                click.echo(path)

    group.add_command(process)
    if detector.simulate is not None:
        group.add_command(simulate)
    if own is not None:
        for verb, command in own.commands.items():
            group.add_command(command, verb)
    for command in group.commands.values():
        # the whole first sentence: click cuts it where names of verbs are long
        first = (command.help or "").strip().split("\n\n")[0]
        command.short_help = command.short_help or " ".join(first.split()).rstrip(".")
    return group
