"""Words of the early ETROC2 emulator: 40 bits, as lines of five hexadecimal bytes or as 5 bytes each.

=======  ===========================================================================================
word     fields
=======  ===========================================================================================
header   39:12 0x3555555, 11:0 BCID
data     39:38 01, 37:34 row, 33:30 column, 29:20 TOA, 19:11 TOT, 10:1 CAL, 0 parity (whole word even)
trailer  39:12 0x9555555, 9:1 hits, 0 parity (whole word even)
filler   0xC00AAAAAAA
=======  ===========================================================================================

A packet has no trigger counter, chip number or checksum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.etroc.readout import emulator_kernels as kernels
from firstlight.detectors.etroc.readout.frame_kernels import text_extent
from firstlight.detectors.etroc.readout.packets import (
    HIT_COLUMNS,
    PACKET_COLUMNS,
    SHOWN,
    content_of,
    counted,
    is_text,
)
from firstlight.detectors.etroc.tables import Decoded

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Columns = dict[str, NDArray[Any]]
    Whole = NDArray[np.int64]

__all__ = ["decode_emulator", "looks_like_emulator"]

_WORDS = (
    "header", "data", "trailer", "filler", "blank line", "not five hexadecimal bytes", "incomplete word", "data: no header",
    "trailer: no header", "data: wrong parity", "trailer: wrong parity", "unknown word",
)  # fmt: skip
_NO_TRAILER, _COUNT = 1, 2
_REASONS = _WORDS + tuple(
    f"{word}: {fate}" for fate in ("no trailer", "wrong hit count") for word in ("header", "data", "trailer")
)
_LAST_HARMLESS = kernels.BLANK_LINE
_DIGITS = b"0123456789abcdefABCDEF"


def decode_emulator(
    content: bytes | Path, *, binary: bool | None = None, keep_bad_crc: bool = False
) -> Decoded:
    """Read words of the early emulator.

    Parameters
    ----------
    content : bytes or Path
        The file.
    binary : bool, optional
        Whether words have 5 bytes each, most significant first, instead of lines; default: where there are bytes that no
        text has.
    keep_bad_crc : bool
        Use data words of wrong parity, and packets with a wrong hit count, too.

    Returns
    -------
    Decoded
        Every header has its row in ``packets``; ``crc_ok`` is whether all data words of the packet have the right parity; link,
        trigger counter, type, chip and status are 0. A data word of wrong parity is not a hit; it counts as found, and
        the other words of its packet are used. ``facts``: ``loose_hits`` (data words that were not used, columns as
        ``hits``), ``binary``.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    content = content_of(content)
    if binary is None:
        binary = not is_text(content)
    words, code = _binary_words(content) if binary else _text_words(content)
    header_at, trailer_at, found, hit_at, hit_packet = (
        np.empty(words.size, dtype=np.int64) for _ in range(5)
    )
    n_packets, n_hits = kernels.find_emulator_packets(
        words, code, header_at, trailer_at, found, hit_at, hit_packet
    )
    header_at, trailer_at, found = header_at[:n_packets], trailer_at[:n_packets], found[:n_packets]
    hit_at, hit_packet = hit_at[:n_hits], hit_packet[:n_hits]
    complete = trailer_at >= 0
    told = np.where(complete, (words[trailer_at] >> 1) & 511, 0)
    odd = code[hit_at] == kernels.DATA_PARITY
    bad = np.bincount(hit_packet[odd], minlength=n_packets) > 0
    fate = np.where(complete, np.where((told == found & 511) | keep_bad_crc, 0, _COUNT), _NO_TRAILER)
    if keep_bad_crc:
        code[hit_at[odd]] = kernels.DATA
        odd[:] = False
    used = (fate[hit_packet] == 0) & ~odd
    _mark(code, fate, header_at, trailer_at, hit_at[~odd], hit_packet[~odd])
    zeros = np.zeros(n_packets, dtype=np.int64)
    values: Columns = {
        "bcid": words[header_at] & 0xFFF, "hits_told": told, "hits_found": np.minimum(found, 65535), "crc_ok": complete & ~bad,
        "complete": complete,
    }  # fmt: skip
    packets: Columns = {name: values.get(name, zeros).astype(kind) for name, kind in PACKET_COLUMNS.items()}
    hits, loose = (_hits(words[hit_at[part]], hit_packet[part]) for part in (used, ~used))
    strange = np.flatnonzero(code > _LAST_HARMLESS)[:SHOWN]
    rejected = tuple((int(at) + 1, _REASONS[code[at]]) for at in strange)
    facts = {"loose_hits": loose, "binary": binary}
    return Decoded(words.size, counted(code, _REASONS), hits, packets, n_packets, rejected, facts)


