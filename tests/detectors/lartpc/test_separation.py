"""Curves, their errors, and the classifier of electrons and photons."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Table
from firstlight.detectors.lartpc.features.columns import FEATURES, feature_row
from firstlight.detectors.lartpc.features.measure import measure, measure_hits
from firstlight.detectors.lartpc.separation import (
    cross_validated_scores,
    feature_values,
    fit_classifier,
    roc,
    separate,
)
from firstlight.detectors.lartpc.simulation.generate import simulate_tracks
from firstlight.errors import InputError, UsageError

# ---------------------------------------------------------------- curves


def test_area_is_the_chance_of_the_larger_score_with_ties_half():
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 8, 80).astype(float), rng.random(80) < 0.4
    scores[labels] += 1
    pairs = list(itertools.product(scores[labels], scores[~labels]))
    expected = np.mean([(one > other) + 0.5 * (one == other) for one, other in pairs])
    found = roc(scores, labels)
    assert found.auc == pytest.approx(expected)
    # the same as the area under the curve itself
    assert np.trapezoid(found.true_positive, found.false_positive) == pytest.approx(expected)
    assert roc(-scores, labels).auc == pytest.approx(1 - expected)


def test_curve_runs_from_corner_to_corner_one_step_a_score():
    found = roc(np.array([3.0, 2, 2, 1, 1, 0]), np.array([1, 1, 0, 0, 1, 0], dtype=bool))
    assert found.false_positive.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert found.true_positive.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert found.thresholds.tolist() == [np.inf, 3, 2, 1, 0]
    assert found.efficiency(1 / 3) == pytest.approx(2 / 3)
    assert found.efficiency(0.0) == pytest.approx(1 / 3)


def test_perfect_and_useless_scores():
    labels = np.arange(10) < 5
    assert roc(-np.arange(10.0), labels).auc == 1
    assert roc(np.zeros(10), labels).auc == 0.5
    assert roc(np.zeros(10), labels).error == 0


def test_error_of_the_area_is_its_spread():
    rng = np.random.default_rng(2)
    areas, errors = [], []
    labels = np.arange(100) < 60
    for _ in range(600):
        found = roc(rng.normal(0, 1, 100) + labels, labels)
        areas.append(found.auc)
        errors.append(found.error)
    # two unit Gaussians one apart: Phi(1 / sqrt 2) = 0.7602; a spread of 600 values is known to 3 %
    assert np.mean(areas) == pytest.approx(0.7602, abs=4 * np.std(areas) / np.sqrt(600))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.1)


def test_curve_refuses_what_is_none():
    with pytest.raises(InputError, match="do not belong together"):
        roc(np.zeros(3), np.zeros(4, dtype=bool))
    with pytest.raises(InputError, match="not finite"):
        roc(np.array([0, np.nan, 1, 2]), np.array([1, 1, 0, 0], dtype=bool))
    with pytest.raises(InputError, match="1 positives"):
        roc(np.zeros(4), np.array([1, 0, 0, 0], dtype=bool))


# ---------------------------------------------------------------- classifier


def gaussians(n: int, apart: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * n) < n
    values = rng.normal(0, 1, (2 * n, 3)) * [1, 10, 0.1] + 5
    values[labels, 0] += apart
    return values, labels


def test_weights_of_two_gaussians_are_the_best_ones():
    values, labels = gaussians(20000, 1.0)
    fitted = fit_classifier(values, labels, ("a", "b", "c"), penalty=1e-3)
    # logarithm of the odds of unit Gaussians one apart: x - middle
    assert fitted.weights[1:] == pytest.approx([0, 0], abs=0.05)
    assert (fitted.weights / fitted.scale)[0] == pytest.approx(1, abs=0.06)
    assert fitted.scores(np.array([[5.5, 5.0, 5.0]]))[0] == pytest.approx(0, abs=0.06)


def test_weights_are_at_the_minimum_of_the_loss():
    values, labels = gaussians(200, 0.7)
    fitted = fit_classifier(values, labels, ("a", "b", "c"), penalty=2.0)
    scaled = (values - fitted.middle) / fitted.scale

    def loss(weights: np.ndarray, bias: float) -> float:
        logit = scaled @ weights + bias
        return float((np.logaddexp(0, logit) - labels * logit).sum() + weights @ weights)

    best = loss(fitted.weights, fitted.bias)
    for shift in np.eye(3) * 1e-3:
        assert loss(fitted.weights + shift, fitted.bias) > best
        assert loss(fitted.weights - shift, fitted.bias) > best
    assert loss(fitted.weights, fitted.bias + 1e-3) > best


def test_penalty_keeps_weights_finite_where_kinds_do_not_overlap():
    values, labels = gaussians(30, 100.0)
    fitted = fit_classifier(values, labels, ("a", "b", "c"))
    assert np.isfinite(fitted.weights).all()
    assert np.abs(fitted.weights).max() < 20
    with pytest.raises(UsageError, match="penalty is 0"):
        fit_classifier(values, labels, ("a", "b", "c"), penalty=0)
    with pytest.raises(InputError, match="all 60 events are of one kind"):
        fit_classifier(values, np.ones(60, dtype=bool), ("a", "b", "c"))


def test_missing_values_and_constant_features_do_no_harm():
    values, labels = gaussians(300, 1.5)
    values[::7, 0] = np.nan
    values[:, 2] = 4.0
    values[:, 1] = np.nan
    scores = cross_validated_scores(values, labels, ("a", "b", "c"))
    assert roc(scores, labels).auc > 0.75


def test_cross_validation_is_honest_where_there_is_nothing_to_learn():
    rng = np.random.default_rng(4)
    labels = np.arange(60) < 30
    areas = []
    for seed in range(40):
        values = rng.normal(0, 1, (60, 20))
        names = tuple("abcdefghijklmnopqrst")
        areas.append(roc(cross_validated_scores(values, labels, names, seed=seed), labels).auc)
    inside = roc(fit_classifier(values, labels, names).scores(values), labels).auc
    # the fit itself finds much in twenty numbers of noise, the cross-validated curve nothing
    assert inside > 0.8
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * np.std(areas) / np.sqrt(40) + 0.02)


def test_cross_validation_is_fixed_by_its_seed():
    values, labels = gaussians(50, 1.0)
    one = cross_validated_scores(values, labels, ("a", "b", "c"), seed=5)
    assert np.array_equal(one, cross_validated_scores(values, labels, ("a", "b", "c"), seed=5))
    assert not np.array_equal(one, cross_validated_scores(values, labels, ("a", "b", "c"), seed=6))


def test_cross_validation_needs_an_event_of_each_kind_in_each_part():
    values, labels = gaussians(4, 1.0)
    with pytest.raises(InputError, match="5 parts with 4 positives"):
        cross_validated_scores(values, labels, ("a", "b", "c"), folds=5)


# ---------------------------------------------------------------- events


def features_of(energy: float, n: int, seed: int, measured) -> pl.DataFrame:
    rows = [
        feature_row(measured(track, number), track)
        for kind in ("electron", "photon")
        for number, track in enumerate(simulate_tracks(kind, energy, n, seed + (kind == "photon")))
    ]
    return Table.from_rows(FEATURES, rows).frame


def test_electrons_and_photons_of_ten_mev_are_told_apart_as_freed_charge():
    frame = features_of(10000.0, 100, 71, lambda track, _: measure(track.positions, track.num_e))
    electrons = (frame["particle"] == "electron").to_numpy()
    found = separate(frame, electrons, seed=2)
    # 0.90 for the classifier and 0.86 for the number of satellites, with many events; three errors here
    assert abs(found.classifier.auc - 0.90) < 3 * found.classifier.error
    satellites = found.single["n_satellites"]
    assert abs(satellites.auc - 0.86) < 3 * satellites.error
    assert next(iter(found.single)) == max(found.single, key=lambda name: found.single[name].auc)
    assert found.scores[electrons].mean() > found.scores[~electrons].mean()
    assert np.isfinite(feature_values(frame)[:, 0]).all()


def test_electrons_and_photons_of_ten_mev_are_told_apart_after_the_readout():
    from firstlight.detectors.lartpc.medium import PRESETS
    from firstlight.detectors.lartpc.readout.designs import DESIGNS
    from firstlight.detectors.lartpc.readout.step import drift_and_read

    def of_hits(track, number):
        _, read = drift_and_read(
            track, DESIGNS["GAMPixG"], PRESETS["gampy110K"], depth=0.175, bunch=0.0, seed=number
        )
        return measure_hits(read.hits)

    frame = features_of(10000.0, 50, 73, of_hits)
    found = separate(frame, (frame["particle"] == "electron").to_numpy())
    # 0.87 with many events
    assert abs(found.classifier.auc - 0.87) < 3 * found.classifier.error
    assert found.classifier.error < 0.06
