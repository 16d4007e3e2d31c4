"""Histogram cubes: they add up, and come back from HDF5, UHI and hist with their flow bins."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import uhi.io.hdf5
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from firstlight.data.cube import Axis, HistogramCube
from firstlight.errors import SchemaError

CHANNEL = Axis("channel", 3)
TIME = Axis("tdc_time", 4, 280.0, 2008.0, unit="ns", description="TDC time")
PLANE = Axis("plane", 2, labels=("D0U", "D0X"))


def cube(seed: int, *axes: Axis) -> HistogramCube:
    shape = tuple(axis.extent for axis in axes)
    counts = np.random.default_rng(seed).integers(0, 9, shape)
    return HistogramCube(axes, counts.astype(np.int64), "hits")


@given(st.lists(arrays.arrays(np.int64, (3, 6), elements=st.integers(0, 2**40)), min_size=3, max_size=3))
def test_sum_does_not_depend_on_grouping_or_order(counts):
    a, b, c = (HistogramCube((CHANNEL, TIME), array) for array in counts)
    total = (a + b) + c
    for other in (a + (b + c), c + b + a):
        assert np.array_equal(total.counts, other.counts)
    assert total.total == a.total + b.total + c.total


def test_sum_leaves_its_terms_alone():
    one, other = cube(1, CHANNEL, TIME), cube(2, CHANNEL, TIME)
    before = one.counts.copy()
    _ = one + other
    assert np.array_equal(one.counts, before)


def test_different_axes_do_not_add():
    with pytest.raises(SchemaError, match="different axes"):
        _ = cube(1, CHANNEL, TIME) + cube(1, CHANNEL, Axis("tdc_time", 4, 280.0, 2000.0))


@pytest.mark.parametrize(
    "axes", [(CHANNEL, TIME), (PLANE, TIME), (CHANNEL, PLANE), (PLANE, TIME, Axis("x", 2, -1.0, 1.0))]
)
def test_hdf5_gives_back_what_was_written(tmp_path, axes):
    given_ = cube(3, *axes)
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        uhi.io.hdf5.write(file.create_group("histogram"), given_.to_uhi())
    with h5py.File(tmp_path / "cube.h5") as file:
        back = HistogramCube.from_uhi(dict(uhi.io.hdf5.read(file["histogram"])))
    assert back.axes == given_.axes
    assert back.description == "hits"
    assert back.counts.dtype == np.int64
    assert np.array_equal(back.counts, given_.counts)


def test_hist_has_the_same_axes_and_flow():
    given_ = cube(5, CHANNEL, TIME)
    h = given_.to_hist()
    assert [axis.name for axis in h.axes] == ["channel", "tdc_time"]
    assert h.axes[1].label == "TDC time [ns]"
    assert np.array_equal(h.axes[1].edges, TIME.edges)
    assert np.array_equal(h.view(flow=True), given_.counts)
    assert np.array_equal(h.values(), given_.values)


def test_hist_of_categories_is_indexed_by_name():
    import hist

    given_ = cube(6, PLANE, TIME)
    h = given_.to_hist()
    assert h[hist.loc("D0X"), :].values().tolist() == given_.values[1].tolist()
    assert h.sum(flow=True) == given_.total


def test_hist_filled_by_its_own_means_agrees():
    rng = np.random.default_rng(7)
    channel, value = rng.integers(0, 3, 1000), rng.uniform(0, 2500, 1000)
    mine = HistogramCube.zeros(CHANNEL, TIME)
    mine.fill(channel, value)
    theirs = HistogramCube.zeros(CHANNEL, TIME).to_hist()
    theirs.fill(channel, value)
    assert np.array_equal(theirs.view(flow=True), mine.counts)


def test_groups_of_channels_are_summed():
    given_ = cube(8, CHANNEL, TIME)
    summed = given_.project(np.array([1, 0, 1]), ("a", "b"))
    assert summed.axes[0].labels == ("a", "b")
    assert np.array_equal(summed.counts[1], given_.counts[0] + given_.counts[2])
    assert summed.total == given_.total


def test_too_large_a_cube_is_refused_with_its_size():
    with pytest.raises(SchemaError, match=r"needs \d+\.\d GiB"):
        HistogramCube.zeros(Axis("channel", 2_000_000), Axis("x", 1000, 0.0, 1.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"bins": 0}, {"bins": 3, "low": 1.0}, {"bins": 3, "low": 2.0, "high": 2.0}, {"bins": 3, "low": 2.0, "high": 1.0},
        {"bins": 3, "low": 0.0, "high": float("nan")}, {"bins": 3, "labels": ("a",)},
    ],
)  # fmt: skip
def test_impossible_axis_is_refused(wrong):
    with pytest.raises(SchemaError):
        Axis("x", **wrong)


def test_counts_of_another_shape_are_refused():
    with pytest.raises(SchemaError, match="the axes need"):
        HistogramCube((CHANNEL, TIME), np.zeros((3, 4), dtype=np.int64))


def test_unknown_axis_names_its_neighbour():
    with pytest.raises(SchemaError, match="unknown axis 'tdctime'"):
        cube(1, CHANNEL, TIME).axis("tdctime")


def test_edges_and_centres():
    assert TIME.edges.tolist() == [280.0, 712.0, 1144.0, 1576.0, 2008.0]
    assert CHANNEL.centers.tolist() == [0.0, 1.0, 2.0]
    assert TIME.title == "TDC time [ns]"
