"""Verbs: what they print and write, and what they say where something is wrong."""

from __future__ import annotations

import csv
import json

import numpy as np
import polars as pl
import pytest

from firstlight.detectors.lartpc.commands_common import energy_of
from firstlight.detectors.lartpc.reading.tracks import load, save
from firstlight.detectors.lartpc.readout.designs import DESIGNS
from firstlight.detectors.lartpc.scan import changed_design
from firstlight.detectors.lartpc.simulation.generate import simulate_track
from firstlight.detectors.lartpc.source import TrackFolders
from firstlight.errors import UsageError
from firstlight.testing.workbench import command_line


def run(*words, status=0):
    found, out, err = command_line("lartpc", *words)
    assert found == status, f"{out}\n{err}"
    return out if status == 0 else err


@pytest.fixture(scope="module")
def electron(tree):
    return min((tree.root / "LAr" / "electrons" / "E0005000").glob("*.npz"))


def test_energies_are_understood():
    assert [energy_of(text) for text in ("10MeV", "10 MeV", "500keV", "1e3", "0.001GeV", "2.5mev")] == [
        10_000, 10_000, 500, 1000, 1000, 2500,
    ]  # fmt: skip
    for text in ("MeV", "10 m", "ten", "-1MeV", ""):
        with pytest.raises(UsageError, match="is not an energy"):
            energy_of(text)


def test_list(tree):
    out = run("list", tree.root)
    assert "electron        1 MeV        4          4" in out
    assert out.strip().endswith("16 tracks")
    assert (
        len(run("list", tree.root, "--energy", "5MeV", "--particle", "photon", "--files").splitlines()) == 4
    )
    rows = json.loads(run("list", tree.root, "--json"))
    assert len(rows) == 16
    assert {row["particle"] for row in rows} == {"electron", "photon"}
    err = run("list", tree.root, "--energy", "7MeV", status=3)
    assert "no track of that particle and energy" in err
    assert "photon 5 MeV" in err
    assert "not an energy" in run("list", tree.root, "--energy", "much", status=2)


