"""Simulated SpinQuest spills with known truth, written as flat SRAW files.

Muons fly straight from the dump or the target, are bent once in x by the second magnet, and leave hits where
they cross elements; background comes from `noise`; trigger bits follow from the hodoscope hits. The file is
read like one of the experiment. It is synthetic: names and run numbers say so, and the truth stands beside.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.detectors.spinquest.simulation.muons import (
    MUONS,
    Hits,
    Tracks,
    Trigger,
    cross,
    draw_tracks,
    track_position,
    track_times,
)
from firstlight.detectors.spinquest.simulation.noise import (
    CONSTANTS,
    N_DETECTORS,
    N_ELEMENTS,
    N_TICKS,
    TICK,
    Noise,
    Readout,
    build_noise,
    build_readout,
    copies,
    draw_background,
    saturated,
)
from firstlight.detectors.spinquest.simulation.truth import (
    Effects,
    Fault,
    Truth,
    as_faults,
    default_faults,
    effects_of,
    load_faults,
    planted,
)
from firstlight.errors import ConfigError, UsageError
from firstlight.files import atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from firstlight.detectors.spinquest.geometry import Geometry

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["Fault", "Truth", "default_faults", "load_faults", "simulate", "simulate_spill", "track_position"]

BLOCK = 256  # events that share a stream of random numbers; part of what a seed means
_HITS_PER_BASKET = 400_000
_PILOT = 4000  # tracks that show how many hits a track gives

# Fraction of the events that satisfy the logic and in which the bit is set, as after a prescaler.
ACCEPTED = dict(zip(TRIGGERS, (0.35, 0.12, 0.12, 0.2, 0.25, 0.1, 0.1, 0.4, 0.03, 0.0), strict=True))
_LOST_TRIGGER = 0.004  # events whose trigger word was not read


class _Block(NamedTuple):
    header: dict[str, NDArray[Any]]
    n_hits: IntArray
    hits: dict[str, NDArray[Any]]
    tracks: Tracks
    crossings: IntArray
    found: IntArray
    counted: IntArray
    in_time: IntArray
    n_seeds: int
    triggers: IntArray


@dataclass(frozen=True)
class _Model:
    """All that is fixed during a spill."""

    geometry: Geometry
    readout: Readout
    noise: Noise
    effects: Effects
    trigger: Trigger
    seed: int
    run_id: int
    spill_id: int
    n_events: int
    n_tracks: float
    largest_id: int


def _thin(
    rng: np.random.Generator, keep: FloatArray, cell: IntArray, *columns: IntArray
) -> tuple[IntArray, ...]:
    """Return the hits that faults leave; fault-free elements use no random numbers."""
    share = keep[cell]
    survive = np.ones(cell.size, dtype=bool)
    affected = np.flatnonzero(share < 1.0)
    survive[affected] = rng.random(affected.size) < share[affected]
    return cell[survive], *(column[survive] for column in columns)


def _extra_hits(rng: np.random.Generator, model: _Model, n_events: int) -> Hits:
    """Return hits of hot elements, and hits whose IDs do not exist."""
    readout, effects = model.readout, model.effects
    rate = effects.hot[readout.cell] * model.noise.normal_rate
    hot = np.flatnonzero(rate)
    number = rng.poisson(rate[hot], (n_events, hot.size))
    event = np.repeat(np.repeat(np.arange(n_events), hot.size), number.ravel())
    channel = np.repeat(np.tile(hot, n_events), number.ravel())
    first, last = readout.histogram[readout.row[channel]].T
    event_bad = np.repeat(np.arange(n_events), rng.poisson(effects.bad_ids, n_events))
    row = rng.integers(0, len(readout.planes), event_bad.size)
    true_size = np.array([plane.n_elements for plane in readout.planes])[row]
    no_detector = rng.random(event_bad.size) < 0.5
    beyond = readout.detector[row] * N_ELEMENTS + true_size + rng.integers(1, 11, event_bad.size)
    cell = np.where(no_detector, rng.integers(1, 201, event_bad.size), beyond)
    count = np.concatenate([rng.uniform(first, last), rng.uniform(*readout.histogram[row].T)])
    return Hits(
        np.concatenate([event, event_bad]),
        np.concatenate([readout.cell[channel], cell]),
        np.rint(count).astype(np.int64),
    )


def _block(model: _Model, index: int) -> _Block:
    """Return one block of events; depends on the model and the index alone."""
    n_events = min(BLOCK, model.n_events - index * BLOCK)
    rng, fault_rng, header_rng = (
        np.random.default_rng(np.random.SeedSequence(model.seed, spawn_key=(index, stream)))
        for stream in range(3)
    )
    readout, effects, noise = model.readout, model.effects, model.noise
    quiet = rng.random(n_events) < CONSTANTS["quiet_fraction"]
    n_seeds = rng.poisson(noise.mean_seeds * saturated(rng.standard_normal(n_events)))
    n_quiet = rng.geometric(1 / (1 + noise.quiet_seeds), n_events) - 1
    n_seeds = np.where(quiet, n_quiet, n_seeds)
    per_event = rng.poisson(model.n_tracks / (1 - CONSTANTS["quiet_fraction"]), n_events)
    tracks = draw_tracks(rng, np.where(quiet, 0, per_event))

    track, channel, distance = cross(model.geometry, readout, tracks)
    crossings = np.bincount(channel, minlength=readout.row.size)
    time = track_times(rng, readout, channel, distance)
    of_track, channel, time = copies(rng, readout, track, channel, time, certain=False)
    particles, bursts = draw_background(rng, readout, noise, n_seeds)

    whole = effects.keep * effects.keep_particles
    cell, of_track, time = _thin(fault_rng, whole, readout.cell[channel], of_track, time)
    row_of_detector = np.full(N_DETECTORS, -1)
    row_of_detector[readout.detector] = np.arange(readout.detector.size)
    seen = np.unique(of_track * N_DETECTORS + row_of_detector[cell // N_ELEMENTS]) % N_DETECTORS
    parts = [Hits(tracks.event[of_track], cell, time)]
    for (event, channel, time), keep in ((particles, whole), (bursts, effects.keep)):
        cell, event, time = _thin(fault_rng, keep, readout.cell[channel], event, time)
        parts.append(Hits(event, cell, time))
    parts.append(_extra_hits(fault_rng, model, n_events))
    event, cell, count = (np.concatenate(column) for column in zip(*parts, strict=True))
    shift = effects.shift[cell // N_ELEMENTS]
    count = np.clip(np.clip(count, 1, N_TICKS - 1) + shift, 1, N_TICKS - 1)

    # one number holds the whole hit and sorts as the writer of the experiment does: by event, detector,
    # element, descending time
    packed = np.sort((event * (N_DETECTORS * N_ELEMENTS) + cell) * N_TICKS + (N_TICKS - 1 - count))
    place, count = packed // N_TICKS, N_TICKS - 1 - packed % N_TICKS
    event, cell = place // (N_DETECTORS * N_ELEMENTS), place % (N_DETECTORS * N_ELEMENTS)
    detector = cell // N_ELEMENTS
    in_time = (count >= readout.low[cell]) & (count <= readout.high[cell])
    logic = model.trigger.logic(Hits(event, cell, count), in_time, n_events)
    fired = _accepted(header_rng, logic)
    in_time &= effects.flagged[detector]
    n_hits = np.bincount(event, minlength=n_events)
    hits: dict[str, NDArray[Any]] = {
        "index": (np.arange(event.size) - (np.cumsum(n_hits) - n_hits)[event]).astype(np.int32),
        "detectorID": detector.astype(np.int16),
        "elementID": (cell % N_ELEMENTS).astype(np.int16),
        "tdcTime": (count * TICK).astype(np.float32),
        "driftDistance": readout.distance_of_count[detector, count],
        "pos": readout.position[cell],
        "flag": np.where(in_time, 2, 0).astype(np.uint16),
    }
    largest = model.largest_id
    of_plane = np.bincount(event * N_DETECTORS + detector, minlength=n_events * N_DETECTORS)
    of_plane = of_plane.reshape(n_events, N_DETECTORS)[:, : largest + 1]
    of_plane[:, 0] = n_hits  # all, with those of no plane
    header = _header(header_rng, model, index, n_seeds)
    header["fTriggerBits"] = (fired.astype(np.int64) << np.arange(len(TRIGGERS))).sum(axis=1).astype(np.int32)
    header["fNHits"] = of_plane.astype(np.int32)
    size = N_DETECTORS * N_ELEMENTS
    return _Block(
        header,
        n_hits,
        hits,
        tracks,
        crossings,
        np.bincount(seen, minlength=len(readout.planes)),
        np.bincount(cell, minlength=size),
        np.bincount(detector[in_time], minlength=N_DETECTORS),
        int(n_seeds.sum()),
        fired.sum(axis=0),
    )


def _accepted(rng: np.random.Generator, logic: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the trigger bits: some of those whose logic is satisfied; NIM4 where there are none."""
    fired = logic & (rng.random(logic.shape) < list(ACCEPTED.values()))
    nim4 = TRIGGERS.index("NIM4")
    fired[:, nim4] = rng.random(len(logic)) < ACCEPTED["NIM4"]
    # something must have started the read-out: the first logic that was satisfied, or the random trigger
    idle = np.flatnonzero(~fired.any(axis=1))
    fired[idle, np.where(logic.any(axis=1), logic.argmax(axis=1), nim4)[idle]] = True
    fired[rng.random(len(logic)) < _LOST_TRIGGER] = False
    return np.asarray(fired)


