"""The normal distribution inside loops: tail, density, and the integral of the tail from one table.

All edges, peaks and S-curves of the models come down to three functions of ``x``, each minus the derivative
of the one before: ::

    G(x) = integral of Q from x to infinity = phi(x) - x Q(x)
    Q(x) = integral of phi from x to infinity = erfc(x / sqrt 2) / 2
    phi(x) = exp(-x^2 / 2) / sqrt(2 pi)

G is kept as piecewise polynomials of degree five that match G, Q and phi at steps of 1/64 (quintic Hermite
interpolation, C. de Boor, A Practical Guide to Splines, chapter I); Q and phi are their derivatives, so that
derivatives of a model are those of its value to the last digit. ``erfc`` and ``exp`` cost a call each and keep the compiler from
vectorising a loop; the table does not.

Accuracy, absolute: G 2e-15, Q 1e-13, phi 4e-11. Relative in the upper tail, where everything is small: G, Q
and phi to 1e-11, 2e-10 and 2e-8 at x = 5; 1e-10, 3e-9 and 2e-7 at x = 8. All three are positive everywhere, so
that the logarithm of an expectation exists. A million counts on a plateau are wrong by less than 1e-7 counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["normal_integrals", "normal_tail", "tail_between"]

_STEPS = 64  # per unit of x
_REACH = 37  # phi(37) = 2e-298: beyond, the numbers lose digits, then vanish
_TOP = (1 - 1e-15) * _REACH * _STEPS


def _table() -> NDArray[np.float64]:
    """Return the coefficients of the polynomials, shape (n_steps, 6)."""
    x = np.arange(_REACH * _STEPS + 1) / _STEPS
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    tail = np.array([0.5 * math.erfc(node / math.sqrt(2)) for node in x])
    # Mills' ratio as a continued fraction: Q / phi = 1 / (x + r), r = 1 / (x + 2 / (x + 3 / (x + ...))), so that
    # G / phi = r / (x + r): phi - x Q would be nothing but rounding in the tail
    far = np.maximum(x, 2)
    rest = np.zeros_like(x)
    for k in range(400, 0, -1):
        rest = k / (far + rest)
    area = np.where(x < 2, density - x * tail, density * rest / (far + rest))
    value, slope, curvature = area, -tail / _STEPS, density / _STEPS**2
    first = value[1:] - value[:-1] - slope[:-1] - curvature[:-1] / 2
    second = np.diff(slope) - curvature[:-1]
    third = np.diff(curvature)
    return np.stack(
        [
            value[:-1],
            slope[:-1],
            curvature[:-1] / 2,
            10 * first - 4 * second + third / 2,
            -15 * first + 7 * second - third,
            6 * first - 3 * second + third / 2,
        ],
        axis=1,
    )


_POLYNOMIALS = _table()


@kernel
def normal_integrals(x: float) -> tuple[float, float, float]:
    """Return G(x), Q(x) and phi(x): integral of the tail, tail and density of the normal distribution.

    Parameters
    ----------
    x : float
        In standard deviations. Beyond +37 the values stay at those of 37 (Q = 6e-300), beyond -37 at the exact
        limits -x, 1 and 0 (to 1e-297); NaN gives NaN.
    """
    scaled = abs(x) * _STEPS
    # NaN is not smaller than the top: its place is in the table, its offset stays NaN
    place = np.uint32(np.int32(scaled if scaled < _TOP else _TOP))  # noqa: FURB136
    t = (_TOP if scaled > _TOP else scaled) - place  # noqa: FURB136
    c1 = _POLYNOMIALS[place, 1]
    c2 = _POLYNOMIALS[place, 2]
    c3 = _POLYNOMIALS[place, 3]
    c4 = _POLYNOMIALS[place, 4]
    c5 = _POLYNOMIALS[place, 5]
    area = _POLYNOMIALS[place, 0] + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5))))
    tail = -_STEPS * (c1 + t * (2 * c2 + t * (3 * c3 + t * (4 * c4 + t * (5 * c5)))))
    density = _STEPS * _STEPS * (2 * c2 + t * (6 * c3 + t * (12 * c4 + t * (20 * c5))))
    return (area - x if x < 0 else area), (1 - tail if x < 0 else tail), density


@kernel
def normal_tail(x: float) -> tuple[float, float]:
    """Return Q(x) = erfc(x / sqrt 2) / 2 and phi(x), the tail and the density of the normal distribution.

    Parameters
    ----------
    x : float
        In standard deviations.
    """
    _, tail, density = normal_integrals(x)
    return tail, density


@kernel
def tail_between(low: float, tail_low: float, high: float, tail_high: float) -> float:
    """Return the normal probability between two points without loss of digits in either tail.

    Parameters
    ----------
    low, high : float
        In standard deviations, low <= high.
    tail_low, tail_high : float
        Q(abs(low)) and Q(abs(high)).
    """
    if low >= 0:
        return tail_low - tail_high
    if high <= 0:
        return tail_high - tail_low
    return 1 - tail_low - tail_high
