"""Our tables in the original's columns and units: what goes into its SQLite files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.etroc.legacy.sqlite import BEAM_COLUMNS, INJECTION_COLUMNS, TABLES
from firstlight.errors import SchemaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "board_info_data",
    "etroc1_data",
    "etroc1_data_in_ns",
    "time_walk_tables",
    "timing_info",
    "twc_info",
]

_T3 = 3.125
_PS_PER_NS = 1000.0
_NAMES = {
    "board": "data_board_id",
    "toa": "time_of_arrival",
    "tot": "time_over_threshold",
    "cal": "calibration_code",
}


def etroc1_data(hits: pl.DataFrame, files: pl.DataFrame, kind: str = "beam") -> pl.DataFrame:
    """Return the table ``etroc1_data`` as the original writes it when it reads a file.

    Parameters
    ----------
    hits : polars.DataFrame
        As `EVENT_HITS`.
    files : polars.DataFrame
        As `FILES`: pixel, phase, charge and threshold of each file and board.
    kind : {"beam", "injection", "plain"}
        Beam: with ``datetime`` and ``pixel_id``. Injection: with the conditions of the file name. Plain: the codes alone,
        as the original keeps the runs of a charge-injection directory.

    Returns
    -------
    polars.DataFrame
        A hit a row. ``pixel_id`` is the name in the file's name, else ``R<row>C<column>``, else null.
    """
    if kind not in {"beam", "injection", "plain"}:
        raise UsageError.unknown("kind of data", kind, ("beam", "injection", "plain"))
    frame = hits.rename(_NAMES).with_columns(pl.col("event", "data_board_id").cast(pl.Int64))
    if kind == "plain":
        return frame.select(INJECTION_COLUMNS[:6])
    told = files.filter(pl.col("board").is_not_null())
    conditions = told.select(
        "file",
        pl.col("board").cast(pl.Int64).alias("data_board_id"),
        pl.col("pixel").alias("pixel_id"),
        pl.col("phase").alias("phase_adjust"),
        _whole(told["charge"]).alias("board_injected_charge"),
        _whole(told["threshold"]).alias("board_discriminator_threshold"),
    ).unique(["file", "data_board_id"], keep="first")
    frame = frame.join(conditions, on=["file", "data_board_id"], how="left", maintain_order="left")
    place = pl.format("R{}C{}", "row", "col")
    frame = frame.with_columns(
        pl.coalesce(
            "pixel_id", pl.when(pl.col("row").is_not_null() & pl.col("col").is_not_null()).then(place)
        ),
        pl.from_epoch("time").dt.to_string("%Y-%m-%d %H:%M:%S").alias("datetime"),
    )
    return frame.select(BEAM_COLUMNS if kind == "beam" else INJECTION_COLUMNS)


def _whole(series: pl.Series) -> pl.Series:
    """Return a column as whole numbers where it holds nothing else."""
    if series.dtype.is_float() and (series.is_null() | (series == series.round())).all():
        return series.cast(pl.Int64)
    return series


def etroc1_data_in_ns(data: pl.DataFrame, hits: pl.DataFrame, timed: pl.DataFrame) -> pl.DataFrame:
    """Return ``etroc1_data`` with bin and times in ns, in the original's order of columns.

    Parameters
    ----------
    data : polars.DataFrame
        `etroc1_data` of `hits`, row by row.
    hits : polars.DataFrame
        As `EVENT_HITS`.
    timed : polars.DataFrame
        As `TIMED`.
    """
    times = aligned(hits, timed, ("bin_ns", "toa_ns", "tot_ns"))
    added = times.rename(
        {"bin_ns": "fbin", "toa_ns": "time_of_arrival_ns", "tot_ns": "time_over_threshold_ns"}
    )
    frame = pl.concat([data, added], how="horizontal")
    rest = [name for name in frame.columns if name not in {"event", "data_board_id"}]
    return frame.select("data_board_id", "event", *rest)


def aligned(hits: pl.DataFrame, other: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """Return columns of another table of hits in the order of `hits`; null where it has no such hit.

    Hits are told apart by event, board, channel and file, and by their order where these are the same.
    """
    keys = ["event", "board", "channel", "file"]
    if other.height == hits.height and other.select(keys).equals(hits.select(keys)):
        return other.select(columns)
    count = pl.int_range(pl.len()).over(keys).alias("_count")
    left = hits.select(*keys, count)
    right = other.select(*(pl.col(key).cast(left[key].dtype) for key in keys), *columns).with_columns(count)
    return left.join(right, on=[*keys, "_count"], how="left", maintain_order="left").select(columns)


def board_info_data(data: pl.DataFrame, accepted: pl.DataFrame) -> pl.DataFrame:
    """Return the table ``board_info_data``: mean and median calibration code of accepted hits, and their bins in ns.

    Parameters
    ----------
    data : polars.DataFrame
        `etroc1_data`.
    accepted : polars.DataFrame
        As `ACCEPTED`.
    """
    code = pl.col("calibration_code").cast(pl.Float64)
    return (
        data.join(_accepted_events(accepted), on="event", how="semi")
        .group_by("data_board_id")
        .agg(code.mean().alias("calibration_code_mean"), code.median().alias("calibration_code_median"))
        .sort("data_board_id")
        .with_columns(
            _bin("calibration_code_mean").alias("fbin_mean"),
            _bin("calibration_code_median").alias("fbin_median"),
        )
    )


def _bin(column: str) -> pl.Expr:
    return pl.when(pl.col(column) > 0).then(_T3 / pl.col(column))


def _accepted_events(*filters: pl.DataFrame) -> pl.DataFrame:
    """Return the events that pass all filters."""
    events: pl.DataFrame | None = None
    for accepted in filters:
        passed = accepted.filter("accepted").select(pl.col("event").cast(pl.Int64))
        events = passed if events is None else events.join(passed, on="event", how="semi")
    return pl.DataFrame({"event": pl.Series([], dtype=pl.Int64)}) if events is None else events


def time_walk_tables(
    in_ns: pl.DataFrame,
    hits: pl.DataFrame,
    coefficients: pl.DataFrame,
    corrected: pl.DataFrame,
    *filters: pl.DataFrame,
) -> dict[str, pl.DataFrame]:
    """Return the tables of the time-walk task: ``etroc1_data``, ``twc_fit_info``, ``twc_info``.

    The curves are applied to all complete events, accepted or not, as in the original; where the correction of a hit is
    known (an accepted event, last iteration) it is taken from there, so that cross-fitted values stay what they are. A
    spline has no polynomial coefficients, so that ``twc_fit_info`` has no rows. The fits after correction
    (``twc_applied`` 1) are least squares of what remains.

    Parameters
    ----------
    in_ns : polars.DataFrame
        `etroc1_data_in_ns` of `hits`, row by row.
    hits, coefficients, corrected : polars.DataFrame
        As `EVENT_HITS`, `COEFFICIENTS` and `CORRECTED`.
    *filters : polars.DataFrame
        As `ACCEPTED`: an event has to pass all of them.
    """
    iterations = int(corrected["iteration"].max() or 0) + 1 if corrected.height else 0  # type: ignore[arg-type]
    corrections = _corrections(coefficients)
    curves = {key: values for key, (method, values, _) in corrections.items() if method != "spline"}
    iterations = max([iterations, *(iteration + 1 for iteration, _ in corrections)])
    boards = sorted(in_ns["data_board_id"].unique().to_list())
    grid = _Grid(in_ns, boards)
    passed = _accepted_events(*filters)
    used = np.isin(grid.events, passed["event"].to_numpy()) & grid.complete
    last = aligned(hits, corrected, ("toa_ns", "delta_ns"))
    raw, tot = grid.values(in_ns["time_of_arrival_ns"]), grid.values(in_ns["time_over_threshold_ns"])
    toa, columns, fits = raw, {}, []
    for iteration in range(iterations):
        delta = _delta(toa, raw)
        walk = [_curve(corrections.get((iteration, board)), tot[:, at]) for at, board in enumerate(boards)]
        new = raw + np.stack(walk, axis=1)
        if iteration == iterations - 1:
            delta = _filled(grid.values(last["delta_ns"]), delta)
            new = _filled(grid.values(last["toa_ns"]), new)
        after = _delta(toa, new)
        columns[f"delta_toa_to_reference_iteration_{iteration}"] = delta
        columns[f"time_of_arrival_twc_iteration_{iteration}"] = new
        columns[f"delta_toa_to_reference_iteration_{iteration}_twc"] = after
        fits += _fit_rows(iteration, boards, curves, tot[used], after[used])
        toa = new
    columns[f"delta_toa_to_reference_iteration_{iterations}"] = _delta(toa, raw)
    rest = [name for name in in_ns.columns if name not in {"event", "data_board_id"}]
    frame = in_ns.select("event", "data_board_id", *rest).with_columns(
        [pl.Series(name, grid.rows(values)).fill_nan(None) for name, values in columns.items()]
    )
    powers = max([len(curve) for curve in curves.values()], default=1)
    types: dict[str, Any] = {"twc_iteration": pl.Int64, "board_id": pl.Int64, "twc_applied": pl.Boolean}
    types |= {f"p{power}": pl.Float64 for power in range(powers)}
    return {
        "etroc1_data": frame,
        "twc_fit_info": pl.DataFrame(fits, schema=types, orient="row"),
        "twc_info": twc_info(iterations),
    }


def twc_info(iterations: int) -> pl.DataFrame:
    """Return the table ``twc_info``: the number of iterations."""
    return pl.DataFrame({"max_twc_iterations": [iterations]})


class _Grid:
    """Hits as a matrix of events and boards; the first hit counts where a board has several."""

    def __init__(self, data: pl.DataFrame, boards: list[int]) -> None:
        events, row = np.unique(data["event"].to_numpy(), return_inverse=True)
        self.events = events
        column = np.searchsorted(boards, data["data_board_id"].to_numpy())
        cell = row * len(boards) + column
        self.shape = (len(events), len(boards))
        cells, first = np.unique(cell, return_index=True)
        self._cells, self._first = cells, first
        self._second = np.ones(len(cell), dtype=bool)
        self._second[first] = False
        self._cell = cell
        there = np.zeros(self.shape, dtype=bool)
        there.ravel()[cells] = True
        self.complete = there.all(axis=1)

    def values(self, series: pl.Series) -> NDArray[np.float64]:
        """Return a column of hits as matrix of shape (n_events, n_boards), NaN where there is no hit."""
        found = np.full(self.shape, np.nan)
        column = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        found.ravel()[self._cells] = column[self._first]
        return found

    def rows(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a matrix as column of hits, NaN for second hits of a board."""
        found: NDArray[np.float64] = matrix.ravel()[self._cell]
        found[self._second] = np.nan
        return found


