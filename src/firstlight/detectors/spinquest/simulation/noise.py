"""Read-out and background of a simulated SpinQuest spill.

Rates are rounded facts of real spills; the shapes of the illumination are a parametrisation of our own. All
hits of an event are drawn independently, except for what makes real hits more variable than Poisson counts:
the two photomultipliers of each H4 bar, afterpulses, and bursts of a whole front-end card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.spinquest.geometry import (
    drift_distance,
    drift_time,
    element_position,
    in_time_window,
    wire_ends,
)
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from firstlight.detectors.spinquest.geometry import Geometry, Plane

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    Smooth = Callable[[FloatArray], FloatArray]

__all__ = ["CONSTANTS", "Noise", "Readout", "build_noise", "build_readout", "copies", "draw_background"]

TICK = 4.0 / 9.0  # ns per count of the TDC
N_TICKS, N_DETECTORS, N_ELEMENTS = 8192, 128, 1024  # sizes of the fields of a packed hit
FINE = 4096  # steps of drift distance in the inverted X-T relations

# all numbers of the model that the record of the truth repeats
CONSTANTS: dict[str, Any] = {
    "efficiency": {"chamber": 0.95, "prop_tube": 0.94, "hodoscope": 0.98, "dark_photon": 0.97},
    "efficiency_photomultiplier": 0.95,  # of each of the two of an H4 bar
    "resolution_cm": {"D0": 0.02, "D1": 0.02, "D2": 0.04, "D3": 0.03, "P": 0.06},
    "time_spread_ns": {"hodoscope": 2.5, "dark_photon": 3.0},
    "accelerator_bucket_ns": 18.83,
    "in_time_half_width_ns": 9.4,  # of a hodoscope bar: half the distance of two buckets
    "in_time_background": 0.793,  # of all hits 0.79 are in time, see the tests
    "afterpulse": {"chamber": 0.05, "prop_tube": 0.05, "hodoscope": 0.01, "dark_photon": 0.01},
    "afterpulse_ns": 60.0,  # mean delay
    "burst_share": {"D0": 0.02, "D1": 0.02, "D2": 0.06, "D3": 0.06, "P": 0.06},  # of the background
    "burst_elements": 0.8,  # of a card take part
    "burst_hits": 5.0,  # mean hits of each, geometric
    "burst_spacing_ns": 30.0,
    "card": {"chamber": 16, "prop_tube": 8},
    "quiet_fraction": 0.07,  # events with next to nothing in them
    "quiet_hits": 0.0075,  # their mean, in units of the mean of all
    "spread_of_logarithm": 1.2,  # of the multiplicity of the others
    "median_before_saturation": 0.69,  # in units of the mean
    "saturation": 5.8,  # where the read-out is full, in units of the mean
    "sharpness": 1.8,
}

# Hits per event in real spills of run 5994, rounded; D0Vp (dead there) like its partner, D1 (absent) like D0.
# fmt: off
RATES = {
    "D0U": 73, "D0Up": 68, "D0X": 49, "D0Xp": 50, "D0V": 78, "D0Vp": 75,
    "D1U": 60, "D1Up": 60, "D1X": 60, "D1Xp": 60, "D1V": 60, "D1Vp": 60,
    "D2V": 34.5, "D2Vp": 30.7, "D2Xp": 27.4, "D2X": 27.4, "D2U": 31.4, "D2Up": 30,
    "D3pVp": 25, "D3pV": 25.6, "D3pXp": 17.4, "D3pX": 18, "D3pUp": 23.3, "D3pU": 22.3,
    "D3mVp": 23.2, "D3mV": 23.7, "D3mXp": 18, "D3mX": 18, "D3mUp": 24, "D3mU": 23.6,
    "H1B": 40, "H1T": 40, "H1L": 32, "H1R": 25, "H2L": 12, "H2R": 8.8, "H2B": 10, "H2T": 9.9,
    "H3B": 4.4, "H3T": 4.4, "H4Y1L": 8.2, "H4Y1R": 6.2, "H4Y2L": 3.4, "H4Y2R": 4.7, "H4B": 7.1, "H4T": 7.2,
    "P1Y1": 12.8, "P1Y2": 12.8, "P1X1": 14.8, "P1X2": 14.4, "P2X1": 4.7, "P2X2": 5, "P2Y1": 11, "P2Y2": 13.4,
    "DP1TL": 5.4, "DP1TR": 3.6, "DP1BL": 5.1, "DP1BR": 3.4,
    "DP2TL": 1.15, "DP2TR": 0.77, "DP2BL": 1.3, "DP2BR": 0.95,
}
# fmt: on
_RATE_PER_ELEMENT = 0.2  # of planes that are not in the table
_CENTRAL_DIP = {"St. 1": 0.15, "St. 2": 0.1, "St. 3": 0.35}  # illumination at the beam relative to the edge


@dataclass(frozen=True)
class Readout:
    """The simulated planes as arrays. A *row* is a plane, a *channel* an element, a *cell* its packed IDs.

    Parameters
    ----------
    planes : tuple of Plane
        Those that always exist, in the order of detector IDs.
    detector, first, n_elements : ndarray of int64, shape (n_planes,)
        Detector IDs; channel of element 1; elements that always exist.
    is_bar : ndarray of bool, shape (n_planes,)
        Hodoscopes and dark-photon planes, which have no drift.
    efficiency : ndarray of float64, shape (n_planes,)
        For a particle, of one photomultiplier for H4.
    n_photomultipliers, afterpulse, spread, histogram : ndarray, shape (n_planes,) or (n_planes, 2)
        Number that can give a hit each; probability of an afterpulse; resolution [cm], of bars [counts];
        range of times [counts].
    row, cell : ndarray of int64, shape (n_channels,)
        Plane, and detector ID * N_ELEMENTS + element ID.
    count_of_distance : ndarray of float32, shape (n_planes, FINE)
        Inverted X-T relations [counts] against the distance in units of the drift maximum.
    distance_of_count : ndarray of float32, shape (N_DETECTORS, N_TICKS)
        X-T relations [cm], constant outside the time window.
    low, high : ndarray of int64, shape (N_DETECTORS * N_ELEMENTS,)
        In-time window of each cell [counts], both included.
    position : ndarray of float32, shape (N_DETECTORS * N_ELEMENTS,)
        Of each cell [cm], 0 where there is none.
    """

    planes: tuple[Plane, ...]
    detector: IntArray
    first: IntArray
    n_elements: IntArray
    is_bar: NDArray[np.bool_]
    efficiency: FloatArray
    n_photomultipliers: IntArray
    afterpulse: FloatArray
    spread: FloatArray
    histogram: FloatArray
    row: IntArray
    cell: IntArray
    count_of_distance: NDArray[np.float32]
    distance_of_count: NDArray[np.float32]
    low: IntArray
    high: IntArray
    position: NDArray[np.float32]

    @property
    def hits_per_particle(self) -> FloatArray:
        """Mean hits that a particle leaves in each plane, of shape (n_planes,)."""
        return self.efficiency * self.n_photomultipliers * (1 + self.afterpulse)

    @property
    def plane_efficiency(self) -> FloatArray:
        """Probability of at least one hit of a particle in each plane, of shape (n_planes,)."""
        return np.asarray(1 - (1 - self.efficiency) ** self.n_photomultipliers)


def family(plane: Plane) -> str:
    """Return ``D0``, ``D1``, ``D2``, ``D3``, ``P``, ``H`` or ``DP``: what planes have constants in common."""
    if plane.kind == "chamber":
        return plane.name[:2]
    return {"prop_tube": "P", "hodoscope": "H", "dark_photon": "DP"}[plane.kind]


def build_readout(geometry: Geometry) -> Readout:
    """Return the planes of a geometry that always exist (not D1), ready for simulation.

    Raises
    ------
    ConfigError
        If an ID is too large for the simulation.
    """
    planes = tuple(
        plane
        for plane in (geometry.plane(int(number)) for number in geometry.planes["detector_id"])
        if plane.n_elements > plane.n_optional
    )
    for plane in planes:
        if plane.detector_id >= N_DETECTORS or plane.n_elements >= N_ELEMENTS - 16:
            what = f"plane {plane.name} has too large numbers: below {N_DETECTORS} and {N_ELEMENTS - 16} is simulated"
            raise ConfigError(what, where=f"geometry {geometry.version}")
    n_elements = np.array([plane.n_elements - plane.n_optional for plane in planes], dtype=np.int64)
    detector = np.array([plane.detector_id for plane in planes], dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(n_elements)[:-1]]).astype(np.int64)
    row = np.repeat(np.arange(len(planes)), n_elements)
    element = np.arange(row.size) - first[row] + 1
    cell = detector[row] * N_ELEMENTS + element
    pmts = np.array([2 if plane.name.startswith("H4") else 1 for plane in planes], dtype=np.int64)
    single = np.array([CONSTANTS["efficiency"][plane.kind] for plane in planes])
    is_bar = np.array([plane.kind in {"hodoscope", "dark_photon"} for plane in planes])
    size = N_DETECTORS * N_ELEMENTS
    low, high, position = np.full(size, N_TICKS), np.full(size, -1), np.zeros(size, dtype=np.float32)
    position[cell] = element_position(geometry, detector[row], element)
    forward = np.zeros((N_DETECTORS, N_TICKS), dtype=np.float32)
    inverse = np.zeros((len(planes), FINE), dtype=np.float32)
    for index, plane in enumerate(planes):
        own = cell[first[index] : first[index] + n_elements[index]]
        if is_bar[index]:
            middle = np.rint(_bar_times(plane)[: own.size] / TICK).astype(np.int64)
            half = round(CONSTANTS["in_time_half_width_ns"] / TICK)
            low[own], high[own] = middle - half, middle + half
        else:
            edges = _window(plane)
            low[own], high[own] = np.ceil(edges[0] / TICK), np.floor(edges[1] / TICK)
            forward[plane.detector_id], inverse[index] = _drift_tables(plane, edges)
    return Readout(
        planes,
        detector,
        first,
        n_elements,
        is_bar,
        np.where(pmts == 2, CONSTANTS["efficiency_photomultiplier"], single),
        pmts,
        np.array([CONSTANTS["afterpulse"][plane.kind] for plane in planes]),
        np.array([_spread(plane) for plane in planes]),
        np.array([(plane.tdc_histogram_low / TICK, plane.tdc_histogram_high / TICK) for plane in planes]),
        row,
        cell,
        inverse,
        forward,
        low,
        high,
        position,
    )


def _spread(plane: Plane) -> float:
    """Return the resolution of a plane [cm], of bars the spread of the times [counts]."""
    if plane.kind in CONSTANTS["time_spread_ns"]:
        return float(CONSTANTS["time_spread_ns"][plane.kind]) / TICK
    return float(CONSTANTS["resolution_cm"].get(family(plane), 0.04))


def _bar_times(plane: Plane) -> FloatArray:
    """Return the centre of the in-time peak of each bar [ns]: cables differ, and never change."""
    cables = np.random.default_rng([1039, plane.detector_id])
    peak = 1150.0 + 25.0 * cables.standard_normal()
    return np.asarray(peak + 3.0 * cables.standard_normal(plane.n_elements))


def _window(plane: Plane) -> tuple[float, float]:
    window = in_time_window(plane)
    if window is not None:
        return window
    width = plane.tdc_histogram_high - plane.tdc_histogram_low
    return plane.tdc_histogram_low + 0.35 * width, plane.tdc_histogram_low + 0.75 * width


def _drift_tables(
    plane: Plane, window: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return distance [cm] against counts, and counts against distance; linear if no relation is known."""
    largest = plane.drift_maximum or plane.pitch / 2
    distance = (np.arange(FINE) + 0.5) / FINE * largest
    time = np.clip(np.arange(N_TICKS) * TICK, *window)
    if plane.drift_curve:
        distances, times = drift_distance(time, plane), drift_time(distance, plane)
    else:
        distances = (window[1] - time) / (window[1] - window[0]) * largest
        times = window[1] - distance / largest * (window[1] - window[0])
    return distances.astype(np.float32), (times / TICK).astype(np.float32)


