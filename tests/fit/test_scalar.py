"""Fits of single curves: against MINUIT and scipy used directly, and against the batched engine."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from iminuit import Minuit
from iminuit.cost import LeastSquares
from scipy import optimize
from scipy.special import erfc, xlogy

from firstlight.errors import InputError, UsageError
from firstlight.fit.many import fit_many
from firstlight.fit.single import scalar
from firstlight.fit.user import user_model

X = np.arange(1480.0, 1601)


def photopeak(x, step, slope, width, position):
    z = (x - position) / width
    tail = erfc(z / math.sqrt(2)) / 2
    return step * tail + slope * width * (np.exp(-z * z / 2) / math.sqrt(2 * math.pi) - z * tail)


def draw(seed, live_time=262.0, step=0.3):
    return np.random.default_rng(seed).poisson(live_time * photopeak(X, step, 0.018 * step, 4.5, 1545))


def test_the_minimum_and_intervals_are_those_of_minuit_used_directly():
    counts = draw(1)

    def deviance(step, slope, width, position):
        expected = 262 * photopeak(X, step, slope, width, position)
        return 2 * np.sum(
            expected - counts + xlogy(counts, counts) - xlogy(counts, np.maximum(expected, 1e-290))
        )

    direct = Minuit(deviance, step=0.3, slope=0.005, width=4, position=1540)
    direct.errordef = 1
    direct.limits["step", "slope", "width"] = (0, None)
    direct.migrad()
    direct.hesse()
    direct.minos()
    mine = scalar(counts, X, "photopeak", exposure=262.0, minos=True)
    assert mine.valid
    assert mine.message == ""
    assert mine.deviance == pytest.approx(direct.fval, abs=1e-3)
    for k, name in enumerate(mine.model.names):
        error = direct.errors[name]
        assert mine.values[k] == pytest.approx(direct.values[name], abs=0.02 * error)
        assert mine.errors[k] == pytest.approx(error, rel=0.02)
        assert mine.lower_errors[k] == pytest.approx(direct.merrors[name].lower, rel=0.03)
        assert mine.upper_errors[k] == pytest.approx(direct.merrors[name].upper, rel=0.03)


def test_gradient_is_that_of_the_deviance():
    from firstlight.fit.many import check_data
    from firstlight.fit.model import get_model
    from firstlight.fit.single import _Cost

    rng = np.random.default_rng(2)
    trials = np.full(X.size, 50)
    cases = [
        ("photopeak", draw(2), {"exposure": 262.0}, [0.25, 0.006, 4.0, 1544]),
        ("s_curve", rng.binomial(50, erfc((1540 - X) / 9) / 2), {"exposure": trials, "estimator": "binomial"}, [1542, 7]),
        ("gaussian", rng.normal(5, 1, X.size), {"sigma": 2.0, "estimator": "gaussian"}, [300, 1540, 20]),
    ]  # fmt: skip
    for name, counts, options, p in cases:
        model = get_model(name)
        cost = _Cost(model, check_data(counts, X, model, **options), np.ones(X.size, dtype=bool))
        p = np.array(p, dtype=float)
        for k in range(p.size):
            h = 1e-5 * max(abs(p[k]), 1) if model.parameters[k].unit == "x" else 1e-5 * p[k]
            up, down = p.copy(), p.copy()
            up[k] += h
            down[k] -= h
            assert cost.gradient(p)[k] == pytest.approx((cost(up) - cost(down)) / (2 * h), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_single_and_batched_fits_agree(seed):
    counts = draw(10 + seed, step=0.15)
    one, many = (
        scalar(counts, X, "photopeak", exposure=262.0),
        fit_many(counts, X, "photopeak", exposure=262.0),
    )
    assert one.deviance == pytest.approx(many.deviance[0], abs=1e-3)
    assert one.ndf == many.ndf[0]
    assert one.p_value == pytest.approx(many.p_value[0], abs=1e-3)
    assert one.total == many.total[0]
    assert np.all(np.abs(one.values - many.values[0]) < 0.03 * one.errors)
    assert one.errors == pytest.approx(many.errors[0], rel=0.15)  # observed against expected information
    assert one.expected() == pytest.approx(many.expected()[0], rel=1e-2, abs=1e-2)


def test_given_errors_are_a_chi2_fit():
    rng = np.random.default_rng(3)
    x, sigma = np.linspace(0, 10, 31), np.linspace(0.5, 1.5, 31)
    y = rng.normal(2 + 0.5 * x, sigma)
    mine = scalar(y, x, "polynomial1", sigma=sigma, estimator="gaussian", minos=True)
    fit, covariance = np.polyfit(x, y, 1, w=1 / sigma, cov="unscaled")
    assert mine.values == pytest.approx(fit[::-1], rel=1e-4)
    assert mine.errors == pytest.approx(np.sqrt(np.diag(covariance))[::-1], rel=1e-3)
    assert -mine.lower_errors == pytest.approx(mine.errors, rel=1e-2)
    cost = LeastSquares(x, y, sigma, lambda x, a, b: a + b * x)
    direct = Minuit(cost, 1, 1)
    direct.migrad()
    assert mine.deviance == pytest.approx(direct.fval, rel=1e-6)


def test_unweighted_errors_come_from_the_residuals():
    rng = np.random.default_rng(4)
    x = np.linspace(0, 10, 41)
    y = rng.normal(3 * np.exp(-0.4 * x) + 0, 0.2)
    mine = scalar(y, x, "exponential", estimator="unweighted", minos=True)
    values, covariance = optimize.curve_fit(lambda x, a, r: a * np.exp(-r * x), x, y, p0=[2, 0.3])
    assert mine.values == pytest.approx(values, rel=1e-3)
    assert mine.errors == pytest.approx(np.sqrt(np.diag(covariance)), rel=0.05)
    assert -mine.lower_errors == pytest.approx(mine.errors, rel=0.3)


def test_binomial_curve_with_fixed_noise():
    x = np.arange(0, 100.0, 4)
    rng = np.random.default_rng(5)
    counts = rng.binomial(100, erfc(-(x - 43) / 6 / math.sqrt(2)) / 2)
    mine = scalar(counts, x, "s_curve", exposure=100, estimator="binomial", fixed={"noise": 6.0}, minos=True)
    many = fit_many(counts, x, "s_curve", exposure=100, estimator="binomial", fixed={"noise": 6.0})
    assert mine.valid
    assert mine.value("noise") == 6
    assert math.isnan(mine.error("noise"))
    assert mine.value("threshold") == pytest.approx(many.value("threshold")[0], abs=1e-3)
    assert mine.ndf == x.size - 1
    assert mine.upper_errors[0] > 0 > mine.lower_errors[0]
    assert math.isnan(mine.upper_errors[1])


def test_parameter_at_its_bound_has_no_error_and_the_others_have():
    counts = draw(6)
    mine = scalar(counts, X, "photopeak", exposure=262.0, bounds={"width": (6, 10)}, minos=True)
    many = fit_many(counts, X, "photopeak", exposure=262.0, bounds={"width": (6, 10)})
    assert mine.valid
    assert mine.at_bound.tolist() == [False, False, True, False]
    assert mine.value("width") == 6
    assert math.isnan(mine.error("width"))
    assert mine.deviance == pytest.approx(many.deviance[0], abs=1e-3)
    assert mine.value("position") == pytest.approx(many.value("position")[0], abs=0.01)
    assert "at a bound" in repr(mine)


def test_bins_and_masks_and_missing_points():
    edges = np.arange(0, 41.0, 2)
    rng = np.random.default_rng(7)
    counts = np.histogram(rng.normal(19, 3, 4000), edges)[0].astype(float)
    counts[3] = np.nan
    mask = np.ones(counts.size, dtype=bool)
    mask[10] = False
    mine = scalar(counts, edges, "gaussian", edges=True, mask=mask)
    many = fit_many(counts, edges, "gaussian", edges=True, mask=mask)
    assert mine.evaluation == "integrated over bins"
    assert mine.ndf == counts.size - 2 - 3
    assert mine.deviance == pytest.approx(many.deviance[0], abs=1e-3)
    assert mine.values == pytest.approx(many.values[0], rel=1e-3)
    # without its own integral a model is integrated numerically: here a user's copy of the same curve
    model = user_model(
        lambda x, p: p[0] / p[2] * np.exp(-0.5 * ((x - p[1]) / p[2]) ** 2) / np.sqrt(2 * np.pi),
        ["area", "mean", "width"], lower={"area": 0, "width": 0.1}, start=[3000, 18, 4],
    )  # fmt: skip
    again = scalar(counts, edges, model, edges=True, mask=mask)
    assert again.valid
    assert again.values == pytest.approx(mine.values, rel=2e-3)


def test_a_model_that_turns_negative_finds_its_way_back():
    x = np.linspace(0, 10, 21)
    counts = np.random.default_rng(8).poisson(2 + 3 * x)
    mine = scalar(counts, x, "polynomial1", start=[-20, 1])
    assert mine.valid
    assert mine.deviance == pytest.approx(fit_many(counts, x, "polynomial1").deviance[0], abs=1e-3)


def test_what_cannot_be_told_is_not_valid_and_says_so():
    mine = scalar(draw(9)[:40], X[:40], "photopeak", exposure=262.0)  # the edge is outside the scan
    assert not mine.valid
    assert "do not tell" in mine.message
    assert mine.message in repr(mine)


def test_result_shows_and_stores_itself():
    mine = scalar(draw(11), X, "photopeak", exposure=262.0, minos=True, shift=1430.0)
    text = json.dumps(mine.to_dict())
    stored = json.loads(text)
    assert stored["parameters"]["position"]["value"] == pytest.approx(mine.value("position"))
    assert 100 < mine.value("position") < 130
    assert stored["parameters"]["position"]["unit"] == "x"
    assert stored["valid"] is True
    assert "position = " in repr(mine)
    assert mine.minuit.nfcn > 0


def test_wrong_calls_are_refused():
    with pytest.raises(UsageError, match="3 channels"):
        scalar(np.ones((3, X.size)), X, "photopeak")
    with pytest.raises(InputError, match="no counts"):
        scalar(np.zeros(X.size), X, "photopeak")
    with pytest.raises(InputError, match="no point"):
        scalar(np.ones(X.size), X, "photopeak", mask=np.zeros(X.size, dtype=bool))
    with pytest.raises(UsageError, match="level"):
        scalar(draw(1), X, "photopeak", level=68)
    with pytest.raises(UsageError, match="unknown parameter 'positon'"):
        scalar(draw(1), X, "photopeak", fixed={"positon": 1})
    mine = scalar(draw(1), X, "photopeak", exposure=262.0)
    with pytest.raises(UsageError, match="unknown parameter"):
        mine.value("positon")
