"""Truth and origin of a track as JSON: the half of the own form that is not arrays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight import __version__
from firstlight.detectors.lartpc.reading.original import plain
from firstlight.detectors.lartpc.track import INTERACTION_KINDS, PARTICLES, Arm, Interactions, Truth
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Track

__all__ = ["FORMAT", "VERSION", "checked_version", "is_record", "read_record", "record_of", "truth_of_record"]

FORMAT = "firstlight lartpc track"
VERSION = 1
_LARGEST = 256 * 2**20


def record_of(track: Track) -> dict[str, Any]:
    """Return all of a track but its points, as values that JSON knows."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "written_by": f"firstlight {__version__}",
        "name": track.name,
        # of the points that belong to it
        "n_points": len(track),
        "num_electrons": track.charge,
        "truth": None if track.truth is None else _record_of_truth(track.truth),
        "meta": plain(dict(track.meta)),
    }


def _record_of_truth(truth: Truth) -> dict[str, Any]:
    found = truth.interactions
    return {
        "particle": truth.particle,
        "energy_keV": float(truth.energy),
        "origin_m": truth.origin.tolist(),
        "direction": truth.direction.tolist(),
        "first_interaction": truth.first_interaction,
        "interactions": {
            "kind": found.kind.tolist(),
            "energy_keV": found.energy.tolist(),
            "position_m": found.position.tolist(),
            "particle_id": found.particle_id.tolist(),
        },
        "arms": [
            {"pdg": int(arm.pdg), "kinetic_energy_keV": float(arm.kinetic_energy), "direction": arm.direction.tolist()}
            for arm in truth.arms
        ],
    }  # fmt: skip


def is_record(content: object) -> bool:
    """Return whether a value is a record of this package."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record in a JSON file; None if it is JSON of something else.

    Raises
    ------
    InputError
        If it cannot be read, is no JSON, or was written in a later version of the format.
    """
    try:
        if path.stat().st_size > _LARGEST:
            what = f"is larger than {_LARGEST:,} bytes: no record of a track"
            raise InputError(what, where=path)
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(what, where=path) from error
    except (ValueError, RecursionError) as error:
        what = f"is not JSON: {error}"
        raise InputError(what, where=path, hint="was it copied whole?") from error
    return checked_version(content, path) if is_record(content) else None


def checked_version(content: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return a record of this package, wherever it was found; raise `InputError` for one of a later version."""
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        what = (
            f"has version {content.get('version')!r} of the track format; this program reads up to {VERSION}"
        )
        raise InputError(what, where=where, hint="a newer firstlight")
    return dict(content)


def truth_of_record(content: Mapping[str, Any], where: Path) -> Truth | None:
    """Return the truth in a record.

    Raises
    ------
    InputError
        If a value is missing, of the wrong kind, or one that no particle can have (`Truth.check`).
    """
    truth = content.get("truth")
    if truth is None:
        return None
    try:
        found = _truth(truth)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        what = f"the truth in this record is damaged: {type(error).__name__}: {error}"
        raise InputError(what, where=where) from error
    found.check(where, keys={"energy": "energy_keV", "origin": "origin_m"})
    return found


def _truth(truth: Mapping[str, Any]) -> Truth:
    if truth["particle"] not in PARTICLES:
        what = f"unknown particle {truth['particle']!r}"
        raise ValueError(what)
    found = truth["interactions"]
    kind = np.array(found["kind"], dtype="U12")
    strange = set(kind.tolist()) - set(INTERACTION_KINDS)
    if strange:
        what = f"unknown interactions {sorted(strange)}"
        raise ValueError(what)
    interactions = Interactions(
        kind,
        _numbers(found, "energy_keV", (kind.size,)),
        _numbers(found, "position_m", (3, kind.size)),
        np.array(found["particle_id"], dtype=np.int32).reshape(kind.size),
    )
    arms = tuple(
        Arm(int(arm["pdg"]), float(arm["kinetic_energy_keV"]), _numbers(arm, "direction", (3,)))
        for arm in truth["arms"]
    )
    return Truth(
        truth["particle"],
        float(truth["energy_keV"]),
        _numbers(truth, "origin_m", (3,)),
        _numbers(truth, "direction", (3,)),
        str(truth["first_interaction"]),
        interactions,
        arms,
    )


def _numbers(content: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.array(content[key], dtype=np.float64)
    if array.shape != shape and array.size:
        what = f"{key!r} has the shape {array.shape} instead of {shape}"
        raise ValueError(what)
    bad = ~np.isfinite(array)
    if bad.any():
        what = f"{key!r} has the value {array[bad].flat[0]}, which is not finite"
        raise ValueError(what)
    return array.reshape(shape)
