"""SpinQuest hits in other file formats: Parquet, ROOT with flat leaves, CSV.

All converters read in chunks, write to a temporary name and rename, go on after a bad file and return a
report of what became of each input. Padding of fixed-size arrays is not written; events without hits are.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Span, TableSchema
from firstlight.detectors.spinquest.channels import channel_map, geometry_of
from firstlight.detectors.spinquest.geometry import element_position
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.detectors.spinquest.source import EVENTS, HITS, SOURCES
from firstlight.errors import InputError, UsageError
from firstlight.files import atomic
from firstlight.run.progress import silent
from firstlight.run.reading import unique_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.schema import Chunk
    from firstlight.detector import Description
    from firstlight.detectors.spinquest.geometry import Geometry
    from firstlight.run.progress import Progress

__all__ = ["EVENT_TABLE", "HIT_TABLE", "Conversion", "Converted", "to_csv", "to_flat_root", "to_parquet"]

_LABELS = (
    Column("file", pl.String, "name of the input file"),
    Column("entry", pl.Int64, "row of the event in the tree of the file, from 0", minimum=0),
)
_NUMBERS = tuple(EVENTS.column(name) for name in ("run_id", "spill_id", "event_id"))
HIT_TABLE = TableSchema(
    "hits",
    (
        *_LABELS,
        *_NUMBERS,
        HITS.column("detector_id"),
        HITS.column("element_id"),
        Column("plane", pl.String, "name of the plane; null if the detector ID is not known", nullable=True),
        HITS.column("channel"),
        HITS.column("tdc_time"),
        HITS.column("drift_distance"),
        HITS.column("in_time"),
        HITS.column("status"),
    ),
    "a hit of the main TDCs",
)
EVENT_TABLE = TableSchema(
    "events",
    (
        *_LABELS,
        *_NUMBERS,
        *(EVENTS.column(name) for name in ("target_position", "turn_id", "rf_id")),
        *(
            Column(name, pl.Boolean, f"trigger {name} fired; null if the file has no triggers", nullable=True)
            for name in TRIGGERS
        ),
        EVENTS.column("n_hits"),
        EVENTS.column("n_padding"),
    ),
    "an event; numbers that the file does not have are 0",
)
_HIT_COLUMNS = (
    "event", "channel", "detector_id", "element_id", "tdc_time", "drift_distance", "in_time", "status",
)  # fmt: skip
_WANTED = {"hits": _HIT_COLUMNS, "events": tuple(EVENTS.names)}
_IN_TIME_BIT = 2  # of the flag word of an SRAW hit
_LARGEST = np.iinfo(np.int16).max  # IDs are 16-bit numbers in SRAW


@dataclass(frozen=True)
class Converted:
    """What became of one input.

    Parameters
    ----------
    input : str
        The file.
    outputs : tuple of Path
        What was written of it.
    n_events, n_hits, n_padding : int
        Events and hits that were written, and unused slots that were not.
    """

    input: str
    outputs: tuple[Path, ...]
    n_events: int
    n_hits: int
    n_padding: int


@dataclass(frozen=True)
class Conversion:
    """Report of a conversion.

    Parameters
    ----------
    converted : tuple of Converted
        In the order of the inputs.
    refused : mapping of str to str
        Inputs that could not be used, with the reason; nothing of them was written.
    outputs : tuple of Path
        Every file that was written, once.
    """

    converted: tuple[Converted, ...]
    refused: Mapping[str, str]
    outputs: tuple[Path, ...]

    @property
    def n_hits(self) -> int:
        """Number of hits that were written."""
        return sum(one.n_hits for one in self.converted)


class _Writer(Protocol):
    """Takes the chunks of one input."""

    def add(self, chunk: Chunk) -> None:
        """Write a chunk."""
        ...

    def close(self) -> tuple[Path, ...]:
        """Finish the files of the input and return them."""
        ...


class _Open(Protocol):
    """Makes the writer of one input; what it enters into the stack is undone if the input fails."""

    def __call__(self, stack: ExitStack, found: Description, name: str, channels: ChannelMap) -> _Writer:
        """Return the writer."""
        ...


def to_parquet(
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    merged: bool = False,
    geometry: str = "auto",
    progress: Progress | None = None,
    chunk_events: int | None = None,
) -> Conversion:
    """Write hits and events as Parquet.

    Parameters
    ----------
    paths : sequence of path
        ROOT files of any layout that the package reads.
    output : path
        Folder. Each input gives ``<stem>/hits.parquet`` and ``<stem>/events.parquet`` there.
    merged : bool
        All inputs in one ``hits.parquet`` and one ``events.parquet`` in the folder itself.
    geometry : str
        Version or path of a table of planes.
    progress : Progress, optional
        Where progress is shown.
    chunk_events : int, optional
        Events held at a time; about 400,000 hits by default.

    Returns
    -------
    Conversion
        Columns are those of `HIT_TABLE` and `EVENT_TABLE`; units and descriptions stand in the metadata of
        the files (key ``firstlight_schema``, JSON).

    Raises
    ------
    UsageError
        If there is no input, or the output is a file.
    """
    folder = _folder(output)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".parts.") as scratch:
        parts = _Parts(Path(scratch), folder, merged=merged)
        report = _convert(paths, parts.open, geometry, progress, chunk_events)
        outputs = parts.merge([one.input for one in report.converted]) if merged else report.outputs
    if not merged:
        return report
    converted = tuple(
        Converted(one.input, outputs, one.n_events, one.n_hits, one.n_padding) for one in report.converted
    )
    return Conversion(converted, report.refused, outputs)


def to_flat_root(
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    geometry: str = "auto",
    progress: Progress | None = None,
    chunk_events: int | None = None,
) -> Conversion:
    """Write SRAW files with flat leaves: tree ``save``, ``fAllHits.detectorID`` and so on.

    The original tool and this package read them; there is no SRawEvent object inside. Values are those of
    the input: drift distances of simulations stay signed. A leaf is left out where the input has nothing for it (times,
    drift distances, flag, trigger bits). ``fNHits`` counts the hits of each plane, with the total in front.

    Parameters
    ----------
    paths, geometry, progress, chunk_events
        As in `to_parquet`.
    output : path
        Folder for one file of the same name an input, or, for one input, a name that ends in ``.root``.

    Raises
    ------
    UsageError
        If there is no input, the output is a file, or would overwrite an input.
    """
    target = Path(output)
    single = target.suffix == ".root"
    if single and len(paths) != 1:
        what = f"one output file {target.name} for {len(paths)} inputs"
        raise UsageError(what, hint="name a folder")
    folder = target.parent if single else _folder(target)

    def start(stack: ExitStack, found: Description, name: str, channels: ChannelMap) -> _Writer:
        path = target if single else folder / Path(name).with_suffix(".root")
        _not_itself(path, found.path)
        return _FlatRoot(stack, path, found, geometry_of(channels_geometry(channels, geometry), set()))

    return _convert(paths, start, geometry, progress, chunk_events)


def to_csv(
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    geometry: str = "auto",
    progress: Progress | None = None,
    chunk_events: int | None = None,
) -> Conversion:
    """Write the hits of each input as ``<stem>_hit_table.csv`` in a folder; parameters as in `to_parquet`.

    Not the ``<stem>_hits.csv`` of the original tool, which holds counts and not hits.
    """
    folder = _folder(output)

    def start(stack: ExitStack, found: Description, name: str, channels: ChannelMap) -> _Writer:
        del found
        return _Csv(stack, folder / Path(name).parent / f"{Path(name).stem}_hit_table.csv", name, channels)

    return _convert(paths, start, geometry, progress, chunk_events)


def channels_geometry(channels: ChannelMap, asked: str) -> str:
    """Return the geometry of a channel map: what was asked for, or what was chosen automatically."""
    return channels.version if asked == "auto" else asked


def _folder(output: Path | str) -> Path:
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be made a folder: {error.strerror}"
        raise UsageError(what, where=folder, hint="another --output") from error
    return folder


def _not_itself(path: Path, source: str) -> None:
    if path.exists() and path.samefile(source):
        what = "the output would overwrite the input"
        raise UsageError(what, where=path, hint="another --output")


def _convert(
    paths: Sequence[Path | str],
    start: _Open,
    geometry: str,
    progress: Progress | None,
    chunk_events: int | None,
) -> Conversion:
    """Run all inputs through writers."""
    if not paths:
        what = "no input file"
        raise UsageError(what)
    repeated = next((path for path, number in Counter(map(str, paths)).items() if number > 1), None)
    if repeated is not None:
        what = "is given more than once"
        raise UsageError(what, where=repeated)
    source = SOURCES[0]
    found: dict[int, Description] = {}
    refused: dict[str, str] = {}
    for index, path in enumerate(paths):
        try:
            found[index] = source.describe(Path(path))
        except InputError as error:
            refused[str(path)] = _reason(error)
    channels = channel_map(geometry_of(geometry, {one.facts.get("n_planes", 0) for one in found.values()}))
    names = unique_names([str(path) for path in paths])
    converted: list[Converted] = []
    total = sum(one.n_events for one in found.values())
    with (progress or silent()).bar("converting", total, "events") as advance:
        for index, description in found.items():
            span = Span(description.path, index, 0, description.n_events)
            totals = np.zeros(3, dtype=np.int64)
            try:
                with ExitStack() as stack:
                    writer = start(stack, description, _inside(names[index]), channels)
                    wanted = _wanted(description)
                    for chunk in source.read(span, wanted, channels, chunk_events=chunk_events):
                        writer.add(chunk)
                        events = chunk.table("events")
                        padding = int(events.array("n_padding").sum(dtype=np.int64))
                        totals += len(events), len(chunk.table("hits")), padding
                        advance(len(events), Path(description.path).name)
                    outputs = writer.close()
            except InputError as error:
                refused[description.path] = _reason(error)
                continue
            converted.append(Converted(description.path, outputs, *(int(value) for value in totals)))
    written = dict.fromkeys(path for one in converted for path in one.outputs)
    return Conversion(tuple(converted), refused, tuple(written))


def _inside(name: str) -> str:
    """Return a name that cannot leave the output folder."""
    return str(Path(*(part for part in Path(name).parts if part not in {"..", "/"})))


def _wanted(description: Description) -> dict[str, tuple[str, ...]]:
    if "trigger_hits" not in description.tables:
        return dict(_WANTED)
    return {**_WANTED, "trigger_hits": _HIT_COLUMNS}


def _reason(error: InputError) -> str:
    return error.what if error.hint is None else f"{error.what} (try: {error.hint})"


# -- tables ----------------------------------------------------------------------------------------------


def _frames(chunk: Chunk, name: str, channels: ChannelMap) -> dict[str, pl.DataFrame]:
    """Return the tables of hits and events of a chunk with all labels."""
    events, hits = chunk.table("events").frame, chunk.table("hits").frame
    entry = pl.Series("entry", np.arange(chunk.span.start, chunk.span.start + events.height))
    events = events.with_columns(entry, file=pl.lit(name))
    if not chunk.facts.get("has_trigger"):
        events = events.with_columns(pl.lit(None, dtype=pl.Boolean).alias(name) for name in TRIGGERS)
    planes = channels.groups.select(
        pl.col("detector_id").cast(pl.Int32), pl.col("group").cast(pl.String).alias("plane")
    )
    labels = [column.name for column in (*_LABELS, *_NUMBERS)]
    of_event = events.select(labels)[hits["event"].to_numpy()]
    whole = pl.concat([of_event, hits.drop("event")], how="horizontal")
    whole = whole.join(planes, on="detector_id", how="left", maintain_order="left")
    return {"hits": whole.select(HIT_TABLE.names), "events": events.select(EVENT_TABLE.names)}


_TABLES = {"hits": HIT_TABLE, "events": EVENT_TABLE}


class _Parts:
    """Collects chunks as small Parquet files, and joins them to the files that are asked for."""

    def __init__(self, scratch: Path, folder: Path, *, merged: bool) -> None:
        self.scratch = scratch
        self.folder = folder
        self.merged = merged
        self.parts: dict[str, dict[str, list[Path]]] = {}

    def open(self, stack: ExitStack, found: Description, name: str, channels: ChannelMap) -> _Writer:
        """Return the writer of one input."""
        parts: dict[str, list[Path]] = {table: [] for table in _TABLES}
        if not self.merged:
            stack.callback(_remove, parts)
        self.parts[found.path] = parts
        return _ParquetInput(self, found.path, name, channels)

    def merge(self, inputs: Sequence[str]) -> tuple[Path, ...]:
        """Join all inputs that were read to their end."""
        together = {table: [path for one in inputs for path in self.parts[one][table]] for table in _TABLES}
        return self.join(together, self.folder, inputs) if inputs else ()

    def join(
        self, parts: Mapping[str, Sequence[Path]], folder: Path, inputs: Sequence[str]
    ) -> tuple[Path, ...]:
        """Write one file a table, in the order of the parts, without holding more than a part."""
        outputs = []
        for table, paths in parts.items():
            path = folder / f"{table}.parquet"
            with atomic(path) as temporary:
                lazy = pl.scan_parquet(list(paths), glob=False)
                lazy.sink_parquet(temporary, metadata=_metadata(_TABLES[table], inputs), mkdir=False)
            outputs.append(path)
        return tuple(outputs)


def _remove(parts: Mapping[str, Sequence[Path]]) -> None:
    for paths in parts.values():
        for path in paths:
            path.unlink(missing_ok=True)


def _metadata(schema: TableSchema, inputs: Sequence[str]) -> dict[str, str]:
    columns = [{"name": c.name, "unit": c.unit, "description": c.description} for c in schema.columns]
    content = {"name": schema.name, "description": schema.description, "columns": columns}
    names = [Path(path).name for path in inputs]
    return {
        "firstlight_key": "converted",
        "firstlight_schema": json.dumps(content),
        "firstlight_inputs": json.dumps(names),
    }


class _ParquetInput:
    """Chunks of one input as Parquet."""

    def __init__(self, parts: _Parts, path: str, name: str, channels: ChannelMap) -> None:
        self.parts = parts
        self.path = path
        self.name = name
        self.channels = channels

    def add(self, chunk: Chunk) -> None:
        for table, frame in _frames(chunk, self.name, self.channels).items():
            mine = self.parts.parts[self.path][table]
            part = self.parts.scratch / f"{chunk.span.index}_{len(mine)}_{table}.parquet"
            frame.write_parquet(part, compression="lz4")
            mine.append(part)

    def close(self) -> tuple[Path, ...]:
        if self.parts.merged:
            return ()
        folder = self.parts.folder / Path(self.name).with_suffix("")
        return self.parts.join(self.parts.parts[self.path], folder, [self.path])


class _Csv:
    """Hits of one input as CSV."""

    def __init__(self, stack: ExitStack, path: Path, name: str, channels: ChannelMap) -> None:
        self.path = path
        self.name = name
        self.channels = channels
        self.stream = stack.enter_context(stack.enter_context(atomic(path)).open("wb"))
        self.header = True

    def add(self, chunk: Chunk) -> None:
        frame = _frames(chunk, self.name, self.channels)["hits"]
        frame.write_csv(self.stream, include_header=self.header)
        self.header = False

    def close(self) -> tuple[Path, ...]:
        self.stream.flush()
        return (self.path,)


# -- flat ROOT -------------------------------------------------------------------------------------------

_EVENT_LEAVES: dict[str, tuple[str, type[np.integer[Any]]]] = {
    "fRunID": ("run_id", np.int32),
    "fEventID": ("event_id", np.int32),
    "fSpillID": ("spill_id", np.int32),
    "fTargetPos": ("target_position", np.int16),
    "fTurnID": ("turn_id", np.int32),
    "fRFID": ("rf_id", np.int32),
}
_OPTIONAL_LEAVES = {"tdcTime": "tdc_time", "driftDistance": "drift_distance"}


class _FlatRoot:
    """One input as an SRAW file with flat leaves."""

    def __init__(self, stack: ExitStack, path: Path, found: Description, geometry: Geometry) -> None:
        import uproot

        self.path = path
        self.source = found.path
        self.geometry = geometry
        self.trigger = bool(found.facts.get("has_trigger"))
        self.collections = {
            name: (table, self.leaves(found.tables[table]))
            for name, table in (("fAllHits", "hits"), ("fTriggerHits", "trigger_hits"))
            if table in found.tables
        }
        self.n_planes = int(found.facts.get("n_planes") or geometry.planes["detector_id"].to_numpy().max())
        types: dict[str, Any] = {name: dtype for name, (_, dtype) in _EVENT_LEAVES.items()}
        if self.trigger:
            types["fTriggerBits"] = np.int32
        types["fNHits"] = np.dtype((np.int32, (self.n_planes + 1,)))
        types |= {name: _jagged(leaves) for name, (_, leaves) in self.collections.items()}
        file = stack.enter_context(uproot.recreate(stack.enter_context(atomic(path))))
        self.tree = file.mktree("save", types, title="hits of SpinQuest", field_name=lambda a, b: f"{a}.{b}")

    def leaves(self, columns: tuple[str, ...]) -> dict[str, type[np.generic]]:
        """Return the leaves of hits for which the input has values, with their types."""
        leaves: dict[str, type[np.generic]] = {
            "index": np.int32,
            "detectorID": np.int16,
            "elementID": np.int16,
        }
        leaves |= {leaf: np.float32 for leaf, column in _OPTIONAL_LEAVES.items() if column in columns}
        leaves["pos"] = np.float32
        if "in_time" in columns:
            leaves["flag"] = np.uint16
        return leaves

    def add(self, chunk: Chunk) -> None:
        events = chunk.table("events")
        if not len(events):
            return
        values: dict[str, Any] = {
            leaf: self.narrowed(events.array(name), dtype) for leaf, (name, dtype) in _EVENT_LEAVES.items()
        }
        if self.trigger:
            fired = np.stack([events.array(name) for name in TRIGGERS], axis=1)
            values["fTriggerBits"] = (fired @ (1 << np.arange(len(TRIGGERS)))).astype(np.int32)
        for name, (table, leaves) in self.collections.items():
            hits = chunk.table(table)
            arrays = {
                column: hits.array(column) for column in (*_HIT_COLUMNS[2:7], "event") if column in hits
            }
            values[name] = self.hits(arrays, leaves, len(events))
            if table == "hits":
                values["fNHits"] = self.counts(arrays["event"], arrays["detector_id"], len(events))
        self.tree.extend(values)

    def counts(self, event: NDArray[Any], detector: NDArray[Any], n_events: int) -> NDArray[np.int32]:
        """Return the hits of each plane of each event, with the total in front."""
        width = self.n_planes + 1
        known = (detector >= 1) & (detector < width)
        cell = event[known].astype(np.int64) * width + detector[known]
        counts = np.bincount(cell, minlength=n_events * width).reshape(n_events, width)
        counts[:, 0] = np.bincount(event, minlength=n_events)
        return counts.astype(np.int32)

    def hits(self, arrays: Mapping[str, NDArray[Any]], leaves: Mapping[str, type[np.generic]], n: int) -> Any:
        """Return the hits as an awkward array, one list an event."""
        import awkward as ak

        for column in ("detector_id", "element_id"):
            beyond = np.abs(arrays[column].astype(np.int64)) > _LARGEST
            if beyond.any():
                what = f"{column} {arrays[column][beyond.argmax()]} does not fit the 16 bits of an SRAW file"
                raise InputError(what, where=self.source, hint="convert to Parquet")
        n_hits = np.bincount(arrays["event"], minlength=n)
        first = np.cumsum(n_hits) - n_hits
        position = element_position(self.geometry, arrays["detector_id"], arrays["element_id"])
        given = {
            "index": np.arange(arrays["event"].size) - np.repeat(first, n_hits),
            "detectorID": arrays["detector_id"],
            "elementID": arrays["element_id"],
            "pos": np.nan_to_num(position),
            "flag": np.where(arrays.get("in_time", arrays["event"]) == 1, _IN_TIME_BIT, 0),
            **{leaf: arrays[column] for leaf, column in _OPTIONAL_LEAVES.items() if column in arrays},
        }
        flat = ak.zip({leaf: given[leaf].astype(dtype) for leaf, dtype in leaves.items()})
        return ak.unflatten(flat, n_hits)

    def narrowed(self, values: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
        """Return numbers in the type of a leaf, or say that they do not fit."""
        narrow = values.astype(dtype)
        if not np.array_equal(narrow, values):
            what = f"a number of an event, {values[narrow != values][0]}, does not fit {np.dtype(dtype).name}"
            raise InputError(what, where=self.source, hint="convert to Parquet")
        return narrow

    def close(self) -> tuple[Path, ...]:
        return (self.path,)


def _jagged(leaves: Mapping[str, type[np.generic]]) -> str:
    fields = ", ".join(f"{leaf}: {np.dtype(dtype).name}" for leaf, dtype in leaves.items())
    return f"var * {{{fields}}}"
