"""Figures of a run: result, maps, curves, quality of the fits, the scan, the baseline; and several runs together."""

from firstlight.detectors.velo.views.pages import figures, tables

__all__ = ["figures", "tables"]