def illumination(geometry: Geometry, plane: Plane, n_elements: int) -> FloatArray:
    """Return the relative rate of background in elements 1 .. n of a plane, of sum 1.

    Bending views rise from the beam to both sides (the first magnet sweeps muons out), Y views peak at the
    beam, dark-photon planes fall from their inner edge. Short wires see less.
    """
    element = np.arange(1, n_elements + 1)
    where = element_position(geometry, plane.detector_id, element)
    ends = wire_ends(geometry, plane.detector_id, element)
    length = np.hypot(ends[3] - ends[0], ends[4] - ends[1])
    reach = np.abs(where).max()
    if plane.kind == "dark_photon":
        rate = (1 + (np.abs(where) - np.abs(where).min()) / (0.1 * plane.height)) ** -1.3
    elif plane.view == "Y":
        width = (0.45 if plane.station == "St. 1" else 0.29) * reach
        rate = 0.03 + 1 / (1 + (where / width) ** 2)
    else:
        dip = _CENTRAL_DIP.get(plane.station, 0.13)
        rate = (dip + (1 - dip) * np.abs(where / reach) ** 1.6) * (1 - 0.1 * where / reach)
    rate = rate * length / length.max()
    return np.asarray(rate / rate.sum())


@dataclass(frozen=True)
class Noise:
    """Background of a spill. It starts from seeds, each of which gives one hit, some, or a burst.

    Parameters
    ----------
    mean_seeds : float
        Seeds of an event that is not quiet, before the multiplicity is drawn.
    quiet_seeds : float
        Mean seeds of a quiet event.
    cumulative : ndarray of float64, shape (n_channels,)
        Integral of the probability that a seed falls on a channel.
    burst : ndarray of float64, shape (n_planes,)
        Probability that a seed is a burst of its card.
    card_first, card_size : ndarray of int64, shape (n_channels,)
        First channel of the card of a channel, and number of channels on it.
    particle_hits, burst_hits : ndarray of float64, shape (n_channels,)
        Mean hits per seed in each channel.
    normal_rate : ndarray of float64, shape (n_channels,)
        Mean hits per event, with those of tracks.
    """

    mean_seeds: float
    quiet_seeds: float
    cumulative: FloatArray
    burst: FloatArray
    card_first: IntArray
    card_size: IntArray
    particle_hits: FloatArray
    burst_hits: FloatArray
    normal_rate: FloatArray


