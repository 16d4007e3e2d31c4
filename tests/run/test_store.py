"""Run directories: written whole or not at all, moved, damaged, killed, and opened again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import polars as pl
import pytest

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.errors import StoreError
from firstlight.files import atomic, write_json, write_text
from firstlight.run.store import Run, open_run

SCHEMA = TableSchema(
    "cells", (Column("name", pl.String, "a name"), Column("hits", pl.Int64, "hits", "counts")), "a cell"
)
TABLE = Table(pl.DataFrame({"name": ["a", "b"], "hits": [1, None]}, schema=SCHEMA.dtypes), SCHEMA)
BLOCK = Block(
    np.arange(6).reshape(2, 3), ("channel", "kind"), "counts", "what", {"kind": ["hits", "events", "früh"]}
)
CUBE = HistogramCube((Axis("channel", 2), Axis("x", 2, 0.0, 1.0)), np.arange(8).reshape(2, 4), "cube")
ABOUT = {"key": "k1", "wasGeneratedBy": "step"}


def run_in(folder, **products) -> Run:
    run = Run.create(folder, "toy")
    for name, product in products.items():
        run.put(f"step/{name}", product, ABOUT)
    run.save()
    return run


@pytest.fixture
def run(tmp_path) -> Run:
    return run_in(tmp_path / "run", table=TABLE, block=BLOCK, cube=CUBE)


# ---------------------------------------------------------------- what is written is read back


def test_products_come_back(run):
    back = open_run(run.folder)
    assert list(back) == ["step/table", "step/block", "step/cube"]
    table = back["step/table"].value
    assert table.frame.equals(TABLE.frame)
    assert (table.schema.column("hits").unit, table.schema.description) == ("counts", "a cell")
    block = back["step/block"].value
    assert (block.axes, block.unit, block.description) == (BLOCK.axes, BLOCK.unit, BLOCK.description)
    assert block.values.dtype == BLOCK.values.dtype
    assert block.select(kind="früh").tolist() == [2, 5]
    cube = back["step/cube"].value
    assert cube.axes == CUBE.axes
    assert np.array_equal(cube.counts, CUBE.counts)


@pytest.mark.parametrize(
    "block",
    [
        Block(np.zeros((0, 3)), ("a", "b")),
        Block(np.array([1.5, np.nan]), ("a",), coordinates={"a": np.array([0.5, 1.5])}),
        Block(np.array(3.0), ()),
        Block(np.array([True, False]), ("a",)),
    ],
)
def test_odd_blocks_come_back(tmp_path, block):
    back = open_run(run_in(tmp_path, block=block).folder)["step/block"].value
    assert np.array_equal(back.values, block.values, equal_nan=block.values.dtype.kind == "f")
    assert back.axes == block.axes
    assert {key: list(values) for key, values in back.coordinates.items()} == {
        key: list(values) for key, values in block.coordinates.items()
    }


def test_products_show_as_what_they_are(run):
    assert run["step/table"].to_polars().height == 2
    assert run["step/block"].to_numpy().shape == (2, 3)
    assert run["step/cube"].to_numpy().tolist() == [[1, 2], [5, 6]]
    assert run["step/cube"].to_hist().sum(flow=True) == 28
    assert run["step/table"].provenance["key"] == "k1"
    for name, method in (
        ("table", "to_hist"),
        ("table", "to_numpy"),
        ("block", "to_polars"),
        ("cube", "to_polars"),
    ):
        with pytest.raises(StoreError, match="is a") as caught:
            getattr(run[f"step/{name}"], method)()
        assert "use .to_" in caught.value.hint


def test_run_is_a_mapping_with_a_picture_of_itself(run):
    assert "step/table" in run
    assert len(run) == 3
    assert repr(run).endswith("toy, 3 products)")
    assert "step/cube" in run._repr_html_()


def test_unknown_product_names_its_nearest_neighbour(run):
    with pytest.raises(StoreError, match="unknown product 'step/tabel'") as caught:
        run["step/tabel"]
    assert "'step/table'" in caught.value.hint


@pytest.mark.parametrize("name", ["table", "step/Table", "../x/y", "a/b/c", "step/", "step/a b"])
def test_name_of_a_product_is_plain(run, name):
    with pytest.raises(StoreError, match="must be step/product"):
        run.put(name, TABLE, ABOUT)


def test_dropped_product_is_gone_with_its_file(run):
    path = run["step/cube"].path
    run.drop("step/cube")
    assert "step/cube" not in run
    assert not path.exists()
    run.drop("step/cube")


# ---------------------------------------------------------------- moved, old, foreign, damaged


def test_moved_directory_opens(run, tmp_path):
    there = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(run.folder, there)
    shutil.rmtree(run.folder)
    assert open_run(there)["step/table"].to_polars().equals(TABLE.frame)
    assert open_run(there / "run.json")["step/cube"].value.total == 28


def test_record_names_no_absolute_path(run):
    assert str(run.folder) not in (run.folder / "run.json").read_text()
    assert all(not entry["file"].startswith("/") for entry in run.record["products"].values())


def test_folder_without_a_run_names_runs_in_it(run):
    with pytest.raises(StoreError, match="is not a run directory") as caught:
        open_run(run.folder.parent)
    assert caught.value.known == ["run"]


def test_missing_folder_is_no_run(tmp_path):
    with pytest.raises(StoreError, match="is not a run directory"):
        open_run(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "is not the record of a run"),
        ('{"format": "other"}', "is not the record of a run"),
        ('{"format": "firstlight-run", "format_version": 99, "products": {}}', "was written in format 99"),
        ('{"format": "firstlight-run", "format_version": 1}', "is damaged"),
        ('{"format": "firstlight-run", "format_version": 1, "products": {"a/b": {}}}', "is damaged"),
    ],
)
def test_damaged_record_is_named(run, text, message):
    (run.folder / "run.json").write_text(text)
    with pytest.raises(StoreError, match=message) as caught:
        open_run(run.folder)
    assert "run.json" in str(caught.value)


@pytest.mark.parametrize("file", ["/etc/passwd", "../outside.h5", "products/../../outside.h5"])
def test_record_from_a_stranger_reaches_nothing_outside(run, file):
    content = json.loads((run.folder / "run.json").read_text())
    content["products"]["step/table"]["file"] = file
    (run.folder / "run.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="is damaged"):
        open_run(run.folder)


@pytest.mark.parametrize("name", ["table", "block", "cube"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "gone", "folder"])
def test_damaged_product_is_an_error_of_the_store_and_is_not_there(run, name, damage):
    path = run[f"step/{name}"].path
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "noise": b"x" * len(content)}[damage]
        )
    again = open_run(run.folder)
    assert not again.has(f"step/{name}", "k1")
    with pytest.raises(StoreError) as caught:
        _ = again[f"step/{name}"].value
    assert path.name in str(caught.value)
    assert "--force" in caught.value.hint


@pytest.mark.parametrize("name", ["table", "block", "cube"])
def test_product_of_another_key_is_never_passed_off(run, name):
    """Killed after the product was renamed and before run.json was: the key inside tells."""
    product = {"table": TABLE, "block": BLOCK, "cube": CUBE}[name]
    other = open_run(run.folder)
    other.put(f"step/{name}", product, {"key": "k2"})
    killed = open_run(run.folder)
    assert not killed.has(f"step/{name}", "k1")
    assert not killed.has(f"step/{name}", "k2")
    with pytest.raises(StoreError, match=r"newer than run\.json"):
        _ = killed[f"step/{name}"].value


def test_product_has_the_key_it_was_written_under(run):
    assert run.has("step/table", "k1")
    assert not run.has("step/table", "k2")
    assert not run.has("step/other", "k1")


def test_run_of_another_detector_is_not_written_into(run):
    with pytest.raises(StoreError, match="is a run of the detector 'toy', not 'other'"):
        Run.create(run.folder, "other")


def test_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made a run directory"):
        Run.create(tmp_path / "file", "toy")
    with pytest.raises(StoreError, match="cannot be made a run directory"):
        Run.create(tmp_path / "file" / "run", "toy")


# ---------------------------------------------------------------- whole or not at all


def test_atomic_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_follow_the_umask(tmp_path):
    import os
    import stat

    before = os.umask(0o027)
    try:
        path = write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    write_json(tmp_path / "a.json", {"n": np.int64(3), "a": np.arange(2), "p": tmp_path / "x"})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "n": 3,
        "a": [0, 1],
        "p": (tmp_path / "x").as_posix(),
    }


def test_full_disk_is_an_error_of_the_store_and_leaves_the_old_product(run):
    code = f"""
        import resource, signal, numpy as np
        from firstlight.data.schema import Block
        from firstlight.errors import StoreError
        from firstlight.run.store import Run
        run = Run.create({str(run.folder)!r}, "toy")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        try:
            run.put("step/block", Block(np.random.default_rng(1).random(100000), ("a",)), {{"key": "k2"}})
        except StoreError as error:
            print(error, flush=True)
    """
    # the HDF5 library may crash when it closes a file that it could not write: what counts is on the disk
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert "block.h5: cannot be written" in done.stdout, done.stderr
    assert open_run(run.folder)["step/block"].to_numpy().tolist() == BLOCK.values.tolist()
    assert not list(run.folder.rglob("*.tmp"))


WRITER = """
    import sys, numpy as np, polars as pl
    from firstlight.data.schema import Block, Column, Table, TableSchema
    from firstlight.run.store import Run
    schema = TableSchema("t", (Column("x", pl.Int64, ""),))
    run = Run.create(sys.argv[1], "toy")
    number = run.record.get("number", 0)
    print("ready", flush=True)
    while True:
        number += 1
        values = np.full(300_000, number)
        run.put("step/block", Block(values, ("a",)), {"key": f"key{number}"})
        run.put("step/table", Table(pl.DataFrame({"x": values}), schema), {"key": f"key{number}"})
        run.record["number"] = number
        run.save()
