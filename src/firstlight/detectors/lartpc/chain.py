"""The chain of a LArTPC run, and the compilation of its kernels."""

from __future__ import annotations

from firstlight.detectors.lartpc.features.step import features
from firstlight.detectors.lartpc.inventory import energies, tracks
from firstlight.detectors.lartpc.ranking import quest, separation
from firstlight.detectors.lartpc.readout.step import occupancy, readout

__all__ = ["CHAIN", "warm_up"]

CHAIN = (tracks, features, readout, occupancy, energies, quest, separation)


def warm_up() -> None:
    """Compile the kernels of the transport."""
    from firstlight.detectors.lartpc.simulation.generate import simulate_track

    for particle in ("electron", "positron", "photon"):
        simulate_track(particle, 2000.0, seed=1)
