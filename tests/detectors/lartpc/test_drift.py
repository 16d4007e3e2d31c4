"""Drift: exact charges, binomial capture, diffusion, bunches, and the same numbers for a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firstlight.detectors.lartpc.drift import drift, split, stream
from firstlight.detectors.lartpc.medium import PRESETS, Medium
from firstlight.errors import InputError, UsageError

DUNE = PRESETS["dune87K"]


def point(num_e, z=0.0):
    """Return one point with so many electrons at a height [m]."""
    return np.array([[0.0], [0.0], [z]]), np.array([num_e])


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("positions", "num_e", "time", "source")
    )


# ---------------------------------------------------------------- bunches


@pytest.mark.parametrize("largest", [1, 2, 7.9, 12.5, 25, 1e9, math.inf])
def test_bunches_sum_to_the_charge_of_each_point_exactly(largest):
    num_e = np.array([0, 1, 12, 13, 25, 26, 0, 999, 10**9 if largest > 1e8 else 5])
    bunches, source = split(num_e, largest)
    assert np.array_equal(np.bincount(source, weights=bunches, minlength=num_e.size).astype(int), num_e)
    assert bunches.max() <= largest
    assert bunches.min() >= 1
    whole = min(math.floor(min(largest, 1e12)), 10**12)
    assert np.array_equal(np.bincount(source, minlength=num_e.size), -(-num_e // whole))
    assert (np.diff(source) >= 0).all()
    # as even as whole electrons allow
    for place in range(num_e.size):
        parts = bunches[source == place]
        assert parts.size == 0 or parts.max() - parts.min() <= 1


# ---------------------------------------------------------------- capture and diffusion


@pytest.mark.parametrize("bunch", [1.0, None])
def test_survivors_over_a_metre_are_binomial(bunch):
    share = math.exp(-624.557 / 10_000)
    n, trials = 1000, 3000
    positions, num_e = np.zeros((3, trials)), np.full(trials, n)
    drifted = drift(positions, num_e, DUNE, 11, anode=1.0, bunch=bunch)
    kept = np.bincount(drifted.source, weights=drifted.num_e, minlength=trials)
    assert share == pytest.approx(0.9394, abs=6e-5)
    sigma = math.sqrt(n * share * (1 - share))
    assert abs(kept.mean() - n * share) < 3 * sigma / math.sqrt(trials)
    # neither none nor that of Poisson, which is 17 times as large
    assert abs(kept.var(ddof=1) / sigma**2 - 1) < 3.5 * math.sqrt(2 / trials)
    assert drifted.initial == n * trials
    assert drifted.behind == 0


def test_hundred_thousand_electrons_spread_as_diffusion_says():
    drifted = drift(*point(100_000), DUNE, 5, anode=1.0)
    x, y, z = drifted.positions * 1000
    assert x.std() == pytest.approx(1.286, rel=0.01)
    assert y.std() == pytest.approx(1.286, rel=0.01)
    assert z.std() == pytest.approx(0.910, rel=0.01)
    n = x.size
    for axis, sigma in ((x, 1.286), (y, 1.286), (z, 0.910)):
        assert abs(axis.mean()) < 3.5 * sigma / math.sqrt(n)
        kurtosis = ((axis - axis.mean()) ** 4).mean() / axis.var() ** 2
        assert kurtosis == pytest.approx(3.0, abs=0.05)
    correlation = np.corrcoef([x, y, z])
    assert np.abs(correlation - np.eye(3)).max() < 3.5 / math.sqrt(n) < 0.012


def test_time_is_that_of_the_diffused_distance():
    drifted = drift(*point(20_000, z=0.3), DUNE, 5, anode=1.0, depth=0.3)
    assert drifted.time.mean() == pytest.approx(624.557, abs=3.5 * 0.910 / 1.6011 / math.sqrt(20_000))
    assert drifted.time.std() == pytest.approx(0.910 / 1.6011, rel=0.02)
    # what has diffused towards the anode is there earlier
    assert drifted.time == pytest.approx(1000 * (1.3 - drifted.positions[2]) / DUNE.velocity, rel=1e-12)


def test_deeper_charge_is_lost_and_spread_more():
    means, widths = [], []
    for depth in (0.1, 1.0, 5.0):
        drifted = drift(*point(50_000), DUNE, 8, anode=0.0, depth=depth)
        means.append(drifted.charge)
        widths.append(drifted.positions[0].std())
    assert means[0] > means[1] > means[2]
    assert widths == pytest.approx(np.array(widths[0]) * np.sqrt([1, 10, 50]), rel=0.03)


def test_naive_drift_is_the_same_for_all():
    positions = np.array([[0.0, 0.0], [0.0, 0.0], [-4.0, 7.0]])
    drifted = drift(positions, np.array([40_000, 40_000]), DUNE, 3, anode=0.0, depth=1.0, naive=True)
    low, high = (drifted.positions[2, drifted.source == place] for place in (0, 1))
    assert low.std() == pytest.approx(0.910e-3, rel=0.015)
    assert high.std() == pytest.approx(0.910e-3, rel=0.015)
    assert drifted.time.mean() == pytest.approx(624.56, abs=0.02)
    standing = drift(positions, np.array([4, 5]), DUNE, 3, anode=0.0, naive=True)
    assert standing.charge == 9
    assert np.array_equal(standing.positions, positions[:, standing.source])


def test_infinite_lifetime_loses_nothing():
    assert drift(*point(12_345), Medium(lifetime=math.inf), 1, anode=3.0).charge == 12_345


# ---------------------------------------------------------------- bunches against electrons


def test_bunches_keep_means_and_raise_variances():
    """A pixel that sees an electron with probability p: variance n p (1 - p), and b times as much in bunches of b."""
    medium = Medium(lifetime=math.inf)
    n, trials, b = 250, 6000, 12.5
    sigma = float(medium.spread(0.3)[0])
    seen = {}
    for bunch in (1.0, b):
        drifted = drift(np.zeros((3, trials)), np.full(trials, n), medium, 21, anode=0.3, bunch=bunch)
        inside = np.abs(drifted.positions[0]) < sigma
        seen[bunch] = np.bincount(drifted.source[inside], weights=drifted.num_e[inside], minlength=trials)
    p = math.erf(1 / math.sqrt(2))
    alone = n * p * (1 - p)
    sizes = np.bincount(split(np.array([n]), b)[0])
    together = p * (1 - p) * sum(count * size**2 for size, count in enumerate(sizes))
    assert 11 < together / alone <= b
    for bunch, variance in ((1.0, alone), (b, together)):
        assert abs(seen[bunch].mean() - n * p) < 3.5 * math.sqrt(variance / trials)
        # bunches are few, so the variance of the variance has a part of the kurtosis beside 2
        assert abs(seen[bunch].var(ddof=1) / variance - 1) < 3.5 * math.sqrt(2 / trials)


# ---------------------------------------------------------------- seeds and batches


def track(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.01, (3, n)), rng.integers(0, 40, n)


@pytest.mark.parametrize("bunch", [1.0, 12.5, None])
def test_same_seed_same_bits_whatever_the_batch(bunch):
    positions, num_e = track()
    first = drift(positions, num_e, DUNE, 4, anode=0.5, bunch=bunch)
    for batch in (1, 7, 1000, 10**9):
        if batch == 1 and bunch == 1.0:
            continue
        assert same(first, drift(positions, num_e, DUNE, 4, anode=0.5, bunch=bunch, batch=batch))
    assert same(first, drift(positions, num_e, DUNE, np.random.default_rng(4), anode=0.5, bunch=bunch))
    other = drift(positions, num_e, DUNE, 5, anode=0.5, bunch=bunch)
    assert not np.array_equal(first.num_e, other.num_e) or not np.array_equal(
        first.positions, other.positions
    )


def test_streams_of_events_do_not_depend_on_their_order():
    from concurrent.futures import ThreadPoolExecutor

    positions, num_e = track()

    def one(event):
        return drift(positions, num_e, DUNE, stream(7, event), anode=0.5)

    forward = [one(event) for event in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(one, reversed(range(6))))
    assert all(same(left, right) for left, right in zip(forward, reversed(together), strict=True))
    assert not same(forward[0], forward[1])


def test_global_random_state_is_not_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    drift(*track(), DUNE, 4, anode=0.5)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# ---------------------------------------------------------------- bad input


def test_points_behind_the_anode_do_not_drift_and_are_counted():
    positions = np.array([[0.0, 0.0], [0.0, 0.0], [-0.5, 0.5]])
    drifted = drift(positions, np.array([100, 33]), DUNE, 1, anode=0.0)
    assert drifted.behind == 33
    assert set(drifted.source.tolist()) == {0}
    with pytest.raises(InputError, match="all of the track is behind the anode") as caught:
        drift(positions, np.array([100, 33]), DUNE, 1, anode=-2.0, depth=1.0)
    assert "a depth of more than 1.5 m" in caught.value.hint


def test_no_charge_gives_no_bunches():
    for num_e in (np.zeros(4, dtype=int), np.zeros(0, dtype=int)):
        drifted = drift(np.zeros((3, num_e.size)), num_e, DUNE, 1, anode=1.0)
        assert len(drifted) == drifted.charge == 0


@pytest.mark.parametrize(
    ("positions", "num_e", "words"),
    [
        (np.zeros((2, 3)), np.ones(3, dtype=int), "shape"),
        (np.zeros((3, 3)), np.ones(2, dtype=int), "shape"),
        (np.zeros((3, 3)), np.ones(3), "whole numbers"),
        (np.zeros((3, 3)), np.array([1, -2, 3]), "point 1 is -2"),
        (np.array([[0, math.nan], [0, 0], [0, 0]]), np.ones(2, dtype=int), "point 1"),
    ],
)
def test_what_is_no_track_is_refused(positions, num_e, words):
    with pytest.raises(InputError, match=words):
        drift(positions, num_e, DUNE, 1, anode=1.0)


@pytest.mark.parametrize(
    "changes", [{"bunch": 0.5}, {"bunch": math.nan}, {"depth": math.inf}, {"anode": math.nan}]
)
def test_impossible_parameters_are_refused(changes):
    with pytest.raises(UsageError):
        drift(*point(10), DUNE, 1, **{"anode": 1.0, **changes})
