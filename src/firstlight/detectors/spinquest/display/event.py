"""One event of a SpinQuest file, read without the rest of the file.

An event number is the number of the entry in the file, from 0; the event ID of the data acquisition is
another number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.schema import Span
from firstlight.detectors.spinquest.channels import channel_map, geometry_of
from firstlight.detectors.spinquest.geometry import Geometry
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.detectors.spinquest.source import SOURCES
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.detector import Description

    FloatArray = NDArray[np.float64]

__all__ = ["Event", "event_range", "only_in_time", "open_events", "read_event", "read_events"]

_UNFILLED = (-1, 2147483647, -2147483648)
_COLUMNS = ("channel", "detector_id", "element_id", "tdc_time", "drift_distance", "in_time", "status")


@dataclass(frozen=True, eq=False)
class Event:
    """One event with its valid hits.

    Attributes
    ----------
    path, number, n_events : str, int, int
        The file, the entry in it from 0, and how many there are.
    run_id, spill_id, event_id : int or None
        As written by the data acquisition; None where not filled.
    triggers : tuple of str or None
        Triggers that fired; None if the file has no trigger bits.
    detector_id, element_id, channel : ndarray of int, shape (n_hits,)
        IDs as written, and the channel of the channel map.
    tdc, drift : ndarray of float, shape (n_hits,)
        TDC time [ns] and distance from the wire [cm], signed in simulations; NaN where not known.
    in_time : ndarray of int, shape (n_hits,)
        1 in time, 0 not, -1 the file does not say.
    n_bad_detector, n_bad_element : int
        Hits of planes, or of elements, that the geometry does not have: counted and not drawn.
    notes : tuple of str
        What is missing or odd.
    """

    path: str
    number: int
    n_events: int
    run_id: int | None
    spill_id: int | None
    event_id: int | None
    triggers: tuple[str, ...] | None
    detector_id: NDArray[np.int32]
    element_id: NDArray[np.int32]
    channel: NDArray[np.int32]
    tdc: FloatArray
    drift: FloatArray
    in_time: NDArray[np.int8]
    n_bad_detector: int = 0
    n_bad_element: int = 0
    notes: tuple[str, ...] = ()

    @property
    def n_hits(self) -> int:
        """Number of valid hits."""
        return int(self.channel.size)

    @property
    def n_invalid(self) -> int:
        """Number of hits of planes or elements that do not exist."""
        return self.n_bad_detector + self.n_bad_element

    @property
    def state(self) -> NDArray[np.int8]:
        """Return the in-time flag of each hit, or -1 throughout without any hit in time: the flag was not filled."""
        known = bool((self.in_time == 1).any())
        return self.in_time if known else np.full(self.n_hits, -1, dtype=np.int8)

    @property
    def title(self) -> str:
        """File and entry."""
        return f"{Path(self.path).name}, event {self.number} of 0 to {self.n_events - 1}"

    @property
    def facts(self) -> list[str]:
        """Numbers, triggers and counts, in words."""
        ids = (("run", self.run_id), ("spill", self.spill_id), ("event ID", self.event_id))
        found = [f"{name} {value}" for name, value in ids if value is not None]
        if self.triggers is None:
            found.append("triggers not in the file")
        else:
            found.append("trigger " + ", ".join(self.triggers) if self.triggers else "no trigger")
        counted = f"{self.n_hits} hit{'' if self.n_hits == 1 else 's'}"
        if (self.in_time >= 0).any():
            counted += f", {int((self.in_time == 1).sum())} in time"
        found.append(counted)
        if self.n_invalid:
            found.append(f"{self.n_invalid} invalid not drawn")
        return [*found, *self.notes]


def event_range(events: str | int | range, n_events: int, where: str | Path | None = None) -> range:
    """Return the event numbers that are meant.

    Parameters
    ----------
    events : str, int or range
        ``7``, or ``"A:B"`` from A up to and without B; either may be left out.
    n_events : int
        How many there are.
    where : str or Path, optional
        For messages.

    Raises
    ------
    InputError
        The file has no events.
    UsageError
        It is not a number or range, or there is no such event; says how many there are.
    """
    if n_events == 0:
        what = "the file has no events"
        raise InputError(what, where=where)
    found = events if isinstance(events, range) else _parsed(str(events), n_events)
    if not found:
        what = f"no event in the range {events}"
        raise UsageError(what, where=where, hint=f"events of this file are 0 to {n_events - 1}")
    for number in (found[0], found[-1]):
        if not 0 <= number < n_events:
            what = f"there is no event {number}: the file has {n_events} events, 0 to {n_events - 1}"
            raise UsageError(what, where=where)
    return found


def _parsed(text: str, n_events: int) -> range:
    if re.fullmatch(r"\s*-?\d+\s*", text, re.ASCII):
        return range(int(text), int(text) + 1)
    match = re.fullmatch(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*", text, re.ASCII)
    if match is None:
        what = f"{text!r} is neither an event number nor a range"
        raise UsageError(what, hint="7, or 0:10 for the events 0 to 9")
    return range(int(match[1] or 0), n_events if match[2] is None else int(match[2]))


def open_events(path: str | Path, geometry: str | Path | Geometry = "auto") -> tuple[Description, Geometry]:
    """Return what the file says of itself, and the geometry that belongs to it.

    Parameters
    ----------
    path : str or Path
        A file with hits.
    geometry : str, Path or Geometry
        ``"auto"``, a version, the path of a table of planes, or the table itself.
    """
    found = SOURCES[0].describe(Path(path))
    if isinstance(geometry, Geometry):
        return found, geometry
    return found, geometry_of(str(geometry), {int(found.facts.get("n_planes", 0))})


def read_event(
    path: str | Path,
    event: int,
    *,
    channels: ChannelMap | None = None,
    geometry: str | Path | Geometry = "auto",
) -> Event:
    """Return one event; nothing else of the file is read.

    Parameters
    ----------
    path : str or Path
        A file with hits.
    event : int
        Entry number, from 0.
    channels : ChannelMap, optional
        Which elements are valid; that of the geometry by default.
    geometry : str, Path or Geometry
        See `open_events`.

    Raises
    ------
    InputError
        The file cannot be read.
    UsageError
        It has no such event.
    """
    return read_events(path, event, channels=channels, geometry=geometry)[0]


def read_events(
    path: str | Path,
    events: str | int | range,
    *,
    channels: ChannelMap | None = None,
    geometry: str | Path | Geometry = "auto",
) -> list[Event]:
    """Return several events that follow each other; parameters as in `read_event` and `event_range`."""
    description, table = open_events(path, geometry)
    numbers = event_range(events, description.n_events, path)
    if numbers.step != 1:
        what = f"events must follow each other, not go in steps of {numbers.step}"
        raise UsageError(what)
    channels = channels or channel_map(table)
    columns = {
        "events": ("run_id", "spill_id", "event_id", "n_hits", *TRIGGERS),
        "hits": ("event", *_COLUMNS),
    }
    found = []
    for chunk in SOURCES[0].read(Span(str(path), 0, numbers.start, numbers.stop), columns, channels):
        hits = {name: chunk.table("hits").array(name) for name in columns["hits"]}
        rows = chunk.table("events").frame.to_dicts()
        edges = np.searchsorted(hits["event"], np.arange(len(rows) + 1))
        for index, row in enumerate(rows):
            own = {name: values[edges[index] : edges[index + 1]] for name, values in hits.items()}
            found.append(_event(description, chunk.span.start + index, row, own, chunk.facts))
    return found


def _event(
    about: Description,
    number: int,
    row: Mapping[str, Any],
    hits: Mapping[str, NDArray[Any]],
    facts: Mapping[str, Any],
) -> Event:
    status, valid = hits["status"], hits["status"] == 0
    own = {name: hits[name][valid] for name in _COLUMNS}
    ids = {name: None if row[name] in _UNFILLED else int(row[name]) for name in ("run_id", "spill_id")}
    named = {"run_id": about.conditions.get("run"), "spill_id": about.conditions.get("spill")}
    ids = {name: value or named[name] for name, value in ids.items()}
    unfilled = row["event_id"] in _UNFILLED or (row["event_id"] == 0 and number > 0)
    tdc, drift = (own[name].astype(np.float64) for name in ("tdc_time", "drift_distance"))
    notes = []
    if valid.any() and not np.nan_to_num(tdc).any():
        tdc = np.full(tdc.size, np.nan)  # simulations write 0 throughout
    if valid.any() and (own["in_time"] == 0).all():
        notes.append("no hit is flagged in time (flag not filled?)")
    return Event(
        about.path,
        number,
        about.n_events,
        ids["run_id"],
        ids["spill_id"],
        None if unfilled else int(row["event_id"]),
        tuple(name for name in TRIGGERS if row[name]) if facts["has_trigger"] else None,
        own["detector_id"],
        own["element_id"],
        own["channel"],
        tdc,
        drift,
        own["in_time"],
        int((status == 1).sum()),
        int((status == 2).sum()),
        tuple(notes),
    )


def only_in_time(event: Event) -> Event:
    """Return the event with only those hits whose in-time flag is set; `InputError` if the file has none."""
    if event.n_hits and (event.in_time < 0).all():
        what = "the file has no in-time flag, and --in-time was asked for"
        raise InputError(what, where=event.path)
    keep = event.in_time == 1
    names = ("detector_id", "element_id", "channel", "tdc", "drift", "in_time")
    arrays: dict[str, Any] = {name: getattr(event, name)[keep] for name in names}
    left_out = int((~keep).sum())
    return replace(event, **arrays, notes=(*event.notes, f"{left_out} hits out of time not drawn"))
