"""Noise of voxels: on those with charge, and the few of the many empty ones that it lifts over threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.readout.voxels import pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NoiseHits", "Region", "empty_hits", "tail", "tail_probability"]

_DENSE = 0.05  # share of voxels over threshold above which all empty ones are listed


@dataclass(frozen=True)
class NoiseHits:
    """Hits of noise alone.

    Parameters
    ----------
    index : ndarray of int64, shape (3, n)
        Voxels.
    charge : ndarray of float64, shape (n,)
        Amplitudes above threshold [electrons].
    cell : ndarray of int64, shape (n,)
        Number of the box in which each is.
    n_empty : int
        Empty voxels in which they were looked for.
    """

    index: NDArray[np.int64]
    charge: NDArray[np.float64]
    cell: NDArray[np.int64]
    n_empty: int = 0

    @classmethod
    def none(cls, n_empty: int = 0) -> NoiseHits:
        """Return no hits."""
        return cls(np.zeros((3, 0), dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64), n_empty)


@dataclass(frozen=True)
class Region:
    """Boxes of voxels that are read out; they do not overlap.

    Parameters
    ----------
    first : ndarray of int64, shape (3, n_boxes)
        Lowest voxel of each box.
    shape : ndarray of int64, shape (3, n_boxes)
        Voxels along each axis.
    cell : ndarray of int64, shape (n_boxes,)
        Number that hits in each box get.
    """

    first: NDArray[np.int64]
    shape: NDArray[np.int64]
    cell: NDArray[np.int64]

    @classmethod
    def box(cls, low: NDArray[np.int64], high: NDArray[np.int64], cell: int = -1) -> Region:
        """Return one box from the voxel `low` to the voxel `high`, both of shape (3,), both inside."""
        return cls(low[:, None], (high - low + 1)[:, None], np.array([cell]))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(self.shape.prod(axis=0).sum())

    def voxel(self, place: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return indices, shape (3, n), and boxes of voxels that are numbered from 0 through all boxes."""
        ends = np.cumsum(self.shape.prod(axis=0))
        box = np.searchsorted(ends, place, side="right")
        within = place - np.where(box > 0, ends[box - 1], 0)
        _, ny, nz = self.shape[:, box]
        local = np.stack([within // (ny * nz), within // nz % ny, within % nz])
        return self.first[:, box] + local, box


def tail_probability(sigma: float) -> float:
    """Return the probability that a Gaussian is more than `sigma` standard deviations above its mean."""
    return 0.5 * math.erfc(sigma / math.sqrt(2))


def tail(n: int, sigma: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw `n` values of a standard Gaussian that are above `sigma`."""
    from scipy.special import ndtri

    # 1 - random() is never 0, where the inverse would be infinite
    drawn = -ndtri((1.0 - rng.random(n)) * tail_probability(sigma))
    return np.asarray(np.maximum(drawn, np.nextafter(sigma, np.inf)), dtype=np.float64)


def empty_hits(
    region: Region,
    occupied: NDArray[np.int64],
    noise: float,
    threshold_sigma: float,
    rng: np.random.Generator,
) -> NoiseHits:
    """Draw the hits of noise alone in the empty voxels of a region.

    Their number is binomial, their places are spread evenly over the empty voxels, their amplitudes are of the tail of the
    Gaussian: the same as noise on every voxel, without making the others.

    Parameters
    ----------
    region : Region
        What is read out.
    occupied : ndarray of int64, shape (n_occupied,)
        Packed voxels with charge, rising; all inside the region.
    noise : float
        Standard deviation [electrons].
    threshold_sigma : float
        Threshold over noise.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    NoiseHits
        In the order of the region.
    """
    total = region.size
    n_empty = total - occupied.size
    n_hits = int(rng.binomial(n_empty, tail_probability(threshold_sigma))) if n_empty > 0 and noise > 0 else 0
    if n_hits == 0:
        return NoiseHits.none(max(n_empty, 0))
    if n_hits > _DENSE * n_empty or occupied.size > 0.5 * total:
        places = np.arange(total)
        places = places[~np.isin(pack(region.voxel(places)[0]), occupied)]
        chosen = rng.choice(places, n_hits, replace=False, shuffle=False)
    else:
        chosen = np.zeros(0, dtype=np.int64)
        while chosen.size < n_hits:
            # one at a time in effect: a voxel with charge, or drawn before, is drawn again
            more = rng.integers(0, total, n_hits - chosen.size)
            more = more[~np.isin(pack(region.voxel(more)[0]), occupied)]
            chosen = np.unique(np.concatenate([chosen, more]))
    index, box = region.voxel(chosen)
    return NoiseHits(index, noise * tail(n_hits, threshold_sigma, rng), region.cell[box], n_empty)
