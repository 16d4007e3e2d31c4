"""What the transport writes down: points, interactions and particles, and the stack of those that wait.

Lengths are cm, energies keV. A ray is an array of kinetic energy (of a photon: energy), position (3), direction (3), number of
the particle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.lartpc.simulation.dice import turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "EVENTS", "FULL", "PARTICLES", "POINTS", "STACK", "Record", "add_event", "add_particle", "advance", "deposit", "flush",
]  # fmt: skip

POINTS, EVENTS, PARTICLES, STACK, FULL = 0, 1, 2, 3, 4
"""Places in `Record.counts`."""


class Record(NamedTuple):
    """What the transport writes; the caller gives the room for it.

    Parameters
    ----------
    points : ndarray, shape (most_points, 5)
        Position (3), energy deposited, path that it stands for.
    owners : ndarray of int32, shape (most_points,)
        Which particle deposited it.
    events : ndarray, shape (most_events, 5)
        Place of the kind in `INTERACTION_KINDS`, energy, position.
    actors : ndarray of int32, shape (most_events,)
        Which particle interacted.
    particles : ndarray of int32, shape (most_particles, 3)
        Parent, PDG number, place of the creator in `INTERACTION_KINDS` or 6 for the primary.
    births : ndarray, shape (most_particles, 4)
        Kinetic energy and direction at birth.
    paths : ndarray, shape (most_particles,)
        Length of the path of charged particles.
    counts : ndarray of int64, shape (5,)
        Points, events, particles, rays on the stack, and 1 if there was not enough room.
    """

    points: NDArray[np.float64]
    owners: NDArray[np.int32]
    events: NDArray[np.float64]
    actors: NDArray[np.int32]
    particles: NDArray[np.int32]
    births: NDArray[np.float64]
    paths: NDArray[np.float64]
    counts: NDArray[np.int64]


@kernel
def _point(record: Record, x: float, y: float, z: float, energy: float, path: float, owner: int) -> None:
    count = record.counts[POINTS]
    if count >= record.owners.size:
        record.counts[FULL] = 1
        return
    row = record.points[count]
    row[0], row[1], row[2], row[3], row[4] = x, y, z, energy, path
    record.owners[count] = owner
    record.counts[POINTS] = count + 1


@kernel
def add_event(record: Record, kind: int, energy: float, ray: Floats) -> None:
    """Write down an interaction of a ray, where it is."""
    count = record.counts[EVENTS]
    if count >= record.actors.size:
        record.counts[FULL] = 1
        return
    row = record.events[count]
    row[0], row[1], row[2], row[3], row[4] = kind, energy, ray[1], ray[2], ray[3]
    record.actors[count] = np.int32(ray[7])
    record.counts[EVENTS] = count + 1


@kernel
def add_particle(
    record: Record,
    stack: Floats,
    ray: Floats,
    pdg: int,
    creator: int,
    energy: float,
    cosine: float,
    azimuth: float,
) -> None:
    """Put a new particle on the stack that leaves `ray` under an angle."""
    number, height = record.counts[PARTICLES], record.counts[STACK]
    if number >= record.paths.size or height >= stack.shape[0]:
        record.counts[FULL] = 1
        return
    new = stack[height]
    new[:] = ray
    new[0], new[7] = energy, number
    turn(new, cosine, azimuth)
    record.particles[number, 0] = np.int32(ray[7])
    record.particles[number, 1] = pdg
    record.particles[number, 2] = creator
    record.births[number, 0] = energy
    record.births[number, 1:] = new[4:7]
    record.paths[number] = 0.0
    record.counts[PARTICLES] = number + 1
    record.counts[STACK] = height + 1


@kernel
def flush(record: Record, pending: Floats, owner: int) -> None:
    """Write down the energy that was collected since the last point, at its mean position."""
    energy = pending[1]
    if energy > 0:
        x, y, z = pending[2] / energy, pending[3] / energy, pending[4] / energy
        _point(record, x, y, z, energy, pending[0], owner)
    pending[:] = 0.0


@kernel
def advance(
    record: Record, ray: Floats, pending: Floats, length: float, energy: float, spacing: float
) -> None:
    """Move a ray straight on and spread a loss evenly over the way."""
    owner = int(ray[7])
    record.paths[owner] += length
    done = 0.0
    while done < length:
        piece = min(length - done, spacing - pending[0])
        middle, part = done + 0.5 * piece, energy * (piece / length)
        pending[0] += piece
        pending[1] += part
        pending[2] += part * (ray[1] + middle * ray[4])
        pending[3] += part * (ray[2] + middle * ray[5])
        pending[4] += part * (ray[3] + middle * ray[6])
        if pending[0] >= spacing * (1 - 1e-9):
            flush(record, pending, owner)
        done += piece
        if piece <= 1e-15 * length:
            break
    ray[1] += length * ray[4]
    ray[2] += length * ray[5]
    ray[3] += length * ray[6]


@kernel
def deposit(pending: Floats, ray: Floats, energy: float) -> None:
    """Add energy where a ray is to what the next point will have."""
    pending[1] += energy
    pending[2] += energy * ray[1]
    pending[3] += energy * ray[2]
    pending[4] += energy * ray[3]
