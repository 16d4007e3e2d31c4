"""Simulated ETROC2 chips: a telescope of them in a beam, and charge injection into one pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.detectors.etroc.simulation.beam import (
    PERIOD,
    draw_hits,
    per_board,
    toa_codes,
    tot_codes,
)
from firstlight.detectors.etroc.simulation.packets import Packets, make_packets
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["STUCK", "pixel_calibration", "simulate_chips", "simulate_probe"]

N_PIXELS = 16  # in a row and in a column
PITCH = 1.3  # of pixels [mm]
CAL_OF_HALF = (179.0, 170.0)  # columns 0-7, columns 8-15
STUCK = {"toa": 819, "tot": 480, "cal": 587}  # codes of a converter that does not run
_GAPS = (40, 3500)  # bunch crossings between triggers: never a whole turn, so neighbours differ
_WINDOW = (3.0, 9.5)


def pixel_calibration(
    rng: np.random.Generator, spread: float = 1.5, halves: tuple[float, float] = CAL_OF_HALF
) -> NDArray[np.float64]:
    """Return the true calibration of each pixel, with the step between the halves of the chip.

    Parameters
    ----------
    rng : Generator
        Source of random numbers.
    spread : float
        Width of the differences between pixels.
    halves : tuple of float
        Mean of columns 0 to 7 and of 8 to 15.

    Returns
    -------
    ndarray, shape (16, 16)
        By row and column.
    """
    middle = np.repeat(halves, N_PIXELS // 2)
    return np.asarray(middle + rng.normal(0.0, spread, (N_PIXELS, N_PIXELS)))


def simulate_chips(
    seed: int | np.random.Generator = 1,
    n_events: int = 5000,
    *,
    links: Sequence[int] = (0, 4, 8),
    chip_ids: Sequence[int] | None = None,
    l1a_offsets: ArrayLike = 0,
    sigma_ns: ArrayLike = (0.040, 0.045, 0.050),
    tot_middle_ns: ArrayLike = (4.0, 4.3, 4.6),
    offsets_ns: ArrayLike = (0.0, 0.35, 0.6),
    walk: Literal["polynomial", "exponential"] = "polynomial",
    walk_linear: ArrayLike = (-0.06, -0.08, -0.07),
    walk_quadratic: ArrayLike = (0.010, 0.012, 0.008),
    tail_fraction: float = 0.0,
    tail_scale: float = 4.0,
    efficiency: ArrayLike = 0.95,
    spot_mm: tuple[float, float] = (3.0, 2.4),
    shift_mm: float = 0.4,
    pixel_offset_ns: float = 0.0,
    empty_fraction: float = 0.2,
    second_fraction: float = 0.02,
    noise_fraction: float = 0.03,
    missing_fraction: float = 0.002,
    cal_spread: float = 1.5,
    cal_width: float = 0.4,
    cal_outliers: float = 0.002,
) -> tuple[Packets, dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the packets of a telescope of ETROC2 chips in a beam.

    A trigger makes a packet of each chip, with or without hits; hits of a particle on all chips share its
    time.

    Parameters
    ----------
    seed : int or Generator
        Fixes every number.
    n_events : int
        Triggers.
    links : sequence of int
        E-link or channel of each chip, in the order of the stream; lists of numbers below are repeated as
        needed.
    chip_ids : sequence of int, optional
        Numbers of the chips; by default 0x10CF4 and the following.
    l1a_offsets : array_like
        What the trigger counter of each chip is ahead by.
    sigma_ns, tot_middle_ns, offsets_ns, walk, walk_linear, walk_quadratic, tail_fraction, tail_scale
        As for `beam.simulate_telescope`.
    efficiency : array_like
        Probability that a chip sees a particle that crosses it.
    spot_mm : tuple of float
        Width of the beam in x (columns) and y (rows).
    shift_mm : float
        Width of the shifts of chips against each other.
    pixel_offset_ns : float
        Width of the differences in time between pixels.
    empty_fraction : float
        Triggers without a particle.
    second_fraction : float
        Hits that come with a hit in a neighbour pixel, smaller and later.
    noise_fraction : float
        Mean number of random hits per packet.
    missing_fraction : float
        Packets that are lost as a whole.
    cal_spread, cal_width, cal_outliers : float
        Calibration codes: differences between pixels, width in a pixel, fraction of wrong ones (20 to 899).

    Returns
    -------
    packets : Packets
        In the order of triggers and links.
    truth : dict
        The parameters; ``packets``, ``missing_packets``, ``hits``, ``hits_by_link``, ``noise_hits``,
        ``second_hits``, ``complete_events`` (the particle was seen by all chips), ``expected_sigma_ns``.
    arrays : dict of str to ndarray
        Of hits: ``source`` (0 particle, 1 neighbour, 2 noise), ``time_ns``, ``tot_ns``, ``jitter_ns`` (NaN
        for noise), ``chip`` (index). Of chips: ``calibration`` and ``pixel_offset_ns``, shape (n_chips, 16,
        16).

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """
    n_chips = len(links)
    fractions = (tail_fraction, empty_fraction, second_fraction, missing_fraction, cal_outliers)
    fine = n_chips > 0 and len(set(links)) == n_chips and set(links) <= set(range(256)) and n_events >= 0
    if not fine or noise_fraction < 0 or not all(0 <= value <= 1 for value in fractions):
        what = f"{n_events} events of chips on links {list(links)} cannot be simulated"
        raise ConfigError(what, hint="different links from 0 to 255, fractions from 0 to 1")
    rng = np.random.default_rng(seed)
    sigma, middle, offsets, linear, quadratic, efficient = (
        per_board(values, n_chips)
        for values in (sigma_ns, tot_middle_ns, offsets_ns, walk_linear, walk_quadratic, efficiency)
    )
    identities = np.resize(np.asarray(chip_ids), n_chips) if chip_ids else 0x10CF4 + np.arange(n_chips)
    counters = np.resize(np.asarray(l1a_offsets, dtype=np.int64), n_chips)
    calibration = np.stack([pixel_calibration(rng, cal_spread) for _ in links])
    pixel_offset = rng.normal(0.0, pixel_offset_ns, calibration.shape)

    particle = rng.uniform(*_WINDOW, n_events)
    place = rng.normal(0.0, spot_mm, (n_events, 2))
    there = rng.random(n_events) >= empty_fraction
    bcid = np.cumsum(rng.integers(*_GAPS, n_events)) % 3564
    present = rng.random((n_events, n_chips)) >= missing_fraction

    parts: list[dict[str, NDArray[Any]]] = []
    for k in range(n_chips):
        own = place + rng.normal(0.0, shift_mm, 2)
        pixel = np.floor(own / PITCH + N_PIXELS / 2).astype(np.int64)
        inside = ((pixel >= 0) & (pixel < N_PIXELS)).all(axis=1)
        seen = np.flatnonzero(there & inside & (rng.random(n_events) < efficient[k]))
        col, row = pixel[seen].T
        hits = draw_hits(
            rng,
            particle[seen] + offsets[k] + pixel_offset[k, row, col],
            sigma=float(sigma[k]),
            tot_middle=float(middle[k]),
            walk=walk,
            slopes=(float(linear[k]), float(quadratic[k])),
            tail_fraction=tail_fraction,
            tail_scale=tail_scale,
        )
        first = {"event": seen, "row": row, "col": col, "time_ns": hits.time, "tot_ns": hits.tot}
        first |= {"jitter_ns": hits.jitter, "source": np.zeros(seen.size, dtype=np.int64)}
        for part in (first, _neighbours(rng, first, second_fraction)):
            part["chip"] = np.full(part["event"].size, k)
            parts.append(_coded(rng, part, calibration[k], cal_width, cal_outliers))
        parts.append(_noise(rng, n_events, k, noise_fraction))
    hits_of = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    keep = present[hits_of["event"], hits_of["chip"]]
    number = np.cumsum(present.ravel()).reshape(present.shape) - 1
    hits_of["packet"] = number[hits_of["event"], hits_of["chip"]]
    order = np.flatnonzero(keep)
    order = order[np.lexsort((hits_of["col"][order], hits_of["row"][order], hits_of["packet"][order]))]
    hits_of = {name: values[order] for name, values in hits_of.items()}
    event, chip = np.nonzero(present)
    packets = make_packets(
        np.asarray(links)[chip],
        event + counters[chip],
        bcid[event],
        event,
        hits_of,
        chip_id=identities[chip],
    )
    truth: dict[str, Any] = {
        "events_generated": n_events,
        "links": [int(link) for link in links],
        "chip_ids": identities.tolist(),
        "l1a_offsets": counters.tolist(),
        "sigma_ns": sigma.tolist(),
        "offset_ns": offsets.tolist(),
        "timewalk": "0.35 exp(-d/2)" if walk == "exponential" else "w=c1*d+c2*d^2, d=TOT_ns-TOT0",
        "c1": linear.tolist(),
        "c2": quadratic.tolist(),
        "TOT0": middle.tolist(),
        "eff": efficient.tolist(),
        "tail_fraction": tail_fraction,
        "tail_scale": tail_scale,
    }
    return (
        packets,
        truth | _counted(packets, hits_of, present, truth, calibration),
        {
            **{name: hits_of[name] for name in ("source", "time_ns", "tot_ns", "jitter_ns", "chip")},
            "calibration": calibration,
            "pixel_offset_ns": pixel_offset,
        },
    )


