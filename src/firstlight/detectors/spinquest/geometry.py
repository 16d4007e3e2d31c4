"""Planes of the spectrometer: names, positions of their elements, X-T relations.

The tables are CSV files in the folder ``tables`` beside this module. Another run period needs another
table, not other code: `load_geometry` also takes the path of a file with the same columns. Coordinates: z
along the beam, y up, x to the left of who looks along the beam. Lengths in cm, angles in rad, times in ns.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "OUTLINES",
    "Geometry",
    "Outline",
    "Plane",
    "available_geometries",
    "drift_distance",
    "drift_time",
    "element_position",
    "in_time_window",
    "load_geometry",
    "wire_ends",
]

FOLDER = Path(__file__).with_name("tables")
DRIFT_TIMES = "drift_times"  # the one file of the folder that is not a table of planes
KINDS = ("chamber", "hodoscope", "prop_tube", "dark_photon")
VIEWS = ("X", "X'", "U", "U'", "V", "V'", "Y")


@dataclass(frozen=True)
class Plane:
    """One plane; the fields are the columns of a geometry file. An empty cell is None (or "").

    Attributes
    ----------
    detector_id, name, station : int, str, str
        Number in the data, from 1; ``"D0U"``; ``"St. 1"`` to ``"St. 4"``, ``"DP 1"``, ``"DP 2"``.
    kind, view : str
        One of `KINDS`; what is measured, one of `VIEWS`.
    group, legacy_group, drawing_order : str, str, int
        Unique label of the planes that are drawn together (``"Hodo-1"``); the label in the first viewer, not
        unique (``"Hodo"``) and empty for planes that it did not draw; place in the map of all planes, from 1.
    partner : str
        Plane with the same element numbers whose counts should be alike: the other layer of a double layer or
        the mirror image top/bottom. Empty if there is none.
    n_elements, n_optional : int
        Wires, tubes or bars, numbered from 1; so many at the end may be absent, which is then no fault.
    reversed, block : bool, int
        The numbers run against the measuring direction (dark-photon planes below the beam); elements of one
        hardware block (8 tubes of a module), 0 if not known.
    pitch, cell_width, x_offset, delta_w : float
        Distance and width of the elements; their shift by construction and by alignment [cm].
    angle, theta_z : float
        Angle of the wires from the vertical, and rotation of the plane about z [rad].
    x0, y0, z0, width, height : float
        Centre of the plane, and its size before the rotation [cm].
    drift_maximum, drift_curve : float or None, str
        Largest drift distance [cm]; X-T relation in ``drift_times.csv``, empty if there is none.
    tdc_low, tdc_high : float or None
        Times of hits in time, which is the range of the X-T relation [ns].
    tdc_histogram_low, tdc_histogram_high : float
        Range of TDC histograms, as in the online monitor of the experiment [ns].
    """

    detector_id: int
    name: str
    station: str
    kind: str
    group: str
    legacy_group: str
    drawing_order: int
    view: str
    partner: str
    n_elements: int
    n_optional: int
    reversed: bool
    block: int
    pitch: float
    cell_width: float
    x_offset: float
    delta_w: float
    angle: float
    theta_z: float
    x0: float
    y0: float
    z0: float
    width: float
    height: float
    drift_maximum: float | None
    drift_curve: str
    tdc_low: float | None
    tdc_high: float | None
    tdc_histogram_low: float
    tdc_histogram_high: float


# the annotations of `Plane` are the schema of the files
COLUMNS: dict[str, str] = {field.name: str(field.type) for field in fields(Plane)}
DTYPES = {"int": pl.Int64, "str": pl.String, "bool": pl.Boolean}  # all others are Float64
LARGEST_ID = 32767  # detector and element IDs are 16-bit numbers in the raw files
MAY_BE_EMPTY = ("legacy_group", "partner", "drift_curve")


@dataclass(frozen=True)
class Outline:
    """A box for event displays that is no detector: extent along z and half sizes [cm]; None if not known."""

    name: str
    z_low: float
    z_high: float
    x_half: float | None = None
    y_half: float | None = None


# Published values of the experiment; KMAG: the opening of the magnet around its centre at z = 1064.26 cm.
OUTLINES = (
    Outline("target", -300.0, -300.0),
    Outline("FMAG and beam dump", 0.0, 500.0),
    Outline("KMAG", 759.46, 1369.06, 144.8, 101.6),
)


@dataclass(frozen=True, eq=False)
class Geometry:
    """A table of planes.

    Parameters
    ----------
    version, source, valid_for : str
        ``"E1039"``; ``"built in"`` or the path of the file; for which data, in words.
    planes : polars.DataFrame
        One row a plane in the order of the detector IDs, with the columns of `Plane`.
    """

    version: str
    source: str
    valid_for: str
    planes: pl.DataFrame

    def __repr__(self) -> str:
        total = self.planes["n_elements"].sum()
        return f"Geometry({self.version}, {self.planes.height} planes, {total} elements, {self.source})"

    def plane(self, name_or_id: str | int) -> Plane:
        """Return one plane by name (in upper or lower case) or detector ID; `ConfigError` if unknown."""
        key = name_or_id.lower() if isinstance(name_or_id, str) else int(name_or_id)
        if key not in self._lookup:
            known = self.planes["name" if isinstance(key, str) else "detector_id"].cast(pl.String).to_list()
            raise ConfigError.unknown("plane", str(name_or_id), known, where=f"geometry {self.version}")
        return self._lookup[key]

    @cached_property
    def _lookup(self) -> dict[str | int, Plane]:
        planes = [Plane(**row) for row in self.planes.iter_rows(named=True)]
        return {key: plane for plane in planes for key in (plane.detector_id, plane.name.lower())}

    @cached_property
    def _row_of_id(self) -> NDArray[np.int64]:
        ids = self.planes["detector_id"].to_numpy()
        rows = np.full(int(ids.max()) + 1, -1, dtype=np.int64)
        rows[ids] = np.arange(ids.size)
        return rows

    @cached_property
    def _columns(self) -> dict[str, FloatArray]:
        """Return every numeric column by name, and w of the centre of the plane."""
        numeric = [name for name, kind in COLUMNS.items() if kind in {"int", "float", "bool"}]
        columns = {name: self.planes[name].cast(pl.Float64).to_numpy() for name in numeric}
        angle = columns["angle"] + columns["theta_z"]
        columns["centre"] = columns["x0"] * np.cos(angle) + columns["y0"] * np.sin(angle)
        return columns


def available_geometries() -> list[str]:
    """Return the versions that are built in."""
    return sorted(path.stem for path in FOLDER.glob("*.csv") if path.stem != DRIFT_TIMES)


def load_geometry(version_or_path: str | Path = "E1039") -> Geometry:
    """Return a built-in table of planes, or the one of a file.

    Parameters
    ----------
    version_or_path : str or Path
        A name from `available_geometries`, in upper or lower case, or the path of a CSV file with the columns
        of `Plane`. Lines that start with ``#`` are comments; ``# version:`` and ``# valid-for:`` are read.

    Raises
    ------
    ConfigError
        There is no such version or file, or the file is malformed (with line, column and value).
    """
    name = str(version_or_path)
    built_in = {version.lower(): version for version in available_geometries()}
    if name.lower() in built_in:
        return _load_built_in(built_in[name.lower()])
    path = Path(version_or_path)
    if not path.is_file():
        raise ConfigError.unknown("geometry, and no such file:", name, built_in.values())
    return _read_geometry(path, source=str(path))


@lru_cache(maxsize=8)
def _load_built_in(version: str) -> Geometry:
    return _read_geometry(FOLDER / f"{version}.csv", source="built in")


def element_position(geometry: Geometry, detector_id: ArrayLike, element_id: ArrayLike) -> FloatArray:
    """Return where elements are along the measuring direction of their plane.

    ``w = (e - (n + 1) / 2) pitch + x_offset + delta_w + x0 cos(a) + y0 sin(a)`` with ``a = angle + theta_z``,
    and ``n + 1 - e`` for ``e`` in planes that count backwards: the convention of the geometry service of the
    experiment (e1039-core, GeomSvc). A point x, y lies at ``x cos(a) + y sin(a)`` on the same axis.

    Parameters
    ----------
    geometry : Geometry
        Table of planes.
    detector_id, element_id : array-like of int
        Numbers as in the data; broadcast against each other.

    Returns
    -------
    numpy.ndarray of the broadcast shape
        Position w [cm]; NaN where the plane or the element does not exist.
    """
    row, local = _local_position(geometry, detector_id, element_id)
    return np.asarray(local + geometry._columns["centre"][row])


def wire_ends(geometry: Geometry, detector_id: ArrayLike, element_id: ArrayLike) -> tuple[FloatArray, ...]:
    """Return both ends of the middle lines of elements; parameters as in `element_position`.

    The line runs along ``(-sin a, cos a)`` to the frame of the plane, so outer wires of U and V planes are
    shorter; one that misses its frame (outer wires of D1) keeps the full length. Rotations about x and y are
    left out: they move the ends in z by up to about 1 cm.

    Returns
    -------
    x1, y1, z1, x2, y2, z2 : numpy.ndarray of the broadcast shape
        The ends [cm], the lower one first (horizontal bars: the one at larger x). NaN where the plane or the
        element does not exist.
    """
    row, local = _local_position(geometry, detector_id, element_id)
    column = {name: values[row] for name, values in geometry._columns.items()}
    cos, sin = np.cos(column["angle"]), np.sin(column["angle"])
    # lengths along the line (local cos - s sin, local sin + s cos) to |x| = width / 2 and to |y| = height / 2
    low, high = [], []
    widths, heights = column["width"] / 2, column["height"] / 2
    for start, slope, half in ((local * cos, -sin, widths), (local * sin, cos, heights)):
        parallel = np.abs(slope) < 1e-5
        steep = np.where(parallel, 1.0, slope)
        low += [np.where(parallel, -np.inf, -start / steep - half / np.abs(steep))]
        high += [np.where(parallel, np.inf, -start / steep + half / np.abs(steep))]
    full = (high[1] - low[1]) / 2, (high[0] - low[0]) / 2
    first, last = np.maximum(*low), np.minimum(*high)
    missed = first >= last
    first, last = np.where(missed, -np.minimum(*full), first), np.where(missed, np.minimum(*full), last)
    rotation_cos, rotation_sin = np.cos(column["theta_z"]), np.sin(column["theta_z"])
    ends: list[FloatArray] = []
    for along in (first, last):
        x, y = local * cos - along * sin, local * sin + along * cos
        ends += [column["x0"] + x * rotation_cos - y * rotation_sin]
        ends += [column["y0"] + x * rotation_sin + y * rotation_cos]
    z = np.where(np.isnan(local), np.nan, column["z0"])
    return ends[0], ends[1], z, ends[2], ends[3], z.copy()


def _local_position(
    geometry: Geometry, detector_id: ArrayLike, element_id: ArrayLike
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the row of the plane (0 if unknown) and the position from its centre [cm] or NaN."""
    detector, element = np.broadcast_arrays(np.asarray(detector_id), np.asarray(element_id))
    rows = geometry._row_of_id
    row = np.where((detector >= 0) & (detector < rows.size), rows.take(detector, mode="clip"), -1)
    column = geometry._columns
    number = element.astype(np.float64)
    count = column["n_elements"][row]
    valid = (row >= 0) & (number >= 1) & (number <= count)
    row = np.where(row >= 0, row, 0)
    number = np.where(column["reversed"][row] > 0, count + 1 - number, number)
    middle = (column["x_offset"] + column["delta_w"])[row]
    local = (number - (count + 1) / 2) * column["pitch"][row] + middle
    return row, np.where(valid, local, np.nan)


