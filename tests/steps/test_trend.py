"""Trends: points out of line are found, sudden changes too, and quiet series are left alone."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from firstlight.steps.trend import POINTS, SERIES, TrendParameters, judge_trend

STRICT = TrendParameters(minimum_change=0.0)


def series(values, error=0.01, quantity="rate", subject="", order=None) -> pl.DataFrame:
    values = [None if v is None else float(v) for v in values]
    index = list(range(len(values)))
    frame = pl.DataFrame(
        {
            "quantity": quantity, "subject": subject, "index": index, "label": [str(i) for i in index], "value": values,
            "error": [error] * len(values), "unit": "",
        },
        schema={c.name: c.dtype for c in POINTS.columns if c.name not in ("expected", "pull", "state")},
    )  # fmt: skip
    return frame if order is None else frame[order]


def flagged(points: pl.DataFrame, parameters: TrendParameters | None = None) -> dict[int, str]:
    judged, _ = judge_trend(points, parameters)
    return dict(
        judged.frame.filter(pl.col("state").is_in(["high", "low"])).select("index", "state").iter_rows()
    )


def quiet(seed: int, n: int = 60, width: float = 0.01, level: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, width, n)


@pytest.mark.parametrize("n", [3, 5, 10, 60])
def test_false_alarms_are_rare(n):
    """Even without any least change, and with few neighbours to tell the spread."""
    alarms = sum(len(flagged(series(quiet(seed, n)), STRICT)) for seed in range(60))
    assert alarms / (60 * n) < 2e-3


def test_spread_beyond_the_errors_is_not_alarming():
    alarms = sum(len(flagged(series(quiet(seed, width=0.05)), STRICT)) for seed in range(30))
    assert alarms / (30 * 60) < 3e-3


@pytest.mark.parametrize(("factor", "state"), [(1.5, "high"), (0.5, "low"), (0.0, "low")])
def test_point_out_of_line_is_found_alone(factor, state):
    for at in (0, 1, 30, 58, 59):
        values = quiet(1)
        values[at] *= factor
        assert flagged(series(values)) == {at: state}


def test_two_points_out_of_line_do_not_hide_each_other():
    values = quiet(2)
    values[[20, 22]] *= 1.5
    assert flagged(series(values)) == {20: "high", 22: "high"}


@pytest.mark.parametrize(("factor", "state"), [(1.3, "high"), (0.7, "low")])
@pytest.mark.parametrize("at", [5, 20, 30, 55])
def test_lasting_change_is_found_where_it_begins(factor, state, at):
    values = quiet(3)
    values[at:] *= factor
    found = flagged(series(values))
    assert found.get(at) == state
    if 10 <= at <= 50:  # nearer to an end the shorter level is out of line as a whole
        assert found == {at: state}


def test_slow_drift_is_a_slope_and_no_alarm():
    values = quiet(4) + np.linspace(0, 0.5, 60)
    judged, summary = judge_trend(series(values))
    assert set(judged.frame["state"]) == {"ok"}
    assert summary.frame["slope"][0] == pytest.approx(0.5 / 59, rel=0.05)


def test_small_change_is_tolerated_whatever_its_significance():
    values = quiet(5, width=1e-5)
    values[30] *= 1.05
    assert flagged(series(values, error=1e-5)) == {}
    assert flagged(series(values, error=1e-5), STRICT) == {30: "high"}


def test_least_change_of_a_quantity_is_in_its_unit():
    values = quiet(6, level=1000.0, width=1.0)
    values[30] += 12
    of_times = TrendParameters(minimum_change_of={"mean TDC time": 8.0})
    assert flagged(series(values, error=1.0, quantity="mean TDC time"), of_times) == {30: "high"}
    assert flagged(series(values, error=1.0, quantity="rate"), of_times) == {}


def test_large_statistical_error_excuses_a_point():
    points = series(np.where(np.arange(60) == 30, 1.5, quiet(7)))
    excused = points.with_columns(error=pl.when(pl.col("index") == 30).then(0.3).otherwise(0.01))
    assert flagged(points) == {30: "high"}
    assert flagged(excused) == {}


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [None, None, None], [1.0, None, 5.0]])
def test_too_few_points_are_not_judged(values):
    judged, summary = judge_trend(series(values))
    assert set(judged.frame["state"]) <= {"no_statistics"}
    assert summary.frame.height == (1 if values else 0)


def test_points_that_are_not_known_are_passed_over():
    values = [None if i % 7 == 3 else v for i, v in enumerate(quiet(8))]
    values[30] = 1.5
    judged, summary = judge_trend(series(values))
    assert flagged(series(values)) == {30: "high"}
    assert judged.frame.filter(pl.col("value").is_null())["state"].unique().to_list() == ["no_statistics"]
    assert summary.frame["n_points"][0] == sum(v is not None for v in values)


def test_constant_series_is_in_line():
    assert flagged(series([1.0] * 20, error=0.0), STRICT) == {}
    assert flagged(series([0.0] * 20, error=0.0), STRICT) == {}


def test_series_are_judged_apart_and_in_the_order_of_arrival():
    values = quiet(9)
    values[10] = 2.0
    order = np.random.default_rng(1).permutation(60).tolist()
    both = pl.concat([series(values, subject="a", order=order), series(quiet(10, level=50.0), subject="b")])
    judged, summary = judge_trend(both)
    assert judged.frame.filter(pl.col("state") == "high").select("subject", "index").rows() == [("a", 10)]
    assert summary.frame.select("subject", "n_flagged").rows() == [("a", 1), ("b", 0)]
    POINTS.validate(judged.frame)
    SERIES.validate(summary.frame)


def test_what_is_expected_is_told():
    judged, _ = judge_trend(series([1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0]))
    row = judged.frame.row(3, named=True)
    assert (row["expected"], row["state"]) == (1.0, "high")
    assert row["pull"] > 100


def test_step_near_the_end_begins_where_it_begins():
    """Four points are no lasting change, and the point before them is none of them."""
    values = np.concatenate([quiet(1, 20), 1.5 * quiet(2, 4)])
    assert flagged(series(values)) == dict.fromkeys(range(20, 24), "high")


def test_change_of_a_series_that_is_known_exactly():
    values = [5.0] * 21
    values[10] = 9.0
    assert flagged(series(values, error=0.0)) == {10: "high"}
