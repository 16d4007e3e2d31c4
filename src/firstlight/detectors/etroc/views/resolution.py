"""Time resolution: results by estimator, differences of pairs with their model, iterations, slices, bootstrap."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from firstlight.detectors.etroc.views.scene import (
    ESTIMATORS,
    SIZE,
    WIDTH,
    Panel,
    heading,
    mosaic,
    number_or_nan,
    short_names,
)
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.etroc.views.scene import Draw, Scene

    Values = NDArray[np.float64]

__all__ = [
    "BoardModel", "PairModel", "draw_bootstrap", "draw_iterations", "draw_pairs", "draw_slices", "draw_summary", "pair_model",
]  # fmt: skip

_BAD = "#b3261e"
_LEAST_EXPECTED = 5.0


class BoardModel(NamedTuple):
    """Core and tail of a board: width of the core [ps], share of hits in the tail, tail / core."""

    sigma: float
    fraction: float
    scale: float


class PairModel(NamedTuple):
    """Expected entries of a histogram of a pair: all, and those with both boards in the core."""

    total: Values
    core: Values


def pair_model(edges: Values, entries: float, mean: float, one: BoardModel, two: BoardModel) -> PairModel:
    """Return what the likelihood expects of the difference of two boards.

    Each board is a normal core with a share of hits in a wider normal tail, so the difference is a sum of four normal
    distributions whose variances add.

    Parameters
    ----------
    edges : ndarray, shape (n + 1,)
        Bin edges [ps].
    entries : float
        Events of the pair, also those outside the bins.
    mean : float
        Centre of the difference [ps].
    one, two : BoardModel
        The boards.
    """
    from scipy.special import ndtr

    total, core = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for tail_one, tail_two in product((False, True), repeat=2):
        share, variance = 1.0, 0.0
        for board, tail in ((one, tail_one), (two, tail_two)):
            share *= board.fraction if tail else 1 - board.fraction
            variance += (board.sigma * (board.scale if tail else 1.0)) ** 2
        if share <= 0 or variance <= 0:
            continue
        part = entries * share * np.diff(ndtr((edges - mean) / np.sqrt(variance)))
        total += part
        if not (tail_one or tail_two):
            core = part
    return PairModel(total, core)


def _last(scene: Scene) -> pl.DataFrame:
    frame = scene.frame("resolution/boards")
    return frame.filter(pl.col("iteration") == frame["iteration"].max())


def _estimators(frame: pl.DataFrame) -> list[str]:
    found = frame["estimator"].unique(maintain_order=True).to_list()
    return [name for name in ESTIMATORS if name in found] + [name for name in found if name not in ESTIMATORS]


def _look(estimator: str) -> tuple[str, str, str]:
    return ESTIMATORS.get(estimator, (estimator, "P", "#5b7083"))


# -- summary -----------------------------------------------------------------------------------------------------


def draw_summary(scene: Scene) -> Canvas:
    """Draw the resolution of each board by each estimator, with its errors; what has no solution is said in words."""
    from firstlight.view.draw import no_data, place, sheet

    frame = _last(scene)
    boards = sorted(frame["board"].unique().to_list())
    estimators = _estimators(frame)
    lines = [(board, name) for board in boards for name in estimators]
    height = 1.7 + 0.235 * len(lines) + 0.16 * len(boards)
    canvas = sheet(WIDTH, height)
    events = int(frame["events"].max() or 0)  # type: ignore[arg-type]
    about = f"{events:,} events, after iteration {scene.last_iteration} of the time-walk correction"
    heading(canvas, "Time resolution", about)
    ax = place(canvas, 1.35, 1.0, 3.5, 0.7, SIZE)
    rows = {(row["board"], row["estimator"]): row for row in frame.iter_rows(named=True)}
    values = frame["resolution"].drop_nulls().to_numpy()
    if not values.size and not rows:
        no_data(ax, "no board has a resolution")
        return canvas
    y, ticks = 0.0, []
    for board in boards:
        first = y
        for name in estimators:
            if (board, name) in rows:
                _summary_row(ax, rows[board, name], y, name)
            y -= 1.0
        ticks.append((0.5 * (first + y + 1), scene.name(board).replace(", ", "\n")))
        if board != boards[-1]:
            ax.axhline(y + 0.15, color="#d4d8dc", linewidth=0.8)
        y -= 0.7
    ax.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks])
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(y + 1.0, 0.7), xlabel="time resolution [ps]", xlim=_summary_range(frame))
    ax.xaxis.grid(visible=True, color="#eceff2")
    _summary_key(canvas, estimators, frame)
    return canvas


def _summary_range(frame: pl.DataFrame) -> tuple[float, float]:
    parts = [
        frame["resolution"].drop_nulls().to_numpy(),
        *(frame[name].drop_nulls().to_numpy() for name in ("low", "high")),
    ]
    values = np.concatenate(parts)
    if not values.size:
        return 0.0, 100.0
    errors = frame.select(pl.max_horizontal("resolution_error", "bootstrap_error").max()).item() or 0.0
    low, high = float(values.min()) - errors, float(values.max()) + errors
    margin = max(0.08 * (high - low), 0.5)
    return max(low - margin, 0.0), high + margin


def _summary_row(ax: Axes, row: Mapping[str, Any], y: float, name: str) -> None:
    from firstlight.view.draw_fits import with_error

    words, marker, colour = _look(name)
    _ = words
    value = number_or_nan(row["resolution"])
    formula, bootstrap = number_or_nan(row["resolution_error"]), number_or_nan(row["bootstrap_error"])
    place = ax.get_yaxis_transform()
    if not np.isfinite(value):
        square = number_or_nan(row["square"])
        text = str(row["status"]) + (
            f": σ² = {square:,.0f} ps²".replace("-", "−") if np.isfinite(square) else ""
        )
        ax.text(1.015, y, text, transform=place, va="center", fontsize=9, color=_BAD)
        ax.plot([0.008], [y], marker="x", color=_BAD, transform=place, markersize=6, clip_on=False)
        return
    low, high = number_or_nan(row["low"]), number_or_nan(row["high"])
    if np.isfinite(low) and np.isfinite(high):
        ax.plot([low, high], [y, y], color=colour, linewidth=7, alpha=0.25, solid_capstyle="butt")
    if np.isfinite(formula):
        ax.errorbar(value, y, xerr=formula, fmt="none", color=colour, elinewidth=1.4, capsize=3)
    ax.plot(
        value, y, marker, color=colour, markersize=5.5, markerfacecolor=colour if row["good"] else "white"
    )
    error = bootstrap if np.isfinite(bootstrap) else formula
    text = (with_error(value, error) if np.isfinite(error) else f"{value:.1f}") + " ps"
    fraction, scale = number_or_nan(row["tail_fraction"]), number_or_nan(row["tail_scale"])
    if np.isfinite(fraction):
        text += f"; tail {100 * fraction:.2g} %" + (
            f" × {scale:.1f}" if np.isfinite(scale) and fraction > 0 else ""
        )
    if not row["good"]:
        text += f"  ({row['status']})"
    ax.text(
        1.015, y, text, transform=place, va="center", fontsize=9, color="#20262c" if row["good"] else _BAD
    )


def _summary_key(canvas: Canvas, estimators: list[str], frame: pl.DataFrame) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], linestyle="none", marker=_look(name)[1], color=_look(name)[2], label=_look(name)[0])
        for name in estimators
    ]
    handles.append(
        Line2D([], [], color="#20262c", marker="|", markersize=7, linewidth=1.4, label="error by formula")
    )
    if frame["low"].count():
        handles.append(
            Line2D([], [], color="#20262c", alpha=0.25, linewidth=7, label="68.3 % bootstrap interval")
        )
    canvas.legend(handles=handles, loc="lower left", ncols=4, fontsize=8.8, frameon=False, bbox_to_anchor=(0.01, 0.0),
                  columnspacing=1.2, handlelength=1.4)  # fmt: skip


# -- pairs -------------------------------------------------------------------------------------------------------


def _models(scene: Scene) -> dict[int, BoardModel]:
    rows = _last(scene).filter((pl.col("estimator") == "likelihood") & pl.col("resolution").is_not_null())
    models = {}
    for row in rows.iter_rows(named=True):
        fraction, scale = number_or_nan(row["tail_fraction"]), number_or_nan(row["tail_scale"])
        usable = np.isfinite(fraction) and np.isfinite(scale)
        models[int(row["board"])] = BoardModel(
            float(row["resolution"]), fraction if usable else 0.0, scale if usable else 1.0
        )
    return models


def draw_pairs(scene: Scene) -> Canvas:
    """Draw the differences of corrected times of each pair of boards with the model of the likelihood, and pulls."""
    from firstlight.view.draw import place, sheet

    wide = scene.wide("timewalk/hits", "toa_ns")
    models = _models(scene) if scene.filled("resolution/boards") else {}
    pairs = [
        (one, two) for one, two in scene.pairs(100) if str(one) in wide.columns and str(two) in wide.columns
    ][:3]
    width = WIDTH if len(pairs) > 1 else 6.0
    height = 5.5
    canvas = sheet(width, height)
    iteration = scene.last_iteration
    about = f"corrected times after iteration {iteration}; model: core and tail of each board from the joint likelihood"
    heading(canvas, "Differences of pairs of boards", about)
    cell = width / max(len(pairs), 1)
    keys: dict[str, Any] = {}
    for number, (one, two) in enumerate(pairs):
        left, right = number * cell + 0.78, width - (number + 1) * cell + 0.12
        top, below = place(canvas, left, 2.05, right, 0.95, SIZE), place(canvas, left, 0.9, right, 3.55, SIZE)
        difference = 1e3 * (wide[str(one)] - wide[str(two)]).drop_nulls().to_numpy()
        _one_pair(top, below, difference, models.get(one), models.get(two))
        top.set_title(f"board {one} − board {two}", fontsize=SIZE + 0.5)
        handles, labels = top.get_legend_handles_labels()
        keys |= dict(zip(labels, handles, strict=True))
    canvas.legend(
        handles=list(keys.values()), labels=list(keys), loc="lower center", ncols=4, fontsize=9.0, frameon=False,
        handlelength=1.6,
    )  # fmt: skip
    return canvas


def _one_pair(
    top: Axes, below: Axes, difference: Values, one: BoardModel | None, two: BoardModel | None
) -> None:
    from firstlight.view.draw import no_data
    from firstlight.view.draw_fits import draw_differences, draw_fit, poisson_interval, text_box

    if difference.size < 10:
        no_data(top, "no event has both boards")
        no_data(below, "no pulls")
        return
    centre = float(np.median(difference))
    scale = robust_spread(difference) or 1.0
    reach = 6.5 * scale
    # the medians of TDC bins beat against narrow bins of the histogram: about half a core width
    edges = np.linspace(centre - reach, centre + reach, 41)
    counts = np.histogram(difference, edges)[0].astype(np.float64)
    middle = 0.5 * (edges[1:] + edges[:-1])
    inside = np.abs(difference - centre) < 3 * scale
    mean = float(difference[inside].mean())
    labels = ("", f"events per {edges[1] - edges[0]:.0f} ps")
    draw_fit(top, middle, np.where(counts > 0, counts, np.nan), poisson_interval(counts), labels=labels,
             names=("events", ""), legend=False)  # fmt: skip
    lines = [f"n {difference.size:,}", f"std {difference.std(ddof=1):.1f} ps"]
    outside = int(difference.size - counts.sum())
    if outside:
        lines.append(f"outside {outside:,}")
    if one is not None and two is not None:
        model = pair_model(edges, float(difference.size), mean, one, two)
        top.plot(middle, model.total, color="#d1662a", linewidth=1.6, label="model", zorder=3)
        if one.fraction > 0 or two.fraction > 0:
            top.plot(
                middle,
                model.core,
                color="#3b8c5a",
                linewidth=1.1,
                linestyle=(0, (4, 2)),
                label="both in the core",
            )
            tail = model.total - model.core
            top.fill_between(
                middle, tail, 1e-3, color="#d1662a", alpha=0.22, linewidth=0, label="one or both in the tail"
            )
        used = model.total >= _LEAST_EXPECTED
        draw_differences(
            below, middle[used], counts[used], model.total[used], np.sqrt(model.total[used]), pulls=True
        )
        chi2 = float(np.sum((counts[used] - model.total[used]) ** 2 / model.total[used]))
        lines += [f"core {np.hypot(one.sigma, two.sigma):.1f} ps", f"χ² {chi2:.0f} in {int(used.sum())} bins"]
    else:
        no_data(below, "no likelihood for both boards")
    top.set_yscale("log")
    top.set(xlim=(edges[0], edges[-1]), ylim=(0.4, 300 * counts.max()))
    top.tick_params(labelbottom=False)
    text_box(top, lines, size=0.82)
    below.set(xlim=(edges[0], edges[-1]), xlabel="difference [ps]", ylabel="pull")


# -- iterations, slices, bootstrap -------------------------------------------------------------------------------


def draw_iterations(scene: Scene) -> Canvas:
    """Draw the resolution after each iteration of the time-walk correction, a panel for each board."""
    frame = scene.frame("resolution/boards")
    boards = sorted(frame["board"].unique().to_list())[:6]
    columns = min(len(boards), 3)
    panels = [Panel(_iterations(frame, board), scene.name(board)) for board in boards]
    canvas = mosaic(
        panels, columns, title="Resolution against iteration", about="iterations of the time-walk correction",
        height=2.9, foot=0.35, width=WIDTH if columns > 1 else 6.0,
    )  # fmt: skip
    _summary_key(canvas, _estimators(frame), frame.with_columns(low=pl.lit(None, dtype=pl.Float64)))
    return canvas


def _iterations(frame: pl.DataFrame, board: int) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        part = frame.filter(pl.col("board") == board)
        estimators = _estimators(frame)
        for number, name in enumerate(estimators):
            rows = part.filter(pl.col("estimator") == name).sort("iteration")
            shift = 0.06 * (number - 0.5 * (len(estimators) - 1))
            x = rows["iteration"].to_numpy() + shift
            y = rows["resolution"].fill_null(np.nan).to_numpy()
            error = rows["resolution_error"].fill_null(np.nan).to_numpy()
            ax.errorbar(
                x, y, error, fmt=f"{_look(name)[1]}-", color=_look(name)[2], markersize=4.5, linewidth=0.8
            )
            missing = ~np.isfinite(y)
            ax.plot(
                x[missing], np.full(missing.sum(), 0.03), "x", color=_BAD, transform=ax.get_xaxis_transform()
            )
        numbers = part["iteration"].unique().sort().to_list()
        ax.set_xticks(numbers, ["before" if number < 0 else str(number) for number in numbers])
        ax.set(xlim=(min(numbers) - 0.5, max(numbers) + 0.5), xlabel="iteration", ylabel="resolution [ps]")
        ax.margins(y=0.15)

    return draw


_SLICED = {
    "time": "event in the middle of the slice",
    "file": "file",
    "pixel": "pixel",
    "bias": "bias voltage [V]",
}


def draw_slices(scene: Scene, by: str) -> Canvas:
    """Draw the resolution in parts of the run: slices in time, files, pixels, bias voltages.

    Parameters
    ----------
    scene : Scene
        Products.
    by : str
        ``time``, ``file``, ``pixel`` or ``bias``.
    """
    frame = scene.frame("resolution/slices").filter(pl.col("by") == by)
    labels = frame["label"].unique(maintain_order=True).to_list()
    names = short_names(labels) if by == "file" else labels
    boards = sorted(frame["board"].unique().to_list())
    on_axis = by in ("time", "bias") and frame["x"].null_count() == 0

    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import name_places

        whole = _whole(scene)
        place = {label: float(index) for index, label in enumerate(labels)}
        if on_axis:
            place = dict(zip(frame["label"], frame["x"], strict=True))
        reach = sorted(place.values())
        step = min(np.diff(reach), default=1.0) if len(reach) > 1 else 1.0
        for number, board in enumerate(boards):
            rows = frame.filter(pl.col("board") == board)
            shift = 0.12 * step * (number - 0.5 * (len(boards) - 1))
            x = np.array([place[label] for label in rows["label"]]) + shift
            y = rows["resolution"].fill_null(np.nan).to_numpy()
            error = rows["resolution_error"].fill_null(0.0).to_numpy()
            colour = scene.colour(board)
            ax.errorbar(
                x, y, error, fmt="o", markersize=4.5, color=colour, label=_slice_words(scene, board, y, error)
            )
            missing = ~np.isfinite(y)
            ax.plot(x[missing], np.full(missing.sum(), 0.025), "x", color=colour, transform=ax.get_xaxis_transform(),
                    clip_on=False)  # fmt: skip
            if board in whole:
                ax.axhline(whole[board], color=colour, linewidth=0.9, linestyle=(0, (4, 3)))
        if not on_axis:
            name_places(ax, names)
        ax.set(
            xlabel=_SLICED.get(by, by),
            ylabel="resolution [ps]",
            xlim=(reach[0] - 0.6 * (step or 1.0), reach[-1] + 0.6 * (step or 1.0)),
        )
        low, high = ax.get_ylim()
        ax.set_ylim(low - 0.06 * (high - low), high + (0.1 + 0.075 * len(boards)) * (high - low))
        ax.legend(loc="upper left", fontsize=8.8)

    long = sum(len(name) for name in names[:24]) > 70 and not on_axis
    without = int(frame["resolution"].null_count())
    about = "dashes: the whole run" + (f"; crosses: {without} without a result" if without else "")
    titles = {"time": "Resolution along the run", "file": "Resolution by file", "pixel": "Resolution by pixel",
              "bias": "Resolution against bias"}  # fmt: skip
    below = 0.62 + (0.08 * max(len(name) for name in names) if long else 0)
    return mosaic([Panel(draw)], 1, title=titles.get(by, f"Resolution by {by}"), about=about, height=3.1 + below,
                  width=6.4 if len(labels) <= 16 else WIDTH, below=below)  # fmt: skip


def _slice_words(scene: Scene, board: int, y: Values, error: Values) -> str:
    used = np.isfinite(y) & (error > 0)
    if used.sum() < 2:
        return scene.name(board)
    weight = 1 / error[used] ** 2
    mean = float(np.sum(weight * y[used]) / weight.sum())
    chi2 = float(np.sum(weight * (y[used] - mean) ** 2))
    return f"{scene.name(board)}: constant χ² {chi2:.1f} / {int(used.sum()) - 1}"


def _whole(scene: Scene) -> dict[int, float]:
    if not scene.filled("resolution/boards"):
        return {}
    frame = _last(scene)
    chosen = frame.filter(pl.col("estimator") == _estimators(frame)[0]).drop_nulls("resolution")
    return {int(board): float(value) for board, value in chosen.select("board", "resolution").iter_rows()}


def draw_bootstrap(scene: Scene) -> Canvas:
    """Draw the resolution in the bootstrap samples, with the interval that is quoted."""
    frame = scene.frame("resolution/replicas")
    if "estimator" in frame.columns:
        frame = frame.filter(pl.col("estimator") == _estimators(frame)[0])
    boards = sorted(frame["board"].unique().to_list())[:6]
    columns = min(len(boards), 3)
    panels = [Panel(_replicas(scene, frame, board), scene.name(board)) for board in boards]
    number = frame["replica"].n_unique()
    return mosaic(
        panels, columns, title="Bootstrap of time walk and resolution", height=2.9, width=WIDTH if columns > 1 else 6.0,
        about=f"{number:,} samples of the events, each with its own time-walk fit and resolution",
    )  # fmt: skip


def _replicas(scene: Scene, frame: pl.DataFrame, board: int) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import no_data
        from firstlight.view.draw_fits import text_box

        values = frame.filter(pl.col("board") == board)["resolution"].fill_null(np.nan).to_numpy()
        finite = values[np.isfinite(values)]
        if finite.size < 2:
            no_data(ax, "no sample has a resolution")
            return
        mean, std = float(finite.mean()), float(finite.std(ddof=1))
        bins = int(np.clip(2 * np.sqrt(finite.size), 8, 40))
        counts, edges = np.histogram(finite, bins)
        ax.stairs(counts, edges, fill=True, color="#c3d6ea")
        ax.stairs(counts, edges, color=scene.colour(board), linewidth=1.1)
        x = np.linspace(edges[0], edges[-1], 201)
        bell = (
            finite.size
            * (edges[1] - edges[0])
            * np.exp(-0.5 * ((x - mean) / std) ** 2)
            / (std * np.sqrt(2 * np.pi))
        )
        ax.plot(x, bell, color="#20262c", linewidth=1.0, linestyle=(0, (4, 2)))
        lines = [f"mean {mean:.2f} ps", f"std {std:.2f} ps"]
        row = _whole_row(scene, board)
        if row is not None:
            low, high = number_or_nan(row["low"]), number_or_nan(row["high"])
            if np.isfinite(low) and np.isfinite(high):
                ax.axvspan(low, high, color="#d1662a", alpha=0.15, linewidth=0)
                lines.append(f"68.3 %: {low:.2f} … {high:.2f}")
            ax.axvline(float(row["resolution"]), color="#d1662a", linewidth=1.4)
        if finite.size < values.size:
            lines.append(f"without a result {values.size - finite.size}")
        text_box(ax, lines, size=0.85)
        ax.set(xlabel="resolution [ps]", ylabel="samples", ylim=(0, 1.8 * counts.max()))

    return draw


def _whole_row(scene: Scene, board: int) -> dict[str, Any] | None:
    if not scene.filled("resolution/boards"):
        return None
    frame = _last(scene)
    # the estimator that was bootstrapped is the one with an interval
    resampled = frame.filter(pl.col("low").is_not_null())
    name = (_estimators(resampled) or _estimators(frame))[0]
    rows = frame.filter((pl.col("estimator") == name) & (pl.col("board") == board))
    rows = rows.drop_nulls("resolution")
    return rows.row(0, named=True) if rows.height else None
