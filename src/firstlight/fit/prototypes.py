"""Signatures of the kernels that a model gives to the engine.

Kernels are compiled with an explicit signature and handed over as function pointers, so that one engine is
compiled once, and kept, for all models. A pointer is called once a curve, not once a point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
from numba import types

import firstlight.compiled  # noqa: F401  (provides a cache folder before anything is compiled)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CURVE", "SCALAR", "START", "curve_kernel", "quiet_kernel", "scalar_kernel", "start_kernel"]

_number = types.float64
_vector = types.Array(types.float64, 1, "C")
_matrix = types.Array(types.float64, 2, "C")

CURVE = types.void(_vector, _vector, _vector, _vector, _matrix)
"""``curve(x, p, constants, value, derivative)`` fills value (n,) and derivative (n_parameters, n)."""

SCALAR = types.float64(_number, _vector)
"""``function(x, p)`` returns one value; the engine makes the derivatives by central differences."""

START = types.void(_vector, _vector, _vector, _vector, _vector)
"""``start(x, counts, exposure, constants, p)`` fills p (n_parameters,) from the data of one channel.

On entry p has the values of fixed parameters, and NaN for the others.
"""


def _compiler(signature: Any) -> Callable[[Any], Any]:
    return numba.njit([signature], cache=True, nogil=True, error_model="numpy")


curve_kernel = _compiler(CURVE)
start_kernel = _compiler(START)
scalar_kernel = _compiler(SCALAR)

quiet_kernel = numba.njit(cache=True, nogil=True, error_model="numpy")
"""Decorator of the engine's kernels: a division by zero gives infinity and no error, which would end all fits."""
