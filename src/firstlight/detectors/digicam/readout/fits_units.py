"""Headers, sizes and checksums of the units of a FITS file: what is needed of FITS, and no more.

A unit is a header of cards of 80 bytes and data; both are padded to blocks of 2880 bytes. ``DATASUM`` is the sum of all
words of 32 bits of the data, as ones' complement; with the words of the header and the text of ``CHECKSUM`` all bits of
the sum are set. All writers of zfits keep both. A change of one word always shows; of two bits that are turned somewhere in a
file, those cancel that stand at the same place of their words and were different: one pair of 64.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

__all__ = ["BLOCK", "FULL", "Unit", "add_sums", "data_sum", "read_units", "sum_of"]

BLOCK = 2880
"""Bytes of a block."""
FULL = 0xFFFFFFFF
"""The sum of an undamaged unit."""

_CARD = 80
# the header of a table with 999 columns has fewer blocks
_MOST_BLOCKS = 2000
_PIECE = 1 << 22
_TEXT = re.compile(r"\s*'((?:[^']|'')*)'")
_HINT = "was it copied whole?"


@dataclass(frozen=True)
class Unit:
    """One unit of a file.

    Parameters
    ----------
    cards : mapping of str to object
        Values of the header: text, int, float or bool.
    data : int
        Where the data begin [bytes].
    size : int
        Of the data without padding [bytes].
    header_sum : int
        Sum of the header.
    """

    cards: dict[str, Any]
    data: int
    size: int
    header_sum: int

    @property
    def name(self) -> str:
        """Name of the table; empty for the first unit."""
        return str(self.cards.get("EXTNAME", ""))

    @property
    def end(self) -> int:
        """Where the next unit begins [bytes]."""
        return self.data + _padded(self.size)

    @property
    def data_sum(self) -> int | None:
        """What the header says that the sum of the data is; None where it says nothing."""
        value = str(self.cards.get("DATASUM", "")).strip()
        return int(value) if value.isdigit() and value.isascii() and int(value) <= FULL else None

    @property
    def is_whole(self) -> bool:
        """Whether the header adds up to its checksum, with the data that it tells of; True where it has none."""
        told = self.data_sum
        if "CHECKSUM" not in self.cards or told is None:
            return True
        return add_sums(self.header_sum, told) in (FULL, 0)


def read_units(stream: BinaryIO, path: Path, *, whole: bool = True) -> list[Unit]:
    """Return the units of a file.

    Parameters
    ----------
    stream : file
        Opened for reading bytes.
    path : Path
        For messages.
    whole : bool
        Whether a unit that is not there to its end is an error; else the units up to it are returned.

    Raises
    ------
    InputError
        If it is no FITS file, is cut off, or has a header that makes no sense.
    """
    size = stream.seek(0, 2)
    if size == 0:
        what = "the file is empty"
        raise InputError(what, where=path, hint=_HINT)
    units: list[Unit] = []
    at = 0
    while at < size:
        try:
            found = _read_unit(stream, at, size, path)
        except InputError:
            if whole:
                raise
            return units
        if found is None:
            # bytes behind the last unit are no part of the file, as the standard says
            break
        units.append(found)
        last = found.data + found.size
        if last > size and whole:
            what = f"the file is cut off: {found.name or 'the first unit'} ends at byte {last:,}, the file at {size:,}"
            raise InputError(what, where=path, hint=_HINT)
        at = found.end
    return units


def _read_unit(stream: BinaryIO, start: int, size: int, path: Path) -> Unit | None:
    stream.seek(start)
    header = stream.read(BLOCK)
    if not start and not header.startswith(b"SIMPLE  ="):
        what = f"not a FITS file: it begins with {header[:8]!r}"
        raise InputError(what, where=path)
    if start and not header.startswith(b"XTENSION="):
        return None
    blocks = [header]
    while not _ends(blocks[-1]):
        block = stream.read(BLOCK)
        if len(block) < BLOCK or len(blocks) > _MOST_BLOCKS:
            what = f"the file is cut off or damaged: the header at byte {start:,} has no end, the file has {size:,} bytes"
            raise InputError(what, where=path, hint=_HINT)
        blocks.append(block)
    content = b"".join(blocks)
    cards = _cards(content)
    n_bytes = _data_size(cards)
    if n_bytes is None:
        what = f"the header at byte {start:,} does not tell the size of its data: damaged"
        raise InputError(what, where=path)
    return Unit(cards, start + len(content), n_bytes, sum_of(np.frombuffer(content, dtype=np.uint8)))


def _ends(block: bytes) -> bool:
    return any(block[at : at + 8] == b"END     " for at in range(0, len(block), _CARD))


def _cards(header: bytes) -> dict[str, Any]:
    cards: dict[str, Any] = {}
    for at in range(0, len(header), _CARD):
        card = header[at : at + _CARD].decode("latin-1")
        if card.startswith("END     "):
            break
        if card[8:10] == "= ":
            cards.setdefault(card[:8].rstrip(), _value(card[10:]))
    return cards


def _value(text: str) -> Any:
    found = _TEXT.match(text)
    if found:
        return found[1].replace("''", "'").rstrip()
    text = text.split("/", 1)[0].strip()
    if text in ("T", "F"):
        return text == "T"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _data_size(cards: dict[str, Any]) -> int | None:
    """Return the size of the data [bytes]: |BITPIX| / 8 * GCOUNT * (PCOUNT + NAXIS1 * NAXIS2 * ...)."""
    n_axes = cards.get("NAXIS")
    if n_axes == 0:
        return 0
    if not isinstance(n_axes, int) or not 0 < n_axes < 1000:
        return None
    keys = ("PCOUNT", "GCOUNT", *(f"NAXIS{axis}" for axis in range(1, n_axes + 1)))
    counts = [cards.get(key, {"PCOUNT": 0, "GCOUNT": 1}.get(key, -1)) for key in keys]
    width = cards.get("BITPIX")
    if not isinstance(width, int) or not all(isinstance(value, int) and value >= 0 for value in counts):
        return None
    extra, groups, *axes = (int(value) for value in counts)
    return abs(width) // 8 * groups * (extra + math.prod(axes))


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def data_sum(stream: BinaryIO, unit: Unit) -> int:
    """Return the sum of the data of a unit as they are in the file."""
    stream.seek(unit.data)
    left, total = unit.size, 0
    piece = np.zeros(_PIECE, dtype=np.uint8)
    while left > 0:
        n_read = stream.readinto(piece[: min(left, _PIECE)].data)  # type: ignore[attr-defined]
        if not n_read:
            break
        total = add_sums(total, sum_of(piece[:n_read]))
        left -= n_read
    return total


def sum_of(content: NDArray[np.uint8]) -> int:
    """Return the sum of some bytes as words of 32 bits, the first byte highest; zeros are added up to a whole word."""
    n_whole = content.size // 4 * 4
    total = int(content[:n_whole].view(">u4").sum(dtype=np.uint64))
    if n_whole < content.size:
        total += int.from_bytes(content[n_whole:].tobytes().ljust(4, b"\0"), "big")
    return add_sums(total, 0)


def add_sums(one: int, other: int) -> int:
    """Return the ones' complement sum of two sums."""
    total = one + other
    while total > FULL:
        total = (total & FULL) + (total >> 32)
    return total
