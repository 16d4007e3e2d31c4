"""Time-walk curves: polynomials and splines of the time over threshold, their coefficients and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.polynomial import polynomial
from scipy.interpolate import BSpline

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["PolynomialShape", "SplineShape", "curve_from_table", "evaluate_curve"]

_SPLINE_QUANTILES = (0.005, 0.995)  # beyond them the spline goes on straight


class PolynomialShape:
    """Powers of TOT about its median, in units of the spread of its inner 80 %."""

    def __init__(self, tot: Floats, order: int, *, scaled: bool) -> None:
        known = tot[~np.isnan(tot)]
        # quantiles, not sums: these would depend on the order of the events in their last digits
        self.center = float(np.median(known)) if known.size else 0.0
        spread = float(np.quantile(known, 0.9) - np.quantile(known, 0.1)) if known.size else 0.0
        self.scale = spread if scaled and spread > 0.0 else 1.0
        self.order = order
        self.u = (tot - self.center) / self.scale

    def matrix(self) -> Floats:
        """Return all functions at each TOT, of shape (n_events, n_coefficients)."""
        return np.ascontiguousarray(np.nan_to_num(polynomial.polyvander(self.u, self.order)))

    def readable(self, values: Floats, covariance: Floats, shift: float) -> tuple[Floats, Floats, None]:
        """Return coefficients of powers of TOT in ns, and their errors."""
        line = np.array([-self.center, 1.0]) / self.scale
        change = np.zeros((self.order + 1, self.order + 1))
        power = np.array([1.0])
        for index in range(self.order + 1):
            change[: index + 1, index] = power
            power = np.convolve(power, line)
        found = change @ values
        found[0] += shift
        variance = np.diag(change @ covariance @ change.T)
        return found, _roots(variance), None


class SplineShape:
    """Cubic B-splines with knots at quantiles of TOT, straight beyond the outermost ones."""

    def __init__(self, tot: Floats, inner: int) -> None:
        known = tot[~np.isnan(tot)]
        low, high = np.quantile(known, _SPLINE_QUANTILES)
        places = np.quantile(known, np.linspace(*_SPLINE_QUANTILES, inner + 2)[1:-1])
        places = np.unique(places[(places > low) & (places < high)])
        self.knots = np.concatenate([[low] * 4, places, [high] * 4])
        self.tot = tot
        self.u = tot
        self.usable = bool(high > low)

    def matrix(self) -> Floats:
        """Return all functions at each TOT, of shape (n_events, n_coefficients)."""
        return _spline_matrix(self.knots, self.tot)

    def readable(self, values: Floats, covariance: Floats, shift: float) -> tuple[Floats, Floats, Floats]:
        """Return coefficients of the splines, their errors and knots."""
        return values + shift, _roots(np.diag(covariance)), self.knots[2:-2]


def _roots(variance: Floats) -> Floats:
    """Return errors; NaN where the coefficient was not determined (variance 0)."""
    return np.asarray(np.sqrt(np.where(variance > 0.0, variance, np.nan)))


def _spline_matrix(knots: Floats, tot: Floats) -> Floats:
    """Return all splines at each TOT, of shape (n, n_knots - 4); rows of missing ones are zero."""
    size = len(knots) - 4
    low, high = knots[0], knots[-1]
    inside = np.clip(np.nan_to_num(tot, nan=low), low, high)
    splines = BSpline(knots, np.eye(size), 3)
    matrix = np.asarray(splines(inside))
    slopes = splines.derivative()
    for edge, beyond in ((low, tot < low), (high, tot > high)):
        if np.any(beyond):
            matrix[beyond] += (tot[beyond] - edge)[:, None] * np.asarray(slopes(edge))
    matrix[np.isnan(tot)] = 0.0
    return np.ascontiguousarray(matrix)


def evaluate_curve(method: str, values: ArrayLike, knots: ArrayLike | None, tot: ArrayLike) -> Floats:
    """Return a time-walk curve.

    Parameters
    ----------
    method : str
        ``"ols"``, ``"odr"`` or ``"spline"``.
    values : array_like of float
        Coefficients as in the table of coefficients, lowest power or first spline first.
    knots : array_like of float or None
        Column ``knot`` of the table; used for a spline only.
    tot : array_like of float
        Time over threshold in ns.

    Returns
    -------
    ndarray, shape of `tot`
        What is added to the raw time, in ns.
    """
    at = np.asarray(tot, dtype=float)
    coefficients = np.asarray(values, dtype=float)
    if method != "spline":
        return np.asarray(polynomial.polyval(at, coefficients))
    inner = np.asarray(knots, dtype=float)
    full = np.concatenate([inner[:1], inner[:1], inner, inner[-1:], inner[-1:]])
    return np.asarray(_spline_matrix(full, at.ravel()) @ coefficients).reshape(at.shape)


def curve_from_table(
    rows: dict[str, Any], board: int, tot: ArrayLike, *, iteration: int | None = None, fold: int = -1
) -> Floats:
    """Return the curve of a board from the columns of the table of coefficients, at `tot` in ns.

    Parameters
    ----------
    rows : mapping of str to sequence
        Columns of the table of coefficients.
    board : int
        Its label.
    tot : array_like of float
        Time over threshold in ns.
    iteration : int, optional
        The last one by default.
    fold : int
        The curve that was fitted without this fold; -1: with all events.

    Returns
    -------
    ndarray, shape of `tot`
        What is added to the raw time, in ns.

    Raises
    ------
    UsageError
        If the table has no such curve.
    """
    columns = {name: np.asarray(rows[name]) for name in ("iteration", "board", "fold", "power", "method")}
    chosen = (columns["board"] == board) & (columns["fold"] == fold)
    if iteration is None and np.any(chosen):
        iteration = int(columns["iteration"][chosen].max())
    chosen &= columns["iteration"] == (-1 if iteration is None else iteration)
    where = np.flatnonzero(chosen)
    if not where.size:
        what = f"no time-walk curve of board {board}, iteration {iteration}, fold {fold}"
        raise UsageError(what, known=[f"board {label}" for label in sorted(set(columns["board"].tolist()))])
    where = where[np.argsort(columns["power"][where])]
    knots = [rows["knot"][index] for index in where.tolist()]
    values = np.asarray(rows["value"], dtype=float)[where]
    return evaluate_curve(str(columns["method"][where[0]]), values, knots, tot)
