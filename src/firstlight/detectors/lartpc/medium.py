"""Liquid argon as electrons see it: drift velocity, diffusion, capture, density; and two presets.

`Medium` holds temperature, field and lifetime and gives what follows from them. Its numbers are for one uniform field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.velocity import (
    VELOCITY_MODELS,
    VelocityTable,
    beyond_range,
    drift_velocity,
    mobility,
    mobility_slope,
)
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "BOILING_POINT",
    "CRITICAL_POINT",
    "FIXED_DIFFUSION",
    "PRESETS",
    "TRIPLE_POINT",
    "VELOCITY_MODELS",
    "Medium",
    "VelocityTable",
    "drift_velocity",
    "longitudinal_diffusion",
    "mean_energy",
    "mobility",
    "saturated_density",
    "transverse_diffusion",
]

TRIPLE_POINT, BOILING_POINT, CRITICAL_POINT = 83.8058, 87.302, 150.687  # K
# longitudinal and transverse diffusion that others use as fixed numbers [cm2/s]; None: from field and temperature
FIXED_DIFFUSION: dict[str, tuple[float | None, float | None]] = {
    "einstein": (None, None),
    "gampy": (None, 12.0),
    "larnd-sim": (4.0, 8.8),
    "microboone": (3.74, None),  # measured at 273.9 V/cm, +0.28 -0.29
}


def saturated_density(temperature: ArrayLike) -> Any:
    """Return the density of liquid argon under its own vapour.

    Equation of Tegeler, Span and Wagner, J. Phys. Chem. Ref. Data 28 (1999) 779, good to 0.1 %: 1.3954 at 87.3 K, 1.3137 at
    100 K, 1.2428 at 110 K.

    Parameters
    ----------
    temperature : array_like
        Temperature [K].

    Returns
    -------
    float or ndarray
        Density [g/cm3].

    Raises
    ------
    UsageError
        If argon is not liquid at this temperature.
    """
    kelvin = np.asarray(temperature, dtype=np.float64)
    liquid = (kelvin >= TRIPLE_POINT - 0.01) & (kelvin < CRITICAL_POINT)
    if not liquid.all():
        what = f"argon is not liquid at {kelvin[~liquid].flat[0]:g} K"
        raise UsageError(what, hint=f"a temperature between {TRIPLE_POINT:.1f} and {CRITICAL_POINT:.1f} K")
    below = 1 - kelvin / CRITICAL_POINT
    exponent = (
        1.5004262 * below**0.334
        - 0.31381290 * below ** (2 / 3)
        + 0.086461622 * below ** (7 / 3)
        - 0.041477525 * below**4
    )
    density = 0.5356 * np.exp(exponent)
    return float(density) if density.ndim == 0 else density


def mean_energy(field: ArrayLike, temperature: ArrayLike) -> Any:
    """Return the mean energy of drifting electrons along the field [eV], measured by their longitudinal diffusion.

    Fit of Y. Li et al., NIM A 816 (2016) 160, to 0.1-2 kV/cm; it goes with the temperature.

    Parameters
    ----------
    field : array_like
        Drift field [kV/cm].
    temperature : array_like
        Temperature [K].
    """
    strength = np.asarray(field, dtype=np.float64)
    b0, b1, b2, b3 = 0.0075, 742.9, 3269.6, 31678.2
    energy = (b0 + b1 * strength + b2 * strength**2) / (1 + b1 / b0 * strength + b3 * strength**2)
    energy = energy * np.asarray(temperature, dtype=np.float64) / 87.0
    return float(energy) if energy.ndim == 0 else energy


def longitudinal_diffusion(
    field: ArrayLike,
    temperature: ArrayLike,
    model: str | VelocityTable = "bnl",
    *,
    extrapolate: bool = False,
) -> Any:
    """Return the longitudinal diffusion coefficient, mobility times mean energy [cm2/s].

    Parameters and errors are those of `drift_velocity`.
    """
    return mobility(field, temperature, model, extrapolate=extrapolate) * mean_energy(field, temperature)


def transverse_diffusion(
    field: ArrayLike,
    temperature: ArrayLike,
    model: str | VelocityTable = "bnl",
    *,
    extrapolate: bool = False,
) -> Any:
    """Return the transverse diffusion coefficient by the generalised Einstein relation [cm2/s].

    D_L / D_T = 1 + d ln(mobility) / d ln(field) (R. E. Robson, Aust. J. Phys. 25 (1972) 685). Parameters and errors are
    those of `drift_velocity`.
    """
    ratio = 1 + mobility_slope(field, temperature, model, extrapolate=extrapolate)
    return longitudinal_diffusion(field, temperature, model, extrapolate=extrapolate) / ratio


@dataclass(frozen=True)
class Medium:
    """Liquid argon in a uniform drift field.

    Parameters
    ----------
    temperature : float
        Temperature [K].
    field : float
        Drift field [kV/cm].
    lifetime : float
        Time in which all but 1/e of the electrons are captured by impurities [ms]; infinite for none.
    velocity_model : str or VelocityTable
        Of `VELOCITY_MODELS`, or a table of measurements.
    fixed_longitudinal, fixed_transverse : float, optional
        Diffusion coefficients [cm2/s] in place of those from field and temperature. Measurements disagree (MicroBooNE:
        3.74 along a field of 0.274 kV/cm, where the fit says 6.3).
    fixed_density : float, optional
        Density [g/cm3] in place of that of the saturated liquid.
    extrapolate : bool
        Use the velocity model outside its range; `notes` then say so.
    name : str
        For messages and records.

    Raises
    ------
    UsageError
        If a value is impossible, or outside the range of the velocity model; the limits are named.
    """

    temperature: float = 87.0
    field: float = 0.5
    lifetime: float = 10.0
    velocity_model: str | VelocityTable = "bnl"
    fixed_longitudinal: float | None = None
    fixed_transverse: float | None = None
    fixed_density: float | None = None
    extrapolate: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        self._positive("field", "kV/cm", "0.5 is 500 V/cm", largest=100.0)
        self._positive("lifetime", "ms", "10 ms is a clean detector; math.inf for no capture", infinite=True)
        for name in ("fixed_longitudinal", "fixed_transverse"):
            self._positive(name, "cm2/s", "measured values are 3.7 to 14 cm2/s", zero=True)
        self._positive("fixed_density", "g/cm3", "1.396 at the boiling point", largest=2.0)
        self._positive("temperature", "K", "87 K is the boiling point")
        saturated_density(self.temperature)
        drift_velocity(self.field, self.temperature, self.velocity_model, extrapolate=self.extrapolate)
        if self.velocity <= 0:
            what = (
                f"the drift velocity {self.model_name!r} is {self.velocity:g} mm/us at {self.field:g} kV/cm"
            )
            raise UsageError(what, where=self.name or None, known=list(VELOCITY_MODELS), hint="another model")

    def _positive(
        self,
        name: str,
        unit: str,
        hint: str,
        *,
        largest: float = math.inf,
        infinite: bool = False,
        zero: bool = False,
    ) -> None:
        value = getattr(self, name)
        if value is None and name.startswith("fixed_"):
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            what = f"{name} is {value!r}, not a number of {unit}"
            raise UsageError(what, where=self.name or None, hint=hint)
        good = value >= 0 if zero else value > 0
        if not good or value > largest or (math.isinf(value) and not infinite):
            least = "0 or more" if zero else "more than 0"
            upper = f", at most {largest:g}" if math.isfinite(largest) else ""
            what = f"{name} is {value:g} {unit}; it must be {least}{upper}"
            raise UsageError(what, where=self.name or None, hint=hint)

    @property
    def model_name(self) -> str:
        """Name of the velocity model."""
        return self.velocity_model if isinstance(self.velocity_model, str) else self.velocity_model.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What was extrapolated, in words; empty if nothing was."""
        return beyond_range(self.field, self.temperature, self.velocity_model)

    @property
    def velocity(self) -> float:
        """Drift velocity [mm/us]."""
        return float(drift_velocity(self.field, self.temperature, self.velocity_model, extrapolate=True))

    @property
    def mobility(self) -> float:
        """Mobility [cm2/V/s]."""
        return float(mobility(self.field, self.temperature, self.velocity_model, extrapolate=True))

    @property
    def drift_length(self) -> float:
        """Distance over which all but 1/e of the electrons are captured [m]."""
        return self.velocity * self.lifetime

    @property
    def longitudinal_diffusion(self) -> float:
        """Diffusion coefficient along the field [cm2/s]."""
        if self.fixed_longitudinal is not None:
            return self.fixed_longitudinal
        return float(
            longitudinal_diffusion(self.field, self.temperature, self.velocity_model, extrapolate=True)
        )

    @property
    def transverse_diffusion(self) -> float:
        """Diffusion coefficient across the field [cm2/s]."""
        if self.fixed_transverse is not None:
            return self.fixed_transverse
        return float(
            transverse_diffusion(self.field, self.temperature, self.velocity_model, extrapolate=True)
        )

    @property
    def density(self) -> float:
        """Density [g/cm3]."""
        return (
            self.fixed_density
            if self.fixed_density is not None
            else float(saturated_density(self.temperature))
        )

    def drift_time(self, distance: ArrayLike) -> Any:
        """Return the time [us] in which electrons drift over a distance [m]."""
        return np.asarray(distance, dtype=np.float64) * (1000.0 / self.velocity)

    def survival(self, distance: ArrayLike) -> Any:
        """Return the share of electrons that is not captured over a distance [m]."""
        return np.exp(-np.asarray(distance, dtype=np.float64) / self.drift_length)

    def spread(self, distance: ArrayLike) -> tuple[Any, Any]:
        """Return the standard deviations of diffusion across and along the field [m] after a distance [m]."""
        # cm2/s times us is 1e-10 m2
        twice = 2e-10 * self.drift_time(distance)
        return np.sqrt(self.transverse_diffusion * twice), np.sqrt(self.longitudinal_diffusion * twice)

    def with_changes(self, **changes: Any) -> Medium:
        """Return the medium with other values; an unknown name is refused with those that exist."""
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError.unknown("value of a medium", name, known)
        return replace(self, **changes)

    def record(self) -> dict[str, Any]:
        """Return plain values for a file: what was set, and what follows."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["velocity_model"] = self.model_name
        return values | {
            "velocity": self.velocity,
            "longitudinal_diffusion": self.longitudinal_diffusion,
            "transverse_diffusion": self.transverse_diffusion,
            "density": self.density,
            "notes": list(self.notes),
        }


PRESETS: dict[str, Medium] = {
    # the original's default: warm argon of a balloon or satellite, and its transverse diffusion for every field
    "gampy110K": Medium(
        110.0, 0.5, 10.0, "bnl-gampy", fixed_transverse=12.0, extrapolate=True, name="gampy110K"
    ),
    "dune87K": Medium(87.0, 0.5, 10.0, "bnl", name="dune87K"),
}
"""Media by name."""
