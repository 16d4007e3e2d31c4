"""The files of the original scripts under their names, made from the products of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.velo.channels import COLUMNS, ROWS, label_of, masked
from firstlight.detectors.velo.models import equation
from firstlight.detectors.velo.selections import groups
from firstlight.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.steps.step import Context

__all__ = [
    "COLLECTION",
    "Naming",
    "collect",
    "collection_row",
    "exports",
    "naming_of",
    "read_collection",
    "write_flux",
    "write_log",
    "write_matrices",
    "write_matrix",
    "write_parameters",
]

# the 17 columns of the original, which never writes this header and cannot read the file without it
COLLECTION = (
    "Results", "label", "ST", "baseline", "targetmean", "utargetmean", "targetASIC", "utargetASIC",
    "targetASICgood", "utargetASICgood", "Kmean", "Kstd", "uKmean", "KASIC", "uKASIC", "KASICgood", "uKASICgood",
)  # fmt: skip
# what the original does not tell: how many pixels, and the error budget
_MORE = ("pixels", "good", "Kstatistical", "Kbaseline", "Kcommon", "baselinerule")
_KEY = COLLECTION[:4]
_PHYSICAL = ("step", "slope", "width", "position")


@dataclass(frozen=True)
class Naming:
    """What file names are made of.

    Parameters
    ----------
    prefix : str
        ``Module0_VP3-1``.
    shutter : str
        ``2s621ms``.
    label : str
        ``warm``.
    separation : str
        Group of pixels, empty for all.
    before : bool
        Whether the baseline was subtracted before the fit, so that targets stand in the place of positions.
    """

    prefix: str
    shutter: str
    label: str
    separation: str = ""
    before: bool = False

    @property
    def tail(self) -> str:
        """``ST_2s621ms_warm``."""
        return f"ST_{self.shutter}_{self.label}"

    @property
    def baseline(self) -> str:
        """The word in the column ``baseline`` of the collection."""
        return "before" if self.before else "after"


def naming_of(
    products: Mapping[str, Any], context: Context, *, separation: str = "", before: bool = False
) -> Naming:
    """Return what the file names of a run are made of."""
    from pathlib import Path

    from firstlight.detectors.velo.frames import format_shutter

    frames = products["scan/frames"].frame
    shutter = format_shutter(float(frames["shutter_time"].mode().sort()[0]))
    guessed = next((label for name in context.files if (label := label_of(Path(name)))), "")
    label = getattr(context.options, "label", "") or guessed or "scan"
    return Naming(context.channels.name, shutter, label, separation, before)


def write_matrix(path: Path, values: NDArray[Any]) -> Path:
    """Write a matrix of pixels, a row of the chip a line; NaN where there is no value.

    Parameters
    ----------
    path : Path
        CSV file.
    values : ndarray, shape (65536,)
        In the order of channels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = np.asarray(values).reshape(ROWS, COLUMNS)
    frame = pl.DataFrame(matrix, schema=[str(column) for column in range(COLUMNS)], orient="row")
    text = (
        frame.fill_nan(None).write_csv(include_header=False, null_value="nan")
        if matrix.dtype.kind == "f"
        else (frame.write_csv(include_header=False))
    )
    write_text(path, text)
    return path


def _of_group(values: Any, naming: Naming, legacy_rows: bool) -> NDArray[np.float64]:
    """Return values with NaN outside a group of pixels."""
    found = np.array(values, dtype=np.float64)
    if naming.separation:
        found[~groups(legacy_rows)[naming.separation]] = np.nan
    return found


def write_flux(products: Mapping[str, Any], context: Context, folder: Path, naming: Naming) -> list[Path]:
    """Write the flux of every pixel at every threshold, and that of the chip.

    Parameters
    ----------
    products : mapping
        ``scan/counts``, ``scan/points``.
    context : Context
        Its channel map has the mask: masked pixels are NaN, and the chip's flux is a mean over the others.
    folder : Path
        Where to.
    naming : Naming
        Names.

    Returns
    -------
    list of Path
        Two files a threshold, two for the chip.
    """
    cube, points = products["scan/counts"], products["scan/points"].frame
    out = masked(context.channels)
    if naming.separation:
        out = out | ~groups(_legacy_rows(context))[naming.separation]
    head = f"{naming.prefix}_ECS_data_ST_{naming.shutter}_{naming.label}_THR"
    used = max(int((~out).sum()), 1)
    rows, written = [], []
    live_times = points["live_time"].to_numpy()
    thresholds = cube.coordinates["threshold"]
    for counts, threshold, live_time in zip(cube.values, thresholds, live_times, strict=True):
        flat = counts.ravel().astype(np.float64)
        flat[out] = np.nan
        live = live_time if live_time > 0 else np.nan
        written.append(write_matrix(folder / f"Fluxperpixel_{head}_{threshold}.csv", flat / live))
        written.append(
            write_matrix(folder / f"UncertaintyFluxperpixel_{head}_{threshold}.csv", np.sqrt(flat) / live)
        )
        total = np.nansum(flat)
        rows.append((total / live / used, np.sqrt(total) / live / used))
    step = int(np.min(np.diff(thresholds))) if len(thresholds) > 1 else 1
    scan = f"{head}_{thresholds[0]}-{thresholds[-1]}-step{step}.csv"
    for name, column in (("FluxperASIC", 0), ("UncertaintyFluxperASIC", 1)):
        path = folder / f"{name}_{scan}"
        write_text(path, "".join(f"{float(row[column])!r}\n" for row in rows))
        written.append(path)
    return written


