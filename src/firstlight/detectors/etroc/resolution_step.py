"""The step from corrected times to the resolution of every board, in all and in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.etroc.options import ResolutionParameters, WalkParameters
from firstlight.detectors.etroc.steps import Matrix, boards_with_hits, matrix_of, problem, walk_options
from firstlight.detectors.etroc.tables import PAIRS, PIXEL_RESOLUTION, RESOLUTION, SLICES
from firstlight.errors import InputError, UsageError
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

    from numpy.typing import NDArray

    from firstlight.detectors.etroc.chain_bootstrap import Bootstrap
    from firstlight.detectors.etroc.resolution import Measurement
    from firstlight.detectors.etroc.timewalk import WalkResult

__all__ = ["REPLICAS", "resolution"]

_FEW = 50  # replicas of an error without an interval

REPLICAS = TableSchema(
    "replicas",
    (
        Column("replica", pl.Int32, "bootstrap sample, from 0"),
        Column("board", pl.UInt8, "board"),
        Column(
            "resolution", pl.Float64, "time resolution; null where there is no solution", "ps", nullable=True
        ),
    ),
    "a board in a bootstrap sample",
)


def run(
    products: Mapping[str, Any], parameters: ResolutionParameters, context: Context
) -> Mapping[str, Product]:
    """Return the products ``boards``, ``pairs``, ``slices`` and ``replicas``, or ``problem``.

    Two boards have a pair and no resolution of their own: then only ``pairs`` and ``problem`` are there.

    Parameters
    ----------
    products : mapping
        ``timewalk/hits`` and ``ingest/files``.
    parameters : ResolutionParameters
        How.
    context : Context
        Its channel map has the boards.
    """
    from firstlight.detectors.etroc.resolution import ESTIMATORS, far_events, measure, pair_rows

    hits: pl.DataFrame = products["timewalk/hits"].frame
    boards = boards_with_hits(hits, context.channels)
    n_iterations = int(hits["iteration"].max() or 0) + 1  # type: ignore[arg-type]
    columns = ("toa_ns", "correction_ns", "tot_ns", "channel", "file")
    matrices = [matrix_of(hits.filter(iteration=index), columns, boards) for index in range(n_iterations)]
    last = matrices[-1]
    pairs: dict[str, list[Any]] = {}
    for index, matrix in enumerate(matrices):
        for name, values in pair_rows(matrix["toa_ns"], index, boards=boards).items():
            pairs.setdefault(name, []).extend(values)
    found: dict[str, Product] = {"pairs": _table(PAIRS, pairs)}
    if len(boards) < 3:
        what = f"the resolution of single boards needs three boards or more, events have {len(boards)}; the width of their difference is in the table of pairs"
        return found | problem(what)
    # the likelihood has one tail, and would spend it on hits of other particles
    core = last.where(~far_events(last["toa_ns"]))
    rows: dict[str, list[Any]] = {}
    whole: dict[str, Measurement] = {}
    bootstraps: dict[str, Bootstrap] = {}
    if parameters.bootstrap:
        bootstraps, reason = _bootstrap(last, core, parameters, context)
        if not bootstraps:
            return found | problem(reason)
        found["replicas"] = _table(REPLICAS, bootstraps[parameters.bootstrap_estimator].rows())
    for index, matrix in enumerate(matrices):
        names = ESTIMATORS if index == n_iterations - 1 else ("std", "std_delta")
        for name in names:
            used = core if name == "likelihood" else matrix
            raw = used["toa_ns"] - used["correction_ns"]
            measured = whole[name] = measure(used["toa_ns"], boards=boards, estimator=name, raw=raw)
            more = {}
            if name in bootstraps and index == n_iterations - 1:
                more = {"bootstrap_error": bootstraps[name].error()}
                if name == parameters.bootstrap_estimator:
                    more["low"], more["high"] = bootstraps[name].interval()
            for column, values in measured.rows(index, **more).items():
                rows.setdefault(column, []).extend(values)
    found["boards"] = _table(RESOLUTION, rows)
    parts = _Parts(core, whole["likelihood"], parameters)
    slices = list(_slices(parts, context, products["ingest/files"].frame))
    found["slices"] = Table.from_rows(SLICES, slices)
    found["pixels"] = Table.from_rows(
        PIXEL_RESOLUTION, list(_of_pixels(slices, whole["likelihood"], context))
    )
    return found


def _table(schema: TableSchema, columns: Mapping[str, list[Any]]) -> Table:
    frame = pl.DataFrame(
        {name: pl.Series(values, dtype=schema.column(name).dtype) for name, values in columns.items()}
    )
    return Table.from_frame(schema, frame if frame.width else pl.DataFrame(schema=schema.dtypes))


def _bootstrap(
    matrix: Matrix, core: Matrix, parameters: ResolutionParameters, context: Context
) -> tuple[dict[str, Bootstrap], str]:
    """Return replicas by estimator, or none and the reason why there are none.

    Widths without a formula for their error have one from fewer replicas, which is good to 10 %.
    """
    from firstlight.detectors.etroc.chain_bootstrap import bootstrap_walk
    from firstlight.detectors.etroc.timewalk import correct_walk

    walk: WalkParameters = getattr(context.options, "timewalk", WalkParameters())
    few = min(parameters.bootstrap, _FEW)
    # the formula for std is for Gaussian times, and too small where there are tails
    wanted: dict[Any, int] = {"effective": few, "fwhm": few, "std": few}
    wanted[parameters.bootstrap_estimator] = parameters.bootstrap

    def corrected(events: Matrix) -> WalkResult:
        raw = events["toa_ns"] - events["correction_ns"]
        return correct_walk(
            raw, events["tot_ns"], boards=events.boards, events=events.events, **walk_options(walk)
        )

    try:
        with_all = corrected(matrix)
        without_far = with_all if core is matrix else corrected(core)
        return {
            name: bootstrap_walk(
                without_far if name == "likelihood" else with_all,
                n=number,
                seed=parameters.seed,
                estimator=name,
            )
            for name, number in wanted.items()
        }, ""
    except (InputError, UsageError) as error:
        return {}, error.what


@dataclass(frozen=True)
class _Parts:
    """The events that parts are taken of, and the result of all of them."""

    matrix: Matrix
    whole: Measurement
    parameters: ResolutionParameters

    def rows(self, by: str, label: str, x: float | None, inside: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Return a row a board for a part of the events.

        Whether there is a tail is decided on all events, as for the bootstrap: what is too little to be seen there
        cannot be seen in a part.
        """
        from firstlight.detectors.etroc.resolution import measure

        matrix = self.matrix
        common = {"by": by, "label": label, "x": x}
        if np.count_nonzero(inside) < self.parameters.minimum_events:
            nothing = {"resolution": None, "resolution_error": None, "status": "few events"}
            counts = np.isfinite(matrix["toa_ns"][inside]).sum(axis=0)
            return [
                {**common, "board": board, "events": int(count), **nothing}
                for board, count in zip(matrix.boards, counts, strict=True)
            ]
        measured = self.whole
        if not inside.all():
            fit = self.whole.fit
            tails: Literal["auto", "no"] = "auto" if fit is None or fit.has_tail else "no"
            times = matrix["toa_ns"][inside]
            raw = times - matrix["correction_ns"][inside]
            measured = measure(times, boards=matrix.boards, estimator="likelihood", tails=tails, raw=raw)
        return [
            {
                **common, "board": board, "events": int(measured.events[place]),
                "resolution": float(measured.resolution[place]),
                "resolution_error": float(measured.resolution_error[place]), "status": measured.status[place],
            }
            for place, board in enumerate(matrix.boards)
        ]  # fmt: skip


