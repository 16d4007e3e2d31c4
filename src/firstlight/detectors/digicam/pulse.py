"""The shape of a pulse: what one avalanche looks like after the preamplifier and the shaper.

A `PulseTemplate` is h(t) with a maximum of 1; a pulse of charge q [LSB] that begins at t0 adds q h(t - t0) to the
samples. Simulator and fits share it. All times in ns, rates in 1/ns (GHz).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["SAMPLE_PERIOD", "Moments", "PulseTemplate"]

SAMPLE_PERIOD = 4.0
"""Distance of samples [ns]: 250 MHz."""

_STEP = 0.05  # of the fine table [ns]; linear interpolation in it is good to 1e-5
# own shape: a generalised gamma pulse, and a small late bump like the one that the cables make
_LENGTH = 88.0
_PEAK, _POWER, _STRETCH = 14.70, 2.349, 1.843
_BUMP, _BUMP_PLACE, _BUMP_WEIGHT = 0.020, 0.65, 5.0
_COLUMNS = (2, 3)


class Moments(NamedTuple):
    """Cumulants of a sample under a constant rate of pulses, without the noise of the electronics.

    Parameters
    ----------
    mean : ndarray or float
        Shift of the baseline [LSB].
    variance : ndarray or float
        Added variance [LSB2].
    third : ndarray or float
        Third central moment [LSB3].
    """

    mean: Any
    variance: Any
    third: Any


@dataclass(frozen=True, eq=False)
class PulseTemplate:
    """The shape of a pulse, with a maximum of 1.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Rising [ns]; a pulse that begins at t0 is ``at(t - t0)``.
    amplitude : ndarray, shape (n,)
        In any unit: it is divided by its largest value, taken from a cubic spline through the points. Zero before the
        first and after the last point.
    spread : ndarray, shape (n,), optional
        Standard deviation of the points, divided likewise.
    name : str
        Where it comes from.
    scale : float
        Largest value relative to that of the template of a single sample: 1, but after `windowed`.

    Raises
    ------
    UsageError
        If the points make no pulse: fewer than four, not finite, times that do not rise, no positive value.
    """

    time: Floats
    amplitude: Floats
    spread: Floats | None = None
    name: str = ""
    scale: float = 1.0
    _fine: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        time, amplitude = (np.array(values, dtype=np.float64) for values in (self.time, self.amplitude))
        problem = _problem(time, amplitude)
        if problem:
            raise UsageError(problem, where=self.name or "pulse template")
        from scipy.interpolate import CubicSpline

        grid = time[0] + _STEP * np.arange(int(np.floor((time[-1] - time[0]) / _STEP + 1e-9)) + 1)
        spline = CubicSpline(time, amplitude)
        fine = spline(grid)
        peak = int(fine.argmax())
        # at the highest point of a spline, not at the highest point of the table
        turns = spline.derivative().solve(0.0, extrapolate=False)
        near = turns[np.abs(turns - grid[peak]) <= _STEP]
        largest = max(float(fine[peak]), *(float(value) for value in spline(near)), 0.0)
        spread = None if self.spread is None else np.array(self.spread, dtype=np.float64) / largest
        values = {"time": time, "amplitude": amplitude / largest, "spread": spread, "_fine": fine / largest}
        for name, value in values.items():
            if value is not None:
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def default(cls) -> PulseTemplate:
        """Return the shape of firstlight for pulses of the DigiCam.

        A generalised gamma pulse (t / 14.7 ns)^2.349 exp((2.349 / 1.843) (1 - (t / 14.7 ns)^1.843)) and a late bump of
        2 %, over 88 ns. It has the published numbers of the measured shape, each within 0.5 %: integrals of h, h^2, h^3
        of 17.97, 12.37 and 10.18 ns, a width at half height of 16.4 ns, a rise from 10 % to 90 % in 8.28 ns, the
        peak at 14.7 ns.
        """
        time = np.arange(0.0, _LENGTH + 0.25, 0.5)
        x, y = time / _PEAK, time / _LENGTH
        main = x**_POWER * np.exp(_POWER / _STRETCH * (1.0 - x**_STRETCH))
        before, after = _BUMP_WEIGHT * _BUMP_PLACE, _BUMP_WEIGHT * (1.0 - _BUMP_PLACE)
        bump = (y / _BUMP_PLACE) ** before * ((1.0 - y) / (1.0 - _BUMP_PLACE)) ** after
        return cls(time, main + _BUMP * bump, name="default")

    @classmethod
    def read(cls, path: Path | str) -> PulseTemplate:
        """Read a template from a text file.

        Parameters
        ----------
        path : Path or str
            Lines of two or three numbers: time [ns], amplitude in any unit, its standard deviation. Empty lines and
            what follows ``#`` are passed over.

        Raises
        ------
        InputError
            If the file cannot be read or is no pulse; names the line.
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            what = f"the pulse template cannot be read: {reason}"
            raise InputError(
                what, where=path, hint="a text file with lines of time [ns] and amplitude"
            ) from error
        rows: list[list[float]] = []
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].replace(",", " ").split()
            if not words:
                continue
            try:
                row = [float(word) for word in words]
            except ValueError:
                row = []
            if len(row) not in _COLUMNS or (rows and len(row) != len(rows[0])):
                wanted = len(rows[0]) if rows else "2 or 3"
                what = f"line {number} does not have {wanted} numbers: {line.strip()[:60]!r}"
                raise InputError(
                    what, where=path, hint="lines of time [ns], amplitude and, perhaps, its deviation"
                )
            rows.append(row)
        columns = np.array(rows, dtype=np.float64).T
        problem = _problem(columns[0], columns[1]) if rows else "it holds no numbers"
        if problem:
            raise InputError(problem, where=path, hint="lines of time [ns], rising, and amplitude")
        return cls(columns[0], columns[1], columns[2] if len(columns) == _COLUMNS[1] else None, path.name)

    @property
    def start(self) -> float:
        """Time of the first point [ns]."""
        return float(self.time[0])

    @property
    def duration(self) -> float:
        """Length [ns]."""
        return float(self.time[-1] - self.time[0])

    def at(self, t: ArrayLike) -> Floats:
        """Return h at some times [ns], zero outside of the points.

        Interpolated in a table in steps of 0.05 ns, as in the simulator.
        """
        grid = self.start + _STEP * np.arange(self._fine.size)
        return np.interp(np.asarray(t, dtype=np.float64), grid, self._fine, left=0.0, right=0.0)

    def integral(self, power: int = 1) -> float:
        """Return the integral of h^power over all times [ns].

        Raises
        ------
        UsageError
            If the power is below 1.
        """
        if power < 1:
            what = f"the integral of h^{power} does not exist"
            raise UsageError(what, hint="a power of 1 or more")
        values = self._fine**power
        return _STEP * float(values.sum() - 0.5 * (values[0] + values[-1]))

    @cached_property
    def peak_time(self) -> float:
        """Time of the maximum [ns]."""
        top = int(self._fine.argmax())
        if not 0 < top < self._fine.size - 1:
            return self.start + _STEP * top
        left, middle, right = self._fine[top - 1 : top + 2]
        return self.start + _STEP * (top + 0.5 * float((left - right) / (left - 2.0 * middle + right)))

    def width(self, level: float = 0.5) -> float:
        """Return the distance of the first and the last time at which h is at a level [ns]."""
        above = np.flatnonzero(self._fine >= level)
        first, last = int(above[0]), int(above[-1])
        rising = self._crossing(first - 1, level) if first > 0 else float(first)
        falling = self._crossing(last, level) if last < self._fine.size - 1 else float(last)
        return _STEP * (falling - rising)

    def rise_time(self, low: float = 0.1, high: float = 0.9) -> float:
        """Return how long h rises from one level to another before the peak [ns]."""
        places = []
        for level in (low, high):
            first = int(np.argmax(self._fine >= level))
            places.append(self._crossing(first - 1, level) if first > 0 else 0.0)
        return _STEP * (places[1] - places[0])

    def _crossing(self, index: int, level: float) -> float:
        """Return where the table crosses a level between an index and the next one, in steps."""
        low, high = self._fine[index], self._fine[index + 1]
        return index + float((level - low) / (high - low))

    def largest_sum(self, n_samples: int, period: float = SAMPLE_PERIOD) -> tuple[float, float]:
        """Return the largest sum of neighbouring samples of one pulse: mean over all phases, and the smallest one.

        Parameters
        ----------
        n_samples : int
            Samples that are added up; with 1 it is the sample at the maximum.
        period : float
            Distance of samples [ns].
        """
        phases = np.arange(0.0, period, _STEP)
        largest = [self._sums(n_samples, period, phase) for phase in phases]
        return float(np.mean(largest)), float(np.min(largest))

    def _sums(self, n_samples: int, period: float, phase: float) -> float:
        number = int(np.ceil(self.duration / period)) + 2 * n_samples
        samples = self.at(self.start + phase + period * np.arange(-n_samples, number))
        return float(np.convolve(samples, np.ones(n_samples), "valid").max())

    def windowed(
        self, n_samples: int, period: float = SAMPLE_PERIOD, before: int | None = None
    ) -> PulseTemplate:
        """Return the template of a sum of neighbouring samples.

        Parameters
        ----------
        n_samples : int
            Samples that are added up.
        period : float
            Their distance [ns].
        before : int, optional
            How many of them come before the sample at time t; half of them by default.

        Returns
        -------
        PulseTemplate
            H(t) proportional to the sum over k of h(t + (k - before) period). Its maximum is 1, too: `scale` tells what
            it was, so that a single avalanche has a charge of up to ``gain * scale``.

        Raises
        ------
        UsageError
            If there is no such window.
        """
        before = n_samples // 2 if before is None else before
        if n_samples < 1 or not 0 <= before < n_samples or period <= 0.0:
            what = f"a sum of {n_samples} samples, {before} of them before the first, every {period:g} ns cannot be"
            raise UsageError(what, hint="n_samples >= 1, 0 <= before < n_samples, period > 0")
        shifts = period * (np.arange(n_samples) - before)
        first, last = self.start - shifts[-1], self.time[-1] - shifts[0]
        time = first + _STEP * np.arange(int(np.floor((last - first) / _STEP + 1e-9)) + 1)
        total = self.at(time[:, None] + shifts).sum(axis=1)
        return PulseTemplate(
            time, total, name=f"{self.name}, {n_samples} samples", scale=self.scale * float(total.max())
        )

    def moments(
        self, rate: ArrayLike, gain: ArrayLike, smearing: ArrayLike = 0.0, crosstalk: ArrayLike = 0.0
    ) -> Moments:
        """Return what a constant rate of pulses does to a sample (Campbell's theorem).

        The k-th cumulant is ``rate * integral(k) * <q^k>`` with the charge q of a pulse: n avalanches (Borel, mean
        1 / (1 - crosstalk)) give a normal charge of mean n gain and variance n smearing^2.

        Parameters
        ----------
        rate : array_like
            Rate of primary avalanches [1/ns].
        gain, smearing : array_like
            Charge of an avalanche and its standard deviation [LSB].
        crosstalk : array_like
            Mean number of avalanches that one avalanche starts, below 1.
        """
        rate, gain, smearing, crosstalk = (
            np.asarray(value, dtype=np.float64) for value in (rate, gain, smearing, crosstalk)
        )
        left = 1.0 - crosstalk
        first, second, third = 1.0 / left, 1.0 / left**3, (1.0 + 2.0 * crosstalk) / left**5
        charges = (
            gain * first,
            gain**2 * second + smearing**2 * first,
            gain**3 * third + 3.0 * gain * smearing**2 * second,
        )
        return Moments(*(rate * self.integral(k) * charge for k, charge in enumerate(charges, 1)))


def _problem(time: Floats, amplitude: Floats) -> str:
    """Return what is wrong with points of a template, or nothing."""
    if time.ndim != 1 or time.shape != amplitude.shape or time.size < 4:
        return f"{time.size} times and {amplitude.size} amplitudes are no pulse, four points are needed"
    if not (np.isfinite(time).all() and np.isfinite(amplitude).all()):
        return f"point {int(np.argmin(np.isfinite(time) & np.isfinite(amplitude))) + 1} is not finite"
    steps = np.diff(time)
    if (steps <= 0.0).any():
        place = int(np.argmax(steps <= 0.0)) + 2
        return f"times do not rise: point {place} is at {time[place - 1]:g} ns, after {time[place - 2]:g} ns"
    if time[-1] - time[0] < SAMPLE_PERIOD:
        return f"{time[-1] - time[0]:g} ns are less than a sample"
    return "" if amplitude.max() > 0.0 else "no amplitude is above zero"
