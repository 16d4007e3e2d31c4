"""Kernels for the words of the early ETROC2 emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]

__all__ = [
    "BAD_LINE", "BLANK_LINE", "DATA", "DATA_ORPHAN", "DATA_PARITY", "FILLER", "HEADER", "INCOMPLETE", "TRAILER",
    "TRAILER_ORPHAN", "TRAILER_PARITY", "UNKNOWN", "find_emulator_packets", "parse_hex",
]  # fmt: skip

(
    HEADER, DATA, TRAILER, FILLER, BLANK_LINE, BAD_LINE, INCOMPLETE, DATA_ORPHAN, TRAILER_ORPHAN, DATA_PARITY, TRAILER_PARITY,
    UNKNOWN,
) = range(12)  # fmt: skip
"""What a word is."""

_HEADER, _TRAILER, _FILLER = 0x3555555, 0x9555555, 0xC00AAAAAAA


@kernel
def parse_hex(text: Bytes, words: Whole, code: Bytes) -> int:
    """Read lines of ten hexadecimal digits, blanks between them allowed; return the lines read.

    Parameters
    ----------
    text : ndarray of uint8, shape (n,)
        The text.
    words : ndarray of int64, shape (n_lines,)
        Filled with the words; 0 for lines that hold none.
    code : ndarray of uint8, shape (n_lines,)
        `BLANK_LINE` and `BAD_LINE` are written for lines that hold none; others are left.
    """
    size, at, line = text.size, 0, 0
    while at < size and line < words.size:
        digits, value, strange = 0, np.int64(0), False
        while at < size and text[at] != 10:
            letter = np.int64(text[at])
            digit = letter - 48 if letter < 58 else (letter | 32) - 87
            if 0 <= digit < 16 and (letter < 58 or digit > 9):
                value = ((value << 4) | digit) & 0xFFFFFFFFFF
                digits += 1
            elif letter != 32 and letter != 9 and letter != 13:
                strange = True
            at += 1
        at += 1
        words[line] = 0
        if strange or digits not in (0, 10):
            code[line] = BAD_LINE
        elif digits == 0:
            code[line] = BLANK_LINE
        else:
            words[line] = value
        line += 1
    return line


@kernel
def _odd(word: int) -> bool:
    """Whether a word has an odd number of ones."""
    for shift in (32, 16, 8, 4, 2, 1):
        word ^= word >> shift
    return bool(word & 1)


@kernel
def find_emulator_packets(
    words: Whole,
    code: Bytes,
    header_at: Whole,
    trailer_at: Whole,
    found: Whole,
    hit_at: Whole,
    hit_packet: Whole,
) -> tuple[int, int]:
    """Find packets; return how many packets and data words of packets there are.

    Parameters
    ----------
    words : ndarray of int64, shape (n,)
        40-bit words.
    code : ndarray of uint8, shape (n,)
        Filled with what each word is; `BLANK_LINE`, `BAD_LINE` and `INCOMPLETE` stay.
    header_at, trailer_at, found, hit_at, hit_packet : ndarray of int64, shape (n,)
        Filled: places of header and trailer (-1: none) of each packet and its data words; place and packet of each hit.
    """
    packet, n_packets, n_hits = -1, 0, 0
    for at in range(words.size):
        word = words[at]
        if code[at] == BLANK_LINE or code[at] == BAD_LINE or code[at] == INCOMPLETE:
            continue
        if word >> 12 == _HEADER:
            packet = n_packets
            n_packets += 1
            code[at] = HEADER
            header_at[packet], trailer_at[packet], found[packet] = at, -1, 0
        elif word == _FILLER:
            code[at] = FILLER
        elif word >> 38 == 1:
            if packet < 0:
                code[at] = DATA_ORPHAN
                continue
            code[at] = DATA_PARITY if _odd(word) else DATA
            found[packet] += 1
            hit_at[n_hits], hit_packet[n_hits] = at, packet
            n_hits += 1
        elif word >> 12 == _TRAILER:
            if _odd(word):
                code[at] = TRAILER_PARITY
            elif packet < 0:
                code[at] = TRAILER_ORPHAN
            else:
                code[at] = TRAILER
                trailer_at[packet] = at
            packet = -1
        else:
            code[at] = UNKNOWN
    return n_packets, n_hits
