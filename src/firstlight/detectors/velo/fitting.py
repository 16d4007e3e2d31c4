"""Fits of every pixel and of selections of pixels, and what each fit is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.detectors.velo import flags
from firstlight.detectors.velo.channels import N_PIXELS, masked
from firstlight.detectors.velo.legacy_fit import fit_as_original, legacy_fit_type
from firstlight.detectors.velo.models import Equation, equation
from firstlight.detectors.velo.options import FitParameters
from firstlight.detectors.velo.selections import selections
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.fit import FitResult

__all__ = [
    "CURVE_TABLE",
    "PIXEL_TABLE",
    "SELECTION_TABLE",
    "PixelFits",
    "fit",
    "fit_pixels",
    "fit_selections",
]

_RATE, _SLOPE = "hits/s", "hits/s/DAC"
_UNITS = {"y": _RATE, "y/x": _SLOPE, "x": "DAC", "": ""}
_PARAMETERS = {
    "step": ("height of the step: rate of the photo-peak (N)", _RATE),
    "slope": ("slope below the peak: rate of charge sharing (C)", _SLOPE),
    "width": ("Gaussian width of the edge (sigma)", "DAC"),
    "position": ("position of the edge (E0)", "DAC"),
    "background": ("constant rate", _RATE),
}


def _pixel_columns() -> tuple[Column, ...]:
    columns = [
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("row", pl.Int16, "row of the pixel"),
        Column("column", pl.Int16, "column of the pixel"),
        Column("masked", pl.Boolean, "taken out by the mask"),
        Column("counts", pl.Int64, "hits in all good frames", "hits", nullable=True),
    ]
    for name, (text, unit) in _PARAMETERS.items():
        columns.append(Column(name, pl.Float64, text, unit, nullable=True))
        columns.append(Column(f"{name}_error", pl.Float64, f"standard error of {name}", unit, nullable=True))
    columns += [
        Column("deviance", pl.Float64, "Poisson deviance at the minimum (chi2 in a fit of the original's kind)", nullable=True),
        Column("ndf", pl.Int32, "points used less parameters fitted", nullable=True),
        Column("p_value", pl.Float64, "probability of a worse fit, calibrated", nullable=True),
        Column("status", pl.String, "how the fit ended", nullable=True),
        Column("rung", pl.String, "start from which it ended there", nullable=True),
        Column("iterations", pl.Int32, "steps of the fit", nullable=True),
        Column("flags", pl.UInt32, "bit field, see firstlight.detectors.velo.flags"),
        Column("good", pl.Boolean, "whether the pixel counts in means"),
        Column("fit_type", pl.Int8, "1 good, 0 bad, -1 no convergence, -2 too few hits (codes of the original)", nullable=True),
        Column("fixed_fit_type", pl.Int8, "the same for the curve of all good pixels, times an amplitude", nullable=True),
    ]  # fmt: skip
    return tuple(columns)


PIXEL_TABLE = TableSchema("pixels", _pixel_columns(), "one pixel")
SELECTION_TABLE = TableSchema(
    "selections",
    (
        Column("selection", pl.String, "pixels that were added up; all: ASIC, good: ASICgood of the original"),
        Column("parameter", pl.String, "parameter of the flux equation"),
        Column("value", pl.Float64, "fitted value", nullable=True),
        Column(
            "uncertainty", pl.Float64,
            "standard error, times the square root of deviance / ndf where that is above 1", nullable=True,
        ),
        Column("unit", pl.String, "unit of both"),
        Column("deviance", pl.Float64, "at the minimum", nullable=True),
        Column("ndf", pl.Int32, "points less parameters", nullable=True),
        Column("status", pl.String, "how the fit ended"),
    ),
    "one parameter of the curve of one selection of pixels",
)  # fmt: skip
CURVE_TABLE = TableSchema(
    "curves",
    (
        Column("selection", pl.String, "pixels that were added up"),
        Column("threshold", pl.Int32, "threshold", "DAC"),
        Column("n_pixels", pl.Int32, "pixels in the sum", minimum=0),
        Column("counts", pl.Int64, "hits", "hits", minimum=0),
        Column("rate", pl.Float64, "mean rate of a pixel", _RATE, nullable=True),
        Column("rate_error", pl.Float64, "its Poisson error", _RATE, nullable=True),
        Column(
            "rate_error_empirical", pl.Float64,
            "its standard error from the spread of acquisitions (all pixels only)", _RATE, nullable=True,
        ),
        Column("fitted", pl.Float64, "fitted rate", _RATE, nullable=True),
    ),
    "one threshold of one selection of pixels",
)  # fmt: skip


@dataclass(frozen=True)
class PixelFits:
    """Fits of all pixels; NaN and None where a pixel was not fitted.

    Parameters
    ----------
    equation : Equation
        The flux equation.
    values, errors : ndarray, shape (65536, n_parameters)
        Of the parameters that are reported.
    covariance : ndarray, shape (65536, n_parameters, n_parameters)
        Of the parameters that were fitted.
    deviance, p_value : ndarray, shape (65536,)
        Goodness of fit.
    ndf, status, rung, iterations : ndarray, shape (65536,)
        As of `firstlight.fit.FitResult`; status is -1 where a pixel was not fitted.
    """

    equation: Equation
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    covariance: NDArray[np.float64]
    deviance: NDArray[np.float64]
    p_value: NDArray[np.float64]
    ndf: NDArray[np.int64]
    status: NDArray[np.int8]
    rung: NDArray[np.int8]
    iterations: NDArray[np.int64]

    @classmethod
    def empty(cls, wanted: Equation) -> PixelFits:
        """Return fits of which none has been made."""
        n_parameters = len(wanted.reported)
        return cls(
            wanted,
            np.full((N_PIXELS, n_parameters), np.nan),
            np.full((N_PIXELS, n_parameters), np.nan),
            np.full((N_PIXELS, n_parameters, n_parameters), np.nan),
            np.full(N_PIXELS, np.nan),
            np.full(N_PIXELS, np.nan),
            np.full(N_PIXELS, -1),
            np.full(N_PIXELS, -1, dtype=np.int8),
            np.full(N_PIXELS, -1, dtype=np.int8),
            np.full(N_PIXELS, -1),
        )

    def value(self, name: str) -> NDArray[np.float64]:
        """Return a reported parameter of all pixels; the position and the width under the author's names too."""
        return self.values[:, self.index(name)]

    def error(self, name: str) -> NDArray[np.float64]:
        """Return the standard errors of a reported parameter; NaN where the data do not tell it."""
        return self.errors[:, self.index(name)]

    def index(self, name: str) -> int:
        """Return the place of a reported parameter, the position and the width under the author's names too."""
        names = list(self.equation.reported)
        alias = {"position": "E0", "width": "s"}.get(name, name)
        return names.index(name if name in names else alias)


