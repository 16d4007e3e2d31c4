"""The VELO is held to the conformance suite, with a scan whose frames lie in two folders."""

from __future__ import annotations

import shutil

import pytest

from firstlight.detectors.velo.simulate import simulate
from firstlight.testing import DetectorConformance


class TestVelo(DetectorConformance):
    detector_name = "velo"
    small = {"n_thresholds": 12, "step": 10, "acquisitions": 3, "faults": "none"}
    changes = {
        "scan": {"exclude": "acq == 2"},
        "baseline": {"choice": "cubic"},
        "calibration": {"energy": 5900.0},
    }

    def make_files(self, folder):
        (whole,) = simulate(folder / "whole", seed=1, **self.small)
        # one scan in two folders: the even acquisitions and the odd ones
        parts = [folder / "part_one", folder / "part_two"]
        for number, part in enumerate(parts):
            part.mkdir()
            for path in whole.iterdir():
                acquisition = path.stem.rsplit("_", 1)[-1]
                if "_THR_" not in path.name or int(acquisition) % 2 == number:
                    shutil.copyfile(path, part / path.name)
        return parts

    @pytest.fixture(autouse=True)
    def _ready(self, _set_up):
        pass
