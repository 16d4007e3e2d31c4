"""Intervals where standard errors are not enough: profile likelihood and parametric bootstrap, all channels at once.

Both refit with the batched engine. A profile costs some ten refits a channel with one parameter fixed, a bootstrap one
refit a replica.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import UsageError
from firstlight.fit.result import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import ArrayLike, NDArray

    from firstlight.fit.data import FitData
    from firstlight.fit.result import FitResult

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

__all__ = ["Bootstrap", "ProfileIntervals", "bootstrap", "profile_intervals"]

_MINIMA = (Status.ok, Status.at_bound, Status.not_constrained)
_STEPS = 40  # refits a side at most
_CLOSE = 2e-3  # in standard deviations: how well an end is found
_FARTHEST = 1e4  # standard errors from the value
_MOST_FAILURES = 6
_LARGEST_BATCH = 4_000_000  # numbers in the counts of one batch of replicas


@dataclass(frozen=True, eq=False)
class ProfileIntervals:
    """Intervals of one parameter.

    Parameters
    ----------
    name : str
        Parameter.
    level : float
        Confidence level.
    channels : ndarray of int64, shape (n,)
        Which channels of the result.
    value : ndarray, shape (n,)
        Where the deviance is smallest: the fitted value, unless a refit found a lower minimum.
    lower, upper : ndarray, shape (n,)
        Ends of the intervals; NaN where not found: the deviance rises too little, or refits fail.
    lower_at_bound, upper_at_bound : ndarray of bool, shape (n,)
        Ends that are a bound of the parameter: the deviance has not risen enough there.
    gain : ndarray, shape (n,)
        By how much refits lowered the deviance; above 0.01 the fit had not found its minimum.
    """

    name: str
    level: float
    channels: IntArray
    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    lower_at_bound: BoolArray
    upper_at_bound: BoolArray
    gain: FloatArray

    def __len__(self) -> int:
        return int(self.channels.size)

    def __repr__(self) -> str:
        found = int(np.sum(np.isfinite(self.lower) & np.isfinite(self.upper)))
        return f"ProfileIntervals({self.name}, {100 * self.level:g} %, {found} of {len(self)} channels have both ends)"

    def to_polars(self) -> pl.DataFrame:
        """Return a frame with one row a channel; what is not known is null."""
        import polars as pl

        columns = ("channel", "value", "lower", "upper", "lower_at_bound", "upper_at_bound", "gain")
        arrays = [self.channels, *(getattr(self, name) for name in columns[1:])]
        return pl.DataFrame(dict(zip(columns, arrays, strict=True))).fill_nan(None)


def profile_intervals(
    result: FitResult,
    name: str,
    channels: ArrayLike | None = None,
    level: float = 0.6827,
    *,
    threads: int | None = None,
) -> ProfileIntervals:
    """Return intervals from the profile of the deviance.

    The ends are where the deviance, minimised over the other parameters, is above its minimum by the quantile of chi2
    for one degree of freedom (S. Wilks, Ann. Math. Stat. 9 (1938) 60); an unweighted fit has its residuals as unit. The root of that rise is
    nearly linear in the parameter, and is followed by secants within a bracket; each step refits all channels at once.

    Parameters
    ----------
    result : FitResult
        Of `fit_many`.
    name : str
        Parameter; it must not have been fixed.
    channels : array-like of int or bool, optional
        Which channels; all by default.
    level : float
        Confidence level.
    threads : int, optional
        As for `fit_many`.

    Returns
    -------
    ProfileIntervals
        For the chosen channels.

    Raises
    ------
    UsageError
        If there is no such parameter, it was fixed, or the level is not between 0 and 1.
    """
    from scipy.special import chdtri

    index = result.model.index(name)
    if not 0 < level < 1:
        what = f"confidence level must be between 0 and 1, not {level}"
        raise UsageError(what)
    if name in result.data.fixed:
        what = f"{name} was fixed"
        raise UsageError(what, hint="fit again without it in `fixed`")
    chosen = _chosen(result, channels)
    search = _Search(result, index, chosen, float(chdtri(1, 1 - level)), threads)
    search.run()
    n = chosen.size
    return ProfileIntervals(
        name,
        float(level),
        chosen,
        search.value,
        search.end[:n],
        search.end[n:],
        search.at_bound[:n],
        search.at_bound[n:],
        search.gain,
    )


def _chosen(result: FitResult, channels: ArrayLike | None) -> IntArray:
    everything = np.arange(len(result))
    if channels is None:
        return everything
    given = np.atleast_1d(np.asarray(channels))
    if given.dtype == np.bool_ and given.shape != everything.shape:
        what = f"the choice of channels has {given.size} entries, the result has {len(result)} channels"
        raise UsageError(what)
    try:
        return np.asarray(everything[given])
    except IndexError as error:
        what = f"there is no channel {given.max()}, the result has {len(result)}"
        raise UsageError(what) from error


class _Search:
    """Both ends of all channels, searched together; the first half of each array are lower ends."""

    def __init__(
        self, result: FitResult, index: int, chosen: IntArray, quantile: float, threads: int | None
    ) -> None:
        from firstlight.fit.blocks import bounds_of

        self.result, self.index, self.threads = result, index, threads
        self.row = np.tile(chosen, 2)
        n = chosen.size
        self.place = np.tile(np.arange(n), 2)
        self.sign = np.repeat([-1.0, 1.0], n)
        self.value = result.values[chosen, index].copy()
        self.best = result.deviance[chosen].copy()
        self.gain = np.zeros(n)
        self.others = result.values[self.row].copy()
        unit = np.ones(n)
        if result.estimator == "unweighted":
            with np.errstate(divide="ignore", invalid="ignore"):
                unit = np.where(result.ndf[chosen] > 0, self.best / result.ndf[chosen], np.nan)
        self.wanted = np.sqrt(quantile * unit)
        low, high = bounds_of(result.model, result.data)[:, index]
        self.bound = np.where(self.sign < 0, low, high)
        self.step = self._steps(chosen)
        self.end = np.full(2 * n, np.nan)
        self.at_bound = np.zeros(2 * n, dtype=np.bool_)
        usable = np.isfinite(self.value) & np.isin(result.status[chosen], _MINIMA) & np.isfinite(self.wanted)
        self.active = usable[self.place] & np.isfinite(self.step[self.place])
        # a bracket in units of the parameter, with roots of the rise less the wanted one
        self.inner, self.inner_root = self.value[self.place], -self.wanted[self.place]
        self.outer, self.outer_root = np.full(2 * n, np.nan), np.full(2 * n, np.nan)
        self.last = np.zeros(2 * n, dtype=np.int64)  # on which side of the end the last refit was
        self.failures = np.zeros(2 * n, dtype=np.int64)

    def _steps(self, chosen: IntArray) -> FloatArray:
        """Return a first guess of the standard deviation."""
        error = self.result.errors[chosen, self.index]
        typical = self.result.errors[self.result.ok, self.index]
        other = float(np.median(typical)) if typical.size else np.nan
        size = np.where(np.isfinite(other), other, 0.1 * np.abs(self.value))
        return np.asarray(np.where(np.isfinite(error) & (error > 0), error, np.where(size > 0, size, 0.1)))

    def run(self) -> None:
        """Search until all ends are found or given up."""
        on_bound = self.active & (self.sign * (self.bound - self.inner) <= 0)
        self.end[on_bound], self.at_bound[on_bound] = self.bound[on_bound], True
        self.active &= ~on_bound
        for _ in range(_STEPS):
            rows = np.flatnonzero(self.active)
            if rows.size == 0:
                return
            tried = self._next(rows)
            deviance, values, good = self._refit(rows, tried)
            self._note_lower_minima(rows[good], tried[good], deviance[good])
            rise = deviance - self.best[self.place[rows]]
            root = np.sqrt(np.maximum(rise, 0)) - self.wanted[self.place[rows]]
            self._move(rows, tried, root, values, good)

    def _next(self, rows: IntArray) -> FloatArray:
        """Return where to look next: a secant within the bracket, or farther out."""
        inner, outer = self.inner[rows], self.outer[rows]
        f, g = self.inner_root[rows], self.outer_root[rows]
        place, sign = self.place[rows], self.sign[rows]
        wanted, step = self.wanted[place], self.step[place]
        with np.errstate(divide="ignore", invalid="ignore"):
            secant = inner - f * (outer - inner) / (g - f)
            # outside any bracket: as far as the rise so far, a straight line, says
            growth = np.clip(wanted / np.maximum(f + wanted, 1e-12), 1.3, 3.0)
        distance = np.abs(inner - self.value[place])
        outwards = np.where(distance > 0, distance * growth, step * wanted)
        guess = np.where(np.isfinite(outer), secant, self.value[place] + sign * outwards)
        # halves where refits failed: an end that cannot be reached is approached
        halved = self.failures[rows] > 0
        guess = np.where(
            halved & ~np.isfinite(outer), inner + (guess - inner) * 0.5 ** self.failures[rows], guess
        )
        bound = self.bound[rows]
        return np.asarray(np.where(sign * (guess - bound) > 0, bound, guess))

    def _refit(self, rows: IntArray, tried: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return deviance, values and success of refits with the parameter fixed."""
        deviance, values, good = self._fit(rows, tried, rescue=False)
        again = np.flatnonzero(~good)
        if again.size:
            deviance[again], values[again], good[again] = self._fit(rows[again], tried[again], rescue=True)
        return deviance, values, good

    def _fit(
        self, rows: IntArray, tried: FloatArray, *, rescue: bool
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        from firstlight.fit.many import fit_many

        result = self.result
        data = result.data.select(self.row[rows])
        options = data.options()
        options["fixed"] = {**options["fixed"], result.model.names[self.index]: tried}
        start = self.others[rows].copy()
        covariance = result.covariance[self.row[rows]]
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = covariance[:, :, self.index] / covariance[:, self.index, self.index][:, None]
        moved = start + np.where(np.isfinite(slope), slope, 0.0) * (tried - start[:, self.index])[:, None]
        fit = fit_many(
            data.counts, data.x, result.model, start=moved, rescue=rescue, threads=self.threads, tolerance=1e-6,
            max_iterations=200, **options,
        )  # fmt: skip
        good = np.isin(fit.status, _MINIMA) & np.isfinite(fit.deviance)
        if result.estimator != "gaussian" and np.all(
            result.fixed | (np.arange(len(result.model)) == self.index)
        ):
            good = np.isfinite(fit.deviance)
        return fit.deviance.copy(), fit.values.copy(), good

    def _note_lower_minima(self, rows: IntArray, tried: FloatArray, deviance: FloatArray) -> None:
        """Take a refit below the fitted deviance as the new minimum; roots of the rise follow."""
        place = self.place[rows]
        gain = self.best[place] - deviance
        for k in np.flatnonzero(gain > 1e-5):
            here = place[k]
            if self.best[here] - deviance[k] <= 0:
                continue
            drop = self.best[here] - deviance[k]
            self.gain[here] += drop
            self.best[here] = deviance[k]
            if drop > 1e-2:
                self.value[here] = tried[k]
            both = np.flatnonzero(self.place == here)
            for old in (self.inner_root, self.outer_root):
                rise = (old[both] + self.wanted[here]) ** 2 + drop
                old[both] = np.sqrt(rise) - self.wanted[here]

    def _move(
        self, rows: IntArray, tried: FloatArray, root: FloatArray, values: FloatArray, good: BoolArray
    ) -> None:
        """Tighten the brackets, and note ends that are found."""
        self.failures[rows[~good]] += 1
        self.active[rows[self.failures[rows] >= _MOST_FAILURES]] = False
        rows, tried, root = rows[good], tried[good], root[good]
        self.others[rows] = values[good]
        below = root < 0
        near, far = rows[below], rows[~below]
        self.inner[near], self.inner_root[near] = tried[below], root[below]
        self.outer[far], self.outer_root[far] = tried[~below], root[~below]
        # the Illinois rule: an end of the bracket that stays twice counts half, or it would stay for ever
        self.outer_root[near[self.last[near] < 0]] *= 0.5
        self.inner_root[far[self.last[far] > 0]] *= 0.5
        self.last[rows] = np.where(below, -1, 1)
        place = self.place[rows]
        close = np.abs(root) < _CLOSE * self.wanted[place]
        close |= np.abs(self.outer[rows] - self.inner[rows]) < 1e-4 * self.step[place]
        stopped = below & ~close & (tried == self.bound[rows])
        self.end[rows[close | stopped]] = tried[close | stopped]
        self.at_bound[rows[stopped]] = True
        lost = np.abs(tried - self.value[place]) > _FARTHEST * self.step[place]
        self.active[rows[close | stopped | lost]] = False


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """What refits of simulated data say about values and errors.

    Parameters
    ----------
    names : list of str
        Parameters.
    channels : ndarray of int64, shape (n,)
        Which channels of the result.
    mean, std, bias : ndarray, shape (n, n_parameters)
        Of the replicas; the bias is their mean less the value from which they were simulated. NaN for fixed parameters and for
        channels with fewer than two good replicas.
    levels : tuple of float
        Probabilities of the quantiles.
    quantiles : ndarray, shape (n, n_parameters, n_levels)
        Of the replicas.
    n_replicas : int
        Simulated for each channel.
    n_good : ndarray of int64, shape (n,)
        Refits that found a minimum; the others are left out.
    at_bound : ndarray, shape (n, n_parameters)
        Share of good refits with the parameter at a bound.
    replicas : ndarray, shape (n, n_replicas, n_parameters), optional
        All values, if asked for.
    """

    names: list[str]
    channels: IntArray
    mean: FloatArray
    std: FloatArray
    bias: FloatArray
    levels: tuple[float, ...]
    quantiles: FloatArray
    n_replicas: int
    n_good: IntArray
    at_bound: FloatArray
    replicas: FloatArray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return int(self.channels.size)

    def __repr__(self) -> str:
        good = self.n_good.sum() / max(len(self) * self.n_replicas, 1)
        return f"Bootstrap({len(self)} channels, {self.n_replicas} replicas of each, {100 * good:.2f} % of the refits are good)"


def bootstrap(
    result: FitResult,
    n_replicas: int = 200,
    seed: int = 1,
    channels: ArrayLike | None = None,
    *,
    levels: Sequence[float] = (0.15865, 0.5, 0.84135),
    keep: bool = False,
    threads: int | None = None,
) -> Bootstrap:
    """Refit data that are simulated from the fitted curves.

    Counts are drawn from Poisson or binomial distributions with the fitted expectations, measurements from normal ones with
    their sigma, or for unweighted fits with the size of the residuals (B. Efron, R. Tibshirani, An Introduction to the Bootstrap, chapter 6.5).

    Parameters
    ----------
    result : FitResult
        Of `fit_many`.
    n_replicas : int
        For each channel, at least 2.
    seed : int
        The replicas of a channel depend on the seed and its number, not on which other channels are chosen.
    channels : array-like of int or bool, optional
        Which channels; all by default.
    levels : sequence of float
        Probabilities of the quantiles.
    keep : bool
        Whether to return the values of all replicas.
    threads : int, optional
        As for `fit_many`.

    Returns
    -------
    Bootstrap
        Channels without a fit have NaN.

    Raises
    ------
    UsageError
        If there are fewer than 2 replicas.
    """
    if n_replicas < 2:
        what = f"number of replicas must be at least 2, not {n_replicas}"
        raise UsageError(what)
    chosen = _chosen(result, channels)
    n, n_parameters = chosen.size, len(result.model)
    shape = (n, n_parameters)
    mean, std, bias, bounded = (np.full(shape, np.nan) for _ in range(4))
    quantiles = np.full((*shape, len(levels)), np.nan)
    n_good = np.zeros(n, dtype=np.int64)
    replicas = np.full((n, n_replicas, n_parameters), np.nan) if keep else None
    at_once = max(_LARGEST_BATCH // (n_replicas * result.data.n_points), 1)
    usable = np.flatnonzero(np.isfinite(result.values[chosen]).all(axis=1))
    for first in range(0, usable.size, at_once):
        rows = usable[first : first + at_once]
        values, at_bound, good = _refits(result, chosen[rows], n_replicas, seed, threads)
        n_good[rows] = good.sum(axis=1)
        kept = np.where(good[:, :, None], values, np.nan)
        if replicas is not None:
            replicas[rows] = kept
        rich = n_good[rows] >= 2
        some, kept = rows[rich], kept[rich]
        if some.size == 0:
            continue
        mean[some] = np.nanmean(kept, axis=1)
        std[some] = np.nanstd(kept, axis=1, ddof=1)
        bias[some] = mean[some] - result.values[chosen[some]]
        quantiles[some] = np.moveaxis(np.nanquantile(kept, levels, axis=1), 0, -1)
        bounded[some] = np.sum(at_bound[rich] & good[rich][:, :, None], axis=1) / n_good[some][:, None]
    fixed = result.fixed[chosen]
    std[fixed] = bias[fixed] = np.nan
    return Bootstrap(
        result.model.names, chosen, mean, std, bias, tuple(float(level) for level in levels), quantiles, int(n_replicas),
        n_good, bounded, replicas,
    )  # fmt: skip


def _refits(
    result: FitResult, channels: IntArray, n_replicas: int, seed: int, threads: int | None
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return values, parameters at bounds and success of refits: shapes (n, n_replicas, ...)."""
    from firstlight.fit.many import fit_many

    data = result.data.select(channels)
    drawn = _draw(result, data, channels, n_replicas, seed)
    many = data.select(np.repeat(np.arange(channels.size), n_replicas))
    fit = fit_many(
        drawn.reshape(-1, data.n_points),
        many.x,
        result.model,
        start=np.repeat(result.values[channels], n_replicas, axis=0),
        threads=threads,
        **many.options(),
    )
    shape = (channels.size, n_replicas)
    good = np.isin(fit.status, _MINIMA) & np.isfinite(fit.values).all(axis=1)
    return fit.values.reshape(*shape, -1), fit.at_bound.reshape(*shape, -1), good.reshape(shape)


def _draw(result: FitResult, data: FitData, channels: IntArray, n_replicas: int, seed: int) -> FloatArray:
    """Return simulated counts, shape (n, n_replicas, n_points); NaN where there were none."""
    expected = result.expected(channels)
    exposure = np.broadcast_to(data.exposure, expected.shape)
    sigma = np.broadcast_to(1.0 if data.sigma is None else data.sigma, expected.shape)
    unknown = ~np.isfinite(np.asarray(data.counts, dtype=np.float64)) | ~np.isfinite(expected)
    drawn = np.empty((channels.size, n_replicas, data.n_points))
    for k, channel in enumerate(channels):
        rng = np.random.default_rng([seed, int(channel)])
        size = (n_replicas, data.n_points)
        mean = np.where(unknown[k], 0.0, expected[k])
        if data.estimator == "poisson":
            drawn[k] = rng.poisson(np.maximum(mean, 0.0), size)
        elif data.estimator == "binomial":
            trials = np.where(np.isfinite(exposure[k]), np.rint(exposure[k]), 0).astype(np.int64)
            chance = np.divide(mean, exposure[k], out=np.zeros_like(mean), where=exposure[k] > 0)
            drawn[k] = rng.binomial(trials, np.clip(chance, 0.0, 1.0), size)
        else:
            spread = sigma[k]
            if data.estimator == "unweighted":
                spread = np.sqrt(result.deviance[channel] / max(int(result.ndf[channel]), 1))
            drawn[k] = mean + spread * rng.standard_normal(size)
    drawn[np.broadcast_to(unknown[:, None, :], drawn.shape)] = np.nan
    return drawn
