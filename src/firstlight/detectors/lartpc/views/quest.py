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
    from collections.abc import Mapping, Sequence

    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from firstlight.detectors.lartpc.views.scene import Scene

__all__ = ["QuestEntry", "draw_quest", "score_words"]

# lengths in inches: of a card, from its left edge to its numbers, of its views in space; then of the room for the key
_CARD, _COLUMN, _SPACE, _WHOLE = 7.0, 4.75, 4.45, 1.55
_LEAST_HEIGHT, _KEY = 5.2, 0.45
_LEAST = 0.01  # score of a find; what is below is the best of what there is
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
    # all cards are as high as the one with most to say
    card = max(_LEAST_HEIGHT, *(_texts(entry)[1] + 0.3 + _WHOLE + _KEY for entry in entries))
    width, height = columns * _CARD, rows * card + 0.5
    with styled():
        figure = sheet(width, height)
        figure.text(0.2 / width, 1 - 0.27 / height, title, fontsize=15, fontweight="bold", va="center")
        norm = charge_norm([entry.scene.layers[0] for entry in entries])
        _flat_bar(figure, norm, width, height)
        for index, entry in enumerate(entries):
            corner = index % columns * _CARD, height - 0.5 - index // columns * card
            _draw_card(figure, entry, corner, card, view, norm)
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


@dataclass(frozen=True)
class _Text:
    """Words in a card; distances from its left and upper edge [in]."""

    x: float
    y: float
    words: str
    look: Mapping[str, Any]


def _texts(entry: QuestEntry) -> tuple[list[_Text], float]:
    """Return what stands at the right of a card, and where it ends, from the upper edge [in]."""
    found, right = [], _CARD - 0.15

    def write(x: float, y: float, words: str, **look: Any) -> None:
        found.append(_Text(x, y, words, look))

    good = entry.score >= _LEAST
    look = {"fontsize": 13, "color": "#1f5f99"} if good else {"fontsize": 10, "color": _MUTED}
    write(_COLUMN, 0.14, score_words(entry.score), fontweight="bold", **look)
    y = 0.5
    for name, value in entry.numbers:
        lines = textwrap.wrap(name, _NAME)
        write(_COLUMN, y, "\n".join(lines), color=_MUTED, fontsize=8.5)
        write(right, y, value, fontsize=8.5, ha="right")
        y += 0.19 + 0.15 * (len(lines) - 1)
    y += 0.1
    if entry.runners_up:
        write(_COLUMN, y, "next", fontweight="bold")
        y += 0.21
        for name, score in entry.runners_up:
            write(_COLUMN, y, _short(name), color=_MUTED, fontsize=8)
            write(right, y, f"{score:.2f}", fontsize=8, ha="right")
            y += 0.18
    if entry.note:
        lines = textwrap.wrap(entry.note, _NOTE)
        write(_COLUMN, y + 0.05, "\n".join(lines), fontsize=8, color=_MUTED)
        y += 0.05 + 0.135 * len(lines)
    return found, y


def score_words(score: float) -> str:
    """Return what is said of the score of the first of a category: none fits where it is near 0."""
    return f"score {score:.2f}" if score >= _LEAST else f"no good one: best score {score:.2f}"


def _draw_card(
    figure: Figure, entry: QuestEntry, corner: tuple[float, float], height: float, view: tuple[float, float], norm: Normalize
) -> None:  # fmt: skip
    """Draw a winner in a card of this height whose upper left corner is at a place of the figure [in]."""
    size = figure.get_size_inches()
    left, top = corner

    def box(x: float, y: float, edge: float) -> tuple[float, float, float, float]:
        return (left + x) / size[0], (top - y - edge) / size[1], edge / size[0], edge / size[1]

    texts, _ = _texts(entry)
    texts += [
        _Text(0.2, 0.12, entry.words, {"fontsize": 13, "fontweight": "bold"}),
        _Text(0.2, 0.42, _short(entry.scene.title, 60), {"color": _MUTED}),
    ]
    for text in texts:
        look = {"va": "top", "fontsize": 9, **text.look}
        figure.text((left + text.x) / size[0], (top - text.y) / size[1], text.words, **look)
    scene, scale = entry.scene, unit_scale("mm")
    layer = scene.layers[0]
    ax = prepare_axes(
        figure, box(-0.1, 0.35 + 0.5 * (height - _LEAST_HEIGHT), _SPACE), scene.core, units="mm", view=view
    )
    draw_layer(ax, layer, scene.core, norm=norm, largest=30.0)
    handles: list[Any] = []
    if scene.truth is not None:
        handles = draw_truth(ax, scene.truth, scene.core, lambda some: tuple(some * scale), size=28.0)
        # the key speaks of what is seen in the large panel
        handles = [handle for handle in handles if ": 0 (" not in handle.get_label()]
    whole = figure.add_axes(box(5.3, height - _WHOLE - _KEY, _WHOLE))
    cube = scene.whole.grown(round_edge(scene.whole.edge))
    draw_box(whole, layer, cube, view=view, norm=norm, letters=7.5, largest=14.0)
    whole.set_title("whole event", fontsize=8, color=_MUTED, loc="center", pad=0)
    if handles:
        figure.legend(
            handles=handles, loc="lower left", fontsize=7.5, ncols=3, columnspacing=0.8, handletextpad=0.3,
            bbox_to_anchor=((left + 0.1) / size[0], (top - height + 0.02) / size[1]), borderpad=0,
        )  # fmt: skip


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
