"""Simulated ETROC2 packets and their 40-bit words, with a checksum of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    IntArray = NDArray[np.int64]
    WordArray = NDArray[np.uint64]

__all__ = [
    "DATA",
    "FIFO_EMPTY",
    "FILLER",
    "HEADER",
    "TRAILER",
    "Packets",
    "Stream",
    "checksums",
    "filler_words",
    "make_packets",
    "to_stream",
]  # fmt: skip

HEADER, DATA, TRAILER, FILLER, FIFO_EMPTY = range(5)  # kinds of words
MAGIC = 0x3C5C << 24
POLYNOMIAL = 0x2F
N_BCID = 3564
HIT_COLUMNS = ("packet", "ea", "row", "col", "toa", "tot", "cal")
_LIMITS = {"ea": 4, "row": 16, "col": 16, "toa": 1024, "tot": 512, "cal": 1024}


@dataclass(frozen=True)
class Packets:
    """Packets in the order of the file, with their hits.

    Parameters
    ----------
    link, l1a, bcid, chip_id, status, type, event : ndarray of int, shape (n_packets,)
        E-link or channel; trigger counter; bunch crossing; chip number; status bits; type bits (0 physics,
        1 test pattern); the true event.
    hits : mapping of str to ndarray, shape (n_hits,)
        ``packet`` (never falling), ``ea``, ``row``, ``col``, ``toa``, ``tot``, ``cal``.
    """

    link: IntArray
    l1a: IntArray
    bcid: IntArray
    chip_id: IntArray
    status: IntArray
    type: IntArray
    event: IntArray
    hits: Mapping[str, IntArray]

    def __len__(self) -> int:
        return int(self.link.size)

    @property
    def n_hits(self) -> IntArray:
        """Hits of each packet, shape (n_packets,)."""
        return np.bincount(self.hits["packet"], minlength=len(self))

    def replaced(self, **columns: Any) -> Packets:
        """Return packets with other columns."""
        return replace(self, **columns)


@dataclass(frozen=True)
class Stream:
    """Words in the order of the file.

    Parameters
    ----------
    words : ndarray of uint64, shape (n_words,)
        40 bits each.
    kind : ndarray of int, shape (n_words,)
        `HEADER`, `DATA`, `TRAILER`, `FILLER` or `FIFO_EMPTY`, as it was made (before bits were turned).
    link : ndarray of int, shape (n_words,)
        E-link or channel.
    packet : ndarray of int, shape (n_words,)
        Packet that the word is of; -1 for none.
    event : ndarray of int, shape (n_words,)
        True event.
    """

    words: WordArray
    kind: IntArray
    link: IntArray
    packet: IntArray
    event: IntArray

    def __len__(self) -> int:
        return int(self.words.size)

    def taken(self, index: NDArray[Any]) -> Stream:
        """Return some words, by index or by mask."""
        return Stream(*(values[index] for values in self._columns()))

    def inserted(self, before: ArrayLike, other: Stream) -> Stream:
        """Return the stream with each word of another one put before the word of that index."""
        place = np.asarray(before, dtype=np.int64)
        return Stream(
            *(np.insert(own, place, new) for own, new in zip(self._columns(), other._columns(), strict=True))
        )

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.words, self.kind, self.link, self.packet, self.event


def make_packets(
    link: ArrayLike,
    l1a: ArrayLike,
    bcid: ArrayLike,
    event: ArrayLike,
    hits: Mapping[str, ArrayLike],
    *,
    chip_id: ArrayLike = 0,
    status: ArrayLike = 0,
    type_bits: ArrayLike = 0,
) -> Packets:
    """Return packets; single numbers are for all of them, hits are put in the order of packets.

    Parameters
    ----------
    link, l1a, bcid, event, chip_id, status, type_bits : array_like, shape (n_packets,)
        As in `Packets`.
    hits : mapping of str to array_like, shape (n_hits,)
        As in `Packets`; ``ea`` may be left out.

    Raises
    ------
    ConfigError
        If a number does not fit into its bits.
    """
    links = np.asarray(link, dtype=np.int64)
    size = links.shape

    def whole(values: ArrayLike) -> IntArray:
        return np.broadcast_to(np.asarray(values, dtype=np.int64), size).copy()

    packet = np.asarray(hits["packet"], dtype=np.int64)
    order = np.argsort(packet, kind="stable")
    columns = {
        name: np.broadcast_to(np.asarray(hits.get(name, 0), dtype=np.int64), packet.shape)[order]
        for name in HIT_COLUMNS
    }
    for name, limit in _LIMITS.items():
        if columns[name].size and not 0 <= columns[name].min() <= columns[name].max() < limit:
            what = f"{name} of a hit does not fit into its bits"
            raise ConfigError(what, hint=f"0 to {limit - 1}")
    return Packets(
        links,
        whole(l1a) % 256,
        whole(bcid) % N_BCID,
        whole(chip_id) & 0x1FFFF,
        whole(status) & 0x3F,
        whole(type_bits) & 3,
        whole(event),
        columns,
    )


def _crc_table() -> NDArray[np.uint8]:
    """Return the remainder of each byte by long division, polynomial x^8 + x^5 + x^3 + x^2 + x + 1."""
    table = np.arange(256, dtype=np.int64)
    for _ in range(8):
        table = np.where(table & 0x80, (table << 1) ^ POLYNOMIAL, table << 1) & 0xFF
    return table.astype(np.uint8)


_TABLE = _crc_table()


def checksums(words: WordArray, first: IntArray, number: IntArray, last_bytes: int = 4) -> NDArray[np.uint8]:
    """Return the CRC-8 of packets in a row of words.

    Parameters
    ----------
    words : ndarray of uint64, shape (n_words,)
        40 bits each, most significant byte first.
    first, number : ndarray of int, shape (n_packets,)
        First word of a packet, words of it.
    last_bytes : int
        So many bytes of the trailer count: 4 to make the checksum, 5 to test it (the result is 0).

    Returns
    -------
    ndarray of uint8, shape (n_packets,)
        Start 0, nothing reflected, nothing added at the end.
    """
    found = np.zeros(first.size, dtype=np.uint8)
    for k in range(int(number.max(initial=0))):
        alive = np.flatnonzero(number > k)
        word = words[first[alive] + k]
        is_last = number[alive] == k + 1
        for byte in range(5):
            value = (word >> np.uint64(8 * (4 - byte))).astype(np.uint8)
            counts = ~is_last | (byte < last_bytes)
            found[alive] = np.where(counts, _TABLE[found[alive] ^ value], found[alive])
    return found


def to_stream(packets: Packets) -> Stream:
    """Return the words of packets one after another: header, data, trailer with the true checksum."""
    n_hits = packets.n_hits
    number = n_hits + 2
    first = np.cumsum(number) - number
    packet = np.repeat(np.arange(len(packets)), number)
    words = np.zeros(packet.size, dtype=np.uint64)
    kind = np.full(packet.size, DATA, dtype=np.int64)
    kind[first], kind[first + number - 1] = HEADER, TRAILER
    words[kind == HEADER] = MAGIC | packets.l1a << 14 | packets.type << 12 | packets.bcid
    words[kind == DATA] = _data_words(packets)
    told = n_hits & 0xFF  # 8 bits: 256 hits read as none
    words[kind == TRAILER] = packets.chip_id << 22 | packets.status << 16 | told << 8
    words[first + number - 1] |= checksums(words, first, number)
    return Stream(words, kind, packets.link[packet], packet, packets.event[packet])


def _data_words(packets: Packets) -> IntArray:
    hits = packets.hits
    place = 1 << 39 | hits["ea"] << 37 | hits["col"] << 33 | hits["row"] << 29
    codes = hits["toa"] << 19 | hits["tot"] << 10 | hits["cal"]
    # a test pattern says again where it is, when, and which it is
    index = np.arange(hits["packet"].size) & 0x1FF
    bcid = packets.bcid[hits["packet"]]
    pattern = hits["col"] << 25 | hits["row"] << 21 | bcid << 9 | index
    return np.asarray(place | np.where(packets.type[hits["packet"]] == 1, pattern, codes))


def filler_words(l1a: ArrayLike, bcid: ArrayLike, *, firmware: bool = False) -> WordArray:
    """Return filler words of the chip, or of the firmware (then `bcid` is its count).

    Parameters
    ----------
    l1a, bcid : array_like of int
        Trigger counter and bunch crossing.
    firmware : bool
        Whose filler.
    """
    counter, crossing = np.asarray(l1a, dtype=np.int64), np.asarray(bcid, dtype=np.int64)
    if firmware:
        return np.asarray(MAGIC | 3 << 22 | crossing & 0x3FFFFF).astype(np.uint64)
    return np.asarray(MAGIC | 2 << 22 | (counter & 0xFF) << 14 | crossing & 0xFFF).astype(np.uint64)
