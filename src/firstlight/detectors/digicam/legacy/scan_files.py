"""Histogram files of light levels: their keys and shapes, made of the products of a run, and back again.

======================  ===============  =============================================================================
file                    array            content
======================  ===============  =============================================================================
``mpe...npz``           ``mpes``         (level, 1296, 2146): light of flashes
``peaks.npz``           ``peaks``        (1296, 51): which sample is the highest
``full_mpe...npz``      ``full_mpe``     (1296, 2146): ``mpes`` added up over the levels with light
======================  ===============  =============================================================================

All counts are float64, and each array has its ``..._bin_centers``. The original counts what is beyond the first and the last bin
in these. Ours have a few arrays more: ``mpes_levels`` [DAC], ``mpes_underflow`` and ``mpes_overflow`` (level, 1296), which are
not in the bins at the ends, ``reference`` (1296,), the whole number near the baseline of each pixel from which a run counts
charges, and ``samples_in_charge``.

Bins of ``mpes``: the range of the original, 1950 to 4095 LSB, is that of the baselines of December 2016 (2010 LSB). Ours are as
many bins of one LSB; the first is the multiple of 50 that is 40 LSB or more below the lowest baselines (all but the lowest
0.5 % of the pixels): 1950 for those baselines, 200 for those of 2018. Sums of samples are counted above 0, from -128 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Table
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.flashes import LEVELS, lowest_charge
from firstlight.detectors.digicam.legacy.histograms import (
    HINT,
    axis_values,
    check_camera,
    medians,
    reference_in,
    whole,
)
from firstlight.detectors.digicam.legacy.npz import NpzFile, Rows, write_npz
from firstlight.detectors.digicam.options import LightParameters
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.steps.step import Product

    Counts = NDArray[np.int64]

__all__ = [
    "N_BINS",
    "LightHistograms",
    "add_levels",
    "first_centre",
    "read_full",
    "read_peaks",
    "scan_products",
    "write_full",
    "write_peaks",
    "write_scan",
    "zero_of",
]

N_BINS = 2146
"""Bins of the light of flashes."""
_STEP, _BELOW = 50, 40  # LSB
_N_PEAKS = 51
_LEAST_LIGHT = 5.0  # LSB above the baseline, of the levels that the original adds up


def first_centre(reference: NDArray[Any]) -> int:
    """Return the centre of the first bin for the baselines of a camera [LSB]; see the rule above."""
    lowest = float(np.quantile(np.asarray(reference, dtype=np.float64), 0.005))
    return max(int((lowest - _BELOW) // _STEP) * _STEP, 0)


@dataclass(frozen=True)
class LightHistograms:
    """Light of flashes of a run, as it stands in ``mpes``.

    Parameters
    ----------
    cube : HistogramCube
        ``light/charge``: pixel, level, charge above the reference.
    levels : ndarray, shape (n_levels,)
        Of the cube [DAC].
    reference : ndarray, shape (1296,)
        LSB.
    n_samples : int
        Samples in a charge; charges of more than one are counted above 0.
    wanted : ndarray, shape (n_rows,)
        Levels of the file, in order; those that the cube does not have are empty.
    """

    cube: HistogramCube
    levels: NDArray[np.float64]
    reference: NDArray[np.int64]
    n_samples: int
    wanted: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the bins of the file."""
        if self.n_samples == 1:
            return first_centre(self.reference) + np.arange(N_BINS, dtype=np.float64)
        return np.asarray(self.cube.axis("charge").centers, dtype=np.float64)

    def rows(self) -> Iterator[tuple[Counts, Counts, Counts]]:
        """Yield the counts (1296, n_bins) of each row of the file, and how many are below and above."""
        charge = axis_values(self.cube.axis("charge"))
        shift = self.reference if self.n_samples == 1 else np.zeros(N_PIXELS, dtype=np.int64)
        place = charge + shift[:, None] - int(self.centres[0])
        n_bins = self.centres.size
        pixel = np.broadcast_to(np.arange(N_PIXELS)[:, None], place.shape)
        inside = (place >= 0) & (place < n_bins)
        empty = np.zeros(N_PIXELS, dtype=np.int64)
        for level in self.wanted:
            index = np.flatnonzero(self.levels == level)
            table = np.zeros((N_PIXELS, n_bins), dtype=np.int64)
            if not index.size:
                yield table, empty, empty
                continue
            own = self.cube.counts[:, index[0]]
            inner = own[:, 1:-1]
            table[pixel[inside], place[inside]] = inner[inside]
            below = own[:, 0] + np.where(place < 0, inner, 0).sum(axis=1)
            above = own[:, -1] + np.where(place >= n_bins, inner, 0).sum(axis=1)
            yield table, below, above


