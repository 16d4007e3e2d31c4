"""What is tried again where a fit did not end well, in this order.

1. Start values from the summed curve of all channels, scaled to the rate of the channel. For channels that did not
   converge, are not constrained, or stand at a bound (from which another minimum may be hidden); the better deviance is kept.
2. Weak parameters fixed to those of the summed curve, for channels that are still not constrained. Their status stays
   `not_constrained`; the other parameters get errors, if the data tell them.
3. MINUIT, for channels that still have not converged, of which at most `MOST_SINGLE_FITS` are tried. The kernel then starts
   from its minimum. Channels that have not converged even so are `failed`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from firstlight.fit.blocks import bounds_of, evaluator, expected_counts, run_blocks, unit_powers
from firstlight.fit.data import FitData
from firstlight.fit.result import Rung, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.fit.blocks import Attempt, Settings
    from firstlight.fit.model import Model

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["MOST_SINGLE_FITS", "climb", "summed_curve"]

log = logging.getLogger("firstlight")

MOST_SINGLE_FITS = 200
_TYPICAL = 4000
_SAME = 1e-3  # deviances closer than that are the same minimum
_ORDER = np.array([0, 1, 3, 2, 5, 4])  # of preference between statuses
_CONVERGED = (Status.ok, Status.at_bound, Status.not_constrained)


def climb(model: Model, data: FitData, attempt: Attempt, rung: NDArray[np.uint8], settings: Settings) -> None:
    """Try channels again that did not end well.

    Parameters
    ----------
    model, data : Model, FitData
        What was fitted to what.
    attempt : Attempt
        The first attempt; better ones replace its rows.
    rung : ndarray of uint8, shape (n_channels,)
        Changed in place: which attempt was kept.
    settings : Settings
        How fits are carried out.
    """
    quiet = replace(settings, progress=None)
    again = np.flatnonzero((attempt.status != Status.ok) & (attempt.status != Status.no_data))
    if again.size == 0:
        return
    found = _global_values(model, data, attempt, quiet)
    if found is not None:
        starts = np.full((data.n_channels, len(model)), np.nan)
        starts[again] = _scaled(model, data.select(again), attempt.total[again], found)
        _from_global_start(model, data, attempt, rung, quiet, again, starts)
        again = again[attempt.status[again] == Status.not_constrained]
        _reduced(model, data, attempt, rung, quiet, again, starts)
    again = np.flatnonzero((attempt.status == Status.max_iter) | (attempt.status == Status.failed))
    _single_fits(model, data, attempt, rung, quiet, again)


def _used(data: FitData) -> NDArray[np.bool_]:
    """Return which points are used, of shape (n_channels, n_points)."""
    used = np.isfinite(data.counts) & (data.exposure > 0)
    if data.mask is not None:
        used &= data.mask
    return np.asarray(used)


def _aligned(data: FitData) -> tuple[FloatArray, IntArray]:
    """Return points of a common axis, as the model sees them, and for each point of each channel which of them is nearest."""
    centres = 0.5 * (data.x[..., 1:] + data.x[..., :-1]) if data.edges else data.x
    if centres.ndim == 1 and data.shift is None:
        return centres, np.broadcast_to(np.arange(centres.size), data.counts.shape)
    seen = np.broadcast_to(centres, data.counts.shape)
    if data.shift is not None:
        seen = seen - data.shift[:, None]
    known = seen[np.isfinite(seen)]
    if known.size == 0:
        return np.zeros(1), np.zeros(data.counts.shape, dtype=np.int64)
    low, high = known.min(), known.max()
    steps = np.abs(np.diff(np.sort(centres, axis=-1), axis=-1))
    step = float(np.median(steps[steps > 0])) if np.any(steps > 0) else 1.0
    n = int(np.clip((high - low) / step + 1.5, 1, 16 * data.n_points))
    axis = np.linspace(low, high, n)
    place = np.rint((seen - low) * ((n - 1) / (high - low) if high > low else 0.0))
    return axis, np.where(np.isfinite(place), place, 0).astype(np.int64)


def summed_curve(data: FitData, channels: IntArray) -> FitData:
    """Return the sum over some channels as data of one channel, over x as the model sees it.

    Parameters
    ----------
    data : FitData
        All channels.
    channels : ndarray of int64
        Which are summed. With shifts, or an x of its own for each channel, points are added to the nearest point of a common
        axis.
    """
    part = data.select(channels)
    axis, place = _aligned(part)
    used = _used(part)
    width = np.diff(part.x, axis=-1) if part.edges else 1.0
    exposure = np.where(used, np.broadcast_to(part.exposure * width, used.shape), 0.0)
    if part.shift is not None:
        used &= np.isfinite(part.shift)[:, None]
        exposure[~used] = 0.0
    sums = np.bincount(place[used], part.counts[used], axis.size).astype(np.float64)
    times = np.bincount(place[used], exposure[used], axis.size).astype(np.float64)
    estimator = "unweighted" if part.estimator == "gaussian" else part.estimator
    fixed = {name: np.asarray(np.nanmedian(value)) for name, value in part.fixed.items()}
    return FitData(sums[None], axis, times[None], estimator=estimator, fixed=fixed, bounds=part.bounds)


def _global_values(model: Model, data: FitData, attempt: Attempt, settings: Settings) -> FloatArray | None:
    """Return the parameters of a typical channel: of the summed curve, else the medians of good fits."""
    good = np.flatnonzero(attempt.status == Status.ok)
    pool = good if good.size else np.flatnonzero(attempt.status != Status.no_data)
    # one channel that counts as much as many others would be the sum
    typical = np.median(np.abs(attempt.total[pool]))
    pool = pool[np.abs(attempt.total[pool]) <= 20 * typical]
    # some thousands of channels tell what a typical one is
    pool = pool[:: max(pool.size // _TYPICAL, 1)]
    result = None
    # the sum is a curve at points: a model that is only known over bins has none
    if pool.size > 1 and (model.curve is not None or model.scalar is not None):
        summed = summed_curve(data, pool)
        start = (
            None
            if model.start is not None
            else np.median(attempt.values[good], axis=0)
            if good.size
            else None
        )
        if model.start is not None or start is not None:
            fit = run_blocks(model, summed, start, settings)
            if fit.status[0] in (Status.ok, Status.at_bound):
                result = fit.values[0]
    if result is None and good.size:
        result = np.median(attempt.values[good], axis=0)
    return result


def _scaled(model: Model, data: FitData, total: FloatArray, found: FloatArray) -> FloatArray:
    """Return global values for each channel: parameters that are rates follow the rate of the channel.

    Shape (n_channels, n_parameters).
    """
    starts = np.tile(found, (data.n_channels, 1))
    powers = np.array([unit_powers(one.unit)[0] for one in model.parameters])
    if model.kind == "probability" or not powers.any():
        return starts
    expected = expected_counts(model, data, starts)
    reference = np.sum(np.where(_used(data), expected, 0.0), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = total / reference
    ratio = np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0)
    return np.asarray(starts * ratio[:, None] ** powers)


def _better(attempt: Attempt, other: Attempt, channels: IntArray) -> NDArray[np.bool_]:
    """Return which rows of another attempt at some channels are to be kept."""
    before, after = attempt.deviance[channels], other.deviance
    order, other_order = _ORDER[attempt.status[channels]], _ORDER[other.status]
    before = np.where(np.isfinite(before), before, np.inf)
    lower = after < before - _SAME
    same = np.abs(after - before) <= _SAME
    converged = np.isin(other.status, _CONVERGED)
    was_converged = np.isin(attempt.status[channels], _CONVERGED)
    return np.asarray(
        np.isfinite(after) & ((lower & (converged | ~was_converged)) | (same & (other_order < order)))
    )


def _take(
    attempt: Attempt,
    other: Attempt,
    rung: NDArray[np.uint8],
    kind: Rung,
    channels: IntArray,
    better: NDArray[np.bool_],
) -> None:
    rows = np.flatnonzero(better)
    attempt.replace(channels[rows], other, rows)
    rung[channels[rows]] = kind


def _from_global_start(
    model: Model, data: FitData, attempt: Attempt, rung: NDArray[np.uint8], settings: Settings, channels: IntArray,
    starts: FloatArray,
) -> None:  # fmt: skip
    other = run_blocks(model, data.select(channels), starts[channels], settings)
    _take(attempt, other, rung, Rung.global_start, channels, _better(attempt, other, channels))


def _reduced(
    model: Model, data: FitData, attempt: Attempt, rung: NDArray[np.uint8], settings: Settings, channels: IntArray,
    starts: FloatArray,
) -> None:  # fmt: skip
    weak = [one.name for one in model.parameters if one.weak and one.name not in data.fixed]
    if not weak or channels.size == 0:
        return
    part = data.select(channels)
    bounds = bounds_of(model, data)
    held = {
        name: np.clip(starts[channels, model.index(name)], *bounds[:, model.index(name)]) for name in weak
    }
    other = run_blocks(model, replace(part, fixed={**part.fixed, **held}), starts[channels], settings)
    told = np.isin(other.status, (Status.ok, Status.at_bound))
    other.wholes[told, 0] = Status.not_constrained
    _take(attempt, other, rung, Rung.reduced, channels, told)


def _single_fits(
    model: Model,
    data: FitData,
    attempt: Attempt,
    rung: NDArray[np.uint8],
    settings: Settings,
    channels: IntArray,
) -> None:
    if channels.size > MOST_SINGLE_FITS:
        log.warning(
            "%d fits of %s did not converge; MINUIT tries the first %d of them",
            channels.size, model.name, MOST_SINGLE_FITS,
        )  # fmt: skip
        channels = channels[:MOST_SINGLE_FITS]
    patient = replace(settings, max_iterations=max(100, settings.max_iterations))
    for channel in channels:
        here = np.array([channel])
        part = data.select(here)
        begin = np.where(
            np.isfinite(attempt.values[channel]), attempt.values[channel], attempt.starts[channel]
        )
        found = _minuit(model, part, begin) if np.isfinite(begin).all() else None
        if found is not None:
            other = run_blocks(model, part, found, patient)
            better = _better(attempt, other, here) & np.isin(other.status, _CONVERGED)
            _take(attempt, other, rung, Rung.iminuit, here, better)
        if attempt.status[channel] not in _CONVERGED:
            attempt.wholes[channel, 0] = Status.failed


def _minuit(model: Model, part: FitData, begin: FloatArray) -> FloatArray | None:
    """Return the minimum that MINUIT finds for data of one channel, if it finds one."""
    from iminuit import Minuit

    counts = np.asarray(part.counts[0], dtype=np.float64)
    used = _used(part)[0]

    fill, expected = evaluator(model, part), np.empty((1, counts.size))

    def cost(p: FloatArray) -> float:
        fill(np.array(p, dtype=np.float64)[None], expected)
        return _deviance(part, counts[used], expected[0, used], used)

    minuit = Minuit(cost, begin, name=model.names)
    minuit.errordef = Minuit.LEAST_SQUARES
    bounds = bounds_of(model, part)
    for index, name in enumerate(model.names):
        minuit.limits[name] = tuple(bounds[:, index])
        minuit.fixed[name] = name in part.fixed
        minuit.errors[name] = 0.1 * abs(begin[index]) or 0.1
    minuit.tol = 1e-3
    minuit.migrad(ncall=1000)
    if not minuit.valid:
        minuit.simplex(ncall=500).migrad(ncall=1000)
    result = np.array(minuit.values)
    return result if np.isfinite(result).all() and np.isfinite(minuit.fval) else None


def _deviance(part: FitData, counts: FloatArray, expected: FloatArray, used: NDArray[np.bool_]) -> float:
    """Return the deviance of one channel, very large where the model is no rate or no probability."""
    from scipy.special import xlogy

    if part.estimator in ("gaussian", "unweighted"):
        sigma = np.broadcast_to(1.0 if part.sigma is None else part.sigma, (1, used.size))[0, used]
        return float(np.sum(((counts - expected) / sigma) ** 2))
    if not np.isfinite(expected).all() or np.any((expected <= 0) & (counts > 0)) or np.any(expected < 0):
        return 1e12
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.sum(xlogy(counts, np.where(counts > 0, counts / expected, 1.0)))
        if part.estimator == "poisson":
            return float(2 * (total + np.sum(expected - counts)))
        trials = np.broadcast_to(part.exposure, (1, used.size))[0, used]
        if np.any(expected > trials) or np.any((expected >= trials) & (counts < trials)):
            return 1e12
        rest = trials - counts
        return float(2 * (total + np.sum(xlogy(rest, np.where(rest > 0, rest / (trials - expected), 1.0)))))