def in_time_window(plane: Plane) -> tuple[float, float] | None:
    """Return the lowest and highest time of hits in time [ns], both included; None where it is not known.

    Hodoscopes have a window for each element in the run database of the experiment instead.
    """
    if plane.tdc_low is None or plane.tdc_high is None:
        return None
    return plane.tdc_low, plane.tdc_high


def drift_distance(time: ArrayLike, plane: Plane) -> FloatArray:
    """Return the distance [cm] of a track from the wire for a TDC time [ns] (X-T relation).

    Linear between the points. Common stop: a larger time is an earlier hit and a shorter distance.
    NaN outside the time window of the plane; `ConfigError` if the plane has no X-T relation.
    """
    times, distances, low, high = _drift_curve(plane)
    value = np.asarray(time, dtype=np.float64)
    return np.where((value >= low) & (value <= high), np.interp(value, times, distances), np.nan)


def drift_time(distance: ArrayLike, plane: Plane) -> FloatArray:
    """Return the TDC time [ns] for a distance [cm] of a track from the wire: the inverse of `drift_distance`.

    NaN for distances below 0 or above the drift maximum; `ConfigError` if the plane has no X-T relation.
    """
    times, distances, low, high = _drift_curve(plane)
    value = np.asarray(distance, dtype=np.float64)
    largest = distances[0] if plane.drift_maximum is None else plane.drift_maximum
    time = np.clip(np.interp(value, distances[::-1], times[::-1]), low, high)
    return np.where((value >= 0) & (value <= largest), time, np.nan)


