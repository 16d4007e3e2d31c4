"""Tracks become tables and tables become tracks: nothing is lost, nothing damaged is passed over."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from firstlight.data.schema import Span
from firstlight.detectors.lartpc.channels import channel_map, pads_at
from firstlight.detectors.lartpc.options import AnodeOptions, Options
from firstlight.detectors.lartpc.reading.tracks import load, save
from firstlight.detectors.lartpc.simulation.generate import simulate_track
from firstlight.detectors.lartpc.source import EventFiles, TrackFiles, TrackFolders, plan
from firstlight.detectors.lartpc.tables import SCHEMAS, Entry, to_tables, tracks_of
from firstlight.detectors.lartpc.track import Track
from firstlight.errors import InputError, SchemaError, UsageError

ALL = {name: tuple(schema.names) for name, schema in SCHEMAS.items()}


def same(one: Track, other: Track) -> bool:
    equal = np.array_equal(one.positions, other.positions) and np.array_equal(one.num_e, other.num_e)
    for name in ("energy", "particle_id", "parent_id", "pdg", "creator"):
        mine, theirs = getattr(one, name), getattr(other, name)
        equal &= (mine is None) == (theirs is None) and (mine is None or np.array_equal(mine, theirs))
    if one.truth is None or other.truth is None:
        return equal and one.truth is None and other.truth is None
    mine, theirs = one.truth, other.truth
    equal &= (mine.particle, mine.energy, mine.first_interaction) == (
        theirs.particle,
        theirs.energy,
        theirs.first_interaction,
    )
    for name in ("kind", "energy", "position", "particle_id"):
        equal &= np.array_equal(getattr(mine.interactions, name), getattr(theirs.interactions, name))
    arms = [(arm.pdg, arm.kinetic_energy, arm.direction.tolist()) for arm in mine.arms]
    return equal and arms == [(arm.pdg, arm.kinetic_energy, arm.direction.tolist()) for arm in theirs.arms]


def chunks_of(source, path, **options):
    found = source.describe(path)
    span = Span(str(path), 0, 0, found.n_events)
    return list(source.read(span, ALL, channel_map(AnodeOptions()), **options))


def test_tables_give_the_tracks_back():
    tracks = [
        simulate_track(kind, 4000.0, seed) for seed, kind in enumerate(("photon", "electron", "positron"))
    ]
    bare = Track(tracks[1].positions, tracks[1].num_e, name="bare")
    from firstlight.data.schema import Chunk

    entries = [Entry(track.name, track) for track in (*tracks, bare)]
    entries.insert(1, Entry("bad", None, "it is cut off", "photon", 1000.0))
    chunk = Chunk(Span("x", 0, 0, 5), to_tables(entries, ALL))
    for name, table in chunk.parts.items():
        table.schema.validate(table.frame, name)
    found = list(tracks_of(chunk))
    assert [row["track"] for row, _ in found] == [entry.name for entry in entries if entry.track]
    assert all(same(one, other) for (_, one), other in zip(found, [*tracks, bare], strict=True))
    refused = chunk.table("events").frame.row(1, named=True)
    assert (refused["status"], refused["reason"], refused["energy"]) == ("refused", "it is cut off", 1000.0)


def test_a_folder_is_read_as_its_files(tree):
    for folder in tree.folders:
        for size in (1, 3, 100):
            rows = [
                row
                for chunk in chunks_of(TrackFolders(), folder, chunk_events=size)
                for row in tracks_of(chunk)
            ]
            names = [row["track"] for row, _ in rows]
            assert names == sorted(names)
            for row, track in rows:
                alone = load(folder / row["track"])
                # charges as 32 bits are exact; truth is not there for one of them
                assert same(track, alone)


def test_a_damaged_track_is_an_event_that_was_refused(tree):
    record = json.loads((tree.root / "truth.json").read_text())
    cut = next(fault["file"] for fault in record["faults"] if fault["fault"] == "truncated")
    folder = (tree.root / cut).parent
    events = [
        row for chunk in chunks_of(TrackFolders(), folder) for row in chunk.table("events").frame.to_dicts()
    ]
    (refused,) = [row for row in events if row["status"] == "refused"]
    assert refused["track"] == (tree.root / cut).stem
    assert "cut off" in refused["reason"]
    # what the folder says is kept: it counts among the tracks of its energy
    assert refused["energy"] == 1000 * float(folder.name[1:]) / 1000
    assert len(events) == 4
    with pytest.raises(InputError, match="cut off"):
        TrackFiles().describe(tree.root / cut)


def write_track(folder, number, **arrays):
    """Write a track without truth; without arrays one of three points."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"r": np.arange(9.0).reshape(3, 3) / 1000, "num_e": np.array([3, 2, 5])} | arrays
    np.savez(folder / f"TrackE0001000_D20250527_T{number:010d}.npz", **arrays)


