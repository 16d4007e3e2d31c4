"""Kernels that evaluate a model: at points or over bins, with derivatives of its own or by differences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba import types

from firstlight.fit.points import QUADRATURE_WEIGHTS, place_points, row_of
from firstlight.fit.prototypes import CURVE, SCALAR, curve_kernel, quiet_kernel, scalar_kernel, start_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["evaluate", "evaluate_block", "no_curve", "no_scalar", "no_start"]


@curve_kernel
def no_curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    """Stand where a model has no curve."""


@scalar_kernel
def no_scalar(x: float, p: FloatArray) -> float:  # noqa: ARG001
    """Stand where a model has no scalar function."""
    return math.nan


@start_kernel
def no_start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    """Stand where a model has no start values of its own."""


@quiet_kernel
def _difference(
    scalar: Any,
    x: FloatArray,
    p: FloatArray,
    bounds: FloatArray,
    scale: FloatArray,
    value: FloatArray,
    derivative: FloatArray,
) -> None:
    """Fill values and central differences of a scalar function, one-sided at a bound."""
    for k in range(x.size):
        value[k] = scalar(x[k], p)
    for a in range(p.size):
        here = p[a]
        width = 1e-5 * max(abs(here), 1e-2 * (scale[a] if scale[a] > 0 else 1.0))
        above = min(here + width, bounds[1, a])
        below = max(here - width, bounds[0, a])
        if above <= below:  # bounds that coincide: the parameter cannot move
            derivative[a] = 0.0
            continue
        inverse = 1.0 / (above - below)
        p[a] = above
        for k in range(x.size):
            derivative[a, k] = scalar(x[k], p)
        p[a] = below
        for k in range(x.size):
            derivative[a, k] = (derivative[a, k] - scalar(x[k], p)) * inverse
        p[a] = here


@quiet_kernel
def evaluate(
    curve: Any,
    scalar: Any,
    use_scalar: bool,
    quadrature: bool,
    points: FloatArray,
    halves: FloatArray,
    n: int,
    p: FloatArray,
    constants: FloatArray,
    bounds: FloatArray,
    scale: FloatArray,
    value: FloatArray,
    derivative: FloatArray,
    nodes: FloatArray,
) -> None:
    """Fill value and derivative of a model at n points, or its integrals over n bins."""
    m = 5 * n if quadrature else n
    n_parameters = p.size
    raw = nodes if quadrature else derivative
    slopes = raw[: n_parameters * m].reshape(n_parameters, m)
    values = nodes[n_parameters * m : n_parameters * m + m] if quadrature else value[:n]
    if use_scalar:
        _difference(scalar, points, p, bounds, scale, values, slopes)
    else:
        curve(points, p, constants, values, slopes)
    if quadrature:
        sums = derivative[: n_parameters * n].reshape(n_parameters, n)
        for k in range(n):
            value[k] = 0.0
            for i in range(5):
                value[k] += QUADRATURE_WEIGHTS[i] * values[5 * k + i]
            value[k] *= 2 * halves[k]
            for a in range(n_parameters):
                total = 0.0
                for i in range(5):
                    total += QUADRATURE_WEIGHTS[i] * slopes[a, 5 * k + i]
                sums[a, k] = total * 2 * halves[k]


_number = types.float64
_vector = types.Array(types.float64, 1, "C")
_matrix = types.Array(types.float64, 2, "C")
_stack = types.Array(types.float64, 3, "C")
_whole_vector = types.Array(types.int64, 1, "C")
_whole_matrix = types.Array(types.int64, 2, "C")
_truths = types.Array(types.boolean, 1, "C")
_truth_matrix = types.Array(types.boolean, 2, "C")

_EVALUATE_BLOCK = types.void(
    types.FunctionType(CURVE), types.FunctionType(SCALAR),
    _whole_vector, _matrix, _vector, _matrix, _matrix, _vector, _matrix, _matrix,
)  # fmt: skip


@numba.njit([_EVALUATE_BLOCK], cache=True, nogil=True, error_model="numpy")
def evaluate_block(
    curve: Any,
    scalar: Any,
    options: IntArray,
    x: FloatArray,
    shift: FloatArray,
    exposure: FloatArray,
    values: FloatArray,
    constants: FloatArray,
    bounds: FloatArray,
    expected: FloatArray,
) -> None:
    """Fill the expected counts of all points of the channels of a block.

    Parameters
    ----------
    curve, scalar, options, x, shift, exposure, constants, bounds
        As for `fit_block`.
    values : ndarray, shape (n_channels, n_parameters)
        Of the model.
    expected : ndarray, shape (n_channels, n_points)
        Changed in place.
    """
    use_scalar, edges, quadrature = options[2] > 0, options[3] > 0, options[4] > 0
    size = expected.shape[1]
    n_parameters = values.shape[1]
    fold = 5 if quadrature else 1
    chosen = np.arange(size)
    points = np.empty(fold * size + 1)
    halves = np.empty(size)
    derivative = np.empty(n_parameters * size)
    nodes = np.empty((n_parameters + 1) * fold * size)
    scale = np.zeros(n_parameters)
    p = np.empty(n_parameters)
    for c in range(expected.shape[0]):
        n_points = place_points(row_of(x, c), shift[c], edges, quadrature, chosen, size, points, halves)
        p[:] = values[c]
        evaluate(
            curve, scalar, use_scalar, quadrature, points[:n_points], halves, size, p, constants, bounds, scale,
            expected[c], derivative, nodes,
        )  # fmt: skip
        exposures = row_of(exposure, c)
        for k in range(size):
            expected[c, k] *= exposures[k]
