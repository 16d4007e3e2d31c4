"""Kernels of the simulator: rates, counts of one frame, and its text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from firstlight.compiled import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["LARGEST", "draw", "fill_rates", "write_text"]

LARGEST = 63
"""Where the counter of a pixel stops."""

_ROOT_2 = math.sqrt(2.0)
_ROOT_2PI = math.sqrt(2.0 * math.pi)
_COMMA, _NEWLINE, _ZERO = ord(","), ord("\n"), ord("0")


@kernel
def fill_rates(
    threshold: float,
    step: Floats,
    slope: Floats,
    width: Floats,
    position: Floats,
    weight: Floats,
    noise: Floats,
    rate: Floats,
) -> None:
    """Compute the rate of each pixel at one threshold, for peaks with charge sharing below them.

    With x = (threshold - position) / width, Q the upper tail and phi the density of the unit Gaussian, a line
    gives ``step Q(x) + slope width (phi(x) - x Q(x))``.

    Parameters
    ----------
    threshold : float
        Threshold [DAC].
    step, slope, width, noise : ndarray, shape (n_pixels,)
        Rate of the peak [hits/s], density of shared charges [hits/s/DAC], width of the edge [DAC], rate at any
        threshold [hits/s].
    position : ndarray, shape (n_lines, n_pixels)
        Position of each line [DAC].
    weight : ndarray, shape (n_lines,)
        Share of each line.
    rate : ndarray, shape (n_pixels,)
        Filled [hits/s].
    """
    for pixel in range(rate.size):
        total = noise[pixel]
        if step[pixel] > 0.0 or slope[pixel] > 0.0:
            for line in range(weight.size):
                x = (threshold - position[line, pixel]) / width[pixel]
                tail = 0.5 * math.erfc(x / _ROOT_2)
                shared = math.exp(-0.5 * x * x) / _ROOT_2PI - x * tail
                part = step[pixel] * tail + slope[pixel] * width[pixel] * max(shared, 0.0)
                total += weight[line] * part
        rate[pixel] = total


@kernel
def draw(mean: Floats, nothing: Floats, uniform: Floats, counts: NDArray[np.uint8]) -> None:
    """Draw readings of counters: Poisson, stopped at 63, by inversion of one uniform number each.

    Parameters
    ----------
    mean, nothing, uniform : ndarray, shape (n_pixels,)
        Expected hits, exp(-mean), and random numbers in [0, 1).
    counts : ndarray of uint8, shape (n_pixels,)
        Filled.
    """
    for pixel in range(counts.size):
        probability = nothing[pixel]
        below = probability
        number = 0
        while uniform[pixel] >= below and number < LARGEST:
            number += 1
            probability *= mean[pixel] / number
            below += probability
        counts[pixel] = number


@kernel
def write_text(counts: NDArray[np.uint8], text: NDArray[np.uint8]) -> int:
    """Write a frame as text, a line for each row, and return the number of bytes.

    Parameters
    ----------
    counts : ndarray of uint8, shape (n_rows, n_columns)
        Readings, below 100.
    text : ndarray of uint8, shape (at least 3 n_rows n_columns,)
        Filled with the bytes.
    """
    at = 0
    n_columns = counts.shape[1]
    for row in range(counts.shape[0]):
        for column in range(n_columns):
            value = counts[row, column]
            if value > 9:
                text[at] = _ZERO + value // 10
                at += 1
            text[at] = _ZERO + value % 10
            text[at + 1] = _COMMA
            at += 2
        text[at - 1] = _NEWLINE
    return at
