"""Tables and blocks: the two shapes in which data flow.

A `Table` is a polars frame with a `TableSchema` that gives every column its type, unit and meaning.
A `Block` is a numpy array with named axes (``waveform[event, channel, sample]``). A `Chunk` is what a
source hands to the steps: some tables and blocks of one stretch of one file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Block", "Chunk", "Column", "Span", "Table", "TableSchema"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        Spelled out; the unit is in `unit`, not in the name.
    dtype : polars data type
        Type on disk and in memory.
    description : str
        One sentence.
    unit : str
        ``""`` for pure numbers.
    minimum, maximum : float, optional
        Inclusive range of valid values.
    nullable : bool
        Whether nulls (or NaN) may stand for "not known".
    """

    name: str
    dtype: Any
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False


@dataclass(frozen=True)
class TableSchema:
    """The columns that a table may have.

    Parameters
    ----------
    name : str
        Name of the table: ``"hits"``.
    columns : tuple of Column
        In order.
    description : str
        What one row is.
    """

    name: str
    columns: tuple[Column, ...]
    description: str = ""

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    @property
    def dtypes(self) -> dict[str, Any]:
        """Types by column, in order."""
        return {column.name: column.dtype for column in self.columns}

    def column(self, name: str) -> Column:
        """Return one column.

        Raises
        ------
        SchemaError
            If there is none of that name; names its nearest neighbours.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError.unknown("column", name, self.names, where=f"table {self.name}")

    def validate(self, frame: pl.DataFrame, where: str | Path | None = None) -> None:
        """Check types, nulls and ranges of every column of a frame.

        Parameters
        ----------
        frame : polars.DataFrame
            May have fewer columns than the schema (a projection), not others.
        where : str or Path, optional
            For the message; the table's name by default.

        Raises
        ------
        SchemaError
            Naming the column, and the first offending row and value.
        """
        place = f"table {self.name}" if where is None else f"{where}, table {self.name}"
        for name in frame.columns:
            column = self.column(name)
            series = frame[name]
            if series.dtype != column.dtype:
                what = f"column {name!r} is {series.dtype}, must be {column.dtype}"
                raise SchemaError(what, where=place)
            if not column.nullable and series.null_count():
                what = f"column {name!r} has {series.null_count()} nulls and must have none"
                raise SchemaError(what, where=place)
            if not column.nullable and series.dtype.is_float() and series.is_nan().any():
                what = f"column {name!r} has {series.is_nan().sum()} NaN and must have none"
                raise SchemaError(what, where=place)
            _check_range(series, column, place)


def _check_range(series: pl.Series, column: Column, place: str) -> None:
    for limit, beyond in ((column.minimum, series.__lt__), (column.maximum, series.__gt__)):
        if limit is None:
            continue
        outside = beyond(limit).fill_null(value=False)
        if column.nullable and series.dtype.is_float():
            outside &= series.is_not_nan()
        if outside.any():
            row = int(outside.arg_true()[0])
            what = (
                f"column {column.name!r}, row {row}: {series[row]} is outside "
                f"[{column.minimum}, {column.maximum}] {column.unit}".rstrip()
            )
            raise SchemaError(what, where=place)


@dataclass(frozen=True)
class Table:
    """A polars frame with its schema.

    Parameters
    ----------
    frame : polars.DataFrame
        The rows.
    schema : TableSchema
        What the columns mean.
    """

    frame: pl.DataFrame
    schema: TableSchema

    @classmethod
    def from_arrays(cls, schema: TableSchema, arrays: Mapping[str, NDArray[Any]]) -> Table:
        """Return a table made of numpy arrays, cast to the types of the schema."""
        frame = pl.DataFrame(
            {name: pl.Series(name, array, dtype=schema.column(name).dtype) for name, array in arrays.items()}
        )
        return cls(frame, schema)

    @classmethod
    def from_rows(cls, schema: TableSchema, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Return a table made of one mapping per row, NaN as null."""
        return cls.from_frame(schema, pl.DataFrame(list(rows), schema=schema.dtypes))

    @classmethod
    def from_frame(cls, schema: TableSchema, frame: pl.DataFrame) -> Table:
        """Return a table with the columns of the schema, cast to its types, NaN as null."""
        columns = [
            pl.col(column.name).cast(column.dtype).fill_nan(None)
            if column.dtype.is_float()
            else pl.col(column.name).cast(column.dtype)
            for column in schema.columns
        ]
        return cls(frame.select(columns), schema)

    def __len__(self) -> int:
        return self.frame.height

    def __contains__(self, name: str) -> bool:
        return name in self.frame.columns

    def array(self, name: str) -> NDArray[Any]:
        """Return one column as a numpy array, without a copy where the type allows.

        Raises
        ------
        SchemaError
            If the table has no such column; names its nearest neighbours.
        """
        if name not in self.frame.columns:
            raise SchemaError.unknown("column", name, self.frame.columns, where=f"table {self.schema.name}")
        return self.frame[name].to_numpy()

    def filter(self, keep: NDArray[np.bool_]) -> Table:
        """Return the table with the rows where `keep`, of shape (n_rows,), is true."""
        return Table(self.frame.filter(pl.Series(keep)), self.schema)


