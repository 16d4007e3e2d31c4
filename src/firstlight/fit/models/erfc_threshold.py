"""A plateau that falls off at a threshold with a normal edge, over a constant background."""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.fit.model import Model, Parameter
from firstlight.fit.models.starts import falling_edge, in_order, width_floor
from firstlight.fit.prototypes import curve_kernel, start_kernel
from firstlight.fit.special import normal_integrals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["erfc_threshold"]


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    amplitude, slope, position, width, background = p[0], p[1], p[2], max(p[3], width_floor(x)), p[4]
    inverse = 1.0 / width
    for i in range(value.size):
        z = (x[i] - position) * inverse
        area, tail, density = normal_integrals(z)
        ramp = width * area
        pull = amplitude * inverse * density
        value[i] = amplitude * tail + slope * ramp + background
        derivative[0, i] = tail
        derivative[1, i] = ramp
        derivative[2, i] = pull + slope * tail
        derivative[3, i] = pull * z + slope * (area + z * tail)
        derivative[4, i] = 1.0


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    amplitude, slope, position, width, background = p[0], p[1], p[2], max(p[3], width_floor(x)), p[4]
    inverse = 1.0 / width
    z = (x[0] - position) * inverse
    area, tail, density = normal_integrals(z)
    second = 0.5 * (tail - z * area)
    for i in range(value.size):
        z = (x[i + 1] - position) * inverse
        next_area, next_tail, next_density = normal_integrals(z)
        next_second = 0.5 * (next_tail - z * next_area)
        of_plateau = width * (area - next_area)
        of_ramp = width * width * (second - next_second)
        of_tail = tail - next_tail
        length = x[i + 1] - x[i]
        value[i] = amplitude * of_plateau + slope * of_ramp + background * length
        derivative[0, i] = of_plateau
        derivative[1, i] = of_ramp
        derivative[2, i] = amplitude * of_tail + slope * of_plateau
        derivative[3, i] = amplitude * (density - next_density) + slope * width * of_tail
        derivative[4, i] = length
        area, tail, density, second = next_area, next_tail, next_density, next_second


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    x, counts, exposure = in_order(x, counts, exposure)
    edge = np.empty(5)
    falling_edge(x, counts, exposure, True, edge)
    p[0], p[1], p[2], p[3], p[4] = edge[1], edge[2], edge[0], edge[3], edge[4]


erfc_threshold = Model(
    "erfc_threshold",
    (
        Parameter("amplitude", "height of the plateau at the threshold", "y", 0.0),
        Parameter("slope", "rise of the plateau per unit of x below the threshold", "y/x", weak=True),
        Parameter("position", "threshold: where the plateau has fallen to one half", "x"),
        Parameter("width", "standard deviation of the edge", "x", 0.0),
        Parameter("background", "constant rate on both sides", "y", 0.0, weak=True),
    ),
    curve=_curve,
    integral=_integral,
    start=_start,
    formula="amplitude Q(z) + slope width [phi(z) - z Q(z)] + background, z = (x - position) / width",
    source=(
        "[amplitude + slope (position - x)] below the position, convolved with a normal distribution; far below it this is "
        "the plateau of P. Kraft et al., J. Synchrotron Rad. 16 (2009) 368, eq. 4, and it is nowhere negative above"
    ),
)
