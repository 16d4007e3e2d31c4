"""A chip with known truth: trims, baselines, gains, and the rate of each pixel at any threshold.

The numbers follow published threshold scans and one real noise scan of a VeloPix: see `truth_of`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = [
    "FRAME_FAULTS",
    "LABELS",
    "LINES",
    "LINES_WITH_K_BETA",
    "N_TRIMS",
    "PIXEL_FAULTS",
    "SHAPE",
    "Chip",
    "chosen_faults",
    "stream",
    "trim_law",
    "truth_of",
]

SHAPE = (256, 256)
_N_PIXELS = SHAPE[0] * SHAPE[1]
N_TRIMS = 16

LINES = ((5895.0, 1.0),)
"""Energy [eV] and share of the photons: manganese K-alpha alone."""
LINES_WITH_K_BETA = ((5895.0, 0.88), (6490.0, 0.12))
"""The same with K-beta."""

PIXEL_FAULTS = ("masked", "silent", "noisy", "hot", "undefined_widths")
"""Faults of pixels."""
FRAME_FAULTS = (
    "bad_threshold",
    "bad_columns",
    "missing",
    "empty",
    "truncated",
    "text",
    "not_square",
    "light_leak",
)
"""Faults of frames that ``"all"`` stands for."""
_BY_NAME_ONLY = ("strange_columns",)

# Trim law: the published average is 0.02758 t^3 - 0.6792 t^2 + 19.48 t above the value at trim 0.
_CUBIC = (0.02758, -0.6792, 19.48, 0.0)
_TRIM0, _TRIM_RANGE = 1298.0, 232.5  # DAC
_LEGACY_STEPS = 16  # the legacy rule divides the range of 15 steps by 16
_LARGEST_DISTANCE = 25  # of a prediction from the target [DAC], beyond it a pixel is masked with code 5
_PLANTED_CODES = {1: 60, 2: 40, 3: 40, 4: 20, 5: 18}  # with those the rule itself masks some 184 pixels
_N_SILENT, _N_NOISY, _N_HOT, _N_UNDEFINED = 30, 40, 5, 3
_HOT_RATE = 1000.0  # hits/s: 2,600 hits in one shutter of 2.6 s
_SHARED = 0.008 / 0.45  # slope over step [1/DAC]
_NOISE_AMPLITUDE = (90.0, 8.0)  # hits at the top of a noise scan, if the counter did not stop


class Temperature(NamedTuple):
    """What a temperature changes: mean gain [e-/DAC], baseline [DAC], pixels masked in the last column."""

    gain: float
    shift: float
    masked_in_last_column: int
    fingerprint: int


LABELS = {"warm": Temperature(13.2, 0.0, 0, 4697), "cold": Temperature(14.264, -5.0, 1, 4512)}
"""Temperatures that can be simulated; the cold target is 112 DAC on average."""


def stream(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the random numbers of one purpose: they depend on the seed and the keys alone."""
    numbers = [key if isinstance(key, int) else zlib.crc32(key.encode()) for key in keys]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(numbers)))


def trim_law(trim: NDArray[Any] | float) -> Floats:
    """Return how far a trim moves the baseline, as a share of the way from trim 0 to trim 15."""
    law = np.polynomial.Polynomial(_CUBIC[::-1])
    return np.asarray(law(np.asarray(trim, dtype=np.float64)) / law(N_TRIMS - 1.0))


def chosen_faults(faults: str | Iterable[str]) -> frozenset[str]:
    """Return the names of the faults that are wanted.

    Parameters
    ----------
    faults : str or iterable of str
        ``"all"`` (`PIXEL_FAULTS` and `FRAME_FAULTS`), ``"none"``, or names; one more is only had by name:
        ``"strange_columns"``, last columns that are corrupted without the usual sum.

    Raises
    ------
    ConfigError
        If a fault does not exist.
    """
    every = (*FRAME_FAULTS, *PIXEL_FAULTS)
    if isinstance(faults, str):
        if faults == "all":
            return frozenset(every)
        if faults == "none":
            return frozenset()
        faults = (faults,)
    names = tuple(faults)
    for name in names:
        if name not in (*every, *_BY_NAME_ONLY):
            raise ConfigError.unknown("fault", name, [*every, *_BY_NAME_ONLY, "all", "none"])
    return frozenset(names)


