"""Steps: plain functions with a parameter model.

A `ChunkStep` reads data: ``map(chunk, parameters, context)`` gives a partial result, partial results are
merged in the order of the input files, and ``finish`` turns the sum into products. A `ProductStep` makes
products from products. Both are values that tie functions together; the functions themselves are called
in a notebook without any of this.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from firstlight.data.cube import HistogramCube
from firstlight.data.schema import Block, Table
from firstlight.run.config import StrictModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firstlight.data.channels import ChannelMap

__all__ = [
    "Check",
    "ChunkStep",
    "Context",
    "NoParameters",
    "Product",
    "ProductStep",
    "Step",
    "Verdict",
    "worst",
]

Product = Table | Block | HistogramCube
Verdict = Literal["ok", "no-statistics", "warn", "bad"]
# one thing that cannot be judged does not take away what can
_ORDER: tuple[Verdict, ...] = ("no-statistics", "ok", "warn", "bad")


class NoParameters(StrictModel):
    """For a step without parameters."""


@dataclass(frozen=True)
class Context:
    """What every step may know beside its input.

    Parameters
    ----------
    channels : ChannelMap
        The channels of this run.
    options : StrictModel
        The options of the detector for this run.
    files : tuple of str
        Names of the input files by the `index` of a span, unique and relative to what they have in common.
    cut : bool
        Whether a selection was made while reading, so that counts differ from those in the files.
    conditions : tuple of mapping
        Conditions of each input file, in the order of `files`: the fields of its name, and what the plan of the
        detector found out.
    """

    channels: ChannelMap
    options: StrictModel
    files: tuple[str, ...] = ()
    cut: bool = False
    conditions: tuple[Mapping[str, Any], ...] = ()

    def conditions_of(self, index: int) -> Mapping[str, Any]:
        """Return the conditions of an input file; none where nothing is known of it."""
        return self.conditions[index] if index < len(self.conditions) else {}


@dataclass(frozen=True)
class ChunkStep:
    """A step that reads data chunk by chunk.

    Parameters
    ----------
    name : str
        Unique within a chain; first part of the names of its products.
    map : callable
        ``map(chunk, parameters, context) -> partial``; pure, module-level, independent of where chunks end.
    finish : callable
        ``finish(partial, parameters, context) -> {product name: product}``.
    needs : callable
        ``needs(parameters) -> {table: columns}``.
    merge : callable
        ``merge(partial, partial) -> partial``; associative. ``+`` by default.
    parameters : type of StrictModel
        The parameter model.
    version : int
        Raised whenever the same input and parameters give another result.
    """

    name: str
    map: Callable[..., Any]
    finish: Callable[..., Mapping[str, Product]]
    needs: Callable[..., Mapping[str, tuple[str, ...]]]
    merge: Callable[[Any, Any], Any] = operator.add
    parameters: type[StrictModel] = NoParameters
    version: int = 1


@dataclass(frozen=True)
class ProductStep:
    """A step that makes products from products.

    Parameters
    ----------
    name : str
        Unique within a chain.
    run : callable
        ``run(products, parameters, context) -> {product name: product}``; `products` is a mapping of the
        names in `needs` to values.
    needs : tuple of str
        Names of products, ``"step/product"``; the step is left out where one is missing.
    uses : tuple of str
        Names of further products, which may be missing.
    parameters : type of StrictModel
        The parameter model.
    version : int
        Raised whenever the same input and parameters give another result.
    inputs : callable, optional
        ``inputs(parameters) -> list of paths``: further files that the step reads (a reference, a mask),
        so that their content counts towards the key of the products.
    validate : callable, optional
        ``validate(parameters, channels)`` raises what is wrong with these files, before anything is read.
    """

    name: str
    run: Callable[..., Mapping[str, Product]]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    parameters: type[StrictModel] = NoParameters
    version: int = 1
    inputs: Callable[..., list[str]] | None = None
    validate: Callable[..., None] | None = None


Step = ChunkStep | ProductStep


@dataclass(frozen=True)
class Check:
    """A named judgement.

    Parameters
    ----------
    name : str
        What was judged: ``"dead channels"``.
    verdict : {"ok", "no-statistics", "warn", "bad"}
        The judgement.
    value : float
        The number that was judged; NaN where there is none.
    limit : float
        What it was held against; NaN where there is none.
    rule : str
        The rule that fired, as a sentence with its numbers.
    subject : str
        What it is about, where not the whole run: a plane, a spill.
    details : tuple of str
        The channels or files concerned.
    """

    name: str
    verdict: Verdict
    value: float
    limit: float
    rule: str
    subject: str = ""
    details: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values, NaN as None."""
        return {
            "name": self.name,
            "subject": self.subject,
            "verdict": self.verdict,
            "value": None if self.value != self.value else self.value,
            "limit": None if self.limit != self.limit else self.limit,
            "rule": self.rule,
            "details": list(self.details),
        }


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of some verdicts; ``"no-statistics"`` only where nothing could be judged."""
    return max(verdicts, key=_ORDER.index, default="no-statistics")
