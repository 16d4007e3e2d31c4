"""The class and the functions of the original's tutorial: their names, arguments and keys.

    from firstlight.detectors.lartpc import tracks_tools
    track = tracks_tools.Tracks("Tracks/LAr/electrons/E0001000/TrackE0001000_D20250527_T1337068902")

Lengths are metres, charges electrons. All is done by the rooms of this detector; here it only gets its old names.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from firstlight.detectors.lartpc.drift import drift, split, stream
from firstlight.detectors.lartpc.features.voxelise import voxelise
from firstlight.detectors.lartpc.parameters import ReadParameters
from firstlight.detectors.lartpc.reading.names import ENDINGS, FORMS, find, stem_of
from firstlight.detectors.lartpc.reading.pickles import truth_pickle
from firstlight.detectors.lartpc.reading.tracks import has_truth, load, load_raw_truth, save_original
from firstlight.detectors.lartpc.readout.cells import cell_around, hexagonal_cell
from firstlight.detectors.lartpc.readout.read import read_out
from firstlight.detectors.lartpc.readout.step import event_seed
from firstlight.detectors.lartpc.track import Track
from firstlight.detectors.lartpc.tracks_samples import samples_of
from firstlight.errors import FirstlightError, InputError, StoreError, UsageError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.drift import Drifted
    from firstlight.detectors.lartpc.readout.cells import Cell
    from firstlight.detectors.lartpc.readout.read import Readout

    Points = dict[str, Any]

__all__ = [
    "Tracks",
    "compress_track",
    "decompress_track",
    "find_bounding_box",
    "find_bounding_cube",
    "get_cell_bounds",
    "load_track",
    "save_penelope_track",
    "save_track",
]

_LATER = {
    "raw": "no raw points (.npz) were found; `compressed` has them put together",
    "compressed": "call compress(), or give a track with a file .c.npz",
    "drifted": "call apply_drift() first",
    "pixel_samples": "call readout_charge() with a read-out that has pixels first",
    "coarse_grids_samples": "call readout_charge() with GAMPixG first",
    "coarse_tiles_samples": "call readout_charge() with GAMPixD first",
    "anode_grid_samples": "call readout_charge() with AnodeGridD or AnodeGridG first",
}


class Tracks:
    """A track that is drifted and read out.

    Parameters
    ----------
    track_file_name : str or Path
        With or without ending.
    charge_readout_name : str
        GAMPixG, GAMPixD, LArPix, AnodeGridD or AnodeGridG.
    readout_inputs_file_name : str or Path
        ``"default"``, or a file with inputs that differ.
    seed : int, optional
        Of all random numbers: the same calls in the same order give the same result, and every call has new numbers. Drawn and
        kept in `seed` if not given.
    compat : {"", "gampy"}
        ``"gampy"`` reads out with the bins and the noise of the original.

    Attributes
    ----------
    raw, compressed : dict
        ``r`` (3, N) and ``num_e`` (N,); ``bin_size`` of compressed points. There if there is such a file.
    truth, meta : dict
        The truth record with the keys of the original; the energy is ``track_energy`` and ``initial_particle_energy``.
    drifted : dict
        ``r`` (3, M), ``num_e`` (M,), ``depth``, and ``time`` (M,) [us]; after `apply_drift`.
    pixel_samples : dict
        After `readout_charge`: ``samples_triggered`` (n,), ``r_triggered`` (3, n), ``samples_raw`` (m,), ``r_raw`` (3, m);
        ``x``, ``y``, ``z``, ``charge`` of the triggered ones.
    coarse_grids_samples, coarse_tiles_samples, anode_grid_samples : dict
        Samples of wires or tiles, where the read-out has them.
    read_params : ReadParameters
        Inputs of the read-out, and what follows from them.
    sims_params : namespace
        ``cells``: the box around the track.

    Raises
    ------
    InputError
        If there is no such track, or it is damaged.
    UsageError
        If the read-out is unknown.
    """

    def __init__(
        self,
        track_file_name: str | Path,
        charge_readout_name: str = "GAMPixG",
        readout_inputs_file_name: str | Path = "default",
        seed: int | None = None,
        compat: Literal["", "gampy"] = "",
    ) -> None:
        if compat not in ("", "gampy"):
            raise UsageError.unknown("compatibility mode", compat, ("gampy",))
        self.track_file_name = str(track_file_name)
        if seed is not None and int(seed) < 0:
            what = f"the seed {seed}"
            raise UsageError(what, hint="a whole number of 0 or more")
        self.seed = secrets.randbits(48) if seed is None else int(seed)
        self.compat: Literal["", "gampy"] = compat
        raw, compressed, truth, meta = load_track(track_file_name)
        if raw is not None:
            self.raw: Points = raw
        if compressed is not None:
            self.compressed: Points = compressed
        self._truth, self.meta = truth, meta
        # of two tracks with one seed each has its own numbers
        points = self._points()
        self._rng = stream(self.seed, event_seed(Track(points["r"], points["num_e"])))
        self.reset_params(charge_readout_name, readout_inputs_file_name)
        if truth:
            truth["num_e_inbounds"] = int(self._points()["num_e"].sum())

    def __getattr__(self, name: str) -> Any:
        if name in _LATER:
            what = f"track has no {name!r} yet: {_LATER[name]}"
            raise AttributeError(what)
        what = f"'Tracks' has no attribute {name!r}"
        raise AttributeError(what)

    def __repr__(self) -> str:
        points = self._points()
        done = [name for name in _LATER if name in self.__dict__ and name not in ("raw", "compressed")]
        return (
            f"Tracks({Path(self.track_file_name).name!r}, {self.read_params.charge_readout_name}, "
            f"{points['num_e'].size:,} points, {int(points['num_e'].sum()):,} electrons"
            f"{', ' + ', '.join(done) if done else ''})"
        )

    @property
    def truth(self) -> dict[str, Any]:
        """The truth record; raises `InputError` for a track that has none."""
        if not self._truth:
            what = "the track has no truth record"
            raise InputError(
                what, where=self.track_file_name, hint="a .pickle or .json of the same name beside it"
            )
        return self._truth

    def reset_params(
        self, charge_readout_name: str = "GAMPixG", readout_inputs_file_name: str | Path = "default"
    ) -> None:
        """Choose a read-out: new parameters and a new box, and all that was drifted and read is forgotten."""
        self.read_params = ReadParameters(charge_readout_name, readout_inputs_file_name)
        self._set_cell()
        self._forget()

    def compress(self, scale: float = 200e-6, compressed: bool = False) -> None:
        """Put points together in cubes with the edge `scale` [m]; of the compressed points with `compressed`."""
        points = self.compressed if compressed else self._points(compressed=False)
        r, num_e, bin_size = compress_track(points["r"], points["num_e"], scale)
        self.compressed = {"r": r, "num_e": num_e, "bin_size": bin_size}

    def apply_drift(
        self, depth: float = 0.0, decompress: bool = True, compressed: bool = True, naive: bool = False
    ) -> None:
        """Drift the charge to the anode: losses and diffusion, into `drifted`.

        Parameters
        ----------
        depth : float
            Drift length added [m].
        decompress : bool
            Move every electron by itself (with ``compat="gampy"`` in bunches of half the noise, as the original); otherwise
            points are moved whole.
        compressed : bool
            Take the compressed points where there are any.
        naive : bool
            All drift the distance `depth`, wherever they are.
        """
        points = self._points(compressed=compressed)
        self._set_cell()
        self._drifted = drift(
            points["r"],
            points["num_e"],
            self.read_params.medium,
            self._rng,
            anode=self._cell.z_anode,
            depth=depth,
            bunch=self._bunch if decompress else None,
            naive=naive,
        )
        self._forget_samples()
        found = self._drifted
        self.drifted: Points = {
            "r": found.positions, "num_e": found.num_e, "depth": float(depth), "time": found.time,
        }  # fmt: skip

    def readout_charge(
        self, depth: float | None = None, stats_output: bool = False, compressed: bool = True
    ) -> None:
        """Read out what has drifted, into `pixel_samples` and the samples of the other stages.

        Parameters
        ----------
        depth : float, optional
            Drift length added [m]. Drifts if nothing has drifted yet, or with another depth; without it what has drifted
            is read, or drifts with a depth of 0.
        stats_output : bool
            Add ``num_pixels_triggered`` to the samples.
        compressed : bool
            As for `apply_drift`.
        """
        if "drifted" not in self.__dict__ or (depth is not None and depth != self.drifted["depth"]):
            self.apply_drift(depth=depth or 0.0, compressed=compressed)
        self._forget_samples()
        self._read = read_out(
            self._drifted,
            self.read_params.design,
            self._rng,
            compat=self.compat,
            cell=self._cell,
        )
        for name, samples in samples_of(self._read, stats=stats_output).items():
            setattr(self, name, samples)

    def display(self, raw: bool = True, drifted: bool = False, pixels: bool = True, **options: Any) -> Any:
        """Draw the track in three dimensions.

        Parameters
        ----------
        raw, drifted, pixels : bool
            Draw the points, what has drifted, triggered pixels; what is not there yet is left out.
        **options
            ``resolution``, ``max_num_e``, ``max_pixel_samples``, ``plot_lims``, ``units``, ``show_initial_vector``,
            ``center``, ``show_origin``, ``view_angles``, ``no_axes``, ``show_title``.

        Returns
        -------
        fig, ax, plot_lims
            The matplotlib figure, its axes, and the limits drawn, shape (3, 2).
        """
        from firstlight.detectors.lartpc.views.three import display_track

        own = self._as_track()
        hits = self._read.hits if "_read" in self.__dict__ else None
        drawn = display_track(
            own if raw else None,
            self._drifted if drifted and "drifted" in self.__dict__ else None,
            hits if pixels else None,
            track=own,
            **options,
        )
        _give_to_pyplot(drawn[0])
        return drawn

    @property
    def _bunch(self) -> float:
        return self.read_params.design.gampy_bunch if self.compat == "gampy" else 1.0

    def _points(self, *, compressed: bool = False) -> Points:
        order = ("compressed", "raw") if compressed else ("raw", "compressed")
        return next(self.__dict__[name] for name in order if name in self.__dict__)

    def _as_track(self) -> Track:
        points = self._points()
        whole = load(self.track_file_name)
        return Track(points["r"], points["num_e"], whole.truth, whole.meta, whole.name)

    def _set_cell(self) -> None:
        self._cell: Cell = cell_around(self._points()["r"], self.read_params.design)
        self.sims_params = SimpleNamespace(cells=self._cell.as_dict(), inputs={"cells": hexagonal_cell()})

    def _forget(self) -> None:
        self.__dict__.pop("drifted", None)
        self.__dict__.pop("_drifted", None)
        self._forget_samples()

    def _forget_samples(self) -> None:
        self.__dict__.pop("_read", None)
        for name in [name for name in self.__dict__ if "samples" in name]:
            del self.__dict__[name]

    _drifted: Drifted
    _read: Readout


def _give_to_pyplot(figure: Any) -> None:
    """Make a figure one of pyplot's, where that is in use: then ``plt.show()`` shows it, as a script of the original expects."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    manager = pyplot.figure().canvas.manager
    manager.canvas.figure = figure
    figure.set_canvas(manager.canvas)


