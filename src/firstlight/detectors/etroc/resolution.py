"""Time resolution of single boards from the widths of pairs of boards.

The variance of ``t_i - t_j`` is the sum of the variances of two boards, so three boards or more give that of
each one. For N boards the least-squares solution of all pairs is ::

    sigma_i^2 = (sum_j s_ij^2 - sum_(j<k) s_jk^2 / (N - 1)) / (N - 2)

For three boards this is ``(s_ij^2 + s_ik^2 - s_jk^2) / 2``; for any N it equals the formula with the widths
of "mean of the others minus own", `solve_delta`. The squares are statistics: where boards share a
disturbance, or events are few, one may be negative. That is a result, "no solution", and is never turned into
a number.

Pairs share boards, so their widths are correlated; `resolution_error` of `Measurement` takes that into
account. With the covariance of two differences, known from the pair widths themselves, the covariance of two
pair variances is ``2 cov(d_1, d_2)^2 n_12 / (n_1 n_2)``, n counting events. For three boards and no missing
hits that gives ``Var(sigma_i) = (s_ij^2 s_ik^2 + sigma_i^4) / (4 sigma_i^2 (n - 1))``. It holds for Gaussian
times with a known walk; the bootstrap of the chain needs neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.detectors.etroc.likelihood import LikelihoodFit, fit_likelihood
from firstlight.detectors.etroc.widths import (
    WidthName,
    effective_sigma,
    fwhm_sigma,
    robust_sigma,
    standard_deviation,
    width,
)
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "ESTIMATORS", "Estimator", "Measurement", "Solution", "delta_widths", "far_events", "intrinsic", "measure", "pair_rows",
    "pair_widths", "solve_delta", "solve_pairs", "stuck_boards",
]  # fmt: skip

Estimator = Literal["likelihood", "std", "std_delta", "effective", "fwhm"]
ESTIMATORS: tuple[Estimator, ...] = ("likelihood", "std", "std_delta", "effective", "fwhm")

OK = "ok"
NO_SOLUTION = "no solution"
STUCK = "stuck"
FEW = "few events"
NOT_CONVERGED = "not converged"

_PICOSECONDS = 1e3
_FEWEST = 30  # events of a pair
_WIDTH_OF: dict[Estimator, WidthName] = {
    "std": "std", "std_delta": "std", "effective": "effective", "fwhm": "fwhm",
}  # fmt: skip


@dataclass(frozen=True)
class Solution:
    """Resolution of each board from widths.

    Parameters
    ----------
    square : ndarray, shape (n_boards,)
        Squared resolution; negative where there is no solution.
    resolution : ndarray, shape (n_boards,)
        Its root; NaN where there is none.
    status : tuple of str
        ``"ok"``, ``"no solution"`` or ``"few events"`` (a width is missing).
    """

    square: Floats
    resolution: Floats
    status: tuple[str, ...]

    def sentences(self, boards: Sequence[int]) -> list[str]:
        """Return what to tell about boards without solution."""
        return [
            f"no solution for board {board}: its squared resolution is {square:.4g}, below zero"
            for board, square, status in zip(boards, self.square.tolist(), self.status, strict=True)
            if status == NO_SOLUTION
        ]


def _solution(squares: Floats) -> Solution:
    status = tuple(
        FEW if math.isnan(value) else NO_SOLUTION if value < 0.0 else OK for value in squares.tolist()
    )
    good = np.array([word == OK for word in status])
    return Solution(squares, np.sqrt(np.where(good, squares, np.nan)), status)


def _needs_three(n_boards: int) -> None:
    if n_boards < 3:
        what = f"the resolution of single boards needs three boards or more, not {n_boards}"
        raise UsageError(what, hint="two boards only give the width of their difference (table of pairs)")


def _pairs(n_boards: int) -> list[tuple[int, int]]:
    return [(first, second) for first in range(n_boards) for second in range(first + 1, n_boards)]


def _shares(known: NDArray[np.bool_], n_boards: int) -> Floats:
    """Return the matrix from the variances of the known pairs to those of the boards: least squares."""
    design = np.zeros((len(known), n_boards))
    for row, pair in enumerate(_pairs(n_boards)):
        if known[row]:
            design[row, list(pair)] = 1.0
    shares = np.linalg.pinv(design)
    shares[np.abs(shares) < 1e-12] = 0.0
    # a board that the known pairs do not determine
    lost = np.abs(shares @ design - np.eye(n_boards)).max(axis=1) > 1e-9
    shares[lost] = np.nan
    return np.asarray(shares)


def solve_pairs(widths: ArrayLike) -> Solution:
    """Return the resolution of each board from the widths of all pairs.

    Parameters
    ----------
    widths : array_like, shape (n_boards, n_boards)
        Width of ``t_i - t_j``; only what is above the diagonal is used. NaN: not known.

    Returns
    -------
    Solution
        In the unit of `widths`.

    Raises
    ------
    UsageError
        With fewer than three boards, or if `widths` is not square.
    """
    matrix = np.asarray(widths, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        what = f"widths of pairs must have the shape (n_boards, n_boards), not {matrix.shape}"
        raise UsageError(what)
    n_boards = len(matrix)
    _needs_three(n_boards)
    variances = np.array([matrix[pair] for pair in _pairs(n_boards)]) ** 2
    known = ~np.isnan(variances)
    if not known.all():
        return _solution(_shares(known, n_boards) @ np.where(known, variances, 0.0))
    upper = np.triu(matrix, 1) ** 2
    of_board = (upper + upper.T).sum(axis=1)
    return _solution(np.asarray((of_board - upper.sum() / (n_boards - 1)) / (n_boards - 2)))


def solve_delta(variances: ArrayLike) -> Solution:
    """Return the resolution of each board from the variances of "mean of the others minus own", V_i.

    ``sigma_i^2 = (N - 1) / (N^2 (N - 2)) [(N^2 - N - 1) V_i - sum_(j != i) V_j]``

    Parameters
    ----------
    variances : array_like, shape (n_boards,)
        V_i.

    Returns
    -------
    Solution
        In the unit of the root of `variances`.

    Raises
    ------
    UsageError
        With fewer than three boards.
    """
    values = np.asarray(variances, dtype=float).ravel()
    size = len(values)
    _needs_three(size)
    return _solution(_delta_matrix(size) @ values)


def _delta_matrix(size: int) -> Floats:
    factor = (size - 1) / (size**2 * (size - 2))
    return np.asarray(factor * (np.diag(np.full(size, float(size * (size - 1)))) - 1.0))


def delta_widths(widths: ArrayLike) -> Floats:
    """Return the widths of "mean of the others minus own" from those of all pairs.

    Exact for standard deviations: ``V_i = (N sum_j s_ij^2 - sum_(j<k) s_jk^2) / (N - 1)^2``. With missing
    boards each s_ij is of the events of its pair.

    Parameters
    ----------
    widths : array_like, shape (n_boards, n_boards)
        Standard deviations of pairs, symmetric.

    Returns
    -------
    ndarray, shape (n_boards,)
        In the unit of `widths`.
    """
    upper = np.triu(np.asarray(widths, dtype=float), 1) ** 2
    size = len(upper)
    squares = (size * (upper + upper.T).sum(axis=1) - upper.sum()) / (size - 1) ** 2
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def pair_widths(
    times: ArrayLike, name: WidthName = "std", counts: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Return the widths of the differences of all pairs of boards, and how many events each has.

    Parameters
    ----------
    times : array_like, shape (n_events, n_boards)
        Times; NaN where a board is missing.
    name : {"std", "effective", "fwhm", "robust"}
        Which width.
    counts : array_like, shape (n_events,), optional
        How often each event counts.

    Returns
    -------
    widths, events : ndarray, shape (n_boards, n_boards)
        Symmetric, NaN and 0 on the diagonal; NaN where there are too few events.
    """
    values = np.asarray(times, dtype=float)
    size = values.shape[1]
    widths, events = np.full((size, size), np.nan), np.zeros((size, size))
    for first, second in _pairs(size):
        difference = values[:, first] - values[:, second]
        known = np.isfinite(difference)
        number = float(known.sum() if counts is None else np.asarray(counts)[known].sum())
        events[first, second] = events[second, first] = number
        if number >= 2:
            widths[first, second] = widths[second, first] = width(difference, name, counts)
    return widths, events


