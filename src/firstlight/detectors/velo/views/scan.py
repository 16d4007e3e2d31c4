"""The scan itself: rate of every frame, what became of the frames, and where the baseline comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = [
    "STATUS_COLOURS",
    "draw_baseline_comparison",
    "draw_frame_status",
    "draw_timeline",
]

_SIZE = 11.0
_GOOD = "#bcd2e4"
STATUS_COLOURS = {
    "good": _GOOD,
    "bad pattern": "#c8202f",
    "excluded": "#e0a030",
    "empty": "#7b4ea3",
    "missing": "#111111",
    "truncated": "#1b8a8a",
    "unreadable": "#7a4a1c",
    "text": "#d667a8",
    "out of range": "#2f5fd0",
    "not square": "#4f7d2a",
}
_OTHERS = ("#2f5fd0", "#8f8f2a", "#5b7083", "#a8323e", "#3fa7a7")


def _colours_of(statuses: list[str]) -> dict[str, str]:
    """Return a colour for each status, good first; those not foreseen get one as well."""
    known = [name for name in STATUS_COLOURS if name in statuses]
    others = [name for name in statuses if name not in STATUS_COLOURS]
    # names that say more: "empty file", "empty frame"
    found = {name: STATUS_COLOURS[name] for name in known}
    free = [colour for name, colour in STATUS_COLOURS.items() if name not in found] + list(_OTHERS)
    for name in others:
        base = next((key for key in STATUS_COLOURS if name.startswith(key)), None)
        wanted = STATUS_COLOURS[base] if base else None
        colour = wanted if wanted and wanted not in found.values() else free.pop()
        found[name] = colour
    return found


def _heading(canvas: Canvas, title: str, about: str) -> None:
    height = canvas.get_size_inches()[1]
    canvas.text(0.01, 1 - 0.1 / height, title, fontsize=_SIZE + 2, weight="bold", va="top")
    canvas.text(0.01, 1 - 0.38 / height, about, fontsize=_SIZE - 1, color="#3a4149", va="top")


def _statuses(frames: pl.DataFrame) -> list[str]:
    counted = frames["status"].value_counts(sort=True)
    return [str(name) for name in counted["status"]]


def draw_timeline(frames: pl.DataFrame, *, about: str = "") -> Canvas:
    """Draw the rate of every frame in order, those left out in the colour of their reason.

    The upper panel is the rate of the chip, the middle one its deviation from the median of the good frames of
    the same threshold in units of the Poisson error; the ticks below are all frames left out.

    Parameters
    ----------
    frames : polars.DataFrame
        ``threshold``, ``acquisition``, ``shutter_time`` [s], ``total`` [hits], ``status``.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw

    order = [name for name in ("threshold", "input", "acquisition") if name in frames.columns]
    ordered = frames.sort(order, maintain_order=True)
    total = ordered["total"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    shutter = ordered["shutter_time"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    threshold, status = ordered["threshold"].to_numpy(), ordered["status"].to_numpy().astype(str)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = total / shutter
        error = np.sqrt(np.maximum(total, 1.0)) / shutter
    middle = _median_by(threshold, np.where(status == "good", rate, np.nan))
    colours = _colours_of(_statuses(ordered))
    width, height = 12.6, 6.6
    canvas = draw.sheet(width, height)
    _heading(canvas, "Rate of every frame", about)
    if not ordered.height or not np.isfinite(rate).any():
        draw.no_data(draw.place(canvas, 1.0, 0.7, 0.3, 0.8, _SIZE), "no frame has a rate")
        return canvas
    top = draw.place(canvas, 1.15, 3.55, 1.85, 0.75, _SIZE)
    pull = draw.place(canvas, 1.15, 1.45, 1.85, height - 3.4, _SIZE)
    left_out = draw.place(canvas, 1.15, 0.68, 1.85, height - 1.3, _SIZE)
    x = np.arange(rate.size)
    small = 1.6 if x.size > 2000 else 3.2
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = (rate - middle) / error
    reach = 6.0
    for name, colour in colours.items():
        where = status == name
        style: dict[str, Any] = {"linestyle": "none", "color": colour}
        size, symbol = (small, ".") if name == "good" else (max(small, 4.5), "o")
        colour_of_points = "#1f5f99" if name == "good" else colour
        style["color"] = colour_of_points
        top.plot(
            x[where], rate[where], symbol, markersize=size + 1, label=f"{name} {int(where.sum()):,}", **style
        )
        inside = where & (np.abs(deviation) <= reach)
        pull.plot(x[inside], deviation[inside], symbol, markersize=size + 1, **style)
        beyond = where & (np.abs(deviation) > reach)
        side = np.sign(deviation[beyond]) * (reach + 0.5)
        pull.plot(x[beyond], side, "^" if name == "good" else symbol, markersize=5, **style)
        if name != "good":
            left_out.vlines(x[where], 0, 1, color=colour, linewidth=1.4 if x.size < 2000 else 0.8)
    pull.axhline(0, color="#7d8894", linewidth=0.9)
    top.set(
        ylabel="rate of the chip\n[hits/s]",
        ylim=(0, 1.12 * float(np.nanmax(rate[status == "good"], initial=np.nanmin(rate)))),
    )
    pull.set(ylabel="deviation / Poisson\nerror (≥ ±6 at the edge)", ylim=(-reach - 1.2, reach + 1.2))
    left_out.set(ylim=(0, 1), yticks=[], ylabel="left\nout")
    top.yaxis.set_major_formatter(lambda value, _: draw.short_number(value))
    off = int((rate > top.get_ylim()[1]).sum())
    if off:
        top.text(
            0.99,
            0.96,
            f"{off} off the scale",
            transform=top.transAxes,
            ha="right",
            va="top",
            fontsize=_SIZE - 1,
        )
    _threshold_ticks(left_out, threshold, 14)
    for ax in (top, pull):
        ax.set_xticks(left_out.get_xticks(), [])
    for ax in (top, pull, left_out):
        ax.set_xlim(-0.01 * x.size, 1.01 * x.size)
    top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.4)
    canvas.align_ylabels([top, pull, left_out])
    return canvas


def _median_by(key: NDArray[Any], values: Values) -> Values:
    """Return for each entry the median of the values with the same key; NaN without one."""
    found = np.full(values.size, np.nan)
    for one in np.unique(key):
        of_key = values[key == one]
        of_key = of_key[np.isfinite(of_key)]
        if of_key.size:
            found[key == one] = np.median(of_key)
    return found


def _threshold_ticks(ax: Axes, threshold: NDArray[Any], most: int) -> None:
    values, first = np.unique(threshold, return_index=True)
    chosen = _round(values, most)
    ax.set_xticks(first[chosen], [str(value) for value in values[chosen]])
    ax.set_xlabel("threshold [DAC], acquisitions of each in order")


def _round(values: NDArray[Any], most: int) -> NDArray[np.int64]:
    """Return the index of at most so many values, round ones."""
    for base in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500):
        chosen = np.flatnonzero(values % base == 0)
        if 1 < chosen.size <= most:
            return chosen
    return np.arange(0, values.size, max(1, -(-values.size // most)))


def draw_frame_status(frames: pl.DataFrame, *, about: str = "") -> Canvas:
    """Draw what became of each frame: threshold to the right, acquisition upwards, and good frames above.

    Parameters
    ----------
    frames : polars.DataFrame
        ``threshold``, ``acquisition``, ``status``.
    about : str
        Second line of the title.
    """
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    from firstlight.view import draw

    width, height = 12.6, 5.6
    canvas = draw.sheet(width, height)
    _heading(canvas, "Frames of the scan", about)
    if not frames.height:
        draw.no_data(draw.place(canvas, 1.0, 0.7, 0.3, 0.8, _SIZE), "no frame")
        return canvas
    values, column = np.unique(frames["threshold"].to_numpy(), return_inverse=True)
    row, starts = _rows(frames)
    status = frames["status"].to_numpy().astype(str)
    colours = _colours_of(_statuses(frames))
    image = np.ones((int(row.max()) + 1, values.size, 4))
    for name, colour in colours.items():
        image[row[status == name], column[status == name]] = to_rgba(colour)
    number = np.bincount(column[status == "good"], minlength=values.size)
    top = draw.place(canvas, 1.0, height - 1.65, 1.85, 0.75, _SIZE)
    ax = draw.place(canvas, 1.0, 0.68, 1.85, 1.75, _SIZE)
    ax.imshow(image, aspect="auto", origin="lower", interpolation="none")
    place = np.arange(values.size)
    if values.size < 60:
        top.bar(place, number, width=0.85, color="#1f5f99", linewidth=0)
    else:
        top.stairs(number, np.arange(values.size + 1) - 0.5, fill=True, color="#1f5f99")
        top.set_ylim(0, 1.08 * number.max(initial=1))
    for empty in np.flatnonzero(number == 0):
        top.text(
            float(empty), 0.05 * number.max(initial=1), "0", ha="center", color="#c8202f", fontsize=_SIZE - 1
        )
    chosen = _round(values, 16)
    ax.set_xticks(place[chosen], [str(value) for value in values[chosen]])
    for start in starts[1:]:
        ax.axhline(start - 0.5, color="#20262c", linewidth=1.0)
    several = len(starts) > 1
    ax.set(xlabel="threshold [DAC]", ylabel="acquisition (folder by folder)" if several else "acquisition")
    ax.locator_params(axis="y", integer=True)
    top.set(xlim=ax.get_xlim(), xticks=[], ylabel="good")
    handles = [
        Patch(facecolor=colour, edgecolor="#7d8894", label=f"{name} {int((status == name).sum()):,}")
        for name, colour in colours.items()
    ]
    if (image == 1.0).all(axis=2).any():
        handles.append(Patch(facecolor="white", edgecolor="#7d8894", label="not in the scan"))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=_SIZE - 1)
    canvas.align_ylabels([top, ax])
    return canvas


def _rows(frames: pl.DataFrame) -> tuple[NDArray[np.int64], list[int]]:
    """Return the row of each frame in the picture, and the first row of each folder of a scan in parts."""
    row = frames["acquisition"].to_numpy().astype(np.int64)
    if "input" not in frames.columns:
        return row, [0]
    folder = frames["input"].to_numpy().astype(str)
    starts, place = [], np.zeros(row.size, dtype=np.int64)
    next_row = 0
    for name in dict.fromkeys(folder.tolist()):
        of_folder = folder == name
        starts.append(next_row)
        place[of_folder] = row[of_folder] + next_row
        next_row += int(row[of_folder].max()) + 1
    return place, starts


def draw_baseline_comparison(
    differences: Mapping[str, ArrayLike],
    *,
    reference: str = "control scan",
    target: float = float("nan"),
    about: str = "",
) -> Canvas:
    """Draw how far the baseline of each rule is from that of the control scan.

    Parameters
    ----------
    differences : mapping of str to array
        Rule minus control of each pixel [DAC], by the name of the rule.
    reference : str
        What is subtracted.
    target : float
        Mean target with the reference [DAC]: the legend says by how much K moves; not where NaN.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw
    from firstlight.view.draw_pixels import robust_range

    finite = {name: np.asarray(values, dtype=np.float64).ravel() for name, values in differences.items()}
    finite = {name: values[np.isfinite(values)] for name, values in finite.items()}
    finite = {name: values for name, values in finite.items() if values.size}
    canvas = draw.sheet(7.4, 5.2)
    _heading(canvas, f"Baseline of each trim rule minus that of the {reference}", about)
    ax = draw.place(canvas, 0.95, 0.68, 0.25, 0.8, _SIZE)
    if not finite:
        return draw.no_data(ax, f"no pixel has a {reference} and a predicted baseline").figure  # type: ignore[return-value]
    ends = [robust_range(values, 4.5) for values in finite.values()]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    width = max(0.5, np.ceil((high - low) / 80 * 2) / 2)
    edges = np.arange(np.floor(low) - 0.5, high + 1.5 * width, width)
    highest = 0
    for number, (name, values) in enumerate(finite.items()):
        counts = np.histogram(values, edges)[0]
        highest = max(highest, int(counts.max()))
        words = f"{name}: {np.median(values):+.2f} DAC (spread {values.std():.2f})".replace(": -", ": −")
        if np.isfinite(target):
            # a baseline too low makes the target too large and K too small
            change = 100 * (target / (target - np.median(values)) - 1)
            words += f", K {change:+.1f} %".replace("-", "−")
        style = ("-", "--", "-.", ":")[number % 4]
        ax.stairs(counts, edges, color=f"C{number}", linewidth=1.6, linestyle=style, label=words)
    ax.axvline(0, color="#7d8894", linewidth=0.9)
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, highest * (1.12 + 0.1 * len(finite))))
    ax.set(xlabel=f"predicted baseline − {reference} [DAC]", ylabel="pixels")
    ax.legend(loc="upper left", title="median", alignment="left")
    return canvas
