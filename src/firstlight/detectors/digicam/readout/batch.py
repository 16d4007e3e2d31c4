"""Events in memory: what readers give, what the simulation makes, and what writers take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["CLOCKED", "NO_TIME", "NO_TYPE", "EventBatch"]

NO_TIME = -1
"""Time of an event whose time is not known."""
NO_TYPE = -1
"""Type of an event whose type is not known."""
CLOCKED = 8
"""Flag of events that were triggered by a clock: dark, pedestal, LED."""


@dataclass(frozen=True)
class EventBatch:
    """Some events, one after the other.

    Everything is in the order of the pixel numbers of the camera software (``pixel_sw_id``, 0 to 1295), however a file has
    it. `of` fills in what is not known.

    Parameters
    ----------
    samples : ndarray of uint16, shape (n_events, 1296, n_samples)
        Waveforms [LSB]; 0 to 4095 of a 12-bit converter, a sample every 4 ns.
    number : ndarray of int64, shape (n_events,)
        Event numbers of the camera.
    time : ndarray of int64, shape (n_events,)
        Clock of the camera [ns since 1970-01-01, UTC]; -1 where it is not known.
    event_type : ndarray of int32, shape (n_events,)
        Flags: 1 and 2 triggered by 7 and 19 patches, 4 muon, 8 clocked (dark, pedestal, LED), 128 continuous; -1
        where it is not known.
    baselines : ndarray of float32, shape (n_events, 1296), optional
        Running baselines of the camera [LSB]; NaN where they are not known.

    Raises
    ------
    SchemaError
        If types or shapes are others.
    """

    samples: NDArray[np.uint16]
    number: NDArray[np.int64]
    time: NDArray[np.int64]
    event_type: NDArray[np.int32]
    baselines: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.samples.ndim != 3:
            what = f"samples have {self.samples.ndim} axes, must have 3: event, pixel, sample"
            raise SchemaError(what, where="EventBatch")
        n_events, _, n_samples = self.samples.shape
        wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
            "samples": (np.uint16, (n_events, N_PIXELS, n_samples)),
            "number": (np.int64, (n_events,)),
            "time": (np.int64, (n_events,)),
            "event_type": (np.int32, (n_events,)),
            "baselines": (np.float32, (n_events, N_PIXELS)),
        }
        for name, (dtype, shape) in wanted.items():
            array = getattr(self, name)
            if array is not None and (array.dtype != dtype or array.shape != shape):
                what = f"{name} are {array.dtype} {array.shape}, must be {np.dtype(dtype)} {shape}"
                raise SchemaError(what, where="EventBatch", hint="EventBatch.of() converts")

    @classmethod
    def of(
        cls,
        samples: ArrayLike,
        number: ArrayLike | None = None,
        time: ArrayLike | None = None,
        event_type: ArrayLike | None = None,
        baselines: ArrayLike | None = None,
        *,
        first_number: int = 0,
    ) -> EventBatch:
        """Return events of arrays of any whole type.

        Parameters
        ----------
        samples : array-like, shape (n_events, 1296, n_samples)
            Whole numbers, 0 to 65535.
        number, time, event_type : array-like, shape (n_events,), or a number, optional
            Numbers count up from `first_number`, times and types are unknown by default.
        baselines : array-like, shape (n_events, 1296) or (1296,), optional
            In LSB.
        first_number : int
            Number of the first event where `number` is not given.

        Raises
        ------
        SchemaError
            If samples are no whole numbers from 0 to 65535, or shapes do not fit.
        """
        values = np.asarray(samples)
        if values.ndim != 3 or values.shape[1] != N_PIXELS:
            what = f"samples have the shape {values.shape}, must have (events, {N_PIXELS} pixels, samples)"
            raise SchemaError(what, where="EventBatch")
        n_events = values.shape[0]

        def per_event(given: ArrayLike | None, default: ArrayLike, dtype: Any) -> NDArray[Any]:
            array = np.asarray(default if given is None else given)
            if array.shape not in ((), (n_events,)):
                what = f"an array of shape {array.shape} beside {n_events} events"
                raise SchemaError(what, where="EventBatch")
            return np.array(np.broadcast_to(array, (n_events,)), dtype=dtype)

        level = None
        if baselines is not None:
            level = np.asarray(baselines)
            if level.shape not in ((N_PIXELS,), (n_events, N_PIXELS)):
                what = f"baselines have the shape {level.shape}, must have ({n_events}, {N_PIXELS})"
                raise SchemaError(what, where="EventBatch")
            level = np.array(np.broadcast_to(level, (n_events, N_PIXELS)), dtype=np.float32)
        return cls(
            whole_samples(values),
            per_event(number, first_number + np.arange(n_events), np.int64),
            per_event(time, NO_TIME, np.int64),
            per_event(event_type, NO_TYPE, np.int32),
            level,
        )

    @classmethod
    def concatenate(cls, batches: Iterable[EventBatch]) -> EventBatch:
        """Return the events of one batch or more, one after the other.

        Baselines of batches that have none are NaN where others have some.

        Raises
        ------
        SchemaError
            If there is no batch, or traces have different lengths.
        """
        parts = list(batches)
        lengths = sorted({part.n_samples for part in parts})
        if len(lengths) != 1:
            what = (
                f"traces of different lengths: {lengths} samples" if lengths else "no events to put together"
            )
            raise SchemaError(what, where="EventBatch")
        if len(parts) == 1:
            return parts[0]
        baselines = None
        if any(part.baselines is not None for part in parts):
            baselines = np.concatenate([part.known_baselines() for part in parts])
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("samples", "number", "time", "event_type")
        }
        return cls(**arrays, baselines=baselines)

    @property
    def n_samples(self) -> int:
        """Samples of a trace."""
        return int(self.samples.shape[2])

    def known_baselines(self) -> NDArray[np.float32]:
        """Return the baselines, all NaN where there are none."""
        if self.baselines is not None:
            return self.baselines
        return np.full((len(self), N_PIXELS), np.nan, dtype=np.float32)

    def __len__(self) -> int:
        return int(self.samples.shape[0])

    def __getitem__(self, events: slice) -> EventBatch:
        """Return some of the events; the arrays are views."""
        baselines = None if self.baselines is None else self.baselines[events]
        return EventBatch(
            self.samples[events], self.number[events], self.time[events], self.event_type[events], baselines
        )


def whole_samples(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return samples as 16-bit numbers, without a copy where they are.

    Raises
    ------
    SchemaError
        If one is negative, too large, or no whole number.
    """
    if values.dtype == np.uint16:
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "buif":
        what = f"samples are {values.dtype}, must be numbers"
        raise SchemaError(what, where="EventBatch")
    if values.size and not (values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max):
        what = (
            f"samples lie between {values.min()} and {values.max()}, must be 0 to 65535: raw waveforms in LSB"
        )
        raise SchemaError(what, where="EventBatch")
    found = values.astype(np.uint16)
    if values.dtype.kind == "f" and not np.array_equal(found, values):
        what = "samples are not whole numbers: raw waveforms in LSB are needed"
        raise SchemaError(what, where="EventBatch")
    return np.ascontiguousarray(found)
