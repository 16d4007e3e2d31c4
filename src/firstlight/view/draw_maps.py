"""Maps: the value or the state of every channel at its place in the detector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.errors import UsageError
from firstlight.view.draw_layouts import FLAGGED, FRAME, LAYOUTS, MASKED, ZERO, log_bar, no_data, text_size
from firstlight.view.style import ABSENT, STATE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.patches import Patch
    from numpy.typing import ArrayLike, NDArray

    from firstlight.data.channels import ChannelMap

    Pixels = NDArray[np.float64]

__all__ = [
    "Scale",
    "draw_channel_map",
    "draw_state_map",
    "key_patches",
]

Scale = Literal["linear", "log", "per-group"]


@dataclass(frozen=True)
class _Colours:
    """Numbers as they are looked up in the colour bar, and the bar."""

    values: Pixels
    norm: Normalize
    map: Colormap
    extend: str
    label: str
    empty: bool


def _colours(
    values: Pixels,
    group: NDArray[np.int64] | None,
    scale: Scale,
    label: str,
    limits: tuple[float, float] | None,
    zero_is_empty: bool,
) -> _Colours:
    import matplotlib as mpl
    from matplotlib.colors import LogNorm, Normalize

    filled = np.isfinite(values) & ((values != 0) | (not zero_is_empty))
    if scale == "per-group":
        values = _relative(values, filled, np.zeros(values.size, dtype=np.int64) if group is None else group)
        limits = limits or (0.0, 1.0)
    usable = filled & ((values > 0) | (scale != "log"))
    shown = values[usable]
    of_shown = None if group is None else group[usable]
    low, high = limits or _limits(shown, of_shown, scale, zero_is_empty)
    if not low < high:
        low, high = (high / 10, high) if scale == "log" and high > 0 else (low - 0.5, low + 0.5)
    norm: Normalize = LogNorm(low, high) if scale == "log" else Normalize(low, high)
    ends = (bool((shown < low).any()), bool((shown > high * (1 + 1e-9)).any()))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(ends, "both")
    return _Colours(values, norm, mpl.colormaps["viridis_r"], extend, label, not shown.size)


def _relative(values: Pixels, filled: NDArray[np.bool_], group: NDArray[np.int64]) -> Pixels:
    """Return the values relative to the largest one of their group."""
    values = values.copy()
    for number in np.unique(group[filled]):
        of_group = filled & (group == number)
        # a single hot channel must not bleach its group: it goes off the scale instead
        top = min(values[of_group].max(), 1.6 * np.quantile(values[of_group], 0.95))
        values[of_group] /= top if top > 0 else 1.0
    return values


def _limits(
    shown: Pixels, group: NDArray[np.int64] | None, scale: Scale, zero_is_empty: bool
) -> tuple[float, float]:
    """Return the ends of the colour bar."""
    if not shown.size:
        return (0.1, 1.0) if scale == "log" else (0.0, 1.0)
    low, high = float(shown.min()), float(shown.max())
    if scale != "log":
        # a few channels far above all others go off the scale
        usual = 3 * float(np.quantile(shown, 0.99)) if shown.size > 100 else high
        high = min(high, usual) if usual > 0 and zero_is_empty else high
        return (min(0.0, low) if zero_is_empty else low), high
    if shown.size > 400:
        # the few lowest share the end of the bar, so that all groups get their part of the colours
        ends = [float(np.quantile(shown, 0.005 if group is None else 0.05))]
        if group is not None:
            sizes = np.bincount(group)
            of_group = [shown[group == i] for i in np.flatnonzero(sizes >= 0.2 * np.median(sizes[sizes > 0]))]
            ends += [0.25 * float(np.median(part)) for part in of_group]
        low = max(low, min(ends))
    return low, high


def _paint(
    colours: _Colours, optional: NDArray[np.bool_], states: NDArray[Any] | None, zero_is_empty: bool
) -> Pixels:
    """Return the colour of each channel, of shape (n_channels, 4)."""
    from matplotlib.colors import to_rgba

    values = colours.values
    # what is below the bar has the colour of its end, also 0 on a logarithmic one
    inside = np.clip(np.nan_to_num(values), colours.norm.vmin, colours.norm.vmax)
    pixels = np.asarray(colours.map(np.asarray(colours.norm(inside))), dtype=np.float64)
    pixels[~np.isfinite(values)] = to_rgba(STATE_COLOURS["no_statistics"])
    if zero_is_empty:
        pixels[values == 0] = to_rgba(ZERO)
        pixels[(values == 0) & optional] = to_rgba(ABSENT)
    if states is not None:
        pixels[states == "masked"] = to_rgba(MASKED)
        pixels[(states == "absent")] = to_rgba(ABSENT)
    return pixels


def _add_colour_bar(ax: Axes, colours: _Colours, bar: Axes | None) -> None:
    """Draw the colour bar beside an axes, or in an axes of its own; none where no value is drawn."""
    if colours.empty:
        if bar is not None:
            bar.set_axis_off()
        return
    from matplotlib.cm import ScalarMappable

    mappable = ScalarMappable(colours.norm, colours.map)
    places: dict[str, Any] = {"ax": ax, "pad": 0.01, "fraction": 0.05} if bar is None else {"cax": bar}
    drawn = ax.figure.colorbar(mappable, extend=colours.extend, label=colours.label, **places)
    drawn.outline.set_visible(False)
    if type(colours.norm).__name__ == "LogNorm":
        low, high = colours.norm.vmin or 1.0, colours.norm.vmax or 1.0
        inches = drawn.ax.bbox.height / ax.figure.dpi
        log_bar(drawn, low, high, most=max(3, min(8, int(3.6 * inches))))


def _checked(values: ArrayLike, channels: ChannelMap, name: str = "values") -> Pixels:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(channels),):
        what = f"{name} have the shape {array.shape}, there are {len(channels)} channels"
        raise UsageError(what, where=repr(channels))
    return array


def _checked_states(states: Sequence[str] | NDArray[Any] | None, channels: ChannelMap) -> NDArray[Any] | None:
    if states is None:
        return None
    array = np.asarray(states, dtype=str)
    if array.shape != (len(channels),):
        what = f"states have the shape {array.shape}, there are {len(channels)} channels"
        raise UsageError(what, where=repr(channels))
    for state in np.unique(array):
        if state not in STATE_COLOURS:
            raise UsageError.unknown("state", str(state), STATE_COLOURS)
    return array


def draw_channel_map(
    ax: Axes,
    values: ArrayLike,
    channels: ChannelMap,
    *,
    scale: Scale = "linear",
    states: Sequence[str] | NDArray[Any] | None = None,
    separators: bool = True,
    colour_label: str = "hits",
    groups: Sequence[str] | None = None,
    sections: Sequence[str] | None = None,
    horizontal: bool = False,
    limits: tuple[float, float] | None = None,
    zero_is_empty: bool = True,
    colour_axes: Axes | None = None,
    colour_map: str = "viridis_r",
) -> Axes:
    """Draw one value of every channel at its place.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array of float, shape (n_channels,)
        In the order of the channel map; NaN where there is none.
    channels : ChannelMap
        Any layout: ``planes`` are columns of positions, ``grid`` rows and columns, ``hexagons`` a camera,
        ``strips`` a profile.
    scale : {"linear", "log", "per-group"}
        One colour scale for all, or each group relative to its own largest value. Channels far above
        all others go off the scale, which the colour bar shows by an arrow.
    states : sequence of str, shape (n_channels,), optional
        States as in `STATE_COLOURS`: masked channels are hatched; hot, dead and low ones get a tick in their
        colour.
    separators : bool
        Lines and labels between the sections of planes.
    colour_label : str
        What the colour is, with its unit.
    groups, sections : sequence of str, optional
        Groups to draw in order, and the section of each; those of the channel map by default.
    horizontal : bool
        Planes as rows, the first on top, with positions along x.
    limits : (float, float), optional
        Ends of the colour bar in place of those of the values.
    zero_is_empty : bool
        Values are counts: 0 has a colour of its own, and optional channels with 0 are absent.
    colour_axes : matplotlib Axes, optional
        Where the colour bar stands; beside `ax` by default.
    colour_map : str
        Name of a matplotlib colour map; a diverging one for differences and ratios.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    import matplotlib as mpl

    array, flags = _checked(values, channels), _checked_states(states, channels)
    if not len(channels):
        return no_data(ax, "the channel map has no channels")
    if channels.layout == "strips":
        return _strips(ax, array, channels, flags, colour_label)
    chosen = np.ones(array.size, dtype=bool)
    if groups is not None:
        wanted = [channels.channels_of(group) for group in groups]
        chosen = np.zeros(array.size, dtype=bool)
        chosen[np.concatenate([np.empty(0, dtype=np.int64), *wanted])] = True
    group = channels.group_index if "group" in channels.frame.columns else None
    of_chosen = None if group is None else group[chosen]
    colours = _colours(array[chosen], of_chosen, scale, colour_label, limits, zero_is_empty)
    colours = replace(colours, map=mpl.colormaps[colour_map])
    pixels = np.zeros((array.size, 4))
    pixels[chosen] = _paint(
        colours, channels.optional[chosen], None if flags is None else flags[chosen], zero_is_empty
    )
    LAYOUTS[channels.layout](ax, pixels, channels, chosen, flags, (groups, sections, separators, horizontal))
    _add_colour_bar(ax, colours, colour_axes)
    return ax


