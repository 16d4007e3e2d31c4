"""Kernels for KC705 event frames: text to 32-bit words, frames in words, 40-bit words of the payload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]

__all__ = [
    "BAD_LINE", "BLANK_LINE", "COMPLETE", "CUT", "EARLY", "FILLER", "FRAME_COLUMNS", "HEADER", "HEADER_BARE", "HEADER_CUT",
    "HEADER_OPEN", "INCOMPLETE", "NO_TRAILER", "OUTSIDE", "PAYLOAD", "PAYLOAD_CUT", "TRAILER", "TRAILER_COUNT",
    "TRAILER_ORPHAN", "count_marks", "find_frames", "parse_bits", "text_extent", "unpack_payload",
]  # fmt: skip

(
    HEADER, PAYLOAD, TRAILER, FILLER, EARLY, BLANK_LINE, BAD_LINE, INCOMPLETE, HEADER_BARE, HEADER_CUT, PAYLOAD_CUT, HEADER_OPEN,
    TRAILER_ORPHAN, TRAILER_COUNT, OUTSIDE,
) = range(15)  # fmt: skip
"""What became of a 32-bit word."""

COMPLETE, CUT, NO_TRAILER = range(3)
"""State of a frame."""

AT, EVENT, WORDS, TYPE, MASK, VERSION, LAST, STATE = range(8)
FRAME_COLUMNS = 8
"""Columns of a frame: its place, event number, 40-bit words, type, channels, firmware version, trailer (-1: none), state."""

_MARK, _TRAILER = 0xC3A3C3A, 0b001011

_ZEROS, _OTHERS = np.uint64(0x3030303030303030), np.uint64(0xFEFEFEFEFEFEFEFE)
_ONES, _GATHER = np.uint64(0x0101010101010101), np.uint64(0x8040201008040201)


@kernel
def _eight(text: Bytes, at: int) -> Any:
    """Return eight bytes as a number, the first one lowest (the compiler makes one load of it)."""
    low = (
        np.uint64(text[at])
        | np.uint64(text[at + 1]) << np.uint64(8)
        | np.uint64(text[at + 2]) << np.uint64(16)
    )
    low |= np.uint64(text[at + 3]) << np.uint64(24) | np.uint64(text[at + 4]) << np.uint64(32)
    high = np.uint64(text[at + 5]) << np.uint64(40) | np.uint64(text[at + 6]) << np.uint64(48)
    return low | high | np.uint64(text[at + 7]) << np.uint64(56)


@kernel
def _byte(eight: Any) -> Any:
    """Return the number that eight characters 0 and 1 are, the first one highest."""
    return np.int64((eight & _ONES) * _GATHER >> np.uint64(56))


@kernel
def text_extent(text: Bytes) -> tuple[int, int]:
    """Return where a text ends without blanks and newlines at its end, and how many lines it has."""
    end = text.size
    while end > 0 and (
        text[end - 1] == 10 or text[end - 1] == 13 or text[end - 1] == 32 or text[end - 1] == 9
    ):
        end -= 1
    n_lines = 0
    for at in range(end):
        n_lines += text[at] == 10
    return end, n_lines + (end > 0)


@kernel
def parse_bits(text: Bytes, words: Whole, code: Bytes) -> int:
    """Read lines of 32 characters 0 or 1.

    Parameters
    ----------
    text : ndarray of uint8, shape (n,)
        The text.
    words : ndarray of int64, shape (n_lines,)
        Filled with the words; 0 for lines that hold none.
    code : ndarray of uint8, shape (n_lines,)
        `BLANK_LINE` and `BAD_LINE` are written for lines that hold none; others are left.

    Returns
    -------
    int
        Lines read.
    """
    size, at, line = text.size, 0, 0
    one, zero = np.uint8(1), np.uint8(48)
    while at < size and line < words.size:
        if at + 33 <= size and text[at + 32] == 10:
            first, second = _eight(text, at), _eight(text, at + 8)
            third, fourth = _eight(text, at + 16), _eight(text, at + 24)
            strange_bits = (
                (first ^ _ZEROS) | (second ^ _ZEROS) | (third ^ _ZEROS) | (fourth ^ _ZEROS)
            ) & _OTHERS
            if strange_bits == 0:
                upper, lower = (
                    (_byte(first) << 24) | (_byte(second) << 16),
                    (_byte(third) << 8) | _byte(fourth),
                )
                words[line] = upper | lower
                at += 33
                line += 1
                continue
        digits, value, strange = 0, np.int64(0), False
        while at < size and text[at] != 10:
            digit = np.uint8(text[at] ^ zero)
            if digit <= one:
                value = ((value << 1) | np.int64(digit)) & 0xFFFFFFFF
                digits += 1
            elif text[at] != 32 and text[at] != 9 and text[at] != 13:
                strange = True
            at += 1
        at += 1
        words[line] = 0
        if strange or digits not in (0, 32):
            code[line] = BAD_LINE
        elif digits == 0:
            code[line] = BLANK_LINE
        else:
            words[line] = value
        line += 1
    return line


@kernel
def count_marks(words: Whole) -> int:
    """Return how many words open a frame."""
    number = 0
    for at in range(words.size):
        number += (words[at] >> 4) == _MARK
    return number


@kernel
def _is_filler(word: int) -> bool:
    """Whether a word is an old, firmware or 40 Hz filler."""
    return bool(word >> 16 == 0x5555 or word >> 20 == 0x556 or word >> 20 == 0x559)


@kernel
def _lone(word: int) -> int:
    """Return what a word outside of frames is."""
    if _is_filler(word):
        return FILLER
    return TRAILER_ORPHAN if word >> 26 == _TRAILER else OUTSIDE


@kernel
def find_frames(words: Whole, code: Bytes, frames: Whole) -> int:
    """Find event frames.

    A frame that is cut, by the end of the file or by the header of the next one before all its words have come, is told
    but not used: it cannot be known which of its words are lost.

    Parameters
    ----------
    words : ndarray of int64, shape (n,)
        32-bit words.
    code : ndarray of uint8, shape (n,)
        Filled with what each word is where it was 0; other words (no lines of digits) stay, and cut a frame.
    frames : ndarray of int64, shape (n_marks, 8)
        Filled with the frames.

    Returns
    -------
    int
        Frames found.
    """
    n_frames, at, size = 0, 0, words.size
    while at < size:
        word = words[at]
        if word >> 4 != _MARK or n_frames >= frames.shape[0] or code[at] != 0:
            if code[at] == 0:
                code[at] = _lone(word)
            at += 1
            continue
        if at + 1 >= size or words[at + 1] >> 4 == _MARK or code[at + 1] != 0:
            code[at] = HEADER_BARE
            at += 1
            continue
        second = words[at + 1]
        told = (second >> 2) & 0x3FF
        end = at + 2 + ((40 * told + 31) >> 5)
        stop = at + 2
        while stop < min(end, size) and words[stop] >> 4 != _MARK and code[stop] == 0:
            stop += 1
        frame = frames[n_frames]
        n_frames += 1
        frame[AT], frame[EVENT], frame[WORDS], frame[TYPE] = at, (second >> 12) & 0xFFFF, told, second & 3
        frame[MASK], frame[VERSION], frame[LAST], frame[STATE] = word & 15, second >> 28, -1, COMPLETE
        if stop < end:
            frame[STATE] = CUT
            code[at : at + 2] = HEADER_CUT
            code[at + 2 : stop] = PAYLOAD_CUT
            at = stop
            continue
        code[at : at + 2] = HEADER
        code[at + 2 : end] = PAYLOAD
        at = end
        if end < size and words[end] >> 26 == _TRAILER and code[end] == 0:
            frame[LAST] = words[end]
            code[end] = TRAILER
            at += 1
        else:
            frame[STATE] = NO_TRAILER
            code[frame[AT] : frame[AT] + 2] = HEADER_OPEN
    return n_frames


@kernel
def unpack_payload(words: Whole, frames: Whole, first: Whole, chip_words: Whole, found: Whole) -> None:
    """Take the 40-bit words out of the frames.

    Parameters
    ----------
    words : ndarray of int64, shape (n,)
        32-bit words.
    frames : ndarray of int64, shape (n_frames, 8)
        Frames.
    first : ndarray of int64, shape (n_frames,)
        First 40-bit word of each frame.
    chip_words : ndarray of int64, shape (n_words,)
        Filled.
    found : ndarray of int64, shape (n_frames,)
        Filled with the data words of each frame.
    """
    for index in range(frames.shape[0]):
        found[index] = 0
        if frames[index, STATE] == CUT:
            continue
        start, to = frames[index, AT] + 2, first[index]
        for number in range(frames[index, WORDS]):
            place = start + ((40 * number) >> 5)
            if place + 1 >= words.size or to + number >= chip_words.size:
                break
            both = (words[place] << 32) | words[place + 1]
            word = (both >> (24 - ((40 * number) & 31))) & 0xFFFFFFFFFF
            chip_words[to + number] = word
            found[index] += word >> 39
