"""Parameters of a DigiCam run: the same names in a configuration file and on the command line."""

from __future__ import annotations

from typing import Literal

import pydantic

from firstlight.run.config import StrictModel

__all__ = [
    "EXTRACTORS",
    "KINDS",
    "CalibrationParameters",
    "ContinuousParameters",
    "DarkParameters",
    "GainParameters",
    "HvOffParameters",
    "LedParameters",
    "LevelParameters",
    "LightParameters",
    "Options",
    "PeakParameters",
    "SampleParameters",
    "SkyParameters",
    "SpeParameters",
    "TemplateParameters",
    "TimingParameters",
    "View",
    "light_parameters",
]

Kind = Literal["hv_off", "dark", "led", "dc", "sky"]
KINDS: tuple[Kind, ...] = ("hv_off", "dark", "led", "dc", "sky")
Extractor = Literal["fixed_max", "local_max", "global_max", "integration", "integration_sat"]
EXTRACTORS: tuple[Extractor, ...] = (
    "fixed_max",
    "local_max",
    "global_max",
    "integration",
    "integration_sat",
)


class View(StrictModel):
    """How results are drawn; nothing here changes a number.

    Attributes
    ----------
    pixels : tuple of int
        Pixels whose spectra are drawn; typical and odd ones are chosen where empty.
    level : float or None
        Light level that is drawn first; the one nearest to 2 photo-electrons by default.
    """

    pixels: tuple[int, ...] = ()
    level: float | None = None


class Options(StrictModel):
    """Options of a DigiCam run.

    Attributes
    ----------
    kind : {"auto", "hv_off", "dark", "led", "dc", "sky"}
        What all files were taken with; found out of header, name and data of each file by default.
    scan_levels : tuple of float
        Levels of a scan that is one sequence of events, `events_per_level` each [DAC]. Files of one level each
        have it in their name or header.
    events_per_level : int
        Events of each level of such a scan, counted by their numbers.
    event_types : tuple of int
        Only events with one of these flags (8: clocked); all by default.
    cuts : tuple of str
        Further conditions on events, as SQL-like expressions.
    positions : str
        File with the sample at which the light arrives in each pixel (`peaks.npz` of the original, or a column of
        whole numbers); found in the brightest level by default.
    sample : int or None
        The sample at which the light arrives, for all pixels.
    cts_sector : {1, 2, 3} or None
        Sector in front of which the light source (camera test set-up) stood; pixels that it does not light are marked.
    cts_version : {1, 2}
        Light source of 2016, with a board for one sector, or of 2018.
    view : View
        How results are drawn.
    """

    kind: Literal["auto", "hv_off", "dark", "led", "dc", "sky"] = "auto"
    scan_levels: tuple[float, ...] = ()
    events_per_level: int = pydantic.Field(5000, ge=1)
    event_types: tuple[int, ...] = ()
    cuts: tuple[str, ...] = ()
    positions: str = ""
    sample: int | None = pydantic.Field(None, ge=0)
    cts_sector: Literal[1, 2, 3] | None = None
    cts_version: Literal[1, 2] = 1
    view: View = View()


class SampleParameters(StrictModel):
    """How samples are counted.

    Attributes
    ----------
    block_events : int
        Events in a row that count as one of the independent groups from which errors are made.
    blocks : int
        Groups; further events go to the first ones again.
    first_sample : int
        Samples before this one are left out.
    """

    block_events: int = pydantic.Field(10, ge=1)
    blocks: int = pydantic.Field(40, ge=5)
    first_sample: int = pydantic.Field(0, ge=0)


class LightParameters(StrictModel):
    """How the light of a flash is measured.

    Attributes
    ----------
    extractor : {"fixed_max", "local_max", "global_max", "integration", "integration_sat"}
        The sample at which the light arrives; the highest of the samples about it; the highest of the trace; the sum of a
        window; the same, but of all samples above the baseline where the pulse is above `threshold_sat`. Only
        the first, and `integration` with `search` 0, are free of bias at low light.
    window_width : int
        Samples in the window.
    window_start : int
        Samples of the window before the one at which the light arrives.
    search : int
        Samples on either side in which the highest is looked for.
    threshold_sat : float
        Height from which a pulse counts as saturated [LSB].
    """

    extractor: Extractor = "fixed_max"
    window_width: int = pydantic.Field(7, ge=1)
    window_start: int = pydantic.Field(3, ge=0)
    search: int = pydantic.Field(1, ge=0)
    threshold_sat: float = pydantic.Field(2000.0, gt=0)

    @property
    def n_samples(self) -> int:
        """Number of samples whose values add up to a charge."""
        return self.window_width if self.extractor.startswith("integration") else 1


def light_parameters(options: StrictModel) -> LightParameters:
    """Return how the light of flashes is measured in a run, from its options; the default where they say nothing."""
    found = getattr(options, "light", None)
    return found if isinstance(found, LightParameters) else LightParameters()


class ContinuousParameters(StrictModel):
    """How samples under continuous light are added up.

    Attributes
    ----------
    groups : int
        Independent groups of events from which the error of a mean is made.
    """

    groups: int = 20


class PeakParameters(StrictModel):
    """How pulses are found in dark events.

    Attributes
    ----------
    threshold : float
        Height of a pulse after the filter, above the baseline [LSB].
    window_width, window_start : int
        Samples that are summed around a pulse, and how many of them before it.
    """

    threshold: float = pydantic.Field(2.0, gt=0)
    window_width: int = pydantic.Field(7, ge=1)
    window_start: int = pydantic.Field(3, ge=0)


