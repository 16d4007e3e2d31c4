"""Figures of an ETROC run: resolution, charge injection, time walk, times, pixels, codes, events, decoding."""

from firstlight.detectors.etroc.views.pages import figures, tables

__all__ = ["figures", "tables"]
