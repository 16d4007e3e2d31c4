"""Equally spaced normal peaks: the charge spectrum of a photon counter."""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.errors import UsageError
from firstlight.fit.model import Model, Parameter
from firstlight.fit.models.starts import in_order, straighten_teeth, sum_teeth, teeth_widths, width_floor
from firstlight.fit.prototypes import curve_kernel, start_kernel
from firstlight.fit.special import normal_tail, tail_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "gaussian_comb2", "gaussian_comb3", "gaussian_comb4", "gaussian_comb5", "gaussian_comb6", "gaussian_comb7",
    "gaussian_comb8", "make_gaussian_comb",
]  # fmt: skip

_SHARED = 4  # parameters of all peaks together; areas follow
_MOST = 60
_LEAST_SLOPE = 0.03
_SEEN = 0.01  # a first peak has at least this share of the counts


@kernel
def _width(p: FloatArray, k: int, smallest: float) -> float:
    return max(math.sqrt(p[2] * p[2] + k * p[3] * p[3]), smallest)


@kernel
def _slope(p: FloatArray, k: int, width: float) -> float:
    """Return the derivative of the width of a peak by the gain width.

    It vanishes at a gain width of zero, where a fit would stay for ever; near zero it is that of a small one.
    """
    return float(k * max(p[3], _LEAST_SLOPE * width) / width)


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    smallest = width_floor(x)
    value[:] = 0.0
    derivative[:_SHARED] = 0.0
    for k in range(p.size - _SHARED):
        width = _width(p, k, smallest)
        inverse = 1.0 / width
        centre, area = p[0] + k * p[1], p[_SHARED + k]
        of_pedestal, of_gain = p[2] * inverse, _slope(p, k, width)
        for i in range(value.size):
            z = (x[i] - centre) * inverse
            _, density = normal_tail(z)
            unit = density * inverse
            pull = area * unit * inverse
            widen = pull * (z * z - 1.0)
            value[i] += area * unit
            derivative[0, i] += pull * z
            derivative[1, i] += k * pull * z
            derivative[2, i] += widen * of_pedestal
            derivative[3, i] += widen * of_gain
            derivative[_SHARED + k, i] = unit


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    smallest = width_floor(x)
    value[:] = 0.0
    derivative[:_SHARED] = 0.0
    for k in range(p.size - _SHARED):
        width = _width(p, k, smallest)
        inverse = 1.0 / width
        centre, area = p[0] + k * p[1], p[_SHARED + k]
        of_pedestal, of_gain = p[2] * inverse, _slope(p, k, width)
        low = (x[0] - centre) * inverse
        tail_low, density_low = normal_tail(abs(low))
        for i in range(value.size):
            high = (x[i + 1] - centre) * inverse
            tail_high, density_high = normal_tail(abs(high))
            unit = tail_between(low, tail_low, high, tail_high)
            pull = area * inverse * (density_low - density_high)
            widen = area * inverse * (low * density_low - high * density_high)
            value[i] += area * unit
            derivative[0, i] += pull
            derivative[1, i] += k * pull
            derivative[2, i] += widen * of_pedestal
            derivative[3, i] += widen * of_gain
            derivative[_SHARED + k, i] = unit
            low, tail_low, density_low = high, tail_high, density_high


@kernel
def _prominences(smooth: FloatArray) -> FloatArray:
    """Return how far each local maximum rises above the lowest point before it; 0 elsewhere."""
    prominence = np.zeros_like(smooth)
    lowest = smooth[0]
    for lag in range(2, smooth.size - 1):
        lowest = min(lowest, smooth[lag])
        if smooth[lag] >= smooth[lag - 1] and smooth[lag] >= smooth[lag + 1]:
            prominence[lag] = smooth[lag] - lowest
    return prominence


