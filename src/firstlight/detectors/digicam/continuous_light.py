"""Continuous light: the rate of photo-electrons from the shift of the baseline, and the rate against level.

Pulses at a rate f shift the mean of the samples by f G I_1 / (1 - l) (Campbell). The current through the bias resistor R
lowers the voltage of the sensor, and with it the gain, by 1 / (1 + f R C) with the capacitance C of a cell: ::

    shift = f G I_1 / (1 - l) / (1 + f R C),   f = shift / (G I_1 / (1 - l) - shift R C)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.options import SkyParameters
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "RATES",
    "SOURCES",
    "dc",
    "fit_exponentials",
    "level_for_rate",
    "rate_from_shift",
    "shift_from_rate",
]

_SATURATED = 0.001  # share of saturated samples from which a mean says nothing

RATES = TableSchema(
    "rates",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("level", pl.Float64, "level of the light source", "DAC"),
        Column("shift", pl.Float64, "mean of the samples above that in the dark", "LSB", nullable=True),
        Column("shift_error", pl.Float64, "its standard error", "LSB", nullable=True),
        Column("rate", pl.Float64, "rate of photo-electrons, dark counts not among them", "MHz", nullable=True),
        Column("rate_error", pl.Float64, "its statistical error", "MHz", nullable=True),
        Column("scale_error", pl.Float64, "its error from gain and crosstalk, common to all levels", "MHz", nullable=True),
        Column("gain_factor", pl.Float64, "gain relative to that in the dark: 1 / (1 + f R C)", nullable=True),
    ),
    "one pixel at one level",
)  # fmt: skip
SOURCES = TableSchema(
    "sources",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("rate_at_zero", pl.Float64, "a of rate = a exp(b level)", "MHz", nullable=True),
        Column("rate_at_zero_error", pl.Float64, "its standard error", "MHz", nullable=True),
        Column("slope", pl.Float64, "b of rate = a exp(b level)", "1/DAC", nullable=True),
        Column("slope_error", pl.Float64, "its standard error", "1/DAC", nullable=True),
        Column("chi2", pl.Float64, "of the fit to the logarithms", nullable=True),
        Column("ndf", pl.Int64, "points less two"),
        Column("level_100", pl.Float64, "level that gives 100 MHz", "DAC", nullable=True),
    ),
    "one pixel",
)


def rate_from_shift(
    shift: ArrayLike,
    gain: ArrayLike,
    crosstalk: ArrayLike,
    integral: float,
    resistance: float = 0.0,
    capacitance: float = 0.0,
) -> FloatArray:
    """Return the rate of photo-electrons that shifts the baseline.

    Parameters
    ----------
    shift : array-like
        Of the mean of the samples [LSB].
    gain : array-like
        Height of the pulse of an avalanche, without light [LSB].
    crosstalk : array-like
        Mean number of avalanches that an avalanche starts.
    integral : float
        Of the pulse of height 1 [ns].
    resistance, capacitance : float
        Of the bias circuit [Ohm] and of a cell [fF]; 0: the gain does not fall.

    Returns
    -------
    ndarray
        MHz; NaN where no rate gives such a shift: the baseline cannot move further than G I_1 / ((1 - l) R C).
    """
    moved = np.asarray(shift, dtype=np.float64)
    full = np.asarray(gain, dtype=np.float64) * integral / (1 - np.asarray(crosstalk, dtype=np.float64))
    left = full - moved * resistance * capacitance * 1e-6  # RC in ns
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(left > 0, 1e3 * moved / left, np.nan))


def shift_from_rate(
    rate: ArrayLike,
    gain: ArrayLike,
    crosstalk: ArrayLike,
    integral: float,
    resistance: float = 0.0,
    capacitance: float = 0.0,
) -> FloatArray:
    """Return the shift of the baseline at a rate of photo-electrons [LSB]; the inverse of `rate_from_shift`."""
    per_ns = 1e-3 * np.asarray(rate, dtype=np.float64)
    full = np.asarray(gain, dtype=np.float64) * integral / (1 - np.asarray(crosstalk, dtype=np.float64))
    return np.asarray(per_ns * full / (1 + per_ns * resistance * capacitance * 1e-6))


def fit_exponentials(
    level: FloatArray, rate: FloatArray, error: FloatArray, used: NDArray[np.bool_]
) -> dict[str, FloatArray]:
    """Return the least-squares lines of the logarithm of the rate against the level, pixel by pixel.

    Parameters
    ----------
    level : ndarray, shape (n_levels,)
        DAC.
    rate, error : ndarray, shape (n_pixels, n_levels)
        MHz.
    used : ndarray of bool, shape (n_pixels, n_levels)
        Points to use, of positive rate.

    Returns
    -------
    dict of ndarray, shape (n_pixels,)
        ``rate_at_zero``, ``slope``, their errors, ``chi2``, ``ndf``; NaN for pixels with fewer than two points.
    """
    used = used & np.isfinite(rate) & (rate > 0) & (error > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.where(used, np.log(np.where(used, rate, 1.0)), 0.0)
        weight = np.where(used, (rate / error) ** 2, 0.0)
        centre = (weight * level).sum(axis=1) / weight.sum(axis=1)
        x = level[None, :] - centre[:, None]
        total, spread = weight.sum(axis=1), (weight * x**2).sum(axis=1)
        slope = (weight * x * y).sum(axis=1) / spread
        middle = (weight * y).sum(axis=1) / total
        begin = middle - slope * centre
        begin_error = np.sqrt(1 / total + centre**2 / spread)
        chi2 = (weight * (y - middle[:, None] - slope[:, None] * x) ** 2).sum(axis=1)
    n_used = used.sum(axis=1)
    few = n_used < 2

    def known(values: FloatArray) -> FloatArray:
        return np.where(few, np.nan, values)

    return {
        "rate_at_zero": known(np.exp(begin)),
        "rate_at_zero_error": known(np.exp(begin) * begin_error),
        "slope": known(slope),
        "slope_error": known(1 / np.sqrt(np.where(few, 1.0, spread))),
        "chi2": known(chi2),
        "ndf": np.maximum(n_used - 2, 0),
    }


def level_for_rate(rate: float, rate_at_zero: FloatArray, slope: FloatArray) -> FloatArray:
    """Return the level that gives a rate [MHz] in each pixel, shape (n_pixels,) [DAC]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(slope > 0, np.log(rate / rate_at_zero) / slope, np.nan))


