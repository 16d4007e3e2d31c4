"""What the figures of a run share: arrays by row and column, and what each quantity is called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from firstlight.detectors.velo.channels import COLUMNS, N_PIXELS, ROWS
from firstlight.detectors.velo.flags import Flag
from firstlight.detectors.velo.selections import groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from firstlight.steps.step import Context

    Image = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["EXPECTED_GAIN", "QUANTITIES", "Quantity", "Scene", "groups_of"]

# amplifier 24.6 mV/ke-, 0.38 mV per DAC step, 3.3 %: what the original tool compares with
EXPECTED_GAIN = (15.45, 0.51)


@dataclass(frozen=True)
class Quantity:
    """One number of every pixel.

    Parameters
    ----------
    key : str
        For file names and ``--param``.
    title : str
        For people.
    label : str
        Of an axis, with the unit.
    product, column : str
        Where it stands.
    error : str
        Column of its statistical error; empty where there is none.
    scale : {"linear", "log", "auto"}
        Of a map.
    only_good : bool
        Whether pixels without a good fit have no meaningful value.
    """

    key: str
    title: str
    label: str
    product: str
    column: str
    error: str = ""
    scale: Literal["linear", "log", "auto"] = "linear"
    only_good: bool = True


QUANTITIES = {
    quantity.key: quantity
    for quantity in (
        Quantity("E0", "E0 (position)", "E0, position [DAC]", "fit/pixels", "position", "position_error"),
        Quantity("N", "N (step)", "N, step [hits/s]", "fit/pixels", "step", "step_error", "auto"),
        Quantity("C", "C (slope)", "C, slope [hits/s/DAC]", "fit/pixels", "slope", "slope_error", "auto"),
        Quantity("sigma", "σ (width)", "σ, width [DAC]", "fit/pixels", "width", "width_error"),
        Quantity("target", "Target", "target = E0 − baseline [DAC]", "calibration/pixels", "target", "target_error"),
        Quantity("K", "K (gain)", "K [e⁻/DAC]", "calibration/pixels", "gain", "gain_statistical"),
        Quantity("f", "f", "f", "fit/pixels", "f", "f_error"),
        Quantity("A", "A", "A [hits/s/DAC]", "fit/pixels", "A", "A_error", "auto"),
        Quantity("B", "B", "B [hits/s/DAC]", "fit/pixels", "B", "B_error", "auto"),
        Quantity("s2", "s2", "s2, width of the step [DAC]", "fit/pixels", "s2", "s2_error"),
        Quantity("background", "Background", "constant rate [hits/s]", "fit/pixels", "background", "background_error"),
        Quantity("baseline", "Baseline", "baseline [DAC]", "baseline/pixels", "baseline", "baseline_error", only_good=False),
        Quantity("p-value", "p-value", "p-value of the fit", "fit/pixels", "p_value", only_good=False),
        Quantity("totalflux", "Total flux", "hits / live time [hits/s]", "scan/pixels", "counts", "", "auto", only_good=False),
        Quantity("saturated", "Saturated readings", "readings at 63", "scan/pixels", "n_saturated", "", "auto", only_good=False),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """The products of a run as arrays of shape (256, 256).

    Parameters
    ----------
    products : mapping
        Products of the run.
    context : Context
        Its channel map.
    title : str
        Second line of titles; chip and label by default.
    outside : ndarray of bool, shape (256, 256), optional
        Pixels that are left out as if they were masked: those of other groups.
    """

    products: Mapping[str, Any]
    context: Context
    title: str = ""
    outside: Mask | None = None

    def has(self, *names: str) -> bool:
        """Return whether all these products are there."""
        return all(name in self.products for name in names)

    def frame(self, name: str) -> pl.DataFrame:
        """Return a table product as a frame."""
        found: pl.DataFrame = self.products[name].frame
        return found

    def image(self, product: str, column: str) -> Image | None:
        """Return a column by row and column of the chip, NaN where there is no value; None if there is none."""
        if product not in self.products or column not in self.frame(product).columns:
            return None
        frame = self.frame(product)
        flat = np.full(N_PIXELS, np.nan)
        flat[frame["channel"].to_numpy()] = (
            frame[column].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        )
        return flat.reshape(ROWS, COLUMNS)

    def quantity(self, key: str) -> Image | None:
        """Return the values of one of `QUANTITIES`, masked pixels as NaN."""
        quantity = QUANTITIES[key]
        image = self.image(quantity.product, quantity.column)
        if image is None:
            return None
        if key == "totalflux":
            image = image / max(self.live_time, 1e-12)
        return np.where(self.masked, np.nan, image)

    def error(self, key: str) -> Image | None:
        """Return the statistical errors of one of `QUANTITIES`."""
        quantity = QUANTITIES[key]
        return self.image(quantity.product, quantity.error) if quantity.error else None

    @property
    def legacy_rows(self) -> bool:
        """Whether the group of rows is that of the original."""
        return bool(getattr(getattr(self.context.options, "fit", None), "legacy_rows", False))

    @property
    def model(self) -> str:
        """Name of the flux equation that was fitted."""
        return str(getattr(getattr(self.context.options, "fit", None), "model", "physical"))

    @property
    def about(self) -> str:
        """Chip and label, for the second line of titles."""
        if self.title:
            return self.title
        label = str(getattr(self.context.options, "label", "") or "")
        return ", ".join(part for part in (self.context.channels.name, label) if part)

    @cached_property
    def live_time(self) -> float:
        """Open time of all good frames [s]; 1 where it is not known."""
        return float(self.frame("scan/points")["live_time"].sum()) if self.has("scan/points") else 1.0

    @cached_property
    def masked(self) -> Mask:
        """Pixels that the mask takes out."""
        frame = self.context.channels.frame
        found = self.image("fit/pixels", "masked")
        masked = np.zeros((ROWS, COLUMNS), dtype=bool)
        if found is not None:
            masked = np.asarray(found > 0)
        elif "mask" in frame.columns:
            masked = np.asarray(frame["mask"].fill_null(0).to_numpy() > 0).reshape(ROWS, COLUMNS)
        return masked if self.outside is None else masked | self.outside

    @cached_property
    def flags(self) -> NDArray[np.int64]:
        """Bit field of each pixel; 0 where nothing was judged."""
        found = self.image("fit/pixels", "flags")
        return (
            np.zeros((ROWS, COLUMNS), dtype=np.int64)
            if found is None
            else np.nan_to_num(found).astype(np.int64)
        )

    @cached_property
    def dead(self) -> Mask:
        """Pixels with hardly any hit where their neighbours have many; those without a hit where none was judged."""
        if self.has("fit/pixels") and "flags" in self.frame("fit/pixels").columns:
            return np.asarray((self.flags & int(Flag.DEAD)) > 0) & ~self.masked
        return self.silent

    @cached_property
    def silent(self) -> Mask:
        """Pixels without any hit that are not masked."""
        counts = self.image("scan/pixels", "counts")
        if counts is None:
            counts = self.image("fit/pixels", "counts")
        return np.zeros((ROWS, COLUMNS), dtype=bool) if counts is None else (counts == 0) & ~self.masked

    @cached_property
    def good(self) -> Mask | None:
        """Pixels with a good fit; None where nothing was fitted."""
        found = self.image("fit/pixels", "good")
        return None if found is None else (found > 0) & ~self.masked

    @cached_property
    def pairs(self) -> float:
        """Electron-hole pairs of the source line; NaN where not known."""
        found = self.selection("calibration/selections", "all", "electrons")
        if np.isfinite(found):
            return found
        gain, target = self.quantity("K"), self.quantity("target")
        if gain is None or target is None or not np.isfinite(gain * target).any():
            return float("nan")
        return float(np.nanmedian(gain * target))

    def selection(self, product: str, name: str, column: str) -> float:
        """Return a number of a selection of pixels; NaN where it is not there."""
        if product not in self.products or column not in self.frame(product).columns:
            return float("nan")
        rows = self.frame(product).filter(pl.col("selection") == name)[column].drop_nulls()
        return float(rows[0]) if len(rows) else float("nan")

    def parameter(self, selection: str, parameter: str) -> tuple[float, float]:
        """Return a parameter of the curve of a selection and its uncertainty; NaN where not known."""
        if not self.has("fit/selections"):
            return float("nan"), float("nan")
        author = {"position": "E0", "width": "s"}.get(parameter, parameter)
        rows = self.frame("fit/selections").filter(
            (pl.col("selection") == selection) & pl.col("parameter").is_in([parameter, author])
        )
        if not rows.height:
            return float("nan"), float("nan")
        value, error = rows["value"][0], rows["uncertainty"][0]
        return (
            float("nan") if value is None else float(value),
            float("nan") if error is None else float(error),
        )


def groups_of(legacy_rows: bool = False) -> dict[str, Mask]:
    """Return the groups of pixels that the layout of the chip suggests, as masks by row and column.

    Parameters
    ----------
    legacy_rows : bool
        Rows as the original takes them: 15, 30, ... 255.

    Returns
    -------
    dict of str to ndarray of bool, shape (256, 256)
        Even columns, odd columns, and the rows in which the noise is wider.
    """
    found = groups(legacy_rows)
    rows = "rows 15, 30, … 255" if legacy_rows else "rows 0, 15 mod 16"
    names = {"even": "even columns", "odd": "odd columns", "rows": rows}
    return {words: found[name].reshape(ROWS, COLUMNS) for name, words in names.items()}
