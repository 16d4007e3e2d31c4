"""Maps of the chip: one value or one category of every pixel, row 0 at the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from firstlight.view.draw_pixels import Overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FIT_TYPES",
    "MASKED",
    "NOT_GOOD",
    "draw_count_map",
    "draw_fit_types",
    "draw_parameter_map",
    "draw_reasons",
]

MASKED, NOT_GOOD = "#111111", "#c3c9d0"

# code of the original tool: name, colour; 2 and 3 are ours: pixels that were never fitted
FIT_TYPES = {
    1: ("good", "#c8202f"),
    0: ("bad: poor or unphysical fit", "#f7eca0"),
    -1: ("not found: no convergence", "#7f868e"),
    -2: ("cut: too few hits", "#d4d8dc"),
    2: ("dead", "#ffffff"),
    3: ("masked", MASKED),
}
_WIDTH, _HEIGHT, _SIDE = 8.55, 8.25, 6.4
_SIZE = 11.5


def draw_parameter_map(
    values: ArrayLike,
    *,
    title: str,
    label: str,
    masked: ArrayLike | None = None,
    good: ArrayLike | None = None,
    other_label: str = "no good fit",
    dead: ArrayLike | None = None,
    dead_label: str = "dead",
    limits: tuple[float, float] | None = None,
    scale: Literal["linear", "log", "auto"] = "linear",
    colour_map: str | None = None,
    about: str = "",
) -> Canvas:
    """Draw one value of every pixel.

    Parameters
    ----------
    values : array, shape (rows, columns)
        NaN where there is none.
    title : str
        What it is.
    label : str
        Of the colour bar, with the unit.
    masked : array of bool, shape (rows, columns), optional
        Pixels that are masked: black.
    good : array of bool, optional
        Pixels with a good fit; the values of others are not shown, they are grey.
    other_label : str
        What those others are called.
    dead : array of bool, optional
        Pixels without hits: white, counted in the key.
    dead_label : str
        What they are called.
    limits : (float, float), optional
        Ends of the colours; a range that outliers do not stretch by default.
    scale : {"linear", "log", "auto"}
        ``auto`` is logarithmic where the values span more than a factor 30.
    colour_map : str, optional
        Of matplotlib, such as a diverging one for differences.
    about : str
        Second line of the title: chip, label.
    """
    from firstlight.view import draw
    from firstlight.view.draw_pixels import draw_pixel_key, draw_pixels

    image = np.asarray(values, dtype=np.float64)
    overlays = _overlays(image, masked, (good, other_label), (dead, dead_label))
    canvas = draw.sheet(_WIDTH, _HEIGHT)
    _heading(canvas, title, about)
    ax, bar = _places(canvas)
    draw_pixels(
        ax, image, label=label, overlays=overlays, limits=limits, scale=scale, colour_map=colour_map, colour_axes=bar
    )  # fmt: skip
    draw_pixel_key(ax, overlays)
    return canvas


def draw_count_map(
    counts: ArrayLike, *, title: str, label: str, masked: ArrayLike | None = None, about: str = ""
) -> Canvas:
    """Draw a number of every pixel that is 0 for most: those are pale, the others have a colour.

    Parameters
    ----------
    counts : array, shape (rows, columns)
        NaN where there is none.
    title, label : str
        What it is; of the colour bar, with the unit.
    masked : array of bool, shape (rows, columns), optional
        Pixels that are masked: black.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_pixels import draw_pixel_key, draw_pixels

    image = np.asarray(counts, dtype=np.float64)
    hidden = np.zeros(image.shape, dtype=bool) if masked is None else np.asarray(masked, dtype=bool)
    overlays = [Overlay("none", (image == 0) & ~hidden, "#e3e9ee"), Overlay("masked", hidden, MASKED, "////")]
    canvas = draw.sheet(_WIDTH, _HEIGHT)
    _heading(canvas, title, about)
    ax, bar = _places(canvas)
    some = image[(image > 0) & ~hidden]
    limits = (0.0, float(some.max())) if some.size else None
    draw_pixels(ax, image, label=label, overlays=overlays, limits=limits, colour_axes=bar)
    # few pixels among many: a ring shows where
    if 0 < some.size <= 300:
        row, column = np.nonzero((image > 0) & ~hidden)
        ax.plot(
            column,
            row,
            "o",
            markerfacecolor="none",
            markeredgecolor="#c8202f",
            markersize=9,
            clip_on=False,
            markeredgewidth=0.9,
        )
    draw_pixel_key(ax, overlays)
    return canvas


