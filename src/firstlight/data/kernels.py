"""Fill kernels: counting hits and filling one histogram per channel.

Compiled by numba and cached on disk; `firstlight warmup` compiles all of them at once. A channel of -1
stands for a hit that belongs to no channel and is passed over. All totals are 64-bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["count_channels", "fill_regular", "first_of_channel", "warm_up"]


@kernel
def count_channels(
    channel: NDArray[np.int32],
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Count the hits of each channel, and the events in which it has at least one.

    Parameters
    ----------
    channel : ndarray, shape (n_hits,)
        Hits of one event stand together.
    offsets : ndarray, shape (n_events + 1,)
        Row of the first hit of each event.
    counts : ndarray, shape (n_channels, 2)
        Changed in place: hits, events.
    """
    # hits, events, and number of the last event stand together: one cache line for each hit
    local = np.zeros((counts.shape[0], 3), dtype=np.int32)
    for event in range(offsets.size - 1):
        number = np.int32(event + 1)
        row = offsets[event]
        end = offsets[event + 1]
        while row < end:
            # hits of a channel often stand together: one visit to its counts for all of them
            here = channel[row]
            first = row
            row += 1
            while row < end and channel[row] == here:
                row += 1
            if here >= 0:
                where = np.uint64(here)
                local[where, 0] += row - first
                if local[where, 2] != number:
                    local[where, 2] = number
                    local[where, 1] += 1
    counts += local[:, :2]


@kernel
def first_of_channel(
    channel: NDArray[np.int32],
    order: NDArray[np.float32],
    offsets: NDArray[np.int64],
    n_channels: int,
) -> NDArray[np.bool_]:
    """Return which hits are the first of their channel in their event.

    Parameters
    ----------
    channel : ndarray, shape (n_hits,)
        Hits of one event stand together.
    order : ndarray, shape (n_hits,)
        The hit with the largest value is the first; on a tie the one that stands first.
    offsets : ndarray, shape (n_events + 1,)
        Row of the first hit of each event.
    n_channels : int
        Number of channels.

    Returns
    -------
    ndarray of bool, shape (n_hits,)
        Hits that belong to no channel are kept.
    """
    keep = np.zeros(channel.size, dtype=np.bool_)
    last = np.full(n_channels, -1, dtype=np.int64)
    best = np.zeros(n_channels, dtype=np.int64)
    for event in range(offsets.size - 1):
        for row in range(offsets[event], offsets[event + 1]):
            where = channel[row]
            if where < 0:
                keep[row] = True
            elif last[where] != event:
                last[where] = event
                best[where] = row
                keep[row] = True
            elif order[row] > order[best[where]]:
                keep[best[where]] = False
                best[where] = row
                keep[row] = True
    return keep


@kernel
def fill_regular(
    channel: NDArray[np.int32],
    value: NDArray[Any],
    low: float,
    high: float,
    counts: NDArray[np.int64],
) -> None:
    """Fill one regularly binned histogram per channel.

    Parameters
    ----------
    channel : ndarray, shape (n,)
        Row of `counts`; negative ones are passed over.
    value : ndarray, shape (n,)
        What is histogrammed. NaN stands for "not known" and is passed over.
    low, high : float
        Edges of the axis.
    counts : ndarray, shape (n_channels, n_bins + 2)
        Changed in place; the first bin is the underflow, the last the overflow.
    """
    n_bins = counts.shape[1] - 2
    scale = n_bins / (high - low)
    for row in range(channel.size):
        where = channel[row]
        x = value[row]
        if where < 0 or np.isnan(x):
            continue
        if x < low:
            counts[where, 0] += 1
        elif x >= high:
            counts[where, n_bins + 1] += 1
        else:
            # a value just below the upper edge may round up to n_bins
            counts[where, min(int((x - low) * scale), n_bins - 1) + 1] += 1


def warm_up() -> None:
    """Compile every kernel for the types in use."""
    channel = np.zeros(1, dtype=np.int32)
    offsets = np.array([0, 1], dtype=np.int64)
    count_channels(channel, offsets, np.zeros((1, 2), dtype=np.int64))
    for dtype in (np.float32, np.float64):
        value = np.zeros(1, dtype=dtype)
        fill_regular(channel, value, 0.0, 1.0, np.zeros((1, 3), dtype=np.int64))
    first_of_channel(channel, np.zeros(1, dtype=np.float32), offsets, 1)
