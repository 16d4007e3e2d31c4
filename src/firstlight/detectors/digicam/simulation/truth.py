"""What is true of a simulated camera: every number of every pixel, and which pixels are broken and how.

Typical values and spreads follow published calibrations of the DigiCam (2018).
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam import camera
from firstlight.detectors.digicam.camera import N_MODULES, N_PIXELS
from firstlight.errors import ConfigError, InputError, UsageError
from firstlight.files import atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["FAULTS", "TYPICAL", "Fault", "Spread", "Truth", "chosen_faults", "draw_truth"]

DC_REFERENCE = 300.0
"""Level at which the typical rate of the DC LEDs is given [DAC]."""
_TABLE, _RECORD = "truth.parquet", "truth.json"
_LARGEST_BRANCHING = 0.95


class Fault(enum.IntEnum):
    """What is wrong with a pixel."""

    NONE = 0
    DEAD = 1
    """Always the same value near its baseline."""
    NOISY = 2
    """Electronics noise of 4 LSB."""
    SATURATED = 3
    """Always 4095."""
    NO_VOLTAGE = 4
    """Without high voltage even where the camera has it: no pulses."""
    MISSING = 5
    """The module is not there: always 0."""
    SWAPPED = 6
    """Cabled to the channel of another pixel; its data are good."""


FAULTS = {"dead": 3, "noisy": 3, "saturated": 1, "no_voltage": 3, "missing_module": 1, "swapped": 1}
"""Faults that ``"all"`` stands for, and how many of each: pixels, modules, pairs of pixels."""
_BY_NAME_ONLY = ("swapped_modules",)
NOISY_SIGMA = 4.0
"""Electronics noise of a noisy pixel [LSB]."""


@dataclass(frozen=True)
class Spread:
    """How a number is distributed over the pixels: normal, kept within three standard deviations.

    Parameters
    ----------
    mean : float
        Typical value.
    width : float
        Standard deviation.
    """

    mean: float
    width: float = 0.0


TYPICAL: Mapping[str, Spread] = {
    "baseline": Spread(284.0, 6.0),
    "gain": Spread(5.15, 0.056 * 5.15),
    "sigma_e": Spread(0.96, 0.03),
    "sigma_1": Spread(0.45, 0.03),
    "crosstalk": Spread(0.095, 0.015),
    "dark_rate": Spread(2.75, 0.13 * 2.75),
    "time_offset": Spread(0.0, 0.5),
    "led_floor": Spread(0.020, 0.004),
    "led_scale": Spread(60.0, 1.0),
    "led_ceiling": Spread(900.0, 45.0),
    "dc_rate": Spread(64.0, 12.0),
    "dc_slope": Spread(0.060, 0.001),
}
"""Default values; what they are is said in `Truth`."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The numbers of each pixel. All arrays have the shape (n_pixels,); the camera has 1296.

    They belong to the pixel with its cable and its FADC. Where cables are swapped, the data of a pixel are found in another
    channel: `seen` gives what is true of the channels.

    Parameters
    ----------
    baseline : ndarray
        Mean sample without any light [LSB].
    gain : ndarray
        Height of the pulse of one avalanche [LSB].
    sigma_e : ndarray
        Electronics noise of a sample [LSB].
    sigma_1 : ndarray
        Standard deviation of the height of an avalanche [LSB].
    crosstalk : ndarray
        Mean number of avalanches that one avalanche starts (Borel; below 1).
    dark_rate : ndarray
        Rate of primary dark avalanches [MHz].
    time_offset : ndarray
        Delay of light [ns].
    led_floor, led_scale, led_ceiling : ndarray
        Flash of a level L [DAC]: mu = ceiling / (1 + (ceiling / floor - 1) exp(-L / scale)) - floor primary
        photo-electrons: none at level 0, then floor (exp(L / scale) - 1), at last saturation near the ceiling.
    dc_rate, dc_slope : ndarray
        Continuous light of level L: ``dc_rate exp(dc_slope (L - 300))`` [MHz], 0 at level 0.
    lit : ndarray of bool
        Whether the light source reaches the pixel.
    fault : ndarray of int64
        A `Fault`.
    cabling : ndarray of int64
        Which pixel is read in each channel.
    settings : mapping
        What it was drawn with.
    """

    baseline: Floats
    gain: Floats
    sigma_e: Floats
    sigma_1: Floats
    crosstalk: Floats
    dark_rate: Floats
    time_offset: Floats
    led_floor: Floats
    led_scale: Floats
    led_ceiling: Floats
    dc_rate: Floats
    dc_slope: Floats
    lit: NDArray[np.bool_]
    fault: Integers
    cabling: Integers
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _columns():
            dtype = {"lit": np.bool_, "fault": np.int64, "cabling": np.int64}.get(name, np.float64)
            values: NDArray[Any] = np.array(getattr(self, name), dtype=dtype)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        problem = self._problem()
        if problem:
            raise ConfigError(problem)

    def _problem(self) -> str:
        size = self.baseline.size
        for name in _columns():
            values = getattr(self, name)
            if values.shape != (size,):
                return f"truth: {name} has the shape {values.shape}, the baseline has ({size},)"
            if not np.isfinite(values).all():
                return f"truth: {name} of pixel {int(np.argmin(np.isfinite(values)))} is not finite"
        if size == 0:
            return "truth: there are no pixels"
        for name in ("gain", "sigma_e", "sigma_1", "crosstalk", "dark_rate", "led_floor", "dc_rate"):
            if (getattr(self, name) < 0.0).any():
                pixel = int(np.argmin(getattr(self, name)))
                return f"truth: {name} of pixel {pixel} is {getattr(self, name)[pixel]:g}, below 0"
        if self.crosstalk.max() > _LARGEST_BRANCHING:
            return f"truth: a crosstalk of {self.crosstalk.max():g} does not end, the most is {_LARGEST_BRANCHING}"
        if not np.array_equal(np.sort(self.cabling), np.arange(size)):
            return "truth: cabling must name every pixel once"
        return ""

    @classmethod
    def uniform(cls, n_pixels: int = N_PIXELS, **values: ArrayLike) -> Truth:
        """Return a camera without faults whose pixels are all the same.

        Parameters
        ----------
        n_pixels : int
            Number of pixels.
        **values : float or ndarray
            Other values than the typical ones, for all pixels or each.
        """
        arrays: dict[str, Any] = {name: typical.mean for name, typical in TYPICAL.items()}
        arrays |= {"lit": True, "fault": 0, "cabling": np.arange(n_pixels)}
        for name, value in values.items():
            if name not in arrays:
                raise ConfigError.unknown("value", name, arrays, where="truth")
            arrays[name] = value
        return cls(**{name: _for_all(value, n_pixels) for name, value in arrays.items()})

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return int(self.baseline.size)

    def seen(self, name: str) -> NDArray[Any]:
        """Return a number as it is seen by each channel: that of the pixel to which it is cabled.

        Raises
        ------
        UsageError
            If there is no such number.
        """
        if name not in _columns():
            raise UsageError.unknown("number", name, _columns(), where="truth")
        return np.asarray(getattr(self, name)[self.cabling])

    def changed(self, **values: ArrayLike) -> Truth:
        """Return a truth with some numbers replaced, for all pixels or each.

        Raises
        ------
        UsageError
            If there is no such number.
        """
        for name in values:
            if name not in _columns():
                raise UsageError.unknown("number", name, _columns(), where="truth")
        return replace(self, **{name: _for_all(value, self.n_pixels) for name, value in values.items()})

    def light(self, level: float) -> Floats:
        """Return the mean number of primary photo-electrons of a flash; 0 where the light source does not reach."""
        steep = (self.led_ceiling / self.led_floor - 1.0) * np.exp(-level / self.led_scale)
        mu = self.led_ceiling / (1.0 + steep) - self.led_floor
        return np.where(self.lit & (level > 0.0), mu, 0.0)

    def level_of_light(self, mu: ArrayLike) -> Floats:
        """Return the level at which a flash has so many primary photo-electrons [DAC]; NaN where it never has."""
        total = np.asarray(mu, dtype=np.float64) + self.led_floor
        inside = self.lit & (total >= self.led_floor) & (total < self.led_ceiling)
        total = np.where(inside, total, self.led_floor)
        odds = (self.led_ceiling / self.led_floor - 1.0) / (self.led_ceiling / total - 1.0)
        return np.where(inside, self.led_scale * np.log(odds), np.nan)

    def sky_rate(self, level: float) -> Floats:
        """Return the rate of primary photo-electrons of continuous light [MHz]; 0 where it does not reach."""
        if level <= 0.0:
            return np.zeros(self.n_pixels)
        return np.where(self.lit, self.dc_rate * np.exp(self.dc_slope * (level - DC_REFERENCE)), 0.0)

    def write(self, folder: Path | str, record: Mapping[str, Any] | None = None) -> list[Path]:
        """Write ``truth.parquet``, a row for each pixel, and ``truth.json`` with what is true of the whole camera.

        Parameters
        ----------
        folder : Path or str
            Must exist.
        record : mapping, optional
            More for ``truth.json``.
        """
        import polars as pl

        folder = Path(folder)
        table = {"pixel": np.arange(self.n_pixels), **{name: getattr(self, name) for name in _columns()}}
        with atomic(folder / _TABLE) as temporary:
            pl.DataFrame(table).write_parquet(temporary)
        write_json(folder / _RECORD, {"settings": dict(self.settings), **(record or {})})
        return [folder / _TABLE, folder / _RECORD]

    @classmethod
    def read(cls, folder: Path | str) -> Truth:
        """Return the truth that stands beside simulated files.

        Raises
        ------
        InputError
            If there is none, or it cannot be read.
        """
        import polars as pl

        path = Path(folder) / _TABLE
        if not path.is_file():
            what = f"there is no {_TABLE}"
            raise InputError(what, where=path.parent, hint="only simulated files have one, beside them")
        try:
            table = pl.read_parquet(path)
            arrays = {name: table[name].to_numpy() for name in _columns()}
        except (pl.exceptions.PolarsError, OSError) as error:
            what = f"the truth cannot be read: {error}"
            raise InputError(what, where=path, hint="simulate again") from error
        return cls(**arrays, settings=read_record(folder).get("settings", {}))


def read_record(folder: Path | str) -> dict[str, Any]:
    """Return what stands in the ``truth.json`` of simulated files.

    Raises
    ------
    InputError
        If there is none, or it cannot be read.
    """
    path = Path(folder) / _RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = f"there is no {_RECORD}"
        raise InputError(what, where=path.parent, hint="only simulated files have one, beside them") from None
    except (OSError, ValueError) as error:
        what = f"the truth cannot be read: {error}"
        raise InputError(what, where=path, hint="simulate again") from error
    return dict(content)


def _for_all(value: ArrayLike, n_pixels: int) -> Any:
    return np.broadcast_to(np.asarray(value), (n_pixels,))


def _columns() -> list[str]:
    return [one.name for one in fields(Truth) if one.name != "settings"]


def chosen_faults(faults: str | bool | Iterable[str] | Mapping[str, int]) -> dict[str, int]:
    """Return which faults are wanted, and how many of each.

    Parameters
    ----------
    faults : str, bool, iterable of str or mapping of str to int
        ``"all"`` or True: `FAULTS`; ``"none"`` or False; names; or numbers by name. ``swapped_modules`` (pairs of modules)
        is only had by name.

    Raises
    ------
    ConfigError
        If a fault does not exist, or a number is below 0.
    """
    if isinstance(faults, bool):
        faults = "all" if faults else "none"
    if isinstance(faults, str):
        if faults in ("all", "none"):
            return dict(FAULTS) if faults == "all" else {}
        faults = (faults,)
    wanted = faults if isinstance(faults, dict) else dict.fromkeys(faults)
    known = [*FAULTS, *_BY_NAME_ONLY]
    for name, number in wanted.items():
        if name not in known:
            raise ConfigError.unknown("fault", name, [*known, "all", "none"])
        if number is not None and number < 0:
            what = f"{number} times {name} cannot be"
            raise ConfigError(what, hint="0 or more")
    return {name: FAULTS.get(name, 1) if number is None else number for name, number in wanted.items()}


def draw_truth(
    seed: int = 1,
    *,
    faults: str | bool | Iterable[str] | Mapping[str, int] = "all",
    lit: ArrayLike = True,
    **spreads: Spread | float | Sequence[float],
) -> Truth:
    """Draw the numbers of a camera.

    Parameters
    ----------
    seed : int
        Fixes all of them.
    faults : str, bool, iterable of str or mapping of str to int
        As for `chosen_faults`. Pixels have one fault at most.
    lit : array_like of bool, shape (1296,)
        Which pixels the light source reaches; all by default.
    **spreads : Spread, float or (float, float)
        Other values than `TYPICAL`: mean and standard deviation over the pixels.

    Raises
    ------
    ConfigError
        If a name or a value is impossible, or the camera has no room for the faults.
    """
    chosen = dict(TYPICAL)
    for name, value in spreads.items():
        if name not in chosen:
            raise ConfigError.unknown("value", name, chosen, where="truth")
        chosen[name] = _spread(name, value)
    arrays: dict[str, Any] = {}
    for name, spread in chosen.items():
        # a stream for each: a value that is fixed must not change the others
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(list(TYPICAL).index(name),)))
        unit = np.clip(rng.standard_normal(N_PIXELS), -3.0, 3.0)
        arrays[name] = spread.mean + spread.width * unit
    for name in ("sigma_1", "crosstalk", "dark_rate"):
        arrays[name] = np.maximum(arrays[name], 0.0)
    wanted = chosen_faults(faults)
    fault, cabling = _place_faults(np.random.default_rng([seed, 1]), wanted)
    arrays["sigma_e"] = np.where(fault == Fault.NOISY, NOISY_SIGMA, arrays["sigma_e"])
    arrays |= {"lit": np.broadcast_to(np.asarray(lit, dtype=bool), (N_PIXELS,)), "fault": fault}
    settings = {
        "seed": seed,
        "faults": wanted,
        "typical": {name: [spread.mean, spread.width] for name, spread in chosen.items()},
    }
    return Truth(**arrays, cabling=cabling, settings=settings)


def _spread(name: str, value: Spread | float | Sequence[float]) -> Spread:
    if isinstance(value, Spread):
        return value
    numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if numbers.shape not in ((1,), (2,)) or not np.isfinite(numbers).all() or numbers[-1] < 0.0:
        what = f"{name} = {value!r} cannot be"
        raise ConfigError(what, where="truth", hint="a number, or mean and standard deviation")
    return Spread(*(float(number) for number in numbers))


def _place_faults(rng: np.random.Generator, wanted: Mapping[str, int]) -> tuple[Integers, Integers]:
    """Return the fault of each pixel, and which pixel each channel reads."""
    fault, cabling = np.zeros(N_PIXELS, dtype=np.int64), np.arange(N_PIXELS)
    found = camera.pixel_arrays()
    n_modules = wanted.get("missing_module", 0) + 2 * wanted.get("swapped_modules", 0)
    singles = {"dead": Fault.DEAD, "noisy": Fault.NOISY, "saturated": Fault.SATURATED}
    singles["no_voltage"] = Fault.NO_VOLTAGE
    n_pixels = sum(wanted.get(name, 0) for name in singles) + 2 * wanted.get("swapped", 0)
    if n_modules > N_MODULES or 12 * n_modules + n_pixels > N_PIXELS:
        what = f"{n_modules} modules and {n_pixels} pixels with faults are more than the camera has"
        raise ConfigError(what, where="faults")
    modules = rng.permutation(N_MODULES)[:n_modules] + 1
    for module in modules[: wanted.get("missing_module", 0)]:
        fault[found["module"] == module] = Fault.MISSING
    for first, second in modules[wanted.get("missing_module", 0) :].reshape(-1, 2):
        pair = [
            members[np.argsort(found["pixel_in_module"][members])]
            for members in (np.flatnonzero(found["module"] == number) for number in (first, second))
        ]
        cabling[pair[0]], cabling[pair[1]] = pair[1], pair[0]
        fault[np.concatenate(pair)] = Fault.SWAPPED
    free = rng.permutation(np.flatnonzero(fault == Fault.NONE)).tolist()
    for name, code in singles.items():
        for _ in range(wanted.get(name, 0)):
            fault[free.pop()] = code
    for _ in range(wanted.get("swapped", 0)):
        one, other = free.pop(), free.pop()
        cabling[one], cabling[other] = other, one
        fault[[one, other]] = Fault.SWAPPED
    return fault, cabling
