"""Reads the files of ETROC1 and ETROC2 read-outs; what is special about a format stands in a row of a table."""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Chunk, Column, Span, Table, TableSchema
from firstlight.detector import Description
from firstlight.detectors.etroc.tables import HITS, PACKETS
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.patterns import FilePattern
    from firstlight.detectors.etroc.tables import Decoded

__all__ = ["HARMLESS", "SOURCES", "USED", "Link", "ReadOut", "decoded"]

_HERE = "firstlight.detectors.etroc.readout"
# bytes that are enough to recognise a format
_START = 1 << 16
# decoded files that are kept between looking and reading [bytes]
_KEPT = 64 << 20
_ADDED = ("file", "board", "channel")
_UNKNOWN = 255
# a file of which less can be used is of another format
_USABLE = 0.5

RAW_HITS = TableSchema(
    "hits",
    tuple(column for column in HITS.columns if column.name not in _ADDED),
    "one hit as read, before it is known which board and pixel it is of",
)
RAW_PACKETS = TableSchema(
    "packets", tuple(column for column in PACKETS.columns if column.name not in _ADDED), "one packet as read"
)
WORDS = TableSchema(
    "words",
    (
        Column("unit", pl.String, "words; payload words: 40-bit words inside of event frames"),
        Column("word", pl.String, "what became of words"),
        Column("count", pl.Int64, "words"),
        Column("place", pl.Int64, "place of the first such word, where it is known", nullable=True),
    ),
    "words of a file by what became of them, all in the first chunk",
)
HARMLESS = (
    "filler",
    "FIFO empty",
    "blank line",
    "header line",
    "trigger time",
    "before event 0 or 1",
    "board 2",
    "hit flag 0",
)
"""Words that are no fault: they fill the stream, or are known to stand outside of it."""
USED = ("header", "data", "trailer", "hit", "frame header", "payload", "frame trailer")
"""Words that were used."""


@dataclass(frozen=True)
class Link:
    """What came over one link.

    Parameters
    ----------
    link : int
        E-link, channel, or board number as read.
    chip_id : int or None
        Chip number that its trailers tell.
    first_column, last_column : int or None
        Range of the columns with hits.
    hits : int
        Hits.
    """

    link: int
    chip_id: int | None
    first_column: int | None
    last_column: int | None
    hits: int

    def __str__(self) -> str:
        chip = "" if self.chip_id is None else f", chip {self.chip_id}"
        columns = "" if self.first_column is None else f", columns {self.first_column} to {self.last_column}"
        return f"{self.link} ({self.hits:,} hits{chip}{columns})"


_memory: OrderedDict[tuple[str, int, int, str], Decoded] = OrderedDict()


