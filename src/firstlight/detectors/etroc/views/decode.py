"""Health of the decoding: what became of every word, of every packet, and whether triggers follow each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.etroc.source import HARMLESS
from firstlight.detectors.etroc.views.scene import Panel, mosaic, short_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.etroc.views.scene import Scene

__all__ = ["draw_packets", "draw_triggers", "draw_words", "judge_packets", "jumps"]

_MOST_BARS = 48
_MOST_KINDS = 8
_USED = {"header": "#9db4cc", "data": "#1f5f99", "trailer": "#c9d6e4", "hit": "#1f5f99"}
_NOT_USED = ("#d1662a", "#a8323e", "#b59b2b", "#8e5ba6", "#3fa7a7", "#3b8c5a", "#5b7083", "#d98cb3")
_HARMLESS = "#c3c9d0"
_PACKETS = {
    "good": "#4c9f70",
    "no trailer": "#e0a030",
    "checksum wrong": "#d0342c",
    "hit count wrong": "#8e5ba6",
}
BUNCHES = 3564


def _bars(files: Sequence[int]) -> tuple[NDArray[np.int64], list[str]]:
    """Return for each file its bar, and the label of each bar: of many files neighbours share one."""
    step = max(-(-len(files) // _MOST_BARS), 1)
    labels = [str(files[start]) for start in range(0, len(files), step)]
    return np.arange(len(files)) // step, labels


def _ticks(scene: Scene, files: Sequence[int], labels: Sequence[str]) -> list[str]:
    """Return what stands below each bar: names of files; their numbers where a bar is several files."""
    names = _file_names(scene)
    if len(files) == len(labels):
        return [names.get(int(label), label) for label in labels]
    step = -(-len(files) // _MOST_BARS)
    return [
        f"{files[start]}–{files[min(start + step, len(files)) - 1]}" for start in range(0, len(files), step)
    ]


def _all_files(scene: Scene, frame: pl.DataFrame) -> list[int]:
    """Return the files of a run, also those without anything in them."""
    whole = scene.frame("ingest/files") if scene.filled("ingest/files") else frame
    return sorted(whole["file"].unique().to_list())


def draw_words(scene: Scene) -> Canvas:
    """Draw what became of the words of each file: all of them, and below those that were not used."""
    frame = scene.frame("ingest/counters")
    files = _all_files(scene, frame)
    bars, labels = _bars(files)
    bar_of = dict(zip(files, bars.tolist(), strict=True))
    kinds = _kinds(frame)
    heights = {kind: np.zeros(len(labels)) for kind in kinds}
    used = dict(zip(frame["word"], frame["used"], strict=True))
    for file, word, count in frame.select("file", "word", "count").iter_rows():
        if count:
            heights[word if word in heights else _OTHER][bar_of[file]] += count
    ticks = _ticks(scene, files, labels)
    total = int(frame["count"].sum())
    outside = frame.filter(~pl.col("used"))
    lost = int(outside["count"].sum())
    harmless = int(outside.filter(pl.col("word").is_in(list(HARMLESS)))["count"].sum())
    shared = "" if len(files) == len(labels) else f"; a bar is {-(-len(files) // _MOST_BARS)} files"

    def all_words(ax: Axes, _: Axes | None) -> None:
        _stack(ax, heights, kinds, log=False)
        ax.set(ylabel="words")
        _name_bars(ax, ticks)

    def not_used(ax: Axes, _: Axes | None) -> None:
        refused = {kind: heights[kind] for kind in kinds if not used.get(kind, False)}
        _stack(ax, refused, kinds, log=True)
        ax.set(ylabel="words not used")
        _name_bars(ax, ticks)

    below = _space_below(ticks)
    about = (
        f"{total:,} words in {len(files):,} files, {lost - harmless:,} rejected"
        f" ({100 * (lost - harmless) / max(total, 1):.3g} %), {harmless:,} without data{shared}"
    )
    panels = [Panel(all_words, "all words")]
    if lost:
        panels.append(Panel(not_used, "words that were not used, by reason"))
    return mosaic(
        panels, len(panels), title="What became of every word", about=about, width=10.0 if lost else 7.0,
        height=3.2 + 0.6 * below, below=below, left=0.85,
    )  # fmt: skip


_OTHER = "other reasons"


def _kinds(frame: pl.DataFrame) -> dict[str, str]:
    """Return the kinds of words with their colours: used ones first, then the reasons, the most frequent first."""
    totals = frame.group_by("word", "used").agg(pl.col("count").sum()).sort("count", "word", descending=True)
    rows = totals.filter(pl.col("count") > 0)
    found = {}
    for word in rows.filter(pl.col("used"))["word"]:
        found[word] = _USED.get(word, "#5b87b3")
    for number, word in enumerate(rows.filter(~pl.col("used"))["word"]):
        if number == _MOST_KINDS:
            found[_OTHER] = "#1d1d1d"
            break
        found[word] = _HARMLESS if word in HARMLESS and _HARMLESS not in found.values() else _NOT_USED[number]
    return found


def _stack(ax: Axes, heights: Mapping[str, Any], colours: Mapping[str, str], *, log: bool) -> None:
    size = len(next(iter(heights.values())))
    place, base = np.arange(size), np.zeros(size)
    lines: list[str] = []
    smallest = 0.7 if log else 0.0
    for kind, values in heights.items():
        number = int(values.sum())
        label = f"{kind}: {number:,}"
        lines.append(label)
        if log:
            # on a logarithmic axis parts of a stack cannot be compared: bars side by side
            width = 0.84 / len(heights)
            shift = (len(lines) - 0.5) * width - 0.42
            ax.bar(
                place + shift, np.where(values > 0, values, np.nan), width, color=colours[kind], label=label
            )
        else:
            ax.bar(place, values, 0.84, base, color=colours[kind], label=label, linewidth=0)
            base += values
    highest = max(float(values.max()) for values in heights.values()) if log else float(base.max())
    if log:
        ax.set_yscale("log")
        ax.set_ylim(smallest, max(highest, 2.0) ** (1 + 0.14 * len(heights)) * 1.6)
    else:
        rows = len(heights) if len(heights) < 5 else -(-len(heights) // 2)
        ax.set_ylim(0, max(highest, 1.0) * (1.14 + 0.105 * rows))
    ax.set_xlim(-0.7, size - 0.3)
    ax.legend(
        loc="upper left",
        ncols=1 if len(heights) < 5 else 2,
        fontsize=8.5,
        handlelength=1.2,
        columnspacing=1.0,
    )


def _file_names(scene: Scene) -> dict[int, str]:
    """Return what each file is called in a figure: its name without what all have in common."""
    if not scene.filled("ingest/files"):
        return {}
    rows = scene.frame("ingest/files").unique("file", keep="first").sort("file")
    short = short_names([str(name).rsplit("/", 1)[-1] for name in rows["name"]])
    return dict(zip((int(file) for file in rows["file"]), short, strict=True))


def _space_below(ticks: Sequence[str]) -> float:
    """Return the space that the names of the bars need below the axes [in]."""
    longest = max((len(tick) for tick in ticks), default=1)
    return 0.62 + (0.075 * min(longest, 26) if len(ticks) > 6 else 0.0)


def _name_bars(ax: Axes, ticks: Sequence[str]) -> None:
    step = -(-len(ticks) // 24)
    chosen = list(range(0, len(ticks), step))
    turned = len(ticks) > 6
    ax.set_xticks(chosen, [ticks[index] for index in chosen], rotation=90 if turned else 0)
    ax.tick_params(axis="x", labelsize=8.5 if turned else 9.0, length=0)
    ax.set_xlabel("number of the file" if any("–" in tick for tick in ticks) else "file")


def judge_packets(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the packets with a column ``kind``: good, no trailer, checksum wrong, hit count wrong.

    A trailer tells hits in 8 bits, so that counts are compared modulo 256.

    Parameters
    ----------
    frame : polars.DataFrame
        ``ingest/packets``.
    """
    told, found = pl.col("hits_told").cast(pl.Int64), pl.col("hits_found").cast(pl.Int64)
    kind = (
        pl.when(~pl.col("complete"))
        .then(pl.lit("no trailer"))
        .when(~pl.col("crc_ok").fill_null(value=True))
        .then(pl.lit("checksum wrong"))
        .when((told.is_not_null()) & (told % 256 != found % 256))
        .then(pl.lit("hit count wrong"))
        .otherwise(pl.lit("good"))
    )
    return frame.with_columns(kind=kind)


