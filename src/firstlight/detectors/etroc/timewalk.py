"""Time-walk correction: late times of small pulses are moved by a curve of the time over threshold.

The reference of a board is the mean of the other boards, corrected so far. Its distance to the raw time of
the board is fitted as a curve of TOT, the curve is added to the raw time, all boards at once, and this is
repeated. A large noise hit must not pull the curve, so only events near it are fitted; and the events of a
fold are corrected with the curve of all other folds, so that no event is judged with a curve that it helped
to fit.

A constant in the correction cannot be told from an offset between boards; it is chosen so that a corrected
board agrees on average with its reference. Where boards are missing, the reference is the mean of those
present, after the offsets between the boards (medians of pairs) were taken out: a missing board changes the
scatter, not the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.detectors.etroc import walk_kernels
from firstlight.detectors.etroc.walk_curves import (
    PolynomialShape,
    SplineShape,
    curve_from_table,
    evaluate_curve,
)
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = [
    "METHODS", "Corrector", "Curves", "Start", "WalkResult", "correct_walk", "curve_from_table",
    "evaluate_curve", "warm_up",
]  # fmt: skip

Method = Literal["ols", "odr", "spline"]
METHODS: tuple[Method, ...] = ("ols", "odr", "spline")

_PASSES = 20  # windows of a fit from scratch; the scale settles by a factor of 4 each
_NORMAL_MAD = 0.6744897501960817  # median of the absolute value of a unit Gaussian


@dataclass(frozen=True)
class Start:
    """Curves at which a fit starts, one iteration: coefficients of the basis and scales of the windows."""

    curves: Floats
    scales: Floats


@dataclass(frozen=True)
class Curves:
    """The curves of one iteration.

    Parameters
    ----------
    coefficients : ndarray, shape (n_boards, n_folds + 1, n_coefficients)
        Of the basis; row k of a board was fitted without fold k, the last row with all events.
    covariances : ndarray, shape (n_boards, n_folds + 1, n_coefficients, n_coefficients)
        Their covariance.
    scales : ndarray, shape (n_boards,)
        Standard deviation around the curve, in ns, corrected for the window.
    shifts : ndarray, shape (n_boards,)
        Constant that a curve of the basis lacks, in ns: offsets between boards are kept apart from it.
    """

    coefficients: Floats
    covariances: Floats
    scales: Floats
    shifts: Floats


@dataclass(frozen=True)
class WalkResult:
    """Corrected times, curve by curve.

    Parameters
    ----------
    boards : tuple of int
        Labels of the boards.
    method : str
        How the curves were fitted.
    folds : int
        Parts of the cross-fit; 1 for none.
    fold : ndarray of int64, shape (n_events,)
        Part that an event belongs to.
    toa : ndarray, shape (n_iterations, n_events, n_boards)
        Corrected times in ns.
    correction : ndarray, shape (n_iterations, n_events, n_boards)
        What was added to the raw times, in ns.
    delta : ndarray, shape (n_iterations, n_events, n_boards)
        Mean of the other boards (corrected so far) minus the raw time of the board, in ns; NaN without
        another board.
    curves : tuple of Curves
        The fits, one for each iteration.
    corrector : Corrector
        What fitted them; it can fit again with other weights.
    """

    boards: tuple[int, ...]
    method: str
    folds: int
    fold: Integers
    toa: Floats
    correction: Floats
    delta: Floats
    curves: tuple[Curves, ...]
    corrector: Corrector

    @property
    def times(self) -> Floats:
        """Times after the last iteration, of shape (n_events, n_boards), in ns."""
        return np.asarray(self.toa[-1])

    def coefficients(self) -> dict[str, list[Any]]:
        """Return the columns of the table of coefficients, `tables.COEFFICIENTS`."""
        rows: dict[str, list[Any]] = {
            name: [] for name in ("iteration", "board", "method", "fold", "power", "knot", "value", "error")
        }
        for iteration, curves in enumerate(self.curves):
            for at, board in enumerate(self.boards):
                for fold in (-1, *(range(self.folds) if self.folds > 1 else ())):
                    values, errors, knots = self.corrector.readable(curves, at, fold)
                    for power, value in enumerate(values):
                        error = float(errors[power])
                        rows["iteration"].append(iteration)
                        rows["board"].append(board)
                        rows["method"].append(self.method)
                        rows["fold"].append(fold)
                        rows["power"].append(power)
                        rows["knot"].append(None if knots is None else float(knots[power]))
                        rows["value"].append(float(value))
                        rows["error"].append(error if math.isfinite(error) else None)
        return rows


def _window(core: float | None) -> tuple[float, float]:
    """Return the half width of the window, and the standard deviation of a unit Gaussian cut off there."""
    if core is None:
        return math.inf, 1.0
    inside = math.erf(core / math.sqrt(2.0))
    return core, math.sqrt(1.0 - 2.0 * core * math.exp(-0.5 * core**2) / math.sqrt(2.0 * math.pi) / inside)


def _offsets(toa: Floats, boards: Sequence[int]) -> Floats:
    """Return the offset of each board (sum 0): the least-squares solution of the medians of all pairs.

    `toa` has the shape (n_boards, n_events).
    """
    size = len(toa)
    matrix = np.zeros((size, size))
    vector = np.zeros(size)
    for first in range(size):
        for second in range(first + 1, size):
            difference = toa[first] - toa[second]
            difference = difference[~np.isnan(difference)]
            if difference.size:
                weight, middle = float(difference.size), float(np.median(difference))
                matrix[[first, second], [first, second]] += weight
                matrix[[first, second], [second, first]] -= weight
                vector[first] += weight * middle
                vector[second] -= weight * middle
    if np.linalg.matrix_rank(matrix) < size - 1:
        what = f"boards {', '.join(map(str, boards))} have no events in common: no reference for each other"
        raise InputError(what, hint="look at the events per board; leave out boards without hits")
    offsets = np.linalg.pinv(matrix) @ vector
    return np.asarray(offsets - offsets.mean())


@dataclass
class Corrector:
    """The time-walk fit, ready to be repeated with other weights of the events.

    Parameters
    ----------
    toa, tot : ndarray, shape (n_events, n_boards)
        Raw times and times over threshold in ns; NaN where a board is missing.
    boards : tuple of int
        Labels of the boards.
    order, method, folds, core, knots, seed
        As in `correct_walk`.
    iterations : int
        How often all boards are corrected: one more than in `correct_walk`.
    events : ndarray of int64, shape (n_events,)
        Numbers of the events, for the folds.
    """

    toa: Floats
    tot: Floats
    boards: tuple[int, ...]
    order: int
    iterations: int
    method: Method
    folds: int
    core: float | None
    knots: int
    seed: int
    events: Integers
    fold: Integers = field(init=False)

    def __post_init__(self) -> None:
        known = ~(np.isnan(self.toa) | np.isnan(self.tot))
        raw = np.where(known, self.toa, np.nan).T
        tot = np.where(known, self.tot, np.nan).T
        self.fold = walk_kernels.hash_folds(self.events, self.seed, self.folds)
        shared = known & (known.sum(axis=1, keepdims=True) > 1)
        for board, count in zip(self.boards, shared.sum(axis=0).tolist(), strict=True):
            if count < 10 * (self.order + 1):
                what = f"board {board} has {count} events with another board; a time-walk curve needs more"
                hint = f"at least {10 * (self.order + 1)} events, a lower order, or no time-walk correction"
                raise InputError(what, hint=hint)
        self.offsets = _offsets(raw, self.boards)
        self.raw = np.ascontiguousarray(raw - self.offsets[:, None])
        self.shapes: list[PolynomialShape | SplineShape] = []
        for row in tot:
            spline = SplineShape(row, self.knots) if self.method == "spline" else None
            if spline is not None and spline.usable:
                self.shapes.append(spline)
            else:
                self.shapes.append(PolynomialShape(row, self.order, scaled=self.method != "odr"))
        matrices = [shape.matrix() for shape in self.shapes]
        self.size = max(matrix.shape[1] for matrix in matrices)
        # all boards have as many columns; empty ones are never determined and stay 0
        self.bases = [
            np.ascontiguousarray(np.pad(m, ((0, 0), (0, self.size - m.shape[1])))) for m in matrices
        ]

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.raw.shape[1])

    def readable(self, curves: Curves, at: int, fold: int) -> tuple[Floats, Floats, Floats | None]:
        """Return coefficients, errors and knots of the board in column `at`, as the table has them."""
        shape = self.shapes[at]
        used = shape.order + 1 if isinstance(shape, PolynomialShape) else len(shape.knots) - 4
        values = curves.coefficients[at, fold, :used]
        covariance = curves.covariances[at, fold, :used, :used]
        return shape.readable(values, covariance, float(curves.shifts[at]))

    def _orthogonal(self, board: int, delta: Floats, weights: Floats, found: tuple[Floats, Floats]) -> None:
        """Turn the curves of a board that were fitted to heights into curves fitted to distances."""
        coefficients, covariances = found
        u = self.shapes[board].u
        for fold in range(self.folds, -1, -1):
            if fold == 0 and self.folds == 1:
                coefficients[0], covariances[0] = coefficients[1], covariances[1]
                continue
            used = np.where(self.fold == fold, 0.0, weights)
            # the curve of all events, which comes first, is a good start for the folds
            curve, covariance = coefficients[-1].copy(), np.zeros((self.size, self.size))
            if walk_kernels.fit_orthogonal(u, delta, used, curve, covariance, 200) < 0:
                what = f"the orthogonal time-walk fit of board {self.boards[board]} does not converge"
                raise InputError(what, hint="method ols, or a lower order")
            coefficients[fold], covariances[fold] = curve, covariance

    def _fit_board(
        self, board: int, delta: Floats, weights: Floats, start: tuple[Floats, float] | None, passes: int
    ) -> tuple[Floats, Floats, float]:
        core, narrowing = _window(self.core)
        coefficients = np.zeros((self.folds + 1, self.size))
        covariances = np.zeros((self.folds + 1, self.size, self.size))
        basis = self.bases[board]

        def fit(at: tuple[Floats, float], width: float, narrow: float, count: int) -> float:
            scale = walk_kernels.fit_linear(
                basis, delta, weights, self.fold, self.folds, width, narrow, at[0], at[1], count,
                coefficients, covariances,
            )  # fmt: skip
            return float(scale)

        if start is None:
            scale = fit((np.zeros(self.size), 1.0), math.inf, 1.0, 1)
            if self.core is not None:
                rest = np.abs(delta - basis @ coefficients[-1])
                robust = float(np.median(rest[~np.isnan(rest)])) / _NORMAL_MAD
                if robust > 0.0:
                    scale = fit((coefficients[-1].copy(), robust), core, narrowing, _PASSES)
        else:
            scale = fit(start, core, narrowing, passes if self.core is not None else 1)
        if self.method == "odr":
            inside = weights
            if self.core is not None:
                inside = np.empty_like(weights)
                limit = core * scale if scale > 0.0 else math.inf
                walk_kernels.mark_window(basis, delta, weights, coefficients[-1], limit, inside)
            self._orthogonal(board, delta, inside, (coefficients, covariances))
        return coefficients, covariances, scale

    def run(
        self, weights: Floats | None = None, starts: Sequence[Start] | None = None, passes: int = 3
    ) -> tuple[Floats, list[Curves], list[tuple[Floats, Floats]]]:
        """Fit and correct.

        Parameters
        ----------
        weights : ndarray, shape (n_events,), optional
            How often each event counts; 1 by default.
        starts : sequence of Start, optional
            Curves at which the fits of each iteration start; from scratch by default.
        passes : int
            Windows of a fit that starts from a curve.

        Returns
        -------
        current : ndarray, shape (n_boards, n_events)
            Corrected times without the offsets between boards, in ns.
        curves : list of Curves
            The fits of each iteration.
        steps : list of (ndarray, ndarray)
            Differences that were fitted, and corrected times, of each iteration; empty where `starts` is
            given.
        """
        ones = np.ones(self.n_events) if weights is None else weights
        current = self.raw
        constants = self.offsets.copy()
        curves: list[Curves] = []
        steps: list[tuple[Floats, Floats]] = []
        size = len(self.boards)
        for iteration in range(self.iterations):
            delta = np.empty_like(self.raw)
            walk_kernels.fill_delta(self.raw, current, delta)
            coefficients = np.empty((size, self.folds + 1, self.size))
            covariances = np.empty((size, self.folds + 1, self.size, self.size))
            scales = np.empty(size)
            current = np.empty_like(self.raw)
            for board in range(size):
                start = None
                if starts is not None:
                    start = starts[iteration].curves[board], float(starts[iteration].scales[board])
                coefficients[board], covariances[board], scales[board] = self._fit_board(
                    board, delta[board], ones, start, passes
                )
                walk_kernels.apply_curves(
                    self.bases[board], self.fold, coefficients[board], self.raw[board], current[board]
                )
            constants = (constants.sum() - constants) / (size - 1)
            curves.append(Curves(coefficients, covariances, scales, constants - self.offsets))
            if starts is None:
                steps.append((delta, current))
        return current, curves, steps

    def warm(self, curves: Sequence[Curves]) -> list[Start]:
        """Return the starts for a fit with other weights."""
        return [Start(np.ascontiguousarray(curve.coefficients[:, -1]), curve.scales) for curve in curves]


def _checked(
    toa: ArrayLike, tot: ArrayLike, boards: Sequence[int] | None
) -> tuple[Floats, Floats, tuple[int, ...]]:
    times = np.asarray(toa, dtype=float)
    widths = np.asarray(tot, dtype=float)
    if times.ndim != 2 or times.shape != widths.shape:
        what = (
            f"toa and tot must have the same shape (n_events, n_boards), not {times.shape} and {widths.shape}"
        )
        raise UsageError(what)
    labels = tuple(range(times.shape[1])) if boards is None else tuple(int(board) for board in boards)
    if len(labels) != times.shape[1] or len(set(labels)) != len(labels):
        what = f"{times.shape[1]} columns of times need as many different boards, not {list(labels)}"
        raise UsageError(what)
    if len(labels) < 2:
        what = f"the time-walk correction needs two boards or more, not {len(labels)}"
        raise UsageError(what, hint="the reference of a board is the mean of the others")
    return times, widths, labels


def correct_walk(
    toa: ArrayLike,
    tot: ArrayLike,
    *,
    boards: Sequence[int] | None = None,
    order: int = 2,
    iterations: int = 1,
    method: Method = "ols",
    folds: int = 5,
    core: float | None = 2.5,
    knots: int = 3,
    seed: int = 0,
    events: ArrayLike | None = None,
) -> WalkResult:
    """Correct times of arrival for time walk.

    Parameters
    ----------
    toa, tot : array_like, shape (n_events, n_boards)
        Raw times of arrival and times over threshold in ns; NaN where a board has no hit.
    boards : sequence of int, optional
        Labels of the columns; counted from 0 by default.
    order : int
        Order of the polynomial.
    iterations : int
        How often the correction is repeated with corrected references, as the original counts: N of them make
        N + 1 results, and iteration 0 is the correction with raw references.
    method : {"ols", "odr", "spline"}
        Least squares in time; least squares of the distance to the curve with equal weights of both axes, as
        the original; or a cubic spline (`order` is not used), which goes on straight beyond its outermost
        knots.
    folds : int
        The events of a fold are corrected with a curve that was fitted to all others; 1: one curve for all,
        as the original.
    core : float or None
        Only events within so many standard deviations of the curve are fitted; the window is repeated until
        it stays. None: all events, as the original.
    knots : int
        Inner knots of the spline, at quantiles of TOT.
    seed : int
        Of the folds.
    events : array_like of int, shape (n_events,), optional
        Numbers of the events. The fold of an event is a hash of its number; by default its row.

    Returns
    -------
    WalkResult
        Corrected times and curves of each iteration.

    Raises
    ------
    UsageError
        If the shapes do not fit, or an option makes no sense.
    InputError
        If a board has too few events, or the boards have no events in common.
    """
    times, widths, labels = _checked(toa, tot, boards)
    if method not in METHODS:
        what = f"no method {method!r} of a time-walk fit"
        raise UsageError(what, known=list(METHODS))
    for name, value, lowest in (
        ("order", order, 0), ("iterations", iterations, 0), ("folds", folds, 1), ("knots", knots, 0),
    ):  # fmt: skip
        if value < lowest:
            what = f"{name} of the time-walk correction must be {lowest} or more, not {value}"
            raise UsageError(what)
    if core is not None and not core >= 1.0:
        what = f"the window of the time-walk fit must be 1 standard deviation or more, not {core}"
        raise UsageError(what, hint="None takes all events")
    numbers = np.arange(len(times)) if events is None else np.asarray(events)
    corrector = Corrector(
        times,
        widths,
        labels,
        order,
        iterations + 1,
        method,
        folds,
        core,
        knots,
        seed,
        numbers.astype(np.int64),
    )
    _, curves, steps = corrector.run()
    toa_all = np.empty((len(curves), *times.shape))
    delta_all = np.empty_like(toa_all)
    for index, (curve, (delta, corrected)) in enumerate(zip(curves, steps, strict=True)):
        shift = curve.shifts + corrector.offsets
        toa_all[index] = corrected.T + shift
        delta_all[index] = delta.T + curve.shifts
    return WalkResult(
        labels, method, folds, corrector.fold, toa_all, toa_all - times, delta_all, tuple(curves), corrector
    )


def warm_up() -> None:
    """Compile, or load, all kernels of the correction."""
    rng = np.random.default_rng(1)
    tot = rng.normal(4.0, 0.3, (200, 3))
    toa = rng.normal(5.0, 0.05, (200, 3)) - 0.1 * tot
    for method in METHODS:
        correct_walk(toa, tot, method=method, folds=2)