def fit_pixels(
    counts: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
    use: NDArray[np.bool_],
    parameters: FitParameters,
    baseline: NDArray[np.float64] | None = None,
) -> PixelFits:
    """Fit the flux equation to every pixel.

    Parameters
    ----------
    counts : ndarray, shape (n_thresholds, 65536)
        Summed hits.
    thresholds : ndarray, shape (n_thresholds,)
        In DAC.
    live_time : ndarray, shape (n_thresholds,)
        In s; a threshold of live time 0 is not used.
    use : ndarray of bool, shape (65536,)
        Pixels that are fitted.
    parameters : FitParameters
        Equation, estimator, start values.
    baseline : ndarray, shape (65536,), optional
        In DAC; needed for an equation of several lines, whose distances are counted from there.

    Returns
    -------
    PixelFits
    """
    wanted = equation(parameters.model)
    channels = np.flatnonzero(use)
    shift = None
    if wanted.name == "two_line" or parameters.baseline == "before":
        if baseline is None:
            baseline = np.full(N_PIXELS, np.nan)
        channels = channels[np.isfinite(baseline[channels])]
        shift = baseline[channels]
    own = np.ascontiguousarray(counts.T[channels])
    whole = PixelFits.empty(wanted)
    if parameters.estimator == "legacy":
        old = fit_as_original(own, thresholds, live_time, wanted, parameters, shift)
        whole.values[channels], whole.errors[channels] = old.values, old.errors
        whole.deviance[channels], whole.p_value[channels] = old.chi2, old.p_value
        whole.ndf[channels], whole.iterations[channels] = old.ndf, old.iterations
        whole.status[channels], whole.rung[channels] = old.status, 0
        return whole
    result = _fit(own, thresholds, live_time, wanted, parameters, shift)
    values, errors = wanted.report(result.values, result.covariance)
    if shift is not None:
        # the position is told as a threshold, as it is for every other equation
        values[:, whole.index("position")] += shift
    whole.values[channels], whole.errors[channels] = values, errors
    whole.covariance[channels] = result.covariance
    whole.deviance[channels], whole.p_value[channels] = result.deviance, result.p_value
    whole.ndf[channels], whole.iterations[channels] = result.ndf, result.iterations
    whole.status[channels], whole.rung[channels] = result.status, result.rung
    return whole


