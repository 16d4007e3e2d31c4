"""Events of many in one HDF5 file: which there are, one by one as tracks, and segments of steps made into points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.charges import (
    ChargeModel,
    Survival,
    charge_model,
    expected_electrons,
    whole_electrons,
)
from firstlight.detectors.lartpc.reading.hdf5 import opened
from firstlight.detectors.lartpc.track import HIGHEST_ENERGY, Track
from firstlight.errors import ConfigError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Truth

__all__ = ["SPACING", "EventFile", "Segments", "layout_of", "open_events", "track_of_segments"]

SPACING = 2e-4
"""Largest distance of points along a segment [m]: well below the pixels of all read-outs."""

_MOST_POINTS = 20_000_000
_BEYOND = 1e9  # m


@dataclass(frozen=True)
class Segments:
    """Straight steps with energy.

    Parameters
    ----------
    start, end : ndarray of float64, shape (3, n)
        Ends [m].
    energy : ndarray of float64, shape (n,)
        Deposited [keV].
    columns : mapping of str to ndarray, shape (n,)
        Columns of `Track`: ``particle_id``, ``parent_id``, ``pdg``, ``creator``, as far as known.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    energy: NDArray[np.float64]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.energy.size

    @property
    def length(self) -> NDArray[np.float64]:
        """Lengths [m]."""
        return np.asarray(np.sqrt(((self.end - self.start) ** 2).sum(axis=0)))


def track_of_segments(
    segments: Segments,
    *,
    model: str | ChargeModel | Survival = "constant",
    spacing: float = SPACING,
    truth: Truth | None = None,
    meta: Mapping[str, Any] | None = None,
    name: str = "",
) -> Track:
    """Return a track with points along segments.

    A segment is cut into equal parts no longer than `spacing`; a point stands in the middle of each and has its share of
    energy and charge. Recombination is that of the whole segment.

    Parameters
    ----------
    segments : Segments
        Steps.
    model : str, ChargeModel or Survival
        How energies become electrons.
    spacing : float
        Largest length of a part [m].
    truth, meta, name
        Of the track.

    Returns
    -------
    Track
        Sums of energy and of charge are those of the segments (charge within half an electron).

    Raises
    ------
    ConfigError
        If `spacing` is no length, or the model is unknown.
    InputError
        If a position is not finite, an energy is negative, or there are too many points or electrons.
    """
    if not (np.isfinite(spacing) and spacing > 0):
        what = f"a spacing of points of {spacing} m"
        raise ConfigError(what, hint="a length above 0, as 2e-4")
    _check(segments, name)
    law = charge_model(model)
    length = segments.length
    parts = np.maximum(np.ceil(length / spacing), 1.0)
    if parts.sum() > _MOST_POINTS:
        what = f"{len(segments)} segments give {parts.sum():.3g} points at a spacing of {spacing:g} m"
        raise InputError(what, where=name or None, hint=f"at most {_MOST_POINTS:,} points: a larger spacing")
    counts = parts.astype(np.int64)
    source = np.repeat(np.arange(len(segments)), counts)
    within = np.arange(source.size) - np.repeat(np.cumsum(counts) - counts, counts)
    share = (within + 0.5) / counts[source]
    positions = segments.start[:, source] + (segments.end - segments.start)[:, source] * share
    expected = expected_electrons(segments.energy, law, length)
    columns: dict[str, Any] = {key: values[source] for key, values in segments.columns.items()}
    return Track(
        positions,
        whole_electrons((expected / counts)[source]),
        truth,
        {**(meta or {}), "charge_model": law.to_meta(), "spacing_m": spacing},
        name=name,
        energy=(segments.energy / counts)[source].astype(np.float32),
        **columns,
    )


def _check(segments: Segments, name: str) -> None:
    # beyond any place, so that lengths can be taken; the track has the limit of places
    finite = (np.abs(np.concatenate([segments.start, segments.end])) <= _BEYOND).all(axis=0)
    good = finite & (segments.energy >= 0) & (segments.energy <= HIGHEST_ENERGY)
    if good.all():
        return
    first = int(np.flatnonzero(~good)[0])
    what = (
        f"segment {first} goes from {segments.start[:, first].tolist()} to {segments.end[:, first].tolist()} m"
        if not finite[first]
        else f"segment {first} has an energy of {segments.energy[first]} keV"
    )
    what += f"; {int((~good).sum())} such segments"
    raise InputError(what, where=name or None)


