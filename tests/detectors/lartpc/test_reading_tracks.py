"""Tracks: every spelling of a path, every form on the disk, and the same track back after writing."""

from __future__ import annotations

import csv
import json
import pickle
import zipfile
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from firstlight.detectors.lartpc.reading import tracks as reading
from firstlight.detectors.lartpc.reading.charge_scale import cut_off_of, rescale_charge
from firstlight.detectors.lartpc.reading.charges import (
    DEPOSIT_MODELS,
    ChargeModel,
    electrons,
    whole_electrons,
)
from firstlight.detectors.lartpc.reading.names import TrackName, find, stem_of, track_folder, track_name
from firstlight.detectors.lartpc.reading.pickles import read_truth_pickle, truth_pickle
from firstlight.detectors.lartpc.reading.tracks import has_truth, load, load_raw_truth, save, save_original
from firstlight.detectors.lartpc.recombination import RECOMBINATION, WORK_FUNCTION
from firstlight.detectors.lartpc.track import Arm, Interactions, Track, Truth
from firstlight.errors import ConfigError, InputError, StoreError, UsageError

NAME = "TrackE0001000_D20250527_T1337068902"


def make_track(n_points=50, seed=1, **changes):
    """Return a track with all columns and a truth with all kinds of interactions."""
    rng = np.random.default_rng(seed)
    interactions = Interactions(
        np.array(["brem", "photo", "compton", "compton", "pair", "delta", "annihilation"], dtype="U12"),
        rng.exponential(500.0, 7),
        rng.normal(0, 0.1, (3, 7)),
        np.array([0, 3, 3, 4, 5, 0, 6], dtype=np.int32),
    )
    arms = (Arm(-11, 2125.3, np.array([0.0, 0.6, 0.8])), Arm(11, 1853.1, np.array([0.6, 0.0, 0.8])))
    truth = Truth(
        "photon", 5000.0, rng.normal(0, 1, 3), np.array([0.0, 0.0, 1.0]), "pair", interactions, arms
    )
    content = {
        "positions": rng.normal(0, 0.05, (3, n_points)),
        "num_e": rng.integers(1, 40, n_points),
        "truth": truth,
        "meta": {"source": "simulation", "density": 1.396, "charge_scale": 1.0, "seed": [1, 2], "note": None},
        "name": NAME,
        "energy": rng.exponential(0.1, n_points).astype(np.float32),
        "particle_id": rng.integers(0, 9, n_points).astype(np.int32),
        "parent_id": rng.integers(-1, 5, n_points).astype(np.int32),
        "pdg": rng.choice(np.array([11, -11, 22], dtype=np.int32), n_points),
        "creator": rng.choice(np.array(["primary", "pair", "annihilation"]), n_points),
        "bin_size": 2e-4,
    }
    return Track(**(content | changes))


