"""Resolution: formulas, errors, the joint likelihood, what has no solution."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.detectors.etroc.likelihood import JointLikelihood, fit_likelihood
from firstlight.detectors.etroc.resolution import (
    ESTIMATORS,
    delta_widths,
    intrinsic,
    measure,
    pair_rows,
    pair_widths,
    solve_delta,
    solve_pairs,
    stuck_boards,
)
from firstlight.detectors.etroc.tables import PAIRS, RESOLUTION
from firstlight.detectors.etroc.timewalk import correct_walk
from firstlight.detectors.etroc.widths import (
    effective_sigma,
    fwhm_sigma,
    robust_sigma,
    standard_deviation,
    width,
)
from firstlight.errors import InputError, UsageError

_spec = importlib.util.spec_from_file_location("telescope", Path(__file__).with_name("telescope.py"))
telescope = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(telescope)

SIGMA = np.array([0.040, 0.045, 0.050, 0.042, 0.055])


def toy(seed, n, boards=3, tails=0.0, missing=0.0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (n, boards)) * SIGMA[:boards]
    times = (
        rng.uniform(3, 9, n)[:, None]
        + 0.1 * np.arange(boards)
        + noise * np.where(rng.random((n, boards)) < tails, 4, 1)
    )
    times[rng.random((n, boards)) < missing] = np.nan
    return times


@pytest.fixture(scope="module")
def beam(sample_data):
    return telescope.read_beam(sample_data)


def test_the_original_numbers_and_errors(beam):
    walk = correct_walk(*beam, boards=(0, 1, 3), method="odr", folds=1, core=None)
    for iteration, expected in enumerate(([41.079, 45.107, 50.803], [41.075, 45.103, 50.802])):
        for estimator, errors in (("std", [0.472, 0.430, 0.382]), ("std_delta", [0.429, 0.422, 0.419])):
            found = measure(walk.toa[iteration], estimator=estimator, original_errors=True)
            np.testing.assert_allclose(found.resolution, expected, atol=0.001)
            np.testing.assert_allclose(found.resolution_error, errors, atol=0.001)


def test_default_mode_of_the_sample(beam):
    found = measure(correct_walk(*beam).times, boards=(0, 1, 3))
    assert found.status == ("ok", "ok", "ok")
    assert found.fit.tail_fraction == 0.0
    assert np.all(np.abs(found.resolution - telescope.TRUTH) < 3 * found.resolution_error)
    np.testing.assert_allclose(found.resolution_error, [0.38, 0.37, 0.42], rtol=0.25)
    assert min(pair.p_value for pair in found.fit.goodness) > 0.01


def test_a_negative_square_is_a_result():
    widths = np.full((3, 3), 60.0)
    widths[1, 2] = widths[2, 1] = 90.0
    for solution in (solve_pairs(widths), solve_delta(delta_widths(widths) ** 2)):
        assert solution.status == ("no solution", "ok", "ok")
        assert solution.square[0] == pytest.approx((60**2 + 60**2 - 90**2) / 2)
        assert math.isnan(solution.resolution[0])
        assert solution.resolution[1] == pytest.approx(90 / 2**0.5)
        assert solution.sentences((0, 1, 3))[0].startswith("no solution for board 0")
    solution = solve_pairs(np.array([[0, 60, 90], [60, 0, 60], [90, 60, 0]]))
    assert solution.sentences((0, 1, 3))[0].startswith("no solution for board 1")


def test_correlated_boards_have_no_solution_by_any_estimator():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 0.045, (4000, 1))
    # boards 1 and 2 move against each other, board 0 stands between them
    times = rng.normal(0, 0.01, (4000, 3)) + shared * np.array([0, 1, -1])
    for estimator in ESTIMATORS:
        found = measure(times, estimator=estimator)
        assert found.status == ("no solution", "ok", "ok"), estimator
        assert math.isnan(found.resolution[0])
        assert "no solution for board 0" in found.message
    assert measure(times, estimator="std").square[0] < 0


def test_two_boards_are_refused():
    for call in (
        lambda: solve_pairs(np.ones((2, 2))),
        lambda: solve_delta([1.0, 1.0]),
        lambda: measure(toy(1, 100, 2)),
        lambda: fit_likelihood(toy(1, 100, 2)),
    ):
        with pytest.raises(UsageError, match="three boards or more, not 2"):
            call()
    with pytest.raises(UsageError, match="no estimator 'mode'"):
        measure(toy(1, 100), estimator="mode")


@pytest.mark.parametrize("boards", [3, 4, 5])
def test_both_formulas_agree_for_any_number_of_boards(boards):
    times = toy(3, 3000, boards)
    widths, _ = pair_widths(times)
    direct = [
        np.var(np.delete(times, board, axis=1).mean(axis=1) - times[:, board], ddof=1)
        for board in range(boards)
    ]
    np.testing.assert_allclose(delta_widths(widths) ** 2, direct, rtol=1e-10)
    np.testing.assert_allclose(solve_delta(direct).square, solve_pairs(widths).square, rtol=1e-9)
    np.testing.assert_allclose(solve_pairs(widths).resolution, SIGMA[:boards], rtol=0.06)


def test_errors_know_that_pairs_share_boards():
    found = measure(toy(4, 5000), estimator="std")
    widths = pair_widths(toy(4, 5000))[0] * 1e3
    for own, one, two in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        sigma = found.resolution[own]
        expected = (widths[own, one] ** 2 * widths[own, two] ** 2 + sigma**4) / (4 * sigma**2 * 4999)
        assert found.resolution_error[own] == pytest.approx(math.sqrt(expected), rel=1e-3)
    scatter = np.array(
        [measure(toy(seed, 800, missing=0.2), estimator="std").resolution for seed in range(300)]
    )
    told = np.median(
        [measure(toy(seed, 800, missing=0.2), estimator="std").resolution_error for seed in range(40)], axis=0
    )
    np.testing.assert_allclose(told, scatter.std(axis=0), rtol=0.15)


@pytest.mark.parametrize(("boards", "missing"), [(3, 0.0), (3, 0.15), (4, 0.15)])
def test_derivatives_of_the_likelihood(boards, missing):
    times = np.ascontiguousarray(toy(5, 200, boards, 0.1, missing).T)
    likelihood = JointLikelihood(~np.isnan(times)).set_times(times)
    point = np.concatenate([np.log(SIGMA[:boards] * 1.2), 0.1 * np.arange(1, boards), [-2.0, 1.1]])
    _, gradient, hessian, _ = likelihood.value(point, tails=True, curvature=True)
    for index in range(len(point)):
        step = np.zeros(len(point))
        step[index] = 1e-6
        up, down = likelihood.value(point + step, tails=True), likelihood.value(point - step, tails=True)
        assert gradient[index] == pytest.approx((up[0] - down[0]) / 2e-6, rel=1e-5, abs=1e-4)
        np.testing.assert_allclose(hessian[index], (up[1] - down[1]) / 2e-6, rtol=1e-5, atol=1e-2)


def test_likelihood_is_the_density_of_the_differences():
    from scipy.stats import multivariate_normal

    times = toy(6, 40)
    fraction, scale, sigma = 0.1, 3.0, SIGMA[:3]
    point = np.concatenate([np.log(sigma), [0.1, 0.2, math.log(fraction / (1 - fraction)), math.log(scale)]])
    likelihood = JointLikelihood(np.ones((3, 40), bool)).set_times(np.ascontiguousarray(times.T))
    density = np.zeros(40)
    for tail in np.ndindex(2, 2, 2):
        v = (sigma * scale ** np.array(tail)) ** 2
        covariance = [[v[0] + v[1], v[0]], [v[0], v[0] + v[2]]]
        weight = np.prod(np.where(tail, fraction, 1 - fraction))
        density += weight * multivariate_normal([0.1, 0.2], covariance).pdf(times[:, 1:] - times[:, :1])
    assert likelihood.value(point, tails=True)[0] == pytest.approx(np.log(density).sum(), rel=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tails_leave_the_core_alone(seed):
    toa, tot = telescope.generate(seed, tails=0.05, exponential=True)
    found = measure(correct_walk(toa, tot).times)
    assert np.all(np.abs(found.resolution - telescope.TRUTH) < 1.5)
    assert 0.03 < found.fit.tail_fraction < 0.07
    assert found.fit.tail_scale == pytest.approx(4.0, abs=0.3)
    std = measure(correct_walk(toa, tot).times, estimator="std").resolution
    assert np.all(std > 1.25 * telescope.TRUTH)
    np.testing.assert_allclose(found.fit.rms * 1e3, std, rtol=0.05)


def test_without_tails_the_likelihood_is_the_closed_formula():
    times = toy(7, 4000)
    fit = fit_likelihood(times, tails="no")
    widths, _ = pair_widths(times)
    assert fit.converged
    # the maximum divides by n, the sample variance by n - 1
    np.testing.assert_allclose(fit.sigma, solve_pairs(widths).resolution * math.sqrt(1 - 1 / 4000), rtol=1e-9)
    np.testing.assert_allclose(
        fit.sigma_error * 1e3, measure(times, estimator="std").resolution_error, rtol=2e-3
    )


def test_missing_boards_add_to_what_is_known():
    times = toy(8, 6000, 4, 0.05, missing=0.25)
    complete = times[~np.isnan(times).any(axis=1)]
    whole, few = fit_likelihood(times), fit_likelihood(complete)
    assert np.all(whole.sigma_error < 0.85 * few.sigma_error)
    assert np.all(np.abs(whole.sigma - SIGMA[:4]) < 4 * whole.sigma_error)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_order_does_not_matter(estimator):
    times = toy(9, 2500, 4, 0.05, missing=0.1)
    order = np.random.default_rng(1).permutation(len(times))
    boards = [2, 0, 3, 1]
    first, second = measure(times, estimator=estimator), measure(times[order][:, boards], estimator=estimator)
    np.testing.assert_allclose(second.resolution, first.resolution[boards], rtol=1e-9)


def test_stuck_and_few():
    times = toy(10, 400)
    raw = times.copy()
    raw[:, 1] = 7.25
    assert stuck_boards(raw).tolist() == [False, True, False]
    found = measure(times, estimator="std", raw=raw)
    assert found.status == ("ok", "stuck", "ok")
    assert math.isnan(found.resolution[1])
    same = times.copy()
    same[:, 2] = same[:, 0]
    for estimator in ("std", "likelihood"):
        found = measure(same, estimator=estimator)
        assert found.status[0] == found.status[2] == "stuck", estimator
    for estimator in ESTIMATORS:
        assert measure(times[:20], estimator=estimator).status == ("few events",) * 3
    with pytest.raises(InputError, match="do not determine"):
        fit_likelihood(np.where([True, True, False], times, np.nan))


def test_rows_fit_the_tables():
    times = toy(11, 2000, tails=0.05)
    for estimator in ESTIMATORS:
        rows = measure(times, boards=(0, 1, 3), estimator=estimator).rows(1, bootstrap_error=[0.1] * 3)
        frame = pl.DataFrame(rows, schema={c.name: c.dtype for c in RESOLUTION.columns})
        assert frame["board"].to_list() == [0, 1, 3]
        assert frame["tail_fraction"].null_count() == (0 if estimator == "likelihood" else 3)
    rows = pair_rows(times, 1, boards=(0, 1, 3))
    frame = pl.DataFrame(rows, schema={c.name: c.dtype for c in PAIRS.columns})
    assert frame["std"].to_list() == pytest.approx(
        (pair_widths(times)[0] * 1e3)[[0, 0, 1], [1, 2, 2]].tolist()
    )


def test_widths_of_a_gaussian():
    rng = np.random.default_rng(12)
    for n, tolerance in ((300, 0.01), (20000, 0.004)):
        samples = [rng.normal(3.0, 2.0, n) for _ in range(200 if n < 1000 else 30)]
        for function in (standard_deviation, robust_sigma, effective_sigma, fwhm_sigma):
            assert np.mean([function(sample) for sample in samples]) == pytest.approx(2.0, rel=tolerance)
    counts = rng.integers(0, 3, n).astype(float)
    for name in ("std", "effective", "fwhm", "robust"):
        copied = width(np.repeat(samples[0], counts.astype(int)), name)
        assert width(samples[0], name, counts) == pytest.approx(copied, rel=0.02 if name == "fwhm" else 1e-12)


def test_intrinsic_takes_the_rounding_out():
    assert intrinsic([40.5, 3.0], 22.3)[0] == pytest.approx(math.sqrt(40.5**2 - 22.3**2 / 12))
    assert math.isnan(intrinsic([40.5, 3.0], 22.3)[1])


@pytest.mark.slow
@pytest.mark.parametrize("tails", [0.0, 0.05])
def test_pulls_of_the_likelihood(tails):
    fits = [fit_likelihood(toy(100 + seed, 3000, tails=tails), goodness=False) for seed in range(150)]
    pulls = np.array([(fit.sigma - SIGMA[:3]) / fit.sigma_error for fit in fits])
    assert np.all(np.abs(pulls.mean(axis=0)) < 0.2)
    assert np.all(np.abs(pulls.std(axis=0) - 1) < 0.13)
    assert abs(pulls.std() - 1) < 0.1
    assert all(fit.converged for fit in fits)
    assert np.mean([fit.has_tail for fit in fits]) == (1.0 if tails else pytest.approx(0.0, abs=0.03))