class _Record(dict[str, Any]):
    """A truth record that names what it has where it is asked for something else."""

    def __missing__(self, key: str) -> Any:
        raise UsageError.unknown("entry of the truth record", key, self)


def load_track(
    name: str | Path, read_raw: bool = True, read_compressed: bool = True
) -> tuple[Points | None, Points | None, dict[str, Any], dict[str, Any]]:
    """Read a track.

    Returns
    -------
    raw, compressed : dict or None
        ``r`` (3, N) and ``num_e`` (N,), ``bin_size`` of compressed points; None where there is no such file, or it is not
        asked for.
    truth, meta : dict
        The truth record with the keys of the original; empty where there is none.

    Raises
    ------
    InputError
        If there is no such track, or it is damaged.
    """
    found = find(name)
    raw: Points | None = None
    compressed: Points | None = None
    forms = [form for form in FORMS if form in found.files]
    # the first of the whole forms that is there; a file of another kind has but one
    whole_form = next((form for form in forms if form != "compressed"), None)
    if read_raw and (whole_form is not None or not forms):
        whole = load(name, form=whole_form, truth=False)
        raw = {"r": whole.positions, "num_e": whole.num_e}
    if read_compressed and "compressed" in forms:
        whole = load(name, form="compressed", truth=False)
        compressed = {"r": whole.positions, "num_e": whole.num_e, "bin_size": whole.bin_size}
    if raw is None and compressed is None:
        what = "has no points of the kind that was asked for"
        raise InputError(what, where=name, known=sorted(path.name for path in found.files.values()))
    truth, meta = _truth_beside(name, found.files)
    return raw, compressed, truth, meta


