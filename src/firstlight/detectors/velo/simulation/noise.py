"""Noise scans as the read-out dumps them: a six-bit shift register for each pixel, four of them in three bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.detectors.velo.simulation.chip import N_TRIMS, SHAPE, stream
from firstlight.detectors.velo.simulation.record import write_truth
from firstlight.errors import ConfigError
from firstlight.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.velo.simulation.chip import Chip

__all__ = ["NoiseScan", "counter_states", "pack", "write_noise_scan"]

_CODES_WITHOUT_RESPONSE = {0: (1, 2), N_TRIMS - 1: (1, 3)}


def counter_states() -> NDArray[np.uint8]:
    """Return the state of the counter after 0 to 63 hits, of shape (64,).

    Six-bit linear-feedback shift register: 0 before any hit, 1 after the first one, then
    ``next = (s << 1 & 63) | (bit 5 of s xor bit 4 of s)``.
    """
    states = np.zeros(64, dtype=np.uint8)
    state = 1
    for hits in range(1, 64):
        states[hits] = state
        state = (state << 1 & 63) | ((state >> 5 ^ state >> 4) & 1)
    return states


def pack(counts: NDArray[np.uint8]) -> bytes:
    """Return the dump of some frames: column by column, rows 4j to 4j + 3 in three bytes, the first one on top.

    Parameters
    ----------
    counts : ndarray of uint8, shape (n_points, 256, 256)
        Hits of each threshold, row and column, 63 at most.
    """
    by_column = counter_states()[counts.transpose(0, 2, 1)].astype(np.uint32)
    first, second, third, fourth = np.moveaxis(by_column.reshape(*by_column.shape[:2], -1, 4), -1, 0)
    word = first << 18 | second << 12 | third << 6 | fourth
    three = np.stack([word >> 16, word >> 8 & 255, word & 255], axis=-1)
    return three.astype(np.uint8).tobytes()


class NoiseScan(NamedTuple):
    """How a noise scan is taken.

    Parameters
    ----------
    trim : int or None
        Trim of all pixels; None for the chosen trims, called ``Control``.
    first, step, n_points : int
        First threshold, distance downwards to the next one [DAC], number of them.
    masks : int
        In so many parts, each with some of the pixels; each part is a file.
    prefix : str
        Module and chip.
    """

    trim: int | None = 0
    first: int = 1360
    step: int = 2
    n_points: int = 55
    masks: int = 1
    prefix: str = "Module1_VP0-0"

    @property
    def name(self) -> str:
        """The common part of the file names."""
        trim = "Control" if self.trim is None else f"Trim{self.trim:X}"
        return f"{self.prefix}_ECS_Scan_{trim}_{self.first}_{self.step}_{self.n_points}"

    @property
    def thresholds(self) -> NDArray[np.int64]:
        """Thresholds in the order of the scan [DAC]."""
        return self.first - self.step * np.arange(self.n_points)

    def check(self) -> None:
        """Refuse a scan that cannot be.

        Raises
        ------
        ConfigError
            If the trim does not exist, or a number is impossible.
        """
        if self.trim is not None and not 0 <= self.trim < N_TRIMS:
            what = f"trims are 0 to {N_TRIMS - 1}, not {self.trim}"
            raise ConfigError(what, where="simulated noise scan", hint="None for the chosen trims")
        if self.step < 1 or self.n_points < 1 or self.masks < 1 or self.thresholds[-1] < 0:
            what = f"{self.n_points} thresholds from {self.first} DAC down by {self.step} in {self.masks} parts cannot be"
            raise ConfigError(what, where="simulated noise scan")


def write_noise_scan(folder: Path, scan: NoiseScan, chip: Chip) -> list[Path]:
    """Write a noise scan and its truth, ``<name>_truth.npz``; return the files of the scan.

    The rate is a Gaussian of the threshold around the noise mean at the trim; readings are Poisson, stopped at
    63. Pixels out of the window are cut off or not seen, as in a real scan.

    Parameters
    ----------
    folder : Path
        Where the files go.
    scan : NoiseScan
        What is taken.
    chip : Chip
        Its noise means, widths, amplitudes, and pixels without response.
    """
    from firstlight.detectors.velo.simulation.kernels import LARGEST, draw

    scan.check()
    center = chip.noise_mean(scan.trim)
    # masked ones are not even tried at the chosen trims
    dead = chip.mask > 0
    if scan.trim is not None:
        dead = np.isin(chip.mask, _CODES_WITHOUT_RESPONSE.get(scan.trim, (1, 2, 3)))
    amplitude = np.where(dead, 0.0, chip.noise_amplitude)
    counts = np.empty((scan.n_points, *SHAPE), dtype=np.uint8)
    trim = -1 if scan.trim is None else scan.trim
    for index, threshold in enumerate(scan.thresholds):
        mean = amplitude * np.exp(-0.5 * ((threshold - center) / chip.noise_width) ** 2)
        rng = stream(chip.seed, "noise scan", chip.label, trim + 1, int(threshold))
        flat = mean.ravel()
        draw(flat, np.exp(-flat), rng.random(flat.size), counts[index].reshape(-1))
    row, column = np.indices(SHAPE)
    part = (row + column) % scan.masks
    paths = []
    for number in range(scan.masks):
        path = folder / f"{scan.name}_{number + 1}of{scan.masks}.dat"
        with atomic(path) as temporary:
            temporary.write_bytes(pack(np.where(part == number, counts, 0).astype(np.uint8)))
        paths.append(path)
    truth = {
        "seed": np.asarray(chip.seed),
        "thresholds": scan.thresholds,
        "mean": center,
        "width": chip.noise_width,
        "amplitude": amplitude,
        "counts_sum": counts.sum(axis=0, dtype=np.int32),
        "n_saturated": (counts == LARGEST).sum(axis=0, dtype=np.int32),
    }
    write_truth(folder / f"{scan.name}_truth.npz", truth)
    return paths
