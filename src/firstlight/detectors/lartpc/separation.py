"""Electrons and photons apart: by one number at a time, and by a linear classifier with honest errors.

The classifier is a logistic regression with a penalty on its weights. Every score that enters its curve was computed for
an event that took no part in the fit that gave the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

__all__ = [
    "OBSERVABLES",
    "Classifier",
    "Roc",
    "Separation",
    "cross_validated_scores",
    "feature_values",
    "fit_classifier",
    "logistic_weights",
    "roc",
    "separate",
]

# what is used of a table of features: none of them knows the energy or the scale of charge
OBSERVABLES = (
    "f_main", "n_satellites", "q_satellites", "q_largest", "farthest", "spread", "q_upstream", "linearity", "planarity", "width",
    "path", "tortuosity", "branch_charge", "branch_distance", "end_ratio", "start_density", "end_density",
    "start_turning", "end_turning", "vertex_density", "arm_share", "forward", "ray_quality",
)  # fmt: skip
# no fork near the vertex: no second arm
_NONE_IS_ZERO = ("arm_share",)
_SKEWED = ("n_satellites", "farthest", "width", "path", "branch_distance", "tortuosity")


@dataclass(frozen=True)
class Roc:
    """How well a number tells two kinds apart.

    Parameters
    ----------
    false_positive, true_positive : ndarray, shape (k,)
        Share of the negatives and of the positives at or above each threshold, from (0, 0) to (1, 1).
    thresholds : ndarray, shape (k,)
        Thresholds, falling; the first is infinite. Events of equal score are one step of the curve.
    auc : float
        Area under the curve: the chance that a positive has the larger score, ties counted half.
    error : float
        Standard error of the area, after DeLong et al., Biometrics 44 (1988) 837. Where the kinds do not overlap that
        formula gives 0: then it is that of Hanley and McNeil, Radiology 143 (1982) 29, with half a pair in the wrong order.
    n_positive, n_negative : int
        Events.
    """

    false_positive: NDArray[np.float64]
    true_positive: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    auc: float
    error: float
    n_positive: int
    n_negative: int

    def efficiency(self, false_positive: float) -> float:
        """Return the largest share of positives that is kept at a given share of negatives, between steps linearly."""
        return float(np.interp(false_positive, self.false_positive, self.true_positive))


def roc(scores: NDArray[np.floating], labels: NDArray[Any]) -> Roc:
    """Return the curve of a score.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Larger for positives; all finite.
    labels : ndarray of bool, shape (n,)
        True for positives.

    Raises
    ------
    InputError
        If shapes disagree, a score is not finite, or there are fewer than two events of a kind.
    """
    from scipy.stats import rankdata

    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        what = f"scores of shape {scores.shape} and labels of shape {labels.shape} do not belong together"
        raise InputError(what)
    if not np.isfinite(scores).all():
        what = f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite"
        raise InputError(what, hint="fill what is not known, or leave such events out")
    positive, negative = scores[labels], scores[~labels]
    if min(positive.size, negative.size) < 2:
        what = f"{positive.size} positives and {negative.size} negatives: a curve with an error needs two of each"
        raise InputError(what)
    ranks = rankdata(scores)
    # of each event, the share of the other kind that it is above (positives) or below (negatives), ties half
    above = (ranks[labels] - rankdata(positive)) / negative.size
    below = 1 - (ranks[~labels] - rankdata(negative)) / positive.size
    variance = above.var(ddof=1) / positive.size + below.var(ddof=1) / negative.size
    perfect = bool(positive.min() > negative.max() or positive.max() < negative.min())
    thresholds = np.unique(scores)[::-1]
    return Roc(
        false_positive=_at_or_above(negative, thresholds),
        true_positive=_at_or_above(positive, thresholds),
        thresholds=np.concatenate([[np.inf], thresholds]),
        auc=float(above.mean()),
        error=_error_without_overlap(positive.size, negative.size) if perfect else float(np.sqrt(variance)),
        n_positive=positive.size,
        n_negative=negative.size,
    )


def _error_without_overlap(n_positive: int, n_negative: int) -> float:
    pairs = n_positive * n_negative
    area = (pairs + 0.5) / (pairs + 1)
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area) + (n_positive - 1) * (first - area**2) + (n_negative - 1) * (second - area**2)
    )
    return float(np.sqrt(max(variance, 0.0) / pairs))


def _at_or_above(values: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.searchsorted(np.sort(values), thresholds, side="left")
    return np.concatenate([[0.0], (values.size - below) / values.size])


@dataclass(frozen=True)
class Classifier:
    """A logistic regression on scaled features.

    Parameters
    ----------
    names : tuple of str
        Features.
    filling, middle, scale : ndarray, shape (n_features,)
        Value in place of one that is not known; mean and standard deviation of the sample.
    weights : ndarray, shape (n_features,)
        Of scaled features.
    bias : float
        Constant term.
    penalty : float
        Inverse variance of the prior of each weight.
    """

    names: tuple[str, ...]
    filling: NDArray[np.float64]
    middle: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float
    penalty: float

    def scores(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of the odds for a positive; `values` of shape (n, n_features)."""
        filled = np.where(np.isfinite(values), values, self.filling)
        return (filled - self.middle) / self.scale @ self.weights + self.bias


