"""The batched engine against simulated truth, MINUIT and scipy, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import ndtr

from firstlight.errors import InputError, UsageError
from firstlight.fit import FitResult, Model, Parameter, Rung, Status, fit_many, get_model
from firstlight.fit.blocks import unit_powers
from firstlight.fit.prototypes import curve_kernel, scalar_kernel, start_kernel
from firstlight.fit.result import unit_text


@curve_kernel
def _line_curve(x, p, constants, value, derivative):
    for i in range(value.size):
        value[i] = p[0] + p[1] * x[i]
        derivative[0, i] = 1.0
        derivative[1, i] = x[i]


@start_kernel
def _line_start(x, counts, exposure, constants, p):
    p[0] = np.sum(counts) / np.sum(exposure)
    p[1] = 0.0


@curve_kernel
def _hill_curve(x, p, constants, value, derivative):
    for i in range(value.size):
        z = (x[i] - p[1]) / p[2]
        value[i] = p[0] * math.exp(-0.5 * z * z)
        derivative[0, i] = math.exp(-0.5 * z * z)
        derivative[1, i] = value[i] * z / p[2]
        derivative[2, i] = value[i] * z * z / p[2]


@scalar_kernel
def _hill_scalar(x, p):
    z = (x - p[1]) / p[2]
    return p[0] * math.exp(-0.5 * z * z)


@start_kernel
def _hill_start(x, counts, exposure, constants, p):
    total = max(np.sum(counts), 1e-9)
    centre = np.sum(counts * x) / total
    p[0] = np.max(counts / exposure)
    p[1] = centre
    p[2] = math.sqrt(max(np.sum(counts * (x - centre) ** 2) / total, 1.0))


@curve_kernel
def _flat_curve(x, p, constants, value, derivative):
    """Two parameters of which only the sum matters."""
    for i in range(value.size):
        value[i] = p[0] + p[1]
        derivative[0, i] = 1.0
        derivative[1, i] = 1.0


@start_kernel
def _flat_start(x, counts, exposure, constants, p):
    p[0] = p[1] = 0.5 * np.sum(counts) / np.sum(exposure)


LINE = Model(
    "line",
    (Parameter("level", "at x = 0", "y"), Parameter("slope", "rise", "y/x")),
    curve=_line_curve,
    start=_line_start,
)
HILL_PARAMETERS = (
    Parameter("height", "at the top", "y", 0.0),
    Parameter("centre", "place of the top", "x"),
    Parameter("width", "standard deviation", "x", 1e-3),
)
HILL = Model("hill", HILL_PARAMETERS, curve=_hill_curve, start=_hill_start)
SCALAR_HILL = Model("scalar_hill", HILL_PARAMETERS, scalar=_hill_scalar, start=_hill_start)
FLAT = Model(
    "flat",
    (Parameter("one", "part", "y"), Parameter("other", "part", "y")),
    curve=_flat_curve,
    start=_flat_start,
)


def edge(x, amplitude, slope, position, width, background):
    """Return the curve of erfc_threshold, from its definition."""
    z = (x - np.asarray(position)[:, None]) / np.asarray(width)[:, None]
    tail, density = ndtr(-z), np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return amplitude * tail + slope * np.asarray(width)[:, None] * (density - z * tail) + background


def simulate_edges(seed, n_channels, plateau, n_points=60):
    rng = np.random.default_rng(seed)
    truth = {
        "amplitude": plateau,
        "slope": 0.003 * plateau,
        "position": rng.normal(70, 5, n_channels),
        "width": np.clip(rng.normal(8, 1, n_channels), 4, None),
        "background": plateau / 150,
    }
    x = np.arange(n_points) * 2.0
    return x, rng.poisson(edge(x, **truth)), truth


def hill(x, height, centre, width):
    return height * np.exp(-0.5 * ((x - centre) / width) ** 2)


def simulate_hills(seed, n_channels, height, n_points=40, step=1.0):
    rng = np.random.default_rng(seed)
    x = step * np.arange(n_points)
    truth = {"height": height, "centre": step * rng.normal(20, 2, n_channels), "width": 4.0 * step}
    return x, rng.poisson(hill(x, height, truth["centre"][:, None], 4.0 * step)), truth


FIELDS = (
    "values", "errors", "covariance", "at_bound", "fixed", "deviance", "ndf", "p_value", "status", "rung",
    "iterations", "start", "total",
)  # fmt: skip


def assert_same_bits(one: FitResult, other: FitResult) -> None:
    for name in FIELDS:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


# ---------------------------------------------------------------- truth


def assert_recovered(result, truth, skewness):
    """Pulls of width one, values without bias; errors that follow the values skew the pulls of few counts."""
    good = result.ok
    for name, pull in result.pulls(truth).items():
        n, error = good.sum(), np.median(result.error(name)[good])
        bias = np.mean((result.value(name) - truth[name])[good]) / error
        assert abs(bias) < 4 / math.sqrt(n) + 0.2 * skewness, name
        assert abs(np.mean(pull[good])) < 4 / math.sqrt(n) + skewness, name
        # the error of a standard deviation is 1 / sqrt(2 n)
        assert abs(np.std(pull[good]) - 1) < 4 / math.sqrt(2 * n) + 0.3 * skewness, name


@pytest.mark.parametrize(("plateau", "skewness"), [(60, 0.1), (600, 0.03)])
def test_edges_recover_truth(plateau, skewness):
    x, counts, truth = simulate_edges(11, 6000, plateau)
    result = fit_many(counts, x, "erfc_threshold", rescue=False)
    assert np.mean(result.status <= Status.at_bound) > 0.9995
    truth.pop("background")  # few counts decide it: 0.4 in each of some ten points
    assert_recovered(result, truth, skewness)
    assert abs(np.nanmean(result.p_value) - 0.5) < 4 * 0.29 / math.sqrt(6000) + 0.005


def test_deviance_of_many_counts_is_chi2():
    x, counts, _ = simulate_hills(12, 4000, 5000.0, n_points=25)
    counts, x = counts[:, 8:], x[8:]  # all points have many counts
    result = fit_many(counts, x, HILL)
    assert result.ok.all()
    assert (result.ndf == 14).all()
    assert abs(result.deviance.mean() - 14) < 4 * math.sqrt(28 / 4000)
    assert abs(result.deviance.var() / 28 - 1) < 0.12


def test_hills_recover_truth():
    x, counts, truth = simulate_hills(13, 6000, 100.0)
    result = fit_many(counts, x, HILL)
    assert result.ok.all()
    assert_recovered(result, truth, 0.05)


def test_bias_of_few_counts_is_that_of_maximum_likelihood():
    x, counts, _ = simulate_hills(14, 6000, 5.0)
    result = fit_many(counts, x, HILL)
    assert np.mean(result.ok) > 0.999
    # a standard deviation of N numbers about their own mean is low by 3 / (4 N), to first order
    number = 5.0 * 4.0 * math.sqrt(2 * math.pi)
    width, error = np.nanmean(result.value("width")), np.nanmean(result.error("width"))
    assert abs(width - 4 * (1 - 0.75 / number)) < 4 * error / math.sqrt(6000) + 4 / number**2


def test_photopeak_recovers_truth_of_a_scan():
    rng = np.random.default_rng(14)
    n = 4000
    x = 1480.0 + np.arange(121)
    truth = {
        "step": 0.45 * rng.uniform(0.2, 1, n), "slope": 0.004, "width": np.clip(rng.normal(4.5, 0.4, n), 3, None),
        "position": rng.normal(1540, 6, n),
    }  # fmt: skip
    rate = edge(x, truth["step"][:, None], truth["slope"], truth["position"], truth["width"], 0.0)
    result = fit_many(rng.poisson(262.1 * rate), x, "photopeak", exposure=262.1)
    assert np.mean(result.ok) > 0.999
    assert_recovered(result, truth, 0.08)


def test_binomial_edges_cover():
    rng = np.random.default_rng(15)
    x = np.arange(30.0)
    position, width = rng.normal(15, 2, 5000), rng.uniform(2, 4, 5000)
    counts = rng.binomial(50, ndtr((x - position[:, None]) / width[:, None]))
    result = fit_many(counts, x, "s_curve", exposure=50, estimator="binomial")
    assert result.ok.all()
    names = result.model.names
    for name, true in ((names[0], position), (names[1], width)):
        covered = np.abs(result.value(name) - true) < result.error(name)
        assert abs(covered.mean() - 0.6827) < 4 * math.sqrt(0.22 / 5000), name


def test_mean_number_of_iterations_is_small():
    x, counts, _ = simulate_edges(16, 2000, 60)
    assert fit_many(counts, x, "erfc_threshold", rescue=False).iterations.mean() < 5


# ---------------------------------------------------------------- other minimisers


def test_minima_are_those_of_minuit():
    from iminuit import Minuit

    x, counts, _ = simulate_edges(21, 300, 60)
    result = fit_many(counts, x, "erfc_threshold")
    model = get_model("erfc_threshold")
    differences = []
    for channel in range(300):
        n = counts[channel]
        value, derivative = np.empty(x.size), np.empty((5, x.size))

        def cost(p, n=n, value=value, derivative=derivative):
            model.curve(x, np.asarray(p, dtype=float), np.empty(0), value, derivative)
            if value.min() <= 0:
                return 1e9
            return 2 * np.sum(value - n + np.where(n > 0, n * np.log(np.maximum(n, 1) / value), 0.0))

        minuit = Minuit(cost, result.start[channel], name=model.names)
        minuit.limits = [(one.lower, one.upper) for one in model.parameters]
        minuit.errordef = 1
        minuit.strategy = 2
        minuit.migrad(ncall=5000)
        differences.append(result.deviance[channel] - minuit.fval)
        assert cost(result.values[channel]) == pytest.approx(result.deviance[channel], abs=1e-6)
    assert max(differences) < 1e-3  # never above MINUIT's minimum
    assert np.median(np.abs(differences)) < 1e-3


@pytest.mark.parametrize("model", [HILL, SCALAR_HILL])
def test_gaussian_and_unweighted_fits_are_those_of_scipy(model):
    rng = np.random.default_rng(22)
    x = np.arange(40.0)
    sigma = rng.uniform(0.5, 2, 40)
    counts = hill(x, 30.0, rng.normal(20, 2, (20, 1)), 4.0) + sigma * rng.standard_normal((20, 40))
    for estimator, given in (("gaussian", sigma), ("unweighted", None)):
        result = fit_many(counts, x, model, estimator=estimator, sigma=given, tolerance=1e-13)
        assert result.ok.all()
        for channel in range(20):
            values, covariance = curve_fit(
                hill,
                x,
                counts[channel],
                [30, 20, 4],
                given,
                absolute_sigma=given is not None,
                xtol=1e-12,
                ftol=1e-12,
            )
            np.testing.assert_allclose(result.values[channel], values, rtol=1e-5)
            scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
            np.testing.assert_allclose(result.covariance[channel] / scale, covariance / scale, atol=2e-4)
    assert np.isnan(result.p_value).all()


def test_numeric_derivatives_find_the_same_minimum():
    x, counts, _ = simulate_hills(23, 200, 30.0)
    one, other = fit_many(counts, x, HILL), fit_many(counts, x, SCALAR_HILL)
    np.testing.assert_allclose(one.deviance, other.deviance, atol=1e-5)
    np.testing.assert_allclose(one.errors, other.errors, rtol=1e-4)


# ---------------------------------------------------------------- the same bits


@pytest.mark.parametrize("rescue", [False, True])
def test_threads_do_not_change_a_bit(rescue):
    x, counts, _ = simulate_edges(31, 5000, 4)
    results = [fit_many(counts, x, "erfc_threshold", rescue=rescue, threads=n) for n in (1, 2, 3)]
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


def test_neighbours_do_not_change_a_bit():
    x, counts, _ = simulate_edges(32, 700, 8)
    counts[3] = 0
    mask = np.random.default_rng(32).random(counts.shape) > 0.1
    whole = fit_many(counts, x, "erfc_threshold", rescue=False, mask=mask)
    chosen = np.array([699, 5, 3, 4, 600])
    part = fit_many(counts[chosen], x, "erfc_threshold", rescue=False, mask=mask[chosen])
    for name in FIELDS:
        assert getattr(whole, name)[chosen].tobytes() == getattr(part, name).tobytes(), name


def test_type_of_counts_does_not_matter():
    x, counts, _ = simulate_hills(33, 20, 30.0)
    one = fit_many(counts, x, HILL)
    for dtype in (np.uint8, np.int32, np.float32, np.float64):
        assert_same_bits(one, fit_many(counts.astype(dtype), x, HILL))
    frozen = counts.astype(float)
    frozen.flags.writeable = False
    assert_same_bits(one, fit_many(frozen, x, HILL))


# ---------------------------------------------------------------- equivalent ways to say the same


def test_unit_of_x_does_not_matter():
    x, counts, _ = simulate_edges(41, 300, 60)
    one = fit_many(counts, x, "erfc_threshold", rescue=False)
    for factor in (0.38e-3, 4e6):
        other = fit_many(counts, x * factor, "erfc_threshold", rescue=False)
        np.testing.assert_allclose(other.deviance, one.deviance, atol=1e-4)
        np.testing.assert_allclose(other.value("position") / factor, one.value("position"), atol=0.02)
        assert (other.status == one.status).mean() > 0.995


def test_shift_is_a_shifted_x_and_x_may_belong_to_a_channel():
    x, counts, _ = simulate_hills(42, 50, 40.0)
    shift = np.random.default_rng(42).normal(0, 3, 50)
    one = fit_many(counts, x, HILL, shift=shift)
    other = fit_many(counts, x - shift[:, None], HILL)
    assert_same_bits(one, other)
    plain = fit_many(counts, x, HILL)
    np.testing.assert_allclose(one.value("centre") + shift, plain.value("centre"), atol=1e-2)
    np.testing.assert_allclose(one.deviance, plain.deviance, atol=1e-5)


def test_exposure_turns_counts_into_rates():
    x, counts, _ = simulate_hills(43, 50, 40.0)
    one, other = fit_many(counts, x, HILL), fit_many(counts, x, HILL, exposure=250.0)
    np.testing.assert_allclose(other.deviance, one.deviance, rtol=1e-8)
    np.testing.assert_allclose(250 * other.value("height"), one.value("height"), rtol=1e-6)
    np.testing.assert_allclose(250 * other.error("height"), one.error("height"), rtol=1e-5)
    # exposures of points: a point seen twice as long has twice the counts
    times = np.where(np.arange(x.size) % 2, 2.0, 1.0)
    rng = np.random.default_rng(44)
    truth = hill(x, 40.0, 20.0, 4.0)
    result = fit_many(rng.poisson(truth * times, (2000, x.size)), x, HILL, exposure=times)
    assert (
        abs(result.value("height").mean() / 40 - 1)
        < 4 * result.error("height").mean() / 40 / math.sqrt(2000) + 1e-3
    )


def test_mask_nan_and_no_exposure_leave_points_out():
    x, counts, _ = simulate_hills(45, 30, 40.0)
    used = np.ones(x.size, dtype=bool)
    used[[0, 17, 18, 39]] = False
    reference = fit_many(counts[:, used], x[used], HILL)
    spoiled = counts.astype(float)
    spoiled[:, ~used] = np.nan
    for result in (
        fit_many(counts, x, HILL, mask=used),
        fit_many(spoiled, x, HILL),
        fit_many(counts, x, HILL, exposure=used.astype(float)),
        fit_many(np.ma.array(counts, mask=np.broadcast_to(~used, counts.shape)), x, HILL),
    ):
        assert_same_bits(reference, result)
    assert (reference.ndf == 33).all()


def test_single_channel_may_be_one_row():
    x, counts, _ = simulate_hills(46, 1, 40.0)
    assert_same_bits(fit_many(counts[0], x, HILL), fit_many(counts, x, HILL))


# ---------------------------------------------------------------- bins


@pytest.mark.parametrize("model", ["gaussian", HILL, SCALAR_HILL])
def test_integrals_over_wide_bins_are_unbiased(model):
    rng = np.random.default_rng(51)
    edges = np.linspace(0, 40, 11)  # bins as wide as the peak
    counts = rng.poisson(2000 * np.diff(ndtr((edges - 20) / 4)), (400, 10))
    result = fit_many(counts, edges, model, edges=True)
    assert result.evaluation == "integrated over bins"
    assert result.ok.all()
    width, error = result.values[:, 2], result.errors[:, 2]
    assert abs(np.mean(width) - 4) < 4 * error.mean() / 20
    at_centres = fit_many(counts, 0.5 * (edges[1:] + edges[:-1]), model)
    assert np.mean(at_centres.values[:, 2]) > 4.1  # Sheppard: sqrt(16 + 16 / 12) = 4.16
    assert abs(result.p_value.mean() - 0.5) < 4 * 0.29 / 20


def test_masked_bins_are_left_out_of_integrals():
    rng = np.random.default_rng(52)
    edges = np.linspace(0, 40, 41)
    counts = rng.poisson(2000 * np.diff(ndtr((edges - 20) / 4)), (20, 40))
    mask = np.ones(40, dtype=bool)
    mask[[0, 5, 19, 20, 30]] = False
    results = [fit_many(counts, edges, model, edges=True, mask=mask) for model in ("gaussian", HILL)]
    assert (results[0].ndf == 32).all()
    np.testing.assert_allclose(results[0].deviance, results[1].deviance, atol=1e-4)
    np.testing.assert_allclose(results[0].errors[:, 1:], results[1].errors[:, 1:], rtol=1e-3)
    spoiled = counts.copy()
    spoiled[:, ~mask] = 10_000
    assert_same_bits(results[0], fit_many(spoiled, edges, "gaussian", edges=True, mask=mask))


# ---------------------------------------------------------------- bounds, fixed parameters, starts


def test_background_that_is_zero_ends_on_its_bound():
    rng = np.random.default_rng(61)
    x = np.arange(60.0)
    sigma = 1.0
    truth = 20 * np.exp(-x / 8)
    counts = truth + sigma * rng.standard_normal((4000, 60))
    model = Model(
        "hill_on_floor",
        (*HILL_PARAMETERS[:1], Parameter("floor", "constant", "y", 0.0)),
        curve=_falling,
        start=_falling_start,
    )
    result = fit_many(counts, x, model, estimator="gaussian", sigma=sigma)
    bound = result.at_bound[:, 1]
    # values within 0.05 errors of the bound count as on it: Phi(0.05) = 0.52
    assert abs(bound.mean() - 0.52) < 4 * 0.5 / math.sqrt(4000)
    assert (result.status[bound] == Status.at_bound).all()
    assert result.ok[~bound].all()
    assert np.isnan(result.errors[bound, 1]).all()
    assert np.isnan(result.covariance[bound][:, 0, 1]).all()
    pull = (result.values[bound, 0] - 20) / result.errors[bound, 0]
    assert np.isfinite(pull).all()
    # given that it is on its bound, the deviance has a degree of freedom more
    assert abs(result.deviance[bound].mean() - 59) < 4 * math.sqrt(2 * 59 / bound.sum())
    assert (result.ndf[bound] == 59).all()
    assert (result.ndf[~bound] == 58).all()


@curve_kernel
def _falling(x, p, constants, value, derivative):
    for i in range(value.size):
        derivative[0, i] = math.exp(-x[i] / 8)
        derivative[1, i] = 1.0
        value[i] = p[0] * derivative[0, i] + p[1]


@start_kernel
def _falling_start(x, counts, exposure, constants, p):
    p[0], p[1] = 10.0, 1.0


def test_bounds_are_kept_and_replace_those_of_the_model():
    x, counts, _ = simulate_hills(62, 200, 40.0)
    result = fit_many(counts, x, HILL, bounds={"width": (5.0, 6.0)})
    assert result.values[:, 2].min() >= 5
    low = result.values[:, 2] == 5.0
    assert low.mean() > 0.95
    assert (result.status[low] == Status.at_bound).all()
    free = fit_many(counts, x, HILL, bounds={"width": (-np.inf, np.inf)})
    np.testing.assert_allclose(free.deviance, fit_many(counts, x, HILL).deviance, atol=1e-6)


def test_start_values_outside_the_bounds_are_moved_inside():
    x, counts, _ = simulate_hills(63, 20, 40.0)
    result = fit_many(counts, x, HILL, start=[30, 20, -7.0], max_iterations=0)
    assert (result.start[:, 2] == 1e-3).all()


def test_fixed_parameters_may_differ_between_channels():
    x, counts, truth = simulate_hills(64, 300, 40.0)
    result = fit_many(counts, x, HILL, fixed={"centre": truth["centre"], "width": 4.0})
    assert result.fixed.tolist() == [[False, True, True]] * 300
    np.testing.assert_array_equal(result.value("centre"), truth["centre"])
    assert np.isnan(result.errors[:, 1:]).all()
    assert (result.ndf == 39).all()
    # the height alone: its maximum likelihood is known
    shape = hill(x, 1.0, truth["centre"][:, None], 4.0).sum(axis=1)
    np.testing.assert_allclose(result.value("height"), counts.sum(axis=1) / shape, rtol=1e-3)
    np.testing.assert_allclose(result.error("height"), np.sqrt(counts.sum(axis=1)) / shape, rtol=1e-3)
    everything = fit_many(counts, x, HILL, fixed={"height": 40.0, "centre": truth["centre"], "width": 4.0})
    assert everything.ok.all()
    assert (everything.ndf == 40).all()
    unknown = truth["centre"].copy()
    unknown[7] = np.nan
    assert fit_many(counts, x, HILL, fixed={"centre": unknown}).status[7] == Status.no_data


def test_steps_that_make_a_rate_negative_are_not_taken():
    rng = np.random.default_rng(65)
    x = np.arange(30.0)
    counts = rng.poisson(np.maximum(1.5 - 0.05 * x, 0.02), (500, 30))
    result = fit_many(counts, x, LINE, rescue=False)
    assert np.isfinite(result.deviance).all()
    lowest = result.expected().min(axis=1)
    assert lowest.min() > -1e-8
    # a minimum where the rate becomes negative is none: it is not called one
    touching = lowest < 1e-6
    assert 0.3 < touching.mean() < 0.7
    assert result.ok[~touching].mean() > 0.98
    assert result.ok[touching].mean() < 0.02


# ---------------------------------------------------------------- channels with little to say


def test_odd_channels_have_honest_statuses():
    x, counts, _ = simulate_edges(71, 10, 40)
    odd = counts.astype(float)
    odd[0] = 0
    odd[1] = np.nan
    odd[2] = 0
    odd[2, 30] = 1
    odd[3] = 25
    odd[4] = 63
    odd[5, :58] = np.nan
    result = fit_many(odd, x, "erfc_threshold")
    assert result.status[0] == result.status[1] == Status.no_data
    assert np.isnan(result.values[:2]).all()
    assert (result.status[2:6] >= Status.at_bound).all()
    assert result.status[5] in (Status.not_constrained, Status.no_data)
    assert (result.status[6:] <= Status.at_bound).all()
    # no position comes with a number for an error where there is no edge
    for channel in (3, 4):
        assert not result.error("position")[channel] < 118
    assert result.total[2] == 1
    assert result.total[0] == 0


def test_saturated_binomial_channels_are_not_constrained():
    x = np.arange(20.0)
    counts = np.full((3, 20), 50)
    counts[1] = 0
    counts[2, :10] = 0
    result = fit_many(counts, x, "s_curve", exposure=50, estimator="binomial")
    assert result.status[0] in (Status.not_constrained, Status.at_bound, Status.failed)
    assert result.status[1] == Status.no_data
    assert abs(result.values[2, 0] - 9.5) < 0.5  # between the two points, nowhere in particular


def test_degenerate_parameters_are_not_constrained():
    counts = np.random.default_rng(72).poisson(10, (5, 20))
    result = fit_many(counts, np.arange(20.0), FLAT)
    assert (result.status == Status.not_constrained).all()
    assert np.isnan(result.errors).all()
    np.testing.assert_allclose(result.values.sum(axis=1), counts.mean(axis=1), rtol=1e-3)


def test_fewer_points_than_parameters_are_not_constrained():
    result = fit_many([[5, 9]], [1.0, 2.0], HILL)
    assert result.status[0] != Status.ok


def test_channel_without_a_shift_has_no_data():
    x, counts, _ = simulate_hills(73, 3, 40.0)
    result = fit_many(counts, x, HILL, shift=[0.0, np.nan, 0.0])
    assert result.status.tolist() == [0, Status.no_data, 0]


def test_start_that_is_no_number_fails_and_says_so():
    x, counts, _ = simulate_hills(74, 3, 40.0)
    result = fit_many(counts, x, HILL, start=[np.nan, 20, 4], rescue=False)
    assert (result.status == Status.failed).all()
    assert np.isnan(result.values).all()


def test_too_few_iterations_are_reported():
    x, counts, _ = simulate_hills(75, 5, 40.0)
    result = fit_many(counts, x, HILL, start=[10, 15, 8], max_iterations=1, rescue=False)
    assert (result.status == Status.max_iter).all()
    assert (result.iterations == 1).all()


# ---------------------------------------------------------------- what comes back


def test_result_explains_itself():
    x, counts, truth = simulate_hills(81, 40, 40.0)
    counts[0] = 0
    result = fit_many(counts, x, HILL, exposure=2.0)
    assert repr(result) == "FitResult(hill, 40 channels, poisson, at bin centres: 39 ok, 1 no_data)"
    assert len(result) == 40
    assert result.ok.sum() == 39
    np.testing.assert_array_equal(result.value("centre"), result.values[:, 1])
    expected = result.expected()
    assert expected.shape == counts.shape
    assert np.isnan(expected[0]).all()
    np.testing.assert_allclose(expected[1], 2 * hill(x, *result.values[1]))
    np.testing.assert_array_equal(result.expected([3, 1]), expected[[3, 1]])
    with pytest.raises(UsageError, match="did you mean 'centre'"):
        result.value("center")
    with pytest.raises(UsageError, match="unknown parameter"):
        result.pulls({"nothing": 1.0})
    assert set(result.pulls({"centre": truth["centre"]})) == {"centre"}


def test_table_has_units_and_nulls():
    x, counts, _ = simulate_hills(82, 10, 40.0)
    counts[4] = 0
    result = fit_many(counts, x, HILL)
    table = result.table(x_unit="DAC", y_unit="hits/s")
    table.schema.validate(table.frame)
    assert table.schema.column("height_error").unit == "hits/s"
    assert table.schema.column("centre").unit == "DAC"
    frame = result.to_polars()
    assert frame.columns[:4] == ["channel", "height", "height_error", "centre"]
    assert frame["status"].to_list() == ["ok"] * 4 + ["no_data"] + ["ok"] * 5
    assert frame["height"][4] is None
    assert frame["rung"].unique().to_list() == ["own"]
    block = result.covariance_block()
    np.testing.assert_array_equal(
        block.select(parameter="height", other_parameter="width"), result.covariance[:, 0, 2]
    )


@pytest.mark.parametrize(
    ("unit", "powers", "text"),
    [("y", (1, 0), "hits/s"), ("x", (0, 1), "DAC"), ("y/x", (1, -1), "hits/s/DAC"), ("", (0, 0), ""),
     ("1/x", (0, -1), "1/DAC"), ("y/x^2", (1, -2), "hits/s/DAC^2")],
)  # fmt: skip
def test_units_of_parameters(unit, powers, text):
    assert unit_powers(unit) == powers
    assert unit_text(unit, "DAC", "hits/s") == text


def test_progress_is_told_of_every_channel():
    x, counts, _ = simulate_hills(83, 4500, 40.0)
    told = []
    fit_many(counts, x, HILL, threads=2, progress=told.append)
    assert sum(told) == 4500
    assert len(told) > 1


# ---------------------------------------------------------------- wrong inputs


X = np.arange(5.0)
COUNTS = np.ones((3, 5))


@pytest.mark.parametrize(
    ("counts", "x", "options", "error", "words"),
    [
        (np.ones((2, 3, 4)), X, {}, InputError, "one row a channel"),
        (np.array([["a"] * 5]), X, {}, InputError, "not numbers"),
        (COUNTS, X[:4], {}, InputError, r"must be \(5,\) or \(3, 5\)"),
        (COUNTS, X, {"edges": True}, InputError, "one more edge"),
        (COUNTS, [0, 1, 2, 2, 3, 4], {"edges": True}, InputError, "do not increase"),
        (-COUNTS, X, {}, InputError, "channel 0, point 0"),
        (COUNTS, X, {"estimator": "binomial", "exposure": 0.5}, InputError, "more than the trials"),
        (COUNTS, X, {"estimator": "poison"}, UsageError, "did you mean 'poisson'"),
        (COUNTS, X, {"estimator": "gaussian"}, UsageError, "needs sigma"),
        (COUNTS, X, {"sigma": 1.0}, UsageError, "has no meaning"),
        (COUNTS, X, {"estimator": "gaussian", "sigma": [1, 1, 0, 1, 1]}, InputError, "must be positive"),
        (COUNTS, X, {"exposure": -1.0}, InputError, "negative"),
        (COUNTS, X, {"exposure": np.ones(4)}, InputError, r"shape \(4,\)"),
        (COUNTS, X, {"mask": np.ones(5)}, InputError, "not bool"),
        (COUNTS, X, {"mask": np.ones(4, dtype=bool)}, InputError, "mask has the shape"),
        (COUNTS, X, {"shift": np.ones(4)}, InputError, "shift has the shape"),
        (COUNTS, X, {"fixed": {"widht": 1.0}}, UsageError, "did you mean 'width'"),
        (COUNTS, X, {"fixed": {"width": np.ones(4)}}, InputError, "fixed width"),
        (COUNTS, X, {"bounds": {"width": (2.0, 1.0)}}, UsageError, "low before high"),
        (COUNTS, X, {"bounds": {"width": (2.0, 2.0)}}, UsageError, "keeps it at one value"),
        (COUNTS, X, {"bounds": {"hieght": (0, 1)}}, UsageError, "did you mean 'height'"),
        (COUNTS, X, {"start": [1.0, 2.0]}, InputError, "start has the shape"),
        (COUNTS, X, {"threads": 0}, UsageError, "at least 1"),
        (COUNTS, X, {"tolerance": 0.0}, UsageError, "must be positive"),
    ],
)
def test_wrong_inputs_are_named(counts, x, options, error, words):
    with pytest.raises(error, match=words):
        fit_many(counts, x, HILL, **options)


def test_unknown_model_and_missing_start_are_named():
    with pytest.raises(UsageError, match="unknown model"):
        fit_many(COUNTS, X, "erfc_treshold")
    lonely = Model("lonely", HILL_PARAMETERS, curve=_hill_curve)
    with pytest.raises(UsageError, match=r"start=\[height, centre, width\]"):
        fit_many(COUNTS, X, lonely)


def test_negative_counts_that_are_masked_do_no_harm():
    counts = COUNTS.copy()
    counts[1, 2] = -1
    mask = counts >= 0
    assert len(fit_many(counts, X, HILL, mask=mask)) == 3


def test_no_channels_give_an_empty_result():
    result = fit_many(np.zeros((0, 5)), X, HILL)
    assert len(result) == 0
    assert result.to_polars().height == 0
    assert Rung.own == 0
