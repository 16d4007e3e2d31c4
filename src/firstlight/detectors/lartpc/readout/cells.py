"""The box of argon around a track, and the hexagonal cell of the original's detector."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.readout.designs import Design

__all__ = ["Cell", "cell_around", "hexagonal_cell"]


@dataclass(frozen=True)
class Cell:
    """A box with the anode at its top.

    Parameters
    ----------
    width_x, width_y : float
        Widths [m]; sensors are laid out symmetrically about x = y = 0, so each is twice the farthest wall.
    height : float
        Along z [m].
    center : tuple of float
        Of the box [m].
    z_anode : float
        Top of the box [m].
    geometry : str
        ``"rectangular"``.
    num_cells : int
        1.
    """

    width_x: float
    width_y: float
    height: float
    center: tuple[float, float, float]
    z_anode: float
    geometry: str = "rectangular"
    num_cells: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the values under the names of the original's ``sims_params.cells``."""
        return asdict(self) | {"center": np.array(self.center)}


def cell_around(positions: NDArray[np.float64], design: Design, share: float = 0.1) -> Cell:
    """Return the box of the original around a track.

    The bounding box of the points, a coarse pitch of the read-out on each side, and then on each side a share of the largest
    side. So the distance from track to anode depends on the size of the track.

    Parameters
    ----------
    positions : ndarray, shape (3, n)
        Points [m].
    design : Design
        Read-out, for its coarse pitch.
    share : float
        Of the largest side.

    Raises
    ------
    InputError
        If there are no points.
    """
    if positions.ndim != 2 or positions.shape[0] != 3 or positions.shape[1] == 0:
        what = f"positions have the shape {positions.shape}"
        raise InputError(what, hint="a track of one point or more, of shape (3, n)")
    low = positions.min(axis=1) - design.coarse_pitch
    high = positions.max(axis=1) + design.coarse_pitch
    margin = share * float((high - low).max())
    low, high = low - margin, high + margin
    width_x, width_y = (2 * float(max(abs(low[axis]), abs(high[axis]))) for axis in (0, 1))
    center = tuple(((low + high) / 2).tolist())
    return Cell(width_x, width_y, float(high[2] - low[2]), center, float(high[2]))


def hexagonal_cell(flat_to_flat: float = 0.175, height: float = 0.175) -> dict[str, Any]:
    """Return the hexagonal cell of the original's detector under its own names; lengths [m], area [m2].

    Raises
    ------
    UsageError
        If a length is not positive.
    """
    if not (flat_to_flat > 0 and height > 0):
        what = f"a cell of {flat_to_flat:g} m by {height:g} m"
        raise UsageError(what, hint="positive lengths")
    return {
        "geometry": "hexagonal",
        "flat_to_flat": flat_to_flat,
        "corner_to_corner": flat_to_flat * 2 / math.sqrt(3),
        "wall_length": flat_to_flat / math.sqrt(3),
        "area": math.sqrt(3) / 2 * flat_to_flat**2,
        "rotation": 30.0,
        "height": height,
    }
