"""Equalisation and S-curves of Timepix chips: the same matrix and the same kind of trim as a VeloPix.

Real tables of such chips are public; they say how well a rule for trims holds.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.velo.channels import N_PIXELS
from firstlight.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["TimepixMeans", "falling_edge", "read_s_curve", "read_timepix_means"]


@dataclass(frozen=True)
class TimepixMeans:
    """Noise means of a Timepix equalisation.

    Parameters
    ----------
    trim0, trimF, chosen : ndarray of float64, shape (65536,)
        Noise means at trim 0, trim 15 and the chosen trim [THL]; NaN without response.
    trim : ndarray of int8, shape (65536,)
        Chosen trims.
    """

    trim0: Floats
    trimF: Floats
    chosen: Floats
    trim: NDArray[np.int8]


def read_timepix_means(path: Path | str) -> TimepixMeans:
    """Read a table ``thresholdMeans``: x, y, mean at trim 0, at trim 15, chosen trim, mean at the chosen trim.

    Parameters
    ----------
    path : Path or str
        Text of 65,536 rows of six whole numbers, plain or ``.gz``.

    Raises
    ------
    InputError
        If it is not such a table.
    """
    rows = _numbers(Path(path), columns=6)
    if rows.shape[0] != N_PIXELS:
        what = f"has {rows.shape[0]} rows, must have {N_PIXELS}, one for each pixel"
        raise InputError(what, where=path)
    means = [np.where(rows[:, column] > 0, rows[:, column], np.nan) for column in (2, 3, 5)]
    return TimepixMeans(means[0], means[1], means[2], rows[:, 4].astype(np.int8))


def read_s_curve(path: Path | str) -> tuple[Floats, Floats]:
    """Read an S-curve: thresholds [THL] and mean hits, each of shape (n,), in the order of the file.

    Raises
    ------
    InputError
        If it is not a table of two columns.
    """
    rows = _numbers(Path(path), columns=2)
    return rows[:, 0], rows[:, 1]


def falling_edge(threshold: Floats, hits: Floats, level: float = 500.0) -> float:
    """Return the threshold at which the hits fall through a level for the last time, linear between points.

    A scan goes from the noise to the test pulses, and ends where nothing is seen: whatever noise does before, the
    last time is the edge of the pulses.

    Parameters
    ----------
    threshold, hits : ndarray, shape (n,)
        In the order of the scan.
    level : float
        Half of the injected pulses.

    Returns
    -------
    float
        NaN where the hits do not fall through the level.
    """
    falls = np.flatnonzero((hits[:-1] >= level) & (hits[1:] < level))
    if not falls.size:
        return float("nan")
    at = int(falls[-1])
    share = (level - hits[at]) / (hits[at + 1] - hits[at])
    return float(threshold[at] + share * (threshold[at + 1] - threshold[at]))


def _numbers(path: Path, columns: int) -> Floats:
    """Return a table of numbers of shape (n, columns); lines that begin with ``#`` are passed over."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as stream
        ):
            lines = [line.split() for line in stream if line.strip() and not line.startswith("#")]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError(what, where=path) from error
    for number, line in enumerate(lines, 1):
        if len(line) != columns:
            what = f"row {number} has {len(line)} columns, must have {columns}"
            raise InputError(what, where=path)
    try:
        return np.array(lines, dtype=np.float64).reshape(-1, columns)
    except ValueError as error:
        what = f"holds something that is not a number: {error}"
        raise InputError(what, where=path) from error
