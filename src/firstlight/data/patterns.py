"""File-name patterns with typed fields, and folders read with them.

``run_{run:06d}_spill_{spill:09d}_sraw.root`` finds the file and says which run and spill it is. The
typed fields of a name become conditions of the run.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["FilePattern", "catalogue", "find_files"]

log = logging.getLogger("firstlight")

_FIELD = re.compile(r"\{(?P<name>[a-z_][a-z0-9_]*)(?::(?P<kind>0?\d*[dfs]))?\}")
_EXPRESSIONS = {"d": r"-?\d+", "f": r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", "s": r".+?"}
_TYPES: dict[str, type] = {"d": int, "f": float, "s": str}


@dataclass(frozen=True)
class FilePattern:
    """A file name with typed fields.

    Parameters
    ----------
    text : str
        Literal text, ``*``, and fields ``{name}`` (text), ``{name:d}``, ``{name:06d}`` (whole number, of a
        fixed width where given) or ``{name:f}``.
    """

    text: str

    @cached_property
    def _compiled(self) -> tuple[re.Pattern[str], dict[str, type]]:
        expression, types, last = "", {}, 0
        for found in _FIELD.finditer(self.text):
            expression += _literal(self.text[last : found.start()])
            kind = found["kind"] or "s"
            width = kind[:-1]
            digits = rf"\d{{{int(width)}}}" if kind[-1] == "d" and width else _EXPRESSIONS[kind[-1]]
            expression += f"(?P<{found['name']}>{digits})"
            types[found["name"]] = _TYPES[kind[-1]]
            last = found.end()
        expression += _literal(self.text[last:])
        if "{" in _FIELD.sub("", self.text):
            what = f"file pattern {self.text!r} has a field that is not {{name}}, {{name:d}}, {{name:06d}} or {{name:f}}"
            raise UsageError(what)
        return re.compile(expression), types

    @property
    def fields(self) -> dict[str, type]:
        """Names and types of the fields."""
        return dict(self._compiled[1])

    def match(self, name: str) -> dict[str, Any] | None:
        """Return the fields of a file name, or None where the pattern does not fit."""
        expression, types = self._compiled
        found = expression.fullmatch(name)
        if found is None:
            return None
        return {key: types[key](value) for key, value in found.groupdict().items()}


def _literal(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("*"))


def find_files(
    paths: Iterable[Path | str],
    *,
    suffixes: Sequence[str] = (),
    pattern: str | None = None,
    recursive: bool = True,
    claims: Callable[[Path], bool] | None = None,
    accepts: Callable[[Path], bool] | None = None,
) -> list[Path]:
    """Return the files that some paths stand for, sorted folder by folder.

    Parameters
    ----------
    paths : iterable of Path or str
        Files are taken as they are; folders are searched.
    suffixes : sequence of str
        In folders only names with one of these endings; all where empty.
    pattern : str, optional
        In folders only names that fit this wildcard.
    recursive : bool
        Whether to look in sub-folders.
    claims : callable, optional
        ``claims(folder)`` says that a folder is one input; it then stands for the files in it.
    accepts : callable, optional
        ``accepts(file)`` says whether a file in a folder is meant; the log tells of others.

    Returns
    -------
    list of Path
        Without duplicates (however they are spelled, links included), in a fixed order whatever the order in the folder.

    Raises
    ------
    InputError
        If a path does not exist, or if nothing at all is found.
    """
    given = [Path(path) for path in paths]
    if not given:
        what = "no input given"
        raise UsageError(what, hint="name files or a folder")
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            inside = _walk(path, suffixes, pattern, recursive, claims)
            meant = [file for file in inside if accepts is None or file.is_dir() or accepts(file)]
            for file in sorted(set(inside) - set(meant)):
                log.warning(
                    "passed over %s: not recognised, and other things end in %s too", file, file.suffix
                )
            found.update(dict.fromkeys(meant))
        elif path.exists():
            found[path] = None
        else:
            neighbours = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
            what = "no such file or folder"
            known = [name for name in neighbours if not name.startswith(".")] if neighbours else None
            raise InputError(what, where=path, known=known)
    if not found:
        wanted = " or ".join(f"*{suffix}" for suffix in suffixes) or "any file"
        if pattern:
            wanted += f" named {pattern}"
        if claims is not None:
            wanted += ", or a folder that a detector takes whole,"
        what = f"no file found ({wanted} was looked for)"
        raise InputError(what, where=", ".join(str(path) for path in given))
    # one file under two spellings is one file
    return list({os.path.realpath(path): path for path in reversed(found)}.values())[::-1]


def _walk(
    folder: Path,
    suffixes: Sequence[str],
    pattern: str | None,
    recursive: bool,
    claims: Callable[[Path], bool] | None,
) -> list[Path]:
    found = []
    seen: set[str] = set()
    for current, folders, names in os.walk(folder, followlinks=True):
        # raw files are often kept elsewhere and linked; a link that leads back is not followed again
        seen.add(os.path.realpath(current))
        folders[:] = [
            name
            for name in sorted(folders if recursive else ())
            if not name.startswith(".") and os.path.realpath(os.path.join(current, name)) not in seen  # noqa: PTH118
        ]
        if claims is not None and claims(Path(current)):
            if pattern is None or fnmatch.fnmatch(Path(current).name, pattern):
                found.append(Path(current))
            continue
        for name in sorted(names):
            if name.startswith(".") or (suffixes and not name.endswith(tuple(suffixes))):
                continue
            if pattern is None or fnmatch.fnmatch(name, pattern):
                found.append(Path(current) / name)
    return found


def catalogue(paths: Sequence[Path], patterns: Sequence[FilePattern]) -> pl.DataFrame:
    """Return a table of files with the fields of their names as columns.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    patterns : sequence of FilePattern
        Tried in order; the first that fits gives the fields.

    Returns
    -------
    polars.DataFrame
        A row per file: ``file``, ``size`` (bytes), ``pattern`` (null where none fits), and each field.
    """
    rows = []
    fields = {name: None for pattern in patterns for name in pattern.fields}
    for path in paths:
        row: dict[str, Any] = {"file": str(path), "size": path.stat().st_size, "pattern": None, **fields}
        for pattern in patterns:
            matched = pattern.match(path.name)
            if matched is not None:
                row.update(matched, pattern=pattern.text)
                break
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)
