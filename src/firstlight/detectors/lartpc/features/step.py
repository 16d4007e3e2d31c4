"""The shape of every track of a run, as freed charge: a row of features each, and the cubes that pictures are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.lartpc.features.columns import FEATURES
from firstlight.detectors.lartpc.options import FeatureParameters, rescaled
from firstlight.detectors.lartpc.tables import EVENTS, tracks_of
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk
    from firstlight.detectors.lartpc.features.measure import Topology

__all__ = ["FILE", "RAW", "VOXELS", "Shapes", "features", "measure_tracks", "voxel_frame"]

FILE = Column("file", pl.String, "input in which the track stands")
RAW = TableSchema("raw", (FILE, *FEATURES.columns), "the shape of a track")
VOXELS = TableSchema(
    "voxels",
    (
        FILE,
        Column("track", pl.String, "name of the track"),
        Column("x", pl.Float32, "mean position of the charge", "mm"),
        Column("y", pl.Float32, "mean position of the charge", "mm"),
        Column("z", pl.Float32, "mean position of the charge", "mm"),
        Column("charge", pl.Float32, "charge", "electrons", minimum=0),
        Column("cluster", pl.Int16, "0 is the main cluster, -1 is none"),
    ),
    "a cube with charge",
)


@dataclass(frozen=True)
class Shapes:
    """Features of some tracks, and their cubes.

    Parameters
    ----------
    rows : tuple of mapping
        One a track.
    voxels : tuple of polars.DataFrame
        Of the schema `VOXELS`, one a track.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    voxels: tuple[pl.DataFrame, ...] = ()

    def __add__(self, other: Shapes) -> Shapes:
        return Shapes(self.rows + other.rows, self.voxels + other.voxels)


def voxel_frame(
    file: str, track: str, topology: Topology, shift: NDArray[np.float64] | None = None
) -> pl.DataFrame:
    """Return the cubes of a track as a table of the schema `VOXELS`, moved back by a shift [m] of shape (3,)."""
    places = 1e3 * (topology.voxels.positions - (np.zeros(3) if shift is None else shift)[:, None])
    columns = [
        pl.Series("file", [file], dtype=pl.String).new_from_index(0, len(topology.voxels)),
        pl.Series("track", [track], dtype=pl.String).new_from_index(0, len(topology.voxels)),
        *(pl.Series(axis, place, dtype=pl.Float32) for axis, place in zip("xyz", places, strict=True)),
        pl.Series("charge", topology.voxels.charge, dtype=pl.Float32),
        pl.Series("cluster", np.minimum(topology.cluster, 32767), dtype=pl.Int16),
    ]
    return pl.DataFrame(columns)


def measure_tracks(chunk: Chunk, parameters: FeatureParameters, context: Context) -> Shapes:
    """Return the features of the tracks of a chunk, and their cubes."""
    from firstlight.detectors.lartpc.features.measure import measure
    from firstlight.detectors.lartpc.features.settings import Settings

    settings = Settings.of_cubes(1e-3 * parameters.voxel, 1e-3 * parameters.link)
    file = context.files[chunk.span.index]
    rows, voxels = [], []
    for row, track in tracks_of(chunk, rescale=rescaled(context)):
        found = measure(track.positions, track.num_e, settings)
        own = {"file": file, **{name: row[name] for name in ("track", "particle", "energy")}}
        rows.append({**own, **found.row()})
        voxels.append(voxel_frame(file, row["track"], found.topology))
    return Shapes(tuple(rows), tuple(voxels))


def _finish(shapes: Shapes, _: FeatureParameters, __: Context) -> Mapping[str, Product]:
    cubes = pl.concat([pl.DataFrame(schema=VOXELS.dtypes), *shapes.voxels])
    return {"raw": Table.from_rows(RAW, shapes.rows), "voxels": Table(cubes, VOXELS)}


def _needs(_: FeatureParameters) -> dict[str, tuple[str, ...]]:
    return {"events": tuple(EVENTS.names), "points": ("event", "x", "y", "z", "num_e")}


features = ChunkStep("features", measure_tracks, _finish, _needs, parameters=FeatureParameters)
