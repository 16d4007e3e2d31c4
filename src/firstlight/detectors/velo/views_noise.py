"""Figures of noise scans: where the noise of each pixel is, how wide it is, and one pixel with its fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.velo.channels import COLUMNS as SIDE
from firstlight.detectors.velo.noise import TOP, width_groups
from firstlight.errors import UsageError
from firstlight.view.style import STATE_COLOURS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.data.schema import Table
    from firstlight.detectors.velo.noise import NoiseScan

__all__ = [
    "draw_mean_map",
    "draw_means",
    "draw_pixel",
    "draw_width_profile",
    "draw_widths",
    "noise_overview",
    "typical_pixel",
]

BLUE, ORANGE, GREEN, GREY = "#1f5f99", "#d1662a", "#3b8c5a", "#56616c"


def noise_overview(scan: NoiseScan, fits: Table, pixel: tuple[int, int] | None = None) -> Canvas:
    """Draw a noise scan on one page.

    Parameters
    ----------
    scan : NoiseScan
        The scan.
    fits : Table
        As `fit_noise` gives it.
    pixel : (int, int), optional
        Row and column of the pixel that is shown with its fit; `typical_pixel` by default.
    """
    from matplotlib.figure import Figure

    from firstlight.view.style import styled

    with styled():
        canvas = Figure(figsize=(15.0, 8.6))
        axes = canvas.subplots(2, 3)
        draw_mean_map(axes[0, 0], fits)
        draw_means(axes[0, 1], fits, scan.thresholds)
        draw_widths(axes[0, 2], fits)
        draw_pixel(axes[1, 0], scan, fits, *(pixel or typical_pixel(fits)))
        draw_width_profile(axes[1, 1], fits, "row")
        draw_width_profile(axes[1, 2], fits, "column")
        span = f"{scan.thresholds[0]} to {scan.thresholds[-1]} DAC"
        canvas.suptitle(
            f"{scan.name.short}: {scan.thresholds.size} thresholds, {span}, {scan.total:,} hits",
            x=0.01,
            ha="left",
        )
    return canvas


def typical_pixel(fits: Table) -> tuple[int, int]:
    """Return row and column of a pixel of median width, whose noise lies inside the scan; (0, 0) without any."""
    import polars as pl

    whole = (pl.col("status") == "ok") & ~pl.col("truncated_low") & ~pl.col("truncated_high")
    frame = fits.frame.filter(whole)
    if frame.is_empty():
        frame = fits.frame.filter(pl.col("status") == "ok")
    if frame.is_empty():
        return 0, 0
    row = frame.row(int(np.argsort(frame["width"].to_numpy(), kind="stable")[len(frame) // 2]), named=True)
    return row["row"], row["column"]


def _good(fits: Table) -> pl.DataFrame:
    return fits.frame.filter(fits.frame["status"] == "ok")


def draw_mean_map(ax: Axes, fits: Table) -> Axes:
    """Draw the fitted mean of each pixel at its place, row 0 at the bottom; without a mean in the colour of why."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    status = fits.array("status").reshape(SIDE, SIDE)
    mean = fits.frame["mean"].to_numpy().reshape(SIDE, SIDE)
    good = status == "ok"
    low, high = np.quantile(mean[good], [0.002, 0.998]) if good.any() else (0.0, 1.0)
    norm = mpl.colors.Normalize(low, high if high > low else low + 1.0)
    colours = mpl.colormaps["viridis"](np.asarray(norm(np.where(good, mean, low))))
    silent, other = to_rgba(STATE_COLOURS["dead"]), to_rgba("#f2f2f2")
    colours[~good] = other
    colours[status == "no hits"] = silent
    ax.imshow(colours, origin="lower", extent=(-0.5, SIDE - 0.5, -0.5, SIDE - 0.5))
    mappable = mpl.cm.ScalarMappable(norm, "viridis")
    ax.figure.colorbar(mappable, ax=ax, label="mean of the noise [DAC]", extend="both", pad=0.02)
    handles = [
        Patch(facecolor=silent, label=f"no hits ({int((status == 'no hits').sum()):,})"),
        Patch(
            facecolor=other,
            edgecolor=GREY,
            label=f"mean not known ({int((~good & (status != 'no hits')).sum()):,})",
        ),
    ]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    ax.set(xlabel="column", ylabel="row", title="Mean of the noise")
    return ax


