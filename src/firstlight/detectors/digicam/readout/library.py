"""The protozfits library, for events that went through codecs that `blocks` does not know.

It must be given undamaged files only: on many others it ends the process, or does not come back.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Library"]

# type numbers of arrays in messages
_TYPES = {
    1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<i8", 8: "<u8", 9: "<f4", 10: "<f8", 11: "u1",
}  # fmt: skip


class Library:
    """A table of events, open in the library.

    Parameters
    ----------
    path : Path
        The file.
    reason : str
        Why the library is needed, for messages.

    Raises
    ------
    MissingExtraError
        If the library is not installed.
    InputError
        If it refuses the file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rawzfits = importlib.import_module("protozfits.rawzfits")
                messages = importlib.import_module("protozfits.ProtoDataModel_pb2")
        except ImportError as error:
            package, extra = "protozfits", "digicam"
            raise MissingExtraError(package, extra) from error
        self._message = messages.CameraEvent
        try:
            self._table = rawzfits.ProtobufIFits(str(path), "Events")
        except Exception as error:
            raise self._refused(error) from error

    def rows(self, start: int, stop: int, names: Sequence[str]) -> dict[str, Sequence[Any]]:
        """Return some columns of some events, as `EventTable.tile` does.

        Raises
        ------
        InputError
            If the library cannot read one.
        """
        found: dict[str, list[Any]] = {name: [] for name in names}
        for number in range(start, stop):
            try:
                # the library counts from 1
                event = self._message.FromString(self._table.read_serialized_message(number + 1))
            except Exception as error:
                raise self._refused(error) from error
            for name in names:
                found[name].append(_field(event, name))
        columns: dict[str, Any] = found
        for name, values in found.items():
            if not isinstance(values[0], np.ndarray):
                columns[name] = np.array(values)
        return columns

    def _refused(self, error: Exception) -> InputError:
        what = f"{self.reason}; protozfits says: {type(error).__name__}: {str(error)[:200]}"
        return InputError(what, where=self.path)

    def close(self) -> None:
        """Close the file."""
        self._table.close()


def _field(message: Any, name: str) -> Any:
    """Return a field of a message by the name of its column."""
    known = {field.name for field in message.DESCRIPTOR.fields}
    if name not in known:
        first = next(part for part in sorted(known, key=len, reverse=True) if name.startswith(f"{part}_"))
        return _field(getattr(message, first), name[len(first) + 1 :])
    value = getattr(message, name)
    if hasattr(value, "data") and hasattr(value, "type"):
        return np.frombuffer(value.data, dtype=_TYPES.get(value.type, "u1"))
    return value