def _slices(parts: _Parts, context: Context, files: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the resolution in parts of the run: of time, files, bias voltages and pixels."""
    matrix, n_slices = parts.matrix, parts.parameters.slices
    position = np.arange(matrix.events.size)
    file = np.nanmax(matrix["file"], axis=1) if matrix.events.size else np.zeros(0)
    if n_slices > 1:
        edges = np.linspace(0, matrix.events.size, n_slices + 1).astype(int)
        for index in range(n_slices):
            inside = (position >= edges[index]) & (position < edges[index + 1])
            numbers = matrix.events[inside]
            label = f"events {numbers[0]} to {numbers[-1]}" if numbers.size else "no events"
            middle = float(numbers.mean()) if numbers.size else None
            yield from parts.rows("time", label, middle, inside)
    names = dict(files.select("file", "name").unique("file").iter_rows())
    if len(names) > 1:
        for index in sorted(names):
            yield from parts.rows("file", names[index], float(index), file == index)
    yield from _by_bias(parts, file, files)
    yield from _pixels(parts, context)


def _of_pixels(
    slices: list[dict[str, Any]], whole: Measurement, context: Context
) -> Iterator[dict[str, Any]]:
    """Yield the resolution of each pixel that has one: its own part of the run, or the board's where that has one pixel."""
    frame = context.channels.frame
    for place, board in enumerate(whole.boards):
        channels = frame.filter(pl.col("board") == board)["channel"].to_list()
        if len(channels) == 1:
            value, error = float(whole.resolution[place]), float(whole.resolution_error[place])
            yield {
                "channel": channels[0], "board": board, "events": int(whole.events[place]), "resolution": value,
                "resolution_error": error, "good": whole.status[place] == "ok",
            }  # fmt: skip
    for row in slices:
        if row["by"] == "pixel":
            yield {
                "channel": int(row["x"]), "board": row["board"], "events": row["events"], "resolution": row["resolution"],
                "resolution_error": row["resolution_error"], "good": row["status"] == "ok",
            }  # fmt: skip


def _by_bias(parts: _Parts, file: NDArray[np.float64], files: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the resolution in files of the same bias voltages: of the table of runs, else of the names of the files."""
    from firstlight.detectors.etroc.run_table import bias_of_files

    by_bias: dict[tuple[tuple[int, float], ...], list[int]] = {}
    for index, bias in bias_of_files(files, parts.matrix.boards, parts.parameters.run_table).items():
        by_bias.setdefault(tuple(sorted(bias.items())), []).append(index)
    for values, members in sorted(by_bias.items()):
        volts = dict(values)
        label = "/".join(f"{value:g}" for value in dict.fromkeys(volts.values())) + " V"
        for row in parts.rows("bias", label, None, np.isin(file, members)):
            yield {**row, "x": volts.get(row["board"])}


def _inputs(parameters: ResolutionParameters) -> list[str]:
    return [parameters.run_table] if parameters.run_table else []


def _pixels(parts: _Parts, context: Context) -> Iterator[dict[str, Any]]:
    """Yield the resolution of a board in the events in which one of its pixels is hit, where it has several."""
    matrix = parts.matrix
    labels = context.channels.frame.select("channel", "row", "col")
    for place, board in enumerate(matrix.boards):
        channel = matrix["channel"][:, place]
        known = np.unique(channel[np.isfinite(channel)]).astype(int)
        known = known[known >= 0]
        if known.size < 2:
            continue
        for number in known.tolist():
            inside = channel == number
            if np.count_nonzero(inside) < parts.parameters.minimum_events:
                continue
            _, row, col = labels.row(number)
            for found in parts.rows("pixel", f"{row}-{col}", float(number), inside):
                if found["board"] == board:
                    yield found


resolution = ProductStep(
    "resolution",
    run,
    needs=("timewalk/hits", "ingest/files"),
    parameters=ResolutionParameters,
    inputs=_inputs,
)
