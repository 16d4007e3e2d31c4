"""Start values of the charge spectrum of a photon counter, from the data alone.

Peaks that can be seen make a line in the spectrum of frequencies: it gives their distance and place. Which of them is the
pedestal follows from how the counts of the peaks are distributed. Without a line there are a pedestal with something above
it, or mean, variance and skewness. Of all of these the likeliest is taken.
"""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from firstlight.fit.likelihood import accumulate
from firstlight.fit.linear import FREE, HELD, bounded_step
from firstlight.fit.models.avalanches import avalanche_probability, fill_spectrum
from firstlight.fit.models.starts import in_order, spacing, straighten_teeth, sum_teeth, teeth_widths
from firstlight.fit.prototypes import quiet_kernel, start_kernel
from firstlight.fit.special import normal_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["spectrum_start"]

_summing: Any = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"}
)

_MOST_BEFORE = 60  # empty peaks before the first that holds something
_STRAY = 1e-7
_USUAL_CROSSTALK = 0.1
_CLEAR = 0.3  # contrast of peaks that stand apart: widths below a quarter of their distance
_MUCH = 3.0  # light that leaves little in the pedestal
_HALF_MAXIMUM = 1.1774  # half width at half maximum of a normal distribution of width 1
_LEAST_DENSITY = 1e-12
_BOUNDS = np.array(
    [[0.0, 0.0, -math.inf, 0.0, 0.0, 0.0], [math.inf, 0.9, math.inf, math.inf, math.inf, math.inf]]
)


@quiet_kernel
def _middle(x: FloatArray, rate: FloatArray, step: float, found: FloatArray) -> None:
    """Fill mean, variance and third central moment of what lies near the median; median, reach, and a length with counts.

    The half-width is that of the middle two thirds: some counts far away move nothing.
    """
    n = x.size
    running = np.zeros(n + 1)
    for i in range(n):
        running[i + 1] = running[i] + rate[i] * spacing(x, i)
    quantile = np.empty(3)
    i = 0
    for k, share in enumerate((0.16, 0.5, 0.84)):
        while i < n - 1 and running[i + 1] < share * running[n]:
            i += 1
        quantile[k] = x[i]
    reach = 8.0 * (0.5 * (quantile[2] - quantile[0]) + step)
    sums = np.zeros(4)
    last = quantile[2]
    for i in range(n):
        t = x[i] - quantile[1]
        if running[i + 1] < 0.995 * running[n]:
            last = x[i]
        if abs(t) <= reach:
            part = rate[i] * spacing(x, i)
            sums[0] += part
            sums[1] += part * t
            sums[2] += part * t * t
            sums[3] += part * t * t * t
    mean = sums[1] / sums[0]
    square = sums[2] / sums[0]
    found[0] = quantile[1] + mean
    found[1] = square - mean * mean
    found[2] = sums[3] / sums[0] - 3.0 * mean * square + 2.0 * mean**3
    found[3], found[4], found[5] = quantile[1], reach, max(last - quantile[0], step)


@quiet_kernel
def _light(mean: float, variance: float, p: FloatArray) -> bool:
    """Fill light and crosstalk from mean and variance of the charge above the pedestal, at the gain of p."""
    number = mean / p[3]
    if not number > 0:
        return False
    share = 1.0 - math.sqrt(number * p[3] * p[3] / max(variance, 1e-300))
    p[1] = min(max(share, 0.01), 0.5)
    p[0] = number * (1.0 - p[1])
    return True


@quiet_kernel
def _likeliest_pedestal(
    teeth: FloatArray, first: float, gain: float, leak: float, mean: float, variance: float
) -> int:
    """Return which tooth has no avalanches: it may stand before the first, much light leaves it empty.

    Parameters
    ----------
    teeth : ndarray of float64, shape (n,)
        Counts of each tooth.
    first, gain, leak : float
        Position of the first tooth, distance of teeth, and the share of a peak in each tooth beside it.
    mean, variance : float
        Of the charge; the variance without the width of the teeth.
    """
    filled = 0
    while filled < teeth.size - 1 and teeth[filled] < 3:
        filled += 1
    tried = np.zeros(6)
    tried[3] = gain
    best, found = -math.inf, filled
    for n_before in range(-2, _MOST_BEFORE):
        pedestal = filled - n_before
        above = mean - first - pedestal * gain
        if above * gain > 1.6 * variance and n_before > 0:
            break
        if not _light(above, variance, tried):
            continue
        fitness, before, here = 0.0, 0.0, 0.0
        for j in range(min(pedestal, 0) - 1, teeth.size):
            after = (
                avalanche_probability(j + 1 - pedestal, tried[0], tried[1])[0] if j + 1 >= pedestal else 0.0
            )
            if j >= 0 and teeth[j] > 0:
                fitness += teeth[j] * math.log(_STRAY + here + leak * (before - 2.0 * here + after))
            before, here = here, after
        if fitness > best:
            best, found = fitness, pedestal
    return found


