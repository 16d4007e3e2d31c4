"""Flux equations of a threshold scan: the physical ones of the core, and those of the original scripts.

The equations of the original are fitted in linear amplitudes and reported in the author's parameters: at
``f`` of some per cent the parameters ``f`` and ``A`` are correlated by -1.000, the amplitudes are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.velo.options import MODELS
from firstlight.errors import ConfigError
from firstlight.fit.model import Model, Parameter, get_model
from firstlight.fit.prototypes import curve_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["EQUATIONS", "Equation", "equation", "unbounded"]

_ROOT_PI = math.sqrt(math.pi)
_ROOT_2 = math.sqrt(2.0)
_ROOT_2PI = math.sqrt(2.0 * math.pi)


@curve_kernel
def _legacy(x, p, constants, value, derivative):  # type: ignore[no-untyped-def]
    """Linear part of width s and step of width s sqrt(2); constants[0] is 0 to leave out the exponential."""
    linear, step, width, position = p[0], p[1], p[2], p[3]
    term = constants[0]
    for i in range(x.size):
        u = (x[i] - position) / width
        v = u / _ROOT_2
        bell = math.exp(-u * u) / _ROOT_PI
        tail = math.erfc(u)
        bell_2 = math.exp(-v * v) / _ROOT_PI
        tail_2 = math.erfc(v)
        part = term * width * bell - u * width * tail
        value[i] = linear * part + step * tail_2
        derivative[0, i] = part
        derivative[1, i] = tail_2
        # with the exponential most terms cancel
        by_width = term * bell * (1.0 + 2.0 * u * u) - 2.0 * u * u * bell
        by_position = term * 2.0 * u * bell + tail - 2.0 * u * bell
        derivative[2, i] = linear * by_width + step * 2.0 * v * bell_2 / width
        derivative[3, i] = linear * by_position + step * _ROOT_2 * bell_2 / width


@curve_kernel
def _legacy_two_widths(x, p, constants, value, derivative):  # type: ignore[no-untyped-def]
    """As `_legacy` with a width of its own for the step."""
    linear, step, width, width_2, position = p[0], p[1], p[2], p[3], p[4]
    term = constants[0]
    for i in range(x.size):
        u = (x[i] - position) / width
        v = (x[i] - position) / (width_2 * _ROOT_2)
        bell = math.exp(-u * u) / _ROOT_PI
        tail = math.erfc(u)
        bell_2 = math.exp(-v * v) / _ROOT_PI
        tail_2 = math.erfc(v)
        part = term * width * bell - u * width * tail
        value[i] = linear * part + step * tail_2
        derivative[0, i] = part
        derivative[1, i] = tail_2
        derivative[2, i] = linear * (term * bell * (1.0 + 2.0 * u * u) - 2.0 * u * u * bell)
        derivative[3, i] = step * 2.0 * v * bell_2 / width_2
        by_position = term * 2.0 * u * bell + tail - 2.0 * u * bell
        derivative[4, i] = linear * by_position + step * _ROOT_2 * bell_2 / width_2


@curve_kernel
def _timepix(x, p, constants, value, derivative):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Gaussian peak and a shelf below it: a differential spectrum."""
    peak, shelf, width, position = p[0], p[1], p[2], p[3]
    for i in range(x.size):
        w = (x[i] - position) / width
        bell = math.exp(-0.5 * w * w)
        tail = math.erfc(w / _ROOT_2)
        value[i] = peak * bell + shelf * tail
        derivative[0, i] = bell
        derivative[1, i] = tail
        slope = peak * w + shelf * 2.0 / _ROOT_2PI
        derivative[2, i] = slope * w * bell / width
        derivative[3, i] = slope * bell / width


_AMPLITUDES = (
    Parameter("linear", "slope below the peak, halved", "y/x", lower=0.0),
    Parameter("step_half", "half of the height of the step", "y", lower=0.0),
)
_POSITION = Parameter("position", "position of the peak", "x")
_WIDTHS = (Parameter("width", "width of the linear part", "x", lower=1e-3),)
_TWO_WIDTHS = (*_WIDTHS, Parameter("width_2", "width of the step", "x", lower=1e-3))
_SOURCE = "flux equations of the VELO calibration scripts (2024)"


