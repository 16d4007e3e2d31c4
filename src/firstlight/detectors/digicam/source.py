"""Sources: zfits of the camera, HDF5 of digicamtoy, plain arrays."""

from __future__ import annotations

import importlib
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from firstlight.data.patterns import FilePattern
from firstlight.data.schema import Block, Chunk, Column, Span, Table, TableSchema
from firstlight.detector import Description
from firstlight.detectors.digicam.readout.batch import NO_TIME, NO_TYPE
from firstlight.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firstlight.data.channels import ChannelMap
    from firstlight.detectors.digicam.readout.batch import EventBatch

__all__ = ["BLOCKS", "EVENTS", "SOURCES", "EventFiles"]

EVENTS = TableSchema(
    "events",
    (
        Column("number", pl.Int64, "number of the event, as the camera counts", minimum=0),
        Column(
            "time",
            pl.Int64,
            "clock of the camera, since 1970-01-01 (UTC)",
            "ns",
            minimum=0,
            nullable=True,
        ),
        Column(
            "event_type",
            pl.Int32,
            "flags: 1 and 2 triggered by 7 and 19 patches, 4 muon, 8 clocked, 128 continuous; -1 unknown",
            minimum=NO_TYPE,
        ),
    ),
    "one event of the camera",
)
BLOCKS = ("waveforms", "baselines")
"""Samples [event, channel, sample] in LSB, and the running baselines of the camera [event, channel] in LSB."""

# a tile of the camera has 100 events: 13 MB of waveforms
_CHUNK = 200
_READ_OUT = "firstlight.detectors.digicam.readout"


class _Events(Protocol):
    """What a module of the read-out has for each file."""

    n_events: int

    @property
    def notes(self) -> tuple[str, ...]: ...

    def facts(self) -> dict[str, Any]: ...

    def batches(
        self, start: int, stop: int, size: int, *, samples: bool, baselines: bool
    ) -> Iterator[EventBatch]: ...

    def verify(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class EventFiles:
    """Files of one kind with waveforms of all pixels.

    Parameters
    ----------
    name, title : str
        As of every source.
    opener, looks : str
        ``"module:function"`` in the read-out room: what opens a file, and what says whether a file looks like one.
    suffixes, common, patterns, span_events
        As of every source.
    options : mapping
        Arguments of `opener` beside the path: ``{"baseline_scale": 16}`` for zfits whose baselines should not be looked at.
    """

    name: str
    title: str
    opener: str
    looks: str
    suffixes: tuple[str, ...]
    common: tuple[str, ...] = ()
    version: int = 1
    patterns: tuple[FilePattern, ...] = ()
    span_events: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[str, ...] = BLOCKS
    schemas: Mapping[str, TableSchema] = field(default_factory=lambda: {"events": EVENTS})

    def sniff(self, path: Path) -> bool:
        """Return whether a file is of this kind, whatever its name."""
        return path.is_file() and bool(_imported(self.looks)(path))

    def describe(self, path: Path) -> Description:
        """Return how many events a file holds, of which length, and what its header and first events say.

        Raises
        ------
        InputError
            If it cannot be read, is cut off, or is of another kind.
        """
        with closing(self._open(path)) as events:
            facts = events.facts()
            conditions = next((found for pattern in self.patterns if (found := pattern.match(path.name))), {})
            tables = {"events": tuple(EVENTS.names)}
            return Description(
                str(path), self.name, self.title, events.n_events, tables, facts, conditions, events.notes
            )

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,  # noqa: ARG002  (a channel is a pixel, in the order of all files)
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield events, waveforms and baselines of a stretch of a file.

        Parameters
        ----------
        span : Span
            Which events.
        columns : mapping
            Columns of ``events``; ``waveforms`` and ``baselines`` ask for these blocks. Baselines that a file does not have
            are NaN.
        channels : ChannelMap
            Not used: channel and pixel are the same.
        chunk_events : int, optional
            Events in a chunk; 200 by default.

        Raises
        ------
        InputError
            If the file is damaged.
        SchemaError
            If a column or block is unknown.
        """
        for name, wanted in columns.items():
            if name not in (*self.schemas, *self.blocks):
                raise SchemaError.unknown("table", name, [*self.schemas, *self.blocks], where=span.path)
            for column in wanted if name in self.schemas else ():
                EVENTS.column(column)
        with closing(self._open(Path(span.path))) as events:
            events.verify()
            start = span.start
            batches = events.batches(
                span.start,
                span.stop,
                chunk_events or _CHUNK,
                samples="waveforms" in columns,
                baselines="baselines" in columns,
            )
            for batch in batches:
                stop = start + len(batch)
                yield _chunk(batch, Span(span.path, span.index, start, stop), columns)
                start = stop

    def _open(self, path: Path) -> _Events:
        found: _Events = _imported(self.opener)(path, **self.options)
        return found


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"{_READ_OUT}.{module}"), name)


def _chunk(batch: EventBatch, span: Span, columns: Mapping[str, tuple[str, ...]]) -> Chunk:
    parts: dict[str, Table | Block] = {}
    facts: dict[str, Any] = {}
    if "events" in columns:
        series = {
            "number": pl.Series("number", batch.number),
            "time": pl.Series("time", batch.time).set(pl.Series(batch.time == NO_TIME), None),
            "event_type": pl.Series("event_type", batch.event_type),
        }
        parts["events"] = Table(pl.DataFrame([series[name] for name in columns["events"]]), EVENTS)
    if "waveforms" in columns:
        facts["n_samples"] = batch.n_samples
        parts["waveforms"] = Block(
            batch.samples, ("event", "channel", "sample"), "LSB", "samples, 4 ns apart"
        )
    if "baselines" in columns:
        parts["baselines"] = Block(
            batch.known_baselines(), ("event", "channel"), "LSB", "running baselines of the camera"
        )
    return Chunk(span, parts, facts)


def _level_names(*suffixes: str) -> tuple[FilePattern, ...]:
    """Return the names of files with light of one level, as the simulation has them."""
    return tuple(FilePattern(f"{kind}_{{level:f}}*{suffix}") for suffix in suffixes for kind in ("led", "dc"))


SOURCES = (
    EventFiles(
        "zfits",
        "SST-1M zfits (messages CameraEvent)",
        "zfits:ZfitsEvents",
        "zfits_table:looks_like_events",
        (".fits.fz",),
        patterns=(
            FilePattern("CameraDigicam@localhost.localdomain_0_000.{file:d}.fits.fz"),
            FilePattern("SST1M_{telescope:02d}_{date:08d}_{file:03d}.fits.fz"),
            FilePattern("SST1M{telescope:d}_{date:08d}_{file:d}.fits.fz"),
            *_level_names(".fits.fz"),
        ),
        # 50 tiles: a few seconds
        span_events=5000,
    ),
    EventFiles(
        "toy",
        "digicamtoy HDF5",
        "toy:ToyEvents",
        "toy:looks_like_toy",
        (".hdf5", ".h5"),
        common=(".hdf5", ".h5"),
        patterns=_level_names(".hdf5", ".h5"),
        span_events=5000,
    ),
    EventFiles(
        "arrays",
        "arrays in .npz or HDF5 (samples[event, pixel, sample])",
        "arrays:ArrayEvents",
        "arrays:looks_like_arrays",
        (".npz", ".h5", ".hdf5"),
        common=(".npz", ".h5", ".hdf5"),
        patterns=_level_names(".npz", ".h5", ".hdf5"),
    ),
)
