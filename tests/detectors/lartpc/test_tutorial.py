"""The original tutorial runs but for its import, here and on simulated tracks; so does the notebook of this package."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: no test opens a window

import matplotlib.pyplot as plt
import numpy as np
import pytest
from mpl_toolkits.mplot3d import Axes3D

from firstlight.detectors.lartpc.reading.tracks import load
from firstlight.detectors.lartpc.readout.designs import DESIGNS
from firstlight.detectors.lartpc.simulate import simulate
from firstlight.detectors.lartpc.tracks_tools import Tracks

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("FIRSTLIGHT_DATA", ROOT.parent / "shared" / "data"))
SAMPLE = DATA / "lartpc"
SEED = DATA.parent / "seeds" / "lartpc.txt"
NOTEBOOK = ROOT / "docs" / "lartpc-tutorial.ipynb"
OLD, NEW = "from Gampy.tools import tracks_tools", "from firstlight.detectors.lartpc import tracks_tools"

needs_seed = pytest.mark.skipif(not SEED.is_file(), reason=f"text of the original tutorial not found: {SEED}")
needs_sample = pytest.mark.skipif(
    not (SAMPLE / "Tracks").is_dir(), reason=f"tracks of the original tutorial not found in {SAMPLE}"
)


@pytest.fixture
def shown(monkeypatch):
    """Collect in a list how many figures were open at each ``plt.show()``; all are closed afterwards."""
    plt.close("all")
    counts = []
    monkeypatch.setattr(plt, "show", lambda: counts.append(len(plt.get_fignums())))
    yield counts
    plt.close("all")


def run_blocks(blocks):
    """Run blocks of code one after the other in one name space, and return it."""
    space = {"__name__": "tutorial"}
    for number, code in enumerate(blocks):
        exec(compile(code, f"<block {number}>", "exec"), space)  # noqa: S102  (that is what is tested)
    return space


def seed_blocks():
    """Return the Python blocks of the original tutorial; only the import of the package is changed."""
    blocks = re.findall(r"^```python\n(.*?)^```$", SEED.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    joined = "\0".join(blocks)
    assert joined.count(OLD) == 1
    return joined.replace(OLD, NEW).split("\0")


def check_what_the_seed_makes(space, shown):
    """Compare everything that the blocks of the original tutorial leave behind with the file that they read."""
    assert len(space["track_file_base"]) > 20
    # those that the notebook makes with pyplot; `display` has one of its own
    assert len(set(shown)) == len(shown) == 4
    figures = [plt.figure(number) for number in plt.get_fignums()]
    titles = [[axes.get_title() for axes in figure.axes if axes.get_title()] for figure in figures]
    assert titles == [
        ["Electron Track — Raw"],
        ["Electron Track — After Drift"],
        ["Detector Readout — 2D Projection"],
        ["Electrons Track", "Photons Track"],
    ]
    assert [isinstance(axes, Axes3D) for axes in figures[3].axes] == [True, True]
    for number, name in ((0, "raw"), (1, "drifted")):
        drawn = figures[number].axes[0].collections[0]
        assert drawn.get_array().size > 100, name
        assert figures[number].axes[1].get_ylabel() == "Charge (e⁻)"
    projection = figures[2].axes[0].collections[0]
    samples = space["pixel_samples"]
    np.testing.assert_array_equal(projection.get_offsets(), np.stack([samples["x"], samples["y"]], axis=1))
    np.testing.assert_array_equal(projection.get_array(), samples["charge"])
    np.testing.assert_array_equal(samples["charge"], samples["samples_triggered"])
    np.testing.assert_array_equal(
        np.stack([samples["x"], samples["y"], samples["z"]]), samples["r_triggered"]
    )
    assert (samples["charge"] > DESIGNS["GAMPixG"].pixels.threshold).all()
    drifted = int(space["drifted_charges"].sum())
    assert samples["samples_raw"].sum() == drifted
    # the name `track` is that of the photon by now, as are positions and charges
    assert space["particle"] == "photons"
    photon = load(space["track_file_base"])
    assert photon.truth.particle == "photon"
    np.testing.assert_array_equal(space["positions"], photon.positions.T)
    np.testing.assert_array_equal(space["charges"], photon.num_e)
    assert space["track"].truth["track_energy"] == 1000.0
    return drifted


@needs_seed
def test_seed_has_the_blocks_that_are_run():
    blocks = seed_blocks()
    assert len(blocks) == 7
    for call in ("tracks_tools.Tracks(", "apply_drift()", "readout_charge()", "pixel_samples['charge']"):
        assert any(call in code for code in blocks), call


@needs_seed
@needs_sample
def test_original_tutorial_runs_on_its_own_tracks(monkeypatch, shown, capsys):
    monkeypatch.chdir(SAMPLE)
    before = sorted(path.name for path in SAMPLE.rglob("*"))
    drifted = check_what_the_seed_makes(run_blocks(seed_blocks()), shown)
    assert sorted(path.name for path in SAMPLE.rglob("*")) == before
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    charge = float(said["Total deposited charge"].removesuffix(" e⁻"))
    assert 0.98 * charge < drifted < charge
    # electrons per keV of the sample at 1 MeV: 29.84, standard deviation 0.14
    assert charge / 1000 == pytest.approx(29.84, abs=5 * 0.14)
    assert said["True origin"] == "[0. 0. 0.]"
    direction = np.array([float(word) for word in said["Initial direction"].strip("[]").split()])
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-6)


@pytest.fixture(scope="module")
def folder_of_tracks(tmp_path_factory):
    """Return a folder with a tree of simulated tracks as the original has it: npz and pickle."""
    folder = tmp_path_factory.mktemp("tutorial")
    made = simulate(folder / "Tracks", seed=4, energies=1.0, n_tracks=2, form="original", faults=False)
    assert [path.relative_to(folder).as_posix() for path in made] == [
        "Tracks/LAr/electrons/E0001000",
        "Tracks/LAr/photons/E0001000",
    ]
    return folder


@needs_seed
def test_original_tutorial_runs_on_simulated_tracks(folder_of_tracks, monkeypatch, shown):
    monkeypatch.chdir(folder_of_tracks)
    check_what_the_seed_makes(run_blocks(seed_blocks()), shown)


# ---------------------------------------------------------------- the same calls without the seed

OWN_BLOCKS = (
    """
