"""Cubes, clusters, spanning tree, path and axes, on charge whose shape is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from firstlight.detectors.lartpc.features.clusters import find_clusters, link_graph, linked_pairs
from firstlight.detectors.lartpc.features.paths import (
    compare_ends,
    find_branches,
    longest_path,
    profile,
    spanning_tree,
    turning,
)
from firstlight.detectors.lartpc.features.settings import Settings
from firstlight.detectors.lartpc.features.shapes import principal_axes
from firstlight.detectors.lartpc.features.voxelise import voxelise
from firstlight.errors import ConfigError, InputError

MM = 1e-3


def line(n: int, step: float = MM, axis: int = 0) -> np.ndarray:
    points = np.zeros((3, n))
    points[axis] = step * np.arange(n)
    return points


# ---------------------------------------------------------------- cubes


def test_cubes_sum_charge_and_average_positions():
    positions = np.array([[0.1, 0.3, 0.6, -0.1], [0.1, 0.1, 0.1, 0.1], [0.2, 0.4, 0.2, 0.2]]) * MM
    voxels = voxelise(positions, np.array([1, 3, 5, 7]), 0.5 * MM)
    # -0.1 mm is in another cube than +0.1 mm: cubes fill space from the corner (0, 0, 0), they do not round to it
    assert voxels.charge.tolist() == [7, 4, 5]
    assert voxels.label.tolist() == [1, 1, 2, 0]
    assert voxels.positions[:, 1] == pytest.approx(np.array([0.25, 0.1, 0.35]) * MM)


def test_cubes_do_not_depend_on_the_order_of_points_and_lose_no_charge():
    rng = np.random.default_rng(1)
    positions, charge = rng.normal(0, 3 * MM, (3, 5000)) + 0.4, rng.integers(0, 20, 5000)
    order = rng.permutation(5000)
    one, other = (
        voxelise(positions, charge, 0.5 * MM),
        voxelise(positions[:, order], charge[order], 0.5 * MM),
    )
    assert one.charge.sum() == charge.sum()
    assert np.array_equal(one.charge, other.charge)
    assert np.array_equal(one.label[order], other.label)
    assert np.allclose(one.positions, other.positions, rtol=0, atol=1e-15)
    assert (one.label[charge == 0] == -1).all()


def test_cubes_are_the_same_where_their_numbers_exceed_an_integer():
    positions = np.array([[0.0, 1e10, 1e10], [0.0, 1e10, 1e10], [0.0, 1e10, 1e10]])
    voxels = voxelise(positions, np.array([1, 2, 3]), 0.5 * MM)
    assert voxels.charge.tolist() == [1, 5]


def test_cubes_below_threshold_are_left_out():
    voxels = voxelise(line(3), np.array([5, 50, 5]), 0.5 * MM, threshold=10)
    assert voxels.charge.tolist() == [50]
    assert voxels.label.tolist() == [-1, 0, -1]


@pytest.mark.parametrize(
    ("positions", "charge", "words"),
    [
        (np.zeros((2, 3)), np.ones(3), "shape"),
        (np.zeros((3, 3)), np.ones(2), "do not belong together"),
        (np.array([[0, np.nan], [0, 0], [0, 0]]), np.ones(2), "position of point 1"),
        (np.zeros((3, 2)), np.array([1, -4]), "charge of point 1 is -4"),
        (np.zeros((3, 2)), np.array([np.inf, 1.0]), "charge of point 0"),
    ],
)
def test_cubes_refuse_what_is_no_charge(positions, charge, words):
    with pytest.raises(InputError, match=words):
        voxelise(positions, charge, MM)


# ---------------------------------------------------------------- clusters


def brute_force_components(positions: np.ndarray, link: float) -> set[frozenset[int]]:
    parts = [{index} for index in range(positions.shape[1])]
    for one, other in itertools.combinations(range(positions.shape[1]), 2):
        if np.linalg.norm(positions[:, one] - positions[:, other]) <= link:
            first = next(part for part in parts if one in part)
            second = next(part for part in parts if other in part)
            if first is not second:
                parts.remove(second)
                first |= second
    return {frozenset(part) for part in parts}


def test_clusters_are_the_components_of_the_links():
    rng = np.random.default_rng(5)
    positions = rng.uniform(0, 20 * MM, (3, 150))
    found = find_clusters(positions, np.ones(150), 2.5 * MM)
    groups = {frozenset(np.flatnonzero(found.label == number).tolist()) for number in range(len(found))}
    assert groups == brute_force_components(positions, 2.5 * MM)
    assert len(groups) > 5


def test_clusters_come_in_the_order_of_their_charge():
    positions = np.concatenate([line(2), line(3) + 0.1, line(1) + 0.2], axis=1)
    found = find_clusters(positions, np.array([1, 1, 5, 5, 5, 9.0]), 2 * MM)
    assert found.charge.tolist() == [15, 9, 2]
    assert found.label.tolist() == [2, 2, 0, 0, 0, 1]
    assert found.centre[:, 0] == pytest.approx([0.101, 0.1, 0.1])


def test_link_length_itself_still_links():
    assert len(find_clusters(line(4, 2.5 * MM), np.ones(4), 2.5 * MM * (1 + 1e-12))) == 1
    assert len(find_clusters(line(4, 2.5 * MM), np.ones(4), 2.49 * MM)) == 4


def test_dbscan_leaves_the_lonely_out_and_borders_join_the_nearest_core():
    dense = line(5)
    border, lonely = np.array([[5.5], [0], [0]]) * MM, np.array([[30.0], [0], [0]]) * MM
    positions = np.concatenate([dense, border, lonely], axis=1)
    found = find_clusters(positions, np.ones(7), 1.6 * MM, neighbours=3)
    # the first point and the one at 5.5 mm have one neighbour, and join as borders
    assert found.label.tolist() == [0, 0, 0, 0, 0, 0, -1]
    assert (find_clusters(positions, np.ones(7), 1.6 * MM, neighbours=4).label == -1).all()


def test_dbscan_agrees_with_its_definition_on_random_points():
    rng = np.random.default_rng(8)
    positions = rng.uniform(0, 12 * MM, (3, 200))
    found = find_clusters(positions, np.ones(200), 2 * MM, neighbours=5)
    distance = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=0)
    near = distance <= 2 * MM
    core = near.sum(axis=1) >= 5
    for one, other in zip(*np.nonzero(near & core[:, None] & core), strict=True):
        assert found.label[one] == found.label[other] >= 0
    for point in np.flatnonzero(~core):
        reach = np.flatnonzero(near[point] & core)
        expected = found.label[reach[distance[point, reach].argmin()]] if reach.size else -1
        assert found.label[point] == expected
    assert 0 < (found.label == -1).sum() < 200


# ---------------------------------------------------------------- tree and path


def prim_length(positions: np.ndarray) -> float:
    distance = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=0)
    reached, total = {0}, 0.0
    while len(reached) < len(distance):
        inside = sorted(reached)
        outside = [index for index in range(len(distance)) if index not in reached]
        part = distance[np.ix_(inside, outside)]
        total += part.min()
        reached.add(outside[int(part.min(axis=0).argmin())])
    return float(total)


def test_tree_is_as_short_as_that_of_another_algorithm_even_where_links_do_not_reach():
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 20 * MM, (3, 60))
    # half a millimetre links almost nothing: the length is raised until all hang together
    tree = spanning_tree(positions, np.ones(60), 0.5 * MM)
    length = np.linalg.norm(positions[:, tree.edges[:, 0]] - positions[:, tree.edges[:, 1]], axis=0).sum()
    assert tree.edges.shape == (59, 2)
    assert length == pytest.approx(prim_length(positions))


def test_longest_path_is_the_longest_of_all_pairs():
    rng = np.random.default_rng(3)
    tree = spanning_tree(rng.uniform(0, 20 * MM, (3, 50)), np.ones(50), 5 * MM)
    longest = max(tree.distances(start)[0].max() for start in range(50))
    path = longest_path(tree)
    assert path.length == pytest.approx(longest)
    assert path.along[-1] == pytest.approx(tree.distances(int(path.points[0]))[0][path.points[-1]])


def test_path_along_a_corner_and_back():
    positions = np.concatenate([line(11), line(10, axis=1) + np.array([[10], [1], [0]]) * MM], axis=1)
    path = longest_path(spanning_tree(positions, np.ones(21), 1.2 * MM))
    assert path.length == pytest.approx(20 * MM)
    assert path.straight == pytest.approx(np.sqrt(200) * MM)
    assert path.tortuosity == pytest.approx(np.sqrt(2))
    back = path.reversed()
    assert np.allclose(back.positions[:, 0], path.positions[:, -1])
    assert back.along == pytest.approx(path.length - path.along[::-1])
    distance, along = path.project(np.array([[3.0, 10.0], [-2.0, 5.0], [0.0, 1.5]]) * MM)
    expected = np.array([3.0, 15.0]) if path.positions[0, 0] < 5 * MM else np.array([17.0, 5.0])
    assert distance == pytest.approx(np.array([2, 1.5]) * MM)
    assert along == pytest.approx(expected * MM)


def test_points_at_one_place_make_a_path_without_length():
    for n in (1, 2, 3):
        path = longest_path(spanning_tree(np.zeros((3, n)), np.ones(n), MM))
        assert path.length == pytest.approx(0, abs=1e-12)
        assert path.tortuosity >= 1
    assert longest_path(spanning_tree(np.zeros((3, 0)), np.zeros(0), MM)).length == 0


def test_branch_is_found_with_its_charge_and_distance():
    trunk = line(31)
    branch = line(8, axis=1) + np.array([[15], [1], [0]]) * MM
    positions = np.concatenate([trunk, branch], axis=1)
    charge = np.ones(39)
    path = longest_path(spanning_tree(positions, charge, 1.2 * MM))
    found = find_branches(path, positions, charge, 2 * MM, 2.5 * MM)
    # of the branch, the points 3 to 8 mm away
    assert found.share == pytest.approx(6 / 39)
    assert found.distance == pytest.approx(8 * MM)
    assert found.count == 1


def test_end_with_more_charge_is_where_it_stopped():
    charge = np.ones(21)
    charge[18:] = 3
    path = longest_path(spanning_tree(line(21), charge, 1.2 * MM))
    ends = compare_ends(path, line(21), charge, 2 * MM)
    assert sorted(ends.charge) == [3, 9]
    assert ends.ratio == pytest.approx(3)
    assert ends.seems_reversed(1.5) == (path.positions[0, 0] > 10 * MM)


def test_turning_is_that_of_a_circle():
    angle = np.linspace(0, np.pi / 2, 400)
    circle = 20 * MM * np.stack([np.cos(angle), np.sin(angle), 0 * angle])
    path = longest_path(spanning_tree(circle, np.ones(400), MM))
    assert turning(path) == pytest.approx(1 / 20, rel=0.01)
    assert turning(longest_path(spanning_tree(line(30), np.ones(30), 1.2 * MM))) == pytest.approx(0, abs=1e-6)


def test_profile_holds_all_charge_near_the_path():
    positions, charge = line(410, 0.1 * MM), np.where(np.arange(410) < 205, 1.0, 3.0)
    far = np.array([[20.0], [5.0], [0.0]]) * MM
    path = longest_path(spanning_tree(positions, charge, 0.15 * MM))
    along, density = profile(
        path, np.concatenate([positions, far], axis=1), np.append(charge, 100.0), 2 * MM, 2 * MM
    )
    width = along[1] - along[0]
    assert width >= 2 * MM
    assert (density * 1e3 * width).sum() == pytest.approx(charge.sum())
    forward = density if path.positions[0, 0] < 20 * MM else density[::-1]
    assert forward[:9] == pytest.approx(10, rel=0.06)
    assert forward[-9:] == pytest.approx(30, rel=0.06)


# ---------------------------------------------------------------- axes


def test_axes_of_a_box_have_its_variances():
    rng = np.random.default_rng(4)
    sizes = np.array([9.0, 3.0, 1.0]) * MM
    positions = rng.normal(0, 1, (3, 20000)) * sizes[:, None] + 0.3
    shape = principal_axes(positions, np.ones(20000))
    # relative error of a variance of n values: sqrt(2 / n) = 0.01
    assert shape.variances == pytest.approx(sizes**2, rel=0.04)
    assert np.abs(shape.axes) == pytest.approx(np.eye(3), abs=0.02)
    assert shape.linearity == pytest.approx(8 / 9, abs=0.01)
    assert shape.width == pytest.approx(np.sqrt(10) * MM, rel=0.03)


def test_axes_weigh_with_charge_and_tell_a_line_and_a_point():
    assert principal_axes(line(5), np.ones(5)).linearity == 1
    assert np.isnan(principal_axes(line(1), np.ones(1)).linearity)
    assert np.isnan(principal_axes(np.zeros((3, 0)), np.zeros(0)).planarity)
    heavy = principal_axes(line(3), np.array([1.0, 0.0, 1.0])).variances[0]
    assert heavy == pytest.approx(MM**2)


# ---------------------------------------------------------------- settings


def test_settings_refuse_what_cannot_be():
    for wrong in (
        {"edge": 0.0},
        {"link": -1.0},
        {"ray_shell": (6e-3, 1e-3)},
        {"neighbours": 0},
        {"threshold": -1.0},
    ):
        with pytest.raises(ConfigError):
            Settings(**wrong)
    with pytest.raises(ConfigError, match="shorter than the edge"):
        Settings(edge=5e-3)


def test_settings_of_hits_grow_with_the_pitch():
    small, large = Settings.of_hits(0.5e-3), Settings.of_hits(5e-3)
    assert (small.edge, small.link) == (0.5e-3, 2.5e-3)
    assert (large.edge, large.link) == (5e-3, 25e-3)
    assert large.ray_shell[0] > small.ray_shell[0]


def test_graph_keeps_links_without_length():
    positions = np.zeros((3, 3))
    pairs = linked_pairs(positions, MM)
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert link_graph(positions, pairs).nnz == 3
