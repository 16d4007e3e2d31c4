"""The robust spread of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ROBUST", "robust_spread"]

ROBUST = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def robust_spread(values: NDArray[np.floating]) -> float:
    """Return the standard deviation that normal values with this median absolute deviation have.

    Parameters
    ----------
    values : ndarray, shape (n,)
        At least one, all finite.

    Returns
    -------
    float
        In the unit of `values`.
    """
    return ROBUST * float(np.median(np.abs(values - np.median(values))))
