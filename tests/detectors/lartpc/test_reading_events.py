"""Files of other simulations: edep-sim, GAMPixPy and PENELOPE, in their units, with their truth, and damaged."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

from firstlight.detectors.lartpc.reading.charges import ChargeModel
from firstlight.detectors.lartpc.reading.hdf5 import runs_of
from firstlight.detectors.lartpc.reading.penelope import (
    COLUMNS,
    looks_like_penelope,
    read_dump,
    read_penelope,
    read_steering,
)
from firstlight.detectors.lartpc.reading.segments import Segments, open_events, track_of_segments
from firstlight.detectors.lartpc.reading.tracks import load, save
from firstlight.detectors.lartpc.track import ELECTRON_MASS
from firstlight.errors import ConfigError, InputError, UsageError

# spellings of the columns: event, particle, parent, kind, vertex
OLD = ("eventID", "trackID", "parentID", "pdgId", "vertexID")
NEW = ("event_id", "traj_id", "parent_id", "pdg_id", "vertex_id")


def segment_type(names):
    event, number, _, pdg, vertex = names
    ends = [(f"{axis}_{end}", "f4") for end in ("start", "end") for axis in "xyz"]
    return np.dtype(
        [(event, "u4"), (vertex, "u8"), ("segment_id", "u4"), *ends, (number, "u4"), (pdg, "i4"), ("dE", "f4"), ("dx", "f4")],
        align=True,
    )  # fmt: skip


def trajectory_type(names):
    event, number, parent, pdg, vertex = names
    return np.dtype(
        [(event, "u4"), (vertex, "u8"), (number, "u4"), (parent, "i4"), (pdg, "i4"), ("pxyz_start", "f4", (3,)),
         ("xyz_start", "f4", (3,)), ("t_start", "f4"), ("start_process", "u4"), ("start_subprocess", "u4")],
        align=True,
    )  # fmt: skip


def momentum(kinetic, mass=ELECTRON_MASS / 1000):
    return np.sqrt(kinetic * (kinetic + 2 * mass))


def write_edep_sim(path, names=NEW, place="", shuffled=False):
    """Write a pair of a photon of 5 MeV (event 7), a muon (event 3) and a photon that left nothing (event 9).

    Numbers of particles begin at 0 in each vertex in the new spelling and count through the file in the old one.
    """
    event, number, parent, pdg, vertex = names
    base = 40 if names is OLD else 0
    trajectories = np.zeros(6, trajectory_type(names))
    start = (10.0, -20.0, 30.0)
    rows = [
        # event, vertex, number, parent, pdg, momentum, place, time, process, subprocess
        (3, 1, 0, -1, 13, (0, 0, 1000.0), (0, 0, 0), 0, 0, 0),
        (7, 2, base + 1, base, 11, (0, momentum(1.5), 0), start, 2.0, 2, 14),
        (7, 2, base, -1, 22, (5.0, 0, 0), (0.0, -20.0, 30.0), 0, 0, 0),
        (7, 2, base + 2, base, -11, (momentum(2.478), 0, 0), start, 2.0, 2, 14),
        (7, 2, base + 3, base + 1, 22, (0, 0.3, 0), (10.0, -19.0, 30.0), 2.1, 2, 3),
        (9, 3, 0, -1, 22, (0, 0, 2.0), (0, 0, 0), 0, 0, 0),
    ]
    for target, row in zip(trajectories, rows, strict=True):
        for name, value in zip(
            (event, vertex, number, parent, pdg, "pxyz_start", "xyz_start", "t_start", "start_process", "start_subprocess"),
            row, strict=True,
        ):  # fmt: skip
            target[name] = value
    segments = np.zeros(5, segment_type(names))
    segments[event] = [3, 7, 7, 7, 7]
    segments[vertex] = [1, 2, 2, 2, 2]
    segments[number] = [0, base + 1, base + 1, base + 2, base + 3]
    segments[pdg] = [13, 11, 11, -11, 11]
    segments["dE"] = [2.1, 0.5, 0.25, 1.0, 0.0]
    for axis, value in zip("xyz", start, strict=True):
        segments[f"{axis}_start"] = segments[f"{axis}_end"] = value
    segments["y_end"] += [0.0, 0.25, 0.1, 0.0, 0.0]
    segments["x_end"][3] += 0.4
    if shuffled:
        order = np.array([1, 0, 2, 3, 4])
        segments = segments[order]
    with h5py.File(path, "w") as file:
        if place:
            file.create_dataset(f"{place}/segments/data", data=segments)
            file.create_dataset(f"{place}/trajectories/data", data=trajectories)
        else:
            file.create_dataset("segments", data=segments, chunks=(2,), maxshape=(None,))
            file.create_dataset("trajectories", data=trajectories)
    return path


# ---------------------------------------------------------------- edep-sim


@pytest.mark.parametrize("names", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize("place", ["", "mc_truth"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_events_of_edep_sim(tmp_path, names, place, shuffled):
    events = open_events(write_edep_sim(tmp_path / "e.h5", names, place, shuffled))
    assert events.events == [3, 7, 9]
    assert len(events) == 3
    table = events.table()
    assert table["n_segments"].to_list() == [1, 4, 0]
    assert table["energy_keV"].to_list() == pytest.approx([2100.0, 1750.0, 0.0])
    track = events.track(7)
    assert track.name == "e_event000007"
    # centimetres and MeV become metres and keV
    assert track.energy.sum() == pytest.approx(1750.0, rel=1e-5)
    assert track.charge == pytest.approx(1750 * 700 / 23.6, abs=0.5)
    assert track.positions[:, 0] == pytest.approx([0.10, -0.20 + 1e-4, 0.30], abs=2e-5)
    assert track.positions.min(axis=1) == pytest.approx([0.1, -0.2, 0.3], abs=2e-4)
    assert set(track.pdg.tolist()) == {11, -11}
    # the primary is number 0, whatever the file calls it
    assert sorted(set(track.particle_id.tolist())) == [1, 2, 3]
    assert set(track.parent_id[track.pdg == -11].tolist()) == {0}
    assert set(track.creator.tolist()) == {"pair", "brem"}
    truth = track.truth
    assert (truth.particle, truth.first_interaction) == ("photon", "pair")
    assert truth.energy == pytest.approx(5000.0)
    assert truth.origin == pytest.approx([0.10, -0.20, 0.30])
    assert truth.direction.tolist() == [1.0, 0.0, 0.0]
    assert [arm.pdg for arm in truth.arms] == [-11, 11]
    assert [arm.kinetic_energy for arm in truth.arms] == pytest.approx([2478.0, 1500.0], rel=1e-5)
    assert truth.arms[1].direction.tolist() == [0.0, 1.0, 0.0]
    pair = truth.interactions.of("pair")
    # one pair, with the kinetic energy of both: E - 1022 keV
    assert pair.energy == pytest.approx([5000 - 2 * ELECTRON_MASS], abs=0.1)
    assert truth.interactions.of("brem").energy == pytest.approx([300.0])
    assert truth.radiated == pytest.approx(0.06)
    assert [each.name for each in events] == ["e_event000003", "e_event000007", "e_event000009"]
    save(track, tmp_path / "own")
    assert load(tmp_path / "own").charge == track.charge


def test_events_without_truth_say_why(tmp_path):
    events = open_events(write_edep_sim(tmp_path / "e.h5"))
    assert events.track(3).truth is None
    assert "particle 13" in events.track(3).meta["notes"][0]
    nothing = events.track(9)
    assert len(nothing) == 0
    assert nothing.truth.energy == pytest.approx(2000.0)
    assert nothing.truth.first_interaction == ""
    with h5py.File(tmp_path / "e.h5", "a") as file:
        del file["trajectories"]
    bare = open_events(tmp_path / "e.h5")
    assert bare.events == [3, 7]
    track = bare.track(7)
    assert track.truth is None
    assert "no trajectories" in track.meta["notes"][0]
    assert set(track.particle_id.tolist()) == {0, 1, 2}
    assert track.parent_id is None


def test_one_of_many_has_to_be_named(tmp_path):
    path = write_edep_sim(tmp_path / "e.h5")
    with pytest.raises(UsageError, match="has 3 events, not one") as caught:
        load(path)
    assert caught.value.known == ["3", "7", "9"]
    assert load(path, event=7).charge == open_events(path).track(7).charge
    with pytest.raises(InputError, match="has no event 8"):
        load(path, event=8)
    # the floor of the original would be wrong by 30 % here; it has to be asked for
    assert load(path, event=7, model="gampy").charge == pytest.approx(1750 * 39.77, rel=1e-3)


def test_charge_models_of_segments(tmp_path):
    path = write_edep_sim(tmp_path / "e.h5")
    seen = []

    def half(density):
        seen.append(density)
        return np.full(density.shape, 0.5)

    track = open_events(path, model=half).track(7)
    assert track.charge == pytest.approx(1750 * 500 / 23.6, abs=0.5)
    assert track.meta["charge_model"]["name"] == "half"
    # MeV/cm of whole segments, not of the parts they are cut into
    assert seen[0][:3] == pytest.approx([2.0, 2.5, 2.5], rel=1e-3)
    other = open_events(path, model=ChargeModel("mine", 20.0, 1.0)).track(7)
    assert other.charge == pytest.approx(1750 * 50, abs=0.5)
    with pytest.raises(ConfigError, match="unknown charge model"):
        open_events(path, model="birk")


def test_points_lie_evenly_along_segments_and_sums_are_kept():
    rng = np.random.default_rng(6)
    start = rng.normal(0, 0.1, (3, 300))
    end = start + rng.normal(0, 2e-3, (3, 300))
    end[:, 5] = start[:, 5]
    energy = rng.exponential(200.0, 300)
    segments = Segments(start, end, energy, {"pdg": np.arange(300, dtype=np.int32)})
    coarse = track_of_segments(segments, spacing=1.0)
    fine = track_of_segments(segments, spacing=1e-4)
    assert len(coarse) == 300
    assert coarse.positions == pytest.approx((start + end) / 2)
    assert abs(fine.charge - coarse.charge) <= 1
    assert fine.energy.astype(np.float64).sum() == pytest.approx(energy.sum(), rel=1e-6)
    for number in (0, 5, 77):
        own = fine.pdg == number
        length = np.linalg.norm(end[:, number] - start[:, number])
        assert own.sum() == max(1, np.ceil(length / 1e-4))
        assert fine.positions[:, own].mean(axis=1) == pytest.approx((start + end)[:, number] / 2)
        gaps = np.linalg.norm(np.diff(fine.positions[:, own]), axis=0)
        assert np.all(gaps <= 1e-4)
        assert gaps == pytest.approx(length / own.sum())
        assert abs(fine.num_e[own].sum() - energy[number] * 700 / 23.6) <= 1
    for spacing in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="spacing"):
            track_of_segments(segments, spacing=spacing)
    with pytest.raises(InputError, match="larger spacing"):
        track_of_segments(segments, spacing=1e-9)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("x_end", np.nan, r"event 7: segment 0 goes from \[.*\] to \[nan"),
        ("z_start", np.inf, "event 7: segment 0"),
        ("dE", -1.0, "event 7: segment 0 has an energy of -1000.0 keV"),
        ("dE", np.nan, "energy of nan"),
        ("x_start", np.nan, r"event 7: segment 0 goes from \[nan"),
        ("x_end", 1e7, "larger spacing"),
        ("x_end", 1e30, "event 7: segment 0 goes from"),
        ("dE", 1e30, r"event 7: segment 0 has an energy of 1.0*\d*e\+33 keV"),
        ("dE", 1e9, r"event 7: deposits of 2.966e\+13 electrons"),
    ],
)
def test_segments_that_make_no_sense_are_told(tmp_path, column, value, message):
    path = write_edep_sim(tmp_path / "e.h5")
    with h5py.File(path, "a") as file:
        rows = file["segments"][:]
        rows[column][1] = value
        file["segments"][:] = rows
    with pytest.raises(InputError, match=message) as caught:
        open_events(path).track(7)
    assert caught.value.where == str(path)


def retyped(table, name, value, row):
    """Return a table of records with one column as numbers of 64 bits, and a value in it."""
    wide = np.dtype([(key, "f8" if key == name else table.dtype[key]) for key in table.dtype.names])
    changed = np.zeros(table.shape, wide)
    for key in table.dtype.names:
        changed[key] = table[key]
    changed[name][row] = value
    return changed


@pytest.mark.parametrize("dataset", ["segments", "trajectories"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12, 11.5])
def test_kinds_of_particles_that_are_no_numbers_are_told(tmp_path, dataset, value):
    path = write_edep_sim(tmp_path / "e.h5")
    with h5py.File(path, "a") as file:
        changed = retyped(file[dataset][:], "pdg_id", value, 1)
        del file[dataset]
        file[dataset] = changed
    with pytest.raises(InputError, match=r"'pdg_id' of row \d is .*whole number of 32 bits"):
        open_events(path).track(7)
    # the events beside it
    assert open_events(path).track(3).charge > 0


@pytest.mark.parametrize(
    ("column", "value"), [("pxyz_start", np.inf), ("xyz_start", np.nan), ("xyz_start", 1e9)]
)
def test_trajectories_that_make_no_sense_are_told(tmp_path, column, value):
    path = write_edep_sim(tmp_path / "e.h5")
    with h5py.File(path, "a") as file:
        rows = file["trajectories"][:]
        rows[column][2] = value
        file["trajectories"][:] = rows
    with pytest.raises(InputError, match=r"event 7: trajectory \(2, 0\) begins at"):
        open_events(path).track(7)


def test_runs_of_events():
    assert runs_of(np.array([], dtype=int)) == {}
    assert runs_of(np.array([5, 5, 2, 5])) == {2: [(2, 3)], 5: [(0, 2), (3, 4)]}
    assert runs_of(np.array([0], dtype=np.uint32)) == {0: [(0, 1)]}


# ---------------------------------------------------------------- damaged and hostile HDF5


def test_files_that_are_no_hdf5_foreign_cut_or_damaged(tmp_path):
    path = write_edep_sim(tmp_path / "e.h5")
    whole = path.read_bytes()
    for content, message in ((b"", "file is empty"), (b"hello" * 10, "not an HDF5 file")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_events(path)
    for length in (8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut off|damaged"):
            list(open_events(path))
    rng = np.random.default_rng(3)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        try:
            list(open_events(path))
        except InputError as error:
            told = error.where
            assert told == str(path)
    with pytest.raises(InputError, match="No such file"):
        open_events(tmp_path / "none.h5")
    with h5py.File(path, "w") as file:
        file["weights"] = np.arange(3)
    with pytest.raises(InputError, match="neither 'segments'") as caught:
        open_events(path)
    assert caught.value.known == ["weights"]


def test_columns_that_are_missing_or_of_another_kind(tmp_path):
    path = tmp_path / "e.h5"
    for data, message in (
        (np.arange(3.0), "not rows of named columns"),
        (np.zeros(3, [("x", "f4")]), "no column 'event_id'"),
        (np.zeros(3, [("event_id", "u4")]), "no column 'pdg_id'"),
        (np.zeros(3, [("event_id", "S4")]), "not numbers"),
    ):
        with h5py.File(path, "w") as file:
            file["segments"] = data
        with pytest.raises(InputError, match=message):
            open_events(path).track(0)
    with h5py.File(path, "w") as file:
        file.create_group("segments")
    with pytest.raises(InputError, match="not a dataset"):
        open_events(path)


def test_content_of_other_files_is_not_opened(tmp_path):
    other = write_edep_sim(tmp_path / "other.h5")
    path = tmp_path / "e.h5"
    kind = segment_type(NEW)

    with h5py.File(path, "w") as file:
        file["segments"] = h5py.ExternalLink(str(other), "segments")
    with pytest.raises(InputError, match=r"not a dataset of this file|in other files"):
        open_events(path)
    with h5py.File(path, "w") as file:
        file["deep"] = h5py.ExternalLink(str(other), "/")
        file["segments"] = h5py.SoftLink("/deep/segments")
    with pytest.raises(InputError, match="in other files"):
        open_events(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("segments", (2,), kind, external=[("/etc/passwd", 0, kind.itemsize * 2)])
    with pytest.raises(InputError, match="in other files"):
        open_events(path)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((5,), kind)
        layout[:] = h5py.VirtualSource(str(other), "segments", (5,))
        file.create_virtual_dataset("segments", layout)
    with pytest.raises(InputError, match="in other files"):
        open_events(path)


def test_tables_that_say_they_are_huge_take_no_memory(tmp_path):
    path = tmp_path / "e.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("segments", (10**12,), segment_type(NEW), chunks=(1000,))
    with pytest.raises(InputError, match="1,000,000,000,000 rows of 'segments' take"):
        open_events(path)


# ---------------------------------------------------------------- GAMPixPy


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle in an attribute was opened')",)


def write_gampixpy(path, old=False):
    """Write an output of the package: three events, the last without a pixel."""
    rng = np.random.default_rng(2)
    columns = {
        word: np.dtype(
            [("event id", "u4"), ("tile trigger id", "u4"), (f"{word} tpc", "u4"), (f"{word} x", "f4"), (f"{word} y", "f4"),
             ("trig z", "f4"), ("trig t", "f4"), *([("trigger", "?"), ("true charge", "f4")] if old else []),
             ("waveform", "f4", 20), *([] if old else [("raw waveform", "f4", 20)]), ("label", "i4", 2)],
            align=True,
        ) for word in ("pixel", "tile")
    }  # fmt: skip
    tables = {}
    for word, n in (("pixel", 12), ("tile", 4)):
        table = np.zeros(n, columns[word])
        table["event id"] = np.arange(n) >= n // 2
        table[f"{word} x"], table[f"{word} y"] = rng.normal(0, 10, (2, n))
        table["trig z"] = rng.uniform(0, 30, n)
        table["trig t"] = table["trig z"] * 6
        table["waveform"] = rng.normal(500, 50, (n, 20))
        if old:
            table["true charge"] = 10_000
        else:
            table["raw waveform"] = 500
        tables[word] = table
    tables["pixel"]["waveform"][3] = -20
    names = (
        "event id",
        "primary energy",
        "deposited charge",
        "vertex x",
        "vertex y",
        "vertex z",
        "theta",
        "phi",
        "primary length",
    )
    meta = np.zeros(3, np.dtype([(name, "u4" if name == "event id" else "f4") for name in names], align=True))
    meta["event id"] = [0, 1, 5]
    meta["primary energy"] = [10.0, -1, 3.0]
    meta["vertex x"] = 100.0
    meta["theta"], meta["phi"] = np.pi / 2, np.pi / 2
    with h5py.File(path, "w") as file:
        file["pixels"], file["tiles"], file["meta"] = tables["pixel"], tables["tile"], meta
        for name in ("readout config", "physics config", "detector config"):
            file.attrs[name] = np.void(pickle.dumps(Bomb()))
    return path, tables


@pytest.mark.parametrize("old", [False, True])
def test_events_of_gampixpy(tmp_path, old):
    path, tables = write_gampixpy(tmp_path / "g.h5", old)
    events = open_events(path)
    assert events.kind == "GAMPixPy"
    assert events.events == [0, 1, 5]
    table = events.table()
    assert table["n_pixels"].to_list() == [6, 6, 0]
    pixels = tables["pixel"][:6]
    track = events.track(0)
    assert track.positions == pytest.approx(
        np.stack([pixels[k] for k in ("pixel x", "pixel y", "trig z")]) / 100
    )
    measured = pixels["waveform"].astype(np.float64).sum(axis=1)
    assert track.num_e.tolist() == np.rint(np.maximum(measured, 0)).tolist()
    assert table["charge"][0] == pytest.approx(measured.sum())
    assert "1 pixels with -400 electrons were set to 0" in track.meta["notes"][1]
    assert track.truth is None
    primary = track.meta["primary"]
    assert primary["energy_keV"] == pytest.approx(10_000)
    assert primary["origin_m"] == pytest.approx([1.0, 0, 0])
    # its theta is the azimuth
    assert primary["direction"] == pytest.approx([0, 1, 0], abs=1e-6)
    assert events.track(1).meta["primary"] is None
    assert len(events.track(5)) == 0
    samples = events.samples(0)
    assert samples.height == 6
    assert samples["charge"].to_list() == pytest.approx(measured.tolist())
    assert samples["charge_true"].to_list() == [10_000.0] * 6
    assert ("triggered" in samples.columns) is old
    assert events.samples(1, "tiles").height == 2
    with pytest.raises(UsageError, match="unknown kind of record 'wires'"):
        events.samples(0, "wires")
    with pytest.raises(InputError, match="has no event 2"):
        events.samples(2)


def test_pickles_in_attributes_are_never_opened(tmp_path):
    path, _ = write_gampixpy(tmp_path / "g.h5")
    with h5py.File(path) as file, pytest.raises(SystemExit):
        pickle.loads(file.attrs["readout config"].tobytes())  # noqa: S301  the file is hostile indeed
    events = open_events(path)
    assert [track.charge > 0 for track in events] == [True, True, False]


def test_pixels_that_make_no_sense_are_told(tmp_path):
    path, tables = write_gampixpy(tmp_path / "g.h5")
    for column, value, message in (
        ("waveform", np.nan, "charge of pixel 2"),
        ("pixel x", np.inf, "position of point 2"),
    ):
        changed = tables["pixel"].copy()
        changed[column][2] = value
        with h5py.File(path, "a") as file:
            file["pixels"][:] = changed
        with pytest.raises(InputError, match=f"event 0: .*{message}"):
            open_events(path).track(0)


# ---------------------------------------------------------------- PENELOPE


STEERING = """\
TITLE  Electrons in homogeneous cylinder.
       .