def write_scan(path: Path, scan: LightHistograms) -> Path:
    """Write the light of flashes: ``mpes``, and beside it the levels and what is beyond the bins.

    Parameters
    ----------
    path : Path
        The file.
    scan : LightHistograms
        What is written, a level at a time.
    """
    beyond: list[tuple[Counts, Counts]] = []

    def rows() -> Iterator[Counts]:
        for table, below, above in scan.rows():
            beyond.append((below, above))
            yield table

    shape = (scan.wanted.size, N_PIXELS, scan.centres.size)
    # filled while ``mpes`` is written, which stands before them
    sides = [Rows(shape[:2], np.float64, _later(beyond, side)) for side in (0, 1)]
    arrays = {
        "mpes": Rows(shape, np.float64, rows()), "mpes_bin_centers": scan.centres, "mpes_levels": scan.wanted,
        "mpes_underflow": sides[0], "mpes_overflow": sides[1], "reference": scan.reference,
        "samples_in_charge": np.array(scan.n_samples),
    }  # fmt: skip
    return write_npz(path, arrays)


def _later(found: list[tuple[Counts, Counts]], side: int) -> Iterator[Counts]:
    yield from (pair[side] for pair in found)


def scan_products(
    path: Path, levels: Sequence[float] = (), parameters: LightParameters | None = None
) -> tuple[dict[str, Product], NDArray[np.int64]]:
    """Read the light of flashes, and return the products of a run that it stands for.

    In files of the original the bins at the ends hold what is beyond them, too: their entries are under- and overflow.

    Parameters
    ----------
    path : Path
        The file.
    levels : sequence of float
        Of its rows [DAC]; those of the file where there are any.
    parameters : LightParameters, optional
        How charges were made: heights of pulses by default.

    Returns
    -------
    products : dict
        ``light/charge`` and ``light/levels``, of levels with entries.
    reference : ndarray of int64, shape (1296,)
        A whole number near the baseline: that of the file, else the median of the lowest level.

    Raises
    ------
    InputError
        If there is no such file, or it is one of another kind or of another camera.
    UsageError
        If the file has another number of levels than there are given, or charges of other numbers of samples.
    """
    parameters = parameters or LightParameters()
    with NpzFile(path, "histogram file", HINT) as file:
        file.require("mpes")
        shape = file.shape("mpes")
        check_camera(shape, 1, None, "mpes", path)
        centres = np.rint(_centres(file, "mpes", shape[2])).astype(np.int64)
        of_rows = _levels(file, shape[0], levels)
        n_samples = _samples_in_charge(file)
        if n_samples != parameters.n_samples:
            what = f"charges of the histogram file are of {n_samples} samples, the parameters say {parameters.n_samples}"
            raise UsageError(what, where=path, hint="light.extractor and light.window_width as they were")
        reference = reference_in(file)
        if reference is None:
            reference = _lowest_medians(file, of_rows, int(centres[0]))
        shift = reference if parameters.n_samples == 1 else np.zeros(N_PIXELS, dtype=np.int64)
        return _from_rows(file, of_rows, centres, shift, lowest_charge(parameters)), reference


def _samples_in_charge(file: NpzFile) -> int:
    return int(file.array("samples_in_charge")) if "samples_in_charge" in file else 1


def zero_of(path: Path) -> NDArray[np.int64] | None:
    """Return where the charges of a file of ours begin: near the baselines for heights, 0 for sums; None if it does not tell."""
    with NpzFile(path, "histogram file", HINT) as file:
        reference = reference_in(file)
        return reference if reference is None or _samples_in_charge(file) == 1 else 0 * reference


