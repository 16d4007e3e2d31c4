"""Events that GAMPixPy simulated: pixels and tiles with their charges, in cm and us.

The files keep the settings of the simulation as pickles in attributes. Those are never read; so pitch, noise and threshold are
not known, and pixels come as points of a track and not as `Hits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.hdf5 import Table, opened, runs_of
from firstlight.detectors.lartpc.reading.segments import EventFile
from firstlight.detectors.lartpc.track import MOST_ELECTRONS, Track
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

__all__ = ["GampixpyFile"]

_CM = 1e-2
_MEV = 1e3
_KINDS = {"pixels": "pixel", "tiles": "tile"}
_EVENT = "event id"


class GampixpyFile(EventFile):
    """Events of a GAMPixPy output; each is one track with a point for every pixel record.

    Raises
    ------
    InputError
        If columns are missing, or the file is damaged.
    """

    kind = "GAMPixPy"

    def _index(self, file: Any) -> dict[int, list[tuple[int, int]]]:
        pixels = Table(file, ("pixels",), self.path)
        name = pixels.name_of(_EVENT)
        runs = runs_of(pixels.read(name)[name])
        if "meta" in file:
            # events without a pixel stand there only
            meta = Table(file, ("meta",), self.path)
            known = meta.read(meta.name_of(_EVENT))[_EVENT].tolist()
            runs = {event: runs.get(event, []) for event in sorted({*runs, *map(int, known)})}
        return runs

    def table(self) -> pl.DataFrame:
        """Return ``event``, ``n_pixels`` and ``charge`` (measured electrons) of each event."""
        import polars as pl

        rows = []
        with opened(self.path) as file:
            pixels = Table(file, ("pixels",), self.path)
            for event, runs in self.runs.items():
                charge = _charges(pixels, runs)
                rows.append((event, charge.size, float(charge.sum())))
        schema = {"event": pl.Int64, "n_pixels": pl.Int64, "charge": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def samples(self, event: int, kind: str = "pixels") -> pl.DataFrame:
        """Return the records of an event as they were measured.

        Parameters
        ----------
        event : int
            Which.
        kind : str
            ``"pixels"`` or ``"tiles"``.

        Returns
        -------
        polars.DataFrame
            ``x``, ``y``, ``z`` [m], ``time`` [us], ``charge`` (sum of the waveform, electrons), and ``charge_true`` (before
            noise), ``triggered`` where the release that wrote the file kept them.

        Raises
        ------
        UsageError
            If `kind` is neither.
        InputError
            If there is no such event.
        """
        import polars as pl

        if kind not in _KINDS:
            raise UsageError.unknown("kind of record", kind, _KINDS)
        if event not in self.runs:
            what = f"has no event {event}"
            raise InputError(what, where=self.path, known=[str(each) for each in self.runs])
        with opened(self.path) as file:
            table = Table(file, (kind,), self.path)
            runs = runs_of(table.read(table.name_of(_EVENT))[_EVENT]).get(event, [])
            positions = _positions(table, _KINDS[kind], runs)
            columns: dict[str, Any] = dict(zip("xyz", positions, strict=True))
            columns["time"] = table.read(table.name_of("trig t"), runs=runs)["trig t"].astype(np.float64)
            columns["charge"] = _charges(table, runs)
            if table.has("true charge"):
                columns["charge_true"] = table.read("true charge", runs=runs)["true charge"].astype(
                    np.float64
                )
            elif table.has("raw waveform"):
                columns["charge_true"] = _charges(table, runs, "raw waveform")
            if table.has("trigger"):
                columns["triggered"] = table.read("trigger", runs=runs)["trigger"]
        return pl.DataFrame(columns)

    def _track(self, file: Any, event: int) -> Track:
        pixels = Table(file, ("pixels",), self.path)
        runs = self.runs[event]
        measured = _charges(pixels, runs)
        good = np.abs(measured) <= MOST_ELECTRONS
        if not good.all():
            first = int(np.flatnonzero(~good)[0])
            what = (
                f"event {event}: the charge of pixel {first} is {measured[first]:g} electrons: it is not finite, or more than "
                f"any event has"
            )
            raise InputError(what, where=self.path)
        negative = measured < 0
        notes = [
            "points are pixels that GAMPixPy measured, with noise; the primary particle is not in the file"
        ]
        if negative.any():
            notes.append(
                f"{int(negative.sum())} pixels with {measured[negative].sum():.4g} electrons were set to 0"
            )
        meta = {
            "source": self.kind, "form": "pixels", "event": event, "charge_model": None, "charge_scale": 1.0,
            "density": None, "temperature": None, "seed": None, "notes": notes, "primary": self._primary(file, event),
        }  # fmt: skip
        charges = np.rint(np.where(negative, 0.0, measured)).astype(np.int64)
        try:
            return Track(_positions(pixels, "pixel", runs), charges, None, meta, name=self.name_of(event))
        except InputError as error:
            raise InputError(f"event {event}: {error.what}", where=self.path) from error  # noqa: EM102

    def _primary(self, file: Any, event: int) -> dict[str, Any] | None:
        """Return what the file says of the primary; GAMPixPy writes -1 for what it does not know."""
        if "meta" not in file:
            return None
        table = Table(file, ("meta",), self.path)
        names = ("primary energy", "vertex x", "vertex y", "vertex z", "theta", "phi")
        if not all(table.has(name) for name in names):
            return None
        values = table.read(_EVENT, *names)
        rows = np.flatnonzero(values[_EVENT] == event)
        if rows.size != 1:
            return None
        energy, x, y, z, azimuth, polar = (float(values[name][rows[0]]) for name in names)
        known = energy > 0 and np.isfinite([energy, x, y, z, azimuth, polar]).all()
        if not known:
            return None
        # its "theta" is the azimuth and its "phi" the angle to z
        direction = [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)]
        return {
            "energy_keV": energy * _MEV,
            "origin_m": [x * _CM, y * _CM, z * _CM],
            "direction": None if azimuth == polar == -1.0 else [float(each) for each in direction],
        }


def _positions(table: Table, word: str, runs: list[tuple[int, int]]) -> NDArray[np.float64]:
    names = (table.name_of(f"{word} x"), table.name_of(f"{word} y"), table.name_of("trig z"))
    values = table.read(*names, runs=runs)
    return np.stack([values[name] for name in names]).astype(np.float64) * _CM


def _charges(table: Table, runs: list[tuple[int, int]], name: str = "waveform") -> NDArray[np.float64]:
    waveform = table.read(table.name_of(name), runs=runs)[name].astype(np.float64)
    return np.asarray(waveform.reshape(waveform.shape[0], -1).sum(axis=1)) if waveform.size else np.zeros(0)