@kernel
def _distance(x: FloatArray, root: FloatArray, step: float) -> float:
    """Return the distance of neighbouring peaks: the first prominent maximum of the autocorrelation.

    Parameters
    ----------
    x, root : ndarray of float64, shape (n,)
        Points in order, and square roots of the rates: small peaks count as well.
    step : float
        Distance of points; the autocorrelation is taken in units of it.
    """
    n = min(int((x[x.size - 1] - x[0]) / step + 1.5), 4 * x.size)
    grid = np.zeros(n)
    for i in range(x.size):
        grid[min(int((x[i] - x[0]) / step + 0.5), n - 1)] = root[i]
    product = np.zeros(n)
    for lag in range(n):
        for i in range(n - lag):
            product[lag] += grid[i] * grid[i + lag]
    smooth = product.copy()
    half = 0
    while half < n - 1 and product[half] > 0.7 * product[0]:
        half += 1
    # narrow peaks would be washed out, wide ones carry the noise of many points
    for _ in range(half // 6):
        before = smooth[0]
        for lag in range(1, n - 1):
            here = smooth[lag]
            smooth[lag] = 0.25 * before + 0.5 * here + 0.25 * smooth[lag + 1]
            before = here
    found = 0
    prominence = _prominences(smooth)
    best = prominence.max() if n else 0.0
    while found < n and not (prominence[found] > 0 and prominence[found] > 0.5 * best):
        found += 1
    if found >= n - 1:
        return 0.0
    bend = smooth[found - 1] - 2 * smooth[found] + smooth[found + 1]
    part = 0.5 * (smooth[found - 1] - smooth[found + 1]) / bend if bend < 0 else 0.0
    return (found + part) * step


@kernel
def _phase(x: FloatArray, root: FloatArray, distance: float) -> tuple[float, float]:
    """Return how well peaks at multiples of a distance fit, and where they stand."""
    origin = x[0]
    along, across = 0.0, 0.0
    for i in range(x.size):
        angle = 2 * math.pi * (x[i] - origin) / distance
        along += root[i] * math.cos(angle)
        across += root[i] * math.sin(angle)
    return along * along + across * across, origin + distance * math.atan2(across, along) / (2 * math.pi)


@kernel
def _first_peak(x: FloatArray, counts: FloatArray, place: float, gain: float) -> float:
    """Return the position of the first peak that holds a share of the counts."""
    n_before = math.floor((place - x[0]) / gain + 0.5)
    first = place - n_before * gain
    number = int((x[x.size - 1] - first) / gain + 1.5)
    held = np.zeros(max(number, 1))
    for i in range(x.size):
        k = math.floor((x[i] - first) / gain + 0.5)
        if 0 <= k < held.size:
            held[k] += counts[i]
    least = max(_SEEN * held.sum(), 3.0)
    for k in range(held.size):
        if held[k] >= least:
            return float(first + k * gain)
    return float(first)


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    p[:] = 0.0
    p[1] = p[2] = p[3] = 1.0
    n = x.size
    if n < 3:
        return
    x, counts, exposure = in_order(x, counts, exposure)
    rate, root = np.empty(n), np.empty(n)
    step = x[n - 1] - x[0]
    for i in range(n):
        rate[i] = counts[i] / exposure[i]
        root[i] = math.sqrt(max(rate[i], 0.0))
        if i > 0 and x[i] > x[i - 1]:
            step = min(step, x[i] - x[i - 1])
    if step <= 0:
        return
    gain = _distance(x, root, step)
    if gain <= 0:
        gain = (x[n - 1] - x[0]) / (p.size - _SHARED + 1)
    best, centre, place = -1.0, gain, x[0]
    for j in range(-8, 9):
        tried = centre * (1 + 0.01 * j)
        fitness, where = _phase(x, root, tried)
        if fitness > best:
            best, gain, place = fitness, tried, where
    first = _first_peak(x, counts, place, gain)
    sums = np.empty((4, p.size - _SHARED))
    for _ in range(2):
        sum_teeth(x, rate, counts, first, gain, sums)
        first, gain = straighten_teeth(sums, first, gain)
    sum_teeth(x, rate, counts, first, gain, sums)
    p[0], p[1] = first, gain
    p[2], p[3] = teeth_widths(sums, 0.35 * step, gain)
    for k in range(sums.shape[1]):
        p[_SHARED + k] = sums[1, k]


def make_gaussian_comb(n_peaks: int) -> Model:
    """Return equally spaced normal peaks with free areas.

    Parameters
    ----------
    n_peaks : int
        2 to 60, the pedestal included. Where a spectrum has no pedestal, fix ``area_0`` to 0.

    Raises
    ------
    UsageError
        If the number is not in the range.
    """
    if not 2 <= n_peaks <= _MOST:
        what = f"number of peaks must be 2 to {_MOST}, not {n_peaks}"
        raise UsageError(what)
    shared = (
        Parameter("baseline", "centre of the pedestal", "x"),
        Parameter("gain", "distance of neighbouring peaks", "x", 0.0),
        Parameter("pedestal_width", "standard deviation of the pedestal", "x", 0.0),
        Parameter(
            "gain_width",
            "standard deviation that each further charge adds in quadrature",
            "x",
            0.0,
            weak=True,
        ),
    )
    areas = tuple(Parameter(f"area_{k}", f"integral of peak {k}", "y x", 0.0) for k in range(n_peaks))
    return Model(
        f"gaussian_comb{n_peaks}",
        (*shared, *areas),
        curve=_curve,
        integral=_integral,
        start=_start,
        formula=(
            "sum of area_k / width_k phi((x - baseline - k gain) / width_k), "
            "width_k^2 = pedestal_width^2 + k gain_width^2"
        ),
        source="E. H. Bellamy et al., Nucl. Instrum. Meth. A 339 (1994) 468, with free weights",
    )


gaussian_comb2 = make_gaussian_comb(2)
gaussian_comb3 = make_gaussian_comb(3)
gaussian_comb4 = make_gaussian_comb(4)
gaussian_comb5 = make_gaussian_comb(5)
gaussian_comb6 = make_gaussian_comb(6)
gaussian_comb7 = make_gaussian_comb(7)
gaussian_comb8 = make_gaussian_comb(8)
