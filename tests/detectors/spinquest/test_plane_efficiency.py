"""Efficiencies of planes: tracks and noise with known truth, simulated muons, and files without tracks."""

from __future__ import annotations

import dataclasses
import os
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firstlight.data.schema import Chunk, Span, Table
from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.efficiency import (
    STATES,
    EfficiencyParameters,
    Probes,
    efficiency,
    measure,
)
from firstlight.detectors.spinquest.geometry import element_position, load_geometry
from firstlight.detectors.spinquest.options import Options
from firstlight.detectors.spinquest.source import EVENTS, HITS, SOURCES
from firstlight.steps.step import Context

if TYPE_CHECKING:
    import polars as pl

REPOSITORY = Path(__file__).parents[3]
DATA = Path(os.environ.get("FIRSTLIGHT_DATA", REPOSITORY.parent / "shared" / "data")) / "spinquest"
MUONS = DATA / "mc_rus" / "MUM_Dump_10K.root"
SYNTHETIC = DATA / "synthetic_sraw" / "synth_sraw_e1039.root"

GEOMETRY = load_geometry("E1039")
CHANNELS = channel_map(GEOMETRY)
CONTEXT = Context(CHANNELS, Options())
FIRST = {int(d): int(c) for c, d in enumerate(CHANNELS.column("detector_id").tolist()[::-1])}
FIRST = {d: len(CHANNELS) - 1 - c for d, c in FIRST.items()}  # first channel of each detector ID
TRUTH = {"D0X": 0.95, "D2U": 0.80, "D3pV": 1.0, "D3mXp": 0.95, "P1X2": 0.80, "H3T": 0.90, "H2L": 0.85}
MEASURED = [plane for plane, kind in GEOMETRY.planes.select("name", "kind").rows() if kind != "dark_photon"]
MEASURED = [name for name in MEASURED if not name.startswith("D1")]


def simulate(
    n_events: int, seed: int, noise: float = 0.03, tracks: bool = True, truth: dict[str, float] | None = None
) -> Chunk:
    """One straight track an event through all planes, and noise: each element fires with a fixed probability."""
    generator = np.random.default_rng(seed)
    truth = TRUTH if truth is None else truth
    slopes = generator.uniform(-1, 1, (2, n_events)) * [[0.045], [0.05]]
    origin = generator.normal(0, 1.0, (2, n_events))
    events, channels = [], []
    for name in MEASURED:
        plane = GEOMETRY.plane(name)
        size, first = plane.n_elements, FIRST[plane.detector_id]
        if tracks:
            x, y = origin + slopes * plane.z0
            angle = plane.angle + plane.theta_z
            place = x * np.cos(angle) + y * np.sin(angle)
            wires = element_position(GEOMETRY, plane.detector_id, np.arange(1, size + 1))
            element = np.rint((place - wires[0]) / plane.pitch).astype(int)
            inside = (element >= 0) & (element < size)
            if plane.kind == "hodoscope":
                # two halves without a gap between them
                inside &= (y * plane.y0 > 0) if plane.view == "X" else (x * plane.x0 > 0)
            else:
                inside &= (np.abs(x - plane.x0) < plane.width / 2) & (np.abs(y - plane.y0) < plane.height / 2)
            rows = np.flatnonzero(inside & (generator.random(n_events) < truth.get(name, 0.97)))
            events.append(rows)
            channels.append(first + element[rows])
        event, element = np.nonzero(generator.random((n_events, size)) < noise)
        events.append(event)
        channels.append(first + element)
    return chunk_of(np.concatenate(events), np.concatenate(channels), n_events)


def chunk_of(
    event: np.ndarray, channel: np.ndarray, n_events: int, facts: dict[str, Any] | None = None
) -> Chunk:
    order = np.argsort(event, kind="stable")
    event, channel = event[order], channel[order]
    hits = {"event": event, "channel": channel, "in_time": np.full(event.size, -1)}
    parts = {
        "hits": Table.from_arrays(HITS, hits),
        "events": Table.from_arrays(EVENTS, {"n_hits": np.bincount(event, minlength=n_events)}),
    }
    return Chunk(Span("toy", 0, 0, n_events), parts, facts or {"has_in_time": False})


