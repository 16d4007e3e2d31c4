"""Tables of the transport in argon of a given density, with what follows from them: ranges and radiation yields."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.detectors.lartpc.simulation import stopping
from firstlight.detectors.lartpc.simulation.argon import (
    ALPHA,
    ATOMIC_NUMBER,
    DENSITY,
    EXCITATION,
)
from firstlight.detectors.lartpc.simulation.photons import WAVENUMBER, form_factor, photon_cross_sections
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.lartpc.simulation.stopping import Charged

    Floats = NDArray[np.float64]

__all__ = [
    "HIGHEST",
    "LOWEST",
    "Tables",
    "csda_range",
    "mean_free_path",
    "pair_share",
    "radiation_yield",
    "tables",
    "transport_mean_free_path",
]

LOWEST, HIGHEST = 0.1, 1e5  # keV
_PER_DECADE = 64
_INTEGRAL_PER_DECADE = 400
_HARD_ELASTIC = 0.1  # mean free path of hard scattering on nuclei, in transport mean free paths


class Tables(NamedTuple):
    """What kernels look up: one row for each energy, on a grid that is even in ln(energy).

    Parameters
    ----------
    first : float
        ln of the lowest energy [keV].
    per_log : float
        Rows for each unit of ln(energy).
    electron, positron : ndarray, shape (n_rows, 9)
        Soft loss [keV/cm], its variance [keV2/cm], macroscopic cross sections [1/cm] of hard collisions, of
        bremsstrahlung, of annihilation in flight and of hard scattering, soft inverse transport mean free path [1/cm],
        screening parameter, smallest (1 - cos)/2 of hard scattering.
    photon : ndarray, shape (n_rows, 4)
        Photoelectric, Compton, pair, coherent [1/cm].
    squares, cumulative : ndarray, shape (n,)
        (sin(theta/2)/lambda)^2 [1/Angstrom2], and the integral of the squared form factor to there.
    collision_cut, photon_cut : float
        Smallest energies of hard collisions and of bremsstrahlung photons [keV].
    """

    first: float
    per_log: float
    electron: Floats
    positron: Floats
    photon: Floats
    squares: Floats
    cumulative: Floats
    collision_cut: float
    photon_cut: float


def _charged(
    energy: Floats, particle: Charged, density: float, excitation: float, cuts: tuple[float, float]
) -> Floats:
    collision_cut, photon_cut = cuts
    number, soft = stopping.bremsstrahlung_cross_section(energy, photon_cut, particle)
    loss = stopping.collision_stopping_power(
        energy, cut=collision_cut, particle=particle, density=density, excitation=excitation
    )
    if particle == "electron":
        knock = stopping.moller_cross_section(energy, collision_cut)
        annihilation = np.zeros_like(energy)
    else:
        knock = stopping.bhabha_cross_section(energy, collision_cut)
        annihilation = stopping.annihilation_cross_section(energy)
    a, strength = stopping.screening(energy), stopping.elastic_strength(energy)
    # Mott's correction is at most 1 + pi alpha Z beta / 4; what it takes away is drawn and dropped
    most = 1 + (np.pi * ALPHA * ATOMIC_NUMBER / 4 if particle == "electron" else 0.0)
    hard = stopping.elastic_transport(energy, particle=particle) / _HARD_ELASTIC
    smallest = np.clip(1 / (hard / (most * strength) + 1 / (1 + a)) - a, 0, None)
    hard = most * strength * (1 / (smallest + a) - 1 / (1 + a))
    scatter = np.zeros_like(energy)
    some = smallest > 0
    scatter[some] = stopping.elastic_transport(energy[some], smallest[some], particle=particle)
    scatter += stopping.recoil_transport(energy, collision_cut, particle)
    columns = (
        density * (loss + soft),
        density * stopping.straggling(energy, collision_cut, particle),
        density * knock,
        density * number,
        density * annihilation,
        density * hard,
        density * scatter,
        a,
        smallest,
    )
    return np.ascontiguousarray(np.stack(columns, axis=1))


@lru_cache(maxsize=16)
def tables(
    density: float = DENSITY,
    *,
    excitation: float = EXCITATION,
    collision_cut: float = 10.0,
    photon_cut: float = 1.0,
) -> Tables:
    """Return the tables of the transport.

    Parameters
    ----------
    density : float
        Of the argon [g/cm3].
    excitation : float
        Mean excitation energy [keV].
    collision_cut : float
        Collisions that cost more are followed one by one [keV].
    photon_cut : float
        Bremsstrahlung photons above it are followed; photons below it are absorbed where they are [keV].

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    for name, value, low, high in (
        ("density", density, 1e-4, 5.0),
        ("excitation", excitation, 0.05, 0.5),
        ("collision_cut", collision_cut, 0.5, 1e3),
        ("photon_cut", photon_cut, 0.5, 1e3),
    ):
        if not low <= value <= high:
            unit = "g/cm3" if name == "density" else "keV"
            what = f"{name} = {value:g} {unit} is outside of {low:g} to {high:g} {unit}"
            raise ConfigError(what)
    n_rows = round(np.log10(HIGHEST / LOWEST) * _PER_DECADE) + 1
    energy = np.geomspace(LOWEST, HIGHEST, n_rows)
    cuts = (collision_cut, photon_cut)
    photon = photon_cross_sections(energy)
    # x2 at 180 degrees of the highest energy for which coherent scattering matters is far inside
    x = np.r_[0.0, np.geomspace(1e-3, WAVENUMBER * HIGHEST, 600)]
    squares = x**2
    f2 = form_factor(x) ** 2
    cumulative = np.r_[0.0, np.cumsum(0.5 * (f2[1:] + f2[:-1]) * np.diff(squares))]
    return Tables(
        float(np.log(LOWEST)),
        float((n_rows - 1) / np.log(HIGHEST / LOWEST)),
        _charged(energy, "electron", density, excitation, cuts),
        _charged(energy, "positron", density, excitation, cuts),
        np.ascontiguousarray(density * np.stack([photon.photo, photon.compton, photon.pair, photon.coherent], axis=1)),
        squares,
        cumulative,
        collision_cut,
        photon_cut,
    )  # fmt: skip


