"""Simulated threshold scans with known truth, as folders of frames in the layout of the experiment.

The chip is drawn by `truth_of`; frames are Poisson readings of its rates with counters that stop at 63, and have
the faults that real scans have. Folders say in their name that they are synthetic; the truth stands beside each.
"""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.detectors.velo.simulation.chip import SHAPE, chosen_faults, stream, truth_of
from firstlight.detectors.velo.simulation.frames import Plan, plan_events, write_equalisation, write_frames
from firstlight.detectors.velo.simulation.noise import NoiseScan, write_noise_scan
from firstlight.detectors.velo.simulation.record import load_truth, write_truth
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from firstlight.detectors.velo.simulation.chip import Chip
    from firstlight.detectors.velo.simulation.frames import Events, Written

__all__ = ["load_truth", "simulate", "simulate_counts", "simulate_noise_scan", "truth_of"]

# step [DAC], acquisitions by label, rate at the brightest place [hits/s]: with few acquisitions a brighter source
_SIZES: dict[str, tuple[int, dict[str, int], float]] = {
    "small": (4, {"warm": 8, "cold": 8}, 3.2),
    "full": (1, {"warm": 100, "cold": 50}, 0.45),
}
_SHUTTER = re.compile(r"(\d+)s(\d+)ms")
_MAY_STOP = 25.0  # hits per shutter: below it a reading of 63 has a probability of 1e-10
# windows of the noise scans of a whole chip: trim, first threshold, step, thresholds
_NOISE_SCANS = ((0, 1440, 4, 71), (15, 1680, 4, 76), (None, 1500, 2, 81))


def simulate(
    folder: Path | str,
    seed: int = 1,
    *,
    size: Literal["small", "full"] = "small",
    labels: Sequence[str] = ("warm",),
    start: int = 1480,
    stop: int = 1600,
    step: int | None = None,
    n_thresholds: int | None = None,
    acquisitions: int | None = None,
    faults: str | Iterable[str] = "all",
    rate: float | None = None,
    gain_drift: float = 0.0,
    shutter: str = "2s621ms",
    prefix: str = "Module0_VP3-1",
    control: bool = True,
    noise_scans: bool = False,
    threads: int | None = None,
    **options: Any,
) -> list[Path]:
    """Write threshold scans of a chip under a source, one folder for each temperature.

    Parameters
    ----------
    folder : Path or str
        Scans go to ``folder/synthetic_<label>Fe55``, the truth to ``folder/synthetic_<label>Fe55_truth.npz``.
        Frames of an older simulation there are replaced.
    seed : int
        With the other parameters it fixes every byte. A frame without faults depends on the seed, its label,
        threshold and acquisition, the chip and the rate, not on which other frames are written.
    size : {"small", "full"}
        ``"small"``: every 4th threshold, 8 acquisitions, 32 MB; ``"full"``: the scan of the original, 121
        thresholds with 100 acquisitions (cold 50), 1.6 GB. Single numbers can be given as below.
    labels : sequence of str
        Temperatures: ``"warm"``, ``"cold"``. The chip is the same, its gain and baseline are not.
    start, stop : int
        First and last threshold [DAC].
    step, n_thresholds : int, optional
        Distance between thresholds [DAC]; number of them. With the number alone they span start to stop.
    acquisitions : int, optional
        Frames at each threshold.
    faults : str or iterable of str
        What is broken: ``"all"``, ``"none"``, or names as in `simulation.chip.FRAME_FAULTS` and `PIXEL_FAULTS`.
    rate : float, optional
        Rate of the peak [hits/s] where the source is brightest; 3.2 (small) or 0.45 (full) by default.
    gain_drift : float
        Relative change of all gains from the first frame to the last.
    shutter : str
        Open time of a frame as in file names.
    prefix : str
        Module and chip in file names.
    control : bool
        Whether ``Control_Noise_Mean`` is there.
    noise_scans : bool
        Whether noise scans of the chip (warm: trims 0, 15 and the chosen ones) are written, too, to
        ``folder/synthetic_<label>_noise``.
    threads : int, optional
        Changes no number.
    **options
        As for `truth_of`: ``k_beta``, ``lines``, ``energy_per_pair``, ``even_odd``, ``dead_columns``.

    Returns
    -------
    list of Path
        The scan folders in the order of the labels, then the files of noise scans.

    Raises
    ------
    ConfigError
        If a parameter, label or fault is impossible.
    """
    if size not in _SIZES:
        raise ConfigError.unknown("size", size, _SIZES)
    default_step, frames_of, default_rate = _SIZES[size]
    if step is None and n_thresholds is None:
        step = default_step
    thresholds = _thresholds(start, stop, step, n_thresholds)
    chosen = chosen_faults(faults)
    scans, noise = [], []
    for label in dict.fromkeys(labels):
        chip = truth_of(seed, label, rate=default_rate if rate is None else rate, faults=chosen, **options)
        number = frames_of[label] if acquisitions is None else acquisitions
        plan = Plan(thresholds, number, shutter, _seconds(shutter), gain_drift, prefix)
        place = Path(folder) / f"synthetic_{label}Fe55"
        _write_scan(place, plan, chip, chosen, control=control, threads=threads)
        scans.append(place)
        if noise_scans:
            for trim, *window in _NOISE_SCANS:
                scan = NoiseScan(trim, *(int(value) for value in window), prefix=prefix)  # type: ignore[arg-type,misc]
                noise += write_noise_scan(Path(folder) / f"synthetic_{label}_noise", scan, chip)
    return scans + noise


