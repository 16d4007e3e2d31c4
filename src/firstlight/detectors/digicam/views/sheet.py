"""The sheets on which figures stand: as wide as a page of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["SIZE", "WIDTH", "heading"]

WIDTH = 10.0
"""Of all figures [in]."""
SIZE = 10.0
"""Of letters [pt]."""


def heading(canvas: Canvas, title: str, about: str = "") -> None:
    """Write title and second line above a figure."""
    height = canvas.get_size_inches()[1]
    canvas.text(0.012, 1 - 0.1 / height, title, fontsize=SIZE + 2.5, weight="bold", va="top")
    canvas.text(0.012, 1 - 0.37 / height, about, fontsize=SIZE - 1, color="#3a4149", va="top")
