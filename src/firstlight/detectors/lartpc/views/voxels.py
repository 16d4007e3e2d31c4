"""Points into voxels for drawing: fewer markers, no charge lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.features.voxelise import number_cubes
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["MOST_MARKERS", "VOXEL", "Voxels", "adapted_voxels", "voxelise"]

VOXEL = 2e-4  # m
MOST_MARKERS = 4000
_FINEST = 1e-5
_ACROSS = 150  # voxels along the edge of a picture that are fine enough


@dataclass(frozen=True)
class Voxels:
    """Charge in cubes, each drawn at the mean position of its charge.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Charge-weighted mean position of the points in a voxel [m].
    charge : ndarray of float64, shape (n,)
        Sum [electrons].
    n_points : ndarray of int64, shape (n,)
        Points put together.
    edge : float
        Edge of the cubes [m].
    label : ndarray of int64, shape (n,), or None
        Cluster or particle; points of different labels are never put together.
    values : mapping of str to ndarray, shape (n,)
        Charge-weighted means of other values.
    """

    positions: Floats
    charge: Floats
    n_points: NDArray[np.int64]
    edge: float
    label: NDArray[np.int64] | None
    values: Mapping[str, Floats]

    def __len__(self) -> int:
        return self.charge.size


def voxelise(
    positions: ArrayLike,
    charge: ArrayLike,
    edge: float = VOXEL,
    *,
    label: ArrayLike | None = None,
    values: Mapping[str, Floats] | None = None,
    n_points: ArrayLike | None = None,
) -> Voxels:
    """Put points into cubes of a grid through the origin of the coordinates.

    Parameters
    ----------
    positions : array, shape (3, n_points)
        Where [m].
    charge : array, shape (n_points,)
        Charges [electrons]; points without charge are left out.
    edge : float
        Edge of a cube [m].
    label : array of int, shape (n_points,), optional
        Cluster or particle of each point; a cube with two of them gives two entries.
    values : mapping of str to array, shape (n_points,), optional
        Other values to be averaged, weighted with the charge: drift time, for example.
    n_points : array of int, shape (n_points,), optional
        What each point counts for; 1 by default. Voxels can be put into larger voxels with it.

    Returns
    -------
    Voxels
        Ordered by x, y, z of their cubes. The sum of the charge is that of the points.

    Raises
    ------
    UsageError
        If the edge is not positive or lengths disagree.
    """
    where, weight = np.asarray(positions, dtype=np.float64), np.asarray(charge, dtype=np.float64)
    if not edge > 0:
        what = f"a voxel has no edge of {edge} m"
        raise UsageError(what, hint="a length in metres: 2e-4 is 0.2 mm")
    labels = None if label is None else np.asarray(label, dtype=np.int64)
    counts = np.ones(weight.size, dtype=np.int64) if n_points is None else np.asarray(n_points)
    extra = {name: np.asarray(entry, dtype=np.float64) for name, entry in (values or {}).items()}
    lengths = {"charge": weight, **({} if labels is None else {"label": labels}), **extra}
    for name, entry in lengths.items():
        if entry.shape != where.shape[1:]:
            what = f"{name} has the shape {entry.shape}, the positions {where.shape}"
            raise UsageError(what, hint="one entry for each point")
    if not (full := weight != 0).all():
        where, weight, counts = where[:, full], weight[full], counts[full]
        labels = None if labels is None else labels[full]
        extra = {name: entry[full] for name, entry in extra.items()}
    if not weight.size:
        return Voxels(where, weight, counts, edge, labels, extra)
    index = np.floor(where / edge)
    if labels is not None:
        index = np.vstack([index, np.unique(labels, return_inverse=True)[1].reshape(1, -1)])
    number, n_voxels = number_cubes(index)
    total: Floats = np.bincount(number, weight, n_voxels).astype(np.float64)
    of_voxel = None
    if labels is not None:
        of_voxel = np.zeros(n_voxels, dtype=np.int64)
        of_voxel[number] = labels

    def mean(entry: Floats) -> Floats:
        return np.asarray(np.bincount(number, entry * weight, n_voxels) / total)

    return Voxels(
        np.stack([mean(axis) for axis in where]),
        total,
        np.bincount(number, counts, n_voxels).astype(np.int64),
        edge,
        of_voxel,
        {name: mean(entry) for name, entry in extra.items()},
    )


def adapted_voxels(
    positions: ArrayLike,
    charge: ArrayLike,
    *,
    edge: float | None = None,
    across: float | None = None,
    most: int = MOST_MARKERS,
    label: ArrayLike | None = None,
    values: Mapping[str, Floats] | None = None,
) -> Voxels:
    """Put points into voxels that suit a picture.

    They have an edge of `VOXEL`, halved until there are enough of them along the picture (a track of 1 MeV is
    2 mm long), and doubled until there are at most so many voxels.

    Parameters
    ----------
    positions, charge, label, values : array
        As in `voxelise`.
    edge : float, optional
        An edge that is wanted [m]; it is doubled too where that gives more than `most`.
    across : float, optional
        Edge of what is shown [m].
    most : int
        Voxels at most.
    """
    if edge is None:
        edge = VOXEL
        while across is not None and edge / 2 >= _FINEST and edge * _ACROSS > across > 0:
            edge /= 2
    found = voxelise(positions, charge, edge, label=label, values=values)
    # labels keep voxels apart, so that their number may not fall any further
    while len(found) > most and (label is None or len(found) > most + np.unique(np.asarray(label)).size):
        found = voxelise(
            found.positions, found.charge, 2 * found.edge,
            label=found.label, values=found.values, n_points=found.n_points,
        )  # fmt: skip
    return found