def far_events(times: ArrayLike, reach: float = 15.0) -> NDArray[np.bool_]:
    """Return which events have a pair of boards far away from the others: hits of different particles.

    Parameters
    ----------
    times : array_like, shape (n_events, n_boards)
        Corrected times; NaN where a board is missing.
    reach : float
        Robust standard deviations of the difference of a pair. Tails of the resolution reach some times less far.

    Returns
    -------
    ndarray of bool, shape (n_events,)
    """
    values = np.asarray(times, dtype=float)
    far = np.zeros(len(values), dtype=bool)
    for first, second in _pairs(values.shape[1]):
        difference = values[:, first] - values[:, second]
        known = difference[np.isfinite(difference)]
        if len(known) < 2:
            continue
        middle, sigma = float(np.median(known)), robust_sigma(known)
        with np.errstate(invalid="ignore"):
            far |= np.abs(difference - middle) > reach * sigma
    return far


def stuck_boards(toa: ArrayLike) -> NDArray[np.bool_]:
    """Return which boards have the same raw time in all their hits: their converter is stuck.

    Parameters
    ----------
    toa : array_like, shape (n_events, n_boards)
        Raw times or codes; NaN where a board is missing.

    Returns
    -------
    ndarray of bool, shape (n_boards,)
        Boards with fewer than two hits are not stuck.
    """
    values = np.asarray(toa, dtype=float)
    found = np.zeros(values.shape[1], dtype=bool)
    for board in range(values.shape[1]):
        known = values[~np.isnan(values[:, board]), board]
        found[board] = len(known) > 1 and bool(np.ptp(known) == 0.0)
    return found


