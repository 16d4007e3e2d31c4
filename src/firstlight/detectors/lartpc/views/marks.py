"""Colours of charge, and the marks of the truth: where it began, which way it went, what happened on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.track import INTERACTION_KINDS
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Truth
    from firstlight.detectors.lartpc.views.cubes import Cube
    from firstlight.detectors.lartpc.views.scene import Layer

    Floats = NDArray[np.float64]
    Transform = Callable[[Floats], tuple[Floats, ...]]

__all__ = [
    "ABOVE",
    "KINDS",
    "NO_LABEL",
    "ORIGIN",
    "Mark",
    "charge_colours",
    "charge_norm",
    "charge_ticks",
    "colours_of",
    "draw_truth",
    "key_columns",
    "key_of_truth",
    "label_colours",
    "marker_area",
    "marks_of",
    "path_in",
]

ABOVE = 20.0  # keV
ORIGIN = "#d0342c"
NO_LABEL = "#b9c4cf"
_ALWAYS = ("pair", "annihilation")
_INK = "#111111"
_COMES_IN: tuple[Any, str] = ((0, (2, 2)), "photon comes in")
_SETS_OUT: tuple[Any, str] = ("-", "initial direction")
_LABELS = (
    "#1f5f99", "#d1662a", "#3b8c5a", "#8e5ba6", "#a8323e", "#b59b2b", "#3fa7a7", "#d77fb0", "#5b7083", "#7a5230",
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """How a kind of interaction is marked: words, symbol of matplotlib and the same one of plotly, colour, if it is filled."""

    words: str
    symbol: str
    page_symbol: str
    colour: str
    filled: bool = False


# Symbols differ as well as colours; open ones leave the charge below visible. Axes in space of plotly have no others.
KINDS = {
    "brem": Mark("bremsstrahlung", "D", "diamond-open", "#d0342c"),
    "compton": Mark("Compton", "o", "circle-open", "#b0508e"),
    "photo": Mark("photoelectric", "s", "square-open", "#7a5230"),
    "pair": Mark("pair", "D", "diamond", _INK, filled=True),
    "delta": Mark("delta ray", "P", "cross", "#56616c", filled=True),
    "annihilation": Mark("annihilation", "X", "x", "#e07b00", filled=True),
}


def marks_of(truth: Truth, above: float = ABOVE) -> dict[str, tuple[Floats, Floats]]:
    """Return positions, shape (3, n) [m], and energies [keV] of the interactions of each kind that occurred.

    Parameters
    ----------
    truth : Truth
        Of a track.
    above : float
        What is below this energy [keV] is left out, but for pairs and annihilations: there are very many
        fluorescence photons, soft delta rays and bremsstrahlung photons.
    """
    found = {}
    for kind in INTERACTION_KINDS:
        chosen = truth.interactions.of(kind, 0.0 if kind in _ALWAYS else above)
        if len(chosen):
            found[kind] = (chosen.position, chosen.energy)
    return found


def least_text(kind: str, above: float) -> str:
    """Return what a legend says of the energy above which a kind is marked."""
    return "" if kind in _ALWAYS or above <= 0 else f" > {above:g} keV"


def draw_truth(
    ax: Any, truth: Truth, cube: Cube, transform: Transform, *, above: float = ABOVE, size: float = 34.0,
    origin: bool = True, direction: bool = True, interactions: bool = True,
) -> list[Any]:  # fmt: skip
    """Mark the truth in an axes of two or three dimensions.

    Parameters
    ----------
    ax : matplotlib Axes or Axes3D
        Where to draw.
    truth : Truth
        What to mark.
    cube : Cube
        What the axes shows; marks outside are counted in the legend, not drawn.
    transform : callable
        From positions, shape (3, n) [m], to the coordinates of the axes.
    above : float
        As in `marks_of`.
    size : float
        Area of a mark [pt2].
    origin, direction, interactions : bool
        What to mark.

    Returns
    -------
    list of artists
        Handles for a legend.
    """
    handles: list[Any] = []
    # axes in space sort by depth unless told otherwise: marks belong on top
    if direction:
        before, after = path_in(truth, cube)
        for path, (style, words) in ((before, _COMES_IN), (after, _SETS_OUT)):
            if path is None:
                continue
            ax.plot(*transform(path), color=_INK, linewidth=1.3, linestyle=style, zorder=20)
            handles.append(_line_handle(style, words))
    if interactions:
        for kind, (positions, _) in marks_of(truth, above).items():
            least = least_text(kind, above)
            handles.append(_draw_kind(ax, KINDS[kind], positions, cube, transform, size, least))
    if origin:
        inside = cube.holds(truth.origin[:, np.newaxis])[0]
        look: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.6, **_unshaded(ax)}
        if inside:
            ax.scatter(
                *transform(truth.origin[:, np.newaxis]), s=2.6 * size, zorder=22, marker="*", facecolors=ORIGIN, **look
            )  # fmt: skip
        words = "origin" if truth.particle != "photon" else "origin: first deposit"
        handles.append(_origin_handle(words if inside else f"{words} (outside)"))
    return handles


def key_columns(width: float) -> int:
    """Return in how many columns the handles of `draw_truth` fit below a figure of so many inches, in two rows at most."""
    return max(1, int(width // 2.7))


def key_of_truth(truths: Iterable[Truth | None]) -> list[Any]:
    """Return handles for the legend of a sheet on which direction and origin of many events are marked."""
    particles = {truth.particle for truth in truths if truth is not None}
    handles = [_line_handle(*_SETS_OUT)] if particles - {"photon"} else []
    handles += [_line_handle(*_COMES_IN)] if "photon" in particles else []
    words = "origin" + ("" if "photon" not in particles else ", of a photon its first deposit")
    return [*handles, _origin_handle(words)] if particles else []


def _line_handle(style: Any, words: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=_INK, linewidth=1.3, linestyle=style, label=words)


def _origin_handle(words: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], linestyle="", marker="*", color=ORIGIN, markersize=9, markeredgecolor="white", markeredgewidth=0.5,
        label=words,
    )  # fmt: skip


def _draw_kind(
    ax: Any, mark: Mark, positions: Floats, cube: Cube, transform: Transform, size: float, least: str
) -> Any:
    from matplotlib.lines import Line2D

    inside = cube.holds(positions)
    face = mark.colour if mark.filled else "none"
    look: dict[str, Any] = {"marker": mark.symbol, "zorder": 21, "facecolors": face, **_unshaded(ax)}
    look |= (
        {"edgecolors": "white", "linewidths": 0.5}
        if mark.filled
        else {"edgecolors": mark.colour, "linewidths": 1.1}
    )
    if inside.any():
        ax.scatter(*transform(positions[:, inside]), s=size, **look)
    outside = int((~inside).sum())
    words = f"{mark.words}{least}: {int(inside.sum())}" + (f" (+{outside} outside)" if outside else "")
    return Line2D(
        [], [], linestyle="", marker=mark.symbol, markersize=6, label=words, markerfacecolor=face,
        markeredgecolor=mark.colour, markeredgewidth=1.1,
    )  # fmt: skip


def _unshaded(ax: Any) -> dict[str, Any]:
    """Return the argument that keeps marks in space from fading with their distance."""
    return {"depthshade": False} if ax.name == "3d" else {}


def path_in(truth: Truth, cube: Cube) -> tuple[Floats | None, Floats | None]:
    """Return the line on which a photon comes in, and a short one along the first direction, both inside the cube.

    A photon ends its line at the origin, where it first gives energy away. Shape (3, 2) each [m], or None.
    """
    length = float(np.linalg.norm(truth.direction))
    if not np.isfinite(length) or length == 0 or not cube.holds(truth.origin[:, np.newaxis])[0]:
        return None, None
    along = truth.direction / length
    # distance from the origin to the faces of the cube, backwards
    with np.errstate(divide="ignore", invalid="ignore"):
        faces = (cube.limits - truth.origin[:, np.newaxis]) / along[:, np.newaxis]
    back = np.where(np.isfinite(faces), faces, -np.inf).min(axis=1).max()
    before = None
    if truth.particle == "photon":
        far = max(float(back), -0.3 * cube.edge)
        before = truth.origin[:, np.newaxis] + along[:, np.newaxis] * np.array([far, 0.0])
        return before, None
    ahead = np.where(np.isfinite(faces), faces, np.inf).max(axis=1).min()
    reach = min(float(ahead), 0.22 * cube.edge)
    return None, truth.origin[:, np.newaxis] + along[:, np.newaxis] * np.array([0.0, reach])


# ---------------------------------------------------------------- colours


def charge_colours() -> Colormap:
    """Return the colour map of charge: viridis without its palest end, which white paper swallows."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("charge", mpl.colormaps["viridis"](np.linspace(0.0, 0.93, 256)))


