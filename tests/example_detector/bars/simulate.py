"""Files with known truth, in exactly the format of the real ones: what every check is checked with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["DEAD", "HOT", "simulate", "true_response"]

DEAD, HOT = 21, 42  # planted faults: the report must find them


def true_response(seed: int = 1) -> np.ndarray:
    """Return the response of each bar relative to the median bar."""
    response = np.random.default_rng([seed, 0]).normal(1.0, 0.08, 64)
    return response / np.median(np.delete(response, DEAD))


def simulate(folder: Path | str, *, seed: int = 1, n_files: int = 2, n_events: int = 4000) -> list[Path]:
    """Write simulated files and return their paths.

    Parameters
    ----------
    folder : Path or str
        Made if it is not there.
    seed : int
        The same seed gives the same files, byte by byte.
    n_files, n_events : int
        Files, and events of each.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    rate = np.full(64, 0.1)
    rate[DEAD], rate[HOT] = 0.0, 0.5
    paths = []
    for run in range(1, n_files + 1):
        random = np.random.default_rng([seed, run])
        event, channel = np.nonzero(random.random((n_events, 64)) < rate)
        time = random.normal(40.0, 6.0, event.size)
        charge = 20.0 * true_response(seed)[channel] * random.gamma(16.0, 1 / 16.0, event.size)
        rows = zip(event, channel, time, charge, strict=True)
        lines = [
            f"# bars run={run} threshold=30 events={n_events}",
            "event,channel,time_ns,charge_pc",
            *(f"{e},{c},{t:.2f},{q:.3f}" for e, c, t, q in rows),
            f"# end rows={event.size}",
        ]
        paths.append(Path(folder) / f"bars_{run:04d}_thr30.csv")
        paths[-1].write_text("\n".join(lines) + "\n", encoding="ascii")
    return paths