def _truth_beside(name: str | Path, files: Mapping[str, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    if "other" in files or not has_truth(name):
        return {}, {}
    truth, meta = load_raw_truth(name)
    return _Record(truth), meta


def save_track(
    name: str | Path, track: Tracks, write_raw: bool = True, write_compressed: bool = True
) -> None:
    """Write a track as the original does: ``.npz`` and ``.c.npz`` with its truth as a pickle beside them.

    Raises
    ------
    InputError
        If it has no truth record.
    UsageError
        If nothing is to be written.
    """
    whole = load(track.track_file_name)
    written = False
    for form, wanted in (("raw", write_raw), ("compressed", write_compressed)):
        points = track.__dict__.get(form)
        if not wanted or points is None:
            continue
        size = float(points.get("bin_size", 0.0))
        own = Track(points["r"], points["num_e"], whole.truth, whole.meta, whole.name, bin_size=size)
        save_original(own, name, compressed=form == "compressed")
        written = True
    if not written:
        what = "nothing to write: the track has none of the points that are asked for"
        raise UsageError(what, where=name)


def save_penelope_track(name: str | Path, track_dict: Mapping[str, Any]) -> None:
    """Write what came out of PENELOPE as the original does: ``.p.npz`` with energies, or ``.npz`` with charges, and a pickle.

    Parameters
    ----------
    name : str or Path
        With or without ending.
    track_dict : mapping
        ``r`` (3, N) [m]; ``delta_energy`` (N,) [keV] or ``num_e`` (N,); ``truth`` and ``meta``, dictionaries of plain
        values and arrays.

    Raises
    ------
    InputError
        If a part is missing, or lengths disagree.
    UsageError
        If the record holds values that no truth pickle may have.
    StoreError
        If a record of the own form stands there.
    """
    known = set(track_dict)
    columns = {"delta_energy", "num_e"} & known
    if not {"r", "truth", "meta"} <= known or not columns:
        what = "a track of PENELOPE needs 'r', 'truth', 'meta', and 'delta_energy' or 'num_e'"
        raise InputError(what, where=name, known=sorted(known))
    arrays: dict[str, Any] = {key: np.asarray(track_dict[key]) for key in ("r", *sorted(columns))}
    for key in columns:
        if arrays["r"].ndim != 2 or arrays["r"].shape != (3, arrays[key].size):
            what = f"'r' has the shape {arrays['r'].shape}, {key!r} {arrays[key].shape}"
            raise InputError(what, where=name, hint="(3, N) and (N,)")
    stem = stem_of(name)
    own = stem.with_name(stem.name + ENDINGS["json"])
    if own.exists():
        what = f"{own.name} is there: it would be taken for the record of these points"
        raise StoreError(what, where=name, hint="another name, or remove it")
    record = truth_pickle(track_dict["truth"], track_dict["meta"])
    ending = ENDINGS["energies" if "delta_energy" in columns else "raw"]
    with atomic(stem.with_name(stem.name + ending)) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    with atomic(stem.with_name(stem.name + ENDINGS["pickle"])) as temporary:
        temporary.write_bytes(record)


def compress_track(
    r: NDArray[np.float64], num_e: NDArray[np.int64], scale: float = 200e-6
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Put points together in cubes.

    Parameters
    ----------
    r : ndarray, shape (3, n)
        Points [m].
    num_e : ndarray of int64, shape (n,)
        Charges.
    scale : float
        Edge of a cube [m].

    Returns
    -------
    r : ndarray, shape (3, m)
        Mean position of the charge in each cube with any [m].
    num_e : ndarray of int64, shape (m,)
        Charges; the sum is that of before.
    bin_size : float
        `scale`.
    """
    if not scale > 0:
        what = f"cubes with an edge of {scale} m"
        raise UsageError(what, hint="for example 200e-6")
    voxels = voxelise(np.asarray(r, dtype=np.float64), np.asarray(num_e), scale)
    return voxels.positions, np.rint(voxels.charge).astype(np.int64), float(scale)


def decompress_track(
    max_per_bin: float, num_e: NDArray[np.int64], r: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Split points into bunches of at most `max_per_bin` electrons at the same place; return their charges and places."""
    bunches, source = split(np.asarray(num_e, dtype=np.int64), max_per_bin)
    return bunches, np.asarray(r)[:, source]


def find_bounding_box(r: NDArray[np.float64], buffer: float = 0.0) -> NDArray[np.float64]:
    """Return the limits, shape (3, 2), of points of shape (3, n), with `buffer` on each side [m]."""
    points = np.asarray(r, dtype=np.float64)
    if points.ndim != 2 or points.shape[0] != 3 or points.shape[1] == 0:
        what = f"points of the shape {points.shape} have no box"
        raise InputError(what, hint="one point or more, of shape (3, n)")
    return np.stack([points.min(axis=1) - buffer, points.max(axis=1) + buffer], axis=1)


def find_bounding_cube(r: NDArray[np.float64], buffer: float = 0.0) -> NDArray[np.float64]:
    """Return the limits, shape (3, 2), of the cube around points of shape (3, n), with `buffer` on each side [m]."""
    box = find_bounding_box(r, buffer)
    middle, half = box.mean(axis=1), 0.5 * float(np.ptp(box, axis=1).max())
    return np.stack([middle - half, middle + half], axis=1)


def get_cell_bounds(cells: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the limits, shape (3, 2), of ``sims_params.cells`` [m]; z ends at the anode."""
    half = 0.5 * np.array([cells["width_x"], cells["width_y"]])
    top = float(cells["z_anode"])
    return np.array([[-half[0], half[0]], [-half[1], half[1]], [top - float(cells["height"]), top]])


def compressed(track: Track, edge: float) -> Track:
    """Return a track with its points put together in cubes with an edge [m]; what single points had is lost.

    Raises
    ------
    FirstlightError
        If the edge is not positive.
    """
    if not edge > 0:
        what = f"cubes with an edge of {edge} m"
        raise FirstlightError(what, hint="for example 200e-6")
    r, num_e, bin_size = compress_track(track.positions, track.num_e, edge)
    return Track(r, num_e, track.truth, track.meta, track.name, bin_size=bin_size)