def planes_of(partial: Probes, parameters: EfficiencyParameters | None = None) -> pl.DataFrame:
    return efficiency.finish(partial, parameters or EfficiencyParameters(), CONTEXT)["planes"].frame


def measured(chunk: Chunk, parameters: EfficiencyParameters | None = None) -> pl.DataFrame:
    parameters = parameters or EfficiencyParameters()
    return planes_of(measure(chunk, parameters, CONTEXT), parameters)


def of_file(path: Path, chunk_events: int | None = None) -> Probes:
    found = SOURCES[0].describe(path)
    chunks = SOURCES[0].read(
        Span(str(path), 0, 0, found.n_events), efficiency.needs(EfficiencyParameters()), CHANNELS, chunk_events=chunk_events
    )  # fmt: skip
    parameters = EfficiencyParameters()
    return reduce(efficiency.merge, (measure(chunk, parameters, CONTEXT) for chunk in chunks))


@pytest.fixture(scope="module", params=[0.01, 0.03])
def noisy(request: pytest.FixtureRequest) -> tuple[float, Probes]:
    return request.param, measure(
        simulate(6000, seed=1, noise=request.param), EfficiencyParameters(), CONTEXT
    )


def test_known_efficiencies_come_back_in_noise(noisy: tuple[float, Probes]) -> None:
    noise, partial = noisy
    rows = {row["plane"]: row for row in planes_of(partial).iter_rows(named=True)}
    pulls = []
    for name in MEASURED:
        row, truth = rows[name], TRUTH.get(name, 0.97)
        assert row["state"] == "ok", row
        statistical = max((row["high"] - row["low"]) / 2, 1e-4)
        assert abs(row["efficiency"] - truth) < 4 * statistical + 1.5 * row["systematic"] + 5e-4, row
        # the systematic part is small where there is little noise
        assert row["systematic"] < (0.012 if noise < 0.02 else 0.08), row
        pulls.append((row["efficiency"] - truth) / np.hypot(statistical, row["systematic"]))
    assert abs(np.median(pulls)) < 0.6
    assert np.std(pulls) < 1.5


def test_accidentals_are_known(noisy: tuple[float, Probes]) -> None:
    noise, partial = noisy
    row = planes_of(partial).row(by_predicate=_plane("D0X"), named=True)
    # two wires in reach, each silent with probability 1 - noise
    assert row["accidental"] == pytest.approx(1 - (1 - noise) ** 2, rel=0.15)


def _plane(name: str) -> Any:
    import polars as pl

    return pl.col("plane") == name


def test_the_interval_covers_the_truth() -> None:
    parameters = EfficiencyParameters(max_hits=40)
    names = ["D0X", "D2U", "D3mXp", "P1X2"]
    covered = dict.fromkeys(names, 0)
    values = {name: [] for name in names}
    n_toys = 220
    for seed in range(n_toys):
        frame = measured(simulate(250, seed=1000 + seed, noise=0.01), parameters)
        for name in names:
            row = frame.row(by_predicate=_plane(name), named=True)
            assert row["state"] == "ok", row
            values[name].append(row["efficiency"])
            covered[name] += row["low"] <= TRUTH[name] <= row["high"]
    for name in names:
        mean, error = np.mean(values[name]), np.std(values[name]) / np.sqrt(n_toys)
        print(name, covered[name] / n_toys, mean, error)
        assert 0.60 < covered[name] / n_toys < 0.86, (name, covered[name] / n_toys)
        assert abs(mean - TRUTH[name]) < 4 * error + 2e-3, (name, mean, error)