def test_list_of_a_folder_without_tracks(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert "holds no track" in run("list", tmp_path, status=3)
    assert "Tracks" in run("list", tmp_path / "Tracks", status=3)


def test_info(electron):
    out = run("info", electron)
    for words in ("electron", "5,000", "electrons per keV", "satellites", "density"):
        assert words.replace("5,000", "5000") in out or words in out
    (found,) = json.loads(run("info", str(electron)[:-4], "--json"))
    track = load(electron)
    assert found["electrons"] == track.charge
    assert found["truth"]["radiated"] == pytest.approx(track.truth.radiated)
    err = run("info", electron.with_name("TrackE0005000_none"), status=3)
    assert "no such track" in err


def test_drift(electron, tmp_path):
    out = run("drift", electron, "--depth", "1.0", "-o", tmp_path)
    assert "1.6011 mm/us" in out
    (row,) = json.loads(run("drift", electron, "--depth", "1.0", "--json"))["tracks"]
    assert row["share"] == pytest.approx(0.9394, abs=0.003)
    assert row["sigma_x [mm]"] == pytest.approx(1.286, rel=0.01)
    assert row["sigma_z [mm]"] == pytest.approx(0.910, rel=0.01)
    # the anode at the top of the box: a little more than the metre that is added
    (more,) = json.loads(run("drift", electron, "--depth", "1.0", "--distance", "box", "--json"))["tracks"]
    assert more["time [us]"] > row["time [us]"] + 5
    with np.load(tmp_path / f"drift_{electron.stem}.npz") as arrays:
        assert arrays["electrons"].sum() == row["arrived"]
        assert arrays["positions"].shape == (3, arrays["electrons"].size)
    warm = json.loads(run("drift", electron, "--medium", "gampy110K", "--json"))["medium"]
    assert warm["velocity"] == pytest.approx(1.1594, rel=1e-4)
    assert "outside 0 to 2 kV/cm" in run("drift", electron, "--field", "9", status=2)
    assert "not liquid" in run("drift", electron, "--temperature", "300", status=2)
    assert "greater than 0" in run("drift", electron, "--lifetime", "-1", status=2)
    assert "unknown" in run("drift", electron, "--velocity", "bln", status=2)


def test_drift_with_a_table_of_velocities(electron, tmp_path):
    table = tmp_path / "velocity.txt"
    table.write_text("# kV/cm mm/us\n0.1 0.5\n0.5 1.7\n1.0 2.2\n")
    medium = json.loads(run("drift", electron, "--velocity", table, "--json"))["medium"]
    assert medium["velocity"] == pytest.approx(1.7)
    assert medium["velocity_model"] == "velocity.txt"
    assert "0.1 to 1 kV/cm" in run("drift", electron, "--velocity", table, "--field", "2", status=2)
    table.write_text("a b\n")
    assert "velocity.txt" in run("drift", electron, "--velocity", table, status=3)


def test_readout(electron, tmp_path):
    content = json.loads(run("readout", electron, "--depth", "0.175", "--json", "-o", tmp_path))
    (row,) = content["tracks"]
    assert content["design"]["pixels.pitch"] == 0.5e-3
    with np.load(tmp_path / f"readout_{electron.stem}.npz") as arrays:
        assert arrays["charge_true"].sum() == row["arrived"]
        assert arrays["triggered"].sum() == row["triggered"]
        assert arrays["charge"][arrays["triggered"]].min() > 100
    quiet = json.loads(run("readout", electron, "--set", "pixels.noise=5", "--json"))
    assert quiet["design"]["pixels.noise"] == 5
    assert "waveforms of tiles" in run("readout", electron, "--waveforms", "--depth", "0.1")
    assert "of noise" not in run("readout", electron, "--readout", "AnodeGridD", "-q")
    err = run("readout", electron, "--readout", "GAMPix", status=2)
    assert "unknown read-out 'GAMPix'" in err
    assert "LArPix" in err
    assert "pixels.noise" in run("readout", electron, "--set", "pixels.nose=5", status=2)


def test_readout_follows_its_seed(electron):
    words = ("readout", electron, "--depth", "0.175", "--json")
    assert run(*words, "--seed", "4") == run(*words, "--seed", "4") != run(*words, "--seed", "5")


def test_what_drift_and_readout_write_is_no_track(electron, tmp_path):
    run("drift", electron, "-o", tmp_path, "-q")
    run("readout", electron, "-o", tmp_path, "-q")
    assert len(list(tmp_path.iterdir())) == 2
    assert "holds no track" in run("list", tmp_path, status=3)
    assert not TrackFolders().sniff(tmp_path)


def test_tracks_of_one_name_are_all_written(electron, tmp_path):
    for number in "ab":
        track = simulate_track("electron", 300.0, ord(number))
        save(track, tmp_path / number / "TrackE0000300_D20250101_T0000000001")
    both = [tmp_path / number / "TrackE0000300_D20250101_T0000000001" for number in "ab"]
    run("readout", *both, "-o", tmp_path / "out", "-q")
    run("plot", *both, "--raw-only", "-o", tmp_path / "out", "-q")
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert "written over each other" in run("convert", *both, "-o", tmp_path / "x", status=2)
    assert not (tmp_path / "x").exists()


def test_wrong_values(electron, tree, tmp_path):
    assert "offset is 1" in run("readout", electron, "--set", "offset=1", status=2)
    assert "cannot be written as .foo" in run(
        "compare", tree.root / "LAr", "-o", tmp_path / "g.foo", "--energy", "1MeV", status=2
    )
    assert "count from 0" in run(
        "compare", tree.root / "LAr", "--track", "99", "-o", tmp_path / "g.png", status=2
    )
    endless = run("readout", electron, "--lifetime", "inf", "--json")
    assert json.loads(endless)["medium"]["lifetime"] is None


def test_scan(tree, electron, tmp_path):
    run(
        "scan",
        electron,
        tree.root / "LAr" / "electrons" / "E0001000",
        "--pitch",
        "0.5,2",
        "--depth",
        "0.05,1",
        "-o",
        tmp_path,
    )
    frame = pl.read_csv(tmp_path / "scan.csv")
    assert frame.select("pitch", "depth").rows() == [(0.5, 0.05), (0.5, 1.0), (2.0, 0.05), (2.0, 1.0)]
    assert frame["n_tracks"].to_list() == [5] * 4
    seen = dict(zip(frame.select("pitch", "depth").rows(), frame["seen"], strict=True))
    # large pixels lose less of a charge that has spread
    assert seen[(0.5, 1.0)] < seen[(2.0, 1.0)] < seen[(2.0, 0.05)] <= 1
    assert seen[(0.5, 1.0)] < seen[(0.5, 0.05)]
    assert (frame["seen_error"] > 0).all()
    assert (tmp_path / "scan.png").stat().st_size > 10_000
    assert "nothing to scan" in run("scan", electron, status=2)
    for wrong in ("small", "0", "-1", "1,inf"):
        assert "are not numbers above 0 [mm]" in run("scan", electron, "--pitch", wrong, status=2)
    # one track alone has no spread
    assert "±" not in run("scan", electron, "--depth", "0.1", "-o", tmp_path)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_coarse_cells_stay_whole_pixels(name):
    for pitch in (0.3e-3, 0.7e-3, 4e-3):
        design = changed_design(DESIGNS[name], pitch, 7.0)
        assert design.collecting.pitch == pitch
        assert design.collecting.noise == 7.0
        assert min(design.pixels_per_cell) >= 1


def test_plot(electron, tmp_path):
    run("plot", electron, "-o", tmp_path, "--projections", "--html", "--colour-by", "cluster", "--profile")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f"{electron.stem}.png",
        f"{electron.stem}_projections.png",
        f"{electron.stem}.html",
        "profile.png",
    }
    assert "core, all" in run("plot", electron, "-o", tmp_path, "--zoom", "near", status=2)


