"""What the start values of several models are made of: order, levels, where a curve steps down, peaks at equal distances."""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.fit.prototypes import start_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "falling_edge", "in_order", "spacing", "start_of_constants", "straighten_teeth", "sum_teeth", "teeth_widths",
    "width_floor",
]  # fmt: skip

_BENT = 1.5  # points nearer to the edge than this many widths are bent by it
_LEAK = 0.03  # rate after the step, of the mean rate
_PRIOR_COUNTS = 5.0
_NARROWEST = 0.1


@kernel
def width_floor(x: FloatArray) -> float:
    """Return the smallest width that a kernel computes with: a tenth of the mean distance of points.

    A narrower edge or peak between points looks the same for every width. Without this limit a fit that puts the
    width to zero could balance the edge on one point, and would know its position to any number of digits.
    """
    n = x.size
    span = abs(float(x[n - 1] - x[0])) if n > 1 else 0.0
    return _NARROWEST * span / (n - 1) if span > 0 else 1e-6


@start_kernel
def start_of_constants(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    """Start from the constants of the model, whatever the data."""
    p[:] = constants[: p.size]


@kernel
def in_order(
    x: FloatArray, counts: FloatArray, exposure: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the points by rising x; the given arrays themselves where they are in order."""
    for i in range(1, x.size):
        if x[i] < x[i - 1]:
            order = np.argsort(x)
            return x[order], counts[order], exposure[order]
    return x, counts, exposure


@kernel
def spacing(x: FloatArray, i: int) -> float:
    """Return the length of x for which point i stands, x in order."""
    n = x.size
    if n < 2:
        return 1.0
    before = x[i] - x[i - 1] if i > 0 else x[1] - x[0]
    after = x[i + 1] - x[i] if i < n - 1 else x[n - 1] - x[n - 2]
    return float(0.5 * (before + after))


@kernel
def _line(sums: FloatArray, first: int, last: int) -> tuple[float, float, float, float]:
    """Return centre, level and slope of a falling line through points first .. last - 1, and what the slope gains.

    The line is flat where there are fewer than four points or where it would rise.
    """
    w = sums[0, last] - sums[0, first]
    if w <= 0:
        return 0.0, 0.0, 0.0, 0.0
    centre = (sums[1, last] - sums[1, first]) / w
    level = (sums[3, last] - sums[3, first]) / w
    xx = sums[2, last] - sums[2, first] - w * centre * centre
    xy = sums[4, last] - sums[4, first] - w * centre * level
    slope = xy / xx if last - first > 3 and xx > 0 else 0.0
    slope = min(slope, 0.0)
    return centre, level, slope, slope * xy


@kernel
def _split(sums: FloatArray, x: FloatArray, with_floor: bool) -> int:
    """Return how many points lie before the step: a falling line before it, a constant or nothing after it.

    The largest Poisson likelihood, to second order in the slope of the line: with S counts in exposure W and
    rate r = S / W, ``-ln L = S - S ln r - xy^2 / (2 r xx)`` before the step and ``f W - S ln f`` after it.
    """
    n = x.size
    mean = sums[3, n] / sums[0, n]
    best, found = math.inf, n
    for k in range(1, n + 1):
        rest, w = sums[3, n] - sums[3, k], sums[0, n] - sums[0, k]
        floor = rest / w if with_floor and w > 0 else 0.0
        centre, level, slope, gain = _line(sums, 0, k)
        edge = 0.5 * (x[k - 1] + x[k]) if k < n else x[n - 1]
        if level <= 0 or level + slope * (edge - centre) < floor:
            continue
        # counts after the step are not impossible: the step is smeared
        rate = max(floor, _LEAK * mean)
        loss = sums[3, k] * (1 - math.log(level)) - 0.5 * gain / level + rate * w - rest * math.log(rate)
        if loss < best:
            best, found = loss, k
    return found


@kernel
def _levels(
    sums: FloatArray, t: FloatArray, k: int, edge: float, width: float, with_floor: bool
) -> tuple[float, float, float]:
    """Return height of the step, slope of the plateau and constant rate from the points away from the edge."""
    n = t.size
    head = k
    while head > 1 and t[head - 1] > edge - _BENT * width:
        head -= 1
    head = max(head, min(k, 5))
    tail = k
    while tail < n and t[tail] < edge + 2.5 * width:
        tail += 1
    floor = 0.0
    if with_floor and n > tail:
        floor = (sums[3, n] - sums[3, tail]) / (sums[0, n] - sums[0, tail])
    centre, level, slope, _ = _line(sums, 0, head)
    height = level + slope * (edge - centre) - floor
    if height <= 0:
        height = max(level - floor, 0.0) * 0.5
    return height, slope, floor


@kernel
def _areas(
    t: FloatArray, counts: FloatArray, exposure: FloatArray, edge: float, reach: float, height: float,
    slope: float, floor: float,
) -> tuple[float, float]:  # fmt: skip
    """Return the excess above the edge and the deficit below it, within reach."""
    above, below = 0.0, 0.0
    for i in range(t.size):
        distance = t[i] - edge
        if abs(distance) > reach:
            continue
        rate = counts[i] / exposure[i] - floor
        if distance > 0:
            above += rate * spacing(t, i)
        else:
            below += (height + slope * distance - rate) * spacing(t, i)
    return above, below


@kernel
def falling_edge(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, with_floor: bool, found: FloatArray
) -> None:
    """Find where a rate steps down from a plateau, flat or falling, to a constant or to nothing.

    The step is the likeliest split of the points into a line and a constant; running sums give the likelihood
    of every split at once. Position and width then follow from areas near the
    step: a step of height N that is smeared by sigma has an excess above and a deficit below it of
    N sigma / sqrt(2 pi) each.

    Parameters
    ----------
    x, counts, exposure : ndarray of float64, shape (n,)
        Points in order, all with exposure.
    with_floor : bool
        Whether there is a constant rate after the step.
    found : ndarray of float64, shape (5,)
        Filled with position, height of the step, slope of the plateau towards small x, width, constant rate.
    """
    n = x.size
    if n == 0:
        found[:] = 0.0
        found[3] = 1.0
        return
    sums = np.zeros((5, n + 1))
    origin = x[n // 2]
    t = x - origin
    for i in range(n):
        w, c = exposure[i], counts[i]
        sums[0, i + 1] = sums[0, i] + w
        sums[1, i + 1] = sums[1, i] + w * t[i]
        sums[2, i + 1] = sums[2, i] + w * t[i] * t[i]
        sums[3, i + 1] = sums[3, i] + c
        sums[4, i + 1] = sums[4, i] + c * t[i]
    span = t[n - 1] - t[0]
    if sums[3, n] <= 0:
        found[:] = 0.0
        found[0], found[3] = origin, max(span / 20, 1e-300)
        return
    step = span / (n - 1) if n > 1 else 1.0
    usual = max(step, span / 40)
    density = sums[0, n] / max(span, step)  # exposure per unit of x
    k = _split(sums, t, with_floor)
    edge = 0.5 * (t[k - 1] + t[k]) if k < n else t[n - 1] + 0.5 * step
    width = step
    height, slope, floor = 0.0, 0.0, 0.0
    for _ in range(3):
        height, slope, floor = _levels(sums, t, k, edge, width, with_floor)
        if height <= 0:
            break
        reach = 3.5 * width + 2 * step
        above, below = _areas(t, counts, exposure, edge, reach, height, slope, floor)
        # few counts say little about the width: as many as _PRIOR_COUNTS say that it is a usual one
        weight = height * width * density
        width = min(max((above + below) / (0.8 * height), 0.4 * step), max(0.25 * span, 0.4 * step))
        width = (weight * width + _PRIOR_COUNTS * usual) / (weight + _PRIOR_COUNTS)
        shift = (above - below + 0.5 * slope * width * width) / height
        edge += min(max(shift, -2 * width), 2 * width)
        edge = min(max(edge, t[0]), t[n - 1])
        k = 1
        while k < n and t[k] <= edge:
            k += 1
    found[0] = edge + origin
    found[1] = height
    found[2] = -slope
    found[3] = width
    found[4] = max(floor, 0.0)


@kernel
def sum_teeth(
    x: FloatArray, rate: FloatArray, counts: FloatArray, first: float, gain: float, sums: FloatArray
) -> None:
    """Fill counts, area and two moments of what lies within half a distance of each peak, shape (4, n)."""
    sums[:] = 0.0
    for i in range(x.size):
        k = math.floor((x[i] - first) / gain + 0.5)
        if 0 <= k < sums.shape[1]:
            part = rate[i] * spacing(x, i)
            offset = x[i] - first - k * gain
            sums[0, k] += counts[i]
            sums[1, k] += part
            sums[2, k] += part * offset
            sums[3, k] += part * offset * offset


@kernel
def straighten_teeth(sums: FloatArray, first: float, gain: float) -> tuple[float, float]:
    """Return baseline and gain from a straight line through the centres of the peaks."""
    w = wk = wkk = wd = wkd = 0.0
    for k in range(sums.shape[1]):
        if sums[1, k] > 0 and sums[0, k] >= 5:
            weight, offset = sums[0, k] / (1 + k), sums[2, k] / sums[1, k]
            w += weight
            wk += weight * k
            wkk += weight * k * k
            wd += weight * offset
            wkd += weight * k * offset
    spread = wkk - wk * wk / w if w > 0 else 0.0
    if spread <= 0:
        return first, gain
    tilt = min(max((wkd - wk * wd / w) / spread, -0.1 * gain), 0.1 * gain)
    return float(first + (wd - tilt * wk) / w), float(gain + tilt)


@kernel
def teeth_widths(sums: FloatArray, smallest: float, gain: float) -> tuple[float, float]:
    """Return the width of the pedestal and that of each further charge, from a line through the variances of the peaks.

    Parameters
    ----------
    sums : ndarray of float64, shape (4, n)
        From `sum_teeth`; column k is peak k.
    smallest, gain : float
        Least width of the pedestal, and distance of the peaks.
    """
    w = wk = wkk = wv = wkv = 0.0
    for k in range(sums.shape[1]):
        if sums[1, k] <= 0 or sums[0, k] < 5:
            continue
        weight = sums[0, k] / (1 + k)
        offset = sums[2, k] / sums[1, k]
        variance = sums[3, k] / sums[1, k] - offset * offset
        w += weight
        wk += weight * k
        wkk += weight * k * k
        wv += weight * variance
        wkv += weight * k * variance
    least = smallest * smallest
    most = (0.29 * gain) ** 2
    pedestal, per_peak = 0.3 * most, 0.0
    if w > 0:
        spread = wkk - wk * wk / w
        per_peak = (wkv - wk * wv / w) / spread if spread > 0 else 0.0
        per_peak = min(max(per_peak, 0.0), 0.5 * most)
        pedestal = (wv - per_peak * wk) / w
    width = math.sqrt(min(max(pedestal, least), most))
    return width, math.sqrt(max(per_peak, 0.04 * width * width))
