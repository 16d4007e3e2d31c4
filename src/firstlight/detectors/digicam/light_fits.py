"""Fits of the light of flashes: gain and crosstalk of all levels together, then the light of every level.

One level hardly tells crosstalk from light, or gain from noise; several do. All levels of a pixel share baseline, gain,
noise, smearing and crosstalk, each has its own light: `fit_gain`. Dark counts and night sky are inside the spectrum,
with their rate in the dark. The light of a level is then the one free parameter of its spectrum: `fit_levels`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.flashes import lowest_charge
from firstlight.detectors.digicam.options import (
    GainParameters,
    LevelParameters,
    LightParameters,
    light_parameters,
)
from firstlight.fit.result import Status
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.cube import HistogramCube
    from firstlight.fit.model import Model
    from firstlight.fit.result import FitResult

    FloatArray = NDArray[np.float64]

__all__ = ["LIGHT", "Charges", "Shared", "fit_gain", "fit_levels", "gain", "levels"]

_MARGIN = 10  # empty bins above the counts that are still compared with the model
_KNOWN_GAIN = 0.2  # relative error of a gain beyond which no light is measured with it
SHARED = ("rate", "crosstalk", "baseline", "gain", "electronics_noise", "gain_smearing")

LIGHT = TableSchema(
    "light",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("level", pl.Float64, "level of the light source", "DAC"),
        Column("photo_electrons", pl.Float64, "mean number of photo-electrons of a flash", "p.e.", nullable=True),
        Column("photo_electrons_error", pl.Float64, "its standard error, for the gain as it is", "p.e.", nullable=True),
        Column("scale_error", pl.Float64, "its error from gain, crosstalk and baseline, common to all levels", "p.e.", nullable=True),
        Column("deviance", pl.Float64, "deviance at the minimum", nullable=True),
        Column("ndf", pl.Int64, "used points less fitted parameters"),
        Column("p_value", pl.Float64, "probability of a larger deviance", nullable=True),
        Column("status", pl.String, "how the fit ended"),
        Column("mean", pl.Float64, "mean charge above the reference", "LSB", nullable=True),
        Column("saturated", pl.Float64, "share of charges beyond the spectrum", nullable=True),
    ),
    "one pixel at one level",
)  # fmt: skip


@dataclass(frozen=True)
class Charges:
    """Spectra of the charges of a scan of levels.

    Parameters
    ----------
    counts : ndarray of int64, shape (1296, n_levels, n_bins)
        Charges.
    beyond : ndarray of int64, shape (1296, n_levels)
        Charges beyond all bins.
    low : int
        Charge of the first bin [LSB].
    level : ndarray, shape (n_levels,)
        DAC.
    n_samples : int
        Samples in a charge.
    """

    counts: NDArray[np.int64]
    beyond: NDArray[np.int64]
    low: int
    level: FloatArray
    n_samples: int

    @classmethod
    def of(cls, cube: HistogramCube, levels: Table, parameters: LightParameters) -> Charges:
        """Return the spectra from the products of the step ``light``."""
        return cls(
            cube.counts[:, :, 1:-1],
            cube.counts[:, :, 0] + cube.counts[:, :, -1],
            lowest_charge(parameters),
            levels.array("level").astype(np.float64),
            parameters.n_samples,
        )

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return int(self.counts.shape[0])

    @property
    def entries(self) -> NDArray[np.int64]:
        """All charges, shape (1296, n_levels)."""
        return np.asarray(self.counts.sum(axis=2) + self.beyond)

    @property
    def mean(self) -> FloatArray:
        """Mean charge above the reference, shape (1296, n_levels) [LSB]; NaN without entries."""
        x = self.low + np.arange(self.counts.shape[2])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.counts @ x.astype(np.float64) / self.counts.sum(axis=2))

    def edges(self, first: int = 0, last: int | None = None, width: int = 1) -> FloatArray:
        """Return the edges of some bins [LSB above the reference]."""
        last = self.counts.shape[2] if last is None else last
        return self.low - 0.5 + np.arange(first, last + 1, width, dtype=np.float64)

    def highest(self, index: int, share: float = 0.99) -> int:
        """Return the bin up to which the spectra of a level reach, for all but the last of the pixels."""
        filled = self.counts[:, index] > 0
        last = filled.shape[1] - filled[:, ::-1].argmax(axis=1)
        last = last[filled.any(axis=1)]
        return int(np.quantile(last, share)) if last.size else 0


@dataclass(frozen=True)
class Shared:
    """What all levels of a pixel share, each of shape (1296,): parameters of the compound Poisson model."""

    rate: FloatArray
    crosstalk: FloatArray
    baseline: FloatArray
    gain: FloatArray
    electronics_noise: FloatArray
    gain_smearing: FloatArray

    def as_dict(self) -> dict[str, FloatArray]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in SHARED}


def pulse_model(
    n_levels: int, distance: float, light: LightParameters, template: str = "", *, dark: bool = True
) -> Model:
    """Return the model of charges of flashes, with dark counts inside.

    Heights are relative to the charge of a flash: the gain is that of the charge as it is measured. A sample that is not
    at the top of the pulse sees dark counts a little higher than flashes (1.3 % on average), which is neglected.

    Parameters
    ----------
    n_levels, distance : int, float
        Levels that are fitted together, and how far apart they stand.
    light : LightParameters
        How the charge is made of samples.
    template : str
        File with the shape of a pulse; the shape of SST-1M where empty.
    dark : bool
        Whether there are dark counts: without, the rate stays 0.
    """
    from firstlight.detectors.digicam.pulse import PulseTemplate
    from firstlight.fit.models.compound_poisson import make_compound_poisson, shape_constants, shape_nodes

    pulse = PulseTemplate.read(Path(template)) if template else PulseTemplate.default()
    if light.n_samples > 1:
        before = min(light.window_start, light.n_samples - 1)
        pulse = pulse.windowed(light.n_samples, before=before)
    heights, weights = shape_nodes(pulse.time, pulse.amplitude) if dark else (np.empty(0), np.empty(0))
    constants = shape_constants(heights, weights, 1.0, n_levels, distance)
    return make_compound_poisson(n_levels).with_constants(constants)


def first_guess(charges: Charges, parameters: GainParameters) -> tuple[int, FitResult] | None:
    """Return the level whose spectra show most, and fits of it by itself without dark counts.

    Parameters
    ----------
    charges : Charges
        Of a scan.
    parameters : GainParameters
        Range of light.

    Returns
    -------
    tuple of int and FitResult, or None
        None without a level.
    """
    from firstlight.fit import fit_many

    if charges.level.size == 0:
        return None
    index = _telling_level(charges)
    top = charges.highest(index) + _MARGIN
    counts = charges.counts[:, index, :top]
    entries = charges.entries[:, index]
    exposure = np.repeat(entries[:, None].astype(np.float64), counts.shape[1], axis=1)
    enough = (entries >= parameters.minimum_entries) & (np.count_nonzero(counts, axis=1) >= 3)
    mask = np.repeat(enough[:, None], counts.shape[1], axis=1)
    result = fit_many(
        counts,
        charges.edges(0, counts.shape[1]),
        "generalised_poisson",
        edges=True,
        exposure=exposure,
        mask=mask,
    )
    return index, result


def _telling_level(charges: Charges) -> int:
    """Return the level whose light is nearest to 1.5 photo-electrons in a typical pixel."""
    known = np.all(charges.entries > 0, axis=1)
    if charges.level.size == 1 or not known.any():
        return int(charges.entries.sum(axis=0).argmax())
    mean, widths = charges.mean[known], _widths(charges)[known]
    above = mean - mean.min(axis=1, keepdims=True)
    noise = np.median(widths.min(axis=1))
    # of light in Poisson's distribution the variance over the mean is the gain
    gains = np.median((widths**2 - noise**2) / np.maximum(above, 1e-9), axis=0)
    light = np.where(gains > 0, np.median(above, axis=0) / np.maximum(gains, 1e-9), 0.0)
    return int(np.argmin(np.abs(np.log(np.maximum(light, 1e-3) / 1.5))))


def _widths(charges: Charges) -> FloatArray:
    """Return the standard deviation of the charges, shape (1296, n_levels) [LSB]."""
    x = (charges.low + np.arange(charges.counts.shape[2])).astype(np.float64)
    total = charges.counts.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = charges.counts @ x / total
        return np.asarray(np.sqrt(np.maximum(charges.counts @ x**2 / total - mean**2, 0)))


def choose_levels(light: FloatArray, parameters: GainParameters) -> NDArray[np.int64]:
    """Return which levels are fitted together: evenly spread in the range of light that tells something, and the darkest.

    Parameters
    ----------
    light : ndarray, shape (n_levels,)
        Photo-electrons of a typical pixel.
    parameters : GainParameters
        The range, and how many.
    """
    inside = np.flatnonzero((light >= parameters.lowest) & (light <= parameters.highest))
    below = np.flatnonzero(light < parameters.lowest)
    pedestal = below[:1] if parameters.levels > 1 else below[:0]
    room = parameters.levels - pedestal.size
    if inside.size > room:
        inside = inside[np.argsort(light[inside], kind="stable")]
        inside = inside[np.unique(np.rint(np.linspace(0, inside.size - 1, room)).astype(np.int64))]
    return np.sort(np.concatenate([pedestal, inside]))


def fit_gain(
    charges: Charges, parameters: GainParameters, light: LightParameters, rate: FloatArray | None = None
) -> tuple[FitResult, NDArray[np.int64]] | None:
    """Return simultaneous fits of several levels of each pixel.

    Parameters
    ----------
    charges : Charges
        Of a scan.
    parameters : GainParameters
        Levels and dark counts.
    light : LightParameters
        How charges were made.
    rate : ndarray, shape (1296,), optional
        Rate of dark counts that is held fixed [MHz]; fitted where None. NaN is taken as the median of the camera.

    Returns
    -------
    tuple of FitResult and ndarray, or None
        Result of model ``compound_poissonN`` with baselines above the reference, and the indices of the levels. None
        if no level has light in the range.
    """
    from firstlight.fit import fit_many
    from firstlight.fit.models.compound_poisson import pulse_integral

    guess = first_guess(charges, parameters)
    if guess is None:
        return None
    _, single = guess
    typical = _filled(single.values, single.ok)
    mean = charges.mean
    start_light = (mean - typical[:, [2]]) * (1 - typical[:, [1]]) / np.maximum(typical[:, [3]], 1e-3)
    lit = single.ok & (np.nan_to_num(start_light).max(axis=1) > parameters.lowest)
    if not lit.any():
        return None
    chosen = choose_levels(np.nanmedian(start_light[lit], axis=0), parameters)
    if chosen.size == 0:
        return None
    tops = [min(charges.highest(int(k)) + _MARGIN, charges.counts.shape[2]) for k in chosen]
    distance = float(max(tops) + 4)
    shows = np.nan_to_num(start_light).max(axis=1) > 0.5 * parameters.lowest
    counts, edges, exposure = _side_by_side(
        charges, chosen, tops, distance, parameters.minimum_entries, shows
    )
    no_dark = rate is not None and not np.any(rate)
    model = pulse_model(chosen.size, distance, light, parameters.template, dark=not no_dark)
    # positions count from the edge before the first bin of each level
    origin = charges.low - 1.5
    n = len(model)
    start = np.zeros((charges.n_pixels, n))
    start[:, 1:6] = typical[:, [1, 2, 3, 4, 5]]
    start[:, 2] -= origin
    known = None if rate is None else _filled(rate[:, None], np.isfinite(rate))[:, 0]
    start[:, 0] = 3.0 if known is None else known
    dark = 1e-3 * start[:, [0]] * pulse_integral(model.constants)
    start[:, 6:] = np.maximum(np.nan_to_num(start_light[:, chosen]) - dark, 0.01)
    fixed: dict[str, Any] = {} if known is None else {"rate": known}
    if chosen.size > 1 and charges.level[chosen[0]] == 0:
        # a source that is off gives no light: its spectrum is the pedestal
        fixed["photo_electrons_0"] = 0.0
    result = fit_many(
        counts, edges, model, edges=True, exposure=exposure, mask=exposure > 0, start=start, fixed=fixed
    )
    from firstlight.detectors.digicam.spectra import look_again

    result = look_again(result)
    values, begin = result.values.copy(), result.start.copy()
    values[:, 2] += origin
    begin[:, 2] += origin
    return replace(result, values=values, start=begin), chosen


def _filled(values: FloatArray, good: NDArray[np.bool_]) -> FloatArray:
    """Return values with those of bad pixels replaced by the median of the good ones."""
    if not good.any():
        return np.asarray(np.nan_to_num(values))
    return np.where(good[:, None], values, np.median(values[good], axis=0))


def _side_by_side(
    charges: Charges,
    chosen: NDArray[np.int64],
    tops: list[int],
    distance: float,
    minimum: int,
    shows: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Return counts, edges and exposure of several levels one after the other, with an unused bin between them.

    Pixels that do not show light have no exposure: dark counts alone tell no gain in so few samples.
    """
    counts, edges, exposure = [], [], []
    gap = np.zeros((charges.n_pixels, 1), dtype=np.int64)
    entries = charges.entries
    # a pixel whose samples do not vary has no spectrum
    varies = shows & (np.count_nonzero(charges.counts[:, chosen].sum(axis=1), axis=1) >= 3)
    for place, (index, top) in enumerate(zip(chosen, tops, strict=True)):
        counts += [charges.counts[:, index, :top], gap]
        edges.append(place * distance + 1.0 + np.arange(top + 1))
        own = np.where(varies & (entries[:, index] >= minimum), entries[:, index], 0).astype(np.float64)
        exposure += [np.repeat(own[:, None], top, axis=1), gap.astype(np.float64)]
    return (
        np.concatenate(counts[:-1], axis=1),
        np.concatenate(edges),
        np.concatenate(exposure[:-1], axis=1),
    )


