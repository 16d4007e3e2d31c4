"""The command `firstlight`: verbs that work for every detector, and one group of verbs per detector.

Nothing heavy is imported before a verb is chosen: the help texts of the verbs stand here as literals.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

from firstlight import __version__
from firstlight.cli.common import Group

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "main"]

_VERBS = {
    "process": (
        "firstlight.cli.process:process",
        "From raw files to a report: recognises the detector, runs its chain.",
    ),
    "inspect": ("firstlight.cli.inspect:inspect", "Say what a file holds and who can read it."),
    "detectors": ("firstlight.cli.inspect:detectors", "List the detectors."),
    "demo": ("firstlight.cli.demo:demo", "Simulate, process and report a small data set of every detector."),
    "report": ("firstlight.cli.report:report", "Write the report of a run again."),
    "status": ("firstlight.cli.health:status", "Say which steps of a run are done, and why others are not."),
    "verify": (
        "firstlight.cli.health:verify",
        "Verify a run: products whole, steps up to date, inputs unchanged.",
    ),
    "compare": ("firstlight.cli.compare:compare", "Compare the channels of a run with a reference."),
    "export": (
        "firstlight.cli.export:export",
        "Write the products of a run as CSV and npz.",
    ),
    "warmup": ("firstlight.cli.demo:warmup", "Compile all kernels now rather than at first use."),
}


class LazyGroup(Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs, then the built-in detectors."""
        from firstlight.detectors import BUILT_IN

        return [*super().list_commands(ctx), *_VERBS, *BUILT_IN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, or the group of a detector."""
        if cmd_name in _VERBS:
            place = _VERBS[cmd_name][0]
            module, attribute = place.split(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        from firstlight.detector import detector_names
        from firstlight.detectors import BUILT_IN

        # a built-in detector is there whatever the packages of others say
        if cmd_name in BUILT_IN or cmd_name in detector_names():
            from firstlight.cli.detector import detector_group

            return detector_group(cmd_name)
        return super().get_command(ctx, cmd_name)

    def verbs(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the verbs and the detectors, those of other packages too."""
        from firstlight.detector import external_packages
        from firstlight.detectors import BUILT_IN

        return [*_VERBS, *BUILT_IN, *external_packages()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the verbs and the detectors without importing them."""
        from firstlight.detector import external_packages
        from firstlight.detectors import BUILT_IN, TITLES

        with formatter.section("Verbs for every detector"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])
        with formatter.section("Detectors (each has verbs of its own, see firstlight DETECTOR --help)"):
            others = [(name, f"of {package}") for name, package in external_packages().items()]
            formatter.write_dl([*((name, TITLES[name]) for name in BUILT_IN), *others])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="firstlight")
def cli() -> None:
    """Take a particle detector from its first raw files to constants, verdicts and pictures.

    Try `firstlight demo`, then `firstlight process FOLDER` on your own files.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    The exit status is 0 if all is done, 2 if the command line is wrong, 3 if an input cannot be used (the
    others are still processed), 4 if a check failed and `--fail-on` asked for it, 1 for anything else.
    """
    from firstlight.errors import FirstlightError

    # a command makes many objects that live to its end, and little garbage: looking for it often takes a tenth of the time
    gc.set_threshold(100_000, 50, 50)
    try:
        cli.main(
            args=None if arguments is None else list(arguments), prog_name="firstlight", standalone_mode=False
        )
    except click.exceptions.Abort:
        click.echo("\nstopped; what was finished is kept", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except FirstlightError as error:
        click.echo(f"firstlight: {error}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        click.echo("\nstopped; what was finished is kept", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output has gone: nothing more to say, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
