"""What the truth record says of the shape of an event: hard photons, delta rays, how a pair shared its energy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.features.arms import PairEnergies, arms_from_rows, pair_energies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Track, Truth

__all__ = ["HARD", "TruthFeatures", "truth_features"]

HARD = 20.0  # photons above this energy are counted [keV]
_DELTA = 0.1  # delta rays with more than this share of the energy count
_GAP = 1.0e-3  # points of one arm follow each other within this distance [m]
_REACH = 2.5  # of an electron of some 100 keV to 1 MeV, by its energy [mm/MeV]
_NEAR = 1.0e-2  # interactions of photons nearer than this are part of the track [m]


@dataclass(frozen=True)
class TruthFeatures:
    """What is known of an event; None where the record does not say.

    Parameters
    ----------
    radiated : float
        Share of the energy in bremsstrahlung photons of all generations.
    n_hard : int
        Bremsstrahlung photons above 20 keV.
    n_deltas : int or None
        Delta rays with more than a tenth of the energy; None where the record has no delta rays.
    n_compton, n_photo : int
        Compton scatterings and photoelectric absorptions.
    first : str
        First interaction of a photon; empty for other particles.
    n_other_pairs : int
        Pairs beside that of the first interaction.
    around : float
        How evenly secondary photons interacted on all sides of the vertex: 1 - length of the mean direction, 0 for fewer
        than two interactions. Interactions within 1 cm do not count: they belong to the track.
    positron_energy, electron_energy : float or None
        Kinetic energies of the first pair [keV].
    positron_share : float or None
        Share of the positron in them.
    shorter_arm : float or None
        Distance from the vertex that the shorter arm reaches [mm].
    source : str
        Where the energies of the pair are from: ``"recorded"``, ``"rows"``, or empty.
    """

    radiated: float
    n_hard: int
    n_deltas: int | None
    n_compton: int
    n_photo: int
    first: str
    n_other_pairs: int
    around: float
    positron_energy: float | None
    electron_energy: float | None
    positron_share: float | None
    shorter_arm: float | None
    source: str

    def row(self) -> dict[str, Any]:
        """Return all values by name: a row of the table."""
        return asdict(self)


def truth_features(track: Track) -> TruthFeatures | None:
    """Return what the truth record of a track says, None for a track without one."""
    truth = track.truth
    if truth is None:
        return None
    record = truth.interactions
    first = truth.first_interaction if truth.particle == "photon" else ""
    pair = pair_energies(track) if first == "pair" else None
    deltas = record.of("delta")
    # only records of this package have delta rays and annihilations; they mark them even where there is none
    knows_deltas = (
        len(deltas) > 0 or bool((record.kind == "annihilation").any()) or bool(track.meta.get("deltas"))
    )
    return TruthFeatures(
        radiated=truth.radiated,
        n_hard=len(record.of("brem", HARD)),
        n_deltas=int((deltas.energy > _DELTA * truth.energy).sum()) if knows_deltas else None,
        n_compton=len(record.of("compton")),
        n_photo=len(record.of("photo")),
        first=first,
        n_other_pairs=len(record.of("pair")) - (first == "pair"),
        around=_around(truth),
        positron_energy=pair.positron if pair else None,
        electron_energy=pair.electron if pair else None,
        positron_share=pair.share if pair else None,
        shorter_arm=_shorter_arm(track, pair) if pair else None,
        source=pair.source if pair else "",
    )


def _around(truth: Truth) -> float:
    record = truth.interactions
    away = record.position[:, np.isin(record.kind, ("compton", "photo", "pair"))] - truth.origin[:, None]
    distance = np.linalg.norm(away, axis=0)
    far = distance > _NEAR
    if far.sum() < 2:
        return 0.0
    return float(1 - np.linalg.norm((away[:, far] / distance[far]).mean(axis=1)))


def _shorter_arm(track: Track, pair: PairEnergies) -> float | None:
    """Return how far the shorter arm of a pair reaches from the vertex [mm].

    By the points of its particle where they are known, by rows that follow each other otherwise, and by the energy where
    neither is there (points put together in cubes).
    """
    parts = _arm_points(track, pair)
    if parts is None:
        return _REACH * min(pair.positron, pair.electron) / 1e3
    reach = []
    for points in parts:
        away = np.linalg.norm(points - points[:, :1], axis=0)
        reach.append(1e3 * float(away.max(initial=0.0)))
    return min(reach)


def _arm_points(track: Track, pair: PairEnergies) -> list[NDArray[np.float64]] | None:
    if track.bin_size > 0:
        return None
    if track.particle_id is not None and track.parent_id is not None and track.pdg is not None:
        own = [
            track.positions[:, (track.parent_id == 0) & (track.pdg == pdg) & (track.creator == "pair")]
            for pdg in (-11, 11)
            if track.creator is not None
        ]
        if len(own) == 2 and all(points.shape[1] for points in own):
            return own
    rows = pair if pair.split >= 0 else arms_from_rows(track)
    if rows is None:
        return None
    return [_until_gap(track.positions[:, : rows.split]), _until_gap(track.positions[:, rows.split :])]


def _until_gap(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points until the first gap: after it come those of another particle."""
    steps = np.linalg.norm(np.diff(positions, axis=1), axis=0)
    gaps = np.flatnonzero(steps > _GAP)
    return positions[:, : int(gaps[0]) + 1] if gaps.size else positions
