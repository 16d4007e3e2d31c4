"""A track: the charge that one primary particle frees in liquid argon, and what is known of how it came about.

Lengths are metres, energies keV, charges whole electrons after recombination. The order of points is kept as it was
written: files of the PENELOPE chain hold truth in it (a pair is the positron with all that follows, then the electron).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "BELOW_ZERO", "ELECTRON_MASS", "FARTHEST", "HIGHEST_ENERGY", "INTERACTION_KINDS", "MOST_ELECTRONS", "PARTICLES", "Arm",
    "Interactions", "Track", "Truth",
]  # fmt: skip

ELECTRON_MASS = 510.99895  # keV
# numbers of the Particle Data Group
PARTICLES = {"electron": 11, "positron": -11, "photon": 22}
# the first four are those of the original truth record
INTERACTION_KINDS = ("brem", "photo", "compton", "pair", "delta", "annihilation")
# what is beyond was never an event in argon, and would take memory without end
FARTHEST = 1000.0  # m
HIGHEST_ENERGY = 1e12  # keV
MOST_ELECTRONS = 10**12
# files have kinetic energies of pairs as E - 1022 keV, which is 2 eV too little
BELOW_ZERO = -0.01  # keV
_UNIT_LENGTH = 1e-3


@dataclass(frozen=True)
class Interactions:
    """Interactions of an event in the order in which they were written.

    Parameters
    ----------
    kind : ndarray of str, shape (n,)
        Of `INTERACTION_KINDS`.
    energy : ndarray, shape (n,)
        Energy that changed hands [keV]: of the photon for bremsstrahlung, of the electron for Compton scattering and
        for delta rays, kinetic energy of both for a pair (E - 1022), of the photon for photoelectric absorption.
    position : ndarray, shape (3, n)
        Where [m].
    particle_id : ndarray of int32, shape (n,)
        Which particle interacted; -1 where the file does not say.
    """

    kind: NDArray[np.str_]
    energy: NDArray[np.float64]
    position: NDArray[np.float64]
    particle_id: NDArray[np.int32]

    @classmethod
    def none(cls) -> Interactions:
        """Return an empty record."""
        return cls(np.array([], dtype="U12"), np.zeros(0), np.zeros((3, 0)), np.zeros(0, dtype=np.int32))

    def __len__(self) -> int:
        return self.kind.size

    def of(self, kind: str, above: float = 0.0) -> Interactions:
        """Return those of a kind with more than an energy [keV]."""
        keep = (self.kind == kind) & (self.energy > above)
        return Interactions(
            self.kind[keep], self.energy[keep], self.position[:, keep], self.particle_id[keep]
        )


@dataclass(frozen=True)
class Arm:
    """One of the two particles of a pair: its number, kinetic energy [keV] and direction, shape (3,)."""

    pdg: int
    kinetic_energy: float
    direction: NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What is known of the primary particle.

    Parameters
    ----------
    particle : str
        Of `PARTICLES`.
    energy : float
        Kinetic energy [keV].
    origin : ndarray, shape (3,)
        First point of an electron; of a photon the first interaction that deposits energy [m].
    direction : ndarray, shape (3,)
        Unit vector in which it set out.
    first_interaction : str
        ``"compton"``, ``"pair"``, ``"photo"`` of a photon; ``""`` of an electron, or where it is not known.
    interactions : Interactions
        All that are recorded.
    arms : tuple of Arm
        Positron and electron of a photon that converted first; empty where that is not recorded.
    """

    particle: str
    energy: float
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]
    first_interaction: str = ""
    interactions: Interactions = field(default_factory=Interactions.none)
    arms: tuple[Arm, ...] = ()

    def check(self, where: str | Path | None = None, *, keys: Mapping[str, str] | None = None) -> None:
        """Raise `InputError` if no particle can have done this.

        Parameters
        ----------
        where : str or Path, optional
            Stands in the message.
        keys : mapping of str to str, optional
            How a file calls ``energy``, ``origin``, ``direction``, for the message.

        Raises
        ------
        InputError
            If the energy is not above 0, the direction not of length 1, the origin or an interaction not at a place, the
            energy of an interaction or an arm negative, or any of them not finite or beyond `HIGHEST_ENERGY`, `FARTHEST`.
        """
        keys = keys or {}
        if not 0 < self.energy <= HIGHEST_ENERGY:
            _impossible(keys.get("energy", "energy"), f"{self.energy:g} keV", "energies are above 0", where)
        if not _is_place(self.origin):
            rule = f"places are within {FARTHEST:g} m"
            _impossible(keys.get("origin", "origin"), f"{self.origin.tolist()} m", rule, where)
        if not _is_unit(self.direction):
            rule = "directions are vectors of length 1"
            _impossible(keys.get("direction", "direction"), f"{self.direction.tolist()}", rule, where)
        found = self.interactions
        bad = ~((found.energy >= BELOW_ZERO) & (found.energy <= HIGHEST_ENERGY))
        bad |= ~(np.abs(found.position) <= FARTHEST).all(axis=0)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            value = f"{found.energy[first]:g} keV at {found.position[:, first].tolist()} m"
            rule = f"energies are 0 or more, places within {FARTHEST:g} m"
            _impossible(f"interaction {first} ({found.kind[first]})", value, rule, where)
        for arm in self.arms:
            if not 0 <= arm.kinetic_energy <= HIGHEST_ENERGY:
                _impossible(f"arm {arm.pdg}", f"{arm.kinetic_energy:g} keV", "energies are 0 or more", where)
            if arm.kinetic_energy > 0 and not _is_unit(arm.direction):
                rule = "directions are vectors of length 1"
                _impossible(f"arm {arm.pdg}", f"{arm.direction.tolist()}", rule, where)

    @property
    def radiated(self) -> float:
        """Share of the energy that went into bremsstrahlung photons of all generations."""
        return float(self.interactions.of("brem").energy.sum() / self.energy)


