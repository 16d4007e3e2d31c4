"""LArTPC keeps the contract that every detector keeps."""

from __future__ import annotations

from firstlight.testing import DetectorConformance


class TestLArTPC(DetectorConformance):
    detector_name = "lartpc"
    small = {"n_tracks": 3, "energies": (0.5, 2.0), "particles": ("electron", "photon")}
