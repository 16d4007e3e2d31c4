"""Transport of electrons, positrons and photons: a stack of particles, each followed to its end.

Charged particles lose energy in steps ("class II"): losses below a cut are continuous with straggling, collisions and photons above
it are drawn one by one; so is scattering on nuclei above an angle, while many small deflections are put together in one
at a random place of the step (random hinge). Lengths are cm, energies keV.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.lartpc.simulation.argon import (
    ALPHA,
    ATOMIC_NUMBER,
    ELECTRON_MASS,
    FLUORESCENCE_YIELD,
    K_EDGE,
    K_LINE,
    K_SHARE,
)
from firstlight.detectors.lartpc.simulation.collisions import (
    annihilation_share,
    bhabha_share,
    bremsstrahlung_share,
    coherent_cosine,
    compton_ratio,
    dipole_cosine,
    elastic_mu,
    moller_share,
    pair_cosine,
    pair_energy,
    photoelectron_cosine,
)
from firstlight.detectors.lartpc.simulation.dice import soft_loss, turn, uniform
from firstlight.detectors.lartpc.simulation.photons import BINDING, WAVENUMBER
from firstlight.detectors.lartpc.simulation.record import (
    FULL,
    STACK,
    Record,
    add_event,
    add_particle,
    advance,
    deposit,
    flush,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    State = NDArray[np.uint64]

    from firstlight.detectors.lartpc.simulation.tables import Tables

__all__ = ["ANNIHILATION", "BREM", "COMPTON", "DELTA", "PAIR", "PHOTO", "PRIMARY", "Steps", "follow"]  # fmt: skip

# places in INTERACTION_KINDS
BREM, PHOTO, COMPTON, PAIR, DELTA, ANNIHILATION = 0, 1, 2, 3, 4, 5
PRIMARY = 6
_ELECTRON, _POSITRON, _PHOTON = 11, -11, 22
_TWO_PI = 2 * math.pi
_MOTT = math.pi * ALPHA * ATOMIC_NUMBER
_BINDING, _BINDING_POWER = BINDING
_K_WAVENUMBER = WAVENUMBER * ELECTRON_MASS
_MOST_RAYS = 512


class Steps(NamedTuple):
    """Lengths of steps: share of the energy, longest [cm], spacing of points [cm], energy at which one stops [keV]."""

    loss: float
    longest: float
    spacing: float
    stop: float


@kernel
def _knock(positron: bool, ray: Floats, tables: Tables, record: Record, stack: Floats, state: State) -> None:
    """Knock out an electron."""
    energy = ray[0]
    smallest = tables.collision_cut / energy
    if smallest >= (1.0 if positron else 0.5):
        return
    tau = energy / ELECTRON_MASS
    share = bhabha_share(tau, smallest, state) if positron else moller_share(tau, smallest, state)
    given = share * energy
    rest = energy - given
    up = energy + 2 * ELECTRON_MASS
    azimuth = _TWO_PI * uniform(state)
    add_event(record, DELTA, given, ray)
    cosine = math.sqrt(min(1.0, share * up / (given + 2 * ELECTRON_MASS)))
    add_particle(record, stack, ray, _ELECTRON, DELTA, given, cosine, azimuth)
    turn(ray, math.sqrt(min(1.0, (1 - share) * up / (rest + 2 * ELECTRON_MASS))), azimuth + math.pi)
    ray[0] = rest


@kernel
def _radiate(ray: Floats, tables: Tables, record: Record, stack: Floats, state: State) -> None:
    """Send out a bremsstrahlung photon; the charged particle keeps its direction."""
    energy = ray[0]
    if energy <= tables.photon_cut:
        return
    photon = energy * bremsstrahlung_share(tables.photon_cut / energy, state)
    gamma = energy / ELECTRON_MASS + 1
    beta = math.sqrt(1 - 1 / (gamma * gamma))
    add_event(record, BREM, photon, ray)
    add_particle(
        record, stack, ray, _PHOTON, BREM, photon, dipole_cosine(beta, state), _TWO_PI * uniform(state)
    )
    ray[0] = energy - photon


@kernel
def _annihilate(ray: Floats, record: Record, stack: Floats, state: State) -> None:
    """Turn a positron into two photons, at rest where it has no kinetic energy."""
    total = ray[0] + 2 * ELECTRON_MASS
    azimuth = _TWO_PI * uniform(state)
    add_event(record, ANNIHILATION, total, ray)
    if ray[0] <= 0:
        cosine = 2 * uniform(state) - 1
        add_particle(record, stack, ray, _PHOTON, ANNIHILATION, ELECTRON_MASS, cosine, azimuth)
        add_particle(record, stack, ray, _PHOTON, ANNIHILATION, ELECTRON_MASS, -cosine, azimuth + math.pi)
        return
    gamma = ray[0] / ELECTRON_MASS + 1
    momentum = math.sqrt(gamma * gamma - 1)
    share = annihilation_share(gamma, state)
    first = (share * (gamma + 1) - 1) / (share * momentum)
    other = 1 - share
    second = (other * (gamma + 1) - 1) / (other * momentum)
    first, second = min(max(first, -1.0), 1.0), min(max(second, -1.0), 1.0)
    energy = share * total
    add_particle(record, stack, ray, _PHOTON, ANNIHILATION, energy, first, azimuth)
    add_particle(record, stack, ray, _PHOTON, ANNIHILATION, total - energy, second, azimuth + math.pi)


@kernel
def _charged(
    positron: bool,
    ray: Floats,
    tables: Tables,
    steps: Steps,
    record: Record,
    stack: Floats,
    pending: Floats,
    state: State,
) -> None:
    """Follow an electron or positron until it stops, or annihilates in flight."""
    table = tables.positron if positron else tables.electron
    last = table.shape[0] - 2
    owner = int(ray[7])
    while ray[0] > steps.stop:
        energy = ray[0]
        place = (math.log(energy) - tables.first) * tables.per_log
        row = min(max(int(place), 0), last)
        f = place - row
        low, high = table[row], table[row + 1]
        loss_rate = low[0] + f * (high[0] - low[0])
        variance_rate = low[1] + f * (high[1] - low[1])
        knock = low[2] + f * (high[2] - low[2])
        radiate = low[3] + f * (high[3] - low[3])
        annihilate = low[4] + f * (high[4] - low[4])
        elastic = low[5] + f * (high[5] - low[5])
        total = knock + radiate + annihilate + elastic
        length = -math.log(uniform(state)) / total
        longest = min(steps.longest, steps.loss * energy / loss_rate)
        hard = length < longest
        length = min(length, longest)
        # half a step on, the rate has changed: first order in the slope of the table
        slope = (high[0] - low[0]) * tables.per_log / energy
        mean = loss_rate * length * (1 - 0.5 * length * slope)
        loss = soft_loss(mean, variance_rate * length, state)
        if loss >= energy:
            length *= energy / loss
            loss, hard = energy, False
        before = uniform(state)
        advance(record, ray, pending, before * length, before * loss, steps.spacing)
        deflection = -math.expm1(-length * (low[6] + f * (high[6] - low[6])))
        bent = 1 + deflection * math.log(uniform(state))
        while bent < -1:
            bent = 1 + deflection * math.log(uniform(state))
        turn(ray, bent, _TWO_PI * uniform(state))
        advance(record, ray, pending, length - before * length, loss - before * loss, steps.spacing)
        ray[0] = energy - loss
        if not hard or ray[0] <= steps.stop:
            continue
        which = uniform(state) * total
        if which < elastic:
            gamma = energy / ELECTRON_MASS + 1
            beta2 = 1 - 1 / (gamma * gamma)
            mott = -_MOTT * math.sqrt(beta2) if positron else _MOTT * math.sqrt(beta2)
            largest = 1.0 if positron else 1 + 0.25 * _MOTT
            a, smallest = low[7] + f * (high[7] - low[7]), low[8] + f * (high[8] - low[8])
            mu = elastic_mu(a, smallest, mott, beta2, largest, state)
            if mu >= 0:
                turn(ray, 1 - 2 * mu, _TWO_PI * uniform(state))
        elif which < elastic + knock:
            _knock(positron, ray, tables, record, stack, state)
        elif which < elastic + knock + radiate:
            _radiate(ray, tables, record, stack, state)
        else:
            flush(record, pending, owner)
            _annihilate(ray, record, stack, state)
            return
    if ray[0] > 0:
        deposit(pending, ray, ray[0])
        ray[0] = 0.0
    flush(record, pending, owner)
    if positron:
        _annihilate(ray, record, stack, state)


@kernel
def _absorb(ray: Floats, record: Record, stack: Floats, pending: Floats, state: State) -> None:
    """Absorb a photon: a photoelectron, and of a hole in the K shell an X-ray or the rest on the spot."""
    energy = ray[0]
    add_event(record, PHOTO, energy, ray)
    hole = energy > K_EDGE and uniform(state) < K_SHARE
    kinetic, left = energy, 0.0
    if hole:
        kinetic, left = energy - K_EDGE, K_EDGE
        if uniform(state) < FLUORESCENCE_YIELD:
            left = K_EDGE - K_LINE
            cosine = 2 * uniform(state) - 1
            add_particle(record, stack, ray, _PHOTON, PHOTO, K_LINE, cosine, _TWO_PI * uniform(state))
    gamma = kinetic / ELECTRON_MASS + 1
    beta = math.sqrt(1 - 1 / (gamma * gamma))
    cosine = photoelectron_cosine(beta, state)
    add_particle(record, stack, ray, _ELECTRON, PHOTO, kinetic, cosine, _TWO_PI * uniform(state))
    # of the electron that is followed next: its first point
    if left > 0:
        deposit(pending, ray, left)


@kernel
def _convert(ray: Floats, record: Record, stack: Floats, state: State) -> None:
    """Make a pair; the positron is followed first."""
    k = ray[0] / ELECTRON_MASS
    total = pair_energy(k, state)
    other = k - total
    azimuth = _TWO_PI * uniform(state)
    add_event(record, PAIR, ray[0] - 2 * ELECTRON_MASS, ray)
    kinetic = (total - 1) * ELECTRON_MASS
    rest = ray[0] - 2 * ELECTRON_MASS - kinetic
    add_particle(record, stack, ray, _ELECTRON, PAIR, rest, pair_cosine(other, state), azimuth)
    add_particle(record, stack, ray, _POSITRON, PAIR, kinetic, pair_cosine(total, state), azimuth + math.pi)


@kernel
def _recoil(ray: Floats, record: Record, stack: Floats, state: State) -> None:
    """Scatter a photon on an electron."""
    energy = ray[0]
    k = energy / ELECTRON_MASS
    ratio = compton_ratio(k, _BINDING, _BINDING_POWER, _K_WAVENUMBER, state)
    cosine = max(1 - (1 - ratio) / (k * ratio), -1.0)
    given = energy - ratio * energy
    azimuth = _TWO_PI * uniform(state)
    add_event(record, COMPTON, given, ray)
    if given > 0:
        momentum = math.sqrt(given * (given + 2 * ELECTRON_MASS))
        recoil = min(max((energy - ratio * energy * cosine) / momentum, -1.0), 1.0)
        add_particle(record, stack, ray, _ELECTRON, COMPTON, given, recoil, azimuth + math.pi)
    turn(ray, cosine, azimuth)
    ray[0] = energy - given


@kernel
def _photon(
    ray: Floats, tables: Tables, record: Record, stack: Floats, pending: Floats, state: State
) -> None:
    """Follow a photon until it is absorbed or converts."""
    table = tables.photon
    last = table.shape[0] - 2
    while ray[0] > tables.photon_cut:
        place = (math.log(ray[0]) - tables.first) * tables.per_log
        row = min(max(int(place), 0), last)
        f = place - row
        low, high = table[row], table[row + 1]
        photo = low[0] + f * (high[0] - low[0])
        compton = low[1] + f * (high[1] - low[1])
        pair = low[2] + f * (high[2] - low[2])
        coherent = low[3] + f * (high[3] - low[3])
        total = photo + compton + pair + coherent
        length = -math.log(uniform(state)) / total
        ray[1] += length * ray[4]
        ray[2] += length * ray[5]
        ray[3] += length * ray[6]
        which = uniform(state) * total
        if which < compton:
            _recoil(ray, record, stack, state)
        elif which < compton + photo:
            _absorb(ray, record, stack, pending, state)
            return
        elif which < compton + photo + coherent or ray[0] <= 2 * ELECTRON_MASS:
            wavenumber = WAVENUMBER * ray[0]
            cosine = coherent_cosine(wavenumber * wavenumber, tables.squares, tables.cumulative, state)
            turn(ray, cosine, _TWO_PI * uniform(state))
        else:
            _convert(ray, record, stack, state)
            return
    if ray[0] > 0:
        _absorb(ray, record, stack, pending, state)


@kernel
def follow(
    pdg: int, energy: float, direction: Floats, tables: Tables, steps: Steps, record: Record, state: State
) -> None:
    """Follow a primary particle from the origin, and all that it makes, newest first.

    Parameters
    ----------
    pdg : int
        11, -11 or 22.
    energy : float
        Kinetic energy [keV].
    direction : ndarray, shape (3,)
        Unit vector.
    tables : Tables
        Of `tables.tables`.
    steps : Steps
        Lengths of steps.
    record : Record
        Is filled; where `record.counts[4]` is 1 at the end there was not enough room, and the rest is missing.
    state : ndarray of uint64, shape (4,)
        State of the random numbers, moved on.
    """
    stack = np.zeros((_MOST_RAYS, 8))
    ray = np.zeros(8)
    pending = np.zeros(5)
    record.counts[:] = 0
    ray[0] = energy
    ray[4:7] = direction
    add_particle(record, stack, ray, pdg, PRIMARY, energy, 1.0, 0.0)
    record.particles[0, 0] = -1
    while record.counts[STACK] > 0 and record.counts[FULL] == 0:
        height = record.counts[STACK] - 1
        record.counts[STACK] = height
        ray[:] = stack[height]
        kind = record.particles[int(ray[7]), 1]
        if kind == _PHOTON:
            _photon(ray, tables, record, stack, pending, state)
        else:
            _charged(kind == _POSITRON, ray, tables, steps, record, stack, pending, state)
