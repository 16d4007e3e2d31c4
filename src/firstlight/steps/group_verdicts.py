"""Verdicts on whole groups of channels: dead planes, and planes whose rate does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.steps.dispersion import partner_exposure, reference_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.steps.dispersion import OutlierParameters, Profile
    from firstlight.steps.outliers import Groups

__all__ = ["judge_groups", "judge_groups_by_reference"]


def judge_groups(
    profiles: dict[int, Profile], groups: Groups, limits: OutlierParameters, n_events: int | None
) -> None:
    """Find dead groups, and groups whose total does not fit that of their partner."""
    totals = [profile.total for profile in profiles.values() if profile.usable.any()]
    least = limits.group_floor * float(np.median(totals)) if len(totals) > 2 else 0.0
    for group, profile in profiles.items():
        if not profile.usable.any():
            continue
        other = int(groups.partner[group])
        partner = profiles.get(other)
        if partner is not None and partner.usable.any():
            share = np.count_nonzero(profile.usable) / np.count_nonzero(partner.usable)
            _dead_group(
                profile,
                partner.total * share,
                f"its partner {groups.names[other]} expects",
                limits,
                "partner",
                n_events,
            )
        _dead_group(profile, least, "a typical group has at least", limits, "groups", n_events)
    for group, profile in profiles.items():
        other = int(groups.partner[group])
        partner = profiles.get(other)
        if partner is not None and profile.state != "dead" and partner.state != "dead":
            tolerance = float(groups.partner_tolerance[group])
            _compare_with_partner(profile, partner, groups.names[other], tolerance, limits, n_events)


def _dead_group(
    profile: Profile,
    expected: float,
    who: str,
    limits: OutlierParameters,
    source: str,
    n_events: int | None,
) -> None:
    from scipy.special import gammaincc

    total = profile.total
    if (
        profile.state == "dead"
        or expected < limits.minimum_expected
        or total > limits.group_dead_ratio * expected
    ):
        return
    # particles may all have gone elsewhere, in each event with a probability of one half
    independent = expected if n_events is None else min(expected, np.log(2.0) * n_events)
    chance = float(gammaincc(total * independent / expected + 1.0, independent))
    if chance < 1e-3 * limits.false_alarms:
        profile.state, profile.expected, profile.source = "dead", expected, source
        profile.rule = f"dead as a whole: {total:.0f} counts where {who} {expected:.0f}"


def _compare_with_partner(
    profile: Profile,
    partner: Profile,
    name: str,
    tolerance: float,
    limits: OutlierParameters,
    n_events: int | None,
) -> None:
    exposure, position = partner_exposure(profile, partner)
    both = profile.good & partner.good[position]
    own, other = float(profile.counts[both].sum()), float(exposure[both].sum())
    if np.count_nonzero(both) < 3 or own <= 0 or other <= 0:
        return
    ratio = own / other
    profile.expected, profile.source = profile.total / ratio, "partner"
    spread = (profile.width**2 + partner.width**2) / np.count_nonzero(both)
    error = float(np.sqrt(1.0 / own + 1.0 / other + spread + _event_variance(n_events)))
    if not np.isfinite(tolerance) or abs(np.log(ratio)) + np.log1p(-tolerance) < 3.0 * error:
        return
    # one hot channel does not make the partner a low plane
    for most in (profile.counts, exposure):
        rest = both.copy()
        rest[np.argmax(np.where(both, most, -1.0))] = False
        without = float(profile.counts[rest].sum()) / max(float(exposure[rest].sum()), 0.5)
        if (without - 1.0) * (ratio - 1.0) <= 0 or abs(np.log(max(without, 1e-9))) < -np.log1p(-tolerance):
            return
    # noise lays a floor under a profile, inefficiency scales it; raw counts would dilute the exponent
    smooth = [profile.fit.expected[both], partner.fit.expected[position][both]]
    low, high = smooth[::-1] if ratio > 1 else smooth
    exponent = _exponent(low, high)
    if ratio < 1 and exponent >= limits.group_flatness:
        profile.state = "low"
        profile.rule = f"total is {ratio:.3g} of its partner {name}, limit {1 - tolerance:.3g}"
    elif ratio > 1 and exponent < limits.group_flatness:
        profile.state = "hot"
        profile.rule = (
            f"total is {ratio:.3g} of its partner {name}, limit {1 / (1 - tolerance):.3g}, "
            f"with a flatter profile (exponent {exponent:.2g})"
        )


def _event_variance(n_events: int | None) -> float:
    """Return the relative variance of a ratio of groups from the number of events alone."""
    return 0.0 if n_events is None else 1.0 / max(n_events, 1)


def _exponent(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    x, y = np.log(low + 0.5), np.log(high + 0.5)
    weight = low / low.sum()
    x, y = x - weight @ x, y - weight @ y
    spread = float(weight @ x**2)
    # without a range of intensities nothing can be told, and scaling is the usual case
    return 1.0 if spread < 0.05 else float(weight @ (x * y)) / spread


def judge_groups_by_reference(
    profiles: dict[int, Profile],
    before: dict[int, Profile],
    limits: OutlierParameters,
    n_events: int | None,
) -> None:
    """Find dead groups, and groups whose rate has changed more than that of the others."""
    scales = {
        group: reference_scale(profile, before[group])
        for group, profile in profiles.items()
        if profile.usable.any() and before[group].total >= limits.minimum_expected
    }
    if not scales:
        return
    common = float(np.median(list(scales.values())))
    for group, scale in scales.items():
        profile, total = profiles[group], before[group].total
        _dead_group(profile, common * total, "the reference expects", limits, "reference", n_events)
        if profile.state == "dead":
            continue
        profile.expected, profile.source = common * total, "reference"
        if len(scales) < 3 or common <= 0 or scale <= 0:
            continue
        ratio = scale / common
        error = float(np.sqrt(1.0 / max(profile.total, 1.0) + 1.0 / total + _event_variance(n_events)))
        if abs(np.log(ratio)) + np.log1p(-limits.group_tolerance) > 3.0 * error:
            low = ratio < 1
            limit = 1.0 - limits.group_tolerance if low else 1.0 / (1.0 - limits.group_tolerance)
            profile.state = "low" if low else "hot"
            profile.rule = f"rate is {ratio:.3g} of the reference, scaled to all groups; limit {limit:.3g}"
