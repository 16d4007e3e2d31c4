"""Kernels that unpack raw noise scans and add up their moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["TOP", "counter_table", "pixel_moments", "unpack"]

TOP = 63
"""Reading at which the counter of a pixel stops."""


def counter_table() -> NDArray[np.uint8]:
    """Return the hits of each state of the counter, of shape (64,).

    The counter is a shift register of six bits: no hit is state 0, the first hit sets state 1, and each further one
    shifts to the left and puts the exclusive or of the two highest bits below (x^6 + x^5 + 1). It stops at 63 hits.
    """
    table = np.zeros(64, dtype=np.uint8)
    state = 1
    for hits in range(1, TOP + 1):
        table[state] = hits
        state = ((state << 1) & 63) | ((state >> 5) ^ (state >> 4 & 1))
    return table


@kernel
def unpack(raw: NDArray[np.uint8], table: NDArray[np.uint8], counts: NDArray[np.uint8]) -> None:
    """Decode a raw read-out: columns of 192 bytes, four six-bit states in three bytes, the most significant first.

    Parameters
    ----------
    raw : ndarray of uint8, shape (n_points * 49152,)
        The bytes.
    table : ndarray of uint8, shape (64,)
        Hits of each state of the counter.
    counts : ndarray of uint8, shape (n_points, 256, 256)
        Filled: hits at each threshold, row and column.
    """
    at = 0
    for point in range(counts.shape[0]):
        for column in range(256):
            for row in range(0, 256, 4):
                first, second, third = raw[at], raw[at + 1], raw[at + 2]
                counts[point, row, column] = table[first >> 2]
                counts[point, row + 1, column] = table[((first & 3) << 4) | (second >> 4)]
                counts[point, row + 2, column] = table[((second & 15) << 2) | (third >> 6)]
                counts[point, row + 3, column] = table[third & 63]
                at += 3


@kernel
def pixel_moments(counts: NDArray[np.uint8], threshold: Floats, moments: Floats) -> None:
    """Add up the hits of each pixel, and their first two moments.

    Parameters
    ----------
    counts : ndarray of uint8, shape (n_points, n_pixels)
        Hits.
    threshold : ndarray, shape (n_points,)
        Thresholds, relative to some origin [DAC].
    moments : ndarray, shape (3, n_pixels)
        Added to: hits, hits times threshold, hits times threshold squared. Exact: all are whole numbers.
    """
    for point in range(counts.shape[0]):
        x = threshold[point]
        for pixel in range(counts.shape[1]):
            hits = counts[point, pixel]
            moments[0, pixel] += hits
            moments[1, pixel] += hits * x
            moments[2, pixel] += hits * x * x
