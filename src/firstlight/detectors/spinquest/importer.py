"""Reads occupancies that the original tool wrote, in all its schemas, or that are in a run directory.

- ``total_hits_data.json``, first version: ``{"det_ele": hits}``;
- ``file_hits_data.json``: the same for each file name;
- ``total_hits_data.json``, later versions: ``{"hits_array": [detector][element], "max_detector", "max_element"}``;
- ``total_hits_data.csv`` and ``<stem>_hits.csv``: Group, Detector_Name, Detector_ID, Element_ID, Hits, in any order.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.detectors.spinquest.source import channel_lookup
from firstlight.errors import ConfigError, InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap

__all__ = ["ImportedCounts", "import_counts"]

_KEY = re.compile(r"(-?\d{1,9})_(-?\d{1,9})")
_CSV_COLUMNS = ("Group", "Detector_Name", "Detector_ID", "Element_ID", "Hits")
_NAMES = ("total_hits_data.json", "total_hits_data.csv")
_HINT = (
    'total_hits_data.json ({"det_ele": hits} or {"hits_array": ...}), file_hits_data.json, '
    "total_hits_data.csv, <stem>_hits.csv, or a run directory"
)
_LARGEST = 2**63 - 1

Cells = dict[tuple[int, int], int]


@dataclass(frozen=True)
class ImportedCounts:
    """An occupancy from elsewhere.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_channels,)
        Hits of each channel of the map.
    outside : mapping of (int, int) to int
        Hits by detector and element ID that are not in the map.
    schema : str
        What kind of file it was.
    files : mapping of str to int
        Sum of hits of each raw file, where the schema tells them apart.
    """

    counts: NDArray[np.int64]
    outside: Mapping[tuple[int, int], int]
    schema: str
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All hits, those outside the map included."""
        return int(self.counts.sum()) + sum(self.outside.values())


def import_counts(path: Path | str, channels: ChannelMap) -> ImportedCounts:
    """Return the hits per channel of a file of the original tool, or of a run directory.

    Parameters
    ----------
    path : path
        One of the files above; a folder of the original tool, of which ``total_hits_data.json`` or else
        ``total_hits_data.csv`` is read; or a run directory, its ``run.json`` included.
    channels : ChannelMap
        With ``detector_id`` and ``element_id``.

    Returns
    -------
    ImportedCounts
        Nothing is lost: hits whose IDs are not in the map are listed.

    Raises
    ------
    InputError
        If the file is missing, malformed or of another kind; names the key or line, and what is expected.
    """
    path = Path(path)
    if (path / "run.json").is_file() or path.name == "run.json":
        return _from_run(path, channels)
    if path.is_dir():
        present = [name for name in _NAMES if (path / name).is_file()]
        if not present:
            what = "a folder without an occupancy"
            raise InputError(what, where=path, hint=_HINT)
        path = path / present[0]
    if not path.is_file():
        what = "no such file"
        raise InputError(what, where=path, hint=_HINT)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        what = "is not a text file"
        raise InputError(what, where=path, hint=_HINT) from None
    if path.suffix.lower() == ".csv":
        return _counted(_from_csv(text, path), channels, "CSV of cells")
    if path.suffix.lower() != ".json":
        what = f"occupancies end in .json or .csv, not {path.suffix!r}"
        raise InputError(what, where=path, hint=_HINT)
    return _from_json(text, path, channels)


def _counted(
    cells: Cells, channels: ChannelMap, schema: str, files: Mapping[str, int] | None = None
) -> ImportedCounts:
    lookup = channel_lookup(channels)
    counts = np.zeros(len(channels), dtype=np.int64)
    outside: Cells = {}
    for (detector, element), hits in cells.items():
        inside = 0 <= detector < lookup.shape[0] and 0 <= element < lookup.shape[1]
        channel = int(lookup[detector, element]) if inside else -1
        if channel >= 0:
            counts[channel] += hits
        elif hits:
            outside[detector, element] = hits
    return ImportedCounts(counts, dict(sorted(outside.items())), schema, files or {})


def _whole(value: Any, key: str, path: Path) -> int:
    """Return a number of hits, or say where something else stands."""
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not 0 <= value <= _LARGEST or value != int(value):  # (NaN is not between)
        what = f"{key}: {value!r} is not a number of hits (a whole number, 0 or more)"
        raise InputError(what, where=path)
    return int(value)


def _from_json(text: str, path: Path, channels: ChannelMap) -> ImportedCounts:
    try:
        content = json.loads(text, object_pairs_hook=_no_repeats)
    except ValueError as error:
        what = f"is not valid JSON: {error}"
        raise InputError(what, where=path, hint="the file may not have been written to its end") from None
    if isinstance(content, list) and content and isinstance(content[0], dict) and "element" in content[0]:
        what = (
            "holds one group of planes of the original tool, which leaves out the last element of each plane"
        )
        raise InputError(what, where=path, hint="take total_hits_data.json")
    if not isinstance(content, dict):
        what = f"the top level is a {type(content).__name__}, not an object"
        raise InputError(what, where=path, hint=_HINT)
    if "hits_array" in content:
        return _counted(_from_matrix(content, path), channels, "JSON matrix")
    if content and all(isinstance(value, dict) for value in content.values()):
        by_file = {name: _from_cells(cells, path, f"{name}: ") for name, cells in content.items()}
        total: Counter[tuple[int, int]] = Counter()
        for cells in by_file.values():
            total.update(cells)
        sums = {name: sum(cells.values()) for name, cells in by_file.items()}
        return _counted(dict(total), channels, "JSON cells by file", sums)
    return _counted(_from_cells(content, path, ""), channels, "JSON cells")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        repeated = [key for key, number in Counter(key for key, _ in pairs).items() if number > 1]
        what = f"key {repeated[0]!r} stands twice"
        raise ValueError(what)
    return content