def _drift_curve(plane: Plane) -> tuple[FloatArray, FloatArray, float, float]:
    """Return times [ns] and distances [cm] of the points, and the time window."""
    if not plane.drift_curve:
        what = f"plane {plane.name} has no X-T relation"
        raise ConfigError(what, hint="chambers and proportional tubes of the geometry E1039 have one")
    times, distances = _drift_curves()[plane.drift_curve]
    return times, distances, *(in_time_window(plane) or (float(times[0]), float(times[-1])))


@lru_cache(maxsize=1)
def _drift_curves() -> dict[str, tuple[FloatArray, FloatArray]]:
    numbers = {"time": pl.Float64, "distance": pl.Float64}
    table = pl.read_csv(FOLDER / f"{DRIFT_TIMES}.csv", comment_prefix="#", schema_overrides=numbers)
    return {
        str(curve[0]): (part["time"].to_numpy(), part["distance"].to_numpy())
        for curve, part in table.group_by("curve", maintain_order=True)
    }


def _bad(where: str | Path, what: str, known: Iterable[str] | None = None) -> ConfigError:
    return ConfigError(what, where=where, known=None if known is None else list(known))


def _read_geometry(path: Path, source: str) -> Geometry:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise _bad(path, f"cannot be read as text: {problem}") from problem
    labels = {"version": path.stem, "valid-for": ""}
    for line in lines:
        key, colon, value = line.removeprefix("#").partition(":")
        if line.startswith("#") and colon and key.strip() in labels:
            labels[key.strip()] = value.strip()
    rows = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if len(rows) < 2:
        raise _bad(path, "has no table: a line of column names and one line a plane", COLUMNS)
    header, *cells = ([cell.strip() for cell in row] for row in csv.reader(line for _, line in rows))
    _check_columns(header, f"{path}, line {rows[0][0]}")
    planes: dict[str, dict[str, Any]] = {}
    for (number, _), texts in zip(rows[1:], cells, strict=False):
        where = f"{path}, line {number}"
        if len(texts) != len(header):
            raise _bad(where, f"{len(texts)} cells, but there are {len(header)} columns")
        plane: dict[str, Any] = {k: _cell(text, k, where) for k, text in zip(header, texts, strict=True)}
        for column, what, known in _faults(plane, list(planes.values())):
            raise _bad(where, f"column {column}: {plane[column]!r} {what}", known)
        planes[where] = plane
    names = [str(plane["name"]) for plane in planes.values()]
    for where, plane in planes.items():
        if plane["partner"] and plane["partner"] not in names:
            raise ConfigError.unknown("plane", plane["partner"], names, where=f"{where}, column partner")
    schema = {name: DTYPES.get(kind, pl.Float64) for name, kind in COLUMNS.items()}
    frame = pl.DataFrame(list(planes.values()), schema=schema).sort("detector_id")
    return Geometry(labels["version"], source, labels["valid-for"], frame)


