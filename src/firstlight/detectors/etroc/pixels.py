"""What is known of every pixel from its codes: hits, calibration, spread of the time of arrival, and its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Table
from firstlight.detectors.etroc.channels import ETROC2_SIDE
from firstlight.detectors.etroc.options import PixelParameters
from firstlight.detectors.etroc.tables import PIXELS
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap

    Floats = NDArray[np.float64]

__all__ = ["BINS", "PEAKED", "STATES", "judge", "moments", "pixels"]

# codes of 10, 9 and 10 bits
BINS = {"toa": 1024, "tot": 512, "cal": 1024}
STATES = ("good", "no hits", "few hits", "dead", "hot", "stuck", "noisy calibration")
_PERIOD = 3125.0  # of 320 MHz [ps]
PEAKED = 30.0
"""Standard deviation of TOA [codes] from which hits come at any time."""
_NEAR = 3  # codes around the most frequent CAL that are its own noise, as in the official analysis
_BLOCK = 1 << 18  # hits whose sums are made at a time
# chance for which a pixel without hits is called dead, and one with many hot
_CHANCE = 1e-6


def by_code(codes: NDArray[Any], group: NDArray[Any], n_groups: int, bins: int) -> NDArray[np.int64]:
    """Return how often each group has each code, shape (n_groups, bins)."""
    flat = group.astype(np.int32) * np.int32(bins) + codes
    return np.bincount(flat, minlength=n_groups * bins).reshape(n_groups, bins)


def moments(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return number, mean and standard deviation (n - 1) of codes by group, each of shape (n_groups,).

    NaN where there are too few.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_groups, n_codes)
        How often each group has each code.
    """
    code = np.arange(counts.shape[1])
    number = counts.sum(axis=1)
    total = (counts @ code).astype(np.float64)
    square = (counts @ code**2).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / number
        variance = (square * number - total * total) / (number * (number - 1.0))
    return number, mean, np.sqrt(np.where(number > 1, np.maximum(variance, 0), np.nan))


def _error_of_std(counts: NDArray[np.int64], mean: Floats, std: Floats) -> Floats:
    """Return the errors of standard deviations by group, from the fourth moment: codes of a narrow peak are no Gaussian.

    ``error = sqrt((m_4 - m_2^2) / n) / (2 s)``.
    """
    number = counts.sum(axis=1)
    away = np.arange(counts.shape[1]) - mean[:, np.newaxis]
    with np.errstate(invalid="ignore", divide="ignore"):
        second, fourth = ((counts * away**power).sum(axis=1) / number for power in (2, 4))
        error: Floats = np.sqrt(np.maximum(fourth - second**2, 0) / number) / (
            2.0 * np.where(std > 0, std, np.nan)
        )
    return error


def run(products: Mapping[str, Any], parameters: PixelParameters, context: Context) -> Mapping[str, Product]:
    """Return the products ``table`` and the histograms ``toa``, ``tot`` and ``cal`` of each board.

    Parameters
    ----------
    products : mapping
        ``ingest/hits``.
    parameters : PixelParameters
        When a pixel is judged.
    context : Context
        Its channel map has the pixels.
    """
    hits: pl.DataFrame = products["ingest/hits"].frame.select("hit_flag", "board", "channel", "ea", *BINS)
    # nearly always all of them: a copy of many hits takes room
    if not hits["hit_flag"].all():
        hits = hits.filter(pl.col("hit_flag"))
    channels = context.channels
    known = hits["channel"] >= 0
    table = _table(hits if known.all() else hits.filter(known), channels)
    state = judge(table, channels, parameters)
    table = table.with_columns(state=pl.Series(state), good=pl.Series(state == "good"))
    found: dict[str, Product] = {"table": Table.from_frame(PIXELS, table)}
    boards = channels.groups["board"].to_list()
    place = np.full(256, -1, dtype=np.int32)
    place[boards] = np.arange(len(boards))
    board = place[hits["board"].to_numpy()]
    inside: Any = board >= 0
    if inside.all():
        inside = slice(None)
    for name, bins in BINS.items():
        counts = np.zeros((len(boards), bins + 2), dtype=np.int64)
        flat = board[inside] * bins + hits[name].to_numpy()[inside]
        counts[:, 1:-1] = np.bincount(flat, minlength=len(boards) * bins).reshape(len(boards), bins)
        axes = (
            Axis("board", len(boards), labels=tuple(map(str, boards))),
            Axis(name, bins, -0.5, bins - 0.5, description=f"{name.upper()} code"),
        )
        found[name] = HistogramCube(axes, counts, f"hits of each board by {name.upper()} code")
    return found


