"""The bridge to Geant4, without it: what it says when something is missing, and what it takes from steps."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from firstlight.detectors.lartpc.simulation import geant4
from firstlight.detectors.lartpc.simulation.generate import Conditions
from firstlight.errors import ConfigError, UsageError


def vector(x, y, z):
    return SimpleNamespace(x=x, y=y, z=z)


def process(name):
    return SimpleNamespace(GetProcessName=lambda: name)


def particle(number, parent, pdg, energy=0.0, creator=None, direction=(0, 0, 1)):
    return SimpleNamespace(
        GetTrackID=lambda: number,
        GetParentID=lambda: parent,
        GetDefinition=lambda: SimpleNamespace(GetPDGEncoding=lambda: pdg),
        GetCreatorProcess=lambda: creator,
        GetKineticEnergy=lambda: energy,
        GetMomentumDirection=lambda: vector(*direction),
    )


def step(track, start, end, deposit, energies, by, secondaries=()):
    def point(place, energy, name=None):
        return SimpleNamespace(
            GetPosition=lambda: vector(*place),
            GetKineticEnergy=lambda: energy,
            GetProcessDefinedStep=lambda: None if name is None else process(name),
        )

    return SimpleNamespace(
        GetTrack=lambda: track,
        GetPreStepPoint=lambda: point(start, energies[0]),
        GetPostStepPoint=lambda: point(end, energies[1], by),
        GetTotalEnergyDeposit=lambda: deposit,
        GetSecondaryInCurrentStep=lambda: list(secondaries),
    )


@pytest.fixture
def event():
    """A 5 MeV photon converts 100 mm on; the positron takes a step, its electron too and makes a delta ray."""
    record = geant4.Collected()
    pair = [particle(2, 1, 11, 1.5, process("conv")), particle(3, 1, -11, 2.478, process("conv"))]
    delta = particle(4, 2, 11, 0.02, process("eIoni"))
    geant4.collect(step(particle(1, 0, 22), (0, 0, 0), (0, 0, 100), 0, (5.0, 0.0), "conv", pair), record)
    geant4.collect(step(pair[1], (0, 0, 100), (0, 0, 100.2), 0.04, (2.478, 2.438), "StepLimiter"), record)
    geant4.collect(step(pair[0], (0, 0, 100), (0, 0.4, 100), 0.05, (1.5, 1.43), "eIoni", [delta]), record)
    geant4.collect(step(delta, (0, 0.4, 100), (0, 0.4, 100), 0.02, (0.02, 0), "eIoni"), record)
    return record


def test_event_becomes_a_track(event):
    unit = np.array([0.0, 0.0, 1.0])
    track = geant4.track_of(event, "photon", 5000.0, unit, Conditions(), np.random.default_rng(1), "event")
    np.testing.assert_allclose(track.positions[:, 0], [0, 0, 0.1001])
    np.testing.assert_allclose(track.positions[:, 1], [0, 0.0002, 0.1])
    np.testing.assert_allclose(track.energy, [40, 50, 20])
    assert track.particle_id.tolist() == [2, 1, 3]
    assert track.parent_id.tolist() == [0, 0, 1]
    assert track.pdg.tolist() == [-11, 11, 11]
    assert track.creator.tolist() == ["pair", "pair", "delta"]
    assert track.charge == pytest.approx(110 * 29.66, rel=0.05)
    truth = track.truth
    assert truth.first_interaction == "pair"
    np.testing.assert_allclose(truth.origin, [0, 0, 0.1])
    assert truth.interactions.kind.tolist() == ["pair", "delta"]
    np.testing.assert_allclose(truth.interactions.energy, [5000 - 1021.9979, 20])
    assert [(arm.pdg, arm.kinetic_energy) for arm in truth.arms] == [(-11, 2478.0), (11, 1500.0)]


def test_event_without_deposits_is_an_empty_track():
    track = geant4.track_of(
        geant4.Collected(), "electron", 10.0, np.array([1.0, 0, 0]), Conditions(), np.random.default_rng(1)
    )
    assert len(track) == 0
    assert track.truth.first_interaction == ""


@pytest.mark.parametrize(
    ("name", "energies", "secondaries", "expected"),
    [
        ("compt", (2.0, 0.5), [1.4], ("compton", 1500.0)),
        ("phot", (0.06, 0.0), [0.0568], ("photo", 60.0)),
        ("eBrem", (3.0, 2.5), [0.5], ("brem", 500.0)),
        ("annihil", (0.1, 0.0), [0.6, 0.522], ("annihilation", 1122.0)),
    ],
)
def test_energies_are_those_that_changed_hands(name, energies, secondaries, expected):
    record = geant4.Collected()
    made = [particle(9, 1, 22, energy) for energy in secondaries]
    geant4.collect(step(particle(1, 0, 11), (0, 0, 0), (1, 2, 3), 0, energies, name, made), record)
    ((kind, energy, *place, number),) = record.interactions
    assert (kind, number) == (expected[0], 0)
    assert energy == pytest.approx(expected[1])
    np.testing.assert_allclose(place, [0.001, 0.002, 0.003])


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "geant4_pybind", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="geant4_pybind is not installed"):
        next(geant4.simulate_tracks("electron", 1000.0, 1))


def test_missing_data_are_named_before_the_package_can_ask(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "geant4_pybind", ModuleType("geant4_pybind"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    (tmp_path / "G4EMLOW8.6").mkdir()
    monkeypatch.setenv("GEANT4_DATA_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="G4ENSDFSTATE not found"):
        next(geant4.simulate_tracks("electron", 1000.0, 1))
    monkeypatch.delenv("GEANT4_DATA_DIR")
    with pytest.raises(UsageError, match="G4EMLOW and G4ENSDFSTATE"):
        next(geant4.simulate_tracks("electron", 1000.0, 1))


def test_unknown_particle_is_refused():
    with pytest.raises(ConfigError, match="unknown particle"):
        next(geant4.simulate_tracks("muon", 1000.0, 1))
