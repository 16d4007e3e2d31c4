"""The baseline of every pixel: where its noise is, which is where its threshold scale begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.velo.channels import N_PIXELS, equalisation_of, masked
from firstlight.detectors.velo.options import BASELINES, BaselineParameters
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PIXEL_TABLE", "RULE_TABLE", "baseline"]

_RULES = tuple(name for name in BASELINES if name != "auto")

PIXEL_TABLE = TableSchema(
    "pixels",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("baseline", pl.Float64, "baseline that is used", "DAC", nullable=True),
        Column("baseline_error", pl.Float64, "its error, pixel by pixel", "DAC", nullable=True),
        *(Column(name, pl.Float64, f"baseline by the rule {name}", "DAC", nullable=True) for name in _RULES),
    ),
    "one pixel",
)
RULE_TABLE = TableSchema(
    "rules",
    (
        Column("rule", pl.String, "how the baseline follows from the equalisation"),
        Column("used", pl.Boolean, "whether it is the one that is used"),
        Column("n_pixels", pl.Int32, "pixels for which it gives a baseline", minimum=0),
        Column("mean", pl.Float64, "mean baseline", "DAC", nullable=True),
        Column("bias", pl.Float64, "mean difference to the control scan", "DAC", nullable=True),
        Column("spread", pl.Float64, "standard deviation of that difference", "DAC", nullable=True),
        Column("common_error", pl.Float64, "error that all pixels share", "DAC", nullable=True),
        Column("about", pl.String, "what the rule is"),
    ),
    "one rule",
)


def run(_: Mapping[str, Any], parameters: BaselineParameters, context: Context) -> Mapping[str, Product]:
    """Return the baseline of every pixel by the rule that was chosen, and by all others.

    Parameters
    ----------
    _ : mapping
        Not used: the equalisation stands in the channel map.
    parameters : BaselineParameters
        The choice.
    context : Context
        Its channel map has the equalisation.
    """
    from firstlight.detectors.velo.equalisation import available, baseline_by, bias_of, choose

    found = equalisation_of(context.channels)
    mask = masked(context.channels)
    if parameters.choice == "auto" and not available(found):
        # the frames can be fitted all the same: positions need no baseline
        unknown = dict.fromkeys(PIXEL_TABLE.names, np.full(N_PIXELS, np.nan))
        return {
            "pixels": Table.from_frame(PIXEL_TABLE, pl.DataFrame(unknown | {"channel": np.arange(N_PIXELS)})),
            "rules": Table.from_rows(RULE_TABLE, []),
        }
    choice = choose(found, parameters.choice)
    values = {name: baseline_by(found, name) for name in available(found)}
    if parameters.file is not None:
        values[choice.name] = choice.value
    columns: dict[str, Any] = {
        "channel": np.arange(N_PIXELS),
        "baseline": np.where(mask, np.nan, choice.value),
        "baseline_error": np.where(mask, np.nan, choice.error),
    }
    nothing = np.full(N_PIXELS, np.nan)
    columns |= {name: np.where(mask, np.nan, values.get(name, nothing)) for name in _RULES}
    rows = []
    control = values.get("control")
    for name, value in values.items():
        own = np.where(mask, np.nan, value)
        there = np.isfinite(own)
        row: dict[str, Any] = {
            "rule": name, "used": name == choice.name, "n_pixels": int(there.sum()),
            "mean": float(own[there].mean()) if there.any() else None, "bias": None, "spread": None,
            "common_error": choice.common_error if name == choice.name else None,
            "about": BASELINES.get(name, "baseline read from a file"),
        }  # fmt: skip
        if control is not None and name != "control":
            found_bias = bias_of(name, value, control, mask)
            row["bias"], row["spread"] = found_bias.bias, found_bias.spread
        rows.append(row)
    return {
        "pixels": Table.from_frame(PIXEL_TABLE, pl.DataFrame(columns)),
        "rules": Table.from_rows(RULE_TABLE, rows),
    }


def inputs(parameters: BaselineParameters) -> list[str]:
    """Return the file of baselines, where one was given."""
    return [] if parameters.file is None else [parameters.file]


# the points carry the digest of the channel map in their key, and the equalisation stands in the map
baseline = ProductStep("baseline", run, needs=("scan/points",), parameters=BaselineParameters, inputs=inputs)