def test_gallery_and_compare(tree, tmp_path):
    clean = ("--energy", "5MeV")
    # one of the tracks is cut off: the others are drawn, and the end says so
    err = run("gallery", tree.root, "-o", tmp_path, "-n", "4", "--each", *clean, status=3)
    assert "1 of 8 tracks were refused, the others have been processed" in err
    pictures = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert len(pictures) == 8
    assert sum(path.startswith("photons/E0005000/") for path in pictures) == 4
    run("compare", tree.root, "-o", tmp_path / "pair.png", *clean)
    assert (tmp_path / "pair.png").stat().st_size > 10_000
    err = run("compare", tree.root / "LAr" / "electrons", "-o", tmp_path / "none.png", status=3)
    assert "no energy with both" in err


def test_features(tree, tmp_path):
    status, _, err = command_line(
        "lartpc", "features", tree.root, "-o", tmp_path / "f.csv", "--truth", tmp_path / "t.parquet"
    )
    assert status == 3
    assert "1 of 16 tracks were refused, the others have been processed" in err
    with (tmp_path / "f.csv").open() as file:
        rows = list(csv.DictReader(file))
    # one of the sixteen is cut off, one has no truth record
    assert len(rows) == 15
    assert pl.read_parquet(tmp_path / "t.parquet").height == 14
    assert {row["particle"] for row in rows} == {"electron", "photon"}
    photons = ("--energy", "5MeV", "--particle", "photon")
    run("features", tree.root, "--readout", "GAMPixD", "-o", tmp_path / "h.json", *photons)
    assert len(json.loads((tmp_path / "h.json").read_text())) == 4
    assert "wires and no pixels" in run(
        "features", tree.root, "--readout", "AnodeGridD", "-o", "x.csv", status=2
    )
    assert ".parquet" in run("features", tree.root, "-o", tmp_path / "f.xls", *photons, status=2)


