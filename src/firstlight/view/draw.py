"""The drawing room: functions that draw arrays on a matplotlib axes and return it.

Nothing here knows a detector, and nothing needs a display: figures are made as `matplotlib.figure.Figure`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firstlight.view.draw_curves import (
    Band,
    draw_bands,
    draw_group_totals,
    draw_positions,
    draw_ratio,
)
from firstlight.view.draw_histograms import (
    draw_counts_of_counts,
    draw_cube_2d,
    draw_distribution,
    draw_shifts,
    draw_spectrum,
    draw_trend,
    name_places,
    rebin_counts,
)
from firstlight.view.draw_layouts import (
    FLAGGED,
    FRAME,
    MASKED,
    ZERO,
    log_bar,
    log_ticks,
    no_data,
    short_number,
)
from firstlight.view.draw_maps import Scale, draw_channel_map, draw_state_map, key_patches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "FLAGGED",
    "FRAME",
    "MASKED",
    "ZERO",
    "Band",
    "Scale",
    "draw_bands",
    "draw_channel_map",
    "draw_counts_of_counts",
    "draw_cube_2d",
    "draw_distribution",
    "draw_group_totals",
    "draw_positions",
    "draw_ratio",
    "draw_shifts",
    "draw_spectrum",
    "draw_state_map",
    "draw_trend",
    "key_patches",
    "log_bar",
    "log_ticks",
    "name_places",
    "no_data",
    "place",
    "rebin_counts",
    "sheet",
    "short_number",
]


def sheet(width: float, height: float) -> Canvas:
    """Return an empty figure of a size in inches whose axes are placed by hand.

    Automatic layout draws every figure twice; where the places are known that is time lost.
    """
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height))
    canvas.set_layout_engine("none")
    return canvas


def place(canvas: Canvas, left: float, bottom: float, right: float, top: float, size: float = 10.0) -> Axes:
    """Return a new axes, placed by its distances to the edges of the figure.

    Parameters
    ----------
    canvas : matplotlib Figure
        From `sheet`.
    left, bottom, right, top : float
        Distances to the edges [in].
    size : float
        Size of all letters [pt]: large where the figure is shown smaller than it is.
    """
    width, height = canvas.get_size_inches()
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = canvas.add_axes(box)
    axes.tick_params(labelsize=size)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(size)
    return axes
