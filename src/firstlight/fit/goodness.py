"""Goodness of fit: p-values of deviances that hold for few counts.

The deviance of a correct model follows a chi2 distribution only where each point has many counts. With an
expectation of 0.1 counts a point adds 0.47 on average, not 1; with 1.4 counts it adds 1.16. The exact mean e(mu) and
variance v(mu) of one point are tabulated once, and summed over the points of a fit at the fitted expectations.

A fitted curve follows the counts. It lowers the deviance by ``Q = beta alpha^-1 beta``, whose mean is the number of
parameters, and it moves the expected deviance with it (P. McCullagh, J. Am. Stat. Assoc. 81 (1986) 104: the moments that count are those
given the fitted parameters). With the leverages h of the points, ``h = w df alpha^-1 df``, the variance V of the counts, and the
covariance k of the deviance with the counts ::

    mean     = sum e - sum h g,               g = 1 + V e'' / 2
    variance = sum (1 - h) v - K alpha^-1 K,  K = sum k df / f  (binomial: k df / (f (1 - f)))

The second term of g is the curvature of e, by which e at a fitted expectation is smaller than at the true one on average; ``k / V`` is
the slope of e. For many counts g = 1 and k = 0, mean and variance are 1 and 2 times the degrees of freedom. Taking
off the number of parameters itself, with the whole variance, is right only for many points of which most are empty: with
12 points and 4 parameters 3 % instead of 5 % of good fits have p < 0.05.

A chi2 distribution with a scale is matched to both: with ``scale = variance / (2 mean)`` and ``2 mean^2 / variance``
degrees of freedom the p-value is that of ``deviance / scale``.

Binomial counts have tables of their own up to 200 trials. Beyond, and for exposures that are no whole numbers, they
are taken as Poisson counts with the expectation ``N p q / (1 - p q)``, whose deviance has the same mean to first order in 1 / N.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["MOST_TRIALS", "binomial_moments", "moment_tables", "p_values", "poisson_moments"]

MOST_TRIALS = 200
_STEP = 0.05  # firstlight.fit.likelihood.TABLE_STEP, which would import the compiler here
_POISSON_FIRST, _POISSON_LAST = math.log(1e-7), math.log(3000.0)
_BINOMIAL_FIRST, _BINOMIAL_LAST = math.log(1e-9), math.log(0.5)


def _moments(chance: FloatArray, deviance: FloatArray, residual: FloatArray) -> FloatArray:
    """Return mean, variance, and covariance with the counts."""
    mean = np.sum(chance * deviance)
    centred = chance * (deviance - mean)
    return np.array([mean, np.sum(centred * (deviance - mean)), np.sum(centred * residual)])


def _poisson(mu: float) -> FloatArray:
    from scipy.special import gammaln, xlogy

    reach = 12 * math.sqrt(mu) + 40
    n = np.arange(max(0, math.floor(mu - reach)), math.ceil(mu + reach) + 1, dtype=np.float64)
    chance = np.exp(xlogy(n, mu) - mu - gammaln(n + 1))
    return _moments(chance, 2 * (mu - n + xlogy(n, n / mu)), n - mu)


def _binomial(trials: int, probability: float) -> FloatArray:
    from scipy.special import gammaln, xlog1py, xlogy

    n = np.arange(trials + 1, dtype=np.float64)
    rest = trials - n
    ways = gammaln(trials + 1) - gammaln(n + 1) - gammaln(rest + 1)
    chance = np.exp(ways + xlogy(n, probability) + xlog1py(rest, -probability))
    expected = trials * probability
    deviance = 2 * (xlogy(n, n / expected) + xlogy(rest, rest / trials) - xlog1py(rest, -probability))
    return _moments(chance, deviance, n - expected)


def _with_taken(
    moments: Callable[[float], FloatArray], at: float, unit: float, variance: float
) -> FloatArray:
    """Return the moments and ``g = 1 + V e'' / 2``; `unit` counts are one unit of what the moments depend on."""
    step = 0.02 * at
    here = moments(at)
    bend = (moments(at + step)[0] - 2 * here[0] + moments(at - step)[0]) / (unit * step) ** 2
    return np.append(here, 1 + 0.5 * variance * bend)


def poisson_moments(mu: float) -> FloatArray:
    """Return moments of the deviance of one Poisson number at its true expectation.

    Parameters
    ----------
    mu : float
        Expectation, positive.

    Returns
    -------
    ndarray, shape (4,)
        Mean, variance, covariance with the number, and what a parameter that this point alone determines takes
        from the mean.
    """
    return _with_taken(_poisson, mu, 1.0, mu)


def binomial_moments(trials: int, probability: float) -> FloatArray:
    """Return moments of the deviance of one number of successes at its true probability.

    Parameters
    ----------
    trials : int
        At least 1.
    probability : float
        Greater than 0, at most 1/2.

    Returns
    -------
    ndarray, shape (4,)
        As for `poisson_moments`.
    """
    variance = trials * probability * (1 - probability)
    return _with_taken(partial(_binomial, trials), probability, trials, variance)


@lru_cache(maxsize=1)
def _poisson_table() -> FloatArray:
    grid = np.arange(_POISSON_FIRST, _POISSON_LAST, _STEP)
    return np.stack([poisson_moments(math.exp(place)) for place in grid])


@lru_cache(maxsize=MOST_TRIALS)
def _binomial_table(trials: int) -> FloatArray:
    # the grid ends at one half, beyond which everything is symmetric
    n = int((_BINOMIAL_LAST - _BINOMIAL_FIRST) / _STEP) + 1
    grid = np.minimum(_BINOMIAL_LAST - _STEP * np.arange(n)[::-1], _BINOMIAL_LAST)
    return np.stack([binomial_moments(trials, math.exp(place)) for place in grid])


def moment_tables(trials: Iterable[float] = ()) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return the tables that the kernel interpolates in.

    Parameters
    ----------
    trials : iterable of float
        Numbers of trials that occur, for the binomial estimator.

    Returns
    -------
    tables : ndarray, shape (n_tables, n_grid, 4)
        Moments: first of Poisson numbers, then of binomial ones.
    first : ndarray, shape (2,)
        First logarithm of the expectation, and of the probability; the step is `TABLE_STEP`.
    place : ndarray of int64, shape (n,)
        Table of each number of trials, 0 where there is none.
    """
    poisson = _poisson_table()
    wanted = sorted({int(n) for n in trials if 1 <= n <= MOST_TRIALS and n == int(n)})
    place = np.zeros(wanted[-1] + 1 if wanted else 1, dtype=np.int64)
    tables = [poisson]
    first = _BINOMIAL_FIRST
    for number, n in enumerate(wanted, 1):
        own = _binomial_table(n)
        # all tables have one size: the binomial ones reach less far down than they have room for
        missing = len(poisson) - len(own)
        tables.append(np.concatenate([np.zeros((missing, 4)), own]))
        first = _BINOMIAL_LAST - _STEP * (len(poisson) - 1)
        place[n] = number
    return np.stack(tables), np.array([_POISSON_FIRST, first]), place