def saturated(normal: FloatArray) -> FloatArray:
    """Return multiplicities for standard normal numbers: lognormal, bent to a largest value."""
    value = CONSTANTS["median_before_saturation"] * np.exp(CONSTANTS["spread_of_logarithm"] * normal)
    power = CONSTANTS["sharpness"]
    return np.asarray(value / (1 + (value / CONSTANTS["saturation"]) ** power) ** (1 / power))


def build_noise(geometry: Geometry, readout: Readout, mean_hits: float, track_hits: FloatArray) -> Noise:
    """Return the background that makes up for what tracks do not give.

    Parameters
    ----------
    geometry : Geometry
        For the positions.
    readout : Readout
        Planes.
    mean_hits : float
        Hits per event, averaged over all events.
    track_hits : ndarray of float64, shape (n_channels,)
        Mean hits of tracks per event.

    Raises
    ------
    ConfigError
        If the tracks alone give more hits.
    """
    from scipy.special import ndtri

    rows = np.arange(len(readout.planes))
    of_tracks = np.bincount(readout.row, weights=track_hits, minlength=rows.size)
    if of_tracks.sum() > 0.98 * mean_hits:
        what = f"tracks alone give {of_tracks.sum():.1f} hits per event, more than mean_hits = {mean_hits:g} allows"
        raise ConfigError(what, hint="fewer tracks (n_tracks) or more hits (mean_hits)")
    wanted = np.array([RATES.get(p.name, _RATE_PER_ELEMENT * p.n_elements) for p in readout.planes])
    wanted = wanted * mean_hits / wanted.sum()
    background = np.maximum(wanted - of_tracks, 0.1 * wanted)
    background *= (mean_hits - of_tracks.sum()) / background.sum()

    profile = np.concatenate(
        [illumination(geometry, p, int(n)) for p, n in zip(readout.planes, readout.n_elements, strict=True)]
    )
    card = np.array([CONSTANTS["card"].get(plane.kind, 1) for plane in readout.planes])[readout.row]
    element = readout.cell % N_ELEMENTS
    card_first = readout.first[readout.row] + (element - 1) // card * card
    card_size = np.minimum(card, readout.first[readout.row] + readout.n_elements[readout.row] - card_first)
    share = np.array([CONSTANTS["burst_share"].get(family(plane), 0.0) for plane in readout.planes])
    each = CONSTANTS["burst_elements"] * CONSTANTS["burst_hits"]
    of_burst = each * np.bincount(readout.row, weights=profile * card_size)
    of_hit = readout.hits_per_particle
    of_hit = of_hit / np.where(readout.n_photomultipliers == 1, readout.efficiency, 1.0)  # a seed is a hit
    burst = share * of_hit / (of_burst * (1 - share) + share * of_hit)
    gain = (1 - burst) * of_hit + burst * of_burst
    seeds = background / gain
    probability = (seeds / seeds.sum())[readout.row] * profile

    on_card = np.bincount(card_first, weights=probability, minlength=card_first.size)[card_first]
    particle = probability * ((1 - burst) * of_hit)[readout.row]
    noisy = burst[readout.row] * each * on_card
    quiet = CONSTANTS["quiet_fraction"]
    quiet_seeds = CONSTANTS["quiet_hits"] * seeds.sum()
    average = saturated(ndtri((np.arange(20_000) + 0.5) / 20_000)).mean()
    mean_seeds = (seeds.sum() - quiet * quiet_seeds) / (1 - quiet) / average
    return Noise(
        float(mean_seeds),
        float(quiet_seeds),
        np.cumsum(probability) / probability.sum(),
        burst,
        card_first,
        card_size,
        particle,
        noisy,
        (particle + noisy) * seeds.sum() + track_hits,
    )


