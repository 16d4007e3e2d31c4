"""The verbs of the VELO."""

from __future__ import annotations

import click

from firstlight.detectors.velo.commands_analysis import analysis
from firstlight.detectors.velo.commands_dataset import convert, datasets, init
from firstlight.detectors.velo.commands_noise import equalise, noise
from firstlight.detectors.velo.commands_plot import plot

__all__ = ["commands"]


@click.group()
def commands() -> None:
    """Verbs of the VELO."""


for command in (analysis, plot, init, convert, datasets, noise, equalise):
    commands.add_command(command)