def test_what_is_impossible_is_a_refused_row_and_the_rest_is_kept(tmp_path):
    folder = tmp_path / "E0001000"
    write_track(folder, 1)
    bad = {
        2: ({"particle_id": np.full(3, np.nan)}, "'particle_id' of row 0 is nan"),
        3: ({"energy": np.array([1.0, -1.0, 1.0])}, "'energy' of point 1 is -1.0 keV"),
        4: ({"r": np.full((3, 3), 1e6)}, "position of point 0"),
        5: ({"num_e": np.array([1, 2, 10**13])}, "sums to 1e+13 electrons"),
        6: ({"r": np.zeros((3, 0)), "num_e": np.zeros(0, dtype=int)}, "holds no point of charge"),
    }
    for number, (arrays, _) in bad.items():
        write_track(folder, number, **arrays)
    write_track(folder, 7, energy=np.array([1.0, np.nan, 2.0]))
    write_track(folder, 8, creator=np.zeros(3, dtype=int), creator_names=np.array(["decay"]))
    for size in (1, 3, 100):
        chunks = chunks_of(TrackFolders(), folder, chunk_events=size)
        rows = [row for chunk in chunks for row in chunk.table("events").frame.to_dicts()]
        assert [row["status"] for row in rows] == ["read", *["refused"] * len(bad), "read", "read"]
        for row, (_, reason) in zip(rows[1:], bad.values(), strict=False):
            assert reason in row["reason"]
        tracks = [track for chunk in chunks for _, track in tracks_of(chunk)]
        assert [track.charge for track in tracks] == [10, 10, 10]
        # columns that are not known for all points are not known
        assert tracks[1].energy is None
        assert tracks[2].creator is None


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path):
    folder = tmp_path / "E0001000"
    for number in (1, 2, 3):
        write_track(folder, number, num_e=np.array([1, -number, 1]))
    with pytest.raises(
        InputError, match="none of 3 tracks can be read; TrackE0001000_D20250527_T0000000001: num_e"
    ) as caught:
        chunks_of(TrackFolders(), folder)
    assert caught.value.where == str(folder)
    # a part of the folder says nothing about the rest
    span = Span(str(folder), 0, 0, 2)
    (chunk,) = TrackFolders().read(span, ALL, channel_map(AnodeOptions()), chunk_events=5)
    assert chunk.table("events").frame["status"].to_list() == ["refused", "refused"]
    empty = {"r": np.zeros((3, 0)), "num_e": np.zeros(0, dtype=int)}
    write_track(tmp_path, 1, **empty)
    with pytest.raises(InputError, match="holds no point of charge"):
        TrackFiles().describe(next(tmp_path.glob("*.npz")))


def write_events(path, **changes):
    """Write segments of three events, each with two steps; changes are values of the second event."""
    import h5py

    ends = [(f"{axis}_{end}", "f4") for axis in "xyz" for end in ("start", "end")]
    rows = np.zeros(
        6, np.dtype([("event_id", "u4"), ("traj_id", "u4"), ("pdg_id", "i4"), ("dE", "f4"), *ends])
    )
    rows["event_id"], rows["pdg_id"], rows["dE"], rows["x_end"] = np.repeat([0, 1, 2], 2), 11, 0.2, 0.1
    for name, value in changes.items():
        rows[name][2:4] = value
    with h5py.File(path, "w") as file:
        file["segments"] = rows
    return path


