"""Steering files: an analysis with all its options in one YAML or TOML file, with the keys of the original's later versions.

``analysis_module`` says what is done; the other keys are those of the verbs, see `Steering`. Tables named like a step of the
chain (``light: {extractor: integration}``) are its parameters, as in a configuration file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from firstlight.errors import ConfigError
from firstlight.run.config import StrictModel, build, load_config
from firstlight.yaml_files import load_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MODULES", "NEEDLESS", "Steering", "read_steering"]

Job = Literal["hv_off", "dark", "spe", "scan", "gain", "time", "led", "dc", "timing", "template"]

MODULES: dict[str, Job] = {
    "analyse_hvoff": "hv_off",
    "analyse_adc_dark": "dark",
    "analyse_dark": "dark",
    "analyse_spe": "spe",
    "analyse_dark_spe": "spe",
    "analyse_mpe": "scan",
    "analyse_charge_scan": "scan",
    "analyse_ac_dac_scan": "scan",
    "analyse_gain": "gain",
    "analyse_gain_sigmas": "gain",
    "analyse_synchro": "time",
    "analyse_ac_led": "led",
    "analyse_dc_led": "dc",
    "analyse_dc_scan": "dc",
    "analyse_dc_calibration": "dc",
    "analyse_timing": "timing",
    "analyse_pulse_shape": "template",
    "analyse_pulse_template": "template",
}
"""What is done, by the names of the original's modules."""

NEEDLESS = {
    "log_file_basename": "the log is run.log of the run directory",
    "mc": "what wrote a file is recognised from the file",
    "baseline_per_event_limit": "samples are counted as they are, and not less a mean of their own event",
    "adcs_min": "all values are counted",
    "adcs_max": "all values are counted",
    "adcs_binwidth": "bins are 1 LSB wide",
    "sample_max": "the length of traces is in the files",
    "n_samples": "the length of traces is in the files",
    "n_bins": "the length of traces is in the files",
    "sampling_time": "a sample is taken every 4 ns",
    "debug": "the log says all there is",
    "dark_analysis": "one fit gives baseline, noise, rate, crosstalk and gain",
    "baseline_param_data": "baselines are found in the run itself",
    "baseline_subtract": "samples are counted as they are",
    "pulse_shape_filename": "the shape of a pulse is that of dark.template and gain.template",
    "n_bins_before_signal": "the baseline of a pulse is found in its whole trace",
    "events_per_level_in_file": "levels are told by event numbers, not by places in a file",
    "ac_level_for_pulse_shape_integral": "the integral is that of the shape of a pulse",
    "nsb_histo_filename": "shifts of the baseline are found in the run itself",
    "frequency_list": "rates are found, not given",
    "frequency_filename": "rates are products of the run",
    "dc_start": "levels are scan_level",
    "dc_step": "levels are scan_level",
    "ac_start": "levels are scan_level",
    "ac_step": "levels are scan_level",
}
"""Keys of the original that change nothing here, and why."""

_EXTRACTORS = {
    "fixed_max": "fixed_max", "local_max": "local_max", "global_max": "global_max", "integration": "integration",
    "integration_sat": "integration_sat", "integration_saturation": "integration_sat",
}  # fmt: skip
_ANGLES = {120: 1, 240: 2, 0: 3}  # degrees of the light source, and the sector before which it stands
# other names that the original has for the same
_SAME = {
    "min_event": "evt_min", "max_event": "evt_max", "charge_extraction": "integration_method", "ac_level": "scan_level",
    "timing_filename": "histo_filename", "full_mpe_histo_filename": "full_histo_filename", "mpes_histo_filename": "mpe_histo_filename", "peak_histo_filename": "synch_histo_filename",
    "input_dark_filename": "dark_histo_filename", "input_hvoff_filename": "hv_off_histo_filename",
    "file_namebase": "file_basename",
}  # fmt: skip


def _number(value: Any) -> Any:
    """Return a number that YAML takes for text: ``5e10``, ``5000*25``."""
    if not isinstance(value, str):
        return value
    product = 1.0
    for word in value.split("*"):
        try:
            product *= float(word)
        except ValueError:
            return value
    return product