def looks_like_emulator(content: bytes) -> bool:
    """Whether the first bytes of a file (64 kB are enough) are words of the early emulator, binary or as text.

    Nine in ten words must be of a known kind, and one a header.
    """
    if not is_text(content):
        words, code = _binary_words(content)
    else:
        # the last line may be cut
        end = content.rfind(b"\n") + 1
        words, code = _plain_words(content[:end] if end and end < len(content) else content)
    words = words[code == 0]
    headers = words >> 12 == 0x3555555
    known = headers | (words >> 38 == 1) | (words >> 12 == 0x9555555) | (words == 0xC00AAAAAAA)
    return bool(np.any(headers) and np.count_nonzero(known) >= 0.9 * code.size)


def _mark(
    code: NDArray[np.uint8],
    fate: Whole,
    header_at: Whole,
    trailer_at: Whole,
    hit_at: Whole,
    hit_packet: Whole,
) -> None:
    """Write into the code of the words of packets that are not used why they are not."""
    first = len(_WORDS) - 3
    bad = np.flatnonzero(fate)
    code[header_at[bad]] = first + 3 * fate[bad]
    ended = bad[trailer_at[bad] >= 0]
    code[trailer_at[ended]] = first + 3 * fate[ended] + 2
    of_hit = fate[hit_packet]
    code[hit_at[of_hit > 0]] = first + 3 * of_hit[of_hit > 0] + 1


def _hits(words: Whole, packet: Whole) -> Columns:
    values = {
        "record": packet,
        "row": (words >> 34) & 15,
        "col": (words >> 30) & 15,
        "toa": (words >> 20) & 1023,
        "tot": (words >> 11) & 511,
        "cal": (words >> 1) & 1023,
        "hit_flag": np.ones(words.size, dtype=np.bool_),
    }
    zeros = np.zeros(words.size, dtype=np.int64)
    return {name: values.get(name, zeros).astype(kind) for name, kind in HIT_COLUMNS.items()}


def _binary_words(content: bytes) -> tuple[Whole, NDArray[np.uint8]]:
    """Return the words; a rest of the file is one more, of value 0."""
    whole, rest = divmod(len(content), 5)
    each = np.frombuffer(content, dtype=np.uint8, count=5 * whole).reshape(-1, 5).astype(np.int64)
    words = np.zeros(whole + (rest > 0), dtype=np.int64)
    for byte in range(5):
        words[:whole] |= each[:, byte] << (32 - 8 * byte)
    code = np.zeros(words.size, dtype=np.uint8)
    code[whole:] = kernels.INCOMPLETE
    return words, code


def _text_words(content: bytes) -> tuple[Whole, NDArray[np.uint8]]:
    """Return the words of the lines, and codes of lines that hold none; blank lines at the end do not count."""
    text = np.frombuffer(content, dtype=np.uint8)
    end, n_lines = text_extent(text)
    words, code = np.zeros(n_lines, dtype=np.int64), np.zeros(n_lines, dtype=np.uint8)
    kernels.parse_hex(text[:end], words, code)
    return words, code


def _plain_words(content: bytes) -> tuple[Whole, NDArray[np.uint8]]:
    """Return what `_text_words` does, of a short text and without compiled code; blank lines do not count."""
    lines = [b"".join(line.split()) for line in content.splitlines() if line.strip()]
    good = [len(line) == 10 and not line.translate(None, _DIGITS) for line in lines]
    words = np.array(
        [int(line, 16) if fits else 0 for line, fits in zip(lines, good, strict=True)], dtype=np.int64
    )
    return words, np.where(good, 0, kernels.BAD_LINE).astype(np.uint8)
