"""Reads tracks: a folder of them is one input and a track is one of its events; so is a single file, or a file of many."""

from __future__ import annotations

import functools
import itertools
import math
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.patterns import FilePattern
from firstlight.data.schema import Chunk, Span
from firstlight.detector import Description, Plan
from firstlight.detectors.lartpc.reading.names import FOLDERS, FORMS, TrackName, find, split_ending
from firstlight.detectors.lartpc.track import INTERACTION_KINDS
from firstlight.errors import FirstlightError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from firstlight.data.channels import ChannelMap
    from firstlight.data.schema import TableSchema
    from firstlight.detectors.lartpc.options import Options
    from firstlight.detectors.lartpc.reading.segments import EventFile
    from firstlight.detectors.lartpc.tables import Entry
    from firstlight.detectors.lartpc.track import Track

__all__ = ["SOURCES", "EventFiles", "TrackFiles", "TrackFolders", "plan"]

_LAYOUTS = ({"r", "num_e"}, {"r", "delta_energy"}, {"x", "y", "z", "charge"}, {"hits", "charge"})
_SAMPLE = 3  # files of a folder that are opened to see what they are, where their names do not say it


def _schemas() -> Mapping[str, TableSchema]:
    from firstlight.detectors.lartpc.tables import SCHEMAS

    return SCHEMAS


@dataclass(frozen=True)
class TrackFolders:
    """A folder with files of tracks: ``E0001000`` of a tree, or any other."""

    name: str = "tracks"
    title: str = "folders of tracks (npz with positions and charges, truth beside them)"
    version: int = 1
    suffixes: tuple[str, ...] = ()
    patterns: tuple[FilePattern, ...] = (FilePattern("E{energy:07d}_{tag}"), FilePattern("E{energy:07d}"))
    span_events: int | None = 8
    folders: bool = True
    schemas: Mapping[str, TableSchema] = field(default_factory=_schemas)

    def sniff(self, path: Path) -> bool:
        """Return whether a folder holds tracks."""
        try:
            return path.is_dir() and bool(_tracks_in(path))
        except OSError:
            return False

    def describe(self, path: Path) -> Description:
        """Return which tracks a folder holds; no file is read whole.

        Raises
        ------
        InputError
            If it holds none.
        """
        stems = _stems(path)
        particle, energy = _folder_words(path)
        files = [find(stem).files.keys() for stem in stems]
        forms = [form for form in FORMS if any(form in own for own in files)]
        n_truth = sum(bool({"json", "pickle"} & own) for own in files)
        facts = {"tracks": len(stems), "with a truth record": n_truth, "forms": ", ".join(forms)}
        if particle:
            facts["particle"] = particle
        if math.isfinite(energy):
            facts["energy"] = f"{energy / 1000:g} MeV"
        notes = [] if n_truth == len(stems) else [f"{len(stems) - n_truth} tracks without a truth record"]
        if others := sorted(_of_tracks(path).keys() - {stem.name for stem in stems}):
            names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            notes.append(f"left out, not named as its tracks are: {len(others)} ({names})")
        return Description(
            str(path), self.name, "folder of tracks", len(stems), _all_columns(), facts,
            _conditions(self.patterns, path), tuple(notes),
        )  # fmt: skip

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,  # noqa: ARG002  (points are at places, not at channels)
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield tracks `span.start` to `span.stop` in the order of their names; a damaged one is an event that was refused.

        Raises
        ------
        InputError
            If the span is the whole folder and none of its tracks can be read.
        """
        stems = _listed(span.path, _changed(span.path))
        entries = (_entry(stem) for stem in stems[span.start : span.stop])
        yield from _chunks(span, columns, chunk_events, _usable(entries, span, len(stems)))


@dataclass(frozen=True)
class TrackFiles:
    """One track."""

    name: str = "track"
    title: str = "files of one track (npz, also compressed or with energies)"
    version: int = 1
    suffixes: tuple[str, ...] = (".npz", ".npy")
    patterns: tuple[FilePattern, ...] = (
        *(
            FilePattern(f"TrackE{{energy:07d}}_D{{date:08d}}_T{{time:010d}}{ending}")
            for ending in (".npz", ".c.npz", ".p.npz")
        ),
        FilePattern("TrackE{energy:07d}*"),
    )
    span_events: int | None = None
    common: tuple[str, ...] = (".npz", ".npy")
    schemas: Mapping[str, TableSchema] = field(default_factory=_schemas)

    def sniff(self, path: Path) -> bool:
        """Return whether a file is a track."""
        return path.is_file() and path.name.endswith(self.suffixes) and _is_track(path)

    def describe(self, path: Path) -> Description:
        """Return what a file holds.

        Raises
        ------
        InputError
            If it cannot be used.
        """
        entry = _entry(path, refuse=True)
        track = entry.track
        facts: dict[str, Any] = {}
        notes: tuple[str, ...] = ()
        if track is not None:
            facts = {"points": len(track), "electrons": track.charge}
            said = TrackName.of(split_ending(path.name)[0])
            if track.truth is not None:
                facts |= {"particle": track.truth.particle, "energy": f"{track.truth.energy / 1000:g} MeV"}
            else:
                facts |= {"energy": f"{said.energy / 1000:g} MeV"} if said else {}
                notes = ("no truth record",)
        return Description(
            str(path), self.name, "track", 1, _all_columns(), facts, _conditions(self.patterns, path), notes
        )

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,  # noqa: ARG002  (points are at places, not at channels)
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield the track."""
        entries = (_entry(Path(span.path), refuse=True) for _ in range(span.start, span.stop))
        yield from _chunks(span, columns, chunk_events, entries)


