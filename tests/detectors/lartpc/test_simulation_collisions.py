"""Draws of single interactions against the distributions from which they should come."""

import numpy as np
import pytest
from scipy.integrate import quad

from firstlight.compiled import kernel
from firstlight.detectors.lartpc.simulation import collisions, dice
from firstlight.detectors.lartpc.simulation.argon import ELECTRON_MASS
from firstlight.detectors.lartpc.simulation.photons import BINDING, WAVENUMBER, form_factor, klein_nishina
from firstlight.detectors.lartpc.simulation.stopping import bhabha_cross_section, moller_cross_section
from firstlight.detectors.lartpc.simulation.tables import tables

N = 20_000


@pytest.fixture
def state():
    return dice.start(np.random.SeedSequence(7))


def draws(function, *arguments, n=N):
    return np.array([function(*arguments) for _ in range(n)])


def agrees(sample, mean, sigmas=4.5):
    """Whether the mean of a sample is the expected one; fixed seeds, so it is always or never."""
    return abs(sample.mean() - mean) < sigmas * sample.std() / np.sqrt(sample.size)


def mean_of(density, low, high, moment=lambda x: x, points=None):
    number = quad(density, low, high, points=points, limit=400)[0]
    return quad(lambda x: moment(x) * density(x), low, high, points=points, limit=400)[0] / number


def test_uniform_is_xoshiro():
    # the first numbers of xoshiro256++ from the state 1, 2, 3, 4, as its authors' program gives them
    state = np.array([1, 2, 3, 4], dtype=np.uint64)
    raw = [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205]
    for expected in raw:
        assert dice.uniform(state) == ((expected >> 11) + 0.5) * 2.0**-53


def test_uniform_and_normal_have_their_moments(state):
    flat = draws(dice.uniform, state)
    assert 0 < flat.min() < flat.max() < 1
    assert agrees(flat, 0.5)
    assert agrees((flat - 0.5) ** 2, 1 / 12)
    bell = draws(dice.normal, state)
    assert agrees(bell, 0.0)
    assert agrees(bell**2, 1.0)
    assert agrees(bell**4, 3.0)


@pytest.mark.parametrize(("mean", "variance"), [(50.0, 25.0), (3.0, 2.0), (1.0, 4.0), (0.01, 1.0)])
def test_soft_losses_keep_mean_and_variance(mean, variance, state):
    sample = draws(dice.soft_loss, mean, variance, state)
    assert sample.min() >= 0
    assert agrees(sample, mean)
    assert agrees((sample - mean) ** 2, variance)


@pytest.mark.parametrize(
    "direction", [(0, 0, 1.0), (0, 0, -1.0), (0.6, 0, 0.8), (-0.48, 0.64, -0.6), (1.0, 0, 0)]
)
def test_turning_keeps_the_angle_and_the_length(direction):
    for azimuth in np.linspace(0, 6, 7):
        ray = np.r_[np.zeros(4), direction, 0.0]
        dice.turn(ray, 0.3, azimuth)
        assert np.linalg.norm(ray[4:7]) == pytest.approx(1, abs=1e-14)
        assert ray[4:7] @ direction == pytest.approx(0.3, abs=1e-13)


def test_turning_goes_round_the_same_way_everywhere():
    for direction in ((0.6, 0, 0.8), (-0.48, 0.64, -0.6), (0, 0, -1.0)):
        ends = []
        for azimuth in (0.0, np.pi / 2):
            ray = np.r_[np.zeros(4), direction, 0.0]
            dice.turn(ray, 0.0, azimuth)
            ends.append(ray[4:7].copy())
        np.testing.assert_allclose(np.cross(*ends), direction, atol=1e-13)


