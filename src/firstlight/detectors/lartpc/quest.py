"""The Quest: which tracks are a neat electron, one that radiated all around, a symmetric pair, a weird pair.

Two scores are given for each category, both from 0 to 1. The observable score is computed from the shape of the charge
alone, in shares of the charge, so that its scale does not matter. The truth score says how well the truth record fits
the definition of the category; it is 0.5 or more exactly where the definition holds.

In 100 sets of 30 electrons and 60 photons of 3 to 20 MeV, simulated after all numbers here were chosen, the winner by
the observable score fitted the definition in 89 (neat electron), 92 (bremsstrahlung), 76 (symmetric pair) and 56 (weird
pair) sets; in 83 sets at least three of the four winners did. What is taken for a weird pair is a photon that scattered before
it converted, or a pair with short arms around a vertex that was not found. Where the particle is not known, electrons that
radiated are seldom told from photons: 17 sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from firstlight.data.schema import Column, TableSchema
from firstlight.detectors.lartpc.track import ELECTRON_MASS
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CATEGORIES", "QUEST", "Category", "Score", "observable_scores", "rank", "truth_scores"]

Kinds = Literal["given", "unknown"]

_PER_KEV = (
    30.0  # electrons that escape recombination for each keV, to tell the energy where nothing else does
)


@dataclass(frozen=True)
class Category:
    """What is looked for.

    Parameters
    ----------
    name : str
        As in tables.
    title : str
        For pictures.
    particle : str
        Among which it is looked for.
    definition : str
        When the truth record says that a track is one.
    """

    name: str
    title: str
    particle: str
    definition: str


CATEGORIES: Mapping[str, Category] = {
    category.name: category
    for category in (
        Category(
            "neat_electron", "Neat electron", "electron",
            "less than 1 % radiated, no photon above 20 keV, no delta ray above a tenth of the energy",
        ),
        Category(
            "brem_electron", "Electron with bremsstrahlung", "electron",
            "more than 10 % radiated, two or more photons above 20 keV",
        ),
        Category(
            "symmetric_pair", "Symmetric pair", "photon",
            "a pair first, 40 to 60 % of its energy with the positron, less than 3 % radiated",
        ),
        Category(
            "weird_pair", "Weird pair", "photon",
            "a pair first, and two of: less than 20 % of its energy with one arm, more than 10 % radiated, a second "
            "pair, an arm that stops within 2 mm",
        ),
    )
}  # fmt: skip

QUEST = TableSchema(
    "quest",
    (
        Column("category", pl.String, f"one of {', '.join(CATEGORIES)}"),
        Column("by", pl.String, "observable or truth: which score ranks"),
        Column("rank", pl.Int64, "1 is the winner", minimum=1),
        Column("track", pl.String, "name of the track"),
        Column("particle", pl.String, "electron, positron or photon; empty where nothing says so"),
        Column("energy", pl.Float64, "kinetic energy", "keV", nullable=True),
        Column("score", pl.Float64, "how well it fits", minimum=0, maximum=1),
        Column("terms", pl.String, "what was multiplied to the score"),
        Column("numbers", pl.String, "what was measured, or is recorded"),
        Column("holds", pl.Boolean, "whether the definition holds by the truth record", nullable=True),
    ),
    "a track in the ranking of a category",
)


@dataclass(frozen=True)
class Score:
    """A score with its reasons.

    Parameters
    ----------
    value : float
        From 0 to 1.
    terms : mapping of str to float
        What was multiplied, or added up, to it.
    numbers : mapping of str to float
        What was measured, or is recorded.
    holds : bool
        Of a truth score: whether the definition holds.
    """

    value: float
    terms: Mapping[str, float]
    numbers: Mapping[str, float]
    holds: bool = False


# ---------------------------------------------------------------- observable scores


def observable_scores(row: Mapping[str, Any], kinds: Kinds = "given") -> dict[str, Score]:
    """Return how well the shape of a track fits each category.

    Parameters
    ----------
    row : mapping
        Row of the table of features, or `Features.row()` with ``energy`` [keV] and ``particle``.
    kinds : {"given", "unknown"}
        Whether the particle is known: then it has the score 0 in the categories of others, and its kind has no part in
        the score. Otherwise, or where the particle is not given, the score is multiplied by the chance that the shape is
        that of an electron, or of a pair rather than of any electron.

    Returns
    -------
    dict of str to Score
        By category.
    """
    particle = str(row.get("particle") or "") if _checked(kinds) == "given" else ""
    scores = {
        "neat_electron": _neat(row),
        "brem_electron": _brem(row),
        "symmetric_pair": _symmetric(row),
        "weird_pair": _weird(row),
    }
    found = {}
    for name, (terms, numbers) in scores.items():
        wanted = CATEGORIES[name].particle
        if particle and particle != wanted:
            terms = {"particle": 0.0}
        elif wanted == "photon":
            terms = {"pair": pair_chance(row, electrons=not particle), **terms}
        elif not particle:
            terms = {"electron": electron_chance(row), **terms}
        found[name] = Score(_clip(math.prod(terms.values())), terms, numbers)
    return found


Parts = tuple[dict[str, float], dict[str, float]]


def _neat(row: Mapping[str, Any]) -> Parts:
    tortuosity = max(_number(row, "tortuosity", math.inf), 1.0)
    linearity = _number(row, "linearity", 0.0)
    satellites, count = _number(row, "q_satellites", 1.0), _number(row, "n_satellites", 0.0)
    branch, away = _number(row, "branch_charge", 1.0), _number(row, "branch_distance", math.inf)
    # a delta ray or photon that takes energy from the track makes it short; only a given energy tells
    energy = _number(row, "energy", 0.0)
    length = _number(row, "path", 0.0) / _range(energy) if energy > 0 else 1.0
    terms = {
        "few satellites": (1 - satellites) ** 4 * math.exp(-count),
        "linear": linearity,
        "straight": min(1.0, 1.3 / tortuosity),
        "no branches": (1 - branch) * math.exp(-((away / 2.0) ** 2)),
        "full length": min(1.0, length / 0.92) ** 4,
    }
    return terms, {
        "satellite charge": satellites, "satellites": count, "linearity": linearity,
        "tortuosity": tortuosity, "branch charge": branch, "farthest off the path [mm]": away,
        "length over range": length,
    }  # fmt: skip


def _range(energy: float) -> float:
    """Return the range of an electron in liquid argon [mm], where the loss grows linearly with the energy [keV].

    Within 7 % of the range in continuous slowing down from 3 to 50 MeV at 1.396 g/cm3.
    """
    return 115.0 * math.log1p(energy / 22e3)


def _brem(row: Mapping[str, Any]) -> Parts:
    satellites, count = _number(row, "q_satellites", 0.0), _number(row, "n_satellites", 0.0)
    largest = _number(row, "q_largest", 0.0)
    spread, farthest = _number(row, "spread", 0.0), _number(row, "farthest", 0.0)
    path, linearity = max(_number(row, "path", 0.0), 1.0), _number(row, "linearity", 0.0)
    terms = {
        # a main cluster with less than two thirds of the charge is no track with subtracks any more
        "satellite charge": min(1.0, satellites / 0.3),
        # one hard photon leaves a few clusters, and one of them with most of the charge
        "many": (1 - math.exp(-count / 10)) * (1 - largest / satellites if satellites > 0 else 0.0),
        "all around": math.sqrt(spread),
        # compared with the track: five times its length is far
        "far": 1 - math.exp(-farthest / (5 * path)),
        "main cluster a track": linearity,
    }
    return terms, {
        "satellite charge": satellites, "satellites": count, "largest of them": largest, "spread": spread,
        "farthest over path": farthest / path, "linearity": linearity,
    }  # fmt: skip


def _symmetric(row: Mapping[str, Any]) -> Parts:
    share, opening = _number(row, "arm_share", math.nan), _number(row, "opening", math.nan)
    excess, linearity = _excess(row), _number(row, "arm_linearity", 0.0)
    short = _number(row, "arm_short", 0.0)
    # what is missing from two annihilation photons [MeV]: some of it may hide in the main cluster
    missing = max(-excess, 0.0) * _energy(row) / 1e3
    terms = {
        # 40 : 60 is the limit of what is called symmetric; the share is measured to 0.02
        "equal arms": 0.0
        if math.isnan(share)
        else (4 * share * (1 - share)) ** 4 * _step((share - 0.4) / 0.015),
        # arms that part later than the shell around the vertex have no angle there
        "opening angle": 0.3 if math.isnan(opening) else _window(opening, 8.0, 60.0, 3.0, 15.0),
        "arms are lines": 0.5 + 0.5 * linearity,
        "arms are long": short / (short + 2.0),
        "annihilation": math.exp(-0.5 * (missing / 0.4) ** 2),
        "no further satellites": math.exp(-max(excess, 0.0) / 0.03),
        "vertex": _number(row, "vertex_chance", 0.0),
    }
    return terms, {
        "share of the lesser arm": share, "opening angle [deg]": opening, "arm linearity": linearity,
        "shorter arm [mm]": short, "satellite charge beyond annihilation": excess,
    }  # fmt: skip


def _weird(row: Mapping[str, Any]) -> Parts:
    share, short = _number(row, "arm_share", math.nan), _number(row, "arm_short", math.nan)
    excess, linearity = _excess(row), _number(row, "arm_linearity", 0.0)
    long = max(_number(row, "arm_long", 1.0), 1e-3)
    vertex = _number(row, "vertex_chance", 0.0)
    # chances of what the definition counts, as found for simulated pairs. Without a fork the lesser arm is hidden in
    # the other or short; around a wrong vertex arms say little
    unequal = (
        0.45
        if math.isnan(share)
        else vertex * (0.03 + 0.8 * _step((0.19 - share) / 0.025)) + 0.35 * (1 - vertex)
    )
    stops = (
        0.3
        if math.isnan(short)
        else vertex * (0.02 + 0.75 * _step((2.7 - short) / 0.4)) + 0.25 * (1 - vertex)
    )
    radiates = 0.87 * _step((excess - 0.095) / 0.01)
    length = 0.0 if math.isnan(short) else 1 - short / long
    odd = (abs(1 - 2 * share) if not math.isnan(share) else 0.5) + length + (1 - linearity)
    terms = {
        "two oddities": _at_least_two(unequal, radiates, stops),
        "odd arms": 0.8 + 0.2 * odd / 3,
        # arms of some millimetres are a few curls, of which nothing is certain
        "an arm is long": long / (long + 4.0),
    }
    return terms, {
        "share of the lesser arm": share, "shorter arm [mm]": short, "arm linearity": linearity,
        "satellite charge beyond annihilation": excess, "chance of the vertex": vertex,
    }  # fmt: skip


def _at_least_two(*chances: float) -> float:
    none = math.prod(1 - chance for chance in chances)
    one = sum(
        chance * math.prod(1 - other for place, other in enumerate(chances) if place != number)
        for number, chance in enumerate(chances)
    )
    return max(1 - none - one, 0.0)


def pair_chance(row: Mapping[str, Any], *, electrons: bool) -> float:
    """Return the chance that an event is a pair rather than a photon that scattered first, and no electron.

    What counts: charge of two arms at the vertex, which ends look like stops, a fork near the vertex, satellites as two
    annihilation photons make them. The weights are those of a logistic regression on 4800 simulated photons of 3 to
    20 MeV, a third of them pairs; there it tells pairs from Compton scattering with an area under the curve of 0.963.

    Parameters
    ----------
    row : mapping
        As for `observable_scores`.
    electrons : bool
        Whether the event may be an electron.
    """
    energy = _energy(row)
    logit = (
        -17.2
        + 2.7 * min(_number(row, "vertex_density", 1.0), 3.0)
        + 0.3 * bool(row.get("separable"))
        - 1.2 * min(math.log(max(_number(row, "end_ratio", 1.0), 1.0)), 2.0)
        + 1.4 * _number(row, "arm_share", 0.0)
        - 1.4 * min(_number(row, "q_largest", 0.0) * energy / ELECTRON_MASS, 3.0)
        + 7.6 * min(_number(row, "q_satellites", 0.0) * energy / (2 * ELECTRON_MASS), 1.0)
        + 3.3 * math.log1p(_number(row, "n_satellites", 0.0))
        # an annihilation photon leaves 341 keV at most in one scattering: more, behind the vertex, was there before it
        - 2.5 * _step((_number(row, "q_upstream", 0.0) * energy - 370.0) / 30.0)
    )
    return _step(logit) * (1 - electron_chance(row) if electrons else 1.0)


def electron_chance(row: Mapping[str, Any]) -> float:
    """Return the chance that an event is an electron rather than a photon, as far as its shape says.

    An electron is one cluster that starts at one end, with more charge at the other; a photon leaves satellites, and a
    pair two arms. The weights are those of a logistic regression on the photons of `pair_chance` and 2400 electrons,
    where it tells one from the other with an area under the curve of 0.898: an electron that radiated looks like a photon.

    Parameters
    ----------
    row : mapping
        As for `observable_scores`.
    """
    energy = _energy(row)
    logit = (
        5.1
        - 0.4 * bool(row.get("separable"))
        - 0.9 * min(math.log(max(_number(row, "end_ratio", 1.0), 1.0)), 2.0)
        - 4.3 * _number(row, "arm_share", 0.0)
        - 0.3 * min(_number(row, "q_largest", 0.0) * energy / ELECTRON_MASS, 3.0)
        - 1.5 * min(_number(row, "q_satellites", 0.0) * energy / (2 * ELECTRON_MASS), 1.0)
        + 0.8 * min(max(_excess(row), 0.0) * energy / (2 * ELECTRON_MASS), 4.0)
        - 1.7 * math.log1p(_number(row, "n_satellites", 0.0))
        - 1.2 * _number(row, "spread", 0.0)
    )
    return _step(logit)


def _energy(row: Mapping[str, Any]) -> float:
    energy = _number(row, "energy", 0.0)
    return energy if energy > 0 else max(_number(row, "charge", 0.0) / _PER_KEV, 1.0)


def _excess(row: Mapping[str, Any]) -> float:
    """Return the share of the charge in satellites beyond what two annihilation photons leave."""
    return _number(row, "q_satellites", 0.0) - 2 * ELECTRON_MASS / _energy(row)


# ---------------------------------------------------------------- truth scores


def truth_scores(row: Mapping[str, Any]) -> dict[str, Score]:
    """Return how well the truth record of a track fits each category.

    Parameters
    ----------
    row : mapping
        Row of the table of truth features.

    Returns
    -------
    dict of str to Score
        By category: half of the score for the definition, half for how far the record is from its limits.
    """
    particle, first = row["particle"], row["first"]
    radiated, hard, deltas = float(row["radiated"]), int(row["n_hard"]), row.get("n_deltas")
    share, short = row.get("positron_share"), row.get("shorter_arm")
    electron, pair = particle == "electron", particle == "photon" and first == "pair" and share is not None
    share = 0.5 if share is None else float(share)
    oddities = {
        "share": share < 0.2 or share > 0.8,
        "radiated": radiated > 0.1,
        "second pair": int(row["n_other_pairs"]) > 0,
        "short arm": short is not None and short < 2.0,
    }
    photons = {"radiated": radiated, "hard photons": float(hard)}
    energies = {
        "positron [keV]": _number(row, "positron_energy", math.nan),
        "electron [keV]": _number(row, "electron_energy", math.nan),
        "radiated": radiated,
    }
    return {
        "neat_electron": _truth_score(
            electron and radiated < 0.01 and hard == 0 and not deltas,
            {"radiated": math.exp(-radiated / 0.01), "photons": 0.6**hard, "deltas": 0.6 ** (deltas or 0)},
            photons if deltas is None else photons | {"delta rays": float(deltas)},
            possible=electron,
        ),
        "brem_electron": _truth_score(
            electron and radiated > 0.1 and hard >= 2,
            {
                "radiated": 1 - math.exp(-radiated / 0.1),
                "photons": 1 - math.exp(-hard / 2),
                "all around": 0.1 + 0.9 * math.sqrt(float(row["around"])),
            },
            photons | {"all around": float(row["around"])},
            possible=electron,
        ),
        "symmetric_pair": _truth_score(
            pair and 0.4 <= share <= 0.6 and radiated < 0.03,
            {"share": (4 * share * (1 - share)) ** 4, "radiated": math.exp(-radiated / 0.03)},
            energies,
            possible=pair,
        ),
        "weird_pair": _truth_score(
            pair and sum(oddities.values()) >= 2,
            {"oddities": sum(oddities.values()) / 4, "unequal": 0.5 + 0.5 * abs(1 - 2 * share)},
            energies | {"shorter arm [mm]": math.nan if short is None else float(short)},
            possible=pair,
        ),
    }  # fmt: skip


def _truth_score(
    holds: bool,
    terms: dict[str, float],
    numbers: dict[str, float],
    *,
    possible: bool,
) -> Score:
    if not possible:
        return Score(0.0, {"particle": 0.0}, numbers)
    return Score(0.5 * holds + 0.5 * _clip(math.prod(terms.values())), terms, numbers, holds)


# ---------------------------------------------------------------- ranking


def rank(
    features: pl.DataFrame | None,
    truth: pl.DataFrame | None = None,
    *,
    by: Literal["observable", "truth"] = "observable",
    kinds: Kinds = "given",
    minimum_energy: float = 3000.0,
    runners_up: int = 4,
) -> pl.DataFrame:
    """Rank tracks in all categories.

    Parameters
    ----------
    features : polars.DataFrame or None
        Of the schema `FEATURES`; needed for the observable score.
    truth : polars.DataFrame or None
        Of the schema `TRUTH_FEATURES`; needed for the truth score, else it only fills the column ``holds``.
    by : {"observable", "truth"}
        Which score ranks.
    kinds : {"given", "unknown"}
        As for `observable_scores`; a truth score knows the particle.
    minimum_energy : float
        Tracks below it take no part [keV]. Where no energy is given the charge tells it, at 30 electrons per keV.
    runners_up : int
        So many are kept behind the winner.

    Returns
    -------
    polars.DataFrame
        Of the schema `QUEST`, best first. Tracks with the score 0 are left out; of equal scores, the name that comes
        first.

    Raises
    ------
    UsageError
        If `by` or `kinds` is none of those.
    InputError
        If the table is missing that the score needs.
    """
    if by not in ("observable", "truth"):
        raise UsageError.unknown("score", by, ("observable", "truth"))
    frame = features if by == "observable" else truth
    if frame is None:
        what = f"ranking by the {by} score needs the table of {'features' if by == 'observable' else 'truth features'}"
        raise InputError(what)
    holds: dict[tuple[str, str], bool] = {}
    if truth is not None:
        for row in truth.iter_rows(named=True):
            holds |= {(row["track"], name): score.holds for name, score in truth_scores(row).items()}
    entries: dict[str, list[dict[str, Any]]] = {name: [] for name in CATEGORIES}
    for row in frame.iter_rows(named=True):
        if (_energy(row) if by == "observable" else _number(row, "energy", 0.0)) < minimum_energy:
            continue
        scores = observable_scores(row, kinds) if by == "observable" else truth_scores(row)
        for name, score in scores.items():
            if score.value > 0:
                entries[name].append(_entry(name, by, row, score, holds.get((row["track"], name))))
    rows = []
    for found in entries.values():
        found.sort(key=lambda entry: (-entry["score"], entry["track"]))
        rows += [{**entry, "rank": place} for place, entry in enumerate(found[: runners_up + 1], 1)]
    return pl.DataFrame(rows, schema=QUEST.dtypes)


def _entry(
    category: str,
    by: str,
    row: Mapping[str, Any],
    score: Score,
    holds: bool | None,
) -> dict[str, Any]:
    return {
        "category": category,
        "by": by,
        "track": row["track"],
        "particle": row["particle"],
        "energy": row["energy"],
        "score": score.value,
        "terms": _listed(score.terms),
        "numbers": _listed(score.numbers),
        "holds": holds,
    }


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items() if not math.isnan(value))


def _checked(kinds: str) -> str:
    if kinds not in ("given", "unknown"):
        raise UsageError.unknown("way to treat kinds", kinds, ("given", "unknown"))
    return kinds


def _number(row: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = row.get(name)
    return otherwise if value is None or math.isnan(value) else float(value)


def _step(x: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * x))


def _window(value: float, low: float, high: float, below: float, above: float) -> float:
    """Return 1 from `low` to `high`, and less outside, over the distances `below` and `above`."""
    outside = max((low - value) / below, (value - high) / above, 0.0)
    return math.exp(-0.5 * outside**2)


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
