"""What is counted of SpinQuest beside occupancies: spills, planes, triggers, and hits that fit no channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pydantic

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.detectors.spinquest.quality import quality
from firstlight.detectors.spinquest.source import STATUS
from firstlight.detectors.spinquest.trend import spill_trend
from firstlight.steps.multiplicity import multiplicity
from firstlight.steps.occupancy import OccupancyParameters, occupancy
from firstlight.steps.spectrum import SpectrumParameters, spectrum
from firstlight.steps.step import ChunkStep, Context, NoParameters, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk

__all__ = ["CHAIN", "Tally", "spills"]

# times are summed as whole numbers of 1/64 ns, so that a sum does not depend on the order of its terms
_TIME_SCALE = 64
# what is longer (in ns) is no time but a damaged word, and its square would not fit
_LONGEST_TIME = 1e5
_EVENT_COUNTS = ("n_events", "n_empty", "n_padding", "n_header_differs", "n_no_trigger")


class TdcParameters(SpectrumParameters):
    """TDC spectra: 8 ns bins, 18 counts of the Taiwan TDC each, so that the binning makes no pattern."""

    column: str = "tdc_time"
    low: float = 280.0
    high: float = 2008.0
    bins: int = pydantic.Field(216, ge=1)
    mark: str = "in_time"
    unit: str = "ns"
    description: str = "TDC time"


class DriftParameters(SpectrumParameters):
    """Drift distances, as absolute values: simulations have them signed, data do not."""

    column: str = "drift_distance"
    low: float = 0.0
    high: float = 2.6
    bins: int = pydantic.Field(130, ge=1)
    absolute: bool = True
    unit: str = "cm"
    description: str = "drift distance"


class SpinQuestOccupancyParameters(OccupancyParameters):
    """Occupancy with in-time hits counted apart."""

    marks: dict[str, str] = {"in_time": "in_time"}


@dataclass(frozen=True)
class Tally:
    """Counts of one spill of one file.

    Parameters
    ----------
    facts : dict
        What the file has: ``has_in_time``, ``has_trigger``, ``has_time``.
    run_id : int
        Run number as written.
    events : ndarray of int64, shape (5,)
        In the order of `_EVENT_COUNTS`.
    planes : ndarray of int64, shape (n_planes, 4)
        Hits, in-time hits, sum of times and sum of squared times in 1/64 ns.
    status : ndarray of int64, shape (3,)
        Hits by `STATUS`.
    triggers : ndarray of int64, shape (10,)
        Events by trigger.
    trigger_hits : ndarray of int64, shape (10, n_planes)
        Hits of the events of each trigger.
    n_timed : ndarray of int64, shape (n_planes,)
        Hits with a time other than 0 that can be one.
    """

    facts: dict[str, Any]
    run_id: int
    events: NDArray[np.int64]
    planes: NDArray[np.int64]
    status: NDArray[np.int64]
    triggers: NDArray[np.int64]
    trigger_hits: NDArray[np.int64]
    n_timed: NDArray[np.int64]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.facts,
            self.run_id,
            self.events + other.events,
            self.planes + other.planes,
            self.status + other.status,
            self.triggers + other.triggers,
            self.trigger_hits + other.trigger_hits,
            self.n_timed + other.n_timed,
        )


@dataclass(frozen=True)
class Tallies:
    """Tallies by file and spill, and hits that fit no channel by file, status and IDs."""

    by_spill: dict[tuple[int, int], Tally] = field(default_factory=dict)
    invalid: dict[tuple[int, int, int, int], int] = field(default_factory=dict)

    def __add__(self, other: Tallies) -> Tallies:
        by_spill = dict(self.by_spill)
        for key, tally in other.by_spill.items():
            by_spill[key] = by_spill[key] + tally if key in by_spill else tally
        invalid = dict(self.invalid)
        for ids, hits in other.invalid.items():
            invalid[ids] = invalid.get(ids, 0) + hits
        return Tallies(by_spill, invalid)


def tally(chunk: Chunk, _: NoParameters, context: Context) -> Tallies:
    """Count events, planes and triggers of each spill of a chunk."""
    events, hits = chunk.table("events"), chunk.table("hits")
    spill = events.array("spill_id")
    found: dict[tuple[int, int], Tally] = {}
    group = context.channels.group_index
    header = _header_differs(chunk, context)
    # in the order in which they come, wherever chunks end
    for label in spill[np.sort(np.unique(spill, return_index=True)[1])]:
        of_spill = spill == label
        rows = of_spill[hits.array("event")]
        found[chunk.span.index, int(label)] = _tally_spill(chunk, of_spill, rows, group, header)
    return Tallies(found, _invalid(hits, chunk.span.index))


def _tally_spill(
    chunk: Chunk,
    of_spill: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    group: NDArray[np.int64],
    header: NDArray[np.bool_],
) -> Tally:
    events, hits = chunk.table("events"), chunk.table("hits")
    n_planes = int(group[-1]) + 1
    status = np.bincount(hits.array("status")[rows], minlength=len(STATUS))
    known = rows & (hits.array("channel") >= 0)
    plane = group[hits.array("channel")[known]]
    time = hits.array("tdc_time")[known]
    timed = (np.abs(time) < _LONGEST_TIME) & (time != 0)
    ticks = np.rint(np.where(timed, time, 0) * _TIME_SCALE).astype(np.int64)
    in_time = hits.array("in_time")[known] == 1
    planes = np.stack(
        [
            np.bincount(plane, minlength=n_planes),
            np.bincount(plane[in_time], minlength=n_planes),
            _integer_sums(plane, ticks, n_planes),
            _integer_sums(plane, ticks**2, n_planes),
        ],
        axis=1,
    )
    fired = np.stack([events.array(name) for name in TRIGGERS], axis=1)
    event_of = hits.array("event")[known]
    trigger_hits = np.stack(
        [np.bincount(plane[fired[event_of, t]], minlength=n_planes) for t in range(len(TRIGGERS))]
    )
    n_hits = events.array("n_hits")
    counts = [
        np.count_nonzero(of_spill),
        np.count_nonzero(of_spill & (n_hits == 0)),
        int(events.array("n_padding")[of_spill].sum()),
        np.count_nonzero(header & of_spill),
        np.count_nonzero(of_spill & ~fired.any(axis=1)),
    ]
    first = int(np.flatnonzero(of_spill)[0])
    return Tally(
        dict(chunk.facts),
        int(events.array("run_id")[first]),
        np.array(counts, dtype=np.int64),
        planes.astype(np.int64),
        status.astype(np.int64),
        fired[of_spill].sum(axis=0).astype(np.int64),
        trigger_hits.astype(np.int64),
        np.bincount(plane[timed], minlength=n_planes).astype(np.int64),
    )


def _integer_sums(index: NDArray[np.int64], values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    total = np.zeros(size, dtype=np.int64)
    np.add.at(total, index, values)
    return total


def _header_differs(chunk: Chunk, context: Context) -> NDArray[np.bool_]:
    """Return for which events the writer's own numbers of hits, in all and of each plane, differ from the hits found."""
    n_hits = chunk.table("events").array("n_hits")
    if "header" not in chunk.parts or context.cut:
        return np.zeros(n_hits.size, dtype=bool)
    written = chunk.block("header").values
    hits = chunk.table("hits")
    detector = hits.array("detector_id").astype(np.int64)
    inside = (detector >= 0) & (detector < written.shape[1])
    cell = hits.array("event")[inside].astype(np.int64) * written.shape[1] + detector[inside]
    found = np.bincount(cell, minlength=written.size).reshape(written.shape)
    # index 0 of the header is the sum over all planes
    found[:, 0] = n_hits
    return np.asarray((written != found).any(axis=1))


