"""Simulated beam on a telescope of ETROC1 boards, and the text files that its read-out makes.

One clock time for each particle; each board adds its offset, a time walk that follows the pulse, and a
jitter. Codes are made as the chip makes them, so that the truth is known before and after the conversion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl

from firstlight.errors import ConfigError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = [
    "START",
    "draw_charges",
    "per_board",
    "simulate_telescope",
    "spoil",
    "toa_codes",
    "tot_codes",
    "write_beam",
]

PERIOD = 3.125  # period of the 320 MHz clock [ns]
START = 1_649_467_080  # 2022-04-09 01:18:00
LOG_LINE = "min file index: 0, max file index: 99"
WALKS = ("polynomial", "exponential")
WINDOW = (3.0, 9.5)  # of the particle times [ns]
# random codes of noise hits: lowest, and first that is not drawn
NOISE_CODES = {"toa": (1, 600), "tot": (3, 300)}

FAULTS = {
    "cut_line": "lines that end too early",
    "large_code": "lines with a TOA that no chip can send",
}

_COMBINATIONS = np.arange(512)
TOT_STEPS = 2 * _COMBINATIONS - _COMBINATIONS // 32  # bins of each TOT code
_MINIMUM_BOARDS = 2


class Hits(NamedTuple):
    """One board's answer to particles, one entry a particle."""

    time: FloatArray
    tot: FloatArray
    jitter: FloatArray


def per_board(values: ArrayLike, n_boards: int) -> FloatArray:
    """Return one value a board; a shorter list is repeated, a single number is for all.

    Parameters
    ----------
    values : array_like
        A number or a list of them.
    n_boards : int
        Boards.
    """
    return np.resize(np.asarray(values, dtype=np.float64), n_boards)


def draw_charges(rng: np.random.Generator, size: int) -> FloatArray:
    """Return pulse sizes [fC] with the long tail of thin sensors, between 6 and 120.

    Parameters
    ----------
    rng : Generator
        Source of random numbers.
    size : int
        How many.
    """
    charge = rng.normal(15.0, 2.0, size) + 2 * rng.exponential(1.0, size)
    charge += np.where(rng.random(size) < 0.25, 4 * rng.pareto(2.2, size), 0.0)
    return np.clip(charge, 6.0, 120.0)


def draw_hits(
    rng: np.random.Generator,
    start: FloatArray,
    *,
    sigma: float,
    tot_middle: float,
    walk: Literal["polynomial", "exponential"],
    slopes: tuple[float, float],
    tail_fraction: float,
    tail_scale: float,
) -> Hits:
    """Return times of particles on a board, with walk and jitter.

    Parameters
    ----------
    rng : Generator
        Source of random numbers.
    start : ndarray, shape (n,)
        Times without walk and jitter [ns].
    sigma : float
        Width of the jitter [ns].
    tot_middle : float
        Time over threshold of a pulse of 17 fC [ns].
    walk : {"polynomial", "exponential"}
        ``c1 d + c2 d^2`` or ``0.35 exp(-d / 2)`` ns, where d is the time over threshold less `tot_middle`.
    slopes : tuple of float
        c1 [1], c2 [1/ns].
    tail_fraction, tail_scale : float
        Probability of a wide jitter, and how many times wider it is.

    Raises
    ------
    ConfigError
        If the walk is unknown or a width is negative.
    """
    if walk not in WALKS:
        raise ConfigError.unknown("walk", walk, WALKS)
    if sigma < 0 or tail_scale < 0:
        what = f"a jitter of {sigma:g} ns with a tail_scale of {tail_scale:g} cannot be simulated"
        raise ConfigError(what, hint="widths that are not negative")
    size = start.size
    tot = tot_middle + 2.2 * np.log(draw_charges(rng, size) / 17) + rng.normal(0.0, 0.05, size)
    distance = tot - tot_middle
    if walk == "exponential":
        shift = 0.35 * np.exp(-distance / 2)
    else:
        shift = slopes[0] * distance + slopes[1] * distance**2
    wide = rng.random(size) < tail_fraction
    jitter = rng.normal(0.0, sigma, size) * np.where(wide, tail_scale, 1.0)
    return Hits(start + shift + jitter, tot, jitter)


