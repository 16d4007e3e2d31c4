"""Continuous light: shifts of the baseline to rates, and back."""

from __future__ import annotations

import numpy as np
import pytest

from firstlight.detectors.digicam.continuous_light import (
    fit_exponentials,
    level_for_rate,
    rate_from_shift,
    shift_from_rate,
)
from firstlight.detectors.digicam.simulation.truth import Fault


@pytest.mark.parametrize("capacitance", [0.0, 50.0, 85.0])
def test_shift_and_rate_are_inverse(capacitance):
    rate = np.geomspace(0.1, 5000, 40)
    shift = shift_from_rate(rate, 5.1, 0.09, 17.97, 10e3, capacitance)
    assert rate_from_shift(shift, 5.1, 0.09, 17.97, 10e3, capacitance) == pytest.approx(rate, rel=1e-12)


def test_the_gain_falls_with_the_current():
    # 660 MHz through 10 kOhm and 85 fF: 1 / (1 + 0.66 / ns * 0.85 ns)
    full = shift_from_rate(660.0, 5.0, 0.08, 17.97)
    assert shift_from_rate(660.0, 5.0, 0.08, 17.97, 10e3, 85.0) == pytest.approx(full / (1 + 0.66 * 0.85))
    # the baseline cannot move further than to where the gain is gone
    most = 5.0 * 17.97 / 0.92 / 0.85
    assert np.isnan(rate_from_shift(1.01 * most, 5.0, 0.08, 17.97, 10e3, 85.0))


def test_exponentials_come_back_with_their_errors():
    rng = np.random.default_rng(1)
    level = np.arange(250, 400, 15.0)
    true = 3e-3 * np.exp(0.035 * level)
    error = np.broadcast_to(0.02 * true, (800, level.size))
    rate = rng.normal(true, error)
    found = fit_exponentials(level, rate, error, np.ones(rate.shape, dtype=bool))
    for name, value in (("slope", 0.035), ("rate_at_zero", 3e-3)):
        pull = (found[name] - value) / found[f"{name}_error"]
        # the logarithm of a rate known to 2 % is 0.02 % low: 0.03 errors of a point, more for ten of them together
        assert abs(pull.mean()) < 0.2
        assert 0.9 < pull.std() < 1.1
    assert found["chi2"].mean() == pytest.approx(8, abs=0.5)
    assert np.all(found["ndf"] == 8)
    back = level_for_rate(100.0, found["rate_at_zero"], found["slope"])
    assert np.median(back) == pytest.approx(np.log(100 / 3e-3) / 0.035, abs=0.05)
    none = fit_exponentials(level, rate[:1], error[:1], np.zeros((1, level.size), dtype=bool))
    assert np.isnan(none["slope"]).all()


def test_the_campaign_gives_the_rates_that_were_there(campaign):
    truth, run = campaign.truth, campaign.run
    sound = (truth.fault == int(Fault.NONE)) & run["calibration/pixels"].to_polars()["good"].to_numpy()
    table = run["dc/levels"].to_polars()
    for level in table["level"].unique().sort():
        own = table.filter(table["level"] == level).sort("channel")
        ratio = own["rate"].to_numpy()[sound] / truth.sky_rate(level)[sound]
        assert np.median(ratio) == pytest.approx(1, abs=0.015), level
        error = np.hypot(own["rate_error"].to_numpy(), own["scale_error"].to_numpy())
        pull = (own["rate"].to_numpy() - truth.sky_rate(level))[sound] / error[sound]
        assert 0.7 < np.std(pull) < 1.3
    sources = run["dc/pixels"].to_polars()
    assert np.median(sources["slope"].to_numpy()[sound] / truth.dc_slope[sound]) == pytest.approx(1, abs=0.03)