def _is_place(position: NDArray[np.float64]) -> bool:
    return position.shape == (3,) and bool((np.abs(position) <= FARTHEST).all())


def _is_unit(direction: NDArray[np.float64]) -> bool:
    # in this order: no square of a number that is too large for one
    return (
        direction.shape == (3,)
        and bool((np.abs(direction) <= 2.0).all())
        and abs(float(np.sqrt((direction**2).sum())) - 1.0) <= _UNIT_LENGTH
    )


def _impossible(key: str, value: str, rule: str, where: str | Path | None) -> NoReturn:
    what = f"{key!r} of the truth record is {value}: {rule}"
    raise InputError(what, where=where)


@dataclass(frozen=True)
class Track:
    """Points of freed charge, with their truth.

    Parameters
    ----------
    positions : ndarray of float64, shape (3, n_points)
        Where [m].
    num_e : ndarray of int64, shape (n_points,)
        Electrons that escaped recombination.
    truth : Truth or None
        None where no record of it was found.
    meta : mapping
        Where it comes from and what was assumed: ``source``, ``material``, ``density`` [g/cm3], ``temperature`` [K],
        ``charge_model``, ``charge_scale``, ``seed``, ``software``; plain values.
    name : str
        Name of the file without its endings, or of the event in a file of many.
    energy : ndarray of float32, shape (n_points,), optional
        Energy deposited at each point [keV]; NaN where it is not known.
    particle_id, parent_id, pdg : ndarray of int32, shape (n_points,), optional
        Which particle deposited it (0 is the primary), which made that one (-1: none), and what it is.
    creator : ndarray of str, shape (n_points,), optional
        Process that made the particle: of `INTERACTION_KINDS`, or ``"primary"``.
    bin_size : float
        Edge of the cubes into which points were put together [m]; 0 where they were not.

    Raises
    ------
    InputError
        If lengths disagree, a position is not finite or beyond `FARTHEST`, a charge or a deposit negative, or the sum of
        charges above `MOST_ELECTRONS`, the first such point is named; if the truth is impossible (`Truth.check`).
    """

    positions: NDArray[np.float64]
    num_e: NDArray[np.int64]
    truth: Truth | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    energy: NDArray[np.float32] | None = None
    particle_id: NDArray[np.int32] | None = None
    parent_id: NDArray[np.int32] | None = None
    pdg: NDArray[np.int32] | None = None
    creator: NDArray[np.str_] | None = None
    bin_size: float = 0.0

    def __post_init__(self) -> None:
        self.check()

    def check(self, where: str | Path | None = None) -> None:
        """Raise `InputError` if the arrays do not make a track; `where` stands in the message, or the name."""
        place = where or self.name or "track"
        if self.positions.ndim != 2 or self.positions.shape[0] != 3:
            what = f"positions have the shape {self.positions.shape}, not (3, n_points)"
            raise InputError(what, where=place)
        n_points = self.positions.shape[1]
        for name in ("num_e", "energy", "particle_id", "parent_id", "pdg", "creator"):
            values = getattr(self, name)
            if values is not None and values.shape != (n_points,):
                what = f"{name} has the shape {values.shape}, there are {n_points} positions"
                raise InputError(what, where=place)
        bad = ~(np.abs(self.positions) <= FARTHEST).all(axis=0)
        if bad.any():
            point = int(np.flatnonzero(bad)[0])
            what = (
                f"position of point {point} is {self.positions[:, point].tolist()} m; {bad.sum()} such points, "
                f"and no event in argon is larger than {FARTHEST:g} m"
            )
            raise InputError(what, where=place)
        self._check_charges(place)
        if self.truth is not None:
            self.truth.check(place)

    def _check_charges(self, place: str | Path) -> None:
        if (self.num_e < 0).any():
            point = int(np.flatnonzero(self.num_e < 0)[0])
            what = (
                f"num_e of point {point} is {self.num_e[point]}: charges are numbers of electrons, 0 or more"
            )
            raise InputError(what, where=place)
        # whole numbers of 64 bits may overflow
        total = float(self.num_e.sum(dtype=np.float64))
        if total > MOST_ELECTRONS:
            what = (
                f"num_e sums to {total:.4g} electrons: no event in argon has more than {MOST_ELECTRONS:.0e}"
            )
            raise InputError(what, where=place)
        if self.energy is None:
            return
        bad = (self.energy < 0) | (self.energy > HIGHEST_ENERGY)
        if bad.any():
            point = int(np.flatnonzero(bad)[0])
            what = f"energy of point {point} is {self.energy[point]:g} keV: deposits are 0 or more, or NaN where not known"
            raise InputError(what, where=place)

    def __len__(self) -> int:
        return int(self.positions.shape[1])

    def __repr__(self) -> str:
        what = f"{self.truth.energy / 1000:g} MeV {self.truth.particle}" if self.truth else "no truth"
        return f"Track({self.name!r}, {what}, {len(self):,} points, {self.charge:,} electrons)"

    @property
    def charge(self) -> int:
        """Sum of all electrons."""
        return int(np.sum(self.num_e))

    def with_charge(self, num_e: NDArray[np.int64], **meta: Any) -> Track:
        """Return the track with other charges; `meta` says how they came about."""
        return replace(self, num_e=num_e, meta={**self.meta, **meta})
