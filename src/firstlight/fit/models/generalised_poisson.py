"""The charge spectrum of a photon counter with crosstalk: generalised Poisson peaks, each normal.

A flash makes mu primary avalanches on average (Poisson); each avalanche starts l further ones on average, and these do
the same (Borel). The number n of avalanches follows ::

    P(n) = mu (mu + n l)^(n - 1) exp(-mu - n l) / n!        mean mu / (1 - l), variance mu / (1 - l)^3

Peak n stands at ``baseline + n gain`` and has the variance ``electronics_noise^2 + n gain_smearing^2``.

The model is a density over all charges: it needs the number of entries of the histogram as exposure, those outside of its
range included. The fit is then that of multinomial counts. `generalised_poisson_area` has the number of entries as a
parameter: where all charges are in the histogram it gives the same values and errors, and only its p-values count that this
number is not free to vary. It is the one to take for p-values, and where a part of the range is masked.

What fits of a camera need:

- ``edges=True``: peaks are hardly wider than bins.
- ``shift`` with known pedestals, for the summed curve from which fits that did not end well are tried again.
- ``bounds={"gain": (low, high)}`` where there are pixels without light: a fit of a pedestal that is not quite normal finds a
  gain of next to nothing.
- For light that leaves nothing in the pedestal (from 8 photo-electrons on) baseline and electronics noise from the dark, and
  gain and smearing from less light where peaks cannot be seen any more: without them several places of the pedestal fit
  equally well.
"""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

from typing import TYPE_CHECKING

from firstlight.fit.model import Model, Parameter
from firstlight.fit.models.avalanche_starts import spectrum_start
from firstlight.fit.models.avalanches import fill_spectrum
from firstlight.fit.prototypes import curve_kernel, quiet_kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["generalised_poisson", "generalised_poisson_area"]


@quiet_kernel
def _scale(area: float, value: FloatArray, derivative: FloatArray) -> None:
    """Multiply a density and its derivatives, and fill the one by the area."""
    for i in range(value.size):
        derivative[6, i] = value[i]
        value[i] *= area
    for a in range(6):
        for i in range(value.size):
            derivative[a, i] *= area


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    fill_spectrum(x, p, False, value, derivative)


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    fill_spectrum(x, p, True, value, derivative)


@curve_kernel
def _curve_area(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    fill_spectrum(x, p, False, value, derivative)
    _scale(p[6], value, derivative)


@curve_kernel
def _integral_area(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    fill_spectrum(x, p, True, value, derivative)
    _scale(p[6], value, derivative)


_PARAMETERS = (
    Parameter("photo_electrons", "mean number of avalanches that light starts", "", 0.0),
    Parameter("crosstalk", "mean number of avalanches that an avalanche starts", "", 0.0, 0.9, weak=True),
    Parameter("baseline", "centre of the peak without avalanches", "x"),
    Parameter("gain", "distance of neighbouring peaks", "x", 0.0, weak=True),
    Parameter("electronics_noise", "standard deviation of the peak without avalanches", "x", 0.0),
    Parameter(
        "gain_smearing", "standard deviation that each avalanche adds in quadrature", "x", 0.0, weak=True
    ),
)
_FORMULA = (
    "sum over n of P(n) / width_n phi((x - baseline - n gain) / width_n), "
    "P(n) = mu (mu + n l)^(n - 1) exp(-mu - n l) / n!, mu = photo_electrons, l = crosstalk, "
    "width_n^2 = electronics_noise^2 + n gain_smearing^2"
)
_SOURCE = (
    "P. C. Consul, G. C. Jain, Technometrics 15 (1973) 791; "
    "S. Vinogradov, Nucl. Instrum. Meth. A 695 (2012) 247 for photon counters"
)

generalised_poisson = Model(
    "generalised_poisson",
    _PARAMETERS,
    curve=_curve,
    integral=_integral,
    start=spectrum_start,
    formula=_FORMULA,
    source=_SOURCE,
)

generalised_poisson_area = Model(
    "generalised_poisson_area",
    (*_PARAMETERS, Parameter("area", "number of entries, also those outside of the range", "y x", 0.0)),
    curve=_curve_area,
    integral=_integral_area,
    start=spectrum_start,
    formula=f"area times {_FORMULA}",
    source=_SOURCE,
)
