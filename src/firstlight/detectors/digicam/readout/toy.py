"""HDF5 files of digicamtoy: simulated events with what is true of them.

Two layouts are read. The newer one has ``/data/adc_count`` [event, pixel, sample] (early files: [pixel, sample, event]),
``/data/charge`` and ``/data/time`` of the light, and the parameters in ``/config``. The older one has a group
``dc_level_I_ac_level_J`` with ``data`` [pixel, sample, event] for each light level, and the parameters in
``/simulation_parameters``; levels follow each other, those of the first DC level first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.readout.batch import CLOCKED, EventBatch
from firstlight.detectors.digicam.readout.hdf5 import explained, is_hdf5, opened
from firstlight.errors import InputError, UsageError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ToyEvents", "looks_like_toy", "write_toy"]

_MAIN = "data/adc_count"
_LEVEL = re.compile(r"dc_level_(\d+)_ac_level_(\d+)")
_TRUTH = ("config", "simulation_parameters")
# what most want to know; the rest is in `truth`
_FACTS = (
    "gain", "sigma_e", "sigma_1", "crosstalk", "baseline", "nsb_rate", "n_photon", "jitter", "time_signal", "gain_nsb",
)  # fmt: skip
_SAMPLING = 4  # ns
_KIND = "a file of digicamtoy"


class ToyEvents:
    """The events of a digicamtoy file.

    All have the type 8 (clocked): the light comes when it is told to. Numbers count from 0; there are no times.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        If the file cannot be read, or is of neither layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = opened(path)
        self._notes: list[str] = []
        try:
            with explained(path, _KIND):
                self._parts = self._find_parts()
                self._truth = self._read_truth()
        except BaseException:
            self.close()
            raise
        sizes = [_size(part) for part in self._parts]
        self._edges = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self.n_events = int(self._edges[-1])
        self.n_samples = int(self._parts[0].shape[1 if _is_turned(self._parts[0]) else 2])

    def _find_parts(self) -> list[Any]:
        """Return the arrays of samples, one for each level."""
        import h5py

        found = {}
        if isinstance(self._file.get(_MAIN), h5py.Dataset):
            found[_MAIN] = self._file[_MAIN]
        else:
            levels = sorted(
                (tuple(map(int, hit.groups())), name)
                for name in self._file
                if (hit := _LEVEL.fullmatch(name))
            )
            found = {f"{name}/data": self._file.get(f"{name}/data") for _, name in levels}
        if not found:
            what = f"neither {_MAIN} nor groups dc_level_0_ac_level_0: not a file of digicamtoy"
            raise InputError(what, where=self.path, known=list(self._file))
        for name, part in found.items():
            if (
                not isinstance(part, h5py.Dataset)
                or part.dtype.kind not in "ui"
                or N_PIXELS not in part.shape[:2]
                or part.ndim != 3
            ):
                shape = (
                    f"{part.dtype} of shape {part.shape}" if isinstance(part, h5py.Dataset) else "no array"
                )
                what = f"{name} is {shape}, must be whole numbers of shape (events, {N_PIXELS}, samples) or ({N_PIXELS}, samples, events)"
                raise InputError(what, where=self.path)
        parts = list(found.values())
        lengths = sorted({part.shape[1 if _is_turned(part) else 2] for part in parts})
        if len(lengths) > 1:
            what = f"levels have traces of different lengths: {lengths} samples"
            raise InputError(what, where=self.path)
        if any(part.dtype.itemsize == 1 for part in parts):
            self._notes.append("samples are kept as 8 bits: values above 255 LSB are lost")
        return parts

    def _read_truth(self) -> dict[str, Any]:
        import h5py

        found: dict[str, Any] = {}
        for group in _TRUTH:
            for name, item in self._file[group].items() if group in self._file else ():
                if isinstance(item, h5py.Dataset):
                    value = item[()]
                    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
                    found[name] = value.item() if isinstance(value, np.generic) else value
        if "data/true_baseline" in self._file:
            found["true_baseline"] = np.asarray(self._file["data/true_baseline"])
        sampling = found.get("time_sampling", found.get("sampling_time", _SAMPLING))
        if sampling != _SAMPLING:
            self._notes.append(f"a sample every {sampling} ns: {_SAMPLING} ns are assumed everywhere")
        return found

    @property
    def truth(self) -> Mapping[str, Any]:
        """All parameters with which the file was made, by the names of digicamtoy."""
        return self._truth

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the file."""
        return tuple(self._notes)

    def facts(self) -> dict[str, Any]:
        """Return the length of the traces, and what is true of all events (``true_gain``)."""
        found: dict[str, Any] = {"n_samples": self.n_samples, "event_types": (CLOCKED,), "first_number": 0}
        if len(self._parts) > 1:
            found["levels"] = len(self._parts)
            found["events_per_level"] = tuple(sorted({_size(part) for part in self._parts}))
        for name in (*_FACTS, "level"):
            value = self._truth.get(name)
            if isinstance(value, bool | int | float):
                found[name if name == "level" else f"true_{name}"] = value
        return found

    def batches(
        self,
        start: int = 0,
        stop: int | None = None,
        size: int = 200,
        *,
        samples: bool = True,
        baselines: bool = True,  # noqa: ARG002  (these files have none)
    ) -> Iterator[EventBatch]:
        """Yield the events from `start` to `stop`, `size` at a time; see `ZfitsEvents.batches`."""
        stop = self.n_events if stop is None else min(stop, self.n_events)
        for first in range(start, max(stop, start + 1), size):
            last = max(min(first + size, stop), first)
            with explained(self.path, _KIND):
                batch = EventBatch.of(
                    self._traces(first, last, samples=samples), event_type=CLOCKED, first_number=first
                )
            yield batch

    def _traces(self, start: int, stop: int, *, samples: bool) -> NDArray[Any]:
        if not samples:
            return np.zeros((stop - start, N_PIXELS, 0), dtype=np.uint16)
        pieces = []
        for part, first, last in zip(self._parts, self._edges[:-1], self._edges[1:], strict=True):
            low, high = max(start, first) - first, min(stop, last) - first
            if low < high:
                pieces.append(np.moveaxis(part[:, :, low:high], 2, 0) if _is_turned(part) else part[low:high])
        if not pieces:
            return np.zeros((0, N_PIXELS, self.n_samples), dtype=np.uint16)
        return np.concatenate(pieces)

    def verify(self) -> None:
        """Do nothing: there are checksums in each compressed piece, and they are compared when it is read."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_turned(part: Any) -> bool:
    """Return whether the axes are pixel, sample, event."""
    return bool(part.shape[1] != N_PIXELS)


