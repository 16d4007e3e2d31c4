"""Calibrations of other tools, read into one table with the units and conventions of ours.

What other tools call gain, crosstalk or dark count rate is not always the same thing. Each number is put into the column
whose description fits it; one that fits none has a column of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.errors import InputError
from firstlight.yaml_files import load_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Columns = dict[str, NDArray[Any]]

__all__ = ["CALIBRATION", "read_calibration"]


def _column(name: str, unit: str, description: str) -> Column:
    return Column(name, pl.Float64, description, unit, nullable=True)


def _with_error(name: str, unit: str, description: str) -> tuple[Column, ...]:
    return (
        _column(name, unit, description),
        _column(f"{name}_error", unit, f"standard error of {name}"),
        _column(f"{name}_spread", unit, f"standard deviation of {name} over runs"),
    )


CALIBRATION = TableSchema(
    "other calibration",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        *_with_error("baseline", "LSB", "value of a sample without light"),
        *_with_error("gain", "LSB/p.e.", "charge of an avalanche, in units of the charge that was fitted"),
        *_with_error("electronics_noise", "LSB", "standard deviation of a charge without light"),
        *_with_error("gain_smearing", "LSB", "standard deviation of the charge of an avalanche"),
        *_with_error("crosstalk", "", "mean number of avalanches that an avalanche starts"),
        _column("crosstalk_probability", "", "share of dark pulses with more than one avalanche: 1 - exp(-crosstalk)"),
        *_with_error("dark_rate", "MHz", "rate of dark counts"),
        _column("crosstalk_of_maximum", "", "crosstalk as fitted to the largest window of a trace, which is biased"),
        _column("zero_of_maximum", "LSB", "charge of the largest window of a trace without avalanches"),
        _column("dark_counts", "", "mean number of dark counts in the window of a fit; its length is not in the file"),
        _column("deviance", "", "chi2 or deviance of the fit of the gain"),
        _column("ndf", "", "its degrees of freedom; 1 where the file has chi2 per degree of freedom"),
        _column("charge_per_photoelectron", "LSB/p.e.", "mean charge of a photo-electron with its crosstalk"),
        Column("good", pl.Boolean, "whether the other tool takes the constants for good", nullable=True),
    ),
    "one pixel of the calibration of another tool",
)  # fmt: skip


def read_calibration(path: Path) -> Table:
    """Read the calibration of another tool, or one that `exports` wrote.

    Parameters
    ----------
    path : Path
        ``.yml`` or ``.yaml`` of digicampipe; HDF5 of sst1mpipe (``/df_param`` of a run, ``/param`` of an average) or
        ``calibration.h5`` of a run of firstlight.

    Returns
    -------
    Table
        `CALIBRATION`, 1296 rows in the order of pixel numbers; without the columns of which the file says nothing. The
        description of the schema tells where the numbers come from.

    Raises
    ------
    InputError
        If the file cannot be read, is of another kind, or not of this camera.
    MissingExtraError
        If a YAML file is read and pyyaml is not installed.
    """
    if not path.is_file():
        what = "the calibration file does not exist"
        raise InputError(what, where=path)
    reader = _read_yaml if path.suffix in (".yml", ".yaml") else _read_hdf5
    source, columns = reader(path)
    pixel = columns.pop("channel", np.arange(N_PIXELS))
    order = _order(pixel, path)
    wrong = [name for name, values in columns.items() if values.shape != pixel.shape]
    if wrong:
        what = f"{wrong[0]} has {columns[wrong[0]].size} values beside {pixel.size} pixels"
        raise InputError(what, where=path)
    found = [column for column in CALIBRATION.columns if column.name in columns]
    frame = pl.DataFrame({name: values[order] for name, values in columns.items()})
    schema = TableSchema(CALIBRATION.name, (CALIBRATION.columns[0], *found), source)
    return Table.from_frame(schema, frame.with_columns(channel=pl.int_range(N_PIXELS)))


def _order(pixel: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Return the order in which rows are those of pixels 0 to 1295."""
    known = pixel.astype(np.float64)
    # averages of sst1mpipe have no number for a pixel that is missing in all runs: it stands in its place all the same
    place = np.where(np.isfinite(known), known, np.arange(known.size))
    if place.size != N_PIXELS or not np.array_equal(np.sort(place), np.arange(N_PIXELS)):
        what = f"{place.size} rows are not the {N_PIXELS} pixels of the camera, each once"
        raise InputError(what, where=path)
    return np.argsort(place)


# ---------------------------------------------------------------- YAML of digicampipe

# of a charge of 7 samples the gain is 20 LSB, of the height of a pulse 5 LSB
_CHARGE_GAIN = 10.0
_YAML = {
    "pixel_id": "channel", "baseline": "baseline", "gain": "gain", "sigma_e": "electronics_noise",
    "sigma_s": "gain_smearing", "mu_xt": "crosstalk_probability", "dark_count_rate": "dark_rate",
    "chi_2": "deviance", "ndf": "ndf",
}  # fmt: skip


