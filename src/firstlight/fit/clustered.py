"""Errors of fits to entries that are not independent of each other.

All samples of a waveform go into one histogram, and a pulse reaches into many of them. The maximum of the likelihood is
still right, its curvature is not an error any more. Entries come in groups that are independent (events, or blocks of
events), and the spread of the groups' own gradients says how far the result is known. With score s_g of group g
and covariance C from the curvature ::

    C' = C [n / (n - 1) Sum_g (s_g - s) (s_g - s)^T] C

(K.-Y. Liang and S. L. Zeger, Biometrika 73 (1986) 13; the "sandwich" of P. J. Huber). It is what a bootstrap over groups tends
to, at the price of one evaluation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.fit.result import FitResult

    FloatArray = NDArray[np.float64]

__all__ = ["clustered"]

_TINY = 1e-12
_LEAST = 5  # groups: below, the spread of their gradients is a guess


def clustered(result: FitResult, parts: NDArray[Any]) -> FitResult:
    """Return the result with covariances and errors from the spread of independent groups.

    Parameters
    ----------
    result : FitResult
        Of a Poisson fit of a model with an analytic curve or integral.
    parts : ndarray, shape (n_groups, n_channels, n_points)
        The counts that were fitted, group by group.

    Returns
    -------
    FitResult
        Channels of which fewer than 5 groups have entries have no errors.

    Raises
    ------
    UsageError
        If the fit was another one.
    InputError
        If the groups do not add up to the counts.
    """
    data = result.data
    kernel = result.model.integral if data.edges else result.model.curve
    if result.estimator != "poisson" or kernel is None:
        what = f"errors from groups are for Poisson fits of models with derivatives, not {result.estimator} of {result.model.name}"
        raise UsageError(what)
    if parts.shape[1:] != data.counts.shape:
        what = f"groups have the shape {parts.shape}, the counts {data.counts.shape}"
        raise InputError(what, hint="(n_groups, n_channels, n_points)")
    wrong = np.flatnonzero((parts.sum(axis=0, dtype=np.float64) != data.counts).any(axis=1))
    if wrong.size:
        what = "the groups do not add up to the counts"
        raise InputError(what, where=f"channel {wrong[0]}")
    covariance = np.full_like(result.covariance, np.nan)
    for channel in np.flatnonzero(np.isfinite(result.values).all(axis=1)):
        free = np.flatnonzero(np.isfinite(np.diagonal(result.covariance[channel])))
        own = parts[:, channel, :]
        own = own[own.sum(axis=1) > 0].astype(np.float64)
        if free.size == 0 or own.shape[0] < _LEAST:
            continue
        scores = _scores(result, kernel, int(channel), own)[:, free]
        scores -= scores.mean(axis=0)
        meat = scores.T @ scores * own.shape[0] / (own.shape[0] - 1)
        bread = result.covariance[channel][np.ix_(free, free)]
        covariance[channel][np.ix_(free, free)] = bread @ meat @ bread
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return replace(result, covariance=covariance, errors=errors)


def _scores(result: FitResult, kernel: Any, channel: int, parts: FloatArray) -> FloatArray:
    """Return the gradients of the likelihoods of the groups of a channel, shape (n_groups, n_parameters)."""
    data = result.data.select([channel])
    x = np.asarray(data.x, dtype=np.float64).reshape(-1)
    shift = 0.0 if data.shift is None else float(np.asarray(data.shift).reshape(-1)[0])
    value, derivative = np.empty(data.n_points), np.empty((len(result.model), data.n_points))
    constants = np.array(result.model.constants, dtype=np.float64)
    kernel(x - shift, np.ascontiguousarray(result.values[channel]), constants, value, derivative)
    exposure = np.broadcast_to(np.asarray(data.exposure, dtype=np.float64), (1, data.n_points))[0]
    used = (exposure > 0) & np.isfinite(data.counts[0])
    if data.mask is not None:
        used &= np.broadcast_to(data.mask, (1, data.n_points))[0]
    # far from a normal peak nothing is expected, and one stray entry must not be all there is
    used &= value > _TINY * value.max()
    share = parts.sum(axis=1) / parts.sum()
    expected = np.outer(share, (exposure * value)[used])
    slopes = derivative[:, used] / value[used]
    return np.asarray((parts[:, used] - expected) @ slopes.T)