def test_a_damaged_event_of_a_file_of_many_is_an_event_that_was_refused(tmp_path):
    path = write_events(tmp_path / "e.h5", y_start=np.nan)
    for size in (1, 10):
        chunks = chunks_of(EventFiles(), path, chunk_events=size)
        rows = [row for chunk in chunks for row in chunk.table("events").frame.to_dicts()]
        assert [row["status"] for row in rows] == ["read", "refused", "read"]
        assert rows[1]["reason"].startswith("event 1: segment 0 goes from [0.0, nan, 0.0]")
        assert [track.name for chunk in chunks for _, track in tracks_of(chunk)] == [
            "e_event000000",
            "e_event000002",
        ]
    import h5py

    with h5py.File(path, "a") as file:
        rows = file["segments"][:]
        rows["dE"] = -1.0
        file["segments"][:] = rows
    with pytest.raises(
        InputError, match="none of 3 tracks can be read; e_event000000: event 0: segment 0 has an energy"
    ):
        chunks_of(EventFiles(), path)


def test_facts_say_the_energy_with_its_unit(tree, tmp_path):
    facts = {folder.name: TrackFolders().describe(folder).facts for folder in tree.folders}
    assert facts["E0001000"]["energy"] == "1 MeV"
    assert facts["E0005000"]["energy"] == "5 MeV"
    write_track(tmp_path, 1)
    assert "energy" not in TrackFolders().describe(tmp_path).facts
    # of one file without truth, its name
    found = TrackFiles().describe(next(tmp_path.glob("*.npz")))
    assert found.facts["energy"] == "1 MeV"


def test_files_not_named_as_tracks_are_told(tmp_path):
    write_track(tmp_path, 1)
    assert TrackFolders().describe(tmp_path).notes == ("1 tracks without a truth record",)
    (track,) = tmp_path.glob("*.npz")
    for name in "dbca":
        shutil.copy(track, tmp_path / f"{name}.npz")
    found = TrackFolders().describe(tmp_path)
    assert found.n_events == 1
    assert found.notes[1:] == ("left out, not named as its tracks are: 4 (a, b, c, ...)",)


def test_projection_and_unknown_columns(tree):
    source, folder = TrackFolders(), tree.folders[0]
    span, channels = Span(str(folder), 0, 0, 1), channel_map(AnodeOptions())
    (chunk,) = source.read(span, {"points": ("num_e",)}, channels)
    assert chunk.table("points").frame.columns == ["num_e"]
    with pytest.raises(SchemaError) as caught:
        list(source.read(span, {"points": ("nume",)}, channels))
    assert "num_e" in (caught.value.known or ())


def test_what_is_taken(tree, tmp_path):
    folders, files = TrackFolders(), TrackFiles()
    assert folders.sniff(tree.folders[0])
    assert not folders.sniff(tree.root)
    assert not folders.sniff(tmp_path)
    own = min(tree.folders[0].glob("*.npz"))
    assert files.sniff(own)
    # another name, and no tree around it
    shutil.copy(own, tmp_path / "something.npz")
    assert files.sniff(tmp_path / "something.npz")
    assert folders.sniff(tmp_path)
    np.savez(tmp_path / "other.npz", counts=np.arange(3))
    assert not files.sniff(tmp_path / "other.npz")
    assert not EventFiles().sniff(own)


def test_the_truth_beside_a_file_is_part_of_its_key(tmp_path):
    track = simulate_track("electron", 1000.0, 3)
    points, record = save(track, tmp_path / "one.npz")
    source = TrackFiles()
    before = plan(Options(), [source.describe(points)]).conditions[str(points)]
    content = json.loads(record.read_text())
    content["meta"]["remark"] = "changed"
    record.write_text(json.dumps(content))
    assert plan(Options(), [source.describe(points)]).conditions[str(points)] != before
    record.unlink()
    found = source.describe(points)
    assert found.notes == ("no truth record",)
    assert plan(Options(), [found]).conditions == {}


def test_plan_refuses_an_impossible_medium():
    with pytest.raises(UsageError, match="not liquid"):
        plan(Options(medium={"temperature": 60.0}), [])


def test_pads_cover_the_map_and_nothing_else():
    options = AnodeOptions(pad=10.0, half_width=50.0)
    channels = channel_map(options)
    assert len(channels) == 100
    centres = 1e-3 * np.stack([channels.column("x"), channels.column("y"), np.zeros(100)])
    np.testing.assert_array_equal(pads_at(centres, options), np.arange(100))
    edges = np.array([[-0.0501, 0.0499, 0.0501], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert (pads_at(edges, options) >= 0).tolist() == [False, True, False]