def _from_cells(content: Mapping[str, Any], path: Path, prefix: str) -> Cells:
    cells: Cells = {}
    for key, value in content.items():
        match = _KEY.fullmatch(key)
        if match is None:
            what = f"{prefix}key {key!r} is not detector_element, as in '3_74'"
            raise InputError(what, where=path, hint=_HINT)
        ids = int(match[1]), int(match[2])
        if ids in cells:
            what = f"{prefix}key {key!r} means a cell that another key means too"
            raise InputError(what, where=path)
        cells[ids] = _whole(value, f"{prefix}key {key!r}", path)
    return cells


def _from_matrix(content: Mapping[str, Any], path: Path) -> Cells:
    rows = content["hits_array"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        what = "key 'hits_array' is not a list of lists, one a detector ID from 0"
        raise InputError(what, where=path)
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        what = f"key 'hits_array': rows have from {min(lengths)} to {max(lengths)} elements, not all the same"
        raise InputError(what, where=path)
    for key, size in (("max_detector", len(rows)), ("max_element", lengths.pop())):
        if key in content and _whole(content[key], f"key {key!r}", path) != size - 1:
            what = f"key {key!r} is {content[key]}, but 'hits_array' goes to {size - 1}"
            raise InputError(what, where=path)
    return {
        (detector, element): _whole(value, f"hits_array[{detector}][{element}]", path)
        for detector, row in enumerate(rows)
        for element, value in enumerate(row)
        if value != 0 or isinstance(value, bool)
    }


def _from_csv(text: str, path: Path) -> Cells:
    reader = csv.reader(text.splitlines())
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in _CSV_COLUMNS[2:] if name not in header]
    if missing:
        what = f"columns {', '.join(missing)} are missing; there are {', '.join(header) or 'none'}"
        hint = f"columns {', '.join(_CSV_COLUMNS)}"
        if "Total_Hits" in header:
            hint += "; this is the summary of planes: take total_hits_data.csv"
        raise InputError(what, where=path, hint=hint)
    return _cells_of(reader, [header.index(name) for name in _CSV_COLUMNS[2:]], len(header), path)


def _cells_of(rows: Iterable[list[str]], columns: list[int], width: int, path: Path) -> Cells:
    cells: Cells = {}
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != width:
            what = f"line {number} has {len(row)} cells, the header {width}"
            raise InputError(what, where=path)
        values = []
        for column, name in zip(columns, _CSV_COLUMNS[2:], strict=True):
            try:
                values.append(int(row[column]))
            except ValueError:
                what = f"line {number}, column {name}: {row[column]!r} is not a whole number"
                raise InputError(what, where=path) from None
        ids = values[0], values[1]
        if ids in cells:
            what = f"line {number}: detector {ids[0]}, element {ids[1]} stands twice"
            raise InputError(what, where=path)
        cells[ids] = _whole(values[2], f"line {number}, column Hits", path)
    return cells


def _from_run(path: Path, channels: ChannelMap) -> ImportedCounts:
    from firstlight.run.store import open_run

    try:
        run = open_run(path)
        block = run["occupancy/counts"].value
        counts = np.asarray(block.select(kind="hits"), dtype=np.int64)  # type: ignore[union-attr]
    except StoreError as error:
        raise InputError(error.what, where=error.where or path, known=error.known, hint=error.hint) from error
    if run.record.get("detector") != "spinquest":
        what = f"is a run of the detector {run.record.get('detector')!r}, not 'spinquest'"
        raise InputError(what, where=run.folder)
    version = str(run.record.get("channels", {}).get("version", ""))
    theirs = channels if channels.version == version else _channels_of(version, run.folder)
    if counts.size != len(theirs):
        what = f"has {counts.size} channels, but geometry {version!r} has {len(theirs)}"
        raise InputError(what, where=run.folder)
    used = np.flatnonzero(counts)
    detector, element = theirs.column("detector_id")[used], theirs.column("element_id")[used]
    ids = zip(detector.tolist(), element.tolist(), strict=True)
    return _counted(dict(zip(ids, counts[used].tolist(), strict=True)), channels, "run directory")


def _channels_of(version: str, folder: Path) -> ChannelMap:
    try:
        return channel_map(load_geometry(version))
    except ConfigError as error:
        what = f"was made with geometry {version!r}, which is not here"
        raise InputError(what, where=folder, known=error.known, hint=error.hint) from error
