"""The channel map of SpinQuest: one channel per element of each plane, in the order of detector IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.data.channels import ChannelMap
from firstlight.detectors.spinquest.geometry import Geometry, load_geometry

if TYPE_CHECKING:
    from firstlight.steps.step import Context

__all__ = ["channel_map", "geometry_in", "geometry_of"]


def channel_map(geometry: Geometry) -> ChannelMap:
    """Return the channel map of a geometry.

    Parameters
    ----------
    geometry : Geometry
        Planes and their numbers of elements.

    Returns
    -------
    ChannelMap
        Elements count 1 .. n, as in the data. Elements that may be absent (D1, the last two of DP2) are
        ``optional``.
    """
    planes = geometry.planes.sort("detector_id")
    sizes = planes["n_elements"].to_numpy()
    element = np.concatenate([np.arange(1, size + 1) for size in sizes])
    spread = np.repeat(np.arange(len(sizes)), sizes)
    n_always = (sizes - planes["n_optional"].to_numpy())[spread]
    frame = pl.DataFrame(
        {
            "channel": np.arange(element.size),
            "group": planes["name"].gather(spread),
            "position": element,
            "detector_id": planes["detector_id"].gather(spread),
            "element_id": element,
            "section": planes["group"].gather(spread),
            "kind": planes["kind"].gather(spread),
            "optional": element > n_always,
        }
    )
    drawn = planes.sort("drawing_order")
    groups = drawn.select(
        pl.col("name").alias("group"),
        pl.col("group").alias("section"),
        "legacy_group",
        "detector_id",
        "kind",
        "n_elements",
    )
    labels = {"group": "plane", "position": "element", "section": "detector group"}
    return ChannelMap("spinquest", geometry.version, frame, "planes", groups, labels)


def geometry_in(context: Context) -> Geometry:
    """Return the geometry that a run uses: the one of its options, or the built-in one of its channel map."""
    name = getattr(context.options, "geometry", "auto")
    return load_geometry(context.channels.version if name == "auto" else name)


def geometry_of(name: str, n_planes: set[int]) -> Geometry:
    """Return a geometry by name or path.

    Parameters
    ----------
    name : str
        Built-in version, path, or ``"auto"``: E906 if all files were written with 54 planes, else E1039.
    n_planes : set of int
        Numbers of planes that the files state.
    """
    if name == "auto":
        name = "E906" if n_planes == {54} else "E1039"
    return load_geometry(name)