def charge_norm(layers: Sequence[Layer], limits: tuple[float, float] | None = None) -> Normalize:
    """Return one logarithmic scale for the charge of all layers.

    Markers below its low end hold a fiftieth of the charge of their layer.

    Parameters
    ----------
    layers : sequence of Layer
        What is drawn.
    limits : (float, float), optional
        Ends that are wanted [electrons].
    """
    from matplotlib.colors import LogNorm

    if limits is None:
        charges = [np.sort(layer.charge[layer.charge > 0]) for layer in layers]
        charges = [given for given in charges if given.size]
        if not charges:
            return LogNorm(1, 10)
        low = max(
            1.0, min(float(given[np.searchsorted(np.cumsum(given), 0.02 * given.sum())]) for given in charges)
        )
        limits = low, max(max(float(given[-1]) for given in charges), 2 * low)
    if not 0 < limits[0] < limits[1]:
        what = f"colours from {limits[0]} to {limits[1]} electrons are no scale"
        raise UsageError(what, hint="a low end above 0 and a higher high end")
    return LogNorm(*limits, clip=True)


def charge_ticks(norm: Normalize, most: int = 8) -> tuple[list[float], list[str]]:
    """Return ticks of a logarithmic scale of charge, as many round numbers of each decade as fit."""
    from firstlight.view.draw import short_number

    low, high = float(norm.vmin or 1.0), float(norm.vmax or 1.0)
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.zeros(0)
    for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = np.outer(10.0**decades, steps).ravel()
        ticks = ticks[(ticks >= 0.999 * low) & (ticks <= 1.001 * high)]
        if ticks.size <= most:
            break
    return ticks.tolist(), [short_number(tick) for tick in ticks]


