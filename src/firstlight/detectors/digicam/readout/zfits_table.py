"""The table of events of a zfits file: its header, its tiles, its columns.

Rows are kept in tiles of usually 100; a tile has a block for each column. A catalogue at the beginning of the data says
where each block is and how large. Blocks are decoded here where their codecs are known (`blocks`), and one column
costs nothing of the others. Only for other codecs the protozfits library is asked; it ends the process on many damaged
files, and so is given nothing that does not add up to its checksum.
"""

from __future__ import annotations

import os
import re
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from firstlight.detectors.digicam.readout.fits_units import Unit, data_sum, read_units
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from firstlight.detectors.digicam.readout.library import Library

__all__ = ["MESSAGES", "OF_THE_FORMAT", "SAMPLES", "Column", "EventTable", "looks_like_events"]

EVENTS = "Events"
MESSAGES = ("DataModel.CameraEvent", "ProtoDataModel.CameraEvent")
"""Messages that hold events of this camera; the second is the later name of the first."""
SAMPLES, ORDER, BASELINES = (f"hiGain_waveforms_{part}" for part in ("samples", "pixelsIndices", "baselines"))
NEEDED = (SAMPLES, ORDER)
"""Columns without which there are no waveforms of this camera."""

OF_THE_FORMAT = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|EXTEND|EXTNAME|CHECKSUM|DATASUM|THEAP|RAWSUM|PBFHEAD|ORIGIN|WORKPKG"
    r"|CREATOR|COMPILED|TIMESYS|REVISION|MAJORV|MINORV|DATE|DATEEND|RUNTYPE|END|COMMENT|HISTORY|CONTINUE|T[A-Z]{4}\d+"
    r"|Z(TABLE|NAXIS\d|PCOUNT|HEAPPTR|TILELEN|RATIO|SHRINK|FORM\d+|CTYP\d+)|"
)
"""Header cards that say how the table is written; all others say something of the events."""