def assert_same_value(one, other, where):
    if isinstance(one, np.ndarray):
        assert one.shape == other.shape, where
        assert one.dtype.kind == other.dtype.kind, where
        assert one.dtype.kind == "U" or one.dtype == other.dtype, where
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), where
    elif isinstance(one, Truth | Interactions | Arm):
        assert type(one) is type(other)
        for field in fields(one):
            assert_same_value(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_value(a, b, where)
    else:
        assert one == other, where


def assert_same(one, other):
    for field in fields(Track):
        assert_same_value(getattr(one, field.name), getattr(other, field.name), field.name)


def write_pair(folder, name=NAME, truth=None, **arrays):
    """Write an original pair; without arrays one of three points."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = arrays or {"r": np.arange(9.0).reshape(3, 3) / 1000, "num_e": np.array([3, 2, 5])}
    np.savez(folder / f"{name}.npz", **arrays)
    record = {
        "num_electrons": np.int64(10), "track_energy": 1000.0, "origin": np.zeros(3),
        "initial_direction": np.array([0.0, 0.0, 1.0]), "first_interaction": "n/a",
        "r_brem": np.ones((3, 2)), "energy_brem": np.array([30.0, 4.0]),
    }  # fmt: skip
    meta = {"material": "LAr", "initial_particle": "electrons"}
    (folder / f"{name}.pickle").write_bytes(truth_pickle(record | (truth or {}), meta))
    return folder / name


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("folder", ["plain", "a .cache", ".conda/envs", "with space.c.npz", "p.npz"])
@pytest.mark.parametrize("ending", ["", ".npz", ".c.npz", ".p.npz", ".pickle", ".json"])
def test_every_spelling_of_a_path_leads_to_the_track(tmp_path, folder, ending):
    stem = write_pair(tmp_path / folder)
    save(load(stem), stem)
    for more in (".c.npz", ".p.npz"):
        stem.with_name(NAME + more).write_bytes(stem.with_name(NAME + ".npz").read_bytes())
    path = Path(f"{stem}{ending}")
    assert stem_of(path) == stem
    # the seed strips letters, not an ending
    stripped = f"{path}".rstrip(".npz") if ending.endswith(".npz") else f"{stem}".rstrip(".npz")
    for spelling in (path, str(path), stripped):
        found = find(spelling)
        assert found.stem == stem
        assert set(found.files) == {"raw", "compressed", "energies", "pickle", "json"}
        track = load(spelling)
        assert track.name == NAME
        assert track.charge == 10
    assert find(path).points()[0] == {".c.npz": "compressed", ".p.npz": "energies"}.get(ending, "raw")
    assert find(f"{stem}.c.npz".rstrip(".npz")).points()[0] == "compressed"


def test_names_that_rstrip_damages_are_found_as_far_as_they_can_be(tmp_path):
    write_pair(tmp_path, "a_nice_pzn")
    assert find(tmp_path / "a_nice_pzn.npz".rstrip(".npz")).stem.name == "a_nice_pzn"
    write_pair(tmp_path, "a_nice_pz")
    with pytest.raises(InputError, match="more than one track") as caught:
        find(tmp_path / "a_nice_")
    assert caught.value.known == ["a_nice_pz", "a_nice_pzn"]


def test_dots_in_names_stay(tmp_path):
    track = make_track()
    points, record = save(track, tmp_path / "run1.5_v2.c")
    assert (points.name, record.name) == ("run1.5_v2.c.npz", "run1.5_v2.c.json")
    # that is a compressed track as its name goes, and is read as one
    assert load(tmp_path / "run1.5_v2").charge == track.charge
    points, _ = save(track, tmp_path / "run1.5")
    assert points.name == "run1.5.npz"
    assert_same(load(tmp_path / "run1.5"), replace(track, name="run1.5"))


def test_what_is_not_there_is_told_with_what_is(tmp_path):
    write_pair(tmp_path / "E0001000")
    with pytest.raises(InputError, match=f"no such track(?s:.*)did you mean '{NAME}'"):
        find(tmp_path / "E0001000" / NAME.replace("902", "903"))
    with pytest.raises(InputError, match="others of this track"):
        find(tmp_path / "E0001000" / f"{NAME}.c.npz")
    with pytest.raises(InputError, match="no points of the form 'compressed'"):
        load(tmp_path / "E0001000" / NAME, form="compressed")
    with pytest.raises(UsageError, match=r"unknown form of a track 'compresed'(?s:.*)'compressed'"):
        load(tmp_path / "E0001000" / NAME, form="compresed")
    with pytest.raises(InputError, match="is a folder, not a track"):
        find(tmp_path / "E0001000")
    with pytest.raises(InputError, match="no such folder") as caught:
        find(tmp_path / "E0002000" / "x" / NAME)
    assert caught.value.known == ["E0001000"]
    (tmp_path / "E0001000" / f"{NAME}.npz").unlink()
    with pytest.raises(InputError, match="a truth record and no points"):
        load(tmp_path / "E0001000" / NAME)


def test_paths_that_cannot_be_looked_at(tmp_path):
    with pytest.raises(InputError, match="cannot be looked for: File name too long"):
        find(tmp_path / ("x" * 5000))
    for path in ("", ".", tmp_path):
        with pytest.raises(InputError, match="is a folder"):
            find(path)


def test_names_say_energy_and_time():
    made = datetime(2025, 5, 27, 13, 37, 0, 68902)
    assert TrackName.of(NAME) == TrackName(1000.0, made)
    assert track_name(1000.0, made) == NAME
    assert TrackName.of(track_name(50.0, made, "seed1")) == TrackName(50.0, made, "seed1")
    assert TrackName.of("TrackE0001000_D20251301_T1337068902") is None
    assert TrackName.of("penelope_2GeV_electron") is None
    folder = track_folder(Path("Tracks"), "positron", 300.0, tag="thin")
    assert folder == Path("Tracks/LAr/positrons/E0000300_thin")
    with pytest.raises(ConfigError, match="unknown particle 'muon'"):
        track_folder(Path(), "muon", 1.0)


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("compress", [False, True])
def test_own_form_gives_the_same_track_back(tmp_path, compress):
    track = make_track()
    points, record = save(track, tmp_path / "sub" / f"{NAME}.npz", compress=compress)
    assert_same(load(points), track)
    assert_same(load(record), track)
    with np.load(points) as arrays:
        # what code written for the original does
        assert arrays["r"].T.shape == (50, 3)
        assert arrays["num_e"].sum() == track.charge
    content = json.loads(record.read_text())
    assert content["format"] == "firstlight lartpc track"
    assert content["version"] == 1
    assert sorted(each.name for each in points.parent.iterdir()) == [record.name, points.name]


def test_own_form_of_a_bare_track(tmp_path):
    bare = Track(np.zeros((3, 0)), np.zeros(0, dtype=np.int64), name="bare")
    save(bare, tmp_path / "bare")
    assert_same(load(tmp_path / "bare"), bare)


def test_own_form_keeps_numbers_to_the_last_bit(tmp_path):
    truth = replace(
        make_track().truth, energy=np.nextafter(1000.0, 2000.0), origin=np.array([0.1, 1e-300, -1 / 3])
    )
    energy = np.full(50, np.nan, dtype=np.float32)
    track = make_track(truth=truth, energy=energy)
    save(track, tmp_path / NAME)
    assert_same(load(tmp_path / NAME), track)


def test_original_form_gives_the_same_track_back_and_is_what_the_original_reads(tmp_path):
    track = make_track()
    points, record = save_original(track, tmp_path / NAME)
    assert_same(load(points), track)
    assert_same(load(record), track)
    content = pickle.loads(record.read_bytes())  # noqa: S301  what the original does
    with np.load(points) as arrays:
        assert arrays["r"].dtype == np.float64
        assert arrays["num_e"].dtype == np.int64
        assert content["truth"]["num_electrons"] == arrays["num_e"].sum()
    truth = content["truth"]
    assert set(truth) == {
        "num_electrons", "track_energy", "origin", "initial_direction", "first_interaction", "r_brem", "r_photo", "r_compton",
        "r_pair", "energy_brem", "energy_photo", "energy_compton", "energy_pair",
    }  # fmt: skip
    assert truth["track_energy"] == 5000.0
    assert truth["first_interaction"] == "pair"
    assert truth["r_compton"].shape == (3, 2)
    assert truth["energy_compton"].tolist() == track.truth.interactions.energy[2:4].tolist()
    assert truth["r_brem"].shape == (3, 1)
    assert content["meta"]["initial_particle"] == "photons"
    assert content["meta"]["material"] == "LAr"


def test_original_form_leaves_out_points_without_charge_and_has_a_compressed_one(tmp_path):
    charge = make_track().num_e.copy()
    charge[::3] = 0
    points, _ = save_original(make_track(num_e=charge), tmp_path / NAME, compressed=True)
    assert points.name == f"{NAME}.c.npz"
    with np.load(points) as arrays:
        assert (arrays["num_e"] > 0).all()
        assert arrays["bin_size"] == 2e-4
        assert arrays["creator"].shape == arrays["num_e"].shape == arrays["r"].shape[1:]
    track = load(points)
    assert track.charge == charge.sum()
    assert track.bin_size == 2e-4
    assert track.creator.tolist() == make_track().creator[charge > 0].tolist()
    with pytest.raises(UsageError, match="bin size of 0"):
        save_original(make_track(bin_size=0.0), tmp_path / NAME, compressed=True)
    with pytest.raises(InputError, match="no truth record, which the original form needs"):
        save_original(make_track(truth=None), tmp_path / NAME)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        save(make_track(meta={"x": object()}), tmp_path / NAME)
    with pytest.raises(UsageError, match="cannot be written"):
        save(make_track(meta={"x": float("nan")}), tmp_path / NAME)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        save(make_track(), tmp_path / "file" / NAME)


def test_reading_the_own_form_opens_no_pickle(tmp_path, monkeypatch):
    stem = write_pair(tmp_path)
    save(load(stem), stem)

    def forbidden(path):
        raise AssertionError(path)

    monkeypatch.setattr(reading, "read_truth_pickle", forbidden)
    assert load(stem).truth.energy == 1000.0
    assert load_raw_truth(stem)[0]["track_energy"] == 1000.0


# ---------------------------------------------------------------- truth


def test_truth_of_the_original(tmp_path):
    stem = write_pair(tmp_path)
    track = load(stem)
    assert track.truth.particle == "electron"
    assert track.truth.first_interaction == ""
    assert track.truth.radiated == pytest.approx(0.034)
    assert track.truth.interactions.particle_id.tolist() == [-1, -1]
    truth, meta = load_raw_truth(f"{stem}.npz")
    assert truth["track_energy"] == truth["initial_particle_energy"] == 1000.0
    assert truth["first_interaction"] == "n/a"
    assert meta["material"] == "LAr"
    assert truth["r_brem"].shape == (3, 2)


def test_newer_name_of_the_energy_and_other_shapes(tmp_path):
    stem = write_pair(tmp_path)
    record = {
        "initial_particle_energy": 2000.0, "origin": np.zeros((3, 1)), "initial_direction": np.array([0, 0, 1]),
        "num_e_inbounds": 9,
    }  # fmt: skip
    stem.with_name(f"{NAME}.pickle").write_bytes(truth_pickle(record, {"initial_particle": 3}))
    track = load(stem)
    assert (track.truth.particle, track.truth.energy) == ("positron", 2000.0)
    assert any("num_e_inbounds" in note for note in track.meta["notes"])
    assert load_raw_truth(stem)[0]["track_energy"] == 2000.0


def test_own_truth_with_the_keys_of_the_original(tmp_path):
    track = make_track()
    save(track, tmp_path / NAME)
    truth, meta = load_raw_truth(tmp_path / NAME)
    assert truth["track_energy"] == truth["initial_particle_energy"] == 5000.0
    assert truth["num_electrons"] == track.charge
    assert truth["energy_pair"].tolist() == [track.truth.interactions.energy[4]]
    assert meta["initial_particle"] == "photons"


def test_missing_truth_is_none_with_a_note(tmp_path):
    stem = write_pair(tmp_path)
    stem.with_name(f"{NAME}.pickle").unlink()
    track = load(stem)
    assert track.truth is None
    assert track.meta["notes"] == ["no truth record was found"]
    with pytest.raises(InputError, match="has no truth record"):
        load_raw_truth(stem)


def test_truth_that_was_not_asked_for_is_not_opened(tmp_path):
    stem = write_pair(tmp_path)
    stem.with_name(f"{NAME}.pickle").write_bytes(b"\x80\x04 damaged")
    assert load(stem, truth=False).charge == 10
    with pytest.raises(InputError, match="damaged"):
        load(stem)


def test_a_photon_absorbed_at_once_is_mended(tmp_path):
    stem = tmp_path / "photons" / NAME
    write_pair(
        tmp_path / "photons",
        truth={"r_photo": np.array([[1.0], [2.0], [3.0]]), "energy_photo": np.array([997.0])},
    )
    record, meta = load_raw_truth(stem)
    changed = {**record, "origin": np.array([1.0, 2.0, 3.0])}
    stem.with_name(f"{NAME}.pickle").write_bytes(
        truth_pickle(changed, {**meta, "initial_particle": "photons"})
    )
    track = load(stem)
    assert track.truth.first_interaction == "photo"
    assert any("photoelectric" in note for note in track.meta["notes"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"origin": np.zeros(2)}, r"'origin' of the truth record has the shape \(2,\)"),
        ({"origin": np.array([0, np.nan, 0])}, "'origin' of the truth record is not finite"),
        ({"track_energy": "ten"}, "'track_energy' of the truth record is 'ten', not numbers"),
        ({"r_brem": np.zeros((3, 5))}, "'r_brem' of the truth record has the shape"),
        ({"num_electrons": "many"}, "'num_electrons' of the truth record is 'many', not numbers"),
        ({"num_electrons": float("nan")}, "'num_electrons' of the truth record is not finite"),
        ({"num_electrons": float("inf")}, "'num_electrons' of the truth record is not finite"),
        ({"num_electrons": np.array([1, 2])}, r"'num_electrons' of the truth record has the shape \(2,\)"),
        ({"num_electrons": -3}, "'num_electrons' of the truth record is -3"),
        ({"num_electrons": 10.5}, "'num_electrons' of the truth record is 10.5"),
        ({"num_electrons": 10**400}, "'num_electrons' of the truth record is '1000"),
        ({"track_energy": 0.0}, "'track_energy' of the truth record is 0 keV: energies are above 0"),
        ({"track_energy": -5.0}, "'track_energy' of the truth record is -5 keV"),
        ({"track_energy": 1e300}, r"'track_energy' of the truth record is 1e\+300 keV"),
        ({"track_energy": np.complex128(1.0 + 2.0j)}, "'track_energy' of the truth record is .*not numbers"),
        ({"initial_direction": np.zeros(3)}, r"'initial_direction' of the truth record is \[0.0, 0.0, 0.0\]"),
        ({"initial_direction": np.array([3.0, 4.0, 5.0])}, "'initial_direction'.* vectors of length 1"),
        ({"initial_direction": np.array([1e300, 0.0, 0.0])}, "'initial_direction'.* vectors of length 1"),
        ({"initial_direction": np.array([0.0, 0.0, 1.002])}, "'initial_direction'.* vectors of length 1"),
        ({"origin": np.array([1e300, 0.0, 0.0])}, r"'origin' of the truth record is \[1e\+300, 0.0, 0.0\] m"),
        ({"energy_brem": np.array([30.0, -5.0])}, "'energy_brem' of the truth record has the value -5 keV"),
        (
            {"r_brem": np.full((3, 2), 1e5)},
            r"'interaction 0 \(brem\)' of the truth record is 30 keV at \[100000.0",
        ),
        ({"first_interaction": np.array(["pair", "x"])}, "'first_interaction' .*not a word"),
    ],
)
def test_truth_that_makes_no_sense_is_told(tmp_path, changes, message):
    stem = write_pair(tmp_path, truth=changes)
    with pytest.raises(InputError, match=message):
        load(stem)


def test_truth_at_the_limits_is_read(tmp_path):
    changes = {
        "initial_direction": np.array([0.0, 0.0, 1.0005]),
        # the original subtracts 1022 keV, which is 2 eV more than two electrons have
        "energy_pair": np.array([-0.002]), "r_pair": np.zeros((3, 1)), "first_interaction": np.array("pair"),
        "num_electrons": 10.0, 7: "a key that is no word",
    }  # fmt: skip
    track = load(write_pair(tmp_path, truth=changes))
    assert track.truth.interactions.of("pair", above=-1.0).energy.tolist() == [-0.002]
    assert "recorded_electrons" not in track.meta
    assert any("without a place in Truth: 7" in note for note in track.meta["notes"])


def test_a_material_that_is_no_word_is_left(tmp_path):
    stem = write_pair(tmp_path)
    truth, meta = load_raw_truth(stem)
    stem.with_name(f"{NAME}.pickle").write_bytes(truth_pickle(truth, meta | {"material": np.array([1, 2])}))
    assert load(stem).meta["material"] is None


def test_truth_without_particle_or_with_another_charge_is_noted(tmp_path):
    stem = write_pair(tmp_path, truth={"num_electrons": np.int64(11)})
    assert load(stem).meta["notes"] == ["the truth record says 11 electrons, the points have 10"]
    record, _ = load_raw_truth(stem)
    stem.with_name(f"{NAME}.pickle").write_bytes(truth_pickle(record, {}))
    track = load(stem)
    assert track.truth is None
    assert "the truth record does not say: particle" in track.meta["notes"]
    # a folder may say it
    inside = write_pair(tmp_path / "photons" / "E0001000")
    inside.with_name(f"{NAME}.pickle").write_bytes(truth_pickle(record, {}))
    assert load(inside).truth.particle == "photon"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(version=2), "has version 2"),
        (lambda content: content.pop("meta"), "has no 'meta'"),
        (lambda content: content.pop("n_points"), "no number 'n_points'"),
        (lambda content: content.update(n_points=7), "do not belong together"),
        (lambda content: content.update(num_electrons=7), "do not belong together"),
        (lambda content: content["truth"].pop("origin_m"), "KeyError: 'origin_m'"),
        (lambda content: content["truth"].update(origin_m=[1, 2]), "shape"),
        (lambda content: content["truth"].update(origin_m=[1, 2, None]), "damaged"),
        (lambda content: content["truth"].update(particle="muon"), "unknown particle 'muon'"),
        (lambda content: content["truth"]["interactions"]["kind"].append("decay"), "unknown interactions"),
        (lambda content: content["truth"]["interactions"]["kind"].pop(), "shape"),
        (
            lambda content: content["truth"].update(origin_m=[0, float("nan"), 0]),
            "'origin_m' has the value nan",
        ),
        (
            lambda content: content["truth"].update(origin_m=[0, 1e4, 0]),
            r"'origin_m' .*is \[0.0, 10000.0, 0.0\] m",
        ),
        (lambda content: content["truth"].update(energy_keV=0), "'energy_keV' of the truth record is 0 keV"),
        (lambda content: content["truth"].update(energy_keV=float("nan")), "'energy_keV' .*is nan keV"),
        (lambda content: content["truth"].update(energy_keV=10**400), "damaged: OverflowError"),
        (lambda content: content["truth"].update(direction=[0, 0, 0]), "'direction' .*vectors of length 1"),
        (
            lambda content: content["truth"]["interactions"]["energy_keV"].__setitem__(2, -7.0),
            "'interaction 2 .*-7 keV",
        ),
        (
            lambda content: content["truth"]["arms"][0].update(direction=[1, 1, 1]),
            "'arm -11' .*vectors of length 1",
        ),
        (lambda content: content["truth"]["arms"][1].update(kinetic_energy_keV=-1), "'arm 11' .*is -1 keV"),
        (lambda content: content.update(num_electrons=10**30), "'num_electrons' is 1000000"),
        (lambda content: content.update(num_electrons=True), "no number 'num_electrons'"),
        (lambda content: content["meta"].update(recorded_electrons="abc"), "no number 'recorded_electrons'"),
        (lambda content: content["meta"].update(charge_scale="abc"), "'charge_scale' is 'abc', not a number"),
    ],
)
def test_damaged_records_are_told(tmp_path, change, message):
    _, record = save(make_track(), tmp_path / NAME)
    content = json.loads(record.read_text())
    change(content)
    record.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load(tmp_path / NAME)


def test_a_record_of_a_later_version_is_told_in_a_pickle_too(tmp_path):
    _, record = save_original(make_track(), tmp_path / NAME)
    truth, _ = load_raw_truth(record)
    content = read_truth_pickle(record)[1]
    content["firstlight"]["version"] = 2
    record.write_bytes(truth_pickle(truth, content))
    with pytest.raises(InputError, match="has version 2"):
        load(record)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"positions": np.full((3, 50), 1001.0)},
            r"position of point 0 is \[1001.0, .* no event .* than 1000 m",
        ),
        ({"num_e": np.full(50, 2**62)}, r"num_e sums to 2.306e\+20 electrons"),
        ({"energy": np.full(50, -1.0, dtype=np.float32)}, "energy of point 0 is -1 keV"),
        ({"energy": np.full(50, np.inf, dtype=np.float32)}, "energy of point 0 is inf keV"),
        ({"truth": replace(make_track().truth, energy=0.0)}, "'energy' of the truth record is 0 keV"),
        ({"truth": replace(make_track().truth, origin=np.zeros(2))}, "'origin' of the truth record"),
    ],
)
def test_tracks_that_no_event_has_are_not_made(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        make_track(**changes)
    assert caught.value.where == NAME
    # what is just within the limits is a track
    positions, charges = np.full((3, 50), -1000.0), np.full(50, 10**12 // 50)
    assert make_track(positions=positions, num_e=charges).charge == 10**12


def test_whether_there_is_a_truth_record(tmp_path):
    stem = write_pair(tmp_path / "original")
    assert has_truth(stem)
    stem.with_name(f"{NAME}.json").write_text('{"a": 1}')
    assert has_truth(stem)
    stem.with_name(f"{NAME}.pickle").unlink()
    # JSON of something else is none, as for load
    for content in ('{"a": 1}', "[1, 2]", "NaN"):
        stem.with_name(f"{NAME}.json").write_text(content)
        assert not has_truth(stem)
        assert load(stem).truth is None
        with pytest.raises(InputError, match="has no truth record"):
            load_raw_truth(stem)
    save(make_track(), tmp_path / "own")
    assert has_truth(f"{tmp_path / 'own'}.npz")
    save(make_track(truth=None), tmp_path / "own")
    assert not has_truth(tmp_path / "own")
    (tmp_path / "own.json").write_text('{"a": ')
    with pytest.raises(InputError, match="is not JSON"):
        has_truth(tmp_path / "own")


# ---------------------------------------------------------------- what stands there already


@pytest.mark.parametrize("content", ['{"a": 1}', "[1]", "NaN", '{"a": ', ""])
def test_json_of_something_else_is_not_overwritten(tmp_path, content):
    (tmp_path / f"{NAME}.json").write_text(content)
    with pytest.raises(StoreError, match=r"is not overwritten: it is n.*(?s:.*)another name"):
        save(make_track(), tmp_path / NAME)
    assert [each.name for each in tmp_path.iterdir()] == [f"{NAME}.json"]
    assert (tmp_path / f"{NAME}.json").read_text() == content
    # the other form has another name
    save_original(make_track(), tmp_path / NAME)
    assert (tmp_path / f"{NAME}.json").read_text() == content


def test_a_pickle_of_something_else_is_not_overwritten(tmp_path):
    content = pickle.dumps({"model": [1, 2]}, protocol=4)
    (tmp_path / f"{NAME}.pickle").write_bytes(content)
    with pytest.raises(StoreError, match="is not overwritten: it has no dict 'truth'"):
        save_original(make_track(), tmp_path / NAME)
    save(make_track(), tmp_path / NAME)
    assert (tmp_path / f"{NAME}.pickle").read_bytes() == content
    assert not (tmp_path / f"{NAME}.c.npz").exists()


@pytest.mark.parametrize("own_first", [False, True])
def test_a_record_of_the_other_form_is_brought_up_to_date(tmp_path, own_first):
    before = make_track()
    charge = before.num_e * 3
    charge[::4] = 0
    after = make_track(num_e=charge, truth=replace(before.truth, energy=6000.0), meta={"remark": "second"})
    first, second = (save, save_original) if own_first else (save_original, save)
    first(before, tmp_path / NAME)
    second(after, tmp_path / NAME)
    for path in (tmp_path / NAME, tmp_path / f"{NAME}.pickle"):
        track = load(path)
        assert track.charge == after.charge
        assert (track.truth.energy, track.meta) == (6000.0, {"remark": "second"})
    assert read_truth_pickle(tmp_path / f"{NAME}.pickle")[0]["num_electrons"] == after.charge
    assert json.loads((tmp_path / f"{NAME}.json").read_text())["n_points"] == len(load(tmp_path / NAME))
    (tmp_path / f"{NAME}.json").unlink()
    assert load(tmp_path / NAME).truth.energy == 6000.0


def test_a_pickle_of_ours_goes_with_the_truth_and_one_of_the_original_stays(tmp_path):
    save_original(make_track(), tmp_path / NAME)
    save(make_track(truth=None), tmp_path / NAME)
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"{NAME}.json", f"{NAME}.npz"]
    stem = write_pair(tmp_path / "gampy")
    content = stem.with_name(f"{NAME}.pickle").read_bytes()
    save(make_track(), stem)
    assert stem.with_name(f"{NAME}.pickle").read_bytes() == content
    assert load(stem).charge == make_track().charge


def test_the_compressed_form_leaves_the_record_of_the_raw_one(tmp_path):
    whole = make_track()
    save(whole, tmp_path / NAME)
    squeezed = make_track(n_points=7)
    save_original(squeezed, tmp_path / NAME, compressed=True)
    assert_same(load(tmp_path / f"{NAME}.npz"), whole)
    assert load(tmp_path / f"{NAME}.c.npz").charge == squeezed.charge


def test_json_of_something_else(tmp_path):
    stem = write_pair(tmp_path)
    stem.with_name(f"{NAME}.json").write_text('{"a": 1}')
    track = load(stem)
    assert track.truth.energy == 1000.0
    assert track.meta["notes"] == [f"{NAME}.json is no record of a track"]
    stem.with_name(f"{NAME}.json").write_text('{"a": ')
    with pytest.raises(InputError, match="is not JSON"):
        load(stem)
    stem.with_name(f"{NAME}.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="is not JSON"):
        load(stem)


# ---------------------------------------------------------------- arrays


R, N = np.arange(12.0).reshape(3, 4), np.array([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"r": R.T, "num_e": N}, r"'r' has the shape \(4, 3\), not \(3, n_points\)(?s:.*)transpose"),
        ({"r": R[0], "num_e": N}, r"'r' has the shape \(4,\)"),
        ({"r": R, "num_e": N[:3]}, "has 4 positions and 3 charges"),
        ({"r": R, "num_e": N[None]}, r"'num_e' has the shape \(1, 4\)"),
        ({"r": np.where(R == 6, np.nan, R), "num_e": N}, r"position of point 2 is \[2.0, nan, 10.0\] m"),
        ({"r": np.where(R == 6, np.inf, R), "num_e": N}, "position of point 2"),
        ({"r": R, "num_e": np.array([1, -2, 3, -4])}, "num_e of point 1 is -2"),
        ({"r": R, "num_e": N + 0.5}, "'num_e' of point 0 is 1.5: charges are whole"),
        ({"r": R, "num_e": np.array([1, np.nan, 3, 4])}, "'num_e' of point 1 is nan"),
        (
            {"r": R, "num_e": np.full(4, 2**62)},
            r"'num_e' sums to 1.845e\+19 electrons: no event in argon has more than 1e\+12",
        ),
        ({"r": R, "num_e": np.array(list("abcd"))}, "'num_e' has the type <U1, not numbers"),
        ({"r": R + 1j, "num_e": N}, "'r' has the type complex128"),
        ({"r": R, "num_e": np.array([1, 2, None, 4], dtype=object)}, "'num_e' is an array of Python objects"),
        ({"r": R}, "has no points of a track"),
        ({"r": R, "delta_energy": N[:3]}, r"'delta_energy' has the shape \(3,\)"),
        ({"r": R, "delta_energy": -1.0 * N}, "'delta_energy' of point 0 is -1.0 keV"),
        ({"r": R, "num_e": N, "energy": N[:2]}, r"'energy' has the shape \(2,\)"),
        ({"r": R, "num_e": N, "creator": N}, "'creator_names' does not have"),
        ({"r": R, "num_e": N, "energy": -1.0 * N}, "'energy' of point 0 is -1.0 keV"),
        ({"r": R, "num_e": N, "energy": N * np.inf}, "'energy' of point 0 is inf keV"),
        ({"r": R, "num_e": N, "energy": 1e300 * N}, r"'energy' of point 0 is 1e\+300 keV"),
        (
            {"r": R, "num_e": N, "energy": np.array([1, np.inf, 2, 3], dtype=np.float16)},
            "'energy' of point 1 is inf",
        ),
        (
            {"r": R, "num_e": N, "particle_id": np.full(4, np.nan)},
            "'particle_id' of row 0 is nan: a whole number",
        ),
        ({"r": R, "num_e": N, "parent_id": N * 10**10}, "'parent_id' of row 0 is 10000000000"),
        (
            {"r": R, "num_e": N, "pdg": np.full(4, 2**64 - 1, dtype=np.uint64)},
            "'pdg' of row 0 is 18446744073709551615",
        ),
        ({"r": R, "num_e": N, "pdg": np.array([11, 11.5, 11, 11])}, "'pdg' of row 1 is 11.5"),
        ({"r": R * 100, "num_e": N}, r"position of point 3 is \[300.0, 700.0, 1100.0\] m; 1 such points"),
        ({"r": R * 1e300, "num_e": N}, "position of point 0"),
        ({"r": R, "num_e": N * 10**12}, r"'num_e' sums to 1e\+13 electrons"),
        ({"r": R, "delta_energy": 1e11 * N}, r"deposits of 3.977e\+13 electrons"),
        ({"r": R, "delta_energy": 1e300 * N}, r"'delta_energy' of point 0 is 1e\+300 keV"),
        ({"hits": R.T, "charge": 1e13 * N}, "'charge' of point 0 is 10000000000000.0"),
        ({"r": R, "num_e": N, "bin_size": np.array(-1.0)}, "'bin_size' is -1.0"),
        ({"r": R, "num_e": N, "particle": N}, "'particle' has the value 4"),
        ({"x": R[0], "y": R[1], "z": R[2, :3], "charge": N}, r"'z' has the shape \(3,\)"),
        ({"hits": R[:2], "charge": N}, r"'hits' has the shape \(2, 4\)"),
        ({"hits": R.T, "charge": np.array([1, 2, np.nan, 3])}, "'charge' of point 2 is nan"),
        ({"hits": R.T, "charge": -N}, "num_e of point 0 is -1"),
    ],
)
def test_arrays_that_make_no_track_are_told(tmp_path, arrays, message):
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert caught.value.where == str(path)


def npy(shape, descr="'<f8'", content=b""):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for key, content in members.items():
            archive.writestr(f"{key}.npy", content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((3, 10**15)), "24,000,000,000,000,000 bytes, and holds 0"),
        (npy((3, 2), content=b"\0" * 47), "48 bytes, and holds 47"),
        (npy((3, 2), content=b"\0" * 49), "48 bytes, and holds 49"),
        (npy((-3, -2), content=b"\0" * 48), "damaged|shape"),
        (npy((3, 2), "'|O'", b"\x80\x04N."), "array of Python objects"),
        (npy((3,), "[('a', '|O')]", b"\x80\x04N."), "array of Python objects"),
        (npy((3, 2), "__import__('os')", b""), "damaged"),
        (npy((1,), "'<f8'", b"\0" * 8).replace(b"\x01\x00", b"\x03\x00", 1), "version"),
        (b"nothing", "damaged"),
    ],
)
def test_archives_that_lie_are_told_before_memory_is_taken(tmp_path, content, message):
    path = zipped(tmp_path / "t.npz", r=content, num_e=npy((2,), "'<i8'", b"\1" * 16))
    with pytest.raises(InputError, match=message):
        load(path)


def test_archives_that_are_none_cut_or_damaged(tmp_path):
    path = tmp_path / "t.npz"
    np.savez_compressed(path, r=np.random.default_rng(1).normal(size=(3, 500)), num_e=np.ones(500, dtype=int))
    whole = path.read_bytes()
    for length in (1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut off|damaged|not an npz"):
            load(path)
    for content, message in (
        (b"", "file is empty"),
        (b"version https://git-lfs", "not an npz archive"),
        (npy((2,)), "npy"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            load(path)
    rng = np.random.default_rng(2)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        try:
            track = load(path)
        except InputError:
            continue
        # what is not covered by the checksum: names and dates of members
        assert track.charge == 500
    many = zipped(tmp_path / "many.npz", **{f"a{n}": npy((0,)) for n in range(150)})
    with pytest.raises(InputError, match="150 arrays"):
        load(many)


def test_archives_with_a_wrong_ending_are_read(tmp_path):
    np.savez(
        tmp_path / "t.npz",
        r=R,
        num_e=N.astype(np.float64),
        particle=np.array([1.0, 3, 2, 1]),
        birth_step=N > 2,
    )
    (tmp_path / "t.npz").rename(tmp_path / "t.npy")
    track = load(tmp_path / "t.npy")
    assert track.num_e.dtype == np.int64
    assert track.pdg.tolist() == [11, -11, 22, 11]
    assert track.name == "t"
    (tmp_path / "u.npy").write_bytes(npy((0,)))
    with pytest.raises(InputError, match="single array"):
        load(tmp_path / "u.npy")
    (tmp_path / "u.txt").write_text("hello")
    with pytest.raises(InputError, match="not a file of tracks"):
        load(tmp_path / "u.txt")


def test_processed_hits_with_and_without_their_truth(tmp_path):
    charge = np.array([10.4, 20.4, 30.4, 0.0])
    np.savez(tmp_path / "a.npz", x=R[0], y=R[1], z=R[2], charge=charge)
    np.savez(tmp_path / "b.npz", hits=R.T, charge=charge)
    vectors = {"origin": np.array([0.0, 0.1, 0.2]), "direction": np.zeros(3)}
    np.savez(tmp_path / "b_truth.npz", energy=5.0, **{k: v.astype(object) for k, v in vectors.items()})
    for name in "ab":
        track = load(tmp_path / name)
        assert np.array_equal(track.positions, R)
        assert track.num_e.tolist() == [10, 20, 30, 0]
        assert track.truth is None
        assert any("rounded to whole electrons" in note and "-1.2" in note for note in track.meta["notes"])
    assert any("b_truth.npz: 'origin' was refused" in note for note in track.meta["notes"])
    assert find(tmp_path / "b_truth.npz").stem.name == "b"


# ---------------------------------------------------------------- energies into charges


def test_energies_become_charges_by_the_model_of_the_original(tmp_path):
    energy = np.array([0.0176, 0.02513, 0.02516, 0.1, 1.0])  # keV
    np.savez(tmp_path / f"{NAME}.p.npz", r=np.zeros((3, 5)), delta_energy=energy)
    track = load(tmp_path / NAME)
    assert track.num_e.tolist() == [0, 0, 1, 3, 39]
    assert track.energy.tolist() == energy.astype(np.float32).tolist()
    assert track.meta["charge_model"]["work_function_eV"] == 17.6
    assert track.meta["form"] == "energies"
    constant = load(tmp_path / NAME, model="constant")
    assert constant.charge == round(energy.sum() * 700 / 23.6)
    with pytest.raises(ConfigError, match=r"unknown charge model 'constent'(?s:.*)'constant'"):
        load(tmp_path / NAME, model="constent")


def test_charge_of_the_original_loses_what_it_rounds_down():
    model = DEPOSIT_MODELS["gampy"]
    assert electrons(np.array([0.0176, 0.1, 1.0]), model).tolist() == [0, 3, 39]
    small, large = (electrons(np.full(n, 1000.0 / n), model).sum() / 1000 for n in (10_000, 1000))
    assert (small, large) == (30.0, 39.0)
    # numbers that the simulation has too stand in one place
    assert DEPOSIT_MODELS["constant"].work_function == WORK_FUNCTION
    assert DEPOSIT_MODELS["constant"].surviving == RECOMBINATION["constant"](2.1, 0.5)


def test_more_electrons_than_any_event_has_are_refused():
    for expected in (1e13, np.inf, np.nan):
        with pytest.raises(InputError, match="no event in argon has more than"):
            whole_electrons(np.array([1.0, expected]))


def test_fractions_of_electrons_are_carried_and_none_is_lost():
    expected = np.random.default_rng(3).exponential(0.3, 100_000)
    whole = whole_electrons(expected)
    assert whole.min() >= 0
    assert np.abs(np.cumsum(whole) - np.cumsum(expected)).max() <= 0.5 + 1e-6
    assert whole_electrons(np.zeros(0)).size == 0


def test_recombination_may_be_a_function_of_the_density_of_energy():
    box = lambda density: np.log(0.93 + 0.212 * density / 0.698) / (0.212 * density / 0.698)
    model = ChargeModel("box", 23.6, box)
    # 2.1 MeV/cm over 3 mm: 29.87 electrons per keV in the table of the specification
    energy, length = np.array([630.0]), np.array([3e-3])
    assert electrons(energy, model, length)[0] == pytest.approx(29.87 * 630, rel=2e-4)
    with pytest.raises(UsageError, match="needs lengths"):
        electrons(energy, model)
    with pytest.raises(UsageError, match="between 0 and 1"):
        electrons(energy, ChargeModel("wrong", 23.6, lambda density: density), length)
    assert DEPOSIT_MODELS["constant"].electrons_per_keV == pytest.approx(29.66, abs=0.01)


# ---------------------------------------------------------------- scale of charge


def floored(energy, rng, mean, cut_off, n=None):
    """Return a track as the tools of the sample make one, with steps of a mean energy [keV]."""
    steps = rng.exponential(mean, int(energy / mean))
    steps *= energy / steps.sum()
    charge = electrons(steps, DEPOSIT_MODELS["gampy"])
    charge = charge[charge > 0]
    meta = {"original": {"penelope_input": {"wcc": cut_off}}, "charge_model": {"name": "gampy"}}
    return Track(np.zeros((3, charge.size)), charge, None, meta, name="t")


def test_charge_that_steps_lost_is_put_back():
    rng = np.random.default_rng(4)
    # long steps lose half an electron each, and next to none has less than one
    track = floored(20_000.0, rng, 0.75, 1000.0)
    assert track.charge / 20_000 < 39.2
    scaled = rescale_charge(track, loss=0.5)
    assert scaled.charge / 20_000 == pytest.approx(29.66, rel=1.5e-3)
    assert scaled.meta["charge_scale"] == pytest.approx(scaled.charge / track.charge)
    assert scaled.meta["charge_rescaled"]["loss_per_point"] == 0.5
    assert scaled.meta["charge_rescaled"]["num_electrons_before"] == track.charge
    assert np.array_equal(scaled.positions, track.positions)
    by_factor = rescale_charge(track, method="factor", factor=0.5)
    assert abs(by_factor.charge - 0.5 * track.charge) <= 0.5
    assert rescale_charge(track, target=10.0, loss=0.5).charge == pytest.approx(10 * 20_000, rel=1.5e-3)


def test_rescaling_is_refused_where_it_makes_no_sense():
    track = floored(1000.0, np.random.default_rng(1), 0.07, 50.0)
    once = rescale_charge(track)
    with pytest.raises(UsageError, match="was rescaled before"):
        rescale_charge(once)
    with pytest.raises(ConfigError, match="unknown method"):
        rescale_charge(track, method="step")
    for wrong in ({"target": 0.0}, {"loss": -1.0}, {"method": "factor", "factor": float("nan")}):
        with pytest.raises(ConfigError, match=r"a target|a loss|a factor"):
            rescale_charge(track, **wrong)
    with pytest.raises(InputError, match="loses none"):
        rescale_charge(replace(track, meta={"charge_model": "constant"}))
    with pytest.raises(UsageError, match="put together"):
        rescale_charge(replace(track, bin_size=2e-4))
    assert rescale_charge(replace(track, bin_size=2e-4), method="factor").charge > 0
    with pytest.raises(InputError, match="has no charge"):
        rescale_charge(replace(track, num_e=track.num_e * 0))
    with pytest.raises(InputError, match="cut-off of 300 eV"):
        rescale_charge(replace(track, meta={"original": {"penelope_input": {"wcc": 300.0}}}))
    assert cut_off_of(replace(track, meta={})) == 50.0
    assert cut_off_of(replace(track, meta={}, num_e=track.num_e + 8)) == 1000.0
    with pytest.raises(InputError, match="does not say"):
        cut_off_of(replace(track, meta={}, num_e=track.num_e + 100))
    for wrong in ("abc", float("nan"), [50.0, 50.0]):
        with pytest.raises(InputError, match="was made with a cut-off of"):
            cut_off_of(replace(track, meta={"original": {"penelope_input": {"wcc": wrong}}}))


# ---------------------------------------------------------------- the sample


@pytest.fixture(scope="module")
def lartpc_data(sample_data):
    """Return the folder of the sample of tracks."""
    folder = sample_data / "lartpc"
    if not folder.is_dir():
        pytest.skip(f"no sample of tracks in {sample_data}")
    return folder


@pytest.fixture(scope="module")
def sample(lartpc_data):
    """Return the tracks of the sample with the rows of their summary."""
    with (lartpc_data / "truth_summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [(load(lartpc_data / row["file"]), row) for row in rows]


def test_all_tracks_of_the_sample_are_what_their_summary_says(sample):
    assert len(sample) == 21
    for track, row in sample:
        assert len(track) == int(row["n_points"])
        assert track.charge == int(row["sum_num_e"])
        assert track.truth.particle + "s" == row["particle"]
        assert track.truth.energy == float(row["energy_keV"])
        assert not any("electrons" in note for note in track.meta.get("notes", []))
        for kind in ("brem", "compton", "photo", "pair"):
            assert len(track.truth.interactions.of(kind)) == int(row[f"n_{kind}"])
        assert track.truth.interactions.of("brem").energy.sum() == pytest.approx(
            float(row["e_brem_keV"]), abs=0.05
        )
        assert np.linalg.norm(track.truth.direction) == pytest.approx(1.0, abs=1e-9)
        assert np.linalg.norm(track.truth.origin) * 1000 == pytest.approx(
            float(row["origin_dist_mm"]), abs=6e-4
        )
        if track.truth.particle == "photon" and row["first_interaction"] == "n/a":
            assert track.truth.first_interaction == "photo"
        elif track.truth.particle == "photon":
            assert track.truth.first_interaction == row["first_interaction"]
    assert sum(track.truth.first_interaction == "photo" for track, _ in sample) == 1


def test_tracks_of_the_sample_survive_both_forms(sample, tmp_path):
    for track, _ in sample[3:8]:
        save(track, tmp_path / track.name)
        assert_same(load(tmp_path / f"{track.name}.npz"), track)
        save_original(track, tmp_path / "original" / track.name)
        assert_same(load(tmp_path / "original" / track.name), track)
        (tmp_path / f"{track.name}.json").unlink()


def test_original_records_survive_the_way_through_a_track(lartpc_data, tmp_path):
    stem = stem_of(next(lartpc_data.rglob("photons/E0005000/*.npz")))
    truth, meta = load_raw_truth(stem)
    save_original(load(stem), tmp_path / stem.name)
    again, meta_again = load_raw_truth(tmp_path / stem.name)
    assert again.keys() == truth.keys()
    for key, value in truth.items():
        assert np.array_equal(again[key], value), key
    assert meta_again["penelope_input"]["raw_lines"] == meta["penelope_input"]["raw_lines"]
    assert meta_again.keys() == meta.keys()


def test_rescaled_charge_is_flat_from_1_to_50_mev(sample):
    """Check 12: within 3 %. Without rescaling they lie 35 % apart."""
    tracks = [track for track, _ in sample if track.truth.energy >= 1000]
    assert len(tracks) == 15
    before = np.array([track.charge / track.truth.energy for track in tracks])
    assert before.max() / before.min() > 1.3
    after = np.array([rescale_charge(track).charge / track.truth.energy for track in tracks])
    assert np.abs(after / after.mean() - 1).max() < 0.01
    assert after.mean() == pytest.approx(29.66, rel=0.005)


def test_one_factor_takes_the_jump_away_but_not_what_short_tracks_lose(sample):
    def yields(method, condition):
        chosen = [track for track, _ in sample if condition(track.truth)]
        return np.array(
            [rescale_charge(track, method=method).charge / track.truth.energy for track in chosen]
        )

    below, above = (yields("factor", lambda t, e=e: t.energy == e) for e in (10_000.0, 20_000.0))
    assert above.mean() / below.mean() == pytest.approx(1.0, abs=0.01)
    # photons of 1 MeV: many short electrons
    low = yields("factor", lambda t: t.energy == 1000.0 and t.particle == "photon")
    assert low.max() < 0.98 * below.mean()
    assert yields("steps", lambda t: t.energy == 1000.0 and t.particle == "photon") == pytest.approx(
        29.66, rel=0.01
    )


def test_the_archive_of_gampixpy_with_its_wrong_ending(lartpc_data):
    track = load(lartpc_data / "gampixpy" / "penelope_2GeV_electron.npy")
    assert track.charge == 751_215
    assert len(track) == 75_871
    assert set(track.pdg.tolist()) == {11}
    assert track.truth is None
    # 20 MeV by charge, not the 2 GeV of its name
    assert cut_off_of(track) == 1000.0
    assert rescale_charge(track).charge / DEPOSIT_MODELS["constant"].electrons_per_keV == pytest.approx(
        20_000, rel=0.03
    )