def fit_classifier(
    values: NDArray[np.float64], labels: NDArray[Any], names: Sequence[str], penalty: float = 1.0
) -> Classifier:
    """Fit a logistic regression.

    Both kinds weigh the same, however many events there are of each. Newton's method; the penalty keeps the weights
    finite where the kinds do not overlap.

    Parameters
    ----------
    values : ndarray, shape (n, n_features)
        NaN where not known: the median of the sample is put there.
    labels : ndarray of bool, shape (n,)
        True for positives.
    names : sequence of str
        Of the features.
    penalty : float
        Inverse variance of the Gaussian prior of each weight.

    Raises
    ------
    InputError
        If one kind is missing.
    UsageError
        If the penalty is not positive.
    """
    labels = np.asarray(labels, dtype=bool)
    if not penalty > 0:
        what = f"penalty is {penalty}: it must be positive, or weights grow without limit where kinds do not overlap"
        raise UsageError(what)
    if labels.all() or not labels.any():
        what = f"all {labels.size} events are of one kind"
        raise InputError(what)
    known = np.isfinite(values)
    filling = np.array(
        [
            np.median(column[seen]) if seen.any() else 0.0
            for column, seen in zip(values.T, known.T, strict=True)
        ]
    )
    filled = np.where(known, values, filling)
    middle, scale = filled.mean(axis=0), filled.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    design = np.column_stack([(filled - middle) / scale, np.ones(labels.size)])
    importance = np.where(labels, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    prior = np.append(np.full(values.shape[1], penalty), 1e-6)
    solution = logistic_weights(design, labels.astype(np.float64), importance, prior)
    return Classifier(tuple(names), filling, middle, scale, solution[:-1], float(solution[-1]), penalty)


def logistic_weights(
    design: NDArray[np.float64],
    target: NDArray[np.float64],
    importance: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression, by Newton's method with steps that never raise the loss.

    Parameters
    ----------
    design : ndarray, shape (n, k)
        Values of each event, a column of ones for the constant term included.
    target : ndarray, shape (n,)
        1 for positives, 0 for negatives.
    importance : ndarray, shape (n,)
        How much each event counts.
    prior : ndarray, shape (k,)
        Inverse variance of the Gaussian prior of each weight.

    Raises
    ------
    InputError
        If it does not converge.
    """
    solution = np.zeros(design.shape[1])

    def loss(at: NDArray[np.float64]) -> float:
        logit = design @ at
        return float(importance @ (np.logaddexp(0.0, logit) - target * logit) + 0.5 * prior @ at**2)

    now = loss(solution)
    for _ in range(100):
        chance = 0.5 * (1 + np.tanh(0.5 * design @ solution))
        gradient = design.T @ (importance * (chance - target)) + prior * solution
        curvature = (design.T * (importance * chance * (1 - chance))) @ design + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        length = 1.0
        while (after := loss(solution - length * step)) > now and length > 1e-6:
            length *= 0.5
        solution = solution - length * step
        if now - after <= 1e-12 * abs(now):
            return solution
        now = after
    what = f"the fit of {target.size} events did not converge"
    raise InputError(what, hint="a larger penalty, or more events")


def cross_validated_scores(
    values: NDArray[np.float64],
    labels: NDArray[Any],
    names: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 1,
    penalty: float = 1.0,
) -> NDArray[np.float64]:
    """Return a score for every event from a classifier that was fitted without it.

    Scores are logarithms of odds, so that those of different fits can be put into one curve. Filling, scaling and
    weights all come from the other parts.

    Parameters
    ----------
    values, labels, names, penalty
        As for `fit_classifier`.
    folds : int
        Parts; each has the same share of both kinds, as far as the numbers allow.
    seed : int
        Of the division into parts.

    Raises
    ------
    InputError
        If a kind has fewer events than there are parts.
    """
    labels = np.asarray(labels, dtype=bool)
    fewest = int(min(labels.sum(), (~labels).sum()))
    if folds < 2 or fewest < folds:
        what = f"{folds} parts with {int(labels.sum())} positives and {int((~labels).sum())} negatives"
        raise InputError(what, hint="from 2 parts to as many as there are events of the rarer kind")
    part = _parts(labels, folds, seed)
    scores = np.zeros(labels.size)
    for number in range(folds):
        test = part == number
        fitted = fit_classifier(values[~test], labels[~test], names, penalty)
        scores[test] = fitted.scores(values[test])
    return scores


def _parts(labels: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    part = np.zeros(labels.size, dtype=np.int64)
    for kind in (True, False):
        events = rng.permutation(np.flatnonzero(labels == kind))
        part[events] = np.arange(events.size) % folds
    return part


@dataclass(frozen=True)
class Separation:
    """Curves of the classifier and of each feature by itself.

    Parameters
    ----------
    classifier : Roc
        Of the cross-validated scores.
    single : mapping of str to Roc
        Of each feature, the best first. The sign is the one with an area above one half, so that a feature that tells
        nothing has an area a little above one half.
    weights : mapping of str to float
        Of the classifier fitted to all events, for scaled features, the largest first.
    scores : ndarray, shape (n,)
        Cross-validated: larger for electrons.
    """

    classifier: Roc
    single: Mapping[str, Roc]
    weights: Mapping[str, float]
    scores: NDArray[np.float64]


def feature_values(frame: pl.DataFrame, names: Sequence[str] = OBSERVABLES) -> NDArray[np.float64]:
    """Return features as numbers, shape (n, n_features), NaN where not known; of lengths and counts the logarithm."""
    columns = []
    for name in names:
        filling = 0.0 if name in _NONE_IS_ZERO else float("nan")
        column = frame[name].cast(float).fill_null(filling).to_numpy()
        columns.append(np.log1p(column) if name in _SKEWED else column)
    return np.column_stack(columns)


def separate(
    frame: pl.DataFrame,
    electrons: NDArray[Any],
    *,
    names: Sequence[str] = OBSERVABLES,
    folds: int = 5,
    seed: int = 1,
    penalty: float = 1.0,
) -> Separation:
    """Tell electrons from photons.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of the table of features.
    electrons : ndarray of bool, shape (n,)
        True for electrons.
    names : sequence of str
        Features to use.
    folds, seed, penalty
        As for `cross_validated_scores`.

    Raises
    ------
    InputError
        If a kind has fewer events than there are parts.
    """
    electrons = np.asarray(electrons, dtype=bool)
    values = feature_values(frame, names)
    scores = cross_validated_scores(values, electrons, names, folds=folds, seed=seed, penalty=penalty)
    fitted = fit_classifier(values, electrons, names, penalty)
    filled = np.where(np.isfinite(values), values, fitted.filling)
    single = {}
    for name, column in zip(names, filled.T, strict=True):
        curve = roc(column, electrons)
        single[name] = curve if curve.auc >= 0.5 else roc(-column, electrons)
    order = np.argsort(-np.abs(fitted.weights), kind="stable")
    return Separation(
        classifier=roc(scores, electrons),
        single=dict(sorted(single.items(), key=lambda item: -item[1].auc)),
        weights={names[index]: float(fitted.weights[index]) for index in order},
        scores=scores,
    )
