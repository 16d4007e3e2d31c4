"""Chips and cameras with thousands of pixels: a value or a category of every pixel.

Pixels of a chip stand in rows and columns, row 0 at the bottom; those of a camera are hexagons at their places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from firstlight.errors import UsageError
from firstlight.view.draw_layouts import FRAME, LAYOUTS, hexagon_corners, log_bar, no_data, text_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.patches import Patch
    from numpy.typing import ArrayLike, NDArray

    from firstlight.data.channels import ChannelMap

    Values = NDArray[np.float64]

__all__ = [
    "Overlay",
    "draw_camera",
    "draw_outline",
    "draw_pixel_categories",
    "draw_pixel_key",
    "draw_pixels",
    "draw_rings",
    "light_map",
    "robust_range",
]

PixelScale = Literal["linear", "log", "auto"]


@dataclass(frozen=True)
class Overlay:
    """Pixels that get one colour of their own, whatever their value.

    Parameters
    ----------
    label : str
        For the key.
    where : ndarray of bool, shape (rows, columns) or (n_pixels,)
        Which pixels, of a chip or of a camera.
    colour : str
        Their colour.
    hatch : str
        Hatch of the patch in the key: a single pixel of many is too small for one.
    """

    label: str
    where: NDArray[np.bool_]
    colour: str
    hatch: str = ""


def robust_range(values: ArrayLike, reach: float = 3.0) -> tuple[float, float]:
    """Return a range that a few values far outside do not stretch.

    It reaches `reach` standard deviations to each side of the median, each from the quantile of that side at
    15.9 %, but not beyond the values.

    Parameters
    ----------
    values : array
        NaN and infinite ones are left out.
    reach : float
        Standard deviations to each side.

    Returns
    -------
    (float, float)
        Low and high end, low < high; (0, 1) without any value.
    """
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    if not finite.size:
        return 0.0, 1.0
    low, middle, high = (float(value) for value in np.quantile(finite, (0.1587, 0.5, 0.8413)))
    low = max(float(finite.min()), middle - reach * (middle - low))
    high = min(float(finite.max()), middle + reach * (high - middle))
    if not low < high:
        margin = 0.5 * abs(middle) or 0.5
        return middle - margin, middle + margin
    return low, high


def light_map(name: str = "viridis") -> Colormap:
    """Return a colour map of matplotlib without its darkest part: black stays free for masked pixels."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        f"light {name}", mpl.colormaps[name](np.linspace(0.16, 1.0, 256))
    )


def draw_pixels(
    ax: Axes,
    values: ArrayLike,
    *,
    label: str,
    overlays: Sequence[Overlay] = (),
    limits: tuple[float, float] | None = None,
    scale: PixelScale = "linear",
    colour_map: str | Colormap | None = None,
    colour_axes: Axes | None = None,
    empty: str = "white",
) -> Axes:
    """Draw the value of every pixel of a chip; pixels without a value are white.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array, shape (rows, columns)
        NaN where there is no value.
    label : str
        Of the colour bar, with the unit.
    overlays : sequence of Overlay
        Pixels that get a colour of their own; later ones lie above earlier ones.
    limits : (float, float), optional
        Ends of the colours; `robust_range` of the values drawn by default.
    scale : {"linear", "log", "auto"}
        ``auto`` is logarithmic where positive values span more than a factor 30.
    colour_map : str or Colormap, optional
        A name of matplotlib; `light_map` by default.
    colour_axes : matplotlib Axes, optional
        Where the colour bar stands; beside `ax` by default.
    empty : str
        Colour of pixels without a value.

    Returns
    -------
    matplotlib Axes
        `ax`. Values outside the colours are counted above and below the colour bar.

    Raises
    ------
    UsageError
        If the values or an overlay have another shape than (rows, columns).
    """
    image = _checked(values, overlays)
    painted = _paint(image, overlays, limits, scale, colour_map, empty)
    if not painted.shown.size:
        if colour_axes is not None:
            colour_axes.set_axis_off()
        if not overlays:
            return no_data(ax, "no pixel has a value")
    _show(ax, painted.pixels)
    if painted.shown.size:
        _colour_bar(ax, painted, label, colour_axes)
    return ax


