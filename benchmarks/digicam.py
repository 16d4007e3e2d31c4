"""Speed of DigiCam: counting samples, the dark fit of a camera, an AC scan of ten levels, each against a reference.

python benchmarks/digicam.py [--runs 5] [--events 1000]
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from reporting import line, once

N_PIXELS, N_SAMPLES = 1296, 50


def counting(runs, n_events):
    from firstlight.detectors.digicam import kernels

    rng = np.random.default_rng(1)
    samples = np.rint(rng.normal(284, 1.5, (300, N_PIXELS, N_SAMPLES))).astype(np.uint16)
    low = np.full(N_PIXELS, 220, dtype=np.int32)

    def ours():
        counts = np.zeros((N_PIXELS, 256), dtype=np.uint32)
        outside = np.empty(samples.size, dtype=np.int32)
        for _ in range(n_events // 300):
            kernels.count_samples(samples, low, 0, counts, outside)
        return counts

    def original():
        # a batch as (pixel, event, sample), and one np.histogram a pixel: what the scripts did
        batch = np.moveaxis(samples, 1, 0).reshape(N_PIXELS, -1)
        edges = np.arange(4097) - 0.5
        return np.apply_along_axis(lambda row: np.histogram(row, edges)[0], 1, batch)

    ours()
    reference = original()
    one = np.zeros((N_PIXELS, 256), dtype=np.uint32)
    kernels.count_samples(samples, low, 0, one, np.empty(samples.size, dtype=np.int32))
    assert np.array_equal(reference[:, 220:476], one)
    rates, ratios = [], []
    for _ in range(runs):
        own = (n_events // 300) * 300 / once(ours)
        other = 300 / once(original)
        rates.append(own)
        ratios.append(own / other)
    print(f"counting {N_PIXELS} x {N_SAMPLES} samples, one core")
    line("events per second", statistics.median(rates), 10_000, "events/s", at_least=True)
    line(
        "ratio to apply_along_axis(np.histogram), 300 events at once",
        statistics.median(ratios),
        10,
        "",
        at_least=True,
    )

    charge = np.empty((300, N_PIXELS), dtype=np.int32)
    peak = np.empty_like(charge)
    light = np.full(N_PIXELS, 14, dtype=np.int32)

    def flashes():
        kernels.measure_flashes(samples, low, light, kernels.FIXED_MAX, 7, 3, 1, 2000.0, charge, peak)

    beyond, numbers = np.zeros((N_PIXELS, 2), dtype=np.int64), np.zeros((N_PIXELS, 2), dtype=np.int64)
    tables = np.zeros((2, N_PIXELS, 512), dtype=np.uint32)

    def pulses():
        kernels.find_pulses(samples, low + 64, 2.0, 7, 3, -64, tables[0], tables[1], beyond, numbers)

    flashes(), pulses()
    line(
        "flashes measured per second",
        300 / statistics.median(once(flashes) for _ in range(runs)),
        5000,
        "events/s",
        at_least=True,
    )
    line(
        "dark events searched for pulses per second",
        300 / statistics.median(once(pulses) for _ in range(runs)),
        500,
        "events/s",
        at_least=True,
    )


def spectrum(model, p, low, n_bins):
    value = np.empty(n_bins)
    edges = low - 0.5 + np.arange(n_bins + 1.0)
    model.integral(edges, np.asarray(p), np.array(model.constants), value, np.empty((7, n_bins)))
    return np.maximum(value, 0) / value.sum()


def dark(runs):
    from firstlight.detectors.digicam.options import DarkParameters
    from firstlight.detectors.digicam.spectra import Spectra, dark_model, fit_dark

    rng = np.random.default_rng(2)
    model, low, n_bins, n_groups = dark_model(), -20, 96, 40
    groups = np.zeros((n_groups, N_PIXELS, n_bins), dtype=np.int64)
    gain, rate = 5.15 * (1 + 0.056 * rng.normal(size=N_PIXELS)), 2.75 * (1 + 0.13 * rng.normal(size=N_PIXELS))
    for pixel in range(N_PIXELS):
        p = [rate[pixel], 0.095, rng.uniform(-0.5, 0.5), gain[pixel], 0.96, 0.45, 0.0]
        groups[:, pixel] = rng.multinomial(
            5000 * N_SAMPLES // n_groups, spectrum(model, p, low, n_bins), n_groups
        )
    counts = groups.sum(axis=0)
    edges = low - 0.5 + np.arange(n_bins + 1.0)
    spectra = Spectra(counts, edges, counts.sum(axis=1), groups, np.zeros(N_PIXELS, dtype=np.int64))
    result = fit_dark(spectra, DarkParameters())
    times = [once(lambda: fit_dark(spectra, DarkParameters())) for _ in range(runs)]
    print(f"dark spectra of {N_PIXELS} pixels, 5,000 events: {result.ok.mean():.1%} converged")
    line("transform fit of the camera, with errors from groups of events", statistics.median(times), 60, "s")


def scan(runs):
    from firstlight.detectors.digicam.light_fits import (
        SHARED,
        Charges,
        Shared,
        fit_gain,
        fit_levels,
        pulse_model,
    )
    from firstlight.detectors.digicam.options import GainParameters, LevelParameters, LightParameters

    rng = np.random.default_rng(3)
    light = LightParameters()
    model, low, n_bins = pulse_model(1, 0.0, light), -64, 512
    levels = np.array([0, 0.15, 0.4, 0.8, 1.5, 3, 6, 12, 25, 50.0])
    gain = 5.15 * (1 + 0.056 * rng.normal(size=N_PIXELS))
    rate = 2.75 * (1 + 0.13 * rng.normal(size=N_PIXELS))
    counts = np.zeros((N_PIXELS, levels.size, n_bins), dtype=np.int64)
    for pixel in range(N_PIXELS):
        for place, mu in enumerate(levels):
            p = [rate[pixel], 0.095, 0.2, gain[pixel], 0.96, 0.45, mu]
            counts[pixel, place] = rng.multinomial(5000, spectrum(model, p, low, n_bins))
    beyond = np.zeros((N_PIXELS, levels.size), dtype=np.int64)
    charges = Charges(counts, beyond, low, 10.0 * np.arange(levels.size), 1)

    def whole():
        result, _ = fit_gain(charges, GainParameters(), light, rate)
        shared = Shared(**{name: result.value(name) for name in SHARED})
        fit_levels(charges, shared, LevelParameters(), light, 8.0)
        return result

    result = whole()
    times = [once(whole) for _ in range(runs)]
    print(
        f"AC scan, {N_PIXELS} pixels x {levels.size} levels x 5,000 events: {result.ok.mean():.1%} converged"
    )
    line(
        "all levels together, then the light of every level, dark counts inside",
        statistics.median(times),
        60,
        "s",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--events", type=int, default=3000)
    options = parser.parse_args()
    counting(options.runs, options.events)
    dark(min(options.runs, 3))
    scan(min(options.runs, 3))


if __name__ == "__main__":
    main()
