"""The same tracks from Geant4, where `geant4_pybind` is installed and the data sets of Geant4 are there.

The package is on PyPI; the data sets (G4EMLOW and others) are not, and nothing is downloaded here: their folder is named by
the environment variable GEANT4_DATA_DIR. The tests feed this module with steps of a stand-in; they do not run Geant4.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.simulation.conditions import Conditions, charges_of
from firstlight.detectors.lartpc.track import (
    ELECTRON_MASS,
    INTERACTION_KINDS,
    PARTICLES,
    Arm,
    Interactions,
    Track,
    Truth,
)
from firstlight.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

__all__ = ["PROCESSES", "Collected", "collect", "simulate_tracks", "track_of"]

PROCESSES = {
    "eBrem": "brem",
    "phot": "photo",
    "compt": "compton",
    "conv": "pair",
    "eIoni": "delta",
    "annihil": "annihilation",
}
"""Processes of Geant4 by the name that they have in a truth record."""
_DATA = ("G4EMLOW", "G4ENSDFSTATE")
_HALF = 100_000.0  # mm, of the box of argon: no photon leaves it
_SESSION: dict[str, Any] = {}  # Geant4 can be set up once in a process


@dataclass
class Collected:
    """What the steps of an event leave: rows of points, interactions, and births of particles by their number."""

    points: list[tuple[float, float, float, float, int, int, int, str]] = field(default_factory=list)
    interactions: list[tuple[str, float, float, float, float, int]] = field(default_factory=list)
    arms: list[Arm] = field(default_factory=list)


def _package() -> Any:
    """Return the package; raise an error that says what is missing, before it can ask to download anything."""
    folder = os.environ.get("GEANT4_DATA_DIR", "")
    there = sorted(path.name for path in Path(folder).iterdir()) if folder and Path(folder).is_dir() else []
    if importlib.util.find_spec("geant4_pybind") is None:
        what = "geant4_pybind is not installed"
        raise UsageError(what, hint="python -m pip install geant4_pybind, and the data sets of Geant4")
    missing = [name for name in _DATA if not any(entry.startswith(name) for entry in there)]
    if missing:
        what = f"Geant4 has no data sets: {' and '.join(missing)} not found in GEANT4_DATA_DIR = {folder!r}"
        raise UsageError(what, known=there, hint="the own transport, simulation.generate, needs none")
    return importlib.import_module("geant4_pybind")


def collect(step: Any, record: Collected) -> None:
    """Take from a step of Geant4 what it deposits and what happens at its end.

    Parameters
    ----------
    step : G4Step
        Lengths in mm, energies in MeV.
    record : Collected
        Is added to.
    """
    track, before, after = step.GetTrack(), step.GetPreStepPoint(), step.GetPostStepPoint()
    number, pdg = track.GetTrackID() - 1, track.GetDefinition().GetPDGEncoding()
    end = after.GetPosition()
    process = after.GetProcessDefinedStep()
    kind = PROCESSES.get(process.GetProcessName()) if process is not None else None
    creator = track.GetCreatorProcess()
    made = "primary" if creator is None else PROCESSES.get(creator.GetProcessName(), "delta")
    deposit = 1e3 * step.GetTotalEnergyDeposit()
    if deposit > 0:
        start = before.GetPosition()
        # neutral particles deposit where they interact, charged ones along their way
        share = 1.0 if pdg == PARTICLES["photon"] else 0.5
        place = [1e-3 * ((1 - share) * getattr(start, axis) + share * getattr(end, axis)) for axis in "xyz"]
        record.points.append((*place, deposit, number, track.GetParentID() - 1, pdg, made))
    secondaries = step.GetSecondaryInCurrentStep()
    if kind is None or (kind in ("brem", "delta") and not secondaries):
        return
    energy = 1e3 * before.GetKineticEnergy()
    if kind == "compton":
        energy -= 1e3 * after.GetKineticEnergy()
    elif kind == "pair":
        energy -= 2 * ELECTRON_MASS
    elif kind == "annihilation":
        energy = 1e3 * sum(new.GetKineticEnergy() for new in secondaries)
    elif kind in ("brem", "delta"):
        energy = 1e3 * max(new.GetKineticEnergy() for new in secondaries)
    record.interactions.append((kind, energy, 1e-3 * end.x, 1e-3 * end.y, 1e-3 * end.z, number))
    if kind == "pair" and len(record.interactions) == 1 and number == 0:
        record.arms = [
            _arm(new)
            for new in secondaries
            if abs(new.GetDefinition().GetPDGEncoding()) == PARTICLES["electron"]
        ]
        record.arms.sort(key=lambda arm: arm.pdg)


def _arm(track: Any) -> Arm:
    way = track.GetMomentumDirection()
    return Arm(
        track.GetDefinition().GetPDGEncoding(),
        1e3 * track.GetKineticEnergy(),
        np.array([way.x, way.y, way.z]),
    )


def track_of(
    record: Collected,
    particle: str,
    energy: float,
    direction: np.ndarray[Any, Any],
    conditions: Conditions,
    rng: np.random.Generator,
    name: str = "",
    **meta: Any,
) -> Track:
    """Return what was collected of an event as a track; `energy` [keV], `direction` shape (3,)."""
    rows = record.points
    positions = np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3).T.copy()
    deposits = np.array([row[3] for row in rows], dtype=np.float64)
    owners, parents, pdg = (np.array([row[k] for row in rows], dtype=np.int32) for k in (4, 5, 6))
    interactions = Interactions(
        np.array([row[0] for row in record.interactions], dtype="U12"),
        np.array([row[1] for row in record.interactions], dtype=np.float64),
        np.array([row[2:5] for row in record.interactions], dtype=np.float64).reshape(-1, 3).T.copy(),
        np.array([row[5] for row in record.interactions], dtype=np.int32),
    )
    origin, first = np.zeros(3), ""
    own = np.flatnonzero((interactions.particle_id == 0) & np.isin(interactions.kind, INTERACTION_KINDS[1:4]))
    if particle == "photon" and own.size:
        origin, first = interactions.position[:, own[0]].copy(), str(interactions.kind[own[0]])
    told = {
        "source": "Geant4",
        "material": "LAr",
        "density": conditions.mass_density,
        "temperature": conditions.temperature,
        "field": conditions.field,
        "charge_model": conditions.charge_model,
        "charge_scale": 1.0,
        "energy_deposited": math.fsum(deposits),
        **meta,
    }
    return Track(
        positions,
        charges_of(positions, deposits, owners, conditions, rng),
        Truth(particle, energy, origin, direction, first, interactions, tuple(record.arms)),
        told,
        name,
        energy=deposits.astype(np.float32),
        particle_id=owners,
        parent_id=parents,
        pdg=pdg,
        creator=np.array([row[7] for row in rows], dtype="U12"),
    )


def simulate_tracks(
    particle: str,
    energy_keV: float,
    n: int,
    seed: int = 0,
    *,
    conditions: Conditions | None = None,
    direction: ArrayLike | None = None,
) -> Iterator[Track]:
    """Yield tracks of Geant4 with the Penelope models.

    Parameters
    ----------
    particle : {"electron", "positron", "photon"}
        The primary.
    energy_keV : float
        Its kinetic energy.
    n : int
        How many.
    seed : int
        Track k has seeds of its own.
    conditions : Conditions, optional
        Density, longest step and charge model are used; the density must be the same for all tracks of a process.
    direction : array_like, shape (3,), optional
        At random if not given.

    Raises
    ------
    UsageError
        If `geant4_pybind` is not installed or the data sets are not there, or if another density is asked for than
        before.
    ConfigError
        If a value is impossible.

    Notes
    -----
    Rows stand in the order of Geant4's stack, which is last in, first out, but not always the positron of a pair first.
    """
    from firstlight.detectors.lartpc.simulation.generate import direction_of

    if particle not in PARTICLES:
        raise ConfigError.unknown("particle", particle, PARTICLES)
    settings = conditions or Conditions()
    g4 = _package()
    session = _session(g4, settings)
    for number in range(n):
        sequence = np.random.SeedSequence(seed, spawn_key=(number,))
        own, rest = sequence.spawn(2)
        rng = np.random.default_rng(rest)
        unit = direction_of(direction, rng)
        g4.G4Random.setTheSeeds([int(word) >> 1 for word in own.generate_state(2)])
        record = Collected()
        session["record"] = record
        gun = session["gun"]
        gun.SetParticleDefinition(g4.G4ParticleTable.GetParticleTable().FindParticle(PARTICLES[particle]))
        gun.SetParticleEnergy(1e-3 * energy_keV)
        gun.SetParticleMomentumDirection(g4.G4ThreeVector(*(float(part) for part in unit)))
        session["manager"].BeamOn(1)
        name = f"{particle}-{energy_keV:g}keV-{number}"
        yield track_of(
            record,
            particle,
            float(energy_keV),
            unit,
            settings,
            rng,
            name,
            seed=[seed, number],
            software="Geant4",
        )


def _session(g4: Any, settings: Conditions) -> dict[str, Any]:
    """Return the run manager of this process with what belongs to it, made when it is first needed."""
    wanted = (settings.mass_density, settings.longest_step)
    if _SESSION:
        if _SESSION["wanted"] != wanted:
            what = f"Geant4 was set up with density and longest step {_SESSION['wanted']}, now {wanted} are asked for"
            raise UsageError(what, hint="another process: Geant4 can be set up once in each")
        return _SESSION
    density, longest = wanted

    class Geometry(g4.G4VUserDetectorConstruction):  # type: ignore[misc]
        def Construct(self) -> Any:
            nist = g4.G4NistManager.Instance()
            argon = nist.BuildMaterialWithNewDensity("LAr", "G4_lAr", density * g4.g / g4.cm3)
            box = g4.G4Box("argon", _HALF, _HALF, _HALF)
            logical = g4.G4LogicalVolume(box, argon, "argon")
            self.limits = g4.G4UserLimits(1e3 * longest)
            logical.SetUserLimits(self.limits)
            return g4.G4PVPlacement(None, g4.G4ThreeVector(), logical, "argon", None, False, 0)

    class Primaries(g4.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
        def GeneratePrimaries(self, event: Any) -> None:
            _SESSION["gun"].GeneratePrimaryVertex(event)

    class Steps(g4.G4UserSteppingAction):  # type: ignore[misc]
        def UserSteppingAction(self, step: Any) -> None:
            collect(step, _SESSION["record"])

    class Actions(g4.G4VUserActionInitialization):  # type: ignore[misc]
        def Build(self) -> None:
            self.SetUserAction(Primaries())
            self.SetUserAction(Steps())

    physics = g4.G4VModularPhysicsList()
    physics.RegisterPhysics(g4.G4EmPenelopePhysics())
    physics.RegisterPhysics(g4.G4StepLimiterPhysics())
    physics.SetDefaultCutValue(1e-3)
    manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
    _SESSION.update(wanted=wanted, manager=manager, kept=(Geometry(), physics, Actions()))
    for part in _SESSION["kept"]:
        manager.SetUserInitialization(part)
    manager.Initialize()
    _SESSION["gun"] = g4.G4ParticleGun(1)
    return _SESSION
