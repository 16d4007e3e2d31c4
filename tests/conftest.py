"""Files and folders that many tests share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import hypothesis
import numpy as np
import pytest
import uproot

# compilation and a busy machine make single examples slow, which says nothing about the code
hypothesis.settings.register_profile("firstlight", deadline=None)
hypothesis.settings.load_profile("firstlight")

_ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("FIRSTLIGHT_DATA", _ROOT.parent / "shared" / "data"))


@dataclass(frozen=True)
class WrittenHits:
    """What stands in a file that `write_hits` wrote."""

    path: Path
    event: np.ndarray
    detector: np.ndarray
    element: np.ndarray
    time: np.ndarray
    in_time: np.ndarray
    fpga: np.ndarray
    spill: np.ndarray


def _write_hits(
    path: Path, seed: int = 1, n_events: int = 40, spills: int = 1, with_times: bool = True
) -> WrittenHits:
    """Write a small file of the RUS layout and return what is in it."""
    rng = np.random.default_rng(seed)
    sizes = rng.poisson(30, n_events) * (rng.random(n_events) > 0.1)
    total = int(sizes.sum())
    detector = rng.integers(1, 55, total).astype(np.int32)
    element = rng.integers(1, 17, total).astype(np.int32)
    time = rng.normal(1000, 150, total).astype(np.float64)
    in_time = (rng.random(total) > 0.3).astype(np.int32)
    fpga = rng.integers(0, 2, (n_events, 5)).astype(np.int32)
    spill = (np.arange(n_events) * spills // max(n_events, 1) + 100 * seed).astype(np.int32)
    branches = {
        "runID": np.full(n_events, 5994, dtype=np.int32),
        "spillID": spill,
        "eventID": np.arange(n_events, dtype=np.int32),
        "fpgaTrigger": fpga,
        "nimTrigger": np.zeros((n_events, 5), dtype=np.int32),
        "detectorID": ak.unflatten(detector, sizes),
        "elementID": ak.unflatten(element, sizes),
        "hitInTime": ak.unflatten(in_time, sizes),
    }
    if with_times:
        branches["tdcTime"] = ak.unflatten(time, sizes)
        branches["driftDistance"] = ak.unflatten(rng.uniform(-1, 1, total), sizes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: ak.type(ak.Array(values)).content for name, values in branches.items()})
        file["tree"].extend(branches)
    return WrittenHits(
        path, np.repeat(np.arange(n_events), sizes), detector, element, time, in_time, fpga, spill
    )


@pytest.fixture
def write_hits():
    """Return the function that writes a small raw file."""
    return _write_hits


@pytest.fixture
def raw_files(tmp_path, write_hits):
    """Return three small raw files in one folder."""
    return [
        write_hits(tmp_path / "raw" / f"run_005994_spill_{index:09d}_sraw.root", seed=index).path
        for index in (1, 2, 3)
    ]


@pytest.fixture(scope="session")
def sample_data():
    """Return the folder of the sample data; tests that need it are skipped without it."""
    if not (DATA / "spinquest").is_dir():
        pytest.skip(f"sample data not found in {DATA}")
    return DATA
