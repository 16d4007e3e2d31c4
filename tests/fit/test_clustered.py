"""Errors of fits to entries that come in groups."""

from __future__ import annotations

import numpy as np
import pytest

from firstlight.errors import InputError, UsageError
from firstlight.fit import fit_many
from firstlight.fit.clustered import clustered

EDGES = np.arange(-20.5, 21)


def grouped(rng, n_channels, n_groups, per_group, copies):
    """Return counts of groups in which every value stands `copies` times."""
    parts = np.zeros((n_groups, n_channels, EDGES.size - 1), dtype=np.int64)
    for group in range(n_groups):
        for channel in range(n_channels):
            values = np.rint(rng.normal(1.0, 3.0, per_group)).astype(int)
            parts[group, channel] = (
                copies * np.bincount(values + 20, minlength=EDGES.size - 1)[: EDGES.size - 1]
            )
    return parts


@pytest.mark.parametrize("copies", [1, 4])
def test_copies_of_entries_do_not_make_errors_smaller(copies):
    rng = np.random.default_rng(5)
    parts = grouped(rng, 80, 40, 50, copies)
    plain = fit_many(parts.sum(axis=0), EDGES, "gaussian", edges=True)
    robust = clustered(plain, parts)
    truth = {"mean": 1.0, "width": 3.0}
    for name in truth:
        ratio = np.median(robust.error(name) / plain.error(name))
        # errors of 40 groups are known to 1 / sqrt(2 * 40), their median over 80 channels to 1.5 %
        assert ratio == pytest.approx(np.sqrt(copies), rel=0.06)
        assert 0.75 < robust.pulls(truth)[name].std() < 1.25
    assert np.all(robust.values == plain.values)


def test_it_is_what_a_bootstrap_over_groups_gives():
    rng = np.random.default_rng(6)
    # the mean moves from group to group: entries are far from independent
    parts = np.zeros((30, 5, EDGES.size - 1), dtype=np.int64)
    for group in range(30):
        for channel in range(5):
            values = np.rint(rng.normal(rng.normal(0, 1), 2.0, 100)).astype(int)
            parts[group, channel] = np.bincount(values + 20, minlength=EDGES.size - 1)[: EDGES.size - 1]
    robust = clustered(fit_many(parts.sum(axis=0), EDGES, "gaussian", edges=True), parts)
    drawn = [
        fit_many(parts[rng.integers(0, 30, 30)].sum(axis=0), EDGES, "gaussian", edges=True).value("mean")
        for _ in range(200)
    ]
    spread = np.std(drawn, axis=0, ddof=1)
    # 200 repetitions know a spread to 5 %
    assert robust.error("mean") == pytest.approx(spread, rel=0.25)
    assert np.median(robust.error("mean") / spread) == pytest.approx(1, rel=0.1)


def test_channels_with_few_groups_have_no_errors():
    parts = grouped(np.random.default_rng(7), 2, 8, 50, 1)
    parts[3:, 1] = 0
    robust = clustered(fit_many(parts.sum(axis=0), EDGES, "gaussian", edges=True), parts)
    assert np.isfinite(robust.error("mean")[0])
    assert np.isnan(robust.error("mean")[1])


def test_groups_of_other_data_are_refused():
    parts = grouped(np.random.default_rng(8), 2, 8, 50, 1)
    result = fit_many(parts.sum(axis=0), EDGES, "gaussian", edges=True)
    with pytest.raises(InputError, match="do not add up"):
        clustered(result, parts[1:])
    with pytest.raises(InputError, match="shape"):
        clustered(result, parts[:, :1])
    other = fit_many(parts.sum(axis=0), EDGES, "gaussian", edges=True, estimator="unweighted")
    with pytest.raises(UsageError, match="Poisson"):
        clustered(other, parts)
