"""Energy loss, hard collisions and scattering of electrons and positrons in argon.

All is per mass and a function of the kinetic energy. What costs less than a cut is lost continuously, what costs more is a
collision of its own ("class II").
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from firstlight.detectors.lartpc.simulation.argon import (
    ALPHA,
    ATOMIC_MASS,
    ATOMIC_NUMBER,
    AVOGADRO,
    DENSITY,
    ELECTRON_MASS,
    ELECTRON_RADIUS,
    ELECTRONS_PER_GRAM,
    EXCITATION,
    RADIATIVE,
    STERNHEIMER,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Charged = Literal["electron", "positron"]

__all__ = [
    "annihilation_cross_section",
    "bhabha_cross_section",
    "bremsstrahlung_cross_section",
    "collision_stopping_power",
    "density_effect",
    "elastic_strength",
    "elastic_transport",
    "moller_cross_section",
    "positron_radiation",
    "radiative_stopping_power",
    "recoil_transport",
    "screening",
    "straggling",
]

_legendre = lru_cache(maxsize=4)(np.polynomial.legendre.leggauss)
_LOSS = 2 * np.pi * ELECTRON_RADIUS**2 * ELECTRON_MASS * ELECTRONS_PER_GRAM  # keV cm2/g
_BOHR_RADIUS = 0.529177210903e-8  # cm
_HBAR_C = 1.973269804e-8  # keV cm


def _motion(energy: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return kinetic energy over mass, Lorentz factor, square of the speed."""
    tau = np.asarray(energy, dtype=np.float64) / ELECTRON_MASS
    gamma = tau + 1
    return tau, gamma, tau * (tau + 2) / gamma**2


def density_effect(energy: ArrayLike, *, density: float = DENSITY, excitation: float = EXCITATION) -> Floats:
    """Return the density-effect correction delta of the Bethe formula.

    Parameters
    ----------
    energy : array_like
        Kinetic energy [keV].
    density : float
        [g/cm3]. The parameters of 1.396 g/cm3 are moved by Sternheimer's scaling: the plasma energy goes with the root
        of the density.
    excitation : float
        Mean excitation energy [keV].
    """
    cbar, x0, x1, power = STERNHEIMER
    # Cbar is 1 + 2 ln(I / plasma energy), and delta is continuous at x0
    cbar += 2 * np.log(excitation / EXCITATION)
    shape = (cbar - 2 * np.log(10) * x0) / (x1 - x0) ** power
    tau, _, _ = _motion(energy)
    x = 0.5 * np.log10(tau * (tau + 2) * density / DENSITY)
    delta = 2 * np.log(10) * x - cbar + shape * np.clip(x1 - x, 0, None) ** power
    return np.where(x < x0, 0.0, delta)


def _above_cut(tau: Floats, gamma: Floats, beta2: Floats, up: Floats, particle: Charged) -> Floats:
    """Return F of Berger and Seltzer for losses up to `up` (in units of the mass)."""
    if particle == "electron":
        return (
            -1
            - beta2
            + np.log((tau - up) * up)
            + tau / (tau - up)
            + (up**2 / 2 + (2 * tau + 1) * np.log1p(-up / tau)) / gamma**2
        )
    y = 1 / (gamma + 1)
    inner = (
        tau
        + 2 * up
        - 1.5 * up**2 * y
        - (up - up**3 / 3) * y**2
        - (up**2 / 2 - tau * up**3 / 3 + up**4 / 4) * y**3
    )
    return np.log(tau * up) - beta2 / tau * inner


def collision_stopping_power(
    energy: ArrayLike,
    *,
    cut: float | None = None,
    particle: Charged = "electron",
    density: float | None = DENSITY,
    excitation: float = EXCITATION,
) -> Floats:
    """Return the stopping power by collisions [keV cm2/g], of losses below `cut` [keV] or of all.

    Parameters
    ----------
    energy : array_like
        Kinetic energy [keV].
    cut : float, optional
        Losses above it are left out; not given: none are.
    particle : {"electron", "positron"}
        Which formula.
    density : float or None
        [g/cm3], for the density effect; None leaves that out, as in a gas.
    excitation : float
        Mean excitation energy [keV].

    Notes
    -----
    ICRU 37, eqs. 2.9 to 2.13; Seltzer and Berger, Int. J. Appl. Radiat. Isot. 33 (1982) 1189. Below a few
    hundred eV, where the formula ends, the stopping number is kept above 0.05.
    """
    tau, gamma, beta2 = _motion(energy)
    most = tau / 2 if particle == "electron" else tau
    up = most if cut is None else np.minimum(cut / ELECTRON_MASS, most)
    delta = 0.0 if density is None else density_effect(energy, density=density, excitation=excitation)
    number = np.log(2 * (tau + 2) / (excitation / ELECTRON_MASS) ** 2)
    number = number + _above_cut(tau, gamma, beta2, up, particle) - delta
    return _LOSS / beta2 * np.clip(number, 0.05, None)


