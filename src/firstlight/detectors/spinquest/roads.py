"""Where the planes of SpinQuest see the same particle: windows and roads for measuring efficiencies.

`roads_of` says where to look, from the table of planes alone; `count_pairs` looks there in the hits of
chambers and proportional tubes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.spinquest.geometry import Geometry, Plane, element_position

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["UNIT", "Layer", "Roads", "count_pairs", "roads_of"]

UNIT = 64  # accidentals are counted in whole numbers of this part
_KMAG = 1064.26  # centre of the magnet between stations 1 and 2 [cm], which bends in x


@dataclass(frozen=True)
class Layer:
    """One test of a hodoscope plane: bars of `first` and `second` predict, `others` confirm."""

    plane: int
    mirror: int
    first: int
    second: int
    others: tuple[int, ...]
    half: float
    uncertainty: float
    other_halves: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Roads:
    """What follows from the geometry; planes are rows of the table, elements count from 0.

    Parameters
    ----------
    names, kinds : list of str
        Of planes.
    first, size : ndarray of int64, shape (n_planes,)
        First channel and number of channels.
    position : ndarray, shape (n_channels,)
        Place of each element along the measuring direction of its plane [cm].
    partner : ndarray of int64, shape (n_planes,)
        The other layer of the double layer; -1 if there is none.
    low, high : ndarray of int64, shape (n_channels,)
        Elements of the plane under test in reach of a slot; none (low > high) outside the fiducial region, and
        for hodoscopes.
    tested : ndarray of int64, shape (n_channels,)
        Plane that a probe in a slot tests; -1 if none.
    shift : ndarray of int64, shape (n_planes,)
        Elements to either side at which the plane under test is searched for accidentals.
    pair_window : ndarray, shape (n_planes,)
        Largest distance of the hits of a double layer [cm].
    alone : ndarray of int64, shape (n_planes, 2)
        So many elements on either side of a probe must be silent, so that no confirmation of a track nearby
        is mistaken for one of the probe, or for an accident.
    confirm : ndarray of int64, shape (n_planes, 2)
        Double layers, by their first plane, that confirm a probe of the plane; -1 if there is none.
    combine : ndarray, shape (n_planes, 2)
        Predicted place of the probe = sum of these coefficients times the places of the two.
    window : ndarray, shape (n_planes, 2)
        Half width of the confirmation [cm], by hits and by double layers.
    frame : ndarray, shape (n_planes, 6)
        The vertical coordinate is sum of the first two times the places; then its centre and half range, and
        the extent of the plane.
    layers : tuple of Layer
        Tests of hodoscopes.
    """

    names: list[str]
    kinds: list[str]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    position: NDArray[np.float64]
    partner: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    tested: NDArray[np.int64]
    shift: NDArray[np.int64]
    pair_window: NDArray[np.float64]
    alone: NDArray[np.int64]
    confirm: NDArray[np.int64]
    combine: NDArray[np.float64]
    window: NDArray[np.float64]
    frame: NDArray[np.float64]
    layers: tuple[Layer, ...]


@lru_cache(maxsize=8)
def roads_of(geometry: Geometry, slope: float, kick: float, displacement: int) -> Roads:
    """Return what follows from a geometry.

    Parameters
    ----------
    geometry : Geometry
        Table of planes.
    slope, kick : float
        Largest slope of a track, and largest deflection in the magnet [rad].
    displacement : int
        Elements, at least, between the place of a probe and where accidentals are counted.
    """
    planes = [geometry.plane(int(number)) for number in geometry.planes["detector_id"]]
    count, size = len(planes), np.array([plane.n_elements for plane in planes], dtype=np.int64)
    first = np.cumsum(size) - size
    rows = {plane.name: row for row, plane in enumerate(planes)}
    position = np.concatenate(
        [
            element_position(geometry, plane.detector_id, np.arange(1, plane.n_elements + 1))
            for plane in planes
        ]
    )
    paired = ("chamber", "prop_tube")
    partner = np.array([rows.get(p.partner, -1) if p.kind in paired else -1 for p in planes], dtype=np.int64)
    total = int(size.sum())
    roads = Roads(
        names=[plane.name for plane in planes],
        kinds=[plane.kind for plane in planes],
        first=first, size=size, position=position, partner=partner,
        low=np.ones(total, dtype=np.int64), high=np.zeros(total, dtype=np.int64),
        tested=np.full(total, -1, dtype=np.int64),
        shift=np.full(count, displacement, dtype=np.int64),
        pair_window=np.zeros(count), alone=np.zeros((count, 2), dtype=np.int64),
        confirm=np.full((count, 2), -1, dtype=np.int64),
        combine=np.zeros((count, 2)), window=np.zeros((count, 2)), frame=np.zeros((count, 6)), layers=(),
    )  # fmt: skip
    for row in np.flatnonzero(partner >= 0):
        _add_pair(roads, planes, int(row), slope)
        _add_confirmation(roads, planes, int(row), slope, kick)
    layers = tuple(
        layer
        for row, plane in enumerate(planes)
        if plane.kind == "hodoscope"
        for layer in [_layer(planes, row, kick)]
        if layer is not None
    )
    for layer in layers:
        first_bar = roads.first[layer.plane]
        roads.tested[first_bar : first_bar + roads.size[layer.plane]] = layer.plane
    return replace(roads, layers=layers)


def _add_pair(roads: Roads, planes: list[Plane], row: int, slope: float) -> None:
    """Fill in which elements a track through an element of the partner (row) can reach in the plane under test."""
    test = int(roads.partner[row])
    probe, plane = planes[row], planes[test]
    path = slope * abs(plane.z0 - probe.z0)
    window = (probe.cell_width + plane.cell_width) / 2 + path
    # tracks of the neighbouring cell must not reach further cells than those of this one
    window = min(window, 1.5 * plane.pitch - 0.05 * plane.pitch) if path < plane.pitch / 4 else window
    roads.pair_window[row] = window
    slots = slice(roads.first[row], roads.first[row] + roads.size[row])
    places = roads.position[slots]
    _fill_reach(roads, slots, test, places, window, probe.cell_width / 2 + path, plane.cell_width / 2)
    roads.shift[test] = max(roads.shift[test], 2 * int(window / plane.pitch) + 2)


def _fill_reach(
    roads: Roads,
    slots: slice,
    test: int,
    places: NDArray[np.float64],
    window: float,
    spread: float,
    half_cell: float,
) -> None:
    targets = roads.position[roads.first[test] : roads.first[test] + roads.size[test]]
    near = np.abs(places[:, np.newaxis] - targets[np.newaxis]) <= window
    inside = (places - spread >= targets.min() - half_cell) & (places + spread <= targets.max() + half_cell)
    good = near.any(axis=1) & inside
    roads.low[slots] = np.where(good, near.argmax(axis=1), 1)
    roads.high[slots] = np.where(good, near.shape[1] - 1 - near[:, ::-1].argmax(axis=1), 0)
    roads.tested[slots] = np.where(good, test, -1)


def _add_confirmation(roads: Roads, planes: list[Plane], row: int, slope: float, kick: float) -> None:
    """Fill in which double layers confirm a hit of a plane, and how they predict its place."""
    probe, mate = planes[row], planes[int(roads.partner[row])]
    one_of_each = [
        index
        for index, plane in enumerate(planes)
        if 0 <= roads.partner[index] > index and plane.name not in {probe.name, mate.name}
    ]
    if probe.kind == "chamber":
        chosen = [index for index in one_of_each if planes[index].group == probe.group]
        if len(chosen) != 2:
            return
    else:
        alike = [
            i for i in one_of_each if planes[i].kind == probe.kind and planes[i].view[0] == probe.view[0]
        ]
        chosen = sorted(alike, key=lambda index: abs(planes[index].z0 - probe.z0))[:1]
        if not chosen:
            return
    angle = probe.angle + probe.theta_z
    others = [planes[index] for index in chosen]
    angles = [plane.angle + plane.theta_z for plane in others]
    middle = [(planes[index].z0 + planes[int(roads.partner[index])].z0) / 2 - probe.z0 for index in chosen]
    gap = [abs(planes[index].z0 - planes[int(roads.partner[index])].z0) for index in chosen]
    if len(chosen) == 2:
        matrix = np.array([[np.cos(a), np.sin(a)] for a in angles])
        combine = np.linalg.solve(matrix.T, [np.cos(angle), np.sin(angle)])
        vertical = np.linalg.inv(matrix)[1]
        lever = [
            slope * abs(sum(c * dz * f(a) for c, dz, a in zip(combine, middle, angles, strict=True)))
            for f in (np.cos, np.sin)
        ]
    else:
        # tracks point to the target, but for the kick of the magnet and for scattering
        combine = np.array([probe.z0 / (probe.z0 + middle[0])])
        vertical, lever = np.zeros(1), [kick * abs(middle[0])]
    base = probe.cell_width / 2 + sum(lever)
    pieces = list(zip(np.abs(combine), others, gap, strict=True))
    by_hits = base + sum(c * (p.cell_width / 2 + slope * dz / 2) for c, p, dz in pieces)
    by_pairs = base + sum(c * (p.cell_width / 4 + slope * dz / 2) for c, p, dz in pieces)
    roads.confirm[row, : len(chosen)] = chosen
    roads.combine[row, : len(chosen)] = combine
    roads.window[row] = by_hits, by_pairs
    roads.alone[row] = np.ceil(2 * roads.window[row] / probe.pitch)
    smear = sum(abs(v) * p.cell_width for v, p in zip(vertical, others, strict=True))
    places = roads.position[roads.first[row] : roads.first[row] + roads.size[row]]
    edges = places.min() - probe.pitch / 2, places.max() + probe.pitch / 2
    half = probe.height / 2 + smear if len(chosen) == 2 else np.inf
    vertical_parts = (*vertical, 0.0)[:2]
    roads.frame[row] = (*vertical_parts, probe.y0, half, *edges)


def _layer(planes: list[Plane], row: int, kick: float) -> Layer | None:
    """Return the test of a hodoscope plane by the layers on the same side of the beam that measure the same coordinate."""
    plane = planes[row]

    def side(one: Plane) -> bool:
        return bool((one.y0 if one.view == "X" else one.x0) > 0)

    alike = [i for i, other in enumerate(planes) if other.kind == "hodoscope" and other.view == plane.view]
    same = [i for i in alike if side(planes[i]) == side(plane) and i != row]
    mirror = [i for i in alike if side(planes[i]) != side(plane) and planes[i].group == plane.group]
    reach = {
        (a, b): _propagated(plane, planes[a], planes[b], kick) for a in same for b in same if planes[a].z0 < planes[b].z0
    }  # fmt: skip
    if not reach:
        return None
    (first, second), uncertainty = min(reach.items(), key=lambda item: item[1])
    others = tuple(index for index in same if index not in {first, second})
    # no wider than leaves room beside it; a track outside the window is lost for the confirmation, not for the ratio
    halves = tuple(
        min(
            _propagated(planes[i], planes[first], planes[second], kick) + planes[i].cell_width / 2,
            planes[i].n_elements * planes[i].pitch / 4,
        )
        for i in others
    )
    twin = mirror[0] if mirror and planes[mirror[0]].n_elements == plane.n_elements else row
    half = uncertainty + plane.cell_width / 2
    return Layer(row, twin, first, second, others, half, uncertainty, halves)


def _propagated(plane: Plane, one: Plane, other: Plane, kick: float) -> float:
    """Return how far from the line through the middles of two bars a track can be in a plane [cm]."""
    part = (plane.z0 - one.z0) / (other.z0 - one.z0)
    bent = [max(0.0, z - _KMAG) for z in (plane.z0, one.z0, other.z0)]
    lever = abs(bent[0] - bent[1] - (bent[2] - bent[1]) * part) if plane.view == "X" else 0.0
    return abs(1 - part) * one.cell_width / 2 + abs(part) * other.cell_width / 2 + kick * lever


@kernel
def _any_fired(
    stamp: NDArray[np.int64], event: int, start: int, size: int, low: int, high: int, shift: int
) -> bool:
    """Return whether one of the elements `low` to `high` of a plane fired, moved by `shift` around its ends."""
    for element in range(low, high + 1):  # noqa: SIM110  (compiled)
        if stamp[start + (element + shift) % size] == event:
            return True
    return False


@kernel
def _double_layer(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    window: float,
    hits: NDArray[np.float64],
    pairs: NDArray[np.float64],
) -> tuple[int, int]:
    """Fill the places of all hits and of all pairs of hits of a double layer; return their numbers."""
    n_hits, n_pairs = 0, 0
    for place in one:
        hits[n_hits] = place
        n_hits += 1
        for place2 in other:
            if abs(place - place2) <= window and n_pairs < pairs.size:
                pairs[n_pairs] = (place + place2) / 2
                n_pairs += 1
    for place in other:
        hits[n_hits] = place
        n_hits += 1
    return n_hits, n_pairs


@kernel
def _double_layers(
    listed: NDArray[np.int64],
    n_fired: NDArray[np.int64],
    first: NDArray[np.int64],
    partner: NDArray[np.int64],
    places: NDArray[np.float64],
    window: NDArray[np.float64],
    max_hits: int,
    filled: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]],
) -> None:
    """Fill the places of hits and of pairs of hits of all double layers that do not have too many."""
    hits, pairs, n_hits, n_pairs = filled
    for plane in range(first.size):
        mate = partner[plane]
        if mate <= plane:
            continue
        n_hits[plane], n_pairs[plane] = 0, 0
        if n_fired[plane] <= max_hits and n_fired[mate] <= max_hits:
            mine = listed[first[plane] : first[plane] + n_fired[plane]]
            others = listed[first[mate] : first[mate] + n_fired[mate]]
            n_hits[plane], n_pairs[plane] = _double_layer(
                places[mine], places[others], window[plane], hits[plane], pairs[plane]
            )


@kernel
def _confirmations(
    place: float,
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    combine: NDArray[np.float64],
    window: float,
    frame: NDArray[np.float64],
) -> int:
    """Return 1 if two double layers confirm a hit at its place, plus 2 if they do beside it.

    Beside means one to two windows away, to both sides, so that both regions are equally wide. At the edge of
    the plane, where one side is missing, the region on the other side is twice as wide.
    """
    found = 0
    far = 2 * window
    if place - far < frame[4] or place + far > frame[5]:
        far = 3 * window
    for u in one:
        for v in other:
            if abs(frame[0] * u + frame[1] * v - frame[2]) > frame[3]:
                continue
            predicted = combine[0] * u + combine[1] * v
            distance = abs(predicted - place)
            if distance <= window:
                found |= 1
            elif distance <= far and frame[4] <= predicted <= frame[5]:
                found |= 2
        if found == 3:
            break
    return found


@kernel
def _collect(
    channel: NDArray[np.int32],
    event: int,
    plane_of: NDArray[np.int64],
    first: NDArray[np.int64],
    stamp: NDArray[np.int64],
    n_fired: NDArray[np.int64],
    listed: NDArray[np.int64],
    fired: NDArray[np.int64],
) -> None:
    """Note which channels fired in an event, each once; those of a plane stand from its first channel on."""
    n_fired[:] = 0
    for where in channel:
        if where >= 0 and stamp[where] != event:
            stamp[where] = event
            fired[where] += 1
            plane = plane_of[where]
            listed[first[plane] + n_fired[plane]] = where
            n_fired[plane] += 1


@kernel
def _add(
    sums: NDArray[np.int64],
    own: NDArray[np.int64],
    level: int,
    weight: tuple[int, int],
    found: int,
    beside: int,
) -> None:
    confirmed, w = weight
    sums[level, 0] += confirmed
    sums[level, 1] += confirmed * found
    sums[level, 2] += w
    sums[level, 3] += w * found
    sums[level, 4] += w * w
    sums[level, 5] += w * w * found
    sums[level, 6] += w * beside * UNIT
    sums[level, 7] += w * w * beside * UNIT
    own[level] = w * found


@kernel
def _isolated(stamp: NDArray[np.int64], event: int, where: int, first: int, size: int, distance: int) -> bool:
    for near in range(max(where - distance, first), min(where + distance, first + size - 1) + 1):
        if near != where and stamp[near] == event:
            return False
    return True


@kernel
def count_pairs(
    channel: NDArray[np.int32],
    offsets: NDArray[np.int64],
    plane_of: NDArray[np.int64],
    roads: tuple[NDArray[np.int64], ...],
    places: NDArray[np.float64],
    predict: tuple[NDArray[np.float64], ...],
    limits: tuple[int, int, int],
    sums: NDArray[np.int64],
    own: NDArray[np.int64],
    fired: NDArray[np.int64],
) -> None:
    """Add up the probes of chambers and tubes.

    `roads` is first, size, partner, low, high, tested, shift, confirm, alone of `Roads`, `predict` is pair_window,
    combine, window, frame, and `limits` is isolation, largest number of hits, and that of a probe plane.
    """
    first, size, partner, low, high, tested, shift, confirm, alone = roads
    pair_window, combine, window, frame = predict
    isolation, max_hits, max_probes = limits
    n_planes = first.size
    stamp = np.full(places.size, -1, dtype=np.int64)
    listed = np.zeros(places.size, dtype=np.int64)
    n_fired = np.zeros(n_planes, dtype=np.int64)
    hits = np.zeros((n_planes + 1, 2 * max_hits))
    pairs = np.zeros((n_planes + 1, 4 * max_hits))
    n_hits = np.zeros(n_planes + 1, dtype=np.int64)
    n_pairs = np.zeros(n_planes + 1, dtype=np.int64)
    # row -1: in the last place a single 0 stands for the second of two double layers where there is only one
    n_hits[n_planes], n_pairs[n_planes] = 1, 1
    share = np.zeros(3, dtype=np.int64)
    for event in range(offsets.size - 1):
        _collect(
            channel[offsets[event] : offsets[event + 1]],
            event,
            plane_of,
            first,
            stamp,
            n_fired,
            listed,
            fired,
        )
        _double_layers(
            listed, n_fired, first, partner, places, pair_window, max_hits, (hits, pairs, n_hits, n_pairs)
        )
        for plane in range(n_planes):
            if partner[plane] < 0 or n_fired[plane] == 0 or n_fired[plane] > max_probes:
                continue
            test, (one, other) = partner[plane], confirm[plane]
            for where in listed[first[plane] : first[plane] + n_fired[plane]]:
                if tested[where] != test:
                    continue
                if not _isolated(stamp, event, where, first[plane], size[plane], isolation):
                    continue
                start, number, lo, hi = first[test], size[test], low[where], high[where]
                found = int(_any_fired(stamp, event, start, number, lo, hi, 0))
                beside = int(_any_fired(stamp, event, start, number, lo, hi, shift[test]))
                beside += int(_any_fired(stamp, event, start, number, lo, hi, -shift[test]))
                share[:] = 0
                _add(sums[where], share, 0, (1, 1), found, beside)
                for level in range(1, 3) if one >= 0 else range(0):
                    distance = max(isolation, alone[plane, level - 1])
                    if not _isolated(stamp, event, where, first[plane], size[plane], distance):
                        continue
                    store, count = (hits, n_hits) if level == 1 else (pairs, n_pairs)
                    bits = _confirmations(
                        places[where], store[one, : count[one]], store[other, : count[other]],
                        combine[plane], window[plane, level - 1], frame[plane],
                    )  # fmt: skip
                    weight = (bits & 1) - (bits >> 1)
                    _add(sums[where], share, level, (bits & 1, weight), found, beside)
                for element in range(lo, hi + 1):
                    if stamp[start + element] == event:
                        own[start + element] += share