@lru_cache(maxsize=16)
def _integrals(particle: Charged, density: float, excitation: float) -> tuple[Floats, Floats, Floats]:
    """Return energies, ranges [g/cm2] and energies radiated [keV] on a fine grid."""
    n_rows = round(np.log10(HIGHEST / LOWEST) * _INTEGRAL_PER_DECADE) + 1
    energy = np.geomspace(LOWEST, HIGHEST, n_rows)
    radiated = stopping.radiative_stopping_power(energy, particle)
    total = radiated + stopping.collision_stopping_power(
        energy, particle=particle, density=density, excitation=excitation
    )

    def integral(value: Floats) -> Floats:
        # in ln(energy); below the grid the stopping power is taken as constant
        steps = 0.5 * (value * energy)[1:] + 0.5 * (value * energy)[:-1]
        return np.asarray(value[0] * energy[0] + np.r_[0.0, np.cumsum(steps * np.diff(np.log(energy)))])

    return energy, integral(1 / total), integral(radiated / total)


def csda_range(
    energy: ArrayLike,
    particle: Charged = "electron",
    *,
    density: float = DENSITY,
    excitation: float = EXCITATION,
) -> Floats:
    """Return the range [g/cm2] if the loss were continuous, radiation included.

    Parameters
    ----------
    energy : array_like
        Kinetic energy [keV], up to 100 MeV.
    particle : {"electron", "positron"}
        Which.
    density : float
        For the density effect [g/cm3].
    excitation : float
        Mean excitation energy [keV].
    """
    at, ranges, _ = _integrals(particle, density, excitation)
    return np.exp(np.interp(np.log(energy), np.log(at), np.log(ranges)))


def radiation_yield(
    energy: ArrayLike,
    particle: Charged = "electron",
    *,
    density: float = DENSITY,
    excitation: float = EXCITATION,
) -> Floats:
    """Return the share of the energy that a slowing particle radiates; parameters as for `csda_range`."""
    at, _, radiated = _integrals(particle, density, excitation)
    return np.interp(np.log(energy), np.log(at), radiated / at)


def transport_mean_free_path(
    energy: ArrayLike, particle: Charged = "electron", *, density: float = DENSITY
) -> Floats:
    """Return the path [cm] in which the mean cosine of the direction falls to 1/e, by scattering on nuclei."""
    return 1 / (density * stopping.elastic_transport(energy, particle=particle))


def pair_share(energy: ArrayLike) -> Floats:
    """Return the share of pairs (with triplets) among the first interactions of photons [keV]."""
    parts = photon_cross_sections(energy)
    return parts.pair / parts.total


def mean_free_path(energy: ArrayLike, *, density: float = DENSITY) -> Floats:
    """Return the mean path of photons [keV] to the first interaction that costs energy [cm]."""
    return 1 / (density * photon_cross_sections(energy).total)
