"""Clusters: cubes that hang together, the largest with its satellites around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Clusters", "find_clusters", "link_graph", "linked_pairs"]


@dataclass(frozen=True)
class Clusters:
    """Clusters in the order of their charge, the largest first.

    Parameters
    ----------
    label : ndarray of int64, shape (n,)
        Cluster of each cube; 0 is the main one, -1 a cube that belongs to none.
    charge : ndarray of float64, shape (n_clusters,)
        Sum of charge [electrons].
    centre : ndarray of float64, shape (3, n_clusters)
        Mean position of the charge [m].
    """

    label: NDArray[np.int64]
    charge: NDArray[np.float64]
    centre: NDArray[np.float64]

    def __len__(self) -> int:
        return self.charge.size


def linked_pairs(positions: NDArray[np.float64], link: float) -> NDArray[np.int64]:
    """Return all pairs of points at most `link` [m] apart, each once, sorted: shape (n_pairs, 2)."""
    from scipy.spatial import cKDTree

    if positions.shape[1] < 2:
        return np.zeros((0, 2), dtype=np.int64)
    pairs: NDArray[np.int64] = cKDTree(positions.T).query_pairs(link, output_type="ndarray").astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def link_graph(positions: NDArray[np.float64], pairs: NDArray[np.int64]) -> Any:
    """Return the sparse matrix of the distances [m] between linked points, shape (n, n), upper half."""
    from scipy.sparse import csr_array

    length = np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=0)
    # a sparse graph takes a distance of 0 for no link
    length = np.maximum(length, np.finfo(float).tiny)
    n_points = positions.shape[1]
    return csr_array((length, (pairs[:, 0], pairs[:, 1])), shape=(n_points, n_points))


def find_clusters(
    positions: NDArray[np.float64], charge: NDArray[np.float64], link: float, neighbours: int = 1
) -> Clusters:
    """Find what hangs together.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Of cubes [m].
    charge : ndarray, shape (n,)
        Of cubes [electrons].
    link : float
        Cubes at most so far apart are linked [m].
    neighbours : int
        Cubes with so many within the link length, themselves included, hold a cluster together (the core points of
        DBSCAN). Others join the cluster of the nearest such cube in reach, and are of no cluster where there is none.
        1 gives the connected components of the links.

    Returns
    -------
    Clusters
        Of equal charge, the one with the first cube comes first.
    """
    from scipy.sparse.csgraph import connected_components

    n_points = charge.size
    if n_points == 0:
        return Clusters(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((3, 0)))
    pairs = linked_pairs(positions, link)
    core = np.bincount(pairs.ravel(), minlength=n_points) + 1 >= neighbours
    inner = pairs[core[pairs].all(axis=1)]
    _, part = connected_components(link_graph(positions, inner), directed=False)
    part = np.where(core, part, -1)
    _join_borders(part, core, positions, pairs)
    return _ordered(part, positions, charge)


def _join_borders(
    part: NDArray[np.int64],
    core: NDArray[np.bool_],
    positions: NDArray[np.float64],
    pairs: NDArray[np.int64],
) -> None:
    """Give each point that is no core point the part of the nearest core point, in place."""
    mixed = pairs[core[pairs].sum(axis=1) == 1]
    if mixed.size == 0:
        return
    inside = np.where(core[mixed[:, 0]], mixed[:, 0], mixed[:, 1])
    border = np.where(core[mixed[:, 0]], mixed[:, 1], mixed[:, 0])
    distance = np.linalg.norm(positions[:, inside] - positions[:, border], axis=0)
    order = np.lexsort((inside, distance, border))
    first = np.unique(border[order], return_index=True)[1]
    part[border[order][first]] = part[inside[order][first]]


def _ordered(
    part: NDArray[np.int64], positions: NDArray[np.float64], charge: NDArray[np.float64]
) -> Clusters:
    held = part >= 0
    names, first, number = np.unique(part[held], return_index=True, return_inverse=True)
    total = np.bincount(number, charge[held], names.size).astype(np.float64, copy=False)
    order = np.lexsort((first, -total))
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    label = np.full(part.size, -1, dtype=np.int64)
    label[held] = rank[number]
    centre = np.stack([np.bincount(number, charge[held] * row, names.size) for row in positions[:, held]])
    return Clusters(label, total[order], centre[:, order] / total[order])
