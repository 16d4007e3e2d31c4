"""The headline numbers of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.lartpc.tables import READ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firstlight.steps.step import Context

__all__ = ["summary"]

_LEAST = 0.01  # score of a winner that is told


def summary(products: Mapping[str, Any], _: Context) -> list[dict[str, Any]]:
    """Return the headline numbers: tracks, charge, read-out, separation, and who won the Quest."""
    parts = (_tracks, _readout, _separation, _quest)
    return [row for part in parts for row in part(products)]


def _row(label: str, value: Any, unit: str = "") -> dict[str, Any]:
    return {"label": label, "value": value, "unit": unit}


def _tracks(products: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "tracks/tracks" not in products:
        return
    frame = products["tracks/tracks"].frame
    good = frame.filter(status=READ)
    yield _row("tracks", good.height, f"of {frame.height}")
    for particle in ("electron", "positron", "photon"):
        own = good.filter(particle=particle)
        if own.height:
            energies = own["energy"].drop_nulls().unique().sort() / 1000
            span = f"{energies[0]:g} to {energies[-1]:g} MeV" if len(energies) > 1 else f"{energies[0]:g} MeV"
            yield _row(f"{particle}s", own.height, span if len(energies) else "")
    scale = good.filter(pl.col("energy") >= 1000)["charge_per_energy"].drop_nulls()
    if len(scale):
        yield _row(
            "charge per energy, median", round(float(np.median(scale)), 2), "electrons/keV from 1 MeV on"
        )


def _readout(products: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "readout/tracks" not in products:
        return
    frame = products["readout/tracks"].frame
    charge, survivors = int(frame["num_e"].sum()), int(frame["survivors"].sum())
    if not charge or not frame.height:
        return
    depth = float(frame["depth"][0])
    yield _row(
        "electrons that arrive",
        round(survivors / charge, 4),
        f"of those freed, after {depth:g} m",
    )
    triggered = int(frame["triggered_true"].sum())
    design = frame["design"][0]
    yield _row(
        f"charge above threshold in {design}", round(triggered / max(survivors, 1), 4), "of what arrives"
    )
    yield _row("hits per track, median", round(float(frame["n_triggered"].median() or 0.0), 1))


def _separation(products: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "separation/areas" not in products:
        return
    frame = products["separation/areas"].frame.filter(score="all").sort("energy", "stage")
    for row in frame.iter_rows(named=True):
        yield _row(
            f"electrons from photons, {row['energy'] / 1000:g} MeV, {row['stage']}",
            f"{row['area']:.3f} ± {row['error']:.3f}",
            f"area under the curve, {row['n_electrons']} + {row['n_photons']} tracks",
        )


def _quest(products: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    from firstlight.detectors.lartpc.quest import CATEGORIES

    if "quest/ranking" not in products:
        return
    # a score near 0 is no find, only the best of what there is
    found = products["quest/ranking"].frame.filter(rank=1, by="observable").filter(pl.col("score") >= _LEAST)
    for row in found.iter_rows(named=True):
        yield _row(CATEGORIES[row["category"]].title.lower(), row["track"], f"score {row['score']:.2f}")
