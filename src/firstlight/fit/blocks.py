"""Blocks of channels, handed to the kernel by threads."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from firstlight.fit.data import FitData
    from firstlight.fit.model import Model

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = [
    "Attempt", "Settings", "available_threads", "bounds_of", "evaluator", "expected_counts", "run_blocks", "unit_powers",
]  # fmt: skip

_BLOCK = 2048
_SMALLEST_BLOCK = 128
_ESTIMATORS = {"poisson": 0, "binomial": 1, "gaussian": 2, "unweighted": 2}


@dataclass(frozen=True)
class Settings:
    """How fits are carried out.

    Parameters
    ----------
    threads : int
        Threads that fit blocks.
    tolerance : float
        Promised gain of the deviance at which a fit has converged.
    max_iterations : int
        Largest number of steps.
    progress : callable, optional
        Called with the number of channels that were just done.
    """

    threads: int = 1
    tolerance: float = 1e-5
    max_iterations: int = 100
    progress: Callable[[float], None] | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt at some channels; arrays have the channel first and can be overwritten by later attempts.

    Parameters
    ----------
    starts, values : ndarray, shape (n_channels, n_parameters)
        Start values and results.
    covariance : ndarray, shape (n_channels, n_parameters, n_parameters)
        Inverse information.
    at_bound, fixed : ndarray of bool, shape (n_channels, n_parameters)
        Parameters at a bound, and not fitted.
    numbers : ndarray, shape (n_channels, 4)
        Deviance, total, mean and variance of the deviance if the model is right.
    wholes : ndarray of int64, shape (n_channels, 3)
        Status, iterations, degrees of freedom.
    """

    starts: FloatArray
    values: FloatArray
    covariance: FloatArray
    at_bound: BoolArray
    fixed: BoolArray
    numbers: FloatArray
    wholes: NDArray[np.int64]

    @property
    def status(self) -> NDArray[np.int64]:
        """Status of each channel."""
        return self.wholes[:, 0]

    @property
    def deviance(self) -> FloatArray:
        """Deviance of each channel, NaN without one."""
        return self.numbers[:, 0]

    @property
    def total(self) -> FloatArray:
        """Sum of the counts of each channel."""
        return self.numbers[:, 1]

    def replace(self, channels: NDArray[np.int64], other: Attempt, rows: NDArray[np.int64]) -> None:
        """Overwrite some channels by rows of another attempt."""
        for name in ("starts", "values", "covariance", "at_bound", "fixed", "numbers", "wholes"):
            getattr(self, name)[channels] = getattr(other, name)[rows]


def available_threads() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unit_powers(unit: str) -> tuple[int, int]:
    """Return the powers of y and x in the unit of a parameter: ``"y/x"`` gives 1 and -1."""
    powers = {"y": 0, "x": 0}
    for sign, name, power in re.findall(r"(\*|/|)([xy])(?:\^(\d+))?", unit.replace(" ", "")):
        powers[name] += (-1 if sign == "/" else 1) * int(power or 1)
    return powers["y"], powers["x"]


def _kernels(model: Model, data: FitData) -> tuple[Any, Any, list[int]]:
    """Return curve and scalar of the model, and whether it is scalar, has edges, and is integrated by quadrature."""
    from firstlight.fit.evaluate import no_curve, no_scalar

    if data.edges and model.integral is not None:
        return model.integral, no_scalar, [0, 1, 0]
    is_scalar = model.curve is None
    curve = no_curve if is_scalar else model.curve
    return curve, model.scalar if is_scalar else no_scalar, [int(is_scalar), int(data.edges), int(data.edges)]


def _rows(array: Any, n_columns: int, part: slice, dtype: Any = np.float64) -> NDArray[Any]:
    """Return the rows of some channels, or the one row that all channels have."""
    array = np.asarray(array)
    rows = array[part] if array.ndim == 2 else np.broadcast_to(array, (1, n_columns))
    return np.require(rows, dtype=dtype, requirements=["C", "W"])  # the kernel takes no read-only arrays


def _shift(data: FitData, part: slice, n: int) -> FloatArray:
    return np.zeros(n) if data.shift is None else np.require(data.shift[part], np.float64, ["C", "W"])


def bounds_of(model: Model, data: FitData) -> FloatArray:
    """Return the bounds of the parameters, shape (2, n_parameters)."""
    pairs = [data.bounds.get(one.name, (one.lower, one.upper)) for one in model.parameters]
    return np.ascontiguousarray(np.array(pairs, dtype=np.float64).reshape(-1, 2).T)


def _tables(data: FitData) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    from firstlight.fit.goodness import MOST_TRIALS, moment_tables

    if data.estimator != "binomial":
        return moment_tables()
    few = data.exposure[data.exposure <= MOST_TRIALS]
    return moment_tables(np.unique(few).tolist())


