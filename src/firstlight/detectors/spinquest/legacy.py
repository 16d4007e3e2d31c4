"""Files of the original tool, under its names.

Written beside the products: ``total_hits_data.json`` with ``{"det_ele": count}`` and ``file_hits_data.json``
with the same by file name. With the legacy layout the data files of each drawing group too, and counting
as the original did it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.data.select import Selection
from firstlight.files import write_json, write_text
from firstlight.steps.occupancy import BY_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from firstlight.run.chain import Settings
    from firstlight.run.store import Run
    from firstlight.steps.step import Context, Product

__all__ = ["exports", "imported_run"]


def exports(products: Mapping[str, Any], context: Context, folder: Path) -> list[Path]:
    """Write the files of the original tool and return them.

    Parameters
    ----------
    products : mapping
        ``occupancy/counts``, ``occupancy/by_file``, ``spills/invalid``, ``quality/channels``.
    context : Context
        Channel map and options.
    folder : Path
        Run directory.
    """
    if "occupancy/counts" not in products:
        return []
    channels = context.channels
    keys = np.array(
        [
            f"{d}_{e}"
            for d, e in zip(channels.column("detector_id"), channels.column("element_id"), strict=True)
        ]
    )
    counts = products["occupancy/counts"].select(kind="hits")
    legacy = bool(context.options.view.legacy_layout)  # type: ignore[attr-defined]
    total = {str(keys[channel]): int(counts[channel]) for channel in np.flatnonzero(counts)}
    by_file: dict[str, dict[str, int]] = {name: {} for name in context.files}
    rows = products["occupancy/by_file"].frame
    for file, channel, hits in rows.iter_rows():
        by_file.setdefault(file, {})[str(keys[channel])] = hits
    if legacy and "spills/invalid" in products:
        # the original counted IDs that no plane has too, and did not draw them
        outside = products["spills/invalid"].frame.select("file", "detector_id", "element_id", "hits")
        for file, detector, element, hits in outside.iter_rows():
            total[f"{detector}_{element}"] = total.get(f"{detector}_{element}", 0) + hits
            by_file.setdefault(file, {})[f"{detector}_{element}"] = hits
    written = [
        write_json(folder / "total_hits_data.json", total, indent=4),
        write_json(folder / "file_hits_data.json", by_file, indent=4),
    ]
    cells = channels.frame.select(
        pl.col("section").alias("group"), pl.col("group").alias("plane"), "detector_id", "element_id"
    ).with_columns(hits=pl.Series(counts))
    written.append(write_text(folder / "total_hits_data.csv", cells.filter(pl.col("hits") > 0).write_csv()))
    if "quality/channels" in products:
        written += _verdicts(products, folder, context)
    if legacy:
        written += _group_files(counts, context, folder)
    return written


def _group_files(counts: Any, context: Context, folder: Path) -> list[Path]:
    """Write ``<Group>_data.json`` of each drawing group: a list of detector, element and hits.

    The original counted elements 0 .. n-1 here and lost the last of every plane, and groups of one name
    overwrote each other; here elements count 1 .. n and groups of one name share a file.
    """
    channels = context.channels
    labels = {row["group"]: row["legacy_group"] for row in channels.groups.iter_rows(named=True)}
    files: dict[str, list[dict[str, Any]]] = {}
    for plane in channels.groups["group"]:
        label = labels[plane]
        if not label:
            continue
        members = channels.channels_of(plane)
        files.setdefault(label.replace(" ", "_"), []).extend(
            {"detector": plane, "element": int(element), "hits": int(counts[channel])}
            for channel, element in zip(members, channels.column("position")[members], strict=True)
        )
    return [write_json(folder / f"{label}_data.json", rows) for label, rows in files.items()]


def _verdicts(products: Mapping[str, Any], folder: Path, context: Context) -> list[Path]:
    """Write the verdicts for machines, and a mask file of what is bad for the next run."""
    from firstlight.data.masks import write_mask

    flagged = products["quality/channels"].frame.filter(pl.col("state").is_in(["dead", "hot", "low"]))
    rows = flagged.select(
        "plane", "element", "detector_id", "count", "expected", "ratio", "pull", "state", "rule"
    )
    planes = products["quality/planes"].frame
    content = {
        "planes": planes.select("plane", "state", "count", "expected", "ratio", "rule").to_dicts(),
        "blocks": products["quality/blocks"].frame.to_dicts(),
        "elements": rows.to_dicts(),
    }
    bad = flagged.filter(pl.col("state") != "low")
    reasons = {row["channel"]: row["state"] for row in bad.iter_rows(named=True)}
    # what was masked was not judged: it stays in the list, so that the list can be used over and over
    masked = products["quality/channels"].frame.filter(pl.col("state") == "masked")["channel"]
    reasons.update(dict.fromkeys(masked.to_list(), "masked before"))
    title = "elements that this run found dead or hot; use with --mask"
    return [
        write_json(folder / "verdicts.json", content),
        write_mask(folder / "suggested_mask.txt", context.channels, reasons, title),
    ]


def imported_run(path: Path, output: Path, values: Mapping[str, Any], settings: Settings) -> Run:
    """Return a run made of an occupancy file of the original tool, judged, drawn and reported.

    Parameters
    ----------
    path : Path
        ``total_hits_data.json`` in any of its schemas, ``file_hits_data.json``, or the CSV files.
    output : Path
        Run directory.
    values : mapping
        Configuration.
    settings : Settings
        How to run.

    Raises
    ------
    InputError
        If the file is not one of these.
    """
    from firstlight.data.schema import Block
    from firstlight.detector import Plan
    from firstlight.detectors.spinquest import detector
    from firstlight.detectors.spinquest.channels import channel_map, geometry_of
    from firstlight.detectors.spinquest.importer import import_counts
    from firstlight.run.chain import configuration_of
    from firstlight.run.config import build
    from firstlight.run.finished import import_products

    options: Any = build(configuration_of(detector), values)
    channels = channel_map(geometry_of(options.geometry, set()))
    imported = import_counts(path, channels)
    notes = [
        f"occupancy of the original tool ({imported.schema}); it says nothing of events, times and triggers"
    ]
    outside = sum(imported.outside.values())
    if outside:
        notes.append(f"{outside} hits have IDs outside the geometry {channels.version}")
    counts = Block(
        imported.counts[:, np.newaxis], ("channel", "kind"), "", "hits per channel", {"kind": ["hits"]}
    )
    fired = np.flatnonzero(imported.counts)
    by_file = Table.from_arrays(
        BY_FILE,
        {
            "file": np.full(fired.size, path.name, dtype=object),
            "channel": fired.astype(np.int32),
            "hits": imported.counts[fired],
        },
    )
    plan = Plan(channels, Selection(), notes=tuple(notes))
    products: dict[str, Product] = {"occupancy/counts": counts, "occupancy/by_file": by_file}
    return import_products(detector, path, plan, products, output, values, settings)
