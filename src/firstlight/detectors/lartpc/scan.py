"""What pitch, noise and drift length of a read-out do to the charge that is seen."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.detectors.lartpc.readout.designs import Design
    from firstlight.detectors.lartpc.track import Track
    from firstlight.run.progress import Progress

__all__ = ["changed_design", "scan_design"]


def changed_design(design: Design, pitch: float | None = None, noise: float | None = None) -> Design:
    """Return a design with another pitch [m] and noise [electrons] of what collects the charge.

    Coarse cells are made a whole number of pixels, as near to their size as possible.
    """
    part = "pixels" if design.pixels is not None else "anode_grid"
    changes: dict[str, Any] = {}
    if noise is not None:
        changes[f"{part}.noise"] = noise
    if pitch is None:
        return design.with_changes(changes)
    changes[f"{part}.pitch"] = pitch
    stage = "coarse_grids" if design.coarse_grids is not None else "coarse_tiles"
    if design.coarse is not None:
        for name in ("pitch", "gap"):
            length = getattr(design.coarse, name)
            changes[f"{stage}.{name}"] = max(round(length / pitch), 1) * pitch
    return design.with_changes(changes)


def scan_design(
    tracks: Sequence[Track],
    design: Design,
    medium: Medium,
    *,
    pitches: Sequence[float] = (),
    noises: Sequence[float] = (),
    depths: Sequence[float] = (),
    seed: int = 1,
    naive: bool = True,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Read the same tracks with every combination of pitch, noise and depth.

    Parameters
    ----------
    tracks : sequence of Track
        Read at every point.
    design : Design
        Read-out; what is not scanned is as it has it.
    medium : Medium
        What electrons drift through.
    pitches : sequence of float
        Of pixels, or collecting wires [m].
    noises : sequence of float
        Of a sample [electrons].
    depths : sequence of float
        Drift lengths [m]; 0.175 if there is none.
    seed : int
        Of all random numbers.
    naive : bool
        All charge drifts the depth; otherwise the box around each track comes on top.
    progress : Progress, optional
        Where progress is shown.

    Returns
    -------
    polars.DataFrame
        A row for each combination: ``pitch`` [mm], ``noise`` [electrons], ``depth`` [m], ``n_tracks``, ``arrived``, the share
        of freed charge that arrives; ``seen``, the share of that in samples above threshold, before noise; ``samples``,
        samples above threshold per track; ``_error`` the standard error of each mean over the tracks, null for one track.

    Raises
    ------
    InputError
        If there is no track with charge.
    """
    import polars as pl

    from firstlight.detectors.lartpc.readout.step import drift_and_read
    from firstlight.run.progress import silent

    charged = [track for track in tracks if track.charge]
    if not charged:
        what = "no track with charge to read"
        raise InputError(what)
    collecting = design.collecting
    points = list(
        itertools.product(pitches or (collecting.pitch,), noises or (collecting.noise,), depths or (0.175,))
    )
    rows: list[dict[str, Any]] = []
    with (progress or silent()).bar("scanning", len(points) * len(charged), "tracks") as advance:
        for pitch, noise, depth in points:
            own = changed_design(design, pitch, noise)
            found: list[tuple[float, float, float]] = []
            for track in charged:
                drifted, read = drift_and_read(track, own, medium, depth=depth, seed=seed, naive=naive)
                samples = read.collected
                seen = float(samples.charge_true[samples.triggered].sum() / max(drifted.charge, 1))
                found.append((drifted.charge / track.charge, seen, float(read.n_triggered)))
                advance(1, track.name)
            rows.append(
                {"pitch": 1e3 * pitch, "noise": noise, "depth": depth, "n_tracks": len(charged)}
                | _means(found)
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def _means(found: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    values = np.array(found)
    row: dict[str, Any] = {}
    for name, column in zip(("arrived", "seen", "samples"), values.T, strict=True):
        row[name] = float(column.mean())
        spread = float(column.std(ddof=1)) if column.size > 1 else None
        row[f"{name}_error"] = None if spread is None else spread / np.sqrt(column.size)
    return row
