"""The page of events in space: it holds all charge, needs no network, and texts of files do nothing in it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace

import numpy as np
import pytest

from firstlight.detectors.lartpc.drift import Drifted
from firstlight.detectors.lartpc.readout.hits import Hits
from firstlight.detectors.lartpc.track import Interactions, Track, Truth
from firstlight.detectors.lartpc.views import page as page_module
from firstlight.detectors.lartpc.views.page import event_page
from firstlight.detectors.lartpc.views.scene import scene_of
from firstlight.errors import UsageError

HOSTILE = "</script><script>document.title='taken'</script>\"'&<b>"


def a_track(n_points=2000, name="walk", particle="photon"):
    rng = np.random.default_rng(1)
    positions = np.cumsum(rng.normal(1.0, 3.0, (3, n_points)), axis=1) * 1e-5
    kinds = Interactions(
        np.array(["brem", "pair"]),
        np.array([500.0, 3978.0]),
        positions[:, [100, 0]],
        np.full(2, -1, dtype=np.int32),
    )
    truth = Truth(particle, 5000.0, positions[:, 0], np.array([0.0, 0.6, 0.8]), "pair", kinds)
    return Track(positions, rng.integers(1, 30, n_points), truth, name=name)


def drifted_of(track):
    return Drifted(
        track.positions,
        track.num_e,
        100 - 500 * track.positions[2],
        np.arange(len(track)),
        None,
        0.175,
        0.3,
        12.5,
    )


def hits_of(track, pitch=5e-4):
    index, place = np.unique(np.floor(track.positions / pitch).astype(np.int64), axis=1, return_inverse=True)
    true = np.bincount(place.ravel(), weights=track.num_e).astype(np.int64)
    return Hits(
        (index + 0.5) * pitch, index, true.astype(float), true, true > 20, np.full(true.size, -1),
        (pitch, pitch, pitch), 5.0, 20.0,
    )  # fmt: skip


def unpacked(path, ident):
    text = path.read_text(encoding="utf-8")
    block = re.search(rf'<script type="text/plain" id="{ident}">([A-Za-z0-9+/=]*)</script>', text)
    return zlib.decompress(base64.b64decode(block[1], validate=True))


def read_page(path):
    """Return the data of a page, arrays put in their places."""
    content = unpacked(path, "data")
    size = int.from_bytes(content[:4], "little")
    data = json.loads(content[4 : 4 + size])
    start = -(-(4 + size) // 4) * 4

    def array(place):
        kind, first, count = place
        return np.frombuffer(content, f"<{kind}", count, start + first)

    for event in data["events"]:
        for layer in event["layers"]:
            layer |= {name: array(layer[name]) for name in ("xyz", "q", "label", "time") if name in layer}
    return data


def test_page_holds_every_layer_in_millimetres_and_electrons(tmp_path):
    track = a_track()
    label = np.arange(len(track)) // 1500
    scene = scene_of(
        track, drifted_of(track), hits_of(track), labels={"raw": label}, facts=[("score", "0.9")]
    )
    data = read_page(event_page(scene, tmp_path / "page.html"))
    (event,) = data["events"]
    assert [layer["name"] for layer in event["layers"]] == ["raw", "drifted", "hits"]
    for layer, own in zip(event["layers"], scene.layers, strict=True):
        order = np.argsort(own.charge, kind="stable")
        np.testing.assert_allclose(layer["q"], own.charge[order], rtol=1e-6)
        np.testing.assert_allclose(
            layer["xyz"].reshape(3, -1), own.positions[:, order] * 1e3, rtol=1e-5, atol=1e-5
        )
    raw, drifted, _ = event["layers"]
    assert raw["q"].sum() == track.charge
    np.testing.assert_array_equal(
        np.bincount(raw["label"], weights=raw["q"]), np.bincount(label, weights=track.num_e)
    )
    assert [name for name, _ in raw["labels"]] == [0, 1]
    assert drifted["time"] @ drifted["q"] == pytest.approx(
        (100 - 500 * track.positions[2]) @ track.num_e, rel=1e-5
    )
    assert event["facts"] == [["score", "0.9"]]
    np.testing.assert_allclose(event["whole"], [*scene.whole.centre * 1e3, scene.whole.edge * 1e3], atol=1e-4)


def test_page_marks_the_truth(tmp_path):
    track = a_track()
    (event,) = read_page(event_page(scene_of(track), tmp_path / "page.html"))["events"]
    truth = event["truth"]
    np.testing.assert_allclose(truth["origin"], track.truth.origin * 1e3, atol=1e-4)
    assert truth["along"] == [0.0, 0.6, 0.8]
    assert [(mark["words"], mark["least"], mark["energy"]) for mark in truth["marks"]] == [
        ("bremsstrahlung", " > 20 keV", [500.0]),
        ("pair", "", [3978.0]),
    ]
    blind = replace(track, truth=None)
    assert read_page(event_page(scene_of(blind), tmp_path / "blind.html"))["events"][0]["truth"] is None


def test_page_needs_no_network_and_stays_small(tmp_path):
    rng = np.random.default_rng(2)
    many = Track(np.cumsum(rng.normal(1.0, 3.0, (3, 120_000)), axis=1) * 1e-7, rng.integers(1, 5, 120_000))
    path = event_page(scene_of(many, drifted_of(many), hits_of(many)), tmp_path / "page.html")
    assert path.stat().st_size < 3e6
    assert event_page(scene_of(many), tmp_path / "points.html", points=many).stat().st_size < 6e6
    frame = re.sub(r'(<script type="text/plain" id="\w+">)[^<]*', r"\1", path.read_text(encoding="utf-8"))
    assert "default-src 'none'" in frame
    assert not re.search(r"https?://|\bsrc=|@import|url\(", frame)
    library = unpacked(path, "library").decode()
    assert "plotly.js v" in library[:200]


def test_every_point_is_in_the_page_on_request(tmp_path):
    track = a_track()
    (event,) = read_page(event_page(scene_of(track), tmp_path / "page.html", points=track))["events"]
    assert [layer["name"] for layer in event["layers"]] == ["raw", "points"]
    assert event["layers"][1]["q"].sum() == track.charge
    assert event["layers"][1]["q"].size == len(track)
    with pytest.raises(UsageError, match="1 tracks of points for 2 events"):
        event_page([scene_of(track)] * 2, tmp_path / "page.html", points=[track])


def test_texts_of_files_do_nothing(tmp_path):
    scene = scene_of(a_track(name=HOSTILE), facts=[(HOSTILE, HOSTILE)])
    path = event_page(scene, tmp_path / "page.html", note=HOSTILE)
    text = path.read_text(encoding="utf-8")
    assert "taken" not in re.sub(r"<title>.*?</title>", "", text)
    assert text.count("<script") == text.count("</script>") == 3
    assert "<title>5 MeV photon · pair · &lt;/script&gt;" in text
    assert ".innerHTML" not in text
    data = read_page(path)
    assert data["events"][0]["facts"] == [[HOSTILE, HOSTILE]]
    assert data["note"] == HOSTILE


def test_events_that_do_not_fit_are_named(tmp_path, monkeypatch):
    scene = scene_of(a_track())
    monkeypatch.setattr(page_module, "MAXIMUM_EVENTS", 2)
    data = read_page(event_page([scene] * 3, tmp_path / "page.html", title="all"))
    assert len(data["events"]) == 2
    assert data["note"].startswith("the first 2 of 3 events")
    assert data["title"] == "all"
    monkeypatch.setattr(page_module, "MAXIMUM_MARKERS", 10)
    assert len(read_page(event_page([scene] * 3, tmp_path / "page.html"))["events"]) == 1
    with pytest.raises(UsageError, match="no event"):
        event_page([], tmp_path / "page.html")


def test_truth_that_is_not_finite_is_left_out(tmp_path):
    track = a_track()
    lost = replace(track.truth, origin=np.full(3, np.nan), direction=np.zeros(3))
    (event,) = read_page(event_page(scene_of(track, truth=lost), tmp_path / "page.html"))["events"]
    assert event["truth"]["origin"] is None
    assert event["truth"]["along"] is None


def test_a_10_mev_event_of_the_sample_takes_less_than_six_megabytes(sample_data, tmp_path):
    path = sample_data / "lartpc/Tracks/LAr/photons/E0010000/TrackE0010000_D20250527_T1333526475.npz"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    with np.load(path, allow_pickle=False) as content:
        track = Track(content["r"], content["num_e"])
    written = event_page(scene_of(track, drifted_of(track), hits_of(track)), tmp_path / "page.html")
    assert written.stat().st_size < 6e6
    assert read_page(written)["events"][0]["layers"][0]["q"].sum() == 299_626


@pytest.mark.slow
def test_a_browser_draws_the_page_from_a_file(tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no browser")
    path = event_page(scene_of(a_track(name=HOSTILE)), tmp_path / "page.html")
    command = [
        browser, "--headless", "--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader",
        "--virtual-time-budget=15000", "--dump-dom", f"file://{path}",
    ]  # fmt: skip
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "drag: turn" in page
    assert "<canvas" in page
    assert "bremsstrahlung &gt; 20 keV: 1" in page
    assert "★" in page
    assert "<title>taken" not in page
