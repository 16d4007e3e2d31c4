"""Kernels of the joint likelihood of all boards of an event: sums over events, gradient, Hessian.

An event has the times ``t_i = T + o_i + e_i`` of M boards, with an unknown time T of the particle. Each error
e_i is a Gaussian of width sigma_i, or with probability f one of width k sigma_i, so an event is one of 2^M
components with variances v_i. With T integrated out, ``a_i = 1 / v_i``, ``W = sum a_i`` and ``m = sum a_i
(t_i - o_i) / W`` a component has the density ::

    ln p = sum_i ln a_i / 2 - ln W / 2 - (M - 1) ln(2 pi) / 2 - sum_i a_i (t_i - o_i - m)^2 / 2

of the M - 1 differences. That is the same as their normal distribution with a full covariance matrix, but
treats all boards alike and needs no matrix. Parameters are ``s_i = ln sigma_i``, o_i, ``phi = ln(f / (1 -
f))`` and ``kappa = ln k``, in this order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["add_gradient", "add_hessian", "fill_components", "sum_events"]


@kernel
def fill_components(
    log_sigma: Floats,
    phi: float,
    kappa: float,
    weights: Floats,
    forms: Floats,
    norms: Floats,
) -> None:
    """Fill what the components of an event with M boards share.

    Parameters
    ----------
    log_sigma : ndarray, shape (M,)
        Logarithms of the core widths.
    phi, kappa : float
        Logit of the tail fraction and logarithm of the tail scale; used with more than one component.
    weights : ndarray, shape (n_components, M)
        Filled: 1 / variance. Board i is in its tail where bit i of the component is set.
    forms : ndarray, shape (n_components, M - 1, M - 1)
        Filled: quadratic form of the differences to the first board, times -1/2; twice that off the diagonal.
    norms : ndarray, shape (n_components,)
        Filled: logarithm of the factor in front, with the probability of the component.
    """
    n_components, size = weights.shape
    ln_tail = -math.log1p(math.exp(-phi))
    ln_core = -math.log1p(math.exp(phi))
    for component in range(n_components):
        total = 0.0
        norm = -0.5 * (size - 1) * math.log(2.0 * math.pi)
        for board in range(size):
            log_width = log_sigma[board]
            if component >> board & 1:
                log_width += kappa
                norm += ln_tail
            elif n_components > 1:
                norm += ln_core
            weights[component, board] = math.exp(-2.0 * log_width)
            total += weights[component, board]
            norm -= log_width
        norms[component] = norm - 0.5 * math.log(total)
        for first in range(1, size):
            for second in range(1, first + 1):
                form = weights[component, first] * weights[component, second] / total
                if first == second:
                    form = 0.5 * (form - weights[component, first])
                forms[component, first - 1, second - 1] = form
                forms[component, second - 1, first - 1] = form


@kernel
def _sum_plane(
    differences: Floats, shifts: Floats, counts: Floats, forms: Floats, norms: Floats, sums: Floats
) -> float:
    """Do `sum_events` for three boards, where all loops over boards are written out."""
    n_components = len(norms)
    last = n_components - 1
    share = np.empty(n_components)
    shift_1, shift_2 = shifts[0], shifts[1]
    log_likelihood = 0.0
    for event in range(len(counts)):
        count = counts[event]
        if count == 0.0:
            continue
        x = differences[event, 0] - shift_1
        y = differences[event, 1] - shift_2
        xx, xy, yy = x * x, x * y, y * y
        base = norms[last] + forms[last, 0, 0] * xx + forms[last, 0, 1] * xy + forms[last, 1, 1] * yy
        total = 1.0
        for component in range(last):
            exponent = (
                norms[component]
                + forms[component, 0, 0] * xx
                + forms[component, 0, 1] * xy
                + forms[component, 1, 1] * yy
            )
            share[component] = math.exp(exponent - base)
            total += share[component]
        share[last] = 1.0
        log_likelihood += count * (base + math.log(total))
        factor = count / total
        for component in range(n_components):
            part = factor * share[component]
            sums[component, 0] += part
            sums[component, 1] += part * x
            sums[component, 2] += part * y
            sums[component, 3] += part * xx
            sums[component, 4] += part * xy
            sums[component, 5] += part * yy
    return log_likelihood


@kernel
def sum_events(
    differences: Floats, shifts: Floats, counts: Floats, forms: Floats, norms: Floats, sums: Floats
) -> float:
    """Return the log likelihood, and fill the moments of the events in each component.

    Parameters
    ----------
    differences : ndarray, shape (n_events, M - 1)
        Times of boards 1, 2 ... minus that of board 0.
    shifts : ndarray, shape (M - 1,)
        Their expected values.
    counts : ndarray, shape (n_events,)
        How often each event counts.
    forms, norms
        From `fill_components`.
    sums : ndarray, shape (n_components, 1 + (M - 1) + (M - 1) M / 2)
        Added to: sums of the probability that an event belongs to the component, times 1, the differences and
        their products.

    Returns
    -------
    float
        Sum of the logarithms of the densities.
    """
    size = differences.shape[1]
    if size == 2:
        return _sum_plane(differences, shifts, counts, forms, norms, sums)
    n_components = len(norms)
    last = n_components - 1
    share = np.empty(n_components)
    x = np.empty(size)
    log_likelihood = 0.0
    for event in range(len(counts)):
        count = counts[event]
        if count == 0.0:
            continue
        for index in range(size):
            x[index] = differences[event, index] - shifts[index]
        total = 1.0
        base = 0.0
        # the component with all boards in the tail is the widest: relative to it no other one can overflow
        for component in range(last, -1, -1):
            exponent = norms[component]
            for first in range(size):
                inner = 0.0
                for second in range(first + 1):
                    inner += forms[component, first, second] * x[second]
                exponent += x[first] * inner
            if component == last:
                base = exponent
                share[last] = 1.0
            else:
                share[component] = math.exp(exponent - base)
                total += share[component]
        log_likelihood += count * (base + math.log(total))
        for component in range(n_components):
            part = count * share[component] / total
            sums[component, 0] += part
            at = 1 + size
            for first in range(size):
                sums[component, 1 + first] += part * x[first]
                for second in range(first + 1):
                    sums[component, at] += part * x[first] * x[second]
                    at += 1
    return log_likelihood


@kernel
def _second_moments(sums: Floats, alpha: Floats, linear: Floats, second: Floats) -> None:
    """Fill sums of the residuals from the weighted mean, and of their products, of one component."""
    size = len(alpha)
    moments = np.zeros((size, size))
    at = size
    for first in range(1, size):
        for other in range(1, first + 1):
            moments[first, other] = sums[at]
            moments[other, first] = sums[at]
            at += 1
    mean = 0.0
    for board in range(1, size):
        mean += alpha[board] * sums[board]
    mixed = moments @ alpha
    square = (alpha * mixed).sum()
    for first in range(size):
        linear[first] = (sums[first] if first > 0 else 0.0) - mean
        for other in range(size):
            second[first, other] = moments[first, other] - mixed[first] - mixed[other] + square


@kernel
def add_gradient(weights: Floats, fraction: float, sums: Floats, gradient: Floats) -> None:
    """Add the derivatives of the log likelihood by all parameters (M widths, M offsets, phi, kappa).

    Parameters
    ----------
    weights : ndarray, shape (n_components, M)
        From `fill_components`.
    fraction : float
        Tail fraction.
    sums
        From `sum_events`.
    gradient : ndarray, shape (2 M + 2,)
        Added to.
    """
    n_components, size = weights.shape
    linear = np.empty(size)
    second = np.empty((size, size))
    for component in range(n_components):
        total = weights[component].sum()
        _second_moments(sums[component], weights[component] / total, linear, second)
        events = sums[component, 0]
        tails = 0
        for board in range(size):
            weight = weights[component, board]
            slope = events * (weight / total - 1.0) + weight * second[board, board]
            gradient[board] += slope
            gradient[size + board] += weight * linear[board]
            if component >> board & 1:
                gradient[2 * size + 1] += slope
                tails += 1
        gradient[2 * size] += events * (tails - size * fraction)


@kernel
def _add_curvature(
    component: int, weights: Floats, linear: Floats, second: Floats, events: float, out: Floats
) -> None:
    """Add the second derivatives of the log density of one component, summed over its events."""
    size = len(weights)
    total = weights.sum()
    kappa = 2 * size + 1
    for i in range(size):
        tail_i = component >> i & 1
        for j in range(size):
            both = weights[i] * weights[j] / total
            value = 2.0 * (events * both / total + 2.0 * both * second[i, j])
            cross = 2.0 * both * linear[i]
            offset = events * both
            if i == j:
                value -= 2.0 * (events * weights[i] / total + weights[i] * second[i, i])
                cross -= 2.0 * weights[i] * linear[i]
                offset -= events * weights[i]
            out[i, j] += value
            out[i, size + j] += cross
            out[size + j, i] += cross
            out[size + i, size + j] += offset
            if component >> j & 1:
                out[i, kappa] += value
                out[kappa, i] += value
                if tail_i:
                    out[kappa, kappa] += value
            if tail_i:
                out[kappa, size + j] += cross
                out[size + j, kappa] += cross


@kernel
def _fill_shares(x: Floats, forms: Floats, norms: Floats, share: Floats) -> None:
    """Fill the probabilities that an event belongs to each component; `x` has a 0 for the first board."""
    size = len(x)
    last = len(norms) - 1
    base = 0.0
    total = 0.0
    for component in range(last, -1, -1):
        exponent = norms[component]
        for first in range(1, size):
            for second in range(1, first + 1):
                exponent += forms[component, first - 1, second - 1] * x[first] * x[second]
        if component == last:
            base = exponent
        share[component] = math.exp(exponent - base)
        total += share[component]
    share /= total


@kernel
def _fill_slopes(component: int, x: Floats, weights: Floats, fraction: float, slopes: Floats) -> None:
    """Fill the derivatives of the log density of one component for one event."""
    size = len(x)
    total = 0.0
    mean = 0.0
    for board in range(size):
        total += weights[board]
        mean += weights[board] * x[board]
    mean /= total
    tails = 0
    scale = 0.0
    for board in range(size):
        weight = weights[board]
        rest = x[board] - mean
        slope = weight / total - 1.0 + weight * rest * rest
        slopes[board] = slope
        slopes[size + board] = weight * rest
        if component >> board & 1:
            scale += slope
            tails += 1
    slopes[2 * size] = tails - size * fraction
    slopes[2 * size + 1] = scale


@kernel
def _add_products(
    count: float, share: Floats, slopes: Floats, mean: Floats, spread: Floats, outer: Floats
) -> None:
    """Add the covariance of the slopes of the components and the products of their mean (lower half)."""
    for first in range(len(mean)):
        for second in range(first + 1):
            product = mean[first] * mean[second]
            total = -product
            for component in range(len(share)):
                total += share[component] * slopes[component, first] * slopes[component, second]
            spread[first, second] += count * total
            outer[first, second] += count * product


@kernel
def _add_moments(count: float, share: Floats, x: Floats, sums: Floats) -> None:
    """Add an event to the sums of `sum_events`."""
    size = len(x)
    for component in range(len(share)):
        part = count * share[component]
        sums[component, 0] += part
        at = size
        for first in range(1, size):
            sums[component, first] += part * x[first]
            for second in range(1, first + 1):
                sums[component, at] += part * x[first] * x[second]
                at += 1


@kernel
def add_hessian(
    differences: Floats,
    shifts: Floats,
    counts: Floats,
    weights: Floats,
    forms: Floats,
    norms: Floats,
    fraction: float,
    hessian: Floats,
    outer: Floats,
) -> None:
    """Add the second derivatives of the log likelihood, and the products of the gradients of events.

    Those of a sum of components are the mean of those of the components plus the covariance of their
    gradients.

    Parameters
    ----------
    differences, shifts, counts, weights, forms, norms, fraction
        As above.
    hessian, outer : ndarray, shape (2 M + 2, 2 M + 2)
        Added to.
    """
    n_components, size = weights.shape
    share = np.empty(n_components)
    x = np.zeros(size)
    slopes = np.empty((n_components, 2 * size + 2))
    mean = np.empty(2 * size + 2)
    sums = np.zeros((n_components, (size * (size + 1)) // 2))
    spread = np.zeros_like(hessian)
    products = np.zeros_like(outer)
    for event in range(len(counts)):
        if counts[event] == 0.0:
            continue
        for index in range(1, size):
            x[index] = differences[event, index - 1] - shifts[index - 1]
        _fill_shares(x, forms, norms, share)
        mean[:] = 0.0
        for component in range(n_components):
            _fill_slopes(component, x, weights[component], fraction, slopes[component])
            for index in range(2 * size + 2):
                mean[index] += share[component] * slopes[component, index]
        _add_moments(counts[event], share, x, sums)
        _add_products(counts[event], share, slopes, mean, spread, products)
    for first in range(2 * size + 2):
        for second in range(2 * size + 2):
            low, high = max(first, second), min(first, second)
            hessian[first, second] += spread[low, high]
            outer[first, second] += products[low, high]
    linear = np.empty(size)
    moments = np.empty((size, size))
    for component in range(n_components):
        events = sums[component, 0]
        _second_moments(sums[component], weights[component] / weights[component].sum(), linear, moments)
        _add_curvature(component, weights[component], linear, moments, events, hessian)
        hessian[2 * size, 2 * size] -= events * size * fraction * (1.0 - fraction)