@pytest.mark.parametrize("energy", [25.0, 500.0, 10000.0])
def test_knock_on_electrons_have_the_spectrum_of_their_cross_section(energy, state):
    cut, tau = 10.0, energy / ELECTRON_MASS
    for section, draw, most in (
        (moller_cross_section, collisions.moller_share, 0.5 * energy),
        (bhabha_cross_section, collisions.bhabha_share, energy),
    ):
        sample = energy * draws(draw, tau, cut / energy, state)
        assert cut <= sample.min()
        assert sample.max() <= most
        for at in np.geomspace(1.03 * cut, 0.97 * most, 4):
            expected = float(section(energy, at) / section(energy, cut))
            error = np.sqrt(expected * (1 - expected) / N)
            assert abs((sample > at).mean() - expected) < 4.5 * error, (section.__name__, at)


def test_bremsstrahlung_photons_have_their_spectrum(state):
    sample = draws(collisions.bremsstrahlung_share, 1e-4, state)
    assert agrees(
        sample, mean_of(lambda x: (4 / 3 - 4 / 3 * x + x * x) / x, 1e-4, 1, points=[1e-3, 1e-2, 0.1])
    )
    assert agrees(np.log(sample), mean_of(
        lambda y: 4 / 3 - 4 / 3 * np.exp(y) + np.exp(2 * y), np.log(1e-4), 0
    ))  # fmt: skip


def test_angles_of_photons_and_photoelectrons(state):
    beta = 0.9
    dipole = mean_of(lambda c: ((c - beta) ** 2 / (1 - beta * c) ** 2 + 1) / (1 - beta * c) ** 2, -1, 1)
    assert agrees(draws(collisions.dipole_cosine, beta, state), dipole)
    sauter = mean_of(lambda c: (1 - c * c) / (1 - beta * c) ** 4, -1, 1)
    assert agrees(draws(collisions.photoelectron_cosine, beta, state), sauter)
    total = 5.0
    speed = np.sqrt(1 - 1 / total**2)
    assert agrees(
        draws(collisions.pair_cosine, total, state), mean_of(lambda c: (1 - speed * c) ** -2, -1, 1)
    )


def test_scattering_on_nuclei_has_motts_correction(state):
    a, smallest, mott, beta2 = 1e-4, 0.01, 0.41, 0.95
    largest = 1 + mott / 4
    sample = draws(collisions.elastic_mu, a, smallest, mott, beta2, largest, state)

    def weight(mu):
        return 1 - beta2 * mu + mott * np.sqrt(mu) * (1 - np.sqrt(mu))

    def density(mu):
        return weight(mu) / (mu + a) ** 2

    kept = sample[sample >= 0]
    assert kept.min() >= smallest
    assert agrees(np.log(kept), mean_of(density, smallest, 1, np.log, points=[0.05, 0.2]))
    plain = quad(lambda mu: 1 / (mu + a) ** 2, smallest, 1, points=[0.05, 0.2])[0]
    share = quad(density, smallest, 1, points=[0.05, 0.2])[0] / plain / largest
    assert agrees((sample >= 0).astype(float), share)


@pytest.mark.parametrize("energy", [511.0, 10000.0])
def test_compton_scattering_gives_the_energy_of_klein_and_nishina(energy, state):
    total, given = klein_nishina(np.array(energy))
    k = energy / ELECTRON_MASS
    # without binding: S = 1 everywhere
    sample = draws(collisions.compton_ratio, k, 1e9, 1e-9, WAVENUMBER * ELECTRON_MASS, state)
    assert sample.min() >= 1 / (1 + 2 * k)
    assert agrees(1 - sample, float(given / total))


def test_binding_takes_small_angles_from_compton_scattering(state):
    k, energy = 60 / ELECTRON_MASS, 60.0
    sample = draws(collisions.compton_ratio, k, *BINDING, WAVENUMBER * ELECTRON_MASS, state)

    def density(mu):
        ratio = 1 / (1 + 2 * k * mu)
        bound = 1 - np.exp(-BINDING[0] * (WAVENUMBER * energy * np.sqrt(mu)) ** BINDING[1])
        return ratio**2 * (ratio + 1 / ratio - 1 + (1 - 2 * mu) ** 2) * bound

    assert agrees((1 / sample - 1) / (2 * k), mean_of(density, 0, 1))


