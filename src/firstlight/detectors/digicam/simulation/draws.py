"""Random numbers for kernels: a stream of its own for every pixel of every event.

Streams begin at a hash of (key of the run, event, pixel), so that what a pixel sees in an event does not depend on how many
events or pixels are simulated before it, in one call, or at all. The generator is xoshiro256++ (Blackman and Vigna),
seeded with splitmix64; normal numbers come from a ziggurat of 256 layers (Marsaglia and Tsang). They are written out here
because a generator of numpy takes far too long to begin anew for every pixel.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    State = NDArray[np.uint64]

__all__ = ["begin", "exponential", "new_state", "normal", "poisson", "run_key", "uniform"]

# numba makes floats of mixed signed and unsigned numbers: every constant is unsigned
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_EVENT, _PIXEL = np.uint64(0xD1342543DE82EF95), np.uint64(0xAEF17502108EF2D9)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_S23, _S41, _S17, _S45, _S19 = (np.uint64(value) for value in (23, 41, 17, 45, 19))
_S11, _LAYER = np.uint64(11), np.uint64(255)
_UNIT = 1.0 / (1 << 53)

_EDGE, _AREA = 3.6541528853610088, 0.00492867323399  # of the lowest layer of 256
_LARGEST_STEP = 16.0  # Poisson numbers of a larger mean are sums


def _layers() -> NDArray[np.float64]:
    """Return the edges of the layers, the lowest one first."""
    edges = np.zeros(257)
    edges[0], edges[1] = _AREA * math.exp(0.5 * _EDGE**2), _EDGE
    for k in range(1, 255):
        edges[k + 1] = math.sqrt(-2.0 * math.log(_AREA / edges[k] + math.exp(-0.5 * edges[k] ** 2)))
    return edges


_EDGES = _layers()


def run_key(seed: int, label: str) -> np.uint64:
    """Return the key of a run: other seeds and other labels give other random numbers."""
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(label.encode()),))
    return np.uint64(sequence.generate_state(1, np.uint64)[0])


def new_state() -> State:
    """Return room for the state of a stream; `begin` fills it."""
    return np.empty(4, dtype=np.uint64)


@kernel
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _S30)) * _MIX_1
    value = (value ^ (value >> _S27)) * _MIX_2
    return value ^ (value >> _S31)


@kernel
def begin(state: State, key: np.uint64, event: int, pixel: int) -> None:
    """Put a stream to its beginning.

    Parameters
    ----------
    state : ndarray of uint64, shape (4,)
        Filled.
    key : uint64
        From `run_key`.
    event, pixel : int
        Which stream.
    """
    value = _mixed(key + np.uint64(event) * _EVENT)
    value = _mixed(value ^ (np.uint64(pixel) * _PIXEL))
    for k in range(4):
        value += _GOLDEN
        state[k] = _mixed(value)


@kernel
def _next(state: State) -> np.uint64:
    first, second = state[0], state[1]
    total = first + state[3]
    result = ((total << _S23) | (total >> _S41)) + first
    third, fourth = state[2] ^ first, state[3] ^ second
    state[1] = second ^ third
    state[0] = first ^ fourth
    state[2] = third ^ (second << _S17)
    state[3] = (fourth << _S45) | (fourth >> _S19)
    return np.uint64(result)


@kernel
def uniform(state: State) -> float:
    """Return a number in [0, 1)."""
    return float(_next(state) >> _S11) * _UNIT


@kernel
def exponential(state: State) -> float:
    """Return an exponential number of mean 1."""
    return -math.log(1.0 - uniform(state))


@kernel
def normal(state: State) -> float:
    """Return a normal number of mean 0 and variance 1."""
    while True:
        bits = _next(state)
        layer = int(bits & _LAYER)
        place = 2.0 * (float(bits >> _S11) * _UNIT) - 1.0
        value = place * _EDGES[layer]
        if abs(value) < _EDGES[layer + 1]:
            return float(value)
        if layer == 0:
            while True:
                beyond = exponential(state) / _EDGE
                if 2.0 * exponential(state) > beyond * beyond:
                    return _EDGE + beyond if place > 0.0 else -_EDGE - beyond
        outer = math.exp(-0.5 * (_EDGES[layer] * _EDGES[layer] - value * value))
        inner = math.exp(-0.5 * (_EDGES[layer + 1] * _EDGES[layer + 1] - value * value))
        if inner + uniform(state) * (outer - inner) < 1.0:
            return float(value)


@kernel
def poisson(state: State, mean: float) -> int:
    """Return a Poisson number; the time grows with the mean."""
    number = 0
    while mean > 0.0:
        part = min(mean, _LARGEST_STEP)
        mean -= part
        limit = math.exp(-part)
        product = uniform(state)
        while product > limit:
            number += 1
            product *= uniform(state)
    return number
