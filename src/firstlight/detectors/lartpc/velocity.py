"""Drift velocity of free electrons in liquid argon: published fits with their ranges, and a user's table.

All functions take numbers or arrays that broadcast. A field or temperature outside the range of a fit is an error that
names the range; with `extrapolate` the fit is used all the same, and `beyond_range` says in words what was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "VELOCITY_MODELS",
    "VelocityModel",
    "VelocityTable",
    "beyond_range",
    "drift_velocity",
    "mobility",
    "mobility_slope",
    "read_velocity_table",
    "velocity_model",
]

_Array = Any  # float or ndarray of float64


@dataclass(frozen=True)
class VelocityModel:
    """A published fit of the drift velocity.

    Parameters
    ----------
    name : str
        Under which it is asked for.
    field : tuple of float
        Least and greatest field of the data behind the fit [kV/cm].
    temperature : tuple of float
        Least and greatest temperature [K].
    velocity : callable
        Of field [kV/cm] and temperature [K], gives mm/us.
    source : str
        Where the fit comes from.
    """

    name: str
    field: tuple[float, float]
    temperature: tuple[float, float]
    velocity: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
    source: str


# ---------------------------------------------------------------- Brookhaven

_BNL = (551.6, 7158.3, 4440.43, 4.29, 43.63, 0.2053)
_BNL_FIRST = (551.6, 7953.7, 4440.43, 4.29, 43.63, 0.2053)


def _bnl(coefficients: tuple[float, ...]) -> Callable[[Any, Any], Any]:
    a0, a1, a2, a3, a4, a5 = coefficients

    def velocity(field: NDArray[np.float64], temperature: NDArray[np.float64]) -> NDArray[np.float64]:
        above = a0 + a1 * field + a2 * field**1.5 + a3 * field**2.5
        below = 1 + a1 / a0 * field + a4 * field**2 + a5 * field**3
        # cm2/V/s times kV/cm is 1000 cm/s, that is 0.01 mm/us
        velocity: NDArray[np.float64] = 0.01 * field * above / below * (temperature / 89.0) ** -1.5
        return velocity

    return velocity


# ---------------------------------------------------------------- Walkowiak, ICARUS

_WALKOWIAK = (-0.01481, -0.0075, 0.141, 12.4, 1.627, 0.317, 90.371)
_ICARUS = (-0.04640, 0.01712, 1.88125, 0.99408, 0.01172, 4.20214, 105.749)


def _logarithmic(coefficients: tuple[float, ...]) -> Callable[[Any, Any], Any]:
    p1, p2, p3, p4, p5, p6, t0 = coefficients

    def velocity(field: NDArray[np.float64], temperature: NDArray[np.float64]) -> NDArray[np.float64]:
        warmer = temperature - t0
        safe = np.maximum(field, 1e-300)
        shape = p3 * safe * np.log1p(p4 / safe) + p5 * safe**p6
        velocity: NDArray[np.float64] = (p1 * warmer + 1) * shape + p2 * warmer
        return velocity

    return velocity


_walkowiak, _icarus = _logarithmic(_WALKOWIAK), _logarithmic(_ICARUS)


def _joined(field: NDArray[np.float64], temperature: NDArray[np.float64]) -> NDArray[np.float64]:
    """ICARUS below 0.619 kV/cm, Walkowiak above 0.699, linear in the field between."""
    share = np.clip((field - 0.619) / 0.08, 0.0, 1.0)
    velocity: NDArray[np.float64] = (1 - share) * _icarus(field, temperature) + share * _walkowiak(
        field, temperature
    )
    return velocity


_BNL_SOURCE = "Y. Li et al., NIM A 816 (2016) 160, arXiv:1508.07059"
_BNL_RANGES: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 2.0), (83.8, 94.0))

VELOCITY_MODELS: dict[str, VelocityModel] = {
    model.name: model
    for model in (
        VelocityModel(
            "bnl", *_BNL_RANGES, _bnl(_BNL), f"{_BNL_SOURCE}, a1 7158.3 as corrected by its authors"
        ),
        VelocityModel(
            "bnl-gampy", *_BNL_RANGES, _bnl(_BNL_FIRST), f"{_BNL_SOURCE}, a1 7953.7 as first printed"
        ),
        VelocityModel(
            "walkowiak", (0.5, 12.6), (87.0, 94.0), _walkowiak, "W. Walkowiak, NIM A 449 (2000) 288"
        ),
        VelocityModel(
            "icarus",
            (0.09, 0.7),
            (87.0, 94.0),
            _icarus,
            "S. Amoruso et al., NIM A 516 (2004) 68, as in LArSoft",
        ),
        VelocityModel(
            "larsoft", (0.09, 4.0), (87.0, 94.0), _joined, "LArSoft: icarus, above 0.7 kV/cm walkowiak"
        ),
    )
}
"""Published fits by name."""


# ---------------------------------------------------------------- a table


@dataclass(frozen=True)
class VelocityTable:
    """Measured drift velocities, interpolated without overshoot along the field and linearly between temperatures.

    Parameters
    ----------
    field : tuple of float
        Fields [kV/cm].
    velocity : tuple of float
        Drift velocities [mm/us], one for each field.
    temperature : tuple of float
        Temperature [K] of each row. Empty: the table is used at every temperature.
    name : str
        For messages.

    Raises
    ------
    InputError
        If lengths differ, a number is not finite or not positive, a field comes twice at a temperature, or a temperature
        has fewer than two fields.
    """

    field: tuple[float, ...]
    velocity: tuple[float, ...]
    temperature: tuple[float, ...] = ()
    name: str = "velocity table"

    def __post_init__(self) -> None:
        for column in ("field", "velocity", "temperature"):
            object.__setattr__(self, column, tuple(float(value) for value in getattr(self, column)))
        n_rows = len(self.field)
        if len(self.velocity) != n_rows or len(self.temperature) not in (0, n_rows):
            what = f"{n_rows} fields, {len(self.velocity)} velocities, {len(self.temperature)} temperatures"
            raise InputError(
                what, where=self.name, hint="one velocity for each field, and one temperature or none"
            )
        rows = np.array([self.field, self.velocity, self.temperature or (1.0,) * n_rows])
        bad = ~(np.isfinite(rows) & (rows > 0)).all(axis=0)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            what = f"row {row} is field {rows[0, row]:g} kV/cm, velocity {rows[1, row]:g} mm/us"
            raise InputError(
                what, where=self.name, hint="fields, velocities and temperatures are positive numbers"
            )
        for temperature in np.unique(rows[2]):
            fields = np.sort(rows[0, rows[2] == temperature])
            if fields.size < 2 or (np.diff(fields) == 0).any():
                what = f"fields {fields.tolist()} kV/cm" + (
                    f" at {temperature:g} K" if self.temperature else ""
                )
                raise InputError(
                    what, where=self.name, hint="two or more different fields at each temperature"
                )

    @property
    def field_range(self) -> tuple[float, float]:
        """Fields that every temperature covers [kV/cm]."""
        field, temperature = np.array(self.field), np.array(self.temperature or (0.0,) * len(self.field))
        rows = [field[temperature == each] for each in np.unique(temperature)]
        return float(max(each.min() for each in rows)), float(min(each.max() for each in rows))

    @property
    def temperature_range(self) -> tuple[float, float]:
        """Temperatures that the table covers [K]."""
        return (min(self.temperature), max(self.temperature)) if self.temperature else (0.0, np.inf)

    def __call__(self, field: NDArray[np.float64], temperature: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the velocity [mm/us]; beyond the table it goes on as its last piece does."""
        from scipy.interpolate import PchipInterpolator

        field, temperature = np.broadcast_arrays(field, temperature)
        rows = np.array([self.field, self.velocity, self.temperature or (0.0,) * len(self.field)])
        known = np.unique(rows[2])
        curves = []
        for each in known:
            x, y = rows[:2, rows[2] == each]
            order = np.argsort(x)
            curves.append(PchipInterpolator(x[order], y[order], extrapolate=True)(field))
        if known.size == 1:
            return np.asarray(curves[0], dtype=np.float64)
        stacked = np.stack(curves)
        left = np.clip(np.searchsorted(known, temperature, side="right") - 1, 0, known.size - 2)
        share = (temperature - known[left]) / (known[left + 1] - known[left])
        low = np.take_along_axis(stacked, left[None], axis=0)[0]
        high = np.take_along_axis(stacked, left[None] + 1, axis=0)[0]
        return np.asarray((1 - share) * low + share * high, dtype=np.float64)


