"""What is made of the files: three generic steps, and one of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.channels import ChannelMap
from firstlight.data.schema import Column, Table, TableSchema
from firstlight.data.select import Cut, Selection
from firstlight.detector import Description, Plan
from firstlight.run.config import StrictModel
from firstlight.steps.multiplicity import multiplicity
from firstlight.steps.occupancy import occupancy
from firstlight.steps.spectrum import SpectrumParameters, spectrum
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CHAIN", "Options", "channel_map", "plan"]


class Options(StrictModel):
    """Options of a run.

    Attributes
    ----------
    cuts : tuple of str
        Use only hits that satisfy these conditions: ``("time between 20 and 60",)``.
    """

    cuts: tuple[str, ...] = ()


def channel_map() -> ChannelMap:
    """Return the channels: a row each, with its place in the array."""
    channel = np.arange(64)
    frame = pl.DataFrame({"channel": channel, "row": channel // 8, "col": channel % 8})
    return ChannelMap("bars", "1", frame, "grid", labels={"channel": "bar"})


def plan(options: Options, descriptions: Sequence[Description]) -> Plan:
    """Return how the files of one run are to be read: channels and cuts, once all files have been looked at."""
    thresholds = sorted({found.facts["threshold"] for found in descriptions})
    notes = () if len(thresholds) == 1 else (f"files of several thresholds are added up: {thresholds} mV",)
    return Plan(channel_map(), Selection(tuple(Cut(cut, "hits", cut) for cut in options.cuts)), notes=notes)


class ChargeParameters(SpectrumParameters):
    """Charge of the pulses. The generic step has these parameters; here are our values for them."""

    column: str = "charge"
    low: float = 0.0
    high: float = 60.0
    bins: int = 120
    unit: str = "pC"
    description: str = "charge"


class ResponseParameters(StrictModel):
    """Parameters of the relative response.

    Attributes
    ----------
    min_hits : int
        A bar with fewer hits gets no constant: that is "not known", not "dead".
    """

    min_hits: int = 50


RESPONSE = TableSchema(
    "response",
    (
        Column("channel", pl.Int32, "bar"),
        Column("n_hits", pl.Int64, "hits in the spectrum"),
        Column("charge", pl.Float64, "mean charge", "pC", nullable=True),
        Column("response", pl.Float64, "mean charge relative to the median bar", nullable=True),
        Column("error", pl.Float64, "statistical uncertainty of the response", nullable=True),
    ),
    "a bar",
)


def measure_response(
    products: Mapping[str, Any], parameters: ResponseParameters, _: Context
) -> dict[str, Product]:
    """Return the response of each bar relative to the median bar: the constants to calibrate with."""
    cube = products["charge/all"]
    counts, centers = cube.values, cube.axis("charge").centers
    n_hits = counts.sum(axis=1)
    known = n_hits >= max(parameters.min_hits, 2)
    hits = np.where(known, n_hits, np.nan)
    mean = counts @ centers / hits
    variance = np.maximum(counts @ centers**2 / hits - mean**2, 0.0)
    typical = np.median(mean[known]) if known.any() else np.nan
    arrays = {
        "channel": np.arange(n_hits.size), "n_hits": n_hits, "charge": mean,
        "response": mean / typical, "error": np.sqrt(variance / hits) / typical,
    }  # fmt: skip
    return {"bars": Table.from_frame(RESPONSE, pl.DataFrame(arrays))}


charge = spectrum("charge", ChargeParameters)
response = ProductStep("response", measure_response, needs=("charge/all",), parameters=ResponseParameters)

# the order of the report; a step that reads products stands after those that make them
CHAIN = (occupancy, multiplicity, charge, response)
