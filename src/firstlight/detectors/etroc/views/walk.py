"""Time walk: what it is before the correction, the curve with its uncertainty, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from firstlight.detectors.etroc.views.scene import Panel, mosaic
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.etroc.views.scene import Draw, Scene

    Values = NDArray[np.float64]

__all__ = ["WalkCurve", "draw_walk", "walk_curve"]

_MOST_BOARDS = 3
_BINS = 18


class WalkCurve(NamedTuple):
    """Fitted curve of a board in the last iteration.

    Parameters
    ----------
    tot, correction : ndarray, shape (n,)
        Time over threshold and value of the curve [ns].
    error : ndarray, shape (n,)
        Statistical uncertainty of the curve [ns].
    method : str
        How it was fitted.
    coefficients : int
        Number of them.
    """

    tot: Values
    correction: Values
    error: Values
    method: str
    coefficients: int


def walk_curve(coefficients: pl.DataFrame, board: int, tot: Values, residuals: Values) -> WalkCurve | None:
    """Return the curve of a board that was fitted to all events, with its uncertainty.

    The uncertainty is that of least squares, ``s^2 g (X^T X)^-1 g^T`` with the basis functions X at the hits, g at the
    curve, and s from the median absolute residual: errors of single coefficients are too correlated for it.

    Parameters
    ----------
    coefficients : polars.DataFrame
        ``timewalk/coefficients``.
    board : int
        Board.
    tot, residuals : ndarray, shape (n_hits,)
        Time over threshold of the hits, and their distance to the curve [ns].

    Returns
    -------
    WalkCurve or None
        None where the table has no curve of the board.
    """
    from firstlight.detectors.etroc.timewalk import evaluate_curve

    rows = coefficients.filter((pl.col("board") == board) & (pl.col("fold") == -1))
    if not rows.height or tot.size < 3:
        return None
    rows = rows.filter(pl.col("iteration") == rows["iteration"].max()).sort("power")
    method, values = str(rows["method"][0]), rows["value"].to_numpy()
    knots = rows["knot"].to_numpy() if method == "spline" else None
    low, high = np.quantile(tot, (0.002, 0.998))
    places = np.linspace(low, high, 201)

    def basis(at: Values) -> Values:
        # far powers of TOT in ns are nearly the same function: shift and scale do not change their span
        if method != "spline":
            return np.vander((at - tot.mean()) / (tot.std() or 1.0), values.size, increasing=True)
        return np.stack([evaluate_curve(method, unit, knots, at) for unit in np.eye(values.size)], axis=1)

    scale = robust_spread(residuals)
    inside = basis(tot)
    fine = basis(places)
    variance = np.einsum("ij,jk,ik->i", fine, np.linalg.pinv(inside.T @ inside), fine)
    error = scale * np.sqrt(np.maximum(variance, 0.0))
    return WalkCurve(places, evaluate_curve(method, values, knots, places), error, method, values.size)


def draw_walk(scene: Scene) -> Canvas:
    """Draw the distance to the reference against TOT, before and after the correction, a column for each board."""
    hits = scene.corrected.drop_nulls(["tot_ns", "delta_ns", "correction_ns"])
    boards = [board for board in scene.boards if board in set(hits["board"].to_list())]
    shown = boards[:_MOST_BOARDS]
    panels = [Panel(_before(scene, hits, board), f"{scene.name(board)}: before", bar=True) for board in shown]
    panels += [Panel(_after(hits, board), f"{scene.name(board)}: after", bar=True) for board in shown]
    iteration = scene.last_iteration
    number = hits["event"].n_unique()
    about = f"{number:,} events, iteration {iteration}"
    if len(boards) > len(shown):
        about += f"; boards {', '.join(str(board) for board in shown)} of {len(boards)}"
    return mosaic(
        panels, len(shown), title="Time walk", about=about, left=0.8, height=2.95, below=0.58, above=0.3,
        width=10.0 if len(shown) > 1 else 6.0,
    )  # fmt: skip


def _limits(values: Values, share: float, margin: float) -> tuple[float, float]:
    low, high = np.quantile(values, (share, 1 - share))
    space = margin * max(float(high - low), 1e-3)
    return float(low) - space, float(high) + space


def _before(scene: Scene, hits: pl.DataFrame, board: int) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw_density import draw_density

        part = hits.filter(pl.col("board") == board)
        tot, delta = part["tot_ns"].to_numpy(), part["delta_ns"].to_numpy()
        curve = None
        if scene.filled("timewalk/coefficients"):
            curve = walk_curve(
                scene.frame("timewalk/coefficients"), board, tot, delta - part["correction_ns"].to_numpy()
            )
        name = "fit" if curve is None else f"{curve.method}, {curve.coefficients} coefficients"
        draw_density(
            ax, tot, delta, labels=("TOT [ns]", "others − this board [ns]"), bins=(36, 60), profile=_BINS,
            limits=(_limits(tot, 0.002, 0.02), _limits(delta, 0.002, 0.3)),
            curve=None if curve is None else (curve.tot, curve.correction), band=None if curve is None else curve.error,
            names=("median", name), colour_axes=bar, colour_label="hits per bin",
        )  # fmt: skip

    return draw


def _after(hits: pl.DataFrame, board: int) -> Draw:
    def draw(ax: Axes, bar: Axes | None) -> None:
        from firstlight.view.draw_density import draw_density, profile_of
        from firstlight.view.draw_fits import text_box

        part = hits.filter(pl.col("board") == board)
        tot = part["tot_ns"].to_numpy()
        left = 1e3 * (part["delta_ns"] - part["correction_ns"]).to_numpy()
        reach = 4.5 * robust_spread(left) or 1.0
        draw_density(
            ax, tot, left, labels=("TOT [ns]", "left over [ps]"), bins=(36, 60), profile=_BINS,
            limits=(_limits(tot, 0.002, 0.02), (-reach, reach)), colour_axes=bar, colour_label="hits per bin",
            legend=False,
        )  # fmt: skip
        ax.axhline(0.0, color="#d1662a", linewidth=1.0)
        found = profile_of(tot, left, bins=_BINS)
        usable = found.error > 0
        if usable.any():
            chi2 = float(np.sum((found.median[usable] / found.error[usable]) ** 2))
            worst = float(np.max(np.abs(found.median[usable])))
            text_box(ax, [f"medians: χ² {chi2:.0f} / {int(usable.sum())}", f"largest {worst:.1f} ps"],
                     right=False, size=0.8)  # fmt: skip

    return draw
