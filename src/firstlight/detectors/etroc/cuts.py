"""Cuts on hits: the file ``cuts.csv``, and which events pass.

A row of the file is one cut: a board, a variable, a comparison and a value. All rows must pass. The board is

* a number: the hit of this board must pass;
* ``*``: the hits of **all** boards must pass;
* ``#``: the hit of **any** board must pass, so an event stays where one board of several is good.

A board without a hit fails every comparison, ``<>`` too (the original lets ``<>`` pass where a hit is missing); with
`keep_events` it passes every comparison. Several hits of a board in an event must all pass.
"""

from __future__ import annotations

import csv
import io
import math
import operator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.etroc.tables import FLOW
from firstlight.errors import InputError, nearest
from firstlight.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

__all__ = ["ALL", "ANY", "COMPARISONS", "VARIABLES", "Cut", "Flow", "apply_cuts", "read_cuts", "write_cuts"]

ALL, ANY = "*", "#"
"""Boards of a cut: all, or any."""

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "<>": operator.ne,
}  # fmt: skip
"""Comparisons of a cut by their sign."""

# names of the original, with the column that they are here
_ORIGINAL = {
    "data_board_id": "board",
    "time_of_arrival": "toa",
    "time_over_threshold": "tot",
    "calibration_code": "cal",
    "datetime": "time",
}
# of these the original knows from the name of the file; here they stand in the table of files
_OF_FILES = {
    "pixel_id": "pixel",
    "phase_adjust": "phase",
    "board_injected_charge": "charge",
    "board_discriminator_threshold": "threshold",
}
_OWN = (
    "event", "board", "link", "channel", "row", "col", "toa", "tot", "cal", "ea", "hit_flag", "bcid", "l1a", "time", "file",
    "record",
)  # fmt: skip

VARIABLES = (*_ORIGINAL, *_OF_FILES, *_OWN)
"""Names that a cut may have: those of the original, and ours."""

COLUMNS = ("board_id", "variable", "cut_type", "cut_value", "output")
_NOTE = "comment"  # a column of this name is for people
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Cut:
    """A row of ``cuts.csv``.

    Parameters
    ----------
    board : str
        A number, ``*`` or ``#``.
    variable : str
        As in the file: one of `VARIABLES`.
    comparison : str
        One of `COMPARISONS`.
    value : float or str
        A number; the name of a pixel; Unix seconds of a date.
    label : str or None
        Asks for plots after the cut.
    row : int
        Row of the file, from 0, without comments.
    line : int
        Line of the file, from 1; 0 where the cut is from no file.
    """

    board: str
    variable: str
    comparison: str
    value: float | str
    label: str | None = None
    row: int = 0
    line: int = 0

    @property
    def text(self) -> str:
        """The cut in words."""
        who = {ALL: "all boards", ANY: "any board"}.get(self.board, f"board {self.board}")
        return f"{who}: {self.variable} {self.comparison} {_number(self.value)}"


@dataclass(frozen=True)
class Flow:
    """What a cut lets pass, as `flow` puts it into the table."""

    row: int
    cut: str
    label: str | None
    passed: Bools


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else repr(value)