class EventFile(ABC):
    """A file of many events. Iterating gives a track for each.

    Parameters
    ----------
    path : Path
        The file.
    model : str, ChargeModel or Survival
        How energies become electrons.
    spacing : float
        Largest distance of points along a segment [m].
    """

    kind = ""
    """Which program wrote it."""

    def __init__(
        self,
        path: str | Path,
        *,
        model: str | ChargeModel | Survival = "constant",
        spacing: float = SPACING,
    ) -> None:
        self.path = Path(path)
        self.model = charge_model(model)
        self.spacing = spacing
        with opened(self.path) as file:
            self.runs = self._index(file)

    @property
    def events(self) -> list[int]:
        """Numbers of the events, rising."""
        return list(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Track]:
        with opened(self.path) as file:
            for event in self.runs:
                yield self._track(file, event)

    def track(self, event: int) -> Track:
        """Return an event as a track.

        Raises
        ------
        InputError
            If there is no such event, or it is damaged.
        """
        if event not in self.runs:
            what = f"has no event {event}"
            raise InputError(what, where=self.path, known=[str(each) for each in self.runs])
        with opened(self.path) as file:
            return self._track(file, event)

    def only(self, event: int | None = None) -> Track:
        """Return an event, or the only one.

        Raises
        ------
        UsageError
            If no event is named and there are many.
        InputError
            If there is none.
        """
        if event is not None:
            return self.track(event)
        if not self.runs:
            what = "has no events"
            raise InputError(what, where=self.path)
        if len(self.runs) > 1:
            what = f"has {len(self.runs)} events, not one"
            known = [str(each) for each in self.runs]
            raise UsageError(
                what, where=self.path, known=known, hint="event=NUMBER, or open_events(path) for all"
            )
        return self.track(self.events[0])

    def name_of(self, event: int) -> str:
        """Return the name of the track of an event."""
        return f"{self.path.stem}_event{event:06d}"

    @abstractmethod
    def table(self) -> pl.DataFrame:
        """Return one row for each event: ``event``, how many rows it has, and its sum."""

    @abstractmethod
    def _index(self, file: Any) -> dict[int, list[tuple[int, int]]]:
        """Return the stretches of rows of each event."""

    @abstractmethod
    def _track(self, file: Any, event: int) -> Track:
        """Return an event of the open file."""


def open_events(
    path: str | Path, *, model: str | ChargeModel | Survival = "constant", spacing: float = SPACING
) -> EventFile:
    """Return the events of an HDF5 file of edep-sim (as larnd-sim and GAMPixPy read it) or of GAMPixPy.

    Parameters
    ----------
    path : str or Path
        The file.
    model : str, ChargeModel or Survival
        How energies become electrons: a name, a model, or a function of dE/dx [MeV/cm] with W = 23.6 eV. Outputs of GAMPixPy
        have charges, which are taken as they are.
    spacing : float
        Largest distance of points along a segment [m].

    Returns
    -------
    EventFile
        With ``events``, ``table()``, ``track(event)``; it can be iterated.

    Raises
    ------
    InputError
        If it is no HDF5 file, damaged, or has neither segments nor pixels.
    """
    from firstlight.detectors.lartpc.reading.edep_sim import EdepSimFile
    from firstlight.detectors.lartpc.reading.gampixpy import GampixpyFile

    path = Path(path)
    layout = layout_of(path)
    if layout is None:
        with opened(path) as file:
            names = sorted(file)
        what = "has neither 'segments' (edep-sim) nor 'pixels' (GAMPixPy)"
        raise InputError(what, where=path, known=names)
    reader: type[EventFile] = EdepSimFile if layout == "edep-sim" else GampixpyFile
    return reader(path, model=model, spacing=spacing)


def layout_of(path: Path) -> str | None:
    """Return which program wrote an HDF5 file, ``"edep-sim"`` or ``"gampixpy"``, by the names in it; None for neither.

    Raises
    ------
    InputError
        If it is no HDF5 file, or damaged.
    """
    from firstlight.detectors.lartpc.reading.edep_sim import SEGMENTS

    with opened(path) as file:
        if any(name in file for name in SEGMENTS):
            return "edep-sim"
        return "gampixpy" if "pixels" in file else None