def _places(canvas: Canvas) -> tuple[Axes, Axes]:
    """Return the axes of a map, of three picture elements a pixel, and of its colour bar."""
    from firstlight.view import draw

    bottom = 1.05
    ax = draw.place(canvas, 0.8, bottom, _WIDTH - 0.8 - _SIDE, _HEIGHT - bottom - _SIDE, _SIZE)
    bar = draw.place(canvas, 7.35, bottom + 0.35, _WIDTH - 7.55, _HEIGHT - bottom - _SIDE + 0.35, _SIZE)
    return ax, bar


def _overlays(
    image: NDArray[np.float64],
    masked: ArrayLike | None,
    good: tuple[ArrayLike | None, str],
    dead: tuple[ArrayLike | None, str],
) -> list[Overlay]:
    nothing = np.zeros(image.shape, dtype=bool)
    hidden = nothing if masked is None else np.asarray(masked, dtype=bool)
    without_hit = nothing if dead[0] is None else np.asarray(dead[0], dtype=bool) & ~hidden
    overlays = []
    if good[0] is not None:
        other = ~np.asarray(good[0], dtype=bool) & ~hidden & ~without_hit
        overlays.append(Overlay(good[1], other, NOT_GOOD))
    if dead[0] is not None:
        overlays.append(Overlay(dead[1], without_hit, "white"))
    if masked is not None:
        overlays.append(Overlay("masked", hidden, MASKED, "////"))
    return overlays


def _heading(canvas: Canvas, title: str, about: str) -> None:
    height = canvas.get_size_inches()[1]
    canvas.text(0.02, 1 - 0.12 / height, title, fontsize=_SIZE + 2.5, weight="bold", va="top")
    canvas.text(0.02, 1 - 0.42 / height, about, fontsize=_SIZE - 1, color="#3a4149", va="top")


def draw_fit_types(
    fit_type: ArrayLike, *, masked: ArrayLike | None = None, dead: ArrayLike | None = None, about: str = ""
) -> Canvas:
    """Draw what became of the fit of every pixel, in the colours of the original tool.

    Parameters
    ----------
    fit_type : array, shape (rows, columns)
        1 good, 0 bad, -1 no convergence, -2 too few hits; NaN counts as -2.
    masked, dead : array of bool, optional
        Pixels that are masked, and those without hits where their neighbours have many.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_pixels import draw_pixel_categories

    codes = np.nan_to_num(np.asarray(fit_type, dtype=np.float64), nan=-2).astype(np.int64)
    if dead is not None:
        codes[np.asarray(dead, dtype=bool)] = 2
    if masked is not None:
        codes[np.asarray(masked, dtype=bool)] = 3
    width, bottom = 7.45, 1.6
    canvas = draw.sheet(width, 8.8)
    _heading(canvas, "Type of fit", about)
    ax = draw.place(canvas, 0.8, bottom, width - 0.8 - _SIDE, 8.8 - bottom - _SIDE, _SIZE)
    draw_pixel_categories(ax, codes, FIT_TYPES, ncols=2, hatched=(3,))
    return canvas


def draw_reasons(
    counts: Mapping[str, int],
    n_pixels: int,
    *,
    order: Sequence[str] = (),
    title: str = "Flags of pixels",
    about: str = "",
) -> Canvas:
    """Draw how many pixels carry each flag, as bars on a logarithmic axis.

    Parameters
    ----------
    counts : mapping of str to int
        Pixels by flag; a pixel may carry several.
    n_pixels : int
        All pixels, for the percentages.
    order : sequence of str
        Flags from top to bottom; as in `counts` by default.
    title : str
        First line.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw

    names = list(order or counts)
    canvas = draw.sheet(7.5, 1.5 + 0.36 * len(names))
    _heading(canvas, title, about)
    ax = draw.place(canvas, 2.3, 0.65, 1.5, 0.8, _SIZE)
    place = np.arange(len(names))[::-1]
    values = np.array([counts[name] for name in names], dtype=np.float64)
    ax.barh(place, np.maximum(values - 0.5, 0.0), left=0.5, color="#1f5f99", height=0.62)
    for y, value in zip(place, values, strict=True):
        text = f"{int(value):,}  ({100 * value / max(n_pixels, 1):.3g} %)"
        ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=_SIZE - 1.5)
    ax.set_yticks(place, [name.lower().replace("_", " ") for name in names])
    ax.set(xscale="log", xlim=(0.5, max(n_pixels, 10)), xlabel="pixels", ylim=(-0.6, len(names) - 0.4))
    ax.tick_params(axis="y", length=0)
    return canvas
