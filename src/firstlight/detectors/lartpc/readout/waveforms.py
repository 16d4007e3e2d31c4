"""Read-out in time: tiles that trigger themselves, and waveforms of the pixels under them.

Time is cut by a clock. A tile triggers in the first tick whose charge is above threshold while the charge of the window that begins
there is too. Its waveform has a fixed number of ticks and begins some before the trigger; during it, and a dead time after it, the
tile cannot trigger again. The pixels under the tile are read over the same ticks, and kept if their sum is above threshold. The
scheme is that of GAMPixPy's model of GAMPix, with noise from the start of a waveform to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.readout.designs import CoarseTiles, CoarseWires, Pixels
from firstlight.detectors.lartpc.readout.designs import design as named
from firstlight.detectors.lartpc.readout.pixels import cells_of, coarse_grid
from firstlight.detectors.lartpc.readout.voxels import Grid, pack
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.lartpc.drift import Drifted
    from firstlight.detectors.lartpc.readout.designs import Design

__all__ = ["OTHERS", "Clock", "WaveformReadout", "Waveforms", "read_waveforms"]

OTHERS = np.iinfo(np.int64).min
"""Label of the last column of truth fractions, where there are more labels than columns."""


@dataclass(frozen=True)
class Clock:
    """Time of the read-out.

    Parameters
    ----------
    interval : float
        Length of a tick [us].
    samples : int
        Ticks of a waveform.
    before : int
        Ticks of a waveform before its trigger.
    dead_time : float
        Time after a waveform in which the tile does not see charge [us].
    """

    interval: float = 0.5
    samples: int = 20
    before: int = 3
    dead_time: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.interval) and self.interval > 0):
            what = f"a clock of {self.interval} us"
            raise UsageError(what, hint="ticks are 0.5 to 1 us long")
        if not self.samples >= 1 or not 0 <= self.before < self.samples:
            what = f"{self.before} of {self.samples} samples before the trigger"
            raise UsageError(what, hint="20 samples, 3 of them before the trigger")
        if not (np.isfinite(self.dead_time) and self.dead_time >= 0):
            what = f"a dead time of {self.dead_time} us"
            raise UsageError(what, hint="0 or more")

    @property
    def dead_ticks(self) -> int:
        """Whole ticks of dead time."""
        return int(np.ceil(self.dead_time / self.interval - 1e-9))


@dataclass(frozen=True)
class Waveforms:
    """Waveforms of tiles or of pixels.

    Parameters
    ----------
    positions : ndarray of float64, shape (2, n)
        Centres in x and y [m].
    index : ndarray of int64, shape (2, n)
        Tile or pixel.
    time : ndarray of float64, shape (n,)
        Start of the first sample [us].
    charge : ndarray of float64, shape (n, n_samples)
        Measured charge, noise included [electrons].
    charge_true : ndarray of int64, shape (n, n_samples)
        Charge before noise [electrons].
    fraction : ndarray of float32, shape (n, n_samples, n_labels)
        Share of each label in the true charge; all 0 where there is none.
    tile : ndarray of int64, shape (n,)
        Waveform of the tile under which a pixel was read; for tiles their own number.
    """

    positions: NDArray[np.float64]
    index: NDArray[np.int64]
    time: NDArray[np.float64]
    charge: NDArray[np.float64]
    charge_true: NDArray[np.int64]
    fraction: NDArray[np.float32]
    tile: NDArray[np.int64]

    def __len__(self) -> int:
        return self.time.size


@dataclass(frozen=True)
class WaveformReadout:
    """Waveforms of an event.

    Parameters
    ----------
    design : Design
        The read-out.
    clock : Clock
        Its time.
    tiles, pixels : Waveforms
        Tiles that triggered, and pixels that were kept.
    labels : ndarray of int64, shape (n_labels,)
        Labels of the columns of the truth fractions, the largest charge first; the last may be `OTHERS`.
    drifted : int
        Electrons that arrived.
    unread : int
        Electrons that arrived in no waveform of a tile.
    below : int
        Electrons in waveforms of tiles whose pixels were not kept. ``drifted = unread + below + sum of pixels``.
    """

    design: Design
    clock: Clock
    tiles: Waveforms
    pixels: Waveforms
    labels: NDArray[np.int64]
    drifted: int
    unread: int
    below: int


def _triggers(series: NDArray[np.float64], threshold: float, clock: Clock) -> list[int]:
    """Return the first ticks, counted from that of the series, of the waveforms of one tile."""
    total = np.concatenate([[0.0], np.cumsum(series)])
    ends = np.minimum(np.arange(series.size) + clock.samples, series.size)
    window = total[ends] - total[:-1]
    over = np.flatnonzero((series > threshold) & (window > threshold))
    begins, free = [], -clock.before
    place = 0
    while place < over.size:
        begin = max(int(over[place]) - clock.before, free)
        begins.append(begin)
        free = begin + clock.samples + clock.dead_ticks
        place = int(np.searchsorted(over, free))
    return begins


def _columns(labels: NDArray[np.int64], num_e: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], ...]:
    """Return the labels of columns, and the column of each bunch."""
    known, place = np.unique(labels, return_inverse=True)
    charge = np.bincount(place, weights=num_e, minlength=known.size)
    order = np.argsort(-charge, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    names = known[order]
    if names.size > most:
        names = np.append(names[: most - 1], OTHERS)
    return names, np.minimum(rank, most - 1)[place]


def _series(
    row: NDArray[np.int64],
    sample: NDArray[np.int64],
    column: NDArray[np.int64],
    num_e: NDArray[np.int64],
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return true charge, shape (n, n_samples), and shares of labels."""
    n_rows, n_samples, n_labels = shape
    place = (row * n_samples + sample) * n_labels + column
    by_label = np.bincount(place, weights=num_e, minlength=n_rows * n_samples * n_labels).reshape(shape)
    true = by_label.sum(axis=2)
    fraction = by_label / np.maximum(true, 1.0)[:, :, None]
    return np.rint(true).astype(np.int64), fraction.astype(np.float32)


