"""The calibration at a glance: medians and spreads of the camera, and the pixels with flags; tables of the report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.steps.spread import robust_spread

if TYPE_CHECKING:
    from firstlight.detectors.digicam.scene import Scene

__all__ = ["CAMERA", "FLAGGED", "camera_numbers", "flagged_pixels"]

_QUANTITIES = (
    ("gain", "gain", "LSB/p.e."),
    ("peak_gain", "gain as height of the pulse", "LSB/p.e."),
    ("crosstalk", "crosstalk: avalanches that an avalanche starts", ""),
    ("crosstalk_probability", "crosstalk: probability of at least one", ""),
    ("dark_rate", "dark rate", "MHz"),
    ("electronics_noise", "electronics noise of a sample", "LSB"),
    ("gain_smearing", "gain smearing", "LSB"),
    ("baseline", "baseline", "LSB"),
    ("time", "arrival time of the light", "ns"),
)
_ORIGINS = {"gain": "flashes", "dark": "dark run", "hv_off": "HV off", "timing": "flashes"}

CAMERA = TableSchema(
    "camera",
    (
        Column("quantity", pl.String, "what"),
        Column("median", pl.Float64, "median of the good pixels", nullable=True),
        Column("spread", pl.Float64, "robust standard deviation of the good pixels", nullable=True),
        Column("relative_spread", pl.Float64, "spread over median", "%", nullable=True),
        Column("error", pl.Float64, "median of the standard errors of the pixels", nullable=True),
        Column("unit", pl.String, "unit of these"),
        Column("n_known", pl.Int64, "good pixels with a value", minimum=0),
        Column("n_outliers", pl.Int64, "pixels beyond the cut of outliers, dead ones left out", minimum=0),
        Column("origin", pl.String, "fits that the values are from, with the number of pixels"),
    ),
    "one quantity of the calibration",
)
_PLACES = ("patch", "module", "sector")
_VALUES = ("gain", "crosstalk", "dark_rate", "electronics_noise", "baseline", "brightest")
FLAGGED = TableSchema(
    "flagged",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("patch", pl.Int16, "patch of three pixels that the trigger adds up"),
        Column("module", pl.Int16, "module of twelve pixels"),
        Column("sector", pl.Int16, "sector, the number of the crate that reads it"),
        Column("flags", pl.String, "what is wrong"),
        Column("good", pl.Boolean, "whether its constants can be used all the same"),
        Column("gain", pl.Float64, "gain", "LSB/p.e.", nullable=True),
        Column("crosstalk", pl.Float64, "avalanches that an avalanche starts", nullable=True),
        Column("dark_rate", pl.Float64, "dark rate", "MHz", nullable=True),
        Column("electronics_noise", pl.Float64, "electronics noise", "LSB", nullable=True),
        Column("baseline", pl.Float64, "baseline", "LSB", nullable=True),
        Column("brightest", pl.Float64, "light at the highest level", "p.e.", nullable=True),
    ),
    "one pixel with a flag; those that the light source does not reach, and that have no other, are left out",
)


def camera_numbers(scene: Scene) -> Table:
    """Return medians and spreads of the calibration constants, a row for each that has a value.

    Parameters
    ----------
    scene : Scene
        With ``calibration/pixels``.
    """
    frame = scene.frame("calibration/pixels")
    rows: list[dict[str, Any]] = []
    for name, words, unit in _QUANTITIES:
        if name not in frame.columns:
            continue
        base = {"peak_gain": "gain", "crosstalk_probability": "crosstalk"}.get(name, name)
        values = scene.column("calibration/pixels", name)
        good = scene.telling(base) & np.isfinite(values)
        if name == "time":
            good &= ~scene.flags["unlit"]
        if not good.any():
            continue
        middle, spread = float(np.median(values[good])), robust_spread(values[good])
        low, high = scene.cuts(values)
        error = scene.column("calibration/pixels", f"{name}_error")[good]
        with np.errstate(invalid="ignore"):
            beyond = int((((values < low) | (values > high)) & ~scene.flags["dead"]).sum())
        rows.append(
            {
                "quantity": words, "median": middle, "spread": spread,
                "relative_spread": 100 * spread / abs(middle) if middle and name not in ("baseline", "time") else None,
                "error": float(np.nanmedian(error)) if np.isfinite(error).any() else None, "unit": unit,
                "n_known": int(good.sum()), "n_outliers": beyond, "origin": _origin(frame, base, good),
            }
        )  # fmt: skip
    return Table.from_rows(CAMERA, rows)


def _origin(frame: pl.DataFrame, name: str, good: np.ndarray) -> str:
    """Return the fits from which the values of good pixels are, the most frequent first."""
    if f"{name}_from" not in frame.columns:
        return "flashes" if name == "time" else ""
    found = np.full(N_PIXELS, "", dtype=object)
    found[frame["channel"].to_numpy()] = frame[f"{name}_from"].to_list()
    counts = Counter(str(one) for one in found[good])
    return ", ".join(f"{_ORIGINS.get(one, one)} {number:,}" for one, number in counts.most_common())


def flagged_pixels(scene: Scene) -> Table:
    """Return the pixels with flags, those whose constants are not to be used first.

    Parameters
    ----------
    scene : Scene
        With ``calibration/pixels``.
    """
    places = scene.context.channels.frame.select(
        "channel", *_PLACES, *(["lit"] if "lit" in scene.context.channels.frame.columns else [])
    )
    frame = (
        scene.frame("calibration/pixels").filter(pl.col("flags") != "").join(places, on="channel", how="left")
    )
    if "lit" in frame.columns:
        frame = frame.filter(pl.col("lit") | (pl.col("flags") != "unlit"))
    frame = frame.sort("good", "channel").select("channel", *_PLACES, "flags", "good", *_VALUES)
    return Table.from_frame(
        FLAGGED, frame.with_columns(pl.col("flags").str.replace_all(",", ", ").str.replace_all("_", " "))
    )
