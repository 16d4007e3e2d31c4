"""Integral spectrum of a photo-peak with charge sharing: what a threshold scan under a mono-energetic source sees."""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.fit.model import Model, Parameter
from firstlight.fit.models.starts import falling_edge, in_order, width_floor
from firstlight.fit.prototypes import curve_kernel, start_kernel
from firstlight.fit.special import normal_integrals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["PHOTOPEAK_PARAMETERS", "edge_start", "photopeak", "photopeak_background"]

PHOTOPEAK_PARAMETERS = (
    Parameter("step", "rate of the photo-peak", "y", 0.0),
    Parameter("slope", "rate of shared charge per unit of x", "y/x", 0.0, weak=True),
    Parameter("width", "standard deviation of the peak", "x", 0.0, weak=True),
    Parameter("position", "centre of the peak", "x"),
)


@kernel
def _terms(
    x: FloatArray,
    step: float,
    slope: float,
    width: float,
    position: float,
    value: FloatArray,
    derivative: FloatArray,
) -> None:
    inverse = 1.0 / width
    for i in range(value.size):
        z = (x[i] - position) * inverse
        area, tail, density = normal_integrals(z)
        shared = width * area
        pull = step * inverse * density
        value[i] = step * tail + slope * shared
        derivative[0, i] = tail
        derivative[1, i] = shared
        derivative[2, i] = pull * z + slope * (area + z * tail)
        derivative[3, i] = pull + slope * tail


@kernel
def _terms_integral(
    x: FloatArray,
    step: float,
    slope: float,
    width: float,
    position: float,
    value: FloatArray,
    derivative: FloatArray,
) -> None:
    inverse = 1.0 / width
    z = (x[0] - position) * inverse
    area, tail, density = normal_integrals(z)
    second = 0.5 * (tail - z * area)
    for i in range(value.size):
        z = (x[i + 1] - position) * inverse
        next_area, next_tail, next_density = normal_integrals(z)
        next_second = 0.5 * (next_tail - z * next_area)
        of_step = width * (area - next_area)
        of_slope = width * width * (second - next_second)
        of_tail = tail - next_tail
        value[i] = step * of_step + slope * of_slope
        derivative[0, i] = of_step
        derivative[1, i] = of_slope
        derivative[2, i] = step * (density - next_density) + slope * width * of_tail
        derivative[3, i] = step * of_tail + slope * of_step
        area, tail, density, second = next_area, next_tail, next_density, next_second


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _terms(x, p[0], p[1], max(p[2], width_floor(x)), p[3], value, derivative)


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _terms_integral(x, p[0], p[1], max(p[2], width_floor(x)), p[3], value, derivative)


@curve_kernel
def _curve_background(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _terms(x, p[0], p[1], max(p[2], width_floor(x)), p[3], value, derivative)
    for i in range(value.size):
        value[i] += p[4]
        derivative[4, i] = 1.0


@curve_kernel
def _integral_background(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _terms_integral(x, p[0], p[1], max(p[2], width_floor(x)), p[3], value, derivative)
    for i in range(value.size):
        value[i] += p[4] * (x[i + 1] - x[i])
        derivative[4, i] = x[i + 1] - x[i]


@kernel
def edge_start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, with_floor: bool, found: FloatArray
) -> None:
    """Fill step, slope, width, position and background from the data.

    Parameters
    ----------
    x, counts, exposure : ndarray of float64, shape (n,)
        Used points, in any order.
    with_floor : bool
        Whether there is a background.
    found : ndarray of float64, shape (5,)
        Filled.
    """
    x, counts, exposure = in_order(x, counts, exposure)
    edge = np.empty(5)
    falling_edge(x, counts, exposure, with_floor, edge)
    span = x[x.size - 1] - x[0] if x.size > 1 else 1.0
    found[0] = edge[1]
    found[1] = max(edge[2], 0.05 * edge[1] / span if span > 0 else 0.0)
    found[2] = edge[3]
    found[3] = edge[0]
    found[4] = edge[4]


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    found = np.empty(5)
    edge_start(x, counts, exposure, False, found)
    p[:4] = found[:4]


@start_kernel
def _start_background(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    edge_start(x, counts, exposure, True, p)


_SOURCE = (
    "convolution of a step and of a flat spectrum of shared charge with a normal distribution; "
    "compare P. Kraft et al., J. Synchrotron Rad. 16 (2009) 368, eq. 4"
)

photopeak = Model(
    "photopeak",
    PHOTOPEAK_PARAMETERS,
    curve=_curve,
    integral=_integral,
    start=_start,
    formula="step Q(z) + slope width [phi(z) - z Q(z)], z = (x - position) / width",
    source=_SOURCE,
)

photopeak_background = Model(
    "photopeak_background",
    (*PHOTOPEAK_PARAMETERS, Parameter("background", "constant rate", "y", 0.0, weak=True)),
    curve=_curve_background,
    integral=_integral_background,
    start=_start_background,
    formula="step Q(z) + slope width [phi(z) - z Q(z)] + background, z = (x - position) / width",
    source=_SOURCE,
)
