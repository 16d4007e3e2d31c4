"""Noise scans as inputs of a run: the source that reads them, and the step that fits them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pydantic

from firstlight.data.schema import Block, Chunk, Column, Span, Table, TableSchema
from firstlight.detector import Description
from firstlight.errors import InputError, SchemaError
from firstlight.run.config import StrictModel
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.patterns import FilePattern

__all__ = ["NOISE_TOTALS", "NoiseScans", "noise"]

_COLUMNS = TableSchema(
    "noise_points",
    (
        Column("threshold", pl.Int32, "threshold", "DAC"),
        Column("hits", pl.Int64, "hits of all pixels", minimum=0),
    ),
    "one threshold of a noise scan",
)
NOISE_TOTALS = TableSchema(
    "totals",
    (
        Column("scan", pl.String, "name of the scan"),
        Column("n_thresholds", pl.Int32, "thresholds", minimum=0),
        Column("hits", pl.Int64, "hits of all pixels", minimum=0),
        Column("n_silent", pl.Int32, "pixels without a hit", minimum=0),
        Column("n_saturated", pl.Int32, "readings at 63, where the counter stops", minimum=0),
        Column("n_truncated", pl.Int32, "pixels still counting at the lowest threshold, or already at the highest"),
        Column("n_fitted", pl.Int32, "pixels with a mean", minimum=0),
        Column("mean", pl.Float64, "mean of the fitted means", "DAC", nullable=True),
        Column("mean_spread", pl.Float64, "standard deviation between pixels", "DAC", nullable=True),
        Column("width", pl.Float64, "median of the fitted widths", "DAC", nullable=True),
    ),
    "one noise scan",
)  # fmt: skip


class NoiseParameters(StrictModel):
    """How the noise of a pixel is fitted.

    Attributes
    ----------
    window : float
        Readings further from the mean than so many widths are not used.
    """

    window: float = pydantic.Field(3.5, ge=1.5)


@dataclass(frozen=True)
class NoiseScans:
    """Raw noise scans as the read-out dumps them; an event is a threshold."""

    name: str = "noise"
    title: str = "raw VeloPix noise scans (.dat, .dat.xz)"
    version: int = 1
    suffixes: tuple[str, ...] = (".dat", ".dat.xz")
    patterns: tuple[FilePattern, ...] = ()
    span_events: int | None = None
    blocks: tuple[str, ...] = ("noise_counts",)
    schemas: Mapping[str, TableSchema] = field(default_factory=lambda: {"noise_points": _COLUMNS})

    def sniff(self, path: Path) -> bool:
        """Return whether name and size are those of a noise scan."""
        from firstlight.detectors.velo.noise import POINT_BYTES, parse_name

        try:
            name = parse_name(path.name)
            packed = path.name.endswith(".xz")
            return path.is_file() and (packed or path.stat().st_size == name.points * POINT_BYTES)
        except (InputError, OSError):
            return False

    def describe(self, path: Path) -> Description:
        """Return which thresholds a scan has.

        Raises
        ------
        InputError
            If the file is not one, is cut off, or another part of it is missing.
        """
        from firstlight.detectors.velo.noise import decode, parse_name

        name = parse_name(path.name) if path.is_file() else decode(path).name
        thresholds = name.thresholds
        facts = {
            "chips": (name.chip or "unknown chip",),
            "trim": name.trim,
            "thresholds": f"{thresholds[-1]} to {thresholds[0]} DAC in {thresholds.size} steps",
        }
        tables = {"noise_points": tuple(_COLUMNS.names)}
        if name.part > 1:
            notes = (f"part {name.part} of {name.parts}: read together with part 1",)
            return Description(str(path), self.name, "part of a noise scan", 0, tables, facts, {}, notes)
        scan = decode(path)
        return Description(
            str(path), self.name, "noise scan", int(thresholds.size), tables, facts, {}, scan.notes
        )

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,  # noqa: ARG002  (a scan holds all pixels in their order)
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield thresholds `span.start` to `span.stop`, in the order of the scan.

        Parameters
        ----------
        span : Span
            Counted in thresholds, downwards as in the file.
        columns : mapping
            Columns of ``noise_points``; ``noise_counts`` asks for the block of shape (n_thresholds, 65536).
        channels : ChannelMap
            Not used.
        chunk_events : int, optional
            Thresholds in a chunk; all by default.
        """
        from firstlight.detectors.velo.channels import N_PIXELS
        from firstlight.detectors.velo.noise import decode

        for name in columns.get("noise_points", ()):
            _COLUMNS.column(name)
        unknown = [name for name in columns if name not in {"noise_points", "noise_counts"}]
        if unknown:
            raise SchemaError.unknown("table", unknown[0], ["noise_points", "noise_counts"], where=span.path)
        scan = decode(span.path)
        counts = scan.counts.reshape(-1, N_PIXELS)
        step = chunk_events or max(span.stop - span.start, 1)
        for start in range(span.start, max(span.stop, span.start + 1), step):
            stop = min(start + step, span.stop)
            part = counts[start:stop]
            parts: dict[str, Table | Block] = {}
            if "noise_points" in columns:
                whole = Table.from_arrays(
                    _COLUMNS,
                    {"threshold": scan.thresholds[start:stop], "hits": part.sum(axis=1, dtype=np.int64)},
                )
                parts["noise_points"] = Table(whole.frame.select(columns["noise_points"]), _COLUMNS)
            if "noise_counts" in columns:
                parts["noise_counts"] = Block(part, ("threshold", "pixel"), "hits", "hits of each pixel")
            yield Chunk(Span(span.path, span.index, start, stop), parts)


