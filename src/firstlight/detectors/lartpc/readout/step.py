"""Drift and read-out of every track of a run: what arrives, what is above threshold, and what shape is left."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.detectors.lartpc.channels import pads_at
from firstlight.detectors.lartpc.features.columns import FEATURES
from firstlight.detectors.lartpc.features.step import FILE, VOXELS, voxel_frame
from firstlight.detectors.lartpc.options import ReadoutParameters, rescaled
from firstlight.detectors.lartpc.tables import EVENTS, tracks_of
from firstlight.steps.step import ChunkStep, Context, NoParameters, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk
    from firstlight.detectors.lartpc.drift import Drifted
    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.detectors.lartpc.readout.designs import Design
    from firstlight.detectors.lartpc.readout.read import Readout
    from firstlight.detectors.lartpc.track import Track

__all__ = [
    "ANODE",
    "READOUT",
    "ReadTracks",
    "drift_and_read",
    "event_seed",
    "occupancy",
    "read_tracks",
    "readout",
]

_MOST_BUNCHES = 10_000_000
_LARGEST_CUBE = 2.0e-3  # m: that of the tree through the hits
READOUT = TableSchema(
    "tracks",
    (
        FILE,
        Column("track", pl.String, "name of the track"),
        Column("particle", pl.String, "electron, positron or photon; empty where nothing says so"),
        Column("energy", pl.Float64, "kinetic energy of the particle", "keV", minimum=0, nullable=True),
        Column("design", pl.String, "read-out"),
        Column(
            "depth",
            pl.Float64,
            "drift length, or that added to the distance from the top of the box",
            "m",
            minimum=0,
        ),
        Column("bunch", pl.Float64, "most electrons that were moved together", minimum=1),
        Column("num_e", pl.Int64, "electrons that were freed", minimum=0),
        Column("survivors", pl.Int64, "electrons that arrived at the anode", minimum=0),
        Column("sampled", pl.Int64, "electrons in all voxels, before noise", minimum=0),
        Column("n_voxels", pl.Int64, "voxels, or samples of wires, with charge", minimum=0),
        Column("n_triggered", pl.Int64, "samples above threshold", minimum=0),
        Column("triggered_charge", pl.Float64, "measured charge above threshold", "electrons"),
        Column("triggered_true", pl.Int64, "electrons in samples above threshold", minimum=0),
        Column("n_noise_hits", pl.Int64, "samples above threshold of noise alone", minimum=0),
        Column("expected_noise_hits", pl.Float64, "mean number of those", minimum=0),
        Column("beyond", pl.Int64, "electrons that arrive beyond the map of the anode", minimum=0),
    ),
    "the read-out of a track",
)
FEATURES_OF_HITS = TableSchema("features", (FILE, *FEATURES.columns), "the shape of a track in its hits")
HITS = TableSchema("hits", VOXELS.columns, "a sample above threshold")
ANODE = TableSchema(
    "anode",
    (
        Column("channel", pl.Int32, "pad of the map", minimum=0),
        Column("charge", pl.Int64, "electrons that arrived there, of all tracks", minimum=0),
        Column("n_tracks", pl.Int64, "tracks of which any arrived there", minimum=0),
    ),
    "a pad of the map of the anode",
)


@dataclass(frozen=True)
class ReadTracks:
    """What was read of some tracks.

    Parameters
    ----------
    rows, features : tuple of mapping
        One a track.
    hits : tuple of polars.DataFrame
        Of the schema `HITS`, one a track.
    charge, n_tracks : ndarray of int64, shape (n_pads,)
        Electrons on each pad, and tracks of which any arrived there.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    features: tuple[Mapping[str, Any], ...] = ()
    hits: tuple[pl.DataFrame, ...] = ()
    charge: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    n_tracks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __add__(self, other: ReadTracks) -> ReadTracks:
        return ReadTracks(
            self.rows + other.rows,
            self.features + other.features,
            self.hits + other.hits,
            self.charge + other.charge,
            self.n_tracks + other.n_tracks,
        )


def event_seed(track: Track) -> int:
    """Return the number by which a track gets random numbers of its own, whatever its name and the order of work.

    It is made of points and charges: two files of one name are not read with the same numbers.
    """
    return zlib.crc32(track.num_e.tobytes(), zlib.crc32(track.positions.tobytes()))


def drift_and_read(
    track: Track,
    design: Design,
    medium: Medium,
    *,
    depth: float,
    bunch: float = 1.0,
    seed: int = 1,
    coarse_trigger: bool = False,
    naive: bool = False,
) -> tuple[Drifted, Readout]:
    """Return a track drifted to the top of its box, and what a design reads of it.

    Parameters
    ----------
    track : Track
        With one point or more.
    design : Design
        Read-out.
    medium : Medium
        What it drifts through.
    depth : float
        Drift length added [m].
    bunch : float
        Most electrons moved together: 1 is every one by itself; 0 takes half of the noise of the design, as the original.
        Of more than ten million electrons (a third of a GeV) more are moved together, so that they fit into memory.
    seed : int
        Of all tracks; this one has its own numbers, by its points.
    coarse_trigger : bool
        Pixels are read where the coarse stage is above threshold.
    naive : bool
        All charge drifts the length `depth`. Otherwise the anode is at the top of the box around the track, as in the
        original: large events drift farther.
    """
    from firstlight.detectors.lartpc.drift import drift, stream
    from firstlight.detectors.lartpc.readout.cells import cell_around
    from firstlight.detectors.lartpc.readout.read import read_out

    cell = cell_around(track.positions, design)
    rng = stream(seed, event_seed(track))
    drifted = drift(
        track.positions,
        track.num_e,
        medium,
        rng,
        anode=cell.z_anode,
        depth=depth,
        bunch=max(bunch or design.gampy_bunch, np.ceil(track.charge / _MOST_BUNCHES)),
        naive=naive,
    )
    return drifted, read_out(drifted, design, rng, coarse_trigger=coarse_trigger)


