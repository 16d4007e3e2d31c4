"""Hits per event: the distribution over all events, empty ones included, of the whole and of each section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.data.schema import Block, Chunk
from firstlight.steps.step import ChunkStep, Context, NoParameters, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Multiplicity", "moments", "multiplicity"]


@dataclass(frozen=True)
class Multiplicity:
    """Number of events by number of hits.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_sections + 1, largest number of hits + 1)
        Row 0 is the whole detector, hits outside all channels included.
    """

    counts: NDArray[np.int64]

    def __add__(self, other: Multiplicity) -> Multiplicity:
        width = max(self.counts.shape[1], other.counts.shape[1])
        total = np.zeros((self.counts.shape[0], width), dtype=np.int64)
        for counts in (self.counts, other.counts):
            total[:, : counts.shape[1]] += counts
        return Multiplicity(total)


def count(chunk: Chunk, _: NoParameters, context: Context) -> Multiplicity:
    """Count the hits of each event of a chunk, by section."""
    names = context.channels.section_names
    hits, events = chunk.table("hits"), chunk.table("events")
    channel = hits.array("channel")
    event = hits.array("event")
    per_event = [events.array("n_hits")]
    if names:
        known = channel >= 0
        cell = event[known].astype(np.int64) * len(names) + context.channels.section_index[channel[known]]
        table = np.bincount(cell, minlength=len(events) * len(names)).reshape(len(events), len(names))
        per_event += list(table.T)
    width = max((int(row.max()) for row in per_event if row.size), default=0) + 1
    return Multiplicity(np.array([np.bincount(row, minlength=width) for row in per_event], dtype=np.int64))


def finish(partial: Multiplicity, _: NoParameters, context: Context) -> dict[str, Product]:
    """Return the product ``hits_per_event[section, number of hits]``."""
    labels = ["all", *context.channels.section_names]
    block = Block(
        partial.counts, ("section", "n_hits"), "events", "events by number of hits", {"section": labels}
    )
    return {"hits_per_event": block}


def moments(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return exact mean, median, population standard deviation, smallest and largest number of hits.

    Parameters
    ----------
    counts : ndarray, shape (n,)
        Events with 0, 1, 2 ... hits.

    Returns
    -------
    dict
        ``n``, ``mean``, ``median``, ``std``, ``minimum``, ``maximum``; NaN where there are no events.
    """
    total = int(counts.sum())
    if not total:
        return {"n": 0, **dict.fromkeys(("mean", "median", "std", "minimum", "maximum"), float("nan"))}
    number = np.arange(counts.size)
    mean = float((counts * number).sum() / total)
    spread = float(np.sqrt((counts * (number - mean) ** 2).sum() / total))
    upto = np.cumsum(counts)
    low = int(np.searchsorted(upto, (total - 1) // 2 + 1))
    high = int(np.searchsorted(upto, total // 2 + 1))
    filled = np.flatnonzero(counts)
    return {
        "n": total, "mean": mean, "median": (low + high) / 2, "std": spread,
        "minimum": float(filled[0]), "maximum": float(filled[-1]),
    }  # fmt: skip


def needs(_: NoParameters) -> Mapping[str, tuple[str, ...]]:
    """Return the columns that `count` reads."""
    return {"hits": ("channel", "event"), "events": ("n_hits",)}


multiplicity = ChunkStep("multiplicity", count, finish, needs)
