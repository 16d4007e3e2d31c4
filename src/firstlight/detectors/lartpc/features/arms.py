"""The two arms of a pair: as two rays from a vertex, and by the order of rows in a file.

An electron and a positron leave the vertex of a 10 MeV photon some degrees apart, and are scattered by more than that
within millimetres. So charge is not cut out around the vertex; two rays are fitted to the directions in which it lies,
and where two rays explain no more than the scattering of one arm does, the arms are reported as not separable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.lartpc.track import ELECTRON_MASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Track

__all__ = ["PairEnergies", "TwoRays", "arms_from_rows", "fit_two_rays", "pair_energies"]

# two rays always explain part of one arm's width: a third of a round one, two thirds of a flat one
_BEST_OF_ONE_ARM = 0.7
_SMALLEST_SHARE = 0.08
_MOST_STARTS = 60
_RADIAL_BINS = 5


@dataclass(frozen=True)
class TwoRays:
    """Two rays from a vertex, the one with more charge first.

    Parameters
    ----------
    directions : ndarray, shape (2, 3)
        Unit vectors; both the same where there is but one direction.
    share : float
        Share of the charge in the shell that lies nearer to the first ray, 0.5 to 1.
    width : float
        Angle by which charge lies beside its ray, root mean square [rad].
    quality : float
        Part of the angular spread around one mean direction that two rays explain, 0 to 1.
    overlap : float
        Part of the distances from the vertex at which the shorter arm has charge, where the other has some, too. The two
        parts of one arm with a kink lie at different distances.
    forward : float
        Length of the mean direction: 1 for a single narrow arm, 0 for a track that passes through.
    charge : float
        In the shell [electrons].
    """

    directions: NDArray[np.float64]
    share: float
    width: float
    quality: float
    overlap: float
    forward: float
    charge: float

    @property
    def opening(self) -> float:
        """Angle between the rays [rad]."""
        return float(np.arccos(np.clip(self.directions[0] @ self.directions[1], -1.0, 1.0)))

    @property
    def separable(self) -> bool:
        """Whether there are two arms rather than the width or the kink of one."""
        return (
            self.quality > _BEST_OF_ONE_ARM
            and self.share < 1 - _SMALLEST_SHARE
            and self.overlap >= 0.5
            and self.opening > 2 * self.width
        )


def fit_two_rays(
    positions: NDArray[np.float64],
    charge: NDArray[np.float64],
    vertex: NDArray[np.float64],
    shell: tuple[float, float],
) -> TwoRays | None:
    """Fit two rays to the charge in a shell around a vertex.

    All pairs of charge are tried as directions, the best pair is refined until no charge changes its ray. The sum that
    is made small is that of charge times 1 - cos(angle to the nearer ray).

    Parameters
    ----------
    positions, charge : ndarray, shapes (3, n) and (n,)
        Cubes [m, electrons].
    vertex : ndarray, shape (3,)
        Where the rays start [m].
    shell : tuple of float
        Inner and outer radius [m].

    Returns
    -------
    TwoRays or None
        None with fewer than two cubes in the shell.
    """
    offset = positions - vertex[:, None]
    radius = np.linalg.norm(offset, axis=0)
    inside = (radius > shell[0]) & (radius <= shell[1])
    if inside.sum() < 2:
        return None
    unit, weight, radius = offset[:, inside] / radius[inside], charge[inside], radius[inside]
    mean = unit @ weight / weight.sum()
    forward = float(np.linalg.norm(mean))
    one = weight.sum() * (1 - forward)
    starts = np.sort(np.argsort(-weight, kind="stable")[:_MOST_STARTS])
    away = 1 - unit[:, starts].T @ unit
    cost = np.minimum(away[:, None, :], away[None, :, :]) @ weight
    first, second = np.unravel_index(int(cost.argmin()), cost.shape)
    rays, nearer = _refined(unit, weight, unit[:, starts[[first, second]]].T)
    lost = weight * (1 - np.where(nearer == 0, rays[0] @ unit, rays[1] @ unit))
    in_first = float(weight[nearer == 0].sum() / weight.sum())
    if in_first < 0.5:
        rays, nearer, in_first = rays[::-1], 1 - nearer, 1 - in_first
    return TwoRays(
        directions=rays,
        share=in_first,
        width=float(np.sqrt(2 * max(lost.sum(), 0.0) / weight.sum())),
        quality=float(np.clip(1 - lost.sum() / one, 0.0, 1.0)) if one > 1e-12 * weight.sum() else 0.0,
        overlap=_overlap(radius, nearer, shell),
        forward=forward,
        charge=float(weight.sum()),
    )


def _refined(
    unit: NDArray[np.float64], weight: NDArray[np.float64], rays: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    nearer = np.full(weight.size, -1)
    for _ in range(30):
        now = (rays @ unit).argmax(axis=0)
        if (now == nearer).all():
            break
        nearer = now
        for ray in (0, 1):
            summed = unit[:, nearer == ray] @ weight[nearer == ray]
            length = np.linalg.norm(summed)
            if length > 0:
                rays = np.where(np.arange(2)[:, None] == ray, summed / length, rays)
    return rays, nearer


def _overlap(radius: NDArray[np.float64], nearer: NDArray[np.int64], shell: tuple[float, float]) -> float:
    edges = np.linspace(*shell, _RADIAL_BINS + 1)
    has = [np.histogram(radius[nearer == ray], edges)[0] > 0 for ray in (0, 1)]
    shorter = min(int(each.sum()) for each in has)
    return float((has[0] & has[1]).sum() / shorter) if shorter else 0.0


@dataclass(frozen=True)
class PairEnergies:
    """Kinetic energies of the two particles of a pair.

    Parameters
    ----------
    positron, electron : float
        At the vertex [keV].
    source : str
        ``"recorded"`` in the truth, or ``"rows"``: from the order of rows.
    split : int
        First row of the electron; -1 where it was not needed.
    """

    positron: float
    electron: float
    source: str
    split: int = -1

    @property
    def share(self) -> float:
        """Share of the positron in the kinetic energy, 0 to 1."""
        both = self.positron + self.electron
        return self.positron / both if both > 0 else 0.5


def pair_energies(track: Track) -> PairEnergies | None:
    """Return the energies of a pair: as recorded, else from the rows; None where the photon made none first."""
    truth = track.truth
    if truth is not None and len(truth.arms) == 2:
        by_kind = {arm.pdg: arm.kinetic_energy for arm in truth.arms}
        if by_kind.keys() == {-11, 11}:
            return PairEnergies(by_kind[-11], by_kind[11], "recorded")
    return arms_from_rows(track)


def arms_from_rows(track: Track) -> PairEnergies | None:
    """Return the kinetic energies of a pair by the order of rows.

    Files of the PENELOPE chain have the rows in the order of its stack. Of a photon that made a pair first, the rows of
    the positron and of all that follows from it come first, its annihilation photons included; then those of the
    electron. The split is at the first row near the vertex after the positron has left it; then
    ``K+ = share E - 1022 keV`` and ``K- = (1 - share) E``, with the share of the charge in the first rows.

    Parameters
    ----------
    track : Track
        With truth, in the order in which it was written, not put together in cubes.

    Returns
    -------
    PairEnergies or None
        None if the first interaction was no pair, the order is lost, or no row comes back to the vertex.
    """
    truth = track.truth
    if truth is None or truth.first_interaction != "pair" or track.bin_size > 0 or len(track) < 2:
        return None
    positions = track.positions
    origin = truth.origin
    if np.linalg.norm(positions[:, 0] - origin) > 1e-3:
        # the record is in another frame than the points; the positron starts at the vertex
        origin = positions[:, 0]
    away = np.linalg.norm(positions - origin[:, None], axis=0)
    near = _return_distance(positions)
    left = np.flatnonzero(away > 5 * near)
    if left.size == 0:
        return None
    back = np.flatnonzero(away[left[0] :] < near)
    if back.size == 0:
        return None
    split = int(left[0] + back[0])
    share = float(track.num_e[:split].sum() / max(track.charge, 1))
    positron = share * truth.energy - 2 * ELECTRON_MASS
    if positron < -0.02 * truth.energy:
        # less charge than the two annihilation photons leave: the row is not that of the second arm
        return None
    return PairEnergies(max(positron, 0.0), (1 - share) * truth.energy, "rows", split)


def _return_distance(positions: NDArray[np.float64]) -> float:
    """Return how near to the vertex the first row of the electron lies [m]: 20 um, more where rows are coarse."""
    steps = np.linalg.norm(np.diff(positions[:, :21], axis=1), axis=0)
    # one long step in front is a gap, not the distance of rows
    return max(20e-6, 4 * float(np.sort(steps)[: max(steps.size - 2, 1)].mean()))