def decoded(path: Path, decoder: str) -> Decoded:
    """Return what a decoder makes of a file; the last small files are kept, as they are looked at before they are read.

    Parameters
    ----------
    path : Path
        The file.
    decoder : str
        ``"module:function"`` in the read-out room.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        state = path.stat()
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InputError(what, where=path) from error
    key = (str(path.absolute()), state.st_size, state.st_mtime_ns, decoder)
    if key in _memory:
        _memory.move_to_end(key)
        return _memory[key]
    module, _, function = decoder.partition(":")
    found: Decoded = getattr(importlib.import_module(f"{_HERE}.{module}"), function)(path)
    _memory[key] = found
    while len(_memory) > 1 and sum(map(_size, _memory.values())) > _KEPT:
        _memory.popitem(last=False)
    return found


def _forget(found: Decoded) -> None:
    """Let go of a file that was read to its end."""
    for key in [key for key, kept in _memory.items() if kept is found]:
        _memory.pop(key, None)


def _size(found: Decoded) -> int:
    return sum(array.nbytes for part in (found.hits, found.packets) for array in part.values())


@dataclass(frozen=True)
class ReadOut:
    """One format of one read-out.

    Parameters
    ----------
    name, title : str
        As of every source.
    chip : {"ETROC1", "ETROC2"}
        What is read out.
    decoder, looks : str
        ``"module:function"``: what decodes a file, and what says whether the first bytes look like one.
    suffixes : tuple of str
        Endings of file names.
    empty_names : str
        Expression that the name of a file without any content must match: an empty file says nothing by itself.
    has_packets : bool
        Whether hits come in packets.
    unit : str
        What is counted as an event of a file.
    """

    name: str
    title: str
    chip: str
    decoder: str
    looks: str
    suffixes: tuple[str, ...]
    empty_names: str = r"(?!)"
    has_packets: bool = False
    version: int = 1
    patterns: tuple[FilePattern, ...] = ()
    span_events: int | None = None
    unit: str = "lines"
    common: tuple[str, ...] = (".txt",)
    schemas: Mapping[str, TableSchema] = field(
        default_factory=lambda: {"hits": RAW_HITS, "packets": RAW_PACKETS, "words": WORDS}
    )

    def sniff(self, path: Path) -> bool:
        """Return whether the first bytes of a file look like this format; of an empty file, whether its name does."""
        try:
            if not path.is_file() or not path.name.endswith(self.suffixes):
                return False
            with path.open("rb") as stream:
                start = stream.read(_START)
        except OSError:
            return False
        if not start:
            return re.fullmatch(self.empty_names, path.name) is not None
        module, _, function = self.looks.partition(":")
        return bool(getattr(importlib.import_module(f"{_HERE}.{module}"), function)(start))

    def describe(self, path: Path) -> Description:
        """Return how many words, packets and hits a file holds, and of which links.

        Raises
        ------
        InputError
            If it cannot be read, or holds nothing of this format.
        """
        found = self._decoded(path)
        counted = [*found.counters.items(), *found.facts.get("payload_counters", {}).items()]
        rejected = {word: count for word, count in counted if word not in USED and word not in HARMLESS}
        facts: dict[str, Any] = {
            "chip": self.chip,
            "words": f"{found.n_words:,}",
            "hits": f"{found.hits['toa'].size:,}",
            "links": links_of(found),
        }
        notes = [f"{count:,} words not used: {word}" for word, count in rejected.items()]
        notes = notes[:6] + ([f"and {len(notes) - 6} more reasons"] if len(notes) > 6 else [])
        if not found.n_words:
            notes.append("the file is empty: a run without data")
        tables = {"hits": tuple(RAW_HITS.names), "words": tuple(WORDS.names)}
        if self.has_packets:
            tables["packets"] = tuple(RAW_PACKETS.names)
        return Description(str(path), self.name, self.title, found.n_records, tables, facts, {}, tuple(notes))

    def _decoded(self, path: Path) -> Decoded:
        found = decoded(path, self.decoder)
        used = sum(count for word, count in found.counters.items() if word in USED)
        harmless = sum(found.counters.get(word, 0) for word in HARMLESS if word != "blank line")
        # fillers alone may be words of any format: the first bytes decide
        if used + harmless < _USABLE * found.n_words or (found.n_words and not used and not self.sniff(path)):
            place, reason = found.rejected[0] if found.rejected else (1, "not of this format")
            what = f"{used:,} of {found.n_words:,} words can be used; the first bad one is {place}: {reason}"
            raise InputError(what, where=path)
        if not found.n_words and re.fullmatch(self.empty_names, path.name) is None:
            what = "the file is empty"
            raise InputError(what, where=path, hint="was it copied whole?")
        return found

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,  # noqa: ARG002
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield hits, packets and words of a stretch of a file.

        Parameters
        ----------
        span : Span
            Counted in packets, or in lines with a hit where there are no packets.
        columns : mapping
            Columns of ``hits``, ``packets`` and ``words``.
        channels : ChannelMap
            Not used: boards and pixels are added later, with what the names of the files say.
        chunk_events : int, optional
            Packets or lines in a chunk; all by default.
        """
        for table, names in columns.items():
            for name in names:
                self.schemas[table].column(name)
        found = self._decoded(Path(span.path))
        step = chunk_events or max(span.stop - span.start, 1)
        for start in range(span.start, max(span.stop, span.start + 1), step):
            stop = min(start + step, span.stop)
            parts: dict[str, Table] = {}
            if "hits" in columns:
                parts["hits"] = _hits(found, start, stop, columns["hits"])
            if "packets" in columns:
                parts["packets"] = _packets(found, start, stop, columns["packets"])
            if "words" in columns:
                parts["words"] = _words(found, columns["words"], first=start == 0)
            yield Chunk(Span(span.path, span.index, start, stop), parts, {"format": self.name})
        if span.stop >= found.n_records:
            _forget(found)


def links_of(found: Decoded) -> tuple[Link, ...]:
    """Return what came over each link of a file."""
    hits, packets = found.hits, found.packets
    numbers = np.union1d(np.unique(hits["link"]), np.unique(packets["link"]) if packets else [])
    chips = found.facts.get("chip_ids", {})
    rows = []
    for number in numbers.astype(int).tolist():
        of_link = hits["link"] == number
        column = hits["col"][of_link]
        column = column[column != _UNKNOWN]
        chip = chips.get(number)
        low, high = (int(column.min()), int(column.max())) if column.size else (None, None)
        rows.append(
            Link(number, None if chip is None or chip < 0 else int(chip), low, high, int(of_link.sum()))
        )
    return tuple(rows)


