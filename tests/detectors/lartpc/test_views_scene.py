"""What is drawn of an event: voxels, cubes, layers, and the truth."""

from __future__ import annotations

import numpy as np
import pytest

from firstlight.detectors.lartpc.drift import Drifted
from firstlight.detectors.lartpc.readout.hits import Hits
from firstlight.detectors.lartpc.track import Interactions, Track, Truth
from firstlight.detectors.lartpc.views.cubes import (
    Cube,
    Part,
    core_cube,
    core_of,
    cube_of,
    cube_of_limits,
    round_edge,
    share_cube,
)
from firstlight.detectors.lartpc.views.marks import (
    charge_norm,
    charge_ticks,
    colours_of,
    key_of_labels,
    label_colours,
    marker_area,
    marks_of,
    path_in,
)
from firstlight.detectors.lartpc.views.scene import (
    Layer,
    drifted_layer,
    energy_text,
    hits_layer,
    length_text,
    particle_labels,
    raw_layer,
    scene_of,
    title_of,
)
from firstlight.detectors.lartpc.views.voxels import adapted_voxels, voxelise
from firstlight.errors import UsageError


def walk(n_points=5000, step=1e-5, seed=1):
    """Return a curved line of points with their charges."""
    rng = np.random.default_rng(seed)
    positions = np.cumsum(rng.normal([[1.0], [0.2], [0.0]], 1.0, (3, n_points)), axis=1) * step
    return positions, rng.integers(1, 30, n_points)


def a_track(**more):
    """Return a track with a core of 50 mm and two far satellites."""
    core, charge = walk()
    core = core * (0.05 / np.ptp(core, axis=1).max())
    far = np.array([[0.2, -0.3], [0.1, 0.0], [0.0, 0.25]])
    positions = np.concatenate([core, far + 1e-4], axis=1)
    num_e = np.concatenate([charge, [500, 300]]).astype(np.int64)
    kinds = Interactions(
        np.array(["brem", "brem", "compton", "pair"]),
        np.array([500.0, 5.0, 100.0, 4000.0]),
        np.concatenate([core[:, [2500, 2600]], far[:, :1], core[:, :1]], axis=1),
        np.full(4, -1, dtype=np.int32),
    )
    truth = Truth("photon", 5022.0, core[:, 0], np.array([1.0, 0.0, 0.0]), "pair", kinds)
    return Track(positions, num_e, **{"truth": truth, "name": "walk", **more})


def drifted_of(track):
    rng = np.random.default_rng(3)
    positions = track.positions + rng.normal(0, 6e-4, track.positions.shape)
    time = 100 - 500 * track.positions[2]
    return Drifted(positions, track.num_e, time, np.arange(len(track)), None, 0.175, 0.3, 12.5)


def hits_of(track, pitch=5e-4, threshold=20.0):
    index, place = np.unique(np.floor(track.positions / pitch).astype(np.int64), axis=1, return_inverse=True)
    true = np.bincount(place.ravel(), weights=track.num_e).astype(np.int64)
    charge = true + np.random.default_rng(4).normal(0, 5, true.size)
    return Hits(
        (index + 0.5) * pitch, index, charge, true, charge > threshold, np.full(true.size, -1),
        (pitch, pitch, pitch), 5.0, threshold,
    )  # fmt: skip


# ---------------------------------------------------------------- voxels


@pytest.mark.parametrize("edge", [1e-5, 2e-4, 3e-3, 1.0])
def test_voxels_keep_charge_points_and_centre_of_charge(edge):
    positions, charge = walk()
    found = voxelise(positions, charge, edge)
    assert found.charge.sum() == charge.sum()
    assert found.n_points.sum() == charge.size
    np.testing.assert_allclose(
        (found.positions * found.charge).sum(axis=1), (positions * charge).sum(axis=1), rtol=1e-12, atol=1e-12
    )


