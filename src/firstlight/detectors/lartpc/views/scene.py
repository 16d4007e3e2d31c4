"""What is drawn of an event, the same for matplotlib and for the page: layers of charge, cubes, truth.

Lengths are metres here; pictures multiply them with `UNITS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from firstlight.detectors.lartpc.views.cubes import Cube, Part, core_cube, cube_of, share_cube
from firstlight.detectors.lartpc.views.voxels import MOST_MARKERS, adapted_voxels, voxelise
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.lartpc.drift import Drifted
    from firstlight.detectors.lartpc.readout.hits import Hits
    from firstlight.detectors.lartpc.track import Track, Truth

    Floats = NDArray[np.float64]

__all__ = [
    "LAYERS",
    "UNITS",
    "Layer",
    "Scene",
    "Zoom",
    "drifted_layer",
    "energy_text",
    "first_words",
    "hits_layer",
    "length_text",
    "particle_labels",
    "raw_layer",
    "scene_of",
    "title_of",
    "unit_scale",
]

UNITS = {"m": 1.0, "cm": 1e2, "mm": 1e3, "um": 1e6, "µm": 1e6, "nm": 1e9}
LAYERS = ("raw", "drifted", "hits")
Zoom = Literal["all", "core"] | float

_ALIKE = 30  # voxels along the core
_COARSE = 5e-4  # m, cells in which the core is looked for


@dataclass(frozen=True)
class Layer:
    """Charge of one stage, as it is drawn.

    Parameters
    ----------
    name : str
        Of `LAYERS`, or any other.
    positions : ndarray, shape (3, n)
        Where a marker stands [m].
    charge : ndarray, shape (n,)
        Electrons of a marker.
    about : str
        What the markers are, for the title of a panel: ``"122,153 points in 404 voxels of 0.2 mm"``.
    marker : str
        What one marker is: ``"voxel of 0.2 mm"``.
    edge : float
        Edge of what a marker stands for [m]; 0 for a point.
    label : ndarray of int64, shape (n,), or None
        Cluster or particle; negative: none.
    values : mapping of str to ndarray, shape (n,)
        Other values to colour by: ``"time"`` [us].
    """

    name: str
    positions: Floats
    charge: Floats
    about: str = ""
    marker: str = "point"
    edge: float = 0.0
    label: NDArray[np.int64] | None = None
    values: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.charge.size

    def inside(self, cube: Cube) -> Layer:
        """Return the part that lies in a cube, the largest charges last, so that they are drawn on top."""
        keep = np.flatnonzero(cube.holds(self.positions))
        keep = keep[np.argsort(self.charge[keep], kind="stable")]
        return Layer(
            self.name, self.positions[:, keep], self.charge[keep], self.about, self.marker, self.edge,
            None if self.label is None else self.label[keep],
            {name: entry[keep] for name, entry in self.values.items()},
        )  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """An event with all that is drawn of it.

    Parameters
    ----------
    title : str
        Particle, energy and name.
    layers : tuple of Layer
        In the order of the panels.
    truth : Truth or None
        What is marked.
    whole, core : Cube
        All of it; and the largest connected piece.
    facts : tuple of (str, str)
        Names and values for a page.
    """

    title: str
    layers: tuple[Layer, ...]
    truth: Truth | None
    whole: Cube
    core: Cube
    facts: tuple[tuple[str, str], ...] = ()

    def layer(self, name: str) -> Layer:
        """Return a layer by its name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UsageError.unknown("layer", name, [layer.name for layer in self.layers], where=self.title)

    def cube(self, zoom: Zoom = "all") -> Cube:
        """Return what is shown: everything, the core, or the cube that holds this share of the charge."""
        if isinstance(zoom, str):
            named = {"all": self.whole, "core": self.core}
            if zoom not in named:
                raise UsageError.unknown("zoom", zoom, [*named, "a share of the charge: 0.9"])
            return named[zoom]
        return share_cube(self.layers[0].positions, self.layers[0].charge, zoom)


# ---------------------------------------------------------------- layers


