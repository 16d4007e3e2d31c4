"""Fits of many small curves: one engine, models with analytic derivatives, errors, and honest statuses.

What to use when:

- `fit_many` fits the same model to the data of each channel;
- `scalar` fits one curve with MINUIT;
- `get_model` and `model_names` find models, `user_model` makes one of a function;
- `profile_intervals` and `bootstrap` give intervals where standard errors are not enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firstlight.fit.intervals import bootstrap, profile_intervals
    from firstlight.fit.many import fit_many
    from firstlight.fit.model import Model, Parameter, get_model, model_names
    from firstlight.fit.result import FitResult, Rung, Status
    from firstlight.fit.single import scalar
    from firstlight.fit.user import user_model

__all__ = [
    "FitResult", "Model", "Parameter", "Rung", "Status", "bootstrap", "fit_many", "get_model", "model_names",
    "profile_intervals", "scalar", "user_model",
]  # fmt: skip

_PLACES = {
    "FitResult": "firstlight.fit.result",
    "Model": "firstlight.fit.model",
    "Parameter": "firstlight.fit.model",
    "Rung": "firstlight.fit.result",
    "Status": "firstlight.fit.result",
    "bootstrap": "firstlight.fit.intervals",
    "fit_many": "firstlight.fit.many",
    "get_model": "firstlight.fit.model",
    "model_names": "firstlight.fit.model",
    "profile_intervals": "firstlight.fit.intervals",
    "scalar": "firstlight.fit.single",
    "user_model": "firstlight.fit.user",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    what = f"module 'firstlight.fit' has no attribute {name!r}"
    raise AttributeError(what)


def __dir__() -> list[str]:
    return sorted(__all__)
