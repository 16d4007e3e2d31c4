"""Speed of the fits of charge spectra of a SiPM camera: against loops of iminuit with the same likelihood, in the same run.

python benchmarks/digicam_fits.py [--runs 5] [--loop 40] [--pixels 1296]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from reporting import line, once

NAMES = ("photo_electrons", "crosstalk", "baseline", "gain", "electronics_noise", "gain_smearing")
N_EVENTS = 10_000


def camera(seed, n_pixels, mu, gain, noise, smearing, crosstalk=0.08):
    """Return counts and edges of the pixels, each over bins of its own; avalanches are followed one generation after the other."""
    rng = np.random.default_rng(seed)
    baseline = rng.uniform(280, 290, n_pixels)
    low, tables = np.empty(n_pixels), []
    for pixel in range(n_pixels):
        number = rng.poisson(mu, N_EVENTS)
        last = number
        while last.any():
            last = rng.poisson(crosstalk * last)
            number = number + last
        charge = baseline[pixel] + gain * number
        charge += np.sqrt(noise**2 + number * smearing**2) * rng.standard_normal(N_EVENTS)
        low[pixel] = np.floor(charge.min()) - 2.5
        tables.append(np.bincount((charge - low[pixel]).astype(int)))
    n_bins = max(table.size for table in tables) + 2
    counts = np.zeros((n_pixels, n_bins))
    for row, table in zip(counts, tables, strict=True):
        row[: table.size] = table
    return counts, low[:, None] + np.arange(n_bins + 1)


def spectrum(edges, p, n):
    """The model, with numpy and scipy."""
    from scipy.special import gammaln, ndtr

    mu, crosstalk, baseline, gain, noise, smearing = p
    total = mu + n * crosstalk
    chance = np.exp(np.log(mu) + (n - 1) * np.log(total) - total - gammaln(n + 1))
    z = (edges[:, None] - baseline - n * gain) / np.sqrt(noise**2 + n * smearing**2)
    return np.diff(ndtr(z), axis=0) @ chance


def loop_of_numpy(counts, edges, starts, errors, n_peaks):
    """Fit pixels one by one with migrad and hesse, the model in numpy; return seconds a pixel and deviances."""
    from iminuit import Minuit
    from scipy.special import xlogy

    n, found = np.arange(n_peaks), []
    start = time.perf_counter()
    for row, axis, begin, error in zip(counts, edges, starts, errors, strict=True):
        constant = xlogy(row, row).sum() - row.sum()

        def cost(p, row=row, axis=axis, constant=constant):
            expected = np.maximum(N_EVENTS * spectrum(axis, p, n), 1e-300)
            return 2 * (constant + expected.sum() - row @ np.log(expected))

        found.append(minimised(Minuit(cost, begin, name=NAMES), error))
    return (time.perf_counter() - start) / len(counts), np.array(found)


def loop_of_kernel(counts, edges, starts, errors):
    """The same with the compiled model and its gradient: the strongest loop there is."""
    from iminuit import Minuit
    from numba import njit
    from scipy.special import xlogy

    from firstlight.fit.models.avalanches import fill_spectrum

    @njit
    def cost_of(p, row, axis, constant, value, derivative):
        fill_spectrum(axis, p, True, value, derivative)
        total = constant
        for k in range(row.size):
            total += N_EVENTS * value[k] - row[k] * np.log(N_EVENTS * value[k])
        return 2 * total

    @njit
    def slope_of(p, row, axis, value, derivative):
        fill_spectrum(axis, p, True, value, derivative)
        slope = np.zeros(6)
        for a in range(6):
            for k in range(row.size):
                slope[a] += 2 * (N_EVENTS - row[k] / value[k]) * derivative[a, k]
        return slope

    value, derivative = np.empty(counts.shape[1]), np.empty((6, counts.shape[1]))
    cost_of(starts[0], counts[0], edges[0], 0.0, value, derivative)
    slope_of(starts[0], counts[0], edges[0], value, derivative)
    found = []
    start = time.perf_counter()
    for row, axis, begin, error in zip(counts, edges, starts, errors, strict=True):
        constant = xlogy(row, row).sum() - row.sum()

        def cost(p, row=row, axis=axis, constant=constant):
            return cost_of(p, row, axis, constant, value, derivative)

        def slope(p, row=row, axis=axis):
            return slope_of(p, row, axis, value, derivative)

        found.append(minimised(Minuit(cost, begin, grad=slope, name=NAMES), error))
    return (time.perf_counter() - start) / len(counts), np.array(found)


def minimised(minuit, error):
    minuit.errordef = minuit.LEAST_SQUARES
    minuit.errors = error
    for name in ("photo_electrons", "crosstalk", "electronics_noise", "gain_smearing"):
        minuit.limits[name] = (1e-9, None)
    minuit.migrad()
    minuit.hesse()
    return minuit.fval if minuit.valid else np.nan


def compare(what, counts, edges, options, n_peaks):
    from firstlight.fit import fit_many

    exposure = np.full(counts.shape, float(N_EVENTS))

    def fit(part=slice(None), **more):
        return fit_many(
            counts[part], edges[part], "generalised_poisson", exposure=exposure[part], edges=True, **more
        )

    result = fit()
    both = statistics.median(once(fit) for _ in range(options.runs))
    print(
        f"{what}: {len(counts):,} pixels x {counts.shape[1]} bins, {N_EVENTS:,} events, 6 parameters; "
        f"{result.ok.sum():,} ok, {result.iterations.mean():.1f} steps"
    )
    ratios = {"numpy": [], "kernel": []}
    some = slice(0, options.loop)
    steps = np.nan_to_num(result.errors[some], nan=0.1)
    for _ in range(3):
        one = once(lambda: fit(threads=1)) / len(counts)
        slow, other = loop_of_numpy(counts[some], edges[some], result.start[some], steps, n_peaks)
        fast, same = loop_of_kernel(counts[some], edges[some], result.start[some], steps)
        ratios["numpy"].append(slow / one)
        ratios["kernel"].append(fast / one)
    print(
        f"      a pixel: {1e3 * one:.3f} ms; iminuit with numpy {1e3 * slow:.1f} ms, "
        f"with the compiled model and gradient {1e3 * fast:.2f} ms"
    )
    lower = np.nanmax(np.abs(np.concatenate([other, same]) - np.tile(result.deviance[some], 2)))
    print(f"      deviances of the loops differ from ours by {lower:.1e} at most")
    return both, {name: statistics.median(values) for name, values in ratios.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loop", type=int, default=40, help="pixels that iminuit fits for comparison")
    parser.add_argument("--pixels", type=int, default=1296)
    options = parser.parse_args()

    counts, edges = camera(1, options.pixels, 2.0, 5.6, 0.9, 0.45)
    both, ratio = compare("amplitudes", counts, edges, options, 26)
    line("all pixels, all processors", both, 0.4, "s", digits=3)
    line("iminuit with the same likelihood / ours, per core", ratio["numpy"], 80, "", at_least=True, digits=3)
    print(f"      iminuit with our model and gradient / ours, per core: {ratio['kernel']:.0f}")

    counts, edges = camera(2, options.pixels, 3.0, 20.0, 3.3, 1.8)
    both, ratio = compare("charges of seven samples", counts, edges, options, 30)
    line("all pixels, all processors", both, 1.0, "s", digits=3)
    line("iminuit with the same likelihood / ours, per core", ratio["numpy"], 80, "", at_least=True, digits=3)
    print(f"      iminuit with our model and gradient / ours, per core: {ratio['kernel']:.0f}")


if __name__ == "__main__":
    main()
