"""Intervals from the profile likelihood and from simulated data: against MINOS, exact answers, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from firstlight.errors import UsageError
from firstlight.fit.intervals import bootstrap, profile_intervals
from firstlight.fit.many import fit_many
from firstlight.fit.model import get_model
from firstlight.fit.single import scalar

X = np.arange(0, 60.0, 2)


def expected(name, x, p):
    model = get_model(name)
    value, derivative = np.empty(len(x)), np.empty((len(model), len(x)))
    model.curve(
        np.array(x, dtype=float), np.array(p, dtype=float), np.array(model.constants), value, derivative
    )
    return value


def toys(name, p, n, seed, x=X):
    return np.random.default_rng(seed).poisson(np.tile(expected(name, x, p), (n, 1)))


EDGE = [25.0, 0.05, 30.0, 5.0, 0.5]


def test_profile_intervals_are_those_of_minos():
    counts = toys("erfc_threshold", EDGE, 6, 1)
    result = fit_many(counts, X, "erfc_threshold")
    assert result.ok.sum() >= 4
    found = {name: profile_intervals(result, name) for name in ("position", "width")}
    for channel in np.flatnonzero(result.ok):
        one = scalar(counts[channel], X, "erfc_threshold", minos=True)
        for name, intervals in found.items():
            k = result.model.index(name)
            low, high = one.values[k] + one.lower_errors[k], one.values[k] + one.upper_errors[k]
            assert intervals.lower[channel] == pytest.approx(low, abs=0.02 * one.errors[k])
            assert intervals.upper[channel] == pytest.approx(high, abs=0.02 * one.errors[k])


def test_ends_of_a_constant_solve_the_equation_of_the_likelihood():
    # n counts in all: 2 (mu - n + n ln(n / mu)) = quantile has no other parameter
    from firstlight.fit.models.polynomial import make_polynomial

    counts = np.array([[0, 1, 0, 2, 1], [3, 5, 4, 6, 2]])
    result = fit_many(counts, np.arange(5.0), make_polynomial(0))
    for level in (0.6827, 0.95):
        intervals = profile_intervals(result, "coefficient_0", level=level)
        quantile = stats.chi2.ppf(level, 1)
        for ends in (intervals.lower, intervals.upper):
            mu, n = 5 * ends, counts.sum(axis=1)
            assert 2 * (mu - n + n * np.log(n / mu)) == pytest.approx(quantile, rel=1e-2)
        assert (intervals.lower < result.values[:, 0]).all()
        assert (intervals.upper > result.values[:, 0]).all()


def test_intervals_stop_at_bounds_and_say_so():
    counts = toys("erfc_threshold", [8.0, 0.0, 30.0, 5.0, 0.02], 40, 2)
    result = fit_many(counts, X, "erfc_threshold")
    intervals = profile_intervals(result, "background")
    at_zero = result.at_bound[:, 4]
    assert at_zero.sum() > 5
    assert (intervals.lower[at_zero] == 0).all()
    assert intervals.lower_at_bound[at_zero].all()
    assert (intervals.upper[at_zero] > 0).all()
    assert (intervals.upper > 0).all()
    assert not intervals.upper_at_bound.any()
    assert (intervals.lower >= 0).all()
    narrow = fit_many(counts, X, "erfc_threshold", bounds={"position": (29.9, 30.1)})
    ends = profile_intervals(narrow, "position")
    assert (ends.lower >= 29.9).all()
    assert (ends.upper <= 30.1).all()
    assert (ends.lower_at_bound | ends.upper_at_bound).any()


def test_normal_errors_give_symmetric_intervals_and_unweighted_ones_scale():
    rng = np.random.default_rng(3)
    y = rng.normal(2 + 0.5 * X, 3, (20, X.size))
    given = fit_many(y, X, "polynomial1", sigma=3.0, estimator="gaussian")
    scaled = fit_many(y, X, "polynomial1", estimator="unweighted")
    for result in (given, scaled):
        intervals = profile_intervals(result, "coefficient_1")
        error = result.error("coefficient_1")
        assert intervals.upper - intervals.value == pytest.approx(error, rel=1e-2)
        assert intervals.value - intervals.lower == pytest.approx(error, rel=1e-2)


def peaks(area, n, seed):
    """Return fits of n normal peaks with that many counts on average."""
    edges = np.arange(-1, 62.0, 2)
    counts = toys("gaussian", [2 * area, 30.0, 5.0], n, seed, 0.5 * (edges[1:] + edges[:-1]))
    return fit_many(counts, edges, "gaussian", edges=True, exposure=0.5)


def covered(result, name, true):
    intervals = profile_intervals(result, name)
    assert np.isfinite(intervals.lower).mean() > 0.999
    assert np.isfinite(intervals.upper).mean() > 0.999
    return np.mean((intervals.lower <= true) & (true <= intervals.upper))


@pytest.mark.parametrize(("name", "true"), [("area", 120.0), ("mean", 30.0), ("width", 5.0)])
def test_two_thirds_of_the_intervals_hold_the_truth(name, true):
    n = 4000
    assert covered(peaks(60, n, 4), name, true) == pytest.approx(0.6827, abs=3 * np.sqrt(0.6827 * 0.3173 / n))


def test_coverage_with_few_counts_is_what_exact_theory_says():
    """The likelihood ratio of the mean of k normal numbers of unknown width is k ln(1 + t^2 / (k - 1)), t Student's."""
    n, area, quantile = 6000, 12, stats.chi2.ppf(0.6827, 1)
    result = peaks(area, n, 5)
    k = np.arange(2, 60)
    t = np.sqrt((k - 1) * np.expm1(quantile / k))
    exact = np.average(1 - 2 * stats.t.sf(t, k - 1), weights=stats.poisson.pmf(k, area))
    assert 0.64 < exact < 0.66
    found = covered(result, "mean", 30.0)
    assert found == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / n))
    # better than standard errors, where those are worst
    symmetric = np.mean(np.abs(result.value("width") - 5) <= result.error("width"))
    assert symmetric < covered(result, "width", 5.0) - 0.01


