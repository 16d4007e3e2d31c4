"""Verdicts on planes and elements: counts, times, and the checks of the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pydantic

from firstlight.data.masks import read_mask
from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.spinquest.channels import geometry_in
from firstlight.steps.dispersion import OutlierParameters
from firstlight.steps.outliers import Groups, judge_channels
from firstlight.steps.step import Context, Product, ProductStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.cube import HistogramCube
    from firstlight.detectors.spinquest.geometry import Geometry

__all__ = ["QualityParameters", "groups_of", "judge", "median_times", "quality"]

# hits of a bar further from its peak than this are no part of it, in ns
_PEAK_REACH = 100.0
# how far the totals of a pair of planes may differ, where no reference tells
_TOLERANCE = {"chamber": 0.25, "prop_tube": 0.25, "hodoscope": 0.3, "dark_photon": 0.3}


class QualityParameters(OutlierParameters):
    """Limits of the verdicts, and what they are held against."""

    reference: str = pydantic.Field(
        "", description="run directory, or occupancy file of the original tool, that tells what is normal"
    )
    mask: str = pydantic.Field("", description="file of known-bad elements")
    time_shift: float = pydantic.Field(
        20.0,
        gt=0,
        description="shift of the TDC times of a plane against its partner that is reported, in ns",
    )
    time_shift_reference: float = pydantic.Field(
        8.0, gt=0, description="shift against the reference that is reported, in ns"
    )
    time_significance: float = pydantic.Field(
        5.0,
        ge=0,
        description="and by so many standard deviations of the medians, found from how parts of a plane differ",
    )
    minimum_timed_hits: int = pydantic.Field(
        200, ge=10, description="hits with a time below which the times of a plane are not judged"
    )


CHANNELS = TableSchema(
    "verdicts on elements",
    (
        Column("channel", pl.Int64, "channel of the channel map"),
        Column("plane", pl.String, "name of the plane"),
        Column("element", pl.Int64, "element, counted from 1"),
        Column("detector_id", pl.Int64, "detector ID"),
        Column("count", pl.Int64, "hits"),
        Column("expected", pl.Float64, "hits expected", nullable=True),
        Column("ratio", pl.Float64, "count / expected", nullable=True),
        Column("source", pl.String, "what the expectation comes from"),
        Column("pull", pl.Float64, "standard deviations, with the fitted over-dispersion", nullable=True),
        Column("p_value", pl.Float64, "probability of a count as far from the expectation", nullable=True),
        Column("state", pl.String, "ok, low, dead, hot, no_statistics, masked or absent"),
        Column("rule", pl.String, "the rule that fired"),
    ),
    "an element",
)
PLANES = TableSchema(
    "verdicts on planes",
    (
        Column("plane", pl.String, "name of the plane"),
        Column("n_elements", pl.Int64, "elements"),
        Column("count", pl.Int64, "hits"),
        Column("expected", pl.Float64, "hits expected", nullable=True),
        Column("ratio", pl.Float64, "count / expected", nullable=True),
        Column("source", pl.String, "what the expectation comes from"),
        Column("state", pl.String, "ok, dead, low, hot, no_statistics, masked or absent"),
        Column(
            "width",
            pl.Float64,
            "over-dispersion: relative spread of true means about the expectation",
            nullable=True,
        ),
        Column("n_dead", pl.Int64, "dead elements"),
        Column("n_hot", pl.Int64, "hot elements"),
        Column("n_low", pl.Int64, "low elements"),
        Column("n_no_statistics", pl.Int64, "elements without enough statistics"),
        Column("rule", pl.String, "the rule that fired"),
    ),
    "a plane",
)
BLOCKS = TableSchema(
    "blocks of dead elements",
    (
        Column("plane", pl.String, "name of the plane"),
        Column("first", pl.Int64, "first element"),
        Column("last", pl.Int64, "last element"),
        Column("n", pl.Int64, "elements"),
        Column("whole_blocks", pl.Int64, "complete hardware blocks among them (modules of 8 tubes)"),
        Column("complete", pl.Boolean, "whether it is exactly one or more hardware blocks"),
    ),
    "consecutive dead elements",
)
TIMES = TableSchema(
    "verdicts on times",
    (
        Column("plane", pl.String, "name of the plane"),
        Column("n", pl.Int64, "hits with a time"),
        Column("median", pl.Float64, "median TDC time", "ns", nullable=True),
        Column("against", pl.String, "what it is compared with: a plane, or the reference"),
        Column("expected", pl.Float64, "median TDC time of that", "ns", nullable=True),
        Column("shift", pl.Float64, "median - expected", "ns", nullable=True),
        Column("shift_error", pl.Float64, "standard deviation of the shift", "ns", nullable=True),
        Column("state", pl.String, "ok, shifted or no_statistics"),
        Column("rule", pl.String, "the rule that fired"),
    ),
    "a plane",
)


def groups_of(channels: ChannelMap, geometry: Geometry) -> Groups:
    """Return how the elements hang together: partners, hardware blocks, and which planes are bars."""
    names = tuple(channels.group_names)
    planes = [geometry.plane(name) for name in names]
    order = {name: index for index, name in enumerate(names)}
    return Groups(
        channels.group_index,
        names,
        np.array([order.get(plane.partner or "", -1) for plane in planes], dtype=np.int64),
        np.array([_TOLERANCE[plane.kind] for plane in planes]),
        np.array([plane.block for plane in planes], dtype=np.int64),
        np.array([plane.kind == "hodoscope" for plane in planes]),
    )


def judge(products: Mapping[str, Any], parameters: QualityParameters, context: Context) -> dict[str, Product]:
    """Judge every element and plane; the step ``quality``.

    Parameters
    ----------
    products : mapping
        ``occupancy/counts``, ``occupancy/totals`` and, if there are times, ``tdc/all`` and ``tdc/in_time``.
    parameters : QualityParameters
        Limits, reference, mask.
    context : Context
        Channel map.

    Returns
    -------
    dict
        ``channels``, ``planes``, ``blocks`` and ``times``.
    """
    channels = context.channels
    counts = products["occupancy/counts"].select(kind="hits")
    geometry = geometry_in(context)
    groups = groups_of(channels, geometry)
    masked = read_mask(parameters.mask, channels)[0] if parameters.mask else None
    reference, reference_times = _reference(parameters.reference, channels, geometry)
    totals = products.get("occupancy/totals")
    block = products["occupancy/counts"]
    # occupancies of the original tool have hits only
    events = block.select(kind="events") if "events" in block.coordinates["kind"] else None
    judgement = judge_channels(
        counts, groups, parameters,
        reference=reference, optional=channels.optional | silent_sections(counts, channels), masked=masked,
        events=events,
        n_events=int(totals.frame["n_events"].sum()) if totals is not None else None,
    )  # fmt: skip
    element = channels.column("position").astype(np.int64)
    frame = judgement.channels.with_columns(
        pl.Series("element", element),
        pl.Series("detector_id", channels.column("detector_id").astype(np.int64)),
        pl.col("count").cast(pl.Int64),
    ).rename({"group": "plane"})
    blocks = judgement.blocks.with_columns(pl.col("first") + 1, pl.col("last") + 1).rename({"group": "plane"})
    planes = judgement.groups.with_columns(pl.col("count").cast(pl.Int64)).rename(
        {"group": "plane", "n_channels": "n_elements"}
    )
    result: dict[str, Product] = {
        "channels": Table.from_frame(CHANNELS, frame),
        "planes": Table.from_frame(PLANES, planes),
        "blocks": Table.from_frame(BLOCKS, blocks),
    }
    spectra = products.get("tdc/all")
    if spectra is not None:
        times = _judge_times(
            spectra, products.get("tdc/in_time"), groups, geometry, parameters, channels, reference_times
        )
        result["times"] = Table.from_rows(TIMES, times)
    return result


def silent_sections(counts: NDArray[np.int64], channels: ChannelMap) -> NDArray[np.bool_]:
    """Return the channels of sections of which no plane has any hit: not installed, off, or not simulated."""
    section = channels.column("section")
    silent = {name for name in np.unique(section) if not counts[section == name].any()}
    return np.array([name in silent for name in section], dtype=bool)


def _reference(
    path: str, channels: ChannelMap, geometry: Geometry
) -> tuple[NDArray[np.int64] | None, dict[str, tuple[float, float]]]:
    """Return the counts of the reference, and median times and their errors by name of the plane."""
    if not path:
        return None, {}
    from firstlight.detectors.spinquest.importer import import_counts
    from firstlight.run.store import open_run

    imported = import_counts(path, channels)
    times: dict[str, tuple[float, float]] = {}
    if not (Path(path) / "run.json").exists():
        return imported.counts, times
    run = open_run(path)
    if "tdc/all" in run:
        spectra: Any = run["tdc/all"].value
        marked: Any = run["tdc/in_time"].value if "tdc/in_time" in run else None
        medians, errors, numbers = median_times(spectra, marked, channels, geometry)
        times = {
            name: (float(m), float(e))
            for name, m, e, n in zip(channels.group_names, medians, errors, numbers, strict=True)
            if n >= 50
        }
    return imported.counts, times


def median_times(
    spectra: HistogramCube, in_time: HistogramCube | None, channels: ChannelMap, geometry: Geometry
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the median TDC time of each plane, its error, and of how many hits.

    Wires: of in-time hits where the flag is filled; the rest is spread widely and says little. Bars: of hits
    within 100 ns of the peak, in time or not; their windows are so narrow that a peak which has moved is
    outside, and what is left in the window is where it always was.

    Hits come in bursts of neighbouring elements. The error of a median is therefore found from parts of the
    plane: a part with more hits on one side of the median than on the other moves it by as many (R. Woodruff,
    J. Am. Stat. Assoc. 47 (1952) 635, with parts as clusters).

    Parameters
    ----------
    spectra, in_time : HistogramCube
        Of all hits, and of in-time hits.
    channels : ChannelMap
        Gives the planes.
    geometry : Geometry
        Tells wires and bars apart.

    Returns
    -------
    medians, errors : ndarray, shape (n_planes,)
        In ns; NaN without hits. Interpolated within the bin.
    numbers : ndarray, shape (n_planes,)
        Hits.
    """
    marked = in_time if in_time is not None and in_time.total > 0 else spectra
    edges = np.asarray(spectra.axes[1].edges, dtype=np.float64)
    index = channels.group_index
    n_planes = len(channels.group_names)
    medians, errors = np.full(n_planes, np.nan), np.full(n_planes, np.nan)
    numbers = np.zeros(n_planes, dtype=np.int64)
    for plane, name in enumerate(channels.group_names):
        wires = _shares_cables(name, geometry)
        rows = np.asarray((marked if wires else spectra).values[index == plane], dtype=np.float64)
        # eight parts: longer than the cards of a chamber, of which all elements may fire together
        parts = np.add.reduceat(rows, np.arange(0, len(rows), -(-len(rows) // 8)), axis=0)
        low, high = (0, edges.size - 1) if wires else _peak(parts.sum(axis=0), edges)
        parts = parts[:, low:high]
        numbers[plane] = int(parts.sum())
        if numbers[plane]:
            medians[plane], errors[plane] = _median(parts, edges[low : high + 1])
    return medians, errors, numbers


def _peak(row: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[int, int]:
    """Return the bins from 100 ns before the peak to 100 ns behind it: the median among them, in its middle."""
    width = edges[1] - edges[0]
    reach = int(np.ceil(_PEAK_REACH / width))
    smooth = np.convolve(row, np.ones(5), mode="same")
    centre = int(smooth.argmax())
    for _ in range(3):
        low, high = max(centre - reach, 0), min(centre + reach + 1, row.size)
        upto = np.cumsum(row[low:high])
        centre = low + int(np.searchsorted(upto, upto[-1] / 2))
    return max(centre - reach, 0), min(centre + reach + 1, row.size)


def _median(parts: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[float, float]:
    """Return the median of histograms together, and its error from how their halves differ."""
    upto = np.concatenate([np.zeros((len(parts), 1)), np.cumsum(parts, axis=1)], axis=1)
    together = upto.sum(axis=0)
    total = float(together[-1])
    median = float(np.interp(total / 2, together, edges))
    below = np.array([np.interp(median, edges, row) for row in upto])
    excess = 2 * below - upto[:, -1]
    filled = int(np.count_nonzero(upto[:, -1]))
    cluster = float((excess**2).sum()) * filled / max(filled - 1, 1)
    moved = 0.5 * max(cluster, total) ** 0.5
    low, high = np.interp([total / 2 - moved, total / 2 + moved], together, edges)
    return median, float(high - low) / 2 if moved < total / 2 else float("inf")


def _judge_times(
    spectra: HistogramCube,
    in_time: HistogramCube | None,
    groups: Groups,
    geometry: Geometry,
    parameters: QualityParameters,
    channels: ChannelMap,
    reference: Mapping[str, tuple[float, float]],
) -> list[dict[str, Any]]:
    medians, errors, numbers = median_times(spectra, in_time, channels, geometry)
    rows = []
    for index, name in enumerate(groups.names):
        partner = int(groups.partner[index])
        row: dict[str, Any] = {
            "plane": name,
            "n": int(numbers[index]),
            "median": medians[index],
            "against": "",
        }
        row.update(expected=None, shift=None, shift_error=None, state="no_statistics", rule="")
        rows.append(row)
        if numbers[index] < parameters.minimum_timed_hits:
            continue
        limit, other_error = parameters.time_shift, 0.0
        if name in reference:
            row["against"], (row["expected"], other_error) = "reference", reference[name]
            limit = parameters.time_shift_reference
        elif _shares_cables(name, geometry) and numbers[partner] >= parameters.minimum_timed_hits:
            row.update(against=groups.names[partner], expected=float(medians[partner]))
            other_error = float(errors[partner])
        if row["expected"] is None:
            continue
        shift, error = float(medians[index] - row["expected"]), float(np.hypot(errors[index], other_error))
        row.update(shift=shift, shift_error=error if np.isfinite(error) else None, state="ok")
        of_partner = row["against"] != "reference"
        smallest = parameters.time_significance * error
        if abs(shift) > max(limit, smallest):
            if of_partner and _partner_is_odd(index, partner, medians, geometry, groups):
                continue
            row["state"] = "shifted"
            row["rule"] = (
                f"median TDC time {medians[index]:.1f} ns is {shift:+.1f} +- {error:.1f} ns from that of "
                f"{'the reference' if not of_partner else row['against']} ({row['expected']:.1f} ns); limit {limit:g} ns"
            )
        elif smallest > 2 * limit:
            row["state"] = "no_statistics"
            row["rule"] = f"the shift is known to {error:.1f} ns only, too little for a limit of {limit:g} ns"
    return rows


def _shares_cables(name: str, geometry: Geometry) -> bool:
    """Return whether a plane and its partner have the same time zero: two layers of wires do, two bars do not."""
    plane = geometry.plane(name)
    return bool(plane.partner) and plane.kind in ("chamber", "prop_tube")


def _partner_is_odd(
    index: int, partner: int, medians: NDArray[np.float64], geometry: Geometry, groups: Groups
) -> bool:
    """Return whether, of two planes that differ, the partner is further from the other planes of its kind.

    The planes of one chamber package share their cables and time zero: the median of all planes of the same
    station and kind tells which one moved.
    """
    own = geometry.plane(groups.names[index])
    alike = [
        position
        for position, name in enumerate(groups.names)
        if (plane := geometry.plane(name)).group == own.group
        and plane.kind == own.kind
        and np.isfinite(medians[position])
    ]
    others = [position for position in alike if position not in (index, partner)]
    if not others:
        # a pair that is alone: planes of its kind in the same station have nearly the same time zero
        others = [
            position
            for position, name in enumerate(groups.names)
            if position not in (index, partner)
            and (plane := geometry.plane(name)).station == own.station
            and plane.kind == own.kind
            and np.isfinite(medians[position])
        ]
    if not others:
        return False
    centre = float(np.median(medians[others]))
    return bool(abs(medians[partner] - centre) > abs(medians[index] - centre))


def inputs_of(parameters: QualityParameters) -> list[str]:
    """Return the files whose content the verdicts depend on."""
    return [path for path in (parameters.reference, parameters.mask) if path]


def validate(parameters: QualityParameters, channels: ChannelMap) -> None:
    """Read the mask and the reference, so that what is wrong with them is said at once."""
    if parameters.mask:
        read_mask(parameters.mask, channels)
    if parameters.reference:
        from firstlight.detectors.spinquest.importer import import_counts

        import_counts(parameters.reference, channels)


quality = ProductStep(
    "quality",
    judge,
    needs=("occupancy/counts",),
    uses=("tdc/all", "tdc/in_time", "occupancy/totals"),
    parameters=QualityParameters,
    inputs=inputs_of,
    validate=validate,
)
