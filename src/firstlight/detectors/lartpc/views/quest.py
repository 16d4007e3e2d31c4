"""The Quest on one page: the winner of each category in space, its numbers, and who came next."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firstlight.detectors.lartpc.views.boxes import draw_box
from firstlight.detectors.lartpc.views.cubes import round_edge
from firstlight.detectors.lartpc.views.marks import charge_colours, charge_norm, charge_ticks, draw_truth
from firstlight.detectors.lartpc.views.scene import unit_scale
from firstlight.detectors.lartpc.views.three import VIEW, draw_layer, prepare_axes
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from firstlight.detectors.lartpc.views.scene import Scene

__all__ = ["QuestEntry", "draw_quest"]

_CARD = (7.0, 5.0)  # in
_MUTED = "#56616c"
_NAME, _NOTE = 27, 38  # letters in a line


@dataclass(frozen=True)
class QuestEntry:
    """The winner of a category.

    Parameters
    ----------
    words : str
        The category: ``"Neat electron"``.
    scene : Scene
        The winner.
    score : float
        From 0 to 1.
    numbers : sequence of (str, str)
        What the score is made of: names and values with units, as text.
    runners_up : sequence of (str, float)
        Names and scores of those that came next.
    note : str
        What else there is to say.
    """

    words: str
    scene: Scene
    score: float
    numbers: Sequence[tuple[str, str]] = ()
    runners_up: Sequence[tuple[str, float]] = field(default_factory=tuple)
    note: str = ""


def draw_quest(
    entries: Sequence[QuestEntry],
    *,
    columns: int = 2,
    view: tuple[float, float] = VIEW,
    title: str = "The Quest",
) -> Figure:
    """Draw the winners of all categories.

    Parameters
    ----------
    entries : sequence of QuestEntry
        One for each category.
    columns : int
        Winners beside each other.
    view : (float, float)
        Elevation and azimuth [degrees].
    title : str
        Above all.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    UsageError
        If there is no winner.
    """
    from firstlight.view.draw import sheet
    from firstlight.view.style import styled

    if not entries:
        what = "no category of the Quest has a winner"
        raise UsageError(what, hint="a folder with tracks of electrons and photons from 3 MeV on")
    columns = max(1, min(columns, len(entries)))
    rows = -(-len(entries) // columns)
    width, height = columns * _CARD[0], rows * _CARD[1] + 0.5
    with styled():
        figure = sheet(width, height)
        figure.text(0.2 / width, 1 - 0.27 / height, title, fontsize=15, fontweight="bold", va="center")
        norm = charge_norm([entry.scene.layers[0] for entry in entries])
        _flat_bar(figure, norm, width, height)
        for index, entry in enumerate(entries):
            left = index % columns * _CARD[0]
            top = height - 0.5 - index // columns * _CARD[1]
            _draw_card(figure, entry, left, top, (width, height), view, norm)
    return figure


def _flat_bar(figure: Figure, norm: Normalize, width: float, height: float) -> None:
    """Add one colour bar for all winners at the top right."""
    from matplotlib.cm import ScalarMappable

    length = 2.6
    box = ((width - length - 0.3) / width, 1 - 0.2 / height, length / width, 0.1 / height)
    bar = figure.colorbar(
        ScalarMappable(norm, charge_colours()), cax=figure.add_axes(box), orientation="horizontal"
    )
    ticks, names = charge_ticks(norm, most=6)
    bar.set_ticks(ticks, labels=names)
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, length=2, pad=1)
    words = "electrons per voxel"
    figure.text((width - length - 0.4) / width, 1 - 0.15 / height, words, fontsize=9, ha="right", va="center")


def _draw_card(
    figure: Figure,
    entry: QuestEntry,
    left: float,
    top: float,
    size: tuple[float, float],
    view: tuple[float, float],
    norm: Normalize,
) -> None:
    width, height = size
    scene, scale = entry.scene, unit_scale("mm")
    layer = scene.layers[0]

    def write(x: float, y: float, words: str, **look: Any) -> None:
        figure.text((left + x) / width, (top - y) / height, words, **{"va": "top", "fontsize": 9, **look})

    write(0.2, 0.12, entry.words, fontsize=13, fontweight="bold")
    write(0.2, 0.42, scene.title, color=_MUTED)
    edge = 4.55
    box = ((left - 0.1) / width, (top - 0.3 - edge) / height, edge / width, edge / height)
    ax = prepare_axes(figure, box, scene.core, units="mm", view=view)
    draw_layer(ax, layer, scene.core, norm=norm, largest=30.0)
    handles: list[Any] = []
    if scene.truth is not None:
        handles = draw_truth(ax, scene.truth, scene.core, lambda some: tuple(some * scale), size=28.0)
    column = 4.75
    write(column, 0.14, f"score {entry.score:.2f}", fontsize=13, fontweight="bold", color="#1f5f99")
    y = 0.5
    for name, value in entry.numbers:
        lines = textwrap.wrap(name, _NAME)
        write(column, y, "\n".join(lines), color=_MUTED, fontsize=8.5)
        write(_CARD[0] - 0.15, y, value, fontsize=8.5, ha="right")
        y += 0.19 + 0.15 * (len(lines) - 1)
    y += 0.1
    if entry.runners_up:
        write(column, y, "next", fontweight="bold")
        y += 0.21
        for name, score in entry.runners_up:
            write(column, y, _short(name), color=_MUTED, fontsize=8)
            write(_CARD[0] - 0.15, y, f"{score:.2f}", fontsize=8, ha="right")
            y += 0.18
    if entry.note:
        write(column, y + 0.05, textwrap.fill(entry.note, _NOTE), fontsize=8, color=_MUTED)
    small = 1.45
    place = ((left + 5.4) / width, (top - _CARD[1] + 0.4) / height, small / width, small / height)
    whole = figure.add_axes(place)
    draw_box(
        whole,
        layer,
        scene.whole.grown(round_edge(scene.whole.edge)),
        view=view,
        norm=norm,
        letters=6.5,
        largest=14.0,
    )
    whole.set_title("whole event", fontsize=8, color=_MUTED, loc="center", pad=0)
    if handles:
        figure.legend(
            handles=handles, loc="lower left", fontsize=7.5, ncols=3, columnspacing=1.0, handletextpad=0.3,
            bbox_to_anchor=((left + 0.1) / width, (top - _CARD[1] + 0.02) / height), borderpad=0,
        )  # fmt: skip


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