def draw_packets(scene: Scene) -> Canvas:
    """Draw good and bad packets of each file, the hits of a packet for each link, and the status bits."""
    frame = judge_packets(scene.frame("ingest/packets"))
    files = _all_files(scene, frame)
    bars, labels = _bars(files)
    bar_of = dict(zip(files, bars.tolist(), strict=True))
    heights = {kind: np.zeros(len(labels)) for kind in _PACKETS}
    for file, kind, count in frame.group_by("file", "kind").len().iter_rows():
        heights[kind][bar_of[file]] += count
    # what there is none of stays in the key with its 0, without a bar
    ticks = _ticks(scene, files, labels)
    good = int(heights["good"].sum())

    def per_file(ax: Axes, _: Axes | None) -> None:
        _stack(ax, heights, _PACKETS, log=False)
        ax.set(ylabel="packets")
        _name_bars(ax, ticks)

    def sizes(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import draw_spectrum

        links = sorted(frame["link"].unique().to_list())
        most = int(frame["hits_found"].max() or 0)  # type: ignore[arg-type]
        rows = [
            np.bincount(frame.filter(pl.col("link") == link)["hits_found"].to_numpy(), minlength=most + 1)
            for link in links
        ]
        named = [
            f"link {link}: {row[1:].sum() / max(row.sum(), 1):.2%} with hits, mean {_mean(row):.3g}"
            for link, row in zip(links, rows, strict=True)
        ]
        edges = np.arange(most + 2) - 0.5
        shown = 8
        draw_spectrum(ax, edges, np.stack(rows[:shown]), names=named[:shown],
                      labels=("hits in a packet", "packets"), log=True)  # fmt: skip
        if len(rows) == 1:
            ax.text(0.97, 0.94, named[0], transform=ax.transAxes, ha="right", va="top", fontsize=9)
        else:
            ax.legend(loc="upper right", fontsize=8.5)
        ax.set(
            xlim=(-0.5, max(most, 3) + 0.5), ylim=(0.5, 40 * max(float(max(row.max() for row in rows)), 1))
        )

    below = _space_below(ticks)
    status = frame["status"].drop_nulls()
    flagged = int((status != 0).sum())
    about = f"{frame.height:,} packets, {good:,} good; status bits other than 0 in {flagged:,} trailers"
    return mosaic(
        [Panel(per_file, "packets of each file"), Panel(sizes, "hits in a packet")], 2,
        title="Packets", about=about, height=3.2 + 0.6 * below, below=below, left=0.85,
    )  # fmt: skip


def _mean(counts: NDArray[np.int64]) -> float:
    return float((counts * np.arange(counts.size)).sum() / max(counts.sum(), 1))


def jumps(frame: pl.DataFrame) -> NDArray[np.int64]:
    """Return by how much the trigger counter of each packet is ahead of the previous one of its link and file, less 1.

    Parameters
    ----------
    frame : polars.DataFrame
        ``ingest/packets``; the counter has 8 bits.

    Returns
    -------
    ndarray of int, shape (n,)
        0: in order; 255: the same again.
    """
    ordered = frame.sort("file", "link", "record")
    ahead = (pl.col("l1a").cast(pl.Int64).diff().over("file", "link") - 1) % 256
    found: NDArray[np.int64] = ordered.select(ahead.alias("jump"))["jump"].drop_nulls().to_numpy()
    return found


def draw_triggers(scene: Scene) -> Canvas:
    """Draw jumps of the trigger counter and the bunch crossings of the packets."""
    frame = scene.frame("ingest/packets")
    jump = jumps(frame)
    links = sorted(frame["link"].unique().to_list())[:8]
    same = frame.sort("file", "link", "record").select(
        (pl.col("bcid").cast(pl.Int64).diff().over("file", "link") == 0).sum()
    )
    repeated = int(same.item() or 0)

    def counter(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import no_data
        from firstlight.view.draw_fits import text_box

        if not jump.size:
            no_data(ax, "no link has two packets")
            return
        signed = np.where(jump > 127, jump - 256, jump)
        counts = np.bincount(signed + 128, minlength=256)
        ax.stairs(counts, np.arange(257) - 128.5, fill=True, color="#1f5f99")
        ax.set_yscale("log")
        ax.set(xlim=(-128.5, 127.5), ylim=(0.6, 30 * counts.max()),
               xlabel="L1A counter of a packet − previous − 1", ylabel="packets")  # fmt: skip
        inside = int((jump == 0).sum())
        lines = [f"in order: {inside:,} ({inside / jump.size:.3%})", f"others: {jump.size - inside:,}"]
        lines.append(f"the same counter again: {int((jump == 255).sum()):,}")
        text_box(ax, lines, size=0.9)

    def crossings(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import draw_spectrum

        edges = np.linspace(0, BUNCHES, 100)
        rows = [
            np.histogram(frame.filter(pl.col("link") == link)["bcid"].to_numpy(), edges)[0] for link in links
        ]
        draw_spectrum(ax, edges, np.stack(rows), names=[f"link {link}" for link in links],
                      labels=("BCID [25 ns]", "packets in 36 crossings"))  # fmt: skip
        beyond = int((frame["bcid"] >= BUNCHES).sum())
        if beyond:
            ax.text(
                0.02,
                0.95,
                f"beyond {BUNCHES - 1}: {beyond:,}",
                transform=ax.transAxes,
                va="top",
                color="#d0342c",
            )
        ax.set(xlim=(0, BUNCHES), ylim=(0, 1.3 * max(float(max(row.max() for row in rows)), 1)))

    about = f"{frame.height:,} packets on {frame['link'].n_unique()} links; {repeated:,} follow one with the same BCID"
    return mosaic(
        [Panel(counter, "jumps of the trigger counter"), Panel(crossings, "bunch crossings")], 2,
        title="Triggers", about=about, height=3.5, left=0.85,
    )  # fmt: skip
