"""Exact binomial intervals, and efficiencies corrected for accidentals."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Column
from firstlight.errors import UsageError
from firstlight.steps.efficiency import EFFICIENCY_COLUMNS, clopper_pearson, efficiency_table, estimate


def test_published_intervals() -> None:
    # 95 % limits of the tables in the literature: 8 of 10, 0 of 10, 10 of 10
    low, high = clopper_pearson([8, 0, 10], 10, level=0.95)
    assert low == pytest.approx([0.4439, 0.0, 0.6915], abs=1e-4)
    assert high == pytest.approx([0.9748, 0.3085, 1.0], abs=1e-4)


@pytest.mark.parametrize("total", [1, 7, 100, 10_000])
def test_edges_have_closed_forms(total: int) -> None:
    tail = (1 - 0.6827) / 2
    low, high = clopper_pearson([0, total], total)
    assert low[0] == 0
    assert high[1] == 1
    assert high[0] == pytest.approx(1 - tail ** (1 / total), rel=1e-9)
    assert low[1] == pytest.approx(tail ** (1 / total), rel=1e-9)


def test_nothing_says_nothing() -> None:
    low, high = clopper_pearson([0, 3], [0, 4])
    assert math.isnan(low[0])
    assert math.isnan(high[0])
    assert low[1] < 0.75 < high[1]
    assert np.isnan(clopper_pearson(np.nan, 5)).all()


def test_the_definition_by_tail_sums() -> None:
    passed, total, level = 37, 50, 0.9
    low, high = clopper_pearson(passed, total, level)
    k = np.arange(total + 1)
    ways = np.array([math.comb(total, int(one)) for one in k], dtype=float)

    def probability(p: float) -> np.ndarray:
        return ways * p**k * (1 - p) ** (total - k)

    assert probability(float(low))[passed:].sum() == pytest.approx(0.05, rel=1e-9)
    assert probability(float(high))[: passed + 1].sum() == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.8, 0.95, 0.999])
def test_it_covers_at_least_its_level(truth: float) -> None:
    generator = np.random.default_rng(7)
    passed = generator.binomial(200, truth, size=4000)
    low, high = clopper_pearson(passed, 200)
    covered = np.mean((low <= truth) & (truth <= high))
    assert covered > 0.6827 - 3 * math.sqrt(0.25 / 4000)


@pytest.mark.parametrize(("passed", "total"), [(5, 4), (-1, 4)])
def test_impossible_counts_are_errors(passed: int, total: int) -> None:
    with pytest.raises(UsageError, match="between 0 and the number of trials"):
        clopper_pearson(passed, total)


@pytest.mark.parametrize("level", [0.0, 1.0, 68.0])
def test_impossible_levels_are_errors(level: float) -> None:
    with pytest.raises(UsageError, match="confidence level"):
        clopper_pearson(1, 2, level)


def test_accidentals_are_taken_out_on_average() -> None:
    generator = np.random.default_rng(11)
    truth, chance, n = 0.8, 0.15, 1000
    found = (generator.random((500, n)) < truth) | (generator.random((500, n)) < chance)
    result = estimate(found.sum(axis=1), n, accidental=chance)
    assert result.efficiency.mean() == pytest.approx(truth, abs=3 * 0.4 / math.sqrt(n * 500))
    covered = np.mean((result.low <= truth) & (truth <= result.high))
    assert 0.62 < covered < 0.80


def test_the_systematic_part_stays_apart() -> None:
    one = estimate(90, 100, accidental=0.1, accidental_error=0.0)
    other = estimate(90, 100, accidental=0.1, accidental_error=0.05)
    assert (one.low, one.high) == (other.low, other.high)
    assert one.systematic == 0
    assert other.systematic == pytest.approx(0.05 * 0.1 / 0.81)


def test_effective_numbers_widen_the_interval() -> None:
    full, half = estimate(80, 100), estimate(80, 100, n_effective=50)
    assert full.efficiency == half.efficiency == pytest.approx(0.8)
    assert half.low < full.low < full.high < half.high


def test_no_probe_is_not_zero_percent() -> None:
    result = estimate([0, 0], [0, 10])
    assert math.isnan(result.efficiency[0])
    assert result.efficiency[1] == 0


def test_the_table_has_units_and_nulls() -> None:
    result = estimate([0, 9], [0, 10])
    table = efficiency_table(
        "planes", {Column("plane", pl.String, "name"): ["a", "b"]}, ([0, 9], [0, 10]), result,
        {Column("state", pl.String, "verdict"): ["no statistics", "ok"]}, "a plane",
    )  # fmt: skip
    table.schema.validate(table.frame)
    assert table.frame.columns == ["plane", *(column.name for column in EFFICIENCY_COLUMNS), "state"]
    assert table.frame["efficiency"].to_list() == [None, pytest.approx(0.9)]
