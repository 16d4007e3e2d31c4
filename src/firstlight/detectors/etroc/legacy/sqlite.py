"""The SQLite tables of the original: names, columns, types; written fast and whole, read with clear errors."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.errors import InputError, SchemaError, StoreError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "BEAM_COLUMNS",
    "INJECTION_COLUMNS",
    "TABLES",
    "SqlTable",
    "read_etroc1_data",
    "read_filter",
    "read_table",
    "table_names",
    "write_database",
    "write_filter",
]

_BLOCK = 65_536
# SQLite before 3.32 takes 999 values a statement
_VALUES = 900
_HEADER = b"SQLite format 3\x00"

_CODES = ("data_board_id", "time_of_arrival", "time_over_threshold", "calibration_code", "hit_flag")
BEAM_COLUMNS = ("event", *_CODES, "datetime", "pixel_id")
INJECTION_COLUMNS = (
    "event", *_CODES, "phase_adjust", "pixel_id", "board_injected_charge", "board_discriminator_threshold",
)  # fmt: skip


@dataclass(frozen=True)
class SqlTable:
    """A table of the original.

    Parameters
    ----------
    name : str
        Name.
    columns : tuple of str
        That it has at least, in order.
    index : tuple of str
        Columns of the index that pandas makes where the original writes the row labels too.
    open_end : bool
        Whether more columns may follow: those of iterations, coefficients, or of metadata.
    """

    name: str
    columns: tuple[str, ...]
    index: tuple[str, ...] = ()
    open_end: bool = False


_ALL = (
    SqlTable("etroc1_data", ("event", *_CODES), open_end=True),
    SqlTable(
        "board_info_data",
        ("data_board_id", "calibration_code_mean", "calibration_code_median", "fbin_mean", "fbin_median"),
        index=("data_board_id",),
    ),
    SqlTable("twc_fit_info", ("twc_iteration", "board_id", "twc_applied", "p0"), open_end=True),
    SqlTable("twc_info", ("max_twc_iterations",)),
    SqlTable(
        "timing_info",
        (
            "data_board_id", "time_delta_width", "time_diff_width", "time_delta_width_unc", "time_diff_width_unc",
            "step_order", "step_name", "twc_iteration", "time_resolution", "time_resolution_unc",
            "time_resolution_new", "time_resolution_new_unc",
        ),
    ),
    SqlTable(
        "combined_etroc1_data",
        (
            "data_board_id", "hits", "phase_adjust", "pixel_id", "board_injected_charge",
            "board_discriminator_threshold",
        ),
    ),
    SqlTable(
        "dac_charge_data",
        ("data_board_id", "board_injected_charge", "board_discriminator_threshold"),
        index=("data_board_id", "board_injected_charge"),
    ),
    SqlTable("noise_limit_data", ("data_board_id", "noise_min_dac", "noise_max_dac"), index=("data_board_id",)),
)  # fmt: skip
TABLES: Mapping[str, SqlTable] = {table.name: table for table in _ALL}
# the three columns that the original makes by script rather than by argument, where it has them
_MAY_MISS = {"timing_info": ("time_resolution", "time_resolution_unc")}

_TYPES = {"INTEGER": pl.Int64, "REAL": pl.Float64, "TEXT": pl.String, "TIMESTAMP": pl.String}


def write_database(path: Path, tables: Mapping[str, pl.DataFrame], *, flush: bool = True) -> Path:
    """Write a SQLite file with some tables of the original; it is there whole or not at all.

    Numbers without fraction and booleans become INTEGER, others REAL, texts TEXT and moments TIMESTAMP (text
    ``2022-04-09 01:18:00``), as pandas writes them; nulls and NaN become NULL.

    Parameters
    ----------
    path : Path
        ``data.sqlite``; a file that is there is replaced.
    tables : mapping of str to polars.DataFrame
        By name, with the columns of the original in its order.
    flush : bool
        Wait until the file is on the disk.

    Raises
    ------
    SchemaError
        If a table or column is not one of the original's.
    StoreError
        If the file cannot be written.
    """
    for name, frame in tables.items():
        _look_at(name, frame, path)
    with atomic(path, flush=flush) as temporary:
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                # nothing to roll back: a temporary file takes the place of the old one only when it is whole
                for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
                    connection.execute(f"PRAGMA {setting}")
                connection.execute("BEGIN")
                for name, frame in tables.items():
                    _insert(connection, name, frame)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            what = f"cannot be written: {error}"
            raise StoreError(what, where=path, hint="another output directory, or make room there") from error
    return path


def _look_at(name: str, frame: pl.DataFrame, path: Path) -> None:
    """Compare the columns of a frame with those of the original."""
    if name not in TABLES:
        raise SchemaError.unknown("table", name, TABLES, where=path)
    table = TABLES[name]
    place = f"{path}, table {name}"
    for column in table.columns:
        if column not in frame.columns:
            what = f"column {column!r} is missing"
            raise SchemaError(what, where=place, known=frame.columns)
    if not table.open_end and tuple(frame.columns) != table.columns:
        what = f"columns are {', '.join(frame.columns)}"
        raise SchemaError(what, where=place, known=table.columns)


def _insert(connection: sqlite3.Connection, name: str, frame: pl.DataFrame) -> None:
    columns = ", ".join(f"{_quoted(column)} {_type_of(frame[column])}" for column in frame.columns)
    connection.execute(f"CREATE TABLE {_quoted(name)} ({columns})")
    width = frame.width
    rows = max(_VALUES // width, 1)
    one = f"({', '.join('?' * width)})"
    # many rows a statement halve the time: a call of Python costs more than the row
    many = f"INSERT INTO {_quoted(name)} VALUES {', '.join([one] * rows)}"  # noqa: S608
    single = f"INSERT INTO {_quoted(name)} VALUES {one}"  # noqa: S608
    for start in range(0, frame.height, _BLOCK):
        block = frame[start : start + _BLOCK]
        flat: list[Any] = [None] * (block.height * width)
        for position, column in enumerate(block.columns):
            flat[position::width] = _values(block[column])
        step = rows * width
        whole = len(flat) // step * step
        connection.executemany(many, (flat[at : at + step] for at in range(0, whole, step)))
        connection.executemany(single, (flat[at : at + width] for at in range(whole, len(flat), width)))
    index = TABLES[name].index
    if index:
        label = _quoted(f"ix_{name}_{'_'.join(index)}")
        keys = ", ".join(_quoted(column) for column in index)
        connection.execute(f"CREATE INDEX {label} ON {_quoted(name)} ({keys})")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _type_of(series: pl.Series) -> str:
    if series.name == "datetime" or series.dtype.is_temporal():
        return "TIMESTAMP"
    if series.dtype.is_integer() or series.dtype == pl.Boolean:
        return "INTEGER"
    return "REAL" if series.dtype.is_float() else "TEXT"


def _values(series: pl.Series) -> list[Any]:
    """Return the values of a column as SQLite takes them."""
    if series.dtype.is_temporal():
        series = series.dt.to_string("%Y-%m-%d %H:%M:%S")
    if series.dtype == pl.Boolean:
        return series.cast(pl.Int8).to_list()
    if series.dtype.is_float():
        return series.fill_nan(None).to_list()
    return series.to_list()


def table_names(path: Path) -> list[str]:
    """Return the names of the tables of a SQLite file.

    Raises
    ------
    InputError
        If it is missing, or not a SQLite file.
    """
    with closing(_opened(path)) as connection:
        return _names(connection, path)


def read_table(path: Path, name: str, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return a table of a SQLite file.

    Parameters
    ----------
    path : Path
        SQLite file.
    name : str
        Name of the table.
    columns : sequence of str
        That it must have; those of the original's table of this name by default.

    Returns
    -------
    polars.DataFrame
        All columns, typed as declared; NULL as null.

    Raises
    ------
    InputError
        If the file, the table or a column is missing; says what exists.
    """
    with closing(_opened(path)) as connection:
        there = _names(connection, path)
        if name not in there:
            raise InputError.unknown("table", name, there, where=path)
        try:
            declared = {
                str(row[1]): str(row[2]).upper()
                for row in connection.execute(f"PRAGMA table_info({_quoted(name)})")
            }
            _look_for(name, columns, declared, path)
            cursor = connection.execute(f"SELECT * FROM {_quoted(name)}")  # noqa: S608
            blocks = iter(partial(cursor.fetchmany, _BLOCK), [])
            frames = [_frame(declared, block, f"{path}, table {name}") for block in blocks]
        except sqlite3.Error as error:
            what = f"cannot be read: {error}"
            raise InputError(what, where=f"{path}, table {name}") from error
    frames = frames or [_frame(declared, [], f"{path}, table {name}")]
    return pl.concat(frames, how="vertical_relaxed")


