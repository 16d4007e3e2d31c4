"""Fit files of the original scripts: arrays of parameters x [value, error] under its keys, and back to tables.

=================  =======================  ====================================================================================
file               array                    shape and parameters
=================  =======================  ====================================================================================
HV off             ``adcs_fit_result``      (1296, 3, 2): norm, mean, sigma
dark (ours)        ``adcs_fit_result``      (1296, 6, 2): rate [MHz], crosstalk, baseline, gain, sigma_e, sigma_1
dark pulses        ``adcs_fit_result``      (1296, 9, 2): sigma_e, sigma_1, gain, A1, A2, A3, offset, A4, A5
all levels         ``full_mpe_fit_result``  (1296, 4 + n, 2): baseline, gain, sigma_e, sigma_1, amplitudes of n peaks
levels             ``mpe_fit_result``       (level, 1296, 8, 2): mu, mu_XT, gain, baseline, sigma_e, sigma_1, amplitude, offset
LED                ``parameters``           (1296, 5, 7): coefficients from x^4 down, each value, error, row of the covariance
=================  =======================  ====================================================================================

NaN stands for what was not fitted; a parameter that was held fixed has the error 0. The original never made a fit of the dark
spectrum: its file is ours. All files have the arrays ``parameter_names``, ``parameter_units`` and ``crosstalk_convention``
beside, and ``status``, ``deviance``, ``ndf``, ``p_value`` of each fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.legacy.exporting import CONVENTION
from firstlight.detectors.digicam.legacy.npz import NpzFile, write_npz
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = [
    "DARK",
    "FULL",
    "HV_OFF",
    "LED",
    "MPE",
    "SPE",
    "FitFile",
    "Layout",
    "dark_table",
    "of_table",
    "read_first",
    "read_fit",
    "to_frame",
    "write_fit",
    "write_fits",
]


@dataclass(frozen=True)
class Layout:
    """What a fit file holds.

    Parameters
    ----------
    title : str
        For messages: ``"fit without high voltage"``.
    key : str
        Name of the array.
    parameters : mapping of str to str
        Their names in order, with units.
    verb : str
        What makes such a file.
    per_level : bool
        Whether the array has an axis of levels first.
    columns : mapping of str to str
        For parameters that are columns of the table of a step, their names there.
    """

    title: str
    key: str
    parameters: Mapping[str, str]
    verb: str
    per_level: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether an array of this shape can be such a fit, of this camera."""
        tail = (N_PIXELS, len(self.parameters), 2)
        if self is FULL:
            return len(shape) == 3 and shape[0] == N_PIXELS and shape[1] > 5 and shape[2] == 2
        if self is LED:
            return shape == (N_PIXELS, 5, 7)
        return shape[1:] == tail if self.per_level else shape == tail


HV_OFF = Layout(
    "fit without high voltage", "adcs_fit_result", {"norm": "", "mean": "LSB", "sigma": "LSB"},
    "analyse_hvoff -p", columns={"norm": "area", "mean": "baseline", "sigma": "electronics_noise"},
)  # fmt: skip
DARK = Layout(
    "fit of the dark spectrum", "adcs_fit_result",
    {
        "rate": "MHz", "crosstalk": "", "baseline": "LSB", "gain": "LSB/p.e.", "sigma_e": "LSB", "sigma_1": "LSB",
    },
    "analyse_dark -p",
    columns={
        "rate": "rate", "crosstalk": "crosstalk", "baseline": "baseline", "gain": "gain",
        "sigma_e": "electronics_noise", "sigma_1": "gain_smearing",
    },
)  # fmt: skip
SPE = Layout(
    "fit of dark pulses", "adcs_fit_result",
    {
        "sigma_e": "LSB", "sigma_1": "LSB", "gain": "LSB/p.e.", "A1": "", "A2": "", "A3": "", "offset": "LSB",
        "A4": "", "A5": "",
    },
    "analyse_dark_spe -p",
)  # fmt: skip
FULL = Layout(
    "fit of all levels together", "full_mpe_fit_result",
    {"baseline": "LSB", "gain": "LSB/p.e.", "sigma_e": "LSB", "sigma_1": "LSB"},
    "analyse_ac_dac_scan -g",
)  # fmt: skip
MPE = Layout(
    "fit of every level", "mpe_fit_result",
    {
        "mu": "p.e.", "mu_XT": "", "gain": "LSB/p.e.", "baseline": "LSB", "sigma_e": "LSB", "sigma_1": "LSB",
        "amplitude": "", "offset": "LSB",
    },
    "analyse_ac_dac_scan -p", per_level=True,
)  # fmt: skip
LED = Layout("fit of light against level", "parameters", {f"x^{power}": "p.e." for power in (4, 3, 2, 1, 0)}, "analyse_ac_dac_scan -a")  # fmt: skip
_LAYOUTS = (HV_OFF, DARK, SPE, FULL, MPE, LED)


