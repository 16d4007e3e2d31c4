"""Wires: planes on which passing charge induces a signal, and planes that collect it.

Charge between two wires is shared by them linearly: of 1000 electrons at a tenth of the gap the nearer wire gets 900, the other
100. Real signals are bipolar and fall off more slowly; what is kept here is where the charge is and how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.readout.noise import Region, empty_hits
from firstlight.detectors.lartpc.readout.voxels import Grid, count, pack, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.readout.designs import AnodeWires, CoarseWires

__all__ = ["WireGrid", "WirePlane", "collect", "induce", "share"]


@dataclass(frozen=True)
class WirePlane:
    """Samples of parallel wires: a wire in a slice of z.

    Parameters
    ----------
    axis : int
        Axis across the wires: 0 measures x, 1 measures y.
    index : ndarray of int64, shape (2, n)
        Wire, and slice in z.
    positions : ndarray of float64, shape (2, n)
        Of the wire across the wires, and of the middle of the slice [m].
    charge_true : ndarray of int64, shape (n,)
        Charge that passed or was collected, before noise [electrons]; 0 for noise alone.
    charge : ndarray of float64, shape (n,)
        Measured signal, noise included [electrons].
    triggered : ndarray of bool, shape (n,)
        Whether the signal is above threshold.
    pitch : tuple of float
        Distance of wires, and length of a slice [m].
    noise, threshold : float
        Standard deviation of the noise, and threshold [electrons].
    """

    axis: int
    index: NDArray[np.int64]
    positions: NDArray[np.float64]
    charge_true: NDArray[np.int64]
    charge: NDArray[np.float64]
    triggered: NDArray[np.bool_]
    pitch: tuple[float, float]
    noise: float
    threshold: float

    def __len__(self) -> int:
        return self.charge.size


@dataclass(frozen=True)
class WireGrid:
    """Two planes of wires, and the cubes between four wires that they wake.

    Parameters
    ----------
    x, y : WirePlane
        Planes that measure x and y. Wire k lies at the lower edge of cell k.
    cubes : ndarray of int64, shape (3, n_cubes)
        Cells that both planes see over threshold; with several charges in a slice also ghosts.
    first_slice, last_slice : int
        Slices in z between which there is charge.
    """

    x: WirePlane
    y: WirePlane
    cubes: NDArray[np.int64]
    first_slice: int
    last_slice: int


def share(
    fraction: NDArray[np.float64], gap: NDArray[np.int64], num_e: NDArray[np.int64], n_gaps: int
) -> NDArray[np.int64]:
    """Share charges between the wires on both sides of their gap.

    Parameters
    ----------
    fraction : ndarray of float64, shape (n,)
        Distance from the lower wire over the pitch, 0 to 1.
    gap : ndarray of int64, shape (n,)
        Gap of each charge, 0 to n_gaps - 1.
    num_e : ndarray of int64, shape (n,)
        Charges.
    n_gaps : int
        Number of gaps.

    Returns
    -------
    ndarray of int64, shape (2, n_gaps)
        Charge that the lower and the upper wire of each gap get; the shares of a gap are rounded to electrons, their sum is
        exact.
    """
    total = np.bincount(gap, weights=num_e, minlength=n_gaps)
    upper = np.rint(np.bincount(gap, weights=num_e * fraction, minlength=n_gaps))
    return np.stack([total - upper, upper]).astype(np.int64)


def _plane(
    axis: int,
    cell: NDArray[np.int64],
    fraction: NDArray[np.float64],
    num_e: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the charge of each wire and slice, shape (n_gaps + 1, n_slices), from the lowest wire on."""
    n_gaps, n_slices = int(high[axis] - low[axis] + 1), int(high[2] - low[2] + 1)
    place = (cell[axis] - low[axis]) * n_slices + cell[2] - low[2]
    shares = share(fraction, place, num_e, n_gaps * n_slices).reshape(2, n_gaps, n_slices)
    charge = np.zeros((n_gaps + 1, n_slices), dtype=np.int64)
    charge[:-1] += shares[0]
    charge[1:] += shares[1]
    return charge


