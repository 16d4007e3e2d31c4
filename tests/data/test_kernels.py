"""Fill kernels against slow references that a person can check."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from firstlight.data import kernels
from firstlight.data.cube import Axis, HistogramCube
from firstlight.errors import SchemaError

N_CHANNELS = 5


@st.composite
def events(draw):
    """Hits of a few events: channels from -1, offsets."""
    sizes = draw(st.lists(st.integers(0, 6), max_size=8))
    channel = draw(arrays.arrays(np.int32, sum(sizes), elements=st.integers(-1, N_CHANNELS - 1)))
    return channel, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@given(events())
def test_hits_and_events_are_counted(data):
    channel, offsets = data
    counts = np.zeros((N_CHANNELS, 2), dtype=np.int64)
    kernels.count_channels(channel, offsets, counts)
    per_event = [channel[a:b] for a, b in itertools.pairwise(offsets)]
    assert counts[:, 0].tolist() == [int((channel == c).sum()) for c in range(N_CHANNELS)]
    assert counts[:, 1].tolist() == [sum(c in hits for hits in per_event) for c in range(N_CHANNELS)]


@given(events(), st.data())
def test_first_hit_is_the_one_with_the_largest_value(data, more):
    channel, offsets = data
    values = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])
    order = np.array(
        more.draw(st.lists(values, min_size=channel.size, max_size=channel.size)), dtype=np.float32
    )
    keep = kernels.first_of_channel(channel, order, offsets, N_CHANNELS)
    wanted = np.zeros(channel.size, dtype=bool)
    for start, stop in itertools.pairwise(offsets):
        rows = range(start, stop)
        wanted[[row for row in rows if channel[row] < 0]] = True
        for c in range(N_CHANNELS):
            mine = [row for row in rows if channel[row] == c]
            if mine:
                wanted[max(mine, key=lambda row: (order[row], -row))] = True
    assert keep.tolist() == wanted.tolist()


def filled(
    value: np.ndarray, low: float, high: float, bins: int, channel: np.ndarray | None = None
) -> np.ndarray:
    counts = np.zeros((1, bins + 2), dtype=np.int64)
    rows = np.zeros(value.size, dtype=np.int32) if channel is None else channel
    kernels.fill_regular(rows, value, low, high, counts)
    return counts[0]


@given(arrays.arrays(np.float64, st.integers(0, 50), elements=st.floats(-20, 20)), st.integers(1, 40))
def test_histogram_agrees_with_numpy_away_from_edges(value, bins):
    low, high = -3.0, 7.0
    width = (high - low) / bins
    position = (value - low) / width
    value = value[np.abs(position - np.rint(position)) > 1e-9]
    counts = filled(value, low, high, bins)
    assert counts[1:-1].tolist() == np.histogram(value, bins, (low, high))[0].tolist()
    assert counts[0] == (value < low).sum()
    assert counts[-1] == (value >= high).sum()


@pytest.mark.parametrize(("low", "high", "bins"), [(280.0, 2008.0, 216), (0.0, 1.0, 4), (-2.0, 2.0, 64)])
def test_edge_belongs_to_the_bin_above_it(low, high, bins):
    edges = low + (high - low) / bins * np.arange(bins + 1)
    assert filled(edges, low, high, bins).tolist() == [0, *[1] * bins, 1]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, 500))
@example(0.0, 2.6, 130)
@example(0.1, 0.2, 3)
def test_value_just_inside_the_upper_edge_stays_inside(low, width, bins):
    high = low + width
    counts = filled(np.array([np.nextafter(high, -np.inf), low, np.nextafter(low, -np.inf)]), low, high, bins)
    assert counts[-1] == 0
    assert counts[0] == 1
    assert counts[1:-1].sum() == 2


def test_what_is_not_known_is_passed_over_and_infinity_is_not():
    value = np.array([np.nan, np.inf, -np.inf, 0.5])
    assert filled(value, 0.0, 1.0, 1).tolist() == [1, 1, 1]


def test_hits_of_no_channel_are_passed_over():
    assert filled(np.array([0.5, 0.5]), 0.0, 1.0, 1, np.array([-1, 0], dtype=np.int32)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_cube_fills_any_kind_of_number(dtype):
    cube = HistogramCube.zeros(Axis("channel", 2), Axis("x", 4, 0.0, 4.0))
    cube.fill(np.array([0, 1, -1]), np.array([0, 3, 2], dtype=dtype))
    assert cube.values.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_channel_beyond_the_axis_is_an_error_and_no_crash():
    cube = HistogramCube.zeros(Axis("channel", 2), Axis("x", 4, 0.0, 4.0))
    with pytest.raises(SchemaError, match="channel 2 is beyond the axis of 2 channels"):
        cube.fill(np.array([0, 2]), np.array([0.0, 1.0]))
    assert cube.total == 0


def test_more_channels_than_values_is_an_error_and_no_crash():
    cube = HistogramCube.zeros(Axis("channel", 2), Axis("x", 4, 0.0, 4.0))
    with pytest.raises(SchemaError):
        cube.fill(np.zeros(1000, dtype=np.int32), np.array([0.0]))


def test_warm_up_compiles_everything_that_is_exported():
    kernels.warm_up()
    for name in kernels.__all__:
        kernel = getattr(kernels, name)
        if hasattr(kernel, "signatures"):
            assert kernel.signatures, name
