"""Trees of tracks that the tests of the LArTPC share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from firstlight.detectors.lartpc.simulate import simulate


@dataclass(frozen=True)
class Tree:
    """A simulated tree with its folders of tracks; one track has no truth record, one is cut off."""

    root: Path
    folders: list[Path]


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Tree:
    root = tmp_path_factory.mktemp("tracks") / "Tracks"
    folders = simulate(root, seed=21, energies=(1.0, 5.0), n_tracks=4, faults=("missing_truth", "truncated"))
    return Tree(root, folders)


@pytest.fixture(scope="session")
def lartpc_data(sample_data) -> Path:
    """Return the folder of the sample tracks."""
    return sample_data / "lartpc"
