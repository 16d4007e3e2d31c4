"""Efficiencies of planes and elements, measured with the hits of other planes.

Chambers and proportional tubes: a hit of the partner plane, the other layer of the same double layer, is the
probe; it is found if the plane under test fired within the cells that a track through the probe can reach.
Hodoscopes: n - 1 of the n layers that measure the same coordinate; bars of two of them predict the place in
the layer under test, and the others confirm.

Not every probe is a particle. Probes are therefore confirmed by planes that are neither the probe nor the
plane under test (the other two views of a chamber; the other double layer of the tubes; the remaining layers
of the hodoscopes). The same confirmation is tried beside the right place, to both sides, and what is found
there is subtracted: a probe confirmed at its place has weight 1, one confirmed beside it -1. Noise among the probes
cancels, however much there is; the sums of weights need whole numbers only and do not depend on chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pydantic

from firstlight.data.schema import Column, Table
from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.detectors.spinquest.roads import UNIT, count_pairs, roads_of
from firstlight.run.config import StrictModel
from firstlight.steps.efficiency import Estimate, efficiency_table, estimate
from firstlight.steps.occupancy import offsets_of
from firstlight.steps.step import ChunkStep, Context, Product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk
    from firstlight.detectors.spinquest.geometry import Geometry, Plane
    from firstlight.detectors.spinquest.roads import Layer, Roads

__all__ = ["EfficiencyParameters", "Probes", "efficiency", "measure"]

# how strictly a probe was confirmed
CONFIRMED = ("not confirmed", "confirmed by hits", "confirmed by double layers")
HODOSCOPE_CONFIRMED = ("two layers", "", "all other layers")
# a wire that shares each track with its neighbour stays silent so often by chance in one of a million cases
_SILENT = 20
STATES = ("ok", "lower limit", "uncorrelated", "no tracks", "no statistics")
# of each probe, with W = 1 (confirmed) - 1 (confirmed beside), x = found, A = accidentals beside it (see UNIT)
_SUMS = ("confirmed", "found", "W", "W x", "W^2", "W^2 x", "W A", "W^2 A")


class EfficiencyParameters(StrictModel):
    """Parameters of the measurement of efficiencies.

    Attributes
    ----------
    in_time : bool
        Use in-time hits only, where the file has the flag.
    single : bool
        Use only events in which exactly one element of the partner plane fired.
    isolation : int
        So many elements on either side of a probe must be silent, or more where the confirmation is coarser.
    max_hits : int
        Planes with more fired elements than this give no probe and confirm none. Never asked of the plane
        under test: that would choose by its own answer.
    slope, kick : float
        Largest slope of a track, and largest deflection in the magnet, for the width of windows [rad].
    displacement : int
        Elements between the place of a probe and where accidentals are counted.
    level : float
        Confidence level of intervals.
    minimum_probes, minimum_element_probes : int
        Fewer probes make no statement about a plane, or an element.
    minimum_significance, minimum_correlation : float
        Tracks are there if probes are confirmed, or found, this many standard deviations above accidentals, and
        this fraction of them is no accident.
    accidental_uncertainty, background_uncertainty : float
        Relative systematic uncertainties of the rate of accidentals, and of the number of probes that are
        subtracted.
    """

    in_time: bool = True
    single: bool = False
    isolation: int = pydantic.Field(default=2, ge=0)
    max_hits: int = pydantic.Field(default=20, ge=1)
    slope: float = pydantic.Field(default=0.1, ge=0)
    kick: float = pydantic.Field(default=0.04, ge=0)
    displacement: int = pydantic.Field(default=8, ge=1)
    level: float = pydantic.Field(default=0.6827, gt=0, lt=1)
    minimum_probes: int = pydantic.Field(default=20, ge=1)
    minimum_element_probes: int = pydantic.Field(default=30, ge=1)
    minimum_significance: float = pydantic.Field(default=5.0, ge=0)
    minimum_correlation: float = pydantic.Field(default=0.1, ge=0, le=1)
    accidental_uncertainty: float = pydantic.Field(default=0.2, ge=0)
    background_uncertainty: float = pydantic.Field(default=0.5, ge=0)


@dataclass(frozen=True)
class Probes:
    """Sums over probes; what chunks add up to.

    Parameters
    ----------
    sums : ndarray of int64, shape (n_channels, 3, 8)
        By slot, strictness of the confirmation (`CONFIRMED`) and `_SUMS`. The slot of a chamber or tube is the
        channel of the probe, in the partner plane; that of a hodoscope the predicted bar.
    own : ndarray of int64, shape (n_channels, 3)
        Sum of W of the found probes to which a channel of the plane under test contributed.
    fired : ndarray of int64, shape (n_channels,)
        Events in which a channel fired.
    n_events, n_flagged, n_in_time : int
        Events; hits of files with an in-time flag, and those that have it set.
    """

    sums: NDArray[np.int64]
    own: NDArray[np.int64]
    fired: NDArray[np.int64]
    n_events: int = 0
    n_flagged: int = 0
    n_in_time: int = 0

    def __add__(self, other: Probes) -> Probes:
        return Probes(
            self.sums + other.sums,
            self.own + other.own,
            self.fired + other.fired,
            self.n_events + other.n_events,
            self.n_flagged + other.n_flagged,
            self.n_in_time + other.n_in_time,
        )


# -- hodoscopes: map -------------------------------------------------------------------------------------


def _bars(
    channel: NDArray[np.int32], event: NDArray[Any], n_events: int, start: int, size: int
) -> NDArray[Any]:
    """Return which bars of a plane fired, of shape (n_events, n_bars)."""
    matrix = np.zeros((n_events, size), dtype=bool)
    rows = (channel >= start) & (channel < start + size)
    matrix[event[rows], channel[rows] - start] = True
    return matrix


def _clusters(matrix: NDArray[np.bool_], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the only one or two neighbouring bars of an event are, of shape (n_events,), or NaN [cm]."""
    number = matrix.sum(axis=1)
    lowest, highest = matrix.argmax(axis=1), matrix.shape[1] - 1 - matrix[:, ::-1].argmax(axis=1)
    good = (number > 0) & (number <= 2) & (highest - lowest + 1 == number)
    return np.where(good, (places[lowest] + places[highest]) / 2, np.nan)


