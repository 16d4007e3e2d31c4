"""Charge injection: S-curves with their fits, threshold against charge, noise and jitter, hits of every point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.etroc.views.scene import (
    SIZE,
    WIDTH,
    Panel,
    board_colour,
    heading,
    mosaic,
    number_or_nan,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.etroc.views.scene import Draw, Scene

    Values = NDArray[np.float64]

__all__ = [
    "binomial_interval",
    "draw_hit_map",
    "draw_line",
    "draw_noise_and_jitter",
    "draw_s_curves",
    "s_curve",
]

_NOISE = "#efe4bf"
_MOST_BOARDS = 6


def binomial_interval(found: Values, tried: Values, level: float = 0.6827) -> Values:
    """Return the distance from a share to the ends of its central interval (Clopper and Pearson 1934).

    Parameters
    ----------
    found, tried : ndarray, shape (n,)
        Successes and trials; 0 <= found <= tried.
    level : float
        Confidence level.

    Returns
    -------
    ndarray, shape (2, n)
        Downwards and upwards.
    """
    from scipy.special import betaincinv

    k, n = np.asarray(found, dtype=np.float64), np.asarray(tried, dtype=np.float64)
    tail = 0.5 * (1 - level)
    low = np.where(k > 0, betaincinv(np.maximum(k, 0.5), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 0.5), 1 - tail), 1.0)
    return np.stack([k / n - low, high - k / n])


def s_curve(threshold: Values, dac50: float, noise: float, plateau: float) -> Values:
    """Return the efficiency ``eps / 2 erfc((d - DAC50) / (sqrt2 w))`` at thresholds [DAC]."""
    from scipy.special import erfc

    return np.asarray(0.5 * plateau * erfc((threshold - dac50) / (np.sqrt(2.0) * max(noise, 1e-9))))


def boards_of(scene: Scene) -> list[int]:
    """Return the boards that were scanned: those with points at a charge and curves."""
    frame = scene.frame("injection/curves" if scene.filled("injection/curves") else "injection/points")
    return sorted(int(board) for board in frame["board"].unique())[:_MOST_BOARDS]


def _points(scene: Scene, board: int) -> pl.DataFrame:
    return scene.frame("injection/points").filter(pl.col("board") == board).sort("charge", "threshold")


def _noise_band(scene: Scene, board: int, method: str = "scan") -> tuple[float, float] | None:
    if not scene.filled("injection/noise"):
        return None
    rows = scene.frame("injection/noise").filter((pl.col("board") == board) & (pl.col("method") == method))
    rows = rows.drop_nulls(["noise_min", "noise_max"])
    return (float(rows["noise_min"][0]), float(rows["noise_max"][0])) if rows.height else None


def _charge_colours(charges: list[float]) -> dict[float, Any]:
    import matplotlib as mpl

    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.85, max(len(charges), 1)))
    return dict(zip(charges, colours, strict=True))


# -- S-curves ----------------------------------------------------------------------------------------------------


def draw_s_curves(scene: Scene) -> Canvas:
    """Draw the share of injected charges that were seen against threshold, a colour for each charge, with the fits."""
    boards = boards_of(scene)
    panels = [Panel(_s_curves(scene, board), scene.name(board)) for board in boards]
    frame = scene.frame("injection/curves") if scene.filled("injection/curves") else None
    good = 0 if frame is None else int(frame["good"].sum())
    total = 0 if frame is None else frame.height
    about = f"{good} of {total} curves are good; bars: 68.3 % Clopper-Pearson; dashed: a fit that is not good"
    return mosaic(
        panels,
        1,
        title="S-curves",
        about=about,
        height=3.9 if len(panels) == 1 else 3.0,
        left=0.8,
        right=2.75,
    )


def _s_curves(scene: Scene, board: int) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.view.draw import no_data

        points = _points(scene, board)
        if not points.height:
            no_data(ax, "no points")
            return
        known = points["injections"].null_count() == 0
        charges = points["charge"].unique().sort().to_list()
        colours = _charge_colours(charges)
        band = _noise_band(scene, board)
        largest = float(points["hits"].max() or 1)  # type: ignore[arg-type]
        top = 1.25 if known else 1.25 * _typical(points, band, largest)
        if band is not None:
            ax.axvspan(
                *band, color=_NOISE, linewidth=0, zorder=0, label=f"noise band {band[0]:.0f}–{band[1]:.0f}"
            )
        above = 0
        for charge in charges:
            above += _one_curve(
                scene, ax, points.filter(pl.col("charge") == charge), board, charge, colours[charge], top
            )
        if above:
            ax.plot(
                [],
                [],
                "^",
                color="#6b5716",
                label=f"{above} points off the scale,\nup to {_highest(points, known)}",
            )
        low, high = float(points["threshold"].min()), float(points["threshold"].max())  # type: ignore[arg-type]
        margin = 0.03 * max(high - low, 1.0)
        ax.axhline(1.0 if known else np.nan, color="#d4d8dc", linewidth=0.8, zorder=0)
        ax.set(xlim=(low - margin, high + margin), ylim=(-0.02 * top, top), xlabel="threshold [DAC]",
               ylabel="hits / injections" if known else "hits")  # fmt: skip
        ax.legend(loc="upper left", bbox_to_anchor=(1.005, 1.03), fontsize=8.5, title="charge: threshold ± error",
                  title_fontsize=8.5, alignment="left", handlelength=1.4)  # fmt: skip

    return draw


def _typical(points: pl.DataFrame, band: tuple[float, float] | None, largest: float) -> float:
    outside = points if band is None else points.filter(pl.col("threshold") > band[1])
    return float(outside["hits"].max() or largest)  # type: ignore[arg-type]


def _highest(points: pl.DataFrame, known: bool) -> str:
    if known:
        return f"{np.max(points['hits'].to_numpy() / points['injections'].to_numpy()):.2f}"
    return f"{np.max(points['hits'].to_numpy()):,}"


def _one_curve(
    scene: Scene, ax: Axes, points: pl.DataFrame, board: int, charge: float, colour: Any, top: float
) -> int:
    """Draw one charge; return how many of its points are above the axes."""
    from firstlight.view.draw_fits import poisson_interval, with_error

    threshold, hits = points["threshold"].to_numpy(), points["hits"].to_numpy().astype(np.float64)
    tried = points["injections"].fill_null(0).to_numpy().astype(np.float64)
    known = points["injections"].null_count() == 0
    share = hits / tried if known else hits
    bars = poisson_interval(hits) / (tried if known else 1.0)
    binomial = known & (hits <= tried)
    if binomial.any():
        bars[:, binomial] = binomial_interval(hits[binomial], tried[binomial])
    row = _curve_row(scene, board, charge)
    label = f"{charge:g} fC"
    if row is not None:
        dac50, noise, plateau = (number_or_nan(row[name]) for name in ("dac50", "noise", "plateau"))
        if np.isfinite(dac50):
            label += f": {with_error(dac50, number_or_nan(row['dac50_error']))}"
        if not row["good"]:
            label += f"\n({row['status']})"
        if np.isfinite([dac50, noise, plateau]).all():
            scale = 1.0 if known else _typical(points, _noise_band(scene, board), float(hits.max()))
            band = _noise_band(scene, board)
            first = threshold.min() if band is None else max(threshold.min(), band[1])
            fine = np.linspace(first, threshold.max(), 400)
            style = "-" if row["good"] else "--"
            ax.plot(
                fine,
                scale * s_curve(fine, dac50, noise, plateau),
                style,
                color=colour,
                linewidth=1.4,
                zorder=2,
            )
    seen = share <= top
    ax.errorbar(threshold[seen], share[seen], bars[:, seen], fmt="o", color=colour, markersize=4, elinewidth=0.9,
                label=label, zorder=3)  # fmt: skip
    ax.plot(
        threshold[~seen], np.full(int((~seen).sum()), 0.985 * top), "^", color=colour, markersize=5, zorder=3
    )
    return int((~seen).sum())


def _curve_row(scene: Scene, board: int, charge: float) -> Mapping[str, Any] | None:
    if not scene.filled("injection/curves"):
        return None
    rows = scene.frame("injection/curves").filter((pl.col("board") == board) & (pl.col("charge") == charge))
    return rows.row(0, named=True) if rows.height else None


# -- threshold against charge ------------------------------------------------------------------------------------


def draw_line(scene: Scene) -> Canvas:
    """Draw threshold against charge with the line and its uncertainty, the noise band and suggested thresholds.

    Below stand the distances to the line, which are too small to be seen above.
    """
    from firstlight.view.draw import place, sheet

    boards = boards_of(scene)[:3]
    width = WIDTH if len(boards) > 1 else 6.8
    height = 5.6
    canvas = sheet(width, height)
    heading(
        canvas, "Threshold against charge", "line through the fitted thresholds, with the band of its error"
    )
    cell = width / len(boards)
    for number, board in enumerate(boards):
        left, right = number * cell + 0.8, width - (number + 1) * cell + 0.12
        top, below = place(canvas, left, 1.95, right, 0.95, SIZE), place(canvas, left, 0.6, right, 3.85, SIZE)
        _line_panel(scene, top, below, board)
        top.set_title(scene.name(board), fontsize=SIZE + 0.5)
    return canvas


def _line_row(scene: Scene, board: int, method: str) -> Mapping[str, Any] | None:
    if not scene.filled("injection/lines"):
        return None
    rows = scene.frame("injection/lines").filter((pl.col("board") == board) & (pl.col("method") == method))
    rows = rows.drop_nulls(["offset", "slope"])
    return rows.row(0, named=True) if rows.height else None


def line_band(charge: Values, row: Mapping[str, Any]) -> Values:
    """Return the standard deviation of a line at charges, from the errors of offset and slope and their correlation."""
    one, two = number_or_nan(row["offset_error"]), number_or_nan(row["slope_error"])
    correlation = number_or_nan(row["correlation"])
    correlation = correlation if np.isfinite(correlation) else 0.0
    variance = one**2 + (charge * two) ** 2 + 2 * charge * correlation * one * two
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _line_panel(scene: Scene, top: Axes, below: Axes, board: int) -> None:
    from firstlight.view.draw import no_data

    curves = scene.frame("injection/curves").filter(pl.col("board") == board).sort("charge")
    if not curves.height:
        no_data(top, "no curves")
        no_data(below, "no curves")
        return
    charge, dac50 = curves["charge"].to_numpy(), curves["dac50"].fill_null(np.nan).to_numpy()
    error = curves["dac50_error"].fill_null(np.nan).to_numpy()
    last = curves["last_with_hits"].fill_null(np.nan).to_numpy()
    good = curves["good"].to_numpy()
    reach = (0.0, 1.12 * float(charge.max()))
    band = _noise_band(scene, board)
    if band is not None:
        top.axhspan(*band, color=_NOISE, linewidth=0, label=f"noise band {band[0]:.0f}–{band[1]:.0f}")
    words = []
    fine = np.linspace(reach[0], reach[1], 101)
    for method, colour, style, name in (
        ("scurve", "#d1662a", "-", "S-curves"),
        ("last", "#5b7083", (0, (4, 3)), "last"),
    ):
        row = _line_row(scene, board, method)
        if row is None:
            continue
        line = row["offset"] + row["slope"] * fine
        top.plot(fine, line, color=colour, linestyle=style, linewidth=1.3, zorder=2)
        words += _line_words(row, name)
        if method == "scurve":
            width = line_band(fine, row)
            top.fill_between(fine, line - width, line + width, color=colour, alpha=0.3, linewidth=0)
    top.errorbar(charge[good], dac50[good], error[good], fmt="o", color="#1f5f99", markersize=5, zorder=4,
                 label="50 % point of the S-curve")  # fmt: skip
    if (~good & np.isfinite(dac50)).any():
        top.errorbar(charge[~good], dac50[~good], error[~good], fmt="o", color="#1f5f99", markerfacecolor="white",
                     markersize=5, zorder=4, label="S-curve that is not good")  # fmt: skip
    if np.isfinite(last).any():
        top.plot(charge, last, "D", markerfacecolor="white", markeredgecolor="#5b7083", markersize=5,
                 label="largest threshold with a hit", zorder=3)  # fmt: skip
    _suggestions(scene, top, board)
    low = min(np.nanmin(dac50) if np.isfinite(dac50).any() else np.inf, band[0] if band else np.inf)
    high = max(
        np.nanmax(dac50) if np.isfinite(dac50).any() else -np.inf,
        np.nanmax(last) if np.isfinite(last).any() else -np.inf,
    )
    if np.isfinite(low) and np.isfinite(high):
        top.set_ylim(low - 0.12 * (high - low), high + 0.42 * (high - low))
    top.set(xlim=reach, ylabel="threshold [DAC]")
    top.tick_params(labelbottom=False)
    top.legend(loc="upper left", fontsize=8.3, handlelength=1.5)
    if words:
        top.text(0.985, 0.03, "\n".join(words), transform=top.transAxes, ha="right", va="bottom", fontsize=8.5,
                 bbox={"facecolor": "white", "edgecolor": "#c8ced4", "alpha": 0.9, "boxstyle": "round,pad=0.4"})  # fmt: skip
    _distances(scene, below, board, charge, dac50, error)
    below.set(xlim=reach, xlabel="injected charge [fC]", ylabel="residual [DAC]")


def _line_words(row: Mapping[str, Any], name: str) -> list[str]:
    from firstlight.view.draw_fits import with_error

    offset, slope = (
        with_error(row[part], number_or_nan(row[f"{part}_error"])) for part in ("offset", "slope")
    )
    words = [f"{name}: {offset} DAC + Q × {slope} DAC/fC"]
    chi2 = number_or_nan(row["chi2"])
    if name == "S-curves" and np.isfinite(chi2) and row["ndf"] > 0:
        words.append(f"χ² {chi2:.1f} / {row['ndf']}")
    return words


def _suggestions(scene: Scene, ax: Axes, board: int) -> None:
    if not scene.filled("injection/suggestions"):
        return
    rows = scene.frame("injection/suggestions").filter(pl.col("board") == board)
    chosen = rows.filter(pl.col("method") == "scurve")
    rows = (chosen if chosen.height else rows).sort("threshold")
    if not rows.height:
        return
    charge, threshold = rows["charge"].to_numpy(), rows["threshold"].to_numpy()
    values = ", ".join(f"{value:.0f}" for value in threshold)
    ax.plot(charge, threshold, "*", color="#3b8c5a", markersize=11, zorder=5, label=f"suggested: {values}")


def _distances(scene: Scene, ax: Axes, board: int, charge: Values, dac50: Values, error: Values) -> None:
    from firstlight.view.draw import no_data
    from firstlight.view.draw_fits import draw_differences

    row = _line_row(scene, board, "scurve")
    if row is None:
        no_data(ax, "no line")
        return
    fine = np.linspace(0.0, 1.12 * float(charge.max()), 101)
    width = line_band(fine, row)
    ax.fill_between(fine, -width, width, color="#d1662a", alpha=0.3, linewidth=0)
    draw_differences(ax, charge, dac50, row["offset"] + row["slope"] * charge, error)
    used = np.isfinite(dac50)
    if used.any():
        left = dac50[used] - row["offset"] - row["slope"] * charge[used]
        reach = 1.35 * float(np.max(np.abs(left) + np.nan_to_num(error[used])))
        ax.set_ylim(-reach, reach)


# -- noise and jitter --------------------------------------------------------------------------------------------


def draw_noise_and_jitter(scene: Scene) -> Canvas:
    """Draw the width of the S-curves and the jitter of the time of arrival against charge."""
    panels = []
    if scene.filled("injection/curves"):
        panels.append(
            Panel(_against_charge(scene, "injection/curves", "noise", "width of the S-curve [DAC]"), "noise")
        )
    if scene.filled("injection/jitter"):
        panels.append(
            Panel(_against_charge(scene, "injection/jitter", "jitter", "jitter of TOA [ps]"), "jitter")
        )
    about = "jitter: 3125 ps / mean CAL × spread of the TOA codes; open: not good"
    return mosaic(panels, len(panels), title="Noise and jitter against charge", about=about, height=3.5,
                  width=WIDTH if len(panels) > 1 else 6.0)  # fmt: skip


def _against_charge(scene: Scene, product: str, column: str, label: str) -> Draw:
    def draw(ax: Axes, _: Axes | None) -> None:
        from firstlight.detectors.etroc.injection_lines import COMMON_NOISE
        from firstlight.view.draw import no_data

        frame = scene.frame(product).drop_nulls(column).sort("charge")
        if not frame.height:
            no_data(ax, "no value")
            return
        boards = sorted(frame["board"].unique().to_list())[:_MOST_BOARDS]
        for board in boards:
            rows = frame.filter(pl.col("board") == board)
            good = rows["good"].to_numpy() if "good" in rows.columns else (rows["status"] == "ok").to_numpy()
            x, y = rows["charge"].to_numpy(), rows[column].to_numpy()
            error = rows[f"{column}_error"].fill_null(0.0).to_numpy()
            colour = scene.colour(board) if board in scene.boards else board_colour(board)
            name = scene.name(board)
            if column == "jitter" and rows["threshold"].count():
                at = rows["threshold"].drop_nulls().to_numpy()
                span = f"{at.min():.0f}" if at.min() == at.max() else f"{at.min():.0f}–{at.max():.0f}"
                name += f", threshold {span} DAC"
            if column == "noise" and (common := rows.filter(pl.col("status") == COMMON_NOISE)).height:
                # one width was fitted to all charges: it is no measurement at each of them
                width, own = float(common["noise"][0]), float(common["noise_error"][0] or 0.0)
                told = f"{name}: one width for {common.height} charges, {width:.2f} ± {own:.2f} DAC"
                ax.axhspan(width - own, width + own, color=colour, alpha=0.25, linewidth=0)
                ax.axhline(width, color=colour, linewidth=1.2, label=told)
                good &= (rows["status"] != COMMON_NOISE).to_numpy()
                y = np.where((rows["status"] == COMMON_NOISE).to_numpy(), np.nan, y)
                name = "_nolegend_"
            ax.errorbar(x[good], y[good], error[good], fmt="o", color=colour, markersize=5, label=name)
            if (~good).any():
                ax.errorbar(
                    x[~good],
                    y[~good],
                    error[~good],
                    fmt="o",
                    color=colour,
                    markerfacecolor="white",
                    markersize=5,
                )
        values, spread = frame[column].to_numpy(), frame[f"{column}_error"].fill_null(0.0).to_numpy()
        high = float(np.max(values + spread))
        first, last = float(frame["charge"].min()), float(frame["charge"].max())  # type: ignore[arg-type]
        margin = 0.08 * max(last - first, 1.0)
        ax.set(
            xlim=(first - margin, last + margin),
            ylim=(0, 1.3 * high),
            xlabel="injected charge [fC]",
            ylabel=label,
        )
        ax.legend(loc="upper right", fontsize=8.5)

    return draw


# -- hits of every point -----------------------------------------------------------------------------------------


def draw_hit_map(scene: Scene) -> Canvas:
    """Draw the hits of every point of the scan by threshold and charge."""
    boards = boards_of(scene)[:3]
    panels = [Panel(_hit_map(scene, board), scene.name(board), bar=True) for board in boards]
    rows = max(scene.frame("injection/points").filter(pl.col("board").is_in(boards))["charge"].n_unique(), 3)
    about = "shares above 1 are noise; grey: not measured; white: no hit"
    return mosaic(
        panels, 1, title="Hits of the scan", about=about, height=min(1.35 + 0.3 * rows, 4.5), left=0.85
    )


def _hit_map(scene: Scene, board: int) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        import matplotlib as mpl
        from matplotlib.colors import Normalize

        points = _points(scene, board)
        known = points["injections"].null_count() == 0
        charges, thresholds = (
            points["charge"].unique().sort().to_list(),
            points["threshold"].unique().sort().to_list(),
        )
        image = np.full((len(charges), len(thresholds)), np.nan)
        row = np.searchsorted(charges, points["charge"].to_numpy())
        column = np.searchsorted(thresholds, points["threshold"].to_numpy())
        hits = points["hits"].to_numpy().astype(np.float64)
        image[row, column] = hits / points["injections"].to_numpy() if known else hits
        high = float(np.nanmax(image)) or 1.0
        colours = mpl.colormaps["YlGnBu"].with_extremes(bad="#b9c4cf", under="white")
        norm = Normalize(1e-9, max(high, 1.0))
        drawn = ax.imshow(np.ma.masked_invalid(image), origin="lower", aspect="auto", cmap=colours, norm=norm,
                          interpolation="none")  # fmt: skip
        band = _noise_band(scene, board)
        if band is not None:
            ends = np.interp(band, thresholds, np.arange(len(thresholds)))
            for end in ends:
                ax.axvline(end, color="#1d1d1d", linewidth=1.1, linestyle=(0, (4, 2)))
        step = -(-len(thresholds) // 14)
        chosen = range(0, len(thresholds), step)
        ax.set_xticks(list(chosen), [f"{thresholds[index]:g}" for index in chosen])
        every = -(-len(charges) // 12)
        ax.set_yticks(range(0, len(charges), every), [f"{charge:g}" for charge in charges[::every]])
        ax.set(xlabel="threshold [DAC]", ylabel="charge [fC]")
        places: dict[str, Any] = {"ax": ax} if bar is None else {"cax": bar}
        colour_bar = ax.figure.colorbar(drawn, label="hits / injections" if known else "hits", **places)
        colour_bar.outline.set_visible(False)

    return draw
