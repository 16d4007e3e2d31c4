"""One pass over the input files for any number of steps.

Every file is cut into spans, every span is read once with the columns that all steps need together, and
the partial results are merged in the order of the spans. The division into spans does not depend on how
many processes there are, so that one process and a cluster give the same result bit for bit.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.data.schema import Chunk, Span, Table, merge_columns
from firstlight.data.select import CutFlow, Selection
from firstlight.detector import may_read, parts_of
from firstlight.errors import InputError, SchemaError
from firstlight.run.execution import Executor, Failure
from firstlight.run.provenance import InputRecord, digest_file, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from firstlight.detector import Description, Source
    from firstlight.run.config import StrictModel
    from firstlight.run.progress import Progress
    from firstlight.steps.step import ChunkStep, Context

__all__ = [
    "Reading",
    "look",
    "read_files",
    "reduce_chunks",
    "refused_by",
    "served_by",
    "skip_beyond",
    "spans_of",
    "unique_names",
    "with_conditions",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What one pass over the files gave.

    Parameters
    ----------
    partials : mapping of str to any
        By step, the merged partial result; a step is missing if no file could be used.
    cut_flow : CutFlow or None
        None if there were no cuts or no data.
    refused : mapping of str to str
        Files that failed while they were read, with the reason. Nothing of them is in the partials.
    """

    partials: Mapping[str, Any]
    cut_flow: CutFlow | None
    refused: Mapping[str, str]


@dataclass(frozen=True)
class _Task:
    span: Span
    source: Source
    steps: tuple[tuple[ChunkStep, StrictModel], ...]
    selection: Selection
    context: Context
    chunk_events: int | None


def look(
    paths: Sequence[Path], sources: Sequence[Source], executor: Executor, progress: Progress
) -> tuple[list[Description | None], list[InputRecord]]:
    """Return what each file holds, and the record of each.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    sources : sequence of Source
        Asked in order; the first that takes a file for its own describes it. If none does, the last one
        says what is wrong with it.
    executor, progress
        How, and where it is shown.

    Returns
    -------
    descriptions : list of Description or None
        None for a refused file.
    records : list of InputRecord
        One per file.
    """
    descriptions: list[Description | None] = []
    records = []
    tasks = [(path, tuple(sources)) for path in paths]
    with progress.bar("looking", len(tasks), "files") as advance:
        for (path, _), result in zip(tasks, executor.map(_describe, tasks), strict=True):
            advance(1, path.name)
            size = size_of(path)
            if isinstance(result, Failure):
                descriptions.append(None)
                records.append(InputRecord(str(path), "refused", _reason(result), size))
                log.warning("refused %s: %s", path, _reason(result))
                log.debug("%s", result.trace)
                continue
            found, digest = result
            descriptions.append(found)
            records.append(
                InputRecord(
                    str(path), "used", "", size, digest, found.n_events, found.source, found.kind,
                    found.conditions, found.notes,
                )
            )  # fmt: skip
    return descriptions, records


def _describe(task: tuple[Path, tuple[Source, ...]]) -> tuple[Description, str]:
    path, sources = task
    digest = digest_file(path)
    return _reader_of(path, sources).describe(path), digest


def _reader_of(path: Path, sources: Sequence[Source]) -> Source:
    """Return the source that takes a path for its own; else the one most likely to say what is wrong with it."""
    if len(sources) == 1:
        return sources[0]
    possible = [source for source in sources if may_read(source, path)] or list(sources)
    alike = [source for source in possible if path.is_dir() or path.name.endswith(source.suffixes)]
    return next((source for source in possible if source.sniff(path)), (alike or possible)[-1])


def _reason(failure: Failure) -> str:
    error = failure.error
    if isinstance(error, InputError):
        return error.what if error.hint is None else f"{error.what} (try: {error.hint})"
    return f"{type(error).__name__}: {error}"


