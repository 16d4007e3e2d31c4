"""Kernels of the time-walk fit: differences to the other boards, straight and orthogonal least squares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["apply_curves", "fill_delta", "fit_linear", "fit_orthogonal", "hash_folds", "mark_window"]

_SETTLED = 1e-5  # relative change of the scale after which a window stays
_SINGULAR = 1e-11  # of a pivot, relative to its diagonal: such a direction is not determined


@kernel
def hash_folds(events: Integers, seed: int, n_folds: int) -> Integers:
    """Return the fold of each event: a hash of its number (SplitMix64), whatever the order.

    Parameters
    ----------
    events : ndarray of int64, shape (n_events,)
        Numbers of the events.
    seed : int
        Another seed gives other folds.
    n_folds : int
        How many.

    Returns
    -------
    ndarray of int64, shape (n_events,)
        From 0 to `n_folds` - 1.
    """
    folds = np.empty(len(events), np.int64)
    for index in range(len(events)):
        z = np.uint64(events[index]) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        folds[index] = np.int64(z % np.uint64(n_folds))
    return folds


@kernel
def fill_delta(raw: Floats, current: Floats, delta: Floats) -> None:
    """Fill, for each board, the mean of the others (corrected so far) minus its own raw time.

    Parameters
    ----------
    raw, current : ndarray, shape (n_boards, n_events)
        Raw times and times corrected so far; NaN where a board is missing.
    delta : ndarray, shape (n_boards, n_events)
        Filled; NaN where the board, or every other one, is missing.
    """
    n_boards, n_events = raw.shape
    for event in range(n_events):
        total = 0.0
        present = 0
        for board in range(n_boards):
            if not math.isnan(current[board, event]):
                total += current[board, event]
                present += 1
        for board in range(n_boards):
            own = current[board, event]
            if math.isnan(own) or present < 2:
                delta[board, event] = math.nan
            else:
                delta[board, event] = (total - own) / (present - 1) - raw[board, event]


@kernel
def _invert(matrix: Floats, inverse: Floats) -> int:
    """Fill the inverse of a positive matrix, zeros for what is not determined. Return the rank."""
    size = len(matrix)
    work = matrix.copy()
    inverse[:] = 0.0
    used = np.zeros(size, np.bool_)
    # Gauss-Jordan sweeps in the order of the basis: what an earlier function explains is not left for a later
    # one
    for pivot in range(size):
        value = work[pivot, pivot]
        if not value > _SINGULAR * matrix[pivot, pivot]:
            continue
        used[pivot] = True
        for row in range(size):
            if row != pivot:
                factor = work[row, pivot] / value
                for column in range(size):
                    if column != pivot:
                        work[row, column] -= factor * work[pivot, column]
        for other in range(size):
            if other != pivot:
                work[pivot, other] /= value
                work[other, pivot] /= -value
        work[pivot, pivot] = 1.0 / value
    rank = 0
    for row in range(size):
        rank += used[row]
        for column in range(size):
            if used[row] and used[column]:
                inverse[row, column] = work[row, column]
    return rank


@kernel
def _add_event(row: Floats, value: float, weight: float, matrix: Floats, vector: Floats) -> None:
    size = len(row)
    for first in range(size):
        product = weight * row[first]
        vector[first] += product * value
        for second in range(first + 1):
            matrix[first, second] += product * row[second]


@kernel
def _sum_window(
    basis: Floats,
    values: Floats,
    weights: Floats,
    folds: Integers,
    curve: Floats,
    limit: float,
    matrices: Floats,
    vectors: Floats,
    totals: Floats,
) -> None:
    """Fill the normal equations of each fold from the events within `limit` of a curve.

    Right sides are of the residuals from the curve: these are small numbers, nothing cancels. `totals` has
    the weighted number of events and the sum of their squared residuals.
    """
    size = len(curve)
    matrices[:] = 0.0
    vectors[:] = 0.0
    totals[:] = 0.0
    for event in range(len(values)):
        weight = weights[event]
        rest = values[event]
        if weight == 0.0 or math.isnan(rest):
            continue
        for index in range(size):
            rest -= curve[index] * basis[event, index]
        if abs(rest) > limit:
            continue
        fold = folds[event]
        _add_event(basis[event], rest, weight, matrices[fold], vectors[fold])
        totals[fold, 0] += weight
        totals[fold, 1] += weight * rest * rest
    for fold in range(len(matrices)):
        for row in range(size):
            for column in range(row):
                matrices[fold, column, row] = matrices[fold, row, column]


@kernel
def fit_linear(
    basis: Floats,
    values: Floats,
    weights: Floats,
    folds: Integers,
    n_folds: int,
    core: float,
    narrowing: float,
    start: Floats,
    scale: float,
    passes: int,
    coefficients: Floats,
    covariances: Floats,
) -> float:
    """Fit a curve that is linear in its coefficients to the events near it, and without each fold.

    Parameters
    ----------
    basis : ndarray, shape (n_events, n_coefficients)
        Functions of the curve at each event.
    values, weights : ndarray, shape (n_events,)
        What is fitted (NaN: not used), and how often the event counts.
    folds : ndarray of int64, shape (n_events,)
        Part that the event belongs to.
    n_folds : int
        Number of parts; 1 for no cross-fit.
    core : float
        Half width of the window in units of the scale; infinite for all events.
    narrowing : float
        Standard deviation of a unit Gaussian that is cut off at `core`.
    start, scale : ndarray, shape (n_coefficients,), and float
        Curve and scale at which the window starts.
    passes : int
        At most so many windows.
    coefficients : ndarray, shape (n_folds + 1, n_coefficients)
        Filled: row k without fold k, the last row with all events.
    covariances : ndarray, shape (n_folds + 1, n_coefficients, n_coefficients)
        Filled: their covariance.

    Returns
    -------
    float
        Standard deviation of the residuals, corrected for the cut.
    """
    size = basis.shape[1]
    matrices = np.zeros((n_folds, size, size))
    vectors = np.zeros((n_folds, size))
    totals = np.zeros((n_folds, 2))
    inverse = np.zeros((size, size))
    curve = start.copy()
    base = start.copy()
    for _ in range(passes):
        _sum_window(basis, values, weights, folds, curve, core * scale, matrices, vectors, totals)
        rank = _invert(matrices.sum(axis=0), inverse)
        vector = vectors.sum(axis=0)
        step = inverse @ vector
        sums = totals.sum(axis=0)
        base = curve
        curve = curve + step
        before = scale
        square = max(sums[1] - (step * vector).sum(), 0.0)
        scale = math.sqrt(square / max(sums[0] - rank, 1.0)) / narrowing
        if abs(scale - before) <= _SETTLED * scale:
            break
    for fold in range(n_folds + 1):
        matrix = matrices.sum(axis=0)
        vector = vectors.sum(axis=0)
        sums = totals.sum(axis=0)
        if fold < n_folds and n_folds > 1:
            matrix -= matrices[fold]
            vector -= vectors[fold]
            sums -= totals[fold]
        rank = _invert(matrix, inverse)
        step = inverse @ vector
        square = max(sums[1] - (step * vector).sum(), 0.0)
        coefficients[fold] = base + step
        covariances[fold] = inverse * (square / max(sums[0] - rank, 1.0) / narrowing**2)
    return scale


@kernel
def mark_window(
    basis: Floats, values: Floats, weights: Floats, curve: Floats, limit: float, inside: Floats
) -> None:
    """Fill the weights of the events within `limit` of a curve; 0 for the others."""
    for event in range(len(values)):
        rest = values[event]
        for index in range(len(curve)):
            rest -= curve[index] * basis[event, index]
        inside[event] = weights[event] if abs(rest) <= limit else 0.0


@kernel
def _nearest(x: float, y: float, curve: Floats) -> tuple[float, float, float]:
    """Return abscissa and slope of the point of a polynomial nearest to (x, y), and y minus its height."""
    at = x
    value = slope = 0.0
    for _ in range(25):
        value = slope = bend = 0.0
        for power in range(len(curve) - 1, -1, -1):
            bend = bend * at + 2.0 * slope
            slope = slope * at + value
            value = value * at + curve[power]
        rest = y - value
        # half of the squared distance: gradient, and curvature where it is positive
        gradient = at - x - rest * slope
        curvature = 1.0 + slope * slope - rest * bend
        if curvature < 0.1 * (1.0 + slope * slope):
            curvature = 1.0 + slope * slope
        step = gradient / curvature
        at -= step
        if abs(step) < 1e-13 * (1.0 + abs(at)):
            break
    return at, slope, y - value


@kernel
def fit_orthogonal(
    x: Floats, y: Floats, weights: Floats, curve: Floats, covariance: Floats, max_steps: int
) -> int:
    """Fit a polynomial by the sum of squared distances of the points to it: both axes have the same weight.

    Gauss-Newton steps. The distance of a point changes with the curve as if its foot stood still, so that the
    gradient is exact (P. T. Boggs, R. H. Byrd, R. B. Schnabel, SIAM J. Sci. Stat. Comput. 8 (1987) 1052).

    Parameters
    ----------
    x, y, weights : ndarray, shape (n_events,)
        The points; weight 0 or NaN: not used.
    curve : ndarray, shape (order + 1,)
        Coefficients, lowest power first: the start, then the result.
    covariance : ndarray, shape (order + 1, order + 1)
        Filled: covariance of the coefficients, with the scatter of the points as their error.
    max_steps : int
        At most so many steps.

    Returns
    -------
    int
        Steps made, or -1 if the fit did not converge.
    """
    size = len(curve)
    row = np.empty(size)
    inverse = np.zeros((size, size))
    best = curve.copy()
    lowest = math.inf
    step = np.zeros(size)
    shrink = 1.0
    for count in range(max_steps):
        matrix = np.zeros((size, size))
        vector = np.zeros(size)
        square = 0.0
        total = 0.0
        for event in range(len(x)):
            weight = weights[event]
            if weight == 0.0 or math.isnan(y[event]) or math.isnan(x[event]):
                continue
            at, slope, rest = _nearest(x[event], y[event], curve)
            norm = math.sqrt(1.0 + slope * slope)
            distance = (rest - slope * (x[event] - at)) / norm
            power = 1.0 / norm
            for index in range(size):
                row[index] = power
                power *= at
            _add_event(row, distance, weight, matrix, vector)
            square += weight * distance * distance
            total += weight
        if square > lowest * (1.0 + 1e-13):
            shrink *= 0.5
            curve[:] = best + shrink * step
            if shrink < 1e-8:
                return -1
            continue
        shrink = 1.0
        for first in range(size):
            for second in range(first):
                matrix[second, first] = matrix[first, second]
        rank = _invert(matrix, inverse)
        covariance[:] = inverse * (square / max(total - rank, 1.0))
        best[:] = curve
        lowest = square
        step = inverse @ vector
        gain = (step * vector).sum()
        if gain <= 1e-16 * square or square == 0.0:
            return count + 1
        curve[:] = best + step
    return -1


@kernel
def apply_curves(
    basis: Floats, folds: Integers, coefficients: Floats, raw: Floats, corrected: Floats
) -> None:
    """Fill raw time plus the curve that was fitted without the fold of the event."""
    n_events, size = basis.shape
    for event in range(n_events):
        fold = folds[event]
        value = raw[event]
        for index in range(size):
            value += coefficients[fold, index] * basis[event, index]
        corrected[event] = value