def _beside(
    matrix: NDArray[np.bool_], places: NDArray[np.float64], where: Any, half: float
) -> NDArray[np.bool_]:
    """Return whether a bar one to two half widths from a place fired, around the ends of the plane."""
    length = (places.max() - places.min()) * places.size / max(places.size - 1, 1)
    distance = np.abs((places[np.newaxis] - where[:, np.newaxis] + length / 2) % length - length / 2)
    return np.asarray((matrix & (distance > half) & (distance <= 2 * half)).any(axis=1))


def _count_bars(
    roads: Roads,
    planes: Mapping[int, Plane],
    matrices: Mapping[int, NDArray[np.bool_]],
    layer: Layer,
    partial: Probes,
) -> None:
    places = {row: roads.position[roads.first[row] : roads.first[row] + roads.size[row]] for row in matrices}
    plane, one, other = planes[layer.plane], planes[layer.first], planes[layer.second]
    clusters = [_clusters(matrices[row], places[row]) for row in (layer.first, layer.second)]
    mine = places[layer.plane]
    half_cell = plane.cell_width / 2
    predicted = clusters[0] + (clusters[1] - clusters[0]) * (plane.z0 - one.z0) / (other.z0 - one.z0)
    inside = (predicted - layer.uncertainty >= mine.min() - half_cell) & (
        predicted + layer.uncertainty <= mine.max() + half_cell
    )
    rows = np.flatnonzero(inside)  # NaN is not inside
    if not rows.size:
        return
    where = predicted[rows]
    # a track may change the side between stations: both halves of the layer answer
    answer = (matrices[layer.plane] | matrices[layer.mirror])[rows]
    found = _within(answer, mine, where, layer.half)
    line = [clusters[0][rows], clusters[1][rows]]
    # accidentals: the bars that the track cannot have reached, as many as it can have; at least one of these
    near = np.abs(mine[np.newaxis] - where[:, np.newaxis]) <= layer.half
    n_near = near.sum(axis=1)
    n_far = np.maximum(mine.size - n_near, 1)
    by_chance = 1 - (1 - (answer & ~near).sum(axis=1) / n_far) ** n_near
    beside = np.rint(2 * UNIT * by_chance).astype(np.int64)
    bits = np.zeros((2, rows.size), dtype=np.int64)
    bits[0] = 1
    for row, half in zip(layer.others, layer.other_halves, strict=True):
        there = line[0] + (line[1] - line[0]) * (planes[row].z0 - one.z0) / (other.z0 - one.z0)
        hits = matrices[row][rows]
        bits[0] &= _within(hits, places[row], there, half)
        bits[1] |= _beside(hits, places[row], there, half)
    slot = np.abs(mine[np.newaxis] - where[:, np.newaxis]).argmin(axis=1)
    reached = matrices[layer.plane][rows] & near
    weights = {0: (np.ones(rows.size, dtype=np.int64), np.ones(rows.size, dtype=np.int64))}
    if layer.others:
        weights[2] = (bits[0], bits[0] - bits[1])
    x = found.astype(np.int64)
    channels = slice(roads.first[layer.plane], roads.first[layer.plane] + roads.size[layer.plane])
    for level, (confirmed, w) in weights.items():
        terms = [confirmed, confirmed * x, w, w * x, w * w, w * w * x, w * beside, w * w * beside]
        np.add.at(partial.sums, (roads.first[layer.plane] + slot, level), np.stack(terms, axis=1))
        partial.own[channels, level] += reached.T @ w


