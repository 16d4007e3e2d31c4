"""Comparison with a reference: pulls are standard, false flags are rare, what changed is found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.errors import InputError
from firstlight.steps.compare import CompareParameters, Comparison, compare_counts

REAL = (
    Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    / "spinquest"
    / "real_run005994"
)
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"sample data not found in {REAL}")

N_GROUPS, SIZE = 40, 100
GROUP = np.repeat(np.arange(N_GROUPS), SIZE)
NAMES = [f"plane{index}" for index in range(N_GROUPS)]


def toy(
    seed: int, scale: float = 1.3, dispersion: float = 1.0, mean: float = 300.0
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of a run and a reference with a true scale, and variances that exceed Poisson by a factor."""
    rng = np.random.default_rng(seed)
    true = mean * rng.uniform(0.3, 3.0, GROUP.size)

    def draw(expected: np.ndarray) -> np.ndarray:
        if dispersion == 1.0:
            return rng.poisson(expected)
        return rng.negative_binomial(expected / (dispersion - 1), 1 / dispersion)

    return draw(scale * true), draw(true)


def pulls(comparison: Comparison) -> np.ndarray:
    return comparison.channels.frame["pull"].drop_nulls().to_numpy()


def states(comparison: Comparison) -> dict[int, str]:
    frame = comparison.channels.frame.filter(~pl.col("state").is_in(["ok", "no_statistics"]))
    return dict(frame.select("channel", "state").iter_rows())


