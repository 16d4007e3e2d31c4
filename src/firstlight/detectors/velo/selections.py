"""Groups of pixels that are looked at apart: even and odd columns, the rows of the hardware's period, good pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.velo.channels import COLUMNS, N_PIXELS
from firstlight.detectors.velo.options import SEPARATIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["GROUPS", "groups", "selections"]

GROUPS = tuple(name for name in SEPARATIONS if name)


def groups(legacy_rows: bool = False) -> dict[str, NDArray[np.bool_]]:
    """Return the groups of pixels by name, each of shape (65536,).

    Parameters
    ----------
    legacy_rows : bool
        Rows as the original takes them: 15, 30, ... 255, and even and odd columns with all rows.

    Returns
    -------
    dict
        ``rows`` are rows 0 and 15 of every 16, the edges of the hardware's super-columns, which are wider in
        noise; ``even`` and ``odd`` columns are without them; ``superpixel_even`` and ``superpixel_odd`` are pairs
        of columns in turn.
    """
    channel = np.arange(N_PIXELS)
    row, column = channel // COLUMNS, channel % COLUMNS
    rows = (row % 15 == 0) & (row != 0) if legacy_rows else np.isin(row % 16, (0, 15))
    others = np.ones(N_PIXELS, dtype=bool) if legacy_rows else ~rows
    pair = (column // 2) % 2
    return {
        "even": (column % 2 == 0) & others,
        "odd": (column % 2 == 1) & others,
        "rows": rows,
        "superpixel_even": pair == 0,
        "superpixel_odd": pair == 1,
    }


def selections(
    good: NDArray[np.bool_], masked: NDArray[np.bool_], legacy_rows: bool
) -> dict[str, NDArray[np.bool_]]:
    """Return all selections of pixels by name: every group, and the good pixels of each.

    ``all`` is the ASIC of the original and ``good`` its ASICgood; no selection has masked pixels.
    """
    found = {"all": ~masked, "good": good & ~masked}
    for name, members in groups(legacy_rows).items():
        found[name] = members & ~masked
        found[f"{name} good"] = members & good & ~masked
    return found
