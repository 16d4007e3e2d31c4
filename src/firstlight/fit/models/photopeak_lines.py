"""Integral spectrum of several photo-peaks at known ratios of energy, with charge sharing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import UsageError
from firstlight.fit.model import Model
from firstlight.fit.models.photopeak import PHOTOPEAK_PARAMETERS, edge_start
from firstlight.fit.models.starts import width_floor
from firstlight.fit.prototypes import curve_kernel, start_kernel
from firstlight.fit.special import normal_integrals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["make_photopeak_lines", "photopeak_lines"]


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    step, slope, width, position = p[0], p[1], max(p[2], width_floor(x)), p[3]
    inverse = 1.0 / width
    value[:] = 0.0
    derivative[:] = 0.0
    for k in range(constants.size // 2):
        ratio, weight = constants[2 * k], constants[2 * k + 1]
        centre = position * ratio
        for i in range(value.size):
            z = (x[i] - centre) * inverse
            area, tail, density = normal_integrals(z)
            shared = width * area
            pull = step * inverse * density
            value[i] += weight * (step * tail + slope * shared)
            derivative[0, i] += weight * tail
            derivative[1, i] += weight * shared
            derivative[2, i] += weight * (pull * z + slope * (area + z * tail))
            derivative[3, i] += weight * ratio * (pull + slope * tail)


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    step, slope, width, position = p[0], p[1], max(p[2], width_floor(x)), p[3]
    inverse = 1.0 / width
    value[:] = 0.0
    derivative[:] = 0.0
    for k in range(constants.size // 2):
        ratio, weight = constants[2 * k], constants[2 * k + 1]
        centre = position * ratio
        z = (x[0] - centre) * inverse
        area, tail, density = normal_integrals(z)
        second = 0.5 * (tail - z * area)
        for i in range(value.size):
            z = (x[i + 1] - centre) * inverse
            next_area, next_tail, next_density = normal_integrals(z)
            next_second = 0.5 * (next_tail - z * next_area)
            of_step = width * (area - next_area)
            of_slope = width * width * (second - next_second)
            of_tail = tail - next_tail
            value[i] += weight * (step * of_step + slope * of_slope)
            derivative[0, i] += weight * of_step
            derivative[1, i] += weight * of_slope
            derivative[2, i] += weight * (step * (density - next_density) + slope * width * of_tail)
            derivative[3, i] += weight * ratio * (step * of_tail + slope * of_step)
            area, tail, density, second = next_area, next_tail, next_density, next_second


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    found = np.empty(5)
    edge_start(x, counts, exposure, False, found)
    total, mean, square = 0.0, 0.0, 0.0
    for k in range(constants.size // 2):
        ratio, weight = constants[2 * k], constants[2 * k + 1]
        total += weight
        mean += weight * ratio
        square += weight * ratio * ratio
    if total <= 0 or mean == 0:
        total = mean = square = 1.0
    mean /= total
    spread = max(square / total - mean * mean, 0.0)
    p[0] = found[0] / total
    p[1] = found[1] / total
    p[3] = found[3] / mean
    # what is seen as one edge is as wide as the lines are apart
    p[2] = np.sqrt(max(found[2] * found[2] - spread * p[3] * p[3], 0.25 * found[2] * found[2]))


def make_photopeak_lines(energies: Sequence[float], weights: Sequence[float]) -> Model:
    """Return the model for the lines of a source.

    Parameters
    ----------
    energies : sequence of float
        Of the lines, in any unit; the position that is fitted is that of the first.
    weights : sequence of float
        Relative intensities; scaled to a sum of one, so that step and slope are those of all lines together.

    Returns
    -------
    Model
        x must be proportional to energy: give the baseline of each channel as `shift`.

    Raises
    ------
    UsageError
        If they are not equally many positive numbers.
    """
    energy, weight = np.asarray(energies, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if energy.ndim != 1 or energy.shape != weight.shape or not energy.size:
        what = f"lines need as many weights as energies, not {weight.size} and {energy.size}"
        raise UsageError(what)
    if not (np.all(energy > 0) and np.all(weight > 0) and np.isfinite(energy.sum() + weight.sum())):
        what = "energies and weights of lines must be positive numbers"
        raise UsageError(what)
    return photopeak_lines.with_constants(
        np.stack([energy / energy[0], weight / weight.sum()], axis=1).ravel().tolist()
    )


photopeak_lines = Model(
    "photopeak_lines",
    PHOTOPEAK_PARAMETERS,
    curve=_curve,
    integral=_integral,
    start=_start,
    constants=(1.0, 1.0),
    formula=(
        "sum of weight_k {step Q(z_k) + slope width [phi(z_k) - z_k Q(z_k)]}, "
        "z_k = (x - ratio_k position) / width; constants: ratio_1, weight_1, ratio_2, weight_2, ..."
    ),
    source="sum of photopeak over the lines of a source; charge shared by the photons of a line is flat up to that line",
)