def raw_layer(
    track: Track,
    *,
    edge: float | None = None,
    across: float | None = None,
    most: int = MOST_MARKERS,
    label: ArrayLike | None = None,
    points: bool = False,
) -> Layer:
    """Return the points of a track in voxels.

    Parameters
    ----------
    track : Track
        Any.
    edge, across, most
        As in `adapted_voxels`.
    label : array of int, shape (n_points,), optional
        Cluster or particle of each point.
    points : bool
        Every point by itself.
    """
    if points:
        labels = None if label is None else np.asarray(label, dtype=np.int64)
        about = f"{len(track):,} points"
        return Layer(
            "raw", track.positions, track.num_e.astype(np.float64), about, "point", track.bin_size, labels
        )
    found = adapted_voxels(track.positions, track.num_e, edge=edge, across=across, most=most, label=label)
    marker = f"voxel of {length_text(found.edge)}"
    about = f"{_counted(len(track), 'point')} in {_counted(len(found), 'voxel')} of {length_text(found.edge)}"
    return Layer("raw", found.positions, found.charge, about, marker, found.edge, found.label)


def drifted_layer(
    drifted: Drifted,
    *,
    edge: float | None = None,
    across: float | None = None,
    most: int = MOST_MARKERS,
    label: ArrayLike | None = None,
) -> Layer:
    """Return drifted electrons in voxels, with their drift time; parameters as in `raw_layer`."""
    found = adapted_voxels(
        drifted.positions, drifted.num_e, edge=edge, across=across, most=most,
        label=label, values={"time": drifted.time},
    )  # fmt: skip
    marker = f"voxel of {length_text(found.edge)}"
    voxels = f"{_counted(len(found), 'voxel')} of {length_text(found.edge)}"
    about = f"depth {length_text(drifted.depth)}, {_counted(drifted.num_e.size, 'bunch')} in {voxels}"
    return Layer(
        "drifted", found.positions, found.charge, about, marker, found.edge, found.label, found.values
    )


def hits_layer(
    hits: Hits, *, most: int = 5 * MOST_MARKERS, label: ArrayLike | None = None, all_samples: bool = False
) -> Layer:
    """Return the samples above threshold, or all.

    Parameters
    ----------
    hits : Hits
        Samples of a read-out.
    most : int
        Where there are more samples than this they are put together into larger voxels.
    label : array of int, shape (n,), optional
        Cluster of each sample.
    all_samples : bool
        Also those that did not trigger; such with a negative charge are never shown.
    """
    keep = (hits.charge > 0) & (all_samples | hits.triggered)
    where, charge = hits.positions[:, keep], hits.charge[keep]
    labels = None if label is None else np.asarray(label, dtype=np.int64)[keep]
    pitch = max(hits.pitch)
    about = f"{_counted(charge.size, 'sample')} of {length_text(pitch)} above {hits.threshold:,.0f} e⁻"
    if all_samples:
        about = f"{_counted(charge.size, 'sample')} of {length_text(pitch)}, triggered or not"
    if charge.size <= most:
        return Layer("hits", where, charge, about, f"sample of {length_text(pitch)}", pitch, labels)
    found = voxelise(where, charge, 2 * pitch, label=labels)
    about += f", in voxels of {length_text(found.edge)}"
    return Layer(
        "hits",
        found.positions,
        found.charge,
        about,
        f"voxel of {length_text(found.edge)}",
        found.edge,
        found.label,
    )


