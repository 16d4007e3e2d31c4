"""Selections with cut flow.

A cut is an SQL-like expression evaluated by polars (``in_time = 1 and tdc_time between 600 and 1500``);
nothing is ever passed to ``eval``. A cut on events drops their hits too. What each cut sees, passes and
leaves is counted, and the counts of chunks add up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Chunk, Table
from firstlight.errors import SchemaError, SelectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Cut", "CutFlow", "Selection", "columns_of", "keep_rows", "parse"]


_EXAMPLE = "for example: in_time = 1 and tdc_time between 600 and 1500"
_QUOTED = re.compile(r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<plain>[^'"]+|['"])""")
_ACROSS_ROWS = re.compile(
    r'"(?P<node>Agg|Window|Over|SubPlan|Rolling\w*|Shift|IntRange|Cum\w+|Gather|Slice|Explode|Quantile)":'
    r'|(?<!"String":)"(?P<rows>Len|Quantile)"'
)


@dataclass(frozen=True)
class Cut:
    """One condition on the rows of one table.

    Parameters
    ----------
    name : str
        For the cut-flow table.
    table : str
        Name of the table.
    condition : str or callable
        An SQL-like expression, or a module-level function of the chunk that returns an array of bool with
        one entry per row.
    needs : tuple of str
        Columns that a function reads; those of an expression are found in it.
    """

    name: str
    table: str
    condition: str | Callable[[Chunk], NDArray[np.bool_]]
    needs: tuple[str, ...] = ()

    def columns(self) -> tuple[str, ...]:
        """Columns of the table that the cut reads."""
        return columns_of(self.condition) if isinstance(self.condition, str) else self.needs

    def mask(self, chunk: Chunk) -> NDArray[np.bool_]:
        """Return which rows pass; a row for which the condition is unknown (null) does not."""
        if not isinstance(self.condition, str):
            return self.condition(chunk)
        table = chunk.table(self.table)
        expression = parse(self.condition)
        for column in columns_of(self.condition):
            if column not in table:
                raise SelectionError.unknown(
                    "column",
                    column,
                    table.frame.columns,
                    where=f"cut {self.condition!r} on table {self.table}",
                )
        try:
            result = table.frame.select(keep=expression)["keep"]
        except pl.exceptions.PolarsError as error:
            what = f"cut {self.condition!r} cannot be evaluated: {error}"
            raise SelectionError(what, where=f"table {self.table}") from error
        if result.dtype != pl.Boolean:
            what = f"cut {self.condition!r} gives {result.dtype}, not true or false"
            raise SelectionError(what, where=f"table {self.table}", hint="compare with something: column > 3")
        keep = result.fill_null(value=False).to_numpy()
        return np.broadcast_to(keep, len(table)) if len(keep) == 1 else keep


def parse(text: str) -> pl.Expr:
    """Return the polars expression of an SQL-like condition.

    Raises
    ------
    SelectionError
        If it is not one, or if it looks at other rows (``avg(tdc_time)``), so that it would depend on where
        chunks end. ``==`` and ``&``/``|`` written as in Python are accepted; they bind like ``=``, ``and``, ``or``.
    """
    translated = _QUOTED.sub(_as_sql, text)
    try:
        expression = pl.sql_expr(translated)
    except pl.exceptions.PolarsError as error:
        what = f"{text!r} is not a condition: {error}"
        raise SelectionError(what, hint=_EXAMPLE) from None
    found = _ACROSS_ROWS.search(expression.meta.serialize(format="json"))
    if found is not None:
        # a mean or a rank over a chunk would depend on where chunks end
        what = f"{text!r} is not a condition on one row: it looks at others ({found[0].strip(chr(34) + ':')})"
        raise SelectionError(what, hint=_EXAMPLE)
    return expression


def _as_sql(found: re.Match[str]) -> str:
    """Return what stands between quotes as it is, and the rest with the operators of SQL."""
    if found["quoted"]:
        return found["quoted"]
    plain = found["plain"].replace("==", "=").replace("&&", " and ").replace("||", " or ")
    return plain.replace("&", " and ").replace("|", " or ")


def columns_of(text: str) -> tuple[str, ...]:
    """Return the columns that an SQL-like condition reads."""
    return tuple(parse(text).meta.root_names())