def test_a_dead_plane_and_a_dead_wire_are_found() -> None:
    truth = {**TRUTH, "D0Vp": 0.0}
    chunk = simulate(5000, seed=3, noise=0.005, truth=truth)
    hits = chunk.table("hits")
    dead = FIRST[GEOMETRY.plane("D3pX").detector_id] + 60
    vp = FIRST[GEOMETRY.plane("D0Vp").detector_id]
    channel = hits.array("channel")
    keep = (channel != dead) & ~((channel >= vp) & (channel < vp + 201))
    chunk = chunk_of(hits.array("event")[keep], channel[keep], 5000)
    products = efficiency.finish(
        measure(chunk, EfficiencyParameters(), CONTEXT), EfficiencyParameters(), CONTEXT
    )
    row = products["planes"].frame.row(by_predicate=_plane("D0Vp"), named=True)
    assert row["state"] == "ok"
    assert row["efficiency"] == pytest.approx(0, abs=1e-6)
    # without D0Vp the other planes of the chamber are confirmed by single hits
    row = products["planes"].frame.row(by_predicate=_plane("D0X"), named=True)
    assert row["state"] == "ok"
    assert row["confirmation"] == "confirmed by hits"
    assert abs(row["efficiency"] - 0.95) < 4 * (row["high"] - row["low"])
    elements = products["elements"].frame
    silent = elements.filter(elements["state"] == "silent")
    assert dead in silent["channel"].to_list()
    assert set(silent["plane"]) == {"D3pX"}
    zero = elements.filter((elements["plane"] == "D0Vp") & (elements["state"] == "ok"))
    assert zero.height > 20
    assert zero["efficiency"].max() == 0
    one = elements.row(dead_row(elements, dead), named=True)
    assert 0.2 < one["efficiency"] < 0.8
    assert one["share"] == 0


def dead_row(frame: pl.DataFrame, channel: int) -> int:
    return frame["channel"].to_list().index(channel)


def test_noise_alone_has_no_tracks() -> None:
    frame = measured(simulate(3000, seed=5, noise=0.03, tracks=False))
    states = dict(frame.select("plane", "state").rows())
    assert {states[name] for name in MEASURED} <= {"no tracks", "no statistics"}
    assert states["D0X"] == "no tracks"
    assert frame["efficiency"].null_count() == frame.height
    rule = frame.row(by_predicate=_plane("D0X"), named=True)["rule"]
    assert rule.startswith("no tracks in this file: hits of D0Xp and D0X are uncorrelated")


def test_hot_wires_make_no_efficiency() -> None:
    # the plane is silent but for one wire that always fires, in a file without tracks
    chunk = simulate(4000, seed=6, noise=0.02, tracks=False)
    hits = chunk.table("hits")
    hot = FIRST[GEOMETRY.plane("D0X").detector_id] + 73
    event = np.concatenate([hits.array("event"), np.arange(4000)])
    channel = np.concatenate([hits.array("channel"), np.full(4000, hot)])
    frame = measured(chunk_of(event, channel, 4000))
    assert set(frame.filter(frame["plane"].is_in(["D0X", "D0Xp"]))["state"]) == {"no tracks"}


def test_planes_without_a_method_say_so() -> None:
    frame = measured(simulate(300, seed=8))
    row = frame.row(by_predicate=_plane("DP1TL"), named=True)
    assert row["state"] == "no statistics"
    assert "no method" in row["rule"]
    assert set(frame["state"]) <= set(STATES)


def test_mirror_planes_of_hodoscopes_are_no_probes(noisy: tuple[float, Probes]) -> None:
    for row in planes_of(noisy[1]).iter_rows(named=True):
        if row["plane"].startswith("H"):
            assert row["method"] == "n-1"
            assert {name[-1] for name in row["probe"].split("+")} == {row["plane"][-1]}
            assert row["plane"] not in row["probe"].split("+")
            assert len(row["probe"].split("+")) == 3


