"""Pulses at random times, sampled: the spectrum of a photon counter with dark counts inside.

A sample of a waveform is a baseline, plus electronics noise, plus all pulses that reach into it. Pulses of dark counts and
of the night sky start at any time, those of a flash of light at one. Each photo-electron starts a family of n avalanches
(crosstalk; Borel's distribution), and each avalanche gives the gain with a smearing. The characteristic function
of such a sum is known in closed form (a compound Poisson process), its spectrum is the transform back: ::

    ln phi(w) = i w B - w^2 s_e^2 / 2 + f Int [psi(w h(t)) - 1] dt + mu Mean_s [psi(w h_s) - 1]
    psi(u) = H(exp(i u G - u^2 s_1^2 / 2)),   H(z) = z exp(l (H(z) - 1))

B baseline, s_e electronics noise, f rate, h(t) shape of the pulse, mu photo-electrons of the flash, h_s shape at the time of
the flash, G gain, s_1 gain smearing, l mean number of avalanches that an avalanche starts. H is the generating function of
Borel's distribution (E. Borel, C. R. Acad. Sci. 214 (1942) 452), which solves the equation of a branching process.

The spectrum is integrated over bins exactly, for bins of any width: what is transformed back is the primitive. The integral
over the pulse is a Gauss quadrature over its heights, see `shape_nodes`.
"""

# ruff: noqa: ARG001  (kernels have the arguments of their prototype)

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.errors import UsageError
from firstlight.fit.model import Model, Parameter
from firstlight.fit.models.starts import in_order
from firstlight.fit.prototypes import curve_kernel, start_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    ComplexArray = NDArray[np.complex128]

__all__ = ["compound_poisson", "make_compound_poisson", "pulse_integral", "shape_constants", "shape_nodes"]

_SHARED = 6  # rate, crosstalk, baseline, gain, electronics noise, gain smearing; photo-electrons of the levels follow
_HEAD = 4  # constants before the nodes: number of nodes of the pulse and of the flash, levels, distance of levels in x
_REACH = 7.5  # widths of the noise in frequency: exp(-7.5**2 / 2) = 6e-13
_FLOOR = 1e-10  # of every bin: what the model does not foresee stays possible, and the deviance smooth
_MOST = 8192
_PER_MEGAHERTZ = 1e-3  # of a rate in MHz per ns


def shape_nodes(time: ArrayLike, height: ArrayLike, n_nodes: int = 20) -> tuple[FloatArray, FloatArray]:
    """Return heights and durations that stand for a pulse in integrals over time of functions of its height.

    For a smooth g with g(0) = 0 the integral of g(h(t)) dt is the sum of weights times g(heights): a Gauss quadrature
    for the measure abs(h) dt, exact for polynomials g/h of degree 2 n_nodes - 1 (G. H. Golub and J. H. Welsch, Math. Comp.
    23 (1969) 221; the recurrence is made by Stieltjes' procedure on the sampled pulse).

    Parameters
    ----------
    time : array-like, shape (n,)
        Increasing [ns].
    height : array-like, shape (n,)
        In units of what the gain is the maximum of.
    n_nodes : int
        20 give a spectrum to 1e-11 where the noise is a fifth of the gain or more.

    Returns
    -------
    heights : ndarray, shape (m,)
        With m <= n_nodes.
    weights : ndarray, shape (m,)
        Durations [ns].

    Raises
    ------
    UsageError
        If times do not increase, or the pulse has no height.
    """
    times, heights = (np.asarray(values, dtype=np.float64) for values in (time, height))
    if times.ndim != 1 or times.shape != heights.shape or times.size < 3 or np.any(np.diff(times) <= 0):
        what = (
            f"a pulse needs increasing times, and a height for each: shapes {times.shape} and {heights.shape}"
        )
        raise UsageError(what)
    # between its points the pulse is a straight line; ten points a piece make the trapezoids good to 1e-5
    fine = np.interp(np.arange(10 * times.size - 9) / 10, np.arange(times.size), times)
    points = np.interp(fine, times, heights)
    steps = np.gradient(fine)
    steps[[0, -1]] *= 0.5
    measure = np.abs(points) * steps
    used = measure > 1e-9 * measure.max(initial=0.0)
    if not used.any():
        what = "a pulse without height"
        raise UsageError(what)
    points, measure = points[used], measure[used]
    n = min(n_nodes, np.unique(points).size)
    diagonal, beside = np.zeros(n), np.zeros(n)
    before, now = np.zeros_like(points), np.full_like(points, 1 / math.sqrt(measure.sum()))
    for k in range(n):
        diagonal[k] = np.sum(measure * points * now**2)
        following = (points - diagonal[k]) * now - (beside[k - 1] * before if k else 0.0)
        size = math.sqrt(np.sum(measure * following**2))
        if k + 1 < n:
            if size < 1e-12:
                n = k + 1
                break
            beside[k] = size
        before, now = now, following / (size or 1.0)
    matrix = np.diag(diagonal[:n]) + np.diag(beside[: n - 1], 1) + np.diag(beside[: n - 1], -1)
    found, vectors = np.linalg.eigh(matrix)
    weights = measure.sum() * vectors[0] ** 2
    kept = weights > 1e-14 * weights.sum()
    return found[kept], weights[kept] / np.abs(found[kept])


