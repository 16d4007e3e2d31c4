"""Time-walk correction: the original's numbers, truth of a generator, properties."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from firstlight.detectors.etroc import walk_kernels
from firstlight.detectors.etroc.tables import COEFFICIENTS
from firstlight.detectors.etroc.timewalk import correct_walk, curve_from_table
from firstlight.errors import InputError, UsageError

_spec = importlib.util.spec_from_file_location("telescope", Path(__file__).with_name("telescope.py"))
telescope = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(telescope)


@pytest.fixture(scope="module")
def beam(sample_data):
    return telescope.read_beam(sample_data)


@pytest.fixture(scope="module")
def simulated():
    return telescope.generate(1, n=6000)


def by_std(times):
    a, b, c = (np.var(times[:, i] - times[:, j], ddof=1) for i, j in ((0, 1), (0, 2), (1, 2)))
    return 1e3 * np.sqrt(np.array([a + b - c, a + c - b, b + c - a]) / 2)


def test_the_original_is_reproduced(beam):
    walk = correct_walk(*beam, boards=(0, 1, 3), method="odr", folds=1, core=None, iterations=1)
    assert walk.toa.shape == (2, 17753, 3)
    assert by_std(walk.toa[0]) == pytest.approx([41.079, 45.107, 50.803], abs=0.001)
    assert by_std(walk.toa[1]) == pytest.approx([41.075, 45.103, 50.802], abs=0.001)


def test_orthogonal_fit_is_that_of_odrpack():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        odr = pytest.importorskip("scipy.odr")
    rng = np.random.default_rng(5)
    x = rng.normal(0.3, 0.4, 800)
    y = 0.2 - 0.5 * x + 0.3 * x**2 + rng.normal(0, 0.05, 800)
    model = odr.Model(lambda beta, at: beta[0] + beta[1] * at + beta[2] * at**2)
    expected = odr.ODR(odr.Data(x, y), model, beta0=[0.0, 0.0, 0.1], sstol=1e-14, partol=1e-14).run()
    curve, covariance = np.zeros(3), np.zeros((3, 3))
    steps = walk_kernels.fit_orthogonal(x, y, np.ones(800), curve, covariance, 200)
    assert steps > 0
    np.testing.assert_allclose(curve, expected.beta, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), expected.sd_beta, rtol=0.02)


def test_least_squares_without_window_and_folds_are_those_of_numpy(simulated):
    toa, tot = simulated
    walk = correct_walk(toa, tot, folds=1, core=None, iterations=0, order=3)
    rows = walk.coefficients()
    for board in range(3):
        delta = np.delete(toa, board, axis=1).mean(axis=1) - toa[:, board]
        expected, covariance = np.polyfit(tot[:, board], delta, 3, cov=True)
        chosen = np.array(rows["board"]) == board
        np.testing.assert_allclose(np.array(rows["value"])[chosen], expected[::-1], rtol=1e-6)
        np.testing.assert_allclose(
            np.array(rows["error"])[chosen], np.sqrt(np.diag(covariance))[::-1], rtol=1e-6
        )
        np.testing.assert_allclose(walk.delta[0][:, board], delta, atol=1e-12)


@pytest.mark.parametrize("method", ["ols", "odr", "spline"])
def test_table_gives_the_curve_that_was_applied(simulated, method):
    toa, tot = simulated
    walk = correct_walk(toa, tot, boards=(0, 1, 3), method=method, folds=3)
    rows = walk.coefficients()
    assert set(rows) == {column.name for column in COEFFICIENTS.columns}
    for at, board in enumerate((0, 1, 3)):
        for fold in range(3):
            inside = walk.fold == fold
            curve = curve_from_table(rows, board, tot[inside, at], fold=fold)
            np.testing.assert_allclose(curve, walk.correction[-1][inside, at], atol=1e-10)
    with pytest.raises(UsageError, match="no time-walk curve of board 7"):
        curve_from_table(rows, 7, tot[:, 0])


def test_noise_does_not_pull_the_curve(simulated):
    toa, tot = simulated
    noisy = toa.copy()
    rng = np.random.default_rng(2)
    hit = (rng.random(len(toa)) < 0.05) & (tot[:, 1] > np.quantile(tot[:, 1], 0.8))
    noisy[hit, 1] += 0.7
    clean = correct_walk(toa, tot).correction[-1]
    core = correct_walk(noisy, tot).correction[-1]
    every = correct_walk(noisy, tot, core=None).correction[-1]
    differ = [np.std((other - clean)[:, 1]) for other in (core, every)]
    assert differ[0] < 0.002
    assert differ[1] > 0.004


def test_no_event_is_judged_with_its_own_curve(simulated):
    toa, tot = (values[:300].copy() for values in simulated)
    before = correct_walk(toa, tot, core=None, iterations=0).correction[0]
    toa[17] += [0.3, 0.0, 0.0]
    walk = correct_walk(toa, tot, core=None, iterations=0)
    change = np.abs(walk.correction[0] - before).max(axis=1)
    mates = walk.fold == walk.fold[17]
    # a fold-wide shift comes from the offsets between boards only, and is common
    assert np.ptp((walk.correction[0] - before)[mates], axis=0).max() < 1e-12
    assert change[~mates].max() > 1e-4


def test_order_of_events_and_boards_does_not_matter(simulated):
    toa, tot = simulated
    numbers = np.arange(len(toa)) + 1000
    walk = correct_walk(toa, tot, events=numbers)
    order = np.random.default_rng(3).permutation(len(toa))
    other = correct_walk(toa[order][:, [2, 0, 1]], tot[order][:, [2, 0, 1]], events=numbers[order])
    np.testing.assert_allclose(other.times, walk.times[order][:, [2, 0, 1]], atol=1e-9)


def test_missing_boards_are_corrected_by_those_present():
    toa, tot = telescope.generate(4, n=12000, efficiency=0.85, partial=True)
    gaps = np.isnan(toa).any(axis=1)
    assert 0.3 < gaps.mean() < 0.4
    walk = correct_walk(toa, tot)
    assert np.array_equal(np.isnan(walk.times), np.isnan(toa))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        difference = walk.times[:, first] - walk.times[:, second]
        whole, partial = difference[~gaps], difference[gaps & ~np.isnan(difference)]
        error = np.hypot(whole.std() / len(whole) ** 0.5, partial.std() / len(partial) ** 0.5)
        assert abs(whole.mean() - partial.mean()) < 4 * error
        assert partial.std() == pytest.approx(whole.std(), rel=0.08)


def test_iterations_change_little(simulated):
    walk = correct_walk(*simulated, iterations=3)
    widths = np.array([by_std(times) for times in walk.toa])
    assert np.abs(np.diff(widths, axis=0)).max() < 0.05
    assert widths[0][0] < by_std(simulated[0])[0] - 3


def test_a_constant_width_leaves_a_constant():
    rng = np.random.default_rng(1)
    toa = rng.normal(5, 0.04, (300, 3))
    walk = correct_walk(toa, np.full((300, 3), 4.0), folds=1, core=None)
    assert np.ptp(walk.correction[-1], axis=0).max() < 1e-12


def test_refusals(simulated):
    toa, tot = simulated
    with pytest.raises(UsageError, match="two boards or more"):
        correct_walk(toa[:, :1], tot[:, :1])
    with pytest.raises(UsageError, match="no method 'ransac'"):
        correct_walk(toa, tot, method="ransac")
    with pytest.raises(UsageError, match="same shape"):
        correct_walk(toa, tot[:-1])
    with pytest.raises(InputError, match="board 2 has 0 events"):
        correct_walk(np.where([True, True, False], toa, np.nan), tot)
    apart = np.full((400, 4), np.nan)
    apart[:200, :2], apart[200:, 2:] = 5.0, 6.0
    with pytest.raises(InputError, match="no events in common"):
        correct_walk(apart, apart)
