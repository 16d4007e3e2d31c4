"""The camera: where each of the 1296 pixels is, and how it is cabled.

Nothing is read from a file: the camera is so regular that a few rules give all of it.

- Pixels are hexagons with a corner up, 24.30 mm apart, in 48 rows along x.
- Three sectors look the same after a turn by 120 degrees; each is read by a micro crate of its own.
- A sector is a rhombus of 6 x 6 modules, a module a rhombus of 2 x 2 patches, a patch a triangle of 3 pixels.
- An FADC board reads 2 x 2 modules, 48 pixels; a crate has 3 x 3 boards.

Frame: x and y are those of ``camera_config.cfg`` [mm]: the camera as its own software draws it, x to the right and
y upwards, centre of the three-fold symmetry at (0, 0). The `CameraFrame` of ctapipe is another one: with its
``pix_x`` and ``pix_y``, x = -pix_y and y = -pix_x.

Pixel numbers count along x, row after row from the bottom: that is ``pixel_sw_id`` of the camera, the order of
all arrays of this package. Patch numbers do the same with the centres of the triangles. Numbers of 2016, before the
camera was renumbered, stand in `light_source`.

Positions are kept as whole numbers, exact under rotation: X counts half pitches (12.15 mm), Y thirds of
the distance of rows (7.015 mm).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import UsageError

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

__all__ = [
    "N_MODULES",
    "N_PATCHES",
    "N_PIXELS",
    "N_SECTORS",
    "PITCH",
    "PIXEL_AREA",
    "clusters",
    "neighbours",
    "patch_table",
    "pixels",
    "read_out_order",
]

N_PIXELS, N_PATCHES, N_MODULES, N_SECTORS = 1296, 432, 108, 3
PITCH = 24.30
"""Distance of neighbours, flat to flat [mm]."""
PIXEL_AREA = 3**0.5 / 2 * PITCH**2
"""Area of a pixel with its share of the gaps [mm2]."""

_X_UNIT, _Y_UNIT = PITCH / 2, PITCH * 3**0.5 / 6  # mm
_PER_SIDE = 6  # modules along a side of a sector
_FIRST = (5, 1)  # pixel 1 of the innermost module of sector 1
_MODULE_STEPS = ((6, 6), (0, -12))  # to the next module along either side of the sector
# of the pixels 1 to 12 of a module: place relative to pixel 1, patch in the module
_IN_MODULE_X = (0, -1, 0, -1, -2, -3, -2, -3, -5, -4, -5, -4)
_IN_MODULE_Y = (0, -3, -6, -9, 0, -3, -6, -9, -3, -6, -9, -12)
_IN_MODULE_PATCH = (1, 1, 3, 3, 1, 0, 3, 2, 0, 0, 2, 2)
# the pixels of a module in the order of the FADC channels to which they are cabled
_CABLED = (2, 1, 4, 3, 8, 7, 6, 5, 12, 11, 10, 9)


def turned(x: Integers, y: Integers) -> tuple[Integers, Integers]:
    """Return places turned by 120 degrees counter-clockwise, in the units of this module."""
    return -(x + y) // 2, (3 * x - y) // 2


@cache
def pixel_arrays() -> dict[str, Integers]:
    """Return the columns of `pixels` but positions in mm, and ``X`` and ``Y``, each of shape (1296,); read-only."""
    sector, b, a, k = (axis.ravel() for axis in np.indices((N_SECTORS, _PER_SIDE, _PER_SIDE, 12)))
    x = _FIRST[0] + _MODULE_STEPS[0][0] * a + _MODULE_STEPS[1][0] * b + np.array(_IN_MODULE_X)[k]
    y = _FIRST[1] + _MODULE_STEPS[0][1] * a + _MODULE_STEPS[1][1] * b + np.array(_IN_MODULE_Y)[k]
    for number in (1, 2):
        x, y = np.where(sector >= number, turned(x, y), (x, y))
    in_module = np.array(_IN_MODULE_PATCH)[k]
    # modules are numbered outwards, shell by shell; a shell has 2 n + 1 modules in each sector
    shell = np.maximum(a, b)
    node = np.where(a == shell, (shell + 1) ** 2 - b, shell**2 + 1 + a)
    channel = 24 * (1 - a % 2) + 12 * (b % 2) + 1 + np.argsort(_CABLED)[k]
    columns = {
        "X": x,
        "Y": y,
        "pixel_in_module": k + 1,
        "patch_in_module": in_module,
        "module_in_sector": 10 * b + a,
        "module": 3 * shell**2 + sector * (2 * shell + 1) + node - shell**2,
        "can_node": node,
        "sector": sector + 1,
        "crate": sector + 1,
        "board": 3 * (a // 2) + b // 2 + 1,
        "quad": (channel - 1) // 4,
        "fadc_channel": channel,
        "trigger_patch": 2 * a + in_module % 2 + 12 * (2 * b + in_module // 2),
    }
    order = np.lexsort((x, y))
    columns = {name: values[order].astype(np.int64) for name, values in columns.items()}
    columns |= _patches(columns)
    for values in columns.values():
        values.flags.writeable = False
    return columns


def _patches(columns: dict[str, Integers]) -> dict[str, Integers]:
    """Return patch and place in the patch of each pixel."""
    group = 4 * columns["module"] + columns["patch_in_module"] - 4
    by_group = np.argsort(group, kind="stable").reshape(N_PATCHES, 3)  # pixels in order
    centre_x, centre_y = (columns[name][by_group].sum(axis=1) for name in ("X", "Y"))
    by_patch = by_group[np.lexsort((centre_x, centre_y))]
    patch, place = np.empty(N_PIXELS, np.int64), np.empty(N_PIXELS, np.int64)
    patch[by_patch], place[by_patch] = np.indices((N_PATCHES, 3))
    return {"patch": patch, "pixel_in_patch": place}


def pixels() -> pl.DataFrame:
    """Return a row for each pixel.

    Returns
    -------
    polars.DataFrame
        ``channel``: pixel, 0 to 1295. ``x``, ``y`` [mm]. ``patch`` (0 to 431) and ``pixel_in_patch`` (0 to 2).
        ``module`` (1 to 108), ``pixel_in_module`` (1 to 12), ``patch_in_module`` (0 to 3), ``module_in_sector``
        (0 to 55, ten times the row plus the column). ``sector``, ``crate`` (1 to 3, the same number; also the
        master of the CAN bus), ``can_node`` (1 to 36). ``board`` (1 to 9), ``quad`` (0 to 11) and ``fadc_channel``
        (1 to 48) in the crate. ``trigger_patch``: number of the patch in the trigger output of its crate (0 to 143).
    """
    import polars as pl

    found = pixel_arrays()
    places = {"x": found["X"] * _X_UNIT, "y": found["Y"] * _Y_UNIT}
    names = (
        "patch", "pixel_in_patch", "module", "pixel_in_module", "patch_in_module", "module_in_sector",
        "sector", "crate", "can_node", "board", "quad", "fadc_channel", "trigger_patch",
    )  # fmt: skip
    columns = {name: found[name].astype(np.int16) for name in names}
    return pl.DataFrame({"channel": np.arange(N_PIXELS, dtype=np.int32), **places, **columns})


def patch_table() -> pl.DataFrame:
    """Return a row for each patch.

    Returns
    -------
    polars.DataFrame
        ``patch`` (0 to 431), ``x``, ``y`` of its centre [mm], ``sector``, ``module``, ``patch_in_module``,
        ``trigger_patch``, and its pixels ``pixel_0``, ``pixel_1``, ``pixel_2``.
    """
    import polars as pl

    found, members = pixel_arrays(), patch_pixels()
    names = ("sector", "module", "patch_in_module", "trigger_patch")
    return pl.DataFrame(
        {
            "patch": np.arange(N_PATCHES, dtype=np.int16),
            "x": found["X"][members].mean(axis=1) * _X_UNIT,
            "y": found["Y"][members].mean(axis=1) * _Y_UNIT,
            **{name: found[name][members[:, 0]].astype(np.int16) for name in names},
            **{f"pixel_{k}": members[:, k].astype(np.int16) for k in range(3)},
        }
    )


def patch_pixels() -> Integers:
    """Return the three pixels of each patch in order, of shape (432, 3)."""
    return np.argsort(pixel_arrays()["patch"], kind="stable").reshape(N_PATCHES, 3)


@cache
def read_out_order() -> Integers:
    """Return which pixel is read as the first one, the second one, ...: ``pixelsIndices`` of the raw files.

    The crates come one after the other, in a crate the boards from the last to the first, on a board the channels
    upwards. It is the same permutation in all raw files that were seen (2017, 2018).

    Returns
    -------
    ndarray of int64, shape (1296,)
        ``sorted_samples[read_out_order()] = samples``. Read-only.
    """
    found = pixel_arrays()
    order = np.lexsort((found["fadc_channel"], -found["board"], found["crate"]))
    order.flags.writeable = False
    return order


def _within(x: Integers, y: Integers, distance: float, width: int, *, itself: bool) -> Integers:
    """Return for each place those within a distance [units of Y], ascending, the place itself first; padded with -1."""
    found = np.full((x.size, width), -1, dtype=np.int64)
    apart = 3 * (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2  # a half pitch is sqrt(3) units of Y
    for place in range(x.size):
        near = np.flatnonzero(apart[place] <= distance**2)
        near = near[near != place]
        if itself:
            near = np.r_[place, near]
        found[place, : near.size] = near
    found.flags.writeable = False
    return found


@cache
def neighbours() -> Integers:
    """Return the neighbours of each pixel.

    Returns
    -------
    ndarray of int64, shape (1296, 6)
        Ascending; where there are fewer than six, -1 stands at the end. Read-only.
    """
    found = pixel_arrays()
    return _within(found["X"], found["Y"], 2 * 3**0.5 + 0.1, 6, itself=False)


@cache
def clusters(n: int = 7) -> Integers:
    """Return the patches that the trigger adds up around each patch.

    Parameters
    ----------
    n : {7, 19}
        Patches of a complete cluster: one or two rings of neighbours.

    Returns
    -------
    ndarray of int64, shape (432, n)
        The patch itself, then its neighbours, ascending; at the edge of the camera -1 stands at the end. Read-only.

    Raises
    ------
    UsageError
        If the trigger has no clusters of that size.
    """
    if n not in (7, 19):
        what = f"there are no clusters of {n} patches"
        raise UsageError(what, known=["7", "19"])
    found, members = pixel_arrays(), patch_pixels()
    x, y = found["X"][members].sum(axis=1), found["Y"][members].sum(axis=1)
    # centres of neighbouring patches are sqrt(3) pitches apart: 6 units, 18 as sums of three pixels
    return _within(x, y, 18.1 if n == 7 else 36.1, n, itself=True)
