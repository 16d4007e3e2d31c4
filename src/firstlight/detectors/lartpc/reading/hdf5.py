"""Tables of records in HDF5 files, read within limits and from the file itself only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import FirstlightError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Table", "opened", "runs_of"]

_LARGEST = 2 * 2**30
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file, and turn whatever the library says of bad content into an error of the file.

    Attributes are never read: GAMPixPy keeps pickles in them.

    Raises
    ------
    InputError
        If it is missing, no HDF5 file, cut off or damaged.
    """
    import h5py

    try:
        with path.open("rb") as stream:
            first = stream.read(8)
        if first != _SIGNATURE:
            what = "not an HDF5 file" if first else "the file is empty"
            raise InputError(what, where=path)
        with h5py.File(path, "r") as file:
            yield file
    except FirstlightError:
        raise
    except Exception as error:
        # damaged content makes the library raise anything
        if isinstance(error, OSError) and error.errno:
            what = f"cannot be read: {error.strerror or error}"
            raise InputError(what, where=path) from error
        text = str(error)
        cut = any(word in text for word in ("truncated", "eof", "addr overflow", "file read failed"))
        what = (
            "the file ends too early: it is cut off, or is being written"
            if cut
            else f"the HDF5 file is damaged: {text[:200] or type(error).__name__}"
        )
        raise InputError(what, where=path, hint="was it copied whole?") from error


class Table:
    """A dataset of records.

    Parameters
    ----------
    file : h5py.File
        Open file.
    names : sequence of str
        Paths under which the dataset may stand; the first that is there is taken.
    path : Path
        For messages.

    Raises
    ------
    InputError
        If there is none, or it is no table of records, or its content stands in another file.
    """

    def __init__(self, file: Any, names: Sequence[str], path: Path) -> None:
        self.path = path
        self.name = next((name for name in names if name in file), "")
        if not self.name:
            what = f"has no dataset {names[0]!r}"
            raise InputError(what, where=path, known=sorted(file))
        import h5py

        link = file.get(self.name, getlink=True)
        # the file that a link leads to is not opened
        data = None if isinstance(link, h5py.ExternalLink) else file[self.name]
        if not isinstance(data, h5py.Dataset):
            what = f"{self.name!r} is not a dataset of this file"
            raise InputError(what, where=path)
        if data.file.filename != file.filename or data.external or data.is_virtual:
            what = f"the content of {self.name!r} stands in other files, which are not opened"
            raise InputError(what, where=path)
        if data.dtype.names is None or data.ndim != 1:
            what = (
                f"{self.name!r} has the type {data.dtype} and shape {data.shape}, not rows of named columns"
            )
            raise InputError(what, where=path)
        self.data = data

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.data.dtype.names)

    def name_of(self, *spellings: str) -> str:
        """Return the first of some spellings that is a column.

        Raises
        ------
        InputError
            If none is.
        """
        for spelling in spellings:
            if spelling in self.columns:
                return spelling
        what = f"{self.name!r} has no column {spellings[0]!r}"
        raise InputError(what, where=self.path, known=sorted(self.columns))

    def has(self, *spellings: str) -> bool:
        """Return whether one of some spellings is a column."""
        return any(spelling in self.columns for spelling in spellings)

    def read(self, *names: str, runs: Sequence[tuple[int, int]] | None = None) -> dict[str, NDArray[Any]]:
        """Return columns, of all rows or of stretches of them.

        Raises
        ------
        InputError
            If a column holds no numbers, or all together are too large.
        """
        for name in names:
            if self.data.dtype[name].base.kind not in "buif":
                what = f"column {name!r} of {self.name!r} has the type {self.data.dtype[name]}, not numbers"
                raise InputError(what, where=self.path)
        stretches = [(0, len(self))] if runs is None else runs
        n_rows = sum(stop - start for start, stop in stretches)
        size = n_rows * sum(self.data.dtype[name].itemsize for name in names)
        if size > _LARGEST:
            what = (
                f"{n_rows:,} rows of {self.name!r} take {size:,} bytes: at most {_LARGEST:,} are read at once"
            )
            raise InputError(what, where=self.path)
        parts = [self.data.fields(list(names))[start:stop] for start, stop in stretches]
        if not parts:
            parts = [self.data.fields(list(names))[0:0]]
        together = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return {name: np.ascontiguousarray(together[name]) for name in names}


def runs_of(events: NDArray[np.integer[Any]]) -> dict[int, list[tuple[int, int]]]:
    """Return for each event, in rising order, the stretches of rows that are its own."""
    if events.size == 0:
        return {}
    starts = np.flatnonzero(np.append(True, events[1:] != events[:-1]))
    stops = np.append(starts[1:], events.size)
    found: dict[int, list[tuple[int, int]]] = {}
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        found.setdefault(int(events[start]), []).append((start, stop))
    return dict(sorted(found.items()))
