"""SST-1M zfits: events of the camera as batches, with their pixels in order and their baselines in LSB."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.readout.batch import NO_TIME, NO_TYPE, EventBatch
from firstlight.detectors.digicam.readout.zfits_table import (
    BASELINES,
    OF_THE_FORMAT,
    ORDER,
    SAMPLES,
    EventTable,
)
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["Scale", "ZfitsEvents"]

Scale = Literal["auto", 1, 16]

_NUMBER, _TYPE, _SECOND, _NANOSECOND, _TELESCOPE = (
    "eventNumber", "event_type", "local_time_sec", "local_time_nanosec", "telescopeID",
)  # fmt: skip
_SCALES = (1, 16)
# events whose baselines are compared with their samples, and how far the ratio may be off
_LOOKED_AT = 10
_ENOUGH = 50  # samples of a pixel, for a median
_TOLERANCE = 1.25
_NANOSECONDS = 1_000_000_000


@dataclass
class _Order:
    """The order of pixels of the last event, and where each sample goes."""

    read_out: NDArray[np.uint16] | None = None
    places: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class ZfitsEvents:
    """The events of a zfits file.

    Parameters
    ----------
    path : Path
        The file.
    baseline_scale : {"auto", 1, 16}
        By what the baselines of the file are divided. The camera counts in sixteenths of an LSB since August 2018, in LSB
        before; by default the ratio of baselines and samples says which. Baselines that are neither are
        not used: files of May 2018 have some that are 16 times too small, so coarse that they say nothing.

    Attributes
    ----------
    n_events : int
        Events.
    cards : dict
        Header of the table of events.

    Raises
    ------
    InputError
        If the file cannot be read, is cut off or damaged, or holds no events of this camera.
    """

    def __init__(self, path: Path, baseline_scale: Scale = "auto") -> None:
        self.path = path
        self._asked_scale = baseline_scale
        self._scale: tuple[float | None, str] | None = None
        self._kept: tuple[int, tuple[str, ...], Mapping[str, Sequence[Any]]] | None = None
        self._order = _Order()
        self._n_samples: int | None = None
        self._table = EventTable(path)
        self.n_events = self._table.n_events
        self.cards = self._table.cards

    @property
    def run_type(self) -> str:
        """What the header says that the file was taken with; empty where it says nothing."""
        return str(self.cards.get("RUNTYPE", "")).strip()

    @property
    def baseline_scale(self) -> float | None:
        """By what baselines are divided; None where they are not there, or not used."""
        return self._find_scale()[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the file."""
        said = self._find_scale()[1]
        return (*self._table.notes, *((said,) if said else ()))

    def facts(self) -> dict[str, Any]:
        """Return what the header says, and what the first tile of events is like.

        Returns
        -------
        dict
            ``run_type``, ``written`` (date) and further cards of the header where they are there; ``n_samples``, ``telescope_id``,
            ``event_types``, ``first_number``, ``first_time``, ``baseline_scale`` of the first events.
        """
        found: dict[str, Any] = {"message": self._table.message}
        if self.run_type:
            found["run_type"] = self.run_type
        if self.cards.get("DATE"):
            found["written"] = self.cards["DATE"]
        for key, value in self.cards.items():
            if not OF_THE_FORMAT.fullmatch(key):
                found[key.lower().replace("-", "_")] = value
        if not self.n_events:
            return found
        found["n_samples"] = self._batch(0, 1, samples=True, baselines=False).n_samples
        stop = min(self._table.tile_length, self.n_events)
        events = self._batch(0, stop, samples=False, baselines=False)
        tile = self._tile(0)
        if _TELESCOPE in tile:
            found["telescope_id"] = int(tile[_TELESCOPE][0])
        found["event_types"] = tuple(sorted(set(events.event_type.tolist()) - {NO_TYPE}))
        found["first_number"] = int(events.number[0])
        if events.time[0] != NO_TIME:
            found["first_time"] = f"{np.datetime64(int(events.time[0]), 'ns')} UTC"
        found["baseline_scale"] = self.baseline_scale
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
        """Yield the events from `start` to `stop`, `size` at a time.

        Parameters
        ----------
        start, stop : int
            Counted from the beginning of the file; to its end by default.
        size : int
            Events of a batch; the last one may have fewer. A stretch without events is one empty batch.
        samples, baselines : bool
            Whether they are wanted; traces that are not have no samples.

        Raises
        ------
        InputError
            If an event is damaged, or its pixels or samples are not those of this camera.
        """
        stop = self.n_events if stop is None else min(stop, self.n_events)
        for first in range(start, max(stop, start + 1), size):
            last = max(min(first + size, stop), first)
            yield self._batch(first, last, samples=samples, baselines=baselines)

    def _batch(self, start: int, stop: int, *, samples: bool, baselines: bool) -> EventBatch:
        n_events = stop - start
        scale = self.baseline_scale if baselines and n_events else None
        n_samples = self._length() if samples and n_events else 0
        batch = EventBatch(
            np.empty((n_events, N_PIXELS, n_samples), dtype=np.uint16),
            np.arange(start, stop),
            np.full(n_events, NO_TIME, dtype=np.int64),
            np.full(n_events, NO_TYPE, dtype=np.int32),
            None if scale is None else np.empty((n_events, N_PIXELS), dtype=np.float32),
        )
        at = start
        while at < stop:
            index, low = divmod(at, self._table.tile_length)
            high = min(self._table.tile_length, low + stop - at)
            tile = self._tile(index, waveforms=samples or scale is not None)
            self._fill(batch[at - start : at - start + high - low], tile, low, at, scale)
            at += high - low
        return batch

    def _fill(
        self, batch: EventBatch, tile: Mapping[str, Any], low: int, first: int, scale: float | None
    ) -> None:
        """Fill the arrays of a batch with rows of a tile, from row `low` on, which is event `first`."""
        rows = slice(low, low + len(batch))
        if _NUMBER in tile:
            batch.number[:] = tile[_NUMBER][rows]
        if _TYPE in tile:
            # an unknown type is written with all bits set
            batch.event_type[:] = tile[_TYPE][rows].astype(np.uint32).view(np.int32)
        if _SECOND in tile and _NANOSECOND in tile:
            batch.time[:] = _times(tile[_SECOND][rows], tile[_NANOSECOND][rows])
        if not batch.n_samples and scale is None:
            return
        for place in range(len(batch)):
            row, event = low + place, first + place
            pixels = self._places(tile, row, event)
            if batch.n_samples:
                self._sort(tile[SAMPLES][row], pixels, batch.samples[place], event)
            if batch.baselines is not None and scale is not None:
                batch.baselines[place, pixels] = self._baselines(tile, row, event) / np.float32(scale)

    def _tile(self, index: int, *, waveforms: bool = False) -> Mapping[str, Sequence[Any]]:
        """Return the columns of a tile; the last one is kept, since batches end where they like."""
        names: tuple[str, ...] = (_NUMBER, _TYPE, _SECOND, _NANOSECOND, _TELESCOPE)
        if waveforms:
            names += (SAMPLES, ORDER, BASELINES)
        if self._kept is None or self._kept[0] != index or not set(names) <= set(self._kept[1]):
            # the old one goes before the new one comes
            self._kept = None
            self._kept = (index, names, self._table.tile(index, names))
        return self._kept[2]

    def _length(self) -> int:
        """Return the samples of a trace; the first event of the file says for all, wherever reading begins."""
        if self._n_samples is None:
            n_values = int(self._tile(0, waveforms=True)[SAMPLES][0].size)
            if not n_values or n_values % N_PIXELS:
                raise self._odd_length(0, n_values)
            self._n_samples = n_values // N_PIXELS
        return self._n_samples

    def _odd_length(self, event: int, n_values: int) -> InputError:
        what = f"event {event} has {n_values:,} samples, no multiple of {N_PIXELS} pixels"
        return InputError(what, where=self.path)

    def _sort(
        self, row: NDArray[Any], places: NDArray[np.int64], out: NDArray[np.uint16], event: int
    ) -> None:
        from firstlight.detectors.digicam.readout.kernels import sort_pixels

        if row.size != out.size:
            if not row.size or row.size % N_PIXELS:
                raise self._odd_length(event, row.size)
            what = (
                f"the length of traces changes: event {event} has {row.size // N_PIXELS} samples, "
                f"those before have {out.shape[1]}"
            )
            raise InputError(what, where=self.path, hint="files with one length each")
        if row.dtype.itemsize != 2:
            what = f"samples are {row.dtype}, must be words of 16 bits"
            raise InputError(what, where=self.path)
        # in int16 a sample beyond 32767 would be negative
        if not sort_pixels(row.view(np.int16), places, out):
            what = f"event {event} has negative samples: no raw waveforms of a 12-bit converter"
            raise InputError(what, where=self.path)

    def _places(self, tile: Mapping[str, Sequence[Any]], row: int, event: int) -> NDArray[np.int64]:
        """Return the pixel of each channel that is read out; checked again only where it changes."""
        order = tile[ORDER][row]
        if self._order.read_out is None or not np.array_equal(order, self._order.read_out):
            self._order = _Order(order.copy(), self._checked_order(order, event))
        return self._order.places

    def _checked_order(self, order: NDArray[Any], event: int) -> NDArray[np.int64]:
        what = ""
        if order.size != N_PIXELS:
            what = f"event {event} has {order.size:,} pixel numbers (pixelsIndices), the camera has {N_PIXELS} pixels"
        else:
            places = order.astype(np.int64)
            if places.min() < 0 or places.max() >= N_PIXELS:
                wrong = places[(places < 0) | (places >= N_PIXELS)][0]
                what = f"event {event} has the pixel number {wrong} (pixelsIndices), the camera has 0 to {N_PIXELS - 1}"
            else:
                times = np.bincount(places, minlength=N_PIXELS)
                if times.max() > 1:
                    twice = int(times.argmax())
                    what = f"event {event} has the pixel number {twice} {times[twice]} times (pixelsIndices)"
        if what:
            raise InputError(what, where=self.path)
        return places

    def _baselines(self, tile: Mapping[str, Sequence[Any]], row: int, event: int) -> NDArray[np.float32]:
        values = np.asarray(tile[BASELINES][row])
        if values.size not in (0, N_PIXELS):
            what = f"event {event} has {values.size:,} baselines, the camera has {N_PIXELS} pixels"
            raise InputError(what, where=self.path)
        return values.astype(np.float32) if values.size else np.full(N_PIXELS, np.nan, dtype=np.float32)

    def _find_scale(self) -> tuple[float | None, str]:
        """Return by what baselines are divided, and what is to be said of it."""
        if self._scale is None:
            self._scale = self._looked_at_scale()
        return self._scale

    def _looked_at_scale(self) -> tuple[float | None, str]:
        if BASELINES not in self._table.columns or not self.n_events:
            return None, ""
        if self._asked_scale != "auto":
            return float(self._asked_scale), ""
        tile = self._tile(0, waveforms=True)
        rows = range(min(_LOOKED_AT, len(tile[SAMPLES])))
        n_values = {tile[SAMPLES][row].size for row in rows} | {0}
        levels = [np.asarray(tile[BASELINES][row]) for row in rows if tile[BASELINES][row].size == N_PIXELS]
        whole = [tile[SAMPLES][row] for row in rows if tile[SAMPLES][row].size == max(n_values)]
        if not levels or not whole or max(n_values) % N_PIXELS:
            # what is wrong with such events is told when they are read
            return None, ""
        step = max(len(whole) * max(n_values) // (N_PIXELS * _ENOUGH), 1)
        traces = [row.reshape(N_PIXELS, -1)[:, ::step] for row in whole]
        samples = np.median(np.concatenate(traces, axis=1), axis=1)
        return _scale_of(np.median(levels, axis=0), samples)

    def verify(self) -> None:
        """Make sure that the events add up to their checksum, where there is one.

        Raises
        ------
        InputError
            If they do not.
        """
        self._table.verify()

    def close(self) -> None:
        """Close the file."""
        self._kept = None
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _scale_of(baselines: NDArray[Any], samples: NDArray[Any]) -> tuple[float | None, str]:
    """Return by what baselines are divided: the ratio to the samples of the typical pixel is near 1 or 16.

    Parameters
    ----------
    baselines, samples : ndarray, shape (1296,)
        Typical values of each pixel.
    """
    known = (baselines > 0) & (samples > 0)
    if not known.any():
        return None, "the baselines of the camera are not used: they are zero"
    ratio = float(np.median(baselines[known] / samples[known]))
    for scale in _SCALES:
        if scale / _TOLERANCE < ratio < scale * _TOLERANCE:
            return float(scale), ""
    why = "neither in LSB (1) nor in sixteenths (16)"
    if 1 / _TOLERANCE < 16 * ratio < _TOLERANCE:
        why = "16 times too small, as in files of May 2018, and so known to 16 LSB only"
    return None, f"the baselines of the camera are not used: they are {ratio:.3g} times the samples, {why}"


def _times(second: NDArray[Any], nanosecond: NDArray[Any]) -> NDArray[np.int64]:
    """Return times in whole ns since 1970; floats would lose up to 256 ns."""
    seconds, rest = second.astype(np.uint64), nanosecond.astype(np.uint64)
    # a clock that was not set, or values that no clock has
    known = ((seconds > 0) | (rest > 0)) & (seconds < 1 << 33) & (rest < 1 << 33)
    seconds, rest = np.where(known, seconds, 0), np.where(known, rest, 0)
    return np.where(known, seconds.astype(np.int64) * _NANOSECONDS + rest.astype(np.int64), NO_TIME)
