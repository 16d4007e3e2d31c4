"""Models of one's own: a plain Python function of x and the parameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.errors import UsageError
from firstlight.fit.model import Model, Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["user_model"]

Numbers = Mapping[str, float] | Sequence[float]
Function = Callable[..., Any]


def user_model(
    function: Function,
    parameters: Sequence[str | Parameter],
    *,
    lower: Numbers | None = None,
    upper: Numbers | None = None,
    start: Numbers | Function | None = None,
    name: str | None = None,
    kind: Literal["rate", "probability"] = "rate",
) -> Model:
    """Return a model from a function.

    The function is compiled; one that stands in a file is compiled once, and its machine code is kept beside the file. It
    is compiled again when that file changes, not when only something that it imports does. Derivatives are numeric.

    Parameters
    ----------
    function : callable
        ``function(x, p)`` returns one number: x is a number, p an array of the parameters. Plain Python, or compiled
        by numba already; it may call `math`, numpy and other compiled functions, such as `firstlight.fit.special.normal_tail`.
    parameters : sequence of str or Parameter
        In the order of p.
    lower, upper : mapping of str to float or sequence of float, optional
        Bounds. By default those of the parameters; a bare name has none.
    start : mapping of str to float, sequence of float or callable, optional
        Start values of all channels, or a function ``start(x, counts, exposure, constants, p)`` that fills p from the
        used points of one channel. Without them `fit_many` must be given start values.
    name : str, optional
        That of the function by default.
    kind : {"rate", "probability"}
        Whether the function gives a rate, or a probability between 0 and 1.

    Returns
    -------
    Model
        For `fit_many` and `scalar`.

    Raises
    ------
    UsageError
        If the function cannot be compiled, does not take x and p, or uses more parameters than there are; if names or numbers
        of parameters do not fit.
    """
    from firstlight.fit.prototypes import SCALAR

    known = _bounded(_parameters(parameters), lower, upper)
    title = name or _name(function)
    if kind not in {"rate", "probability"}:
        raise UsageError.unknown("kind of model", str(kind), ["rate", "probability"])
    plain = _plain(function, 2, "x and p", title)
    constants: tuple[float, ...] = ()
    begin = None
    if callable(start):
        begin = _start_function(start, title)
    elif start is not None:
        from firstlight.fit.models.starts import start_of_constants

        constants, begin = tuple(_values(start, known, "start values", math.nan)), start_of_constants
        missing = [one.name for one, value in zip(known, constants, strict=True) if not math.isfinite(value)]
        if missing:
            what = f"start values of {', '.join(missing)} are missing"
            raise UsageError(what, where=f"model {title}", hint="give all, or none")
    compiled = _compiled(plain, SCALAR, title)
    _try(plain, known, constants, title)
    return Model(
        title,
        known,
        scalar=compiled,
        start=begin,
        constants=constants,
        kind=kind,
        formula=f"{title}(x, p)",
        source=f"{plain.__module__}.{plain.__qualname__}",
    )


def _name(function: Function) -> str:
    name = str(getattr(function, "__name__", "user"))
    return "user" if name == "<lambda>" else name


def _parameters(given: Sequence[str | Parameter]) -> tuple[Parameter, ...]:
    if isinstance(given, str):
        given = given.replace(",", " ").split()
    known = tuple(one if isinstance(one, Parameter) else Parameter(str(one), str(one)) for one in given)
    names = [one.name for one in known]
    if not names:
        what = "a model needs at least one parameter"
        raise UsageError(what)
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        what = f"two parameters have the name {double[0]!r}"
        raise UsageError(what)
    return known


def _values(given: Numbers | None, known: tuple[Parameter, ...], what: str, default: float) -> list[float]:
    """Return one number a parameter."""
    if isinstance(given, Mapping):
        names = [one.name for one in known]
        for name in given:
            if name not in names:
                raise UsageError.unknown("parameter", name, names, where=what)
        return [float(given.get(name, default)) for name in names]
    numbers = [float(value) for value in (given if given is not None else [default] * len(known))]
    if len(numbers) != len(known):
        message = f"{len(numbers)} {what} for {len(known)} parameters"
        raise UsageError(message, known=[one.name for one in known])
    return numbers


def _bounded(
    known: tuple[Parameter, ...], lower: Numbers | None, upper: Numbers | None
) -> tuple[Parameter, ...]:
    from dataclasses import replace

    low, high = (
        _values(lower, known, "lower bounds", math.nan),
        _values(upper, known, "upper bounds", math.nan),
    )
    bounded = tuple(
        replace(one, lower=one.lower if math.isnan(a) else a, upper=one.upper if math.isnan(b) else b)
        for one, a, b in zip(known, low, high, strict=True)
    )
    for one in bounded:
        if not one.lower < one.upper:
            what = f"bounds of {one.name!r} are {one.lower:g} and {one.upper:g}"
            raise UsageError(what, hint="low before high")
    return bounded


def _plain(function: Function, n_arguments: int, arguments: str, title: str) -> Any:
    """Return the Python function, of a compiled one that from which it was compiled."""
    plain = getattr(function, "py_func", function)
    if not inspect.isfunction(plain):
        what = f"a model is made of a function, not of {type(function).__name__}"
        raise UsageError(what, where=f"model {title}")
    if len(inspect.signature(plain).parameters) != n_arguments:
        what = f"the function takes {', '.join(inspect.signature(plain).parameters) or 'nothing'}, not {arguments}"
        raise UsageError(what, where=f"model {title}")
    return plain


def _start_function(start: Function, title: str) -> Any:
    from firstlight.fit.prototypes import START

    plain = _plain(start, 5, "x, counts, exposure, constants and p", f"{title}, start values")
    return _compiled(plain, START, f"{title}, start values")


def _try(plain: Function, known: tuple[Parameter, ...], constants: tuple[float, ...], title: str) -> None:
    """Call the function once in Python: compiled code does not notice a parameter that does not exist."""
    p: NDArray[np.float64] = np.array(constants or [_inside(one) for one in known], dtype=np.float64)
    with np.errstate(all="ignore"):
        try:
            plain(1.0, p)
        except IndexError as error:
            what = f"the function uses more parameters than the {len(known)} that have names"
            raise UsageError(what, where=f"model {title}", known=[one.name for one in known]) from error
        except (ArithmeticError, ValueError, TypeError):
            return  # not every model is defined at x = 1


def _inside(one: Parameter) -> float:
    return min(max(1.0, one.lower), one.upper)


def _compiled(plain: Any, signature: Any, title: str) -> Any:
    import numba
    from numba.core.errors import NumbaError

    def compile_it(*, cache: bool) -> Any:
        return numba.njit([signature], cache=cache, nogil=True, error_model="numpy")(plain)

    try:
        try:
            return compile_it(cache=True)
        except RuntimeError as error:
            # a function that was typed in has no file beside which its code could be kept
            if "cannot cache" not in str(error):
                raise
            return compile_it(cache=False)
    except NumbaError as error:
        what = f"the function cannot be compiled: {_reason(error)}"
        hint = (
            "numbers, math, numpy and compiled functions only; numba's documentation lists what is supported"
        )
        raise UsageError(what, where=f"model {title}", hint=hint) from error


def _reason(error: Exception) -> str:
    """Return the line that says why; numba tells in which of its passes first."""
    lines = [line.strip(" -\t*") for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Failed in", "During:", "File "))]
    return lines[0].rstrip(".:") if lines else type(error).__name__
