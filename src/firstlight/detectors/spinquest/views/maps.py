"""Figures and tables of a SpinQuest run: what is drawn, and the maps; the other pages are in `view_pages`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.options import Options
from firstlight.detectors.spinquest.views.trend import efficiencies
from firstlight.errors import ConfigError, SchemaError
from firstlight.run.config import load_config
from firstlight.view.figure import Figure, ReportTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.steps.step import Context
    from firstlight.view.draw import Scale

__all__ = ["Scene", "figures", "read_groups", "scene_of", "tables"]

_OVERALL_DPI = 150  # 16 x 10 inches: the size of the original tool


@dataclass(frozen=True)
class Scene:
    """What all figures of a run share.

    Parameters
    ----------
    channels : ChannelMap
        All channels.
    planes, sections : tuple of str
        Planes that are drawn, in drawing order, and the group of each.
    values : ndarray of float, shape (n_channels,)
        Hits, or the fraction of events in which the element fired.
    label : str
        What the values are.
    scale : {"linear", "log", "per-group"}
        Scale of the colours.
    about : str
        Files, events and selection, for titles.
    selection : str
        Cuts in words; empty where all hits count.
    states : ndarray of str, shape (n_channels,), optional
        Verdict on each channel.
    expected : ndarray of float, shape (n_channels,), optional
        Hits expected of each channel; NaN where not known.
    """

    channels: ChannelMap
    planes: tuple[str, ...]
    sections: tuple[str, ...]
    values: NDArray[np.float64]
    label: str
    scale: Scale
    about: str
    selection: str
    states: NDArray[Any] | None = None
    expected: NDArray[np.float64] | None = None

    def groups(self) -> dict[str, list[str]]:
        """Return the planes of each group, in drawing order."""
        found: dict[str, list[str]] = {}
        for plane, section in zip(self.planes, self.sections, strict=True):
            found.setdefault(section, []).append(plane)
        return found

    @property
    def colour_label(self) -> str:
        """What the colours are."""
        return (
            f"{self.label}, relative to the largest of its plane" if self.scale == "per-group" else self.label
        )


def figures(products: Mapping[str, Any], context: Context) -> list[Figure]:
    """Return all figures of a run; what cannot be drawn is listed with its reason in the last one.

    Parameters
    ----------
    products : mapping
        ``occupancy/counts`` and ``occupancy/totals``, and whatever else there is.
    context : Context
        Channel map, options, files.

    Raises
    ------
    ConfigError
        If the file of groups in ``view.groups`` is wrong; names what exists.
    """
    from firstlight.detectors.spinquest.views import pages as view_pages

    options = _options(context)
    measured = efficiencies(
        products, context.files[0] if len(context.files) == 1 else f"{len(context.files)} files"
    )
    if "occupancy/counts" not in products:
        return measured
    scene = scene_of(products, context)
    drawn = _overall(scene)
    pages, left_out = view_pages.pages(products, scene)
    if scene.states is not None:
        drawn.append(_state_map(scene))
    if scene.values.any():
        drawn += _groups(scene, options)
    else:
        left_out.insert(0, ("Detector groups", "no element has a hit"))
    drawn += [*pages, *measured]
    if left_out:
        drawn.append(view_pages.left_out_page(left_out))
    return drawn


def tables(products: Mapping[str, Any], _: Context) -> list[ReportTable]:
    """Return the tables of the report."""
    # the elements of a dead plane are told once, as the plane
    dead = (
        products["quality/planes"].frame.filter(pl.col("state") == "dead")["plane"]
        if "quality/planes" in products
        else []
    )
    bad = "state IN ('dead', 'hot', 'low')" + "".join(f" AND plane <> '{plane}'" for plane in dead)
    offered = (
        ReportTable(
            "quality/planes", "Planes", "Verdict on each plane as a whole.", "Quality",
            ("plane", "count", "expected", "ratio", "state", "n_dead", "n_hot", "n_low", "rule"), "state <> 'absent'",
        ),
        ReportTable(
            "quality/channels", "Elements out of line", "Dead, hot and low elements of planes that work.", "Quality",
            ("plane", "element", "count", "expected", "ratio", "pull", "state", "rule"), bad,
        ),
        ReportTable("quality/blocks", "Blocks of dead elements", "Consecutive dead elements.", "Quality", where="n > 1"),
        ReportTable("quality/times", "Times of planes", "Median TDC time against that of the partner plane.", "Times"),
        ReportTable("spills/spills", "Spills", "One row for each spill, in the order of the files.", "Spills"),
        ReportTable("efficiency/planes", "Efficiencies", "Efficiency of every plane, and how it was measured.", "Efficiency"),
        ReportTable("trend/points", "Steps in trends", "Points out of line with the spills around them.", "Spills", where="state IN ('high', 'low')"),
        ReportTable("spills/invalid", "Hits that belong to no element", "By IDs as written in the file.", "Data", limit=50),
    )  # fmt: skip
    return [table for table in offered if table.product in products]


def _options(context: Context) -> Options:
    return context.options if isinstance(context.options, Options) else Options()


def scene_of(products: Mapping[str, Any], context: Context) -> Scene:
    """Return what all figures of a run share; parameters as of `figures`."""
    options, channels = _options(context), context.channels
    hits = np.asarray(products["occupancy/counts"].select(kind="hits"))
    # counts that the original tool made say nothing of events
    n_events = (
        int(products["occupancy/totals"].frame["n_events"][0]) if "occupancy/totals" in products else None
    )
    values, label = hits.astype(np.float64), "hits"
    if options.view.quantity == "events" and n_events is not None:
        events = np.asarray(products["occupancy/counts"].select(kind="events"), dtype=np.float64)
        values, label = events / max(n_events or 0, 1), "occupancy (fraction of events)"
    planes, sections = _planes_of(options, channels, hits)
    # without any hit there is nothing to judge: every element would be called absent
    states, expected = _verdicts(products, channels) if hits.any() else (None, None)
    selection = _selection(options)
    files = context.files[0] if len(context.files) == 1 else f"{len(context.files)} files"
    counted = (
        f"{int(hits.sum()):,} hits" if n_events is None else f"{n_events:,} events, {int(hits.sum()):,} hits"
    )
    about = f"{files}: {counted}{f' ({selection})' if selection else ''}"
    return Scene(
        channels, planes, sections, values, label,
        "per-group" if options.view.scale == "per-detector" else options.view.scale,
        about, selection, states, expected if label == "hits" else None,
    )  # fmt: skip


def _selection(options: Options) -> str:
    """Return the cuts in words."""
    words = ["in-time hits only"] if options.in_time else []
    words += [f"trigger {' or '.join(options.trigger)}"] if options.trigger else []
    words += ["first hit of each element"] if options.first_hit else []
    return ", ".join([*words, *options.cuts])


def _planes_of(
    options: Options, channels: ChannelMap, hits: NDArray[np.int64]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the planes that are drawn and their groups; planes that may be absent only with hits."""
    frame = channels.groups
    column = "legacy_group" if options.view.legacy_layout else "section"
    section_of = {
        str(row["group"]): str(row[column] or row["section"]) for row in frame.iter_rows(named=True)
    }
    always = channels.sum_groups((~channels.optional).astype(np.int64)) > 0
    there = dict(zip(channels.group_names, always | (channels.sum_groups(hits) > 0), strict=True))
    order = [plane for plane in section_of if there[plane]]
    if options.view.groups:
        chosen = read_groups(options.view.groups, channels)
        section_of.update(dict.fromkeys(section_of, "not in a group"))
        section_of.update({plane: label for label, planes in chosen.items() for plane in planes})
        listed = [plane for planes in chosen.values() for plane in planes]
        order = listed + [plane for plane in order if plane not in listed]
    return tuple(order), tuple(section_of[plane] for plane in order)


