"""The step of charge injection as the original does it: the largest threshold with a hit, for comparison and its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.etroc.injection_step import accepted_hits, of_splits
from firstlight.detectors.etroc.options import InjectionParameters, OriginalParameters
from firstlight.detectors.etroc.tables import LINES, NOISE, SUGGESTIONS
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["original"]

_NAMES = (
    Column("data_board_id", pl.Int64, "board"),
    Column("board_injected_charge", pl.Int64, "injected charge", "fC"),
    Column("board_discriminator_threshold", pl.Int64, "discriminator threshold", "DAC"),
)
COMBINED = TableSchema(
    "combined_etroc1_data",
    (
        _NAMES[0],
        Column("hits", pl.Int64, "hits that pass the cuts"),
        Column("phase_adjust", pl.Int64, "phase of the charge injection", nullable=True),
        Column("pixel_id", pl.String, "pixel", nullable=True),
        *_NAMES[1:],
    ),
    "a board of a run, as in the original's table",
)
DAC_POINTS = TableSchema("dac_charge_data", _NAMES, "largest threshold with a hit of a board at a charge")
LIMITS = TableSchema(
    "noise_limit_data",
    (
        _NAMES[0],
        Column("noise_min_dac", pl.Float64, "lower end of the noise", "DAC", nullable=True),
        Column("noise_max_dac", pl.Float64, "upper end of the noise", "DAC", nullable=True),
    ),
    "noise band of a board, as in the original's table",
)
# a plateau is flat where hits differ by less than these parts of the injections from their mean, and from the injections
_FLAT, _WINDOW = 0.03, 0.06


def run(
    products: Mapping[str, Any], parameters: OriginalParameters, context: Context
) -> Mapping[str, Product]:
    """Return the products ``combined``, ``points``, ``limits``, ``lines``, ``noise`` and ``suggestions``.

    Parameters
    ----------
    products : mapping
        ``ingest/hits``, ``ingest/files`` and ``injection/points``.
    parameters : OriginalParameters
        The original's options.
    context : Context
        Its configuration has the cuts of charge injection.
    """
    from firstlight.detectors.etroc.injection_lines import suggest
    from firstlight.detectors.etroc.injection_original import (
        combined_data,
        dac_charge_data,
        noise_limit_data,
        original_lines,
        original_noise,
    )

    scan: InjectionParameters = getattr(context.options, "injection", InjectionParameters())
    hits, files = of_splits(products["ingest/hits"].frame, products["ingest/files"].frame, scan)
    combined = combined_data(
        hits,
        files,
        accepted_hits(hits, files, scan),
        filter_default=parameters.filter_default,
        trigger_board=scan.trigger_board or 0,
        defaults=scan.fixed_thresholds or None,
    )
    known = products["injection/points"].frame["injections"].drop_nulls()
    number = float(known.median()) if known.len() else 0.0
    points = dac_charge_data(combined)
    limits = noise_limit_data(
        combined,
        noise_with_charge=parameters.noise_with_charge,
        rolling_mean=parameters.rolling_mean,
        difference_from_mean=_either(parameters.difference_from_mean, _FLAT * number),
        hit_center=_either(parameters.hit_center, number),
        hit_window=_either(parameters.hit_window, _WINDOW * number),
        trigger_board=scan.trigger_board,
        trigger_board_hit_center=parameters.trigger_board_hit_center,
        trigger_board_hit_window=parameters.trigger_board_hit_window,
        noise_edge_offset=parameters.noise_edge_offset,
    )
    lines, noise = original_lines(points), original_noise(limits)
    return {
        "combined": Table.from_frame(COMBINED, combined),
        "points": Table.from_frame(DAC_POINTS, points),
        "limits": Table.from_frame(LIMITS, limits),
        "lines": Table.from_frame(LINES, lines),
        "noise": Table.from_frame(NOISE, noise),
        "suggestions": Table.from_frame(SUGGESTIONS, suggest(lines, noise)),
    }


def _either(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


original = ProductStep(
    "original",
    run,
    needs=("ingest/hits", "ingest/files", "injection/points"),
    parameters=OriginalParameters,
)
