"""Codes to times.

With the calibration code CAL a bin of the time-to-digital converter is ``bin = 3.125 ns / CAL``, and

* time of arrival ``TOA = 12.5 ns - bin * code``,
* time over threshold ``TOT = (2 * code - floor(code / 32)) * bin``.

CAL is measured with every hit, with a noise of 0.3-0.5 codes, and differs between pixels: it is averaged, by default over
the hits of a pixel in a slice of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.compiled import kernel
from firstlight.detectors.etroc.tables import CALIBRATION, TIMED
from firstlight.errors import InputError, UsageError
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]
    Floats = NDArray[np.float64]

__all__ = ["CALIBRATIONS", "HITS_PER_SLICE", "PERIOD", "START", "WINDOW", "convert", "convert_times"]

PERIOD = 3.125
"""A period of 320 MHz [ns]: T3."""

START = 12.5
"""Time of arrival of code 0 [ns]."""

CALIBRATIONS = ("robust", "board", "mean", "median", "event")
"""How CAL is averaged; see `convert_times`."""

HITS_PER_SLICE = 2000
"""Hits of a pixel in a slice: with a noise of 0.6 codes at CAL 140 the mean is good to 1e-4, or 1 ps over the range."""

WINDOW = 3
"""Codes around the most frequent one that a robust mean is over, as in the official analysis of ETROC2."""

_CODES = 1024
_HALF = 8  # columns of a half of an ETROC2, which have a supply of their own
_PIXELS = 5  # of a half, from which the spread between pixels is known
_FAR = 5.0
_MEDIAN_ERROR = 1.2533  # of a median, over that of a mean


@dataclass(frozen=True)
class _Averages:
    """Averages of CAL; all arrays of the same shape."""

    hits: Whole
    cal: Floats
    std: Floats

    @property
    def error(self) -> Floats:
        """Statistical error of a mean; NaN without hits."""
        error: Floats = np.full(self.std.shape, np.nan)
        np.divide(self.std, np.sqrt(self.hits), out=error, where=self.hits > 0)
        return error

    def filled(self, fewest: int, other: _Averages) -> _Averages:
        """Return these averages, with others in place of those of fewer than `fewest` hits."""
        few = self.hits < fewest
        return _Averages(
            np.where(few, other.hits, self.hits),
            np.where(few, other.cal, self.cal),
            np.where(few, other.std, self.std),
        )


@kernel
def _window_sums(
    cal: Whole, group: Whole, use: NDArray[np.bool_], bounds: Whole, window: int, n_groups: int
) -> tuple[Whole, Whole, Whole, Whole]:
    """Return most frequent code, and number, sum and sum of squares of codes around it, by slice and group.

    Of codes that are equally frequent the one with more hits in its window is taken, then the lower one.
    """
    n_slices = bounds.size - 1
    mode = np.zeros((n_slices, n_groups), dtype=np.int64)
    number, total, square = np.zeros_like(mode), np.zeros_like(mode), np.zeros_like(mode)
    counts = np.zeros((n_groups, _CODES), dtype=np.int32)
    for piece in range(n_slices):
        for at in range(bounds[piece], bounds[piece + 1]):
            if use[at]:
                counts[group[at], cal[at]] += 1
        for one in range(n_groups):
            mode[piece, one] = _mode(counts[one], window)
        for at in range(bounds[piece], bounds[piece + 1]):
            if use[at]:
                away = cal[at] - mode[piece, group[at]]
                counts[group[at], cal[at]] = 0
                if -window <= away <= window:
                    number[piece, group[at]] += 1
                    # about the mode, so that squares stay small
                    total[piece, group[at]] += away
                    square[piece, group[at]] += away * away
    return mode, number, total, square


@kernel
def _mode(counts: NDArray[np.int32], window: int) -> int:
    best, best_sum = 0, 0
    for code in range(counts.size):
        if counts[code] < counts[best] or counts[code] == 0:
            continue
        around = 0
        for other in range(max(0, code - window), min(counts.size, code + window + 1)):
            around += counts[other]
        if counts[code] > counts[best] or around > best_sum:
            best, best_sum = code, around
    return best


def _robust(cal: Whole, group: Whole, use: NDArray[np.bool_], bounds: Whole, n_groups: int) -> _Averages:
    mode, number, total, square = _window_sums(cal, group, use, bounds, WINDOW, n_groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = total / number
        variance = (square - number * away**2) / (number - 1)
    return _Averages(number, mode + away, np.sqrt(np.maximum(variance, 0)))


def convert(toa: NDArray[Any], tot: NDArray[Any], bin_ns: Any) -> tuple[Floats, Floats]:
    """Return time of arrival and time over threshold [ns].

    Parameters
    ----------
    toa, tot : ndarray of int, shape (n,)
        Codes.
    bin_ns : float or ndarray, shape (n,)
        3.125 ns / CAL.
    """
    over = tot.astype(np.int64)
    return START - toa * bin_ns, (2 * over - over // 32) * bin_ns


def convert_times(
    hits: pl.DataFrame,
    accepted: NDArray[np.bool_],
    *,
    cal: str = "robust",
    events_per_slice: int | None = None,
    min_hits: int = 20,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Convert the codes of hits to times.

    All hits are converted, with calibrations from the hits of accepted events. A code of 0 is no measurement and not used.

    Parameters
    ----------
    hits : polars.DataFrame
        Of the schema EVENT_HITS.
    accepted : ndarray of bool, shape (n_events,)
        Whether an event is accepted, by its number.
    cal : str
        ``robust``: by pixel and slice of the run, the mean of codes within 3 of the most frequent one. Where these are
        fewer than `min_hits`, that of the pixel in the whole run; if they are still fewer, this drawn towards that of its
        half of the chip (columns 0-7, 8-15; the halves of an ETROC2 may be 5 % apart) by as much as hits are uncertain
        and pixels alike; without hits that of the half, and at last of the board.
        ``board``: the same for a board as a whole.
        ``mean``, ``median``: of all codes of a board, as the original does (its default is the mean).
        ``event``: the code of each hit itself.
    events_per_slice : int, optional
        Length of a slice, nearly; for ``robust`` and ``board``. By default as long that a pixel has 2000 hits in it on
        average for ``robust``, and the whole run for ``board``.
    min_hits : int
        Fewest hits of an average.

    Returns
    -------
    times : polars.DataFrame
        Of the schema TIMED, a row a hit in the same order. Times are null where there is no calibration: a code of 0
        with ``event``, or a board without hits in accepted events.
    calibration : polars.DataFrame
        Of the schema CALIBRATION: what was used, by pixel and slice or by board; `hits` are those of the average that was
        used, so those of the half of a chip where a pixel has too few. With ``event`` the means, for information.

    Raises
    ------
    UsageError
        Unknown `cal`, or a slice or `min_hits` below 1.
    InputError
        A hit is of an event that `accepted` does not have.
    """
    if cal not in CALIBRATIONS:
        raise UsageError.unknown("calibration", cal, CALIBRATIONS)
    if min_hits < 1 or (events_per_slice is not None and events_per_slice < 1):
        raise UsageError("min_hits and events_per_slice must be 1 or more")
    event = hits["event"].to_numpy().astype(np.int64)
    codes = hits["cal"].to_numpy().astype(np.int64)
    if event.size and event.max() >= accepted.size:
        what = f"a hit is of event {event.max()}, there are {accepted.size} events"
        raise InputError(what)
    if codes.size and codes.max() >= _CODES:
        what = f"a calibration code is {codes.max()}, the largest is {_CODES - 1}"
        raise InputError(what)
    use = accepted[event] & (codes > 0)
    if cal in ("robust", "board"):
        used, table = _by_slice(hits, event, codes, use, accepted.size, cal, events_per_slice, min_hits)
    else:
        used, table = _by_board(hits, codes, use, cal)
    return _timed(hits, used), table


