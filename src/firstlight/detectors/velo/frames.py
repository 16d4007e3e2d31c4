"""Frames of a threshold scan: their names, which ones a folder holds, and reading them.

A frame is one CSV file, the hits of all pixels in one shutter at one threshold:
``Module0_VP3-1_ECS_data_ST_2s621ms_THR_1494_18.csv`` has chip, open time, threshold [DAC] and the number of
the acquisition in its name; a line is a row of the chip.
"""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, UsageError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "LARGEST", "STATUSES", "FrameList", "FrameRecord", "format_shutter", "frame_name", "has_frames", "list_frames",
    "parse_shutter", "read_frame", "read_frames", "warm_up",
]  # fmt: skip

LARGEST = 63
"""The counter of a pixel has six bits and stops there."""
STATUSES = ("read", "missing", "empty file", "truncated", "not square", "text", "out of range", "unreadable")
"""What can become of a file."""

_SHAPE = (256, 256)
_NAME = re.compile(r"(.+)_ECS_data_ST_(\w+?)_THR_(\d{1,9})_(\d{1,9})\.csv", re.ASCII)
_SHUTTER = re.compile(r"(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
# words of which the name of a frame is made: a file with some of them was probably meant to be one
_WORDS = ("ecs_data", "_thr_", "_st_")
_BLOCK = 16


@lru_cache(maxsize=1024)
def parse_shutter(text: str) -> float:
    """Return the open time that a text in a file name stands for.

    Parameters
    ----------
    text : str
        Seconds and milliseconds: ``"2s621ms"`` is 2.621 s and ``"2s62ms"`` is 2.062 s. One of the two is
        enough.

    Returns
    -------
    float
        Open time [s].

    Raises
    ------
    UsageError
        If the text is something else, or the milliseconds beside seconds are 1000 or more.
    """
    found = _SHUTTER.fullmatch(text)
    if found is None or not text:
        what = f"{text!r} is no open time of a shutter"
        raise UsageError(what, hint="seconds and milliseconds as in file names: 2s621ms, 0s500ms, 10s0ms")
    seconds, milliseconds = int(found[1] or 0), int(found[2] or 0)
    if found[1] is not None and milliseconds > 999:
        what = f"open time {text!r} has {milliseconds} ms beside its seconds"
        raise UsageError(what, hint=format_shutter(seconds + milliseconds / 1000))
    return (1000 * seconds + milliseconds) / 1000


def format_shutter(seconds: float) -> str:
    """Return an open time as it stands in file names: 2.062 s is ``"2s62ms"``.

    Parameters
    ----------
    seconds : float
        Open time [s], a whole number of milliseconds.

    Raises
    ------
    UsageError
        If it is negative or not a whole number of milliseconds.
    """
    milliseconds = round(seconds * 1000) if np.isfinite(seconds) else -1
    if milliseconds < 0 or abs(seconds * 1000 - milliseconds) > 1e-6:
        what = f"an open time of {seconds} s is not a whole number of milliseconds"
        raise UsageError(what)
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}s{rest}ms"


def frame_name(prefix: str, shutter: float | str, threshold: int, acquisition: int) -> str:
    """Return the file name of a frame.

    Parameters
    ----------
    prefix : str
        Module and chip: ``"Module0_VP3-1"``.
    shutter : float or str
        Open time [s], or as it stands in file names.
    threshold, acquisition : int
        Threshold [DAC] and number of the acquisition.
    """
    text = shutter if isinstance(shutter, str) else format_shutter(shutter)
    return f"{prefix}_ECS_data_ST_{text}_THR_{threshold}_{acquisition}.csv"


