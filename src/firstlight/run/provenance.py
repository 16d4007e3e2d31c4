"""Who made what from what: digests of inputs, keys of products, and the record of a run.

The words are those of W3C-PROV: an *activity* (a command, a step) *used* entities (files, products) and
*generated* others; the *agent* is the package with its version.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from firstlight import __version__
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["InputRecord", "activity", "digest_file", "now", "product_key", "size_of"]

_WHOLE = 64 * 2**20
_SAMPLE = 2**20
_SAMPLES = 16
_PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "polars",
    "uproot",
    "awkward",
    "hist",
    "h5py",
    "matplotlib",
    "iminuit",
    "plotly",
    "pydantic",
)


@dataclass(frozen=True)
class InputRecord:
    """One file that was given to a run.

    Parameters
    ----------
    path : str
        As found.
    status : {"used", "refused", "skipped"}
        What became of it.
    reason : str
        Why it was refused or skipped.
    size : int
        Bytes.
    digest : str
        Of its content, see `digest_file`; empty where it could not be read.
    n_events : int
        Events that it holds.
    source, kind : str
        What reads it.
    conditions : mapping
        Fields of its name.
    notes : tuple of str
        What is missing or odd.
    """

    path: str
    status: str
    reason: str = ""
    size: int = 0
    digest: str = ""
    n_events: int = 0
    source: str = ""
    kind: str = ""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """Return the record as plain values with the path relative to a folder."""
        content = {key: getattr(self, key) for key in self.__dataclass_fields__}
        content.update(path=os.path.relpath(self.path, folder), notes=list(self.notes))
        content["conditions"] = dict(self.conditions)
        return content


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files of a folder, in bytes; 0 where there is nothing."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
    return path.stat().st_size if path.exists() else 0


def digest_file(path: Path) -> str:
    """Return a digest of the content of a file, or of what a folder holds.

    Returns
    -------
    str
        Of a folder ``"sha256-listing:..."``: of the names, sizes and times of change of its files, because
        thousands of files would otherwise be read twice; what reads them keeps the digest of each.
        ``"sha256:..."`` of the whole file up to 64 MiB. Of a larger file ``"sha256-sampled:..."``: of its
        size and 16 evenly spaced samples of 1 MiB, the first and the last included, so that a run of many
        large files need not be read twice.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        if path.is_dir():
            return f"sha256-listing:{_listing(path)}"
        size = path.stat().st_size
        with path.open("rb") as stream:
            if size <= _WHOLE:
                return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
            state = hashlib.sha256(str(size).encode())
            for index in range(_SAMPLES):
                stream.seek((size - _SAMPLE) * index // (_SAMPLES - 1))
                state.update(stream.read(_SAMPLE))
            return f"sha256-sampled:{state.hexdigest()}"
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InputError(what, where=path) from error


def _listing(folder: Path) -> str:
    rows = []
    for entry in os.scandir(folder):
        if entry.is_file() and not entry.name.startswith("."):
            state = entry.stat()
            rows.append(f"{entry.name}\t{state.st_size}\t{state.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def product_key(step: str, step_version: int, parameters: Any, used: Sequence[str]) -> str:
    """Return the key under which the products of a step are kept.

    Same key, same product: it is made of the step's name and version, its parameters, and the digests or
    keys of all that it used.

    Parameters
    ----------
    step : str
        Name of the step.
    step_version : int
        Its version.
    parameters : any
        Plain values.
    used : sequence of str
        Digests of files, keys of products, in order.
    """
    text = json.dumps([step, step_version, parameters, list(used)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def activity(command: Sequence[str]) -> dict[str, Any]:
    """Return the record of a command that starts now."""
    return {
        "command": list(command),
        "started": now(),
        "host": platform.node(),
        "agent": {"name": "firstlight", "version": __version__},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
