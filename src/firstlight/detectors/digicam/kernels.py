"""Kernels over waveforms: counting samples, measuring flashes, finding pulses.

Waveforms are ``samples[event, pixel, sample]`` in whole LSB. All counts are whole numbers, so that nothing depends on how
events are put into batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.uint16]
    Int32 = NDArray[np.int32]
    Counts = NDArray[np.uint32]

__all__ = [
    "FIXED_MAX",
    "GLOBAL_MAX",
    "INTEGRATION",
    "INTEGRATION_SAT",
    "LOCAL_MAX",
    "add_waveforms",
    "count_charges",
    "count_residuals",
    "count_samples",
    "find_pulses",
    "measure_flashes",
]

FIXED_MAX, LOCAL_MAX, GLOBAL_MAX, INTEGRATION, INTEGRATION_SAT = range(5)

_TRIANGLE = (1, 2, 3, 4, 5, 4, 3, 2, 1)


@kernel
def count_samples(samples: Samples, low: Int32, first: int, counts: Counts, outside: Int32) -> int:
    """Count the samples of each pixel.

    Parameters
    ----------
    samples : ndarray of uint16, shape (n_events, n_pixels, n_samples)
        Values below 4096.
    low : ndarray, shape (n_pixels,)
        Value of the first bin of each pixel.
    first : int
        Samples before this one are left out.
    counts : ndarray, shape (n_pixels, n_bins)
        Changed in place.
    outside : ndarray, shape (n_samples in all,)
        Changed in place: 4096 pixel + value of the samples that no bin takes.

    Returns
    -------
    int
        How many these are.
    """
    n_outside = 0
    n_bins = np.uint32(counts.shape[1])
    for event in range(samples.shape[0]):
        for pixel in range(samples.shape[1]):
            begin = low[pixel]
            row = counts[pixel]
            for index in range(first, samples.shape[2]):
                value = np.int32(samples[event, pixel, index])
                place = np.uint32(value - begin)
                if place < n_bins:
                    row[place] += np.uint32(1)
                else:
                    outside[n_outside] = np.int32(4096) * pixel + value
                    n_outside += 1
    return n_outside


@kernel
def count_residuals(
    samples: Samples, baselines: NDArray[np.float32], first: int, low: float, per_bin: float, counts: Counts
) -> None:
    """Count what samples are above the baseline of their event, all pixels together.

    Parameters
    ----------
    samples : ndarray of uint16, shape (n_events, n_pixels, n_samples)
        Waveforms.
    baselines : ndarray, shape (n_events, n_pixels)
        NaN where there is none: these samples are left out.
    first : int
        Samples before this one are left out.
    low, per_bin : float
        Edge of the first bin, bins in a LSB.
    counts : ndarray, shape (n_bins + 2,)
        Changed in place; the first is the underflow, the last the overflow.
    """
    last = counts.size - 1
    for event in range(samples.shape[0]):
        for pixel in range(samples.shape[1]):
            baseline = baselines[event, pixel]
            if np.isnan(baseline):
                continue
            shift = 1.0 - (np.float64(baseline) + low) * per_bin
            for index in range(first, samples.shape[2]):
                place = int(np.floor(samples[event, pixel, index] * per_bin + shift))
                counts[min(max(place, 0), last)] += np.uint32(1)


@kernel
def add_waveforms(samples: Samples, reference: Int32, sums: NDArray[np.int64]) -> None:
    """Add the waveforms of each pixel, less its reference, to sums of shape (n_pixels, n_samples)."""
    for event in range(samples.shape[0]):
        for pixel in range(samples.shape[1]):
            for index in range(samples.shape[2]):
                sums[pixel, index] += int(samples[event, pixel, index]) - reference[pixel]


@kernel
def _highest(trace: Samples, begin: int, end: int) -> int:
    """Return the first highest sample from `begin` to `end`, not included."""
    best = begin
    for index in range(begin + 1, end):
        if trace[index] > trace[best]:
            best = index
    return best


@kernel
def _highest_of_three(trace: Samples, begin: int, end: int) -> int:
    """Return the sample about which three samples in a row are highest."""
    best, most = begin, -1
    for index in range(begin, end):
        total = 0
        for other in range(max(index - 1, 0), min(index + 2, trace.size)):
            total += int(trace[other])
        if total > most:
            best, most = index, total
    return best


@kernel
def _window_sum(trace: Samples, peak: int, reference: int, width: int, start: int) -> int:
    """Return the sum of a window less the reference; one that would leave the trace is moved into it."""
    begin = min(max(peak - start, 0), max(trace.size - width, 0))
    total = 0
    for index in range(begin, min(begin + width, trace.size)):
        total += int(trace[index]) - reference
    return total


@kernel
def _sum_above(trace: Samples, peak: int, reference: int) -> int:
    """Return the sum of all samples in a row about a peak that are above the reference."""
    begin, end = peak, peak
    while begin > 0 and int(trace[begin - 1]) > reference:
        begin -= 1
    while end + 1 < trace.size and int(trace[end + 1]) > reference:
        end += 1
    total = 0
    for index in range(begin, end + 1):
        total += int(trace[index]) - reference
    return total


@kernel
def measure_flashes(
    samples: Samples,
    reference: Int32,
    light_sample: Int32,
    method: int,
    width: int,
    start: int,
    search: int,
    threshold: float,
    charge: Int32,
    peak: Int32,
) -> None:
    """Measure the light of each event in each pixel.

    Parameters
    ----------
    samples : ndarray of uint16, shape (n_events, n_pixels, n_samples)
        Waveforms.
    reference, light_sample : ndarray, shape (n_pixels,)
        Number from which charges are counted [LSB], sample in which the light arrives.
    method : int
        `FIXED_MAX`, `LOCAL_MAX`, `GLOBAL_MAX`, `INTEGRATION` or `INTEGRATION_SAT`.
    width, start, search : int
        Of the window, see `LightParameters`.
    threshold : float
        Height above the reference from which a pulse is saturated [LSB].
    charge, peak : ndarray, shape (n_events, n_pixels)
        Changed in place: the charge [LSB], and the highest sample of the trace.
    """
    n = samples.shape[2]
    for event in range(samples.shape[0]):
        for pixel in range(samples.shape[1]):
            trace = samples[event, pixel]
            zero = int(reference[pixel])
            highest = _highest(trace, 0, n)
            peak[event, pixel] = highest
            light = min(max(int(light_sample[pixel]), 0), n - 1)
            begin, end = max(light - search, 0), min(light + search + 1, n)
            if method == FIXED_MAX:
                value = int(trace[light]) - zero
            elif method == GLOBAL_MAX:
                value = int(trace[highest]) - zero
            elif method == LOCAL_MAX:
                value = int(trace[_highest_of_three(trace, begin, end)]) - zero
            else:
                where = _highest(trace, begin, end)
                value = _window_sum(trace, where, zero, width, start)
                if method == INTEGRATION_SAT and int(trace[where]) - zero > threshold:
                    value = _sum_above(trace, where, zero)
            charge[event, pixel] = value


@kernel
def count_charges(charge: Int32, low: int, counts: Counts, beyond: NDArray[np.int64]) -> None:
    """Count the charges of each pixel.

    Parameters
    ----------
    charge : ndarray, shape (n_events, n_pixels)
        Whole LSB.
    low : int
        Charge of the first bin.
    counts : ndarray, shape (n_pixels, n_bins)
        Changed in place.
    beyond : ndarray, shape (n_pixels, 2)
        Changed in place: charges below and above all bins.
    """
    n_bins = counts.shape[1]
    for event in range(charge.shape[0]):
        for pixel in range(charge.shape[1]):
            place = charge[event, pixel] - low
            if place < 0:
                beyond[pixel, 0] += 1
            elif place >= n_bins:
                beyond[pixel, 1] += 1
            else:
                counts[pixel, place] += np.uint32(1)


@kernel
def find_pulses(
    samples: Samples,
    reference: Int32,
    threshold: float,
    width: int,
    start: int,
    low: int,
    counts: Counts,
    maxima: Counts,
    beyond: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> None:
    """Find the pulses in dark events, with a triangular filter of 9 samples, and count their charges.

    A pulse is a local maximum of the filtered trace above the threshold; its charge is the sum of a window around it.

    Parameters
    ----------
    samples : ndarray of uint16, shape (n_events, n_pixels, n_samples)
        Waveforms.
    reference : ndarray, shape (n_pixels,)
        Baseline to the nearest LSB.
    threshold : float
        Of the filtered trace [LSB].
    width, start : int
        Of the window.
    low : int
        First bin of charges and of maxima [LSB].
    counts, maxima : ndarray, shape (n_pixels, n_bins)
        Changed in place: charges of pulses, highest sample of each trace.
    beyond : ndarray, shape (n_pixels, 2)
        Changed in place: charges and maxima that no bin takes.
    numbers : ndarray, shape (n_pixels, 2)
        Changed in place: pulses, and samples in which one could have been found.
    """
    n = samples.shape[2]
    n_bins = counts.shape[1]
    filtered = np.zeros(n)
    for event in range(samples.shape[0]):
        for pixel in range(samples.shape[1]):
            trace = samples[event, pixel]
            zero = int(reference[pixel])
            place = int(trace[_highest(trace, 0, n)]) - zero - low
            if 0 <= place < maxima.shape[1]:
                maxima[pixel, place] += np.uint32(1)
            else:
                beyond[pixel, 1] += 1
            for index in range(4, n - 4):
                total = 0
                for k in range(9):
                    total += _TRIANGLE[k] * (int(trace[index + k - 4]) - zero)
                filtered[index] = total / 25.0
            numbers[pixel, 1] += max(n - 10, 0)
            for index in range(5, n - 5):
                here = filtered[index]
                if here > threshold and here > filtered[index - 1] and here >= filtered[index + 1]:
                    numbers[pixel, 0] += 1
                    place = _window_sum(trace, index, zero, width, start) - low
                    if 0 <= place < n_bins:
                        counts[pixel, place] += np.uint32(1)
                    else:
                        beyond[pixel, 0] += 1
