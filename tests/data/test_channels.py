"""Channel maps: every layout has what it needs, and sums over groups are sums."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from firstlight.data.channels import ChannelMap
from firstlight.errors import SchemaError


def planes(groups: list[str], positions: list[int], **more: list) -> ChannelMap:
    frame = pl.DataFrame({"channel": range(len(groups)), "group": groups, "position": positions, **more})
    return ChannelMap("toy", "1", frame, "planes", labels={"group": "plane"})


@pytest.mark.parametrize(
    ("layout", "columns"),
    [
        ("grid", ["row", "col"]),
        ("hexagons", ["x", "y"]),
        ("strips", ["position"]),
        ("planes", ["group", "position"]),
    ],
)
def test_layout_needs_its_columns(layout, columns):
    full = pl.DataFrame({"channel": [0], **{name: ["0"] for name in columns}})
    assert len(ChannelMap("toy", "1", full, layout)) == 1
    for name in ("channel", *columns):
        with pytest.raises(SchemaError, match=f"unknown column '{name}'"):
            ChannelMap("toy", "1", full.drop(name), layout)


@pytest.mark.parametrize("numbers", [[1, 2, 3], [0, 2, 1], [0, 1, 1], [0, 1, 3]])
def test_channels_count_without_gaps(numbers):
    with pytest.raises(SchemaError, match="must count 0, 1, 2"):
        ChannelMap("toy", "1", pl.DataFrame({"channel": numbers, "position": numbers}), "strips")


def test_groups_stand_in_the_order_of_their_first_channel():
    channels = planes(["b", "a", "b"], [1, 1, 2])
    assert channels.group_names == ["b", "a"]
    assert channels.group_index.tolist() == [0, 1, 0]
    assert channels.channels_of("b").tolist() == [0, 2]
    assert channels.groups["group"].to_list() == ["b", "a"]


def test_unknown_group_is_called_by_the_words_of_the_detector():
    with pytest.raises(SchemaError, match="unknown plane 'D0x'") as caught:
        planes(["D0X", "D0U"], [1, 1]).channels_of("D0x")
    assert "'D0X'" in caught.value.hint


def test_sums_over_groups():
    channels = planes(["b", "a", "b"], [1, 1, 2])
    assert channels.sum_groups(np.array([1, 10, 100])).tolist() == [101, 10]
    assert channels.sum_groups(np.array([[1, 2], [10, 20], [100, 200]])).tolist() == [[101, 202], [10, 20]]


def test_no_channel_is_optional_unless_it_says_so():
    assert not planes(["a", "a"], [1, 2]).optional.any()
    assert planes(["a", "a"], [1, 2], optional=[False, True]).optional.tolist() == [False, True]


def test_table_sets_values_beside_columns():
    table = planes(["a", "b"], [1, 1]).table(["group"], hits=np.array([3, 4]))
    assert table.to_dicts() == [{"group": "a", "hits": 3}, {"group": "b", "hits": 4}]
    with pytest.raises(SchemaError, match="unknown column 'groop'"):
        planes(["a"], [1]).table(["groop"])


def test_map_shows_itself():
    assert repr(planes(["a", "b"], [1, 1])) == "ChannelMap('toy', version '1', 2 channels, 2 groups, planes)"
