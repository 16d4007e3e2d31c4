"""The map of the anode: square pads onto which the charge of all tracks is added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.data.channels import ChannelMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.options import AnodeOptions

__all__ = ["channel_map", "pads_at"]


def channel_map(options: AnodeOptions) -> ChannelMap:
    """Return the pads, a row each; rows count along y, columns along x, (0, 0) m is in the middle."""
    n_pads = _pads(options)
    row, column = np.divmod(np.arange(n_pads * n_pads), n_pads)
    half = 0.5 * n_pads * options.pad
    frame = pl.DataFrame(
        {
            "channel": np.arange(row.size),
            "row": row,
            "col": column,
            "x": (column + 0.5) * options.pad - half,
            "y": (row + 0.5) * options.pad - half,
            # a pad that no track reached is not dead
            "optional": np.ones(row.size, dtype=bool),
        }
    )
    labels = {"channel": "pad", "row": f"y / {options.pad:g} mm", "col": f"x / {options.pad:g} mm"}
    return ChannelMap(
        "anode", f"{n_pads} x {n_pads} pads of {options.pad:g} mm", frame, "grid", labels=labels
    )


def pads_at(positions: NDArray[np.float64], options: AnodeOptions) -> NDArray[np.int64]:
    """Return the pad, shape (n,), at each of some positions of shape (3, n) [m]; -1 beyond the map."""
    n_pads = _pads(options)
    column, row = np.floor(1e3 * positions[:2] / options.pad + 0.5 * n_pads).astype(np.int64)
    inside = (column >= 0) & (column < n_pads) & (row >= 0) & (row < n_pads)
    return np.where(inside, row * n_pads + column, -1)


def _pads(options: AnodeOptions) -> int:
    return max(2 * int(np.ceil(options.half_width / options.pad)), 2)
