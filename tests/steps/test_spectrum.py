"""Spectra: one histogram per channel, of all hits and of marked ones."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.data.channels import ChannelMap
from firstlight.data.schema import Chunk, Column, Span, Table, TableSchema
from firstlight.errors import SchemaError
from firstlight.run.config import StrictModel
from firstlight.steps.spectrum import SpectrumParameters, count, finish, needs, spectrum
from firstlight.steps.step import Context

N = 3
HITS = TableSchema(
    "hits",
    (
        Column("channel", pl.Int32, ""),
        Column("time", pl.Float32, "", nullable=True),
        Column("in_time", pl.Int8, ""),
    ),
)
CONTEXT = Context(
    ChannelMap("toy", "1", pl.DataFrame({"channel": range(N), "position": range(N)}), "strips"), StrictModel()
)
TIME = SpectrumParameters(
    column="time", low=0.0, high=10.0, bins=5, mark="in_time", unit="ns", description="time"
)


def chunk_of(hits: list[tuple[int, float | None, int]]) -> Chunk:
    return Chunk(
        Span("raw", 0, 0, 1), {"hits": Table(pl.DataFrame(hits, schema=HITS.dtypes, orient="row"), HITS)}
    )


value = st.one_of(st.none(), st.integers(-8, 48).map(lambda x: x / 4))
hits = st.lists(st.tuples(st.integers(-1, N - 1), value, st.integers(-1, 1)), max_size=30)


@settings(max_examples=60)
@given(hits)
def test_every_known_hit_is_in_its_bin(data):
    found = finish(count(chunk_of(data), TIME, CONTEXT), TIME, CONTEXT)
    for name, rows in (("all", data), ("in_time", [hit for hit in data if hit[2] > 0])):
        for channel in range(N):
            mine = np.array([t for c, t, _ in rows if c == channel and t is not None])
            counts = found[name].counts[channel]
            assert counts[1:-1].tolist() == np.histogram(mine[mine < 10], 5, (0, 10))[0].tolist()
            assert (counts[0], counts[-1]) == ((mine < 0).sum(), (mine >= 10).sum())


@given(hits, st.integers(0, 30))
def test_chunks_add_up_in_any_order(data, at):
    whole = count(chunk_of(data), TIME, CONTEXT)
    one, other = count(chunk_of(data[:at]), TIME, CONTEXT), count(chunk_of(data[at:]), TIME, CONTEXT)
    for total in (one + other, other + one):
        assert [cube.counts.tolist() for cube in total] == [cube.counts.tolist() for cube in whole]


@given(hits, hits, hits)
def test_merging_is_associative(a, b, c):
    merge = spectrum("tdc", SpectrumParameters).merge
    x, y, z = (count(chunk_of(data), TIME, CONTEXT) for data in (a, b, c))
    left, right = merge(merge(x, y), z), merge(x, merge(y, z))
    assert [cube.counts.tolist() for cube in left] == [cube.counts.tolist() for cube in right]


def test_absolute_values_are_folded():
    folded = SpectrumParameters(column="time", low=0.0, high=10.0, bins=5, absolute=True)
    found = finish(count(chunk_of([(0, -3.0, 0), (0, 3.0, 0)]), folded, CONTEXT), folded, CONTEXT)
    assert found.keys() == {"all"}
    assert found["all"].values[0].tolist() == [0, 2, 0, 0, 0]


def test_axes_are_described():
    axes = finish(count(chunk_of([]), TIME, CONTEXT), TIME, CONTEXT)["all"].axes
    assert [axis.title for axis in axes] == ["channel", "time [ns]"]


def test_unknown_column_names_its_neighbour():
    wrong = SpectrumParameters(column="tim", low=0.0, high=1.0, bins=1)
    with pytest.raises(SchemaError, match="unknown column 'tim'"):
        count(chunk_of([]), wrong, CONTEXT)


@pytest.mark.parametrize(
    "wrong", [{"low": 1.0, "high": 1.0}, {"bins": 0}, {"bins": -1}, {"low": 2.0, "high": 1.0}]
)
def test_impossible_axis_is_refused_with_the_parameters(wrong):
    """When the configuration is read, not after hours in a worker that refuses file by file."""
    with pytest.raises(ValueError, match=r"bins|high|low"):
        SpectrumParameters(**{"column": "time", "low": 0.0, "high": 1.0, "bins": 3, **wrong})


def test_step_reads_what_it_needs():
    assert needs(TIME) == {"hits": ("channel", "time", "in_time")}
