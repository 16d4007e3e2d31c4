"""Text dumps of PENELOPE (pentracks): one line for each step with energy, in eV and cm.

Columns: step, number of the particle, its kind (1 electron, 2 photon, 3 positron), four labels of its origin (generation, kind
of its parent, interaction that made it, atomic transition), interaction, whether it was absorbed, energy, energy loss, length of
the step, x, y, z. Dumps of before 2023 lack the step. The steering file ``pentracks.in`` beside a dump says what the
primary was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.charges import ChargeModel, Survival, charge_model, electrons
from firstlight.detectors.lartpc.track import Interactions, Track, Truth
from firstlight.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COLUMNS", "Dump", "looks_like_penelope", "read_dump", "read_penelope", "read_steering"]

COLUMNS = (
    "step", "particle_id", "kind", "generation", "parent_kind", "parent_interaction", "transition", "interaction",
    "absorbed", "energy", "energy_loss", "step_length", "x", "y", "z",
)  # fmt: skip

_ELECTRON, _PHOTON, _POSITRON = 1, 2, 3
_PDG = np.array([0, 11, 22, -11], dtype=np.int32)
_NAMES = {_ELECTRON: "electron", _PHOTON: "photon", _POSITRON: "positron"}
_SOFT, _BREM = 1, 4
_CM = 1e-2
_KEV = 1e-3
_PAIR_MASS = 1022.0  # keV, as the original subtracts it
# interactions of charged particles and of photons, by the code of PENELOPE
_OF_CHARGED = {3: "delta", 4: "brem", 5: "delta", 6: "annihilation"}
_OF_PHOTONS = {2: "compton", 3: "photo", 4: "pair"}
_HEADER = 20
_LARGEST = 4 * 2**30
_LARGEST_NUMBER = 1e15


@dataclass(frozen=True)
class Dump:
    """Steps of a dump.

    Parameters
    ----------
    columns : dict of str to ndarray, shape (n,)
        By `COLUMNS`; energies in keV, lengths and positions in m.
    date : str
        What the head of the file says.
    """

    columns: dict[str, NDArray[Any]]
    date: str

    def __len__(self) -> int:
        return int(self.columns["energy"].size)

    @property
    def positions(self) -> NDArray[np.float64]:
        """Positions [m], shape (3, n)."""
        return np.stack([self.columns[axis] for axis in "xyz"])


def looks_like_penelope(path: Path) -> bool:
    """Return whether a file begins like a dump: few lines of text, then a line of 14 or 15 numbers."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8192)
    except OSError:
        return False
    return b"\0" not in head and _first_row(head.decode("latin-1").splitlines()[:-1] or [""]) is not None


def _first_row(lines: list[str]) -> tuple[int, int] | None:
    """Return the number of lines before the first row of numbers, and how many numbers it has."""
    for number, line in enumerate(lines[:_HEADER]):
        words = line.split()
        if len(words) in {14, 15} and all(re.fullmatch(r"[-+.\dEeDd]+", word) for word in words):
            return number, len(words)
    return None


