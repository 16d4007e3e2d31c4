"""Sixty-four scintillator bars, eight by eight: the worked example of a detector of your own.

This file says what the detector consists of, and nothing else. Each part is named as "module:attribute" and
imported when it is needed, so that `firstlight --help` stays fast however heavy the parts are.
"""

from __future__ import annotations

from firstlight.detector import Detector

detector = Detector(
    name="bars",
    title="Scintillator bars, 8 x 8",
    maturity="new",
    options="bars.chain:Options",
    sources="bars.source:SOURCES",
    plan="bars.chain:plan",
    chain="bars.chain:CHAIN",
    checks="bars.judge:checks",
    summary="bars.judge:summary",
    figures="bars.judge:figures",
    simulate="bars.simulate:simulate",
    documentation="Reads the CSV files of the bar array: `firstlight bars process FOLDER`.",
)
