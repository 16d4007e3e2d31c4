"""Combs of normal peaks, as the original fits them: to pulses in the dark, and to all light levels added up.

The gain is the distance of the peaks; nothing is assumed of how many flashes have how many photo-electrons, each peak has its
own amplitude.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.fit.result import FitResult

    FloatArray = NDArray[np.float64]
    Counts = NDArray[np.int64]

__all__ = ["N_PEAKS", "fit_all_levels", "fit_pulses", "full_arrays", "peak_distances", "spe_arrays"]

N_PEAKS = 22
"""Amplitudes of the fit of all levels: from the pedestal to 21 photo-electrons."""
_DARK_PEAKS = 5  # of dark pulses, from one photo-electron on
_LEAST = 0.6  # gains from which dark pulses are described: below, the search has left some out
_ENOUGH = 200  # entries


def peak_distances(counts: Counts, centres: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return start values of spectra of light: position of the pedestal, gain and noise, of each pixel.

    The light spreads by the square root of its number, so that variance over mean is a gain; where the spectrum has peaks,
    the model's own start values find their distance.

    Parameters
    ----------
    counts : ndarray, shape (1296, n_bins)
        By pixel and value.
    centres : ndarray, shape (n_bins,)
        LSB.
    """
    from firstlight.fit.many import fit_many
    from firstlight.fit.models.comb import make_gaussian_comb

    near = _about(counts, 60)
    result = fit_many(
        near[0], _edges(centres[near[1]]), make_gaussian_comb(6), edges=True, rescue=False, max_iterations=0
    )
    start = result.start
    return start[:, 0], start[:, 1], start[:, 2]


def _about(counts: Counts, width: int) -> tuple[Counts, slice]:
    filled = np.flatnonzero(counts.any(axis=0))
    first = max(int(filled[0]) - 2, 0) if filled.size else 0
    last = min(first + width, counts.shape[1])
    return counts[:, first:last], slice(first, last)


def _edges(centres: FloatArray) -> FloatArray:
    return np.append(centres - 0.5, centres[-1] + 0.5)


def fit_all_levels(
    counts: Counts,
    centres: FloatArray,
    start: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    n_peaks: int = N_PEAKS,
) -> FitResult:
    """Return fits of a comb to all levels added up, each peak with its own amplitude.

    Parameters
    ----------
    counts : ndarray, shape (1296, n_bins)
        By pixel and value.
    centres : ndarray, shape (n_bins,)
        LSB.
    start : tuple of ndarray, each of shape (1296,)
        Baseline, gain, electronics noise and gain smearing from other fits; NaN is taken as the median of the camera.
    n_peaks : int
        Peaks, the pedestal included. What lies above them is not used.

    Returns
    -------
    FitResult
        Of model ``gaussian_combN``: baseline, gain, pedestal_width, gain_width, areas.
    """
    from firstlight.fit import fit_many
    from firstlight.fit.models.comb import make_gaussian_comb

    baseline, gain, noise, smearing = (_filled(values) for values in start)
    position = (centres[None, :] - baseline[:, None]) / gain[:, None]
    mask = (position < n_peaks - 0.5) & (position > -3) & (counts.sum(axis=1) >= _ENOUGH)[:, None]
    used = np.flatnonzero(mask.any(axis=0))
    part = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, min(4, centres.size))
    values = np.concatenate(
        [np.stack([baseline, gain, noise, smearing], axis=1), _areas(counts, position, n_peaks)], axis=1
    )
    return fit_many(
        counts[:, part], _edges(centres[part]), make_gaussian_comb(n_peaks), edges=True, mask=mask[:, part], start=values,
    )  # fmt: skip


def _filled(values: FloatArray) -> FloatArray:
    known = np.isfinite(values)
    return np.where(known, values, np.median(values[known]) if known.any() else 1.0)


def _areas(counts: Counts, position: FloatArray, n_peaks: int) -> FloatArray:
    """Return the counts that are nearest to each peak, shape (1296, n_peaks), at least one."""
    peak = np.rint(position).astype(np.int64)
    inside = (peak >= 0) & (peak < n_peaks)
    found = np.zeros((N_PIXELS, n_peaks))
    rows = np.broadcast_to(np.arange(N_PIXELS)[:, None], peak.shape)
    np.add.at(found, (rows[inside], peak[inside]), counts[inside])
    return np.maximum(found, 1.0)


