"""Quantities that are followed from spill to spill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.steps.step import Context, Product, ProductStep
from firstlight.steps.trend import POINTS, TrendParameters, judge_trend

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SpillTrendParameters", "follow", "spill_labels", "spill_trend"]


class SpillTrendParameters(TrendParameters):
    """Limits of trends from spill to spill.

    Attributes
    ----------
    minimum_plane_hits : int
        Hits of a plane in a spill below which its share and its times are not followed.
    correlation : float
        Hits of one event come together: errors of hit rates are those of this many hits per independent one.
    time_correlation : float
        The same for mean times: the hits of a burst of a whole card are all early, or all late.
    """

    minimum_change: float = 0.25
    minimum_change_of: dict[str, float] = {"in-time fraction": 0.08, "mean TDC time": 8.0}
    minimum_plane_hits: int = 200
    correlation: float = 2.0
    time_correlation: float = 8.0


def spill_labels(spills: pl.DataFrame) -> list[str]:
    """Return a label for each row: the spill number where they differ, else the file."""
    numbers = spills["spill_id"].to_list()
    if len(set(numbers)) == len(numbers):
        return [str(number) for number in numbers]
    return [f"{file}:{spill}" for file, spill in zip(spills["file"], numbers, strict=True)]


def follow(products: Mapping[str, Any], parameters: SpillTrendParameters, _: Context) -> dict[str, Product]:
    """Judge how the spills follow each other; the step ``trend``."""
    spills: pl.DataFrame = products["spills/spills"].frame.with_row_index("index")
    planes: pl.DataFrame = products["spills/planes"].frame
    labels = spill_labels(spills)
    spills = spills.with_columns(pl.Series("label", labels, dtype=pl.String), pl.col("index").cast(pl.Int64))
    frames = [*_of_spills(spills, parameters), *_of_planes(spills, planes, parameters)]
    columns = {c.name: c.dtype for c in POINTS.columns if c.name not in ("expected", "pull", "state")}
    chosen = [frame.select(pl.col(name).cast(dtype) for name, dtype in columns.items()) for frame in frames]
    points, series = judge_trend(pl.concat(chosen), parameters)
    return {"points": points, "series": series}


def _rows(spills: pl.DataFrame, quantity: str, value: pl.Expr, error: pl.Expr, unit: str) -> pl.DataFrame:
    return spills.select(
        pl.lit(quantity).alias("quantity"),
        pl.lit("").alias("subject"),
        "index",
        "label",
        value.alias("value"),
        error.alias("error"),
        pl.lit(unit).alias("unit"),
    )


def _of_spills(spills: pl.DataFrame, parameters: SpillTrendParameters) -> list[pl.DataFrame]:
    events, hits = pl.col("n_events"), pl.col("n_hits")
    rate = hits / events
    fraction = pl.col("n_in_time") / hits
    few = parameters.correlation
    frames = [
        _rows(spills, "events", events.cast(pl.Float64), events.sqrt(), ""),
        # events differ far more in their numbers of hits than Poisson: the spread of the spills tells
        _rows(spills, "hits per event", rate, rate / events.sqrt(), ""),
        _rows(spills, "in-time fraction", fraction, (few * fraction * (1 - fraction) / hits).sqrt(), ""),
    ]
    for name in TRIGGERS:
        if spills[name].sum():
            # of what is usual in all spills: none in a few events does not mean that there never is one
            usual = (pl.col(name).sum() + 1) / (events.sum() + 2)
            error = (usual * (1 - usual) / events).sqrt()
            frames.append(_rows(spills, f"trigger {name}", pl.col(name) / events, error, "per event"))
    # a spill without any event has no rate: null rather than NaN
    return [frame.with_columns(pl.col("value", "error").fill_nan(None)) for frame in frames]


def _of_planes(
    spills: pl.DataFrame, planes: pl.DataFrame, parameters: SpillTrendParameters
) -> list[pl.DataFrame]:
    followed = planes.join(
        spills.select("index", "label", "file", "spill_id", pl.col("n_hits").alias("of_spill")),
        on=["file", "spill_id"],
    )
    # a plane that is dead in one spill is followed too: it is left out only where it never has hits
    alive = (
        planes.group_by("plane")
        .agg(pl.col("n_hits").max())
        .filter(pl.col("n_hits") >= parameters.minimum_plane_hits)
    )
    followed = followed.join(alive.select("plane"), on="plane", maintain_order="left")
    hits = pl.col("n_hits").cast(pl.Float64)
    share = hits / pl.col("of_spill")
    few = parameters.correlation
    enough = pl.col("n_hits") >= parameters.minimum_plane_hits
    common = (pl.col("plane").alias("subject"), "index", "label")
    shares = followed.select(
        pl.lit("share of hits").alias("quantity"), *common,
        share.fill_nan(None).alias("value"),
        (few * share.clip(lower_bound=1 / pl.col("of_spill")) / pl.col("of_spill")).sqrt().fill_nan(None).alias("error"),
        pl.lit("").alias("unit"),
    )  # fmt: skip
    times = followed.filter(pl.col("tdc_mean").is_not_null() & enough).select(
        pl.lit("mean TDC time").alias("quantity"), *common,
        pl.col("tdc_mean").alias("value"),
        (pl.col("tdc_std") * np.sqrt(parameters.time_correlation) / hits.sqrt()).alias("error"),
        pl.lit("ns").alias("unit"),
    )  # fmt: skip
    return [frame for frame in (shares, times) if frame.height]


spill_trend = ProductStep(
    "trend", follow, needs=("spills/spills", "spills/planes"), parameters=SpillTrendParameters
)
