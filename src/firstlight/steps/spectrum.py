"""Spectra: one histogram of a column of the hits per channel, whole or for hits with a mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pydantic

from firstlight.data.cube import Axis, HistogramCube
from firstlight.run.config import StrictModel
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firstlight.data.schema import Chunk

__all__ = ["SpectrumParameters", "count", "spectrum"]


class SpectrumParameters(StrictModel):
    """Parameters of a spectrum.

    Attributes
    ----------
    column : str
        Column of the hit table.
    low, high : float
        Edges of the axis, in the unit of the column.
    bins : int
        Number of bins.
    absolute : bool
        Whether to histogram the absolute value.
    mark : str
        Column with a 0/1 flag; if given, a second histogram of the hits with the flag is made.
    unit, description : str
        Of the axis.
    """

    column: str
    low: float
    high: float
    bins: int = pydantic.Field(ge=1)
    absolute: bool = False
    mark: str = ""
    unit: str = ""
    description: str = ""

    @pydantic.model_validator(mode="after")
    def _edges_in_order(self) -> SpectrumParameters:
        if not self.low < self.high:
            what = f"low ({self.low:g}) must be below high ({self.high:g})"
            raise ValueError(what)
        return self


class _Pair(tuple[HistogramCube, ...]):
    """Histograms of all hits and of marked ones."""

    __slots__ = ()

    def __add__(self, other: tuple[HistogramCube, ...]) -> _Pair:  # type: ignore[override]
        return _Pair(a + b for a, b in zip(self, other, strict=True))


def count(chunk: Chunk, parameters: SpectrumParameters, context: Context) -> _Pair:
    """Histogram the hits of a chunk."""
    axes = (
        Axis("channel", len(context.channels)),
        Axis(
            parameters.column, parameters.bins, parameters.low, parameters.high,
            unit=parameters.unit, description=parameters.description,
        ),
    )  # fmt: skip
    hits = chunk.table("hits")
    value = hits.array(parameters.column)
    if parameters.absolute:
        value = np.abs(value)
    channel = hits.array("channel")
    chosen = [channel]
    if parameters.mark:
        chosen.append(np.where(hits.array(parameters.mark) > 0, channel, np.int32(-1)))
    cubes = []
    for rows in chosen:
        cube = HistogramCube.zeros(
            *axes, description=f"hits by {parameters.description or parameters.column}"
        )
        cube.fill(rows, value)
        cubes.append(cube)
    return _Pair(cubes)


def finish(partial: _Pair, parameters: SpectrumParameters, _: Context) -> dict[str, Product]:
    """Return the products ``all`` and, where there is a mark, the histogram named after it."""
    names = ["all", parameters.mark] if parameters.mark else ["all"]
    return dict(zip(names, partial, strict=True))


def needs(parameters: SpectrumParameters) -> Mapping[str, tuple[str, ...]]:
    """Return the columns that `count` reads."""
    mark = (parameters.mark,) if parameters.mark else ()
    return {"hits": ("channel", parameters.column, *mark)}


def spectrum(name: str, parameters: type[SpectrumParameters]) -> ChunkStep:
    """Return a step that histograms one column; `parameters` gives its defaults."""
    return ChunkStep(name, count, finish, needs, parameters=parameters)
