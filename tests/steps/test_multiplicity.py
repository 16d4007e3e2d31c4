"""Hits per event: the distribution adds up, and its moments are exact."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from firstlight.data.channels import ChannelMap
from firstlight.data.schema import Chunk, Column, Span, Table, TableSchema
from firstlight.run.config import StrictModel
from firstlight.steps.multiplicity import count, finish, moments, multiplicity
from firstlight.steps.step import Context, NoParameters

EVENTS = TableSchema("events", (Column("n_hits", pl.Int32, ""),))
HITS = TableSchema("hits", (Column("channel", pl.Int32, ""), Column("event", pl.Int32, "")))
FRAME = pl.DataFrame(
    {
        "channel": range(4),
        "group": ["a", "b", "a", "c"],
        "position": [1, 1, 2, 1],
        "section": ["s", "t", "s", "t"],
    }
)
CONTEXT = Context(ChannelMap("toy", "1", FRAME, "planes"), StrictModel())


def chunk_of(events: list[list[int]]) -> Chunk:
    rows = [(channel, number) for number, event in enumerate(events) for channel in event]
    return Chunk(
        Span("raw", 0, 0, len(events)),
        {
            "events": Table(pl.DataFrame({"n_hits": [len(e) for e in events]}, schema=EVENTS.dtypes), EVENTS),
            "hits": Table(pl.DataFrame(rows, schema=HITS.dtypes, orient="row"), HITS),
        },
    )


def padded(counts: np.ndarray, width: int) -> list:
    return np.pad(counts, ((0, 0), (0, width - counts.shape[1]))).tolist()


events = st.lists(st.lists(st.integers(-1, 3), max_size=6), max_size=8)


@settings(max_examples=60)
@given(events)
def test_events_are_counted_by_their_hits(data):
    counts = count(chunk_of(data), NoParameters(), CONTEXT).counts
    for row, channels in enumerate([(-1, 0, 1, 2, 3), (0, 2), (1, 3)]):
        sizes = [sum(channel in channels for channel in event) for event in data]
        assert counts[row].tolist() == [sizes.count(n) for n in range(counts.shape[1])]
    assert (counts.sum(axis=1) == len(data)).all()


@settings(max_examples=60)
@given(events, st.integers(1, 4))
def test_result_does_not_depend_on_where_chunks_end(data, size):
    whole = count(chunk_of(data), NoParameters(), CONTEXT)
    parts = [count(chunk_of(data[i : i + size]), NoParameters(), CONTEXT) for i in range(0, len(data), size)]
    if parts:
        for total in (sum(parts[1:], parts[0]), sum(parts[-2::-1], parts[-1])):
            assert padded(total.counts, 7) == padded(whole.counts, 7)


@given(events, events, events)
def test_merging_is_associative(a, b, c):
    x, y, z = (count(chunk_of(data), NoParameters(), CONTEXT) for data in (a, b, c))
    merge = multiplicity.merge
    assert (
        merge(merge(x, y), z).counts.tolist()
        == merge(x, merge(y, z)).counts.tolist()
        == merge(z, merge(y, x)).counts.tolist()
    )


def test_product_names_its_sections():
    block = finish(count(chunk_of([[0, 1]]), NoParameters(), CONTEXT), NoParameters(), CONTEXT)[
        "hits_per_event"
    ]
    assert block.coordinates["section"] == ["all", "s", "t"]
    assert block.select(section="t").tolist() == [0, 1, 0]


def test_map_without_sections_uses_groups_and_a_map_without_groups_the_whole():
    planes = Context(ChannelMap("toy", "1", FRAME.drop("section"), "planes"), StrictModel())
    strips = Context(ChannelMap("toy", "1", FRAME.drop("section", "group"), "strips"), StrictModel())
    assert planes.channels.section_names == ["a", "b", "c"]
    assert strips.channels.section_names == []
    assert count(chunk_of([[0, 1], []]), NoParameters(), strips).counts.tolist() == [[1, 0, 1]]


@settings(max_examples=200)
@given(arrays.arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 5)))
def test_moments_are_those_of_the_events(counts):
    sample = np.repeat(np.arange(counts.size), counts)
    found = moments(counts)
    assert found["n"] == sample.size
    if not sample.size:
        assert np.isnan(found["mean"])
        return
    assert found["mean"] == pytest.approx(sample.mean(), abs=1e-12)
    assert found["median"] == np.median(sample)
    assert found["std"] == pytest.approx(sample.std(), abs=1e-9)
    assert (found["minimum"], found["maximum"]) == (sample.min(), sample.max())


def test_moments_of_very_many_events():
    counts = np.zeros(2000, dtype=np.int64)
    counts[[1000, 1999]] = 10**12
    found = moments(counts)
    assert (found["mean"], found["median"], found["std"]) == (1499.5, 1499.5, 499.5)
