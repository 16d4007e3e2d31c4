"""Cross sections of photons in argon, per mass, and the shares of their energy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.simulation.argon import (
    ATOMIC_MASS,
    ATOMIC_NUMBER,
    AVOGADRO,
    ELECTRON_MASS,
    ELECTRON_RADIUS,
    ELECTRONS_PER_GRAM,
    FLUORESCENCE_YIELD,
    K_EDGE,
    K_LINE,
    K_SHARE,
    NIST_PHOTONS,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "BINDING",
    "WAVENUMBER",
    "PhotonCrossSections",
    "form_factor",
    "klein_nishina",
    "photon_cross_sections",
]

_legendre = lru_cache(maxsize=4)(np.polynomial.legendre.leggauss)
WAVENUMBER = 1 / 12.39841984  # sin(theta/2)/lambda in 1/Angstrom is this times keV times sin(theta/2)
# incoherent scattering function 1 - exp(-b x^c), fitted so that the sum of all parts gives the table of NIST from 40 keV to
# 1 MeV (it does to 0.2 %)
BINDING = (1.36925, 0.74347)
# form factor of Cromer and Mann (International Tables of Crystallography C, 6.1.1.4), good to 2/Angstrom
_GAUSSIANS = ((7.4845, 0.9072), (6.7723, 14.8407), (0.6539, 43.8983), (1.6442, 33.3929))
_CONSTANT = 1.4445
_K_SHELL = 0.1878  # Angstrom: hydrogen-like form factor of the K shell, used beyond that
_SAUTER_FROM = (
    300.0  # keV: above, energy absorption minus Compton recoil says nothing of the photoelectric effect
)
_PAIR_FROM = 1500.0


@dataclass(frozen=True)
class PhotonCrossSections:
    """Cross sections [cm2/g] at the energies that were asked for."""

    photo: NDArray[np.float64]
    compton: NDArray[np.float64]
    pair: NDArray[np.float64]
    coherent: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """Of all that costs energy: without coherent scattering."""
        return self.photo + self.compton + self.pair


def form_factor(x: ArrayLike) -> Floats:
    """Return the atomic form factor of argon at x = sin(theta/2)/lambda [1/Angstrom]; 18 at 0."""

    def near(where: Floats) -> Floats:
        total = np.full_like(where, _CONSTANT)
        for height, width in _GAUSSIANS:
            total += height * np.exp(-width * where**2)
        return total

    def k_shell(where: Floats) -> Floats:
        return 1 / (1 + (_K_SHELL * where) ** 2) ** 2

    x = np.asarray(x, dtype=np.float64)
    edge = np.array(2.0)
    return np.where(x < edge, near(np.minimum(x, edge)), near(edge) / k_shell(edge) * k_shell(x))


def klein_nishina(energy: ArrayLike) -> tuple[Floats, Floats]:
    """Return the cross section [cm2/g] of free electrons, and its part that is given to the electron."""
    k = np.asarray(energy, dtype=np.float64)[..., None] / ELECTRON_MASS
    nodes, weights = _legendre(64)
    # ln(1 + 2k mu) as variable takes the peak forward out
    top = np.log1p(2 * k)
    v = 0.5 * top * (nodes + 1)
    mu = np.expm1(v) / (2 * k)
    ratio, cosine = np.exp(-v), 1 - 2 * mu
    value = ratio**2 * (ratio + 1 / ratio - 1 + cosine**2) * np.exp(v) / k * 0.5 * top * weights
    front = np.pi * ELECTRON_RADIUS**2 * ELECTRONS_PER_GRAM
    return front * value.sum(axis=-1), front * (value * (1 - ratio)).sum(axis=-1)


def _scattering(energy: Floats) -> tuple[Floats, Floats]:
    """Return cross sections of Compton scattering with binding, and of coherent scattering."""
    nodes, weights = _legendre(128)
    t = 0.5 * (nodes + 1)
    mu = t**4  # forward peak
    jacobian = 2 * 4 * t**3 * 0.5 * weights
    x = WAVENUMBER * energy[..., None] * np.sqrt(mu)
    cosine = 1 - 2 * mu
    ratio = 1 / (1 + energy[..., None] / ELECTRON_MASS * 2 * mu)
    bound = -np.expm1(-BINDING[0] * x ** BINDING[1])
    front = np.pi * ELECTRON_RADIUS**2 * AVOGADRO / ATOMIC_MASS
    compton = ratio**2 * (ratio + 1 / ratio - 1 + cosine**2) * bound * ATOMIC_NUMBER
    coherent = (1 + cosine**2) * form_factor(x) ** 2
    return front * (compton * jacobian).sum(axis=-1), front * (coherent * jacobian).sum(axis=-1)


def _sauter(energy: Floats) -> Floats:
    """Return the shape of the cross section of the K shell in Born's approximation (Sauter, Ann. Phys. 11 (1931) 454)."""
    k = energy / ELECTRON_MASS
    gamma = 1 + k
    p = np.sqrt(gamma**2 - 1)
    inner = 1 - np.log((gamma + p) / (gamma - p)) / (2 * gamma * p)
    return np.asarray(k**-5 * p**3 * (4 / 3 + gamma * (gamma - 2) / (gamma + 1) * inner))