def test_some_channels_and_channels_without_a_fit():
    counts = toys("gaussian", [200, 30, 5], 5, 5)
    counts[3] = 0
    result = fit_many(counts, X, "gaussian")
    everything = profile_intervals(result, "mean")
    some = profile_intervals(result, "mean", channels=[4, 3, 1])
    assert some.channels.tolist() == [4, 3, 1]
    assert some.lower[[0, 2]] == pytest.approx(everything.lower[[4, 1]], rel=1e-12)
    assert np.isnan(some.lower[1])
    assert np.isnan(some.upper[1])
    mask = np.array([True, False, False, False, True])
    assert profile_intervals(result, "mean", channels=mask).channels.tolist() == [0, 4]
    assert "of 5 channels" in repr(everything)
    assert everything.to_polars().null_count()["lower"][0] == 1


def test_shift_exposure_and_fixed_parameters_are_kept():
    shift = np.array([0.0, 3.0, -2.0])
    counts = toys("gaussian", [400, 30, 5], 1, 6)[[0, 0, 0]]
    fixed = {"width": np.array([5.0, 5.0, 5.0])}
    result = fit_many(counts, X, "gaussian", exposure=2.0, shift=shift, fixed=fixed)
    intervals = profile_intervals(result, "mean")
    assert intervals.lower + shift == pytest.approx(np.full(3, intervals.lower[0]), abs=2e-3)
    assert intervals.upper - intervals.value == pytest.approx(result.error("mean"), rel=0.05)
    with pytest.raises(UsageError, match="was fixed"):
        profile_intervals(result, "width")


