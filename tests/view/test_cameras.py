"""Cameras of hexagons, distributions with flagged channels, scatter plots: the numbers and colours that are drawn."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from firstlight.data.channels import ChannelMap
from firstlight.errors import UsageError
from firstlight.view.draw_groups import draw_scatter
from firstlight.view.draw_histograms import draw_flagged_distribution
from firstlight.view.draw_layouts import hexagon_corners
from firstlight.view.draw_pixels import Overlay, draw_camera, draw_outline, draw_rings


def camera(rows=7, columns=9, turn=0.0):
    """Return a field of hexagons 10 mm apart, turned by an angle."""
    row, column = (axis.ravel() for axis in np.indices((rows, columns)))
    x, y = 10.0 * (column + 0.5 * (row % 2)), 10.0 * np.sqrt(0.75) * row
    frame = pl.DataFrame(
        {
            "channel": np.arange(row.size),
            "x": np.cos(turn) * x - np.sin(turn) * y,
            "y": np.sin(turn) * x + np.cos(turn) * y,
        }
    )
    return ChannelMap("field", "1", frame, "hexagons", labels={"x": "x [mm]", "y": "y [mm]"})


def axes(width=6, height=5):
    return Figure(figsize=(width, height)).add_subplot()


def colour_at(ax, channels, channel, shift=(0.0, 0.0)):
    """Return the colour that is drawn in the middle of a pixel."""
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3]
    place = (channels.column("x")[channel] + shift[0], channels.column("y")[channel] + shift[1])
    x, y = ax.transData.transform(place)
    return tuple(int(part) for part in image[image.shape[0] - 1 - int(y), int(x)])


def byte(colour):
    return tuple(round(255 * part) for part in to_rgb(colour))


def words(ax):
    return "\n".join(text.get_text() for text in ax.texts)


# -- cameras -------------------------------------------------------------------------------------------------------


def test_pixels_have_the_colour_of_their_value_or_of_the_last_overlay():
    channels, ax = camera(), axes()
    values = np.arange(63.0)
    some = np.isin(np.arange(63), (10, 20))
    overlays = [Overlay("unlit", some, "#b9c4cf"), Overlay("dead", np.arange(63) == 20, "#000000")]
    draw_camera(ax, values, channels, label="v", overlays=overlays, limits=(0, 62), colour_map="viridis")
    assert colour_at(ax, channels, 10) == byte("#b9c4cf")
    assert colour_at(ax, channels, 20) == (0, 0, 0)
    assert colour_at(ax, channels, 0) == byte("#440154")
    np.testing.assert_allclose(colour_at(ax, channels, 62), byte("#fde725"), atol=1)
    assert ax.get_xlabel() == "x [mm]"


def test_outliers_do_not_stretch_the_colours_of_a_camera_and_are_counted():
    channels, ax = camera(30, 30), axes()
    values = np.random.default_rng(1).normal(5, 0.3, 900)
    values[:4], values[5] = 100, -100
    draw_camera(ax, values, channels, label="gain [LSB]")
    bar = ax.figure.axes[1]
    low, high = bar.get_ylim()
    assert 3.5 < low < high < 6.5
    above, below = (int(text.get_text().split(": ")[1]) for text in bar.texts)
    assert (above, below) == ((values > high).sum(), (values < low).sum())
    assert above >= 4
    assert below >= 1


def test_a_camera_without_values_is_drawn_with_its_overlays_or_says_so():
    channels, ax = camera(), axes()
    nothing = np.full(63, np.nan)
    draw_camera(
        ax, nothing, channels, label="v", overlays=[Overlay("dead", np.ones(63, dtype=bool), "#111111")]
    )
    assert colour_at(ax, channels, 31) == byte("#111111")
    ax = axes()
    draw_camera(ax, nothing, channels, label="v")
    assert "no pixel has a value" in words(ax)


def test_values_and_overlays_of_another_camera_are_refused():
    with pytest.raises(UsageError, match=r"values of pixels: shape \(5,\), there are 63"):
        draw_camera(axes(), np.zeros(5), camera(), label="v")
    with pytest.raises(UsageError, match="overlay 'dead'"):
        draw_camera(
            axes(),
            np.zeros(63),
            camera(),
            label="v",
            overlays=[Overlay("dead", np.zeros(5, dtype=bool), "k")],
        )


def test_rings_leave_the_colour_of_the_pixel():
    channels, ax = camera(), axes()
    draw_camera(ax, np.arange(63.0), channels, label="v", limits=(0, 62), colour_map="viridis")
    before = colour_at(ax, channels, 31)
    draw_rings(ax, channels, np.arange(63) == 31, colour="#ff0000", width=3)
    assert colour_at(ax, channels, 31) == before
    # the ring runs through a point at 0.82 of the way to a corner
    corner = 0.82 * hexagon_corners(np.stack([channels.column("x"), channels.column("y")], axis=1))[0]
    assert colour_at(ax, channels, 31, tuple(corner)) == (255, 0, 0)
    assert colour_at(ax, channels, 33, tuple(corner)) != (255, 0, 0)


@pytest.mark.parametrize("turn", [0.0, 0.3, np.pi / 6])
def test_an_outline_runs_once_around_each_group(turn):
    channels = camera(turn=turn)

    def sides(*pixels):
        ax = axes()
        draw_outline(ax, channels, np.isin(np.arange(63), pixels))
        found = [collection for collection in ax.collections if isinstance(collection, LineCollection)]
        return [] if not found else found[0].get_segments()

    assert sides() == []
    assert len(sides(31)) == 6
    assert len(sides(31, 32)) == 10  # neighbours have a side in common
    assert len(sides(0, 62)) == 12  # two groups
    ring = sides(31, 30, 32, 22, 23, 40, 41)
    # a flower of seven; its outline is closed: every corner is the end of two sides
    assert len(ring) == 18
    ends = np.rint(np.concatenate(ring) * 1e3).astype(int)
    _, number = np.unique(ends // 5, axis=0, return_counts=True)
    assert number.sum() == 36
    assert len(sides(*range(63))) == 2 * 7 * 2 + 2 * 9 * 2 - 2


# -- distributions -------------------------------------------------------------------------------------------------


def test_flagged_channels_count_neither_for_median_nor_for_width():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(5, 0.3, 1000), np.full(300, 50.0), np.full(7, np.nan)])
    flagged = np.arange(values.size) >= 1000
    ax = axes()
    draw_flagged_distribution(ax, values, flagged=flagged, cuts=(3.2, 6.8), labels=("gain", "pixels"))
    text = words(ax)
    good = values[:1000]
    assert f"median {np.median(good):.3f}" in text
    width = 1.4826 * np.median(np.abs(good - np.median(good)))
    assert f"robust width {width:.3g}" in text
    assert "beyond the cuts 300" in text
    assert "off the scale 300" in text
    assert "without a value 7" in text
    low, high = ax.get_xlim()
    assert low < 3.2
    assert 6.8 < high < 10
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == ["good 1,000", "flagged 300"]


def test_a_cut_far_away_does_not_make_the_histogram_narrow():
    values = np.random.default_rng(3).normal(5, 0.1, 500)
    ax = axes()
    draw_flagged_distribution(ax, values, cuts=(-100.0, 100.0))
    assert ax.get_xlim()[0] > 4
    assert "beyond the cuts 0" in words(ax)


def test_distributions_of_nothing_and_of_one_value():
    ax = axes()
    draw_flagged_distribution(ax, np.full(5, np.nan))
    assert "no channel has a value" in words(ax)
    ax = axes()
    draw_flagged_distribution(ax, np.full(50, 2.0), cuts=(1.0, None))
    assert "median 2.0000" in words(ax)
    # only flagged channels: they are what there is
    ax = axes()
    draw_flagged_distribution(ax, np.full(50, 2.0), flagged=np.ones(50, dtype=bool))
    assert "median 2.0000" in words(ax)


# -- scatter -------------------------------------------------------------------------------------------------------


def pairs(n, correlation, errors, common, seed):
    """Return true values of a correlation, measured with errors that have a covariance."""
    rng = np.random.default_rng(seed)
    true = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n)
    noise = rng.multivariate_normal([0, 0], [[errors[0] ** 2, common], [common, errors[1] ** 2]], n)
    return (true + noise).T


def told(ax, what):
    line = next(line for line in words(ax).splitlines() if line.startswith(what))
    return float(line.split()[-1].replace("−", "-"))


@pytest.mark.parametrize(("correlation", "common"), [(0.6, 0.0), (0.0, 0.2), (-0.4, -0.3)])
def test_correlation_without_the_errors(correlation, common):
    n, errors = 4000, (0.7, 0.5)
    x, y = pairs(n, correlation, errors, common, seed=4)
    ax = axes()
    draw_scatter(
        ax,
        x,
        y,
        errors=(np.full(n, errors[0]), np.full(n, errors[1])),
        common=np.full(n, common),
        labels=("x", "y"),
    )
    seen = float(
        next(line for line in words(ax).splitlines() if line.startswith("correlation"))
        .split()[1]
        .replace("−", "-")
    )
    raw = (correlation + common) / np.sqrt((1 + errors[0] ** 2) * (1 + errors[1] ** 2))
    # errors of a correlation: (1 - r^2) / sqrt(n), larger by the same factor for that without the errors
    assert seen == pytest.approx(raw, abs=4 / np.sqrt(n))
    assert told(ax, "without errors") == pytest.approx(correlation, abs=4 * 1.7 / np.sqrt(n) + 0.005)


def test_spread_that_is_all_errors_has_no_correlation_of_its_own():
    x, y = np.random.default_rng(5).normal(size=(2, 500))
    ax = axes()
    draw_scatter(ax, x, y, errors=(np.full(500, 1.1), None), labels=("x", "y"))
    assert "all of the spread is errors" in words(ax)


def test_marked_channels_count_for_nothing_and_few_are_not_drawn():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 300))
    x[:20], y[:20] = 40, 40
    ax = axes()
    draw_scatter(ax, x, y, marked=np.arange(300) < 20, labels=("x", "y"), line=1.0, name="equal")
    assert "n 280" in words(ax)
    assert "off the scale: 20" in words(ax)
    assert ax.get_xlim()[1] < 10
    ax = axes()
    draw_scatter(ax, x[:2], y[:2], labels=("x", "y"))
    assert "fewer than three" in words(ax)
