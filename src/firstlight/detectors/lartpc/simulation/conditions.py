"""What a simulation is told: argon, field and limits; and how the energy of its points becomes charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.simulation.argon import EXCITATION
from firstlight.detectors.lartpc.track import INTERACTION_KINDS
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.recombination import Recombination
    from firstlight.detectors.lartpc.simulation.record import Record

__all__ = ["CHARGE_MODELS", "Conditions", "charges_of"]

CHARGE_MODELS = {"constant": "constant", "birks": "birks-icarus", "box": "box-argoneut"}
"""Short names of sets of parameters; those of `recombination.RECOMBINATION` will do too."""
_SHORT = 0.3e-3  # m: recombination models speak of means over more than that
_FAR = 50e-6  # m: between points of a parent that are looked at, much less than the window of the mean


@dataclass(frozen=True)
class Conditions:
    """Argon, field and limits of the transport.

    Parameters
    ----------
    density : float or None
        [g/cm3]; None: that of argon under its own vapour at the temperature.
    temperature : float
        [K].
    field : float
        Drift field, for the recombination [kV/cm].
    charge_model : str
        How energy becomes charge: of `CHARGE_MODELS` or `recombination.RECOMBINATION`. The first, 70 % of all pairs
        of 23.6 eV, gives 29.7 electrons per keV.
    point_spacing : float
        Length of path that a point stands for [m]. 10 um are 5000 points for 10 MeV; 0.4 um would be as many as the
        PENELOPE sample has.
    excitation : float
        Mean excitation energy [keV].
    collision_cut, photon_cut : float
        Collisions and bremsstrahlung photons above it are followed one by one [keV].
    longest_step : float
        [m].
    energy_step : float
        Largest share of its energy that a particle loses in a step.
    stop : float
        Charged particles of less kinetic energy are absorbed where they are [keV].

    Raises
    ------
    ConfigError
        If a value is impossible.
    """

    density: float | None = None
    temperature: float = 87.3
    field: float = 0.5
    charge_model: str = "constant"
    point_spacing: float = 10e-6
    excitation: float = EXCITATION
    collision_cut: float = 10.0
    photon_cut: float = 1.0
    longest_step: float = 0.4e-3
    energy_step: float = 0.05
    stop: float = 0.5

    def __post_init__(self) -> None:
        limits = (
            ("density", 1e-3, 5.0, "g/cm3"),
            ("temperature", 50.0, 400.0, "K"),
            ("field", 1e-3, 100.0, "kV/cm"),
            ("point_spacing", 1e-7, 0.1, "m"),
            ("excitation", 0.05, 0.5, "keV"),
            ("collision_cut", 0.5, 1e3, "keV"),
            ("photon_cut", 0.5, 1e3, "keV"),
            ("longest_step", 1e-6, 0.1, "m"),
            ("energy_step", 1e-3, 0.5, ""),
            ("stop", 0.2, 100.0, "keV"),
        )
        for name, low, high, unit in limits:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                what = f"{name} = {value:g} {unit} cannot be"
                raise ConfigError(
                    what.replace("  ", " "), hint=f"a value from {low:g} to {high:g} {unit}".strip()
                )
        # an unknown name is refused at once
        self.recombination  # noqa: B018

    @property
    def recombination(self) -> Recombination:
        """The charge model with its parameters."""
        from firstlight.detectors.lartpc.recombination import RECOMBINATION

        name = CHARGE_MODELS.get(self.charge_model, self.charge_model)
        if name not in RECOMBINATION:
            raise ConfigError.unknown(
                "charge_model", self.charge_model, list(dict.fromkeys([*CHARGE_MODELS, *RECOMBINATION]))
            )
        return RECOMBINATION[name]

    @property
    def mass_density(self) -> float:
        """The density that is used [g/cm3]."""
        if self.density is not None:
            return self.density
        from firstlight.detectors.lartpc.medium import saturated_density

        return float(saturated_density(self.temperature))


def charges_of(
    positions: NDArray[np.float64],
    deposits: NDArray[np.float64],
    owners: NDArray[np.int32],
    conditions: Conditions,
    rng: np.random.Generator,
    record: Record | None = None,
) -> NDArray[np.int64]:
    """Return the electrons that escape recombination at each point.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        [m].
    deposits : ndarray, shape (n,)
        [keV].
    owners : ndarray of int32, shape (n,)
        Particle that made each deposit.
    conditions : Conditions
        Charge model, field, density.
    rng : numpy.random.Generator
        For the fluctuations.
    record : Record, optional
        Of the transport: it tells short delta rays, whose recombination is that of their parent.
    """
    from firstlight.detectors.lartpc.recombination import charge_from_energy, local_dedx

    model, density = conditions.recombination, conditions.mass_density
    if model.formula == "constant":
        dedx: Any = 2.0
    else:
        dedx = local_dedx(positions, deposits, owners, density=density)
        if record is not None:
            _of_parents(record, positions, dedx, max(1, round(_FAR / conditions.point_spacing)))
    return charge_from_energy(deposits, dedx, rng, model=model, field=conditions.field, density=density)


def _of_parents(
    record: Record, positions: NDArray[np.float64], dedx: NDArray[np.float64], every: int
) -> None:
    """Give short delta rays the energy loss of the particle that they come from, where they come from it.

    The formulas were fitted to the charge of samples in which such delta rays lie.
    """
    owners = record.owners
    delta = INTERACTION_KINDS.index("delta")
    short = (record.particles[:, 2] == delta) & (record.paths < 100 * _SHORT)
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(len(record.particles) + 1))
    # parents have lower numbers than what they make
    for number in np.flatnonzero(short):
        parent = record.particles[number, 0]
        rows, above = (order[bounds[k] : bounds[k + 1]] for k in (number, parent))
        if rows.size and above.size:
            above = above[::every]
            away = ((positions[:, above] - positions[:, rows[:1]]) ** 2).sum(axis=0)
            dedx[rows] = dedx[above[np.argmin(away)]]
