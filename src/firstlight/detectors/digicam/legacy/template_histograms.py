"""Pulses of many flashes as histograms of time and height for each pixel: the FITS files of digicampipe.

The main image is counts[pixel, time, amplitude]; three further ones are the range of both axes, the edges in time [ns] and
the edges in amplitude, which is a pulse divided by its charge.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.schema import Table
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.timing import SHAPE
from firstlight.errors import InputError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["TemplateHistograms"]


@dataclass(frozen=True)
class TemplateHistograms:
    """Histograms of time and amplitude of all pixels.

    Parameters
    ----------
    counts : ndarray of uint16, shape (1296, n_times, n_amplitudes)
        How often a sample at a time had an amplitude.
    time_edges : ndarray, shape (n_times + 1,)
        After the light [ns].
    amplitude_edges : ndarray, shape (n_amplitudes + 1,)
        Height of a sample divided by the charge of its pulse.
    """

    counts: NDArray[np.uint16]
    time_edges: FloatArray
    amplitude_edges: FloatArray

    @classmethod
    def read(cls, path: Path) -> TemplateHistograms:
        """Read a FITS file, compressed by gzip or not.

        Raises
        ------
        InputError
            If it cannot be read, or its images are not those of such a file or of this camera.
        MissingExtraError
            If astropy is not installed.
        """
        if not path.is_file():
            what = "the file of histograms does not exist"
            raise InputError(what, where=path)
        images = _images(path)
        if len(images) != 4 or [image.ndim for image in images] != [3, 2, 1, 1]:
            shapes = ", ".join(str(image.shape) for image in images) or "none"
            what = f"images {shapes} are not counts[pixel, time, amplitude], a range and two lists of edges"
            raise InputError(what, where=path)
        counts, _, time, amplitude = images
        if counts.shape[0] != N_PIXELS:
            what = f"histograms of {counts.shape[0]} pixels, the camera has {N_PIXELS}"
            raise InputError(what, where=path)
        if counts.shape[1:] != (time.size - 1, amplitude.size - 1):
            what = f"histograms of {counts.shape[1:]} bins with {time.size} and {amplitude.size} edges"
            raise InputError(what, where=path)
        edges = [np.asarray(values, dtype=np.float64) for values in (time, amplitude)]
        if not all((np.diff(values) > 0).all() for values in edges):
            what = "edges do not rise"
            raise InputError(what, where=path)
        return cls(counts, *edges)

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return int(self.counts.sum(dtype=np.int64))

    @property
    def lit(self) -> NDArray[np.bool_]:
        """Which pixels have counts, shape (1296,)."""
        return np.asarray(self.counts.any(axis=(1, 2)))

    def profile(self, pixels: Sequence[int] | NDArray[np.int64] | None = None) -> Table:
        """Return the mean pulse of some pixels together, as it is: not divided by its maximum.

        Parameters
        ----------
        pixels : sequence of int, optional
            All by default.

        Returns
        -------
        Table
            `SHAPE`: a row for each bin in time that has counts; `amplitude` is that of the file.

        Raises
        ------
        UsageError
            If there is no such pixel, or none of them has counts.
        """
        chosen = np.flatnonzero(self.lit) if pixels is None else np.unique(np.asarray(pixels, dtype=np.int64))
        if chosen.size and not 0 <= chosen[0] <= chosen[-1] < N_PIXELS:
            what = f"there is no pixel {chosen[0] if chosen[0] < 0 else chosen[-1]}"
            raise UsageError(what, hint=f"0 to {N_PIXELS - 1}")
        counts = self.counts[chosen].sum(axis=0, dtype=np.int64)
        entries = counts.sum(axis=1)
        if not entries.any():
            what = "no pulse was counted in these pixels"
            raise UsageError(what, hint=f"one of the {int(self.lit.sum())} pixels with light")
        centre = 0.5 * (self.amplitude_edges[1:] + self.amplitude_edges[:-1])
        kept = entries > 0
        mean = counts[kept] @ centre / entries[kept]
        square = counts[kept] @ centre**2 / entries[kept]
        columns = {
            "time": 0.5 * (self.time_edges[1:] + self.time_edges[:-1])[kept], "amplitude": mean,
            "spread": np.sqrt(np.maximum(square - mean**2, 0.0)), "entries": entries[kept],
        }  # fmt: skip
        return Table.from_arrays(SHAPE, columns)

    def shape(self, pixels: Sequence[int] | NDArray[np.int64] | None = None) -> Table:
        """Return the mean pulse of some pixels with its maximum at 1 and at time 0; see `profile`."""
        import polars as pl

        found = self.profile(pixels)
        frame = found.frame
        top = frame.row(int(frame["amplitude"].arg_max() or 0), named=True)
        scaled = frame.with_columns(
            pl.col("amplitude", "spread") / top["amplitude"], pl.col("time") - top["time"]
        )
        return Table(scaled, found.schema)


def _images(path: Path) -> list[NDArray[Any]]:
    try:
        fits: Any = importlib.import_module("astropy.io.fits")
    except ImportError as error:
        package, extra = "astropy", "digicam"
        raise MissingExtraError(package, extra) from error
    try:
        with fits.open(path, memmap=False) as content:
            return [np.asarray(unit.data) for unit in content if unit.data is not None and unit.is_image]
    except Exception as error:
        # damaged content makes the library raise anything
        what = f"this is no FITS file, or it is damaged: {str(error)[:200]}"
        raise InputError(what, where=path) from error
