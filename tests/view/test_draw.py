"""The drawing room: what is drawn is where it belongs, and in colours that tell it apart."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_rgba

from firstlight.data.channels import ChannelMap
from firstlight.errors import UsageError
from firstlight.view import draw
from firstlight.view.style import ABSENT, STATE_COLOURS, styled

SIZES = {"A": 5, "B": 3, "C": 8}


@pytest.fixture(autouse=True)
def _style():
    with styled():
        yield


def planes(sizes=SIZES, optional=()):
    rows = [(name, position) for name, size in sizes.items() for position in range(1, size + 1)]
    frame = pl.DataFrame(
        {
            "channel": range(len(rows)),
            "group": [name for name, _ in rows],
            "position": [position for _, position in rows],
            "optional": [row in optional for row in rows],
        }
    )
    groups = pl.DataFrame({"group": ["C", "A", "B"], "section": ["S1", "S1", "S2"]})
    return ChannelMap("toy", "1", frame, "planes", groups, {"position": "element"})


def grid(rows=16, cols=16):
    row, col = np.divmod(np.arange(rows * cols), cols)
    return ChannelMap(
        "chip", "1", pl.DataFrame({"channel": np.arange(row.size), "row": row, "col": col}), "grid"
    )


def hexagons(rings=6):
    q, r = np.meshgrid(np.arange(-rings, rings + 1), np.arange(-rings, rings + 1))
    inside = np.abs(q + r) <= rings
    x, y = 24.3 * (q + r / 2)[inside], 24.3 * (np.sqrt(3) / 2 * r)[inside]
    return ChannelMap("camera", "1", pl.DataFrame({"channel": np.arange(x.size), "x": x, "y": y}), "hexagons")


def axes(width=8.0, height=5.0):
    return draw.place(draw.sheet(width, height), 0.8, 0.8, 1.5, 0.8)


def colour(value):
    return tuple(round(255 * part) for part in to_rgba(value))


def rendered(ax):
    """Return the picture as it comes out, and the pixel of a point in data coordinates."""
    canvas = ax.figure
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="raw", dpi=100)
    width, height = (round(100 * size) for size in canvas.get_size_inches())
    picture = np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)

    def at(x, y):
        column, row = ax.transData.transform((x, y)) * 100 / canvas.dpi
        return tuple(int(part) for part in picture[height - 1 - int(row), int(column)])

    return at


def test_first_and_last_element_of_every_plane_are_drawn():
    channels = planes()
    values = np.ones(16)
    last = [channels.channels_of(name)[-1] for name in "ABC"]
    first = [channels.channels_of(name)[0] for name in "ABC"]
    values[last], values[first] = 100, 50
    ax = draw.draw_channel_map(axes(), values, channels, separators=False)
    image = ax.images[0].get_array()
    assert ax.images[0].get_extent() == [-0.5, 2.5, 0.5, 8.5]
    assert image.shape == (8, 3, 4)
    at = rendered(ax)
    for column, name in enumerate("CAB"):
        assert at(column, SIZES[name]) == tuple(image[SIZES[name] - 1, column]) == tuple(image[7, 0])
        assert at(column, SIZES[name] + 0.45) == at(column, SIZES[name] - 0.45)
        assert at(column, 1) == tuple(image[0, column]) != at(column, 2)
    # both ends are written
    assert {"1", "8"} <= {label.get_text() for label in ax.get_yticklabels()}


def test_horizontal_planes_start_at_the_top_and_show_the_last_element():
    channels = planes()
    ax = draw.draw_channel_map(axes(), np.arange(16.0), channels, horizontal=True)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["C", "A", "B"]
    low, high = ax.get_xlim()
    assert (low, high) == (0.5, 8.5)
    assert ax.get_ylim() == (2.5, -0.5)


def test_zero_absent_masked_and_unknown_have_colours_of_their_own():
    channels = planes(optional={("A", 5)})
    values = np.full(16, 7.0)
    a = channels.channels_of("A")
    values[a] = [0, 7, np.nan, 7, 0]
    states = np.full(16, "ok", dtype="U12")
    states[a[3]] = "masked"
    ax = draw.draw_channel_map(axes(), values, channels, states=states)
    column = [tuple(int(part) for part in pixel) for pixel in ax.images[0].get_array()[:, 1]]
    zero, filled, unknown, masked, optional, outside = column[:6]
    assert zero == colour(draw.ZERO)
    assert masked == colour(draw.MASKED)
    assert unknown == colour(STATE_COLOURS["no_statistics"])
    assert optional == outside == colour(ABSENT)
    assert len({zero, filled, unknown, masked, outside}) == 5
    hatched = [shapes for shapes in ax.collections if shapes.get_hatch()]
    assert len(hatched) == 1


def test_zero_is_no_special_value_of_a_pedestal():
    ax = draw.draw_channel_map(
        axes(), np.linspace(-2, 2, 256), grid(), zero_is_empty=False, colour_label="mV"
    )
    pixels = ax.images[0].get_array().reshape(-1, 4)
    assert len(np.unique(pixels, axis=0)) > 100
    assert colour(draw.ZERO) not in {tuple(pixel) for pixel in pixels.tolist()}


def test_a_hot_channel_does_not_bleach_its_plane():
    channels = planes({"A": 100, "B": 3, "C": 3})
    values = np.concatenate([np.linspace(100, 200, 100), [1, 2, 3], [5, 5, 5]])
    values[50] = 1e6
    after = draw.draw_channel_map(axes(), values, channels, scale="per-group").images[0].get_array()[:, 1]
    assert len(np.unique(after[:100], axis=0)) > 50


@pytest.mark.parametrize("scale", ["linear", "log", "per-group"])
@pytest.mark.parametrize("values", [np.zeros(16), np.full(16, np.nan), np.full(16, 3.0), np.full(16, -1.0)])
def test_odd_values_are_drawn(scale, values):
    ax = draw.draw_channel_map(axes(), values, planes(), scale=scale)
    rendered(ax)


def test_section_labels_and_separators():
    with_lines = draw.draw_channel_map(axes(), np.ones(16), planes())
    without = draw.draw_channel_map(axes(), np.ones(16), planes(), separators=False)
    assert [text.get_text() for text in with_lines.texts] == ["S1", "S2"]
    assert not without.texts
    assert len(with_lines.collections) == 2
    assert not without.collections


def test_grid_shows_all_corners_and_says_where_row_0_is():
    values = np.ones(256)
    values[[0, 15, 240, 255]] = 9
    ax = draw.draw_channel_map(axes(), values, grid(), states=["hot"] + ["ok"] * 255)
    image = ax.images[0].get_array()
    assert all((image[row, col] == image[0, 0]).all() for row in (0, 15) for col in (0, 15))
    assert "0 at the top" in ax.get_ylabel()
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_grid_refuses_two_channels_at_one_place():
    frame = pl.DataFrame({"channel": [0, 1], "row": [0, 0], "col": [0, 0]})
    with pytest.raises(UsageError, match="same row and column"):
        draw.draw_channel_map(axes(), np.ones(2), ChannelMap("x", "1", frame, "grid"))


def test_a_large_grid_is_one_image():
    ax = draw.draw_channel_map(
        axes(), np.random.default_rng(1).poisson(5, 65536), grid(256, 256), scale="log"
    )
    assert ax.images[0].get_array().shape == (256, 256, 4)
    assert not ax.patches


def test_hexagons_touch_and_do_not_overlap():
    channels = hexagons()
    ax = draw.draw_channel_map(
        axes(), np.arange(len(channels)), channels, states=["masked"] + ["ok"] * (len(channels) - 1)
    )
    outline = ax.collections[0].get_paths()[0].vertices[:6]
    x, y = outline[:, 0], outline[:, 1]
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    assert area == pytest.approx(24.3**2 * np.sqrt(3) / 2, rel=1e-6)
    assert len(ax.collections[0].get_paths()) == len(channels)
    assert ax.get_aspect() == 1


def test_strips():
    frame = pl.DataFrame({"channel": range(6), "position": [6, 5, 4, 3, 2, 1]})
    ax = draw.draw_channel_map(
        axes(), np.arange(6.0), ChannelMap("s", "1", frame, "strips"), states=["dead"] + ["ok"] * 5
    )
    assert ax.get_xlim() == (0.5, 6.5)


def test_wrong_shapes_and_states_are_refused():
    with pytest.raises(UsageError, match="16 channels"):
        draw.draw_channel_map(axes(), np.ones(5), planes())
    with pytest.raises(UsageError, match="16 channels"):
        draw.draw_channel_map(axes(), np.ones(16), planes(), states=["ok"])
    with pytest.raises(UsageError, match="unknown state 'ded'"):
        draw.draw_channel_map(axes(), np.ones(16), planes(), states=["ded"] * 16)


def test_state_map_counts_the_states():
    states = ["dead", "hot", *["ok"] * 14]
    ax = draw.draw_state_map(axes(), states, planes())
    words = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert words == ["ok 14", "dead 1", "hot 1"]
    assert draw.draw_state_map(axes(), [], ChannelMap("e", "1", planes().frame.clear(), "planes")).texts


def words_of(ax):
    return " ".join(text.get_text() for text in ax.texts)


@pytest.mark.parametrize(
    "empty",
    [
        lambda ax: draw.draw_positions(ax, [], []),
        lambda ax: draw.draw_positions(ax, [np.nan], [1]),
        lambda ax: draw.draw_ratio(ax, [1, 2], [0, 0], [1, 2]),
        lambda ax: draw.draw_group_totals(ax, [0, 0], ["a", "b"]),
        lambda ax: draw.draw_spectrum(ax, [0, 1, 2], [0, 0]),
        lambda ax: draw.draw_cube_2d(ax, np.zeros((2, 2)), (0, 1, 0, 1)),
        lambda ax: draw.draw_distribution(ax, [np.nan]),
        lambda ax: draw.draw_trend(ax, ["a"], [np.nan]),
        lambda ax: draw.draw_shifts(ax, [[np.nan]], ["a"], ["b"]),
        lambda ax: draw.draw_counts_of_counts(ax, [0, 0]),
        lambda ax: draw.draw_bands(ax, [], x_label=""),
    ],
)
def test_empty_input_says_why(empty):
    ax = empty(axes())
    assert words_of(ax).startswith("no data: ")
    rendered(ax)


def test_bands_cut_a_hot_channel_and_say_its_value():
    values = np.full(50, 10.0)
    values[20] = 5000
    edges = np.arange(51) + 0.5
    ax = draw.draw_bands(
        axes(),
        [draw.Band("A", edges, values, states=np.full(50, "dead")), draw.Band("B", edges, np.zeros(50))],
        x_label="element",
        robust=True,
    )
    assert "5000" in words_of(ax)
    assert "no hit" in words_of(ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["20", ""]


def test_a_dead_plane_is_seen_against_what_is_expected():
    edges = np.arange(11) + 0.5
    ax = draw.draw_bands(
        axes(), [draw.Band("A", edges, np.zeros(10), reference=np.full(10, 90.0))], x_label="element"
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["100"]


def test_positions_ratio_and_totals():
    ax = draw.draw_positions(axes(), [1, 0, 9], [1, 2, 3], reference=[1, 1, 1], states=["ok", "dead", "hot"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "measured",
        "expected",
        "hot 1",
        "dead 1",
    ]
    draw.draw_ratio(axes(), [1, 0, 9], [1, 1, 1], [1, 2, 3])
    log = draw.draw_group_totals(axes(), [1, 0, 10_000], ["a", "b", "c"], named=True, changes=[1])
    assert log.get_yscale() == "log"
    assert words_of(log) == "0"


def test_counts_of_counts_show_empty_events_and_moments():
    counts = np.bincount([0, 0, 0, 1, 5, 700, 3000])
    ax = draw.draw_counts_of_counts(axes(), counts)
    assert ax.get_xscale() == "log"
    assert "no hit:\n3" in words_of(ax)
    assert "mean 529.429" in words_of(ax)
    assert "median 1" in words_of(ax)
    assert draw.draw_counts_of_counts(axes(), [2, 3, 1]).get_xscale() == "linear"


@pytest.mark.parametrize("numbers", [[1], [35, 36, 42], [0, 0, 1], [1, 6309], [30, 1664], [10**6]])
def test_rebinning_loses_no_event(numbers):
    counts = np.bincount(numbers)[np.newaxis]
    edges, rows = draw.rebin_counts(counts)
    assert rows.sum() == counts[0, 1:].sum()
    assert (np.diff(np.diff(edges)) >= 0).all()
    assert edges[0] < min(n for n in numbers if n) < edges[-1]


def test_trend_is_evenly_spaced_whatever_the_labels_are():
    ax = draw.draw_trend(axes(), ["9", "1000000", "3"], [1.0, 5.0, 1.0], [0.1] * 3, (0, 2))
    assert ax.get_xticks().tolist() == [0, 1, 2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["9", "1000000", "3"]
    assert ax.lines[-1].get_xdata().tolist() == [1]


def test_many_labels_are_thinned():
    ax = draw.draw_trend(axes(), [str(n) for n in range(200)], np.ones(200))
    assert len(ax.get_xticks()) <= 24


def test_distribution_counts_what_is_outside():
    ax = draw.draw_distribution(axes(), [*np.linspace(0, 1, 100), 50.0, np.nan], (0.1, 0.9))
    assert "outside limits 21" in words_of(ax)
    assert "without a value 1" in words_of(ax)


def test_spectrum_and_time_against_element():
    ax = draw.draw_spectrum(
        axes(), np.arange(5), [1, 2, 3, 0], marked=[0, 1, 1, 0], labels=("t [ns]", "hits"), log=True
    )
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["in time", "all hits"]
    assert ax.get_xlim() == (0, 3)
    image = draw.draw_cube_2d(axes(), np.eye(3), (0, 3, 0, 3)).images[0].get_array()
    assert image.mask.sum() == 6


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12397, "12.4k"), (1e4, "10k"), (999, "999"), (0.25, "0.25"), (2.5e6, "2.5M"), (1000, "1000")],
)
def test_short_numbers(value, text):
    assert draw.short_number(value) == text


@pytest.mark.parametrize(("low", "high"), [(1, 1e6), (3, 40), (0.001, 0.7), (5, 6), (2.0, 2.1), (1e-7, 1e9)])
def test_logarithmic_ticks_lie_inside(low, high):
    ticks, labels = draw.log_ticks(low, high)
    assert 2 <= len(ticks) == len(labels) <= 8
    assert low * 0.99 <= min(ticks) <= max(ticks) <= high * 1.01


def test_nothing_is_drawn_with_pyplot():
    folder = Path(draw.__file__).parent
    for path in folder.glob("draw*.py"):
        assert "pyplot" not in path.read_text(encoding="utf-8"), path.name
