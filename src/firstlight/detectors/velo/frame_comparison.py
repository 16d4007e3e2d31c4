"""Sums of frames over columns, rows and regions, and the comparison of frames with each other.

This is the rule ``auto`` of `firstlight.detectors.velo.bad_frames`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

__all__ = ["MINORITY", "RARE", "Comparison", "Found", "FrameLines"]

REGIONS = 4  # the chip is divided into 4 x 4 regions
RARE = 1e-9  # probability by chance of a line that does not fit
_RARE_TOTAL = 1e-12  # and of a total that does not
_LINE_FLOOR = 0.05  # systematic scatter of a line from frame to frame
_TOTAL_FLOOR = 0.01  # and of all hits
_SINGLE = 0.03  # fraction of the pixels of a line that may do what they want
_SINGLE_TOTAL = 0.001  # and of those of a frame
_AFFECTED = 0.15  # fraction of pixels with more hits in a line that has too many
MINORITY = 0.2  # frames that differ from this fraction on are not taken to be the corrupt ones unseen
_WINDOW = 25  # frames over which hits may drift
_ENOUGH = 100.0  # hits of a frame, from which on its rate relative to others can be told


@dataclass
class Found:
    """What was found so far.

    Parameters
    ----------
    status, reason : list of str
        Of each frame.
    """

    status: list[str]
    reason: list[str]

    def tell(self, index: int, status: str, reason: str) -> None:
        """Leave out a frame."""
        self.status[index], self.reason[index] = status, reason


@dataclass(frozen=True, eq=False)
class FrameLines:
    """Frames, and their sums over lines: columns, then rows, then regions.

    Parameters
    ----------
    frames : ndarray of uint8, shape (n_frames, n_rows, n_columns)
        Hits.
    open : ndarray of bool, shape (n_rows, n_columns)
        Pixels that are not masked.
    sums : ndarray of int32, shape (n_frames, n_lines + n_regions)
        Hits of open pixels of each line.
    squares : ndarray of int32, shape (n_frames, n_lines)
        Sums of squares of the same.
    n_open : ndarray of int32, shape (n_lines + n_regions,)
        Open pixels of each line.
    """

    frames: NDArray[np.uint8]
    open: Bools
    sums: NDArray[np.int32]
    squares: NDArray[np.int32]
    n_open: NDArray[np.int32]

    @classmethod
    def of(cls, frames: NDArray[np.uint8], statuses: Sequence[str], mask: Bools) -> FrameLines:
        """Return the sums of frames.

        Raises
        ------
        UsageError
            If the shapes do not fit.
        """
        from firstlight.detectors.velo.frame_kernels import line_sums

        mask = np.asarray(mask, dtype=np.bool_)
        if mask.ndim != 2 or frames.size != len(statuses) * mask.size or frames.shape[0] != len(statuses):
            what = (
                f"frames of shape {frames.shape} do not go with {len(statuses)} statuses and a mask of "
                f"shape {mask.shape}"
            )
            raise UsageError(what)
        n_rows, n_columns = mask.shape
        images = np.ascontiguousarray(frames, dtype=np.uint8).reshape(len(statuses), n_rows, n_columns)
        n_lines = n_rows + n_columns
        sums = np.zeros((len(images) + 1, n_lines + REGIONS**2), dtype=np.int32)
        squares = np.zeros((len(images) + 1, n_lines), dtype=np.int32)
        weight = (~mask).astype(np.uint8)
        line_sums(images, weight, REGIONS, sums[:-1], squares[:-1])
        line_sums(weight[np.newaxis], weight, REGIONS, sums[-1:], squares[-1:])
        return cls(images, ~mask, sums[:-1], squares[:-1], sums[-1])

    @property
    def n_frames(self) -> int:
        """Frames, those that could not be read included."""
        return len(self.frames)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.open.shape[0], self.open.shape[1]

    @property
    def n_lines(self) -> int:
        """Columns and rows, without regions."""
        return sum(self.shape)

    @property
    def total(self) -> NDArray[np.int64]:
        """Hits of open pixels in each frame."""
        return np.asarray(self.sums[:, : self.shape[1]].sum(axis=1, dtype=np.int64))

    def mean_of(self, column: int) -> Floats:
        """Return the mean of a column over pixels that are not masked, in each frame."""
        n_open = int(self.n_open[column])
        return self.sums[:, column] / n_open if n_open else np.full(self.n_frames, np.nan)

    def pixels(self, line: int, index: NDArray[np.int64]) -> Floats:
        """Return the open pixels of a line in some frames, of shape (n_frames, n_pixels)."""
        n_columns = self.shape[1]
        if line < n_columns:
            chosen = self.frames[index, :, line][:, self.open[:, line]]
        elif line < self.n_lines:
            row = line - n_columns
            chosen = self.frames[index, row][:, self.open[row]]
        else:
            area = self.area(line)
            chosen = self.frames[index][:, area[0], area[1]][:, self.open[area]]
        return chosen.astype(np.float64)

    def area(self, line: int) -> tuple[slice, slice]:
        """Return rows and columns of a region."""
        across, along = divmod(line - self.n_lines, REGIONS)
        rows, columns = (
            slice(-(-part * size // REGIONS), -(-(part + 1) * size // REGIONS))
            for part, size in zip((across, along), self.shape, strict=True)
        )
        return rows, columns

    def name(self, line: int) -> str:
        """Return what a line is called."""
        if line < self.shape[1]:
            return f"column {line}"
        if line < self.n_lines:
            return f"row {line - self.shape[1]}"
        rows, columns = self.area(line)
        return f"region of rows {rows.start}-{rows.stop - 1} and columns {columns.start}-{columns.stop - 1}"

    def neighbours(self, line: int) -> NDArray[np.int64]:
        """Return the two lines on each side, or those that there are; none for a region."""
        if line >= self.n_lines:
            return np.empty(0, dtype=np.int64)
        first, stop = (0, self.shape[1]) if line < self.shape[1] else (self.shape[1], self.n_lines)
        near = line + np.array([-2, -1, 1, 2])
        near = near[(near >= first) & (near < stop)]
        return np.asarray(near[self.n_open[near] > 0])


def _tail(count: Floats, mean: Floats, dispersion: Floats) -> Floats:
    """Return the probability of a count so far from the mean, in the direction in which it lies.

    A Poisson distribution with a variance `dispersion` times as large: that of ``count / dispersion``.
    """
    from scipy.special import gammainc, gammaincc

    x, mu = count / dispersion, mean / dispersion
    more = gammainc(np.maximum(x, 1e-12), mu)
    less = gammaincc(x + 1.0, mu)
    return np.asarray(np.where(count > mean, more, less))


class Comparison:
    """The rule ``auto``: frames of a threshold compared with each other, lines with their neighbours.

    Sums follow Poisson distributions, widened by a systematic scatter and by the scatter that is seen. A line
    that chance explains with a probability below 1e-9 is looked at pixel by pixel: without the 3 % of its
    pixels that deviate most, it must still deviate.

    Parameters
    ----------
    lines : FrameLines
        All frames.
    read : ndarray of int64
        Which of them are compared.
    found : Found
        Verdicts; changed.
    relative, deviation : ndarray of float64, shape (n_frames,)
        Filled: hits relative to other acquisitions, and the same in standard deviations.
    """

    def __init__(
        self, lines: FrameLines, read: NDArray[np.int64], found: Found, relative: Floats, deviation: Floats
    ) -> None:
        self.lines = lines
        self.read = read
        self.found = found
        self.relative = relative
        self.deviation = deviation

    def run(self) -> None:
        """Judge all frames."""
        self.read = self.without_constant_lines(self.read)
        if not self.read.size:
            return
        bad = self.lines_unlike_other_frames()
        bad |= self.lines_unlike_neighbours(bad)
        self.totals(bad)
        for position, index in enumerate(self.read):
            if self.found.status[index] == "good" and bad[position].any():
                self.found.tell(index, "bad pattern", self.describe(position, np.flatnonzero(bad[position])))

    def without_constant_lines(self, read: NDArray[np.int64]) -> NDArray[np.int64]:
        """Mark frames with a line of (almost) equal readings beside normal ones, and return the other ones.

        Pixels count independently of each other, so the variance within a line is its mean at least. A column
        with 18 or 19 in all its pixels was not counted. No other frame is needed to see that.
        """
        lines = self.lines
        n_lines = lines.n_lines
        number = np.maximum(lines.n_open[:n_lines], 1)
        mean = lines.sums[read, :n_lines] / number
        variance = lines.squares[read] / number - mean**2
        with np.errstate(divide="ignore", invalid="ignore"):
            dispersion = variance / mean
            error = np.sqrt(2.0 / number + 1.0 / (mean * number))
            equal = (dispersion < 0.5) & (1.0 - dispersion > 6.5 * error) & (mean >= 0.2)
        # a whole line at the end of the counter is noise, not corruption
        equal &= mean < 0.95 * lines.frames.max(initial=1)
        constant = np.zeros(read.size, dtype=np.bool_)
        for position, line in zip(*np.nonzero(equal), strict=True):
            near = lines.neighbours(int(line))
            # lines that all have equal readings: test pulses, saturation
            if near.size and np.median(equal[position, near]) < 0.5 and not constant[position]:
                constant[position] = True
                reason = (
                    f"{lines.name(int(line))} has (almost) the same reading in all pixels: "
                    f"mean {mean[position, line]:.2f}, variance {variance[position, line]:.2f}; "
                    f"its neighbours {mean[position, near].mean():.2f}"
                )
                self.found.tell(read[position], "bad pattern", reason)
        return read[~constant]

    def scales(self, usual: Floats) -> Floats:
        """Return the hits of each frame relative to the usual ones, whatever some lines do.

        The weighted median over regions: a line goes through a quarter of them.
        """
        n_lines = self.lines.n_lines
        weight = usual[n_lines:]
        if weight.sum() < _ENOUGH:
            return np.ones(self.read.size)
        used = weight > 0
        sums = self.lines.sums[self.read, n_lines:][:, used]
        ratio = sums / weight[used]
        # regions without hits and regions at the end of the counter say nothing of the others
        full = 0.9 * self.lines.frames.max(initial=1) * self.lines.n_open[n_lines:][used]
        # nor may a few of them decide: those with a corrupt column can have nearly all hits
        vote = np.minimum(weight[used], 2.0 * np.median(weight[used]))
        share = np.where((sums == 0) | (ratio > 1.5) & (sums > full), 0.0, vote)
        share[~share.any(axis=1)] = vote
        order = np.argsort(ratio, axis=1)
        passed = np.cumsum(np.take_along_axis(share, order, 1), axis=1)
        middle = np.argmax(passed >= 0.5 * passed[:, -1:], axis=1)
        picked = np.take_along_axis(ratio, np.take_along_axis(order, middle[:, np.newaxis], 1), 1)[:, 0]
        return np.maximum(picked, 1e-3)

    def lines_unlike_other_frames(self) -> Bools:
        """Return which lines do not fit those of the other frames, of shape (n_frames, n_lines)."""
        sums = self.lines.sums[self.read].astype(np.float64)
        n_frames = self.read.size
        bad = np.zeros(sums.shape, dtype=np.bool_)
        # of two frames the lower one: what is too high is more often wrong
        self.scale = self.scales(sums.min(axis=0) if n_frames == 2 else np.median(sums, axis=0))
        self.usual = np.median(sums / self.scale[:, np.newaxis], axis=0)
        if n_frames < 2:
            return bad
        mean = self.scale[:, np.newaxis] * self.usual
        dispersion = 1.0 + 1.57 / n_frames + _LINE_FLOOR**2 * mean
        if n_frames >= 5 and (self.usual > 5.0).any():
            scatter = np.abs(sums - mean) / np.sqrt(np.maximum(mean, 1.0))
            spread = (1.4826 * np.median(scatter, axis=0)) ** 2
            dispersion = np.maximum(dispersion, np.median(spread[self.usual > 5.0]))
            if n_frames >= 20:
                # of few frames the scatter of a single line is too little known
                dispersion = np.maximum(dispersion, spread / 1.5)
        flagged = self.unlikely(sums, mean, dispersion)
        for line in np.flatnonzero(flagged.any(axis=0)):
            bad[:, line] = self.decide(int(line), flagged)
        return bad

    @staticmethod
    def unlikely(count: Floats, mean: Floats, dispersion: Floats) -> Bools:
        """Return which counts chance does not explain."""
        # a median of 0 hits may be a mean of 0.7
        above = mean + np.minimum(1.0, 1.0 / dispersion)
        near = np.abs(count - mean) < 3.5 * np.sqrt(dispersion * mean)
        found = np.zeros(count.shape, dtype=np.bool_)
        far = np.nonzero(~near & ((count < mean) | (count > above)))
        centre = np.where(count[far] > mean[far], above[far], mean[far])
        found[far] = _tail(count[far], centre, dispersion[far]) < RARE
        return found

    def decide(self, line: int, all_flagged: Bools) -> Bools:
        """Return in which frames a line is corrupt, where some frames differ from the usual."""
        flagged = all_flagged[:, line]
        values = self.lines.pixels(line, self.read) / self.scale[:, np.newaxis]
        corrupt = flagged if flagged.all() else self.confirmed(values, flagged)
        if corrupt.mean() < MINORITY:
            return corrupt
        near = self.lines.neighbours(line)
        # neighbours that are odd in the same frames are no help
        split = self.split(line, near[all_flagged[flagged][:, near].mean(axis=0) < 0.5])
        return np.zeros_like(flagged) if split is None else self.confirmed(values, split)

    def confirmed(self, values: Floats, corrupt: Bools) -> Bools:
        """Return which of the corrupt frames are so in more than a few pixels of a line."""
        usual = values[~corrupt].mean(axis=0)
        found = np.zeros_like(corrupt)
        for position in np.flatnonzero(corrupt):
            scale = self.scale[position]
            found[position] = self.confirm(values[position] * scale, usual * scale, int((~corrupt).sum()))
        return found

    def confirm(self, pixels: Floats, usual: Floats, n_others: int) -> bool:
        """Return whether a line deviates without its most deviating pixels, too."""
        difference = pixels - usual
        if difference.sum() < 0:
            difference = -difference
        elif np.mean(difference > 0) < _AFFECTED:
            return False
        n_single = int(np.ceil(_SINGLE * pixels.size))
        rest = np.argsort(difference)[: pixels.size - n_single]
        if not rest.size:
            return False
        count, mean = np.array([pixels[rest].sum()]), np.array([usual[rest].sum()])
        dispersion = 1.0 + 1.0 / n_others + _LINE_FLOOR**2 * mean
        return bool(self.unlikely(count, mean, dispersion)[0])

    def split(self, line: int, near: NDArray[np.int64]) -> Bools | None:
        """Return which frames are the corrupt ones where many differ: they fit neighbouring lines worse.

        None where that cannot be told.
        """
        lines = self.lines
        sums = lines.sums[self.read, line] / self.scale
        order = np.argsort(sums, kind="stable")
        gap = int(np.argmax(np.diff(np.sqrt(sums[order]))))
        low = np.zeros(self.read.size, dtype=np.bool_)
        low[order[: gap + 1]] = True
        number = lines.n_open[line]
        if near.size:
            around = (
                np.median(lines.sums[self.read][:, near] / lines.n_open[near], axis=1) / self.scale * number
            )
            # three hits more: few hits say little of a ratio
            distance = np.abs(np.log((sums + 3) / (around + 3)))
            error = np.sqrt(1 / (sums + 3) + 1 / (near.size * around + 3))
            apart = float(np.median(distance[low]) - np.median(distance[~low]))
            if abs(apart) > 0.3 + 5.0 * max(float(np.median(error[low])), float(np.median(error[~low]))):
                # a line that is dead in most frames is dead, and not corrupt
                dead = low.mean() > 0.5 and np.median(sums[low]) < 0.02 * np.median(around[low])
                return low if apart > 0 and not dead else ~low
        if low.mean() != 0.5:
            return low if low.mean() < 0.5 else ~low
        # two halves: full counters are wrong, and so is no hit at all; nothing else can be told
        full = lines.pixels(line, self.read[~low]) >= 0.9 * lines.frames.max(initial=1)
        if full.mean() > 0.25:
            return ~low
        return low if not sums[low].any() else None

    def lines_unlike_neighbours(self, bad: Bools) -> Bools:
        """Return which columns and rows are corrupt in all frames.

        Most of their pixels have far more hits than their neighbours, and not in the way of counts: from
        frame to frame they vary more or less than a Poisson distribution does. Columns that are noisy or wide
        vary as it does.
        """
        lines, n_columns = self.lines, self.lines.shape[1]
        found = np.zeros_like(bad)
        clean = self.read[~bad.any(axis=1)]
        clean = clean if clean.size else self.read
        image = np.where(lines.open, lines.frames[clean].sum(axis=0, dtype=np.int64), np.nan)
        high = np.concatenate([_far_above_neighbours(image.T), _far_above_neighbours(image)])
        for line in np.flatnonzero(high):
            own = np.flatnonzero(~bad[:, line])
            if own.size and not self.counted(int(line), own, high):
                found[own, line] = True
        # a row of columns that are all high crosses them all
        if found[:, :n_columns].all(axis=1).any() or found[:, n_columns:].all(axis=1).any():
            found[:] = False
        return found

    def counted(self, line: int, own: NDArray[np.int64], high: Bools) -> bool:
        """Return whether a line varies from frame to frame as counts do."""
        values = self.lines.pixels(line, self.read[own]) / self.scale[own, np.newaxis]
        mean = values.mean(axis=0)
        if mean.mean() >= 0.95 * self.lines.frames.max(initial=1):
            return True
        if own.size < 2:
            near = self.lines.neighbours(line)
            near = near[~high[near]]
            around = self.lines.sums[self.read[own[0]], near] / self.lines.n_open[near] if near.size else mean
            return bool(mean.mean() < 5.0 * np.mean(around))
        with np.errstate(invalid="ignore", divide="ignore"):
            dispersion = np.sort(
                (values.var(axis=0, ddof=1) / mean)[
                    (mean > 0) & (mean < 0.95 * self.lines.frames.max(initial=1))
                ]
            )
        cut = int(np.ceil(_SINGLE * dispersion.size))
        kept = dispersion[cut : dispersion.size - cut]
        if kept.size < 8:
            return True
        error = np.sqrt(2.0 / (kept.size * (own.size - 1)))
        typical = float(kept.mean())
        return not (typical < 0.5 and 1 - typical > 6 * error) and not (
            typical > 2.0 and typical - 1 > 6 * error
        )

    def totals(self, bad: Bools) -> None:
        """Mark frames with far more or far fewer hits than acquisitions around them.

        In frames with corrupt lines the other regions decide; they are not compared with.
        """
        index, n_frames = self.read, self.read.size
        if n_frames < 2:
            return
        whole = np.asarray(~bad.any(axis=1))
        total = self.lines.total[index].astype(np.float64)
        if whole.sum() >= 2:
            usual = np.median(total[whole]) / np.median(self.scale[whole])
            robust = np.where(whole, total, self.scale * usual)
        else:
            # there is nothing to compare with but frames with corrupt lines
            robust = self.scale * self.usual[: self.lines.shape[1]].sum()
            total, whole = robust, np.ones(n_frames, dtype=np.bool_)
        level, line = _running_trend(np.where(whole, total, np.nan))
        n_compared = int(whole.sum())
        dispersion = 1.0 + 1.57 / min(n_compared, _WINDOW) + _TOTAL_FLOOR**2 * level
        if n_compared > 2:
            scatter = np.abs(total - level)[whole] / np.sqrt(np.maximum(level[whole], 1.0))
            # the scatter of few frames is itself little known
            spread = 1.4826 * (1.0 + 5.0 / n_compared) * np.median(scatter)
            dispersion = np.maximum(dispersion, spread**2)
        # hits may drift or jump; what fits either is no outlier
        trend = np.where(np.abs(robust - line) < np.abs(robust - level), line, level)
        # a median over regions is less precise than a sum
        dispersion = np.where(whole, dispersion, 4.0 * dispersion + _LINE_FLOOR**2 * trend)
        probability = _tail(robust, trend + (robust > trend), dispersion)
        sigma = np.sqrt(dispersion * np.maximum(trend, 1.0))
        self.deviation[index] = (robust - trend) / sigma
        self.relative[index] = robust / np.maximum(trend, 1.0)
        for place in np.flatnonzero(probability < _RARE_TOTAL).tolist():
            if whole[place] and not self.spread_out(place, whole, trend[place], dispersion[place]):
                continue
            hits = f"{total[place]:.0f} hits"
            if n_frames == 2:
                other = total[1 - place]
                self.found.reason[index[place]] = f"{hits}, {other:.0f} in the only other frame: one is wrong"
                continue
            reason = (
                f"{hits}, {trend[place]:.0f} are usual in acquisitions around it: "
                f"{self.deviation[index[place]]:+.0f} standard deviations"
            )
            self.found.tell(index[place], "outlier", reason)

    def spread_out(self, place: int, whole: Bools, trend: float, dispersion: float) -> bool:
        """Return whether the total of a frame deviates without its most deviating pixels, too."""
        others = whole.copy()
        others[place] = False
        images, open_ = self.lines.frames, self.lines.open
        usual = images[self.read[others]].mean(axis=0)[open_]
        usual *= trend / max(float(usual.sum()), 1.0)
        difference = images[self.read[place]][open_] - usual
        if difference.sum() <= 0:
            return True
        n_single = int(np.ceil(_SINGLE_TOTAL * difference.size))
        rest = np.partition(difference, difference.size - n_single)[: difference.size - n_single]
        # the pixels left out were chosen for their excess, the sum of the others is low: on the safe side
        count = np.array([max(trend + float(rest.sum()), 0.0)])
        return bool(
            _tail(count, np.array([trend]), np.array([dispersion]))[0] < _RARE_TOTAL and rest.sum() > 0
        )

    def describe(self, position: int, bad: NDArray[np.int64]) -> str:
        """Return what is wrong with a frame."""
        index = self.read[position]
        own = self.lines.sums[index]
        ordered = bad[np.argsort(bad >= self.lines.n_lines, kind="stable")]
        ratio = np.abs(np.log((own[ordered] + 1) / (self.scale[position] * self.usual[ordered] + 1)))
        chosen = ordered[0] if ordered[0] >= self.lines.n_lines else ordered[np.argmax(ratio)]
        number = max(int(self.lines.n_open[chosen]), 1)
        near = self.lines.neighbours(int(chosen))
        text = f"{self.lines.name(int(chosen))} has a mean of {own[chosen] / number:.2f} hits"
        if self.read.size > 1:
            text += f", {self.scale[position] * self.usual[chosen] / number:.2f} usually"
        if near.size:
            around = np.mean(own[near] / self.lines.n_open[near])
            text += f", {around:.2f} beside it"
        return text if bad.size == 1 else f"{text}; {bad.size} columns, rows and regions in all"


def _far_above_neighbours(image: Floats) -> Bools:
    """Return for which rows of an image most pixels have far more hits than in neighbouring rows."""
    n_rows = image.shape[0]
    if n_rows < 3:
        return np.zeros(n_rows, dtype=np.bool_)
    filled = np.nan_to_num(image)
    known = np.isfinite(image).astype(np.float64)
    total, number = np.zeros_like(filled), np.zeros_like(filled)
    for shift in (1, 2):
        total[shift:] += filled[:-shift]
        number[shift:] += known[:-shift]
        total[:-shift] += filled[shift:]
        number[:-shift] += known[shift:]
    around = total / np.maximum(number, 1.0)
    usable = (number > 0) & (known > 0)
    above = usable & (filled > 1.3 * around + 3.0 * np.sqrt(around) + 1.0)
    return np.asarray(above.sum(axis=1) > 0.6 * np.maximum(usable.sum(axis=1), 8))


def _running_trend(values: Floats) -> tuple[Floats, Floats]:
    """Return the median of the values around each, and a line through them; NaN is passed over.

    The line goes through the medians of the halves of a window of 25 values. It follows a drift to the ends,
    the median follows a jump.
    """
    known = np.flatnonzero(np.isfinite(values))
    half = min(_WINDOW, known.size) // 2
    level, line = np.empty(values.size), np.empty(values.size)
    centre, middle, height, slope, before = 0.0, 0.0, 0.0, 0.0, -1
    for at in range(values.size):
        first = int(np.clip(np.searchsorted(known, at) - _WINDOW // 2, 0, max(known.size - _WINDOW, 0)))
        if first != before:
            before = first
            near = known[first : first + _WINDOW]
            middle = height = float(np.median(values[near]))
            centre = slope = 0.0
            if half >= 3:
                early, late = near[:half], near[near.size - half :]
                ends = float(np.median(values[early])), float(np.median(values[late]))
                slope = (ends[1] - ends[0]) / float(late.mean() - early.mean())
                centre, height = 0.5 * float(early.mean() + late.mean()), 0.5 * (ends[0] + ends[1])
        level[at] = middle
        line[at] = max(height + slope * (at - centre), 0.0)
    return level, line
