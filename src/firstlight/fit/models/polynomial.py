"""Polynomials of any degree around a centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.errors import UsageError
from firstlight.fit.model import Model, Parameter
from firstlight.fit.prototypes import curve_kernel, start_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["make_polynomial", "polynomial1", "polynomial2", "polynomial3", "polynomial4", "polynomial5"]

_HIGHEST = 12


@kernel
def _frame(constants: FloatArray) -> tuple[float, float]:
    centre = constants[0] if constants.size > 0 else 0.0
    scale = constants[1] if constants.size > 1 else 1.0
    return centre, scale


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    centre, scale = _frame(constants)
    for i in range(value.size):
        t = (x[i] - centre) / scale
        power, total = 1.0, 0.0
        for k in range(p.size):
            derivative[k, i] = power
            total += p[k] * power
            power *= t
        value[i] = total


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    centre, scale = _frame(constants)
    for i in range(value.size):
        # around the middle of the bin: differences of powers of its edges would cancel
        m = (0.5 * (x[i] + x[i + 1]) - centre) / scale
        h = 0.5 * (x[i + 1] - x[i]) / scale
        total = 0.0
        for k in range(p.size):
            # integral of (m + u)^k over u from -h to h: even terms of the binomial series
            inside, binomial, power = 0.0, 1.0, h
            for j in range(0, k + 1, 2):
                inside += 2 * binomial * m ** (k - j) * power / (j + 1)
                power *= h * h
                binomial *= (k - j) * (k - j - 1) / ((j + 1) * (j + 2))
            derivative[k, i] = scale * inside
            total += p[k] * derivative[k, i]
        value[i] = total


@kernel
def _solve(matrix: FloatArray, vector: FloatArray, size: int) -> None:
    """Solve a positive definite system in place (Cholesky); directions without information get zero."""
    for j in range(size):
        diagonal = matrix[j, j]
        pivot = diagonal
        for k in range(j):
            pivot -= matrix[j, k] * matrix[j, k]
        good = pivot > 1e-11 * diagonal and diagonal > 0
        root = np.sqrt(pivot) if good else np.inf
        matrix[j, j] = root
        for i in range(j + 1, size):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = total / root
    for i in range(size):
        total = vector[i]
        for k in range(i):
            total -= matrix[i, k] * vector[k]
        vector[i] = total / matrix[i, i]
    for i in range(size - 1, -1, -1):
        total = vector[i]
        for k in range(i + 1, size):
            total -= matrix[k, i] * vector[k]
        vector[i] = total / matrix[i, i]


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    n, size = x.size, p.size
    p[:] = 0.0
    if n == 0:
        return
    centre, scale = _frame(constants)
    middle = 0.5 * (x.min() + x.max())
    reach = max(0.5 * (x.max() - x.min()), 1e-300)
    matrix, vector, power = np.zeros((size, size)), np.zeros(size), np.empty(size)
    for i in range(n):
        # Legendre polynomials of x in -1 .. 1: nearly orthogonal
        t = (x[i] - middle) / reach
        power[0] = 1.0
        for k in range(1, size):
            power[k] = ((2 * k - 1) * t * power[k - 1] - ((k - 1) * power[k - 2] if k > 1 else 0.0)) / k
        for k in range(size):
            vector[k] += counts[i] * power[k]
            for j in range(k + 1):
                matrix[k, j] += exposure[i] * power[k] * power[j]
    _solve(matrix, vector, size)
    # sum of Legendre polynomials as powers of (x - centre) / scale, by Clenshaw's recurrence on polynomials
    a, b = scale / reach, (centre - middle) / reach
    after, before = np.zeros(size), np.zeros(size)
    for k in range(size - 1, -1, -1):
        now = np.zeros(size)
        now[0] = vector[k]
        f, g = (2 * k + 1) / (k + 1), (k + 1) / (k + 2)
        for j in range(size):
            now[j] += f * b * after[j] - g * before[j]
            if j > 0:
                now[j] += f * a * after[j - 1]
        before, after = after, now
    p[:] = after


def make_polynomial(degree: int, *, centre: float = 0.0, scale: float = 1.0) -> Model:
    """Return a polynomial.

    Parameters
    ----------
    degree : int
        0 to 12.
    centre, scale : float
        Coefficients are those of powers of ``(x - centre) / scale``. With the middle and half the length of the
        range of x they are of one size and little correlated.

    Raises
    ------
    UsageError
        If the degree is not in the range, or the scale not positive.
    """
    if not 0 <= degree <= _HIGHEST:
        what = f"degree of a polynomial must be 0 to {_HIGHEST}, not {degree}"
        raise UsageError(what)
    if not scale > 0:
        what = f"scale of a polynomial must be positive, not {scale}"
        raise UsageError(what)
    units = ["y" if k == 0 else f"y/x^{k}" if k > 1 else "y/x" for k in range(degree + 1)]
    return Model(
        f"polynomial{degree}",
        tuple(
            Parameter(f"coefficient_{k}", f"of power {k}", units[k] if scale == 1 else "y")
            for k in range(degree + 1)
        ),
        curve=_curve,
        integral=_integral,
        start=_start,
        constants=(float(centre), float(scale)),
        formula="sum of coefficient_k ((x - centre) / scale)^k; constants: centre, scale",
        source="polynomial",
    )


polynomial1 = make_polynomial(1)
polynomial2 = make_polynomial(2)
polynomial3 = make_polynomial(3)
polynomial4 = make_polynomial(4)
polynomial5 = make_polynomial(5)
