"""Lines of text to numbers, in one pass over the bytes.

Two readers: `read_columns` for lines of white-space separated whole numbers, `read_kinds` for lines that begin with
a word saying what they are. Both give every line that is not blank either its numbers or the reason why it has none,
so that the counts always add up. A line ends with a newline; a carriage return before it is white space, and so
are tabs and blanks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.etroc.readout.packets import content_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

__all__ = [
    "CLOCK", "DATE", "WHOLE", "WORD", "Columns", "Kind", "Kinds", "as_bytes", "read_columns", "read_kinds", "warm_up",
    "white_lines",
]  # fmt: skip

WHOLE, WORD, DATE, CLOCK = range(4)
"""What a column holds: a whole number; a 32-bit word (decimal, or 32 characters 0 and 1); a date; a time of day."""

_KEPT = 20
_TOO_LARGE = 1 << 60
_SPACE, _NEWLINE, _ZERO, _MINUS, _COLON, _DOT = 32, 10, 48, 45, 58, 46

_USED, _HEADER, _COUNT, _NUMBER, _RANGE = range(5)  # columns after _RANGE: _RANGE + column
_BLANK = -1


def as_bytes(content: bytes | Path | str) -> Bytes:
    """Return the bytes of a file, or of what was read from it.

    Parameters
    ----------
    content : bytes or Path
        The bytes, or where they are.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    content = content_of(Path(content) if isinstance(content, str) else content)
    return np.frombuffer(content, dtype=np.uint8) if content else np.zeros(0, dtype=np.uint8)


def white_lines(content: bytes) -> list[list[bytes]]:
    """Return the fields of the first lines of a file that are not blank; a last one that may be cut is left out.

    Parameters
    ----------
    content : bytes
        The first bytes of a file.
    """
    lines = content[:65536].split(b"\n")
    if lines[-1].strip() and len(lines) > 1:
        lines = lines[:-1]
    return [fields for fields in map(bytes.split, lines) if fields]


@kernel
def _is_white(byte: int) -> bool:
    return bool(byte == _SPACE or 9 <= byte <= 13)


@kernel
def _skip_white(text: Bytes, at: int) -> int:
    """Return where the next thing of this line begins: a token, the newline, or the end of the text."""
    while at < text.size and text[at] != _NEWLINE and _is_white(text[at]):
        at += 1
    return at


@kernel
def _skip_token(text: Bytes, at: int) -> int:
    while at < text.size and not _is_white(text[at]):
        at += 1
    return at


@kernel
def _digits(text: Bytes, at: int, base: int) -> tuple[int, int]:
    """Return the number whose digits stand here, and where they end; huge ones stop growing."""
    value = 0
    while at < text.size:
        digit = text[at] - _ZERO
        if base == 16 and digit > 9:
            letter = (text[at] | 32) - 97
            digit = letter + 10 if 0 <= letter < 6 else 99
        if digit < 0 or digit >= base:
            break
        if value < _TOO_LARGE:
            value = base * value + digit
        at += 1
    return value, at


@kernel
def _whole(text: Bytes, start: int) -> tuple[int, int]:
    """Return a decimal number and where it ends; -1 for what is none, `_TOO_LARGE` for one below zero."""
    negative = text[start] == _MINUS
    first = start + 1 if negative else start
    value, at = 0, first
    while at < text.size:
        digit = text[at] - _ZERO
        if digit < 0 or digit > 9:
            break
        value = 10 * value + digit if value < _TOO_LARGE // 10 else _TOO_LARGE
        at += 1
    if at == first or (at < text.size and not _is_white(text[at])):
        return -1, _skip_token(text, at)
    return (_TOO_LARGE if negative and value > 0 else value), at


@kernel
def _word(text: Bytes, start: int) -> tuple[int, int]:
    """Return a 32-bit word written as a decimal number or as 32 characters 0 and 1."""
    value, at = _digits(text, start, 2)
    if at == start + 32 and (at == text.size or _is_white(text[at])):
        return value, at
    return _whole(text, start)


@kernel
def _fixed(text: Bytes, start: int, n_digits: int) -> int:
    """Return the number of exactly so many digits, -1 where there are not."""
    value = 0
    for at in range(start, start + n_digits):
        digit = text[at] - _ZERO
        if digit < 0 or digit > 9:
            return -1
        value = 10 * value + digit
    return value


