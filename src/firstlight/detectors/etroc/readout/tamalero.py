"""TAMALERO (KCU105) files: records of 8 bytes, each a 40-bit word with its e-link and flags.

=======  =================================
bits     field
=======  =================================
39:0     word of the chip
47:40    e-link
48, 49   start and end of a packet
50, 51   buffer full, any buffer full
55:52    full flags of the groups
63:56    0
=======  =================================

A record without flags whose low 32 bits are 256 or less was read from an empty buffer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.etroc.readout.packets import SHOWN, chips_by_link, content_of, decode_words
from firstlight.detectors.etroc.readout.words import is_header
from firstlight.detectors.etroc.tables import Decoded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["decode_tamalero", "looks_like_tamalero"]

_RECORD = 8
_INCOMPLETE = "incomplete record"


def decode_tamalero(
    content: bytes | Path, *, chip_ids: Mapping[int, int] | None = None, keep_bad_crc: bool = False
) -> Decoded:
    """Read a TAMALERO file.

    Parameters
    ----------
    content : bytes or Path
        The file. A file of 0 bytes is an empty run.
    chip_ids : mapping of int to int, optional
        Chip number of each e-link; default: that of most packets of the e-link with a good checksum.
    keep_bad_crc : bool
        Use hits of packets with a wrong checksum or hit count too.

    Returns
    -------
    Decoded
        Words are records; bytes after the last whole record are one more. Every header has its row in ``packets``, also
        those without trailer (``complete`` is false). ``facts``: ``chip_ids``, ``links``, ``status``, ``test_patterns`` as in
        `packets.Stream`; ``loose_hits``: data words of packets that were not used, columns as ``hits``; ``flags``: records
        with each flag that should not be set (``full``, ``any full``, ``global full``, ``reserved``), and packets whose
        header or trailer lacks its mark.

    Raises
    ------
    InputError
        If the file cannot be read.
    UsageError
        If a chip number cannot be.
    """
    content = content_of(content)
    whole, rest = divmod(len(content), _RECORD)
    words = np.frombuffer(content, dtype="<i8", count=whole).astype(np.int64, copy=False)
    stream = decode_words(words, chips=chips_by_link(chip_ids), keep_bad_crc=keep_bad_crc)
    counters, rejected = stream.counters, tuple((at + 1, reason) for at, reason in stream.rejected)
    if rest:
        counters = {**counters, _INCOMPLETE: 1}
        rejected = (*rejected, (whole + 1, _INCOMPLETE))[:SHOWN]
    facts = {**stream.facts, "loose_hits": stream.loose_hits, "flags": _flags(words, stream.header_at)}
    n_words = whole + (rest > 0)
    return Decoded(n_words, counters, stream.hits, stream.packets, stream.header_at.size, rejected, facts)


def looks_like_tamalero(content: bytes) -> bool:
    """Whether the first bytes of a file (64 kB are enough) are TAMALERO records.

    All but a few records must have zeros in their upper byte, at least one must be a header, and there must be one header
    in 300 records: a packet has 256 hits at most.
    """
    whole = len(content) // _RECORD
    if not whole:
        return False
    words = np.frombuffer(content, dtype="<u8", count=whole)
    clean = np.count_nonzero(words >> np.uint64(56) == 0)
    headers = np.count_nonzero(is_header(words & np.uint64((1 << 40) - 1)) & (words >> np.uint64(56) == 0))
    return bool(clean >= 0.95 * whole and headers * 300 >= whole)


def _flags(words: NDArray[np.int64], header_at: NDArray[np.int64]) -> dict[str, Any]:
    """Return how many records have flags that should not be set, and how many headers lack their mark."""
    upper = int(np.bitwise_or.reduce(words)) >> 50 if words.size else 0
    names = {"full": (50, 1), "any full": (51, 1), "global full": (52, 15), "reserved": (56, 255)}
    flags = {
        name: int(np.count_nonzero((words >> lowest) & mask)) if (upper << 50 >> lowest) & mask else 0
        for name, (lowest, mask) in names.items()
    }
    flags["headers without start flag"] = int(np.count_nonzero((words[header_at] >> 48) & 1 == 0))
    return flags
