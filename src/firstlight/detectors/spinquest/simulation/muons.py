"""True muons of a simulated spill, what they cross, and the trigger that the hodoscopes give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from firstlight.detectors.spinquest.geometry import OUTLINES, element_position
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.detectors.spinquest.simulation.noise import FINE, N_DETECTORS, N_ELEMENTS, Readout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.detectors.spinquest.geometry import Geometry

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["MUONS", "Hits", "Tracks", "Trigger", "cross", "draw_tracks", "track_position", "track_times"]

KICK = 0.415  # GeV, transverse momentum in x that the second magnet gives
MUONS: dict[str, Any] = {
    "kick_GeV": KICK,
    "momentum_GeV": "15 + gamma(3) * 10, at most 110",
    "transverse_GeV": [1.7, 2.0],  # spread in x (with the first magnet) and y
    "beam_cm": 1.0,
    "dump_fraction": 0.85,  # the others come from the target
    "dump_depth_cm": 60.0,  # mean depth of exponential distribution
}
_CHARGE_FROM, _LARGEST_KICK, _HIGH_PT = 0.004, 0.05, 0.045  # of roads: bending angles, upstream slope


class Tracks(NamedTuple):
    """True muons as columns of shape (n_tracks,): lengths in cm, momenta in GeV, slopes in x and y."""

    event: IntArray
    charge: IntArray
    x: FloatArray
    y: FloatArray
    z: FloatArray
    momentum: FloatArray
    slope_x: FloatArray
    slope_y: FloatArray
    bend: FloatArray


class Hits(NamedTuple):
    """Event, packed IDs (see `Readout`) and time [counts] of hits, each of shape (n_hits,)."""

    event: IntArray
    cell: IntArray
    time: IntArray


def draw_tracks(rng: np.random.Generator, n_per_event: IntArray) -> Tracks:
    """Return muons from the dump and the target.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where chance comes from.
    n_per_event : ndarray of int64, shape (n_events,)
        Number of muons in each event.
    """
    event = np.repeat(np.arange(n_per_event.size), n_per_event)
    size = event.size
    charge = rng.integers(0, 2, size) * 2 - 1
    x, y = rng.normal(0.0, MUONS["beam_cm"], (2, size))
    depth = np.minimum(rng.exponential(MUONS["dump_depth_cm"], size), 450.0)
    target = next(outline.z_low for outline in OUTLINES if outline.name == "target")
    z = np.where(rng.random(size) < MUONS["dump_fraction"], depth, target)
    momentum = np.minimum(15.0 + rng.gamma(3.0, 10.0, size), 110.0)
    slope_x = rng.normal(0.0, MUONS["transverse_GeV"][0], size) / momentum
    slope_y = rng.normal(0.0, MUONS["transverse_GeV"][1], size) / momentum
    return Tracks(event, charge, x, y, z, momentum, slope_x, slope_y, charge * KICK / momentum)


def track_position(tracks: Tracks | Mapping[str, Any], z: Any) -> tuple[FloatArray, FloatArray]:
    """Return x and y [cm] of tracks at z: straight lines, a parabola in x inside the second magnet.

    Parameters
    ----------
    tracks : Tracks, or a table with its columns
        For example the Parquet file beside a simulated spill, as a polars frame.
    z : float or ndarray of shape (..., 1) or (n_tracks,)
        Where along the beam [cm].
    """
    get = tracks._asdict() if isinstance(tracks, Tracks) else tracks
    start_x, start_y, start_z, slope_x, slope_y, bend = (
        np.asarray(get[name], dtype=np.float64) for name in ("x", "y", "z", "slope_x", "slope_y", "bend")
    )
    magnet = next(outline for outline in OUTLINES if outline.name == "KMAG")
    length = magnet.z_high - magnet.z_low
    where = np.asarray(z, dtype=np.float64)
    inside = np.clip(where - magnet.z_low, 0.0, length)
    beyond = np.maximum(where - magnet.z_high, 0.0)
    x = start_x + slope_x * (where - start_z) + bend * (inside**2 / (2 * length) + beyond)
    return x, start_y + slope_y * (where - start_z)


def cross(geometry: Geometry, readout: Readout, tracks: Tracks) -> tuple[IntArray, IntArray, FloatArray]:
    """Return which tracks cross which elements: index of the track, channel, distance [cm] from its middle.

    The nearest element of a plane is taken if the track passes its cell (between the tubes there are gaps)
    inside the frame of the plane.
    """
    number = np.array([plane.detector_id for plane in readout.planes])
    column = {
        name: np.array([getattr(plane, name) for plane in readout.planes])[:, np.newaxis]
        for name in ("z0", "x0", "y0", "theta_z", "angle", "width", "height")
    }
    x, y = track_position(tracks, column["z0"])
    turn = column["theta_z"]
    local_x = (x - column["x0"]) * np.cos(turn) + (y - column["y0"]) * np.sin(turn)
    local_y = (y - column["y0"]) * np.cos(turn) - (x - column["x0"]) * np.sin(turn)
    inside = (np.abs(local_x) <= column["width"] / 2) & (np.abs(local_y) <= column["height"] / 2)
    along = column["angle"] + turn
    where = x * np.cos(along) + y * np.sin(along)
    first = element_position(geometry, number, 1)[:, np.newaxis]
    pitch = element_position(geometry, number, 2)[:, np.newaxis] - first  # negative if they count backwards
    element = np.rint((where - first) / pitch)
    distance = where - first - element * pitch
    cell = [min(plane.pitch / 2, plane.drift_maximum or plane.pitch) for plane in readout.planes]
    inside &= np.abs(distance) <= np.array(cell)[:, np.newaxis]
    inside &= (element >= 0) & (element < readout.n_elements[:, np.newaxis])
    track, row = np.nonzero(inside.T)
    return track, readout.first[row] + element.astype(np.int64)[row, track], distance[row, track]


def track_times(
    rng: np.random.Generator, readout: Readout, channel: IntArray, distance: FloatArray
) -> IntArray:
    """Return TDC times [counts] for distances from wires, of bars around the middle of their window."""
    row, cell = readout.row[channel], readout.cell[channel]
    largest = np.array([plane.drift_maximum or plane.pitch / 2 for plane in readout.planes])[row]
    smear = rng.standard_normal(channel.size) * readout.spread[row]
    step = np.abs(distance + np.where(readout.is_bar[row], 0.0, smear)) / largest * FINE
    drift = readout.count_of_distance[row, np.minimum(step.astype(np.int64), FINE - 1)]
    low, high = readout.low[cell], readout.high[cell]
    count = np.where(readout.is_bar[row], (low + high) / 2 + smear, np.clip(drift, low, high))
    return np.asarray(np.clip(np.rint(count), low, high).astype(np.int64))


class Trigger:
    """Emulates NIM and matrix logic on the in-time hodoscope hits of a block of events.

    NIM1: H1, H2, H4Y1 and H4Y2 in the upper or in the lower half (the halves of the online monitor; H2
    element 10 belongs to neither). NIM2: all four X planes, top or bottom. NIM3: both. NIM4: random.
    FPGA1-3: two muon roads of the X planes in opposite halves with opposite charges, in one half with
    opposite charges, in opposite halves with equal charges; FPGA4: a road; FPGA5: a steep one. A road is a
    bar of H1 and one of H4 with bars of H2 and H3 within one of where a track from the dump would pass.
    """

    def __init__(self, geometry: Geometry, readout: Readout) -> None:
        self.names = [plane.name for plane in readout.planes]
        self.first, self.n_elements = readout.first, readout.n_elements
        self.channel = np.full(N_DETECTORS * N_ELEMENTS, -1, dtype=np.int64)
        bars = np.flatnonzero([self.names[row].startswith("H") for row in readout.row])
        self.channel[readout.cell[bars]] = bars
        self.n_channels = readout.row.size
        self.roads = {half: self._roads(geometry, half) for half in "TB"}

    def _roads(self, geometry: Geometry, half: str) -> tuple[NDArray[Any], ...]:
        """Return elements of H1 and H4, masks of H2 and H3, bending angle, slope of each road of a half."""
        names = [f"H{station}{half}" for station in (1, 2, 3, 4)]
        if not set(names) <= set(self.names):
            return ()
        planes = [geometry.plane(name) for name in names]
        x = [element_position(geometry, p.detector_id, np.arange(1, p.n_elements + 1)) for p in planes]
        z = [plane.z0 for plane in planes]
        middle = 1064.26  # of the second magnet
        one, four = (index.ravel() for index in np.indices((x[0].size, x[3].size)))
        upstream = x[0][one] / (z[0] - MUONS["dump_depth_cm"])
        at_magnet = x[0][one] + upstream * (middle - z[0])
        downstream = (x[3][four] - at_magnet) / (z[3] - middle)
        keep = np.abs(downstream - upstream) < _LARGEST_KICK
        masks = [
            np.abs((at_magnet + downstream * (z[i] - middle))[:, np.newaxis] - x[i]) < 1.5 * planes[i].pitch
            for i in (1, 2)
        ]
        return (
            one[keep],
            four[keep],
            masks[0][keep],
            masks[1][keep],
            (downstream - upstream)[keep],
            upstream[keep],
        )

    def logic(self, hits: Hits, in_time: NDArray[np.bool_], n_events: int) -> NDArray[np.bool_]:
        """Return which logic is satisfied in each event, of shape (n_events, 10); NIM4 and NIM5 never."""
        channel = self.channel[np.where(in_time, hits.cell, 0)]
        rows = np.flatnonzero(channel >= 0)
        fired = np.zeros((n_events, self.n_channels), dtype=bool)
        fired[hits.event[rows], channel[rows]] = True

        def plane(name: str, low: int = 1, high: int = 99) -> NDArray[np.bool_]:
            if name not in self.names:
                return np.zeros((n_events, 0), dtype=bool)
            row = self.names.index(name)
            begin, size = self.first[row], self.n_elements[row]
            return fired[:, begin + low - 1 : begin + min(high, size)]

        def half(*limits: tuple[str, int, int]) -> NDArray[np.bool_]:
            sides = [
                np.any(plane(f"{name}L", low, high), axis=1) | np.any(plane(f"{name}R", low, high), axis=1)
                for name, low, high in limits
            ]
            return np.asarray(np.all(sides, axis=0))

        result = np.zeros((n_events, len(TRIGGERS)), dtype=bool)
        result[:, 5] = half(("H1", 11, 20), ("H2", 11, 19), ("H4Y1", 9, 16), ("H4Y2", 9, 16))
        result[:, 5] |= half(("H1", 1, 10), ("H2", 1, 9), ("H4Y1", 1, 8), ("H4Y2", 1, 8))
        roads = {side: np.zeros((4, n_events), dtype=bool) for side in "TB"}
        for side in "TB":
            stations = [plane(f"H{station}{side}") for station in (1, 2, 3, 4)]
            result[:, 6] |= np.all([station.any(axis=1) for station in stations], axis=0)
            if self.roads[side]:
                roads[side] = _fired_roads(stations, self.roads[side])
        result[:, 7] = result[:, 5] & result[:, 6]
        (top_plus, top_minus, top_steep, top), (plus, minus, steep, bottom) = roads["T"], roads["B"]
        result[:, 0] = (top_plus & minus) | (top_minus & plus)
        result[:, 1] = (top_plus & top_minus) | (plus & minus)
        result[:, 2] = (top_plus & plus) | (top_minus & minus)
        result[:, 3] = top | bottom
        result[:, 4] = top_steep | steep
        return result


def _fired_roads(stations: list[NDArray[np.bool_]], roads: tuple[NDArray[Any], ...]) -> NDArray[np.bool_]:
    """Return whether a positive, a negative, a steep, and any road fired, of shape (4, n_events)."""
    one, four, second, third, kick, slope = roads
    hit = stations[0][:, one] & stations[3][:, four]
    for station, mask in ((stations[1], second), (stations[2], third)):
        hit &= station.astype(np.float32) @ mask.T.astype(np.float32) > 0
    chosen = (kick > _CHARGE_FROM, kick < -_CHARGE_FROM, np.abs(slope) > _HIGH_PT, slice(None))
    return np.stack([hit[:, which].any(axis=1) for which in chosen])
