"""Resolution of all boards at once: unbinned maximum likelihood of the time differences of an event.

The model is in `firstlight.detectors.etroc.likelihood_kernels`: each board has a Gaussian core of its own
width, and with a fraction f common to all boards a hit is k times less precise. Nothing can come out
imaginary, boards may be missing (a pair tells the sum of two variances, which the complete events share out),
and any number of boards will do.

Without tails f and k mean nothing, and a fit of them takes a few events of chance for a tail. So a tail is
kept only where twice the logarithm of the likelihood ratio is above `CRITICAL`; below it, the Gaussian fit is
reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import gammaincc, ndtr

from firstlight.detectors.etroc import likelihood_kernels
from firstlight.detectors.etroc.widths import robust_sigma
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "CRITICAL",
    "MAX_BOARDS",
    "JointLikelihood",
    "LikelihoodFit",
    "PairGoodness",
    "fit_likelihood",
    "refit",
    "warm_up",
]

CRITICAL = 8.0
"""Twice the log likelihood ratio above which a tail is kept.

The ratio has no chi2 distribution where there is no tail: f lies at its limit, and k means nothing. In 2000
samples of 2000 Gaussian events of three boards it was 0 in 65 %, above 2.8 in 5 %, above 5.8 in 1 % and above
8 in 0.25 % of them.
"""

MAX_BOARDS = 8
"""The sum has 2^N terms."""

_FEWEST = 30  # events with two boards or more
_FRACTION = (1e-5, 0.3)
_SCALE = (1.5, 100.0)
_STARTS = (
    (0.02, 3.0),
    (0.06, 4.0),
    (0.15, 2.0),
    (0.01, 8.0),
    (0.004, 20.0),
    (0.001, 50.0),
    (0.001, 2.0),
    (0.002, 4.0),
)
_FLOOR = 0.01  # of the smallest width of a pair: a board below it has no solution
_STEPS = 60
_LONGEST = 0.7  # step of a logarithm
_BINS = 20


@dataclass(frozen=True)
class PairGoodness:
    """How well the model describes one pair: chi2 of 20 bins of equal expectation."""

    first: int
    second: int
    chi2: float
    ndf: int
    p_value: float


@dataclass(frozen=True)
class LikelihoodFit:
    """Result of the joint fit; times are in the unit of the input.

    Parameters
    ----------
    sigma : ndarray, shape (n_boards,)
        Core width of each board; NaN where the likelihood is highest at zero width.
    sigma_error : ndarray, shape (n_boards,)
        From the second derivatives.
    covariance : ndarray, shape (n_boards, n_boards)
        Of the widths.
    offsets : ndarray, shape (n_boards,)
        Mean times relative to the first board.
    tail_fraction, tail_fraction_error : float
        Fraction of hits in the tail; 0 and NaN where no tail is needed.
    tail_scale, tail_scale_error : float
        Width of the tail over that of the core; NaN where no tail is needed.
    rms : ndarray, shape (n_boards,)
        Core and tail together, ``sigma sqrt(1 + f (k^2 - 1))``.
    log_likelihood, log_likelihood_gaussian : float
        At the maximum, and without tail.
    converged : bool
        Whether the maximum was found.
    steps : int
        Newton steps.
    n_events : int
        Events with two boards or more.
    goodness : tuple of PairGoodness
        For each pair with events.
    parameters : ndarray
        Where the maximum is: logarithms of the widths, offsets but the first, logit of the fraction,
        logarithm of the scale.
    free : ndarray of bool
        Parameters that were fitted and are not at a limit.
    inverse : ndarray
        Covariance of the parameters; 0 for those not free.
    """

    sigma: Floats
    sigma_error: Floats
    covariance: Floats
    offsets: Floats
    tail_fraction: float
    tail_fraction_error: float
    tail_scale: float
    tail_scale_error: float
    rms: Floats
    log_likelihood: float
    log_likelihood_gaussian: float
    converged: bool
    steps: int
    n_events: int
    goodness: tuple[PairGoodness, ...]
    parameters: Floats
    free: NDArray[np.bool_]
    inverse: Floats

    @property
    def has_tail(self) -> bool:
        """Whether a tail was kept."""
        return self.tail_fraction > 0.0


@dataclass(frozen=True)
class _Group:
    """Events with the same boards."""

    boards: NDArray[np.int64]
    rows: NDArray[np.int64] | slice


def _limits(n_boards: int, floor: float) -> tuple[Floats, Floats]:
    size = 2 * n_boards + 1
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    low[:n_boards] = math.log(floor)
    low[-2:] = _logit(_FRACTION[0]), math.log(_SCALE[0])
    high[-2:] = _logit(_FRACTION[1]), math.log(_SCALE[1])
    return low, high


def _logit(fraction: float) -> float:
    return math.log(fraction / (1.0 - fraction))


def _expit(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


class JointLikelihood:
    """The likelihood of a set of events, as a function of the parameters.

    Parameters
    ----------
    present : ndarray of bool, shape (n_boards, n_events)
        Which boards an event has. Events with fewer than two are left out.
    """

    def __init__(self, present: NDArray[np.bool_]) -> None:
        self.n_boards = len(present)
        if self.n_boards > MAX_BOARDS:
            what = f"the joint likelihood takes at most {MAX_BOARDS} boards, not {self.n_boards}"
            raise UsageError(what, hint="estimator std")
        patterns = (1 << np.arange(self.n_boards)) @ present.astype(np.int64)
        self.groups: list[_Group] = []
        self.n_events = 0
        # more boards first: their order does not depend on that of the events
        for pattern in sorted(np.unique(patterns).tolist(), key=lambda value: (-value.bit_count(), value)):
            boards = np.flatnonzero(pattern >> np.arange(self.n_boards) & 1)
            if len(boards) < 2:
                continue
            rows = np.flatnonzero(patterns == pattern)
            self.n_events += len(rows)
            self.groups.append(_Group(boards, slice(None) if len(rows) == present.shape[1] else rows))
        self.differences: list[Floats] = []
        self.counts: list[Floats] = []

    def set_times(self, times: Floats, counts: Floats | None = None) -> JointLikelihood:
        """Set times, of shape (n_boards, n_events), and how often each event counts."""
        self.differences, self.counts = [], []
        for group in self.groups:
            first = times[group.boards[0], group.rows]
            others = [times[board, group.rows] - first for board in group.boards[1:]]
            self.differences.append(np.stack(others, axis=1))
            self.counts.append(np.ones(len(first)) if counts is None else counts[group.rows])
        return self

    def copy(self) -> JointLikelihood:
        """Return another likelihood of the same groups, for another thread."""
        other = object.__new__(JointLikelihood)
        other.n_boards, other.groups, other.n_events = self.n_boards, self.groups, self.n_events
        other.differences, other.counts = [], []
        return other

    def places(self, boards: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the parameters of an event with `boards` stand; the offset of board 0 stands last."""
        size = 2 * self.n_boards + 1
        offsets = np.where(boards == 0, size, self.n_boards + boards - 1)
        return np.concatenate([boards, offsets, [size - 2, size - 1]])

    def value(
        self, parameters: Floats, *, tails: bool, curvature: bool = False
    ) -> tuple[float, Floats, Floats, Floats]:
        """Return log likelihood, gradient, second derivatives, and sum of products of gradients.

        Parameters
        ----------
        parameters : ndarray, shape (2 n_boards + 1,)
            As in `LikelihoodFit`.
        tails : bool
            Whether boards have tails.
        curvature : bool
            Whether the last two are computed; else they are zero.
        """
        size = 2 * self.n_boards + 1
        gradient = np.zeros(size + 1)
        hessian = np.zeros((size + 1, size + 1))
        outer = np.zeros((size + 1, size + 1))
        offsets = np.concatenate([[0.0], parameters[self.n_boards : -2]])
        phi, kappa = (float(parameters[-2]), float(parameters[-1])) if tails else (0.0, 0.0)
        fraction = _expit(phi) if tails else 0.0
        total = 0.0
        for group, differences, counts in zip(self.groups, self.differences, self.counts, strict=True):
            boards = group.boards
            n_components = 1 << len(boards) if tails else 1
            weights = np.empty((n_components, len(boards)))
            forms = np.empty((n_components, len(boards) - 1, len(boards) - 1))
            norms = np.empty(n_components)
            likelihood_kernels.fill_components(parameters[boards], phi, kappa, weights, forms, norms)
            shifts = offsets[boards[1:]] - offsets[boards[0]]
            sums = np.zeros((n_components, (len(boards) * (len(boards) + 1)) // 2))
            total += likelihood_kernels.sum_events(differences, shifts, counts, forms, norms, sums)
            part = np.zeros(2 * len(boards) + 2)
            likelihood_kernels.add_gradient(weights, fraction, sums, part)
            places = self.places(boards)
            gradient[places] += part
            if curvature:
                second, products = np.zeros((len(part), len(part))), np.zeros((len(part), len(part)))
                likelihood_kernels.add_hessian(
                    differences, shifts, counts, weights, forms, norms, fraction, second, products
                )
                hessian[np.ix_(places, places)] += second
                outer[np.ix_(places, places)] += products
        return total, gradient[:-1], hessian[:-1, :-1], outer[:-1, :-1]


@dataclass(frozen=True)
class _Maximum:
    parameters: Floats
    log_likelihood: float
    free: NDArray[np.bool_]
    inverse: Floats
    converged: bool
    steps: int


def _newton_step(
    gradient: Floats, hessian: Floats, outer: Floats, free: NDArray[np.bool_]
) -> tuple[Floats, Floats, bool]:
    """Return the step and the inverse of the matrix that gave it, and whether this was the true curvature."""
    step, inverse = np.zeros(len(gradient)), np.zeros_like(hessian)
    at = np.ix_(free, free)
    true = True
    try:
        np.linalg.cholesky(-hessian[at])
        matrix = -hessian[at]
    except np.linalg.LinAlgError:
        # far from the maximum: the products of the gradients are never negative
        true = False
        matrix = outer[at] + 1e-9 * np.diag(np.diag(outer[at]) + 1e-300)
    found = np.linalg.pinv(matrix, hermitian=True)
    inverse[at] = found
    step[free] = found @ gradient[free]
    return step, inverse, true


def _maximise(
    likelihood: JointLikelihood,
    start: Floats,
    limits: tuple[Floats, Floats],
    *,
    tails: bool,
    wanted: float = -math.inf,
) -> _Maximum:
    """Find the maximum by Newton steps within limits; stop early where it will not reach `wanted`."""
    low, high = limits
    n_boards = likelihood.n_boards
    parameters = np.clip(start, low, high)
    logarithms = np.ones(len(start), dtype=bool)
    logarithms[n_boards:-2] = False
    usable = np.ones(len(start), dtype=bool)
    usable[-2:] = tails
    value, gradient, hessian, outer = likelihood.value(parameters, tails=tails, curvature=True)
    for count in range(1, _STEPS + 1):
        free = usable & ~((parameters <= low) & (gradient < 0.0)) & ~((parameters >= high) & (gradient > 0.0))
        step, inverse, true = _newton_step(gradient, hessian, outer, free)
        gain = float(gradient @ step)
        if gain < 1e-12 and true:
            return _Maximum(parameters, value, free, inverse, True, count)
        # a step gains half of this if the curvature stays; eight times as much is out of reach
        if true and value + 4.0 * gain < wanted:
            return _Maximum(parameters, value, free, inverse, False, count)
        longest = float(np.max(np.abs(step[logarithms])))
        factor = min(1.0, _LONGEST / longest) if longest > 0.0 else 1.0
        for _ in range(30):
            trial = np.clip(parameters + factor * step, low, high)
            found, _, _, _ = likelihood.value(trial, tails=tails)
            # of a step this short, rounding hides whether it goes up
            if found >= value or (gain < 1e-6 and factor == 1.0):
                break
            factor *= 0.5
        else:
            return _Maximum(parameters, value, free, inverse, gain < 1e-4 and true, count)
        parameters = trial
        value, gradient, hessian, outer = likelihood.value(parameters, tails=tails, curvature=True)
    return _Maximum(parameters, value, free, inverse, False, _STEPS)


def _first_guess(times: Floats) -> tuple[Floats, Floats, float]:
    """Return widths and offsets from medians of pairs, and the smallest width of a pair."""
    size = len(times)
    squares = np.full((size, size), np.nan)
    matrix, vector = np.zeros((size, size)), np.zeros(size)
    design, values = [], []
    for first in range(size):
        for second in range(first + 1, size):
            difference = times[second] - times[first]
            difference = difference[~np.isnan(difference)]
            if len(difference) < 2:
                continue
            count = float(len(difference))
            square = robust_sigma(difference) ** 2 or float(np.var(difference))
            squares[first, second] = square
            row = np.zeros(size)
            row[[first, second]] = math.sqrt(count)
            design.append(row)
            values.append(math.sqrt(count) * square)
            matrix[[first, second], [first, second]] += count
            matrix[[first, second], [second, first]] -= count
            middle = float(np.median(difference))
            vector[second] += count * middle
            vector[first] -= count * middle
    smallest = float(np.nanmin(squares)) if values else 0.0
    if np.linalg.matrix_rank(np.array(design) if design else np.zeros((1, size))) < size:
        what = "the pairs of boards with common events do not determine the width of every board"
        raise InputError(what, hint="three boards must see particles together; leave out boards without hits")
    if smallest <= 0.0:
        what = "two boards always differ by the same time: one of them repeats the other, or both are stuck"
        raise InputError(what, hint="look at the time-of-arrival codes of the boards")
    found = np.linalg.lstsq(np.array(design), np.array(values), rcond=None)[0]
    offsets = np.linalg.pinv(matrix) @ vector
    return np.sqrt(np.maximum(found, 0.05 * smallest)), offsets - offsets[0], math.sqrt(smallest)


def _best_start(likelihood: JointLikelihood, start: Floats) -> Floats:
    """Return the start with the tail that fits best as it stands."""
    best, highest = start, -math.inf
    for fraction, scale in _STARTS:
        trial = start.copy()
        trial[-2:] = _logit(fraction), math.log(scale)
        value = likelihood.value(trial, tails=True)[0]
        if value > highest:
            best, highest = trial, value
    return best


def fit_likelihood(
    times: ArrayLike,
    *,
    tails: Literal["auto", "yes", "no"] = "auto",
    counts: ArrayLike | None = None,
    goodness: bool = True,
) -> LikelihoodFit:
    """Fit the resolution of all boards.

    Parameters
    ----------
    times : array_like, shape (n_events, n_boards)
        Times of arrival after the time-walk correction; NaN where a board is missing.
    tails : {"auto", "yes", "no"}
        Whether boards have tails; ``"auto"``: the likelihood ratio decides.
    counts : array_like, shape (n_events,), optional
        How often each event counts.
    goodness : bool
        Whether to compare the pairs with the model.

    Returns
    -------
    LikelihoodFit
        In the unit of `times`.

    Raises
    ------
    UsageError
        With fewer than three boards, or more than `MAX_BOARDS`.
    InputError
        If there are too few events, or the boards do not share enough of them.
    """
    values = np.ascontiguousarray(np.asarray(times, dtype=float).T)
    if values.ndim != 2 or len(values) < 3:
        what = f"the resolution of single boards needs three boards or more, not {len(values)}"
        raise UsageError(what, hint="two boards only give the width of their difference (table of pairs)")
    likelihood = JointLikelihood(~np.isnan(values))
    if likelihood.n_events < _FEWEST:
        what = f"{likelihood.n_events} events with two boards or more; the joint likelihood needs {_FEWEST}"
        raise InputError(what)
    weights = None if counts is None else np.asarray(counts, dtype=float)
    likelihood.set_times(values, weights)
    sigma, offsets, smallest = _first_guess(values)
    start = np.concatenate([np.log(sigma), offsets[1:], [_logit(0.02), math.log(3.0)]])
    limits = _limits(len(values), _FLOOR * smallest)
    gaussian = _maximise(likelihood, start, limits, tails=False)
    chosen = gaussian
    if tails != "no":
        wanted = gaussian.log_likelihood + 0.5 * CRITICAL if tails == "auto" else -math.inf
        tail = _maximise(likelihood, _best_start(likelihood, start), limits, tails=True, wanted=wanted)
        if tails == "yes" or tail.log_likelihood > wanted:
            chosen = tail
    return _result(likelihood, chosen, gaussian, limits, goodness=goodness)


def _result(
    likelihood: JointLikelihood,
    found: _Maximum,
    gaussian: _Maximum,
    limits: tuple[Floats, Floats],
    *,
    goodness: bool,
) -> LikelihoodFit:
    n_boards = likelihood.n_boards
    sigma = np.exp(found.parameters[:n_boards])
    solved = found.parameters[:n_boards] > limits[0][:n_boards] + 1e-9
    covariance = found.inverse[:n_boards, :n_boards] * np.outer(sigma, sigma)
    errors = np.sqrt(np.where(found.free, np.diag(found.inverse), np.nan))
    has_tail = found is not gaussian
    fraction = _expit(float(found.parameters[-2])) if has_tail else 0.0
    scale = math.exp(float(found.parameters[-1])) if has_tail else math.nan
    spread = 1.0 + fraction * (scale**2 - 1.0) if has_tail else 1.0
    shown = np.where(solved, sigma, np.nan)
    return LikelihoodFit(
        sigma=shown,
        sigma_error=np.asarray(errors[:n_boards] * shown),
        covariance=covariance,
        offsets=np.concatenate([[0.0], found.parameters[n_boards:-2]]),
        tail_fraction=fraction,
        tail_fraction_error=float(errors[-2]) * fraction * (1.0 - fraction) if has_tail else math.nan,
        tail_scale=scale,
        tail_scale_error=float(errors[-1]) * scale if has_tail else math.nan,
        rms=np.asarray(shown * math.sqrt(spread)),
        log_likelihood=found.log_likelihood,
        log_likelihood_gaussian=gaussian.log_likelihood,
        converged=found.converged,
        steps=found.steps,
        n_events=likelihood.n_events,
        goodness=_goodness(likelihood, found, tails=has_tail) if goodness else (),
        parameters=found.parameters,
        free=found.free,
        inverse=found.inverse,
    )


def _goodness(likelihood: JointLikelihood, found: _Maximum, *, tails: bool) -> tuple[PairGoodness, ...]:
    """Compare the difference of each pair with the sum of its four Gaussians."""
    n_boards = likelihood.n_boards
    sigma = np.exp(found.parameters[:n_boards])
    offsets = np.concatenate([[0.0], found.parameters[n_boards:-2]])
    fraction = _expit(float(found.parameters[-2])) if tails else 0.0
    scale = math.exp(float(found.parameters[-1])) if tails else 1.0
    results = []
    for first in range(n_boards):
        for second in range(first + 1, n_boards):
            counted = np.zeros(_BINS)
            for group, differences, counts in zip(
                likelihood.groups, likelihood.differences, likelihood.counts, strict=True
            ):
                columns = np.flatnonzero(np.isin(group.boards, (first, second)))
                if len(columns) < 2:
                    continue
                values = np.column_stack([np.zeros(len(counts)), differences])[:, columns]
                pulls = values[:, 1] - values[:, 0] - (offsets[second] - offsets[first])
                chance = np.zeros(len(pulls))
                for tail in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    share = math.prod(fraction if one else 1.0 - fraction for one in tail)
                    if share > 0.0:
                        width = math.hypot(sigma[first] * scale ** tail[0], sigma[second] * scale ** tail[1])
                        chance += share * ndtr(pulls / width)
                counted += np.histogram(chance, bins=_BINS, range=(0.0, 1.0), weights=counts)[0]
            total = float(counted.sum())
            if total < 5.0 * _BINS:
                continue
            chi2 = float(((counted - total / _BINS) ** 2).sum() / (total / _BINS))
            ndf = _BINS - 3  # the mean and the width of the pair were fitted
            results.append(PairGoodness(first, second, chi2, ndf, float(gammaincc(0.5 * ndf, 0.5 * chi2))))
    return tuple(results)


def refit(likelihood: JointLikelihood, nominal: LikelihoodFit) -> tuple[Floats, bool]:
    """Fit other times or counts, near the fit of the same events.

    Steps use the curvature of that fit, so only gradients are needed.

    Parameters
    ----------
    likelihood : JointLikelihood
        With the other times.
    nominal : LikelihoodFit
        Where to start. A tail is fitted where this one has a tail.

    Returns
    -------
    parameters : ndarray
        As in `LikelihoodFit`.
    converged : bool
        Whether the maximum was found.
    """
    tails = nominal.has_tail
    floor = float(np.exp(nominal.parameters[: likelihood.n_boards]).min()) * 1e-2
    low, high = _limits(likelihood.n_boards, floor)
    low = np.minimum(low, nominal.parameters)
    parameters = nominal.parameters
    before = math.inf
    for _ in range(12):
        _, gradient, _, _ = likelihood.value(parameters, tails=tails)
        step = nominal.inverse @ gradient
        gain = float(gradient @ step)
        if not gain < before:
            break
        before = gain
        parameters = np.clip(parameters + step, low, high)
        # a step of 0.002 standard deviations
        if gain < 4e-6:
            return parameters, True
    found = _maximise(likelihood, nominal.parameters, (low, high), tails=tails)
    return found.parameters, found.converged


def warm_up() -> None:
    """Compile, or load, all kernels of the likelihood."""
    rng = np.random.default_rng(1)
    for n_boards in (3, 4):
        fit_likelihood(rng.normal(0.0, 0.05, (200, n_boards)), tails="yes")