def reduce_chunks(
    chunks: Iterable[Chunk],
    steps: Sequence[tuple[ChunkStep, StrictModel]],
    context: Context,
    selection: Selection = Selection(),  # noqa: B008  (frozen)
) -> tuple[dict[str, Any], CutFlow | None]:
    """Return the partial result of each step over some chunks, and the cut flow.

    Parameters
    ----------
    chunks : iterable of Chunk
        In order; one is held at a time.
    steps : sequence of (ChunkStep, StrictModel)
        Steps with their parameters.
    context : Context
        What the steps may know.
    selection : Selection
        Applied to each chunk first.
    """
    partials: dict[str, Any] = {}
    flow: CutFlow | None = None
    for chunk in _ahead(chunks):
        _check(chunk, len(context.channels))
        data = chunk
        if selection:
            data, counted = selection.apply(chunk)
            flow = counted if flow is None else flow + counted
        for step, parameters in steps:
            partial = step.map(data, parameters, context)
            partials[step.name] = (
                step.merge(partials[step.name], partial) if step.name in partials else partial
            )
    return partials, flow


def _check(chunk: Chunk, n_channels: int) -> None:
    """Refuse a chunk whose tables contradict each other: kernels trust them, and would leave their arrays."""
    hits = chunk.parts.get("hits")
    events = chunk.parts.get("events")
    if isinstance(hits, Table) and isinstance(events, Table) and "n_hits" in events:
        total = int(events.frame["n_hits"].sum())
        if total != len(hits):
            what = f"events {chunk.span.start} to {chunk.span.stop}: n_hits add up to {total}, there are {len(hits)} hits"
            raise SchemaError(
                what, where=chunk.span.path, hint="this is a fault of the source, not of the file"
            )
    for name, part in chunk.parts.items():
        if isinstance(part, Table) and "channel" in part and len(part):
            largest = int(part.frame["channel"].max())  # type: ignore[arg-type]
            if largest >= n_channels:
                what = f"table {name} has channel {largest}, the channel map has {n_channels}"
                raise SchemaError(
                    what, where=chunk.span.path, hint="-1 is for hits that belong to no channel"
                )