def p_values(
    estimator: str, deviance: FloatArray, ndf: NDArray[Any], mean: FloatArray, variance: FloatArray
) -> FloatArray:
    """Return the probabilities of deviances at least as large, if the model is right.

    Parameters
    ----------
    estimator : str
        ``"poisson"``, ``"binomial"``, ``"gaussian"`` or ``"unweighted"``.
    deviance, ndf : ndarray, shape (n_channels,)
        Minimum and degrees of freedom.
    mean, variance : ndarray, shape (n_channels,)
        Of the deviance after the fit, for the estimators of counts.

    Returns
    -------
    ndarray, shape (n_channels,)
        NaN without degrees of freedom, where the expected deviance is not positive (so few counts that the fitted
        parameters use them up), and for the unweighted estimator, whose deviance has no scale.
    """
    from scipy.special import gammaincc

    result = np.full(deviance.shape, np.nan)
    if estimator == "unweighted":
        return result
    if estimator == "gaussian":
        mean, variance = ndf.astype(np.float64), 2.0 * ndf
    known = (ndf > 0) & np.isfinite(deviance) & (mean > 0) & (variance > 0)
    half = mean[known] ** 2 / variance[known]
    result[known] = gammaincc(half, deviance[known] * mean[known] / variance[known])
    return result