@dataclass(frozen=True)
class EventFiles:
    """A file of many events with segments of tracks: edep-sim, larnd-sim, GAMPixPy."""

    name: str = "segments"
    title: str = "HDF5 files of track segments (edep-sim as larnd-sim has it, GAMPixPy)"
    version: int = 1
    suffixes: tuple[str, ...] = (".h5", ".hdf5")
    patterns: tuple[FilePattern, ...] = ()
    span_events: int | None = 8
    common: tuple[str, ...] = (".h5", ".hdf5")
    schemas: Mapping[str, TableSchema] = field(default_factory=_schemas)

    def sniff(self, path: Path) -> bool:
        """Return whether a file has segments of tracks."""
        from firstlight.detectors.lartpc.reading.segments import layout_of

        if not (path.is_file() and path.name.endswith(self.suffixes)):
            return False
        try:
            return layout_of(path) is not None
        except FirstlightError:
            return False

    def describe(self, path: Path) -> Description:
        """Return which events a file holds.

        Raises
        ------
        InputError
            If it cannot be used.
        """
        from firstlight.detectors.lartpc.reading.segments import open_events

        events = open_events(path)
        facts = {"written by": events.kind, "events": len(events)}
        return Description(str(path), self.name, "events", len(events), _all_columns(), facts)

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,  # noqa: ARG002  (points are at places, not at channels)
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield events `span.start` to `span.stop` in the order of the file; a damaged one is an event that was refused.

        Raises
        ------
        InputError
            If the file is damaged as a whole, or the span is all of it and none of its events can be read.
        """
        file = _opened(span.path, _changed(span.path))
        entries = (_event(file, event) for event in file.events[span.start : span.stop])
        yield from _chunks(span, columns, chunk_events, _usable(entries, span, len(file)))


def _event(file: EventFile, number: int) -> Entry:
    from firstlight.detectors.lartpc.tables import Entry

    name = file.name_of(number)
    try:
        return Entry(name, _measured(file.track(number), file.path))
    except InputError as error:
        return Entry(name, None, error.what)


def _usable(entries: Iterator[Entry], span: Span, n_events: int) -> Iterator[Entry]:
    """Yield entries; raise `InputError` if they are all of an input and each of them was refused."""
    refused: list[Entry] = []
    for entry in entries:
        if entry.track is not None:
            yield from refused
            yield entry
            break
        refused.append(entry)
    else:
        if refused and span.start == 0 and len(refused) == n_events:
            first = refused[0]
            what = f"none of {n_events} tracks can be read; {first.name}: {first.reason}"
            raise InputError(what, where=span.path)
        yield from refused
    yield from entries


def _chunks(
    span: Span,
    columns: Mapping[str, tuple[str, ...]],
    chunk_events: int | None,
    entries: Iterator[Entry],
) -> Iterator[Chunk]:
    from firstlight.detectors.lartpc.tables import to_tables

    step = chunk_events or 1
    for start in range(span.start, max(span.stop, span.start + 1), step):
        stop = min(start + step, span.stop)
        part = list(itertools.islice(entries, stop - start))
        yield Chunk(Span(span.path, span.index, start, stop), to_tables(part, columns))


def _all_columns() -> dict[str, tuple[str, ...]]:
    return {name: tuple(schema.names) for name, schema in _schemas().items()}


def _conditions(patterns: Sequence[FilePattern], path: Path) -> Mapping[str, Any]:
    return next((found for pattern in patterns if (found := pattern.match(path.name))), {})


def _tracks_in(folder: Path) -> list[str]:
    """Return the names, without endings, of the tracks in a folder; files of other kinds are left out."""
    stems = _of_tracks(folder)
    named = [stem for stem in stems if TrackName.of(stem) is not None]
    if named:
        return named
    first = list(stems.values())[:_SAMPLE]
    return list(stems) if first and all(_is_track(path) for path in first) else []


def _of_tracks(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that end as tracks do, one for each name without ending."""
    stems: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem, form = split_ending(path.name)
        if form in FORMS and path.is_file():
            stems.setdefault(stem, path)
    return stems


