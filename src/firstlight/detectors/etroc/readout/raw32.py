"""ETROC1 raw words of the KC705 read-out, and the text of single boards.

A line is one 32-bit word, decimal or as 32 characters 0 and 1: board 31:30, TOT 29:21, TOA 20:11, CAL 10:1, hit flag 0
(``automation/Data_Analyze1.1.flex.timestemp.py`` of pjgwak/etroc1_analysis_framework, ``ETROC1_Test`` of weizhangccnu).
Lines ``0`` fill gaps, and board 2 does not exist. A single board writes ``TOA TOT CAL hitflag`` (debug format).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.etroc.readout.beam import MOST, decoded_columns, hits_of, rows_fit
from firstlight.detectors.etroc.readout.lines import WORD, as_bytes, read_columns, white_lines
from firstlight.detectors.etroc.readout.names import read_name
from firstlight.detectors.etroc.tables import Decoded

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["decode_debug", "decode_raw32", "looks_like_debug", "looks_like_raw32"]

_LARGEST = 2**32 - 1
_FRAME = 0xC3A3C3A  # upper 28 bits of the event header of KC705 event frames
_DEBUG_LIMITS = (1023, 511, 1023, 1)
_NO_BOARD = 2


def decode_raw32(content: bytes | Path | str) -> Decoded:
    """Read a file of raw ETROC1 words.

    Parameters
    ----------
    content : bytes or Path
        The file, or its bytes.

    Returns
    -------
    Decoded
        Counters ``hit``, ``filler`` (words 0), ``board 2``, ``hit flag 0`` and lines that are no word. Words with hit flag
        0 are no hits; ``facts["hit_flag_0"]`` counts them.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    read = read_columns(as_bytes(content), ("word",), (_LARGEST,), (WORD,))
    words = read.values[:, 0]
    board = words >> np.uint32(30)
    filler = words == 0
    absent = (board == _NO_BOARD) & ~filler
    silent = ((words & np.uint32(1)) == 0) & ~filler & ~absent
    kept = words[~(filler | absent | silent)]
    hits = hits_of(
        kept >> np.uint32(30),
        (kept >> np.uint32(11)) & np.uint32(1023),
        (kept >> np.uint32(21)) & np.uint32(511),
        (kept >> np.uint32(1)) & np.uint32(1023),
        np.ones(len(kept)),
    )
    dropped = {"filler": filler, "board 2": absent, "hit flag 0": silent}
    counts = {"hit": len(kept), **{reason: int(np.count_nonzero(which)) for reason, which in dropped.items()}}
    others = {reason: count for reason, count in read.counters.items() if reason != "hit"}
    decoded = decoded_columns(read, hits, hit_flag_0=counts["hit flag 0"])
    counters = {**{reason: count for reason, count in counts.items() if count}, **others}
    return Decoded(**{**vars(decoded), "counters": counters})


def decode_debug(content: bytes | Path | str, board: int | None = None) -> Decoded:
    """Read the text of a single board, ``TOA TOT CAL hitflag``.

    Parameters
    ----------
    content : bytes or Path
        The file, or its bytes.
    board : int, optional
        Its board; default: what the file name says (``_B3_``), else 0.

    Returns
    -------
    Decoded
        Lines whose hit flag is 0 are hits with `hit_flag` false. ``facts["board_known"]``: whether the board was given or
        named.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if board is None and not isinstance(content, bytes):
        named = read_name(Path(content).name)
        board = named.boards[0].board if named.kind == "debug" else None
    read = read_columns(as_bytes(content), ("TOA", "TOT", "CAL", "hit flag"), _DEBUG_LIMITS)
    toa, tot, cal, flag = np.ascontiguousarray(read.values.T)
    link = np.full(len(toa), board or 0)
    return decoded_columns(read, hits_of(link, toa, tot, cal, flag), board_known=board is not None)


def looks_like_raw32(content: bytes, name: str = "") -> bool:
    """Whether the first bytes of a file are those of raw ETROC1 words.

    Parameters
    ----------
    content : bytes
        The first bytes. The later read-out, whose event frames are written as 32 characters too, is told apart by its
        event headers, and by what the fields of hits would be.
    name : str
        Name of the file; decides where lines are decimal and nothing but fillers.
    """
    lines = white_lines(content)
    words = [_word(fields[0]) if len(fields) == 1 else None for fields in lines]
    known = [word for word in words if word is not None]
    if not known or len(known) < MOST * len(lines):
        return False
    filled = [word for word in known if word]
    if not filled:
        return name.startswith("TDC_Data")
    return _like_hits(filled)


def _like_hits(words: Sequence[int]) -> bool:
    if any(word >> 4 == _FRAME for word in words):
        return False
    hits = [word for word in words if word & 1 and word >> 30 != _NO_BOARD]
    # codes 0 and full scale are rare in hits; in other words they are not
    good = [word for word in hits if 0 < (word >> 1 & 1023) < 1023 and 0 < (word >> 11 & 1023) < 1023]
    return 2 * len(good) > len(words)


def _word(field: bytes) -> int | None:
    if len(field) == 32 and not field.strip(b"01"):
        return int(field, 2)
    return int(field) if field.isdigit() and len(field) <= 10 and int(field) <= _LARGEST else None


def looks_like_debug(content: bytes, name: str = "") -> bool:  # noqa: ARG001  (one signature for all formats)
    """Whether the first bytes of a file are those of the text of a single board.

    Parameters
    ----------
    content : bytes
        The first bytes.
    name : str
        Name of the file; not looked at.
    """
    return rows_fit(white_lines(content), _DEBUG_LIMITS)
