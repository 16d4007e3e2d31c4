"""LArTPC: electrons and photons in liquid argon, from freed charge through drift and read-out to what an event is.

The folder, in the order in which data go through it:

- `track`: the values that flow, a track and its truth
- `reading/`, `tables`, `source`: files of every form to tracks, and a tree of them to tables
- `medium`, `recombination`, `drift`: liquid argon, and electrons on their way to the anode
- `readout/`: pixels, tiles, wires, waveforms; noise and thresholds
- `features/`, `quest`, `separation`: shapes to beautiful and ugly events, electrons apart from photons
- `options`, `channels`, `inventory`, `ranking`, `chain`, `checks`, `summary`: the run of a folder, its numbers and verdicts
- `scan`: what pitch, noise and drift length do
- `simulation/`, `simulate`: transport of electrons, positrons and photons; folders of tracks with known truth
- `views/`: pictures in three dimensions, sheets, comparisons, pages that turn
- `tracks_tools`, `tracks_samples`, `parameters`: the class `Tracks` of the original tutorial, with its names and keys
- `commands*`: verbs
"""

from __future__ import annotations

from typing import Any

from firstlight.detector import Detector

__all__ = ["Tracks", "detector"]

_HERE = "firstlight.detectors.lartpc"

detector = Detector(
    name="lartpc",
    title="LArTPC: electron and photon tracks in liquid argon, drift, read-out, shapes",
    maturity="new",
    options=f"{_HERE}.options:Options",
    sources=f"{_HERE}.source:SOURCES",
    plan=f"{_HERE}.source:plan",
    chain=f"{_HERE}.chain:CHAIN",
    checks=f"{_HERE}.checks:checks",
    summary=f"{_HERE}.summary:summary",
    figures=f"{_HERE}.views.report:figures",
    tables=f"{_HERE}.views.report:tables",
    simulate=f"{_HERE}.simulate:simulate",
    demo={"n_tracks": 16, "energies": (1.0, 5.0, 10.0, 20.0)},
    commands=f"{_HERE}.commands:commands",
    warm_up=f"{_HERE}.chain:warm_up",
)


def __getattr__(name: str) -> Any:
    if name == "Tracks":
        from firstlight.detectors.lartpc.tracks_tools import Tracks

        return Tracks
    what = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(what)