def fit_levels(
    charges: Charges,
    shared: Shared,
    parameters: LevelParameters,
    light: LightParameters,
    highest: float,
    template: str = "",
    covariance: FloatArray | None = None,
) -> Table:
    """Return the light of every pixel at every level, all else held fixed.

    Below `highest` photo-electrons dark counts are inside the spectrum. Above, peaks are not seen and the spectrum is that of
    flashes alone, moved and widened by what dark counts add on average (Campbell).

    Parameters
    ----------
    charges : Charges
        Of a scan.
    shared : Shared
        Parameters of each pixel; baselines above the reference. NaN: the pixel has no fit.
    parameters : LevelParameters
        Bins.
    light : LightParameters
        How charges were made.
    highest : float
        Photo-electrons [p.e.].
    template : str
        File with the shape of a pulse.
    covariance : ndarray, shape (1296, 6, 6), optional
        Of the shared parameters in the order of `SHARED`, NaN for those without errors: for the error of the scale.

    Returns
    -------
    Table
        A row for each pixel and level, in that order; `LIGHT`.
    """
    results = [
        _fit_level(charges, index, shared, parameters, light, highest, template)
        for index in range(charges.level.size)
    ]
    names = np.array([one.name for one in Status])
    mean, entries = charges.mean, charges.entries
    with np.errstate(divide="ignore", invalid="ignore"):
        saturated = charges.beyond / entries

    def column(name: str) -> NDArray[Any]:
        return np.stack([result[name] for result in results], axis=1).ravel()

    n_levels = charges.level.size
    scale = np.full((charges.n_pixels, n_levels), np.nan)
    if covariance is not None:
        value = np.stack([result["value"] for result in results], axis=1)
        scale = _scale_errors(value, shared, np.nan_to_num(covariance))
    frame = pl.DataFrame(
        {
            "channel": np.repeat(np.arange(charges.n_pixels), n_levels),
            "level": np.tile(charges.level, charges.n_pixels),
            "photo_electrons": column("value"), "photo_electrons_error": column("error"),
            "scale_error": scale.ravel(),
            "deviance": column("deviance"), "ndf": column("ndf"), "p_value": column("p_value"),
            "status": names[column("status").astype(np.int64)], "mean": mean.ravel(), "saturated": saturated.ravel(),
        }
    )  # fmt: skip
    return Table.from_frame(LIGHT, frame)


