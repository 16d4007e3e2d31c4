"""What a channel should count, and how far it may be from that.

Counts of one spill are correlated, and no model of a profile is exact. Both make the spread of a count
grow with its mean, so a count is taken to be Poisson with a mean that is itself log-normally spread by a
relative width: variance ``mu + (width * mu)**2`` for small widths. Compared with a gamma spread (negative
binomial) of the same width, the log-normal has the longer tail upwards, as the errors of profile models
have, and next to no probability at zero, so that a dead channel is still found where the model is poor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from firstlight.run.config import StrictModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "LocalFit",
    "OutlierParameters",
    "PartnerView",
    "Profile",
    "approximate_pull",
    "dispersion_width",
    "falling_line",
    "local_fit",
    "partner_exposure",
    "partner_view",
    "reference_scale",
    "smooth_profile",
    "tail_probabilities",
    "total_width",
]

FLOOR = 0.5
"""Smallest mean that is believed, in counts: no plane is free of stray hits."""
_NODES = 241
_REACH = 12.0
_NEAR_SIGMA = 2.0
_CHUNK = 20_000
_STIFF = 1e9


class OutlierParameters(StrictModel):
    """Limits of the verdicts on channels and groups."""

    false_alarms: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="probability of one false alarm among all channels together, for each kind of verdict",
    )
    minimum_expected: float = Field(
        10.0, gt=0, description="expected counts below which a channel is neither dead nor low"
    )
    minimum_hot_count: int = Field(10, ge=1, description="counts below which a channel is never hot")
    dead_ratio: float = Field(
        0.02, ge=0, lt=0.5, description="largest count of a dead channel, relative to what is expected"
    )
    low_ratio: float = Field(
        0.5, gt=0, lt=1, description="ratio to the expected count below which a channel can be low"
    )
    hot_ratio_reference: float = Field(
        2.0, gt=1, description="ratio above which a channel can be hot, where a reference tells"
    )
    hot_ratio: float = Field(
        2.5, gt=1, description="ratio above which a channel can be hot, from partner or neighbours"
    )
    edge_hot_ratio: float = Field(
        10.0, gt=1, description="the same where all good neighbours are on one side (extrapolation)"
    )
    segmented_ratio: float = Field(
        4.0, gt=1, description="ratio (or its inverse, for low) for groups of a few wide bars"
    )
    width_factor: float = Field(
        2.0, ge=0, description="ratio limits without a reference move away from 1 by exp(factor * width)"
    )
    smallest_width: float = Field(
        0.03, ge=0, description="smallest relative error of an expectation that is believed"
    )
    default_width: float = Field(
        0.12, gt=0, description="relative error where a group has too few counts to find it"
    )
    segmented_width: float = Field(0.3, gt=0, description="the same for groups of a few wide bars")
    gap_width: float = Field(
        0.03, ge=0, description="relative error added per channel of distance to the nearest good neighbour"
    )
    neighbours: int = Field(6, ge=2, le=50, description="good neighbours used at each side of a channel")
    neighbours_short: int = Field(
        3, ge=2, le=50, description="the same for segmented groups and groups of fewer than 40 channels"
    )
    edge_expected: float = Field(
        100.0,
        gt=0,
        description="expected counts from which an empty edge, seen by no partner, is dead and not unlit",
    )
    edge_sharpness: float = Field(
        0.6,
        ge=0,
        description="such an edge must be sharp: the last lit channel has this share of its expectation",
    )
    group_dead_ratio: float = Field(
        0.01, gt=0, lt=0.5, description="largest total of a dead group, relative to what is expected"
    )
    group_floor: float = Field(
        0.01, gt=0, lt=1, description="share of the typical group total that any group should have"
    )
    group_tolerance: float = Field(
        0.2, gt=0, lt=1, description="how far the total of a group may be from the reference, relative"
    )
    group_flatness: float = Field(
        0.7,
        gt=0,
        description="a group above its partner is hot if its profile is flatter than the partner's, the exponent "
        "of the one in the other being below this; otherwise the partner is low",
    )


def approximate_pull(
    counts: NDArray[np.float64], expected: NDArray[np.float64], width: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how many standard deviations a count is from its mean, on a logarithmic scale.

    Parameters
    ----------
    counts, expected, width : array of float, shape (n,)
        Counts, their means, and the relative width of the means.

    Returns
    -------
    array of float, shape (n,)
        ``ln((n + 1/2) / (mu + 1/2)) / sqrt(width**2 + 1 / (mu + 1/2))``.
    """
    pulls: NDArray[np.float64] = np.log((counts + 0.5) / (expected + 0.5)) / np.sqrt(
        width**2 + 1.0 / (expected + 0.5)
    )
    return pulls


