"""Whole electrons counted in voxels: integer indices on a grid, exact sums, no electron lost at an edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Grid", "count", "pack", "unpack"]

_BITS = 21
_HALF = 1 << (_BITS - 1)
_MASK = (1 << _BITS) - 1


@dataclass(frozen=True)
class Grid:
    """Cubes side by side.

    Parameters
    ----------
    pitch : tuple of float
        Edges in x, y and z [m].
    offset : tuple of float
        Centre of the voxel (0, 0, 0) [m].
    """

    pitch: tuple[float, float, float]
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def index(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the voxels in which positions [m] of shape (3, n) lie; a lower edge belongs to its voxel."""
        index = np.empty(positions.shape, dtype=np.int64)
        for axis in range(3):
            along = positions[axis] - (self.offset[axis] - 0.5 * self.pitch[axis])
            along /= self.pitch[axis]
            np.floor(along, out=along)
            index[axis] = along
        return index

    def centres(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the centres [m] of voxels."""
        pitch, offset = np.array(self.pitch)[:, None], np.array(self.offset)[:, None]
        return np.asarray(index * pitch + offset)


def pack(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for each voxel, in the order of x, then y, then z.

    Raises
    ------
    UsageError
        If an index is a million or more: the pitch is too fine for the size of the event.
    """
    if index.size and (index.min() < -_HALF or index.max() >= _HALF):
        what = f"an event reaches from voxel {index.min():,} to {index.max():,}; {_HALF:,} either way are possible"
        raise UsageError(what, hint="a larger pitch")
    key: NDArray[np.int64] = index[0] + _HALF
    key <<= _BITS
    key += index[1] + _HALF
    key <<= _BITS
    key += index[2] + _HALF
    return key


def unpack(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices, shape (3, n), that `pack` put together."""
    return np.stack([key >> (2 * _BITS), (key >> _BITS) & _MASK, key & _MASK]) - _HALF


def count(key: NDArray[np.int64], num_e: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add up charges of equal keys.

    Parameters
    ----------
    key : ndarray of int64, shape (n,)
        Voxel of each charge.
    num_e : ndarray of int64, shape (n,)
        Charges.

    Returns
    -------
    key : ndarray of int64, shape (m,)
        Voxels with charge, rising.
    charge : ndarray of int64, shape (m,)
        Their charges; the sum is that of `num_e`.
    """
    if key.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if (num_e == 1).all():
        ordered, weights = np.sort(key), None
    else:
        order = np.argsort(key)
        ordered, weights = key[order], num_e[order]
    start = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if weights is None:
        return ordered[start], np.diff(start, append=key.size)
    charge = np.add.reduceat(weights, start)
    kept = charge > 0
    return ordered[start[kept]], charge[kept]
