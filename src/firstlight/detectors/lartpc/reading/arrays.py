"""Arrays of tracks in npz archives: read without pickle, within limits, in every layout that was ever written."""

from __future__ import annotations

import math
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.charges import ChargeModel, electrons
from firstlight.detectors.lartpc.track import HIGHEST_ENERGY, MOST_ELECTRONS
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Track

__all__ = ["LARGEST", "Archive", "Points", "arrays_of", "points_of", "read_npz", "whole_numbers"]

LARGEST = 2 * 2**30
"""Bytes that the arrays of one archive may take."""

_MOST_ARRAYS = 100
_KIND_TO_PDG = {1: 11, 2: 22, 3: -11}
_OLDER_COLUMNS = ("generation", "parent", "interaction", "birth_step")
_WRITTEN = ("energy", "particle_id", "parent_id", "pdg", "creator", "creator_names", "bin_size")


@dataclass(frozen=True)
class Archive:
    """Arrays of an npz file, and the keys that were not read (arrays of Python objects)."""

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    refused: tuple[str, ...] = ()

    def numbers(self, key: str) -> NDArray[Any]:
        """Return an array of numbers.

        Raises
        ------
        InputError
            If it is missing, or not made of numbers.
        """
        if key not in self.arrays:
            what = f"has no array {key!r}"
            raise InputError(what, where=self.path, known=sorted(self.arrays))
        values = self.arrays[key]
        if values.dtype.kind not in "buif":
            what = f"{key!r} has the type {values.dtype}, not numbers"
            raise InputError(what, where=self.path)
        return values


def read_npz(path: Path, *, largest: int = LARGEST, tolerate_objects: bool = False) -> Archive:
    """Return the arrays of an npz archive, whatever its extension.

    Headers are read first: an array is only read if its type holds no Python objects and the archive holds as many bytes as
    its shape asks for.

    Parameters
    ----------
    path : Path
        The file.
    largest : int
        Bytes that all arrays together may take.
    tolerate_objects : bool
        Leave arrays of Python objects out and name them, instead of refusing the file.

    Returns
    -------
    Archive
        The arrays.

    Raises
    ------
    InputError
        If the file is missing, no archive, cut off, damaged or too large, or has arrays of Python objects.
    """
    with _explained(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) > _MOST_ARRAYS:
            what = f"has {len(members)} arrays: a track has no more than {_MOST_ARRAYS}"
            raise InputError(what, where=path)
        total = sum(info.file_size for info in members.values())
        if total > largest:
            what = f"says that its arrays take {total:,} bytes: at most {largest:,} are read"
            raise InputError(what, where=path)
        arrays, refused = {}, []
        for key, info in members.items():
            with archive.open(info) as stream:
                values = _array(stream, key, info.file_size, path)
            if values is None:
                refused.append(key)
            else:
                arrays[key] = values
    if refused and not tolerate_objects:
        what = f"{refused[0]!r} is an array of Python objects: those are pickles, and are not read"
        raise InputError(what, where=path, known=sorted(arrays))
    return Archive(path, arrays, tuple(refused))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what zipfile and NumPy say of bad content into an error of the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # damaged content makes libraries raise anything
        if isinstance(error, OSError) and error.errno:
            what = f"cannot be read: {error.strerror or error}"
            raise InputError(what, where=path) from error
        what = f"the npz archive is damaged: {str(error)[:200] or type(error).__name__}"
        if isinstance(error, zipfile.BadZipFile) and "not a zip file" in str(error):
            what = _beginning(path)
        raise InputError(what, where=path, hint="was it copied whole?") from error


