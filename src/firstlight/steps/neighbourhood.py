"""What the neighbours of a channel say, on a grid of rows and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["local_median"]


def local_median(values: NDArray[np.float64], use: NDArray[np.bool_], radius: int = 4) -> NDArray[np.float64]:
    """Return for every cell of a grid the median of the cells around it.

    Parameters
    ----------
    values : ndarray, shape (n_rows, n_columns)
        One number a cell.
    use : ndarray of bool, shape (n_rows, n_columns)
        Cells that count; others are passed over.
    radius : int
        The neighbourhood is a square of ``2 radius + 1`` cells, cut at the edges of the grid.

    Returns
    -------
    ndarray, shape (n_rows, n_columns)
        NaN where no neighbour counts.
    """
    from numpy.lib.stride_tricks import sliding_window_view

    padded = np.pad(np.where(use, values, np.nan), radius, constant_values=np.nan)
    size = 2 * radius + 1
    found = np.empty(values.shape)
    # a band of rows at a time: all windows at once would take a hundred times the memory of the grid
    for row in range(values.shape[0]):
        windows = sliding_window_view(padded[row : row + size], (size, size))[0].reshape(values.shape[1], -1)
        windows = np.sort(windows, axis=1)
        number = np.count_nonzero(np.isfinite(windows), axis=1)
        columns = np.arange(values.shape[1])
        low, high = np.maximum(number - 1, 0) // 2, number // 2
        median = 0.5 * (windows[columns, low] + windows[columns, np.minimum(high, size * size - 1)])
        found[row] = np.where(number > 0, median, np.nan)
    return found