@_summing
def _turn(
    part: FloatArray, cosine: FloatArray, sine: FloatArray, by_cosine: FloatArray, by_sine: FloatArray
) -> tuple[float, float]:
    """Turn the phases of all points by one frequency further; return the sums over the points."""
    along, across = 0.0, 0.0
    for i in range(part.size):
        turned = cosine[i] * by_cosine[i] - sine[i] * by_sine[i]
        sine[i] = sine[i] * by_cosine[i] + cosine[i] * by_sine[i]
        cosine[i] = turned
        along += part[i] * cosine[i]
        across += part[i] * sine[i]
    return along, across


@quiet_kernel
def _line(
    height: FloatArray, frequency: float, delta: float, power: float, phase: float, noise: float
) -> tuple[float, float]:
    """Return distance and place of peaks from three heights around a maximum.

    The decay with the width of the peaks moves the maximum down: with the curvature K of the line itself and
    -omega^2 width^2 it stands at omega_0 / (1 + 2 width^2 / K).
    """
    bend = (2 * height[1] - height[0] - height[2]) / delta**2
    offset = 0.5 * (height[2] - height[0]) / (bend * delta) if bend > 0 else 0.0
    frequency += min(max(offset, -delta), delta)
    # what is not divided out yet
    square = max(-math.log(power) / frequency**2 - noise * noise, 0.0)
    sharp = max(bend - 2 * square, 6 * square)
    true = frequency * (1.0 + 2 * square / sharp) if sharp > 0 else frequency
    return 2 * math.pi / true, phase / true


@quiet_kernel
def _first_line(
    t: FloatArray, part: FloatArray, total: float, step: float, length: float, noise: float
) -> tuple[float, float, float]:
    """Return distance, place and contrast of equally spaced peaks: the first line in the spectrum of frequencies.

    The characteristic function of normal peaks at distances of G has a maximum at 2 pi / G; its size there, the contrast,
    is exp(-(2 pi width / G)^2 / 2), and its phase is that of the peaks. Without peaks it is noise of 1 / sqrt(counts).

    Parameters
    ----------
    t, part : ndarray of float64, shape (n,)
        Points, and the share of the counts at each.
    total : float
        Number of counts.
    step, length : float
        Smallest distance of points, and the length on which there are counts.
    noise : float
        Width of a pedestal that dominates: its decay is divided out, for it hides a small line. 0 without one.

    Returns
    -------
    tuple of float
        The distance is 0 if there is no line.
    """
    delta = 2 * math.pi / (4.0 * length)
    by_cosine, by_sine = np.cos(delta * t), np.sin(delta * t)
    cosine, sine = np.ones(t.size), np.zeros(t.size)
    height, lowest = np.zeros(3), 0.0
    power, phase, strongest = 1.0, 0.0, 9.0 / total
    distance, place = 0.0, 0.0
    last = int(2 * math.pi / (2.2 * step) / delta) + 1
    k = 0
    while k < last:
        k += 1
        along, across = _turn(part, cosine, sine, by_cosine, by_sine)
        here = along * along + across * across
        height[0], height[1] = height[1], height[2]
        height[2] = math.log(max(here, 0.3 / total)) + (k * delta * noise) ** 2
        top = k > 2 and height[1] > height[0] and height[1] >= height[2]
        # overtones are smaller
        if top and power > strongest and height[1] - lowest > 5.0 * math.sqrt(2.0 / (total * power)):
            strongest = power
            distance, place = _line(height, (k - 1) * delta, delta, power, phase, noise)
            last = min(last, 3 * k)
        lowest = min(lowest, height[2])
        power, phase = here, math.atan2(across, along)
    return distance, place, math.sqrt(strongest)


