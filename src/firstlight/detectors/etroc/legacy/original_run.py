"""Runs that the original's package made: what they are, what they hold, how their tasks ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from firstlight.detectors.etroc.legacy.run_manager import RunLayout, is_layout, open_layout
from firstlight.detectors.etroc.legacy.sqlite import read_etroc1_data, read_filter, read_table, table_names
from firstlight.detectors.etroc.tables import EVENT_HITS, FILES, POINTS
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["OriginalData", "OriginalRun", "describe_original", "read_original", "status_of"]

DATA = "data/data.sqlite"
MERGED = "merge_etroc1_runs/data.sqlite"
INDIVIDUAL = "Individual_Runs"
BOARDS = (0, 1, 3)
ROWS = 4
_INGEST = ("proccess_etroc1_data_run_txt", "proccess_etroc1_data_run")
_CONDITIONS = re.compile(r"_(?P<pixel>[A-Za-z]+\d+P\d+)_QSel(?P<charge>\d+)_DAC(?P<threshold>\d+)")
_PIXEL = re.compile(r"P(\d+)$")
_SPLIT = re.compile(r"_Split_(\d+)(?:\.\w+)?$")


@dataclass(frozen=True)
class OriginalRun:
    """What a run of the original holds.

    Parameters
    ----------
    folder : Path
        Run directory.
    kind : {"beam", "injection", "scan"}
        A run with events of several boards; a charge-injection run; a directory of these, merged.
    layout : RunLayout
        Name, time, tasks.
    databases : mapping of str to tuple of str
        Tables by SQLite file, as path relative to the run directory.
    individual : tuple of Path
        The runs of a scan, by name.
    filters : mapping of str to Path
        ``"event"`` and ``"time"``: which events pass the cuts.
    """

    folder: Path
    kind: str
    layout: RunLayout
    databases: Mapping[str, tuple[str, ...]]
    individual: tuple[Path, ...]
    filters: Mapping[str, Path]


@dataclass(frozen=True)
class OriginalData:
    """The data of a run of the original in our tables.

    Parameters
    ----------
    hits : polars.DataFrame
        As `EVENT_HITS`; the runs of a scan one after the other, each a file.
    files : polars.DataFrame
        As `FILES`: a board of a run each.
    accepted : polars.DataFrame, optional
        As `ACCEPTED`, of the event cuts; null where none were applied.
    accepted_in_time : polars.DataFrame, optional
        The same of the time cuts.
    points : polars.DataFrame, optional
        As `POINTS`, of a scan that was merged.
    """

    hits: pl.DataFrame
    files: pl.DataFrame
    accepted: pl.DataFrame | None = None
    accepted_in_time: pl.DataFrame | None = None
    points: pl.DataFrame | None = None


def describe_original(folder: Path) -> OriginalRun:
    """Return what a run of the original holds.

    Raises
    ------
    InputError
        If the folder is no such run, or has no data.
    """
    layout = open_layout(folder)
    places = [DATA, *(f"{name}/data.sqlite" for name in layout.tasks)]
    places += [f"{name}/time_resolution.sqlite" for name in layout.tasks]
    databases = {
        place: tuple(table_names(folder / place))
        for place in dict.fromkeys(places)
        if (folder / place).is_file()
    }
    inside = folder / INDIVIDUAL
    individual = (
        tuple(sorted(path for path in inside.iterdir() if is_layout(path))) if inside.is_dir() else ()
    )
    if DATA not in databases and not individual:
        what = f"has neither {DATA} nor {INDIVIDUAL}"
        hint = "the step that reads the data ended with an error: look at its task_report.txt"
        raise InputError(what, where=folder, known=sorted(path.name for path in folder.iterdir()), hint=hint)
    named = {"event": folder / "event_filter.fd", "time": folder / "time_filter.fd"}
    filters = {name: path for name, path in named.items() if path.is_file()}
    return OriginalRun(
        folder, _kind(folder, layout, bool(individual)), layout, databases, individual, filters
    )


def _kind(folder: Path, layout: RunLayout, scan: bool) -> str:
    if scan:
        return "scan"
    if _INGEST[1] in layout.tasks:
        return "injection"
    if _INGEST[0] in layout.tasks:
        return "beam"
    return "beam" if "datetime" in read_etroc1_data(folder / DATA).columns else "injection"


def status_of(folder: Path) -> pl.DataFrame:
    """Return how the tasks of a run ended, in order.

    Returns
    -------
    polars.DataFrame
        Columns ``task``, ``status``, ``started``, ``ended`` (ISO 8601 texts; null where not told) and ``error`` (last line
        of the traceback).
    """
    rows = []
    for report in open_layout(folder).tasks.values():
        stamps = (
            stamp and stamp.isoformat(sep=" ", timespec="seconds") for stamp in (report.started, report.ended)
        )
        lines = report.traceback.strip().splitlines()
        rows.append((report.name, report.status, *stamps, lines[-1] if lines else None))
    columns = ("task", "status", "started", "ended", "error")
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def read_original(folder: Path, boards: Sequence[int] = BOARDS) -> OriginalData:
    """Return the data of a run of the original in our tables.

    Parameters
    ----------
    folder : Path
        Run directory.
    boards : sequence of int
        Numbers of the boards in the order in which names of runs tell of them.

    Raises
    ------
    InputError
        If it is no such run, or a table or column is missing.
    """
    run = describe_original(folder)
    if run.kind == "scan":
        return _read_scan(run, boards)
    name = _source_name(folder) or run.layout.name
    data = read_etroc1_data(folder / DATA)
    conditions = _conditions_in(data) or _conditions_of(name, boards)
    return OriginalData(
        _hits(data, conditions),
        _files(data, 0, name, f"etroc1 {run.kind}", conditions),
        *(read_filter(run.filters[kind]) if kind in run.filters else None for kind in ("event", "time")),
    )


def _read_scan(run: OriginalRun, boards: Sequence[int]) -> OriginalData:
    hits, files, accepted, counts = [], [], [], []
    known: dict[str, dict[int, _Conditions]] = {}
    first = 0
    for index, folder in enumerate(run.individual):
        data = read_etroc1_data(folder / DATA)
        conditions = known[folder.name] = _conditions_of(folder.name, boards)
        part = _hits(data, conditions, index).with_columns(pl.col("event") + pl.lit(first, pl.UInt32))
        path = folder / "event_filter.fd"
        if path.is_file():
            passed = read_filter(path).with_columns(pl.col("event") + pl.lit(first, pl.UInt32))
        else:
            passed = part.select("event", accepted=pl.lit(value=True)).unique("event", maintain_order=True)
        hits.append(part)
        accepted.append(passed)
        files.append(_files(data, index, folder.name, "etroc1 injection", conditions))
        counts.append(part.join(passed, on="event", how="left").with_columns(run=pl.lit(folder.name)))
        events = pl.concat([part["event"], passed["event"]])
        first = max(first, int(events.max()) + 1 if len(events) else first)  # type: ignore[arg-type]
    points = None
    if MERGED in run.databases:
        merged = read_table(run.folder / MERGED, "combined_etroc1_data")
        points = _points(merged, pl.concat(counts), known)
    return OriginalData(pl.concat(hits), pl.concat(files), pl.concat(accepted), None, points)


@dataclass(frozen=True)
class _Conditions:
    """Pixel, phase, charge and threshold of a board."""

    pixel: str | None
    phase: int | None = None
    charge: float | None = None
    threshold: float | None = None


def _conditions_of(name: str, boards: Sequence[int]) -> dict[int, _Conditions]:
    """Return what a name of the original tells about each board, in the order of the boards."""
    phase = re.search(r"PhaseAdj(\d+)", name)
    adjust = int(phase[1]) if phase else None
    told = [
        _Conditions(found["pixel"], adjust, float(found["charge"]), float(found["threshold"]))
        for found in _CONDITIONS.finditer(name)
    ]
    return dict(zip(boards, told, strict=False))


def _conditions_in(data: pl.DataFrame) -> dict[int, _Conditions]:
    """Return what the columns of a table tell about each board; nothing where it has none of them."""
    columns = ("pixel_id", "phase_adjust", "board_injected_charge", "board_discriminator_threshold")
    if not any(column in data.columns for column in columns):
        return {}
    found = {}
    for part in data.partition_by("data_board_id", maintain_order=True):
        pixel, phase, charge, threshold = (
            next(iter(part[column].drop_nulls()), None) if column in part.columns else None
            for column in columns
        )
        found[int(part["data_board_id"][0])] = _Conditions(
            pixel,
            None if phase is None else int(phase),
            None if charge is None else float(charge),
            None if threshold is None else float(threshold),
        )
    return dict(sorted(found.items()))


def _place_of(pixel: str | None) -> tuple[int | None, int | None]:
    """Return row and column of a pixel of ETROC1 (4 x 4): ``F9P5`` is pixel 5 of chip F9."""
    found = _PIXEL.search(pixel or "")
    if found is None or int(found[1]) >= ROWS * ROWS:
        return None, None
    return int(found[1]) % ROWS, int(found[1]) // ROWS


def _hits(data: pl.DataFrame, conditions: Mapping[int, _Conditions], file: int = 0) -> pl.DataFrame:
    """Return the hits of a table ``etroc1_data`` in our columns."""
    places = {board: _place_of(told.pixel) for board, told in conditions.items()}
    board = pl.col("data_board_id")
    row, col = (
        board.replace_strict(
            {number: place[at] for number, place in places.items()} or {-1: None},
            default=None,
            return_dtype=pl.UInt8,
        )
        for at in (0, 1)
    )
    time = (
        pl.col("datetime").str.to_datetime("%Y-%m-%d %H:%M:%S%.f").dt.epoch("s")
        if "datetime" in data.columns
        else pl.lit(None, pl.Int64)
    )
    frame = data.select(
        "event",
        pl.lit(file).alias("file"),
        pl.int_range(pl.len()).alias("record"),
        board.alias("link"),
        board.alias("board"),
        pl.lit(-1).alias("channel"),
        row.alias("row"),
        col.alias("col"),
        pl.col("time_of_arrival").alias("toa"),
        pl.col("time_over_threshold").alias("tot"),
        pl.col("calibration_code").alias("cal"),
        pl.lit(0).alias("ea"),
        pl.col("hit_flag").cast(pl.Boolean),
        pl.lit(None).alias("bcid"),
        pl.lit(None).alias("l1a"),
        time.alias("time"),
    )
    try:
        return frame.cast(dict(EVENT_HITS.dtypes.items()))
    except pl.exceptions.PolarsError as error:
        what = f"has values that are no codes of the chip: {str(error).splitlines()[0]}"
        raise InputError(what, where="table etroc1_data") from error


def _files(
    data: pl.DataFrame, file: int, name: str, kind: str, conditions: Mapping[int, _Conditions]
) -> pl.DataFrame:
    """Return the rows of `FILES` of one run: a row a board, or one without conditions."""
    split = _SPLIT.search(name)
    known: list[tuple[int | None, _Conditions]] = [*conditions.items()] or [(None, _Conditions(None))]
    common = {
        "file": file,
        "name": name,
        "kind": kind,
        "run": _SPLIT.sub("", name),
        "split": int(split[1]) if split else None,
        "n_words": data.height,
        "n_records": data.height,
        "n_hits": data.height,
    }
    rows = [{**common, "board": board, **vars(told)} for board, told in known]
    return pl.DataFrame(rows, schema=FILES.dtypes)


def _source_name(folder: Path) -> str:
    """Return the name of the file that the original copied when it read it; empty where there is not one."""
    for task in _INGEST:
        inside = folder / task / "original_data"
        names = sorted(path.name for path in inside.iterdir()) if inside.is_dir() else []
        if len(names) == 1:
            return names[0]
    return ""


def _points(
    merged: pl.DataFrame, hits: pl.DataFrame, known: Mapping[str, Mapping[int, _Conditions]]
) -> pl.DataFrame:
    """Return the points of a merged scan, with means of codes where one run only fits the conditions."""
    runs: dict[tuple[int, float | None, float | None], list[str]] = {}
    for run, conditions in known.items():
        for board, told in conditions.items():
            runs.setdefault((board, told.charge, told.threshold), []).append(run)
    sums = _sums(hits)
    rows = []
    for row in merged.iter_rows(named=True):
        board, hit = int(row["data_board_id"]), int(row["hits"])
        charge, threshold = float(row["board_injected_charge"]), float(row["board_discriminator_threshold"])
        fitting = [
            run
            for run in runs.get((board, charge, threshold), ())
            if sums.get((run, board), {}).get("hits", 0) == hit
        ]
        run = fitting[0] if len(fitting) == 1 else "combined"
        rows.append(
            {
                "run": run, "board": board, "pixel": row["pixel_id"], "charge": charge, "threshold": threshold,
                "splits": 1, "all_hits": hit, "hits": hit, **sums.get((run, board), {}),
            }
        )  # fmt: skip
    return pl.DataFrame(rows, schema=POINTS.dtypes)


def _sums(hits: pl.DataFrame) -> dict[tuple[str, int], dict[str, float | None]]:
    """Return numbers and means of hits by run and board."""
    good = pl.col("accepted").fill_null(value=False)
    means = [
        pl.col(code).filter(good).cast(pl.Float64).mean().alias(f"{code}_mean")
        for code in ("toa", "tot", "cal")
    ]
    widths = [
        pl.col(code).filter(good).cast(pl.Float64).std().alias(f"{code}_std") for code in ("toa", "tot")
    ]
    table = hits.group_by("run", "board").agg(
        pl.len().alias("all_hits"), good.sum().alias("hits"), *means, *widths
    )
    keys = [(str(run), int(board)) for run, board in table.select("run", "board").iter_rows()]
    return dict(zip(keys, table.drop("run", "board").to_dicts(), strict=True))
