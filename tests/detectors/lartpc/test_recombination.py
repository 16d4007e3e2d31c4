"""Recombination formulas, whole electrons, and the energy loss that they need."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firstlight.detectors.lartpc.recombination import (
    FANO,
    RECOMBINATION,
    SHORTEST_WINDOW,
    WORK_FUNCTION,
    birks,
    charge_from_energy,
    constant,
    local_dedx,
    modified_box,
    recombination_model,
)
from firstlight.errors import InputError, UsageError

LOSSES = [1.5, 1.8, 2.1, 3.0, 5.0, 10.0, 50.0]


def test_formulas_at_half_a_kilovolt():
    box = modified_box(LOSSES, 0.5, 1.396)
    assert box == pytest.approx([0.7158, 0.7130, 0.7050, 0.6699, 0.5897, 0.4537, 0.1830], abs=6e-5)
    found = birks(LOSSES, 0.5, 1.396)
    assert found == pytest.approx([0.7243, 0.7109, 0.6979, 0.6618, 0.5934, 0.4716, 0.1785], abs=6e-5)
    per_kev = 1000 / WORK_FUNCTION * box
    assert per_kev == pytest.approx([30.33, 30.21, 29.87, 28.39, 24.99, 19.23, 7.76], abs=6e-3)
    assert constant(LOSSES) == pytest.approx(np.full(7, 0.7))


def test_named_sets_of_parameters():
    assert RECOMBINATION["box-argoneut"](2.1, 0.5) == pytest.approx(0.7050, abs=6e-5)
    assert RECOMBINATION["birks-icarus"](2.1, 0.5) == pytest.approx(0.6979, abs=6e-5)
    assert RECOMBINATION["birks-gampixpy"](2.1, 0.5) == pytest.approx(
        0.806 / (1 + 0.052 * 2.1 / (1.396 * 0.5)), rel=1e-12
    )
    xi = 0.207 * 2.1 / (1.38 * 0.5)
    assert RECOMBINATION["box-larnd-sim"](2.1, 0.5) == pytest.approx(math.log(0.93 + xi) / xi, rel=1e-12)
    assert RECOMBINATION["constant"](2.1, 0.5) == 0.70
    for name, model in RECOMBINATION.items():
        assert recombination_model(name) is model
        assert 0.6 < model(2.0, 0.5) < 0.8


def test_more_escape_in_a_stronger_field_and_less_from_a_denser_track():
    for formula in (birks, modified_box):
        assert (np.diff(formula(2.1, np.array([0.05, 0.1, 0.3, 0.5]))) > 0).all()
        assert (np.diff(formula(np.array([2.0, 3.0, 10.0, 100.0, 1e4]), 0.5)) < 0).all()
    assert modified_box(0.05, 0.5) == 0.0


def test_names_and_values_that_do_not_exist():
    with pytest.raises(UsageError, match="box-argonaut") as caught:
        recombination_model("box-argonaut")
    assert "box-argoneut" in caught.value.hint
    with pytest.raises(UsageError, match="field is 0 kV/cm"):
        birks(2.1, 0.0)
    with pytest.raises(UsageError, match="dE/dx is -1 MeV/cm"):
        modified_box([2.1, -1.0], 0.5)


# ---------------------------------------------------------------- whole electrons


@pytest.mark.parametrize("step", [0.002, 0.02, 0.2, 2.0])
def test_charge_does_not_depend_on_the_size_of_the_steps(step):
    deposits = np.full(round(1000 / step), step)
    expected = 1e6 / WORK_FUNCTION * modified_box(2.1, 0.5)
    assert charge_from_energy(deposits, 2.1).sum() == pytest.approx(expected, abs=1)
    rng = np.random.default_rng(3)
    totals = np.array([charge_from_energy(deposits, 2.1, rng).sum() for _ in range(40)])
    share = modified_box(2.1, 0.5)
    pairs = 1e6 / WORK_FUNCTION
    sigma = math.sqrt(pairs * share * (1 - share) + share**2 * FANO * pairs)
    assert abs(totals.mean() - expected) < 3.5 * sigma / math.sqrt(40)


def test_variance_is_of_fano_and_of_escape():
    rng = np.random.default_rng(5)
    deposits = np.full(500, 0.2)
    n = 4000
    totals = np.array([charge_from_energy(deposits, 2.1, rng).sum() for _ in range(n)])
    share, pairs = modified_box(2.1, 0.5), 1e5 / WORK_FUNCTION
    variance = pairs * share * (1 - share) + share**2 * FANO * pairs
    # the variance of a variance of n Gaussian numbers is 2 / n of its square
    assert abs(totals.var(ddof=1) / variance - 1) < 3.5 * math.sqrt(2 / n)
    assert abs(totals.mean() - pairs * share) < 3.5 * math.sqrt(variance / n)


def test_without_recombination_only_fano_fluctuates():
    rng = np.random.default_rng(6)
    everything = RECOMBINATION["constant"].__class__("all", "constant", (1.0,), 1.396, "test")
    n = 4000
    totals = np.array(
        [charge_from_energy(np.full(50, 2.0), 2.1, rng, model=everything).sum() for _ in range(n)]
    )
    variance = FANO * 1e5 / WORK_FUNCTION + 1 / 6  # whole electrons
    assert abs(totals.var(ddof=1) / variance - 1) < 3.5 * math.sqrt(2 / n)


def test_charges_are_whole_seeded_and_nowhere_negative():
    deposits = np.random.default_rng(1).exponential(0.05, 20_000)
    first = charge_from_energy(deposits, 2.1, np.random.default_rng(9))
    again = charge_from_energy(deposits, 2.1, np.random.default_rng(9))
    assert first.dtype == np.int64
    assert (first >= 0).all()
    assert np.array_equal(first, again)
    assert charge_from_energy([], [], np.random.default_rng(1)).size == 0
    # energy losses below minimum ionisation are artefacts of short samples: the box formula gives 0 there
    assert charge_from_energy([100.0], [0.1]).item() == charge_from_energy([100.0], [1.5]).item() > 3000


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_energies_that_are_none_are_refused(bad):
    with pytest.raises(InputError, match="deposit 1"):
        charge_from_energy([1.0, bad], 2.1)
    with pytest.raises(UsageError, match="work function"):
        charge_from_energy([1.0], 2.1, work_function=0.0)


# ---------------------------------------------------------------- energy loss along particles


def straight(n, step, particle=0):
    """Return points [m] along x, `step` apart."""
    return np.stack([np.arange(n) * step, np.zeros(n), np.full(n, 0.01 * particle)])


def test_energy_loss_of_a_straight_particle_is_energy_over_length():
    # 1 um steps of 0.21 keV are 2.1 MeV/cm
    found = local_dedx(straight(2000, 1e-6), np.full(2000, 0.21), np.zeros(2000, dtype=int))
    assert found == pytest.approx(np.full(2000, 2.1), rel=1e-9)


def test_window_averages_what_single_steps_do_not_show():
    rng = np.random.default_rng(2)
    deposits = rng.exponential(0.21, 5000)
    found = local_dedx(straight(5000, 1e-6), deposits, np.zeros(5000, dtype=int), 1e-3)
    # a thousand exponential steps have a spread of 3.2 %
    assert found.mean() == pytest.approx(2.1, rel=0.03)
    assert 0.015 < found.std() / found.mean() < 0.05


def test_particles_are_kept_apart_whatever_the_order_of_points():
    positions = np.concatenate([straight(800, 1e-6), straight(800, 1e-6, 1)], axis=1)
    deposits, owner = np.repeat([0.2, 0.6], 800), np.repeat([4, 1], 800)
    found = local_dedx(positions, deposits, owner)
    assert found == pytest.approx(np.repeat([2.0, 6.0], 800), rel=1e-9)
    mixed = np.random.default_rng(4).permutation(800)
    order = np.stack([np.arange(800), 800 + np.arange(800)])[:, np.argsort(mixed)[mixed]].T.ravel()
    assert local_dedx(positions[:, order], deposits[order], owner[order]) == pytest.approx(found[order])


def test_short_particles_use_their_whole_path_and_single_deposits_their_range():
    positions = np.concatenate([straight(11, 1e-6), [[0.5], [0.0], [0.0]]], axis=1)
    deposits, owner = np.append(np.full(11, 1.0), 100.0), np.append(np.zeros(11, dtype=int), 1)
    found = local_dedx(positions, deposits, owner)
    assert found[:11] == pytest.approx(np.full(11, 10.0))
    # a 100 keV electron: range 0.0135 g/cm2 by the formula of Katz and Penfold
    assert found[11] == pytest.approx(0.1 / (0.01350 / 1.396), rel=0.01)
    # the field of charge of such an electron: 22.7 electrons for a keV at 0.5 kV/cm in NEST
    assert 1000 / WORK_FUNCTION * modified_box(found[11], 0.5) == pytest.approx(22.7, rel=0.2)


def test_windows_shorter_than_the_formulas_know_are_refused():
    with pytest.raises(UsageError, match="3 to 5 mm"):
        local_dedx(straight(3, 1e-6), np.ones(3), np.zeros(3, dtype=int), SHORTEST_WINDOW / 2)
    with pytest.raises(InputError, match="particle numbers"):
        local_dedx(straight(3, 1e-6), np.ones(3), np.zeros(2, dtype=int))
    assert local_dedx(np.zeros((3, 0)), [], np.zeros(0, dtype=int)).size == 0


def test_window_is_half_a_millimetre_unless_told_otherwise():
    # 5 mm with 2 MeV/cm, then 5 mm with 6: steps of 10 um
    deposits = np.concatenate([np.full(500, 2.0), np.full(500, 6.0)])
    found = local_dedx(straight(1000, 1e-5), deposits, np.zeros(1000, dtype=int))
    assert found[:470] == pytest.approx(np.full(470, 2.0), rel=1e-9)
    assert found[530:] == pytest.approx(np.full(470, 6.0), rel=1e-9)
    # at a quarter of the window before the jump, three quarters of the window are before it
    assert found[[487, 499, 512]] == pytest.approx([3.0, 4.0, 5.0], abs=0.1)
    wide = local_dedx(straight(1000, 1e-5), deposits, np.zeros(1000, dtype=int), 5e-3)
    assert wide[399] == pytest.approx(3.2, abs=0.02)
