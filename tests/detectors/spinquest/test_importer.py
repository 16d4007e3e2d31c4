"""Occupancies written by the original tool, in all its schemas; the numbers are those of two real spills."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from firstlight.data.schema import Block
from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.detectors.spinquest.importer import import_counts
from firstlight.errors import InputError
from firstlight.run.store import Run

REPOSITORY = Path(__file__).parents[3]
DATA = (
    Path(os.environ.get("FIRSTLIGHT_DATA", REPOSITORY.parent / "shared" / "data"))
    / "spinquest"
    / "real_run005994"
)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA.name}; set FIRSTLIGHT_DATA")

CHANNELS = channel_map(load_geometry("E1039"))


def plane_sum(counts: np.ndarray, name: str) -> int:
    return int(counts[CHANNELS.channels_of(name)].sum())


def hottest(counts: np.ndarray) -> tuple[str, int, int]:
    channel = int(counts.argmax())
    return CHANNELS.frame["group"][channel], CHANNELS.frame["element_id"][channel], int(counts[channel])


@needs_data
@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("spill_001924510_total_hits_data.json", "JSON cells"),
        ("spill_001924510_file_hits_data.json", "JSON cells by file"),
    ],
)
def test_first_spill(name: str, schema: str) -> None:
    found = import_counts(DATA / name, CHANNELS)
    assert found.schema == schema
    assert found.counts.dtype == np.int64
    assert np.count_nonzero(found.counts) == 4440
    assert found.total == found.counts.sum() == 4_099_549
    assert hottest(found.counts) == ("H1L", 10, 12_397)
    assert [plane_sum(found.counts, name) for name in ("D0U", "D0Vp", "DP2BR")] == [274_336, 2, 3_606]
    assert found.outside == {}


@needs_data
def test_the_file_is_named() -> None:
    found = import_counts(DATA / "spill_001924510_file_hits_data.json", CHANNELS)
    assert found.files == {"run_005994_spill_001924510_sraw.root": 4_099_549}


@needs_data
def test_second_spill_is_the_same_in_three_schemas() -> None:
    names = (
        "spill_001924430_total_hits_data_matrix.json",
        "spill_001924430_total_hits_data.csv",
        "run_005994_spill_001924430_sraw_hits.csv",
    )
    found = [import_counts(DATA / name, CHANNELS) for name in names]
    for one in found:
        assert one.total == 4_046_873
        assert hottest(one.counts) == ("H1L", 10, 11_880)
        assert np.array_equal(one.counts, found[0].counts)
        assert one.outside == {}


@needs_data
def test_other_files_of_the_tool_are_refused() -> None:
    with pytest.raises(InputError, match="Element_ID") as caught:
        import_counts(DATA / "spill_001924430_detector_summary.csv", CHANNELS)
    assert "summary of planes" in str(caught.value)
    with pytest.raises(InputError, match="hits_per_event"):
        import_counts(DATA / "spill_001924430_hits_per_event.csv", CHANNELS)


@needs_data
def test_a_map_with_fewer_elements_loses_nothing() -> None:
    original = channel_map(load_geometry("original"))
    found = import_counts(DATA / "spill_001924510_total_hits_data.json", original)
    assert found.total == 4_099_549
    assert sum(found.outside.values()) == 4_099_549 - found.counts.sum()


def write(folder: Path, content: object, name: str = "total_hits_data.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_hits_outside_the_map_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path, {"3_74": 5, "0_0": 2, "1_202": 3, "99_1": 4, "-1_7": 1, "3_75": 0})
    found = import_counts(path, CHANNELS)
    assert found.counts.sum() == 5
    assert found.outside == {(-1, 7): 1, (0, 0): 2, (1, 202): 3, (99, 1): 4}
    assert found.total == 15


def test_row_and_column_zero_of_a_matrix(tmp_path: Path) -> None:
    matrix = np.zeros((63, 202), dtype=int)
    matrix[0, 3], matrix[5, 0], matrix[62, 48] = 1, 2, 3
    path = write(tmp_path, {"hits_array": matrix.tolist(), "max_detector": 62, "max_element": 201})
    found = import_counts(path, CHANNELS)
    assert found.outside == {(0, 3): 1, (5, 0): 2}
    assert hottest(found.counts) == ("DP2BR", 48, 3)


def test_files_are_added_up(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.root": {"3_74": 5, "4_1": 1}, "b.root": {"3_74": 7}}, "file_hits_data.json")
    found = import_counts(path, CHANNELS)
    assert found.files == {"a.root": 6, "b.root": 7}
    assert hottest(found.counts) == ("D0X", 74, 12)


def test_a_folder_of_the_original_tool(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without an occupancy"):
        import_counts(tmp_path, CHANNELS)
    write(tmp_path, {"3_74": 5})
    assert import_counts(tmp_path, CHANNELS).total == 5


HEAD = "Group,Detector_Name,Detector_ID,Element_ID,Hits\n"
BAD = {
    "a list": ("x.json", "[1, 2]", "top level is a list"),
    "a group file": ("x.json", '[{"detector": "H4B", "element": 0, "hits": 3}]', "last element"),
    "not JSON": ("x.json", '{"3_74": 5', "not valid JSON"),
    "a key twice": ("x.json", '{"3_74": 5, "3_74": 6}', "'3_74' stands twice"),
    "another key": ("x.json", '{"D0X": 5}', "key 'D0X' is not detector_element"),
    "text": ("x.json", '{"3_74": "5"}', "key '3_74': '5' is not a number of hits"),
    "a fraction": ("x.json", '{"3_74": 5.5}', "5.5 is not a number of hits"),
    "a truth": ("x.json", '{"3_74": true}', "True is not a number of hits"),
    "below zero": ("x.json", '{"3_74": -5}', "-5 is not a number of hits"),
    "not a number": ("x.json", '{"3_74": NaN}', "nan is not a number of hits"),
    "infinite": ("x.json", '{"3_74": Infinity}', "inf is not a number of hits"),
    "one cell twice": ("x.json", '{"3_74": 5, "03_74": 6}', "another key means too"),
    "file, bad key": ("x.json", '{"a.root": {"x": 5}}', "a.root: key 'x'"),
    "ragged": ("x.json", '{"hits_array": [[0, 1], [0]]}', "from 1 to 2 elements"),
    "no rows": ("x.json", '{"hits_array": 7}', "not a list of lists"),
    "wrong size": ("x.json", '{"hits_array": [[0, 1]], "max_element": 5}', "'max_element' is 5"),
    "bad entry": ("x.json", '{"hits_array": [[0, "a"]]}', "hits_array[0][1]"),
    "no columns": ("x.csv", "a,b\n1,2\n", "are missing"),
    "no content": ("x.csv", "", "are missing"),
    "short line": ("x.csv", HEAD + "Station 1,D0U,1,1\n", "line 2 has 4 cells"),
    "no number": ("x.csv", HEAD + "Station 1,D0U,1,x,5\n", "line 2, column Element_ID"),
    "line twice": (
        "x.csv",
        HEAD + "S,D0U,1,1,5\nS,D0U,1,1,5\n",
        "line 3: detector 1, element 1 stands twice",
    ),
    "line below zero": ("x.csv", HEAD + "S,D0U,1,1,-5\n", "line 2, column Hits: -5"),
    "another kind": ("x.txt", "3_74 5", "end in .json or .csv"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_files_say_what_and_where(case: str, tmp_path: Path) -> None:
    name, text, message = BAD[case]
    path = write(tmp_path, text, name)
    with pytest.raises(InputError) as caught:
        import_counts(path, CHANNELS)
    assert message in caught.value.what
    assert str(path) in str(caught.value)


def test_bytes_and_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe\x00root")
    with pytest.raises(InputError, match="not a text file"):
        import_counts(path, CHANNELS)
    with pytest.raises(InputError, match="no such file"):
        import_counts(tmp_path / "absent.json", CHANNELS)


def test_an_empty_occupancy_is_one(tmp_path: Path) -> None:
    assert import_counts(write(tmp_path, {}), CHANNELS).total == 0


def a_run(folder: Path, version: str = "E1039", detector: str = "spinquest") -> np.ndarray:
    channels = channel_map(load_geometry(version)) if version in {"E1039", "E906"} else CHANNELS
    values = np.random.default_rng(3).integers(0, 99, size=(len(channels), 2))
    run = Run.create(folder, detector)
    run.put(
        "occupancy/counts",
        Block(values, ("channel", "kind"), coordinates={"kind": ["hits", "events"]}),
        {"key": "k"},
    )
    run.record["channels"] = {"name": "spinquest", "version": version, "n_channels": len(channels)}
    run.save()
    return values[:, 0]


def test_a_run_directory(tmp_path: Path) -> None:
    hits = a_run(tmp_path / "run")
    for path in (tmp_path / "run", tmp_path / "run" / "run.json"):
        found = import_counts(path, CHANNELS)
        assert found.schema == "run directory"
        assert np.array_equal(found.counts, hits)


def test_a_run_directory_of_another_geometry(tmp_path: Path) -> None:
    hits = a_run(tmp_path / "run", "E906")
    found = import_counts(tmp_path / "run", CHANNELS)
    assert found.total == hits.sum()


def test_run_directories_that_do_not_serve(tmp_path: Path) -> None:
    a_run(tmp_path / "other", detector="velo")
    with pytest.raises(InputError, match="detector 'velo'"):
        import_counts(tmp_path / "other", CHANNELS)
    a_run(tmp_path / "lost", version="mine")
    with pytest.raises(InputError, match="geometry 'mine'"):
        import_counts(tmp_path / "lost", CHANNELS)
    Run.create(tmp_path / "empty", "spinquest").save()
    with pytest.raises(InputError, match="occupancy/counts"):
        import_counts(tmp_path / "empty", CHANNELS)