def _header(
    rng: np.random.Generator, model: _Model, index: int, n_seeds: IntArray
) -> dict[str, NDArray[Any]]:
    size = n_seeds.size
    number = index * BLOCK + np.arange(size)
    intensity = rng.gamma(1.0, 1000.0, (size, 33))
    intensity[:, 16] = n_seeds * rng.normal(12.0, 2.0, size) + 50  # the bucket of the event
    columns = {
        "fRunID": np.full(size, model.run_id),
        "fEventID": number,
        "fSpillID": np.full(size, model.spill_id),
        "fTargetPos": np.full(size, 1, dtype=np.int16),
        "fTurnID": 1 + number * 368_999 // model.n_events,
        "fRFID": rng.integers(1, 589, size),
        "fIntensity": np.maximum(intensity, 0),
    }
    return {name: v if v.dtype == np.int16 else v.astype(np.int32) for name, v in columns.items()}


class _Writer:
    """Collects blocks and writes them to a tree, some 400,000 hits at a time."""

    def __init__(self, directory: Any) -> None:
        self.directory = directory
        self.tree: Any = None
        self.waiting: list[_Block] = []

    def add(self, block: _Block, hits_per_basket: int) -> None:
        self.waiting.append(block)
        if sum(int(part.n_hits.sum()) for part in self.waiting) >= hits_per_basket:
            self.flush()

    def flush(self) -> None:
        import awkward as ak

        if not self.waiting:
            return
        parts, self.waiting = self.waiting, []
        arrays: dict[str, Any] = {
            name: np.concatenate([part.header[name] for part in parts]) for name in parts[0].header
        }
        counts = np.concatenate([part.n_hits for part in parts])
        names = list(parts[0].hits)
        hits = {name: np.concatenate([part.hits[name] for part in parts]) for name in names}
        arrays["fAllHits"] = ak.unflatten(ak.zip(hits), counts)
        if self.tree is None:
            types: dict[str, Any] = {
                name: np.dtype((array.dtype, array.shape[1:]))
                for name, array in arrays.items()
                if name != "fAllHits"
            }
            types["fAllHits"] = ak.type(arrays["fAllHits"]).content
            self.tree = self.directory.mktree(
                "save",
                types,
                title="simulated by firstlight",
                field_name=lambda outer, inner: f"{outer}.{inner}",
            )
        self.tree.extend(arrays)


