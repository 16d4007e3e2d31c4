"""Flux against threshold out of the products of a run: of a pixel, an area, a selection of pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.velo.channels import COLUMNS
from firstlight.detectors.velo.flags import Flag
from firstlight.detectors.velo.options import MODELS
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.velo.views.scene import Scene

    Values = NDArray[np.float64]

__all__ = [
    "Curve",
    "curve_of_aligned",
    "curve_of_area",
    "curve_of_pixel",
    "curve_of_selection",
    "expected_rate",
    "point_pulls",
]

_FROM_BASELINE = "threshold − baseline [DAC]"
PARAMETERS = ("step", "slope", "width", "position")


@dataclass(frozen=True)
class Curve:
    """Flux against threshold with what was fitted to it.

    Parameters
    ----------
    threshold : ndarray, shape (n,)
        Thresholds [DAC].
    rate : ndarray, shape (n,)
        Flux [hits/s], or [hits/s per pixel].
    error : ndarray, shape (n,) or (2, n)
        Its uncertainty, or the distances downwards and upwards.
    fitted : ndarray, shape (n,), optional
        Fit at the thresholds.
    expected_error : ndarray, shape (n,), optional
        Poisson error that the fit expects, for pulls; `error` by default.
    fine : (ndarray, ndarray), optional
        Threshold and fit at many points, for a smooth line; the fit at the thresholds by default.
    title : str
        What the curve is of.
    notes : tuple of str
        Parameters and quality, for the text.
    unit : str
        Unit of the flux.
    electrons : (float, float), optional
        K [e-/DAC] and baseline [DAC], for an axis in electrons.
    converged : bool
        Whether the fit converged; a line of one that did not is dashed.
    axis : str
        What the thresholds are.
    """

    def from_baseline(self, baseline: float) -> Curve:
        """Return the curve over the distance from a baseline [DAC]."""
        fine = None if self.fine is None else (self.fine[0] - baseline, self.fine[1])
        electrons = None if self.electrons is None else (self.electrons[0], 0.0)
        return replace(
            self, threshold=self.threshold - baseline, fine=fine, electrons=electrons, axis=_FROM_BASELINE
        )

    threshold: Values
    rate: Values
    error: Values
    fitted: Values | None = None
    expected_error: Values | None = None
    fine: tuple[Values, Values] | None = None
    title: str = ""
    notes: tuple[str, ...] = ()
    unit: str = "hits/s"
    electrons: tuple[float, float] | None = None
    converged: bool = True
    axis: str = "threshold [DAC]"


def expected_rate(
    threshold: ArrayLike, step: ArrayLike, slope: ArrayLike, width: ArrayLike, position: ArrayLike
) -> Values:
    """Return the flux above a threshold of a photo-peak and charge that was shared.

    ``F(t) = N Q(x) + C s (phi(x) - x Q(x))`` with ``x = (t - E0) / s``, Q the tail and phi the density of the
    normal distribution: a line of rate N at E0, and events spread evenly from 0 to E0 with density C.

    Parameters
    ----------
    threshold : array
        t [DAC].
    step, slope, width, position : array
        N [hits/s], C [hits/s/DAC], s and E0 [DAC], of shapes that broadcast with the threshold.

    Returns
    -------
    ndarray
        Flux [hits/s].
    """
    from scipy.special import erfc

    # a fit may end on a width of 0; the step is then one for every purpose
    s = np.maximum(np.asarray(width, dtype=np.float64), 1e-3)
    x = (np.asarray(threshold, dtype=np.float64) - np.asarray(position, dtype=np.float64)) / s
    tail = 0.5 * erfc(x / np.sqrt(2.0))
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    shared = np.asarray(slope, dtype=np.float64) * s * (density - x * tail)
    return np.asarray(np.asarray(step, dtype=np.float64) * tail + shared, dtype=np.float64)


def _points(scene: Scene) -> tuple[Values, Values, NDArray[Any]]:
    """Return thresholds [DAC], live times [s] and counts of shape (n, rows, columns) of those with live time."""
    block = scene.products["scan/counts"]
    threshold = np.asarray(block.coordinates["threshold"], dtype=np.float64)
    points = scene.frame("scan/points")
    known = dict(zip(points["threshold"].to_list(), points["live_time"].to_list(), strict=True))
    live = np.array([known.get(int(value)) or 0.0 for value in threshold])
    return threshold[live > 0], live[live > 0], np.asarray(block.values)[live > 0]


def _columns(scene: Scene) -> tuple[str, ...]:
    """Return the columns of the fitted parameters, in the order of the flux equation."""
    aliases = {"E0": "position", "s": "width"}
    return tuple(aliases.get(name, name) for name in MODELS[scene.model])


def _fits(scene: Scene) -> Mapping[str, Values]:
    """Return the fitted parameters by row and column; nothing where one of them is not there."""
    found = {}
    for name in _columns(scene):
        image = scene.image("fit/pixels", name)
        if image is None:
            return {}
        found[name] = image
    return found


def _expected(
    scene: Scene, threshold: Values, parameters: Mapping[str, Values], baseline: Values | None = None
) -> Values:
    """Return the fitted flux of some pixels, of shape (n_pixels, n_thresholds).

    Parameters
    ----------
    scene : Scene
        Says which flux equation was fitted.
    threshold : ndarray, shape (n_thresholds,)
        In DAC.
    parameters : mapping of str to ndarray, shape (n_pixels,)
        By column of ``fit/pixels``.
    baseline : ndarray, shape (n_pixels,), optional
        In DAC, for an equation of several lines.
    """
    from firstlight.detectors.velo.models import equation

    columns = {name: np.atleast_1d(values)[:, np.newaxis] for name, values in parameters.items()}
    if scene.model in ("physical", "physical_background"):
        background = columns.pop("background", np.zeros((1, 1)))
        return expected_rate(threshold, **columns) + background
    wanted = equation(scene.model)
    model = wanted.model
    shift = np.zeros(len(next(iter(columns.values()))))
    if scene.model == "two_line":
        lines = scene.context.options.fit.lines  # type: ignore[attr-defined]
        numbers = [part for line in lines for part in (line.energy / lines[0].energy, line.weight)]
        model = model.with_constants(numbers)
        shift = shift if baseline is None else baseline
    values = np.concatenate(list(columns.values()), axis=1)
    values[:, -1] -= shift
    rates = np.empty((values.shape[0], threshold.size))
    derivative = np.empty((values.shape[1], threshold.size))
    constants = np.asarray(model.constants, dtype=np.float64)
    for rate, value, start in zip(rates, values, shift, strict=True):
        model.curve(
            threshold - start, np.asarray(wanted.starts(value), dtype=np.float64), constants, rate, derivative
        )
    return rates


def _fine(threshold: Values) -> Values:
    return np.linspace(threshold.min(), threshold.max(), 400)


def curve_of_pixel(scene: Scene, row: int, column: int) -> Curve:
    """Return the curve of one pixel.

    Parameters
    ----------
    scene : Scene
        Needs ``scan/counts``, ``scan/points``; with ``fit/pixels`` the fit is there as well.
    row, column : int
        Which pixel.

    Raises
    ------
    UsageError
        If there is no such pixel.
    """
    from firstlight.view.draw_fits import poisson_interval

    _check(scene, row, column)
    threshold, live, counts = _points(scene)
    number = counts[:, row, column]
    curve = Curve(
        threshold, number / live, poisson_interval(number) / live, title=f"pixel row {row}, column {column}"
    )
    curve = replace(curve, electrons=_electrons(scene, row, column))
    fits = _fits(scene)
    values = {name: image[row : row + 1, column] for name, image in fits.items()}
    if not fits or not np.isfinite(list(values.values())).all():
        reason = "masked" if scene.masked[row, column] else "not fitted"
        return replace(curve, notes=(reason, f"hits {int(number.sum()):,}"))
    baseline = scene.image("baseline/pixels", "baseline")
    start = None if baseline is None else baseline[row : row + 1, column]
    fitted, fine = _expected(scene, threshold, values, start)[0], _fine(threshold)
    return replace(
        curve,
        fitted=fitted,
        expected_error=np.sqrt(np.maximum(fitted * live, 0.0)) / live,
        fine=(fine, _expected(scene, fine, values, start)[0]),
        notes=tuple(_notes(scene, row, column)),
        converged=_converged(scene, row, column),
    )


def _check(scene: Scene, row: int, column: int) -> None:
    rows, columns = np.asarray(scene.products["scan/counts"].values).shape[1:]
    if not (0 <= row < rows and 0 <= column < columns):
        what = f"there is no pixel at row {row}, column {column}"
        hint = f"rows count from 0 to {rows - 1}, columns from 0 to {columns - 1}"
        raise UsageError(what, hint=hint)


def _electrons(scene: Scene, row: int, column: int) -> tuple[float, float] | None:
    gain, baseline = scene.image("calibration/pixels", "gain"), scene.image("calibration/pixels", "baseline")
    if gain is None or baseline is None:
        return None
    found = float(gain[row, column]), float(baseline[row, column])
    return found if np.isfinite(found).all() else None


_SYMBOLS = {
    "position": ("E0", "DAC"), "width": ("σ", "DAC"), "step": ("N", "hits/s"), "slope": ("C", "hits/s/DAC"),
    "background": ("b", "hits/s"),
}  # fmt: skip


def _notes(scene: Scene, row: int, column: int) -> list[str]:
    """Return parameters with errors and the quality of the fit of a pixel."""
    found = scene.frame("fit/pixels").filter(pl.col("channel") == row * COLUMNS + column).row(0, named=True)
    lines = []
    for name in sorted(
        _columns(scene), key=lambda name: list(_SYMBOLS).index(name) if name in _SYMBOLS else 99
    ):
        symbol, unit = _SYMBOLS.get(name, (name, ""))
        lines.append(_with_error(symbol, found[name], found.get(f"{name}_error"), unit))
    if found["deviance"] is not None and found["ndf"] is not None:
        quality = f"deviance {found['deviance']:.1f} / {found['ndf']:.0f}"
        p_value = found.get("p_value")
        if p_value is not None:
            quality += f", p {p_value:.3f}" if p_value >= 0.001 else ", p < 0.001"
        lines.append(quality)
    if not _converged(scene, row, column):
        lines.append("no convergence")
    if scene.has("calibration/pixels"):
        rows = scene.frame("calibration/pixels").filter(pl.col("channel") == row * COLUMNS + column)
        if rows.height and rows["gain"][0] is not None:
            lines.append(_with_error("K", rows["gain"][0], rows["gain_statistical"][0], "e⁻/DAC"))
    return lines


def _converged(scene: Scene, row: int, column: int) -> bool:
    return not scene.flags[row, column] & int(Flag.NOT_CONVERGED)


def _with_error(symbol: str, value: float | None, error: float | None, unit: str) -> str:
    from firstlight.view.draw_fits import with_error

    nothing = float("nan")
    return f"{symbol} {with_error(nothing if value is None else value, nothing if error is None else error)} {unit}".strip()


def curve_of_area(scene: Scene, row: int, column: int, radius: float) -> Curve:
    """Return the curve of all pixels within a radius, masked ones left out, with the sum of their fits.

    Parameters
    ----------
    scene : Scene
        As of `curve_of_pixel`.
    row, column : int
        Centre.
    radius : float
        In pixels; 0 is the centre alone.

    Raises
    ------
    UsageError
        If there is no such pixel, or all pixels of the area are masked.
    """
    from firstlight.view.draw_fits import poisson_interval

    _check(scene, row, column)
    threshold, live, counts = _points(scene)
    rows, columns = np.indices(counts.shape[1:])
    area = ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2) & ~scene.masked
    if not area.any():
        what = f"all pixels within {radius:g} of row {row}, column {column} are masked"
        raise UsageError(what, hint="choose a larger radius or another place")
    fits = _fits(scene)
    fitted = None
    if fits:
        known = area & np.isfinite(np.stack(list(fits.values()))).all(axis=0)
        # points and fit are of the same pixels
        area = known if known.any() else area
        fitted = {name: image[area] for name, image in fits.items()} if known.any() else None
    n = int(area.sum())
    number = counts[:, area].sum(axis=1)
    title = f"{n} pixels within {radius:g} of row {row}, column {column}"
    curve = Curve(
        threshold,
        number / live / n,
        poisson_interval(number) / live / n,
        title=title,
        unit="hits/s per pixel",
    )
    gains, baselines = (
        scene.image("calibration/pixels", "gain"),
        scene.image("calibration/pixels", "baseline"),
    )
    if gains is not None and baselines is not None and np.isfinite(gains[area] * baselines[area]).any():
        curve = replace(curve, electrons=(float(np.nanmean(gains[area])), float(np.nanmean(baselines[area]))))
    if fitted is None:
        return replace(curve, notes=(f"hits {int(number.sum()):,}", "not fitted"))
    # of many pixels an average line is enough: the sum at each point, and a line through points in between
    fine = _fine(threshold)
    baseline = scene.image("baseline/pixels", "baseline")
    start = None if baseline is None else baseline[area]
    at_points = _expected(scene, threshold, fitted, start).mean(axis=0)
    notes = (f"hits {int(number.sum()):,}", "line: sum of the fits", "of single pixels")
    return replace(
        curve,
        fitted=at_points,
        expected_error=np.sqrt(np.maximum(at_points * live * n, 0.0)) / live / n,
        fine=(fine, _expected(scene, fine, fitted, start).mean(axis=0)),
        notes=notes,
    )


def curve_of_selection(scene: Scene, selection: str) -> Curve:
    """Return the curve of all pixels of a selection, with the fit to the sum.

    Parameters
    ----------
    scene : Scene
        Needs ``fit/curves``; ``fit/selections`` gives the parameters.
    selection : str
        ``"all"`` (ASIC), ``"good"`` (ASICgood), ``"even"`` ...

    Raises
    ------
    InputError
        If there is no such selection; names those that are there.
    """
    frame = scene.frame("fit/curves")
    rows = frame.filter(pl.col("selection") == selection).sort("threshold")
    if not rows.height:
        raise InputError.unknown("selection", selection, frame["selection"].unique().sort().to_list())
    columns = {
        name: rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("threshold", "rate", "rate_error", "fitted")
    }
    known = np.isfinite(columns["rate"])
    threshold, rate, error, fitted = (values[known] for values in columns.values())
    lines = []
    for name, (symbol, unit) in _SYMBOLS.items():
        value, spread = scene.parameter(selection, name)
        if np.isfinite(value):
            lines.append(_with_error(symbol, value, spread, unit))
    if scene.has("fit/selections"):
        found = scene.frame("fit/selections").filter(pl.col("selection") == selection)
        if found.height and found["ndf"][0] is not None:
            lines.append(f"deviance {found['deviance'][0]:.4g} / {found['ndf'][0]:.0f}")
    fine = None
    if scene.model in ("physical", "physical_background", "two_line"):
        # sums of pixels are fitted with one line
        values = {name: scene.parameter(selection, name)[0] for name in PARAMETERS}
        background = scene.parameter(selection, "background")[0]
        if np.isfinite(list(values.values())).all():
            x = _fine(threshold)
            fine = (x, expected_rate(x, **values) + (background if np.isfinite(background) else 0.0))
    name = {"all": "ASIC", "good": "ASICgood"}.get(selection, selection)
    return Curve(
        threshold, rate, error,
        fitted if np.isfinite(fitted).any() else None,
        fine=fine,
        title=f"{name}, {int(rows['n_pixels'][0]):,} pixels",
        notes=tuple(lines),
        unit="hits/s per pixel",
        electrons=_electrons_of(scene, selection),
    )  # fmt: skip


def curve_of_aligned(scene: Scene, selection: str) -> Curve:
    """Return the curve of the pixels of a selection, each shifted by its baseline before they are added.

    The spread of the baselines, which widens the edge of a plain sum, is not in it.

    Parameters
    ----------
    scene : Scene
        Needs ``calibration/aligned``.
    selection : str
        As of `curve_of_selection`.

    Raises
    ------
    InputError
        If there is no such selection; names those that are there.
    """
    frame = scene.frame("calibration/aligned")
    rows = frame.filter(pl.col("selection") == selection).sort("distance")
    if not rows.height:
        raise InputError.unknown("selection", selection, frame["selection"].unique().sort().to_list())
    target, width, gain = (
        scene.selection("calibration/selections", selection, name)
        for name in ("target_aligned", "width_aligned", "gain_aligned")
    )
    name = {"all": "ASIC", "good": "ASICgood"}.get(selection, selection)
    return Curve(
        rows["distance"].cast(pl.Float64).to_numpy(), rows["rate"].to_numpy(), rows["rate_error"].to_numpy(),
        rows["fitted"].to_numpy(), title=f"{name}, baselines subtracted first",
        notes=(f"target {target:.2f} DAC", f"σ {width:.2f} DAC"), unit="hits/s per pixel",
        electrons=(gain, 0.0) if np.isfinite(gain) else None, axis=_FROM_BASELINE,
    )  # fmt: skip


def _electrons_of(scene: Scene, selection: str) -> tuple[float, float] | None:
    """Return K and mean baseline of a summed curve."""
    names = ("gain_asic", "baseline_mean")
    found = tuple(scene.selection("calibration/selections", selection, name) for name in names)
    return (found[0], found[1]) if np.isfinite(found).all() else None


def point_pulls(scene: Scene, *, least: float = 10.0, most: int = 6000) -> Values:
    """Return (counts - expected) / sqrt(expected) of points of good fits of which enough is expected.

    Parameters
    ----------
    scene : Scene
        Needs ``scan/counts``, ``scan/points``, ``fit/pixels``.
    least : float
        Counts that must be expected: with fewer the distribution is far from normal.
    most : int
        Of more pixels than this an even sample is taken.

    Returns
    -------
    ndarray, shape (n,)
        Pulls.
    """
    threshold, live, counts = _points(scene)
    fits = _fits(scene)
    usable = np.zeros(counts.shape[1:], dtype=bool)
    if fits:
        usable = np.asarray(np.isfinite(np.stack(list(fits.values()))).all(axis=0))
        usable = usable if scene.good is None else usable & scene.good
    chosen = np.flatnonzero(usable)
    chosen = chosen[:: max(1, -(-chosen.size // most))]
    if not chosen.size:
        return np.empty(0)
    parameters = {name: image.ravel()[chosen] for name, image in fits.items()}
    baseline = scene.image("baseline/pixels", "baseline")
    start = None if baseline is None else baseline.ravel()[chosen]
    expected = _expected(scene, threshold, parameters, start).T * live[:, np.newaxis]
    measured = counts.reshape(threshold.size, -1)[:, chosen]
    enough = expected >= least
    return np.asarray((measured[enough] - expected[enough]) / np.sqrt(expected[enough]))
