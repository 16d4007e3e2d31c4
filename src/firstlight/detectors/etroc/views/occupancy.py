"""Hits of every pixel, states of the pixels, error bits, hits of an event, cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.detectors.etroc.views.scene import Panel, mosaic
from firstlight.view.style import STATE_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.etroc.views.scene import Draw, Scene
    from firstlight.view.draw_pixels import Overlay

__all__ = [
    "STATES",
    "draw_cut_flow",
    "draw_error_bits",
    "draw_events",
    "draw_occupancy",
    "draw_totals",
    "map_overlays",
]

# state of the pixel table: colour
STATES = {
    "good": STATE_COLOURS["ok"],
    "no hits": "#b9c4cf",
    "dead": STATE_COLOURS["dead"],
    "hot": STATE_COLOURS["hot"],
    "stuck": "#3fa7a7",
    "few hits": STATE_COLOURS["low"],
    "noisy calibration": "#d98cb3",
    "masked": STATE_COLOURS["masked"],
    "absent": STATE_COLOURS["absent"],
}
_NAMES = {"absent": "not read out"}


def map_overlays(states: NDArray[np.str_], hits: NDArray[np.float64]) -> list[Overlay]:
    """Return what is drawn over a map instead of a value: pixels without a hit, masked ones, those not read out."""
    from firstlight.view.draw_pixels import Overlay

    found = [
        Overlay("not read out", states == "absent", STATE_COLOURS["absent"]),
        Overlay("no hits", (hits == 0) & ~np.isin(states, ("absent", "masked", "dead")), STATES["no hits"]),
        Overlay("dead", states == "dead", STATES["dead"]),
        Overlay("masked", states == "masked", STATES["masked"]),
    ]
    return [overlay for overlay in found if overlay.where.any()]


def _mark_states(ax: Axes, states: NDArray[np.str_]) -> None:
    """Put a frame around pixels whose hits are not to be trusted; the value stays to be seen."""
    from matplotlib.patches import Patch, Rectangle

    handles = []
    for state in ("hot", "stuck", "noisy calibration", "few hits"):
        where = np.argwhere(states == state)
        for row, column in where.tolist():
            box = Rectangle(
                (column - 0.44, row - 0.44), 0.88, 0.88, fill=False, edgecolor=STATES[state], linewidth=1.6
            )
            ax.add_patch(box)
        if where.size:
            handles.append(
                Patch(
                    facecolor="white", edgecolor=STATES[state], linewidth=1.6, label=f"{state} {len(where)}"
                )
            )
    if handles:
        from matplotlib.legend import Legend

        earlier = ax.get_legend()
        if earlier is not None:
            ax.add_artist(earlier)
        y = beneath(ax, 0.72 if earlier is not None else 0.5)
        key = Legend(ax, handles, [str(patch.get_label()) for patch in handles], loc="upper left",
                     bbox_to_anchor=(-0.12, y), ncols=2, fontsize=8.5, handlelength=1.3, columnspacing=1.0,
                     borderaxespad=0.0, frameon=False)  # fmt: skip
        ax.add_artist(key)


def _halves(ax: Axes, scene: Scene) -> None:
    """Draw where one half of the chip ends and the other begins."""
    if scene.has_halves:
        ax.axvline(7.5, color="#1d1d1d", linewidth=0.9, linestyle=(0, (4, 3)))


def beneath(ax: Axes, distance: float) -> float:
    """Return the place so many inches below an axes, in units of its height."""
    return -distance / float(ax.get_position().height * ax.figure.get_size_inches()[1])  # type: ignore[union-attr]


def key_below(ax: Axes, overlays: list[Overlay]) -> None:
    """Write what the colours of overlays mean below the axis label."""
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=overlay.colour,
            edgecolor="#7d8894",
            label=f"{overlay.label} {int(overlay.where.sum()):,}",
        )
        for overlay in overlays
    ]
    if handles:
        y = beneath(ax, 0.5)
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.12, y), ncols=3, fontsize=8.5,
                  handlelength=1.2, columnspacing=0.9, borderaxespad=0.0, frameon=False)  # fmt: skip


def draw_occupancy(scene: Scene) -> Canvas:
    """Draw the hits of every pixel; of a single board also the state of every pixel."""
    panels = [
        Panel(_occupancy(scene, board), scene.name(board), bar=True, square=True) for board in scene.boards
    ]
    frame = scene.frame("pixels/table")
    if len(scene.boards) == 1:
        panels.append(Panel(_state_map(scene, scene.boards[0]), "state of each pixel", bar=True, square=True))
    columns = min(len(panels), 3)
    states = dict(frame.group_by("state").len().sort("len", descending=True).iter_rows())
    words = ", ".join(f"{number:,} {state}" for state, number in states.items())
    bad = int(frame["bad_ea"].sum())
    about = f"{int(frame['hits'].sum()):,} hits, {bad:,} with error bits; {words}"
    return mosaic(
        panels, columns, title="Occupancy", about=about, height=4.75 if columns == 2 else 3.6 if columns == 3 else 4.9,
        below=1.02,
    )  # fmt: skip


def _occupancy(scene: Scene, board: int) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw_pixels import draw_pixels

        hits, states = scene.image(board, "hits"), scene.states(board)
        overlays = map_overlays(states, hits)
        draw_pixels(ax, hits, label="hits", overlays=overlays, scale="auto", colour_axes=bar)
        _halves(ax, scene)
        key_below(ax, overlays)
        _mark_states(ax, states)

    return draw


def _state_map(scene: Scene, board: int) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw_pixels import draw_pixel_categories

        if bar is not None:
            bar.set_axis_off()
        states = scene.states(board)
        known = [*STATES, *sorted(set(states.ravel().tolist()) - set(STATES))]
        there = {state: number for number, state in enumerate(known) if (states == state).any()}
        codes = np.vectorize(there.__getitem__, otypes=[np.int64])(states)
        categories = {
            number: (_NAMES.get(state, state), STATES.get(state, "#5b7083"))
            for state, number in there.items()
        }
        draw_pixel_categories(ax, codes, categories, ncols=3)
        _halves(ax, scene)
        key = ax.get_legend()
        if key is not None:
            key.set_bbox_to_anchor((-0.12, beneath(ax, 0.5)), ax.transAxes)

    return draw


def draw_totals(scene: Scene) -> Canvas:
    """Draw the hits of each board, for boards of which one pixel is read out."""
    from firstlight.view.draw import draw_group_totals

    frame = scene.frame("pixels/table")
    totals = [int(frame.filter(pl.col("board") == board)["hits"].sum()) for board in scene.boards]
    names = [_with_pixels(scene, board) for board in scene.boards]

    def draw(ax: Axes, _: Axes | None) -> None:
        draw_group_totals(ax, totals, names, label="hits", named=True)
        ax.tick_params(axis="x", rotation=0, length=0)
        top = ax.get_ylim()[1]
        for place, total in enumerate(totals):
            ax.annotate(
                f"{total:,}", (place, min(total, top)), xytext=(0, 3), textcoords="offset points", ha="center"
            )

    return mosaic(
        [Panel(draw)], 1, title="Hits of each board", about=scene.about, width=6.0, height=3.2, below=0.6
    )


def _with_pixels(scene: Scene, board: int) -> str:
    rows = scene.frame("pixels/table").filter((pl.col("board") == board) & pl.col("row").is_not_null())
    if rows.height != 1:
        return scene.name(board)
    return f"{scene.name(board)}\nrow {rows['row'][0]}, column {rows['col'][0]}"


def draw_error_bits(scene: Scene) -> Canvas:
    """Draw how often each value of the error bits occurs, and where hits with error bits are."""
    hits = scene.frame("ingest/hits")
    panels = [Panel(_error_counts(scene, hits), "error bits of all hits")]
    if scene.has_maps:
        panels += [
            Panel(_error_map(scene, board), scene.name(board), bar=True, square=True)
            for board in scene.boards[:5]
        ]
    bad = int((hits["ea"] != 0).sum())
    about = f"{bad:,} of {hits.height:,} hits have error bits ({bad / max(hits.height, 1):.3%}); they stay out of means"
    columns = min(len(panels), 3)
    width = 6.0 if columns == 1 else 10.0
    return mosaic(
        panels, columns, title="Error bits (EA)", about=about, width=width, below=0.95, left=0.85,
        height=4.75 if columns == 2 else 3.6,
    )  # fmt: skip


def _error_counts(scene: Scene, hits: pl.DataFrame) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        boards = scene.boards
        width = 0.8 / len(boards)
        highest = 1
        for number, board in enumerate(boards):
            counts = np.bincount(hits.filter(pl.col("board") == board)["ea"].to_numpy(), minlength=4)[:4]
            place = np.arange(4) - 0.4 + (number + 0.5) * width
            ax.bar(place, np.where(counts > 0, counts, np.nan), width * 0.94, color=scene.colour(board),
                   label=f"{scene.name(board)}: {counts[1:].sum():,} not 0")  # fmt: skip
            if len(boards) == 1:
                for x, count in zip(place, counts, strict=True):
                    ax.annotate(f"{count:,}", (x, max(count, 0.5)), xytext=(0, 2), textcoords="offset points",
                                ha="center", fontsize=8.5)  # fmt: skip
            highest = max(highest, int(counts.max()))
        ax.set_yscale("log")
        ax.set(xlabel="EA", ylabel="hits", ylim=(0.5, 6.0 * highest))
        ax.set_xticks(range(4), ["0 (good)", "1", "2", "3"])
        if len(boards) > 1:
            ax.legend(loc="upper right", fontsize=8.5)

    return draw


def _error_map(scene: Scene, board: int) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw_pixels import draw_pixels

        hits, bad = scene.image(board, "hits"), scene.image(board, "bad_ea")
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(hits > 0, 100 * bad / hits, np.nan)
        overlays = map_overlays(scene.states(board), hits)
        highest = float(np.nanmax(share)) if np.isfinite(share).any() else 0.0
        draw_pixels(ax, share, label="hits with error bits [%]", overlays=overlays, colour_axes=bar,
                    limits=(0.0, highest or 1.0), colour_map="YlOrRd")  # fmt: skip
        _halves(ax, scene)
        key_below(ax, overlays)

    return draw


# -- events ------------------------------------------------------------------------------------------------------


def draw_events(scene: Scene) -> Canvas:
    """Draw what became of hits and packets when events were built, and the hits of an event."""
    panels = []
    about = scene.about
    if scene.filled("events/counts"):
        panels.append(Panel(_event_counts(scene), ""))
    if scene.filled("events/hits"):
        hits = scene.frame("events/hits")
        about = f"{hits.height:,} hits in {hits['event'].n_unique():,} events"
        panels.append(Panel(_hits_of_event(scene, hits), "hits of an event"))
        if len(scene.boards) > 1:
            panels.append(Panel(_boards_of_event(hits), "boards with hits"))
    left = 2.1 if scene.filled("events/counts") else 0.85
    if not scene.filled("events/counts"):
        return mosaic(panels, len(panels), title="Events", about=about, left=left, height=3.3)
    return _events_sheet(panels, about)


def _events_sheet(panels: list[Panel], about: str) -> Canvas:
    """Place the counts, whose words need room on the left, beside the histograms."""
    from firstlight.detectors.etroc.views.scene import SIZE, WIDTH, heading
    from firstlight.view.draw import place, sheet

    height = 4.1
    canvas = sheet(WIDTH, height)
    heading(canvas, "Events", about)
    lefts = {1: [(2.9, 0.3)], 2: [(2.9, 3.75), (7.0, 0.15)], 3: [(2.9, 5.5), (5.2, 2.45), (8.4, 0.12)]}[
        len(panels)
    ]
    for panel, (left, right) in zip(panels, lefts, strict=True):
        ax = place(canvas, left, 0.6, right, 0.98, SIZE)
        panel.draw(ax, None)
        ax.set_title(panel.title, fontsize=SIZE + 0.5)
    return canvas


def _event_counts(scene: Scene) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        frame = scene.frame("events/counts").head(16)
        counts = frame["count"].to_numpy()
        place = np.arange(frame.height)[::-1]
        units = frame["unit"].to_list()
        known = list(dict.fromkeys(units))
        colours = [("#1f5f99", "#d1662a", "#3b8c5a", "#8e5ba6")[known.index(unit) % 4] for unit in units]
        positive = counts[counts > 0]
        log = positive.size > 0 and positive.max() > 30 * positive.min()
        ax.barh(place, np.where(counts > 0, counts, np.nan), color=colours, height=0.7)
        if log:
            ax.set_xscale("log")
        largest = float(positive.max()) if positive.size else 1.0
        ax.set_xlim(0.5 if log else 0, largest * (200 if log else 1.45))
        for y, count in zip(place, counts, strict=True):
            ax.annotate(f"{count:,}", (max(count, 0.5 if log else 0), y), xytext=(3, 0), textcoords="offset points",
                        va="center", fontsize=8.5)  # fmt: skip
        from matplotlib.patches import Patch

        names = frame["what"].to_list()
        ax.set_yticks(place, [name if len(name) < 44 else f"{name[:42]}…" for name in names], fontsize=8.5)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("number of " + ", ".join(known))
        key = [Patch(color=colours[units.index(unit)], label=unit) for unit in known]
        ax.legend(handles=key, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, fontsize=8.5, borderaxespad=0.0,
                  handlelength=1.0, columnspacing=0.8)  # fmt: skip

    return draw


def _hits_of_event(scene: Scene, hits: pl.DataFrame) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import draw_spectrum

        sizes = {"all boards": hits.group_by("event").len()["len"].to_numpy()}
        if 1 < len(scene.boards) <= 7:
            for board in scene.boards:
                of_board = hits.filter(pl.col("board") == board)
                sizes[f"board {board}"] = of_board.group_by("event").len()["len"].to_numpy()
        most = max(int(size.max(initial=1)) for size in sizes.values())
        rows = np.stack([np.bincount(size, minlength=most + 1) for size in sizes.values()])
        draw_spectrum(
            ax, np.arange(most + 2) - 0.5, rows, names=list(sizes), labels=("hits", "events"), log=True
        )
        lines = ax.patches
        if len(sizes) > 1:
            for patch, colour in zip(
                lines, ["#20262c", *(scene.colour(b) for b in scene.boards)], strict=False
            ):
                patch.set_edgecolor(colour)
            ax.legend(loc="upper right", fontsize=8.5)
        ax.set(xlim=(0.5, max(most, 3) + 0.5), ylim=(0.5, 8.0 ** (1 + len(sizes) / 2) * rows.max()))
        ax.locator_params(axis="x", integer=True)

    return draw


def _boards_of_event(hits: pl.DataFrame) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        bits = pl.lit(1, dtype=pl.UInt64) * (2 ** pl.col("board").cast(pl.UInt64))
        found = (
            hits.unique(["event", "board"]).group_by("event").agg(bits.sum().alias("set"))
            .group_by("set").len().sort("len", descending=True).head(10)
        )  # fmt: skip
        words = ["+".join(str(b) for b in range(64) if (int(value) >> b) & 1) for value in found["set"]]
        place = np.arange(found.height)[::-1]
        ax.barh(place, found["len"].to_numpy(), color="#1f5f99", height=0.7)
        ax.set_yticks(place, words)
        ax.tick_params(axis="y", length=0)
        for y, count in zip(place, found["len"], strict=True):
            ax.annotate(
                f"{count:,}", (count, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8.5
            )
        ax.set(xlim=(0, 1.45 * float(found["len"].max())), xlabel="events")  # type: ignore[arg-type]
        ax.locator_params(axis="x", nbins=4)

    return draw


def draw_cut_flow(scene: Scene) -> Canvas:
    """Draw the events that are left after every cut, with what each cut takes away and what passes it alone."""
    flows = [(title, scene.frame(name)) for name, title in (("cut/flow", "cuts on codes"), ("cut_times/flow", "cuts on times")) if scene.filled(name)]  # fmt: skip
    rows: list[tuple[str, int, int, int | None]] = []
    for title, frame in flows:
        for row in frame.sort("row").iter_rows(named=True):
            if row["row"] < 0:
                rows.append(
                    (f"all events, before the {title}", row["events_before"], row["events_after"], None)
                )
            else:
                name = row["cut"] if not row["label"] else f"{row['cut']} ({row['label']})"
                rows.append((name, row["events_before"], row["events_after"], row["events_alone"]))
    rows = rows[:30]
    longest = max((len(name) for name, *_ in rows), default=10)

    def draw(ax: Axes) -> None:
        from matplotlib.patches import Patch

        place = np.arange(len(rows))[::-1]
        before, after = (np.array([row[index] for row in rows], dtype=np.float64) for index in (1, 2))
        ax.barh(place, after, color="#1f5f99", height=0.7)
        ax.barh(place, before - after, left=after, color="#d1662a", height=0.7)
        start = max(float(before.max()), 1.0)
        for y, (_, first, last, alone) in zip(place, rows, strict=True):
            text = f"{last:,}" if alone is None else f"{last:,}  (−{first - last:,}; alone {alone:,})"
            ax.text(1.012, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
        ax.set_yticks(place, [name if len(name) < 60 else f"{name[:58]}…" for name, *_ in rows])
        ax.tick_params(axis="y", length=0)
        ax.set(xlim=(0, start), ylim=(-0.6, len(rows) - 0.4), xlabel="events")
        ax.legend(handles=[Patch(color="#1f5f99", label="left"), Patch(color="#d1662a", label="taken away")],
                  loc="lower right", ncols=2, bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0)  # fmt: skip

    from firstlight.detectors.etroc.views.scene import SIZE, WIDTH, heading
    from firstlight.view.draw import place, sheet

    height = 1.75 + 0.3 * len(rows)
    canvas = sheet(WIDTH, height)
    first = rows[0][1] if rows else 0
    last = first if scene.accepted is None else scene.accepted.height
    heading(canvas, "Cut flow", f"{last:,} of {first:,} events pass all cuts ({last / max(first, 1):.2%})")
    draw(place(canvas, 0.4 + 0.07 * min(longest, 60), 0.6, 2.5, 0.85, SIZE))
    return canvas
