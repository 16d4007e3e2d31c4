"""Speed of the batched fits: against a loop of scipy.optimize.curve_fit, per core, in the same run.

python benchmarks/fit.py [--runs 5] [--loop 300]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
from reporting import line, once


def photopeak(threshold, step, slope, width, position):
    from scipy.special import erfc

    x = (threshold - position) / width
    tail = erfc(x / np.sqrt(2)) / 2
    return step * tail + slope * width * (np.exp(-x * x / 2) / np.sqrt(2 * np.pi) - x * tail)


def threshold_curve(x, p):
    """The curve of five parameters: plateau with a slope below an edge, and a background."""
    from scipy.special import erfc

    amplitude, slope, position, width, background = p
    tail = erfc((x - position) / width / np.sqrt(2)) / 2
    return (amplitude + slope * (position - x)) * tail + background


def loop_of_scipy(counts, x, exposure, starts, number):
    """Fit curves one by one as scripts do, to the points that ours are fitted to; return fits per second."""
    from scipy.optimize import OptimizeWarning, curve_fit

    failed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        start = time.perf_counter()
        for channel in range(number):
            rate = counts[channel] / exposure
            error = np.sqrt(np.maximum(counts[channel], 1)) / exposure
            try:
                curve_fit(photopeak, x, rate, p0=starts, sigma=error, absolute_sigma=True)
            except (RuntimeError, TypeError):
                failed += 1
    took = time.perf_counter() - start
    print(
        f"      scipy.optimize.curve_fit: {number / took:,.0f} fits/s on one core, {failed} of {number} failed"
    )
    return number / took


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loop", type=int, default=300, help="curves that scipy fits for comparison")
    options = parser.parse_args()
    from firstlight.fit import fit_many

    rng = np.random.default_rng(3)
    n = 65_536

    x = np.arange(1480.0, 1601.0)
    truth = np.stack(
        [rng.uniform(0.05, 0.45, n), np.zeros(n), rng.normal(4.5, 0.4, n), rng.normal(1545, 6, n)], axis=1
    )
    truth[:, 1] = truth[:, 0] * 0.018
    exposure = 262.1
    counts = np.empty((n, x.size), dtype=np.int32)
    for block in np.array_split(np.arange(n), 16):
        mean = photopeak(x, *(truth[block, k, None] for k in range(4))) * exposure
        counts[block] = rng.poisson(mean)
    fit_many(counts[:64], x, "photopeak", exposure=exposure)
    both = [once(lambda: fit_many(counts, x, "photopeak", exposure=exposure)) for _ in range(options.runs)]
    print(f"photopeak, 4 parameters, {n:,} channels x {x.size} points")
    line("all fits, two threads", statistics.median(both), 3, "s")
    some = counts[: n // 8]
    pairs = []
    for _ in range(3):
        reference = loop_of_scipy(counts, x, exposure, np.median(truth, axis=0), options.loop)
        one = once(lambda: fit_many(some, x, "photopeak", exposure=exposure, threads=1))
        pairs.append(len(some) / one / reference)
    line("fits per second and core / loop of curve_fit", statistics.median(pairs), 40, "", at_least=True)

    x = np.linspace(1450.0, 1568.0, 60)
    p = [
        rng.uniform(40, 80, n), rng.uniform(0.1, 0.3, n), rng.normal(1520, 5, n),
        rng.normal(11, 0.8, n), rng.uniform(0.2, 0.6, n),
    ]  # fmt: skip
    mean = threshold_curve(x, [values[:, None] for values in p])
    counts = rng.poisson(mean).astype(np.int32)
    fit_many(counts[:64], x, "erfc_threshold")
    both = [once(lambda: fit_many(counts, x, "erfc_threshold")) for _ in range(options.runs)]
    print(f"erfc_threshold, 5 parameters, {n:,} channels x {x.size} points")
    line("fits per second, two threads", n / statistics.median(both), 120_000, "fits/s", at_least=True)


if __name__ == "__main__":
    main()