_FORM = re.compile(r"(\d*)([LABIJKED])")
_TYPES = {"L": "u1", "A": "u1", "B": "u1", "I": "<i2", "J": "<i4", "K": "<i8", "E": "<f4", "D": "<f8"}
_TILE = struct.Struct("<4sIQ")
_HINT = "was it copied whole?"
# which files add up to their checksums: each span of a file opens it again
_REMEMBERED = 256
# a file that is changed again within so short a time may look the same [ns]
_SETTLED = 2_000_000_000
_sound: dict[tuple[str, int, int, int], bool] = {}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Parameters
    ----------
    name : str
        Fields of the message, with underscores between.
    place : int
        In the catalogue.
    dtype : dtype
        Of its values.
    length : int
        Values of a row; for more than one it is a maximum.
    """

    name: str
    place: int
    dtype: np.dtype[Any]
    length: int

    @property
    def width(self) -> int:
        """Size of a row at most [bytes]; each array has its own size in front."""
        return self.dtype.itemsize * self.length + (4 if self.length > 1 else 0)


class EventTable:
    """The table of events of a file, open for reading.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    cards : dict
        Header of the table.
    n_events, n_tiles, tile_length : int
        Rows, tiles, rows of a tile.
    columns : dict of str to Column
        By name.
    notes : list of str
        What is odd.

    Raises
    ------
    InputError
        If the file cannot be read, is cut off or damaged, or holds no events of this camera.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._library: Library | None = None
        try:
            self._stream = path.open("rb")
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise InputError(what, where=path) from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        units = read_units(self._stream, self.path)
        self._unit = _events_of(units, self.path)
        self.cards = self._unit.cards
        for unit in units:
            if not unit.is_whole:
                what = f"the header of {unit.name or 'the file'} does not match its checksum: it is damaged, or was changed"
                hint = (
                    "a copy of the file; if the header was changed on purpose, its CHECKSUM must be made anew"
                )
                raise InputError(what, where=self.path, hint=hint)
        self.n_events = self._count("ZNAXIS2")
        self.tile_length = self._count("ZTILELEN", least=1)
        self.n_tiles = -(-self.n_events // self.tile_length)
        self.columns = self._columns()
        self._catalogue = self._read_catalogue()
        behind = self._stream.seek(0, 2) - units[-1].end
        if behind > 0:
            what = f"{behind:,} bytes stand behind the last table"
            if not self.n_events:
                what = f"the table of events says that it is empty, and {what}: the writer did not close the file"
                raise InputError(what, where=self.path)
            self.notes.append(what)
        if self._unit.data_sum is None:
            self.notes.append("the table of events has no checksum: damage to waveforms would not be noticed")

    def _count(self, key: str, least: int = 0) -> int:
        value = self.cards.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 40:
            what = f"{key} of the table of events is {value!r}: the header is damaged"
            raise InputError(what, where=self.path)
        return value

    def _columns(self) -> dict[str, Column]:
        found = {}
        for place in range(self._count("TFIELDS")):
            name, form = (str(self.cards.get(f"{key}{place + 1}", "")) for key in ("TTYPE", "ZFORM"))
            matched = _FORM.fullmatch(form)
            if not name or matched is None:
                what = f"column {place + 1} of the table of events has the name {name!r} and the type {form!r}: damaged"
                raise InputError(what, where=self.path)
            dtype = np.dtype(_TYPES[matched[2]])
            offset = self.cards.get(f"TZERO{place + 1}", 0)
            if dtype.kind == "i" and isinstance(offset, int | float) and offset > 0:
                # the values themselves are stored, not those less the offset
                dtype = np.dtype(dtype.str.replace("i", "u"))
            found[name] = Column(name, place, dtype, int(matched[1] or 1))
        return found

    def _read_catalogue(self) -> NDArray[np.int64] | None:
        """Return size and place of the blocks, of shape (n_tiles, n_columns, 2); None where it names some tiles only."""
        n_rows, n_columns = self._count("NAXIS2"), len(self.columns)
        if self.cards.get("ZSHRINK", 1) != 1:
            return None
        if self._count("NAXIS1") != 16 * n_columns or n_rows < self.n_tiles:
            what = (
                f"{self.n_events} events in tiles of {self.tile_length} with {n_columns} columns do not fit the "
                f"catalogue of {n_rows} rows of {self.cards['NAXIS1']} bytes: the header is damaged"
            )
            raise InputError(what, where=self.path)
        content = self._bytes(self._unit.data, 16 * n_columns * self.n_tiles)
        catalogue = content.view(">i8").astype(np.int64).reshape(self.n_tiles, n_columns, 2)
        sizes, places = catalogue[..., 0], catalogue[..., 1]
        room = self._unit.size - self._count("ZHEAPPTR")
        if catalogue.size and (sizes.min() < 0 or places.min() < _TILE.size or (sizes > room - places).any()):
            what = "the catalogue of the table of events names blocks that are not in the file: damaged"
            raise InputError(what, where=self.path)
        return catalogue

    @property
    def message(self) -> str:
        """Type of the message that is a row."""
        return str(self.cards.get("PBFHEAD", ""))

    def tile(self, index: int, names: Sequence[str]) -> Mapping[str, Sequence[Any]]:
        """Return some columns of a tile.

        Parameters
        ----------
        index : int
            Which tile.
        names : sequence of str
            Columns; those that the table does not have are left out.

        Returns
        -------
        mapping of str to sequence
            A number for each row (as an array), or an array for each row (as a list of views).

        Raises
        ------
        InputError
            If the tile is damaged.
        MissingExtraError
            If it went through a codec that only the protozfits library knows, and that is not installed.
        """
        wanted = [self.columns[name] for name in names if name in self.columns]
        reason = "the catalogue names some of the tiles only"
        start = index * self.tile_length
        stop = min(start + self.tile_length, self.n_events)
        where = f"events {start} to {stop - 1} cannot be decoded"
        if self._catalogue is not None:
            from firstlight.detectors.digicam.readout.blocks import BlockError, UnknownCodecError

            try:
                return self._decoded(index, wanted)
            except UnknownCodecError as error:
                reason = str(error)
            except BlockError as error:
                what = f"{where}: {error}: the file is damaged"
                raise InputError(what, where=self.path) from error
        if not self.is_sound():
            why = "the file is damaged"
            if self._unit.data_sum is None:
                why = "protozfits could, but ends the process where a file is damaged, and this one has no checksum"
            what = f"{where} ({reason}): {why}"
            raise InputError(what, where=self.path)
        if self._library is None:
            from firstlight.detectors.digicam.readout.library import Library

            self._library = Library(self.path, reason)
        return self._library.rows(start, stop, [column.name for column in wanted])

    def _decoded(self, index: int, wanted: Sequence[Column]) -> dict[str, Sequence[Any]]:
        from firstlight.detectors.digicam.readout.blocks import BlockError, decode

        if self._catalogue is None:
            what = "there is no catalogue"
            raise BlockError(what)
        blocks = self._catalogue[index]
        heap = self._unit.data + self._count("ZHEAPPTR")
        n_rows = min(self.tile_length, self.n_events - index * self.tile_length)
        head, told, _ = _TILE.unpack(self._bytes(heap + int(blocks[0, 1]) - _TILE.size, _TILE.size).tobytes())
        if head != b"TILE" or told != n_rows:
            what = f"tile {index} begins with {head!r} and tells {told} rows, not {n_rows}"
            raise BlockError(what)
        found: dict[str, Sequence[Any]] = {}
        for column in wanted:
            size, place = blocks[column.place].tolist()
            try:
                values = decode(self._bytes(heap + place, size), n_rows * column.width)
                found[column.name] = _rows(values, column, n_rows)
            except BlockError as error:
                what = f"tile {index}, {column.name}: {error}"
                raise type(error)(what) from error
        return found

    def _bytes(self, start: int, size: int) -> NDArray[np.uint8]:
        content = np.empty(size, dtype=np.uint8)
        self._stream.seek(start)
        if self._stream.readinto(content.data) != size:
            what = f"the file ends before byte {start + size:,}: it is cut off, or is being written"
            raise InputError(what, where=self.path, hint=_HINT)
        return content

    def is_sound(self) -> bool:
        """Return whether the table has a checksum, and adds up to it. All of it is read, once in a process."""
        if self._unit.data_sum is None:
            return False
        state = os.fstat(self._stream.fileno())
        key = (str(self.path.absolute()), state.st_size, state.st_mtime_ns, state.st_ino)
        if key in _sound:
            return _sound[key]
        found = data_sum(self._stream, self._unit) == self._unit.data_sum
        if time.time_ns() - state.st_mtime_ns > _SETTLED:
            while len(_sound) >= _REMEMBERED:
                _sound.pop(next(iter(_sound)), None)
            _sound[key] = found
        return found

    def verify(self) -> None:
        """Make sure that the table adds up to its checksum, where it has one.

        Raises
        ------
        InputError
            If it does not.
        """
        if self._unit.data_sum is not None and not self.is_sound():
            what = "the table of events does not add up to its checksum: the file is damaged"
            raise InputError(what, where=self.path, hint="another copy of the file")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        if self._library is not None:
            self._library.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _rows(values: NDArray[np.uint8], column: Column, n_rows: int) -> Sequence[Any]:
    """Return the rows of a column: numbers as an array, arrays as a list of views."""
    from firstlight.detectors.digicam.readout.blocks import BlockError

    if column.length == 1:
        # the writer may have added bytes up to a whole word
        if values.size < n_rows * column.dtype.itemsize:
            what = f"{values.size} bytes are too few for {n_rows} rows"
            raise BlockError(what)
        numbers: Any = np.ascontiguousarray(values[: n_rows * column.dtype.itemsize]).view(column.dtype)
        return numbers  # type: ignore[no-any-return]
    values = np.ascontiguousarray(values)
    rows = []
    at = 0
    for row in range(n_rows):
        size = int.from_bytes(values[at : at + 4].tobytes(), "little")
        at += 4
        if at + size > values.size or size % column.dtype.itemsize:
            what = f"row {row} tells {size} bytes, {max(values.size - at, 0)} are left"
            raise BlockError(what)
        rows.append(values[at : at + size].view(column.dtype))
        at += size
    return rows


def _events_of(units: Sequence[Unit], path: Path) -> Unit:
    """Return the unit with the events.

    Raises
    ------
    InputError
        If there is none, or its rows are other messages; names what there is.
    """
    tables = {unit.name: unit for unit in units if unit.cards.get("XTENSION") == "BINTABLE"}
    if EVENTS not in tables:
        what = f"there is no table {EVENTS}"
        known = [f"{name} ({unit.cards.get('PBFHEAD', 'no messages')})" for name, unit in tables.items()]
        raise InputError(what, where=path, known=known)
    unit = tables[EVENTS]
    message = str(unit.cards.get("PBFHEAD", "rows without a message type"))
    if message not in MESSAGES:
        what = f"the events are {message}, not those of an SST-1M camera ({MESSAGES[0]}){_whose(message)}"
        raise InputError(what, where=path)
    if unit.cards.get("ZTABLE") is not True:
        what = f"the table {EVENTS} is not compressed in tiles (ZTABLE): not a zfits file"
        raise InputError(what, where=path)
    names = [str(value) for key, value in unit.cards.items() if key.startswith("TTYPE")]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        what = f"the events have no column {' and no '.join(missing)}: they are of another camera"
        raise InputError(what, where=path, known=names)
    return unit


def _whose(message: str) -> str:
    package = message.rpartition(".")[0]
    if package in ("R1", "ProtoR1", "CTAR1", "R1v1", "R1v1_debug"):
        return ": these are R1 events, as other cameras of CTAO write them"
    if package.startswith("DL0"):
        return ": these are DL0 events of CTAO"
    return ""


def looks_like_events(path: Path) -> bool:
    """Return whether a file begins like one with events of this camera; also where it is cut off behind that."""
    with suppress(OSError, InputError), path.open("rb") as stream:
        if stream.read(9) != b"SIMPLE  =":
            return False
        units = read_units(stream, path, whole=False)
        if any(unit.cards.get("PBFHEAD") == "DataModel.DigicamConfig" for unit in units):
            return True
        _events_of(units, path)
        return True
    return False
