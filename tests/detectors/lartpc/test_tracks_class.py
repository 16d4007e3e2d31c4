"""The class of the original's tutorial: its names and keys, and none of its defects."""

from __future__ import annotations

import numpy as np
import pytest

import firstlight
from firstlight.detectors.lartpc import Tracks, tracks_tools
from firstlight.detectors.lartpc.parameters import ReadParameters
from firstlight.detectors.lartpc.reading.tracks import save, save_original
from firstlight.detectors.lartpc.simulation.generate import simulate_track
from firstlight.errors import ConfigError, InputError, UsageError

READOUTS = ("GAMPixG", "GAMPixD", "LArPix", "AnodeGridD", "AnodeGridG")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder with.cache in it") / ".cache"
    track = simulate_track("electron", 1000.0, 5, density=1.2428)
    return save_original(track, folder / "TrackE0001000_D20250101_T0000000001")[0]


def test_it_is_reached_by_both_names():
    assert firstlight.lartpc.Tracks is Tracks
    assert tracks_tools.Tracks is Tracks
    with pytest.raises(AttributeError, match="no attribute 'Track'"):
        _ = firstlight.lartpc.Track


def test_seed_of_the_tutorial_finds_the_file_however_it_is_spelled(path):
    stem = str(path)[: -len(".npz")]
    reference = Tracks(stem, seed=1)
    for spelling in (str(path), str(path).rstrip(".npz"), f"{stem}.pickle"):
        assert np.array_equal(Tracks(spelling, seed=1).raw["r"], reference.raw["r"])


def test_attributes(path):
    track = Tracks(path, seed=1)
    assert track.raw["r"].shape == (3, track.raw["num_e"].size)
    assert track.raw["num_e"].dtype == np.int64
    assert track.truth["num_electrons"] == track.raw["num_e"].sum() == track.truth["num_e_inbounds"]
    assert track.truth["track_energy"] == track.truth["initial_particle_energy"] == 1000.0
    cells = track.sims_params.cells
    bounds = tracks_tools.get_cell_bounds(cells)
    assert (bounds[:, 0] < track.raw["r"].min(axis=1)).all()
    assert (bounds[:, 1] > track.raw["r"].max(axis=1)).all()
    assert bounds[2, 1] == cells["z_anode"]
    with pytest.raises(UsageError, match="unknown entry of the truth record 'energy'") as caught:
        _ = track.truth["energy"]
    assert "track_energy" in (caught.value.known or ())


@pytest.mark.parametrize("name", ["drifted", "pixel_samples", "compressed"])
def test_what_is_not_there_yet_says_what_to_call(path, name):
    with pytest.raises(AttributeError, match=f"no '{name}' yet: (call|give)"):
        getattr(Tracks(path), name)


@pytest.mark.parametrize("name", READOUTS)
def test_every_readout_reads_all_that_drifted(path, name):
    track = Tracks(path, name, seed=2)
    track.readout_charge(depth=0.1)
    total = int(track.drifted["num_e"].sum())
    raw = track.anode_grid_samples if name.startswith("Anode") else track.pixel_samples
    assert int(raw["samples_raw"].sum()) == total
    if name == "GAMPixG":
        grids = track.coarse_grids_samples
        assert [int(plane.sum()) for plane in grids["samples_raw"]] == [total, total]
        assert grids["voxel_trigger"]["trigger"].shape[0] == 3
        spans = grids["voxel_trigger"]
        assert len(spans["z_edges_span"]) == len(spans["z_centers_span"]) + 1
    if name == "GAMPixD":
        assert int(track.coarse_tiles_samples["samples_raw"].sum()) == total
    if not name.startswith("Anode"):
        samples = track.pixel_samples
        assert samples["r_triggered"].shape == (3, samples["samples_triggered"].size)
        np.testing.assert_array_equal(np.stack([samples[axis] for axis in "xyz"]), samples["r_triggered"])
        np.testing.assert_array_equal(samples["charge"], samples["samples_triggered"])
        threshold = track.read_params.pixels["threshold"]
        assert (samples["charge"] > threshold).all()


def test_another_depth_drifts_again(path):
    track = Tracks(path, seed=3)
    track.readout_charge(depth=0.1)
    near = int(track.pixel_samples["samples_raw"].sum())
    track.readout_charge(depth=5.0)
    far = int(track.pixel_samples["samples_raw"].sum())
    assert track.drifted["depth"] == 5.0
    # 4.9 m more at a drift length of 11.6 m
    assert far == pytest.approx(
        near * np.exp(-4.9 / track.read_params.charge_drift["drift_length"]), rel=0.02
    )
    # without a depth, what has drifted is read
    track.readout_charge()
    assert int(track.pixel_samples["samples_raw"].sum()) == far
    track.apply_drift(depth=0.1)
    with pytest.raises(AttributeError, match="call readout_charge"):
        _ = track.pixel_samples