def _invalid(hits: Table, file: int) -> dict[tuple[int, int, int, int], int]:
    status = hits.array("status")
    rows = np.flatnonzero(status)
    if not rows.size:
        return {}
    ids = np.stack(
        [hits.array(name)[rows].astype(np.int64) for name in ("status", "detector_id", "element_id")], axis=1
    )
    found, counts = np.unique(ids, axis=0, return_counts=True)
    return {(file, int(s), int(d), int(e)): int(n) for (s, d, e), n in zip(found, counts, strict=True)}


SPILLS = TableSchema(
    "spills",
    (
        Column("file", pl.String, "name of the input file"),
        Column("run_id", pl.Int64, "run number as written"),
        Column("spill_id", pl.Int64, "spill number as written"),
        Column("n_events", pl.Int64, "events that pass the selection"),
        Column("n_empty", pl.Int64, "of these, events without a hit"),
        Column("n_hits", pl.Int64, "hits that belong to a channel"),
        Column("n_bad_detector", pl.Int64, "hits of a detector ID that is not in the geometry"),
        Column("n_bad_element", pl.Int64, "hits of an element beyond the plane"),
        Column("n_padding", pl.Int64, "unused slots of fixed-size arrays"),
        Column("n_in_time", pl.Int64, "in-time hits; null if the file does not say", nullable=True),
        Column(
            "n_header_differs",
            pl.Int64,
            "events whose own counts of hits, in all or of a plane (fNHits), differ from the hits found",
        ),
        Column(
            "n_no_trigger",
            pl.Int64,
            "events without any trigger bit; null if the file has none",
            nullable=True,
        ),
        *(
            Column(name, pl.Int64, f"events with trigger {name}; null if the file has none", nullable=True)
            for name in TRIGGERS
        ),
    ),
    "a spill of a file, in the order of the files",
)
PLANES = TableSchema(
    "planes",
    (
        Column("file", pl.String, "name of the input file"),
        Column("spill_id", pl.Int64, "spill number as written"),
        Column("plane", pl.String, "name of the plane"),
        Column("n_hits", pl.Int64, "hits"),
        Column("n_in_time", pl.Int64, "in-time hits; null if the file does not say", nullable=True),
        Column("tdc_mean", pl.Float64, "mean TDC time; null without times", "ns", nullable=True),
        Column("tdc_std", pl.Float64, "standard deviation of the TDC time", "ns", nullable=True),
    ),
    "a plane in a spill of a file",
)
TRIGGER_TABLE = TableSchema(
    "triggers",
    (
        Column("trigger", pl.String, "name of the trigger"),
        Column("n_events", pl.Int64, "events in which it fired"),
        Column("plane", pl.String, "name of the plane"),
        Column("n_hits", pl.Int64, "hits of the plane in these events"),
    ),
    "a plane in the events of a trigger",
)
INVALID = TableSchema(
    "invalid",
    (
        Column("file", pl.String, "name of the input file"),
        Column("reason", pl.String, "why the hit belongs to no channel"),
        Column("detector_id", pl.Int64, "detector ID as written"),
        Column("element_id", pl.Int64, "element ID as written"),
        Column("hits", pl.Int64, "hits with these IDs"),
    ),
    "a pair of IDs that is not in the geometry, in a file",
)