def induce(
    positions: NDArray[np.float64],
    num_e: NDArray[np.int64],
    wires: CoarseWires,
    grid: Grid,
    rng: np.random.Generator,
) -> WireGrid:
    """Return the signals that drifting charge induces on two planes of wires, and the cubes that they wake.

    Each wire sees half of `signal_fraction` of its share, plus noise. A cube wakes if the sums of its two x wires and of its
    two y wires are both above threshold; the noise of a sum is 1.4 times that of a wire, so an empty cube wakes with a
    probability of 5e-6 at 4 sigma. All wires between the outermost with charge are read.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Electrons [m].
    num_e : ndarray of int64, shape (n,)
        Charges.
    wires : CoarseWires
        The design.
    grid : Grid
        Coarse cells; wires are at their edges.
    rng : numpy.random.Generator
        Random numbers.
    """
    cell = grid.index(positions)
    if num_e.size == 0:
        cell = np.zeros((3, 0), dtype=np.int64)
        low, high = np.zeros(3, dtype=np.int64), np.full(3, -1, dtype=np.int64)
    else:
        low, high = cell.min(axis=1), cell.max(axis=1)
    planes, sums = [], []
    for axis in (0, 1):
        edge = grid.offset[axis] - 0.5 * grid.pitch[axis]
        fraction = np.clip((positions[axis] - edge) / grid.pitch[axis] - cell[axis], 0.0, 1.0)
        if num_e.size:
            true = _plane(axis, cell, fraction, num_e, low, high)
        else:
            true = np.zeros((0, 0), dtype=np.int64)
        signal = true * (wires.signal_fraction / 2) + wires.noise * rng.standard_normal(true.shape)
        triggered = signal > wires.threshold
        sums.append((signal[:-1] + signal[1:]) > wires.threshold)
        wire, piece = np.nonzero((true > 0) | triggered)
        index = np.stack([wire + low[axis], piece + low[2]])
        where = np.stack([index[0] * grid.pitch[axis] + edge, index[1] * grid.pitch[2] + grid.offset[2]])
        planes.append(
            WirePlane(
                axis,
                index,
                where,
                true[wire, piece],
                signal[wire, piece],
                triggered[wire, piece],
                (grid.pitch[axis], grid.pitch[2]),
                wires.noise,
                wires.threshold,
            )
        )
    # cubes in a slice: every x gap over threshold with every y gap over threshold
    cubes = np.argwhere(sums[0][:, None, :] & sums[1][None, :, :]).T + low[:, None]
    return WireGrid(planes[0], planes[1], cubes, int(low[2]), int(high[2]))


def collect(
    positions: NDArray[np.float64],
    num_e: NDArray[np.int64],
    wires: AnodeWires,
    offset: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    empty: bool = True,
    region: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> tuple[WirePlane, int]:
    """Return the samples of wires along y that collect charge.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Electrons [m].
    num_e : ndarray of int64, shape (n,)
        Charges.
    wires : AnodeWires
        The design.
    offset : tuple of float
        Place of a wire in x, of the middle of a slice in z [m].
    rng : numpy.random.Generator
        Random numbers.
    empty : bool
        Whether noise alone may make hits.
    region : tuple of ndarray, optional
        Lowest and highest wire and slice to read, each as (wire, 0, slice); around the charge if not given.

    Returns
    -------
    plane : WirePlane
        Samples with charge, then those of noise alone.
    n_empty : int
        Empty samples in which noise was looked for.
    """
    grid = Grid((wires.pitch, wires.pitch, wires.pitch), offset)
    index = grid.index(positions)
    index[1] = 0
    key, charge_true = count(pack(index), num_e)
    found = unpack(key)
    charge = charge_true + wires.noise * rng.standard_normal(key.size)
    low, high = region if region is not None else _bounds(found)
    n_empty = 0
    if empty and (high >= low).all():
        inside = ((found >= low[:, None]) & (found <= high[:, None])).all(axis=0)
        more = empty_hits(Region.box(low, high), key[inside], wires.noise, wires.threshold_sigma, rng)
        n_empty = more.n_empty
        found = np.concatenate([found, more.index], axis=1)
        charge = np.concatenate([charge, more.charge])
        charge_true = np.pad(charge_true, (0, more.charge.size))
    where = grid.centres(found)[[0, 2]]
    over = charge > wires.threshold
    pitch = (wires.pitch, wires.pitch)
    plane = WirePlane(0, found[[0, 2]], where, charge_true, charge, over, pitch, wires.noise, wires.threshold)
    return plane, n_empty


def _bounds(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if index.shape[1] == 0:
        return np.zeros(3, dtype=np.int64), np.full(3, -1, dtype=np.int64)
    return index.min(axis=1), index.max(axis=1)
