"""Shape of a cloud of charge: principal axes, how straight, flat and wide it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Shape", "principal_axes"]


@dataclass(frozen=True)
class Shape:
    """Principal axes of a cloud of charge.

    Parameters
    ----------
    variances : ndarray, shape (3,)
        Along the axes, largest first [m2].
    axes : ndarray, shape (3, 3)
        Unit vectors, a row each; the largest component of each is positive.
    """

    variances: NDArray[np.float64]
    axes: NDArray[np.float64]

    @property
    def linearity(self) -> float:
        """(v1 - v2) / v1: 1 for a straight line; NaN where all charge is in one place."""
        return self._ratio(self.variances[0] - self.variances[1])

    @property
    def planarity(self) -> float:
        """(v2 - v3) / v1: large for a curve in a plane."""
        return self._ratio(self.variances[1] - self.variances[2])

    @property
    def width(self) -> float:
        """Standard deviation across the first axis, both directions together [m]."""
        return float(np.sqrt(max(self.variances[1] + self.variances[2], 0.0)))

    def _ratio(self, difference: float) -> float:
        return float(difference / self.variances[0]) if self.variances[0] > 0 else float("nan")


def principal_axes(positions: NDArray[np.float64], charge: NDArray[np.float64]) -> Shape:
    """Return the principal axes of the charge.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Where [m].
    charge : ndarray, shape (n,)
        Weights; none negative.
    """
    if charge.size < 2 or charge.sum() <= 0:
        return Shape(np.zeros(3), np.eye(3))
    share = charge / charge.sum()
    offset = positions - (positions @ share)[:, None]
    values, vectors = np.linalg.eigh((offset * share) @ offset.T)
    values, axes = np.maximum(values[::-1], 0.0), vectors.T[::-1]
    # two cubes lie on a line exactly, three in a plane: what is left is rounding
    values[values < 1e-12 * values[0]] = 0.0
    largest = np.abs(axes).argmax(axis=1)
    return Shape(values, axes * np.sign(axes[np.arange(3), largest])[:, None])
