"""A normal peak, alone or on a constant background."""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.fit.model import Model, Parameter
from firstlight.fit.models.starts import in_order, spacing, width_floor
from firstlight.fit.prototypes import curve_kernel, start_kernel
from firstlight.fit.special import normal_tail, tail_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["gaussian", "gaussian_background"]


@kernel
def _peak(
    x: FloatArray, area: float, mean: float, width: float, value: FloatArray, derivative: FloatArray
) -> None:
    inverse = 1.0 / width
    for i in range(value.size):
        z = (x[i] - mean) * inverse
        _, density = normal_tail(z)
        unit = density * inverse
        pull = area * unit * inverse
        value[i] = area * unit
        derivative[0, i] = unit
        derivative[1, i] = pull * z
        derivative[2, i] = pull * (z * z - 1.0)


@kernel
def _peak_integral(
    x: FloatArray, area: float, mean: float, width: float, value: FloatArray, derivative: FloatArray
) -> None:
    inverse = 1.0 / width
    low = (x[0] - mean) * inverse
    tail_low, density_low = normal_tail(abs(low))
    for i in range(value.size):
        high = (x[i + 1] - mean) * inverse
        tail_high, density_high = normal_tail(abs(high))
        unit = tail_between(low, tail_low, high, tail_high)
        value[i] = area * unit
        derivative[0, i] = unit
        derivative[1, i] = area * inverse * (density_low - density_high)
        derivative[2, i] = area * inverse * (low * density_low - high * density_high)
        low, tail_low, density_low = high, tail_high, density_high


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _peak(x, p[0], p[1], max(p[2], width_floor(x)), value, derivative)


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _peak_integral(x, p[0], p[1], max(p[2], width_floor(x)), value, derivative)


@curve_kernel
def _curve_background(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _peak(x, p[0], p[1], max(p[2], width_floor(x)), value, derivative)
    for i in range(value.size):
        value[i] += p[3]
        derivative[3, i] = 1.0


@curve_kernel
def _integral_background(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _peak_integral(x, p[0], p[1], max(p[2], width_floor(x)), value, derivative)
    for i in range(value.size):
        value[i] += p[3] * (x[i + 1] - x[i])
        derivative[3, i] = x[i + 1] - x[i]


@kernel
def _densest(x: FloatArray, rate: FloatArray, floor: float) -> tuple[int, int]:
    """Return the first and last point of the shortest stretch with half of what is above the floor."""
    n = x.size
    above = np.empty(n)
    total = 0.0
    for i in range(n):
        above[i] = max(rate[i] - floor, 0.0) * spacing(x, i)
        total += above[i]
    best_first, best_last, best = 0, n - 1, np.inf
    first, inside = 0, 0.0
    for last in range(n):
        inside += above[last]
        while first < last and inside - above[first] >= 0.5 * total:
            inside -= above[first]
            first += 1
        if inside >= 0.5 * total:
            length = x[last] - x[first] + 0.5 * (spacing(x, first) + spacing(x, last))
            # of stretches of the same length the one with more in it
            length /= inside
            if length < best:
                best_first, best_last, best = first, last, length
    return best_first, best_last


@kernel
def _inside(
    x: FloatArray, rate: FloatArray, floor: float, mean: float, reach: float
) -> tuple[float, float, float]:
    """Return area and two moments of what is above the floor near a point."""
    s0 = s1 = s2 = 0.0
    for i in range(x.size):
        t = x[i] - mean
        if abs(t) <= reach:
            part = (rate[i] - floor) * spacing(x, i)
            s0 += part
            s1 += part * t
            s2 += part * t * t
    return s0, s1, s2


@kernel
def _outside(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, mean: float, reach: float, otherwise: float
) -> float:
    """Return the mean rate far from a point; `otherwise` without points there."""
    total = weight = 0.0
    for i in range(x.size):
        if abs(x[i] - mean) > reach:
            total += counts[i]
            weight += exposure[i]
    return total / weight if weight > 0 else otherwise


@kernel
def _moments(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, with_floor: bool, found: FloatArray
) -> None:
    """Fill area, mean, width and background.

    The shortest stretch that holds half of all is where the peak is, whatever else lies far away. From it the
    window of mean +- 2.5 widths is found in three steps; its moments are corrected for what it cuts off.
    """
    n = x.size
    if n == 0:
        found[:] = 0.0
        found[2] = 1.0
        return
    rate = np.empty(n)
    for i in range(n):
        rate[i] = counts[i] / exposure[i]
    floor = 0.0
    if with_floor:
        # the lower quarter of the points: below the mean of a flat background by 1.3 of its errors
        lower = np.sort(rate)[: max(n // 4, 1)]
        floor = lower.mean()
    first, last = _densest(x, rate, floor)
    step = (x[n - 1] - x[0]) / (n - 1) if n > 1 else 1.0
    smallest = max(0.35 * step, 1e-300)
    mean = 0.5 * (x[first] + x[last])
    # half of a normal distribution lies within +- 0.6745 widths
    width = max((x[last] - x[first] + step) / (2 * 0.6745), smallest)
    area = 0.0
    for turn in range(3):
        if with_floor and turn > 0:
            floor = _outside(x, counts, exposure, mean, 3.5 * width, floor)
        s0, s1, s2 = _inside(x, rate, floor, mean, 2.5 * width + 0.5 * step)
        if s0 <= 0:
            break
        area = s0 / 0.9876
        middle = min(max(s1 / s0, -2.5 * width), 2.5 * width)
        # a normal distribution cut at 2.5 widths has 0.911 of its variance
        variance = (s2 / s0 - middle * middle) / 0.911
        mean += middle
        width = min(max(np.sqrt(max(variance, 0.0)), smallest, 0.5 * width), 2.0 * width)
    if area <= 0:
        for i in range(n):
            area += max(rate[i], 0.0) * spacing(x, i)
    found[0], found[1], found[2], found[3] = area, mean, width, max(floor, 0.0)


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    x, counts, exposure = in_order(x, counts, exposure)
    found = np.empty(4)
    _moments(x, counts, exposure, False, found)
    p[:3] = found[:3]


@start_kernel
def _start_background(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    x, counts, exposure = in_order(x, counts, exposure)
    _moments(x, counts, exposure, True, p)


_PARAMETERS = (
    Parameter("area", "integral over x", "y x", 0.0),
    Parameter("mean", "centre", "x"),
    Parameter("width", "standard deviation", "x", 0.0),
)

gaussian = Model(
    "gaussian",
    _PARAMETERS,
    curve=_curve,
    integral=_integral,
    start=_start,
    formula="area / width phi(z), z = (x - mean) / width",
    source="normal distribution",
)

gaussian_background = Model(
    "gaussian_background",
    (*_PARAMETERS, Parameter("background", "constant density", "y", 0.0, weak=True)),
    curve=_curve_background,
    integral=_integral_background,
    start=_start_background,
    formula="area / width phi(z) + background, z = (x - mean) / width",
    source="normal distribution on a constant",
)
