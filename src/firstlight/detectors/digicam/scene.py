"""What checks and figures share: products as arrays by pixel, what is wrong with pixels, which ones are examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from firstlight.detectors.digicam.calibration import FLAGS
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.options import CalibrationParameters, GainParameters, LightParameters, View
from firstlight.run.config import StrictModel
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from firstlight.steps.step import Context

    Values = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = [
    "QUANTITIES",
    "REMARKS",
    "Quantity",
    "Scene",
    "column",
    "median_of_known",
    "outlier_cuts",
    "pixel_names",
    "quantile_of_known",
    "whole_modules",
]

REMARKS = ("saturated", "unlit", "at_limit", "bad_fit")
"""Flags of pixels whose constants can be used."""
_BRIGHT = (0.5, 100.0)  # p.e. of a typical pixel: levels that tell the relative light yield

_LEAST_SHIFT = 0.5  # LSB
Parameters = TypeVar("Parameters", bound=StrictModel)


@dataclass(frozen=True)
class Quantity:
    """One number of every pixel.

    Parameters
    ----------
    key : str
        For names of figures.
    title : str
        For people.
    label : str
        Of an axis, with the unit.
    places : tuple of (str, str)
        Product and column where it stands; the first product that is there gives it.
    about : str
        What it is and what is usual, for the caption.
    needs : {"", "pulses", "light"}
        What a pixel must have for the value to mean anything.
    cut : bool
        Whether the calibration flags outliers of it.
    """

    key: str
    title: str
    label: str
    places: tuple[tuple[str, str], ...]
    about: str
    needs: str = ""
    cut: bool = False


QUANTITIES = {
    one.key: one
    for one in (
        Quantity(
            "gain", "Gain", "gain [LSB/p.e.]", (("calibration/pixels", "gain"),),
            "Charge of one avalanche. A spread of 5 to 6 % is usual.", "pulses", True,
        ),
        Quantity(
            "crosstalk", "Crosstalk", "crosstalk [avalanches/avalanche]", (("calibration/pixels", "crosstalk"),),
            "Mean number of avalanches that one avalanche starts (Borel's parameter, no probability).", "pulses", True,
        ),
        Quantity(
            "dark_rate", "Dark rate", "dark rate [MHz]", (("calibration/pixels", "dark_rate"),),
            "Rate of dark counts with high voltage on.", "pulses", True,
        ),
        Quantity(
            "electronics_noise", "Electronics noise", "noise [LSB]", (("calibration/pixels", "electronics_noise"),),
            "Standard deviation of a sample without pulses.", "", True,
        ),
        Quantity(
            "baseline", "Baseline", "baseline [LSB]", (("calibration/pixels", "baseline"),),
            "Value of a sample without pulses. It is set for each pixel, so that far ones are no fault as such.",
        ),
        Quantity(
            "gain_smearing", "Gain smearing", "gain smearing [LSB]", (("calibration/pixels", "gain_smearing"),),
            "Standard deviation of the charge of one avalanche.", "pulses",
        ),
        Quantity(
            "time", "Arrival time", "arrival time [ns]", (("calibration/pixels", "time"), ("timing/pixels", "time")),
            "Time of the maximum of the pulse of a flash after the first sample.", "light",
        ),
    )
}  # fmt: skip


def column(frame: pl.DataFrame, name: str) -> Values:
    """Return a column of a table as numbers, NaN where there is none."""
    return np.asarray(frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Scene:
    """The products of a run as arrays by pixel.

    Parameters
    ----------
    products : mapping
        Products of the run by "step/product", as far as they are there.
    context : Context
        Its channel map is that of the camera.
    """

    products: Mapping[str, Any]
    context: Context

    def has(self, *names: str) -> bool:
        """Return whether all these products are there."""
        return all(name in self.products for name in names)

    def frame(self, name: str) -> pl.DataFrame:
        """Return a table product as a frame."""
        found: pl.DataFrame = self.products[name].frame
        return found

    def parameters(self, step: str, kind: type[Parameters]) -> Parameters:
        """Return the parameters of a step in this run; the usual ones where the run does not tell."""
        found = getattr(self.context.options, step, None)
        return found if isinstance(found, kind) else kind()

    def column(self, product: str, name: str) -> Values:
        """Return a column of a table of pixels, shape (1296,); NaN where there is no value."""
        found = np.full(N_PIXELS, np.nan)
        if self.has(product):
            frame = self.frame(product)
            if name in frame.columns:
                found[frame["channel"].to_numpy()] = column(frame, name)
        return found

    def values(self, key: str) -> Values:
        """Return the values of one of `QUANTITIES`, shape (1296,); NaN where there is none."""
        for product, name in QUANTITIES[key].places:
            found = self.column(product, name)
            if np.isfinite(found).any():
                return found
        return np.full(N_PIXELS, np.nan)

    def telling(self, name: str) -> Mask:
        """Return which good pixels have a value of the calibration that counts for the camera, shape (1296,).

        What a fit of flashes says of a pixel that no light reaches does not.
        """
        values = self.column("calibration/pixels", name)
        return np.asarray(~self.flagged & np.isfinite(values) & ~self.without_light(name))

    def without_light(self, name: str) -> Mask:
        """Return which pixels have a value of the calibration from flashes, but no light, shape (1296,)."""
        found = np.zeros(N_PIXELS, dtype=bool)
        if self.has("calibration/pixels") and f"{name}_from" in self.frame("calibration/pixels").columns:
            frame = self.frame("calibration/pixels")
            found[frame["channel"].to_numpy()] = (frame[f"{name}_from"] == "gain").to_numpy()
        return found & self.flags["unlit"]

    def errors(self, key: str) -> Values:
        """Return the standard errors of one of `QUANTITIES`, shape (1296,)."""
        for product, name in QUANTITIES[key].places:
            if np.isfinite(self.column(product, name)).any():
                return self.column(product, f"{name}_error")
        return np.full(N_PIXELS, np.nan)

    @cached_property
    def flags(self) -> dict[str, Mask]:
        """Which pixels have which flag, in the order of `FLAGS`; none where nothing was judged."""
        words = np.full(N_PIXELS, "", dtype=object)
        if self.has("calibration/pixels"):
            frame = self.frame("calibration/pixels")
            words[frame["channel"].to_numpy()] = frame["flags"].to_list()
        sets = [set(str(word).split(",")) for word in words]
        return {name: np.array([name in own for own in sets]) for name in FLAGS}

    @cached_property
    def flagged(self) -> Mask:
        """Pixels whose constants are not to be used, shape (1296,); none where nothing was judged."""
        return np.asarray(self.column("calibration/pixels", "good") == 0)

    @cached_property
    def lit(self) -> Mask:
        """Pixels before which the light source stands, shape (1296,)."""
        frame = self.context.channels.frame
        return (
            np.asarray(frame["lit"].to_numpy(), dtype=bool)
            if "lit" in frame.columns
            else np.ones(N_PIXELS, dtype=bool)
        )

    @cached_property
    def missing_modules(self) -> list[int]:
        """Modules of which every pixel is dead."""
        return whole_modules(self.flags["dead"], self.context.channels.column("module"))

    def cuts(self, values: Values) -> tuple[float, float]:
        """Return below and above which values the calibration flags a pixel as an outlier."""
        return outlier_cuts(values, self.parameters("calibration", CalibrationParameters).outlier)

    # -- light ---------------------------------------------------------------------------------------------------

    @cached_property
    def levels(self) -> Values:
        """Levels of the scan, rising [DAC]; empty without one."""
        if not self.has("levels/light"):
            return np.empty(0)
        return np.asarray(self.frame("levels/light")["level"].unique().sort().to_numpy(), dtype=np.float64)

    def of_levels(self, name: str) -> Values:
        """Return a column of ``levels/light`` by pixel and level, shape (1296, n_levels)."""
        frame = self.frame("levels/light")
        found = np.full((N_PIXELS, self.levels.size), np.nan)
        place = np.searchsorted(self.levels, frame["level"].to_numpy())
        found[frame["channel"].to_numpy(), place] = column(frame, name)
        return found

    @cached_property
    def light(self) -> Values:
        """Photo-electrons by pixel and level, shape (1296, n_levels)."""
        return self.of_levels("photo_electrons")

    @cached_property
    def usable_light(self) -> Mask:
        """Pixels whose light counts for the camera: lit ones with good constants, shape (1296,)."""
        return np.asarray(~self.flagged & ~self.flags["unlit"] & np.isfinite(self.light).any(axis=1))

    @cached_property
    def typical_light(self) -> Values:
        """Median light of the usable pixels at each level, shape (n_levels,) [p.e.]."""
        light = np.where(self.usable_light[:, None], self.light, np.nan)
        return median_of_known(light, axis=0)

    @cached_property
    def level_shown(self) -> int:
        """Index of the level that is drawn first: the one asked for, or that nearest to 2 photo-electrons; -1 without one."""
        view = getattr(self.context.options, "view", View())
        if not self.levels.size:
            return -1
        if view.level is not None:
            return int(np.argmin(np.abs(self.levels - view.level)))
        distance = np.abs(np.log(np.maximum(self.typical_light, 1e-3) / 2.0))
        return int(np.nanargmin(distance)) if np.isfinite(distance).any() else -1

    @cached_property
    def relative_light(self) -> Values:
        """Light of each pixel over that of the median pixel, mean of the levels that tell it, shape (1296,)."""
        typical = self.typical_light
        bright = (typical > _BRIGHT[0]) & (typical < _BRIGHT[1])
        if not bright.any():
            return np.full(N_PIXELS, np.nan)
        ratio = self.light[:, bright] / typical[bright]
        # weights are common to all pixels, so that a missing level does not move a pixel
        weight = np.where(np.isfinite(ratio), typical[bright], np.nan)
        return np.asarray(nan_sum(ratio * weight) / nan_sum(weight))

    # -- continuous light ----------------------------------------------------------------------------------------

    @cached_property
    def continuous_levels(self) -> Values:
        """Levels of continuous light, rising [DAC]; empty without any."""
        if not self.has("continuous/moments"):
            return np.empty(0)
        return np.asarray(self.products["continuous/moments"].coordinates["level"], dtype=np.float64)

    @cached_property
    def shift(self) -> Values:
        """How far continuous light and dark counts move the mean sample, shape (1296, n_levels) [LSB].

        From the baseline in the dark, or from the lowest level where there is no dark run.
        """
        mean = np.asarray(self.products["continuous/moments"].values[:, :, 0], dtype=np.float64)
        dark = self.column("dark/pixels", "baseline") - self.context.channels.column("reference")
        base = dark[:, None] if np.isfinite(dark).any() else mean[:, [int(np.argmin(self.continuous_levels))]]
        return np.asarray(mean - base)

    @cached_property
    def relative_gain(self) -> Values:
        """Gain that fluctuations under continuous light tell, over that of the calibration, shape (1296, n_levels).

        Campbell's theorem: the variance that pulses add over the shift that they make is
        ``I2 / I1 [G / (1 - l)^2 + s_1^2 / G]``, whatever their rate. A gain that the load of the bias circuit lowers shows
        below 1. NaN at levels whose shift is below 0.5 LSB in the median pixel, or where the calibration has no gain.
        """
        from firstlight.detectors.digicam.pulse import PulseTemplate

        pulse = PulseTemplate.default()
        noise, smearing, crosstalk, gain = (
            self.column("calibration/pixels", name)
            for name in ("electronics_noise", "gain_smearing", "crosstalk", "peak_gain")
        )
        variance = self.products["continuous/moments"].values[:, :, 2]
        added = variance - (noise**2 + 1 / 12)[:, None]
        whole = pulse.integral(2) / pulse.integral() * (gain / (1 - crosstalk) ** 2 + smearing**2 / gain)
        # whole levels are left out: single pixels would be chosen by their own fluctuations
        enough = median_of_known(np.where(self.flagged[:, None], np.nan, self.shift)) > _LEAST_SHIFT
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(enough, added / self.shift / whole[:, None], np.nan)

    def of_continuous_levels(self, name: str) -> Values:
        """Return a column of ``dc/levels`` by pixel and level, shape (1296, n_levels); NaN where it was not computed."""
        found = np.full((N_PIXELS, self.continuous_levels.size), np.nan)
        if self.has("dc/levels"):
            frame = self.frame("dc/levels")
            place = np.searchsorted(self.continuous_levels, frame["level"].to_numpy())
            found[frame["channel"].to_numpy(), place] = column(frame, name)
        return found

    # -- examples ------------------------------------------------------------------------------------------------

    def examples(self, product: str, names: tuple[str, ...]) -> list[tuple[str, int]]:
        """Return pixels to draw: those asked for, or a typical one, the worst fit and the largest outlier.

        Parameters
        ----------
        product : str
            Table of fits with ``p_value`` and ``status``.
        names : tuple of str
            Parameters that tell how typical a pixel is.

        Returns
        -------
        list of (str, int)
            What the pixel is an example of, and its number.
        """
        wanted = getattr(self.context.options, "view", View()).pixels
        if wanted:
            return [("chosen", pixel) for pixel in wanted if 0 <= pixel < N_PIXELS]
        frame = self.frame(product)
        status = np.full(N_PIXELS, "no_data", dtype=object)
        status[frame["channel"].to_numpy()] = frame["status"].to_list()
        fitted = np.isin(status, ("ok", "at_bound")) & ~self.flags["dead"] & ~self.flags["unlit"]
        distance = np.zeros(N_PIXELS)
        for name in names:
            values = self.column(product, name)
            base = values[fitted & ~self.flagged & np.isfinite(values)]
            if base.size > 1:
                spread = max(robust_spread(base), 1e-9)
                distance += np.nan_to_num(((values - np.median(base)) / spread) ** 2)
        p_value = self.column(product, "p_value")
        found: list[tuple[str, int]] = []

        def add(what: str, where: Mask, order: Values) -> None:
            index = np.flatnonzero(where & np.isfinite(order))
            index = index[~np.isin(index, [pixel for _, pixel in found])]
            if index.size:
                found.append((what, int(index[np.argmin(order[index])])))

        add("typical", fitted & ~self.flagged & (p_value > 0.2) & (p_value < 0.8), distance)
        if not found:
            add("typical", fitted, distance)
        add("smallest p-value", fitted, p_value)
        add("largest outlier", fitted, -distance)
        return found

    def without_fit(self, product: str) -> Mask:
        """Return which pixels have nothing that a fit could find: dead ones, without high voltage, without light."""
        found = self.flags["dead"]
        if product != "hv_off/pixels":
            found = found | self.flags["no_pulses"]
        return found | self.flags["unlit"] if product in ("gain/pixels", "levels/light") else found

    @cached_property
    def flash_gain(self) -> tuple[Values, Values]:
        """Gain of flashes as height of the pulse at its maximum, and its error, shape (1296,) each [LSB/p.e.].

        That of a sample beside the maximum, or of a window, is another one; without a calibration there is only that.
        """
        gain, error = (self.column("gain/pixels", name) for name in ("gain", "gain_error"))
        peak = self.column("calibration/pixels", "peak_gain")
        if not np.isfinite(peak).any():
            return gain, error
        frame = self.frame("calibration/pixels")
        of_flashes = np.zeros(N_PIXELS, dtype=bool)
        of_flashes[frame["channel"].to_numpy()] = (frame["gain_from"] == "gain").to_numpy()
        peak = np.where(of_flashes, peak, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            return peak, np.where(gain > 0, error * peak / gain, np.nan)

    @cached_property
    def dark_counts_inside(self) -> bool:
        """Whether dark counts are inside of the fits of flashes."""
        rate = self.column("gain/pixels", "rate")
        return bool(np.isfinite(rate).any() and np.nanmedian(rate) > 0)

    @property
    def about(self) -> str:
        """What the run holds, for the second line of titles."""
        if not self.has("events/files"):
            return ""
        names = {"hv_off": "HV off", "dark": "dark", "led": "flashes", "dc": "continuous light", "sky": "sky"}
        frame = self.frame("events/files").group_by("kind").agg(pl.col("n_events").sum(), pl.len())
        rows = {kind: (number, files) for kind, number, files in frame.iter_rows()}
        parts = [f"{words}: {rows[kind][0]:,} events" for kind, words in names.items() if kind in rows]
        if "led" in rows and self.has("light/levels"):
            place = next(number for number, part in enumerate(parts) if part.startswith("flashes"))
            parts[place] += f", {self.frame('light/levels').height} levels"
        return "; ".join(parts)

    @property
    def light_parameters(self) -> LightParameters:
        """How the light of a flash was measured."""
        return self.parameters("light", LightParameters)

    @property
    def gain_parameters(self) -> GainParameters:
        """How levels were fitted together."""
        return self.parameters("gain", GainParameters)


def nan_sum(values: Values) -> Values:
    """Return the sums over the last axis of what is known; NaN where nothing is."""
    total = np.nansum(values, axis=-1)
    return np.where(np.isfinite(values).any(axis=-1), total, np.nan)


def median_of_known(values: Values, axis: int = 0) -> Values:
    """Return medians of what is known along an axis; NaN where nothing is, without a warning."""
    return quantile_of_known(values, 0.5, axis)


def quantile_of_known(values: Values, share: float, axis: int = 0) -> Values:
    """Return quantiles of what is known along an axis; NaN where nothing is, without a warning."""
    known = np.isfinite(values).any(axis=axis)
    moved = np.moveaxis(values, axis, 0)
    found = np.full(known.shape, np.nan)
    if known.any():
        found[known] = np.nanquantile(moved[:, known], share, axis=0)
    return found


def outlier_cuts(values: Values, limit: float) -> tuple[float, float]:
    """Return the values beyond which `calibration.outliers` flags a pixel; infinite where it flags none.

    Parameters
    ----------
    values : ndarray, shape (1296,)
        Of all pixels, flagged ones included.
    limit : float
        Robust standard deviations.
    """
    known = values[np.isfinite(values)]
    if known.size < 20:
        return -np.inf, np.inf
    middle = float(np.median(known))
    spread = max(robust_spread(known), 1e-3 * abs(middle))
    return middle - limit * spread, middle + limit * spread


def pixel_names(
    where: Mask, module: NDArray[Any], told: Callable[[int], str] | None = None, most: int = 60
) -> tuple[str, ...]:
    """Return the names of some pixels; modules of which all pixels are among them stand for these.

    Parameters
    ----------
    where : ndarray of bool, shape (1296,)
        Which pixels.
    module : ndarray of int, shape (1296,)
        Module of each.
    told : callable, optional
        ``told(pixel)``: what to say of a single pixel.
    most : int
        Names at most.
    """
    whole = whole_modules(where, module)
    names = [f"module {number} (all {int((module == number).sum())} pixels)" for number in whole]
    for pixel in np.flatnonzero(where & ~np.isin(module, whole)):
        text = told(int(pixel)) if told is not None else ""
        names.append(f"pixel {pixel}" + (f": {text}" if text else ""))
    return tuple(names[:most])


def whole_modules(where: Mask, module: NDArray[Any]) -> list[int]:
    """Return the modules of which every pixel is among some, rising.

    Parameters
    ----------
    where : ndarray of bool, shape (1296,)
        Which pixels.
    module : ndarray of int, shape (1296,)
        Module of each.
    """
    numbers, place = np.unique(module, return_inverse=True)
    lively = np.bincount(place, ~where, minlength=numbers.size)
    return [int(number) for number in numbers[lively == 0]]
