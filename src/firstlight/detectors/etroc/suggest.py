"""Suggested cuts: robust windows that data of any run give, with a sentence for each.

Windows come from medians, most frequent codes and median absolute deviations, which a few per cent of noise hits do not
move, and are rounded outwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.etroc.cuts import Cut
from firstlight.detectors.etroc.time_cuts import TimeCut
from firstlight.errors import InputError
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Values = NDArray[Any]

__all__ = ["Suggestion", "suggest_cuts", "suggest_time_cuts"]

_SIGMAS = 5.0  # half width of windows, in robust standard deviations
_TIME_SIGMAS = 10.0  # of differences of times, so that tails of the resolution stay: the likelihood does not know of a cut
_CORE = 10  # codes around the most frequent CAL that its spread is taken from
_LEAST_CAL = 5  # codes: narrowest half width of a CAL window
_FEWEST = 20  # hits of a pixel, or of a board, that a window is taken from
_TOA_STEP, _TOT_STEP, _TIME_STEP = 10, 5, 0.05  # codes, codes, ns
_TOA_CODES, _TOT_CODES = 1023, 511
_OUTER = 0.005  # part of the hits on either side that a TOA window may miss
_MARGIN = 0.05  # of the TOA window, on either side


@dataclass(frozen=True)
class Suggestion:
    """A cut, and why it is suggested."""

    cut: Cut | TimeCut
    why: str


def _window(board: str, variable: str, low: float, high: float, why: str, row: int) -> list[Suggestion]:
    return [
        Suggestion(Cut(board, variable, ">", low, None, row), why),
        Suggestion(Cut(board, variable, "<", high, None, row + 1), why),
    ]


def suggest_cuts(hits: pl.DataFrame, reference: int | None = None) -> list[Suggestion]:
    """Return suggested rows of ``cuts.csv``.

    For each board a window of CAL and one of TOT, and a window of TOA for the reference board, or for each board.

    Parameters
    ----------
    hits : polars.DataFrame
        Of the schema EVENT_HITS.
    reference : int, optional
        Board that TOA is cut on. A cut on one board keeps the others free of a bias; by default all boards are cut on.

    Returns
    -------
    list of Suggestion
        Two for each window, boards in order; nothing for a board with fewer than 20 hits.

    Raises
    ------
    InputError
        No board has hits enough, or the reference board has no hit.
    """
    boards = hits["board"].unique().sort().to_list()
    if reference is not None and reference not in boards:
        raise InputError.unknown("board", str(reference), [str(board) for board in boards])
    found: list[Suggestion] = []
    for board in boards:
        of_board = hits.filter((pl.col("board") == board) & (pl.col("cal") > 0))
        if of_board.height < _FEWEST:
            continue
        low, high, why = _cal_window(of_board)
        found += _window(str(board), "calibration_code", low, high, why, len(found))
        good = of_board.filter((pl.col("cal") > low) & (pl.col("cal") < high))
        if reference is None or board == reference:
            found += _window(str(board), "time_of_arrival", *_toa_window(good["toa"].to_numpy()), len(found))
        found += _window(str(board), "time_over_threshold", *_tot_window(good["tot"].to_numpy()), len(found))
    if not found:
        what = f"no board has {_FEWEST} hits: there is nothing to take cuts from"
        raise InputError(what)
    return found


def _cal_window(hits: pl.DataFrame) -> tuple[int, int, str]:
    modes, spreads = [], []
    pixels = hits.partition_by("channel")
    for pixel in [pixel for pixel in pixels if pixel.height >= _FEWEST] or [hits]:
        codes = pixel["cal"].to_numpy().astype(np.int64)
        mode = int(np.bincount(codes).argmax())
        core = codes[np.abs(codes - mode) <= _CORE]
        modes.append(mode)
        spreads.append(float(core.std()))
    width = max(_LEAST_CAL, math.ceil(_SIGMAS * float(np.median(spreads))))
    low, high = min(modes) - width, max(modes) + width
    if len(modes) == 1:
        where = f"most frequent code {modes[0]}"
    else:
        where = f"most frequent codes of {len(modes)} pixels {min(modes)} to {max(modes)}"
    return low, high, f"{where}, and {width} codes on either side"


def _toa_window(codes: Values) -> tuple[int, int, str]:
    inner = codes[(codes > 0) & (codes < _TOA_CODES)]
    first, last = np.quantile(inner if inner.size else codes, (_OUTER, 1 - _OUTER))
    margin = _MARGIN * (last - first)
    low = _TOA_STEP * math.floor((first - margin) / _TOA_STEP)
    high = _TOA_STEP * math.ceil((last + margin) / _TOA_STEP)
    why = f"99 % of the hits are between codes {first:.0f} and {last:.0f}; 5 % more on either side"
    return max(0, low), min(_TOA_CODES, high), why


def _tot_window(codes: Values) -> tuple[int, int, str]:
    middle, sigma = float(np.median(codes)), max(robust_spread(codes), 1.0)
    low = _TOT_STEP * math.floor((middle - _SIGMAS * sigma) / _TOT_STEP)
    high = _TOT_STEP * math.ceil((middle + _SIGMAS * sigma) / _TOT_STEP)
    why = f"median code {middle:.0f}, and {_SIGMAS:.0f} robust standard deviations of {sigma:.1f} on either side"
    return max(0, low), min(_TOT_CODES, high), why


def suggest_time_cuts(times: pl.DataFrame, boards: Sequence[int] | None = None) -> list[Suggestion]:
    """Return suggested rows of ``time_cuts.csv``: a limit of abs(t1 - t2) / sqrt(2) for each pair of boards.

    The limit lies 10 robust standard deviations beyond the median difference of the pair, on the side away from 0.

    Parameters
    ----------
    times : polars.DataFrame
        Of the schema TIMED, best of events that passed the cuts on codes.
    boards : sequence of int, optional
        Boards; by default those with hits.

    Returns
    -------
    list of Suggestion
        Nothing for pairs with fewer than 20 events.

    Raises
    ------
    InputError
        No pair has events enough.
    """
    names = sorted(boards) if boards is not None else times["board"].unique().sort().to_list()
    known = times.select("event", "board", "toa_ns").drop_nulls("toa_ns")
    # several hits of a board in an event: the first one, as none is better here
    by_board = {
        name: known.filter(pl.col("board") == name)
        .select("event", "toa_ns")
        .unique("event", keep="first", maintain_order=True)
        for name in names
    }
    found: list[Suggestion] = []
    for one, two in combinations(names, 2):
        both = by_board[one].join(by_board[two], on="event", suffix="_2")
        if both.height < _FEWEST:
            continue
        difference = (both["toa_ns"] - both["toa_ns_2"]).to_numpy()
        middle, sigma = float(np.median(difference)), robust_spread(difference)
        limit = (abs(middle) + _TIME_SIGMAS * sigma) / math.sqrt(2)
        limit = max(1, math.ceil(limit / _TIME_STEP - 1e-9)) * _TIME_STEP
        why = (
            f"boards {one} and {two}: median difference {middle:.3f} ns, robust standard deviation {sigma:.3f} ns; "
            f"{_TIME_SIGMAS:.0f} of these beyond the median"
        )
        variables = (("time_of_arrival_ns", str(one)), ("time_of_arrival_ns", str(two)))
        cut = TimeCut("diag-dist", "<", variables, (round(limit, 6),), None, len(found))
        found.append(Suggestion(cut, why))
    if not found:
        what = f"no pair of boards has {_FEWEST} events: there is nothing to take cuts from"
        raise InputError(what)
    return found
