"""Whole events: the sample against its table, pairs by the order of rows, vertex and arms on simulated pairs."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Table
from firstlight.detectors.lartpc.features.arms import arms_from_rows, fit_two_rays, pair_energies
from firstlight.detectors.lartpc.features.columns import FEATURES, TRUTH_FEATURES, feature_row, truth_row
from firstlight.detectors.lartpc.features.measure import measure, measure_hits
from firstlight.detectors.lartpc.features.settings import Settings
from firstlight.detectors.lartpc.features.truth import truth_features
from firstlight.detectors.lartpc.reading.tracks import load
from firstlight.detectors.lartpc.readout.hits import Hits
from firstlight.detectors.lartpc.simulation.generate import simulate_tracks
from firstlight.detectors.lartpc.track import Arm, Interactions, Track, Truth
from firstlight.errors import InputError

MM = 1e-3


@pytest.fixture(scope="module")
def sample(lartpc_data):
    """Return the rows of the table of the sample with the tracks."""
    with (lartpc_data / "truth_summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [(row, load(lartpc_data / row["file"])) for row in rows]


# ---------------------------------------------------------------- the sample


def test_sample_has_the_shapes_of_its_table(sample):
    assert len(sample) == 21
    for row, track in sample:
        found = measure(track.positions, track.num_e)
        assert found.n_voxels == int(row["nvox_0p5mm"])
        assert found.n_satellites == int(row["n_satellites"])
        assert found.f_main == pytest.approx(float(row["f_main_link2p5mm"]), abs=6e-5)
        assert found.q_satellites == pytest.approx(float(row["q_satellites"]), abs=6e-5)
        assert found.linearity == pytest.approx(float(row["linearity_main"]), abs=6e-5, nan_ok=True)
        assert found.path == pytest.approx(float(row["path_main_mm"]), abs=6e-3)
        assert found.tortuosity == pytest.approx(float(row["tortuosity"]), abs=6e-4)
        assert found.box == pytest.approx(float(row["bbox_max_mm"]), abs=6e-4)
        assert found.charge == track.charge


def test_satellites_of_electrons_hold_what_they_radiated(sample):
    seen = 0
    for row, track in sample:
        if row["particle"] == "electrons" and 3000 <= float(row["energy_keV"]) <= 10000:
            found = measure(track.positions, track.num_e)
            assert abs(found.q_satellites - track.truth.radiated) <= 0.03
            seen += 1
    assert seen == 3


def test_rows_of_pairs_give_the_energies_of_their_arms(sample):
    seen = 0
    for row, track in sample:
        found = arms_from_rows(track)
        if row["first_interaction"] != "pair":
            assert found is None
            continue
        seen += 1
        assert found.source == "rows"
        # the table has whole keV, and its share of the charge three digits
        assert found.positron == pytest.approx(float(row["pair_Kplus_keV"]), abs=2)
        assert found.electron == pytest.approx(float(row["pair_Kminus_keV"]), abs=2)
        assert found.positron + found.electron == pytest.approx(float(row["energy_keV"]) - 1022, rel=0.02)
        # up to 10 MeV all charge far away is of the two annihilation photons and of what the positron radiated
        if track.truth.energy > 10000:
            continue
        away = np.linalg.norm(track.positions - track.truth.origin[:, None], axis=0) > 45 * MM
        first = np.arange(len(track)) < found.split
        assert track.num_e[away & first].sum() == track.num_e[away].sum() > 0
    assert seen == 4


def test_split_does_not_hang_on_one_distance(sample):
    for row, track in sample:
        if row["first_interaction"] == "pair":
            moved = replace(
                track,
                positions=track.positions + 0.25,
                truth=replace(track.truth, origin=track.truth.origin + 0.25),
            )
            local = replace(track, truth=replace(track.truth, origin=np.zeros(3)))
            expected = arms_from_rows(track)
            assert arms_from_rows(moved).split == expected.split
            # a record in another frame: the first row stands for the vertex
            assert arms_from_rows(local).positron == pytest.approx(expected.positron, rel=0.01)


def test_truth_of_the_sample_in_the_terms_of_the_quest(sample):
    found = {track.name[-11:]: truth_features(track) for _, track in sample}
    symmetric, weird = found["T1332724312"], found["T1332924310"]
    assert symmetric.positron_share == pytest.approx(0.534, abs=0.002)
    assert symmetric.n_hard == 0
    assert symmetric.shorter_arm > 2
    assert weird.positron_share == pytest.approx(0.899, abs=0.002)
    assert weird.shorter_arm < 2
    assert weird.radiated == pytest.approx(0.2107, abs=1e-3)
    assert found["T1338944106"].n_hard == 4
    assert all(entry.n_deltas is None for entry in found.values())


def test_scale_of_charge_changes_nothing_but_the_charge(sample):
    _, track = sample[-1]
    one, other = measure(track.positions, track.num_e), measure(track.positions, 13 * track.num_e)
    assert other.charge == 13 * one.charge
    for name, value in one.row().items():
        if name != "charge":
            assert other.row()[name] == pytest.approx(value, rel=1e-9), name


# ---------------------------------------------------------------- rows of a made-up pair


def made_pair(order: str = "stack", energy: float = 5000.0) -> Track:
    """Return a positron of 10 mm with charge 100 mm away, then an electron of 5 mm, from a vertex at (1, 0, 0) m."""
    positron = np.stack([np.linspace(0, 10, 500), np.zeros(500), np.zeros(500)])
    annihilation = np.array([[10.0], [100.0], [0.0]]) + np.linspace(0, 0.5, 40)
    electron = np.stack([np.zeros(250), np.linspace(0.002, 5, 250), np.zeros(250)])
    positions = MM * np.concatenate([positron, annihilation, electron], axis=1) + np.array([[1.0], [0], [0]])
    num_e = np.full(positions.shape[1], 10)
    if order == "sorted":
        positions = positions[:, np.argsort(positions[1], kind="stable")]
    interactions = Interactions(
        np.array(["pair"], dtype="U12"),
        np.array([energy - 1022]),
        np.array([[1.0], [0], [0]]),
        np.array([0], dtype=np.int32),
    )
    truth = Truth("photon", energy, np.array([1.0, 0, 0]), np.array([1.0, 0, 0]), "pair", interactions)
    return Track(positions, num_e, truth, name="made")


def test_split_of_a_made_pair_is_its_row():
    found = arms_from_rows(made_pair())
    assert found.split == 540
    assert found.positron == pytest.approx(5000 * 540 / 790 - 1022, abs=0.01)
    assert found.electron == pytest.approx(5000 * 250 / 790)
    assert found.share == pytest.approx(found.positron / (5000 - 1022), abs=1e-6)


def test_no_energies_where_the_order_is_lost_or_there_is_no_pair():
    track = made_pair()
    assert arms_from_rows(replace(track, bin_size=2e-4)) is None
    assert arms_from_rows(replace(track, truth=None)) is None
    assert arms_from_rows(replace(track, truth=replace(track.truth, first_interaction="compton"))) is None
    one_way = replace(track, positions=track.positions[:, :540], num_e=track.num_e[:540])
    assert arms_from_rows(one_way) is None
    # 500 keV less than two annihilation photons in the first part: the row found is not that of the second arm
    low = replace(
        track, truth=replace(track.truth, energy=1300.0), num_e=np.where(np.arange(790) < 540, 1, 30)
    )
    assert arms_from_rows(low) is None


def test_recorded_arms_come_before_rows():
    track = made_pair()
    arms = (Arm(11, 1000.0, np.array([0, 1.0, 0])), Arm(-11, 2978.0, np.array([1.0, 0, 0])))
    found = pair_energies(replace(track, truth=replace(track.truth, arms=arms)))
    assert (found.positron, found.electron, found.source) == (2978.0, 1000.0, "recorded")
    assert pair_energies(track).source == "rows"


def test_truth_reach_of_the_shorter_arm():
    found = truth_features(made_pair())
    assert found.shorter_arm == pytest.approx(5, abs=0.01)
    assert found.source == "rows"
    compressed = truth_features(replace(made_pair(), bin_size=2e-4))
    assert compressed.shorter_arm is None
    assert compressed.positron_share is None
    assert truth_features(replace(made_pair(), truth=None)) is None


# ---------------------------------------------------------------- two rays


def rays_of(angle: float, lengths: tuple[float, float] = (8.0, 8.0), width: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(6)
    half = np.radians(angle) / 2
    parts = []
    for sign, length in zip((1, -1), lengths, strict=True):
        along = np.arange(0.5, length, 0.5)
        parts.append(np.stack([along * np.cos(half), sign * along * np.sin(half), 0 * along]))
    points = np.concatenate(parts, axis=1)
    return MM * (points + width * rng.normal(size=points.shape))


@pytest.mark.parametrize("angle", [20.0, 45.0, 90.0])
def test_two_rays_are_found_with_their_angle(angle):
    positions = rays_of(angle, width=0.05)
    found = fit_two_rays(positions, np.ones(positions.shape[1]), np.zeros(3), (1 * MM, 6 * MM))
    assert found.separable
    assert np.degrees(found.opening) == pytest.approx(angle, abs=2.5)
    assert found.share == pytest.approx(0.5, abs=0.05)
    assert found.quality > 0.95
    assert found.forward == pytest.approx(np.cos(np.radians(angle / 2)), abs=0.01)


def test_charge_of_rays_is_shared_as_it_is():
    positions = rays_of(60)
    charge = np.where(positions[1] > 0, 3.0, 1.0)
    found = fit_two_rays(positions, charge, np.zeros(3), (1 * MM, 6 * MM))
    assert found.share == pytest.approx(0.75)
    assert found.directions[0, 1] > 0
    short = rays_of(60, lengths=(8.0, 2.6))
    found = fit_two_rays(short, np.ones(short.shape[1]), np.zeros(3), (1 * MM, 6 * MM))
    assert found.separable
    assert found.overlap == 1


def test_one_arm_is_not_separable_straight_wide_or_bent():
    straight = rays_of(0, width=0.15)
    wide = straight + MM * np.random.default_rng(2).normal(0, 0.4, straight.shape)
    bent = MM * np.stack(
        [
            np.r_[np.arange(0.5, 3, 0.25), np.full(8, 3.0)],
            np.r_[np.zeros(10), np.arange(2.0, 6, 0.5)],
            np.zeros(18),
        ]
    )
    for positions in (straight, wide, bent):
        found = fit_two_rays(positions, np.ones(positions.shape[1]), np.zeros(3), (1 * MM, 6 * MM))
        assert not found.separable
    assert fit_two_rays(straight, np.ones(straight.shape[1]), np.ones(3), (1 * MM, 6 * MM)) is None


# ---------------------------------------------------------------- events of few points, and hits


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.parametrize("step", [0.0, 0.01, 1.0, 30.0])
def test_events_of_few_points_have_a_row(n, step):
    positions = np.outer([1.0, 0.5, -0.2], step * MM * np.arange(n))
    found = measure(positions, np.full(n, 5))
    row = {"track": "few", "particle": "", "energy": None} | found.row()
    FEATURES.validate(Table.from_rows(FEATURES, [row]).frame)
    assert found.n_points == n
    assert found.topology.rays.shape[1] == 3
    assert found.topology.path.shape[0] == 3
    assert not found.separable


def test_event_without_charge_above_threshold_is_empty():
    found = measure(np.zeros((3, 5)), np.ones(5), Settings(threshold=100))
    assert (found.n_points, found.n_voxels, found.charge, found.f_main) == (0, 0, 0, 0)
    assert np.isnan(found.linearity)
    assert found.topology.vertex is None


def test_measure_refuses_negative_charge():
    with pytest.raises(InputError, match="charge of point 2"):
        measure(np.zeros((3, 3)), np.array([1, 1, -1]))


def test_hits_below_threshold_take_no_part():
    positions = np.stack([0.5 * MM * np.arange(40), np.zeros(40), np.zeros(40)])
    charge = np.where(np.arange(40) < 30, 500.0, -20.0)
    hits = Hits(
        positions, np.zeros((3, 40), dtype=np.int64), charge, charge.astype(np.int64), charge > 100,
        np.full(40, -1), (0.5e-3, 0.5e-3, 0.5e-3), 25.0, 100.0,
    )  # fmt: skip
    found = measure_hits(hits)
    assert (found.n_points, found.charge) == (30, 15000)
    assert found.path == pytest.approx(14.5, abs=4)


# ---------------------------------------------------------------- simulated events


@pytest.fixture(scope="module")
def simulated():
    """Return 40 electrons and 150 photons of 10 MeV with their features."""
    tracks = [*simulate_tracks("electron", 10000.0, 40, 61), *simulate_tracks("photon", 10000.0, 150, 62)]
    return [(track, measure(track.positions, track.num_e)) for track in tracks]


def distance_of_vertex(track, found) -> float:
    return 1e3 * float(np.linalg.norm(found.topology.vertex - track.truth.origin))


def test_vertex_of_electrons_and_pairs_is_found_without_truth(simulated):
    electrons = [distance_of_vertex(*entry) for entry in simulated if entry[0].truth.particle == "electron"]
    pairs = [distance_of_vertex(*entry) for entry in simulated if entry[0].truth.first_interaction == "pair"]
    # 0.97 and 0.86 of many events; three standard deviations of 40 and of some 65
    assert np.mean(np.array(electrons) < 2) > 0.97 - 3 * np.sqrt(0.97 * 0.03 / 40)
    assert len(pairs) > 45
    assert np.mean(np.array(pairs) < 2) > 0.86 - 3 * np.sqrt(0.86 * 0.14 / len(pairs))


def test_share_of_arms_follows_the_truth(simulated):
    shares = np.array(
        [
            (min(truth.positron_share, 1 - truth.positron_share), found.arm_share)
            for track, found in simulated
            if track.truth.first_interaction == "pair" and not np.isnan(found.arm_share)
            for truth in [truth_features(track)]
        ]
    )
    assert len(shares) > 40
    # 0.02 of many pairs; the limit is that of a median of 40
    assert np.median(np.abs(shares[:, 0] - shares[:, 1])) < 0.04
    assert np.corrcoef(shares.T)[0, 1] > 0.5


def test_arms_of_pairs_are_separable_more_often_than_of_electrons(simulated):
    pairs = [found.separable for track, found in simulated if track.truth.first_interaction == "pair"]
    others = [found.separable for track, found in simulated if track.truth.particle == "electron"]
    assert np.mean(pairs) > 0.4
    assert np.mean(others) < 0.2
    density = [found.vertex_density for track, found in simulated if track.truth.first_interaction == "pair"]
    assert np.median(density) == pytest.approx(2.1, abs=0.3)
    density = [found.vertex_density for track, found in simulated if track.truth.particle == "electron"]
    assert np.median(density) == pytest.approx(1.15, abs=0.2)


def test_energies_of_simulated_pairs_agree_between_record_and_rows(simulated):
    seen = 0
    for track, _ in simulated:
        if track.truth.first_interaction != "pair":
            continue
        recorded, rows = pair_energies(track), arms_from_rows(track)
        assert recorded.source == "recorded"
        assert recorded.positron + recorded.electron == pytest.approx(10000 - 1022, rel=1e-3)
        if rows is not None:
            seen += 1
            assert rows.positron == pytest.approx(recorded.positron, abs=150)
    assert seen > 45


def test_rows_of_tables_fit_their_schemas(simulated):
    features = Table.from_rows(FEATURES, [feature_row(found, track) for track, found in simulated])
    truth = Table.from_rows(
        TRUTH_FEATURES, [truth_row(truth_features(track), track) for track, _ in simulated]
    )
    FEATURES.validate(features.frame)
    TRUTH_FEATURES.validate(truth.frame)
    assert features.frame.height == truth.frame.height == 190
    assert set(simulated[0][1].row()) == set(FEATURES.names) - {"track", "particle", "energy"}
    assert truth.frame.filter(pl.col("first") == "pair")["source"].unique().to_list() == ["recorded"]


def test_topology_labels_every_cube(simulated):
    for _, found in simulated[:20]:
        topology = found.topology
        n_voxels = len(topology.voxels)
        assert topology.cluster.shape == topology.arm.shape == (n_voxels,)
        assert (topology.arm[topology.cluster != 0] == -1).all()
        main = topology.voxels.charge[topology.cluster == 0].sum()
        assert main / topology.voxels.charge.sum() == pytest.approx(found.f_main)
        assert np.linalg.norm(topology.rays, axis=1) == pytest.approx(1)
        assert len(topology.rays) == (2 if found.separable else 1)
