"""p-values are uniform where the model is right: many counts or few, few points or many, with fitted parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import chi2

from firstlight.fit import fit_many
from firstlight.fit.goodness import MOST_TRIALS, binomial_moments, moment_tables, p_values, poisson_moments
from firstlight.fit.likelihood import POISSON, TABLE_STEP, fill_moments


def assert_uniform(p):
    """Few p-values below 5 and 1 %: as the numbers that are asked for, 4 to 6 and 0.7 to 1.3 %."""
    p = p[np.isfinite(p)]
    assert 0.04 < np.mean(p < 0.05) < 0.06
    assert 0.007 < np.mean(p < 0.01) < 0.013
    assert 0.47 < np.mean(p) < 0.55  # few counts have few values of the deviance


def hills(seed, n_channels, n_points, height, centre, width):
    rng = np.random.default_rng(seed)
    x = np.arange(float(n_points))
    z = (x - rng.normal(centre, 0.1 * centre, (n_channels, 1))) / width
    return x, rng.poisson(height * np.exp(-0.5 * z * z))


def edges(seed, n_channels, plateau, n_points=60):
    rng = np.random.default_rng(seed)
    x = 2.0 * np.arange(n_points)
    z = (x - rng.normal(70, 5, (n_channels, 1))) / 8
    shared = 0.003 * plateau * 8 * (np.exp(-z * z / 2) / math.sqrt(2 * math.pi) - z * ndtr(-z))
    return x, rng.poisson(plateau * ndtr(-z) + shared)


# ---------------------------------------------------------------- fits


@pytest.mark.parametrize("height", [2.0, 5.0, 20.0, 200.0])
def test_hills_over_many_empty_points(height):
    x, counts = hills(101, 20_000, 40, height, 20, 4)
    result = fit_many(counts, x, "gaussian")
    p = result.p_value[result.status <= 1]
    assert p.size > 19_900
    assert_uniform(p)


def test_ten_counts_for_three_parameters_are_the_limit():
    x, counts = hills(110, 20_000, 40, 1.0, 20, 4)
    p = fit_many(counts, x, "gaussian").p_value
    p = p[np.isfinite(p)]
    # mean and variance of the deviance are within 3 %, its tail is longer than that of the matched chi2
    assert 0.04 < np.mean(p < 0.05) < 0.06
    assert 0.007 < np.mean(p < 0.01) < 0.018


@pytest.mark.parametrize("height", [10.0, 100.0, 1000.0])
def test_few_points_and_three_parameters(height):
    x, counts = hills(102, 20_000, 12, height, 6, 2)
    result = fit_many(counts, x, "gaussian")
    assert_uniform(result.p_value[result.status <= 1])


@pytest.mark.parametrize("plateau", [1.0, 5.0, 60.0])
def test_edges_with_a_plateau_of_few_counts(plateau):
    x, counts = edges(103, 20_000, plateau)
    result = fit_many(counts, x, "photopeak", rescue=False)
    p = result.p_value[result.status <= 1]
    assert p.size > (8000 if plateau < 5 else 19_000)
    assert_uniform(p)


@pytest.mark.parametrize("trials", [5, 50, MOST_TRIALS, 1000])
def test_binomial_edges(trials):
    rng = np.random.default_rng(104)
    x = np.arange(30.0)
    chance = ndtr((x - rng.normal(15, 2, (20_000, 1))) / 3)
    counts = rng.binomial(trials, chance)
    result = fit_many(counts, x, "s_curve", exposure=trials, estimator="binomial")
    assert_uniform(result.p_value[result.status <= 1])
    assert result.ok.mean() > 0.999


def test_wrong_models_have_small_p_values():
    x, counts = edges(105, 2000, 40.0)
    p = fit_many(counts, x, "gaussian", rescue=False).p_value
    assert np.nanmean(p < 0.01) > 0.9


def test_normal_errors_are_plain_chi2():
    rng = np.random.default_rng(106)
    x = np.arange(20.0)
    values = 3 + 0.5 * x + 2 * rng.standard_normal((5000, 20))
    result = fit_many(values, x, "polynomial1", estimator="gaussian", sigma=2.0)
    np.testing.assert_allclose(result.p_value, chi2.sf(result.deviance, 18), rtol=1e-10)
    assert_uniform(result.p_value)
    assert np.isnan(fit_many(values, x, "polynomial1", estimator="unweighted").p_value).all()


def test_fits_without_degrees_of_freedom_have_none():
    result = fit_many([[10, 20, 30]], [1.0, 2.0, 3.0], "gaussian")
    assert np.isnan(result.p_value).all()
    x, counts = hills(107, 200, 8, 0.3, 4, 2)
    p = fit_many(counts, x, "gaussian").p_value
    assert ((p >= 0) & (p <= 1) | np.isnan(p)).all()


# ---------------------------------------------------------------- moments


@pytest.mark.parametrize(("mu", "mean"), [(0.1, 0.4741), (1.0, 1.1468), (1.4, 1.1601), (1e4, 1.0)])
def test_mean_of_the_deviance_of_one_number(mu, mean):
    assert poisson_moments(mu)[0] == pytest.approx(mean, abs=1e-4)


def test_moments_are_those_of_simulated_numbers():
    rng = np.random.default_rng(108)
    n = rng.poisson(2.3, 400_000)
    deviance = 2 * (2.3 - n + np.where(n > 0, n * np.log(np.maximum(n, 1) / 2.3), 0.0))
    mean, variance, covariance, _ = poisson_moments(2.3)
    assert mean == pytest.approx(deviance.mean(), abs=4 * math.sqrt(variance / 400_000))
    assert variance == pytest.approx(deviance.var(), rel=0.02)
    assert covariance == pytest.approx(np.cov(deviance, n)[0, 1], abs=0.02)


def test_binomial_moments_become_those_of_poisson_numbers():
    np.testing.assert_allclose(binomial_moments(1_000_000, 2e-6), poisson_moments(2.0), rtol=1e-4)
    # the numbers that stand for more trials than have tables
    for chance in (0.5, 0.1, 0.01):
        variance = chance * (1 - chance)
        alike = MOST_TRIALS * variance / (1 - variance)
        mean, spread = binomial_moments(MOST_TRIALS, chance)[:2]
        assert mean == pytest.approx(poisson_moments(alike)[0], abs=3e-4)
        assert spread == pytest.approx(poisson_moments(alike)[1], rel=5e-3)


def test_tables_are_interpolated_without_loss():
    tables, first, place = moment_tables([5.0, 7.5, 1000.0])
    assert first[0] + TABLE_STEP * (tables.shape[1] - 1) == pytest.approx(math.log(3000), abs=TABLE_STEP)
    assert place.tolist() == [0, 0, 0, 0, 0, 1]
    mu = np.exp(np.random.default_rng(109).uniform(math.log(1e-5), math.log(1e5), 50))
    found = np.empty((4, mu.size))
    fill_moments(POISSON, mu, np.ones(mu.size), tables, first, place, found)
    np.testing.assert_allclose(found.T, [poisson_moments(one) for one in mu], rtol=2e-5, atol=2e-5)
    chance = np.array([1e-3, 0.03, 0.2, 0.5, 0.8, 0.999])
    fill_moments(1, chance, np.full(6, 5.0), tables, first, place, found[:, :6])
    expected = np.array([binomial_moments(5, min(one, 1 - one)) for one in chance])
    expected[chance > 0.5, 2] *= -1
    np.testing.assert_allclose(found[:, :6].T, expected, rtol=2e-4, atol=1e-4)


def test_points_without_exposure_add_nothing():
    tables, first, place = moment_tables()
    found = np.ones((4, 2))
    fill_moments(POISSON, np.array([3.0, 3.0]), np.array([0.0, 1.0]), tables, first, place, found)
    assert (found[:, 0] == 0).all()
    assert (found[0, 1] > 1).all()


def test_many_counts_give_chi2():
    ndf = np.array([10, 10, 10, 0])
    deviance = np.array([5.0, 10.0, 30.0, 1.0])
    p = p_values("poisson", deviance, ndf, np.array([10.0, 10, 10, 10]), np.array([20.0, 20, 20, 20]))
    np.testing.assert_allclose(p[:3], chi2.sf(deviance[:3], 10))
    assert np.isnan(p[3])
    p = p_values("poisson", deviance[:2], ndf[:2], np.array([-0.1, 1.0]), np.array([1.0, -1.0]))
    assert np.isnan(p).all()