def _scale_errors(light: FloatArray, shared: Shared, covariance: FloatArray) -> FloatArray:
    """Return the errors of the light from those of what all levels share, shape (1296, n_levels).

    The mean charge is B + mu G / (1 - l): at a given charge mu follows l, B and G.
    """
    free, gain_ = (1 - shared.crosstalk)[:, None], shared.gain[:, None]
    slopes = np.zeros((*light.shape, len(SHARED)))
    slopes[..., 1] = -light / free
    slopes[..., 2] = -free / gain_
    slopes[..., 3] = -light / gain_
    return np.asarray(np.sqrt(np.maximum(np.einsum("cki,cij,ckj->ck", slopes, covariance, slopes), 0)))


def _fit_level(
    charges: Charges, index: int, shared: Shared, parameters: LevelParameters, light: LightParameters,
    highest: float, template: str,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Return value, error, deviance, ndf, p-value and status of the light of one level."""
    entries = charges.entries[:, index]
    known = np.isfinite(np.stack(list(shared.as_dict().values()))).all(axis=0)
    usable = known & (entries >= parameters.minimum_entries)
    from firstlight.fit.models.compound_poisson import pulse_integral

    model = pulse_model(1, 0.0, light, template, dark=bool(np.nan_to_num(shared.rate).any()))
    first, second = pulse_integral(model.constants), pulse_integral(model.constants, 2)
    rate = 1e-3 * shared.rate
    free = 1 - shared.crosstalk
    shift = rate * first * shared.gain / free
    guess = (charges.mean[:, index] - shared.baseline - shift) * free / shared.gain
    few = usable & ~(guess > highest)
    many = usable & (guess > highest)
    found = {name: np.full(charges.n_pixels, np.nan) for name in ("value", "error", "deviance", "p_value")}
    found["ndf"] = np.zeros(charges.n_pixels, dtype=np.int64)
    found["status"] = np.full(charges.n_pixels, int(Status.no_data))
    fixed = shared.as_dict()
    _fill_level(found, charges, index, few, model, fixed, guess, parameters)
    # (the variance that dark counts add to a charge)
    added = rate * second * (shared.gain**2 / free**3 + shared.gain_smearing**2 / free)
    widened = {
        **{name: fixed[name] for name in ("crosstalk", "gain", "gain_smearing")},
        "baseline": shared.baseline + shift,
        "electronics_noise": np.sqrt(shared.electronics_noise**2 + added),
    }
    _fill_level(found, charges, index, many, "generalised_poisson", widened, guess, parameters)
    return found


def _fill_level(
    found: dict[str, NDArray[Any]],
    charges: Charges,
    index: int,
    chosen: NDArray[np.bool_],
    model: Model | str,
    fixed: Mapping[str, FloatArray],
    guess: FloatArray,
    parameters: LevelParameters,
) -> None:
    """Fit the light of some pixels and fill it in."""
    from firstlight.fit import fit_many
    from firstlight.fit.model import get_model

    rows = np.flatnonzero(chosen)
    if rows.size == 0:
        return
    own = charges.counts[rows, index]
    filled = np.flatnonzero(own.any(axis=0))
    if filled.size == 0:
        return
    first, last = int(filled[0]), min(int(filled[-1]) + _MARGIN, own.shape[1])
    width = max(1, -(-(last - first) // parameters.bins))
    last = min(first + -(-(last - first) // width) * width, own.shape[1])
    last -= (last - first) % width
    counts = own[:, first:last].reshape(rows.size, -1, width).sum(axis=2)
    exposure = np.repeat(charges.entries[rows, index][:, None].astype(np.float64), counts.shape[1], axis=1)
    chosen_model = get_model(model)
    start = np.zeros((rows.size, len(chosen_model)))
    start[:, chosen_model.index("photo_electrons")] = np.maximum(np.nan_to_num(guess[rows]), 0.005)
    result = fit_many(
        counts, charges.edges(first, last, width), chosen_model, edges=True, exposure=exposure, start=start,
        fixed={name: values[rows] for name, values in fixed.items()}, rescue=False,
    )  # fmt: skip
    found["value"][rows] = result.value("photo_electrons")
    found["error"][rows] = result.error("photo_electrons")
    for name in ("deviance", "p_value", "ndf", "status"):
        found[name][rows] = getattr(result, name)


def run_gain(products: Mapping[str, Any], parameters: GainParameters, context: Context) -> dict[str, Product]:
    """Return gain, crosstalk, baseline and noise of each pixel from several levels; nothing without light."""
    light = light_parameters(context.options)
    charges = Charges.of(products["light/charge"], products["light/levels"], light)
    rate = rate_of_dark(products, parameters)
    found = fit_gain(charges, parameters, light, rate)
    if found is None:
        return {}
    result, chosen = found
    reference = context.channels.column("reference").astype(np.int64) * light.n_samples
    values = result.values.copy()
    values[:, 2] += reference
    block = result.covariance_block()
    labels = [*SHARED, *(f"light_{charges.level[k]:g}" for k in chosen)]
    table = replace(result, values=values).table(x_unit="LSB")
    names = {f"photo_electrons_{k}": labels[6 + k] for k in range(chosen.size)} if chosen.size > 1 else {}
    from firstlight.detectors.digicam.spectra import renamed

    return {
        "pixels": renamed(table, names),
        "covariance": replace(block, coordinates={"parameter": labels, "other_parameter": labels}),
        "chosen": Block(chosen, ("chosen",), "", "levels that were fitted together", {"chosen": charges.level[chosen].tolist()}),
    }  # fmt: skip


def rate_of_dark(products: Mapping[str, Any], parameters: GainParameters) -> FloatArray | None:
    """Return the rate of dark counts that is held fixed in fits of light [MHz]; None if it is fitted."""
    if parameters.dark_rate == "fit":
        return None
    table = products.get("dark/pixels") if parameters.dark_rate == "auto" else None
    if table is None:
        return np.zeros(N_PIXELS)
    rate = table.frame["rate"].to_numpy().astype(np.float64)
    return np.where(np.isfinite(rate), rate, np.nan)


def run_levels(
    products: Mapping[str, Any], parameters: LevelParameters, context: Context
) -> dict[str, Product]:
    """Return the light of every pixel at every level."""
    light = light_parameters(context.options)
    charges = Charges.of(products["light/charge"], products["light/levels"], light)
    frame = products["gain/pixels"].frame
    values = {name: frame[name].to_numpy().astype(np.float64) for name in SHARED}
    values["baseline"] = values["baseline"] - context.channels.column("reference") * light.n_samples
    # a spectrum without light tells no gain, whatever the fit has stopped at
    error = frame["gain_error"].to_numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        good = frame["status"].is_in(["ok", "at_bound"]).to_numpy() & (error < _KNOWN_GAIN * values["gain"])
    shared = Shared(**{name: np.where(good, value, np.nan) for name, value in values.items()})
    own = getattr(context.options, "gain", None)
    template = own.template if isinstance(own, GainParameters) else ""
    covariance = products["gain/covariance"].values[:, :6, :6]
    return {"light": fit_levels(charges, shared, parameters, light, parameters.highest, template, covariance)}


def _files(parameters: GainParameters) -> list[str]:
    return [parameters.template] if parameters.template else []


gain = ProductStep(
    "gain",
    run_gain,
    needs=("light/charge", "light/levels"),
    uses=("dark/pixels",),
    parameters=GainParameters,
    inputs=_files,
)
levels = ProductStep(
    "levels",
    run_levels,
    needs=("light/charge", "light/levels", "gain/pixels", "gain/covariance"),
    parameters=LevelParameters,
)
