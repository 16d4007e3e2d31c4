"""Verdicts on channels: planted faults are found, clean samples are left alone, real spills make sense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.errors import UsageError
from firstlight.steps.dispersion import dispersion_width, local_fit, tail_probabilities
from firstlight.steps.outliers import STATES, Groups, OutlierParameters, judge_channels

ROOT = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
REAL = ROOT / "spinquest" / "real_run005994"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"sample data not found in {REAL}")
FLAGGED = ("low", "dead", "hot")


# ---------------------------------------------------------------- a toy detector of 56 planes, 4768 channels


def toy_groups() -> Groups:
    chambers = [201] * 4 + [160] * 2 + [128] * 4 + [112] * 2 + [134] * 8 + [116] * 4
    sizes = [*chambers, *[72] * 8, *[80] * 4, *[48] * 4, 23, 23, 20, 20, 19, 19, *[16] * 10]
    n = len(sizes)
    partner = np.arange(n) ^ 1
    segmented = np.array([size < 30 for size in sizes])
    return Groups(
        index=np.repeat(np.arange(n), sizes),
        names=tuple(f"plane{i}" for i in range(n)),
        partner=partner,
        partner_tolerance=np.full(n, 0.25),
        block=np.array([8 if size == 72 else 0 for size in sizes]),
        segmented=segmented,
    )


def toy_rates(
    groups: Groups, seed: int, total: float, spreads: tuple[float, float] = (0.03, 0.12)
) -> np.ndarray:
    """Return the mean count of each channel: smooth profiles that partners share, plus a few per cent of spread."""
    random = np.random.default_rng(seed)
    rates = np.zeros(groups.index.size)
    for group, part in groups.members():
        n = part.stop - part.start
        shape = np.random.default_rng(1000 * seed + group // 2)
        x = (np.arange(n) + 0.5) / n * 2 - 1
        # intensity rises to the outside with a valley at the beam, chambers fade at their edges
        profile = 0.15 + np.abs(x - shape.uniform(-0.1, 0.1)) ** shape.uniform(1.0, 2.0)
        if groups.segmented[group]:
            peak = shape.uniform(0, 1) < 0.5
            profile = np.exp(-0.5 * (x / 0.25) ** 2) + 0.05 if peak else profile
        elif n > 100:
            edge = shape.uniform(0.8, 1.1)
            profile = profile / (1 + np.exp((np.abs(x) - edge) / 0.03))
        level = shape.uniform(0.3, 1.5) * n
        spread = spreads[int(groups.segmented[group])]
        rates[part] = level * profile / profile.sum() * np.exp(random.normal(0, spread, n))
    return rates * total / rates.sum()


def draw(rates: np.ndarray, seed: int, factor: float = 1.5) -> np.ndarray:
    """Return counts with variance `factor` times the mean (real spills: 1.46), negative binomial."""
    random = np.random.default_rng(seed + 77)
    return random.poisson(random.gamma(np.maximum(rates, 1e-9) / (factor - 1.0), factor - 1.0))


def flags(judgement) -> pl.DataFrame:
    bad = judgement.groups.filter(pl.col("state") == "dead")["group"]
    return judgement.flagged().filter(~pl.col("group").is_in(bad.to_list()))


GROUPS = toy_groups()


@pytest.mark.parametrize("hits", [4e4, 4e5, 4e6, 4e7])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clean_sample_is_left_alone(seed, hits):
    counts = draw(toy_rates(GROUPS, seed, hits), seed)
    judgement = judge_channels(counts, GROUPS)
    assert flags(judgement).height <= 3
    assert set(judgement.groups["state"]) <= {"ok", "no_statistics"}
    reference = draw(toy_rates(GROUPS, seed, hits), seed + 1)
    compared = judge_channels(counts, GROUPS, reference=reference)
    assert flags(compared).height <= 3
    assert set(compared.groups["state"]) <= {"ok", "no_statistics"}


def plant(counts: np.ndarray, rates: np.ndarray, seed: int):
    """Return counts with a dead plane, a plane at 60 %, 20 dead, a x40 and a x3 channel, and where they are."""
    random = np.random.default_rng(seed + 5)
    bad = counts.copy()
    members = dict(GROUPS.members())
    inside = np.zeros(bad.size, dtype=bool)
    median = np.zeros(bad.size)
    for part in members.values():
        inside[part.start + 3 : part.stop - 3] = True
        median[part] = np.median(rates[part])
    inside &= (rates > 0.5 * median) & ~GROUPS.segmented[GROUPS.index]
    dead_plane, slow_plane = random.choice(np.arange(0, 32, 2), 2, replace=False) + random.integers(0, 2, 2)
    bad[members[dead_plane]] = 0
    bad[members[dead_plane].start + 40 : members[dead_plane].start + 42] = 1
    slow = members[slow_plane]
    bad[slow] = draw(0.6 * rates[slow], seed)
    inside[members[dead_plane]] = inside[slow] = False
    chosen = random.choice(np.flatnonzero(inside), 22, replace=False)
    bad[chosen[:20]] = 0
    bad[chosen[20]] = draw(40 * rates[chosen[20:21]], seed)[0]
    bad[chosen[21]] = draw(3.3 * rates[chosen[21:22]], seed)[0]
    return bad, int(dead_plane), int(slow_plane), np.sort(chosen[:20]), int(chosen[20]), int(chosen[21])


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("hits", [4e5, 4e6, 4e7])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_faults_are_found(seed, hits, with_reference):
    rates = toy_rates(GROUPS, seed, hits)
    counts, dead_plane, slow_plane, dead, hot, triple = plant(draw(rates, seed), rates, seed)
    reference = draw(rates, seed + 1) if with_reference else None
    judgement = judge_channels(counts, GROUPS, reference=reference)
    states = dict(zip(judgement.groups["group"], judgement.groups["state"], strict=True))
    wrong = {name: state for name, state in states.items() if state not in {"ok", "no_statistics"}}
    assert wrong == {f"plane{dead_plane}": "dead", f"plane{slow_plane}": "low"}
    found = flags(judgement)
    dead_found = found.filter(pl.col("state") == "dead")["channel"].to_numpy()
    judged = judgement.channels["expected"].to_numpy()[dead] > 20
    assert set(dead[judged]) <= set(dead_found)
    assert judged.sum() >= 15
    hot_found = found.filter(pl.col("state") == "hot")["channel"].to_list()
    assert hot in hot_found
    if hits > 1e6:
        assert triple in hot_found
    assert found.height <= 22 + 3
    assert f"group plane{dead_plane} is dead" in judgement.channels["rule"].to_list()


def test_clean_sample_with_poor_channels_and_correlated_hits():
    """Twice the usual spread of efficiencies, and hits that come in pairs and triples."""
    rates = toy_rates(GROUPS, 9, 4e6, spreads=(0.06, 0.25))
    assert flags(judge_channels(draw(rates, 9, factor=4.0), GROUPS)).height <= 3


# ---------------------------------------------------------------- single planes


def one_plane(
    n: int = 160, *, level: float = 1000.0, seed: int = 3, block: int = 16
) -> tuple[np.ndarray, Groups]:
    x = np.linspace(-1, 1, n)
    return draw(level * (0.3 + x**2), seed), alone(n, block=block)


def alone(*sizes: int, block: int = 0, segmented: bool = False) -> Groups:
    n = len(sizes)
    return Groups(
        index=np.repeat(np.arange(n), sizes),
        names=tuple(f"group{i}" for i in range(n)),
        partner=np.full(n, -1),
        partner_tolerance=np.full(n, np.nan),
        block=np.full(n, block),
        segmented=np.full(n, segmented),
    )


def states_of(counts, groups, **options) -> np.ndarray:
    return judge_channels(counts, groups, **options).channels["state"].to_numpy()


@pytest.mark.parametrize(
    ("first", "stop"), [(64, 72), (64, 80), (0, 1), (159, 160), (0, 16), (80, 160), (0, 80)]
)
def test_dead_regions_of_any_length(first, stop):
    counts, groups = one_plane()
    counts[first:stop] = 0
    judgement = judge_channels(counts, groups)
    state = judgement.channels["state"].to_numpy()
    assert np.flatnonzero(state == "dead").tolist() == list(range(first, stop))
    # what is beside a dead region is neither hot nor low
    assert np.count_nonzero(np.isin(state, FLAGGED)) == stop - first
    assert judgement.blocks.height == 1
    row = judgement.blocks.row(0, named=True)
    assert (row["first"], row["last"], row["n"]) == (first, stop - 1, stop - first)
    assert row["complete"] == (first % 16 == 0 and stop % 16 == 0)
    assert (
        row["whole_blocks"] == stop // 16 - -(-first // 16)
        if stop - first >= 16
        else row["whole_blocks"] == 0
    )


def test_dead_half_with_stray_hits():
    counts, groups = one_plane()
    counts[80:] = np.random.default_rng(1).poisson(0.3, 80)
    state = states_of(counts, groups)
    assert np.all(state[80:] == "dead")
    assert not np.isin(state[:80], FLAGGED).any()


def test_adjacent_hot_channels_and_dead_neighbours():
    counts, groups = one_plane()
    counts[[50, 51]] *= 40
    counts[[49, 52, 120]] = 0
    state = states_of(counts, groups)
    assert np.flatnonzero(state == "hot").tolist() == [50, 51]
    assert np.flatnonzero(state == "dead").tolist() == [49, 52, 120]
    assert not np.any(state == "low")


def test_illumination_that_ends_is_not_dead():
    x = np.arange(200)
    rates = 80.0 / (1 + np.exp(-(x - 60) / 4.0)) / (1 + np.exp((x - 150) / 2.0))
    for seed in range(5):
        state = states_of(draw(rates, seed), alone(200))
        assert not np.isin(state, FLAGGED).any()
        assert np.all(state[:30] == "no_statistics")


def test_sharp_edge_needs_hardware_or_counts():
    counts, groups = one_plane(72, level=50.0, block=8)
    counts[64:] = 0
    assert counts[60:64].max() < 100
    assert np.all(states_of(counts, groups)[64:] == "no_statistics")
    counts, _ = one_plane(72, level=2000.0, block=8)
    both = np.concatenate([counts, counts])
    both[[*range(60, 72), *range(132, 144)]] = 0
    pair = Groups(
        index=np.repeat([0, 1], 72),
        names=("first", "second"),
        partner=np.array([1, 0]),
        partner_tolerance=np.array([0.25, 0.25]),
        block=np.array([8, 8]),
        segmented=np.zeros(2, dtype=bool),
    )
    # both layers end together where no module ends: acceptance
    assert not np.isin(states_of(both, pair), FLAGGED).any()
    both = np.concatenate([counts, counts])
    both[[*range(64, 72), *range(136, 144)]] = 0
    assert np.count_nonzero(states_of(both, pair) == "dead") == 16


def test_noisy_plane_and_slow_plane_are_told_apart():
    counts, _ = one_plane(160, level=2000.0)
    pair = Groups(
        index=np.repeat([0, 1], 160),
        names=("first", "second"),
        partner=np.array([1, 0]),
        partner_tolerance=np.array([0.25, 0.25]),
        block=np.zeros(2, dtype=int),
        segmented=np.zeros(2, dtype=bool),
    )
    noisy = counts + np.random.default_rng(2).poisson(4000, 160)
    states = judge_channels(np.concatenate([noisy, counts]), pair).groups["state"].to_list()
    assert states == ["hot", "ok"]
    slow = np.random.default_rng(3).binomial(counts, 0.4)
    states = judge_channels(np.concatenate([counts, slow]), pair).groups["state"].to_list()
    assert states == ["ok", "low"]


def test_steep_bars_are_not_hot():
    bars = np.array([239, 199, 294, 488, 828, 1754, 4114, 7940, 7409, 3374, 1407, 862, 521, 473, 377, 312])
    assert not np.isin(states_of(bars, alone(16, segmented=True)), FLAGGED).any()
    bars[5] = 0
    assert np.flatnonzero(np.isin(states_of(bars, alone(16, segmented=True)), FLAGGED)).tolist() == [5]


# ---------------------------------------------------------------- invariances, masks, odd input


def test_order_of_groups_does_not_matter():
    rates = toy_rates(GROUPS, 4, 4e6)
    counts, *_ = plant(draw(rates, 4), rates, 4)
    state = states_of(counts, GROUPS)
    order = np.random.default_rng(0).permutation(len(GROUPS.names))
    members = dict(GROUPS.members())
    channels = np.concatenate([np.arange(members[g].start, members[g].stop) for g in order])
    rank = np.argsort(order)
    moved = Groups(
        index=rank[GROUPS.index[channels]],
        names=tuple(GROUPS.names[g] for g in order),
        partner=rank[GROUPS.partner[order]],
        partner_tolerance=GROUPS.partner_tolerance[order],
        block=GROUPS.block[order],
        segmented=GROUPS.segmented[order],
    )
    np.testing.assert_array_equal(states_of(counts[channels], moved), state[channels])


def test_reference_of_other_size_gives_the_same_verdicts():
    rates = toy_rates(GROUPS, 5, 4e6)
    counts, *_ = plant(draw(rates, 5), rates, 5)
    reference = np.round(rates * 10)
    scale = np.repeat(
        np.random.default_rng(6).uniform(0.95, 1.05, len(GROUPS.names)), np.bincount(GROUPS.index)
    )
    state = states_of(counts, GROUPS, reference=reference)
    np.testing.assert_array_equal(states_of(counts, GROUPS, reference=reference * 3), state)
    changed = states_of(counts, GROUPS, reference=reference * scale) != state
    assert np.count_nonzero(changed) <= 2


def test_reference_forgives_what_was_there_before_and_reports_changes():
    counts, groups = one_plane()
    reference = draw(1000 * (0.3 + np.linspace(-1, 1, 160) ** 2) * 2.0, 8)
    for sample in (counts, reference):
        sample[10] = 0
        sample[90] *= 30
    counts[20] = 0
    reference[30] = 0
    judgement = judge_channels(counts, groups, reference=reference)
    assert judgement.flagged()["channel"].to_list() == [20]
    assert judgement.channels["state"].to_list()[10] == "no_statistics"
    assert judgement.channels["source"].to_list()[30] == "neighbours"


def test_masked_and_optional_channels():
    counts, groups = one_plane()
    counts[40:48] = 0
    counts[60] *= 50
    masked = np.zeros(160, dtype=bool)
    masked[[40, 41, 60]] = True
    optional = np.zeros(160, dtype=bool)
    optional[[44, 45, 100]] = True
    judgement = judge_channels(counts, groups, masked=masked, optional=optional)
    state = judgement.channels["state"].to_numpy()
    assert state[[40, 41, 60]].tolist() == ["masked"] * 3
    assert state[[44, 45, 100]].tolist() == ["absent", "absent", "ok"]
    assert np.flatnonzero(np.isin(state, FLAGGED)).tolist() == [42, 43, 46, 47]
    assert judgement.groups.row(0, named=True)["n_absent"] == 2
    everything = judge_channels(np.zeros(160), groups, optional=np.ones(160, dtype=bool))
    assert everything.groups["state"].to_list() == ["absent"]
    assert judge_channels(counts, groups, masked=np.ones(160)).groups["state"].to_list() == ["masked"]


def test_dead_group_without_partner_and_empty_detector():
    parts = [one_plane(seed=seed)[0] for seed in range(4)]
    counts = np.concatenate([*parts, np.zeros(60)])
    counts[650] = 1
    groups = alone(160, 160, 160, 160, 60)
    judgement = judge_channels(counts, groups)
    assert judgement.groups["state"].to_list() == ["ok"] * 4 + ["dead"]
    assert judgement.groups.row(4, named=True)["n_dead"] == 60
    assert judgement.blocks.height == 0
    nothing = judge_channels(np.zeros(700), groups)
    assert set(nothing.channels["state"]) == {"no_statistics"}
    assert set(nothing.groups["state"]) == {"no_statistics"}


def test_small_groups_and_pixel_rows():
    judgement = judge_channels([5, 100, 3], alone(1, 2))
    assert set(judgement.channels["state"]) == {"no_statistics"}
    rows = np.random.default_rng(4).poisson(400, (16, 16))
    rows[5, 7], rows[9, 9], rows[3] = 0, 9000, 0
    judgement = judge_channels(rows.ravel(), alone(*[16] * 16))
    state = judgement.channels["state"].to_numpy().reshape(16, 16)
    assert state[5, 7] == "dead"
    assert state[9, 9] == "hot"
    assert judgement.groups["state"].to_list()[3] == "dead"
    assert np.count_nonzero(np.isin(state, FLAGGED)) == 18
    assert judge_channels([], alone()).channels.height == 0


def test_tables_say_why():
    counts, groups = one_plane()
    counts[70] = 0
    judgement = judge_channels(counts, groups)
    row = judgement.channels.row(70, named=True)
    assert row["rule"].startswith("dead: 0 counts, neighbours expect")
    assert row["pull"] < -10
    assert row["p_value"] < 1e-10
    assert row["position"] == 70
    good = judgement.channels.filter(pl.col("state") == "ok")
    assert set(good["rule"]) == {""}
    assert abs(good["pull"].mean()) < 0.3
    assert 0.7 < good["pull"].std() < 1.3
    group = judgement.groups.row(0, named=True)
    assert sum(group[f"n_{state}"] for state in STATES) == 160
    assert judgement.dispersion["source"].to_list() == ["neighbours"]


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (np.zeros(5), {}, "shape"),
        (np.full(160, -1), {}, "negative"),
        (np.full(160, np.nan), {}, "non-finite"),
        (np.ones(160), {"masked": np.ones(3)}, "masked has shape"),
    ],
)
def test_bad_input_is_refused(counts, options, message):
    with pytest.raises(UsageError, match=message):
        judge_channels(counts, alone(160), **options)


def test_bad_groups_are_refused():
    fields = {"names": ("a", "b"), "partner": np.array([1, 0]), "partner_tolerance": np.ones(2)}
    fields |= {"block": np.zeros(2, dtype=int), "segmented": np.zeros(2, dtype=bool)}
    with pytest.raises(UsageError, match="not contiguous"):
        Groups(index=np.array([0, 1, 0]), **fields)
    with pytest.raises(UsageError, match="another group"):
        Groups(index=np.array([0, 1]), **(fields | {"partner": np.array([0, -1])}))
    with pytest.raises(UsageError, match="shape"):
        Groups(index=np.array([0, 1]), **(fields | {"block": np.zeros(3, dtype=int)}))


# ---------------------------------------------------------------- the statistics


def test_tail_probabilities_match_simulation_and_poisson():
    random = np.random.default_rng(12)
    draws = random.poisson(40 * np.exp(0.3 * random.normal(size=400_000)))
    counts = np.array([5.0, 15.0, 40.0, 90.0, 130.0])
    lower, upper = tail_probabilities(counts, np.full(5, 40.0), np.full(5, 0.3))
    np.testing.assert_allclose(lower, [(draws <= n).mean() for n in counts], rtol=0.15, atol=2e-5)
    np.testing.assert_allclose(upper, [(draws >= n).mean() for n in counts], rtol=0.15, atol=2e-5)
    lower, upper = tail_probabilities(np.zeros(1), np.full(1, 12.0), np.zeros(1))
    np.testing.assert_allclose([lower[0], upper[0]], [np.exp(-12.0), 1.0], rtol=1e-9)


def test_dispersion_is_recovered():
    random = np.random.default_rng(13)
    mean = np.full(4000, 500.0)
    counts = random.poisson(mean * np.exp(0.15 * random.normal(size=4000))).astype(float)
    counts[:40] = 0
    width = dispersion_width(counts, mean, np.zeros(4000), default=0.5, smallest=0.01)
    assert width == pytest.approx(0.15, rel=0.1)
    assert dispersion_width(counts[:5], mean[:5], np.zeros(5), default=0.5, smallest=0.01) == 0.5


def test_local_fit_follows_an_exponential_and_ignores_outliers():
    x = np.arange(60)
    counts = np.round(500 * np.exp(0.08 * x))
    counts[[20, 21]] *= 30
    fit = local_fit(counts, np.ones(60, dtype=bool), per_side=6, width=0.05)
    np.testing.assert_allclose(fit.expected, 500 * np.exp(0.08 * x), rtol=0.06)
    assert fit.one_sided.tolist() == [True, *[False] * 58, True]


# ---------------------------------------------------------------- two real spills of SpinQuest

NAMES = [
    *["D0U", "D0Up", "D0X", "D0Xp", "D0V", "D0Vp", "D1V", "D1Vp", "D1X", "D1Xp", "D1U", "D1Up"],
    *["D2V", "D2Vp", "D2Xp", "D2X", "D2U", "D2Up", "D3pVp", "D3pV", "D3pXp", "D3pX", "D3pUp", "D3pU"],
    *["D3mVp", "D3mV", "D3mXp", "D3mX", "D3mUp", "D3mU", "H1B", "H1T", "H1L", "H1R", "H2L", "H2R"],
    *["H2B", "H2T", "H3B", "H3T", "H4Y1L", "H4Y1R", "H4Y2L", "H4Y2R", "H4B", "H4T", "P1Y1", "P1Y2"],
    *["P1X1", "P1X2", "P2X1", "P2X2", "P2Y1", "P2Y2", "DP1TL", "DP1TR", "DP1BL", "DP1BR"],
    *["DP2TL", "DP2TR", "DP2BL", "DP2BR"],
]
SIZES = (
    [201, 201, 160, 160, 201, 201, 384, 384, 320, 320, 384, 384, 128, 128, 112, 112, 128, 128]
    + [134, 134, 116, 116, 134, 134] * 2
    + [23, 23, 20, 20, 19, 19, *[16] * 10, *[72] * 8, *[80] * 4, *[50] * 4]
)


def partner_name(name: str) -> tuple[str, float]:
    if name[0] == "D" and name[1] != "P":
        return (name.removesuffix("p") if name.endswith("p") else f"{name}p"), 0.25
    if name[0] == "P":
        return name[:-1] + {"1": "2", "2": "1"}[name[-1]], 0.25
    if name[:2] == "DP":
        return name[:3] + {"T": "B", "B": "T"}[name[3]] + name[4], 0.25
    swap = {"T": "B", "B": "T", "L": "R", "R": "L"}[name[-1]]
    return name[:-1] + swap, np.nan if swap in "LR" else 0.25


def real_groups() -> tuple[Groups, np.ndarray]:
    partner = [partner_name(name) for name in NAMES]
    groups = Groups(
        index=np.repeat(np.arange(62), SIZES),
        names=tuple(NAMES),
        partner=np.array([NAMES.index(other) for other, _ in partner]),
        partner_tolerance=np.array([tolerance for _, tolerance in partner]),
        block=np.array([8 if name[0] == "P" else 0 for name in NAMES]),
        segmented=np.array([name[0] == "H" for name in NAMES]),
    )
    element = np.concatenate([np.arange(1, size + 1) for size in SIZES])
    detector = groups.index + 1
    optional = ((detector >= 7) & (detector <= 12)) | ((detector >= 59) & (element > 48))
    return groups, optional


def real_counts(spill: str) -> np.ndarray:
    table = np.zeros((64, 402))
    if spill == "1924510":
        for key, count in json.loads((REAL / "spill_001924510_total_hits_data.json").read_text()).items():
            detector, element = key.split("_")
            table[int(detector), int(element)] = count
    else:
        matrix = json.loads((REAL / "spill_001924430_total_hits_data_matrix.json").read_text())["hits_array"]
        table[: len(matrix), : len(matrix[0])] = matrix
    return np.concatenate([table[i + 1, 1 : size + 1] for i, size in enumerate(SIZES)])


def named(frame: pl.DataFrame, state: str) -> set[tuple[str, int]]:
    rows = frame.filter((pl.col("state") == state) & (pl.col("group") != "D0Vp"))
    return {(group, position + 1) for group, position in rows.select("group", "position").rows()}


@needs_real
@pytest.mark.parametrize("spill", ["1924510", "1924430"])
def test_real_spill_without_reference(spill):
    groups, optional = real_groups()
    judgement = judge_channels(real_counts(spill), groups, optional=optional)
    states = dict(zip(judgement.groups["group"], judgement.groups["state"], strict=True))
    assert states["D0Vp"] == "dead"
    assert {state for name, state in states.items() if name != "D0Vp"} == {"ok", "absent"}
    dead, low, hot = (named(judgement.channels, state) for state in ("dead", "low", "hot"))
    # P2X2 56: 409 and 435 hits in a module whose other tubes have 16 to 54, and its partner 20 to 30
    assert hot == {("D0X", 74), ("P2X2", 56)}
    for plane, first in (("P1X1", 65), ("P1X2", 65), ("P2X1", 33), ("P2X2", 33), ("P1Y1", 1)):
        row = judgement.blocks.filter((pl.col("group") == plane) & (pl.col("first") == first - 1))
        assert row["complete"].to_list() == [True]
    triples = [6, 7, 8, 57, 58, 59, 70, 71, 72, 121, 122, 123, 134, 135, 136]
    assert {element for plane, element in dead if plane == "D0Xp"} == set(triples)
    assert {element for plane, element in dead if plane == "D0X"} == {151, 152, 154, 157, 160}
    assert {element for plane, element in dead if plane == "D2X"} == {49, 53, 57}
    assert {element for plane, element in dead if plane == "D2Up"} == {88, 89}
    assert len([plane for plane, _ in dead if plane == "DP1BR"]) == 10
    assert len([plane for plane, _ in dead if plane == "DP1TL"]) == 4
    assert ("H1L", 6) in low
    assert len(low) <= 30
    flagged = {plane for plane, _ in dead | low}
    assert not flagged & {name for name in NAMES if name.startswith(("D3", "DP2B", "H2", "H3", "H4"))}


@needs_real
def test_real_spills_against_each_other():
    groups, optional = real_groups()
    first, second = real_counts("1924510"), real_counts("1924430")
    for counts, reference in ((first, second), (second, first)):
        judgement = judge_channels(counts, groups, reference=reference, optional=optional)
        assert judgement.flagged().height == 0
        assert set(judgement.groups["state"]) <= {"ok", "absent", "no_statistics"}
    # a true change is seen
    changed = first.copy()
    members = dict(groups.members())
    changed[members[0].start + 50] = 0
    changed[members[4]] *= 0.6
    judgement = judge_channels(changed, groups, reference=second, optional=optional)
    assert judgement.flagged()["channel"].to_list() == [members[0].start + 50]
    assert judgement.groups.filter(pl.col("state") == "low")["group"].to_list() == ["D0V"]


@needs_real
@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0, 10.0])
def test_resampled_real_spill_against_itself(scale):
    groups, optional = real_groups()
    reference = real_counts("1924510")
    judgement = judge_channels(draw(scale * reference, 21), groups, reference=reference, optional=optional)
    assert judgement.flagged().height <= 3


def test_parameters_are_documented():
    assert all(field.description for field in OutlierParameters.model_fields.values())


# ---------------------------------------------------------------- few events, and hits that come together


def test_burst_is_not_a_hot_channel():
    x = np.linspace(-1, 1, 160)
    counts = draw(10.0 * (0.6 + x**2), 3)
    events = counts.copy()
    counts[80], events[80] = 45, 2
    counts[40], events[40] = 400, 90
    groups = alone(160)
    assert np.flatnonzero(states_of(counts, groups) == "hot").tolist() == [40, 80]
    assert np.flatnonzero(states_of(counts, groups, events=events) == "hot").tolist() == [40]


def pair_of(n: int, *, segmented: bool = False) -> Groups:
    return Groups(
        index=np.repeat([0, 1], n),
        names=("first", "second"),
        partner=np.array([1, 0]),
        partner_tolerance=np.array([0.25, 0.25]),
        block=np.zeros(2, dtype=int),
        segmented=np.full(2, segmented),
    )


@pytest.mark.parametrize(("share", "verdict", "few", "many"), [(0.6, "low", 20, 400), (0.0, "dead", 10, 20)])
def test_few_events_prove_nothing_about_a_group(share, verdict, few, many):
    counts = draw(np.full(128, 50.0), 5)
    both = np.concatenate([counts, draw(np.full(128, 1e-9 + share * 50.0), 6)])
    for n_events, state in ((few, "ok"), (many, verdict)):
        judgement = judge_channels(both, pair_of(128), n_events=n_events)
        assert judgement.groups["state"].to_list()[-1] in (state, "no_statistics" if state == "ok" else state)


def test_hot_channel_does_not_make_its_partner_low():
    counts = np.tile(draw(np.full(16, 10.0) * (1 + np.arange(16) % 8), 7), 2)
    counts[2] = 1500
    judgement = judge_channels(counts, pair_of(16, segmented=True))
    assert judgement.groups["state"].to_list() == ["ok", "ok"]


def test_illumination_that_falls_along_a_line_is_neither_dead_nor_low():
    profile = np.minimum(np.arange(120) * 90.0, 4000.0)
    for seed in range(6):
        other = draw(profile + 100.0, seed + 50)
        counts = np.concatenate([draw(profile + 8.0, seed), other])
        assert not np.isin(states_of(counts, pair_of(120)), FLAGGED).any(), seed
    # but an empty wire at the end of a full profile is dead
    full = draw(np.full(240, 60.0), 3)
    full[0] = 0
    assert np.flatnonzero(states_of(full, pair_of(120)) == "dead").tolist() == [0]