@dataclass(frozen=True, eq=False)
class Chip:
    """A chip at one temperature under a source, and what its equalisation files say.

    All maps have the shape (256, 256): row, column.

    Parameters
    ----------
    seed : int
        What it was drawn with.
    label : str
        Temperature.
    lines : tuple of (float, float)
        Energy [eV] and share of the photons of each line; the first one defines target and position.
    energy_per_pair : float
        Energy for one electron-hole pair [eV].
    trim0, trim_range : ndarray of float64
        True noise mean at trim 0, and from there to trim 15 [DAC].
    noise_width, noise_amplitude : ndarray of float64
        Width [DAC] and height [hits] of the rate in a noise scan.
    trim : ndarray of int8
        Chosen trims; 0 where masked.
    mask : ndarray of int8
        Code of the mask, 0 is good.
    base : ndarray of float64
        True baseline [DAC]: noise mean at the chosen trim.
    gain : ndarray of float64
        Electrons per DAC step.
    width : ndarray of float64
        Width of the edge [DAC].
    step, slope : ndarray of float64
        Rate of the peak [hits/s] and density of shared charges [hits/s/DAC]; 0 where nothing is counted.
    noise_rate : ndarray of float64
        Rate at any threshold [hits/s].
    silent, noisy, hot, undefined_widths : ndarray of int64
        Pixels with that fault (256 row + column), none of them masked; hot ones are noisy, too, and come first.
    dead_columns : tuple of int
        Columns without any hit.
    trim0_mean, trimF_mean, trim0_width, control_mean, predicted_mean : ndarray of float64
        As in the equalisation files [DAC]; 0 without response.
    """

    seed: int
    label: str
    lines: tuple[tuple[float, float], ...]
    energy_per_pair: float
    trim0: Floats = field(repr=False)
    trim_range: Floats = field(repr=False)
    noise_width: Floats = field(repr=False)
    noise_amplitude: Floats = field(repr=False)
    trim: NDArray[np.int8] = field(repr=False)
    mask: NDArray[np.int8] = field(repr=False)
    base: Floats = field(repr=False)
    gain: Floats = field(repr=False)
    width: Floats = field(repr=False)
    step: Floats = field(repr=False)
    slope: Floats = field(repr=False)
    noise_rate: Floats = field(repr=False)
    silent: Integers = field(repr=False)
    noisy: Integers = field(repr=False)
    hot: Integers = field(repr=False)
    undefined_widths: Integers = field(repr=False)
    dead_columns: tuple[int, ...]
    trim0_mean: Floats = field(repr=False)
    trimF_mean: Floats = field(repr=False)
    trim0_width: Floats = field(repr=False)
    control_mean: Floats = field(repr=False)
    predicted_mean: Floats = field(repr=False)

    @property
    def target(self) -> Floats:
        """Distance of the first line from the baseline [DAC]."""
        return np.asarray(self.lines[0][0] / self.energy_per_pair / self.gain)

    @property
    def position(self) -> Floats:
        """Position of the first line [DAC]."""
        return np.asarray(self.base + self.target)

    @property
    def fingerprint(self) -> int:
        """Sum of a corrupted last column over the pixels that are not masked."""
        return LABELS[self.label].fingerprint

    @property
    def bad_cut(self) -> float:
        """Mean of a corrupted last column over the pixels that are not masked."""
        return self.fingerprint / int((self.mask[:, -1] == 0).sum())

    def rates(self, threshold: float, *, gain: float = 1.0) -> Floats:
        """Return the rate of each pixel at a threshold [hits/s], of shape (256, 256).

        Parameters
        ----------
        threshold : float
            In DAC.
        gain : float
            The gains of all pixels are so many times the true ones.
        """
        from firstlight.detectors.velo.simulation.kernels import fill_rates

        electrons = np.array([energy for energy, _ in self.lines]) / self.energy_per_pair
        share = np.array([weight for _, weight in self.lines])
        position = self.base.ravel() + electrons[:, np.newaxis] / (gain * self.gain.ravel())
        rate = np.empty(_N_PIXELS)
        fill_rates(
            float(threshold),
            self.step.ravel(),
            self.slope.ravel(),
            self.width.ravel(),
            position,
            share,
            self.noise_rate.ravel(),
            rate,
        )
        return rate.reshape(SHAPE)

    def noise_mean(self, trim: int | None = None) -> Floats:
        """Return the true noise mean [DAC] at a trim, or at the chosen ones."""
        if trim is None:
            return self.base
        return np.asarray(self.trim0 + self.trim_range * trim_law(trim))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the truth as arrays, under the names of the truth files."""
        names = {"E0": "position", "sigma": "width", "N": "step", "C": "slope"}
        same = ("base", "gain", "target", "mask", "trim", "silent", "noisy", "hot", "undefined_widths")
        more = ("trim0", "trim_range", "noise_width", "noise_amplitude", "noise_rate")
        values = {name: getattr(self, name) for name in (*same, *more)}
        values |= {name: getattr(self, own) for name, own in names.items()}
        plain = {"seed": self.seed, "label": self.label, "energy_per_pair": self.energy_per_pair}
        plain |= {"bad_cut": self.bad_cut, "lines": self.lines}
        values |= {name: np.asarray(value) for name, value in plain.items()}
        return values | {"dead_columns": np.asarray(self.dead_columns, dtype=np.int64)}


def truth_of(
    seed: int = 1,
    label: str = "warm",
    *,
    rate: float = 0.45,
    faults: str | Iterable[str] = "all",
    k_beta: bool = False,
    lines: Sequence[tuple[float, float]] | None = None,
    energy_per_pair: float = 3.69,
    even_odd: float = 0.01,
    dead_columns: Iterable[int] = (),
) -> Chip:
    """Draw a chip.

    The baseline is the chosen-trim value of a trim law per pixel: 1298 +- 28 DAC at trim 0, 232.5 +- 9 DAC
    from there to trim 15, along the published cubic. Trims are chosen, pixels masked and baselines predicted
    by the legacy rule with 16 steps: the prediction is 11 DAC low on average. Gains are 13.2 e-/DAC (cold 14.26)
    within 3.3 %; edges are 4.5 +- 0.5 DAC wide, 10 % wider in rows 0 and 15 of 16. The same seed gives the same
    chip at each temperature.

    Parameters
    ----------
    seed : int
        Fixes everything.
    label : str
        Temperature, one of `LABELS`.
    rate : float
        Rate of the peak [hits/s] where the source is brightest.
    faults : str or iterable of str
        As for `chosen_faults`; those of frames are of no meaning here.
    k_beta : bool
        Whether the source has its second line.
    lines : sequence of (float, float), optional
        Energies [eV] and shares of another source.
    energy_per_pair : float
        Energy for an electron-hole pair [eV].
    even_odd : float
        Gains of even columns are lower, those of odd ones higher by this fraction.
    dead_columns : iterable of int
        Columns without hits.

    Raises
    ------
    ConfigError
        If the label, a fault or a column does not exist, or a number is impossible.
    """
    chosen = chosen_faults(faults)
    source = tuple((float(e), float(w)) for e, w in lines or (LINES_WITH_K_BETA if k_beta else LINES))
    columns = tuple(sorted({int(column) for column in dead_columns}))
    _check(seed, label, rate, energy_per_pair, source, columns)
    if label not in LABELS:
        raise ConfigError.unknown("label", label, LABELS)

    def normal(name: str) -> Floats:
        return stream(seed, "chip", name).standard_normal(SHAPE)

    temperature = LABELS[label]
    wide = np.where(np.isin(np.arange(SHAPE[0]) % 16, (0, 15)), 1.1, 1.0)[:, np.newaxis]
    side = np.where(np.arange(SHAPE[1]) % 2, 1.0, -1.0)
    scatter = 0.0 if label == "warm" else 0.005 * normal(f"gain at {label}")
    gain = temperature.gain * (1 + 0.033 * normal("gain")) * (1 + even_odd * side) * (1 + scatter)
    # gains below half of the mean would be another fault
    gain = np.maximum(gain, 0.5 * temperature.gain)
    step = rate * _illumination() * np.maximum(1 + 0.05 * normal("step"), 0.0)
    slope = rate * _SHARED * _illumination() * np.maximum(1 + 0.05 * normal("slope"), 0.0)
    zeros, none = np.zeros(SHAPE), np.empty(0, dtype=np.int64)
    chip = Chip(
        seed,
        label,
        source,
        float(energy_per_pair),
        trim0=_TRIM0 + temperature.shift + 28.0 * normal("trim0"),
        trim_range=_TRIM_RANGE + 9.0 * normal("trim range"),
        noise_width=np.maximum(8.1 + 0.65 * normal("noise width"), 4.0) * wide,
        noise_amplitude=np.maximum(_NOISE_AMPLITUDE[0] + _NOISE_AMPLITUDE[1] * normal("amplitude"), 5.0),
        trim=np.zeros(SHAPE, dtype=np.int8),
        mask=np.zeros(SHAPE, dtype=np.int8),
        base=zeros,
        gain=gain,
        width=np.maximum(4.5 + 0.5 * normal("width"), 2.5) * wide,
        step=step,
        slope=slope,
        noise_rate=zeros,
        silent=none,
        noisy=none,
        hot=none,
        undefined_widths=none,
        dead_columns=columns,
        trim0_mean=zeros,
        trimF_mean=zeros,
        trim0_width=zeros,
        control_mean=zeros,
        predicted_mean=zeros,
    )
    return _with_faulty_pixels(_equalised(chip, planted="masked" in chosen), chosen)


def _check(
    seed: int,
    label: str,
    rate: float,
    energy_per_pair: float,
    lines: tuple[tuple[float, float], ...],
    columns: tuple[int, ...],
) -> None:
    possible = all(energy > 0 and weight >= 0 for energy, weight in lines)
    if seed < 0 or rate <= 0 or energy_per_pair <= 0 or not possible:
        what = (
            f"seed = {seed}, rate = {rate:g}, energy_per_pair = {energy_per_pair:g}, lines = {lines} "
            "cannot be simulated"
        )
        hint = "seed >= 0, rate > 0, energies > 0, shares >= 0"
        raise ConfigError(what, where=f"simulated chip ({label})", hint=hint)
    for column in columns:
        if not 0 <= column < SHAPE[1]:
            what = f"there are the columns 0 to {SHAPE[1] - 1}, not {column}"
            raise ConfigError(what, where="dead_columns")


def _illumination() -> Floats:
    """Return the light of the source relative to its centre: flat, with a soft edge and a little beyond it."""
    row, column = np.indices(SHAPE)
    distance = np.hypot(row - 125.0, column - 150.0)
    return np.asarray(1 / (1 + (distance / 105.0) ** 6) + 0.01)


def _plant_codes(chip: Chip, trim0: Floats) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return which pixels have no response (codes 1 to 3), and where `trim0` was moved for codes 4 and 5."""
    missing = np.zeros(_N_PIXELS, dtype=np.int8)
    wide = np.zeros(_N_PIXELS, dtype=bool)
    rng = stream(chip.seed, "chip", "mask")
    inner = np.flatnonzero(np.arange(_N_PIXELS) % SHAPE[1] != SHAPE[1] - 1)
    pixels = rng.permutation(inner)[: sum(_PLANTED_CODES.values())]
    start = 0
    flat = trim0.reshape(-1)
    shift = LABELS[chip.label].shift
    for code, number in _PLANTED_CODES.items():
        own = pixels[start : start + number]
        start += number
        if code <= 3:
            missing[own] = code
        elif code == 4:
            away = np.where(np.arange(number) % 2, 170.0, -170.0)
            flat[own] = _TRIM0 + shift + away + 5.0 * rng.standard_normal(number)
        else:
            # a step of 54 DAC: half of it is more than the largest distance
            flat[own] = 1008.0 + shift
            wide[own] = True
    last = rng.integers(0, SHAPE[0], LABELS[chip.label].masked_in_last_column)
    missing[last * SHAPE[1] + SHAPE[1] - 1] = 1
    return missing.reshape(SHAPE), wide.reshape(SHAPE)