def straggling(energy: ArrayLike, cut: float, particle: Charged = "electron") -> Floats:
    """Return the variance of losses below `cut`, per mass and length [keV2 cm2/g].

    The second moment of the 1/W2 spectrum with its leading relativistic term (Bohr): 2 pi r2 m n / beta2 Wc (1 - beta2 Wc
    / 2 Wmax).
    """
    tau, _, beta2 = _motion(energy)
    most = (tau / 2 if particle == "electron" else tau) * ELECTRON_MASS
    up = np.minimum(cut, most)
    return _LOSS / beta2 * up * (1 - beta2 * up / (2 * most))


def moller_cross_section(energy: ArrayLike, cut: float) -> Floats:
    """Return the cross section [cm2/g] for knocking out an electron of more than `cut` keV, by an electron."""
    tau, gamma, beta2 = _motion(energy)
    x = np.minimum(cut / ELECTRON_MASS / tau, 0.5)
    g2 = ((gamma - 1) / gamma) ** 2
    integral = 1 / x - 1 / (1 - x) + g2 * (0.5 - x) - (2 * gamma - 1) / gamma**2 * np.log((1 - x) / x)
    return _LOSS / (beta2 * tau * ELECTRON_MASS) * np.clip(integral, 0, None)


def bhabha_cross_section(energy: ArrayLike, cut: float) -> Floats:
    """Return the cross section [cm2/g] for knocking out an electron of more than `cut` keV, by a positron."""
    tau, gamma, beta2 = _motion(energy)
    x = np.minimum(cut / ELECTRON_MASS / tau, 1.0)
    y = 1 / (gamma + 1)
    b4 = (1 - 2 * y) ** 3
    b3, b2, b1 = (1 - 2 * y) ** 2 + b4, (1 - 2 * y) * (3 + y**2), 2 - y**2
    integral = (1 / x - 1) / beta2 + b1 * np.log(x) + b2 * (1 - x) - b3 * (1 - x**2) / 2 + b4 * (1 - x**3) / 3
    return np.asarray(_LOSS / (tau * ELECTRON_MASS) * np.clip(integral, 0, None))


def positron_radiation(energy: ArrayLike) -> Floats:
    """Return how much less a positron radiates than an electron of the same energy.

    Kim et al., Phys. Rev. A 33 (1986) 3002, in the parametrisation of PENELOPE (NEA/MBDAV/R(2019)1, eq. 3.157).
    """
    t = np.log1p(1e6 / ATOMIC_NUMBER**2 * np.asarray(energy, dtype=np.float64) / ELECTRON_MASS)
    factors = (-1.2359e-1, 6.1274e-2, -3.1516e-2, 7.7446e-3, -1.0595e-3, 7.0568e-5, -1.8080e-6)
    return 1 - np.exp(sum(factor * t ** (power + 1) for power, factor in enumerate(factors)))


def radiative_stopping_power(energy: ArrayLike, particle: Charged = "electron") -> Floats:
    """Return the stopping power by bremsstrahlung [keV cm2/g].

    The table of ESTAR, interpolated in logarithms; beyond its ends with the slope there.
    """
    x, table = np.log(np.asarray(energy, dtype=np.float64)), np.log(RADIATIVE)
    index = np.clip(np.searchsorted(table[:, 0], x) - 1, 0, len(table) - 2)
    slope = np.diff(table[:, 1]) / np.diff(table[:, 0])
    # below the table the slope falls to zero: the scaled cross section is nearly constant there
    slope = np.where(x < table[0, 0], 0.1, slope[index])
    value = np.exp(table[index, 1] + slope * (x - table[index, 0]))
    return np.asarray(value if particle == "electron" else value * positron_radiation(energy))