class _Painted(NamedTuple):
    """Colours of all pixels, and what the colour bar needs: values drawn, norm, colour map, whether it is logarithmic."""

    pixels: NDArray[np.uint8]
    shown: Values
    norm: Any
    colours: Colormap
    log: bool


def _paint(
    image: Values,
    overlays: Sequence[Overlay],
    limits: tuple[float, float] | None,
    scale: PixelScale,
    colour_map: str | Colormap | None,
    empty: str,
) -> _Painted:
    """Return the colours of pixels in an array of any shape."""
    from matplotlib.colors import LogNorm, Normalize, to_rgba

    free = np.isfinite(image)
    for overlay in overlays:
        free &= ~overlay.where
    shown = image[free]
    log = _is_log(shown, scale)
    if log:
        free &= image > 0
        shown = image[free]
    low, high = limits or _limits_of(shown, log)
    norm: Normalize = LogNorm(low, high) if log else Normalize(low, high)
    colours = light_map() if colour_map is None else _named(colour_map)
    pixels = np.empty((*image.shape, 4), dtype=np.uint8)
    pixels[:] = _bytes(to_rgba(empty))
    pixels[free] = colours(np.asarray(norm(np.clip(shown, low, high))), bytes=True)
    for overlay in overlays:
        pixels[overlay.where] = _bytes(to_rgba(overlay.colour))
    return _Painted(pixels, shown, norm, colours, log)


def draw_camera(
    ax: Axes,
    values: ArrayLike,
    channels: ChannelMap,
    *,
    label: str,
    overlays: Sequence[Overlay] = (),
    limits: tuple[float, float] | None = None,
    scale: PixelScale = "linear",
    colour_map: str | Colormap | None = None,
    colour_axes: Axes | None = None,
    empty: str = "white",
) -> Axes:
    """Draw the value of every pixel of a camera of hexagons.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array, shape (n_pixels,)
        NaN where there is no value.
    channels : ChannelMap
        Of layout ``hexagons``: where the pixels are.
    label : str
        Of the colour bar, with the unit.
    overlays : sequence of Overlay
        Pixels that get a colour of their own; later ones lie above earlier ones.
    limits, scale, colour_map, colour_axes, empty
        As of `draw_pixels`.

    Returns
    -------
    matplotlib Axes
        `ax`. Values outside the colours are counted above and below the colour bar.

    Raises
    ------
    UsageError
        If there is not one value, or one truth of an overlay, for each channel.
    """
    array = np.asarray(values, dtype=np.float64)
    for name, size in (("values", array.shape), *((f"overlay {o.label!r}", o.where.shape) for o in overlays)):
        if size != (len(channels),):
            what = f"{name} of pixels: shape {size}, there are {len(channels)} pixels"
            raise UsageError(what, where=repr(channels))
    painted = _paint(array, overlays, limits, scale, colour_map, empty)
    if not painted.shown.size:
        if colour_axes is not None:
            colour_axes.set_axis_off()
        if not overlays:
            return no_data(ax, "no pixel has a value")
    everything = np.ones(array.size, dtype=bool)
    LAYOUTS["hexagons"](ax, painted.pixels / 255, channels, everything, None, (None, None, False, False))
    if painted.shown.size:
        _colour_bar(ax, painted, label, colour_axes)
    return ax


