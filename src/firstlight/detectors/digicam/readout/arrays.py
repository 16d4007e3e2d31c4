"""Events as plain arrays: ``.npz`` and HDF5 files that anybody can write in a few lines.

``samples`` (or ``waveforms``, ``adc_count``) [event, pixel, sample] is needed, in the order of the pixel numbers of the
camera software. ``event_number``, ``event_type``, ``time`` [ns since 1970] with an entry for each event, and ``baselines``
[event, pixel] or [pixel] in LSB may stand beside.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.readout.batch import NO_TIME, NO_TYPE, EventBatch
from firstlight.detectors.digicam.readout.hdf5 import explained, is_hdf5, opened
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ArrayEvents", "looks_like_arrays"]

_SAMPLES = ("samples", "waveforms", "adc_count")
_BESIDE = {
    "number": ("event_number", "number"),
    "event_type": ("event_type",),
    "time": ("time",),
    "baselines": ("baselines",),
}
_LOOKED_AT = 100
_HDF5, _NPZ = "HDF5", "an .npz file"


class _Array(Protocol):
    """An array in a file, of which some rows are read at a time."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: Any) -> Any: ...


class ArrayEvents:
    """The events of a file with plain arrays.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        If the file cannot be read, or has no array that fits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: tuple[str, ...] = ()
        self._kind = _HDF5 if is_hdf5(path) else _NPZ
        self._file: Any = opened(path) if self._kind == _HDF5 else _opened_npz(path)
        try:
            with explained(path, self._kind):
                arrays = {name: array for name, array in self._file.items() if hasattr(array, "shape")}
                self._find(arrays)
        except BaseException:
            self.close()
            raise

    def _find(self, arrays: dict[str, _Array]) -> None:
        shapes = [f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()]
        name = next((name for name in _SAMPLES if name in arrays), None)
        if name is None:
            what = f"no array {', '.join(_SAMPLES[:-1])} or {_SAMPLES[-1]}"
            raise InputError(what, where=self.path, known=shapes)
        self._samples = arrays[name]
        if (
            len(self._samples.shape) != 3
            or self._samples.shape[1] != N_PIXELS
            or self._samples.dtype.kind not in "uif"
        ):
            what = (
                f"{name} is {self._samples.dtype} of shape {self._samples.shape}, must be numbers of shape "
                f"(events, {N_PIXELS} pixels, samples)"
            )
            raise InputError(what, where=self.path)
        self.n_events, self.n_samples = self._samples.shape[0], self._samples.shape[2]
        self._beside: dict[str, _Array] = {}
        for key, names in _BESIDE.items():
            found = next((name for name in names if name in arrays), None)
            if found is None:
                continue
            shape, kind = arrays[found].shape, arrays[found].dtype.kind
            fits = [(self.n_events,)] if key != "baselines" else [(N_PIXELS,), (self.n_events, N_PIXELS)]
            # a time as float is not known to the nanosecond
            kinds = "uif" if key == "baselines" else "ui"
            if shape not in fits or kind not in kinds:
                wanted = " or ".join(map(str, fits))
                what = f"{found} is {arrays[found].dtype} of shape {shape}, must be {'whole ' if kinds == 'ui' else ''}numbers of shape {wanted}"
                raise InputError(what, where=self.path)
            self._beside[key] = arrays[found]

    def facts(self) -> dict[str, Any]:
        """Return the length of the traces, and what the first events are."""
        found: dict[str, Any] = {"n_samples": self.n_samples}
        if self.n_events:
            first = next(self.batches(0, min(_LOOKED_AT, self.n_events), _LOOKED_AT, samples=False))
            found["event_types"] = tuple(sorted(set(first.event_type.tolist()) - {NO_TYPE}))
            found["first_number"] = int(first.number[0])
            if first.time[0] != NO_TIME:
                found["first_time"] = f"{np.datetime64(int(first.time[0]), 'ns')} UTC"
        found["beside"] = tuple(self._beside)
        return found

    def batches(
        self,
        start: int = 0,
        stop: int | None = None,
        size: int = 200,
        *,
        samples: bool = True,
        baselines: bool = True,
    ) -> Iterator[EventBatch]:
        """Yield the events from `start` to `stop`, `size` at a time; see `ZfitsEvents.batches`."""
        stop = self.n_events if stop is None else min(stop, self.n_events)
        for first in range(start, max(stop, start + 1), size):
            last = max(min(first + size, stop), first)
            with explained(self.path, self._kind):
                traces = (
                    self._samples[first:last]
                    if samples
                    else np.zeros((last - first, N_PIXELS, 0), dtype=np.uint16)
                )
                beside = {
                    key: array[first:last] if array.shape[0] == self.n_events else array[:]
                    for key, array in self._beside.items()
                    if baselines or key != "baselines"
                }
                batch = EventBatch.of(traces, **beside, first_number=first)
            yield batch

    def verify(self) -> None:
        """Do nothing: arrays of .npz have a checksum, which is compared when they are read to their end."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class _Member:
    """An array of an .npz file, read as a stream: such files may be larger than the memory."""

    archive: zipfile.ZipFile
    name: str

    def __post_init__(self) -> None:
        self._stream: Any = None
        try:
            self._restart()
        except BaseException:
            self.close()
            raise

    def _restart(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = self.archive.open(self.name)
        version = np.lib.format.read_magic(self._stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            what = f"{self.name}: numpy format {version}"
            raise ValueError(what)
        self.shape, self._by_column, self.dtype = readers[version](self._stream)
        if self.dtype.hasobject:
            what = f"{self.name} holds Python objects"
            raise ValueError(what)
        self._at = 0
        self._row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        if self._by_column:
            # columns first: a row stands all over the file
            self._restart()
            whole = np.frombuffer(self._bytes(self._row * self.shape[0]), dtype=self.dtype)
            return whole.reshape(self.shape, order="F")[rows]
        start, stop, _ = rows.indices(self.shape[0])
        if start < self._at:
            self._restart()
        while self._at < start:
            n_rows = min(start - self._at, max((1 << 24) // max(self._row, 1), 1))
            self._bytes(n_rows * self._row)
            self._at += n_rows
        content = self._bytes((stop - start) * self._row)
        self._at = stop
        if stop == self.shape[0] and self._stream.read(1):
            # the checksum is compared where the stream ends
            what = f"{self.name} is longer than its header says"
            raise ValueError(what)
        return np.frombuffer(content, dtype=self.dtype).reshape(stop - start, *self.shape[1:])

    def _bytes(self, size: int) -> bytes:
        content: bytes = self._stream.read(size)
        if len(content) < size:
            what = f"{self.name} ends too early"
            raise ValueError(what)
        return content

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class _Archive:
    """The arrays of an .npz file, without pickled objects."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._members: dict[str, _Member] = {}

    def items(self) -> Iterator[tuple[str, _Member]]:
        for name in self._zip.namelist():
            if name.endswith(".npy"):
                key = name.removesuffix(".npy")
                if key not in self._members:
                    self._members[key] = _Member(self._zip, name)
                yield key, self._members[key]

    def close(self) -> None:
        for member in self._members.values():
            member.close()
        self._zip.close()


def _opened_npz(path: Path) -> _Archive:
    if path.is_file() and path.stat().st_size == 0:
        what = "the file is empty"
        raise InputError(what, where=path, hint="was it copied whole?")
    with explained(path, _NPZ):
        return _Archive(path)


def looks_like_arrays(path: Path) -> bool:
    """Return whether a file has an array of waveforms of this camera."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            if stream.read(4) != b"PK\x03\x04" and not is_hdf5(path):
                return False
        ArrayEvents(path).close()
    except (OSError, InputError):
        return False
    return True
