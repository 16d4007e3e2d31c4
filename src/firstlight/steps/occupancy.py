"""Occupancy: how often each channel fired.

Two quantities that are easily confused are kept apart: ``hits`` counts every hit, ``events`` counts the
events in which the channel has at least one hit. Occupancy in the strict sense is events / all events,
between 0 and 1; events without any hit count in the denominator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Chunk, Column, Table, TableSchema
from firstlight.data.sums import add_by_key
from firstlight.run.config import StrictModel
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["BY_FILE", "TOTALS", "Counts", "OccupancyParameters", "count", "occupancy", "offsets_of"]


class OccupancyParameters(StrictModel):
    """Parameters of `occupancy`.

    Attributes
    ----------
    marks : dict of str to str
        Columns of the hit table with a 0/1 flag that is counted beside all hits, by name of the quantity:
        ``{"in_time": "in_time"}``.
    """

    marks: dict[str, str] = {}


TOTALS = TableSchema(
    "totals",
    (
        Column("n_events", pl.Int64, "events that pass the selection"),
        Column("n_empty", pl.Int64, "of these, events without a hit"),
        Column("n_hits", pl.Int64, "hits that belong to a channel"),
    ),
    "the whole run",
)
BY_FILE = TableSchema(
    "by_file",
    (
        Column("file", pl.String, "name of the input file"),
        Column("channel", pl.Int32, "channel of the channel map"),
        Column("hits", pl.Int64, "hits of the channel in the file"),
    ),
    "a channel with hits in a file",
)


@dataclass(frozen=True)
class Counts:
    """Hits and events per channel; what chunks add up to.

    Parameters
    ----------
    values : ndarray of int64, shape (n_channels, n_kinds)
        Kinds: ``hits``, ``events``, then ``<mark>`` and ``events_<mark>`` of each mark.
    by_file : dict of int to ndarray of int64, shape (n_channels,)
        Hits of each input file.
    n_events, n_empty : int
        All events, and those without a hit.
    """

    values: NDArray[np.int64]
    by_file: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    n_events: int = 0
    n_empty: int = 0

    def __add__(self, other: Counts) -> Counts:
        by_file = add_by_key(self.by_file, other.by_file)
        n_empty = self.n_empty + other.n_empty
        return Counts(self.values + other.values, by_file, self.n_events + other.n_events, n_empty)


def offsets_of(events: Table) -> NDArray[np.int64]:
    """Return the row of the first hit of each event, of shape (n_events + 1,)."""
    n_hits = events.array("n_hits")
    return np.concatenate([[0], np.cumsum(n_hits, dtype=np.int64)])


def kinds_of(parameters: OccupancyParameters) -> list[str]:
    """Return the names of the counted quantities in order."""
    return ["hits", "events", *(name for mark in parameters.marks for name in (mark, f"events_{mark}"))]


def count(chunk: Chunk, parameters: OccupancyParameters, context: Context) -> Counts:
    """Count the hits of a chunk.

    Parameters
    ----------
    chunk : Chunk
        With ``hits`` (column ``channel``, and the marks) and ``events`` (column ``n_hits``).
    parameters : OccupancyParameters
        What to count.
    context : Context
        Gives the number of channels.
    """
    from firstlight.data import kernels

    hits, events = chunk.table("hits"), chunk.table("events")
    channel = np.ascontiguousarray(hits.array("channel"))
    offsets = offsets_of(events)
    columns = []
    for mark in ("", *parameters.marks.values()):
        chosen = channel if not mark else np.where(hits.array(mark) > 0, channel, np.int32(-1))
        counts = np.zeros((len(context.channels), 2), dtype=np.int64)
        kernels.count_channels(chosen, offsets, counts)
        columns.append(counts)
    values = np.hstack(columns)
    n_empty = int(np.count_nonzero(np.diff(offsets) == 0))
    return Counts(values, {chunk.span.index: values[:, 0].copy()}, len(events), n_empty)


def finish(partial: Counts, parameters: OccupancyParameters, context: Context) -> dict[str, Product]:
    """Return the products: ``counts[channel, kind]``, ``events`` (totals) and ``by_file`` (channels of each file)."""
    kinds = kinds_of(parameters)
    counts = Block(partial.values, ("channel", "kind"), "", "hits and events per channel", {"kind": kinds})
    sums = {
        "n_events": partial.n_events,
        "n_empty": partial.n_empty,
        "n_hits": int(partial.values[:, 0].sum()),
    }
    files, channels, hits = [], [], []
    for index in sorted(partial.by_file):
        found = np.flatnonzero(partial.by_file[index])
        files.append(np.full(found.size, index, dtype=np.int32))
        channels.append(found.astype(np.int32))
        hits.append(partial.by_file[index][found])
    names = np.array(context.files, dtype=object)
    columns: dict[str, NDArray[Any]] = {
        "file": names[np.concatenate(files)] if files else np.empty(0, dtype=object),
        "channel": np.concatenate(channels) if channels else np.empty(0, dtype=np.int32),
        "hits": np.concatenate(hits) if hits else np.empty(0, dtype=np.int64),
    }
    return {
        "counts": counts,
        "totals": Table.from_arrays(TOTALS, {key: np.array([value]) for key, value in sums.items()}),
        "by_file": Table.from_arrays(BY_FILE, columns),
    }


def needs(parameters: OccupancyParameters) -> Mapping[str, tuple[str, ...]]:
    """Return the columns that `count` reads."""
    return {"hits": ("channel", *parameters.marks.values()), "events": ("n_hits",)}


occupancy = ChunkStep("occupancy", count, finish, needs, parameters=OccupancyParameters)
