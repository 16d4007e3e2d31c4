"""Charge injection: S-curves, straight lines of threshold against charge, suggested thresholds.

The hits of a charge above the noise band follow ``plateau / 2 erfc((x - dac50) / (sqrt(2) noise))`` with
binomial errors. The noise is that of the discriminator, the same for all charges: a scan whose steps are as
wide as the noise tells it from all its curves together, where a single one does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.detectors.etroc.injection import more_than_injected, noise_band
from firstlight.detectors.etroc.tables import CURVES, LINES, SUGGESTIONS
from firstlight.errors import UsageError
from firstlight.fit import fit_many

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.fit import FitResult

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

__all__ = ["COMMON_NOISE", "MIDDLE_OF_STEP", "fit_curves", "fit_lines", "suggest"]

COMMON_NOISE = "ok, noise of all charges"
"""Status of a curve with too few points in its rise, whose width is that of all curves of the board."""

MIDDLE_OF_STEP = "between two thresholds"
"""Status of a curve that falls from one threshold to the next, with too few hits between to tell where;
`dac50` is half-way, its error that of a uniform distribution."""

_MODEL = "s_curve_floor_falling"
_FALLEN, _REACHED = 0.02, 0.98  # of the plateau: between them a point is in the rise
_PLATEAU, _END = 0.9, 0.1
_FEWEST_IN_RISE = 3


@dataclass(frozen=True, eq=False)
class _Scan:
    """The curves of one board, a row a charge, padded to equal length."""

    charges: Floats
    x: Floats
    hits: Ints
    injections: Ints
    used: Bools
    surplus: Ints  # points above the noise with more hits than injections
    last: Floats  # largest threshold with a hit

    @property
    def share(self) -> Floats:
        """Hits over injections; NaN for points not used."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.used, self.hits / self.injections, np.nan)

    def fit(
        self, rows: NDArray[Any], plateau: float | None, noise: Floats | None = None, *, rescue: bool = True
    ) -> FitResult:
        fixed: dict[str, Any] = {"lower": 0.0}
        if plateau is not None:
            fixed["upper"] = plateau
        if noise is not None:
            fixed["noise"] = noise
        return fit_many(
            self.hits[rows], self.x[rows], _MODEL, exposure=self.injections[rows], mask=self.used[rows],
            estimator="binomial", fixed=fixed, rescue=rescue, threads=1,
        )  # fmt: skip


def fit_curves(
    points: pl.DataFrame, *, noise: pl.DataFrame | None = None, plateau: float | None = None
) -> pl.DataFrame:
    """Fit the S-curve of each board and charge.

    Parameters
    ----------
    points : polars.DataFrame
        ``POINTS``.
    noise : polars.DataFrame, optional
        ``NOISE`` with method ``"scan"``: thresholds below its upper end are not used. By default from the
        points.
    plateau : float, optional
        Efficiency on the plateau. By default it is fitted for each curve, as cuts and dead times lower it.

    Returns
    -------
    polars.DataFrame
        ``CURVES``. Statuses with values that can be used:

        - ``"ok"``: at least 3 points in the rise, noise fitted.
        - `COMMON_NOISE`: fewer; the noise and its error are those of all curves of the board fitted together,
          and its error is part of that of `dac50`.
        - `MIDDLE_OF_STEP`: not good, yet an honest value with an error.

        The others have no errors: ``"no plateau"``, ``"does not fall"``, ``"no hits above the noise"``, ``"no
        points above the noise"``, ``"more hits than injections"``, ``"injections not known"``, ``"not
        constrained"``. Of these ``"no plateau"`` means no used point with 90 % of the plateau of the board,
        ``"does not fall"`` none with less than 10 %. A plateau that ends at 1 has no error. The p-value of a
        curve with the noise of all counts no parameter for it and is a little too large. With few injections
        (some 50 and less) fitted widths are low by a third of their error, as the likelihood of a width is
        not symmetric.

    Raises
    ------
    UsageError
        If `plateau` is not between 0 and 1.
    """
    if plateau is not None and not 0 < plateau <= 1:
        what = f"plateau is an efficiency above 0 and up to 1, not {plateau:g}"
        raise UsageError(what)
    bands = noise_band(points) if noise is None else noise.filter(pl.col("method") == "scan")
    rows: list[dict[str, Any]] = []
    for part in points.partition_by("board", "pixel", maintain_order=True):
        same = (pl.col("board") == part["board"][0]) & pl.col("pixel").eq_missing(part["pixel"][0])
        ends = bands.filter(same)["noise_max"].drop_nulls()
        head = {"board": part["board"][0], "pixel": part["pixel"][0]}
        scan = _scan(part, float(ends[0]) if ends.len() else -math.inf)
        rows += [head | row for row in _fit_board(scan, plateau, known=not part["injections"].null_count())]
    return Table.from_rows(CURVES, rows).frame


