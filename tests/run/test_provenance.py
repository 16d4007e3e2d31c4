"""Digests and keys: the same input gives the same key, anything else another."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstlight.errors import InputError
from firstlight.run import provenance
from firstlight.run.provenance import InputRecord, activity, digest_file, product_key, size_of

MIB = 2**20


def sparse(path: Path, size: int, **written: bytes) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size)
        for place, content in written.items():
            stream.seek(int(place.removeprefix("at_")))
            stream.write(content)
    return path


def test_small_file_is_digested_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"hits")
    assert digest_file(path) == "sha256:" + hashlib.sha256(b"hits").hexdigest()


def test_up_to_64_mib_every_byte_counts(tmp_path):
    one = digest_file(sparse(tmp_path / "a", 64 * MIB))
    other = digest_file(sparse(tmp_path / "b", 64 * MIB, at_5000001=b"x"))
    assert one.startswith("sha256:")
    assert one != other


def test_larger_file_is_sampled_and_says_so(tmp_path):
    size = 200 * MIB
    plain = digest_file(sparse(tmp_path / "a", size))
    assert plain.startswith("sha256-sampled:")
    assert plain == digest_file(sparse(tmp_path / "b", size))
    assert plain != digest_file(sparse(tmp_path / "c", size + 1))
    assert plain != digest_file(sparse(tmp_path / "d", size, at_0=b"x"))
    assert plain != digest_file(sparse(tmp_path / "e", size, **{f"at_{size - 1}": b"x"}))
    assert plain != digest_file(sparse(tmp_path / "f", size, **{f"at_{(size - MIB) * 7 // 15}": b"x"}))


def test_file_that_cannot_be_read_is_a_bad_input(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        digest_file(tmp_path / "missing")


def test_digest_of_a_folder_is_that_of_what_it_holds(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    plain = digest_file(tmp_path)
    assert plain.startswith("sha256-listing:")
    assert plain == digest_file(tmp_path)
    assert size_of(tmp_path) == 2
    os.utime(first, (1, 1))
    changed = digest_file(tmp_path)
    second.unlink()
    assert len({plain, changed, digest_file(tmp_path)}) == 3


def test_key_depends_on_everything_and_on_nothing_else():
    key = product_key("tdc", 1, {"bins": 3, "low": 0.0}, ["sha256:a", "sha256:b"])
    assert key == product_key("tdc", 1, {"low": 0.0, "bins": 3}, ["sha256:a", "sha256:b"])
    others = {
        product_key("drift", 1, {"bins": 3, "low": 0.0}, ["sha256:a", "sha256:b"]),
        product_key("tdc", 2, {"bins": 3, "low": 0.0}, ["sha256:a", "sha256:b"]),
        product_key("tdc", 1, {"bins": 4, "low": 0.0}, ["sha256:a", "sha256:b"]),
        product_key("tdc", 1, {"bins": 3, "low": 0.0}, ["sha256:b", "sha256:a"]),
        product_key("tdc", 1, {"bins": 3, "low": 0.0}, ["sha256:a"]),
    }
    assert len(others) == 5
    assert key not in others


@given(st.lists(st.text(max_size=4), max_size=3), st.lists(st.text(max_size=4), max_size=3))
def test_keys_of_different_inputs_differ(one, other):
    assert (product_key("s", 1, {}, one) == product_key("s", 1, {}, other)) == (one == other)


def test_key_is_the_same_in_another_process_and_for_ever():
    """A constant: if this changes, every run in the world is computed again."""
    assert (
        product_key("occupancy", 1, {"marks": {}}, ["sha256:0"])
        == hashlib.sha256(
            json.dumps(["occupancy", 1, {"marks": {}}, ["sha256:0"]], sort_keys=True).encode()
        ).hexdigest()[:24]
    )


def test_record_has_relative_paths_and_plain_values(tmp_path):
    record = InputRecord(str(tmp_path / "raw" / "a.root"), "used", conditions={"run": 1}, notes=("odd",))
    content = record.to_dict(tmp_path / "run")
    assert content["path"] == "../raw/a.root"
    assert json.loads(json.dumps(content)) == content


def test_activity_says_who_what_where_and_with_what():
    content = activity(["firstlight", "process"])
    assert content["agent"]["name"] == "firstlight"
    assert {"numpy", "polars", "pydantic"} <= content["packages"].keys()
    assert {"command", "started", "host", "python", "platform"} <= content.keys()
    assert provenance.now().endswith("+00:00")