def run_dc(products: Mapping[str, Any], parameters: SkyParameters, context: Context) -> dict[str, Product]:
    """Return the rate of photo-electrons of every pixel at every level, and the exponential of each pixel."""
    from firstlight.detectors.digicam.pulse import PulseTemplate

    moments = products["continuous/moments"]
    level = np.asarray(moments.coordinates["level"], dtype=np.float64)
    constants = products["calibration/pixels"].frame

    def column(name: str) -> FloatArray:
        return np.asarray(constants[name].cast(pl.Float64).to_numpy(), dtype=np.float64)[:, None]

    gain, crosstalk = column("peak_gain"), column("crosstalk")
    gain_error, crosstalk_error = (
        np.nan_to_num(column("gain_error")),
        np.nan_to_num(column("crosstalk_error")),
    )
    integral = PulseTemplate.default().integral(1)
    dark = shift_from_rate(np.nan_to_num(column("dark_rate")), gain, crosstalk, integral)
    start = column("baseline") - context.channels.column("reference")[:, None]
    moved = moments.select(quantity="mean") - start
    error = moments.select(quantity="mean_error")
    seen = moments.select(quantity="saturated") < _SATURATED
    circuit = (parameters.resistance, parameters.capacitance)
    rate = rate_from_shift(moved, gain, crosstalk, integral, *circuit) - np.nan_to_num(column("dark_rate"))
    rate = np.where(seen, rate, np.nan)
    step = 1e-4
    slope = (
        rate_from_shift(moved + step, gain, crosstalk, integral, *circuit)
        - rate_from_shift(moved, gain, crosstalk, integral, *circuit)
    ) / step
    whole = rate + np.nan_to_num(column("dark_rate"))
    n = level.size
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.abs(whole) * np.hypot(gain_error / gain, crosstalk_error / (1 - crosstalk))
        factor = 1 / (1 + 1e-3 * whole * circuit[0] * circuit[1] * 1e-6)
    columns = {
        "channel": np.repeat(np.arange(N_PIXELS), n), "level": np.tile(level, N_PIXELS),
        "shift": (moved - dark).ravel(), "shift_error": error.ravel(), "rate": rate.ravel(),
        "rate_error": (error * slope).ravel(), "scale_error": scale.ravel(), "gain_factor": factor.ravel(),
    }  # fmt: skip
    with np.errstate(invalid="ignore"):
        inside = (rate >= parameters.lowest) & (rate <= parameters.highest)
    found = fit_exponentials(level, rate, error * slope, inside)
    sources = {
        "channel": np.arange(N_PIXELS), **found,
        "level_100": level_for_rate(100.0, found["rate_at_zero"], found["slope"]),
    }  # fmt: skip
    return {
        "levels": Table.from_frame(RATES, pl.DataFrame(columns)),
        "pixels": Table.from_frame(SOURCES, pl.DataFrame(sources)),
    }


dc = ProductStep("dc", run_dc, needs=("continuous/moments", "calibration/pixels"), parameters=SkyParameters)