class Steering(StrictModel):
    """The keys of a steering file.

    Attributes
    ----------
    analysis_module : str
        What is done, one of `MODULES`.
    create_histo, perform_analysis, display_results : bool
        Which parts of it. None of them: what is saved is displayed.
    verbose : bool
        Whether the log is shown as it is written.
    file_basename, directory, file_list, output_directory
        As of the verbs.
    histo_filename, full_histo_filename, mpe_histo_filename, synch_histo_filename : str
        Names of histogram files: the one of the analysis, those of all levels, of single levels, of highest samples.
    fit_filename, hv_off_histo_filename, dark_histo_filename : str
        Names of fit files. The original keeps fits in the histogram file: of a name without ``_fit`` the fit file is the one
        with it.
    scan_level : list of float
        Levels [DAC]; exactly three numbers are three levels here.
    events_per_level, evt_min, evt_max, n_evt_per_batch : int
        As of the verbs; `evt_min` is the first event that is used.
    window_width, window_start, integration_method, threshold_sat, central_sample, timing_width
        How the light of a flash is measured: samples of a window, of them before the light, `LightParameters.extractor`, height
        of saturation [LSB], sample of the light, samples on either side that are searched.
    angle_cts : float
        Angle of the light source: 0, 120, 240 degrees.
    pixel_list : list of int or "all"
        Pixels that are drawn; all are analysed.
    n_pixels : int
        1296, or as many as `pixel_list` has.
    mean_range_for_mpe : list of two float
        Mean light of the levels that are added up [LSB above the baseline].
    mpe_max_peaks_to_fit : int
        Peaks of the fit of all levels.
    """

    analysis_module: str
    create_histo: bool = False
    perform_analysis: bool = False
    display_results: bool = False
    verbose: bool = False
    file_basename: str = ""
    directory: Path = Path()
    file_list: tuple[str, ...] = ()
    output_directory: Path = Path()
    histo_filename: str = ""
    full_histo_filename: str = ""
    mpe_histo_filename: str = ""
    synch_histo_filename: str = ""
    fit_filename: str = ""
    hv_off_histo_filename: str = ""
    dark_histo_filename: str = ""
    scan_level: tuple[float, ...] = ()
    events_per_level: int = pydantic.Field(5000, ge=1)
    evt_min: int = pydantic.Field(0, ge=0)
    evt_max: int | None = pydantic.Field(None, ge=1)
    n_evt_per_batch: int | None = pydantic.Field(None, ge=1)
    window_width: int | None = pydantic.Field(None, ge=1)
    window_start: int | None = pydantic.Field(None, ge=0)
    integration_method: str | None = None
    threshold_sat: float | None = None
    central_sample: int | None = pydantic.Field(None, ge=0)
    timing_width: int | None = pydantic.Field(None, ge=0)
    angle_cts: float | None = None
    pixel_list: tuple[int, ...] = ()
    n_pixels: int | None = None
    mean_range_for_mpe: tuple[float, float] | None = None
    mpe_max_peaks_to_fit: int | None = pydantic.Field(None, ge=2, le=60)

    @pydantic.field_validator("evt_min", "evt_max", "events_per_level", "n_evt_per_batch", mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        found = _number(value)
        return int(found) if isinstance(found, float) and found.is_integer() else found

    @pydantic.field_validator("file_list", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)

    @pydantic.field_validator("pixel_list", mode="before")
    @classmethod
    def _every_pixel(cls, value: Any) -> Any:
        return () if value == "all" else value

    @pydantic.field_validator("analysis_module")
    @classmethod
    def _known_module(cls, value: str) -> str:
        name = value if value.startswith("analyse_") else f"analyse_{value}"
        if name not in MODULES:
            known = ", ".join(MODULES)
            message = f"there is no such analysis; there are {known}"
            raise ValueError(message)
        return name

    @pydantic.field_validator("integration_method")
    @classmethod
    def _known_method(cls, value: str | None) -> str | None:
        if value is not None and value not in _EXTRACTORS:
            message = f"must be one of {', '.join(_EXTRACTORS)}"
            raise ValueError(message)
        return None if value is None else _EXTRACTORS[value]

    @pydantic.field_validator("angle_cts")
    @classmethod
    def _known_angle(cls, value: float | None) -> float | None:
        if value is not None and value not in _ANGLES:
            message = "the light source stands at 0, 120 or 240 degrees"
            raise ValueError(message)
        return value

    @pydantic.model_validator(mode="after")
    def _all_pixels(self) -> Steering:
        wanted = {1296, len(self.pixel_list)} if self.pixel_list else {1296}
        if self.n_pixels is not None and self.n_pixels not in wanted:
            message = f"n_pixels = {self.n_pixels}: the camera has 1296 pixels"
            raise ValueError(message)
        return self

    @property
    def job(self) -> Job:
        """What is done."""
        return MODULES[self.analysis_module]

    @property
    def cts_sector(self) -> int | None:
        """Sector before which the light source stands."""
        return None if self.angle_cts is None else _ANGLES[int(self.angle_cts)]

    def light(self) -> dict[str, Any]:
        """Return the parameters of how the light of a flash is measured that are given."""
        named = {
            "extractor": self.integration_method, "window_width": self.window_width, "window_start": self.window_start,
            "search": self.timing_width, "threshold_sat": self.threshold_sat,
        }  # fmt: skip
        return {name: value for name, value in named.items() if value is not None}


def read_steering(
    path: Path, beneath: Path | None = None, **given: Any
) -> tuple[Steering, dict[str, Any], dict[str, str]]:
    """Read a steering file.

    Parameters
    ----------
    path : Path
        ``.yml`` or ``.yaml`` (with pyyaml), ``.toml`` or ``.json``.
    beneath : Path, optional
        A second file with what several analyses share; the first one wins.
    **given
        Keys that win over both; None was not given.

    Returns
    -------
    steering : Steering
        The keys.
    parameters : dict
        Parameters of steps, by step.
    needless : dict of str to str
        Keys that change nothing, and why.

    Raises
    ------
    ConfigError
        If a file cannot be read, or a key or value is wrong; an unknown key names its nearest neighbours.
    MissingExtraError
        If a YAML file is given and pyyaml is not installed.
    """
    from firstlight.detectors.digicam.chain import CHAIN

    content: dict[str, Any] = {}
    for file in (beneath, path):
        if file is not None:
            own = _loaded(file)
            content.update({_SAME.get(key, key): value for key, value in own.items() if value is not None})
    content.update({key: value for key, value in given.items() if value is not None})
    needless = {key: NEEDLESS[key] for key in list(content) if key in NEEDLESS}
    if "dc_level" in content and "scan_level" in content:
        needless["dc_level"] = "levels of flashes are told apart, whatever shines all the time"
    elif "dc_level" in content:
        content["scan_level"] = content.pop("dc_level")
    steps = {step.name for step in CHAIN}
    parameters = {
        key: content.pop(key) for key in list(content) if key in steps and isinstance(content[key], dict)
    }
    for key in needless:
        del content[key]
    if "analysis_module" not in content:
        what = "the key 'analysis_module' is missing: it says what is done"
        raise ConfigError(what, where=path, known=list(MODULES))
    steering = build(Steering, content, path)
    light = {**steering.light(), **parameters.get("light", {})}
    return steering, {**parameters, **({"light": light} if light else {})}, needless


def _loaded(path: Path) -> Mapping[str, Any]:
    """Return the content of a file."""
    if path.suffix not in (".yml", ".yaml"):
        return load_config(path)
    if not path.is_file():
        what = "the steering file does not exist"
        raise ConfigError(what, where=path)
    content = load_yaml(path, ConfigError, "not valid YAML")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        what = "the top level must be keys with values: analysis_module: analyse_hvoff"
        raise ConfigError(what, where=path)
    return content
