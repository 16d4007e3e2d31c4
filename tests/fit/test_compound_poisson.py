"""The spectrum of pulses at random times, held against moments, a transform by FFT, other models and simulated samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln

from firstlight.errors import UsageError
from firstlight.fit import fit_many
from firstlight.fit.model import get_model
from firstlight.fit.models.compound_poisson import (
    compound_poisson,
    make_compound_poisson,
    shape_constants,
    shape_nodes,
)

TIME = np.arange(0, 88.25, 0.25)
HEIGHT = (TIME / 14.7) ** 2.3 * np.exp(1.25 * (1 - (TIME / 14.7) ** 1.84))
HEIGHTS, WEIGHTS = shape_nodes(TIME, HEIGHT)
CONSTANTS = shape_constants(HEIGHTS, WEIGHTS)
#                  rate  crosstalk baseline gain noise smearing light
TRUTH = np.array([3.0, 0.08, 280.3, 5.2, 1.0, 0.45, 0.0])


def integral(k):
    return np.trapezoid(HEIGHT**k, TIME)


def spectrum(edges, p, constants=CONSTANTS, model=compound_poisson):
    value = np.empty(edges.size - 1)
    derivative = np.empty((p.size, value.size))
    model.integral(
        np.asarray(edges, dtype=float), np.asarray(p, dtype=float), np.array(constants), value, derivative
    )
    return value, derivative


def by_fft(values, p):
    """Return the probability of whole numbers, by an oversampled FFT and Borel's distribution summed up."""
    rate, crosstalk, baseline, gain, noise, smearing, light = p
    n, fold = 512, 3
    w = 2 * np.pi * fold * np.fft.fftfreq(n * fold)
    count = np.arange(1, 40)
    borel = np.exp(-crosstalk * count + (count - 1) * np.log(crosstalk * count) - gammaln(count + 1))

    def psi(u):
        return (borel * np.exp(np.outer(u, 1j * gain * count) - np.outer(u**2 * smearing**2 / 2, count))).sum(
            axis=1
        )

    # a rule with steps of 0.2 ns instead of the nodes
    fine = np.arange(0, 88, 0.2) + 0.1
    heights = np.interp(fine, TIME, HEIGHT)
    exponent = np.zeros(w.size, dtype=complex)
    for h in heights:
        exponent += 0.2 * (psi(w * h) - 1)
    phi = np.exp(
        1j * w * (baseline - values[0]) - w**2 * noise**2 / 2 + 1e-3 * rate * exponent + light * (psi(w) - 1)
    )
    phi *= np.sinc(w / 2 / np.pi)
    density = np.fft.fft(phi).real / n
    return density[: fold * values.size : fold]


def test_nodes_have_the_integrals_of_the_pulse():
    for k in (1, 2, 3, 4):
        assert np.sum(WEIGHTS * HEIGHTS**k) == pytest.approx(integral(k), rel=2e-3)
    assert HEIGHTS.size <= 20
    with pytest.raises(UsageError, match="increasing"):
        shape_nodes([0, 2, 1, 3], [0, 1, 1, 0])
    with pytest.raises(UsageError, match="without height"):
        shape_nodes([0, 1, 2], [0, 0, 0])


@pytest.mark.parametrize(
    "p", [TRUTH, [3, 0.08, 280.3, 5.2, 1.0, 0.45, 0.8], [40, 0.2, 280, 4, 1.3, 0.8, 3.0]]
)
def test_the_spectrum_is_that_of_a_transform_by_fft(p):
    values = np.arange(260, 420)
    value, _ = spectrum(np.append(values - 0.5, 419.5), np.array(p, dtype=float))
    expected = by_fft(values, p)
    assert np.abs(value - expected).max() < 2e-6
    assert value.sum() == pytest.approx(1, abs=1e-5)


def test_moments_are_those_of_campbell():
    rate, crosstalk, baseline, gain, noise, smearing, _ = TRUTH
    edges = np.arange(255.5, 500)
    value, _ = spectrum(edges, TRUTH)
    centres = edges[:-1] + 0.5
    mean = value @ centres
    variance = value @ (centres - mean) ** 2
    f, free = 1e-3 * rate, 1 - crosstalk
    assert mean == pytest.approx(baseline + f * gain * integral(1) / free, abs=2e-3)
    added = f * integral(2) * (gain**2 / free**3 + smearing**2 / free)
    assert variance == pytest.approx(noise**2 + 1 / 12 + added, rel=3e-3)


@pytest.mark.parametrize("width", [1.0, 0.25, 4.0])
def test_derivatives_are_differences(width):
    p = np.array([3.0, 0.09, 280.2, 5.1, 1.1, 0.5, 0.7])
    edges = np.arange(270, 350 + width, width)
    _, derivative = spectrum(edges, p)
    for a in range(p.size):
        step = 1e-5 * max(abs(p[a]), 0.1)
        above, below = p.copy(), p.copy()
        above[a] += step
        below[a] -= step
        expected = (spectrum(edges, above)[0] - spectrum(edges, below)[0]) / (2 * step)
        assert np.abs(derivative[a] - expected).max() < 3e-6 * np.abs(expected).max() + 1e-9


def test_without_dark_counts_it_is_the_generalised_poisson():
    p = np.array([0.0, 0.1, 10.2, 5.3, 0.9, 0.5, 1.7])
    edges = np.arange(-5.5, 120)
    value, _ = spectrum(edges, p)
    other = get_model("generalised_poisson")
    expected = np.empty_like(value)
    order = [p[k] for k in (6, 1, 2, 3, 4, 5)]
    other.integral(edges, np.array(order), np.array(other.constants), expected, np.empty((6, value.size)))
    assert np.abs(value - expected).max() < 1e-9