def test_reset_forgets(path):
    track = Tracks(path, seed=3)
    track.readout_charge(depth=0.1)
    track.reset_params("LArPix")
    for name in ("drifted", "pixel_samples", "coarse_grids_samples"):
        assert not hasattr(track, name)
    track.readout_charge(depth=0.1, stats_output=True)
    assert track.pixel_samples["num_pixels_triggered"] <= track.pixel_samples["charge"].size
    assert not hasattr(track, "coarse_grids_samples")


def test_the_seed_fixes_everything(path):
    def read(seed):
        track = Tracks(path, seed=seed)
        track.readout_charge(depth=0.5)
        return track

    one, again, other, any_seed = read(7), read(7), read(8), read(None)
    assert np.array_equal(one.drifted["r"], again.drifted["r"])
    assert np.array_equal(one.pixel_samples["charge"], again.pixel_samples["charge"])
    assert not np.array_equal(one.drifted["num_e"], other.drifted["num_e"])
    same = Tracks(path, seed=any_seed.seed)
    same.readout_charge(depth=0.5)
    assert np.array_equal(same.pixel_samples["charge"], any_seed.pixel_samples["charge"])


def test_every_call_has_new_numbers(path):
    track = Tracks(path, seed=7)
    hits = []
    for _ in range(20):
        track.apply_drift(depth=0.175)
        track.readout_charge()
        hits.append(track.pixel_samples["charge"].size)
    assert np.std(hits) > 0.5
    other = simulate_track("electron", 1000.0, 6, density=1.2428)
    save_original(other, path.with_name("TrackE0001000_D20250101_T0000000002"))
    noise = []
    for name in (path, path.with_name("TrackE0001000_D20250101_T0000000002.npz")):
        one = Tracks(name, seed=7)
        one.readout_charge(depth=0.05)
        grids = one.coarse_grids_samples
        noise.append((grids["samples_noisy"][0] - 0.3 * grids["samples_raw"][0])[:2])
    assert not np.allclose(noise[0], noise[1])
    with pytest.raises(UsageError, match="the seed -1"):
        Tracks(path, seed=-1)


def test_no_global_random_state(path):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    track = Tracks(path, seed=1)
    track.readout_charge()
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_compression_keeps_charge_and_its_middle(path, tmp_path):
    track = Tracks(path, seed=1)
    track.compress(scale=300e-6)
    points = track.compressed
    assert points["num_e"].sum() == track.raw["num_e"].sum()
    assert points["num_e"].size < track.raw["num_e"].size / 5
    mean = [np.average(some["r"], axis=1, weights=some["num_e"]) for some in (track.raw, points)]
    np.testing.assert_allclose(mean[0], mean[1], atol=1e-12)
    # twice as coarse, from what was put together
    track.compress(scale=600e-6, compressed=True)
    assert track.compressed["num_e"].sum() == track.raw["num_e"].sum()
    tracks_tools.save_track(tmp_path / "squeezed", track, write_raw=False)
    alone = Tracks(tmp_path / "squeezed")
    assert not hasattr(alone, "raw")
    assert alone.compressed["bin_size"] == 600e-6
    alone.readout_charge(depth=0.1)
    assert alone.pixel_samples["charge"].size
    with pytest.raises(UsageError, match="nothing to write"):
        tracks_tools.save_track(tmp_path / "none", alone, write_compressed=False)


