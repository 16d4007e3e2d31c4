"""Reading out what has drifted to the anode: the coarse stage of a design, then its pixels, or its wires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from firstlight.detectors.lartpc.readout.designs import design as named
from firstlight.detectors.lartpc.readout.gampy import read_gampy
from firstlight.detectors.lartpc.readout.noise import Region, tail_probability
from firstlight.detectors.lartpc.readout.pixels import coarse_grid, read_pixels
from firstlight.detectors.lartpc.readout.tiles import read_tiles
from firstlight.detectors.lartpc.readout.voxels import Grid
from firstlight.detectors.lartpc.readout.wires import WireGrid, WirePlane, collect, induce
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from firstlight.detectors.lartpc.drift import Drifted
    from firstlight.detectors.lartpc.readout.cells import Cell
    from firstlight.detectors.lartpc.readout.designs import Design
    from firstlight.detectors.lartpc.readout.hits import Hits

__all__ = ["Readout", "read_out"]


@dataclass(frozen=True)
class Readout:
    """What a design reads of an event.

    Parameters
    ----------
    design : Design
        The read-out.
    hits : Hits or None
        Samples of pixels: all voxels with charge, then hits of noise alone. None for a plane of wires.
    wires : WireGrid or None
        Coarse stage of wires.
    tiles : Hits or None
        Coarse stage of tiles.
    anode : WirePlane or None
        Wires that collect the charge.
    cells : ndarray of int64, shape (3, n_cells)
        Coarse cells whose pixels were read; `Hits.cell` counts in them.
    drifted : int
        Electrons that arrived: the sum of the true charge of all pixels, or of all collecting wires.
    coarse_trigger : bool
        Whether the coarse stage chose the cells; otherwise all with charge were read.
    compat : str
        ``"gampy"`` for the bins of the original.
    n_empty : int
        Empty voxels, or samples of wires, in which noise was looked for.
    """

    design: Design
    hits: Hits | None
    wires: WireGrid | None
    tiles: Hits | None
    anode: WirePlane | None
    cells: NDArray[np.int64]
    drifted: int
    coarse_trigger: bool
    compat: str
    n_empty: int = 0

    @property
    def collected(self) -> Hits | WirePlane:
        """Samples of what collects the charge, pixels or wires."""
        samples = self.hits if self.hits is not None else self.anode
        if samples is None:
            raise UsageError("neither pixels nor wires collected charge", where=self.design.name)
        return samples

    @property
    def charge_true(self) -> int:
        """Charge in all voxels before noise [electrons]; equal to `drifted`."""
        return int(self.collected.charge_true.sum())

    @property
    def n_voxels(self) -> int:
        """Voxels, or samples of wires, with charge."""
        return int((self.collected.charge_true > 0).sum())

    @property
    def n_triggered(self) -> int:
        """Samples above threshold, those of noise alone included."""
        return int(self.collected.triggered.sum())

    @property
    def n_noise(self) -> int:
        """Samples above threshold of noise alone."""
        return int((self.collected.triggered & (self.collected.charge_true == 0)).sum())

    @property
    def expected_noise(self) -> float:
        """Mean number of samples above threshold of noise alone."""
        return self.n_empty * tail_probability(self.design.collecting.threshold_sigma)

    @property
    def charge(self) -> float:
        """Measured charge above threshold [electrons]."""
        return float(self.collected.charge[self.collected.triggered].sum())


def _box(region: ArrayLike, pitch: float, offset: tuple[float, float, float]) -> Region:
    corners = np.asarray(region, dtype=np.float64)
    if corners.shape != (3, 2) or not np.isfinite(corners).all() or not (corners[:, 1] > corners[:, 0]).all():
        what = f"a region {corners.tolist()}"
        raise UsageError(what, hint="[[x_low, x_high], [y_low, y_high], [z_low, z_high]] in metres")
    grid = Grid((pitch,) * 3, offset)
    # a voxel whose centre is inside belongs to it
    half = pitch / 2
    low = grid.index(corners[:, :1] + half)[:, 0]
    high = grid.index(corners[:, 1:] - half)[:, 0]
    return Region.box(low, np.maximum(high, low), cell=0)


def read_out(
    drifted: Drifted,
    design: str | Design,
    rng: np.random.Generator | int,
    *,
    coarse_trigger: bool = False,
    empty: bool = True,
    compat: Literal["", "gampy"] = "",
    cell: Cell | None = None,
    region: ArrayLike | None = None,
) -> Readout:
    """Read out drifted charge.

    Voxels are cubes: z is cut into slices as long as a pixel is wide, which stand for samples in time (`read_waveforms` has
    the clock). Sums before noise are exact in whole electrons.

    Parameters
    ----------
    drifted : Drifted
        What arrived.
    design : str or Design
        Read-out, by name or with changes.
    rng : numpy.random.Generator or int
        Random numbers, or a seed.
    coarse_trigger : bool
        Pixels are read where the coarse stage is above threshold. Otherwise where there is any charge, as if the coarse stage
        had no noise and no threshold.
    empty : bool
        Whether noise alone may make hits: in the cells that are read; without a coarse stage in the box around the charge.
    compat : {"", "gampy"}
        ``"gampy"``: bins and noise of the original, for comparison with its results. Drift with its bunches
        (``design.gampy_bunch``) and the preset ``gampy110K``.
    cell : Cell, optional
        Box around the undrifted track, `cell_around`; needed for ``compat="gampy"`` only.
    region : array_like, shape (3, 2), optional
        Lower and upper limits in x, y and z of what is read [m], whatever the coarse stage says.

    Returns
    -------
    Readout
        Samples with true and measured charge.

    Raises
    ------
    UsageError
        If the design is unknown, has no coarse stage to trigger on, or the options do not go together.
    """
    chosen, generator = named(design), np.random.default_rng(rng)
    _check(chosen, coarse_trigger=coarse_trigger, compat=compat, cell=cell, region=region)
    positions, num_e = drifted.positions, drifted.num_e
    nothing = np.zeros((3, 0), dtype=np.int64)
    if chosen.anode_grid is not None:
        pitch = chosen.anode_grid.pitch
        limits = None
        if region is not None:
            box = _box(region, pitch, chosen.offset)
            low, high = box.first[:, 0], (box.first + box.shape - 1)[:, 0]
            limits = np.array([low[0], 0, low[2]]), np.array([high[0], 0, high[2]])
        plane, n_empty = collect(
            positions, num_e, chosen.anode_grid, chosen.offset, generator, empty=empty, region=limits
        )
        return Readout(chosen, None, None, None, plane, nothing, drifted.charge, False, compat, n_empty)
    wires, tiles, awake, per_cell = _coarse(drifted, chosen, generator, empty=empty)
    if compat == "gampy" and cell is not None:
        hits, cells, n_empty = read_gampy(positions, num_e, chosen, cell, generator, empty=empty)
    elif chosen.pixels is not None:
        hits, cells, n_empty = read_pixels(
            positions,
            num_e,
            chosen.pixels,
            chosen.offset,
            generator,
            per_cell=per_cell,
            awake=awake if coarse_trigger else None,
            empty=empty,
            region=None if region is None else _box(region, chosen.pixels.pitch, chosen.offset),
        )
    else:
        raise UsageError("the design has no pixels", where=chosen.name)
    return Readout(chosen, hits, wires, tiles, None, cells, drifted.charge, coarse_trigger, compat, n_empty)


def _check(
    chosen: Design, *, coarse_trigger: bool, compat: str, cell: Cell | None, region: ArrayLike | None
) -> None:
    if compat not in ("", "gampy"):
        raise UsageError.unknown("compatibility mode", compat, ("gampy",))
    if coarse_trigger and chosen.coarse is None:
        raise UsageError(
            "no coarse stage to trigger on",
            where=chosen.name,
            hint="coarse_trigger=False (without --coarse-trigger)",
        )
    if compat != "gampy":
        return
    if cell is None:
        hint = "cell=cell_around(track.positions, design): its width says where the original's sensors are"
        raise UsageError("compat 'gampy' needs the box around the track", where=chosen.name, hint=hint)
    if coarse_trigger or region is not None:
        what = "compat 'gampy' reads all cells with charge"
        raise UsageError(what, where=chosen.name, hint="no coarse trigger and no region with it")


def _coarse(
    drifted: Drifted, chosen: Design, rng: np.random.Generator, *, empty: bool
) -> tuple[WireGrid | None, Hits | None, NDArray[np.int64] | None, tuple[int, int, int] | None]:
    """Return wires, tiles, the cells that they wake, and pixels in a cell."""
    if chosen.coarse is None or chosen.pixels is None:
        return None, None, None, None
    per_cell = chosen.pixels_per_cell
    grid = coarse_grid(chosen.pixels.pitch, per_cell, chosen.offset)
    if chosen.coarse_grids is not None:
        wires = induce(drifted.positions, drifted.num_e, chosen.coarse_grids, grid, rng)
        return wires, None, wires.cubes, per_cell
    if chosen.coarse_tiles is None:
        return None, None, None, per_cell
    tiles = read_tiles(drifted.positions, drifted.num_e, chosen.coarse_tiles, grid, rng, empty=empty)
    return None, tiles, tiles.index[:, tiles.triggered], per_cell
