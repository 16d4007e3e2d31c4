"""The verbs of the DigiCam."""

from __future__ import annotations

import click

from firstlight.cli.common import Group
from firstlight.detectors.digicam.commands_files import FILES
from firstlight.detectors.digicam.commands_original import ORIGINAL
from firstlight.detectors.digicam.commands_steering import steer
from firstlight.detectors.digicam.commands_steps import STEPS

__all__ = ["commands"]


@click.group(cls=Group)
def commands() -> None:
    """Verbs of the DigiCam."""


for command in (*ORIGINAL, steer, *STEPS, *FILES):
    commands.add_command(command)
