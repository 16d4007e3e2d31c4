"""Equalisation: files with mask, trims and noise means of a chip, and the baselines that follow from them.

The files are those of the original equalisation, and stand in the folder of the frames. The baseline of a pixel is
its noise mean at the chosen trim: measured, or predicted by a rule of `trims`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.velo.channels import COLUMNS as SIDE
from firstlight.detectors.velo.channels import N_PIXELS
from firstlight.detectors.velo.options import BASELINES
from firstlight.detectors.velo.trims import (
    LAST_TRIM,
    MASK_CODES,
    RULES,
    Trims,
    compute_trims,
    predict,
    trim_law,
)
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "ABOUT",
    "FILES",
    "MASK_CODES",
    "RULES",
    "Baseline",
    "Equalisation",
    "RuleBias",
    "Trims",
    "available",
    "baseline_by",
    "bias_of",
    "choose",
    "compare_rules",
    "compute_trims",
    "digest_of",
    "predict",
    "prefixes_in",
    "read_equalisation",
    "read_matrix",
    "trim_law",
    "uncut",
    "write_equalisation",
    "write_matrix",
]

FILES = {
    "mask": "Matrix_Mask",
    "trim": "Matrix_Trim",
    "trim0_mean": "Trim0_Noise_Mean",
    "trimF_mean": "TrimF_Noise_Mean",
    "trim0_width": "Trim0_Noise_Width",
    "control_mean": "Control_Noise_Mean",
    "predicted_mean": "TrimBest_Noise_Predict",
}
"""End of the file name of each field of an `Equalisation`."""

ABOUT = {name: BASELINES[name] for name in ("control", "cubic", "linear15", "predicted", "legacy16")}
"""What each baseline is, in the order in which ``"auto"`` prefers them."""

REPEATABILITY = 0.4
"""Error of a measured noise mean [DAC]: 0.3 to 0.5 DAC between repeated scans."""
_CUT = 0.5  # the original cuts noise means to whole numbers
_CUT_ERROR = 1.0 / np.sqrt(12.0)
# Real Timepix chips with the same trim: a pixel strays by 2 % of the range from the straight line of 15 steps (1.0
# to 1.4 of 53 to 57 THL), the mean of a chip by up to 0.5 %.
_PIXEL_SPREAD, _CHIP_SPREAD = 0.02, 0.005
_UNKNOWN_RULE = 10.0  # cubic law above the line of 16 steps at trim 8 [DAC]


@dataclass(frozen=True)
class Equalisation:
    """What the equalisation files of one chip say of each pixel.

    Parameters
    ----------
    prefix : str
        Module and chip: ``"Module0_VP3-1"``.
    mask : ndarray of int8, shape (65536,), or None
        Codes as in `MASK_CODES`; channel = 256 row + column. None where the file is absent, as below.
    trim : ndarray of int8, shape (65536,), or None
        Trims 0 to 15; 0 where masked.
    trim0_mean, trimF_mean : ndarray of float64, shape (65536,), or None
        Noise mean at trim 0 and at trim 15 [DAC]; NaN without response, as below.
    trim0_width : ndarray of float64, shape (65536,), or None
        Width of the noise at trim 0 [DAC].
    control_mean : ndarray of float64, shape (65536,), or None
        Noise mean measured at the chosen trims [DAC].
    predicted_mean : ndarray of float64, shape (65536,), or None
        Noise mean predicted for the chosen trims [DAC].
    notes : tuple of str
        What is missing.
    """

    prefix: str
    mask: NDArray[np.int8] | None = None
    trim: NDArray[np.int8] | None = None
    trim0_mean: Floats | None = None
    trimF_mean: Floats | None = None
    trim0_width: Floats | None = None
    control_mean: Floats | None = None
    predicted_mean: Floats | None = None
    notes: tuple[str, ...] = ()

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Which pixels are masked, of shape (65536,); none where there is no mask."""
        return np.zeros(N_PIXELS, dtype=np.bool_) if self.mask is None else self.mask > 0

    def __repr__(self) -> str:
        there = [name for name in FILES if getattr(self, name) is not None]
        return (
            f"Equalisation({self.prefix!r}, {', '.join(there) or 'nothing'}, {int(self.masked.sum())} masked)"
        )


