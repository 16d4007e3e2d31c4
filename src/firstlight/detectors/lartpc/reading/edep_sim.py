"""Events of edep-sim in the HDF5 layout that larnd-sim and GAMPixPy read: cm, MeV, us.

Two spellings of the columns are in use, ``eventID``/``trackID``/``pdgId`` up to 2022 and ``event_id``/``traj_id``/``pdg_id``
since; both are understood. In the first, ``trackID`` and ``parentID`` count through the file; in the second, ``traj_id`` and
``parent_id`` count through a vertex.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.arrays import whole_numbers
from firstlight.detectors.lartpc.reading.hdf5 import Table, runs_of
from firstlight.detectors.lartpc.reading.segments import EventFile, Segments, track_of_segments
from firstlight.detectors.lartpc.track import (
    ELECTRON_MASS,
    FARTHEST,
    HIGHEST_ENERGY,
    PARTICLES,
    Arm,
    Interactions,
    Truth,
)
from firstlight.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Track

__all__ = ["SEGMENTS", "EdepSimFile"]

SEGMENTS = ("segments", "mc_truth/segments/data")
"""Where the segments stand; the second in files of the reconstruction that keep the truth."""

_TRAJECTORIES = ("trajectories", "mc_truth/trajectories/data")
_EVENT = ("event_id", "eventID")
_PDG = ("pdg_id", "pdgId")
_VERTEX = ("vertex_id", "vertexID")
_CM = 1e-2
_MEV = 1e3
_ELECTROMAGNETIC = 2
# G4EmProcessSubType of Geant4
_PROCESSES = {2: "delta", 3: "brem", 5: "annihilation", 12: "photo", 13: "compton", 14: "pair"}
_MASSES = {11: ELECTRON_MASS, -11: ELECTRON_MASS, 22: 0.0}
# more than one particle comes out of these
_SHARED = {"pair", "annihilation"}


@dataclass(frozen=True)
class _Particles:
    """Trajectories of an event, the primary first; vectors have the shape (3, n). Positions m, momenta keV."""

    key: list[tuple[int, int]]
    parent: NDArray[np.int32]
    pdg: NDArray[np.int32]
    creator: NDArray[np.str_]
    start: NDArray[np.float64]
    momentum: NDArray[np.float64]
    time: NDArray[np.float64]

    def kinetic_energy(self, index: int) -> float:
        mass = _MASSES.get(int(self.pdg[index]), 0.0)
        squared = float((self.momentum[:, index] ** 2).sum())
        return squared / (np.sqrt(squared + mass**2) + mass) if squared else 0.0

    def direction(self, index: int) -> NDArray[np.float64]:
        size = np.sqrt((self.momentum[:, index] ** 2).sum())
        return np.asarray(self.momentum[:, index] / size) if size > 0 else np.zeros(3)


class EdepSimFile(EventFile):
    """Events of edep-sim; each is one track.

    Raises
    ------
    InputError
        If columns are missing, or the file is damaged.
    """

    kind = "edep-sim"

    def _index(self, file: Any) -> dict[int, list[tuple[int, int]]]:
        segments = Table(file, SEGMENTS, self.path)
        event = segments.name_of(*_EVENT)
        self.trajectory_runs: dict[int, list[tuple[int, int]]] = {}
        if any(name in file for name in _TRAJECTORIES):
            trajectories = Table(file, _TRAJECTORIES, self.path)
            name = trajectories.name_of(*_EVENT)
            self.trajectory_runs = runs_of(trajectories.read(name)[name])
        runs = runs_of(segments.read(event)[event])
        # events of which nothing was deposited have trajectories only
        return {number: runs.get(number, []) for number in sorted({*runs, *self.trajectory_runs})}

    def table(self) -> pl.DataFrame:
        """Return ``event``, ``n_segments`` and ``energy_keV`` (deposited) of each event."""
        import polars as pl

        from firstlight.detectors.lartpc.reading.hdf5 import opened

        with opened(self.path) as file:
            deposited = Table(file, SEGMENTS, self.path).read("dE")["dE"].astype(np.float64) * _MEV
        rows = [
            (event, sum(stop - start for start, stop in runs), sum(float(deposited[slice(*run)].sum()) for run in runs))
            for event, runs in self.runs.items()
        ]  # fmt: skip
        return pl.DataFrame(
            rows, schema={"event": pl.Int64, "n_segments": pl.Int64, "energy_keV": pl.Float64}, orient="row"
        )

    def _track(self, file: Any, event: int) -> Track:
        segments = Table(file, SEGMENTS, self.path)
        particles = self._particles(file, event)
        rows, columns = _segments(segments, self.runs[event], particles)
        notes: list[str] = []
        truth = None
        if particles is None:
            notes.append("no trajectories: neither truth nor who made whom is known")
        else:
            truth = _truth(particles, rows, notes)
        meta: dict[str, Any] = {
            "source": self.kind, "event": event, "material": "LAr", "density": None, "temperature": None,
            "charge_scale": 1.0, "seed": None,
        }  # fmt: skip
        if notes:
            meta["notes"] = notes
        try:
            return track_of_segments(
                Segments(rows.start, rows.end, rows.energy, columns),
                model=self.model, spacing=self.spacing, truth=truth, meta=meta, name=self.name_of(event),
            )  # fmt: skip
        except InputError as error:
            raise InputError(f"event {event}: {error.what}", where=self.path, hint=error.hint) from error  # noqa: EM102

    def _particles(self, file: Any, event: int) -> _Particles | None:
        runs = self.trajectory_runs.get(event)
        if not runs:
            return None
        table = Table(file, _TRAJECTORIES, self.path)
        number, parent = table.name_of("traj_id", "trackID"), table.name_of("parent_id", "parentID")
        pdg = table.name_of(*_PDG)
        wanted = [number, parent, pdg, "xyz_start", "pxyz_start"]
        more = [
            name for name in (*_VERTEX, "t_start", "start_process", "start_subprocess") if table.has(name)
        ]
        for name in wanted:
            table.name_of(name)
        values = table.read(*wanted, *more, runs=runs)
        vertex = next(
            (values[name] for name in _VERTEX if name in values), np.zeros(values[pdg].size, np.int64)
        )
        count_per_vertex = number == "traj_id"
        keys = [
            (int(of) if count_per_vertex else 0, int(each))
            for of, each in zip(vertex, values[number], strict=True)
        ]
        primary = values[parent].astype(np.int64) == -1
        # a track numbers its primary 0
        order = np.argsort(~primary, kind="stable")
        place = {keys[old]: new for new, old in enumerate(order.tolist())}
        parents = [
            place.get((keys[old][0], int(values[parent][old])), -1) if not primary[old] else -1
            for old in order.tolist()
        ]
        start = values["xyz_start"][order].astype(np.float64).T * _CM
        momentum = values["pxyz_start"][order].astype(np.float64).T * _MEV
        bad = ~((np.abs(start) <= FARTHEST) & (np.abs(momentum) <= HIGHEST_ENERGY)).all(axis=0)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            what = (
                f"event {event}: trajectory {keys[order[first]]} begins at {start[:, first].tolist()} m with a momentum of "
                f"{momentum[:, first].tolist()} keV"
            )
            raise InputError(what, where=self.path)
        return _Particles(
            [keys[old] for old in order.tolist()],
            np.array(parents, dtype=np.int32),
            whole_numbers(values[pdg][order], pdg, self.path),
            _creators(values, primary)[order],
            start,
            momentum,
            values.get("t_start", np.zeros(order.size))[order].astype(np.float64),
        )


def _creators(values: dict[str, NDArray[Any]], primary: NDArray[np.bool_]) -> NDArray[np.str_]:
    creators = np.full(primary.size, "", dtype="U12")
    if "start_subprocess" in values:
        electromagnetic = values.get("start_process", np.full(primary.size, _ELECTROMAGNETIC))
        for code, kind in _PROCESSES.items():
            creators[(values["start_subprocess"] == code) & (electromagnetic == _ELECTROMAGNETIC)] = kind
    creators[primary] = "primary"
    return creators


def _segments(
    table: Table, runs: list[tuple[int, int]], particles: _Particles | None
) -> tuple[Segments, dict[str, NDArray[Any]]]:
    starts, ends = ("x_start", "y_start", "z_start"), ("x_end", "y_end", "z_end")
    pdg = table.name_of(*_PDG)
    number = table.name_of("traj_id", "trackID")
    for name in (*starts, *ends, "dE"):
        table.name_of(name)
    vertex = [name for name in _VERTEX if table.has(name)][:1]
    values = table.read(*starts, *ends, "dE", pdg, number, *vertex, runs=runs)
    rows = Segments(
        np.stack([values[name] for name in starts]).astype(np.float64) * _CM,
        np.stack([values[name] for name in ends]).astype(np.float64) * _CM,
        values["dE"].astype(np.float64) * _MEV,
    )
    columns: dict[str, NDArray[Any]] = {"pdg": whole_numbers(values[pdg], pdg, table.path)}
    if particles is None:
        _, ids = np.unique(values[number], return_inverse=True)
        columns["particle_id"] = ids.astype(np.int32)
        return rows, columns
    of = values[vertex[0]] if vertex and number == "traj_id" else np.zeros(len(rows), np.int64)
    place = {key: index for index, key in enumerate(particles.key)}
    ids = np.array(
        [place.get((int(a), int(b)), -1) for a, b in zip(of, values[number], strict=True)], dtype=np.int32
    )
    columns["particle_id"] = ids
    columns["parent_id"] = np.where(ids >= 0, particles.parent[ids], -1).astype(np.int32)
    columns["creator"] = np.where(ids >= 0, particles.creator[ids], "")
    return rows, columns


def _truth(particles: _Particles, rows: Segments, notes: list[str]) -> Truth | None:
    n_primaries = int((particles.creator == "primary").sum())
    names = {number: name for name, number in PARTICLES.items()}
    pdg = int(particles.pdg[0]) if particles.pdg.size else 0
    if n_primaries != 1 or pdg not in names:
        what = f"particle {pdg}" if n_primaries == 1 else f"{n_primaries} primary particles"
        notes.append(f"no truth: {what}; a truth is of one electron, positron or photon")
        return None
    energy, direction = particles.kinetic_energy(0), particles.direction(0)
    if not energy > 0:
        notes.append("no truth: the primary has no momentum")
        return None
    origin, first = particles.start[:, 0], ""
    arms: tuple[Arm, ...] = ()
    if pdg == PARTICLES["photon"]:
        first, origin, arms = _first(particles, rows)
    return Truth(names[pdg], energy, origin.copy(), direction, first, _interactions(particles), arms)


def _first(particles: _Particles, rows: Segments) -> tuple[str, NDArray[np.float64], tuple[Arm, ...]]:
    """Return what a photon did first, where, and the arms if it was a pair."""
    children = np.flatnonzero(
        (particles.parent == 0) & np.isin(particles.creator, ("compton", "photo", "pair"))
    )
    if children.size == 0:
        return "", rows.start[:, 0] if len(rows) else particles.start[:, 0], ()
    earliest = children[np.argmin(particles.time[children])]
    kind, origin = str(particles.creator[earliest]), particles.start[:, earliest]
    arms: tuple[Arm, ...] = ()
    if kind == "pair":
        both = [
            index for index in children.tolist()
            if particles.creator[index] == "pair" and (particles.start[:, index] == origin).all()
        ]  # fmt: skip
        both.sort(key=lambda index: int(particles.pdg[index]))  # the positron first
        arms = tuple(
            Arm(int(particles.pdg[index]), particles.kinetic_energy(index), particles.direction(index)) for index in both
        )  # fmt: skip
    return kind, origin, arms


def _interactions(particles: _Particles) -> Interactions:
    """Return one entry for each electromagnetic process; particles of a pair or an annihilation belong together."""
    entries: dict[tuple[Any, ...], tuple[str, float, NDArray[np.float64], int]] = {}
    for index, kind in enumerate(particles.creator.tolist()):
        if kind in {"", "primary"}:
            continue
        place, parent = particles.start[:, index], int(particles.parent[index])
        energy = particles.kinetic_energy(index)
        key = (kind, parent, *place.tolist()) if kind in _SHARED else (index,)
        so_far = entries[key][1] if key in entries else 0.0
        entries[key] = (kind, so_far + energy, place, parent)
    if not entries:
        return Interactions.none()
    kinds, energies, places, parents = zip(*entries.values(), strict=True)
    return Interactions(
        np.array(kinds, dtype="U12"),
        np.array(energies, dtype=np.float64),
        np.stack(places, axis=1),
        np.array(parents, dtype=np.int32),
    )