@dataclass(frozen=True)
class Measurement:
    """Resolution of all boards by one estimator, in ps.

    Parameters
    ----------
    boards : tuple of int
        Labels.
    estimator : str
        ``likelihood``: joint fit; ``std``: from the standard deviations of pairs; ``std_delta``: from those
        of "mean of the others minus own"; ``effective``, ``fwhm``: from such widths of pairs.
    events : ndarray of int64, shape (n_boards,)
        Events with the board and another one.
    square, resolution, resolution_error : ndarray, shape (n_boards,)
        In ps^2 and ps; NaN where there is none. Effective sigma and FWHM have no error without a bootstrap.
    status : tuple of str
        ``ok``, ``no solution``, ``stuck``, ``few events``, ``not converged``.
    fit : LikelihoodFit or None
        The joint fit (in ns).
    message : str
        Why there is no result, in words; empty otherwise.
    """

    boards: tuple[int, ...]
    estimator: str
    events: NDArray[np.int64]
    square: Floats
    resolution: Floats
    resolution_error: Floats
    status: tuple[str, ...]
    fit: LikelihoodFit | None = None
    message: str = ""

    def rows(
        self,
        iteration: int,
        *,
        bootstrap_error: ArrayLike | None = None,
        low: ArrayLike | None = None,
        high: ArrayLike | None = None,
    ) -> dict[str, list[Any]]:
        """Return the columns of the table of resolutions (`firstlight.detectors.etroc.tables.RESOLUTION`)."""
        size = len(self.boards)
        fit = self.fit
        tail = fit is not None and bool(np.isfinite(self.resolution).any())

        def column(values: ArrayLike | None) -> list[float | None]:
            numbers = (
                np.full(size, np.nan) if values is None else np.broadcast_to(np.asarray(values, float), size)
            )
            return [value if math.isfinite(value) else None for value in numbers.tolist()]

        return {
            "board": list(self.boards),
            "iteration": [iteration] * size,
            "estimator": [self.estimator] * size,
            "events": self.events.tolist(),
            "square": column(self.square),
            "resolution": column(self.resolution),
            "resolution_error": column(self.resolution_error),
            "bootstrap_error": column(bootstrap_error),
            "low": column(low),
            "high": column(high),
            "tail_fraction": column(fit.tail_fraction if fit is not None and tail else None),
            "tail_fraction_error": column(fit.tail_fraction_error if fit is not None and tail else None),
            "tail_scale": column(fit.tail_scale if fit is not None and tail else None),
            "tail_scale_error": column(fit.tail_scale_error if fit is not None and tail else None),
            "status": list(self.status),
            "good": [status == OK for status in self.status],
        }


def _common(times: Floats) -> Floats:
    """Return how many events each two pairs of boards share, of shape (n_pairs, n_pairs)."""
    known = ~np.isnan(times)
    both = np.stack([known[:, first] & known[:, second] for first, second in _pairs(times.shape[1])])
    counted = both.astype(np.float64)
    return np.asarray(counted @ counted.T)


def _pair_covariance(widths: Floats, common: Floats) -> Floats:
    """Return the covariance of the variances of all pairs, for Gaussian times."""
    squares = np.nan_to_num(widths) ** 2
    pairs = np.array(_pairs(len(widths)))
    a, b = pairs[:, 0][:, None], pairs[:, 1][:, None]
    c, d = pairs[:, 0][None, :], pairs[:, 1][None, :]
    shared = 0.5 * (squares[a, d] + squares[b, c] - squares[a, c] - squares[b, d])
    number = np.maximum(np.diag(common), 2.0)
    return np.asarray(
        2.0 * shared**2 * common / (np.outer(number, number) - np.minimum.outer(number, number))
    )


