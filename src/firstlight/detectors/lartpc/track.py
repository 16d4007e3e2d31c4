"""A track: the charge that one primary particle frees in liquid argon, and what is known of how it came about.

Lengths are metres, energies keV, charges whole electrons after recombination. The order of points is kept as it was
written: files of the PENELOPE chain hold truth in it (a pair is the positron with all that follows, then the electron).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ELECTRON_MASS", "INTERACTION_KINDS", "PARTICLES", "Arm", "Interactions", "Track", "Truth"]

ELECTRON_MASS = 510.99895  # keV
# numbers of the Particle Data Group
PARTICLES = {"electron": 11, "positron": -11, "photon": 22}
# the first four are those of the original truth record
INTERACTION_KINDS = ("brem", "photo", "compton", "pair", "delta", "annihilation")


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

    @property
    def radiated(self) -> float:
        """Share of the energy that went into bremsstrahlung photons of all generations."""
        return float(self.interactions.of("brem").energy.sum() / self.energy)


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
        Energy deposited at each point [keV].
    particle_id, parent_id, pdg : ndarray of int32, shape (n_points,), optional
        Which particle deposited it (0 is the primary), which made that one (-1: none), and what it is.
    creator : ndarray of str, shape (n_points,), optional
        Process that made the particle: of `INTERACTION_KINDS`, or ``"primary"``.
    bin_size : float
        Edge of the cubes into which points were put together [m]; 0 where they were not.

    Raises
    ------
    InputError
        If lengths disagree, a position is not finite or a charge is negative; the first such point is named.
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
        bad = ~np.isfinite(self.positions).all(axis=0)
        if bad.any():
            point = int(np.flatnonzero(bad)[0])
            what = (
                f"position of point {point} is {self.positions[:, point].tolist()} m; {bad.sum()} such points"
            )
            raise InputError(what, where=place)
        if (self.num_e < 0).any():
            point = int(np.flatnonzero(self.num_e < 0)[0])
            what = (
                f"num_e of point {point} is {self.num_e[point]}: charges are numbers of electrons, 0 or more"
            )
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