def shape_constants(
    heights: ArrayLike, weights: ArrayLike, flash: ArrayLike = 1.0, n_levels: int = 1, distance: float = 0.0
) -> tuple[float, ...]:
    """Return the constants of a model for a pulse.

    Parameters
    ----------
    heights, weights : array-like, shape (n,)
        Of `shape_nodes`.
    flash : float or array-like, shape (m,)
        Height of the pulse of the flash at the sample; several where its time varies from photon to photon, all as likely.
    n_levels : int
        Spectra that are fitted together.
    distance : float
        Of one level to the next in x.
    """
    flashes = np.atleast_1d(np.asarray(flash, dtype=np.float64))
    nodes = np.stack([np.asarray(heights, dtype=np.float64), np.asarray(weights, dtype=np.float64)])
    head = [float(nodes.shape[1]), float(flashes.size), float(n_levels), float(distance)]
    return tuple(float(value) for value in np.concatenate([head, nodes.ravel(), flashes]))


def pulse_integral(constants: Sequence[float], power: int = 1) -> float:
    """Return the integral over time of a power of the height of the pulse [ns], from the constants of a model."""
    n = int(constants[0])
    heights, weights = np.asarray(constants[_HEAD : _HEAD + 2 * n]).reshape(2, n)
    return float(heights**power @ weights)


@kernel
def _family(z: complex, crosstalk: float, guess: complex) -> complex:
    """Return the solution H of H = z exp(l (H - 1)) in the unit disc, by Newton's method from a guess."""
    found = guess
    for _ in range(30):
        image = z * np.exp(crosstalk * (found - 1.0))
        step = (found - image) / (1.0 - crosstalk * image)
        found -= step
        # Newton's method squares the error: after a step of 1e-8 nothing is left of it
        if step.real * step.real + step.imag * step.imag < 1e-16:
            break
    return found


@kernel
def _add_node(step: float, weight: float, p: FloatArray, narrow: float, sums: ComplexArray) -> None:
    """Add weight (psi - 1) and its derivatives by crosstalk, gain and gain smearing at multiples of a step to sums."""
    before, found = complex(1.0, 0.0), complex(1.0, 0.0)
    for j in range(sums.shape[0]):
        u = (j + 1) * step
        z = np.exp(complex(-0.5 * (u * p[5]) ** 2, u * p[3]))
        # the line through the last two is a guess that is left in two or three steps
        guess = 2.0 * found - before
        before = found
        found = _family(z, p[1], guess)
        slope = found / (1.0 - p[1] * found)
        sums[j, 0] += weight * (found - 1.0)
        sums[j, 1] += weight * (found - 1.0) * slope
        sums[j, 2] += weight * complex(0.0, u) * slope
        sums[j, 3] -= weight * u * u * narrow * slope


