"""Designs of read-outs: pixels, and the wires or tiles that wake them; with the defaults of the original.

A design is a frozen value. `design("GAMPixG", {"pixels.pitch": 0.7e-3})` changes a value by its name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DESIGNS", "AnodeWires", "CoarseTiles", "CoarseWires", "Design", "Pixels", "design"]


def _positive(part: object, names: tuple[str, ...], *, zero: tuple[str, ...] = ()) -> None:
    for name in (*names, *zero):
        value = getattr(part, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            what = f"{name} is {value!r}"
            raise UsageError(what, where=type(part).__name__, hint="a number")
        if not (value > 0 or (value == 0 and name in zero)) or value == float("inf"):
            what = f"{name} is {value:g}"
            raise UsageError(
                what, where=type(part).__name__, hint=f"{'0 or more' if name in zero else 'more than 0'}"
            )


@dataclass(frozen=True)
class _Collecting:
    """What collects charge: pixels or wires.

    Parameters
    ----------
    pitch : float
        Edge of a pixel or distance of wires, and length of a slice in z [m].
    noise : float
        Standard deviation of a sample [electrons].
    threshold_sigma : float
        Threshold over noise.
    """

    pitch: float
    noise: float
    threshold_sigma: float

    def __post_init__(self) -> None:
        _positive(self, ("pitch",), zero=("noise", "threshold_sigma"))

    @property
    def threshold(self) -> float:
        """Threshold [electrons]."""
        return self.noise * self.threshold_sigma


@dataclass(frozen=True)
class Pixels(_Collecting):
    """Pixels that collect charge: `pitch` [m], `noise` [electrons], `threshold_sigma`."""


@dataclass(frozen=True)
class AnodeWires(_Collecting):
    """One plane of wires along y that collect charge: `pitch` [m], `noise` [electrons], `threshold_sigma`."""


@dataclass(frozen=True)
class _Coarse:
    """What sees charge passing, and wakes pixels.

    Parameters
    ----------
    pitch : float
        Distance of wires, or edge of a tile [m].
    gap : float
        Length in z over which a sample adds up [m].
    noise : float
        Standard deviation of a sample [electrons].
    threshold_sigma : float
        Threshold over noise.
    signal_fraction : float
        Share of the charge that is seen: by the four wires around it together, or by its tile.
    """

    pitch: float
    gap: float
    noise: float
    threshold_sigma: float
    signal_fraction: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, ("pitch", "gap", "signal_fraction"), zero=("noise", "threshold_sigma"))

    @property
    def threshold(self) -> float:
        """Threshold [electrons]."""
        return self.noise * self.threshold_sigma


@dataclass(frozen=True)
class CoarseWires(_Coarse):
    """Two planes of wires, along y and along x, on which passing charge induces a signal."""


@dataclass(frozen=True)
class CoarseTiles(_Coarse):
    """Large electrodes, each over a square of pixels."""


@dataclass(frozen=True)
class Design:
    """A read-out; its parts have the names that they have in the original's parameters.

    Parameters
    ----------
    name : str
        Of the design.
    pixels : Pixels, optional
        Fine stage.
    coarse_grids : CoarseWires, optional
        Coarse stage of wires.
    coarse_tiles : CoarseTiles, optional
        Coarse stage of tiles.
    anode_grid : AnodeWires, optional
        Wires that collect the charge, in place of pixels.
    offset : tuple of float
        Centre of a pixel, or wire, and of a slice in z [m]. In the original it is an edge in x and y, where all its tracks
        begin: their charge is always shared by four pixels.

    Raises
    ------
    UsageError
        If parts do not go together: neither pixels nor wires collect the charge, or a coarse pitch is no multiple of the fine.
    """

    name: str
    pixels: Pixels | None = None
    coarse_grids: CoarseWires | None = None
    coarse_tiles: CoarseTiles | None = None
    anode_grid: AnodeWires | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if (self.pixels is None) == (self.anode_grid is None):
            what = "charge is collected by pixels or by wires of the anode, by one of them"
            raise UsageError(what, where=self.name)
        if self.coarse_grids is not None and self.coarse_tiles is not None:
            raise UsageError("coarse wires and coarse tiles together", where=self.name, hint="one of them")
        if self.coarse is not None and self.pixels is None:
            raise UsageError("a coarse stage without pixels to wake", where=self.name, hint="give pixels")
        if self.coarse is not None:
            _ = self.pixels_per_cell

    @property
    def coarse(self) -> CoarseWires | CoarseTiles | None:
        """The coarse stage."""
        return self.coarse_grids if self.coarse_grids is not None else self.coarse_tiles

    @property
    def collecting(self) -> Pixels | AnodeWires:
        """What collects the charge."""
        part = self.pixels if self.pixels is not None else self.anode_grid
        if part is None:
            raise UsageError("nothing collects the charge", where=self.name)
        return part

    @property
    def coarse_pitch(self) -> float:
        """Largest pitch [m]; the original leaves so much room around a track."""
        return self.coarse.pitch if self.coarse is not None else self.collecting.pitch

    @property
    def pixels_per_cell(self) -> tuple[int, int, int]:
        """Pixels of a coarse cell in x, in y, and slices in z; (1, 1, 1) without a coarse stage."""
        if self.coarse is None or self.pixels is None:
            return 1, 1, 1
        numbers = []
        for name, length in (("pitch", self.coarse.pitch), ("gap", self.coarse.gap)):
            ratio = length / self.pixels.pitch
            if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
                what = f"a coarse {name} of {length * 1e3:g} mm is {ratio:g} times the pixel pitch of "
                what += f"{self.pixels.pitch * 1e3:g} mm"
                raise UsageError(what, where=self.name, hint="a whole number of times: change both together")
            numbers.append(round(ratio))
        return numbers[0], numbers[0], numbers[1]

    @property
    def gampy_bunch(self) -> float:
        """Most electrons that the original moves together: half the noise."""
        return max(self.collecting.noise / 2, 1.0)

    def with_changes(self, changes: Mapping[str, Any]) -> Design:
        """Return the design with other values, named ``"pixels.pitch"``, ``"coarse_grids.noise"``, ``"offset"``.

        Raises
        ------
        UsageError
            If the design has no such value, with those that it has; or if the value is impossible.
        """
        parts: dict[str, dict[str, Any]] = {}
        whole: dict[str, Any] = {}
        known = self.values()
        for name, value in changes.items():
            if name not in known:
                raise UsageError.unknown("value of the read-out", name, known, where=self.name)
            part, _, field = name.partition(".")
            if field:
                parts.setdefault(part, {})[field] = value
            else:
                whole[name] = _place(value, self.name)
        whole |= {part: replace(getattr(self, part), **values) for part, values in parts.items()}
        return replace(self, **whole)

    def values(self) -> dict[str, Any]:
        """Return all values that can be changed, by name."""
        found: dict[str, Any] = {}
        for part in ("pixels", "coarse_grids", "coarse_tiles", "anode_grid"):
            value = getattr(self, part)
            if value is not None:
                found |= {f"{part}.{each.name}": getattr(value, each.name) for each in fields(value)}
        return found | {"offset": self.offset}

    def record(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return {"name": self.name, **self.values(), "offset": list(self.offset)}


def _place(value: Any, where: str) -> tuple[float, float, float]:
    numbers = tuple(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else ()
    good = len(numbers) == 3 and all(
        isinstance(each, int | float) and math.isfinite(each) for each in numbers
    )
    if not good:
        what = f"offset is {value!r}"
        raise UsageError(what, where=where, hint="three lengths in metres: [0, 0, 0.00025]")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


DESIGNS: dict[str, Design] = {
    each.name: each
    for each in (
        Design("GAMPixG", Pixels(0.5e-3, 25.0, 4.0), coarse_grids=CoarseWires(10e-3, 10e-3, 20.0, 4.0, 0.6)),
        Design("GAMPixD", Pixels(5e-3, 50.0, 4.0), coarse_tiles=CoarseTiles(100e-3, 10e-3, 50.0, 5.0)),
        Design("LArPix", Pixels(5e-3, 1000.0, 5.0)),
        Design("AnodeGridD", anode_grid=AnodeWires(4e-3, 800.0, 5.0)),
        Design("AnodeGridG", anode_grid=AnodeWires(1e-3, 50.0, 5.0)),
    )
}
"""Designs by name."""


def design(name: str | Design, changes: Mapping[str, Any] | None = None) -> Design:
    """Return a design by name, with changes; raise `UsageError` with what exists for an unknown name."""
    if isinstance(name, str):
        if name not in DESIGNS:
            raise UsageError.unknown("read-out", name, DESIGNS)
        name = DESIGNS[name]
    return name.with_changes(changes) if changes else name
