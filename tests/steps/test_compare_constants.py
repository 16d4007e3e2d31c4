"""Comparison of constants: pulls are standard, common changes flag no channel, planted ones are found."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.errors import InputError
from firstlight.steps.compare import CompareParameters
from firstlight.steps.compare_constants import (
    channel_table,
    column_table,
    columns_with_errors,
    compare_column,
    compare_regions,
    compare_tables,
)

N = 20_000
REGION = np.arange(N) // 100
NAMES = [f"tile {index}" for index in range(N // 100)]


def toy(seed, n=N, true=100.0, spread=10.0):
    """Return two measurements of the same constants, whose errors differ by a factor 30 from channel to channel."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(true, spread, n)
    errors = 10 ** rng.uniform(-1.5, 0.0, (2, n))
    new, old = (truth + error * rng.normal(size=n) for error in errors)
    return new, errors[0], old, errors[1]


def changed_regions(part):
    return {row["region"] for row in compare_regions(part, REGION, NAMES) if row["state"] == "changed"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_repeated_measurements_are_not_flagged_and_have_pulls_of_width_one(seed):
    part = compare_column(*toy(seed))
    numbers = part.numbers
    assert numbers["n_compared"] == N
    assert numbers["n_changed"] == 0
    assert numbers["state"] == "ok"
    assert numbers["pull_width"] == pytest.approx(1.0, abs=0.03)
    assert np.std(part.pull) == pytest.approx(1.0, abs=0.02)
    assert abs(numbers["mean_difference"]) < 4 * numbers["mean_error"]
    regions = np.array([row["pull"] for row in compare_regions(part, REGION, NAMES)])
    assert regions.size == len(NAMES)
    assert regions.std() == pytest.approx(1.0, abs=0.15)
    assert changed_regions(part) == set()


def test_error_of_the_mean_covers():
    parts = [compare_column(*toy(seed, 200)).numbers for seed in range(100, 500)]
    pulls = np.array([numbers["mean_difference"] / numbers["mean_error"] for numbers in parts])
    # the error is the larger of two that agree on average
    assert abs(pulls.mean()) < 0.15
    assert pulls.std() == pytest.approx(1.0, abs=0.1)
    differences = np.array([numbers["mean_difference"] for numbers in parts])
    assert np.mean([numbers["mean_error"] for numbers in parts]) == pytest.approx(differences.std(), rel=0.1)


def test_common_shift_is_one_number_and_flags_no_channel():
    new, error, old, error_before = toy(4)
    part = compare_column(new + 5.0, error, old, error_before)
    assert part.numbers["state"] == "shifted"
    assert part.numbers["n_changed"] == 0
    assert changed_regions(part) == set()
    assert part.numbers["mean_difference"] == pytest.approx(5.0, abs=4 * part.numbers["mean_error"])
    assert part.numbers["relative_shift"] == pytest.approx(0.05, rel=0.02)


def test_a_significant_shift_within_the_limit_is_no_shift():
    new, error, old, error_before = toy(4)
    part = compare_column(new + 0.5, error, old, error_before)
    assert part.numbers["mean_difference"] > 50 * part.numbers["mean_error"]
    assert part.numbers["state"] == "ok"
    strict = CompareParameters(shift_limit=0.001)
    assert compare_column(new + 0.5, error, old, error_before, parameters=strict).numbers["state"] == "shifted"  # fmt: skip


@pytest.mark.parametrize("scaled", [True, False])
def test_a_spread_beyond_the_errors_flags_nothing(scaled):
    new, error, old, error_before = toy(5)
    extra = 3 * np.hypot(error, error_before) if scaled else 1.0
    part = compare_column(new + extra * np.random.default_rng(6).normal(size=N), error, old, error_before)
    assert part.numbers["pull_width"] > 2.5
    assert part.numbers["n_changed"] == 0
    assert part.numbers["state"] == "ok"


def test_planted_channels_are_found_and_no_others():
    new, error, old, error_before = toy(7)
    planted = np.random.default_rng(8).choice(N, 40, replace=False)
    new[planted] += np.where(np.arange(40) % 2, 12, -12) * np.hypot(error, error_before)[planted]
    part = compare_column(new, error, old, error_before, product="fit/channels", column="gain")
    assert set(np.flatnonzero(part.changed)) == set(planted)
    assert part.numbers["state"] == "changed"
    assert changed_regions(part) == set()
    frame = channel_table([part], [f"bar {index}" for index in range(N)]).frame
    assert set(frame["state"]) == {"changed"}
    assert set(frame["channel"]) == set(planted)
    first = frame.row(0, named=True)
    assert first["place"] == f"bar {first['channel']}"
    assert abs(first["pull"]) == frame["pull"].abs().max()
    assert first["difference"] == first["value"] - first["reference"]
    few = compare_column(new, error, old, error_before, parameters=CompareParameters(changed_limit=0.01))
    assert (few.numbers["n_changed"], few.numbers["state"]) == (40, "ok")


def test_a_region_is_found_whose_channels_are_all_within_their_errors():
    new, error, old, error_before = toy(9)
    inside = REGION == 17
    new[inside] += 1.5 * np.hypot(error, error_before)[inside]
    part = compare_column(new, error, old, error_before)
    assert part.numbers["n_changed"] == 0
    assert changed_regions(part) == {"tile 17"}
    (row,) = (row for row in compare_regions(part, REGION, NAMES) if row["region"] == "tile 17")
    assert row["pull"] == pytest.approx(15.0, abs=4.0)


def test_difference_of_a_region_is_the_true_one():
    new, error, old, error_before = toy(10)
    new[REGION == 30] -= 2.0
    (row,) = (
        row
        for row in compare_regions(compare_column(new, error, old, error_before), REGION, NAMES)
        if row["region"] == "tile 30"
    )
    # clipped pulls judge it, the difference is that of the channels
    assert row["difference"] == pytest.approx(-2.0, abs=4 * row["error"])
    assert row["error"] < 0.05


def test_one_channel_makes_no_region():
    new, error, old, error_before = toy(11)
    new[1234] += 1e6
    part = compare_column(new, error, old, error_before)
    assert np.flatnonzero(part.changed).tolist() == [1234]
    assert changed_regions(part) == set()
    assert part.numbers["state"] == "ok"


def test_lost_and_new_channels_are_counted_and_those_of_neither_are_not():
    new, error, old, error_before = toy(12)
    new[:5] = error[:5] = np.nan
    old[5:8] = np.nan
    new[8:10] = old[8:10] = np.nan
    error[10] = np.nan
    error[11] = error_before[11] = 0.0
    part = compare_column(new, error, old, error_before, product="a/b", column="c")
    numbers = part.numbers
    assert (numbers["n_lost"], numbers["n_new"], numbers["n_compared"]) == (5, 3, N - 12)
    frame = channel_table([part], ["x"] * N).frame
    assert frame.filter(state="lost")["channel"].to_list() == [0, 1, 2, 3, 4]
    assert frame.filter(state="new")["channel"].to_list() == [5, 6, 7]
    assert frame["value"].null_count() == 8


def test_what_is_identical_is_said_to_be():
    new, error, _, _ = toy(13)
    part = compare_column(new, error, new, error)
    assert part.numbers["state"] == "identical"
    assert part.numbers["pull_width"] == 0
    new_, again = new.copy(), new.copy()
    again[5] += 50
    changed = compare_column(again, error, new_, error)
    assert np.flatnonzero(changed.changed).tolist() == [5]


def test_values_around_zero_are_held_against_their_spread():
    new, error, old, error_before = toy(14, true=0.0, spread=5.0)
    assert compare_column(new, error, old, error_before).numbers["state"] == "ok"
    part = compare_column(new + 1.0, error, old, error_before)
    assert part.numbers["state"] == "shifted"
    assert part.numbers["relative_shift"] == pytest.approx(0.2, rel=0.05)


def test_nothing_to_compare():
    empty = np.full(10, np.nan)
    for value in (empty, np.arange(10.0)):
        part = compare_column(value, empty, value, empty)
        assert part.numbers["state"] == "no_statistics"
        assert part.numbers["n_lost"] == 0
        assert column_table([part]).frame["mean"].null_count() == 1
    assert compare_regions(part, np.zeros(10, dtype=np.int64), [""]) == []


def test_shapes_must_agree():
    with pytest.raises(InputError, match="shapes"):
        compare_column(np.ones(3), np.ones(3), np.ones(4), np.ones(4))


# ---------------------------------------------------------------- tables


def table(**columns):
    frame = pl.DataFrame(columns)
    schema = TableSchema("toy", tuple(Column(n, t, n, "fC", nullable=True) for n, t in frame.schema.items()))
    return Table(frame, schema)


def test_which_columns_have_errors():
    frame = pl.DataFrame(
        {
            "channel": [0], "gain": [1.0], "gain_statistical": [0.1], "gain_baseline": [0.2],
            "target": [1], "target_error": [0.1], "target_statistical": [0.2],
            "width": [1.0], "text": ["a"], "text_error": [0.1], "error": [1.0],
        }
    )  # fmt: skip
    assert columns_with_errors(frame) == {"gain": "gain_statistical", "target": "target_error"}


def test_tables_are_compared_by_channel_and_only_good_ones():
    new = table(
        channel=[2, 0, 1, 3], gain=[12.0, 10.0, 11.0, None], gain_error=[1.0, 1.0, 1.0, None],
        good=[True, True, False, False], only=[1.0] * 4, only_error=[1.0] * 4,
    )  # fmt: skip
    old = table(
        channel=[0, 1, 2, 3], gain=[9.0, 10.0, 10.0, 1.0], gain_error=[1.0] * 4, good=[True, True, True, True]
    )
    (part,) = compare_tables("fit/channels", new, old)
    assert (part.title, part.unit) == ("fit/channels: gain", "fC")
    np.testing.assert_array_equal(part.difference, [1.0, np.nan, 2.0, np.nan])
    assert np.flatnonzero(part.lost).tolist() == [1, 3]
    assert part.total_error[0] == pytest.approx(np.sqrt(2))


def test_tables_of_other_channels_are_refused():
    one, other = (table(channel=channels, a=[1.0, 2.0], a_error=[1.0, 1.0]) for channels in ([0, 1], [0, 2]))
    with pytest.raises(InputError, match="of other channels"):
        compare_tables("fit/channels", one, other)