def _look_for(name: str, columns: Sequence[str], declared: Mapping[str, str], path: Path) -> None:
    """Find a column that a table must have and has not."""
    if not columns and name in TABLES:
        columns = [column for column in TABLES[name].columns if column not in _MAY_MISS.get(name, ())]
    for column in columns:
        if column not in declared:
            raise InputError.unknown("column", column, declared, where=f"{path}, table {name}")


def _frame(declared: Mapping[str, str], rows: Sequence[Sequence[Any]], place: str) -> pl.DataFrame:
    parts = zip(*rows, strict=True) if rows else ((),) * len(declared)
    return pl.DataFrame(
        [
            _series(column, _TYPES.get(kind, pl.String), values, place)
            for (column, kind), values in zip(declared.items(), parts, strict=True)
        ]
    )


def _series(name: str, dtype: Any, values: Sequence[Any], place: str) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=dtype, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        # SQLite keeps any value in any column: pandas writes whole numbers into REAL columns and the other way round
        loose = pl.Series(name, values, strict=False)
    try:
        return loose.cast(pl.Float64 if dtype == pl.Int64 else dtype)
    except pl.exceptions.PolarsError as error:
        what = f"column {name!r} has values of another type than declared"
        raise InputError(what, where=place) from error


def _opened(path: Path) -> sqlite3.Connection:
    """Open a SQLite file for reading only."""
    if not path.is_file():
        folder = path.parent
        beside = sorted(found.name for found in folder.iterdir()) if folder.is_dir() else None
        what = "does not exist"
        raise InputError(what, where=path, known=beside, hint="the step that writes it")
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_HEADER))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InputError(what, where=path) from error
    if head and head != _HEADER:
        what = "is not a SQLite file"
        raise InputError(what, where=path)
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _names(connection: sqlite3.Connection, path: Path) -> list[str]:
    try:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
        return [str(row[0]) for row in found]
    except sqlite3.Error as error:
        what = f"is damaged: {error}"
        raise InputError(what, where=path) from error


