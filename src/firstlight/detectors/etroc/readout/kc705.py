"""KC705 event frames: 32-bit words, in a binary file (least significant byte first) or a text of lines of 32 characters 0/1.

===============  =======================================================================================================
word             fields
===============  =======================================================================================================
first header     31:4 0xC3A3C3A, 3:0 channels
second header    31:28 firmware version, 27:12 event number, 11:2 number n of 40-bit words, 1:0 type
payload          ceil(40 n / 32) words: 40-bit words packed most significant first, zeros at the end
trailer          31:26 001011, 25:14 hits, 13:11 overflows, 10:8 Hamming count, 7:0 checksum (its rule is not known)
fillers          0x5555 + 16 bits, 0x556 + 20 bits (firmware), 0x559 + 20 bits (link check)
===============  =======================================================================================================

The payload has header, data words and trailer of each enabled channel, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.etroc.readout import frame_kernels as kernels
from firstlight.detectors.etroc.readout.packets import (
    SHOWN,
    chips_by_link,
    content_of,
    counted,
    decode_words,
    is_text,
)
from firstlight.detectors.etroc.tables import Decoded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.etroc.readout.packets import Stream

    Whole = NDArray[np.int64]

__all__ = ["DEFAULT_CHIP", "decode_kc705", "looks_like_kc705"]

DEFAULT_CHIP = 0x17F0F
"""Chip number of chips on a wafer, which have none of their own: used where no packet of a channel is good."""

_REASONS = (
    "frame header", "payload", "frame trailer", "filler", "before event 0 or 1", "blank line", "not 32 characters 0 or 1",
    "incomplete word", "frame header: no second word", "frame header: frame cut", "payload: frame cut",
    "frame header: no frame trailer", "frame trailer: no frame header", "frame trailer: wrong hit count", "outside frames",
)  # fmt: skip
_LAST_HARMLESS = kernels.BLANK_LINE
_STATES = ("complete", "cut", "no trailer")


def decode_kc705(
    content: bytes | Path,
    *,
    chip_ids: Mapping[int, int] | None = None,
    binary: bool | None = None,
    start_at_event_zero: bool = True,
    keep_bad_crc: bool = False,
) -> Decoded:
    """Read a file of KC705 event frames.

    Parameters
    ----------
    content : bytes or Path
        The file.
    chip_ids : mapping of int to int, optional
        Chip number of each channel; default: that of most packets of the channel with a good checksum, also among
        the frames that are not used; where there is none, `DEFAULT_CHIP`.
    binary : bool, optional
        Whether the file is binary; default: it is where it holds bytes that no text has.
    start_at_event_zero : bool
        Ignore all before the first frame with event number 0 or 1: it was left in buffers by the run before.
    keep_bad_crc : bool
        Use hits of packets with a wrong checksum or hit count too.

    Returns
    -------
    Decoded
        Words are 32-bit words, or lines. Every header of a chip has its row in ``packets``, also those without trailer
        (``complete`` is false, all that a trailer says is 0); ``link`` is the channel. ``facts``:

        * ``frames``: arrays of shape (n_frames,): ``frame_event``, ``type``, ``version``, ``channels`` (bits), ``n_words``
          (40-bit words that the header tells), ``hits_told`` (-1: no frame trailer), ``hits_found``, ``overflow``, ``hamming``,
          ``crc``, ``state`` (0 complete, 1 cut and not used, 2 without frame trailer), ``line`` (place in the file, from 1). A
          packet's ``frame`` is a row of it; frames without packets are in it too. (The collaboration's translator leaves out
          frames of state 1 and 2.)
        * ``payload_counters`` and ``payload_words``: what became of the 40-bit words of all frames that are not cut.
        * ``loose_hits``: data words of packets that were not used, columns as ``hits``.
        * ``frame_states``, ``wrong_hit_counts``: frames by state, and with another hit count than data words.
        * ``chip_ids``, ``links``, ``status``, ``test_patterns`` as in `packets.Stream`; ``binary``.

    Raises
    ------
    InputError
        If the file cannot be read.
    UsageError
        If a chip number cannot be.
    """
    content = content_of(content)
    if binary is None:
        binary = not is_text(content)
    words, code = _binary_words(content) if binary else _text_words(content)
    frames = np.empty((kernels.count_marks(words), kernels.FRAME_COLUMNS), dtype=np.int64)
    frames = frames[: kernels.find_frames(words, code, frames)]
    n_early = _early(frames) if start_at_event_zero else 0
    stream, first, found = _payload(
        words, frames[n_early:], chips_by_link(chip_ids), frames[:n_early], keep_bad_crc
    )
    if n_early:
        code[: frames[n_early, kernels.AT] if n_early < len(frames) else code.size] = kernels.EARLY
    frames = frames[n_early:]
    last = frames[:, kernels.LAST]
    wrong = (last >= 0) & (((last >> 14) & 0xFFF) != found)
    code[_trailer_at(frames[wrong])] = kernels.TRAILER_COUNT
    table = _frame_table(frames, found)
    packets = stream.packets
    packets["frame"] = stream.frame.astype(np.uint32)
    packets["frame_event"] = table["frame_event"][stream.frame]
    facts: dict[str, Any] = {
        **stream.facts,
        "binary": binary,
        "frames": table,
        "frame_states": {
            name: int(count)
            for name, count in zip(_STATES, np.bincount(table["state"], minlength=3), strict=True)
            if count
        },
        "wrong_hit_counts": int(np.count_nonzero(wrong)),
        "payload_words": int(np.sum(frames[frames[:, kernels.STATE] != kernels.CUT, kernels.WORDS])),
        "payload_counters": stream.counters,
        "loose_hits": stream.loose_hits,
    }
    rejected = _rejected(code, stream, frames, first)
    return Decoded(
        code.size, counted(code, _REASONS), stream.hits, packets, stream.header_at.size, rejected, facts
    )  # fmt: skip


def looks_like_kc705(content: bytes) -> bool:
    """Whether the first bytes of a file (64 kB are enough) are event frames, binary or as text.

    There must be a whole frame, from header to trailer; in a text, at least nine in ten lines must have 32
    characters 0 or 1.
    """
    if is_text(content):
        lines = content.split(b"\n")
        # the last line may be cut
        lines = [line.strip() for line in (lines[:-1] if len(lines) > 1 else lines)]
        good = [line for line in lines if len(line) == 32 and not line.strip(b"01")]
        if not good or len(good) < 0.9 * len([line for line in lines if line]):
            return False
        words = np.array([int(line, 2) for line in good], dtype=np.int64)
    else:
        words = np.frombuffer(content, dtype="<u4", count=len(content) // 4).astype(np.int64)
    starts = np.flatnonzero(words[:-1] >> 4 == 0xC3A3C3A)
    ends = starts + 2 + ((40 * ((words[starts + 1] >> 2) & 0x3FF) + 31) >> 5)
    ends = ends[ends < words.size]
    return bool(np.any(words[ends] >> 26 == 0b001011))


def _binary_words(content: bytes) -> tuple[Whole, NDArray[np.uint8]]:
    """Return the words; a rest of the file is one more, of value 0."""
    whole, rest = divmod(len(content), 4)
    words = np.zeros(whole + (rest > 0), dtype=np.int64)
    words[:whole] = np.frombuffer(content, dtype="<u4", count=whole)
    code = np.zeros(words.size, dtype=np.uint8)
    code[whole:] = kernels.INCOMPLETE
    return words, code


def _text_words(content: bytes) -> tuple[Whole, NDArray[np.uint8]]:
    """Return the words of the lines, and codes of lines that hold none; blank lines at the end do not count."""
    text = np.frombuffer(content, dtype=np.uint8)
    end, n_lines = kernels.text_extent(text)
    words, code = np.zeros(n_lines, dtype=np.int64), np.zeros(n_lines, dtype=np.uint8)
    kernels.parse_bits(text[: min(end + 1, text.size)], words, code)
    return words, code


def _early(frames: Whole) -> int:
    """Return how many frames are before the first one with event number 0 or 1."""
    begins = np.flatnonzero(frames[:, kernels.EVENT] <= 1)
    return int(begins[0]) if begins.size else len(frames)


def _payload(
    words: Whole, frames: Whole, chips: Whole, before: Whole, keep_bad_crc: bool
) -> tuple[Stream, Whole, Whole]:
    """Return packets of the frames, the first 40-bit word of each frame, and its data words."""
    fallback = np.full(256, -1, dtype=np.int64)
    fallback[:4] = DEFAULT_CHIP
    if len(before):
        first, chip_words, _ = _unpacked(words, before)
        early = decode_words(
            chip_words, frame_first=first, frame_mask=before[:, kernels.MASK].copy(), chips=chips
        )
        for link, chip in early.facts["chip_ids"].items():
            fallback[link] = chip
    first, chip_words, found = _unpacked(words, frames)
    stream = decode_words(
        chip_words,
        frame_first=first,
        frame_mask=frames[:, kernels.MASK].copy(),
        chips=chips,
        fallback=fallback,
        keep_bad_crc=keep_bad_crc,
    )
    return stream, first, found


def _unpacked(words: Whole, frames: Whole) -> tuple[Whole, Whole, Whole]:
    numbers = np.where(frames[:, kernels.STATE] == kernels.CUT, 0, frames[:, kernels.WORDS])
    ends = np.cumsum(numbers)
    chip_words = np.zeros(int(ends[-1]) if ends.size else 0, dtype=np.int64)
    found = np.zeros(len(frames), dtype=np.int64)
    first = ends - numbers
    kernels.unpack_payload(words, frames, first, chip_words, found)
    return first, chip_words, found


def _trailer_at(frames: Whole) -> Whole:
    places: Whole = frames[:, kernels.AT] + 2 + ((40 * frames[:, kernels.WORDS] + 31) >> 5)
    return places


def _frame_table(frames: Whole, found: Whole) -> dict[str, NDArray[Any]]:
    last = frames[:, kernels.LAST]
    told = np.maximum(last, 0)
    return {
        "frame_event": frames[:, kernels.EVENT].astype(np.uint16),
        "type": frames[:, kernels.TYPE].astype(np.uint8),
        "version": frames[:, kernels.VERSION].astype(np.uint8),
        "channels": frames[:, kernels.MASK].astype(np.uint8),
        "n_words": frames[:, kernels.WORDS].astype(np.uint16),
        "hits_told": np.where(last < 0, -1, (told >> 14) & 0xFFF).astype(np.int32),
        "hits_found": found.astype(np.int32),
        "overflow": ((told >> 11) & 7).astype(np.uint8),
        "hamming": ((told >> 8) & 7).astype(np.uint8),
        "crc": (told & 255).astype(np.uint8),
        "state": frames[:, kernels.STATE].astype(np.uint8),
        "line": frames[:, kernels.AT] + 1,
    }


def _rejected(
    code: NDArray[np.uint8], stream: Stream, frames: Whole, first: Whole
) -> tuple[tuple[int, str], ...]:
    """Return the first rejected words: 32-bit words, and those in which a rejected 40-bit word begins."""
    of_frames = [(int(at) + 1, _REASONS[code[at]]) for at in np.flatnonzero(code > _LAST_HARMLESS)[:SHOWN]]
    of_payload = []
    for at, reason in stream.rejected:
        frame = int(np.searchsorted(first, at, side="right")) - 1
        place = int(frames[frame, kernels.AT]) + 2 + ((40 * (at - int(first[frame]))) >> 5)
        of_payload.append((place + 1, reason))
    return tuple(sorted([*of_frames, *of_payload])[:SHOWN])
