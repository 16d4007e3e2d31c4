"""The run directory.

``run.json`` says what was run, on what, with what result; ``products/<step>/<product>`` holds tables as
Parquet, blocks and histogram cubes as HDF5. Every file is written to a temporary name and renamed, and
carries the key of its product inside, so that a killed run leaves either the old product or the new one
and never passes one for the other. No path in it is absolute: a run directory can be moved and opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.cube import HistogramCube
from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.errors import StoreError
from firstlight.files import atomic, locked, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    import hist
    import polars as pl
    from numpy.typing import NDArray

    from firstlight.steps.step import Product

__all__ = ["Run", "StoredProduct", "open_run"]

FORMAT = "firstlight-run"
FORMAT_VERSION = 1
_NAME = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")


@dataclass(frozen=True)
class StoredProduct:
    """A product in a run directory, read when it is asked for.

    Parameters
    ----------
    name : str
        ``"step/product"``.
    path : Path
        The file.
    provenance : mapping
        Step, version, parameters, key, what was used.
    """

    name: str
    path: Path
    provenance: Mapping[str, Any]

    @cached_property
    def value(self) -> Product:
        """The table, block or histogram cube.

        Raises
        ------
        StoreError
            If the file is missing or damaged, or is not the one that run.json describes.
        """
        if not self.path.is_file():
            what = "file of the product is missing"
            raise StoreError(what, where=self.path, hint="run the command again with --force")
        try:
            value, key = _read(self.path)
        except _unreadable() as error:
            what = f"cannot be read: {error}"
            raise StoreError(what, where=self.path, hint="run the command again with --force") from error
        if key != self.provenance.get("key", key):
            what = "is newer than run.json: the run was stopped between the two"
            raise StoreError(what, where=self.path, hint="run the command again, it carries on from here")
        return value

    def to_polars(self) -> pl.DataFrame:
        """Return a table as a polars frame."""
        if isinstance(self.value, Table):
            return self.value.frame
        what = f"is a {type(self.value).__name__}, not a table"
        raise StoreError(what, where=self.name, hint="use .to_numpy() or .to_hist()")

    def to_numpy(self) -> NDArray[Any]:
        """Return the values of a block, or the counts of a histogram without underflow and overflow."""
        if isinstance(self.value, Block):
            return self.value.values
        if isinstance(self.value, HistogramCube):
            return self.value.values
        what = "is a table, not an array"
        raise StoreError(what, where=self.name, hint="use .to_polars()")

    def to_hist(self) -> hist.Hist[Any]:
        """Return a histogram cube as a `hist.Hist`."""
        if isinstance(self.value, HistogramCube):
            return self.value.to_hist()
        what = f"is a {type(self.value).__name__}, not a histogram"
        raise StoreError(what, where=self.name, hint="use .to_polars() or .to_numpy()")

    def __repr__(self) -> str:
        return f"StoredProduct({self.name!r}, {self.path.name}, key {self.provenance.get('key', '')})"


class Run(Mapping[str, StoredProduct]):
    """A run directory: a mapping of product names to products.

    Parameters
    ----------
    folder : Path
        The directory.
    record : dict
        The content of ``run.json``.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def create(cls, folder: Path | str, detector: str) -> Run:
        """Return a run in a new directory, or in one that is there, whose products are kept.

        Raises
        ------
        StoreError
            If the directory cannot be written, is a file, or belongs to another detector.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot be made a run directory: {error.strerror}"
            raise StoreError(what, where=folder, hint="another --output") from error
        record: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, "products": {}}
        if (folder / "run.json").exists():
            record = cls.open(folder).record
            if record.get("detector", detector) != detector:
                what = f"is a run of the detector {record['detector']!r}, not {detector!r}"
                raise StoreError(what, where=folder, hint="another --output")
        record["detector"] = detector
        return cls(folder, record)

    @classmethod
    @contextmanager
    def writing(cls, folder: Path | str, detector: str) -> Iterator[Run]:
        """Yield a run as `create` makes it, in a directory to which no other command writes meanwhile.

        Raises
        ------
        StoreError
            As `create`, or if another command is writing there.
        """
        folder = Path(folder)
        cls.create(folder, detector)
        with locked(folder):
            # read again: what another command wrote meanwhile is not lost
            yield cls.create(folder, detector)

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Return a run that was written before.

        Raises
        ------
        StoreError
            If there is none, or it is damaged, or of a newer version of the package.
        """
        folder = Path(folder)
        if folder.name == "run.json":
            folder = folder.parent
        path = folder / "run.json"
        if not path.is_file():
            runs = sorted(found.parent.name for found in folder.glob("*/run.json")) if folder.is_dir() else []
            what = "is not a run directory (it has no run.json)"
            raise StoreError(what, where=folder, known=runs or None)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            what = f"is damaged: {error}"
            raise StoreError(what, where=path) from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            what = "is not the record of a run"
            raise StoreError(what, where=path)
        if record.get("format_version", 0) > FORMAT_VERSION:
            what = (
                f"was written in format {record['format_version']}, this version reads up to {FORMAT_VERSION}"
            )
            raise StoreError(what, where=path, hint="python -m pip install --upgrade firstlight")
        try:
            inside = all(_is_inside(entry["file"]) for entry in record["products"].values())
        except (AttributeError, KeyError, TypeError):
            inside = False
        if not inside:
            # a run directory may come from anybody: nothing outside of it is ever read or removed
            what = "is damaged: its products are not files of this directory"
            raise StoreError(what, where=path)
        return cls(folder, record)

    def save(self, *, flush: bool = True) -> None:
        """Write ``run.json``."""
        write_json(self.folder / "run.json", self.record, flush=flush)

    def __getitem__(self, name: str) -> StoredProduct:
        entry = self.record["products"].get(name)
        if entry is None:
            raise StoreError.unknown("product", name, self.record["products"], where=self.folder)
        return StoredProduct(name, self.folder / entry["file"], entry)

    def __contains__(self, name: object) -> bool:
        return name in self.record["products"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.record["products"])

    def __len__(self) -> int:
        return len(self.record["products"])

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.record.get('detector')}, {len(self)} products)"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{name}</td><td>{entry['kind']}</td></tr>" for name, entry in self._entries())
        return (
            f"<table><caption>{self.record.get('detector')} run in {self.folder.name}</caption>{rows}</table>"
        )

    def _entries(self) -> list[tuple[str, dict[str, Any]]]:
        return list(self.record["products"].items())

    def has(self, name: str, key: str) -> bool:
        """Return whether a product is there, whole, and has a key."""
        entry = self.record["products"].get(name)
        if entry is None or entry["key"] != key:
            return False
        path = self.folder / entry["file"]
        try:
            # run.json and the product are two files: only the key inside the product tells what it is
            return path.is_file() and _stored_key(path, path.suffix) == key
        except _unreadable():
            return False

    def put(self, name: str, product: Product, provenance: Mapping[str, Any]) -> None:
        """Write a product and its record.

        Parameters
        ----------
        name : str
            ``"step/product"``, of lower-case letters, digits and underscores.
        product : Table, Block or HistogramCube
            What to write.
        provenance : mapping
            With at least ``key``.
        """
        if not _NAME.fullmatch(name):
            what = (
                f"product name {name!r} must be step/product, of lower-case letters, digits and underscores"
            )
            raise StoreError(what)
        suffix = ".parquet" if isinstance(product, Table) else ".h5"
        path = self.folder / "products" / f"{name}{suffix}"
        key = str(provenance["key"])
        with atomic(path) as temporary:
            try:
                _write(temporary, product, key)
                # HDF5 may run out of room while it closes a file, and only says so to the terminal
                complete = _stored_key(temporary, suffix) == key
            except _unreadable() as error:
                what = f"cannot be written: {error}"
                raise StoreError(what, where=path, hint="another --output, or make room there") from error
            if not complete:
                what = "cannot be written whole"
                raise StoreError(what, where=path, hint="another --output, or make room there")
        kind = {Table: "table", Block: "block", HistogramCube: "histogram"}[type(product)]
        file = path.relative_to(self.folder).as_posix()
        self.record["products"][name] = {**provenance, "file": file, "kind": kind}

    def remove(self, name: str) -> None:
        """Remove a file of the directory by its relative name, and the folders that it leaves empty."""
        if not _is_inside(name):
            return
        path = self.folder / name
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.folder or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()

    def drop(self, name: str) -> None:
        """Forget a product and remove its file."""
        entry = self.record["products"].pop(name, None)
        if entry is not None:
            (self.folder / entry["file"]).unlink(missing_ok=True)