def _size(part: Any) -> int:
    return int(part.shape[2 if _is_turned(part) else 0])


def looks_like_toy(path: Path) -> bool:
    """Return whether a file is HDF5 with the groups of digicamtoy."""
    if not is_hdf5(path):
        return False
    try:
        with opened(path) as file, explained(path, _KIND):
            return _MAIN in file or any(_LEVEL.fullmatch(name) for name in file)
    except InputError:
        return False


def write_toy(
    path: Path,
    batch: EventBatch,
    config: Mapping[str, Any],
    charge: ArrayLike | None = None,
    time: ArrayLike | None = None,
) -> Path:
    """Write events in the newer layout of digicamtoy, which keeps samples and truth only: no numbers, types and baselines.

    Parameters
    ----------
    path : Path
        The file.
    batch : EventBatch
        The events.
    config : mapping
        Parameters: numbers, text or arrays, under the names of digicamtoy (``gain``, ``sigma_e``, ``nsb_rate`` [GHz]).
    charge, time : array-like, shape (n_events, 1296) or (n_events, 1296, n_flashes), optional
        Photo-electrons of the light, and when it came [ns].

    Raises
    ------
    UsageError
        If shapes do not fit, or a parameter cannot be written.
    StoreError
        If the file cannot be written.
    """
    import h5py

    arrays: dict[str, NDArray[Any]] = {"adc_count": batch.samples}
    for name, given in (("charge", charge), ("time", time)):
        if given is not None:
            values = np.asarray(given, dtype=np.float64)
            values = values[:, :, None] if values.ndim == 2 else values
            if values.ndim != 3 or values.shape[:2] != (len(batch), N_PIXELS):
                what = f"{name} has the shape {values.shape}, must be ({len(batch)}, {N_PIXELS}, flashes)"
                raise UsageError(what, where=path)
            arrays[name] = values
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        for name, values in arrays.items():
            pieces = (min(16, max(len(batch), 1)), *values.shape[1:])
            data.create_dataset(
                name, data=values, chunks=pieces if values.size else None, compression="gzip" if values.size else None,
                shuffle=bool(values.size), compression_opts=1 if values.size else None,
            )  # fmt: skip
        group = file.create_group("config")
        for name, value in config.items():
            try:
                group.create_dataset(name, data=value)
            except (TypeError, ValueError) as error:
                what = f"parameter {name!r} cannot be written: {error}"
                raise UsageError(what, where=path) from error
    return path