@lru_cache(maxsize=1)
def _photo_table() -> Floats:
    """Return the photoelectric cross section at the energies of NIST: absorption less Compton recoil, plus X-rays that leave."""
    energy, _, absorbed = NIST_PHOTONS.T
    _, recoil = klein_nishina(energy)
    above = np.arange(energy.size) > np.flatnonzero(energy == K_EDGE)[0]
    leaves = np.where(above, K_SHARE * FLUORESCENCE_YIELD * K_LINE / energy, 0.0)
    photo = (absorbed - recoil) / (1 - leaves)
    last = int(np.flatnonzero(energy == _SAUTER_FROM)[0])
    photo[last:] = photo[last] * _sauter(energy[last:]) / _sauter(energy[last])
    return np.asarray(photo)


def _logarithmic(x: Floats, at: Floats, values: Floats) -> Floats:
    return np.exp(np.interp(np.log(x), np.log(at), np.log(values)))


def _photo(energy: Floats) -> Floats:
    at, table = NIST_PHOTONS[:, 0], _photo_table()
    edge = int(np.flatnonzero(at == K_EDGE)[0])
    below = _logarithmic(energy, at[: edge + 1], table[: edge + 1])
    above = _logarithmic(energy, at[edge + 1 :], table[edge + 1 :])
    first = table[0] * (energy / at[0]) ** -2.6
    sauter = table[-1] * _sauter(np.maximum(energy, 1.0)) / _sauter(at[-1])
    result = np.where(energy < K_EDGE, below, above)
    return np.where(energy < at[0], first, np.where(energy > at[-1], sauter, result))


def _bethe_heitler(energy: Floats) -> Floats:
    """Return the parametrised cross section of pairs [cm2/g] (physics manual of Geant4, 'gamma conversion')."""
    x = np.log(energy / ELECTRON_MASS)
    f1 = np.polynomial.polynomial.polyval(x, (878.42, -1962.5, 1294.9, -200.28, 12.575, -0.28333))
    f2 = np.polynomial.polynomial.polyval(x, (-10.342, 17.692, -8.2391, 1.3063, -0.090815, 0.0023586))
    f3 = np.polynomial.polynomial.polyval(x, (-452.63, 1116.1, -867.49, 217.73, -20.467, 0.65372))
    z = ATOMIC_NUMBER
    return z * (z + 1) * (f1 + f2 * z + f3 / z) * 1e-30 * AVOGADRO / ATOMIC_MASS


def _pair(energy: Floats) -> Floats:
    """Return pairs with triplets: what the table has beyond the other parts; above it the parametrisation."""
    at, total, _ = NIST_PHOTONS.T
    keep = at >= _PAIR_FROM
    compton, coherent = _scattering(at[keep])
    # the sum of the other parts is 0.1 % low at 1 MeV, where there are no pairs
    rest = 1.001 * compton + coherent + _photo_table()[keep]
    threshold = 2 * ELECTRON_MASS
    values = total[keep] - rest
    # cubic root: the cross section starts with the cube of the energy above threshold
    scaled = np.cbrt(values)
    inside = np.interp(np.log(energy), np.log(np.r_[threshold, at[keep]]), np.r_[0.0, scaled]) ** 3
    start = values[0] * (np.clip(energy - threshold, 0, None) / (at[keep][0] - threshold)) ** 3
    last = at[-1]
    above = values[-1] * _bethe_heitler(np.clip(energy, last, None)) / _bethe_heitler(np.array(last))
    return np.where(energy < at[keep][0], start, np.where(energy > last, above, inside))


def photon_cross_sections(energy: ArrayLike) -> PhotonCrossSections:
    """Return the cross sections of photons in argon.

    Parameters
    ----------
    energy : array_like
        [keV], from 1 keV to 100 MeV.

    Notes
    -----
    Photoelectric: NIST's energy absorption less the recoil of Compton scattering, with X-rays that leave (to 300 keV), then
    Sauter's shape. Compton: Klein-Nishina with an incoherent scattering function. Coherent: form factor of Cromer and
    Mann. Pairs: NIST's attenuation less all these to 20 MeV, then the parametrisation of Bethe and Heitler's formula.
    """
    energy = np.asarray(energy, dtype=np.float64)
    compton, coherent = _scattering(energy)
    return PhotonCrossSections(_photo(energy), compton, _pair(energy), coherent)
