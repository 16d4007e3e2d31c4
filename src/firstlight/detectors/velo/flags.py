"""What is wrong with a pixel: a bit field, and the codes of the original that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.velo.channels import COLUMNS, ROWS
from firstlight.steps.neighbourhood import local_median

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.velo.fitting import PixelFits
    from firstlight.detectors.velo.options import FitParameters

__all__ = ["DESCRIPTIONS", "Evidence", "Flag", "fit_type", "is_good", "judge"]


class Flag(IntFlag):
    """What may be wrong with a pixel."""

    MASKED = 1
    DEAD = 2
    NOISY = 4
    SATURATED = 8
    EDGE_OUTSIDE_SCAN = 16
    AT_BOUND = 32
    NOT_CONVERGED = 64
    POOR_FIT = 128
    LOW_STATISTICS = 256
    BASELINE_MISSING = 512


DESCRIPTIONS = {
    Flag.MASKED: "taken out by the mask of the equalisation",
    Flag.DEAD: "hardly any hits where the neighbours have many",
    Flag.NOISY: "hits at thresholds that no photon of the source reaches",
    Flag.SATURATED: "readings at 63, where the counter stops",
    Flag.EDGE_OUTSIDE_SCAN: "the edge is not inside the scanned thresholds",
    Flag.AT_BOUND: "a parameter of the fit ended on its bound, which draws the others with it",
    Flag.NOT_CONVERGED: "the fit did not converge, or could not tell its parameters",
    Flag.POOR_FIT: "the curve does not fit",
    Flag.LOW_STATISTICS: "too few hits for a fit",
    Flag.BASELINE_MISSING: "no baseline: the position is known, target and gain are not",
}
# A missing baseline does not spoil the fit. A slope on its bound does: it draws the position with it, by a quarter of
# its error, and always to the same side.
_HARMLESS = Flag.BASELINE_MISSING
_CERTAIN = 1e-9  # probability below which a count is no accident, with 65,536 pixels asked


@dataclass(frozen=True)
class Evidence:
    """What pixels are judged by beside their fits.

    Parameters
    ----------
    counts : ndarray, shape (n_thresholds, 65536)
        Summed hits.
    thresholds, live_time : ndarray, shape (n_thresholds,)
        In DAC and s.
    masked : ndarray of bool, shape (65536,)
        Pixels that the mask takes out.
    n_saturated : ndarray, shape (65536,)
        Readings at 63.
    baseline : ndarray, shape (65536,)
        In DAC, NaN where not known.
    """

    counts: NDArray[np.int32]
    thresholds: NDArray[np.float64]
    live_time: NDArray[np.float64]
    masked: NDArray[np.bool_]
    n_saturated: NDArray[np.int32]
    baseline: NDArray[np.float64]


def judge(evidence: Evidence, fits: PixelFits, parameters: FitParameters) -> NDArray[np.uint32]:
    """Return the bit field of every pixel, of shape (65536,)."""
    from firstlight.fit import Status

    total = evidence.counts.sum(axis=0, dtype=np.int64)
    status = fits.status
    fitted = status >= 0
    unconverged = np.isin(status, (Status.max_iter, Status.not_constrained, Status.no_data, Status.failed))
    with np.errstate(invalid="ignore"):
        position, width = fits.value("position"), fits.value("width")
        live = evidence.thresholds[evidence.live_time > 0]
        low, high = (live.min(), live.max()) if live.size else (np.nan, np.nan)
        outside = (position - width < low) | (position + width > high) | (width > (high - low) / 2)
    found = {
        Flag.MASKED: evidence.masked,
        Flag.DEAD: _dead(total, evidence.masked),
        Flag.NOISY: _noisy(evidence, fits),
        Flag.SATURATED: evidence.n_saturated > 0,
        Flag.EDGE_OUTSIDE_SCAN: fitted & outside,
        Flag.AT_BOUND: (status == Status.at_bound) & ~_only_background(fits),
        Flag.NOT_CONVERGED: fitted & (unconverged | ~_told(fits)),
        Flag.POOR_FIT: fitted & (fits.p_value < parameters.significance),
        Flag.LOW_STATISTICS: ~fitted & (total < parameters.minimum_counts),
        Flag.BASELINE_MISSING: ~np.isfinite(evidence.baseline),
    }
    bits = np.zeros(total.size, dtype=np.uint32)
    for flag, where in found.items():
        # of a masked pixel nothing else is said
        bits[where & (~evidence.masked | (flag is Flag.MASKED))] |= np.uint32(flag)
    return bits


def _told(fits: PixelFits) -> NDArray[np.bool_]:
    """Return pixels whose position and width have errors: only an amplitude may end on its bound."""
    return np.isfinite(fits.error("position")) & np.isfinite(fits.error("width"))


def _only_background(fits: PixelFits) -> NDArray[np.bool_]:
    """Return pixels of which every parameter but the background has an error: a background of 0 draws no other."""
    names = list(fits.equation.reported)
    others = [index for index, name in enumerate(names) if name != "background"]
    return np.asarray(np.isfinite(fits.errors[:, others]).all(axis=1) & ("background" in names))


def _dead(total: NDArray[np.int64], masked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return pixels that count less than a tenth of what their neighbours do, where that is no accident."""
    from scipy.special import gammaincc

    expected = local_median(
        total.reshape(ROWS, COLUMNS).astype(float), ~masked.reshape(ROWS, COLUMNS)
    ).ravel()
    expected = np.nan_to_num(expected)
    # probability of so few counts at a quarter of the expectation: illumination changes over the neighbourhood
    probability = gammaincc(total + 1.0, 0.25 * expected)
    return np.asarray((total < 0.1 * expected) & (probability < _CERTAIN))


def _noisy(evidence: Evidence, fits: PixelFits) -> NDArray[np.bool_]:
    """Return pixels with more counts well above the edge than the others have there."""
    from scipy.special import gammainc

    usual = ~evidence.masked & (fits.status == 0)
    if not usual.any():
        return np.zeros(evidence.masked.size, dtype=bool)
    position = np.median(fits.value("position")[usual])
    spread = np.median(np.abs(fits.value("position")[usual] - position)) * 1.4826
    width = np.median(fits.value("width")[usual])
    beyond = (evidence.thresholds > position + 6 * np.hypot(width, spread)) & (evidence.live_time > 0)
    if not beyond.any():
        return np.zeros(evidence.masked.size, dtype=bool)
    tail = evidence.counts[beyond].sum(axis=0, dtype=np.int64)
    # what the source itself leaves there (a second line, a background) is seen in most pixels
    expected = 2.0 * np.mean(np.sort(tail[usual])[: int(0.99 * usual.sum()) + 1]) + 0.5
    probability = np.where(tail > 0, gammainc(np.maximum(tail, 1), expected), 1.0)
    return np.asarray(probability < _CERTAIN)


def is_good(bits: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return which pixels count in means: nothing is wrong with them but what does not spoil a fit."""
    return np.asarray((bits & np.uint32(~_HARMLESS & 0xFFFFFFFF)) == 0)


def fit_type(bits: NDArray[np.uint32], fits: PixelFits) -> NDArray[np.int8]:
    """Return the original's codes: 1 good, 0 bad, -1 no convergence, -2 too few hits."""
    found = np.where(is_good(bits), 1, 0).astype(np.int8)
    found[(bits & Flag.NOT_CONVERGED) > 0] = -1
    found[fits.status < 0] = -2
    return found
