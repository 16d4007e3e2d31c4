"""Tiles: large electrodes that see the charge of all pixels under them, and wake them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.readout.hits import Hits
from firstlight.detectors.lartpc.readout.noise import Region, empty_hits
from firstlight.detectors.lartpc.readout.voxels import Grid, count, pack, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.readout.designs import CoarseTiles

__all__ = ["read_tiles"]


def read_tiles(
    positions: NDArray[np.float64],
    num_e: NDArray[np.int64],
    tiles: CoarseTiles,
    grid: Grid,
    rng: np.random.Generator,
    *,
    empty: bool = True,
) -> Hits:
    """Return the samples of tiles: a tile in a slice of z as long as the gap.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Electrons [m].
    num_e : ndarray of int64, shape (n,)
        Charges.
    tiles : CoarseTiles
        The design.
    grid : Grid
        Tiles in x and y, slices in z.
    rng : numpy.random.Generator
        Random numbers.
    empty : bool
        Whether noise alone may make hits, in the box around the tiles with charge.

    Returns
    -------
    Hits
        `charge` is the signal over `signal_fraction`, noise included.
    """
    key, charge_true = count(pack(grid.index(positions)), num_e)
    index = unpack(key)
    noise = tiles.noise / tiles.signal_fraction
    charge = charge_true + noise * rng.standard_normal(key.size)
    if empty and key.size:
        region = Region.box(index.min(axis=1), index.max(axis=1))
        more = empty_hits(region, key, noise, tiles.threshold_sigma, rng)
        index = np.concatenate([index, more.index], axis=1)
        charge = np.concatenate([charge, more.charge])
        charge_true = np.pad(charge_true, (0, more.charge.size))
    threshold = tiles.threshold / tiles.signal_fraction
    cell = np.full(charge.size, -1, dtype=np.int64)
    return Hits(
        grid.centres(index),
        index,
        charge,
        charge_true,
        charge > threshold,
        cell,
        grid.pitch,
        noise,
        threshold,
    )
