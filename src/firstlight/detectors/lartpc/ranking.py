"""What a run says of its tracks together: who wins the Quest, and how well electrons and photons are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.lartpc.options import QuestParameters, SeparationParameters
from firstlight.detectors.lartpc.tables import READ
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["AREAS", "CURVES", "WEIGHTS", "quest", "separation"]

_SINGLE = 4  # features whose own curves are kept
AREAS = TableSchema(
    "areas",
    (
        Column("stage", pl.String, "what was measured: freed charge, or hits of the read-out"),
        Column("energy", pl.Float64, "kinetic energy", "keV", minimum=0),
        Column("score", pl.String, "all: the classifier; or the name of one feature"),
        Column("n_electrons", pl.Int64, "electrons", minimum=0),
        Column("n_photons", pl.Int64, "photons", minimum=0),
        Column("area", pl.Float64, "area under the curve", minimum=0, maximum=1),
        Column("error", pl.Float64, "its standard error (DeLong)", minimum=0),
        Column("kept", pl.Float64, "share of electrons kept where 10 % of photons are", minimum=0, maximum=1),
    ),
    "how well a score tells electrons from photons",
)
CURVES = TableSchema(
    "curves",
    (
        *AREAS.columns[:3],
        Column("false_positive", pl.Float64, "share of photons taken for electrons", minimum=0, maximum=1),
        Column("true_positive", pl.Float64, "share of electrons taken for electrons", minimum=0, maximum=1),
    ),
    "a point of a curve",
)
WEIGHTS = TableSchema(
    "weights",
    (
        *AREAS.columns[:2],
        Column("feature", pl.String, "column of the table of features"),
        Column("weight", pl.Float64, "of the scaled feature in the classifier; positive for electrons"),
    ),
    "what the classifier looks at",
)


def _rank(products: Mapping[str, Any], parameters: QuestParameters, _: Context) -> Mapping[str, Product]:
    from firstlight.detectors.lartpc.quest import QUEST, rank

    features, tracks = products["features/raw"].frame, products["tracks/tracks"].frame
    recorded = tracks.filter(status=READ).filter(pl.col("radiated").is_not_null())
    features, recorded = _with_own_names(features), _with_own_names(recorded)
    tables = [
        rank(
            features,
            recorded,
            by=by,
            kinds=parameters.kinds,
            minimum_energy=parameters.minimum_energy,
            runners_up=parameters.runners_up,
        )
        for by in ("observable", "truth")
    ]
    return {"ranking": Table.from_frame(QUEST, pl.concat(tables))}


def _with_own_names(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose tracks have names of their own: of equal ones, with the name of their file."""
    whole = (
        pl.when(frame["track"].is_duplicated())
        .then(pl.format("{}/{}", "file", "track"))
        .otherwise(pl.col("track"))
    )
    return frame.with_columns(track=whole)


def _separate(
    products: Mapping[str, Any], parameters: SeparationParameters, _: Context
) -> Mapping[str, Product]:
    areas: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    weights: list[dict[str, Any]] = []
    for stage, name in (("freed charge", "features/raw"), ("hits", "readout/features")):
        if name not in products:
            continue
        for energy, part in _energies(products[name].frame, parameters.minimum):
            own = {"stage": stage, "energy": energy}
            _one_energy(own, part, parameters, areas, curves, weights)
    if not areas:
        return {}
    return {
        "areas": Table.from_rows(AREAS, areas),
        "curves": Table.from_rows(CURVES, curves),
        "weights": Table.from_rows(WEIGHTS, weights),
    }


def _one_energy(
    own: Mapping[str, Any],
    part: pl.DataFrame,
    parameters: SeparationParameters,
    areas: list[dict[str, Any]],
    curves: list[dict[str, Any]],
    weights: list[dict[str, Any]],
) -> None:
    from firstlight.detectors.lartpc.separation import separate

    electrons = (part["particle"] == "electron").to_numpy()
    found = separate(part, electrons, folds=parameters.folds, seed=parameters.seed)
    chosen = {"all": found.classifier, **dict(list(found.single.items())[:_SINGLE])}
    for score, curve in chosen.items():
        areas.append(
            {
                **own,
                "score": score,
                "n_electrons": curve.n_positive,
                "n_photons": curve.n_negative,
                "area": curve.auc,
                "error": curve.error,
                "kept": curve.efficiency(0.1),
            }
        )
        points = zip(curve.false_positive.tolist(), curve.true_positive.tolist(), strict=True)
        curves += [{**own, "score": score, "false_positive": x, "true_positive": y} for x, y in points]
    weights += [{**own, "feature": name, "weight": weight} for name, weight in found.weights.items()]


def _energies(frame: pl.DataFrame, minimum: int) -> Iterator[tuple[float, pl.DataFrame]]:
    """Yield each energy that has enough electrons and photons, in an order that does not depend on that of the files."""
    known = frame.filter(pl.col("particle").is_in(["electron", "photon"]) & pl.col("energy").is_not_null())
    for (energy,), part in sorted(known.group_by("energy"), key=_first):
        counts: Sequence[int] = [part.filter(particle=kind).height for kind in ("electron", "photon")]
        if min(counts) >= minimum:
            yield float(str(energy)), part.sort("particle", "track", "file")


def _first(item: tuple[tuple[Any, ...], pl.DataFrame]) -> float:
    return float(item[0][0])


quest = ProductStep("quest", _rank, needs=("features/raw", "tracks/tracks"), parameters=QuestParameters)
separation = ProductStep(
    "separation",
    _separate,
    needs=("features/raw",),
    uses=("readout/features",),
    parameters=SeparationParameters,
)
