"""Where the chances of the Quest come from: tracks are simulated and measured, and logistic regressions fitted to them.

The stored weights are those of ``train(Sample())``, `Sample` with its defaults: 500 electrons and 1200 photons of each of
five energies and two densities of argon, with the seed 20260. `as_module` writes them. No track of the sample of PENELOPE
took part, and the numbers in the tests come from tracks with other seeds.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.quest_chances import shape_values
from firstlight.detectors.lartpc.separation import logistic_weights
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "CHANCES",
    "Question",
    "Sample",
    "Weights",
    "as_module",
    "fit_chances",
    "fit_logistic",
    "labels_of",
    "simulated_rows",
    "train",
]

_VOXEL = 1e-3  # tracks begin anywhere in a cube of this edge [m]


@dataclass(frozen=True)
class Question:
    """What a chance is the chance of.

    Parameters
    ----------
    asked : str
        When it is true, by the truth record.
    among : str
        Of which tracks: ``"all"``, ``"electrons"``, ``"photons"`` or ``"pairs"``.
    balanced : bool
        Whether the chance is that for as many of one as of the other; otherwise, for tracks as they come.
    """

    asked: str
    among: str
    balanced: bool = False


CHANCES: Mapping[str, Question] = {
    "electron": Question("an electron, no photon", "all", balanced=True),
    "pair": Question("a pair first", "photons"),
    "neat": Question("a neat electron", "electrons"),
    "brem": Question("an electron with bremsstrahlung", "electrons"),
    "equal": Question("40 to 60 % of the energy of the pair with the positron", "pairs"),
    "quiet": Question("less than 3 % radiated", "pairs"),
    "unequal": Question("less than 20 % of the energy of the pair with one arm", "pairs"),
    "radiates": Question("more than 10 % radiated", "pairs"),
    "unequal and short": Question("unequal, and an arm stops within 2 mm", "pairs"),
    "radiates to a pair": Question("more than 10 % radiated, and a second pair", "pairs"),
}


@dataclass(frozen=True)
class Sample:
    """The tracks that are simulated.

    Parameters
    ----------
    electrons, photons : int
        Of each energy and density.
    energies : tuple of float
        Kinetic energies [keV].
    densities : tuple of float
        Of argon [g/cm3].
    seed : int
        Of all tracks.
    spacing : float
        Of the points of a track [m].
    """

    electrons: int = 500
    photons: int = 1200
    energies: tuple[float, ...] = (3e3, 5e3, 10e3, 20e3, 50e3)
    densities: tuple[float, ...] = (1.27, 1.3954)
    seed: int = 20260
    spacing: float = 20e-6


@dataclass(frozen=True)
class Weights:
    """Logistic regressions that look at the same values.

    Parameters
    ----------
    names : tuple of str
        Of the values.
    weights : mapping of str to ndarray, shape (n_values,)
        By chance; for values as they are, not scaled.
    biases : mapping of str to float
        Constant terms.
    """

    names: tuple[str, ...]
    weights: Mapping[str, NDArray[np.float64]]
    biases: Mapping[str, float]

    def logits(self, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the logarithms of the odds of tracks; `values` of shape (n, n_values)."""
        return {name: values @ weights + self.biases[name] for name, weights in self.weights.items()}


def train(sample: Sample | None = None, *, penalty: float = 10.0, processes: int = 1) -> Weights:
    """Simulate tracks, measure them, and fit all chances.

    Parameters
    ----------
    sample : Sample, optional
        That of the stored weights by default: 17,000 tracks, some seven minutes on one core.
    penalty : float
        Inverse variance of the prior of each weight of a scaled value.
    processes : int
        Processes that simulate and measure; they do not change the result.

    Raises
    ------
    UsageError
        If there is no process, or the penalty is not positive.
    InputError
        If the sample is so small that a question has only one answer, or a fit does not converge.
    """
    rows = simulated_rows(sample or Sample(), processes)
    return fit_chances([features for features, _ in rows], [truth for _, truth in rows], penalty)


def fit_chances(
    features: Sequence[Mapping[str, Any]], truth: Sequence[Mapping[str, Any]], penalty: float = 10.0
) -> Weights:
    """Fit all chances to tracks.

    Parameters
    ----------
    features, truth : sequence of mapping
        Rows of `FEATURES` and of `TRUTH_FEATURES`, of the same tracks.
    penalty : float
        As for `train`.
    """
    if not penalty > 0:
        what = f"penalty is {penalty}: it must be positive, or weights grow without limit where answers do not overlap"
        raise UsageError(what)
    shapes = [shape_values(row) for row in features]
    names = tuple(shapes[0]) if shapes else ()
    values = np.array([[shape[name] for name in names] for shape in shapes])
    weights, biases = {}, {}
    for chance, (labels, among) in labels_of(truth).items():
        yes = labels[among]
        if yes.all() or not yes.any():
            what = f"of {yes.size} tracks, {int(yes.sum())} are examples of '{CHANCES[chance].asked}'"
            raise InputError(what, hint="more tracks of all energies")
        weights[chance], biases[chance] = fit_logistic(
            values[among], yes, penalty, balanced=CHANCES[chance].balanced
        )
    return Weights(names, weights, biases)


