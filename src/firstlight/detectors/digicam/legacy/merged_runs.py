"""Several runs added up to one: products of reading are added, everything else is made again from the sums.

Charges are counted from a whole number near the baseline of each pixel. Runs have their own, which may differ by some LSB: their
spectra are moved to that of the first run before they are added.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.channels import ChannelMap
from firstlight.data.cube import HistogramCube
from firstlight.data.schema import Block, Table
from firstlight.detectors.digicam.channels import LOWEST, WINDOW
from firstlight.detectors.digicam.counting import SAMPLE_PERIOD
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.run.finishing import Settings
    from firstlight.run.store import Run

    Integers = NDArray[np.int64]

__all__ = ["merge_runs", "merged_products", "shifted"]

_READ = ("events", "samples", "pulses", "light", "continuous")
_PLACES = ("channel", "x", "y", "module", "sector")


def merge_runs(runs: Sequence[Run], output: Any, settings: Settings) -> Run:
    """Return a run of the sum of some runs.

    Parameters
    ----------
    runs : sequence of Run
        Two or more, read with the same parameters.
    output : Path
        The new run directory.
    settings : Settings
        How to run.

    Raises
    ------
    InputError
        If a run is of another detector or camera, was read with other parameters, or its traces have another length.
    UsageError
        If there are fewer than two.
    """
    from firstlight.data.select import Selection
    from firstlight.detector import Plan, get_detector
    from firstlight.run.finished import import_products

    products, channels, notes = merged_products(runs)
    configuration = runs[0].record["configuration"]
    return import_products(
        get_detector("digicam"), runs[0].folder / "run.json", Plan(channels, Selection(), {}, notes), products,
        output, configuration, settings, steps=_derived(),
    )  # fmt: skip


def _derived() -> list[str]:
    from firstlight.detectors.digicam.chain import CHAIN

    return [step.name for step in CHAIN if step.name not in _READ]


def merged_products(runs: Sequence[Run]) -> tuple[dict[str, Any], ChannelMap, tuple[str, ...]]:
    """Return the sum of the products of reading, its channels, and notes.

    Raises
    ------
    InputError, UsageError
        As `merge_runs`.
    """
    if len(runs) < 2:
        what = "two runs or more are needed"
        raise UsageError(what)
    for run in runs:
        _check(runs[0], run)
    maps = [run["channels/map"].to_polars() for run in runs]
    reference = [frame["reference"].to_numpy().astype(np.int64) for frame in maps]
    shifts = [own - reference[0] for own in reference]
    names = dict.fromkeys(name for run in runs for name in run if name.split("/")[0] in _READ)
    configuration = runs[0].record["configuration"]
    products = {}
    for name in names:
        parts = [(run[name].value, shift) for run, shift in zip(runs, shifts, strict=True) if name in run]
        products[name] = _added(name, parts, configuration, runs)
    notes = [f"the sum of {len(runs)} runs: {', '.join(run.folder.name for run in runs)}"]
    moved = max(int(np.abs(shift).max()) for shift in shifts)
    if moved:
        notes.append(
            f"spectra were moved by up to {moved} LSB before they were added: the baselines of the runs differ"
        )
    light = [frame["light_sample"].to_numpy() for frame in maps]
    elsewhere = np.any([(own >= 0) & (light[0] >= 0) & (own != light[0]) for own in light], axis=0)
    if elsewhere.any():
        notes.append(f"in {int(elsewhere.sum())} pixels the light was measured at other samples in some runs")
    stored = runs[0].record["channels"]
    channels = ChannelMap(
        stored["name"], stored["version"], maps[0], stored["layout"], labels=stored["labels"]
    )
    return products, channels, tuple(notes)


def _check(first: Run, run: Run) -> None:
    """Refuse a run that cannot be added to another."""
    if run.record.get("detector") != "digicam":
        what = f"is a run of the detector {run.record.get('detector')}, not of digicam"
        raise InputError(what, where=run.folder)
    maps = [one["channels/map"].to_polars() for one in (first, run)]
    if not all(maps[0][name].equals(maps[1][name]) for name in _PLACES):
        what = f"is a run of another camera: its pixels are not those of {first.folder.name}"
        raise InputError(what, where=run.folder)
    for step in _READ[1:]:
        own, other = (one.record["configuration"].get(step) or {} for one in (run, first))
        different = [key for key in own if own[key] != other.get(key)]
        if different:
            key = different[0]
            what = f"was read with {step}.{key} = {own[key]}, {first.folder.name} with {other.get(key)}"
            raise InputError(
                what, where=run.folder, hint="read the raw files of both with the same parameters"
            )


def shifted(counts: Integers, shift: Integers, n_bins: int) -> Integers:
    """Return counts with under- and overflow, moved by whole bins and put into so many bins.

    Parameters
    ----------
    counts : ndarray, shape (n_pixels, ..., n + 2)
        Underflow first, overflow last.
    shift : ndarray, shape (n_pixels,)
        Bins by which each pixel moves up.
    n_bins : int
        Of the result; counts that move out of them are under- and overflow.
    """
    n = counts.shape[-1] - 2
    found = np.zeros((*counts.shape[:-1], n_bins + 2), dtype=np.int64)
    for move in np.unique(shift):
        rows = shift == move
        own, to = counts[rows], found[rows]
        first, last = max(-int(move), 0), min(n, n_bins - int(move))
        if first < last:
            to[..., 1 + first + int(move) : 1 + last + int(move)] = own[..., 1 + first : 1 + last]
        to[..., 0] = own[..., 0] + own[..., 1 : 1 + min(first, n)].sum(axis=-1)
        to[..., -1] = own[..., -1] + own[..., 1 + max(last, 0) : 1 + n].sum(axis=-1)
        found[rows] = to
    return found


def _added(
    name: str, parts: Sequence[tuple[Any, Integers]], configuration: Mapping[str, Any], runs: Sequence[Run]
) -> Any:
    """Return the sum of one product of several runs."""
    step, _, product = name.partition("/")
    if name == "events/files":
        return Table(pl.concat([part.frame for part, _ in parts]), parts[0][0].schema)
    if product == "levels":
        return _levels([part for part, _ in parts])
    if name == "pulses/pixels":
        return _pulses([part for part, _ in parts])
    if product.endswith("_groups"):
        return _groups(parts)
    if name == "light/waveform":
        return _waveforms(parts, [_table(run, "light/levels") for run in runs if name in run])
    if name == "continuous/moments":
        return _moments(parts, [_table(run, "continuous/levels") for run in runs if name in run])
    per_lsb = 1
    if step == "pulses" and product == "charge":
        per_lsb = int(configuration["pulses"]["window_width"])
    if name == "light/charge":
        own = configuration["light"]
        per_lsb = int(own["window_width"]) if str(own["extractor"]).startswith("integration") else 1
    moves = step in ("pulses", "light") and product in ("charge", "maximum")
    return _cubes(name, [(cube, shift * per_lsb if moves else 0 * shift) for cube, shift in parts])


def _table(run: Run, name: str) -> Table:
    found: Table = run[name].value  # type: ignore[assignment]
    return found


def _cubes(name: str, parts: Sequence[tuple[HistogramCube, Integers]]) -> HistogramCube:
    first = parts[0][0]
    if "level" in [axis.name for axis in first.axes]:
        return _level_cubes(parts)
    sizes = {cube.counts.shape for cube, _ in parts}
    if len(sizes) > 1:
        what = f"{name} has other bins in some runs: traces of other lengths cannot be added up"
        raise InputError(what)
    total = np.zeros_like(first.counts)
    for cube, shift in parts:
        total += shifted(cube.counts, shift, cube.axes[-1].bins) if shift.any() else cube.counts
    return replace(first, counts=total)


def _level_cubes(parts: Sequence[tuple[HistogramCube, Integers]]) -> HistogramCube:
    """Return the sum of spectra of light; levels are those of any run."""
    labels = sorted({label for cube, _ in parts for label in cube.axis("level").labels}, key=float)
    n_bins = max(cube.axis("charge").bins + int(max(shift.max(), 0)) for cube, shift in parts)
    n_bins = -(-n_bins // 64) * 64
    first = parts[0][0]
    charge = first.axis("charge")
    low = float(charge.edges[0])
    counts = np.zeros((first.counts.shape[0], len(labels), n_bins + 2), dtype=np.int64)
    for cube, shift in parts:
        rows = [labels.index(label) for label in cube.axis("level").labels]
        counts[:, rows] += shifted(cube.counts, shift, n_bins)
    axes = (
        first.axes[0],
        replace(first.axis("level"), bins=len(labels), labels=tuple(labels)),
        replace(charge, bins=n_bins, low=low, high=low + n_bins),
    )
    return HistogramCube(axes, counts, first.description)


def _levels(parts: Sequence[Table]) -> Table:
    frame = pl.concat([part.frame for part in parts]).group_by("level").sum().sort("level")
    return Table.from_frame(parts[0].schema, frame)


def _pulses(parts: Sequence[Table]) -> Table:
    frame = pl.concat([part.frame for part in parts]).group_by("channel").sum().sort("channel")
    time = pl.col("n_samples") * (SAMPLE_PERIOD * 1e-3)
    rate = pl.when(pl.col("n_samples") > 0).then(pl.col("n_pulses") / time)
    return Table.from_frame(parts[0].schema, frame.with_columns(rate=rate))


def _groups(parts: Sequence[tuple[Block, Integers]]) -> Block:
    """Return counts of groups of events; groups of the same number are added."""
    groups = sorted({int(group) for block, _ in parts for group in block.coordinates["group"]})
    n_pixels = parts[0][0].values.shape[0]
    total = np.zeros((n_pixels, len(groups), WINDOW + 2), dtype=np.int64)
    for block, shift in parts:
        bins = np.asarray(block.coordinates["bin"], dtype=np.int64)
        for index, group in enumerate(block.coordinates["group"]):
            wide = np.zeros((n_pixels, WINDOW + 2), dtype=np.int64)
            wide[:, 1 + LOWEST + bins] = block.values[:, index]
            total[:, groups.index(int(group))] += shifted(wide, shift, WINDOW)
    inner = total[:, :, 1:-1]
    filled = np.flatnonzero(inner.any(axis=(0, 1)))
    first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 1)
    return replace(
        parts[0][0],
        values=inner[:, :, first:last].astype(np.uint32),
        coordinates={"group": groups, "bin": (np.arange(first, last) - LOWEST).tolist()},
    )


def _waveforms(parts: Sequence[tuple[Block, Integers]], tables: Sequence[Table]) -> Block:
    """Return the sums of waveforms above the reference of the first run."""
    levels = sorted({float(level) for block, _ in parts for level in block.coordinates["level"]})
    n_pixels, _, n_samples = parts[0][0].values.shape
    total = np.zeros((n_pixels, len(levels), n_samples), dtype=np.int64)
    for (block, shift), table in zip(parts, tables, strict=True):
        if block.values.shape[2] != n_samples:
            what = f"traces of {block.values.shape[2]} and of {n_samples} samples cannot be added up"
            raise InputError(what)
        rows = [levels.index(float(level)) for level in block.coordinates["level"]]
        n_events = table.array("n_events").astype(np.int64)
        total[:, rows] += block.values + (shift[:, None] * n_events[None, :])[:, :, None]
    return replace(parts[0][0], values=total, coordinates={"level": levels})


def _moments(parts: Sequence[tuple[Block, Integers]], tables: Sequence[Table]) -> Block:
    """Return mean, its error, variance and share of saturated samples under continuous light."""
    levels = sorted({float(level) for block, _ in parts for level in block.coordinates["level"]})
    n_pixels = parts[0][0].values.shape[0]
    sums = np.zeros((n_pixels, len(levels), 4))
    events = np.zeros(len(levels))
    for (block, shift), table in zip(parts, tables, strict=True):
        rows = [levels.index(float(level)) for level in block.coordinates["level"]]
        weight = table.array("n_events").astype(np.float64)
        mean = block.values[:, :, 0] + shift[:, None]
        moments = [
            mean,
            block.values[:, :, 1] ** 2 * weight,
            block.values[:, :, 2] + mean**2,
            block.values[:, :, 3],
        ]
        sums[:, rows] += np.stack(moments, axis=2) * weight[None, :, None]
        events[rows] += weight
    total = sums[:, :, 0] / events
    values = np.stack(
        [total, np.sqrt(sums[:, :, 1]) / events, sums[:, :, 2] / events - total**2, sums[:, :, 3] / events],
        axis=2,
    )
    return replace(parts[0][0], values=values, coordinates={**parts[0][0].coordinates, "level": levels})
