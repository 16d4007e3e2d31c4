"""One track, read from any form in which it stands on the disk; and what writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.arrays import Points, points_of, read_npz
from firstlight.detectors.lartpc.reading.charges import ChargeModel, charge_model
from firstlight.detectors.lartpc.reading.names import Existing, TrackName, find
from firstlight.detectors.lartpc.reading.original import (
    both_energies,
    count_of,
    original_meta,
    original_record,
    plain,
    truth_of_original,
)
from firstlight.detectors.lartpc.reading.pickles import read_truth_pickle
from firstlight.detectors.lartpc.reading.records import (
    checked_version,
    is_record,
    read_record,
    truth_of_record,
)
from firstlight.detectors.lartpc.reading.writing import save, save_original
from firstlight.detectors.lartpc.track import MOST_ELECTRONS, Track
from firstlight.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from firstlight.detectors.lartpc.track import Truth

__all__ = ["has_truth", "load", "load_raw_truth", "save", "save_original"]

_ORIGIN = {
    "source": "PENELOPE",
    "density": None,
    "temperature": None,
    "charge_scale": 1.0,
    "seed": None,
}  # fmt: skip


@dataclass
class _Record:
    """What stands beside the points."""

    truth: Truth | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    num_electrons: int | None = None
    n_points: int | None = None
    file: Path | None = None


def load(
    path: str | Path,
    *,
    form: str | None = None,
    truth: bool = True,
    event: int | None = None,
    model: str | ChargeModel | None = None,
) -> Track:
    """Read one track.

    Parameters
    ----------
    path : str or Path
        With or without ending, in any spelling that `firstlight.detectors.lartpc.reading.names.find` understands; or an HDF5
        file of edep-sim or GAMPixPy, or a text dump of PENELOPE.
    form : str, optional
        ``"raw"`` (.npz), ``"compressed"`` (.c.npz) or ``"energies"`` (.p.npz); without it the one the path names, or else the
        first of these that is there.
    truth : bool
        Read the truth record too. Without it only points and their columns are read.
    event : int, optional
        Of a file of many events: which one. Needed if there is more than one.
    model : str or ChargeModel, optional
        How energies become electrons in files that have no charges: of
        `firstlight.detectors.lartpc.reading.charges.DEPOSIT_MODELS`. ``"gampy"`` for those of PENELOPE if not given, as the
        original does; ``"constant"`` for those of edep-sim.

    Returns
    -------
    Track
        Its ``meta["notes"]`` say what was missing, converted or left. ``truth`` is None where there is no record.

    Raises
    ------
    InputError
        If there is no such track; if a file is damaged or refused; if points and record do not belong together.
    """
    found = find(path)
    if "other" in found.files:
        return _load_other(found.files["other"], event, model)
    chosen, file = found.points(form)
    return _load_points(found, chosen, file, truth=truth, model=charge_model(model or "gampy"))


def _load_other(file: Path, event: int | None, model: str | ChargeModel | None) -> Track:
    """Return the track in a file of another kind, told by its first bytes and not by its name."""
    with file.open("rb") as stream:
        first = stream.read(8)
    if first == b"\x89HDF\r\n\x1a\n":
        from firstlight.detectors.lartpc.reading.segments import open_events

        return open_events(file, model=model or "constant").only(event)
    if first.startswith((b"PK", b"\x93NUMPY")) or not first:
        existing = Existing(file.with_name(file.stem), {"raw": file})
        return _load_points(existing, "raw", file, truth=True, model=charge_model(model or "gampy"))
    from firstlight.detectors.lartpc.reading.penelope import looks_like_penelope, read_penelope

    if looks_like_penelope(file):
        return read_penelope(file, model=model or "gampy")
    known = ["npz archives", "HDF5 of edep-sim or GAMPixPy", "text dumps of PENELOPE"]
    what = f"not a file of tracks: it begins with {first!r}"
    raise InputError(what, where=file, known=known)


def _load_points(found: Existing, form: str, file: Path, *, truth: bool, model: ChargeModel) -> Track:
    points = points_of(read_npz(file), model)
    record = _read_record(found) if truth else _Record(notes=["the truth record was not asked for"])
    meta = {**record.meta, **points.meta}
    if form != "raw":
        meta["form"] = form
    notes = record.notes + points.notes
    _compare(record, points, form, file, notes)
    if notes:
        meta["notes"] = notes
    if form != "energies" and record.num_electrons not in (None, int(points.num_e.sum())):
        meta["recorded_electrons"] = record.num_electrons
    try:
        return Track(
            points.positions, points.num_e, record.truth, meta, name=found.stem.name, **points.optional
        )
    except InputError as error:
        raise InputError(error.what, where=file) from error


def _compare(record: _Record, points: Points, form: str, file: Path, notes: list[str]) -> None:
    """Note that a record speaks of other points; refuse them where both were written together."""
    n_points, charge = points.num_e.size, int(points.num_e.sum())
    other_points = record.n_points is not None and record.n_points != n_points
    other_charge = record.num_electrons is not None and record.num_electrons != charge
    if record.n_points is not None and form == "raw" and (other_points or other_charge):
        what = (
            f"the record says {record.n_points} points with {record.num_electrons} electrons, {file.name} has {n_points} with "
            f"{charge}: they do not belong together"
        )
        raise InputError(what, where=record.file, hint="save the track again")
    if other_charge and form != "energies":
        notes.append(f"the truth record says {record.num_electrons} electrons, the points have {charge}")


def _read_record(found: Existing) -> _Record:
    """Return the truth record: of this package, or of the original, or arrays of the processed form."""
    files = found.files
    notes = []
    if "json" in files:
        content = read_record(files["json"])
        if content is not None:
            return _own_record(content, files["json"])
        notes.append(f"{files['json'].name} is no record of a track")
    if "pickle" in files:
        record = _original_record(files["pickle"])
    elif "truth_arrays" in files:
        record = _processed_record(found)
    else:
        record = _Record(meta={"charge_model": None, **_ORIGIN, "source": None})
        notes.append("no truth record was found")
    record.notes = notes + record.notes
    return record


def _own_record(content: dict[str, Any], file: Path) -> _Record:
    meta = content.get("meta")
    if not isinstance(meta, dict):
        what = "has no 'meta': the record is damaged"
        raise InputError(what, where=file)
    notes = meta.pop("notes", [])
    if "recorded_electrons" in meta:
        _count(meta, "recorded_electrons", file)
    scale = meta.get("charge_scale")
    if scale is not None and not (type(scale) in (int, float) and 0 <= scale < np.inf):
        what = f"'charge_scale' is {str(scale)[:60]!r}, not a number: the record is damaged"
        raise InputError(what, where=file)
    return _Record(
        truth_of_record(content, file),
        meta,
        [str(note) for note in notes] if isinstance(notes, list) else [],
        _count(content, "num_electrons", file),
        _count(content, "n_points", file),
        file,
    )


def _count(content: dict[str, Any], key: str, file: Path) -> int:
    value = content.get(key)
    if type(value) is not int:
        what = f"has no number {key!r}: the record is damaged"
        raise InputError(what, where=file)
    if not 0 <= value <= MOST_ELECTRONS:
        what = (
            f"{key!r} is {str(value)[:60]}, a count is from 0 to {MOST_ELECTRONS:.0e}: the record is damaged"
        )
        raise InputError(what, where=file)
    return value


def _original_record(file: Path) -> _Record:
    truth, meta = read_truth_pickle(file)
    own = meta.get("firstlight")
    if is_record(own):
        # written by save_original: nothing was lost on the way
        record = _own_record(checked_version(plain(own), file), file)
        record.n_points = None
        return record
    found, notes = truth_of_original(truth, meta, file)
    count = truth.get("num_electrons")
    material = meta.get("material")
    kept = {
        **_ORIGIN,
        "material": material if isinstance(material, str) and material else None,
        "charge_model": None,
        "software": "Gampy",
        "original": plain(meta),
    }
    if isinstance(meta.get("penelope_input"), dict):
        # W and recombination are not in the file; these are the tools' of that time
        kept["charge_model"] = charge_model("gampy").to_meta()
    return _Record(found, kept, notes, None if count is None else count_of(count, "num_electrons", file))


def _processed_record(found: Existing) -> _Record:
    file = found.files["truth_arrays"]
    archive = read_npz(file, tolerate_objects=True)
    notes = [f"{file.name}: {key!r} was refused, an array of Python objects" for key in archive.refused]
    values: dict[str, Any] = {
        key: array[()] if array.ndim == 0 else array for key, array in archive.arrays.items()
    }
    name = TrackName.of(found.stem.name)
    if name is not None and not {"track_energy", "initial_particle_energy"} & values.keys():
        values["track_energy"] = name.energy
    truth, more = truth_of_original(values, values, file)
    return _Record(truth, {**_ORIGIN, "charge_model": None, "source": None}, notes + more)


def has_truth(path: str | Path) -> bool:
    """Return whether a truth record stands beside the points of a track, so that `load_raw_truth` returns one.

    A ``.json`` that is no record of a track is none, as for `load`. No points are read.

    Parameters
    ----------
    path : str or Path
        As for `load`. Files of many events, and text dumps, have nothing beside them.

    Raises
    ------
    InputError
        If there is no such track, or a record is damaged or refused.
    """
    found = find(path)
    content = read_record(found.files["json"]) if "json" in found.files else None
    if content is not None:
        return truth_of_record(content, found.files["json"]) is not None
    if "pickle" in found.files:
        return True
    return "truth_arrays" in found.files and _processed_record(found).truth is not None


def load_raw_truth(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the truth record of a track with the keys of the original.

    Parameters
    ----------
    path : str or Path
        As for `load`.

    Returns
    -------
    truth : dict
        As it stands in a truth pickle; of the own form, what would stand there. The energy has both names that it ever had:
        ``track_energy`` and ``initial_particle_energy``.
    meta : dict
        What the original kept beside it.

    Raises
    ------
    InputError
        If there is no truth record (`has_truth` tells), or it is damaged or refused.
    """
    found = find(path)
    content = read_record(found.files["json"]) if "json" in found.files else None
    if content is None and "pickle" in found.files:
        truth, meta = read_truth_pickle(found.files["pickle"])
        meta = {key: value for key, value in meta.items() if key != "firstlight"}
        return both_energies(dict(truth)), meta
    track = load(path)
    if track.truth is None:
        what = "has no truth record"
        names = sorted(file.name for file in found.files.values())
        raise InputError(
            what, where=found.stem, known=names, hint=f"a {found.stem.name}.json or .pickle beside it"
        )
    return both_energies(original_record(track)), original_meta(track)