@dataclass(frozen=True)
class FitFile:
    """The content of a fit file.

    Parameters
    ----------
    layout : Layout
        What its parameters are.
    values, errors : ndarray, shape (1296, n) or (n_levels, 1296, n)
        NaN where a pixel has no fit.
    beside : mapping of str to ndarray
        Other arrays of the file.
    path : Path
        The file.
    """

    layout: Layout
    values: FloatArray
    errors: FloatArray
    beside: Mapping[str, NDArray[Any]]
    path: Path

    def value(self, name: str) -> FloatArray:
        """Return the values of a parameter."""
        return np.asarray(self.values[..., list(self.layout.parameters).index(name)])

    def error(self, name: str) -> FloatArray:
        """Return the errors of a parameter."""
        return np.asarray(self.errors[..., list(self.layout.parameters).index(name)])


def write_fit(
    path: Path,
    layout: Layout,
    values: FloatArray,
    errors: FloatArray,
    beside: Mapping[str, Any] | None = None,
) -> Path:
    """Write a fit file.

    Parameters
    ----------
    path : Path
        The file.
    layout : Layout
        What it is.
    values, errors : ndarray, shape (..., n_parameters)
        Of each parameter.
    beside : mapping, optional
        Further arrays.
    """
    names = [
        *layout.parameters,
        *(f"amplitude_{k}" for k in range(values.shape[-1] - len(layout.parameters))),
    ]
    units = [layout.parameters.get(name, "") for name in names]
    array = np.stack([values, errors], axis=-1).astype(np.float64)
    more = {"parameter_names": np.array(names), "parameter_units": np.array(units)}
    return write_npz(
        path, {layout.key: array, **more, "crosstalk_convention": np.array(CONVENTION), **(beside or {})}
    )


def read_fit(path: Path, layout: Layout) -> FitFile:
    """Read a fit file, ours or the original's.

    Raises
    ------
    InputError
        If there is no such file, or it is a fit of something else or of another camera.
    """
    with NpzFile(path, layout.title, f"make it with {layout.verb}") as file:
        file.require(layout.key)
        array = file.array(layout.key)
        if not layout.fits(array.shape) or array.dtype.kind not in "fiu":
            raise _wrong(path, layout, array)
        beside = {
            key: file.array(key)
            for key in file.keys
            if key != layout.key and not key.startswith(("parameter_", "crosstalk_convention"))
        }
    array = array.astype(np.float64)
    return FitFile(layout, array[..., 0], array[..., 1], beside, path)


def read_first(path: Path, layouts: Sequence[Layout]) -> FitFile:
    """Read a fit file of the first of some layouts that it has.

    Raises
    ------
    InputError
        What is wrong with it as one of the first layout, if it has none of them.
    """
    errors = []
    for layout in layouts:
        try:
            return read_fit(path, layout)
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _wrong(path: Path, layout: Layout, array: NDArray[Any]) -> InputError:
    shape = array.shape
    other = next(
        (one.title for one in _LAYOUTS if one.key == layout.key and one is not layout and one.fits(shape)),
        None,
    )
    if other is not None:
        what = f"this is a {other}, not a {layout.title}"
        return InputError(what, where=path, hint=f"make one with {layout.verb}")
    pixels = shape[1 if layout.per_level else 0] if len(shape) > 1 else 0
    why = f": a fit of another camera, this one has {N_PIXELS} pixels" if pixels != N_PIXELS else ""
    what = f"{layout.key} has the shape {shape}, which is no {layout.title}{why}"
    return InputError(what, where=path)


