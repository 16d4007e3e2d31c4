"""Rules of trims: where a trim puts the noise of a pixel, and which trim puts it where it should be.

A trim of 4 bits moves the threshold of a pixel. Noise scans at trim 0 and at trim 15 give two noise means; a rule
says what lies between, from which the trims are chosen and the noise means at these trims are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "LARGEST_DISTANCE",
    "LAST_TRIM",
    "MASK_CODES",
    "RULES",
    "Trims",
    "compute_trims",
    "predict",
    "trim_law",
]

LAST_TRIM = 15
LARGEST_DISTANCE = 25.0
"""Of a prediction from the target [DAC]; beyond it a pixel is masked."""

MASK_CODES = (
    "good",
    "no response in either scan",
    "no response at trim 0",
    "no response at trim 15",
    "the target needs a trim outside 0-15",
    "the prediction is more than 25 DAC from the target",
    "no prediction",
)
"""What the values of a mask mean, by value; all but 0 mask."""

RULES = ("cubic", "linear15", "legacy16")
"""Rules for the noise mean at a trim, best first."""

# average trim law of a VeloPix above its value at trim 0 [DAC], for trims 0 to 15
_CUBIC = (0.02758, -0.6792, 19.48)


def trim_law(trim: Any) -> Floats:
    """Return the average trim law: 0 at trim 0, 1 at trim 15, a cubic between and beyond.

    ``0.02758 t^3 - 0.6792 t^2 + 19.48 t`` DAC, measured on a VeloPix, over its value at 15 (232.5 DAC).
    """
    t = np.asarray(trim, dtype=np.float64)
    cubic, square, linear = _CUBIC
    value = t * (linear + t * (square + t * cubic))
    full = LAST_TRIM * (linear + LAST_TRIM * (square + LAST_TRIM * cubic))
    return np.asarray(value / full)


def _share(trim: Any, rule: str) -> Floats:
    """Return the part of the distance between the means at trims 0 and 15 at a trim."""
    if rule == "cubic":
        return trim_law(trim)
    if rule in ("linear15", "legacy16"):
        return np.asarray(np.asarray(trim, dtype=np.float64) / (15.0 if rule == "linear15" else 16.0))
    raise UsageError.unknown("trim rule", rule, RULES)


def _rounded(values: Any) -> Floats:
    """Round halves away from zero, as C does."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(np.copysign(np.floor(np.abs(values) + 0.5), values))


def predict(trim0: Any, trimF: Any, trim: Any, rule: str, *, whole: bool = False) -> Floats:
    """Return the noise mean at a trim by a rule.

    Parameters
    ----------
    trim0, trimF : array of float
        Noise means at trim 0 and trim 15 [DAC], of one shape.
    trim : array of int
        Trims.
    rule : str
        ``"linear15"``: a straight line, which reaches `trimF` at 15. ``"legacy16"``: the straight line of the
        original, which would reach it at 16, and is low by up to a sixteenth of the range. ``"cubic"``: the
        average trim law between the two means of each pixel.
    whole : bool
        Round the distance from `trim0` to a whole number, halves away from zero, as the original does.

    Raises
    ------
    UsageError
        If there is no such rule.
    """
    low, high = np.asarray(trim0, dtype=np.float64), np.asarray(trimF, dtype=np.float64)
    distance = _share(trim, rule) * (high - low)
    return np.asarray(low + (_rounded(distance) if whole else distance))


@dataclass(frozen=True)
class Trims:
    """Trims that bring the noise of all pixels to one target.

    Parameters
    ----------
    trim : ndarray of int8, shape (n,)
        Chosen trims; 0 where masked.
    mask : ndarray of int8, shape (n,)
        Codes as in `MASK_CODES`.
    predicted : ndarray of float64, shape (n,)
        Noise mean expected at the chosen trim [DAC]; NaN where masked.
    target : float
        Aim [DAC].
    rule : str
        The rule.
    """

    trim: NDArray[np.int8]
    mask: NDArray[np.int8]
    predicted: Floats
    target: float
    rule: str


def compute_trims(trim0: Any, trimF: Any, rule: str, target: float | None = None) -> Trims:
    """Choose the trim of each pixel that brings its noise mean closest to a target.

    Parameters
    ----------
    trim0, trimF : array of float, shape (n,)
        Noise means at trim 0 and trim 15 [DAC]; 0 or NaN without response.
    rule : str
        As of `predict`. With ``"legacy16"`` all is done in the whole numbers of the original.
    target : float, optional
        Aim [DAC]; half-way between the mean of all means at trim 0 and at trim 15 of the pixels that respond to
        both. For ``"legacy16"`` all three are cut to whole numbers.

    Raises
    ------
    InputError
        If no pixel responds in both scans.
    UsageError
        If there is no such rule.
    """
    legacy = rule == "legacy16"
    low, high = (np.nan_to_num(np.asarray(values, dtype=np.float64)) for values in (trim0, trimF))
    if legacy:
        low, high = np.floor(low), np.floor(high)
    both = (low > 0) & (high > 0)
    if not both.any():
        what = "no pixel responds both at trim 0 and at trim 15"
        raise InputError(what, hint="look at the two noise scans: are they of the same chip?")
    if target is None:
        ends = [float(values[both].mean()) for values in (low, high)]
        target = float((int(ends[0]) + int(ends[1])) // 2) if legacy else sum(ends) / 2
    distance = np.where(both, high - low, np.nan)
    if rule == "cubic":
        # a trim beyond either end stands for all of those
        trims = np.arange(-1, LAST_TRIM + 2)
        reached = low + trim_law(trims)[:, np.newaxis] * np.nan_to_num(distance)
        wanted = trims[np.abs(reached - target).argmin(axis=0)].astype(np.float64)
        wanted[~(distance > 0)] = np.nan
    else:
        step = distance * _share(1, rule)
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = _rounded((target - low) / step)
    reachable = (wanted >= 0) & (wanted <= LAST_TRIM)
    trim = np.where(reachable, wanted, 0.0)
    predicted = predict(low, high, trim, rule, whole=legacy)
    far = np.abs(predicted - target) > LARGEST_DISTANCE
    mask = np.select(
        [(low <= 0) & (high <= 0), low <= 0, high <= 0, ~reachable, far, ~np.isfinite(predicted)],
        [1, 2, 3, 4, 5, 6],
        0,
    )
    good = mask == 0
    return Trims(
        np.where(good, trim, 0).astype(np.int8),
        mask.astype(np.int8),
        np.where(good, predicted, np.nan),
        target,
        rule,
    )