@dataclass(frozen=True)
class Row:
    """A row of a cut file: fields by column name, without blanks around them."""

    path: Path | str
    row: int
    line: int
    fields: Mapping[str, str]

    def wrong(self, column: str, what: str, known: Iterable[str] = ()) -> InputError:
        """Return the error for a field, with the names that look most like it."""
        names = list(known)
        close = nearest(self.fields.get(column, ""), names)
        hint = f"did you mean {' or '.join(repr(name) for name in close)}?" if close else None
        message = f"row {self.row} (line {self.line}), column {column!r}: {what}"
        return InputError(message, where=self.path, known=names or None, hint=hint)

    def chosen(self, column: str, kind: str, known: Iterable[str]) -> str:
        """Return a field that must be one of some names."""
        names = list(known)
        if self.fields[column] not in names:
            raise self.wrong(column, f"unknown {kind} {self.fields[column]!r}", names)
        return self.fields[column]

    def number(self, column: str) -> float:
        """Return a field that must be a finite number."""
        text = self.fields.get(column, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            what = f"{text!r} is no number" if text else "a number is missing"
            raise self.wrong(column, what)
        return value

    def board(self, column: str, wildcards: Sequence[str] = ()) -> str:
        """Return a board: a number, as text, or a wild card."""
        text = self.fields.get(column, "")
        if text in wildcards:
            return text
        if text in (ALL, ANY):
            message = f"{text!r} is not possible here, only the number of a board"
            raise self.wrong(column, message)
        value = self.number(column) if text else -1.0
        if value != int(value) or not 0 <= value < 256:
            cards = "".join(f", {card}" for card in wildcards)
            what = f"{text!r} is no board (0-255{cards})" if text else "a board is missing"
            raise self.wrong(column, what)
        return str(int(value))

    @property
    def label(self) -> str | None:
        """The label, or None."""
        return self.fields.get("output") or None


def read_rows(
    source: Path | Sequence[str], columns: Sequence[str], *, keep_comments: bool = False
) -> list[Row]:
    """Read the rows of a cut file, or rows that were given without one (they need no header).

    Quotes, blanks around values, a byte-order mark and any line ends are allowed. Blank lines are left out, and so are
    lines that begin with ``#`` unless this is the whole first field, where it means any board. With `keep_comments` a line
    after the header that begins with ``#`` and has all fields is a row.

    Raises
    ------
    InputError
        The file does not exist, is no text, or has no header; a column is missing, unknown or there twice; a row has another
        number of fields than the header.
    """
    rows: list[Row] = []
    header: list[str] | None = None
    path = source if isinstance(source, Path) else "cuts that were given as rows"
    text = _read_text(source) if isinstance(source, Path) else _with_header(source, columns)
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        for fields in reader:
            values = [field.strip() for field in fields]
            full = keep_comments and header is not None and len(values) == len(header)
            if not any(values) or (_is_comment(values) and not full):
                continue
            if header is None:
                header = values
                _check_header(path, header, columns, reader.line_num)
                continue
            # a label may be missing at the end
            if len(columns) <= len(values) < len(header) and set(header[len(values) :]) <= {"output", _NOTE}:
                values += [""] * (len(header) - len(values))
            if len(values) != len(header):
                what = f"row {len(rows)} (line {reader.line_num}) has {len(values)} fields, must have {len(header)}"
                raise InputError(what, where=path, hint=f"columns: {','.join(header)}")
            rows.append(Row(path, len(rows), reader.line_num, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        what = f"line {reader.line_num} is no comma-separated text: {error}"
        raise InputError(what, where=path) from error
    if header is None:
        hint = f"for no cuts, a file with only the line {','.join(columns)}"
        raise InputError("the file is empty: it has no line with names of columns", where=path, hint=hint)
    return rows


def _with_header(rows: Sequence[str], columns: Sequence[str]) -> str:
    """Return rows as the text of a file."""
    return "\n".join([",".join((*columns, "output")), *rows])


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            "the cut file does not exist", where=path, hint="write one, or have cuts suggested"
        ) from error
    except UnicodeDecodeError as error:
        what = f"no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        raise InputError(what, where=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path) from error  # noqa: EM102


def _is_comment(values: list[str]) -> bool:
    return values[0].startswith("#") and (values[0] != ANY or len(values) == 1)


def _check_header(path: Path | str, header: list[str], columns: Sequence[str], line: int) -> None:
    optional = ("output", _NOTE)
    for name in columns:
        if name not in header:
            what = f"line {line}: the column {name!r} is missing"
            raise InputError(what, where=path, known=header, hint=f"columns: {','.join(columns)}")
    for name in header:
        if name not in columns and name not in optional:
            raise InputError.unknown("column", name, [*columns, *optional], where=f"{path}, line {line}")
    if len(set(header)) != len(header):
        what = f"line {line}: a column is there twice: {','.join(header)}"
        raise InputError(what, where=path)


def read_cuts(source: Path | Sequence[str]) -> list[Cut]:
    """Read ``cuts.csv``: ``board_id,variable,cut_type,cut_value[,output]``.

    Parameters
    ----------
    source : Path or sequence of str
        The file, which may have a column ``comment`` too, and columns in any order; or rows as in such a file.

    Returns
    -------
    list of Cut
        In order; empty where the file has only its header.

    Raises
    ------
    InputError
        The file does not exist, or is wrong; names the row, the column and what exists.
    """
    return [_cut(row) for row in read_rows(source, COLUMNS[:4])]


def _cut(row: Row) -> Cut:
    board = row.board("board_id", (ALL, ANY))
    variable = row.chosen("variable", "variable", VARIABLES)
    comparison = row.chosen("cut_type", "comparison", COMPARISONS)
    value = _value(row, variable, comparison)
    return Cut(board, variable, comparison, value, row.label, row.row, row.line)


def _value(row: Row, variable: str, comparison: str) -> float | str:
    text = row.fields["cut_value"]
    if variable == "pixel_id":
        if comparison not in ("==", "<>"):
            raise row.wrong("cut_type", "a pixel has a name, it can only be compared by == and <>")
        return text
    if variable == "datetime":
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            what = f"{text!r} is no date, such as 2022-04-09 01:18:00"
            raise row.wrong("cut_value", what) from error
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if variable == "hit_flag" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return row.number("cut_value")


def write_cuts(path: Path, cuts: Sequence[Cut]) -> None:
    """Write ``cuts.csv``; the column ``output`` only where a cut has a label."""
    has_labels = any(cut.label for cut in cuts)
    rows = [list(COLUMNS if has_labels else COLUMNS[:4])]
    for cut in cuts:
        value = _number(cut.value)
        if cut.variable == "datetime" and not isinstance(cut.value, str):
            value = datetime.fromtimestamp(cut.value, UTC).strftime("%Y-%m-%d %H:%M:%S")
        row = [cut.board, cut.variable, cut.comparison, value]
        rows.append([*row, cut.label or ""] if has_labels else row)
    write_rows(path, rows)


def write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write rows as comma-separated text, in one go."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def flow(n_events: int, cuts: Sequence[Flow]) -> tuple[Bools, pl.DataFrame]:
    """Return which events pass all cuts, and the cut flow as a frame of the schema FLOW.

    Parameters
    ----------
    n_events : int
        Events before any cut.
    cuts : sequence of Flow
        In order.
    """
    accepted = np.ones(n_events, dtype=bool)
    rows: list[tuple[int, str, str | None, int, int, int]] = [
        (-1, "before any cut", None, n_events, n_events, n_events)
    ]
    for cut in cuts:
        before = rows[-1][4]
        accepted &= cut.passed
        after, alone = int(np.count_nonzero(accepted)), int(np.count_nonzero(cut.passed))
        rows.append((cut.row, cut.cut, cut.label, before, after, alone))
    return accepted, pl.DataFrame(rows, schema=FLOW.dtypes, orient="row")


class BoardEvents:
    """Which hits each board has, and in which events: what all cuts of a run need.

    Parameters
    ----------
    event : ndarray of int, shape (n_hits,)
        Event of a hit.
    board : ndarray of int, shape (n_hits,)
        Board of a hit.
    boards : sequence of int
        Boards of the telescope.
    n_events : int or None
        Events; None: as many as the largest number needs.
    """

    def __init__(
        self, event: NDArray[Any], board: NDArray[Any], boards: Sequence[int], n_events: int | None
    ) -> None:
        self.event = event.astype(np.int64, copy=False)
        most = int(self.event.max()) + 1 if self.event.size else 0
        self.n_events = most if n_events is None else n_events
        if most > self.n_events or (self.event.size and self.event.min() < 0):
            what = f"events are numbered to {most - 1}, there are {self.n_events}"
            raise InputError(what)
        self.boards = sorted({int(number) for number in boards})
        self.rows = {number: np.flatnonzero(board == number) for number in self.boards}
        self.present: dict[int, Bools] = {}
        for number in self.boards:
            self.present[number] = np.zeros(self.n_events, dtype=bool)
            self.present[number][self.event[self.rows[number]]] = True

    def passed(self, board: int, passes: Callable[[NDArray[np.int64]], Bools], keep_events: bool) -> Bools:
        """Return which events pass a condition on all hits of a board.

        Parameters
        ----------
        board : int
            The board.
        passes : function
            Of rows to whether each passes.
        keep_events : bool
            Whether events without a hit of the board pass.
        """
        rows = self.rows[board]
        passed = np.ones(self.n_events, dtype=bool) if keep_events else self.present[board].copy()
        passed[self.event[rows[~passes(rows)]]] = False
        return passed

    def with_wildcards(
        self, board: str, passes: Callable[[NDArray[np.int64]], Bools], keep_events: bool
    ) -> Bools:
        """Return which events pass for a board, for all (``*``) or for any (``#``)."""
        if board not in (ALL, ANY):
            return self.passed(int(board), passes, keep_events)
        combine = np.logical_and if board == ALL else np.logical_or
        result = np.full(self.n_events, board == ALL)
        for number in self.boards:
            combine(result, self.passed(number, passes, keep_events), out=result)
        return result

    def check(self, board: str, place: str) -> None:
        """Refuse a board that the run does not have."""
        if board not in (ALL, ANY) and int(board) not in self.boards:
            known = [str(number) for number in self.boards]
            raise InputError.unknown("board", board, [*known, ALL, ANY], where=place)


def apply_cuts(
    hits: pl.DataFrame,
    cuts: Sequence[Cut],
    boards: Sequence[int],
    *,
    keep_events: bool = False,
    n_events: int | None = None,
    files: pl.DataFrame | None = None,
) -> tuple[Bools, pl.DataFrame]:
    """Return which events pass all cuts.

    For charge injection, where every hit is an event of its own, a cut on ``#`` is one on every hit.

    Parameters
    ----------
    hits : polars.DataFrame
        Of the schema EVENT_HITS; of its columns ``event``, ``board`` and those that the cuts name.
    cuts : sequence of Cut
        All must pass.
    boards : sequence of int
        Boards of the telescope, for ``*`` and ``#``.
    keep_events : bool
        Whether a missing hit passes every cut on its board, instead of none.
    n_events : int, optional
        Events, with those without hits; by default as many as `hits` needs.
    files : polars.DataFrame, optional
        Of the schema FILES; for cuts on pixel, phase, charge and threshold that stand in file names.

    Returns
    -------
    accepted : ndarray of bool, shape (n_events,)
        By event number.
    flow : polars.DataFrame
        Of the schema FLOW, with a first row before any cut.

    Raises
    ------
    InputError
        A cut is on a board, or a variable, that the hits do not have.
    """
    found = BoardEvents(hits["event"].to_numpy(), hits["board"].to_numpy(), boards, n_events)
    columns: dict[str, NDArray[Any]] = {}
    flows = []
    for cut in cuts:
        found.check(cut.board, _place(cut))
        if cut.variable not in columns:
            columns[cut.variable] = _column(hits, cut, files)
        values = columns[cut.variable]
        passed = found.with_wildcards(cut.board, _condition(values, cut), keep_events)
        flows.append(Flow(cut.row, cut.text, cut.label, passed))
    return flow(found.n_events, flows)


def _condition(values: NDArray[Any], cut: Cut) -> Callable[[NDArray[np.int64]], Bools]:
    compare = COMPARISONS[cut.comparison]

    def passes(rows: NDArray[np.int64]) -> Bools:
        chosen = values[rows]
        result = np.asarray(compare(chosen, cut.value), dtype=bool)
        if cut.comparison == "<>" and chosen.dtype.kind == "f":
            # a value that is not known fails every comparison
            result &= ~np.isnan(chosen)
        return result

    return passes


def _place(cut: Cut) -> str:
    return f"cut {cut.row} (line {cut.line}), {cut.text}" if cut.line else f"cut {cut.row}, {cut.text}"


def _column(hits: pl.DataFrame, cut: Cut, files: pl.DataFrame | None) -> NDArray[Any]:
    """Return the values of a variable by hit: whole numbers, floats with NaN for nulls, or names."""
    name = _ORIGINAL.get(cut.variable, cut.variable)
    if cut.variable in _OF_FILES:
        if files is None or "file" not in hits.columns:
            what = f"{cut.variable!r} stands in the names of files, which are not known here"
            raise InputError(what, where=_place(cut))
        name = _OF_FILES[cut.variable]
        known = files.filter(pl.col("board").is_not_null()).select("file", "board", name)
        series = hits.select("file", "board").join(known, on=["file", "board"], how="left")[name]
    elif name not in hits.columns:
        raise InputError.unknown("variable", cut.variable, hits.columns, where=_place(cut))
    else:
        series = hits[name]
    if series.dtype == pl.String:
        return series.fill_null("").to_numpy().astype(object)
    if series.dtype == pl.Boolean:
        series = series.cast(pl.UInt8)
    if series.null_count():
        return series.cast(pl.Float64).to_numpy()
    return series.to_numpy()
