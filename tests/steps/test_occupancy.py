"""Occupancy: hits and events per channel, however the data are cut into chunks."""

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
from firstlight.steps.occupancy import OccupancyParameters, count, finish, needs, occupancy, offsets_of
from firstlight.steps.step import Context

N = 4
EVENTS = TableSchema("events", (Column("n_hits", pl.Int32, ""),))
HITS = TableSchema("hits", (Column("channel", pl.Int32, ""), Column("in_time", pl.Int8, "")))
CHANNELS = ChannelMap("toy", "1", pl.DataFrame({"channel": range(N), "position": range(N)}), "strips")
CONTEXT = Context(CHANNELS, StrictModel(), ("a.root", "b.root"))
MARKED = OccupancyParameters(marks={"in_time": "in_time"})


def chunk_of(events: list[list[tuple[int, int]]], file: int = 0) -> Chunk:
    """A chunk of events, each a list of (channel, in time)."""
    rows = [hit for event in events for hit in event]
    return Chunk(
        Span("raw", file, 0, len(events)),
        {
            "events": Table(pl.DataFrame({"n_hits": [len(e) for e in events]}, schema=EVENTS.dtypes), EVENTS),
            "hits": Table(pl.DataFrame(rows, schema=HITS.dtypes, orient="row"), HITS),
        },
    )


def products(partial, parameters=MARKED):
    return finish(partial, parameters, CONTEXT)


events = st.lists(st.lists(st.tuples(st.integers(-1, N - 1), st.integers(-1, 1)), max_size=5), max_size=8)


@settings(max_examples=60)
@given(events)
def test_counts_are_what_a_person_would_count(data):
    partial = count(chunk_of(data), MARKED, CONTEXT)
    for channel in range(N):
        hits = [flag for event in data for c, flag in event if c == channel]
        fired = [[flag for c, flag in event if c == channel] for event in data]
        assert partial.values[channel].tolist() == [
            len(hits), sum(bool(f) for f in fired), sum(flag > 0 for flag in hits), sum(max(f, default=0) > 0 for f in fired),
        ]  # fmt: skip
    assert partial.n_events == len(data)
    assert partial.n_empty == sum(not event for event in data)


@settings(max_examples=60)
@given(events, st.integers(1, 4))
def test_chunks_and_files_add_up(data, size):
    whole = count(chunk_of(data), MARKED, CONTEXT)
    parts = [
        count(chunk_of(data[i : i + size], file=i % 2), MARKED, CONTEXT) for i in range(0, len(data), size)
    ]
    if not parts:
        return
    forward, backward = sum(parts[1:], parts[0]), sum(parts[-2::-1], parts[-1])
    for total in (forward, backward):
        assert np.array_equal(total.values, whole.values)
        assert (total.n_events, total.n_empty) == (whole.n_events, whole.n_empty)
        assert np.array_equal(sum(total.by_file.values()), whole.values[:, 0])


@given(events, events, events)
def test_merging_is_associative_and_leaves_its_terms_alone(a, b, c):
    x, y, z = (count(chunk_of(data, file), MARKED, CONTEXT) for file, data in enumerate((a, b, c)))
    before = x.values.copy()
    left, right = occupancy.merge(occupancy.merge(x, y), z), occupancy.merge(x, occupancy.merge(y, z))
    assert np.array_equal(left.values, right.values)
    assert left.by_file.keys() == right.by_file.keys() == {0, 1, 2}
    assert np.array_equal(x.values, before)


def test_products_say_what_they_count():
    partial = count(chunk_of([[(0, 1), (0, 0), (2, 1)], []], file=1), MARKED, CONTEXT)
    found = products(partial)
    assert found["counts"].coordinates["kind"] == ["hits", "events", "in_time", "events_in_time"]
    assert found["counts"].select(kind="events").tolist() == [1, 0, 1, 0]
    assert found["totals"].frame.row(0, named=True) == {"n_events": 2, "n_empty": 1, "n_hits": 3}
    assert found["by_file"].frame.rows() == [("b.root", 0, 2), ("b.root", 2, 1)]


def test_no_data_gives_empty_products_of_the_right_types():
    found = products(count(chunk_of([]), MARKED, CONTEXT))
    assert found["by_file"].frame.schema["hits"] == pl.Int64
    assert found["totals"].frame.row(0) == (0, 0, 0)


def test_unknown_mark_names_its_neighbour():
    with pytest.raises(SchemaError, match="unknown column 'intime'") as caught:
        count(chunk_of([[(0, 1)]]), OccupancyParameters(marks={"x": "intime"}), CONTEXT)
    assert "'in_time'" in caught.value.hint


def test_step_reads_what_it_needs_and_no_more():
    assert needs(MARKED) == {"hits": ("channel", "in_time"), "events": ("n_hits",)}
    assert needs(OccupancyParameters()) == {"hits": ("channel",), "events": ("n_hits",)}


def test_offsets_do_not_overflow():
    table = Table(pl.DataFrame({"n_hits": [2**31 - 1, 2**31 - 1]}, schema=EVENTS.dtypes), EVENTS)
    assert offsets_of(table)[-1] == 2 * (2**31 - 1)