def _model(name: str, kernel: Any, widths: tuple[Parameter, ...], *constants: float) -> Model:
    return Model(name, (*_AMPLITUDES, *widths, _POSITION), curve=kernel, constants=constants, source=_SOURCE)


LEGACY = {
    "legacy": _model("legacy", _legacy, _WIDTHS, 1.0),
    "legacy_no_term0": _model("legacy_no_term0", _legacy, _WIDTHS, 0.0),
    "legacy_two_widths": _model("legacy_two_widths", _legacy_two_widths, _TWO_WIDTHS, 1.0),
    "legacy_timepix": _model("legacy_timepix", _timepix, _WIDTHS, 0.0),
}


@dataclass(frozen=True)
class Equation:
    """A flux equation: what is fitted, and what is reported.

    Parameters
    ----------
    name : str
        As in a dataset file.
    fitted : str
        Name of the model that is fitted.
    reported : tuple of str
        The author's parameters in the author's order; the last one is the position.
    kind : {"same", "swapped", "fraction", "amplitudes", "halves"}
        How the reported parameters follow from the fitted ones: the same; the first two the other way round;
        ``f`` and ``A``; ``B = step_half sqrt(2 pi) s`` and ``A``; or ``B = step / (s sqrt(2 pi))`` and
        ``A = slope / 2``.
    """

    name: str
    fitted: str
    reported: tuple[str, ...]
    kind: str

    @property
    def model(self) -> Model:
        """The model that is fitted."""
        return LEGACY[self.fitted] if self.fitted in LEGACY else get_model(self.fitted)

    def starts(self, given: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return start values of the fitted parameters from those that are reported.

        Parameters
        ----------
        given : sequence of float, shape (n_parameters,)
            In the author's order.
        """
        if len(given) != len(self.reported):
            what = f"{len(given)} start values, the equation {self.name} has {len(self.reported)} parameters"
            raise ConfigError(what, where="fit.start", known=list(self.reported))
        first, second, *rest = (float(value) for value in given)
        # the width of the step: the last before the position
        width = rest[-2]
        if self.kind == "fraction":
            return np.array([first * second / 2, (1 - first) * second / (2 * _ROOT_2PI * width), *rest])
        if self.kind == "amplitudes":
            return np.array([second, first / (_ROOT_2PI * width), *rest])
        if self.kind == "halves":
            return np.array([first * width * _ROOT_2PI, 2 * second, *rest])
        if self.kind == "swapped":
            return np.array([second, first, *rest])
        return np.array([first, second, *rest])

    def report(
        self, values: NDArray[np.float64], covariance: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the reported parameters and their errors (delta method).

        Parameters
        ----------
        values : ndarray, shape (n, n_parameters)
            Fitted parameters.
        covariance : ndarray, shape (n, n_parameters, n_parameters)
            Of the fitted parameters.

        Returns
        -------
        values, errors : ndarray, shape (n, n_parameters)
        """
        new = np.array(values, dtype=np.float64)
        jacobian = np.zeros_like(covariance)
        jacobian[:] = np.eye(values.shape[1])
        if self.kind != "same":
            _TRANSFORMS[self.kind](values, new, jacobian)
        # a parameter without an error takes it from those that depend on it, and from no others
        unknown = ~np.isfinite(np.einsum("nii->ni", covariance))
        known = np.where(np.isfinite(covariance), covariance, 0.0)
        spread = np.einsum("nij,njk,nik->ni", jacobian, known, jacobian)
        lost = np.einsum("nij,nj->ni", np.abs(jacobian), unknown.astype(float)) > 0
        return new, np.where(lost, np.nan, np.sqrt(np.maximum(spread, 0.0)))


def _fraction(values: NDArray[Any], new: NDArray[Any], jacobian: NDArray[Any]) -> None:
    """Write ``f`` and ``A``: ``linear = f A / 2``, ``step_half = (1 - f) A / (2 sqrt(2 pi) s)``."""
    linear, step, width = values[:, 0], values[:, 1], values[:, -2]
    amplitude = 2 * linear + 2 * _ROOT_2PI * width * step
    fraction = 2 * linear / amplitude
    of_step = np.stack([np.full_like(linear, 2.0), 2 * _ROOT_2PI * width, 2 * _ROOT_2PI * step])
    places = (0, 1, values.shape[1] - 2)
    new[:, 0], new[:, 1] = fraction, amplitude
    jacobian[:, :2] = 0.0
    for place, change in zip(places, of_step, strict=True):
        jacobian[:, 1, place] = change
        jacobian[:, 0, place] = -fraction / amplitude * change
    jacobian[:, 0, 0] += 2 / amplitude


def _amplitudes(values: NDArray[Any], new: NDArray[Any], jacobian: NDArray[Any]) -> None:
    """Write ``B = step_half sqrt(2 pi) s`` and ``A = linear``."""
    linear, step, width = values[:, 0], values[:, 1], values[:, -2]
    new[:, 0], new[:, 1] = step * _ROOT_2PI * width, linear
    jacobian[:, :2] = 0.0
    jacobian[:, 0, 1] = _ROOT_2PI * width
    jacobian[:, 0, values.shape[1] - 2] = _ROOT_2PI * step
    jacobian[:, 1, 0] = 1.0


def _halves(values: NDArray[Any], new: NDArray[Any], jacobian: NDArray[Any]) -> None:
    """Write ``B = step / (s sqrt(2 pi))`` and ``A = slope / 2`` of step, slope, width."""
    step, slope, width = values[:, 0], values[:, 1], values[:, 2]
    new[:, 0], new[:, 1] = step / (width * _ROOT_2PI), slope / 2
    jacobian[:, :2] = 0.0
    jacobian[:, 0, 0] = 1 / (width * _ROOT_2PI)
    jacobian[:, 0, 2] = -step / (width**2 * _ROOT_2PI)
    jacobian[:, 1, 1] = 0.5


def _swapped(values: NDArray[Any], new: NDArray[Any], jacobian: NDArray[Any]) -> None:
    """Write the first two parameters the other way round."""
    new[:, 0], new[:, 1] = values[:, 1], values[:, 0]
    jacobian[:, :2] = 0.0
    jacobian[:, 0, 1] = jacobian[:, 1, 0] = 1.0


_TRANSFORMS = {
    "fraction": _fraction, "amplitudes": _amplitudes, "halves": _halves, "swapped": _swapped
}  # fmt: skip
# what is fitted for each equation of a dataset file, and how it is reported
_FITTED = {
    "physical": ("photopeak", "same"),
    "physical_background": ("photopeak_background", "same"),
    "two_line": ("photopeak_lines", "same"),
    "legacy": ("legacy", "fraction"),
    "legacy_no_term0": ("legacy_no_term0", "fraction"),
    "legacy_two_widths": ("legacy_two_widths", "fraction"),
    "legacy_ab": ("legacy", "amplitudes"),
    "legacy_ab_no_term0": ("legacy_no_term0", "amplitudes"),
    "legacy_two_widths_ab": ("legacy_two_widths", "amplitudes"),
    "legacy_4": ("photopeak", "halves"),
    "legacy_timepix": ("legacy_timepix", "swapped"),
}
EQUATIONS = {name: Equation(name, fitted, MODELS[name], kind) for name, (fitted, kind) in _FITTED.items()}


def equation(name: str) -> Equation:
    """Return a flux equation by name.

    Raises
    ------
    ConfigError
        If there is none of that name; names its nearest neighbours.
    """
    if name not in EQUATIONS:
        raise ConfigError.unknown("flux equation", name, list(EQUATIONS), where="fit.model")
    return EQUATIONS[name]


def unbounded(model: Model) -> dict[str, tuple[float, float]]:
    """Return bounds that bound nothing, for fits as the original makes them."""
    return dict.fromkeys(model.names, (-math.inf, math.inf))
