"""The calibration of the camera: one row a pixel, with what is wrong with it.

A number is taken from the fit that tells it best; where it comes from stands beside it. Crosstalk is the mean number of
avalanches that an avalanche starts (Borel's parameter), and that is written with the number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.counting import SAMPLE_PERIOD
from firstlight.detectors.digicam.options import CalibrationParameters, light_parameters
from firstlight.steps.spread import robust_spread
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["FLAGS", "PIXELS", "calibrate", "calibration"]

FLAGS = {
    "dead": "samples do not vary",
    "noisy": "noise far above that of the camera",
    "saturated": "samples at the end of the ADC",
    "no_pulses": "no dark counts with high voltage on",
    "unlit": "the light source does not light it, or no light is seen",
    "few_entries": "too few entries for a fit",
    "not_converged": "a fit did not converge",
    "at_limit": "a parameter at the limit of its range",
    "bad_fit": "the model does not describe the spectrum",
    "outlier": "a value far from those of the other pixels",
}
_BITS = {name: 1 << place for place, name in enumerate(FLAGS)}
# by name: product, column, its unit, what it is; the first product that has it gives it
_TAKEN: dict[str, tuple[tuple[str, str], ...]] = {
    "baseline": (("dark/pixels", "baseline"), ("hv_off/pixels", "baseline"), ("gain/pixels", "baseline")),
    "electronics_noise": (
        ("hv_off/pixels", "electronics_noise"), ("dark/pixels", "electronics_noise"),
        ("gain/pixels", "electronics_noise"),
    ),
    "gain": (("gain/pixels", "gain"), ("dark/pixels", "gain")),
    "gain_smearing": (("gain/pixels", "gain_smearing"), ("dark/pixels", "gain_smearing")),
    "crosstalk": (("gain/pixels", "crosstalk"), ("dark/pixels", "crosstalk")),
    "dark_rate": (("dark/pixels", "rate"),),
}  # fmt: skip
_MEANING = {
    "baseline": ("value of a sample without pulses", "LSB"),
    "electronics_noise": ("standard deviation of a sample without pulses", "LSB"),
    "gain": ("charge of an avalanche", "LSB/p.e."),
    "gain_smearing": ("standard deviation of the charge of an avalanche", "LSB"),
    "crosstalk": ("mean number of avalanches that an avalanche starts", ""),
    "dark_rate": ("rate of dark counts", "MHz"),
}


def _columns() -> tuple[Column, ...]:
    columns = [Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1)]
    for name, (meaning, unit) in _MEANING.items():
        columns += [
            Column(name, pl.Float64, meaning, unit, nullable=True),
            Column(f"{name}_error", pl.Float64, f"standard error of {name}", unit, nullable=True),
            Column(f"{name}_from", pl.String, f"fit that {name} is from"),
        ]
    columns += [
        Column("peak_gain", pl.Float64, "height of the pulse of an avalanche at its maximum", "LSB/p.e.", nullable=True),
        Column("crosstalk_probability", pl.Float64, "probability of crosstalk of an avalanche: 1 - exp(-crosstalk)", nullable=True),
        Column("time", pl.Float64, "time of the light after the first sample", "ns", nullable=True),
        Column("time_error", pl.Float64, "standard error of time", "ns", nullable=True),
        Column("brightest", pl.Float64, "light at the highest level", "p.e.", nullable=True),
        Column("p_value", pl.Float64, "smallest p-value of its fits", nullable=True),
        Column("deviance", pl.Float64, "deviance of the fit that the gain is from", nullable=True),
        Column("ndf", pl.Int64, "its degrees of freedom", nullable=True),
        Column("status", pl.String, "how that fit ended"),
        Column("flags", pl.String, "what is wrong, separated by commas"),
        Column("flag_bits", pl.Int32, "the same as bits: " + ", ".join(f"{bit} {name}" for name, bit in _BITS.items())),
        Column("good", pl.Boolean, "whether the constants can be used"),
    ]  # fmt: skip
    return tuple(columns)


PIXELS = TableSchema("calibration", _columns(), "one pixel")
_ENOUGH_PULSES = 20  # of a typical pixel, to tell a silent one from an unlucky one
_SILENT = 0.2  # of the pulses of a typical pixel
# with one of these the constants of a pixel are not to be used; the others are remarks
_FATAL = ("dead", "noisy", "no_pulses", "not_converged", "few_entries", "outlier")


def _taken(products: Mapping[str, Any], name: str) -> tuple[FloatArray, FloatArray, NDArray[Any]]:
    """Return value, error and origin of a constant: of each pixel from the first fit that has it."""
    value, error = np.full(N_PIXELS, np.nan), np.full(N_PIXELS, np.nan)
    origin = np.full(N_PIXELS, "", dtype=object)
    for product, column in _TAKEN[name]:
        table = products.get(product)
        if table is None:
            continue
        frame = table.frame
        own = frame[column].cast(pl.Float64).to_numpy()
        own_error = frame[f"{column}_error"].cast(pl.Float64).to_numpy()
        new = np.isnan(value) & np.isfinite(own) & frame["status"].is_in(["ok", "at_bound"]).to_numpy()
        value[new], error[new], origin[new] = own[new], own_error[new], product.split("/")[0]
    return value, error, origin


def outliers(values: FloatArray, limit: float) -> NDArray[np.bool_]:
    """Return which values are far from the median of the camera, in robust standard deviations."""
    known = np.isfinite(values)
    if np.count_nonzero(known) < 20:
        return np.zeros(values.shape, dtype=bool)
    middle = np.median(values[known])
    # (values that are all the same have no spread: a thousandth of them is none)
    spread = max(robust_spread(values[known]), 1e-3 * abs(middle))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(values - middle) > limit * spread)


def calibrate(
    products: Mapping[str, Any], parameters: CalibrationParameters, context: Context
) -> dict[str, Product]:
    """Return the constants of all pixels, with flags; nothing where no spectrum was fitted."""
    fits = [
        products[name].frame for name in ("gain/pixels", "dark/pixels", "hv_off/pixels") if name in products
    ]
    if not fits:
        return {}
    found: dict[str, Any] = {"channel": np.arange(N_PIXELS)}
    for name in _TAKEN:
        found[name], found[f"{name}_error"], found[f"{name}_from"] = _taken(products, name)
    times = products.get("timing/pixels")
    for name in ("time", "time_error"):
        found[name] = (
            np.full(N_PIXELS, np.nan) if times is None else times.frame[name].cast(pl.Float64).to_numpy()
        )
    found["brightest"] = _brightest(products)
    fits = [
        products[name].frame for name in ("gain/pixels", "dark/pixels", "hv_off/pixels") if name in products
    ]
    p_values = [frame["p_value"].cast(pl.Float64).to_numpy() for frame in fits]
    found["p_value"] = np.fmin.reduce(p_values)
    for name in ("deviance", "ndf", "status"):
        found[name] = fits[0][name]
    flags = _flags(found, fits, products, parameters, context)
    # a spectrum without pulses tells nothing but baseline and noise, whatever a fit says
    without = flags["dead"] | flags["no_pulses"]
    for name in ("gain", "gain_smearing", "crosstalk", "dark_rate"):
        for column in (name, f"{name}_error"):
            found[column] = np.where(without, np.nan, found[column])
        found[f"{name}_from"] = np.where(without, "", found[f"{name}_from"])
    found["crosstalk_probability"] = 1 - np.exp(-found["crosstalk"])
    found["peak_gain"] = found["gain"] / _seen_height(found, products, context)
    words = np.stack(list(flags.values()), axis=1)
    names = np.array(list(flags), dtype=object)
    found["flags"] = [",".join(names[row]) for row in words]
    found["flag_bits"] = words @ np.array([_BITS[name] for name in flags])
    found["good"] = ~np.any([flags[name] for name in _FATAL], axis=0) & np.isfinite(found["baseline"])
    table = Table.from_frame(PIXELS, pl.DataFrame(found))
    from firstlight.detectors.digicam.overview import camera_numbers, flagged_pixels
    from firstlight.detectors.digicam.scene import Scene

    scene = Scene({**products, "calibration/pixels": table}, context)
    return {"pixels": table, "camera": camera_numbers(scene), "flagged": flagged_pixels(scene)}


def _seen_height(found: Mapping[str, Any], products: Mapping[str, Any], context: Context) -> FloatArray:
    """Return how high the pulse is where it is measured, relative to its maximum; 1 but for a fixed sample of flashes.

    The gain of a fixed sample is that of a pulse a little before or after its maximum, by the phase of the pixel.
    """
    from firstlight.detectors.digicam.pulse import PulseTemplate

    light = light_parameters(context.options)
    height = np.ones(N_PIXELS)
    of_flashes = found["gain_from"] == "gain"
    if light.n_samples > 1:
        height[of_flashes] = PulseTemplate.default().windowed(light.n_samples).scale
    elif light.extractor == "fixed_max" and "timing/pixels" in products:
        shape = PulseTemplate.default()
        at = SAMPLE_PERIOD * context.channels.column("light_sample") - found["time"] + shape.peak_time
        seen = shape.at(np.nan_to_num(at))
        known = of_flashes & np.isfinite(at) & (seen > 0.3)
        height[known] = seen[known]
    return height


def _brightest(products: Mapping[str, Any]) -> FloatArray:
    table = products.get("levels/light")
    if table is None:
        return np.full(N_PIXELS, np.nan)
    frame = table.frame.filter(pl.col("level") == pl.col("level").max()).sort("channel")
    return np.asarray(frame["photo_electrons"].cast(pl.Float64).to_numpy())


def _flags(
    found: Mapping[str, Any],
    fits: list[pl.DataFrame],
    products: Mapping[str, Any],
    parameters: CalibrationParameters,
    context: Context,
) -> dict[str, NDArray[np.bool_]]:
    """Return which pixels have which flag, in the order of `FLAGS`."""
    widths, saturated = _samples(products)
    statuses = [frame["status"].to_numpy() for frame in fits]
    none = np.zeros(N_PIXELS, dtype=bool)

    def any_status(*names: str) -> NDArray[np.bool_]:
        return np.any([np.isin(status, names) for status in statuses], axis=0) if statuses else none

    noise = found["electronics_noise"]
    with np.errstate(invalid="ignore"):
        dead = np.nan_to_num(widths, nan=np.inf) < parameters.dead_width
        noisy = noise > parameters.noisy_ratio * np.nanmedian(noise) if np.isfinite(noise).any() else none
        silent = none
        if "pulses/pixels" in products:
            # pulses are counted without a fit, which finds some rate in any noise
            pulses = products["pulses/pixels"].frame["n_pulses"].cast(pl.Float64).to_numpy()
            usual = float(np.median(pulses[~dead])) if (~dead).any() else 0.0
            silent = (pulses < _SILENT * usual) & (usual >= _ENOUGH_PULSES)
        unlit = ~context.channels.column("lit").astype(bool)
        if "levels/light" in products:
            unlit |= ~(found["brightest"] > 0.1 * np.nanmedian(found["brightest"][~unlit]))
    far = np.zeros(N_PIXELS, dtype=bool)
    for name in ("gain", "crosstalk", "electronics_noise", "dark_rate"):
        # who is dark has a spectrum of dark counts, which tells little: it must not widen the cuts of the others
        far |= outliers(np.where(dead | silent | unlit, np.nan, found[name]), parameters.outlier)
    # (a spectrum of a pixel without pulses tells neither gain nor crosstalk)
    open_ = any_status("not_constrained", "max_iter", "failed") & ~dead & ~silent & ~unlit
    with np.errstate(invalid="ignore"):
        bad = found["p_value"] < parameters.smallest_p_value
    return {
        "dead": dead,
        "noisy": noisy & ~dead,
        "saturated": saturated,
        "no_pulses": silent & ~dead,
        "unlit": unlit & ~dead,
        "few_entries": any_status("no_data") & ~dead & ~silent & ~unlit,
        "not_converged": open_,
        "at_limit": any_status("at_bound") & ~dead & ~silent,
        "bad_fit": bad & ~dead,
        "outlier": far,
    }


def _samples(products: Mapping[str, Any]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the smallest width of the samples of each pixel in any kind of run [LSB], and which pixels saturate."""
    widths, saturated = [], np.zeros(N_PIXELS, dtype=bool)
    for name in ("samples/hv_off", "samples/dark"):
        if name not in products:
            continue
        cube = products[name]
        counts, centres = cube.values, cube.axes[1].centers
        total = np.maximum(counts.sum(axis=1), 1)
        mean = counts @ centres / total
        widths.append(np.sqrt(np.maximum(counts @ centres**2 / total - mean**2, 0)))
        saturated |= cube.counts[:, -1] > 0
    return (np.min(widths, axis=0) if widths else np.full(N_PIXELS, np.nan)), saturated


calibration = ProductStep(
    "calibration",
    calibrate,
    uses=(
        "samples/hv_off", "samples/dark", "pulses/pixels", "hv_off/pixels", "dark/pixels", "gain/pixels",
        "levels/light", "timing/pixels",
    ),
    parameters=CalibrationParameters,
)  # fmt: skip