def full_arrays(result: FitResult) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
    """Return values, errors and further arrays of the fit of all levels, in the order of the original."""
    return (*_done(result, result.values, result.errors), _quality(result))


def fit_pulses(
    counts: Counts, reference: NDArray[np.int64], baseline: FloatArray, noise: FloatArray
) -> FitResult:
    """Return fits of a comb to heights of pulses in the dark: no pedestal, five peaks.

    Baseline and electronics noise are those without high voltage. With a free offset, as in the original, the few pulses of
    more than one photo-electron, some of which are two pulses, would decide over the gain (8 % too low in simulated data).

    Parameters
    ----------
    counts : ndarray, shape (1296, 4096)
        By pixel and value.
    reference : ndarray, shape (1296,)
        A whole number near the baseline [LSB].
    baseline, noise : ndarray, shape (1296,)
        Without high voltage [LSB]; NaN: the pixel is not fitted.

    Returns
    -------
    FitResult
        Of model ``gaussian_comb6``; baselines above the reference.
    """
    from firstlight.fit import fit_many
    from firstlight.fit.models.comb import make_gaussian_comb

    bins = np.arange(-16, 240)
    value = np.clip(reference[:, None] + bins, 0, counts.shape[1] - 2)
    near = np.take_along_axis(counts, value, axis=1)
    zero = baseline - reference
    known = np.isfinite(zero) & np.isfinite(noise) & (near.sum(axis=1) >= _ENOUGH)
    # the highest bin is the peak of one photo-electron
    gain = _filled(np.where(known, np.maximum(bins[near.argmax(axis=1)] - zero, 1.0), np.nan))
    position = (bins[None, :] - np.where(known, zero, 0.0)[:, None]) / gain[:, None]
    mask = (position > _LEAST) & (position < _DARK_PEAKS + 0.5) & known[:, None]
    zero, noise = np.where(known, zero, 0.0), _filled(np.where(known, noise, np.nan))
    areas = _areas(near, position, _DARK_PEAKS + 1)
    areas[:, 0] = 0.0
    return fit_many(
        near, _edges(bins.astype(np.float64)), make_gaussian_comb(_DARK_PEAKS + 1), edges=True, mask=mask,
        start=np.column_stack([zero, gain, noise, 0.5 * noise, areas]),
        fixed={"baseline": zero, "pedestal_width": noise, "area_0": 0.0},
    )  # fmt: skip


def spe_arrays(
    result: FitResult, reference: NDArray[np.int64], baseline: FloatArray
) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
    """Return values, errors and further arrays of the fit of dark pulses, in the order of the original.

    The offset is how far the comb stands above the baseline without high voltage: 0 in fits of ours.
    """
    order = [2, 3, 1, 5, 6, 7, 0, 8, 9]
    values, errors = _done(result, result.values, result.errors)
    values, errors = values[:, order].copy(), errors[:, order].copy()
    values[:, 6] += reference - baseline
    areas = result.values[:, 5:]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1 - areas[:, 0] / areas.sum(axis=1)
    beside = {"crosstalk_probability": np.where(np.isfinite(values[:, 2]), share, np.nan)}
    return values, errors, {**_quality(result), **beside}


def _done(result: FitResult, values: FloatArray, errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return values and errors, NaN where a fit did not end well, error 0 where a parameter was not free."""
    good = (result.status <= 1)[:, None]
    errors = np.where(result.fixed | (result.at_bound & ~np.isfinite(errors)), 0.0, errors)
    return np.where(good, values, np.nan), np.where(good, errors, np.nan)


def _quality(result: FitResult) -> dict[str, Any]:
    from firstlight.fit.result import Status

    names = np.array([one.name for one in Status])
    return {
        "status": names[result.status], "deviance": result.deviance, "ndf": result.ndf, "p_value": result.p_value,
    }  # fmt: skip
