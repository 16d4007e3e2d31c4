"""From frames to one cube of counts: which frames are used, which are not and why, and for how long each threshold was open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.data.sums import add_by_key
from firstlight.detectors.velo.channels import COLUMNS, N_PIXELS, ROWS, masked
from firstlight.detectors.velo.frames import LARGEST
from firstlight.detectors.velo.options import ScanParameters
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk

__all__ = ["FRAME_TABLE", "PIXEL_TABLE", "POINT_TABLE", "Scan", "count", "finish", "scan"]


FRAME_TABLE = TableSchema(
    "frames",
    (
        Column("input", pl.String, "folder of the frame"),
        Column("file", pl.String, "name of the file; the name it would have where it is missing"),
        Column("threshold", pl.Int32, "threshold", "DAC"),
        Column("acquisition", pl.Int32, "number of the acquisition", minimum=0),
        Column("shutter_time", pl.Float64, "time for which the shutter was open", "s", minimum=0),
        Column("size", pl.Int64, "size of the file", "bytes", minimum=0),
        Column("total", pl.Int64, "hits of all pixels that are not masked", "hits", nullable=True),
        Column(
            "last_column_mean",
            pl.Float64,
            "mean of the last column, masked pixels left out",
            "hits",
            nullable=True,
        ),
        Column("status", pl.String, "good, or why the frame was left out"),
        Column("reason", pl.String, "why, in words and numbers"),
        Column("digest", pl.String, "first 24 digits of the SHA-256 of the file"),
    ),
    "one frame of the scan, read or missing",
)
POINT_TABLE = TableSchema(
    "points",
    (
        Column("threshold", pl.Int32, "threshold", "DAC"),
        Column("live_time", pl.Float64, "open time of all good frames", "s", minimum=0),
        Column("n_good", pl.Int32, "frames used", minimum=0),
        Column("n_left_out", pl.Int32, "frames left out, missing ones included", minimum=0),
        Column("counts", pl.Int64, "hits of all pixels that are not masked", "hits", minimum=0),
        Column("rate", pl.Float64, "rate of all pixels that are not masked", "hits/s", nullable=True),
        Column("rate_error", pl.Float64, "its Poisson error", "hits/s", nullable=True),
        Column(
            "rate_error_empirical", pl.Float64,
            "standard error of the mean over acquisitions", "hits/s", nullable=True,
        ),
    ),
    "one threshold",
)  # fmt: skip
PIXEL_TABLE = TableSchema(
    "pixels",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("counts", pl.Int64, "hits in all good frames", "hits", minimum=0),
        Column("n_saturated", pl.Int32, f"readings at {LARGEST}, where the counter stops", minimum=0),
    ),
    "one pixel",
)


@dataclass(frozen=True)
class Scan:
    """What some frames add up to.

    Parameters
    ----------
    counts : dict of int to ndarray of int32, shape (65536,)
        Hits of good frames, by threshold [DAC].
    saturated : ndarray of int32, shape (65536,)
        Readings at 63 in good frames.
    frames : polars.DataFrame
        As `FRAME_TABLE`.
    """

    counts: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    saturated: NDArray[np.int32] = field(default_factory=lambda: np.zeros(N_PIXELS, dtype=np.int32))
    frames: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=FRAME_TABLE.dtypes))

    def __add__(self, other: Scan) -> Scan:
        counts = add_by_key(self.counts, other.counts)
        return Scan(counts, self.saturated + other.saturated, pl.concat([self.frames, other.frames]))


def count(chunk: Chunk, parameters: ScanParameters, context: Context) -> Scan:
    """Return the sum of the good frames of a chunk, and what became of every frame.

    Parameters
    ----------
    chunk : Chunk
        Table ``frames`` and block ``images``, all acquisitions of a threshold together.
    parameters : ScanParameters
        Which frames are wanted and how bad ones are recognised.
    context : Context
        Its channel map has the mask.
    """
    table = chunk.table("frames").frame
    images = chunk.block("images").values
    mask = masked(context.channels)
    total = Scan()
    for threshold in table["threshold"].unique().sort():
        rows = np.flatnonzero(table["threshold"].to_numpy() == threshold)
        total = total + _one_threshold(
            int(threshold), table[rows], images[rows], mask, parameters, context.files[chunk.span.index]
        )
    return total


def _one_threshold(
    threshold: int,
    table: pl.DataFrame,
    images: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    parameters: ScanParameters,
    name: str,
) -> Scan:
    """Return what the frames of one threshold add up to."""
    from firstlight.detectors.velo.bad_frames import judge

    status, reason = _unwanted(threshold, table, parameters)
    wanted = np.asarray([state == "read" for state in status])
    judged = judge(images, status, mask.reshape(ROWS, COLUMNS), parameters.bad_frame)
    status = [new if use else old for old, new, use in zip(status, judged.status, wanted, strict=True)]
    reason = [new if use else old for old, new, use in zip(reason, judged.reason, wanted, strict=True)]
    good = np.asarray([state == "good" for state in status])
    frames = table.with_columns(
        pl.lit(name).alias("input"),
        pl.Series("total", judged.total, dtype=pl.Int64),
        pl.Series("last_column_mean", judged.last_column_mean, dtype=pl.Float64).fill_nan(None),
        pl.Series("status", status),
        pl.Series("reason", reason),
    )
    readable = pl.col("status").is_in(_WITHOUT_DATA).not_()
    frames = frames.with_columns(
        pl.when(readable).then(pl.col(column)).alias(column) for column in ("total", "last_column_mean")
    ).select(pl.col(column.name).cast(column.dtype) for column in FRAME_TABLE.columns)
    counts, saturated = _sum(images, good)
    return Scan({threshold: counts}, saturated, frames)


_WITHOUT_DATA = ("missing", "empty file", "truncated", "not square", "text", "out of range", "unreadable")


def _sum(images: NDArray[np.uint8], good: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the sum of some frames, and how many readings of each pixel are at 63."""
    from firstlight.detectors.velo.frame_kernels import add_frames

    counts = np.zeros(N_PIXELS, dtype=np.int32)
    saturated = np.zeros(N_PIXELS, dtype=np.int32)
    add_frames(np.ascontiguousarray(images), good, LARGEST, counts, saturated)
    return counts, saturated


