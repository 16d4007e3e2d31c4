"""Tracks from the transport: one event, or many, as values of `Track` with their truth."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.simulation.conditions import CHARGE_MODELS, Conditions, charges_of
from firstlight.detectors.lartpc.track import (
    INTERACTION_KINDS,
    PARTICLES,
    Arm,
    Interactions,
    Track,
    Truth,
)
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.lartpc.simulation.record import Record

    Seed = int | np.random.SeedSequence | np.random.Generator

__all__ = [
    "CHARGE_MODELS",
    "HIGHEST_ENERGY",
    "Conditions",
    "charges_of",
    "direction_of",
    "simulate_track",
    "simulate_tracks",
    "transport",
]

HIGHEST_ENERGY = 100_000.0  # keV
_LOWEST_ENERGY = 1.0
_CREATORS = np.array([*INTERACTION_KINDS, "primary"])
_MOST_POINTS = 20_000_000


def simulate_track(
    particle: str,
    energy_keV: float,
    seed: Seed = 0,
    *,
    conditions: Conditions | None = None,
    direction: ArrayLike | None = None,
    name: str = "",
    **changes: Any,
) -> Track:
    """Simulate one particle in argon without end, with all that it makes.

    Parameters
    ----------
    particle : {"electron", "positron", "photon"}
        The primary.
    energy_keV : float
        Its kinetic energy, 1 keV to 100 MeV.
    seed : int, SeedSequence or Generator
        Fixes the event to the last bit. A generator is asked for one number.
    conditions : Conditions, optional
        Argon, field and limits.
    direction : array_like, shape (3,), optional
        In which it sets out; drawn at random over all directions if not given.
    name : str
        Name of the track.
    **changes
        Fields of `Conditions` that are to be otherwise: ``density=1.27, charge_model="box"``.

    Returns
    -------
    Track
        It begins at 0. The origin of the truth is 0 for charged particles, and for photons the place of the first interaction,
        as in the PENELOPE sample; so is the order of the points: newest particle first, of a pair the positron with all
        that it makes before the electron. Energies of points add up to the energy of the primary (and 1022 keV for a
        positron); ``meta["energy_deposited"]`` has the sum without the rounding of the column.

    Raises
    ------
    ConfigError
        If the particle is unknown or a value impossible.

    Examples
    --------
    >>> track = simulate_track("electron", 1000.0, seed=1)
    >>> round(track.meta["energy_deposited"], 9)
    1000.0
    """
    settings = _settings(conditions, changes)
    _check(particle, energy_keV)
    sequence = _sequence(seed)
    own, rest = sequence.spawn(2)
    rng = np.random.default_rng(rest)
    unit = direction_of(direction, rng)
    record = transport(particle, float(energy_keV), unit, settings, own)
    return _track(
        record,
        particle,
        float(energy_keV),
        unit,
        settings,
        rng,
        name or _name(particle, energy_keV),
        sequence,
    )


def simulate_tracks(
    particle: str,
    energy_keV: float,
    n: int,
    seed: int | np.random.SeedSequence = 0,
    *,
    first: int = 0,
    conditions: Conditions | None = None,
    direction: ArrayLike | None = None,
    **changes: Any,
) -> Iterator[Track]:
    """Yield simulated tracks; track k is the same however many there are.

    Parameters
    ----------
    particle, energy_keV, conditions, direction, **changes
        As for `simulate_track`.
    n : int
        How many.
    seed : int or SeedSequence
        Track k has the k-th child of it.
    first : int
        Number of the first: parts of a set can be made in different processes.
    """
    settings = _settings(conditions, changes)
    _check(particle, energy_keV)
    if n < 0 or first < 0:
        what = f"n = {n} tracks from {first} on cannot be made"
        raise ConfigError(what, hint="0 or more")
    if isinstance(seed, np.random.SeedSequence):
        entropy, key = seed.entropy, tuple(seed.spawn_key)
    else:
        entropy, key = _sequence(seed).entropy, ()

    def tracks() -> Iterator[Track]:
        for k in range(first, first + n):
            child = np.random.SeedSequence(entropy, spawn_key=(*key, k))
            name = f"{_name(particle, energy_keV)}-{k}"
            yield simulate_track(
                particle, energy_keV, child, conditions=settings, direction=direction, name=name
            )

    return tracks()


# ---------------------------------------------------------------- what is asked for


def _settings(conditions: Conditions | None, changes: dict[str, Any]) -> Conditions:
    from dataclasses import fields, replace

    known = [each.name for each in fields(Conditions)]
    for name in changes:
        if name not in known:
            raise ConfigError.unknown("parameter", name, known)
    return replace(conditions or Conditions(), **changes)


def _check(particle: str, energy: float) -> None:
    if particle not in PARTICLES:
        raise ConfigError.unknown("particle", particle, PARTICLES)
    if not _LOWEST_ENERGY <= energy <= HIGHEST_ENERGY:
        what = f"{particle} of {energy:g} keV: it cannot be simulated"
        raise ConfigError(what, hint=f"{_LOWEST_ENERGY:g} to {HIGHEST_ENERGY:g} keV")


def _sequence(seed: Seed) -> np.random.SeedSequence:
    if isinstance(seed, np.random.SeedSequence):
        # a copy: what a sequence spawns depends on what it has spawned before
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size)
    if isinstance(seed, np.random.Generator):
        return np.random.SeedSequence(int(seed.integers(2**63)))
    if seed < 0:
        what = f"seed = {seed} cannot be"
        raise ConfigError(what, hint="0 or more")
    return np.random.SeedSequence(int(seed))


def direction_of(direction: ArrayLike | None, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a unit vector along `direction`, or in any direction; raise `ConfigError` if there is none."""
    if direction is None:
        cosine, azimuth = 2 * rng.random() - 1, 2 * np.pi * rng.random()
        sine = math.sqrt(1 - cosine * cosine)
        return np.array([sine * math.cos(azimuth), sine * math.sin(azimuth), cosine])
    unit = np.asarray(direction, dtype=np.float64)
    length = float(np.linalg.norm(unit)) if unit.shape == (3,) else float("nan")
    if not (math.isfinite(length) and length > 0):
        what = f"direction = {np.asarray(direction).tolist()} is none"
        raise ConfigError(what, hint="three numbers, not all of them 0")
    return unit / length


