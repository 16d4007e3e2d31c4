"""Truth records of the original tools, and what a `Truth` says in their words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.names import FOLDERS
from firstlight.detectors.lartpc.track import BELOW_ZERO, MOST_ELECTRONS, PARTICLES, Interactions, Truth
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Track

__all__ = ["both_energies", "count_of", "original_meta", "original_record", "plain", "truth_of_original"]

_KINDS = ("brem", "photo", "compton", "pair")
_NUMBERS = {1: "electron", 2: "photon", 3: "positron"}
_KEYS = {
    "num_electrons",
    "track_energy",
    "initial_particle_energy",
    "origin",
    "initial_direction",
    "first_interaction",
}
_UNKNOWN = {"n/a", "unknown", "none", ""}
_TOLD = 60  # letters of a value in a message


def plain(value: Any) -> Any:
    """Return a value with lists in place of arrays and tuples, and Python's numbers in place of NumPy's."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist()) if value.dtype.kind == "S" else value.tolist()
    return value.decode("latin-1") if isinstance(value, bytes) else value


def truth_of_original(
    truth: Mapping[str, Any], meta: Mapping[str, Any], where: Path
) -> tuple[Truth | None, list[str]]:
    """Return the truth that an original record holds, and what was noticed.

    Parameters
    ----------
    truth, meta : mapping
        As in the file.
    where : Path
        The file; folders of its path say the particle where the record does not.

    Returns
    -------
    truth : Truth or None
        None if the record does not say which particle, which energy or which direction.
    notes : list of str
        What was missing or mended.

    Raises
    ------
    InputError
        If a value has the wrong shape, is not finite, or is one that no particle can have (`Truth.check`).
    """
    notes: list[str] = []
    energy_key = "track_energy" if "track_energy" in truth else "initial_particle_energy"
    energy = truth.get(energy_key)
    particle = _particle(meta, where)
    missing = [
        name for name, value in (
            ("particle", particle), ("energy", energy), ("origin", truth.get("origin")),
            ("direction", truth.get("initial_direction")),
        ) if value is None
    ]  # fmt: skip
    if particle is None or missing:
        return None, [f"the truth record does not say: {', '.join(missing)}"]
    interactions = _interactions(truth, where)
    origin = _vector(truth["origin"], "origin", where)
    first = _word(truth.get("first_interaction", ""), "first_interaction", where)
    first = "" if first.lower() in _UNKNOWN else first
    if particle == "photon" and not first and _absorbed_at(origin, interactions):
        # the original had no word for it and wrote 'n/a'
        first = "photo"
        notes.append("first interaction 'n/a' was photoelectric absorption: one stands at the origin")
    unread = [key for key in truth if key not in _KEYS and str(key).partition("_")[2] not in _KINDS]
    if unread:
        notes.append(f"keys of the truth record without a place in Truth: {', '.join(map(str, unread))}")
    found = Truth(
        particle,
        float(_numbers(energy, (), energy_key, where)),
        origin,
        _vector(truth["initial_direction"], "initial_direction", where),
        first if particle == "photon" else "",
        interactions,
    )
    found.check(where, keys={"energy": energy_key, "direction": "initial_direction"})
    return found, notes


def _particle(meta: Mapping[str, Any], where: Path) -> str | None:
    """Return the primary: of the record, of the steering file of PENELOPE in it, or of the folders."""
    steering = meta.get("penelope_input")
    steering = steering if isinstance(steering, dict) else {}
    for said in (meta.get("initial_particle"), steering.get("initial_particle"), *reversed(where.parts)):
        if isinstance(said, int | np.integer) and int(said) in _NUMBERS:
            return _NUMBERS[int(said)]
        if isinstance(said, str) and said.lower().rstrip("s") in PARTICLES:
            return said.lower().rstrip("s")
    return None


def _numbers(value: Any, shape: tuple[int, ...] | None, key: str, where: Path) -> NDArray[np.float64]:
    try:
        values = np.asarray(value)
    except ValueError:  # lists of lists of different lengths
        values = np.array(None)
    # texts are not made into numbers: one of no letters may have any shape
    if values.dtype.kind not in "buif" and values.size:
        what = f"{key!r} of the truth record is {_short(value)!r}, not numbers"
        raise InputError(what, where=where)
    values = values.astype(np.float64) if values.size else np.zeros(values.shape)
    if shape is not None and values.shape != shape:
        what = f"{key!r} of the truth record has the shape {values.shape}, not {shape}"
        raise InputError(what, where=where)
    if not np.isfinite(values).all():
        what = f"{key!r} of the truth record is not finite: {_short(values)}"
        raise InputError(what, where=where)
    return values


def _short(value: Any) -> str:
    """Return a value for a message; of an array that is too large to be told, its shape."""
    if isinstance(value, np.ndarray):
        return f"an array of the shape {value.shape}" if value.size > _TOLD else str(value.tolist())
    return str(value)[:_TOLD]


