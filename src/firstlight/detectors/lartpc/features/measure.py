"""All that is measured of the shape of one event, as a row of a table and as the points that pictures need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.features.clusters import Clusters, find_clusters
from firstlight.detectors.lartpc.features.paths import (
    Branches,
    Ends,
    Path,
    Tree,
    compare_ends,
    find_branches,
    longest_path,
    profile,
    spanning_tree,
)
from firstlight.detectors.lartpc.features.settings import Settings
from firstlight.detectors.lartpc.features.shapes import principal_axes
from firstlight.detectors.lartpc.features.vertex import Vertex, find_fork, find_vertex
from firstlight.detectors.lartpc.features.voxelise import Voxels, voxelise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.readout.hits import Hits

__all__ = ["Features", "Topology", "measure", "measure_hits"]

_NAN = float("nan")
_PROFILE_BIN = 2.0e-3  # [m]
_AHEAD = 0.7  # cosine to the mean direction of the arms: ahead, or behind where it is negative
_FAR_AHEAD = 0.9  # the same, for what follows the direction of a track
_LONG_FORK = 3.0  # arms may stay together for longer by this factor, where only shares are wanted
_RADII = {
    "q_vertex": 0.75,
    "q_near": 4.0,
    "q_middle": 8.0,
    "q_wide": 16.0,
}  # in radii of the ball around an end


@dataclass(frozen=True)
class Topology:
    """Where the parts of an event are; positions in metres.

    Parameters
    ----------
    voxels : Voxels
        Cubes with charge.
    cluster : ndarray of int64, shape (n_voxels,)
        Cluster of each cube: 0 the main one, then by charge; -1 of none.
    path : ndarray, shape (3, k)
        Points of the path through the main cluster, from where the particle seems to start.
    arm : ndarray of int64, shape (n_voxels,)
        Arm of each cube of the main cluster: 0 the longer, 1 the shorter, -1 the trunk that they share, and everywhere
        where there is no fork near the vertex.
    vertex : ndarray, shape (3,), or None
        Where the arms go out; None without a main cluster of some size.
    rays : ndarray, shape (n_rays, 3)
        Directions of the arms: two where they can be told apart around the vertex, else one, or none.
    along, density : ndarray, shape (n_bins,)
        Distance along the path [m] and charge per length there [electrons/mm].
    """

    voxels: Voxels
    cluster: NDArray[np.int64]
    path: NDArray[np.float64]
    arm: NDArray[np.int64]
    vertex: NDArray[np.float64] | None
    rays: NDArray[np.float64]
    along: NDArray[np.float64]
    density: NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """Shape of an event in numbers; lengths in mm, angles in degrees, shares from 0 to 1, NaN where there is none.

    The attributes are the columns of `firstlight.detectors.lartpc.features.columns.FEATURES`, which says what each is.
    None depends on the scale of charge but `charge` itself.
    """

    n_points: int
    charge: float
    n_voxels: int
    box: float
    f_main: float
    n_satellites: int
    q_satellites: float
    q_largest: float
    q_second: float
    q_third: float
    farthest: float
    spread: float
    q_upstream: float
    q_ahead: float
    n_ahead: int
    n_beside: int
    n_behind: int
    linearity: float
    planarity: float
    width: float
    path: float
    straight: float
    tortuosity: float
    branch_charge: float
    branch_distance: float
    n_branches: int
    end_ratio: float
    stops: bool
    start_density: float
    end_density: float
    start_turning: float
    end_turning: float
    vertex_chance: float
    vertex_from_end: float
    vertex_density: float
    q_vertex: float
    q_near: float
    q_middle: float
    q_wide: float
    forward: float
    ray_quality: float
    ray_overlap: float
    separable: bool
    opening: float
    fork: float
    arm_share: float
    arm_long: float
    arm_short: float
    arm_linearity: float
    parting: float
    q_trunk: float
    q_lesser: float
    q_greater: float
    reach_lesser: float
    reach_greater: float
    topology: Topology

    def row(self) -> dict[str, Any]:
        """Return all numbers by name, NaN as None: a row of the table."""
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in ((name, getattr(self, name)) for name in _NUMBERS)
        }


_NUMBERS = [name for name in Features.__dataclass_fields__ if name != "topology"]


def measure(
    positions: NDArray[np.floating], charge: NDArray[np.number], settings: Settings | None = None
) -> Features:
    """Measure the shape of an event.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Points of freed charge, or hits of a read-out [m].
    charge : ndarray, shape (n,)
        Electrons of each; points without any take no part.
    settings : Settings, optional
        Those for freed charge by default; `Settings.of_hits` for hits.

    Returns
    -------
    Features
        With no point, or none above threshold, shares are 0 and shapes NaN.

    Raises
    ------
    InputError
        If shapes disagree, a value is not finite, or a charge is negative.
    """
    settings = settings or Settings()
    voxels = voxelise(positions, charge, settings.edge, settings.threshold)
    clusters = find_clusters(voxels.positions, voxels.charge, settings.link, settings.neighbours)
    main = clusters.label == 0
    places, charges = np.ascontiguousarray(voxels.positions[:, main]), voxels.charge[main]
    larger = voxelise(places, charges, settings.path_edge)
    tree = spanning_tree(larger.positions, larger.charge, max(settings.link, settings.path_edge))
    path = longest_path(tree)
    ends = compare_ends(path, places, charges, settings.end_radius)
    if ends.seems_reversed(settings.stop_ratio):
        path, ends = path.reversed(), Ends(ends.charge[::-1], ends.turning[::-1])
    branches = find_branches(path, places, charges, settings.branch, settings.link)
    along, density = profile(path, places, charges, _PROFILE_BIN, settings.branch)
    vertex = find_vertex(tree, path, places, charges, settings.ray_shell, settings.end_radius)
    arms = _arms(tree, vertex, settings)
    shape = principal_axes(places, charges)
    arm = np.full(len(voxels), -1, dtype=np.int64)
    arm[main] = arms.label[larger.label]
    topology = Topology(
        voxels, clusters.label, path.positions, arm,
        None if vertex is None else vertex.position, _rays(vertex, arms), along, density,
    )  # fmt: skip
    return Features(
        n_points=int((voxels.label >= 0).sum()),
        charge=float(voxels.charge.sum()),
        n_voxels=len(voxels),
        box=_box(positions, voxels),
        **_satellites(voxels, clusters, settings.satellite),
        **_directions(clusters, topology, settings.satellite),
        linearity=shape.linearity,
        planarity=shape.planarity,
        width=1e3 * shape.width,
        **_path_numbers(path, branches, ends, settings, along, density),
        **_vertex_numbers(vertex, arms, path, places, charges, settings, density),
        **_charge_around(vertex, places, charges, settings, voxels.charge.sum()),
        fork=arms.fork,
        arm_share=arms.share,
        arm_long=arms.long,
        arm_short=arms.short,
        arm_linearity=arms.linearity,
        **_parting(tree, vertex, settings, voxels.charge.sum()),
        topology=topology,
    )


def measure_hits(hits: Hits, settings: Settings | None = None) -> Features:
    """Measure the shape of an event from the hits of a read-out that are above threshold.

    Parameters
    ----------
    hits : Hits
        Samples; those that did not trigger take no part.
    settings : Settings, optional
        `Settings.of_hits` with the largest edge of a voxel by default.
    """
    settings = settings or Settings.of_hits(max(hits.pitch))
    seen = hits.triggered & (hits.charge > 0)
    return measure(hits.positions[:, seen], hits.charge[seen], settings)


def _box(positions: NDArray[np.floating], voxels: Voxels) -> float:
    if len(voxels) == 0:
        return 0.0
    inside = voxels.label >= 0
    return 1e3 * max(float(np.ptp(row[inside])) for row in positions)


def _satellites(voxels: Voxels, clusters: Clusters, least: float) -> dict[str, Any]:
    total = voxels.charge.sum()
    if len(clusters) == 0:
        return {
            "f_main": 0.0, "n_satellites": 0, "q_satellites": 0.0, "q_largest": 0.0, "q_second": 0.0, "q_third": 0.0,
            "farthest": 0.0, "spread": 0.0,
        }  # fmt: skip
    share = clusters.charge / total
    seen = np.flatnonzero(share > least)
    seen = seen[seen > 0]
    away = clusters.centre[:, seen] - clusters.centre[:, :1]
    distance = np.linalg.norm(away, axis=0)
    largest = np.pad(share[seen], (0, 3))
    spread = 0.0
    if seen.size > 1:
        spread = float(1 - np.linalg.norm((away / distance).mean(axis=1)))
    return {
        "f_main": float(share[0]),
        "n_satellites": int(seen.size),
        "q_satellites": float(share[seen].sum()),
        "q_largest": float(largest[0]),
        "q_second": float(largest[1]),
        "q_third": float(largest[2]),
        "farthest": float(1e3 * distance.max(initial=0.0)),
        "spread": spread,
    }


def _directions(clusters: Clusters, topology: Topology, least: float) -> dict[str, Any]:
    """Return where satellites are, as seen from the vertex: ahead of the arms, beside them, or behind."""
    numbers: dict[str, Any] = {"q_upstream": 0.0, "q_ahead": 0.0, "n_ahead": 0, "n_beside": 0, "n_behind": 0}
    if topology.vertex is None or not topology.rays.size or len(clusters) < 2:
        return numbers
    forward = topology.rays.mean(axis=0)
    offset = clusters.centre[:, 1:] - topology.vertex[:, None]
    scale = np.linalg.norm(forward) * np.linalg.norm(offset, axis=0)
    cosine = forward @ offset / np.maximum(scale, np.finfo(float).tiny)
    share = clusters.charge[1:] / clusters.charge.sum()
    ahead, behind, seen = cosine > _AHEAD, cosine < -_AHEAD, share > least
    return {
        "q_upstream": float(share[behind].max(initial=0.0)),
        "q_ahead": float(share[cosine > _FAR_AHEAD].sum()),
        "n_ahead": int((ahead & seen).sum()),
        "n_beside": int((~ahead & ~behind & seen).sum()),
        "n_behind": int((behind & seen).sum()),
    }


def _charge_around(
    vertex: Vertex | None,
    positions: NDArray[np.float64],
    charge: NDArray[np.float64],
    settings: Settings,
    total: float,
) -> dict[str, Any]:
    """Return the shares of the charge in balls around the vertex."""
    if vertex is None:
        return dict.fromkeys(_RADII, _NAN)
    away = np.linalg.norm(positions - vertex.position[:, None], axis=0)
    return {
        name: float(charge[away <= radius * settings.end_radius].sum() / total)
        for name, radius in _RADII.items()
    }


def _parting(tree: Tree, vertex: Vertex | None, settings: Settings, total: float) -> dict[str, Any]:
    """Return how the charge divides where two arms that may stay together for long part."""
    fork = None if vertex is None else find_fork(tree, vertex.point, _LONG_FORK * settings.fork)
    if fork is None:
        names = ("parting", "q_trunk", "q_lesser", "q_greater", "reach_lesser", "reach_greater")
        return dict.fromkeys(names, _NAN)
    trunk, greater, lesser = (float(tree.charge[fork.arm == arm].sum() / total) for arm in (-1, 0, 1))
    return {
        "parting": 1e3 * fork.distance,
        "q_trunk": trunk,
        "q_lesser": lesser,
        "q_greater": greater,
        "reach_lesser": 1e3 * fork.reach[1],
        "reach_greater": 1e3 * fork.reach[0],
    }


def _path_numbers(
    path: Path,
    branches: Branches,
    ends: Ends,
    settings: Settings,
    along: NDArray[np.float64],
    density: NDArray[np.float64],
) -> dict[str, Any]:
    first, last = _densities(along, density)
    return {
        "path": 1e3 * path.length,
        "straight": 1e3 * path.straight,
        "tortuosity": path.tortuosity if np.isfinite(path.tortuosity) else _NAN,
        "branch_charge": branches.share,
        "branch_distance": 1e3 * branches.distance,
        "n_branches": branches.count,
        "end_ratio": ends.ratio,
        "stops": bool(ends.ratio > settings.stop_ratio),
        "start_density": first,
        "end_density": last,
        "start_turning": ends.turning[0],
        "end_turning": ends.turning[1],
    }


def _densities(along: NDArray[np.float64], density: NDArray[np.float64]) -> tuple[float, float]:
    """Return dQ/dx in the first and the last 4 mm over its median."""
    if density.size < 3:
        return _NAN, _NAN
    middle = float(np.median(density))
    if middle <= 0:
        return _NAN, _NAN
    n_bins = max(round(4e-3 / float(along[1] - along[0])), 1)
    return float(density[:n_bins].mean() / middle), float(density[-n_bins:].mean() / middle)


@dataclass(frozen=True)
class _Arms:
    """Arm of each point of the tree (0 the longer, 1 the shorter, -1 neither), and what is measured of the two."""

    label: NDArray[np.int64]
    separable: bool = False
    fork: float = _NAN
    share: float = _NAN
    long: float = _NAN
    short: float = _NAN
    linearity: float = _NAN
    swapped: bool = False


def _arms(tree: Tree, vertex: Vertex | None, settings: Settings) -> _Arms:
    fork = None if vertex is None else find_fork(tree, vertex.point, settings.fork)
    if vertex is None or fork is None or fork.distance > settings.fork:
        return _Arms(np.full(len(tree), -1, dtype=np.int64))
    swapped = fork.reach[1] > fork.reach[0]
    arm = np.where(fork.arm < 0, -1, 1 - fork.arm) if swapped else fork.arm
    shapes = [principal_axes(tree.positions[:, arm == each], tree.charge[arm == each]) for each in (0, 1)]
    linearity = np.array([shape.linearity for shape in shapes])
    return _Arms(
        arm,
        separable=vertex.rays.separable and np.degrees(vertex.rays.opening) > settings.opening,
        fork=1e3 * fork.distance,
        share=fork.share,
        long=1e3 * max(fork.reach),
        short=1e3 * min(fork.reach),
        linearity=float(np.nanmin(linearity)) if np.isfinite(linearity).any() else _NAN,
        swapped=swapped,
    )


def _rays(vertex: Vertex | None, arms: _Arms) -> NDArray[np.float64]:
    """Return the rays of a vertex, shape (n_rays, 3): two where they are told apart, else their mean."""
    if vertex is None:
        return np.zeros((0, 3))
    directions = vertex.rays.directions
    if arms.separable:
        return directions
    mean = directions.T @ np.array([vertex.rays.share, 1 - vertex.rays.share])
    length = np.linalg.norm(mean)
    return (mean / length)[None] if length > 0 else np.zeros((0, 3))


def _vertex_numbers(
    vertex: Vertex | None,
    arms: _Arms,
    path: Path,
    positions: NDArray[np.float64],
    charge: NDArray[np.float64],
    settings: Settings,
    density: NDArray[np.float64],
) -> dict[str, Any]:
    numbers: dict[str, Any] = dict.fromkeys(
        (
            "vertex_chance",
            "vertex_from_end",
            "vertex_density",
            "forward",
            "ray_quality",
            "ray_overlap",
            "opening",
        ),
        _NAN,
    )
    if vertex is None:
        return numbers | {"separable": False}
    along = float(path.project(vertex.position[:, None])[1][0])
    radius = 2 * settings.end_radius
    near = np.linalg.norm(positions - vertex.position[:, None], axis=0) <= radius
    middle = float(np.median(density)) if density.size else 0.0
    rays = vertex.rays
    return {
        "vertex_chance": vertex.chance,
        "vertex_from_end": 1e3 * min(along, path.length - along),
        "vertex_density": float(charge[near].sum() / (1e3 * radius * middle)) if middle > 0 else _NAN,
        "forward": rays.forward,
        "ray_quality": rays.quality,
        "ray_overlap": rays.overlap,
        "separable": arms.separable,
        "opening": float(np.degrees(rays.opening)) if arms.separable else _NAN,
    }