@kernel
def _period(p: FloatArray, constants: FloatArray, low: float, high: float) -> float:
    """Return the period of the transform: well above all data and all of the model, in steps of a factor of 2.

    What lies beyond it would come back at its other end. Steps, because a period that follows the parameters smoothly
    would make the noise of rounding depend on them.
    """
    n_nodes = int(constants[0])
    first = second = 0.0
    for k in range(n_nodes):
        h, weight = constants[_HEAD + k], constants[_HEAD + n_nodes + k]
        first += weight * h
        second += weight * h * h
    largest = 0.0
    for level in range(int(constants[2])):
        largest = max(largest, p[_SHARED + level])
    free = 1.0 - p[1]
    rate = p[0] * _PER_MEGAHERTZ
    mean = p[3] / free * (largest + rate * abs(first))
    variance = p[4] ** 2 + (p[3] ** 2 / free**3 + p[5] ** 2 / free) * (largest + rate * second)
    needed = max(mean + 8 * math.sqrt(variance), 12 * p[4])
    period = max(1.5 * (high - low), 1e-300)
    while period < needed and period < 64 * max(high - low, needed):
        period *= 2
    return period


@kernel
def _level(x: float, distance: float) -> int:
    """Return to which level an edge belongs."""
    return math.floor(x / distance) if distance > 0 else 0


@kernel
def _range(x: FloatArray, distance: float) -> tuple[float, float]:
    """Return the lowest and highest edge of all levels, counted from the beginning of the level."""
    if distance <= 0:
        return x[0], x[-1]
    low, high = np.inf, -np.inf
    for i in range(x.size):
        here = x[i] - distance * _level(x[i], distance)
        low, high = min(low, here), max(high, here)
    return low, high


@kernel
def _narrowest(x: FloatArray) -> float:
    """Return the width of the narrowest bin."""
    width = np.inf
    for i in range(x.size - 1):
        width = min(width, x[i + 1] - x[i])
    return width


@kernel
def _exponents(
    p: FloatArray,
    constants: FloatArray,
    step: float,
    n_frequencies: int,
    dark: ComplexArray,
    flash: ComplexArray,
) -> None:
    """Fill the integrals over the pulse and over the flash, with derivatives, for all frequencies."""
    n_nodes, n_flashes = int(constants[0]), int(constants[1])
    heights = constants[_HEAD : _HEAD + n_nodes]
    weights = constants[_HEAD + n_nodes : _HEAD + 2 * n_nodes]
    flashes = constants[_HEAD + 2 * n_nodes : _HEAD + 2 * n_nodes + n_flashes]
    # the slope by a gain smearing of zero is zero, where a fit would stay for ever: near zero it is that of a small one
    narrow = max(p[5], 0.02 * p[3])
    dark[:] = 0.0
    flash[:] = 0.0
    for k in range(n_nodes):
        _add_node(step * heights[k], weights[k], p, narrow, dark)
    for k in range(n_flashes):
        _add_node(step * flashes[k], 1.0 / n_flashes, p, narrow, flash)


@kernel
def _transform(
    p: FloatArray,
    mu: float,
    rate: float,
    step: float,
    origin: float,
    dark: ComplexArray,
    flash: ComplexArray,
    density: bool,
    real: FloatArray,
    imaginary: FloatArray,
) -> None:
    """Fill the coefficients of the density, or of its primitive, and its derivatives, shape (n_frequencies, 8) each.

    In order: value; derivative by rate, crosstalk, baseline, gain, electronics noise, gain smearing, photo-electrons.
    """
    for j in range(real.shape[0]):
        w = (j + 1) * step
        exponent = rate * dark[j, 0] + mu * flash[j, 0]
        exponent += complex(-0.5 * (w * p[4]) ** 2, w * (p[2] - origin))
        # i / w: the primitive of exp(-i w x)
        phi = np.exp(exponent) * (
            complex(step / math.pi, 0.0) if density else complex(0.0, step / (math.pi * w))
        )
        for a in range(8):
            term = phi
            if a == 1:
                term = phi * dark[j, 0] * _PER_MEGAHERTZ
            elif a == 2:
                term = phi * (rate * dark[j, 1] + mu * flash[j, 1])
            elif a == 3:
                term = phi * complex(0.0, w)
            elif a == 4:
                term = phi * (rate * dark[j, 2] + mu * flash[j, 2])
            elif a == 5:
                term = -phi * w * w * p[4]
            elif a == 6:
                term = phi * (rate * dark[j, 3] + mu * flash[j, 3])
            elif a == 7:
                term = phi * flash[j, 0]
            real[j, a], imaginary[j, a] = term.real, term.imag