def draw_means(ax: Axes, fits: Table, thresholds: NDArray[np.int64]) -> Axes:
    """Draw the distribution of means: fitted, and hit-weighted with truncated pixels in it."""
    frame = _good(fits)
    low, high = float(thresholds.min()), float(thresholds.max())
    bins = np.linspace(low, high, 109).tolist()
    moment = fits.frame["moment_mean"].drop_nulls().to_numpy()
    truncated = fits.frame.filter(fits.frame["truncated_low"] | fits.frame["truncated_high"])
    cut = truncated["moment_mean"].drop_nulls().to_numpy()
    mean = frame["mean"].to_numpy()
    average = f": {mean.mean():.1f} ± {mean.std():.1f} DAC" if mean.size else ""
    ax.hist(moment, bins, histtype="step", color=GREY, label=f"hit-weighted, {moment.size:,} pixels")
    ax.hist(cut, bins, color="#d8dde2", label=f"of these truncated, {cut.size:,} pixels")
    ax.hist(
        mean, bins, histtype="step", color=BLUE, linewidth=1.6, label=f"fitted, {mean.size:,} pixels{average}"
    )
    ax.set(xlabel="mean of the noise [DAC]", ylabel="pixels", title="Means", xlim=(low, high))
    ax.set_ylim(top=ax.get_ylim()[1] * 1.35)
    ax.legend(loc="upper right")
    return ax


def draw_widths(ax: Axes, fits: Table) -> Axes:
    """Draw the distribution of widths: fitted, and hit-weighted, which the counter that stops at 63 makes wider."""
    frame = fits.frame
    whole = ~(frame["truncated_low"] | frame["truncated_high"])
    fitted = _good(fits)["width"].to_numpy()
    moment = frame.filter(whole)["moment_width"].drop_nulls().drop_nans().to_numpy()
    known = fitted if fitted.size else moment
    if not known.size:
        ax.text(0.5, 0.5, "no width is known", transform=ax.transAxes, ha="center")
        return ax
    middle = float(np.median(known))
    bins = np.linspace(0.4 * middle, 1.9 * middle, 121).tolist()
    for values, colour, wide, name in (
        (moment, GREY, 1.0, "hit-weighted, not truncated"),
        (fitted, BLUE, 1.6, "fitted, with the stop at 63"),
    ):
        if values.size:
            low, half, high = np.quantile(values, [0.16, 0.5, 0.84])
            beyond = int((values > bins[-1]).sum())
            label = f"{name}:\n{half:.2f} DAC (68 % in {low:.2f}-{high:.2f}), {beyond:,} beyond"
            ax.hist(values, bins, histtype="step", color=colour, linewidth=wide, label=label)
    ax.set(xlabel="width of the noise [DAC]", ylabel="pixels", title="Widths", xlim=(bins[0], bins[-1]))
    ax.set_ylim(top=ax.get_ylim()[1] * 1.45)
    ax.legend(loc="upper right")
    return ax