def _neighbours(
    rng: np.random.Generator, first: dict[str, NDArray[Any]], fraction: float
) -> dict[str, NDArray[Any]]:
    """Return the hits that share a particle's charge: in a neighbour pixel, smaller and later."""
    chosen = np.flatnonzero(rng.random(first["event"].size) < fraction)
    step = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])[rng.integers(0, 4, chosen.size)]
    row, col = first["row"][chosen] + step[:, 0], first["col"][chosen] + step[:, 1]
    inside = (row >= 0) & (row < N_PIXELS) & (col >= 0) & (col < N_PIXELS)
    chosen = chosen[inside]
    late = rng.exponential(0.5, chosen.size)
    return {
        "event": first["event"][chosen],
        "row": row[inside],
        "col": col[inside],
        "time_ns": first["time_ns"][chosen] + late,
        "tot_ns": first["tot_ns"][chosen] * rng.uniform(0.3, 0.7, chosen.size),
        "jitter_ns": first["jitter_ns"][chosen],
        "source": np.ones(chosen.size, dtype=np.int64),
    }


def _coded(
    rng: np.random.Generator,
    part: dict[str, NDArray[Any]],
    calibration: NDArray[np.float64],
    cal_width: float,
    cal_outliers: float,
) -> dict[str, NDArray[Any]]:
    """Return hits with codes; those that do not fit into the window are left out."""
    true_cal = calibration[part["row"], part["col"]]
    toa = toa_codes(part["time_ns"], PERIOD / true_cal)
    cal = np.rint(rng.normal(true_cal, cal_width)).astype(np.int64)
    wrong = rng.random(cal.size) < cal_outliers
    cal[wrong] = rng.integers(20, 900, int(wrong.sum()))
    coded = part | {"toa": toa, "tot": tot_codes(part["tot_ns"], PERIOD / true_cal), "cal": cal}
    fits = (toa > 0) & (toa < 1023)
    return {name: values[fits] for name, values in coded.items()}