def _scan(points: pl.DataFrame, quiet_from: float) -> _Scan:
    parts = points.sort("charge", "threshold").partition_by("charge", maintain_order=True)
    shape = (len(parts), max(part.height for part in parts))
    x, last = np.zeros(shape), np.full(len(parts), np.nan)
    hits, injections = np.zeros((2, *shape), dtype=np.int64)
    used = np.zeros(shape, dtype=np.bool_)
    surplus = np.zeros(len(parts), dtype=np.int64)
    for row, part in enumerate(parts):
        here = slice(part.height)
        threshold, count = part["threshold"].to_numpy(), part["hits"].to_numpy()
        number = part["injections"].fill_null(0).to_numpy()
        x[row, here], x[row, part.height :] = threshold, threshold[-1]
        too_many = more_than_injected(count, number)
        above = threshold >= quiet_from
        hits[row, here], injections[row, here] = np.minimum(count, number), number
        used[row, here] = above & ~too_many & (number > 0)
        surplus[row] = np.sum(too_many & above)
        if (count > 0).any():
            last[row] = threshold[count > 0].max()
    charges = np.array([part["charge"][0] for part in parts])
    return _Scan(charges, x, hits, injections, used, surplus, last)


def _fit_board(scan: _Scan, plateau: float | None, *, known: bool) -> list[dict[str, Any]]:
    """Return the rows of the curves of one board, without board and pixel."""
    n = scan.charges.size
    first = scan.fit(np.arange(n), plateau)
    height = _board_plateau(scan, first)
    share = scan.share / height
    status = _judge(scan, share, known)
    fine = np.flatnonzero([one == "" for one in status])
    upper = first.value("upper")
    relative = scan.share / np.where(upper > 0, upper, height)[:, None]
    in_rise = np.sum((relative > _FALLEN) & (relative < _REACHED), axis=1)
    own = np.isfinite(first.error("threshold")) & np.isfinite(first.error("noise")) & _ended(first)
    own &= in_rise >= _FEWEST_IN_RISE
    rows = [_row(scan, row, int(in_rise[row]), status[row]) for row in range(n)]
    for row in fine[own[fine]]:
        rows[row] |= _values(first, int(row)) | {"status": "ok", "good": True}
    rest = fine[~own[fine]]
    if rest.size:
        common = _common_noise(scan, fine, plateau)
        for row in rest:
            found = _with_common(scan, int(row), share[row], common, int(np.flatnonzero(fine == row)[0]))
            rows[row] |= found
    return rows


def _ended(result: FitResult) -> Bools:
    """Return the curves whose fit ended in a minimum."""
    from firstlight.fit import Status

    return np.isin(result.status, (Status.ok, Status.at_bound))


def _board_plateau(scan: _Scan, result: FitResult) -> float:
    """Return the median plateau of the curves that have three points on it; 1 if there are none."""
    upper = result.value("upper")
    with np.errstate(invalid="ignore"):
        there = np.sum(scan.share >= _PLATEAU * upper[:, None], axis=1) >= 3
    good = there & _ended(result) & (upper > 0)
    return float(np.median(upper[good])) if good.any() else 1.0


def _judge(scan: _Scan, share: Floats, known: bool) -> list[str]:
    """Return what keeps a curve from being fitted; empty for none."""
    found = []
    for row in range(scan.charges.size):
        here = share[row][scan.used[row]]
        if not known:
            found.append("injections not known")
        elif 2 * scan.surplus[row] > np.sum(here > 0) + scan.surplus[row]:
            found.append("more hits than injections")
        elif not here.size:
            found.append("no points above the noise")
        elif not (here > 0).any():
            found.append("no hits above the noise")
        elif here.max() < _PLATEAU:
            found.append("no plateau")
        else:
            found.append("does not fall" if here.min() > _END else "")
    return found


def _row(scan: _Scan, row: int, in_rise: int, status: str) -> dict[str, Any]:
    names = ("dac50", "dac50_error", "noise", "noise_error", "plateau", "plateau_error", "p_value")
    return {
        "charge": scan.charges[row],
        "points": int(scan.used[row].sum()),
        "points_rise": in_rise,
        **dict.fromkeys(names, math.nan),
        "last_with_hits": scan.last[row],
        "status": status or "not constrained",
        "good": False,
    }


def _values(result: FitResult, row: int) -> dict[str, float]:
    names = {"dac50": "threshold", "noise": "noise", "plateau": "upper"}
    found = {name: float(result.value(parameter)[row]) for name, parameter in names.items()}
    found |= {f"{name}_error": float(result.error(parameter)[row]) for name, parameter in names.items()}
    return found | {"p_value": float(result.p_value[row])}