def _unwanted(threshold: int, table: pl.DataFrame, parameters: ScanParameters) -> tuple[list[str], list[str]]:
    """Return status and reason of each frame after those that are not wanted have been marked."""
    from firstlight.detectors.velo.conditions import parse_condition
    from firstlight.detectors.velo.frames import parse_shutter

    status, reason = table["status"].to_list(), table["reason"].to_list()
    acquisition = table["acquisition"].to_numpy()
    excluded = np.asarray(
        parse_condition(parameters.exclude).matches(np.full(acquisition.size, threshold), acquisition)
    )
    shutter = parse_shutter(parameters.shutter) if parameters.shutter else None
    grid = parameters.threshold
    outside = grid is not None and threshold not in grid.values
    for index, number in enumerate(acquisition):
        if status[index] != "read":
            continue
        if outside:
            status[index], reason[index] = "excluded", "threshold outside the scan that was asked for"
        elif shutter is not None and abs(table["shutter_time"][index] - shutter) > 1e-9:
            status[index] = "excluded"
            reason[index] = f"shutter {table['shutter_time'][index]:g} s, {shutter:g} s was asked for"
        elif parameters.acquisitions is not None and number >= parameters.acquisitions:
            status[index] = "excluded"
            reason[index] = f"only acquisitions 0 to {parameters.acquisitions - 1} were asked for"
        elif excluded[index]:
            status[index], reason[index] = "excluded", f"condition: {parameters.exclude}"
    return status, reason


def finish(total: Scan, parameters: ScanParameters, context: Context) -> Mapping[str, Product]:
    """Return the cube of counts, the live times, and the table of all frames.

    Parameters
    ----------
    total : Scan
        Sum over all chunks.
    parameters : ScanParameters
        What was expected.
    context : Context
        Its channel map names the chip.

    Returns
    -------
    dict
        ``counts`` (block threshold, row, column), ``points``, ``frames`` and ``pixels``.
    """
    frames = with_missing(_with_dark(total.frames), parameters, context.channels.name)
    thresholds = frames["threshold"].unique().sort().to_numpy()
    if parameters.threshold is not None:
        thresholds = thresholds[np.isin(thresholds, parameters.threshold.values)]
    cube = np.zeros((thresholds.size, ROWS, COLUMNS), dtype=np.int32)
    for index, threshold in enumerate(thresholds):
        if int(threshold) in total.counts:
            cube[index] = total.counts[int(threshold)].reshape(ROWS, COLUMNS)
    mask = masked(context.channels).reshape(ROWS, COLUMNS)
    pixels = {
        "channel": np.arange(N_PIXELS),
        "counts": cube.sum(axis=0, dtype=np.int64).ravel(),
        "n_saturated": total.saturated,
    }
    description = "hits of each pixel at each threshold, summed over good frames"
    return {
        "counts": Block(
            cube, ("threshold", "row", "column"), "hits", description, {"threshold": thresholds.tolist()}
        ),
        "points": _points(frames, thresholds, cube[:, ~mask].sum(axis=1, dtype=np.int64)),
        "frames": Table.from_frame(FRAME_TABLE, frames),
        "pixels": Table.from_arrays(PIXEL_TABLE, pixels),
    }