def test_levels_side_by_side_are_those_by_themselves():
    model = make_compound_poisson(2)
    edges = np.concatenate([1 + np.arange(60.0), 200 + 1 + np.arange(90.0)])
    p = np.array([2.0, 0.1, 12.0, 5.0, 1.0, 0.4, 0.3, 2.5])
    both, slopes = spectrum(edges, p, shape_constants(HEIGHTS, WEIGHTS, 1.0, 2, 200.0), model)
    first, first_slopes = spectrum(1 + np.arange(60.0), p[[0, 1, 2, 3, 4, 5, 6]])
    second, _ = spectrum(1 + np.arange(90.0), p[[0, 1, 2, 3, 4, 5, 7]])
    assert np.abs(both[:59] - first).max() < 1e-10
    assert np.abs(both[60:] - second).max() < 1e-10
    assert np.all(slopes[7, :59] == 0)
    assert np.all(slopes[6, 60:] == 0)
    assert np.abs(slopes[6, :59] - first_slopes[6]).max() < 1e-9
    with pytest.raises(UsageError, match="0 levels"):
        make_compound_poisson(0)


def test_the_density_is_the_limit_of_narrow_bins():
    p = np.array([3.0, 0.09, 280.2, 5.1, 1.1, 0.5, 0.7])
    x = np.arange(275, 320, 0.5)
    value, derivative = np.empty(x.size), np.empty((7, x.size))
    compound_poisson.curve(x, p, np.array(CONSTANTS), value, derivative)
    width = 1e-3
    for place in (4, 12, 30):
        edges = np.array([250.0, x[place] - width / 2, x[place] + width / 2, 400.0])
        inside, slopes = spectrum(edges, p)
        # (the floor of a bin is that of its density times no width)
        assert value[place] == pytest.approx(inside[1] / width, rel=1e-5, abs=2e-7)
        assert derivative[:, place] == pytest.approx(
            slopes[:, 1] / width, rel=1e-4, abs=5e-6
        )  # (differences over a thousandth of a bin)


def samples(rng, size, p):
    """Return independent samples of a waveform with pulses at random times."""
    rate, crosstalk, baseline, gain, noise, smearing, light = p
    total = baseline + noise * rng.normal(size=size)

    def families(number):
        avalanches = number.copy()
        waiting = number
        while waiting.any():
            waiting = rng.poisson(crosstalk * waiting)
            avalanches += waiting
        return avalanches

    number = rng.poisson(1e-3 * rate * 88.0, size)
    for row in np.flatnonzero(number):
        n = families(np.ones(number[row], dtype=np.int64))
        heights = np.interp(rng.uniform(0, 88, n.size), TIME, HEIGHT)
        total[row] += np.sum(heights * (n * gain + np.sqrt(n) * smearing * rng.normal(size=n.size)))
    n = families(rng.poisson(light, size))
    total += n * gain + np.sqrt(n) * smearing * rng.normal(size=size)
    return np.rint(total).astype(np.int64)


def test_truth_is_recovered_from_dark_samples():
    rng = np.random.default_rng(3)
    n, entries = 40, 20_000
    counts = np.stack(
        [np.bincount(samples(rng, entries, TRUTH) - 260, minlength=256)[:256] for _ in range(n)]
    )
    edges = np.arange(259.5, 516)[:257]
    result = fit_many(
        counts, edges, compound_poisson.with_constants(CONSTANTS), edges=True, exposure=float(entries),
        fixed={"photo_electrons": 0.0, "gain_smearing": 0.45},
    )  # fmt: skip
    assert np.count_nonzero(result.ok) >= n - 1
    names = ("rate", "crosstalk", "baseline", "gain", "electronics_noise")
    for name, truth in zip(names, TRUTH, strict=False):
        pull = (result.value(name) - truth)[result.ok] / result.error(name)[result.ok]
        assert abs(pull.mean()) < 3.5 / np.sqrt(n), name
        assert 0.7 < pull.std() < 1.3, name


def test_dark_counts_inside_take_away_the_bias_of_the_light():
    rng = np.random.default_rng(4)
    n, entries, light = 20, 20_000, 1.0
    truth = np.array([3.0, 0.08, 20.0, 5.0, 1.0, 0.45, light])
    counts = np.stack([np.bincount(samples(rng, entries, truth), minlength=160)[:160] for _ in range(n)])
    edges = np.arange(-0.5, 160)
    model = compound_poisson.with_constants(CONSTANTS)
    held = {"rate": 3.0}
    with_dark = fit_many(counts, edges, model, edges=True, exposure=float(entries), start=truth, fixed=held)
    without = fit_many(counts, edges, "generalised_poisson", edges=True, exposure=float(entries))
    pull = (with_dark.value("photo_electrons") - light) / with_dark.error("photo_electrons")
    assert abs(pull.mean()) < 3.5 / np.sqrt(n)
    # 3 MHz are 5 % of a photo-electron in every sample
    assert without.value("photo_electrons").mean() > 1.04


def test_channels_without_a_spectrum_get_a_status():
    counts = np.zeros((3, 40))
    counts[1, 20] = 1000
    counts[2] = 25
    model = compound_poisson.with_constants(CONSTANTS)
    result = fit_many(
        counts, np.arange(41.0), model, edges=True, exposure=1000.0, fixed={"photo_electrons": 0.0}
    )
    assert [result.table().frame["status"][0]] == ["no_data"]
    assert not result.ok[1]
