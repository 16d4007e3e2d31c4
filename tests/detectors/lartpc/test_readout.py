"""Designs, cells, voxels, noise, pixels, wires and tiles: exact charge, thresholds, and noise where nothing is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from firstlight.detectors.lartpc.drift import drift, stream
from firstlight.detectors.lartpc.medium import PRESETS, Medium
from firstlight.detectors.lartpc.readout.cells import cell_around, hexagonal_cell
from firstlight.detectors.lartpc.readout.designs import DESIGNS, AnodeWires, Design, Pixels, design
from firstlight.detectors.lartpc.readout.noise import Region, empty_hits, tail, tail_probability
from firstlight.detectors.lartpc.readout.pixels import cells_of, coarse_grid
from firstlight.detectors.lartpc.readout.read import read_out
from firstlight.detectors.lartpc.readout.voxels import Grid, count, pack, unpack
from firstlight.detectors.lartpc.readout.wires import share
from firstlight.errors import InputError, UsageError

STILL = Medium(lifetime=math.inf, fixed_longitudinal=0.0, fixed_transverse=0.0)
GAMPY = PRESETS["gampy110K"]


@pytest.fixture(scope="module")
def tracks(request):
    """Return positions and charges of all tracks of the sample, by path."""
    from pathlib import Path

    folder = Path(request.getfixturevalue("sample_data")) / "lartpc" / "Tracks"
    if not folder.is_dir():
        pytest.skip(f"no LArTPC tracks in {folder}")
    found = {}
    for path in sorted(folder.rglob("Track*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            found[str(path.relative_to(folder))] = arrays["r"], arrays["num_e"]
    return found


def placed(positions, num_e, **changes):
    """Return charge that has drifted without loss or diffusion."""
    positions, num_e = np.asarray(positions, dtype=float), np.asarray(num_e)
    return drift(positions, num_e, STILL.with_changes(**changes), 0, anode=1.0, bunch=None)


def cloud(seed=0, n=4000, width=4e-3):
    rng = np.random.default_rng(seed)
    return rng.normal(0, width, (3, n)), rng.integers(1, 30, n)


NOTHING = placed(np.zeros((3, 0)), np.zeros(0, dtype=int))


# ---------------------------------------------------------------- designs


def test_defaults_are_those_of_the_original():
    assert DESIGNS["GAMPixG"].values() == {
        "pixels.pitch": 0.5e-3, "pixels.noise": 25.0, "pixels.threshold_sigma": 4.0,
        "coarse_grids.pitch": 10e-3, "coarse_grids.gap": 10e-3, "coarse_grids.noise": 20.0,
        "coarse_grids.threshold_sigma": 4.0, "coarse_grids.signal_fraction": 0.6, "offset": (0.0, 0.0, 0.0),
    }  # fmt: skip
    found = {
        name: (each.collecting.pitch, each.collecting.noise, each.collecting.threshold)
        for name, each in DESIGNS.items()
    }
    assert found == {
        "GAMPixG": (0.5e-3, 25, 100), "GAMPixD": (5e-3, 50, 200), "LArPix": (5e-3, 1000, 5000),
        "AnodeGridD": (4e-3, 800, 4000), "AnodeGridG": (1e-3, 50, 250),
    }  # fmt: skip
    assert DESIGNS["GAMPixG"].pixels_per_cell == (20, 20, 20)
    assert DESIGNS["GAMPixD"].pixels_per_cell == (20, 20, 2)
    assert DESIGNS["GAMPixD"].coarse.threshold == 250
    assert [each.gampy_bunch for each in DESIGNS.values()] == [12.5, 25, 500, 400, 25]
    assert [each.coarse_pitch for each in DESIGNS.values()] == [10e-3, 0.1, 5e-3, 4e-3, 1e-3]


def test_values_are_changed_by_name():
    finer = design("GAMPixG", {"pixels.pitch": 0.25e-3, "coarse_grids.noise": 30, "offset": (0, 0, 1e-4)})
    assert finer.pixels.pitch == 0.25e-3
    assert finer.coarse_grids.noise == 30
    assert finer.pixels_per_cell == (40, 40, 40)
    assert finer.record()["offset"] == [0, 0, 1e-4]
    assert DESIGNS["GAMPixG"].pixels.pitch == 0.5e-3


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("GAMPixX", {}, "unknown read-out 'GAMPixX'"),
        ("LArPix", {"pixels.pich": 1}, "unknown value of the read-out 'pixels.pich'"),
        ("LArPix", {"coarse_tiles.pitch": 0.1}, "unknown value"),
        ("LArPix", {"pixels.pitch": 0.0}, "pitch is 0"),
        ("LArPix", {"pixels.noise": -1.0}, "noise is -1"),
        ("LArPix", {"pixels.noise": "much"}, "noise is 'much'"),
        ("GAMPixG", {"pixels.pitch": 0.7e-3}, "14.2857 times the pixel pitch"),
    ],
)
def test_wrong_names_and_values_say_what_exists(name, changes, words):
    with pytest.raises(UsageError) as caught:
        design(name, changes)
    assert words in str(caught.value)
    if "unknown" in words:
        assert caught.value.known


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(UsageError, match="one of them"):
        Design("none")
    with pytest.raises(UsageError, match="one of them"):
        Design("both", Pixels(1e-3, 1, 4), anode_grid=AnodeWires(1e-3, 1, 4))


# ---------------------------------------------------------------- cells


def test_box_around_a_track():
    positions = np.array([[0.0, 0.02], [-0.01, 0.0], [0.0, 0.05]])
    cell = cell_around(positions, DESIGNS["GAMPixG"])
    # box 40 x 30 x 70 mm with a coarse pitch around, and 7 mm on each side
    assert cell.z_anode == pytest.approx(0.05 + 0.01 + 0.007)
    assert cell.height == pytest.approx(0.084)
    assert cell.width_x == pytest.approx(2 * 0.037)
    assert cell.width_y == pytest.approx(2 * 0.027)
    values = cell.as_dict()
    assert set(values) == {"geometry", "num_cells", "width_x", "width_y", "height", "center", "z_anode"}
    assert values["center"] == pytest.approx([0.01, -0.005, 0.025])
    with pytest.raises(InputError, match="shape"):
        cell_around(np.zeros((3, 0)), DESIGNS["GAMPixG"])


def test_hexagonal_cell():
    cell = hexagonal_cell()
    assert (cell["flat_to_flat"], cell["height"]) == (0.175, 0.175)
    assert cell["corner_to_corner"] == pytest.approx(2 * cell["wall_length"])
    assert cell["area"] == pytest.approx(1.5 * math.sqrt(3) * cell["wall_length"] ** 2)
    with pytest.raises(UsageError, match="positive"):
        hexagonal_cell(-1)


# ---------------------------------------------------------------- voxels


def test_voxels_meet_without_gap_and_an_edge_belongs_to_the_upper_one():
    grid = Grid((1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    along = np.array([-1.0, -1e-12, 0.0, 1 - 1e-12, 1.0, 2.0])
    assert grid.index(np.stack([along] * 3))[0].tolist() == [-1, -1, 0, 0, 1, 2]
    index = np.array([[-3, 4], [0, 5], [7, -1]])
    assert np.array_equal(grid.index(grid.centres(index)), index)


def test_packing_is_undone_and_keeps_the_order():
    rng = np.random.default_rng(0)
    index = rng.integers(-(1 << 20), 1 << 20, (3, 5000))
    key = pack(index)
    assert np.array_equal(unpack(key), index)
    assert np.array_equal(np.argsort(key), np.lexsort(index[::-1]))
    with pytest.raises(UsageError, match="larger pitch"):
        pack(np.array([[1 << 20], [0], [0]]))


@pytest.mark.parametrize("unit", [True, False])
def test_counting_is_exact(unit):
    rng = np.random.default_rng(1)
    key = rng.integers(0, 300, 20_000)
    num_e = np.ones(20_000, dtype=np.int64) if unit else rng.integers(0, 10**12, 20_000)
    found, charge = count(key, num_e)
    expected = [num_e[key == each].sum() for each in range(300)]
    assert found.tolist() == list(range(300))
    assert charge.tolist() == expected
    assert charge.dtype == np.int64


def test_edges_of_cubes_are_edges_of_pixels():
    for per_cell in ((20, 20, 20), (20, 20, 2), (5, 5, 5)):
        fine, coarse = Grid((0.5e-3,) * 3), coarse_grid(0.5e-3, per_cell, (0.0, 0.0, 0.0))
        positions = np.random.default_rng(2).uniform(-0.05, 0.05, (3, 20_000))
        assert np.array_equal(cells_of(fine.index(positions), per_cell), coarse.index(positions))


# ---------------------------------------------------------------- charge is conserved


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("coarse", [False, True])
def test_charge_in_voxels_is_what_arrived_for_every_track(tracks, name, coarse):
    chosen = DESIGNS[name]
    if coarse and chosen.coarse is None:
        with pytest.raises(UsageError, match="no coarse stage"):
            read_out(NOTHING, chosen, 1, coarse_trigger=True)
        return
    for number, (positions, num_e) in enumerate(tracks.values()):
        if num_e.sum() > 200_000 and coarse:
            continue
        anode = cell_around(positions, chosen).z_anode
        drifted = drift(positions, num_e, GAMPY, stream(1, number), anode=anode, depth=0.1, bunch=12.5)
        read = read_out(drifted, chosen, stream(1, number, 1), coarse_trigger=coarse)
        assert read.charge_true == drifted.charge == read.drifted
        assert read.collected.charge_true.dtype == np.int64
        if read.wires is not None:
            assert read.wires.x.charge_true.sum() == read.wires.y.charge_true.sum() == drifted.charge
        if read.tiles is not None:
            assert read.tiles.charge_true.sum() == drifted.charge


@pytest.mark.parametrize("name", DESIGNS)
def test_no_electron_is_lost_at_an_edge(name):
    chosen = DESIGNS[name]
    pitch = chosen.collecting.pitch
    edges = (np.arange(-41, 42) + 0.5) * pitch
    positions = np.stack(np.meshgrid(edges, edges[::7], edges[::5], indexing="ij")).reshape(3, -1)
    num_e = np.random.default_rng(3).integers(1, 9, positions.shape[1])
    drifted = placed(positions, num_e)
    assert read_out(drifted, chosen, 1).charge_true == num_e.sum()


def test_electrons_are_in_the_voxel_in_which_they_are():
    positions = np.array([[0.0, 0.3e-3, -0.24e-3], [0.0, 0.0, 0.0], [0.0, 0.0, 1.9e-3]])
    hits = read_out(placed(positions, [1000, 500, 300]), "GAMPixG", 1, empty=False).hits
    assert hits.index.T.tolist() == [[0, 0, 0], [0, 0, 4], [1, 0, 0]]
    assert hits.charge_true.tolist() == [1000, 300, 500]
    places = np.array([[0, 0, 0], [0, 0, 2e-3], [0.5e-3, 0, 0]])
    assert np.allclose(hits.positions.T, places, rtol=0, atol=1e-12)
    assert hits.triggered.all()
    assert hits.charge == pytest.approx(hits.charge_true, abs=4 * 25)


def test_offset_moves_the_grid():
    moved = design("LArPix", {"offset": (2.5e-3, 2.5e-3, 0.0)})
    positions = np.array([[1e-4, -1e-4, 1e-4, -1e-4], [1e-4, 1e-4, -1e-4, -1e-4], [0.0] * 4])
    drifted = placed(positions, [4000] * 4)
    assert len(read_out(drifted, "LArPix", 1).hits) == 1
    assert len(read_out(drifted, moved, 1).hits) == 4
    # a track at the corner of four pixels of the original: nothing is above 5000 electrons
    assert read_out(drifted, "LArPix", 1).n_triggered == 1
    assert read_out(drifted, design("LArPix", {"offset": (2.5e-3, 2.5e-3, 0), "pixels.noise": 1e-3, "pixels.threshold_sigma": 5e6}), 1).n_triggered == 0  # fmt: skip


# ---------------------------------------------------------------- noise


def test_probabilities_of_the_tail():
    assert tail_probability(4) == pytest.approx(3.17e-5, rel=2e-3)
    assert tail_probability(5) == pytest.approx(2.87e-7, rel=2e-3)
    drawn = tail(20_000, 4.0, np.random.default_rng(1))
    assert drawn.min() > 4
    from scipy.stats import norm

    assert kstest(norm.sf(drawn) / tail_probability(4), "uniform").pvalue > 1e-3


def test_zero_charge_event_of_a_million_voxels():
    region = np.array([[-25.1e-3, 24.9e-3]] * 3)
    counts = [read_out(NOTHING, "GAMPixG", seed, region=region).n_triggered for seed in range(60)]
    read = read_out(NOTHING, "GAMPixG", 1, region=region)
    assert read.n_empty == 1_000_000
    assert read.expected_noise == pytest.approx(31.67, abs=0.01)
    assert abs(np.mean(counts) - 31.67) < 3.5 * math.sqrt(31.67 / 60)
    assert np.std(counts, ddof=1) == pytest.approx(5.63, rel=0.3)
    assert all(abs(each - 31.67) < 4.5 * 5.63 for each in counts)
    assert (read.hits.charge > 100).all()
    assert (read.hits.charge_true == 0).all()
    assert (np.abs(read.hits.positions) < 25.1e-3).all()
    assert len(np.unique(pack(read.hits.index))) == len(read.hits)


def test_noise_hits_are_spread_over_the_empty_voxels_only():
    region = Region.box(np.zeros(3, dtype=np.int64), np.array([19, 19, 19]))
    occupied = np.sort(pack(region.voxel(np.arange(0, 8000, 2))[0]))
    rng = np.random.default_rng(4)
    places = []
    for sigma in (1.0, 3.0):
        hits = [empty_hits(region, occupied, 10.0, sigma, rng) for _ in range(200)]
        keys = [pack(each.index) for each in hits]
        assert not any(np.isin(key, occupied).any() for key in keys)
        assert all(np.unique(key).size == key.size for key in keys)
        expected = 4000 * tail_probability(sigma)
        assert abs(np.mean([key.size for key in keys]) - expected) < 3.5 * math.sqrt(expected / 200)
        assert min(each.charge.min(initial=math.inf) for each in hits) > 10 * sigma
        assert all(each.n_empty == 4000 for each in hits)
        places.append(np.concatenate([each.index for each in hits], axis=1))
    for index in places:
        for axis in range(3):
            # every other voxel along z is occupied
            counts = np.bincount(index[axis], minlength=20)[slice(1, None, 2) if axis == 2 else slice(None)]
            chi2 = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
            assert chi2 < counts.size + 4.5 * math.sqrt(2 * counts.size)


def test_full_regions_and_no_noise_give_no_hits():
    region = Region.box(np.zeros(3, dtype=np.int64), np.array([1, 1, 1]))
    everything = np.sort(pack(region.voxel(np.arange(8))[0]))
    rng = np.random.default_rng(5)
    assert empty_hits(region, everything, 10.0, 0.0, rng).charge.size == 0
    assert empty_hits(region, everything[:3], 0.0, 4.0, rng).charge.size == 0
    assert empty_hits(region, everything[:7], 10.0, -9.0, rng).charge.size == 1


@pytest.mark.parametrize("name", DESIGNS)
def test_no_triggered_sample_is_below_threshold(name):
    read = read_out(placed(*cloud()), name, 6)
    samples = read.collected
    assert samples.triggered.any()
    assert (samples.charge[samples.triggered] > samples.threshold).all()
    assert samples.threshold == DESIGNS[name].collecting.threshold
    assert not samples.triggered[samples.charge <= samples.threshold].any()
    assert read.charge == samples.charge[samples.triggered].sum()


def test_noise_of_voxels_with_charge_is_gaussian():
    hits = read_out(placed(*cloud(n=30_000)), "GAMPixG", 7, empty=False).hits
    pulls = (hits.charge - hits.charge_true) / 25
    assert abs(pulls.mean()) < 3.5 / math.sqrt(pulls.size)
    assert kstest(pulls, "norm").pvalue > 1e-3


def test_empty_can_be_switched_off():
    read = read_out(placed(*cloud()), "GAMPixG", 8, empty=False)
    assert (read.hits.charge_true > 0).all()
    assert read.n_empty == 0
    assert read.n_noise == 0


def test_noise_hits_stand_in_the_cells_that_are_read():
    total, expected = 0, 0.0
    for seed in range(40):
        read = read_out(placed(*cloud(seed, n=300)), "GAMPixG", seed)
        noise = read.hits.charge_true == 0
        cells = cells_of(read.hits.index, (20, 20, 20))
        assert np.array_equal(read.cells[:, read.hits.cell], cells)
        assert read.n_empty == read.cells.shape[1] * 8000 - read.n_voxels
        total, expected = total + int(noise.sum()), expected + read.expected_noise
    assert abs(total - expected) < 3.5 * math.sqrt(expected)


# ---------------------------------------------------------------- wires and tiles


def test_charge_at_a_tenth_of_the_gap():
    assert share(np.array([0.1]), np.array([0]), np.array([1000]), 1).tolist() == [[900], [100]]
    # edges of GAMPixG are a quarter of a millimetre below 5 mm
    x = -5.25e-3 + 1e-3
    wires = read_out(placed([[x], [0.0], [0.0]], [1000]), "GAMPixG", 1).wires
    assert wires.x.charge_true.tolist() == [900, 100]
    assert wires.x.positions[0] == pytest.approx([-5.25e-3, 4.75e-3])
    assert wires.y.charge_true.tolist() == [475, 525]
    assert wires.x.index[0].tolist() == [0, 1]


def test_shares_are_exact_in_sum_and_linear():
    rng = np.random.default_rng(9)
    gap, fraction, num_e = rng.integers(0, 50, 10_000), rng.random(10_000), rng.integers(1, 200, 10_000)
    shares = share(fraction, gap, num_e, 50)
    assert np.array_equal(shares.sum(axis=0), np.bincount(gap, weights=num_e, minlength=50).astype(int))
    expected = np.bincount(gap, weights=num_e * fraction, minlength=50)
    assert np.abs(shares[1] - expected).max() <= 0.5


def test_signal_of_wires_is_half_of_the_fraction_they_see():
    positions, num_e = cloud(n=200_000, width=20e-3)
    plane = read_out(placed(positions, num_e), "GAMPixG", 10).wires.x
    pulls = (plane.charge - 0.3 * plane.charge_true) / 20
    assert abs(pulls.mean()) < 3.5 / math.sqrt(pulls.size)
    assert pulls.std() == pytest.approx(1.0, abs=3.5 / math.sqrt(2 * pulls.size))
    assert np.array_equal(plane.triggered, plane.charge > 80)


def test_wires_wake_the_cubes_with_charge_and_ghosts():
    # two charges in a slice of z, apart in x and y: two cubes and their two ghosts
    positions = np.array([[0.0, 40e-3], [0.0, 40e-3], [0.0, 0.0]])
    read = read_out(placed(positions, [20_000, 20_000]), "GAMPixG", 11, coarse_trigger=True)
    cubes = set(map(tuple, read.wires.cubes.T.tolist()))
    assert {(0, 0, 0), (4, 4, 0), (0, 4, 0), (4, 0, 0)} <= cubes
    assert read.hits.triggered[read.hits.charge_true > 0].all()
    apart = np.array([[0.0, 40e-3], [0.0, 40e-3], [0.0, 40e-3]])
    woken = read_out(placed(apart, [20_000, 20_000]), "GAMPixG", 11).wires.cubes
    assert {tuple(each) for each in woken.T.tolist()}.isdisjoint({(0, 4, 0), (4, 0, 0), (0, 4, 4), (4, 0, 4)})


def test_charge_that_wakes_nothing_is_not_read():
    positions = np.array([[0.0, 40e-3], [0.0, 40e-3], [0.0, 60e-3]])
    drifted = placed(positions, [20_000, 150])
    assert read_out(drifted, "GAMPixG", 12).n_triggered >= 2
    hits = read_out(drifted, "GAMPixG", 12, coarse_trigger=True).hits
    faint = hits.charge_true == 150
    assert hits.charge[faint].tolist() == [0.0]
    assert hits.cell[faint].tolist() == [-1]
    assert not hits.triggered[faint].any()
    assert hits.charge_true.sum() == 20_150


def test_tiles_wake_their_pixels():
    positions = np.array([[0.0, 0.3], [0.0, 0.3], [0.0, 0.0]])
    read = read_out(placed(positions, [5000, 120]), "GAMPixD", 13, coarse_trigger=True)
    assert read.tiles.charge_true[:2].tolist() == [5000, 120]
    assert read.tiles.triggered[:2].tolist() == [True, False]
    assert (0, 0, 0) in set(map(tuple, read.cells.T.tolist()))
    assert read.hits.cell[read.hits.charge_true == 120].tolist() == [-1]
    assert read.tiles.pitch == pytest.approx((0.1, 0.1, 0.01))


@pytest.mark.parametrize(("num_e", "woken"), [(240, False), (260, False), (275, True), (320, True)])
def test_two_wires_together_wake_a_cube_at_their_threshold(num_e, woken):
    # without noise, the two wires about a charge see 0.3 of it together; 80 electrons wake
    quiet = design("GAMPixG", {"coarse_grids.noise": 1e-3, "coarse_grids.threshold_sigma": 8e4})
    read = read_out(placed(np.zeros((3, 1)), [num_e]), quiet, 15, coarse_trigger=True)
    assert read.wires.x.threshold == pytest.approx(80)
    assert ((0, 0, 0) in set(map(tuple, read.wires.cubes.T.tolist()))) == woken
    assert bool((read.hits.cell >= 0).any()) == woken


@pytest.mark.parametrize(("num_e", "woken"), [(240, False), (480, False), (520, True)])
def test_tiles_that_see_half_of_the_charge_need_twice_as_much(num_e, woken):
    half = {"signal_fraction": 0.5, "noise": 1e-3, "threshold_sigma": 2.5e5}
    quiet = design("GAMPixD", {f"coarse_tiles.{name}": value for name, value in half.items()})
    read = read_out(placed(np.zeros((3, 1)), [num_e]), quiet, 16, coarse_trigger=True)
    assert (read.tiles.threshold, read.tiles.noise) == pytest.approx((500, 2e-3))
    assert read.tiles.charge[0] == pytest.approx(num_e, abs=0.02)
    assert read.tiles.triggered[0] == woken
    assert read.cells.shape[1] == woken


def test_wires_of_the_anode_collect_whole_slices():
    positions = np.array([[0.0, 0.0, 4e-3], [0.0, 0.5, -0.5], [0.0, 0.0, 8e-3]])
    read = read_out(placed(positions, [1000, 2000, 4000]), "AnodeGridD", 14, empty=False)
    assert read.hits is None
    assert read.anode.index.T.tolist() == [[0, 0], [1, 2]]
    assert read.anode.charge_true.tolist() == [3000, 4000]
    places = np.array([[0, 0], [4e-3, 8e-3]])
    assert np.allclose(read.anode.positions.T, places, rtol=0, atol=1e-12)
    assert read_out(placed(positions, [1000, 2000, 4000]), "AnodeGridG", 14).anode.charge_true.sum() == 7000


def test_noise_of_anode_wires_in_a_region():
    region = np.array([[-0.5001, 0.4999]] * 3)
    quiet = design("AnodeGridG", {"anode_grid.threshold_sigma": 4.0})
    read = read_out(NOTHING, quiet, 15, region=region)
    assert read.n_empty == 1_000_000
    assert abs(read.n_triggered - 31.67) < 4 * 5.63


# ---------------------------------------------------------------- the whole


@pytest.mark.parametrize("name", DESIGNS)
def test_same_seed_same_bits(name):
    drifted = placed(*cloud())
    first, again, other = (read_out(drifted, name, seed).collected for seed in (1, 1, 2))
    assert np.array_equal(first.charge, again.charge)
    assert np.array_equal(first.index, again.index)
    assert not np.array_equal(first.charge[:20], other.charge[:20])


def test_another_depth_gives_another_readout():
    positions, num_e = cloud(width=0.5e-3)
    near, far = (
        read_out(drift(positions, num_e, GAMPY, 1, anode=0.05, depth=depth), "GAMPixG", 1)
        for depth in (0.1, 5.0)
    )
    assert far.drifted < near.drifted
    assert far.charge < near.charge


def test_compatible_wrong_and_missing_arguments():
    drifted = placed(*cloud())
    with pytest.raises(UsageError, match="unknown compatibility mode"):
        read_out(drifted, "LArPix", 1, compat="gamepy")
    with pytest.raises(UsageError, match="needs the box around the track"):
        read_out(drifted, "LArPix", 1, compat="gampy")
    with pytest.raises(UsageError, match="all cells with charge"):
        read_out(drifted, "GAMPixG", 1, compat="gampy", coarse_trigger=True, cell=cell_around(cloud()[0], DESIGNS["GAMPixG"]))  # fmt: skip
    for region in ([[0, 1]], [[0, 1], [1, 0], [0, 1]], [[0, 1], [0, math.nan], [0, 1]]):
        with pytest.raises(UsageError, match="a region"):
            read_out(drifted, "LArPix", 1, region=region)
    with pytest.raises(UsageError, match="what exists: GAMPixG"):
        read_out(drifted, "GAMPixH", 1)


@pytest.mark.parametrize("name", DESIGNS)
def test_nothing_drifted_gives_nothing(name):
    read = read_out(NOTHING, name, 1)
    assert read.charge_true == read.n_triggered == read.n_voxels == read.drifted == 0
    assert read.expected_noise == 0.0


@pytest.mark.parametrize("bunch", [1.0, 12.5])
def test_mean_charge_of_voxels_does_not_depend_on_bunches(bunch):
    medium = Medium(lifetime=math.inf)
    n, trials = 25_000, 40
    expected = math.erf(0.25e-3 / (math.sqrt(2) * medium.spread(0.2)[0])) ** 2
    expected *= math.erf(0.25e-3 / (math.sqrt(2) * medium.spread(0.2)[1]))
    seen = []
    for seed in range(trials):
        drifted = drift(np.zeros((3, n // 25)), np.full(n // 25, 25), medium, seed, anode=0.2, bunch=bunch)
        hits = read_out(drifted, "GAMPixG", seed, empty=False).hits
        seen.append(hits.charge_true[(hits.index == 0).all(axis=0)].sum())
    sigma = math.sqrt(n * expected * (1 - expected) * bunch)
    assert abs(np.mean(seen) - n * expected) < 3.5 * sigma / math.sqrt(trials)
    assert np.std(seen, ddof=1) == pytest.approx(sigma, rel=0.4)