"""


def test_killed_in_the_middle_of_a_write(tmp_path):
    """kill -9 at random times: each file is the old or the new one, and the next run carries on."""
    folder, rng, numbers = tmp_path / "run", np.random.default_rng(5), []
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(folder)], stdout=subprocess.PIPE
        ) as writer:
            writer.stdout.readline()
            time.sleep(rng.uniform(0.02, 0.3))
            writer.send_signal(signal.SIGKILL)
        if not (folder / "run.json").exists():
            continue
        run = open_run(folder)
        number = run.record["number"]
        with h5py.File(folder / "products/step/block.h5") as file:
            values, inside = file["block"][()], file.attrs["firstlight_key"]
        assert inside == f"key{values[0]}"
        assert (values == values[0]).all()
        assert values[0] in (number, number + 1)
        column = pl.read_parquet(folder / "products/step/table.parquet")["x"]
        assert column.n_unique() == 1
        assert column[0] in (number, number + 1)
        for name in run:
            assert run.has(name, f"key{number}") == (
                values[0] == number if name == "step/block" else column[0] == number
            )
        numbers.append(number)
    assert len(numbers) >= 3
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0]


def test_two_commands_cannot_write_to_one_directory(tmp_path):
    folder = tmp_path / "run"
    with (
        Run.writing(folder, "spinquest"),
        pytest.raises(StoreError, match="another command is writing"),
        Run.writing(folder, "spinquest"),
    ):
        pass
    with Run.writing(folder, "spinquest") as free:
        assert free.folder.is_dir()


def test_what_a_killed_command_left_half_written_is_removed(tmp_path):
    folder = tmp_path / "run"
    (folder / "products" / "step").mkdir(parents=True)
    left = [folder / ".run.json.abc.tmp", folder / "products" / "step" / ".counts.h5.abc.tmp"]
    for path in left:
        path.write_text("half")
    (folder / "mine.tmp").write_text("of somebody else")
    with Run.writing(folder, "spinquest"):
        assert not any(path.exists() for path in left)
    assert (folder / "mine.tmp").exists()