@pytest.mark.parametrize("dispersion", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("scale", [0.2, 1.0, 1.3, 10.0])
def test_pulls_are_standard_normal(dispersion, scale):
    result = compare_counts(*toy(1, scale, dispersion), GROUP, NAMES)
    pull = pulls(result)
    assert pull.size == GROUP.size
    assert abs(pull.mean()) < 0.06
    assert pull.std() == pytest.approx(1.0, abs=0.06)
    assert result.scale == pytest.approx(scale, rel=0.01)
    assert result.dispersion == pytest.approx(dispersion, rel=0.1)
    assert result.chi2_ndf == pytest.approx(dispersion, rel=0.1)


@pytest.mark.parametrize("dispersion", [1.0, 2.0])
def test_nothing_is_flagged_where_nothing_changed(dispersion):
    for seed in range(8):
        result = compare_counts(*toy(seed, 1.3, dispersion), GROUP, NAMES)
        assert states(result) == {}
        assert set(result.groups.frame["state"]) == {"ok"}


def test_planted_changes_are_found_and_nothing_else():
    counts, reference = toy(2)
    counts[[5, 105]] = 0
    counts[205] *= 3
    counts[305] //= 3
    reference[405] = 0
    reference[505], counts[505] = 0, 0
    result = compare_counts(counts, reference, GROUP, NAMES)
    assert states(result) == {5: "gone", 105: "gone", 205: "high", 305: "low", 405: "new"}
    assert result.channels.frame["state"][505] == "no_statistics"
    assert result.groups.frame["n_flagged"].sum() == 5


def test_group_whose_share_changed_is_one_line_and_not_a_hundred():
    counts, reference = toy(3)
    counts[GROUP == 7] //= 2
    result = compare_counts(counts, reference, GROUP, NAMES)
    assert states(result) == {}
    changed = result.groups.frame.filter(pl.col("state") != "ok")
    assert changed.select("group", "state").rows() == [("plane7", "low")]
    assert changed["scale"][0] == pytest.approx(0.5, abs=0.02)
    assert result.scale == pytest.approx(1.3, rel=0.01)
    assert result.chi2_ndf == pytest.approx(1.0, abs=0.1)
    assert result.chi2_ndf_one_scale > 2


@pytest.mark.parametrize(("what", "state"), [("run", "gone"), ("both", "no_statistics")])
def test_group_without_hits(what, state):
    counts, reference = toy(4)
    counts[GROUP == 3] = 0
    if what == "both":
        reference[GROUP == 3] = 0
    row = compare_counts(counts, reference, GROUP, NAMES).groups.frame.row(3, named=True)
    assert row["state"] == state
    assert row["scale"] is None or row["scale"] == 0


def test_group_that_appeared_is_seen():
    counts, reference = toy(4)
    reference[GROUP == 3] = 0
    result = compare_counts(counts, reference, GROUP, NAMES)
    assert result.groups.frame["n_flagged"][3] == SIZE
    assert set(states(result).values()) == {"new"}


def test_few_hits_are_not_judged():
    counts, reference = toy(5, mean=3.0)
    result = compare_counts(counts, reference, GROUP, NAMES)
    few = result.channels.frame.filter(pl.col("expected") < 10)
    assert set(few["state"]) == {"no_statistics"}
    assert few["pull"].null_count() == few.height


def test_no_hits_at_all():
    zeros = np.zeros(GROUP.size, dtype=np.int64)
    for counts, reference in ((zeros, zeros), (zeros, toy(1)[1]), (toy(1)[0], zeros)):
        result = compare_counts(counts, reference, GROUP, NAMES)
        assert result.channels.frame.height == GROUP.size
        assert np.isfinite(result.channels.frame["pull"].drop_nulls().to_numpy()).all()


def test_run_without_any_hit_cannot_be_scaled_and_says_so():
    zeros = np.zeros(GROUP.size, dtype=np.int64)
    result = compare_counts(zeros, toy(1)[1], GROUP, NAMES)
    assert set(result.groups.frame["state"]) == {"no_statistics"}
    assert np.isnan(result.scale)


def test_error_of_the_ratio_is_statistical():
    counts, reference = toy(6)
    result = compare_counts(counts, reference, GROUP, NAMES)
    row = result.channels.frame.row(0, named=True)
    assert row["ratio_error"] / row["ratio"] == pytest.approx(np.sqrt(1 / counts[0] + 1 / reference[0]))


def test_compared_with_itself_is_exactly_one():
    counts, _ = toy(7)
    result = compare_counts(counts, counts, GROUP, NAMES)
    assert result.scale == 1.0
    assert (pulls(result) == 0).all()


def test_result_does_not_depend_on_the_order_of_channels():
    counts, reference = toy(8)
    order = np.random.default_rng(1).permutation(GROUP.size)
    one = compare_counts(counts, reference, GROUP, NAMES)
    other = compare_counts(counts[order], reference[order], GROUP[order], NAMES)
    assert np.allclose(one.channels.frame["pull"].to_numpy()[order], other.channels.frame["pull"].to_numpy())
    assert one.groups.frame.drop("scale", "scale_error", "chi2_ndf").equals(
        other.groups.frame.drop("scale", "scale_error", "chi2_ndf")
    )


def test_limits_are_parameters():
    counts, reference = toy(9)
    counts[5] = int(reference[5] * 1.3 * 1.35)
    strict = CompareParameters(ratio_limit=1.1, pull_limit=4.0)
    assert 5 not in states(compare_counts(counts, reference, GROUP, NAMES))
    assert states(compare_counts(counts, reference, GROUP, NAMES, parameters=strict))[5] == "high"


def test_shapes_must_agree():
    counts, reference = toy(1)
    with pytest.raises(InputError, match="have the shape"):
        compare_counts(counts[:-1], reference, GROUP, NAMES)


# ---------------------------------------------------------------- two real spills


@pytest.fixture(scope="module")
def real() -> Comparison:
    from firstlight.detectors.spinquest.channels import channel_map, geometry_of

    channels = channel_map(geometry_of("E1039", set()))
    this = json.loads((REAL / "spill_001924510_total_hits_data.json").read_text())
    other = json.loads((REAL / "spill_001924430_total_hits_data_matrix.json").read_text())["hits_array"]
    cells = list(
        zip(channels.column("detector_id").tolist(), channels.column("element_id").tolist(), strict=True)
    )
    counts = np.array([this.get(f"{d}_{e}", 0) for d, e in cells])
    reference = np.array([other[d][e] if d < len(other) and e < len(other[d]) else 0 for d, e in cells])
    assert (counts.sum(), reference.sum()) == (4_099_549, 4_046_873)
    return compare_counts(
        counts, reference, channels.group_index, channels.group_names, channels.column("position")
    )


@needs_real
def test_real_spills_have_the_known_scale_and_dispersion(real):
    assert real.scale == pytest.approx(1.0130, abs=2e-4)
    assert real.chi2_ndf_one_scale == pytest.approx(1.46, abs=0.005)
    assert real.chi2_ndf < real.chi2_ndf_one_scale
    assert 4405 <= real.groups.frame["n_compared"].sum() <= 4420
    assert pulls(real).std() == pytest.approx(1.0, abs=0.1)


@needs_real
@pytest.mark.parametrize(("group", "change"), [("H1B", 0.044), ("DP1BR", -0.054)])
def test_real_spills_differ_in_the_known_groups(real, group, change):
    scale = real.groups.frame.filter(pl.col("group") == group)["scale"][0]
    assert scale - 1 == pytest.approx(change, abs=0.002)


@needs_real
def test_two_good_spills_are_not_flagged(real):
    assert states(real) == {}
    assert set(real.groups.frame["state"]) <= {"ok", "no_statistics"}


def test_short_reference_is_no_bias():
    """Most channels of a short reference are empty by chance: they belong to the totals of their group."""
    counts, reference = (np.random.default_rng(9).poisson(m, GROUP.size) for m in (240.0, 0.8))
    result = compare_counts(counts, reference, GROUP, NAMES)
    assert result.scale == pytest.approx(300, rel=0.05)
    assert set(result.groups.frame["state"]) <= {"ok", "no_statistics"}


def test_burst_in_a_short_reference_is_no_change_of_this_run():
    counts, reference = (np.random.default_rng(10).poisson(m, GROUP.size) for m in (1000.0, 5.0))
    reference[[150, 775]] += 30
    assert states(compare_counts(counts, reference, GROUP, NAMES)) == {}
    reference[775] += 60
    assert states(compare_counts(counts, reference, GROUP, NAMES)) == {775: "low"}
    counts[300], reference[300] = 0, 12
    assert states(compare_counts(counts, reference, GROUP, NAMES)) == {775: "low", 300: "gone"}


def test_group_with_a_handful_of_hits_has_no_precise_share():
    counts, reference = toy(11, scale=30.0)
    counts[GROUP == 7] = 0
    reference[GROUP == 7] = 0
    counts[705], reference[705] = 12, 2
    frame = compare_counts(counts, reference, GROUP, NAMES).groups.frame
    assert frame["state"][7] == "ok"
    assert frame["scale"][7] == pytest.approx(0.2, rel=0.05)
