"""Fits as the original makes them, for those who want its numbers: least squares, and one zero spoils a pixel.

A pixel with a zero between its first and its last hit has an error of 0 there, the original's fit returns
its start values, and the pixel is bad. A likelihood has no such trouble; this mode is for comparisons. It calls
the same MINPACK routine in the same parameters, because where that ends depends on its path: one pixel in a
hundred ends in a minimum that is not the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from firstlight.detectors.velo.models import Equation
    from firstlight.detectors.velo.options import FitParameters

__all__ = ["LEGACY_START", "LegacyFits", "fit_as_original", "legacy_fit_type"]

# f, A, s where a dataset says nothing; the position is the threshold at half of the summed rate
LEGACY_START = (0.0009, 8.0, 12.0)
_TOLERANCE = 1.49012e-8  # of scipy.optimize.leastsq


@dataclass(frozen=True)
class LegacyFits:
    """Fits of some curves as the original makes them.

    Parameters
    ----------
    values, errors : ndarray, shape (n, n_parameters)
        Reported parameters; errors are scaled with the square root of chi2 / ndf, as the original leaves them.
    chi2, p_value : ndarray, shape (n,)
        NaN where the original could not compute them.
    ndf, iterations : ndarray of int64, shape (n,)
        Points less parameters; calls of the equation.
    status : ndarray of int8, shape (n,)
        Of `firstlight.fit.Status`; -1 where the original does not try.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    chi2: NDArray[np.float64]
    p_value: NDArray[np.float64]
    ndf: NDArray[np.int64]
    iterations: NDArray[np.int64]
    status: NDArray[np.int8]


def fit_as_original(
    counts: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
    wanted: Equation,
    parameters: FitParameters,
    shift: NDArray[np.float64] | None = None,
) -> LegacyFits:
    """Fit curves by least squares with errors sqrt(n), zeros at both ends cut off.

    Parameters
    ----------
    counts : ndarray, shape (n_curves, n_thresholds)
        Summed hits.
    thresholds, live_time : ndarray, shape (n_thresholds,)
        In DAC and s.
    wanted : Equation
        Which equation.
    parameters : FitParameters
        Start values, and the share of zeros at which a pixel is cut.
    shift : ndarray, shape (n_curves,), optional
        Baseline that is taken off the thresholds [DAC]; start values are then those of the target. Positions are
        returned as thresholds all the same.

    Returns
    -------
    LegacyFits
    """
    from scipy.stats import chi2 as distribution

    from firstlight.fit import Status

    live = live_time > 0
    counts, thresholds, live_time = counts[:, live], thresholds[live], live_time[live]
    n_curves, n_parameters = counts.shape[0], len(wanted.reported)
    given = parameters.start if shift is None else parameters.start_baseline
    start = np.asarray(given or _usual_start(wanted, counts, thresholds, live_time), dtype=float)
    if shift is not None and not given:
        start[-1] -= np.median(shift)
    zero = np.zeros(n_curves) if shift is None else shift
    values = np.full((n_curves, n_parameters), np.nan)
    errors = np.full((n_curves, n_parameters), np.nan)
    chi2 = np.full(n_curves, np.nan)
    ndf = np.zeros(n_curves, dtype=np.int64)
    calls = np.zeros(n_curves, dtype=np.int64)
    status = np.full(n_curves, -1, dtype=np.int8)
    zeros = np.count_nonzero(counts == 0, axis=1)
    for index in np.flatnonzero(zeros < parameters.zero_fraction * counts.shape[1]):
        hit = np.flatnonzero(counts[index])
        cut = slice(hit[0], hit[-1] + 1)
        n_points = hit[-1] + 1 - hit[0]
        ndf[index] = n_points - n_parameters
        if ndf[index] < 0:
            status[index] = Status.failed
        elif hit.size < n_points:
            # an error of 0: the original gets its start values back, with infinite errors
            values[index], status[index] = start, Status.ok
        else:
            rate = counts[index, cut] / live_time[cut]
            error = np.sqrt(counts[index, cut]) / live_time[cut]
            residual = _residual(wanted, thresholds[cut] - zero[index], rate, error)
            found = _least_squares(residual, start)
            values[index], errors[index], chi2[index], calls[index], converged = found
            status[index] = Status.ok if converged else Status.max_iter
    values[:, -1] += zero
    p_value = distribution.sf(chi2, np.maximum(ndf, 1))
    return LegacyFits(values, errors, chi2, p_value, ndf, calls, status)


