"""A small commissioning data set of the camera, simulated and processed once for all tests."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from firstlight.detectors.digicam.simulate import load_truth, simulate

# what tests of this folder share is found by name
_spec = importlib.util.spec_from_file_location(
    "digicam_helpers", Path(__file__).with_name("digicam_helpers.py")
)
digicam_helpers = importlib.util.module_from_spec(_spec)
sys.modules["digicam_helpers"] = digicam_helpers
_spec.loader.exec_module(digicam_helpers)


@dataclass(frozen=True)
class Campaign:
    """Files of a campaign with known truth, and the run of its chain."""

    folder: Path
    files: list[Path]
    run: object

    @property
    def truth(self):
        return load_truth(self.folder)


@pytest.fixture(scope="session")
def campaign(tmp_path_factory) -> Campaign:
    folder = tmp_path_factory.mktemp("campaign")
    numbers = {"hv_off": 200, "dark": 400, "led": 320, "dc": 40}
    files = simulate(folder / "raw", seed=11, n_events=numbers, levels=(0, 250, 330))
    return Campaign(folder / "raw", files, digicam_helpers.go(files, folder / "run"))


@pytest.fixture(scope="session")
def digicam_data(sample_data) -> Path:
    """Return the folder of the sample data of the camera."""
    return sample_data / "digicam"
