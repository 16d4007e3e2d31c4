"""The step from corrected times to the resolution of every board, in all and in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.etroc.options import ResolutionParameters, WalkParameters
from firstlight.detectors.etroc.steps import Matrix, boards_of, matrix_of, problem, walk_options
from firstlight.detectors.etroc.tables import PAIRS, RESOLUTION, SLICES
from firstlight.errors import InputError, UsageError
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from firstlight.detectors.etroc.chain_bootstrap import Bootstrap

__all__ = ["REPLICAS", "resolution"]

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
    from firstlight.detectors.etroc.resolution import ESTIMATORS, measure, pair_rows

    hits: pl.DataFrame = products["timewalk/hits"].frame
    boards = boards_of(context.channels)
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
        what = f"the resolution of single boards needs three boards or more, the run has {len(boards)}; the width of their difference is in the table of pairs"
        return found | problem(what)
    rows: dict[str, list[Any]] = {}
    bootstrap = None
    if parameters.bootstrap:
        bootstrap, reason = _bootstrap(last, parameters, context)
        if bootstrap is None:
            return found | problem(reason)
        found["replicas"] = _table(REPLICAS, bootstrap.rows())
    for index, matrix in enumerate(matrices):
        raw = matrix["toa_ns"] - matrix["correction_ns"]
        names = ESTIMATORS if index == n_iterations - 1 else ("std", "std_delta")
        for name in names:
            measured = measure(matrix["toa_ns"], boards=boards, estimator=name, raw=raw)
            more = {}
            if bootstrap is not None and name == parameters.bootstrap_estimator and index == n_iterations - 1:
                low, high = bootstrap.interval()
                more = {"bootstrap_error": bootstrap.error(), "low": low, "high": high}
            for column, values in measured.rows(index, **more).items():
                rows.setdefault(column, []).extend(values)
    found["boards"] = _table(RESOLUTION, rows)
    found["slices"] = Table.from_rows(
        SLICES, list(_slices(last, parameters, context, products["ingest/files"].frame))
    )
    return found


def _table(schema: TableSchema, columns: Mapping[str, list[Any]]) -> Table:
    frame = pl.DataFrame(
        {name: pl.Series(values, dtype=schema.column(name).dtype) for name, values in columns.items()}
    )
    return Table.from_frame(schema, frame if frame.width else pl.DataFrame(schema=schema.dtypes))


def _bootstrap(
    matrix: Matrix, parameters: ResolutionParameters, context: Context
) -> tuple[Bootstrap | None, str]:
    """Return the replicas, or None and the reason why there are none."""
    from firstlight.detectors.etroc.chain_bootstrap import bootstrap_walk
    from firstlight.detectors.etroc.timewalk import correct_walk

    walk: WalkParameters = getattr(context.options, "timewalk", WalkParameters())
    raw = matrix["toa_ns"] - matrix["correction_ns"]
    try:
        corrected = correct_walk(
            raw, matrix["tot_ns"], boards=matrix.boards, events=matrix.events, **walk_options(walk)
        )
        return bootstrap_walk(
            corrected, n=parameters.bootstrap, seed=parameters.seed, estimator=parameters.bootstrap_estimator
        ), ""
    except (InputError, UsageError) as error:
        return None, error.what


def _slices(
    matrix: Matrix, parameters: ResolutionParameters, context: Context, files: pl.DataFrame
) -> Iterator[dict[str, Any]]:
    """Yield the resolution in parts of the run: of time, files, bias voltages and pixels."""
    position = np.arange(matrix.events.size)
    file = np.nanmax(matrix["file"], axis=1) if matrix.events.size else np.zeros(0)
    if parameters.slices > 1:
        edges = np.linspace(0, matrix.events.size, parameters.slices + 1).astype(int)
        for index in range(parameters.slices):
            inside = (position >= edges[index]) & (position < edges[index + 1])
            numbers = matrix.events[inside]
            label = f"events {numbers[0]} to {numbers[-1]}" if numbers.size else "no events"
            middle = float(numbers.mean()) if numbers.size else None
            yield from _part("time", label, middle, matrix, inside, parameters)
    names = dict(files.select("file", "name").unique("file").iter_rows())
    if len(names) > 1:
        for index in sorted(names):
            yield from _part("file", names[index], float(index), matrix, file == index, parameters)
    bias = {
        index: value
        for index, value in files.select("file", "bias").unique("file").iter_rows()
        if value is not None
    }
    for value in sorted(set(bias.values())):
        inside = np.isin(file, [index for index, each in bias.items() if each == value])
        yield from _part("bias", f"{value:g} V", value, matrix, inside, parameters)
    yield from _pixels(matrix, parameters, context)


def _pixels(matrix: Matrix, parameters: ResolutionParameters, context: Context) -> Iterator[dict[str, Any]]:
    """Yield the resolution of a board in the events in which one of its pixels is hit, where it has several."""
    labels = context.channels.frame.select("channel", "row", "col")
    for place, board in enumerate(matrix.boards):
        channel = matrix["channel"][:, place]
        known = np.unique(channel[np.isfinite(channel)]).astype(int)
        known = known[known >= 0]
        if known.size < 2:
            continue
        for number in known.tolist():
            inside = channel == number
            if np.count_nonzero(inside) < parameters.minimum_events:
                continue
            _, row, col = labels.row(number)
            for found in _part("pixel", f"{row}-{col}", float(number), matrix, inside, parameters):
                if found["board"] == board:
                    yield found


def _part(
    by: str,
    label: str,
    x: float | None,
    matrix: Matrix,
    inside: NDArray[np.bool_],
    parameters: ResolutionParameters,
) -> list[dict[str, Any]]:
    """Return a row a board for a part of the events."""
    from firstlight.detectors.etroc.resolution import measure

    rows = []
    common = {"by": by, "label": label, "x": x}
    if np.count_nonzero(inside) < parameters.minimum_events:
        nothing = {"resolution": None, "resolution_error": None, "status": "few events"}
        counts = np.isfinite(matrix["toa_ns"][inside]).sum(axis=0)
        return [
            {**common, "board": board, "events": int(count), **nothing}
            for board, count in zip(matrix.boards, counts, strict=True)
        ]
    measured = measure(matrix["toa_ns"][inside], boards=matrix.boards, estimator="likelihood")
    for place, board in enumerate(matrix.boards):
        rows.append(
            {
                **common, "board": board, "events": int(measured.events[place]),
                "resolution": float(measured.resolution[place]),
                "resolution_error": float(measured.resolution_error[place]), "status": measured.status[place],
            }
        )  # fmt: skip
    return rows


resolution = ProductStep(
    "resolution", run, needs=("timewalk/hits", "ingest/files"), parameters=ResolutionParameters
)