def test_voxels_are_the_cubes_of_a_grid():
    positions, charge = walk(800)
    edge = 1e-4
    expected: dict[tuple, float] = {}
    for cell, electrons in zip(np.floor(positions / edge).astype(int).T, charge, strict=True):
        expected[tuple(cell)] = expected.get(tuple(cell), 0) + electrons
    found = voxelise(positions, charge, edge)
    cells = [tuple(cell) for cell in np.floor(found.positions / edge).astype(int).T]
    assert dict(zip(cells, found.charge, strict=True)) == expected


def test_points_of_two_labels_are_never_one_voxel():
    positions = np.array([[1e-5, 2e-5, 3e-5], [0, 0, 0], [0, 0, 0]])
    found = voxelise(positions, [10, 20, 40], 1e-3, label=[7, 7, -1])
    assert sorted(zip(found.label.tolist(), found.charge.tolist(), strict=True)) == [(-1, 40), (7, 30)]


def test_other_values_are_averaged_with_the_charge():
    found = voxelise(np.zeros((3, 2)), [1, 3], 1e-3, values={"time": np.array([4.0, 8.0])})
    assert found.values["time"] == [7.0]


def test_points_without_charge_are_left_out():
    found = voxelise(np.zeros((3, 3)), [0, 0, 5], 1e-3)
    assert (found.charge.tolist(), found.n_points.tolist()) == ([5], [1])
    assert len(voxelise(np.zeros((3, 2)), [0, 0], 1e-3)) == 0
    assert len(voxelise(np.zeros((3, 0)), [], 1e-3)) == 0


def test_voxels_are_small_in_an_event_of_any_size():
    positions = np.array([[0.0, 1e6], [0.0, 1e6], [0.0, 1e6]])
    found = voxelise(positions, [1, 2], 1e-6)
    assert found.charge.tolist() == [1, 2]
    assert found.edge == 1e-6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"edge": 0.0}, "no edge of 0.0 m"),
        ({"edge": float("nan")}, "no edge of nan m"),
        ({"charge": [1, 2]}, "charge has the shape"),
        ({"label": [1]}, "label has the shape"),
        ({"values": {"time": np.zeros(2)}}, "time has the shape"),
    ],
)
def test_voxels_refuse_what_makes_none(change, words):
    arguments = {"positions": np.zeros((3, 3)), "charge": [1, 2, 3], **change}
    with pytest.raises(UsageError, match=words):
        voxelise(**arguments)


def test_voxels_suit_the_picture():
    positions, charge = walk(20000)
    few = adapted_voxels(positions, charge, most=300)
    assert len(few) <= 300
    assert few.edge / 2e-4 == 2 ** round(np.log2(few.edge / 2e-4))
    assert len(adapted_voxels(positions, charge, edge=few.edge / 2)) > 300, "it is larger than it need be"
    direct = voxelise(positions, charge, few.edge)
    np.testing.assert_array_equal(direct.charge, few.charge)
    small = adapted_voxels(positions * 1e-2, charge, across=2e-3)
    assert small.edge == pytest.approx(1.25e-5)
    assert adapted_voxels(positions, charge, edge=7e-4).edge == 7e-4


def test_labels_that_cannot_be_put_together_do_not_loop_for_ever():
    found = adapted_voxels(np.zeros((3, 50)), np.ones(50), most=10, label=np.arange(50))
    assert len(found) == 50


# ---------------------------------------------------------------- cubes


def test_cube_is_as_long_on_every_axis_and_holds_everything():
    positions = np.array([[0.0, 4.0], [1.0, 2.0], [-1.0, 0.0]])
    cube = cube_of(positions, margin=0.1)
    np.testing.assert_allclose(np.ptp(cube.limits, axis=1), 4.8)
    np.testing.assert_allclose(cube.centre, [2.0, 1.5, -0.5])
    assert cube.holds(positions).all()
    assert not cube.holds(np.array([[5.0], [1.5], [-0.5]])).any()
    assert cube_of(np.zeros((3, 1))).edge > 0
    assert cube_of(np.zeros((3, 0))).edge > 0