def _hits(found: Decoded, start: int, stop: int, names: tuple[str, ...]) -> Table:
    record = found.hits["record"]
    first, last = np.searchsorted(record, [start, stop])
    rows = slice(int(first), int(last))
    arrays: dict[str, Any] = {}
    for name in names:
        if name in {"bcid", "l1a"}:
            of_packet = found.packets[name][record[rows]] if found.packets else None
            arrays[name] = (
                pl.Series(name, of_packet, dtype=RAW_HITS.column(name).dtype) if found.packets else None
            )
        elif name in found.hits:
            arrays[name] = found.hits[name][rows]
        else:
            arrays[name] = None
    size = int(last - first)
    columns = []
    for name, values in arrays.items():
        dtype = RAW_HITS.column(name).dtype
        if values is None:
            columns.append(pl.repeat(None, size, dtype=dtype, eager=True).alias(name))
        else:
            column = pl.Series(name, values).cast(dtype)
            if name in {"row", "col"}:
                column = _null_where(column, np.asarray(values) == _UNKNOWN)
            columns.append(column)
    return Table(pl.DataFrame(columns), RAW_HITS)


def _null_where(column: pl.Series, missing: NDArray[np.bool_]) -> pl.Series:
    if not missing.any():
        return column
    return pl.DataFrame([column]).select(
        pl.when(pl.Series(missing)).then(None).otherwise(pl.col(column.name)).alias(column.name)
    )[column.name]


def _packets(found: Decoded, start: int, stop: int, names: tuple[str, ...]) -> Table:
    told = {"chip_id", "status", "hits_told", "crc_ok"}
    columns = []
    size = stop - start if found.packets else 0
    incomplete = ~found.packets["complete"][start:stop] if found.packets else np.zeros(0, dtype=bool)
    unchecked = incomplete
    if "crc_checked" in found.packets:
        # where too few packets tell what the checksum of a chip is
        unchecked = incomplete | ~found.packets["crc_checked"][start:stop]
    for name in names:
        dtype = RAW_PACKETS.column(name).dtype
        if name == "record":
            columns.append(pl.Series(name, np.arange(start, start + size), dtype=dtype))
        elif name not in found.packets:
            columns.append(pl.repeat(None, size, dtype=dtype, eager=True).alias(name))
        else:
            column = pl.Series(name, found.packets[name][start:stop]).cast(dtype)
            missing = unchecked if name == "crc_ok" else incomplete
            columns.append(_null_where(column, missing) if name in told else column)
    return Table(pl.DataFrame(columns), RAW_PACKETS)


def _words(found: Decoded, names: tuple[str, ...], *, first: bool) -> Table:
    places: dict[str, int] = {}
    for place, reason in found.rejected:
        places.setdefault(reason, place)
    rows: list[tuple[str, str, int, int | None]] = []
    if first:
        rows = [("words", word, count, places.get(word)) for word, count in found.counters.items()]
        inside = found.facts.get("payload_counters", {})
        rows += [("payload words", word, count, places.get(word)) for word, count in inside.items()]
    frame = pl.DataFrame(rows, schema=WORDS.dtypes, orient="row")
    return Table(frame.select(names), WORDS)


_TAMALERO_NAME = r"output_run_\d+_rb\d+\.dat"
_KC705_NAME = r"TDC_Data_\d+\.dat|file_\d+\.bin"
_INJECTION_NAME = r"TDC_Data_PhaseAdj.*_Split_\d+\.dat"

SOURCES = (
    ReadOut(
        "tamalero", "ETROC2, TAMALERO records of 8 bytes", "ETROC2", "tamalero:decode_tamalero",
        "tamalero:looks_like_tamalero", (".dat", ".bin"), _TAMALERO_NAME, has_packets=True, unit="packets",
    ),
    ReadOut(
        "kc705", "ETROC2, KC705 event frames (text or binary)", "ETROC2", "kc705:decode_kc705",
        "kc705:looks_like_kc705", (".dat", ".bin", ".txt"), _KC705_NAME, has_packets=True, unit="packets",
    ),
    ReadOut(
        "nem", "ETROC2, translated text (.nem, .sem)", "ETROC2", "nem:decode_nem", "nem:looks_like_nem",
        (".nem", ".sem", ".dat", ".txt"), r".+\.[ns]em", has_packets=True, unit="packets",
    ),
    ReadOut(
        "emulator", "early ETROC2 emulator words (5 hexadecimal bytes a line)", "ETROC2",
        "emulator:decode_emulator", "emulator:looks_like_emulator", (".txt", ".dat"), has_packets=True, unit="packets",
    ),
    ReadOut(
        "beam", "ETROC1 beam text (7 columns)", "ETROC1", "beam:decode_beam", "beam:looks_like_beam", (".txt", ".dat"),
    ),
    ReadOut(
        "injection", "ETROC1 charge injection (5 columns)", "ETROC1", "injection_text:decode_injection",
        "injection_text:looks_like_injection", (".dat", ".txt"), _INJECTION_NAME,
    ),
    ReadOut(
        "raw32", "ETROC1 words of 32 bits (a number a line)", "ETROC1", "raw32:decode_raw32",
        "raw32:looks_like_raw32", (".dat", ".txt"),
    ),
    ReadOut(
        "single_board", "ETROC1 single board (4 columns)", "ETROC1", "raw32:decode_debug", "raw32:looks_like_debug",
        (".dat", ".txt"),
    ),
)  # fmt: skip
