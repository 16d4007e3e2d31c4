"""A figure as a value: what it is called, what it shows, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Canvas

__all__ = ["Figure", "ReportTable"]


@dataclass(frozen=True)
class Figure:
    """One figure of a run.

    Parameters
    ----------
    name : str
        File name without ending, unique in the run; letters, digits, ``_``, ``-``, ``+``.
    title : str
        Short, for the table of contents.
    caption : str
        What is shown, with units and what the colours mean: one or two sentences.
    section : str
        Heading of the report under which it stands.
    draw : callable
        Returns the matplotlib figure; called once, possibly in another process.
    copies : tuple of str
        Other paths under the run directory where the same picture stands (names of the original tool).
    dpi : int
        Resolution of the PNG.
    """

    name: str
    title: str
    caption: str
    section: str
    draw: Callable[[], Canvas]
    copies: tuple[str, ...] = ()
    dpi: int = 110


@dataclass(frozen=True)
class ReportTable:
    """A product that the report shows as a table.

    Parameters
    ----------
    product : str
        Name of a table product.
    title, caption : str
        As of a figure.
    section : str
        Heading of the report under which it stands.
    columns : tuple of str
        Columns to show; all where empty.
    where : str
        SQL-like condition on the rows; all where empty.
    limit : int
        Rows shown at most; the page says how many there are.
    """

    product: str
    title: str
    caption: str
    section: str
    columns: tuple[str, ...] = ()
    where: str = ""
    limit: int = 200