def _points(frames: pl.DataFrame, thresholds: NDArray[np.int64], counts: NDArray[np.int64]) -> Table:
    good = pl.col("status") == "good"
    rate = (pl.col("total") / pl.col("shutter_time")).filter(good)
    by_threshold = (
        frames.group_by("threshold")
        .agg(
            # whole milliseconds, so that the sum does not depend on the order
            ((pl.col("shutter_time").filter(good) * 1000).round().cast(pl.Int64).sum() / 1000).alias(
                "live_time"
            ),
            good.sum().cast(pl.Int32).alias("n_good"),
            good.not_().sum().cast(pl.Int32).alias("n_left_out"),
            (rate.sort().std() / good.sum().sqrt()).alias("rate_error_empirical"),
        )
        .sort("threshold")
    )
    points = pl.DataFrame({"threshold": thresholds.astype(np.int32), "counts": counts}).join(
        by_threshold, on="threshold", how="left", maintain_order="left"
    )
    live = pl.col("live_time")
    points = points.with_columns(
        pl.when(live > 0).then(pl.col("counts") / live).alias("rate"),
        pl.when(live > 0).then(pl.col("counts").sqrt() / live).alias("rate_error"),
    )
    return Table.from_frame(POINT_TABLE, points)


def _with_dark(frames: pl.DataFrame) -> pl.DataFrame:
    """Return the frames, with empty ones good where no hit is no surprise: at thresholds above all hits.

    A threshold by itself cannot say so. Rates fall with the threshold: no more hits are expected than at the one below.
    """
    from firstlight.detectors.velo.bad_frames import plausibly_empty

    if not (frames["status"] == "empty").any():
        return frames
    below: float | None = None
    dark = []
    for (threshold,), own in frames.sort("threshold").group_by("threshold", maintain_order=True):
        good, empty = (own.filter(pl.col("status") == status) for status in ("good", "empty"))
        if good.height:
            below = float(good["total"].sum() / good["shutter_time"].to_numpy().sum())
        elif empty.height and below is not None:
            expected = below * float(empty["shutter_time"].to_numpy().max())
            if plausibly_empty(empty["total"].to_list(), expected):
                dark.append(threshold)
    now = (pl.col("status") == "empty") & pl.col("threshold").is_in(dark)
    return frames.with_columns(
        pl.when(now).then(pl.lit(text)).otherwise(pl.col(name)).alias(name)
        for name, text in (("status", "good"), ("reason", ""))
    )


def with_missing(frames: pl.DataFrame, parameters: ScanParameters, prefix: str) -> pl.DataFrame:
    """Return the frames with a row for each that should be there and is not, in order.

    Expected are all acquisitions of all thresholds, as the parameters say; where they say nothing, as many
    acquisitions as the largest number found, and thresholds at the most frequent distance.
    """
    from firstlight.detectors.velo.frames import frame_name

    expected = []
    for name in frames["input"].unique(maintain_order=True).sort():
        own = frames.filter(pl.col("input") == name)
        found = own["threshold"].unique().sort().to_numpy()
        grid = parameters.threshold.values if parameters.threshold is not None else _regular(found)
        n_acquisitions = parameters.acquisitions or int(own["acquisition"].max()) + 1  # type: ignore[arg-type]
        shutter = float(own["shutter_time"].mode().sort()[0])
        grid_rows = pl.DataFrame({"threshold": np.asarray(grid, dtype=np.int32)}).join(
            pl.DataFrame({"acquisition": np.arange(n_acquisitions, dtype=np.int32)}), how="cross"
        )
        missing = grid_rows.join(own, on=["threshold", "acquisition"], how="anti")
        if missing.is_empty():
            continue
        files = [
            frame_name(prefix, shutter, threshold, acquisition) for threshold, acquisition in missing.rows()
        ]
        whole = (~np.isin(missing["threshold"].to_numpy(), found)).tolist()
        reasons = ["no frame of this threshold" if all_ else "no such file" for all_ in whole]
        rows = missing.with_columns(
            pl.lit(name).alias("input"),
            pl.Series("file", files, dtype=pl.String),
            pl.lit(shutter).alias("shutter_time"),
            pl.lit(0).alias("size"),
            pl.lit(None, dtype=pl.Int64).alias("total"),
            pl.lit(None, dtype=pl.Float64).alias("last_column_mean"),
            pl.lit("missing").alias("status"),
            pl.Series("reason", reasons, dtype=pl.String),
            pl.lit("").alias("digest"),
        )
        expected.append(rows.select(pl.col(column.name).cast(column.dtype) for column in FRAME_TABLE.columns))
    return pl.concat([frames, *expected]).sort("input", "threshold", "acquisition", "file")


def _regular(found: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the thresholds that a scan should have, from those that were found."""
    if found.size < 3:
        return found
    steps, often = np.unique(np.diff(found), return_counts=True)
    step = int(steps[np.argmax(often)])
    grid = np.arange(found[0], found[-1] + 1, step, dtype=np.int32)
    # thresholds beside the grid: a scan in steps of several sizes, of which nothing is known to be missing
    return grid if np.isin(found, grid).all() else found


def needs(_: ScanParameters) -> Mapping[str, tuple[str, ...]]:
    """Return what `count` reads."""
    names = ("file", "threshold", "acquisition", "shutter_time", "size", "status", "reason", "digest")
    return {"frames": names, "images": ()}


scan = ChunkStep("scan", count, finish, needs, parameters=ScanParameters)