def read_groups(path: str, channels: ChannelMap) -> dict[str, list[str]]:
    """Return which planes are drawn together, from a file.

    Parameters
    ----------
    path : str
        TOML (or JSON) file with a table ``[groups]``: ``"My group" = ["D0X", "D0Xp"]``.
    channels : ChannelMap
        Gives the planes that exist.

    Raises
    ------
    ConfigError
        If the file is missing or malformed, or names a plane that does not exist or that it has already.
    """
    content = load_config(path)
    groups = content.get("groups")
    if not isinstance(groups, dict) or not groups:
        what = "there is no table [groups] with groups of planes"
        raise ConfigError(what, where=path, known=list(content), hint='[groups] "My group" = ["D0X", "D0Xp"]')
    names = {name.lower(): name for name in channels.group_names}
    found: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for label, planes in groups.items():
        place = f"{path}, group {label!r}"
        if not isinstance(planes, list) or not planes or not all(isinstance(plane, str) for plane in planes):
            what = f"must be a list of names of planes, is {planes!r}"
            raise ConfigError(what, where=place, known=list(channels.group_names))
        found[label] = []
        for plane in planes:
            name = names.get(plane.lower())
            if name is None:
                raise ConfigError.unknown("plane", plane, channels.group_names, where=place)
            if name in seen:
                what = f"plane {name} is in the group {seen[name]!r} already"
                raise ConfigError(what, where=place, hint="a plane stands in the map once")
            seen[name] = label
            found[label].append(name)
    return found


