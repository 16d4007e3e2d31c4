"""Figures of a DigiCam run: flags, calibration, light, times, spectra, quality of the fits."""

from firstlight.detectors.digicam.views.pages import figures, tables

__all__ = ["figures", "tables"]
