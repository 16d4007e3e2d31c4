"""Figures of a comparison with a reference: ratio of every channel, scale of every group, pulls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.view.figure import Figure, ReportTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from firstlight.data.channels import ChannelMap
    from firstlight.steps.compare import Comparison

__all__ = ["draw_pulls", "draw_ratio_map", "draw_scales", "figures", "tables"]

_STATES = {
    "ok": "ok",
    "high": "hot",
    "low": "low",
    "gone": "dead",
    "new": "hot",
    "no_statistics": "no_statistics",
}


def figures(found: Comparison, channels: ChannelMap) -> list[Figure]:
    """Return the figures of a comparison; scales of groups only where there are several."""
    drawn = [
        Figure(
            "ratio_map", "Ratio to the reference",
            "Count of every channel divided by the reference, scaled per group: pale is 1, blue fewer, red more; grey has too few counts to compare.",
            "Channels", lambda: draw_ratio_map(found, channels), dpi=120,
        ),
        Figure(
            "group_scales", "Scale of every group",
            "Counts of each group relative to the reference, relative to the whole run. Bars are one standard "
            "deviation with the fitted dispersion; the shaded band is the accepted range.",
            "Groups", lambda: draw_scales(found, channels),
        ),
        Figure(
            "pulls", "Pulls of the channels",
            "Difference to the scaled reference in standard deviations with the dispersion fitted per group; the line is "
            "the normal distribution that counts without a change follow. A channel is flagged beyond the limits of "
            "pull and ratio that the configuration gives, both at once.",
            "Channels", lambda: draw_pulls(found),
        ),
    ]  # fmt: skip
    return [figure for figure in drawn if figure.name != "group_scales" or len(found.groups) > 1]


def tables() -> list[ReportTable]:
    """Return the tables of a comparison."""
    flagged = "state in ('high', 'low', 'gone', 'new')"
    return [
        ReportTable("compare/channels", "Flagged channels", "Channels that differ from the reference.", "Channels", where=flagged),
        ReportTable("compare/groups", "Groups", "Every group against the reference.", "Groups"),
    ]  # fmt: skip


def draw_ratio_map(found: Comparison, channels: ChannelMap) -> Canvas:
    """Draw the ratio of every channel at its place."""
    from matplotlib.figure import Figure as Canvas

    from firstlight.view.draw import draw_channel_map

    frame = found.channels.frame
    ratio = frame["ratio"].fill_null(np.nan).to_numpy().astype(float)
    compared = (frame["state"] != "no_statistics").to_numpy()
    states = np.array([_STATES[state] for state in frame["state"]])
    states[channels.optional & (frame["count"].to_numpy() == 0)] = "absent"
    canvas = Canvas(figsize=(7.5 if channels.layout in ("grid", "hexagons") else 13, 6.5))
    ax = canvas.add_subplot()
    groups = None
    if channels.layout == "planes":
        alive = channels.sum_groups(frame["count"].to_numpy() + frame["reference"].to_numpy())
        there = {name for name, total in zip(channels.group_names, alive, strict=True) if total}
        groups = [name for name in channels.groups["group"] if name in there]
    draw_channel_map(
        ax, np.where(compared, ratio, np.nan), channels, states=states, groups=groups,
        colour_label="ratio to the scaled reference", limits=(0.5, 1.5), zero_is_empty=False, colour_map="RdBu_r",
    )  # fmt: skip
    canvas.suptitle("Ratio to the reference", x=0.01, ha="left", fontweight="bold")
    return canvas


def draw_scales(found: Comparison, channels: ChannelMap) -> Canvas:
    """Draw the relative scale of every group with its error."""
    from matplotlib.figure import Figure as Canvas

    from firstlight.view.style import VERDICT_COLOURS

    order = {name: index for index, name in enumerate(channels.groups["group"])}
    frame = found.groups.frame.drop_nulls("scale")
    frame = frame.sort(frame["group"].replace_strict(order, default=len(order), return_dtype=pl.Int64))
    canvas = Canvas(figsize=(11, 3.6))
    ax = canvas.add_subplot()
    place = np.arange(frame.height)
    scale, error = frame["scale"].to_numpy(), frame["scale_error"].fill_null(0.0).to_numpy()
    bad = (frame["state"] != "ok").to_numpy()
    ax.axhspan(0.85, 1.15, color="#eef2f5", zorder=0)
    ax.axhline(1, color="#8a949e", linewidth=0.8)
    for chosen, colour, label in ((~bad, "#1f5f99", "ok"), (bad, VERDICT_COLOURS["bad"], "flagged")):
        if chosen.any():
            ax.errorbar(
                place[chosen], scale[chosen], error[chosen], fmt="o", markersize=4, color=colour, label=label
            )
    ax.set_xticks(place, frame["group"].to_list(), rotation=90)
    ax.set(ylabel="scale / scale of the run", xlim=(-0.7, max(frame.height, 1) - 0.3))
    ax.set_title(f"scale of the run {found.scale:.4f}")
    ax.legend(loc="upper right", ncols=2)
    return canvas


def draw_pulls(found: Comparison) -> Canvas:
    """Draw the distribution of the pulls over the normal distribution."""
    from matplotlib.figure import Figure as Canvas

    pulls = found.channels.frame["pull"].drop_nulls().to_numpy()
    pulls = pulls[np.isfinite(pulls)]
    canvas = Canvas(figsize=(5.8, 3.8))
    ax = canvas.add_subplot()
    edges = np.linspace(-8, 8, 65)
    counts, _ = np.histogram(np.clip(pulls, -7.99, 7.99), edges)
    ax.stairs(counts, edges, fill=True, color="#bcd2e4", label=f"{pulls.size} channels")
    x = np.linspace(-8, 8, 321)
    normal = pulls.size * (edges[1] - edges[0]) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    ax.plot(x, normal, color="#d1662a", label="normal distribution")
    if pulls.size:
        text = f"mean {pulls.mean():+.2f}\nstd {pulls.std():.2f}\nchi2/ndf as Poisson {found.chi2_ndf:.2f}"
        ax.text(0.02, 0.96, text, transform=ax.transAxes, va="top", fontsize=9)
    ax.set(xlabel="pull (dispersion included)", ylabel="channels", yscale="symlog", xlim=(-8, 8))
    ax.set_title("pulls against the reference")
    ax.legend(loc="upper right")
    return canvas