def _fit(
    counts: NDArray[Any],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
    wanted: Equation,
    parameters: FitParameters,
    shift: NDArray[np.float64] | None = None,
) -> FitResult:
    """Return Poisson fits of some curves, one a row; live time is that of a row."""
    from firstlight.fit import fit_many

    model = wanted.model
    if wanted.name == "two_line":
        energy = np.array([line.energy for line in parameters.lines])
        weight = np.array([line.weight for line in parameters.lines])
        model = model.with_constants(
            np.stack([energy / energy[0], weight / weight.sum()], axis=1).ravel().tolist()
        )
    start = None
    given = parameters.start if shift is None else parameters.start_baseline
    if given:
        start = wanted.starts(given)
    elif model.start is None:
        # forms of the original have no start of their own; the physical one is close to all of them
        near = fit_many(counts, thresholds, "photopeak", exposure=live_time, shift=shift).values
        start = _near(near, model.names)
    return fit_many(counts, thresholds, model, exposure=live_time, start=start, shift=shift)


def _near(physical: NDArray[np.float64], names: list[str]) -> NDArray[np.float64]:
    """Return start values for a form of the original from fits of the physical equation."""
    step, slope, width, position = physical.T
    known = {
        "linear": np.maximum(slope, 1e-6) / 2, "step_half": np.maximum(step, 1e-6) / 2, "width": width,
        "width_2": width, "position": position,
    }  # fmt: skip
    return np.stack([known[name] for name in names], axis=1)


def fit_amplitudes(
    counts: NDArray[np.int32],
    live_time: NDArray[np.float64],
    use: NDArray[np.bool_],
    curve: NDArray[np.float64],
    parameters: FitParameters,
) -> NDArray[np.int8]:
    """Fit one curve to every pixel with nothing free but its height, and return the original's codes.

    Pixels differ in position, so that few fit where there are many hits.

    Parameters
    ----------
    counts : ndarray, shape (n_thresholds, 65536)
        Summed hits.
    live_time : ndarray, shape (n_thresholds,)
        In s.
    use : ndarray of bool, shape (65536,)
        Pixels that are fitted.
    curve : ndarray, shape (n_thresholds,)
        Rate of a mean pixel [hits/s]; NaN or 0 where there is none.
    parameters : FitParameters
        Its significance says which fits are bad.

    Returns
    -------
    ndarray of int8, shape (65536,)
        1 good, 0 bad, -1 no convergence, -2 not fitted.
    """
    from firstlight.fit import Status, fit_many
    from firstlight.fit.models.template import make_template

    found = np.full(N_PIXELS, -2, dtype=np.int8)
    usable = np.isfinite(curve) & (curve > 0) & (live_time > 0)
    channels = np.flatnonzero(use)
    if usable.sum() < 2 or not channels.size:
        return found
    own = np.ascontiguousarray(counts[usable].T[channels])
    place = np.arange(int(usable.sum()), dtype=np.float64)
    result = fit_many(own, place, make_template(curve[usable]), exposure=live_time[usable], rescue=False)
    limit = 0.05 if parameters.estimator == "legacy" else parameters.significance
    fits = result.status == Status.ok
    found[channels] = np.where(fits, result.p_value >= limit, -1)
    return found


def _best_curve(names: list[str], result: FitResult) -> NDArray[np.float64]:
    """Return the fitted rate of a mean pixel: of the good pixels, or of all where none is good."""
    index = names.index("good") if result.total[names.index("good")] > 0 else names.index("all")
    expected = result.expected()[index]
    exposure = np.broadcast_to(result.data.exposure, result.data.counts.shape)[index]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(expected / exposure)


def summed_equation(parameters: FitParameters) -> Equation:
    """Return the equation of sums of pixels: that of a pixel, where it is a physical one with a constant rate.

    Forty noisy pixels among 65,536 would draw the position of the sum by several DAC.
    """
    physical = {"physical", "physical_background", "two_line"}
    return equation("physical_background" if parameters.model in physical else parameters.model)


