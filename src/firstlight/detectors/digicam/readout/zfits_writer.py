"""Writes zfits files as the camera does: messages ``DataModel.CameraEvent`` in tiles of 100, not compressed.

What the protozfits library reads of such a file is bit for bit what was given. The library itself writes messages of newer
cameras only.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS, read_out_order
from firstlight.detectors.digicam.readout.batch import NO_TIME, EventBatch
from firstlight.detectors.digicam.readout.fits_units import BLOCK, FULL, add_sums, sum_of
from firstlight.detectors.digicam.readout.zfits_table import MESSAGES, OF_THE_FORMAT
from firstlight.errors import UsageError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ZfitsWriter", "write_zfits"]

_TILE = 100  # rows of a tile, as in all files of the camera
_CATALOGUE = 100  # tiles for which there is room; more is made where it is needed
_CARD = 80
_SECOND = 1_000_000_000
_PIECE = 1 << 24
_EPOCH = "1970-01-01T00:00:00"
# offsets by which the standard marks unsigned numbers; values themselves are stored
_UNSIGNED = {1: -128, 2: 32768, 4: 2147483648, 8: 9223372036854775807}
_LETTERS = {1: "B", 2: "I", 4: "J", 8: "K"}
_TRIGGER_PER_SAMPLE = {
    "trigger_input_traces": (35, 576),
    "trigger_output_patch7": (36, 54),
    "trigger_output_patch19": (37, 54),
    "trigger_output_muon": (38, 54),
}
"""Number of the field in the message, and bytes of it for each sample: 3 crates of 192 inputs, 3 of 18 bytes of bits."""


@dataclass(frozen=True)
class _Column:
    name: str
    field: str
    dtype: str
    length: int = 1

    @property
    def width(self) -> int:
        return np.dtype(self.dtype).itemsize * self.length

    def cards(self, number: int) -> list[tuple[str, Any]]:
        kind = np.dtype(self.dtype)
        cards: list[tuple[str, Any]] = [(f"TFORM{number}", "1QB"), (f"TTYPE{number}", self.name)]
        if kind.kind == "u":
            cards.append((f"TZERO{number}", _UNSIGNED[kind.itemsize]))
        form = f"{self.length}{_LETTERS[kind.itemsize]}"
        return [*cards, (f"ZFORM{number}", form), (f"ZCTYP{number}", "CTA"), (f"TPBID{number}", self.field)]


class ZfitsWriter:
    """Writes a zfits file, event by event; use it as a context manager.

    The file is there once the block has ended well: until then everything is in a temporary file beside it.

    Parameters
    ----------
    path : Path
        The file.
    run_type : str, optional
        What the file is taken with: ``RUNTYPE`` in the header (``"darkrun"``, ``"science"``).
    date : str, optional
        Date of the file, as 2018-08-22T21:11:41; the time of the first event by default.
    telescope : int
        Its number.
    baseline_scale : {16, 1}
        By what baselines are multiplied: sixteenths of an LSB as since August 2018, or LSB as before.
    pixel_order : array-like, shape (1296,), optional
        Pixels in the order in which they are read out; that of the camera by default.
    n_samples : int
        Samples of a trace in the header of a file without events; others have those of the first batch.
    trigger : bool
        Whether to write the fields of the trigger, all zero: files then have every column of a real one.
    cards : mapping, optional
        Further cards of the header, such as ``{"LEVEL": 250}``: names of 8 characters at most, values that are text, numbers
        or bool.

    Raises
    ------
    UsageError
        If an argument cannot be written.
    StoreError
        If the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        run_type: str | None = None,
        date: str | None = None,
        telescope: int = 1,
        baseline_scale: int = 16,
        pixel_order: ArrayLike | None = None,
        n_samples: int = 50,
        trigger: bool = False,
        cards: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.n_events = 0
        self._run_type, self._date, self._telescope = run_type, date, telescope
        if baseline_scale not in (1, 16):
            what = f"baseline_scale is 1 or 16, not {baseline_scale}"
            raise UsageError(what)
        self._scale = baseline_scale
        self._order = np.asarray(read_out_order() if pixel_order is None else pixel_order)
        if not np.array_equal(np.sort(self._order.ravel()), np.arange(N_PIXELS)):
            what = f"pixel_order must have each of the pixels 0 to {N_PIXELS - 1} once"
            raise UsageError(what)
        self._n_samples, self._trigger = n_samples, trigger
        self._cards = _checked_cards(cards or {})
        self._columns: tuple[_Column, ...] = ()
        self._waiting: list[EventBatch] = []
        self._n_waiting = 0
        self._first_time = self._last_time = NO_TIME
        self._catalogue: list[NDArray[np.int64]] = []
        self._sum = 0
        self._room = _CATALOGUE
        self._heap_size = 0
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._temporary = self._closing.enter_context(atomic(self.path))
        self._stream = self._closing.enter_context(self._temporary.open("w+b"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is not None:
            return self._closing.__exit__(kind, error, trace)
        with self._closing:
            if self._n_waiting:
                self._write_tile(EventBatch.concatenate(self._waiting))
            if not self._columns:
                self._begin(has_baselines=True)
            self._finish()
        return None

    def write(self, batch: EventBatch) -> None:
        """Add events.

        Raises
        ------
        UsageError
            If traces have another length than those before, or a value cannot be written in this format.
        """
        if not len(batch):
            return
        if not self._columns:
            self._n_samples = batch.n_samples
            self._first_time = int(batch.time[0])
            self._begin(has_baselines=batch.baselines is not None)
        self._check(batch)
        self._last_time = int(batch.time[-1])
        self.n_events += len(batch)
        at = 0
        while at < len(batch):
            piece = batch[at : at + _TILE - self._n_waiting]
            self._waiting.append(piece)
            self._n_waiting += len(piece)
            at += len(piece)
            if self._n_waiting == _TILE:
                self._write_tile(EventBatch.concatenate(self._waiting))
                self._waiting, self._n_waiting = [], 0

    def _begin(self, *, has_baselines: bool) -> None:
        """Say which columns there are, and leave room for header and catalogue."""
        columns = [
            _Column("telescopeID", "1", "<i4"),
            _Column("eventNumber", "4", "<u4"),
            _Column("hiGain_waveforms_samples", "6.1.1", "<i2", N_PIXELS * self._n_samples),
            _Column("hiGain_waveforms_pixelsIndices", "6.1.2", "<u2", N_PIXELS),
        ]
        if has_baselines:
            columns.append(_Column("hiGain_waveforms_baselines", "6.1.5", "<i2", N_PIXELS))
        columns += [
            _Column("local_time_nanosec", "30", "<u8"),
            _Column("local_time_sec", "31", "<u8"),
            _Column("pixels_flags", "32", "<u2", N_PIXELS),
            _Column("event_type", "34", "<u4"),
        ]
        if self._trigger:
            columns += [
                _Column(name, str(field), "u1", size * self._n_samples)
                for name, (field, size) in _TRIGGER_PER_SAMPLE.items()
            ]
        self._columns = tuple(columns)
        self._stream.seek(self._heap)

    @property
    def _heap(self) -> int:
        """Where the tiles begin."""
        return len(self._header()) + self._row * self._room

    @property
    def _row(self) -> int:
        """Size of a row of the catalogue [bytes]."""
        return 16 * len(self._columns)

    def _check(self, batch: EventBatch) -> None:
        if batch.n_samples != self._n_samples:
            what = f"traces of {batch.n_samples} samples after some of {self._n_samples}: one file has one length"
            raise UsageError(what, where=self.path)
        limits: dict[str, tuple[NDArray[Any], int, int]] = {
            "samples": (batch.samples, 0, np.iinfo(np.int16).max),
            "number": (batch.number, 0, np.iinfo(np.uint32).max),
            "time": (batch.time, NO_TIME, np.iinfo(np.int64).max),
        }
        for name, (values, low, high) in limits.items():
            if values.size and (values.min() < low or values.max() > high):
                what = f"{name} from {values.min()} to {values.max()} do not fit into this format: {low} to {high}"
                raise UsageError(what, where=self.path)
        if (batch.baselines is not None) != any("baselines" in column.name for column in self._columns):
            what = "events with and without baselines in one file"
            raise UsageError(what, where=self.path)
        if batch.baselines is not None:
            highest = np.iinfo(np.int16).max / self._scale
            low, high = batch.baselines.min(), batch.baselines.max()
            # NaN is within no limits
            if not (low >= -highest and high <= highest):
                what = (
                    f"baselines from {low:g} to {high:g} LSB do not fit into this format: at most {highest:g}"
                )
                raise UsageError(what, where=self.path)

    def _write_tile(self, batch: EventBatch) -> None:
        if len(self._catalogue) == self._room:
            self._make_room()
        blocks = [_block(column, self._values(column, batch)) for column in self._columns]
        sizes = np.array([len(block) for block in blocks])
        head = struct.pack("<4sIQ", b"TILE", len(batch), int(sizes.sum()))
        places = self._heap_size + len(head) + np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._catalogue.append(np.stack([sizes, places], axis=1))
        tile = b"".join([head, *blocks])
        self._stream.write(tile)
        # tiles are whole words, so that the sum of all is that of their sums
        self._sum = add_sums(self._sum, sum_of(np.frombuffer(tile, dtype=np.uint8)))
        self._heap_size += len(tile)

    def _values(self, column: _Column, batch: EventBatch) -> NDArray[Any]:
        """Return the values of a column: an array of shape (n_events,) or (n_events, length)."""
        if column.name == "hiGain_waveforms_samples":
            return batch.samples[:, self._order, :].reshape(len(batch), -1)
        if column.name == "hiGain_waveforms_baselines":
            return np.rint(batch.known_baselines()[:, self._order] * self._scale)
        known = np.where(batch.time == NO_TIME, 0, batch.time)
        values: dict[str, ArrayLike] = {
            "telescopeID": self._telescope,
            "eventNumber": batch.number,
            "event_type": batch.event_type.view(np.uint32),
            "local_time_sec": known // _SECOND,
            "local_time_nanosec": known % _SECOND,
            "hiGain_waveforms_pixelsIndices": self._order,
            "pixels_flags": 1,
        }
        shape = (len(batch), column.length) if column.length > 1 else (len(batch),)
        return np.broadcast_to(np.asarray(values.get(column.name, 0)), shape)

    def _make_room(self) -> None:
        """Move all tiles back, so that the catalogue has room for four times as many."""
        before = self._heap
        self._room *= 4
        shift = self._heap - before
        at = self._heap_size
        while at > 0:
            size = min(_PIECE, at)
            at -= size
            self._stream.seek(before + at)
            content = self._stream.read(size)
            self._stream.seek(before + at + shift)
            self._stream.write(content)
        self._stream.seek(self._heap + self._heap_size)

    def _finish(self) -> None:
        """Write padding, catalogue and header."""
        size = self._row * self._room + self._heap_size
        self._stream.write(bytes(-size % BLOCK))
        catalogue = np.zeros((self._room, len(self._columns), 2), dtype=">i8")
        if self._catalogue:
            catalogue[: len(self._catalogue)] = self._catalogue
        content = catalogue.tobytes()
        total = add_sums(self._sum, sum_of(np.frombuffer(content, dtype=np.uint8)))
        self._stream.seek(0)
        self._stream.write(self._header(total) + content)

    def _header(self, data_sum: int = 0) -> bytes:
        first = _header_of([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)], data_sum=0)
        n_tiles = len(self._catalogue)
        row = sum(column.width for column in self._columns)
        packed = max(self._row * n_tiles + self._heap_size, 1)
        # the catalogue names the tiles that there are; tiles begin behind all the room that was left for it
        cards: list[tuple[str, Any]] = [
            ("XTENSION", "BINTABLE"),
            ("BITPIX", 8),
            ("NAXIS", 2),
            ("NAXIS1", self._row),
            ("NAXIS2", n_tiles),
            ("PCOUNT", self._row * (self._room - n_tiles) + self._heap_size),
            ("GCOUNT", 1),
            ("TFIELDS", len(self._columns)),
            ("EXTNAME", "Events"),
            ("ZTABLE", True),
            ("ZNAXIS1", row),
            ("ZNAXIS2", self.n_events),
            ("ZPCOUNT", 0),
            ("ZHEAPPTR", self._row * self._room),
            ("ZTILELEN", _TILE),
            ("THEAP", self._row * n_tiles),
            ("RAWSUM", "0"),
            ("ZRATIO", row * self.n_events / packed),
            ("ZSHRINK", 1),
            ("PBFHEAD", MESSAGES[0]),
            ("CREATOR", "firstlight"),
            ("ORIGIN", "CTA"),
            ("TIMESYS", "UTC"),
            ("DATE", self._date or _as_date(self._first_time)),
            ("DATEEND", _as_date(self._last_time)),
        ]
        if self._run_type is not None:
            cards.append(("RUNTYPE", self._run_type))
        cards += self._cards.items()
        for number, column in enumerate(self._columns, start=1):
            cards += column.cards(number)
        return first + _header_of(cards, data_sum=data_sum)


def write_zfits(path: Path, batches: EventBatch | Iterable[EventBatch], **options: Any) -> Path:
    """Write events to a zfits file and return its path.

    Parameters
    ----------
    path : Path
        The file.
    batches : EventBatch or iterable of EventBatch
        One after the other.
    **options
        As of `ZfitsWriter`.
    """
    with ZfitsWriter(path, **options) as writer:
        for batch in [batches] if isinstance(batches, EventBatch) else batches:
            writer.write(batch)
    return path


def _block(column: _Column, values: NDArray[Any]) -> bytes:
    """Return a block: header, one codec that does nothing, and values; arrays with their size in front of each row."""
    from firstlight.detectors.digicam.readout.blocks import block_of

    values = np.ascontiguousarray(values, dtype=column.dtype)
    if column.length == 1:
        return block_of(values.tobytes())
    rows = np.empty((values.shape[0], 4 + column.width), dtype=np.uint8)
    rows[:, :4] = np.frombuffer(struct.pack("<I", column.width), dtype=np.uint8)
    rows[:, 4:] = values.view(np.uint8)
    return block_of(rows.tobytes())


def _as_date(time: int) -> str:
    return _EPOCH if time == NO_TIME else str(np.datetime64(time // _SECOND, "s"))


def _checked_cards(cards: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in cards.items():
        key = name.upper()
        if not (0 < len(key) <= 8 and key.isascii() and key.replace("-", "").replace("_", "").isalnum()):
            what = f"{name!r} cannot be the name of a header card: at most 8 letters, digits, '-' and '_'"
            raise UsageError(what)
        if OF_THE_FORMAT.fullmatch(key):
            what = f"the header card {key} is one of the format itself"
            raise UsageError(what)
        found[key] = value.item() if isinstance(value, np.generic) else value
        _card(key, found[key])
    return found


def _card(key: str, value: Any) -> bytes:
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, int):
        text = f"{value:>20}"
    elif isinstance(value, float) and np.isfinite(value):
        text = f"{value!r:>20}".upper()
    elif isinstance(value, str) and value.isascii() and value.isprintable():
        quoted = value.replace("'", "''")
        text = f"'{quoted:<8}'"
    else:
        what = f"header card {key}: {value!r} is no printable text, finite number or bool"
        raise UsageError(what)
    card = f"{key:<8}= {text}"
    if len(card) > _CARD:
        what = f"header card {key}: {value!r} is too long"
        raise UsageError(what)
    return card.ljust(_CARD).encode("ascii")


def _header_of(cards: list[tuple[str, Any]], *, data_sum: int) -> bytes:
    """Return a header with its checksums.

    `CHECKSUM` is a text whose bytes make all bits of the sum of the unit set: the complement of the sum, each of its bytes
    as the sum of four letters and digits.
    """
    before = next((at for at, (key, _) in enumerate(cards) if key == "ZTABLE"), len(cards))
    text = f"{data_sum}"
    cards = [*cards[:before], ("CHECKSUM", "0" * 16), ("DATASUM", f"{text:>10}"), *cards[before:]]
    content = b"".join(_card(key, value) for key, value in cards) + b"END".ljust(_CARD)
    content = content.ljust(-(-len(content) // BLOCK) * BLOCK)
    total = add_sums(sum_of(np.frombuffer(content, dtype=np.uint8)), data_sum)
    at = (before * _CARD) + 11
    return content[:at] + _encoded(FULL - total) + content[at + 16 :]


def _encoded(value: int) -> bytes:
    """Return 16 letters and digits that add as much to a sum as a number, if they take the place of as many zeros.

    From the appendix of the FITS standard: every byte is divided into four, punctuation is avoided by
    moving equal amounts from one to another, and the text is turned by a byte, since it begins in the last byte of a word.
    """
    forbidden = set(range(0x3A, 0x41)) | set(range(0x5B, 0x61))
    columns = []
    for byte in value.to_bytes(4, "big"):
        quarter, rest = divmod(byte, 4)
        letters = [quarter + 0x30 + rest, *[quarter + 0x30] * 3]
        while forbidden & set(letters):
            for one in (0, 2):
                if {letters[one], letters[one + 1]} & forbidden:
                    letters[one] += 1
                    letters[one + 1] -= 1
        columns.append(letters)
    text = [columns[byte][letter] for letter in range(4) for byte in range(4)]
    return bytes([text[-1], *text[:-1]])
