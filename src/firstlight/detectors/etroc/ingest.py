"""The first step: one hit table, one packet table and the counters of all files of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.detectors.etroc.channels import ETROC2_SIDE, board_of_link, channel_of, fields_of
from firstlight.detectors.etroc.source import HARMLESS, RAW_HITS, RAW_PACKETS, USED, WORDS
from firstlight.detectors.etroc.tables import COUNTERS, FILES, HITS, PACKETS
from firstlight.steps.step import ChunkStep, Context, NoParameters, Product

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from firstlight.data.channels import ChannelMap
    from firstlight.data.schema import Chunk
    from firstlight.detectors.etroc.readout.names import NameFields

__all__ = ["Collected", "collect", "finish", "ingest", "is_injection"]


@dataclass(frozen=True)
class Collected:
    """Chunks of tables, in order, with the file that each is of.

    Parameters
    ----------
    hits, packets, words : tuple of (int, polars.DataFrame)
        Number of the file, and the rows.
    records : tuple of (int, int)
        Number of the file, and the records of the chunk.
    formats : tuple of (int, str)
        Number of the file, and its format.
    """

    hits: tuple[tuple[int, pl.DataFrame], ...] = ()
    packets: tuple[tuple[int, pl.DataFrame], ...] = ()
    words: tuple[tuple[int, pl.DataFrame], ...] = ()
    records: tuple[tuple[int, int], ...] = ()
    formats: tuple[tuple[int, str], ...] = ()

    def __add__(self, other: Collected) -> Collected:
        return Collected(
            self.hits + other.hits,
            self.packets + other.packets,
            self.words + other.words,
            self.records + other.records,
            self.formats + other.formats,
        )


def collect(chunk: Chunk, _: NoParameters, __: Context) -> Collected:
    """Return the tables of a chunk."""
    file = chunk.span.index
    parts = {
        name: ((file, chunk.table(name).frame),) if name in chunk.parts else ()
        for name in ("hits", "packets", "words")
    }
    records = ((file, chunk.span.stop - chunk.span.start),)
    return Collected(**parts, records=records, formats=((file, str(chunk.facts.get("format", ""))),))


def finish(partial: Collected, _: NoParameters, context: Context) -> dict[str, Product]:
    """Return the products ``hits``, ``packets``, ``counters`` and ``files``."""
    channels = context.channels
    partial, names = _numbered(partial, context.files)
    fields = _names(names, context)
    hits = _with_places(_joined(partial.hits, RAW_HITS.dtypes), channels, fields)
    packets = _joined(partial.packets, RAW_PACKETS.dtypes)
    boards = _boards(packets["link"], channels)
    packets = packets.with_columns(board=boards.cast(pl.UInt8))
    words = _joined(partial.words, WORDS.dtypes)
    counters = words.with_columns(used=pl.col("word").is_in(list(USED)))
    return {
        "hits": Table(hits.select(HITS.names), HITS),
        "packets": Table(packets.select(PACKETS.names), PACKETS),
        "counters": Table(counters.select(COUNTERS.names), COUNTERS),
        "files": _files(partial, words, hits, fields, names),
    }


def _numbered(partial: Collected, files: Sequence[str]) -> tuple[Collected, list[str]]:
    """Return the chunks with files counted among those that were read, and their names: refused ones have no number."""
    read = sorted({file for file, _ in partial.records})
    number = {file: index for index, file in enumerate(read)}

    def renumbered(parts: tuple[tuple[int, Any], ...]) -> tuple[tuple[int, Any], ...]:
        return tuple((number[file], part) for file, part in parts)

    collected = (partial.hits, partial.packets, partial.words, partial.records, partial.formats)
    return Collected(*map(renumbered, collected)), [files[file] for file in read]


def _names(files: Sequence[str], context: Context) -> list[NameFields]:
    """Return what the names of files tell."""
    boards = context.channels.groups["board"].to_list()
    return [fields_of(PurePath(name).name, context.options, boards) for name in files]


def _joined(parts: Sequence[tuple[int, pl.DataFrame]], dtypes: Mapping[str, Any]) -> pl.DataFrame:
    frames = [frame.with_columns(file=pl.lit(file, dtype=pl.UInt16)) for file, frame in parts]
    if not frames:
        return pl.DataFrame(schema={**dtypes, "file": pl.UInt16})
    return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=True)


def _boards(links: pl.Series, channels: ChannelMap) -> pl.Series:
    board = board_of_link(channels)[links.to_numpy()]
    return pl.Series("board", np.where(board < 0, links.to_numpy(), board))


def _with_places(hits: pl.DataFrame, channels: ChannelMap, fields: Sequence[NameFields]) -> pl.DataFrame:
    """Return the hits with board, channel, and the row and column that the name of the file tells."""
    board = _boards(hits["link"], channels)
    if channels.groups["chip"].to_list() and channels.groups["chip"][0] == "ETROC1":
        places = _named_places(fields)
        if places:
            # a table of all boards of all files: looking up is faster than joining
            index = pl.Series(
                hits["file"].to_numpy().astype(np.uint32) << 8 | board.to_numpy().astype(np.uint32)
            )
            table = [places.get(number, (None, None)) for number in range(len(fields) << 8)]
            for k, name in enumerate(("row", "col")):
                told = pl.Series(name, [place[k] for place in table], dtype=pl.UInt8)
                hits = hits.with_columns(told.gather(index))
    row = hits["row"].fill_null(ETROC2_SIDE).to_numpy()
    col = hits["col"].fill_null(ETROC2_SIDE).to_numpy()
    channel = channel_of(channels)[board.to_numpy(), row, col]
    return hits.with_columns(board=board.cast(pl.UInt8), channel=pl.Series(channel, dtype=pl.Int32))


def _named_places(fields: Sequence[NameFields]) -> dict[int, tuple[int, int]]:
    """Return row and column that the names of files tell, by 256 x file + board."""
    from firstlight.detectors.etroc.readout.names import pixel_place

    places = {}
    for file, found in enumerate(fields):
        for board in found.boards:
            place = None if board.pixel is None else pixel_place(board.pixel)
            if place is not None:
                places[file << 8 | board.board] = (place[1], place[2])
    return places


def _files(
    partial: Collected,
    words: pl.DataFrame,
    hits: pl.DataFrame,
    fields: Sequence[NameFields],
    names: Sequence[str],
) -> Table:
    """Return a row for each file and board that its name tells; one row where it tells none."""
    n_records: dict[int, int] = {}
    for file, size in partial.records:
        n_records[file] = n_records.get(file, 0) + size
    n_words = dict(words.filter(unit="words").group_by("file").agg(pl.col("count").sum()).iter_rows())
    # counted by hand: grouping a million rows takes ten times the room
    place = hits["file"].to_numpy().astype(np.int32) << 8 | hits["board"].to_numpy()
    n_hits = np.bincount(place, minlength=len(fields) << 8).reshape(len(fields), 256)
    first = {
        file: f"{'' if place is None else f'{place}: '}{word}"
        for file, word, place in words.filter(~pl.col("word").is_in([*USED, *HARMLESS]))
        .sort("place", nulls_last=True, maintain_order=True)
        .group_by("file", maintain_order=True)
        .first()
        .select("file", "word", "place")
        .iter_rows()
    }
    formats = dict(partial.formats)
    rows = []
    for file in sorted(n_records):
        found = fields[file]
        common: dict[str, Any] = {
            "file": file, "name": names[file], "kind": formats[file], "run": found.run, "split": found.split,
            "n_words": n_words.get(file, 0), "n_records": n_records[file], "n_hits": int(n_hits[file].sum()),
            "board": None, "pixel": None, "phase": found.phase, "charge": None, "threshold": None,
            "bias": found.bias, "first_rejected": first.get(file),
        }  # fmt: skip
        if not found.boards:
            rows.append(common)
        rows += [
            {
                **common, "board": board.board, "pixel": board.pixel, "charge": board.charge, "threshold": board.threshold,
                "n_hits": int(n_hits[file, board.board]),
            }
            for board in found.boards
        ]  # fmt: skip
    return Table.from_rows(FILES, rows)


def is_injection(files: pl.DataFrame) -> bool:
    """Return whether the files of a run are points of a charge-injection scan.

    Raw words of a telescope have settings in their names too, and are no scan.
    """
    points = files.filter(pl.col("charge").is_not_null() & pl.col("threshold").is_not_null())
    # files of that format are one too where their names do not tell the settings
    return bool(points.filter(pl.col("kind") != "raw32").height or (files["kind"] == "injection").any())


def needs(_: NoParameters) -> Mapping[str, tuple[str, ...]]:
    """Return all columns of all tables."""
    return {"hits": tuple(RAW_HITS.names), "packets": tuple(RAW_PACKETS.names), "words": tuple(WORDS.names)}


ingest = ChunkStep("ingest", collect, finish, needs)