@kernel
def _date(text: Bytes, start: int) -> tuple[int, int]:
    """Return the days from 1970-01-01 to a date yyyy-mm-dd, or -1."""
    end = _skip_token(text, start)
    if end != start + 10 or text[start + 4] != _MINUS or text[start + 7] != _MINUS:
        return -1, end
    year, month, day = _fixed(text, start, 4), _fixed(text, start + 5, 2), _fixed(text, start + 8, 2)
    if year < 1970 or month < 1 or month > 12 or day < 1 or day > 31:
        return -1, end
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    if (day == 31 and month in (4, 6, 9, 11)) or (month == 2 and day > (29 if leap else 28)):
        return -1, end
    # years that begin in March: the leap day is the last one (H. Hinnant, days_from_civil)
    shifted = year - (month <= 2)
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    of_era = (shifted % 400) * 365 + (shifted % 400) // 4 - (shifted % 400) // 100 + of_year
    return shifted // 400 * 146097 + of_era - 719468, end


@kernel
def _clock(text: Bytes, start: int) -> tuple[int, int]:
    """Return the seconds of a time hh:mm:ss, fractions dropped, or -1."""
    end = _skip_token(text, start)
    if end < start + 8 or text[start + 2] != _COLON or text[start + 5] != _COLON:
        return -1, end
    hour, minute, second = _fixed(text, start, 2), _fixed(text, start + 3, 2), _fixed(text, start + 6, 2)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return -1, end
    if end > start + 8:
        _, at = _digits(text, start + 9, 10)
        if text[start + 8] != _DOT or at != end or at == start + 9:
            return -1, end
    return 3600 * hour + 60 * minute + second, end


@kernel
def _column(text: Bytes, at: int, content: int) -> tuple[int, int]:
    if content == WHOLE:
        return _whole(text, at)
    if content == WORD:
        return _word(text, at)
    if content == DATE:
        return _date(text, at)
    return _clock(text, at)


@kernel
def _read_line(
    text: Bytes, start: int, contents: NDArray[np.int64], limits: NDArray[np.int64], rows: NDArray[np.uint32], row: int
) -> tuple[int, int]:  # fmt: skip
    """Read one line into a row; return what became of it and where the next one begins."""
    at, n_found, wrong, outside = _skip_white(text, start), 0, False, -1
    while at < text.size and text[at] != _NEWLINE:
        value = 0
        if n_found < contents.size:
            value, at = _column(text, at, contents[n_found])
            if value > limits[n_found]:
                outside = n_found if outside < 0 else outside
            elif value >= 0:
                rows[row, n_found] = value
        else:
            value, at = _whole(text, at)
        wrong |= value < 0
        n_found += 1
        at = _skip_white(text, at)
    after = at + 1
    if n_found == 0:
        return _BLANK, after
    if wrong:
        return _NUMBER, after
    if n_found != contents.size:
        return _COUNT, after
    return (_USED if outside < 0 else _RANGE + outside), after


@kernel
def _is_header(text: Bytes, start: int, phrase: Bytes, nothing_yet: bool) -> bool:
    """Whether a line that is no row of numbers is a header: the known phrase, or before all numbers a line of words."""
    at = _skip_white(text, start)
    letter = text[at] | 32
    if nothing_yet and (97 <= letter <= 122 or text[at] == 35):
        return True
    if at + phrase.size > text.size:
        return False
    same = 0
    for index in range(phrase.size):
        same += (text[at + index] | 32) == (phrase[index] | 32)
    return bool(same == phrase.size)


@kernel
def _read_all(
    text: Bytes, contents: NDArray[np.int64], limits: NDArray[np.int64], phrase: Bytes, rows: NDArray[np.uint32],
    counts: NDArray[np.int64], places: NDArray[np.int64],
) -> tuple[int, int, int, int]:  # fmt: skip
    """Read all lines; return rows, rejected lines that are kept in `places`, and where the first header stands."""
    at, line, n_used, n_kept, header_start, header_end = 0, 0, 0, 0, 0, 0
    while at < text.size:
        line += 1
        start = at
        reason, at = _read_line(text, at, contents, limits, rows, n_used)
        if reason == _BLANK:
            continue
        if reason == _NUMBER and phrase.size > 0 and _is_header(text, start, phrase, n_used == 0):
            reason = _HEADER
            if header_end == 0:
                header_start, header_end = start, at - 1
        counts[reason] += 1
        if reason == _USED:
            n_used += 1
        elif reason != _HEADER and n_kept < len(places):
            places[n_kept, 0], places[n_kept, 1] = line, reason
            n_kept += 1
    return n_used, n_kept, header_start, header_end