def fit_selections(
    counts: NDArray[np.int64],
    n_pixels: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    live_time: NDArray[np.float64],
    parameters: FitParameters,
) -> tuple[NDArray[np.float64], NDArray[np.float64], FitResult]:
    """Fit the summed curves of some selections of pixels.

    Parameters
    ----------
    counts : ndarray, shape (n_selections, n_thresholds)
        Summed hits.
    n_pixels : ndarray, shape (n_selections,)
        Pixels in each sum.
    thresholds, live_time : ndarray, shape (n_thresholds,)
        In DAC and s.
    parameters : FitParameters
        Which equation.

    Returns
    -------
    values, errors : ndarray, shape (n_selections, n_parameters)
        Reported parameters; amplitudes are those of a mean pixel. The curve of many pixels is no curve of one
        pixel, so errors are enlarged by the square root of deviance / ndf.
    result : FitResult
        The fit.
    """
    wanted = summed_equation(parameters)
    exposure = live_time[None, :] * np.maximum(n_pixels, 1)[:, None]
    result = _fit(counts, thresholds, exposure, wanted, parameters)
    values, errors = wanted.report(result.values, result.covariance)
    scale = np.sqrt(np.maximum(result.deviance / np.maximum(result.ndf, 1), 1.0))
    return values, errors * scale[:, None], result


def run(products: Mapping[str, Any], parameters: FitParameters, context: Context) -> Mapping[str, Product]:
    """Fit all pixels of a scan, say what each is worth, and fit sums of pixels.

    Parameters
    ----------
    products : mapping
        ``scan/counts``, ``scan/points``, ``scan/pixels``, ``baseline/pixels``.
    parameters : FitParameters
        Equation, estimator, limits.
    context : Context
        Its channel map has the mask.
    """
    cube = products["scan/counts"]
    thresholds = np.asarray(cube.coordinates["threshold"], dtype=np.float64)
    live_time = products["scan/points"].array("live_time")
    counts = cube.values.reshape(thresholds.size, -1)
    mask = masked(context.channels)
    total = products["scan/pixels"].array("counts")
    baseline = products["baseline/pixels"].array("baseline")
    # the original has another rule for too few hits, its share of zeros
    few = total < (1 if parameters.estimator == "legacy" else parameters.minimum_counts)
    use = ~mask & ~few
    fits = fit_pixels(counts, thresholds, live_time, use, parameters, baseline)
    bits = flags.judge(
        flags.Evidence(
            counts, thresholds, live_time, mask, products["scan/pixels"].array("n_saturated"), baseline
        ),
        fits,
        parameters,
    )
    if parameters.estimator == "legacy":
        kinds = legacy_fit_type(fits.values, fits.deviance, fits.ndf, fits.status)
        good = (kinds == 1) & ~mask
    else:
        good = flags.is_good(bits)
        kinds = flags.fit_type(bits, fits)
    chosen = selections(good, mask, parameters.legacy_rows)
    sums = np.stack([counts[:, use_].sum(axis=1, dtype=np.int64) for use_ in chosen.values()])
    n_pixels = np.array([use_.sum() for use_ in chosen.values()])
    values, errors, result = fit_selections(sums, n_pixels, thresholds, live_time, parameters)
    fixed = fit_amplitudes(counts, live_time, use, _best_curve(list(chosen), result), parameters)
    pixels = _pixels(fits, bits, good, kinds, fixed, mask, total, context)
    description = "covariance of the fitted parameters"
    names = fits.equation.model.names
    return {
        "pixels": pixels,
        "covariance": Block(
            fits.covariance.astype(np.float32),
            ("channel", "parameter", "other_parameter"),
            "",
            description,
            {"parameter": names, "other_parameter": names},
        ),
        "selections": _selections(list(chosen), values, errors, result, parameters),
        "curves": _curves(list(chosen), sums, n_pixels, products["scan/points"], result),
    }


