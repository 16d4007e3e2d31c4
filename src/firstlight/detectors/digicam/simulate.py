"""Simulated commissioning data of the camera with known truth, in its raw format.

A data set is what one takes to calibrate the camera: events without high voltage, dark events, flashes of several levels of
the AC LEDs, continuous light of several levels of the DC LEDs. ``truth.parquet`` (a row for each pixel) and
``truth.json`` stand beside the files. The models stand in `simulation`.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.detectors.digicam.simulation.truth import Truth, draw_truth, read_record
from firstlight.errors import ConfigError, FirstlightError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from firstlight.detectors.digicam.pulse import PulseTemplate
    from firstlight.detectors.digicam.readout.batch import EventBatch
    from firstlight.detectors.digicam.simulation.simulator import (
        Afterpulses,
        CameraSimulator,
        Illumination,
        VoltageDrop,
    )

__all__ = ["KINDS", "load_truth", "read_record", "simulate"]

KINDS: Mapping[str, str] = {"hv_off": "hv_off", "dark": "darkrun", "led": "ledscan", "dc": "dcscan"}
"""What is simulated, with the type of run in the header."""
_SCANS = ("led", "dc")
_FIRST_RUN = {"hv_off": 109, "dark": 117, "led": 124, "dc": 150}  # numbers of the original scripts
_ORIGINAL = "CameraDigicam@localhost.localdomain_0_000.{run}.fits.fz"
_SUFFIX = {"zfits": ".fits.fz", "toy": ".hdf5", "arrays": ".npz"}
_PAUSE = 600_000_000_000  # from the start of a kind to that of the next one [ns]
_AT_A_TIME = 50  # events that a thread makes
_THREADS = min(os.cpu_count() or 1, 4)


@dataclass(frozen=True)
class _Level:
    """Events under one light: numbers of the run are counted from `first`."""

    kind: str
    level: float | None
    n_events: int
    first: int


@dataclass(frozen=True)
class _File:
    """A file, and which events of which levels it holds."""

    path: Path
    kind: str
    stretches: tuple[tuple[_Level, int, int], ...]

    @property
    def level(self) -> float | None:
        """The level, if all events have the same."""
        levels = {stretch[0].level for stretch in self.stretches}
        return levels.pop() if len(levels) == 1 else None


def simulate(
    folder: Path | str,
    seed: int = 1,
    *,
    n_events: int | Mapping[str, int] = 100,
    kinds: Sequence[str] = tuple(KINDS),
    levels: Sequence[float] = (200, 250, 300, 350),
    dc_levels: Sequence[float] = (290, 310, 330),
    n_samples: int = 50,
    file_format: Literal["zfits", "toy", "arrays"] = "zfits",
    layout: Literal["levels", "scan"] = "levels",
    n_files: int = 1,
    lost: Iterable[int] = (),
    faults: str | bool | Iterable[str] | Mapping[str, int] = "all",
    sector: int | None = None,
    cts_version: Literal[1, 2] = 2,
    baseline_scale: Literal[1, 16] = 16,
    trigger: bool = False,
    pulse: PulseTemplate | Path | str | None = None,
    drop: VoltageDrop | bool = True,
    afterpulses: Afterpulses | None = None,
    light_time: float = 40.0,
    jitter: float = 0.5,
    random_phase: bool = False,
    noise_correlation: float = 0.0,
    truth: Truth | Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a commissioning data set, and its truth beside it.

    Parameters
    ----------
    folder : Path or str
        Where files go: ``hv_off.fits.fz``, ``dark.fits.fz``, ``led_250.fits.fz``, ``dc_310.fits.fz``, ``truth.parquet``,
        ``truth.json``. Files of an older simulation there are replaced.
    seed : int
        With the other parameters it fixes every byte. What a pixel does in an event depends on the seed, the kind and level
        of the run and the number of the event, not on how many events or other levels there are.
    n_events : int or mapping of str to int
        Events of every level; by kind, as ``{"dark": 500, "led": 200}``, with 100 for kinds that are not named.
    kinds : sequence of str
        What is simulated: ``"hv_off"``, ``"dark"``, ``"led"``, ``"dc"``.
    levels, dc_levels : sequence of float
        Levels of AC and DC LEDs [DAC]. By default flashes have some 0.5, 1.3, 3 and 7 photo-electrons, and continuous light
        some 35, 120 and 390 MHz.
    n_samples : int
        Length of a trace: 50, or 92 as in March 2017.
    file_format : {"zfits", "toy", "arrays"}
        Raw files of the camera; HDF5 files in the layout of the digicamtoy; arrays of numpy.
    layout : {"levels", "scan"}
        A file for each level, or, as the original scripts want them, all levels one after the other in numbered files
        ``CameraDigicam@localhost.localdomain_0_000.124.fits.fz``: without high voltage from 109, dark from 117, AC scan from
        124, DC scan from 150. Event numbers go on through all levels of a scan in both.
    n_files : int
        Files for each kind if the layout is ``"scan"``.
    lost : iterable of int
        Events of the AC scan that are missing in the files, counted through all levels.
    faults : str, bool, iterable of str or mapping of str to int
        What is broken: ``"all"``, ``"none"``, names, or numbers by name, see `simulation.truth.FAULTS`.
    sector : {1, 2, 3}, optional
        Sector in front of which the light source stands; all of the camera is lit by version 2 in any case.
    cts_version : {1, 2}
        Light source of 2016 or of 2018.
    baseline_scale : {1, 16}
        Units of the baselines in raw files: LSB, or sixteenths. Sixteenths end at 2047.9 LSB: a saturated pixel has that.
    trigger : bool
        Whether raw files have the (empty) fields of the trigger.
    pulse : PulseTemplate, Path or str, optional
        Shape of a pulse, or a file with it; `PulseTemplate.default` if not given.
    drop : VoltageDrop or bool
        Loss of overvoltage under light: as in `simulation.simulator.VoltageDrop`, or none at all.
    afterpulses : Afterpulses, optional
        None by default.
    light_time, jitter, random_phase, noise_correlation
        As for `simulation.simulator.CameraSimulator`.
    truth : Truth or mapping, optional
        A camera to use, or other typical values and spreads than `simulation.truth.TYPICAL`:
        ``{"crosstalk": (0.2, 0.02)}``.

    Returns
    -------
    list of Path
        The raw files, without those of the truth.

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """
    from firstlight.detectors.digicam.light_source import lit_pixels
    from firstlight.detectors.digicam.pulse import PulseTemplate
    from firstlight.detectors.digicam.simulation.simulator import CameraSimulator, VoltageDrop

    folder = Path(folder)
    _check(kinds, file_format, layout, n_files)
    if not isinstance(truth, Truth):
        lit = lit_pixels(sector, version=cts_version)
        truth = draw_truth(seed, faults=faults, lit=lit, **(truth or {}))
    template = PulseTemplate.read(pulse) if isinstance(pulse, str | Path) else pulse
    simulator = CameraSimulator(
        truth,
        seed,
        n_samples=n_samples,
        pulse=template,
        light_time=light_time,
        jitter=jitter,
        random_phase=random_phase,
        noise_correlation=noise_correlation,
        afterpulses=afterpulses,
        drop=(VoltageDrop() if drop else None) if isinstance(drop, bool) else drop,
        baselines=file_format != "toy",
    )
    runs = _levels(kinds, n_events, {"led": tuple(levels), "dc": tuple(dc_levels)})
    missing = _lost(lost, runs)
    files = _files(folder, runs, layout, n_files, _SUFFIX[file_format])
    _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file_format == "zfits":
            _write_zfits(file, simulator, missing, baseline_scale=baseline_scale, trigger=trigger)
        elif file_format == "toy":
            _write_toy(file, simulator, missing)
        else:
            _write_arrays(file, simulator, missing)
    truth.write(folder, _record(simulator, files, missing, file_format, layout))
    return [file.path for file in files]