def read_matrix(path: Path | str, *, codes: int | None = None) -> Floats:
    """Read a file of 256 lines of 256 numbers with commas between them.

    Blanks, ``nan``, ``-nan``, a comma at the end of a line and the line ends of any system are understood.

    Parameters
    ----------
    path : Path or str
        The file.
    codes : int, optional
        All values must be whole numbers from 0 to this one.

    Returns
    -------
    ndarray of float64, shape (65536,)
        Row by row.

    Raises
    ------
    InputError
        With line and column, counted from 1, where there is no number, or there are too few or too many.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not a text file'}"
        raise InputError(what, where=path) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    fields: list[str] = []
    for number, line in lines[: SIDE + 1]:
        parts = line.rstrip().rstrip(",").split(",")
        if len(parts) != SIDE:
            what = f"line {number} has {len(parts)} columns, must have {SIDE}"
            raise InputError(
                what, where=path, hint="256 numbers with commas between them in each of 256 lines"
            )
        fields += parts
    if len(lines) != SIDE:
        what = f"has {len(lines)} lines, must have {SIDE}"
        raise InputError(what, where=path, hint="one line for each row of pixels")
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        index = next(index for index, field in enumerate(fields) if not _is_number(field))
        raise _at(path, lines, index, f"{fields[index].strip()!r} is not a number") from None
    wrong = np.isinf(values) | (values < 0)
    if codes is not None:
        wrong |= ~(values <= codes) | (values != np.floor(values))
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        allowed = "a number from 0 on" if codes is None else f"a whole number from 0 to {codes}"
        raise _at(path, lines, index, f"{fields[index].strip()} is not {allowed}")
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _at(path: Path, lines: list[tuple[int, str]], index: int, what: str) -> InputError:
    return InputError(f"line {lines[index // SIDE][0]}, column {index % SIDE + 1}: {what}", where=path)


def write_matrix(path: Path, values: NDArray[Any], *, form: str, separator: str) -> Path:
    """Write 65,536 numbers as 256 lines, as the C programs of the original print them.

    Parameters
    ----------
    path : Path
        The file, written atomically.
    values : ndarray, shape (65536,)
        Row by row.
    form : str
        Of printf: ``"%04d"``, ``"%05.2f"``.
    separator : str
        Between numbers of a line.
    """
    from firstlight.files import atomic

    items = values.tolist()
    if values.dtype.kind == "f":
        width = len(form % 0)
        # printf fills up nan with blanks, not with zeros
        texts = ["nan".rjust(width) if math.isnan(item) else form % item for item in items]
    else:
        texts = [form % item for item in items]
    lines = (separator.join(texts[start : start + SIDE]) for start in range(0, N_PIXELS, SIDE))
    with atomic(path) as temporary:
        temporary.write_bytes(("\n".join(lines) + "\n").encode("ascii"))
    return path


def prefixes_in(folder: Path | str) -> list[str]:
    """Return the prefixes of equalisation files in a folder, sorted."""
    folder = Path(folder)
    found = {
        path.name.removesuffix(f"_{end}.csv")
        for end in FILES.values()
        for path in folder.glob(f"*_{end}.csv")
    }
    return sorted(found)


def digest_of(folder: Path | str, prefix: str) -> str:
    """Return a digest of the contents of all equalisation files of a chip; empty where there are none."""
    digest = hashlib.sha256()
    n_files = 0
    for end in FILES.values():
        path = Path(folder) / f"{prefix}_{end}.csv"
        if path.is_file():
            digest.update(f"{end} {path.stat().st_size}\n".encode())
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
                raise InputError(what, where=path) from error
            n_files += 1
    return digest.hexdigest()[:24] if n_files else ""


def read_equalisation(folder: Path | str, prefix: str) -> Equalisation:
    """Read the equalisation files of a chip.

    Parameters
    ----------
    folder : Path or str
        Where they are.
    prefix : str
        Module and chip, with which their names begin.

    Returns
    -------
    Equalisation
        With None for each file that is absent, and notes on what that means.

    Raises
    ------
    InputError
        If the folder does not exist, or a file is not 256 lines of 256 numbers: says file, line and column.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder"
        raise InputError(what, where=folder)
    found: dict[str, Any] = {}
    for name, end in FILES.items():
        path = folder / f"{prefix}_{end}.csv"
        if not path.is_file():
            continue
        if name in ("mask", "trim"):
            found[name] = read_matrix(path, codes=LAST_TRIM if name == "trim" else 127).astype(np.int8)
        else:
            values = read_matrix(path)
            values[values == 0] = np.nan
            found[name] = values
    return Equalisation(prefix, **found, notes=tuple(_notes(folder, prefix, found)))


