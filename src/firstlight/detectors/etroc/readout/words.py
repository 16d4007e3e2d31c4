"""The 40-bit words of ETROC2: their fields, the checksum, and functions that make them.

All functions that make words take numbers or arrays (broadcast against each other) and return uint64.

=========  ==  =============================================================================================
word       39  other bits
=========  ==  =============================================================================================
header     0   39:24 0x3C5C, 23:22 00, 21:14 trigger counter, 13:12 type, 11:0 BCID
data       1   38:37 EA, 36:33 column, 32:29 row, 28:19 TOA, 18:10 TOT, 9:0 CAL
trailer    0   38:22 chip, 21:16 status, 15:8 hits (256 is written as 0), 7:0 checksum
fillers    0   39:24 0x3C5C, 23:22 10 (frame) or 11 (firmware)
=========  ==  =============================================================================================

The checksum is a CRC-8 with polynomial 0x2F, start 0, no reflection and no final xor, over the bytes of
header, data words and the first four bytes of the trailer, most significant byte first. Over all five bytes
of the trailer it is 0. A trailer is only known by what it is not: a word that is neither header nor data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Words = NDArray[np.uint64]

__all__ = [
    "BCIDS", "CHECKSUM_STEPS", "MARK", "NO_CHANNEL", "PHYSICS", "TEST_PATTERN", "USED", "crc8", "crc_of_packet", "data",
    "firmware_filler", "frame_filler", "header", "is_header", "payload_of", "record", "test_pattern", "trailer",
]  # fmt: skip

MARK = 0x3C5C
"""Upper 16 bits of headers and fillers."""
PHYSICS, TEST_PATTERN = 0, 1
"""Type bits of a header."""
BCIDS = 3564
"""Bunch crossings of an LHC turn; BCID goes from 0 to 3563."""
NO_CHANNEL = 255
"""Link of a packet in an event frame for which the frame has no channel."""
USED = ("header", "data", "trailer", "frame header", "payload", "frame trailer", "hit")
"""Counters of words that were used; all others say why not."""

_POLYNOMIAL = 0x2F


def _step(value: int) -> int:
    for _ in range(8):
        value = ((value << 1) ^ _POLYNOMIAL if value & 0x80 else value << 1) & 0xFF
    return value


def _steps() -> NDArray[np.uint8]:
    """Return the checksum of a byte with k zero bytes after it, shape (5, 256).

    The checksum is linear: that of a word is the xor of those of its bytes, so a word needs one look-up that waits for
    the word before it, not five.
    """
    steps = np.zeros((5, 256), dtype=np.uint8)
    for byte in range(256):
        value = byte
        for zeros in range(5):
            value = _step(value)
            steps[zeros, byte] = value
    return steps


CHECKSUM_STEPS = _steps()
"""Checksum of a byte followed by k zero bytes, shape (5, 256)."""


def crc8(content: bytes | Iterable[int], start: int = 0) -> int:
    """Return the checksum of bytes.

    Parameters
    ----------
    content : bytes
        In the order of transmission.
    start : int
        Checksum of what came before.

    Returns
    -------
    int
        0 to 255.
    """
    value = start
    for byte in content:
        value = int(CHECKSUM_STEPS[0, value ^ byte])
    return value


def crc_of_packet(words: ArrayLike) -> int:
    """Return the checksum that belongs into the last word of a packet.

    Parameters
    ----------
    words : array_like of int, shape (n,)
        Header, data words and trailer; the checksum that stands in the trailer does not count.

    Returns
    -------
    int
        0 to 255.
    """
    each = np.asarray(words, dtype=np.uint64).reshape(-1, 1)
    shifts = np.arange(32, -8, -8, dtype=np.uint64)
    return crc8(((each >> shifts) & np.uint64(0xFF)).ravel()[:-1].tolist())


def header(l1a: ArrayLike, type: ArrayLike, bcid: ArrayLike) -> Words:
    """Return headers: trigger counter (8 bits), type (2), BCID (12)."""
    return _joined((MARK, 24, 16), (l1a, 14, 8), (type, 12, 2), (bcid, 0, 12))


def data(
    ea: ArrayLike, col: ArrayLike, row: ArrayLike, toa: ArrayLike, tot: ArrayLike, cal: ArrayLike
) -> Words:
    """Return data words: EA (2 bits), column (4), row (4), TOA (10), TOT (9), CAL (10)."""
    return _joined(
        (1, 39, 1), (ea, 37, 2), (col, 33, 4), (row, 29, 4), (toa, 19, 10), (tot, 10, 9), (cal, 0, 10)
    )


def test_pattern(ea: ArrayLike, col: ArrayLike, row: ArrayLike, bcid: ArrayLike, counter: ArrayLike) -> Words:
    """Return data words of the test pattern: column and row twice, BCID (12 bits), counter (9 bits)."""
    place = ((ea, 37, 2), (col, 33, 4), (row, 29, 4), (col, 25, 4), (row, 21, 4))
    return _joined((1, 39, 1), *place, (bcid, 9, 12), (counter, 0, 9))


test_pattern.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def trailer(chip_id: ArrayLike, status: ArrayLike, hits: ArrayLike, crc: ArrayLike = 0) -> Words:
    """Return trailers: chip (17 bits), status (6), hits (8; 256 wraps to 0), checksum (8)."""
    told = np.asarray(hits, dtype=np.uint64) & np.uint64(0xFF)
    return _joined((chip_id, 22, 17), (status, 16, 6), (told, 8, 8), (crc, 0, 8))


def frame_filler(l1a: ArrayLike, ebs: ArrayLike = 0, bcid: ArrayLike = 0) -> Words:
    """Return fillers of the chip: trigger counter (8 bits), EBS (2), BCID (12)."""
    return _joined((MARK, 24, 16), (2, 22, 2), (l1a, 14, 8), (ebs, 12, 2), (bcid, 0, 12))


def firmware_filler(missing: ArrayLike) -> Words:
    """Return fillers of the firmware: count of missing words (22 bits)."""
    return _joined((MARK, 24, 16), (3, 22, 2), (missing, 0, 22))


def record(words: ArrayLike, link: ArrayLike, *, start: ArrayLike = False, end: ArrayLike = False) -> Words:
    """Return TAMALERO records, to be written as 8 bytes, least significant first (``astype("<u8").tobytes()``).

    Parameters
    ----------
    words : array_like of int
        40-bit words.
    link : array_like of int
        E-link, 0 to 255.
    start, end : array_like of bool
        Whether a word starts or ends a packet.
    """
    return _joined((words, 0, 40), (link, 40, 8), (start, 48, 1), (end, 49, 1))


def payload_of(words: ArrayLike) -> NDArray[np.uint32]:
    """Return 40-bit words packed into 32-bit words, as in KC705 event frames: most significant first, zeros at the end.

    Parameters
    ----------
    words : array_like of int, shape (n,)
        40-bit words.

    Returns
    -------
    ndarray of uint32, shape (ceil(40 n / 32),)
    """
    each = np.asarray(words, dtype=np.uint64).reshape(-1, 1)
    content = ((each >> np.arange(32, -8, -8, dtype=np.uint64)) & np.uint64(0xFF)).astype(np.uint8).tobytes()
    return np.frombuffer(content + bytes(-len(content) % 4), dtype=">u4").astype(np.uint32)


def is_header(words: ArrayLike) -> NDArray[np.bool_]:
    """Return which 40-bit words are headers."""
    each = np.asarray(words, dtype=np.uint64)
    marked: NDArray[np.bool_] = ((each >> np.uint64(22)) & np.uint64(0x3FFFF)) == np.uint64(MARK << 2)
    return marked


def _joined(*fields: tuple[ArrayLike, int, int]) -> Words:
    """Return words of fields: value, lowest bit, number of bits."""
    whole = np.zeros((), dtype=np.uint64)
    for value, lowest, bits in fields:
        each = np.asarray(value).astype(np.uint64)
        if np.any(each >> np.uint64(bits)):
            what = f"a field of {bits} bits (from bit {lowest}) cannot hold {int(each.max())}"
            raise ValueError(what)
        whole = whole | (each << np.uint64(lowest))
    return whole
