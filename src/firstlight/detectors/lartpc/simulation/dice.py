"""Random numbers of the transport: xoshiro256++ with its state in the hand of the caller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    State = NDArray[np.uint64]

__all__ = ["normal", "soft_loss", "start", "turn", "uniform"]

_ROTATE_23, _ROTATE_41, _SHIFT_17 = np.uint64(23), np.uint64(41), np.uint64(17)
_ROTATE_45, _ROTATE_19, _SHIFT_11 = np.uint64(45), np.uint64(19), np.uint64(11)
_UNIT = 2.0**-53


def start(seed: np.random.SeedSequence) -> NDArray[np.uint64]:
    """Return the state of a stream, shape (4,)."""
    state = seed.generate_state(4, np.uint64).astype(np.uint64)
    state[0] |= np.uint64(1)  # the one state that cannot be is all zeros
    return state


@kernel
def uniform(state: State) -> float:
    """Return a number in (0, 1), and move the state on (Blackman and Vigna, ACM TOMS 47 (2021) 36)."""
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    total = s0 + s3
    drawn = ((total << _ROTATE_23) | (total >> _ROTATE_41)) + s0
    t = s1 << _SHIFT_17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    s3 = (s3 << _ROTATE_45) | (s3 >> _ROTATE_19)
    state[0], state[1], state[2], state[3] = s0, s1, s2, s3
    return (np.float64(drawn >> _SHIFT_11) + 0.5) * _UNIT


@kernel
def normal(state: State) -> float:
    """Return a number of the standard normal distribution (polar method)."""
    while True:
        a, b = 2 * uniform(state) - 1, 2 * uniform(state) - 1
        square = a * a + b * b
        if 0 < square < 1:
            return a * math.sqrt(-2 * math.log(square) / square)


@kernel
def soft_loss(mean: float, variance: float, state: State) -> float:
    """Return a loss of many small ones with this mean and variance, never negative.

    A truncated Gaussian where there are many, a uniform or "nothing or uniform" where there are few, as PENELOPE does
    (NEA/MBDAV/R(2019)1, section 4.2): the first two moments are exact in the last two, within 1e-3 in the first.
    """
    square = mean * mean
    if square > 9 * variance:
        sigma = math.sqrt(variance)
        while True:
            draw = normal(state)
            if abs(draw) < 3:
                return mean + 1.015387 * sigma * draw
    if square > 3 * variance:
        half = math.sqrt(3 * variance)
        return mean + half * (2 * uniform(state) - 1)
    both = 3 * (variance + square)
    if uniform(state) < (both - 4 * square) / both:
        return 0.0
    return uniform(state) * both / (2 * mean)


@kernel
def turn(ray: Floats, cosine: float, azimuth: float) -> None:
    """Turn the direction of a ray, its elements 4 to 6, by a polar angle about itself."""
    u, v, w = ray[4], ray[5], ray[6]
    sine = math.sqrt(max(0.0, (1 - cosine) * (1 + cosine)))
    a, b = sine * math.cos(azimuth), sine * math.sin(azimuth)
    # the frame of Duff et al. (JCGT 6 (2017) 1): no direction in which it breaks down
    sign = math.copysign(1.0, w)
    c = -1.0 / (sign + w)
    d = u * v * c
    u1 = a * (1 + sign * u * u * c) + b * d + cosine * u
    v1 = a * sign * d + b * (sign + v * v * c) + cosine * v
    w1 = -a * sign * u - b * v + cosine * w
    scale = 1 / math.sqrt(u1 * u1 + v1 * v1 + w1 * w1)
    ray[4], ray[5], ray[6] = u1 * scale, v1 * scale, w1 * scale
