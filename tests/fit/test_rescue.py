"""The ladder: what is tried again, which attempt is kept, and what stays honest."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from scipy.special import ndtr

from firstlight.fit import Model, Parameter, Rung, Status, fit_many
from firstlight.fit import rescue as ladder
from firstlight.fit.many import check_data
from firstlight.fit.prototypes import curve_kernel, start_kernel
from firstlight.fit.rescue import summed_curve


@curve_kernel
def _curve(x, p, constants, value, derivative):
    for i in range(value.size):
        z = (x[i] - p[1]) / p[2]
        value[i] = p[0] * math.exp(-0.5 * z * z)
        derivative[0, i] = math.exp(-0.5 * z * z)
        derivative[1, i] = value[i] * z / p[2]
        derivative[2, i] = value[i] * z * z / p[2]


@start_kernel
def _bad_start(x, counts, exposure, constants, p):
    """Right for sums of many counts, no number for channels of few."""
    total = np.sum(counts)
    p[0] = np.max(counts / exposure)
    p[1] = np.sum(counts * x / exposure) / np.sum(counts / exposure)
    p[2] = 4.0 * (x[1] - x[0]) if total > 2000 else math.nan


HILL = Model(
    "hill",
    (
        Parameter("height", "at the top", "y", 0.0),
        Parameter("centre", "place of the top", "x"),
        Parameter("width", "standard deviation", "x", 1e-3, weak=True),
    ),
    curve=_curve,
    start=_bad_start,
)


def simulate(seed, n_channels, height=20.0, shift=None):
    rng = np.random.default_rng(seed)
    x = np.arange(40.0)
    seen = x if shift is None else x - shift[:, None]
    return x, rng.poisson(height * np.exp(-0.5 * ((seen - 20) / 4) ** 2), (n_channels, 40))


def test_without_rescue_nothing_is_tried_again():
    x, counts = simulate(201, 20)
    result = fit_many(counts, x, HILL, rescue=False)
    assert (result.status == Status.failed).all()
    assert (result.rung == Rung.own).all()


def test_start_of_the_summed_curve_helps():
    x, counts = simulate(202, 200)
    result = fit_many(counts, x, HILL)
    assert result.ok.all()
    assert (result.rung == Rung.global_start).all()
    reference = fit_many(counts, x, HILL, start=[20, 20, 4])
    np.testing.assert_allclose(result.deviance, reference.deviance, atol=1e-4)
    np.testing.assert_allclose(result.values, reference.values, rtol=1e-2)
    assert "200 by global_start" in repr(result)


def test_start_of_the_summed_curve_follows_the_rate_and_the_shift():
    shift = np.random.default_rng(203).uniform(-8, 8, 300)
    x, counts = simulate(203, 300, height=np.where(np.arange(300)[:, None] % 2, 5.0, 60.0), shift=shift)
    result = fit_many(counts, x, HILL, shift=shift, exposure=0.1)
    assert (result.rung == Rung.global_start).all()
    assert np.mean(result.ok) > 0.99
    height = result.start[:, 0]
    assert np.median(height[::2]) == pytest.approx(600, rel=0.1)
    assert np.median(height[1::2]) == pytest.approx(50, rel=0.1)
    assert np.ptp(result.start[:, 1]) == 0
    assert result.start[0, 1] == pytest.approx(20, abs=0.1)


def test_one_loud_channel_is_not_the_sum():
    x, counts = simulate(204, 50)
    counts[7] = 100_000
    result = fit_many(counts, x, HILL)
    others = np.arange(50) != 7
    assert result.ok[others].all()
    assert abs(result.start[0, 1] - 20) < 0.5


def test_summed_curve_keeps_counts_and_exposure():
    shift = np.array([0.0, 1.5, -3.0, np.nan])
    counts = np.random.default_rng(205).poisson(5, (4, 10)).astype(float)
    counts[0, 3] = np.nan
    x = np.arange(10.0)
    data = check_data(counts, x, HILL, shift=shift, exposure=2.0)
    summed = summed_curve(data, np.arange(4))
    used = np.isfinite(counts[:3])
    assert summed.counts.sum() == counts[:3][used].sum()
    assert summed.exposure.sum() == 2.0 * used.sum()
    assert summed.x.min() == -1.5
    assert summed.x.max() == 12
    data = check_data(counts[1:3], np.arange(11.0) * 3, HILL, edges=True)
    summed = summed_curve(data, np.arange(2))
    np.testing.assert_array_equal(summed.x, np.arange(10) * 3 + 1.5)
    np.testing.assert_array_equal(summed.exposure[0], np.full(10, 6.0))
    np.testing.assert_array_equal(summed.counts[0], counts[1:3].sum(axis=0))


@curve_kernel
def _two_valleys(x, p, constants, value, derivative):
    """Rates whose place depends on p[1]^2: one minimum at each sign, the negative one is worse."""
    for i in range(value.size):
        u = p[1] + 0.3 * p[1] * p[1]
        z = x[i] - u * u
        value[i] = p[0] * math.exp(-0.5 * z * z / 9) + 0.1
        derivative[0, i] = math.exp(-0.5 * z * z / 9)
        derivative[1, i] = (value[i] - 0.1) * z / 9 * 2 * u * (1 + 0.6 * p[1])


@start_kernel
def _valley_start(x, counts, exposure, constants, p):
    p[0] = np.max(counts / exposure)
    p[1] = 2.0 if np.sum(counts) > 1000 else -1.0


VALLEYS = Model(
    "valleys",
    (Parameter("height", "at the top", "y", 0.0), Parameter("root", "of the place", "", -1.2, 5.0)),
    curve=_two_valleys,
    start=_valley_start,
)


def test_fit_at_a_bound_is_tried_from_elsewhere():
    rng = np.random.default_rng(206)
    x = np.arange(30.0)
    counts = rng.poisson(8 * np.exp(-0.5 * ((x - 10.24) / 3) ** 2) + 0.1, (50, 30))  # p[1] = 2
    alone = fit_many(counts, x, VALLEYS, rescue=False)
    stuck = alone.at_bound[:, 1]
    assert stuck.mean() > 0.5
    result = fit_many(counts, x, VALLEYS)
    assert (result.rung[stuck] == Rung.global_start).mean() > 0.95
    assert (result.deviance <= alone.deviance + 1e-3).all()
    np.testing.assert_allclose(np.median(result.value("root")[stuck]), 2.0, atol=0.05)


def test_weak_parameters_are_fixed_where_the_data_do_not_tell_them():
    rng = np.random.default_rng(207)
    x = 2.0 * np.arange(60)
    n = 400
    z = (x - rng.normal(70, 3, (n, 1))) / 8
    rate = ndtr(-z) + 0.02 * 8 * (np.exp(-z * z / 2) / math.sqrt(2 * math.pi) - z * ndtr(-z))
    counts = rng.poisson(60 * rate)
    counts[::4] = rng.poisson(0.15 * rate[::4])
    counts[0] = 0
    result = fit_many(counts, x, "photopeak")
    assert result.status[0] == Status.no_data
    reduced = result.rung == Rung.reduced
    assert reduced.sum() > 10
    assert (reduced.nonzero()[0] % 4 == 0).all()
    assert (result.status[reduced] == Status.not_constrained).all()
    slope = result.model.index("slope")
    assert result.fixed[reduced, slope].all()
    assert not result.fixed[~reduced].any()
    assert np.isnan(result.errors[reduced, slope]).all()
    assert np.isfinite(result.values[reduced]).all()
    # the fixed value is that of the summed curve, for the rate of the channel
    ratio = result.values[reduced, slope] / result.total[reduced]
    assert np.ptp(ratio) < 1e-9 * ratio[0]
    plain = fit_many(counts, x, "photopeak", rescue=False)
    assert (result.ndf[reduced] >= plain.ndf[reduced]).all()


@curve_kernel
def _banana(x, p, constants, value, derivative):
    """Rosenbrock's valley as a curve of two points: Fisher scoring is Gauss and Newton's method here."""
    for i in range(value.size):
        first = x[i] < 0.5
        value[i] = 1000.0 + (1.0 - p[0] if first else 30.0 * (p[1] - p[0] * p[0]))
        derivative[0, i] = -1.0 if first else -60.0 * p[0]
        derivative[1, i] = 0.0 if first else 30.0


BANANA = Model("banana", (Parameter("a", ""), Parameter("b", "")), curve=_banana)


def test_minuit_is_asked_last(monkeypatch):
    counts = np.full((3, 2), 1000)
    asked = []
    original = ladder._minuit
    monkeypatch.setattr(ladder, "_minuit", lambda *given: asked.append(1) or original(*given))
    result = fit_many(counts, [0.0, 1.0], BANANA, start=[-1.2, 1.0], max_iterations=1)
    assert len(asked) == 3
    assert (result.rung == Rung.iminuit).all()
    np.testing.assert_allclose(result.values, 1.0, atol=0.1)
    assert (result.deviance < 1e-4).all()


def test_minuit_tries_a_limited_number(monkeypatch, caplog):
    monkeypatch.setattr(ladder, "MOST_SINGLE_FITS", 2)
    counts = np.full((5, 2), 1000)
    with caplog.at_level(logging.WARNING, "firstlight"):
        result = fit_many(counts, [0.0, 1.0], BANANA, start=[-1.2, 1.0], max_iterations=1)
    assert (result.rung == Rung.iminuit).sum() == 2
    assert (result.status[2:] == Status.max_iter).all()
    assert "5 fits of banana did not converge; MINUIT tries the first 2" in caplog.text


@pytest.mark.parametrize(
    ("estimator", "options"),
    [("poisson", {}), ("binomial", {"exposure": 100.0}), ("gaussian", {"sigma": 2.0}), ("unweighted", {})],
)
def test_minuit_minimises_the_same_deviance(estimator, options):
    rng = np.random.default_rng(208)
    x = np.arange(40.0)
    rate = 0.5 * np.exp(-0.5 * ((x - 20) / 4) ** 2)
    counts = rng.binomial(100, rate, (4, 40)).astype(float)
    scale = 1.0 if estimator == "binomial" else 100.0
    reference = fit_many(counts, x, HILL, estimator=estimator, start=[0.5 * scale, 20, 4], **options)
    data = check_data(counts, x, HILL, estimator=estimator, **options)
    for channel in range(4):
        part = data.select(np.array([channel]))
        found = ladder._minuit(HILL, part, np.array([0.4 * scale, 21.0, 5.0]))
        np.testing.assert_allclose(found, reference.values[channel], rtol=2e-3)
        expected = reference.expected([channel])[0]
        deviance = ladder._deviance(part, counts[channel], expected, np.ones(40, dtype=bool))
        assert deviance == pytest.approx(reference.deviance[channel], rel=1e-8)


def test_better_attempts_replace_worse_ones_only():
    x, counts = simulate(209, 100, height=1.0)
    alone = fit_many(counts, x, "gaussian", rescue=False)
    result = fit_many(counts, x, "gaussian")
    kept = result.rung == Rung.own
    np.testing.assert_array_equal(result.values[kept], alone.values[kept])
    both = (
        np.isfinite(alone.deviance) & (result.rung == Rung.global_start) & (alone.status <= Status.at_bound)
    )
    assert (result.deviance[both] <= alone.deviance[both] + 1e-3).all()