def load_truth(folder: Path | str) -> Truth:
    """Return the truth that `simulate` wrote beside its files; `read_record` gives what is true of the runs.

    Raises
    ------
    InputError
        If there is none, or it cannot be read.
    """
    return Truth.read(folder)


def _check(kinds: Sequence[str], file_format: str, layout: str, n_files: int) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError.unknown("kind", kind, KINDS)
    if len(set(kinds)) != len(kinds) or not kinds:
        what = f"kinds = {list(kinds)} cannot be"
        raise ConfigError(what, hint=f"some of {', '.join(KINDS)}, each once")
    if file_format not in _SUFFIX:
        raise ConfigError.unknown("file_format", file_format, _SUFFIX)
    if layout not in ("levels", "scan"):
        raise ConfigError.unknown("layout", layout, ("levels", "scan"))
    if layout == "scan" and file_format != "zfits":
        what = f"files of the {file_format!r} format hold one level each"
        raise ConfigError(what, hint="layout='levels', or file_format='zfits'")
    if n_files < 1 or (layout == "levels" and n_files != 1):
        what = f"n_files = {n_files} cannot be with a file for each level"
        raise ConfigError(what, hint="layout='scan', and 1 or more")


def _levels(
    kinds: Sequence[str], n_events: int | Mapping[str, int], scans: Mapping[str, Sequence[float]]
) -> list[_Level]:
    """Return the levels of all kinds, with the place of their first event in the run."""
    if not isinstance(n_events, int):
        for kind in n_events:
            if kind not in KINDS:
                raise ConfigError.unknown("kind", kind, KINDS, where="n_events")
    found = []
    for kind in kinds:
        number = n_events if isinstance(n_events, int) else n_events.get(kind, 100)
        wanted: Sequence[float | None] = scans.get(kind, (None,))
        if (
            number < 0
            or len(set(wanted)) != len(wanted)
            or any(one is not None and one < 0 for one in wanted)
        ):
            what = f"{number} events of {kind} at levels {list(wanted)} cannot be simulated"
            raise ConfigError(what, hint="0 or more events, levels of 0 DAC or more, each once")
        found += [_Level(kind, level, number, k * number) for k, level in enumerate(wanted)]
    return found


