"""Many tracks at once: a sheet with all energies, and one picture of every track."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from firstlight.detectors.lartpc.views.boxes import draw_box
from firstlight.detectors.lartpc.views.compare import note_panel, sheet_bar, sheet_key
from firstlight.detectors.lartpc.views.cubes import round_edge
from firstlight.detectors.lartpc.views.marks import charge_norm
from firstlight.detectors.lartpc.views.scene import energy_text, scene_of
from firstlight.detectors.lartpc.views.three import VIEW, draw_panels
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.figure import Figure

    from firstlight.detectors.lartpc.track import Track
    from firstlight.detectors.lartpc.views.scene import Scene, Zoom
    from firstlight.run.progress import Progress

    Load = Callable[[Path], Track]

__all__ = ["Entry", "draw_gallery", "entries_of", "save_pictures"]

_PANEL, _LETTERS = 1.75, 8.5  # in, pt


@dataclass(frozen=True)
class Entry:
    """A track of a gallery: what it is, and where it is read from.

    Parameters
    ----------
    particle : str
        What made it.
    energy : float
        Its energy [keV].
    source : Path or Track
        A file, or the track itself.
    """

    particle: str
    energy: float
    source: Path | Track

    @property
    def name(self) -> str:
        """Name of the track, or of the file without its ending."""
        return self.source.name.split(".")[0] if isinstance(self.source, Path) else self.source.name


class _Rows(Protocol):
    def iter_rows(self, *, named: bool) -> Iterable[Mapping[str, Any]]: ...


def entries_of(
    catalogue: _Rows | Iterable[Mapping[str, Any]], root: str | Path = "", *, per_energy: int | None = None
) -> list[Entry]:
    """Return the tracks of a catalogue in the order of particle, energy and name.

    Parameters
    ----------
    catalogue : polars DataFrame or rows
        With ``particle``, ``path``, and ``energy`` or ``energy_keV`` [keV].
    root : str or Path
        Folder to which relative paths belong.
    per_energy : int, optional
        At most so many tracks of each particle and energy.

    Raises
    ------
    UsageError
        If a column is missing.
    """
    rows: Iterable[Mapping[str, Any]] = (
        catalogue.iter_rows(named=True) if hasattr(catalogue, "iter_rows") else catalogue
    )
    found = []
    for row in rows:
        energy: Any = row.get("energy_keV", row.get("energy"))
        for name, value in (("particle", row.get("particle")), ("path", row.get("path")), ("energy", energy)):
            if value is None:
                raise UsageError.unknown("column", name, row, where="catalogue")
        particle = str(row["particle"])
        singular = particle.removesuffix("s")
        found.append(Entry(singular, float(energy), Path(root) / str(row["path"])))
    found.sort(key=lambda entry: (entry.particle, entry.energy, entry.name))
    if per_energy is None:
        return found
    groups = groupby(found, key=lambda entry: (entry.particle, entry.energy))
    return [entry for _, own in groups for entry in list(own)[:per_energy]]


def draw_gallery(
    entries: Sequence[Entry],
    *,
    load: Load | None = None,
    columns: int = 10,
    zoom: Zoom = "core",
    view: tuple[float, float] = VIEW,
    truth: bool = True,
    title: str = "",
    panel: float = _PANEL,
    progress: Progress | None = None,
    refused: list[InputError] | None = None,
) -> Figure:
    """Draw a sheet of tracks: a row for each energy, particles side by side, all at one scale in a row.

    Parameters
    ----------
    entries : sequence of Entry
        From `entries_of`, or made of tracks.
    load : callable, optional
        Reads a file; the reader of tracks by default.
    columns : int
        Tracks of a particle in a row at most; others are left out, and the row says how many.
    zoom : {"core", "all"} or float
        What a panel shows, as in `draw_panels`. In a row of many the largest fifth reaches out of its cube.
    view : (float, float)
        Elevation and azimuth [degrees].
    truth : bool
        Mark origin and direction.
    title : str
        Above all.
    panel : float
        Edge of a panel [in]. Letters keep their size, so that in smaller ones they are larger on a page of given width.
    progress : Progress, optional
        Where progress is shown.
    refused : list of InputError, optional
        Tracks that cannot be read are left out, and the reason is added to it; without it the first one is raised.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    UsageError
        If there is no track.
    InputError
        If a track cannot be read, or none can.
    """
    from firstlight.run.progress import silent
    from firstlight.view.draw import sheet
    from firstlight.view.style import styled

    if not entries or columns < 1:
        what = "there is no track for a gallery"
        raise UsageError(what, hint="a folder with Tracks/MATERIAL/PARTICLE/ENERGY, and 1 column or more")
    cells = _cells(entries)
    particles = list(dict.fromkeys(particle for particle, _ in cells))
    energies = sorted({energy for _, energy in cells})
    wide = {
        name: min(columns, max(len(own) for (particle, _), own in cells.items() if particle == name))
        for name in particles
    }
    chosen = {key: own[: wide[key[0]]] for key, own in cells.items()}
    scenes = _scenes(chosen, load, progress or silent(), refused)
    energies = sorted({energy for (_, energy), own in scenes.items() if own})
    count = sum(len(own) for own in scenes.values())
    norm = charge_norm([scene.layers[0] for own in scenes.values() for scene in own])
    left, right, top, gap = 0.85, 0.95, 0.95, 0.3
    bottom = 0.4 if truth else 0.1
    starts, width = {}, left
    for name in particles:
        starts[name] = width
        width += wide[name] * panel + gap
    width, height = max(width + right - gap, 7.0), top + len(energies) * panel + bottom
    with styled():
        figure = sheet(width, height)
        words = title or f"{count} tracks, {_what(zoom)}"
        figure.text(0.15 / width, 1 - 0.22 / height, words, fontsize=13, fontweight="bold", va="center")
        about = "one scale in each row; per cent: charge that is shown, where that is not all"
        figure.text(0.15 / width, 1 - 0.5 / height, about, fontsize=9.5, color="#56616c", va="center")
        for name in particles:
            middle = starts[name] + 0.5 * wide[name] * panel
            plural = f"{name}s" if wide[name] > 1 else name
            figure.text(middle / width, 1 - 0.78 / height, plural, fontsize=11, ha="center", va="center")
        for row, energy in enumerate(energies):
            y = height - top - (row + 1) * panel
            mine = {name: scenes.get((name, energy), []) for name in particles}
            edges = sorted(scene.cube(zoom).edge for events in mine.values() for scene in events)
            edge = round_edge(edges[-(-4 * (len(edges) - 1) // 5)])
            figure.text(
                0.15 / width, (y + 0.5 * panel) / height, energy_text(energy), fontsize=10, va="center"
            )
            for name, events in mine.items():
                left_out = len(cells.get((name, energy), [])) - len(chosen.get((name, energy), []))
                for index, scene in enumerate(events):
                    x = starts[name] + index * panel
                    ax = figure.add_axes((x / width, y / height, panel / width, panel / height))
                    cube = scene.cube(zoom).grown(edge)
                    draw_box(
                        ax, scene.layers[0], cube, view=view, norm=norm, truth=scene.truth if truth else None,
                        interactions=False, letters=_LETTERS, largest=26.0 * panel / _PANEL,
                    )  # fmt: skip
                    note_panel(ax, scene, cube, letters=_LETTERS, brief=True)
                    if left_out and index + 1 == len(events):
                        ax.text(
                            1.0,
                            0.0,
                            f"{left_out} more",
                            transform=ax.transAxes,
                            fontsize=_LETTERS,
                            ha="right",
                        )
        sheet_bar(figure, norm, width, height)
        if truth:
            sheet_key(figure, (scene.truth for own in scenes.values() for scene in own), height)
    return figure


def _scenes(
    chosen: Mapping[tuple[str, float], Sequence[Entry]],
    load: Load | None,
    progress: Progress,
    refused: list[InputError] | None,
) -> dict[tuple[str, float], list[Scene]]:
    """Return what is drawn of the tracks of each particle and energy."""
    scenes: dict[tuple[str, float], list[Scene]] = {}
    with progress.bar("reading", sum(len(own) for own in chosen.values()), "tracks") as advance:
        for key, own in chosen.items():
            scenes[key] = []
            for entry in own:
                try:
                    scenes[key].append(scene_of(_track_of(entry, load), most=1500))
                except InputError as error:
                    if refused is None:
                        raise
                    refused.append(error)
                advance(1, entry.name)
    if refused and not any(scenes.values()):
        raise refused[0]
    return scenes


def save_pictures(
    entries: Sequence[Entry],
    folder: str | Path,
    *,
    load: Load | None = None,
    draw: Callable[[Track], Figure] | None = None,
    dpi: int = 110,
    progress: Progress | None = None,
    refused: list[InputError] | None = None,
) -> list[Path]:
    """Save one picture of every track: ``FOLDER/electrons/E0010000/NAME.png``.

    Parameters
    ----------
    entries : sequence of Entry
        From `entries_of`, or made of tracks.
    folder : str or Path
        Where the pictures are written.
    load : callable, optional
        Reads a file; the reader of tracks by default.
    draw : callable, optional
        From a track to a figure; the event in space by default, the whole of it and its core.
    dpi : int
        Resolution.
    progress : Progress, optional
        Where progress is shown.
    refused : list of InputError, optional
        As for `draw_gallery`.

    Returns
    -------
    list of Path
        The pictures, in the order of the entries.

    Raises
    ------
    InputError
        If a track cannot be read. Pictures of those before it have been written.
    """
    from firstlight.run.progress import silent
    from firstlight.view.save import save_canvas

    saved = []
    taken: set[Path] = set()
    with (progress or silent()).bar("drawing", len(entries), "tracks") as advance:
        for entry in entries:
            advance(1, entry.name)
            try:
                track = _track_of(entry, load)
            except InputError as error:
                if refused is None:
                    raise
                refused.append(error)
                continue
            figure = draw_panels(scene_of(track)) if draw is None else draw(track)
            stem = re.sub(r"[^\w.+-]+", "_", entry.name).strip("._") or "track"
            kind = re.sub(r"\W+", "_", entry.particle) or "particle"
            path = Path(folder) / f"{kind}s" / f"E{round(entry.energy):07d}" / f"{stem}.png"
            number = 1
            while path in taken:  # events of one file can have one name
                number += 1
                path = path.with_name(f"{stem}_{number}.png")
            taken.add(path)
            saved.append(save_canvas(figure, path, dpi))
    return saved


def _cells(entries: Sequence[Entry]) -> dict[tuple[str, float], list[Entry]]:
    rows: dict[tuple[str, float], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.particle, entry.energy)):
        rows.setdefault((entry.particle, entry.energy), []).append(entry)
    return rows


def _track_of(entry: Entry, load: Load | None) -> Track:
    if not isinstance(entry.source, Path):
        return entry.source
    if load is None:
        from firstlight.detectors.lartpc.reading.tracks import load as load_track

        load = load_track
    track = load(entry.source)
    if not len(track):
        what = "there is no charge in this track"
        raise InputError(what, where=entry.source)
    return track


def _what(zoom: Zoom) -> str:
    if isinstance(zoom, str):
        return {"core": "largest connected piece", "all": "whole events"}.get(zoom, zoom)
    return f"{zoom:.0%} of the charge"
