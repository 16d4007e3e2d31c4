"""Drift of freed electrons to the anode: capture on the way, diffusion, and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.medium import Medium

__all__ = ["Drifted", "drift", "split", "stream"]

_MOST_BUNCHES = 100_000_000
_BATCH = 1 << 18  # bunches that are moved at a time


@dataclass(frozen=True)
class Drifted:
    """Electrons, or bunches of them, that have arrived at the anode.

    Parameters
    ----------
    positions : ndarray of float64, shape (3, n_bunches)
        Position with its diffusion [m]. z is that of the track, diffused, as in the original; `time` says when a bunch arrives.
    num_e : ndarray of int64, shape (n_bunches,)
        Electrons that survived.
    time : ndarray of float64, shape (n_bunches,)
        Drift time of a bunch with its longitudinal diffusion [us].
    source : ndarray of int64, shape (n_bunches,)
        Point of the track that it comes from.
    medium : Medium
        What it drifted through.
    depth : float
        Drift length added to the distance between track and anode [m].
    anode : float
        z of the anode [m].
    bunch : float
        Most electrons that were moved together; 1 is every electron by itself, infinity whole points of the track.
    naive : bool
        Whether all drifted the same distance, `depth`.
    initial : int
        Electrons of the track.
    behind : int
        Of them those behind the anode, which do not drift.
    """

    positions: NDArray[np.float64]
    num_e: NDArray[np.int64]
    time: NDArray[np.float64]
    source: NDArray[np.int64]
    medium: Medium
    depth: float
    anode: float
    bunch: float
    naive: bool = False
    initial: int = 0
    behind: int = 0

    @property
    def charge(self) -> int:
        """Sum of all electrons that survived."""
        return int(self.num_e.sum())

    def __len__(self) -> int:
        return self.num_e.size


def stream(seed: int, *keys: int) -> np.random.Generator:
    """Return a generator of random numbers of its own for each event, whatever the order in which events are done.

    Parameters
    ----------
    seed : int
        Of the whole work.
    keys : int
        Number of the event, and of a step of it if there is more than one.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=keys))


