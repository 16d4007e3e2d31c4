"""Fits as the original makes them, for those who want its numbers: least squares, and one zero spoils a pixel.

A pixel with a zero between its first and its last hit has an error of 0 there, the original's fit returns
its start values, and the pixel is bad. A likelihood has no such trouble; this mode is for comparisons.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.velo.models import unbounded
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.velo.models import Equation
    from firstlight.detectors.velo.options import FitParameters
    from firstlight.fit import FitResult

__all__ = ["LEGACY_START", "fit_as_original", "legacy_fit_type"]

# f, A, s, E0 where a dataset says nothing; the position is the threshold at half of the summed rate
LEGACY_START = (0.0009, 8.0, 12.0)


def fit_as_original(
    counts: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
    wanted: Equation,
    parameters: FitParameters,
) -> tuple[FitResult, NDArray[np.int8]]:
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

    Returns
    -------
    result : FitResult
        Rates fitted; the p-value is that of chi2, NaN where the original could not compute it.
    status : ndarray of int8, shape (n_curves,)
        Of `firstlight.fit.Status`; -1 where the original does not try.
    """
    from firstlight.fit import Status, fit_many

    live = live_time > 0
    rate = np.zeros(counts.shape)
    error = np.ones(counts.shape)
    rate[:, live] = counts[:, live] / live_time[live]
    error[:, live] = np.sqrt(counts[:, live]) / live_time[live]
    hit = counts > 0
    first = np.argmax(hit, axis=1)
    last = counts.shape[1] - 1 - np.argmax(hit[:, ::-1], axis=1)
    place = np.arange(counts.shape[1])
    inside = (place >= first[:, None]) & (place <= last[:, None]) & hit.any(axis=1)[:, None]
    spoilt = (inside & ~hit).any(axis=1)
    tried = _tried(counts, parameters.zero_fraction)
    n_parameters = len(wanted.reported)
    start = np.asarray(parameters.start, dtype=float)
    if start.size == 0:
        start = _usual_start(wanted, counts, thresholds, live_time)
    use = inside & live & hit & tried[:, None] & ~spoilt[:, None]
    result = fit_many(
        rate, thresholds, wanted.model, estimator="gaussian", sigma=np.where(error > 0, error, 1.0), mask=use,
        start=wanted.starts(tuple(start)), bounds=unbounded(wanted.model), rescue=False,
    )  # fmt: skip
    status = result.status.astype(np.int8)
    # fewer points than parameters: the original's fit refuses them
    status[tried & ~spoilt & (inside.sum(axis=1) < n_parameters)] = Status.failed
    # the original gets its start values back, with infinite errors
    values = np.where(spoilt[:, None], wanted.starts(tuple(start)), result.values)
    status[spoilt] = Status.ok
    status[~tried] = -1
    lost = spoilt | ~tried
    p_value = np.where(lost, np.nan, result.p_value)
    deviance = np.where(lost, np.nan, result.deviance)
    return replace(result, values=values, p_value=p_value, deviance=deviance), status


def _tried(counts: NDArray[np.int32], zero_fraction: float) -> NDArray[np.bool_]:
    """Return which curves the original fits: less than so many of their thresholds are zero."""
    zeros = np.count_nonzero(counts == 0, axis=1)
    return np.asarray(zeros < zero_fraction * counts.shape[1])


def _usual_start(
    wanted: Equation,
    counts: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
) -> NDArray[np.float64]:
    if wanted.kind in {"same", "swapped"}:
        what = f"the equation {wanted.name} has no start values of its own in a fit of the original's kind"
        raise ConfigError(what, where="fit.start", known=list(wanted.reported), hint="give fit.start")
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.where(live_time > 0, counts.sum(axis=0) / live_time, np.nan)
    below = np.flatnonzero(rate < 0.5 * np.nanmax(rate))
    after = below[below > int(np.nanargmax(rate))]
    position = float(thresholds[after[0]]) if after.size else float(thresholds[-1])
    fraction, amplitude, width = LEGACY_START
    if wanted.kind != "fraction":
        first, second = fraction * amplitude / 2, (1 - fraction) * amplitude / 2
        fraction, amplitude = second, first
    widths = [width] * (len(wanted.reported) - 3)
    return np.array([fraction, amplitude, *widths, position])


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
        As returned by `fit_as_original`.

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