def run_blocks(model: Model, data: FitData, start: FloatArray | None, settings: Settings) -> Attempt:
    """Fit all channels from one kind of start values.

    Parameters
    ----------
    model : Model
        What is fitted.
    data : FitData
        Checked data.
    start : ndarray, shape (n_parameters,) or (n_channels, n_parameters), optional
        Start values; None: those of the model, from the data.
    settings : Settings
        How.

    Returns
    -------
    Attempt
        The same to the last bit for any number of threads.
    """
    from firstlight.fit.engine import fit_block
    from firstlight.fit.evaluate import no_start

    n, size = len(model), data.n_channels
    curve, scalar, ways = _kernels(model, data)
    options = np.array(
        [_ESTIMATORS[data.estimator], settings.max_iterations, *ways, int(start is None)], dtype=np.int64
    )
    is_fixed = np.array([name in data.fixed for name in model.names], dtype=np.bool_)
    fixed = np.zeros((size, n))
    for name, value in data.fixed.items():
        fixed[:, model.index(name)] = value
    attempt = Attempt(
        np.full((size, n), np.nan),
        np.full((size, n), np.nan),
        np.full((size, n, n), np.nan),
        np.zeros((size, n), dtype=np.bool_),
        np.tile(is_fixed, (size, 1)),
        np.full((size, 4), np.nan),
        np.zeros((size, 3), dtype=np.int64),
    )
    begin = no_start if start is None and model.start is None else (model.start or no_start)
    given = np.zeros(n) if start is None else start
    units = np.array([unit_powers(one.unit) for one in model.parameters], dtype=np.float64).reshape(-1, 2).T
    bounds, constants = bounds_of(model, data), np.array(model.constants, dtype=np.float64)
    tables, first_entries, place = _tables(data)

    # some blocks for each thread, so that few channels with slow models are shared, too
    block = max(min(_BLOCK, -(-size // (4 * settings.threads))), _SMALLEST_BLOCK)

    def fit(first: int) -> int:
        part = slice(first, min(first + block, size))
        here = part.stop - part.start
        fit_block(
            curve, scalar, begin, options, settings.tolerance,
            _rows(data.counts, data.n_points, part),
            _rows(data.x, data.x.shape[-1], part), _shift(data, part, here),
            _rows(data.exposure, data.n_points, part),
            _rows(True if data.mask is None else data.mask, data.n_points, part, np.bool_),
            _rows(1.0 if data.sigma is None else data.sigma, data.n_points, part),
            _rows(given, n, part), is_fixed, fixed[part], bounds, constants, np.ascontiguousarray(units),
            tables, first_entries, place, attempt.starts[part], attempt.values[part], attempt.covariance[part],
            attempt.at_bound[part], attempt.numbers[part], attempt.wholes[part],
        )  # fmt: skip
        return here

    firsts = range(0, size, block)
    if settings.threads == 1 or len(firsts) <= 1:
        for first in firsts:
            _tell(settings, fit(first))
    else:
        with ThreadPoolExecutor(settings.threads) as pool:
            for done in pool.map(fit, firsts):
                _tell(settings, done)
    return attempt


def _tell(settings: Settings, done: int) -> None:
    if settings.progress is not None:
        settings.progress(done)


def evaluator(model: Model, data: FitData) -> Callable[[FloatArray, FloatArray], None]:
    """Return a function that fills the expected counts of all points of all channels.

    Parameters
    ----------
    model : Model
        The curve.
    data : FitData
        For x, shift and exposure.

    Returns
    -------
    callable
        ``fill(values, expected)`` of shapes (n_channels, n_parameters) and (n_channels, n_points).
    """
    from firstlight.fit.evaluate import evaluate_block

    curve, scalar, ways = _kernels(model, data)
    options = np.array([_ESTIMATORS[data.estimator], 0, *ways, 0], dtype=np.int64)
    everything = slice(0, data.n_channels)
    x = _rows(data.x, data.x.shape[-1], everything)
    shift = _shift(data, everything, data.n_channels)
    exposure = _rows(data.exposure, data.n_points, everything)
    bounds, constants = bounds_of(model, data), np.array(model.constants, dtype=np.float64)

    kernel = model.integral if data.edges else model.curve
    if kernel is not None and data.n_channels == 1:
        # looking up function pointers costs a hundred times more than one curve
        seen = np.ascontiguousarray(
            np.asarray(x, dtype=np.float64).reshape(-1) - np.asarray(shift).reshape(-1)[0]
        )
        times = np.broadcast_to(np.asarray(exposure, dtype=np.float64).reshape(-1), (data.n_points,))
        value, derivative = np.empty(data.n_points), np.empty((len(model), data.n_points))

        def fill_one(values: FloatArray, expected: FloatArray) -> None:
            kernel(seen, np.ascontiguousarray(values[0]), constants, value, derivative)
            expected[0] = times * value

        return fill_one

    def fill(values: FloatArray, expected: FloatArray) -> None:
        evaluate_block(curve, scalar, options, x, shift, exposure, values, constants, bounds, expected)

    return fill


def expected_counts(model: Model, data: FitData, values: FloatArray) -> FloatArray:
    """Return the expected counts of all points of all channels.

    Parameters
    ----------
    model, data : Model, FitData
        As for `evaluator`.
    values : ndarray, shape (n_channels, n_parameters)
        Of the parameters.

    Returns
    -------
    ndarray, shape (n_channels, n_points)
        NaN where a value is not known.
    """
    expected = np.full((data.n_channels, data.n_points), np.nan)
    evaluator(model, data)(np.require(values, np.float64, ["C", "W"]), expected)
    expected[~np.isfinite(values).all(axis=1)] = np.nan
    return expected