def _ahead(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield chunks while the next one is read in another thread: decompression and kernels free the lock."""
    waiting = iter(chunks)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, waiting, None)
        try:
            while (chunk := coming.result()) is not None:
                coming = reader.submit(next, waiting, None)
                yield chunk
        finally:
            coming.cancel()


def _run_task(task: _Task) -> tuple[dict[str, Any], CutFlow | None]:
    columns = merge_columns(
        [step.needs(parameters) for step, parameters in task.steps] + [task.selection.needs()]
    )
    if task.selection:
        columns = _with_links(columns, task.source)
    chunks = task.source.read(task.span, columns, task.context.channels, chunk_events=task.chunk_events)
    return reduce_chunks(chunks, task.steps, task.context, task.selection)


def _with_links(columns: Mapping[str, tuple[str, ...]], source: Source) -> dict[str, tuple[str, ...]]:
    """Return the columns with those that tie hits to events, so that a cut on one reaches the other."""
    linked = {
        table: ("event",)
        for table in columns
        if table in source.schemas and "event" in source.schemas[table].names
    }
    if "events" in source.schemas and "n_hits" in source.schemas["events"].names:
        linked["events"] = ("n_hits",)
    return merge_columns([columns, linked])


def spans_of(
    paths: Sequence[Path], n_events: Sequence[int], sources: Sequence[Source], limit: int | None
) -> list[Span]:
    """Return the spans of some files.

    Parameters
    ----------
    paths, n_events, sources : sequence
        One entry a file; a file with -1 events is left out.
    limit : int, optional
        Events read at most, of the first files.
    """
    spans = []
    left = limit
    for index, (path, size, source) in enumerate(zip(paths, n_events, sources, strict=True)):
        if size < 0 or left == 0:
            continue
        stop = size if left is None else min(size, left)
        left = None if left is None else left - stop
        step = source.span_events or max(stop, 1)
        starts = range(0, max(stop, 1), step)
        spans += [Span(str(path), index, start, min(start + step, stop)) for start in starts]
    return spans


def read_files(
    spans: Sequence[Span],
    sources: Mapping[int, Source],
    steps: Sequence[tuple[ChunkStep, StrictModel]],
    context: Context,
    *,
    selection: Selection = Selection(),  # noqa: B008  (frozen)
    executor: Executor,
    progress: Progress,
    chunk_events: int | None = None,
) -> Reading:
    """Read files once for several steps.

    Parameters
    ----------
    spans : sequence of Span
        What to read; spans of one file stand together.
    sources : mapping of int to Source
        By the `index` of a span.
    steps : sequence of (ChunkStep, StrictModel)
        Steps with their parameters.
    context : Context
        What the steps may know.
    selection : Selection
        Cuts.
    executor, progress
        How, and where it is shown.
    chunk_events : int, optional
        Events per chunk; the source chooses by default.

    Returns
    -------
    Reading
        A file of which one span fails is left out whole, and named.
    """
    tasks = [
        _Task(
            span, sources[span.index], served_by(sources[span.index], steps), selection, context, chunk_events
        )
        for span in spans
    ]
    by_file: dict[int, list[tuple[dict[str, Any], CutFlow | None]]] = {}
    refused: dict[str, str] = {}
    total: tuple[dict[str, Any], CutFlow | None] = ({}, None)
    merges = {step.name: step.merge for step, _ in steps}
    with progress.bar("reading", sum(span.stop - span.start for span in spans), "events") as advance:
        following = [*(task.span.index for task in tasks[1:]), -1]
        for task, result, after in zip(tasks, executor.map(_run_task, tasks), following, strict=True):
            span = task.span
            advance(span.stop - span.start, Path(span.path).name)
            if isinstance(result, Failure):
                refused.setdefault(span.path, _reason(result))
                log.warning("refused %s: %s", span.path, _reason(result))
                log.debug("%s", result.trace)
            by_file.setdefault(span.index, []).append(({}, None) if isinstance(result, Failure) else result)
            if after != span.index:
                parts = by_file.pop(span.index)
                if span.path not in refused:
                    total = reduce(lambda a, b: _merge(a, b, merges), parts, total)
    return Reading(*total, refused)


def served_by(
    source: Source, steps: Sequence[tuple[ChunkStep, StrictModel]]
) -> tuple[tuple[ChunkStep, StrictModel], ...]:
    """Return those steps that a source has the tables and blocks for."""
    parts = parts_of(source)
    return tuple((step, own) for step, own in steps if parts.issuperset(step.needs(own)))


def _merge(
    one: tuple[dict[str, Any], CutFlow | None],
    other: tuple[dict[str, Any], CutFlow | None],
    merges: Mapping[str, Any],
) -> tuple[dict[str, Any], CutFlow | None]:
    partials = dict(one[0])
    for name, partial in other[0].items():
        partials[name] = merges[name](partials[name], partial) if name in partials else partial
    flows = [flow for flow in (one[1], other[1]) if flow is not None]
    return partials, reduce(lambda a, b: a + b, flows) if flows else None


def refused_by(record: InputRecord, refused: Mapping[str, str]) -> InputRecord:
    """Return the record of a file, with the reason if it is among those that were refused."""
    reason = refused.get(record.path)
    return record if reason is None else replace(record, status="refused", reason=reason)


def with_conditions(record: InputRecord, found: Mapping[str, Mapping[str, Any]]) -> InputRecord:
    """Return the record of a file, with what was found out of it beside the fields of its name."""
    more = found.get(record.path)
    return replace(record, conditions={**record.conditions, **more}) if more else record


def skip_beyond(records: Sequence[InputRecord], limit: int | None) -> list[InputRecord]:
    """Return the records with those files marked as skipped that a limited number of events does not reach."""
    left = limit
    found = []
    for record in records:
        reached = left is None or left > 0 or record.status != "used"
        if left is not None and record.status == "used":
            left = max(left - record.n_events, 0)
        why = f"not reached: at most {limit} events were asked for (--max-events)"
        found.append(record if reached else replace(record, status="skipped", reason=why))
    return found


def unique_names(paths: Sequence[str]) -> list[str]:
    """Return short names of files: the base name, or with as many of its folders as tell it from the others."""
    parts = [Path(path).absolute().parts for path in paths]
    depths = [1] * len(parts)
    while True:
        names = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        counts = Counter(names)
        # the same path twice cannot be told apart
        longer = [
            depth + 1 if counts[name] > 1 and depth < len(own) else depth
            for name, own, depth in zip(names, parts, depths, strict=True)
        ]
        if longer == depths:
            return names
        depths = longer