def draw_rings(
    ax: Axes, channels: ChannelMap, where: ArrayLike, *, colour: str = "#d0342c", width: float = 1.3
) -> None:
    """Draw a ring inside of some hexagonal pixels, whose colours stay seen."""
    from matplotlib.collections import PolyCollection

    centre = _centres(channels)
    chosen = np.asarray(where, dtype=bool)
    if chosen.any():
        shapes = list(centre[chosen][:, np.newaxis] + 0.82 * hexagon_corners(centre))
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "linewidths": width}
        ax.add_collection(PolyCollection(shapes, **style), autolim=False)


def draw_outline(
    ax: Axes, channels: ChannelMap, where: ArrayLike, *, colour: str = "#20262c", width: float = 1.2
) -> None:
    """Draw a line around a group of hexagonal pixels; groups that do not touch get one each.

    Parameters
    ----------
    ax : matplotlib Axes
        With the pixels.
    channels : ChannelMap
        Of layout ``hexagons``.
    where : array of bool, shape (n_pixels,)
        Which pixels are in the group.
    colour, width : str, float
        Of the line; width in points.
    """
    from matplotlib.collections import LineCollection
    from scipy.spatial import KDTree

    centre = _centres(channels)
    inside = centre[np.asarray(where, dtype=bool)]
    if not inside.size:
        return
    corners = hexagon_corners(centre)
    ends = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    edges = (inside[:, np.newaxis, np.newaxis] + ends).reshape(-1, 2, 2)
    # the pixel beyond a side stands as far from it as its own; where that is in the group, too, there is no line
    beyond = (inside[:, np.newaxis] + 2 * ends.mean(axis=1)).reshape(-1, 2)
    distance, _ = KDTree(inside).query(beyond)
    outer = edges[distance > 0.2 * float(np.abs(corners).max())]
    style: dict[str, Any] = {"colors": colour, "linewidths": width, "capstyle": "round", "zorder": 3}
    ax.add_collection(LineCollection(list(outer), **style), autolim=False)


def _centres(channels: ChannelMap) -> Values:
    return np.stack([channels.column(name).astype(np.float64) for name in ("x", "y")], axis=1)


def _checked(values: ArrayLike, overlays: Sequence[Overlay]) -> Values:
    image = np.asarray(values, dtype=np.float64)
    if image.ndim != 2:
        what = f"values of pixels have the shape {image.shape}, expected (rows, columns)"
        raise UsageError(what, hint="values.reshape(rows, columns)")
    for overlay in overlays:
        if overlay.where.shape != image.shape:
            what = f"overlay {overlay.label!r} has the shape {overlay.where.shape}, the values {image.shape}"
            raise UsageError(what)
    return image


def _is_log(shown: Values, scale: PixelScale) -> bool:
    if scale != "auto":
        return scale == "log"
    positive = shown[shown > 0]
    if positive.size < 0.9 * max(shown.size, 1):
        return False
    low, high = np.quantile(positive, (0.02, 0.98))
    return bool(high > 30 * low)


def _limits_of(shown: Values, log: bool) -> tuple[float, float]:
    if not log:
        return robust_range(shown)
    # wide distributions on a logarithmic scale: nearly all of them
    low, high = (float(value) for value in np.quantile(shown, (0.005, 0.998))) if shown.size else (0.1, 1.0)
    return (low, high) if low < high else (0.5 * low, 2 * low)


def _named(colour_map: str | Colormap) -> Colormap:
    import matplotlib as mpl

    return mpl.colormaps[colour_map] if isinstance(colour_map, str) else colour_map


def _bytes(colour: tuple[float, ...]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(255 * np.asarray(colour)), dtype=np.uint8)


def _show(ax: Axes, pixels: NDArray[np.uint8]) -> None:
    rows, columns = pixels.shape[:2]
    extent = (-0.5, columns - 0.5, -0.5, rows - 0.5)
    ax.imshow(pixels, extent=extent, origin="lower", interpolation="none")
    ax.set(xlabel="column", ylabel="row")
    for axis, size in ((ax.xaxis, columns), (ax.yaxis, rows)):
        step = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128, size) if size / step <= 9)
        ticks = [*range(0, size, step), size - 1]
        if len(ticks) > 2 and ticks[-1] - ticks[-2] < 0.6 * step:
            ticks.pop(-2)
        axis.set_ticks(ticks)
    for spine in ax.spines.values():
        spine.set(visible=True, color=FRAME, linewidth=0.8)