def read_etroc1_data(path: Path) -> pl.DataFrame:
    """Return the table ``etroc1_data``: the original's columns, moments in ``datetime`` as text.

    Raises
    ------
    InputError
        As `read_table`; a file of an early version of the original, which built no events, has no column ``event``.
    """
    frame = read_table(path, "etroc1_data", _CODES)
    if "event" not in frame.columns:
        what = "column 'event' is missing: it was written before the original built events"
        hint = "the text file that it was made from: original_data/ in the folder of the task"
        raise InputError(what, where=f"{path}, table etroc1_data", known=frame.columns, hint=hint)
    return frame


def write_filter(path: Path, accepted: pl.DataFrame, *, flush: bool = True) -> Path:
    """Write a filter of events as a Feather file that pandas and pyarrow read.

    Parameters
    ----------
    path : Path
        ``event_filter.fd`` or ``time_filter.fd``.
    accepted : polars.DataFrame
        Columns ``event`` and ``accepted``.
    flush : bool
        Wait until the file is on the disk.
    """
    frame = accepted.select(pl.col("event").cast(pl.Int64), pl.col("accepted").cast(pl.Boolean))
    with atomic(path, flush=flush) as temporary:
        frame.write_ipc(temporary, compression="uncompressed", compat_level=pl.CompatLevel.oldest())
    return path


def read_filter(path: Path) -> pl.DataFrame:
    """Return a filter of events: columns ``event`` and ``accepted``.

    Raises
    ------
    InputError
        If the file is missing, not a Feather file, or has other columns.
    """
    if not path.is_file():
        what = "does not exist"
        raise InputError(what, where=path, hint="the step that applies the cuts")
    try:
        frame = pl.read_ipc(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        what = f"is not a Feather file: {error}"
        raise InputError(what, where=path) from error
    for column in ("event", "accepted"):
        if column not in frame.columns:
            raise InputError.unknown("column", column, frame.columns, where=path)
    return frame.select(
        pl.col("event").cast(pl.UInt32), pl.col("accepted").cast(pl.Boolean).fill_null(value=False)
    )
