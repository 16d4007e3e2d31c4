"""Kernels that prepare the points of a channel: which are used, where the model is evaluated, start values, scales."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.fit.prototypes import quiet_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["QUADRATURE_WEIGHTS", "choose_points", "fill_scales", "give_start", "place_points", "row_of"]

# 5-point Gauss-Legendre quadrature, exact for polynomials of degree nine
_NODES = np.polynomial.legendre.leggauss(5)[0]
QUADRATURE_WEIGHTS = np.polynomial.legendre.leggauss(5)[1] / 2


@quiet_kernel
def row_of(array: FloatArray, channel: int) -> FloatArray:
    """Return the row of a channel; what is the same for all channels stands there once."""
    row: FloatArray = array[channel if array.shape[0] > 1 else 0]
    return row


@quiet_kernel
def choose_points(
    counts: FloatArray,
    x: FloatArray,
    shift: float,
    exposure: FloatArray,
    mask: BoolArray,
    sigma: FloatArray,
    edges: bool,
    gapless: bool,
    chosen: IntArray,
    used: BoolArray,
) -> tuple[int, int]:
    """Fill the points of a fit; with `gapless` also unused ones between used ones. Return how many, and used."""
    n = 0
    first = -1
    n_used = 0
    for k in range(counts.size):
        good = bool(mask[k]) and math.isfinite(counts[k]) and math.isfinite(x[k] - shift)
        good = good and exposure[k] > 0 and math.isfinite(exposure[k])
        good = good and sigma[k] > 0 and math.isfinite(sigma[k])
        if edges:
            good = good and math.isfinite(x[k + 1])
        if good and gapless and n_used > 0:
            while n < k - first:
                used[n] = False
                chosen[n] = first + n
                n += 1
        if good:
            first = k if n_used == 0 else first
            used[n] = True
            chosen[n] = k
            n += 1
            n_used += 1
    return n, n_used


@quiet_kernel
def place_points(
    x: FloatArray,
    shift: float,
    edges: bool,
    quadrature: bool,
    chosen: IntArray,
    n: int,
    points: FloatArray,
    halves: FloatArray,
) -> int:
    """Fill where the model is evaluated for n chosen points or bins; return how many numbers that are."""
    if not edges:
        for k in range(n):
            points[k] = x[chosen[k]] - shift
        return n
    if not quadrature:  # bins between the first and the last stand without gaps
        for k in range(n):
            points[k] = x[chosen[k]] - shift
        points[n] = x[chosen[n - 1] + 1] - shift
        return n + 1
    for k in range(n):
        low = x[chosen[k]] - shift
        high = x[chosen[k] + 1] - shift
        halves[k] = 0.5 * (high - low)
        for i in range(5):
            points[5 * k + i] = 0.5 * (low + high) + halves[k] * _NODES[i]
    return 5 * n


@quiet_kernel
def give_start(
    start: Any,
    use_start: bool,
    given: FloatArray,
    x: FloatArray,
    shift: float,
    edges: bool,
    n: int,
    chosen: IntArray,
    used: BoolArray,
    counts: FloatArray,
    exposure: FloatArray,
    constants: FloatArray,
    scratch: FloatArray,
    p: FloatArray,
) -> None:
    """Fill the start values: those given, or those from the used points."""
    if not use_start:
        p[:] = given
        return
    size = counts.size
    m = 0
    for k in range(n):
        if not used[k]:
            continue
        i = chosen[k]
        scratch[m] = (0.5 * (x[i] + x[i + 1]) if edges else x[i]) - shift
        scratch[size + m] = counts[k]
        scratch[2 * size + m] = exposure[k] * (x[i + 1] - x[i] if edges else 1.0)
        m += 1
    start(scratch[:m], scratch[size : size + m], scratch[2 * size : 2 * size + m], constants, p)


@quiet_kernel
def fill_scales(
    units: FloatArray, x: FloatArray, n: int, rate: float, scale: FloatArray, largest_error: FloatArray
) -> None:
    """Fill the natural size of each parameter (0: not known), and the error beyond which it says nothing."""
    low = math.inf
    high = -math.inf
    for k in range(n):
        low = min(low, x[k])
        high = max(high, x[k])
    span = high - low if high > low else max(abs(high), 1.0)
    for a in range(scale.size):
        plain = units[0, a] == 0 and units[1, a] == 0
        scale[a] = 0.0 if plain else rate ** units[0, a] * span ** units[1, a]
        largest_error[a] = span if units[0, a] == 0 and units[1, a] == 1 else math.inf