def test_module_functions():
    r = np.array([[0.0, 1.0, 0.5], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    num_e = np.array([5, 30, 12])
    bunches, places = tracks_tools.decompress_track(10, num_e, r)
    assert bunches.sum() == 47
    assert bunches.max() <= 10
    assert places.shape == (3, bunches.size)
    np.testing.assert_array_equal(
        tracks_tools.find_bounding_box(r, 0.5), [[-0.5, 1.5], [-0.5, 2.5], [-0.5, 3.5]]
    )
    cube = tracks_tools.find_bounding_cube(r)
    assert np.ptp(cube, axis=1) == pytest.approx([3, 3, 3])
    with pytest.raises(InputError, match="no box"):
        tracks_tools.find_bounding_box(np.zeros((3, 0)))
    with pytest.raises(UsageError, match="an edge of -1"):
        tracks_tools.compress_track(r, num_e, -1)


def test_penelope_tracks_are_written_and_read(path, tmp_path):
    track = Tracks(path)
    energy = track.raw["num_e"] / 39.77
    content = {"r": track.raw["r"], "delta_energy": energy, "truth": dict(track.truth), "meta": track.meta}
    tracks_tools.save_penelope_track(tmp_path / "TrackE0001000_new", content)
    again = Tracks(tmp_path / "TrackE0001000_new", seed=1)
    assert again.truth["track_energy"] == 1000.0
    assert again.raw["num_e"].sum() == pytest.approx(track.raw["num_e"].sum(), rel=0.2)
    again.readout_charge(depth=0.05)
    with pytest.raises(InputError, match="needs 'r', 'truth', 'meta'") as caught:
        tracks_tools.save_penelope_track(tmp_path / "x", {"r": track.raw["r"], "truth": {}})
    assert caught.value.known == ["r", "truth"]
    with pytest.raises(InputError, match="has the shape"):
        tracks_tools.save_penelope_track(tmp_path / "x", content | {"delta_energy": energy[:-1]})
    assert not list(tmp_path.glob("x*"))


def test_inputs_change_what_follows(path):
    track = Tracks(path, seed=1)
    drift = track.read_params.charge_drift
    assert drift["velocity"] == pytest.approx(1159.4, rel=1e-4)
    assert drift["drift_length"] == pytest.approx(11.59, rel=1e-3)
    track.read_params.inputs["charge_drift"]["electron_lifetime"] = 1e-3
    track.read_params.inputs["pixels"]["pitch"] = 1e-3
    track.read_params.calculate()
    assert track.read_params.charge_drift["drift_length"] == pytest.approx(1.159, rel=1e-3)
    assert track.read_params.design.pixels.pitch == 1e-3
    track.readout_charge(depth=1.0)
    assert track.drifted["num_e"].sum() < 0.5 * track.raw["num_e"].sum()
    with pytest.raises(ConfigError, match="unknown parameter 'nois'"):
        track.read_params.inputs["pixels"]["nois"] = 500
    with pytest.raises(UsageError, match="cannot be set"):
        track.read_params.charge_drift.update(velocity=5)
    with pytest.raises(UsageError, match="cannot be set") as caught:
        track.read_params.charge_drift["electron_lifetime"] = 1.0
    assert "inputs['charge_drift']['electron_lifetime'] = 1.0" in (caught.value.hint or "")
    with pytest.raises(AttributeError, match="no part 'pixel'; there are"):
        _ = track.read_params.pixel


def test_readout_inputs_from_a_file(path, tmp_path):
    file = tmp_path / "inputs.toml"
    file.write_text("[charge_drift]\ndrift_field = 20000.0\n[charge_readout.LArPix.pixels]\nnoise = 500\n")
    track = Tracks(path, "LArPix", file)
    assert track.read_params.medium.field == 0.2
    assert track.read_params.design.pixels.noise == 500
    file.write_text("[charge_drift]\ndrift_feld = 20000.0\n")
    with pytest.raises(ConfigError, match="unknown parameter 'drift_feld'") as caught:
        Tracks(path, "LArPix", file)
    assert "drift_field" in (caught.value.hint or "")
    file.write_text('[charge_drift]\ndrift_field = "high"\n')
    with pytest.raises(ConfigError, match="the default is 50000"):
        Tracks(path, "LArPix", file)
    with pytest.raises(ConfigError, match="does not exist"):
        ReadParameters("LArPix", tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="unknown read-out 'GAMPix'") as unknown:
        Tracks(path, "GAMPix")
    assert "AnodeGridG" in (unknown.value.known or ())


def test_missing_truth_and_missing_files(tmp_path):
    track = simulate_track("electron", 500.0, 5)
    points, record = save(track, tmp_path / "one")
    record.unlink()
    bare = Tracks(points, seed=1)
    bare.readout_charge()
    with pytest.raises(InputError, match="no truth record"):
        _ = bare.truth
    with pytest.raises(InputError, match="no such track") as caught:
        Tracks(tmp_path / "two")
    assert "one" in (caught.value.known or ())
    with pytest.raises(UsageError, match="unknown compatibility mode 'gamp'"):
        Tracks(points, compat="gamp")


def test_display(path):
    track = Tracks(path, seed=1)
    track.readout_charge(depth=0.05)
    figure, axes, limits = track.display(drifted=True, units="mm", view_angles=(20, 40), center=True)
    assert limits.shape == (3, 2)
    assert "mm" in axes.get_xlabel()
    assert len(figure.get_axes()) > 1
    with pytest.raises(UsageError):
        track.display(units="furlong")
