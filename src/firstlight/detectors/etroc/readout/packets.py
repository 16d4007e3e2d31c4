"""From the words of ETROC2 chips to packets and hits; what containers of such words have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.etroc.readout import packet_kernels as kernels
from firstlight.detectors.etroc.readout.words import TEST_PATTERN
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

    Columns = dict[str, NDArray[Any]]
    Whole = NDArray[np.int64]

__all__ = [
    "HIT_COLUMNS",
    "PACKET_COLUMNS",
    "SHOWN",
    "Stream",
    "chips_by_link",
    "content_of",
    "counted",
    "decode_words",
    "is_text",
    "warm_up",
]

SHOWN = 20
"""Rejected words that are listed."""

HIT_COLUMNS = {
    "record": np.uint32, "link": np.uint8, "row": np.uint8, "col": np.uint8, "toa": np.uint16, "tot": np.uint16, "cal": np.uint16,
    "ea": np.uint8, "hit_flag": np.bool_,
}  # fmt: skip
PACKET_COLUMNS = {
    "link": np.uint8, "l1a": np.uint8, "type": np.uint8, "bcid": np.uint16, "chip_id": np.uint32, "status": np.uint8,
    "hits_told": np.uint16, "hits_found": np.uint16, "crc_ok": np.bool_, "complete": np.bool_, "crc": np.uint8,
}  # fmt: skip

# what became of a packet: the words of all but the first are not used
_GOOD, _NO_TRAILER, _CHECKSUM, _COUNT = range(4)
_FATES = ("", "no trailer", "wrong checksum", "wrong hit count")
_WORDS = (
    "header", "data", "trailer", "filler", "FIFO empty", "data: no header", "trailer: no header", "trailer: unknown chip",
    "header: more packets than channels", "unknown word",
)  # fmt: skip
_REASONS = _WORDS + tuple(f"{word}: {fate}" for fate in _FATES[1:] for word in ("header", "data", "trailer"))
_HARMLESS = (kernels.HEADER, kernels.DATA, kernels.TRAILER, kernels.FILLER, kernels.FIFO_EMPTY)

_ANY = -1
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"


@dataclass(frozen=True)
class Stream:
    """What became of a stream of 40-bit words.

    Parameters
    ----------
    counters : dict of str to int
        Words by what became of them.
    hits, loose_hits : dict of str to ndarray
        Hits of good packets, and data words of packets that were not used (without trailer, or with a wrong checksum or
        hit count), in the same columns and order.
    packets : dict of str to ndarray
        All packets, good or not. Without trailer (``complete`` is false) all that the trailer says is 0. ``crc`` is the
        checksum that the trailer has.
    frame : ndarray of int64, shape (n_packets,)
        Frame of each packet; -1: none.
    rejected : tuple of (int, str)
        Place of the first rejected words in the stream, from 0, with the reason.
    facts : dict
        ``chip_ids`` by link (of links with packets, where known), ``links`` (packets, hits and faults of each link),
        ``status`` (trailers by status bits), ``test_patterns`` (packets with type 1).
    header_at : ndarray of int64, shape (n_packets,)
        Place of the header of each packet.
    """

    counters: dict[str, int]
    hits: Columns
    loose_hits: Columns
    packets: Columns
    frame: Whole
    rejected: tuple[tuple[int, str], ...]
    facts: dict[str, Any]
    header_at: Whole


@dataclass(frozen=True)
class _Found:
    """What the kernel found."""

    code: NDArray[np.uint8]
    header_at: Whole
    trailer_at: Whole
    link: NDArray[np.uint8]
    frame: Whole
    found: Whole
    good: NDArray[np.bool_]
    hit_at: Whole
    hit_packet: Whole


def content_of(content: bytes | Path) -> bytes:
    """Return the bytes of a file, or the bytes.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if not isinstance(content, Path):
        return content
    try:
        return content.read_bytes()
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(what, where=content) from error


def is_text(content: bytes) -> bool:
    """Whether the first bytes of a file are a text."""
    return not content[:4096].translate(None, _PRINTABLE)


def chips_by_link(chip_ids: Mapping[int, int] | None) -> Whole:
    """Return the chip number of every link, -1 where it is not known, shape (256,).

    Raises
    ------
    UsageError
        If a link or a number cannot be.
    """
    chips = np.full(256, _ANY, dtype=np.int64)
    for link, chip in (chip_ids or {}).items():
        if not 0 <= link < 256 or not 0 <= chip < 1 << 17:
            what = (
                f"chip number {chip} of link {link} cannot be: links go from 0 to 255, chip numbers to 131071"
            )
            raise UsageError(what, hint="give chip numbers as link: number, for example 12: 3316")
        chips[link] = chip
    return chips


def counted(code: NDArray[np.uint8], reasons: tuple[str, ...]) -> dict[str, int]:
    """Return how often each reason stands in an array of reasons, in the order of the reasons."""
    counts = np.bincount(code, minlength=len(reasons))
    return {reason: int(count) for reason, count in zip(reasons, counts, strict=True) if count}


