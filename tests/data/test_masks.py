"""Mask files: what is written is read back, and what is malformed is named by line."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstlight.data.channels import ChannelMap
from firstlight.data.masks import read_mask, write_mask
from firstlight.errors import ConfigError

SIZES = {"D0X": 12, "D0Vp": 6, "P1X1": 8}
GROUPS = [name for name, size in SIZES.items() for _ in range(size)]
POSITIONS = [place for size in SIZES.values() for place in range(1, size + 1)]
CHANNELS = ChannelMap(
    "toy", "1", pl.DataFrame({"channel": range(len(GROUPS)), "group": GROUPS, "position": POSITIONS}),
    "planes", labels={"group": "plane"},
)  # fmt: skip


def masked(tmp_path, text: str) -> tuple[list[str], dict[int, str]]:
    (tmp_path / "mask.txt").write_text(text, encoding="utf-8")
    found, reasons = read_mask(tmp_path / "mask.txt", CHANNELS)
    return [f"{GROUPS[c]}{POSITIONS[c]}" for c in found.nonzero()[0]], reasons


def test_documented_example(tmp_path):
    names, reasons = masked(
        tmp_path, "D0X   7     # hot since run 5990, ticket 12\nP1X1  3-5  # no gas\n\n# all\nD0Vp *\n"
    )
    assert names == ["D0X7", *[f"D0Vp{i}" for i in range(1, 7)], "P1X13", "P1X14", "P1X15"]
    assert reasons[6] == "hot since run 5990, ticket 12"
    assert reasons[12] == ""


@pytest.mark.parametrize("places", ["2,4-5", "2 4..5", "2, 4-5", "4-5 2 2", "  2\t4 - 5"])
def test_positions_are_separated_by_commas_or_spaces(tmp_path, places):
    assert masked(tmp_path, f"D0X {places}\n")[0] == ["D0X2", "D0X4", "D0X5"]


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_endings_of_other_systems(tmp_path, ending):
    (tmp_path / "mask.txt").write_bytes(f"D0X 1{ending}D0X 2{ending}".encode())
    assert read_mask(tmp_path / "mask.txt", CHANNELS)[0].sum() == 2


def test_byte_order_mark_of_an_editor_does_no_harm(tmp_path):
    (tmp_path / "mask.txt").write_bytes(b"\xef\xbb\xbfD0X 1\n")
    assert read_mask(tmp_path / "mask.txt", CHANNELS)[0].sum() == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("D0X", "named without positions"),
        ("D0X #74", "named without positions"),
        ("D0X seven", "'seven' is not a position"),
        ("D0X 3-", "'3-' is not a position"),
        ("D0X 0", "'0' is outside of D0X, which has positions 1 to 12"),
        ("D0X 13", "'13' is outside of D0X"),
        ("D0X 5-3", "'5-3' is outside of D0X"),
        ("D0x 3", "unknown plane 'D0x'"),
    ],
)
def test_malformed_line_is_named(tmp_path, line, message):
    with pytest.raises(ConfigError, match=message) as caught:
        masked(tmp_path, f"# title\n{line}\n")
    assert caught.value.where.endswith("mask.txt, line 2")
    assert caught.value.exit_status == 2


def test_mistyped_plane_names_its_neighbour(tmp_path):
    with pytest.raises(ConfigError) as caught:
        masked(tmp_path, "D0Vpp 1\n")
    assert "'D0Vp'" in caught.value.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_file_that_cannot_be_read_is_an_error_of_configuration(tmp_path, content):
    if content is not None:
        (tmp_path / "mask.txt").write_bytes(content)
    with pytest.raises(ConfigError, match="mask file cannot be read"):
        read_mask(tmp_path / "mask.txt", CHANNELS)


reasons = st.dictionaries(
    st.integers(0, len(GROUPS) - 1), st.sampled_from(["dead", "hot", "low, ticket 12", ""])
)


@given(reasons)
def test_what_was_written_is_read_back(tmp_path_factory, given_reasons):
    path = tmp_path_factory.mktemp("mask") / "mask.txt"
    write_mask(path, CHANNELS, given_reasons, "title")
    found, back = read_mask(path, CHANNELS)
    assert set(found.nonzero()[0]) == set(given_reasons)
    assert back == given_reasons


def test_neighbours_with_one_reason_share_a_line(tmp_path):
    path = write_mask(
        tmp_path / "m.txt", CHANNELS, {0: "dead", 1: "dead", 2: "hot", 11: "dead", 12: "dead"}, "title"
    )
    lines = [line.split("#")[0].split() for line in path.read_text().splitlines()]
    assert lines == [[], ["D0X", "1-2"], ["D0X", "3"], ["D0X", "12"], ["D0Vp", "1"]]


def test_neighbours_in_another_order_of_positions_come_back(tmp_path):
    """A channel map may count positions downwards, or skip some."""
    frame = pl.DataFrame({"channel": range(6), "group": ["a"] * 6, "position": [6, 5, 4, 3, 1, 2]})
    channels = ChannelMap("toy", "1", frame, "planes")
    for wanted in ({0, 1}, {2, 3, 4}, {1, 2, 3, 4}, {3, 4}):
        path = write_mask(tmp_path / "m.txt", channels, dict.fromkeys(wanted, "dead"), "title")
        assert set(read_mask(path, channels)[0].nonzero()[0]) == wanted