@pytest.mark.parametrize("energy", [20.0, 300.0])
def test_coherent_scattering_follows_the_form_factor(energy, state):
    found = tables()
    largest = (WAVENUMBER * energy) ** 2
    cosine = draws(collisions.coherent_cosine, largest, found.squares, found.cumulative, state)

    def density(c):
        return (1 + c * c) * float(form_factor(WAVENUMBER * energy * np.sqrt((1 - c) / 2))) ** 2

    expected = mean_of(density, -1, 1, lambda c: (1 - c) / 2, points=[0.9, 0.99, 0.999])
    # the integral of the form factor is a table of 600 rows
    assert ((1 - cosine) / 2).mean() == pytest.approx(expected, rel=0.03)


def test_pair_spectrum_integrates_to_the_total_of_maximon():
    # J. Res. NBS 72B (1968) 79: expansions near threshold and far above it, exact to 1e-4
    for k in (3.0, 3.9):
        e = (2 * k - 4) / (2 + k + 2 * np.sqrt(2 * k))
        series = 1 + e / 2 + 23 / 40 * e**2 + 11 / 60 * e**3 + 29 / 960 * e**4
        expected = 2 * np.pi / 3 * ((k - 2) / k) ** 3 * series
        assert quad(lambda p, k=k: collisions.pair_spectrum(k, p), 1, k - 1)[0] == pytest.approx(
            expected, rel=2e-4
        )
    for k in (8.0, 20.0, 100.0):
        log, zeta = np.log(2 * k), 1.2020569031595942
        expected = (
            28 / 9 * log - 218 / 27
            + (2 / k) ** 2 * (6 * log - 3.5 + 2 / 3 * log**3 - log**2 - np.pi**2 / 3 * log + 2 * zeta + np.pi**2 / 6)
            - (2 / k) ** 4 * (3 / 16 * log + 1 / 8)
            - (2 / k) ** 6 * (29 / 2304 * log - 77 / 13824)
        )  # fmt: skip
        assert quad(lambda p, k=k: collisions.pair_spectrum(k, p), 1, k - 1)[0] == pytest.approx(
            expected, rel=2e-4
        )


@pytest.mark.parametrize("k", [2.5, 20.0, 100.0])
def test_energies_of_pairs_have_their_spectrum(k, state):
    sample = draws(collisions.pair_energy, k, state, n=8000)
    assert 1 < sample.min() < sample.max() < k - 1
    assert agrees(sample, k / 2)
    spread = mean_of(lambda p: collisions.pair_spectrum(k, p), 1, k - 1, lambda p: (p - k / 2) ** 2)
    assert agrees((sample - k / 2) ** 2, spread)


def test_annihilation_in_flight_has_heitlers_shares(state):
    gamma = 5.0
    low = 0.5 * (1 - np.sqrt((gamma - 1) / (gamma + 1)))
    sample = draws(collisions.annihilation_share, gamma, state)
    assert low <= sample.min()
    assert sample.max() <= 1 - low

    def density(x):
        return (1 - x + (2 * gamma * x - 1) / (x * (gamma + 1) ** 2)) / x

    assert agrees(sample, mean_of(density, low, 1 - low))

    # of both photons the spectrum is S(x) + S(1 - x) with Heitler's S = -(g + 1)2 + (g2 + 4g + 1)/x - 1/x2
    def heitler(x):
        one, other = (-((gamma + 1) ** 2) + (gamma**2 + 4 * gamma + 1) / y - 1 / y**2 for y in (x, 1 - x))
        return one + other

    assert agrees((sample - 0.5) ** 2, mean_of(heitler, low, 1 - low, lambda x: (x - 0.5) ** 2))


def test_streams_of_different_seeds_differ():
    states = [dice.start(child) for child in np.random.SeedSequence(1).spawn(50)]
    assert len({tuple(state) for state in states}) == 50


@kernel
def _many(state, n):
    total = 0.0
    for _ in range(n):
        total += dice.uniform(state)
    return total


def test_state_is_moved_on_inside_kernels(state):
    other = state.copy()
    assert _many(state, 1000) == sum(dice.uniform(other) for _ in range(1000))
    np.testing.assert_array_equal(state, other)
