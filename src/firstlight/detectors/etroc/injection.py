"""Charge injection: points of a scan, the noise band, and jitter against charge.

A run has one setting of charge and threshold on each board. Usually one board is scanned and the others rest
at their default threshold, so which board a run is about follows from what moves. Points without hits are
kept: without them no curve would end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.detectors.etroc.tables import JITTER, NOISE, POINTS
from firstlight.errors import InputError, UsageError
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

__all__ = [
    "FEWEST_HITS",
    "count_points",
    "estimate_injections",
    "jitter_vs_charge",
    "more_than_injected",
    "noise_band",
    "run_settings",
]

FEWEST_HITS = 100  # for a jitter
_PERIOD = 3125.0  # ps, one period of 320 MHz
_CAL_WINDOW, _TOT_WINDOW = 3, 100  # codes around the most frequent one
_CLIP = 5.0  # standard deviations
_SPREAD = 2.5  # standard deviations of a Poisson count
_SETTING = ["board", "pixel", "charge", "threshold"]


def count_points(
    hits: pl.DataFrame,
    files: pl.DataFrame,
    accepted: ArrayLike | None = None,
    *,
    trigger_board: int | None = None,
    injections: int | Mapping[int, int] | None = None,
    defaults: Mapping[int, float] | None = None,
) -> pl.DataFrame:
    """Count the hits of each point of a charge-injection scan.

    Parameters
    ----------
    hits : polars.DataFrame
        Hits of all files (``HITS``).
    files : polars.DataFrame
        A row per file and board (``FILES``), with the settings. Files without hits must have rows as well.
    accepted : array-like of bool, shape (n_hits,), optional
        Hits that pass the cuts; all by default.
    trigger_board : int, optional
        Board that triggers. It is no part of the scan in runs in which nothing says that it is scanned.
    injections : int or mapping of int to int, optional
        Number of injected charges of a run, or that of each board. By default it is estimated, see
        `estimate_injections`.
    defaults : mapping of int to float, optional
        Threshold of boards that are not being scanned [DAC]. By default it is found: boards whose charge and
        threshold never change are not scanned; where several change, a board rests at the setting that most
        runs share.

    Returns
    -------
    polars.DataFrame
        ``POINTS``, in the order of board, pixel, charge, threshold. Only boards that are scanned in a run.
        TOA, TOT and CAL are those of accepted hits with a CAL within 3 and a TOT within 100 codes of the most
        frequent one. The jitter is null with fewer than 100 of these, and where all have the same TOA code
        (the converter is stuck).

    Raises
    ------
    InputError
        If the files of a run differ in their settings, or hits are of a file that is not listed.
    UsageError
        If `accepted` has another length than `hits`, or a number of injections is not positive.
    """
    settings = run_settings(files)
    scanned = _scanned(settings, defaults, trigger_board)
    selected = _with_runs(hits, files, accepted)
    counts = selected.group_by("run", "board").agg(
        pl.len().cast(pl.Int64).alias("all_hits"), pl.col("accepted").sum().cast(pl.Int64).alias("hits")
    )
    points = (
        scanned.join(counts, on=["run", "board"], how="left", maintain_order="left")
        .with_columns(pl.col("all_hits", "hits").fill_null(0))
        .sort(*_SETTING, "run", nulls_last=False)
    )
    points = _with_injections(points, injections)
    moments = _moments(selected.filter("accepted").join(points, on=["run", "board"], how="semi"))
    joined = points.join(moments, on=["run", "board"], how="left", maintain_order="left")
    return Table.from_frame(POINTS, joined).frame


def run_settings(files: pl.DataFrame) -> pl.DataFrame:
    """Return the setting of each board in each run.

    Parameters
    ----------
    files : polars.DataFrame
        ``FILES``.

    Returns
    -------
    polars.DataFrame
        Columns run, board, pixel, phase, charge, threshold, splits; in the order of the files. Files without
        charge or threshold are left out.

    Raises
    ------
    InputError
        If the files of a run differ in their settings.
    """
    names = ["pixel", "phase", "charge", "threshold"]
    known = files.filter(pl.all_horizontal(pl.col("board", "charge", "threshold").is_not_null()))
    settings = known.group_by("run", "board", maintain_order=True).agg(
        pl.col(names).first(),
        pl.col("file").n_unique().cast(pl.Int32).alias("splits"),
        pl.struct(names).n_unique().alias("different"),
    )
    wrong = settings.filter(pl.col("different") > 1)
    if wrong.height:
        row = wrong.row(0, named=True)
        what = f"files of one run differ in pixel, phase, charge or threshold of board {row['board']}"
        raise InputError(
            what, where=row["run"], hint="files with different settings need different run names"
        )
    return settings.drop("different")


def _with_runs(hits: pl.DataFrame, files: pl.DataFrame, accepted: ArrayLike | None) -> pl.DataFrame:
    """Return run, board, codes and whether accepted, a row per hit."""
    keep = np.ones(hits.height, dtype=np.bool_) if accepted is None else np.asarray(accepted, dtype=np.bool_)
    if keep.shape != (hits.height,):
        what = f"accepted has the shape {keep.shape}, there are {hits.height} hits"
        raise UsageError(what)
    selected = hits.select("file", "board", "toa", "tot", "cal", pl.Series("accepted", keep)).join(
        files.select("file", "run").unique(), on="file", how="left", maintain_order="left"
    )
    unknown = selected.filter(pl.col("run").is_null())
    if unknown.height:
        first = unknown["file"][0]
        what = f"{unknown.height} hits are of files that are not in the table of files, first of file {first}"
        raise InputError(what, where="hits")
    return selected


def _scanned(
    settings: pl.DataFrame, defaults: Mapping[int, float] | None, trigger_board: int | None
) -> pl.DataFrame:
    """Return the settings of the boards that are scanned in each run.

    A run in which all boards rest is a point of those boards that are scanned with the same charge elsewhere:
    a scan passes the threshold at which its board rests in other runs.
    """
    if settings.is_empty():
        return settings
    moved = _moved(settings, defaults)
    settings = settings.with_columns(pl.Series("moved", moved))
    charges = settings.filter("moved").select("board", "pixel", "charge").unique()
    resting = settings.filter(~pl.col("moved").any().over("run"))
    if charges.is_empty():
        resting = _injected(resting)
        if trigger_board is not None and resting["board"].n_unique() > 1:
            resting = resting.filter(pl.col("board") != trigger_board)
    else:
        resting = resting.join(charges, on=["board", "pixel", "charge"], how="semi", nulls_equal=True)
    return pl.concat([settings.filter("moved"), resting]).drop("moved")


def _injected(settings: pl.DataFrame) -> pl.DataFrame:
    """Return the boards with charge, all where none has: nothing else tells boards of one setting apart."""
    charged = settings.filter(pl.col("charge") > 0)
    return settings if charged.is_empty() else charged


def _moved(settings: pl.DataFrame, defaults: Mapping[int, float] | None) -> Bools:
    """Return which boards are away from where they rest, a row per run and board."""
    moved = np.zeros(settings.height, dtype=np.bool_)
    board, threshold = settings["board"].to_numpy(), settings["threshold"].to_numpy()
    pairs = np.stack([settings["charge"].to_numpy(), threshold], axis=1)
    boards = [int(one) for one in np.unique(board)]
    varying = [one for one in boards if len(np.unique(pairs[board == one], axis=0)) > 1]
    for one in boards:
        rows = board == one
        if defaults is not None and one in defaults:
            moved[rows] = threshold[rows] != defaults[one]
        elif one in varying:
            rest = _rest(pairs[rows]) if len(varying) > 1 else None
            moved[rows] = True if rest is None else np.any(pairs[rows] != rest, axis=1)
    return moved


def _rest(pairs: Floats) -> Floats | None:
    """Return the charge and threshold that most runs share; None where no setting stands out."""
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    if counts[order[0]] < 2 * counts[order[1]]:
        return None
    found: Floats = unique[order[0]]
    return found


def _with_injections(points: pl.DataFrame, given: int | Mapping[int, int] | None) -> pl.DataFrame:
    parts = []
    for part in points.partition_by("board", "pixel", maintain_order=True):
        number = given if given is None or isinstance(given, int) else given.get(int(part["board"][0]))
        if number is not None and number < 1:
            what = f"the number of injections must be positive, not {number}"
            raise UsageError(what)
        if number is None:
            number = estimate_injections(part)
        parts.append(part.with_columns(pl.lit(number, dtype=pl.Int64).alias("injections")))
    return pl.concat(parts) if parts else points.with_columns(pl.lit(None, pl.Int64).alias("injections"))


def estimate_injections(scan: pl.DataFrame) -> int | None:
    """Return the number of injected charges of a run, from the plateau of a board.

    The plateau is the lowest level of hits (before cuts) that many points share. The noise band has more
    hits, and is at the same thresholds for all charges; the edge of a curve is not, which tells it from a
    plateau.

    If at least half of the points on the plateau have the same count, every injection made a hit and this is
    the number. Otherwise counts scatter by a binomial distribution of efficiency e, whose variance is 1 - e
    times its mean, so that the number is ``mean / (1 - variance / mean)``, and at least the largest count.
    This has an error of a few per cent: where the number is known, give it.

    Parameters
    ----------
    scan : polars.DataFrame
        Columns charge, threshold, all_hits; one board.

    Returns
    -------
    int or None
        None if no plateau is found.
    """
    scan = scan.sort("charge", "threshold")
    hits = scan["all_hits"].to_numpy().astype(np.float64)
    levels, often = np.unique(hits[hits >= 5], return_counts=True)
    if not levels.size:
        return None
    near = np.abs(levels[:, None] - levels[None, :]) <= _SPREAD * np.sqrt(levels)[:, None]
    population = near @ often
    enough = population >= max(3, population.max() / 2)
    for index in np.flatnonzero(enough):
        close = near[index]
        best = np.lexsort((levels[close], often[close], population[close]))[-1]
        level = float(levels[close][best])
        if level != levels[index] or not _is_plateau(scan, level):
            continue
        member = np.abs(hits - level) <= _SPREAD * np.sqrt(level)
        # the last point of each charge may be in the fall already
        inner = member & np.append(member[1:] & (np.diff(scan["charge"].to_numpy()) == 0), False)
        return _number(hits[inner])
    return None


def _is_plateau(scan: pl.DataFrame, level: float) -> bool:
    """Return whether a level is flat over some thresholds, and what is above it is no edge of a curve."""
    spread = _SPREAD * np.sqrt(level)
    charge, threshold = scan["charge"].to_numpy(), scan["threshold"].to_numpy()
    hits = scan["all_hits"].to_numpy()
    charges = np.unique(charge)
    longest = max(_longest(np.abs(hits[charge == one] - level) <= spread) for one in charges)
    if longest < (3 if charges.size > 1 else 5):
        return False
    high, low = hits > level + spread + 3, hits < level / 2
    above = np.unique(threshold[high])
    edges = [
        one
        for one in above
        if low[threshold == one].any()
        and charge[(threshold == one) & low].min() < charge[(threshold == one) & high].max()
    ]
    return 2 * len(edges) <= above.size


def _longest(flags: Bools) -> int:
    """Return the length of the longest run of true flags."""
    best = now = 0
    for flag in flags:
        now = now + 1 if flag else 0
        best = max(best, now)
    return best


def _number(plateau: Floats) -> int:
    values, often = np.unique(plateau, return_counts=True)
    if 2 * often.max() >= plateau.size:
        return int(values[np.argmax(often)])
    middle = np.median(plateau)
    spread = max(robust_spread(plateau), 0.5)
    kept = plateau[np.abs(plateau - middle) <= 3.5 * spread]
    mean, variance = float(kept.mean()), float(kept.var(ddof=1)) if kept.size > 1 else 0.0
    return max(round(mean / (1.0 - min(variance / mean, 0.9))), int(kept.max()))


def _moments(hits: pl.DataFrame) -> pl.DataFrame:
    """Return moments and jitter of each run and board with accepted hits."""
    rows: list[dict[str, Any]] = []
    for part in hits.partition_by("run", "board", maintain_order=True):
        cal, tot = (part[name].to_numpy().astype(np.int64) for name in ("cal", "tot"))
        keep = (np.abs(cal - _mode(cal)) <= _CAL_WINDOW) & (np.abs(tot - _mode(tot)) <= _TOT_WINDOW)
        row = {"run": part["run"][0], "board": part["board"][0]}
        toa = part["toa"].to_numpy().astype(np.float64)[keep]
        for name, values in (("toa", toa), ("tot", tot[keep]), ("cal", cal[keep])):
            row[f"{name}_mean"] = float(values.mean()) if values.size else None
            if name != "cal":
                row[f"{name}_std"] = float(values.std(ddof=1)) if values.size > 1 else None
        row["jitter"], row["jitter_error"] = _jitter(toa, row["cal_mean"])
        rows.append(row)
    numbers = ("toa_mean", "toa_std", "tot_mean", "tot_std", "cal_mean", "jitter", "jitter_error")
    types = {"run": pl.String, "board": pl.UInt8, **dict.fromkeys(numbers, pl.Float64)}
    return pl.DataFrame(rows, schema=types)


def _mode(codes: Ints) -> int:
    """Return the most frequent code, the smallest where several are."""
    return int(np.argmax(np.bincount(codes)))


def _jitter(toa: Floats, cal: float | None) -> tuple[float | None, float | None]:
    """Return jitter and error [ps] from TOA codes, after iterated clipping at 5 standard deviations.

    A median absolute deviation is of no use for codes with a spread below one. The error is that of a
    standard deviation of any distribution, from its fourth moment.
    """
    if toa.size < FEWEST_HITS or not cal:
        return None, None
    while True:
        spread = toa.std(ddof=1)
        keep = np.abs(toa - np.median(toa)) <= max(_CLIP * spread, 1.5)
        if keep.all():
            break
        toa = toa[keep]
    if spread == 0:
        return None, None
    n, square = toa.size, spread**2
    fourth = np.mean((toa - toa.mean()) ** 4)
    error = np.sqrt(max(fourth - square**2 * (n - 3) / (n - 1), 0.0) / n) / (2 * spread)
    return float(_PERIOD / cal * spread), float(_PERIOD / cal * error)


def more_than_injected(hits: Ints, injections: int | Ints) -> Bools:
    """Return where there are more hits than injections can make.

    An injection that fires twice now and then is no noise: up to 0.5 % more, and three hits, are allowed.
    """
    return np.asarray(hits > injections + np.maximum(3, 0.005 * np.asarray(injections)))


def noise_band(points: pl.DataFrame) -> pl.DataFrame:
    """Find the band of thresholds in which noise fires, for each board.

    There, and only there, are more hits (before cuts) than injections, whatever the charge. The band is the
    block of consecutive thresholds, with at most one gap of one, that has most hits in excess; single points
    elsewhere do not matter.

    Parameters
    ----------
    points : polars.DataFrame
        ``POINTS``.

    Returns
    -------
    polars.DataFrame
        ``NOISE``, method ``"scan"``. `noise_min` is the smallest threshold with noise hits, `noise_max` the
        smallest above the band without: thresholds from `noise_max` on are quiet. `baseline` is the mean
        threshold weighted with the hits in excess; `width` is the full width, from half-way to the quiet
        threshold below to half-way to that above. Both are null where the scan starts inside the noise.
    """
    rows = [_band(part) for part in points.partition_by("board", "pixel", maintain_order=True)]
    return Table.from_rows(NOISE, rows).frame


def _band(scan: pl.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"board": scan["board"][0], "pixel": scan["pixel"][0], "method": "scan"}
    row |= dict.fromkeys(("baseline", "width", "noise_min", "noise_max"))
    if scan["injections"].null_count():
        return row | {"status": "injections not known"}
    hits, injections = scan["all_hits"].to_numpy(), scan["injections"].to_numpy()
    excess = np.where(more_than_injected(hits, injections), hits - injections, 0)
    x, place = np.unique(scan["threshold"].to_numpy(), return_inverse=True)
    mean = np.bincount(place, excess) / np.bincount(place)
    noisy = np.flatnonzero(mean > 0)
    if not noisy.size:
        return row | {"status": "no noise in the scan"}
    if noisy.size > 0.7 * np.unique(place[hits > 0]).size:
        return row | {"status": "more hits than injections at most thresholds"}
    blocks = np.split(noisy, np.flatnonzero(np.diff(noisy) > 2) + 1)
    block = max(blocks, key=lambda one: float(mean[one].sum()))
    first, last = int(block[0]), int(block[-1])
    row["noise_min"] = x[first]
    if last + 1 == x.size:
        return row | {"status": "the scan ends inside the noise"}
    row["noise_max"] = x[last + 1]
    if first == 0:
        return row | {"status": "the scan starts inside the noise"}
    row["baseline"] = float(np.average(x[first : last + 1], weights=mean[first : last + 1]))
    row["width"] = float(0.5 * (x[last + 1] + x[last] - x[first] - x[first - 1]))
    return row | {"status": "ok"}


def jitter_vs_charge(
    points: pl.DataFrame, *, threshold: float | None = None, noise: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return the jitter at each charge, all at one threshold of a board.

    Parameters
    ----------
    points : polars.DataFrame
        ``POINTS``.
    threshold : float, optional
        Threshold [DAC]. By default the lowest one above the noise band with at least 100 hits at as many
        charges as possible.
    noise : polars.DataFrame, optional
        ``NOISE`` with method ``"scan"``; by default from the points.

    Returns
    -------
    polars.DataFrame
        ``JITTER``; status ``"ok"``, ``"few hits"`` (fewer than 100), ``"stuck"`` (all hits have the same TOA
        code) or ``"not measured"`` (no point at this threshold).
    """
    bands = noise_band(points) if noise is None else noise.filter(pl.col("method") == "scan")
    rows: list[dict[str, Any]] = []
    for part in points.partition_by("board", "pixel", maintain_order=True):
        same = (pl.col("board") == part["board"][0]) & pl.col("pixel").eq_missing(part["pixel"][0])
        band = bands.filter(same)["noise_max"]
        chosen = _operating(part, band[0] if band.len() else None) if threshold is None else threshold
        for charge in part["charge"].unique().sort():
            rows.append(_jitter_row(part, charge, chosen))
    return Table.from_rows(JITTER, rows).frame


