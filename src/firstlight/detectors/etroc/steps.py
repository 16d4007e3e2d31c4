"""Steps from hits to corrected times: events, cuts, times in ns, time walk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.detectors.etroc.ingest import is_injection
from firstlight.detectors.etroc.options import (
    CutParameters,
    EventParameters,
    TimeCutParameters,
    TimeParameters,
    WalkParameters,
)
from firstlight.detectors.etroc.tables import (
    ACCEPTED,
    CALIBRATION,
    COEFFICIENTS,
    CORRECTED,
    EVENT_COUNTS,
    EVENT_HITS,
    FLOW,
    PROBLEM,
    TIMED,
)
from firstlight.errors import ConfigError, InputError, UsageError
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap

    Floats = NDArray[np.float64]

__all__ = [
    "Matrix",
    "boards_of",
    "boards_with_hits",
    "cut",
    "cut_times",
    "events",
    "matrix_of",
    "n_events_of",
    "problem",
    "times",
    "timewalk",
    "walk_options",
]  # fmt: skip


log = logging.getLogger("firstlight")


@dataclass(frozen=True)
class Matrix:
    """Columns of a table with one row for each event and one column for each board.

    Parameters
    ----------
    events : ndarray of int64, shape (n_events,)
        Numbers of the events, rising.
    boards : tuple of int
        Boards, in order of the columns.
    values : mapping of str to ndarray, shape (n_events, n_boards)
        By name; NaN where a board has no hit.
    """

    events: NDArray[np.int64]
    boards: tuple[int, ...]
    values: Mapping[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        return self.values[name]

    def where(self, events: NDArray[np.bool_]) -> Matrix:
        """Return the matrix with some of its events."""
        if events.all():
            return self
        values = {name: array[events] for name, array in self.values.items()}
        return Matrix(self.events[events], self.boards, values)


def matrix_of(frame: pl.DataFrame, columns: Sequence[str], boards: Sequence[int] | None = None) -> Matrix:
    """Return columns of hits with one row for each event and one column for each board.

    Parameters
    ----------
    frame : polars.DataFrame
        With ``event``, ``board`` and the columns; one hit of a board in an event. Of several the last one counts.
    columns : sequence of str
        Columns of numbers.
    boards : sequence of int, optional
        Boards, in order; those of the frame by default.
    """
    wanted = sorted(frame["board"].unique().to_list()) if boards is None else list(boards)
    event = frame["event"].to_numpy()
    if np.all(event[1:] >= event[:-1]):
        first = np.ones(event.size, dtype=np.bool_)
        np.not_equal(event[1:], event[:-1], out=first[1:])
        numbers, row = event[first], np.cumsum(first) - 1
    else:
        numbers, row = np.unique(event, return_inverse=True)
    place = np.full(256, -1)
    place[wanted] = np.arange(len(wanted))
    column = place[frame["board"].to_numpy()]
    there = column >= 0
    values = {}
    for name in columns:
        matrix = np.full((numbers.size, len(wanted)), np.nan)
        matrix[row[there], column[there]] = frame[name].cast(pl.Float64).to_numpy()[there]
        values[name] = matrix
    return Matrix(numbers.astype(np.int64), tuple(int(board) for board in wanted), values)


def problem(reason: str) -> dict[str, Product]:
    """Return the only product of a step that could not do its work."""
    return {"problem": Table.from_rows(PROBLEM, [{"reason": reason}])}


def boards_of(channels: ChannelMap) -> list[int]:
    """Return the boards of a run."""
    return [int(board) for board in channels.groups["board"].to_list()]


def boards_with_hits(hits: pl.DataFrame, channels: ChannelMap) -> list[int]:
    """Return the boards that events are made of: a pattern may leave boards out; all boards of a run without hits."""
    found = set(hits["board"].unique().to_list())
    return [board for board in boards_of(channels) if board in found] or boards_of(channels)


def n_events_of(counts: pl.DataFrame) -> int:
    """Return the number of events, with and without hits, from the table ``events/counts``."""
    whole = counts.filter(
        pl.col("what").is_in(["complete events", "incomplete events"]) & (pl.col("unit") == "events")
    )
    return int(whole["count"].sum())


def _build_events(
    products: Mapping[str, Any], parameters: EventParameters, context: Context
) -> Mapping[str, Product]:
    """Return the products ``hits`` (of events, in order) and ``counts``; none for charge injection."""
    from firstlight.detectors.etroc.events import Built, event_counts, hits_of_packets, select_one_hit

    if is_injection(products["ingest/files"].frame):
        return {}
    raw: pl.DataFrame = products["ingest/hits"].frame
    use = pl.col("ea").is_in(list(parameters.accept_ea))
    if not parameters.keep_all:
        use = pl.col("hit_flag") & use
    hits = raw.filter(use)
    packets: pl.DataFrame = products["ingest/packets"].frame
    # a board without any hit would make every event incomplete; the checks tell of it
    pattern = (
        parameters.pattern
        or tuple(sorted(hits["board"].unique().to_list()))
        or tuple(boards_of(context.channels))
    )
    known = boards_of(context.channels)
    for board in parameters.pattern:
        if board not in known:
            raise ConfigError.unknown(
                "board", str(board), [str(each) for each in known], where="events.pattern"
            )
    building = parameters.building
    if building == "auto":
        building = "counters" if packets.height else "pattern"
    if building == "counters":
        if not packets.height:
            raise _no_packets()
        built = _by_counters(packets)
        built = hits_of_packets(
            built, packets["file"].to_numpy(), packets["record"].to_numpy(), hits["file"].to_numpy(), hits["record"].to_numpy()
        )  # fmt: skip
    else:
        built = _by_boards(hits, building, pattern)
    event = built.event
    keep, affected = select_one_hit(
        event, hits["board"].to_numpy(), hits["toa"].to_numpy(), hits["tot"].to_numpy(), parameters.one_hit
    )
    keep &= event >= 0
    found = hits.with_columns(event=pl.Series(event)).filter(pl.Series(keep))
    # a pattern of rising boards leaves the order of the files
    order = found["event"].to_numpy().astype(np.int64) << 8 | found["board"].to_numpy()
    if np.any(order[1:] < order[:-1]):
        found = found.sort("event", "board", maintain_order=True)
    left_out = [
        (
            "with hit flag 0, or error bits (EA) that are not accepted",
            "left-out hits",
            raw.height - hits.height,
        )
    ]
    counts = event_counts(Built(event, built.n_events, built.counts), [*affected, *left_out])
    return {
        "hits": Table.from_frame(EVENT_HITS, found),
        "counts": Table.from_frame(EVENT_COUNTS, counts),
    }


def _no_packets() -> ConfigError:
    what = "the files have no packets with counters, so events cannot be built by counters"
    return ConfigError(what, where="events.building", known=["auto", "pattern", "order"])


def _by_counters(packets: pl.DataFrame) -> Any:
    from firstlight.detectors.etroc.events import build_by_counters, build_by_frame

    arrays = {name: packets[name].to_numpy() for name in ("file", "link", "l1a", "bcid")}
    if packets["frame"].null_count() == 0:
        frames = {name: packets[name].fill_null(0).to_numpy() for name in ("frame", "frame_event")}
        return build_by_frame(
            arrays["file"],
            arrays["link"],
            frames["frame"],
            frames["frame_event"],
            arrays["l1a"],
            arrays["bcid"],
        )
    return build_by_counters(arrays["file"], arrays["link"], arrays["l1a"], arrays["bcid"])


def _by_boards(hits: pl.DataFrame, building: str, pattern: Sequence[int]) -> Any:
    from firstlight.detectors.etroc.events import build_by_order, build_by_pattern

    board, file = hits["board"].to_numpy(), hits["file"].to_numpy()
    if building == "pattern":
        return build_by_pattern(board, pattern, file)
    time = None if hits["time"].null_count() else hits["time"].to_numpy()
    return build_by_order(board, time, pattern, file)


events = ProductStep(
    "events",
    _build_events,
    needs=("ingest/hits", "ingest/packets", "ingest/files"),
    parameters=EventParameters,
)


def _cut_files(parameters: CutParameters) -> list[str]:
    return [parameters.file] if parameters.file else []


def _cut_hits(
    products: Mapping[str, Any], parameters: CutParameters, context: Context
) -> Mapping[str, Product]:
    """Return the products ``events`` (which are accepted) and ``flow``."""
    from firstlight.detectors.etroc.cuts import apply_cuts, read_cuts
    from firstlight.detectors.etroc.suggest import suggest_cuts

    hits: pl.DataFrame = products["events/hits"].frame
    cuts = _chosen(parameters, read_cuts, lambda: suggest_cuts(hits))
    accepted, flow = apply_cuts(
        hits,
        cuts,
        boards_with_hits(hits, context.channels),
        keep_events=parameters.keeps,
        n_events=n_events_of(products["events/counts"].frame),
        files=products["ingest/files"].frame,
    )
    return _accepted(accepted, flow)


def _chosen(
    parameters: CutParameters, read: Callable[[Any], list[Any]], suggest: Callable[[], list[Any]]
) -> list[Any]:
    """Return the cuts of a file, or those given as rows, or those that follow from data: none where these are too few."""
    if parameters.file:
        return read(Path(parameters.file))
    if parameters.rows:
        return read(parameters.rows)
    if not parameters.suggest:
        return []
    try:
        return [each.cut for each in suggest()]
    except InputError as error:
        log.info("no cuts: %s", error.what)
        return []


def _accepted(accepted: NDArray[np.bool_], flow: pl.DataFrame) -> Mapping[str, Product]:
    frame = pl.DataFrame({"event": np.arange(accepted.size, dtype=np.uint32), "accepted": accepted})
    return {"events": Table.from_frame(ACCEPTED, frame), "flow": Table.from_frame(FLOW, flow)}


cut = ProductStep(
    "cut",
    _cut_hits,
    needs=("events/hits", "events/counts", "ingest/files"),
    parameters=CutParameters,
    inputs=_cut_files,
)


def _to_times(products: Mapping[str, Any], parameters: TimeParameters, _: Context) -> Mapping[str, Product]:
    """Return the products ``hits`` (in ns) and ``calibration``."""
    from firstlight.detectors.etroc.times import convert_times

    accepted = _accepted_by(products, ("cut/events",))
    timed, calibration = convert_times(
        products["events/hits"].frame,
        accepted,
        cal=parameters.cal,
        events_per_slice=parameters.events_per_slice,
    )
    return {"hits": Table.from_frame(TIMED, timed), "calibration": Table.from_frame(CALIBRATION, calibration)}


def _accepted_by(products: Mapping[str, Any], cuts: Sequence[str]) -> NDArray[np.bool_]:
    """Return which events pass the cuts that were made; all where none was."""
    accepted = np.ones(n_events_of(products["events/counts"].frame), dtype=np.bool_)
    for name in cuts:
        if name in products:
            accepted &= products[name].array("accepted")
    return accepted


times = ProductStep(
    "times",
    _to_times,
    needs=("events/hits", "events/counts"),
    uses=("cut/events",),
    parameters=TimeParameters,
)


def _cut_in_ns(
    products: Mapping[str, Any], parameters: TimeCutParameters, context: Context
) -> Mapping[str, Product]:
    """Return the products ``events`` (which are accepted) and ``flow``."""
    from firstlight.detectors.etroc.suggest import suggest_time_cuts
    from firstlight.detectors.etroc.time_cuts import apply_time_cuts, read_time_cuts

    timed: pl.DataFrame = products["times/hits"].frame
    before = _accepted_by(products, ("cut/events",))
    cuts = _chosen(
        parameters,
        read_time_cuts,
        lambda: suggest_time_cuts(timed.filter(pl.Series(before[timed["event"].to_numpy()]))),
    )
    accepted, flow = apply_time_cuts(
        timed,
        cuts,
        boards_with_hits(timed, context.channels),
        keep_events=parameters.keeps,
        n_events=before.size,
    )
    return _accepted(accepted, flow)


cut_times = ProductStep(
    "cut_times",
    _cut_in_ns,
    needs=("times/hits", "events/counts"),
    uses=("cut/events",),
    parameters=TimeCutParameters,
    inputs=_cut_files,
)


def walk_options(parameters: WalkParameters) -> dict[str, Any]:
    """Return the arguments of `correct_walk` that parameters stand for."""
    return {
        "order": parameters.order,
        "iterations": parameters.iterations,
        "method": parameters.method,
        "folds": parameters.folds,
        "core": parameters.window or None,
        "knots": max(parameters.order - 1, 0),
    }


def _correct(
    products: Mapping[str, Any], parameters: WalkParameters, context: Context
) -> Mapping[str, Product]:
    """Return the products ``hits`` (all iterations) and ``coefficients``, or ``problem``."""
    from firstlight.detectors.etroc.timewalk import correct_walk

    timed: pl.DataFrame = products["times/hits"].frame
    accepted = _accepted_by(products, ("cut/events", "cut_times/events"))
    timed = timed.filter(pl.Series(accepted[timed["event"].to_numpy()]) & pl.col("toa_ns").is_not_null())
    boards = boards_with_hits(products["times/hits"].frame, context.channels)
    if len(boards) < 2:
        return problem(f"the time-walk correction needs two boards or more, events have {len(boards)}")
    matrix = matrix_of(timed, ("toa_ns", "tot_ns", "channel", "file"), boards)
    # a board alone has no reference
    matrix = matrix.where(np.isfinite(matrix["toa_ns"]).sum(axis=1) > 1)
    try:
        found = correct_walk(
            matrix["toa_ns"],
            matrix["tot_ns"],
            boards=matrix.boards,
            events=matrix.events,
            **walk_options(parameters),
        )
    except (InputError, UsageError) as error:
        return problem(error.what)
    coefficients = Table.from_frame(
        COEFFICIENTS, pl.DataFrame(found.coefficients(), schema=COEFFICIENTS.dtypes)
    )
    return {"hits": _corrected(matrix, found), "coefficients": coefficients}


def _corrected(matrix: Matrix, found: Any) -> Table:
    n_boards = len(matrix.boards)
    common = {
        "event": np.repeat(matrix.events, n_boards),
        "board": np.tile(np.array(matrix.boards), matrix.events.size),
        **{name: matrix[name].ravel() for name in ("channel", "file", "tot_ns")},
    }
    frames = []
    for iteration in range(found.toa.shape[0]):
        corrected = found.toa[iteration].ravel()
        use = np.isfinite(corrected)
        columns = {
            **common,
            "delta_ns": found.delta[iteration].ravel(),
            "correction_ns": found.correction[iteration].ravel(),
            "toa_ns": corrected,
        }
        chosen = {
            name: pl.Series(name, values[use]).cast(CORRECTED.column(name).dtype)
            for name, values in columns.items()
        }
        frame = pl.DataFrame(chosen).with_columns(iteration=pl.lit(iteration, dtype=pl.Int32))
        frames.append(frame.select(CORRECTED.names))
    return Table(pl.concat(frames), CORRECTED)


timewalk = ProductStep(
    "timewalk",
    _correct,
    needs=("times/hits", "events/counts"),
    uses=("cut/events", "cut_times/events"),
    parameters=WalkParameters,
)