def _residual(
    wanted: Equation, x: NDArray[np.float64], rate: NDArray[np.float64], error: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the differences of equation and data in standard errors, as a function of the reported parameters."""
    model = wanted.model
    constants = np.array(model.constants, dtype=float)
    value, derivative = np.empty(x.size), np.empty((len(model), x.size))
    x, inverse = np.ascontiguousarray(x), 1.0 / error

    def differences(p: NDArray[np.float64]) -> NDArray[np.float64]:
        model.curve(x, wanted.starts(p), constants, value, derivative)
        return (value - rate) * inverse

    return differences


def _least_squares(
    residual: Callable[[NDArray[np.float64]], NDArray[np.float64]], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, int, bool]:
    """Return parameters, errors, chi2, calls, and whether it converged, of MINPACK's lmdif."""
    from scipy.optimize import leastsq

    with np.errstate(all="ignore"):
        found: tuple[Any, ...] = leastsq(
            residual, start, full_output=True, ftol=_TOLERANCE, xtol=_TOLERANCE, maxfev=200 * (start.size + 1)
        )
        values, covariance, details, _, code = found
        chi2 = float(np.sum(details["fvec"] ** 2))
        errors = np.full(start.size, np.inf)
        ndf = details["fvec"].size - start.size
        if covariance is not None and ndf > 0:
            errors = np.sqrt(np.diag(covariance) * chi2 / ndf)
    return values, errors, chi2 if np.isfinite(chi2) else np.nan, int(details["nfev"]), code in {1, 2, 3, 4}


def _usual_start(
    wanted: Equation,
    counts: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
) -> NDArray[np.float64]:
    if wanted.kind in {"same", "swapped"}:
        what = f"the equation {wanted.name} has no start values of its own in a fit of the original's kind"
        raise ConfigError(what, where="fit.start", known=list(wanted.reported), hint="give fit.start")
    rate = counts.sum(axis=0) / live_time
    top = int(np.argmax(rate))
    after = np.flatnonzero(rate[top:] < 0.5 * rate[top])
    position = float(thresholds[top + after[0]]) if after.size else float(thresholds[-1])
    first, second, width = LEGACY_START
    if wanted.kind != "fraction":
        # B and A of the other forms
        first, second = (1 - first) * second / 2, first * second / 2
    widths = [width] * (len(wanted.reported) - 3)
    return np.array([first, second, *widths, position])


def legacy_fit_type(
    values: NDArray[np.float64], chi2: NDArray[np.float64], ndf: NDArray[np.int64], status: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Return the original's codes of fits as the original makes them.

    Parameters
    ----------
    values : ndarray, shape (n, n_parameters)
        Reported parameters.
    chi2 : ndarray, shape (n,)
        NaN where it could not be computed.
    ndf : ndarray, shape (n,)
        Points less parameters.
    status : ndarray, shape (n,)
        As of `LegacyFits`.

    Returns
    -------
    ndarray of int8, shape (n,)
        1 good (chi2 below its 95 % quantile, the first three parameters and the position positive), 0 bad, -1 no
        convergence, -2 too few hits.
    """
    from scipy.stats import chi2 as distribution

    limit = distribution.ppf(0.95, np.maximum(ndf, 1))
    with np.errstate(invalid="ignore"):
        good = (chi2 < limit) & (chi2 > 0) & (ndf > 0)
        good &= (values[:, :3] > 0).all(axis=1) & (values[:, -1] > 0)
    found = np.where(good, 1, 0).astype(np.int8)
    found[status > 1] = -1
    found[status < 0] = -2
    return found