def _notes(folder: Path, prefix: str, found: dict[str, Any]) -> list[str]:
    if not found:
        others = prefixes_in(folder)
        there = f"; there are some of {', '.join(others)}" if others else ""
        return [f"no equalisation files of {prefix}{there}: no pixel is masked, and there is no baseline"]
    notes = []
    if "mask" not in found:
        notes.append(f"{prefix}_{FILES['mask']}.csv is missing: no pixel is masked")
    if not available(Equalisation(prefix, **found)):
        notes.append("none of the files gives a baseline")
    return notes


def write_equalisation(
    folder: Path | str, equalisation: Equalisation, *, test_pulse: bool = True
) -> list[Path]:
    """Write the equalisation files of a chip, each whole or not at all.

    Noise means that are whole numbers are written with four digits, as the original does, others with two decimals.

    Parameters
    ----------
    folder : Path or str
        Where to.
    equalisation : Equalisation
        Fields that are None are left out.
    test_pulse : bool
        Write the test-pulse pattern too: that of the original, the first pixel of the last row alone.

    Returns
    -------
    list of Path
        The files.
    """
    folder = Path(folder)
    paths = []
    for name, end in FILES.items():
        values = getattr(equalisation, name)
        if values is None:
            continue
        path = folder / f"{equalisation.prefix}_{end}.csv"
        if values.dtype.kind == "i":
            paths.append(write_matrix(path, values, form="%d", separator=","))
        elif name == "trim0_width":
            paths.append(write_matrix(path, values, form="%05.2f", separator=", "))
        else:
            filled = np.nan_to_num(values)
            form = "%04d" if _whole(values) else "%07.2f"
            paths.append(write_matrix(path, filled, form=form, separator=", "))
    if test_pulse:
        pattern = np.zeros(N_PIXELS, dtype=np.int8)
        pattern[N_PIXELS - SIDE] = 1
        path = folder / f"{equalisation.prefix}_Matrix_TP.csv"
        paths.append(write_matrix(path, pattern, form="%d", separator=","))
    return paths


def _whole(values: Floats) -> bool:
    """Return whether all known values are whole numbers."""
    known = values[np.isfinite(values)]
    return bool((known == np.floor(known)).all())


@dataclass(frozen=True)
class Baseline:
    """Where the noise of each pixel is, at its trim.

    Parameters
    ----------
    name : str
        A key of `ABOUT`, or the name of a file.
    value : ndarray of float64, shape (65536,)
        Baseline [DAC]; NaN where it is not known.
    error : ndarray of float64, shape (65536,)
        Error of each pixel for itself [DAC].
    common_error : float
        Error that all pixels share [DAC]: it does not shrink with their number.
    source : str
        What it is, and where its errors come from.
    """

    name: str
    value: Floats
    error: Floats
    common_error: float
    source: str