def open_run(path: Path | str) -> Run:
    """Return a run directory as a mapping of product names to products.

    Parameters
    ----------
    path : Path or str
        The directory, or its ``run.json``.

    Raises
    ------
    StoreError
        If it is not a run directory; names those beside it.

    Examples
    --------
    >>> run = open_run("QTracker_Station_Occupancies")    # doctest: +SKIP
    >>> run["occupancy/cells"].to_polars()                # doctest: +SKIP
    """
    return Run.open(path)


def _is_inside(file: str) -> bool:
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts


def _unreadable() -> tuple[type[Exception], ...]:
    """Return what the readers of Parquet and HDF5 raise on a damaged file."""
    import polars as pl

    return (OSError, KeyError, ValueError, RuntimeError, pl.exceptions.PolarsError)


def _write(path: Path, product: Product, key: str) -> None:
    if isinstance(product, Table):
        columns = [
            {"name": c.name, "unit": c.unit, "description": c.description} for c in product.schema.columns
        ]
        schema = {"name": product.schema.name, "description": product.schema.description, "columns": columns}
        product.frame.write_parquet(
            path, metadata={"firstlight_key": key, "firstlight_schema": json.dumps(schema)}
        )
        return
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["firstlight_key"] = key
        if isinstance(product, HistogramCube):
            import uhi.io.hdf5

            uhi.io.hdf5.write(file.create_group("histogram"), product.to_uhi(), compression_opts=1)  # type: ignore[arg-type]
            return
        packed = {"compression": "gzip", "compression_opts": 1} if product.values.ndim else {}
        data = file.create_dataset("block", data=product.values, **packed)
        data.attrs["axes"] = list(product.axes)
        data.attrs["unit"] = product.unit
        data.attrs["description"] = product.description
        for axis, values in product.coordinates.items():
            file.create_dataset(f"coordinates/{axis}", data=_storable(values))