def _colour_bar(ax: Axes, painted: _Painted, label: str, bar: Axes | None) -> None:
    from matplotlib.cm import ScalarMappable

    _, shown, norm, colours, log = painted
    below, above = int((shown < norm.vmin).sum()), int((shown > norm.vmax).sum())
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max"}.get((below > 0, above > 0), "both")
    places: dict[str, Any] = {"ax": ax, "pad": 0.02, "fraction": 0.05} if bar is None else {"cax": bar}
    drawn = ax.figure.colorbar(
        ScalarMappable(norm, colours), extend=extend, extendfrac=0.03, label=label, **places
    )
    drawn.outline.set_visible(False)
    if log:
        log_bar(drawn, norm.vmin, norm.vmax)
    size = 0.85 * text_size(ax)
    style: dict[str, Any] = {"transform": drawn.ax.transAxes, "fontsize": size, "ha": "left"}
    drawn.ax.text(0.0, 1.045, f"above: {above:,}", va="bottom", **style)
    drawn.ax.text(0.0, -0.045, f"below: {below:,}", va="top", **style)
    drawn.ax.tick_params(labelsize=text_size(ax))
    drawn.ax.yaxis.label.set_fontsize(text_size(ax))


def draw_pixel_key(ax: Axes, overlays: Sequence[Overlay], *, ncols: int | None = None) -> None:
    """Write below an axes what the colours of overlays mean, and how many pixels have each."""
    handles = [_patch(o.label, o.colour, int(o.where.sum()), o.hatch) for o in overlays]
    if handles:
        _key_below(ax, handles, ncols or len(handles))


def _patch(label: str, colour: str, number: int, hatch: str = "") -> Patch:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    dark = sum(to_rgb(colour)) < 1.2
    patch = Patch(
        facecolor=colour, edgecolor="white" if dark and hatch else FRAME, label=f"{label} {number:,}"
    )
    if hatch:
        patch.set_hatch(hatch)
    return patch


def _key_below(ax: Axes, handles: list[Patch], ncols: int) -> None:
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.06, -0.1),
        ncols=ncols,
        fontsize=0.92 * text_size(ax),
        handlelength=1.4,
        columnspacing=1.1,
        borderaxespad=0.0,
    )


def draw_pixel_categories(
    ax: Axes,
    codes: ArrayLike,
    categories: Mapping[int, tuple[str, str]],
    *,
    ncols: int = 3,
    hatched: Sequence[int] = (),
) -> Axes:
    """Draw to which category every pixel belongs, with the number of pixels of each in the key.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    codes : array of int, shape (rows, columns)
        Category of each pixel.
    categories : mapping
        Name and colour of each code, in the order of the key.
    ncols : int
        Columns of the key.
    hatched : sequence of int
        Codes whose patch in the key is hatched.

    Raises
    ------
    UsageError
        If a pixel has a code without a name; names those that have one.
    """
    from matplotlib.colors import to_rgba

    numbers = np.asarray(codes)
    pixels = np.zeros((*numbers.shape, 4), dtype=np.uint8)
    handles = []
    for code in np.unique(numbers):
        if int(code) not in categories:
            raise UsageError.unknown("category", str(code), [str(known) for known in categories])
    for code, (name, colour) in categories.items():
        where = numbers == code
        pixels[where] = _bytes(to_rgba(colour))
        hatch = "////" if code in hatched else ""
        handles.append(_patch(name, colour, int(where.sum()), hatch))
    _show(ax, pixels)
    _key_below(ax, handles, ncols)
    return ax
