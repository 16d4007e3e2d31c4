"""What the benchmarks share: the time of a call, and a line for a figure and its limit."""

from __future__ import annotations

import time


def once(function):
    """Return the wall time of a call [s]."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def line(what, value, limit, unit="", *, at_least=False, digits=2):
    """Print a figure, and whether it is within its limit."""
    good = value >= limit if at_least else value <= limit
    number = f"{value:12,.{digits}f}"
    print(f"{'ok ' if good else 'MISS'}  {what:<66} {number} {unit:<9} limit {limit:,g}", flush=True)
