"""The path of a track: the longest way through the minimum spanning tree of its charge, what lies off it, and its ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.features.clusters import find_clusters, link_graph, linked_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Branches",
    "Ends",
    "Path",
    "Tree",
    "compare_ends",
    "find_branches",
    "longest_path",
    "path_through",
    "profile",
    "spanning_tree",
    "turning",
]

_CHORD = 2.0e-3  # turns are measured between straight pieces of this length [m]
_NEAR_END = 8.0e-3  # within this distance from an end [m]


@dataclass(frozen=True)
class Tree:
    """Minimum spanning tree of points that hang together.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Points [m].
    charge : ndarray, shape (n,)
        Of the points [electrons].
    edges : ndarray of int64, shape (n - 1, 2)
        Pairs of points.
    matrix : sparse array, shape (n, n)
        Lengths of the edges, both ways [m].
    """

    positions: NDArray[np.float64]
    charge: NDArray[np.float64]
    edges: NDArray[np.int64]
    matrix: Any

    def __len__(self) -> int:
        return self.charge.size

    def distances(self, start: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the distance of every point along the tree [m], and the point before it on the way (-1: none)."""
        from scipy.sparse.csgraph import dijkstra

        far, before = dijkstra(self.matrix, indices=start, return_predecessors=True)
        return far, np.maximum(before.astype(np.int64), -1)

    def way(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the points on the way between two points, both included."""
        before = self.distances(start)[1]
        points = [stop]
        while points[-1] != start:
            points.append(int(before[points[-1]]))
        return np.array(points[::-1])


@dataclass(frozen=True)
class Path:
    """A way through a tree, from where the particle seems to start.

    Parameters
    ----------
    points : ndarray of int64, shape (k,)
        Points of the tree.
    positions : ndarray, shape (3, k)
        Where [m].
    along : ndarray, shape (k,)
        Distance from the start along the path [m].
    """

    points: NDArray[np.int64]
    positions: NDArray[np.float64]
    along: NDArray[np.float64]

    @property
    def length(self) -> float:
        """Length along the path [m]."""
        return float(self.along[-1]) if self.along.size else 0.0

    @property
    def straight(self) -> float:
        """Distance between its ends [m]."""
        if self.along.size == 0:
            return 0.0
        return float(np.linalg.norm(self.positions[:, -1] - self.positions[:, 0]))

    @property
    def tortuosity(self) -> float:
        """Length over distance of the ends; 1 for a single point, infinite for a closed curve."""
        if self.length == 0:
            return 1.0
        return self.length / self.straight if self.straight > 0 else float("inf")

    def reversed(self) -> Path:
        """Return the path walked the other way."""
        return Path(self.points[::-1], self.positions[:, ::-1], self.length - self.along[::-1])

    def project(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the distance of points from the path, and how far along it the nearest place is [m].

        Parameters
        ----------
        positions : ndarray, shape (3, n)
            Points [m].
        """
        if self.along.size < 2:
            origin = self.positions[:, :1]
            return np.linalg.norm(positions - origin, axis=0), np.zeros(positions.shape[1])
        start, step = self.positions[:, :-1], np.diff(self.positions, axis=1)
        square = np.maximum((step**2).sum(axis=0), np.finfo(float).tiny)
        # (p - start) . step of every point with every piece, without an array of three dimensions
        part = np.clip((positions.T @ step - (start * step).sum(axis=0)) / square, 0.0, 1.0)
        distance = np.full(part.shape, 0.0)
        for axis in range(3):
            distance += (positions[axis][:, None] - start[axis] - part * step[axis]) ** 2
        nearest = distance.argmin(axis=1)
        rows = np.arange(nearest.size)
        along = self.along[nearest] + part[rows, nearest] * np.diff(self.along)[nearest]
        return np.sqrt(distance[rows, nearest]), along

    def at(self, along: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the places so far along the path [m], shape (3, n)."""
        return np.stack([np.interp(along, self.along, row) for row in self.positions])


@dataclass(frozen=True)
class Branches:
    """What lies off a path.

    Parameters
    ----------
    share : float
        Share of the charge.
    distance : float
        Largest distance of charge from the path [m].
    count : int
        Separate pieces with more than half a per cent of the charge.
    """

    share: float
    distance: float
    count: int


@dataclass(frozen=True)
class Ends:
    """The two ends of a path, its first point first.

    Parameters
    ----------
    charge : tuple of float
        In a ball around each end [electrons].
    turning : tuple of float
        Mean change of direction near each end [rad/mm]; a particle that stops is scattered more.
    """

    charge: tuple[float, float]
    turning: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Larger charge over smaller one; 1 where there is no charge."""
        low, high = sorted(self.charge)
        return high / low if low > 0 else 1.0

    def seems_reversed(self, stop_ratio: float) -> bool:
        """Return whether the particle seems to have stopped at the first point.

        The charge decides where its ratio is beyond `stop_ratio`; below it, charge and turning together.
        """
        first, last = self.charge
        if self.ratio > stop_ratio:
            return first > last
        weight = np.log(max(first, 1.0) / max(last, 1.0))
        weight += np.log((self.turning[0] + 0.02) / (self.turning[1] + 0.02))
        return bool(weight > 0)


def spanning_tree(positions: NDArray[np.float64], charge: NDArray[np.float64], link: float) -> Tree:
    """Return the minimum spanning tree of points that hang together.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        At least one point [m].
    charge : ndarray, shape (n,)
        Of the points [electrons].
    link : float
        Points closer than this are looked at first; the length is raised where it leaves the points in parts [m].
    """
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    n_points = charge.size
    while True:
        graph = link_graph(positions, linked_pairs(positions, link))
        if n_points < 2 or connected_components(graph, directed=False, return_labels=False) == 1:
            break
        link *= 1.5
    tree = minimum_spanning_tree(graph)
    first, second = tree.nonzero()
    return Tree(positions, charge, np.stack([first, second], axis=1).astype(np.int64), tree + tree.T)


def longest_path(tree: Tree) -> Path:
    """Return the longest way through a tree, by two sweeps: the farthest point of any point is an end of it."""
    if len(tree) == 0:
        return Path(np.zeros(0, dtype=np.int64), np.zeros((3, 0)), np.zeros(0))
    first = int(tree.distances(0)[0].argmax())
    far, before = tree.distances(first)
    points = [int(far.argmax())]
    while points[-1] != first:
        points.append(int(before[points[-1]]))
    return path_through(tree, np.array(points[::-1]))


def path_through(tree: Tree, points: NDArray[np.int64]) -> Path:
    """Return the path through some points of a tree, in their order."""
    positions = tree.positions[:, points]
    steps = np.linalg.norm(np.diff(positions, axis=1), axis=0)
    return Path(points, positions, np.concatenate([[0.0], np.cumsum(steps)]))


def find_branches(
    path: Path, positions: NDArray[np.float64], charge: NDArray[np.float64], beyond: float, link: float
) -> Branches:
    """Return what lies off a path.

    Parameters
    ----------
    path : Path
        Of the same charge.
    positions, charge : ndarray, shapes (3, n) and (n,)
        Cubes [m, electrons].
    beyond : float
        Charge nearer than this belongs to the path [m].
    link : float
        Pieces farther apart are counted apart [m].
    """
    if charge.size == 0:
        return Branches(0.0, 0.0, 0)
    distance = path.project(positions)[0]
    off = distance > beyond
    pieces = find_clusters(positions[:, off], charge[off], link).charge / charge.sum()
    return Branches(
        float(charge[off].sum() / charge.sum()), float(distance.max()), int((pieces > 0.005).sum())
    )


def compare_ends(
    path: Path, positions: NDArray[np.float64], charge: NDArray[np.float64], radius: float
) -> Ends:
    """Return what the two ends of a path look like; `positions` and `charge` of the cubes, `radius` of the balls [m]."""
    if path.along.size == 0:
        return Ends((0.0, 0.0), (0.0, 0.0))
    held = [
        float(charge[np.linalg.norm(positions - path.positions[:, end, None], axis=0) <= radius].sum())
        for end in (0, -1)
    ]
    return Ends((held[0], held[1]), (turning(path), turning(path.reversed())))


def turning(path: Path, within: float = _NEAR_END, chord: float = _CHORD) -> float:
    """Return the mean change of direction per length near the first point of a path [rad/mm].

    Parameters
    ----------
    path : Path
        Any; 0 for one shorter than two chords.
    within : float
        So much of the path is looked at [m].
    chord : float
        Length of the straight pieces between which turns are measured [m].
    """
    places = np.arange(0.0, min(within, path.length) + 0.5 * chord, chord)
    if places.size < 3:
        return 0.0
    step = np.diff(path.at(places), axis=1)
    step /= np.maximum(np.linalg.norm(step, axis=0), np.finfo(float).tiny)
    turns = np.arccos(np.clip((step[:, 1:] * step[:, :-1]).sum(axis=0), -1.0, 1.0))
    return float(turns.mean() / (1e3 * chord))


def profile(
    path: Path, positions: NDArray[np.float64], charge: NDArray[np.float64], width: float, beyond: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return dQ/dx along a path.

    Parameters
    ----------
    path : Path
        From start to stop.
    positions, charge : ndarray, shapes (3, n) and (n,)
        Cubes [m, electrons].
    width : float
        Length of a bin, at least [m]; bins are equal and fill the path.
    beyond : float
        Charge farther from the path is left out [m].

    Returns
    -------
    along, density : ndarray, shape (n_bins,)
        Middle of each bin [m], and charge per length in it [electrons/mm]; empty for a path without length.
    """
    if path.length == 0 or charge.size == 0:
        return np.zeros(0), np.zeros(0)
    n_bins = max(int(path.length / width), 1)
    distance, along = path.project(positions)
    near = distance <= beyond
    edges = np.linspace(0.0, path.length, n_bins + 1)
    summed = np.histogram(along[near], edges, weights=charge[near])[0]
    return 0.5 * (edges[1:] + edges[:-1]), summed / (1e3 * path.length / n_bins)
