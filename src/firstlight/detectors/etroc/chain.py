"""The chain of an ETROC run, and the compilation of its kernels."""

from __future__ import annotations

from firstlight.detectors.etroc.ingest import ingest
from firstlight.detectors.etroc.injection_step import injection
from firstlight.detectors.etroc.original_step import original
from firstlight.detectors.etroc.pixels import pixels
from firstlight.detectors.etroc.resolution_step import resolution
from firstlight.detectors.etroc.steps import cut, cut_times, events, times, timewalk

__all__ = ["CHAIN", "warm_up"]

CHAIN = (ingest, pixels, events, cut, times, cut_times, timewalk, resolution, injection, original)


def warm_up() -> None:
    """Compile the kernels of the decoders, of event building and of the time-walk correction to the resolution."""
    import numpy as np

    from firstlight.detectors.etroc import chain_bootstrap
    from firstlight.detectors.etroc.events import (
        build_by_counters,
        build_by_order,
        build_by_pattern,
        select_one_hit,
    )
    from firstlight.detectors.etroc.readout import lines, packets

    lines.warm_up()
    packets.warm_up()
    chain_bootstrap.warm_up()
    board, numbers = np.array([0, 1, 0, 1]), np.arange(4)
    build_by_pattern(board, (0, 1))
    build_by_order(board, None, (0, 1))
    build_by_counters(np.zeros(4), board, numbers // 2, numbers // 2)
    for rule in ("drop", "first", "largest_tot"):
        select_one_hit(numbers // 2, board, numbers, numbers, rule)