def _operating(scan: pl.DataFrame, quiet_from: float | None) -> float | None:
    above = scan if quiet_from is None else scan.filter(pl.col("threshold") >= quiet_from)
    enough = (
        above.filter(pl.col("hits") >= FEWEST_HITS).group_by("threshold").agg(pl.col("charge").n_unique())
    )
    if enough.is_empty():
        return None
    return float(enough.sort("charge", "threshold", descending=[True, False])["threshold"][0])


def _jitter_row(scan: pl.DataFrame, charge: float, threshold: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {"board": scan["board"][0], "charge": charge, "threshold": threshold, "hits": 0}
    row |= {"jitter": None, "jitter_error": None}
    if threshold is None:
        return row | {"status": "few hits"}
    here = scan.filter((pl.col("charge") == charge) & (pl.col("threshold") == threshold))
    if here.is_empty():
        return row | {"status": "not measured"}
    best = here.sort("hits", descending=True).row(0, named=True)  # repeated points: the one with most hits
    row["hits"] = best["hits"]
    if best["jitter"] is not None:
        return row | {"jitter": best["jitter"], "jitter_error": best["jitter_error"], "status": "ok"}
    if best["hits"] >= FEWEST_HITS and best["toa_std"] == 0:
        return row | {"status": "stuck"}
    return row | {"status": "few hits"}