def decode_words(
    words: Whole,
    *,
    frame_first: Whole | None = None,
    frame_mask: Whole | None = None,
    chips: Whole | None = None,
    fallback: Whole | None = None,
    keep_bad_crc: bool = False,
) -> Stream:
    """Find packets and hits in a stream of words.

    A trailer is known only by what it is not, so the chip number decides what is one: the given one, else the most
    frequent one among the packets of the link with a good checksum and hit count, else the fallback, else none: then
    any word that is neither header nor data ends a packet.

    Parameters
    ----------
    words : ndarray of int64, shape (n,)
        40-bit words, without frames with the link in bits 47:40.
    frame_first, frame_mask : ndarray of int64, shape (n_frames,), optional
        First word and channels of event frames.
    chips, fallback : ndarray of int64, shape (256,), optional
        Chip numbers by link; -1: not known.
    keep_bad_crc : bool
        Use hits of packets with a wrong checksum or hit count too.

    Returns
    -------
    Stream
        Its counters add up to the number of words.
    """
    none = np.empty(0, dtype=np.int64)
    first, mask = (none, none) if frame_first is None or frame_mask is None else (frame_first, frame_mask)
    told = np.full(256, _ANY, dtype=np.int64) if chips is None else chips
    result = _find(words, first, mask, told)
    known = _voted(words, result, told, fallback)
    if _has_others(words, result, known):
        result = _find(words, first, mask, known)
    elif not first.size:
        # no second pass: orphans that are of no known chip are all that would be different
        orphans = np.flatnonzero(result.code == kernels.TRAILER_ORPHAN)
        chip, expected = _chips_of(words, orphans), known[_field(words, orphans, 40, 8)]
        result.code[orphans[(expected >= 0) & (chip != expected)]] = kernels.TRAILER_OTHER_CHIP
    return _stream(words, result, known, keep_bad_crc)


def _find(words: Whole, first: Whole, mask: Whole, chips: Whole) -> _Found:
    n_headers, n_data = kernels.count_openings(words)
    code = np.empty(words.size, dtype=np.uint8)
    places = [np.empty(n_headers, dtype=np.int64) for _ in range(4)]
    link, good = np.empty(n_headers, dtype=np.uint8), np.empty(n_headers, dtype=np.uint8)
    hit_at, hit_packet = np.empty(n_data, dtype=np.int64), np.empty(n_data, dtype=np.int64)
    header_at, trailer_at, frame, found = places
    n_packets, n_hits = kernels.find_packets(
        words, first, mask, chips, code, header_at, trailer_at, link, frame, found, good, hit_at, hit_packet
    )
    hit_at, hit_packet = hit_at[:n_hits], hit_packet[:n_hits]
    if np.any(hit_packet[1:] < hit_packet[:-1]):
        # packets of several links were interleaved
        order = np.argsort(hit_packet, kind="stable")
        hit_at, hit_packet = hit_at[order], hit_packet[order]
    part = slice(n_packets)
    return _Found(
        code, header_at[part], trailer_at[part], link[part], frame[part], found[part], good[part] != 0, hit_at, hit_packet
    )  # fmt: skip


def _field(words: Whole, at: Whole, lowest: int, bits: int, kind: DTypeLike = np.uint8) -> NDArray[Any]:
    """Return a field of the words at some places; 0 where a place is negative."""
    values = np.empty(at.size, dtype=kind)
    kernels.take_field(words, at, lowest, bits, values)
    return values


def _chips_of(words: Whole, at: Whole) -> NDArray[np.uint32]:
    return _field(words, at, 22, 17, np.uint32)


def _voted(words: Whole, result: _Found, told: Whole, fallback: Whole | None) -> Whole:
    """Return the chip number of each link: told, else that of most good packets, else the fallback."""
    chips = told.copy()
    good = result.good & (_field(words, result.trailer_at, 8, 8) == result.found.astype(np.uint8))
    votes = _chips_of(words, result.trailer_at)
    for link in np.flatnonzero(np.bincount(result.link[good], minlength=256)):
        if chips[link] == _ANY:
            of_link = votes[good & (result.link == link)]
            numbers, counts = (of_link[:1], np.ones(1)) if np.all(of_link == of_link[0]) else _unique(of_link)
            chips[link] = numbers[np.argmax(counts)]
    return chips if fallback is None else np.where(chips == _ANY, fallback, chips)


def _unique(values: NDArray[np.uint32]) -> tuple[NDArray[Any], NDArray[Any]]:
    numbers, counts = np.unique(values, return_counts=True)
    return numbers, counts


def _has_others(words: Whole, result: _Found, chips: Whole) -> bool:
    """Whether a packet was ended by a word that is no trailer of its chip, or, in frames, any word may be none."""
    ended = result.trailer_at >= 0
    chip, expected = _chips_of(words, result.trailer_at), chips[result.link]
    wrong = ended & (expected >= 0) & (chip != expected)
    framed = result.frame.size > 0 and result.frame[0] >= 0
    return bool(np.any(wrong)) or (framed and bool(np.any(result.code == kernels.TRAILER_ORPHAN)))