@contextmanager
def _root_file(path: Path, level: int) -> Iterator[_Writer]:
    import uproot

    with atomic(path) as temporary, uproot.recreate(temporary, compression=uproot.ZLIB(level)) as directory:
        writer = _Writer(directory)
        yield writer
        writer.flush()


def simulate_spill(
    path: Path | str,
    *,
    seed: int = 1,
    n_events: int = 3716,
    faults: Iterable[Fault | str | Mapping[str, Any]] = (),
    mean_hits: float = 1089.0,
    n_tracks: float = 2.0,
    geometry: str | Path = "E1039",
    run_id: int = 1,
    spill_id: int = 1,
    compression: int = 1,
    write_tracks: bool = False,
    hits_per_basket: int = _HITS_PER_BASKET,
) -> Truth:
    """Write a simulated spill as a flat SRAW file, and the truth beside it.

    Parameters
    ----------
    path : Path or str
        The ROOT file; ``<name>_truth.json`` (and ``<name>_tracks.parquet``) stand beside it.
    seed : int
        With the other parameters it fixes every number in the file. The same seed with and without faults
        gives the same events but for the faults.
    n_events : int
        Events, at least 1.
    faults : iterable of Fault, str or mapping
        What is broken: see `Fault` and `parse_fault`.
    mean_hits : float
        Hits per event without faults, averaged over the model. Single events range from none to about 5.5
        times as many.
    n_tracks : float
        Muons per event, averaged (Poisson).
    geometry : str or Path
        Table of planes. Planes that may be absent (D1) have no hits.
    run_id, spill_id : int
        Labels in the header.
    compression : int
        ZLIB level, 1 to 9.
    write_tracks : bool
        Whether the true tracks are written as a table.
    hits_per_basket : int
        So many hits are collected before they are written; changes no number.

    Raises
    ------
    ConfigError
        If a parameter or a fault is impossible.
    """
    if n_events < 1 or mean_hits <= 0 or n_tracks < 0 or seed < 0 or not 1 <= compression <= 9:
        what = (
            f"n_events = {n_events}, mean_hits = {mean_hits:g}, n_tracks = {n_tracks:g}, seed = {seed}, "
            f"compression = {compression} cannot be simulated"
        )
        raise ConfigError(
            what, hint="n_events >= 1, mean_hits > 0, n_tracks >= 0, seed >= 0, compression 1 to 9"
        )
    path = Path(path)
    chosen = as_faults(faults)
    model = _model(load_geometry(geometry), chosen, seed, n_events, mean_hits, n_tracks, (run_id, spill_id))
    size = N_DETECTORS * N_ELEMENTS
    sums = {"counted": np.zeros(size, dtype=np.int64), "in_time": np.zeros(N_DETECTORS, dtype=np.int64)}
    sums |= {name: np.zeros(1, dtype=np.int64) for name in ("crossings", "found", "triggers", "n_seeds")}
    counts = {"events": n_events, "empty_events": 0, "tracks": 0}
    tracks = []
    with _root_file(path, compression) as writer:
        for index in range(-(-n_events // BLOCK)):
            block = _block(model, index)
            for name, total in sums.items():
                sums[name] = total + getattr(block, name)
            counts["empty_events"] += int((block.n_hits == 0).sum())
            counts["tracks"] += block.tracks.event.size
            if write_tracks:
                columns = block.tracks._asdict()
                tracks.append(pl.DataFrame(columns | {"event": block.tracks.event + index * BLOCK}))
            writer.add(block, hits_per_basket)
    parameters = {"mean_hits": mean_hits, "n_tracks": n_tracks, "muons": MUONS, "accepted": ACCEPTED}
    truth = _truth(path, model, chosen, counts, sums, parameters | {"constants": CONSTANTS})
    write_json(truth.record, truth.to_dict())
    if write_tracks:
        with atomic(truth.tracks) as temporary:
            pl.concat(tracks).write_parquet(temporary)
    return truth


def _model(
    geometry: Geometry,
    faults: tuple[Fault, ...],
    seed: int,
    n_events: int,
    mean_hits: float,
    n_tracks: float,
    labels: tuple[int, int],
) -> _Model:
    readout = build_readout(geometry)
    efficiency = {
        plane.name: float(e) for plane, e in zip(readout.planes, readout.plane_efficiency, strict=True)
    }
    effects = effects_of(faults, geometry, efficiency)
    pilot = draw_tracks(np.random.default_rng(1039), np.full(1, _PILOT))
    _, channel, _ = cross(geometry, readout, pilot)
    per_track = np.bincount(channel, minlength=readout.row.size) / _PILOT
    track_hits = n_tracks * per_track * readout.hits_per_particle[readout.row]
    noise = build_noise(geometry, readout, mean_hits, track_hits)
    trigger = Trigger(geometry, readout)
    largest_id = int(geometry.planes["detector_id"].to_numpy().max())
    return _Model(geometry, readout, noise, effects, trigger, seed, *labels, n_events, n_tracks, largest_id)


def _truth(
    path: Path,
    model: _Model,
    faults: tuple[Fault, ...],
    counts: dict[str, int],
    sums: dict[str, NDArray[Any]],
    parameters: dict[str, Any],
) -> Truth:
    """Return the record of a spill."""
    readout, effects, noise = model.readout, model.effects, model.noise
    cell, row = readout.cell, readout.row
    keep = effects.keep[cell]
    passed = keep * effects.keep_particles[cell]
    expected = sums["n_seeds"][0] * (noise.particle_hits * passed + noise.burst_hits * keep)
    expected += sums["crossings"] * readout.hits_per_particle[row] * passed
    expected += effects.hot[cell] * noise.normal_rate * model.n_events
    seen = 1 - (1 - readout.efficiency[row] * passed) ** readout.n_photomultipliers[row]
    shape = int(readout.detector.max()) + 1, int(max(plane.n_elements for plane in readout.planes)) + 1
    maps = np.zeros((2, N_DETECTORS * N_ELEMENTS))
    maps[0, cell] = expected
    maps[1] = sums["counted"]
    of_plane = maps.reshape(2, N_DETECTORS, N_ELEMENTS)
    n_hits = of_plane[1].sum(axis=1)
    valid = np.zeros(N_DETECTORS)
    planes = []
    for index, plane in enumerate(readout.planes):
        valid[plane.detector_id] = of_plane[1, plane.detector_id, 1 : plane.n_elements + 1].sum()
        planes.append(
            {
                "name": plane.name,
                "detector_id": plane.detector_id,
                "efficiency": round(float(seen[row == index].mean()), 6),
                "crossings": int(sums["crossings"][row == index].sum()),
                "found": int(sums["found"][index]),
                "expected_hits": round(float(expected[row == index].sum()), 2),
                "hits": int(valid[plane.detector_id]),
                "in_time": int(sums["in_time"][plane.detector_id]),
            }
        )
    counts = {
        **counts,
        "hits": int(n_hits.sum()),
        "in_time": int(sums["in_time"].sum()),
        "bad_detector": int(n_hits[0]),
        "bad_element": int((n_hits - valid)[1:].sum()),
    }
    return Truth(
        path,
        model.seed,
        model.run_id,
        model.spill_id,
        model.geometry.version,
        parameters,
        faults,
        [planted(fault, model.geometry) for fault in faults],
        counts,
        {name: int(n) for name, n in zip(TRIGGERS, sums["triggers"], strict=True)},
        planes,
        of_plane[0, : shape[0], : shape[1]].copy(),
        of_plane[1, : shape[0], : shape[1]].astype(np.int64),
    )


def simulate(
    folder: Path | str,
    *,
    seed: int = 1,
    n_spills: int = 4,
    n_events: int = 400,
    faults: str | Path | Iterable[Fault | str | Mapping[str, Any]] = "demo",
    **options: Any,
) -> list[Path]:
    """Write some simulated spills of the synthetic run 1.

    Parameters
    ----------
    folder : Path or str
        Files go to ``folder/run_000001/run_000001_spill_00000000N_sraw.root``.
    seed : int
        Every spill has its own stream of random numbers.
    n_spills, n_events : int
        Spills, and events of each.
    faults : str, Path or iterable
        ``"standard"`` (`default_faults`), ``"none"``, the path of a TOML or JSON file (see `load_faults`), or
        faults as in `simulate_spill`: in all spills. ``"demo"``: the dead and hot ones of `default_faults` in
        all spills, those of rate and time in the last one only, so that a trend shows them.
    **options
        As for `simulate_spill`: ``mean_hits``, ``n_tracks``, ``geometry``, ``compression``, ``write_tracks``.

    Returns
    -------
    list of Path
        The ROOT files in the order of the spills.
    """
    if n_spills < 1:
        what = f"n_spills = {n_spills}: at least one spill must be simulated"
        raise UsageError(what)
    sets = _fault_sets(faults, n_spills)
    run_id = 1
    paths = []
    for index, chosen in enumerate(sets):
        own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
        path = Path(folder) / f"run_{run_id:06d}" / f"run_{run_id:06d}_spill_{index + 1:09d}_sraw.root"
        simulate_spill(
            path,
            seed=own_seed,
            n_events=n_events,
            faults=chosen,
            run_id=run_id,
            spill_id=index + 1,
            **options,
        )
        paths.append(path)
    return paths


def _fault_sets(
    faults: str | Path | Iterable[Fault | str | Mapping[str, Any]], n_spills: int
) -> list[tuple[Fault, ...]]:
    """Return the faults of each spill."""
    if faults == "demo":
        lasting = tuple(fault for fault in default_faults() if fault.kind in ("dead", "hot"))
        return [lasting] * (n_spills - 1) + [default_faults()]
    if faults == "standard":
        return [default_faults()] * n_spills
    if faults == "none":
        return [()] * n_spills
    if isinstance(faults, (str, Path)):
        if not str(faults).endswith((".toml", ".json")):
            raise ConfigError.unknown(
                "set of faults", str(faults), ["demo", "standard", "none", "a TOML or JSON file"]
            )
        return [load_faults(faults)] * n_spills
    return [as_faults(faults)] * n_spills