def _fields(name: str) -> tuple[str, float, int, int] | None:
    """Return prefix, open time, threshold and acquisition of a name; None if it is no frame's."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        return found[1], parse_shutter(found[2]), int(found[3]), int(found[4])
    except UsageError:
        return None


@dataclass(frozen=True, eq=False)
class FrameList:
    """The frames in a folder, by chip, threshold, acquisition and open time.

    Parameters
    ----------
    folder : Path
        Where they are.
    names, prefix : ndarray of str, shape (n_frames,)
        File name; module and chip.
    threshold, acquisition : ndarray of int64, shape (n_frames,)
        Threshold [DAC] and number of the acquisition.
    shutter : ndarray of float64, shape (n_frames,)
        Open time [s].
    size : ndarray of int64, shape (n_frames,)
        Bytes.
    mtime : ndarray of float64, shape (n_frames,)
        Time of the last change [s since 1970].
    repeated : ndarray of bool, shape (n_frames,)
        A frame before has the same chip, threshold, acquisition and open time: ``_18.csv`` and ``_018.csv``.
        Adding up both counts the acquisition twice.
    odd_names : tuple of str
        Files whose names look like those of frames and are not.
    """

    folder: Path
    names: NDArray[np.str_]
    prefix: NDArray[np.str_]
    threshold: NDArray[np.int64]
    acquisition: NDArray[np.int64]
    shutter: NDArray[np.float64]
    size: NDArray[np.int64]
    mtime: NDArray[np.float64]
    repeated: NDArray[np.bool_]
    odd_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.names.size)

    def __repr__(self) -> str:
        if not len(self):
            return f"FrameList(no frames in {self.folder})"
        thresholds = self.thresholds
        return (
            f"FrameList({len(self)} frames of {', '.join(self.prefixes)}, {thresholds.size} thresholds "
            f"{thresholds[0]} to {thresholds[-1]} DAC, {int(self.acquisition.max()) + 1} acquisitions)"
        )

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Chips of which there are frames."""
        return tuple(str(name) for name in np.unique(self.prefix))

    @property
    def thresholds(self) -> NDArray[np.int64]:
        """Thresholds of which there are frames, rising [DAC]."""
        return np.unique(self.threshold)

    @property
    def step(self) -> int | None:
        """Most frequent distance of thresholds [DAC], the smaller one of two; None below two thresholds."""
        steps, often = np.unique(np.diff(self.thresholds), return_counts=True)
        return int(steps[np.argmax(often)]) if steps.size else None

    @property
    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Groups of files of the same chip, threshold, acquisition and open time."""
        return self._groups(with_shutter=True)

    @property
    def overlapping(self) -> tuple[tuple[str, ...], ...]:
        """Groups of files of the same chip, threshold and acquisition, with different open times."""
        return self._groups(with_shutter=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the folder, in sentences."""
        found = []
        if self.odd_names:
            found.append(
                f"{len(self.odd_names)} files look like frames by their names and are not: {shown(self.odd_names, 5)}"
            )
        duplicates, overlapping = self.duplicates, self.overlapping
        if duplicates:
            found.append(f"{len(duplicates)} frames are there more than once: {_some_groups(duplicates)}")
        if overlapping:
            found.append(
                f"{len(overlapping)} acquisitions are there with several open times: {_some_groups(overlapping)}"
            )
        shutters, often = np.unique(self.shutter, return_counts=True)
        if shutters.size > 1:
            each = ", ".join(
                f"{format_shutter(float(t))} ({n} frames)" for t, n in zip(shutters, often, strict=True)
            )
            found.append(f"frames of {shutters.size} open times: {each}")
        step = self.step
        thresholds = self.thresholds
        if step is not None and thresholds.size > 2:
            beside = thresholds[(thresholds - thresholds[0]) % step != 0]
            absent = np.setdiff1d(np.arange(thresholds[0], thresholds[-1] + 1, step), thresholds)
            if beside.size:
                found.append(
                    f"thresholds beside the steps of {step} DAC: {shown([str(t) for t in beside], 8)}"
                )
            elif absent.size:
                found.append(f"thresholds without any frame: {shown([str(t) for t in absent], 8)} DAC")
        return tuple(found)

    def _groups(self, *, with_shutter: bool) -> tuple[tuple[str, ...], ...]:
        same = _same_as_before(self.prefix, self.threshold, self.acquisition)
        # almost always there are none
        groups: dict[Any, dict[float, list[str]]] = {}
        for index in np.flatnonzero(same | np.append(same[1:], np.False_)):
            key = (self.prefix[index], self.threshold[index], self.acquisition[index])
            groups.setdefault(key, {}).setdefault(float(self.shutter[index]), []).append(
                str(self.names[index])
            )
        if with_shutter:
            return tuple(tuple(names) for own in groups.values() for names in own.values() if len(names) > 1)
        return tuple(
            tuple(name for names in own.values() for name in names) for own in groups.values() if len(own) > 1
        )


def _some_groups(groups: tuple[tuple[str, ...], ...]) -> str:
    return shown([" and ".join(group) for group in groups], 3)


def _same_as_before(*arrays: NDArray[Any]) -> NDArray[np.bool_]:
    same = np.zeros(arrays[0].size, dtype=np.bool_)
    if same.size:
        same[1:] = np.logical_and.reduce([array[1:] == array[:-1] for array in arrays])
    return same


