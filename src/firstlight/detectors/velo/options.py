"""Parameters of a VELO run: the same names in a dataset file, a configuration file and on the command line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from firstlight.errors import FirstlightError, nearest
from firstlight.run.config import StrictModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = [
    "BASELINES",
    "MODELS",
    "SEPARATIONS",
    "BadFrame",
    "BaselineParameters",
    "CalibrationParameters",
    "FitParameters",
    "Line",
    "Options",
    "ScanParameters",
    "SelectionParameters",
    "ThresholdRange",
]

# flux equations, with the parameters in the order in which start values are given (that of the original)
MODELS: dict[str, tuple[str, ...]] = {
    "physical": ("step", "slope", "width", "position"),
    "physical_background": ("step", "slope", "width", "position", "background"),
    "two_line": ("step", "slope", "width", "position"),
    "legacy": ("f", "A", "s", "E0"),
    "legacy_no_term0": ("f", "A", "s", "E0"),
    "legacy_two_widths": ("f", "A", "s", "s2", "E0"),
    "legacy_ab": ("B", "A", "s", "E0"),
    "legacy_ab_no_term0": ("B", "A", "s", "E0"),
    "legacy_two_widths_ab": ("B", "A", "s", "s2", "E0"),
    "legacy_4": ("B", "A", "s", "E0"),
    "legacy_timepix": ("B", "A", "s", "E0"),
}
# names of baselines, with what they are
BASELINES: dict[str, str] = {
    "auto": "the measured one where there is one, else the cubic law, else the predicted file",
    "control": "measured at the chosen trims: Control_Noise_Mean",
    "cubic": "trim 0, trim 15 and a cubic trim law",
    "linear15": "trim 0, trim 15 and a straight line of 15 steps",
    "legacy16": "trim 0, trim 15 and a straight line of 16 steps, as the original equalisation predicts it",
    "predicted": "the file TrimBest_Noise_Predict as it is",
}
# groups of pixels that a run can be restricted to
SEPARATIONS: dict[str, str] = {
    "": "all pixels",
    "even": "even columns, without the rows",
    "odd": "odd columns, without the rows",
    "rows": "rows 0 and 15 of every 16",
    "superpixel_even": "columns 0 and 1 of every 4: super-pixels of even number",
    "superpixel_odd": "columns 2 and 3 of every 4: super-pixels of odd number",
}


def _guess(name: str, known: Iterable[str]) -> str:
    """Return the end of a message on an unknown name: its neighbours, or all names."""
    names = [each for each in known if each]
    close = nearest(name, names)
    return f"did you mean {' or '.join(close)}?" if close else f"There are {', '.join(names)}."


class ThresholdRange(StrictModel):
    """Thresholds of a scan.

    Attributes
    ----------
    start : int
        First threshold [DAC].
    stop : int
        Last threshold [DAC], itself included.
    step : int
        Distance of thresholds [DAC].
    """

    start: int
    stop: int
    step: int = pydantic.Field(1, ge=1)

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> ThresholdRange:
        if self.stop < self.start:
            what = f"stop {self.stop} lies below start {self.start}"
            raise ValueError(what)
        if (self.stop - self.start) % self.step:
            what = (
                f"stop {self.stop} is not a whole number of steps of {self.step} away from start {self.start}"
            )
            raise ValueError(what)
        return self

    @property
    def values(self) -> NDArray[np.int32]:
        """All thresholds [DAC], of shape (n_thresholds,)."""
        return np.arange(self.start, self.stop + 1, self.step, dtype=np.int32)


class BadFrame(StrictModel):
    """How corrupt frames are recognised.

    A number in the place of this table is the `value` of the rule ``fingerprint``, a word is the `rule`.

    Attributes
    ----------
    rule : {"auto", "fingerprint", "none"}
        ``fingerprint``: the mean of one column is a number that is known; ``auto``: a column that does not fit its
        neighbours in the frame and itself in other frames; ``none``: no frame is bad.
    column : int
        Column that is looked at.
    value : float, optional
        Mean of this column over pixels that are not masked, in a corrupt frame [hits].
    tolerance : float
        Largest distance from `value` [hits].
    """

    rule: Literal["auto", "fingerprint", "none"] = "auto"
    column: int = pydantic.Field(255, ge=0, le=255)
    value: float | None = pydantic.Field(None, ge=0, le=63)
    tolerance: float = pydantic.Field(0.01, gt=0, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if isinstance(given, int | float) and not isinstance(given, bool):
            return {"rule": "fingerprint", "value": given}
        if isinstance(given, str):
            return {"rule": given}
        if isinstance(given, dict) and "value" in given and "rule" not in given:
            return {"rule": "fingerprint", **given}
        return given

    @pydantic.model_validator(mode="after")
    def _value_goes_with_fingerprint(self) -> BadFrame:
        if self.rule == "fingerprint" and self.value is None:
            what = "the rule fingerprint needs a value: the mean of the column in a corrupt frame"
            raise ValueError(what)
        if self.rule != "fingerprint" and self.value is not None:
            what = f"a value goes with the rule fingerprint, not with {self.rule}"
            raise ValueError(what)
        return self


class ScanParameters(StrictModel):
    """Which frames make a scan.

    Attributes
    ----------
    shutter : str
        Open time in file names, ``"2s621ms"``; frames of other shutters are left out. All where empty.
    acquisitions : int, optional
        Number of frames of each threshold; the largest number found and one by default.
    threshold : ThresholdRange, optional
        Thresholds that belong to the scan; all that are found by default.
    exclude : str
        Condition on ``thr`` and ``acq``; frames for which it is true are left out. A list of tables
        ``{thr = 1494, acq = 18}`` says the same.
    bad_frame : BadFrame
        How corrupt frames are recognised. A plain number is a fingerprint.
    """

    shutter: str = ""
    acquisitions: int | None = pydantic.Field(None, ge=1)
    threshold: ThresholdRange | None = None
    exclude: str = "False"
    bad_frame: BadFrame = BadFrame()

    @pydantic.field_validator("shutter")
    @classmethod
    def _a_time(cls, text: str) -> str:
        from firstlight.detectors.velo.frames import parse_shutter

        if text:
            try:
                parse_shutter(text)
            except FirstlightError as error:
                raise ValueError(_in_one_line(error)) from error
        return text

    @pydantic.field_validator("threshold", mode="before")
    @classmethod
    def _three_numbers(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            if len(given) not in {2, 3}:
                what = "thresholds are {start = 1480, stop = 1600, step = 1} or [1480, 1600, 1]"
                raise ValueError(what)
            return dict(zip(("start", "stop", "step"), given, strict=False))
        return given

    @pydantic.field_validator("exclude", mode="before")
    @classmethod
    def _condition(cls, given: Any) -> Any:
        from firstlight.detectors.velo.conditions import parse_condition

        listed = isinstance(given, list | tuple)
        if not listed and not isinstance(given, str):
            what = "a condition is a text such as 'thr == 1494 and acq == 18', or a list of {thr = 1494, acq = 18}"
            raise ValueError(what)
        try:
            return parse_condition(list(given) if listed else given).text
        except FirstlightError as error:
            raise ValueError(_in_one_line(error)) from error


def _in_one_line(error: FirstlightError) -> str:
    known = f" There is {', '.join(error.known)}." if error.known else ""
    hint = f" {error.hint}" if error.hint else ""
    return f"{error.what}.{known}{hint}"


class Line(StrictModel):
    """A line of the source.

    Attributes
    ----------
    energy : float
        Energy of the photons [eV].
    weight : float
        Fraction of the photons; those of all lines add up to 1.
    """

    energy: float = pydantic.Field(gt=0, allow_inf_nan=False)
    weight: float = pydantic.Field(gt=0, le=1)


# manganese K-alpha (both lines, weighted) and K-beta after the decay of 55Fe
_IRON = (Line(energy=5895.0, weight=0.88), Line(energy=6490.0, weight=0.12))


class FitParameters(StrictModel):
    """How the flux curve of a pixel is fitted.

    Attributes
    ----------
    model : str
        Flux equation. ``physical``: photopeak with charge sharing, one width; ``physical_background``: with a constant
        rate; ``two_line``: two lines of the source; the others are the equations of the original scripts.
    estimator : {"poisson", "legacy"}
        Poisson likelihood; or least squares as in the original, where one threshold without hits makes a pixel bad.
    start : tuple of float
        Start values in the order of `MODELS`; from the data where empty.
    start_baseline : tuple of float
        The same where the baseline is subtracted before the fit: the last one is the target.
    baseline : {"before", "after"}
        Whether the baseline of each pixel is subtracted from the thresholds before the fit, or from the position after it.
    minimum_counts : int
        Pixels with fewer hits in the scan are not fitted.
    zero_fraction : float
        Pixels without hits at this fraction of the thresholds, or more, are not fitted.
    significance : float
        A fit whose p-value lies below is a poor one.
    lines : tuple of Line
        Lines of the source for ``two_line``.
    legacy_rows : bool
        The group ``rows`` of the original: rows 15, 30, ... 255 instead of rows 0 and 15 of every 16.
    """

    model: Literal[
        "physical", "physical_background", "two_line", "legacy", "legacy_no_term0", "legacy_two_widths",
        "legacy_ab", "legacy_ab_no_term0", "legacy_two_widths_ab", "legacy_4", "legacy_timepix",
    ] = "physical"  # fmt: skip
    estimator: Literal["poisson", "legacy"] = "poisson"
    start: tuple[float, ...] = ()
    start_baseline: tuple[float, ...] = ()
    baseline: Literal["before", "after"] = "after"
    minimum_counts: int = pydantic.Field(50, ge=0)
    zero_fraction: float = pydantic.Field(0.8, gt=0, le=1)
    significance: float = pydantic.Field(0.001, ge=0, lt=1)
    lines: tuple[Line, ...] = _IRON
    legacy_rows: bool = False

    @pydantic.field_validator("model", mode="before")
    @classmethod
    def _known_model(cls, name: Any) -> Any:
        if isinstance(name, str) and name not in MODELS:
            what = f"unknown flux equation, {_guess(name, MODELS)}"
            raise ValueError(what)
        return name

    @pydantic.field_validator("lines")
    @classmethod
    def _fractions(cls, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        total = sum(line.weight for line in lines)
        if not math.isclose(total, 1.0, abs_tol=1e-3):
            what = f"weights of lines add up to {total:g}, not to 1"
            raise ValueError(what)
        return lines

    @pydantic.model_validator(mode="after")
    def _one_start_each(self) -> FitParameters:
        names = MODELS[self.model]
        for key, values in (("start", self.start), ("start_baseline", self.start_baseline)):
            if values and len(values) != len(names):
                order = ", ".join(names)
                what = f"{key} has {len(values)} values, the model {self.model} has {len(names)}: {order}"
                raise ValueError(what)
            if not all(math.isfinite(value) for value in values):
                what = f"{key} holds a value that is not a number"
                raise ValueError(what)
        if self.model == "two_line" and len(self.lines) < 2:
            what = f"the model two_line needs two lines or more, {len(self.lines)} given"
            raise ValueError(what)
        return self


class BaselineParameters(StrictModel):
    """Where the threshold scale of a pixel begins.

    Attributes
    ----------
    choice : str
        A name of `BASELINES`, or the path of a file of 256 x 256 numbers [DAC].
    """

    choice: str = "auto"

    @pydantic.field_validator("choice")
    @classmethod
    def _name_or_path(cls, text: str) -> str:
        if text in BASELINES or "/" in text or "\\" in text or "." in text:
            return text
        what = f"neither a known baseline nor the path of a file, {_guess(text, BASELINES)}"
        raise ValueError(what)

    @property
    def file(self) -> str | None:
        """Path of the file with the baseline, or None where it is chosen by name."""
        return None if self.choice in BASELINES else self.choice


class CalibrationParameters(StrictModel):
    """From positions to targets and gains.

    Attributes
    ----------
    energy : float
        Energy of the photons [eV]; the original takes 5900 eV for 55Fe.
    energy_uncertainty : float
        Its uncertainty [eV]: common to all pixels.
    energy_per_pair : float
        Energy for one electron-hole pair in the sensor [eV].
    energy_per_pair_uncertainty : float
        Its uncertainty [eV]: common to all pixels, never averaged down.
    target_range : tuple of float
        Targets outside are not used [DAC].
    gain_limit : float
        Gains from here on are not used [e-/DAC].
    legacy_uncertainty : bool
        Take the width of the noise for the uncertainty of the baseline, as the original does.
    legacy_rows : bool
        The group ``rows`` of the original: rows 15, 30, ... 255 instead of rows 0 and 15 of every 16.
    """

    energy: float = pydantic.Field(5895.0, gt=0, allow_inf_nan=False)
    energy_uncertainty: float = pydantic.Field(0.0, ge=0, allow_inf_nan=False)
    energy_per_pair: float = pydantic.Field(3.69, gt=0, allow_inf_nan=False)
    energy_per_pair_uncertainty: float = pydantic.Field(0.11, ge=0, allow_inf_nan=False)
    target_range: tuple[float, float] = (0.0, 1000.0)
    gain_limit: float = pydantic.Field(50.0, gt=0)
    legacy_uncertainty: bool = False
    legacy_rows: bool = False

    @pydantic.field_validator("target_range")
    @classmethod
    def _rising(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not limits[0] < limits[1]:
            what = "the lower limit comes first"
            raise ValueError(what)
        return limits


class SelectionParameters(StrictModel):
    """Which group of pixels a run is restricted to.

    Attributes
    ----------
    separation : str
        A name of `SEPARATIONS`; all pixels where empty.
    legacy_rows : bool
        The group ``rows`` of the original: rows 15, 30, ... 255 instead of rows 0 and 15 of every 16.
    """

    separation: Literal["", "even", "odd", "rows", "superpixel_even", "superpixel_odd"] = ""
    legacy_rows: bool = False

    @pydantic.field_validator("separation", mode="before")
    @classmethod
    def _known_group(cls, name: Any) -> Any:
        if isinstance(name, str) and name not in SEPARATIONS:
            what = f"unknown group of pixels, {_guess(name, SEPARATIONS)}"
            raise ValueError(what)
        return name


class Options(StrictModel):
    """Options of a VELO run.

    Attributes
    ----------
    label : str
        Temperature label: ``"warm"``, ``"cold"``.
    prefix : str
        Module and chip whose frames are read, ``"Module0_VP3-1"``; needed where a folder holds several.
    """

    label: str = ""
    prefix: str = ""