def finish(partial: Tallies, _: NoParameters, context: Context) -> dict[str, Product]:
    """Return the products ``spills``, ``planes``, ``triggers`` and ``invalid``."""
    names = context.channels.group_names
    # spills stay in the order of the files; their numbers need not increase
    items = sorted(partial.by_spill.items(), key=lambda item: item[0][0])
    spill_rows = [_spill_row(context.files[index], spill, tally) for (index, spill), tally in items]
    plane_rows = [
        row
        for (index, spill), tally in items
        for row in _plane_rows(context.files[index], spill, tally, names)
    ]
    with_trigger = [tally for _, tally in items if tally.facts.get("has_trigger")]
    trigger_rows = []
    if with_trigger:
        fired = np.sum([tally.triggers for tally in with_trigger], axis=0)
        hits = np.sum([tally.trigger_hits for tally in with_trigger], axis=0)
        trigger_rows = [
            {"trigger": trigger, "n_events": int(fired[t]), "plane": plane, "n_hits": int(hits[t, p])}
            for t, trigger in enumerate(TRIGGERS)
            for p, plane in enumerate(names)
        ]
    invalid = [
        {
            "file": context.files[file],
            "reason": STATUS[status],
            "detector_id": detector,
            "element_id": element,
            "hits": hits,
        }
        for (file, status, detector, element), hits in sorted(partial.invalid.items())
    ]
    return {
        "spills": Table.from_rows(SPILLS, spill_rows),
        "planes": Table.from_rows(PLANES, plane_rows),
        "triggers": Table.from_rows(TRIGGER_TABLE, trigger_rows),
        "invalid": Table.from_rows(INVALID, invalid),
    }


def _spill_row(file: str, spill: int, tally: Tally) -> dict[str, Any]:
    row = {"file": file, "run_id": tally.run_id, "spill_id": spill}
    row.update({name: int(value) for name, value in zip(_EVENT_COUNTS, tally.events, strict=True)})
    row["n_hits"], row["n_bad_detector"], row["n_bad_element"] = (int(value) for value in tally.status)
    row["n_in_time"] = int(tally.planes[:, 1].sum()) if tally.facts.get("has_in_time") else None
    has_trigger = bool(tally.facts.get("has_trigger"))
    row.update(
        {name: int(n) if has_trigger else None for name, n in zip(TRIGGERS, tally.triggers, strict=True)}
    )
    row["n_no_trigger"] = row["n_no_trigger"] if has_trigger else None
    return row


def _plane_rows(file: str, spill: int, tally: Tally, names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for index, plane in enumerate(names):
        hits, in_time, total, squares = (int(value) for value in tally.planes[index])
        timed = int(tally.n_timed[index])
        mean = total / timed / _TIME_SCALE if timed else None
        # whole numbers up to here: no cancellation of large squares in floating point
        variance = (squares * timed - total**2) / timed**2 / _TIME_SCALE**2 if timed else 0.0
        rows.append(
            {
                "file": file,
                "spill_id": spill,
                "plane": plane,
                "n_hits": hits,
                "n_in_time": in_time if tally.facts.get("has_in_time") else None,
                "tdc_mean": mean,
                "tdc_std": variance**0.5 if timed else None,
            }
        )
    return rows


def needs(_: NoParameters) -> Mapping[str, tuple[str, ...]]:
    """Return the columns that `tally` reads."""
    hits = ("event", "channel", "status", "detector_id", "element_id", "tdc_time", "in_time")
    return {
        "hits": hits,
        "events": ("run_id", "spill_id", "n_hits", "n_padding", *TRIGGERS),
        "header": ("n_hits",),
    }


spills = ChunkStep("spills", tally, finish, needs, version=3)
tdc = spectrum("tdc", TdcParameters)
drift = spectrum("drift", DriftParameters)
counted = ChunkStep(
    occupancy.name, occupancy.map, occupancy.finish, occupancy.needs, parameters=SpinQuestOccupancyParameters
)

CHAIN = (counted, spills, multiplicity, tdc, drift, quality, spill_trend)