def test_share_of_the_charge_is_not_shrunk_by_a_satellite():
    track = a_track()
    charge = track.num_e.astype(float)
    most = share_cube(track.positions, charge, 0.98)
    assert most.edge < 0.12
    assert share_cube(track.positions, charge, 1.0).edge > 0.5
    for share in (0.3, 0.7, 0.98):
        cube = share_cube(track.positions, charge, share, margin=0.0)
        inside = charge[cube.holds(track.positions)].sum() / charge.sum()
        assert share <= inside < share + 0.02
    with pytest.raises(UsageError, match="no share"):
        share_cube(track.positions, charge, 1.5)


def test_core_is_the_largest_connected_piece():
    track = a_track()
    where, charge = core_of(track.positions, track.num_e.astype(float))
    assert charge.sum() == track.num_e[:-2].sum()
    cube = core_cube(Part(track.positions, track.num_e.astype(float)))
    assert cube.holds(track.positions).tolist() == [True] * (len(track) - 2) + [False, False]
    assert cube.edge == pytest.approx(1.2 * np.ptp(where, axis=1).max())


def test_tails_of_diffusion_do_not_grow_the_core():
    track = a_track()
    raw = Part(track.positions, track.num_e.astype(float))
    tail = np.concatenate([track.positions, track.positions[:, :1] - [[0.002], [0.0], [0.0]]], axis=1)
    drifted = Part(tail, np.concatenate([track.num_e, [1]]).astype(float), tails=True)
    assert core_cube(raw, drifted).edge == core_cube(raw).edge
    assert core_cube(raw, drifted._replace(tails=False)).edge > core_cube(raw).edge


def test_coarse_samples_that_touch_are_one_core_and_shown_whole():
    pitch = 0.01
    row = np.array([[0, 1, 2, 3, 8], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]) * pitch
    cube = core_cube(Part(row, np.array([9.0, 1.0, 1.0, 1.0, 5.0]), edge=pitch), margin=0.0)
    assert cube.holds(row).tolist() == [True] * 4 + [False]
    assert cube.edge == pytest.approx(4 * pitch)


def test_drifted_charge_keeps_its_shape_where_hits_are_coarse():
    track = a_track()
    fine = scene_of(track, drifted_of(track), hits_of(track, pitch=5e-4)).layer("drifted")
    coarse = scene_of(track, drifted_of(track), hits_of(track, pitch=5e-3)).layer("drifted")
    assert fine.edge == 5e-4
    assert coarse.edge < 1e-3


def test_limits_in_other_units():
    cube = cube_of_limits([[0, 20], [-5, 5], [1, 3]], scale=1e3)
    np.testing.assert_allclose(cube.centre, [0.01, 0.0, 0.002])
    assert cube.edge == pytest.approx(0.02)
    for bad in ([[0, 1]], [[1, 0], [0, 1], [0, 1]], [[0, np.nan], [0, 1], [0, 1]]):
        with pytest.raises(UsageError, match="three pairs"):
            cube_of_limits(bad)


@pytest.mark.parametrize(
    ("edge", "expected"), [(0.0301, 0.04), (0.04, 0.04), (8.1e-5, 1e-4), (1.0, 1.0), (0.13, 0.15)]
)
def test_edges_are_round_and_never_smaller(edge, expected):
    assert round_edge(edge) == pytest.approx(expected)


# ---------------------------------------------------------------- layers and scenes


def test_scene_has_all_layers_and_says_what_they_are():
    track = a_track()
    scene = scene_of(track, drifted_of(track), hits_of(track))
    raw, drifted, hits = scene.layers
    assert [layer.name for layer in scene.layers] == ["raw", "drifted", "hits"]
    assert raw.charge.sum() == drifted.charge.sum() == track.charge
    assert raw.about.startswith("5,002 points in ")
    assert "depth 175 mm" in drifted.about
    assert "above 20 e⁻" in hits.about
    assert drifted.edge == hits.edge == 5e-4
    assert scene.title == "5.022 MeV photon · pair · walk"
    assert scene.core.edge < 0.1
    assert scene.whole.edge > 0.4
    assert all(scene.whole.holds(layer.positions).all() for layer in scene.layers)
    assert scene.cube("all") is scene.whole
    assert scene.cube("core") is scene.core
    assert scene.cube(0.9).edge < scene.whole.edge
    assert scene.layer("hits") is hits