def draw_state_map(
    ax: Axes,
    states: Sequence[str] | NDArray[Any],
    channels: ChannelMap,
    *,
    groups: Sequence[str] | None = None,
    sections: Sequence[str] | None = None,
    separators: bool = True,
    horizontal: bool = False,
    key_place: tuple[float, float] | None = (0.99, 0.99),
) -> Axes:
    """Draw the state of every channel, with the number of channels in each state in the key.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    states : sequence of str, shape (n_channels,)
        States as in `STATE_COLOURS`.
    channels : ChannelMap
        Layout ``planes``, ``grid`` or ``hexagons``.
    groups, sections, separators, horizontal
        As of `draw_channel_map`.
    key_place : (float, float), optional
        Upper right corner of the key, as fractions of the figure; None for no key.
    """
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    flags = _checked_states(states, channels)
    if flags is None or not flags.size:
        return no_data(ax, "no channel was judged")
    if channels.layout == "strips":
        return _strips(ax, np.ones(flags.size), channels, flags, "")
    chosen = np.ones(flags.size, dtype=bool)
    if groups is not None:
        index = [channels.group_names.index(group) for group in groups]
        chosen = np.isin(channels.group_index, index)
    # channels that are well are pale, so that the others are seen
    palette = {**STATE_COLOURS, "ok": "#d5e8dc", "absent": ABSENT}
    pixels = np.array([to_rgba(palette[state]) for state in STATE_COLOURS])
    pixels = pixels[np.array([list(STATE_COLOURS).index(state) for state in flags])]
    # the colours tell everything: no ticks
    hatched = np.where(flags == "masked", flags, "ok")
    LAYOUTS[channels.layout](
        ax, pixels, channels, chosen, hatched, (groups, sections, separators, horizontal)
    )
    if key_place is not None:
        names, counts = np.unique(flags[chosen], return_counts=True)
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        handles = [
            Patch(
                facecolor=palette[state], edgecolor=FRAME, label=f"{state.replace('_', ' ')} {found[state]:,}"
            )
            for state in STATE_COLOURS
            if state in found
        ]
        ax.figure.legend(
            handles=handles,
            loc="upper right",
            bbox_to_anchor=key_place,
            ncols=len(handles),
            handlelength=1.2,
            fontsize=text_size(ax),
            borderaxespad=0,
        )
    return ax


