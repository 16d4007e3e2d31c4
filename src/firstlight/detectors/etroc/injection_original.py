"""Charge injection as the original scripts do it: their tables, their numbers.

The point of a charge is the largest threshold with at least one hit, which lies some three widths of the
noise above the threshold with half of the hits and moves with statistics and step.
`firstlight.detectors.etroc.injection_lines` fits curves instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.detectors.etroc.injection import run_settings
from firstlight.detectors.etroc.tables import LINES, NOISE
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

__all__ = [
    "DEFAULTS",
    "combined_data",
    "dac_charge_data",
    "noise_limit_data",
    "original_lines",
    "original_noise",
]

DEFAULTS: Mapping[int, float] = {0: 535, 1: 720, 3: 720}
"""Threshold of boards that are not being scanned [DAC], of the options ``-b0``, ``-b1``, ``-b3``."""

_COMBINED = {
    "data_board_id": pl.Int8,
    "hits": pl.Int64,
    "phase_adjust": pl.Int8,
    "pixel_id": pl.String,
    "board_injected_charge": pl.Int16,
    "board_discriminator_threshold": pl.Int16,
}
_POINT = ["data_board_id", "board_injected_charge"]
_THRESHOLD = "board_discriminator_threshold"


def combined_data(
    hits: pl.DataFrame,
    files: pl.DataFrame,
    accepted: ArrayLike | None = None,
    *,
    filter_default: bool = False,
    trigger_board: int = 0,
    defaults: Mapping[int, float] | None = None,
) -> pl.DataFrame:
    """Return the table ``combined_etroc1_data``: hits of each board in each run.

    Parameters
    ----------
    hits, files, accepted
        As for `firstlight.detectors.etroc.injection.count_points`.
    filter_default : bool
        Without it there is a row for each board with hits, and runs without hits vanish. With it each run
        gets a row of the board that is away from its default threshold, with 0 hits if it has none; hits of
        the trigger board are dropped if another board has hits, or another board is the one away from its
        default.
    trigger_board : int
        Board that triggers.
    defaults : mapping of int to float, optional
        Thresholds of boards that are not being scanned; `DEFAULTS` by default.

    Returns
    -------
    polars.DataFrame
        Columns data_board_id, hits, phase_adjust, pixel_id, board_injected_charge,
        board_discriminator_threshold.

    Raises
    ------
    UsageError
        If `accepted` has another length than `hits`.
    InputError
        If the files of a run differ in their settings.
    """
    keep = np.ones(hits.height, dtype=np.bool_) if accepted is None else np.asarray(accepted, dtype=np.bool_)
    if keep.shape != (hits.height,):
        what = f"accepted has the shape {keep.shape}, there are {hits.height} hits"
        raise UsageError(what)
    settings = run_settings(files)
    counts = (
        hits.select("file", "board")
        .filter(pl.Series(keep))
        .join(files.select("file", "run").unique(), on="file", how="left")
        .group_by("run", "board")
        .agg(pl.len().cast(pl.Int64).alias("hits"))
    )
    table = settings.join(counts, on=["run", "board"], how="left", maintain_order="left")
    table = table.with_columns(pl.col("hits").fill_null(0))
    if filter_default:
        resting = {**DEFAULTS, **(defaults or {})}
        parts = table.partition_by("run", maintain_order=True)
        flags = [_kept(part, resting, trigger_board) for part in parts]
        table = pl.concat(parts).filter(pl.Series(np.concatenate(flags))) if parts else table
    else:
        table = table.filter(pl.col("hits") > 0)
    return table.select(
        pl.col("board").alias("data_board_id"),
        "hits",
        pl.col("phase").alias("phase_adjust"),
        pl.col("pixel").alias("pixel_id"),
        pl.col("charge").alias("board_injected_charge"),
        pl.col("threshold").alias(_THRESHOLD),
    ).cast(_COMBINED)  # type: ignore[arg-type]


def _kept(run: pl.DataFrame, defaults: Mapping[int, float], trigger_board: int) -> Bools:
    """Return which boards of a run have a row with ``filter_default``."""
    board, hits = run["board"].to_numpy(), run["hits"].to_numpy()
    rest = np.array([defaults.get(int(one), np.nan) for one in board])
    away = np.flatnonzero((run["threshold"].to_numpy() != rest) & ~np.isnan(rest))
    kept = np.asarray(hits > 0)
    if kept.sum() > 1:
        return np.asarray(kept & (board != trigger_board))
    if away.size and not kept[away[0]]:
        kept &= board != trigger_board
        kept[away[0]] = True
    return kept


def dac_charge_data(combined: pl.DataFrame) -> pl.DataFrame:
    """Return the table ``dac_charge_data``: the largest threshold with a hit, of each board and charge.

    Parameters
    ----------
    combined : polars.DataFrame
        From `combined_data`.

    Returns
    -------
    polars.DataFrame
        Columns data_board_id, board_injected_charge, board_discriminator_threshold.
    """
    return (
        combined.filter(pl.col("hits") > 0)
        .group_by(_POINT)
        .agg(pl.col(_THRESHOLD).max().cast(pl.Int64))
        .sort(_POINT)
    )


def noise_limit_data(
    combined: pl.DataFrame,
    *,
    noise_with_charge: int = 0,
    rolling_mean: int = 3,
    difference_from_mean: float = 50,
    hit_center: float = 4450,
    hit_window: float = 150,
    trigger_board: int | None = None,
    trigger_board_hit_center: float | None = None,
    trigger_board_hit_window: float | None = None,
    noise_edge_offset: float = 4,
) -> pl.DataFrame:
    """Return the table ``noise_limit_data``: lower and upper end of the noise of each board.

    The lower end is the mean over charges of the smallest threshold with hits. The upper end is the median
    over charges of the smallest threshold on a flat plateau, less an offset. Flat: the hits differ by less
    than `difference_from_mean` from their centred mean over `rolling_mean` thresholds, and by less than
    `hit_window` from `hit_center`.

    Parameters
    ----------
    combined : polars.DataFrame
        From `combined_data`.
    noise_with_charge : int
        Charge [fC] that is used instead of mean and median, where the board has it; 0 for none.
    rolling_mean : int
        Thresholds in the mean.
    difference_from_mean, hit_center, hit_window : float
        Limits of a flat plateau [hits].
    trigger_board : int, optional
        Board with a centre and window of its own.
    trigger_board_hit_center, trigger_board_hit_window : float, optional
        These.
    noise_edge_offset : float
        Offset of the upper end [DAC].

    Returns
    -------
    polars.DataFrame
        Columns data_board_id, noise_min_dac, noise_max_dac; the latter is null where no plateau is found.

    Raises
    ------
    UsageError
        If `rolling_mean` is not positive.
    """
    if rolling_mean < 1:
        what = f"rolling_mean is the number of thresholds in a mean, {rolling_mean} is none"
        raise UsageError(what)
    rows: list[dict[str, Any]] = []
    for board in combined.filter(pl.col("hits") > 0)["data_board_id"].unique().sort():
        own = trigger_board is not None and board == trigger_board
        center = trigger_board_hit_center if own and trigger_board_hit_center is not None else hit_center
        window = trigger_board_hit_window if own and trigger_board_hit_window is not None else hit_window
        first: dict[int, float] = {}
        flat: dict[int, float] = {}
        scan = combined.filter(pl.col("data_board_id") == board)
        for part in scan.sort("board_injected_charge", _THRESHOLD, maintain_order=True).partition_by(
            "board_injected_charge", maintain_order=True
        ):
            charge, hits = int(part["board_injected_charge"][0]), part["hits"].to_numpy().astype(np.float64)
            x = part[_THRESHOLD].to_numpy()
            with np.errstate(invalid="ignore"):
                level = np.abs(_rolling(hits, rolling_mean) - hits) < difference_from_mean
            level &= np.abs(hits - center) < window
            if (hits > 0).any():
                first[charge] = float(x[hits > 0].min())
            if level.any():
                flat[charge] = float(x[level].min())
        low = first.get(noise_with_charge, float(np.mean(list(first.values()))))
        high = flat.get(noise_with_charge, float(np.median(list(flat.values()))) if flat else None)
        high = None if high is None else high - noise_edge_offset
        rows.append({"data_board_id": board, "noise_min_dac": low, "noise_max_dac": high})
    types = {"data_board_id": pl.Int64, "noise_min_dac": pl.Float64, "noise_max_dac": pl.Float64}
    return pl.DataFrame(rows, schema=types)


def _rolling(values: Floats, width: int) -> Floats:
    """Return the centred mean; NaN where the window is not full, one more behind than ahead if it is even."""
    found = np.full(values.size, np.nan)
    if values.size >= width:
        ahead = (width - 1) // 2
        means = np.convolve(values, np.ones(width) / width, mode="valid")
        found[width - 1 - ahead : values.size - ahead] = means
    return found


def original_lines(dac: pl.DataFrame) -> pl.DataFrame:
    """Return the straight lines of threshold against charge, all points weighted alike.

    Parameters
    ----------
    dac : polars.DataFrame
        From `dac_charge_data`.

    Returns
    -------
    polars.DataFrame
        ``LINES``, method ``"last"``. Errors are from the residuals; they and chi2 are null with fewer than
        three charges.
    """
    rows: list[dict[str, Any]] = []
    for part in dac.partition_by("data_board_id", maintain_order=True):
        x = part["board_injected_charge"].to_numpy().astype(np.float64)
        y = part[_THRESHOLD].to_numpy().astype(np.float64)
        row: dict[str, Any] = {"board": part["data_board_id"][0], "pixel": None, "method": "last"}
        row |= dict.fromkeys(("offset", "offset_error", "slope", "slope_error", "correlation", "chi2"))
        row |= {"charges": x.size, "ndf": max(x.size - 2, 0), "status": "ok", "good": True}
        if x.size < 2:
            rows.append(row | {"status": "one charge", "good": False})
            continue
        middle, square = x.mean(), float(np.sum((x - x.mean()) ** 2))
        slope = float(np.sum((x - middle) * y) / square)
        row |= {"slope": slope, "offset": float(y.mean() - slope * middle)}
        if x.size > 2:
            variance = float(np.sum((y - row["offset"] - slope * x) ** 2)) / (x.size - 2)
            spread = 1 / x.size + middle**2 / square
            row["offset_error"], row["slope_error"] = np.sqrt(variance * spread), np.sqrt(variance / square)
            row["correlation"] = -middle / np.sqrt(square * spread)
        rows.append(row)
    return Table.from_rows(LINES, rows).frame


def original_noise(limits: pl.DataFrame) -> pl.DataFrame:
    """Return the noise bands as ``NOISE``, method ``"original"``.

    Parameters
    ----------
    limits : polars.DataFrame
        From `noise_limit_data`.
    """
    low, high = pl.col("noise_min_dac"), pl.col("noise_max_dac")
    frame = limits.select(
        pl.col("data_board_id").alias("board"),
        pl.lit(None, pl.String).alias("pixel"),
        pl.lit("original").alias("method"),
        ((low + high) / 2).alias("baseline"),
        (high - low).alias("width"),
        low.alias("noise_min"),
        high.alias("noise_max"),
        pl.when(high.is_null())
        .then(pl.lit("no plateau at these hits"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
    )
    return Table.from_frame(NOISE, frame).frame
