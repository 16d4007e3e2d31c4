"""Which tracks there are: energy, charge, extent and truth of each, and what tracks of one energy have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.lartpc.features.columns import TRUTH_FEATURES
from firstlight.detectors.lartpc.features.truth import truth_features
from firstlight.detectors.lartpc.options import EnergiesParameters, TracksParameters, rescaled
from firstlight.detectors.lartpc.tables import ARMS, EVENTS, INTERACTIONS, POINTS, READ, tracks_of
from firstlight.detectors.lartpc.track import ELECTRON_MASS
from firstlight.steps.step import ChunkStep, Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firstlight.data.schema import Chunk
    from firstlight.detectors.lartpc.track import Track

    Rows = tuple[Mapping[str, Any], ...]

__all__ = ["ENERGIES", "TRACKS", "available", "energies", "list_tracks", "sum_up_energies", "tracks"]

TRACKS = TableSchema(
    "tracks",
    (
        Column("file", pl.String, "input in which the track stands"),
        *EVENTS.columns,
        Column("deposited", pl.Float64, "energy deposited at all points", "keV", nullable=True),
        Column("charge_per_energy", pl.Float64, "electrons per energy that the particle leaves in argon", "1/keV", nullable=True),
        Column("extent_x", pl.Float64, "from the lowest to the highest point", "mm", nullable=True),
        Column("extent_y", pl.Float64, "from the lowest to the highest point", "mm", nullable=True),
        Column("extent_z", pl.Float64, "from the lowest to the highest point", "mm", nullable=True),
        Column("reach", pl.Float64, "largest distance of a point from the origin", "mm", nullable=True),
        *(replace(column, nullable=True) for column in TRUTH_FEATURES.columns if column.name not in EVENTS.names),
        Column("pair_balance", pl.Float64, "(sum of both) / (energy of the pair in the truth record)", nullable=True),
        Column("digest", pl.String, "of positions and charges: equal ones are the same track"),
    ),
    "a track",
)  # fmt: skip
ENERGIES = TableSchema(
    "energies",
    (
        Column("particle", pl.String, "electron, positron or photon"),
        Column("energy", pl.Float64, "kinetic energy", "keV", minimum=0),
        Column("n_tracks", pl.Int64, "tracks that were read", minimum=0),
        Column("charge_per_energy", pl.Float64, "mean of electrons per energy", "1/keV", nullable=True),
        Column("charge_spread", pl.Float64, "standard deviation of it", "1/keV", nullable=True),
        Column("extent", pl.Float64, "median of the largest extent", "mm", nullable=True),
        Column("reach", pl.Float64, "median of the largest distance from the origin", "mm", nullable=True),
        Column("radiated", pl.Float64, "mean share of energy in bremsstrahlung", nullable=True),
        Column("n_hard", pl.Float64, "mean number of hard bremsstrahlung photons", nullable=True),
        Column("n_pairs_first", pl.Int64, "photons that converted first", nullable=True),
        Column("n_first", pl.Int64, "photons whose first interaction is known", nullable=True),
    ),
    "the tracks of a particle and energy",
)


def available(particle: str, energy: float) -> float:
    """Return the energy [keV] that a particle of a kinetic energy [keV] leaves in argon: of a positron two electron masses more."""
    return energy + (2 * ELECTRON_MASS if particle == "positron" else 0.0)


def list_tracks(chunk: Chunk, _: TracksParameters, context: Context) -> Rows:
    """Return a row for each track of a chunk, refused ones included."""
    found = {row["track"]: (row, track) for row, track in tracks_of(chunk, rescale=rescaled(context))}
    rows = []
    for row in chunk.table("events").frame.iter_rows(named=True):
        own = {"file": context.files[chunk.span.index], **row}
        if row["status"] == READ:
            own["charge_scale"] = found[row["track"]][1].meta.get("charge_scale", row["charge_scale"])
            own |= _measure(row, found[row["track"]][1])
        else:
            own |= {"digest": ""}
        rows.append(own)
    return tuple(rows)


def _measure(row: Mapping[str, Any], track: Track) -> dict[str, Any]:
    import hashlib

    found: dict[str, Any] = {}
    digest = hashlib.sha256(np.ascontiguousarray(track.positions).tobytes())
    digest.update(np.ascontiguousarray(track.num_e).tobytes())
    found["digest"] = digest.hexdigest()[:24]
    if track.energy is not None:
        found["deposited"] = float(track.energy.sum(dtype=np.float64))
    if row["energy"]:
        found["charge_per_energy"] = track.charge / available(row["particle"], row["energy"])
    if len(track):
        extents = 1e3 * np.ptp(track.positions, axis=1)
        found |= {f"extent_{axis}": float(value) for axis, value in zip("xyz", extents, strict=True)}
        origin = track.truth.origin if track.truth else np.zeros(3)
        away = np.linalg.norm(track.positions - origin[:, None], axis=0)
        found["reach"] = float(1e3 * away.max())
    return found | _truth(track)


def _truth(track: Track) -> dict[str, Any]:
    found = truth_features(track)
    if track.truth is None or found is None:
        return {}
    row = found.row()
    recorded = track.truth.interactions.of("pair").energy
    if found.positron_energy is not None and found.electron_energy is not None and recorded.size:
        row["pair_balance"] = (found.positron_energy + found.electron_energy) / float(recorded[0])
    return row


def _table_of_tracks(rows: Rows, _: TracksParameters, __: Context) -> Mapping[str, Product]:
    return {"tracks": Table.from_rows(TRACKS, rows)}


def _needs(_: TracksParameters) -> dict[str, tuple[str, ...]]:
    return {schema.name: tuple(schema.names) for schema in (EVENTS, POINTS, INTERACTIONS, ARMS)}


def sum_up_energies(tracks: pl.DataFrame) -> pl.DataFrame:
    """Return what the tracks of each particle and energy have in common.

    Parameters
    ----------
    tracks : polars.DataFrame
        Of the schema `TRACKS`.

    Returns
    -------
    polars.DataFrame
        Of the schema `ENERGIES`, by particle and rising energy; tracks that were refused, or whose particle or energy
        is not known, are left out.
    """
    known = tracks.filter(pl.col("energy").is_not_null(), status=READ).filter(pl.col("particle") != "")
    extent = pl.max_horizontal("extent_x", "extent_y", "extent_z")
    first = pl.col("first_interaction").filter(pl.col("first_interaction") != "")
    photon = pl.col("particle").first() == "photon"
    return (
        known.group_by("particle", "energy")
        .agg(
            pl.len().alias("n_tracks"),
            pl.col("charge_per_energy").mean(),
            pl.col("charge_per_energy").std().alias("charge_spread"),
            extent.median().alias("extent"),
            pl.col("reach").median(),
            pl.col("radiated").mean(),
            pl.col("n_hard").cast(float).mean(),
            pl.when(photon).then((first == "pair").sum()).alias("n_pairs_first"),
            pl.when(photon).then(first.len()).alias("n_first"),
        )
        .sort("particle", "energy")
    )


def _energies(products: Mapping[str, Any], _: EnergiesParameters, __: Context) -> Mapping[str, Product]:
    frame = sum_up_energies(products["tracks/tracks"].frame)
    return {"energies": Table.from_frame(ENERGIES, frame)} if frame.height else {}


tracks = ChunkStep("tracks", list_tracks, _table_of_tracks, _needs, parameters=TracksParameters)
energies = ProductStep("energies", _energies, needs=("tracks/tracks",), parameters=EnergiesParameters)
