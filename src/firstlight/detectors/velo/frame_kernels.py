"""Kernels for frames: the text of a frame to numbers, and sums over rows, columns and regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]

__all__ = [
    "EMPTY", "FEW_ROWS", "LONG_ROW", "MANY_ROWS", "NOT_A_NUMBER", "READ", "SHORT_ROW", "TOO_LARGE", "add_frames", "line_sums",
    "parse_frame",
]  # fmt: skip

READ, EMPTY, FEW_ROWS, SHORT_ROW, LONG_ROW, MANY_ROWS, NOT_A_NUMBER, TOO_LARGE = range(8)
"""What `parse_frame` returns."""

_SPACE, _TAB, _NEWLINE, _RETURN, _COMMA, _ZERO, _MINUS = 32, 9, 10, 13, 44, 48, 45


@kernel
def _prepare(text: Bytes, before: Bytes, ends: Bytes) -> tuple[bool, int, int]:
    """Fill, for every byte, the number that stands before it and whether it ends a number.

    Returns whether numbers have one or two digits with one comma or newline between them, how many end, and
    how many newlines there are. Eight-bit arithmetic without branches: the compiler does 16 or more bytes at
    once.
    """
    size = text.size
    ten, zero, none = np.uint8(10), np.uint8(48), np.uint8(0)
    comma, newline = np.uint8(_COMMA), np.uint8(_NEWLINE)
    wrong = none
    for at in range(size - 2):
        first = np.uint8(text[at] - zero)
        second = np.uint8(text[at + 1] - zero)
        third = np.uint8(text[at + 2] - zero)
        last = third < ten
        before[at + 2] = np.uint8(second + (np.uint8(ten * first) if first < ten else none))
        ends[at + 2] = np.uint8(not last)
        digits = np.uint8((first < ten) & (second < ten) & last)
        both = np.uint8((second >= ten) & (not last))
        other = np.uint8((not last) & (text[at + 2] != comma) & (text[at + 2] != newline))
        wrong = np.uint8(wrong | digits | both | other)
    n_ends, n_newlines = 0, 0
    before[0], before[1] = none, np.uint8(text[0] - zero)
    ends[0], ends[1] = none, np.uint8(np.uint8(text[1] - zero) >= ten)
    for at in range(size):
        n_ends += ends[at]
    for at in range(size):
        n_newlines += text[at] == newline
    starts = np.uint8(text[0] - zero) < ten and (ends[1] == 0 or text[1] == comma or text[1] == newline)
    return bool(starts and wrong == 0), n_ends, n_newlines


@kernel
def _parse_plain(text: Bytes, largest: int, values: NDArray[np.uint8]) -> bool:
    """Read the text of a frame as the experiment writes it; False where anything is different.

    Every byte is treated alike, whether it ends a number or not: numbers of one and two digits follow each
    other at random, and a branch that cannot be foreseen costs more than a store that is overwritten.
    """
    n_rows, n_columns = values.shape
    size, number = text.size, values.size
    if size < 2 * number - 1 or size > 3 * number or size < 3:
        return False
    before, ends = np.empty(size + 1, dtype=np.uint8), np.empty(size + 1, dtype=np.uint8)
    plain, n_ends, n_newlines = _prepare(text, before, ends)
    one, two = np.uint8(text[size - 1] - np.uint8(_ZERO)), np.uint8(text[size - 2] - np.uint8(_ZERO))
    if one < 10:
        # a newline is missing at the end
        before[size] = one + (np.uint8(np.uint8(10) * two) if two < 10 else np.uint8(0))
        ends[size] = 1
        n_ends += 1
        n_newlines += 1
    if not plain or n_ends != number or n_newlines != n_rows:
        return False
    # unsigned: an index that cannot be negative needs no second look
    at, one_more, stop = np.uint64(0), np.uint64(1), np.uint64(n_columns)
    for row in range(n_rows):
        line = values[row]
        column = np.uint64(0)
        while column < stop:
            line[column] = before[at]
            column += np.uint64(ends[at])
            at += one_more
        # as there are as many newlines as rows, those at the ends of rows are all
        if at <= np.uint64(size) and text[at - one_more] != _NEWLINE:
            return False
    top = np.uint8(0)
    for value in values.reshape(-1):
        top = max(top, value)
    return bool(top <= largest)


@kernel
def _value_at(text: Bytes, start: int) -> tuple[int, int]:
    """Return the number at a place, blanks around it skipped, and where the text goes on; -1: no number."""
    at = start
    while at < text.size and text[at] == _SPACE:
        at += 1
    negative = at < text.size and text[at] == _MINUS
    if negative:
        at += 1
    value = -1
    while at < text.size and _ZERO <= text[at] < _ZERO + 10:
        value = text[at] - _ZERO if value < 0 else min(10 * value + text[at] - _ZERO, 1_000_000)
        at += 1
    while at < text.size and text[at] == _SPACE:
        at += 1
    if negative and value > 0:
        value = 1_000_000
    return value, at


@kernel
def _row(text: Bytes, start: int, largest: int, values: Bytes) -> tuple[int, int, int]:
    """Read one line and return what is wrong, the number of values before, and where the text goes on."""
    at = start
    size, last = text.size, values.size - 1
    for column in range(values.size):
        # most numbers are one or two digits and a comma, whatever is odd about the frame
        if at + 2 < size and column < last and _ZERO <= text[at] < _ZERO + 10:
            value = text[at] - _ZERO
            after = at + 1
            if _ZERO <= text[after] < _ZERO + 10:
                value = 10 * value + text[after] - _ZERO
                after += 1
            if text[after] == _COMMA and value <= largest:
                values[column] = value
                at = after + 1
                continue
        value, after = _value_at(text, at)
        ends = after >= size or text[after] == _NEWLINE or text[after] == _RETURN
        if value < 0:
            return (SHORT_ROW if ends and column > 0 else NOT_A_NUMBER), column, at
        if not ends and text[after] != _COMMA:
            return NOT_A_NUMBER, column, at
        if value > largest:
            return TOO_LARGE, column, at
        values[column] = value
        at = after
        if ends:
            return (READ if column == last else SHORT_ROW), column + 1, at
        at += 1
    return LONG_ROW, values.size, at


@kernel
def _next_line(text: Bytes, start: int) -> tuple[int, int]:
    """Return where the next line that is not blank begins, and how many line ends lie before it."""
    at, start_of_line, lines = start, start, 0
    while at < text.size:
        if text[at] == _NEWLINE:
            lines += 1
            start_of_line = at + 1
        elif text[at] == _RETURN:
            # also the line end of its own, of old systems
            if at + 1 >= text.size or text[at + 1] != _NEWLINE:
                lines += 1
                start_of_line = at + 1
        elif text[at] not in (_SPACE, _TAB):
            return start_of_line, lines
        at += 1
    return text.size, lines


@kernel
def parse_frame(text: Bytes, largest: int, values: NDArray[np.uint8], place: Whole) -> int:
    """Read the text of a frame: lines of numbers with commas between them.

    Spaces around numbers, blank lines at the end, a missing newline at the end, and line ends of other
    systems are no mistakes.

    Parameters
    ----------
    text : ndarray of uint8
        Bytes of the file.
    largest : int
        Largest number that there can be, below 256.
    values : ndarray of uint8, shape (n_rows, n_columns)
        Filled.
    place : ndarray of int64, shape (3,)
        Filled where something is wrong: line and column, from 1, and the byte. `LONG_ROW`, `SHORT_ROW`: the
        column is the number of values in the line. `FEW_ROWS`, `MANY_ROWS`: the line is the number of lines.

    Returns
    -------
    int
        `READ`, or the first thing that is wrong.
    """
    if _parse_plain(text, largest, values):
        return READ
    n_rows = values.shape[0]
    at, line = _next_line(text, 0)
    if at >= text.size:
        return EMPTY
    for row in range(n_rows):
        status, column, at = _row(text, at, largest, values[row])
        place[0], place[1], place[2] = line + 1, column, at
        if status == LONG_ROW:
            while at < text.size and text[at] != _NEWLINE and text[at] != _RETURN:
                place[1] += text[at] == _COMMA
                at += 1
            place[1] += 1
        elif status in (NOT_A_NUMBER, TOO_LARGE):
            place[1] += 1
        if status != READ:
            return status
        begin, ends = _next_line(text, at)
        line += ends
        at = begin
        if at >= text.size and row < n_rows - 1:
            place[0] = row + 1
            return FEW_ROWS
    if at < text.size:
        place[0] = n_rows
        while at < text.size:
            place[0] += 1
            while at < text.size and text[at] != _NEWLINE and text[at] != _RETURN:
                at += 1
            at, _ = _next_line(text, at)
        return MANY_ROWS
    return READ


@kernel
def line_sums(
    frames: NDArray[np.uint8],
    weight: NDArray[np.uint8],
    n_regions: int,
    sums: NDArray[np.int32],
    squares: NDArray[np.int32],
) -> None:
    """Sum frames over columns, rows and regions.

    Parameters
    ----------
    frames : ndarray of uint8, shape (n_frames, n_rows, n_columns)
        Hits.
    weight : ndarray of uint8, shape (n_rows, n_columns)
        1 where a pixel counts, 0 where it is masked.
    n_regions : int
        The chip is divided into `n_regions` times `n_regions` regions.
    sums : ndarray of int32, shape (n_frames, n_columns + n_rows + n_regions**2)
        Filled: columns, then rows, then regions row by row.
    squares : ndarray of int32, shape (n_frames, n_columns + n_rows)
        Filled: sums of squares over columns, then rows.
    """
    n_frames, n_rows, n_columns = frames.shape
    column_sums = np.zeros(n_columns, dtype=np.int32)
    column_squares = np.zeros(n_columns, dtype=np.int32)
    for index in range(n_frames):
        own = sums[index]
        own[:] = 0
        column_sums[:] = 0
        column_squares[:] = 0
        for row in range(n_rows):
            line = frames[index, row]
            chosen = weight[row]
            offset = n_columns + n_rows + (row * n_regions // n_rows) * n_regions
            total, square = np.int32(0), np.int32(0)
            for column in range(n_columns):
                value = np.int32(line[column]) * np.int32(chosen[column])
                column_sums[column] += value
                column_squares[column] += value * value
                total += value
                square += value * value
            own[n_columns + row] = total
            squares[index, n_columns + row] = square
            for region in range(n_regions):
                # columns c with c * n_regions // n_columns == region
                first = -(-region * n_columns // n_regions)
                stop = -(-(region + 1) * n_columns // n_regions)
                part = np.int32(0)
                for column in range(stop - first):
                    part += np.int32(line[first + column]) * np.int32(chosen[first + column])
                own[offset + region] += part
        own[:n_columns] = column_sums
        squares[index, :n_columns] = column_squares


@kernel
def add_frames(
    frames: NDArray[np.uint8],
    good: NDArray[np.bool_],
    largest: int,
    counts: NDArray[np.int32],
    saturated: NDArray[np.int32],
) -> None:
    """Add up good frames.

    Parameters
    ----------
    frames : ndarray of uint8, shape (n_frames, n_pixels)
        Hits.
    good : ndarray of bool, shape (n_frames,)
        Frames that are added.
    largest : int
        Reading at which the counter stops.
    counts, saturated : ndarray of int32, shape (n_pixels,)
        Sums, and numbers of readings that are `largest`; added to what is there.
    """
    for index in range(frames.shape[0]):
        if good[index]:
            for pixel in range(frames.shape[1]):
                value = frames[index, pixel]
                counts[pixel] += value
                saturated[pixel] += value == largest
