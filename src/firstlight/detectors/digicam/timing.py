"""When the light of a flash arrives in each pixel, and the shape of a pulse from many flashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.counting import SAMPLE_PERIOD
from firstlight.detectors.digicam.options import TemplateParameters, TimingParameters
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.data.schema import Block
    from firstlight.detectors.digicam.pulse import PulseTemplate

    FloatArray = NDArray[np.float64]

__all__ = ["SHAPE", "TIMES", "arrival_times", "measure_shape", "template", "timing"]

_NEAR_TOP = 4.0  # ns, where a pulse is a parabola
_STEP = 0.05  # ns, of the search; a parabola goes on from there

TIMES = TableSchema(
    "times",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("time", pl.Float64, "time of the maximum of the pulse after the first sample", "ns", nullable=True),
        Column("time_error", pl.Float64, "its error from the noise of the samples alone", "ns", nullable=True),
        Column("height", pl.Float64, "height of the mean pulse of all levels used", "LSB", nullable=True),
        Column("sample", pl.Int32, "sample that is the highest of its trace most often", nullable=True),
        Column("sample_spread", pl.Float64, "standard deviation of the highest sample", nullable=True),
        Column("n_events", pl.Int64, "flashes in levels with enough light", minimum=0),
    ),
    "one pixel",
)  # fmt: skip
SHAPE = TableSchema(
    "shape",
    (
        Column(
            "time", pl.Float64, "mean time of the samples of the bin after the maximum of the pulse", "ns"
        ),
        Column("amplitude", pl.Float64, "mean height, of 1 at the maximum"),
        Column("spread", pl.Float64, "standard deviation over pixels and levels", minimum=0),
        Column("entries", pl.Int64, "mean waveforms with a sample there", minimum=0),
    ),
    "one bin in time",
)


def mean_waveforms(waveform: Block, n_events: NDArray[np.int64]) -> FloatArray:
    """Return the mean pulses above their own baseline, shape (1296, n_levels, n_samples) [LSB]."""
    mean = waveform.values / np.maximum(n_events, 1)[None, :, None]
    # the pulse takes a third of the trace: its median is the baseline
    return np.asarray(mean - np.quantile(mean, 0.25, axis=2, keepdims=True))


def arrival_times(
    pulses: FloatArray, noise: FloatArray, shape: PulseTemplate
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return when mean pulses have their maximum, with error and height, from least squares with the shape of a pulse.

    Parameters
    ----------
    pulses : ndarray, shape (n, n_samples)
        Above the baseline [LSB].
    noise : ndarray, shape (n,)
        Error of each of their samples [LSB].
    shape : PulseTemplate
        Of a pulse.

    Returns
    -------
    time, error : ndarray, shape (n,)
        After the first sample [ns]; NaN for a pulse of no height.
    height : ndarray, shape (n,)
        LSB.
    """
    n_samples = pulses.shape[1]
    at = SAMPLE_PERIOD * np.arange(n_samples)
    grid = np.arange(0, SAMPLE_PERIOD * n_samples, _STEP)
    shapes = shape.at(at[None, :] - grid[:, None] + shape.peak_time)
    size = np.maximum((shapes**2).sum(axis=1), 1e-12)
    projection = pulses @ shapes.T
    # what a pulse at that time takes away from the sum of squares
    gain = np.where(projection > 0, projection, 0) ** 2 / size
    best = np.clip(gain.argmax(axis=1), 1, grid.size - 2)
    rows = np.arange(pulses.shape[0])
    left, here, right = (gain[rows, best + k] for k in (-1, 0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = left - 2 * here + right
        time = grid[best] + _STEP * np.where(curve < 0, 0.5 * (left - right) / curve, 0.0)
        height = projection[rows, best] / size[best]
        slopes = np.gradient(shapes, grid, axis=0)[best]
        error = noise / (np.abs(height) * np.sqrt((slopes**2).sum(axis=1)))
    good = (here > 0) & (height > 0)
    return np.where(good, time, np.nan), np.where(good, error, np.nan), np.where(good, height, np.nan)


def _bright(mean: FloatArray, lowest: float, highest: float) -> NDArray[np.bool_]:
    """Return which pixels have a pulse of the right size at which level, shape (1296, n_levels)."""
    top = mean.max(axis=2)
    return np.asarray((top > lowest) & (top < highest))


def run_timing(products: Mapping[str, Any], parameters: TimingParameters, _: Context) -> dict[str, Product]:
    """Return the arrival time of the light in each pixel."""
    from firstlight.detectors.digicam.pulse import PulseTemplate

    n_events = products["light/levels"].array("n_events").astype(np.int64)
    mean = mean_waveforms(products["light/waveform"], n_events)
    used = _bright(mean, parameters.lowest, 2500.0)
    weight = used * n_events
    total = weight.sum(axis=1)
    pulses = np.einsum("cl,cls->cs", weight.astype(np.float64), mean) / np.maximum(total, 1)[:, None]
    # scatter of the samples before the pulse: noise and dark counts
    noise = np.std(pulses[:, : max(pulses.shape[1] // 8, 2)], axis=1, ddof=1)
    time, error, height = arrival_times(pulses, noise, PulseTemplate.default())
    counts = products["light/peak"].values
    samples = np.arange(counts.shape[1])
    n = np.maximum(counts.sum(axis=1), 1)
    centre = counts @ samples / n
    spread = np.sqrt(np.maximum(counts @ samples**2 / n - centre**2, 0))
    lit = total > 0
    frame = pl.DataFrame(
        {
            "channel": np.arange(N_PIXELS), "time": np.where(lit, time, np.nan),
            "time_error": np.where(lit, error, np.nan), "height": np.where(lit, height, np.nan),
            "sample": counts.argmax(axis=1), "sample_spread": spread, "n_events": total,
        }
    )  # fmt: skip
    return {"pixels": Table.from_frame(TIMES, frame)}


def measure_shape(
    mean: FloatArray, used: NDArray[np.bool_], time: FloatArray, parameters: TemplateParameters
) -> Table | None:
    """Return the shape of a pulse from mean waveforms of pixels in which light arrives at different times.

    Parameters
    ----------
    mean : ndarray, shape (1296, n_levels, n_samples)
        Above the baseline [LSB].
    used : ndarray of bool, shape (1296, n_levels)
        Which of them are used.
    time : ndarray, shape (1296,)
        Of the maximum, after the first sample [ns].
    parameters : TemplateParameters
        Bins.

    Returns
    -------
    Table or None
        `SHAPE`; None without a pulse.
    """
    used = used & np.isfinite(time)[:, None]
    if not used.any():
        return None
    rows, levels = np.nonzero(used)
    pulses = mean[rows, levels]
    at = SAMPLE_PERIOD * np.arange(mean.shape[2])[None, :] - time[rows][:, None]
    low = parameters.step * np.floor(at.min() / parameters.step)
    place = np.floor((at - low) / parameters.step).astype(np.int64)
    n_bins = int(place.max()) + 1
    centres = low + parameters.step * (np.arange(n_bins) + 0.5)
    # a sample beside the maximum does not show it: heights are matched through the shape itself, twice
    height = pulses.max(axis=1)
    amplitude, spread, entries = np.zeros(n_bins), np.zeros(n_bins), np.zeros(n_bins, dtype=np.int64)
    for _ in range(3):
        scaled = pulses / height[:, None]
        entries = np.bincount(place.ravel(), minlength=n_bins)
        with np.errstate(divide="ignore", invalid="ignore"):
            amplitude = np.bincount(place.ravel(), scaled.ravel(), n_bins) / entries
            square = np.bincount(place.ravel(), scaled.ravel() ** 2, n_bins) / entries
        spread = np.sqrt(np.maximum(square - amplitude**2, 0))
        amplitude = amplitude / _top(at, scaled)
        filled = np.isfinite(amplitude)
        model = np.interp(at, centres[filled], amplitude[filled])
        near = (at > -12) & (at < 16)
        height = (pulses * model * near).sum(axis=1) / np.maximum((model**2 * near).sum(axis=1), 1e-9)
        height = np.where(height > 0, height, pulses.max(axis=1))
    kept = entries > 0
    # samples come every 4 ns and pixels hardly differ: where in its bin they lie is told, not assumed
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_time = np.bincount(place.ravel(), at.ravel(), n_bins) / entries
    columns = {"time": mean_time, "amplitude": amplitude, "spread": spread, "entries": entries}
    return Table.from_arrays(SHAPE, {name: values[kept] for name, values in columns.items()})


def _top(at: FloatArray, scaled: FloatArray) -> float:
    """Return the height of the maximum, from a parabola through all samples near it: none may be at the maximum itself."""
    near = np.abs(at) < _NEAR_TOP
    if np.unique(np.rint(at[near] / 0.5)).size < 4:
        return float(scaled.max(axis=1).mean())
    curve, slope, middle = np.polyfit(at[near], scaled[near], 2)
    return float(middle - slope**2 / (4 * curve)) if curve < 0 else float(scaled[near].max())


def run_template(
    products: Mapping[str, Any], parameters: TemplateParameters, _: Context
) -> dict[str, Product]:
    """Return the shape of a pulse; nothing without light."""
    n_events = products["light/levels"].array("n_events").astype(np.int64)
    mean = mean_waveforms(products["light/waveform"], n_events)
    used = _bright(mean, parameters.lowest, parameters.highest)
    time = products["timing/pixels"].frame["time"].to_numpy().astype(np.float64)
    found = measure_shape(mean, used, time, parameters)
    return {} if found is None else {"shape": found}


def write_shape(table: Table, path: Path) -> Path:
    """Write a shape as text: time [ns], amplitude, spread; as `PulseTemplate.read` reads it."""
    columns = [table.array(name) for name in ("time", "amplitude", "spread")]
    header = "time [ns]  amplitude  spread"
    np.savetxt(path, np.stack(columns, axis=1), fmt="%.4f %.6f %.6f", header=header)
    return path


timing = ProductStep(
    "timing", run_timing, needs=("light/waveform", "light/peak", "light/levels"), parameters=TimingParameters
)
template = ProductStep(
    "template",
    run_template,
    needs=("light/waveform", "light/levels", "timing/pixels"),
    parameters=TemplateParameters,
)
