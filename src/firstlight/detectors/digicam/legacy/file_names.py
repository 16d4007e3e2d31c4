"""Names of raw files as the original scripts spell them: a base name, and a list of numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import InputError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["BASENAME", "DEFAULT_LEVELS", "listed_files", "parse_levels", "parse_list"]

BASENAME = "CameraDigicam@localhost.localdomain_0_000.%s.fits.fz"
DEFAULT_LEVELS = (*range(0, 121, 5), *range(130, 196, 5), *range(200, 601, 10))
_PLACE = re.compile(r"%(0?\d*)([sdi])")


def parse_list(text: str, option: str = "--file_list") -> list[str]:
    """Return the entries of a list with commas.

    Raises
    ------
    UsageError
        If one is empty.
    """
    words = [word.strip() for word in text.split(",")]
    if "" in words:
        what = f"{text!r} has an empty entry: numbers of files with commas between them are needed"
        raise UsageError(what, where=option, hint="-f 109,110,111")
    return words


def parse_levels(text: str, option: str = "--scan_level") -> tuple[float, ...]:
    """Return the levels of a scan.

    Parameters
    ----------
    text : str
        Levels with commas between them. Exactly three numbers are the first, the last and the step, as in the original;
        with a comma at the end they are three levels.

    Raises
    ------
    UsageError
        If it is neither.
    """
    words = [word.strip() for word in text.split(",")]
    listed = len(words) > 1 and words[-1] == ""
    levels = [_number(word, text, option) for word in (words[:-1] if listed else words)]
    if len(levels) == 3 and not listed:
        levels = _range(*levels, text=text, option=option)
    if len(set(levels)) != len(levels):
        twice = next(level for level in levels if levels.count(level) > 1)
        what = f"the level {twice:g} is there twice: {text!r}"
        raise UsageError(what, where=option)
    if min(levels) < 0:
        what = f"levels cannot be negative: {text!r}"
        raise UsageError(what, where=option)
    return tuple(levels)


def _number(word: str, text: str, option: str) -> float:
    try:
        level = float(word)
    except ValueError:
        level = np.nan
    if not np.isfinite(level):
        what = f"{word!r} is no level, in {text!r}" if word else f"{text!r} has an empty entry"
        hint = "levels with commas between them (0,5,10,20), or first,last,step (0,600,10)"
        raise UsageError(what, where=option, hint=hint)
    return level


def _range(first: float, last: float, step: float, *, text: str, option: str) -> list[float]:
    number = (last - first) / step if step else 0.0
    whole = round(number)
    if step <= 0 or whole < 1 or abs(number - whole) > 1e-9:
        what = f"three numbers are the first level, the last and the step: {step:g} does not lead from {first:g} to {last:g}"
        raise UsageError(
            what, where=option, hint=f"--scan_level 0,600,10; three levels end in a comma: {text},"
        )
    return [first + step * index for index in range(whole + 1)]


def listed_files(
    directory: Path, basename: str, numbers: Sequence[str], endings: Sequence[str]
) -> list[Path]:
    """Return the raw files that a base name and a list of numbers mean.

    Parameters
    ----------
    directory : Path
        Where they are.
    basename : str
        With one ``%s`` (or ``%d``, ``%03d``) in the place of the number, as the original. Without, the name is the base, the
        number, zeros before it where the file has some, and a known ending: ``run_`` and 7 find ``run_007.fits.fz``.
    numbers : sequence of str
        The list.
    endings : sequence of str
        Of the files of all sources.

    Raises
    ------
    UsageError
        If the base name has more than one place for a number, or several files fit one.
    InputError
        If the directory or a file does not exist; names what is there.
    """
    if not directory.is_dir():
        what = "the directory with the raw files does not exist"
        raise InputError(what, where=directory, hint="-d DIRECTORY")
    places = _PLACE.findall(basename.replace("%%", ""))
    if len(places) > 1 or basename.replace("%%", "").count("%") != len(places):
        what = f"the base name {basename!r} must have one %s in the place of the number, or none"
        raise UsageError(what, where="--file_basename", hint=BASENAME)
    found = [
        directory / _filled(basename, number) if places else _search(directory, basename, number, endings)
        for number in numbers
    ]
    missing = [path for path in found if not path.exists()]
    if missing:
        raise _missing(missing, len(found), endings)
    return found


def _filled(basename: str, number: str) -> str:
    if "d" in basename or "i" in basename:
        match = _PLACE.search(basename)
        if match is not None and match[2] != "s":
            if not number.isdigit():
                what = f"{number!r} is no whole number, as {match[0]} of the base name needs"
                raise UsageError(what, where="--file_list")
            return basename % int(number)
    return basename % number


def _search(directory: Path, basename: str, number: str, endings: Sequence[str]) -> Path:
    """Return the file whose name is a base, a number and a known ending; the likeliest name where there is none."""
    folder = (directory / basename).parent
    base = "" if basename.endswith("/") else (directory / basename).name
    folder = directory / basename if basename.endswith("/") else folder
    ending = "|".join(re.escape(one) for one in endings)
    name = re.compile(rf"{re.escape(base)}0*{re.escape(number)}(?:{ending})?")
    found = sorted(path for path in folder.glob("*") if name.fullmatch(path.name)) if folder.is_dir() else []
    exact = [path for path in found if path.name.startswith(f"{base}{number}")]
    if len(exact) == 1:
        return exact[0]
    if len(found) > 1:
        what = f"{len(found)} files are {base!r} with the number {number}: {', '.join(path.name for path in found[:4])}"
        raise UsageError(what, where=folder, hint="a base name with %s and the ending: 'run_%s.fits.fz'")
    return found[0] if found else folder / f"{base}{number}{endings[0] if endings else ''}"


def _missing(missing: Sequence[Path], total: int, endings: Sequence[str]) -> InputError:
    names = ", ".join(path.name for path in missing[:5]) + (", ..." if len(missing) > 5 else "")
    folder = missing[0].parent
    there = (
        sorted(path.name for path in folder.glob("*") if path.name.endswith(tuple(endings)))
        if folder.is_dir()
        else []
    )
    close = nearest(missing[0].name, there)
    hint = (
        f"did you mean {close[0]}? (-f numbers, --file_basename name with %s)"
        if close
        else "-f, --file_basename, -d"
    )
    what = f"{len(missing)} of {total} raw files do not exist: {names}"
    return InputError(what, where=folder, known=there, hint=hint)