def test_quest(tree, tmp_path):
    status, out, err = command_line("lartpc", "quest", tree.root, "-o", tmp_path / "q" / "report.html")
    assert status == 3
    assert "cut off" in err
    names = {path.name for path in (tmp_path / "q").iterdir()}
    assert {"report.html", "quest.png", "ranking.csv", "neat_electron.png"} <= names
    assert "Neat electron: TrackE0005000" in out
    assert "3 MeV" in run("quest", tree.root / "LAr" / "electrons" / "E0001000", "-o", tmp_path, status=3)


def test_convert_there_and_back(tree, tmp_path):
    folder = tree.root / "LAr" / "photons" / "E0005000"
    electron = sorted(folder.glob("*.npz"))[1]
    run("convert", folder, "-o", tmp_path / "original", "--to", "original")
    there = sorted((tmp_path / "original" / "E0005000").glob("*.pickle"))
    run("convert", tmp_path / "original" / "E0005000", "-o", tmp_path / "own")
    back = sorted((tmp_path / "own" / "E0005000").glob("*.npz"))
    assert len(back) == len(there) == len(list(folder.glob("*.npz")))
    one, other = load(electron), load(tmp_path / "own" / "E0005000" / electron.name)
    charged = one.num_e > 0
    np.testing.assert_array_equal(one.positions[:, charged], other.positions)
    assert one.truth.energy == other.truth.energy
    assert not list((tmp_path / "own").rglob("*.pickle"))
    run("convert", electron, "-o", tmp_path / "small", "--to", "compressed", "--scale", "500")
    squeezed = load(tmp_path / "small" / electron.stem, form="compressed")
    assert squeezed.charge == one.charge
    assert squeezed.bin_size == 500e-6
    assert len(squeezed) < len(one) / 5


def test_convert_never_writes_into_its_input(tree, tmp_path, electron):
    for output in (tree.root, tree.root.parent, tree.root / "LAr"):
        assert "the folder that is converted" in run("convert", tree.root, "-o", output, status=2)
    assert "written over itself" in run("convert", electron, "-o", electron.parent, status=2)


def test_convert_keeps_what_is_good(tree, tmp_path):
    cut = next(
        fault["file"]
        for fault in json.loads((tree.root / "truth.json").read_text())["faults"]
        if fault["fault"] == "truncated"
    )
    folder = (tree.root / cut).parent
    err = run("convert", folder, "-o", tmp_path, status=3)
    assert "1 of 4 tracks were refused" in err
    assert "cut off" in err
    assert len(list(tmp_path.rglob("*.npz"))) == 3


def test_simulate(tmp_path):
    words = ("simulate", "--particle", "photon", "--energy", "500keV", "-n", "3", "--seed", "4")
    out = run(*words, "--out", tmp_path / "a")
    assert out.strip() == str(tmp_path / "a" / "LAr" / "photons" / "E0000500")
    run(*words, "--out", tmp_path / "b", "--original")
    own, original = (sorted((tmp_path / name).rglob("TrackE*.npz")) for name in "ab")
    assert [path.name for path in own] == [path.name for path in original]
    assert all(path.with_suffix(".pickle").exists() for path in original)
    assert load(own[0]).charge == load(original[0]).charge
    # what is there of other particles and energies stays
    run("simulate", "--particle", "electron", "--energy", "500keV", "-n", "2", "--out", tmp_path / "a", "-q")
    assert len(list((tmp_path / "a").rglob("TrackE*.npz"))) == 5
    run("simulate", "--particle", "electron", "--energy", "500keV", "-n", "1", "--out", tmp_path / "a", "-q")
    record = json.loads((tmp_path / "a" / "truth.json").read_text())
    there = sorted(
        path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("TrackE*.npz")
    )
    assert sorted(track["file"] for track in record["tracks"]) == there
    assert len(there) == 4
    assert "n_tracks" in run("simulate", "--set", "help")
    assert "--set help" in run("simulate", "--set", "tracks=3", "-o", tmp_path / "c", status=2)
