"""Bootstrap of the chain from times on: events are drawn again, walk and resolution are fitted again.

An event that is drawn three times has the weight 3 in the sums of the fits; nothing is copied. The fits start
at the result of the full sample, which is near. Each replica has its own seed, so the result does not depend
on threads.

The interval is the percentile interval. A bias-corrected one (BCa) would need the median of the replicas to
better than 200 of them give it: its shift would be mostly noise where, as here, the estimate is nearly
unbiased.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.detectors.etroc.likelihood import JointLikelihood, fit_likelihood, refit
from firstlight.detectors.etroc.resolution import ESTIMATORS, Estimator, pair_widths, solve_pairs
from firstlight.detectors.etroc.timewalk import WalkResult, correct_walk
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.etroc.widths import WidthName

    Floats = NDArray[np.float64]
    Replica = Callable[[Floats, Floats], Floats]

__all__ = ["Bootstrap", "bootstrap_chain", "bootstrap_walk", "warm_up"]

_PICOSECONDS = 1e3
_INTERVAL = 0.682689492137086


@dataclass(frozen=True)
class Bootstrap:
    """Replicas of the resolution.

    Parameters
    ----------
    boards : tuple of int
        Labels.
    estimator : str
        How the resolution was measured.
    replicas : ndarray, shape (n, n_boards)
        Resolution in ps; NaN where a replica has no solution.
    """

    boards: tuple[int, ...]
    estimator: str
    replicas: Floats

    @property
    def failed(self) -> NDArray[np.int64]:
        """Replicas without solution, of each board."""
        return np.asarray(np.isnan(self.replicas).sum(axis=0), dtype=np.int64)

    def error(self) -> Floats:
        """Return the standard deviation over replicas, in ps; NaN with fewer than two solutions."""
        return np.array(
            [column.std(ddof=1) if len(column) > 1 else np.nan for column in self._solved()], dtype=np.float64
        )

    def interval(self, level: float = _INTERVAL) -> tuple[Floats, Floats]:
        """Return the ends of the percentile interval, in ps.

        Replicas without solution count as zero resolution: they are below any that has one.

        Parameters
        ----------
        level : float
            Probability between the ends.

        Returns
        -------
        low, high : ndarray, shape (n_boards,)
            NaN where fewer than half of the replicas have a solution.
        """
        if not len(self.replicas):
            nothing = np.full(len(self.boards), np.nan)
            return nothing, nothing
        filled = np.nan_to_num(self.replicas, nan=0.0)
        ends = np.quantile(filled, [0.5 * (1.0 - level), 0.5 * (1.0 + level)], axis=0)
        ends = np.where(2 * self.failed > len(self.replicas), np.nan, ends)
        return ends[0], ends[1]

    def rows(self) -> dict[str, list[Any]]:
        """Return columns replica, board, resolution; null where a replica has no solution."""
        count, size = self.replicas.shape
        values = self.replicas.ravel().tolist()
        return {
            "replica": np.repeat(np.arange(count), size).tolist(),
            "board": list(self.boards) * count,
            "resolution": [None if np.isnan(value) else value for value in values],
        }

    def _solved(self) -> list[Floats]:
        return [column[~np.isnan(column)] for column in self.replicas.T]


_WIDTHS: dict[str, WidthName] = {"std": "std", "std_delta": "std", "effective": "effective", "fwhm": "fwhm"}


def _replica_of(estimator: Estimator, times: Floats, tails: Literal["auto", "yes", "no"]) -> Replica:
    """Return what measures a replica, from times of shape (n_boards, n_events) and counts."""
    if estimator != "likelihood":
        name = _WIDTHS[estimator]

        def by_widths(replica: Floats, counts: Floats) -> Floats:
            return solve_pairs(pair_widths(replica.T, name, counts)[0]).resolution * _PICOSECONDS

        return by_widths
    nominal = fit_likelihood(times.T, tails=tails, goodness=False)
    shared = JointLikelihood(~np.isnan(times))
    unsolved = np.isnan(nominal.sigma)

    def by_likelihood(replica: Floats, counts: Floats) -> Floats:
        likelihood = shared.copy().set_times(replica, counts)
        parameters, converged = refit(likelihood, nominal)
        sigma = np.exp(parameters[: len(times)])
        # at its limit, a hundredth of the smallest one, a width has no solution
        lost = unsolved | (sigma < 0.02 * np.nanmin(nominal.sigma)) | (not converged)
        return np.where(lost, np.nan, sigma * _PICOSECONDS)

    return by_likelihood


def bootstrap_walk(
    walk: WalkResult,
    *,
    n: int = 200,
    seed: int = 0,
    threads: int | None = None,
    estimator: Estimator = "likelihood",
    tails: Literal["auto", "yes", "no"] = "auto",
) -> Bootstrap:
    """Repeat a time-walk correction and the resolution that follows on events that are drawn again.

    Parameters
    ----------
    walk : WalkResult
        The correction of the full sample.
    n : int
        Replicas.
    seed : int
        Of the drawing.
    threads : int, optional
        All processors by default. The result does not depend on it.
    estimator : {"likelihood", "std", "std_delta", "effective", "fwhm"}
        Of the resolution.
    tails : {"auto", "yes", "no"}
        For the likelihood. Whether there is a tail is decided on the full sample and kept.

    Returns
    -------
    Bootstrap
        Replicas in ps.

    Raises
    ------
    UsageError
        If an option makes no sense, or with fewer than three boards.
    InputError
        If the resolution of the full sample cannot be fitted.
    """
    if estimator not in ESTIMATORS:
        what = f"no estimator {estimator!r} of the resolution"
        raise UsageError(what, known=list(ESTIMATORS))
    if n < 0 or seed < 0:
        what = f"replicas and seed of the bootstrap must be 0 or more, not {n} and {seed}"
        raise UsageError(what)
    corrector = walk.corrector
    times, curves, _ = corrector.run()
    starts = corrector.warm(curves)
    replica_of = _replica_of(estimator, times, tails)
    size = corrector.n_events

    def one(index: int) -> Floats:
        rng = np.random.default_rng([seed, index])
        counts = np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
        replica, _, _ = corrector.run(counts, starts)
        return replica_of(replica, counts)

    workers = threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        replicas = list(pool.map(one, range(n)))
    empty = np.empty((0, len(walk.boards)))
    return Bootstrap(walk.boards, estimator, np.stack(replicas) if replicas else empty)


def bootstrap_chain(
    toa: ArrayLike,
    tot: ArrayLike,
    *,
    boards: Sequence[int] | None = None,
    n: int = 200,
    seed: int = 0,
    threads: int | None = None,
    estimator: Estimator = "likelihood",
    tails: Literal["auto", "yes", "no"] = "auto",
    walk: Mapping[str, Any] | None = None,
) -> Bootstrap:
    """Bootstrap time-walk correction and resolution together.

    Parameters
    ----------
    toa, tot : array_like, shape (n_events, n_boards)
        Raw times of arrival and times over threshold in ns; NaN where a board is missing.
    boards : sequence of int, optional
        Labels of the columns.
    n, seed, threads, estimator, tails
        As in `bootstrap_walk`.
    walk : mapping, optional
        Options of `correct_walk`.

    Returns
    -------
    Bootstrap
        Replicas in ps.
    """
    nominal = correct_walk(toa, tot, boards=boards, **(walk or {}))
    return bootstrap_walk(nominal, n=n, seed=seed, threads=threads, estimator=estimator, tails=tails)


def warm_up() -> None:
    """Compile, or load, all kernels from the time-walk correction to the bootstrap."""
    from firstlight.detectors.etroc import likelihood, timewalk

    timewalk.warm_up()
    likelihood.warm_up()
