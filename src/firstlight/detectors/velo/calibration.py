"""From positions to targets and gains, with an error budget whose common part is never averaged away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.velo.channels import N_PIXELS, masked
from firstlight.detectors.velo.options import CalibrationParameters
from firstlight.detectors.velo.selections import selections
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["PIXEL_TABLE", "SELECTION_TABLE", "aligned_curve", "calibration", "pixel_gains"]

_GAIN = "e-/DAC"

PIXEL_TABLE = TableSchema(
    "pixels",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("row", pl.Int16, "row of the pixel"),
        Column("column", pl.Int16, "column of the pixel"),
        Column("baseline", pl.Float64, "baseline", "DAC", nullable=True),
        Column("baseline_error", pl.Float64, "its error, pixel by pixel", "DAC", nullable=True),
        Column("target", pl.Float64, "position less baseline", "DAC", nullable=True),
        Column("target_error", pl.Float64, "its statistical error", "DAC", nullable=True),
        Column("gain", pl.Float64, "electrons of the line over target (K)", _GAIN, nullable=True),
        Column("gain_statistical", pl.Float64, "error from the position", _GAIN, nullable=True),
        Column("gain_baseline", pl.Float64, "error from the baseline, pixel by pixel", _GAIN, nullable=True),
        Column("good", pl.Boolean, "whether the pixel counts in means"),
    ),
    "one pixel",
)
SELECTION_TABLE = TableSchema(
    "selections",
    (
        Column("selection", pl.String, "pixels; all: ASIC, good: ASICgood of the original"),
        Column("n_pixels", pl.Int32, "pixels that are not masked", minimum=0),
        Column("n_good", pl.Int32, "pixels in the means", minimum=0),
        Column("electrons", pl.Float64, "electrons that the line makes", "e-"),
        Column("target_mean", pl.Float64, "mean target of good pixels", "DAC", nullable=True),
        Column("target_spread", pl.Float64, "standard deviation between pixels", "DAC", nullable=True),
        Column("target_mean_error", pl.Float64, "statistical error of the mean", "DAC", nullable=True),
        Column("gain_mean", pl.Float64, "mean gain of good pixels", _GAIN, nullable=True),
        Column("gain_median", pl.Float64, "median gain of good pixels", _GAIN, nullable=True),
        Column("gain_spread", pl.Float64, "standard deviation between pixels", _GAIN, nullable=True),
        Column("gain_mean_error", pl.Float64, "standard deviation over the root of their number", _GAIN, nullable=True),
        Column("gain_statistical", pl.Float64, "error of the mean from the positions", _GAIN, nullable=True),
        Column(
            "gain_baseline", pl.Float64,
            "error of the mean from the baseline, with what all pixels share", _GAIN, nullable=True,
        ),
        Column(
            "gain_common", pl.Float64,
            "error from the energy per pair and of the line: the same for all pixels", _GAIN, nullable=True,
        ),
        Column("baseline_mean", pl.Float64, "mean baseline", "DAC", nullable=True),
        Column("position_asic", pl.Float64, "position of the summed curve", "DAC", nullable=True),
        Column("target_asic", pl.Float64, "position of the summed curve less mean baseline", "DAC", nullable=True),
        Column("target_asic_error", pl.Float64, "its error from the fit", "DAC", nullable=True),
        Column("gain_asic", pl.Float64, "gain of the summed curve", _GAIN, nullable=True),
        Column("gain_asic_error", pl.Float64, "its error from the fit", _GAIN, nullable=True),
        Column(
            "target_aligned", pl.Float64,
            "target of the sum of curves, each shifted by its baseline first", "DAC", nullable=True,
        ),
        Column("target_aligned_error", pl.Float64, "its error from the fit", "DAC", nullable=True),
        Column("width_aligned", pl.Float64, "width of that sum: without the spread of baselines", "DAC", nullable=True),
        Column("gain_aligned", pl.Float64, "gain of that sum", _GAIN, nullable=True),
        Column("gain_aligned_error", pl.Float64, "its error from the fit", _GAIN, nullable=True),
    ),
    "one selection of pixels",
)  # fmt: skip
CURVE_TABLE = TableSchema(
    "aligned",
    (
        Column("selection", pl.String, "pixels that were added up"),
        Column("distance", pl.Int32, "threshold less baseline", "DAC"),
        Column("counts", pl.Int64, "hits", "hits", minimum=0),
        Column("exposure", pl.Float64, "live time times pixels", "s", minimum=0),
        Column("rate", pl.Float64, "mean rate of a pixel", "hits/s", nullable=True),
        Column("rate_error", pl.Float64, "its Poisson error", "hits/s", nullable=True),
        Column("fitted", pl.Float64, "fitted rate", "hits/s", nullable=True),
    ),
    "one distance from the baseline of one selection of pixels",
)


def electrons_of(parameters: CalibrationParameters) -> tuple[float, float]:
    """Return the number of electron-hole pairs of the line, and its relative uncertainty."""
    number = parameters.energy / parameters.energy_per_pair
    relative = np.hypot(
        parameters.energy_per_pair_uncertainty / parameters.energy_per_pair,
        parameters.energy_uncertainty / parameters.energy,
    )
    return number, float(relative)


def pixel_gains(
    position: NDArray[np.float64],
    position_error: NDArray[np.float64],
    baseline: NDArray[np.float64],
    baseline_error: NDArray[np.float64],
    parameters: CalibrationParameters,
    noise_width: NDArray[np.float64] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return target and gain of pixels, with their errors kept apart.

    Parameters
    ----------
    position, position_error : ndarray, shape (n,)
        Position of the edge [DAC].
    baseline, baseline_error : ndarray, shape (n,)
        Baseline [DAC].
    parameters : CalibrationParameters
        Energy of the line, energy per pair.
    noise_width : ndarray, shape (n,), optional
        Width of the noise [DAC]; with ``legacy_uncertainty`` it is added to the error of the target, as the
        original does. The mean of the noise is known twenty times better.

    Returns
    -------
    dict
        ``target``, ``target_error`` [DAC], ``gain``, ``gain_statistical``, ``gain_baseline`` [e-/DAC].
    """
    electrons, _ = electrons_of(parameters)
    with np.errstate(invalid="ignore", divide="ignore"):
        target = position - baseline
        target_error = np.array(position_error)
        if parameters.legacy_uncertainty and noise_width is not None:
            target_error = np.hypot(position_error, noise_width)
        gain = np.where(target > 0, electrons / target, np.nan)
        return {
            "target": target,
            "target_error": target_error,
            "gain": gain,
            "gain_statistical": gain * target_error / target,
            "gain_baseline": gain * baseline_error / target,
        }