@dataclass(frozen=True)
class CutFlow:
    """How many rows each cut saw and passed.

    Parameters
    ----------
    names, tables : tuple of str
        One entry a cut.
    counts : ndarray of int64, shape (n_cuts, 3)
        Rows of the uncut table, rows that pass this cut alone, rows left after it and all before it.
    """

    names: tuple[str, ...]
    tables: tuple[str, ...]
    counts: NDArray[np.int64]

    def __add__(self, other: CutFlow) -> CutFlow:
        if (self.names, self.tables) != (other.names, other.tables):
            what = f"cut flows of different cuts cannot be added: {self.names} and {other.names}"
            raise SelectionError(what)
        return CutFlow(self.names, self.tables, self.counts + other.counts)

    def to_polars(self) -> pl.DataFrame:
        """Return a row per cut: cut, table, rows, passed alone, left, and fraction left of all rows."""
        rows, alone, left = self.counts.T
        fraction = np.divide(left, rows, out=np.full(left.size, np.nan), where=rows > 0)
        return pl.DataFrame(
            {
                "cut": pl.Series(self.names, dtype=pl.String),
                "table": pl.Series(self.tables, dtype=pl.String),
                "rows": rows,
                "passed_alone": alone,
                "left": left,
                "fraction_left": fraction,
            }
        )


@dataclass(frozen=True)
class Selection:
    """Cuts applied one after the other.

    Parameters
    ----------
    cuts : tuple of Cut
        In order.
    """

    cuts: tuple[Cut, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.cuts)

    def needs(self) -> dict[str, tuple[str, ...]]:
        """Columns that the cuts read, table by table."""
        wanted: dict[str, dict[str, None]] = {}
        for cut in self.cuts:
            wanted.setdefault(cut.table, {}).update(dict.fromkeys(cut.columns()))
        return {table: tuple(columns) for table, columns in wanted.items()}

    def apply(self, chunk: Chunk) -> tuple[Chunk, CutFlow]:
        """Return the chunk with the rows that pass, and the counts.

        All cuts see the uncut chunk, so that "passes alone" means what it says; their order only matters
        for the column "left".
        """
        counts = np.zeros((len(self.cuts), 3), dtype=np.int64)
        masks: dict[str, NDArray[np.bool_]] = {}
        for index, cut in enumerate(self.cuts):
            mask = cut.mask(chunk)
            so_far = masks.get(cut.table)
            masks[cut.table] = mask if so_far is None else so_far & mask
            counts[index] = mask.size, np.count_nonzero(mask), np.count_nonzero(masks[cut.table])
        names = tuple(cut.name for cut in self.cuts)
        tables = tuple(cut.table for cut in self.cuts)
        return keep_rows(chunk, masks), CutFlow(names, tables, counts)


def keep_rows(chunk: Chunk, masks: dict[str, NDArray[np.bool_]]) -> Chunk:
    """Return a chunk with some rows of its tables.

    Rows of any table with a column ``event``, and entries of a block along its first axis ``event``, go with
    their event when the table ``events`` loses it, the events are numbered anew, and ``n_hits`` of the events follows the hits that are left.

    Parameters
    ----------
    chunk : Chunk
        ``events`` has a row per event; other tables may have a column ``event`` that counts these rows.
    masks : dict of str to ndarray of bool
        By table, one entry per row.
    """
    parts: dict[str, Any] = dict(chunk.parts)
    keep_event = masks.get("events")
    if keep_event is not None and "events" in parts:
        renumbered = np.cumsum(keep_event) - 1
        parts["events"] = chunk.table("events").filter(keep_event)
    for name, part in chunk.parts.items():
        if isinstance(part, Block) and part.axes[0] == "event" and keep_event is not None:
            parts[name] = replace(part, values=part.values[keep_event])
        if name == "events" or isinstance(part, Block):
            continue
        keep = masks.get(name)
        if (
            (keep_event is not None or keep is not None)
            and "event" in part.schema.names
            and "event" not in part
        ):
            what = f"table {name!r} was read without its column 'event', which ties it to the events that are cut"
            raise SchemaError(what, where=chunk.span.path)
        if keep_event is not None and "event" in part:
            of_event = keep_event[part.array("event")]
            keep = of_event if keep is None else keep & of_event
        if keep is None:
            continue
        table = part.filter(keep)
        if keep_event is not None and "event" in part:
            column = pl.Series("event", renumbered[table.array("event")], dtype=table.frame["event"].dtype)
            table = Table(table.frame.with_columns(column), table.schema)
        parts[name] = table
    _recount(parts)
    return Chunk(chunk.span, parts, chunk.facts)


def _recount(parts: dict[str, Any]) -> None:
    events, hits = parts.get("events"), parts.get("hits")
    if not isinstance(events, Table) or not isinstance(hits, Table):
        return
    if "n_hits" in events and "event" in hits:
        left = np.bincount(hits.array("event"), minlength=len(events))
        column = pl.Series("n_hits", left, dtype=events.frame["n_hits"].dtype)
        parts["events"] = Table(events.frame.with_columns(column), events.schema)


def describe(cuts: Sequence[Cut]) -> str:
    """Return the cuts as one line for figures and reports."""
    return "; ".join(cut.name for cut in cuts) if cuts else "none"
