"""From waveforms to charges: the light of a scan of levels, flash by flash, and continuous light."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.data.sums import add_by_key, add_padded
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.channels import LOWEST
from firstlight.detectors.digicam.counting import levels_in
from firstlight.detectors.digicam.options import EXTRACTORS, ContinuousParameters, LightParameters
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk
    from firstlight.run.config import StrictModel

__all__ = ["LEVELS", "Flashes", "Sky", "continuous", "count_flashes", "count_sky", "light"]

LEVELS = TableSchema(
    "levels",
    (
        Column("level", pl.Float64, "level of the light source", "DAC"),
        Column("n_events", pl.Int64, "events", minimum=0),
        Column("n_after", pl.Int64, "events after the last level of the scan, left out", minimum=0),
    ),
    "one level of a scan",
)
_STEP = 64  # bins are added in such portions


@dataclass(frozen=True)
class LevelCounts:
    """What the flashes of one level add up to.

    Parameters
    ----------
    charges : ndarray of uint32, shape (1296, n_bins)
        Whole LSB from the lowest charge on; as many bins as there are charges for.
    beyond : ndarray of int64, shape (1296, 2)
        Charges below the first bin; saturated ones.
    peaks : ndarray of int64, shape (1296, n_samples)
        Which sample was the highest of its trace.
    waveforms : ndarray of int64, shape (1296, n_samples)
        Sums above the reference [LSB].
    n_events : int
        Events.
    """

    charges: NDArray[np.uint32]
    beyond: NDArray[np.int64]
    peaks: NDArray[np.int64]
    waveforms: NDArray[np.int64]
    n_events: int

    def __add__(self, other: LevelCounts) -> LevelCounts:
        return LevelCounts(
            add_padded(self.charges, other.charges),
            self.beyond + other.beyond,
            self.peaks + other.peaks,
            self.waveforms + other.waveforms,
            self.n_events + other.n_events,
        )


@dataclass(frozen=True)
class Flashes:
    """What a scan of levels adds up to.

    Parameters
    ----------
    levels : dict of float to LevelCounts
        By level [DAC].
    n_after : int
        Events after the last level.
    """

    levels: dict[float, LevelCounts] = field(default_factory=dict)
    n_after: int = 0

    def __add__(self, other: Flashes) -> Flashes:
        return Flashes(add_by_key(self.levels, other.levels), self.n_after + other.n_after)


def lowest_charge(parameters: LightParameters) -> int:
    """Return the charge of the first bin [LSB]: noise of a sum goes deeper than that of a sample."""
    return -LOWEST if parameters.n_samples == 1 else -2 * LOWEST


def count_flashes(chunk: Chunk, parameters: LightParameters, context: Context) -> Flashes:
    """Measure the flashes of a chunk and count their charges by level.

    Parameters
    ----------
    chunk : Chunk
        Block ``waveforms`` and ``number`` of the events.
    parameters : LightParameters
        How the light is measured.
    context : Context
        References and samples of the light; level of the file, or the levels of a scan.
    """
    if context.conditions_of(chunk.span.index).get("kind") != "led":
        return Flashes()
    waveforms = chunk.block("waveforms").values
    level = levels_in(chunk, context)
    found = {
        float(own): _one_level(waveforms[level == own], parameters, context)
        for own in np.unique(level[np.isfinite(level)])
    }
    return Flashes(found, int(np.count_nonzero(np.isnan(level))))


def _one_level(waveforms: NDArray[np.uint16], parameters: LightParameters, context: Context) -> LevelCounts:
    from firstlight.detectors.digicam import kernels

    waveforms = np.ascontiguousarray(waveforms)
    n_events, _, n_samples = waveforms.shape
    reference = context.channels.column("reference").astype(np.int32)
    light = context.channels.column("light_sample").astype(np.int32)
    charge, peak = (np.empty((n_events, N_PIXELS), dtype=np.int32) for _ in range(2))
    kernels.measure_flashes(
        waveforms, reference, light, EXTRACTORS.index(parameters.extractor), parameters.window_width,
        parameters.window_start, parameters.search, parameters.threshold_sat, charge, peak,
    )  # fmt: skip
    low = lowest_charge(parameters)
    n_bins = -(-(int(charge.max()) - low + 1) // _STEP) * _STEP
    counts = np.zeros((N_PIXELS, max(n_bins, _STEP)), dtype=np.uint32)
    beyond = np.zeros((N_PIXELS, 2), dtype=np.int64)
    kernels.count_charges(charge, low, counts, beyond)
    peaks = np.zeros((N_PIXELS, n_samples), dtype=np.int64)
    np.add.at(peaks, (np.broadcast_to(np.arange(N_PIXELS), peak.shape), peak), 1)
    sums = np.zeros((N_PIXELS, n_samples), dtype=np.int64)
    kernels.add_waveforms(waveforms, reference, sums)
    return LevelCounts(counts, beyond, peaks, sums, n_events)


def finish_flashes(total: Flashes, parameters: LightParameters, _: Context) -> dict[str, Product]:
    """Return the cube of charges, the positions of the maxima, the sums of waveforms, and the levels.

    ``charge`` (pixel, level, charge above the reference; under- and overflow of the charge), ``peak`` (pixel, sample),
    ``waveform`` (pixel, level, sample), ``levels``.
    """
    if not total.levels:
        return {}
    levels = sorted(total.levels)
    found = [total.levels[level] for level in levels]
    low = lowest_charge(parameters)
    n_bins = max(own.charges.shape[1] for own in found)
    counts = np.zeros((N_PIXELS, len(levels), n_bins + 2), dtype=np.int64)
    for index, own in enumerate(found):
        counts[:, index, 1 : own.charges.shape[1] + 1] = own.charges
        counts[:, index, 0], counts[:, index, -1] = own.beyond.T
    sums = parameters.n_samples > 1
    text = f"sum of {parameters.n_samples} samples" if sums else "height of the pulse"
    n_samples = found[0].waveforms.shape[1]
    channel = Axis("channel", N_PIXELS, description="pixel")
    labels = tuple(f"{level:g}" for level in levels)
    axes = (
        channel,
        Axis("level", len(levels), labels=labels, unit="DAC", description="level of the light source"),
        Axis(
            "charge",
            n_bins,
            low - 0.5,
            low + n_bins - 0.5,
            unit="LSB",
            description=f"{text}, above the reference",
        ),
    )
    rows = {
        "level": levels,
        "n_events": [own.n_events for own in found],
        "n_after": [0] * (len(levels) - 1) + [total.n_after],
    }
    # where the scan of levels is on, what is highest is the flash; a level without light says nothing of it
    peaks = sum((own.peaks for own in found), np.zeros_like(found[0].peaks))
    return {
        "charge": HistogramCube(axes, counts, f"light of flashes: {text}"),
        "peak": HistogramCube(
            (channel, Axis("sample", n_samples, -0.5, n_samples - 0.5, description="highest sample of the trace")),
            np.pad(peaks, ((0, 0), (1, 1))), "where the trace is highest",
        ),
        "waveform": Block(
            np.stack([own.waveforms for own in found], axis=1), ("channel", "level", "sample"), "LSB",
            "sum of the waveforms above the reference", {"level": levels},
        ),
        "levels": Table.from_frame(LEVELS, pl.DataFrame(rows)),
    }  # fmt: skip


@dataclass(frozen=True)
class SkyCounts:
    """Moments of the samples under continuous light of one level.

    Parameters
    ----------
    sums : ndarray of int64, shape (1296, 3)
        Sums of the samples above the reference, of their squares, and number of saturated samples.
    groups : ndarray of int64, shape (n_groups, 1296)
        Sum of the samples by group of events, for the error of the mean.
    group_events : ndarray of int64, shape (n_groups,)
        Events of each group.
    n_events, n_samples : int
        Events, and samples of each pixel.
    """

    sums: NDArray[np.int64]
    groups: NDArray[np.int64]
    group_events: NDArray[np.int64]
    n_events: int
    n_samples: int

    def __add__(self, other: SkyCounts) -> SkyCounts:
        return SkyCounts(
            self.sums + other.sums,
            self.groups + other.groups,
            self.group_events + other.group_events,
            self.n_events + other.n_events,
            self.n_samples + other.n_samples,
        )


@dataclass(frozen=True)
class Sky:
    """Moments by level of continuous light, and events after the last level."""

    levels: dict[float, SkyCounts] = field(default_factory=dict)
    n_after: int = 0

    def __add__(self, other: Sky) -> Sky:
        return Sky(add_by_key(self.levels, other.levels), self.n_after + other.n_after)


def count_sky(chunk: Chunk, parameters: ContinuousParameters, context: Context) -> Sky:
    """Add up the samples of a chunk under continuous light, by level."""
    if context.conditions_of(chunk.span.index).get("kind") != "dc":
        return Sky()
    waveforms = chunk.block("waveforms").values
    level = levels_in(chunk, context)
    number = chunk.table("events").array("number")
    reference = context.channels.column("reference").astype(np.int64)
    found = {}
    for own in np.unique(level[np.isfinite(level)]):
        part = waveforms[level == own].astype(np.int64) - reference[None, :, None]
        group = number[level == own] % parameters.groups
        saturated = np.count_nonzero(part + reference[None, :, None] >= 4095, axis=(0, 2))
        by_event = part.sum(axis=2)
        groups = np.zeros((parameters.groups, N_PIXELS), dtype=np.int64)
        np.add.at(groups, group, by_event)
        sums = np.stack([by_event.sum(axis=0), (part**2).sum(axis=(0, 2)), saturated], axis=1)
        events = np.bincount(group, minlength=parameters.groups).astype(np.int64)
        found[float(own)] = SkyCounts(sums, groups, events, part.shape[0], part.shape[0] * part.shape[2])
    return Sky(found, int(np.count_nonzero(np.isnan(level))))


def finish_sky(total: Sky, _: ContinuousParameters, __: Context) -> dict[str, Product]:
    """Return ``mean``, ``mean_error``, ``variance`` and ``saturated`` (pixel, level) as one block, and the levels."""
    if not total.levels:
        return {}
    levels = sorted(total.levels)
    values = np.full((N_PIXELS, len(levels), 4), np.nan)
    for index, level in enumerate(levels):
        own = total.levels[level]
        mean = own.sums[:, 0] / own.n_samples
        values[:, index, 0] = mean
        used = own.group_events > 0
        if np.count_nonzero(used) > 1:
            per_event = own.n_samples / own.n_events
            means = own.groups[used] / (own.group_events[used, None] * per_event)
            weight = own.group_events[used] / own.n_events
            # variance of the mean from the spread of the groups about it
            spread = (weight[:, None] ** 2 * (means - mean) ** 2).sum(axis=0)
            values[:, index, 1] = np.sqrt(spread * np.count_nonzero(used) / (np.count_nonzero(used) - 1))
        values[:, index, 2] = own.sums[:, 1] / own.n_samples - mean**2
        values[:, index, 3] = own.sums[:, 2] / own.n_samples
    rows = {
        "level": levels,
        "n_events": [total.levels[level].n_events for level in levels],
        "n_after": [0] * (len(levels) - 1) + [total.n_after],
    }
    quantities = ["mean", "mean_error", "variance", "saturated"]
    return {
        "moments": Block(
            values, ("channel", "level", "quantity"), "LSB", "samples above the reference, under continuous light",
            {"level": levels, "quantity": quantities},
        ),
        "levels": Table.from_frame(LEVELS, pl.DataFrame(rows)),
    }  # fmt: skip


def _needs(_: StrictModel) -> Mapping[str, tuple[str, ...]]:
    return {"events": ("number",), "waveforms": ()}


light = ChunkStep("light", count_flashes, finish_flashes, _needs, parameters=LightParameters)
continuous = ChunkStep("continuous", count_sky, finish_sky, _needs, parameters=ContinuousParameters)
