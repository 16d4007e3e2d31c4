"""Pixels as the original bins them, to compare with its results: not what a detector does.

What differs from `pixels`: sensors are laid out symmetrically about x = y = 0, with an edge or a centre there after the width of
the box around the track; z is cut into coarse slices from the mean z of the bunches; a coarse cell has one slice more in z than
pixels, so that 0.5 mm become 0.4762 mm (edges were counted, not slices); noise is there only between the outermost voxels with
charge of each cell.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.readout.hits import Hits
from firstlight.detectors.lartpc.readout.noise import NoiseHits, Region, empty_hits
from firstlight.detectors.lartpc.readout.voxels import Grid, count, pack, unpack
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.readout.cells import Cell
    from firstlight.detectors.lartpc.readout.designs import Design, Pixels

__all__ = ["read_gampy"]


def _edge(width: float, pitch: float) -> tuple[float, int]:
    """Return the lowest edge [m] and the number of sensors that fit into a width, symmetric about 0."""
    number = math.floor(width / pitch)
    return -0.5 * number * pitch, number


def _sensors(cell: Cell, design: Design) -> tuple[list[float], list[int]]:
    """Return lowest edge [m] and number, in x and y, of the cells of the coarse stage, or of the pixels."""
    edges, numbers = [], []
    for width in (cell.width_x, cell.width_y):
        edge, number = _edge(width, design.coarse_pitch)
        if design.coarse_grids is not None:
            # wires are in the middle of the strips, and cells between the wires
            edge, number = edge + 0.5 * design.coarse_pitch, number - 1
        edges.append(edge)
        numbers.append(number)
    return edges, numbers


def read_gampy(
    positions: NDArray[np.float64],
    num_e: NDArray[np.int64],
    design: Design,
    cell: Cell,
    rng: np.random.Generator,
    *,
    empty: bool = True,
) -> tuple[Hits, NDArray[np.int64], int]:
    """Return the samples of pixels with the bins and the noise of the original.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Bunches of electrons [m]. Their mean z, whatever their charge, is where slices begin.
    num_e : ndarray of int64, shape (n,)
        Charges.
    design : Design
        With pixels.
    cell : Cell
        Box around the undrifted track: its widths say where sensors are.
    rng : numpy.random.Generator
        Random numbers.
    empty : bool
        Whether noise alone may make hits.

    Returns
    -------
    hits : Hits
        Voxels with charge, then hits of noise alone. `index` counts through cells, ``pitch[2]`` is the original's.
    cells : ndarray of int64, shape (3, n_cells)
        Cells with charge.
    n_empty : int
        Empty voxels in which noise was looked for.

    Raises
    ------
    InputError
        If electrons diffused beyond the outermost sensor: the original stops or loses them.
    """
    pixels = design.pixels
    if pixels is None:
        raise UsageError("the original's bins are those of pixels", where=design.name)
    edges, numbers = _sensors(cell, design)
    middle = float(positions[2].mean()) if num_e.size else 0.0
    if design.coarse is None:
        pitch = (pixels.pitch,) * 3
        per_cell = np.array([[1], [1], [1]])
    else:
        across = math.floor(design.coarse_pitch / pixels.pitch + 1e-9)
        per_cell = np.array([[across], [across], [across + 1]])
        pitch = (pixels.pitch, pixels.pitch, design.coarse_pitch / (across + 1))
    lowest = (edges[0], edges[1], middle)
    grid = Grid(pitch, (lowest[0] + pitch[0] / 2, lowest[1] + pitch[1] / 2, middle + pitch[2] / 2))
    key, charge_true = count(pack(grid.index(positions)), num_e)
    index = unpack(key)
    most = np.array(numbers)[:, None] * per_cell[:2]
    lost = ((index[:2] < 0) | (index[:2] >= most)).any(axis=0)
    if lost.any():
        what = f"{int(charge_true[lost].sum()):,} electrons are beyond the outermost sensor"
        raise InputError(what, where=f"{design.name}, compat 'gampy'", hint="a read-out without compat")
    cells, region, number = _spans(index, per_cell, single=design.coarse is None)
    charge = charge_true + pixels.noise * rng.standard_normal(key.size)
    more = NoiseHits.none()
    if empty and key.size:
        more = empty_hits(region, key, pixels.noise, pixels.threshold_sigma, rng)
    index, charge = np.concatenate([index, more.index], axis=1), np.concatenate([charge, more.charge])
    charge_true = np.pad(charge_true, (0, more.charge.size))
    number = np.concatenate([number, more.cell])
    return _hits(grid, index, charge, charge_true, number, pixels), cells, more.n_empty


def _spans(
    index: NDArray[np.int64], per_cell: NDArray[np.int64], *, single: bool
) -> tuple[NDArray[np.int64], Region, NDArray[np.int64]]:
    """Return cells with charge, the box of voxels between the outermost with charge in each, and the cell of each voxel."""
    if index.shape[1] == 0:
        none = np.zeros((3, 0), dtype=np.int64)
        return none, Region(none, none, np.zeros(0, dtype=np.int64)), np.zeros(0, dtype=np.int64)
    if single:
        low, high = index.min(axis=1), index.max(axis=1)
        return np.zeros((3, 0), dtype=np.int64), Region.box(low, high), np.full(index.shape[1], -1)
    known, number = np.unique(pack(index // per_cell), return_inverse=True)
    order = np.argsort(number, kind="stable")
    start = np.searchsorted(number[order], np.arange(known.size))
    low = np.minimum.reduceat(index[:, order], start, axis=1)
    high = np.maximum.reduceat(index[:, order], start, axis=1)
    return unpack(known), Region(low, high - low + 1, np.arange(known.size)), number.astype(np.int64)


def _hits(
    grid: Grid,
    index: NDArray[np.int64],
    charge: NDArray[np.float64],
    charge_true: NDArray[np.int64],
    number: NDArray[np.int64],
    pixels: Pixels,
) -> Hits:
    over = charge > pixels.threshold
    where = grid.centres(index)
    return Hits(where, index, charge, charge_true, over, number, grid.pitch, pixels.noise, pixels.threshold)