def test_hits_are_those_above_threshold():
    track = a_track()
    hits = hits_of(track)
    layer = hits_layer(hits)
    np.testing.assert_array_equal(layer.charge, hits.charge[hits.triggered])
    np.testing.assert_array_equal(layer.positions, hits.positions[:, hits.triggered])
    everything = hits_layer(hits, all_samples=True)
    np.testing.assert_array_equal(everything.charge, hits.charge[hits.charge > 0])
    coarse = hits_layer(hits, most=20)
    assert coarse.charge.sum() == pytest.approx(layer.charge.sum())
    assert coarse.edge == 2 * layer.edge


def test_drift_time_is_that_of_the_charge():
    track = a_track()
    layer = drifted_layer(drifted_of(track), edge=1e-3)
    expected = 100 - 500 * track.positions[2]
    assert (layer.values["time"] * layer.charge).sum() == pytest.approx((expected * track.num_e).sum())


def test_what_drifted_has_the_labels_of_its_points():
    track = a_track()
    label = np.arange(len(track)) // 1000
    scene = scene_of(track, drifted_of(track), labels={"raw": label})
    for layer in scene.layers:
        sums = np.bincount(layer.label, weights=layer.charge)
        np.testing.assert_allclose(sums, np.bincount(label, weights=track.num_e))


def test_particles_are_numbered_by_their_charge():
    track = Track(
        np.zeros((3, 4)), np.array([1, 5, 5, 8]), particle_id=np.array([9, 4, 4, 2], dtype=np.int32)
    )
    assert particle_labels(track).tolist() == [2, 0, 0, 1]
    assert particle_labels(track, most=1).tolist() == [-1, 0, 0, -1]
    with pytest.raises(UsageError, match="which particle"):
        particle_labels(a_track())


def test_every_point_by_itself():
    track = a_track()
    layer = raw_layer(track, points=True)
    assert len(layer) == len(track)
    assert layer.edge == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: scene_of(), "nothing to draw"),
        (lambda: scene_of(a_track(), labels={"hits": [1]}), "unknown layer 'hits'"),
        (lambda: scene_of(a_track()).cube("middle"), "unknown zoom 'middle'"),
        (lambda: scene_of(a_track()).layer("drift"), "unknown layer 'drift'"),
    ],
)
def test_scene_refuses_what_it_cannot_draw(call, words):
    with pytest.raises(UsageError, match=words):
        call()


def test_empty_track_makes_a_scene():
    empty = Track(np.zeros((3, 0)), np.zeros(0, dtype=np.int64), name="empty")
    scene = scene_of(empty)
    assert len(scene.layers[0]) == 0
    assert scene.whole.edge > 0
    assert scene.title == "empty"


@pytest.mark.parametrize(
    ("length", "expected"),
    [(2e-4, "0.2 mm"), (5e-5, "50 µm"), (0.175, "175 mm"), (1.5, "1.5 m"), (0, "0 mm")],
)
def test_lengths_are_said_as_people_say_them(length, expected):
    assert length_text(length) == expected


def test_titles():
    assert energy_text(500.0) == "500 keV"
    assert energy_text(20000.0) == "20 MeV"
    assert title_of(a_track(truth=None)) == "walk"


# ---------------------------------------------------------------- truth and colours


def test_soft_interactions_are_not_marked_but_pairs_always_are():
    truth = a_track().truth
    assert {kind: energies.tolist() for kind, (_, energies) in marks_of(truth).items()} == {
        "brem": [500.0],
        "compton": [100.0],
        "pair": [4000.0],
    }
    assert marks_of(truth, above=0.0)["brem"][1].tolist() == [500.0, 5.0]
    assert set(marks_of(truth, above=1e6)) == {"pair"}