def aligned_curve(
    counts: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
    baseline: NDArray[np.float64],
    use: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the sum of curves that were shifted by their baselines, to the nearest DAC.

    Parameters
    ----------
    counts : ndarray, shape (n_thresholds, n_pixels)
        Summed hits.
    thresholds, live_time : ndarray, shape (n_thresholds,)
        In DAC and s.
    baseline : ndarray, shape (n_pixels,)
        In DAC; pixels without one are left out.
    use : ndarray of bool, shape (n_pixels,)
        Pixels that are added up.

    Returns
    -------
    distance : ndarray, shape (n,)
        Threshold less baseline [DAC], every whole number of the range.
    counts : ndarray, shape (n,)
        Hits.
    exposure : ndarray, shape (n,)
        Live time of all pixels that were looked at there [s].
    """
    pixels = np.flatnonzero(use & np.isfinite(baseline))
    if pixels.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    # pixels of one baseline are added first: there are some tens of different ones
    whole = np.rint(baseline[pixels]).astype(np.int64)
    values, inverse, often = np.unique(whole, return_inverse=True, return_counts=True)
    low = int(thresholds.min() - values.max())
    size = int(thresholds.max() - values.min()) - low + 1
    total, exposure = np.zeros(size, dtype=np.int64), np.zeros(size)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(often)
    places = np.rint(thresholds).astype(np.int64)
    for value, number, end in zip(values, often, ends, strict=True):
        members = pixels[order[end - number : end]]
        at = places - value - low
        total[at] += counts[:, members].sum(axis=1, dtype=np.int64)
        exposure[at] += live_time * number
    return np.arange(low, low + size), total, exposure


def run(
    products: Mapping[str, Any], parameters: CalibrationParameters, context: Context
) -> Mapping[str, Product]:
    """Return targets and gains of pixels and of selections of pixels.

    Parameters
    ----------
    products : mapping
        ``scan/counts``, ``scan/points``, ``fit/pixels``, ``fit/selections``, ``baseline/pixels``,
        ``baseline/rules``.
    parameters : CalibrationParameters
        Energy of the line, energy per pair, ranges.
    context : Context
        Its channel map has the mask.
    """
    fitted = products["fit/pixels"]
    base = products["baseline/pixels"]
    baseline, baseline_error = base.array("baseline"), base.array("baseline_error")
    noise_width = context.channels.frame["trim0_width"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    position = fitted.array("position")
    found = pixel_gains(
        position, fitted.array("position_error"), baseline, baseline_error, parameters, noise_width
    )
    low, high = parameters.target_range
    with np.errstate(invalid="ignore"):
        inside = (found["target"] > low) & (found["target"] < high) & (found["gain"] < parameters.gain_limit)
        # a target that is not known to a half says nothing; least squares of the original's kind have some
        inside &= found["target_error"] < 0.5 * found["target"]
    good = fitted.array("good") & inside
    columns = {
        "channel": fitted.array("channel"), "row": fitted.array("row"), "column": fitted.array("column"),
        "baseline": baseline, "baseline_error": baseline_error, **found, "good": good,
    }  # fmt: skip
    mask = masked(context.channels)
    rules = products["baseline/rules"].frame.filter("used")
    common = float(rules["common_error"][0] or 0.0) if rules.height else 0.0
    chosen = selections(good, mask, parameters.legacy_rows)
    curves, aligned = _aligned(products, baseline, chosen)
    rows = [
        _selection(name, use, columns, products["fit/selections"].frame, aligned[name], parameters, common)
        for name, use in chosen.items()
    ]
    return {
        "pixels": Table.from_frame(PIXEL_TABLE, pl.DataFrame(columns)),
        "selections": Table.from_rows(SELECTION_TABLE, rows),
        "aligned": Table.from_frame(CURVE_TABLE, curves),
    }


def _aligned(
    products: Mapping[str, Any],
    baseline: NDArray[np.float64],
    chosen: Mapping[str, NDArray[np.bool_]],
) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Return the aligned curves of all selections, and position and width of each."""
    from firstlight.fit import fit_many

    cube = products["scan/counts"]
    thresholds = np.asarray(cube.coordinates["threshold"], dtype=np.float64)
    live_time = products["scan/points"].array("live_time")
    counts = cube.values.reshape(thresholds.size, -1)
    frames = [pl.DataFrame(schema=CURVE_TABLE.dtypes)]
    results: dict[str, dict[str, float]] = {}
    for name, use in chosen.items():
        results[name] = {}
        distance, total, exposure = aligned_curve(counts, thresholds, live_time, baseline, use)
        looked_at = exposure > 0.02 * exposure.max(initial=0.0)
        if total.sum() < 100 or looked_at.sum() < 8:
            continue
        distance, total, exposure = distance[looked_at], total[looked_at], exposure[looked_at]
        result = fit_many(total, distance.astype(float), "photopeak_background", exposure=exposure)
        scale = np.sqrt(max(result.deviance[0] / max(result.ndf[0], 1), 1.0))
        results[name] = {
            "target": float(result.value("position")[0]),
            "error": float(result.error("position")[0] * scale),
            "width": float(result.value("width")[0]),
        }
        columns = {
            "selection": [name] * distance.size, "distance": distance, "counts": total, "exposure": exposure,
            "rate": total / exposure, "rate_error": np.sqrt(total) / exposure,
            "fitted": result.expected()[0] / exposure,
        }  # fmt: skip
        frames.append(pl.DataFrame(columns, schema=CURVE_TABLE.dtypes))
    return pl.concat(frames), results


def _selection(
    name: str,
    use: NDArray[np.bool_],
    columns: Mapping[str, NDArray[Any]],
    fits: pl.DataFrame,
    aligned: Mapping[str, float],
    parameters: CalibrationParameters,
    common_baseline: float,
) -> dict[str, Any]:
    """Return the row of one selection."""
    electrons, relative = electrons_of(parameters)
    good = use & columns["good"]
    number = int(good.sum())
    row: dict[str, Any] = {
        "selection": name, "n_pixels": int(use.sum()), "n_good": number, "electrons": electrons
    }  # fmt: skip
    baseline = columns["baseline"][use]
    row["baseline_mean"] = _mean(baseline[np.isfinite(baseline)])
    if number:
        gain, target = columns["gain"][good], columns["target"][good]
        errors = columns["gain_baseline"][good]
        shared = float(np.mean(gain / target)) * common_baseline
        row |= {
            "target_mean": float(target.mean()), "target_spread": float(target.std()),
            "target_mean_error": float(np.sqrt(np.sum(columns["target_error"][good] ** 2)) / number),
            # a mean weighted with 1/u^2 is low: u grows as the square of the gain
            "gain_mean": float(gain.mean()), "gain_median": float(np.median(gain)),
            "gain_spread": float(gain.std()), "gain_mean_error": float(gain.std() / np.sqrt(number)),
            "gain_statistical": float(np.sqrt(np.sum(columns["gain_statistical"][good] ** 2)) / number),
            "gain_baseline": float(np.hypot(np.sqrt(np.nansum(errors**2)) / number, shared)),
            "gain_common": float(gain.mean() * relative),
        }  # fmt: skip
    own = fits.filter((pl.col("selection") == name) & pl.col("parameter").is_in(["position", "E0"]))
    if own.height and row["baseline_mean"] is not None and own["value"][0] is not None:
        target = own["value"][0] - row["baseline_mean"]
        row |= {
            "position_asic": own["value"][0],
            "target_asic": target,
            "target_asic_error": own["uncertainty"][0],
        }
        row |= _gain("asic", target, own["uncertainty"][0], electrons)
    if aligned:
        row |= {
            "target_aligned": aligned["target"], "target_aligned_error": aligned["error"],
            "width_aligned": aligned["width"],
        }  # fmt: skip
        row |= _gain("aligned", aligned["target"], aligned["error"], electrons)
    return {column: row.get(column) for column in SELECTION_TABLE.names}


def _gain(name: str, target: float, error: float | None, electrons: float) -> dict[str, float | None]:
    if not target > 0:
        return {}
    spread = None if error is None else electrons / target**2 * error
    return {f"gain_{name}": electrons / target, f"gain_{name}_error": spread}


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


calibration = ProductStep(
    "calibration",
    run,
    needs=(
        "scan/counts", "scan/points", "fit/pixels", "fit/selections", "baseline/pixels", "baseline/rules",
    ),
    parameters=CalibrationParameters,
)  # fmt: skip
