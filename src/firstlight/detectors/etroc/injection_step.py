"""The step of charge injection: from hits to S-curves, the line of threshold against charge, noise and jitter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.detectors.etroc.ingest import is_injection
from firstlight.detectors.etroc.options import InjectionParameters
from firstlight.detectors.etroc.steps import problem
from firstlight.detectors.etroc.tables import (
    CURVES,
    JITTER,
    LINES,
    NOISE,
    PIXEL_THRESHOLDS,
    POINTS,
    SUGGESTIONS,
)
from firstlight.errors import ConfigError
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["accepted_hits", "injection", "of_splits"]


def run(
    products: Mapping[str, Any], parameters: InjectionParameters, context: Context
) -> Mapping[str, Product]:
    """Return the products ``points``, ``curves``, ``lines``, ``noise``, ``jitter`` and ``suggestions``.

    None where the files are not those of a charge-injection scan.

    Parameters
    ----------
    products : mapping
        ``ingest/hits`` and ``ingest/files``.
    parameters : InjectionParameters
        How.
    context : Context
        Its channel map has the pixels.
    """
    from firstlight.detectors.etroc.injection import count_points, jitter_vs_charge, noise_band
    from firstlight.detectors.etroc.injection_lines import fit_curves, fit_lines, suggest

    files: pl.DataFrame = products["ingest/files"].frame
    if not is_injection(files):
        return {}
    if not files["charge"].is_not_null().any():
        return problem(
            "the names of the files tell no charge and threshold, so there is no scan; say how to read them with "
            "--template, such as 'q{charge_1}_th{threshold_1}_{split}.dat'"
        )
    _check_board(parameters.trigger_board, files)
    hits, files = of_splits(products["ingest/hits"].frame, files, parameters)
    points = count_points(
        hits,
        files,
        accepted_hits(hits, files, parameters),
        trigger_board=parameters.trigger_board,
        injections=parameters.injections,
        defaults=parameters.fixed_thresholds or None,
    )
    noise = noise_band(points)
    curves = fit_curves(points, noise=noise)
    lines = fit_lines(curves, charge_error=parameters.charge_error)
    return {
        "points": Table.from_frame(POINTS, points),
        "curves": Table.from_frame(CURVES, curves),
        "lines": Table.from_frame(LINES, lines),
        "noise": Table.from_frame(NOISE, noise),
        "jitter": Table.from_frame(JITTER, jitter_vs_charge(points)),
        "suggestions": Table.from_frame(SUGGESTIONS, suggest(lines, noise, curves=curves)),
        "pixels": Table.from_rows(PIXEL_THRESHOLDS, list(_of_pixels(lines, curves, context))),
    }


def _of_pixels(lines: pl.DataFrame, curves: pl.DataFrame, context: Context) -> Iterator[dict[str, Any]]:
    """Yield the calibration of each pixel that was scanned."""
    channel_of = {
        (board, pixel): channel
        for channel, board, pixel in context.channels.frame.select("channel", "board", "pixel").iter_rows()
    }
    for line in lines.iter_rows(named=True):
        channel = channel_of.get((line["board"], line["pixel"] or ""))
        if channel is None:
            continue
        own = curves.filter(
            (pl.col("board") == line["board"])
            & pl.col("pixel").eq_missing(line["pixel"])
            & (pl.col("noise_error") > 0)
        )
        # one width for all charges is one measurement
        widths = own.unique(["noise", "noise_error"], maintain_order=True)
        weight = (1 / widths["noise_error"] ** 2).to_numpy()
        known = weight.size > 0
        yield {
            "channel": channel, "board": line["board"], "offset": line["offset"], "offset_error": line["offset_error"],
            "slope": line["slope"], "slope_error": line["slope_error"],
            "noise": float(np.average(widths["noise"].to_numpy(), weights=weight)) if known else None,
            "noise_error": float(weight.sum() ** -0.5) if known else None, "good": line["good"],
        }  # fmt: skip


def _check_board(board: int | None, files: pl.DataFrame) -> None:
    known = files["board"].drop_nulls().unique().sort().to_list()
    if board is not None and board not in known:
        raise ConfigError.unknown(
            "board", str(board), [str(each) for each in known], where="injection.trigger_board"
        )


def of_splits(
    hits: pl.DataFrame, files: pl.DataFrame, parameters: InjectionParameters
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return hits and files of the splits that are used."""
    if parameters.splits == "all":
        return hits, files
    files = files.filter(pl.col("split").fill_null(0) == 0)
    return hits.filter(pl.col("file").is_in(files["file"].unique().to_list())), files


def accepted_hits(
    hits: pl.DataFrame, files: pl.DataFrame, parameters: InjectionParameters
) -> NDArray[np.bool_]:
    """Return which hits pass the cuts, shape (n_hits,): a file of cuts of their own runs, else those of all runs.

    Every hit is an event of its own, as in the original.

    Parameters
    ----------
    hits, files : polars.DataFrame
        Of the schemas HITS and FILES.
    parameters : InjectionParameters
        Cuts, and where runs have files of their own.
    """
    from firstlight.detectors.etroc.cuts import apply_cuts, read_cuts

    accepted = np.ones(hits.height, dtype=np.bool_)
    if not parameters.keep_all:
        accepted &= hits["hit_flag"].to_numpy()
    boards = sorted({*hits["board"].unique().to_list(), *files["board"].drop_nulls().unique().to_list()})
    own = _files_of_runs(parameters, files)
    run_of = dict(files.select("file", "run").unique("file").iter_rows())
    numbers = hits["file"].to_numpy()
    groups: dict[Any, list[int]] = {}
    for file, name in run_of.items():
        groups.setdefault(own.get(name), []).append(file)
    for path, members in groups.items():
        cuts = read_cuts(parameters.cuts) if path is None else read_cuts(path)
        rows = np.flatnonzero(np.isin(numbers, members))
        if not cuts or not rows.size:
            continue
        part = hits[rows].with_columns(event=pl.Series(np.arange(rows.size, dtype=np.uint32)))
        passed, _ = apply_cuts(part, cuts, boards, n_events=rows.size, files=files)
        accepted[rows] &= passed
    return accepted


def _files_of_runs(parameters: InjectionParameters, files: pl.DataFrame) -> dict[str, Path]:
    """Return the cut file of each run that has one."""
    if not parameters.cut_files:
        return {}
    folder = Path(parameters.cut_files)
    if not folder.is_dir():
        what = "the folder of cut files does not exist"
        raise ConfigError(
            what, where=folder, hint="injection.cut_files is a folder with RUN/cuts.csv for each run"
        )
    names = files["run"].unique().to_list()
    return {name: folder / name / "cuts.csv" for name in names if (folder / name / "cuts.csv").is_file()}


def inputs(parameters: InjectionParameters) -> list[str]:
    """Return the cut files of single runs: their content counts towards the key of the products."""
    if not parameters.cut_files:
        return []
    return [str(path) for path in sorted(Path(parameters.cut_files).glob("*/cuts.csv"))]


injection = ProductStep(
    "injection", run, needs=("ingest/hits", "ingest/files"), parameters=InjectionParameters, inputs=inputs
)