def to_frame(found: FitFile) -> pl.DataFrame:
    """Return the values of a fit file as a table: a row for each pixel, or for each level and pixel.

    Columns are ``level`` (number of its row where the file does not tell), ``channel``, each parameter and its ``_error``.
    """
    n_pixels, n = found.values.shape[-2:]
    names = list(found.layout.parameters)
    names += [f"amplitude_{k}" for k in range(n - len(names))]
    rows = found.values.size // (n_pixels * n)
    columns: dict[str, Any] = {}
    if found.layout.per_level:
        level = np.asarray(found.beside.get("levels", np.arange(rows)), dtype=np.float64)
        columns["level"] = np.repeat(level, n_pixels)
    columns["channel"] = np.tile(np.arange(n_pixels), rows)
    values, errors = (array.reshape(-1, n) for array in (found.values, found.errors))
    for index, name in enumerate(names):
        columns[name], columns[f"{name}_error"] = values[:, index], errors[:, index]
    return pl.DataFrame(columns).fill_nan(None)


# ---------------------------------------------------------------- tables of steps


def of_table(layout: Layout, table: Table) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
    """Return values, errors and further arrays of a fit file, from the table that a step made of the same fit.

    Parameters
    ----------
    layout : Layout
        One with `columns`.
    table : Table
        A row for each pixel.
    """
    frame = table.frame
    values = np.stack([_numbers(frame, layout.columns[name]) for name in layout.parameters], axis=1)
    errors = np.stack(
        [_numbers(frame, f"{layout.columns[name]}_error") for name in layout.parameters], axis=1
    )
    done = frame["status"].is_in(["ok", "at_bound"]).to_numpy()
    values[~done], errors[~done] = np.nan, np.nan
    # a parameter without error where others have one was held fixed
    errors[np.isnan(errors) & np.isfinite(errors).any(axis=1, keepdims=True) & np.isfinite(values)] = 0.0
    return values, errors, quality(frame)


def quality(frame: pl.DataFrame) -> dict[str, Any]:
    """Return status, deviance, ndf and p-value of fits as arrays of a file."""
    return {
        "status": np.array(frame["status"].to_list(), dtype=np.str_),
        "deviance": _numbers(frame, "deviance"),
        "ndf": _numbers(frame, "ndf"),
        "p_value": _numbers(frame, "p_value"),
    }


def _numbers(frame: pl.DataFrame, name: str) -> FloatArray:
    return frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy().copy()


_FIT = (
    ("rate", "MHz"), ("crosstalk", ""), ("baseline", "LSB"), ("gain", "LSB"), ("electronics_noise", "LSB"),
    ("gain_smearing", "LSB"),
)  # fmt: skip


