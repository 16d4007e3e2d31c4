"""Products leave the package as plain files."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from firstlight.cli.main import cli
from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.errors import StoreError
from firstlight.run.export import export_run
from firstlight.run.store import Run


@pytest.fixture
def run(tmp_path):
    made = Run.create(tmp_path / "run", "spinquest")
    schema = TableSchema("t", (Column("a", pl.Int64, "a"), Column("b", pl.String, "b")))
    made.put("step/table", Table(pl.DataFrame({"a": [1, 2], "b": ["x", "y, z"]}), schema), {"key": "1"})
    block = Block(np.arange(6).reshape(3, 2), ("channel", "kind"), coordinates={"kind": ["hits", "events"]})
    made.put("step/block", block, {"key": "2"})
    cube = HistogramCube.zeros(Axis("channel", 3), Axis("time", 4, 0.0, 8.0))
    cube.fill(np.array([0, 1, 1]), np.array([1.0, 3.0, 99.0]))
    made.put("step/cube", cube, {"key": "3"})
    made.save()
    return made


def test_all_products_are_exported(run, tmp_path):
    paths = export_run(run, tmp_path / "out")
    assert sorted(path.name for path in paths) == ["step_block.npz", "step_cube.npz", "step_table.csv"]
    assert pl.read_csv(tmp_path / "out/step_table.csv").rows() == [(1, "x"), (2, "y, z")]
    block = np.load(tmp_path / "out/step_block.npz", allow_pickle=False)
    assert np.array_equal(block["values"], np.arange(6).reshape(3, 2))
    assert block["labels_kind"].tolist() == ["hits", "events"]
    cube = np.load(tmp_path / "out/step_cube.npz", allow_pickle=False)
    assert cube["values"].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert cube["edges_time"].tolist() == [0, 2, 4, 6, 8]


def test_an_unknown_product_names_its_neighbours(run, tmp_path):
    with pytest.raises(StoreError, match="step/tabel") as caught:
        export_run(run, tmp_path / "out", ["step/tabel"])
    assert "step/table" in str(caught.value)


def test_on_the_command_line(run):
    result = CliRunner().invoke(cli, ["export", str(run.folder), "--product", "step/table"])
    assert result.exit_code == 0
    assert (run.folder / "export" / "step_table.csv").is_file()
    assert not (run.folder / "export" / "step_block.npz").exists()