def bremsstrahlung_cross_section(
    energy: ArrayLike, cut: float, particle: Charged = "electron"
) -> tuple[Floats, Floats]:
    """Return the cross section [cm2/g] for photons above `cut` keV, and the loss by those below it [keV cm2/g].

    The spectrum (4/3 - 4x/3 + x2)/k with x = k/T is scaled to the radiative stopping power (complete screening; PDG
    review, eq. 34.29).
    """
    energy = np.asarray(energy, dtype=np.float64)
    power = radiative_stopping_power(energy, particle)
    x = np.minimum(cut / energy, 1.0)
    number = -4 / 3 * np.log(x) - 4 / 3 * (1 - x) + (1 - x**2) / 2
    return power / energy * number, power * (4 / 3 * x - 2 / 3 * x**2 + x**3 / 3)


def annihilation_cross_section(energy: ArrayLike) -> Floats:
    """Return the cross section [cm2/g] of a positron in flight to annihilate into two photons (Heitler)."""
    _, gamma, _ = _motion(energy)
    momentum = np.sqrt(gamma**2 - 1)
    inner = (gamma**2 + 4 * gamma + 1) / (gamma**2 - 1) * np.log(gamma + momentum) - (gamma + 3) / momentum
    return np.asarray(np.pi * ELECTRON_RADIUS**2 * ELECTRONS_PER_GRAM / (gamma + 1) * inner)


def screening(energy: ArrayLike) -> Floats:
    """Return Moliere's screening parameter A: the elastic cross section goes with 1 / ((1 - cos)/2 + A)2."""
    tau, _, beta2 = _motion(energy)
    momentum = np.sqrt(tau * (tau + 2)) * ELECTRON_MASS
    radius = 0.88534 * _BOHR_RADIUS * ATOMIC_NUMBER ** (-1 / 3)
    return np.asarray(
        (_HBAR_C / (2 * momentum * radius)) ** 2 * (1.13 + 3.76 * (ALPHA * ATOMIC_NUMBER) ** 2 / beta2)
    )


def elastic_strength(energy: ArrayLike) -> Floats:
    """Return K [cm2/g] of the elastic cross section: dN/dmu = K w(mu) / (mu + A)2 with mu = (1 - cos)/2.

    w is Mott's correction by McKinley and Feshbach (Phys. Rev. 74 (1948) 1759),
    1 - beta2 mu +- pi alpha Z beta sqrt(mu) (1 - sqrt(mu)).
    """
    tau, _, beta2 = _motion(energy)
    momentum2 = tau * (tau + 2)
    return np.pi * (ATOMIC_NUMBER * ELECTRON_RADIUS) ** 2 / (momentum2 * beta2) * AVOGADRO / ATOMIC_MASS


def elastic_transport(
    energy: ArrayLike, largest: ArrayLike = 1.0, *, particle: Charged = "electron"
) -> Floats:
    """Return the inverse transport mean free path [cm2/g] of scattering on nuclei with mu up to `largest`.

    Parameters
    ----------
    energy : array_like
        Kinetic energy [keV].
    largest : array_like
        Largest mu = (1 - cos)/2 that is counted; 1 is all.
    particle : {"electron", "positron"}
        For the sign of Mott's correction.
    """
    energy, largest = np.broadcast_arrays(np.asarray(energy, dtype=np.float64), largest)
    a, (_, _, beta2) = screening(energy), _motion(energy)
    mott = np.pi * ALPHA * ATOMIC_NUMBER * np.sqrt(beta2) * (1 if particle == "electron" else -1)
    # substitution mu + A = A exp(v): smooth, so that a few hundred points are exact to 1e-5
    nodes, weights = _legendre(96)
    top = np.log1p(largest / a)
    v = 0.5 * top[..., None] * (nodes + 1)
    mu = a[..., None] * np.expm1(v)
    factor = 1 - beta2[..., None] * mu + mott[..., None] * np.sqrt(mu) * (1 - np.sqrt(mu))
    integrand = mu * factor / (mu + a[..., None])
    return np.asarray(2 * elastic_strength(energy) * 0.5 * top * (integrand * weights).sum(axis=-1))


def recoil_transport(energy: ArrayLike, cut: float, particle: Charged = "electron") -> Floats:
    """Return the inverse transport mean free path [cm2/g] of scattering on electrons with losses below `cut` keV."""
    energy = np.asarray(energy, dtype=np.float64)
    loss = np.minimum(cut, energy / 2 if particle == "electron" else 0.999 * energy)
    cosine = np.sqrt(
        (energy - loss) / energy * (energy + 2 * ELECTRON_MASS) / (energy - loss + 2 * ELECTRON_MASS)
    )
    most, a = (1 - cosine) / 2, screening(energy)
    return np.asarray(
        2 * elastic_strength(energy) / ATOMIC_NUMBER * (np.log1p(most / a) + a / (most + a) - 1)
    )
