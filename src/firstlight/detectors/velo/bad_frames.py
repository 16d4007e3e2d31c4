"""Which frames of a threshold are corrupt, from the frames of that threshold alone.

Two rules. ``fingerprint`` is that of the original scripts: the mean of one column is a known number. ``auto``
needs no number: it compares sums over columns, rows and regions of each frame with those of the other
acquisitions, and columns and rows with their neighbours where all acquisitions may be corrupt. What is always
there, such as noisy pixels, dead or wide columns, makes no frame bad; a single pixel never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.velo.frame_comparison import MINORITY, RARE
from firstlight.detectors.velo.frames import STATUSES
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from firstlight.detectors.velo.frame_comparison import Found, FrameLines
    from firstlight.detectors.velo.options import BadFrame

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

__all__ = ["Judgement", "judge", "plausibly_empty"]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is thought of the frames of a threshold; a row per frame.

    Parameters
    ----------
    status : list of str
        ``"good"``, ``"bad pattern"``, ``"outlier"`` or ``"empty"``; as given where the frame was not
        ``"read"``.
    reason : list of str
        Why, in words and numbers.
    total : ndarray of int64, shape (n_frames,)
        Hits of pixels that are not masked.
    last_column_mean : ndarray of float64, shape (n_frames,)
        Mean of the last column over pixels that are not masked [hits]; NaN where there is none.
    relative : ndarray of float64, shape (n_frames,)
        Hits relative to those of neighbouring acquisitions; NaN where not compared.
    deviation : ndarray of float64, shape (n_frames,)
        The same as a distance in standard deviations; NaN where not compared.
    """

    status: list[str]
    reason: list[str]
    total: NDArray[np.int64]
    last_column_mean: Floats
    relative: Floats
    deviation: Floats


def judge(
    frames: NDArray[np.uint8],
    statuses: Sequence[str],
    mask: Bools,
    rule: BadFrame | None = None,
    *,
    expected: float | None = None,
    legacy_empty: bool = False,
) -> Judgement:
    """Return which frames of a threshold are good.

    Parameters
    ----------
    frames : ndarray of uint8, shape (n_frames, n_rows * n_columns) or (n_frames, n_rows, n_columns)
        Hits, in the order of acquisitions.
    statuses : sequence of str
        Frames that are not ``"read"`` are neither judged nor compared with.
    mask : ndarray of bool, shape (n_rows, n_columns)
        True for pixels that are masked.
    rule : BadFrame, optional
        How corrupt frames are recognised; by default ``auto``. ``fingerprint``: the mean of its `column` over
        pixels that are not masked lies within `tolerance` of its `value`; frames without a hit are left out
        as well. ``none``: all frames that could be read are good.
    expected : float, optional
        Hits expected in a frame. Where no frame has a hit nothing else says whether that is to be expected;
        without it they are taken to be empty.
    legacy_empty : bool
        For the rule ``fingerprint``: a frame is empty if there is no hit in the column, as in the original
        scripts, which lose good frames at thresholds where hits are rare. By default it must have no hit at
        all, where the other frames have more than a few.

    Returns
    -------
    Judgement
        A row per frame.

    Raises
    ------
    UsageError
        If the shapes do not fit.
    ConfigError
        If the column of a fingerprint does not exist, or all its pixels are masked.
    """
    from firstlight.detectors.velo.frame_comparison import Comparison, Found, FrameLines
    from firstlight.detectors.velo.options import BadFrame

    rule = BadFrame() if rule is None else rule
    lines = FrameLines.of(frames, statuses, mask)
    found = Found(list(statuses), [""] * lines.n_frames)
    read = np.flatnonzero([status == "read" for status in statuses])
    for index in read:
        found.status[index] = "good"
    relative, deviation = np.full((2, lines.n_frames), np.nan)
    if rule.rule == "fingerprint":
        _fingerprint(lines, read, found, rule, expected=expected, legacy_empty=legacy_empty)
    elif rule.rule == "auto":
        read = _without_empty(lines, read, found, expected)
        Comparison(lines, read, found, relative, deviation).run()
    total = lines.total.copy()
    unread = np.array([status in STATUSES[1:] for status in statuses], dtype=np.bool_)
    last = lines.mean_of(lines.shape[1] - 1)
    last = np.where(unread, np.nan, last)
    return Judgement(found.status, found.reason, total, last, relative, deviation)


def plausibly_empty(totals: Sequence[float], expected: float) -> bool:
    """Return whether it is no surprise that all these frames have no hit.

    Parameters
    ----------
    totals : sequence of float
        Hits of each frame.
    expected : float
        Hits expected in a frame, as from the next threshold below.
    """
    return not any(totals) and expected < -np.log(RARE)


def _fingerprint(
    lines: FrameLines,
    read: NDArray[np.int64],
    found: Found,
    rule: BadFrame,
    *,
    expected: float | None,
    legacy_empty: bool,
) -> None:
    """Apply the rule of the original scripts."""
    column, value = rule.column, rule.value
    if not 0 <= column < lines.shape[1] or not lines.n_open[column]:
        what = f"no fingerprint in column {column}: " + (
            "all its pixels are masked"
            if 0 <= column < lines.shape[1]
            else f"there are {lines.shape[1]} columns"
        )
        raise ConfigError(what, hint='another column, or bad_frame = "auto"')
    if value is None:
        what = "the rule fingerprint needs a value: the mean of the column in a corrupt frame"
        raise ConfigError(what)
    mean = lines.mean_of(column)
    if legacy_empty:
        for index in read[mean[read] == 0]:
            found.tell(index, "empty", f"no hit in column {column}")
        read = read[mean[read] != 0]
    else:
        read = _without_empty(lines, read, found, expected)
    for index in read[np.abs(mean[read] - value) < rule.tolerance]:
        reason = f"mean of column {column} is {mean[index]:.6f}, the fingerprint {value:.6f}"
        found.tell(index, "bad pattern", reason)


def _without_empty(
    lines: FrameLines, read: NDArray[np.int64], found: Found, expected: float | None
) -> NDArray[np.int64]:
    """Mark frames that have no hit and should have some, and return the other ones."""
    total = lines.total[read]
    with_hits = total > 0
    if with_hits.all():
        return read
    limit = -np.log(RARE)
    if not with_hits.any():
        if expected is not None and expected < limit:
            return read
        because = "no frame of this threshold has one" if expected is None else f"{expected:.0f} are expected"
        for index in read:
            found.tell(index, "empty", f"no hit; {because}")
        return read[:0]
    usual = float(np.median(total[with_hits]))
    if usual < limit:
        return read
    for index in read[~with_hits]:
        found.tell(index, "empty", f"no hit; {usual:.0f} is usual in frames of this threshold")
    if with_hits.sum() >= MINORITY * read.size:
        return read[with_hits]
    # the chip was hardly ever read out, or light leaked into a scan above all hits: nothing here says which
    for index in read[with_hits]:
        reason = f"{lines.total[index]} hits, where {(~with_hits).sum()} of {read.size} frames have none"
        found.tell(index, "outlier", reason)
    return read[:0]