def _table(hits: pl.DataFrame, channels: ChannelMap) -> pl.DataFrame:
    n_channels = len(channels)
    channel = hits["channel"].to_numpy()
    codes = {name: hits[name].to_numpy() for name in BINS}
    clean: Any = hits["ea"].to_numpy() == 0
    if clean.all():
        clean = slice(None)
    all_hits = np.bincount(channel, minlength=n_channels)
    columns: dict[str, Any] = {
        "hits": all_hits,
        "bad_ea": all_hits - np.bincount(channel[clean], minlength=n_channels),
        "zero_cal": np.bincount(channel[codes["cal"] == 0], minlength=n_channels),
    }
    counts = {
        name: by_code(code[clean], channel[clean], n_channels, BINS[name]) for name, code in codes.items()
    }
    for name in codes:
        number, columns[f"{name}_mean"], columns[f"{name}_std"] = moments(counts[name])
    mode = counts["cal"].argmax(axis=1)
    columns["cal_mode"] = np.where(number > 0, mode, np.nan)
    near = np.abs(np.arange(BINS["cal"]) - mode[:, np.newaxis]) <= _NEAR
    with np.errstate(invalid="ignore"):
        columns["cal_far"] = 1.0 - (counts["cal"] * near).sum(axis=1) / np.where(number > 0, number, np.nan)
    every = (
        counts
        if isinstance(clean, slice)
        else {name: by_code(codes[name], channel, n_channels, BINS[name]) for name in ("toa", "cal")}
    )
    toa_all, cal_all = moments(every["toa"])[2], moments(every["cal"])[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        columns["jitter_all"] = _PERIOD / np.where(cal_all > 0, cal_all, np.nan) * toa_all
        bin_ps = _PERIOD / np.where(columns["cal_mean"] > 0, columns["cal_mean"], np.nan)
        # hits at any time, as in a beam, have codes all over the range: their spread is no jitter
        peaked = np.where(columns["toa_std"] < PEAKED, columns["toa_std"], np.nan)
        columns["jitter"] = bin_ps * peaked
        columns["jitter_error"] = bin_ps * _error_of_std(counts["toa"], columns["toa_mean"], peaked)
    frame = channels.frame.select("channel", "board", "row", "col")
    return frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()}).fill_nan(None)


def judge(table: pl.DataFrame, channels: ChannelMap, parameters: PixelParameters) -> NDArray[Any]:
    """Return the state of each pixel, one of `STATES`.

    A pixel without hits is dead, and one with many is hot, only against what its neighbours lead to expect; where they
    have no hits either (charge injected into one pixel) nothing is expected.

    Parameters
    ----------
    table : polars.DataFrame
        Columns of ``pixels/table``.
    channels : ChannelMap
        All pixels.
    parameters : PixelParameters
        Limits.
    """
    from scipy.special import gammainc

    hits = table["hits"].to_numpy().astype(np.float64)
    expected = _expected(hits, channels)
    toa_std = table["toa_std"].fill_null(np.nan).to_numpy()
    cal_far = table["cal_far"].fill_null(np.nan).to_numpy()
    judged = hits - table["bad_ea"].to_numpy() >= parameters.minimum_hits
    with np.errstate(invalid="ignore"):
        many = (hits > parameters.hot_ratio * expected) & (hits > parameters.minimum_hits)
        # chance of so many hits or more, with one hit expected at least
        unlikely = gammainc(np.maximum(hits, 1), np.maximum(expected, 1.0)) < _CHANCE
        dead = (hits == 0) & (np.exp(-expected) < _CHANCE)
    state = np.full(hits.size, "good", dtype=object)
    state[~judged] = "few hits"
    state[hits == 0] = "no hits"
    state[judged & (cal_far > parameters.noisy_calibration)] = "noisy calibration"
    state[judged & (toa_std == 0)] = "stuck"
    state[many & unlikely & (expected > 0)] = "hot"
    state[dead] = "dead"
    return state.astype(str)


def _expected(hits: Floats, channels: ChannelMap) -> Floats:
    """Return the median number of hits of the neighbours of each pixel; 0 where a board has not a whole matrix."""
    from firstlight.steps.neighbourhood import local_median

    expected = np.zeros(hits.size)
    for board in channels.groups["board"].to_list():
        own = np.flatnonzero(channels.column("board") == board)
        if own.size != ETROC2_SIDE**2:
            continue
        matrix = hits[own].reshape(ETROC2_SIDE, ETROC2_SIDE)
        expected[own] = local_median(matrix, np.ones_like(matrix, dtype=np.bool_), radius=2).ravel()
    return expected


pixels = ProductStep("pixels", run, needs=("ingest/hits",), parameters=PixelParameters)
