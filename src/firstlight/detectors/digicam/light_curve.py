"""Light against level: what a level of the light source gives in each pixel, and which level gives wanted light.

More current gives more light: the curve of a pixel is monotone, whatever the noise of its points. Points are made so by isotonic
regression, weighted with their errors (M. Ayer et al., Ann. Math. Stat. 26 (1955) 641), and joined by monotone
cubic pieces (F. N. Fritsch, R. E. Carlson, SIAM J. Numer. Anal. 17 (1980) 238) in ln(light + 0.05 p.e.), in which
light sources are nearly straight. The inverse is that of the same curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.options import LedParameters
from firstlight.errors import InputError
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["CURVES", "LightCurves", "fit_light_curves", "fit_polynomials", "led"]

_SHIFT = 0.05  # p.e.; below, the scale is linear rather than logarithmic
_SURE = 4.0  # errors by which light must fall before the curve is called not monotone
_SATURATED = 0.01  # share of charges beyond the spectrum from which a point is left out
INVERSE = (1.0, 5.0, 50.0)
"""Photo-electrons for which the level is tabulated."""

CURVES = TableSchema(
    "curves",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("status", pl.String, "ok, unlit, few points, or not monotone"),
        Column("n_points", pl.Int32, "levels that the curve goes through", minimum=0),
        Column("lowest", pl.Float64, "light at the lowest level of the curve", "p.e.", nullable=True),
        Column("highest", pl.Float64, "light at the highest level of the curve", "p.e.", nullable=True),
        Column("falls_at", pl.Float64, "level after which light falls by more than 4 errors", "DAC", nullable=True),
        *(
            Column(f"level_{light:g}{end}", pl.Float64, f"{what} {light:g} p.e.", "DAC", nullable=True)
            for light in INVERSE
            for end, what in (("", "level that gives"), ("_error", "error of the level that gives"))
        ),
    ),
    "one pixel",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LightCurves:
    """Monotone curves of light against level, one for each pixel.

    Parameters
    ----------
    level : ndarray, shape (n_levels,)
        Rising [DAC].
    light, error : ndarray, shape (n_pixels, n_levels)
        Points after isotonic regression and the errors of those that were given [p.e.]; NaN where a point was not used.
    status : ndarray of str, shape (n_pixels,)
        ``"ok"``, ``"unlit"``, ``"few points"`` or ``"not monotone"`` (the curve is monotone all the same).
    falls_at : ndarray, shape (n_pixels,)
        First level after which the light that was given falls by more than 4 errors [DAC]; NaN where it does not.
    """

    level: FloatArray
    light: FloatArray
    error: FloatArray
    status: NDArray[Any]
    falls_at: FloatArray

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Which points the curve goes through, shape (n_pixels, n_levels)."""
        return np.isfinite(self.light)

    @cached_property
    def _pieces(self) -> _Pieces:
        return _Pieces.through(self.level, np.log(self.light + _SHIFT))

    def light_at(self, level: ArrayLike) -> FloatArray:
        """Return the light at some levels, shape (n_pixels, n) [p.e.]; NaN outside of the levels of a curve."""
        wanted = np.atleast_1d(np.asarray(level, dtype=np.float64))
        found = np.empty((self.light.shape[0], wanted.size))
        for part in np.array_split(np.arange(wanted.size), max(wanted.size // 64, 1)):
            many = np.broadcast_to(wanted[part], (found.shape[0], part.size))
            found[:, part] = np.exp(self._pieces.at(many)[0]) - _SHIFT
        return found

    def level_for(self, light: float) -> tuple[FloatArray, FloatArray]:
        """Return the level that gives some light in each pixel, and its error.

        Parameters
        ----------
        light : float
            Wanted [p.e.].

        Returns
        -------
        level, error : ndarray, shape (n_pixels,)
            DAC; NaN where a curve does not reach that light. Where the curve is level it is the middle of that stretch. The
            error is that of the light of the nearest points over the slope.
        """
        pieces, target = self._pieces, np.log(light + _SHIFT)
        level = 0.5 * (pieces.crossing(target) + pieces.crossing(target, last=True))
        slope = pieces.at(level[:, None])[1][:, 0] * (light + _SHIFT)
        error = np.full_like(level, np.nan)
        for pixel in np.flatnonzero(slope > 0):
            own = self.used[pixel]
            error[pixel] = np.interp(level[pixel], self.level[own], self.error[pixel, own]) / slope[pixel]
        return level, error


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Monotone cubic pieces of all pixels, those of scipy's PchipInterpolator, evaluated at once.

    Points that are used stand first; the last one is repeated. Arrays have the shape (n_pixels, n_points).
    """

    x: FloatArray
    y: FloatArray
    slope: FloatArray
    number: NDArray[np.int64]

    @classmethod
    def through(cls, level: FloatArray, value: FloatArray) -> _Pieces:
        """Return the pieces through some points, shape (n_pixels, n_levels), NaN where there is none."""
        used = np.isfinite(value)
        number = used.sum(axis=1)
        first = np.argsort(~used, axis=1, kind="stable")
        place = np.minimum(np.arange(level.size), np.maximum(number - 1, 0)[:, None])
        order = np.take_along_axis(first, place, axis=1)
        x, y = level[order], np.take_along_axis(value, order, axis=1)
        slope = np.full_like(y, np.nan)
        for n in np.unique(number[number > 1]):
            rows = number == n
            slope[rows, :n] = _slopes(x[rows, :n], y[rows, :n])
        return cls(x, y, slope, number)

    def at(self, level: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values and slopes at levels, shape (n_pixels, n); NaN outside of the points."""
        rows = np.arange(self.x.shape[0])[:, None]
        last = np.maximum(self.number - 2, 0)[:, None]
        index = np.clip((self.x[:, :, None] <= level[:, None, :]).sum(axis=1) - 1, 0, last)
        following = np.minimum(index + 1, self.x.shape[1] - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            x, y, d = self.x[rows, index], self.y[rows, index], self.slope[rows, index]
            h = self.x[rows, following] - x
            rise, after = (self.y[rows, following] - y) / h, self.slope[rows, following]
            t = (level - x) / h
            bend, twist = 3 * rise - 2 * d - after, d + after - 2 * rise
            value = y + h * t * (d + t * (bend + t * twist))
            slope = d + t * (2 * bend + t * 3 * twist)
            inside = (self.number[:, None] > 1) & (level >= self.x[:, :1]) & (level <= self.x[:, -1:])
        return np.where(inside, value, np.nan), np.where(inside, slope, np.nan)

    def crossing(self, target: float, *, last: bool = False) -> FloatArray:
        """Return where the curves reach a value, first or last, by bisection to the last digit; NaN where they do not."""
        low, high = self.x[:, 0].copy(), self.x[:, -1].copy()
        with np.errstate(invalid="ignore"):
            reached = (self.number > 1) & (self.y[:, 0] <= target) & (target <= self.y[:, -1])
            while True:
                middle = 0.5 * (low + high)
                if not np.any((low < middle) & (middle < high)):
                    return np.where(reached, middle, np.nan)
                value = self.at(middle[:, None])[0][:, 0]
                below = value <= target if last else value < target
                low, high = np.where(below, middle, low), np.where(below, high, middle)


def _slopes(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the slopes at points of monotone cubic pieces (Fritsch and Butland's mean), shape (n_rows, n)."""
    h = np.diff(x, axis=1)
    rise = np.diff(y, axis=1) / h
    if rise.shape[1] == 1:
        return np.repeat(rise, 2, axis=1)
    before, after, h0, h1 = rise[:, :-1], rise[:, 1:], h[:, :-1], h[:, 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 3 * (h0 + h1) / ((h0 + 2 * h1) / before + (2 * h0 + h1) / after)
    inner = np.where(before * after > 0, mean, 0.0)
    return np.concatenate([_end(h[:, :2], rise[:, :2]), inner, _end(h[:, :-3:-1], rise[:, :-3:-1])], axis=1)


def _end(h: FloatArray, rise: FloatArray) -> FloatArray:
    """Return the slope at an end from the first two pieces there: that of a parabola, unless the curve would turn."""
    slope = ((2 * h[:, :1] + h[:, 1:]) * rise[:, :1] - h[:, :1] * rise[:, 1:]) / (h[:, :1] + h[:, 1:])
    turned = slope * rise[:, :1] <= 0
    steep = (rise[:, :1] * rise[:, 1:] <= 0) & (np.abs(slope) > 3 * np.abs(rise[:, :1]))
    return np.where(turned, 0.0, np.where(steep, 3 * rise[:, :1], slope))


def fit_light_curves(
    level: ArrayLike,
    light: ArrayLike,
    error: ArrayLike,
    *,
    usable: ArrayLike | None = None,
    minimum_light: float = 0.05,
) -> LightCurves:
    """Return monotone curves of light against level.

    Parameters
    ----------
    level : array-like, shape (n_levels,)
        Rising [DAC].
    light, error : array-like, shape (n_pixels, n_levels)
        Light and its error [p.e.]; NaN is a point that is not used.
    usable : array-like of bool, shape (n_pixels, n_levels), optional
        Points that are used; all by default.
    minimum_light : float
        A pixel whose brightest point is below it is unlit.

    Raises
    ------
    InputError
        If the arrays do not fit together, or levels do not rise.
    """
    from scipy.optimize import isotonic_regression

    levels = np.asarray(level, dtype=np.float64)
    lights, errors = (np.asarray(values, dtype=np.float64) for values in (light, error))
    if lights.ndim != 2 or lights.shape != errors.shape or lights.shape[1:] != levels.shape:
        what = f"light, error and level have the shapes {lights.shape}, {errors.shape} and {levels.shape}"
        raise InputError(what, hint="(n_pixels, n_levels) twice, and (n_levels,)")
    if np.any(np.diff(levels) <= 0):
        what = f"levels do not rise: {levels.tolist()}"
        raise InputError(what)
    used = np.isfinite(lights) if usable is None else np.isfinite(lights) & np.asarray(usable, dtype=bool)
    n_pixels = lights.shape[0]
    found, size = np.full(lights.shape, np.nan), np.full(lights.shape, np.nan)
    status = np.full(n_pixels, "ok", dtype=object)
    falls_at = np.full(n_pixels, np.nan)
    for pixel in range(n_pixels):
        own = used[pixel]
        if not own.any() or lights[pixel, own].max() < minimum_light:
            status[pixel] = "unlit" if own.any() else "few points"
            continue
        y, e = lights[pixel, own], _known_errors(errors[pixel, own], lights[pixel, own])
        found[pixel, own] = np.maximum(isotonic_regression(y, weights=1 / e**2).x, 0.0)
        size[pixel, own] = e
        falls = np.flatnonzero(np.diff(y) < -_SURE * np.hypot(e[1:], e[:-1]))
        if falls.size:
            falls_at[pixel] = levels[own][falls[0]]
            status[pixel] = "not monotone"
        if y.size < 2:
            status[pixel] = "few points"
    return LightCurves(levels, found, size, status, falls_at)


def _known_errors(error: FloatArray, light: FloatArray) -> FloatArray:
    """Return errors with those that are not known (light at its bound of 0) taken from the others."""
    good = np.isfinite(error) & (error > 0)
    if not good.any():
        return np.maximum(0.05 * light, 0.01)
    return np.where(good, error, error[good].min())


def fit_polynomials(
    level: FloatArray, light: FloatArray, error: FloatArray, used: NDArray[np.bool_], degree: int = 4
) -> FloatArray:
    """Return polynomials fitted to the points as they are, as the original did; a polynomial need not be monotone.

    Parameters
    ----------
    level : ndarray, shape (n_levels,)
        DAC.
    light, error : ndarray, shape (n_pixels, n_levels)
        p.e.
    used : ndarray of bool, shape (n_pixels, n_levels)
        Points to use.
    degree : int
        Of the polynomial.

    Returns
    -------
    ndarray, shape (n_pixels, degree + 1, degree + 3)
        For each coefficient, the highest power first: value, standard error, row of the covariance. NaN for pixels with fewer points
        than coefficients.
    """
    n = degree + 1
    found = np.full((light.shape[0], n, n + 2), np.nan)
    scale = float(np.abs(level).max()) or 1.0
    powers = np.vander(level / scale, n)
    back = scale ** -np.arange(degree, -1, -1.0)
    for pixel in range(light.shape[0]):
        own = used[pixel] & np.isfinite(light[pixel])
        if np.count_nonzero(own) < n:
            continue
        e = _known_errors(error[pixel, own], light[pixel, own])
        matrix = powers[own] / e[:, None]
        covariance = np.linalg.pinv(matrix.T @ matrix)
        value = covariance @ (matrix.T @ (light[pixel, own] / e))
        covariance = covariance * np.outer(back, back)
        found[pixel, :, 0] = value * back
        found[pixel, :, 1] = np.sqrt(np.diag(covariance))
        found[pixel, :, 2:] = covariance
    return found


def _points(table: Table) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return levels, light, its error, and which points are not saturated, of a table of light."""
    frame = table.frame.sort("channel", "level")
    level = frame["level"].unique().sort().to_numpy()

    def values(name: str) -> FloatArray:
        column = frame[name].cast(pl.Float64).to_numpy().reshape(-1, level.size)
        return np.asarray(column, dtype=np.float64)

    with np.errstate(invalid="ignore"):
        usable = ~(values("saturated") > _SATURATED)
    return level, values("photo_electrons"), values("photo_electrons_error"), usable


def curves_of(table: Table, minimum_light: float = 0.05) -> LightCurves:
    """Return the curves of a table of light (product ``levels/light``); saturated points are left out."""
    level, light, error, usable = _points(table)
    return fit_light_curves(level, light, error, usable=usable, minimum_light=minimum_light)


def run_led(products: Mapping[str, Any], parameters: LedParameters, _: Context) -> dict[str, Product]:
    """Return the curve of each pixel: its points, the levels that give 1, 5 and 50 p.e., and a polynomial beside it."""
    curves = curves_of(products["levels/light"], parameters.minimum_light)
    inverse = {light: curves.level_for(light) for light in INVERSE}
    n_points = curves.used.sum(axis=1)
    lit = n_points > 0
    first = np.where(lit, curves.used.argmax(axis=1), 0)
    last = np.where(lit, curves.level.size - 1 - curves.used[:, ::-1].argmax(axis=1), 0)
    rows = np.arange(n_points.size)
    columns: dict[str, Any] = {
        "channel": rows, "status": curves.status.astype(str), "n_points": n_points,
        "lowest": curves.light[rows, first], "highest": curves.light[rows, last], "falls_at": curves.falls_at,
    }  # fmt: skip
    for light, (level, error) in inverse.items():
        columns[f"level_{light:g}"], columns[f"level_{light:g}_error"] = level, error
    level, given, error, usable = _points(products["levels/light"])
    polynomial = fit_polynomials(level, given, error, usable & curves.used, parameters.polynomial)
    names = [f"x^{power}" for power in range(parameters.polynomial, -1, -1)]
    return {
        "curves": Table.from_frame(CURVES, pl.DataFrame(columns)),
        "light": Block(
            curves.light, ("channel", "level"), "p.e.", "monotone light against level",
            {"level": curves.level.tolist()},
        ),
        "polynomial": Block(
            polynomial, ("channel", "coefficient", "column"), "", "polynomial in the level, beside the curve",
            {"coefficient": names, "column": ["value", "error", *(f"covariance with {name}" for name in names)]},
        ),
    }  # fmt: skip


led = ProductStep("led", run_led, needs=("levels/light",), parameters=LedParameters)
