"""SpinQuest is held to the conformance suite: with simulated spills, and with SRAW files as ROOT writes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from firstlight.testing import DetectorConformance

DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[4] / "shared" / "data"))
WRITTEN_BY_ROOT = DATA / "spinquest" / "synthetic_sraw" / "synth_sraw_lzma.root"


class TestSpinQuest(DetectorConformance):
    detector_name = "spinquest"
    small = {"n_events": 40, "n_spills": 2, "faults": "none"}
    changes = {"tdc": {"bins": 100}, "quality": {"hot_ratio": 4.0}}

    def make_files(self, folder):
        files = super().make_files(folder)
        if (
            WRITTEN_BY_ROOT.is_file()
        ):  # the simulator writes flat files; this one is as the experiment writes them
            name = folder / "run_000001_spill_000000009_sraw.root"
            files.insert(0, Path(shutil.copyfile(WRITTEN_BY_ROOT, name)))
        return files
