"""Kernels of the estimators: deviances, the weights of points, sums over points, moments of the deviance.

The rate f of a model and its derivatives belong to an exposure of 1: expected are ``e f`` counts. ::

    Poisson   D = 2 sum (e f - n + n ln(n / (e f)))                     beta = sum (n/f - e) df
    binomial  D = 2 sum (n ln(n / (e f)) + (e - n) ln((e - n) / (e (1 - f))))   beta = sum (n - e f) / (f (1 - f)) df
    normal    D = sum ((n - e f) / sigma)^2                             beta = sum (n - e f) e / sigma^2 df

with ``dD = -2 beta``, and the expected information ``alpha`` with the weights e/f, e/(f (1 - f)) and e^2/sigma^2. Points
that only stand between used ones have an exposure of 0 and add nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba

from firstlight.fit.logarithm import logarithm
from firstlight.fit.prototypes import quiet_kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "BINOMIAL", "GAUSSIAN", "POISSON", "TABLE_STEP", "accumulate", "add_lost", "deviance", "fill_leverages",
    "fill_moments", "floor_of", "is_impossible", "prepare", "sum_moments", "weigh",
]  # fmt: skip

POISSON = 0
BINOMIAL = 1
GAUSSIAN = 2
TABLE_STEP = 0.05  # of the tables of moments, in the logarithm

# Relative to the mean rate: below it a rate counts as this much in weights (an exact zero would have an infinite
# one), not in the deviance; a rate that is negative by more is no rate.
_FLOOR = 1e-10
_TINY = 1e-300
_STEEPEST = 1e7  # changes of the logarithm of a rate over the natural size of a parameter
_EPSILON = 1e-16  # one minus a probability is not known better

# sums may be reordered, so that they vectorise; NaN and infinity keep their meaning, they are tested for
_summing: Any = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}
)


@quiet_kernel
def prepare(
    estimator: int, counts: FloatArray, exposure: FloatArray, sigma: FloatArray, more: FloatArray
) -> float:
    """Fill what a deviance needs of each point once a channel, and return the total of the counts.

    Parameters
    ----------
    estimator : int
        POISSON, BINOMIAL or GAUSSIAN.
    counts, exposure, sigma : ndarray, shape (n_points,)
        Data of the points; a point with exposure 0 has 0 counts.
    more : ndarray, shape (n_points,)
        Changed in place: exposure / counts (1 without counts), or 1 / sigma.
    """
    total = 0.0
    for k in range(counts.size):
        total += counts[k]
        if estimator == GAUSSIAN:
            more[k] = 1.0 / sigma[k]
        else:
            more[k] = exposure[k] / counts[k] if counts[k] > 0 else 1.0
    return total


@_summing
def _poisson_linear(
    value: FloatArray, counts: FloatArray, exposure: FloatArray, lowest: float
) -> tuple[float, int]:
    linear = 0.0
    negative = 0
    for k in range(value.size):
        expected = exposure[k] * value[k]
        linear += expected - counts[k]
        negative += expected < exposure[k] * lowest
    return linear, negative


@_summing
def _poisson_logarithms(value: FloatArray, counts: FloatArray, more: FloatArray) -> float:
    total = 0.0
    for k in range(value.size):
        # without counts the term is 0 whatever the logarithm
        ratio = value[k] * more[k]
        total += counts[k] * logarithm(max(_TINY, ratio))
    return total


@quiet_kernel
def _poisson(
    value: FloatArray, counts: FloatArray, exposure: FloatArray, more: FloatArray, rate: float
) -> float:
    linear, negative = _poisson_linear(value, counts, exposure, -_FLOOR * rate)
    if negative > 0 or not math.isfinite(linear):
        return math.inf
    result: float = 2.0 * (linear - _poisson_logarithms(value, counts, more))
    return result


@quiet_kernel
def _binomial(value: FloatArray, counts: FloatArray, exposure: FloatArray) -> float:
    total = 0.0
    for k in range(value.size):
        if exposure[k] == 0:
            continue
        chance = value[k]
        if not -_FLOOR <= chance <= 1 + _FLOOR:
            return math.inf
        if counts[k] > 0:
            total -= counts[k] * math.log(max(chance * exposure[k] / counts[k], _TINY))
        failed = exposure[k] - counts[k]
        if failed > 0:
            total -= failed * math.log(max(1.0 - chance, _EPSILON) * exposure[k] / failed)
    return 2.0 * total


@_summing
def _gaussian(value: FloatArray, counts: FloatArray, exposure: FloatArray, more: FloatArray) -> float:
    total = 0.0
    for k in range(value.size):
        residual = (counts[k] - exposure[k] * value[k]) * more[k]
        total += residual * residual
    return total


@quiet_kernel
def deviance(
    estimator: int,
    value: FloatArray,
    counts: FloatArray,
    exposure: FloatArray,
    more: FloatArray,
    rate: float,
) -> float:
    """Return the deviance, infinite where the model is no rate (or no probability).

    Parameters
    ----------
    estimator : int
        POISSON, BINOMIAL or GAUSSIAN.
    value, counts, exposure, more : ndarray, shape (n_points,)
        The model at an exposure of 1, the data, and what `prepare` filled.
    rate : float
        Mean rate, total counts over total exposure.
    """
    if estimator == POISSON:
        result = _poisson(value, counts, exposure, more, rate)
    elif estimator == BINOMIAL:
        result = _binomial(value, counts, exposure)
    else:
        result = _gaussian(value, counts, exposure, more)
    return result if math.isfinite(result) else math.inf


@quiet_kernel
def floor_of(estimator: int, rate: float) -> float:
    """Return the value of the model below which weights do not grow."""
    return _FLOOR * rate if estimator == POISSON else _FLOOR


@_summing
def weigh(
    estimator: int,
    value: FloatArray,
    counts: FloatArray,
    exposure: FloatArray,
    more: FloatArray,
    rate: float,
    weight: FloatArray,
    pull: FloatArray,
) -> int:
    """Fill the weight of each point in the information, and what it adds to the gradient.

    Parameters
    ----------
    estimator, value, counts, exposure, more, rate
        As for `deviance`.
    weight, pull : ndarray, shape (n_points,)
        Changed in place: ``alpha = sum weight df df``, ``beta = sum pull df``.

    Returns
    -------
    int
        Number of points with counts where the model has next to none: their pulls are too small, see `add_lost`.
    """
    lost = 0
    if estimator == POISSON:
        lowest = _FLOOR * rate
        for k in range(value.size):
            inverse = 1.0 / max(value[k], lowest)
            weight[k] = exposure[k] * inverse
            pull[k] = counts[k] * inverse - exposure[k]
            lost += value[k] < lowest and counts[k] > 0
    elif estimator == BINOMIAL:
        for k in range(value.size):
            chance = min(max(value[k], _FLOOR), 1.0 - _FLOOR)
            inverse = 1.0 / (chance * (1.0 - chance))
            weight[k] = exposure[k] * inverse
            pull[k] = (counts[k] - exposure[k] * chance) * inverse
            lost += value[k] < _FLOOR and counts[k] > 0
    else:
        for k in range(value.size):
            inverse = exposure[k] * more[k] * more[k]
            weight[k] = exposure[k] * inverse
            pull[k] = (counts[k] - exposure[k] * value[k]) * inverse
    return lost


@quiet_kernel
def add_lost(
    value: FloatArray,
    counts: FloatArray,
    derivative: FloatArray,
    fitted: NDArray[np.int64],
    lowest: float,
    natural: FloatArray,
    p: FloatArray,
    beta: FloatArray,
) -> None:
    """Add to the gradient what points with counts far out in a tail lost by the floor of the rate.

    There ``df / f`` is moderate where f and df vanish together, and as good as infinite for an additive constant; for
    that one the floor stays.

    Parameters
    ----------
    value, counts, derivative, fitted, beta
        As for `weigh` and `accumulate`.
    lowest : float
        Floor of the value.
    natural, p : ndarray, shape (n_parameters,)
        Natural sizes of the parameters (0: not known), and their values.
    """
    for k in range(value.size):
        if counts[k] <= 0 or value[k] >= lowest:
            continue
        for a in fitted:
            slope = derivative[a, k]
            size = max(natural[a], abs(p[a]))
            floored = abs(slope) / lowest
            largest = max(floored, _STEEPEST / size) if size > 0 else floored
            ratio = min(abs(slope) / max(value[k], _TINY), largest)
            beta[a] += math.copysign(counts[k] * (ratio - floored), slope)


@quiet_kernel
def is_impossible(value: FloatArray, counts: FloatArray) -> bool:
    """Return whether there are counts where the model has vanished: the deviance is flat there, and has no minimum."""
    impossible = False
    for k in range(value.size):
        impossible |= counts[k] > 0 and value[k] < 1e3 * _TINY
    return impossible


@_summing
def accumulate(
    derivative: FloatArray,
    weight: FloatArray,
    pull: FloatArray,
    fitted: NDArray[np.int64],
    weighted: FloatArray,
    alpha: FloatArray,
    beta: FloatArray,
) -> None:
    """Fill information and gradient of the fitted parameters.

    Parameters
    ----------
    derivative : ndarray, shape (n_parameters, n_points)
        Of the model at an exposure of 1.
    weight, pull : ndarray, shape (n_points,)
        From `weigh`.
    fitted : ndarray of int64
        Parameters that are not fixed.
    weighted : ndarray, shape (n_points,)
        Scratch.
    alpha, beta : ndarray, shape (n_parameters, n_parameters) and (n_parameters,)
        Changed in place.
    """
    n = weight.size
    for i in range(fitted.size):
        a = fitted[i]
        row = derivative[a]
        slope = 0.0
        for k in range(n):
            weighted[k] = weight[k] * row[k]
            slope += pull[k] * row[k]
        beta[a] = slope
        for j in range(i + 1):
            b = fitted[j]
            other = derivative[b]
            total = 0.0
            for k in range(n):
                total += weighted[k] * other[k]
            alpha[a, b] = total
            alpha[b, a] = total


@quiet_kernel
def _look_up(table: FloatArray, place: float, out: FloatArray, k: int) -> None:
    """Fill the moments at a place of a table; beyond it they go to their limits as 1 / mu."""
    last = table.shape[0] - 1
    if place < 0:
        out[0, k] = out[1, k] = out[2, k] = out[3, k] = 0.0
    elif place > last:
        share = math.exp((last - place) * TABLE_STEP)
        out[0, k] = 1.0 + (table[last, 0] - 1.0) * share
        out[1, k] = 2.0 + (table[last, 1] - 2.0) * share
        out[2, k] = table[last, 2] * share
        out[3, k] = 1.0 + (table[last, 3] - 1.0) * share
    else:
        # Lagrange's cubic through four entries
        i = min(max(int(place), 1), last - 2)
        t = place - i
        below, above, beyond = t + 1, t - 1, t - 2
        w0 = -t * above * beyond / 6
        w1 = below * above * beyond / 2
        w2 = -below * t * beyond / 2
        w3 = below * t * above / 6
        for row in range(4):
            out[row, k] = (
                w0 * table[i - 1, row] + w1 * table[i, row] + w2 * table[i + 1, row] + w3 * table[i + 2, row]
            )


@quiet_kernel
def fill_moments(
    estimator: int,
    value: FloatArray,
    exposure: FloatArray,
    tables: FloatArray,
    first: FloatArray,
    place: NDArray[np.int64],
    out: FloatArray,
) -> None:
    """Fill the moments of the deviance of each point.

    Parameters
    ----------
    estimator : int
        POISSON or BINOMIAL.
    value, exposure : ndarray, shape (n_points,)
        Rate (or probability) and exposure (or trials).
    tables : ndarray, shape (n_tables, n_grid, 4)
        Mean, variance, covariance with the counts, and what a fitted parameter takes from the mean: first for Poisson
        counts, then for binomial ones of some numbers of trials.
    first : ndarray, shape (2,)
        First logarithm of the expectation, and of the probability, in steps of `TABLE_STEP`.
    place : ndarray of int64, shape (n,)
        Table of each number of trials, 0 where there is none.
    out : ndarray, shape (4, n_points or more)
        Changed in place; 0 for points without exposure.
    """
    for k in range(value.size):
        if exposure[k] == 0:
            out[:, k] = 0.0
        elif estimator == POISSON:
            expected = exposure[k] * max(value[k], _TINY)
            _look_up(tables[0], (math.log(expected) - first[0]) / TABLE_STEP, out, k)
        else:
            chance = min(max(value[k], _FLOOR), 1 - _FLOOR)
            variance = chance * (1 - chance)
            trials = int(exposure[k] + 0.5)
            if trials < place.size and abs(exposure[k] - trials) < 1e-9 and place[trials] > 0:
                rare = math.log(min(chance, 1 - chance))
                _look_up(tables[place[trials]], (rare - first[1]) / TABLE_STEP, out, k)
            else:
                # the expectation of Poisson counts whose deviance has the same mean to first order in 1 / trials
                alike = math.log(exposure[k] * variance / (1 - variance))
                _look_up(tables[0], (alike - first[0]) / TABLE_STEP, out, k)
            if chance > 0.5:
                out[2, k] = -out[2, k]


@_summing
def fill_leverages(
    derivative: FloatArray,
    weight: FloatArray,
    free: NDArray[np.int64],
    inverse: FloatArray,
    leverage: FloatArray,
) -> None:
    """Fill the leverages of the points: the share of each in its own fitted value.

    Parameters
    ----------
    derivative, weight
        As for `accumulate`.
    free : ndarray of int64
        Parameters that are free at the minimum.
    inverse : ndarray, shape (n_parameters, n_parameters)
        Their covariance.
    leverage : ndarray, shape (n_points,)
        Changed in place.
    """
    n = weight.size
    leverage[:] = 0.0
    for i in range(free.size):
        row = derivative[free[i]]
        for j in range(i + 1):
            other = derivative[free[j]]
            factor = inverse[free[i], free[j]] * (1.0 if i == j else 2.0)
            for k in range(n):
                leverage[k] += factor * row[k] * other[k]
    for k in range(n):
        leverage[k] *= weight[k]


@_summing
def sum_moments(
    derivative: FloatArray,
    weight: FloatArray,
    exposure: FloatArray,
    free: NDArray[np.int64],
    inverse: FloatArray,
    leverage: FloatArray,
    moments: FloatArray,
    along: FloatArray,
) -> tuple[float, float]:
    """Return mean and variance of the deviance after a fit (the formulas stand in `firstlight.fit.goodness`).

    Parameters
    ----------
    derivative, weight, exposure, free, inverse, leverage
        As for `fill_leverages`.
    moments : ndarray, shape (4, n_points)
        From `fill_moments`.
    along : ndarray, shape (n_parameters,)
        Scratch.
    """
    n = weight.size
    mean = 0.0
    variance = 0.0
    for k in range(n):
        mean += moments[0, k] - leverage[k] * moments[3, k]
        variance += moments[1, k] * (1 - leverage[k])
    for i in range(free.size):
        row = derivative[free[i]]
        total = 0.0
        for k in range(n):
            total += moments[2, k] * weight[k] / max(exposure[k], _TINY) * row[k]
        along[i] = total
    for i in range(free.size):
        for j in range(free.size):
            variance -= along[i] * along[j] * inverse[free[i], free[j]]
    return mean, variance