def _stream(words: Whole, result: _Found, chips: Whole, keep_bad_crc: bool) -> Stream:
    header_at, trailer_at, complete = result.header_at, result.trailer_at, result.trailer_at >= 0
    told = _field(words, trailer_at, 8, 8, np.uint16)
    fate = np.zeros(header_at.size, dtype=np.uint8)
    if not keep_bad_crc:
        fate[told != (result.found & 255)] = _COUNT
        fate[~result.good] = _CHECKSUM
    fate[~complete] = _NO_TRAILER
    used = fate[result.hit_packet] == _GOOD
    code = result.code
    _mark(code, result, fate)
    packets: Columns = {
        "link": result.link,
        "l1a": _field(words, header_at, 14, 8),
        "type": _field(words, header_at, 12, 2),
        "bcid": _field(words, header_at, 0, 12, np.uint16),
        "chip_id": _chips_of(words, trailer_at),
        "status": _field(words, trailer_at, 16, 6),
        "hits_told": told,
        "hits_found": np.minimum(result.found, 65535).astype(np.uint16),
        "crc_ok": result.good,
        "complete": complete,
        "crc": _field(words, trailer_at, 0, 8),
    }
    hits = _hits(words, result.hit_at[used], result.hit_packet[used], result.link)
    loose = _hits(words, result.hit_at[~used], result.hit_packet[~used], result.link)
    strange = np.flatnonzero(code > _HARMLESS[-1])[:SHOWN]
    rejected = tuple((int(at), _REASONS[code[at]]) for at in strange)
    seen = np.bincount(result.link, minlength=256) > 0
    facts: dict[str, Any] = {
        "chip_ids": {int(link): int(chips[link]) for link in np.flatnonzero(seen & (chips >= 0))},
        "links": _links(packets, hits, fate, result.found),
        "status": {
            int(status): int(count)
            for status, count in enumerate(np.bincount(packets["status"][complete], minlength=1))
            if count
        },
        "test_patterns": int(np.count_nonzero(packets["type"] == TEST_PATTERN)),
    }
    counters = counted(code, _REASONS)
    return Stream(counters, hits, loose, packets, result.frame, rejected, facts, result.header_at)


def _mark(code: NDArray[np.uint8], result: _Found, fate: NDArray[np.uint8]) -> None:
    """Write into the code of the words of packets that are not used why they are not."""
    bad = fate != _GOOD
    if not np.any(bad):
        return
    first = len(_WORDS) - 3
    code[result.header_at[bad]] = first + 3 * fate[bad]
    ended = bad & (result.trailer_at >= 0)
    code[result.trailer_at[ended]] = first + 3 * fate[ended] + 2
    of_hit = fate[result.hit_packet]
    code[result.hit_at[of_hit != _GOOD]] = first + 3 * of_hit[of_hit != _GOOD] + 1


def _hits(words: Whole, at: Whole, packet: Whole, link: NDArray[np.uint8]) -> Columns:
    return {
        "record": packet.astype(np.uint32),
        "link": link[packet],
        "row": _field(words, at, 29, 4),
        "col": _field(words, at, 33, 4),
        "toa": _field(words, at, 19, 10, np.uint16),
        "tot": _field(words, at, 10, 9, np.uint16),
        "cal": _field(words, at, 0, 10, np.uint16),
        "ea": _field(words, at, 37, 2),
        "hit_flag": np.ones(at.size, dtype=np.bool_),
    }


def _links(
    packets: Columns, hits: Columns, fate: NDArray[np.uint8], found: Whole
) -> dict[int, dict[str, int]]:
    """Return what came over each link."""
    link = packets["link"]
    counts = {
        "headers": np.bincount(link, minlength=256),
        "packets": np.bincount(link[packets["complete"]], minlength=256),
        "hits": np.bincount(hits["link"], minlength=256),
        "no trailer": np.bincount(link[fate == _NO_TRAILER], minlength=256),
        "wrong checksum": np.bincount(link[packets["complete"] & ~packets["crc_ok"]], minlength=256),
        "wrong hit count": np.bincount(
            link[packets["complete"] & ((found & 255) != packets["hits_told"])], minlength=256
        ),
    }
    return {
        int(number): {name: int(values[number]) for name, values in counts.items()}
        for number in np.flatnonzero(counts["headers"])
    }


def warm_up() -> None:
    """Compile all kernels of the ETROC2 read-out, on a few words."""
    from firstlight.detectors.etroc.readout import emulator, kc705, tamalero, words

    packet = np.array(
        [words.header(1, 0, 7), words.data(0, 1, 2, 3, 4, 5), words.trailer(3316, 0, 1)], dtype=np.uint64
    )
    kernels.set_checksums(packet, np.array([0, 3]))
    tamalero.decode_tamalero(words.record(packet, 12).astype("<u8").tobytes())
    payload = words.payload_of(packet)
    frame = np.array([0xC3A3C3A1, 0x1000000C, *payload, 0x2C004000], dtype="<u4")
    kc705.decode_kc705(frame.tobytes())
    kc705.decode_kc705("".join(f"{word:032b}\n" for word in frame).encode())
    emulator.decode_emulator(b"35 55 55 52 8c\n95 55 55 54 00\n")
