"""Names of track files: what a name says, what exists of a track, and how a path may be spelled.

``Tracks/{material}/{electrons|photons|positrons}/E{keV:07}[_{tag}]/TrackE{keV:07}_D{yyyymmdd}_T{HHMM}{microseconds:06}``
with the endings of `ENDINGS`. The original was given paths without an ending, made by ``rstrip('.npz')``; that strips
letters and not an ending, and is undone here as far as it can be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from firstlight.errors import ConfigError, InputError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ENDINGS", "FOLDERS", "FORMS", "Existing", "TrackName", "find", "split_ending", "stem_of", "track_folder", "track_name",
]  # fmt: skip

FORMS = ("raw", "compressed", "energies")
"""Forms that hold the points of a track."""

# longer endings first: ".c.npz" also ends in ".npz"
ENDINGS = {
    "compressed": ".c.npz",
    "energies": ".p.npz",
    "truth_arrays": "_truth.npz",
    "raw": ".npz",
    "pickle": ".pickle",
    "json": ".json",
}
"""What stands in a file, and how its name ends."""

FOLDERS = {"electrons": "electron", "photons": "photon", "positrons": "positron"}
"""Folders of the particles."""

_NAME = re.compile(
    r"TrackE(?P<energy>\d{7,})(?:_D(?P<date>\d{8}))?(?:_T(?P<clock>\d{4})(?P<micro>\d{6}))?(?:_(?P<rest>\w+))?"
)
_STRIPPED = set(".npz")
_OTHER = ("npy", "h5", "hdf5", "dat", "txt")


@dataclass(frozen=True)
class TrackName:
    """What the name of a track says: energy of the primary [keV], when it was made (None: not said), further words."""

    energy: float
    made: datetime | None = None
    rest: str = ""

    @classmethod
    def of(cls, name: str) -> TrackName | None:
        """Return what a name without its ending says; None if it is not that of a track."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        made = None
        if found["date"]:
            try:
                made = datetime.strptime(found["date"] + (found["clock"] or "0000"), "%Y%m%d%H%M")
            except ValueError:
                return None
            made = made.replace(microsecond=int(found["micro"] or 0))
        return cls(float(found["energy"]), made, found["rest"] or "")


def track_name(energy: float, made: datetime, rest: str = "") -> str:
    """Return the name, without ending, of a track of an energy [keV] made at a time."""
    name = f"TrackE{round(energy):07d}_{made:D%Y%m%d_T%H%M%f}"
    return f"{name}_{rest}" if rest else name


def track_folder(root: Path, particle: str, energy: float, *, material: str = "LAr", tag: str = "") -> Path:
    """Return the folder of tracks of a particle and an energy [keV] below `root`.

    Raises
    ------
    ConfigError
        If the particle is none of `FOLDERS`.
    """
    folders = {single: folder for folder, single in FOLDERS.items()}
    if particle not in folders:
        raise ConfigError.unknown("particle", particle, folders)
    leaf = f"E{round(energy):07d}" + (f"_{tag}" if tag else "")
    return root.joinpath(*([material] if material else []), folders[particle], leaf)


@dataclass(frozen=True)
class Existing:
    """A track on the disk.

    Parameters
    ----------
    stem : Path
        Folder and name without ending.
    files : mapping of str to Path
        What exists of it, by the names of `ENDINGS`; a file of another kind stands under ``"other"``.
    asked : str or None
        Which of them the path named by its ending.
    """

    stem: Path
    files: Mapping[str, Path]
    asked: str | None = None

    def points(self, form: str | None = None) -> tuple[str, Path]:
        """Return the form and the file from which points are read.

        Without a form it is the one that the path named, or else raw before compressed before energies.

        Raises
        ------
        UsageError
            If there is no such form.
        InputError
            If the track has it not.
        """
        if form is not None and form not in FORMS:
            raise UsageError.unknown("form of a track", form, FORMS)
        there = [each for each in FORMS if each in self.files]
        wanted = form or (self.asked if self.asked in FORMS else None) or (there[0] if there else None)
        if wanted is None:
            names = [path.name for path in self.files.values()]
            what = "has a truth record and no points"
            raise InputError(what, where=self.stem, known=names)
        if wanted not in self.files:
            what = f"has no points of the form {wanted!r} ({self.stem.name}{ENDINGS[wanted]})"
            raise InputError(what, where=self.stem, known=there)
        return wanted, self.files[wanted]