def read_dump(path: str | Path) -> Dump:
    """Return the steps of a text dump in which energy was lost.

    Raises
    ------
    InputError
        If the file is missing, no dump, cut off in a line, or has values that make no sense.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            what = f"is larger than {_LARGEST:,} bytes"
            raise InputError(what, where=path)
        with path.open(encoding="latin-1") as stream:
            head = [line.rstrip("\n") for line, _ in zip(stream, range(_HEADER), strict=False)]
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(what, where=path) from error
    found = _first_row(head)
    if found is None:
        what = f"not a dump of PENELOPE: no line of 14 or 15 numbers among the first {_HEADER}"
        raise InputError(what, where=path)
    n_before, n_columns = found
    try:
        table = np.loadtxt(path, skiprows=n_before, ndmin=2, encoding="latin-1")
    except ValueError as error:
        what = f"a row after line {n_before} does not have {n_columns} numbers: {error}"
        raise InputError(what, where=path, hint="was it copied whole?") from error
    if n_columns == len(COLUMNS) - 1:
        table = np.column_stack([np.zeros(table.shape[0]), table])
    _check(table, path, n_before)
    table = table[table[:, COLUMNS.index("energy_loss")] > 0]
    scale = {"energy": _KEV, "energy_loss": _KEV, "step_length": _CM, "x": _CM, "y": _CM, "z": _CM}
    columns: dict[str, NDArray[Any]] = {
        name: table[:, index] * scale[name] if name in scale else table[:, index].astype(np.int64)
        for index, name in enumerate(COLUMNS)
    }
    date = " ".join(" ".join(head[:n_before]).split())
    return Dump(columns, date)


def _check(table: NDArray[np.float64], path: Path, n_before: int) -> None:
    kinds = table[:, COLUMNS.index("kind")]
    # larger numbers are no labels, energies or places, and have no whole number
    bad = ~(np.abs(table) <= _LARGEST_NUMBER).all(axis=1) | ~np.isin(kinds, (_ELECTRON, _PHOTON, _POSITRON))
    bad |= np.abs(table[:, COLUMNS.index("particle_id")]) > np.iinfo(np.int32).max
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = f"row {row + 1} after line {n_before} has the kind of particle {kinds[row]:g}, or a value that is not finite or too large"
        raise InputError(what, where=path, hint="1 is an electron, 2 a photon, 3 a positron")


def read_penelope(
    path: str | Path,
    *,
    model: str | ChargeModel | Survival = "gampy",
    steering: str | Path | None = None,
) -> Track:
    """Return the track of a text dump.

    As in the original, charge is freed in soft steps of electrons and positrons; what hard interactions lose goes to particles
    that have steps of their own. The last step of a positron is left out, which would count the energy of its annihilation.
    Positions stay in the frame of the simulation.

    Parameters
    ----------
    path : str or Path
        The dump.
    model : str, ChargeModel or Survival
        How energies become electrons.
    steering : str or Path, optional
        Steering file that says what the primary was; ``pentracks.in`` beside the dump if not given.

    Returns
    -------
    Track
        Truth is None where there is no steering file.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    path = Path(path)
    dump = read_dump(path)
    values = dump.columns
    law = charge_model(model)
    charged = np.isin(values["kind"], (_ELECTRON, _POSITRON)) & (values["interaction"] == _SOFT)
    charged &= ~((values["kind"] == _POSITRON) & (values["absorbed"] == 1))
    file = Path(steering) if steering is not None else path.with_name("pentracks.in")
    settings = read_steering(file) if steering is not None or file.is_file() else None
    notes = [] if settings else ["no steering file beside the dump: the primary is not known"]
    meta: dict[str, Any] = {
        "source": "PENELOPE", "material": None, "density": None, "temperature": None, "charge_scale": 1.0, "seed": None,
        "charge_model": law.to_meta(), "simulation_date": dump.date,
    }  # fmt: skip
    if settings:
        meta["original"] = {"penelope_input": settings, "simulation_date": dump.date}
    if notes:
        meta["notes"] = notes
    energy = values["energy_loss"][charged]
    try:
        return Track(
            dump.positions[:, charged],
            electrons(energy, law, values["step_length"][charged]),
            _truth(dump, settings) if settings else None,
            meta,
            name=path.stem,
            energy=energy.astype(np.float32),
            particle_id=(values["particle_id"][charged] - 1).astype(np.int32),
            pdg=_PDG[values["kind"][charged]],
            creator=_creators(dump)[charged],
        )
    except InputError as error:
        raise InputError(error.what, where=path, hint=error.hint) from error


def _creators(dump: Dump) -> NDArray[np.str_]:
    values = dump.columns
    creators = np.full(len(dump), "", dtype="U12")
    from_photon = values["parent_kind"] == _PHOTON
    for of_photon, table in ((False, _OF_CHARGED), (True, _OF_PHOTONS)):
        for code, name in table.items():
            creators[(values["parent_interaction"] == code) & (from_photon == of_photon)] = name
    creators[values["generation"] == 1] = "primary"
    return creators