@quiet_kernel
def _teeth_line(
    x: FloatArray, counts: FloatArray, rate: FloatArray, step: float, noise: float, middle: FloatArray
) -> tuple[float, float, float]:
    """Return distance, place and contrast of peaks near the median, as `_first_line`."""
    part, all_counts = np.zeros(x.size), 0.0
    for i in range(x.size):
        if abs(x[i] - middle[3]) <= middle[4]:
            part[i] = rate[i] * spacing(x, i)
            all_counts += counts[i]
    part /= part.sum()
    t = x - middle[0]
    gain, place, contrast = _first_line(t, part, all_counts, step, middle[5], 0.0)
    if gain <= 0:
        gain, place, contrast = _first_line(t, part, all_counts, step, middle[5], noise)
    return gain, middle[0] + place, contrast


@quiet_kernel
def _from_teeth(
    x: FloatArray, counts: FloatArray, rate: FloatArray, step: float, middle: FloatArray, gain: float, place: float,
    contrast: float, further: int, p: FloatArray,
) -> bool:  # fmt: skip
    """Fill start values from peaks, the pedestal so many of them further than the likeliest; return whether that goes."""
    n = x.size
    first = place - math.floor((place - x[0]) / gain + 0.5) * gain
    sums = np.empty((4, max(int((x[n - 1] - first) / gain + 1.5), 1)))
    if contrast > _CLEAR:
        for _ in range(2):
            sum_teeth(x, rate, counts, first, gain, sums)
            first, gain = straighten_teeth(sums, first, gain)
    sum_teeth(x, rate, counts, first, gain, sums)
    width = math.sqrt(-2.0 * math.log(min(contrast, 0.99))) * gain / (2.0 * math.pi)
    variance = max(middle[1] - width * width, 0.0)
    leak = normal_tail(0.5 * gain / max(width, 1e-3 * gain))[0]
    pedestal = _likeliest_pedestal(sums[0], first, gain, leak, middle[0], variance) + further
    p[2], p[3] = first + pedestal * gain, gain
    if not _light(middle[0] - p[2], variance, p):
        return False
    if contrast > _CLEAR:
        sum_teeth(x, rate, counts, p[2], gain, sums)
        p[4], p[5] = teeth_widths(sums, 0.35 * step, gain)
    else:
        p[4] = width / math.sqrt(1.0 + 0.25 * p[0] / (1.0 - p[1]))
        p[5] = 0.5 * p[4]
    return True


@quiet_kernel
def _from_moments(middle: FloatArray, step: float, width: float, p: FloatArray) -> bool:
    """Fill start values from mean, variance and skewness, for usual crosstalk and a width of the peaks over their distance.

    Return whether that goes.
    """
    if not (middle[1] > 0 and middle[2] > 0):
        return False
    less = 1.0 - _USUAL_CROSSTALK
    p[1] = _USUAL_CROSSTALK
    p[3] = middle[2] / middle[1] * less**2 / (1.0 + 2.0 * _USUAL_CROSSTALK)
    p[0] = middle[1] / p[3] ** 2 * less**3
    p[2] = middle[0] - p[3] * p[0] / less
    p[4], p[5] = width * p[3], 0.5 * width * p[3]
    return bool(p[3] > step)


@quiet_kernel
def _pedestal(x: FloatArray, rate: FloatArray, step: float) -> tuple[float, float]:
    """Return centre and width of the highest peak, from its left side, then from its middle."""
    n = x.size
    top, best = 0, -1.0
    for i in range(n):
        smooth = 0.25 * (rate[max(i - 1, 0)] + 2.0 * rate[i] + rate[min(i + 1, n - 1)])
        if smooth > best:
            top, best = i, smooth
    left = top
    while left > 0 and rate[left] > 0.5 * rate[top]:
        left -= 1
    centre, noise = x[top], max((x[top] - x[left]) / _HALF_MAXIMUM, 0.35 * step)
    for _ in range(4):
        s0, s1, s2, extent = 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            t = x[i] - centre
            if abs(t) <= 1.6 * noise + 0.5 * step:
                part = rate[i] * spacing(x, i)
                extent += 0.5 * spacing(x, i)
                s0 += part
                s1 += part * t
                s2 += part * t * t
        if s0 > 0:
            cut = extent / noise
            tail, density = normal_tail(cut)
            # the variance of a normal distribution that is cut on both sides
            left_over = 1.0 - 2.0 * cut * density / (1.0 - 2.0 * tail)
            square = (s2 / s0 - (s1 / s0) ** 2) / left_over
            centre += s1 / s0
            noise = min(max(math.sqrt(max(square, 0.0)), 0.35 * step, 0.5 * noise), 2.0 * noise)
    return centre, noise