def _lost(lost: Iterable[int], runs: Sequence[_Level]) -> frozenset[int]:
    missing = frozenset(int(event) for event in lost)
    last = max((run.first + run.n_events for run in runs if run.kind == "led"), default=0)
    if missing and not 0 <= min(missing) <= max(missing) < last:
        what = f"event {min(missing) if min(missing) < 0 else max(missing)} cannot be lost"
        raise ConfigError(
            what, hint=f"the AC scan has the events 0 to {last - 1}" if last else "there is no AC scan"
        )
    return missing


def _files(folder: Path, runs: Sequence[_Level], layout: str, n_files: int, suffix: str) -> list[_File]:
    """Return which file holds what."""
    if layout == "levels":
        return [
            _File(
                folder
                / (f"{run.kind}{suffix}" if run.level is None else f"{run.kind}_{run.level:g}{suffix}"),
                run.kind,
                ((run, 0, run.n_events),),
            )
            for run in runs
        ]
    found = []
    for kind in dict.fromkeys(run.kind for run in runs):
        own = [run for run in runs if run.kind == kind]
        edges = np.arange(n_files + 1) * (own[-1].first + own[-1].n_events) // n_files
        for k in range(n_files):
            name = _ORIGINAL.format(run=_FIRST_RUN[kind] + k)
            parts = [
                (run, max(int(edges[k]) - run.first, 0), min(int(edges[k + 1]) - run.first, run.n_events))
                for run in own
            ]
            found.append(_File(folder / name, kind, tuple(part for part in parts if part[1] < part[2])))
    return found


def _illumination(simulator: CameraSimulator, run: _Level) -> Illumination:
    if run.kind == "led":
        return simulator.led(run.level or 0.0)
    if run.kind == "dc":
        return simulator.dc(run.level or 0.0)
    return simulator.dark() if run.kind == "dark" else simulator.hv_off()


def _kept(run: _Level, event: np.ndarray[Any, Any], missing: frozenset[int]) -> np.ndarray[Any, Any] | slice:
    """Return which events of a level are not lost; `event` counts through the scan."""
    if run.kind != "led" or not missing:
        return slice(None)
    return np.flatnonzero(~np.isin(event, list(missing)))


def _numbered(
    batch: EventBatch, simulator: CameraSimulator, run: _Level, missing: frozenset[int]
) -> EventBatch:
    """Return events with the numbers and times that they have in the run, without the lost ones."""
    number, time = batch.number + run.first, batch.time + run.first * simulator.interval
    time += _PAUSE * list(KINDS).index(run.kind)
    keep = _kept(run, number - simulator.first_number, missing)
    return replace(
        batch,
        samples=batch.samples[keep],
        number=number[keep],
        time=time[keep],
        event_type=batch.event_type[keep],
        baselines=None if batch.baselines is None else batch.baselines[keep],
    )


def _batches(file: _File, simulator: CameraSimulator, missing: frozenset[int]) -> Iterator[EventBatch]:
    """Yield the events of a file, in order, while the next ones are being made."""

    def make(run: _Level, first: int, n_events: int) -> EventBatch:
        batch = simulator.batch(_illumination(simulator, run), n_events, first)
        return _numbered(batch, simulator, run, missing)

    pieces = [
        (run, first, min(_AT_A_TIME, stop - first))
        for run, start, stop in file.stretches
        for first in range(start, max(stop, start + 1), _AT_A_TIME)
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[EventBatch]] = deque()
        for piece in pieces:
            waiting.append(pool.submit(make, *piece))
            if len(waiting) > _THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_zfits(
    file: _File,
    simulator: CameraSimulator,
    missing: frozenset[int],
    *,
    baseline_scale: int,
    trigger: bool,
) -> None:
    from firstlight.detectors.digicam.readout.zfits_writer import ZfitsWriter

    cards: dict[str, Any] = {"TOYMC": True, "SEED": simulator.seed}
    if file.kind in _SCANS and file.level is not None and len(file.stretches) == 1:
        cards["LEVEL"] = file.level
    with ZfitsWriter(
        file.path,
        run_type=KINDS[file.kind],
        baseline_scale=baseline_scale,
        n_samples=simulator.n_samples,
        trigger=trigger,
        cards=cards,
    ) as writer:
        for batch in _batches(file, simulator, missing):
            writer.write(_with_fitting_baselines(batch, baseline_scale))


