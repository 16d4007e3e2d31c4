"""From waveforms to counts: which events there are, how often each pixel has each value, which pulses are in the dark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.data.sums import add_by_key
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.channels import LOWEST, WINDOW
from firstlight.detectors.digicam.conditions import level_index
from firstlight.detectors.digicam.options import PeakParameters, SampleParameters
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk
    from firstlight.run.config import StrictModel

__all__ = ["FILES", "Samples", "count_events", "count_pulses", "count_samples", "events", "pulses", "samples"]

ADC_VALUES = 4096
# baselines are kept in sixteenths of a LSB: residuals are, too, and stand in the middle of their bins
RESIDUAL_BINS = 16
RESIDUAL = Axis(
    "residual", 256 * RESIDUAL_BINS, -32 - 0.5 / RESIDUAL_BINS, 224 - 0.5 / RESIDUAL_BINS, unit="LSB",
    description="sample above the baseline of its event",
)  # fmt: skip
PULSE_LOW, PULSE_BINS = -64, 512
_COUNTED = ("hv_off", "dark", "sky")

FILES = TableSchema(
    "files",
    (
        Column("file", pl.String, "name of the input"),
        Column("kind", pl.String, "what it was taken with: hv_off, dark, led, dc or sky"),
        Column("kind_from", pl.String, "what says so"),
        Column("level", pl.Float64, "level of the light source", "DAC", nullable=True),
        Column("n_events", pl.Int64, "events", minimum=0),
        Column("first_number", pl.Int64, "smallest event number", nullable=True),
        Column("last_number", pl.Int64, "largest event number", nullable=True),
        Column("n_missing", pl.Int64, "numbers between them that no event has", minimum=0),
        Column("n_clocked", pl.Int64, "events of the clock (type 8: dark, pedestal, flash)", minimum=0),
        Column("first_time", pl.Int64, "earliest time since 1970", "ns", nullable=True),
        Column("duration", pl.Float64, "time from the first to the last event", "s", nullable=True),
        Column("rate", pl.Float64, "events in a second", "Hz", nullable=True),
    ),
    "one input file",
)


@dataclass(frozen=True)
class EventCount:
    """What is known of the events of a file: number, range of numbers and times, clocked ones."""

    n_events: int = 0
    n_clocked: int = 0
    numbers: tuple[int, int] | None = None
    times: tuple[int, int] | None = None

    def __add__(self, other: EventCount) -> EventCount:
        return EventCount(
            self.n_events + other.n_events,
            self.n_clocked + other.n_clocked,
            _range_of(self.numbers, other.numbers),
            _range_of(self.times, other.times),
        )


def _range_of(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int] | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def _ends(values: NDArray[np.int64]) -> tuple[int, int] | None:
    return (int(values.min()), int(values.max())) if values.size else None


def count_events(chunk: Chunk, _: StrictModel, __: Context) -> dict[int, EventCount]:
    """Return what is known of the events of a chunk, by the index of its file."""
    table = chunk.table("events")
    times = table.frame["time"].drop_nulls().to_numpy()
    types = table.array("event_type")
    clocked = int(np.count_nonzero((types >= 0) & (types & 8 > 0)))
    return {chunk.span.index: EventCount(len(table), clocked, _ends(table.array("number")), _ends(times))}


def finish_events(total: Mapping[int, EventCount], _: StrictModel, context: Context) -> dict[str, Product]:
    """Return the table of files."""
    rows = []
    for index in sorted(total):
        found, conditions = total[index], context.conditions_of(index)
        span = found.times[1] - found.times[0] if found.times else 0
        n_numbers = found.numbers[1] - found.numbers[0] + 1 if found.numbers else found.n_events
        rows.append(
            {
                "file": context.files[index],
                "kind": str(conditions.get("kind", "sky")),
                "kind_from": str(conditions.get("kind_from", "")),
                "level": conditions.get("level"),
                "n_events": found.n_events,
                "first_number": found.numbers[0] if found.numbers else None,
                "last_number": found.numbers[1] if found.numbers else None,
                "n_missing": max(n_numbers - found.n_events, 0),
                "n_clocked": found.n_clocked,
                "first_time": found.times[0] if found.times else None,
                "duration": span / 1e9 if found.times else None,
                "rate": (found.n_events - 1) * 1e9 / span if span > 0 else None,
            }
        )
    return {"files": Table.from_rows(FILES, rows)}


@dataclass(frozen=True)
class Samples:
    """How often each pixel had each value.

    Parameters
    ----------
    near : dict of (kind, group) to ndarray of uint32, shape (1296, 256)
        Values about the reference of the pixel, by group of events.
    far : dict of kind to dict of int to int
        How often a pixel had a value far from it, by 4096 pixel + value.
    residuals : dict of kind to ndarray of uint32, shape (1026,)
        Samples less the baseline of their event, all pixels together.
    """

    near: dict[tuple[str, int], NDArray[np.uint32]] = field(default_factory=dict)
    far: dict[str, _Tally] = field(default_factory=dict)
    residuals: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def __add__(self, other: Samples) -> Samples:
        return Samples(
            add_by_key(self.near, other.near),
            add_by_key(self.far, other.far),
            add_by_key(self.residuals, other.residuals),
        )


@dataclass(frozen=True)
class _Tally:
    """Counts of few of very many possible values."""

    codes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[Any]) -> _Tally:
        found, counts = np.unique(codes, return_counts=True)
        return cls(found.astype(np.int64), counts.astype(np.int64))

    def __add__(self, other: _Tally) -> _Tally:
        codes, place = np.unique(np.concatenate([self.codes, other.codes]), return_inverse=True)
        counts = np.zeros(codes.size, dtype=np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return _Tally(codes, counts)


def count_samples(chunk: Chunk, parameters: SampleParameters, context: Context) -> Samples:
    """Count the samples of a chunk.

    Parameters
    ----------
    chunk : Chunk
        Blocks ``waveforms`` and ``baselines``, and ``number`` of the events.
    parameters : SampleParameters
        Groups of events, and samples that are left out.
    context : Context
        References of the pixels, and what the file was taken with: files with light of a known time are passed over.
    """
    from firstlight.detectors.digicam import kernels

    kind = str(context.conditions_of(chunk.span.index).get("kind", "sky"))
    waveforms = chunk.block("waveforms").values
    if kind not in _COUNTED or waveforms.shape[0] == 0:
        return Samples()
    number = chunk.table("events").array("number")
    group = number // parameters.block_events % parameters.blocks
    low = (context.channels.column("reference") - LOWEST).astype(np.int32)
    near: dict[tuple[str, int], NDArray[np.uint32]] = {}
    outside, first = [], min(parameters.first_sample, waveforms.shape[2])
    for own in np.unique(group):
        part = waveforms[group == own]
        counts = np.zeros((N_PIXELS, WINDOW), dtype=np.uint32)
        beyond = np.empty(part.size, dtype=np.int32)
        n_beyond = kernels.count_samples(part, low, first, counts, beyond)
        near[kind, int(own)] = counts
        outside.append(beyond[:n_beyond].copy())
    residual = np.zeros(RESIDUAL.extent, dtype=np.uint32)
    kernels.count_residuals(
        waveforms, chunk.block("baselines").values, first, RESIDUAL.edges[0], float(RESIDUAL_BINS), residual
    )
    return Samples(near, {kind: _Tally.of(np.concatenate(outside))}, {kind: residual.astype(np.int64)})


def finish_samples(total: Samples, _: SampleParameters, context: Context) -> dict[str, Product]:
    """Return for each kind of run the histograms, the counts of groups of events, and the residuals.

    ``KIND`` (pixel, ADC; a sample at 4095 is the overflow: it may have been any higher value), ``KIND_groups``
    (pixel, group, value about the reference) and ``KIND_residual``.
    """
    low = context.channels.column("reference").astype(np.int64) - LOWEST
    products: dict[str, Product] = {}
    for kind in _COUNTED:
        groups = sorted(group for own, group in total.near if own == kind)
        if not groups:
            continue
        stack = np.stack([total.near[kind, group] for group in groups], axis=1)
        table = np.zeros((N_PIXELS, ADC_VALUES + 1), dtype=np.int64)
        near = stack.sum(axis=1, dtype=np.int64)
        for pixel in range(N_PIXELS):
            begin, end = max(low[pixel], 0), min(low[pixel] + WINDOW, ADC_VALUES)
            table[pixel, begin + 1 : end + 1] = near[pixel, begin - low[pixel] : end - low[pixel]]
        far = total.far[kind]
        np.add.at(table, (far.codes // ADC_VALUES, far.codes % ADC_VALUES + 1), far.counts)
        products[kind] = HistogramCube(_adc_axes(), table, _TITLES[kind])
        if kind != "sky":
            # what no group of events shows anything of need not be kept
            first, last = _filled(near)
            products[f"{kind}_groups"] = Block(
                stack[:, :, first:last], ("channel", "group", "bin"), "", "samples by group of events",
                {"group": groups, "bin": (np.arange(first, last) - LOWEST).tolist()},
            )  # fmt: skip
        residual = total.residuals[kind]
        if residual.any():
            products[f"{kind}_residual"] = HistogramCube(
                (RESIDUAL,), residual, "samples above the baseline of their event, all pixels"
            )
    return products


_TITLES = {
    "hv_off": "samples without high voltage",
    "dark": "samples in the dark",
    "sky": "samples of triggered events",
}


def _adc_axes() -> tuple[Axis, Axis]:
    value = Axis("adc", ADC_VALUES - 1, -0.5, ADC_VALUES - 1.5, unit="LSB", description="ADC value")
    return Axis("channel", N_PIXELS, description="pixel"), value


def _filled(near: NDArray[np.int64]) -> tuple[int, int]:
    """Return the first bin that any pixel has filled, and the one after the last."""
    found = np.flatnonzero(near.any(axis=0))
    return (int(found[0]), int(found[-1]) + 1) if found.size else (0, 1)


@dataclass(frozen=True)
class Pulses:
    """Pulses found in dark events: counts of charges and maxima, numbers; see `kernels.find_pulses`."""

    charges: NDArray[np.uint32]
    maxima: NDArray[np.uint32]
    beyond: NDArray[np.int64]
    numbers: NDArray[np.int64]
    n_events: int

    def __add__(self, other: Pulses) -> Pulses:
        return Pulses(
            self.charges + other.charges,
            self.maxima + other.maxima,
            self.beyond + other.beyond,
            self.numbers + other.numbers,
            self.n_events + other.n_events,
        )


PULSES = TableSchema(
    "pulses",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("n_pulses", pl.Int64, "pulses found", minimum=0),
        Column("n_samples", pl.Int64, "samples in which a pulse could have been found", minimum=0),
        Column("rate", pl.Float64, "pulses above the threshold of the search", "MHz", nullable=True),
    ),
    "one pixel",
)
SAMPLE_PERIOD = 4.0
"""Time from one sample to the next [ns]."""


def count_pulses(chunk: Chunk, parameters: PeakParameters, context: Context) -> Pulses:
    """Find the pulses of a chunk of dark events."""
    from firstlight.detectors.digicam import kernels

    kind = context.conditions_of(chunk.span.index).get("kind", "sky")
    waveforms = chunk.block("waveforms").values if kind == "dark" else np.empty((0, N_PIXELS, 11), np.uint16)
    reference = context.channels.column("reference").astype(np.int32)
    found = Pulses(
        np.zeros((N_PIXELS, PULSE_BINS), dtype=np.uint32),
        np.zeros((N_PIXELS, PULSE_BINS), dtype=np.uint32),
        np.zeros((N_PIXELS, 2), dtype=np.int64),
        np.zeros((N_PIXELS, 2), dtype=np.int64),
        waveforms.shape[0],
    )
    kernels.find_pulses(
        waveforms, reference, parameters.threshold, parameters.window_width, parameters.window_start,
        PULSE_LOW, found.charges, found.maxima, found.beyond, found.numbers,
    )  # fmt: skip
    return found


def finish_pulses(total: Pulses, _: PeakParameters, __: Context) -> dict[str, Product]:
    """Return ``charge`` and ``maximum`` (pixel, LSB above the reference) and the table ``pixels``; nothing without dark events."""
    if total.n_events == 0:
        return {}
    high = PULSE_LOW + PULSE_BINS - 0.5
    channel = Axis("channel", N_PIXELS, description="pixel")
    cubes = {}
    for column, (name, counts, text) in enumerate(
        (("charge", total.charges, "sum of the window"), ("maximum", total.maxima, "highest sample"))
    ):
        axis = Axis(
            name, PULSE_BINS, PULSE_LOW - 0.5, high, unit="LSB", description=f"{text}, above the reference"
        )
        table = np.zeros((N_PIXELS, PULSE_BINS + 2), dtype=np.int64)
        table[:, 1:-1] = counts
        table[:, -1] = total.beyond[:, column]
        cubes[name] = HistogramCube((channel, axis), table, f"{text} of dark events")
    n_pulses, n_samples = total.numbers.T
    time = n_samples * SAMPLE_PERIOD * 1e-3  # us
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(time > 0, n_pulses / time, np.nan)
    columns = {
        "channel": np.arange(N_PIXELS), "n_pulses": n_pulses, "n_samples": n_samples, "rate": rate,
    }  # fmt: skip
    return {**cubes, "pixels": Table.from_frame(PULSES, pl.DataFrame(columns))}


def first_number_of(conditions: Mapping[str, Any]) -> int | None:
    """Return the number with which a scan in one sequence of events begins; None for a file of one level."""
    return None if "level" in conditions else int(conditions.get("first_number", 0))


def levels_in(chunk: Chunk, context: Context) -> NDArray[np.float64]:
    """Return the level of each event of a chunk [DAC]; NaN for events after the last level of a scan."""
    conditions = context.conditions_of(chunk.span.index)
    number = chunk.table("events").array("number")
    first = first_number_of(conditions)
    if first is None:
        return np.full(number.size, float(conditions["level"]))
    levels = np.asarray(context.options.scan_levels, dtype=np.float64)  # type: ignore[attr-defined]
    index = level_index(number, first, context.options)  # type: ignore[arg-type]
    return np.where(index >= 0, levels[np.maximum(index, 0)] if levels.size else np.nan, np.nan)


def _need_waveforms(_: StrictModel) -> Mapping[str, tuple[str, ...]]:
    return {"events": ("number",), "waveforms": (), "baselines": ()}


def _need_events(_: StrictModel) -> Mapping[str, tuple[str, ...]]:
    return {"events": ("number", "time", "event_type")}


events = ChunkStep("events", count_events, finish_events, _need_events, merge=add_by_key)
samples = ChunkStep("samples", count_samples, finish_samples, _need_waveforms, parameters=SampleParameters)
pulses = ChunkStep("pulses", count_pulses, finish_pulses, _need_waveforms, parameters=PeakParameters)
