"""The detectors that come with the package, found by name and imported when they are asked for."""

from __future__ import annotations

BUILT_IN = {
    "spinquest": "firstlight.detectors.spinquest:detector",
    "etroc": "firstlight.detectors.etroc:detector",
    "velo": "firstlight.detectors.velo:detector",
    "lartpc": "firstlight.detectors.lartpc:detector",
    "digicam": "firstlight.detectors.digicam:detector",
}

# for the help text, which imports nothing
TITLES = {
    "spinquest": "Drift chambers, hodoscopes, proportional tubes: occupancies, verdicts, event displays.",
    "etroc": "Timing chips: time resolution of a telescope, charge injection, decoding of every read-out.",
    "velo": "VeloPix threshold scans with a source: target and gain of every pixel.",
    "lartpc": "Electrons and photons in liquid argon: drift, read-out, 3-D views, beautiful and ugly events.",
    "digicam": "SiPM camera: gain, crosstalk, dark rate and light yield of every pixel.",
}
