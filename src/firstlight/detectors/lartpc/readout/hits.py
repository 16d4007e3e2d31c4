"""What a read-out gives: samples of pixels, wires and tiles, true charge beside measured charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Hits"]


@dataclass(frozen=True)
class Hits:
    """Samples of a read-out in three dimensions: a pixel in an interval of time, or z.

    Parameters
    ----------
    positions : ndarray of float64, shape (3, n)
        Centres [m].
    index : ndarray of int64, shape (3, n)
        Pixel in x and y, slice in z.
    charge : ndarray of float64, shape (n,)
        Measured charge, noise included [electrons].
    charge_true : ndarray of int64, shape (n,)
        Charge before noise; 0 for a hit of noise alone [electrons].
    triggered : ndarray of bool, shape (n,)
        Whether the measured charge is above threshold.
    cell : ndarray of int64, shape (n,)
        Coarse cell in which the sample was read, -1 where the design has none.
    pitch : tuple of float
        Edges of a voxel in x, y and z [m].
    noise, threshold : float
        Standard deviation of the noise, and threshold [electrons].
    """

    positions: NDArray[np.float64]
    index: NDArray[np.int64]
    charge: NDArray[np.float64]
    charge_true: NDArray[np.int64]
    triggered: NDArray[np.bool_]
    cell: NDArray[np.int64]
    pitch: tuple[float, float, float]
    noise: float
    threshold: float

    def __len__(self) -> int:
        return self.charge.size
