"""Catalogue of a tree: what names and folders say, in one order, quickly, and what does not fit is told."""

from __future__ import annotations

import logging
import os
import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from firstlight.detectors.lartpc.reading.catalogue import COLUMNS, catalogue, survey
from firstlight.errors import InputError

NAME = "TrackE0001000_D20250527_T1337068902"


def touch(path, size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def tree(root, material="LAr", energies=(1000, 300), particles=("photons", "electrons"), n=2):
    for particle in particles:
        for energy in energies:
            folder = root.joinpath(*([material] if material else []), particle, f"E{energy:07d}")
            for index in range(n):
                for ending in (".npz", ".pickle"):
                    touch(folder / f"TrackE{energy:07d}_D2025052{index}_T133700000{index}{ending}")
    return root


def test_a_tree_is_listed_in_order(tmp_path):
    table = catalogue(tree(tmp_path / "Tracks"))
    assert tuple(table.columns) == COLUMNS
    assert table.height == 8
    assert table["particle"].to_list() == ["electron"] * 4 + ["photon"] * 4
    assert table["energy_keV"].to_list() == [300.0, 300.0, 1000.0, 1000.0] * 2
    first = table.row(0, named=True)
    assert first["path"] == str(
        tmp_path / "Tracks/LAr/electrons/E0000300/TrackE0000300_D20250520_T1337000000"
    )
    assert first["material"] == "LAr"
    assert first["tag"] == ""
    assert first["name"] == "TrackE0000300_D20250520_T1337000000"
    assert first["forms"] == ["raw"]
    assert first["has_truth"] is True
    assert first["size"] == 20
    assert first["date"] == date(2025, 5, 20)
    assert table.schema["forms"] == pl.List(pl.String)
    assert table.schema["date"] == pl.Date
    assert catalogue(tmp_path / "Tracks").equals(table)
    # from within the tree the same is known
    inside = catalogue(tmp_path / "Tracks/LAr/electrons/E0000300")
    assert inside.equals(table.head(2))


@pytest.mark.parametrize("place", ["example_data", "my .cache/x", ".conda"])
def test_any_folder_name_and_no_material(tmp_path, place):
    table = catalogue(tree(tmp_path / place, material=""))
    assert table.height == 8
    assert table["material"].null_count() == 8
    assert set(table["particle"]) == {"electron", "photon"}


def test_forms_truth_tags_and_names_of_all_kinds(tmp_path):
    folder = tmp_path / "LAr" / "Positrons" / "E0001000_thin"
    for ending in (".c.npz", ".p.npz", ".npz", ".json"):
        touch(folder / f"{NAME}{ending}")
    touch(folder / "event1.c.npz")
    touch(tmp_path / "loose.npz")
    touch(tmp_path / "loose_truth.npz")
    touch(tmp_path / f"{NAME.replace('1000', '3000', 1)}.npz")
    table = catalogue(tmp_path)
    rows = {row["name"]: row for row in table.iter_rows(named=True)}
    assert rows[NAME]["forms"] == ["raw", "compressed", "energies"]
    assert rows[NAME]["tag"] == "thin"
    assert rows[NAME]["particle"] == "positron"
    assert rows[NAME]["material"] == "LAr"
    assert rows["event1"]["forms"] == ["compressed"]
    assert rows["event1"]["has_truth"] is False
    assert rows["event1"]["energy_keV"] == 1000.0
    assert rows["event1"]["date"] is None
    assert rows["loose"]["has_truth"] is True
    assert rows["loose"]["particle"] is None
    assert rows["loose"]["energy_keV"] is None
    assert rows[NAME.replace("1000", "3000", 1)]["energy_keV"] == 3000.0
    # what is not known comes last
    assert table["name"].to_list()[-1] == "loose"


def test_what_looks_like_a_track_and_is_none_is_told(tmp_path, caplog):
    tree(tmp_path, n=1)
    reasons = {
        "LAr/electrons/E0000300/TrackE0000300_D20250521_T1.npz": "in a tree",
        "TrackE12.npz": "the name is not that of a track",
        "TrackE0000100.txt": "no ending of a track file",
        "TrackE0000100.pickle": "a truth record without points",
        "numbers.npz": "outside of a tree",
        "LAr/photons/E0000300/TrackE0000300_D20250521_T1337000001.npz": "a file is empty",
        "LAr/photons/E0000300/TrackE0000100_D20250521_T1337000009.npz": "its name says 100 keV, its folder 300 keV",
    }
    for place, why in reasons.items():
        touch(tmp_path / place, 0 if "empty" in why else 10)
    touch(tmp_path / "notes.pickle")
    touch(tmp_path / "report.json")
    touch(tmp_path / "readme.md")
    with caplog.at_level(logging.WARNING, logger="firstlight"):
        table = catalogue(tmp_path)
    assert "files that look like tracks and are none" in caplog.text
    assert table.height == 4 + 2
    told = {Path(path).name: why for path, why in survey(tmp_path).strangers.items()}
    assert len(told) == 6
    for place, why in reasons.items():
        if why != "in a tree":
            name = Path(place).name
            assert why in told.get(name, told.get(name.rsplit(".", 1)[0], "")), place


def test_duplicates_are_told_and_listed(tmp_path, caplog):
    for place in ("a/electrons/E0001000", "b/electrons/E0001000"):
        touch(tmp_path / place / f"{NAME}.npz")
    with caplog.at_level(logging.WARNING, logger="firstlight"):
        assert catalogue(tmp_path).height == 2
    assert f"tracks in more than one folder: {NAME}" in caplog.text
    assert survey(tmp_path).duplicates == {NAME: [str(tmp_path / f"{x}/electrons/E0001000") for x in "ab"]}


def test_links_are_followed_once(tmp_path):
    tree(tmp_path / "data", n=1)
    (tmp_path / "Tracks").mkdir()
    (tmp_path / "Tracks" / "LAr").symlink_to(tmp_path / "data" / "LAr")
    (tmp_path / "data" / "LAr" / "back").symlink_to(tmp_path / "Tracks")
    (tmp_path / "Tracks" / "TrackE0000001_D20250101_T0000000000.npz").symlink_to(tmp_path / "nowhere")
    table = catalogue(tmp_path / "Tracks")
    assert table.height == 4
    assert table["path"].str.starts_with(str(tmp_path / "Tracks" / "LAr")).all()


def test_folders_that_are_missing_empty_or_closed(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        catalogue(tmp_path / "none")
    with pytest.raises(InputError, match="is a file"):
        catalogue(touch(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    empty = catalogue(tmp_path / "empty")
    assert empty.height == 0
    assert tuple(empty.columns) == COLUMNS
    closed = tree(tmp_path / "closed", n=1) / "LAr" / "photons"
    closed.chmod(0)
    try:
        if not os.access(closed, os.R_OK):
            found = survey(tmp_path / "closed")
            assert found.table.height == 2
            assert "cannot be read" in found.strangers[str(closed)]
    finally:
        closed.chmod(0o755)


def test_ten_thousand_tracks_take_less_than_two_seconds(tmp_path):
    """Limit of the work: 10,000 tracks, each with points and truth, in 2 s on one core. No file is opened."""
    n_tracks = 10_000
    for index in range(n_tracks):
        energy = (100, 300, 500, 1000, 3000, 5000, 10000, 20000, 50000)[index % 9]
        folder = tmp_path / "LAr" / ("electrons", "photons")[index % 2] / f"E{energy:07d}"
        if index < 18:
            folder.mkdir(parents=True)
        stem = f"{folder}/TrackE{energy:07d}_D20250527_T{index:010d}"
        for ending in (".npz", ".pickle"):
            os.close(os.open(stem + ending, os.O_CREAT | os.O_WRONLY))
            os.truncate(stem + ending, 3)
    used = time.process_time()
    start = time.perf_counter()
    table = catalogue(tmp_path)
    took = min(time.process_time() - used, time.perf_counter() - start)
    assert table.height == n_tracks
    assert took < 2.0