@dataclass(frozen=True)
class Block:
    """A numpy array with named axes.

    Parameters
    ----------
    values : ndarray
        Any number of axes; per-channel blocks have the channel first.
    axes : tuple of str
        One name an axis.
    unit : str
        Unit of the values.
    description : str
        What the values are.
    coordinates : mapping of str to sequence
        For some axes, the value or label of each index.
    """

    values: NDArray[Any]
    axes: tuple[str, ...]
    unit: str = ""
    description: str = ""
    coordinates: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != len(self.axes):
            what = f"block has {self.values.ndim} axes and {len(self.axes)} axis names {self.axes}"
            raise SchemaError(what)
        for name, values in self.coordinates.items():
            size = self.values.shape[self.axis(name)]
            if len(values) != size:
                what = f"axis {name!r} has {size} entries and {len(values)} coordinates"
                raise SchemaError(what)

    def axis(self, name: str) -> int:
        """Return the position of a named axis."""
        if name not in self.axes:
            raise SchemaError.unknown("axis", name, self.axes, where="block")
        return self.axes.index(name)

    def select(self, **labels: Any) -> NDArray[Any]:
        """Return the values at one label of each named axis: ``block.select(kind="in_time")``."""
        index: list[Any] = [slice(None)] * self.values.ndim
        for name, label in labels.items():
            known = [str(value) for value in self.coordinates.get(name, ())]
            if str(label) not in known:
                raise SchemaError.unknown("label", str(label), known, where=f"axis {name} of block")
            index[self.axis(name)] = known.index(str(label))
        return np.asarray(self.values[tuple(index)])


@dataclass(frozen=True)
class Span:
    """One stretch of one input file: events `start` to `stop`, not included.

    Parameters
    ----------
    path : str
        The file.
    index : int
        Position of the file in the list of inputs; partial results are merged in this order.
    start, stop : int
        Event numbers, counted from the beginning of the file.
    """

    path: str
    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Chunk:
    """Tables and blocks of one stretch of one file.

    Parameters
    ----------
    span : Span
        Where the data come from.
    parts : mapping of str to Table or Block
        By name; a hit table counts its events from ``span.start``.
    facts : mapping
        What the file says once: ``{"has_in_time": True}``.
    """

    span: Span
    parts: Mapping[str, Table | Block]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        """Return a table of the chunk."""
        part = self._part(name)
        if not isinstance(part, Table):
            what = f"{name!r} is a block, not a table"
            raise SchemaError(what, where=self.span.path)
        return part

    def block(self, name: str) -> Block:
        """Return a block of the chunk."""
        part = self._part(name)
        if not isinstance(part, Block):
            what = f"{name!r} is a table, not a block"
            raise SchemaError(what, where=self.span.path)
        return part

    def with_parts(self, **parts: Table | Block) -> Chunk:
        """Return the chunk with some parts replaced."""
        return Chunk(self.span, {**self.parts, **parts}, self.facts)

    def _part(self, name: str) -> Table | Block:
        if name not in self.parts:
            raise SchemaError.unknown("table", name, list(self.parts), where=self.span.path)
        return self.parts[name]


def merge_columns(requests: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Return the union of what several steps need, table by table."""
    merged: dict[str, dict[str, None]] = {}
    for request in requests:
        for table, columns in request.items():
            merged.setdefault(table, {}).update(dict.fromkeys(columns))
    return {table: tuple(columns) for table, columns in merged.items()}