def split(num_e: NDArray[np.int64], largest: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split charges into as few bunches as possible, as even as whole electrons allow.

    Parameters
    ----------
    num_e : ndarray of int64, shape (n,)
        Charges, 0 or more.
    largest : float
        Most electrons of a bunch, 1 or more.

    Returns
    -------
    bunches : ndarray of int64, shape (n_bunches,)
        Electrons of each bunch; the sum for each point is its charge, exactly.
    source : ndarray of int64, shape (n_bunches,)
        Point that each bunch comes from.

    Raises
    ------
    UsageError
        If there are more bunches than memory has room for.
    """
    if num_e.size and float(num_e.sum(dtype=np.float64)) / max(largest, 1.0) + num_e.size > _MOST_BUNCHES:
        what = f"{float(num_e.sum(dtype=np.float64)):.3g} electrons in bunches of {largest:g}"
        hint = f"at most {_MOST_BUNCHES:,} bunches: larger ones, or points moved whole"
        raise UsageError(what, hint=hint)
    whole = np.int64(min(np.floor(largest), np.iinfo(np.int64).max // 2))
    parts = -(-num_e // whole)
    source = np.repeat(np.arange(num_e.size), parts)
    if whole == 1:
        return np.ones(source.size, dtype=np.int64), source
    many = np.maximum(parts, 1)
    base, rest = num_e // many, num_e % many
    place = np.arange(source.size) - np.repeat(np.cumsum(parts) - parts, parts)
    return base[source] + (place < rest[source]), source


def _check(
    positions: NDArray[np.float64], num_e: NDArray[np.int64], depth: float, anode: float, bunch: float | None
) -> None:
    if positions.ndim != 2 or positions.shape[0] != 3 or num_e.shape != positions.shape[1:]:
        what = f"positions have the shape {positions.shape}, charges {num_e.shape}"
        raise InputError(what, hint="positions of shape (3, n_points) [m], and n_points charges")
    if not np.issubdtype(num_e.dtype, np.integer):
        what = f"charges are {num_e.dtype}, not whole numbers of electrons"
        raise InputError(what, hint="np.rint(charges).astype(np.int64)")
    if num_e.size and num_e.min() < 0:
        point = int(np.flatnonzero(num_e < 0)[0])
        what = f"the charge of point {point} is {num_e[point]} electrons"
        raise InputError(what, hint="charges are 0 or more")
    if not np.isfinite(positions).all():
        point = int(np.flatnonzero(~np.isfinite(positions).all(axis=0))[0])
        what = f"position of point {point} is {positions[:, point].tolist()} m"
        raise InputError(what)
    if bunch is not None and not bunch >= 1:
        what = f"bunches of {bunch} electrons"
        raise UsageError(what, hint="1 moves every electron by itself; None moves points of the track whole")
    if not np.isfinite(depth) or not np.isfinite(anode):
        what = f"depth {depth} m, anode at {anode} m"
        raise UsageError(what, hint="finite numbers of metres")


def drift(
    positions: NDArray[np.float64],
    num_e: NDArray[np.int64],
    medium: Medium,
    rng: np.random.Generator | int,
    *,
    anode: float,
    depth: float = 0.0,
    bunch: float | None = 1.0,
    naive: bool = False,
    batch: int = _BATCH,
) -> Drifted:
    """Drift electrons along z to the anode.

    Of every bunch a binomial number survives capture, and each is shifted by a Gaussian across and along the field. Bunches
    larger than one electron move together: the mean charge of a voxel is the same, but its variance grows with the size of the
    bunches. A voxel that holds each electron with a probability p has the variance n p (1 - p) electron by electron, and about
    n p (1 - p) b in bunches of b; the original takes half the noise of its pixels for b.

    Random numbers are drawn in the order of the points, so the result for a seed does not depend on `batch`. Where many
    tracks are done in any order or at the same time, give each its own `stream`.

    Parameters
    ----------
    positions : ndarray of float64, shape (3, n_points)
        Where charge was freed [m].
    num_e : ndarray of int64, shape (n_points,)
        Electrons at each point.
    medium : Medium
        What they drift through.
    rng : numpy.random.Generator or int
        Random numbers, or a seed.
    anode : float
        z of the anode [m]; electrons drift towards larger z.
    depth : float
        Drift length added for all [m].
    bunch : float, optional
        Most electrons moved together; None moves the points of the track whole.
    naive : bool
        All drift the distance `depth`, wherever they are.
    batch : int
        Bunches that are moved at a time: memory, not result.

    Returns
    -------
    Drifted
        Bunches of one electron or more, in the order of the points.

    Raises
    ------
    InputError
        If the points are no track, or all of them are behind the anode.
    UsageError
        If a parameter is impossible.
    """
    positions, num_e = np.asarray(positions, dtype=np.float64), np.asarray(num_e)
    _check(positions, num_e, depth, anode, bunch)
    num_e = num_e.astype(np.int64, copy=False)
    generator = np.random.default_rng(rng)
    distance = np.full(num_e.size, depth) if naive else anode + depth - positions[2]
    reach = distance >= 0 if naive else distance > 0
    initial = int(num_e.sum())
    behind = initial - int(num_e[reach].sum())
    if initial and behind == initial:
        what = f"all of the track is behind the anode at z = {anode + (0 if naive else depth):g} m (depth included)"
        hint = (
            f"a depth of more than {positions[2].min() - anode:g} m" if not naive else "a depth of 0 or more"
        )
        raise InputError(what, hint=hint)
    alive = np.where(reach, num_e, 0)
    share = medium.survival(np.where(reach, distance, 0.0))
    largest = np.inf if bunch is None else float(bunch)
    if largest < 2:
        # electron by electron: to draw the survivors of a point is the same, and much less to draw
        bunches, source = split(generator.binomial(alive, share), 1)
    else:
        bunches, source = split(alive, largest)
        bunches = generator.binomial(bunches, share[source])
        kept = bunches > 0
        bunches, source = bunches[kept], source[kept]
    across, along = medium.spread(np.where(reach, distance, 0.0))
    moved = np.empty((3, source.size))
    for start in range(0, source.size, batch):
        part = slice(start, start + batch)
        where = source[part]
        # one row of three for a bunch: the stream does not know where a batch ends
        shifts = generator.standard_normal((where.size, 3))
        for axis, spread in enumerate((across, across, along)):
            np.take(positions[axis], where, out=moved[axis, part])
            moved[axis, part] += shifts[:, axis] * spread[where]
    shift = moved[2] - positions[2, source]
    time = medium.drift_time(distance[source] - shift)
    return Drifted(moved, bunches, time, source, medium, depth, anode, largest, naive, initial, behind)
