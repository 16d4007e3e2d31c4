"""Kernels for 40-bit words: packets of the chips in a stream of words, and checksums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.etroc.readout.words import CHECKSUM_STEPS, MARK, NO_CHANNEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]

__all__ = [
    "DATA",
    "DATA_ORPHAN",
    "FIFO_EMPTY",
    "FILLER",
    "HEADER",
    "HEADER_SURPLUS",
    "TRAILER",
    "TRAILER_ORPHAN",
    "TRAILER_OTHER_CHIP",
    "UNKNOWN",
    "checksum_after",
    "count_openings",
    "find_packets",
    "set_checksums",
    "take_field",
]  # fmt: skip

(
    HEADER, DATA, TRAILER, FILLER, FIFO_EMPTY, DATA_ORPHAN, TRAILER_ORPHAN, TRAILER_OTHER_CHIP, HEADER_SURPLUS, UNKNOWN,
) = range(10)  # fmt: skip
"""What `find_packets` says of a word."""

_SORTS = np.array([HEADER, UNKNOWN, FILLER, FILLER], dtype=np.uint8)  # by bits 23:22, after the mark
_FRAME, _SLOT, _LINK = range(3)
_AFTER_0, _AFTER_1, _AFTER_2, _AFTER_3, _AFTER_4 = CHECKSUM_STEPS


@kernel
def checksum_after(word: Any, before: Any) -> Any:
    """Return the checksum after one more word."""
    return np.int64(
        _AFTER_4[((word >> 32) & 255) ^ before]
        ^ _AFTER_3[(word >> 24) & 255]
        ^ _AFTER_2[(word >> 16) & 255]
        ^ _AFTER_1[(word >> 8) & 255]
        ^ _AFTER_0[word & 255]
    )


@kernel
def _channel(mask: int, slot: int) -> int:
    """Return the channel of a packet: the slot-th bit that is set."""
    for channel in range(4):
        if (mask >> channel) & 1:
            if slot == 0:
                return channel
            slot -= 1
    return NO_CHANNEL


@kernel
def _is_of_chip(word: Any, chip: Any) -> bool:
    """Whether a word can be a trailer of a chip; of an unknown chip any can."""
    return bool(chip < 0 or (word >> 22) & 0x1FFFF == chip)


@kernel
def _enter(at: int, frame_first: Whole, current: Whole, place: Whole) -> None:
    """Go to the frame of a word; no packet goes over the end of a frame."""
    frame = place[_FRAME]
    while frame + 1 < frame_first.size and frame_first[frame + 1] <= at:
        frame += 1
        current[place[_LINK]] = -1
        place[_FRAME], place[_SLOT], place[_LINK] = frame, -1, NO_CHANNEL


@kernel
def _advance(frame_mask: Whole, place: Whole) -> Any:
    """Go to the next channel of the frame."""
    place[_SLOT] += 1
    place[_LINK] = _channel(frame_mask[place[_FRAME]], place[_SLOT]) if place[_FRAME] >= 0 else NO_CHANNEL
    return place[_LINK]


@kernel
def _orphan(word: Any, link: Any, chips: Whole, frame_mask: Whole, place: Whole) -> int:
    """Return what a word is that can only be a trailer, but ends no packet."""
    if frame_mask.size > 0:
        # the header of this channel is lost: what follows belongs to the next channel
        link = _advance(frame_mask, place)
    if _is_of_chip(word, chips[link]):
        return TRAILER_ORPHAN
    place[_SLOT] -= 1
    return TRAILER_OTHER_CHIP


@kernel
def count_openings(words: Whole) -> tuple[int, int]:
    """Return how many words look like headers, and how many like data."""
    n_headers, n_data = 0, 0
    for at in range(words.size):
        n_headers += ((words[at] >> 22) & 0x3FFFF) == (MARK << 2)
        n_data += (words[at] >> 39) & 1
    return n_headers, n_data


@kernel
def find_packets(
    words: Whole,
    frame_first: Whole,
    frame_mask: Whole,
    chips: Whole,
    code: Bytes,
    header_at: Whole,
    trailer_at: Whole,
    link_of: Bytes,
    frame_of: Whole,
    found: Whole,
    good: Bytes,
    hit_at: Whole,
    hit_packet: Whole,
) -> tuple[int, int]:
    """Find packets; every link has its own state, so packets of different links may interleave.

    Parameters
    ----------
    words : ndarray of int64, shape (n,)
        40-bit words; without frames bits 47:40 are the link, 48 and 49 mark start and end of a packet.
    frame_first, frame_mask : ndarray of int64, shape (n_frames,)
        First word of each event frame, and its channels (bits). Empty: no frames. The packets of a frame have its
        channels in order, and no packet goes over the end of its frame.
    chips : ndarray of int64, shape (256,)
        Chip number of each link; negative: any word may be a trailer that can be one.
    code : ndarray of uint8, shape (n,)
        Filled with what each word is.
    header_at, trailer_at, link_of, frame_of, found, good : ndarray, shape (n_headers,)
        Filled for each packet: places of header and trailer (-1: none), link, frame (-1: none), data words, whether the
        checksum is right.
    hit_at, hit_packet : ndarray of int64, shape (n_data,)
        Filled for each data word of a packet: its place, and the packet.

    Returns
    -------
    n_packets, n_hits : int
        How many are filled.
    """
    current = np.full(256, -1, dtype=np.int64)
    checksum = np.zeros(256, dtype=np.int64)
    framed = frame_first.size > 0
    place = np.array([-1, -1, NO_CHANNEL])
    n_packets, n_hits = 0, 0
    for at in range(words.size):
        word = words[at]
        if framed:
            _enter(at, frame_first, current, place)
            link = place[_LINK]
        else:
            link = (word >> 40) & 255
            if (word & 0xFFFFFFFF) <= 256 and (word >> 48) & 3 == 0:
                code[at] = FIFO_EMPTY
                continue
        packet = current[link]
        if (word >> 39) & 1:
            if packet < 0:
                code[at] = DATA_ORPHAN
                continue
            code[at] = DATA
            hit_at[n_hits], hit_packet[n_hits] = at, packet
            n_hits += 1
            found[packet] += 1
            checksum[link] = checksum_after(word, checksum[link])
        elif (word >> 24) & 0xFFFF == MARK:
            code[at] = _SORTS[(word >> 22) & 3]
            if code[at] != HEADER:
                continue
            if framed:
                current[link] = -1
                link = _advance(frame_mask, place)
                if link == NO_CHANNEL:
                    code[at] = HEADER_SURPLUS
                    continue
            header_at[n_packets], trailer_at[n_packets] = at, -1
            link_of[n_packets], frame_of[n_packets] = link, place[_FRAME]
            found[n_packets], good[n_packets] = 0, 0
            current[link] = n_packets
            checksum[link] = checksum_after(word, 0)
            n_packets += 1
        elif packet < 0:
            code[at] = _orphan(word, link, chips, frame_mask, place)
        elif _is_of_chip(word, chips[link]):
            code[at] = TRAILER
            trailer_at[packet] = at
            good[packet] = checksum_after(word, checksum[link]) == 0
            current[link] = -1
        else:
            # no trailer of this chip: a broken word, the packet goes on
            code[at] = TRAILER_OTHER_CHIP
    return n_packets, n_hits


@kernel
def take_field(words: Whole, at: Whole, lowest: int, bits: int, values: NDArray[Any]) -> None:
    """Fill a field of the words at some places; 0 where a place is negative.

    Parameters
    ----------
    words : ndarray of int64, shape (n,)
        40-bit words.
    at : ndarray of int64, shape (n_values,)
        Places in `words`.
    lowest, bits : int
        Lowest bit of the field, and how many bits it has.
    values : ndarray, shape (n_values,)
        Filled.
    """
    mask = (1 << bits) - 1
    for index in range(min(at.size, values.size)):
        values[index] = (words[at[index]] >> lowest) & mask if at[index] >= 0 else 0


@kernel
def set_checksums(words: NDArray[np.uint64], first: Whole) -> None:
    """Write the checksum into the last word of each packet.

    Parameters
    ----------
    words : ndarray of uint64, shape (n,)
        40-bit words of whole packets, header to trailer, one after the other; changed in place.
    first : ndarray of int64, shape (n_packets + 1,)
        Place of the header of each packet, and the end.
    """
    for packet in range(first.size - 1):
        start, stop = max(first[packet], 0), min(first[packet + 1], words.size)
        if stop <= start:
            continue
        value = np.int64(0)
        for at in range(start, stop - 1):
            value = checksum_after(np.int64(words[at]), value)
        last = np.int64(words[stop - 1]) & ~255
        # with 0 as last byte the checksum is that of four bytes, once more through the table
        for shift in (32, 24, 16, 8):
            value = np.int64(_AFTER_0[value ^ ((last >> shift) & 255)])
        words[stop - 1] = np.uint64(last | value)