def _within(
    matrix: NDArray[np.bool_], places: NDArray[np.float64], where: Any, half: float
) -> NDArray[np.bool_]:
    near = np.abs(places[np.newaxis] - where[:, np.newaxis]) <= half
    return np.asarray((matrix & near).any(axis=1))


# -- the step --------------------------------------------------------------------------------------------


def _geometry_of(context: Context) -> Geometry:
    asked = getattr(context.options, "geometry", "auto")
    return load_geometry(context.channels.version if asked == "auto" else asked)


def measure(chunk: Chunk, parameters: EfficiencyParameters, context: Context) -> Probes:
    """Add up the probes of a chunk.

    Parameters
    ----------
    chunk : Chunk
        With ``hits`` (``event``, ``channel``, ``in_time``) and ``events`` (``n_hits``).
    parameters : EfficiencyParameters
        What makes a probe.
    context : Context
        Gives the channels and, by its options, the geometry.
    """
    geometry = _geometry_of(context)
    roads = roads_of(geometry, parameters.slope, parameters.kick, parameters.displacement)
    hits, events = chunk.table("hits"), chunk.table("events")
    offsets, event = offsets_of(events), hits.array("event")
    channel = np.ascontiguousarray(hits.array("channel"))
    flagged = bool(chunk.facts.get("has_in_time"))
    in_time = hits.array("in_time") == 1
    if flagged and parameters.in_time:
        channel = np.where(in_time, channel, np.int32(-1))
    size = len(context.channels)
    partial = Probes(
        np.zeros((size, 3, len(_SUMS)), dtype=np.int64),
        np.zeros((size, 3), dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        len(events),
        in_time.size if flagged else 0,
        int(np.count_nonzero(in_time)) if flagged else 0,
    )
    plane_of = np.repeat(np.arange(roads.size.size), roads.size)
    tables = (
        roads.first,
        roads.size,
        roads.partner,
        roads.low,
        roads.high,
        roads.tested,
        roads.shift,
        roads.confirm,
        roads.alone,
    )
    predict = (roads.pair_window, roads.combine, roads.window, roads.frame)
    limits = (parameters.isolation, parameters.max_hits, 1 if parameters.single else parameters.max_hits)
    count_pairs(
        channel, offsets, plane_of, tables, roads.position, predict, limits, partial.sums, partial.own, partial.fired
    )  # fmt: skip
    used = {row for layer in roads.layers for row in (layer.plane, layer.mirror)}
    used |= {row for layer in roads.layers for row in (layer.first, layer.second, *layer.others)}
    matrices = {
        row: _bars(channel, event, len(events), int(roads.first[row]), int(roads.size[row])) for row in used
    }
    planes = {row: geometry.plane(roads.names[row]) for row in used}
    for layer in roads.layers:
        _count_bars(roads, planes, matrices, layer, partial)
    return partial


@dataclass(frozen=True)
class _Judged:
    """One plane under test: its sums at the chosen strictness, and the verdict."""

    plane: int
    method: str
    probe: str
    level: int
    state: str
    rule: str
    sums: NDArray[np.float64]
    error: float


def _profile(roads: Roads, fired: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much more often the elements in reach of a slot fire than those beside it, of shape (n_channels,).

    Accidentals are counted beside the place of the probe; a hot wire or a dead one there or here makes a
    difference that the occupancy of the plane knows. Between 0.1 and 30; 1 where nothing is known.
    """
    ratio = np.ones(fired.size)
    for plane in range(roads.size.size):
        slots = np.flatnonzero(roads.tested == plane)
        if not slots.size or roads.partner[plane] < 0:
            continue
        start, size, shift = int(roads.first[plane]), int(roads.size[plane]), int(roads.shift[plane])
        counts = fired[start : start + size].astype(np.float64)
        doubled = np.concatenate([[0.0], np.cumsum(np.tile(counts, 3))])
        low, high = roads.low[slots] + size, roads.high[slots] + size + 1
        here = doubled[high] - doubled[low]
        beside = sum(doubled[high + step] - doubled[low + step] for step in (shift, -shift)) / 2
        known = (here > 0) & (beside > 0)
        ratio[slots[known]] = np.clip(here[known] / beside[known], 0.1, 30.0)
    return ratio


def _scaled(roads: Roads, partial: Probes, ratio: NDArray[np.float64], plane: int) -> NDArray[np.float64]:
    """Return the sums of the slots of a plane, shape (n_slots, 3, 8), with accidentals at the place of the probe."""
    slots = roads.tested == plane
    sums = partial.sums[slots].astype(np.float64)
    factor = ratio[slots, np.newaxis] / (2 * UNIT)
    sums[:, :, 6] *= factor
    sums[:, :, 7] *= factor * ratio[slots, np.newaxis] / 2
    return np.asarray(sums)


def _estimates(
    sums: NDArray[np.float64], parameters: EfficiencyParameters
) -> tuple[Estimate, NDArray[np.float64]]:
    """Return the efficiencies of sums of shape (..., 8), and the uncertainty of the accidental rate."""
    weight, squares = sums[..., 2], sums[..., 4]
    with np.errstate(divide="ignore", invalid="ignore"):
        good = weight > 0
        chance = np.clip(np.where(good, sums[..., 6] / weight, np.nan), 0, None)
        error = np.where(good, np.sqrt(np.clip(sums[..., 7], 0, None)) / weight, np.nan)
        effective = np.where(good, weight**2 / squares, 0.0)
    total_error = np.hypot(error, parameters.accidental_uncertainty * chance)
    result = estimate(
        np.where(good, sums[..., 3], 0.0), np.where(good, weight, 0.0), n_effective=effective,
        accidental=np.nan_to_num(chance), accidental_error=np.nan_to_num(total_error), level=parameters.level,
    )  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        subtracted, and_found = sums[..., 0] - weight, sums[..., 1] - sums[..., 3]
        moved = np.abs(and_found - subtracted * sums[..., 3] / weight) / weight / (1 - result.accidental)
    background = np.where(good, parameters.background_uncertainty * moved, np.nan)
    return replace(result, systematic=np.hypot(result.systematic, background)), error


def _choose(
    roads: Roads, partial: Probes, ratio: NDArray[np.float64], plane: int, parameters: EfficiencyParameters
) -> _Judged:
    """Return the verdict on one plane, before it is known whether other planes see tracks."""
    hodoscope = roads.kinds[plane] == "hodoscope"
    layer = next((layer for layer in roads.layers if layer.plane == plane), None)
    if layer is not None:
        rows = (layer.first, layer.second, *layer.others)
        method, probe = "n-1", "+".join(roads.names[row] for row in rows)
    else:
        mate = int(roads.partner[plane])
        method, probe = ("partner plane", roads.names[mate]) if mate >= 0 else ("", "")
    words = HODOSCOPE_CONFIRMED if hodoscope else CONFIRMED
    sums = _scaled(roads, partial, ratio, plane).sum(axis=0)
    error = float("nan")

    def judged(level: int, state: str, rule: str) -> _Judged:
        return _Judged(plane, method, probe, level, state, rule, sums[level], error)

    if not method:
        return judged(
            0, "no statistics", "there is no method for this plane: no other plane sees the same tracks"
        )
    for level in (2, 1):
        n, weight, squares = sums[level, 0], sums[level, 2], sums[level, 4]
        if weight <= 0 or not np.isfinite(_estimates(sums[level], parameters)[0].efficiency):
            continue
        significance, pure, size = weight / squares**0.5, weight / n, weight**2 / squares
        if (
            significance >= parameters.minimum_significance
            and pure >= parameters.minimum_correlation
            and size >= parameters.minimum_probes
        ):
            rule = (
                f"{words[level]}: {n:.0f} probes, {pure:.1%} of them no accident ({significance:.1f} sigma)"
            )
            return judged(level, "ok", rule)
    n = sums[0, 0]
    if n < parameters.minimum_probes:
        return judged(0, "no statistics", f"{n:.0f} probes, fewer than {parameters.minimum_probes}")
    estimates, errors = _estimates(sums, parameters)
    fraction, chance = sums[0, 1] / n, float(np.nan_to_num(estimates.accidental[0]))
    correlated = float(estimates.efficiency[0])
    spread = np.hypot((max(fraction * (1 - fraction), 1 / n) / n) ** 0.5, float(np.nan_to_num(errors[0])))
    significance = (fraction - chance) / spread
    seen = f"found {fraction:.1%} of {n:.0f} probes, by accident {chance:.1%} ({significance:.1f} sigma)"
    if significance >= parameters.minimum_significance and correlated >= parameters.minimum_correlation:
        rule = f"{words[0]}: {seen}; noise among the probes makes the number too small"
        return judged(0, "lower limit", rule)
    return judged(0, "uncorrelated", f"hits of {probe} and {roads.names[plane]} are uncorrelated: {seen}")


_PLANE_LABELS = (
    Column("plane", pl.String, "plane under test"),
    Column("method", pl.String, "partner plane, n-1, or empty where there is none"),
    Column("probe", pl.String, "planes that give the probes"),
)
_PLANE_VERDICT = (
    Column("confirmation", pl.String, "what else had to confirm a probe"),
    Column("state", pl.String, f"one of: {', '.join(STATES)}"),
    Column("rule", pl.String, "the rule that gave the state, with its numbers"),
)
_ELEMENT_LABELS = (
    Column("plane", pl.String, "plane under test"),
    Column("element_id", pl.Int32, "element around which the efficiency is measured"),
    Column("channel", pl.Int32, "channel of the channel map"),
)
_ELEMENT_VERDICT = (
    Column(
        "share",
        pl.Float64,
        "part of the found probes to which the wire or tube itself contributed",
        nullable=True,
    ),
    Column("state", pl.String, "ok, no statistics, or silent: its neighbours find the tracks"),
)


def finish(partial: Probes, parameters: EfficiencyParameters, context: Context) -> dict[str, Product]:
    """Return the products ``planes`` and ``elements``.

    Around an element: probes whose tracks can reach it. With half-cell staggering its neighbours answer too,
    so a dead wire has an efficiency of about one half, and a `share` of 0.
    """
    roads = roads_of(_geometry_of(context), parameters.slope, parameters.kick, parameters.displacement)
    ratio = _profile(roads, partial.fired)
    planes = [_choose(roads, partial, ratio, plane, parameters) for plane in range(roads.size.size)]
    tracks = any(one.state in {"ok", "lower limit"} for one in planes)
    planes = [_final(one, partial, parameters, tracks=tracks) for one in planes]
    measured = np.array([one.state in {"ok", "lower limit"} for one in planes])
    sums = np.stack([one.sums for one in planes])
    result = _hidden(_estimates(sums, parameters)[0], ~measured)
    words = [HODOSCOPE_CONFIRMED if roads.kinds[one.plane] == "hodoscope" else CONFIRMED for one in planes]
    labels = (
        [roads.names[one.plane] for one in planes],
        [one.method for one in planes],
        [one.probe for one in planes],
    )
    after = (
        [word[one.level] if one.method else "" for word, one in zip(words, planes, strict=True)],
        [one.state for one in planes],
        [one.rule for one in planes],
    )
    table = efficiency_table(
        "planes", dict(zip(_PLANE_LABELS, labels, strict=True)), (sums[:, 1], sums[:, 0]), result,
        dict(zip(_PLANE_VERDICT, after, strict=True)), "a plane under test",
    )  # fmt: skip
    return {"planes": table, "elements": _elements(roads, partial, ratio, planes, parameters, context)}


def _hidden(result: Estimate, where: NDArray[np.bool_]) -> Estimate:
    """Return estimates without the efficiencies that mean nothing; the rate of accidentals stays."""
    names = ("efficiency", "low", "high", "systematic")
    return replace(result, **{name: np.where(where, np.nan, getattr(result, name)) for name in names})


def _final(one: _Judged, partial: Probes, parameters: EfficiencyParameters, *, tracks: bool) -> _Judged:
    """Return the verdict in the light of the other planes, and of the in-time flag."""
    if one.method and parameters.in_time and partial.n_flagged and not partial.n_in_time:
        rule = "the in-time flag is not filled in these files: measure with all hits (in_time = false)"
        return replace(one, state="no statistics", rule=rule)
    if one.state == "uncorrelated" and not tracks:
        rule = one.rule.replace("hits of", "no tracks in this file: hits of", 1)
        return replace(one, state="no tracks", rule=rule)
    return one


def _elements(
    roads: Roads,
    partial: Probes,
    ratio: NDArray[np.float64],
    planes: list[_Judged],
    parameters: EfficiencyParameters,
    context: Context,
) -> Table:
    sums = np.zeros((int(roads.size.sum()), len(_SUMS)))
    own = np.zeros(sums.shape[0])
    wanted = np.zeros(sums.shape[0], dtype=bool)
    for one in planes:
        if one.state not in {"ok", "lower limit"}:
            continue
        channels = slice(roads.first[one.plane], roads.first[one.plane] + roads.size[one.plane])
        wanted[channels] = True
        own[channels] = partial.own[channels, one.level]
        slots = np.flatnonzero(roads.tested == one.plane)
        found = _scaled(roads, partial, ratio, one.plane)[:, one.level]
        if roads.kinds[one.plane] == "hodoscope":
            sums[slots] = found
            continue
        for step in range(int((roads.high[slots] - roads.low[slots]).max()) + 1):
            reached = roads.low[slots] + step
            inside = reached <= roads.high[slots]
            np.add.at(sums, roads.first[one.plane] + reached[inside], found[inside])
    rows = np.flatnonzero(wanted)
    sums, own = sums[rows], own[rows]
    result, _ = _estimates(sums, parameters)
    enough = result.n_effective >= parameters.minimum_element_probes
    share = np.divide(own, sums[:, 3], out=np.full(rows.size, np.nan), where=sums[:, 3] > 0)
    # bars of hodoscopes are predicted to a few bars only: that one of them never answers proves nothing
    wires = np.isin(context.channels.frame["kind"].gather(rows).to_numpy(), ("chamber", "prop_tube"))
    silent = wires & enough & (own <= 0) & (sums[:, 3] >= _SILENT)
    state = np.where(enough, np.where(silent, "silent", "ok"), "no statistics")
    hidden = _hidden(result, ~enough)
    frame = context.channels.frame
    labels = (frame["group"].gather(rows).to_list(), frame["element_id"].gather(rows).to_numpy(), rows)
    after = (np.where(enough & wires, share, np.nan), state)
    return efficiency_table(
        "elements", dict(zip(_ELEMENT_LABELS, labels, strict=True)), (sums[:, 1], sums[:, 0]), hidden,
        dict(zip(_ELEMENT_VERDICT, after, strict=True)), "an element of a plane under test",
    )  # fmt: skip


def needs(_: EfficiencyParameters) -> Mapping[str, tuple[str, ...]]:
    """Return the columns that `measure` reads."""
    return {"hits": ("event", "channel", "in_time"), "events": ("n_hits",)}


efficiency = ChunkStep("efficiency", measure, finish, needs, parameters=EfficiencyParameters)