def fit_logistic(
    values: NDArray[np.float64], yes: NDArray[np.bool_], penalty: float, *, balanced: bool = False
) -> tuple[NDArray[np.float64], float]:
    """Fit one logistic regression.

    Parameters
    ----------
    values : ndarray, shape (n, n_values)
        All finite.
    yes : ndarray of bool, shape (n,)
        The answers.
    penalty : float
        Inverse variance of the prior of each weight of a scaled value.
    balanced : bool
        Whether both answers weigh the same, as `firstlight.detectors.lartpc.separation.fit_classifier` has it;
        otherwise the odds are those of the tracks as they come.

    Returns
    -------
    weights : ndarray, shape (n_values,)
        For values as they are, not scaled.
    bias : float
        Constant term.

    Raises
    ------
    InputError
        If the fit does not converge.
    """
    middle, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    design = np.column_stack([(values - middle) / scale, np.ones(yes.size)])
    prior = np.append(np.full(values.shape[1], penalty), 0.0)
    importance = np.where(yes, 0.5 / yes.mean(), 0.5 / (1 - yes.mean())) if balanced else np.ones(yes.size)
    found = logistic_weights(design, yes.astype(np.float64), importance, prior)
    weights = found[:-1] / scale
    return weights, float(found[-1] - weights @ middle)


def labels_of(
    truth: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return the answer to each question, and which tracks it is asked of, both of shape (n,).

    Parameters
    ----------
    truth : sequence of mapping
        Rows of `TRUTH_FEATURES`.
    """
    from firstlight.detectors.lartpc.quest import truth_scores

    def column(values: Iterator[Any]) -> NDArray[np.bool_]:
        return np.fromiter(values, dtype=bool)

    scores = [truth_scores(row) for row in truth]
    electron = column(row["particle"] == "electron" for row in truth)
    share = np.array([0.5 if row["positron_share"] is None else row["positron_share"] for row in truth])
    pair = column(
        row["particle"] == "photon" and row["first"] == "pair" and row["positron_share"] is not None
        for row in truth
    )
    short = column(row["shorter_arm"] is not None and row["shorter_arm"] < 2.0 for row in truth)
    second = column(row["n_other_pairs"] > 0 for row in truth)
    radiated = np.array([row["radiated"] for row in truth])
    unequal, radiates = np.abs(share - 0.5) > 0.3, radiated > 0.1
    answers = {
        "electron": electron,
        "pair": pair,
        "neat": column(score["neat_electron"].holds for score in scores),
        "brem": column(score["brem_electron"].holds for score in scores),
        "equal": np.abs(share - 0.5) <= 0.1,
        "quiet": radiated < 0.03,
        "unequal": unequal,
        "radiates": radiates,
        "unequal and short": unequal & short,
        "radiates to a pair": radiates & second,
    }
    among = {"all": np.ones_like(electron), "electrons": electron, "photons": ~electron, "pairs": pair}
    return {name: (answers[name], among[question.among]) for name, question in CHANCES.items()}


def simulated_rows(sample: Sample, processes: int = 1) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the rows of features and of truth features of simulated tracks.

    Parameters
    ----------
    sample : Sample
        Which tracks.
    processes : int
        Over which energies, densities and particles are divided.

    Raises
    ------
    UsageError
        If there is no process.
    """
    if processes < 1:
        what = f"{processes} processes: at least one simulates"
        raise UsageError(what)
    parts = [
        (sample, particle, energy, density)
        for energy in sorted(sample.energies, reverse=True)
        for density in sample.densities
        for particle in ("photon", "electron")
    ]
    if processes == 1:
        found = [_part(part) for part in parts]
    else:
        # threads of the tables would not live through a fork
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            found = list(pool.map(_part, parts))
    return [row for rows in found for row in rows]


def _part(
    part: tuple[Sample, str, float, float],
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    from dataclasses import replace

    from firstlight.detectors.lartpc.features.columns import feature_row, truth_row
    from firstlight.detectors.lartpc.features.measure import measure
    from firstlight.detectors.lartpc.features.truth import truth_features
    from firstlight.detectors.lartpc.simulation.generate import simulate_tracks

    sample, particle, energy, density = part
    photon = particle == "photon"
    seed = np.random.SeedSequence([sample.seed, round(energy), round(1e4 * density), photon])
    places, tracks = seed.spawn(2)
    rng = np.random.default_rng(places)
    rows = []
    for track in simulate_tracks(
        particle,
        energy,
        sample.photons if photon else sample.electrons,
        tracks,
        density=density,
        point_spacing=sample.spacing,
    ):
        truth = truth_features(track)
        if truth is None:
            continue
        # simulated electrons start at a corner of a cube, others do not
        moved = replace(track, positions=track.positions + _VOXEL * rng.random((3, 1)))
        rows.append((feature_row(measure(moved.positions, moved.num_e), track), truth_row(truth, track)))
    return rows


def as_module(weights: Weights) -> str:
    """Return the text of the module that holds weights, with four digits."""
    lines = [
        '"""Weights of the chances of the Quest, as `firstlight.detectors.lartpc.quest_training` fitted and wrote them."""',
        "",
        "BIASES = {",
        *(f'    "{name}": {bias:.4g},' for name, bias in weights.biases.items()),
        "}",
        "# a column for each of these, in their order",
        "WEIGHTS = {",
    ]
    for place, name in enumerate(weights.names):
        numbers = ", ".join(f"{column[place]:.4g}" for column in weights.weights.values())
        lines.append(f'    "{name}": ({numbers}),')
    return "\n".join([*lines, "}  # fmt: skip", ""])
