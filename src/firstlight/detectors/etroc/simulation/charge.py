"""Simulated charge-injection scans of ETROC1: folders of hits at many charges and thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import ConfigError
from firstlight.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

__all__ = ["DEFAULT_DAC", "PIXELS", "BoardScan", "Jitter", "injection_name", "simulate_injection"]

PERIOD_PS = 3125.0
CAL = 138.0
BIN_PS = PERIOD_PS / CAL
PIXELS = {0: "F9P5", 1: "F11P5", 3: "F5P5"}
DEFAULT_DAC = {0: 535, 1: 720, 3: 720}  # of a board that is not scanned
N_SPLITS = 3
NOISE_PER_INJECTION = (1.4, 2.6)


@dataclass(frozen=True)
class Jitter:
    """Width of the time of arrival at a charge Q: floor and slope / Q in quadrature, more at the threshold.

    Parameters
    ----------
    floor : float
        At infinite charge [ps].
    slope : float
        Times 1 / Q it is the part that falls with the charge [ps fC].
    rise, range : float
        Near the threshold the jitter is ``1 + rise exp(-overdrive / range)`` times as wide; range [DAC].
    """

    floor: float = 8.0
    slope: float = 400.0
    rise: float = 3.0
    range: float = 8.0

    def at(self, charge: float, overdrive: float = math.inf) -> float:
        """Return the jitter [ps] at a charge [fC] and an overdrive [DAC]."""
        far = math.hypot(self.floor, self.slope / charge)
        return far * (1 + self.rise * math.exp(-max(overdrive, 0.0) / self.range))


@dataclass(frozen=True)
class BoardScan:
    """What is scanned on one board, and how the board answers.

    Parameters
    ----------
    board : int
        Board number.
    charges : sequence of float
        Injected charges [fC], whole numbers as in file names.
    thresholds : sequence of int
        Thresholds [DAC].
    alpha, beta : float
        Half of the injections are seen at the threshold ``alpha + beta Q`` [DAC, DAC/fC].
    noise : float
        Width of that curve [DAC].
    band : tuple of int
        Thresholds of noise, first and first above [DAC]. Inside there are 1.4 to 2.6 times as many hits as
        injections; below there are none.
    injections : int
        At each point.
    plateau : float
        Largest fraction of injections that is seen.
    jitter : Jitter
        Of the time of arrival.
    """

    board: int = 1
    charges: Sequence[float] = (10, 15, 20, 25)
    thresholds: Sequence[int] = tuple(range(324, 575, 10))
    alpha: float = 330.0
    beta: float = 9.0
    noise: float = 3.0
    band: tuple[int, int] = (330, 352)
    injections: int = 1000
    plateau: float = 1.0
    jitter: Jitter = field(default_factory=Jitter)

    def __post_init__(self) -> None:
        fine = (
            self.noise > 0 and self.injections > 0 and 0 < self.plateau <= 1 and self.band[0] <= self.band[1]
        )
        fine &= all(charge > 0 and float(charge).is_integer() for charge in self.charges)
        fine &= all(0 <= threshold < 1024 for threshold in self.thresholds)
        if not fine:
            what = f"the scan of board {self.board} cannot be simulated: {self}"
            hint = "noise and injections > 0, plateau 0 to 1, whole charges > 0, thresholds 0 to 1023"
            raise ConfigError(what, hint=hint)

    def middle(self, charge: float) -> float:
        """Return the true threshold of a charge [DAC]."""
        return self.alpha + self.beta * charge

    def probability(self, charge: float, threshold: float) -> float:
        """Return the probability that an injection is seen, without noise."""
        return self.plateau / 2 * math.erfc((threshold - self.middle(charge)) / (math.sqrt(2) * self.noise))


def injection_name(settings: dict[int, tuple[str, float, int]], split: int, phase: int = 0) -> str:
    """Return the name of a file.

    Parameters
    ----------
    settings : dict of int to (str, float, int)
        Pixel, charge [fC] and threshold [DAC] of each board, in order.
    split : int
        Part of the run, from 0.
    phase : int
        Phase of the injection.
    """
    boards = "_".join(f"{pixel}_QSel{charge:g}_DAC{dac}" for pixel, charge, dac in settings.values())
    return f"TDC_Data_PhaseAdj{phase}_{boards}_Split_{split}.dat"


def simulate_injection(
    folder: Path,
    seed: int = 1,
    scans: Sequence[BoardScan] = (BoardScan(),),
    *,
    pixels: dict[int, str] | None = None,
    cal_outliers: float = 0.004,
    split_fraction: float = 0.25,
    phase: int = 0,
) -> tuple[list[Path], dict[str, Any]]:
    """Write the files of a scan.

    Parameters
    ----------
    folder : Path
        Where they go.
    seed : int
        Fixes every byte.
    scans : sequence of BoardScan
        One for each board that is scanned; the others stay at their default threshold without charge.
    pixels : dict of int to str, optional
        Boards and their pixels; by default 0, 1, 3 and F9P5, F11P5, F5P5.
    cal_outliers : float
        Fraction of calibration codes that are anything from 201 to 999.
    split_fraction : float
        Fraction of the long runs (more hits than half of the injections) that are cut in three files.
    phase : int
        As in file names.

    Returns
    -------
    files : list of Path
        In order of board, charge, threshold and split.
    truth : dict
        ``config`` (a scan a board), ``runs``, ``files``, ``runs_with_several_splits``, ``total_hits``,
        ``hits_in_split0_only``, ``hits_with_cal_below_200``, ``threshold_50pct``, ``points`` (hits and true
        jitter [ps] of each board, charge and threshold), ``jitter_ps`` (by board and charge, far above the
        threshold).

    Raises
    ------
    ConfigError
        If a board is scanned that is not there.
    """
    pixels = PIXELS if pixels is None else pixels
    for scan in scans:
        if scan.board not in pixels:
            raise ConfigError.unknown("board", str(scan.board), map(str, pixels))
    rng = np.random.default_rng(seed)
    files: list[Path] = []
    points: list[dict[str, Any]] = []
    totals = {"runs_with_several_splits": 0, "hits_in_split0_only": 0, "hits_with_cal_below_200": 0}
    folder.mkdir(parents=True, exist_ok=True)
    for scan in scans:
        for charge in scan.charges:
            for threshold in scan.thresholds:
                codes = _draw_point(rng, scan, charge, threshold, cal_outliers)
                number = codes.shape[0]
                several = 2 * number > scan.injections and rng.random() < split_fraction
                sizes = [number // N_SPLITS] * (N_SPLITS - 1) if several else []
                settings = {
                    board: (pixel, 0.0, DEFAULT_DAC.get(board, 720)) for board, pixel in pixels.items()
                }
                settings[scan.board] = (pixels[scan.board], charge, threshold)
                parts = np.split(codes, np.cumsum(sizes, dtype=np.int64)) if several else [codes]
                for split, part in enumerate(parts):
                    lines = "".join(f" {scan.board}{a:4d}{b:4d}{c:4d} 1\n" for a, b, c in part.tolist())
                    files.append(write_text(folder / injection_name(settings, split, phase), lines))
                totals["runs_with_several_splits"] += several
                totals["hits_in_split0_only"] += len(parts[0])
                totals["hits_with_cal_below_200"] += int((codes[:, 2] < 200).sum())
                points.append(_point_truth(scan, charge, threshold, number, len(parts)))
    truth: dict[str, Any] = {
        "config": [_config(scan) for scan in scans],
        "runs": len(points),
        "files": len(files),
        "total_hits": sum(point["hits"] for point in points),
        "threshold_50pct": "DAC50 = alpha + beta*charge_fC, width sn DAC counts",
        "jitter_ps": {
            str(scan.board): {f"{charge:g}": scan.jitter.at(charge) for charge in scan.charges}
            for scan in scans
        },
        "points": points,
    }
    return files, truth | totals


def _draw_point(
    rng: np.random.Generator, scan: BoardScan, charge: float, threshold: int, cal_outliers: float
) -> IntArray:
    """Return TOA, TOT and CAL codes of a point, shape (n, 3)."""
    first, above = scan.band
    if threshold < first:
        return np.empty((0, 3), dtype=np.int64)
    if threshold < above:
        size = int(rng.uniform(*NOISE_PER_INJECTION) * scan.injections)
        toa, tot = rng.integers(1, 700, size), rng.integers(1, 120, size)
    else:
        size = int(rng.binomial(scan.injections, scan.probability(charge, threshold)))
        overdrive = max(scan.middle(charge) - threshold, 1.0)
        width = scan.jitter.at(charge, overdrive) / BIN_PS
        # the codes of the sample scan: they rise with the overdrive, so the time falls
        toa = np.floor(260 - 120 * math.exp(-overdrive / 60) + rng.normal(0, width, size)).astype(np.int64)
        tot = np.floor(20 + 50 * math.log1p(overdrive / 25) + rng.normal(0, 1, size)).astype(np.int64)
    cal = np.rint(rng.normal(CAL, 0.7, size)).astype(np.int64)
    wrong = rng.random(size) < cal_outliers
    cal[wrong] = rng.integers(201, 1000, int(wrong.sum()))
    return np.stack([np.clip(toa, 1, 1022), np.clip(tot, 1, 511), cal], axis=1)


def _point_truth(scan: BoardScan, charge: float, threshold: int, hits: int, splits: int) -> dict[str, Any]:
    noise = scan.band[0] <= threshold < scan.band[1]
    above = threshold >= scan.band[1]
    overdrive = max(scan.middle(charge) - threshold, 1.0)
    return {
        "board": scan.board,
        "charge": charge,
        "threshold": threshold,
        "hits": hits,
        "splits": splits,
        "noise": noise,
        "probability": scan.probability(charge, threshold) if above else None,
        "jitter_ps": scan.jitter.at(charge, overdrive) if above else None,
    }


def _config(scan: BoardScan) -> dict[str, Any]:
    return {
        "board": scan.board,
        "charges": list(scan.charges),
        "dacs": list(scan.thresholds),
        "alpha": scan.alpha,
        "beta": scan.beta,
        "sn": scan.noise,
        "noise": list(scan.band),
        "ninj": scan.injections,
        "plateau": scan.plateau,
        "jitter": {name: getattr(scan.jitter, name) for name in ("floor", "slope", "rise", "range")},
    }
