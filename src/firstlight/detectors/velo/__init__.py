"""VELO: threshold scans of VeloPix chips with a source, from frames to target and gain of every pixel."""

from __future__ import annotations

from firstlight.detector import Detector

_HERE = "firstlight.detectors.velo"

detector = Detector(
    name="velo",
    title="VELO: VeloPix threshold scans, target and gain of 65,536 pixels",
    maturity="new",
    options=f"{_HERE}.options:Options",
    sources=f"{_HERE}.source:SOURCES",
    plan=f"{_HERE}.channels:plan",
    chain=f"{_HERE}.chain:CHAIN",
    checks=f"{_HERE}.checks:checks",
    summary=f"{_HERE}.checks:summary",
    figures=f"{_HERE}.views:figures",
    tables=f"{_HERE}.views:tables",
    exports=f"{_HERE}.legacy:exports",
    simulate=f"{_HERE}.simulate:simulate",
    commands=f"{_HERE}.commands:commands",
    warm_up=f"{_HERE}.chain:warm_up",
    divide=f"{_HERE}.channels:divide",
)