def read_waveforms(
    drifted: Drifted,
    design: str | Design,
    rng: np.random.Generator | int,
    *,
    clock: Clock | None = None,
    labels: ArrayLike | None = None,
    n_labels: int = 8,
    start: ArrayLike | float = 0.0,
    discriminator_noise: bool = False,
) -> WaveformReadout:
    """Read out drifted charge in time.

    Parameters
    ----------
    drifted : Drifted
        What arrived, and when.
    design : str or Design
        Read-out with a coarse stage. Of coarse wires each cell between four of them stands for a tile.
    rng : numpy.random.Generator or int
        Random numbers, or a seed.
    clock : Clock, optional
        Ticks of 0.5 us, waveforms of 20 samples that begin 3 before their trigger, no dead time.
    labels : array_like of int, shape (n_points,), optional
        Label of each point of the track: its particle, or kind. Truth fractions are kept for them.
    n_labels : int
        Columns for labels; of more, those with the smallest charge stand together in the last, `OTHERS`.
    start : array_like or float
        Time at which each point was made [us], added to the drift time.
    discriminator_noise : bool
        Whether noise is there when triggers are decided. In GAMPixPy it is not.

    Returns
    -------
    WaveformReadout
        Waveforms of tiles in the order of place, then time; pixels in the order of tiles.

    Raises
    ------
    UsageError
        If the design has no coarse stage.
    InputError
        If there are not as many labels or times as the track has points.
    """
    chosen, times, generator = named(design), clock or Clock(), np.random.default_rng(rng)
    if chosen.coarse is None or chosen.pixels is None:
        raise UsageError("no tiles that could trigger", where=chosen.name, known=["GAMPixG", "GAMPixD"])
    if n_labels < 1:
        what = f"{n_labels} columns for labels"
        raise UsageError(what, hint="1 or more")
    names, column = _labels(drifted, labels, n_labels)
    per_cell = (*chosen.pixels_per_cell[:2], 1)
    grid = Grid((chosen.pixels.pitch,) * 3, chosen.offset)
    pixel = grid.index(drifted.positions)
    pixel[2] = 0
    arrival = drifted.time + _starts(drifted, start)
    tick = np.floor(arrival / times.interval).astype(np.int64)
    owner = pack(cells_of(pixel, per_cell))
    order = np.lexsort((tick, owner))
    owner, tick = owner[order], tick[order]
    edges = (
        np.flatnonzero(np.diff(owner, prepend=-1, append=-1)) if owner.size else np.zeros(1, dtype=np.int64)
    )
    waveform = np.full(owner.size, -1, dtype=np.int64)
    sorted_e = drifted.num_e[order]
    firsts: list[int] = []
    members: list[int] = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        base = int(tick[low])
        series = np.asarray(np.bincount(tick[low:high] - base, weights=sorted_e[low:high]), dtype=np.float64)
        if discriminator_noise:
            series = series + _noise(chosen.coarse) * generator.standard_normal(series.size)
        for first in _triggers(series, _noise(chosen.coarse) * chosen.coarse.threshold_sigma, times):
            left, right = np.searchsorted(tick[low:high], (base + first, base + first + times.samples)) + low
            waveform[left:right] = len(firsts)
            firsts.append(base + first)
            members.append(low)
    read = waveform >= 0
    first_tick = np.array(firsts, dtype=np.int64)
    kept, row = order[read], waveform[read]
    sample = tick[read] - first_tick[row]
    coarse = coarse_grid(chosen.pixels.pitch, per_cell, chosen.offset)
    cell = cells_of(pixel[:, order[members]], per_cell) if members else np.zeros((3, 0), dtype=np.int64)
    shape = (first_tick.size, times.samples, names.size)
    true, fraction = _series(row, sample, column[kept], drifted.num_e[kept], shape)
    noise = _noise(chosen.coarse) * generator.standard_normal(true.shape)
    tiles = Waveforms(
        coarse.centres(cell)[:2],
        cell[:2],
        np.asarray(first_tick * times.interval, dtype=np.float64),
        true + noise,
        true,
        fraction,
        np.arange(first_tick.size),
    )
    pixels, lost = _pixels(
        pixel[:, kept],
        row,
        sample,
        column[kept],
        drifted.num_e[kept],
        grid,
        tiles,
        chosen.pixels,
        generator,
        discriminator_noise=discriminator_noise,
    )
    unread = int(sorted_e[~read].sum())
    return WaveformReadout(chosen, times, tiles, pixels, names, drifted.charge, unread, lost)