def toa_codes(time: FloatArray, bin_width: ArrayLike) -> IntArray:
    """Return TOA codes, ``floor((12.5 ns - t) / bin)``; what does not fit is out of 1 to 1022."""
    return np.asarray(np.floor((4 * PERIOD - time) / np.asarray(bin_width)), dtype=np.int64)


def tot_codes(tot: FloatArray, bin_width: ArrayLike) -> IntArray:
    """Return the largest TOT code c of 512 with ``(2c - floor(c / 32)) bin <= TOT``."""
    found = np.searchsorted(TOT_STEPS, tot / np.asarray(bin_width), side="right") - 1
    return np.asarray(np.maximum(found, 0), dtype=np.int64)


def simulate_telescope(
    seed: int | np.random.Generator = 1,
    n_events: int = 20_000,
    *,
    boards: Sequence[int] = (0, 1, 3),
    sigma_ns: ArrayLike = (0.040, 0.045, 0.050),
    cal_mean: ArrayLike = (140.0, 138.0, 135.0),
    walk: Literal["polynomial", "exponential"] = "polynomial",
    walk_linear: ArrayLike = (-0.06, -0.08, -0.07),
    walk_quadratic: ArrayLike = (0.010, 0.012, 0.008),
    tot_middle_ns: ArrayLike = (4.0, 4.3, 4.6),
    offsets_ns: ArrayLike = (0.0, 0.35, 0.6),
    tail_fraction: float = 0.0,
    tail_scale: float = 4.0,
    efficiency: ArrayLike = 0.97,
    noise_fraction: float = 0.03,
    cal_width: float = 0.6,
    cal_outliers: float = 0.01,
    cal_slope: float = 0.0,
    events_per_second: int = 400,
    start: int = START,
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the lines of a beam run and what is true of them.

    Parameters
    ----------
    seed : int or Generator
        Fixes every number.
    n_events : int
        Particles through the telescope.
    boards : sequence of int
        Board numbers in the order in which they are written, two or more.
    sigma_ns : array_like
        Jitter of each board [ns]. This and all other lists are repeated if there are more boards.
    cal_mean : array_like
        Mean calibration code of each board.
    walk : {"polynomial", "exponential"}
        Shape of the time walk, see `draw_hits`.
    walk_linear, walk_quadratic : array_like
        Its numbers for each board [1, 1/ns].
    tot_middle_ns : array_like
        Time over threshold of each board at which the polynomial walk is 0 [ns].
    offsets_ns : array_like
        Time of each board relative to the particle [ns].
    tail_fraction, tail_scale : float
        Fraction of hits with a jitter that is `tail_scale` times as wide.
    efficiency : array_like
        Probability of a hit, for each board or for all.
    noise_fraction : float
        Mean number of random hits between two particles.
    cal_width : float
        Width of the calibration code about its mean.
    cal_outliers : float
        Fraction of calibration codes that are anything from 20 to 899.
    cal_slope : float
        Codes by which the calibration rises from the first particle to the last; the mean stays.
    events_per_second : int
        Particles between two values of the time stamp.
    start : int
        Time stamp of the first particle, seconds since 1970 (UTC).

    Returns
    -------
    columns : dict of str to ndarray, shape (n_lines,)
        In the order of the file: ``board``, ``toa``, ``tot``, ``cal``, ``flag``, ``time`` [s]; and the truth
        of each line: ``event`` (-1 for noise), ``position`` (particles before this line), ``time_ns`` (hit
        time with offset, walk and jitter), ``tot_ns``, ``jitter_ns``; NaN for noise.
    truth : dict
        The parameters; ``lines``; ``hits`` and ``noise_hits`` by board; ``complete_events`` (hits on all
        boards), ``pattern_events`` (all boards one after another and in order, as the original looks for
        them), ``outliers`` (lines with a wrong calibration code), ``expected_sigma_ns`` (jitter and bin, in
        quadrature; of all hits, so with the tail).

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """
    n_boards = len(boards)
    _check_telescope(boards, n_events, tail_fraction, noise_fraction, cal_outliers, events_per_second)
    rng = np.random.default_rng(seed)
    sigma, cal, offsets, efficient, linear, quadratic, middle = (
        per_board(values, n_boards)
        for values in (sigma_ns, cal_mean, offsets_ns, efficiency, walk_linear, walk_quadratic, tot_middle_ns)
    )
    particle = rng.uniform(*WINDOW, n_events)
    drift = cal_slope * ((np.arange(n_events) + 0.5) / max(n_events, 1) - 0.5)
    parts = []
    for k, board in enumerate(boards):
        hits = draw_hits(
            rng,
            particle + offsets[k],
            sigma=float(sigma[k]),
            tot_middle=float(middle[k]),
            walk=walk,
            slopes=(float(linear[k]), float(quadratic[k])),
            tail_fraction=tail_fraction,
            tail_scale=tail_scale,
        )
        true_cal = cal[k] + drift
        codes = toa_codes(hits.time, PERIOD / true_cal)
        seen = (rng.random(n_events) < efficient[k]) & (codes > 0) & (codes < 1023)
        measured, wrong = _measured_cal(rng, true_cal, cal_width, cal_outliers)
        parts.append(
            {
                "event": np.flatnonzero(seen),
                "place": np.full(int(seen.sum()), k),
                "board": np.full(int(seen.sum()), board),
                "toa": codes[seen],
                "tot": tot_codes(hits.tot, PERIOD / true_cal)[seen],
                "cal": measured[seen],
                "outlier": wrong[seen],
                "time_ns": hits.time[seen],
                "tot_ns": hits.tot[seen],
                "jitter_ns": hits.jitter[seen],
            }
        )
    parts.append(_noise(rng, n_events, boards, noise_fraction))
    columns, outlier = _in_file_order(parts)
    columns["flag"] = np.ones(columns["board"].size, dtype=np.int64)
    columns["time"] = start + columns["position"] // events_per_second
    tail = 1 + tail_fraction * (tail_scale**2 - 1)
    truth: dict[str, Any] = {
        "events_generated": n_events,
        "lines": int(columns["board"].size),
        "boards": [int(board) for board in boards],
        "sigma_ns": sigma.tolist(),
        "cal_mean": cal.tolist(),
        "timewalk": "0.35 exp(-d/2)" if walk == "exponential" else "w=c1*d+c2*d^2, d=TOT_ns-TOT0",
        "c1": linear.tolist(),
        "c2": quadratic.tolist(),
        "TOT0": middle.tolist(),
        "offset_ns": offsets.tolist(),
        "eff": efficient.tolist(),
        "noise_fraction": noise_fraction,
        "cal_outlier_fraction": cal_outliers,
        "cal_slope": cal_slope,
        "tail_fraction": tail_fraction,
        "tail_scale": tail_scale,
        "events_per_second": events_per_second,
        "expected_sigma_ns": np.sqrt(sigma**2 * tail + (PERIOD / cal) ** 2 / 12).tolist(),
        "outliers": int(outlier.sum()),
    }
    return columns, truth | _counted(columns, boards, n_events)


def _check_telescope(
    boards: Sequence[int],
    n_events: int,
    tail_fraction: float,
    noise_fraction: float,
    cal_outliers: float,
    events_per_second: int,
) -> None:
    if len(boards) < _MINIMUM_BOARDS or len(set(boards)) != len(boards) or not set(boards) <= set(range(256)):
        what = f"boards = {list(boards)} cannot be simulated"
        raise ConfigError(what, hint="two or more different numbers from 0 to 255")
    fractions = {"tail_fraction": tail_fraction, "cal_outliers": cal_outliers}
    bad = [f"{name} = {value:g}" for name, value in fractions.items() if not 0 <= value <= 1]
    if noise_fraction < 0:
        bad.append(f"noise_fraction = {noise_fraction:g}")
    if n_events < 0:
        bad.append(f"n_events = {n_events}")
    if events_per_second < 1:
        bad.append(f"events_per_second = {events_per_second}")
    if bad:
        what = f"{', '.join(bad)} cannot be simulated"
        raise ConfigError(what, hint="fractions from 0 to 1, numbers not negative, events_per_second >= 1")


def _measured_cal(
    rng: np.random.Generator, true_cal: FloatArray, width: float, outliers: float
) -> tuple[IntArray, NDArray[np.bool_]]:
    measured = np.rint(rng.normal(true_cal, width)).astype(np.int64)
    wrong = rng.random(true_cal.size) < outliers
    return np.where(wrong, rng.integers(20, 900, true_cal.size), measured), wrong


def _noise(
    rng: np.random.Generator, n_events: int, boards: Sequence[int], fraction: float
) -> dict[str, NDArray[Any]]:
    """Return random hits behind random particles."""
    event = np.repeat(np.arange(n_events), rng.poisson(fraction, n_events))
    size = event.size
    nothing = np.full(size, np.nan)
    return {
        "event": event,
        "place": np.full(size, len(boards)),
        "board": rng.choice(np.asarray(boards, dtype=np.int64), size),
        **{name: rng.integers(*limits, size) for name, limits in NOISE_CODES.items()},
        "cal": np.rint(rng.normal(138.0, 2.0, size)).astype(np.int64),
        "outlier": np.zeros(size, dtype=np.bool_),
        "time_ns": nothing,
        "tot_ns": nothing,
        "jitter_ns": nothing,
    }


def _in_file_order(
    parts: list[dict[str, NDArray[Any]]],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((merged["place"], merged["event"]))
    columns = {name: values[order] for name, values in merged.items()}
    noise = columns.pop("place") == len(parts) - 1
    columns["position"] = columns["event"]
    columns["event"] = np.where(noise, -1, columns["event"])
    return columns, columns.pop("outlier")


def _counted(columns: dict[str, NDArray[Any]], boards: Sequence[int], n_events: int) -> dict[str, Any]:
    board, event = columns["board"], columns["event"]
    real = event >= 0
    per_event = np.bincount(event[real], minlength=n_events)
    n_boards = len(boards)
    if board.size < n_boards:
        pattern = 0
    else:
        windows = np.lib.stride_tricks.sliding_window_view(board, n_boards)
        pattern = int((windows == np.asarray(boards)).all(axis=1).sum())
    return {
        "hits": {str(b): int(((board == b) & real).sum()) for b in boards},
        "noise_hits": {str(b): int(((board == b) & ~real).sum()) for b in boards},
        "complete_events": int((per_event == n_boards).sum()),
        "pattern_events": pattern,
    }


def write_beam(
    path: Path, columns: dict[str, NDArray[Any]], *, header: bool = True, crlf: bool = False
) -> Path:
    """Write a beam text file: board, TOA, TOT, CAL, hit flag, date, time.

    Parameters
    ----------
    path : Path
        For example ``F9P5_F11P5_F5P5_Beam_HV235_0.txt``.
    columns : dict of str to ndarray, shape (n_lines,)
        ``board``, ``toa``, ``tot``, ``cal``, ``flag``, ``time`` [s].
    header : bool
        Whether the log line of the converter comes first; merged files have none.
    crlf : bool
        Whether lines end as on Windows.
    """
    seconds, index = np.unique(np.asarray(columns["time"], dtype=np.int64), return_inverse=True)
    stamps = pl.Series((seconds * 1000).astype("datetime64[ms]"))
    table = pl.DataFrame(
        {name: np.asarray(columns[name]) for name in ("board", "toa", "tot", "cal", "flag")}
    ).with_columns(
        stamps.dt.strftime("%Y-%m-%d").gather(index).alias("date"),
        stamps.dt.strftime("%H:%M:%S").gather(index).alias("clock"),
    )
    end = "\r\n" if crlf else "\n"
    with atomic(path) as temporary, temporary.open("wb") as file:
        if header:
            file.write((LOG_LINE + end).encode())
        table.write_csv(file, include_header=False, separator=" ", line_terminator=end, quote_style="never")
    return path


def spoil(path: Path, victims: Mapping[str, IntArray], seed: int | np.random.Generator = 1) -> None:
    """Spoil lines of a beam text file.

    Parameters
    ----------
    path : Path
        The file; it is written again.
    victims : mapping of str to ndarray of int
        Rows (from 0, the log line is none) by fault: ``cut_line``, ``large_code``.
    seed : int or Generator
        Chooses where lines end.
    """
    rng = np.random.default_rng(seed)
    lines = path.read_bytes().splitlines(keepends=True)
    first = int(lines[0].startswith(LOG_LINE.encode()))
    for row in victims.get("cut_line", ()):
        line = lines[first + row]
        text = line.rstrip()
        # never so late that a whole line remains: the clock has eight characters
        end = int(rng.integers(1, len(text) - 7))
        lines[first + row] = text[:end] + line[len(text) :]
    for row in victims.get("large_code", ()):
        fields = lines[first + row].split(b" ")
        fields[1] = b"%d" % rng.integers(1024, 4096)
        lines[first + row] = b" ".join(fields)
    with atomic(path) as temporary:
        temporary.write_bytes(b"".join(lines))