def key_patches(states: NDArray[Any] | None = None, *, profile: bool = False) -> list[Patch]:
    """Return what the colours outside the colour bar mean, for a legend; `profile` adds those of bands."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=ZERO, edgecolor=FRAME, label="no hit"),
        Patch(facecolor=ABSENT, edgecolor=FRAME, label="absent"),
    ]
    found = set() if states is None else set(states.tolist())
    if "masked" in found:
        handles.append(
            Patch(facecolor=MASKED, edgecolor=STATE_COLOURS["masked"], hatch="////", label="masked")
        )
    marked = [state for state in FLAGGED if state in found]
    handles += [Patch(facecolor=STATE_COLOURS[state], label=f"{state} (tick)") for state in marked]
    if profile and "no_statistics" in found:
        handles.append(Patch(facecolor=STATE_COLOURS["no_statistics"], label="no statistics (tick)"))
    return handles


def _strips(ax: Axes, values: Pixels, channels: ChannelMap, states: NDArray[Any] | None, label: str) -> Axes:
    from firstlight.view.draw_curves import draw_positions

    position = channels.column("position")
    order = np.argsort(position, kind="stable")
    draw_positions(ax, values[order], position[order], states=None if states is None else states[order])
    ax.set(xlabel=channels.labels.get("position", "position"), ylabel=label)
    return ax