def _word(value: Any, key: str, where: Path) -> str:
    word = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    if not isinstance(word, str):
        what = f"{key!r} of the truth record is {_short(value)!r}, not a word"
        raise InputError(what, where=where)
    return str(word)


def count_of(value: Any, key: str, where: Path) -> int:
    """Return a number of electrons or points as it stands in a record.

    Raises
    ------
    InputError
        If it is not one whole number, negative, or larger than any event has.
    """
    values = _numbers(value, (), key, where)
    if not (0 <= values <= MOST_ELECTRONS and values == np.rint(values)):
        what = f"{key!r} of the truth record is {values:g}: it is a count from 0 to {MOST_ELECTRONS:.0e}"
        raise InputError(what, where=where)
    return int(values)


def _vector(value: Any, key: str, where: Path) -> NDArray[np.float64]:
    # some releases kept columns of shape (3, 1)
    values = _numbers(value, None, key, where)
    return _numbers(values.reshape(-1) if values.shape in {(3, 1), (1, 3)} else values, (3,), key, where)


def _interactions(truth: Mapping[str, Any], where: Path) -> Interactions:
    kinds, energies, positions = [], [], []
    for kind in _KINDS:
        if truth.get(f"energy_{kind}") is None or truth.get(f"r_{kind}") is None:
            continue
        energy = _numbers(truth[f"energy_{kind}"], None, f"energy_{kind}", where).reshape(-1)
        if (energy < BELOW_ZERO).any():
            what = f"'energy_{kind}' of the truth record has the value {energy.min():g} keV: energies are 0 or more"
            raise InputError(what, where=where)
        position = _numbers(truth[f"r_{kind}"], None, f"r_{kind}", where)
        if position.shape != (3, energy.size) and (position.size or energy.size):
            what = f"'r_{kind}' of the truth record has the shape {position.shape}, there are {energy.size} energies"
            raise InputError(what, where=where)
        kinds.append(np.full(energy.size, kind, dtype="U12"))
        energies.append(energy)
        positions.append(position.reshape(3, energy.size))
    if not kinds:
        return Interactions.none()
    together = np.concatenate(kinds)
    return Interactions(
        together,
        np.concatenate(energies),
        np.concatenate(positions, axis=1),
        np.full(together.size, -1, dtype=np.int32),
    )


def _absorbed_at(origin: NDArray[np.float64], interactions: Interactions) -> bool:
    absorbed = interactions.of("photo").position
    return bool((np.abs(absorbed - origin[:, None]).max(axis=0, initial=0.0) < 1e-9).any())


def original_record(track: Track) -> dict[str, Any]:
    """Return the truth of a track with the keys of the original (plain NumPy values).

    Of the interactions, those kinds that the original knows are written. A first interaction that is not known is ``'n/a'``.

    Raises
    ------
    InputError
        If the track has no truth.
    """
    truth = track.truth
    if truth is None:
        what = "has no truth record, which the original form needs"
        raise InputError(what, where=track.name or "track", hint="save(track, path): the own form needs none")
    record: dict[str, Any] = {
        "num_electrons": np.int64(track.charge),
        "track_energy": float(truth.energy),
        "origin": np.array(truth.origin, dtype=np.float64),
        "initial_direction": np.array(truth.direction, dtype=np.float64),
        "first_interaction": truth.first_interaction or "n/a",
    }
    of_kind = {kind: truth.interactions.of(kind, above=-np.inf) for kind in _KINDS}
    record |= {f"r_{kind}": np.array(of_kind[kind].position, dtype=np.float64) for kind in _KINDS}
    record |= {f"energy_{kind}": np.array(of_kind[kind].energy, dtype=np.float64) for kind in _KINDS}
    return record


def both_energies(truth: dict[str, Any]) -> dict[str, Any]:
    """Return a truth record that answers to the name of the energy of every release."""
    for key, other in (
        ("track_energy", "initial_particle_energy"),
        ("initial_particle_energy", "track_energy"),
    ):
        if key in truth and other not in truth:
            truth = {**truth, other: truth[key]}
    return truth


def original_meta(track: Track) -> dict[str, Any]:
    """Return what the original kept beside the truth; where the track came from such a file, what stood there."""
    kept = track.meta.get("original")
    if isinstance(kept, dict):
        return dict(kept)
    particle = track.truth.particle if track.truth else ""
    folders = {single: folder for folder, single in FOLDERS.items()}
    return {
        "simulation_date": "",
        "material": str(track.meta.get("material") or "LAr"),
        "initial_particle": folders.get(particle, ""),
        "energy": float(track.truth.energy) if track.truth else 0.0,
        "particle_ids": {folders[name]: number for number, name in _NUMBERS.items()},
    }