def _levels(file: NpzFile, n_rows: int, given: Sequence[float]) -> NDArray[np.float64]:
    if "mpes_levels" in file:
        own = file.array("mpes_levels").astype(np.float64)
        if own.shape == (n_rows,):
            return own
    if len(given) != n_rows:
        what = f"the histogram file has {n_rows} levels, {len(given)} are given"
        raise UsageError(what, where=file.path, hint="the levels of its rows: --scan_level")
    return np.asarray(given, dtype=np.float64)


def _lowest_medians(file: NpzFile, levels: NDArray[np.float64], first: int) -> NDArray[np.int64]:
    """Return the medians of the lowest level with entries."""
    found: dict[float, Counts] = {}
    for level, row in zip(levels, file.rows("mpes"), strict=True):
        if row.any() and level < min(found, default=np.inf):
            found = {float(level): whole(row, "mpes", file.path)}
    if not found:
        what = "the histogram file is empty"
        raise InputError(what, where=file.path)
    return medians(next(iter(found.values())), first)


def _from_rows(
    file: NpzFile, levels: NDArray[np.float64], centres: Counts, shift: NDArray[np.int64], low: int
) -> dict[str, Product]:
    """Return the products of the rows of a file."""
    beyond = "mpes_underflow" in file and "mpes_overflow" in file
    sides = [list(file.rows(f"mpes_{side}")) for side in ("underflow", "overflow")] if beyond else []
    high = int(centres[-1] - shift.min())
    charge = np.arange(low, max(high, low + 1) + 1)
    place = charge + shift[:, None] - centres[0]
    inside = (place >= 0) & (place < centres.size)
    place = np.clip(place, 0, centres.size - 1)
    found: dict[float, tuple[NDArray[Any], Counts]] = {}
    for index, (level, row) in enumerate(zip(levels, file.rows("mpes"), strict=True)):
        counts = whole(row, "mpes", file.path)
        if not counts.any():
            continue
        if beyond:
            below, above = (whole(side[index], "mpes", file.path) for side in sides)
        else:
            below, above, counts = counts[:, 0], counts[:, -1], counts.copy()
            counts[:, [0, -1]] = 0
        near = np.where(inside, np.take_along_axis(counts, place, axis=1), 0)
        # (bins below the lowest charge that a run counts)
        below = below + counts.sum(axis=1) - near.sum(axis=1)
        # (as narrow as it can be: a scan has dozens of levels)
        found[float(level)] = near[:, : _width(near)].astype(np.int32), np.stack([below, above], axis=1)
    if not found:
        what = "the histogram file is empty"
        raise InputError(what, where=file.path)
    return _light_products(found, low)


def _width(counts: Counts) -> int:
    """Return how many bins there are up to the last with counts, at least one."""
    used = np.flatnonzero(counts.any(axis=0))
    return int(used[-1]) + 1 if used.size else 1


