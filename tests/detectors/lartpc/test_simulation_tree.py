"""Trees of simulated tracks: names, forms, faults, and that the same seed writes the same bytes."""

import json

import numpy as np
import pytest

from firstlight.detectors.lartpc.reading.tracks import load
from firstlight.detectors.lartpc.simulate import FAULTS, simulate
from firstlight.errors import ConfigError, InputError

SMALL = {"energies": (0.3, 1.0), "n_tracks": 3}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_tree_is_that_of_the_originals(tmp_path):
    made = simulate(tmp_path, 1, faults=False, **SMALL)
    names = [path.relative_to(tmp_path).as_posix() for path in made]
    assert names == [
        f"LAr/{kind}/E{energy}" for kind in ("electrons", "photons") for energy in ("0000300", "0001000")
    ]
    record = json.loads((tmp_path / "truth.json").read_text())
    assert record["faults"] == []
    assert len(record["tracks"]) == 12
    for told in record["tracks"]:
        track = load(tmp_path / told["file"])
        assert track.charge == told["num_electrons"]
        assert track.truth.energy == told["energy"]
        assert track.truth.first_interaction == told["first_interaction"]
        assert track.meta["density"] == pytest.approx(1.3954, abs=2e-4)
        assert track.energy is not None


def test_same_seed_writes_the_same_bytes(tmp_path):
    for name, seed in (("one", 4), ("two", 4), ("three", 5)):
        simulate(tmp_path / name, seed, **SMALL)
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one.keys() != three.keys()


def test_tracks_do_not_depend_on_how_many_there_are(tmp_path):
    few = contents(
        simulate(tmp_path / "few", 4, energies=1.0, n_tracks=2, particles="photon", faults=False)[0]
    )
    many = contents(simulate(tmp_path / "many", 4, faults=False, **SMALL)[3])
    assert few.items() <= many.items()


def test_planted_faults_are_there_and_told(tmp_path):
    simulate(tmp_path, 2, **SMALL)
    told = {fault["fault"]: fault for fault in json.loads((tmp_path / "truth.json").read_text())["faults"]}
    assert set(told) == set(FAULTS)
    assert told["charge_scale"]["energy"] == 1000
    assert load(tmp_path / told["missing_truth"]["file"]).truth is None
    with pytest.raises(InputError):
        load(tmp_path / told["truncated"]["file"])
    scales = {300.0: [], 1000.0: []}
    for path in tmp_path.rglob("*.npz"):
        if path != tmp_path / told["truncated"]["file"]:
            energy = float(path.parent.name[1:])
            scales[energy].append(load(path).charge / energy)
    assert np.mean(scales[1000.0]) / np.mean(scales[300.0]) == pytest.approx(1.3, abs=0.01)


def test_original_form_is_read_back(tmp_path):
    (folder,) = simulate(
        tmp_path, 2, form="original", particles="positron", energies=2, n_tracks=2, faults="missing_truth"
    )
    assert not list(folder.glob("*.json"))
    assert len(list(folder.glob("*.pickle"))) == 1
    track = load(next(folder.glob("*.pickle")).with_suffix(".npz"))
    assert track.truth.particle == "positron"
    assert track.truth.energy == 2000


def test_older_tracks_are_replaced_and_other_files_are_left(tmp_path):
    simulate(tmp_path, 1, **SMALL)
    other = tmp_path / "LAr" / "electrons" / "E0001000" / "notes.txt"
    other.write_text("mine")
    simulate(tmp_path, 2, **SMALL)
    record = json.loads((tmp_path / "truth.json").read_text())
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npz")}
    assert there == {track["file"] for track in record["tracks"]}
    assert other.read_text() == "mine"


def test_record_of_older_tracks_cannot_reach_outside(tmp_path):
    outside = tmp_path / "TrackE0001000.npz"
    outside.write_bytes(b"mine")
    inside = tmp_path / "tree"
    inside.mkdir()
    (inside / "truth.json").write_text(json.dumps({"tracks": [{"file": "../TrackE0001000.npz"}]}))
    simulate(inside, 1, energies=0.1, n_tracks=1, particles="electron", faults=False)
    assert outside.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"particles": ("electron", "muon")}, "unknown particle 'muon'"),
        ({"particles": ("electron", "electron")}, "each once"),
        ({"energies": ()}, "one or more"),
        ({"energies": (0.0005,)}, "0.0005 MeV"),
        ({"energies": (1.00005,)}, "whole keV"),
        ({"n_tracks": 0}, "n_tracks = 0"),
        ({"form": "root"}, "unknown form"),
        ({"faults": ("broken",)}, "unknown fault"),
        ({"material": "../up"}, "material"),
        ({"charge_model": "none"}, "unknown charge_model"),
    ],
)
def test_impossible_parameters_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        simulate(tmp_path / "new", 1, **changes)
    assert not (tmp_path / "new").exists()
