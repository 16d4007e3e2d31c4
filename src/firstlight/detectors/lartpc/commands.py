"""Verbs of the detector."""

from __future__ import annotations

import click

from firstlight.detectors.lartpc.commands_detector import DETECTOR
from firstlight.detectors.lartpc.commands_shapes import SHAPES
from firstlight.detectors.lartpc.commands_tracks import TRACKS
from firstlight.detectors.lartpc.commands_views import VIEWS

__all__ = ["commands"]

commands = click.Group("lartpc")
for command in (*TRACKS, *VIEWS, *DETECTOR, *SHAPES):
    commands.add_command(command)
