"""Tracks as tables, and back: what a source hands to the steps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.lartpc.reading.charge_scale import rescale_charge
from firstlight.detectors.lartpc.track import INTERACTION_KINDS, Arm, Interactions, Track, Truth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from firstlight.data.schema import Chunk

__all__ = ["ARMS", "EVENTS", "INTERACTIONS", "POINTS", "READ", "SCHEMAS", "Entry", "to_tables", "tracks_of"]

READ = "read"
_CREATORS = pl.Enum(("primary", *INTERACTION_KINDS))

EVENTS = TableSchema(
    "events",
    (
        Column("track", pl.String, "name of the file without its endings, or file and number of the event"),
        Column("status", pl.String, "read, or refused"),
        Column("reason", pl.String, "why it was refused"),
        Column("particle", pl.String, "electron, positron or photon; empty where nothing says so"),
        Column("energy", pl.Float64, "kinetic energy of the particle", "keV", minimum=0, nullable=True),
        Column("n_points", pl.Int64, "points of charge", minimum=0),
        Column("num_e", pl.Int64, "electrons that escaped recombination", minimum=0),
        Column("true_num_e", pl.Int64, "the same as the truth record has it", nullable=True),
        Column("charge_scale", pl.Float64, "factor by which charges were changed", nullable=True),
        Column("charge_model", pl.String, "how energy was made into charge; empty where not known"),
        Column("has_truth", pl.Boolean, "whether a truth record was found"),
        Column("records_deltas", pl.Boolean, "whether the truth record has the delta rays"),
        Column("first_interaction", pl.String, "of a photon: compton, pair or photo; empty where not known"),
        Column("origin_x", pl.Float64, "first point, or first interaction of a photon", "m", nullable=True),
        Column("origin_y", pl.Float64, "first point, or first interaction of a photon", "m", nullable=True),
        Column("origin_z", pl.Float64, "first point, or first interaction of a photon", "m", nullable=True),
        Column("direction_x", pl.Float64, "unit vector in which the particle set out", nullable=True),
        Column("direction_y", pl.Float64, "unit vector in which the particle set out", nullable=True),
        Column("direction_z", pl.Float64, "unit vector in which the particle set out", nullable=True),
        Column(
            "bin_size", pl.Float64, "edge of the cubes into which points were put; 0: none", "m", minimum=0
        ),
    ),
    "a track",
)
POINTS = TableSchema(
    "points",
    (
        Column("event", pl.Int32, "row of the track in the table of events", minimum=0),
        Column("x", pl.Float64, "position", "m"),
        Column("y", pl.Float64, "position", "m"),
        Column("z", pl.Float64, "position", "m"),
        Column("num_e", pl.Int64, "electrons that escaped recombination", minimum=0),
        Column("energy", pl.Float32, "energy deposited", "keV", nullable=True),
        Column("particle_id", pl.Int32, "particle that deposited it; 0 is the primary", nullable=True),
        Column("parent_id", pl.Int32, "particle that made that one; -1 is none", nullable=True),
        Column("pdg", pl.Int32, "kind of that particle: 11, -11 or 22", nullable=True),
        Column("creator", _CREATORS, "process that made that particle", nullable=True),
    ),
    "a point of charge, in the order of the file",
)
INTERACTIONS = TableSchema(
    "interactions",
    (
        Column("event", pl.Int32, "row of the track in the table of events", minimum=0),
        Column("kind", pl.String, f"one of {', '.join(INTERACTION_KINDS)}"),
        Column("energy", pl.Float64, "energy that changed hands", "keV"),
        Column("x", pl.Float64, "position", "m"),
        Column("y", pl.Float64, "position", "m"),
        Column("z", pl.Float64, "position", "m"),
        Column("particle_id", pl.Int32, "particle that interacted; -1: not known"),
    ),
    "an interaction of the truth record",
)
ARMS = TableSchema(
    "arms",
    (
        Column("event", pl.Int32, "row of the track in the table of events", minimum=0),
        Column("pdg", pl.Int32, "-11 positron, 11 electron"),
        Column("kinetic_energy", pl.Float64, "where it was made", "keV"),
        Column("x", pl.Float64, "direction"),
        Column("y", pl.Float64, "direction"),
        Column("z", pl.Float64, "direction"),
    ),
    "one of the two particles into which a photon converted first",
)
SCHEMAS: Mapping[str, TableSchema] = {schema.name: schema for schema in (EVENTS, POINTS, INTERACTIONS, ARMS)}


@dataclass(frozen=True)
class Entry:
    """A track of a source, or why there is none.

    Parameters
    ----------
    name : str
        Of the track.
    track : Track or None
        None where it was refused.
    reason : str
        Why it was refused.
    particle : str
        What the folder says, where the truth record does not.
    energy : float
        What the folder says [keV]; NaN where it does not.
    true_num_e : int or None
        Sum of charges in the truth record.
    """

    name: str
    track: Track | None
    reason: str = ""
    particle: str = ""
    energy: float = float("nan")
    true_num_e: int | None = None


def to_tables(entries: Sequence[Entry], columns: Mapping[str, tuple[str, ...]]) -> dict[str, Table]:
    """Return some tables of some tracks, each with the columns that are asked for.

    Raises
    ------
    SchemaError
        If a table has no such column; names its nearest neighbours.
    """
    made = {"events": _events, "points": _points, "interactions": _interactions, "arms": _arms}
    tables = {}
    for name, wanted in columns.items():
        schema = SCHEMAS[name]
        for column in wanted:
            schema.column(column)
        tables[name] = Table(made[name](entries, wanted), schema)
    return tables


def _frame(schema: TableSchema, wanted: Sequence[str], values: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(name, values[name], dtype=schema.column(name).dtype) for name in wanted])


def _event_row(entry: Entry) -> dict[str, Any]:
    track = entry.track
    truth = None if track is None else track.truth
    row: dict[str, Any] = {
        "track": entry.name,
        "status": READ if track is not None else "refused",
        "reason": entry.reason,
        "particle": truth.particle if truth else entry.particle,
        "energy": truth.energy if truth else (entry.energy if entry.energy == entry.energy else None),
        "n_points": len(track) if track is not None else 0,
        "num_e": track.charge if track is not None else 0,
        "true_num_e": entry.true_num_e,
        "charge_scale": track.meta.get("charge_scale") if track is not None else None,
        "charge_model": _model_of(track) if track is not None else "",
        "has_truth": truth is not None,
        "records_deltas": bool(track is not None and track.meta.get("deltas")),
        "first_interaction": truth.first_interaction if truth else "",
        "bin_size": track.bin_size if track is not None else 0.0,
    }
    for name in ("origin", "direction"):
        vector = getattr(truth, name) if truth else (None, None, None)
        row |= {f"{name}_{axis}": value for axis, value in zip("xyz", vector, strict=True)}
    return row


def _model_of(track: Track) -> str:
    model = track.meta.get("charge_model")
    return str((model.get("name") if isinstance(model, dict) else model) or "")


def _events(entries: Sequence[Entry], wanted: Sequence[str]) -> pl.DataFrame:
    rows = [_event_row(entry) for entry in entries]
    return _frame(EVENTS, wanted, {name: [row[name] for row in rows] for name in wanted})


def _points(entries: Sequence[Entry], wanted: Sequence[str]) -> pl.DataFrame:
    # each column by itself: a step that asks for positions alone does not pay for the others
    def column(name: str) -> Any:
        dtype = POINTS.column(name).dtype
        parts = [pl.Series(name, [], dtype=dtype)]
        for event, entry in enumerate(entries):
            if entry.track is None:
                continue
            parts.append(pl.Series(name, _point_values(entry.track, name, event), dtype=dtype))
        return pl.concat(parts)

    return _frame(POINTS, wanted, {name: column(name) for name in wanted})


def _point_values(track: Track, name: str, event: int) -> Any:
    if name == "event":
        return np.full(len(track), event, dtype=np.int32)
    if name in ("x", "y", "z"):
        return track.positions["xyz".index(name)]
    values = getattr(track, name)
    return [None] * len(track) if values is None else values


def _interactions(entries: Sequence[Entry], wanted: Sequence[str]) -> pl.DataFrame:
    records = [
        (event, entry.track.truth.interactions)
        for event, entry in enumerate(entries)
        if entry.track is not None and entry.track.truth is not None
    ]
    values: dict[str, Any] = {
        "event": [event for event, record in records for _ in range(len(record))],
        "kind": [str(kind) for _, record in records for kind in record.kind],
        "energy": np.concatenate([np.zeros(0), *(record.energy for _, record in records)]),
        "particle_id": np.concatenate([np.zeros(0), *(record.particle_id for _, record in records)]),
    }
    positions = np.concatenate([np.zeros((3, 0)), *(record.position for _, record in records)], axis=1)
    return _frame(INTERACTIONS, wanted, values | dict(zip("xyz", positions, strict=True)))


def _arms(entries: Sequence[Entry], wanted: Sequence[str]) -> pl.DataFrame:
    records = [
        (event, arm)
        for event, entry in enumerate(entries)
        if entry.track is not None and entry.track.truth is not None
        for arm in entry.track.truth.arms
    ]
    values: dict[str, Any] = {
        "event": [event for event, _ in records],
        "pdg": [arm.pdg for _, arm in records],
        "kinetic_energy": [arm.kinetic_energy for _, arm in records],
    }
    directions = np.array([arm.direction for _, arm in records]).reshape(-1, 3).T
    return _frame(ARMS, wanted, values | dict(zip("xyz", directions, strict=True)))


def tracks_of(chunk: Chunk, *, rescale: bool = False) -> Iterator[tuple[Mapping[str, Any], Track]]:
    """Yield the row of each track that was read, and the track with as much as the chunk has of it.

    Truth is there where the chunk has the tables ``interactions`` and ``arms``, and the track has a truth record.

    Parameters
    ----------
    chunk : Chunk
        With the tables ``events`` and ``points``.
    rescale : bool
        Bring the charges of PENELOPE tracks to one scale; the others are as they are.

    Raises
    ------
    InputError
        If a track is to be rescaled and does not say by how much.
    """
    events = chunk.table("events").frame
    points = _by_event(chunk, "points", events.height)
    interactions = _by_event(chunk, "interactions", events.height)
    arms = _by_event(chunk, "arms", events.height)
    for number, row in enumerate(events.iter_rows(named=True)):
        if row["status"] != READ:
            continue
        frame = points[number]
        truth = None
        if row.get("has_truth") and "interactions" in chunk.parts:
            truth = _truth(row, interactions[number], arms[number])
        model = row.get("charge_model")
        track = Track(
            np.ascontiguousarray(frame.select("x", "y", "z").to_numpy().T),
            frame["num_e"].to_numpy(),
            truth,
            meta={"deltas": bool(row.get("records_deltas")), "charge_model": model or None},
            name=row["track"],
            **{
                name: _known(frame, name) for name in ("energy", "particle_id", "parent_id", "pdg", "creator")
            },
            bin_size=row.get("bin_size") or 0.0,
        )
        if rescale and track.charge and model in ("", "gampy"):
            track = rescale_charge(track)
        yield row, track


def _by_event(chunk: Chunk, name: str, n_events: int) -> list[pl.DataFrame]:
    if name not in chunk.parts:
        return [pl.DataFrame()] * n_events
    frame = chunk.table(name).frame
    edges = np.searchsorted(frame["event"].to_numpy(), np.arange(n_events + 1))
    return [frame[int(start) : int(stop)] for start, stop in itertools.pairwise(edges)]


def _known(frame: pl.DataFrame, name: str) -> Any:
    if name not in frame.columns or frame[name].null_count():
        return None
    return frame[name].to_numpy()


def _truth(row: Mapping[str, Any], interactions: pl.DataFrame, arms: pl.DataFrame) -> Truth:
    def vector(name: str) -> Any:
        return np.array([row[f"{name}_{axis}"] for axis in "xyz"])

    record = Interactions(
        interactions["kind"].to_numpy().astype("U12"),
        interactions["energy"].to_numpy(),
        np.ascontiguousarray(interactions.select("x", "y", "z").to_numpy().T).reshape(3, -1),
        interactions["particle_id"].to_numpy(),
    )
    pair = tuple(
        Arm(arm["pdg"], arm["kinetic_energy"], np.array([arm["x"], arm["y"], arm["z"]]))
        for arm in arms.iter_rows(named=True)
    )
    return Truth(
        row["particle"],
        row["energy"],
        vector("origin"),
        vector("direction"),
        row["first_interaction"],
        record,
        pair,
    )
