"""Models: values against scipy, derivatives against differences, integrals against quadrature, start values against truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import special as reference

from firstlight.errors import UsageError
from firstlight.fit.model import get_model, model_names
from firstlight.fit.models.comb import make_gaussian_comb
from firstlight.fit.models.photopeak_lines import make_photopeak_lines
from firstlight.fit.models.polynomial import make_polynomial
from firstlight.fit.special import normal_integrals, normal_tail, tail_between


def curve(model, x, p):
    """Return value (n,) and derivative (n_parameters, n) at points."""
    x, p = np.ascontiguousarray(x, dtype=float), np.array(p, dtype=float)
    value, derivative = np.full(x.size, np.nan), np.full((len(model), x.size), np.nan)
    model.curve(x, p, np.array(model.constants), value, derivative)
    return value, derivative


def integral(model, edges, p):
    """Return the same over bins."""
    edges, p = np.ascontiguousarray(edges, dtype=float), np.array(p, dtype=float)
    value, derivative = np.full(edges.size - 1, np.nan), np.full((len(model), edges.size - 1), np.nan)
    model.integral(edges, p, np.array(model.constants), value, derivative)
    return value, derivative


def start_of(model, x, counts, exposure=None):
    x = np.ascontiguousarray(x, dtype=float)
    exposure = np.ones(x.size) if exposure is None else np.ascontiguousarray(exposure, dtype=float)
    p = np.full(len(model), np.nan)
    model.start(x, np.ascontiguousarray(counts, dtype=float), exposure, np.array(model.constants), p)
    return p


def tail(z):
    return reference.erfc(z / np.sqrt(2)) / 2


def density(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


# ---------------------------------------------------------------- special functions


def each(x):
    return np.array([normal_integrals(value) for value in x]).T


def test_special_functions_are_those_of_scipy():
    x = np.random.default_rng(1).uniform(-12, 12, 20_000)
    g, q, phi = each(x)
    assert np.abs(q - tail(x)).max() < 1e-13
    assert np.abs(phi - density(x)).max() < 4e-11
    # the direct formula for G cancels above 2
    low = x < 2
    assert np.abs(g - (density(x) - x * tail(x)))[low].max() < 5e-15


@pytest.mark.parametrize(("x", "of_g", "of_q", "of_phi"), [(5, 1e-11, 2e-10, 2e-8), (8, 1e-10, 3e-9, 2e-7)])
def test_tail_is_right_to_the_documented_digits(x, of_g, of_q, of_phi):
    near = np.linspace(x - 0.5, x, 3001)
    g, q, phi = each(near)
    # i1erfc: repeated integral of erfc, without cancellation through the scaled function
    scaled = reference.erfcx(near / np.sqrt(2))
    true_g = density(near) * (1 - near * np.sqrt(np.pi / 2) * scaled)
    assert np.abs(g / true_g - 1).max() < of_g
    assert np.abs(q / tail(near) - 1).max() < of_q
    assert np.abs(phi / density(near) - 1).max() < of_phi


def test_tail_is_positive_and_falls_as_far_as_numbers_reach():
    x = np.linspace(-40, 37, 20_001)
    g, q, phi = each(x)
    assert (g > 0).all()
    assert (q > 0).all()
    assert (phi > 0).all()
    assert (np.diff(g) <= 0).all()
    assert (np.diff(q) <= 0).all()


def test_a_million_counts_on_a_plateau_are_right():
    x = np.random.default_rng(2).uniform(-8, 8, 5000)
    assert np.abs(1e6 * (each(x)[1] - tail(x))).max() < 1e-7


def test_limits_and_what_is_no_number():
    assert normal_tail(np.inf)[0] < 1e-299
    assert normal_tail(-np.inf)[0] == 1
    assert normal_integrals(-1e6)[0] == pytest.approx(1e6, rel=1e-15)
    assert np.isnan(normal_integrals(np.nan)).all()


def test_derivatives_are_those_of_the_table_itself():
    x, h = np.random.default_rng(3).uniform(-6, 6, 2000), 1e-5
    up, down, here = each(x + h), each(x - h), each(x)
    assert np.abs((up[0] - down[0]) / (2 * h) + here[1]).max() < 1e-9
    assert np.abs((up[1] - down[1]) / (2 * h) + here[2]).max() < 1e-9


def test_probability_between_points_keeps_its_digits_in_both_tails():
    for low, high in [(6.0, 6.5), (-6.5, -6.0), (-1.0, 2.0), (0.0, 1.0), (-1.0, 0.0)]:
        true = tail(low) - tail(high) if low >= 0 else tail(-high) - tail(-low)
        here = tail_between(low, normal_tail(abs(low))[0], high, normal_tail(abs(high))[0])
        assert here == pytest.approx(true, rel=1e-8)


# ---------------------------------------------------------------- values, derivatives, integrals


@dataclass(frozen=True)
class Case:
    """A model with the ranges from which parameters are drawn."""

    model: object
    low: tuple
    high: tuple
    x: np.ndarray

    def draw(self, rng):
        return rng.uniform(self.low, self.high)


SCAN = np.linspace(1480, 1600, 49)
CASES = {
    "erfc_threshold": Case(get_model("erfc_threshold"), (10, -0.1, 1500, 3, 0), (90, 0.5, 1580, 12, 3), SCAN),
    "photopeak": Case(get_model("photopeak"), (0.05, 0.001, 3, 1470), (1, 0.02, 6, 1610), SCAN),
    "photopeak_background": Case(
        get_model("photopeak_background"), (0.05, 0.001, 3, 1490, 0.01), (1, 0.02, 6, 1590, 0.1), SCAN
    ),
    "photopeak_lines": Case(
        make_photopeak_lines([5.895, 6.49], [0.88, 0.12]), (0.05, 0.001, 3, 80), (1, 0.02, 6, 140), SCAN - 1430
    ),
    "s_curve": Case(get_model("s_curve"), (1490, 2), (1590, 8), SCAN),
    "s_curve_falling": Case(get_model("s_curve_falling"), (1490, 2), (1590, 8), SCAN),
    "s_curve_floor": Case(get_model("s_curve_floor"), (1490, 2, 0, 0.8), (1590, 8, 0.2, 1), SCAN),
    "s_curve_floor_falling": Case(get_model("s_curve_floor_falling"), (1490, 2, 0, 0.8), (1590, 8, 0.2, 1), SCAN),
    "gaussian": Case(get_model("gaussian"), (10, 1500, 3), (900, 1580, 15), SCAN),
    "gaussian_background": Case(get_model("gaussian_background"), (10, 1500, 3, 1), (900, 1580, 15, 9), SCAN),
    "gaussian_comb3": Case(
        get_model("gaussian_comb3"), (1490, 12, 2, 0.5, 5, 5, 5), (1510, 25, 4, 2, 90, 90, 90), SCAN
    ),
    "exponential": Case(get_model("exponential").with_constants([1540.0]), (1, -0.05), (90, 0.05), SCAN),
    "polynomial3": Case(make_polynomial(3, centre=1540, scale=60), (1, -2, -2, -2), (9, 2, 2, 2), SCAN),
    "polynomial5": Case(make_polynomial(5, centre=1540, scale=60), (1, *[-2] * 5), (9, *[2] * 5), SCAN),
}  # fmt: skip
INTEGRATED = [name for name, case in CASES.items() if case.model.integral is not None]


def differences(function, model, x, p):
    """Return derivatives by central differences of fourth order, steps fitted to the scale of each parameter."""
    rows = []
    for k in range(len(model)):
        unit = model.parameters[k].unit
        step = 1e-3 if unit == "x" else 1e-4 * max(abs(p[k]), 1e-3)
        value = {}
        for s in (-2, -1, 1, 2):
            moved = np.array(p)
            moved[k] += s * step
            value[s] = function(model, x, moved)[0]
        rows.append((value[-2] - 8 * value[-1] + 8 * value[1] - value[2]) / (12 * step))
    return np.array(rows)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_agree_with_differences(name):
    case, rng = CASES[name], np.random.default_rng(11)
    for _ in range(10):
        p = case.draw(rng)
        _, derivative = curve(case.model, case.x, p)
        scale = np.abs(derivative).max(axis=1, keepdims=True)
        assert np.all(np.abs(derivative - differences(curve, case.model, case.x, p)) < 1e-6 * scale)


@pytest.mark.parametrize("name", INTEGRATED)
def test_derivatives_of_integrals_agree_with_differences(name):
    case, rng = CASES[name], np.random.default_rng(12)
    for _ in range(10):
        p = case.draw(rng)
        _, derivative = integral(case.model, case.x, p)
        scale = np.abs(derivative).max(axis=1, keepdims=True)
        assert np.all(np.abs(derivative - differences(integral, case.model, case.x, p)) < 1e-6 * scale)


@pytest.mark.parametrize("name", ["photopeak", "s_curve", "gaussian", "photopeak_lines"])
def test_derivatives_agree_in_the_far_tail_relative_to_themselves(name):
    case = CASES[name]
    p = 0.5 * (np.array(case.low) + np.array(case.high))
    where = p[case.model.names.index({"s_curve": "threshold", "gaussian": "mean"}.get(name, "position"))]
    width = p[case.model.names.index("noise" if name == "s_curve" else "width")]
    reach = 1.11 * where if name == "photopeak_lines" else where
    far = reach + np.linspace(5, 8, 13) * width * (-1 if name == "s_curve" else 1)
    _, derivative = curve(case.model, far, p)
    numeric = differences(curve, case.model, far, p)
    assert np.all(np.abs(derivative / numeric - 1) < 1e-4)


@pytest.mark.parametrize("name", INTEGRATED)
def test_integrals_are_those_of_the_curve(name):
    case, rng = CASES[name], np.random.default_rng(13)
    node, weight = np.polynomial.legendre.leggauss(24)
    edges = case.x
    middle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    points = (middle[:, None] + half[:, None] * node).ravel()
    for _ in range(5):
        p = case.draw(rng)
        value, derivative = integral(case.model, edges, p)
        fine, fine_derivative = curve(case.model, points, p)
        wanted = (fine.reshape(-1, 24) * weight).sum(axis=1) * half
        assert value == pytest.approx(wanted, rel=1e-7, abs=1e-9 * wanted.max())
        wanted = (fine_derivative.reshape(len(case.model), -1, 24) * weight).sum(axis=2) * half
        assert np.abs(derivative - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_curves_are_their_formulas():
    x = SCAN
    z = (x - 1543) / 4.5
    shared = 4.5 * (density(z) - z * tail(z))
    value, _ = curve(get_model("photopeak"), x, [0.45, 0.008, 4.5, 1543])
    assert value == pytest.approx(0.45 * tail(z) + 0.008 * shared, rel=1e-7)
    value, _ = curve(get_model("photopeak_background"), x, [0.45, 0.008, 4.5, 1543, 0.02])
    assert value == pytest.approx(0.45 * tail(z) + 0.008 * shared + 0.02, rel=1e-7)
    value, _ = curve(get_model("erfc_threshold"), x, [60, 0.2, 1543, 4.5, 0.4])
    assert value == pytest.approx(60 * tail(z) + 0.2 * shared + 0.4, rel=1e-7)
    value, _ = curve(get_model("s_curve"), x, [1543, 4.5])
    assert value == pytest.approx(reference.ndtr(z), rel=1e-6)
    value, _ = curve(get_model("s_curve_floor_falling"), x, [1543, 4.5, 0.1, 0.9])
    assert value == pytest.approx(0.1 + 0.8 * reference.ndtr(-z), rel=1e-7)
    value, _ = curve(get_model("gaussian_background"), x, [100, 1543, 4.5, 2])
    assert value == pytest.approx(100 * density(z) / 4.5 + 2, rel=1e-7)
    value, _ = curve(get_model("gaussian_comb2"), x, [1543, 20, 4.5, 1.5, 100, 50])
    wide = np.hypot(4.5, 1.5)
    wanted = 100 * density(z) / 4.5 + 50 * density((x - 1563) / wide) / wide
    assert value == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_lines_are_the_sum_of_single_photopeaks():
    model = make_photopeak_lines([5.9, 6.5], [3, 1])
    x = np.linspace(50, 170, 61)
    value, _ = curve(model, x, [0.4, 0.01, 4, 110])
    parts = [curve(get_model("photopeak"), x, [0.4, 0.01, 4, 110 * ratio])[0] for ratio in (1, 6.5 / 5.9)]
    assert value == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], rel=1e-12)


def test_far_below_the_edge_a_photopeak_is_a_straight_line():
    x = np.linspace(1400, 1450, 11)
    value, _ = curve(get_model("photopeak"), x, [0.45, 0.008, 4.5, 1543])
    assert value == pytest.approx(0.45 + 0.008 * (1543 - x), rel=1e-12)


def test_width_at_its_bound_is_a_step_with_finite_derivatives():
    for name in (
        "photopeak",
        "photopeak_background",
        "erfc_threshold",
        "gaussian",
        "s_curve",
        "gaussian_comb3",
    ):
        case = CASES[name]
        p = np.array(case.low, dtype=float)
        for k, parameter in enumerate(case.model.parameters):
            if "width" in parameter.name or parameter.name == "noise":
                p[k] = 0
        for function in (curve, integral) if case.model.integral else (curve,):
            value, derivative = function(case.model, case.x, p)
            assert np.isfinite(value).all()
            assert np.isfinite(derivative).all()


def test_polynomial_is_that_of_numpy():
    coefficients = [3.0, -2.0, 0.5, 1.25]
    value, _ = curve(make_polynomial(3, centre=5, scale=2), np.linspace(0, 10, 21), coefficients)
    t = (np.linspace(0, 10, 21) - 5) / 2
    assert value == pytest.approx(np.polynomial.polynomial.polyval(t, coefficients), rel=1e-13)


# ---------------------------------------------------------------- register


@pytest.mark.parametrize("name", model_names())
def test_every_registered_model_is_complete(name):
    model = get_model(name)
    assert model.name == name
    assert model.curve is not None
    assert model.start is not None
    assert model.formula
    assert model.source
    for parameter in model.parameters:
        assert parameter.description
        assert parameter.lower < parameter.upper


def test_makers_refuse_what_makes_no_model():
    with pytest.raises(UsageError, match="degree"):
        make_polynomial(40)
    with pytest.raises(UsageError, match="scale"):
        make_polynomial(2, scale=0)
    with pytest.raises(UsageError, match="number of peaks"):
        make_gaussian_comb(1)
    with pytest.raises(UsageError, match="as many weights"):
        make_photopeak_lines([5.9, 6.5], [1])
    with pytest.raises(UsageError, match="positive"):
        make_photopeak_lines([5.9, -6.5], [1, 1])
    with pytest.raises(UsageError, match="photopeak"):
        get_model("photopeek")


# ---------------------------------------------------------------- start values


def photopeak_toys(rng, n, x, live_time, low=1500, high=1580):
    model = get_model("photopeak")
    rate = np.exp(rng.uniform(np.log(0.05), 0, n))
    truth = np.stack([rate, 0.018 * rate, rng.uniform(3.5, 5.5, n), rng.uniform(low, high, n)], axis=1)
    expected = np.array([curve(model, x, p)[0] for p in truth])
    return truth, rng.poisson(expected * live_time)


def test_start_of_a_photopeak_is_near_the_truth():
    x = np.arange(1480.0, 1601)
    truth, counts = photopeak_toys(np.random.default_rng(21), 2000, x, 262)
    starts = np.array([start_of(get_model("photopeak"), x, row, np.full(x.size, 262.0)) for row in counts])
    off = starts[:, 3] - truth[:, 3]
    assert abs(np.median(off)) < 0.6
    assert np.mean(np.abs(off) < 5) > 0.99
    assert np.median(starts[:, 0] / truth[:, 0]) == pytest.approx(1, abs=0.05)
    assert np.median(starts[:, 2] / truth[:, 2]) == pytest.approx(1, abs=0.12)


def test_start_does_not_depend_on_order_unit_or_unused_points():
    x = np.arange(1480.0, 1601)
    _, counts = photopeak_toys(np.random.default_rng(22), 3, x, 262)
    model, exposure = get_model("photopeak"), np.full(x.size, 262.0)
    for row in counts:
        plain = start_of(model, x, row, exposure)
        order = np.random.default_rng(0).permutation(x.size)
        assert start_of(model, x[order], row[order], exposure) == pytest.approx(plain, rel=1e-12)
        seconds = start_of(model, 1e-9 * x, row, exposure)
        assert seconds * [1, 1e-9, 1e9, 1e9] == pytest.approx(plain, rel=1e-6)
        some = np.random.default_rng(1).random(x.size) > 0.3
        less = start_of(model, x[some], row[some], exposure[some])
        assert less[3] == pytest.approx(plain[3], abs=6)


EDGE_MODELS = ["photopeak", "photopeak_background", "photopeak_lines", "erfc_threshold"]


@pytest.mark.parametrize("name", model_names())
def test_start_is_finite_whatever_the_data(name):
    model = get_model(name)
    rng = np.random.default_rng(23)
    for n in (0, 1, 2, 3, 5, 25):
        x = np.linspace(10, 34, n)
        exposure = np.full(n, 7.0)
        given = [
            np.zeros(n),
            np.full(n, 7.0),
            rng.poisson(0.2, n).clip(0, 7),
            np.eye(1, n, n // 2)[0] * 5,
            np.arange(n) % 8,
        ]
        for counts in given:
            assert np.isfinite(start_of(model, x, counts, exposure)).all(), (n, counts)


def test_start_of_s_curves():
    rng = np.random.default_rng(24)
    x = np.arange(0, 125.0, 5)
    truth = np.stack([rng.uniform(15, 105, 500), rng.uniform(3, 8, 500)], axis=1)
    for name in ("s_curve", "s_curve_falling"):
        model = get_model(name)
        counts = rng.binomial(50, np.array([curve(model, x, p)[0] for p in truth]))
        starts = np.array([start_of(model, x, row, np.full(x.size, 50.0)) for row in counts])
        assert np.abs(starts[:, 0] - truth[:, 0]).max() < 4
        assert np.all((starts[:, 1] / truth[:, 1] > 0.5) & (starts[:, 1] / truth[:, 1] < 1.6))


def test_start_of_a_peak_is_not_drawn_away_by_stray_counts():
    rng = np.random.default_rng(25)
    x = np.arange(0, 200.0)
    for mean in (20, 60, 170):
        counts = rng.poisson(curve(get_model("gaussian"), x, [400, mean, 5])[0])
        counts[[3, 195]] += 3
        start = start_of(get_model("gaussian"), x, counts)
        assert start[1] == pytest.approx(mean, abs=1.5)
        assert start[2] == pytest.approx(5, rel=0.3)


def test_start_of_a_comb_finds_baseline_and_gain():
    rng = np.random.default_rng(26)
    model = get_model("gaussian_comb6")
    x = np.arange(275.0, 345)
    k = np.arange(6)
    right = 0
    for _ in range(300):
        light = rng.uniform(0.5, 3)
        areas = 5000 * np.exp(-light) * light**k / reference.factorial(k)
        truth = np.array([rng.uniform(280, 300), rng.uniform(5, 5.6), 0.9, 0.45, *areas])
        start = start_of(model, x, rng.poisson(curve(model, x, truth)[0]))
        right += abs(start[0] - truth[0]) < 0.3 and abs(start[1] - truth[1]) < 0.15
    assert right >= 297


def test_start_of_an_exponential_is_its_maximum_of_likelihood():
    from firstlight.fit.many import fit_many

    x = np.arange(0, 50.0)
    counts = np.random.default_rng(27).poisson(20 * np.exp(-0.08 * x))
    result = fit_many(counts, x, "exponential")
    assert result.start[0] == pytest.approx(result.values[0], rel=1e-3)


def test_start_of_a_polynomial_is_the_least_squares_solution():
    rng = np.random.default_rng(28)
    x = np.linspace(1480, 1600, 31)
    counts = rng.poisson(50 + 0.2 * (x - 1480))
    model = make_polynomial(3, centre=1500, scale=20)
    wanted = np.polynomial.polynomial.polyfit((x - 1500) / 20, counts, 3)
    assert start_of(model, x, counts) == pytest.approx(wanted, rel=1e-6)


# ---------------------------------------------------------------- from start to result


def test_photopeak_fits_converge_from_their_own_start():
    from firstlight.fit.many import fit_many
    from firstlight.fit.result import Status

    x = np.arange(1480.0, 1601)
    truth, counts = photopeak_toys(np.random.default_rng(31), 4000, x, 262)
    result = fit_many(counts, x, "photopeak", exposure=262.0, rescue=False)
    converged = np.isin(result.status, (Status.ok, Status.at_bound))
    assert converged.mean() >= 0.999
    good = result.ok
    for k, pull in enumerate(result.pulls(dict(zip(result.model.names, truth.T, strict=True))).values()):
        width = np.diff(np.percentile(pull[good], [15.865, 84.135]))[0] / 2
        assert width == pytest.approx(1, abs=0.05), result.model.names[k]
        assert abs(np.median(pull[good])) < 0.12, result.model.names[k]


def test_background_on_its_bound_does_not_move_the_edge():
    from firstlight.fit.many import fit_many

    x = np.arange(1480.0, 1601)
    _, counts = photopeak_toys(np.random.default_rng(32), 300, x, 262)
    plain = fit_many(counts, x, "photopeak", exposure=262.0)
    more = fit_many(counts, x, "photopeak_background", exposure=262.0)
    bound = more.at_bound[:, 4] & plain.ok & ~more.at_bound[:, :4].any(axis=1)
    assert bound.sum() > 50
    assert np.abs(plain.value("position") - more.value("position"))[bound].max() < 0.02


def test_two_lines_remove_the_bias_of_one():
    from firstlight.fit.many import fit_many

    rng = np.random.default_rng(33)
    x = np.arange(1480.0, 1601)
    baseline = rng.normal(1430, 4, 400)
    model = make_photopeak_lines([5.895, 6.49], [0.88, 0.12])
    expected = np.array([curve(model, x - base, [0.45, 0.008, 4.5, 120])[0] for base in baseline])
    counts = rng.poisson(262 * expected)
    two = fit_many(counts, x, model, exposure=262.0, shift=baseline)
    one = fit_many(counts, x, "photopeak", exposure=262.0, shift=baseline)
    error = 0.7 / np.sqrt(400)
    assert np.median(two.value("position")) == pytest.approx(120, abs=3 * error)
    assert np.median(one.value("position")) > 120.3
    assert np.median(two.value("width")) == pytest.approx(4.5, abs=0.15)
