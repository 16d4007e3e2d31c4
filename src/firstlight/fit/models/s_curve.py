"""S-curves: the probability to fire against an injected charge or a threshold."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.fit.model import Model, Parameter
from firstlight.fit.models.starts import in_order, spacing, width_floor
from firstlight.fit.prototypes import curve_kernel, start_kernel
from firstlight.fit.special import normal_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["s_curve", "s_curve_falling", "s_curve_floor", "s_curve_floor_falling"]

_NOISE_AREA = math.sqrt(math.pi)


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    sign = -1.0 if constants.size and constants[0] < 0 else 1.0
    inverse = sign / max(p[1], width_floor(x))
    for i in range(value.size):
        z = (p[0] - x[i]) * inverse
        tail, density = normal_tail(z)
        value[i] = tail
        derivative[0, i] = -density * inverse
        derivative[1, i] = density * z * inverse * sign


@curve_kernel
def _curve_floor(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    sign = -1.0 if constants.size and constants[0] < 0 else 1.0
    inverse = sign / max(p[1], width_floor(x))
    height = p[3] - p[2]
    for i in range(value.size):
        z = (p[0] - x[i]) * inverse
        tail, density = normal_tail(z)
        value[i] = p[2] + height * tail
        derivative[0, i] = -height * density * inverse
        derivative[1, i] = height * density * z * inverse * sign
        derivative[2, i] = 1.0 - tail
        derivative[3, i] = tail


@kernel
def _monotone(y: FloatArray, w: FloatArray) -> FloatArray:
    """Return the rising sequence nearest to y with weights w (pool adjacent violators)."""
    n = y.size
    level, weight, length = np.empty(n), np.empty(n), np.empty(n, dtype=np.int64)
    m = 0
    for i in range(n):
        level[m], weight[m], length[m] = y[i], w[i], 1
        m += 1
        while m > 1 and level[m - 2] >= level[m - 1]:
            both = weight[m - 2] + weight[m - 1]
            level[m - 2] = (level[m - 2] * weight[m - 2] + level[m - 1] * weight[m - 1]) / both
            weight[m - 2] = both
            length[m - 2] += length[m - 1]
            m -= 1
    out = np.empty(n)
    place = 0
    for j in range(m):
        out[place : place + length[j]] = level[j]
        place += length[j]
    return out


@kernel
def _plateaus(rising: FloatArray, fraction: FloatArray, exposure: FloatArray) -> tuple[float, float]:
    """Return the mean fractions below and above the edge."""
    low, high = rising[0], rising[rising.size - 1]
    for _ in range(2):
        near_low, near_high = low + 0.15 * (high - low), high - 0.15 * (high - low)
        a = aw = b = bw = 0.0
        for i in range(rising.size):
            if rising[i] <= near_low:
                a += fraction[i] * exposure[i]
                aw += exposure[i]
            if rising[i] >= near_high:
                b += fraction[i] * exposure[i]
                bw += exposure[i]
        low, high = (a / aw if aw > 0 else low), (b / bw if bw > 0 else high)
    if high - low < 1e-3:
        return max(low - 0.05, 0.0), min(high + 0.05, 1.0)
    return low, high


@kernel
def _crossing(x: FloatArray, rising: FloatArray, middle: float) -> float:
    """Return where a rising sequence crosses a level, the nearest end if it does not."""
    if rising[0] >= middle:
        return float(x[0])
    for i in range(1, x.size):
        if rising[i] > middle:
            part = (middle - rising[i - 1]) / (rising[i] - rising[i - 1])
            return float(x[i - 1] + part * (x[i] - x[i - 1]))
    return float(x[x.size - 1])


@kernel
def _s_start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, sign: float, free: bool, found: FloatArray
) -> None:
    """Fill threshold, noise, lower and upper plateau.

    The fractions are made monotone; the threshold is where they cross the middle. The noise comes from an area
    that needs no fit: the integral of p (1 - p) over x is noise / sqrt(pi).
    """
    n = x.size
    if n == 0:
        found[0], found[1], found[2], found[3] = 0.0, 1.0, 0.0, 1.0
        return
    fraction = np.empty(n)
    for i in range(n):
        share = min(max(counts[i] / exposure[i], 0.0), 1.0)
        fraction[i] = share if sign > 0 else 1.0 - share
    rising = _monotone(fraction, exposure)
    low, high = _plateaus(rising, fraction, exposure) if free else (0.0, 1.0)
    threshold = _crossing(x, rising, 0.5 * (low + high))
    area = 0.0
    for i in range(n):
        q = min(max((rising[i] - low) / (high - low), 0.0), 1.0)
        area += q * (1.0 - q) * spacing(x, i)
    step = (x[n - 1] - x[0]) / (n - 1) if n > 1 else 1.0
    found[0] = threshold
    found[1] = min(max(_NOISE_AREA * area, 0.35 * step), max(0.5 * (x[n - 1] - x[0]), 0.35 * step))
    found[2], found[3] = (low, high) if sign > 0 else (1.0 - high, 1.0 - low)


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    sign = -1.0 if constants.size and constants[0] < 0 else 1.0
    x, counts, exposure = in_order(x, counts, exposure)
    found = np.empty(4)
    _s_start(x, counts, exposure, sign, False, found)
    p[:2] = found[:2]


@start_kernel
def _start_floor(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    sign = -1.0 if constants.size and constants[0] < 0 else 1.0
    x, counts, exposure = in_order(x, counts, exposure)
    _s_start(x, counts, exposure, sign, True, p)


_THRESHOLD = Parameter("threshold", "where the curve is half-way between its plateaus", "x")
_NOISE = Parameter("noise", "standard deviation of the edge", "x", 0.0)

s_curve = Model(
    "s_curve",
    (_THRESHOLD, _NOISE),
    curve=_curve,
    start=_start,
    constants=(1.0,),
    kind="probability",
    formula="Phi((x - threshold) / noise); constant: +1 rising, -1 falling with x",
    source="normal noise at a discriminator: C. Bliss, Annals of Applied Biology 22 (1935) 134 (probit)",
)

s_curve_floor = Model(
    "s_curve_floor",
    (
        _THRESHOLD,
        _NOISE,
        Parameter("lower", "probability of the lower plateau", "", 0.0, 1.0, weak=True),
        Parameter("upper", "probability of the upper plateau", "", 0.0, 1.0, weak=True),
    ),
    curve=_curve_floor,
    start=_start_floor,
    constants=(1.0,),
    kind="probability",
    formula="lower + (upper - lower) Phi((x - threshold) / noise); constant: +1 rising, -1 falling with x",
    source="s_curve with noise hits and lost hits",
)

s_curve_falling = replace(s_curve, name="s_curve_falling", constants=(-1.0,))
s_curve_floor_falling = replace(s_curve_floor, name="s_curve_floor_falling", constants=(-1.0,))