def _light_products(found: Mapping[float, tuple[NDArray[Any], Counts]], low: int) -> dict[str, Product]:
    levels = sorted(found)
    n_bins = -(-max(near.shape[1] for near, _ in found.values()) // 64) * 64
    counts = np.zeros((N_PIXELS, len(levels), n_bins + 2), dtype=np.int64)
    for index, level in enumerate(levels):
        near, beyond = found[level]
        counts[:, index, 1 : near.shape[1] + 1] = near
        counts[:, index, 0], counts[:, index, -1] = beyond.T
    axes = (
        Axis("channel", N_PIXELS, description="pixel"),
        Axis(
            "level", len(levels), labels=tuple(f"{level:g}" for level in levels), unit="DAC",
            description="level of the light source",
        ),
        Axis("charge", n_bins, low - 0.5, low + n_bins - 0.5, unit="LSB", description="light, above the reference"),
    )  # fmt: skip
    rows = {
        "level": levels,
        # a pixel has an entry for each event
        "n_events": counts.sum(axis=2).max(axis=0),
        "n_after": 0,
    }
    return {
        "light/charge": HistogramCube(axes, counts, "light of flashes"),
        "light/levels": Table.from_frame(LEVELS, pl.DataFrame(rows)),
    }


def write_peaks(path: Path, cube: HistogramCube) -> Path:
    """Write which sample is the highest: ``peaks`` of 51 bins, or of one more than a longer trace has samples.

    Parameters
    ----------
    path : Path
        The file.
    cube : HistogramCube
        ``light/peak``.
    """
    values = cube.values
    n_bins = max(_N_PEAKS, values.shape[1] + 1)
    counts = np.zeros((N_PIXELS, n_bins))
    counts[:, : values.shape[1]] = values
    return write_npz(path, {"peaks": counts, "peaks_bin_centers": np.arange(n_bins, dtype=np.float64)})


def read_peaks(path: Path) -> Counts:
    """Read which sample is the highest, of shape (1296, n_samples).

    Raises
    ------
    InputError
        If there is no such file, or it is one of another kind or of another camera.
    """
    with NpzFile(path, "histogram file", "make it with -t") as file:
        file.require("peaks")
        check_camera(file.shape("peaks"), 0, None, "peaks", path)
        return whole(file.array("peaks"), "peaks", path)


def add_levels(
    path: Path, baseline: NDArray[np.float64] | None = None, within: tuple[float, float] | None = None
) -> tuple[Counts, NDArray[np.float64]]:
    """Return the levels of a file added up, where there is light: as the original, from a mean of 5 LSB above the baseline on.

    Parameters
    ----------
    path : Path
        With ``mpes``.
    baseline : ndarray, shape (1296,), optional
        Of the samples [LSB]; the mean of the lowest level where it is not given or NaN.
    within : (float, float), optional
        Mean light of a level of a pixel, above its baseline [LSB].

    Returns
    -------
    counts : ndarray of int64, shape (1296, n_bins)
        The sum.
    centres : ndarray, shape (n_bins,)
        LSB.
    """
    least, most = (_LEAST_LIGHT, np.inf) if within is None else within
    with NpzFile(path, "histogram file", HINT) as file:
        file.require("mpes")
        shape = file.shape("mpes")
        check_camera(shape, 1, None, "mpes", path)
        centres = _centres(file, "mpes", shape[2])
        total = np.zeros(shape[1:], dtype=np.int64)
        zero = np.full(N_PIXELS, np.nan) if baseline is None else np.array(baseline, dtype=np.float64)
        rows = [file.array("mpes_levels") if "mpes_levels" in file else np.arange(shape[0])]
        first = int(np.argmin(rows[0])) if shape[0] else 0
        means = []
        # twice through the file: the lowest level need not be its first
        for row in file.rows("mpes"):
            inner = whole(row, "mpes", path)[:, 1:-1]
            with np.errstate(invalid="ignore", divide="ignore"):
                means.append(inner @ centres[1:-1] / inner.sum(axis=1))
        if means:
            zero = np.where(np.isfinite(zero), zero, means[first])
        for mean, row in zip(means, file.rows("mpes"), strict=True):
            counts = whole(row, "mpes", path)
            with np.errstate(invalid="ignore"):
                bright = (mean - zero >= least) & (mean - zero <= most) & ((counts > 0).sum(axis=1) > 1)
            total += np.where(bright[:, None], counts, 0)
    return total, centres


def write_full(
    path: Path, counts: Counts, centres: NDArray[np.float64], zero: NDArray[np.int64] | None = None
) -> Path:
    """Write levels added up: ``full_mpe``, its bins, and where the charges begin if that is known."""
    arrays = {"full_mpe": counts.astype(np.float64), "full_mpe_bin_centers": centres}
    return write_npz(path, arrays if zero is None else {**arrays, "reference": zero})


def read_full(path: Path) -> tuple[Counts, NDArray[np.float64]]:
    """Read levels added up: counts (1296, n_bins) and the centres of the bins.

    Raises
    ------
    InputError
        If there is no such file, or it is one of another kind or of another camera.
    """
    with NpzFile(path, "histogram file of all levels", "make it with -k") as file:
        file.require("full_mpe")
        shape = file.shape("full_mpe")
        check_camera(shape, 0, None, "full_mpe", path)
        centres = _centres(file, "full_mpe", shape[1])
        return whole(file.array("full_mpe"), "full_mpe", path), centres


def _centres(file: NpzFile, key: str, n_bins: int) -> NDArray[np.float64]:
    """Return the centres of the bins of an array, which are one LSB wide."""
    name = f"{key}_bin_centers"
    file.require(name)
    centres = file.array(name).astype(np.float64)
    if centres.shape != (n_bins,) or not np.allclose(np.diff(centres), 1.0):
        what = f"{name} are not {n_bins} centres of bins of 1 LSB"
        raise InputError(what, where=file.path)
    return centres
