"""ETROC: timing chips, from words of the read-out to time resolution and threshold calibration.

Where things are, in the order in which data flow:

- `readout`: the formats, one module each, and the words that they share; `source` recognises a file.
- `ingest`: files to hits, packets and counters; `channels` says what boards, pixels and runs there are.
- `steps` and ``*_step``: what the chain of `chain` does, over modules of plain functions (`events`, `cuts`, `times`,
  `timewalk`, `resolution`, `likelihood`; `injection`, `injection_lines`); ``*_kernels`` hold their compiled loops.
- `checks` and `views`: verdicts, pictures, pages.
- `stepwise` and `commands`: the steps one by one, on a run directory.
- `legacy`, with `commands_original`, ``original_*`` and `import_original`: the original's files, options and directories.
- `simulate` and `simulation`: runs of any format with known truth.
"""

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
    demo={"n_files": 3, "cal_slope": 3.0, "faults": {"cut_line": 250, "large_code": 50}},
    commands=f"{_HERE}.commands:commands",
    warm_up=f"{_HERE}.chain:warm_up",
    divide=f"{_HERE}.channels:divide",
)
