"""Selections: SQL conditions evaluated by polars, cuts on events that reach their hits, cut flow that adds up."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.data.schema import Block, Chunk, Column, Span, Table, TableSchema
from firstlight.data.select import Cut, CutFlow, Selection, columns_of, parse
from firstlight.errors import SelectionError

EVENTS = TableSchema("events", (Column("good", pl.Boolean, ""), Column("n_hits", pl.Int32, "")))
HITS = TableSchema(
    "hits",
    (
        Column("event", pl.Int32, ""),
        Column("channel", pl.Int32, ""),
        Column("time", pl.Float32, "", nullable=True),
        Column("name", pl.String, ""),
    ),
)


def chunk_of(good: list[bool], hits: list[tuple[int, int, float | None, str]], start: int = 0) -> Chunk:
    """A chunk of some events; `hits` are (event, channel, time, name)."""
    n_hits = np.bincount([hit[0] for hit in hits], minlength=len(good)) if hits else [0] * len(good)
    return Chunk(
        Span("raw", 0, start, start + len(good)),
        {
            "events": Table(pl.DataFrame({"good": good, "n_hits": n_hits}, schema=EVENTS.dtypes), EVENTS),
            "hits": Table(pl.DataFrame(hits, schema=HITS.dtypes, orient="row"), HITS),
            "header": Block(np.arange(len(good)), ("event",)),
        },
    )


HITS_OF_FOUR = [
    (0, 5, 1.0, "a"),
    (0, 6, None, "b"),
    (2, 5, 3.0, "x & y"),
    (2, 7, float("nan"), "p == q"),
    (3, 8, 2.0, "it's"),
]
FOUR = chunk_of([True, False, True, False], HITS_OF_FOUR)


def kept(condition: str) -> list[int]:
    return np.flatnonzero(Cut("c", "hits", condition).mask(FOUR)).tolist()


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("channel = 5", [0, 2]),
        ("channel == 5", [0, 2]),
        ("channel == 5 & event == 2", [2]),
        ("channel == 5 && event == 2", [2]),
        ("channel = 8 | event = 0", [0, 1, 4]),
        ("channel = 8 || event = 0", [0, 1, 4]),
        ("channel > 5 and not channel = 7", [1, 4]),
        ("channel != 5", [1, 3, 4]),
        ("channel <> 5", [1, 3, 4]),
        ("time between 1 and 2", [0, 4]),
        ("channel in (5, 8)", [0, 2, 4]),
        ("channel % 2 = 0", [1, 4]),
        ("abs(channel - 6) <= 1", [0, 1, 2, 3]),
        ("time is null", [1]),
        ("1 = 1", [0, 1, 2, 3, 4]),
    ],
)
def test_condition_selects_rows(condition, rows):
    assert kept(condition) == rows


def test_and_binds_closer_than_or_as_in_sql():
    assert (
        kept("event = 0 | event = 2 & channel = 7")
        == kept("event = 0 or (event = 2 and channel = 7)")
        == [0, 1, 3]
    )


@pytest.mark.parametrize(
    ("condition", "row"), [("name = 'x & y'", 2), ("name == 'p == q'", 3), ("name = 'it''s'", 4)]
)
def test_text_between_quotes_is_left_alone(condition, row):
    assert kept(condition) == [row]


def test_quoted_column_is_left_alone():
    assert columns_of('"a|b" == 1 & c = 2') == ("a|b", "c")


def test_unknown_value_passes_neither_a_condition_nor_its_opposite():
    assert 1 not in kept("time > 0")
    assert 1 not in kept("not time > 0")


@given(st.integers(-3, 12), st.integers(-3, 12), st.sampled_from(["and", "or"]))
def test_conditions_combine_as_sets_do(low, high, word):
    one, other = set(kept(f"channel > {low}")), set(kept(f"channel < {high}"))
    assert set(kept(f"channel > {low} {word} channel < {high}")) == (
        one & other if word == "and" else one | other
    )


@pytest.mark.parametrize(
    "text",
    ["", "channel >", "channel = 1; drop table hits", "channel = 1, event = 2", "select 1", "*", "it's"],
)
def test_what_is_no_condition_is_refused_with_an_example(text):
    with pytest.raises(SelectionError, match="is not a condition") as caught:
        parse(text)
    assert "in_time = 1" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "time > avg(time)", "time = max(time)", "count(*) > 3", "time > (select 1)", "first(time) = 1",
        "row_number() over (order by time) > 2", "sum(time) over (partition by event) > 3", "quantile_cont(time, 0.5) > 1",
    ],
)  # fmt: skip
def test_condition_that_looks_at_other_rows_is_refused(text):
    """It would depend on where chunks end, and so on nothing physical."""
    with pytest.raises(SelectionError, match="not a condition on one row"):
        parse(text)


def test_unknown_column_names_its_nearest_neighbour():
    with pytest.raises(SelectionError, match="unknown column 'chanel'") as caught:
        kept("chanel = 5")
    assert "'channel'" in caught.value.hint
    assert "chanel = 5" in caught.value.where


def test_number_is_no_truth_value():
    with pytest.raises(SelectionError, match="gives Int32, not true or false"):
        kept("channel")


def test_condition_on_the_wrong_type_is_an_error_of_selection():
    with pytest.raises(SelectionError, match="cannot be evaluated"):
        kept("channel = 'five'")


def test_code_is_never_run():
    with pytest.raises(SelectionError):
        parse("__import__('os').system('true')")


# ---------------------------------------------------------------- selections


def test_cut_on_events_drops_their_hits_and_numbers_events_anew():
    selected, flow = Selection((Cut("good", "events", "good"),)).apply(FOUR)
    assert selected.table("events").array("n_hits").tolist() == [2, 2]
    assert selected.table("hits").array("event").tolist() == [0, 0, 1, 1]
    assert selected.table("hits").array("channel").tolist() == [5, 6, 5, 7]
    assert selected.block("header").values.tolist() == [0, 2]
    assert flow.counts.tolist() == [[4, 2, 2]]


def test_cut_on_hits_keeps_events_and_counts_their_hits_again():
    selected, _ = Selection((Cut("c", "hits", "channel = 5"),)).apply(FOUR)
    assert selected.table("events").array("n_hits").tolist() == [1, 0, 1, 0]
    assert selected.table("hits").array("event").tolist() == [0, 2]
    assert selected.block("header").values.tolist() == [0, 1, 2, 3]


def test_both_at_once():
    selection = Selection(
        (Cut("good", "events", "good"), Cut("c", "hits", "channel = 5"), Cut("t", "hits", "time > 2"))
    )
    selected, flow = selection.apply(FOUR)
    assert selected.table("hits").array("event").tolist() == [1]
    assert selected.table("events").array("n_hits").tolist() == [0, 1]
    assert flow.to_polars().select("cut", "rows", "passed_alone", "left").rows()[1:] == [
        ("c", 5, 2, 2),
        ("t", 5, 2, 1),
    ]


def test_cut_by_a_function_of_the_chunk():
    cut = Cut("odd", "hits", lambda chunk: chunk.table("hits").array("channel") % 2 == 1, needs=("channel",))
    selected, _ = Selection((cut,)).apply(FOUR)
    assert selected.table("hits").array("channel").tolist() == [5, 5, 7]
    assert Selection((cut,)).needs() == {"hits": ("channel",)}


def test_original_chunk_is_left_alone():
    Selection((Cut("good", "events", "good"),)).apply(FOUR)
    assert FOUR.table("hits").array("event").tolist() == [0, 0, 2, 2, 3]


def test_chunk_without_rows():
    selected, flow = Selection((Cut("good", "events", "good"), Cut("c", "hits", "1 = 1"))).apply(
        chunk_of([], [])
    )
    assert len(selected.table("hits")) == 0
    assert flow.counts.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert np.isnan(flow.to_polars()["fraction_left"].to_numpy()).all()


hit = st.tuples(
    st.integers(0, 3),
    st.integers(-1, 9),
    st.one_of(st.none(), st.floats(0, 10, width=16)),
    st.sampled_from("ab"),
)
event_list = st.lists(st.tuples(st.booleans(), st.lists(hit, max_size=4)), max_size=8)
SELECTION = Selection(
    (
        Cut("good", "events", "good"),
        Cut("late", "hits", "time > 3"),
        Cut("channel", "hits", "channel between 1 and 8"),
    )
)


def chunks_of(events: list, size: int) -> list[Chunk]:
    parts = [events[i : i + size] for i in range(0, len(events), size)] or [[]]
    return [
        chunk_of(
            [good for good, _ in part],
            [(i, *h[1:]) for i, (_, hits) in enumerate(part) for h in hits],
            start=index * size,
        )
        for index, part in enumerate(parts)
    ]


@settings(max_examples=60)
@given(event_list, st.integers(1, 4))
def test_result_does_not_depend_on_where_chunks_end(events, size):
    def outcome(chunks: list[Chunk]) -> tuple:
        hits, n_hits, flow, before = [], [], None, 0
        for chunk in chunks:
            selected, counted = SELECTION.apply(chunk)
            flow = counted if flow is None else flow + counted
            frame = selected.table("hits").frame.with_columns(pl.col("event") + before)
            hits += frame.rows()
            n_hits += selected.table("events").array("n_hits").tolist()
            before += len(selected.table("events"))
        return hits, n_hits, flow.counts.tolist()

    assert outcome(chunks_of(events, size)) == outcome(chunks_of(events, len(events) or 1))


@settings(max_examples=60)
@given(event_list)
def test_cut_flow_counts_what_is_left(events):
    (chunk,) = chunks_of(events, len(events) or 1)
    selected, flow = SELECTION.apply(chunk)
    assert (flow.counts[:, 2] <= flow.counts[:, 1]).all()
    assert (flow.counts[:, 1] <= flow.counts[:, 0]).all()
    assert flow.counts[0, 2] == len(selected.table("events"))
    assert selected.table("events").array("n_hits").sum() == len(selected.table("hits"))


def test_cut_flows_of_different_cuts_do_not_add():
    counts = np.zeros((1, 3), dtype=np.int64)
    with pytest.raises(SelectionError, match="cannot be added"):
        _ = CutFlow(("a",), ("hits",), counts) + CutFlow(("b",), ("hits",), counts)


def test_cut_on_a_table_that_is_not_there_says_so():
    with pytest.raises(Exception, match="unknown table 'hitz'"):
        Selection((Cut("c", "hitz", "channel = 5"),)).apply(FOUR)


def test_cut_of_events_refuses_hits_that_cannot_be_tied_to_them():
    """Hits without their event would all be kept in silence."""
    hits = Table(FOUR.table("hits").frame.drop("event"), HITS)
    with pytest.raises(Exception, match="event"):
        Selection((Cut("good", "events", "good"),)).apply(FOUR.with_parts(hits=hits))
