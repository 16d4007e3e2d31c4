"""The camera keeps the contract that every detector keeps."""

from __future__ import annotations

from firstlight.testing import DetectorConformance


class TestDigiCam(DetectorConformance):
    detector_name = "digicam"
    # some samples of every kind of run; fits of light need more, and are tested with the steps
    small = {"n_events": 12, "levels": (250, 330), "dc_levels": (310,)}
