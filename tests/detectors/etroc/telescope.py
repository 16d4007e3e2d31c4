"""A compact telescope generator, written from its description only: the truth of the tests of times."""

from __future__ import annotations

import numpy as np

PERIOD = 3.125
SIGMA = np.array([0.040, 0.045, 0.050])
CAL = np.array([140.0, 138.0, 135.0])
LINEAR, SQUARE = np.array([-0.06, -0.08, -0.07]), np.array([0.01, 0.012, 0.008])
TOT0, OFFSET = np.array([4.0, 4.3, 4.6]), np.array([0.0, 0.35, 0.6])
BIN = PERIOD / CAL
TRUTH = 1e3 * np.sqrt(SIGMA**2 + BIN**2 / 12)
"""Resolution with the rounding of the converter, in ps."""

_WIDTHS = 2 * np.arange(512) - np.arange(512) // 32


def generate(seed, n=20000, tails=0.0, exponential=False, efficiency=0.97, partial=False):
    """Return TOA and TOT in ns, of shape (n_events, 3), after codes, calibration and cuts."""
    rng = np.random.default_rng(seed)
    shape = (n, 3)
    charge = rng.normal(15, 2, shape) + 2 * rng.exponential(1, shape)
    charge += np.where(rng.random(shape) < 0.25, 4 * rng.pareto(2.2, shape), 0)
    tot = TOT0 + 2.2 * np.log(np.clip(charge, 6, 120) / 17) + rng.normal(0, 0.05, shape)
    excess = tot - TOT0
    walk = 0.35 * np.exp(-excess / 2) if exponential else LINEAR * excess + SQUARE * excess**2
    jitter = rng.normal(0, 1, shape) * SIGMA * np.where(rng.random(shape) < tails, 4, 1)
    time = rng.uniform(3.0, 9.5, n)[:, None] + OFFSET + walk + jitter
    toa_code = np.floor((12.5 - time) / BIN)
    codes = [np.searchsorted(_WIDTHS * BIN[i], tot[:, i], side="right") - 1 for i in range(3)]
    tot_code = np.stack(codes, axis=1)
    cal = np.rint(rng.normal(CAL, 0.6, shape))
    wild = rng.random(shape) < 0.01
    cal[wild] = rng.integers(20, 900, wild.sum())
    seen = (rng.random(shape) < efficiency) & (cal > 125) & (cal < 150) & (toa_code > 20) & (toa_code < 500)
    kept = seen.sum(axis=1) >= (2 if partial else 3)
    toa_code, tot_code, cal, seen = toa_code[kept], tot_code[kept], cal[kept], seen[kept]
    width = PERIOD / np.nanmean(np.where(seen, cal, np.nan), axis=0)
    toa = np.where(seen, 12.5 - width * toa_code, np.nan)
    tot = np.where(seen, width * _WIDTHS[np.clip(tot_code, 0, 511)], np.nan)
    far = (tot[:, 0] <= 2.5) | (np.abs(toa[:, 0] - toa[:, 1]) >= 0.8 * 2**0.5)
    far |= np.abs(toa[:, 0] - toa[:, 2]) >= 0.9 * 2**0.5
    return toa[~far], tot[~far]


def read_beam(folder):
    """Return TOA and TOT in ns of the sample file with the cuts of its description, by numpy alone."""
    path = folder / "etroc" / "synthetic_etroc1_telescope" / "F9P5_F11P5_F5P5_Beam_0.txt"
    hits = np.loadtxt(path, skiprows=1, usecols=range(5), dtype=int)
    board = hits[:, 0]
    first = np.flatnonzero((board[:-2] == 0) & (board[1:-1] == 1) & (board[2:] == 3))
    events = np.stack([hits[first], hits[first + 1], hits[first + 2]], axis=1)
    toa, tot, cal = events[..., 1], events[..., 2], events[..., 3]
    good = ((cal > 125) & (cal < 150) & (toa > 20) & (toa < 500)).all(axis=1)
    width = PERIOD / cal[good].mean(axis=0)
    times, over = 12.5 - width * toa[good], width * (2 * tot[good] - tot[good] // 32)
    near = (over[:, 0] > 2.5) & (np.abs(times[:, 0] - times[:, 1]) < 0.8 * 2**0.5)
    near &= np.abs(times[:, 0] - times[:, 2]) < 0.9 * 2**0.5
    assert near.sum() == 17753
    return times[near], over[near]
