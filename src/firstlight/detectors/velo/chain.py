"""The chain of a VELO run, and the compilation of its kernels."""

from __future__ import annotations

from firstlight.detectors.velo.baseline import baseline
from firstlight.detectors.velo.calibration import calibration
from firstlight.detectors.velo.fitting import fit
from firstlight.detectors.velo.noise_scan import noise
from firstlight.detectors.velo.scan import scan

__all__ = ["CHAIN", "warm_up"]

CHAIN = (noise, scan, baseline, fit, calibration)


def warm_up() -> None:
    """Compile the kernels of the frames and of the fits."""
    import numpy as np

    from firstlight.detectors.velo import models
    from firstlight.detectors.velo.frames import warm_up as warm_up_frames
    from firstlight.detectors.velo.noise import warm_up as warm_up_noise
    from firstlight.fit import fit_many

    warm_up_frames()
    warm_up_noise()
    x = np.arange(12.0)
    for name in ("photopeak", "photopeak_background", *models.LEGACY):
        model = models.LEGACY.get(name, name)
        start = None if isinstance(model, str) else np.array([1.0, 1.0, 2.0, 6.0, 6.0][: len(model)])
        fit_many(np.full((2, 12), 3), x, model, start=start, rescue=False)