def _equalised(chip: Chip, *, planted: bool) -> Chip:
    """Return the chip after its equalisation: measured noise means, trims, mask, prediction, true baseline."""
    trim0, trim_range = chip.trim0.copy(), chip.trim_range.copy()
    missing = np.zeros(SHAPE, dtype=np.int8)
    if planted:
        missing, wide = _plant_codes(chip, trim0)
        trim_range[wide] = 864.0

    def measured(name: str, truth: Floats, error: float) -> Floats:
        return truth + error * stream(chip.seed, "equalisation", chip.label, name).standard_normal(SHAPE)

    # the files hold whole numbers, cut off and not rounded
    mean_0 = np.floor(measured("trim0", trim0, 0.35))
    mean_f = np.floor(measured("trimF", trim0 + trim_range, 0.35))
    mean_0[(missing == 1) | (missing == 2)] = 0
    mean_f[(missing == 1) | (missing == 3)] = 0
    target = (int(mean_0[mean_0 > 0].mean()) + int(mean_f[mean_f > 0].mean())) // 2
    responds = missing == 0
    per_trim = np.where(responds, mean_f - mean_0, 1.0) / _LEGACY_STEPS
    trim = np.rint((target - mean_0) / per_trim)
    predicted = mean_0 + np.rint(trim * per_trim)
    mask = missing.copy()
    far = np.abs(predicted - target) > _LARGEST_DISTANCE
    mask[responds & far] = 5
    mask[responds & ((trim < 0) | (trim >= N_TRIMS))] = 4
    # masked by chance: not where nothing is to be masked, and not in the last column, whose fingerprint is a
    # sum over pixels that are not
    unwanted = (mask > 3) & ((not planted) | (np.arange(SHAPE[1]) == SHAPE[1] - 1))
    if unwanted.any():
        middle = replace(
            chip,
            trim0=np.where(unwanted, _TRIM0 + LABELS[chip.label].shift, chip.trim0),
            trim_range=np.where(unwanted, _TRIM_RANGE, chip.trim_range),
        )
        return _equalised(middle, planted=planted)
    good = mask == 0
    trim = np.where(good, trim, 0).astype(np.int8)
    base = trim0 + trim_range * trim_law(trim)
    width = measured("width", chip.noise_width * _widening(chip.noise_amplitude), 0.2)
    return replace(
        chip,
        trim0=trim0,
        trim_range=trim_range,
        trim=trim,
        mask=mask,
        base=base,
        trim0_mean=mean_0,
        trimF_mean=mean_f,
        trim0_width=np.where(good, np.maximum(width, 0.5), 0.0),
        control_mean=np.where(good, measured("control", base, 0.35), 0.0),
        predicted_mean=np.where(good, predicted, 0.0),
    )