def _legacy_rows(context: Context) -> bool:
    return bool(getattr(getattr(context.options, "fit", None), "legacy_rows", False))


def write_parameters(
    products: Mapping[str, Any], context: Context, folder: Path, naming: Naming
) -> list[Path]:
    """Write the matrices of all fitted parameters, of their uncertainties, and of the fit types."""
    table = products["fit/pixels"].frame
    legacy_rows = _legacy_rows(context)
    written = []
    if naming.before:
        # of a fit with the baseline taken off after it: its positions are not those of this fit
        for letter in ("", "u"):
            (folder / f"{letter}E0matrix_{naming.tail}.csv").unlink(missing_ok=True)
    for name, (values, errors) in _parameters(products, context).items():
        if naming.before and name == "E0":
            name = "target"
            values = values - products["baseline/pixels"].array("baseline")
        for letter, content in (("", values), ("u", errors)):
            path = folder / f"{letter}{name}matrix_{naming.tail}.csv"
            written.append(write_matrix(path, _of_group(content, naming, legacy_rows)))
    for name, column in (("Fittypematrix", "fit_type"), ("Fixedfittypematrix", "fixed_fit_type")):
        kinds = table[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        path = folder / f"{name}_{naming.tail}.csv"
        written.append(write_matrix(path, _of_group(kinds, naming, legacy_rows)))
    return written


def _parameters(
    products: Mapping[str, Any], context: Context
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return values and errors of all parameters of a pixel, by their names in files.

    Of a physical equation also ``f`` and ``A`` of the default equation of the original, whose curve is the same but for
    the width: ``C = f A`` and ``N = (1 - f) A / (sqrt(2 pi) s)``.
    """
    table = products["fit/pixels"].frame
    wanted = equation(getattr(getattr(context.options, "fit", None), "model", "physical"))
    columns = {"E0": "position", "s": "width"}
    files = {"position": "E0", "width": "s", "step": "N", "slope": "C"}
    found = {}
    for name in wanted.reported:
        column = columns.get(name, name)
        found[files.get(name, name)] = (table[column].to_numpy(), table[f"{column}_error"].to_numpy())
    if wanted.reported[:4] == _PHYSICAL:
        covariance = products["fit/covariance"].values[:, :4, :4].astype(np.float64)
        # the original's fit has the halves of slope and step, in this order
        change = np.zeros((4, 4))
        change[0, 1] = change[1, 0] = 0.5
        change[2, 2] = change[3, 3] = 1.0
        values = np.stack([found[name][0] for name in ("N", "C", "s", "E0")], axis=1) @ change.T
        known = np.isfinite(covariance).all(axis=(1, 2))
        covariance = np.where(known[:, None, None], change @ np.nan_to_num(covariance) @ change.T, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            reported, errors = equation("legacy").report(values, covariance)
        for index, name in enumerate(("f", "A")):
            found[name] = (reported[:, index], errors[:, index])
    return found


def write_matrices(
    products: Mapping[str, Any], context: Context, folder: Path, naming: Naming, *, curves: bool = True
) -> list[Path]:
    """Write the matrices of target and gain and, with `curves`, the parameters of all and of good pixels together."""
    table = products["calibration/pixels"].frame
    legacy_rows = _legacy_rows(context)
    written = []
    for name, column in (
        ("targetmatrix", "target"), ("utargetmatrix", "target_error"), ("K_matrix", "gain"), ("uK_matrix", ""),
    ):  # fmt: skip
        if column:
            values = table[column].to_numpy()
        else:
            values = np.hypot(table["gain_statistical"].to_numpy(), table["gain_baseline"].to_numpy())
        path = folder / f"{name}_{naming.tail}.csv"
        written.append(write_matrix(path, _of_group(values, naming, legacy_rows)))
    for name, suffix in (("ASIC", ""), ("ASICgood", " good")) if curves else ():
        path = folder / f"{name}_params{naming.label}.csv"
        write_text(path, _curve_text(products, naming, suffix))
        written.append(path)
    return written


def _selection(naming: Naming, suffix: str) -> str:
    return f"{naming.separation or 'all'}{suffix}" if naming.separation else ("good" if suffix else "all")


def _curve_text(products: Mapping[str, Any], naming: Naming, suffix: str) -> str:
    name = _selection(naming, suffix)
    rows = products["fit/selections"].frame.filter(pl.col("selection") == name)
    back = {"position": "E0", "width": "s", "step": "N", "slope": "C"}
    lines = [
        f"{back.get(row['parameter'], row['parameter'])},{_number(row['value'])},{_number(row['uncertainty'])}\n"
        for row in rows.iter_rows(named=True)
    ]
    own = _row_of(products, name)
    kind = "aligned" if naming.before else "asic"
    lines.append(f"target,{_number(own[f'target_{kind}'])},{_number(own[f'target_{kind}_error'])}\n")
    return "".join(lines)


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.9g}"


def _row_of(products: Mapping[str, Any], name: str) -> dict[str, Any]:
    return products["calibration/selections"].frame.row(by_predicate=pl.col("selection") == name, named=True)  # type: ignore[no-any-return]


def write_log(products: Mapping[str, Any], folder: Path, naming: Naming, results: str) -> Path:
    """Write the log file: fit types, gains, and the parameters of the curves."""
    kinds = products["fit/pixels"].frame["fit_type"].drop_nulls()
    total = max(len(kinds), 1)
    lines = ["Fittype,Pixels,Percentage\n"]
    for name, code in (("good", 1), ("bad", 0), ("notfound", -1), ("cut", -2)):
        number = int((kinds == code).sum())
        lines.append(f"{name},{number},{100 * number / total:.4f}\n")
    own = _row_of(products, _selection(naming, " good"))
    lines.append("Kmean,Kstd,uKmean\n")
    lines.append(
        f"{_number(own['gain_mean'])},{_number(own['gain_spread'])},{_number(own['gain_mean_error'])}\n"
    )
    lines += [
        "ASICgood\n",
        _curve_text(products, naming, " good"),
        "ASIC\n",
        _curve_text(products, naming, ""),
    ]
    path = folder / f"log_file_{results}_{naming.label}.csv"
    write_text(path, "".join(lines))
    return path


def collection_row(
    products: Mapping[str, Any], naming: Naming, results: str, *, curves: bool = True
) -> dict[str, Any]:
    """Return the row of the collection of results for one run and one group of pixels."""
    every, good = (_row_of(products, _selection(naming, suffix)) for suffix in ("", " good"))
    kind = "aligned" if naming.before else "asic"
    rules = products["baseline/rules"].frame.filter("used")
    values = (
        f"{results}/{naming.separation}" if naming.separation else results,
        naming.label, naming.shutter, naming.baseline,
        good["target_mean"], good["target_spread"],
        every[f"target_{kind}"], every[f"target_{kind}_error"],
        good[f"target_{kind}"], good[f"target_{kind}_error"],
        good["gain_mean"], good["gain_spread"], good["gain_mean_error"],
        every[f"gain_{kind}"], every[f"gain_{kind}_error"],
        good[f"gain_{kind}"], good[f"gain_{kind}_error"],
        every["n_pixels"], good["n_good"], good["gain_statistical"], good["gain_baseline"], good["gain_common"],
        rules["rule"][0] if rules.height else "",
    )  # fmt: skip
    row = dict(zip((*COLLECTION, *_MORE), values, strict=True))
    return row if curves else {name: None if "ASIC" in name else value for name, value in row.items()}


def collect(path: Path, row: Mapping[str, Any]) -> Path:
    """Put a row into the collection of results in place of the row with the same first four columns.

    Parameters
    ----------
    path : Path
        ``results_collection.csv``, made where it is not there; a file of the original, without a header, is read
        as well.
    row : mapping
        From `collection_row`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    old = read_collection(path) if path.is_file() else []
    key = [str(row[name]) for name in _KEY]
    kept = [entry for entry in old if [entry.get(name, "") for name in _KEY] != key]
    rows = [*kept, {name: _word(value) for name, value in row.items()}]
    lines = [",".join((*COLLECTION, *_MORE))]
    lines += [",".join(entry.get(name, "") for name in (*COLLECTION, *_MORE)) for entry in rows]
    return write_text(path, "\n".join(lines) + "\n")


def _word(value: Any) -> str:
    if value is None:
        return "nan"
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def read_collection(path: Path) -> list[dict[str, str]]:
    """Return the rows of a collection of results, as text by column.

    Raises
    ------
    InputError
        If a row has fewer columns than the original writes.
    """
    import csv

    from firstlight.errors import InputError

    with path.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream) if row]
    header = list(COLLECTION)
    if rows and rows[0][0] == COLLECTION[0]:
        header = rows.pop(0)
    found = []
    for number, row in enumerate(rows, start=1):
        if len(row) < len(COLLECTION):
            what = f"row {number} has {len(row)} columns, a collection of results has {len(COLLECTION)}"
            raise InputError(what, where=path)
        found.append(dict(zip(header, row, strict=False)))
    return found


def exports(products: Mapping[str, Any], context: Context, folder: Path) -> list[Path]:
    """Write matrices, log and the collection of results of a run into its directory.

    Flux files are not among them: 400 MB a scan, and all that is in them is in ``scan/counts``. The command
    ``analysis flux`` writes them.
    """
    if "calibration/selections" not in products:
        return []
    naming = naming_of(products, context)
    place = folder / "matrices"
    written = write_parameters(products, context, place, naming)
    written += write_matrices(products, context, place, naming)
    written.append(write_log(products, place, naming, folder.name))
    path = folder / "results_collection.csv"
    path.unlink(missing_ok=True)
    return [*written, collect(path, collection_row(products, naming, folder.name))]
