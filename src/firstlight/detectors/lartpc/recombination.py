"""How many of the freed electrons escape recombination: constant, Birks, modified box; and whole numbers of electrons.

Both formulas were fitted to samples of 3 to 5 mm. The energy loss over steps of micrometres says nothing about the density of
charge that an electron meets: `local_dedx` averages along the particle first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FANO",
    "RECOMBINATION",
    "SHORTEST_WINDOW",
    "WORK_FUNCTION",
    "Recombination",
    "birks",
    "charge_from_energy",
    "constant",
    "local_dedx",
    "modified_box",
    "recombination_model",
]

WORK_FUNCTION = 23.6  # eV for an electron and its ion; Miyajima et al., Phys. Rev. A 9 (1974) 1438
FANO = 0.1115  # the value of NEST for liquid argon; Doke et al., NIM 134 (1976) 353 have 0.107 to 0.116
SHORTEST_WINDOW = 0.3e-3  # m
_DENSITY = 1.396  # g/cm3, of the published fits


def _inputs(dedx: ArrayLike, field: ArrayLike, density: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    arrays = tuple(np.asarray(value, dtype=np.float64) for value in (dedx, field, density))
    for name, unit, values, zero in zip(
        ("dE/dx", "field", "density"), ("MeV/cm", "kV/cm", "g/cm3"), arrays, (True, False, False), strict=True
    ):
        good = np.isfinite(values) & ((values >= 0) if zero else (values > 0))
        if not good.all():
            what = f"{name} is {values[~good].flat[0]:g} {unit}"
            raise UsageError(what, hint=f"finite numbers, {'0 or more' if zero else 'more than 0'}")
    return arrays


def _plain(values: NDArray[np.float64]) -> Any:
    return float(values) if np.ndim(values) == 0 else values


def constant(
    dedx: ArrayLike, field: ArrayLike = 0.5, density: ArrayLike = _DENSITY, share: float = 0.70
) -> Any:
    """Return the same share for every dE/dx [MeV/cm], as the original does (its 30 % recombination)."""
    loss, strength, weight = _inputs(dedx, field, density)
    return _plain(np.full(np.broadcast_shapes(loss.shape, strength.shape, weight.shape), share))


def birks(
    dedx: ArrayLike, field: ArrayLike, density: ArrayLike = _DENSITY, a: float = 0.800, k: float = 0.0486
) -> Any:
    """Return Birks' share A / (1 + k (dE/dx) / (density field)).

    S. Amoruso et al. (ICARUS), NIM A 523 (2004) 275.

    Parameters
    ----------
    dedx : array_like
        Energy loss [MeV/cm].
    field : array_like
        Drift field [kV/cm].
    density : array_like
        Density [g/cm3].
    a, k : float
        Parameters; k in (kV/cm) (g/cm2)/MeV.

    Returns
    -------
    float or ndarray
        Share of electrons that escape.

    Raises
    ------
    UsageError
        If a value is not finite, an energy loss negative, a field or density not positive.
    """
    loss, strength, weight = _inputs(dedx, field, density)
    return _plain(a / (1 + k * loss / (weight * strength)))


def modified_box(
    dedx: ArrayLike, field: ArrayLike, density: ArrayLike = _DENSITY, alpha: float = 0.93, b: float = 0.212
) -> Any:
    """Return the share of the modified box model, ln(alpha + xi) / xi with xi = B (dE/dx) / (density field), at least 0.

    R. Acciarri et al. (ArgoNeuT), JINST 8 (2013) P08005. With alpha below 1 it falls again below 1.6 MeV/cm at
    0.5 kV/cm, or 3.2 MeV/cm at 1 kV/cm, where it was never fitted; `charge_from_energy` takes no less than its
    `least_dedx`. Parameters and
    errors are those of `birks`.
    """
    loss, strength, weight = _inputs(dedx, field, density)
    xi = np.maximum(b * loss / (weight * strength), 1e-12)
    return _plain(np.maximum(np.log(alpha + xi) / xi, 0.0))


_FORMULAS: dict[str, Callable[..., Any]] = {"constant": constant, "birks": birks, "box": modified_box}


@dataclass(frozen=True)
class Recombination:
    """A formula with its parameters.

    Parameters
    ----------
    name : str
        Under which it is asked for.
    formula : {"constant", "birks", "box"}
        Which one.
    parameters : tuple of float
        The share for constant; A and k [(kV/cm) (g/cm2)/MeV] for Birks; alpha and B [(kV/cm) (g/cm2)/MeV] for box.
    density : float
        Density with which they are used where none is given [g/cm3].
    source : str
        Where they come from.
    """

    name: str
    formula: Literal["constant", "birks", "box"]
    parameters: tuple[float, ...]
    density: float
    source: str

    def __call__(self, dedx: ArrayLike, field: ArrayLike, density: ArrayLike | None = None) -> Any:
        """Return the share of electrons that escape; `dedx` [MeV/cm], `field` [kV/cm], `density` [g/cm3]."""
        weight = self.density if density is None else density
        return _FORMULAS[self.formula](dedx, field, weight, *self.parameters)


RECOMBINATION: dict[str, Recombination] = {
    model.name: model
    for model in (
        Recombination("constant", "constant", (0.70,), _DENSITY, "Gampy: 30 % recombine"),
        Recombination("birks-icarus", "birks", (0.800, 0.0486), _DENSITY, "ICARUS, NIM A 523 (2004) 275"),
        Recombination("birks-larnd-sim", "birks", (0.800, 0.0486), 1.38, "larnd-sim"),
        Recombination("birks-gampixpy", "birks", (0.806, 0.052), _DENSITY, "GAMPixPy"),
        Recombination("box-argoneut", "box", (0.93, 0.212), _DENSITY, "ArgoNeuT, JINST 8 (2013) P08005"),
        Recombination("box-larnd-sim", "box", (0.93, 0.207), 1.38, "larnd-sim"),
        Recombination("box-gampixpy", "box", (0.93, 0.212), _DENSITY, "GAMPixPy"),
    )
}
"""Sets of parameters by name."""


def recombination_model(model: str | Recombination) -> Recombination:
    """Return a set of parameters by name; raise `UsageError` with the known names for another one."""
    if isinstance(model, Recombination):
        return model
    if model not in RECOMBINATION:
        raise UsageError.unknown("recombination model", model, RECOMBINATION)
    return RECOMBINATION[model]


# ---------------------------------------------------------------- whole electrons


def charge_from_energy(
    energy: ArrayLike,
    dedx: ArrayLike,
    rng: np.random.Generator | None = None,
    *,
    model: str | Recombination = "box-argoneut",
    field: float = 0.5,
    density: float | None = None,
    work_function: float = WORK_FUNCTION,
    fano: float = FANO,
    least_dedx: float = 1.5,
) -> NDArray[np.int64]:
    """Return whole electrons that escape, for deposits in the order in which they stand.

    Pairs of electron and ion are counted along the running sum of energy, whatever the size of a deposit: n deposits of a
    tenth of a pair give n / 10 pairs, and not none. The running sum fluctuates with the Fano factor, so the variance of a sum
    of deposits is fano x pairs; escape is binomial.

    Parameters
    ----------
    energy : array_like, shape (n,)
        Deposits [keV].
    dedx : array_like
        Energy loss where each deposit is, averaged over 0.3 mm or more [MeV/cm].
    rng : numpy.random.Generator, optional
        Without it nothing fluctuates: the running sum of mean charges, rounded.
    model : str or Recombination
        Of `RECOMBINATION`.
    field : float
        Drift field [kV/cm].
    density : float, optional
        Density [g/cm3]; that of the model if not given.
    work_function : float
        Energy for a pair [eV].
    fano : float
        Variance of the number of pairs over its mean.
    least_dedx : float
        Smaller energy losses are taken as this one: below minimum ionisation they come from too few points [MeV/cm].

    Returns
    -------
    ndarray of int64, shape (n,)
        Electrons.

    Raises
    ------
    InputError
        If an energy is negative or not finite.
    UsageError
        If the model is unknown or a parameter impossible.
    """
    deposits = np.atleast_1d(np.asarray(energy, dtype=np.float64))
    bad = ~(np.isfinite(deposits) & (deposits >= 0))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        what = f"deposit {first} is {deposits[first]:g} keV; {bad.sum()} such deposits"
        raise InputError(what, hint="energies are finite and 0 or more")
    if work_function <= 0 or fano < 0:
        what = f"work function {work_function:g} eV, Fano factor {fano:g}"
        raise UsageError(what, hint=f"{WORK_FUNCTION} eV and {FANO} for liquid argon")
    loss = np.maximum(np.asarray(dedx, dtype=np.float64), least_dedx)
    share = np.broadcast_to(recombination_model(model)(loss, field, density), deposits.shape)
    pairs = deposits * (1000.0 / work_function)
    if rng is None:
        return _counted(np.cumsum(pairs * share), 0.5)
    offset = rng.random()
    running = np.cumsum(pairs + np.sqrt(fano * pairs) * rng.standard_normal(pairs.size))
    # small deposits may fluctuate below zero: the sum waits until it has caught up
    freed = _counted(np.maximum.accumulate(np.maximum(running, 0.0)), offset)
    return rng.binomial(freed, np.clip(share, 0.0, 1.0)).astype(np.int64)


def _counted(running: NDArray[np.float64], offset: float) -> NDArray[np.int64]:
    counts = np.floor(running + offset).astype(np.int64)
    counts[1:] -= counts[:-1].copy()
    return counts


# ---------------------------------------------------------------- energy loss along particles


def _practical_range(energy: NDArray[np.float64], density: float) -> NDArray[np.float64]:
    """Return the range of electrons [cm], energy in MeV: L. Katz, A. S. Penfold, Rev. Mod. Phys. 24 (1952) 28."""
    power = 1.265 - 0.0954 * np.log(np.maximum(energy, 1e-6))
    return np.asarray(0.412 * np.maximum(energy, 1e-6) ** power / density)


def local_dedx(
    positions: NDArray[np.float64],
    energies: ArrayLike,
    particle_id: ArrayLike,
    window: float = 0.5e-3,
    *,
    density: float = _DENSITY,
) -> NDArray[np.float64]:
    """Return the energy loss around each point, averaged along the path of its particle.

    A particle's points are taken in the order in which they stand. The window is as much before the point as after it, and
    moves inwards at the ends. Of a particle that is shorter than the window the whole path is used; of one that left all its
    energy in one point, the range of an electron of that energy.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Points [m].
    energies : array_like, shape (n,)
        Deposits [keV].
    particle_id : array_like of int, shape (n,)
        Particle that made each deposit.
    window : float
        Path over which to average [m], `SHORTEST_WINDOW` or more.
    density : float
        Density, for the range of single deposits [g/cm3].

    Returns
    -------
    ndarray of float64, shape (n,)
        dE/dx [MeV/cm].

    Raises
    ------
    InputError
        If lengths disagree.
    UsageError
        If the window is shorter than the recombination formulas allow.
    """
    deposits = np.asarray(energies, dtype=np.float64) / 1000.0
    particle = np.asarray(particle_id)
    n_points = positions.shape[-1]
    if positions.shape != (3, n_points) or deposits.shape != (n_points,) or particle.shape != (n_points,):
        what = f"positions {positions.shape}, energies {deposits.shape}, particle numbers {particle.shape}"
        raise InputError(what, hint="positions of shape (3, n), and n energies and particle numbers")
    if not window >= SHORTEST_WINDOW:
        what = f"a window of {window * 1000:g} mm"
        hint = f"{SHORTEST_WINDOW * 1000:g} mm or more: the formulas were fitted to samples of 3 to 5 mm"
        raise UsageError(what, hint=hint)
    if n_points == 0:
        return np.zeros(0)
    order = np.argsort(particle, kind="stable")
    ordered, loss = particle[order], deposits[order]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    step = np.linalg.norm(np.diff(positions[:, order], axis=1, prepend=positions[:, order[:1]]), axis=0) * 100
    step[fresh] = 0.0
    # the deposit of a particle's first point belongs to no step
    along = np.cumsum(np.where(fresh, 0.0, loss))
    number = np.cumsum(fresh) - 1
    start = np.flatnonzero(fresh)
    end = np.append(start[1:], n_points) - 1
    path = np.cumsum(step)
    first, last, half = path[start][number], path[end][number], 50.0 * window
    low = np.clip(path - half, first, np.maximum(last - 2 * half, first))
    high = np.clip(low + 2 * half, first, last)
    result = _between(path, along, number, low, high)
    single = last - first <= 0
    if single.any():
        total = np.bincount(number, weights=loss)[number]
        result = np.where(single, total / _practical_range(total, density), result)
    back = np.empty(n_points)
    back[order] = result
    return back


def _between(
    path: NDArray[np.float64],
    along: NDArray[np.float64],
    number: NDArray[np.int64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return energy over path between two places on the path of each point's particle, linear between points."""
    # a gap after each particle makes the path one increasing axis on which places of different particles do not meet
    gap = 2 * (path[-1] + 1.0)
    axis = path + gap * number
    energy = np.interp(high + gap * number, axis, along) - np.interp(low + gap * number, axis, along)
    length = high - low
    return np.asarray(energy / np.where(length > 0, length, np.inf))
