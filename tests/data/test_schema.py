"""Tables, blocks and chunks keep their promises and say where they do not."""

from __future__ import annotations

import pickle

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Block, Chunk, Column, Span, Table, TableSchema, merge_columns
from firstlight.errors import SchemaError

SCHEMA = TableSchema(
    "hits",
    (
        Column("channel", pl.Int32, "channel", minimum=-1),
        Column("tdc_time", pl.Float32, "time", "ns", minimum=0, maximum=2000, nullable=True),
        Column("in_time", pl.Int8, "flag", minimum=-1, maximum=1),
    ),
    "a hit",
)


def frame(**columns: list) -> pl.DataFrame:
    return pl.DataFrame(columns, schema={name: SCHEMA.column(name).dtype for name in columns})


def test_projection_is_valid():
    SCHEMA.validate(frame(channel=[-1, 0, 7]))


def test_unknown_column_names_its_nearest_neighbour():
    with pytest.raises(SchemaError, match="unknown column 'tdctime'") as caught:
        SCHEMA.column("tdctime")
    assert "'tdc_time'" in str(caught.value)
    assert caught.value.known == ["channel", "tdc_time", "in_time"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (frame(channel=[0, -2]), r"'channel', row 1: -2 is outside \[-1, None\]"),
        (frame(in_time=[1, 2]), "'in_time', row 1: 2 is outside"),
        (frame(tdc_time=[1.0, None, 2000.5]), r"'tdc_time', row 2: 2000.5 is outside \[0, 2000\] ns"),
        (frame(channel=[None, 1]), "'channel' has 1 nulls"),
        (pl.DataFrame({"channel": [1, 2]}), "'channel' is Int64, must be Int32"),
    ],
)
def test_offending_row_and_value_are_named(table, message):
    with pytest.raises(SchemaError, match=message) as caught:
        SCHEMA.validate(table, "raw.root")
    assert caught.value.where == "raw.root, table hits"


def test_nan_and_null_stand_for_not_known():
    SCHEMA.validate(frame(tdc_time=[float("nan"), None, 1.0]))


def test_nan_is_refused_where_a_value_is_needed():
    schema = TableSchema("t", (Column("x", pl.Float64, "must be known", minimum=0.0),))
    with pytest.raises(SchemaError):
        schema.validate(pl.DataFrame({"x": [1.0, float("nan")]}))


def test_table_from_frame_casts_and_turns_nan_into_null():
    table = Table.from_frame(
        SCHEMA, pl.DataFrame({"in_time": [1], "channel": [3], "tdc_time": [float("nan")], "more": [0]})
    )
    assert table.frame.schema == pl.Schema(SCHEMA.dtypes)
    assert table.frame["tdc_time"].null_count() == 1


def test_table_of_no_rows_keeps_its_types():
    assert Table.from_rows(SCHEMA, []).frame.schema == pl.Schema(SCHEMA.dtypes)


def test_array_of_an_unknown_column_is_an_error_that_helps():
    table = Table(frame(channel=[1]), SCHEMA)
    with pytest.raises(SchemaError, match="unknown column 'chanel'") as caught:
        table.array("chanel")
    assert "did you mean 'channel'" in caught.value.hint


def test_filter_keeps_rows():
    table = Table(frame(channel=[1, 2, 3]), SCHEMA).filter(np.array([True, False, True]))
    assert table.array("channel").tolist() == [1, 3]


def test_block_needs_a_name_for_each_axis():
    with pytest.raises(SchemaError, match="2 axes and 1 axis names"):
        Block(np.zeros((2, 3)), ("channel",))


def test_block_coordinates_fit_their_axis():
    with pytest.raises(SchemaError, match="'kind' has 3 entries and 2 coordinates"):
        Block(np.zeros((2, 3)), ("channel", "kind"), coordinates={"kind": ["a", "b"]})


def test_block_is_selected_by_label():
    block = Block(
        np.arange(6).reshape(2, 3), ("channel", "kind"), coordinates={"kind": ["hits", "events", "late"]}
    )
    assert block.select(kind="events").tolist() == [1, 4]
    with pytest.raises(SchemaError, match="unknown label 'event'"):
        block.select(kind="event")
    with pytest.raises(SchemaError, match="unknown axis 'chanel'"):
        block.axis("chanel")


def test_chunk_tells_tables_from_blocks():
    chunk = Chunk(
        Span("a", 0, 0, 1),
        {"hits": Table(frame(channel=[1]), SCHEMA), "header": Block(np.zeros(1), ("event",))},
    )
    with pytest.raises(SchemaError, match="'hits' is a table"):
        chunk.block("hits")
    with pytest.raises(SchemaError, match="'header' is a block"):
        chunk.table("header")
    with pytest.raises(SchemaError, match="unknown table 'hit'"):
        chunk.table("hit")


def test_errors_and_chunks_travel_between_processes():
    chunk = Chunk(Span("a", 0, 0, 1), {"hits": Table(frame(channel=[1]), SCHEMA)}, {"has_time": True})
    back = pickle.loads(pickle.dumps(chunk))  # noqa: S301
    assert back.table("hits").frame.equals(chunk.table("hits").frame)
    error = pickle.loads(pickle.dumps(SchemaError("wrong", where="here", known=["a"], hint="b")))  # noqa: S301
    assert (str(error), error.hint, error.args) == (
        str(SchemaError("wrong", where="here", known=["a"], hint="b")),
        "b",
        ("wrong",),
    )


def test_columns_of_several_steps_are_merged_in_order():
    merged = merge_columns([{"hits": ("b", "a")}, {"hits": ("a", "c"), "events": ("n",)}])
    assert merged == {"hits": ("b", "a", "c"), "events": ("n",)}