def _timed(hits: pl.DataFrame, cal: Floats) -> pl.DataFrame:
    with np.errstate(divide="ignore"):
        bins = np.where(cal > 0, PERIOD / cal, np.nan)
    arrival, over = convert(hits["toa"].to_numpy(), hits["tot"].to_numpy(), bins)
    columns = {"bin_ns": bins, "toa_ns": arrival, "tot_ns": over}
    return (
        hits.select("event", "board", "channel", "file")
        .with_columns(pl.Series(name, values, nan_to_null=True) for name, values in columns.items())
        .select(TIMED.names)
    )


def _shrunk(pixels: _Averages, whole: _Averages, group: Whole) -> _Averages:
    """Return averages of pixels with few hits, drawn towards that of their half of the chip (or of the board).

    Pixels differ by more than a hit is uncertain by, so a few hits say more than the average of the half. The weight of the
    pixel is ``n s_b^2 / (n s_b^2 + s_h^2)``, with the spread s_b between pixels and s_h of hits in a pixel (best linear
    prediction). A pixel farther away than 5 standard deviations is not believed.
    """
    hits, cal, std = (array[0].copy() for array in (whole.hits, whole.cal, whole.std))
    for one in np.unique(group):
        own = np.flatnonzero((group == one) & (pixels.hits[0] > 0))
        several = own[pixels.hits[0, own] > 1]
        if several.size < _PIXELS:
            continue
        number = pixels.hits[0, own]
        free = pixels.hits[0, several] - 1
        of_hits = float((free * pixels.std[0, several] ** 2).sum() / free.sum())
        away = pixels.cal[0, own] - np.median(pixels.cal[0, own])
        total = robust_spread(pixels.cal[0, own]) ** 2
        between = max(total - float(np.median(of_hits / number)), 0.0)
        weight = between / (between + of_hits / number) if between > 0 else np.zeros(own.size)
        believed = np.abs(away) < _FAR * np.sqrt(between + of_hits / number)
        chosen = own[believed]
        cal[chosen] += weight[believed] * (pixels.cal[0, chosen] - cal[chosen])
        hits[chosen], std[chosen] = pixels.hits[0, chosen], np.sqrt(of_hits)
    return _Averages(hits[np.newaxis], cal[np.newaxis], std[np.newaxis])


