"""Tables of runs of a test beam: which bias voltage each board had."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bias_of_files", "read_run_table"]

_BIAS = re.compile(r"HV(\d+)", re.IGNORECASE)


def read_run_table(path: Path) -> dict[int, dict[int, float]]:
    """Return the bias voltage [V] of each board in each run.

    Parameters
    ----------
    path : Path
        CSV with a column ``Run`` and columns ``HV0``, ``HV1`` ... for boards 0, 1 ...; others are passed over.

    Raises
    ------
    ConfigError
        If the file does not exist, or lacks these columns, or has a run twice.
    """
    if not path.is_file():
        what = "the table of runs does not exist"
        raise ConfigError(what, where=path)
    try:
        frame = pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        what = f"cannot be read as comma-separated values: {error}"
        raise ConfigError(what, where=path) from error
    frame = frame.rename({name: name.strip() for name in frame.columns})
    boards = {name: int(found[1]) for name in frame.columns if (found := _BIAS.fullmatch(name))}
    if "Run" not in frame.columns or not boards:
        what = "a table of runs has a column Run and columns HV0, HV1 ... for boards"
        raise ConfigError(what, where=path, known=frame.columns)
    table: dict[int, dict[int, float]] = {}
    for row in frame.iter_rows(named=True):
        if row["Run"] is None:
            continue
        try:
            number = int(row["Run"])
            bias = {board: float(row[name]) for name, board in boards.items() if row[name] is not None}
        except (TypeError, ValueError) as error:
            what = f"run {row['Run']!r} has something that is no number: {error}"
            raise ConfigError(what, where=path) from error
        if number in table:
            what = f"run {number} is there twice"
            raise ConfigError(what, where=path)
        table[number] = bias
    return table


def bias_of_files(files: pl.DataFrame, boards: Sequence[int], path: str) -> dict[int, dict[int, float]]:
    """Return the bias voltage [V] of each board in each file; files of which nothing is known are left out.

    Parameters
    ----------
    files : polars.DataFrame
        Of the schema FILES.
    boards : sequence of int
        Boards of the run.
    path : str
        Table of runs, in which files are found by the number in their name. Empty: the names of the files tell.

    Raises
    ------
    ConfigError
        If the table cannot be read, or has none of the files.
    """
    known = {
        int(file): dict.fromkeys(boards, float(bias))
        for file, bias in files.select("file", "bias").unique("file", maintain_order=True).iter_rows()
        if bias is not None
    }
    if not path:
        return known
    from firstlight.detectors.etroc.readout.names import read_name

    table = read_run_table(Path(path))
    found: dict[int, dict[int, float]] = {}
    numbers = []
    for file, name in files.select("file", "name").unique("file", maintain_order=True).iter_rows():
        number = read_name(Path(name).name).extra.get("number")
        numbers.append(str(number))
        if number in table:
            found[int(file)] = {board: bias for board, bias in table[number].items() if board in boards}
    if not found:
        what = f"has none of the runs {', '.join(numbers[:8])} that the names of the files tell"
        raise ConfigError(what, where=path, known=[str(number) for number in table])
    return {**known, **found}