def placed(track: Track, design: Design, seed: int) -> tuple[Track, NDArray[np.float64]]:
    """Return a track moved to a random place in a coarse cell, and by how much [m], shape (3,).

    Simulated electrons begin at 0, photons somewhere: on a grid of pixels and cubes that is fixed at 0 they would be told
    apart by that alone.
    """
    from firstlight.detectors.lartpc.drift import stream

    cell = np.array(design.pixels_per_cell) * max(design.collecting.pitch, _LARGEST_CUBE)
    shift = stream(seed, event_seed(track), 1).uniform(-0.5, 0.5, 3) * cell
    return replace(track, positions=track.positions + shift[:, None]), shift


def read_tracks(chunk: Chunk, parameters: ReadoutParameters, context: Context) -> ReadTracks:
    """Return what the read-out sees of the tracks of a chunk."""
    from firstlight.detectors.lartpc.readout.designs import design as named

    design, medium = named(parameters.design), context.options.medium.medium()  # type: ignore[attr-defined]
    file = context.files[chunk.span.index]
    n_pads = len(context.channels)
    total = ReadTracks(charge=np.zeros(n_pads, dtype=np.int64), n_tracks=np.zeros(n_pads, dtype=np.int64))
    for row, track in tracks_of(chunk, rescale=rescaled(context)):
        if not track.charge:
            continue
        moved, shift = placed(track, design, parameters.seed)
        drifted, read = drift_and_read(
            moved,
            design,
            medium,
            depth=parameters.depth,
            bunch=parameters.bunch,
            seed=parameters.seed,
            naive=parameters.distance == "common",
        )
        total = total + _one({**row, "num_e": track.charge}, file, drifted, read, shift, parameters, context)
    return total


def _one(
    row: Mapping[str, Any],
    file: str,
    drifted: Drifted,
    read: Readout,
    shift: NDArray[np.float64],
    parameters: ReadoutParameters,
    context: Context,
) -> ReadTracks:
    own = {"file": file, **{name: row[name] for name in ("track", "particle", "energy")}}
    pads = pads_at(drifted.positions - shift[:, None], context.options.anode)  # type: ignore[attr-defined]
    inside = pads >= 0
    charge = np.bincount(pads[inside], drifted.num_e[inside], len(context.channels)).astype(np.int64)
    samples = read.collected
    over = samples.triggered
    found = {
        **own,
        "design": read.design.name,
        "depth": parameters.depth,
        "bunch": drifted.bunch,
        "num_e": row["num_e"],
        "survivors": drifted.charge,
        "sampled": read.charge_true,
        "n_voxels": read.n_voxels,
        "n_triggered": read.n_triggered,
        "triggered_charge": read.charge,
        "triggered_true": int(samples.charge_true[over].sum()),
        "n_noise_hits": read.n_noise,
        "expected_noise_hits": read.expected_noise,
        "beyond": int(drifted.num_e[~inside].sum()),
    }
    shapes: tuple[Mapping[str, Any], ...] = ()
    hits: tuple[pl.DataFrame, ...] = ()
    if read.hits is not None:
        from firstlight.detectors.lartpc.features.measure import measure_hits
        from firstlight.detectors.lartpc.features.settings import Settings

        settings = Settings.of_hits(max(read.hits.pitch), 1e-3 * parameters.link)
        measured = measure_hits(read.hits, settings)
        shapes = ({**own, **measured.row()},)
        hits = (voxel_frame(file, row["track"], measured.topology, shift),)
    return ReadTracks((found,), shapes, hits, charge, (charge > 0).astype(np.int64))


def _finish(total: ReadTracks, _: ReadoutParameters, __: Context) -> Mapping[str, Product]:
    anode = {
        "channel": np.arange(total.charge.size),
        "charge": total.charge,
        "n_tracks": total.n_tracks,
    }
    products: dict[str, Product] = {
        "tracks": Table.from_rows(READOUT, total.rows),
        "anode": Table.from_arrays(ANODE, anode),
    }
    if total.features:
        products["features"] = Table.from_rows(FEATURES_OF_HITS, total.features)
        products["hits"] = Table(pl.concat([pl.DataFrame(schema=HITS.dtypes), *total.hits]), HITS)
    return products


def _needs(_: ReadoutParameters) -> dict[str, tuple[str, ...]]:
    return {"events": tuple(EVENTS.names), "points": ("event", "x", "y", "z", "num_e")}


def _count(products: Mapping[str, Any], _: NoParameters, __: Context) -> Mapping[str, Product]:
    tracks = products["readout/anode"].array("n_tracks")
    # what one run has of another is judged by tracks: the electrons of a track do not come one by one
    counts = np.stack([tracks, tracks], axis=1)
    words = "tracks that reach each pad"
    return {"counts": Block(counts, ("channel", "kind"), "", words, {"kind": ["hits", "events"]})}


readout = ChunkStep("readout", read_tracks, _finish, _needs, parameters=ReadoutParameters)
occupancy = ProductStep("occupancy", _count, needs=("readout/anode",))