def read_velocity_table(path: Path | str) -> VelocityTable:
    """Read a table of text with the columns field [kV/cm], velocity [mm/us] and, if there, temperature [K].

    Columns are apart by commas or blanks; lines that begin with ``#`` are skipped.

    Raises
    ------
    InputError
        If the file is not such a table.
    """
    path = Path(path)
    try:
        lines = [
            line.split("#")[0].replace(",", " ") for line in path.read_text(encoding="utf-8").splitlines()
        ]
        rows = np.loadtxt([line for line in lines if line.strip()] or ["nan nan"], dtype=np.float64, ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(str(error), where=path, hint="lines of field [kV/cm], velocity [mm/us]") from error
    if rows.shape[1] not in (2, 3):
        what = f"{rows.shape[1]} columns"
        raise InputError(what, where=path, hint="two or three columns: field, velocity and temperature")
    field, velocity, *temperature = (tuple(column.tolist()) for column in rows.T)
    return VelocityTable(field, velocity, temperature[0] if temperature else (), name=path.name)


# ---------------------------------------------------------------- asking


def velocity_model(model: str | VelocityTable) -> VelocityModel:
    """Return a model by name, or the model of a table.

    Raises
    ------
    UsageError
        If no fit has this name.
    """
    if isinstance(model, VelocityTable):
        return VelocityModel(model.name, model.field_range, model.temperature_range, model, model.name)
    if model not in VELOCITY_MODELS:
        raise UsageError.unknown("drift velocity model", model, VELOCITY_MODELS)
    return VELOCITY_MODELS[model]


def beyond_range(
    field: ArrayLike, temperature: ArrayLike, model: str | VelocityTable = "bnl"
) -> tuple[str, ...]:
    """Return one sentence for each of field and temperature that leaves the range of a model; empty if none does."""
    chosen = velocity_model(model)
    sentences = []
    for what, unit, values, (low, high) in (
        ("field", "kV/cm", np.asarray(field, dtype=np.float64), chosen.field),
        ("temperature", "K", np.asarray(temperature, dtype=np.float64), chosen.temperature),
    ):
        outside = values[~((values >= low) & (values <= high))]
        if outside.size:
            several = f" and {outside.size - 1} more" if outside.size > 1 else ""
            sentences.append(
                f"{what} {outside.flat[0]:g} {unit}{several} is outside {low:g} to {high:g} {unit}, "
                f"the range of the drift velocity {chosen.name!r}"
            )
    return tuple(sentences)


def _checked(
    field: ArrayLike, temperature: ArrayLike, model: str | VelocityTable, *, extrapolate: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], VelocityModel]:
    chosen = velocity_model(model)
    fields, temperatures = np.asarray(field, dtype=np.float64), np.asarray(temperature, dtype=np.float64)
    if not (np.isfinite(fields).all() and (fields >= 0).all()):
        worst = fields[~(np.isfinite(fields) & (fields >= 0))].flat[0]
        what = f"a drift field of {worst:g} kV/cm"
        raise UsageError(what, hint="a field is a number of kV/cm, 0 or more: 0.5 is 500 V/cm")
    if not (np.isfinite(temperatures).all() and (temperatures > 0).all()):
        worst = temperatures[~(np.isfinite(temperatures) & (temperatures > 0))].flat[0]
        what = f"a temperature of {worst:g} K"
        raise UsageError(what, hint="a temperature is a positive number of kelvin")
    sentences = beyond_range(fields, temperatures, model)
    if sentences and not extrapolate:
        fits = [
            f"{other.name} ({other.field[0]:g}-{other.field[1]:g} kV/cm, "
            f"{other.temperature[0]:g}-{other.temperature[1]:g} K)"
            for other in VELOCITY_MODELS.values()
        ]
        raise UsageError(
            "; ".join(sentences),
            known=fits,
            hint="another model, a table, or extrapolate=True (--extrapolate)",
        )
    return fields, temperatures, chosen