@quiet_kernel
def _from_pedestal(x: FloatArray, rate: FloatArray, centre: float, noise: float, p: FloatArray) -> None:
    """Fill start values for little light, from how much lies above the pedestal and how far."""
    above, away, total = 0.0, 0.0, 0.0
    for i in range(x.size):
        part = rate[i] * spacing(x, i)
        total += part
        if x[i] > centre + 3.5 * noise:
            above += part
            away += part * (x[i] - centre)
    share = min(max(above / total, 1e-3), 0.9)
    p[0], p[1] = -math.log(1.0 - share), _USUAL_CROSSTALK
    p[2], p[4], p[5] = centre, noise, 0.3 * noise
    p[3] = 6.0 * noise
    if above > 1e-3 * total:
        p[3] = away / above * share * (1.0 - p[1]) / p[0]


@quiet_kernel
def _from_excess(middle: FloatArray, centre: float, noise: float, p: FloatArray) -> bool:
    """Fill start values from a pedestal and what mean and variance have beyond it; return whether that goes."""
    mean, square = middle[0] - centre, middle[1] - noise * noise
    if not (mean > 0 and square > 0):
        return False
    less = 1.0 - _USUAL_CROSSTALK
    p[1] = _USUAL_CROSSTALK
    p[3] = square / mean * less**2
    p[0] = mean * less / p[3]
    p[2], p[4], p[5] = centre, noise, 0.3 * noise
    # less is a pedestal that is not quite normal
    return bool(p[3] > noise)


@quiet_kernel
def _finish(step: float, known: FloatArray, middle: FloatArray, p: FloatArray) -> None:
    """Put known values in place; with another baseline or gain, mean and variance give other light."""
    # the width found is that of a peak in bins
    p[4] = math.sqrt(max(p[4] * p[4] - step * step / 12.0, 0.05 * step * step))
    for a in range(6):
        if math.isfinite(known[a]):
            p[a] = known[a]
    if math.isfinite(known[2]) or math.isfinite(known[3]):
        above = middle[0] - p[2]
        variance = middle[1] - p[4] * p[4] - max(above / p[3], 0.0) * p[5] * p[5]
        if not _light(above, variance, p):
            p[0], p[1] = 0.01, _USUAL_CROSSTALK
        if math.isfinite(known[1]):
            p[0] *= (1.0 - known[1]) / (1.0 - p[1])
            p[1] = known[1]
        if math.isfinite(known[0]):
            p[0] = known[0]


@quiet_kernel
def _loss(
    edges: FloatArray, counts: FloatArray, exposure: FloatArray, p: FloatArray, value: FloatArray,
    derivative: FloatArray,
) -> float:  # fmt: skip
    """Return half the Poisson deviance up to a constant; value and derivative are those of bins."""
    fill_spectrum(edges, p, True, value, derivative)
    loss = 0.0
    for i in range(counts.size):
        density = value[i] / (edges[i + 1] - edges[i])
        loss += exposure[i] * density
        if counts[i] > 0:
            loss -= counts[i] * math.log(density)
    return loss


@quiet_kernel
def _stepped(
    edges: FloatArray, counts: FloatArray, exposure: FloatArray, known: FloatArray, p: FloatArray
) -> float:
    """Take one step of a fit, if it leads down; return the loss there."""
    n = counts.size
    value, derivative = np.empty(n), np.empty((6, n))
    loss = _loss(edges, counts, exposure, p, value, derivative)
    weight, pull, weighted = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        width = edges[i + 1] - edges[i]
        inverse = 1.0 / max(value[i], _LEAST_DENSITY * width)
        weight[i] = exposure[i] / width * inverse
        pull[i] = counts[i] * inverse - exposure[i] / width
    fitted = np.flatnonzero(~np.isfinite(known))
    alpha, lower, small = np.zeros((6, 6)), np.zeros((6, 6)), np.zeros((4, 6))
    state, order = np.full(6, HELD), np.zeros(6, dtype=np.int64)
    accumulate(derivative, weight, pull, fitted, weighted, alpha, small[0])
    state[fitted] = FREE
    if bounded_step(alpha, small[0], 0.0, p, _BOUNDS, state, order, small[1], lower, small[2], small[3]):
        there = p + small[3]
        after = _loss(edges, counts, exposure, there, value, derivative)
        if after < loss:
            p[:] = there
            return after
    return loss