def _read_yaml(path: Path) -> tuple[str, Columns]:
    content = load_yaml(path, InputError, "the calibration cannot be read")
    if not isinstance(content, Mapping) or "gain" not in content:
        what = "this is no calibration of digicampipe: it has no list 'gain'"
        known = [str(key) for key in content] if isinstance(content, Mapping) else None
        raise InputError(what, where=path, known=known)
    columns: Columns = {}
    for name, values in content.items():
        base = str(name).removesuffix("_error")
        if base in _YAML and isinstance(values, list):
            try:
                columns[f"{_YAML[base]}{str(name)[len(base) :]}"] = np.array(values, dtype=np.float64)
            except (TypeError, ValueError) as error:
                what = f"the list {name!r} is not all numbers: {error}"
                raise InputError(what, where=path) from error
    for name in ("dark_rate", "dark_rate_error"):
        if name in columns:
            columns[name] = columns[name] * 1e3  # from 1/ns
    if "crosstalk_probability" in columns:
        columns["crosstalk"] = _crosstalk_of(columns["crosstalk_probability"])
    typical = np.nanmedian(columns["gain"])
    charge = "charges, sums of 7 samples" if typical > _CHARGE_GAIN else "heights of pulses"
    return f"digicampipe; with a gain of {typical:.3g} LSB these are {charge}", columns


def _crosstalk_of(probability: FloatArray) -> FloatArray:
    """Return the mean number of avalanches that an avalanche starts, from the share that starts any."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(probability < 1, -np.log1p(-probability), np.nan))


# ---------------------------------------------------------------- HDF5

_SST1MPIPE = {
    "pixel_id": "channel", "gain": "gain", "gain_std": "gain_spread", "sigma_el": "electronics_noise",
    "sigma_el_std": "electronics_noise_spread", "sigma_pe": "gain_smearing", "sigma_pe_std": "gain_smearing_spread",
    "X_talk": "crosstalk_of_maximum", "true_Xtalk": "crosstalk", "true_Xtalk_std": "crosstalk_spread",
    "dcr": "dark_counts", "dcr_MHz": "dark_rate", "dcr_MHz_std": "dark_rate_spread", "x_el": "zero_of_maximum",
    "P_chi2": "deviance", "dc_to_pe": "charge_per_photoelectron", "calib_flag": "good",
}  # fmt: skip


def _read_hdf5(path: Path) -> tuple[str, Columns]:
    import h5py

    readers: dict[str, Callable[[Any, Path], tuple[str, Columns]]] = {
        "df_param": _read_pandas, "param": _read_pandas, "pixels": _read_own,
    }  # fmt: skip
    try:
        with h5py.File(path) as file:
            name = next((name for name in readers if name in file), None)
            if name is None:
                what = "this is no calibration: it has no group df_param, param or pixels"
                raise InputError(what, where=path, known=list(file))
            return readers[name](file[name], path)
    except OSError as error:
        what = f"this is no YAML (.yml) and no HDF5 file: {error}"
        raise InputError(what, where=path) from error


def _read_pandas(group: Any, path: Path) -> tuple[str, Columns]:
    """Read a frame in the fixed format of pandas: blocks of columns of one type."""
    table: Columns = {}
    try:
        for number in range(int(group.attrs["nblocks"])):
            names = [name.decode() for name in group[f"block{number}_items"][()]]
            values = group[f"block{number}_values"][()]
            table.update((name, values[:, index].astype(np.float64)) for index, name in enumerate(names))
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        what = f"the table {group.name} is not a frame in the fixed format of pandas: {error}"
        raise InputError(what, where=path) from error
    columns = {_SST1MPIPE[name]: values for name, values in table.items() if name in _SST1MPIPE}
    if "gain" not in columns:
        what = f"the table {group.name} has no column 'gain'"
        raise InputError(what, where=path, known=list(table))
    columns["ndf"] = np.ones(columns["gain"].size)
    if "crosstalk" in columns:
        columns["crosstalk_probability"] = -np.expm1(-columns["crosstalk"])
    if "good" in columns:
        columns["good"] = columns["good"] == 1
    kind = "averages of many runs" if group.name.endswith("/param") else "a run"
    return f"sst1mpipe, {kind}: largest windows of 5 samples in dark traces", columns


def _read_own(group: Any, path: Path) -> tuple[str, Columns]:
    names = {column.name for column in CALIBRATION.columns}
    columns = {name: data[()] for name, data in group.items() if name in names}
    if "gain" not in columns:
        what = "the group pixels has no dataset 'gain'"
        raise InputError(what, where=path, known=list(group))
    return f"firstlight {group.parent.attrs.get('version', '')}".strip(), columns
