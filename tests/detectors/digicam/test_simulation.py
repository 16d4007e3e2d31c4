"""The simulated camera: its statistics against formulas and other people's files, its faults, its files."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy import stats

from firstlight.compiled import kernel
from firstlight.detectors.digicam import camera, light_source
from firstlight.detectors.digicam.pulse import PulseTemplate
from firstlight.detectors.digicam.simulate import load_truth, read_record, simulate
from firstlight.detectors.digicam.simulation import draws
from firstlight.detectors.digicam.simulation.simulator import (
    Afterpulses,
    CameraSimulator,
    Illumination,
    VoltageDrop,
)
from firstlight.detectors.digicam.simulation.truth import (
    FAULTS,
    NOISY_SIGMA,
    Fault,
    Spread,
    Truth,
    chosen_faults,
    draw_truth,
)
from firstlight.errors import ConfigError, InputError, UsageError

# -- random numbers ----------------------------------------------------------------------------------------------------


@kernel
def _draw(key, kind, mean, numbers):
    """Fill numbers[stream, index]; kind 0 uniform, 1 exponential, 2 normal, 3 Poisson."""
    state = np.empty(4, dtype=np.uint64)
    for stream in range(numbers.shape[0]):
        draws.begin(state, key, stream // 16, stream % 16)
        for index in range(numbers.shape[1]):
            if kind == 0:
                numbers[stream, index] = draws.uniform(state)
            elif kind == 1:
                numbers[stream, index] = draws.exponential(state)
            elif kind == 2:
                numbers[stream, index] = draws.normal(state)
            else:
                numbers[stream, index] = draws.poisson(state, mean)


def _numbers(kind, shape, mean=0.0, seed=1):
    numbers = np.empty(shape)
    _draw(draws.run_key(seed, "test"), kind, mean, numbers)
    return numbers


@pytest.mark.parametrize(("kind", "law"), [(0, stats.uniform), (1, stats.expon), (2, stats.norm)])
def test_random_numbers_have_their_distribution(kind, law):
    numbers = _numbers(kind, (40_000, 16))
    assert stats.kstest(numbers.ravel(), law.cdf).pvalue > 1e-3
    # the first numbers of streams must not show how streams begin
    for index in (0, 1, 15):
        assert stats.kstest(numbers[:, index], law.cdf).pvalue > 1e-3
    error = 1 / np.sqrt(numbers.shape[0])
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 4 * error
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 4 * error


@pytest.mark.parametrize("beyond", [3.0, 3.6541528853610088, 4.2])
def test_normal_numbers_have_their_tails(beyond):
    # the second limit is where the lowest layer of the ziggurat ends
    numbers = _numbers(2, (80_000, 50))
    expected = numbers.size * 2 * stats.norm.sf(beyond)
    assert abs((np.abs(numbers) > beyond).sum() - expected) < 3.5 * np.sqrt(expected)


@pytest.mark.parametrize("mean", [0.095, 2.5, 16.0, 50.0])
def test_poisson_numbers_have_their_distribution(mean):
    numbers = _numbers(3, (20_000, 10), mean).astype(int).ravel()
    low, high = stats.poisson.ppf([2e-4, 1 - 2e-4], mean).astype(int)
    counts = np.bincount(np.clip(numbers, low, high) - low, minlength=high - low + 1)
    expected = stats.poisson.pmf(np.arange(low, high + 1), mean)
    expected[0], expected[-1] = stats.poisson.cdf(low, mean), stats.poisson.sf(high - 1, mean)
    assert stats.chisquare(counts, expected * numbers.size / expected.sum()).pvalue > 1e-3


def test_keys_of_runs_differ():
    keys = {int(draws.run_key(seed, label)) for seed in (0, 1, 2) for label in ("dark", "hv_off", "led 200")}
    assert len(keys) == 9


# -- statistics of samples ---------------------------------------------------------------------------------------------


def _pull_of_mean(values, expected):
    """Return how far a mean is off, in its errors; axis 0 counts what is independent."""
    each = values.reshape(values.shape[0], -1).mean(axis=1)
    return (each.mean() - expected) / (each.std(ddof=1) / np.sqrt(each.size))


def _traces(batch):
    """Return samples with pixels of events as independent rows."""
    return batch.samples.reshape(-1, batch.samples.shape[-1]).astype(np.float64)


def test_without_voltage_there_is_rounded_noise():
    truth = draw_truth(3, faults="none")
    simulator = CameraSimulator(truth, 5, baselines=False)
    samples = np.moveaxis(simulator.batch(simulator.hv_off(), 40).samples, 1, 0).reshape(1296, -1)
    n = samples.shape[1]
    width = np.sqrt(truth.sigma_e**2 + 1 / 12)
    mean_pull = (samples.mean(axis=1) - truth.baseline) / (width / np.sqrt(n))
    # the fourth moment of rounded noise is that of a normal number to a per mille
    variance_pull = (samples.var(axis=1, ddof=1) / width**2 - 1) / np.sqrt(2 / (n - 1))
    for pulls in (mean_pull, variance_pull):
        assert abs(pulls.mean()) < 3.5 / np.sqrt(1296)
        assert abs(pulls.std() - 1) < 3.5 / np.sqrt(2 * 1296)


@pytest.mark.parametrize(("rate", "crosstalk"), [(2.75, 0.095), (60.0, 0.3), (500.0, 0.1)])
def test_samples_under_a_constant_rate_obey_campbell(rate, crosstalk):
    truth = Truth.uniform(baseline=1000.3, dark_rate=rate, crosstalk=crosstalk)
    simulator = CameraSimulator(truth, 17, baselines=False)
    values = _traces(simulator.batch(simulator.dark(), 40 if rate < 100 else 15)) - 1000.3
    moments = simulator.pulse.moments(rate * 1e-3, 5.15, 0.45, crosstalk)
    assert abs(_pull_of_mean(values, moments.mean)) < 3
    centred = values - moments.mean
    assert abs(_pull_of_mean(centred**2, moments.variance + 0.96**2 + 1 / 12)) < 3
    assert abs(_pull_of_mean(centred**3, moments.third)) < 3
    # pulses before the trace are not forgotten: the first sample is like the others
    assert abs(_pull_of_mean(values[:, :1], moments.mean)) < 3
    assert abs(_pull_of_mean(centred[:, :1] ** 2, moments.variance + 0.96**2 + 1 / 12)) < 3


@pytest.mark.parametrize(("mu", "jitter"), [(0.7, 0.5), (4.0, 0.5), (60.0, 0.5), (60.0, 0.0)])
def test_light_is_a_generalised_poisson_number(mu, jitter):
    # above 32 photo-electrons those of the same time are drawn together
    crosstalk = 0.2
    truth = Truth.uniform(crosstalk=crosstalk, sigma_1=0.0)
    simulator = CameraSimulator(truth, 23, n_samples=1, jitter=jitter, baselines=False)
    light = simulator.batch_with_light(Illumination("flash", mu=mu), 40)[1]
    number = np.rint(light.charge).astype(int).ravel()
    assert np.abs(light.charge.ravel() - number).max() < 1e-4
    mean, variance = mu / (1 - crosstalk), mu / (1 - crosstalk) ** 3
    assert abs(number.mean() - mean) < 3 * np.sqrt(variance / number.size)
    spread = (number - mean) ** 2
    assert abs(spread.mean() - variance) < 3 * spread.std() / np.sqrt(number.size)
    n = np.arange(int(mean + 12 * np.sqrt(variance)) + 10)
    log_p = (
        np.log(mu) + (n - 1) * np.log(mu + n * crosstalk) - mu - n * crosstalk - np.cumsum(np.log(n.clip(1)))
    )
    p = np.exp(log_p)
    keep = p * number.size > 10
    counts = np.bincount(number, minlength=n.size)
    observed = np.r_[counts[keep], counts.sum() - counts[keep].sum()]
    expected = np.r_[p[keep], 1 - p[keep].sum()] * number.size
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_charge_is_smeared_with_the_number_of_avalanches():
    truth = Truth.uniform(gain=10.0, sigma_1=10.0, crosstalk=0.4)
    simulator = CameraSimulator(truth, 29, n_samples=1, baselines=False)
    charge = simulator.batch_with_light(Illumination("flash", mu=0.5), 80)[1].charge.ravel().astype(float)
    mean = 0.5 / 0.6
    variance = 0.5 / 0.6**3 + mean
    assert abs(charge.mean() - mean) < 3 * np.sqrt(variance / charge.size)
    spread = (charge - mean) ** 2
    assert abs(spread.mean() - variance) < 3 * spread.std() / np.sqrt(charge.size)


def _of_the_measured_shape(sample_data):
    return PulseTemplate.read(sample_data / "digicam" / "pulse" / "pulse_SST-1M_pixel_0.dat")


def test_sums_of_samples_have_the_published_ratio(sample_data):
    # big pulses without noise, at any place within a sample
    pulse = _of_the_measured_shape(sample_data)
    truth = Truth.uniform(gain=60.0, sigma_1=0.0, sigma_e=0.0, crosstalk=0.0, dark_rate=0.0, baseline=50.0)
    simulator = CameraSimulator(truth, 31, pulse=pulse, jitter=0.0, random_phase=True, baselines=False)
    batch, light = simulator.batch_with_light(Illumination("flash", mu=12.0), 200)
    # the same phase in all pixels: sum over them; nothing above is clipped
    assert batch.samples.max() < 4095
    trace = (batch.samples.astype(float) - 50.0).sum(axis=1) / (60.0 * light.charge.sum(axis=1)[:, None])
    for n, published in ((7, 4.147), (5, 3.719), (1, 0.987)):
        sums = np.apply_along_axis(np.convolve, 1, trace, np.ones(n), "valid").max(axis=1)
        mean, least = pulse.largest_sum(n)
        assert sums.mean() == pytest.approx(published, abs=4 * sums.std() / np.sqrt(200))
        assert sums.mean() == pytest.approx(mean, rel=0.002)
        assert sums.min() == pytest.approx(least, abs=0.012)
    times = light.time[:, 0]
    assert np.ptp(light.time, axis=1).max() < 1e-4
    assert stats.kstest((times - 40.0) / 4.0, stats.uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize("jitter", [0.0, 2.5])
@pytest.mark.parametrize("mu", [3.0, 120.0])
def test_jitter_smears_the_mean_pulse(mu, jitter):
    truth = Truth.uniform(gain=20.0, sigma_e=0.5, dark_rate=0.0, crosstalk=0.0, time_offset=1.3)
    simulator = CameraSimulator(truth, 37, jitter=jitter, baselines=False)
    batch, light = simulator.batch_with_light(Illumination("flash", mu=mu), 20)
    mean = (_traces(batch) - 284.0).sum(axis=0) / (20.0 * light.charge.sum())
    place = np.arange(50) * 4.0 - 41.3
    steps = np.linspace(-6.0, 6.0, 241) * jitter
    weight = np.exp(-0.5 * np.linspace(-6.0, 6.0, 241) ** 2)
    expected = (simulator.pulse.at(place[:, None] - steps) * weight).sum(axis=1) / weight.sum()
    # photo-electrons have times of their own: the mean pulse wanders by the jitter over the root of their number
    slope = np.abs(np.gradient(expected, 4.0)).max()
    noise = 6 * (slope * jitter / np.sqrt(light.charge.sum()) + 0.6 / (20.0 * mu * np.sqrt(20 * 1296)))
    assert np.abs(mean - expected).max() < noise + 2e-4
    if jitter:
        assert np.abs(mean - simulator.pulse.at(place)).max() > 3 * noise


def test_noise_of_neighbouring_samples_may_be_correlated():
    truth = Truth.uniform(sigma_e=3.0)
    simulator = CameraSimulator(truth, 41, noise_correlation=0.6, baselines=False)
    values = _traces(simulator.batch(simulator.hv_off(), 30)) - 284.0
    assert abs(_pull_of_mean(values**2, 9.0 + 1 / 12)) < 3
    for lag in (1, 2, 3):
        assert abs(_pull_of_mean(values[:, lag:] * values[:, :-lag], 9.0 * 0.6**lag)) < 3


def test_afterpulses_add_their_charge():
    truth = Truth.uniform(dark_rate=20.0, crosstalk=0.1)
    after = Afterpulses(0.2, delay=30.0, recovery=60.0)
    simulator = CameraSimulator(truth, 43, afterpulses=after, baselines=False)
    values = _traces(simulator.batch(simulator.dark(), 40)) - 284.0
    # a chain of afterpulses: p + p^2 + ..., each with the mean of 1 - exp(-delay / recovery)
    more = 0.2 / 0.8 * 30.0 / (30.0 + 60.0)
    expected = simulator.pulse.moments(0.020, 5.15, 0.45, 0.1).mean * (1 + more)
    assert abs(_pull_of_mean(values, expected)) < 3
    alone = CameraSimulator(truth, 43, baselines=False)
    plain = _traces(alone.batch(alone.dark(), 40)) - 284.0
    assert _pull_of_mean(plain, expected) < -10


@pytest.mark.parametrize(("detection", "crosstalk"), [(0.0, 0.0), (1.0, 2.0)])
def test_voltage_drops_under_light(detection, crosstalk):
    truth = Truth.uniform(crosstalk=0.2, dark_rate=0.0)
    drop = VoltageDrop(detection=detection, crosstalk=crosstalk)
    simulator = CameraSimulator(truth, 47, drop=drop, baselines=False)
    values = _traces(simulator.batch(Illumination("sky", sky=400.0), 12)) - 284.0
    left = 1 / (1 + 0.4 * 0.85)
    moments = simulator.pulse.moments(0.4 * left**detection, 5.15 * left, 0.45, 0.2 * left**crosstalk)
    assert abs(_pull_of_mean(values, moments.mean)) < 3
    assert abs(_pull_of_mean((values - moments.mean) ** 2, moments.variance + 0.96**2 + 1 / 12)) < 3


def test_values_are_rounded_half_to_even_and_clipped():
    baseline = [100.5, 101.5, 102.5, 99.49, -3.0, 4094.6, 5000.0]
    truth = Truth.uniform(7, baseline=baseline, sigma_e=0.0)
    samples = np.empty((1, 7, 50), dtype=np.uint16)
    simulator = CameraSimulator(truth, baselines=False)
    written = simulator._room(1, with_light=False)._replace(samples=samples)
    from firstlight.detectors.digicam.simulation.kernels import fill

    light = simulator.pixel_numbers(simulator.hv_off())
    fill(
        draws.run_key(1, "x"), np.zeros(1, np.int64), light, simulator._shape, simulator._conditions, written
    )
    assert (samples == samples[:, :, :1]).all()
    assert samples[0, :, 0].tolist() == [100, 102, 102, 99, 0, 4095, 4095]


# -- the baseline of the FPGA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [2.75, 80.0])
def test_baseline_is_the_mean_of_the_1024_samples_before(rate):
    # a trace that is long enough holds its own history; at 80 MHz pulses before the trace are drawn as one normal number
    truth = Truth.uniform(dark_rate=rate, baseline=500.0)
    long = CameraSimulator(truth, 53, n_samples=1024, baselines=False)
    history = _traces(long.batch(long.dark(), 6)).mean(axis=1) - 500.0
    short = CameraSimulator(truth, 54, n_samples=1)
    found = short.batch(short.dark(), 24).baselines.ravel().astype(float) - 500.0
    moments = short.pulse.moments(rate * 1e-3, 5.15, 0.45, 0.095)
    assert abs(_pull_of_mean(found[:, None], moments.mean)) < 3
    assert abs(_pull_of_mean(history[:, None], moments.mean)) < 3
    for power in (2, 3) if rate < 10 else (2,):
        a, b = (found - moments.mean) ** power, (history - moments.mean) ** power
        error = np.sqrt(a.var() / a.size + b.var() / b.size)
        assert abs(a.mean() - b.mean()) < 3 * error


def test_baseline_and_trace_share_the_pulses_at_their_border():
    truth = Truth.uniform(dark_rate=12.0, sigma_e=0.3)
    simulator = CameraSimulator(truth, 55, n_samples=1)
    batch = simulator.batch(simulator.dark(), 24)
    moments = simulator.pulse.moments(0.012, 5.15, 0.45, 0.095)
    baseline, first = batch.baselines.ravel().astype(float), batch.samples.ravel().astype(float)
    product = ((baseline - 284.0 - moments.mean) * (first - 284.0 - moments.mean))[:, None]
    time, step = np.linspace(-88.0, 0.0, 1761, retstep=True)
    before = simulator.pulse.at(4.0 * np.arange(-23, 0) - time[:, None]).sum(axis=1) / 1024
    square = 5.15**2 / 0.905**3 + 0.45**2 / 0.905
    shared = 0.012 * square * np.sum(before * simulator.pulse.at(-time)) * step
    assert abs(_pull_of_mean(product, shared)) < 3
    assert _pull_of_mean(product, 0.0) > 5


def test_baseline_of_correlated_noise():
    truth = Truth.uniform(sigma_e=4.0)
    simulator = CameraSimulator(truth, 59, n_samples=2, noise_correlation=0.7)
    batch = simulator.batch(simulator.hv_off(), 20)
    values = (batch.baselines.ravel().astype(float) - 284.0) ** 2
    expected = (16.0 * 1.7 / 0.3 + 1 / 12) / 1024
    assert abs(values.mean() - expected) < 3 * expected * np.sqrt(2 / values.size)


# -- other people's files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nsb", "light"), [(0, 0), (0, 1), (0, 10), (3, 0), (3, 1), (125, 10), (660, 100)])
def test_files_of_the_digicamtoy_are_reproduced(sample_data, nsb, light):
    """Mean, variance and third moment of samples agree with files of another simulation at their truth.

    That one knows no pulses that begin more than 40 ns before the trace: with a rate only samples from 14 on are compared.
    Its gain drops by 1 / (1 + 0.85 ns f), its light comes within 0.2 ns of 20.1 ns.
    """
    path = sample_data / "digicam" / "toy_hdf5" / f"events_digicamtoy_nsb_{nsb}_pe_{light}.hdf5"
    if not path.is_file():
        pytest.skip(f"sample data of the camera not found: {path}")
    with h5py.File(path) as file:
        theirs = file["data/adc_count"][:].astype(float)
        charge = file["data/charge"][:].astype(float)
    truth = Truth.uniform(
        gain=5.0, sigma_e=1.25, sigma_1=0.8, crosstalk=0.08, baseline=280.0, dark_rate=nsb, time_offset=0.0
    )
    simulator = CameraSimulator(
        truth, 61, pulse=_of_the_measured_shape(sample_data), light_time=20.1, jitter=0.2 / np.sqrt(12),
        drop=VoltageDrop(), baselines=False,
    )  # fmt: skip
    batch, came = simulator.batch_with_light(Illumination("toy", mu=light), len(theirs))
    ours = batch.samples.astype(float)
    pulls = []
    for sample in range(14 if nsb else 0, 50, 4):
        x, y = theirs[:, :, sample].ravel(), ours[:, :, sample].ravel()
        for power in (1, 2, 3):
            a, b = ((v if power == 1 else (v - v.mean()) ** power) for v in (x, y))
            pulls.append((a.mean() - b.mean()) / np.sqrt(a.var() / a.size + b.var() / b.size))
    # some 30 comparisons for each of 7 files; neighbouring samples share pulses
    assert np.abs(pulls).max() < 3.8
    assert np.mean(np.square(pulls)) < 2.0
    if light:
        a, b = charge.ravel(), came.charge.astype(float).ravel()
        assert abs(a.mean() - b.mean()) < 3.5 * np.sqrt(a.var() / a.size + b.var() / b.size)


# -- what fixes the events ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty():
    return draw_truth(7, faults={**FAULTS, "swapped_modules": 1})


def _whole(batches):
    batches = list(batches)
    parts = ("samples", "number", "time", "event_type", "baselines")
    return {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in parts}


def test_batches_of_any_size_hold_the_same_events(faulty):
    simulator = CameraSimulator(faulty, 3, random_phase=True, afterpulses=Afterpulses(0.05))
    light = simulator.led(300)
    whole = _whole(simulator.batches(light, 23, size=23))
    for size in (1, 7, 1000):
        other = _whole(simulator.batches(light, 23, size=size))
        for name, values in whole.items():
            assert np.array_equal(values, other[name]), (size, name)
    later = simulator.batch(light, 5, first=18)
    assert np.array_equal(later.samples, whole["samples"][18:])
    assert np.array_equal(later.number, whole["number"][18:])


def test_a_pixel_does_not_depend_on_the_others(faulty):
    simulator = CameraSimulator(faulty, 3)
    before = simulator.batch(simulator.dark(), 3)
    rate = faulty.dark_rate.copy()
    rate[100:] *= 2
    other = CameraSimulator(faulty.changed(dark_rate=rate), 3)
    after = other.batch(other.dark(), 3)
    plain = faulty.cabling == np.arange(1296)
    assert np.array_equal(before.samples[:, :100][:, plain[:100]], after.samples[:, :100][:, plain[:100]])
    assert not np.array_equal(before.samples[:, 100:], after.samples[:, 100:])


def test_seed_and_run_fix_the_events(faulty):
    simulator = CameraSimulator(faulty, 3)
    dark = simulator.batch(simulator.dark(), 4).samples
    assert np.array_equal(dark, CameraSimulator(faulty, 3).batch(simulator.dark(), 4).samples)
    others = (
        CameraSimulator(faulty, 4).batch(simulator.dark(), 4).samples,
        simulator.batch(Illumination("dark again"), 4).samples,
        simulator.batch(simulator.dark(), 4, first=4).samples,
    )
    good = np.isin(faulty.seen("fault"), (Fault.NONE, Fault.NOISY, Fault.SWAPPED))
    for other in others:
        # two independent values of the same pixel agree now and then, not as a rule
        assert (dark[:, good] == other[:, good]).mean() < 0.35


# -- truth and faults --------------------------------------------------------------------------------------------------


def test_typical_camera():
    truth = draw_truth(11, faults="none")
    for name, mean, width in (
        ("baseline", 284.0, 6.0), ("gain", 5.15, 0.288), ("dark_rate", 2.75, 0.3575), ("sigma_e", 0.96, 0.03)
    ):  # fmt: skip
        values = getattr(truth, name)
        assert abs(values.mean() - mean) < 4 * width / np.sqrt(1296)
        # cut at three standard deviations: 1.3 % narrower
        assert abs(values.std() / width - 0.987) < 4 / np.sqrt(2 * 1296)
    assert truth.crosstalk.min() > 0
    assert (truth.fault == Fault.NONE).all()
    fixed = draw_truth(11, faults="none", gain=5.0, crosstalk=(0.2, 0.0), sigma_1=Spread(0.5))
    assert (fixed.gain == 5.0).all()
    assert (fixed.crosstalk == 0.2).all()
    assert np.array_equal(fixed.baseline, truth.baseline)
    assert not np.array_equal(draw_truth(12).baseline, truth.baseline)


def test_light_grows_with_the_level_and_saturates():
    truth = draw_truth(13, faults="none", lit=light_source.lit_pixels(2, version=1))
    levels = np.array([0, 1, 50, 100, 200, 400, 600, 800, 1000])
    mu = np.array([truth.light(level) for level in levels])
    assert (mu[:, ~truth.lit] == 0).all()
    assert (mu[0] == 0).all()
    assert (np.diff(mu[:, truth.lit], axis=0) > 0).all()
    assert np.median(mu[-1, truth.lit]) == pytest.approx(900, rel=0.03)
    assert np.median(mu[4, truth.lit]) == pytest.approx(0.02 * np.expm1(200 / 60), rel=0.05)
    for row in (2, 4, 6):
        found = truth.level_of_light(mu[row])
        assert found[truth.lit] == pytest.approx(levels[row], abs=1e-6)
        assert np.isnan(found[~truth.lit]).all()
    assert np.isnan(truth.level_of_light(2000.0)).all()
    sky = np.array([truth.sky_rate(level) for level in (0, 290, 310)])
    assert (sky[0] == 0).all()
    assert sky[2, truth.lit] == pytest.approx(sky[1, truth.lit] * np.exp(20 * truth.dc_slope[truth.lit]))


def test_faults_are_there_as_many_as_asked(faulty):
    counts = np.bincount(faulty.fault, minlength=7)
    assert counts[1:].tolist() == [3, 3, 1, 3, 12, 2 + 24]
    moved = np.flatnonzero(faulty.cabling != np.arange(1296))
    assert np.array_equal(moved, np.flatnonzero(faulty.fault == Fault.SWAPPED))
    modules = camera.pixels()["module"].to_numpy()
    assert len(set(modules[faulty.fault == Fault.MISSING])) == 1
    # pixels of swapped modules keep their place in the module
    places = camera.pixels()["pixel_in_module"].to_numpy()
    whole = np.flatnonzero(np.bincount(modules[moved], minlength=109) == 12)
    pixels = np.flatnonzero(np.isin(modules, whole))
    assert np.array_equal(places[faulty.cabling[pixels]], places[pixels])
    assert set(modules[faulty.cabling[pixels]]) == set(whole)


def test_faults_are_seen_in_the_data(faulty):
    simulator = CameraSimulator(faulty, 3)
    off, dark, led = (
        simulator.batch(light, 60) for light in (simulator.hv_off(), simulator.dark(), simulator.led(400))
    )
    fault = faulty.fault
    for batch in (off, dark, led):
        dead = batch.samples[:, fault == Fault.DEAD]
        assert (dead == np.rint(faulty.baseline[fault == Fault.DEAD]).astype(int)[:, None]).all()
        assert (batch.samples[:, fault == Fault.SATURATED] == 4095).all()
        assert (batch.samples[:, fault == Fault.MISSING] == 0).all()
        assert (batch.baselines[:, fault == Fault.MISSING] == 0).all()
    noisy = off.samples[:, fault == Fault.NOISY].astype(float).std(axis=(0, 2))
    assert noisy == pytest.approx(np.sqrt(NOISY_SIGMA**2 + 1 / 12), rel=5 / np.sqrt(2 * 3000))
    # without voltage in any run: no pulses, so the widest sample is that of the noise
    for batch in (dark, led):
        quiet = batch.samples[:, fault == Fault.NO_VOLTAGE].astype(float).std(axis=(0, 2))
        assert quiet == pytest.approx(np.hypot(faulty.sigma_e, 12**-0.5)[fault == Fault.NO_VOLTAGE], rel=0.07)
        good = batch.samples[:, fault == Fault.NONE].astype(float).std(axis=(0, 2))
        assert (good > 1.07 * np.hypot(faulty.sigma_e, 12**-0.5)[fault == Fault.NONE]).all()


def test_swapped_cables_swap_the_data(faulty):
    straight = CameraSimulator(faulty.changed(cabling=np.arange(1296)), 3)
    crossed = CameraSimulator(faulty, 3)
    for light in (straight.hv_off(), straight.led(350)):
        (a, a_light), (b, b_light) = (one.batch_with_light(light, 3) for one in (straight, crossed))
        assert np.array_equal(a.samples[:, faulty.cabling], b.samples)
        assert np.array_equal(a.baselines[:, faulty.cabling], b.baselines)
        assert np.array_equal(a_light.charge[:, faulty.cabling], b_light.charge)
    assert np.array_equal(faulty.seen("baseline"), faulty.baseline[faulty.cabling])
    # channel 0 reads pixel 1, 1 reads 2, 2 reads 0
    round_robin = faulty.changed(cabling=np.r_[1, 2, 0, 3:1296])
    turned, plain = (
        CameraSimulator(one, 3).batch(straight.dark(), 2) for one in (round_robin, straight.truth)
    )
    assert np.array_equal(turned.samples[:, :3], plain.samples[:, [1, 2, 0]])
    with pytest.raises(UsageError, match="unknown number 'gian'"):
        faulty.seen("gian")


def test_pixels_without_light_see_none():
    lit = light_source.lit_pixels(1, version=1)
    simulator = CameraSimulator(draw_truth(3, faults="none", lit=lit), 3, baselines=False)
    light = simulator.batch_with_light(simulator.led(300), 40)[1]
    assert (light.charge[:, ~lit] == 0).all()
    assert (light.charge[:, lit].mean(axis=0) > 0.5).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chosen_faults("ded"), "unknown fault 'ded'"),
        (lambda: chosen_faults({"dead": -1}), "-1 times dead"),
        (lambda: draw_truth(1, faults={"missing_module": 109}), "more than the camera has"),
        (lambda: draw_truth(1, gian=3.0), "unknown value 'gian'"),
        (lambda: draw_truth(1, gain=(3.0, -1.0)), "gain = "),
        (lambda: draw_truth(1, gain=(-3.0, 0.1)), "gain of pixel .* below 0"),
        (lambda: Truth.uniform(gian=3.0), "unknown value 'gian'"),
        (lambda: Truth.uniform(crosstalk=1.0), "does not end"),
        (lambda: Truth.uniform(gain=np.nan), "gain of pixel 0 is not finite"),
        (lambda: Truth.uniform(cabling=0), "every pixel once"),
        (lambda: CameraSimulator(Truth.uniform(), n_samples=0), "n_samples = 0"),
        (lambda: CameraSimulator(Truth.uniform(), noise_correlation=1.0), "noise_correlation = 1"),
        (lambda: CameraSimulator(Truth.uniform(), afterpulses=Afterpulses(1.0)), "afterpulse probability"),
        (
            lambda: CameraSimulator(Truth.uniform()).batch(Illumination("x", mu=-1.0), 1),
            "light of the run 'x' is negative",
        ),
        (lambda: CameraSimulator(Truth.uniform()).batch(Illumination("x"), -1), "-1 events"),
    ],
)
def test_impossible_cameras_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


# -- files -------------------------------------------------------------------------------------------------------------

_SMALL = {"n_events": 3, "levels": (200, 300.5), "dc_levels": (300,)}


def _events(path):
    from firstlight.detectors.digicam.readout.zfits import ZfitsEvents

    with ZfitsEvents(path) as file:
        return _whole(file.batches(size=50)), file.facts()


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, simulate(folder, 5, **_SMALL)


def test_data_set_is_complete(data_set):
    folder, files = data_set
    names = ["hv_off", "dark", "led_200", "led_300.5", "dc_300"]
    assert [path.name for path in files] == [f"{name}.fits.fz" for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [path.name for path in files] + ["truth.json", "truth.parquet"]
    )
    types = {}
    for path in files:
        events, facts = _events(path)
        assert events["samples"].shape == (3, 1296, 50)
        assert (events["event_type"] == 8).all()
        types[path.name.removesuffix(".fits.fz")] = (facts["run_type"], facts.get("level"), facts["toymc"])
    assert types == {
        "hv_off": ("hv_off", None, True), "dark": ("darkrun", None, True), "led_200": ("ledscan", 200, True),
        "led_300.5": ("ledscan", 300.5, True), "dc_300": ("dcscan", 300, True),
    }  # fmt: skip


def test_files_hold_what_the_simulator_makes(data_set):
    folder, _ = data_set
    truth = load_truth(folder)
    simulator = CameraSimulator(truth, 5, drop=VoltageDrop())
    for name, light in (
        ("hv_off", simulator.hv_off()),
        ("led_300.5", simulator.led(300.5)),
        ("dc_300", simulator.dc(300)),
    ):
        expected, (found, _) = simulator.batch(light, 3), _events(folder / f"{name}.fits.fz")
        assert np.array_equal(found["samples"], expected.samples)
        # sixteenths of an LSB, up to 2047.9
        assert np.abs(found["baselines"] - expected.baselines.clip(max=32767 / 16)).max() <= 1 / 32
    # numbers go on through all levels of a scan
    assert _events(folder / "led_200.fits.fz")[0]["number"].tolist() == [1, 2, 3]
    assert _events(folder / "led_300.5.fits.fz")[0]["number"].tolist() == [4, 5, 6]


def test_truth_stands_beside(data_set):
    folder, files = data_set
    truth, drawn = load_truth(folder), draw_truth(5)
    for name in ("baseline", "gain", "dark_rate", "fault", "cabling", "lit", "led_scale"):
        assert np.array_equal(getattr(truth, name), getattr(drawn, name))
    assert truth.settings["faults"] == FAULTS
    record = read_record(folder)
    assert record["names"] == [path.name for path in files]
    assert record["pulse"]["integrals"] == pytest.approx([17.966, 12.374, 10.177], rel=0.01)
    assert record["drop"]["capacitance"] == 85e-15
    assert record["files"][3]["stretches"] == [{"level": 300.5, "n_events": 3, "first_number": 4}]
    with pytest.raises(InputError, match=r"no truth\.parquet"):
        load_truth(folder.parent)
    with pytest.raises(InputError, match=r"no truth\.json"):
        read_record(folder.parent)


def test_same_seed_same_bytes(data_set, tmp_path):
    _, files = data_set
    again = simulate(tmp_path / "again", 5, **_SMALL)
    other = simulate(tmp_path / "other", 6, **_SMALL)
    for a, b, c in zip(files, again, other, strict=True):
        assert a.read_bytes() == b.read_bytes()
        assert a.read_bytes() != c.read_bytes()


def test_one_file_alone_is_the_same(data_set, tmp_path):
    folder, _ = data_set
    simulate(tmp_path, 5, kinds=("led",), levels=(300.5,), n_events={"led": 2})
    alone, whole = (_events(place / "led_300.5.fits.fz")[0] for place in (tmp_path, folder))
    assert np.array_equal(alone["samples"], whole["samples"][:2])


def test_original_scan_has_the_same_events_and_loses_some(tmp_path):
    levels = simulate(
        tmp_path / "levels", 9, kinds=("led", "dark"), levels=(200, 250, 300), n_events=4, faults="none"
    )
    expected = np.concatenate([_events(path)[0]["samples"] for path in levels[:3]])
    scan = simulate(
        tmp_path / "scan", 9, kinds=("led", "dark"), levels=(200, 250, 300), n_events=4, faults="none",
        layout="scan", n_files=2, lost=(0, 4, 11),
    )  # fmt: skip
    stem = "CameraDigicam@localhost.localdomain_0_000"
    assert [path.name for path in scan] == [f"{stem}.{run}.fits.fz" for run in (124, 125, 117, 118)]
    parts = [_events(path) for path in scan[:2]]
    assert [facts.get("level") for _, facts in parts] == [None, None]
    found = {
        name: np.concatenate([part[name] for part, _ in parts]) for name in ("samples", "number", "time")
    }
    kept = [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert (found["number"] - 1).tolist() == kept
    assert np.array_equal(found["samples"], expected[kept])
    assert (np.diff(found["time"]) == 1_000_000 * np.diff(found["number"])).all()
    record = read_record(tmp_path / "scan")
    assert record["lost"] == [0, 4, 11]
    stretches = record["files"][1]["stretches"]
    assert [(one["level"], one["n_events"], one["first_number"]) for one in stretches] == [
        (250, 2, 7), (300, 4, 9)
    ]  # fmt: skip


def test_toy_and_arrays(tmp_path):
    from firstlight.detectors.digicam.readout.arrays import ArrayEvents
    from firstlight.detectors.digicam.readout.toy import ToyEvents

    options = {"kinds": ("led",), "levels": (250, 300), "n_events": 4, "lost": (5,), "faults": "none"}
    expected = [_events(path)[0] for path in simulate(tmp_path / "zfits", 3, baseline_scale=16, **options)]
    arrays = simulate(tmp_path / "arrays", 3, file_format="arrays", **options)
    assert [path.name for path in arrays] == ["led_250.npz", "led_300.npz"]
    for path, events in zip(arrays, expected, strict=True):
        found = _whole(ArrayEvents(path).batches())
        for name in ("samples", "number", "time", "event_type"):
            assert np.array_equal(found[name], events[name])
        assert np.abs(found["baselines"] - events["baselines"]).max() <= 1 / 32
    toy = simulate(tmp_path / "toy", 3, file_format="toy", **options)
    assert [path.name for path in toy] == ["led_250.hdf5", "led_300.hdf5"]
    for path, n_events in zip(toy, (4, 3), strict=True):
        events = ToyEvents(path)
        samples = np.concatenate([batch.samples for batch in events.batches()])
        assert samples.shape == (n_events, 1296, 50)
        assert events.truth["gain"] == pytest.approx(5.15, abs=0.05)
        with h5py.File(path) as file:
            assert file["data/charge"].shape == (n_events, 1296, 1)
            # the sample after the peak follows the true charge
            charge = file["data/charge"][:, :, 0]
        truth = load_truth(path.parent)
        height = (samples[:, :, 14] - truth.baseline) / truth.gain
        assert np.corrcoef(charge.ravel(), height.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("file_format", ["zfits", "toy", "arrays"])
def test_files_without_events(tmp_path, file_format):
    files = simulate(tmp_path, 1, n_events=0, file_format=file_format, levels=(200,), dc_levels=(300,))
    assert len(files) == 4
    assert all(path.stat().st_size > 0 for path in files)


def test_an_older_simulation_is_replaced(tmp_path):
    simulate(tmp_path, 1, n_events=1)
    (tmp_path / "mine.fits.fz").write_bytes(b"mine")
    files = simulate(tmp_path, 1, n_events=1, kinds=("dark",))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dark.fits.fz", "mine.fits.fz", "truth.json", "truth.parquet"
    ]  # fmt: skip
    assert [path.name for path in files] == ["dark.fits.fz"]


def test_long_traces_and_other_conditions(tmp_path):
    path = simulate(
        tmp_path, 1, kinds=("led",), levels=(300,), n_events=2, n_samples=92, cts_version=1, sector=3,
        baseline_scale=1, light_time=100.0, pulse=PulseTemplate.default(), drop=False, trigger=True,
        truth={"crosstalk": 0.3}, faults="none",
    )[0]  # fmt: skip
    events, facts = _events(path)
    assert events["samples"].shape == (2, 1296, 92)
    assert facts["n_samples"] == 92
    # the pulse peaks 14.7 ns after the light
    truth = load_truth(tmp_path)
    assert truth.lit.sum() == 528
    assert (truth.crosstalk == 0.3).all()
    mean = (events["samples"].mean(axis=0) - truth.baseline[:, None])[truth.lit].mean(axis=0)
    assert mean.argmax() in (28, 29)
    assert np.array_equal(events["baselines"], np.rint(events["baselines"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("darc",)}, "unknown kind 'darc'"),
        ({"kinds": ()}, "kinds = "),
        ({"n_events": {"darc": 3}}, "unknown kind 'darc'"),
        ({"n_events": -1}, "-1 events"),
        ({"levels": (200, 200)}, "cannot be simulated"),
        ({"file_format": "fits"}, "unknown file_format 'fits'"),
        ({"layout": "scans"}, "unknown layout 'scans'"),
        ({"layout": "scan", "file_format": "toy"}, "hold one level each"),
        ({"n_files": 3}, "n_files = 3"),
        ({"lost": (400,)}, "event 400 cannot be lost"),
        ({"lost": (0,), "kinds": ("dark",)}, "event 0 cannot be lost"),
        ({"truth": {"gian": 1.0}}, "unknown value 'gian'"),
        ({"faults": ("ded",)}, "unknown fault 'ded'"),
    ],
)
def test_impossible_data_sets_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        simulate(tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()