def test_wrong_calls_are_refused():
    result = fit_many(toys("gaussian", [200, 30, 5], 2, 7), X, "gaussian")
    with pytest.raises(UsageError, match="unknown parameter 'maen'"):
        profile_intervals(result, "maen")
    with pytest.raises(UsageError, match="level"):
        profile_intervals(result, "mean", level=95)
    with pytest.raises(UsageError, match="no channel 7"):
        profile_intervals(result, "mean", channels=[0, 7])
    with pytest.raises(UsageError, match="3 entries"):
        profile_intervals(result, "mean", channels=[True, False, True])
    with pytest.raises(UsageError, match="at least 2"):
        bootstrap(result, 1)


# ---------------------------------------------------------------- bootstrap


def test_bootstrap_spread_is_the_standard_error():
    result = fit_many(toys("gaussian", [2000, 30, 5], 4, 8), X, "gaussian")
    found = bootstrap(result, 400, seed=3)
    assert (found.n_good == 400).all()
    assert found.std == pytest.approx(result.errors, rel=0.15)
    assert np.abs(found.bias / result.errors).max() < 0.25
    median = found.quantiles[:, :, 1]
    assert (found.quantiles[:, :, 0] < median).all()
    assert (median < found.quantiles[:, :, 2]).all()
    half = 0.5 * (found.quantiles[:, :, 2] - found.quantiles[:, :, 0])
    assert half == pytest.approx(result.errors, rel=0.2)


def test_bootstrap_of_a_channel_depends_on_nothing_but_its_seed():
    result = fit_many(toys("gaussian", [300, 30, 5], 5, 9), X, "gaussian")
    everything = bootstrap(result, 30, seed=4, keep=True)
    some = bootstrap(result, 30, seed=4, channels=[3, 1], keep=True, threads=1)
    assert np.array_equal(some.replicas, everything.replicas[[3, 1]])
    other = bootstrap(result, 30, seed=5, channels=[3])
    assert not np.array_equal(other.mean, some.mean[:1])


@pytest.mark.parametrize("estimator", ["binomial", "gaussian", "unweighted"])
def test_bootstrap_simulates_the_estimator(estimator):
    rng = np.random.default_rng(10)
    if estimator == "binomial":
        counts = rng.binomial(40, np.tile(expected("s_curve", X, [30, 5]), (3, 1)))
        result = fit_many(counts, X, "s_curve", exposure=40, estimator="binomial")
    else:
        y = rng.normal(2 + 0.5 * X, 1.5, (3, X.size))
        sigma = 1.5 if estimator == "gaussian" else None
        result = fit_many(y, X, "polynomial1", sigma=sigma, estimator=estimator)
    found = bootstrap(result, 300, seed=1)
    assert found.std == pytest.approx(result.errors, rel=0.2)


def test_bootstrap_of_a_parameter_at_its_bound_is_one_sided():
    counts = toys("erfc_threshold", [8.0, 0.0, 30.0, 5.0, 0.02], 30, 2)
    result = fit_many(counts, X, "erfc_threshold")
    channel = np.flatnonzero(result.at_bound[:, 4])[:3]
    found = bootstrap(result, 100, seed=2, channels=channel)
    assert np.isnan(result.errors[channel, 4]).all()
    assert (found.at_bound[:, 4] > 0.5).all()
    assert np.isfinite(found.std).all()


def test_bootstrap_leaves_out_what_was_not_fitted():
    counts = toys("gaussian", [300, 30, 5], 3, 11).astype(float)
    counts[1] = 0
    counts[:, 4] = np.nan
    result = fit_many(counts, X, "gaussian", fixed={"width": 5.0})
    found = bootstrap(result, 20, seed=1)
    assert found.n_good.tolist() == [20, 0, 20]
    assert np.isnan(found.mean[1]).all()
    assert np.isnan(found.std[:, 2]).all()
    assert np.isfinite(found.std[[0, 2], :2]).all()
    assert "3 channels, 20 replicas" in repr(found)
