"""Files of numpy arrays (npz), with checks; large arrays are read and written a part at a time.

The scan of 80 light levels that the original keeps is 1.8 GB when it is in memory, and a few MB in a file.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from firstlight.errors import InputError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

__all__ = ["NpzFile", "Rows", "write_npz"]

_DAMAGED = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)
_DATE = (1980, 1, 1, 0, 0, 0)  # of all members: the same arrays make the same file


@dataclass(frozen=True)
class Rows:
    """An array that is made row by row, along its first axis.

    Parameters
    ----------
    shape : tuple of int
        Of the whole array.
    dtype : numpy data type
        Of its elements.
    rows : iterable of ndarray
        As many as the first axis is long.
    """

    shape: tuple[int, ...]
    dtype: Any
    rows: Iterable[NDArray[Any]]


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


class NpzFile:
    """A file of numpy arrays, open for reading.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it should be, for messages: ``"histogram file"``.
    hint : str, optional
        What to try where it is missing.

    Raises
    ------
    InputError
        If it does not exist, or is no such file.
    """

    def __init__(self, path: Path, what: str = "file", hint: str | None = None) -> None:
        self.path = path
        self.what = what
        if not path.is_file():
            message = f"the {what} does not exist"
            raise InputError(message, where=path, hint=hint)
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGED as error:
            message = f"the {what} is no npz file, or was cut off: {error}"
            raise InputError(message, where=path) from error
        self._members = {
            name.removesuffix(".npy"): name for name in self._archive.namelist() if name.endswith(".npy")
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def __contains__(self, key: str) -> bool:
        return key in self._members

    @property
    def keys(self) -> list[str]:
        """Names of the arrays."""
        return list(self._members)

    def require(self, key: str) -> None:
        """Refuse a file without an array.

        Raises
        ------
        InputError
            Naming the arrays that are there.
        """
        if key not in self._members:
            message = f"the {self.what} has no array {key!r}"
            raise InputError(message, where=self.path, known=self.keys)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of an array, without reading it."""
        with self._opened(key) as (header, _):
            return header.shape

    def array(self, key: str) -> NDArray[Any]:
        """Return a whole array.

        Raises
        ------
        InputError
            If it is missing, damaged, or of Python objects.
        """
        with self._opened(key) as (header, stream):
            size = header.dtype.itemsize * int(np.prod(header.shape, dtype=np.int64))
            flat = np.frombuffer(self._bytes(stream, size), dtype=header.dtype)
            return flat.reshape(header.shape, order="F" if header.fortran else "C")

    def rows(self, key: str) -> Iterator[NDArray[Any]]:
        """Yield an array row by row, along its first axis.

        Raises
        ------
        InputError
            As `array`.
        """
        with self._opened(key) as (header, stream):
            whole = header.fortran or not header.shape
            size = header.dtype.itemsize * int(np.prod(header.shape[1:], dtype=np.int64))
            for _ in range(0 if whole else header.shape[0]):
                yield np.frombuffer(self._bytes(stream, size), dtype=header.dtype).reshape(header.shape[1:])
        if whole:
            # (the last axis varies slowest there: no row stands by itself)
            yield from np.atleast_1d(self.array(key))

    def _opened(self, key: str) -> _Member:
        self.require(key)
        return _Member(self, self._members[key])

    def _bytes(self, stream: IO[bytes], size: int) -> bytes:
        try:
            found = stream.read(size)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        if len(found) != size:
            raise self._damaged("an array ends too early")
        return found

    def _damaged(self, reason: object) -> InputError:
        message = f"the {self.what} is damaged: {reason}"
        return InputError(message, where=self.path, hint="was it copied whole?")


class _Member:
    """One array of a file, open behind its header."""

    def __init__(self, file: NpzFile, name: str) -> None:
        self.file = file
        self.name = name

    def __enter__(self) -> tuple[_Header, IO[bytes]]:
        try:
            self.stream = self.file._archive.open(self.name)
            header = _header(self.stream)
        except _DAMAGED as error:
            raise self.file._damaged(error) from error
        if header.dtype.hasobject:
            key = self.name.removesuffix(".npy")
            message = f"the array {key!r} of the {self.file.what} is of Python objects, which are not read"
            raise InputError(
                message, where=self.file.path, hint="numbers only: save it with allow_pickle=False"
            )
        return header, self.stream

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def _header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return _Header(tuple(shape), bool(fortran), dtype)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write arrays to a compressed file, as ``numpy.savez_compressed``, which ``numpy.load`` reads.

    Parameters
    ----------
    path : Path
        The file, written atomically.
    arrays : mapping of str to array-like or Rows
        By name.
    """
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, content in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy", _DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as stream:
                if isinstance(content, Rows):
                    _write_rows(stream, content)
                else:
                    np.lib.format.write_array(stream, np.asanyarray(content), allow_pickle=False)
    return path


def _write_rows(stream: IO[bytes], content: Rows) -> None:
    head = io.BytesIO()
    dtype = np.dtype(content.dtype)
    about = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": content.shape,
    }
    np.lib.format.write_array_header_1_0(head, about)
    stream.write(head.getvalue())
    n_rows = 0
    for row in content.rows:
        stream.write(np.ascontiguousarray(np.broadcast_to(row, content.shape[1:]), dtype=dtype).tobytes())
        n_rows += 1
    if n_rows != content.shape[0]:
        message = f"{n_rows} rows were made of {content.shape[0]}"
        raise ValueError(message)