def _dense(key: Whole) -> tuple[Whole, Whole]:
    """Return the keys that occur, and for each row which of them it has; keys are small numbers."""
    present = np.bincount(key, minlength=1) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[key]


def _by_slice(
    hits: pl.DataFrame, event: Whole, codes: Whole, use: NDArray[np.bool_], n_events: int, cal: str,
    events_per_slice: int | None, min_hits: int,
) -> tuple[Floats, pl.DataFrame]:  # fmt: skip
    if not event.size:
        return np.zeros(0), _table([], [], [], [], _Averages(np.zeros(0, np.int64), np.zeros(0), np.zeros(0)))
    board = hits["board"].to_numpy().astype(np.int64)
    channel = hits["channel"].to_numpy().astype(np.int64) if cal == "robust" else np.full(event.size, -1)
    most = int(channel.max()) + 2
    keys, pixel = _dense(board * most + channel + 1)
    first_events = _slices(n_events, int(use.sum()) / keys.size, cal, events_per_slice)
    order = slice(None) if (np.diff(event) >= 0).all() else np.argsort(event, kind="stable")
    bounds = np.append(np.searchsorted(event[order], first_events), event.size)
    whole = np.array([0, event.size])
    found = _robust(codes[order], pixel[order], use[order], bounds, keys.size)
    if first_events.size > 1:
        found = found.filled(min_hits, _robust(codes, pixel, use, whole, keys.size))
    if cal == "robust":
        pixels = _robust(codes, pixel, use, whole, keys.size)
        # a pixel is of one half of a board
        half = np.zeros(keys.size, dtype=np.int64)
        half[pixel] = hits["col"].fill_null(0).to_numpy().astype(np.int64) // _HALF
        for groups in (2 * (keys // most) + half, keys // most):
            names, group = _dense(groups)
            other = _robust(codes, group[pixel], use, whole, names.size)
            spread = _Averages(other.hits[:, group], other.cal[:, group], other.std[:, group])
            found = found.filled(min_hits, _shrunk(pixels, spread, group))
    found = _Averages(found.hits, np.where(found.hits > 0, found.cal, np.nan), found.std)
    piece = np.searchsorted(first_events, event, side="right") - 1
    n_slices = first_events.size
    table = _table(
        np.tile(keys // most, n_slices), np.tile(keys % most - 1, n_slices), np.repeat(np.arange(n_slices), keys.size),
        np.repeat(first_events, keys.size), found,
    )  # fmt: skip
    return found.cal[piece, pixel], table


def _slices(n_events: int, hits_per_pixel: float, cal: str, events_per_slice: int | None) -> Whole:
    """Return the first event of each slice; slices have the same number of events, nearly."""
    if events_per_slice is not None:
        number = round(n_events / events_per_slice)
    else:
        number = int(hits_per_pixel / HITS_PER_SLICE) if cal == "robust" else 1
    number = max(1, min(number, n_events))
    return np.arange(number) * n_events // number


def _by_board(
    hits: pl.DataFrame, codes: Whole, use: NDArray[np.bool_], cal: str
) -> tuple[Floats, pl.DataFrame]:
    names, board = _dense(hits["board"].to_numpy().astype(np.int64))
    number = np.zeros(names.size, dtype=np.int64)
    value, std = np.full(names.size, np.nan), np.full(names.size, np.nan)
    for index in range(names.size):
        chosen = codes[use & (board == index)]
        number[index] = chosen.size
        if chosen.size:
            value[index] = np.median(chosen) if cal == "median" else chosen.mean()
        if chosen.size > 1:
            std[index] = chosen.std(ddof=1)
    found = _Averages(number, value, std)
    scale = _MEDIAN_ERROR if cal == "median" else 1.0
    zero = np.zeros(names.size, dtype=np.int64)
    table = _table(names, zero - 1, zero, zero, found, scale)
    return (codes.astype(np.float64) if cal == "event" else value[board]), table


def _table(
    board: Any, channel: Any, piece: Any, first_event: Any, found: _Averages, scale: float = 1.0
) -> pl.DataFrame:
    cal = found.cal.ravel()
    columns = {
        "board": board, "channel": channel, "slice": piece, "first_event": first_event, "hits": found.hits.ravel(),
        "cal": cal, "cal_error": scale * found.error.ravel(), "cal_std": found.std.ravel(), "bin_ns": PERIOD / cal,
    }  # fmt: skip
    series = [
        pl.Series(name, values, nan_to_null=True).cast(CALIBRATION.dtypes[name])
        for name, values in columns.items()
    ]
    return pl.DataFrame(series).select(CALIBRATION.names)
