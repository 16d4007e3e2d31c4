"""Tracks written in two forms: the own one, and that of the original tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.arrays import arrays_of
from firstlight.detectors.lartpc.reading.names import ENDINGS, stem_of
from firstlight.detectors.lartpc.reading.original import original_meta, original_record
from firstlight.detectors.lartpc.reading.pickles import read_truth_pickle, truth_pickle
from firstlight.detectors.lartpc.reading.records import is_record, read_record, record_of
from firstlight.errors import InputError, StoreError, UsageError
from firstlight.files import atomic, write_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firstlight.detectors.lartpc.track import Track

__all__ = ["save", "save_original"]


def save(track: Track, path: str | Path, *, compress: bool = False, flush: bool = True) -> tuple[Path, Path]:
    """Write a track in the own form: arrays as npz, truth and origin as JSON; no pickle.

    The archive has ``r`` (3, n_points) in m and ``num_e``, as the original, so that code written for that reads it; and
    ``energy`` [keV], ``particle_id``, ``parent_id``, ``pdg``, ``creator`` with ``creator_names``, ``bin_size`` where the track
    has them. Reading gives the same track back, bit for bit. A truth pickle of `save_original` beside it is brought up to date.

    Parameters
    ----------
    track : Track
        The track.
    path : str or Path
        With or without ending.
    compress : bool
        Pack the arrays: a tenth smaller, many times slower.
    flush : bool
        Wait until the files are on the disk.

    Returns
    -------
    tuple of Path
        The npz and the JSON file.

    Raises
    ------
    StoreError
        If they cannot be written, or a JSON file of something else has the name.
    UsageError
        If the origin holds values that JSON does not know.
    """
    stem = stem_of(path)
    points = _with_ending(stem, "raw")
    record = _with_ending(stem, "json")
    text = _text_of(track, record, len(track))
    _own_or_none(record, read_record)
    other = _with_ending(stem, "pickle")
    is_ours = _written_by_us(other)
    _write_arrays(points, dict(arrays_of(track)), compress=compress, flush=flush)
    write_text(record, text, flush=flush)
    if is_ours and track.truth is None:
        other.unlink(missing_ok=True)
    elif is_ours:
        _write_pickle(track, other, flush=flush)
    return points, record


def _text_of(track: Track, path: Path, n_points: int) -> str:
    """Return the record of the own form for a number of points."""
    try:
        return json.dumps({**record_of(track), "n_points": n_points}, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        what = f"the truth or origin of the track cannot be written: {error}"
        raise UsageError(what, where=path, hint="plain, finite values in track.meta") from error


def _own_or_none(path: Path, read: Callable[[Path], Any]) -> None:
    """Raise `StoreError` if a file stands there that is no truth record: it is somebody else's."""
    if not path.exists():
        return
    why = "it is no record of a track"
    try:
        if read(path) is not None:
            return
    except InputError as error:
        why = f"it {error.what}" if error.what.startswith(("has", "is", "cannot")) else error.what
    what = f"is not overwritten: {why}"
    raise StoreError(what, where=path, hint="another name for the track, or move that file away")


def _written_by_us(path: Path) -> bool:
    """Return whether a file is a truth pickle of `save_original`."""
    if not path.is_file():
        return False
    try:
        return is_record(read_truth_pickle(path)[1].get("firstlight"))
    except InputError:
        return False


def _write_pickle(track: Track, path: Path, *, flush: bool) -> None:
    meta = {**original_meta(track), "firstlight": record_of(track)}
    content = truth_pickle(original_record(track), meta)
    with atomic(path, flush=flush) as temporary:
        temporary.write_bytes(content)


def save_original(
    track: Track, path: str | Path, *, compressed: bool = False, flush: bool = True
) -> tuple[Path, Path]:
    """Write a track as the original tools do: npz and a truth pickle (protocol 4), which Gampy reads.

    Points without electrons are left out, as there. What the original has no place for stands in the pickle as plain values
    under ``meta["firstlight"]``, so that this package reads the same track back. A record of the own form beside it, which `load`
    prefers, is brought up to date.

    Parameters
    ----------
    track : Track
        The track; it must have a truth.
    path : str or Path
        With or without ending.
    compressed : bool
        Write ``.c.npz``, for a track whose points were put together (`Track.bin_size`).
    flush : bool
        Wait until the files are on the disk.

    Returns
    -------
    tuple of Path
        The npz and the pickle.

    Raises
    ------
    InputError
        If the track has no truth.
    UsageError
        If `compressed` is asked for a track that is not.
    StoreError
        If the files cannot be written, or a pickle of something else has the name.
    """
    if compressed and not track.bin_size:
        what = (
            "the compressed form is for tracks whose points were put together; this one has a bin size of 0"
        )
        raise UsageError(what, where=track.name or None)
    stem = stem_of(path)
    original_record(track)  # a track without truth is refused before anything is written
    points = _with_ending(stem, "compressed" if compressed else "raw")
    record = _with_ending(stem, "pickle")
    _own_or_none(record, read_truth_pickle)
    own = _with_ending(stem, "json")
    is_stale = _has_record(own) and not (compressed and _with_ending(stem, "raw").is_file())
    charged = track.num_e > 0
    # of the points that are written
    text = _text_of(track, own, int(charged.sum())) if is_stale else ""
    arrays = {
        key: values[..., charged] if values.shape[-1:] == charged.shape and key != "creator_names" else values
        for key, values in arrays_of(track)
    }
    _write_arrays(points, arrays, compress=True, flush=flush)
    _write_pickle(track, record, flush=flush)
    if is_stale:
        write_text(own, text, flush=flush)
    return points, record


def _has_record(path: Path) -> bool:
    """Return whether a JSON file is a record of this package that can be read."""
    try:
        return path.is_file() and read_record(path) is not None
    except InputError:
        return False


def _with_ending(stem: Path, form: str) -> Path:
    # not with_suffix: names may have dots
    return stem.with_name(stem.name + ENDINGS[form])


def _write_arrays(path: Path, arrays: dict[str, Any], *, compress: bool, flush: bool) -> None:
    write = np.savez_compressed if compress else np.savez
    with atomic(path, flush=flush) as temporary, temporary.open("wb") as stream:
        write(stream, **arrays)