def _widening(amplitude: Floats) -> Floats:
    """Return how much wider than the rate the readings of a counter that stops at 63 are spread."""
    from scipy.special import pdtrc

    height = np.linspace(1.0, 200.0, 40)
    u = np.linspace(-6.0, 6.0, 97)
    mean = height[:, np.newaxis] * np.exp(-0.5 * u * u)
    reading = sum(pdtrc(number, mean) for number in range(63))
    spread = np.sqrt((reading * u * u).sum(axis=1) / reading.sum(axis=1))
    return np.asarray(np.interp(amplitude, height, spread))


def _with_faulty_pixels(chip: Chip, chosen: frozenset[str]) -> Chip:
    """Return the chip with silent, noisy and hot pixels, and with nothing counted where it is masked."""
    rng = stream(chip.seed, "chip", "pixels")
    # the same pixels at each temperature, whichever of them is masked in only one
    picked = rng.permutation(_N_PIXELS)[: 2 * (_N_SILENT + _N_NOISY + _N_UNDEFINED)]
    extra = np.exp(rng.uniform(np.log(2.0), np.log(10.0), _N_NOISY))
    dark = chip.mask > 0
    dark[:, list(chip.dead_columns)] = True
    picked = picked[~dark.ravel()[picked]]
    silent, noisy, undefined = np.split(picked, (_N_SILENT, _N_SILENT + _N_NOISY))
    undefined = undefined[:_N_UNDEFINED]
    hot = noisy[:_N_HOT]
    extra[:_N_HOT] = _HOT_RATE
    is_noisy = np.full(noisy.size, "noisy" in chosen)
    is_noisy[:_N_HOT] = "hot" in chosen
    noisy, extra = noisy[is_noisy], extra[: noisy.size][is_noisy]
    none = np.empty(0, dtype=np.int64)
    silent = silent if "silent" in chosen else none
    undefined = undefined if "undefined_widths" in chosen else none
    noise = np.zeros(_N_PIXELS)
    noise[noisy] = extra
    noise = noise.reshape(SHAPE)
    dark.reshape(-1)[silent] = True
    width = chip.trim0_width.copy()
    width.reshape(-1)[undefined] = np.nan
    return replace(
        chip,
        step=np.where(dark, 0.0, chip.step),
        slope=np.where(dark, 0.0, chip.slope),
        noise_rate=np.where(dark, 0.0, noise),
        silent=silent,
        noisy=noisy,
        hot=hot if "hot" in chosen else none,
        undefined_widths=undefined,
        trim0_width=width,
    )
