"""Light against level: always monotone, its inverse the inverse, its errors honest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from firstlight.detectors.digicam.light_curve import curves_of, fit_light_curves, fit_polynomials
from firstlight.detectors.digicam.simulation.truth import Fault
from firstlight.errors import InputError

LEVEL = np.arange(0, 500, 50.0)


def truth(level):
    return 0.02 * np.exp(np.asarray(level) / 60) / (1 + np.exp((np.asarray(level) - 420) / 60))


def noisy(seed, n_pixels=400):
    rng = np.random.default_rng(seed)
    light = truth(LEVEL)
    error = 0.02 * np.sqrt(light + 0.02)
    return (
        rng.normal(light, error, (n_pixels, LEVEL.size)),
        np.broadcast_to(error, (n_pixels, LEVEL.size)),
        error,
    )


def test_curves_rise_whatever_the_noise():
    light, error, _ = noisy(1)
    # more noise than signal at the low levels
    curves = fit_light_curves(LEVEL, light + 0.05 * np.sin(np.arange(400))[:, None], error)
    fine = curves.light_at(np.linspace(0, 450, 700))
    assert np.all(np.diff(fine, axis=1) >= -1e-12)
    assert np.all(np.isfinite(fine))
    assert np.all(np.isnan(curves.light_at([-1.0, 451.0])))


@pytest.mark.parametrize("wanted", [0.1, 1.0, 5.0, 12.0])
def test_the_inverse_is_the_inverse(wanted):
    light, error, _ = noisy(2)
    curves = fit_light_curves(LEVEL, light, error)
    level, size = curves.level_for(wanted)
    back = np.array([curves.light_at(level[pixel])[pixel, 0] for pixel in range(0, 400, 7)])
    assert back == pytest.approx(wanted, rel=1e-9)
    assert np.all(size > 0)
    again, _ = curves.level_for(float(curves.light_at([210.0])[5, 0]))
    assert again[5] == pytest.approx(210.0, abs=1e-9)


def test_levels_for_some_light_have_the_errors_they_say():
    light, error, _ = noisy(3, 2000)
    curves = fit_light_curves(LEVEL, light, error)
    at_point = float(truth(250.0))
    level, size = curves.level_for(at_point)
    pull = (level - 250.0) / size
    assert abs(pull.mean()) < 4 / np.sqrt(2000)
    assert 0.93 < pull.std() < 1.07


def test_all_pixels_at_once_are_those_of_scipy_one_by_one():
    rng = np.random.default_rng(9)
    light, error, _ = noisy(9, 200)
    usable = rng.random(light.shape) > 0.3
    usable[0] = False
    usable[1, 1:] = False
    usable[2, 2:] = False
    curves = fit_light_curves(LEVEL, light, error, usable=usable, minimum_light=0.01)
    grid = np.linspace(-20, 470, 333)
    many = curves.light_at(grid)
    level, _ = curves.level_for(1.5)
    for pixel in range(200):
        own = curves.used[pixel]
        if np.count_nonzero(own) < 2:
            assert np.isnan(many[pixel]).all()
            assert np.isnan(level[pixel])
            continue
        y = np.log(curves.light[pixel, own] + 0.05)
        curve = PchipInterpolator(LEVEL[own], y, extrapolate=False)
        np.testing.assert_allclose(many[pixel], np.exp(curve(grid)) - 0.05, rtol=1e-10, atol=1e-12)
        reached = curve(curve.x[0]) <= np.log(1.55) <= curve(curve.x[-1])
        assert np.isfinite(level[pixel]) == reached
        if reached:
            assert float(curve(level[pixel])) == pytest.approx(np.log(1.55), abs=1e-12)


def test_where_the_curve_is_level_the_middle_is_taken():
    light = np.array([[0.1, 1.0, 2.0, 2.0, 2.0, 8.0]])
    level, error = fit_light_curves(np.arange(6.0), light, np.full(light.shape, 0.01)).level_for(2.0)
    assert level[0] == pytest.approx(3.0, abs=1e-6)
    assert np.isnan(error[0])


def test_light_that_is_not_reached_has_no_level():
    light, error, _ = noisy(4, 20)
    level, size = fit_light_curves(LEVEL, light, error).level_for(1e4)
    assert np.isnan(level).all()
    assert np.isnan(size).all()


def test_pixels_are_named_for_what_is_wrong_with_them():
    light, error, _ = noisy(5, 6)
    light[1] = 0.01
    light[2] = np.nan
    light[3, 1:] = np.nan
    light[4, 6] = 0.1
    usable = np.ones(light.shape, dtype=bool)
    usable[5, 8:] = False
    curves = fit_light_curves(LEVEL, light, error, usable=usable)
    assert curves.status.tolist()[:5] == ["ok", "unlit", "few points", "unlit", "not monotone"]
    assert curves.falls_at[4] == LEVEL[5]
    assert curves.used[5].sum() == 8
    # a point too low pulls the curve down, it stays monotone
    assert np.all(np.diff(curves.light[4]) >= 0)


def test_points_without_an_error_do_not_rule_the_curve():
    light, error, _ = noisy(6, 3)
    error = error.copy()
    light[:, 0], error[:, 0] = 0.0, np.nan
    curves = fit_light_curves(LEVEL, light, error)
    assert curves.light[:, 0] == pytest.approx(0.0, abs=0.02)


def test_arrays_that_do_not_fit_are_refused():
    light, error, _ = noisy(7, 3)
    with pytest.raises(InputError, match="shapes"):
        fit_light_curves(LEVEL[1:], light, error)
    with pytest.raises(InputError, match="do not rise"):
        fit_light_curves(LEVEL[::-1], light, error)


def test_polynomials_have_value_error_and_covariance():
    rng = np.random.default_rng(8)
    coefficients = np.array([2e-9, -1e-6, 3e-4, 0.01, 0.5])
    light = np.polyval(coefficients, LEVEL)
    error = np.full((500, LEVEL.size), 0.05)
    found = fit_polynomials(
        LEVEL, rng.normal(light, 0.05, (500, LEVEL.size)), error, np.ones((500, LEVEL.size), bool)
    )
    assert found.shape == (500, 5, 7)
    for place in range(5):
        pull = (found[:, place, 0] - coefficients[place]) / found[:, place, 1]
        assert abs(pull.mean()) < 4 / np.sqrt(500)
        assert 0.87 < pull.std() < 1.13
    assert found[0, :, 1] ** 2 == pytest.approx(np.diag(found[0, :, 2:]))
    few = fit_polynomials(LEVEL[:4], light[None, :4], error[:1, :4], np.ones((1, 4), bool))
    assert np.isnan(few).all()


def test_the_campaign_gives_the_light_that_was_sent(campaign):
    truth_, run = campaign.truth, campaign.run
    curves = curves_of(run["levels/light"].value)
    sound = truth_.fault == int(Fault.NONE)
    table = run["led/curves"].to_polars()
    assert set(table["status"].to_numpy()[sound]) == {"ok"}
    unlit = (truth_.fault == int(Fault.DEAD)) | (truth_.fault == int(Fault.NO_VOLTAGE))
    assert set(table["status"].to_numpy()[unlit]) <= {"unlit", "few points"}
    for level in (250.0, 330.0):
        ratio = curves.light_at(level)[sound, 0] / truth_.light(level)[sound]
        assert np.median(ratio) == pytest.approx(1, abs=0.01)
