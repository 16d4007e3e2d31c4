"""The camera test set-up (CTS): a plane of LEDs in front of the camera, one AC and one DC LED for each pixel it reaches.

AC LEDs flash; the three of a patch have one DAC. DC LEDs shine all the time, in place of the night sky.

- Version 1 (2016, 2017): 11 LED boards of 48 pixels. They cover one sector, and the innermost boards of the two
  others; the set-up is turned to 0, 120 or 240 degrees to reach the whole camera.
- Version 2 (2018): 27 LED boards, all pixels.

An LED board covers the 48 pixels of an FADC board, in a rhombus of 4 x 4 patches. Angles are counted counter-clockwise in
the frame of `camera`. At 120, 240 and 0 degrees the set-up of version 1 covers the sectors 1, 2 and 3.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firstlight.detectors.digicam import camera
from firstlight.detectors.digicam.camera import N_PIXELS, N_SECTORS, PITCH
from firstlight.errors import UsageError

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

__all__ = ["ANGLE_OF_SECTOR", "VERSIONS", "light_sources", "lit_pixels"]

ANGLE_OF_SECTOR = {1: 120, 2: 240, 3: 0}
"""At which angle [degrees] the light source of version 1 covers which sector."""
VERSIONS = (1, 2)

_PER_BOARD, _PER_PATCH, _PATCHES_PER_SIDE = 48, 3, 4
# at angle 0, sector and FADC board in front of which each LED board is
_BOARDS_1 = ((3, 3), (3, 1), (2, 1), (1, 1), (3, 4), (3, 5), (3, 2), (3, 7), (3, 8), (3, 9), (3, 6))
# in the order of the LEDs: sectors, and in each the LED boards that stand before these FADC boards
_FADC_BOARDS_2 = (1, 2, 5, 4, 3, 6, 9, 8, 7)
_LED_BOARDS_2 = {
    1: (2, 16, 15, 14, 26, 25, 24, 23, 22),
    3: (0, 5, 4, 3, 10, 9, 8, 7, 6),
    2: (1, 13, 12, 11, 21, 20, 19, 18, 17),
}
# pixels in the module that the LEDs of a patch light, by the patch in the module; places of these LEDs on the board
_LIT_IN_MODULE = ((6, 10, 9), (1, 2, 5), (8, 12, 11), (3, 4, 7))
_IN_BOARD = (1, 2, 0)
# the camera before it was renumbered: its outline was the mirror image, and the light source a pixel further
_SHIFT_2016 = (1, -3)


class _Board(NamedTuple):
    number: int
    sector: int
    fadc_board: int


def light_sources(version: int = 2, angle: int = 0) -> pl.DataFrame:
    """Return a row for each LED.

    Parameters
    ----------
    version : {1, 2}
        Light source of 2016 or of 2018.
    angle : {0, 120, 240}
        How far it is turned [degrees].

    Returns
    -------
    polars.DataFrame
        ``led_type`` (AC, DC), ``led`` (number, AC first), ``led_patch``, ``led_board``, ``led_in_board``, ``led_in_patch``;
        ``x``, ``y`` where it should be [mm], ``pixel`` in front of which it is, and ``patch`` of that. ``pixel_2016``:
        number of the pixel before the camera was renumbered, which files of version 1 have, null for version 2. Such
        files have their own frame, too, whose places are (+12.15, -21.04) mm turned by the angle from those here.

    Raises
    ------
    UsageError
        If there is no such version or angle.
    """
    import polars as pl

    _check(version, angle)
    found = camera.pixel_arrays()
    boards, led_patch, pixel = _leds(version)
    number = np.arange(pixel.size)
    n_turns = angle // 120
    pixel = _turned_pixels()[n_turns][pixel]
    columns = {
        "led_patch": led_patch,
        "led_board": boards,
        "led_in_board": _PER_PATCH * (number // _PER_PATCH % _PATCHES_PER_SIDE**2)
        + np.array(_IN_BOARD)[number % _PER_PATCH],
        "led_in_patch": number % _PER_PATCH,
        "x": found["X"][pixel] * (PITCH / 2),
        "y": found["Y"][pixel] * (PITCH * 3**0.5 / 6),
        "pixel": pixel,
        "patch": found["patch"][pixel],
    }
    old = _numbers_2016(pixel, n_turns) if version == 1 else [None] * pixel.size
    return pl.concat(
        pl.DataFrame(
            {"led_type": [kind] * pixel.size, "led": number + first, **columns},
        ).with_columns(pixel_2016=pl.Series(old, dtype=pl.Int64))
        for kind, first in (("AC", 0), ("DC", pixel.size))
    )


def lit_pixels(sector: int | None = None, *, angle: int | None = None, version: int = 2) -> NDArray[np.bool_]:
    """Return which pixels the light source reaches.

    Parameters
    ----------
    sector : {1, 2, 3}, optional
        Sector in front of which the boards of version 1 stand.
    angle : {0, 120, 240}, optional
        The same as an angle [degrees]; 0, sector 3, if neither is given.
    version : {1, 2}
        Light source of 2016 or of 2018, which reaches all pixels at any angle.

    Returns
    -------
    ndarray of bool, shape (1296,)
        True where lit: 528 pixels for version 1.

    Raises
    ------
    UsageError
        If there is no such sector, angle or version, or both sector and angle are given and do not agree.
    """
    if sector is not None:
        if sector not in ANGLE_OF_SECTOR:
            what = f"there is no sector {sector}"
            raise UsageError(what, known=[str(number) for number in ANGLE_OF_SECTOR])
        if angle is not None and angle != ANGLE_OF_SECTOR[sector]:
            what = f"sector {sector} is at {ANGLE_OF_SECTOR[sector]} degrees, not at {angle}"
            raise UsageError(what, hint="give the sector or the angle")
        angle = ANGLE_OF_SECTOR[sector]
    angle = 0 if angle is None else angle
    _check(version, angle)
    lit = np.zeros(N_PIXELS, dtype=bool)
    lit[_turned_pixels()[angle // 120][_leds(version)[2]]] = True
    return lit


def _check(version: int, angle: int) -> None:
    if version not in VERSIONS:
        what = f"there is no light source of version {version}"
        raise UsageError(what, known=[str(number) for number in VERSIONS])
    if angle not in ANGLE_OF_SECTOR.values():
        what = f"the light source cannot be turned to {angle} degrees"
        raise UsageError(what, known=[str(value) for value in sorted(ANGLE_OF_SECTOR.values())])


@cache
def _leds(version: int) -> tuple[Integers, Integers, Integers]:
    """Return board, patch and, at angle 0, pixel of each AC LED in the order of their numbers."""
    if version == 1:
        boards = [_Board(number, *place) for number, place in enumerate(_BOARDS_1)]
    else:
        boards = [
            _Board(number, sector, fadc_board)
            for sector, numbers in _LED_BOARDS_2.items()
            for number, fadc_board in zip(numbers, _FADC_BOARDS_2, strict=True)
        ]
    led, board = np.arange(_PER_BOARD), np.array(boards)
    patch, k = led // _PER_PATCH, led % _PER_PATCH
    # in the coordinates of a sector: 12 x 12 patches, 4 x 4 of them an FADC board
    a = _PATCHES_PER_SIDE * ((board[:, 2, None] - 1) // 3) + patch % _PATCHES_PER_SIDE
    b = _PATCHES_PER_SIDE * ((board[:, 2, None] - 1) % 3) + patch // _PATCHES_PER_SIDE
    in_module = np.array(_LIT_IN_MODULE)[a % 2 + 2 * (b % 2), k]
    found = camera.pixel_arrays()
    pixel_of = np.empty((N_SECTORS, 10 * 6, 12), dtype=np.int64)
    pixel_of[found["sector"] - 1, found["module_in_sector"], found["pixel_in_module"] - 1] = np.arange(
        N_PIXELS
    )
    pixel = pixel_of[board[:, 1, None] - 1, a // 2 + 10 * (b // 2), in_module - 1]
    led_patch = board[:, 0, None] * _PATCHES_PER_SIDE**2 + patch
    return np.repeat(board[:, 0], _PER_BOARD), led_patch.ravel(), pixel.ravel()


@cache
def _turned_pixels() -> list[Integers]:
    """Return where each pixel is found after a turn by 0, 120 and 240 degrees."""
    found = camera.pixel_arrays()
    number = {place: k for k, place in enumerate(zip(found["X"].tolist(), found["Y"].tolist(), strict=True))}
    x, y = camera.turned(found["X"], found["Y"])
    once = np.array([number[place] for place in zip(x.tolist(), y.tolist(), strict=True)], dtype=np.int64)
    return [np.arange(N_PIXELS), once, once[once]]


def _numbers_2016(pixel: Integers, n_turns: int) -> Integers:
    """Return the numbers that the places of pixels had when the outline of the camera was the mirror image of today's."""
    found = camera.pixel_arrays()
    outline = sorted(zip(found["Y"].tolist(), (-found["X"]).tolist(), strict=True))
    number = {place: k for k, place in enumerate(outline)}
    shift = (np.array(_SHIFT_2016[0]), np.array(_SHIFT_2016[1]))
    for _ in range(n_turns):
        shift = camera.turned(*shift)
    x, y = found["X"][pixel] + shift[0], found["Y"][pixel] + shift[1]
    return np.array([number[place] for place in zip(y.tolist(), x.tolist(), strict=True)], dtype=np.int64)
