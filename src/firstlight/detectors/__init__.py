"""The detectors that come with the package, found by name and imported when they are asked for."""

from __future__ import annotations

BUILT_IN = {
    "spinquest": "firstlight.detectors.spinquest:detector",
}

# for the help text, which imports nothing
TITLES = {
    "spinquest": "Drift chambers, hodoscopes, proportional tubes: occupancies, verdicts, event displays.",
}
