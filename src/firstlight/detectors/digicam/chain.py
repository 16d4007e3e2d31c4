"""The chain of a DigiCam run, and the compilation of its kernels."""

from __future__ import annotations

from firstlight.detectors.digicam.calibration import calibration
from firstlight.detectors.digicam.continuous_light import dc
from firstlight.detectors.digicam.counting import events, pulses, samples
from firstlight.detectors.digicam.flashes import continuous, light
from firstlight.detectors.digicam.light_curve import led
from firstlight.detectors.digicam.light_fits import gain, levels
from firstlight.detectors.digicam.spectra import dark, hv_off, spe
from firstlight.detectors.digicam.timing import template, timing

__all__ = ["CHAIN", "warm_up"]

CHAIN = (
    events,
    samples,
    pulses,
    light,
    continuous,
    hv_off,
    dark,
    spe,
    timing,
    template,
    gain,
    levels,
    led,
    calibration,
    dc,
)


def warm_up() -> None:
    """Compile the kernels of waveforms and of the fits."""
    import numpy as np

    from firstlight.detectors.digicam import kernels
    from firstlight.detectors.digicam.spectra import dark_model
    from firstlight.fit import fit_many

    traces = np.full((1, 1, 12), 284, dtype=np.uint16)
    zero, rows = np.zeros(1, dtype=np.int32), np.zeros((1, 16), dtype=np.uint32)
    kernels.count_samples(traces, zero, 0, rows, np.empty(12, dtype=np.int32))
    kernels.count_residuals(traces, np.zeros((1, 1), dtype=np.float32), 0, -32.0, 4.0, rows[0])
    kernels.add_waveforms(traces, zero, np.zeros((1, 12), dtype=np.int64))
    charge, peak = np.zeros((1, 1), dtype=np.int32), np.zeros((1, 1), dtype=np.int32)
    kernels.measure_flashes(traces, zero, zero, kernels.FIXED_MAX, 7, 3, 1, 2000.0, charge, peak)
    beyond = np.zeros((1, 2), dtype=np.int64)
    kernels.count_charges(charge, 0, rows, beyond)
    kernels.find_pulses(traces, zero, 2.0, 7, 3, 0, rows, rows.copy(), beyond, beyond.copy())
    x = np.arange(-8.0, 24.0)
    counts = np.rint(1000 * np.exp(-0.5 * ((x[:-1] + 0.5) / 1.5) ** 2))[None]
    total = float(counts.sum())
    for model in ("generalised_poisson", dark_model()):
        fit_many(counts, x, model, edges=True, exposure=total, rescue=False)
