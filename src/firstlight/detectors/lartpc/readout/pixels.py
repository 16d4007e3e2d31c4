"""Pixels: charge of every pixel in every slice of z, with noise and threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.readout.hits import Hits
from firstlight.detectors.lartpc.readout.noise import NoiseHits, Region, empty_hits
from firstlight.detectors.lartpc.readout.voxels import Grid, count, pack, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.readout.designs import Pixels

__all__ = ["cells_of", "coarse_grid", "read_pixels"]


def coarse_grid(pitch: float, per_cell: tuple[int, int, int], offset: tuple[float, float, float]) -> Grid:
    """Return the grid of coarse cells over a grid of pixels whose edges coincide with theirs.

    Parameters
    ----------
    pitch : float
        Of pixels, and of slices in z [m].
    per_cell : tuple of int
        Pixels of a cell along x, y and z.
    offset : tuple of float
        Centre of the pixel (0, 0, 0) [m], which is in the cell (0, 0, 0).
    """
    # cell 0 begins per_cell // 2 pixels below pixel 0: its middle is half a pixel away if their number is even
    middle = [place - (0.0 if n % 2 else 0.5 * pitch) for place, n in zip(offset, per_cell, strict=True)]
    lengths = [n * pitch for n in per_cell]
    return Grid((lengths[0], lengths[1], lengths[2]), (middle[0], middle[1], middle[2]))


def cells_of(index: NDArray[np.int64], per_cell: tuple[int, int, int]) -> NDArray[np.int64]:
    """Return the coarse cells, shape (3, n), in which pixels lie."""
    n = np.array(per_cell)[:, None]
    return np.asarray((index + n // 2) // n)


def read_pixels(
    positions: NDArray[np.float64],
    num_e: NDArray[np.int64],
    pixels: Pixels,
    offset: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    per_cell: tuple[int, int, int] | None = None,
    awake: NDArray[np.int64] | None = None,
    empty: bool = True,
    region: Region | None = None,
) -> tuple[Hits, NDArray[np.int64], int]:
    """Return the samples of pixels.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Electrons [m].
    num_e : ndarray of int64, shape (n,)
        Charges.
    pixels : Pixels
        The design.
    offset : tuple of float
        Centre of a pixel and of a slice [m].
    rng : numpy.random.Generator
        Random numbers.
    per_cell : tuple of int, optional
        Pixels of a coarse cell along x, y and z; without it there is no coarse stage.
    awake : ndarray of int64, shape (3, n_cells), optional
        Coarse cells that are read. Without it those with charge are.
    empty : bool
        Whether noise alone may make hits: in the cells that are read, or in the box around the charge without cells.
    region : Region, optional
        Voxels that are read in place of cells or box.

    Returns
    -------
    hits : Hits
        All voxels with charge, rising in x, y and z, then the hits of noise alone. What is not read has the measured charge 0
        and the cell -1.
    cells : ndarray of int64, shape (3, n_cells)
        Cells that were read; `Hits.cell` counts in them.
    n_empty : int
        Empty voxels in which noise was looked for.
    """
    grid = Grid((pixels.pitch,) * 3, offset)
    key, charge_true = count(pack(grid.index(positions)), num_e)
    index = unpack(key)
    number, cells = np.full(key.size, -1, dtype=np.int64), np.zeros((3, 0), dtype=np.int64)
    read = np.ones(key.size, dtype=bool)
    if region is not None:
        below, above = region.first, region.first + region.shape
        read = np.zeros(key.size, dtype=bool)
        for box in range(region.cell.size):
            inside = ((index >= below[:, box : box + 1]) & (index < above[:, box : box + 1])).all(axis=0)
            number[inside], read = region.cell[box], read | inside
    elif per_cell is not None:
        own = pack(cells_of(index, per_cell))
        known = np.unique(own if awake is None else pack(awake))
        cells = unpack(known)
        number = np.searchsorted(known, own)
        read = (
            known[np.minimum(number, known.size - 1)] == own if known.size else np.zeros(own.size, dtype=bool)
        )
        number = np.where(read, number, -1)
        n = np.array(per_cell)[:, None]
        region = Region(cells * n - n // 2, np.broadcast_to(n, cells.shape), np.arange(known.size))
    elif key.size:
        region = Region.box(index.min(axis=1), index.max(axis=1))
    charge = np.where(read, charge_true + pixels.noise * rng.standard_normal(key.size), 0.0)
    more = NoiseHits.none()
    if empty and region is not None:
        more = empty_hits(region, key[read], pixels.noise, pixels.threshold_sigma, rng)
    index, charge = np.concatenate([index, more.index], axis=1), np.concatenate([charge, more.charge])
    charge_true = np.pad(charge_true, (0, more.charge.size))
    number = np.concatenate([number, more.cell])
    read = np.pad(read, (0, more.charge.size), constant_values=True)
    over = read & (charge > pixels.threshold)
    where = grid.centres(index)
    hits = Hits(where, index, charge, charge_true, over, number, grid.pitch, pixels.noise, pixels.threshold)
    return hits, cells, more.n_empty