class HvOffParameters(StrictModel):
    """Fit of the spectra without high voltage.

    Attributes
    ----------
    minimum_entries : int
        Pixels with fewer samples are not fitted.
    """

    minimum_entries: int = pydantic.Field(100, ge=10)


class DarkParameters(StrictModel):
    """Fit of the dark spectra.

    Attributes
    ----------
    gain_smearing : float or "fit"
        Width of the gain of an avalanche that is held fixed [LSB]; fitted with "fit" (None in Python). A dark spectrum
        hardly tells it.
    template : str
        File with the shape of a pulse (time in ns and height); the shape of SST-1M by default.
    minimum_entries : int
        Pixels with fewer samples are not fitted.
    use_noise : bool
        Whether the electronics noise is that of the run without high voltage, if there is one.
    bootstrap : int
        Repetitions with groups of events drawn anew, for the errors; 0: from the spread of the groups.
    """

    gain_smearing: float | None = pydantic.Field(0.45, ge=0)
    template: str = ""
    minimum_entries: int = pydantic.Field(5000, ge=100)
    use_noise: bool = False
    bootstrap: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("gain_smearing", mode="before")
    @classmethod
    def _fitted(cls, value: object) -> object:
        return None if value == "fit" else value


class SpeParameters(StrictModel):
    """Fit of the spectrum of pulses found in dark events.

    Attributes
    ----------
    peaks : int
        Photo-electrons up to which the spectrum is described.
    minimum_entries : int
        Pixels with fewer pulses are not fitted.
    """

    peaks: int = pydantic.Field(4, ge=2, le=8)
    minimum_entries: int = pydantic.Field(200, ge=50)


class GainParameters(StrictModel):
    """Simultaneous fit of several light levels.

    Attributes
    ----------
    dark_rate : {"auto", "none", "fit"}
        Whether dark counts are inside the fit: with the rate of the dark run if there is one, not at all, or as a parameter.
    levels : int
        Levels that are fitted together at most.
    lowest, highest : float
        Range of photo-electrons in which a level tells gain and crosstalk.
    template : str
        File with the shape of a pulse; the shape of SST-1M by default.
    minimum_entries : int
        Pixels with fewer events are not fitted.
    """

    dark_rate: Literal["auto", "none", "fit"] = "auto"
    levels: int = pydantic.Field(6, ge=1, le=12)
    lowest: float = pydantic.Field(0.2, gt=0)
    highest: float = pydantic.Field(8.0, gt=0)
    template: str = ""
    minimum_entries: int = pydantic.Field(100, ge=50)


class LevelParameters(StrictModel):
    """Fit of the light of every level.

    Attributes
    ----------
    bins : int
        Bins of a spectrum at most; wider ones are taken for more light.
    highest : float
        Photo-electrons up to which dark counts are inside the spectrum; above, it is only moved and widened by them.
    minimum_entries : int
        Pixels with fewer events are not fitted.
    """

    bins: int = pydantic.Field(200, ge=50)
    highest: float = pydantic.Field(20.0, gt=0)
    minimum_entries: int = pydantic.Field(50, ge=10)


class LedParameters(StrictModel):
    """Light against level.

    Attributes
    ----------
    minimum_light : float
        Below, a pixel is not lit [p.e.].
    polynomial : int
        Degree of the polynomial that is fitted beside the monotone curve.
    """

    minimum_light: float = pydantic.Field(0.05, gt=0)
    polynomial: int = pydantic.Field(4, ge=1, le=6)


class SkyParameters(StrictModel):
    """Rate of photo-electrons of continuous light.

    Attributes
    ----------
    resistance : float
        Of the bias circuit [Ohm].
    capacitance : float
        Of a cell [fF].
    lowest, highest : float
        Rates that an exponential is fitted to [MHz].
    """

    resistance: float = pydantic.Field(10e3, ge=0)
    capacitance: float = pydantic.Field(85.0, ge=0)
    lowest: float = pydantic.Field(10.0, gt=0)
    highest: float = pydantic.Field(1e4, gt=0)


class TimingParameters(StrictModel):
    """Arrival time of the light.

    Attributes
    ----------
    lowest : float
        Levels with less light are left out [LSB above the baseline, at the maximum of the mean pulse].
    """

    lowest: float = pydantic.Field(8.0, gt=0)


class TemplateParameters(StrictModel):
    """Shape of a pulse from flashes.

    Attributes
    ----------
    step : float
        Width of a bin in time [ns].
    lowest : float
        As for the arrival time.
    highest : float
        Levels with more light are left out: they saturate [LSB].
    """

    step: float = pydantic.Field(1.0, gt=0)
    lowest: float = pydantic.Field(8.0, gt=0)
    highest: float = pydantic.Field(2500.0, gt=0)


class CalibrationParameters(StrictModel):
    """The calibration of a pixel and its flags.

    Attributes
    ----------
    outlier : float
        Robust standard deviations of the camera from which a value is an outlier.
    dead_width : float
        Width of the samples below which a pixel is dead [LSB].
    noisy_ratio : float
        Ratio of the electronics noise to the median of the camera from which a pixel is noisy.
    smallest_p_value : float
        Fits with a smaller one are marked.
    """

    outlier: float = pydantic.Field(6.0, gt=0)
    dead_width: float = pydantic.Field(0.1, ge=0)
    noisy_ratio: float = pydantic.Field(2.0, gt=1)
    smallest_p_value: float = pydantic.Field(1e-6, ge=0, le=1)