def _inflation(times: Floats) -> Floats:
    """Return by how much the variances of pairs scatter more than for Gaussian times: ``(m_4 / s^4 - 1) / 2``.

    1 where the fourth moment is that of a Gaussian, within 4 standard deviations (``sqrt(24 / n)``).
    """
    found = []
    for first, second in _pairs(times.shape[1]):
        difference = times[:, first] - times[:, second]
        difference = difference[np.isfinite(difference)]
        square = float(np.var(difference)) if difference.size else 0.0
        excess = (
            float(np.mean((difference - difference.mean()) ** 4)) / square**2 - 3.0 if square > 0 else 0.0
        )
        significant = excess > 4.0 * math.sqrt(24.0 / max(difference.size, 1))
        found.append(1.0 + 0.5 * excess if significant else 1.0)
    return np.array(found)


def _errors(widths: Floats, times: Floats, solution: Solution) -> Floats:
    known = ~np.isnan(np.array([widths[pair] for pair in _pairs(len(widths))]))
    shares = np.nan_to_num(_shares(known, len(widths)))
    tails = np.sqrt(_inflation(times))
    covariance = _pair_covariance(widths, _common(times)) * np.outer(tails, tails)
    variance = np.diag(shares @ covariance @ shares.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(variance) / (2.0 * solution.resolution))


def _original_errors(estimator: Estimator, widths: Floats, events: float, solution: Solution) -> Floats:
    """Return the original's errors: all widths have the error width / sqrt(2 n - 2) and are independent."""
    size = len(widths)
    if estimator == "std_delta":
        matrix, squares = _delta_matrix(size), delta_widths(widths) ** 2
    else:
        squares = np.array([widths[pair] for pair in _pairs(size)]) ** 2
        matrix = _shares(np.ones(len(squares), dtype=bool), size)
    spread = 2.0 * squares / math.sqrt(2.0 * events - 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(matrix**2 @ spread**2) / (2.0 * solution.resolution))


def _checked_times(times: ArrayLike, boards: Sequence[int] | None) -> tuple[Floats, tuple[int, ...]]:
    values = np.asarray(times, dtype=float)
    if values.ndim != 2:
        what = f"times must have the shape (n_events, n_boards), not {values.shape}"
        raise UsageError(what)
    labels = tuple(range(values.shape[1])) if boards is None else tuple(int(board) for board in boards)
    if len(labels) != values.shape[1]:
        what = f"{values.shape[1]} columns of times need as many boards, not {len(labels)}"
        raise UsageError(what)
    _needs_three(len(labels))
    return values, labels


def _without_result(
    estimator: Estimator, labels: tuple[int, ...], events: Floats, stuck: NDArray[np.bool_], message: str
) -> Measurement:
    nothing = np.full(len(labels), np.nan)
    status = tuple(STUCK if flag else FEW for flag in stuck.tolist())
    return Measurement(
        labels, estimator, events.astype(np.int64), nothing, nothing, nothing, status, None, message
    )


def measure(
    times: ArrayLike,
    *,
    boards: Sequence[int] | None = None,
    estimator: Estimator = "likelihood",
    original_errors: bool = False,
    tails: Literal["auto", "yes", "no"] = "auto",
    raw: ArrayLike | None = None,
) -> Measurement:
    """Measure the time resolution of all boards.

    Parameters
    ----------
    times : array_like, shape (n_events, n_boards)
        Corrected times in ns; NaN where a board is missing.
    boards : sequence of int, optional
        Labels of the columns; counted from 0 by default.
    estimator : {"likelihood", "std", "std_delta", "effective", "fwhm"}
        How; see `Measurement`.
    original_errors : bool
        For ``std`` and ``std_delta``: errors as the original has them, which take the widths as independent.
    tails : {"auto", "yes", "no"}
        For ``likelihood``; see `fit_likelihood`.
    raw : array_like, shape (n_events, n_boards), optional
        Raw times or codes, in which boards that are stuck are found; `times` by default.

    Returns
    -------
    Measurement
        In ps.

    Raises
    ------
    UsageError
        With fewer than three boards, or an estimator that does not exist.
    """
    values, labels = _checked_times(times, boards)
    if estimator not in ESTIMATORS:
        what = f"no estimator {estimator!r} of the resolution"
        raise UsageError(what, known=list(ESTIMATORS))
    stuck = stuck_boards(values if raw is None else raw)
    known = ~np.isnan(values)
    several = known & (known.sum(axis=1, keepdims=True) > 1)
    events = several.sum(axis=0).astype(float)
    if estimator == "likelihood":
        return _measure_likelihood(values, labels, events, stuck, tails)
    widths, numbers = pair_widths(values, _WIDTH_OF[estimator])
    widths = np.where(numbers < _FEWEST, np.nan, widths)
    stuck |= (widths == 0.0).any(axis=1)
    if estimator == "std_delta" and not np.isnan(np.triu(widths, 1)).any():
        solution = solve_delta(delta_widths(widths) ** 2)
    else:
        solution = solve_pairs(widths)
    if estimator in ("effective", "fwhm"):
        errors = np.full(len(labels), np.nan)
    elif original_errors:
        errors = _original_errors(estimator, widths, float(np.nanmax(numbers)), solution)
    else:
        errors = _errors(widths, values, solution)
    status = tuple(
        STUCK if flag else word for flag, word in zip(stuck.tolist(), solution.status, strict=True)
    )
    good = np.array([word == OK for word in status])
    return Measurement(
        labels,
        estimator,
        events.astype(np.int64),
        solution.square * _PICOSECONDS**2,
        np.where(good, solution.resolution * _PICOSECONDS, np.nan),
        np.where(good, errors * _PICOSECONDS, np.nan),
        status,
        message="; ".join(solution.sentences(labels)),
    )