def _thresholds(start: int, stop: int, step: int | None, number: int | None) -> tuple[int, ...]:
    """Return the thresholds of a scan."""
    what = f"thresholds from {start} to {stop} DAC"
    if number is not None and step is None and number > 1:
        step = (stop - start) // (number - 1)
    step = 1 if step is None else step
    if step < 1 or stop < start or start < 0 or (number is not None and number < 1):
        what += f" in steps of {step}" if number is None else f", {number} of them,"
        what += " cannot be"
        raise ConfigError(what, hint="start <= stop, step >= 1, whole numbers")
    found = tuple(range(start, stop + 1, step))
    if number is not None and len(found) < number:
        what = f"{what} in steps of {step} are {len(found)}, not {number}"
        raise ConfigError(what, hint="a larger stop or a smaller step")
    return found if number is None else found[:number]


def _seconds(shutter: str) -> float:
    """Return the open time of a shutter text [s]."""
    found = _SHUTTER.fullmatch(shutter)
    if found is None or int(found[1]) + int(found[2]) == 0:
        what = f"{shutter!r} is no open time of a shutter"
        raise ConfigError(what, hint="for example 2s621ms")
    return int(found[1]) + int(found[2]) / 1000


def _write_scan(
    folder: Path, plan: Plan, chip: Chip, faults: frozenset[str], *, control: bool, threads: int | None
) -> None:
    """Write one scan and its truth."""
    if plan.acquisitions < 1 or not -0.5 <= plan.gain_drift <= 0.5:
        what = f"acquisitions = {plan.acquisitions}, gain_drift = {plan.gain_drift:g} cannot be simulated"
        raise ConfigError(what, hint="acquisitions >= 1, gain_drift between -0.5 and 0.5")
    events = plan_events(plan, chip, faults)
    record = folder.with_name(f"{folder.name}_truth.npz")
    record.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{plan.prefix}_*.csv"):
        old.unlink()
    write_equalisation(folder, plan.prefix, chip, control=control)
    written = write_frames(folder, plan, chip, events, threads or min(os.cpu_count() or 1, 8))
    write_truth(record, _record(plan, chip, events, written))