def _beginning(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.read(16)
    if not first:
        return "the file is empty"
    if first.startswith(b"PK"):
        return "the npz archive ends too early: it is cut off, or is being written"
    if first.startswith(b"\x93NUMPY"):
        return "holds a single array (npy): a track is an archive of arrays (npz)"
    return f"not an npz archive: it begins with {first[:12]!r}"


def _array(stream: IO[bytes], key: str, size: int, path: Path) -> NDArray[Any] | None:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        what = f"{key!r} has the npy version {version}, which tracks do not need"
        raise InputError(what, where=path)
    if dtype.hasobject:
        return None
    wanted = math.prod(shape) * dtype.itemsize
    held = size - stream.tell()
    if wanted != held:
        what = f"{key!r} has the shape {shape} and type {dtype}, {wanted:,} bytes, and holds {held:,}"
        raise InputError(what, where=path)
    values = np.empty(math.prod(shape), dtype)
    buffer = values.view(np.uint8) if wanted else np.zeros(0, np.uint8)
    done = 0
    while done < wanted:
        part = stream.read(min(wanted - done, 2**24))
        if not part:
            what = f"{key!r} ends after {done:,} of {wanted:,} bytes"
            raise InputError(what, where=path)
        buffer[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    return values.reshape(shape, order="F" if by_column else "C")


# ---------------------------------------------------------------- what the arrays mean


@dataclass
class Points:
    """Points of a track as they stand in a file; the fields are those of `Track`."""

    positions: NDArray[np.float64]
    num_e: NDArray[np.int64]
    optional: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def points_of(archive: Archive, model: ChargeModel) -> Points:
    """Return the points of an archive in any of its layouts.

    - ``r``, ``num_e``: the original; with ``bin_size`` where it was compressed;
    - ``r``, ``delta_energy`` [keV]: energies of PENELOPE, made into charges by `model`, which is recorded;
    - ``r``, ``num_e``, ``particle``, ``generation``, ...: an older one;
    - ``x``, ``y``, ``z``, ``charge``, or ``hits``, ``charge``: processed, charges rounded to whole electrons.

    Raises
    ------
    InputError
        If it is none of these, or lengths, positions or charges make no sense.
    """
    keys = archive.arrays.keys()
    if {"r", "num_e"} <= keys:
        points = Points(_positions(archive, "r"), _charges(archive, "num_e"))
        _take_written(archive, points)
        _take_older(archive, points)
    elif {"r", "delta_energy"} <= keys:
        points = _energies(archive, model)
    elif {"x", "y", "z", "charge"} <= keys:
        axes = [archive.numbers(axis).astype(np.float64) for axis in "xyz"]
        _same_length(archive, dict(zip("xyz", axes, strict=True)), archive.arrays["charge"].shape)
        points = _processed(archive, np.stack(axes))
    elif {"hits", "charge"} <= keys:
        points = _processed(archive, _hits(archive))
    else:
        what = "has no points of a track"
        hint = "'r' with 'num_e' or 'delta_energy', or 'x', 'y', 'z' with 'charge'"
        raise InputError(what, where=archive.path, known=sorted(keys), hint=hint)
    n_points = points.positions.shape[1]
    if points.num_e.shape != (n_points,):
        what = f"has {n_points} positions and {points.num_e.size} charges"
        raise InputError(what, where=archive.path)
    return points


def _positions(archive: Archive, key: str) -> NDArray[np.float64]:
    values = archive.numbers(key)
    if values.ndim != 2 or values.shape[0] != 3:
        hint = (
            "transpose it: one row for x, y and z each" if values.ndim == 2 and values.shape[1] == 3 else None
        )
        what = f"{key!r} has the shape {values.shape}, not (3, n_points)"
        raise InputError(what, where=archive.path, hint=hint)
    return np.ascontiguousarray(values, dtype=np.float64)


def _charges(archive: Archive, key: str) -> NDArray[np.int64]:
    values = archive.numbers(key)
    if values.ndim != 1:
        what = f"{key!r} has the shape {values.shape}, not (n_points,)"
        raise InputError(what, where=archive.path)
    whole = values
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            bad = int(np.flatnonzero(~np.isfinite(values) | (values != np.rint(values)))[0])
            what = f"{key!r} of point {bad} is {values[bad]}: charges are whole numbers of electrons"
            raise InputError(what, where=archive.path)
        whole = np.rint(values)
    # before 64 bits overflow; what is negative is told by the track
    total = float(np.abs(whole.astype(np.float64)).sum())
    if total > MOST_ELECTRONS:
        what = f"{key!r} sums to {total:.4g} electrons: no event in argon has more than {MOST_ELECTRONS:.0e}"
        raise InputError(what, where=archive.path)
    return whole.astype(np.int64)


def _same_length(archive: Archive, columns: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> None:
    for key, values in columns.items():
        if values.shape != shape or values.ndim != 1:
            what = f"{key!r} has the shape {values.shape}, the charges have {shape}"
            raise InputError(what, where=archive.path)


def _energies(archive: Archive, model: ChargeModel) -> Points:
    energy = archive.numbers("delta_energy").astype(np.float64)
    positions = _positions(archive, "r")
    if energy.shape != positions.shape[1:]:
        what = f"'delta_energy' has the shape {energy.shape}, there are {positions.shape[1]} positions"
        raise InputError(what, where=archive.path)
    bad = ~((energy >= 0) & (energy <= HIGHEST_ENERGY))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        what = f"'delta_energy' of point {first} is {energy[first]} keV: energies are 0 or more"
        raise InputError(what, where=archive.path)
    try:
        points = Points(positions, electrons(energy, model))
    except InputError as error:
        raise InputError(error.what, where=archive.path) from error
    points.optional["energy"] = energy.astype(np.float32)
    points.meta["charge_model"] = model.to_meta()
    points.notes.append(f"charges were made of deposited energies with the model {model.name!r}")
    return points


def _take_written(archive: Archive, points: Points) -> None:
    """Take over the columns that `save` writes."""
    n_points = points.positions.shape[1]
    for key in ("energy", "particle_id", "parent_id", "pdg", "creator"):
        if key in archive.arrays:
            values = archive.numbers(key)
            if values.shape != (n_points,):
                what = f"{key!r} has the shape {values.shape}, there are {n_points} positions"
                raise InputError(what, where=archive.path)
            if key == "energy":
                points.optional[key] = _deposits(values, archive.path)
            else:
                points.optional[key] = whole_numbers(values, key, archive.path)
    if "creator" in points.optional:
        names, codes = archive.arrays.get("creator_names"), points.optional["creator"]
        if names is None or names.dtype.kind != "U" or ((codes < 0) | (codes >= names.size)).any():
            what = "'creator' holds numbers of names that 'creator_names' does not have"
            raise InputError(what, where=archive.path)
        points.optional["creator"] = names[codes]
    if "bin_size" in archive.arrays:
        size = archive.numbers("bin_size")
        if size.size != 1 or not np.isfinite(size).all() or (size < 0).any():
            what = f"'bin_size' is {size.tolist()}, not the edge of a cube in m"
            raise InputError(what, where=archive.path)
        points.optional["bin_size"] = float(size.reshape(-1)[0])


def _deposits(values: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """Return energies of points; those that are not known are NaN."""
    # short numbers do not know the limit
    wide = values.astype(np.float64)
    bad = (wide < 0) | (wide > HIGHEST_ENERGY)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        what = f"'energy' of point {first} is {values[first]} keV: deposits are 0 or more, or NaN where not known"
        raise InputError(what, where=path)
    return values.astype(np.float32)


def whole_numbers(values: NDArray[Any], key: str, path: Path) -> NDArray[np.int32]:
    """Return a column as whole numbers of 32 bits.

    Raises
    ------
    InputError
        If one is not whole, not finite, or too large; the first is named.
    """
    limits = np.iinfo(np.int32)
    # all whole numbers of 32 bits are exact there
    wide = values.astype(np.float64)
    bad = ~((wide >= limits.min) & (wide <= limits.max)) | (wide != np.rint(wide))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        what = f"{key!r} of row {first} is {values[first]}: a whole number of 32 bits is needed"
        raise InputError(what, where=path)
    return values.astype(np.int32)


def _take_older(archive: Archive, points: Points) -> None:
    if "particle" in archive.arrays:
        kinds = archive.numbers("particle")
        _same_length(archive, {"particle": kinds}, points.num_e.shape)
        unknown = sorted({float(kind) for kind in np.unique(kinds)} - set(_KIND_TO_PDG))
        if unknown:
            what = f"'particle' has the value {unknown[0]:g}; 1 is an electron, 2 a photon, 3 a positron"
            raise InputError(what, where=archive.path)
        lookup = np.array([0, 11, 22, -11], dtype=np.int32)
        points.optional["pdg"] = lookup[kinds.astype(np.int64)]
    unused = [key for key in _OLDER_COLUMNS if key in archive.arrays]
    if unused:
        points.notes.append(f"columns without a place in a track were left: {', '.join(unused)}")
    known = {"r", "num_e", "particle", *_OLDER_COLUMNS, *_WRITTEN}
    strange = sorted(archive.arrays.keys() - known)
    if strange:
        points.notes.append(f"arrays of unknown meaning were left: {', '.join(strange)}")


def _hits(archive: Archive) -> NDArray[np.float64]:
    hits, n_charges = archive.numbers("hits"), archive.arrays["charge"].size
    # a row for each hit; with three hits that cannot be told from three rows of coordinates
    if hits.shape == (n_charges, 3):
        return np.ascontiguousarray(hits.T, dtype=np.float64)
    if hits.shape == (3, n_charges):
        return np.ascontiguousarray(hits, dtype=np.float64)
    what = f"'hits' has the shape {hits.shape}, there are {n_charges} charges"
    raise InputError(what, where=archive.path, hint="one row of x, y, z for each hit")


def _processed(archive: Archive, positions: NDArray[np.float64]) -> Points:
    charge = archive.numbers("charge").astype(np.float64)
    if charge.ndim != 1:
        what = f"'charge' has the shape {charge.shape}, not (n_points,)"
        raise InputError(what, where=archive.path)
    bad = ~(np.abs(charge) <= MOST_ELECTRONS)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        what = f"'charge' of point {first} is {charge[first]}: no event in argon has more than {MOST_ELECTRONS:.0e} electrons"
        raise InputError(what, where=archive.path)
    whole = np.rint(charge)
    points = Points(positions, whole.astype(np.int64))
    points.notes.append("processed hits: positions were taken to be metres")
    lost = float(charge.sum() - whole.sum())
    if (whole != charge).any():
        points.notes.append(
            f"charges were rounded to whole electrons; that changed their sum by {-lost:+.3g}"
        )
    return points


def arrays_of(track: Track, *, with_columns: bool = True) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of a track under the keys that `points_of` reads."""
    yield "r", np.ascontiguousarray(track.positions, dtype=np.float64)
    yield "num_e", np.ascontiguousarray(track.num_e, dtype=np.int64)
    if track.bin_size:
        yield "bin_size", np.array(track.bin_size)
    if not with_columns:
        return
    for key in ("energy", "particle_id", "parent_id", "pdg"):
        values = getattr(track, key)
        if values is not None:
            yield key, values
    if track.creator is not None:
        names, codes = np.unique(track.creator, return_inverse=True)
        yield "creator", codes.astype(np.int8 if names.size < 127 else np.int32)
        yield "creator_names", names
