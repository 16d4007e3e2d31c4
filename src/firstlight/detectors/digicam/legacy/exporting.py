"""Constants of a run as files for other tools.

- ``calibration.csv`` and ``calibration.ecsv``: the table of pixels, the latter with units and descriptions (astropy);
- ``calibration.h5``: a dataset for each constant, with unit, description and, for crosstalk, its convention;
- ``original/``: the results of fits under the keys and in the shapes of the original scripts;
- ``template.txt``: the shape of a pulse, if there were flashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.files import atomic, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from firstlight.data.schema import Table
    from firstlight.steps.step import Context

__all__ = ["CONVENTION", "exports", "to_ecsv", "write_calibration"]

CONVENTION = (
    "mean number of avalanches that one avalanche starts (Borel's parameter l); the mean charge of mu photo-electrons is "
    "mu gain / (1 - l), the probability that an avalanche starts any is 1 - exp(-l)"
)
"""What the crosstalk of all our tables and files is."""

# units as astropy knows them: least significant bits are adu, photo-electrons are electrons
_ASTROPY_UNITS = {"LSB": "adu", "LSB/p.e.": "adu / electron", "p.e.": "electron"}
_ECSV_TYPES = {
    pl.Int16: "int16", pl.Int32: "int32", pl.Int64: "int64", pl.Float32: "float32", pl.Float64: "float64",
    pl.String: "string", pl.Boolean: "bool",
}  # fmt: skip


def exports(products: Mapping[str, Any], context: Context, folder: Path) -> list[Path]:
    """Write the constants of a run into its directory.

    Parameters
    ----------
    products : mapping
        Products of the run by name.
    context : Context
        Its channels.
    folder : Path
        The run directory.

    Returns
    -------
    list of Path
        Files that were written; none of a run without calibration.
    """
    from firstlight.detectors.digicam.legacy.fit_files import write_fits
    from firstlight.detectors.digicam.timing import write_shape

    written: list[Path] = []
    if "calibration/pixels" in products:
        table = products["calibration/pixels"]
        frame = table.frame
        meta = {"detector": "digicam", "crosstalk": CONVENTION}
        written += [
            write_text(folder / "calibration.csv", frame.write_csv()),
            write_text(folder / "calibration.ecsv", to_ecsv(table, meta)),
            write_calibration(folder / "calibration.h5", table, context),
        ]
    written += write_fits(products, folder / "original")
    if "template/shape" in products:
        with atomic(folder / "template.txt") as temporary:
            write_shape(products["template/shape"], temporary)
        written.append(folder / "template.txt")
    return written


def to_ecsv(table: Table, meta: Mapping[str, str] | None = None) -> str:
    """Return a table as ECSV 1.0: comma-separated values below a header in YAML, as astropy reads and writes it.

    Values that are not known are empty.

    Parameters
    ----------
    table : Table
        With units and descriptions of its columns.
    meta : mapping of str to str, optional
        What else should stand in the header.
    """
    frame = table.frame
    lines = ["%ECSV 1.0", "---", "datatype:"]
    for column in table.schema.columns:
        if column.name not in frame.columns:
            continue
        kind = _ECSV_TYPES[type(frame.schema[column.name])]
        unit = _ASTROPY_UNITS.get(column.unit, column.unit)
        text = column.description + (f" [{column.unit}]" if unit != column.unit else "")
        parts = [f"name: {column.name}", *([f"unit: {unit}"] if unit else []), f"datatype: {kind}"]
        lines.append(f"- {{{', '.join(parts)}, description: {_quoted(text)}}}")
    lines.append("delimiter: ','")
    if meta:
        lines.append("meta: !!omap")
        lines += [f"- {{{key}: {_quoted(value)}}}" for key, value in meta.items()]
    lines.append("schema: astropy-2.0")
    words = pl.col(pl.Boolean).cast(pl.String).str.to_titlecase()
    head = "".join(f"# {line}\n" for line in lines)
    return head + frame.with_columns(words).write_csv(null_value="")


def _quoted(text: str) -> str:
    """Return a text as a YAML scalar."""
    return "'" + text.replace("'", "''") + "'"


def write_calibration(path: Path, table: Table, context: Context) -> Path:
    """Write the constants of all pixels as HDF5: a dataset for each below ``/pixels``.

    Each dataset has the attributes ``unit`` and ``description``. Beside the columns of the table there are what ctapipe
    needs, ``pedestal`` [LSB] and ``dc_to_pe`` [p.e./LSB], and the places ``x``, ``y`` [mm] of the pixels in the frame of
    the camera software.

    Parameters
    ----------
    path : Path
        The file, written atomically.
    table : Table
        ``calibration/pixels``.
    context : Context
        Places of pixels.
    """
    import h5py

    from firstlight import __version__
    from firstlight.detectors.digicam.options import light_parameters

    frame = table.frame
    gain, crosstalk = (
        frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("gain", "crosstalk")
    )
    baseline = frame["baseline"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(np.isfinite(crosstalk), gain / (1 - crosstalk), gain)
    n_samples = light_parameters(context.options).n_samples
    # a gain of flashes belongs to the charge as it was measured, one of the dark to a sample
    times = np.where(frame["gain_from"].to_numpy() == "gain", n_samples, 1)
    beside = {
        "pedestal": (baseline * times, "LSB", "baseline of all samples of a charge"),
        "charge_per_photoelectron": (mean, "LSB/p.e.", "mean charge of a photo-electron: gain / (1 - crosstalk)"),
        "dc_to_pe": (1 / mean, "p.e./LSB", "photo-electrons = (charge - pedestal) dc_to_pe: 1 / charge_per_photoelectron"),
        "x": (context.channels.column("x"), "mm", "place in the frame of the camera software"),
        "y": (context.channels.column("y"), "mm", "place in the frame of the camera software"),
    }  # fmt: skip
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            {"tool": "firstlight", "version": __version__, "detector": "digicam", "n_pixels": frame.height}
        )
        group = file.create_group("pixels")
        for column in table.schema.columns:
            data = group.create_dataset(column.name, data=_plain(frame[column.name]))
            data.attrs.update({"unit": column.unit, "description": column.description})
        for name, (values, unit, description) in beside.items():
            data = group.create_dataset(name, data=np.asarray(values, dtype=np.float64))
            data.attrs.update({"unit": unit, "description": description})
        for name in ("crosstalk", "crosstalk_error", "crosstalk_probability"):
            group[name].attrs["convention"] = CONVENTION
    return path


def _plain(series: pl.Series) -> Any:
    """Return a column as HDF5 can have it: NaN and -1 where nothing is known."""
    if series.dtype.is_float():
        return series.fill_null(np.nan).to_numpy()
    if series.dtype == pl.String:
        return series.fill_null("").to_list()
    return series.fill_null(False if series.dtype == pl.Boolean else -1).to_numpy()
