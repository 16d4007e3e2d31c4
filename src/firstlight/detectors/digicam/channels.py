"""The channels of the camera: where each pixel is drawn, what it is cabled to, and where its signal is looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.channels import ChannelMap
from firstlight.detectors.digicam.camera import N_PIXELS, pixels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["LOWEST", "WINDOW", "channel_map"]

LOWEST = 64
"""Counts of samples begin so far below the reference of a pixel [LSB]."""
WINDOW = 256
"""Width of the range about the reference in which samples are counted group by group [LSB]."""


def channel_map(
    reference: ArrayLike = 284, light_sample: ArrayLike = -1, lit: ArrayLike = True, version: str = "1"
) -> ChannelMap:
    """Return the channels: a row each, with place, cabling, and where its signal is.

    Parameters
    ----------
    reference : int or array-like, shape (1296,)
        A whole number near the baseline of the pixel [LSB]: charges are counted from it.
    light_sample : int or array-like, shape (1296,)
        Sample in which the light of a flash arrives; -1 where it is not known.
    lit : bool or array-like, shape (1296,)
        Whether the light source stands before the pixel.
    version : str
        Of the map.
    """

    def column(values: ArrayLike, dtype: Any) -> pl.Series:
        return pl.Series(np.broadcast_to(np.asarray(values), (N_PIXELS,)), dtype=dtype)

    frame = pixels().with_columns(
        reference=column(reference, pl.Int32),
        light_sample=column(light_sample, pl.Int32),
        lit=column(lit, pl.Boolean),
        group=pl.format("module {}", pl.col("module")),
        section=pl.format("sector {}", pl.col("sector")),
    )
    labels = {"channel": "pixel", "group": "module", "x": "x [mm]", "y": "y [mm]"}
    return ChannelMap("digicam", version, frame, "hexagons", labels=labels)
