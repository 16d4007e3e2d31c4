"""Reads SpinQuest hits from ROOT files: SRAW, RUS and its variants, track QA, hit matrices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.compiled import kernel
from firstlight.data.patterns import FilePattern
from firstlight.data.schema import Block, Chunk, Column, Span, Table, TableSchema
from firstlight.detector import Description
from firstlight.detectors.spinquest.layouts import (
    PADDING,
    TRIGGERS,
    Layout,
    decode_in_time,
    decode_triggers,
    find_layout,
    is_jagged,
)
from firstlight.errors import FirstlightError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap

__all__ = ["SOURCES", "STATUS", "RootHits", "channel_lookup", "locate", "warm_up"]

# why a hit belongs to no channel
STATUS = ("ok", "bad detector", "bad element")

_HITS_PER_CHUNK = 400_000

EVENTS = TableSchema(
    "events",
    (
        Column("run_id", pl.Int64, "run number; 0 or -1 in simulations"),
        Column("event_id", pl.Int64, "event number of the data acquisition"),
        Column("spill_id", pl.Int64, "spill number; not increasing in general"),
        Column("target_position", pl.Int16, "position of the target"),
        Column("turn_id", pl.Int64, "turn of the accelerator"),
        Column("rf_id", pl.Int64, "bucket of the accelerator"),
        *(Column(name, pl.Boolean, f"trigger {name} fired") for name in TRIGGERS),
        Column("n_hits", pl.Int32, "hits of the event, padding not counted", minimum=0),
        Column("n_padding", pl.Int32, "unused slots of fixed-size arrays", minimum=0),
    ),
    "an event",
)
_HIT_COLUMNS = (
    Column("event", pl.Int32, "row of the event in the table of events", minimum=0),
    Column("channel", pl.Int32, "channel of the channel map; -1 if the IDs are not in it", minimum=-1),
    Column("detector_id", pl.Int32, "detector ID as written"),
    Column("element_id", pl.Int32, "element ID as written"),
    Column("tdc_time", pl.Float32, "TDC time (common stop: larger is earlier)", "ns", nullable=True),
    Column(
        "drift_distance",
        pl.Float32,
        "distance of the track from the wire, signed in simulations",
        "cm",
        nullable=True,
    ),
    Column("in_time", pl.Int8, "1 in time, 0 not, -1 the file does not say", minimum=-1, maximum=1),
    Column("status", pl.UInt8, "0 ok, 1 no such detector, 2 no such element", maximum=2),
)
HITS = TableSchema("hits", _HIT_COLUMNS, "a hit of the main TDCs")
TRIGGER_HITS = TableSchema("trigger_hits", _HIT_COLUMNS, "a hodoscope hit of the trigger TDCs")


@kernel
def locate(
    detector: NDArray[Any],
    element: NDArray[Any],
    lookup: NDArray[np.int32],
    channel: NDArray[np.int32],
) -> None:
    """Find the channel of each hit.

    Parameters
    ----------
    detector, element : ndarray of int, shape (n,)
        IDs as written.
    lookup : ndarray, shape (n_detectors, n_elements)
        See `channel_lookup`.
    channel : ndarray, shape (n,)
        Filled: the channel, -1 if the plane has no such element, -2 if there is no such plane.
    """
    n_detectors, n_elements = np.uint64(lookup.shape[0]), np.uint64(lookup.shape[1])
    for row in range(detector.size):
        # as unsigned numbers negative IDs are beyond the table too: one comparison instead of two
        plane = np.uint64(np.int64(detector[row]))
        where = np.uint64(np.int64(element[row]))
        if plane < n_detectors and where < n_elements:
            channel[row] = lookup[plane, where]
        elif plane < n_detectors:
            channel[row] = max(lookup[plane, np.uint64(0)], -2)
        else:
            channel[row] = -2


def warm_up() -> None:
    """Compile the kernel for the types of IDs that files have."""
    for dtype in (np.int16, np.int32):
        ids = np.zeros(1, dtype=dtype)
        locate(ids, ids, np.zeros((1, 1), dtype=np.int32), np.zeros(1, dtype=np.int32))


def channel_lookup(channels: ChannelMap) -> NDArray[np.int32]:
    """Return the channel of each pair of IDs, of shape (largest detector ID + 1, largest element ID + 1).

    -1 where the plane has no such element; -2 throughout where there is no such plane.
    """
    detector = channels.column("detector_id")
    element = channels.column("element_id")
    table = np.full((int(detector.max()) + 1, int(element.max()) + 1), -2, dtype=np.int32)
    table[np.unique(detector)] = -1
    table[detector, element] = channels.column("channel")
    return table


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Turn whatever uproot raises on a damaged file into an `InputError` with a reason."""
    try:
        yield
    except FirstlightError:
        raise
    except Exception as error:  # (uproot raises many kinds, and all mean that this file cannot be read)
        text = " ".join(str(error).split())
        if isinstance(error, OSError) and "expected Chunk" in text:
            what = "the file ends too early: truncated, or still being written"
            raise InputError(what, where=path) from error
        what = f"cannot be read as a ROOT file: {type(error).__name__}: {text[:160]}"
        raise InputError(what, where=path) from error