SKPAR  {particle}        [Primary particles: 1=electron, 2=photon, 3=positron]
SENERG {energy}            [Initial energy (monoenergetic sources only)]
SPOSIT 1 2 3                 [Coordinates of the source center]
SCONE  90 0 0                             [Conical beam; angles in deg]
MSIMPA 50 50 50 0.010 0.010 50 50                 [EABS(1:3),C1,C2,WCC,WCR]
DSMAX  1 1 1.0D35                  [Mmaximum step length in body KL,KC]
END                                  [Ends the reading of input data]
"""

# step, particle, kind, generation, parent kind, parent interaction, transition, interaction, absorbed, E, dE, dS, x, y, z
ROWS = [
    (1, 1, 2, 1, 0, 0, 0, 4, 1, 5e6, 5e6, 1.0, 10, 0, 0),
    (2, 2, 3, 2, 2, 4, 0, 1, 0, 2e6, 100.0, 1e-4, 10, 0, 1e-4),
    (3, 2, 3, 2, 2, 4, 0, 2, 0, 2e6, 0.0, 1e-4, 10, 0, 2e-4),
    (4, 2, 3, 2, 2, 4, 0, 1, 1, 40.0, 40.0, 0.0, 10, 0, 3e-4),
    (5, 3, 1, 2, 2, 4, 0, 1, 0, 1.9e6, 60.0, 1e-4, 10, 1e-4, 0),
    (6, 3, 1, 2, 2, 4, 0, 4, 0, 1.9e6, 3e4, 1e-4, 10, 2e-4, 0),
    (7, 3, 1, 2, 2, 4, 0, 3, 0, 1.9e6, 2e3, 1e-4, 10, 3e-4, 0),
    (8, 4, 1, 3, 1, 3, 0, 1, 1, 40.0, 40.0, 1e-5, 10, 3e-4, 0),
    (9, 5, 2, 3, 1, 4, 0, 3, 1, 3e4, 3e4, 0.5, 10.5, 0, 0),
]  # fmt: skip


def fortran(rows, with_step=True):
    lines = ["", " Date and time: 27th May 2025. 13:32:20"]
    for row in rows:
        step, *whole = row[:9]
        head = f"{step:12d}" if with_step else ""
        head += f"{whole[0]:7d}" + "".join(f"{each:3d}" for each in whole[1:5]) + f"{whole[5]:9d}"
        head += "".join(f"{each:3d}" for each in whole[6:])
        lines.append(head + "".join(f"{each:20.12E}" for each in row[9:]))
    return "\n".join(lines) + "\n"


def write_dump(folder, rows=ROWS, particle=2, **options):
    path = folder / "TrackE0005000_0001.dat"
    path.write_text(fortran(rows, **options))
    (folder / "pentracks.in").write_text(STEERING.format(particle=particle, energy="5000e3"))
    return path


@pytest.mark.parametrize("with_step", [True, False])
def test_dump_of_penelope(tmp_path, with_step):
    path = write_dump(tmp_path, with_step=with_step)
    assert looks_like_penelope(path)
    dump = read_dump(path)
    # the row without energy is none
    assert len(dump) == 8
    assert set(dump.columns) == set(COLUMNS)
    assert dump.columns["energy"][0] == pytest.approx(5000.0)
    assert dump.positions[:, 0] == pytest.approx([0.1, 0, 0])
    assert dump.date == "Date and time: 27th May 2025. 13:32:20"
    assert dump.columns["step"][0] == (1 if with_step else 0)

    track = read_penelope(path)
    # soft steps of electrons and positrons, without the last one of the positron
    assert track.energy.tolist() == pytest.approx([0.1, 0.06, 0.04])
    assert track.num_e.tolist() == [3, 2, 1]
    assert track.pdg.tolist() == [-11, 11, 11]
    assert track.particle_id.tolist() == [1, 2, 3]
    assert track.creator.tolist() == ["pair", "pair", "delta"]
    assert track.positions[:, 1] == pytest.approx([0.1, 1e-6, 0])
    truth = track.truth
    assert (truth.particle, truth.energy, truth.first_interaction) == ("photon", 5000.0, "pair")
    assert truth.origin == pytest.approx([0.1, 0, 0])
    assert truth.direction == pytest.approx([1, 0, 0], abs=1e-12)
    assert truth.interactions.kind.tolist() == ["pair", "brem", "photo"]
    assert truth.interactions.energy == pytest.approx([3978.0, 30.0, 30.0])
    assert truth.interactions.particle_id.tolist() == [0, 2, 4]
    assert track.meta["original"]["penelope_input"]["wcc"] == 50.0
    assert load(path).charge == track.charge
    assert load(path, model="constant").charge == round(0.2 * 700 / 23.6)
    save(track, tmp_path / "own")
    assert load(tmp_path / "own").truth.interactions.kind.tolist() == ["pair", "brem", "photo"]


def test_dump_of_an_electron_and_one_without_steering(tmp_path):
    path = write_dump(tmp_path, particle=1)
    truth = read_penelope(path).truth
    assert (truth.particle, truth.first_interaction) == ("electron", "")
    assert truth.origin == pytest.approx([0.01, 0.02, 0.03])
    (tmp_path / "pentracks.in").unlink()
    track = read_penelope(path)
    assert track.truth is None
    assert "no steering file" in track.meta["notes"][0]
    with pytest.raises(InputError, match="No such file"):
        read_penelope(path, steering=tmp_path / "none.in")


def test_steering_file(tmp_path):
    file = tmp_path / "pentracks.in"
    file.write_text(STEERING.format(particle=3, energy="100d3"))
    settings = read_steering(file)
    assert settings["initial_particle"] == "positron"
    assert settings["initial_energy"] == 100.0
    assert settings["r_o"] == [1.0, 2.0, 3.0]
    assert settings["s_o"] == pytest.approx([1, 0, 0], abs=1e-12)
    assert (settings["eabs"], settings["c1"], settings["wcr"]) == ([50.0, 50.0, 50.0], 0.01, 50.0)
    assert len(settings["raw_lines"]) == 9
    for bad in (STEERING.format(particle=4, energy=1), STEERING.format(particle=1, energy="ten")):
        file.write_text(bad)
        with pytest.raises(InputError, match=r"line [34]: (SKPAR|SENERG) does not have"):
            read_steering(file)


def test_events_that_cannot_be_are_told_with_the_name_of_the_dump(tmp_path):
    path = write_dump(tmp_path)
    steering = (tmp_path / "pentracks.in").read_text()
    (tmp_path / "pentracks.in").write_text(steering.replace("5000e3", "0"))
    with pytest.raises(InputError, match="'energy' of the truth record is 0 keV") as caught:
        read_penelope(path)
    assert caught.value.where == str(path)
    # 1e14 eV in one step
    path.write_text(path.read_text().replace("1.000000000000E+02", "1.000000000000E+14", 1))
    with pytest.raises(InputError, match=r"deposits of 3\.977e") as caught:
        read_penelope(path)
    assert caught.value.where == str(path)


def test_a_link_to_another_file_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("no HDF5")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["segments"] = h5py.ExternalLink(str(tmp_path / "secret"), "/segments")
    with pytest.raises(InputError, match="'segments' is not a dataset of this file"):
        open_events(tmp_path / "e.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-30], "a row after line 2 does not have 15 numbers"),
        (lambda text: text.replace("  3.000000000000E-04\n", "\n", 1), "does not have 15 numbers"),
        (lambda text: text.replace("1.000000000000E+02", "              wrong"), "does not have 15 numbers"),
        (lambda text: text.replace("1.000000000000E+02", "               nan"), "a value that is not finite"),
        (
            lambda text: text.replace("      2  3  2  2", "      2  7  2  2", 1),
            "row 2 after line 2 has the kind of particle 7",
        ),
        (lambda text: text.replace("1.000000000000E+02", "1.000000000000E+99"), "not finite or too large"),
        (
            lambda text: text.replace("      2  3  2  2", "  9999999999  3  2  2", 1),
            "not finite or too large",
        ),
        (lambda text: "a text\nof another kind\n", "not a dump of PENELOPE"),
        (lambda text: "", "not a dump of PENELOPE"),
    ],
)
def test_damaged_dumps_are_told(tmp_path, change, message):
    path = write_dump(tmp_path)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        read_dump(path)
    assert caught.value.where == str(path)