def _verdicts(
    products: Mapping[str, Any], channels: ChannelMap
) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
    """Return state and expected hits of each channel where they were judged."""
    if "quality/channels" not in products:
        return None, None
    frame = products["quality/channels"].frame
    channel = frame["channel"].to_numpy()
    if channel.size and not 0 <= channel.min() <= channel.max() < len(channels):
        what = "verdicts are on channels that the channel map does not have"
        raise SchemaError(what, where="quality/channels")
    states = np.full(len(channels), "no_statistics", dtype="U16")
    states[channel] = frame["state"].to_numpy().astype("U16")
    expected = np.full(len(channels), np.nan)
    if "expected" in frame.columns:
        expected[channel] = frame["expected"].cast(float).fill_null(float("nan")).to_numpy()
    return states, expected


# -- maps --------------------------------------------------------------------------------------------------


def _overall(scene: Scene) -> list[Figure]:
    text = (
        f"{scene.colour_label.capitalize()} of every element; elements count from 1 at the bottom. "
        "Light blue: no hit; grey: no such element, or a part that may be missing and has no hit. The bars are the totals of the planes."
    )
    if scene.states is not None:
        text += " Ticks at the right edge of a cell: hot (red), dead (black), low (orange); hatched: masked."
    return [
        Figure(
            f"overall_occupancy_{words.replace(' ', '_')}",
            f"All planes, {words}",
            text,
            "Occupancy",
            partial(_draw_overall, scene, separators=words == "with separators"),
            (f"overall_occupancy_{words.replace(' ', '_')}.png",),
            _OVERALL_DPI,
        )
        for words in ("with separators", "no separators")
    ]