def draw_background(
    rng: np.random.Generator, readout: Readout, noise: Noise, n_seeds: IntArray
) -> tuple[tuple[IntArray, IntArray, IntArray], tuple[IntArray, IntArray, IntArray]]:
    """Return event, channel and time [counts] of the particles, and of the bursts, of a block of events.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where chance comes from.
    readout, noise : Readout, Noise
        The planes and their background.
    n_seeds : ndarray of int64, shape (n_events,)
        Seeds of each event.
    """
    event = np.repeat(np.arange(n_seeds.size), n_seeds)
    channel = np.minimum(
        np.searchsorted(noise.cumulative, rng.random(event.size), side="right"), noise.cumulative.size - 1
    )
    is_burst = rng.random(event.size) < noise.burst[readout.row[channel]]
    bursts = _draw_bursts(rng, readout, noise, event[is_burst], channel[is_burst])
    event, channel = event[~is_burst], channel[~is_burst]
    count = _draw_times(rng, readout, channel)
    return copies(rng, readout, event, channel, count, certain=True), bursts


def _draw_times(rng: np.random.Generator, readout: Readout, channel: IntArray) -> IntArray:
    """Return times [counts] of background, in time or not."""
    row, cell = readout.row[channel], readout.cell[channel]
    low, high = readout.low[cell], readout.high[cell]
    in_time = rng.random(channel.size) < CONSTANTS["in_time_background"]
    uniform = rng.random(channel.size)
    drift = readout.count_of_distance[row, (uniform * FINE).astype(np.int64)]
    first, last = readout.histogram[row].T
    outside = first + uniform * (last - first - (high - low) - 1)
    outside += np.where(outside < low, 0, high - low + 1)
    count = np.where(in_time, np.clip(np.rint(drift), low, high), np.rint(outside))
    bars = np.flatnonzero(readout.is_bar[row])
    bucket = np.floor(uniform[bars] * 32) - 16
    bucket += bucket >= 0  # the 16 buckets before and after the right one
    bucket *= ~in_time[bars] * (CONSTANTS["accelerator_bucket_ns"] / TICK)
    jitter = rng.standard_normal(bars.size) * readout.spread[row[bars]]
    count[bars] = np.rint((low[bars] + high[bars]) / 2 + bucket + jitter)
    return np.asarray(count.astype(np.int64))


