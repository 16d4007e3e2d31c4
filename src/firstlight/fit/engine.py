"""The kernel that fits a block of channels, one after the other.

Fisher scoring with Levenberg's damping: with the deviance D, half its downhill gradient ``beta`` and the expected
information ``alpha`` (see `firstlight.fit.likelihood`) the step solves ``(alpha + damping diag alpha) step = beta``.
A fit has converged when the undamped step promises to lower the deviance by less than the tolerance,
``beta alpha^-1 beta < tolerance``; a damped step promises little wherever the damping is large. A parameter on its
bound whose gradient points outwards is left out of the step, and comes back when the gradient turns.

Each channel is computed by itself, in the same order of operations wherever it stands, so that the result does not
depend on the number of threads or on its neighbours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba import types

from firstlight.fit.evaluate import evaluate
from firstlight.fit.likelihood import (
    GAUSSIAN,
    accumulate,
    add_lost,
    deviance,
    fill_leverages,
    fill_moments,
    floor_of,
    is_impossible,
    prepare,
    sum_moments,
    weigh,
)
from firstlight.fit.linear import DEAD, FREE, HELD, PINNED, bounded_step, factorise, learn, substitute
from firstlight.fit.points import choose_points, fill_scales, give_start, place_points, row_of
from firstlight.fit.prototypes import CURVE, SCALAR, START, quiet_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["fit_block"]

# the values of firstlight.fit.result.Status
_OK, _AT_BOUND, _MAX_ITERATIONS, _NOT_CONSTRAINED, _NO_DATA, _FAILED = 0, 1, 2, 3, 4, 5
_LARGEST_DAMPING = 1e12
_ROUNDING = 1e-14
_PATIENCE = 8  # steps after which a fit learns the curvature from its steps
_NEAR_BOUND = 0.05  # standard errors within which a parameter cannot be told from its bound


@quiet_kernel
def _set_states(
    alpha: FloatArray, beta: FloatArray, p: FloatArray, bounds: FloatArray, is_fixed: BoolArray,
    scale: FloatArray, state: IntArray,
) -> None:  # fmt: skip
    """Fill which parameters take part in a step: not fixed, not pushed against a bound, not without information."""
    for a in range(p.size):
        pushed = (p[a] <= bounds[0, a] and beta[a] <= 0) or (p[a] >= bounds[1, a] and beta[a] >= 0)
        if is_fixed[a]:
            state[a] = HELD
        elif not (alpha[a, a] > 1e-200 and alpha[a, a] * scale[a] ** 2 >= 1e-12 * (scale[a] > 0)):
            state[a] = DEAD
        elif pushed:
            state[a] = HELD
        else:
            state[a] = FREE


@quiet_kernel
def _decrement(
    alpha: FloatArray, beta: FloatArray, state: IntArray, order: IntArray, scale: FloatArray,
    lower: FloatArray, step: FloatArray,
) -> tuple[float, bool]:  # fmt: skip
    """Fill the undamped step; return by how much it would lower the deviance, and whether it can be taken."""
    n = factorise(alpha, state, 0.0, order, scale, lower)
    regular = n >= 0
    if not regular:
        # degenerate parameters: what the directions that are determined can still gain
        n = factorise(alpha, state, 1e-6, order, scale, lower)
    if n < 0:
        return math.inf, False
    step[:] = 0.0
    substitute(n, order, scale, lower, beta, step)
    gain = 0.0
    for i in range(n):
        gain += step[order[i]] * beta[order[i]]
    return gain, regular


@quiet_kernel
def _try_step(
    p: FloatArray, step: FloatArray, bounds: FloatArray, state: IntArray, trial: FloatArray
) -> tuple[bool, bool]:
    """Fill the end of a step; return whether it leaves its beginning, and whether it stays within the bounds."""
    moved = False
    inside = True
    for a in range(p.size):
        trial[a] = p[a] + step[a]
        if state[a] == PINNED:
            side = 0 if abs(trial[a] - bounds[0, a]) < abs(trial[a] - bounds[1, a]) else 1
            trial[a] = bounds[side, a]
        elif state[a] == FREE:
            inside &= bounds[0, a] <= trial[a] <= bounds[1, a]
        moved |= trial[a] != p[a]
    return moved, inside


@quiet_kernel
def _look(
    estimator: int, value: FloatArray, slopes: FloatArray, counts: FloatArray, exposure: FloatArray,
    more: FloatArray, rate: float, p: FloatArray, bounds: FloatArray, is_fixed: BoolArray, fitted: IntArray,
    natural: FloatArray, small: FloatArray, lower: FloatArray, alpha: FloatArray, whole: IntArray,
    weight: FloatArray, pull: FloatArray, weighted: FloatArray,
) -> tuple[float, bool, bool]:  # fmt: skip
    """Fill information, gradient, states and undamped step at a place.

    Return what the step would gain, whether it can be taken, and whether there are counts where the model is next to nothing.
    """
    beta = small[0]
    lost = weigh(estimator, value, counts, exposure, more, rate, weight, pull)
    accumulate(slopes, weight, pull, fitted, weighted, alpha, beta)
    if lost > 0:
        add_lost(value, counts, slopes, fitted, floor_of(estimator, rate), natural, p, beta)
    _set_states(alpha, beta, p, bounds, is_fixed, natural, whole[0])
    gain, ready = _decrement(alpha, beta, whole[0], whole[1], small[3], lower, small[1])
    return gain, ready, lost > 0


@quiet_kernel
def _update(
    metric: FloatArray,
    alpha: FloatArray,
    small: FloatArray,
    state: IntArray,
    fitted: IntArray,
    iterations: int,
) -> None:
    """Fill the curvature for the next step: the information, or after some steps what the steps have shown."""
    right = small[4]
    early = iterations < _PATIENCE
    for a in range(right.size):
        right[a] = small[7, a] - small[0, a]
        early |= state[a] == DEAD
    if early:
        metric[:] = alpha
    else:
        learn(metric, small[8], right, fitted, small[2])


@quiet_kernel
def _propose(
    ready: bool, metric: FloatArray, damping: float, p: FloatArray, bounds: FloatArray, small: FloatArray,
    lower: FloatArray, whole: IntArray,
) -> bool:  # fmt: skip
    """Fill the end of the next step, the undamped one where it can be taken; return whether it leads anywhere."""
    state = whole[0]
    step = small[1]
    trial = small[2]
    if ready and damping == 0:
        moved, inside = _try_step(p, step, bounds, state, trial)
        if inside:
            return moved
    for a in range(p.size):
        state[a] = FREE if state[a] == PINNED else state[a]
    if not bounded_step(
        metric, small[0], damping, p, bounds, state, whole[1], small[3], lower, small[4], step
    ):
        return False
    return _try_step(p, step, bounds, state, trial)[0]


@quiet_kernel
def _sum_of_sizes(estimator: int, counts: FloatArray, more: FloatArray) -> float:
    """Return the size of the sums that a deviance is made of, which sets its rounding error."""
    total = 0.0
    for k in range(counts.size):
        total += (counts[k] * more[k]) ** 2 if estimator == GAUSSIAN else counts[k]
    return total


@quiet_kernel
def _minimise(
    curve: Any,
    scalar: Any,
    use_scalar: bool,
    quadrature: bool,
    estimator: int,
    points: FloatArray,
    halves: FloatArray,
    counts: FloatArray,
    exposure: FloatArray,
    more: FloatArray,
    rate: float,
    p: FloatArray,
    bounds: FloatArray,
    is_fixed: BoolArray,
    fitted: IntArray,
    constants: FloatArray,
    tolerance: float,
    max_iterations: int,
    natural: FloatArray,
    small: FloatArray,
    lower: FloatArray,
    alpha: FloatArray,
    metric: FloatArray,
    whole: IntArray,
    values: FloatArray,
    derivatives: FloatArray,
    nodes: FloatArray,
    weight: FloatArray,
    pull: FloatArray,
    weighted: FloatArray,
) -> tuple[int, int, float, int]:
    """Return status, iterations, deviance and which of the two buffers belongs to the result; p is changed."""
    n = counts.size
    n_parameters = p.size
    beta = small[0]
    trial = small[2]
    before = small[7]
    taken = small[8]
    current = 0
    evaluate(
        curve, scalar, use_scalar, quadrature, points, halves, n, p, constants, bounds, natural,
        values[0], derivatives[0], nodes,
    )  # fmt: skip
    best = deviance(estimator, values[0, :n], counts, exposure, more, rate)
    if not math.isfinite(best):
        return _FAILED, 0, best, 0
    rounding = _ROUNDING * _sum_of_sizes(estimator, counts, more)
    damping = 0.0
    moved = True
    ready = False
    iterations = 0
    while True:
        if moved:
            slopes = derivatives[current, : n_parameters * n].reshape(n_parameters, n)
            before[:] = beta
            gain, ready, lost = _look(
                estimator, values[current, :n], slopes, counts, exposure, more, rate, p, bounds, is_fixed, fitted,
                natural, small, lower, alpha, whole, weight, pull, weighted,
            )  # fmt: skip
            if gain < tolerance:
                impossible = lost and is_impossible(values[current, :n], counts)
                return _FAILED if impossible else _OK, iterations, best, current
            ready = ready and iterations < _PATIENCE
            _update(metric, alpha, small, whole[0], fitted, iterations)
        if iterations >= max_iterations:
            return _MAX_ITERATIONS, iterations, best, current
        if damping > _LARGEST_DAMPING:
            return _FAILED, iterations, best, current
        moved = _propose(ready, metric, damping, p, bounds, small, lower, whole)
        if moved:
            other = 1 - current
            evaluate(
                curve, scalar, use_scalar, quadrature, points, halves, n, trial, constants, bounds, natural,
                values[other], derivatives[other], nodes,
            )  # fmt: skip
            result = deviance(estimator, values[other, :n], counts, exposure, more, rate)
            iterations += 1
            moved = result <= best + rounding
        if moved:
            best = result
            current = other
            for a in range(n_parameters):
                taken[a] = trial[a] - p[a]
                p[a] = trial[a]
            damping = damping * 0.1 if damping > 1e-6 else 0.0
        else:
            damping = max(damping * 8, 0.01)


@quiet_kernel
def _invert(
    alpha: FloatArray,
    state: IntArray,
    order: IntArray,
    small: FloatArray,
    lower: FloatArray,
    inverse: FloatArray,
) -> int:
    """Fill the inverse information of the free parameters; return their number, negative if it is singular."""
    n = factorise(alpha, state, 0.0, order, small[3], lower)
    for i in range(n):
        small[4, :] = 0.0
        small[4, order[i]] = 1.0
        substitute(n, order, small[3], lower, small[4], small[1])
        for j in range(n):
            inverse[order[j], order[i]] = small[1, order[j]]
    return n


@quiet_kernel
def _nearest_to_bound(p: FloatArray, bounds: FloatArray, n: int, order: IntArray, inverse: FloatArray) -> int:
    """Return the free parameter that can be told least from its bound, -1 if all can."""
    nearest = -1
    smallest = _NEAR_BOUND
    for i in range(n):
        a = order[i]
        distance = min(p[a] - bounds[0, a], bounds[1, a] - p[a]) / math.sqrt(inverse[a, a])
        if distance < smallest:
            nearest = a
            smallest = distance
    return nearest


@quiet_kernel
def _judge(
    p: FloatArray, bounds: FloatArray, is_fixed: BoolArray, state: IntArray, at_bound: BoolArray
) -> int:
    """Fill which parameters are at a bound, and which are free to vary about the minimum; return the status."""
    status = _OK
    for a in range(p.size):
        at_bound[a] = not is_fixed[a] and (p[a] <= bounds[0, a] or p[a] >= bounds[1, a])
        if state[a] == DEAD:
            status = _NOT_CONSTRAINED
        elif is_fixed[a] or at_bound[a]:
            state[a] = HELD
        else:
            state[a] = FREE
        if at_bound[a]:
            status = max(status, _AT_BOUND)
    return status


@quiet_kernel
def _covariance(
    alpha: FloatArray, p: FloatArray, bounds: FloatArray, is_fixed: BoolArray,
    largest_error: FloatArray, small: FloatArray, whole: IntArray, lower: FloatArray,
    covariance: FloatArray, at_bound: BoolArray, inverse: FloatArray,
) -> tuple[int, int, int]:  # fmt: skip
    """Fill the inverse information, and the covariance: NaN for what it does not tell.

    Return status, number of free parameters, and how many of them have an inverse.
    """
    order = whole[1]
    status = _judge(p, bounds, is_fixed, whole[0], at_bound)
    n_free = 0
    for a in range(p.size):
        n_free += not is_fixed[a] and not at_bound[a]
    n = _invert(alpha, whole[0], order, small, lower, inverse)
    nearest = _nearest_to_bound(p, bounds, n, order, inverse)
    while n > 0 and nearest >= 0:
        # one after the other: with one of two that are degenerate at its bound the other may be well known
        whole[0, nearest] = HELD
        at_bound[nearest] = True
        n_free -= 1
        status = max(status, _AT_BOUND)
        n = _invert(alpha, whole[0], order, small, lower, inverse)
        nearest = _nearest_to_bound(p, bounds, n, order, inverse)
    if n < 0:
        return _NOT_CONSTRAINED, n_free, 0
    for i in range(n):
        for j in range(n):
            covariance[order[i], order[j]] = inverse[order[i], order[j]]
    for i in range(n):
        a = order[i]
        if not covariance[a, a] < largest_error[a] ** 2:
            covariance[a, :] = math.nan
            covariance[:, a] = math.nan
            status = _NOT_CONSTRAINED
    return status, n_free, n


_number = types.float64
_vector = types.Array(types.float64, 1, "C")
_matrix = types.Array(types.float64, 2, "C")
_stack = types.Array(types.float64, 3, "C")
_whole_vector = types.Array(types.int64, 1, "C")
_whole_matrix = types.Array(types.int64, 2, "C")
_truths = types.Array(types.boolean, 1, "C")
_truth_matrix = types.Array(types.boolean, 2, "C")

_FIT_BLOCK = types.void(
    types.FunctionType(CURVE), types.FunctionType(SCALAR), types.FunctionType(START),
    _whole_vector, _number,
    _matrix, _matrix, _vector, _matrix, _truth_matrix, _matrix,
    _matrix, _truths, _matrix, _matrix, _vector, _matrix,
    _stack, _vector, _whole_vector,
    _matrix, _matrix, _stack, _truth_matrix, _matrix, _whole_matrix,
)  # fmt: skip


@numba.njit([_FIT_BLOCK], cache=True, nogil=True, error_model="numpy")
def fit_block(
    curve: Any,
    scalar: Any,
    start: Any,
    options: IntArray,
    tolerance: float,
    counts: FloatArray,
    x: FloatArray,
    shift: FloatArray,
    exposure: FloatArray,
    mask: BoolArray,
    sigma: FloatArray,
    given: FloatArray,
    is_fixed: BoolArray,
    fixed: FloatArray,
    bounds: FloatArray,
    constants: FloatArray,
    units: FloatArray,
    tables: FloatArray,
    first: FloatArray,
    place: IntArray,
    starts: FloatArray,
    values: FloatArray,
    covariance: FloatArray,
    at_bound: BoolArray,
    numbers: FloatArray,
    wholes: IntArray,
) -> None:
    """Fit the channels of a block.

    Parameters
    ----------
    curve, scalar, start : kernels
        Of the model; `curve` is its integral where bins are integrated by it.
    options : ndarray of int64, shape (6,)
        Estimator, largest number of iterations, and whether: the model is a scalar function, x are edges, bins are
        integrated by quadrature, start values come from the data.
    tolerance : float
        Of the deviance.
    counts : ndarray, shape (n_channels, n_points)
        NaN where there is nothing.
    x, exposure, mask, sigma, given, fixed : ndarray, shape (1, n) or (n_channels, n)
        Centres or edges; exposures; points to use; standard deviations; start values; values of fixed parameters.
    shift : ndarray, shape (n_channels,)
        Subtracted from x.
    is_fixed : ndarray of bool, shape (n_parameters,)
        Parameters that are not fitted.
    bounds, units : ndarray, shape (2, n_parameters)
        Low and high; powers of the rate and of x in the unit of a parameter.
    constants : ndarray
        Of the model.
    tables, first, place
        Moments of deviances, see `firstlight.fit.likelihood.fill_moments`.
    starts, values : ndarray, shape (n_channels, n_parameters)
        Changed in place.
    covariance : ndarray, shape (n_channels, n_parameters, n_parameters)
        Changed in place.
    at_bound : ndarray of bool, shape (n_channels, n_parameters)
        Changed in place.
    numbers : ndarray, shape (n_channels, 4)
        Changed in place: deviance, total counts, mean and variance of the deviance if the model is right.
    wholes : ndarray of int64, shape (n_channels, 3)
        Changed in place: status, iterations, degrees of freedom.
    """
    estimator = options[0]
    use_scalar, edges, quadrature, use_start = options[2] > 0, options[3] > 0, options[4] > 0, options[5] > 0
    size = counts.shape[1]
    n_parameters = is_fixed.size
    fold = 5 if quadrature else 1
    chosen = np.empty(size, dtype=np.int64)
    used = np.empty(size, dtype=np.bool_)
    points = np.empty(fold * size + 1)
    halves = np.empty(size)
    data = np.empty((7, size))
    scratch = np.empty(3 * size)
    two_values = np.empty((2, size))
    two_derivatives = np.empty((2, n_parameters * size))
    nodes = np.empty((n_parameters + 1) * fold * size)
    # gradient, step, trial, scale, scratch, natural sizes, largest errors, gradient before, last step
    small = np.zeros((9, n_parameters))
    moments = np.empty((4, size))
    matrices = np.zeros((4, n_parameters, n_parameters))
    alpha, lower, inverse, metric = matrices[0], matrices[1], matrices[2], matrices[3]
    whole = np.empty((2, n_parameters), dtype=np.int64)
    fitted = np.flatnonzero(~is_fixed)
    fitted_not = np.flatnonzero(is_fixed)
    for c in range(counts.shape[0]):
        p = values[c]
        covariance[c] = math.nan
        numbers[c] = math.nan
        at_bound[c] = False
        wholes[c, 0] = _NO_DATA
        wholes[c, 1] = 0
        here = row_of(x, c)
        exposures = row_of(exposure, c)
        sigmas = row_of(sigma, c)
        n, n_used = choose_points(
            counts[c], here, shift[c], exposures, mask[c if mask.shape[0] > 1 else 0], sigmas, edges,
            edges and not quadrature, chosen, used,
        )  # fmt: skip
        n_points = place_points(here, shift[c], edges, quadrature, chosen, n, points, halves) if n > 0 else 0
        y, e, s, more = data[0, :n], data[1, :n], data[2, :n], data[3, :n]
        total_exposure = 0.0
        size_of_counts = 0.0
        for k in range(n):
            i = chosen[k]
            y[k] = counts[c, i] if used[k] else 0.0
            e[k] = exposures[i] if used[k] else 0.0
            s[k] = sigmas[i] if used[k] else 1.0
            total_exposure += e[k]
            size_of_counts += abs(y[k])
        total = prepare(estimator, y, e, s, more)
        numbers[c, 1] = total
        wholes[c, 2] = n_used - fitted.size
        known = True
        for held in fitted_not:
            known = known and math.isfinite(row_of(fixed, c)[held])
        if n_used == 0 or not known or (estimator != GAUSSIAN and total <= 0):
            p[:] = math.nan
            starts[c] = math.nan
            continue
        rate = size_of_counts / total_exposure if size_of_counts > 0 else 1.0
        fill_scales(units, points, n_points, rate, small[5], small[6])
        # start kernels may look at what is fixed
        p[:] = math.nan
        for held in fitted_not:
            p[held] = row_of(fixed, c)[held]
        give_start(
            start, use_start, row_of(given, c), here, shift[c], edges, n, chosen, used, y, e, constants,
            scratch, p,
        )  # fmt: skip
        for a in range(n_parameters):
            if is_fixed[a]:
                p[a] = row_of(fixed, c)[a]
            else:
                p[a] = min(max(p[a], bounds[0, a]), bounds[1, a])
            starts[c, a] = p[a]
        weight, pull, weighted = data[4, :n], data[5, :n], data[6, :n]
        status, iterations, result, current = _minimise(
            curve, scalar, use_scalar, quadrature, estimator, points[:n_points], halves, y, e, more, rate, p,
            bounds, is_fixed, fitted, constants, tolerance, options[1], small[5], small, lower, alpha, metric,
            whole, two_values, two_derivatives, nodes, weight, pull, weighted,
        )  # fmt: skip
        wholes[c, 0] = status
        wholes[c, 1] = iterations
        if not math.isfinite(result):
            p[:] = math.nan
            continue
        numbers[c, 0] = result
        judged, n_free, n_known = _covariance(
            alpha, p, bounds, is_fixed, small[6], small, whole, lower, covariance[c], at_bound[c],
            inverse,
        )  # fmt: skip
        if status == _OK:
            wholes[c, 0] = judged if n_used >= n_free else _NOT_CONSTRAINED
        wholes[c, 2] = n_used - n_free
        if estimator != GAUSSIAN and n_known == n_free:
            slopes = two_derivatives[current, : n_parameters * n].reshape(n_parameters, n)
            known_free = whole[1, :n_known]
            fill_moments(estimator, two_values[current, :n], e, tables, first, place, moments)
            fill_leverages(slopes, weight, known_free, inverse, weighted)
            numbers[c, 2], numbers[c, 3] = sum_moments(
                slopes, weight, e, known_free, inverse, weighted, moments, small[4]
            )
