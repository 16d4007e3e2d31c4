"""Simulated tracks with known truth, in the folders and files of the originals.

``LAr/{electrons|photons|positrons}/E{keV}/TrackE{keV}_D{date}_T{time}.npz`` with a truth record beside each track; and
``truth.json`` beside the tree, which tells what was made and which faults were planted. The transport stands in `simulation`.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from firstlight.detectors.lartpc.simulation.conditions import Conditions
    from firstlight.detectors.lartpc.track import Track

__all__ = ["FAULTS", "simulate"]

FAULTS = {
    "charge_scale": "the charges of all tracks of the highest energy are 30 % too high, as those of the sample are",
    "missing_truth": "a track has no truth record",
    "truncated": "the file of a track ends in its middle",
}
"""What can be planted."""
_SCALE = 1.3
_TRUTH = "truth.json"
_FIRST = datetime(2025, 1, 1, tzinfo=UTC)  # names have a time: this one, and a minute for each track


def simulate(
    folder: Path | str,
    seed: int = 1,
    *,
    particles: Sequence[str] | str = ("electron", "photon"),
    energies: Sequence[float] | float = (1.0, 3.0, 5.0, 10.0),
    n_tracks: int = 10,
    material: str = "LAr",
    form: Literal["own", "original"] = "own",
    faults: bool | str | Iterable[str] = True,
    density: float | None = None,
    temperature: float = 87.3,
    field: float = 0.5,
    charge_model: str = "constant",
    point_spacing: float = 10e-6,
    direction: Sequence[float] | None = None,
) -> list[Path]:
    """Write a tree of tracks, and what is true of it.

    Parameters
    ----------
    folder : Path or str
        Where the tree goes. Tracks of an older simulation of the same particle and energy are replaced, others stay.
    seed : int
        With the other parameters it fixes every byte. A track depends on the seed, its particle, energy and number, not on how
        many others there are.
    particles : sequence of str
        Of ``"electron"``, ``"positron"``, ``"photon"``.
    energies : sequence of float
        Kinetic energies [MeV], 0.001 to 100; whole keV, as names of folders are.
    n_tracks : int
        Tracks of each particle and energy.
    material : str
        Name of the uppermost folder; argon is what is simulated.
    form : {"own", "original"}
        npz with JSON; or npz with a pickle, as the original tools write and read.
    faults : bool, str or iterable of str
        What is broken: True is all of `FAULTS`, False none; or names: ``"charge_scale"`` (needs two energies),
        ``"missing_truth"``, ``"truncated"`` (each another track).
    density : float, optional
        Of the argon [g/cm3]; that under its own vapour at the temperature if not given.
    temperature : float
        [K].
    field : float
        Drift field [kV/cm], for the recombination.
    charge_model : str
        ``"constant"``, ``"birks"``, ``"box"``, or any set of parameters of `recombination.RECOMBINATION`.
    point_spacing : float
        Length of path that a point stands for [m].
    direction : sequence of float, optional
        In which all primaries set out; at random if not given.

    Returns
    -------
    list of Path
        The folders of tracks, one for each particle and energy.

    Raises
    ------
    ConfigError
        If a parameter is impossible.
    """
    from firstlight.detectors.lartpc.reading.names import track_folder
    from firstlight.detectors.lartpc.simulation.conditions import Conditions
    from firstlight.files import write_json

    folder = Path(folder)
    kinds = [particles] if isinstance(particles, str) else list(particles)
    mega = [float(energies)] if isinstance(energies, int | float) else [float(energy) for energy in energies]
    wanted = _faults(faults)
    _check(kinds, mega, n_tracks, form, material)
    conditions = Conditions(density, temperature, field, charge_model, point_spacing)
    places = [
        track_folder(folder, particle, 1e3 * energy, material=material)
        for particle in kinds
        for energy in mega
    ]
    earlier = _earlier(folder, places)
    made: list[dict[str, Any]] = []
    folders = []
    high = max(mega) if "charge_scale" in wanted and len(mega) > 1 else None
    for particle in kinds:
        for energy in mega:
            place = track_folder(folder, particle, 1e3 * energy, material=material)
            folders.append(place)
            scale = _SCALE if energy == high else 1.0
            made += _write(
                folder, place, particle, 1e3 * energy, n_tracks, seed, conditions, direction, form, scale
            )
    told = _plant(folder, made, wanted, seed)
    if high is not None:
        told.insert(0, {"fault": "charge_scale", "energy": 1e3 * high, "factor": _SCALE})
    record = {
        "seed": seed,
        "particles": kinds,
        "energies": [1e3 * energy for energy in mega],
        "n_tracks": n_tracks,
        "form": form,
        "conditions": asdict(conditions) | {"density": conditions.mass_density},
        "faults": [*earlier["faults"], *told],
        "tracks": [*earlier["tracks"], *made],
        "earlier": earlier["earlier"],
    }
    write_json(folder / _TRUTH, record)
    return folders


# ---------------------------------------------------------------- what is asked for


def _faults(faults: bool | str | Iterable[str]) -> list[str]:
    if isinstance(faults, bool):
        return list(FAULTS) if faults else []
    named = [faults] if isinstance(faults, str) else list(faults)
    if named in (["all"], ["none"]):
        return list(FAULTS) if named == ["all"] else []
    for name in named:
        if name not in FAULTS:
            raise ConfigError.unknown("fault", name, [*FAULTS, "all", "none"])
    return named


def _check(particles: list[str], energies: list[float], n_tracks: int, form: str, material: str) -> None:
    from firstlight.detectors.lartpc.track import PARTICLES

    for particle in particles:
        if particle not in PARTICLES:
            raise ConfigError.unknown("particle", particle, PARTICLES)
    for name, values in (("particles", particles), ("energies", energies)):
        if not values or len(set(values)) != len(values):
            what = f"{name} = {values} cannot be"
            raise ConfigError(what, hint="one or more, each once")
    for energy in energies:
        whole = round(1e3 * energy)
        if not 1 <= whole <= 100_000 or abs(1e3 * energy - whole) > 1e-6:
            what = f"tracks of {energy:g} MeV cannot be made"
            raise ConfigError(what, hint="0.001 to 100 MeV, in whole keV")
    if not 1 <= n_tracks <= 100_000:
        what = f"n_tracks = {n_tracks} cannot be"
        raise ConfigError(what, hint="1 to 100000")
    if form not in ("own", "original"):
        raise ConfigError.unknown("form", form, ("own", "original"))
    if not material.isidentifier():
        what = f"material = {material!r} is no name of a folder"
        raise ConfigError(what, hint="letters, digits and _: 'LAr'")


def _earlier(folder: Path, places: Sequence[Path]) -> dict[str, Any]:
    """Return what stands of older simulations in other folders; their tracks in these folders are removed.

    Only files that the record names are removed, and nothing else.
    """
    import json

    try:
        record = json.loads((folder / _TRUTH).read_text(encoding="utf-8"))
        tracks = [dict(track) for track in record["tracks"]]
        names = [str(track["file"]) for track in tracks]
        faults = [dict(fault) for fault in record.get("faults", [])]
    except (OSError, ValueError, KeyError, TypeError):
        return {"tracks": [], "faults": [], "earlier": []}
    again = {place.resolve() for place in places}
    kept = []
    for name, track in zip(names, tracks, strict=True):
        stem = (folder / name).resolve()
        if stem.parent not in again:
            kept.append(track)
        elif stem.name.startswith("TrackE"):
            for ending in (".npz", ".json", ".pickle"):
                stem.with_name(stem.name.removesuffix(".npz") + ending).unlink(missing_ok=True)
    files = {track["file"] for track in kept}
    energies = {track.get("energy") for track in kept}
    call = {key: value for key, value in record.items() if key not in ("tracks", "faults", "earlier")}
    return {
        "tracks": kept,
        "faults": [
            fault
            for fault in faults
            if (fault["file"] in files if "file" in fault else fault.get("energy") in energies)
        ],
        "earlier": [*record.get("earlier", []), call] if kept else [],
    }


# ---------------------------------------------------------------- tracks


def _write(
    root: Path,
    place: Path,
    particle: str,
    energy: float,
    n_tracks: int,
    seed: int,
    conditions: Conditions,
    direction: Sequence[float] | None,
    form: str,
    scale: float,
) -> list[dict[str, Any]]:
    """Write the tracks of a particle and an energy [keV]; return what is true of them."""
    from firstlight.detectors.lartpc.reading.names import track_name
    from firstlight.detectors.lartpc.reading.tracks import save, save_original
    from firstlight.detectors.lartpc.simulation.generate import simulate_tracks
    from firstlight.detectors.lartpc.track import PARTICLES

    own = np.random.SeedSequence(seed, spawn_key=(list(PARTICLES).index(particle), round(energy)))
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    tracks = simulate_tracks(
        particle, round(energy), n_tracks, own, conditions=conditions, direction=direction
    )
    for number, track in enumerate(tracks):
        # microseconds tell tracks of different seeds apart
        words = np.random.SeedSequence(seed, spawn_key=(*own.spawn_key, number)).generate_state(1)
        made = _FIRST + timedelta(minutes=number, microseconds=int(words[0]) % 1_000_000)
        path = place / f"{track_name(energy, made)}.npz"
        kept = _scaled(track, scale)
        if form == "own":
            save(kept, path, flush=False)
        else:
            save_original(kept, path, flush=False)
        rows.append(_row(path.relative_to(root), kept))
    return rows


def _scaled(track: Track, scale: float) -> Track:
    """Return the track with its charges as a generator with another yield has them; the track itself does not say so."""
    return track if scale == 1 else track.with_charge(np.floor(track.num_e * scale + 0.5).astype(np.int64))


def _row(file: Path, track: Track) -> dict[str, Any]:
    truth = track.truth
    row: dict[str, Any] = {"file": file.as_posix(), "num_electrons": track.charge, "points": len(track)}
    if truth is not None:
        row |= {
            "particle": truth.particle,
            "energy": truth.energy,
            "first_interaction": truth.first_interaction,
            "radiated": truth.radiated,
            "arms": [arm.kinetic_energy for arm in truth.arms],
        }
    return row


def _plant(folder: Path, made: list[dict[str, Any]], wanted: list[str], seed: int) -> list[dict[str, Any]]:
    """Break single tracks, each fault another one; return which."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(99,)))
    order = rng.permutation(len(made))
    single = [fault for fault in ("missing_truth", "truncated") if fault in wanted]
    told = []
    for fault, number in zip(single, order, strict=False):
        path = folder / made[number]["file"]
        if fault == "missing_truth":
            for ending in (".json", ".pickle"):
                path.with_suffix(ending).unlink(missing_ok=True)
        else:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) * 2 // 3])
        told.append({"fault": fault, "file": made[number]["file"]})
    return told
