"""Draws of single interactions: energies and angles of what comes out.

Energies are in units of the electron's mass, cosines are against the direction of what came in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.lartpc.simulation.dice import uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    State = NDArray[np.uint64]

__all__ = [
    "annihilation_share",
    "bhabha_share",
    "bremsstrahlung_share",
    "coherent_cosine",
    "compton_ratio",
    "dipole_cosine",
    "elastic_mu",
    "moller_share",
    "pair_cosine",
    "pair_energy",
    "pair_spectrum",
    "photoelectron_cosine",
]

_LARGEST_SCAN = 32


@kernel
def moller_share(tau: float, smallest: float, state: State) -> float:
    """Return the share of the kinetic energy `tau` that the slower of two electrons has; at least `smallest`, below 0.5."""
    gamma = tau + 1
    square = ((gamma - 1) / gamma) ** 2
    mixed = (2 * gamma - 1) / gamma**2
    # against 1/x2 the rest is convex in x/(1-x): largest at an end
    largest = max(1.0, 2 + 0.25 * square - mixed)
    while True:
        x = smallest / (1 - uniform(state) * (1 - 2 * smallest))
        y = x / (1 - x)
        if uniform(state) * largest <= 1 + y * y + square * x * x - mixed * y:
            return x


@kernel
def bhabha_share(tau: float, smallest: float, state: State) -> float:
    """Return the share of the kinetic energy `tau` of a positron that an electron at rest gets; at least `smallest`."""
    gamma = tau + 1
    beta2 = tau * (tau + 2) / (gamma * gamma)
    y = 1 / (gamma + 1)
    b4 = (1 - 2 * y) ** 3
    b3, b2, b1 = (1 - 2 * y) ** 2 + b4, (1 - 2 * y) * (3 + y * y), 2 - y * y
    while True:
        x = smallest / (1 - uniform(state) * (1 - smallest))
        # 1 - beta2 (b1 x - b2 x2 + b3 x3 - b4 x4) is at most 1
        if uniform(state) <= 1 - beta2 * x * (b1 - x * (b2 - x * (b3 - x * b4))):
            return x


@kernel
def bremsstrahlung_share(smallest: float, state: State) -> float:
    """Return k/T of a photon from (4/3 - 4x/3 + x2)/x between `smallest` and 1."""
    while True:
        x = math.exp(uniform(state) * math.log(smallest))
        if uniform(state) * (4 / 3) <= 4 / 3 - 4 / 3 * x + x * x:
            return x


@kernel
def dipole_cosine(beta: float, state: State) -> float:
    """Return the cosine of a bremsstrahlung photon: a dipole in the frame of the electron, boosted."""
    while True:
        rest = 2 * uniform(state) - 1
        if 2 * uniform(state) <= 1 + rest * rest:
            return (rest + beta) / (1 + beta * rest)


@kernel
def photoelectron_cosine(beta: float, state: State) -> float:
    """Return the cosine of a photoelectron: sin2 / (1 - beta cos)4 (the leading part of Sauter's distribution)."""
    while True:
        rest = 2 * uniform(state) - 1
        if uniform(state) <= 1 - rest * rest:
            return (rest + beta) / (1 + beta * rest)


@kernel
def elastic_mu(a: float, smallest: float, mott: float, beta2: float, largest: float, state: State) -> float:
    """Return (1 - cos)/2 of a scattering on a nucleus above `smallest`, or -1 for none.

    Without Mott's correction there would be one: those that it takes away come back as -1, so that the number of
    collisions is right.
    """
    first, last = 1 / (smallest + a), 1 / (1 + a)
    mu = 1 / (first - uniform(state) * (first - last)) - a
    mu = min(max(mu, 0.0), 1.0)
    root = math.sqrt(mu)
    weight = 1 - beta2 * mu + mott * root * (1 - root)
    return mu if uniform(state) * largest < weight else -1.0


@kernel
def compton_ratio(k: float, binding: float, power: float, wavenumber: float, state: State) -> float:
    """Return E'/E of a photon of `k` masses, by Klein and Nishina with an incoherent scattering function."""
    lowest = 1 / (1 + 2 * k)
    first, second = -math.log(lowest), 0.5 * (1 - lowest * lowest)
    while True:
        if uniform(state) * (first + second) < first:
            ratio = math.exp(-first * uniform(state))
        else:
            ratio = math.sqrt(lowest * lowest + (1 - lowest * lowest) * uniform(state))
        t = min((1 - ratio) / (k * ratio), 2.0)
        if uniform(state) > 1 - ratio * t * (2 - t) / (1 + ratio * ratio):
            continue
        x = wavenumber * k * math.sqrt(0.5 * t)
        if uniform(state) < -math.expm1(-binding * x**power):
            return ratio


@kernel
def coherent_cosine(largest: float, squares: Floats, cumulative: Floats, state: State) -> float:
    """Return the cosine of a coherent scattering; `largest` is x2 at 180 degrees, of which f2 has the integral given."""
    index = min(max(int(np.searchsorted(squares, largest)), 1), squares.size - 1)
    slope = (cumulative[index] - cumulative[index - 1]) / (squares[index] - squares[index - 1])
    total = cumulative[index - 1] + slope * (largest - squares[index - 1])
    while True:
        drawn = uniform(state) * total
        low = min(max(int(np.searchsorted(cumulative, drawn)), 1), squares.size - 1)
        width = cumulative[low] - cumulative[low - 1]
        part = (drawn - cumulative[low - 1]) / width if width > 0 else 0.0
        square = squares[low - 1] + part * (squares[low] - squares[low - 1])
        cosine = max(1 - 2 * square / largest, -1.0)
        if 2 * uniform(state) <= 1 + cosine * cosine:
            return float(cosine)


@kernel
def pair_spectrum(k: float, positron: float) -> float:
    """Return the Bethe-Heitler cross section for a positron of this total energy, without screening.

    In units of alpha Z2 r2 per mass: Motz, Olsen and Koch, Rev. Mod. Phys. 41 (1969) 581, formula 3D-1000.
    """
    electron = k - positron
    if positron <= 1 or electron <= 1:
        return 0.0
    p2, q2 = positron * positron - 1, electron * electron - 1
    p, q = math.sqrt(p2), math.sqrt(q2)
    both = positron * electron
    l_p, l_q = 2 * math.log(positron + p), 2 * math.log(electron + q)
    large = 2 * math.log((both + p * q + 1) / k)
    smooth = (
        -4 / 3
        - 2 * both * (p2 + q2) / (p2 * q2)
        + l_q * positron / (q2 * q)
        + l_p * electron / (p2 * p)
        - l_p * l_q / (p * q)
    )
    inner = k * k / (p2 * p * q2 * q) * (both * both + p2 * q2) - 8 / 3 * both / (p * q)
    inner -= (
        k
        / (2 * p * q)
        * (
            (both - q2) / (q2 * q) * l_q
            + (both - p2) / (p2 * p) * l_p
            + 2 * k * both / (p2 * q2)
        )
    )  # fmt: skip
    return max(p * q / (k * k * k) * (smooth + large * inner), 0.0)


@kernel
def pair_energy(k: float, state: State) -> float:
    """Return the total energy of the positron from the conversion of a photon of `k` masses."""
    largest = 0.0
    for step in range(_LARGEST_SCAN):
        share = (step + 0.5) / (2 * _LARGEST_SCAN)
        largest = max(largest, pair_spectrum(k, 1 + (k - 2) * share))
    largest *= 1.05
    while True:
        positron = 1 + (k - 2) * uniform(state)
        if uniform(state) * largest <= pair_spectrum(k, positron):
            return positron


@kernel
def pair_cosine(total: float, state: State) -> float:
    """Return the cosine of a particle of a pair: 1 / (1 - beta cos)2, an angle of about m/E."""
    beta = math.sqrt(max(0.0, 1 - 1 / (total * total)))
    draw = 2 * uniform(state) - 1
    return (draw + beta) / (draw * beta + 1)


@kernel
def annihilation_share(gamma: float, state: State) -> float:
    """Return the share of the total energy that one photon of an annihilation in flight has (Heitler)."""
    smallest = 0.5 * (1 - math.sqrt((gamma - 1) / (gamma + 1)))
    ratio = (1 - smallest) / smallest
    square = (gamma + 1) * (gamma + 1)
    while True:
        share = smallest * math.exp(uniform(state) * math.log(ratio))
        if uniform(state) <= 1 - share + (2 * gamma * share - 1) / (share * square):
            return share
