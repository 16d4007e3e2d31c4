"""The transport as a whole: energy, ranges, radiation, photons, order of rows, truth, and reproducibility."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from firstlight.detectors.lartpc.simulation.generate import (
    Conditions,
    simulate_track,
    simulate_tracks,
    transport,
)
from firstlight.detectors.lartpc.simulation.tables import (
    csda_range,
    mean_free_path,
    pair_share,
    radiation_yield,
)
from firstlight.detectors.lartpc.track import ELECTRON_MASS, INTERACTION_KINDS
from firstlight.errors import ConfigError

COARSE = Conditions(density=1.396, point_spacing=0.5e-3)
# for the first interactions of photons: what follows is absorbed soon
FIRST = Conditions(
    density=1.27,
    point_spacing=5e-3,
    stop=100.0,
    collision_cut=1e3,
    photon_cut=1e3,
    longest_step=0.1,
    energy_step=0.5,
)
UP = np.array([0.0, 0.0, 1.0])


def records(particle, energy, n, seed=1, conditions=COARSE):
    for k in range(n):
        yield transport(particle, energy, UP, conditions, np.random.SeedSequence(seed, spawn_key=(k,)))


def events(record, kind):
    return record.events[record.events[:, 0] == INTERACTION_KINDS.index(kind)]


def path_of(energy, n, seed=1):
    """Return the mean path of primaries over the CSDA range, and its error."""
    paths = np.array([record.paths[0] for record in records("electron", energy, n, seed)])
    scale = float(csda_range(energy)) / 1.396
    return paths.mean() / scale, paths.std() / math.sqrt(n) / scale


def radiated(energy, n, seed=1):
    """Return the mean share of energy that primaries radiate, and its error."""
    found = []
    for record in records("electron", energy, n, seed):
        own = (record.events[:, 0] == 0) & (record.actors == 0)
        found.append(record.events[own, 1].sum() / energy)
    return np.mean(found), np.std(found) / math.sqrt(n)


# ---------------------------------------------------------------- energy


@pytest.mark.parametrize("particle", ["electron", "positron", "photon"])
@pytest.mark.parametrize("energy", [1.0, 3.0, 12.0, 100.0, 1022.5, 3000.0, 10000.0, 50000.0])
def test_deposits_add_up_to_the_energy(particle, energy):
    expected = energy + (2 * ELECTRON_MASS if particle == "positron" else 0)
    for record in records(particle, energy, 20):
        assert math.fsum(record.points[:, 3]) == pytest.approx(expected, rel=1e-12)
        assert (record.points[:, 3] > 0).all()
        assert record.paths.min() >= 0


@pytest.mark.parametrize("stop", [0.2, 5.0])
def test_energy_is_kept_with_other_limits(stop):
    conditions = Conditions(
        collision_cut=50.0, photon_cut=20.0, stop=stop, longest_step=2e-3, energy_step=0.2
    )
    for record in records("photon", 8000.0, 20, conditions=conditions):
        assert math.fsum(record.points[:, 3]) == pytest.approx(8000.0, rel=1e-12)


# ---------------------------------------------------------------- electrons


@pytest.mark.parametrize("energy", [300.0, 1000.0, 3000.0])
def test_path_is_the_range(energy):
    ratio, error = path_of(energy, 500)
    assert error < 0.01
    assert ratio == pytest.approx(1, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("energy", [300.0, 500.0, 1000.0, 2000.0, 3000.0, 5000.0, 10000.0])
def test_path_is_the_range_with_many_tracks(energy):
    ratio, error = path_of(energy, 3000)
    assert abs(ratio - 1) < 0.01 + 3 * error


@pytest.mark.parametrize(("energy", "n"), [(1000.0, 5000), (3000.0, 2000)])
def test_radiation_is_the_yield(energy, n):
    share, error = radiated(energy, n, seed=7)
    expected = float(radiation_yield(energy))
    # photons below 1 keV are not counted: 1 % of it
    assert error < 0.09 * expected
    assert share == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("energy", "n"), [(300.0, 40000), (1000.0, 20000), (3000.0, 8000), (10000.0, 3000)])
def test_radiation_is_the_yield_with_many_tracks(energy, n):
    share, error = radiated(energy, n, seed=7)
    assert abs(share - float(radiation_yield(energy))) < 3.5 * error + 0.03 * share


# median reach of the primary and size of the box [mm] of ten PENELOPE tracks each
@pytest.mark.parametrize(
    ("energy", "reach", "box"), [(1000.0, 2.53, 2.1), (3000.0, 8.97, 8.3), (5000.0, 16.0, 22.0)]
)
def test_extent_is_that_of_penelope(energy, reach, box):
    conditions = Conditions(density=1.27, point_spacing=20e-6)
    reaches, boxes = [], []
    for record in records("electron", energy, 400, conditions=conditions):
        places = 10 * record.points[:, :3]
        reaches.append(np.linalg.norm(places[record.owners == 0], axis=1).max())
        boxes.append(np.ptp(places, axis=0).max())
    assert np.median(reaches) == pytest.approx(reach, rel=0.15)
    assert np.median(boxes) == pytest.approx(box, rel=0.15)


def test_length_of_steps_does_not_matter():
    fine = Conditions(density=1.396, point_spacing=0.5e-3, energy_step=0.02, longest_step=0.1e-3)
    found = []
    for conditions in (COARSE, fine):
        ends = [
            (record.paths[0], np.linalg.norm(record.points[record.owners == 0, :3], axis=1).max())
            for record in records("electron", 1000.0, 600, conditions=conditions)
        ]
        found.append((np.mean(ends, axis=0), np.std(ends, axis=0) / math.sqrt(600)))
    (one, error), (other, other_error) = found
    assert (np.abs(one - other) < 3.5 * np.hypot(error, other_error)).all()


def test_longer_paths_in_thinner_argon():
    lengths = []
    for density in (1.396, 0.698):
        conditions = Conditions(density=density, point_spacing=0.5e-3)
        lengths.append(np.mean([r.paths[0] for r in records("electron", 500.0, 300, conditions=conditions)]))
    assert lengths[1] / lengths[0] == pytest.approx(2, rel=0.03)


def test_delta_rays_are_as_many_as_the_cross_section_says():
    from firstlight.detectors.lartpc.simulation.stopping import (
        collision_stopping_power,
        moller_cross_section,
        radiative_stopping_power,
    )

    energies = np.linspace(20.0, 2000.0, 4000)
    loss = collision_stopping_power(energies) + radiative_stopping_power(energies)
    expected = np.trapezoid(moller_cross_section(energies, 10.0) / loss, energies)
    counts = []
    for record in records("electron", 2000.0, 500):
        kinds, actors = record.events[:, 0], record.actors
        counts.append(((kinds == INTERACTION_KINDS.index("delta")) & (actors == 0)).sum())
    # 1.4 % of statistics; and much lost at once is lost without a path
    assert np.mean(counts) == pytest.approx(expected, rel=0.04)


# ---------------------------------------------------------------- photons


@pytest.mark.parametrize(("energy", "limit"), [(3000.0, 0.02), (10000.0, 0.03), (20000.0, 0.03)])
def test_first_interactions_are_shared_as_the_cross_sections(energy, limit):
    n = 1000
    kinds, depths = [], []
    for record in records("photon", energy, n, conditions=FIRST):
        kinds.append(INTERACTION_KINDS[int(record.events[0, 0])])
        assert record.actors[0] == 0
        depths.append(np.linalg.norm(record.events[0, 2:]))
    share = float(pair_share(energy))
    assert kinds.count("pair") / n == pytest.approx(share, abs=limit)
    depth = float(mean_free_path(energy, density=1.27))
    assert np.mean(depths) == pytest.approx(depth, abs=3.5 * depth / math.sqrt(n))
    if energy == 10000.0:
        assert depth == pytest.approx(29.2 * 1.396 / 1.27, rel=0.005)


def test_compton_electrons_obey_kinematics_and_end_at_the_edge():
    energy = 10000.0
    k = energy / ELECTRON_MASS
    edge = energy * 2 * k / (1 + 2 * k)
    assert edge == pytest.approx(9751, abs=1)
    highest = 0.0
    for record in records("photon", energy, 1500, conditions=FIRST):
        if INTERACTION_KINDS[int(record.events[0, 0])] != "compton":
            continue
        given = record.events[0, 1]
        # the first particle that the photon made
        assert record.births[1, 0] == given
        cosine = (1 + k) / k * math.sqrt(given / (given + 2 * ELECTRON_MASS))
        assert record.births[1, 3] == pytest.approx(cosine, abs=1e-6)
        highest = max(highest, given)
    assert 0.99 * edge < highest <= edge * (1 + 1e-12)


def test_pairs_share_energy_and_go_opposite_ways():
    opening = []
    for record in records("photon", 10000.0, 300, conditions=FIRST):
        if INTERACTION_KINDS[int(record.events[0, 0])] != "pair":
            continue
        rows = np.flatnonzero(
            (record.particles[:, 2] == INTERACTION_KINDS.index("pair")) & (record.particles[:, 0] == 0)
        )
        assert sorted(record.particles[rows, 1]) == [-11, 11]
        assert record.births[rows, 0].sum() == pytest.approx(10000 - 2 * ELECTRON_MASS, rel=1e-12)
        assert record.events[0, 1] == pytest.approx(10000 - 2 * ELECTRON_MASS, rel=1e-12)
        across = record.births[rows, 1:3]
        cosine = across[0] @ across[1] / np.linalg.norm(across[0]) / np.linalg.norm(across[1])
        assert cosine == pytest.approx(-1, abs=1e-9)
        opening.append(math.acos(min(1.0, record.births[rows[0], 1:] @ record.births[rows[1], 1:])))
    assert len(opening) > 90
    # some m/E of each arm: a few degrees
    assert 3 < np.degrees(np.median(opening)) < 20


def test_annihilation_at_rest_is_back_to_back():
    at_rest = in_flight = 0
    cosines = []
    for record in records("positron", 1000.0, 400):
        rows = np.flatnonzero(record.particles[:, 2] == INTERACTION_KINDS.index("annihilation"))
        assert rows.size == 2
        (event,) = events(record, "annihilation")
        energies, directions = record.births[rows, 0], record.births[rows, 1:]
        assert energies.sum() == pytest.approx(event[1], rel=1e-12)
        kinetic = event[1] - 2 * ELECTRON_MASS
        momentum = np.linalg.norm((energies[:, None] * directions).sum(axis=0))
        assert momentum == pytest.approx(math.sqrt(max(kinetic, 0) * (kinetic + 2 * ELECTRON_MASS)), abs=1e-3)
        if kinetic > 1e-9:
            in_flight += 1
            continue
        at_rest += 1
        np.testing.assert_allclose(energies, 510.99895, rtol=1e-12)
        assert directions[0] @ directions[1] == pytest.approx(-1, abs=1e-12)
        cosines.append(directions[0, 2])
    # a few per cent annihilate before they stop
    assert 2 <= in_flight < 0.1 * 400
    assert abs(np.mean(cosines)) < 4 / math.sqrt(3 * at_rest)


def test_absorption_leaves_x_rays_of_argon():
    found = []
    for record in records("photon", 60.0, 2000):
        assert (record.particles[:, 1] != -11).all()
        x_rays = (record.particles[:, 1] == 22) & (record.particles[:, 2] == INTERACTION_KINDS.index("photo"))
        found.append(x_rays.sum())
        np.testing.assert_allclose(record.births[x_rays, 0], 2.97)
    # every photon ends in the photoelectric effect: 89 % in the K shell, of which 11.8 % shine
    expected = 0.888 * 0.118
    assert np.mean(found) == pytest.approx(expected, abs=4 * math.sqrt(expected / 2000))


# ---------------------------------------------------------------- order and truth


def root_of(record, number, stops):
    while number not in stops:
        number = record.particles[number, 0]
    return number


def test_rows_of_a_pair_are_the_positron_with_its_descendants_then_the_electron():
    seen = 0
    for record in records("photon", 8000.0, 40):
        if INTERACTION_KINDS[int(record.events[0, 0])] != "pair":
            continue
        seen += 1
        own = np.flatnonzero(record.particles[:, 0] == 0)
        pdg = {int(number): int(record.particles[number, 1]) for number in own}
        roots = np.array([pdg[root_of(record, owner, pdg)] for owner in record.owners])
        assert roots[0] == -11
        assert roots[-1] == 11
        assert np.count_nonzero(np.diff(roots)) == 1
        # all energy of annihilation is with the positron: the balance that tells K+ and K-
        for number, kind in pdg.items():
            share = record.points[roots == kind, 3].sum()
            assert share == pytest.approx(
                record.births[number, 0] + (2 * ELECTRON_MASS if kind == -11 else 0), rel=1e-9
            )
    assert seen > 8


def test_rows_of_an_electron_are_the_primary_then_the_newest_secondaries():
    for record in records("electron", 10000.0, 20):
        owners = record.owners
        first = [number for number, _ in itertools.groupby(owners)]
        assert first[0] == 0
        assert len(first) == len(set(first)), "each particle has its rows in one piece"
        children = [number for number in first if record.particles[number, 0] == 0]
        assert children == sorted(children, reverse=True)


def test_rows_of_compton_scattering_are_the_last_electron_first():
    record = next(records("photon", 1000.0, 1, seed=3))
    own = [n for n, _ in itertools.groupby(record.owners) if record.particles[n, 0] == 0]
    assert len(own) > 2
    assert own == sorted(own, reverse=True)


def test_truth_of_electrons_and_photons():
    track = simulate_track("electron", 3000.0, seed=4)
    truth = track.truth
    assert truth.particle == "electron"
    assert truth.energy == 3000
    assert truth.first_interaction == ""
    np.testing.assert_array_equal(truth.origin, 0)
    assert np.linalg.norm(track.positions[:, 0]) < 1e-5
    along = track.positions[:, 0] / np.linalg.norm(track.positions[:, 0])
    assert along @ truth.direction > 0.9

    kinds = set()
    for track in simulate_tracks("photon", 5000.0, 30, 8):
        truth = track.truth
        kinds.add(truth.first_interaction)
        # on the line from 0 along its direction, where the first point of the event is too
        assert truth.origin @ truth.direction == pytest.approx(np.linalg.norm(truth.origin), rel=1e-12)
        first = truth.interactions.kind[0]
        assert first == truth.first_interaction
        np.testing.assert_array_equal(truth.interactions.position[:, 0], truth.origin)
        assert np.linalg.norm(track.positions - truth.origin[:, None], axis=0).min() < 2e-5
        assert len(truth.arms) == (2 if first == "pair" else 0)
        if truth.arms:
            assert [arm.pdg for arm in truth.arms] == [-11, 11]
            assert sum(arm.kinetic_energy for arm in truth.arms) == pytest.approx(5000 - 1021.9979)
    assert kinds == {"compton", "pair"}


def test_columns_say_who_made_what():
    track = simulate_track("photon", 10000.0, seed=2)
    assert track.energy.sum(dtype=float) == pytest.approx(10000, rel=1e-6)
    assert track.meta["energy_deposited"] == pytest.approx(10000, rel=1e-12)
    assert set(np.unique(track.pdg)) <= {11, -11}, "neutral particles deposit nothing"
    for column, values in (("parent_id", track.parent_id), ("particle_id", track.particle_id)):
        assert values.min() >= 0, column
    assert set(track.creator) <= set(INTERACTION_KINDS)
    assert simulate_track("electron", 100.0, seed=2).creator[0] == "primary"
    assert simulate_track("electron", 100.0, seed=2).parent_id[0] == -1


def test_points_are_evenly_spaced():
    coarse, fine = (simulate_track("electron", 5000.0, 1, point_spacing=s) for s in (100e-6, 10e-6))
    assert 7 < len(fine) / len(coarse) < 11
    own = fine.positions[:, fine.particle_id == 0]
    steps = np.linalg.norm(np.diff(own, axis=1), axis=0)
    # each stands for 10 um of path, at the middle of its energy
    assert steps.max() < 20e-6
    assert np.median(steps) > 8e-6


def test_directions_are_over_all_angles():
    directions = np.array([t.truth.direction for t in simulate_tracks("electron", 5.0, 3000, 1)])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert (np.abs(directions.mean(axis=0)) < 4 / math.sqrt(3 * 3000)).all()
    np.testing.assert_allclose(directions.T @ directions / 3000, np.eye(3) / 3, atol=0.025)
    given = simulate_track("electron", 100.0, 1, direction=(0, 3, 4)).truth.direction
    np.testing.assert_allclose(given, [0, 0.6, 0.8])


# ---------------------------------------------------------------- charge


def test_charge_fluctuates_as_fano_and_recombination_say():
    charges = np.array(
        [track.charge for track in simulate_tracks("electron", 1000.0, 400, 3, point_spacing=1e-4)]
    )
    pairs = 1e6 / 23.6
    mean, variance = 0.7 * pairs, 0.7**2 * 0.1115 * pairs + 0.7 * 0.3 * pairs
    assert charges.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / 400))
    assert charges.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / 400))


def test_charge_does_not_depend_on_the_spacing_of_points():
    for spacing in (1e-6, 1e-4):
        track = simulate_track("electron", 1000.0, 3, point_spacing=spacing)
        assert track.charge / 1000 == pytest.approx(29.66, abs=0.5)


@pytest.mark.parametrize("model", ["box", "birks", "box-argoneut"])
def test_dense_ionisation_recombines_more(model):
    # NEST has 31.2, 22.7 and 10.5 electrons per keV at 1 MeV, 100 and 10 keV
    found = [
        np.mean(
            [t.charge for t in simulate_tracks("electron", energy, 40, 1, charge_model=model, density=1.396)]
        )
        / energy
        for energy in (1000.0, 100.0, 10.0)
    ]
    assert 28 < found[0] < 32
    assert 18 < found[1] < 27
    assert 3 < found[2] < 12


# ---------------------------------------------------------------- reproducibility


def same(one, other):
    return (
        np.array_equal(one.positions, other.positions)
        and np.array_equal(one.num_e, other.num_e)
        and np.array_equal(one.energy, other.energy)
        and np.array_equal(one.truth.interactions.position, other.truth.interactions.position)
        and np.array_equal(one.truth.direction, other.truth.direction)
    )


def test_same_seed_is_the_same_track():
    assert same(simulate_track("photon", 5000.0, 12), simulate_track("photon", 5000.0, 12))
    assert not same(simulate_track("photon", 5000.0, 12), simulate_track("photon", 5000.0, 13))
    sequence = np.random.SeedSequence(5)
    assert same(simulate_track("electron", 500.0, sequence), simulate_track("electron", 500.0, sequence))
    made = [simulate_track("electron", 500.0, np.random.default_rng(4)) for _ in range(2)]
    assert same(*made)


def test_track_is_the_same_however_many_there_are_and_wherever_it_is_made():
    tracks = list(simulate_tracks("electron", 2000.0, 6, 9))
    assert same(tracks[4], next(simulate_tracks("electron", 2000.0, 1, 9, first=4)))
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(lambda k: next(simulate_tracks("electron", 2000.0, 1, 9, first=k)), range(6)))
    assert all(same(one, other) for one, other in zip(tracks, threads, strict=True))


def test_room_for_points_does_not_matter(monkeypatch):
    from firstlight.detectors.lartpc.simulation import generate

    expected = simulate_track("photon", 5000.0, 12)
    monkeypatch.setattr(generate, "_room", lambda n, m, room=generate._room: room(n // 50 + 1, m // 50 + 1))
    assert same(simulate_track("photon", 5000.0, 12), expected)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (("muon", 1000.0), {}, "unknown particle 'muon'"),
        (("electron", 0.1), {}, "electron of 0.1 keV: it cannot be simulated"),
        (("electron", 2e5), {}, "electron of 200000 keV"),
        (("electron", float("nan")), {}, "nan keV"),
        (("electron", 1000.0, -1), {}, "seed = -1"),
        (("electron", 1000.0), {"direction": (0, 0, 0)}, "direction"),
        (("electron", 1000.0), {"direction": (1, 2)}, "direction"),
        (("electron", 1000.0), {"densty": 1.0}, "did you mean 'density'"),
        (("electron", 1000.0), {"density": -1.0}, "density = -1 g/cm3"),
        (("electron", 1000.0), {"charge_model": "bocks"}, "unknown charge_model"),
        (("electron", 1000.0), {"point_spacing": 0.0}, "point_spacing = 0 m"),
    ],
)
def test_impossible_values_are_refused(arguments, changes, message):
    with pytest.raises(ConfigError, match=message):
        simulate_track(*arguments, **changes)


def test_number_of_tracks_is_refused_before_anything_is_made():
    with pytest.raises(ConfigError, match="n = -1"):
        simulate_tracks("electron", 100.0, -1)