@kernel
def _sum_terms(
    x: float, step: float, origin: float, real: FloatArray, imaginary: FloatArray, sums: FloatArray
) -> None:
    """Fill the sum over all frequencies at a point, shape (8,)."""
    angle = step * (x - origin)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    cosine, sine = math.cos(angle), math.sin(angle)
    c, s = 1.0, 0.0
    for j in range(real.shape[0]):
        if j % 64 == 0:
            # the recurrence loses a digit every some hundred steps
            c, s = math.cos((j + 1) * angle), math.sin((j + 1) * angle)
        else:
            c, s = c * cosine - s * sine, c * sine + s * cosine
        # real part of terms exp(-i w x), written out: eight sums side by side
        s0 += real[j, 0] * c + imaginary[j, 0] * s
        s1 += real[j, 1] * c + imaginary[j, 1] * s
        s2 += real[j, 2] * c + imaginary[j, 2] * s
        s3 += real[j, 3] * c + imaginary[j, 3] * s
        s4 += real[j, 4] * c + imaginary[j, 4] * s
        s5 += real[j, 5] * c + imaginary[j, 5] * s
        s6 += real[j, 6] * c + imaginary[j, 6] * s
        s7 += real[j, 7] * c + imaginary[j, 7] * s
    sums[0] = s0
    sums[1], sums[2], sums[3] = s1, s2, s3
    sums[4], sums[5], sums[6], sums[7] = s4, s5, s6, s7


@kernel
def _fill(
    x: FloatArray,
    n: int,
    density: bool,
    p: FloatArray,
    constants: FloatArray,
    value: FloatArray,
    derivative: FloatArray,
) -> None:
    """Fill the density at n points, or the probabilities of the n bins between n + 1 edges."""
    distance = constants[3]
    low, high = _range(x, distance)
    period = _period(p, constants, low, high)
    step = 2 * math.pi / period
    finest = 0.0 if density else 0.15 * _narrowest(x)
    n_frequencies = max(min(int(_REACH / max(p[4], finest) / step) + 1, _MOST), 4)
    dark = np.empty((n_frequencies, 4), dtype=np.complex128)
    flash = np.empty((n_frequencies, 4), dtype=np.complex128)
    real, imaginary = np.empty((n_frequencies, 8)), np.empty((n_frequencies, 8))
    _exponents(p, constants, step, n_frequencies, dark, flash)
    derivative[:] = 0.0
    before, here = np.zeros(8), np.zeros(8)
    level = -1
    for i in range(n):
        own = _level(x[i], distance)
        beyond = own if density else _level(x[i + 1], distance)
        if own != beyond or own < 0 or own >= int(constants[2]):
            # between two levels there is nothing to compare with
            value[i] = 1.0
            level = -1
            continue
        origin = own * distance + low
        if own != level:
            level = own
            _transform(
                p, p[_SHARED + own], p[0] * _PER_MEGAHERTZ, step, low, dark, flash, density, real, imaginary
            )
            if not density:
                _sum_terms(x[i], step, origin, real, imaginary, before)
        width = 1.0 if density else x[i + 1] - x[i]
        _sum_terms(x[i] if density else x[i + 1], step, origin, real, imaginary, here)
        # where there is no probability, rounding must not make one, of either sign
        value[i] = max(here[0] - before[0] + width / period, 0.0) + _FLOOR
        for a in range(_SHARED):
            derivative[a, i] = here[a + 1] - before[a + 1]
        derivative[_SHARED + own, i] = here[7] - before[7]
        if not density:
            before, here = here, before


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _fill(x, value.size, True, p, constants, value, derivative)