def _is_track(path: Path) -> bool:
    """Return whether a file is an archive with the arrays of a track, by their names."""
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return any(layout <= keys for layout in _LAYOUTS)


def _stems(folder: Path) -> list[Path]:
    try:
        names = _tracks_in(folder)
    except OSError as error:
        what = f"cannot be listed: {error.strerror or error}"
        raise InputError(what, where=folder) from error
    if not names:
        what = "the folder holds no track"
        hint = "tracks are called TrackE0001000_D20250527_T1337068902.npz"
        raise InputError(what, where=folder, hint=hint)
    return [folder / name for name in names]


def _changed(path: str) -> int:
    """Return when a file or folder was last changed [ns]; 0 for one that is not there, which its reader tells."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=64)
def _listed(folder: str, _: int) -> list[Path]:
    """Return the tracks in a folder that was last changed at a time: spans are many, and a listing may be long."""
    return _stems(Path(folder))


@functools.lru_cache(maxsize=4)
def _opened(path: str, _: int) -> EventFile:
    """Return the events of a file that was last changed at a time, whose index is made once for all spans."""
    from firstlight.detectors.lartpc.reading.segments import open_events

    return open_events(path)


def _folder_words(folder: Path) -> tuple[str, float]:
    """Return the particle and the energy [keV] that a folder of a tree says; empty and NaN where it does not."""
    particle = next((FOLDERS[part] for part in reversed(folder.absolute().parts) if part in FOLDERS), "")
    found = _conditions(TrackFolders().patterns, folder)
    return particle, float(found.get("energy", math.nan))


def _entry(path: Path, *, refuse: bool = False) -> Entry:
    """Return a track; a damaged one is raised with `refuse`, or else an entry with the reason."""
    from firstlight.detectors.lartpc.reading.tracks import load
    from firstlight.detectors.lartpc.tables import Entry

    particle, energy = _folder_words(path.parent)
    name = split_ending(path.name)[0]
    try:
        track = _measured(load(path), path)
    except InputError as error:
        if refuse:
            raise
        return Entry(name, None, error.what, particle, energy)
    told = int(track.meta.get("recorded_electrons", track.charge)) if track.truth is not None else None
    return Entry(track.name or name, track, "", particle, energy, told)


def _measured(track: Track, path: Path) -> Track:
    """Return a track as the steps take it: with points; with columns whose values are known for all of them."""
    if len(track) == 0:
        what = "holds no point of charge"
        raise InputError(what, where=path)
    if track.energy is not None and np.isnan(track.energy).any():
        track = replace(track, energy=None)
    if track.creator is not None and not np.isin(track.creator, ("primary", *INTERACTION_KINDS)).all():
        track = replace(track, creator=None)
    return track


def plan(options: Options, descriptions: Sequence[Description]) -> Plan:
    """Return how the tracks of one run are to be read."""
    from firstlight.data.select import Cut, Selection
    from firstlight.detectors.lartpc.channels import channel_map
    from firstlight.detectors.lartpc.readout.designs import design
    from firstlight.run.provenance import digest_file

    # what is wrong with these is told before anything is read
    options.medium.medium()
    if (chosen := getattr(options, "readout", None)) is not None:
        design(chosen.design)
    conditions: dict[str, dict[str, Any]] = {}
    for found in descriptions:
        if found.source != TrackFiles().name:
            continue
        # the truth beside a single file is no input, but what follows depends on it
        beside = find(found.path).files
        records = [beside[name] for name in ("json", "pickle") if name in beside]
        if records:
            conditions[found.path] = {"truth": digest_file(records[0])}
    selection = Selection(tuple(Cut(cut, "events", cut) for cut in options.cuts))
    return Plan(channel_map(options.anode), selection, conditions=conditions)


SOURCES = (TrackFolders(), TrackFiles(), EventFiles())
