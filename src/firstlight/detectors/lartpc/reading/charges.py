"""Electrons of deposited energy, where a file has energies and no charges.

All models are deterministic: the same file gives the same charges. A generator with fluctuations is in the room of the
simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.recombination import RECOMBINATION, WORK_FUNCTION
from firstlight.detectors.lartpc.track import MOST_ELECTRONS
from firstlight.errors import ConfigError, InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DEPOSIT_MODELS",
    "ChargeModel",
    "Survival",
    "charge_model",
    "electrons",
    "expected_electrons",
    "whole_electrons",
]

_SHORTEST = 1e-6  # m

Survival = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]
"""Share of electrons that escape recombination, of dE/dx [MeV/cm]."""


@dataclass(frozen=True)
class ChargeModel:
    """How deposited energy becomes whole electrons.

    Parameters
    ----------
    name : str
        How records call it.
    work_function : float
        Energy per electron-ion pair [eV].
    surviving : float or Survival
        Share that escapes recombination: a number, or a function of dE/dx in MeV/cm (which needs step lengths, and was
        fitted to steps of 3 to 5 mm).
    cut_off_each_step : bool
        Whether the electrons of each step are cut down to a whole number, as in the original. That loses half an electron
        per step, and all of steps with less than one. Otherwise the fraction is carried to the next step and none is lost.
    """

    name: str
    work_function: float
    surviving: float | Survival
    cut_off_each_step: bool = False

    @property
    def electrons_per_keV(self) -> float:
        """Electrons per keV before any are cut off; nan where recombination depends on dE/dx."""
        return float("nan") if callable(self.surviving) else 1000.0 * self.surviving / self.work_function

    def to_meta(self) -> dict[str, Any]:
        """Return the model as plain values."""
        surviving = "function of dE/dx" if callable(self.surviving) else self.surviving
        return {
            "name": self.name,
            "work_function_eV": self.work_function,
            "surviving": surviving,
            "cut_off_each_step": self.cut_off_each_step,
        }


_CONSTANT_SHARE = RECOMBINATION["constant"].parameters[0]

DEPOSIT_MODELS = {
    # W of 22 eV times 0.8: what the tools had when the sample of 2025 was made
    "gampy": ChargeModel("gampy", 17.6, _CONSTANT_SHARE, cut_off_each_step=True),
    "constant": ChargeModel("constant", WORK_FUNCTION, _CONSTANT_SHARE),
}
"""Models by name: of deposits without steps, and without random numbers."""


def charge_model(model: str | ChargeModel | Survival) -> ChargeModel:
    """Return a charge model by its name, of a function of dE/dx (with W = 23.6 eV), or as it is.

    Raises
    ------
    ConfigError
        If there is no model of the name.
    """
    if isinstance(model, ChargeModel):
        return model
    if callable(model):
        return ChargeModel(str(getattr(model, "__name__", "function of dE/dx")), WORK_FUNCTION, model)
    if model not in DEPOSIT_MODELS:
        raise ConfigError.unknown("charge model", str(model), DEPOSIT_MODELS)
    return DEPOSIT_MODELS[model]


def electrons(
    energy: NDArray[np.floating[Any]], model: ChargeModel, length: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.int64]:
    """Return the whole electrons that escape recombination at each deposit; parameters and errors of `expected_electrons`."""
    return whole_electrons(expected_electrons(energy, model, length))


def expected_electrons(
    energy: NDArray[np.floating[Any]], model: ChargeModel, length: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.float64]:
    """Return the electrons that escape recombination at each deposit in the mean.

    Parameters
    ----------
    energy : ndarray, shape (n,)
        Deposited energies [keV], 0 or more.
    model : ChargeModel
        How. Where it cuts off each step, the numbers are whole.
    length : ndarray, shape (n,), optional
        Lengths of the steps [m]; models with a function of dE/dx need them. A step without length counts as one of 1 um.

    Returns
    -------
    ndarray of float64, shape (n,)
        Numbers of electrons.

    Raises
    ------
    UsageError
        If the model needs lengths and there are none, or the function gives shares outside 0 to 1.
    """
    deposits = np.asarray(energy, dtype=np.float64)
    surviving: float | NDArray[np.float64]
    if not callable(model.surviving):
        surviving = model.surviving
    elif length is None:
        what = f"the charge model {model.name!r} needs lengths of steps; these deposits have none"
        raise UsageError(what, hint="a model with a constant share, as 'constant'")
    else:
        surviving = _shares(deposits, np.asarray(length, dtype=np.float64), model.surviving, model.name)
    expected = deposits * 1000.0 / model.work_function * surviving
    return np.floor(expected) if model.cut_off_each_step else np.asarray(expected)


def _shares(
    energy: NDArray[np.float64], length: NDArray[np.float64], function: Survival, name: str
) -> NDArray[np.float64]:
    density = energy / np.maximum(length, _SHORTEST) * 1e-5  # keV/m in MeV/cm
    shares = np.asarray(function(density), dtype=np.float64)
    if shares.shape != energy.shape or not ((shares >= 0) & (shares <= 1)).all():
        what = f"the recombination of {name!r} gives shares that are not between 0 and 1, one for each step"
        raise UsageError(what)
    return shares


def whole_electrons(expected: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole numbers whose running sum stays within half an electron of that of `expected`.

    The fraction of each deposit is carried to the next one in the order of the file, so that nothing is lost in total and
    no random numbers are needed.

    Parameters
    ----------
    expected : ndarray of float64, shape (n,)
        Numbers of electrons, 0 or more.

    Raises
    ------
    InputError
        If there are more than any event in argon has (`MOST_ELECTRONS`).
    """
    total = float(np.sum(expected))
    if not total <= MOST_ELECTRONS:
        what = f"deposits of {total:.4g} electrons: no event in argon has more than {MOST_ELECTRONS:.0e}"
        raise InputError(what)
    running = np.floor(np.cumsum(expected) + 0.5).astype(np.int64)
    return np.diff(running, prepend=np.int64(0))
