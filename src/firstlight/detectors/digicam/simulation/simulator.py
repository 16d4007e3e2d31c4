"""The simulator: events of a camera with known truth, as batches of memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.detectors.digicam.pulse import SAMPLE_PERIOD, PulseTemplate
from firstlight.detectors.digicam.simulation.truth import Fault
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.digicam.readout.batch import EventBatch
    from firstlight.detectors.digicam.simulation.kernels import Conditions, PixelNumbers, Shape, Written
    from firstlight.detectors.digicam.simulation.truth import Truth

    Floats = NDArray[np.float64]

__all__ = ["Afterpulses", "CameraSimulator", "Illumination", "Light", "VoltageDrop"]

CLOCKED = 8
"""Event type of events that a clock triggers."""
_PHASES = 80  # rows of the table of a pulse: steps of 0.05 ns
_BATCH = 200  # events that are in memory at a time
_PER_JITTER, _REACH = 8, 36  # times of the photons of bright flashes: steps in the jitter, and on either side
_NEVER = 10.0  # afterpulses later than so many of their mean delays are forgotten
_MHZ = 1e-3  # 1/ns


@dataclass(frozen=True)
class Afterpulses:
    """Avalanches that follow an avalanche in the same cell.

    Each of them may be followed by another one. They start no crosstalk.

    Parameters
    ----------
    probability : float
        That an avalanche is followed by one.
    delay : float
        Mean of their exponential delay [ns].
    recovery : float
        Their height is that of an avalanche times 1 - exp(-delay / recovery) [ns]; 0: full height.
    """

    probability: float = 0.0
    delay: float = 50.0
    recovery: float = 50.0


@dataclass(frozen=True)
class VoltageDrop:
    """Loss of overvoltage under continuous light: the current of the pixel flows through its bias resistor.

    With the rate f of primary avalanches the overvoltage drops to 1 / (1 + f R C) of its value.

    Parameters
    ----------
    resistance : float
        R [Ohm].
    capacitance : float
        C of a cell [F]: 85 fF, or 50 fF in other descriptions of the camera.
    detection, crosstalk : float
        Powers with which the efficiency of detecting light and crosstalk fall with the overvoltage; the gain has 1.
    """

    resistance: float = 10e3
    capacitance: float = 85e-15
    detection: float = 0.0
    crosstalk: float = 0.0

    def left(self, rate: Floats) -> Floats:
        """Return the fraction of the overvoltage that is left at a rate [1/ns]."""
        return 1.0 / (1.0 + rate * self.resistance * self.capacitance * 1e9)


@dataclass(frozen=True, eq=False)
class Illumination:
    """What the camera is exposed to.

    Parameters
    ----------
    label : str
        Name of the run; runs of another name have other random numbers.
    mu : array_like
        Mean number of primary photo-electrons of a flash, for all pixels or each.
    sky : array_like
        Rate of continuous light [MHz], without dark counts.
    voltage : bool
        Whether the high voltage is on.
    """

    label: str
    mu: ArrayLike = 0.0
    sky: ArrayLike = 0.0
    voltage: bool = True


class Light(NamedTuple):
    """What came of a flash, of shape (n_events, n_pixels), in the order of the channels.

    Parameters
    ----------
    charge : ndarray of float32
        With crosstalk and smearing [p.e.].
    time : ndarray of float32
        Of the flash, without the jitter of single photons [ns].
    """

    charge: NDArray[np.float32]
    time: NDArray[np.float32]


class CameraSimulator:
    """Makes events of a camera.

    Every sample is ``rint(baseline + sum of charge h(t) + noise)``, clipped to 0 to 4095. Pulses come at random times, those
    of a flash at `light_time`; each primary avalanche has crosstalk (Borel) and a smeared charge. Pulses
    that begin before the trace reach into it.

    What a pixel does in an event depends on the seed, the name of the run, the number of the event and the pixel alone: the
    size of batches changes nothing.

    Parameters
    ----------
    truth : Truth
        The pixels.
    seed : int
        Of the events, not of the truth.
    n_samples : int
        Length of a trace: 50 today, 92 in 2017.
    pulse : PulseTemplate, optional
        Shape of a pulse; `PulseTemplate.default` if not given.
    light_time : float
        When a flash arrives [ns]; its pulse peaks 14.7 ns later.
    jitter : float
        Standard deviation of the time of each photon of a flash [ns].
    random_phase : bool
        Whether flashes are shifted by up to a sample, together in all pixels.
    noise_correlation : float
        Correlation of the noise of neighbouring samples (AR(1)), between -1 and 1.
    afterpulses : Afterpulses, optional
        None by default.
    drop : VoltageDrop, optional
        None by default.
    baselines : bool
        Whether events have the baseline of the FPGA: the mean of the 1024 samples before the trace. It costs some time.
    first_number : int
        Number of the first event.
    start_time, interval : int
        Time of the first event, distance of events [ns].
    period : float
        Distance of samples [ns].

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """

    def __init__(
        self,
        truth: Truth,
        seed: int = 1,
        *,
        n_samples: int = 50,
        pulse: PulseTemplate | None = None,
        light_time: float = 40.0,
        jitter: float = 0.5,
        random_phase: bool = False,
        noise_correlation: float = 0.0,
        afterpulses: Afterpulses | None = None,
        drop: VoltageDrop | None = None,
        baselines: bool = True,
        first_number: int = 1,
        start_time: int = 1_534_900_000_000_000_000,
        interval: int = 1_000_000,
        period: float = SAMPLE_PERIOD,
    ) -> None:
        self.truth, self.seed, self.n_samples = truth, seed, n_samples
        self.pulse = PulseTemplate.default() if pulse is None else pulse
        self.light_time, self.jitter, self.random_phase = light_time, jitter, random_phase
        self.noise_correlation = noise_correlation
        self.afterpulses = Afterpulses() if afterpulses is None else afterpulses
        self.drop = drop
        self.baselines = baselines
        self.first_number, self.start_time, self.interval = first_number, start_time, interval
        self.period = period
        rules = {
            f"seed = {seed}": seed >= 0,
            f"n_samples = {n_samples}": n_samples >= 1,
            f"jitter = {jitter:g} ns": jitter >= 0.0,
            f"noise_correlation = {noise_correlation:g}": abs(noise_correlation) < 1.0,
            f"period = {period:g} ns": period > 0.0,
            f"afterpulse probability {self.afterpulses.probability:g}": 0 <= self.afterpulses.probability < 1,
            f"afterpulse delay {self.afterpulses.delay:g} ns": self.afterpulses.delay > 0.0,
        }
        wrong = [name for name, holds in rules.items() if not holds]
        if wrong:
            what = f"{', '.join(wrong)} cannot be simulated"
            raise ConfigError(what, hint="see the parameters of CameraSimulator")

    def hv_off(self) -> Illumination:
        """Return the dark camera without high voltage."""
        return Illumination("hv_off", voltage=False)

    def dark(self) -> Illumination:
        """Return the dark camera with high voltage."""
        return Illumination("dark")

    def led(self, level: float) -> Illumination:
        """Return flashes of the AC LEDs of a level [DAC]."""
        return Illumination(f"led {level:g}", mu=self.truth.light(level))

    def dc(self, level: float) -> Illumination:
        """Return continuous light of the DC LEDs of a level [DAC]."""
        return Illumination(f"dc {level:g}", sky=self.truth.sky_rate(level))

    def batch(self, light: Illumination, n_events: int, first: int = 0) -> EventBatch:
        """Return some events in memory.

        Parameters
        ----------
        light : Illumination
            From `hv_off`, `dark`, `led`, `dc`, or another one.
        n_events : int
            How many.
        first : int
            The first of them, counted from the beginning of the run.
        """
        return self.batch_with_light(light, n_events, first, with_light=False)[0]

    def batches(
        self, light: Illumination, n_events: int, first: int = 0, size: int = _BATCH
    ) -> Iterator[EventBatch]:
        """Yield events in batches of some size, as `batch`: the size changes no event. Of no events there is one batch."""
        for start in range(first, first + max(n_events, 1), size):
            yield self.batch(light, min(size, first + n_events - start), start)

    def batch_with_light(
        self, light: Illumination, n_events: int, first: int = 0, *, with_light: bool = True
    ) -> tuple[EventBatch, Light]:
        """Return some events as `batch`, and what really came of their flashes."""
        from firstlight.detectors.digicam.readout.batch import EventBatch
        from firstlight.detectors.digicam.simulation import draws, kernels

        if n_events < 0 or first < 0:
            what = f"{n_events} events from event {first} cannot be simulated"
            raise ConfigError(what, hint="0 or more")
        event = first + np.arange(n_events, dtype=np.int64)
        written = self._room(n_events, with_light=with_light)
        key = draws.run_key(self.seed, light.label)
        kernels.fill(key, event, self.pixel_numbers(light), self._shape, self._conditions, written)
        samples, baselines, charge, time = self._as_cabled(written)
        batch = EventBatch(
            samples=samples,
            number=self.first_number + event,
            time=self.start_time + self.interval * event,
            event_type=np.full(n_events, CLOCKED, dtype=np.int32),
            baselines=baselines if self.baselines else None,
        )
        return batch, Light(charge, time)

    def pixel_numbers(self, light: Illumination) -> PixelNumbers:
        """Return the numbers of the pixels under some light, after the drop of the voltage and with their faults."""
        from firstlight.detectors.digicam.simulation.kernels import LARGEST, PixelNumbers

        truth = self.truth
        powered = (truth.fault != Fault.NO_VOLTAGE) & light.voltage
        mu, sky = (
            np.where(powered, np.asarray(value, dtype=np.float64), 0.0) for value in (light.mu, light.sky)
        )
        if not (np.isfinite(mu).all() and np.isfinite(sky).all() and min(mu.min(), sky.min()) >= 0.0):
            what = f"light of the run {light.label!r} is negative or not finite"
            raise ConfigError(what)
        dark = np.where(powered, truth.dark_rate, 0.0) * _MHZ
        sky = sky * _MHZ
        gain, crosstalk = truth.gain, truth.crosstalk
        if self.drop is not None:
            left = self.drop.left(dark + sky)
            gain, crosstalk = gain * left, crosstalk * left**self.drop.crosstalk
            mu, sky = mu * left**self.drop.detection, sky * left**self.drop.detection
        constant = np.full(truth.n_pixels, -1, dtype=np.int64)
        constant[truth.fault == Fault.MISSING] = 0
        constant[truth.fault == Fault.SATURATED] = LARGEST
        dead = truth.fault == Fault.DEAD
        constant[dead] = np.clip(np.rint(truth.baseline[dead]), 0, LARGEST)
        numbers = {"baseline": truth.baseline, "gain": gain, "sigma_e": truth.sigma_e}
        numbers |= {"sigma_1": truth.sigma_1, "crosstalk": crosstalk, "rate": dark + sky, "mu": mu}
        numbers |= {"delay": self.light_time + truth.time_offset}
        plain = {name: np.ascontiguousarray(value, dtype=np.float64) for name, value in numbers.items()}
        return PixelNumbers(**plain, constant=constant)

    def _room(self, n_events: int, *, with_light: bool) -> Written:
        from firstlight.detectors.digicam.simulation.kernels import Written

        n_pixels = self.truth.n_pixels

        def table(wanted: bool) -> NDArray[np.float32]:
            return np.empty((n_events if wanted else 0, n_pixels), dtype=np.float32)

        samples = np.empty((n_events, n_pixels, self.n_samples), dtype=np.uint16)
        return Written(samples, table(self.baselines), table(with_light), table(with_light))

    def _as_cabled(self, written: Written) -> Written:
        """Return what was filled in the order of the channels."""
        cabling = self.truth.cabling
        moved = np.flatnonzero(cabling != np.arange(cabling.size))
        if moved.size:
            for values in written:
                values[:, moved] = values[:, cabling[moved]]
        return written

    @cached_property
    def _shape(self) -> Shape:
        from firstlight.detectors.digicam.simulation.kernels import Shape

        n = int(np.ceil(self.pulse.duration / self.period)) + 1
        phase = np.arange(_PHASES + 1) / _PHASES
        rows = self.pulse.at(self.pulse.start + self.period * (phase[:, None] + np.arange(n)))
        sums = np.zeros((rows.shape[0], n + 1))
        np.cumsum(rows, axis=1, out=sums[:, 1:])
        late = (
            np.zeros(1) if self.jitter <= 0.0 else self.jitter * np.arange(-_REACH, _REACH + 1) / _PER_JITTER
        )
        share = np.exp(-0.5 * (late / max(self.jitter, 1e-9)) ** 2)
        return Shape(rows, sums, late, share / share.sum())

    @cached_property
    def _conditions(self) -> Conditions:
        from firstlight.detectors.digicam.simulation.kernels import HISTORY, Conditions

        afterpulses, pulse = self.afterpulses, self.pulse
        later = afterpulses.delay * _NEVER if afterpulses.probability > 0.0 else 0.0
        earliest = -max(float(pulse.time[-1]), 0.0) - later
        history = earliest - HISTORY * self.period
        # what each avalanche before the earliest one adds to the history: all of its pulse, less where the history begins
        sums, n = self._shape.sums, self._shape.rows.shape[1]
        step = self.period / _PHASES
        place = (np.arange(history, earliest, step) + pulse.start) / self.period
        first = np.ceil(place - 1e-9).astype(np.int64)
        row = np.rint((first - place) * _PHASES).astype(np.int64)
        added = sums[row, np.clip(-first, 0, n)] - sums[row, np.clip(-HISTORY - first, 0, n)]
        return Conditions(
            period=self.period,
            jitter=self.jitter,
            random_phase=self.random_phase,
            correlation=self.noise_correlation,
            afterpulse=afterpulses.probability,
            afterpulse_time=afterpulses.delay,
            recovery=afterpulses.recovery,
            earliest=earliest,
            history=history,
            start=pulse.start,
            first=float(added.sum() * step),
            second=float((added**2).sum() * step),
        )