def tail_probabilities(
    counts: NDArray[np.float64], expected: NDArray[np.float64], width: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return P(N <= n) and P(N >= n) of a Poisson count with a log-normally spread mean.

    The median of the mean is `expected`. Counts within two standard deviations of large means get the normal
    approximation; all others are integrated over the spread with the trapezoidal rule.

    Parameters
    ----------
    counts, expected, width : array of float, shape (n,)
        Counts, their means, and the relative width of the means. NaN in, NaN out.

    Returns
    -------
    lower, upper : array of float, shape (n,)
    """
    from scipy.special import gammainc, gammaincc, ndtr

    mean = np.maximum(expected, FLOOR)
    pull = approximate_pull(counts, mean, width)
    lower: NDArray[np.float64] = np.asarray(ndtr(pull), dtype=np.float64)
    upper: NDArray[np.float64] = np.asarray(ndtr(-pull), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        exact = np.flatnonzero((np.abs(pull) > _NEAR_SIGMA) | (mean < 30.0))
    nodes = np.linspace(-_REACH, _REACH, _NODES)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    for start in range(0, exact.size, _CHUNK):
        part = exact[start : start + _CHUNK]
        means = mean[part, None] * np.exp(np.clip(width[part, None] * nodes[None, :], -50.0, 50.0))
        count = counts[part, None]
        lower[part] = gammaincc(count + 1.0, means) @ weights
        at_least = gammainc(np.maximum(count, 1.0), means) @ weights
        upper[part] = np.where(counts[part] > 0, at_least, 1.0)
    return lower, upper


def dispersion_width(
    counts: NDArray[np.float64],
    expected: NDArray[np.float64],
    extra: NDArray[np.float64],
    *,
    default: float,
    smallest: float,
    largest: float = 1.0,
) -> float:
    """Return the relative width that makes the residuals of a group as wide as they are.

    Solved for by bisection so that the median, and the 90 % quantile, of ``|n - mu| / sqrt(mu + (extra +
    width**2) * mu**2)`` are those of a normal distribution (0.6745 and 1.645); the wider answer counts, because
    residuals of real planes have tails. Quantiles do not see the few bad channels that may be left.

    Parameters
    ----------
    counts, expected : array of float, shape (n,)
        Counts of the good channels and their means.
    extra : array of float, shape (n,)
        Relative variance of each mean that is known already (its own statistics).
    default : float
        The answer if fewer than 8 channels have five counts or more.
    smallest, largest : float
        Limits of the answer.
    """
    usable = expected >= 5.0
    if np.count_nonzero(usable) < 8:
        return default
    mean = expected[usable]
    distance = np.abs(counts[usable] - mean)
    spread = extra[usable]

    def too_wide(width: float) -> bool:
        scaled = distance / np.sqrt(mean + (spread + width**2) * mean**2)
        return bool(np.mean(scaled > 0.6745) > 0.5 or np.mean(scaled > 1.645) > 0.1)

    low, high = 0.0, largest
    for _ in range(20):
        middle = 0.5 * (low + high)
        if too_wide(middle):
            low = middle
        else:
            high = middle
    return min(max(high, smallest), largest)


@dataclass(frozen=True)
class LocalFit:
    """What the neighbours of every channel say about it.

    Attributes
    ----------
    expected : array of float, shape (n,)
        Mean count; NaN where nothing can be said.
    variance : array of float, shape (n,)
        Relative variance of that mean from the statistics of the neighbours.
    scatter : array of float, shape (n,)
        Relative scatter of the neighbours around their own fit, beyond Poisson.
    distance : array of float, shape (n,)
        Channels to the nearest good neighbour.
    one_sided : array of bool, shape (n,)
        All good neighbours are on one side: the mean is extrapolated.
    """

    expected: NDArray[np.float64]
    variance: NDArray[np.float64]
    scatter: NDArray[np.float64]
    distance: NDArray[np.float64]
    one_sided: NDArray[np.bool_]


def local_fit(
    counts: NDArray[np.float64],
    good: NDArray[np.bool_],
    *,
    per_side: int,
    width: float,
    exposure: NDArray[np.float64] | None = None,
    stiffness: float = 1.0,
) -> LocalFit:
    """Fit a straight line in the logarithm through the good neighbours of every channel.

    A robust local-likelihood Poisson regression (Loader, Local Regression and Likelihood, 1999, chapter 4) on
    the `per_side` nearest good channels at each side, the channel itself left out, with tricube weights:
    started from the median of pairwise slopes (Theil and Sen), then three scoring steps with Tukey's biweight.

    Parameters
    ----------
    counts : array of float, shape (n,)
        Counts in geometric order.
    good : array of bool, shape (n,)
        Channels that may say something about others.
    per_side : int
        Good channels used at each side.
    width : float
        Relative width of the group, for the weights.
    exposure : array of float, shape (n,), optional
        The line is fitted to the ratio of counts to this (the profile of a partner).
    stiffness : float
        Prior information on the slope, in 1 / (slope per channel)**2; large values keep it at zero.
    """
    n = counts.size
    where = np.flatnonzero(good)
    if where.size < 3:
        nothing = np.full(n, np.nan)
        return LocalFit(nothing, nothing, nothing, np.full(n, np.inf), np.ones(n, dtype=bool))
    offset = np.ones(n) if exposure is None else exposure
    x, neighbour, valid = _neighbours(where, good, per_side)
    y = counts[neighbour]
    share = offset[neighbour]
    reach = np.max(np.where(valid, np.abs(x), 0.0), axis=1, keepdims=True) + 1.0
    kernel = np.where(valid, (1.0 - np.minimum(np.abs(x) / reach, 1.0) ** 3) ** 3, 0.0)
    level, slope = _theil_sen(x, np.log((y + 0.5) / share), valid)
    # a robust slope from few channels must not run away before the first scoring step
    slope = np.clip(slope, -1.5, 1.5)
    determinant = s2 = np.ones(n)
    mean = np.ones_like(y)
    for _ in range(3):
        eta = np.clip(level[:, None] + slope[:, None] * x + np.log(share), -7.0, 25.0)
        mean = np.exp(eta)
        spread = 1.0 + width**2 * mean
        residual = (y - mean) / np.sqrt(mean * spread)
        robust = np.maximum(1.0 - (residual / 5.0) ** 2, 0.02) ** 2
        weight = kernel * robust * mean / spread
        target = (y - mean) / mean
        s0, s1, s2 = weight.sum(1) + 1e-9, (weight * x).sum(1), (weight * x * x).sum(1) + stiffness
        t0, t1 = (weight * target).sum(1), (weight * x * target).sum(1) - stiffness * slope
        determinant = s0 * s2 - s1**2
        level = level + np.clip((s2 * t0 - s1 * t1) / determinant, -1.0, 1.0)
        slope = np.clip(slope + np.clip((s0 * t1 - s1 * t0) / determinant, -0.5, 0.5), -1.5, 1.5)
    signed = np.where(valid, x, np.inf)[np.arange(n), np.argmin(np.where(valid, np.abs(x), np.inf), axis=1)]
    variance = s2 / determinant
    squares = np.minimum((y - mean) ** 2, 16.0 * mean * (1.0 + width**2 * mean)) - mean
    scatter = np.sqrt(np.maximum((kernel * squares).sum(1) / (kernel * mean**2).sum(1), 0.0))
    distance = np.min(np.where(valid, np.abs(x), np.inf), axis=1)
    one_sided = ~(np.any(valid & (x < 0), axis=1) & np.any(valid & (x > 0), axis=1))
    # beyond as many channels as it was fitted to, a line says nothing more
    beyond = np.where(one_sided, np.sign(signed) * np.maximum(distance - per_side, 0.0), 0.0)
    expected = np.exp(np.clip(level + slope * beyond, -20.0, 25.0)) * offset
    if exposure is None:
        # a line that rises into a gap says nothing about its far side
        highest = np.max(np.where(valid, y, 0.0), axis=1)
        expected = np.where(distance > 2, np.minimum(expected, 1.2 * highest), expected)
    return LocalFit(expected, variance, scatter, distance, one_sided)


def _neighbours(
    where: NDArray[np.int64], good: NDArray[np.bool_], per_side: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    own = np.arange(good.size)
    before = np.searchsorted(where, own)
    steps = np.arange(per_side)
    rank = np.concatenate([before[:, None] - 1 - steps, (before + good)[:, None] + steps], axis=1)
    valid = (rank >= 0) & (rank < where.size)
    neighbour = where[np.clip(rank, 0, where.size - 1)]
    return (neighbour - own[:, None]).astype(np.float64), neighbour, valid


def _theil_sen(
    x: NDArray[np.float64], y: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.triu_indices(x.shape[1], k=1)
    run = x[:, second] - x[:, first]
    usable = valid[:, first] & valid[:, second]
    slopes = np.where(usable, (y[:, second] - y[:, first]) / np.where(usable, run, 1.0), np.inf)
    slope = _median(slopes, usable.sum(1))
    level = _median(np.where(valid, y - slope[:, None] * x, np.inf), valid.sum(1))
    return level, slope


def _median(values: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.float64]:
    ordered = np.sort(values, axis=1)
    rows = np.arange(values.shape[0])
    number = np.maximum(number, 1)
    middle: NDArray[np.float64] = 0.5 * (ordered[rows, (number - 1) // 2] + ordered[rows, number // 2])
    return np.where(np.isfinite(middle), middle, 0.0)


@dataclass
class Profile:
    """The smooth profile of one group and what is known about the group."""

    counts: NDArray[np.float64]
    usable: NDArray[np.bool_]
    good: NDArray[np.bool_]
    fit: LocalFit
    width: float
    segmented: bool
    state: str = "ok"
    rule: str = ""
    expected: float = np.nan
    source: str = ""

    @property
    def total(self) -> float:
        """Counts of the channels that may be used."""
        return float(self.counts[self.usable].sum())


def smooth_profile(
    counts: NDArray[np.float64], usable: NDArray[np.bool_], segmented: bool, limits: OutlierParameters
) -> Profile:
    """Fit the smooth profile of a group, growing outwards from its well-filled channels."""
    n = counts.size
    default = limits.segmented_width if segmented else limits.default_width
    per_side = limits.neighbours_short if segmented or n < 40 else limits.neighbours
    good = usable & (counts > 0)
    if np.any(good):
        good &= counts >= 0.01 * np.quantile(counts[good], 0.75)
        if not segmented:
            good &= counts >= 0.1 * _local_level(counts, good)
    width = default
    fit = local_fit(counts, good, per_side=per_side, width=width)
    if np.count_nonzero(good) < 3:
        return Profile(counts, usable, good, fit, width, segmented)
    for turn in range(40):
        width = _residual_width(counts, fit, good, default, limits)
        pull = approximate_pull(counts, fit.expected, total_width(fit, width, limits))
        ratio = (counts + 0.5) / (fit.expected + 0.5)
        deviating = (np.abs(pull) > 4.0) & ((ratio < limits.low_ratio) | (ratio > 2.0))
        # a channel far from good ones has to wait until those between are understood
        now = usable & ~deviating & (good | (fit.distance <= 2))
        if turn > 20:
            now &= good
        settled = np.array_equal(now, good)
        if np.count_nonzero(now) < 3 or (settled and turn > 1):
            break
        good = now
        fit = local_fit(counts, good, per_side=per_side, width=width)
    return Profile(counts, usable, good, fit, width, segmented)


def _local_level(
    counts: NDArray[np.float64], good: NDArray[np.bool_], reach: int = 16
) -> NDArray[np.float64]:
    padded = np.pad(np.where(good, counts, np.nan), reach, constant_values=np.nan)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    number = np.count_nonzero(np.isfinite(windows), axis=1)
    level = windows[np.arange(counts.size), np.maximum(number - 1, 0) // 2]
    return np.where(number > 0, level, 0.0)


def _residual_width(
    counts: NDArray[np.float64],
    fit: LocalFit,
    good: NDArray[np.bool_],
    default: float,
    limits: OutlierParameters,
    extra: NDArray[np.float64] | float = 0.0,
) -> float:
    known = fit.variance + extra
    sample = good & np.isfinite(fit.expected) & (fit.distance <= 2)
    return dispersion_width(
        counts[sample],
        fit.expected[sample],
        np.broadcast_to(known, counts.shape)[sample],
        default=default,
        smallest=limits.smallest_width,
    )


def total_width(
    fit: LocalFit, width: float, limits: OutlierParameters, gap: float = 1.0
) -> NDArray[np.float64]:
    """Return the relative width of every expectation: model error, statistics of the fit, distance."""
    away = gap * limits.gap_width * np.where(fit.one_sided, 2.0, 1.0) * (np.minimum(fit.distance, 1e3) - 1.0)
    away = np.minimum(away, 0.6)
    local = np.maximum(np.minimum(fit.scatter, 1.5), width)
    total: NDArray[np.float64] = np.sqrt(local**2 + np.minimum(fit.variance, 4.0) + away**2)
    return total


@dataclass(frozen=True)
class PartnerView:
    """What the partner of a group says about its channels.

    Attributes
    ----------
    expected, width : array of float, shape (n,)
        Mean counts from the partner, and their relative widths.
    usable : array of bool, shape (n,)
        The partner has a good channel there.
    dark : array of bool, shape (n,)
        The partner is (nearly) empty there too.
    lowest, highest : array of float, shape (n,)
        Range of means from raw counts of the partner at and next to the same position, without empty channels.
    group_width : float
        Relative width of the group around its partner.
    """

    expected: NDArray[np.float64]
    width: NDArray[np.float64]
    usable: NDArray[np.bool_]
    dark: NDArray[np.bool_]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    group_width: float


def partner_exposure(profile: Profile, partner: Profile) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the partner's counts at the position of every channel, and the positions.

    The partner may have another number of channels, and its profile may be shifted by one of them: the shift is
    the one that makes the logarithm of the ratio smoothest, if that is better by a tenth than no shift. The few
    bars of segmented groups are not shifted.
    """
    n, other = profile.counts.size, partner.counts.size
    place = (np.arange(n) + 0.5) * other / n - 0.5
    best, position = np.inf, np.clip(np.rint(place).astype(np.int64), 0, other - 1)
    for shift in (0,) if profile.segmented else (0, -1, 1):
        at = np.rint(place).astype(np.int64) + shift
        inside = (at >= 0) & (at < other)
        at = np.clip(at, 0, other - 1)
        both = profile.good & partner.good[at] & inside
        if np.count_nonzero(both) < 5:
            continue
        step = np.diff(np.log((profile.counts[both] + 0.5) / (partner.counts[at][both] + 0.5)))
        roughness = float(np.median(np.abs(step))) * (1.0 if shift == 0 else 1.1)
        if roughness < best:
            best, position = roughness, at
    return partner.counts[position], position


def partner_view(profile: Profile, partner: Profile, limits: OutlierParameters) -> PartnerView:
    """Return what the partner says about every channel of a group."""
    n = profile.counts.size
    exposure, position = partner_exposure(profile, partner)
    lit = partner.good[position] & (exposure > 0)
    both = profile.good & lit
    default = limits.segmented_width if profile.segmented else limits.default_width
    per_side = limits.neighbours_short if profile.segmented or n < 40 else limits.neighbours
    safe = np.maximum(exposure, 0.5)
    own_statistics = 1.0 / safe
    width, fit = default, profile.fit
    for _ in range(2):
        fit = local_fit(profile.counts, both, per_side=per_side, width=width, exposure=safe, stiffness=_STIFF)
        width = _residual_width(profile.counts, fit, both, default, limits, own_statistics)
    scale = fit.expected / safe
    raw = partner.counts * 1.0
    empty = raw < 0.05 * np.nan_to_num(partner.fit.expected, nan=0.0)
    raw[empty | ~partner.usable] = np.nan
    sides = (0,) if profile.segmented else (-1, 0, 1)
    around = np.stack([raw[np.clip(position + side, 0, raw.size - 1)] for side in sides])
    lowest = np.where(np.isfinite(around), around, np.inf).min(axis=0) * scale
    highest = np.where(np.isfinite(around), around, -np.inf).max(axis=0) * scale
    expected = fit.expected
    if not profile.segmented:
        # where illumination ends, half a channel of offset decides: believe the best the partner can mean
        nearby = (
            np.stack([partner.counts[np.clip(position + side, 0, raw.size - 1)] for side in sides]) * scale
        )
        least = nearby.min(axis=0)
        good = np.flatnonzero(profile.good)
        for end in (0, n - 1):
            near = good[good != end][:5] if end == 0 else good[good != end][-5:]
            line = falling_line(profile.counts[near], np.abs(near - end).astype(np.float64))
            least[end] = min(least[end], line)
        kindest = np.clip(profile.counts, least, nearby.max(axis=0))
        expected = np.where(profile.fit.one_sided, kindest, expected)
    total = np.sqrt(total_width(fit, width, limits, gap=0.2) ** 2 + own_statistics)
    usable = lit & np.isfinite(expected)
    dark = empty[position] & partner.usable[position]
    return PartnerView(expected, total, usable, dark, lowest, highest, width)


def falling_line(counts: NDArray[np.float64], distance: NDArray[np.float64]) -> float:
    """Return the least count at distance 0 of a straight line through counts, infinite if they do not fall to there.

    Least means two standard deviations below the line, and falling that the slope is more than three from zero.
    Illumination that ends falls along a straight line rather than an exponential function.
    """
    if counts.size < 3:
        return np.inf
    apart = distance - distance.mean()
    squares = float((apart**2).sum())
    slope = float((apart * counts).sum()) / squares
    slope_error = float(np.sqrt((apart**2 * np.maximum(counts, 1.0)).sum())) / squares
    if slope <= 3.0 * slope_error:
        return np.inf
    error = np.hypot(distance.mean() * slope_error, np.sqrt(max(counts.mean(), 1.0) / counts.size))
    return max(float(counts.mean() - slope * distance.mean() - 2.0 * error), 0.0)


def reference_scale(profile: Profile, reference: Profile) -> float:
    """Return the factor from a reference to the counts of a group: ratio of sums without deviating channels."""
    keep = profile.usable & reference.usable
    scale = 0.0
    for turn in range(4):
        old, new = reference.counts[keep], profile.counts[keep]
        if old.sum() <= 0:
            return scale
        if turn == 0 and old.size > 4 and old.mean() > 20:
            order = np.argsort(new / np.maximum(old, 0.5))
            running = np.cumsum(old[order])
            middle = order[int(np.searchsorted(running, 0.5 * running[-1]))]
            scale = float(new[middle] / max(old[middle], 0.5))
        else:
            scale = float(new.sum() / old.sum())
        expected = scale * reference.counts
        error = np.sqrt(0.05**2 + 1.0 / np.maximum(reference.counts, 1.0))
        far = np.abs(approximate_pull(profile.counts, expected, error)) > 5.0
        keep = profile.usable & reference.usable & ~far
        if not keep.any():
            return scale
    return scale