def dark_table(found: FitFile) -> Table:
    """Return the table ``dark/pixels`` that a fit file stands for.

    Parameters
    ----------
    found : FitFile
        A fit of the dark spectrum; or of dark pulses, from which the rate is taken alone (``dark_rate`` beside).
    """
    columns: dict[str, Any] = {"channel": np.arange(N_PIXELS)}
    nothing = np.full(N_PIXELS, np.nan)
    for name, _ in _FIT:
        columns[name], columns[f"{name}_error"] = nothing, nothing
    if found.layout is DARK:
        for parameter, name in DARK.columns.items():
            columns[name], columns[f"{name}_error"] = found.value(parameter), found.error(parameter)
    elif "dark_rate" in found.beside:
        columns["rate"], columns["rate_error"] = np.asarray(found.beside["dark_rate"], dtype=np.float64).T
    known = np.isfinite(columns["rate"])
    columns["status"] = np.asarray(found.beside.get("status", np.where(known, "ok", "no_data"))).astype(str)
    for name in ("deviance", "ndf", "p_value"):
        columns[name] = np.asarray(found.beside.get(name, nothing), dtype=np.float64)
    columns["ndf"] = np.nan_to_num(columns["ndf"]).astype(np.int64)
    schema = TableSchema(
        "fits",
        (
            Column("channel", pl.Int64, "number of the channel"),
            *(
                Column(name, pl.Float64, text, unit, nullable=True)
                for parameter, unit in _FIT
                for name, text in (
                    (parameter, "from a file"),
                    (f"{parameter}_error", f"standard error of {parameter}"),
                )
            ),
            Column("deviance", pl.Float64, "deviance at the minimum", nullable=True),
            Column("ndf", pl.Int64, "used points less fitted parameters"),
            Column("p_value", pl.Float64, "probability of a larger deviance", nullable=True),
            Column("status", pl.String, "how the fit ended"),
        ),
        f"one pixel, from {found.path.name}",
    )
    return Table.from_frame(schema, pl.DataFrame(columns))


def mpe_arrays(
    products: Mapping[str, Any], wanted: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
    """Return values, errors and further arrays of the fit of every level.

    Light from ``levels/light``, what all levels share from ``gain/pixels``; the amplitude is the number of flashes, the offset
    0.

    Parameters
    ----------
    products : mapping
        Of a run.
    wanted : ndarray, optional
        Levels of the rows [DAC]; those that the run does not have are NaN. All of the run by default.
    """
    light, gain = products["levels/light"].frame, products["gain/pixels"].frame
    levels = light["level"].unique().sort().to_numpy()
    shape = (N_PIXELS, levels.size)
    by_level = {
        name: _numbers(light, name).reshape(shape).T for name in ("photo_electrons", "photo_electrons_error")
    }
    n_rows = levels.size if wanted is None else wanted.size
    rows = np.searchsorted(levels, levels if wanted is None else wanted)
    there = np.ones(n_rows, dtype=bool) if wanted is None else np.isin(wanted, levels)
    rows = np.where(there, rows, 0)
    values, errors = np.full((2, n_rows, N_PIXELS, len(MPE.parameters)), np.nan)
    values[there, :, 0] = by_level["photo_electrons"][rows[there]]
    errors[there, :, 0] = by_level["photo_electrons_error"][rows[there]]
    shared = ("crosstalk", "gain", "baseline", "electronics_noise", "gain_smearing")
    known = np.isfinite(values[:, :, 0])
    for index, name in enumerate(shared, 1):
        values[:, :, index] = np.where(known, _numbers(gain, name), np.nan)
        errors[:, :, index] = np.where(known, _numbers(gain, f"{name}_error"), np.nan)
    entries = products["light/charge"].counts.sum(axis=2).T
    values[:, :, 6] = np.where(known, entries[rows], np.nan)
    errors[:, :, 6] = np.sqrt(values[:, :, 6])
    values[:, :, 7] = errors[:, :, 7] = np.where(known, 0.0, np.nan)
    beside: dict[str, Any] = {"levels": levels if wanted is None else wanted}
    for name in ("deviance", "ndf", "p_value"):
        beside[name] = np.where(there[:, None], _numbers(light, name).reshape(shape).T[rows], np.nan)
    return values, errors, beside


def write_fits(products: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the fit files of all steps of a run that the original has a layout for.

    Returns
    -------
    list of Path
        ``adc_hv_off_fit.npz``, ``adc_hv_on_fit.npz``, ``mpe_fit.npz``: those whose products there are.
    """
    written = []
    for name, product, layout in (
        ("adc_hv_off_fit.npz", "hv_off/pixels", HV_OFF),
        ("adc_hv_on_fit.npz", "dark/pixels", DARK),
    ):
        if product in products and "total" in products[product].frame.columns:
            written.append(write_fit(folder / name, layout, *of_table(layout, products[product])))
    if "levels/light" in products and "light/charge" in products:
        written.append(write_fit(folder / "mpe_fit.npz", MPE, *mpe_arrays(products)))
    return written
