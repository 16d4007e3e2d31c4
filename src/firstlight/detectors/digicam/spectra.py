"""Fits of the spectra without flashes: high voltage off, dark counts, and pulses found in the dark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.detectors.digicam.counting import RESIDUAL_BINS, SAMPLE_PERIOD
from firstlight.detectors.digicam.options import DarkParameters, HvOffParameters, SpeParameters
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.cube import HistogramCube
    from firstlight.fit.model import Model
    from firstlight.fit.result import FitResult

    FloatArray = NDArray[np.float64]

__all__ = [
    "CAMERA",
    "Spectra",
    "dark",
    "dark_model",
    "fit_dark",
    "fit_hv_off",
    "hv_off",
    "look_again",
    "renamed",
    "spe",
]

_WINDOW_SUM = 4.147  # heights in the sum of the seven samples about a pulse
_BETWEEN = 0.65  # of the height of a pulse
_OVER_LIMIT = 13.0  # ns for which a pulse is higher than that
_OF_A_FIT = (
    "values", "errors", "covariance", "at_bound", "deviance", "ndf", "p_value", "status", "rung", "iterations", "start",
)  # fmt: skip
_FAR = 0.3  # relative distance of a gain from the typical one
_MARGIN = 12  # empty bins above the last count that are still compared with the model

CAMERA = TableSchema(
    "camera",
    (
        Column("parameter", pl.String, "what"),
        Column("value", pl.Float64, "value", nullable=True),
        Column("error", pl.Float64, "its standard error, all samples taken as independent", nullable=True),
        Column("unit", pl.String, "unit"),
    ),
    "one parameter of the spectrum of all pixels",
)


@dataclass(frozen=True)
class Spectra:
    """Spectra of all pixels about their references, with the counts of groups of events.

    Parameters
    ----------
    counts : ndarray of int64, shape (1296, n_bins)
        Samples.
    edges : ndarray, shape (n_bins + 1,)
        LSB above the reference.
    entries : ndarray of int64, shape (1296,)
        All samples, those outside of the bins too.
    groups : ndarray, shape (n_groups, 1296, n_bins)
        The same by group of events.
    reference : ndarray, shape (1296,)
        LSB.
    """

    counts: NDArray[np.int64]
    edges: FloatArray
    entries: NDArray[np.int64]
    groups: NDArray[Any]
    reference: NDArray[np.int64]

    @classmethod
    def of(cls, cube: HistogramCube, groups: Block, context: Context) -> Spectra:
        """Return the spectra of one kind of run from its products."""
        bins = np.asarray(groups.coordinates["bin"], dtype=np.float64)
        return cls(
            groups.values.sum(axis=1, dtype=np.int64),
            np.append(bins - 0.5, bins[-1] + 0.5),
            cube.counts.sum(axis=1),
            np.moveaxis(groups.values, 1, 0),
            context.channels.column("reference").astype(np.int64),
        )

    def used(self, minimum: int) -> NDArray[np.bool_]:
        """Return which bins of each pixel are fitted, shape (1296, n_bins): those near counts, of pixels with enough.

        A pixel whose samples do not vary has no spectrum: three bins are the least that a width can be told from.
        """
        n_bins = self.counts.shape[1]
        filled = self.counts > 0
        last = n_bins - 1 - filled[:, ::-1].argmax(axis=1)
        first = filled.argmax(axis=1)
        bins = np.arange(n_bins)
        near = (bins >= (first - _MARGIN)[:, None]) & (bins <= (last + _MARGIN)[:, None])
        enough = (self.counts.sum(axis=1) >= minimum) & (filled.sum(axis=1) >= 3)
        return np.asarray(near & enough[:, None])


def _absolute(result: FitResult, name: str, reference: NDArray[np.int64]) -> FitResult:
    """Return the result with one parameter counted from 0 rather than from the reference."""
    values, start = result.values.copy(), result.start.copy()
    index = result.model.index(name)
    values[:, index] += reference
    start[:, index] += reference
    return replace(result, values=values, start=start)


def fit_hv_off(spectra: Spectra, parameters: HvOffParameters) -> FitResult:
    """Return the fits of a normal distribution, integrated over bins, to the samples of each pixel.

    Errors come from the spread of groups of events: neighbouring samples share their noise.

    Parameters
    ----------
    spectra : Spectra
        Of a run without high voltage.
    parameters : HvOffParameters
        How many samples a pixel needs.

    Returns
    -------
    FitResult
        Of model ``gaussian``: area, mean (baseline, LSB above the reference) and width (electronics noise, LSB).
    """
    from firstlight.fit import fit_many
    from firstlight.fit.clustered import clustered

    mask = spectra.used(parameters.minimum_entries)
    result = fit_many(spectra.counts, spectra.edges, "gaussian", edges=True, mask=mask)
    return clustered(result, spectra.groups)


def run_hv_off(
    products: Mapping[str, Any], parameters: HvOffParameters, context: Context
) -> dict[str, Product]:
    """Return baseline and electronics noise of each pixel, and their covariance."""
    spectra = Spectra.of(products["samples/hv_off"], products["samples/hv_off_groups"], context)
    result = fit_hv_off(spectra, parameters)
    block = result.covariance_block()
    table = _absolute(result, "mean", spectra.reference).table(x_unit="LSB")
    names = {"mean": "baseline", "width": "electronics_noise"}
    return {"pixels": renamed(table, names), "covariance": _renamed_block(block, names)}


def renamed(table: Table, names: Mapping[str, str]) -> Table:
    """Return a table of fits with other names of parameters."""
    both = {**names, **{f"{old}_error": f"{new}_error" for old, new in names.items()}}

    def column(one: Column) -> Column:
        text = one.description
        for old, new in names.items():
            text = text.replace(f"of {old}", f"of {new}")
        return replace(one, name=both.get(one.name, one.name), description=text)

    schema = TableSchema("fits", tuple(column(one) for one in table.schema.columns), table.schema.description)
    return Table(table.frame.rename({old: new for old, new in both.items() if old in table.frame}), schema)


def _renamed_block(block: Block, names: Mapping[str, str]) -> Block:
    labels = [names.get(name, name) for name in block.coordinates["parameter"]]
    return replace(block, coordinates={"parameter": labels, "other_parameter": labels})


def dark_model(template: str = "") -> Model:
    """Return the model of dark spectra for a shape of pulses.

    Parameters
    ----------
    template : str
        File with time [ns] and height; the shape of SST-1M where empty.
    """
    from firstlight.detectors.digicam.pulse import PulseTemplate
    from firstlight.fit.models.compound_poisson import compound_poisson, shape_constants, shape_nodes

    pulse = PulseTemplate.read(Path(template)) if template else PulseTemplate.default()
    heights, weights = shape_nodes(pulse.time, pulse.amplitude)
    return compound_poisson.with_constants(shape_constants(heights, weights))


def fit_dark(spectra: Spectra, parameters: DarkParameters, noise: FloatArray | None = None) -> FitResult:
    """Return the fits of the compound Poisson spectrum to the samples of each pixel in the dark.

    Neighbouring samples share pulses: errors come from the spread of groups of events, or with `bootstrap` from fits
    to groups drawn anew.

    Parameters
    ----------
    spectra : Spectra
        Of a dark run.
    parameters : DarkParameters
        What is held fixed.
    noise : ndarray, shape (1296,), optional
        Electronics noise that is held fixed [LSB].

    Returns
    -------
    FitResult
        Of model ``compound_poisson``; baselines are LSB above the reference.
    """
    from firstlight.fit import fit_many
    from firstlight.fit.clustered import clustered

    model = dark_model(parameters.template)
    fixed: dict[str, Any] = {"photo_electrons": 0.0}
    if parameters.gain_smearing is not None:
        fixed["gain_smearing"] = parameters.gain_smearing
    if noise is not None:
        fixed["electronics_noise"] = noise
    mask = spectra.used(parameters.minimum_entries)

    def fit(counts: NDArray[Any], start: FloatArray | None = None) -> FitResult:
        exposure = np.repeat(counts.sum(axis=1, keepdims=True).astype(np.float64), counts.shape[1], axis=1)
        return fit_many(
            counts, spectra.edges, model, edges=True, mask=mask, exposure=exposure, fixed=fixed, start=start,
            rescue=start is None,
        )  # fmt: skip

    result = look_again(fit(spectra.counts))
    if not parameters.bootstrap:
        return clustered(result, spectra.groups)
    return _bootstrap(result, spectra.groups, parameters.bootstrap, fit)


def look_again(result: FitResult) -> FitResult:
    """Return the result, with fits whose gain is far from that of the camera tried once more from typical values.

    A spectrum with few pulses has several minima: a rare high pulse may pass for the gain, or the noise. The lower minimum
    is kept.

    Parameters
    ----------
    result : FitResult
        Of a compound Poisson model; baselines as they were fitted.
    """
    from firstlight.fit import fit_many

    names = result.model.names
    gain = result.value("gain")
    if not result.ok.any():
        return result
    typical = np.median(result.values[result.ok], axis=0)
    with np.errstate(invalid="ignore"):
        far = np.flatnonzero(np.isfinite(gain) & (np.abs(gain / typical[names.index("gain")] - 1) > _FAR))
    if far.size == 0:
        return result
    start = np.where(np.isfinite(result.values[far]), result.values[far], typical)
    others = [k for k, name in enumerate(names) if name not in ("baseline", "electronics_noise")]
    start[:, others] = typical[others]
    own = result.data.select(far)
    again = fit_many(own.counts, own.x, result.model, start=start, **own.options())
    better = again.deviance < result.deviance[far]
    chosen = {}
    for name in _OF_A_FIT:
        values = getattr(result, name).copy()
        values[far[better]] = getattr(again, name)[better]
        chosen[name] = values
    return replace(result, **chosen)


def _bootstrap(result: FitResult, groups: NDArray[Any], n_repeats: int, fit: Any) -> FitResult:
    """Return the result with the covariance of fits to groups of events that are drawn with replacement."""
    random = np.random.default_rng(1)
    found = []
    start = np.where(np.isfinite(result.values), result.values, result.start)
    for _ in range(n_repeats):
        drawn = np.bincount(random.integers(0, groups.shape[0], groups.shape[0]), minlength=groups.shape[0])
        counts = np.tensordot(drawn, groups, axes=(0, 0)).astype(np.int64)
        found.append(fit(counts, np.nan_to_num(start)).values)
    values = np.stack(found)
    centred = values - values.mean(axis=0)
    covariance = np.einsum("kci,kcj->cij", centred, centred) / max(n_repeats - 1, 1)
    unknown = ~np.isfinite(result.errors)
    covariance[unknown[:, :, None] | unknown[:, None, :]] = np.nan
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return replace(result, covariance=covariance, errors=errors)


def fit_camera(residual: HistogramCube, parameters: DarkParameters) -> FitResult:
    """Return the fit of the spectrum of all pixels together: samples above the baseline of their event.

    Parameters
    ----------
    residual : HistogramCube
        With the axis ``residual``.
    parameters : DarkParameters
        What is held fixed.
    """
    from firstlight.fit import fit_many

    counts, edges = residual.values, residual.axes[0].edges
    filled = np.flatnonzero(counts)
    # baselines in whole LSB give residuals in whole LSB: bins that none can fall into say nothing
    whole = np.unique(filled % RESIDUAL_BINS).size == 1
    width = RESIDUAL_BINS if whole else RESIDUAL_BINS // 4
    margin = _MARGIN * RESIDUAL_BINS
    first = max(filled[0] - margin - (width // 2 if whole else 0), 0)
    n_bins = -(-(min(filled[-1] + margin, counts.size - width) - first) // width)
    counts = counts[first : first + n_bins * width].reshape(n_bins, width).sum(axis=1)
    edges = edges[first : first + n_bins * width + 1 : width]
    fixed = {"photo_electrons": 0.0}
    if parameters.gain_smearing is not None:
        fixed["gain_smearing"] = parameters.gain_smearing
    return fit_many(
        counts,
        edges,
        dark_model(parameters.template),
        edges=True,
        exposure=float(residual.total),
        fixed=fixed,
    )


def camera_table(result: FitResult) -> Table:
    """Return the parameters of the spectrum of all pixels as a table."""
    from firstlight.fit.result import Status, unit_text

    rows: list[dict[str, Any]] = [
        {
            "parameter": one.name,
            "value": result.values[0, index],
            "error": result.errors[0, index],
            "unit": unit_text(one.unit, "LSB", ""),
        }
        for index, one in enumerate(result.model.parameters)
        if one.name != "photo_electrons"
    ]
    for name in ("deviance", "ndf", "p_value"):
        rows.append({"parameter": name, "value": float(getattr(result, name)[0]), "error": None, "unit": ""})
    known = result.status[0] in (Status.ok, Status.at_bound)
    rows.append({"parameter": "converged", "value": float(known), "error": None, "unit": ""})
    return Table.from_rows(CAMERA, rows)


def run_dark(products: Mapping[str, Any], parameters: DarkParameters, context: Context) -> dict[str, Product]:
    """Return rate, crosstalk, gain, baseline and noise of each pixel in the dark, and of all pixels together."""
    spectra = Spectra.of(products["samples/dark"], products["samples/dark_groups"], context)
    noise = None
    if parameters.use_noise and "hv_off/pixels" in products:
        noise = products["hv_off/pixels"].frame["electronics_noise"].to_numpy()
    result = fit_dark(spectra, parameters, noise)
    found: dict[str, Product] = {
        "pixels": _absolute(result, "baseline", spectra.reference).table(x_unit="LSB"),
        "covariance": result.covariance_block(),
    }
    residual = products.get("samples/dark_residual")
    if residual is not None:
        found["camera"] = camera_table(fit_camera(residual, parameters))
    return found


SPE = TableSchema(
    "spe",
    (
        Column("channel", pl.Int32, "pixel", minimum=0),
        Column("gain", pl.Float64, "distance of the peaks", "LSB", nullable=True),
        Column("gain_error", pl.Float64, "its standard error", "LSB", nullable=True),
        Column("crosstalk_probability", pl.Float64, "share of pulses with more than one avalanche: 1 - a_1 / sum a", nullable=True),
        Column("crosstalk_probability_error", pl.Float64, "its standard error", nullable=True),
        Column("rate", pl.Float64, "rate of dark counts, from traces without any: -ln(N_0 / N) / T", "MHz", nullable=True),
        Column("rate_error", pl.Float64, "its standard error", "MHz", nullable=True),
        Column("deviance", pl.Float64, "deviance at the minimum", nullable=True),
        Column("ndf", pl.Int64, "used points less fitted parameters"),
        Column("p_value", pl.Float64, "probability of a larger deviance", nullable=True),
        Column("status", pl.String, "how the fit ended"),
        Column("total", pl.Float64, "pulses", nullable=True),
    ),
    "one pixel: spectrum of pulses found in the dark",
)  # fmt: skip


def run_spe(products: Mapping[str, Any], parameters: SpeParameters, context: Context) -> dict[str, Product]:
    """Return gain and crosstalk from the spectrum of pulses, and the rate from traces without a pulse.

    The spectrum is a comb of normal peaks from one photo-electron on; the threshold of the search takes away part of the
    first peak, from its lower side. The crosstalk is a probability here, not the number of avalanches of the other fits.
    """
    from firstlight.fit import fit_many
    from firstlight.fit.models.comb import make_gaussian_comb
    from firstlight.fit.result import Status

    cube: HistogramCube = products["pulses/charge"]
    pixels = products["pulses/pixels"].frame
    counts, axis = cube.values, cube.axis("charge")
    model = make_gaussian_comb(parameters.peaks)
    enough = counts.sum(axis=1) >= parameters.minimum_entries
    # half a photo-electron below the first peak the search has taken pulses away
    mode = axis.centers[counts.argmax(axis=1)]
    high = np.where(enough, (parameters.peaks + 0.5) * np.maximum(mode, 1), 0)
    mask = (axis.centers > 0.6 * mode[:, None]) & (axis.centers < high[:, None]) & enough[:, None]
    result = fit_many(counts, axis.edges, model, edges=True, mask=mask)
    areas = [name for name in model.names if name.startswith("area")]
    first = model.index(areas[0])
    shares = result.values[:, first : first + len(areas)]
    total = shares.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crosstalk = 1 - shares[:, 0] / total
        error = np.sqrt(crosstalk * (1 - crosstalk) / total)
    pedestal = np.zeros(counts.shape[0])
    if "dark/pixels" in products:
        baseline = products["dark/pixels"].frame["baseline"].cast(pl.Float64).to_numpy()
        pedestal = np.nan_to_num(baseline - context.channels.column("reference"))
    rate, rate_error = rate_without_pulse(
        products["pulses/maximum"], pixels, pedestal, result.value("gain") / _WINDOW_SUM
    )
    frame = pl.DataFrame(
        {
            "channel": np.arange(counts.shape[0]), "gain": result.value("gain"), "gain_error": result.error("gain"),
            "crosstalk_probability": crosstalk, "crosstalk_probability_error": error,
            "rate": rate, "rate_error": rate_error, "deviance": result.deviance, "ndf": result.ndf,
            "p_value": result.p_value, "status": np.array([one.name for one in Status])[result.status],
            "total": result.total,
        }
    )  # fmt: skip
    return {"pixels": Table.from_frame(SPE, frame)}


def rate_without_pulse(
    maxima: HistogramCube, pixels: pl.DataFrame, pedestal: FloatArray, height: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the rate of dark counts from the share of traces whose highest sample is noise, and its error [MHz].

    Parameters
    ----------
    maxima : HistogramCube
        Highest sample of each trace, above the reference.
    pixels : polars.DataFrame
        ``n_samples`` in which a pulse could have been found.
    pedestal : ndarray, shape (1296,)
        Baseline above the reference [LSB].
    height : ndarray, shape (1296,)
        Of the pulse of an avalanche [LSB].
    """
    counts, centres = maxima.values, maxima.axes[1].centers
    # between the highest of fifty samples of noise and the lowest pulse
    limit = np.where(np.isfinite(height), pedestal + _BETWEEN * height, np.nan)
    n_traces = maxima.counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        empty = np.where(centres < limit[:, None], counts, 0).sum(axis=1)
        # the ten samples at the ends in which no pulse is looked for are part of the trace; a pulse is over the limit
        # for as long as it is higher than that
        time = (pixels["n_samples"].to_numpy() / np.maximum(n_traces, 1) + 10) * SAMPLE_PERIOD + _OVER_LIMIT
        share = empty / n_traces
        rate = np.where(np.isfinite(limit) & (share > 0), -1e3 * np.log(share) / time, np.nan)
        error = 1e3 * np.sqrt((1 - share) / (share * n_traces)) / time
    return rate, np.where(np.isfinite(rate), error, np.nan)


def _files(parameters: DarkParameters) -> list[str]:
    return [parameters.template] if parameters.template else []


hv_off = ProductStep(
    "hv_off", run_hv_off, needs=("samples/hv_off", "samples/hv_off_groups"), parameters=HvOffParameters
)
dark = ProductStep(
    "dark",
    run_dark,
    needs=("samples/dark", "samples/dark_groups"),
    uses=("samples/dark_residual", "hv_off/pixels"),
    parameters=DarkParameters,
    inputs=_files,
)
spe = ProductStep(
    "spe",
    run_spe,
    needs=("pulses/charge", "pulses/maximum", "pulses/pixels"),
    uses=("dark/pixels",),
    parameters=SpeParameters,
)