def _with_fitting_baselines(batch: EventBatch, scale: int) -> EventBatch:
    """Return events whose baselines fit into the 16 bits of raw files, signed: that of a saturated pixel does not."""
    if batch.baselines is None:
        return batch
    largest = np.float32(np.iinfo(np.int16).max / scale)
    return replace(batch, baselines=np.minimum(batch.baselines, largest))


def _write_toy(file: _File, simulator: CameraSimulator, missing: frozenset[int]) -> None:
    from firstlight.detectors.digicam.readout.toy import write_toy

    run, start, stop = file.stretches[0]
    light = _illumination(simulator, run)
    batch, came = simulator.batch_with_light(light, stop - start, start)
    keep = _kept(run, batch.number - simulator.first_number + run.first, missing)
    truth = simulator.truth
    config: dict[str, Any] = {
        name: float(np.mean(getattr(truth, name)))
        for name in ("baseline", "gain", "sigma_e", "sigma_1", "crosstalk")
    }
    powered = file.kind != "hv_off"
    dark = float(np.mean(truth.dark_rate)) if powered else 0.0
    config |= {
        "nsb_rate": (dark + float(np.mean(np.asarray(light.sky)))) * 1e-3,
        "n_photon": float(np.mean(np.asarray(light.mu))),
    }
    config |= {"time_signal": simulator.light_time, "jitter": simulator.jitter}
    config |= {"gain_nsb": simulator.drop is not None, "n_pixels": truth.n_pixels}
    config |= {"time_start": 0.0, "time_end": simulator.n_samples * simulator.period}
    config |= {"time_sampling": simulator.period, "events_per_level": stop - start}
    if run.level is not None:
        config["level"] = run.level
    write_toy(
        file.path,
        _numbered(batch, simulator, run, missing),
        config,
        charge=came.charge[keep][:, :, None],
        time=came.time[keep][:, :, None],
    )


def _write_arrays(file: _File, simulator: CameraSimulator, missing: frozenset[int]) -> None:
    from firstlight.detectors.digicam.readout.batch import EventBatch
    from firstlight.files import atomic

    whole = EventBatch.concatenate(list(_batches(file, simulator, missing)))
    arrays: dict[str, Any] = {"samples": whole.samples, "number": whole.number, "time": whole.time}
    arrays |= {"event_type": whole.event_type}
    if whole.baselines is not None:
        arrays["baselines"] = whole.baselines
    with atomic(file.path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def _record(
    simulator: CameraSimulator,
    files: Sequence[_File],
    missing: frozenset[int],
    file_format: str,
    layout: str,
) -> dict[str, Any]:
    """Return what stands in ``truth.json``."""
    pulse, after, drop = simulator.pulse, simulator.afterpulses, simulator.drop
    return {
        "names": [file.path.name for file in files],
        "seed": simulator.seed,
        "file_format": file_format,
        "layout": layout,
        "n_samples": simulator.n_samples,
        "light_time": simulator.light_time,
        "jitter": simulator.jitter,
        "random_phase": simulator.random_phase,
        "noise_correlation": simulator.noise_correlation,
        "afterpulses": vars(after) if after.probability > 0.0 else None,
        "drop": None if drop is None else vars(drop),
        "pulse": {
            "name": pulse.name,
            "integrals": [pulse.integral(power) for power in (1, 2, 3)],
            "peak_time": pulse.peak_time,
        },
        "lost": sorted(missing),
        "files": [
            {
                "file": file.path.name,
                "kind": file.kind,
                "run_type": KINDS[file.kind],
                "stretches": [
                    {
                        "level": run.level,
                        "n_events": stop - start,
                        "first_number": simulator.first_number + run.first + start,
                    }
                    for run, start, stop in file.stretches
                ],
            }
            for file in files
        ],
    }


def _clear(folder: Path) -> None:
    """Remove the files that an older simulation names as its own."""
    try:
        names = read_record(folder)["names"]
    except (FirstlightError, KeyError):
        return
    for name in names:
        parts = PurePosixPath(name).parts
        if len(parts) == 1 and parts[0] not in ("..", "."):
            (folder / name).unlink(missing_ok=True)
    for name in ("truth.parquet", "truth.json"):
        (folder / name).unlink(missing_ok=True)
