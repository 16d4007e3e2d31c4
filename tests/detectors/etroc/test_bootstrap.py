"""Bootstrap of time walk and resolution."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from firstlight.detectors.etroc.chain_bootstrap import Bootstrap, bootstrap_chain, bootstrap_walk
from firstlight.detectors.etroc.resolution import ESTIMATORS, measure
from firstlight.detectors.etroc.timewalk import correct_walk
from firstlight.errors import UsageError

_spec = importlib.util.spec_from_file_location("telescope", Path(__file__).with_name("telescope.py"))
telescope = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(telescope)


@pytest.fixture(scope="module")
def simulated():
    return telescope.generate(1, n=3000)


@pytest.fixture(scope="module")
def walk(simulated):
    return correct_walk(*simulated, boards=(0, 1, 3))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_threads_do_not_change_anything(walk, estimator):
    one = bootstrap_walk(walk, n=6, seed=3, threads=1, estimator=estimator)
    three = bootstrap_walk(walk, n=6, seed=3, threads=3, estimator=estimator)
    assert np.array_equal(one.replicas, three.replicas)
    assert len(np.unique(one.replicas[:, 0])) == 6
    other = bootstrap_walk(walk, n=6, seed=4, threads=1, estimator=estimator)
    assert not np.any(one.replicas == other.replicas)


@pytest.mark.parametrize(
    ("estimator", "partial"), [("std", False), ("likelihood", False), ("likelihood", True)]
)
def test_weights_are_copies_of_events(simulated, estimator, partial):
    if partial:
        simulated = telescope.generate(2, n=3000, efficiency=0.9, partial=True)
    walk = correct_walk(*simulated)
    replicas = bootstrap_walk(walk, n=3, seed=5, threads=1, estimator=estimator).replicas
    size = len(simulated[0])
    for index, replica in enumerate(replicas):
        drawn = np.random.default_rng([5, index]).integers(0, size, size)
        toa, tot = (values[drawn] for values in simulated)
        copied = correct_walk(toa, tot, events=drawn)
        # another center of the window at the start, nothing else
        np.testing.assert_allclose(replica, measure(copied.times, estimator=estimator).resolution, rtol=2e-3)


def test_errors_of_the_sample(sample_data):
    toa, tot = telescope.read_beam(sample_data)
    found = bootstrap_chain(toa, tot, boards=(0, 1, 3), n=60, seed=1)
    nominal = measure(correct_walk(toa, tot).times).resolution
    error = found.error()
    np.testing.assert_allclose(error, [0.38, 0.37, 0.42], rtol=0.35)  # sixty replicas tell it to 9 %
    low, high = found.interval()
    assert np.all((low < nominal) & (nominal < high))
    np.testing.assert_allclose((high - low) / 2, error, rtol=0.35)
    assert np.all(np.abs(nominal - telescope.TRUTH) < 3 * error)
    assert not found.failed.any()


def test_a_tail_of_the_full_sample_is_kept():
    toa, tot = telescope.generate(3, n=3000, tails=0.05)
    found = bootstrap_chain(toa, tot, n=20, seed=1)
    nominal = measure(correct_walk(toa, tot).times)
    assert nominal.fit.has_tail
    np.testing.assert_allclose(found.error(), nominal.resolution_error, rtol=0.6)


def test_replicas_without_solution_are_counted():
    values = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan], [np.nan, 4.0]])
    found = Bootstrap((0, 1), "std", values)
    assert found.failed.tolist() == [1, 3]
    assert found.error()[0] == pytest.approx(1.0)
    low, high = found.interval()
    assert low[0] < 1.0 < high[0] < 3.0
    assert np.isnan(low[1])
    rows = found.rows()
    assert rows["replica"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rows["resolution"][1] is None


def test_refusals(walk):
    with pytest.raises(UsageError, match="no estimator"):
        bootstrap_walk(walk, estimator="mode")
    with pytest.raises(UsageError, match="0 or more"):
        bootstrap_walk(walk, n=-1)
    assert bootstrap_walk(walk, n=0).replicas.shape == (0, 3)


@pytest.mark.slow
def test_intervals_cover():
    inside = []
    for seed in range(200):
        toa, tot = telescope.generate(5000 + seed, n=5000)
        low, high = bootstrap_chain(toa, tot, n=200, seed=seed).interval()
        inside.append((low <= telescope.TRUTH) & (high >= telescope.TRUTH))
    cover = np.mean(inside, axis=0)
    assert np.all((cover > 0.62) & (cover < 0.74)), cover