def _draw_overall(scene: Scene, *, separators: bool) -> Canvas:
    from firstlight.view import draw

    size = 13.0
    canvas = draw.sheet(16, 10)
    canvas.text(0.008, 0.985, f"{scene.label.capitalize()} per element", fontsize=17, va="top", weight="bold")
    canvas.text(0.008, 0.948, scene.about, fontsize=size, va="top")
    left, right = 1.25, 1.35
    top = 2.6 if separators else 2.1
    above = draw.place(canvas, left, 8.05, right, 0.85, size)
    axes = draw.place(canvas, left, 0.95, right, top, size)
    bar = draw.place(canvas, 16 - right + 0.2, 0.95, right - 0.42, top, size)
    if not scene.planes:
        draw.no_data(axes, "no plane to draw")
        canvas.delaxes(bar)
        canvas.delaxes(above)
        return canvas
    changes = [i for i in range(1, len(scene.planes)) if scene.sections[i] != scene.sections[i - 1]]
    totals = np.array([np.nansum(scene.values[scene.channels.channels_of(plane)]) for plane in scene.planes])
    what = "hits\nper plane" if scene.label == "hits" else "elements\nper event"
    draw.draw_group_totals(above, totals, scene.planes, label=what, changes=changes if separators else ())
    draw.draw_channel_map(
        axes, scene.values, scene.channels,
        scale=scene.scale, states=scene.states, separators=separators, colour_label=scene.colour_label,
        groups=scene.planes, sections=scene.sections, colour_axes=bar,
    )  # fmt: skip
    canvas.legend(
        handles=draw.key_patches(scene.states), loc="upper right", bbox_to_anchor=(0.995, 0.99),
        ncols=6, fontsize=size, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip
    return canvas


def _state_map(scene: Scene) -> Figure:
    caption = (
        "Verdict on every element: what is expected comes from a reference, the partner plane or neighbours."
    )
    return Figure("states", "Verdicts on all elements", caption, "Quality", partial(_draw_states, scene))


def _draw_states(scene: Scene) -> Canvas:
    from firstlight.view import draw

    size = 12.0
    canvas = draw.sheet(14, 7.5)
    canvas.text(0.008, 0.985, "Verdict on every element", fontsize=15, va="top", weight="bold")
    canvas.text(0.008, 0.94, scene.about, fontsize=size, va="top")
    axes = draw.place(canvas, 0.85, 0.95, 0.15, 1.65, size)
    draw.draw_state_map(
        axes,
        scene.states if scene.states is not None else (),
        scene.channels,
        groups=scene.planes,
        sections=scene.sections,
        key_place=(0.985, 0.93),
    )
    return canvas


def _safe(label: str) -> str:
    """Return a label as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_+-]+", "_", label).strip("_") or "group"


def _groups(scene: Scene, options: Options) -> list[Figure]:
    """Return one figure for each group of planes."""
    found = []
    names: set[str] = set()
    for label, planes in scene.groups().items():
        if options.view.groups and label == "not in a group":
            continue
        name = _safe(label)
        while name.lower() in names:
            name += "+"
        names.add(name.lower())
        folder = re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "_", label).strip(". ") or "group"
        caption = (
            f"Top: {scene.label} of each element. Below: the same as profiles, each from 0 to the number at its tick"
            f"{'; dashed: expected' if scene.expected is not None else ''}. Values far above all others are cut "
            "and written beside a red triangle."
        )
        found.append(
            Figure(
                f"occupancy_{name}",
                f"{label}: {', '.join(planes)}",
                caption,
                "Detector groups",
                partial(_draw_group, scene, label, tuple(planes)),
                (f"{folder}/{label.replace(' ', '_') if folder == label else name}_plot.png",),
            )
        )
    return found


def _draw_group(scene: Scene, label: str, planes: tuple[str, ...]) -> Canvas:
    from matplotlib.lines import Line2D

    from firstlight.view import draw

    map_height, profiles = max(0.8, 0.25 * len(planes)), 0.72 * len(planes)
    height = map_height + profiles + 1.85
    canvas = draw.sheet(10, height)
    canvas.text(
        0.01, 1 - 0.1 / height, f"{label}: {scene.label} per element", fontsize=13, va="top", weight="bold"
    )
    inside = np.concatenate([scene.channels.channels_of(plane) for plane in planes])
    of_group = f"{int(scene.values[inside].sum()):,} hits in this group of " if scene.label == "hits" else ""
    canvas.text(0.01, 1 - 0.36 / height, of_group + scene.about, fontsize=10, va="top")
    left, right = 0.85, 1.0
    upper = draw.place(canvas, left, height - 0.95 - map_height, right, 0.95)
    bar = draw.place(canvas, 10 - right + 0.12, height - 0.95 - map_height, right - 0.26, 0.95)
    lower = draw.place(canvas, left, 0.55, right, height - 0.55 - profiles)
    draw.draw_channel_map(
        upper, scene.values, scene.channels,
        scale=scene.scale, states=scene.states, separators=True,
        colour_label="relative" if scene.scale == "per-group" else scene.label.split(" (")[0],
        groups=planes, horizontal=True, colour_axes=bar,
    )  # fmt: skip
    upper.set_xlabel("")
    upper.tick_params(labelbottom=False)
    bands = []
    for plane in planes:
        rows = scene.channels.channels_of(plane)
        position = scene.channels.column("position")[rows].astype(np.float64)
        bands.append(
            draw.Band(
                plane,
                np.append(position - 0.5, position[-1] + 0.5),
                scene.values[rows],
                reference=_known(scene.expected, rows),
                states=None if scene.states is None else scene.states[rows],
            )
        )
    draw.draw_bands(lower, bands, x_label="element", robust=True)
    lower.set_xticks(upper.get_xticks())
    lower.set_xlim(upper.get_xlim())
    lower.set_ylabel(f"{scene.label.split(' (')[0]} (each from 0)")
    key: list[Any] = list(draw.key_patches(scene.states, profile=True))
    if any(band.reference is not None for band in bands):
        key.append(Line2D([], [], color="#3a4149", linewidth=0.8, linestyle="--", label="expected"))
    canvas.legend(
        handles=key, loc="upper right", bbox_to_anchor=(0.99, 1 - 0.55 / height),
        ncols=8, fontsize=9, handlelength=1.4, columnspacing=1.2, borderaxespad=0,
    )  # fmt: skip
    return canvas


def _known(expected: NDArray[np.float64] | None, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    return None if expected is None or not np.isfinite(expected[rows]).any() else expected[rows]