def drift_velocity(
    field: ArrayLike,
    temperature: ArrayLike,
    model: str | VelocityTable = "bnl",
    *,
    extrapolate: bool = False,
) -> Any:
    """Return the drift velocity of electrons in liquid argon.

    Parameters
    ----------
    field : array_like
        Drift field [kV/cm].
    temperature : array_like
        Temperature of the liquid [K].
    model : str or VelocityTable
        Of `VELOCITY_MODELS`, or a table.
    extrapolate : bool
        Use the model outside its range.

    Returns
    -------
    float or ndarray
        Drift velocity [mm/us].

    Raises
    ------
    UsageError
        If the model is unknown, or field or temperature are outside its range.
    """
    fields, temperatures, chosen = _checked(field, temperature, model, extrapolate=extrapolate)
    velocity = chosen.velocity(fields, temperatures)
    return float(velocity) if np.ndim(velocity) == 0 else velocity


def mobility(
    field: ArrayLike,
    temperature: ArrayLike,
    model: str | VelocityTable = "bnl",
    *,
    extrapolate: bool = False,
) -> Any:
    """Return the mobility v / E [cm2/V/s]; parameters and errors are those of `drift_velocity`.

    At no field it is the limit of small fields.
    """
    fields, temperatures, chosen = _checked(field, temperature, model, extrapolate=extrapolate)
    small = np.maximum(fields, 1e-9)
    value = 100.0 * chosen.velocity(small, temperatures) / small
    return float(value) if np.ndim(value) == 0 else value


def mobility_slope(
    field: ArrayLike,
    temperature: ArrayLike,
    model: str | VelocityTable = "bnl",
    *,
    extrapolate: bool = False,
) -> Any:
    """Return the logarithmic slope d ln(mobility) / d ln(field); parameters and errors are those of `drift_velocity`.

    It is a central difference over a ten-thousandth of the field, good to 1e-8 for all fits.
    """
    fields, temperatures, chosen = _checked(field, temperature, model, extrapolate=extrapolate)
    fields, step = np.maximum(fields, 1e-9), 1e-4
    up = np.log(chosen.velocity(fields * np.exp(step), temperatures))
    down = np.log(chosen.velocity(fields * np.exp(-step), temperatures))
    slope = (up - down) / (2 * step) - 1.0
    return float(slope) if np.ndim(slope) == 0 else slope
