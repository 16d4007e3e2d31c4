"""Reads the files of the bar array.

A file is text. The first line says what was measured, the last one that the file is complete; between them
stands one line per hit, ordered by event:

    # bars run=12 threshold=30 events=500
    event,channel,time_ns,charge_pc
    0,17,43.2,18.61
    ...
    # end rows=2310
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.data.patterns import FilePattern
from firstlight.data.schema import Chunk, Column, Span, Table, TableSchema
from firstlight.detector import Description
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firstlight.data.channels import ChannelMap

__all__ = ["SOURCES", "BarFiles"]

_TOP = re.compile(r"# bars run=(?P<run>\d+) threshold=(?P<threshold>\d+) events=(?P<events>\d+)\n")
_ROW = r"^(?<event>\d+),(?<channel>\d+),(?<time>-?[\d.]+),(?<charge>[\d.]+)\n$"
_END = re.compile(r"\n# end rows=(?P<rows>\d+)\n\Z")
_TYPES = {"event": pl.Int64, "channel": pl.Int64, "time": pl.Float64, "charge": pl.Float64}
_ROWS_PER_BATCH = 50_000  # bounds the memory: about 1 MB of text at a time

# The generic steps know these two tables. `hits` has a row per hit and ties it to the row of its event;
# `events` has a row per event, those without hits included, because they count in every rate.
HITS = TableSchema(
    "hits",
    (
        Column("event", pl.Int32, "row of the event in the table of events", minimum=0),
        Column("channel", pl.Int32, "bar that was hit", minimum=0, maximum=63),
        Column("time", pl.Float32, "time after the trigger", "ns"),
        Column("charge", pl.Float32, "charge of the pulse", "pC", minimum=0),
    ),
    "a hit",
)
EVENTS = TableSchema(
    "events",
    (
        Column("event_id", pl.Int64, "number of the event in the file", minimum=0),
        Column("n_hits", pl.Int32, "hits of the event", minimum=0),
    ),
    "an event",
)


@dataclass(frozen=True)
class BarFiles:
    """The source: any object with these members will do, there is no base class."""

    name: str = "csv"
    title: str = "CSV files of the bar array"
    version: int = 1
    suffixes: tuple[str, ...] = (".csv",)
    # typed fields of the file name become conditions of the run: {"run": 12, "threshold": 30}
    patterns: tuple[FilePattern, ...] = (FilePattern("bars_{run:04d}_thr{threshold:d}.csv"),)
    # one process reads a whole file: nobody can jump to event 1000 of a text file
    span_events: int | None = None

    @property
    def schemas(self) -> Mapping[str, TableSchema]:
        """Schemas of the tables that a chunk can hold."""
        return {"events": EVENTS, "hits": HITS}

    def sniff(self, path: Path) -> bool:
        """Return whether the file is one of ours: looks at the first bytes, never raises."""
        try:
            with path.open("rb") as stream:
                return stream.read(11) == b"# bars run="
        except OSError:
            return False

    def describe(self, path: Path) -> Description:
        """Return what the file holds; raises `InputError` if it is not one of ours, or not complete."""
        facts = _facts(path)
        conditions = next((found for pattern in self.patterns if (found := pattern.match(path.name))), {})
        tables = {name: tuple(schema.names) for name, schema in self.schemas.items()}
        return Description(str(path), self.name, "csv", facts["events"], tables, facts, conditions)

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,  # files with cable numbers look the channel up here; ours say it themselves
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield events `span.start` to `span.stop`, some at a time, with the columns that are asked for.

        Raises
        ------
        InputError
            If a line cannot be understood; names it.
        SchemaError
            If a column is unknown.
        """
        for table, names in columns.items():
            for name in names:
                self.schemas[table].column(name)  # raises, and says which columns there are
        step = chunk_events or 10_000
        batches, waiting = _batches(Path(span.path)), pl.DataFrame(schema=_TYPES)
        # a file without events still gives one chunk, so that every step has something to begin with
        for start in range(span.start, max(span.stop, span.start + 1), step):
            stop = min(start + step, span.stop)
            while waiting.is_empty() or waiting["event"][-1] < stop:
                if (batch := next(batches, None)) is None:
                    break
                waiting = pl.concat([waiting, batch.filter(pl.col("event") >= start)])
            n_rows = waiting["event"].search_sorted(stop)
            part = Span(span.path, span.index, start, stop)
            yield Chunk(part, _tables(waiting[:n_rows], part, columns))
            waiting = waiting[n_rows:]


def _tables(rows: pl.DataFrame, span: Span, columns: Mapping[str, tuple[str, ...]]) -> dict[str, Table]:
    """Return the wanted columns of both tables."""
    hits = {name: rows[name].to_numpy() for name in _TYPES}
    hits["event"] = hits["event"] - span.start
    n_hits = np.bincount(hits["event"], minlength=span.stop - span.start)
    events = {"event_id": np.arange(span.start, span.stop), "n_hits": n_hits}
    return {
        schema.name: Table.from_arrays(schema, {name: arrays[name] for name in columns[schema.name]})
        for schema, arrays in ((HITS, hits), (EVENTS, events))
        if schema.name in columns
    }


def _facts(path: Path) -> dict[str, int]:
    """Return what the first and the last line say: run, threshold, events, rows."""
    try:
        with path.open("rb") as stream:
            top = stream.readline(200).decode("ascii", "replace")
            stream.seek(max(stream.seek(0, io.SEEK_END) - 40, 0))
            bottom = stream.read().decode("ascii", "replace")
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InputError(what, where=path) from error
    first, last = _TOP.fullmatch(top), _END.search(bottom)
    if first is None:
        what = f"begins with {top[:40]!r}, not with '# bars run=...'" if top else "the file is empty"
        raise InputError(what, where=path)
    if last is None:
        what = "does not end with '# end rows=...': truncated, or still being written"
        raise InputError(what, where=path)
    return {name: int(value) for name, value in {**first.groupdict(), **last.groupdict()}.items()}


def _batches(path: Path) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file, some at a time; the first line that makes no sense is an error."""
    facts = _facts(path)
    left, number, event = facts["rows"], 3, 0
    with path.open(encoding="ascii", errors="replace", newline="\n") as stream:
        stream.readline()
        stream.readline()
        while lines := list(islice(stream, min(_ROWS_PER_BATCH, left))):
            batch = _parsed(lines)
            order = pl.col("event").is_between(
                pl.col("event").shift(1, fill_value=event), facts["events"] - 1
            )
            known = pl.all_horizontal(pl.all().is_not_null()) & (pl.col("channel") < 64)
            good = batch.select((order & known).fill_null(value=False)).to_series()
            if not good.all():
                row = good.arg_min()
                what = f"line {number + row} is not a hit of the run: {lines[row].rstrip()!r}"
                raise InputError(what, where=path)
            yield batch
            left, number, event = left - len(lines), number + len(lines), batch["event"][-1]
        if not stream.readline().startswith("# end"):
            what = f"line {number}: there are more hits than the last line says"
            raise InputError(what, where=path)


def _parsed(lines: list[str]) -> pl.DataFrame:
    """Return lines as columns; what cannot be understood is null."""
    fields = pl.DataFrame({"line": lines}).select(pl.col("line").str.extract_groups(_ROW)).unnest("line")
    return fields.select(pl.col(name).cast(kind, strict=False) for name, kind in _TYPES.items())


SOURCES = (BarFiles(),)
