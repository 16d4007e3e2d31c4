"""SpinQuest: drift chambers, hodoscopes and proportional tubes, from ROOT files to occupancies and verdicts."""

from __future__ import annotations

from firstlight.detector import Detector

_HERE = "firstlight.detectors.spinquest"

detector = Detector(
    name="spinquest",
    title="SpinQuest: drift chambers, hodoscopes, proportional tubes",
    maturity="tried",
    options=f"{_HERE}.options:Options",
    sources=f"{_HERE}.source:SOURCES",
    plan=f"{_HERE}.options:plan",
    chain=f"{_HERE}.steps:CHAIN",
    checks=f"{_HERE}.checks:checks",
    summary=f"{_HERE}.checks:summary",
    figures=f"{_HERE}.views:figures",
    tables=f"{_HERE}.views:tables",
    exports=f"{_HERE}.legacy:exports",
    simulate=f"{_HERE}.simulate:simulate",
    commands=f"{_HERE}.commands:commands",
    warm_up=f"{_HERE}.source:warm_up",
)