def _storable(values: Any) -> Any:
    array = np.asarray(values)
    return [str(value) for value in values] if array.dtype.kind in "UO" else array


def _read(path: Path) -> tuple[Product, str]:
    import polars as pl

    if path.suffix == ".parquet":
        metadata = pl.read_parquet_metadata(path)
        frame = pl.read_parquet(path)
        content = json.loads(metadata["firstlight_schema"])
        columns = tuple(
            Column(c["name"], frame.schema[c["name"]], c["description"], c["unit"], nullable=True)
            for c in content["columns"]
        )
        schema = TableSchema(content["name"], columns, content["description"])
        return Table(frame, schema), metadata["firstlight_key"]
    import h5py

    with h5py.File(path) as file:
        key = str(file.attrs["firstlight_key"])
        if "histogram" in file:
            import uhi.io.hdf5

            return HistogramCube.from_uhi(dict(uhi.io.hdf5.read(file["histogram"]))), key
        data = file["block"]
        coordinates = {
            axis: _plain_labels(values[()]) for axis, values in file.get("coordinates", {}).items()
        }
        axes = tuple(str(axis) for axis in data.attrs["axes"])
        block = Block(data[()], axes, data.attrs["unit"], data.attrs["description"], coordinates)
        return block, key


def _plain_labels(values: NDArray[Any]) -> Any:
    return [value.decode() for value in values] if values.dtype.kind in "SO" else values


def _stored_key(path: Path, suffix: str) -> str:
    if suffix == ".parquet":
        import polars as pl

        return pl.read_parquet_metadata(path)["firstlight_key"]
    import h5py

    with h5py.File(path) as file:
        return str(file.attrs["firstlight_key"])