@dataclass(frozen=True, eq=False)
class _Common:
    """The noise of all curves of a board, and their fits with it."""

    value: float
    error: float  # NaN where the curves do not tell the noise
    fit: FitResult
    slope: Floats  # change of dac50 with the noise, shape (n_curves,)


def _common_noise(scan: _Scan, rows: Ints, plateau: float | None) -> _Common:
    """Fit one noise to several curves: the sum of their deviances, each at its best threshold and plateau.

    The error is where this sum rises by 1.
    """

    def profile(widths: Floats) -> tuple[Floats, Floats, FitResult]:
        result = scan.fit(np.tile(rows, widths.size), plateau, np.repeat(widths, rows.size), rescue=False)
        shape = (widths.size, rows.size)
        total = np.nan_to_num(result.deviance, nan=np.inf).reshape(shape).sum(axis=1)
        return total, result.value("threshold").reshape(shape), result

    steps = [np.diff(np.unique(scan.x[row][scan.used[row]])) for row in rows]
    step = float(np.median(np.concatenate(steps)))
    grid = np.geomspace(0.15 * step, 0.5 * float(np.ptp(scan.x[rows][scan.used[rows]])), 25)
    floor = math.nan
    for _ in range(3):
        total, _, _ = profile(grid)
        floor = float(total[0]) if math.isnan(floor) else floor
        best = int(np.argmin(total))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
        grid = np.linspace(low, high, 11)
    width, smallest = _vertex(grid, profile(grid)[0])
    error = 0.1 * width
    for _ in range(3):
        total, places, _ = profile(np.array([width - error, width + error]))
        bend = (total.sum() - 2 * smallest) / error**2
        slope = (places[1] - places[0]) / (2 * error)
        error = float(min(math.sqrt(2 / bend), 0.6 * width)) if bend > 0 else 0.6 * width
    fit = scan.fit(rows, plateau, np.full(rows.size, width))
    told = floor - smallest > 1 and error < 0.6 * width
    return _Common(width, error if told else math.nan, fit, slope)


