"""What a picture shows: a cube, so that lengths are the same on every axis, around all of an event or its core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Cube", "Part", "core_cube", "core_of", "cube_of", "cube_of_limits", "round_edge", "share_cube"]

_LINK = 2.5e-3
_SMALLEST = 2e-5


@dataclass(frozen=True)
class Cube:
    """What a picture shows: a cube, so that one millimetre is as long on every axis.

    Parameters
    ----------
    centre : ndarray, shape (3,)
        Its middle [m].
    edge : float
        Length of its edges [m].
    """

    centre: Floats
    edge: float

    @property
    def limits(self) -> Floats:
        """Low and high end of each axis, shape (3, 2) [m]."""
        return self.centre[:, np.newaxis] + np.array([-0.5, 0.5]) * self.edge

    def holds(self, positions: Floats) -> NDArray[np.bool_]:
        """Return which positions, shape (3, n), lie inside."""
        inside = np.abs(positions - self.centre[:, np.newaxis]) <= 0.5 * self.edge * (1 + 1e-9)
        return np.asarray(inside.all(axis=0))

    def grown(self, edge: float) -> Cube:
        """Return a cube about the same centre with another edge [m]."""
        return Cube(self.centre, edge)


def cube_of(*positions: Floats, margin: float = 0.06) -> Cube:
    """Return the cube around positions, shape (3, n) each [m], larger by a share of its edge."""
    given = [some for some in positions if some.shape[1]]
    if not given:
        return Cube(np.zeros(3), 1e-2)
    low = np.min([some.min(axis=1) for some in given], axis=0)
    high = np.max([some.max(axis=1) for some in given], axis=0)
    edge = max(float((high - low).max()), _SMALLEST)
    return Cube((low + high) / 2, edge * (1 + 2 * margin))


def cube_of_limits(limits: ArrayLike, scale: float = 1.0) -> Cube:
    """Return the cube around limits, shape (3, 2), that are given in other units: `scale` of them are a metre."""
    given = np.asarray(limits, dtype=np.float64)
    if given.shape != (3, 2) or not np.isfinite(given).all() or not (given[:, 0] < given[:, 1]).all():
        what = f"limits are {given.tolist()}, not three pairs of a low and a high end"
        raise UsageError(what, hint="[[x_low, x_high], [y_low, y_high], [z_low, z_high]]")
    return Cube(given.mean(axis=1) / scale, float((given[:, 1] - given[:, 0]).max()) / scale)


def share_cube(positions: Floats, charge: Floats, share: float, margin: float = 0.06) -> Cube:
    """Return the smallest cube about the median of the charge that holds a share of it.

    Far satellites do not shrink the rest of the event in it.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Where [m].
    charge : ndarray, shape (n,)
        Electrons.
    share : float
        Of the charge, more than 0 and at most 1.
    margin : float
        Share of the edge that is added on each side.

    Raises
    ------
    UsageError
        If the share is none.
    """
    if not 0 < share <= 1:
        what = f"zoom {share} is no share of the charge"
        raise UsageError(what, hint="a number above 0 and up to 1, 'core' or 'all'")
    if not charge.size:
        return cube_of(positions)
    centre = np.array([_quantile(axis, charge, 0.5) for axis in positions])
    reach = np.abs(positions - centre[:, np.newaxis]).max(axis=0)
    edge = 2 * max(_quantile(reach, charge, share), _SMALLEST / 2)
    return Cube(centre, edge * (1 + 2 * margin))


def _quantile(values: Floats, weight: Floats, share: float) -> float:
    order = np.argsort(values)
    filled = np.cumsum(weight[order])
    place = int(np.searchsorted(filled, share * filled[-1] * (1 - 1e-12)))
    return float(values[order[min(place, values.size - 1)]])


def core_of(positions: Floats, charge: Floats, link: float = _LINK) -> tuple[Floats, Floats]:
    """Return positions and charges of the connected piece of an event that has the most charge.

    Cells of a grid with edge `link` [m] belong together where they touch, corners included.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    cells = np.floor(positions / link).astype(np.int64)
    unique, cell = np.unique(cells, axis=1, return_inverse=True)
    cell = cell.reshape(-1)
    pairs = cKDTree(unique.T).query_pairs(1.1, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(unique.shape[1],) * 2)
    piece = connected_components(graph, directed=False)[1][cell]
    largest = int(np.argmax(np.bincount(piece, weights=np.maximum(charge, 0))))
    return positions[:, piece == largest], charge[piece == largest]


class Part(NamedTuple):
    """What a core is looked for in: positions, shape (3, n), charges, edge of a voxel, and whether there are tails."""

    positions: Floats
    charge: Floats
    edge: float = 0.0
    tails: bool = False


def core_cube(*parts: Part | tuple[Floats, Floats], margin: float = 0.1) -> Cube:
    """Return the cube around the cores of all parts, larger by a share of its edge on each side.

    Parameters
    ----------
    parts : Part, or positions and charges
        Voxels belong together over a distance of their edge, at least. Where there are `tails`, as after diffusion,
        the outermost hundredth of the charge on each side does not count.
    margin : float
        Share of the edge.
    """
    around: list[Floats] = []
    for given in parts:
        part = Part(*given)
        if not part.charge.size:
            continue
        where, weight = core_of(part.positions, part.charge, max(_LINK, part.edge))
        if part.tails:
            where = np.array([[_quantile(axis, weight, share) for share in (0.01, 0.99)] for axis in where])
        around += [where - 0.5 * part.edge, where + 0.5 * part.edge]
    return cube_of(*around, margin=margin)


def round_edge(edge: float) -> float:
    """Return the next larger length that is easily said: 3, 4, 5, 6 or 8 times a power of ten, for example."""
    if not edge > 0:
        return edge
    decade = 10.0 ** np.floor(np.log10(edge))
    steps = np.array([1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10])
    return float(decade * steps[np.searchsorted(steps, edge / decade * (1 - 1e-9))])
