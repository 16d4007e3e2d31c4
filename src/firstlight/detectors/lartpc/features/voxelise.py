"""Points put together in cubes: charge summed, position averaged with the charge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Voxels", "number_cubes", "voxelise"]

_LARGEST = 2**62


@dataclass(frozen=True)
class Voxels:
    """Cubes with charge, in the order of their place along x, then y, then z.

    Parameters
    ----------
    positions : ndarray of float64, shape (3, n)
        Mean position of the charge in each cube [m].
    charge : ndarray of float64, shape (n,)
        Sum of the charge [electrons].
    label : ndarray of int64, shape (n_points,)
        Cube of each point, -1 for a point that was left out.
    edge : float
        Edge of a cube [m].
    """

    positions: NDArray[np.float64]
    charge: NDArray[np.float64]
    label: NDArray[np.int64]
    edge: float

    def __len__(self) -> int:
        return self.charge.size


def voxelise(
    positions: NDArray[np.floating], charge: NDArray[np.number], edge: float, threshold: float = 0.0
) -> Voxels:
    """Put points together in cubes that fill space from the corner (0, 0, 0).

    Parameters
    ----------
    positions : ndarray, shape (3, n_points)
        Where [m].
    charge : ndarray, shape (n_points,)
        How much [electrons]; points without charge take no part.
    edge : float
        Edge of a cube [m].
    threshold : float
        Cubes with less than this are left out [electrons].

    Returns
    -------
    Voxels
        The order does not depend on the order of points.

    Raises
    ------
    InputError
        If shapes disagree, a value is not finite, or a charge is negative.
    """
    _check(positions, charge)
    label = np.full(charge.shape, -1, dtype=np.int64)
    kept = np.flatnonzero(charge > 0)
    if kept.size == 0:
        return Voxels(np.zeros((3, 0)), np.zeros(0), label, edge)
    place = np.array([row[kept] for row in positions], dtype=np.float64)
    weight = charge[kept].astype(np.float64)
    cube, n_cubes = number_cubes(np.floor(place / edge))
    total = np.bincount(cube, weight, n_cubes).astype(np.float64, copy=False)
    # around a point of its own, so that far from (0, 0, 0) no digits are lost
    middle = place.mean(axis=1)
    mean = np.stack([np.bincount(cube, weight * (place[axis] - middle[axis]), n_cubes) for axis in range(3)])
    mean = mean / total + middle[:, None]
    above = total >= threshold
    number = np.where(above, np.cumsum(above) - 1, -1)
    label[kept] = number[cube]
    return Voxels(np.ascontiguousarray(mean[:, above]), total[above], label, edge)


def number_cubes(index: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """Return a number for each occupied cube of a grid, in the order of their index.

    Parameters
    ----------
    index : ndarray, shape (n_axes, n_points)
        Whole numbers that say in which cube each point lies; a further axis may keep points apart for another reason.

    Returns
    -------
    number : ndarray of int64, shape (n_points,)
        Cube of each point.
    n_cubes : int
        How many there are.
    """
    if index.shape[1] == 0:
        return np.zeros(0, dtype=np.int64), 0
    index = index - index.min(axis=1, keepdims=True)
    sizes = [int(width) + 1 for width in index.max(axis=1)]
    if math.prod(sizes) < _LARGEST:
        key = np.zeros(index.shape[1], dtype=np.int64)
        for size, along in zip(sizes, index, strict=True):
            key = key * size + along.astype(np.int64)
        unique, number = np.unique(key, return_inverse=True)
        return number.reshape(-1), unique.size
    unique, number = np.unique(index, axis=1, return_inverse=True)
    return number.reshape(-1), unique.shape[1]


def _check(positions: NDArray[np.floating], charge: NDArray[np.number]) -> None:
    if positions.ndim != 2 or positions.shape[0] != 3 or charge.shape != (positions.shape[1],):
        what = (
            f"positions of shape {positions.shape} and charges of shape {charge.shape} do not belong together"
        )
        raise InputError(what, hint="positions of shape (3, n) and charges of shape (n,)")
    for name, bad in (
        ("position", ~np.isfinite(positions).all(axis=0)),
        ("charge", ~np.isfinite(charge) | (charge < 0)),
    ):
        if bad.any():
            point = int(np.flatnonzero(bad)[0])
            value = positions[:, point].tolist() if name == "position" else charge[point]
            what = f"{name} of point {point} is {value}; {int(bad.sum())} such points"
            raise InputError(what, hint="hits above threshold, finite positions in metres")
