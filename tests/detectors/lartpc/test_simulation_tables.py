"""Stopping powers, cross sections and ranges against published columns and against each other."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad

from firstlight.detectors.lartpc.simulation import photons, stopping, tables
from firstlight.detectors.lartpc.simulation.argon import (
    DENSITY,
    ELECTRON_MASS,
    ELECTRON_RADIUS,
    ELECTRONS_PER_GRAM,
    K_EDGE,
    NIST_PHOTONS,
)
from firstlight.errors import ConfigError

ENERGIES = 1e3 * np.array([0.1, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 50])
COLLISIONS = np.array([2.918, 1.701, 1.480, 1.369, 1.381, 1.416, 1.473, 1.555, 1.631, 1.718])
RADIATION = np.array([0.0100, 0.0126, 0.0162, 0.0275, 0.0558, 0.0883, 0.1600, 0.3595, 0.7949, 2.192])
RANGES = np.array([0.0204, 0.1175, 0.2440, 0.5948, 1.304, 1.984, 3.259, 6.078, 10.70, 20.35])
YIELDS = np.array([0.0020, 0.0043, 0.0062, 0.0107, 0.0199, 0.0295, 0.0491, 0.0966, 0.179, 0.348])


def test_collisions_are_those_of_the_published_column():
    np.testing.assert_allclose(stopping.collision_stopping_power(ENERGIES) / 1e3, COLLISIONS, atol=0.0006)


def test_all_losses_of_an_electron_are_the_formula_of_berger_and_seltzer():
    tau = 2.0
    beta2 = tau * (tau + 2) / (tau + 1) ** 2
    inner = 1 - beta2 + (tau**2 / 8 - (2 * tau + 1) * np.log(2)) / (tau + 1) ** 2
    full = np.log((188e-3 / ELECTRON_MASS) ** -2 * tau**2 * (tau + 2) / 2) + inner
    front = 2 * np.pi * ELECTRON_RADIUS**2 * ELECTRON_MASS * ELECTRONS_PER_GRAM / beta2
    found = stopping.collision_stopping_power(tau * ELECTRON_MASS, density=None)
    assert found == pytest.approx(front * full, rel=1e-9)
    assert stopping.collision_stopping_power(tau * ELECTRON_MASS, cut=1e9, density=None) == found


def test_radiation_goes_through_its_table_and_on_beyond_it():
    np.testing.assert_allclose(stopping.radiative_stopping_power(ENERGIES) / 1e3, RADIATION, rtol=1e-12)
    outside = stopping.radiative_stopping_power(np.array([1.0, 10.0, 99.9, 5e4, 1e5]))
    assert (np.diff(outside) > 0).all()
    assert outside[-1] / outside[-2] == pytest.approx(2.1, abs=0.1)


def test_ranges_and_yields_follow_from_the_stopping_powers():
    np.testing.assert_allclose(tables.csda_range(ENERGIES), RANGES, rtol=3e-3)
    # the column starts at 10 keV, where a few 1e-4 have been radiated
    np.testing.assert_allclose(tables.radiation_yield(ENERGIES), YIELDS, rtol=0.01, atol=1.2e-4)


def test_range_is_the_integral_of_the_inverse_loss():
    def inverse(logarithm):
        energy = np.exp(logarithm)
        loss = stopping.collision_stopping_power(energy) + stopping.radiative_stopping_power(energy)
        return energy / float(loss)

    found = tables.csda_range(5000.0) - tables.csda_range(500.0)
    assert found == pytest.approx(quad(inverse, np.log(500.0), np.log(5000.0), epsrel=1e-9)[0], rel=2e-5)


@pytest.mark.parametrize("particle", ["electron", "positron"])
@pytest.mark.parametrize("energy", [50.0, 1000.0, 20000.0])
def test_loss_between_two_cuts_is_what_collisions_between_them_cost(particle, energy):
    section = stopping.moller_cross_section if particle == "electron" else stopping.bhabha_cross_section
    low, high = 5.0, 20.0
    # by parts: the integral of W dN is that of N(above W), and the ends
    number = quad(lambda cut: float(section(energy, cut)), low, high, epsrel=1e-10)[0]
    cost = number + low * section(energy, low) - high * section(energy, high)
    losses = [stopping.collision_stopping_power(energy, cut=cut, particle=particle) for cut in (low, high)]
    assert losses[1] - losses[0] == pytest.approx(cost, rel=1e-7)


def test_all_losses_of_a_positron_are_the_formula_of_berger_and_seltzer():
    tau = 2.0
    beta2 = tau * (tau + 2) / (tau + 1) ** 2
    inner = 23 + 14 / (tau + 2) + 10 / (tau + 2) ** 2 + 4 / (tau + 2) ** 3
    full = (
        np.log((188e-3 / ELECTRON_MASS) ** -2 * tau**2 * (tau + 2) / 2) + 2 * np.log(2) - beta2 / 12 * inner
    )
    front = 2 * np.pi * ELECTRON_RADIUS**2 * ELECTRON_MASS * ELECTRONS_PER_GRAM / beta2
    found = stopping.collision_stopping_power(tau * ELECTRON_MASS, particle="positron", density=None)
    assert found == pytest.approx(front * full, rel=1e-9)


def test_density_effect_moves_with_density_and_excitation():
    energy = np.array([10.0, 1e3, 1e4, 1e7])
    delta = stopping.density_effect(energy)
    assert delta[0] == 0
    assert (np.diff(delta) > 0).all()
    thin = stopping.density_effect(energy, density=DENSITY / 10)
    # far above x1 the correction goes with the logarithm of density and of momentum
    assert delta[3] - thin[3] == pytest.approx(np.log(10), abs=1e-6)
    assert delta[3] - stopping.density_effect(energy, excitation=0.2)[3] == pytest.approx(
        2 * np.log(0.2 / 0.188), abs=1e-9
    )
    ratio = stopping.collision_stopping_power(1000.0, excitation=0.197) / stopping.collision_stopping_power(
        1000.0
    )
    assert ratio == pytest.approx(0.995, abs=0.0015)


def test_positrons_radiate_less():
    ratio = stopping.positron_radiation(np.array([10.0, 100.0, 1e3, 1e4, 1e5]))
    assert (np.diff(ratio) > 0).all()
    assert ratio[0] < 0.5
    assert ratio[-1] > 0.99


def test_transport_mean_free_path_is_what_the_angular_distribution_says():
    energy = 2000.0
    a, strength = float(stopping.screening(energy)), float(stopping.elastic_strength(energy))
    tau = energy / ELECTRON_MASS
    beta2 = tau * (tau + 2) / (tau + 1) ** 2
    mott = np.pi * 18 / 137.036 * np.sqrt(beta2)

    def moment(mu):
        weight = 1 - beta2 * mu + mott * np.sqrt(mu) * (1 - np.sqrt(mu))
        return 2 * mu * weight / (mu + a) ** 2

    edges = np.r_[0, np.geomspace(a / 10, 1, 12)]
    total = sum(quad(moment, low, high, epsrel=1e-10)[0] for low, high in itertools.pairwise(edges))
    assert tables.transport_mean_free_path(energy) == pytest.approx(
        1 / (strength * total * DENSITY), rel=1e-6
    )
    assert tables.transport_mean_free_path(energy, "positron") > tables.transport_mean_free_path(energy)


def test_parts_of_the_photon_table_add_up_to_it():
    energy, total, _ = NIST_PHOTONS.T
    keep = energy != K_EDGE
    found = photons.photon_cross_sections(energy[keep])
    np.testing.assert_allclose(found.total + found.coherent, total[keep], rtol=4e-3)


@pytest.mark.parametrize(
    ("energy", "compton", "pair", "share"),
    [
        (2.0, 0.0397, 0.0010, 0.025), (3.0, 0.0312, 0.0026, 0.077), (5.0, 0.0225, 0.0055, 0.197),
        (10.0, 0.0138, 0.0107, 0.435), (15.0, 0.0102, 0.0139, 0.577), (20.0, 0.0082, 0.0163, 0.665),
        (30.0, 0.0060, 0.0195, 0.766), (50.0, 0.0040, 0.0235, 0.856),
    ],
)  # fmt: skip
def test_pairs_and_compton_scattering_are_those_of_the_column(energy, compton, pair, share):
    found = photons.photon_cross_sections(1e3 * energy)
    assert found.compton == pytest.approx(compton, abs=6e-5)
    assert found.pair == pytest.approx(pair, abs=1.2e-4)
    assert tables.pair_share(1e3 * energy) == pytest.approx(share, abs=0.003)


def test_binding_lowers_compton_scattering_as_it_should():
    # XCOM, incoherent scattering of argon
    energy, incoherent = (
        np.array([20.0, 40.0, 60.0, 100.0, 200.0]),
        np.array([0.1213, 0.1351, 0.1353, 0.1280, 0.1087]),
    )
    np.testing.assert_allclose(photons.photon_cross_sections(energy).compton, incoherent, rtol=6e-3)
    free, _ = photons.klein_nishina(np.array([20.0, 1e4]))
    ratio = photons.photon_cross_sections(np.array([20.0, 1e4])).compton / free
    assert ratio[0] < 0.75
    assert ratio[1] == pytest.approx(1, abs=1e-3)


def test_photoelectric_effect_has_the_edge_of_the_k_shell():
    below, above = photons.photon_cross_sections(np.array([K_EDGE - 1e-6, K_EDGE + 1e-6])).photo
    assert above / below == pytest.approx(1275 / 142.4, rel=0.03)
    # XCOM, photoelectric absorption of argon
    found = photons.photon_cross_sections(np.array([10.0, 30.0, 60.0, 100.0, 200.0, 400.0])).photo
    np.testing.assert_allclose(found, [62.32, 2.403, 0.2793, 0.05564, 0.006281, 0.0007979], rtol=0.1)
    np.testing.assert_allclose(found[:4], [62.32, 2.403, 0.2793, 0.05564], rtol=0.012)


def test_pairs_start_at_their_threshold():
    found = photons.photon_cross_sections(np.array([1000.0, 2 * ELECTRON_MASS, 1100.0, 1250.0])).pair
    assert found[0] == 0
    assert found[1] == 0
    assert 0 < found[2] < found[3] < 1e-4


def test_tables_refuse_what_cannot_be():
    with pytest.raises(ConfigError, match=r"density = 0 g/cm3 is outside"):
        tables.tables(0.0)
    with pytest.raises(ConfigError, match="collision_cut"):
        tables.tables(collision_cut=0.01)


def test_cross_sections_of_the_tables_go_with_density():
    thin, dense = tables.tables(0.7), tables.tables(1.4)
    np.testing.assert_allclose(2 * thin.photon, dense.photon)
    np.testing.assert_allclose(2 * thin.electron[:, 2:7], dense.electron[:, 2:7])
    # the density effect alone makes a difference in the loss
    assert (2 * thin.electron[:, 0] >= dense.electron[:, 0] * (1 - 1e-12)).all()
