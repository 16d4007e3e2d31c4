"""Models as values: parameters, kernels, and the register in which they are found by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Model", "Parameter", "get_model", "model_names", "register"]

_INFINITY = float("inf")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model.

    Parameters
    ----------
    name : str
        Spelled out.
    description : str
        What it is.
    unit : str
        In terms of ``x`` and ``y``, the units of the data: ``"y"``, ``"x"``, ``"y/x"``, ``""``.
    lower, upper : float
        Default bounds.
    weak : bool
        Whether it may be fixed to the value of the summed curve where the data of a channel cannot tell it.
    """

    name: str
    description: str
    unit: str = ""
    lower: float = -_INFINITY
    upper: float = _INFINITY
    weak: bool = False


@dataclass(frozen=True)
class Model:
    """A curve with parameters.

    Parameters
    ----------
    name : str
        Under which it is found.
    parameters : tuple of Parameter
        In the order of the kernels.
    curve : kernel
        Value and derivatives at points (`prototypes.CURVE`); None where only `scalar` is given.
    integral : kernel, optional
        The same for integrals over bins; it is given the edges.
    scalar : kernel, optional
        ``function(x, p)`` of the user (`prototypes.SCALAR`); derivatives are numeric.
    start : kernel, optional
        Start values from the data (`prototypes.START`).
    constants : tuple of float
        Numbers that the kernels need and that are not fitted.
    kind : {"rate", "probability"}
        Whether the value is a rate (or a number) or a probability between 0 and 1.
    formula : str
        For people.
    source : str
        Where the formula comes from.
    """

    name: str
    parameters: tuple[Parameter, ...]
    curve: Any = None
    integral: Any = None
    scalar: Any = None
    start: Any = None
    constants: tuple[float, ...] = ()
    kind: Literal["rate", "probability"] = "rate"
    formula: str = ""
    source: str = field(default="", repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the parameters in order."""
        return [parameter.name for parameter in self.parameters]

    def __len__(self) -> int:
        return len(self.parameters)

    def index(self, name: str) -> int:
        """Return the position of a parameter.

        Raises
        ------
        UsageError
            If there is none of that name; names its nearest neighbours.
        """
        if name not in self.names:
            raise UsageError.unknown("parameter", name, self.names, where=f"model {self.name}")
        return self.names.index(name)

    def with_constants(self, constants: Sequence[float]) -> Model:
        """Return the model with other constants."""
        return replace(self, constants=tuple(float(value) for value in constants))


# a model is imported with its kernels when it is asked for
_PLACES: dict[str, str] = {
    "compound_poisson": "firstlight.fit.models.compound_poisson:compound_poisson",
    "erfc_threshold": "firstlight.fit.models.erfc_threshold:erfc_threshold",
    "exponential": "firstlight.fit.models.exponential:exponential",
    "gaussian": "firstlight.fit.models.gaussian:gaussian",
    "gaussian_background": "firstlight.fit.models.gaussian:gaussian_background",
    "gaussian_comb2": "firstlight.fit.models.comb:gaussian_comb2",
    "gaussian_comb3": "firstlight.fit.models.comb:gaussian_comb3",
    "gaussian_comb4": "firstlight.fit.models.comb:gaussian_comb4",
    "gaussian_comb5": "firstlight.fit.models.comb:gaussian_comb5",
    "gaussian_comb6": "firstlight.fit.models.comb:gaussian_comb6",
    "gaussian_comb7": "firstlight.fit.models.comb:gaussian_comb7",
    "gaussian_comb8": "firstlight.fit.models.comb:gaussian_comb8",
    "generalised_poisson": "firstlight.fit.models.generalised_poisson:generalised_poisson",
    "generalised_poisson_area": "firstlight.fit.models.generalised_poisson:generalised_poisson_area",
    "photopeak": "firstlight.fit.models.photopeak:photopeak",
    "photopeak_background": "firstlight.fit.models.photopeak:photopeak_background",
    "photopeak_lines": "firstlight.fit.models.photopeak_lines:photopeak_lines",
    "polynomial1": "firstlight.fit.models.polynomial:polynomial1",
    "polynomial2": "firstlight.fit.models.polynomial:polynomial2",
    "polynomial3": "firstlight.fit.models.polynomial:polynomial3",
    "polynomial4": "firstlight.fit.models.polynomial:polynomial4",
    "polynomial5": "firstlight.fit.models.polynomial:polynomial5",
    "s_curve": "firstlight.fit.models.s_curve:s_curve",
    "s_curve_falling": "firstlight.fit.models.s_curve:s_curve_falling",
    "s_curve_floor": "firstlight.fit.models.s_curve:s_curve_floor",
    "s_curve_floor_falling": "firstlight.fit.models.s_curve:s_curve_floor_falling",
}


def register(name: str, place: str) -> None:
    """Make a model known under a name.

    Parameters
    ----------
    name : str
        One word.
    place : str
        ``"module:attribute"``, imported when the model is asked for.

    Raises
    ------
    UsageError
        If another model has that name.
    """
    if _PLACES.setdefault(name, place) != place:
        what = f"there is a model {name!r} already: {_PLACES[name]}"
        raise UsageError(what)


def model_names() -> list[str]:
    """Return the names of all models."""
    return sorted(_PLACES)


def get_model(name: str | Model) -> Model:
    """Return a model by name; a model is returned as it is.

    Raises
    ------
    UsageError
        If there is none of that name; names its nearest neighbours.
    """
    if isinstance(name, Model):
        return name
    if name not in _PLACES:
        raise UsageError.unknown("model", name, model_names())
    module, _, attribute = _PLACES[name].partition(":")
    found: Model = getattr(importlib.import_module(module), attribute)
    return found