def _check_columns(header: list[str], where: str) -> None:
    for name in header:
        if name not in COLUMNS:
            raise ConfigError.unknown("column", name, COLUMNS, where=where)
    missing = [name for name in COLUMNS if header.count(name) != 1]
    if missing:
        raise _bad(where, f"these columns are not there exactly once: {', '.join(missing)}", header)


def _cell(text: str, column: str, where: str) -> int | float | bool | str | None:
    kind, text, label = COLUMNS[column], text.strip(), f"column {column}:"
    if kind == "str":
        if not text and column not in MAY_BE_EMPTY:
            raise _bad(where, f"{label} is empty")
        return text
    if kind == "float | None" and not text:
        return None
    if kind == "bool":
        if text.lower() not in {"true", "false"}:
            raise _bad(where, f"{label} {text!r} is not true or false", ["true", "false"])
        return text.lower() == "true"
    try:
        value: int | float = int(text) if kind == "int" and len(text) < 16 else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _bad(where, f"{label} {text!r} is not a {'whole' if kind == 'int' else 'finite'} number")
    return value


def _faults(
    plane: dict[str, Any], before: list[dict[str, Any]]
) -> Iterator[tuple[str, str, Iterable[str] | None]]:
    """Yield column, what is wrong with its value, and what exists instead (or None)."""
    for column in ("detector_id", "name", "drawing_order"):
        for other in before:
            if str(other[column]).lower() == str(plane[column]).lower():
                yield column, f"stands twice: {other['name']} has it already", None
    words = {"kind": KINDS, "view": VIEWS, "drift_curve": ("", *_drift_curves())}
    yield from (
        (name, "is not known here", known) for name, known in words.items() if plane[name] not in known
    )
    least = {"detector_id": 1, "n_elements": 1, "drawing_order": 1, "n_optional": 0, "block": 0}
    yield from ((name, f"is below {low}", None) for name, low in least.items() if plane[name] < low)
    for name in ("detector_id", "n_elements", "drawing_order", "block"):
        if plane[name] > LARGEST_ID:
            yield name, f"is above {LARGEST_ID}", None
    if plane["n_optional"] > plane["n_elements"]:
        yield "n_optional", f"is above n_elements = {plane['n_elements']}", None
    for name in ("pitch", "cell_width", "width", "height", "drift_maximum"):
        if plane[name] is not None and plane[name] <= 0:
            yield name, "is not above 0", None
    for low, high in (("tdc_low", "tdc_high"), ("tdc_histogram_low", "tdc_histogram_high")):
        first, last = plane[low], plane[high]
        if (first is None) != (last is None) or (first is not None and first >= last):
            yield high, f"does not go with {low} = {plane[low]!r}", None