def _noise(rng: np.random.Generator, n_events: int, chip: int, fraction: float) -> dict[str, NDArray[Any]]:
    event = np.repeat(np.arange(n_events), rng.poisson(fraction, n_events))
    size = event.size
    nothing = np.full(size, np.nan)
    return {
        "event": event,
        "row": rng.integers(0, N_PIXELS, size),
        "col": rng.integers(0, N_PIXELS, size),
        "time_ns": nothing,
        "tot_ns": nothing,
        "jitter_ns": nothing,
        "source": np.full(size, 2),
        "chip": np.full(size, chip),
        "toa": rng.integers(1, 600, size),
        "tot": rng.integers(3, 300, size),
        "cal": np.rint(rng.normal(174.0, 4.0, size)).astype(np.int64),
    }


def _counted(
    packets: Packets,
    hits: dict[str, NDArray[Any]],
    present: NDArray[np.bool_],
    truth: dict[str, Any],
    calibration: NDArray[np.float64],
) -> dict[str, Any]:
    sigma = np.asarray(truth["sigma_ns"])
    tail = 1 + truth["tail_fraction"] * (truth["tail_scale"] ** 2 - 1)
    widths = np.array([((PERIOD / one) ** 2).mean() for one in calibration])
    seen = np.zeros(present.shape, dtype=np.bool_)
    particle = hits["source"] == 0
    seen[hits["event"][particle], hits["chip"][particle]] = True
    return {
        "packets": len(packets),
        "missing_packets": int((~present).sum()),
        "hits": int(hits["event"].size),
        "hits_by_link": {str(link): int((hits["chip"] == k).sum()) for k, link in enumerate(truth["links"])},
        "second_hits": int((hits["source"] == 1).sum()),
        "noise_hits": int((hits["source"] == 2).sum()),
        "complete_events": int(seen.all(axis=1).sum()),
        "expected_sigma_ns": np.sqrt(sigma**2 * tail + widths / 12).tolist(),
    }


