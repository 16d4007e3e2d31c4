"""Figures of a run: maps and detector groups, times, events, spills, efficiencies."""

from firstlight.detectors.spinquest.views.maps import Scene, figures, read_groups, scene_of, tables

__all__ = ["Scene", "figures", "read_groups", "scene_of", "tables"]
