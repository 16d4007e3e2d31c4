"""Kernels of small linear systems: the information matrix of the free parameters, scaled and factorised."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from firstlight.fit.prototypes import quiet_kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["DEAD", "FREE", "HELD", "PINNED", "bounded_step", "factorise", "learn", "substitute"]

# states of a parameter in a step
FREE = 0
HELD = 1
PINNED = 2
DEAD = 3
_SMALLEST_PIVOT = 1e-11


@quiet_kernel
def factorise(
    alpha: FloatArray, state: IntArray, damping: float, order: IntArray, scale: FloatArray, lower: FloatArray
) -> int:
    """Factorise the information of the free parameters, scaled to a unit diagonal.

    Parameters
    ----------
    alpha : ndarray, shape (n_parameters, n_parameters)
        Information.
    state : ndarray of int64, shape (n_parameters,)
        FREE for the parameters that take part.
    damping : float
        Added to the unit diagonal.
    order, scale, lower : ndarray
        Changed in place: the free parameters, the roots of their diagonal, Cholesky's lower triangle.

    Returns
    -------
    int
        Number of free parameters; minus one minus that number if the matrix is singular.
    """
    n = 0
    for a in range(state.size):
        if state[a] == FREE:
            order[n] = a
            scale[n] = math.sqrt(alpha[a, a])
            n += 1
    for i in range(n):
        for j in range(i + 1):
            total = alpha[order[i], order[j]] / (scale[i] * scale[j])
            if i == j:
                total = 1.0 + damping
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i != j:
                lower[i, j] = total / lower[j, j]
            elif total > _SMALLEST_PIVOT:
                lower[i, i] = math.sqrt(total)
            else:
                return -1 - n
    return n


@quiet_kernel
def substitute(
    n: int, order: IntArray, scale: FloatArray, lower: FloatArray, right: FloatArray, out: FloatArray
) -> None:
    """Solve the factorised system.

    Parameters
    ----------
    n, order, scale, lower
        From `factorise`.
    right, out : ndarray, shape (n_parameters,)
        Right side; the free entries of `out` are changed in place.
    """
    for i in range(n):
        total = right[order[i]] / scale[i]
        for k in range(i):
            total -= lower[i, k] * out[order[k]]
        out[order[i]] = total / lower[i, i]
    for i in range(n - 1, -1, -1):
        total = out[order[i]]
        for k in range(i + 1, n):
            total -= lower[k, i] * out[order[k]]
        out[order[i]] = total / lower[i, i]
    for i in range(n):
        out[order[i]] /= scale[i]


@quiet_kernel
def bounded_step(
    alpha: FloatArray,
    beta: FloatArray,
    damping: float,
    p: FloatArray,
    bounds: FloatArray,
    state: IntArray,
    order: IntArray,
    scale: FloatArray,
    lower: FloatArray,
    right: FloatArray,
    step: FloatArray,
) -> bool:
    """Fill the damped step within the bounds.

    A free parameter whose step would cross a bound goes to that bound, and the others are solved for again.

    Parameters
    ----------
    alpha, beta, damping
        Information, gradient, damping.
    p, bounds : ndarray, shape (n_parameters,) and (2, n_parameters)
        Where the step begins, and the bounds.
    state : ndarray of int64, shape (n_parameters,)
        FREE for parameters that take part; others do not move. Changed in place: PINNED where one goes to a bound.
    order, scale, lower, right : ndarray
        Scratch.
    step : ndarray, shape (n_parameters,)
        Changed in place.

    Returns
    -------
    bool
        False if the damped matrix is singular.
    """
    n_parameters = state.size
    step[:] = 0.0
    for _ in range(n_parameters + 1):
        for a in range(n_parameters):
            right[a] = beta[a]
            for b in range(n_parameters):
                if state[b] == PINNED:
                    right[a] -= alpha[a, b] * step[b]
        n = factorise(alpha, state, damping, order, scale, lower)
        if n < 0:
            return False
        substitute(n, order, scale, lower, right, step)
        crossing = False
        for a in range(n_parameters):
            if state[a] != FREE:
                continue
            for side in range(2):
                distance = bounds[side, a] - p[a]
                if (step[a] < distance) if side == 0 else (step[a] > distance):
                    step[a] = distance
                    state[a] = PINNED
                    crossing = True
        if not crossing:
            return True
    return True


@quiet_kernel
def learn(
    metric: FloatArray, step: FloatArray, change: FloatArray, fitted: IntArray, scratch: FloatArray
) -> None:
    """Correct a curvature by what the last step saw of it (the BFGS update).

    Where residuals are large, or a rate is next to zero, the expected information is far from the curvature of the deviance, and
    Fisher scoring creeps or overshoots.

    Source: J. Nocedal, S. Wright, Numerical Optimization, equation 6.19.

    Parameters
    ----------
    metric : ndarray, shape (n_parameters, n_parameters)
        Changed in place; stays positive definite.
    step, change : ndarray, shape (n_parameters,)
        The step, and the gradient before it less that after it.
    fitted : ndarray of int64
        Parameters that are not fixed.
    scratch : ndarray, shape (n_parameters,)
        Changed in place.
    """
    along = 0.0
    before = 0.0
    for a in fitted:
        scratch[a] = 0.0
        for b in fitted:
            scratch[a] += metric[a, b] * step[b]
        along += step[a] * change[a]
        before += step[a] * scratch[a]
    if not (along > 1e-8 * before and before > 0 and math.isfinite(along)):
        return
    for a in fitted:
        for b in fitted:
            metric[a, b] += change[a] * change[b] / along - scratch[a] * scratch[b] / before
