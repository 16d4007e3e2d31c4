"""ETROC1 beam text: ``board TOA TOT CAL hitflag date time``, with or without a log line before it.

The date and time are those of the raw file that the hit came from, in steps of a second, not the time of the hit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.etroc.readout.lines import CLOCK, DATE, WHOLE, as_bytes, read_columns, white_lines
from firstlight.detectors.etroc.tables import Decoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from firstlight.detectors.etroc.readout.lines import Columns

__all__ = ["HEADER", "decode_beam", "hits_of", "looks_like_beam", "rows_fit"]

HEADER = "min file index"
MOST = 0.9  # of the lines must be of a format, for a file to be taken for it
"""How the log line of the converter begins."""

_NAMES = ("board", "TOA", "TOT", "CAL", "hit flag", "date", "time")
_LIMITS = (255, 1023, 511, 1023, 1, 0, 0)
_CONTENTS = (WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, DATE, CLOCK)


def hits_of(
    link: NDArray[Any], toa: NDArray[Any], tot: NDArray[Any], cal: NDArray[Any], flag: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Return the hit columns of an ETROC1 file: no pixel, no error bits, one record a hit."""
    n = len(toa)
    return {
        "record": np.arange(n, dtype=np.uint32),
        "link": link.astype(np.uint8),
        "row": np.full(n, 255, dtype=np.uint8),
        "col": np.full(n, 255, dtype=np.uint8),
        "toa": toa.astype(np.uint16),
        "tot": tot.astype(np.uint16),
        "cal": cal.astype(np.uint16),
        "ea": np.zeros(n, dtype=np.uint8),
        "hit_flag": flag.astype(np.bool_),
    }


def decoded_columns(read: Columns, hits: dict[str, NDArray[Any]], **facts: object) -> Decoded:
    """Return what was read from a text file of columns in the common form."""
    flags = hits["hit_flag"]
    links = np.unique(hits["link"])
    return Decoded(
        n_words=read.n_lines,
        counters=read.counters,
        hits=hits,
        packets={},
        n_records=len(flags),
        rejected=read.rejected,
        facts={
            "links": links.tolist(),
            "hit_flag_0": int(np.count_nonzero(~flags)),
            **({"header": read.header} if read.header is not None else {}),
            **facts,
        },
    )


def decode_beam(content: bytes | Path | str) -> Decoded:
    """Read a beam text file.

    A log line (``min file index: 0, max file index: 99``) is recognised by what stands in it, wherever it stands; merged
    files have none, or many. Lines whose hit flag is 0 are hits with `hit_flag` false.

    Parameters
    ----------
    content : bytes or Path
        The file, or its bytes.

    Returns
    -------
    Decoded
        With ``time`` in Unix seconds, the date and time being taken as UTC; ``facts`` has ``header`` (the first log line,
        where there is one), ``links`` (the boards) and ``hit_flag_0`` (hits with flag 0).

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    read = read_columns(as_bytes(content), _NAMES, _LIMITS, _CONTENTS, header=HEADER)
    # columns of the rows as they are: a copy of all of them would be the largest thing in memory
    columns = read.values.T
    hits = hits_of(*columns[:5])
    hits["time"] = columns[5].astype(np.int64) * 86400 + columns[6]
    return decoded_columns(read, hits)


def rows_fit(lines: Sequence[Sequence[bytes]], limits: Sequence[int]) -> bool:
    """Whether nine in ten lines are rows of decimal numbers within limits, and there is one: a file may have bad lines."""
    good = sum(_row_fits(fields, limits) for fields in lines)
    return bool(good) and good >= MOST * len(lines)


def _row_fits(fields: Sequence[bytes], limits: Sequence[int]) -> bool:
    return len(fields) == len(limits) and all(
        field.isdigit() and len(field) <= 20 and int(field) <= limit
        for field, limit in zip(fields, limits, strict=True)
    )


def looks_like_beam(content: bytes, name: str = "") -> bool:  # noqa: ARG001  (one signature for all formats)
    """Whether the first bytes of a file are those of a beam text file.

    Parameters
    ----------
    content : bytes
        The first bytes.
    name : str
        Name of the file; not looked at, the content is clear.
    """
    lines = white_lines(content)
    rows = [fields for fields in lines if not _is_log_line(fields)]
    if not rows:
        return bool(lines)
    dated = [fields[:5] if len(fields) == 7 and _is_stamp(fields[5] + fields[6]) else () for fields in rows]
    return rows_fit(dated, _LIMITS[:5])


def _is_log_line(fields: Sequence[bytes]) -> bool:
    return b" ".join(fields).lower().startswith(HEADER.encode())


def _is_stamp(stamp: bytes) -> bool:
    digits = stamp[:18].translate(None, b"-:")
    return stamp[4:5] == b"-" and stamp[7:8] == b"-" and stamp[12:13] == b":" and digits.isdigit()
