"""DigiCam: the SiPM camera of SST-1M, from raw waveforms to gain, crosstalk, dark rate and light yield of 1,296 pixels.

The folder, in the order in which data go through it:

- `readout/`, `source`: zfits, files of digicamtoy and plain arrays to waveforms
- `camera`, `light_source`, `channels`: where pixels are, what lights them
- `conditions`: what each file was taken with, and where its signal is
- `kernels`, `counting`, `flashes`: waveforms to counts
- `spectra`, `light_fits`, `light_curve`, `timing`, `continuous_light`, `calibration`: counts to constants
- `simulation/`, `simulate`, `pulse`: files with known truth
- `scene`, `overview`, `checks`, `views/`: the run by pixel, its numbers, verdicts and pictures
- `commands`, `steering`, `legacy/`: verbs, options and files of the original scripts
"""

from __future__ import annotations

from firstlight.detector import Detector

_HERE = "firstlight.detectors.digicam"

detector = Detector(
    name="digicam",
    title="DigiCam: gain, crosstalk, dark rate and light yield of a camera of 1,296 SiPM pixels",
    maturity="new",
    options=f"{_HERE}.options:Options",
    sources=f"{_HERE}.source:SOURCES",
    plan=f"{_HERE}.conditions:plan",
    chain=f"{_HERE}.chain:CHAIN",
    checks=f"{_HERE}.checks:checks",
    summary=f"{_HERE}.checks:summary",
    figures=f"{_HERE}.views:figures",
    tables=f"{_HERE}.views:tables",
    exports=f"{_HERE}.legacy:exports",
    simulate=f"{_HERE}.simulate:simulate",
    demo={
        "n_events": {"hv_off": 60, "dark": 150, "led": 160, "dc": 30},
        "levels": (0, 200, 280, 350),
        "dc_levels": (290, 330),
    },
    commands=f"{_HERE}.commands:commands",
    warm_up=f"{_HERE}.chain:warm_up",
)