def split_ending(name: str) -> tuple[str, str | None]:
    """Return a file name without its ending, and which of `ENDINGS` it is."""
    for form, ending in ENDINGS.items():
        if name.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)], form
    return name, None


def stem_of(path: str | Path) -> Path:
    """Return a path without the ending of a track file. Dots elsewhere in it are left alone."""
    path = Path(path)
    return path.with_name(split_ending(path.name)[0]) if path.name else path


def find(path: str | Path) -> Existing:
    """Return what exists of a track, however its path is spelled.

    Parameters
    ----------
    path : str or Path
        With any ending of `ENDINGS`, with none, or as ``rstrip('.npz')`` leaves it.

    Returns
    -------
    Existing
        Its files.

    Raises
    ------
    InputError
        If there is no such track, with names that look like it; if ``rstrip`` left more than one possible; if the path is
        a folder, or may not be looked at.
    """
    path = Path(path)
    try:
        return _find(path)
    except OSError as error:
        what = f"cannot be looked for: {error.strerror or error}"
        raise InputError(what, where=path) from error


def _find(path: Path) -> Existing:
    stem, form = split_ending(path.name)
    if form is None and not path.is_file():
        # of "name.c.npz" rstrip leaves "name.c"
        longer, of_longer = split_ending(f"{path.name}.npz")
        if of_longer != "raw" and of_longer in _files(path.parent, longer):
            stem, form = longer, of_longer
    files = _files(path.parent, stem)
    if form in files or (form is None and files and not path.is_file()):
        return Existing(path.with_name(stem), files, form)
    if path.is_file():
        return Existing(path.with_name(path.stem), {"other": path}, "other")
    stripped = [] if form else _stripped(path)
    if len(stripped) > 1:
        what = "more than one track has this name, once '.', 'n', 'p' and 'z' are stripped from its end"
        raise InputError(what, where=path, known=stripped, hint="the whole name, with its ending")
    if stripped:
        return Existing(path.with_name(stripped[0]), _files(path.parent, stripped[0]))
    raise _missing(path, stem, files)


def _files(folder: Path, stem: str) -> dict[str, Path]:
    found = {form: folder / f"{stem}{ending}" for form, ending in ENDINGS.items()}
    return {form: file for form, file in found.items() if file.is_file()}


def _stripped(path: Path) -> list[str]:
    """Return the stems beside `path` that are its name and letters of ``.npz``."""
    if not path.parent.is_dir() or not path.name:
        return []
    stems = {split_ending(each.name)[0] for each in path.parent.glob("*.npz")}
    return sorted(
        stem for stem in stems
        if stem.startswith(path.name) and stem != path.name and set(stem[len(path.name) :]) <= _STRIPPED
    )  # fmt: skip


def _missing(path: Path, stem: str, files: Mapping[str, Path]) -> InputError:
    if path.is_dir():
        what = "is a folder, not a track"
        return InputError(what, where=path, hint="catalogue(folder) lists the tracks in it")
    if files:
        what = "no such file, though there are others of this track"
        return InputError(what, where=path, known=sorted(file.name for file in files.values()))
    folder = path.parent
    if not folder.is_dir():
        there = folder
        while not there.is_dir() and there != there.parent:
            there = there.parent
        known = sorted(each.name for each in there.iterdir() if each.is_dir())
        what = f"no such folder: {folder} does not exist, {there} does"
        return InputError(what, where=path, known=known)
    names = sorted({
        split_ending(each.name)[0] for each in folder.iterdir()
        if split_ending(each.name)[1] or each.suffix[1:] in _OTHER
    })  # fmt: skip
    close = nearest(stem, names)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}?" if close else None
    return InputError("no such track", where=path, known=names, hint=hint)
