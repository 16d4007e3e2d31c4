"""Kernels of the charge spectrum of a photon counter: numbers of avalanches, and their peaks over bins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from firstlight.fit.models.starts import width_floor
from firstlight.fit.prototypes import quiet_kernel
from firstlight.fit.special import normal_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["avalanche_probability", "fill_spectrum"]

_LEAST_SLOPE = 0.03  # of a width by a part of it, where that part is next to nothing
_LEAST_VALUE = 1e-290  # of a bin: counts where nothing can be have a logarithm, and move nothing
_LEAST_GAIN = 1e-9  # in units of the least width
_DIGITS = 36.8  # -ln 1e-16: what a peak has beyond its reach is less than that
_SHORTEST = 4.0  # widths to which each peak reaches, however rare
_RARE = 1e-17
_SMOOTH = 40.0  # light from which on P(n) is smooth: P(0) = 4e-18
_LONGEST = 1e6  # distance of the peaks that are summed
_LAST = 1e15  # number of a peak
_TRAPEZOIDAL = 24.0  # -ln of the relative error of a sum over every so many peaks

# sums may be reordered and multiplications joined, so that loops vectorise; no NaN or infinity is tested for
_summing: Any = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}
)


@quiet_kernel
def avalanche_probability(n: int, mu: float, crosstalk: float) -> tuple[float, float, float]:
    """Return the probability of n avalanches and its derivatives by mu and by the crosstalk.

    Parameters
    ----------
    n : int
        0 or more.
    mu : float
        Mean number of primary avalanches, 0 or more.
    crosstalk : float
        Mean number of avalanches that one starts, 0 to 1.

    Notes
    -----
    With ``s = mu + n l`` and ``R = s^(n - 2) exp(-s) / n!`` the probability is ``mu s R``: nothing is divided by mu or s,
    and the limits of no light and no crosstalk are exact.
    """
    if n == 0:
        none = math.exp(-mu)
        return none, -none, 0.0
    total = mu + n * crosstalk
    if n == 1:
        part = math.exp(-total)
        return mu * part, (1.0 - mu) * part, -mu * part
    if total > 0.0:
        rest = math.exp((n - 2) * math.log(total) - total - math.lgamma(n + 1.0))
    else:
        rest = 0.5 if n == 2 else 0.0
    part = total * rest
    return mu * part, part * (1.0 - mu) + mu * (n - 1) * rest, mu * n * ((n - 1) * rest - part)


@quiet_kernel
def _first_and_stride(
    mu: float, crosstalk: float, gain: float, noise: float, smearing: float, low: float, smallest: float
) -> tuple[int, int]:
    """Return the first peak that reaches what lies above `low` (from the baseline), and the distance of those summed.

    Where peaks overlap, the sum over n is the trapezoidal rule for an integral over a smooth function, and every second or
    tenth peak does as well: the error is the characteristic function at 2 pi / distance. For normal peaks of width sigma
    (in units of their distance) that is exp(-2 pi^2 sigma^2); for P(n) with little or with much crosstalk, in which it
    comes to be an inverse Gaussian distribution, ``exp(mu (1 - l) (1 - Re sqrt(1 - 2 i u)))``, ``u = 2 pi / distance / (1 - l)^2``.
    """
    less = 1.0 - crosstalk
    # peaks that stand lower are not wider than this one
    there = max(low / gain, 0.0)
    reach = math.sqrt(2 * _DIGITS) * max(math.sqrt(noise * noise + there * smearing * smearing), smallest)
    first = max(math.floor((low - reach) / gain), 0.0)
    stride = 1
    if mu > _SMOOTH:
        mean, deviation = mu / less, math.sqrt(mu / less) / less
        lowest = max(first, mean - 9.0 * deviation)
        width = max(math.sqrt(noise * noise + lowest * smearing * smearing), smallest) / gain
        root = 1.0 + _TRAPEZOIDAL / (mu * less)
        share = 2.0 * math.pi / (0.5 * math.sqrt((2.0 * root * root - 1.0) ** 2 - 1.0) * less * less)
        peak = 2.0 * math.pi * width / math.sqrt(2.0 * _TRAPEZOIDAL)
        stride = max(int(min(share * peak / math.sqrt(share * share + peak * peak), _LONGEST)), 1)
        if stride * gain < smallest:
            first = lowest
    return int(min(first, _LAST)), stride


@_summing
def _fill_edges(
    x: FloatArray, centre: float, inverse: float, z: FloatArray, tail: FloatArray, density: FloatArray
) -> None:
    for i in range(x.size):
        z[i] = (x[i] - centre) * inverse
        tail[i], density[i] = normal_tail(abs(z[i]))


@_summing
def _fill_bins(
    inverse: float, z: FloatArray, tail: FloatArray, density: FloatArray, unit: FloatArray, pull: FloatArray,
    widen: FloatArray,
) -> None:  # fmt: skip
    """Fill integral of a normal peak over bins, and its derivatives by centre and width."""
    for i in range(unit.size):
        # without loss of digits in either tail
        beside = abs(tail[i] - tail[i + 1])
        across = 1.0 - tail[i] - tail[i + 1]
        unit[i] = across if (z[i] < 0.0) & (z[i + 1] > 0.0) else beside
        pull[i] = (density[i] - density[i + 1]) * inverse
        widen[i] = (z[i] * density[i] - z[i + 1] * density[i + 1]) * inverse


@_summing
def _add_three(
    f: FloatArray, a: float, b: float, c: float, to_a: FloatArray, to_b: FloatArray, to_c: FloatArray
) -> None:
    for i in range(f.size):
        to_a[i] += a * f[i]
        to_b[i] += b * f[i]
        to_c[i] += c * f[i]


@_summing
def _add_two(f: FloatArray, a: float, b: float, to_a: FloatArray, to_b: FloatArray) -> None:
    for i in range(f.size):
        to_a[i] += a * f[i]
        to_b[i] += b * f[i]


@quiet_kernel
def _window(x: FloatArray, low: float, high: float, first: int, last: int) -> tuple[int, int]:
    """Return the edges around a stretch, looked for from those around the stretch of the peak before."""
    top = x.size - 1
    while first > 0 and x[first] > low:
        first -= 1
    while first < top - 1 and x[first + 1] <= low:
        first += 1
    last = max(last, first + 1)
    while last > first + 1 and x[last - 1] >= high:
        last -= 1
    while last < top and x[last] < high:
        last += 1
    return first, last


@quiet_kernel
def fill_spectrum(
    x: FloatArray, p: FloatArray, bins: bool, value: FloatArray, derivative: FloatArray
) -> None:
    """Fill the density of the spectrum at points, or its integral over bins, with derivatives.

    Parameters
    ----------
    x : ndarray of float64, shape (n,) or (n + 1,)
        Points, or edges that increase.
    p : ndarray of float64, shape (6,) or more
        Mean number of primary avalanches, crosstalk, baseline, gain, electronics noise, gain smearing.
    bins : bool
        Whether x are edges.
    value, derivative : ndarray of float64, shape (n,) and (6 or more, n)
        Changed in place; the first six rows of the derivatives.

    Notes
    -----
    A peak adds to the bins in which it has more than 1e-16, but at least to those within four widths and up to its
    neighbours: no bin between rare peaks is left without a value.
    """
    mu, crosstalk, baseline, noise, smearing = p[0], p[1], p[2], p[4], p[5]
    if not math.isfinite(mu + crosstalk + baseline + p[3] + noise + smearing):
        value[:] = math.nan
        return
    smallest = width_floor(x)
    gain = max(p[3], _LEAST_GAIN * smallest)
    value[:] = 0.0
    derivative[:6] = 0.0
    scratch = np.empty((6, x.size))
    low, high = (x[0], x[x.size - 1]) if bins else (x.min(), x.max())
    n, stride = _first_and_stride(mu, crosstalk, gain, noise, smearing, low - baseline, smallest)
    mean = mu / (1.0 - crosstalk)
    begun = False
    first, last = 0, 1
    while True:
        chance, by_mu, by_crosstalk = avalanche_probability(n, mu, crosstalk)
        centre = baseline + n * gain
        # without light there are no avalanches, but a derivative by it
        size = max(chance, 1e-3 * abs(by_mu))
        rare = size < _RARE
        # rare peaks are there for the bins between them; where they stand closer than bins, the others fill these
        needless = rare and stride * gain < smallest
        if begun and rare and n > mean and (needless or size < _LEAST_VALUE or centre - stride * gain > high):
            break
        if rare and n < mean and (needless or centre + stride * gain < low):
            n += stride
            continue
        width = max(math.sqrt(noise * noise + n * smearing * smearing), smallest)
        digits = math.log(max(size, 1e-300)) + _DIGITS
        reach = max(width * max(_SHORTEST, math.sqrt(2.0 * max(digits, 0.0))), stride * gain)
        if begun and centre - reach > high:
            break
        # the first one is all that lies below it
        first, last = (
            _window(x, centre - reach if begun else low, centre + reach, first, last) if bins else (0, x.size)
        )
        begun = True
        inverse = 1.0 / width
        weight = stride * max(chance, _LEAST_VALUE)
        by_noise = weight * max(noise, _LEAST_SLOPE * width) * inverse
        by_smearing = weight * n * max(smearing, _LEAST_SLOPE * width) * inverse
        edges = x[first : last + 1] if bins else x
        length = last - first
        z, tail, density = scratch[0, : edges.size], scratch[1, : edges.size], scratch[2, : edges.size]
        unit, pull, widen = scratch[3, :length], scratch[4, :length], scratch[5, :length]
        _fill_edges(edges, centre, inverse, z, tail, density)
        if bins:
            _fill_bins(inverse, z, tail, density, unit, pull, widen)
        else:
            for i in range(length):
                unit[i] = density[i] * inverse
                pull[i] = unit[i] * z[i] * inverse
                widen[i] = unit[i] * (z[i] * z[i] - 1.0) * inverse
        here = slice(first, last)
        _add_three(
            unit,
            weight,
            stride * by_mu,
            stride * by_crosstalk,
            value[here],
            derivative[0, here],
            derivative[1, here],
        )
        _add_two(pull, weight, weight * n, derivative[2, here], derivative[3, here])
        _add_two(widen, by_noise, by_smearing, derivative[4, here], derivative[5, here])
        n += stride
    for i in range(value.size):
        value[i] = max(value[i], _LEAST_VALUE)