def marker_area(
    charge: Floats,
    full: float,
    largest: float | None = None,
    smallest: float = 1.6,
    number: int | None = None,
) -> Floats:
    """Return areas of markers [pt2] that grow as the charge does.

    Parameters
    ----------
    charge : ndarray
        Of each marker [electrons].
    full : float
        Charge that has the largest area.
    largest, smallest : float
        Areas [pt2]; the largest shrinks where there are very many markers, unless it is given.
    number : int, optional
        How many markers there are in all.
    """
    if largest is None:
        largest = float(np.clip(42.0 * np.sqrt(300 / max(number or charge.size, 1)), 9.0, 42.0))
    share = np.clip(charge / full, 0.0, 1.0) if full > 0 else np.zeros_like(charge)
    return np.asarray(np.maximum(largest * share, smallest))


def label_colours(labels: NDArray[np.int64]) -> list[str]:
    """Return a colour for each label: grey below 0, then one after the other, again and again."""
    return [NO_LABEL if label < 0 else _LABELS[int(label) % len(_LABELS)] for label in labels]


def colours_of(layer: Layer, colour_by: str, norm: Normalize) -> dict[str, Any]:
    """Return arguments of `scatter` that colour a layer by charge, label or drift time.

    Raises
    ------
    UsageError
        If the layer does not have what it is to be coloured by.
    """
    if colour_by == "charge":
        return {"c": layer.charge, "norm": norm, "cmap": charge_colours()}
    if colour_by == "label" and layer.label is not None:
        return {"c": label_colours(layer.label)}
    if colour_by in layer.values:
        return {"c": layer.values[colour_by], "cmap": "cividis"}
    has = ["charge", *(["label"] if layer.label is not None else []), *layer.values]
    raise UsageError.unknown("quantity to colour by", colour_by, has, where=f"layer {layer.name}")


def key_of_labels(layer: Layer, words: str, most: int = 8) -> list[Any]:
    """Return handles for a legend of labels with their share of the charge, largest first."""
    from matplotlib.lines import Line2D

    if layer.label is None or not len(layer):
        return []
    labels, place = np.unique(layer.label, return_inverse=True)
    charge = np.bincount(place, weights=layer.charge)
    order = np.argsort(-charge, kind="stable")
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=6, color=label_colours(labels[[index]])[0],
               label=f"{'rest' if labels[index] < 0 else f'{words} {labels[index]}'}: {charge[index] / charge.sum():.1%}")
        for index in order[:most]
    ]  # fmt: skip
    if order.size > most:
        more = order[most:]
        label = f"{more.size} more: {charge[more].sum() / charge.sum():.1%}"
        handles.append(Line2D([], [], linestyle="", label=label))
    return handles


def bar_label(layers: Sequence[Layer]) -> str:
    """Return the label of the colour bar: electrons of what."""
    kinds = list(dict.fromkeys(layer.marker for layer in layers))
    return f"electrons per {kinds[0]}" if len(kinds) == 1 else "electrons per voxel or sample"


def finish_axes(
    ax: Axes, cube: Cube, names: tuple[str, str], axes: tuple[int, int], units: str, scale: float
) -> None:
    """Give a flat axes the limits of two axes of the cube, the same scale on both, labels and units."""
    limits = cube.limits * scale
    ax.set(
        xlim=limits[axes[0]],
        ylim=limits[axes[1]],
        xlabel=f"{names[0]} [{units}]",
        ylabel=f"{names[1]} [{units}]",
    )
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)