def _vertex(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the minimum of a parabola through the smallest of equidistant values and its neighbours."""
    i = int(np.clip(np.argmin(y), 1, x.size - 2))
    bend = y[i + 1] + y[i - 1] - 2 * y[i]
    if not np.isfinite(bend) or bend <= 0:
        return float(x[np.argmin(y)]), float(np.min(y))
    shift = float(np.clip(0.5 * (y[i - 1] - y[i + 1]) / bend, -1, 1))
    return float(x[i] + shift * (x[i + 1] - x[i])), float(y[i] - 0.5 * bend * shift**2)


def _with_common(scan: _Scan, row: int, share: Floats, common: _Common, index: int) -> dict[str, Any]:
    """Return the values of a curve with the common noise, or the middle of the step it falls in."""
    found = _values(common.fit, index) | {"noise": common.value, "noise_error": common.error}
    error = math.hypot(found["dac50_error"], common.slope[index] * common.error)
    before, after = _step(scan.x[row][scan.used[row]], share[scan.used[row]])
    uniform = (after - before) / math.sqrt(12)
    if math.isfinite(error) and error < uniform:
        return found | {"dac50_error": error, "status": COMMON_NOISE, "good": True}
    found |= {"dac50": 0.5 * (before + after), "dac50_error": uniform, "p_value": math.nan}
    return found | {"noise": math.nan, "noise_error": math.nan, "status": MIDDLE_OF_STEP}


def _step(x: Floats, share: Floats) -> tuple[float, float]:
    """Return the thresholds between which a curve falls below half of its plateau."""
    order = np.argsort(x, kind="stable")
    x, share = x[order], share[order]
    before = float(x[share >= 0.5].max())
    after = x[x > before]
    return before, float(after.min()) if after.size else before


def fit_lines(curves: pl.DataFrame, *, charge_error: float = 0.0) -> pl.DataFrame:
    """Fit a straight line of threshold against charge to each board.

    Parameters
    ----------
    curves : polars.DataFrame
        ``CURVES``. Those that are good, and those that fall between two thresholds, with the errors of their
        thresholds.
    charge_error : float
        Standard deviation of an injected charge [fC], independent for each charge; by the effective variance
        it adds slope x charge_error to the error of a threshold (J. Orear, Am. J. Phys. 50 (1982) 912).

    Returns
    -------
    polars.DataFrame
        ``LINES``, method ``"scurve"``. Errors are from the errors of the thresholds, not scaled with chi2.

    Raises
    ------
    UsageError
        If `charge_error` is negative.
    """
    if not charge_error >= 0:
        what = f"charge_error is a standard deviation, not {charge_error:g}"
        raise UsageError(what)
    rows: list[dict[str, Any]] = []
    for part in curves.partition_by("board", "pixel", maintain_order=True):
        used = part.filter(
            (pl.col("good") | (pl.col("status") == MIDDLE_OF_STEP)) & (pl.col("dac50_error") > 0)
        )
        x, y, error = (used[name].to_numpy() for name in ("charge", "dac50", "dac50_error"))
        n = np.unique(x).size
        row: dict[str, Any] = {"board": part["board"][0], "pixel": part["pixel"][0], "method": "scurve"}
        row |= dict.fromkeys(("offset", "offset_error", "slope", "slope_error", "correlation", "chi2"))
        row |= {"charges": n, "ndf": max(x.size - 2, 0)}
        if n < 2:
            status = "one charge" if n else "no curve"
            rows.append(row | {"status": status, "good": False})
            continue
        rows.append(row | _line(x, y, error, charge_error) | {"status": "ok", "good": True})
    return Table.from_rows(LINES, rows).frame


def _line(x: Floats, y: Floats, error: Floats, charge_error: float) -> dict[str, float]:
    slope, variance = 0.0, error**2
    for _ in range(10 if charge_error else 1):
        variance = error**2 + (slope * charge_error) ** 2
        weight = 1 / variance
        middle = np.average(x, weights=weight)
        square = np.sum(weight * (x - middle) ** 2)
        slope = float(np.sum(weight * (x - middle) * y) / square)
    offset = float(np.average(y, weights=weight) - slope * middle)
    offset_variance = 1 / weight.sum() + middle**2 / square
    return {
        "offset": offset,
        "offset_error": math.sqrt(offset_variance),
        "slope": slope,
        "slope_error": 1 / math.sqrt(square),
        "correlation": float(-middle / math.sqrt(square * offset_variance)),
        "chi2": float(np.sum((y - offset - slope * x) ** 2 * weight)),
    }


def suggest(
    lines: pl.DataFrame, noise: pl.DataFrame, *, curves: pl.DataFrame | None = None, sigmas: float = 3.0
) -> pl.DataFrame:
    """Suggest thresholds of each board.

    For each line the smallest whole charge whose threshold is not below the upper end of the noise band, and
    the next two, with ``ceil(offset + slope charge)`` as the original. A line of fitted curves goes with the
    noise band of the scan, one of largest thresholds with that of the original. With `curves` there is one
    more, method ``"noise"``: the lowest threshold that is `sigmas` widths of the noise above the band, with
    the charge that has half of its hits there.

    Parameters
    ----------
    lines : polars.DataFrame
        ``LINES``.
    noise : polars.DataFrame
        ``NOISE``.
    curves : polars.DataFrame, optional
        ``CURVES``, for the width of the noise.
    sigmas : float
        Distance from the noise band [widths].

    Returns
    -------
    polars.DataFrame
        ``SUGGESTIONS``; none for boards without line, with a slope that is not positive, or without noise
        band.

    Raises
    ------
    UsageError
        If `sigmas` is negative.
    """
    if not sigmas >= 0:
        what = f"sigmas is a distance above the noise, not {sigmas:g}"
        raise UsageError(what)
    bands = {(row["board"], row["pixel"], row["method"]): row["noise_max"] for row in noise.to_dicts()}
    rows: list[dict[str, Any]] = []
    for line in lines.to_dicts():
        band = "scan" if line["method"] == "scurve" else "original"
        end = bands.get((line["board"], line["pixel"], band))
        if end is None or not line["good"] or not line["slope"] > 0:
            continue
        offset, slope = line["offset"], line["slope"]
        first = math.ceil(round((end - offset) / slope, 9))
        for charge in range(first, first + 3):
            threshold = float(math.ceil(round(offset + slope * charge, 9)))
            rows.append(
                {"board": line["board"], "method": line["method"], "charge": charge, "threshold": threshold}
            )
        width = None if curves is None or band != "scan" else _width(curves, line["board"], line["pixel"])
        if width is not None:
            threshold = float(math.ceil(end + sigmas * width))
            charge_there = (threshold - offset) / slope
            rows.append(
                {"board": line["board"], "method": "noise", "charge": charge_there, "threshold": threshold}
            )
    return Table.from_rows(SUGGESTIONS, rows).frame


def _width(curves: pl.DataFrame, board: int, pixel: str | None) -> float | None:
    """Return the weighted mean noise of the good curves of a board."""
    good = curves.filter(
        (pl.col("board") == board)
        & pl.col("pixel").eq_missing(pl.lit(pixel))
        & pl.col("good")
        & (pl.col("noise_error") > 0)
    )
    if good.is_empty():
        return None
    return float(np.average(good["noise"].to_numpy(), weights=good["noise_error"].to_numpy() ** -2))