def draw_width_profile(ax: Axes, fits: Table, along: str) -> Axes:
    """Draw the mean fitted width along rows or columns, with what groups of pixels have on average.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    fits : Table
        As `fit_noise` gives it.
    along : str
        ``"row"`` or ``"column"``.
    """
    import polars as pl

    frame = _good(fits).filter(pl.col("width_error") < 0.1 * pl.col("width"))
    if frame.is_empty():
        ax.text(0.5, 0.5, "no width is known", transform=ax.transAxes, ha="center")
        return ax
    inside = pl.col("column" if along == "row" else "row").is_between(1, SIDE - 2)
    line = (
        frame.filter(inside)
        .group_by(along)
        .agg(pl.col("width").mean(), (pl.col("width").std() / pl.len().sqrt()).alias("error"), pl.len())
        .sort(along)
    )
    place, width, error = (line[name].to_numpy() for name in (along, "width", "error"))
    period = place % 16
    special = (period == 0) | (period == 15) if along == "row" else place % 2 == 1
    names = ("rows 0 and 15 of 16", "other rows") if along == "row" else ("odd columns", "even columns")
    groups = {row["group"]: row for row in width_groups(fits).frame.iter_rows(named=True)}
    for chosen, colour, name in ((special, ORANGE, names[0]), (~special, BLUE, names[1])):
        style: dict[str, Any] = {"fmt": ".", "color": colour, "markersize": 4, "linewidth": 0.6}
        found = groups[name]
        label = name if found["width"] is None else f"{name}: {found['width']:.2f} DAC"
        ax.errorbar(place[chosen], width[chosen], np.nan_to_num(error[chosen]), label=label, **style)
    inner = width[(place > 0) & (place < SIDE - 1)]
    low, high = (float(np.quantile(inner, part)) for part in (0.01, 0.99)) if inner.size else (0.0, 1.0)
    margin = max(high - low, 0.2)
    top = high + 0.8 * margin
    ax.set(xlim=(-6, SIDE + 5), ylim=(low - 0.6 * margin, top))
    for edge in (0, SIDE - 1):
        value = width[place == edge]
        if value.size and value[0] > top:
            ax.annotate(
                f"{along} {edge}: {value[0]:.1f} DAC", (edge, top), (0, -6), textcoords="offset points",
                color="#a8323e", ha="left" if edge == 0 else "right", va="top", fontsize=9,
            )  # fmt: skip
            ax.plot([edge], [top], marker="^", color="#a8323e", clip_on=False, markersize=7)
    ax.legend(loc="lower center", ncols=2, columnspacing=1.0, handletextpad=0.2)
    ax.set(xlabel=along, ylabel="mean width of the noise [DAC]", title=f"Width along the {along}s")
    return ax


def draw_pixel(ax: Axes, scan: NoiseScan, fits: Table, row: int, column: int) -> Axes:
    """Draw the readings of one pixel with the fitted rate.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    scan : NoiseScan
        The scan.
    fits : Table
        As `fit_noise` gives it.
    row, column : int
        The pixel.

    Raises
    ------
    UsageError
        If there is no such pixel.
    """
    if not (0 <= row < SIDE and 0 <= column < SIDE):
        what = f"there is no pixel in row {row}, column {column}: both go from 0 to {SIDE - 1}"
        raise UsageError(what)
    hits = scan.counts[:, row, column].astype(np.float64)
    found = fits.frame.row(row * SIDE + column, named=True)
    below = hits < TOP
    ax.errorbar(
        scan.thresholds[below], hits[below], np.sqrt(hits[below]), fmt="o", color="black", markersize=3,
        linewidth=0.8, label="readings",
    )  # fmt: skip
    ax.plot(scan.thresholds[~below], hits[~below], "^", color=ORANGE, markersize=5, label=f"{TOP} or more")
    top = 75.0
    if found["mean"] is not None:
        x = np.linspace(scan.thresholds.min(), scan.thresholds.max(), 600)
        rate = found["amplitude"] * np.exp(-0.5 * ((x - found["mean"]) / found["width"]) ** 2)
        ax.plot(x, rate, color=BLUE, label="fitted rate")
        ax.axvline(found["mean"], color=BLUE, linewidth=0.8, linestyle=":")
        top = max(top, 1.1 * float(rate.max()))
        goodness = "" if found["p_value"] is None else f"\np = {found['p_value']:.2g}"
        text = (
            f"mean {found['mean']:.2f} ± {found['mean_error']:.2f} DAC\n"
            f"width {found['width']:.2f} ± {found['width_error']:.2f} DAC{goodness}"
        )
    else:
        text = found["status"]
    ax.text(0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", color=BLUE)
    ax.axhline(TOP, color=GREY, linewidth=0.8, linestyle="--")
    ax.set(
        xlabel="threshold [DAC]", ylabel="hits", title=f"Pixel in row {row}, column {column}", ylim=(0, top)
    )
    ax.legend(loc="upper left")
    return ax
