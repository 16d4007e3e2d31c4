"""What readers of HDF5 files share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from firstlight.errors import FirstlightError, InputError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["explained", "is_hdf5", "opened"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HINT = "was it copied whole?"
_ENDS = ("truncated", "eof", "ends too early", "EOF")


def is_hdf5(path: Path) -> bool:
    """Return whether a file begins like HDF5."""
    try:
        with path.open("rb") as stream:
            return stream.read(8) == _SIGNATURE
    except OSError:
        return False


def opened(path: Path) -> Any:
    """Return an open HDF5 file.

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    import h5py

    if path.is_file() and not is_hdf5(path):
        empty = path.stat().st_size == 0
        what = "the file is empty" if empty else "not an HDF5 file"
        raise InputError(what, where=path, hint=_HINT if empty else None)
    with explained(path, "HDF5"):
        return h5py.File(path, "r")


@contextmanager
def explained(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library says of bad content into an error of the file.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What it should be.
    """
    try:
        yield
    except SchemaError as error:
        raise InputError(error.what, where=path) from error
    except FirstlightError:
        raise
    except FileNotFoundError as error:
        what = "no such file"
        raise InputError(what, where=path) from error
    except Exception as error:
        # damaged content makes libraries raise anything
        text = str(error)
        if isinstance(error, EOFError) or any(word in text for word in _ENDS):
            what = "the file ends too early: it is cut off, or is being written"
            raise InputError(what, where=path, hint=_HINT) from error
        what = f"cannot be read as {kind}: {text[:200] or type(error).__name__}"
        raise InputError(what, where=path) from error
