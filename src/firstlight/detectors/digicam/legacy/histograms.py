"""Histogram files of samples and pulses: the keys and shapes of the original scripts, made of products, and back again.

======================  ==========  ==================================================================================
file                    array       content
======================  ==========  ==================================================================================
``adc_hv_off.npz``      ``adcs``    (1296, 4096): samples without high voltage, bins at 0 to 4095 LSB
``adc_hv_on.npz``       ``adcs``    the same in the dark
``spe_hv_on.npz``       ``adcs``    (1296, 4096): heights of pulses in the dark
======================  ==========  ==================================================================================

Counts are float64; ``adcs_bin_centers`` are the centres of the bins. A sample at 4095 may have been any higher value: it is in the
last bin, and in the overflow of a run. Ours have an array more: ``reference`` (1296,), the whole number near the baseline
of each pixel from which a run counts. Files with light levels stand in `scan_files`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Block, Table
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.channels import LOWEST, WINDOW
from firstlight.detectors.digicam.counting import ADC_VALUES, PULSE_BINS, PULSE_LOW, PULSES
from firstlight.detectors.digicam.legacy.npz import NpzFile, write_npz
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.steps.step import Product

    Counts = NDArray[np.int64]

__all__ = [
    "HINT",
    "axis_values",
    "check_camera",
    "medians",
    "read_adcs",
    "reference_in",
    "samples_products",
    "spe_products",
    "whole",
    "write_samples",
    "write_spe",
]

HINT = "make it with -c"


# ---------------------------------------------------------------- checks


def check_camera(shape: tuple[int, ...], pixel_axis: int, n_bins: int | None, key: str, path: Path) -> None:
    """Refuse an array of another camera or other bins."""
    n_axes = pixel_axis + 2
    if len(shape) != n_axes:
        what = f"{key} has the shape {shape}, must have {n_axes} axes"
        raise InputError(what, where=path)
    if shape[pixel_axis] != N_PIXELS:
        what = f"{key} has {shape[pixel_axis]} pixels: a histogram of another camera, this one has {N_PIXELS}"
        raise InputError(what, where=path)
    if n_bins is not None and shape[-1] != n_bins:
        what = f"{key} has {shape[-1]} bins, must have {n_bins}"
        raise InputError(what, where=path)


def whole(values: NDArray[Any], key: str, path: Path) -> Counts:
    """Return counts as whole numbers."""
    if values.dtype.kind not in "biuf":
        what = f"{key} is of type {values.dtype}, not numbers"
        raise InputError(what, where=path)
    with np.errstate(invalid="ignore"):
        found = values.astype(np.int64)
    if not np.array_equal(found, values) or (found.size and found.min() < 0):
        what = f"{key} is no histogram: its entries are not all whole numbers of 0 or more"
        raise InputError(what, where=path)
    return found


# ---------------------------------------------------------------- samples


def write_samples(path: Path, cube: HistogramCube, reference: NDArray[Any]) -> Path:
    """Write the histogram of samples of a run: ``adcs``; a sample at 4095 stands in the last bin.

    Parameters
    ----------
    path : Path
        The file.
    cube : HistogramCube
        ``samples/hv_off`` or ``samples/dark``.
    reference : ndarray, shape (1296,)
        Of the channels of the run.
    """
    return _write_adcs(path, cube.counts[:, 1:], {"reference": np.asarray(reference, dtype=np.int64)})


def _write_adcs(path: Path, counts: NDArray[Any], more: Mapping[str, Any]) -> Path:
    centres = np.arange(ADC_VALUES, dtype=np.float64)
    return write_npz(path, {"adcs": counts.astype(np.float64), "adcs_bin_centers": centres, **more})


def read_adcs(path: Path, what: str = "histogram file", hint: str = HINT) -> tuple[Counts, NDArray[np.int64]]:
    """Read a histogram of samples, or of heights of pulses, ours or the original's.

    Returns
    -------
    counts : ndarray of int64, shape (1296, 4096)
        By pixel and value.
    reference : ndarray of int64, shape (1296,)
        A whole number near the baseline of each pixel: that of the file, else the median of the samples.

    Raises
    ------
    InputError
        If there is no such file, or it is one of another kind or of another camera.
    """
    with NpzFile(path, what, hint) as file:
        file.require("adcs")
        check_camera(file.shape("adcs"), 0, ADC_VALUES, "adcs", path)
        counts = whole(file.array("adcs"), "adcs", path)
        reference = reference_in(file)
    return counts, medians(counts) if reference is None else reference


def reference_in(file: NpzFile) -> NDArray[np.int64] | None:
    """Return the array ``reference`` of a file, shape (1296,); None where it has none."""
    if "reference" not in file:
        return None
    found = file.array("reference")
    if found.shape != (N_PIXELS,):
        message = f"reference has the shape {found.shape}, must have ({N_PIXELS},)"
        raise InputError(message, where=file.path)
    return whole(found, "reference", file.path)


def medians(counts: Counts, first: int = 0) -> NDArray[np.int64]:
    """Return the median of each spectrum; that of the camera where there are no counts.

    Parameters
    ----------
    counts : ndarray, shape (1296, n_bins)
        By pixel and value.
    first : int
        Value of the first bin.
    """
    running = counts.cumsum(axis=1)
    total = running[:, -1]
    middle = first + (running < (total[:, None] + 1) // 2).sum(axis=1)
    known = total > 0
    usual = int(np.median(middle[known])) if known.any() else 284
    return np.where(known, middle, usual).astype(np.int64)


def samples_products(kind: str, counts: Counts, reference: NDArray[np.int64]) -> dict[str, Product]:
    """Return the products of a run that a histogram of samples stands for.

    Groups of events are not known: all are one.

    Parameters
    ----------
    kind : {"hv_off", "dark"}
        What was sampled.
    counts : ndarray, shape (1296, 4096)
        By pixel and value; those at 4095 are overflow.
    reference : ndarray, shape (1296,)
        Near the baselines.
    """
    table = np.zeros((N_PIXELS, ADC_VALUES + 1), dtype=np.int64)
    table[:, 1:] = counts
    axes = (
        Axis("channel", N_PIXELS, description="pixel"),
        Axis("adc", ADC_VALUES - 1, -0.5, ADC_VALUES - 1.5, unit="LSB", description="ADC value"),
    )
    bins = np.arange(-LOWEST, WINDOW - LOWEST)
    value = reference[:, None] + bins
    inside = (value >= 0) & (value < ADC_VALUES - 1)
    near = np.where(inside, np.take_along_axis(counts, np.clip(value, 0, ADC_VALUES - 1), axis=1), 0)
    filled = np.flatnonzero(near.any(axis=0))
    first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 1)
    groups = Block(
        near[:, None, first:last].astype(np.uint32), ("channel", "group", "bin"), "", "samples, events not told apart",
        {"group": [0], "bin": bins[first:last].tolist()},
    )  # fmt: skip
    return {f"samples/{kind}": HistogramCube(axes, table, "samples"), f"samples/{kind}_groups": groups}


# ---------------------------------------------------------------- heights of pulses


def write_spe(path: Path, cube: HistogramCube, reference: NDArray[Any]) -> Path:
    """Write the heights of pulses found in the dark: ``adcs``, at the values that samples have.

    Parameters
    ----------
    path : Path
        The file.
    cube : HistogramCube
        ``pulses/charge`` of a window of one sample; heights beyond its range stand in the last bin.
    reference : ndarray, shape (1296,)
        Of the channels of the run.
    """
    counts = np.zeros((N_PIXELS, ADC_VALUES), dtype=np.int64)
    value = np.clip(axis_values(cube.axis("charge")) + np.asarray(reference)[:, None], 0, ADC_VALUES - 1)
    np.add.at(counts, (np.arange(N_PIXELS)[:, None], value), cube.values)
    counts[:, -1] += cube.counts[:, 0] + cube.counts[:, -1]
    return _write_adcs(path, counts, {"reference": np.asarray(reference, dtype=np.int64)})


def axis_values(axis: Axis) -> NDArray[np.int64]:
    """Return the values that the bins of an axis of whole LSB stand for."""
    return np.asarray(np.rint(axis.centers), dtype=np.int64)


def spe_products(counts: Counts, reference: NDArray[np.int64]) -> dict[str, Product]:
    """Return the products of a run that a histogram of heights of pulses stands for.

    Parameters
    ----------
    counts : ndarray, shape (1296, 4096)
        By pixel and value.
    reference : ndarray, shape (1296,)
        Near the baselines.

    Returns
    -------
    dict
        ``pulses/charge`` and ``pulses/pixels``; how long was looked for pulses is not known, and so no rate.
    """
    bins = np.arange(PULSE_LOW, PULSE_LOW + PULSE_BINS)
    value = reference[:, None] + bins
    inside = (value >= 0) & (value < ADC_VALUES - 1)
    near = np.where(inside, np.take_along_axis(counts, np.clip(value, 0, ADC_VALUES - 1), axis=1), 0)
    table = np.zeros((N_PIXELS, PULSE_BINS + 2), dtype=np.int64)
    table[:, 1:-1] = near
    total = counts.sum(axis=1)
    table[:, -1] = total - near.sum(axis=1)
    high = PULSE_LOW + PULSE_BINS - 0.5
    axes = (
        Axis("channel", N_PIXELS, description="pixel"),
        Axis(
            "charge", PULSE_BINS, PULSE_LOW - 0.5, high, unit="LSB", description="height, above the reference"
        ),
    )
    columns = {"channel": np.arange(N_PIXELS), "n_pulses": total, "n_samples": 0, "rate": np.nan}
    return {
        "pulses/charge": HistogramCube(axes, table, "heights of pulses"),
        "pulses/pixels": Table.from_frame(PULSES, pl.DataFrame(columns)),
    }
