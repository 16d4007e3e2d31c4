"""File names with typed fields, and folders searched in a fixed order."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstlight.data.patterns import FilePattern, catalogue, find_files
from firstlight.errors import InputError, UsageError

SPILL = FilePattern("run_{run:06d}_spill_{spill:09d}_sraw.root")


def test_fields_become_typed_conditions():
    assert SPILL.match("run_005994_spill_001924510_sraw.root") == {"run": 5994, "spill": 1924510}
    assert SPILL.fields == {"run": int, "spill": int}
    assert FilePattern("T{temperature:f}_{name}.dat").match("T-20.5_fbk.dat") == {
        "temperature": -20.5,
        "name": "fbk",
    }


@pytest.mark.parametrize(
    "name",
    [
        "run_5994_spill_001924510_sraw.root",
        "run_005994_spill_001924510_sraw.root2",
        "xrun_005994_spill_001924510_sraw.root",
    ],
)
def test_other_names_do_not_fit(name):
    assert SPILL.match(name) is None


@given(st.integers(0, 999_999), st.integers(0, 999_999_999))
def test_what_was_formatted_is_read_back(run, spill):
    assert SPILL.match(f"run_{run:06d}_spill_{spill:09d}_sraw.root") == {"run": run, "spill": spill}


@given(st.text(alphabet="ab.+()[]^$\\|?", min_size=1, max_size=8))
def test_literal_text_is_literal(text):
    assert FilePattern(text).match(text) == {}
    assert FilePattern(text).match(text + "x") is None


@pytest.mark.parametrize("text", ["{Run}", "{run:x}", "{run", "{run:06}"])
def test_field_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match="has a field that is not"):
        FilePattern(text).match("anything")


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.root", "a/1.root", "a/1.txt", ".hidden/0.root", "a/.tmp.root", "z.root"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_folders_are_searched_in_a_fixed_order(folder):
    found = [path.relative_to(folder).as_posix() for path in find_files([folder], suffixes=(".root",))]
    assert found == ["z.root", "a/1.root", "b/2.root"]


def test_search_can_stay_in_the_folder(folder):
    assert [path.name for path in find_files([folder], suffixes=(".root",), recursive=False)] == ["z.root"]


def test_pattern_holds_in_folders_only(folder):
    found = find_files([folder, folder / "a" / "1.txt"], suffixes=(".root",), pattern="2*")
    assert [path.name for path in found] == ["2.root", "1.txt"]


def test_no_file_is_taken_twice(folder):
    assert len(find_files([folder, folder / "z.root", folder], suffixes=(".root",))) == 3


def test_same_file_under_two_spellings_is_taken_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert len(find_files(["z.root", folder / "z.root", "a/../z.root"])) == 1


def test_missing_path_names_what_is_there(folder):
    with pytest.raises(InputError, match="no such file or folder") as caught:
        find_files([folder / "zz.root"])
    assert "z.root" in caught.value.known
    assert not any(name.startswith(".") for name in caught.value.known)


def test_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"no file found \(\*.root or \*.dat named x\* was looked for\)"):
        find_files([tmp_path], suffixes=(".root", ".dat"), pattern="x*")


def test_no_path_is_a_wrong_call():
    with pytest.raises(UsageError, match="no input given"):
        find_files([])


def test_linked_folders_are_looked_into_once(tmp_path):
    elsewhere = tmp_path / "disk" / "run"
    elsewhere.mkdir(parents=True)
    (elsewhere / "a.root").touch()
    linked = tmp_path / "mine"
    linked.mkdir()
    (linked / "one").symlink_to(elsewhere)
    (linked / "two").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(linked)
    assert [path.name for path in find_files([linked], suffixes=(".root",))] == ["a.root"]


def test_folder_that_links_to_itself_ends(folder):
    (folder / "a" / "again").symlink_to(folder)
    assert len(find_files([folder], suffixes=(".root",))) == 3


def test_catalogue_has_a_row_per_file_and_a_column_per_field(tmp_path):
    names = ["run_000001_spill_000000002_sraw.root", "other.root"]
    for name in names:
        (tmp_path / name).write_bytes(b"12345")
    table = catalogue([tmp_path / name for name in names], [SPILL, FilePattern("{kind}.root")])
    assert table.select("size", "run", "spill", "kind").rows() == [(5, 1, 2, None), (5, None, None, "other")]
    assert table.schema["run"] == pl.Int64