@dataclass(frozen=True)
class RootHits:
    """Source of all SpinQuest ROOT files with hits."""

    name: str = "root"
    title: str = "SpinQuest ROOT files: SRAW (E1039, E906), RUS, track QA, hit matrix"
    version: int = 1
    suffixes: tuple[str, ...] = (".root",)
    patterns: tuple[FilePattern, ...] = (
        FilePattern("run_{run:06d}_spill_{spill:09d}_*.root"),
        FilePattern("run_{run:06d}_*.root"),
        FilePattern("digit_{run:06d}_R{revision:03d}.root"),
    )
    span_events: int | None = 200_000
    blocks: tuple[str, ...] = ("header",)

    @property
    def schemas(self) -> Mapping[str, TableSchema]:
        """Schemas of the tables that a chunk can hold."""
        return {"events": EVENTS, "hits": HITS, "trigger_hits": TRIGGER_HITS}

    def sniff(self, path: Path) -> bool:
        """Return whether the file begins like a ROOT file whose trees hold SpinQuest hits."""
        try:
            with path.open("rb") as stream:
                if stream.read(4) != b"root":
                    return False
            self.describe(path)
        except (OSError, InputError):
            return False
        return True

    def describe(self, path: Path) -> Description:
        """Return which layout the file has, how many events, and what is missing.

        Raises
        ------
        InputError
            If it cannot be used: truncated, without a tree, unsplit, a DST, not a ROOT file.
        """
        size = path.stat().st_size if path.exists() else 0
        if 0 < size < 100 or not path.exists():
            what = f"too short for a ROOT file ({size} bytes)" if size else "no such file"
            raise InputError(what, where=path)
        with self._open(path) as layout:
            tables = {"events": ("event_id", "n_hits"), "hits": tuple(layout.hits)}
            if layout.trigger_hits:
                tables["trigger_hits"] = tuple(layout.trigger_hits)
            notes = [*layout.notes]
            if layout.n_events == 0:
                notes.append("the tree has no events")
            conditions = next((found for pattern in self.patterns if (found := pattern.match(path.name))), {})
            facts = {
                **layout.facts,
                "has_in_time": "in_time" in layout.hits,
                "has_trigger": _has_trigger(layout),
            }
            if layout.n_planes is not None:
                facts["n_planes"] = layout.n_planes
            return Description(
                str(path), self.name, layout.kind, layout.n_events, tables, facts, conditions, tuple(notes)
            )

    @contextmanager
    def _open(self, path: str | Path) -> Iterator[Layout]:
        import uproot

        # nothing is read twice, so that caches would only hold on to memory
        with _explained(path), uproot.open(path, object_cache=None, array_cache=None) as file:
            trees = {
                name.split(";")[0]: file[name]
                for name, kind in file.classnames(recursive=True).items()
                if kind in {"TTree", "TNtuple"}
            }
            yield find_layout(trees, str(path))

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield the events and hits of a stretch of a file.

        Parameters
        ----------
        span : Span
            Which events.
        columns : mapping of str to tuple of str
            Wanted columns of ``events``, ``hits`` and ``trigger_hits``; ``{"header": ("n_hits",)}`` gives
            the block ``header[event, plane]`` of hits per plane as the writer counted them.
        channels : ChannelMap
            With ``detector_id`` and ``element_id``.
        chunk_events : int, optional
            Events per chunk; about 400,000 hits by default.

        Raises
        ------
        InputError
            If the file cannot be read to its end.
        SchemaError
            If a column is unknown.
        """
        for table, wanted in columns.items():
            for name in wanted:
                if table != "header":
                    self.schemas[table].column(name)
        lookup = channel_lookup(channels)
        # decompression frees the lock of the interpreter: two columns are read at a time
        with self._open(span.path) as layout, ThreadPoolExecutor(2) as pool:
            stop = min(span.stop, layout.n_events)
            reader = _Reader(layout, columns, lookup, pool)
            edges = _edges(layout, span.start, stop, chunk_events)
            for first, last in pairwise(edges):
                yield reader.chunk(Span(span.path, span.index, first, last))


def _has_trigger(layout: Layout) -> bool:
    return "triggers" in layout.events or {"fpga", "nim"} <= layout.events.keys()


def _edges(layout: Layout, start: int, stop: int, chunk_events: int | None) -> list[int]:
    """Return where chunks begin and end; a span without events is one empty chunk.

    Chunks end where baskets of the file end, as far as that keeps them near 400,000 hits: a basket that
    is shared by two chunks has to be decompressed for both.
    """
    if chunk_events is not None or stop <= start:
        return [*range(start, stop, chunk_events or 1), stop] if stop > start else [start, start]
    branch = layout.hits.get("detector_id", layout.hits.get("matrix"))
    inner = branch.interpretation.content if is_jagged(branch) else branch.interpretation
    hits = branch.uncompressed_bytes / np.dtype(inner.to_dtype).itemsize / layout.n_events
    most = max(int(_HITS_PER_CHUNK / max(hits, 1.0)), 1)
    edges = [start]
    for end in (int(offset) for offset in branch.entry_offsets):
        if edges[-1] < end < stop and end - edges[-1] >= most // 2:
            edges.append(end)
    edges.append(stop)
    return [edge for low, high in pairwise(edges) for edge in _cut(low, high, most)] + [stop]


def _cut(low: int, high: int, most: int) -> range:
    """Return the beginnings of equal parts of a stretch, none much longer than `most`."""
    parts = max(round((high - low) / (1.5 * most)), 1)
    return range(low, high, -(-(high - low) // parts))


class _Reader:
    """Reads chunks of one open file."""

    def __init__(
        self,
        layout: Layout,
        columns: Mapping[str, tuple[str, ...]],
        lookup: NDArray[np.int32],
        pool: ThreadPoolExecutor,
    ) -> None:
        self.layout = layout
        self.columns = columns
        self.lookup = lookup
        self.pool = pool

    def chunk(self, span: Span) -> Chunk:
        parts: dict[str, Table | Block] = {}
        n_hits = n_padding = np.zeros(span.stop - span.start, dtype=np.int32)
        hit_columns = self.columns.get("hits", ())
        if hit_columns or "n_hits" in self.columns.get("events", ()):
            arrays, n_hits, n_padding = self.hits(self.layout.hits, span, hit_columns)
            if hit_columns:
                parts["hits"] = Table.from_arrays(HITS, arrays)
        if "trigger_hits" in self.columns and self.layout.trigger_hits:
            arrays, _, _ = self.hits(self.layout.trigger_hits, span, self.columns["trigger_hits"])
            parts["trigger_hits"] = Table.from_arrays(TRIGGER_HITS, arrays)
        parts["events"] = self.events(span, n_hits, n_padding)
        if "header" in self.columns and self.layout.header is not None:
            values = self.layout.header.array(entry_start=span.start, entry_stop=span.stop, library="np")
            parts["header"] = Block(
                np.atleast_2d(values), ("event", "plane"), description="fNHits of the writer"
            )
        facts = {
            "kind": self.layout.kind,
            "has_in_time": "in_time" in self.layout.hits,
            "has_trigger": _has_trigger(self.layout),
            "has_time": "tdc_time" in self.layout.hits,
            "has_drift": "drift_distance" in self.layout.hits,
        }
        return Chunk(span, parts, facts)

    def hits(
        self, branches: Mapping[str, Any], span: Span, columns: tuple[str, ...]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32], NDArray[np.int32]]:
        """Return the wanted columns of the hits, and hits and padding per event."""
        if "matrix" in branches:
            raw, n_hits = _from_matrix(branches["matrix"], span)
            n_padding = np.zeros_like(n_hits)
        else:
            raw, n_hits, n_padding = self._from_vectors(branches, span, columns)
        total = int(n_hits.sum())
        found: dict[str, NDArray[Any]] = {}
        if "channel" in columns or "status" in columns:
            channel = np.empty(total, dtype=np.int32)
            locate(raw["detector_id"], raw["element_id"], self.lookup, channel)
            if "status" in columns:
                found["status"] = np.choose(np.minimum(channel, 0) + 2, (1, 2, 0)).astype(np.uint8)
            found["channel"] = np.maximum(channel, -1, out=channel)
        if "event" in columns:
            found["event"] = np.repeat(np.arange(n_hits.size, dtype=np.int32), n_hits)
        for name in ("tdc_time", "drift_distance"):
            found[name] = raw.get(name, np.empty(0))
            if name in columns and found[name].size != total:
                found[name] = np.full(total, np.nan, dtype=np.float32)
        if "in_time" in columns:
            flags = raw.get("in_time", np.empty(0))
            known = flags.size == total and "in_time" in branches
            found["in_time"] = (
                decode_in_time(flags, self.layout.kind) if known else np.full(total, -1, dtype=np.int8)
            )
        found.update({name: raw[name] for name in ("detector_id", "element_id") if name in columns})
        return {name: found[name] for name in columns}, n_hits, n_padding

    def _from_vectors(
        self, branches: Mapping[str, Any], span: Span, columns: tuple[str, ...]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32], NDArray[np.int32]]:
        wanted = {"element_id"} if {"channel", "status", "element_id"} & set(columns) else set()
        wanted |= {"tdc_time", "drift_distance", "in_time"} & set(columns)
        names = ["detector_id", *sorted(wanted & branches.keys())]
        flat = list(self.pool.map(lambda name: _flat(branches[name], span), names))
        raw = {name: values for name, (values, _) in zip(names, flat, strict=True)}
        sizes = {name: numbers for name, (_, numbers) in zip(names, flat, strict=True)}
        detector, counts = raw["detector_id"], sizes["detector_id"]
        if "element_id" in sizes and not np.array_equal(sizes["element_id"], counts):
            event = span.start + int(np.flatnonzero(sizes["element_id"] != counts)[0])
            what = f"event {event} has different numbers of detector and element IDs"
            raise InputError(what, where=span.path)
        n_padding = np.zeros_like(counts)
        if detector.dtype.itemsize > 2 or self.layout.kind.startswith("track QA"):
            keep = ~np.isin(detector, PADDING)
            if not keep.all():
                of_event = np.repeat(np.arange(counts.size), counts)
                n_padding = np.bincount(of_event[~keep], minlength=counts.size).astype(np.int32)
                # columns without values are shorter than the IDs; they are filled with NaN later
                raw = {
                    name: values[keep] if values.size == keep.size else np.empty(0)
                    for name, values in raw.items()
                }
                return raw, counts - n_padding, n_padding
        whole = {name: values for name, values in raw.items() if np.array_equal(sizes[name], counts)}
        return whole, counts, n_padding

    def events(self, span: Span, n_hits: NDArray[np.int32], n_padding: NDArray[np.int32]) -> Table:
        """Return the table of events with the wanted columns that the file has."""
        wanted = self.columns.get("events", ())
        arrays: dict[str, NDArray[Any]] = {}
        if set(TRIGGERS) & set(wanted):
            fired = self._triggers(span)
            arrays.update({name: fired[:, index] for index, name in enumerate(TRIGGERS)})
        for name in wanted:
            if name in self.layout.events:
                arrays[name] = _scalar(self.layout.events[name], span)
            elif name not in TRIGGERS:
                arrays[name] = {"n_hits": n_hits, "n_padding": n_padding}.get(name, np.zeros_like(n_hits))
        chosen = {name: arrays[name] for name in wanted} or {"n_hits": n_hits}
        return Table.from_arrays(EVENTS, chosen)

    def _triggers(self, span: Span) -> NDArray[np.bool_]:
        n_events = span.stop - span.start
        events = self.layout.events
        if "triggers" in events:
            return decode_triggers(_scalar(events["triggers"], span))
        if n_events and {"fpga", "nim"} <= events.keys():
            parts = [_scalar(events[name], span).reshape(n_events, -1) for name in ("fpga", "nim")]
            if all(part.shape[1] == 5 for part in parts):
                return np.asarray(np.hstack(parts) != 0)
        return np.zeros((n_events, len(TRIGGERS)), dtype=bool)


def _scalar(branch: Any, span: Span) -> NDArray[Any]:
    return np.asarray(branch.array(entry_start=span.start, entry_stop=span.stop, library="np"))


def _flat(branch: Any, span: Span) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return all values of a vector branch one after the other, and how many each event has."""
    if span.stop <= span.start:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32)
    if not is_jagged(branch):
        values = _scalar(branch, span)
        return values.reshape(-1), np.full(values.shape[0], values.shape[1], dtype=np.int32)
    layout = branch.array(entry_start=span.start, entry_stop=span.stop, library="ak").layout
    offsets = np.asarray(layout.offsets.data)
    content = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
    return content, np.diff(offsets).astype(np.int32)


def _from_matrix(branch: Any, span: Span) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32]]:
    fired = np.asarray(_scalar(branch, span) != 0)
    event, plane, element = np.nonzero(fired)
    raw = {"detector_id": (plane + 1).astype(np.int32), "element_id": (element + 1).astype(np.int32)}
    return raw, np.bincount(event, minlength=fired.shape[0]).astype(np.int32)


SOURCES = (RootHits(),)
