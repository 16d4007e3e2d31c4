"""Drift velocity, diffusion, density, and the limits of each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firstlight.detectors.lartpc.medium import (
    PRESETS,
    VELOCITY_MODELS,
    Medium,
    VelocityTable,
    drift_velocity,
    longitudinal_diffusion,
    mean_energy,
    saturated_density,
    transverse_diffusion,
)
from firstlight.detectors.lartpc.velocity import beyond_range, mobility, mobility_slope, read_velocity_table
from firstlight.errors import InputError, UsageError

FIELDS = np.array([0.1, 0.273, 0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("model", "temperature", "velocities"),
    [
        ("bnl", 87, [0.533, 1.137, 1.601, 2.175, 2.797]),
        ("bnl-gampy", 87, [0.535, 1.157, 1.648, 2.261, 2.918]),
        ("walkowiak", 87, [0.920, 1.312, 1.637, 2.118, 2.738]),
        ("icarus", 87, [0.521, 1.153, 1.606, 2.129, 2.921]),
        ("bnl-gampy", 110, [0.376, 0.814, 1.159, 1.590, 2.052]),
    ],
)
def test_velocities_are_those_of_the_published_fits(model, temperature, velocities):
    found = drift_velocity(FIELDS, temperature, model, extrapolate=True)
    assert found == pytest.approx(velocities, abs=6e-4)


def test_velocity_at_the_usual_field_to_four_digits():
    assert drift_velocity(0.5, 87) == pytest.approx(1.6011, rel=1e-4)
    assert drift_velocity(0.5, 87, "bnl-gampy") == pytest.approx(1.6483, rel=1e-4)
    assert PRESETS["gampy110K"].velocity == pytest.approx(1.1594, rel=1e-4)
    assert PRESETS["dune87K"].velocity == pytest.approx(1.6011, rel=1e-4)


def test_velocity_of_a_measured_point():
    # ARIADNE: 1.608 +- 0.005 mm/us at 0.54 kV/cm; fits differ by more than that
    for model in ("bnl", "walkowiak", "larsoft"):
        assert drift_velocity(0.54, 88.5, model) == pytest.approx(1.608, rel=0.04)


def test_joined_fits_are_continuous_and_equal_their_parts():
    edges = np.array([0.619, 0.699])
    assert drift_velocity(0.5, 88, "larsoft") == drift_velocity(0.5, 88, "icarus")
    assert drift_velocity(1.2, 88, "larsoft") == drift_velocity(1.2, 88, "walkowiak")
    below, above = (drift_velocity(edges * (1 + sign * 1e-9), 88, "larsoft") for sign in (-1, 1))
    assert below == pytest.approx(above, rel=1e-7)


def test_scalar_gives_a_number_and_arrays_broadcast():
    assert isinstance(drift_velocity(0.5, 87), float)
    grid = drift_velocity(FIELDS[:, None], np.array([86.0, 88.0, 90.0]))
    assert grid.shape == (5, 3)
    assert (np.diff(grid, axis=1) < 0).all()
    assert (np.diff(grid, axis=0) > 0).all()
    assert drift_velocity(0.0, 87) == 0.0


@pytest.mark.parametrize(
    ("field", "temperature", "model", "words"),
    [
        (0.3, 87, "walkowiak", "0.5 to 12.6 kV/cm"),
        (1.0, 87, "icarus", "0.09 to 0.7 kV/cm"),
        (0.5, 110, "bnl", "83.8 to 94 K"),
        (5.0, 87, "bnl", "0 to 2 kV/cm"),
        (0.5, 86, "larsoft", "87 to 94 K"),
    ],
)
def test_outside_the_range_of_a_fit_is_refused_unless_asked_for(field, temperature, model, words):
    with pytest.raises(UsageError, match=words) as caught:
        drift_velocity(field, temperature, model)
    assert any("walkowiak" in fit for fit in caught.value.known)
    assert words in beyond_range(field, temperature, model)[0]
    assert drift_velocity(field, temperature, model, extrapolate=True) > 0


@pytest.mark.parametrize("field", [-0.5, math.nan, math.inf])
def test_impossible_fields_are_refused_even_with_extrapolation(field):
    with pytest.raises(UsageError, match="drift field"):
        drift_velocity(field, 87, extrapolate=True)


def test_unknown_model_is_named_with_its_neighbours():
    with pytest.raises(UsageError, match="walkowjak") as caught:
        drift_velocity(0.5, 87, "walkowjak")
    assert "walkowiak" in caught.value.hint
    assert caught.value.known == list(VELOCITY_MODELS)


def test_mobility_is_velocity_over_field_and_has_a_limit_without_field():
    assert mobility(0.5, 87) == pytest.approx(100 * drift_velocity(0.5, 87) / 0.5, rel=1e-12)
    assert mobility(0.0, 89.0) == pytest.approx(551.6, rel=1e-6)


@pytest.mark.parametrize("field", [0.05, 0.3, 0.5, 1.7])
def test_slope_of_the_mobility_is_the_analytic_derivative(field):
    a0, a1, a2, a3, a4, a5 = 551.6, 7158.3, 4440.43, 4.29, 43.63, 0.2053
    above = a0 + a1 * field + a2 * field**1.5 + a3 * field**2.5
    below = 1 + a1 / a0 * field + a4 * field**2 + a5 * field**3
    d_above = a1 + 1.5 * a2 * field**0.5 + 2.5 * a3 * field**1.5
    d_below = a1 / a0 + 2 * a4 * field + 3 * a5 * field**2
    assert mobility_slope(field, 87) == pytest.approx(field * (d_above / above - d_below / below), abs=1e-7)


# ---------------------------------------------------------------- tables


def test_table_of_a_fit_gives_the_fit():
    fields = np.geomspace(0.05, 2.0, 60)
    table = VelocityTable(tuple(fields), tuple(drift_velocity(fields, 87)))
    inside = np.array([0.06, 0.273, 0.5, 1.1, 1.9])
    assert drift_velocity(inside, 87, table) == pytest.approx(drift_velocity(inside, 87), rel=1e-4)
    assert transverse_diffusion(0.5, 87, table) == pytest.approx(transverse_diffusion(0.5, 87), rel=5e-3)


def test_table_with_temperatures_is_linear_between_them():
    fields = np.tile([0.3, 0.5, 1.0], 2)
    warm = np.repeat([87.0, 91.0], 3)
    table = VelocityTable(tuple(fields), (1.2, 1.6, 2.2, 1.0, 1.4, 2.0), tuple(warm))
    assert drift_velocity(0.5, [87, 88, 91], table) == pytest.approx([1.6, 1.55, 1.4])
    assert drift_velocity([0.3, 1.0], 89, table) == pytest.approx([1.1, 2.1])
    with pytest.raises(UsageError, match=r"0\.3 to 1 kV/cm"):
        drift_velocity(0.2, 87, table)
    with pytest.raises(UsageError, match="87 to 91 K"):
        drift_velocity(0.5, 92, table)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (((0.1, 0.2), (1.0,)), "2 fields, 1 velocities"),
        (((0.1, 0.1), (1.0, 1.1)), "two or more different fields"),
        (((0.1, -0.2), (1.0, 1.1)), "row 1 is field -0.2"),
        (((0.1, 0.2), (1.0, math.nan)), "row 1"),
        (((0.1,), (1.0,)), "two or more different fields"),
        (((0.1, 0.2), (1.0, 1.1), (87.0, 88.0)), "at 87 K"),
    ],
)
def test_tables_that_are_none_are_refused(columns, words):
    with pytest.raises(InputError, match="velocity table") as caught:
        VelocityTable(*columns)
    assert words in str(caught.value)


def test_table_is_read_from_text(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("# field, velocity\n0.2, 0.9\n0.5, 1.55 # measured\n1.0 2.1\n", encoding="utf-8")
    table = read_velocity_table(path)
    assert drift_velocity(0.5, 87, table) == pytest.approx(1.55)
    medium = Medium(velocity_model=table)
    assert medium.model_name == "own.csv"
    assert medium.velocity == pytest.approx(1.55)


@pytest.mark.parametrize("text", ["", "field velocity\n0.5 1.6\n", "0.5\n1.0\n", "0.5 1.6\n0.6\n"])
def test_text_that_is_no_table_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "broken.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.csv"):
        read_velocity_table(path)


# ---------------------------------------------------------------- diffusion, density, lifetime


def test_diffusion_at_the_usual_field():
    assert mean_energy(0.5, 87) == pytest.approx(0.0207, abs=5e-5)
    assert longitudinal_diffusion(0.5, 87) == pytest.approx(6.63, abs=0.005)
    assert transverse_diffusion(0.5, 87) == pytest.approx(13.24, abs=0.005)
    assert longitudinal_diffusion(0.5, 87) / transverse_diffusion(0.5, 87) == pytest.approx(0.5005, abs=1e-4)
    assert longitudinal_diffusion(0.2739, 89) == pytest.approx(6.3, abs=0.15)


def test_without_field_diffusion_is_thermal():
    # Einstein: D = mu kT / e in every direction
    thermal = 551.6 * 8.617333e-5 * 89.0
    assert longitudinal_diffusion(1e-6, 89.0) == pytest.approx(thermal, rel=0.01)
    assert transverse_diffusion(1e-6, 89.0) == pytest.approx(longitudinal_diffusion(1e-6, 89.0), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "along", "across"),
    [
        ({}, 0.910, 1.286),
        ({"fixed_transverse": 12.0}, 0.910, 1.224),
        ({"fixed_longitudinal": 4.0, "fixed_transverse": 8.8}, 0.707, 1.048),
    ],
)
def test_spread_after_a_metre(changes, along, across):
    medium = PRESETS["dune87K"].with_changes(**changes)
    found = medium.spread(1.0)
    assert found[0] * 1000 == pytest.approx(across, abs=6e-4)
    assert found[1] * 1000 == pytest.approx(along, abs=6e-4)
    assert medium.drift_time(1.0) == pytest.approx(624.6, abs=0.05)


def test_spread_of_the_original_after_its_cell():
    across, along = PRESETS["gampy110K"].spread(0.175)
    assert across * 1000 == pytest.approx(0.60, abs=0.005)
    assert along * 1000 == pytest.approx(0.43, abs=0.005)
    assert PRESETS["gampy110K"].drift_length == pytest.approx(11.59, abs=0.005)


@pytest.mark.parametrize(
    ("lifetime", "share"), [(1, 0.5355), (2.2, 0.7528), (3, 0.8120), (10, 0.9394), (math.inf, 1)]
)
def test_survival_over_a_metre(lifetime, share):
    # the table is for 624.6 us; half a digit of it is 5e-5
    assert Medium(lifetime=lifetime).survival(1.0) == pytest.approx(share, abs=6e-5)


@pytest.mark.parametrize(("temperature", "density"), [(87.3, 1.3954), (100.0, 1.3137), (110.0, 1.2428)])
def test_density_of_the_saturated_liquid(temperature, density):
    assert saturated_density(temperature) == pytest.approx(density, abs=1e-4)
    assert Medium(temperature, extrapolate=True).density == pytest.approx(density, abs=1e-4)


@pytest.mark.parametrize("temperature", [80.0, 151.0, math.nan])
def test_argon_that_is_not_liquid_is_refused(temperature):
    with pytest.raises(UsageError, match="not liquid"):
        saturated_density([90.0, temperature])


# ---------------------------------------------------------------- the medium


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"field": "high"}, "field is 'high', not a number of kV/cm"),
        ({"field": None}, "not a number"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"field": 0.0}, "field is 0 kV/cm; it must be more than 0"),
        ({"field": 500.0}, "at most 100"),
        ({"field": math.nan}, "field is nan"),
        ({"lifetime": 0.0}, "lifetime is 0 ms"),
        ({"temperature": 300.0}, "not liquid at 300 K"),
        ({"temperature": 110.0}, "83.8 to 94 K"),
        ({"fixed_transverse": -1.0}, "0 or more"),
        ({"fixed_density": 139.6}, "at most 2"),
        ({"velocity_model": "magic"}, "unknown drift velocity model"),
    ],
)
def test_impossible_media_are_refused_with_their_limits(changes, words):
    with pytest.raises(UsageError) as caught:
        Medium(**changes)
    assert words in str(caught.value)


def test_unknown_value_is_named():
    with pytest.raises(UsageError, match="temprature") as caught:
        PRESETS["dune87K"].with_changes(temprature=88)
    assert "temperature" in caught.value.hint


def test_extrapolation_is_recorded():
    assert PRESETS["dune87K"].notes == ()
    (note,) = PRESETS["gampy110K"].notes
    assert "110 K is outside 83.8 to 94 K" in note
    record = PRESETS["gampy110K"].record()
    assert record["notes"] == [note]
    assert record["velocity_model"] == "bnl-gampy"
    assert record["transverse_diffusion"] == 12.0


def test_a_fit_that_runs_below_zero_makes_no_medium():
    # warm argon in a weak field: Walkowiak's fit gives a negative velocity there
    with pytest.raises(UsageError, match="mm/us at"):
        Medium(149.0, 0.001, velocity_model="walkowiak", extrapolate=True)