def _delta(others: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the other boards minus the own time, of shape (n_events, n_boards)."""
    mean = (others.sum(axis=1, keepdims=True) - others) / max(others.shape[1] - 1, 1)
    found: NDArray[np.float64] = mean - own
    return found


def _filled(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.where(np.isnan(first), second, first))


_Curve = tuple[str, "NDArray[np.float64]", "NDArray[np.float64]"]


def _corrections(coefficients: pl.DataFrame) -> dict[tuple[int, int], _Curve]:
    """Return method, coefficients and knots of the curves that were fitted to all events, by iteration and board."""
    table = coefficients.filter(pl.col("fold") == -1).sort("iteration", "board", "power")
    found = {}
    for part in table.partition_by("iteration", "board", maintain_order=True):
        iteration, board, method = part.select("iteration", "board", "method").row(0)
        found[int(iteration), int(board)] = (str(method), part["value"].to_numpy(), part["knot"].to_numpy())
    return found


def _curve(correction: _Curve | None, tot: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the value of a curve; NaN where there is none, or no hit."""
    from firstlight.detectors.etroc.timewalk import evaluate_curve

    found = np.full(tot.shape, np.nan)
    if correction is not None:
        method, values, knots = correction
        there = np.isfinite(tot)
        found[there] = evaluate_curve(method, values, knots, tot[there])
    return found


def _fit_rows(
    iteration: int,
    boards: list[int],
    curves: Mapping[tuple[int, int], NDArray[np.float64]],
    tot: NDArray[np.float64],
    after: NDArray[np.float64],
) -> list[tuple[Any, ...]]:
    """Return the rows of ``twc_fit_info`` of one iteration: before the correction, then after it."""
    powers = max([len(curve) for curve in curves.values()], default=1)
    before, rest = [], []
    for at, board in enumerate(boards):
        curve = curves.get((iteration, board))
        if curve is None:
            continue
        before.append((iteration, board, False, *_padded(curve, powers)))
        good = np.isfinite(tot[:, at]) & np.isfinite(after[:, at])
        if int(good.sum()) > len(curve):
            fit = np.polynomial.polynomial.polyfit(tot[good, at], after[good, at], len(curve) - 1)
            rest.append((iteration, board, True, *_padded(fit, powers)))
    return before + rest


def _padded(curve: NDArray[np.float64], size: int) -> list[float]:
    return [float(value) for value in curve] + [0.0] * (size - len(curve))


def timing_info(
    pairs: pl.DataFrame, step_order: int = 0, step_name: str = "Final", events: int | None = None
) -> pl.DataFrame:
    """Return the table ``timing_info``, in ns, with the original's formulas and its errors.

    The widths of pairs of boards hold all of it: the sample covariance of two differences with a common board is
    (s_ij^2 + s_ik^2 - s_jk^2) / 2, so that the width of "mean of the others minus this one" follows exactly. A negative
    square is NULL (the original stops there).

    Parameters
    ----------
    pairs : polars.DataFrame
        As `PAIRS`, in ps.
    step_order, step_name : int, str
        Of the cut after which this is.
    events : int, optional
        Events behind the widths; those of the pairs by default.

    Raises
    ------
    SchemaError
        If a pair of boards is missing.
    """
    rows = []
    for (iteration,), part in pairs.group_by(["iteration"], maintain_order=True):
        boards = sorted({*part["board_1"].to_list(), *part["board_2"].to_list()})
        squares = _squares(part, boards)
        count = int(part["events"].min() or 0) if events is None else events  # type: ignore[arg-type]
        share = 1 / np.sqrt(2 * count - 2) if count > 1 else np.nan
        delta = _delta_squares(squares)
        for at, board in enumerate(boards):
            following = (at + 1) % len(boards)
            difference = squares[at, following]
            pairwise = _pairwise(squares, at, share) if len(boards) == 3 else (None, None)
            widths = (np.sqrt(delta[at]), np.sqrt(difference))
            rows.append(
                (
                    board, *(float(w) for w in widths), *(float(w * share) for w in widths), step_order, step_name,
                    int(str(iteration)), *pairwise, *_by_delta(delta, at, share),
                )
            )  # fmt: skip
    columns = TABLES["timing_info"].columns
    types: dict[str, Any] = dict.fromkeys(columns, pl.Float64)
    types |= dict.fromkeys(("data_board_id", "step_order", "twc_iteration"), pl.Int64)
    types["step_name"] = pl.String
    return pl.DataFrame(rows, schema=types, orient="row").fill_nan(None)


def _squares(pairs: pl.DataFrame, boards: list[int]) -> NDArray[np.float64]:
    """Return the squared widths in ns2, of shape (n_boards, n_boards)."""
    found = np.full((len(boards), len(boards)), np.nan)
    np.fill_diagonal(found, 0.0)
    for first, second, width in pairs.select("board_1", "board_2", "std").iter_rows():
        one, two = boards.index(first), boards.index(second)
        found[one, two] = found[two, one] = (width / _PS_PER_NS) ** 2
    if np.isnan(found).any():
        one, two = (boards[int(at)] for at in np.argwhere(np.isnan(found))[0])
        what = f"pair of boards {one} and {two} is missing"
        raise SchemaError(what, where="table pairs")
    return found


def _delta_squares(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared widths of the mean of the others minus each board, of shape (n_boards,)."""
    size = len(squares)
    found = np.zeros(size)
    for at in range(size):
        others = [other for other in range(size) if other != at]
        own = squares[at, others]
        covariance = (own[:, None] + own[None, :] - squares[np.ix_(others, others)]) / 2
        found[at] = covariance.sum() / (size - 1) ** 2
    return found


def _root(square: float, variance: float) -> tuple[float | None, float | None]:
    """Return root and error of a square; nothing where there is no solution."""
    if not square > 0:
        return None, None
    return float(np.sqrt(square)), float(np.sqrt(variance / (4 * square)))


def _pairwise(squares: NDArray[np.float64], at: int, share: float) -> tuple[float | None, float | None]:
    """Return the resolution of three boards by pairs, its error as if the widths were independent."""
    one, two = (other for other in range(3) if other != at)
    parts = np.array([squares[at, one], squares[at, two], -squares[one, two]])
    # the variance of a squared width s^2 is (2 s)^2 (s share)^2
    return _root(float(parts.sum() / 2), float(((2 * parts * share) ** 2).sum() / 4))


def _by_delta(delta: NDArray[np.float64], at: int, share: float) -> tuple[float | None, float | None]:
    """Return the resolution by the widths of mean of the others minus this one, for three boards or more."""
    size = len(delta)
    if size < 3:
        return None, None
    parts = -delta
    parts[at] = (size**2 - size - 1) * delta[at]
    factor = (size - 1) / (size**2 * (size - 2))
    return _root(float(factor * parts.sum()), float(factor**2 * ((2 * parts * share) ** 2).sum()))
