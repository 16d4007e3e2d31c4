"""Sums by key: what chunks add up to where they hold different things (thresholds, files, light levels)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["add_by_key", "add_padded"]

Key = TypeVar("Key")
Value = TypeVar("Value", bound=Any)


def add_by_key(one: Mapping[Key, Value], other: Mapping[Key, Value]) -> dict[Key, Value]:
    """Return the sum of two mappings: values under the same key are added, with ``+``."""
    total = dict(one)
    for key, value in other.items():
        total[key] = total[key] + value if key in total else value
    return total


def add_padded(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of two arrays whose last axes begin with the same bin and end where their counts do.

    Parameters
    ----------
    one, other : ndarray, shape (..., n)
        Of the same type and shape but for the last axis.
    """
    long, short = (one, other) if one.shape[-1] >= other.shape[-1] else (other, one)
    total = np.array(long)
    total[..., : short.shape[-1]] += short
    return total