import glob
from firstlight.detectors.lartpc import tracks_tools

found = sorted(glob.glob("Tracks/LAr/electrons/E0001000/TrackE*.npz"))
stripped = found[0].rstrip(".npz")
track = tracks_tools.Tracks(stripped, seed=7)
""",
    """
places, freed = track.raw["r"].T, track.raw["num_e"]
record = track.truth
summary = (record["origin"], record["initial_direction"], record["track_energy"], record["num_electrons"])
""",
    """
track.apply_drift()
arrived = track.drifted["num_e"]
arrived_at = track.drifted["r"].T
""",
    """
track.readout_charge()
seen = track.pixel_samples
near = (len(seen["x"]), len(seen["y"]), len(seen["charge"]), int(seen["samples_raw"].sum()))
fig, ax, plot_lims = track.display(units="mm")
""",
    """
track.readout_charge(depth=1.0)
far = track.pixel_samples
""",
    """
track.reset_params("LArPix")
forgotten = not hasattr(track, "drifted") and not hasattr(track, "pixel_samples")
track.readout_charge(depth=0.1)
coarse = track.pixel_samples
""",
    """
photons = sorted(glob.glob("Tracks/LAr/photons/E0001000/TrackE*.npz"))
both = [tracks_tools.Tracks(name) for name in (found[1], photons[1])]
""",
)


def test_calls_of_the_tutorial_do_what_they_say(folder_of_tracks, monkeypatch, shown):
    monkeypatch.chdir(folder_of_tracks)
    space = run_blocks(OWN_BLOCKS)
    raw = load(space["found"][0])
    np.testing.assert_array_equal(space["places"], raw.positions.T)
    np.testing.assert_array_equal(space["freed"], raw.num_e)
    origin, direction, energy, n_electrons = space["summary"]
    np.testing.assert_array_equal(origin, np.zeros(3))
    np.testing.assert_allclose(direction, raw.truth.direction)
    assert (energy, n_electrons) == (1000.0, raw.charge)

    arrived = int(space["arrived"].sum())
    assert space["arrived_at"].shape == (space["arrived"].size, 3)
    n_x, n_y, n_charge, sampled = space["near"]
    assert n_x == n_y == n_charge > 10
    assert sampled == arrived
    # 110 K, 10 ms: exp(-1 m / 11.594 m) of them arrive from 1 m more, a binomial number; the box adds the same to both
    far = int(space["far"]["samples_raw"].sum())
    chance = np.exp(-1 / 11.594)
    spread = np.sqrt(2 * raw.charge * chance * (1 - chance))
    assert abs(far - chance * arrived) < 5 * spread
    assert len(space["far"]["samples_raw"]) > 2 * len(space["seen"]["samples_raw"])

    assert space["forgotten"]
    assert space["coarse"]["charge"].min() > DESIGNS["LArPix"].pixels.threshold
    assert len(space["coarse"]["charge"]) < 0.1 * n_charge
    assert isinstance(space["ax"], Axes3D)
    low, high = 1e-3 * np.asarray(space["plot_lims"], dtype=float).T
    places = raw.positions.T
    inside = ((places >= low) & (places <= high)).all(axis=1)
    assert raw.num_e[inside].sum() > 0.95 * raw.charge
    electron, photon = (one.truth["first_interaction"] for one in space["both"])
    assert electron == "n/a"
    assert photon in ("compton", "photo")
    assert shown == []


def test_tracks_are_reached_from_the_package():
    import firstlight

    assert firstlight.lartpc.Tracks is Tracks


# ---------------------------------------------------------------- the notebook


def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def sources(kind):
    return ["".join(cell["source"]) for cell in notebook()["cells"] if cell["cell_type"] == kind]


def test_notebook_is_valid():
    content = notebook()
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in content["cells"]]
    assert len(set(names)) == len(names) > 30
    for cell in content["cells"]:
        assert re.fullmatch(r"[\w-]{1,64}", cell["id"]), cell["id"]
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1]), cell["id"]
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            wanted |= {"outputs", "execution_count"}
        assert cell.keys() == wanted, cell["id"]


def test_links_of_the_notebook_lead_somewhere():
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(sources("markdown")))
    assert links
    for target in links:
        assert (NOTEBOOK.parent / target).is_file(), target


def test_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, shown, capsys):
    monkeypatch.chdir(tmp_path)
    space = run_blocks(sources("code"))
    said = capsys.readouterr().out
    # those that the notebook makes with pyplot; `display` has one of its own
    assert len(set(shown)) == len(shown) == 4

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "Tracks", "all-tracks.png", "event.html", "pictures", "quest.png", "run",
    ]  # fmt: skip
    assert len(list((tmp_path / "Tracks").rglob("*.npz"))) == space["tree"].height == 48
    assert len(space["saved"]) == 6
    for path in (*space["saved"], tmp_path / "all-tracks.png", tmp_path / "quest.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000
    assert 1e5 < (tmp_path / "event.html").stat().st_size < 6e6

    for line in said[said.index("design ") :].splitlines()[1 : 1 + len(DESIGNS)]:
        name, arrived, sampled, *_ = line.split()
        assert name in DESIGNS
        assert arrived == sampled
    # 20,000 electrons each: standard errors of 0.35 and 0.5 per cent
    argon, lengths = space["argon"], space["lengths"]
    widths = 1e3 * np.stack(argon.spread(lengths))
    assert np.abs(space["across"] / widths[0] - 1).max() < 4 * 0.0036
    assert np.abs(space["z"] / widths[1] - 1).max() < 4 * 0.0051
    assert "0.500 kV/cm  1.601 mm/us" in said

    ranking = space["ranking"]
    assert set(ranking["category"]) == set(space["CATEGORIES"])
    assert "Neat electron: less than 1 % radiated" in said
    # electrons whose satellites are to follow what they radiated: within 0.03, as asked of tracks of 3 to 10 MeV
    told = space["told"]
    assert told.height == 16
    assert (told["radiated"] - told["q_satellites"]).abs().max() <= 0.03
    found = space["found"]
    assert found.classifier.auc - 0.5 > 4 * found.classifier.error
    assert (found.classifier.n_positive, found.classifier.n_negative) == (40, 40)

    run = space["run"]
    energies = run["energies/energies"].to_polars()
    assert energies["n_tracks"].to_list() == [8] * 6
    read = run["readout/tracks"].to_polars()
    assert read["sampled"].to_list() == read["survivors"].to_list()
