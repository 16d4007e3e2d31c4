"""What is known of a simulated spill: the planted faults, and the record of the truth beside the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from firstlight.detectors.spinquest.simulation.noise import N_DETECTORS, N_ELEMENTS, TICK
from firstlight.errors import ConfigError
from firstlight.run.config import StrictModel, build, load_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.spinquest.geometry import Geometry, Plane

__all__ = [
    "Effects",
    "Fault",
    "Truth",
    "default_faults",
    "effects_of",
    "load_faults",
    "parse_fault",
    "planted",
]

Kind = Literal["dead", "block", "hot", "rate", "shift", "flag", "ids", "efficiency"]

# (what the value means, the value where none is given, its largest value)
_VALUES: dict[str, tuple[str, float, float]] = {
    "hot": ("times the normal rate", 40.0, 10_000.0),
    "rate": ("fraction of the hits that is left", 0.6, 1.0),
    "shift": ("shift of the TDC times [ns]", 36.0, 500.0),
    "ids": ("hits with impossible IDs per event", 0.5, 1000.0),
    "efficiency": ("efficiency for particles", 0.8, 1.0),
}
_BLOCK = 8  # tubes of a module, where the geometry does not say
_TEXT = re.compile(r"(?P<kind>[a-z]+)(:(?P<plane>\w+)(:(?P<elements>[\d,\-]+))?)?(=(?P<value>[-+.\deE]+))?")


class Fault(StrictModel):
    """A fault that is planted on purpose.

    Attributes
    ----------
    kind : str
        ``dead`` (the elements, or the whole plane if there are none), ``block`` (the hardware block of each
        element is dead), ``hot`` (elements with `value` times their rate), ``rate`` (plane or elements with
        the fraction `value` of all hits), ``shift`` (TDC times of the plane `value` ns larger), ``flag`` (the
        in-time flag of the plane, or of all, is never filled), ``ids`` (`value` extra hits per event with
        detector ID 0 or an element beyond its plane), ``efficiency`` (the plane has the efficiency `value`;
        noise stays).
    plane : str
        Name of a plane; empty for ``ids``, and for ``flag`` where it means all planes.
    elements : tuple of int
        Element numbers, from 1.
    value : float, optional
        See `kind`; by default 40 times, 0.6, 36 ns, 0.5 per event, 0.8.
    """

    kind: Kind
    plane: str = ""
    elements: tuple[int, ...] = ()
    value: float | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Fault:
        if not self.plane and self.kind not in {"flag", "ids"}:
            what = f"a fault of kind {self.kind!r} needs a plane"
            raise ValueError(what)
        if not self.elements and self.kind in {"block", "hot"}:
            what = f"a fault of kind {self.kind!r} needs elements"
            raise ValueError(what)
        if self.elements and self.kind in {"shift", "flag", "ids", "efficiency"}:
            what = f"a fault of kind {self.kind!r} is one of a whole plane and has no elements"
            raise ValueError(what)
        if self.value is None:
            return self
        if self.kind not in _VALUES:
            what = f"a fault of kind {self.kind!r} has no value"
            raise ValueError(what)
        meaning, _, largest = _VALUES[self.kind]
        lowest = -largest if self.kind == "shift" else 0.0
        if not lowest <= self.value <= largest:
            what = f"{meaning} must be between {lowest:g} and {largest:g}"
            raise ValueError(what)
        return self

    @property
    def amount(self) -> float:
        """The value, or the one that the kind has by default (0 if it has none)."""
        return _VALUES.get(self.kind, ("", 0.0, 0.0))[1] if self.value is None else self.value

    def __str__(self) -> str:
        text = ":".join([self.kind, self.plane, _shorten(self.elements)]).rstrip(":")
        return f"{text}={self.amount:g}" if self.kind in _VALUES else text


def _shorten(numbers: tuple[int, ...]) -> str:
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def parse_fault(text: str) -> Fault:
    """Return a fault that is written ``KIND[:PLANE[:ELEMENTS]][=VALUE]``.

    For example ``dead:D0Vp``, ``dead:D2X:98,100-102``, ``block:P1X1:20``, ``hot:D0X:74=40``, ``rate:D3pXp=0.6``,
    ``shift:D2U=36``, ``flag``, ``ids=0.5``, ``efficiency:D3mX=0.8``; `ConfigError` if it is not.
    """
    where = f"fault {text!r}"
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        what = "is not written KIND[:PLANE[:ELEMENTS]][=VALUE]"
        raise ConfigError(what, where=where, hint="for example hot:D0X:74=40 or dead:D2X:98,100-102")
    values: dict[str, Any] = {"kind": found["kind"], "plane": found["plane"] or ""}
    elements: list[int] = []
    for part in (found["elements"] or "").split(","):
        first, _, last = part.partition("-")
        if part and not first:
            raise ConfigError("an element number is missing", where=where)
        elements += range(int(first), int(last or first) + 1) if part else []
    values["elements"] = tuple(elements)
    if found["value"]:
        values["value"] = found["value"]
    return build(Fault, values, where=where)


def load_faults(source: str | Path) -> tuple[Fault, ...]:
    """Return the faults of a TOML or JSON file.

    The key ``faults`` holds a list of texts as for `parse_fault`, or of tables with the keys of `Fault`.
    """
    content = load_config(source)
    unknown = next((key for key in content if key != "faults"), None)
    if unknown is not None:
        raise ConfigError.unknown("key", unknown, ["faults"], where=source)
    faults = content.get("faults", [])
    if not isinstance(faults, list):
        raise ConfigError("faults must be a list", where=source)
    return as_faults(faults)


def as_faults(faults: Iterable[Fault | str | Mapping[str, Any]]) -> tuple[Fault, ...]:
    """Return faults that may be given as texts or tables."""
    found = []
    for fault in faults:
        if isinstance(fault, str):
            found.append(parse_fault(fault))
        else:
            found.append(fault if isinstance(fault, Fault) else build(Fault, fault, where="fault"))
    return tuple(found)


def default_faults() -> tuple[Fault, ...]:
    """Return one fault of each kind that a first look must find.

    A dead plane, a dead channel, a wire at 40 times its rate, a plane at 60 % of its rate, and a plane
    whose TDC times are 36 ns too large.
    """
    return as_faults(["dead:D0Vp", "dead:D2X:100", "hot:D0X:74=40", "rate:D3pXp=0.6", "shift:D2U=36"])


@dataclass(frozen=True)
class Effects:
    """What some faults do to hits.

    Parameters
    ----------
    keep : ndarray of float64, shape (N_DETECTORS * N_ELEMENTS,)
        Fraction of all hits of an element that is left.
    keep_particles : ndarray of float64, same shape
        The same for hits of particles, on top of `keep`.
    hot : ndarray of float64, same shape
        Extra hits in units of the normal rate.
    shift : ndarray of int64, shape (N_DETECTORS,)
        Shift of the times in TDC counts.
    flagged : ndarray of bool, shape (N_DETECTORS,)
        Whether the in-time flag is filled.
    bad_ids : float
        Hits with impossible IDs per event.
    """

    keep: NDArray[np.float64]
    keep_particles: NDArray[np.float64]
    hot: NDArray[np.float64]
    shift: NDArray[np.int64]
    flagged: NDArray[np.bool_]
    bad_ids: float


def effects_of(faults: Iterable[Fault], geometry: Geometry, efficiency: Mapping[str, float]) -> Effects:
    """Return what faults do to the hits of a geometry.

    Parameters
    ----------
    faults : iterable of Fault
        Effects multiply.
    geometry : Geometry
        Knows the planes and elements.
    efficiency : mapping of str to float
        Efficiency of each plane without faults; only these planes can have faults.

    Raises
    ------
    ConfigError
        If a plane or element does not exist.
    """
    keep, particles = np.ones((N_DETECTORS, N_ELEMENTS)), np.ones((N_DETECTORS, N_ELEMENTS))
    hot = np.zeros((N_DETECTORS, N_ELEMENTS))
    shift, flagged = np.zeros(N_DETECTORS, dtype=np.int64), np.ones(N_DETECTORS, dtype=bool)
    bad_ids = 0.0
    for fault in faults:
        if fault.kind == "ids":
            bad_ids += fault.amount
            continue
        if fault.kind == "flag" and not fault.plane:
            flagged[:] = False
            continue
        plane = _plane_of(fault, geometry, efficiency)
        where = plane.detector_id, _elements_of(fault, plane)
        if fault.kind in {"dead", "block"}:
            keep[where] = 0.0
        elif fault.kind == "rate":
            keep[where] *= fault.amount
        elif fault.kind == "efficiency":
            particles[where] *= min(fault.amount / efficiency[plane.name], 1.0)
        elif fault.kind == "hot":
            hot[where] += max(fault.amount - 1.0, 0.0)
        elif fault.kind == "shift":
            shift[plane.detector_id] += round(fault.amount / TICK)
        else:
            flagged[plane.detector_id] = False
    return Effects(keep.ravel(), particles.ravel(), hot.ravel(), shift, flagged, bad_ids)


def _plane_of(fault: Fault, geometry: Geometry, efficiency: Mapping[str, float]) -> Plane:
    known = {name.lower(): name for name in efficiency}
    if fault.plane.lower() not in known:
        raise ConfigError.unknown("plane", fault.plane, efficiency, where=f"fault {fault}")
    return geometry.plane(fault.plane)


def _elements_of(fault: Fault, plane: Plane) -> NDArray[np.int64]:
    """Return the numbers of the elements of a fault: all of the plane if it names none."""
    if not fault.elements:
        return np.arange(1, plane.n_elements + 1)
    outside = [element for element in fault.elements if not 1 <= element <= plane.n_elements]
    if outside:
        what = f"plane {plane.name} has the elements 1 to {plane.n_elements}, not {outside[0]}"
        raise ConfigError(what, where=f"fault {fault}")
    elements = np.unique(np.array(fault.elements, dtype=np.int64))
    if fault.kind != "block":
        return elements
    size = plane.block or _BLOCK
    first = np.unique((elements - 1) // size) * size + 1
    whole = (first[:, np.newaxis] + np.arange(size)).ravel()
    return np.asarray(whole[whole <= plane.n_elements])


def planted(fault: Fault, geometry: Geometry) -> dict[str, Any]:
    """Return a fault with all its elements and its value, for the record."""
    found: dict[str, Any] = {"text": str(fault), "kind": fault.kind, "plane": "", "elements": []}
    if fault.plane:
        plane = geometry.plane(fault.plane)
        found["plane"] = plane.name
        found["elements"] = _elements_of(fault, plane).tolist() if fault.elements else []
    return found | {"value": fault.amount if fault.kind in _VALUES else None}


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of a simulated spill.

    Parameters
    ----------
    path : Path
        The ROOT file; the record is beside it, see `record`.
    seed, run_id, spill_id : int
        As asked for.
    geometry : str
        Version of the table of planes.
    parameters : dict
        All other parameters, and the constants of the model.
    faults : tuple of Fault
        What was planted.
    planted : list of dict
        The same in full: ``text``, ``kind``, ``plane``, ``elements`` (of a block all of them; empty: the whole
        plane), ``value``.
    counts : dict of str to int
        Events, empty events, hits, hits in time, tracks, hits with impossible IDs.
    triggers : dict of str to int
        Events with each trigger.
    planes : list of dict
        One for each simulated plane: ``name``, ``detector_id``, ``efficiency`` (true, with faults; averaged
        over its elements), ``crossings`` and ``found`` (true tracks through the plane; those that left a
        hit), ``expected_hits``, ``hits``, ``in_time``.
    expected : ndarray of float64, shape (largest detector ID + 1, largest element ID + 1)
        Expected hits of each element for the tracks and the background of this spill.
    counted : ndarray of int64, same shape
        Hits as written.
    """

    path: Path
    seed: int
    run_id: int
    spill_id: int
    geometry: str
    parameters: dict[str, Any]
    faults: tuple[Fault, ...]
    planted: list[dict[str, Any]]
    counts: dict[str, int]
    triggers: dict[str, int]
    planes: list[dict[str, Any]]
    expected: NDArray[np.float64] = field(repr=False)
    counted: NDArray[np.int64] = field(repr=False)

    @property
    def record(self) -> Path:
        """The JSON file of this record: ``<name>_truth.json``."""
        return self.path.with_name(f"{self.path.stem}_truth.json")

    @property
    def tracks(self) -> Path:
        """The Parquet file of the true tracks, if they were asked for: ``<name>_tracks.parquet``."""
        return self.path.with_name(f"{self.path.stem}_tracks.parquet")

    def to_dict(self) -> dict[str, Any]:
        """Return the record as it is written."""
        return {
            "file": self.path.name,
            "synthetic": "simulated by firstlight, no real data",
            "seed": self.seed,
            "run_id": self.run_id,
            "spill_id": self.spill_id,
            "geometry": self.geometry,
            "parameters": self.parameters,
            "faults": self.planted,
            "counts": self.counts,
            "triggers": self.triggers,
            "planes": self.planes,
        }