@curve_kernel
def _integral(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    _fill(x, value.size, False, p, constants, value, derivative)


@kernel
def _pedestal(x: FloatArray, counts: FloatArray) -> tuple[float, float]:
    """Return mean and width of the lowest peak, from its lower half, of x in order."""
    n = counts.size
    smooth = np.empty(n)
    for i in range(n):
        smooth[i] = counts[max(i - 1, 0)] + 2 * counts[i] + counts[min(i + 1, n - 1)]
    top = np.argmax(smooth)
    mode = x[top]
    below = weight = 0.0
    for i in range(top + 1):
        share = counts[i] if i < top else 0.5 * counts[i]
        below += share * (x[i] - mode) ** 2
        weight += share
    step = (x[-1] - x[0]) / max(n - 1, 1)
    width = math.sqrt(below / weight) if weight > 0 else step
    return mode, max(width, 0.4 * step)


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    """Fill start values of a spectrum of dark counts, from its lowest peak and its second and third cumulants.

    The cumulants of what pulses add (N. R. Campbell, Proc. Camb. Phil. Soc. 15 (1909) 117) are f I_k G^k times the
    moments of Borel's distribution, with I_k the integral of h^k. The crosstalk is taken as 0.1 at first.
    """
    p[:] = 0.0
    p[0], p[1], p[3], p[4], p[5] = 1.0, 0.1, 5.0, 1.0, 0.5
    total = counts.sum()
    if counts.size < 2 or total <= 0:
        return
    x, counts, exposure = in_order(x, counts, exposure)
    n_nodes = int(constants[0])
    first = second = third = 0.0
    for k in range(n_nodes):
        h, weight = constants[_HEAD + k], constants[_HEAD + n_nodes + k]
        first += weight * h
        second += weight * h**2
        third += weight * h**3
    mode, width = _pedestal(x, counts)
    mean = np.sum(counts * x) / total
    variance = np.sum(counts * (x - mean) ** 2) / total
    skewness = np.sum(counts * (x - mean) ** 3) / total
    if variance <= 0 or second <= 0:
        p[2] = mean
        return
    step = (x[-1] - x[0]) / max(x.size - 1, 1)
    noise = math.sqrt(max(width**2 - step**2 / 12, 0.1 * step**2))
    crosstalk = 0.1
    free = 1 - crosstalk
    added = max(variance - width**2, 0.02 * variance)
    gain = skewness / added * second / third * free**2 / (1 + 2 * crosstalk)
    gain = min(max(gain, 1.5 * noise), 20 * noise)
    rate = added * free**3 / (second * gain**2)
    p[:] = 0.0
    p[0] = rate / _PER_MEGAHERTZ
    p[1] = crosstalk
    # small pulses drag the peak with them: half of what they add to the mean is not in the tail
    p[2] = min(max(mean - rate * first * gain / free, mode - width), mode + 0.5 * width)
    p[3] = gain
    p[4] = noise
    p[5] = 0.1 * gain


def make_compound_poisson(n_levels: int = 1) -> Model:
    """Return the model for some spectra that share everything but the light of the flash.

    Its `constants` come from `shape_constants`; those it has by itself are of a rectangular pulse of 12.4 ns. Levels stand one after the other in x, `distance` apart: the bins of level k
    begin at k distance; what lies between is not used. The value is a probability: the exposure of a bin is the number of
    entries of its spectrum.

    Parameters
    ----------
    n_levels : int
        At least 1. With one level the light is `photo_electrons`, with more `photo_electrons_0` and so on.

    Raises
    ------
    UsageError
        If there is no level.
    """
    if n_levels < 1:
        what = f"a spectrum of {n_levels} levels"
        raise UsageError(what)
    names = ["photo_electrons"] if n_levels == 1 else [f"photo_electrons_{k}" for k in range(n_levels)]
    return Model(
        "compound_poisson" if n_levels == 1 else f"compound_poisson{n_levels}",
        (
            Parameter("rate", "rate of dark counts and night sky", "MHz", 0.0),
            Parameter(
                "crosstalk", "mean number of avalanches that an avalanche starts", "", 0.0, 0.9, weak=True
            ),
            Parameter("baseline", "value without pulses", "x"),
            Parameter("gain", "maximum of the pulse of an avalanche", "x", 1e-3),
            Parameter("electronics_noise", "standard deviation without pulses", "x", 1e-3),
            Parameter("gain_smearing", "standard deviation of the gain", "x", 0.0, weak=True),
            *(Parameter(name, "mean number of photo-electrons of the flash", "p.e.", 0.0) for name in names),
        ),
        curve=_curve,
        integral=_integral,
        start=_start,
        formula="transform of exp(i w B - w^2 s_e^2/2 + f Int [psi(w h) - 1] dt + mu [psi(w h_s) - 1])",
        source="compound Poisson process of pulses; Campbell (1909), Borel (1942)",
    )


compound_poisson = make_compound_poisson().with_constants(shape_constants([1.0], [12.4]))