def _record(plan: Plan, chip: Chip, events: Events, written: Written) -> dict[str, NDArray[Any]]:
    """Return what a truth file holds."""
    found = chip.to_arrays()
    found["events"] = np.asarray(json.dumps(events.lists()))
    found["condition"] = np.asarray(events.condition)
    found["prefix"], found["shutter"] = np.asarray(plan.prefix), np.asarray(plan.shutter)
    found["shutter_time"], found["gain_drift"] = np.asarray(plan.shutter_time), np.asarray(plan.gain_drift)
    found["acquisitions"] = np.asarray(plan.acquisitions)
    found["thresholds"] = np.asarray(plan.thresholds, dtype=np.int64)
    found["good_acq"], found["counts_sum"] = written.n_good, written.counts
    return found | {"n_saturated": written.n_saturated}


def simulate_counts(
    chip: Chip,
    thresholds: Iterable[float] | None = None,
    *,
    acquisitions: int = 100,
    shutter_time: float = 2.621,
    seed: int = 1,
    threads: int | None = None,
) -> NDArray[np.int32]:
    """Draw the summed counts of a scan without faulty frames, and no files: for closure tests of fits.

    Parameters
    ----------
    chip : Chip
        From `truth_of`.
    thresholds : iterable of float, optional
        In DAC; 1480 to 1600 by default.
    acquisitions : int
        Frames at each threshold.
    shutter_time : float
        Open time of a frame [s].
    seed : int
        Of the counts, not of the chip: other seeds are repeated scans of the same chip.
    threads : int, optional
        Changes no number.

    Returns
    -------
    ndarray of int32, shape (n_thresholds, 256, 256)
        Sums over the acquisitions of readings that stop at 63.
    """
    places = [float(t) for t in (range(1480, 1601) if thresholds is None else thresholds)]

    def one(index: int) -> NDArray[np.int32]:
        rng = stream(seed, "counts", index)
        mean = chip.rates(places[index]).ravel() * shutter_time
        may_stop = np.flatnonzero(mean > _MAY_STOP)
        total = rng.poisson(acquisitions * mean)
        # far above 63 every reading is 63
        single = rng.poisson(np.minimum(mean[may_stop], 1e4), (acquisitions, may_stop.size))
        total[may_stop] = np.minimum(single, 63).sum(axis=0)
        return total.astype(np.int32).reshape(SHAPE)

    with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 8)) as pool:
        return np.stack(list(pool.map(one, range(len(places)))))


def simulate_noise_scan(
    folder: Path | str,
    seed: int = 1,
    *,
    trim: int | None = 0,
    first: int = 1360,
    step: int = 2,
    n_points: int = 55,
    masks: int = 1,
    prefix: str = "Module1_VP0-0",
    chip: Chip | None = None,
    **options: Any,
) -> list[Path]:
    """Write a noise scan as the read-out dumps it, by default with the window of the real one at trim 0.

    Parameters
    ----------
    folder : Path or str
        Files are called as ``Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_1of1.dat``; ``..._truth.npz`` holds true
        ``mean``, ``width`` [DAC] and ``amplitude`` [hits] of each pixel (256, 256), ``thresholds``,
        ``counts_sum``, ``n_saturated``.
    seed : int
        Fixes the chip and the readings.
    trim : int or None
        Trim of all pixels, 0 to 15; None for the chosen trims.
    first, step, n_points : int
        First threshold, distance downwards [DAC], number of thresholds.
    masks : int
        Number of parts (files) with some of the pixels each, to be added up.
    prefix : str
        Module and chip in file names.
    chip : Chip, optional
        Another chip than ``truth_of(seed)``; its own seed counts.
    **options
        As for `truth_of`.

    Returns
    -------
    list of Path
        The files of the scan, one for each part.

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """
    scan = NoiseScan(trim, first, step, n_points, masks, prefix)
    return write_noise_scan(Path(folder), scan, truth_of(seed, **options) if chip is None else chip)
