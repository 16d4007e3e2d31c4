"""Tracks in a tree of folders, told by the names of folders and files alone."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.detectors.lartpc.reading.names import FOLDERS, FORMS, TrackName, split_ending
from firstlight.errors import InputError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

__all__ = ["COLUMNS", "Survey", "catalogue", "survey"]

log = logging.getLogger("firstlight")

COLUMNS = (
    "path", "material", "particle", "energy_keV", "tag", "name", "forms", "has_truth", "size", "date",
)  # fmt: skip
"""Columns of a catalogue."""

_FOLDER = re.compile(r"E(?P<energy>\d{4,})(?:_(?P<tag>.+))?")
# a folder above the particles is only taken for a material if it is called like one
_MATERIAL = re.compile(r"[LGSlgs]?(?:Ar|Xe|Kr|Ne|He)(?:[-_+].*)?|[LG]Ar.*")
_TRUTH = ("json", "pickle", "truth_arrays")


@dataclass(frozen=True)
class Survey:
    """What a tree holds.

    Parameters
    ----------
    table : polars.DataFrame
        One row for each track, with `COLUMNS`.
    duplicates : dict of str to list of str
        Names that stand in more than one folder, with these folders.
    strangers : dict of str to str
        Files that look like tracks and are none, with the reason.
    """

    table: pl.DataFrame
    duplicates: dict[str, list[str]]
    strangers: dict[str, str]


@dataclass
class _Place:
    """What the folders above a file say."""

    material: str | None = None
    particle: str | None = None
    energy: float | None = None
    tag: str = ""


@dataclass
class _Entry:
    """Files of one track."""

    forms: set[str] = field(default_factory=set)
    size: int = 0
    empty: bool = False


def catalogue(root: str | Path) -> pl.DataFrame:
    """Return the tracks below a folder.

    Parameters
    ----------
    root : str or Path
        A ``Tracks`` tree with or without the level of materials, or any part of one; its folders may have any names as long as
        those of particles are called ``electrons``, ``photons``, ``positrons``.

    Returns
    -------
    polars.DataFrame
        Sorted by material, particle, energy, tag, name and path: ``path`` (without ending, as `load` takes it), ``material`` and
        ``particle`` (null where no folder says it), ``energy_keV`` (null where nothing says it), ``tag``, ``name``, ``forms``
        (list of `FORMS`), ``has_truth``, ``size`` (bytes of all its files), ``date`` (from the name). No file is opened.
        Duplicates, and files that look like tracks and are none, are logged; `survey` returns them.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    found = survey(root)
    if found.duplicates:
        log.warning("%s: tracks in more than one folder: %s", root, shown(list(found.duplicates), 4))
    if found.strangers:
        told = [f"{Path(path).name} ({why})" for path, why in found.strangers.items()]
        log.warning("%s: files that look like tracks and are none: %s", root, shown(told, 4))
    return found.table


def survey(root: str | Path) -> Survey:
    """Return the tracks below a folder, and what is wrong with the tree; see `catalogue`."""
    import polars as pl

    root = Path(root)
    if not root.is_dir():
        what = "is a file, not a folder of tracks" if root.exists() else "no such folder"
        raise InputError(what, where=root)
    rows: list[tuple[Any, ...]] = []
    strangers: dict[str, str] = {}
    for folder, files in _folders(root, strangers):
        rows.extend(_tracks(folder, files, strangers))
    schema: dict[str, Any] = {
        "path": pl.String, "material": pl.String, "particle": pl.String, "energy_keV": pl.Float64, "tag": pl.String,
        "name": pl.String, "forms": pl.List(pl.String), "has_truth": pl.Boolean, "size": pl.Int64, "date": pl.Date,
    }  # fmt: skip
    table = pl.DataFrame(rows, schema=schema, orient="row")
    order = ["material", "particle", "energy_keV", "tag", "name", "path"]
    table = table.sort(order, nulls_last=True)
    return Survey(table, _duplicates(table), dict(sorted(strangers.items())))


def _duplicates(table: pl.DataFrame) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for name, path in zip(table["name"].to_list(), table["path"].to_list(), strict=True):
        folders.setdefault(name, []).append(os.path.dirname(path))  # noqa: PTH120  ten thousand times
    return {name: sorted(places) for name, places in sorted(folders.items()) if len(places) > 1}


def _folders(root: Path, strangers: dict[str, str]) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield each folder with its files. Links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                content = list(entries)
        except OSError as error:
            strangers[folder] = f"the folder cannot be read: {error.strerror or error}"
            continue
        waiting.extend(sorted((entry.path for entry in content if entry.is_dir()), reverse=True))
        yield folder, [entry for entry in content if not entry.name.startswith(".")]


def _tracks(
    folder: str, files: list[os.DirEntry[str]], strangers: dict[str, str]
) -> Iterator[tuple[Any, ...]]:
    entries: dict[str, _Entry] = {}
    for file in files:
        stem, form = split_ending(file.name)
        if form is None:
            if file.name.startswith("TrackE") and file.is_file():
                strangers[file.path] = "no ending of a track file"
            continue
        try:
            if not file.is_file():
                continue
            size = file.stat().st_size
        except OSError as error:
            strangers[file.path] = f"cannot be read: {error.strerror or error}"
            continue
        entry = entries.setdefault(stem, _Entry())
        entry.forms.add(form)
        entry.size += size
        entry.empty |= size == 0
    if not entries:
        return
    place = _place(folder)
    for stem, entry in entries.items():
        name = TrackName.of(stem)
        path = os.path.join(folder, stem)  # noqa: PTH118  ten thousand times
        why = _no_track(stem, entry, name, place)
        if why:
            strangers[path] = why
        elif why is None:
            energy = place.energy if place.energy is not None else name.energy if name else None
            if name is not None and energy is not None and name.energy != energy:
                strangers[path] = (
                    f"its name says {name.energy:g} keV, its folder {energy:g} keV; the folder counts"
                )
            yield (
                path, place.material, place.particle, energy, place.tag, stem,
                [form for form in FORMS if form in entry.forms], not entry.forms.isdisjoint(_TRUTH), entry.size,
                name.made.date() if name and name.made else None,
            )  # fmt: skip


def _no_track(stem: str, entry: _Entry, name: TrackName | None, place: _Place) -> str | None:
    """Return why files are no track, an empty text where nobody would take them for one, None if they are one."""
    like_one = name is not None or stem.startswith("TrackE")
    if entry.forms.isdisjoint(FORMS):
        return "a truth record without points" if like_one else ""
    if entry.empty:
        return "a file is empty"
    in_tree = place.particle is not None and place.energy is not None
    if name is None and not in_tree and entry.forms.isdisjoint(_TRUTH):
        return (
            "the name is not that of a track"
            if like_one
            else "an npz file without a truth record, outside of a tree"
        )
    return None


def _place(folder: str) -> _Place:
    """Return what a folder and those above it say; the nearest counts."""
    place = _Place()
    parts = Path(folder).absolute().parts
    for above, part in zip(("", *parts[:-1]), parts, strict=True):
        if found := _FOLDER.fullmatch(part):
            place.energy, place.tag = float(found["energy"]), found["tag"] or ""
        elif part.lower() in FOLDERS:
            place.particle = FOLDERS[part.lower()]
            place.material = above if _MATERIAL.fullmatch(above) else None
    return place