@dataclass(frozen=True)
class Columns:
    """Rows of whole numbers, and what became of every other line.

    Parameters
    ----------
    values : ndarray of uint32, shape (n_rows, n_columns)
        The numbers; dates in days from 1970-01-01 and times in seconds of the day.
    counters : mapping of str to int
        ``"hit"`` for rows, and reasons, as far as there are any; they add up to `n_lines`.
    rejected : tuple of (int, str)
        Line (from 1) and reason of the first 20 lines that were refused.
    header : str or None
        The first header line.
    n_lines : int
        Lines that are not blank.
    """

    values: NDArray[np.uint32]
    counters: Mapping[str, int]
    rejected: tuple[tuple[int, str], ...]
    header: str | None
    n_lines: int


def read_columns(
    text: Bytes,
    names: Sequence[str],
    limits: Sequence[int],
    contents: Sequence[int] | None = None,
    *,
    header: str | None = None,
) -> Columns:
    """Read lines of whole numbers.

    Parameters
    ----------
    text : ndarray of uint8
        The bytes of the file.
    names : sequence of str
        Names of the columns, for the reasons.
    limits : sequence of int
        Largest value of each column; the smallest is 0.
    contents : sequence of int, optional
        `WHOLE` (default), `WORD`, `DATE` or `CLOCK` for each column.
    header : str, optional
        How a header line begins, whatever its case. With it, lines of words before the first row are headers, and lines
        that begin like this are headers anywhere (merged files have several). Without it there are no headers.

    Returns
    -------
    Columns
    """
    n = len(names)
    kinds = np.array(contents if contents is not None else [WHOLE] * n, dtype=np.int64)
    tops = np.array(limits, dtype=np.int64)
    tops[kinds > WORD] = np.iinfo(np.uint32).max
    # a row has at least one digit and one separator per column; one more row to write what is refused
    n_rows = min(int(np.count_nonzero(text == _NEWLINE)) + 1, text.size // (2 * n) + 1) + 1
    rows = np.empty((n_rows, n), dtype=np.uint32)
    counts = np.zeros(_RANGE + n, dtype=np.int64)
    places = np.zeros((_KEPT, 2), dtype=np.int64)
    phrase = np.frombuffer((header or "").encode(), dtype=np.uint8)
    n_used, n_kept, start, end = _read_all(text, kinds, tops, phrase, rows, counts, places)
    plural = "column" if n == 1 else "columns"
    number = "not a date and time" if bool((kinds > WORD).all()) else "not a number"
    reasons = ["hit", "header line", f"not {n} {plural}", number, *(f"{name} out of range" for name in names)]
    counters = {reason: int(count) for reason, count in zip(reasons, counts, strict=True) if count}
    return Columns(
        values=rows[:n_used],
        counters=counters,
        rejected=tuple((int(line), reasons[reason]) for line, reason in places[:n_kept]),
        header=bytes(text[start:end]).decode("utf-8", "replace").strip() if end else None,
        n_lines=int(counts.sum()),
    )


@dataclass(frozen=True)
class Kind:
    """A kind of line: words and numbers in a fixed order.

    Parameters
    ----------
    name : str
        Name in the counters.
    text : str
        Words; ``#n`` for a decimal number up to n, ``&n`` for a binary one, ``%w`` for w characters 0 and 1 or else a
        decimal number; ``|`` after the words that tell this kind from others, ``?`` before what may be missing and ``...``
        at the end where more may follow. Binary numbers may be written 0b101 and all as 0x5.
    """

    name: str
    text: str


_DECIMAL, _BINARY, _WIDTH = range(3)  # rules; with _WIDTH: _WIDTH + width
_MAX_NUMBERS = 8
_NOT_THIS, _MATCHED, _NO_NUMBER, _OUTSIDE, _MISSING, _MORE = range(6)
_UNKNOWN = 0


def _compile(kinds: Sequence[Kind]) -> tuple[NDArray[np.int64], NDArray[np.int64], Bytes]:
    """Return items (kind, item, [length of a word or 0, place or rule, limit]), sizes and the letters of all words."""
    pool = b""
    sizes = np.zeros(
        (len(kinds), 4), dtype=np.int64
    )  # items, key items, required items, whether more may follow
    table: list[list[tuple[int, int, int]]] = []
    for index, kind in enumerate(kinds):
        items: list[tuple[int, int, int]] = []
        key, required = 0, -1
        for part in kind.text.split():
            if part == "|":
                key = len(items)
            elif part == "?":
                required = len(items)
            elif part == "...":
                sizes[index, 3] = 1
            elif part[0] == "%":
                items.append((0, _WIDTH + int(part[1:]), 2 ** int(part[1:]) - 1))
            elif part[0] in "#&":
                items.append((0, _DECIMAL if part[0] == "#" else _BINARY, int(part[1:])))
            else:
                items.append((len(part), len(pool), 0))
                pool += part.encode()
        sizes[index, :3] = len(items), key, len(items) if required < 0 else required
        table.append(items)
    encoded = np.zeros((len(kinds), max(map(len, table)), 3), dtype=np.int64)
    for index, items in enumerate(table):
        encoded[index, : len(items)] = items
    return encoded, sizes, np.frombuffer(pool, dtype=np.uint8)


@kernel
def _number(text: Bytes, start: int, rule: int) -> tuple[int, bool, int]:
    """Return a number (-1: none), whether 0b or 0x stands before it, and where it ends."""
    base, first, prefixed = 10, start, False
    if text[start] == _ZERO and start + 1 < text.size and (text[start + 1] | 32) in (98, 120):
        base, first, prefixed = (2 if (text[start + 1] | 32) == 98 else 16), start + 2, True
    elif rule == _BINARY or (rule > _WIDTH and _skip_token(text, start) == start + rule - _WIDTH):
        base = 2
    value, at = _digits(text, first, base)
    if at == first or (at < text.size and not _is_white(text[at])):
        return -1, prefixed, _skip_token(text, at)
    return value, prefixed, at


@kernel
def _is_word(text: Bytes, start: int, word: Bytes) -> bool:
    end = start + word.size
    if end > text.size or (end < text.size and not _is_white(text[end])):
        return False
    same = 0
    for index in range(word.size):
        same += text[start + index] == word[index]
    return bool(same == word.size)


@kernel
def _match(
    text: Bytes, start: int, items: NDArray[np.int64], sizes: NDArray[np.int64], pool: Bytes, row: NDArray[np.int32]
) -> tuple[int, int, int, int]:  # fmt: skip
    """Match a line with one kind: what became of it, numbers, which have a prefix, and where it stopped."""
    at, n, prefixes, status = start, 0, 0, _MATCHED
    for index in range(sizes[0]):
        at = _skip_white(text, at)
        if at >= text.size or text[at] == _NEWLINE:
            if index < sizes[1]:
                return _NOT_THIS, 0, 0, at
            return (_MISSING if index < sizes[2] else status), n, prefixes, at
        length, rule, limit = items[index]
        if length > 0:
            if not _is_word(text, at, pool[rule : rule + length]):
                return (_NOT_THIS if index < sizes[1] else _NO_NUMBER), n, prefixes, at
            at += length
            continue
        value, prefixed, at = _number(text, at, rule)
        if value < 0 and status == _MATCHED:
            status = _NO_NUMBER
        elif value > limit and status == _MATCHED:
            status = _OUTSIDE
        row[n] = value if 0 <= value <= limit else -1
        prefixes |= prefixed << n
        n += 1
    return status, n, prefixes, at


@kernel
def _match_any(
    text: Bytes, start: int, items: NDArray[np.int64], sizes: NDArray[np.int64], pool: Bytes, row: NDArray[np.int32]
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """Return the kind of a line (0: unknown) and what `_match` says about it."""
    for index in range(len(sizes)):
        status, n, prefixes, at = _match(text, start, items[index], sizes[index], pool, row)
        if status != _NOT_THIS:
            return index + 1, status, n, prefixes, at
    return _UNKNOWN, _NOT_THIS, 0, 0, start


@kernel
def _read_kinds(
    text: Bytes, items: NDArray[np.int64], sizes: NDArray[np.int64], pool: Bytes, mark: Bytes, values: NDArray[np.int32],
    facts: NDArray[np.uint8], lines: NDArray[np.uint32],
) -> int:  # fmt: skip
    """Read all lines; `facts` are kind, status, numbers, prefixes, whether marked, and width of the first number."""
    at, line, n_lines = 0, 0, 0
    while at < text.size:
        line += 1
        start = _skip_white(text, at)
        at = start
        while at < text.size and text[at] != _NEWLINE:
            at += 1
        if start == at:
            at += 1
            continue
        kind, status, n, prefixes, stop = _match_any(text, start, items, sizes, pool, values[n_lines])
        rest = _skip_white(text, stop)
        marked = status == _MATCHED and rest < at and rest + mark.size <= at
        for index in range(mark.size):
            marked = marked and text[rest + index] == mark[index]
        if status == _MATCHED and rest < at and not marked and sizes[kind - 1, 3] == 0:
            status = _MORE
        first = _skip_white(text, _skip_token(text, start))
        facts[n_lines, 0], facts[n_lines, 1], facts[n_lines, 2] = kind, status, n
        facts[n_lines, 3], facts[n_lines, 4] = prefixes, marked
        facts[n_lines, 5] = min(_skip_token(text, first) - first, 255)
        lines[n_lines] = line
        n_lines += 1
        at += 1
    return n_lines


@dataclass(frozen=True)
class Kinds:
    """Lines by their kinds.

    Parameters
    ----------
    kind : ndarray of uint8, shape (n_lines,)
        Place of the kind in the list of kinds from 1; 0 for lines of no kind.
    values : ndarray of int32, shape (n_lines, 8)
        The numbers; undefined behind `n_values`.
    n_values : ndarray of uint8, shape (n_lines,)
        Numbers found.
    good : ndarray of bool, shape (n_lines,)
        Whether the line is as its kind wants it.
    why : ndarray of uint8, shape (n_lines,)
        Index into `REASONS`.
    prefixes : ndarray of uint8, shape (n_lines,)
        Bit k: number k is written with 0b or 0x.
    marked : ndarray of bool, shape (n_lines,)
        Whether the mark follows.
    width : ndarray of uint8, shape (n_lines,)
        Characters of what follows the first word.
    line : ndarray of uint32, shape (n_lines,)
        Number of the line, from 1.
    """

    kind: NDArray[np.uint8]
    values: NDArray[np.int32]
    n_values: NDArray[np.uint8]
    good: NDArray[np.bool_]
    why: NDArray[np.uint8]
    prefixes: NDArray[np.uint8]
    marked: NDArray[np.bool_]
    width: NDArray[np.uint8]
    line: NDArray[np.uint32]

    REASONS = (
        "unknown line",
        "",
        "not a number",
        "value out of range",
        "too few columns",
        "too many columns",
    )


def read_kinds(text: Bytes, kinds: Sequence[Kind], mark: str = "\n") -> Kinds:
    """Read lines that begin with a word saying what they are.

    Parameters
    ----------
    text : ndarray of uint8
        The bytes of the file.
    kinds : sequence of Kind
        What lines may be; tried in order. A kind has at most 8 numbers.
    mark : str
        Text that may follow a line.

    Returns
    -------
    Kinds
    """
    items, sizes, pool = _compile(kinds)
    n = min(int(np.count_nonzero(text == _NEWLINE)) + 1, text.size // 2 + 1)
    values = np.empty((n, _MAX_NUMBERS), dtype=np.int32)
    facts = np.empty((n, 6), dtype=np.uint8)
    lines = np.empty(n, dtype=np.uint32)
    n = _read_kinds(
        text, items, sizes, pool, np.frombuffer(mark.encode(), dtype=np.uint8), values, facts, lines
    )
    columns = np.ascontiguousarray(facts[:n].T)
    return Kinds(
        kind=columns[0],
        values=values[:n],
        n_values=columns[2],
        good=columns[1] == _MATCHED,
        why=columns[1],
        prefixes=columns[3],
        marked=columns[4] > 0,
        width=columns[5],
        line=lines[:n],
    )


def warm_up() -> None:
    """Compile all kernels of this module, or load them from the cache."""
    text = as_bytes(b"min\n0 1 1970-01-01 00:00:00\n")
    read_columns(text, ("a", "b", "date", "clock"), (1, 1, 0, 0), (WHOLE, WORD, DATE, CLOCK), header="min")
    read_kinds(as_bytes(b"D 1 0b1\n"), (Kind("data", "D | #1 &1 %2"),))