@dataclass(frozen=True)
class RuleBias:
    """How a baseline differs from the control scan.

    Parameters
    ----------
    rule : str
        A key of `ABOUT`.
    n_pixels : int
        Pixels that are not masked and have both.
    bias, spread, median : float
        Mean, standard deviation and median of baseline minus control [DAC].
    """

    rule: str
    n_pixels: int
    bias: float
    spread: float
    median: float


def available(equalisation: Equalisation) -> tuple[str, ...]:
    """Return which baselines the files of an equalisation give, the preferred one first."""
    by_rule = all(getattr(equalisation, name) is not None for name in ("trim0_mean", "trimF_mean", "trim"))
    there = {
        "control": equalisation.control_mean is not None,
        "predicted": equalisation.predicted_mean is not None,
    }
    return tuple(name for name in ABOUT if there.get(name, by_rule))


def uncut(values: Floats) -> Floats:
    """Return noise means with half a DAC added where all are whole numbers: the original cuts, and does not round.

    Parameters
    ----------
    values : ndarray, shape (65536,)
        Noise means [DAC].
    """
    return values + _CUT if _whole(values) else values


def baseline_by(equalisation: Equalisation, name: str) -> Floats:
    """Return one of the baselines.

    The original cuts noise means to whole numbers. Where a file holds whole numbers only, half a DAC is added to
    what was measured; ``"predicted"`` and ``"legacy16"`` are left as the original has them.

    Parameters
    ----------
    equalisation : Equalisation
        The files.
    name : str
        One of those that are `available`.

    Returns
    -------
    ndarray of float64, shape (65536,)
        Baseline [DAC]; NaN where it is not known. Masked pixels are not taken out.

    Raises
    ------
    InputError
        If the files that it needs are absent.
    UsageError
        If there is no such baseline.
    """
    if name not in ABOUT:
        raise UsageError.unknown("baseline", name, ABOUT)
    low, high, trim = equalisation.trim0_mean, equalisation.trimF_mean, equalisation.trim
    if name == "control" and equalisation.control_mean is not None:
        return uncut(equalisation.control_mean)
    if name == "predicted" and equalisation.predicted_mean is not None:
        return equalisation.predicted_mean
    if name in RULES and low is not None and high is not None and trim is not None:
        if name == "legacy16":
            return predict(low, high, trim, name, whole=True)
        return predict(uncut(low), uncut(high), trim, name)
    needs = {"control": ("control_mean",), "predicted": ("predicted_mean",)}
    absent = [
        f for f in needs.get(name, ("trim0_mean", "trimF_mean", "trim")) if getattr(equalisation, f) is None
    ]
    what = f"the baseline {name!r} needs {', '.join(f'{equalisation.prefix}_{FILES[field]}.csv' for field in absent)}"
    raise InputError(what, where=equalisation.prefix, known=list(available(equalisation)))


def compare_rules(equalisation: Equalisation, names: Iterable[str] | None = None) -> tuple[RuleBias, ...]:
    """Return by how much baselines differ from the control scan; nothing where there is no control scan.

    Parameters
    ----------
    equalisation : Equalisation
        The files.
    names : iterable of str, optional
        Which; all that are there by default.
    """
    if equalisation.control_mean is None:
        return ()
    control = baseline_by(equalisation, "control")
    wanted = [name for name in (available(equalisation) if names is None else names) if name != "control"]
    found = [bias_of(name, baseline_by(equalisation, name), control, equalisation.masked) for name in wanted]
    return tuple(bias for bias in found if bias.n_pixels)


def bias_of(name: str, value: Floats, control: Floats, masked: NDArray[np.bool_]) -> RuleBias:
    """Return by how much a baseline differs from the control scan [DAC], over pixels that have both."""
    difference = (value - control)[np.isfinite(value) & np.isfinite(control) & ~masked]
    if not difference.size:
        return RuleBias(name, 0, float("nan"), float("nan"), float("nan"))
    return RuleBias(
        name, difference.size, float(difference.mean()), float(difference.std()), float(np.median(difference))
    )