def _noise(coarse: CoarseWires | CoarseTiles) -> float:
    """Return the noise of a tile in electrons of charge; a cell of wires has half the signal in each plane."""
    return coarse.noise / coarse.signal_fraction


def _starts(drifted: Drifted, start: ArrayLike | float) -> Any:
    """Return the time at which each bunch was made [us]."""
    given = np.asarray(start, dtype=np.float64)
    if given.ndim == 0:
        return given
    if given.ndim != 1 or (drifted.source.size and given.size <= drifted.source.max()):
        what = f"{given.size} times, but charge of point {drifted.source.max(initial=0)}"
        raise InputError(what, hint="a time for each point of the track, or one for all")
    return given[drifted.source]


def _labels(
    drifted: Drifted, labels: ArrayLike | None, n_labels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if labels is None:
        return np.zeros(1, dtype=np.int64), np.zeros(len(drifted), dtype=np.int64)
    given = np.asarray(labels)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        what = f"labels of shape {given.shape} and type {given.dtype}"
        raise InputError(what, hint="a whole number for each point of the track")
    if drifted.source.size and given.size <= drifted.source.max():
        what = f"{given.size} labels, but charge of point {drifted.source.max()}"
        raise InputError(what, hint="a label for each point of the track, as it was before drift")
    names, column = _columns(given.astype(np.int64)[drifted.source], drifted.num_e, n_labels)
    if names.size == 0:
        return np.zeros(1, dtype=np.int64), column
    return names, column


def _pixels(
    pixel: NDArray[np.int64],
    row: NDArray[np.int64],
    sample: NDArray[np.int64],
    column: NDArray[np.int64],
    num_e: NDArray[np.int64],
    grid: Grid,
    tiles: Waveforms,
    design: Pixels,
    rng: np.random.Generator,
    *,
    discriminator_noise: bool,
) -> tuple[Waveforms, int]:
    """Return the pixels that are kept, and the charge of the others."""
    place = pixel.copy()
    place[2] = row
    known, own = np.unique(pack(place), return_inverse=True)
    example = np.zeros(known.size, dtype=np.int64)
    example[own] = np.arange(own.size)
    decided = np.asarray(np.bincount(own, weights=num_e, minlength=known.size), dtype=np.float64)
    if discriminator_noise:
        decided = decided + design.noise * rng.standard_normal(decided.size)
    keep = decided > design.threshold
    number = np.cumsum(keep) - 1
    inside = keep[own]
    shape = (int(keep.sum()), tiles.charge.shape[1], tiles.fraction.shape[2])
    true, fraction = _series(number[own[inside]], sample[inside], column[inside], num_e[inside], shape)
    charge = true + design.noise * rng.standard_normal(true.shape)
    chosen = example[keep]
    index, tile = pixel[:, chosen], row[chosen]
    # in the order of tiles, then of place
    order = np.argsort(tile, kind="stable")
    pixels = Waveforms(
        grid.centres(index)[:2, order],
        index[:2, order],
        tiles.time[tile[order]],
        charge[order],
        true[order],
        fraction[order],
        tile[order],
    )
    return pixels, int(num_e[~inside].sum())