def test_an_empty_flag_is_named() -> None:
    chunk = simulate(200, seed=9)
    hits = chunk.table("hits")
    frame = hits.frame.with_columns(in_time=np.zeros(len(hits), dtype=np.int8))
    unfilled = Chunk(chunk.span, {**chunk.parts, "hits": Table(frame, HITS)}, {"has_in_time": True})
    result = measured(unfilled)
    assert "in-time flag is not filled" in result.row(by_predicate=_plane("D0X"), named=True)["rule"]
    everything = measured(unfilled, EfficiencyParameters(in_time=False))
    assert everything.row(by_predicate=_plane("D0X"), named=True)["state"] == "ok"


def test_single_probes_only() -> None:
    clean = measured(simulate(4000, seed=10, noise=0.002), EfficiencyParameters(single=True))
    row = clean.row(by_predicate=_plane("D2U"), named=True)
    assert row["state"] == "ok"
    assert abs(row["efficiency"] - 0.8) < 4 * (row["high"] - row["low"])


@pytest.mark.parametrize("chunk_events", [1, 7, 100])
def test_chunks_make_no_difference(chunk_events: int) -> None:
    n_events = 300
    chunk = simulate(n_events, seed=12)
    parameters = EfficiencyParameters()
    whole = measure(chunk, parameters, CONTEXT)
    event, channel = chunk.table("hits").array("event"), chunk.table("hits").array("channel")
    parts = []
    for start in range(0, n_events, chunk_events):
        stop = min(start + chunk_events, n_events)
        rows = (event >= start) & (event < stop)
        parts.append(measure(chunk_of(event[rows] - start, channel[rows], stop - start), parameters, CONTEXT))
    total = reduce(efficiency.merge, parts)
    for field in dataclasses.fields(Probes):
        assert np.array_equal(getattr(whole, field.name), getattr(total, field.name)), field.name


def test_no_events_at_all() -> None:
    empty = chunk_of(np.empty(0, dtype=int), np.empty(0, dtype=int), 0)
    products = efficiency.finish(
        measure(empty, EfficiencyParameters(), CONTEXT), EfficiencyParameters(), CONTEXT
    )
    assert set(products["planes"].frame["state"]) == {"no statistics"}
    assert len(products["elements"]) == 0


def test_products_keep_their_promises(noisy: tuple[float, Probes]) -> None:
    products = efficiency.finish(noisy[1], EfficiencyParameters(), CONTEXT)
    for table in products.values():
        table.schema.validate(table.frame)
    assert products["planes"].frame.height == len(CHANNELS.group_names)


@pytest.mark.skipif(not MUONS.is_file(), reason=f"no {MUONS.name}; set FIRSTLIGHT_DATA")
def test_simulated_muons_are_seen_by_every_plane() -> None:
    partial = of_file(MUONS)
    frame = planes_of(partial)
    seen = frame.filter(frame["plane"].is_in(MEASURED))
    assert set(seen["state"]) == {"ok"}
    assert seen["efficiency"].min() > 0.999
    assert seen["n_probes"].min() > 3000
    # D1 is not in this simulation
    assert set(frame.filter(frame["plane"].str.starts_with("D1"))["state"]) == {"no statistics"}
    other = of_file(MUONS, chunk_events=777)
    assert np.array_equal(partial.sums, other.sums)
    assert np.array_equal(partial.own, other.own)


@pytest.mark.skipif(not SYNTHETIC.is_file(), reason=f"no {SYNTHETIC.name}; set FIRSTLIGHT_DATA")
@pytest.mark.parametrize("in_time", [True, False])
def test_drawn_occupancies_have_no_tracks(in_time: bool) -> None:
    found = SOURCES[0].describe(SYNTHETIC)
    parameters = EfficiencyParameters(in_time=in_time)
    chunks = SOURCES[0].read(
        Span(str(SYNTHETIC), 0, 0, found.n_events), efficiency.needs(parameters), CHANNELS
    )
    frame = planes_of(reduce(efficiency.merge, (measure(c, parameters, CONTEXT) for c in chunks)), parameters)
    assert set(frame["state"]) == {"no tracks", "no statistics"}
    assert frame["efficiency"].null_count() == frame.height
    assert frame.filter(frame["state"] == "no tracks").height > 30