def choose(equalisation: Equalisation, choice: str = "auto") -> Baseline:
    """Return a baseline with its errors.

    A measured mean repeats to 0.3 to 0.5 DAC. Of any other baseline, the spread and the mean of its difference to
    the control scan are taken as error of a pixel and common error. Without a control scan they are those of real
    Timepix chips, whose pixels stray by 2 % of the trim range from their rule and whose means by 0.5 %, and the
    common error has the mean difference to the cubic law besides.

    Parameters
    ----------
    equalisation : Equalisation
        The files.
    choice : str
        A key of `ABOUT`; ``"auto"`` for the first of them that is there; or the path of a file of 256 x 256
        numbers [DAC], 0 or nan where there is none.

    Raises
    ------
    InputError
        If the files that it needs are absent, or a file cannot be read.
    UsageError
        If the choice is neither a baseline nor a file.
    """
    if choice == "auto":
        there = available(equalisation)
        if not there:
            what = "no file gives a baseline"
            raise InputError(
                what,
                where=equalisation.prefix,
                known=[f"{equalisation.prefix}_{end}.csv" for end in FILES.values()],
                hint="put the equalisation files beside the frames, or name a file of baselines",
            )
        choice = there[0]
    if choice in ABOUT:
        name, value = choice, baseline_by(equalisation, choice)
    elif Path(choice).is_file():
        name, value = Path(choice).name, read_matrix(choice)
        value[value == 0] = np.nan
    elif "/" in choice or "\\" in choice or "." in choice:
        what = "the file of baselines does not exist"
        raise InputError(what, where=choice)
    else:
        raise UsageError.unknown("baseline", choice, ["auto", *ABOUT])
    return _with_errors(equalisation, name, value)


def _with_errors(equalisation: Equalisation, name: str, value: Floats) -> Baseline:
    about = ABOUT.get(name, f"read from the file {name}")
    measured = np.hypot(REPEATABILITY, _CUT_ERROR) if _whole(value) else REPEATABILITY
    if name in ("control", "cubic", "linear15"):
        source = equalisation.control_mean if name == "control" else equalisation.trim0_mean
        cut = source is not None and _whole(source)
        about += "; 0.5 DAC added, as the file was cut to whole numbers" if cut else ""
        measured = np.hypot(REPEATABILITY, _CUT_ERROR) if cut else REPEATABILITY

    def made(error: Any, common: float, how: str) -> Baseline:
        errors = np.where(np.isfinite(value), error, np.nan)
        return Baseline(name, value, errors, float(common), f"{about}; errors: {how}")

    if name == "control":
        return made(measured, 0.0, "repeatability of noise scans")
    if equalisation.control_mean is not None:
        bias = bias_of(name, value, baseline_by(equalisation, "control"), equalisation.masked)
        if bias.n_pixels:
            how = (
                f"difference to the control scan, {bias.bias:+.2f} DAC with a spread of {bias.spread:.2f} DAC"
            )
            return made(bias.spread, abs(bias.bias), how)
    if name not in ABOUT:
        return made(measured, 0.0, "repeatability of noise scans is assumed, as nothing is known of the file")
    if not all(rule in available(equalisation) for rule in RULES):
        return made(measured, _UNKNOWN_RULE, "it is not known by which rule the file was made")
    low, high = equalisation.trim0_mean, equalisation.trimF_mean
    distance = np.zeros(N_PIXELS) if low is None or high is None else np.abs(high - low)
    there = np.isfinite(distance) & ~equalisation.masked
    off = bias_of(name, value, baseline_by(equalisation, "cubic"), equalisation.masked).bias
    common = np.hypot(_CHIP_SPREAD * float(distance[there].mean()), off) if there.any() else _UNKNOWN_RULE
    return made(
        np.hypot(measured, _PIXEL_SPREAD * distance),
        common,
        "spread of real trims, and difference to the cubic law",
    )