def test_photon_comes_in_and_electron_goes_out():
    origin, direction = np.array([0.1, 0.0, 0.0]), np.array([0.6, 0.8, 0.0])
    cube = Cube(np.array([0.1, 0.0, 0.0]), 0.1)
    before, after = path_in(Truth("photon", 1e4, origin, direction), cube)
    assert after is None
    np.testing.assert_allclose(before[:, 1], origin)
    np.testing.assert_allclose(np.diff(before, axis=1)[:, 0], 0.03 * direction)
    before, after = path_in(Truth("electron", 1e4, origin, direction), cube)
    assert before is None
    np.testing.assert_allclose(after[:, 0], origin)
    assert cube.holds(after).all()


@pytest.mark.parametrize("particle", ["photon", "electron"])
def test_direction_stays_in_the_cube(particle):
    rng = np.random.default_rng(8)
    cube = Cube(np.array([1.0, 2.0, 3.0]), 0.2)
    for _ in range(50):
        direction = rng.normal(size=3)
        truth = Truth(
            particle, 1e3, cube.centre + rng.uniform(-0.1, 0.1, 3), direction / np.linalg.norm(direction)
        )
        path = next(line for line in path_in(truth, cube) if line is not None)
        assert cube.holds(path).all()
        np.testing.assert_allclose(np.cross(np.diff(path, axis=1)[:, 0], truth.direction), 0, atol=1e-15)


@pytest.mark.parametrize(
    ("origin", "direction"),
    [([9.0, 0, 0], [1.0, 0, 0]), ([0, 0, 0], [0.0, 0, 0]), ([0, 0, 0], [np.nan, 0, 0])],
)
def test_no_direction_is_drawn_where_there_is_none(origin, direction):
    truth = Truth("electron", 1e3, np.array(origin, dtype=float), np.array(direction))
    assert path_in(truth, Cube(np.zeros(3), 1.0)) == (None, None)


def layer_of(charge, **more):
    charge = np.asarray(charge, dtype=float)
    return Layer("raw", np.zeros((3, charge.size)), charge, **more)


def test_one_scale_holds_all_layers():
    norm = charge_norm([layer_of([10, 100]), layer_of([5, 2000])])
    assert (norm.vmin, norm.vmax) == (10, 2000), "the marker of 5 has less than a fiftieth of its layer"
    assert charge_norm([layer_of([])]).vmax == 10
    assert charge_norm([layer_of([7, 7])]).vmax == 14
    assert charge_norm([layer_of([1])], (3, 9)).vmin == 3
    with pytest.raises(UsageError, match="no scale"):
        charge_norm([layer_of([1])], (9, 3))


@pytest.mark.parametrize("limits", [(100, 300), (12, 9000), (1, 3e5), (20, 26)])
def test_ticks_of_charge_are_round_and_not_too_many(limits):
    ticks, names = charge_ticks(charge_norm([], limits))
    assert 1 <= len(ticks) <= 8
    assert all(limits[0] * 0.99 <= tick <= limits[1] * 1.01 for tick in ticks)
    assert len(names) == len(set(names)) == len(ticks)


def test_area_of_a_marker_follows_its_charge():
    area = marker_area(np.array([1000.0, 500.0, 250.0, 0.1, 5000.0]), 1000.0, largest=40.0)
    np.testing.assert_allclose(area, [40, 20, 10, 1.6, 40])
    assert marker_area(np.array([1.0]), 1.0, number=5000)[0] < marker_area(np.array([1.0]), 1.0)[0]


def test_colours_by_what_there_is():
    layer = layer_of([1, 2], label=np.array([0, -1]), values={"time": np.array([3.0, 4.0])})
    norm = charge_norm([layer])
    assert colours_of(layer, "label", norm)["c"] == label_colours(np.array([0, -1]))
    assert colours_of(layer, "time", norm)["c"].tolist() == [3.0, 4.0]
    with pytest.raises(UsageError, match=r"what exists: charge$"):
        colours_of(layer_of([1]), "time", norm)


def test_key_of_labels_gives_shares_and_sums_up_the_small():
    layer = layer_of([60, 30, 5, 3, 2], label=np.array([4, 1, -1, 2, 3]))
    words = [handle.get_label() for handle in key_of_labels(layer, "cluster", most=3)]
    assert words == ["cluster 4: 60.0%", "cluster 1: 30.0%", "rest: 5.0%", "2 more: 5.0%"]
