"""The Quest: which tracks are a neat electron, one that radiated all around, a symmetric pair, a weird pair.

Two scores are given for each category, both from 0 to 1. The observable score is computed from the shape of the charge
alone, in shares of the charge, so that its scale does not matter: the chance that the definition of the category holds,
times terms for what a person looks for in the picture. The truth score says how well the truth record fits the definition;
it is 0.5 or more exactly where the definition holds.

In sets of 30 electrons and 60 photons of 3 to 20 MeV, drawn from two pools of 2000 simulated tracks with other seeds than
those of the weights, the winner by the observable score fitted the definition in 91 % (neat electron), 99 %
(bremsstrahlung), 82 % (symmetric pair) and 78 % (weird pair); in 93 % at least three of the four winners did. The two
pools differ by 16 % for weird pairs, by 4 % otherwise. One set in twenty has no symmetric pair at all. What is taken for
a neat electron made one photon of little more than 20 keV, absorbed beside the track; what is taken for a symmetric pair
has a share just outside the limits. Where the particle is not known, the winner is an electron that radiated in 68 %, and
not a photon that scattered, and a weird pair in 77 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from firstlight.data.schema import Column, TableSchema
from firstlight.detectors.lartpc.quest_chances import chances, energy_of, excess, number, range_of
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CATEGORIES", "QUEST", "Category", "Score", "observable_scores", "rank", "truth_scores"]

Kinds = Literal["given", "unknown"]


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
        that of an electron, or of a photon.

    Returns
    -------
    dict of str to Score
        By category.
    """
    particle = str(row.get("particle") or "") if _checked(kinds) == "given" else ""
    known = chances(row)
    scores = {
        "neat_electron": _neat(row, known),
        "brem_electron": _brem(row, known),
        "symmetric_pair": _symmetric(row, known),
        "weird_pair": _weird(row, known),
    }
    found = {}
    for name, (terms, numbers) in scores.items():
        wanted = CATEGORIES[name].particle
        if particle and particle != wanted:
            terms = {"particle": 0.0}
        elif not particle:
            chance = known["electron"] if wanted == "electron" else 1 - known["electron"]
            terms = {wanted: chance, **terms}
        found[name] = Score(_clip(math.prod(terms.values())), terms, numbers)
    return found


Parts = tuple[dict[str, float], dict[str, float]]


def _neat(row: Mapping[str, Any], known: Mapping[str, float]) -> Parts:
    tortuosity = max(number(row, "tortuosity", math.inf), 1.0)
    linearity = number(row, "linearity", 0.0)
    satellites, count = number(row, "q_satellites", 1.0), number(row, "n_satellites", 0.0)
    branch, away = number(row, "branch_charge", 1.0), number(row, "branch_distance", math.inf)
    terms = {
        "neat": known["neat"],
        "few satellites": _mild((1 - satellites) ** 4 * math.exp(-count)),
        "linear": _mild(linearity),
        "straight": _mild(1.3 / tortuosity),
        "no branches": _mild(1 - branch),
    }
    return terms, {
        "satellite charge": satellites, "satellites": count, "linearity": linearity,
        "tortuosity": tortuosity, "branch charge": branch, "farthest off the path [mm]": away,
        "length over range": number(row, "path", 0.0) / range_of(energy_of(row)),
    }  # fmt: skip


def _brem(row: Mapping[str, Any], known: Mapping[str, float]) -> Parts:
    satellites, count = number(row, "q_satellites", 0.0), number(row, "n_satellites", 0.0)
    largest = number(row, "q_largest", 0.0)
    spread, farthest = number(row, "spread", 0.0), number(row, "farthest", 0.0)
    path, linearity = max(number(row, "path", 0.0), 1.0), number(row, "linearity", 0.0)
    terms = {
        "radiates": known["brem"],
        # a main cluster with less than two thirds of the charge is no track with subtracks any more
        "satellite charge": _mild(satellites / 0.3),
        # one hard photon leaves a few clusters, and one of them with most of the charge
        "many": _mild((1 - math.exp(-count / 10)) * (1 - largest / max(satellites, largest, 1e-9)), 0.6),
        "all around": _mild(math.sqrt(spread), 0.95),
        # compared with the track: five times its length is far
        "far": _mild(1 - math.exp(-farthest / (5 * path)), 0.95),
        "main cluster a track": _mild(linearity),
    }
    return terms, {
        "satellite charge": satellites, "satellites": count, "largest of them": largest, "spread": spread,
        "farthest over path": farthest / path, "linearity": linearity,
    }  # fmt: skip


def _symmetric(row: Mapping[str, Any], known: Mapping[str, float]) -> Parts:
    share, opening = number(row, "arm_share", math.nan), number(row, "opening", math.nan)
    beyond, linearity = excess(row), number(row, "arm_linearity", 0.0)
    short = number(row, "arm_short", 0.0)
    terms = {
        "pair": known["pair"],
        "equal": known["equal"],
        "quiet": known["quiet"],
        # nobody sees two arms that part late, or around no vertex
        "equal arms": _mild(0.5 if math.isnan(share) else 4 * share * (1 - share)),
        "opening angle": _mild(0.5 if math.isnan(opening) else _window(opening, 8.0, 60.0, 3.0, 15.0)),
        "arms are lines": _mild(linearity),
        "no further satellites": _mild(math.exp(-max(beyond, 0.0) / 0.03)),
    }
    return terms, {
        "share of the lesser arm": share, "opening angle [deg]": opening, "arm linearity": linearity,
        "shorter arm [mm]": short, "satellite charge beyond annihilation": beyond,
    }  # fmt: skip


def _weird(row: Mapping[str, Any], known: Mapping[str, float]) -> Parts:
    share, short = number(row, "arm_share", math.nan), number(row, "arm_short", math.nan)
    linearity, long = number(row, "arm_linearity", 0.0), max(number(row, "arm_long", 1.0), 1e-3)
    unequal, radiates = known["unequal"], known["radiates"]
    # two of what the definition counts: an arm is short only in unequal pairs, and a second pair needs a hard photon
    two = (
        unequal * radiates
        + (1 - radiates) * min(known["unequal and short"], unequal)
        + (1 - unequal) * min(known["radiates to a pair"], radiates)
    )
    length = 0.0 if math.isnan(short) else 1 - short / max(long, short)
    odd = (abs(1 - 2 * share) if not math.isnan(share) else 0.5) + length + (1 - linearity)
    terms = {
        "pair": known["pair"],
        "two oddities": two,
        "odd arms": _mild(odd / 3),
    }
    return terms, {
        "share of the lesser arm": share, "shorter arm [mm]": short, "arm linearity": linearity,
        "satellite charge beyond annihilation": excess(row), "chance of the vertex": number(row, "vertex_chance", 0.0),
        "chance to be unequal": unequal, "chance to have radiated": radiates,
    }  # fmt: skip


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
        "positron [keV]": number(row, "positron_energy", math.nan),
        "electron [keV]": number(row, "electron_energy", math.nan),
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
        if (energy_of(row) if by == "observable" else number(row, "energy", 0.0)) < minimum_energy:
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


def _window(value: float, low: float, high: float, below: float, above: float) -> float:
    """Return 1 from `low` to `high`, and less outside, over the distances `below` and `above`."""
    outside = max((low - value) / below, (value - high) / above, 0.0)
    return math.exp(-0.5 * outside**2)


def _mild(value: float, least: float = 0.9) -> float:
    """Return a term of the picture: from `least` to 1, so that it decides between tracks of nearly the same chance."""
    return least + (1 - least) * _clip(value)


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