def has_frames(folder: Path | str) -> bool:
    """Return whether a path is a folder with at least one frame in it."""
    try:
        with os.scandir(folder) as entries:
            return any(_fields(entry.name) is not None for entry in entries)
    except OSError:
        return False


def list_frames(folder: Path | str) -> FrameList:
    """Return the frames in a folder, found in one pass.

    Parameters
    ----------
    folder : Path or str
        Its sub-folders are not looked into.

    Raises
    ------
    InputError
        If it cannot be listed.
    """
    folder = Path(folder)
    rows: list[tuple[str, float, int, int, str, int, float]] = []
    odd = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                fields = _fields(name)
                if fields is None:
                    if _looks_like_a_frame(name):
                        odd.append(name)
                    continue
                prefix, shutter, threshold, acquisition = fields
                size, mtime = _status_of(entry)
                rows.append((prefix, shutter, threshold, acquisition, name, size, mtime))
    except OSError as error:
        what = f"the folder cannot be listed: {error.strerror}"
        raise InputError(what, where=folder) from error
    # 18 before 018: the name that the experiment writes comes first
    rows.sort(key=lambda row: (row[0], row[2], row[3], row[1], len(row[4]), row[4]))
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[]] * 7
    prefixes, names = np.asarray(columns[0], dtype=np.str_), np.asarray(columns[4], dtype=np.str_)
    shutters = np.asarray(columns[1], dtype=np.float64)
    thresholds, acquisitions = (np.asarray(columns[index], dtype=np.int64) for index in (2, 3))
    repeated = _same_as_before(prefixes, thresholds, acquisitions, shutters)
    sizes, times = np.asarray(columns[5], dtype=np.int64), np.asarray(columns[6], dtype=np.float64)
    return FrameList(
        folder,
        names,
        prefixes,
        thresholds,
        acquisitions,
        shutters,
        sizes,
        times,
        repeated,
        tuple(sorted(odd)),
    )


def _looks_like_a_frame(name: str) -> bool:
    lowered = name.lower()
    return not name.startswith(".") and sum(word in lowered for word in _WORDS) > 1


def _status_of(entry: os.DirEntry[str]) -> tuple[int, float]:
    try:
        found = entry.stat()
    except OSError:
        # a link that leads nowhere: reading it says so
        return 0, 0.0
    return found.st_size, found.st_mtime


@dataclass(frozen=True)
class FrameRecord:
    """What became of a file.

    Parameters
    ----------
    status : str
        One of `STATUSES`.
    reason : str
        What is wrong, with line and column counted from 1; nothing for a frame that was read.
    digest : str
        First 24 hexadecimal digits of the SHA-256 of the bytes; nothing where there are none.
    size : int
        Bytes.
    """

    status: str
    reason: str = ""
    digest: str = ""
    size: int = 0


def read_frames(
    paths: Sequence[Path | str],
    threads: int | None = None,
    *,
    shape: tuple[int, int] = _SHAPE,
    largest: int = LARGEST,
) -> tuple[NDArray[np.uint8], list[FrameRecord]]:
    """Read frames; one that cannot be read stops nothing.

    Parameters
    ----------
    paths : sequence of Path or str
        The files.
    threads : int, optional
        As many as there are processors by default; changes no number.
    shape : tuple of int
        Rows and columns of the chip.
    largest : int
        Largest number of hits that a pixel can have, below 256.

    Returns
    -------
    frames : ndarray of uint8, shape (n_frames, n_rows * n_columns)
        Hits; 0 in all pixels of a frame that could not be read.
    records : list of FrameRecord
        What became of each file.

    Raises
    ------
    UsageError
        If `threads`, `shape` or `largest` is impossible.
    """
    from firstlight.fit.blocks import available_threads

    if min(shape) < 1 or not 0 < largest < 256 or (threads is not None and threads < 1):
        what = (
            f"frames of {shape[0]} x {shape[1]} pixels with up to {largest} hits, read by {threads} threads"
        )
        raise UsageError(what, hint="one pixel, one hit and one thread at least, 255 hits at most")
    files = [os.fspath(path) for path in paths]
    frames = np.zeros((len(files), shape[0] * shape[1]), dtype=np.uint8)

    def read_block(start: int) -> list[FrameRecord]:
        stop = min(start + _BLOCK, len(files))
        return [_read(files[index], frames[index].reshape(shape), largest) for index in range(start, stop)]

    starts = range(0, len(files), _BLOCK)
    n_threads = min(threads or available_threads(), max(len(starts), 1))
    if n_threads == 1:
        return frames, [record for start in starts for record in read_block(start)]
    with ThreadPoolExecutor(n_threads) as pool:
        return frames, [record for block in pool.map(read_block, starts) for record in block]


