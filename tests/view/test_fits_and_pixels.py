"""Drawing of fits, of chips with many pixels and of groups: numbers that are written are those of the data."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from scipy.stats import poisson

from firstlight.errors import UsageError
from firstlight.view import draw
from firstlight.view.draw_fits import (
    add_top_axis,
    draw_differences,
    draw_fit,
    draw_p_values,
    draw_pulls,
    draw_quantiles,
    poisson_interval,
    with_error,
)
from firstlight.view.draw_groups import (
    Budget,
    draw_budgets,
    draw_histogram_difference,
    draw_joint,
    draw_overlaid,
    draw_profile,
)
from firstlight.view.draw_pixels import Overlay, draw_pixel_categories, draw_pixels, light_map, robust_range


def axes(width=6.0, height=5.0):
    return draw.place(draw.sheet(width, height), 0.9, 0.8, 1.2, 0.6)


def written(ax):
    return "\n".join(text.get_text() for text in ax.texts)


def test_range_follows_each_side_and_not_the_outliers():
    random = np.random.default_rng(30)
    values = np.r_[random.normal(10, 1, 5000), 1e9, -1e9, np.nan]
    low, high = robust_range(values)
    assert 6 < low < 8
    assert 12 < high < 14
    skewed = random.exponential(1.0, 5000)
    low, high = robust_range(skewed)
    assert low == skewed.min()
    assert high > 3
    assert robust_range([]) == (0.0, 1.0)
    assert robust_range([4.0, 4.0]) == (2.0, 6.0)


def test_intervals_of_counts_cover_as_often_as_they_say():
    counts = np.array([0, 1, 4, 100])
    below, above = poisson_interval(counts)
    tail = (1 - 0.6827) / 2
    np.testing.assert_allclose(poisson.cdf(counts, counts + above), tail, rtol=1e-9)
    np.testing.assert_allclose(poisson.sf(counts[1:] - 1, (counts - below)[1:]), tail, rtol=1e-9)
    assert below[0] == 0


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (13.58391, 0.2715, "13.58 ± 0.27"),
        (-0.001234, 0.00051, "−0.00123 ± 0.00051"),
        (59361.2, 244.0, "59361 ± 244"),
        (13.6, float("nan"), "13.6"),
        (float("nan"), 1.0, "not known"),
    ],
)
def test_values_have_the_digits_that_their_errors_leave(value, error, text):
    assert with_error(value, error) == text


def test_axis_above_is_the_line_that_was_given():
    ax = axes()
    ax.set_xlim(1480, 1600)
    add_top_axis(ax, 13.2, 1420.0, "electrons")
    ax.figure.draw_without_rendering()
    assert ax.child_axes[0].get_xlim() == pytest.approx((13.2 * 60, 13.2 * 180))
    plain = axes()
    add_top_axis(plain, float("nan"), 1420.0, "electrons")
    assert not plain.child_axes


def test_points_without_an_error_have_no_pull():
    ax = draw_differences(axes(), [1, 2, 3], [10.0, 12.0, 5.0], [9.0, 10.0, 5.0], [0.5, 0.0, 1.0], pulls=True)
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), [[1, 2.0], [3, 0.0]])
    assert draw_fit(axes(), [1, 2], [np.nan, np.nan]).texts[0].get_text().startswith("no data")


def test_pulls_beyond_the_axis_are_counted():
    ax = draw_pulls(axes(), [0.0, 1.0, -2.0, 50.0, np.nan])
    assert "n 4" in written(ax)
    assert "beyond ±10: 1" in written(ax)
    assert "within 3σ: 75.0 %" in written(ax)


def test_a_pile_of_p_values_at_zero_is_told_where_the_axis_ends_below_it():
    flat = (np.arange(5000) + 0.5) / 5000
    ax = draw_p_values(axes(), np.r_[flat, np.zeros(5000)])
    assert ax.get_ylim()[1] < 5100
    assert "first bin: 5,100" in written(ax)


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [3.0, 3.0, 3.0], [np.nan] * 5])
def test_probability_plot_of_too_little_says_so(values):
    ax = axes()
    assert draw_quantiles(ax, values) is None
    assert "no data" in written(ax)


def test_probability_plot_draws_all_of_the_tails():
    ax = axes()
    draw_quantiles(ax, np.random.default_rng(31).normal(0, 1, 50_000), most=2000)
    points = ax.lines[0].get_xydata()
    assert 1500 < len(points) <= 2100
    assert np.diff(np.sort(points[:, 1])[:400]).max() < 1


def test_pixels_outside_the_colours_are_counted_and_empty_ones_are_white():
    values = np.arange(100.0).reshape(10, 10)
    values[0, 0] = np.nan
    hidden = values == 55
    ax = draw_pixels(
        axes(), values, label="x", overlays=[Overlay("masked", hidden, "#000000")], limits=(10, 90)
    )
    image = ax.images[0].get_array()
    assert tuple(image[0, 0][:3]) == (255, 255, 255)
    assert tuple(image[5, 5][:3]) == (0, 0, 0)
    bar = ax.figure.axes[1]
    assert [text.get_text() for text in bar.texts] == ["above: 9", "below: 9"]


def test_scale_is_logarithmic_where_values_span_far():
    random = np.random.default_rng(32)
    wide, narrow = 10 ** random.uniform(-2, 2, (20, 20)), random.uniform(1, 2, (20, 20))
    norms = []
    for values in (wide, narrow):
        ax = draw_pixels(axes(), values, label="x", scale="auto")
        norms.append(ax.figure.axes[1]._colorbar.norm)
    assert isinstance(norms[0], LogNorm)
    assert not isinstance(norms[1], LogNorm)


def test_black_is_free_for_masked_pixels():
    assert min(light_map()(np.linspace(0, 1, 64))[:, :3].sum(axis=1)) > 0.7


def test_wrong_shapes_and_codes_are_told():
    with pytest.raises(UsageError, match="rows, columns"):
        draw_pixels(axes(), np.zeros(16), label="x")
    with pytest.raises(UsageError, match="overlay 'masked'"):
        draw_pixels(
            axes(), np.zeros((4, 4)), label="x", overlays=[Overlay("masked", np.zeros((4, 5), bool), "k")]
        )
    with pytest.raises(UsageError, match="category"):
        draw_pixel_categories(axes(), np.full((4, 4), 7), {1: ("good", "red")})


def test_all_pixels_empty_is_said():
    ax = draw_pixels(axes(), np.full((4, 4), np.nan), label="x")
    assert "no data" in written(ax)


def test_parts_of_an_uncertainty_add_in_quadrature_and_unknown_ones_are_named():
    entry = Budget("K", 13.2, {"statistical": 0.3, "common": 0.4, "baseline": float("nan")})
    assert entry.total == pytest.approx(0.5)
    ax = draw_budgets(axes(), [entry, Budget("none", float("nan"), {})], label="K")
    assert "13.20 ± 0.50" in written(ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["statistical", "common", "baseline: not known", "all, in quadrature"]
    assert "no data" in written(draw_budgets(axes(), [], label="K"))


def test_overlaid_histograms_are_normalised_with_what_is_outside():
    values = {"a": [1.0, 1.0, 2.0, 99.0], "b": [2.0] * 8, "c": [np.nan]}
    ax = draw_overlaid(axes(), values, limits=(0, 4), bins=4)
    heights = [patch.get_data().values for patch in ax.patches]
    np.testing.assert_allclose(heights, [[0, 0.5, 0.25, 0], [0, 0, 1, 0]])
    assert "1 outside" in ax.get_legend().get_texts()[0].get_text()


def test_difference_of_samples_of_one_distribution_has_a_chi2_of_its_bins():
    random = np.random.default_rng(33)
    ratios = []
    for _ in range(40):
        ax = draw_histogram_difference(
            axes(), random.normal(0, 1, 4000), random.normal(0, 1, 3000), limits=(-2, 2), bins=20
        )
        _, chi2, _, number, _ = ax.texts[0].get_text().split()
        ratios.append(float(chi2) / float(number))
    # the mean of 40 chi2 of 19 degrees of freedom
    assert np.mean(ratios) == pytest.approx(20 / 19, abs=4 * np.sqrt(2 / 19 / 40))


def test_profile_has_the_mean_and_its_error_at_each_position():
    position = np.repeat(np.arange(3), 100)
    values = np.random.default_rng(34).normal(0, 1, 300) + position
    ax = draw_profile(axes(), position, values, labels=("row", "x"))
    points = ax.lines[1].get_xydata()
    np.testing.assert_allclose(points[:, 1], [values[position == p].mean() for p in range(3)])
    bars = ax.collections[0].get_segments()
    error = values[position == 1].std(ddof=1) / 10
    assert np.ptp(bars[1][:, 1]) / 2 == pytest.approx(error)


def test_pairs_with_an_unknown_value_are_left_out_of_the_correlation():
    x = np.arange(50.0)
    y = np.r_[2 * x[:-1], np.nan]
    ax = draw_joint(axes(), x, y, labels=("x", "y"))
    assert "n 49" in written(ax)
    assert "correlation 1.000" in written(ax)
    assert "no data" in written(draw_joint(axes(), [1.0], [2.0], labels=("x", "y")))