def _measure_likelihood(
    values: Floats,
    labels: tuple[int, ...],
    events: Floats,
    stuck: NDArray[np.bool_],
    tails: Literal["auto", "yes", "no"],
) -> Measurement:
    try:
        fit = fit_likelihood(values, tails=tails)
    except InputError as error:
        widths, _ = pair_widths(values)
        return _without_result("likelihood", labels, events, stuck | (widths == 0.0).any(axis=1), error.what)
    sigma = fit.sigma * _PICOSECONDS
    status = []
    for flag, value in zip(stuck.tolist(), sigma.tolist(), strict=True):
        if flag:
            status.append(STUCK)
        elif math.isnan(value):
            status.append(NO_SOLUTION)
        else:
            status.append(OK if fit.converged else NOT_CONVERGED)
    good = np.array([word in (OK, NOT_CONVERGED) for word in status])
    lost = [board for board, word in zip(labels, status, strict=True) if word == NO_SOLUTION]
    return Measurement(
        labels,
        "likelihood",
        events.astype(np.int64),
        np.where(good, sigma**2, np.nan),
        np.where(good, sigma, np.nan),
        np.where(good, fit.sigma_error * _PICOSECONDS, np.nan),
        tuple(status),
        fit,
        "; ".join(
            f"no solution for board {board}: the likelihood is highest at zero width" for board in lost
        ),
    )


def pair_rows(
    times: ArrayLike, iteration: int, *, boards: Sequence[int] | None = None
) -> dict[str, list[Any]]:
    """Return the columns of the table of pairs (`firstlight.detectors.etroc.tables.PAIRS`), in ps.

    Parameters
    ----------
    times : array_like, shape (n_events, n_boards)
        Corrected times in ns; NaN where a board is missing. Two boards are enough.
    iteration : int
        Of the time-walk correction.
    boards : sequence of int, optional
        Labels of the columns; counted from 0 by default.

    Returns
    -------
    dict of str to list
        Pairs with fewer than two events are left out.
    """
    values = np.asarray(times, dtype=float)
    labels = tuple(range(values.shape[1])) if boards is None else tuple(boards)
    names = ("iteration", "board_1", "board_2", "events", "mean", "std", "std_error", "effective", "fwhm")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for first, second in _pairs(len(labels)):
        difference = (values[:, first] - values[:, second]) * _PICOSECONDS
        difference = difference[np.isfinite(difference)]
        if len(difference) < 2:
            continue
        spread, number = standard_deviation(difference), len(difference)
        effective, full = effective_sigma(difference), fwhm_sigma(difference)
        found = (
            iteration,
            labels[first],
            labels[second],
            number,
            float(difference.mean()),
            spread,
            spread / math.sqrt(2.0 * number - 2.0),
            effective if math.isfinite(effective) else spread,
            full if math.isfinite(full) else None,
        )
        for name, value in zip(names, found, strict=True):
            rows[name].append(value)
    return rows


def intrinsic(resolution: ArrayLike, bin_width: ArrayLike) -> Floats:
    """Return the resolution without the rounding of the time-to-digital converter, bin / sqrt(12).

    Parameters
    ----------
    resolution, bin_width : array_like
        In the same unit.

    Returns
    -------
    ndarray
        NaN where the rounding alone is larger.
    """
    square = np.asarray(resolution, dtype=float) ** 2 - np.asarray(bin_width, dtype=float) ** 2 / 12.0
    return np.sqrt(np.where(square >= 0.0, square, np.nan))