def copies(
    rng: np.random.Generator,
    readout: Readout,
    event: IntArray,
    channel: IntArray,
    count: IntArray,
    *,
    certain: bool,
) -> tuple[IntArray, IntArray, IntArray]:
    """Return the hits of particles: lost ones taken out, second photomultipliers and afterpulses put in.

    Parameters
    ----------
    rng, readout : Generator, Readout
        Chance and planes.
    event, channel, count : ndarray of int64, shape (n,)
        Event, channel and time of each particle.
    certain : bool
        Whether planes with one signal always give a hit (background, which is counted in hits).
    """
    row = readout.row[channel]
    lucky = rng.random(channel.size) < readout.efficiency[row]
    double = np.flatnonzero(readout.n_photomultipliers[row] == 2)
    number = np.ones(channel.size, dtype=np.int64) if certain else lucky.astype(np.int64)
    number[double] = lucky[double].astype(np.int64) + (
        rng.random(double.size) < readout.efficiency[row[double]]
    )
    chosen = np.repeat(np.arange(channel.size), number)
    second = np.flatnonzero(chosen[1:] == chosen[:-1]) + 1
    time = count[chosen]
    time[second] += np.rint(rng.standard_normal(second.size) * 2.0).astype(np.int64)
    after = np.flatnonzero(rng.random(chosen.size) < readout.afterpulse[row[chosen]])
    delay = 20 + rng.exponential(CONSTANTS["afterpulse_ns"] / TICK, after.size)
    time = np.concatenate([time, time[after] - np.rint(delay).astype(np.int64)])
    chosen = np.concatenate([chosen, chosen[after]])
    return event[chosen], channel[chosen], time


def _draw_bursts(
    rng: np.random.Generator, readout: Readout, noise: Noise, event: IntArray, channel: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Return event, channel and time of the hits of cards that oscillate, given their seeds."""
    size = noise.card_size[channel]
    which = np.repeat(np.arange(channel.size), size)
    begin = np.cumsum(size) - size
    own = noise.card_first[channel][which] + np.arange(which.size) - begin[which]
    first, last = readout.histogram[readout.row[channel]].T
    start = rng.uniform(first, last)
    hits = rng.geometric(1 / CONSTANTS["burst_hits"], which.size)
    hits = hits * (rng.random(which.size) < CONSTANTS["burst_elements"])
    chosen = np.repeat(np.arange(which.size), hits)
    order = np.arange(chosen.size) - (np.cumsum(hits) - hits)[chosen]
    jitter = rng.standard_normal(chosen.size) * 4
    count = start[which][chosen] - order * CONSTANTS["burst_spacing_ns"] / TICK + jitter
    # the late end of a burst comes in again at the early side: no hit is outside the range of the TDC
    low, width = first[which][chosen], (last - first)[which][chosen]
    count = low + (count - low) % width
    return event[which][chosen], own[chosen], np.rint(count).astype(np.int64)
