"""Kernel that fits a Gaussian rate to the readings of a counter that stops, pixel by pixel.

The rate is a Gaussian of the threshold, so its logarithm is a parabola ``a + b u + c u^2``. The likelihood of
Poisson counts with such a mean is concave in a, b and c, also where a reading of 63 only says "63 or more":
there is one maximum, and Fisher scoring with halved steps finds it from any start. Mean, width and amplitude
and their errors follow from the parabola.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "CONVERGED",
    "MAX_ITERATIONS",
    "NO_HITS",
    "N_QUANTITIES",
    "UNCONSTRAINED",
    "deviance_moments",
    "fit_pixels",
]

CONVERGED = 0
UNCONSTRAINED = 1
MAX_ITERATIONS = 2
NO_HITS = 3
N_QUANTITIES = 12
"""Columns of the result of `fit_pixels`: amplitude, its error, mean, its error, width, its error, covariance of
mean and width, deviance, its expectation, its variance, points used, hits at other points."""

_LIMIT = 100
_PASSES = 8
_TOLERANCE = 1e-9  # of the expected fall of -2 ln L: 3e-5 standard errors
# ends of the logarithm of an expected count: e^12 is far beyond what a counter can tell
_LOWEST, _HIGHEST = -60.0, 12.0


@kernel
def _last_term(log_mean: float, top: int, log_factorial: Floats) -> float:
    """Return the probability of exactly ``top - 1`` hits."""
    exponent = (top - 1) * log_mean - np.exp(log_mean) - log_factorial[top - 1]
    return np.exp(exponent) if exponent > -700.0 else 0.0


@kernel
def _ratio_above(mean: float, top: int) -> float:
    """Return P(top or more) / P(top - 1) of a Poisson count, as a sum of positive terms."""
    term = mean / top
    total = term
    number = top + 1
    while term > 1e-16 * total and number < 100_000:
        term *= mean / number
        total += term
        number += 1
    return total


@kernel
def _below(mean: float, last: float, top: int) -> float:
    """Return P(less than top) of a Poisson count from P(top - 1), as a sum of positive terms."""
    term = last
    total = term
    for number in range(top - 1, 0, -1):
        term *= number / mean
        total += term
        if term < 1e-17 * total:
            break
    return total


@kernel
def _point(log_mean: float, hits: int, top: int, log_factorial: Floats, result: Floats) -> None:
    """Fill log likelihood, score and expected information of one reading, for the logarithm of the mean.

    Below `top` the reading is the count, at `top` it stands for `top` or more. Information from the identities
    of truncated Poisson moments: with F = P(< top), S = 1 - F and p = P(top - 1) it is
    ``mean F + mean p (mean - top) + (mean p)^2 / S``.
    """
    mean = np.exp(log_mean)
    last = _last_term(log_mean, top, log_factorial)
    if mean < top:
        ratio = _ratio_above(mean, top)
        below = 1.0 - last * ratio
    else:
        below = _below(mean, last, top) if last > 0.0 else 0.0
        ratio = (1.0 - below) / last if last > 0.0 else np.inf
    if hits < top:
        result[0] = hits * log_mean - mean - log_factorial[hits]
        result[1] = hits - mean
    elif mean < top:
        result[0] = (top - 1) * log_mean - mean - log_factorial[top - 1] + np.log(ratio)
        result[1] = mean / ratio
    else:
        result[0] = np.log1p(-below)
        result[1] = mean / ratio
    score = mean / ratio if ratio < np.inf else 0.0
    result[2] = max(mean * below + mean * last * (mean - top + score), 0.0)
    # for `_correct`: E[third derivative] + 2 E[second times first]. The score of a full counter is s = mean / ratio, and
    # its derivative s (top - mean - s)
    above = 1.0 - below if mean >= top else last * ratio
    slope = score * (top - mean - score)
    bend = slope * (top - mean - score) - score * (mean + slope)
    result[3] = above * bend - mean * below + 2.0 * (mean * mean * last + above * score * slope)


@kernel
def _sums(
    hits: NDArray[np.uint8],
    used: NDArray[np.bool_],
    u: Floats,
    curve: Floats,
    top: int,
    log_factorial: Floats,
    work: Floats,
    score: Floats,
    information: Floats,
) -> float:
    """Return the log likelihood of one pixel; fill the score (3,) and the information (3, 3)."""
    score[:] = 0.0
    information[:, :] = 0.0
    total = 0.0
    for point in range(u.size):
        if not used[point]:
            continue
        x = u[point]
        log_mean = curve[0] + x * (curve[1] + x * curve[2])
        log_mean = min(max(log_mean, _LOWEST), _HIGHEST)
        if hits[point] == 0 and log_mean < -16.0:
            total -= np.exp(log_mean)
            continue
        _point(log_mean, int(hits[point]), top, log_factorial, work)
        total += work[0]
        power = 1.0
        for i in range(3):
            score[i] += work[1] * power
            power *= x
        power = 1.0
        for order in range(5):
            for i in range(max(0, order - 2), min(2, order) + 1):
                information[i, order - i] += work[2] * power
            power *= x
    return total


@kernel
def _solve(matrix: Floats, vector: Floats, inverse: Floats, step: Floats) -> bool:
    """Fill the inverse of a symmetric positive (3, 3) matrix and its product with a vector; False if it is singular."""
    scale = np.empty(3)
    for i in range(3):
        if not matrix[i, i] > 0.0:
            return False
        scale[i] = 1.0 / np.sqrt(matrix[i, i])
    a = matrix[0, 1] * scale[0] * scale[1]
    b = matrix[0, 2] * scale[0] * scale[2]
    c = matrix[1, 2] * scale[1] * scale[2]
    determinant = 1.0 + 2.0 * a * b * c - a * a - b * b - c * c
    if not determinant > 1e-13:
        return False
    inverse[0, 0] = (1.0 - c * c) / determinant * scale[0] * scale[0]
    inverse[1, 1] = (1.0 - b * b) / determinant * scale[1] * scale[1]
    inverse[2, 2] = (1.0 - a * a) / determinant * scale[2] * scale[2]
    inverse[0, 1] = inverse[1, 0] = (b * c - a) / determinant * scale[0] * scale[1]
    inverse[0, 2] = inverse[2, 0] = (a * c - b) / determinant * scale[0] * scale[2]
    inverse[1, 2] = inverse[2, 1] = (a * b - c) / determinant * scale[1] * scale[2]
    for i in range(3):
        step[i] = inverse[i, 0] * vector[0] + inverse[i, 1] * vector[1] + inverse[i, 2] * vector[2]
    return True


@kernel
def _start(
    hits: NDArray[np.uint8], used: NDArray[np.bool_], threshold: Floats, top: int, curve: Floats
) -> bool:
    """Fill origin and unit of the reduced threshold and a first parabola; False where there is no hit."""
    total, first, second, highest = 0.0, 0.0, 0.0, 0.0
    for point in range(threshold.size):
        if used[point]:
            weight = float(hits[point])
            total += weight
            first += weight * threshold[point]
            second += weight * threshold[point] * threshold[point]
            highest = max(highest, weight)
    if total == 0.0:
        return False
    spacing = abs(threshold[1] - threshold[0])
    mean = first / total
    curve[3] = mean
    curve[4] = max(np.sqrt(max(second / total - mean * mean, 0.0)), 0.7 * spacing)
    curve[0] = np.log(1.3 * highest if highest >= top else highest)
    curve[1] = 0.0
    curve[2] = -0.5
    return True


@kernel
def _maximise(
    hits: NDArray[np.uint8],
    used: NDArray[np.bool_],
    u: Floats,
    curve: Floats,
    top: int,
    log_factorial: Floats,
    inverse: Floats,
) -> int:
    """Climb to the maximum of the likelihood; fill the parabola and the inverse of the information."""
    work, score, step, trial = np.empty(4), np.empty(3), np.zeros(3), np.empty(3)
    information = np.empty((3, 3))
    value = _sums(hits, used, u, curve, top, log_factorial, work, score, information)
    for _ in range(_LIMIT):
        if not _solve(information, score, inverse, step):
            return 1
        gain = score[0] * step[0] + score[1] * step[1] + score[2] * step[2]
        if gain < _TOLERANCE:
            return 0
        length = 1.0
        while True:
            for i in range(3):
                trial[i] = curve[i] + length * step[i]
            reached = _sums(hits, used, u, trial, top, log_factorial, work, score, information)
            if reached > value or length < 1e-4:
                break
            length *= 0.5
        if reached <= value:
            # no step upwards is left in double precision
            _sums(hits, used, u, curve, top, log_factorial, work, score, information)
            return 0 if gain < 1e-5 else 2
        value = reached
        curve[:3] = trial
    return 2


@kernel
def _deviance(
    hits: NDArray[np.uint8],
    used: NDArray[np.bool_],
    u: Floats,
    curve: Floats,
    top: int,
    log_factorial: Floats,
    table: Floats,
    result: Floats,
) -> None:
    """Fill deviance, its expectation and its variance at the fitted means."""
    work = np.empty(4)
    for point in range(u.size):
        if not used[point]:
            continue
        log_mean = min(max(curve[0] + u[point] * (curve[1] + u[point] * curve[2]), _LOWEST), _HIGHEST)
        number = int(hits[point])
        _point(log_mean, number, top, log_factorial, work)
        best = 0.0
        if 0 < number < top:
            best = number * np.log(float(number)) - number - log_factorial[number]
        result[7] += 2.0 * max(best - work[0], 0.0)
        position = (log_mean - table[0, 0]) / (table[0, 1] - table[0, 0])
        if position >= 0.0:
            low = min(int(position), table.shape[1] - 2)
            share = min(position - low, 1.0)
            result[8] += table[1, low] + share * (table[1, low + 1] - table[1, low])
            result[9] += table[2, low] + share * (table[2, low + 1] - table[2, low])


@kernel
def _quantities(curve: Floats, inverse: Floats, result: Floats) -> bool:
    """Fill amplitude, mean and width with errors from the parabola; False where it does not bend down clearly."""
    b, c = curve[1], curve[2]
    if not c < -3.0 * np.sqrt(inverse[2, 2]):
        return False
    unit = curve[4]
    width = 1.0 / np.sqrt(-2.0 * c)
    mean = -b / (2.0 * c)
    amplitude = np.exp(min(curve[0] - b * b / (4.0 * c), 600.0))
    # derivatives by a, b, c
    of_amplitude = (amplitude, amplitude * mean, amplitude * mean * mean)
    of_mean = (0.0, -0.5 / c * unit, -mean / c * unit)
    of_width = (0.0, 0.0, width * width * width * unit)
    variances = np.zeros(4)
    for i in range(3):
        for j in range(3):
            variances[0] += of_amplitude[i] * inverse[i, j] * of_amplitude[j]
            variances[1] += of_mean[i] * inverse[i, j] * of_mean[j]
            variances[2] += of_width[i] * inverse[i, j] * of_width[j]
            variances[3] += of_mean[i] * inverse[i, j] * of_width[j]
    result[0], result[1] = amplitude, np.sqrt(variances[0])
    result[2], result[3] = curve[3] + unit * mean, np.sqrt(variances[1])
    result[4], result[5] = width * unit, np.sqrt(variances[2])
    result[6] = variances[3]
    return True


@kernel
def _correct(
    used: NDArray[np.bool_],
    u: Floats,
    curve: Floats,
    top: int,
    log_factorial: Floats,
    inverse: Floats,
    result: Floats,
) -> None:
    """Take the first-order bias of a maximum-likelihood fit from mean and width.

    Cox and Snell, J. R. Stat. Soc. B 30 (1968) 248: for a parabola of the logarithm the bias of its coefficients is
    ``V X^T (E[third derivative] + 2 E[second times first]) h / 2`` with the covariance V and ``h = x^T V x`` at each
    point; to this comes the
    curvature of mean and width as functions of the coefficients. Where it is not small it is left out.
    """
    work, power, total = np.empty(4), np.ones(3), np.zeros(3)
    for point in range(u.size):
        if not used[point]:
            continue
        x = u[point]
        log_mean = min(max(curve[0] + x * (curve[1] + x * curve[2]), _LOWEST), _HIGHEST)
        _point(log_mean, 0, top, log_factorial, work)
        power[1], power[2] = x, x * x
        spread = 0.0
        for i in range(3):
            for j in range(3):
                spread += power[i] * inverse[i, j] * power[j]
        for i in range(3):
            total[i] += 0.5 * work[3] * spread * power[i]
    bias_b = inverse[1, 0] * total[0] + inverse[1, 1] * total[1] + inverse[1, 2] * total[2]
    bias_c = inverse[2, 0] * total[0] + inverse[2, 1] * total[1] + inverse[2, 2] * total[2]
    c, unit = curve[2], curve[4]
    mean, width = -curve[1] / (2.0 * c), 1.0 / np.sqrt(-2.0 * c)
    of_mean = -0.5 / c * bias_b - mean / c * bias_c
    of_mean += 0.5 * inverse[1, 2] / (c * c) + mean / (c * c) * inverse[2, 2]
    of_width = width**3 * bias_c + 1.5 * width**5 * inverse[2, 2]
    if abs(of_mean * unit) < 0.5 * result[3] and abs(of_width * unit) < 0.5 * result[5]:
        result[2] -= of_mean * unit
        result[4] -= of_width * unit


@kernel
def _around_peak(hits: NDArray[np.uint8], used: NDArray[np.bool_]) -> None:
    """Mark the points around the highest readings, up to two readings of 0 in a row on either side."""
    n = hits.size
    left = right = 0
    for point in range(n):
        if hits[point] > hits[left]:
            left = point
        if hits[point] >= hits[right]:
            right = point
    while left > 0 and not (hits[left] == 0 and hits[left - 1] == 0):
        left -= 1
    while right < n - 1 and not (hits[right] == 0 and hits[right + 1] == 0):
        right += 1
    for point in range(n):
        used[point] = max(left - 1, 0) <= point <= min(right + 1, n - 1)


@kernel
def _restrict(threshold: Floats, mean: float, reach: float, used: NDArray[np.bool_]) -> bool:
    """Mark the points within some distance of a mean; True if these are other points than before."""
    changed = False
    for point in range(threshold.size):
        inside = abs(threshold[point] - mean) <= reach
        changed |= inside != used[point]
        used[point] = inside
    return changed


@kernel
def _fit_pixel(
    hits: NDArray[np.uint8],
    used: NDArray[np.bool_],
    threshold: Floats,
    window: float,
    top: int,
    log_factorial: Floats,
    u: Floats,
    curve: Floats,
    inverse: Floats,
    result: Floats,
) -> int:
    """Fit one pixel, first around its peak, then within the window of the fit before, until that stays the same."""
    _around_peak(hits, used)
    for _ in range(_PASSES):
        if not _start(hits, used, threshold, top, curve):
            return 3
        for point in range(threshold.size):
            u[point] = (threshold[point] - curve[3]) / curve[4]
        status = _maximise(hits, used, u, curve, top, log_factorial, inverse)
        if status == 1 or not _quantities(curve, inverse, result):
            return 1
        if not _restrict(threshold, result[2], window * result[4], used):
            break
    return status


@kernel
def fit_pixels(
    counts: NDArray[np.uint8],
    threshold: Floats,
    window: float,
    top: int,
    log_factorial: Floats,
    table: Floats,
    result: Floats,
    status: NDArray[np.uint8],
) -> None:
    """Fit a Gaussian rate to the readings of each pixel.

    Parameters
    ----------
    counts : ndarray of uint8, shape (n_pixels, n_points)
        Readings; `top` stands for `top` hits or more.
    threshold : ndarray, shape (n_points,)
        Thresholds in equal steps [DAC].
    window : float
        Only readings within so many widths of the mean are used; infinite for all.
    top : int
        Where the counter stops: 63.
    log_factorial : ndarray, shape (top + 1,)
        Logarithms of factorials.
    table : ndarray, shape (3, n)
        As `deviance_moments` gives it.
    result : ndarray, shape (n_pixels, N_QUANTITIES)
        Filled; NaN where nothing is known.
    status : ndarray of uint8, shape (n_pixels,)
        Filled: `CONVERGED`, `UNCONSTRAINED`, `MAX_ITERATIONS` or `NO_HITS`.
    """
    n_points = threshold.size
    curve, u, inverse = np.empty(5), np.empty(n_points), np.empty((3, 3))
    used = np.empty(n_points, dtype=np.bool_)
    for pixel in range(counts.shape[0]):
        hits, found = counts[pixel], result[pixel]
        found[:] = np.nan
        status[pixel] = _fit_pixel(
            hits, used, threshold, window, top, log_factorial, u, curve, inverse, found
        )
        if status[pixel] == 1 or status[pixel] == 3:
            found[:] = np.nan
            continue
        found[7:] = 0.0
        _correct(used, u, curve, top, log_factorial, inverse, found)
        _deviance(hits, used, u, curve, top, log_factorial, table, found)
        for point in range(n_points):
            found[10] += used[point]
            found[11] += 0 if used[point] else hits[point]


def deviance_moments(top: int, n: int = 600) -> NDArray[np.float64]:
    """Return expectation and variance of the deviance term of one reading against its mean.

    Exact sums over all readings, with everything from `top` on taken as one.

    Parameters
    ----------
    top : int
        Where the counter stops.
    n : int
        Points of the table.

    Returns
    -------
    ndarray of float64, shape (3, n)
        Logarithm of the mean count (equal steps), expectation, variance.
    """
    from scipy.special import gammaln, pdtr, pdtrc

    log_mean = np.linspace(-16.0, _HIGHEST, n)
    mean = np.exp(log_mean)[:, None]
    number = np.arange(top)
    log_probability = number * log_mean[:, None] - mean - gammaln(number + 1)
    best = np.where(number > 0, number * np.log(np.maximum(number, 1)) - number, 0.0) - gammaln(number + 1)
    above, below = pdtrc(top - 1, mean), pdtr(top - 1, mean)
    probability = np.concatenate([np.exp(log_probability), above], axis=1)
    with np.errstate(divide="ignore"):
        of_top = np.where(above > 0.5, np.log1p(-np.minimum(below, 1.0)), np.log(np.maximum(above, 1e-300)))
    terms = np.concatenate([2.0 * (best - log_probability), -2.0 * of_top], axis=1)
    expectation = (probability * terms).sum(axis=1)
    variance = (probability * (terms - expectation[:, None]) ** 2).sum(axis=1)
    return np.stack([log_mean, expectation, variance])
