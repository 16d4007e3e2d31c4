"""One tree of errors.

Every error that a user can meet says what is wrong, where, what exists instead and what to try.
The parts are kept as attributes, so that a report can show them in columns.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "CheckFailedError",
    "ConfigError",
    "DetectorError",
    "FirstlightError",
    "InputError",
    "InputsRefusedError",
    "MissingExtraError",
    "SchemaError",
    "SelectionError",
    "StoreError",
    "UsageError",
    "nearest",
    "shown",
]


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names that look most like `name`, best first.

    Parameters
    ----------
    name : str
        What was typed.
    known : iterable of str
        What exists.
    count : int
        At most so many names.

    Returns
    -------
    list of str
        Possibly empty.
    """
    candidates = list(dict.fromkeys(known))
    lowered: dict[str, str] = {}
    for candidate in candidates:
        lowered.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), list(lowered), n=count, cutoff=0.5)
    return [lowered[key] for key in found]


def shown(names: Sequence[str], limit: int = 12) -> str:
    """Return a list of names for a message, shortened after `limit` of them."""
    if not names:
        return "nothing"
    text = ", ".join(names[:limit])
    return text if len(names) <= limit else f"{text}, ... ({len(names)} in all)"


class FirstlightError(Exception):
    """Root of all errors of this package.

    Parameters
    ----------
    what : str
        What is wrong.
    where : str or Path, optional
        File, table, column or channel.
    known : sequence of str, optional
        What exists instead.
    hint : str, optional
        What to try.
    """

    exit_status = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        known: Sequence[str] | None = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.known = None if known is None else list(known)
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.known is not None:
            text += f"\n  what exists: {shown(self.known)}"
        if self.hint:
            text += f"\n  try: {self.hint}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # errors travel back from worker processes; keyword-only parts need this
        return _rebuild, (type(self), self.__dict__.copy(), self.args)

    @classmethod
    def unknown(
        cls, kind: str, name: str, known: Iterable[str], where: str | Path | None = None
    ) -> FirstlightError:
        """Return the error for a name that does not exist, with its nearest neighbours.

        Parameters
        ----------
        kind : str
            What sort of name it is: ``"column"``, ``"trigger"``.
        name : str
            What was asked for.
        known : iterable of str
            What exists.
        where : str or Path, optional
            File, table or option.
        """
        names = list(known)
        close = nearest(name, names)
        hint = f"did you mean {' or '.join(repr(other) for other in close)}?" if close else None
        return cls(f"unknown {kind} {name!r}", where=where, known=names, hint=hint)


def _rebuild(
    cls: type[FirstlightError], state: dict[str, object], args: tuple[object, ...]
) -> FirstlightError:
    error = cls.__new__(cls)
    error.__dict__.update(state)
    error.args = args
    return error


class UsageError(FirstlightError):
    """The command line, or the arguments of a call, are wrong."""

    exit_status = 2


class ConfigError(UsageError):
    """A configuration file or a parameter is wrong."""


class SelectionError(UsageError):
    """A cut names an unknown column or is not an expression."""


class DetectorError(UsageError):
    """A detector is unknown, is defined twice, or breaks the contract."""


class InputError(FirstlightError):
    """An input cannot be used; the others still can."""

    exit_status = 3


class InputsRefusedError(InputError):
    """More inputs were refused than `--allow-bad` tolerates; what was good has been processed.

    The finished run is in the attribute `run`.
    """

    run: object = None


class SchemaError(FirstlightError):
    """A table or block does not have the columns, types or ranges that its schema promises."""


class StoreError(FirstlightError):
    """A run directory, or a product in it, is missing or damaged."""


class CheckFailedError(FirstlightError):
    """A check came out worse than `--fail-on` allows."""

    exit_status = 4


class MissingExtraError(UsageError):
    """An optional dependency is not installed.

    Parameters
    ----------
    package : str
        The package that could not be imported.
    extra : str
        The extra of firstlight that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed",
            hint=f"python -m pip install 'firstlight[{extra}]'",
        )
