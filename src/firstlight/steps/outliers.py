"""Dead, low and hot channels: a verdict on every read-out channel from its count.

Every channel is compared with what it should count, which comes from the best of three places: a reference,
scaled per group; the group that sees the same particles; or its own neighbours. A verdict needs both
significance (after as many tests as there are channels) and size (a ratio limit). Where too little is
expected the verdict is "no_statistics", which is not "dead". A group as a whole is judged first, so that a
dead plane, or a plane at 60 % of its rate, is one verdict and not two hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from firstlight.errors import UsageError
from firstlight.steps.dispersion import (
    OutlierParameters,
    Profile,
    dispersion_width,
    falling_line,
    partner_view,
    reference_scale,
    smooth_profile,
    tail_probabilities,
    total_width,
)
from firstlight.steps.group_verdicts import judge_groups, judge_groups_by_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Groups", "Judgement", "OutlierParameters", "State", "judge_channels"]

State = Literal["ok", "low", "dead", "hot", "no_statistics", "masked", "absent"]
STATES: tuple[State, ...] = ("ok", "low", "dead", "hot", "no_statistics", "masked", "absent")
_REFERENCE, _PARTNER, _NEIGHBOURS = 0, 1, 2
_SOURCES = ("reference", "partner", "neighbours")
_BLOCKS = {
    "group": pl.String,
    "first": pl.Int64,
    "last": pl.Int64,
    "n": pl.Int64,
    "whole_blocks": pl.Int64,
    "complete": pl.Boolean,
}
_DISPERSION = {"group": pl.String, "source": pl.String, "width": pl.Float64} | {
    "n_good": pl.Int64,
    "chi2_per_channel": pl.Float64,
}
_GROUPS = (
    {"group": pl.String, "n_channels": pl.Int64, "count": pl.Float64, "expected": pl.Float64}
    | {"ratio": pl.Float64, "source": pl.String, "state": pl.String, "width": pl.Float64}
    | {f"n_{name}": pl.Int64 for name in STATES}
    | {"rule": pl.String}
)


@dataclass(frozen=True)
class Groups:
    """How channels hang together.

    Attributes
    ----------
    index : array of int64, shape (n_channels,)
        Group (plane) of each channel; channels of a group are contiguous and in geometric order.
    names : tuple of str
        Names of the groups.
    partner : array of int64, shape (n_groups,)
        The group that sees the same particles, -1 for none.
    partner_tolerance : array of float64, shape (n_groups,)
        How far the ratio of totals to the partner may be below 1 (or its inverse above); NaN: do not judge totals.
    block : array of int64, shape (n_groups,)
        Hardware block size in channels, 0 for none.
    segmented : array of bool, shape (n_groups,)
        A few wide bars whose profile is steep: neighbours are a poor expectation.
    """

    index: NDArray[np.int64]
    names: tuple[str, ...]
    partner: NDArray[np.int64]
    partner_tolerance: NDArray[np.float64]
    block: NDArray[np.int64]
    segmented: NDArray[np.bool_]

    def __post_init__(self) -> None:
        number = len(self.names)
        for name in ("partner", "partner_tolerance", "block", "segmented"):
            shape = np.shape(getattr(self, name))
            if shape != (number,):
                what = f"groups.{name} has shape {shape}, there are {number} groups"
                raise UsageError(what)
        index = np.asarray(self.index)
        if index.ndim != 1 or (index.size and (index.min() < 0 or index.max() >= number)):
            what = f"groups.index must be one-dimensional with values 0 to {number - 1}"
            raise UsageError(what)
        changes = 1 + np.count_nonzero(np.diff(index)) if index.size else 0
        if changes != np.unique(index).size:
            what = "channels of a group are not contiguous"
            raise UsageError(what, hint="sort the channels by group and position")
        if np.any((self.partner < -1) | (self.partner >= number) | (self.partner == np.arange(number))):
            what = "groups.partner must name another group, or be -1"
            raise UsageError(what)

    def members(self) -> Iterator[tuple[int, slice]]:
        """Yield each group that has channels, with the slice of its channels."""
        starts = np.flatnonzero(np.diff(self.index, prepend=-1))
        stops = np.append(starts, self.index.size)[1:]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            yield int(self.index[start]), slice(start, stop)


@dataclass(frozen=True)
class Judgement:
    """Verdicts on channels, blocks of dead channels, and groups.

    Attributes
    ----------
    channels : polars.DataFrame
        One row per channel: ``channel``, ``group``, ``position`` (0-based in the group), ``count``, ``expected``,
        ``ratio``, ``source``, ``pull`` (standard deviations with the fitted over-dispersion), ``p_value``
        (two-sided), ``state``, ``rule`` (empty where there is nothing to explain).
    blocks : polars.DataFrame
        One row per run of dead channels: ``group``, ``first``, ``last`` (0-based), ``n``, ``whole_blocks`` (complete
        hardware blocks in it), ``complete`` (it is exactly one or more of them). Dead groups have no rows here.
    groups : polars.DataFrame
        One row per group: ``group``, ``n_channels``, ``count``, ``expected``, ``ratio``, ``source``, ``state``,
        ``width`` (relative), one ``n_<state>`` per state, ``rule``.
    dispersion : polars.DataFrame
        One row per group and source that was fitted: ``group``, ``source``, ``width``, ``n_good``,
        ``chi2_per_channel`` (Pearson, Poisson errors only; the over-dispersion).
    """

    channels: pl.DataFrame
    blocks: pl.DataFrame
    groups: pl.DataFrame
    dispersion: pl.DataFrame

    def flagged(self) -> pl.DataFrame:
        """Return the channels that are low, dead or hot."""
        return self.channels.filter(pl.col("state").is_in(["low", "dead", "hot"]))


@dataclass
class _Verdicts:
    """What is expected of every channel, filled group by group."""

    expected: NDArray[np.float64]
    width: NDArray[np.float64]
    source: NDArray[np.int64]
    trusted: NDArray[np.bool_]
    as_before: NDArray[np.bool_]
    partner_low: NDArray[np.bool_]
    partner_hot: NDArray[np.bool_]
    factor: NDArray[np.float64]
    bars: NDArray[np.bool_]
    first: NDArray[np.bool_]
    bunch: NDArray[np.float64]


def judge_channels(
    counts: ArrayLike,
    groups: Groups,
    parameters: OutlierParameters | None = None,
    *,
    reference: ArrayLike | None = None,
    optional: ArrayLike | None = None,
    masked: ArrayLike | None = None,
    events: ArrayLike | None = None,
    n_events: int | None = None,
) -> Judgement:
    """Judge every channel of a detector from its count.

    Parameters
    ----------
    counts : array of numbers, shape (n_channels,)
        Hits per channel.
    groups : Groups
        How channels hang together.
    parameters : OutlierParameters, optional
        Limits.
    reference : array of numbers, shape (n_channels,), optional
        Counts of a reference, scaled per group. Verdicts are then changes with respect to it: what was bad there
        and is the same now is not reported again.
    optional : array of bool, shape (n_channels,), optional
        Channels that may not be installed: without counts they are absent, never dead.
    masked : array of bool, shape (n_channels,), optional
        Channels known to be bad: not judged, and never used as an expectation.
    events : array of numbers, shape (n_channels,), optional
        Events in which each channel counted. Hits that come many at a time in a few events prove less: a
        channel is hot only if it is with its hits counted in units of its own mean number at a time, relative
        to that of its group.
    n_events : int, optional
        All events. An event is at most one independent statement about a group: without it, few events
        with many hits would convict.

    Raises
    ------
    UsageError
        If an array has the wrong shape, or counts are negative or not finite.
    """
    limits = OutlierParameters() if parameters is None else parameters
    n = int(np.asarray(groups.index).size)
    values = _checked("counts", counts, n)
    is_masked = np.zeros(n, dtype=bool) if masked is None else _checked("masked", masked, n) > 0
    may_miss = np.zeros(n, dtype=bool) if optional is None else _checked("optional", optional, n) > 0
    absent = may_miss & (values == 0) & ~is_masked
    fired = values if events is None else _checked("events", events, n)
    usable = ~is_masked & ~absent
    members = dict(groups.members())
    bars = groups.segmented

    profiles = {
        g: smooth_profile(values[part], usable[part], bool(bars[g]), limits) for g, part in members.items()
    }
    before: dict[int, Profile] | None = None
    if reference is None:
        judge_groups(profiles, groups, limits, n_events)
    else:
        old = _checked("reference", reference, n)
        before = {
            g: smooth_profile(old[part], usable[part], bool(bars[g]), limits) for g, part in members.items()
        }
        judge_groups_by_reference(profiles, before, limits, n_events)

    found = _Verdicts(
        expected=np.full(n, np.nan),
        width=np.full(n, np.nan),
        source=np.full(n, _NEIGHBOURS),
        trusted=np.zeros(n, dtype=bool),
        as_before=np.zeros(n, dtype=bool),
        partner_low=np.zeros(n, dtype=bool),
        partner_hot=np.zeros(n, dtype=bool),
        factor=np.ones(n),
        bars=np.asarray(bars, dtype=bool)[np.asarray(groups.index)],
        first=np.diff(np.asarray(groups.index), prepend=-1) != 0,
        bunch=_bunches(values, fired, usable, groups),
    )
    fitted: list[dict[str, object]] = []
    for group, part in members.items():
        profile = profiles[group]
        if profile.state == "dead" or not profile.usable.any():
            continue
        partner = profiles.get(int(groups.partner[group]))
        rows = _expect(found, part, profile, partner, int(groups.block[group]), limits)
        if before is not None:
            rows.append(_expect_reference(found, part, profile, before[group], limits))
        fitted += [{"group": groups.names[group], **row} for row in rows]
    state, rule, p_value, pull = _decide(values, found, usable, limits)
    for group, part in members.items():
        if profiles[group].state == "dead":
            _bury(found, part, profiles[group], groups.names[group], state, rule)
    state[is_masked], state[absent] = "masked", "absent"
    for i in np.flatnonzero(~usable):
        rule[i] = "masked" if is_masked[i] else "optional channel without counts"

    index = np.asarray(groups.index)
    position = np.arange(n) - np.array([part.start for part in members.values()], dtype=np.int64).repeat(
        [part.stop - part.start for part in members.values()]
    )
    channels = pl.DataFrame(
        {
            "channel": np.arange(n),
            "group": np.array(groups.names, dtype=object)[index].tolist() if n else [],
            "position": position,
            "count": values,
            "expected": np.where(usable, found.expected, np.nan),
            "ratio": np.where(usable, values / np.maximum(found.expected, 1e-9), np.nan),
            "source": [_SOURCES[code] for code in found.source],
            "pull": pull,
            "p_value": p_value,
            "state": state.tolist(),
            "rule": rule,
        }
    )
    return Judgement(
        channels,
        _blocks(state, groups, members, profiles),
        _group_table(values, state, groups, members, profiles),
        pl.DataFrame(fitted, schema=_DISPERSION),
    )


def _checked(name: str, array: ArrayLike, n: int) -> NDArray[np.float64]:
    values = np.asarray(array, dtype=np.float64)
    if values.shape != (n,):
        what = f"{name} has shape {values.shape}, the groups have {n} channels"
        raise UsageError(what)
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        what = f"{name} has negative or non-finite values"
        raise UsageError(what)
    return values


def _bunches(
    counts: NDArray[np.float64], events: NDArray[np.float64], usable: NDArray[np.bool_], groups: Groups
) -> NDArray[np.float64]:
    """Return how many hits at a time a channel has, relative to its group, at least 1."""
    index = np.asarray(groups.index)
    hits, times = (
        np.bincount(index[usable], of[usable], len(groups.names))[index] for of in (counts, events)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        bunch = (counts / events) / (hits / times)
    return np.where(np.isfinite(bunch), np.maximum(bunch, 1.0), 1.0)


def _expect(
    found: _Verdicts,
    part: slice,
    profile: Profile,
    partner: Profile | None,
    block: int,
    limits: OutlierParameters,
) -> list[dict[str, object]]:
    """Take the expectation of each channel from its neighbours or from the partner, whichever is better."""
    fit = profile.fit
    width = total_width(fit, profile.width, limits)
    found.expected[part], found.width[part] = fit.expected, width
    found.factor[part] = np.exp(limits.width_factor * np.nan_to_num(width, nan=1.0))
    found.trusted[part] = ~fit.one_sided
    dark: NDArray[np.bool_] | None = None
    rows = [_fitted("neighbours", profile, fit.expected, profile.width)]
    if partner is not None and partner.usable.any() and partner.state != "dead":
        view = partner_view(profile, partner, limits)
        dark = view.dark
        better = view.usable & ~(width <= view.width / 0.8) | (view.usable & fit.one_sided)
        own = np.arange(part.start, part.stop)[better]
        found.expected[own], found.width[own] = view.expected[better], view.width[better]
        found.factor[own] = np.exp(limits.width_factor * view.width[better])
        found.source[own], found.trusted[own] = _PARTNER, True
        limit = limits.segmented_ratio if profile.segmented else 1.0 / limits.low_ratio
        found.partner_low[part] = profile.counts >= view.lowest / limit
        found.partner_hot[part] = profile.counts <= view.highest * limit
        rows.append(_fitted("partner", profile, view.expected, view.group_width))
    found.trusted[part] |= _dead_edges(profile, dark, block, limits)
    return rows


def _dead_edges(
    profile: Profile, dark: NDArray[np.bool_] | None, block: int, limits: OutlierParameters
) -> NDArray[np.bool_]:
    """Return the channels of empty edges that are dead rather than without illumination.

    Where illumination ends, it fades over a few channels; a dead edge cuts a full profile. If the partner is
    empty there too, the cut must also be where hardware ends.
    """
    n = profile.counts.size
    convicted = np.zeros(n, dtype=bool)
    good = np.flatnonzero(profile.good)
    if good.size < 3:
        return convicted
    for run, last_lit in ((np.arange(good[0]), good[0]), (np.arange(good[-1] + 1, n)[::-1], good[-1])):
        inside = run[profile.usable[run]]
        if inside.size == 0:
            continue
        # the innermost channel of the run comes last in both directions
        near = good[np.argsort(np.abs(good - inside[-1]))[:5]]
        line = falling_line(profile.counts[near], np.abs(near - inside[-1]).astype(np.float64))
        expected, count = min(profile.fit.expected[inside[-1]], line), profile.counts[inside[-1]]
        cut = expected >= limits.edge_expected and count <= 0.1 * expected
        lit = profile.counts[last_lit] >= limits.edge_sharpness * profile.fit.expected[last_lit]
        both_empty = dark is not None and bool(np.any(dark[inside]))
        aligned = block > 0 and run.size % block == 0
        if cut and lit and (aligned or not both_empty):
            convicted[inside] = True
    return convicted


def _expect_reference(
    found: _Verdicts, part: slice, profile: Profile, old: Profile, limits: OutlierParameters
) -> dict[str, object]:
    """Replace expectations by the scaled reference, where the reference was good or nothing has changed."""
    expected = reference_scale(profile, old) * old.counts
    statistics = 1.0 / np.maximum(old.counts, 1.0)
    sample = old.good & profile.good
    group_width = dispersion_width(
        profile.counts[sample],
        expected[sample],
        statistics[sample],
        default=limits.default_width,
        smallest=limits.smallest_width,
    )
    width = np.sqrt(group_width**2 + statistics)
    lower, upper = tail_probabilities(profile.counts, expected, width)
    ratio = profile.counts / np.maximum(expected, 1e-9)
    similar = (ratio > limits.low_ratio) & (ratio < limits.hot_ratio_reference)
    similar |= (lower > 1e-5) & (upper > 1e-5)
    told = old.good & (expected >= limits.minimum_expected)
    as_before = ~told & similar
    own = np.arange(part.start, part.stop)[told | as_before]
    found.expected[own], found.width[own] = expected[told | as_before], width[told | as_before]
    found.factor[own] = np.exp(limits.width_factor * width[told | as_before])
    found.source[own], found.trusted[own] = _REFERENCE, True
    found.partner_low[own] = found.partner_hot[own] = False
    found.as_before[part] = as_before
    return _fitted("reference", profile, expected, group_width)


def _fitted(source: str, profile: Profile, expected: NDArray[np.float64], width: float) -> dict[str, object]:
    sample = profile.good & (np.nan_to_num(expected) >= 5.0)
    number = int(np.count_nonzero(sample))
    mean = expected[sample]
    chi2 = float(np.mean((profile.counts[sample] - mean) ** 2 / mean)) if number else np.nan
    return {"source": source, "width": width, "n_good": number, "chi2_per_channel": chi2}


def _decide(
    counts: NDArray[np.float64], found: _Verdicts, usable: NDArray[np.bool_], limits: OutlierParameters
) -> tuple[NDArray[np.object_], list[str], NDArray[np.float64], NDArray[np.float64]]:
    from scipy.special import ndtri

    n = counts.size
    tested = usable & np.isfinite(found.expected)
    chance = limits.false_alarms / max(int(np.count_nonzero(tested)), 1)
    lower, upper = np.full(n, np.nan), np.full(n, np.nan)
    lower[tested], upper[tested] = tail_probabilities(
        counts[tested], found.expected[tested], found.width[tested]
    )
    mean = np.where(tested, found.expected, np.inf)
    enough = tested & (mean >= limits.minimum_expected)
    from_reference = found.source == _REFERENCE
    bars = found.bars & ~from_reference
    low_limit = np.where(bars, 1.0 / limits.segmented_ratio, limits.low_ratio / found.factor)
    hot_limit = np.where(from_reference, limits.hot_ratio_reference, limits.hot_ratio) * found.factor
    hot_limit = np.where(bars, limits.segmented_ratio, hot_limit)
    hot_limit = np.where(found.trusted, hot_limit, np.maximum(hot_limit, limits.edge_hot_ratio))

    open_to = tested & ~found.as_before
    below = enough & open_to & found.trusted & (np.nan_to_num(lower, nan=1.0) < chance)
    empty = counts <= limits.dead_ratio * mean
    dead = below & empty
    dead = _whole_runs(dead, enough & open_to & empty, counts, found, chance)
    low = below & ~empty & (counts < low_limit * mean) & ~found.partner_low
    above = open_to & (np.nan_to_num(upper, nan=1.0) < chance) & (counts >= limits.minimum_hot_count)
    for i in np.flatnonzero(above & (found.bunch > 1.0)):
        one = slice(i, i + 1)
        bunched = (counts[one] / found.bunch[i], found.expected[one] / found.bunch[i], found.width[one])
        upper[i] = max(upper[i], float(tail_probabilities(*bunched)[1][0]))
    above &= np.nan_to_num(upper, nan=1.0) < chance
    hot = above & (counts > hot_limit * np.maximum(mean, 0.5)) & ~found.partner_hot
    unlit = ~found.trusted & (counts < 0.1 * mean)
    state = np.full(n, "ok", dtype=object)
    state[usable & ~(enough & ~(empty & open_to) & ~unlit)] = "no_statistics"
    state[low], state[dead], state[hot] = "low", "dead", "hot"

    p_value = np.minimum(2.0 * np.minimum(lower, upper), 1.0)
    pull = np.where(lower < upper, 1.0, -1.0) * ndtri(np.maximum(0.5 * p_value, 1e-300))
    pull = np.where(p_value >= 1.0, 0.0, pull)
    rule = [""] * n
    for i in np.flatnonzero(usable & (state != "ok")):
        source = _SOURCES[found.source[i]]
        verb = "expect" if source == "neighbours" else "expects"
        text = f"{_number(counts[i])}, {source} {verb} {found.expected[i]:.4g}"
        if state[i] == "no_statistics":
            rule[i] = _why_no_statistics(text, found, bool(enough[i]), int(i), limits)
            continue
        limit = {"dead": limits.dead_ratio, "low": low_limit[i], "hot": hot_limit[i]}[state[i]]
        ratio = counts[i] / max(found.expected[i], 0.5)
        tail = upper[i] if state[i] == "hot" else lower[i]
        rule[i] = (
            f"{state[i]}: {text}; ratio {ratio:.3g}, limit {limit:.3g}; {_chance(tail)}, limit {chance:.1e}"
        )
    return state, rule, p_value, pull


def _number(count: float) -> str:
    return "1 count" if count == 1 else f"{count:.0f} counts"


def _chance(probability: float) -> str:
    return f"p = {probability:.1e}" if probability >= 1e-300 else "p < 1e-300"


def _whole_runs(
    sure: NDArray[np.bool_],
    possible: NDArray[np.bool_],
    counts: NDArray[np.float64],
    found: _Verdicts,
    chance: float,
) -> NDArray[np.bool_]:
    """Return the runs of empty channels that are dead: one of them is, or those that can be judged are together."""
    begins = possible & (found.first | ~np.concatenate([[False], possible[:-1]]))
    label = np.where(possible, np.cumsum(begins), 0)
    judged = possible & found.trusted
    number = int(label.max(initial=0)) + 1
    size = np.maximum(np.bincount(label[judged], minlength=number), 1)
    count = np.bincount(label[judged], counts[judged], number).astype(np.float64)
    expected = np.bincount(label[judged], found.expected[judged], number).astype(np.float64)
    # neighbours share their model error: the mean width, not that of a mean
    width = np.bincount(label[judged], found.width[judged], number) / size
    lower, _ = tail_probabilities(count, expected, width)
    together = lower < chance
    together[label[sure]] = True
    together[0] = False
    return together[label]


def _why_no_statistics(text: str, found: _Verdicts, enough: bool, i: int, limits: OutlierParameters) -> str:
    if not np.isfinite(found.expected[i]):
        return "nothing tells what to expect"
    if found.as_before[i]:
        return f"{text}: as in the reference, which tells no more"
    if not enough:
        return f"{text}: fewer than {limits.minimum_expected:.4g}"
    if not found.trusted[i]:
        return f"{text} by extrapolation: perhaps the edge of the illumination"
    return f"{text}, too uncertain for a verdict"


def _bury(
    found: _Verdicts, part: slice, profile: Profile, name: str, state: NDArray[np.object_], rule: list[str]
) -> None:
    own = np.arange(part.start, part.stop)[profile.usable]
    state[own] = "dead"
    found.expected[own] = profile.expected / own.size
    found.source[own] = {"reference": _REFERENCE, "partner": _PARTNER}.get(profile.source, _NEIGHBOURS)
    for i in own:
        rule[i] = f"group {name} is dead"


def _blocks(
    state: NDArray[np.object_], groups: Groups, members: dict[int, slice], profiles: dict[int, Profile]
) -> pl.DataFrame:
    rows = []
    for group, part in members.items():
        if profiles[group].state == "dead":
            continue
        edges = np.diff((state[part] == "dead").astype(np.int8), prepend=0, append=0)
        size = int(groups.block[group])
        for first, stop in zip(
            np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(), strict=True
        ):
            whole = max(stop // size - -(-first // size), 0) if size else 0
            complete = bool(size) and whole * size == stop - first
            rows.append((groups.names[group], first, stop - 1, stop - first, whole, complete))
    return pl.DataFrame(rows, schema=_BLOCKS, orient="row")


def _group_table(
    counts: NDArray[np.float64],
    state: NDArray[np.object_],
    groups: Groups,
    members: dict[int, slice],
    profiles: dict[int, Profile],
) -> pl.DataFrame:
    rows = []
    for group, part in members.items():
        profile = profiles[group]
        numbers = {name: int(np.count_nonzero(state[part] == name)) for name in STATES}
        verdict, rule = profile.state, profile.rule
        size = part.stop - part.start
        if not profile.usable.any():
            verdict = "masked" if numbers["masked"] else "absent"
        elif verdict == "ok" and numbers["no_statistics"] == np.count_nonzero(profile.usable):
            verdict, rule = "no_statistics", "no channel has enough statistics"
        rows.append(
            {
                "group": groups.names[group],
                "n_channels": size,
                "count": float(counts[part].sum()),
                "expected": profile.expected,
                "ratio": profile.total / profile.expected if profile.expected > 0 else np.nan,
                "source": profile.source,
                "state": verdict,
                "width": profile.width,
                **{f"n_{name}": number for name, number in numbers.items()},
                "rule": rule,
            }
        )
    return pl.DataFrame(rows, schema=_GROUPS)