@quiet_kernel
def _keep_better(
    edges: FloatArray, counts: FloatArray, exposure: FloatArray, tried: FloatArray, best: float, p: FloatArray
) -> float:
    """Keep what was tried if its deviance is lower; return the lower one."""
    value, derivative = np.empty(counts.size), np.empty((6, counts.size))
    loss = _loss(edges, counts, exposure, tried, value, derivative)
    if not loss < best:
        return best
    p[:6] = tried
    return loss


@quiet_kernel
def _best_teeth(
    edges: FloatArray, x: FloatArray, counts: FloatArray, exposure: FloatArray, rate: FloatArray, step: float,
    noise: float, known: FloatArray, middle: FloatArray, p: FloatArray,
) -> tuple[bool, bool]:  # fmt: skip
    """Fill start values from peaks; return whether there are any, and whether they stand apart."""
    gain, place, contrast = _teeth_line(x, counts, rate, step, noise, middle)
    clear = contrast > _CLEAR
    if gain <= 0:
        return False, False
    tried, found, best = np.empty(6), False, math.inf
    for further in (0, -1, 1):
        if not _from_teeth(x, counts, rate, step, middle, gain, place, contrast, further, tried):
            continue
        _finish(step, known, middle, tried)
        # where peaks overlap, or little is in the pedestal, it is hard to say which of them that is
        if further == 0 and clear and tried[0] < _MUCH:
            p[:6] = tried
            return True, True
        # differences between these are small, and each is a little off: only a step shows what they are worth
        loss = _stepped(edges, counts, exposure, known, tried)
        if loss < best:
            best, found = loss, True
            p[:6] = tried
    return found, found and clear


@quiet_kernel
def _find(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, rate: FloatArray, step: float, known: FloatArray,
    p: FloatArray,
) -> None:  # fmt: skip
    """Fill the likeliest of start values from peaks, from a pedestal, and from moments."""
    edges = np.empty(x.size + 1)
    for i in range(x.size):
        edges[i] = x[i] - 0.5 * (x[i] - x[i - 1] if i > 0 else step)
    edges[x.size] = x[x.size - 1] + 0.5 * step
    middle, tried = np.empty(6), np.empty(6)
    _middle(x, rate, step, middle)
    if math.isfinite(known[2]) and math.isfinite(known[3]):
        # nothing is to be found but light and crosstalk
        p[4], p[5] = 0.2 * known[3], 0.1 * known[3]
        _finish(step, known, middle, p)
        return
    centre, noise = _pedestal(x, rate, step)
    centre = known[2] if math.isfinite(known[2]) else centre
    noise = known[4] if math.isfinite(known[4]) else noise
    _from_pedestal(x, rate, centre, noise, tried)
    _finish(step, known, middle, tried)
    best = _keep_better(edges, counts, exposure, tried, math.inf, p)
    found, clear = _best_teeth(edges, x, counts, exposure, rate, step, noise, known, middle, tried)
    if found:
        best = _keep_better(edges, counts, exposure, tried, best, p)
    if clear:
        return
    if _from_excess(middle, centre, noise, tried):
        _finish(step, known, middle, tried)
        best = _keep_better(edges, counts, exposure, tried, best, p)
    for width in (0.2, 0.3):
        if _from_moments(middle, step, width, tried):
            _finish(step, known, middle, tried)
            best = _keep_better(edges, counts, exposure, tried, best, p)


@start_kernel
def spectrum_start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    """Fill start values of the six parameters of `fill_spectrum`, and of the area where there is a seventh.

    Values of p that are finite on entry are known: they are kept, and the others are found for them.
    """
    known = p[:6].copy()
    n = x.size
    total = counts.sum()
    span = x.max() - x.min() if n > 1 else 1.0
    p[:] = span
    p[0], p[1] = 0.01, _USUAL_CROSSTALK
    p[2] = (x * counts).sum() / total if total > 0 else 0.0
    if p.size > 6:
        p[6] = total
    if n < 3 or not total > 0:
        return
    x, counts, exposure = in_order(x, counts, exposure)
    if span <= 0:
        return
    step = span
    for i in range(1, n):
        if x[i] > x[i - 1]:
            step = min(step, x[i] - x[i - 1])
    # of points at very different distances the small ones tell nothing more
    step = max(step, 0.25 * span / n)
    rate = counts / exposure
    if p.size > 6:
        p[6] = 0.0
        for i in range(n):
            p[6] += rate[i] * spacing(x, i)
        exposure = exposure * p[6]
    _find(x, counts, exposure, rate, step, known, p)
