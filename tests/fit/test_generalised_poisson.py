"""The charge spectrum of a photon counter: exact values, derivatives, limits, starts, and fits that tell the truth."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import special
from scipy.stats import kstest

from firstlight.fit import Status, fit_many
from firstlight.fit.model import get_model

MODEL = get_model("generalised_poisson")
AREA = get_model("generalised_poisson_area")
NAMES = ["photo_electrons", "crosstalk", "baseline", "gain", "electronics_noise", "gain_smearing"]


# ---------------------------------------------------------------- an independent formula, also for complex parameters


def probabilities(n, mu, crosstalk):
    total = mu + n * crosstalk
    with np.errstate(divide="ignore", invalid="ignore"):
        log = (n - 1) * np.log(total) - total - special.gammaln(n + 1)
        rest = np.where(total == 0, np.where(n == 1, 1.0, 0.0), np.exp(log))
    return np.where(n == 0, np.exp(-mu), mu * rest)


def formula(edges, p, n_peaks=1500):
    """Return the probability of bins, shape (n,), by a sum over peaks; complex where a parameter is."""
    mu, crosstalk, baseline, gain, noise, smearing = p
    n = np.arange(n_peaks)
    z = (edges[:, None] - baseline - n * gain) / np.sqrt(noise**2 + n * smearing**2) / np.sqrt(2)
    # the smaller tail keeps its digits
    upper = np.real(z[:-1]) > 0
    bins = np.where(
        upper,
        special.erfc(np.where(upper, z[:-1], 1)) - special.erfc(np.where(upper, z[1:], 1)),
        special.erfc(np.where(upper, 1, -z[1:])) - special.erfc(np.where(upper, 1, -z[:-1])),
    )
    return (bins * probabilities(n, mu, crosstalk)).sum(axis=1) / 2


def evaluated(p, x, model=MODEL, kernel="integral"):
    x, p = np.ascontiguousarray(x, dtype=float), np.array(p, dtype=float)
    size = x.size - (kernel == "integral")
    value, derivative = np.full(size, np.nan), np.full((len(model), size), np.nan)
    getattr(model, kernel)(x, p, np.zeros(0), value, derivative)
    return value, derivative


EDGES = np.arange(270.5, 420.5)
CASES = {
    "two photo-electrons": (2.0, 0.08, 284.3, 5.6, 0.9, 0.45),
    "no light": (0.0, 0.08, 284.3, 5.6, 0.9, 0.45),
    "no crosstalk": (3.0, 0.0, 284.3, 5.6, 0.9, 0.45),
    "neither": (0.0, 0.0, 284.3, 5.6, 0.9, 0.45),
    "next to nothing": (1e-9, 1e-9, 284.3, 5.6, 0.9, 0.45),
    "much crosstalk": (0.7, 0.6, 284.3, 5.6, 0.9, 0.45),
    "one width": (2.0, 0.08, 284.3, 5.6, 0.9, 0.1),
    "twelve photo-electrons": (12.0, 0.1, 284.3, 5.6, 0.9, 0.45),
    "far peaks": (2.0, 0.1, 284.3, 40.0, 2.5, 1.0),
    "narrow peaks": (2.0, 0.1, 284.3, 5.6, 0.3, 0.2),
    "peaks that overlap": (200.0, 0.1, 190.0, 0.7, 0.9, 0.5),
    "every seventh peak": (150.0, 0.1, 190.0, 0.8, 0.9, 0.6),
    "crosstalk that hardly ends": (45.0, 0.85, 190.0, 0.3, 1.5, 0.2),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_formula(case):
    p = np.array(CASES[case])
    value, _ = evaluated(p, EDGES)
    wanted = formula(EDGES, p)
    assert np.abs(value - wanted).max() < 2e-13 + 1e-9 * (
        case in {"peaks that overlap", "every seventh peak"}
    )
    some = wanted > 1e-12
    assert value[some] == pytest.approx(wanted[some], rel=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_those_of_the_formula(case):
    p = np.array(CASES[case])
    _, derivative = evaluated(p, EDGES)
    for k, name in enumerate(NAMES):
        moved = p.astype(complex)
        moved[k] += 1e-30j
        wanted = formula(EDGES, moved).imag / 1e-30
        scale = max(np.abs(wanted).max(), 1e-3)
        assert np.abs(derivative[k] - wanted).max() < (3e-9 if p[0] < 40 else 3e-8) * scale, name


def test_area_multiplies_the_density():
    p = CASES["two photo-electrons"]
    value, derivative = evaluated(p, EDGES)
    many, by = evaluated([*p, 5000.0], EDGES, AREA)
    assert many == pytest.approx(5000 * value, rel=1e-14)
    assert by[:6] == pytest.approx(5000 * derivative, rel=1e-14)
    assert by[6] == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    "case", ["two photo-electrons", "next to nothing", "far peaks", "every seventh peak"]
)
def test_integrals_are_those_of_the_density(case):
    p = CASES[case]
    node, weight = np.polynomial.legendre.leggauss(24)
    points = (0.5 * (EDGES[1:] + EDGES[:-1])[:, None] + 0.5 * node).ravel()
    value, derivative = evaluated(p, EDGES)
    density, by = evaluated(p, points, kernel="curve")
    assert value == pytest.approx((density.reshape(-1, 24) * weight).sum(axis=1) / 2, abs=1e-10)
    wanted = (by.reshape(6, -1, 24) * weight).sum(axis=2) / 2
    assert np.abs(derivative - wanted).max() < 1e-8 * np.abs(wanted).max()
    # points need no order
    order = np.random.default_rng(0).permutation(points.size)
    assert evaluated(p, points[order], kernel="curve")[0] == pytest.approx(density[order], rel=1e-13)


@pytest.mark.parametrize("mu", [0.0, 0.05, 2.0, 30.0, 45.0, 300.0, 5000.0])
@pytest.mark.parametrize(("gain", "noise", "smearing"), [(5.6, 0.9, 0.45), (3.0, 1.2, 2.0), (5.0, 9.0, 0.0)])
def test_mean_and_variance_are_exact_for_all_light(mu, gain, noise, smearing):
    crosstalk = 0.1
    number, spread = mu / (1 - crosstalk), mu / (1 - crosstalk) ** 3
    mean, variance = 284.3 + gain * number, gain**2 * spread + noise**2 + number * smearing**2
    width = np.sqrt(variance)
    # far enough for crosstalk's long tail
    edges = np.linspace(min(mean - 10 * width, 284.3 - 10 * noise), mean + 12 * width + 40 * gain, 4001)
    value, _ = evaluated([mu, crosstalk, 284.3, gain, noise, smearing], edges)
    centre, step = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
    assert value.sum() == pytest.approx(1, abs=1e-11)
    found = (centre * value).sum()
    assert found == pytest.approx(mean, abs=1e-7 * width)
    # Sheppard's correction for bins, where they are narrow
    assert ((centre - found) ** 2 * value).sum() == pytest.approx(variance + step**2 / 12, rel=1e-6)


def test_no_bin_is_without_a_value():
    edges = np.arange(0.5, 900.5)
    for p in (
        (0.3, 0.1, 300.0, 120.0, 1.5, 0.5),
        (0.0, 0.0, 300.0, 5.6, 0.9, 0.4),
        (200.0, 0.1, 300.0, 5.6, 0.9, 0.4),
    ):
        value, derivative = evaluated(p, edges)
        assert (value > 0).all()
        assert np.isfinite(derivative).all()
    # half-way between peaks, eighty widths from both of them, there is a floor; nearer there is the tail
    value, _ = evaluated((0.3, 0.1, 300.0, 120.0, 1.5, 0.5), edges)
    assert value[330] == pytest.approx(formula(edges, (0.3, 0.1, 300.0, 120.0, 1.5, 0.5))[330], rel=1e-4)


def test_odd_parameters_give_finite_values_in_bounded_time():
    rng = np.random.default_rng(5)
    for _ in range(1000):
        n = rng.choice([1, 2, 5, 30, 100])
        step = 10 ** rng.uniform(-3, 3)
        edges = rng.choice([0.0, 275.0, -1e4]) + step * np.arange(n + 1)
        sizes = [rng.choice([0.0, step * 10 ** rng.uniform(low, 4)]) for low in (-12, -3, -3)]
        baseline = edges[0] + (edges[-1] - edges[0]) * rng.choice([0, rng.uniform(-1, 2), 1e6 * rng.normal()])
        mu, crosstalk = (
            rng.choice([0.0, 10 ** rng.uniform(-6, 8)]),
            rng.choice([0.0, rng.uniform(0, 0.9), 0.9]),
        )
        begin = time.perf_counter()
        value, derivative = evaluated([mu, crosstalk, baseline, *sizes], edges)
        assert time.perf_counter() - begin < 2
        assert np.isfinite(derivative).all()
        assert (value > 0).all()
        assert value.sum() < 1 + 1e-5
    assert np.isnan(evaluated([np.nan, 0.1, 284, 5.6, 0.9, 0.4], EDGES)[0]).all()


def test_cost_does_not_grow_with_the_light():
    took = {}
    for mu in (300.0, 1e8):
        mean, width = 5.6 * mu / 0.9, 5.6 * np.sqrt(mu / 0.9**3)
        edges = np.linspace(mean - 6 * width, mean + 6 * width, 401)
        p = [mu, 0.1, 0.0, 5.6, 0.9, 0.45]
        assert evaluated(p, edges)[0].sum() == pytest.approx(1, abs=1e-6)
        runs = []
        for _ in range(5):
            begin = time.perf_counter()
            evaluated(p, edges)
            runs.append(time.perf_counter() - begin)
        took[mu] = min(runs)
    # one peak after the other it would be a thousand times as much
    assert took[1e8] < 20 * took[300.0]


# ---------------------------------------------------------------- toys


@dataclass(frozen=True)
class Camera:
    """Histograms of pixels, each over bins of its own."""

    counts: np.ndarray
    edges: np.ndarray
    entries: float
    truth: dict

    @property
    def exposure(self):
        return np.full(self.counts.shape, self.entries)

    def starts_at_truth(self):
        return np.stack([np.broadcast_to(self.truth[name], len(self.counts)) for name in NAMES], axis=1)


def charges(rng, shape, p):
    """Return charges of flashes, by the avalanches of each and those that they start, one generation after the other."""
    mu, crosstalk, baseline, gain, noise, smearing = (
        np.asarray(value, dtype=float).reshape(-1, 1) for value in p
    )
    number = rng.poisson(np.broadcast_to(mu, shape))
    last = number
    while last.any():
        last = rng.poisson(crosstalk * last)
        number = number + last
    width = np.sqrt(noise**2 + number * smearing**2)
    return baseline + gain * number + width * rng.standard_normal(shape)


def camera(
    seed, n_pixels=300, n_events=10_000, *, mu=2.0, crosstalk=0.08, gain=5.6, noise=0.9, smearing=0.45, width=1.0,
    n_bins=None,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    baseline = rng.uniform(280, 290, n_pixels)
    truth = dict(zip(NAMES, (mu, crosstalk, baseline, gain, noise, smearing), strict=True))
    full = {name: np.broadcast_to(value, n_pixels) for name, value in truth.items()}
    low, tables = np.empty(n_pixels), []
    for block in np.array_split(np.arange(n_pixels), max(n_pixels // 100, 1)):
        values = charges(rng, (block.size, n_events), [full[name][block] for name in NAMES])
        low[block] = np.floor(values.min(axis=1) - 3) - 0.5
        tables += [np.bincount(row.astype(np.int64)) for row in (values - low[block, None]) / width]
    n_bins = n_bins or max(table.size for table in tables) + 2
    counts = np.zeros((n_pixels, n_bins), dtype=np.int64)
    for row, table in zip(counts, tables, strict=True):
        row[: table.size] = table[:n_bins]
    return Camera(counts, low[:, None] + width * np.arange(n_bins + 1), n_events, truth)


def robust(pull):
    low, middle, high = np.percentile(pull, [15.865, 50, 84.135])
    return middle, (high - low) / 2


def check_pulls(result, truth, mean=0.1, width=0.05, names=NAMES):
    for name, pull in result.pulls({name: truth[name] for name in names}).items():
        pull = pull[result.ok]
        assert abs(pull.mean()) < mean, name
        assert robust(pull)[1] == pytest.approx(1, abs=width), name


@pytest.fixture(scope="module")
def standard():
    return camera(1, 1296)


@pytest.fixture(scope="module")
def fitted(standard):
    return fit_many(standard.counts, standard.edges, MODEL, exposure=standard.exposure, edges=True)


# ---------------------------------------------------------------- fits


def test_a_camera_is_fitted_to_its_truth(standard, fitted):
    assert fitted.ok.all()
    assert fitted.iterations.mean() < 4
    # 1,296 pulls: their mean is known to 0.028, their robust width to 0.025
    check_pulls(fitted, standard.truth)
    assert np.median(fitted.error("gain")) / 5.6 == pytest.approx(0.0017, rel=0.1)


def test_p_values_are_flat_with_the_number_of_entries_fitted(standard, fitted):
    free = fit_many(standard.counts, standard.edges, AREA, edges=True)
    assert free.ok.all()
    assert kstest(free.p_value, "uniform").pvalue > 0.01
    assert np.mean(free.p_value < 0.05) == pytest.approx(0.05, abs=0.02)
    # the same fit in all else: only one entry less is free to vary
    assert np.abs((free.values[:, :6] - fitted.values) / fitted.errors).max() < 1e-3
    assert free.errors[:, :6] == pytest.approx(fitted.errors, rel=1e-3)
    assert free.value("area") == pytest.approx(standard.entries, rel=1e-6)
    assert free.deviance == pytest.approx(fitted.deviance, abs=1e-3)
    assert fitted.p_value.mean() > free.p_value.mean()


def test_minima_are_those_of_minuit(standard, fitted):
    from iminuit import Minuit

    for pixel in range(0, 1296, 100):
        counts, edges = standard.counts[pixel], standard.edges[pixel]

        def cost(p, counts=counts, edges=edges):
            expected = np.maximum(standard.entries * formula(edges, p, 60), 1e-300)
            return 2 * np.sum(
                expected - counts + special.xlogy(counts, np.where(counts > 0, counts, 1) / expected)
            )

        minuit = Minuit(cost, fitted.start[pixel], name=NAMES)
        minuit.errordef = Minuit.LEAST_SQUARES
        minuit.errors = 0.3 * fitted.errors[pixel]
        for name in ("photo_electrons", "crosstalk", "electronics_noise", "gain_smearing"):
            minuit.limits[name] = (0, None)
        minuit.migrad()
        assert minuit.valid
        assert fitted.deviance[pixel] == pytest.approx(minuit.fval, abs=1e-3)
        assert np.abs((np.array(minuit.values) - fitted.values[pixel]) / fitted.errors[pixel]).max() < 0.02
        minuit.hesse()
        assert np.array(minuit.errors) == pytest.approx(fitted.errors[pixel], rel=0.1)


@pytest.mark.parametrize("mu", [0.2, 1.0, 5.0])
def test_light_levels_with_all_parameters_free(mu):
    toys = camera(int(100 * mu), 400, mu=mu)
    result = fit_many(toys.counts, toys.edges, AREA, edges=True)
    assert result.ok.all()
    # 400 pulls: mean to 0.05, robust width to 0.044
    check_pulls(result, toys.truth, 0.2, 0.15)
    assert kstest(result.p_value, "uniform").pvalue > 0.01


def test_light_without_a_pedestal_needs_that_from_the_dark():
    toys = camera(12, 400, mu=12.0)
    dark = {name: toys.truth[name] for name in ("baseline", "electronics_noise")}
    result = fit_many(toys.counts, toys.edges, AREA, edges=True, fixed=dark)
    assert result.ok.mean() > 0.99
    check_pulls(result, toys.truth, 0.2, 0.15, [name for name in NAMES if name not in dark])


def known_starts(toys, known):
    """Return start values for known parameters, as the kernel gives them where it is told."""
    starts = np.full((len(toys.counts), 6), np.nan)
    for name in known:
        starts[:, NAMES.index(name)] = toys.truth[name]
    for p, counts, edges in zip(starts, toys.counts, toys.edges, strict=True):
        step = np.diff(edges)
        MODEL.start(edges[:-1] + step / 2, counts.astype(float), toys.entries * step, np.zeros(0), p)
    return starts


@pytest.mark.parametrize(("mu", "width"), [(0.05, 1.0), (30.0, 1.0), (60.0, 1.0), (400.0, 4.0), (700.0, 8.0)])
def test_light_and_crosstalk_of_known_peaks(mu, width):
    toys = camera(int(mu) + 7, 300, 4000, mu=mu, width=width)
    known = {name: toys.truth[name] for name in NAMES[2:]}
    starts = known_starts(toys, known)
    assert (starts[:, 2] == toys.truth["baseline"]).all()
    result = fit_many(
        toys.counts,
        toys.edges,
        MODEL,
        exposure=toys.exposure,
        edges=True,
        fixed=known,
        start=starts,
        rescue=False,
    )
    assert result.ok.all()
    assert result.iterations.mean() < 3
    check_pulls(result, toys.truth, 0.2, 0.2, ["photo_electrons", "crosstalk"])


def test_charges_of_seven_samples():
    toys = camera(3, 300, mu=3.0, gain=20.0, noise=3.3, smearing=1.8)
    assert toys.counts.shape[1] > 330
    result = fit_many(toys.counts, toys.edges, MODEL, exposure=toys.exposure, edges=True)
    assert result.ok.all()
    check_pulls(result, toys.truth, 0.2, 0.17)


def test_wide_bins_are_integrated():
    toys = camera(4, 300, width=2.5)
    result = fit_many(toys.counts, toys.edges, AREA, edges=True)
    assert result.ok.all()
    check_pulls(result, toys.truth, 0.2, 0.17)


def test_a_range_that_is_cut_needs_the_number_of_all_entries_or_none():
    toys = camera(5, 300, n_bins=40)
    assert toys.counts.sum() < 0.98 * toys.counts.shape[0] * toys.entries
    for model, exposure in ((MODEL, toys.exposure), (AREA, None)):
        result = fit_many(toys.counts, toys.edges, model, exposure=exposure, edges=True)
        assert result.ok.all()
        check_pulls(result, toys.truth, 0.2, 0.17)


# ---------------------------------------------------------------- start values

SHAPES = [(5.6, 0.9, 0.45), (3.0, 0.6, 0.3), (20.0, 3.3, 1.8), (40.0, 4.0, 2.0), (5.0, 1.25, 0.8)]


@pytest.mark.parametrize(("gain", "noise", "smearing"), SHAPES)
def test_starts_lead_to_the_minimum_near_the_truth(gain, noise, smearing):
    for mu in (0.05, 0.3, 1.0, 2.5, 5.0):
        if noise > 0.2 * gain and not 0.3 <= mu <= 3:
            continue  # peaks that overlap tell little at these
        toys = camera(int(10 * mu), 60, 8000, mu=mu, gain=gain, noise=noise, smearing=smearing)
        given = {"exposure": toys.exposure, "edges": True, "rescue": False}
        own = fit_many(toys.counts, toys.edges, MODEL, **given)
        near = fit_many(toys.counts, toys.edges, MODEL, start=toys.starts_at_truth(), **given)
        assert np.mean(own.deviance < near.deviance + 0.01) >= 59 / 60, mu
        assert own.iterations.mean() < 8, mu


@pytest.mark.parametrize("gain", [5.6, 40.0])
def test_peaks_are_counted_right_where_the_pedestal_is_empty(gain):
    toys = camera(9, 100, mu=9.0, gain=gain, noise=0.15 * gain, smearing=0.06 * gain)
    given = {"exposure": toys.exposure, "edges": True, "rescue": False}
    own = fit_many(toys.counts, toys.edges, MODEL, **given)
    near = fit_many(toys.counts, toys.edges, MODEL, start=toys.starts_at_truth(), **given)
    # another place of the pedestal may fit better than the true one, never much worse
    assert np.mean(own.deviance < near.deviance + 1) > 0.97
    off = (own.value("baseline") - toys.truth["baseline"]) / gain
    assert np.mean(np.abs(off) < 0.5) > 0.85


def test_starts_of_pixels_without_light():
    toys = camera(6, 300, mu=0.0)
    result = fit_many(
        toys.counts, toys.edges, MODEL, exposure=toys.exposure, edges=True, bounds={"gain": (2, 12)},
        shift=toys.truth["baseline"],
    )  # fmt: skip
    assert np.isin(result.status, (Status.not_constrained, Status.at_bound, Status.ok)).all()
    assert np.percentile(result.value("photo_electrons"), 95) < 0.002
    assert np.median(np.abs(result.value("baseline"))) < 0.009
    assert np.median(result.value("electronics_noise")) == pytest.approx(0.9, abs=0.01)


def test_dark_pixels_take_the_gain_of_the_camera():
    lit, dark = camera(7, 150), camera(8, 50, mu=0.0)
    n_bins = max(lit.counts.shape[1], dark.counts.shape[1])
    counts = np.zeros((200, n_bins))
    counts[:150, : lit.counts.shape[1]] = lit.counts
    counts[150:, : dark.counts.shape[1]] = dark.counts
    low = np.concatenate([lit.edges[:, 0], dark.edges[:, 0]])
    pedestal = np.concatenate([lit.truth["baseline"], dark.truth["baseline"]])
    result = fit_many(
        counts, low[:, None] + np.arange(n_bins + 1), MODEL, exposure=np.full(counts.shape, 1e4), edges=True,
        shift=pedestal, bounds={"gain": (2, 12)},
    )  # fmt: skip
    assert result.ok[:150].all()
    assert not result.ok[150:].any()
    assert np.median(result.value("gain")[150:]) == pytest.approx(5.6, abs=0.03)
    assert np.median(result.value("photo_electrons")[150:]) < 1e-3
    assert np.isnan(result.error("gain")[150:]).mean() > 0.8


# ---------------------------------------------------------------- bad channels


def test_bad_channels_have_a_status_and_leave_others_alone(standard, fitted):
    counts, edges = standard.counts[:9].astype(float), standard.edges[:9]
    n = counts.shape[1]
    bad = np.zeros((7, n))
    bad[1, 5] = 10_000  # one bin
    bad[2, -1] = 10_000  # saturated
    bad[3, [5, 6]] = 5_000  # two bins
    bad[4, [5, 90]] = 5_000
    bad[5] = 100  # flat
    bad[6] = np.nan
    table = np.concatenate([counts[:1], bad, counts[1:]])
    axes = np.concatenate([edges[:1], np.tile(edges[0], (7, 1)), edges[1:]])
    result = fit_many(table, axes, MODEL, exposure=np.full(table.shape, 1e4), edges=True)
    assert result.status[[1, 7]].tolist() == [Status.no_data] * 2
    assert (result.status[2:7] != Status.no_data).all()
    good = [0, *range(8, 16)]
    assert result.ok[good].all()
    assert (result.values[good] == fitted.values[:9]).all()
    assert not (result.ok & (result.p_value > 1e-3))[2:6].any()


def test_few_bins_and_few_counts_end():
    rng = np.random.default_rng(8)
    for n in (1, 2, 3, 5, 8):
        counts = np.stack([np.full(n, 7), np.arange(n), rng.poisson(0.3, n), np.eye(1, n, n // 2)[0] * 50])
        for model, exposure in (
            (MODEL, np.maximum(counts.sum(axis=1), 1)[:, None] * np.ones(n)),
            (AREA, None),
        ):
            result = fit_many(counts, np.arange(n + 1.0), model, exposure=exposure, edges=True)
            assert np.isin(result.status, list(Status)).all()
            assert np.isfinite(result.values[result.status != Status.no_data]).all()


def test_stray_counts_where_nothing_can_be_move_nothing(standard, fitted):
    counts, edges = standard.counts[:20].copy(), standard.edges[:20]
    more = np.concatenate([np.zeros((20, 80), dtype=np.int64), counts], axis=1)
    more[:, 3] = 2
    longer = np.concatenate([edges[:, :1] - np.arange(80, 0, -1), edges], axis=1)
    result = fit_many(more, longer, MODEL, exposure=np.full(more.shape, 1e4), edges=True)
    assert np.abs((result.values - fitted.values[:20]) / fitted.errors[:20]).max() < 0.01
    # the p-value tells
    assert (result.p_value < 1e-10).all()


def test_start_of_points_at_odd_distances_is_finite():
    rng = np.random.default_rng(9)
    for x in (
        np.cumsum(10 ** rng.uniform(-6, 2, 40)),
        np.repeat(np.arange(10.0), 4),
        np.array([1.0, 1.0, 1.0, 1.0]),
    ):
        p = np.full(6, np.nan)
        counts = rng.poisson(20, x.size).astype(float)
        MODEL.start(np.ascontiguousarray(x), counts, np.full(x.size, 800.0), np.zeros(0), p)
        assert np.isfinite(p).all()
