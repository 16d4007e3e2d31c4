"""Simulated spills: do they hold what their truth says, do they look like real ones, can they be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Span
from firstlight.detectors.spinquest import geometry as planes_of
from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.layouts import TRIGGERS, decode_triggers
from firstlight.detectors.spinquest.simulate import (
    Fault,
    default_faults,
    load_faults,
    simulate,
    simulate_spill,
    track_position,
)
from firstlight.detectors.spinquest.simulation.muons import Hits, Trigger
from firstlight.detectors.spinquest.simulation.noise import N_ELEMENTS, RATES, TICK, build_readout
from firstlight.detectors.spinquest.simulation.truth import parse_fault
from firstlight.detectors.spinquest.source import HITS, RootHits
from firstlight.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firstlight.detectors.spinquest.simulation.truth import Truth

E1039 = planes_of.load_geometry("E1039")
N_EVENTS = 1500
MUON_HITS = 33.0  # per event with one muon and hardly anything else
EVERY_FAULT = [
    *default_faults(),
    *("block:P1X1:20", "rate:H1B:3=0.3", "efficiency:D3mX=0.8", "efficiency:H4T=0.8"),
    *("flag:H2T", "ids=0.5", "dead:D3mU:20-22,30", "shift:H1L=36"),
]


def arrays_of(path: Path) -> dict[str, Any]:
    import uproot

    with uproot.open(path) as file:
        tree = file["save"]
        found: dict[str, Any] = {}
        for name, branch in tree.items():
            array = branch.array(library="ak")
            if name.startswith("fAllHits."):
                found[name.removeprefix("fAllHits.")] = np.asarray(array.layout.content.data).copy()
            else:
                found[name] = array.to_numpy()
    found["event"] = np.repeat(np.arange(found["nfAllHits"].size), found["nfAllHits"])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spills")


@pytest.fixture(scope="module")
def clean(folder: Path) -> Truth:
    return simulate_spill(folder / "clean.root", seed=5, n_events=N_EVENTS)


@pytest.fixture(scope="module")
def faulty(folder: Path) -> Truth:
    return simulate_spill(folder / "faulty.root", seed=5, n_events=N_EVENTS, faults=EVERY_FAULT)


@pytest.fixture(scope="module")
def muons(folder: Path) -> Truth:
    """Nearly nothing but tracks."""
    return simulate_spill(
        folder / "muons.root", seed=7, n_events=6000, mean_hits=MUON_HITS, n_tracks=1, write_tracks=True
    )


@pytest.fixture(scope="module")
def clean_hits(clean: Truth) -> dict[str, Any]:
    return arrays_of(clean.path)


@pytest.fixture(scope="module")
def faulty_hits(faulty: Truth) -> dict[str, Any]:
    return arrays_of(faulty.path)


@pytest.fixture(scope="module")
def muon_hits(muons: Truth) -> dict[str, Any]:
    return arrays_of(muons.path)


def plane_row(truth: Truth, name: str) -> dict[str, Any]:
    return next(plane for plane in truth.planes if plane["name"] == name)


def select(hits: dict[str, Any], name: str) -> np.ndarray[Any, Any]:
    plane = E1039.plane(name)
    return (hits["detectorID"] == plane.detector_id) & (hits["elementID"] <= plane.n_elements)


# --- content of a clean spill


def test_file_says_what_the_truth_says(clean, clean_hits):
    counted = np.zeros_like(clean.counted)
    np.add.at(counted, (clean_hits["detectorID"], clean_hits["elementID"]), 1)
    np.testing.assert_array_equal(counted, clean.counted)
    assert clean.counts["hits"] == clean_hits["event"].size == counted.sum()
    assert clean.counts["events"] == N_EVENTS == clean_hits["nfAllHits"].size
    assert clean.counts["empty_events"] == (clean_hits["nfAllHits"] == 0).sum() > 0
    assert clean.counts["in_time"] == ((clean_hits["flag"] & 2) > 0).sum()
    assert clean.counts["bad_detector"] == clean.counts["bad_element"] == 0
    record = json.loads(clean.record.read_text())
    assert record == json.loads(json.dumps(clean.to_dict()))
    assert record["seed"] == 5
    assert "no real data" in record["synthetic"]
    assert not clean.tracks.exists()


def test_writer_conventions(clean_hits):
    h = clean_hits
    assert [
        h[name].dtype.str[1:] for name in ("detectorID", "elementID", "tdcTime", "driftDistance", "flag")
    ] == [*("i2", "i2", "f4", "f4", "u2")]
    key = ((h["event"] * 128 + h["detectorID"]) * 1024 + h["elementID"]).astype(np.int64)
    assert (np.diff(key) >= 0).all()
    same = np.flatnonzero(np.diff(key) == 0)
    assert same.size > 1000  # wires with several hits in an event
    assert (h["tdcTime"][same] >= h["tdcTime"][same + 1]).all()
    assert h["driftDistance"].min() == 0
    assert h["elementID"].min() == 1
    first = np.cumsum(h["nfAllHits"]) - h["nfAllHits"]
    np.testing.assert_array_equal(h["index"], np.arange(key.size) - first[h["event"]])
    per_plane = np.zeros((N_EVENTS, 63), dtype=int)
    np.add.at(per_plane, (h["event"], h["detectorID"]), 1)
    per_plane[:, 0] = h["nfAllHits"]
    np.testing.assert_array_equal(h["fNHits"], per_plane)
    assert h["fIntensity"].shape == (N_EVENTS, 33)
    assert ((h["fRFID"] >= 1) & (h["fRFID"] <= 588)).all()
    assert ((h["fTurnID"] >= 1) & (h["fTurnID"] <= 369_000)).all()
    assert (np.diff(h["fEventID"]) == 1).all()


def test_flag_and_drift_distance_follow_from_the_time(clean_hits):
    for name in ("D0X", "D2U", "D3mX", "P2Y1"):
        plane, rows = E1039.plane(name), select(clean_hits, name)
        time, distance = clean_hits["tdcTime"][rows], clean_hits["driftDistance"][rows]
        low, high = planes_of.in_time_window(plane)
        in_time = (clean_hits["flag"][rows] & 2) > 0
        np.testing.assert_array_equal(in_time, (time >= low - 1e-4) & (time <= high + 1e-4))
        expected = planes_of.drift_distance(np.clip(time[in_time], low, high), plane)
        np.testing.assert_allclose(distance[in_time], expected, atol=1e-4)
        assert np.allclose(clean_hits["pos"][rows].astype(float), planes_of.element_position(
            E1039, plane.detector_id, clean_hits["elementID"][rows]), atol=1e-4)  # fmt: skip
        assert np.allclose(time / TICK, np.rint(time / TICK), atol=2e-3)
    rows = select(clean_hits, "H2B") & (clean_hits["elementID"] == 5)
    time = clean_hits["tdcTime"][rows & ((clean_hits["flag"] & 2) > 0)]
    assert np.ptp(time) < 19
    assert 2.2 < time.std() < 2.9  # gaussian of 2.5 ns
    assert (clean_hits["driftDistance"][rows] == 0).all()


def test_spill_looks_like_a_real_one(clean, clean_hits):
    """Mean 1089, median 666, largest 6309 hits per event; 79 % in time (A3, A12)."""
    n_hits = clean_hits["nfAllHits"]
    assert abs(n_hits.mean() - 1089) < 4 * 1147 / np.sqrt(N_EVENTS)
    assert 540 < np.median(n_hits) < 800
    assert 4500 < n_hits.max() < 6500
    assert n_hits.min() == 0
    assert 0.77 < clean.counts["in_time"] / clean.counts["hits"] < 0.81
    scale = n_hits.mean() / sum(RATES[plane["name"]] for plane in clean.planes)
    for plane in clean.planes:
        assert plane["hits"] / N_EVENTS == pytest.approx(RATES[plane["name"]] * scale, rel=0.13), plane[
            "name"
        ]
        own = clean.counted[plane["detector_id"]]
        n_always = E1039.plane(plane["name"]).n_elements - E1039.plane(plane["name"]).n_optional
        assert own[n_always + 1 :].sum() == own[0] == 0


def test_planes_and_elements_have_the_expected_hits(clean):
    pulls = [
        (plane["hits"] - plane["expected_hits"]) / np.sqrt(plane["expected_hits"]) for plane in clean.planes
    ]
    # bursts make chamber totals vary more than Poisson counts; the means must agree
    assert abs(np.mean(pulls)) < 0.8
    assert np.abs(pulls).max() < 8
    enough = clean.expected > 20
    pull = (clean.counted - clean.expected)[enough] / np.sqrt(clean.expected[enough])
    assert abs(pull.mean()) < 0.1
    assert 1.0 < pull.std() < 1.3
    assert not ((clean.counted == 0) & enough).any()  # no dead element
    assert pull.max() < 12  # no hot one


def test_counts_of_two_spills_vary_more_than_poisson(folder, clean):
    """The real chi2/ndf is 1.46 for all, 1.9 to 3.5 for H4Y, about 1 for the other hodoscopes (2.3, T13)."""
    other = simulate_spill(folder / "other.root", seed=6, n_events=N_EVENTS).counted
    total = clean.counted + other
    share = clean.counted.sum() / total.sum()
    with np.errstate(invalid="ignore"):
        chi2 = (clean.counted - share * total) ** 2 / (total * share * (1 - share))
    assert 1.3 < np.nanmean(chi2) < 1.7
    assert 1.3 < np.nanmean(chi2[41:47]) < 3.5
    assert 0.5 < np.nanmean(chi2[31:41]) < 1.4


def test_h4_bars_fire_twice(muon_hits):
    """Two photomultipliers of 95 % each."""
    for name, two in (("H4T", 0.95**2 / (1 - 0.05**2)), ("H2T", 0.0)):
        rows = select(muon_hits, name)
        _, number = np.unique(
            muon_hits["event"][rows] * 100 + muon_hits["elementID"][rows], return_counts=True
        )
        assert np.mean(number >= 2) == pytest.approx(two, abs=0.08)


# --- tracks


def test_efficiency_from_partner_planes(muons, muon_hits):
    """A hit of a single track in one layer of a pair asks for one of the nearest wires of the other."""
    tracks = pl.read_parquet(muons.tracks)
    event, position = muon_hits["event"], muon_hits["pos"]
    single = np.bincount(tracks["event"].to_numpy(), minlength=6000) == 1
    in_time = single[event] & ((muon_hits["flag"] & 2) > 0)
    for name in ("D0U", "D0X", "D2X", "D2V", "D3pX", "D3mU", "P1X1"):
        plane, partner = E1039.plane(name), E1039.plane(E1039.plane(name).partner)
        where = np.full(6000, np.nan)
        where[tracks["event"].to_numpy()] = _on_axis(tracks, partner)
        asked = (
            in_time & select(muon_hits, partner.name) & (np.abs(position - where[event]) < plane.pitch / 2)
        )
        asked &= np.abs(position) < 0.35 * plane.n_elements * plane.pitch  # off the edges
        asked_events = np.unique(event[asked])
        # layers are half a pitch apart in w and up to 7 cm in z: less than 1.5 pitches away
        near = in_time & select(muon_hits, name) & (np.abs(position - where[event]) < 1.5 * plane.pitch)
        found = np.isin(asked_events, event[near])
        assert found.size > 500
        gaps = 0.94 if plane.kind == "prop_tube" else 1.0  # (2 x 2.38 cm of 5.08 cm)
        true = plane_row(muons, name)["efficiency"] * gaps
        assert found.mean() == pytest.approx(true, abs=4 * np.sqrt(0.05 / found.size) + 0.01), name


def _on_axis(tracks, plane):
    """Return where tracks cross a plane on its measuring axis [cm]."""
    x, y = track_position(tracks, plane.z0)
    angle = plane.angle + plane.theta_z
    return x * np.cos(angle) + y * np.sin(angle)


def test_true_efficiency_and_drift_residuals(muons, muon_hits):
    tracks = pl.read_parquet(muons.tracks)
    assert tracks.height == muons.counts["tracks"]
    assert set(tracks["charge"].to_list()) == {-1, 1}
    assert 30 < tracks["momentum"].median() < 60
    for name, spread in (("D0X", 0.02), ("D0V", 0.02), ("D2U", 0.04), ("D3pXp", 0.03), ("P1X1", 0.06)):
        plane = E1039.plane(name)
        row = plane_row(muons, name)
        assert row["found"] / row["crossings"] == pytest.approx(row["efficiency"], abs=0.02)
        where = np.full(6000, np.nan)
        where[tracks["event"].to_numpy()] = _on_axis(tracks, plane)
        single = np.bincount(tracks["event"].to_numpy(), minlength=6000) == 1
        rows = select(muon_hits, name) & ((muon_hits["flag"] & 2) > 0) & single[muon_hits["event"]]
        distance = np.abs(where[muon_hits["event"][rows]] - muon_hits["pos"][rows])
        drift = muon_hits["driftDistance"][rows]
        # far from both ends of the cell, where a distance cannot be smeared beyond
        own = (distance < plane.drift_maximum - 3 * spread) & (distance > 3 * spread)
        residual = (drift - distance)[own]
        core = residual[np.abs(residual) < 5 * spread]
        assert core.size > 0.9 * residual.size > 500
        assert abs(core.mean()) < 0.15 * spread, name
        assert core.std() == pytest.approx(spread, rel=0.2), name


def test_tracks_are_straight_and_bent_once():
    track = {"x": [1.0], "y": [2.0], "z": [0.0], "slope_x": [0.01], "slope_y": [0.02], "bend": [0.005]}
    z = np.array([[600.0], [700.0], [1400.0], [2400.0], [1064.26]])
    x, y = track_position(track, z)
    np.testing.assert_allclose(y[:, 0], 2 + 0.02 * z[:, 0])
    assert (x[1] - x[0]) / 100 == pytest.approx(0.01)
    assert (x[3] - x[2]) / 1000 == pytest.approx(0.015)
    # both lines meet in the middle of the magnet
    assert x[2] - 0.015 * (1400 - 1064.26) == pytest.approx(1 + 0.01 * 1064.26)


# --- trigger


def halves(hits: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """NIM1 and NIM2 once more, hit by hit, from the words of the specification."""
    in_time = (hits["flag"] & 2) > 0
    n_events = hits["nfAllHits"].size

    def fired(names: tuple[str, ...], low: int = 1, high: int = 99) -> np.ndarray[Any, Any]:
        rows = in_time & np.isin(hits["detectorID"], [E1039.plane(name).detector_id for name in names])
        rows &= (hits["elementID"] >= low) & (hits["elementID"] <= high)
        return np.bincount(hits["event"][rows], minlength=n_events) > 0

    def four(limits: list[tuple[int, int]]) -> np.ndarray[Any, Any]:
        stations = ("H1", "H2", "H4Y1", "H4Y2")
        return np.all(
            [fired((f"{s}L", f"{s}R"), *cut) for s, cut in zip(stations, limits, strict=True)], axis=0
        )

    nim1 = four([(11, 20), (11, 19), (9, 16), (9, 16)]) | four([(1, 10), (1, 9), (1, 8), (1, 8)])
    nim2 = np.any([np.all([fired((f"H{n}{s}",)) for n in range(1, 5)], axis=0) for s in "TB"], axis=0)
    return {"NIM1": nim1, "NIM2": nim2, "NIM3": nim1 & nim2}


def test_trigger_bits_are_consistent_with_the_hodoscopes(muons, muon_hits):
    bits = decode_triggers(muon_hits["fTriggerBits"])
    assert dict(zip(TRIGGERS, bits.sum(axis=0).tolist(), strict=True)) == muons.triggers
    logic = halves(muon_hits)
    for name, satisfied in logic.items():
        own = bits[:, TRIGGERS.index(name)]
        assert 100 < own.sum() < satisfied.sum() < 5000
        assert not (own & ~satisfied).any(), name
    # a road needs all four X planes; two muons need two tracks
    for name in TRIGGERS[:5]:
        assert not (bits[:, TRIGGERS.index(name)] & ~logic["NIM2"]).any()
        assert bits[:, TRIGGERS.index(name)].sum() > 10
    assert 0 < (~bits.any(axis=1)).mean() < 0.01  # some words were lost
    assert bits[:, TRIGGERS.index("NIM5")].sum() == 0
    assert muons.triggers["FPGA4"] > 2 * muons.triggers["FPGA3"]


def test_roads_need_bars_in_line():
    readout = build_readout(E1039)
    trigger = Trigger(E1039, readout)

    def logic(**bars: int) -> list[str]:
        cells = np.array([E1039.plane(name).detector_id * N_ELEMENTS + bar for name, bar in bars.items()])
        hits = Hits(np.zeros(cells.size, dtype=int), cells, np.zeros(cells.size, dtype=int))
        fired = trigger.logic(hits, np.ones(cells.size, dtype=bool), 1)
        return [name for name, on in zip(TRIGGERS, fired[0], strict=True) if on]

    straight = {"H1T": 14, "H2T": 10, "H3T": 11, "H4T": 11}
    assert logic(**straight) == ["FPGA4", "NIM2"]
    assert logic(**{**straight, "H3T": 3}) == ["NIM2"]
    assert logic(H1T=14, H2T=10, H3T=11) == []
    assert logic(H1L=12, H2R=12, H4Y1L=10, H4Y2R=10) == ["NIM1"]
    assert logic(H1L=12, H2R=10, H4Y1L=10, H4Y2R=10) == []  # H2 element 10 belongs to neither half
    assert set(logic(**straight, H1L=12, H2R=12, H4Y1L=10, H4Y2R=10)) == {"FPGA4", "NIM1", "NIM2", "NIM3"}


# --- faults


def ratio(faulty: Truth, clean: Truth, name: str, elements: slice | list[int] | None = None) -> float:
    number = E1039.plane(name).detector_id
    if elements is None:  # (hits with impossible IDs are beyond)
        elements = slice(1, E1039.plane(name).n_elements + 1)
    return float(faulty.counted[number, elements].sum() / clean.counted[number, elements].sum())


def test_faults_show_in_the_counts(clean, faulty):
    assert plane_row(faulty, "D0Vp")["hits"] == 0 == plane_row(faulty, "D0Vp")["efficiency"]
    assert faulty.counted[16, 100] == 0 < clean.counted[16, 100]
    assert 30 < ratio(faulty, clean, "D0X", [74]) < 60
    assert ratio(faulty, clean, "D0X", [73, 75]) == pytest.approx(1)
    assert ratio(faulty, clean, "D3pXp") == pytest.approx(0.6, abs=0.02)
    assert ratio(faulty, clean, "P1X1", slice(17, 25)) == 0
    assert ratio(faulty, clean, "P1X1", slice(1, 17)) == pytest.approx(1)
    assert ratio(faulty, clean, "H1B", [3]) == pytest.approx(0.3, abs=0.05)
    assert ratio(faulty, clean, "D3mX") == pytest.approx(0.94 * 0.8 / 0.95 + 0.06, abs=0.02)
    assert plane_row(faulty, "D3mX")["efficiency"] == pytest.approx(0.8)
    assert ratio(faulty, clean, "D3mU", [20, 21, 22, 30]) == 0
    assert faulty.counts["bad_detector"] + faulty.counts["bad_element"] == pytest.approx(
        N_EVENTS / 2, rel=0.15
    )
    assert min(faulty.counts["bad_detector"], faulty.counts["bad_element"]) > 200
    for plane in faulty.planes:
        tolerance = 8 * np.sqrt(plane["expected_hits"]) + 5
        assert plane["hits"] == pytest.approx(plane["expected_hits"], abs=tolerance), plane["name"]


def test_faults_of_time_and_flag_show(clean, faulty, clean_hits, faulty_hits):
    for name in ("D2U", "H1L"):
        assert ratio(faulty, clean, name) == 1
        before, after = (h["tdcTime"][select(h, name)].astype(float) for h in (clean_hits, faulty_hits))
        np.testing.assert_allclose(after - before, 36, atol=1e-3)
        assert plane_row(faulty, name)["in_time"] < plane_row(clean, name)["in_time"]
    assert plane_row(faulty, "H1L")["in_time"] < 0.3 * plane_row(clean, "H1L")["in_time"]
    drift = [
        h["driftDistance"][select(h, "D2U") & ((h["flag"] & 2) > 0)].mean() for h in (clean_hits, faulty_hits)
    ]
    assert drift[1] < 0.85 * drift[0]
    assert ratio(faulty, clean, "H2T") == 1
    assert plane_row(faulty, "H2T")["in_time"] == 0 < plane_row(clean, "H2T")["in_time"]
    assert plane_row(faulty, "H2B") == plane_row(clean, "H2B")


def test_faults_leave_everything_else_alone(clean, faulty):
    touched = {fault.plane for fault in faulty.faults}
    for plane in clean.planes:
        if plane["name"] not in touched:
            number, n = plane["detector_id"], E1039.plane(plane["name"]).n_elements
            np.testing.assert_array_equal(faulty.counted[number, 1 : n + 1], clean.counted[number, 1 : n + 1])


def test_record_names_the_faults(faulty):
    record = json.loads(faulty.record.read_text())
    planted = {fault["text"]: fault for fault in record["faults"]}
    assert planted["hot:D0X:74=40"]["elements"] == [74]
    assert planted["block:P1X1:20"]["elements"] == list(range(17, 25))
    assert planted["dead:D0Vp"] == {
        "text": "dead:D0Vp",
        "kind": "dead",
        "plane": "D0Vp",
        "elements": [],
        "value": None,
    }
    assert planted["dead:D3mU:20-22,30"]["elements"] == [20, 21, 22, 30]
    assert len(planted) == len(EVERY_FAULT)


def test_whole_file_without_flag(folder):
    truth = simulate_spill(folder / "no_flag.root", n_events=50, faults=["flag"], mean_hits=200)
    assert truth.counts["in_time"] == 0
    assert truth.triggers["NIM3"] > 0  # the hits are there


@pytest.mark.parametrize("text", ["dead:D2X:40-42,50", "hot:D0X:74=40", "flag", "ids=0.25", "shift:D2U=-36"])
def test_texts_of_faults_can_be_read_back(text):
    assert str(parse_fault(text)) == text
    assert parse_fault(str(parse_fault(text))) == parse_fault(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dead", "needs a plane"),
        ("deed:D0X", "kind"),
        ("hot:D0X", "needs elements"),
        ("shift:D0X:5", "has no elements"),
        ("rate:D0X=1.5", "between 0 and 1"),
        ("dead:D0X=3", "has no value"),
        ("dead D0X", "is not written"),
        ("dead:D0X:-5", "is missing"),
        ("hot:D0X:74=abc", "is not written"),
        ("rate:D0X=1e", "value"),
        ("dead:D0Y", "unknown plane 'D0Y'"),
        ("dead:D1X", "unknown plane 'D1X'"),
        ("dead:D0X:161", "elements 1 to 160, not 161"),
    ],
)
def test_wrong_faults_are_refused(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        simulate_spill(tmp_path / "x.root", n_events=1, faults=[text])
    assert not list(tmp_path.iterdir())


def test_faults_from_a_file(tmp_path):
    path = tmp_path / "faults.toml"
    path.write_text(
        'faults = ["dead:D0Vp", {kind = "hot", plane = "D0X", elements = [74], value = 30.0}]\n', "utf-8"
    )
    assert load_faults(path) == (
        Fault(kind="dead", plane="D0Vp"),
        Fault(kind="hot", plane="D0X", elements=(74,), value=30),
    )
    path.write_text("fault = []\n", "utf-8")
    with pytest.raises(ConfigError, match="unknown key 'fault'"):
        load_faults(path)
    path.write_text('faults = "dead:D0X"\n', "utf-8")
    with pytest.raises(ConfigError, match="must be a list"):
        load_faults(path)


# --- files


def read(path: Path, chunk_events: int | None = None) -> list[Any]:
    source, channels = RootHits(), channel_map(E1039)
    n_events = source.describe(path).n_events
    columns = {
        "hits": tuple(column.name for column in HITS.columns),
        "events": ("n_hits", "run_id", "spill_id", *TRIGGERS),
        "header": ("n_hits",),
    }
    return list(source.read(Span(str(path), 0, 0, n_events), columns, channels, chunk_events=chunk_events))


def test_our_reader_reads_it(clean, faulty):
    source = RootHits()
    assert source.sniff(clean.path)
    description = source.describe(clean.path)
    assert description.kind == "SRAW"
    assert description.n_events == N_EVENTS
    assert description.facts["n_planes"] == 62
    assert description.facts["has_in_time"]
    assert description.facts["has_trigger"]
    for truth in (clean, faulty):
        chunks = read(truth.path)
        assert len(chunks) > 1
        hits = pl.concat([chunk.table("hits").frame for chunk in chunks])
        events = pl.concat([chunk.table("events").frame for chunk in chunks])
        header = np.concatenate([chunk.block("header").values for chunk in chunks])
        np.testing.assert_array_equal(header[:, 0], events["n_hits"])
        assert header[:, 0].sum() == truth.counts["hits"] == hits.height
        valid = hits.filter(pl.col("status") == 0)
        assert (hits["status"] == 1).sum() == truth.counts["bad_detector"]
        assert (hits["status"] == 2).sum() == truth.counts["bad_element"]
        assert valid["channel"].is_in([-1]).sum() == 0
        per_plane = np.bincount(hits["detector_id"], minlength=63)
        np.testing.assert_array_equal(header.sum(axis=0)[1:], per_plane[1:])
        assert hits["in_time"].sum() == truth.counts["in_time"]
        assert {name: int(events[name].sum()) for name in TRIGGERS} == truth.triggers
        assert events["run_id"].unique().to_list() == [1]


def test_e906_layout_and_other_tables(folder):
    truth = simulate_spill(folder / "e906.root", n_events=40, mean_hits=300, geometry="E906")
    description = RootHits().describe(truth.path)
    assert (description.kind, description.facts["n_planes"]) == ("SRAW (E906)", 54)
    assert truth.counted.shape[0] == 55
    original = simulate_spill(folder / "original.root", n_events=40, mean_hits=300, geometry="original")
    assert original.counts["hits"] > 1000


def test_same_seed_same_numbers_however_it_is_written(folder):
    options = {"n_events": 600, "mean_hits": 120.0, "n_tracks": 1.0, "faults": ["hot:D0X:74=40", "ids=0.1"]}
    first = simulate_spill(folder / "first.root", seed=9, **options)
    again = simulate_spill(folder / "again.root", seed=9, hits_per_basket=1, compression=4, **options)
    other = simulate_spill(folder / "another.root", seed=10, **options)
    one, two, three = (arrays_of(truth.path) for truth in (first, again, other))
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name
    assert one["elementID"].tobytes() != three["elementID"].tobytes()
    np.testing.assert_array_equal(first.counted, again.counted)
    by_chunk = [
        pl.concat([chunk.table("hits").frame.select("channel", "tdc_time") for chunk in read(first.path, n)])
        for n in (1000, 77)
    ]
    assert by_chunk[0].equals(by_chunk[1])


def test_global_random_state_is_not_used(folder):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate_spill(folder / "state.root", n_events=10, mean_hits=100)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_nothing_is_left_when_it_fails(tmp_path, monkeypatch):
    from firstlight.detectors.spinquest import simulate as module

    genuine: Callable[..., Any] = module._block

    def broken(model: Any, index: int) -> Any:
        if index:
            raise RuntimeError("stopped")
        return genuine(model, index)

    monkeypatch.setattr(module, "_block", broken)
    with pytest.raises(RuntimeError, match="stopped"):
        simulate_spill(tmp_path / "x.root", n_events=600, mean_hits=100)
    assert not list(tmp_path.iterdir())


def test_demo_has_lasting_faults_and_new_ones_in_the_last_spill(tmp_path):
    paths = simulate(tmp_path, n_spills=4, n_events=60, mean_hits=300.0)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"run_000001/run_000001_spill_{n:09d}_sraw.root" for n in (1, 2, 3, 4)
    ]
    found = RootHits().describe(paths[2])
    assert found.conditions == {"run": 1, "spill": 3}
    records = [json.loads(path.with_name(f"{path.stem}_truth.json").read_text()) for path in paths]
    assert [len(record["faults"]) for record in records] == [3, 3, 3, 5]
    assert len({record["seed"] for record in records}) == 4
    assert [next(p for p in r["planes"] if p["name"] == "D0Vp")["hits"] for r in records] == [0, 0, 0, 0]
    again = simulate(tmp_path / "again", n_spills=4, n_events=60, mean_hits=300.0)
    assert arrays_of(paths[3])["tdcTime"].tobytes() == arrays_of(again[3])["tdcTime"].tobytes()


def test_sets_of_faults(tmp_path):
    small = {"n_spills": 1, "n_events": 5, "mean_hits": 100.0}
    path = tmp_path / "f.toml"
    path.write_text('faults = ["flag"]\n', "utf-8")
    for faults, number in (("none", 0), (path, 1), (["flag", "ids=1"], 2), ("demo", 5), ("standard", 5)):
        (spill,) = simulate(tmp_path / f"{number}-{faults == 'demo'}", faults=faults, **small)
        assert len(json.loads(spill.with_name(f"{spill.stem}_truth.json").read_text())["faults"]) == number
    with pytest.raises(ConfigError, match="unknown set of faults 'demmo'"):
        simulate(tmp_path, faults="demmo", **small)
    with pytest.raises(UsageError, match="at least one spill"):
        simulate(tmp_path, n_spills=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_events": 0}, "n_events = 0"),
        ({"mean_hits": -1.0}, "mean_hits = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"compression": 0}, "compression = 0"),
        ({"mean_hits": 20.0, "n_tracks": 2.0}, "tracks alone give"),
        ({"geometry": "E1040"}, "E1040"),
    ],
)
def test_impossible_parameters_are_refused(options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        simulate_spill(tmp_path / "x.root", **{"n_events": 1, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_long_files_are_streamed(folder):
    truth = simulate_spill(folder / "long.root", n_events=100_000, mean_hits=300)
    assert truth.counts["hits"] == pytest.approx(30e6, rel=0.02)