def simulate_probe(
    seed: int | np.random.Generator = 1,
    n_events: int = 750,
    *,
    channel: int = 0,
    chip_id: int = 0x17F0F,
    row: int = 14,
    col: int = 14,
    toa_mean: float = 190.3,
    tot_mean: float = 58.1,
    cal: float = 132.0,
    jitter_ps: float = 10.0,
    stuck: bool = False,
    alarms: int = 0,
) -> tuple[Packets, dict[str, Any]]:
    """Return packets of charge injection into one pixel, as on the probe station.

    Parameters
    ----------
    seed : int or Generator
        Fixes every number.
    n_events : int
        Injections, a packet each.
    channel, chip_id, row, col : int
        Where.
    toa_mean, tot_mean : float
        Mean codes before they are cut to whole numbers.
    cal : float
        Mean calibration code.
    jitter_ps : float
        Width of the time of arrival.
    stuck : bool
        Whether the converter does not run: all codes are constant.
    alarms : int
        Hits with error bits 3 (the first is in event 0) and a time that is far off.

    Returns
    -------
    packets : Packets
        The bunch crossing is always the same, the trigger counter starts with 255.
    truth : dict
        The parameters, ``expected_toa_std`` (codes) and ``expected_jitter_ps`` (bin x that) of good hits.

    Raises
    ------
    ConfigError
        If there are more alarms than events.
    """
    if not 0 <= alarms <= n_events or jitter_ps < 0 or cal <= 0:
        what = f"alarms = {alarms}, jitter_ps = {jitter_ps:g}, cal = {cal:g} cannot be simulated"
        raise ConfigError(what, hint=f"alarms 0 to {n_events}, jitter_ps >= 0, cal > 0")
    rng = np.random.default_rng(seed)
    bin_ps = 1000 * PERIOD / cal
    width = jitter_ps / bin_ps
    codes = {
        "toa": np.floor(rng.normal(toa_mean, width, n_events)).astype(np.int64),
        "tot": np.floor(rng.normal(tot_mean, 0.3, n_events)).astype(np.int64),
        "cal": np.rint(rng.normal(cal, 0.3, n_events)).astype(np.int64),
    }
    ea = np.zeros(n_events, dtype=np.int64)
    if alarms:
        others = rng.permutation(np.arange(1, n_events))[: alarms - 1]
        bad = np.concatenate([[0], others]).astype(np.int64)
        ea[bad] = 3
        codes["toa"][bad] = np.clip(codes["toa"][bad] + rng.integers(80, 160, alarms), 0, 1023)
    if stuck:
        codes = {name: np.full(n_events, code) for name, code in STUCK.items()}
    event = np.arange(n_events)
    place = {"packet": event, "ea": ea, "row": np.full(n_events, row), "col": np.full(n_events, col)}
    packets = make_packets(
        np.full(n_events, channel), event + 255, 719, event, place | codes, chip_id=chip_id
    )
    expected = 0.0 if stuck else _floored_std(toa_mean, width)
    truth = {
        "events": n_events,
        "pixel": [row, col],
        "jitter_ps": 0.0 if stuck else jitter_ps,
        "cal": STUCK["cal"] if stuck else cal,
        "stuck": stuck,
        "alarms": alarms,
        "expected_toa_std": expected,
        "expected_jitter_ps": expected * bin_ps,
    }
    return packets, truth


def _floored_std(mean: float, width: float) -> float:
    """Return the standard deviation of the integer part of a Gaussian number."""
    if width == 0:
        return 0.0
    from scipy.special import ndtr

    edges = np.arange(np.floor(mean - 8 * width - 1), mean + 8 * width + 2)
    probability = np.diff(ndtr((edges - mean) / width))
    centre = (probability * edges[:-1]).sum()
    return float(np.sqrt((probability * (edges[:-1] - centre) ** 2).sum()))