def scene_of(
    track: Track | None = None,
    drifted: Drifted | None = None,
    hits: Hits | None = None,
    *,
    labels: Mapping[str, ArrayLike] | None = None,
    edge: float | None = None,
    most: int = MOST_MARKERS,
    title: str | None = None,
    truth: Truth | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> Scene:
    """Put an event together from what there is of it.

    Parameters
    ----------
    track, drifted, hits : Track, Drifted, Hits, optional
        At least one.
    labels : mapping of str to array of int, optional
        Cluster or particle of each point: ``{"raw": ..., "drifted": ..., "hits": ...}``. What drifted has the labels
        of the points that it comes from where it is given none.
    edge : float, optional
        Edge of the voxels [m]; by default it suits the size of the core.
    most : int
        Voxels at most in a layer.
    title : str, optional
        `title_of` the track by default.
    truth : Truth, optional
        That of the track by default.
    facts : sequence of (str, str)
        More for a page.

    Raises
    ------
    UsageError
        If there is nothing to draw, or labels are given of a layer that is not there.
    """
    known = dict(labels or {})
    if drifted is not None and track is not None and "raw" in known and "drifted" not in known:
        known["drifted"] = np.asarray(known["raw"])[drifted.source]
    there = {"raw": track, "drifted": drifted, "hits": hits}
    for name in known:
        if there.get(name) is None:
            present = [layer for layer, given in there.items() if given is not None]
            raise UsageError.unknown("layer", name, present, where="labels")
    if track is None and drifted is None and hits is None:
        what = "there is nothing to draw"
        raise UsageError(what, hint="give a track, what drifted, or hits")
    first = track if track is not None else drifted if drifted is not None else hits
    charge = np.asarray(first.charge if first is hits else first.num_e, dtype=np.float64)  # type: ignore[union-attr]
    # the core is found on a coarse grid: the points themselves are too many
    coarse = voxelise(first.positions, np.maximum(charge, 0), _COARSE)  # type: ignore[union-attr]
    across = core_cube(Part(coarse.positions, coarse.charge)).edge
    layers = []
    if track is not None:
        layers.append(raw_layer(track, edge=edge, across=across, most=most, label=known.get("raw")))
    if drifted is not None:
        # in voxels of the size of a hit both have the same colours, if these are small enough to show a shape
        alike = hits is not None and edge is None and _ALIKE * max(hits.pitch) < across
        own = max(hits.pitch) if hits is not None and alike else edge
        layers.append(
            drifted_layer(drifted, edge=own, across=across, most=2 * most, label=known.get("drifted"))
        )
    if hits is not None:
        layers.append(hits_layer(hits, label=known.get("hits")))
    truth = truth or (track.truth if track is not None else None)
    whole = cube_of(*(layer.positions for layer in layers))
    core = core_cube(
        *(Part(layer.positions, layer.charge, layer.edge, layer.name == "drifted") for layer in layers)
    )
    core = core if core.edge < whole.edge else whole
    named = title if title is not None else title_of(track)
    return Scene(named, tuple(layers), truth, whole, core, tuple(facts))


def particle_labels(track: Track, most: int = 9) -> NDArray[np.int64]:
    """Return a label for each point by the particle that made it: 0 for the one with the most charge, and so on.

    Particles after the first `most` have the label -1.

    Raises
    ------
    UsageError
        If the track does not say which particle made a point.
    """
    if track.particle_id is None:
        what = "the track does not say which particle made a point"
        raise UsageError(what, where=track.name or None, hint="colour by charge or by cluster")
    names, place = np.unique(track.particle_id, return_inverse=True)
    order = np.argsort(-np.bincount(place, weights=track.num_e), kind="stable")
    rank = np.full(names.size, -1, dtype=np.int64)
    rank[order[:most]] = np.arange(min(most, names.size))
    return np.asarray(rank[place])


# ---------------------------------------------------------------- words


def title_of(track: Track | None) -> str:
    """Return particle, energy, first interaction of a photon, and name."""
    if track is None:
        return ""
    if track.truth is None:
        return track.name or "track"
    kind = f"{energy_text(track.truth.energy)} {track.truth.particle}"
    words = [kind, first_words(track.truth), track.name]
    return " · ".join(word for word in words if word)


def first_words(truth: Truth | None) -> str:
    """Return how a photon interacted first, as words; nothing for other particles."""
    if truth is None or truth.particle != "photon":
        return ""
    return {"compton": "Compton", "photo": "photoelectric"}.get(
        truth.first_interaction, truth.first_interaction
    )


def energy_text(energy: float) -> str:
    """Return an energy in keV as a person says it: ``10 MeV``."""
    return f"{energy / 1000:g} MeV" if energy >= 1000 else f"{energy:g} keV"


def length_text(length: float) -> str:
    """Return a length in metres as a person says it: ``0.2 mm``."""
    if length == 0 or abs(length) >= 1e-4:
        return f"{length:.3g} m" if abs(length) >= 1 else f"{length * 1e3:.3g} mm"
    return f"{length * 1e6:.3g} µm"


def unit_scale(units: str) -> float:
    """Return how many of a unit are a metre.

    Raises
    ------
    UsageError
        If the unit is not of `UNITS`.
    """
    if units not in UNITS:
        raise UsageError.unknown("unit", units, UNITS)
    return UNITS[units]


def _counted(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"
