"""An exponential fall, or rise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from firstlight.compiled import kernel
from firstlight.fit.model import Model, Parameter
from firstlight.fit.prototypes import curve_kernel, start_kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["exponential"]

_LARGEST = 700.0  # exp(709) is the largest number


@kernel
def _power(t: float) -> float:
    return math.exp(min(max(t, -_LARGEST), _LARGEST))


@kernel
def _sinh_over(u: float) -> tuple[float, float]:
    """Return sinh(u) / u and its derivative."""
    if abs(u) < 0.05:
        square = u * u
        return (
            1 + square / 6 * (1 + square / 20 * (1 + square / 42)),
            u / 3 * (1 + square / 10 * (1 + square / 28 * (1 + square / 54))),
        )
    plus, minus = _power(u), _power(-u)
    value = 0.5 * (plus - minus) / u
    return value, (0.5 * (plus + minus) - value) / u


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    reference = constants[0] if constants.size else 0.0
    for i in range(value.size):
        t = x[i] - reference
        fall = _power(-p[1] * t)
        value[i] = p[0] * fall
        derivative[0, i] = fall
        derivative[1, i] = -p[0] * t * fall


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    reference = constants[0] if constants.size else 0.0
    for i in range(value.size):
        length = x[i + 1] - x[i]
        t = 0.5 * (x[i] + x[i + 1]) - reference
        fall = _power(-p[1] * t)
        swell, rise = _sinh_over(0.5 * p[1] * length)
        unit = fall * length * swell
        value[i] = p[0] * unit
        derivative[0, i] = unit
        derivative[1, i] = p[0] * (0.5 * length * length * fall * rise - t * unit)


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    reference = constants[0] if constants.size else 0.0
    n = x.size
    # maximum likelihood of the rate given the total: Newton's steps on a convex function
    total, first, low, high = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        total += counts[i]
        first += counts[i] * (x[i] - reference)
        low, high = (min(low, x[i]), max(high, x[i])) if i else (x[i], x[i])
    rate, scale = 0.0, 0.0
    middle = 0.5 * (low + high)
    for _ in range(8):
        s0 = s1 = s2 = 0.0
        for i in range(n):
            t = x[i] - middle
            w = exposure[i] * _power(-rate * t)
            s0 += w
            s1 += w * t
            s2 += w * t * t
        if s0 <= 0 or total <= 0:
            break
        scale = total / s0
        mean = s1 / s0
        variance = s2 / s0 - mean * mean
        if variance <= 0:
            break
        step = (mean - (first / total + reference - middle)) / variance
        largest = 4 / (high - low)
        rate += min(max(step, -largest), largest)
    p[0] = scale * _power(-rate * (reference - middle))
    p[1] = rate


exponential = Model(
    "exponential",
    (
        Parameter("amplitude", "value at the reference point", "y", 0.0),
        Parameter("rate", "fall of the logarithm per unit of x; negative: a rise", "1/x"),
    ),
    curve=_curve,
    integral=_integral,
    start=_start,
    constants=(0.0,),
    formula="amplitude exp(-rate (x - reference)); constant: reference",
    source="exponential distribution",
)
