"""Files of the original scripts and of other tools: written, and read back."""

from __future__ import annotations

from firstlight.detectors.digicam.legacy.calibrations import read_calibration
from firstlight.detectors.digicam.legacy.exporting import exports

__all__ = ["exports", "read_calibration"]
