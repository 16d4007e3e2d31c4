"""Products in formats that need nothing of this package: CSV for tables, npz for arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.schema import Block, Table
from firstlight.files import atomic, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from firstlight.data.cube import HistogramCube
    from firstlight.run.store import Run

__all__ = ["export_run"]


def export_run(run: Run, folder: Path, names: Iterable[str] = ()) -> list[Path]:
    """Write products of a run as plain files and return them.

    Parameters
    ----------
    run : Run
        A finished run.
    folder : Path
        Where: ``<step>_<product>.csv`` or ``.npz``.
    names : iterable of str
        Names of products; all where empty.

    Returns
    -------
    list of Path
        Tables as CSV. Blocks as npz with ``values`` and one array for each axis that has labels. Histograms as
        npz with ``values`` (without underflow and overflow) and ``edges_<axis>`` or ``labels_<axis>``.

    Raises
    ------
    StoreError
        If there is no product of a name (names its nearest neighbours), or it cannot be read.
    """
    written = []
    for name in list(names) or list(run):
        value = run[name].value
        stem = name.replace("/", "_")
        if isinstance(value, Table):
            written.append(write_text(folder / f"{stem}.csv", value.frame.write_csv()))
            continue
        path = folder / f"{stem}.npz"
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **_arrays(value))
        written.append(path)
    return written


def _arrays(value: Block | HistogramCube) -> dict[str, Any]:
    if isinstance(value, Block):
        labels = {axis: np.asarray(values) for axis, values in value.coordinates.items()}
        return {
            "values": value.values,
            "axes": np.array(value.axes),
            **{f"labels_{a}": v for a, v in labels.items()},
        }
    arrays: dict[str, Any] = {"values": value.values, "axes": np.array([axis.name for axis in value.axes])}
    for axis in value.axes:
        if axis.labels:
            arrays[f"labels_{axis.name}"] = np.array(axis.labels)
        elif axis.flow:
            arrays[f"edges_{axis.name}"] = axis.edges
    return arrays