def _interactions(dump: Dump) -> Interactions:
    """Return the hard interactions of the kinds that the original records."""
    values = dump.columns
    kind = np.full(len(dump), "", dtype="U12")
    photon = values["kind"] == _PHOTON
    for code, name in _OF_PHOTONS.items():
        kind[photon & (values["interaction"] == code)] = name
    kind[~photon & (values["interaction"] == _BREM)] = "brem"
    found = kind != ""
    energy = values["energy_loss"] - np.where(kind == "pair", _PAIR_MASS, 0.0)
    return Interactions(
        kind[found],
        energy[found],
        dump.positions[:, found],
        (values["particle_id"][found] - 1).astype(np.int32),
    )


def _truth(dump: Dump, settings: dict[str, Any]) -> Truth | None:
    needed = ("initial_particle", "initial_energy", "r_o", "s_o")
    if any(settings.get(key) is None for key in needed):
        return None
    interactions = _interactions(dump)
    origin, first = np.array(settings["r_o"], dtype=np.float64) * _CM, ""
    if settings["initial_particle"] == "photon":
        own = np.flatnonzero(interactions.particle_id == 0)
        if own.size:
            origin, first = interactions.position[:, own[0]].copy(), str(interactions.kind[own[0]])
    return Truth(
        settings["initial_particle"],
        settings["initial_energy"],
        origin,
        np.array(settings["s_o"], dtype=np.float64),
        first,
        interactions,
    )


def read_steering(path: str | Path) -> dict[str, Any]:
    """Return what a steering file of PENELOPE says, with the keys of the original.

    Returns
    -------
    dict
        ``raw_lines``; ``initial_particle``, ``initial_particle_id``; ``initial_energy`` [keV]; ``r_o`` [cm]; ``s_o``, the direction
        (None for a cone that is not a line); ``eabs``, ``c1``, ``c2``, ``wcc``, ``wcr`` [eV]; what is not there is left out.

    Raises
    ------
    InputError
        If it cannot be read, or a line of those has no numbers.
    """
    path = Path(path)
    try:
        lines = [line.rstrip() for line in path.read_text(encoding="latin-1").splitlines()]
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(what, where=path) from error
    found: dict[str, Any] = {"raw_lines": lines}
    for number, line in enumerate(lines, 1):
        word = line[:6].strip()
        if word not in _STEERING:
            continue
        text = line[7:].partition("[")[0].replace("D", "E").replace("d", "e")
        try:
            _STEERING[word](found, [float(each) for each in text.split()])
        except (ValueError, IndexError, KeyError) as error:
            what = f"line {number}: {word} does not have the numbers it should have: {line!r}"
            raise InputError(what, where=path) from error
    return found


def _particle(found: dict[str, Any], values: list[float]) -> None:
    found["initial_particle_id"] = int(values[0])
    found["initial_particle"] = _NAMES[int(values[0])]


def _source_energy(found: dict[str, Any], values: list[float]) -> None:
    found["initial_energy"] = values[0] * _KEV


def _place(found: dict[str, Any], values: list[float]) -> None:
    found["r_o"] = [values[0], values[1], values[2]]


def _cone(found: dict[str, Any], values: list[float]) -> None:
    polar, azimuth, opening = np.deg2rad(values[0]), np.deg2rad(values[1]), values[2]
    direction = [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)]
    found["s_o"] = [float(each) for each in direction] if opening == 0 else None


def _cut_offs(found: dict[str, Any], values: list[float]) -> None:
    found["eabs"] = [values[0], values[1], values[2]]
    found.update(zip(("c1", "c2", "wcc", "wcr"), values[3:7], strict=True))


_STEERING = {
    "SKPAR": _particle, "SENERG": _source_energy, "SPOSIT": _place, "SCONE": _cone, "MSIMPA": _cut_offs,
}  # fmt: skip