def _name(particle: str, energy: float) -> str:
    return f"{particle}-{energy:g}keV"


# ---------------------------------------------------------------- transport


def _room(n_points: int, n_others: int) -> Record:
    from firstlight.detectors.lartpc.simulation.record import Record

    return Record(
        np.empty((n_points, 5)),
        np.empty(n_points, dtype=np.int32),
        np.empty((n_others, 5)),
        np.empty(n_others, dtype=np.int32),
        np.empty((n_others, 3), dtype=np.int32),
        np.empty((n_others, 4)),
        np.empty(n_others),
        np.zeros(5, dtype=np.int64),
    )


def transport(
    particle: str,
    energy: float,
    direction: NDArray[np.float64],
    conditions: Conditions,
    seed: np.random.SeedSequence,
) -> Record:
    """Return what a particle does, as the kernel writes it down: for questions that a `Track` does not answer.

    Parameters
    ----------
    particle : {"electron", "positron", "photon"}
        The primary.
    energy : float
        Kinetic energy [keV].
    direction : ndarray, shape (3,)
        Unit vector.
    conditions : Conditions
        Argon and limits.
    seed : SeedSequence
        Of the random numbers.

    Returns
    -------
    Record
        Lengths in cm; arrays cut to what was written.

    Raises
    ------
    ConfigError
        If there are more points than can be kept.
    """
    from firstlight.detectors.lartpc.simulation.dice import start
    from firstlight.detectors.lartpc.simulation.kernels import Steps, follow

    found = _tables(
        conditions.mass_density, conditions.excitation, conditions.collision_cut, conditions.photon_cut
    )
    steps = Steps(
        conditions.energy_step, 100 * conditions.longest_step, 100 * conditions.point_spacing, conditions.stop
    )
    # 4 MeV cm2/g: less than any slow electron loses, more than most of the path does
    path = energy / (1300.0 * conditions.mass_density) / steps.spacing
    n_points, n_others = int(1.3 * path + 0.2 * energy + 500), int(energy / 20 + 200)
    while True:
        record = _room(n_points, n_others)
        # from the same state: an event that found too little room is made again, and is the same
        follow(PARTICLES[particle], energy, direction, found, steps, record, start(seed))
        if not record.counts[4]:
            break
        n_points, n_others = 2 * n_points, 2 * n_others
        if n_points > _MOST_POINTS:
            what = f"{particle} of {energy:g} keV: it makes more than {_MOST_POINTS:,} points"
            raise ConfigError(what, hint="a larger point_spacing")
    points, events, particles = record.counts[:3]
    return record._replace(
        points=record.points[:points],
        owners=record.owners[:points],
        events=record.events[:events],
        actors=record.actors[:events],
        particles=record.particles[:particles],
        births=record.births[:particles],
        paths=record.paths[:particles],
    )


