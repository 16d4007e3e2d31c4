"""ETROC1 charge-injection text: ``board TOA TOT CAL hitflag``, padded, no header.

Only hits are written: an empty file says that a point of the scan has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.etroc.readout.beam import decoded_columns, hits_of, rows_fit
from firstlight.detectors.etroc.readout.lines import as_bytes, read_columns, white_lines

if TYPE_CHECKING:
    from pathlib import Path

    from firstlight.detectors.etroc.tables import Decoded

__all__ = ["decode_injection", "looks_like_injection"]

_NAMES = ("board", "TOA", "TOT", "CAL", "hit flag")
_LIMITS = (255, 1023, 511, 1023, 1)


def decode_injection(content: bytes | Path | str) -> Decoded:
    """Read a charge-injection file, one split of a run.

    Parameters
    ----------
    content : bytes or Path
        The file, or its bytes. No bytes are a valid file without hits.

    Returns
    -------
    Decoded
        Lines whose hit flag is 0 are hits with `hit_flag` false; ``facts`` has ``links`` (the boards) and ``hit_flag_0``.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    read = read_columns(as_bytes(content), _NAMES, _LIMITS)
    return decoded_columns(read, hits_of(*np.ascontiguousarray(read.values.T)))


def looks_like_injection(content: bytes, name: str = "") -> bool:
    """Whether the first bytes of a file are those of a charge-injection file.

    Parameters
    ----------
    content : bytes
        The first bytes.
    name : str
        Name of the file. A file without bytes is one only if its name says so.
    """
    if not content:
        # imported here: the templates are for names, which most files do not need
        from firstlight.detectors.etroc.readout.names import read_name

        return read_name(name).kind == "injection"
    return rows_fit(white_lines(content), _LIMITS)
