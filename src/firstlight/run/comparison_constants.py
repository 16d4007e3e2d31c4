"""Constants of the channels of two runs: which tables have them, and what is thought of their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Table
from firstlight.steps.compare_constants import ColumnComparison, columns_with_errors, compare_tables
from firstlight.steps.step import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.run.store import Run
    from firstlight.steps.compare import CompareParameters

__all__ = ["checks", "compare_constants", "places_of", "regions_of", "same_channels", "summary"]

_PLACE = {
    "grid": ("row", "col"),
    "hexagons": ("x", "y"),
    "strips": ("position",),
    "planes": ("group", "position"),
}
_TILES = 16  # along each side at most
_PER_TILE = 16  # channels at least


def same_channels(channels: ChannelMap, other: ChannelMap) -> bool:
    """Return whether two channel maps have the same channels at the same places; their names may differ."""
    if channels.layout != other.layout or len(channels) != len(other):
        return False
    wanted = _PLACE[channels.layout]
    wanted += tuple(name for name in ("group",) if name in channels.frame.columns and name not in wanted)
    if any(name not in other.frame.columns for name in wanted):
        return False
    return all(np.array_equal(channels.column(name), other.column(name)) for name in wanted)


def places_of(channels: ChannelMap) -> list[str]:
    """Return what to call each channel: ``"row 3, col 17"``."""
    names = _PLACE[channels.layout]
    words = ["" if name == "group" else f"{channels.labels.get(name, name)} " for name in names]
    return [
        ", ".join(f"{word}{value:g}" if isinstance(value, float) else f"{word}{value}"
                  for word, value in zip(words, row, strict=True))
        for row in channels.frame.select(names).iter_rows()
    ]  # fmt: skip


def regions_of(channels: ChannelMap) -> tuple[NDArray[np.int64], list[str]]:
    """Return the region of each channel, and the names of the regions: groups, or else tiles of rows and columns.

    Parameters
    ----------
    channels : ChannelMap
        Without groups its sides are cut into up to 16 tiles, so that a tile has 16 channels or more.

    Returns
    -------
    region : ndarray of int, shape (n_channels,)
        Position in `names`.
    names : list of str
        ``"row 16-31, col 0-15"``.
    """
    if "group" in channels.frame.columns:
        return channels.group_index, channels.group_names
    index, names = np.zeros(len(channels), dtype=np.int64), [""]
    axes = _PLACE[channels.layout]
    most = min(max(int((len(channels) / _PER_TILE) ** (1 / len(axes)) + 1e-9), 1), _TILES)
    for name in axes if len(channels) else ():
        tile, ranges = _tiles(np.asarray(channels.column(name), dtype=np.float64), most)
        index = index * len(ranges) + tile
        parts = [f"{channels.labels.get(name, name)} {part}" for part in ranges]
        names = [f"{before}, {part}" if before else part for before in names for part in parts]
    return index, names


def _tiles(place: NDArray[np.float64], most: int) -> tuple[NDArray[np.int64], list[str]]:
    """Return in which of at most so many equal ranges each place is, and the ranges as text."""
    low, high = float(place.min()), float(place.max())
    if np.array_equal(place, np.rint(place)):
        size = np.ceil((high - low + 1) / most)
        tile = (place - low) // size
        starts = low + size * np.arange(tile.max() + 1)
        ends = np.minimum(starts + size - 1, high)
    else:
        size = (high - low) / most or 1.0
        tile = np.minimum((place - low) // size, most - 1)
        starts = low + size * np.arange(tile.max() + 1)
        ends = starts + size
    ranges = [
        f"{first:.4g}" if first == last else f"{first:.4g}-{last:.4g}"
        for first, last in zip(starts, ends, strict=True)
    ]
    return tile.astype(np.int64), ranges


def compare_constants(
    run: Run, reference: Run, channels: ChannelMap, parameters: CompareParameters
) -> tuple[list[ColumnComparison], list[str]]:
    """Compare every table that has a row per channel and columns with errors in both runs.

    Parameters
    ----------
    run, reference : Run
        Of the same channels.
    channels : ChannelMap
        Of both.
    parameters : CompareParameters
        Limits.

    Returns
    -------
    found : list of ColumnComparison
        A column each, in the order of the products of `run`.
    notes : list of str
        Which constants only one of the two has.
    """
    tables, others = (dict(_tables(part, len(channels))) for part in (run, reference))
    found, notes = [], []
    for product, table in tables.items():
        if product in others:
            found += compare_tables(product, table, others[product], parameters)
    compared = {(part.product, part.column) for part in found}
    for own, where in ((tables, "this run"), (others, "the reference")):
        names = [
            f"{product}: {column}"
            for product, table in own.items()
            for column in columns_with_errors(table.frame)
            if (product, column) not in compared
        ]
        if names:
            notes.append(f"only {where} has {', '.join(names)}: not compared")
    return found, notes


def _tables(run: Run, n_channels: int) -> Iterator[tuple[str, Table]]:
    for name, product in run.items():
        if run.record["products"][name]["kind"] != "table":
            continue
        # tables of events may be large, and have no channel
        if product.path.is_file() and "channel" not in pl.read_parquet_schema(product.path):
            continue
        table = product.value
        if not isinstance(table, Table) or len(table) != n_channels:
            continue
        if np.array_equal(np.sort(table.array("channel")), np.arange(n_channels)) and columns_with_errors(
            table.frame
        ):
            yield name, table


def checks(
    found: Sequence[ColumnComparison],
    regions: Sequence[Mapping[str, Any]],
    places: Sequence[str],
    limits: CompareParameters,
) -> list[Check]:
    """Return the judgements: shift of the mean, changed channels and regions of each column, lost channels of each table.

    Parameters
    ----------
    found : sequence of ColumnComparison
        From `compare_constants`.
    regions : sequence of mapping
        Rows of `compare_regions`.
    places : sequence of str, length n_channels
        From `places_of`.
    limits : CompareParameters
        Those of the comparison.
    """
    judged: list[Check] = []
    for part in found:
        if not part.numbers["n_compared"]:
            rule = "no channel has a value with an error in both"
            judged.append(Check("mean of the constants", "no-statistics", 0, 0, rule, part.title))
            continue
        judged.append(_shift_check(part, limits))
        if part.numbers["state"] != "identical":
            judged.append(_changed_check(part, places, limits))
            own = [row for row in regions if (row["product"], row["column"]) == (part.product, part.column)]
            judged += [_region_check(part, own, limits)] if own else []
    tables = dict.fromkeys(part.product for part in found)
    return judged + [_lost_check(found, product, places, limits) for product in tables]


def _shift_check(part: ColumnComparison, limits: CompareParameters) -> Check:
    numbers = part.numbers
    relative, shift, error = (numbers[name] for name in ("relative_shift", "mean_difference", "mean_error"))
    name, subject = "mean of the constants", part.title
    if numbers["state"] == "identical":
        rule = f"identical in both for {numbers['n_compared']:,} channels"
        return Check(name, "ok", 0.0, limits.shift_limit, rule, subject)
    verdict: Verdict = "warn" if "shifted" in numbers["state"] else "ok"
    rule = (
        f"mean {shift:+.3g} +- {error:.2g} {part.unit}".rstrip()
        + f" from the reference ({100 * relative:+.2g} +- {100 * numbers['relative_error']:.1g} %), "
        f"limit {100 * limits.shift_limit:g} % and {limits.shift_pull_limit:g} errors"
    )
    return Check(name, verdict, relative, limits.shift_limit, rule, subject)


def _changed_check(part: ColumnComparison, places: Sequence[str], limits: CompareParameters) -> Check:
    changed, compared = part.numbers["n_changed"], part.numbers["n_compared"]
    verdict: Verdict = "warn" if "changed" in part.numbers["state"] else "ok"
    rule = (
        f"{changed:,} of {compared:,} channels changed beyond {limits.constant_pull_limit:g} errors and as many "
        f"standard deviations of all, limit {100 * limits.changed_limit:g} %; the robust width of the "
        f"differences is {part.numbers['pull_width']:.3g} errors"
    )
    rows = np.flatnonzero(part.changed)
    rows = rows[np.argsort(-np.abs(part.pull[rows]), kind="stable")]
    details = tuple(
        f"{places[row]}: {part.value[row]:.5g} +- {part.error[row]:.2g}, in the reference "
        f"{part.reference[row]:.5g} +- {part.reference_error[row]:.2g}"
        for row in rows[:40]
    )
    return Check("channels changed", verdict, changed / compared, limits.changed_limit, rule, part.title, details)  # fmt: skip


def _region_check(
    part: ColumnComparison, regions: Sequence[Mapping[str, Any]], limits: CompareParameters
) -> Check:
    changed = [row for row in regions if row["state"] == "changed"]
    changed.sort(key=lambda row: -abs(row["pull"]))
    details = tuple(
        f"{row['region']}: {row['difference']:+.3g} +- {row['error']:.2g} {part.unit}".rstrip()
        + f", {row['pull']:+.1f} standard deviations"
        for row in changed
    )
    rule = f"{len(changed)} of {len(regions)} regions of channels differ from the others as a whole"
    rule += (
        f"; first {details[0]}" if details else f" beyond {limits.region_pull_limit:g} standard deviations"
    )
    verdict: Verdict = "warn" if changed else "ok"
    return Check("regions changed", verdict, len(changed), 0, rule, part.title, details[:40])


def _lost_check(
    found: Sequence[ColumnComparison], product: str, places: Sequence[str], limits: CompareParameters
) -> Check:
    parts = [part for part in found if part.product == product]
    lost, new = (np.any([getattr(part, name) for part in parts], axis=0) for name in ("lost", "new"))
    before = int(np.any([np.isfinite(part.reference) for part in parts], axis=0).sum())
    n_lost, n_new = int(lost.sum()), int(new.sum())
    # channels at the edge of being good come and go; then as many are new as are lost
    excess = n_lost - n_new
    chance = limits.lost_pull_limit * np.sqrt(2 * n_new)
    verdict: Verdict = "warn" if excess > limits.lost_limit * before and excess > chance else "ok"
    rule = (
        f"{n_lost:,} of {before:,} channels with a value in the reference have none now, {n_new:,} others are new; "
        f"limit {100 * limits.lost_limit:g} % more lost than new"
    )
    if not before:
        verdict, rule = "no-statistics", "no channel has a value in the reference"
    share = excess / before if before else float("nan")
    details = tuple(places[row] for row in np.flatnonzero(lost)[:60])
    return Check("channels lost", verdict, share, limits.lost_limit, rule, product, details)


def summary(found: Sequence[ColumnComparison], regions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the headline numbers of the constants, of columns and rows of regions as for `checks`."""
    changed, lost, new = (
        int(np.any([getattr(part, name) for part in found], axis=0).sum())
        for name in ("changed", "lost", "new")
    )
    shifted = sum("shifted" in part.numbers["state"] for part in found)
    return [
        {"label": "constants compared", "value": len(found)},
        {"label": "constants shifted", "value": shifted},
        {"label": "regions changed", "value": len({row["region"] for row in regions if row["state"] == "changed"})},
        {"label": "channels changed", "value": changed, "unit": f"of {found[0].value.size}"},
        {"label": "channels lost", "value": lost},
        {"label": "channels new", "value": new},
    ]  # fmt: skip
