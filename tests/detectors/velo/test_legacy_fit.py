"""Legacy mode gives what an independent implementation of the original's fit gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from firstlight.detectors.velo.channels import N_PIXELS
from firstlight.detectors.velo.fitting import fit_pixels
from firstlight.detectors.velo.legacy_fit import legacy_fit_type
from firstlight.detectors.velo.models import EQUATIONS, equation
from firstlight.detectors.velo.options import FitParameters
from firstlight.detectors.velo.simulate import simulate_counts, truth_of

_place = Path(__file__).with_name("reference.py")
_spec = importlib.util.spec_from_file_location("velo_reference", _place)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

START = (0.0009, 8.0, 12.0, 1551.0)


@pytest.fixture(scope="module")
def scan():
    truth = truth_of(11)
    thresholds = np.arange(1480, 1601)
    live_time = np.full(121, 262.1)
    counts = simulate_counts(truth, thresholds, acquisitions=100, shutter_time=2.621, seed=11)
    return truth, thresholds.astype(float), live_time, counts.reshape(121, -1)


def test_same_fit_types_as_the_original(scan):
    _, thresholds, live_time, counts = scan
    chosen = np.sort(np.random.default_rng(3).choice(N_PIXELS, 2000, replace=False))
    use = np.zeros(N_PIXELS, dtype=bool)
    use[chosen] = True
    parameters = FitParameters(model="legacy", estimator="legacy", start=START)
    fits = fit_pixels(counts, thresholds, live_time, use, parameters)
    ours = legacy_fit_type(fits.values, fits.deviance, fits.ndf, fits.status)
    theirs, position = np.empty(chosen.size, dtype=int), np.full(chosen.size, np.nan)
    for index, pixel in enumerate(chosen):
        theirs[index], values, _ = reference.fit_pixel(counts[:, pixel], thresholds, live_time, START)
        if values is not None:
            position[index] = values[3]
    assert set(np.unique(theirs)) >= {0, 1}
    assert np.mean(ours[chosen] == theirs) >= 0.995
    both = (theirs == 1) & (ours[chosen] == 1)
    assert both.sum() > 100
    assert np.abs(fits.value("E0")[chosen][both] - position[both]).max() < 1e-3


@pytest.mark.parametrize("name", sorted(EQUATIONS))
def test_start_values_and_reports_are_inverse(name):
    wanted = equation(name)
    reported = {"f": 0.02, "A": 7.0, "B": 5.0, "s": 6.0, "s2": 8.0, "E0": 1550.0, "step": 0.4, "slope": 0.01,
                "width": 5.0, "position": 1550.0, "background": 0.001}  # fmt: skip
    given = np.array([reported[parameter] for parameter in wanted.reported])
    fitted = wanted.starts(given)
    covariance = np.diag((0.01 * np.abs(fitted)) ** 2)[None]
    values, errors = wanted.report(fitted[None], covariance)
    np.testing.assert_allclose(values[0], given, rtol=1e-12)
    # the delta method against the differences of the report itself
    jacobian = np.empty((given.size, given.size))
    for index in range(given.size):
        step = np.zeros(given.size)
        step[index] = 1e-6 * fitted[index]
        up, down = (wanted.report((fitted + sign * step)[None], covariance)[0][0] for sign in (1, -1))
        jacobian[:, index] = (up - down) / (2 * step[index])
    np.testing.assert_allclose(errors[0], np.sqrt(np.diag(jacobian @ covariance[0] @ jacobian.T)), rtol=1e-5)


def test_default_equation_is_that_of_the_original():
    from firstlight.fit.model import get_model  # noqa: F401

    wanted = equation("legacy")
    thresholds = np.linspace(1480.0, 1600.0, 25)
    value, derivative = np.empty(25), np.empty((4, 25))
    wanted.model.curve(thresholds, wanted.starts(START), np.array(wanted.model.constants), value, derivative)
    np.testing.assert_allclose(value, reference.flux_equation(thresholds, *START), rtol=1e-12)


@pytest.mark.parametrize("name", ["legacy", "legacy_no_term0", "legacy_two_widths", "legacy_timepix"])
def test_derivatives(name):
    from firstlight.detectors.velo.models import LEGACY

    model = LEGACY[name]
    p = np.array([0.01, 0.3, 5.0, 7.0, 1550.0])
    if len(model) == 4:
        p = np.delete(p, 3)
    x = np.linspace(1480.0, 1600.0, 41)
    constants = np.array(model.constants)

    def curve(at):
        value, derivative = np.empty(x.size), np.empty((len(model), x.size))
        model.curve(x, at, constants, value, derivative)
        return value, derivative

    _, analytic = curve(p)
    for index in range(len(model)):
        step = np.zeros(p.size)
        step[index] = 1e-5 * p[index]
        numeric = (curve(p + step)[0] - curve(p - step)[0]) / (2 * step[index])
        np.testing.assert_allclose(analytic[index], numeric, rtol=1e-5, atol=1e-6 * np.abs(numeric).max())