@lru_cache(maxsize=8)
def _tables(density: float, excitation: float, collision_cut: float, photon_cut: float) -> Any:
    from firstlight.detectors.lartpc.simulation.tables import tables

    return tables(density, excitation=excitation, collision_cut=collision_cut, photon_cut=photon_cut)


# ---------------------------------------------------------------- the track


def _track(
    record: Record,
    particle: str,
    energy: float,
    unit: NDArray[np.float64],
    settings: Conditions,
    rng: np.random.Generator,
    name: str,
    sequence: np.random.SeedSequence,
) -> Track:
    positions = np.ascontiguousarray(record.points[:, :3].T) * 0.01
    deposits, owners = record.points[:, 3], record.owners
    num_e = charges_of(positions, deposits, owners, settings, rng, record)
    meta = {
        "source": "firstlight transport",
        "material": "LAr",
        "density": settings.mass_density,
        "temperature": settings.temperature,
        "field": settings.field,
        "charge_model": settings.charge_model,
        "charge_scale": 1.0,
        "seed": _words(sequence),
        "software": _software(),
        "excitation": settings.excitation,
        "collision_cut": settings.collision_cut,
        "photon_cut": settings.photon_cut,
        "point_spacing": settings.point_spacing,
        "energy_deposited": math.fsum(deposits),
        "primary_path": float(record.paths[0]) * 0.01,
    }
    return Track(
        positions,
        num_e,
        _truth(record, particle, energy, unit),
        meta,
        name,
        energy=deposits.astype(np.float32),
        particle_id=owners.copy(),
        parent_id=record.particles[owners, 0],
        pdg=record.particles[owners, 1],
        creator=_CREATORS[record.particles[owners, 2]],
    )


def _words(sequence: np.random.SeedSequence) -> list[int]:
    """Return entropy and spawn key as plain numbers."""
    return [
        int(word)
        for word in (*np.atleast_1d(np.asarray(sequence.entropy, dtype=object)), *sequence.spawn_key)
    ]


@lru_cache(maxsize=1)
def _software() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"firstlight {version('firstlight')}"
    except PackageNotFoundError:
        return "firstlight"


def _truth(record: Record, particle: str, energy: float, unit: NDArray[np.float64]) -> Truth:
    kinds, places = record.events[:, 0].astype(np.int64), record.events[:, 2:].T * 0.01
    interactions = Interactions(
        _CREATORS[kinds],
        np.ascontiguousarray(record.events[:, 1]),
        np.ascontiguousarray(places),
        record.actors.copy(),
    )
    origin, first = np.zeros(3), ""
    arms: tuple[Arm, ...] = ()
    if particle == "photon":
        # the first one recorded: a photon is followed first, and coherent scattering is no interaction here
        origin, first = places[:, 0].copy(), str(interactions.kind[0])
        if first == "pair":
            arms = _arms(record)
    return Truth(particle, energy, origin, unit, first, interactions, arms)


def _arms(record: Record) -> tuple[Arm, ...]:
    own = np.flatnonzero(
        (record.particles[:, 0] == 0) & (record.particles[:, 2] == INTERACTION_KINDS.index("pair"))
    )
    # positron first: the lower number of the PDG
    own = own[np.argsort(record.particles[own, 1])]
    return tuple(
        Arm(int(record.particles[row, 1]), float(record.births[row, 0]), record.births[row, 1:].copy())
        for row in own
    )
