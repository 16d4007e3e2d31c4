"""Runs made by the original's package, opened as runs of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.data.schema import Table
from firstlight.data.select import Selection
from firstlight.detector import Plan
from firstlight.detectors.etroc.channels import ETROC2_SIDE, Board, channel_map, channel_of
from firstlight.detectors.etroc.tables import ACCEPTED, EVENT_COUNTS, EVENT_HITS, FILES, HITS, PACKETS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from firstlight.data.channels import ChannelMap
    from firstlight.run.finishing import Settings
    from firstlight.run.store import Run

__all__ = ["import_original"]


def import_original(
    folder: Path, output: Path, settings: Settings, configuration: Mapping[str, Any] | None = None
) -> Run:
    """Return a run of ours with the data of a run of the original, and all that follows from them.

    Events and accepted events are those of the original; times, time walk and resolution are made by the chain. Of a
    charge-injection directory the cut file of each individual run is applied again.

    Parameters
    ----------
    folder : Path
        Run directory of the original.
    output : Path
        The new run directory.
    settings : Settings
        How to run.
    configuration : mapping, optional
        Options and step parameters.

    Raises
    ------
    InputError
        If it is no such run, or a table or column is missing.
    """
    from firstlight.detector import get_detector
    from firstlight.detectors.etroc.chain import CHAIN
    from firstlight.detectors.etroc.legacy.original_run import INDIVIDUAL, describe_original, read_original
    from firstlight.run.finished import import_products

    values: dict[str, Any] = dict(configuration or {})
    boards = tuple(values.get("name_boards", (0, 1, 3)))
    kind = describe_original(folder).kind
    data = read_original(folder, boards)
    channels = channel_map(_boards(data.hits, data.files))
    products = _products(data, channels, injection=kind != "beam")
    if kind == "scan":
        values["injection"] = {"cut_files": str(folder / INDIVIDUAL), **values.get("injection", {})}
    plan = Plan(channels, Selection(), {}, (f"imported from a {kind} run of the original",))
    made = {name.split("/")[0] for name in products}
    steps = [step.name for step in CHAIN if step.name not in made]
    return import_products(
        get_detector("etroc"), folder, plan, products, output, values, settings, steps=steps
    )


def _products(data: Any, channels: ChannelMap, *, injection: bool) -> dict[str, Table]:
    place = [data.hits[name].fill_null(ETROC2_SIDE).to_numpy() for name in ("row", "col")]
    channel = channel_of(channels)[data.hits["board"].to_numpy(), place[0], place[1]]
    hits = data.hits.with_columns(channel=pl.Series(channel))
    products = {
        "ingest/hits": Table.from_frame(HITS, hits.select(HITS.names)),
        "ingest/packets": Table.from_frame(PACKETS, pl.DataFrame(schema=PACKETS.dtypes)),
        "ingest/files": Table.from_frame(FILES, data.files),
    }
    if injection:
        return products
    events = hits["event"].n_unique()
    counts = [
        ("complete events", "events", int(hits["event"].max() or -1) + 1),
        ("in events of the original", "hits", hits.height),
    ]
    products["events/hits"] = Table.from_frame(EVENT_HITS, hits.select(EVENT_HITS.names))
    products["events/counts"] = Table.from_frame(
        EVENT_COUNTS,
        pl.DataFrame(
            [*counts, ("with hits", "event numbers", events)], schema=EVENT_COUNTS.dtypes, orient="row"
        ),
    )
    for name, accepted in (("cut", data.accepted), ("cut_times", data.accepted_in_time)):
        if accepted is not None:
            whole = pl.DataFrame({"event": pl.int_range(counts[0][2], dtype=pl.UInt32, eager=True)})
            filled = whole.join(
                accepted.cast({"event": pl.UInt32}), on="event", how="left", maintain_order="left"
            )
            products[f"{name}/events"] = Table.from_frame(
                ACCEPTED, filled.with_columns(pl.col("accepted").fill_null(value=False))
            )
    return products


def _boards(hits: pl.DataFrame, files: pl.DataFrame) -> list[Board]:
    numbers = {*hits["board"].unique().to_list(), *files["board"].drop_nulls().unique().to_list()}
    pixels: dict[int, set[str]] = {}
    for board, pixel in files.select("board", "pixel").drop_nulls().iter_rows():
        pixels.setdefault(board, set()).add(pixel)
    return [
        Board(int(number), (int(number),), None, "ETROC1", tuple(sorted(pixels.get(number, ()))))
        for number in sorted(numbers)
    ]
