"""Traces of events: pulses, noise, digitisation, and the running baseline of the FPGA."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.digicam.simulation.draws import begin, exponential, normal, poisson, uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    State = NDArray[np.uint64]

__all__ = ["HISTORY", "LARGEST", "Conditions", "PixelNumbers", "Shape", "Written", "fill"]

LARGEST = 4095
"""Largest value of the converter, 12 bit."""
HISTORY = 1024
"""Samples before the trace whose mean is the baseline of the FPGA."""
_SINGLY = 64.0  # pulses before the trace are drawn one by one up to so many, and as a normal sum above
_MANY = 32.0  # photo-electrons of a flash that are drawn one by one; of more, those of each time together
_NO_PIXEL = 1 << 40  # stream of what all pixels of an event share


class PixelNumbers(NamedTuple):
    """What the kernel knows of each pixel, arrays of shape (n_pixels,).

    Parameters
    ----------
    baseline, gain, sigma_e, sigma_1, crosstalk : ndarray
        As in `Truth`, under the light of the run.
    rate : ndarray
        Primary avalanches at any time [1/ns].
    mu : ndarray
        Mean number of primary avalanches of the flash.
    delay : ndarray
        When the flash arrives [ns].
    constant : ndarray of int64
        Value of all samples, or -1.
    """

    baseline: Floats
    gain: Floats
    sigma_e: Floats
    sigma_1: Floats
    crosstalk: Floats
    rate: Floats
    mu: Floats
    delay: Floats
    constant: NDArray[np.int64]


class Avalanche(NamedTuple):
    """Gain and smearing of the avalanches of a pixel [LSB], and its crosstalk."""

    gain: float
    smearing: float
    crosstalk: float


class Shape(NamedTuple):
    """The template, cut into samples.

    Parameters
    ----------
    rows : ndarray, shape (n_phases + 1, n)
        Value of sample m of a pulse whose first sample is k / n_phases of a period after its start.
    sums : ndarray, shape (n_phases + 1, n + 1)
        Sum of the samples before sample m.
    late, share : ndarray, shape (n_times,)
        Times of the photons of a bright flash [ns], and what share of them comes then.
    """

    rows: Floats
    sums: Floats
    late: Floats
    share: Floats


class Conditions(NamedTuple):
    """What holds for all pixels.

    Parameters
    ----------
    period : float
        Distance of samples [ns].
    jitter : float
        Standard deviation of the time of each photon of a flash [ns].
    random_phase : bool
        Whether flashes come anywhere within a sample, the same place in all pixels.
    correlation : float
        Of the noise of neighbouring samples: AR(1).
    afterpulse, afterpulse_time, recovery : float
        Probability that an avalanche is followed by another one; mean delay [ns]; time with which the cell recovers [ns].
    earliest : float
        Time from which avalanches are drawn one by one for the trace alone [ns], below 0.
    history : float
        Time from which they are drawn if the baseline of the FPGA is wanted [ns].
    start : float
        When a pulse starts after its avalanche [ns].
    first, second : float
        Integral of the sum of all samples in the history, and of its square, over the time of avalanches before the
        earliest one: moments of those that are drawn as a normal sum [ns].
    """

    period: float
    jitter: float
    random_phase: bool
    correlation: float
    afterpulse: float
    afterpulse_time: float
    recovery: float
    earliest: float
    history: float
    start: float
    first: float
    second: float


class Written(NamedTuple):
    """What is filled, events first; all but the samples may have no events, and are left out then.

    Parameters
    ----------
    samples : ndarray of uint16, shape (n_events, n_pixels, n_samples)
        Of the converter.
    baselines : ndarray of float32, shape (n_events, n_pixels)
        Of the FPGA [LSB].
    charge, time : ndarray of float32, shape (n_events, n_pixels)
        Charge of the avalanches of a flash, with crosstalk and smearing [p.e.]; its time [ns].
    """

    samples: NDArray[np.uint16]
    baselines: NDArray[np.float32]
    charge: NDArray[np.float32]
    time: NDArray[np.float32]


@kernel
def _avalanches(state: State, primaries: int, crosstalk: float) -> int:
    """Return how many avalanches some primary ones make, themselves among them: generation by generation."""
    total, latest = primaries, primaries
    while latest > 0 and crosstalk > 0.0:
        latest = poisson(state, crosstalk * latest)
        total += latest
    return total


@kernel
def _deposit(trace: Floats, rows: Floats, sums: Floats, period: float, time: float, charge: float) -> float:
    """Add a pulse that starts at a time to the trace; return the sum of what it adds to the samples of the history."""
    place = time / period
    first = math.ceil(place)
    n_phases, n = rows.shape[0] - 1, rows.shape[1]
    at = (first - place) * n_phases
    row = min(int(at), n_phases - 1)
    high = charge * (at - row)
    low = charge - high
    if first + n > 0:
        for m in range(max(0, -first), min(n, trace.size - first)):
            trace[first + m] += low * rows[row, m] + high * rows[row + 1, m]
    if first >= 0:
        return 0.0
    begins, ends = min(max(0, -HISTORY - first), n), min(n, -first)
    lower, upper = sums[row, ends] - sums[row, begins], sums[row + 1, ends] - sums[row + 1, begins]
    return float(low * lower + high * upper)


@kernel
def _family(
    state: State,
    trace: Floats,
    rows: Floats,
    sums: Floats,
    conditions: Conditions,
    avalanche: Avalanche,
    time: float,
    primaries: int,
) -> tuple[float, float]:
    """Add primary avalanches of one time with their crosstalk and afterpulses; return sum in the history, and charge."""
    number = _avalanches(state, primaries, avalanche.crosstalk)
    if number == 0:
        return 0.0, 0.0
    gain, smearing = avalanche.gain, avalanche.smearing
    charge = number * gain + math.sqrt(number) * smearing * normal(state)
    time += conditions.start
    before = _deposit(trace, rows, sums, conditions.period, time, charge)
    if conditions.afterpulse > 0.0:
        for _ in range(number):
            later = time
            while uniform(state) < conditions.afterpulse:
                delay = exponential(state) * conditions.afterpulse_time
                later += delay
                recovered = 1.0 - math.exp(-delay / conditions.recovery) if conditions.recovery > 0.0 else 1.0
                height = recovered * gain + smearing * normal(state)
                before += _deposit(trace, rows, sums, conditions.period, later, height)
    return before, charge


@kernel
def _pulses_at_any_time(
    state: State,
    trace: Floats,
    rows: Floats,
    sums: Floats,
    conditions: Conditions,
    avalanche: Avalanche,
    rate: float,
    with_history: bool,
) -> float:
    """Add pulses that come at any time; return the sum over the samples of the history."""
    if rate <= 0.0:
        return 0.0
    before = 0.0
    time = conditions.history if with_history else conditions.earliest
    expected = rate * (conditions.earliest - conditions.history)
    if with_history and expected > _SINGLY and conditions.afterpulse == 0.0:
        left = 1.0 - avalanche.crosstalk
        mean = avalanche.gain / left
        square = avalanche.gain**2 / left**3 + avalanche.smearing**2 / left
        spread = math.sqrt(rate * square * conditions.second)
        before = rate * mean * conditions.first + spread * normal(state)
        time = conditions.earliest
    end = trace.size * conditions.period - conditions.start
    while True:
        time += exponential(state) / rate
        if time >= end:
            return before
        before += _family(state, trace, rows, sums, conditions, avalanche, time, 1)[0]


@kernel
def _flash(
    state: State,
    trace: Floats,
    rows: Floats,
    sums: Floats,
    late: Floats,
    share: Floats,
    conditions: Conditions,
    avalanche: Avalanche,
    mu: float,
    arrival: float,
) -> float:
    """Add the photo-electrons of a flash, and return their charge."""
    charge = 0.0
    if conditions.jitter <= 0.0 or mu > _MANY:
        # those of each time together: shares of a Poisson number are Poisson numbers
        for k in range(late.size):
            primaries = poisson(state, mu * share[k])
            time = arrival + late[k]
            charge += _family(state, trace, rows, sums, conditions, avalanche, time, primaries)[1]
        return charge
    for _ in range(poisson(state, mu)):
        time = arrival + conditions.jitter * normal(state)
        charge += _family(state, trace, rows, sums, conditions, avalanche, time, 1)[1]
    return charge


@kernel
def _digitise(
    state: State,
    trace: Floats,
    baseline: float,
    sigma: float,
    correlation: float,
    samples: NDArray[np.uint16],
) -> None:
    """Add noise and baseline, round half to even, and clip."""
    fresh = sigma * math.sqrt(1.0 - correlation * correlation)
    noise = sigma * normal(state)
    for k in range(trace.size):
        value = np.rint(baseline + trace[k] + noise)
        samples[k] = np.uint16(min(max(value, 0.0), LARGEST))
        noise = correlation * noise + fresh * normal(state)


@kernel
def fill(
    key: np.uint64,
    events: NDArray[np.int64],
    pixels: PixelNumbers,
    shape: Shape,
    conditions: Conditions,
    written: Written,
) -> None:
    """Simulate some events.

    Parameters
    ----------
    key : uint64
        Of the run.
    events : ndarray of int64, shape (n_events,)
        Numbers of the events: with the key and the number of the pixel they fix all random numbers.
    pixels : PixelNumbers
        The pixels.
    shape : Shape
        The pulse.
    conditions : Conditions
        The rest.
    written : Written
        Filled.
    """
    state = np.empty(4, dtype=np.uint64)
    n_pixels, n_samples = written.samples.shape[1], written.samples.shape[2]
    trace = np.empty(n_samples)
    rows, sums = shape.rows, shape.sums
    with_history, with_light = written.baselines.shape[0] > 0, written.charge.shape[0] > 0
    for row in range(events.size):
        begin(state, key, events[row], _NO_PIXEL)
        phase = conditions.period * uniform(state) if conditions.random_phase else 0.0
        for pixel in range(n_pixels):
            constant = pixels.constant[pixel]
            if constant >= 0:
                written.samples[row, pixel] = constant
                if with_history:
                    written.baselines[row, pixel] = constant
                if with_light:
                    written.charge[row, pixel] = 0.0
                    written.time[row, pixel] = pixels.delay[pixel] + phase
                continue
            begin(state, key, events[row], pixel)
            trace[:] = 0.0
            avalanche = Avalanche(pixels.gain[pixel], pixels.sigma_1[pixel], pixels.crosstalk[pixel])
            rate, mu, arrival = pixels.rate[pixel], pixels.mu[pixel], pixels.delay[pixel] + phase
            before = _pulses_at_any_time(state, trace, rows, sums, conditions, avalanche, rate, with_history)
            charge = 0.0
            if mu > 0.0:
                charge = _flash(
                    state, trace, rows, sums, shape.late, shape.share, conditions, avalanche, mu, arrival
                )
            baseline, sigma, rho = pixels.baseline[pixel], pixels.sigma_e[pixel], conditions.correlation
            _digitise(state, trace, baseline, sigma, rho, written.samples[row, pixel])
            if with_history:
                # variance of a mean of AR(1) noise, and of rounding
                variance = (sigma * sigma * (1.0 + rho) / (1.0 - rho) + 1.0 / 12.0) / HISTORY
                mean = baseline + before / HISTORY + math.sqrt(variance) * normal(state)
                written.baselines[row, pixel] = mean
            if with_light:
                written.charge[row, pixel] = charge / avalanche.gain if avalanche.gain > 0.0 else 0.0
                written.time[row, pixel] = arrival
