"""firstlight takes a particle detector from its first raw files to constants, verdicts and pictures.

What to use when:

- `process` runs a detector's default chain on files or folders and returns the run;
- `open_run` opens a run directory as a mapping of products;
- `get_detector` and `detector_names` find detectors, built in or of other packages;
- built-in detectors are attributes of this package, by name;
- the steps of `firstlight.steps` and of each detector are plain functions on arrays and tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from firstlight.detector import Detector, detector_names, get_detector
    from firstlight.face import process
    from firstlight.run.store import Run, open_run

__all__ = ["Detector", "Run", "__version__", "detector_names", "get_detector", "open_run", "process"]

_PLACES = {
    "Detector": "firstlight.detector",
    "Run": "firstlight.run.store",
    "detector_names": "firstlight.detector",
    "get_detector": "firstlight.detector",
    "open_run": "firstlight.run.store",
    "process": "firstlight.face",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    from firstlight.detectors import BUILT_IN

    if name in BUILT_IN:
        return importlib.import_module(f"firstlight.detectors.{name}")
    what = f"module 'firstlight' has no attribute {name!r}"
    raise AttributeError(what)


def __dir__() -> list[str]:
    return sorted(__all__)