def _pixels(
    fits: PixelFits,
    bits: NDArray[np.uint32],
    good: NDArray[np.bool_],
    kinds: NDArray[np.int8],
    fixed: NDArray[np.int8],
    mask: NDArray[np.bool_],
    total: NDArray[np.int64],
    context: Context,
) -> Table:
    """Return the table of pixels; what was not measured is null, never 0."""
    from firstlight.fit import Rung, Status

    fitted = fits.status >= 0
    columns: dict[str, Any] = {
        "channel": np.arange(N_PIXELS),
        "row": context.channels.column("row"),
        "column": context.channels.column("col"),
        "masked": mask,
        "counts": pl.Series(total).set(pl.Series(mask), None),
        "deviance": fits.deviance,
        "ndf": pl.Series(fits.ndf).set(pl.Series(~fitted), None),
        "p_value": fits.p_value,
        "status": [Status(code).name if code >= 0 else None for code in fits.status.tolist()],
        "rung": [Rung(code).name if code >= 0 else None for code in fits.rung.tolist()],
        "iterations": pl.Series(fits.iterations).set(pl.Series(~fitted), None),
        "flags": bits,
        "good": good,
        "fit_type": pl.Series(kinds).set(pl.Series(mask), None),
        "fixed_fit_type": pl.Series(fixed).set(pl.Series(mask), None),
    }
    names = list(fits.equation.reported)
    aliases = {"E0": "position", "s": "width"}
    extra = []
    for index, name in enumerate(names):
        column = aliases.get(name, name)
        if column not in _PARAMETERS:
            text = f"parameter {name} of the flux equation {fits.equation.name}"
            extra += [
                Column(column, pl.Float64, text, "", nullable=True),
                Column(f"{column}_error", pl.Float64, f"standard error of {name}", "", nullable=True),
            ]
        columns[column] = fits.values[:, index]
        columns[f"{column}_error"] = fits.errors[:, index]
    known = [column for column in PIXEL_TABLE.columns if column.name in columns]
    schema = TableSchema("pixels", (*known, *extra), "one pixel")
    return Table.from_frame(
        schema, pl.DataFrame({column.name: columns[column.name] for column in schema.columns})
    )


def _selections(
    names: list[str],
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    result: FitResult,
    parameters: FitParameters,
) -> Table:
    from firstlight.fit import Status

    wanted = summed_equation(parameters)
    units = _units(wanted)
    rows = []
    for index, name in enumerate(names):
        for place, parameter in enumerate(wanted.reported):
            rows.append(
                {
                    "selection": name,
                    "parameter": parameter,
                    "value": values[index, place],
                    "uncertainty": errors[index, place],
                    "unit": units[place],
                    "deviance": result.deviance[index],
                    "ndf": int(result.ndf[index]),
                    "status": Status(int(result.status[index])).name,
                }
            )
    return Table.from_rows(SELECTION_TABLE, rows)


def _units(wanted: Equation) -> list[str]:
    known = {name: unit for name, (_, unit) in _PARAMETERS.items()} | {
        "s": "DAC",
        "s2": "DAC",
        "E0": "DAC",
        "f": "",
    }
    if wanted.kind == "fraction":
        known["A"] = _SLOPE
    elif wanted.kind in {"amplitudes", "halves"}:
        known.update(A=_SLOPE, B=_SLOPE)
    return [known.get(name, _RATE) for name in wanted.reported]


def _curves(
    names: list[str],
    sums: NDArray[np.int64],
    n_pixels: NDArray[np.int64],
    points: Table,
    result: FitResult,
) -> Table:
    live = points.array("live_time")
    empirical = points.array("rate_error_empirical")
    expected = result.expected()
    frames = []
    for index, name in enumerate(names):
        exposure = np.where(live > 0, live * max(n_pixels[index], 1), np.nan)
        used = n_pixels[index] > 0
        frames.append(
            pl.DataFrame(
                {
                    "selection": [name] * live.size,
                    "threshold": points.array("threshold"),
                    "n_pixels": np.full(live.size, n_pixels[index]),
                    "counts": sums[index],
                    "rate": sums[index] / exposure if used else np.full(live.size, np.nan),
                    "rate_error": np.sqrt(sums[index]) / exposure if used else np.full(live.size, np.nan),
                    "rate_error_empirical": empirical / n_pixels[index]
                    if name == "all" and used
                    else np.full(live.size, np.nan),
                    "fitted": expected[index] / exposure,
                }
            )
        )
    return Table.from_frame(CURVE_TABLE, pl.concat(frames))


fit = ProductStep(
    "fit",
    run,
    needs=("scan/counts", "scan/points", "scan/pixels", "baseline/pixels"),
    parameters=FitParameters,
)
