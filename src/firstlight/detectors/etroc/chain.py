"""The chain of an ETROC run, and the compilation of its kernels."""

from __future__ import annotations

from firstlight.detectors.etroc.ingest import ingest
from firstlight.detectors.etroc.injection_step import injection
from firstlight.detectors.etroc.pixels import pixels
from firstlight.detectors.etroc.resolution_step import resolution
from firstlight.detectors.etroc.steps import cut, cut_times, events, times, timewalk

__all__ = ["CHAIN", "warm_up"]

CHAIN = (ingest, pixels, events, cut, times, cut_times, timewalk, resolution, injection)


def warm_up() -> None:
    """Compile the kernels of the decoders, of event building and of the time-walk correction to the resolution."""
    from firstlight.detectors.etroc import chain_bootstrap, events
    from firstlight.detectors.etroc.readout import lines, packets

    lines.warm_up()
    packets.warm_up()
    events.warm_up()
    chain_bootstrap.warm_up()
