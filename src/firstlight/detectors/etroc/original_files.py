"""The files of the original, written from the products of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from firstlight.run.store import Run

__all__ = ["individual_runs", "single_hits", "write_all", "write_files"]

# what a stage of the original needs of ours
_STAGES = {
    "ingest": "events/hits",
    "cut": "cut/events",
    "times": "times/hits",
    "cut-times": "cut_times/events",
    "timewalk": "timewalk/hits",
    "resolution": "resolution/pairs",
}


def write_files(run: Run, stage: str, parameters: Mapping[str, Any], **more: Any) -> list[Path]:
    """Write the files of the original after a step."""
    from firstlight.detectors.etroc.legacy.writers import OriginalOptions, write_original_files
    from firstlight.run.finishing import Products

    products = {**dict.fromkeys(run), **more.pop("products", {})}
    values = Products(run)
    known = {name: values[name] if value is None else value for name, value in products.items()}
    return write_original_files(
        run.folder, known, stage, OriginalOptions(parameters=dict(parameters), **more)
    )


def single_hits(run: Run, keep_all: bool) -> dict[str, Any]:
    """Return the hits of a charge-injection run as events of one hit each, as the original has them."""
    import polars as pl

    from firstlight.data.schema import Table
    from firstlight.detectors.etroc.tables import EVENT_HITS

    hits = run["ingest/hits"].to_polars()
    hits = hits if keep_all else hits.filter("hit_flag")
    numbered = hits.with_columns(event=pl.int_range(pl.len(), dtype=pl.UInt32))
    return {"events/hits": Table.from_frame(EVENT_HITS, numbered)}


def individual_runs(run: Run) -> dict[str, Any]:
    """Return hits, files and accepted events of the single runs, as the original has them."""
    import polars as pl

    from firstlight.data.schema import Table
    from firstlight.detectors.etroc import detector
    from firstlight.detectors.etroc.injection_step import accepted_hits, of_splits
    from firstlight.detectors.etroc.tables import ACCEPTED, EVENT_HITS, FILES
    from firstlight.run.finished import context_of

    options: Any = context_of(run, detector).options
    hits, files = of_splits(
        run["ingest/hits"].to_polars(), run["ingest/files"].to_polars(), options.injection
    )
    if not options.injection.keep_all:
        hits = hits.filter("hit_flag")
    accepted = accepted_hits(hits, files, options.injection)
    numbered = hits.with_columns(event=pl.int_range(pl.len(), dtype=pl.UInt32))
    events = numbered.select("event", accepted=pl.Series(accepted))
    return {
        "events/hits": Table.from_frame(EVENT_HITS, numbered),
        "ingest/files": Table.from_frame(FILES, files),
        "cut/events": Table.from_frame(ACCEPTED, events),
    }


def write_all(folder: Path) -> list[Path]:
    """Write the files of the original for all steps of a run that are done.

    Parameters
    ----------
    folder : Path
        A run directory.

    Returns
    -------
    list of Path
        Files that were written.

    Raises
    ------
    UsageError
        If the run has neither events nor a charge-injection scan.
    """
    from firstlight.detectors.etroc.stepwise import open_etroc
    from firstlight.errors import UsageError

    run = open_etroc(folder)
    if "injection/points" in run:
        written = write_files(run, "injection", {}, products=individual_runs(run))
        return [*written, *write_files(run, "merge", {}), *write_files(run, "dac", {})]
    if "events/hits" not in run:
        what = "the run has no events, so there is nothing that the original would have"
        raise UsageError(what, where=folder, hint=f"firstlight etroc events {folder}")
    written = []
    for stage, product in _STAGES.items():
        if product not in run:
            continue
        written += write_files(run, stage, {}, **({"kind": "beam"} if stage == "ingest" else {}))
    return list(dict.fromkeys(written))
