"""Truth files: named arrays in an ``.npz`` file, the same bytes for the same arrays."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["load_truth", "write_truth"]


def write_truth(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write arrays as `numpy.savez_compressed` does, with the fastest compression (a fifth of the time)."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            # such an entry has a fixed date
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)
    return path


def load_truth(path: Path | str) -> dict[str, NDArray[Any]]:
    """Return what the truth file of a simulated scan or noise scan holds.

    For a scan, maps of shape (256, 256): ``base``, ``target``, ``E0`` [DAC], ``gain`` [e-/DAC], ``sigma`` [DAC],
    ``N`` [hits/s], ``C`` [hits/s/DAC] (both 0 where nothing is counted), ``noise_rate`` [hits/s], ``mask``,
    ``trim``, ``trim0``, ``trim_range``, ``noise_width`` [DAC], ``noise_amplitude`` [hits], ``n_saturated``;
    lists of pixels ``silent``, ``noisy``, ``hot``, ``undefined_widths``; ``dead_columns``; ``thresholds`` [DAC],
    ``good_acq``, ``counts_sum`` (threshold, row, column); texts ``events`` (JSON: frames by fault),
    ``condition``, ``label``, ``prefix``, ``shutter``; numbers ``seed``, ``shutter_time`` [s], ``acquisitions``,
    ``bad_cut``, ``lines``, ``energy_per_pair`` [eV], ``gain_drift``.

    Parameters
    ----------
    path : Path or str
        The truth file, or the scan folder that it stands beside.

    Raises
    ------
    InputError
        If there is none.
    """
    path = Path(path)
    if path.suffix != ".npz":
        path = path.with_name(f"{path.name}_truth.npz")
    if not path.is_file():
        what = "there is no truth file"
        raise InputError(what, where=path, hint="only simulated scans have one, beside their folder")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
