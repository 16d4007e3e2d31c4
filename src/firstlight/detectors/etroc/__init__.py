"""ETROC: timing chips, from words of the read-out to time resolution and threshold calibration."""

from __future__ import annotations

from firstlight.detector import Detector

_HERE = "firstlight.detectors.etroc"

detector = Detector(
    name="etroc",
    title="ETROC: timing chips for LGAD sensors, time resolution and charge injection",
    maturity="new",
    options=f"{_HERE}.options:Options",
    sources=f"{_HERE}.source:SOURCES",
    plan=f"{_HERE}.channels:plan",
    chain=f"{_HERE}.chain:CHAIN",
    checks=f"{_HERE}.checks:checks",
    summary=f"{_HERE}.checks:summary",
    figures=f"{_HERE}.views:figures",
    tables=f"{_HERE}.views:tables",
    simulate=f"{_HERE}.simulate:simulate",
    commands=f"{_HERE}.commands:commands",
    warm_up=f"{_HERE}.chain:warm_up",
    divide=f"{_HERE}.channels:divide",
)