@dataclass(frozen=True)
class Readings:
    """Readings of one noise scan.

    Parameters
    ----------
    index : int
        Input that they come from.
    counts : dict of int to ndarray of uint8, shape (65536,)
        Hits by threshold [DAC].
    """

    index: int
    counts: dict[int, NDArray[np.uint8]]

    def __add__(self, other: Readings) -> Readings:
        both = dict(self.counts)
        for threshold, counts in other.counts.items():
            there = both.get(threshold)
            # a counter stops at 63, also where parts are added
            both[threshold] = counts if there is None else np.minimum(there + counts, 63).astype(np.uint8)
        return Readings(min(self.index, other.index), both)


def count(chunk: Chunk, _: NoiseParameters, __: Context) -> Readings:
    """Return the readings of a chunk."""
    thresholds = chunk.table("noise_points").array("threshold")
    counts = chunk.block("noise_counts").values
    return Readings(
        chunk.span.index if thresholds.size else np.iinfo(np.int32).max,
        {int(threshold): own for threshold, own in zip(thresholds, counts, strict=True)},
    )


def finish(total: Readings, parameters: NoiseParameters, context: Context) -> Mapping[str, Product]:
    """Return readings, fits of all pixels, widths of groups, and totals.

    Parameters
    ----------
    total : Readings
        Of one scan.
    parameters : NoiseParameters
        How pixels are fitted.
    context : Context
        Its files name the scan.
    """
    from firstlight.detectors.velo.noise import SHAPE, NoiseScan, fit_noise, parse_name, width_groups

    thresholds = np.array(sorted(total.counts, reverse=True), dtype=np.int64)
    counts = np.stack([total.counts[int(threshold)] for threshold in thresholds]).reshape(-1, *SHAPE)
    name = parse_name(Path(context.files[min(total.index, len(context.files) - 1)]).name)
    scan = NoiseScan(name, thresholds, counts)
    fits = fit_noise(scan, window=parameters.window)
    good = fits.frame.filter(pl.col("status") == "ok")
    truncated = int((fits.frame["truncated_low"] | fits.frame["truncated_high"]).sum())
    row = {
        "scan": name.short, "n_thresholds": thresholds.size, "hits": scan.total, "n_silent": scan.n_silent,
        "n_saturated": scan.n_saturated, "n_truncated": truncated, "n_fitted": good.height,
        "mean": good["mean"].mean(), "mean_spread": good["mean"].std(), "width": good["width"].median(),
    }  # fmt: skip
    return {
        "counts": Block(
            counts, ("threshold", "row", "column"), "hits", "readings, 63 stands for 63 or more",
            {"threshold": thresholds.tolist()},
        ),
        "pixels": fits,
        "groups": width_groups(fits),
        "totals": Table.from_rows(NOISE_TOTALS, [row]),
    }  # fmt: skip


def needs(_: NoiseParameters) -> Mapping[str, tuple[str, ...]]:
    """Return what `count` reads."""
    return {"noise_points": ("threshold",), "noise_counts": ()}


noise = ChunkStep("noise", count, finish, needs, parameters=NoiseParameters)