def read_frame(
    path: Path | str, *, shape: tuple[int, int] = _SHAPE, largest: int = LARGEST
) -> NDArray[np.uint8]:
    """Return one frame.

    Parameters
    ----------
    path : Path or str
        The file.
    shape, largest
        As for `read_frames`.

    Returns
    -------
    ndarray of uint8, shape (n_rows, n_columns)
        Hits.

    Raises
    ------
    InputError
        If it cannot be read; says why, with line and column.
    """
    frame = np.empty(shape, dtype=np.uint8)
    record = _read(os.fspath(path), frame, largest, with_digest=False)
    if record.status != "read":
        what = f"no frame ({record.status}): {record.reason}"
        raise InputError(what, where=path)
    return frame


def _read(path: str, values: NDArray[np.uint8], largest: int, *, with_digest: bool = True) -> FrameRecord:
    """Read one file into `values`, of shape (n_rows, n_columns)."""
    from firstlight.detectors.velo.frame_kernels import READ, parse_frame

    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            content = file.read()
    except FileNotFoundError:
        return FrameRecord("missing", "no such file")
    except OSError as error:
        return FrameRecord("unreadable", error.strerror or type(error).__name__)
    if not content:
        return FrameRecord("empty file", "the file has no bytes")
    digest = hashlib.sha256(content).hexdigest()[:24] if with_digest else ""
    text = np.frombuffer(content, dtype=np.uint8)
    if content.startswith(b"\xef\xbb\xbf"):
        text = text[3:]
    place = np.zeros(3, dtype=np.int64)
    code = parse_frame(text, largest, values, place)
    if code == READ:
        return FrameRecord("read", "", digest, len(content))
    values[:] = 0
    status, reason = _explain(code, place.tolist(), text.tobytes(), values.shape, largest)
    return FrameRecord(status, reason, digest, len(content))


def _explain(
    code: int, place: list[int], content: bytes, shape: tuple[int, ...], largest: int
) -> tuple[str, str]:
    """Return status and reason of a frame that is not what it should be."""
    from firstlight.detectors.velo import frame_kernels as codes

    line, column, at = place
    rows, columns = shape
    if code == codes.EMPTY:
        return "empty file", "the file has nothing but blanks"
    if code == codes.FEW_ROWS:
        return "truncated", f"ends after line {line}, {rows} are expected"
    if code == codes.MANY_ROWS:
        return "not square", f"has {line} lines, {rows} are expected"
    rest = content[at:].strip(b" \r\n\t\x00")
    if code == codes.SHORT_ROW and not rest:
        return "truncated", f"ends in line {line} of {rows}, after {column} of {columns} values"
    if code in (codes.SHORT_ROW, codes.LONG_ROW):
        return "not square", f"line {line} has {column} values, {columns} are expected"
    word = re.split(rb"[,\r\n]", content[at : at + 60], maxsplit=1)[0].strip(b" ")
    where = f"line {line}, column {column}"
    if code == codes.TOO_LARGE:
        kind = "is negative" if word.startswith(b"-") else f"is above {largest}, where the counter stops"
        return "out of range", f"{where}: {_show(word)} {kind}"
    return "text", f"{where}: {_what_it_is(word)}"


def _what_it_is(word: bytes) -> str:
    """Return what stands in the place of a number."""
    for separator, name in ((b";", "semicolons"), (b"\t", "tabs"), (b" ", "spaces")):
        if re.fullmatch(rb"[\d.\s]+[;\t ][\d.;\s]*", word) and separator in word:
            return f"values are separated by {name}, commas are expected"
    if not word:
        return "nothing between two commas"
    if word.startswith(b"\x00"):
        return "bytes 0, as after a crash of the writer"
    return f"{_show(word)} is no whole number"


def _show(word: bytes) -> str:
    text = word.decode("utf-8", errors="replace")
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return repr(text if len(text) <= 24 else f"{text[:21]}...")


def warm_up() -> None:
    """Compile the kernels of reading and judging."""
    from firstlight.detectors.velo.bad_frames import judge
    from firstlight.detectors.velo.frame_kernels import parse_frame

    text = np.frombuffer(b"1,2\n3,4\n", dtype=np.uint8)
    values = np.zeros((2, 2), dtype=np.uint8)
    parse_frame(text, LARGEST, values, np.zeros(3, dtype=np.int64))
    judge(np.ones((3, 2, 2), dtype=np.uint8), ["read"] * 3, np.zeros((2, 2), dtype=np.bool_))
