"""Noise scans: hits of each pixel without a source, at thresholds that go down through its noise.

The mean of the noise is the baseline of a pixel. Moments are those of the original equalisation, with its
rounding; the fit knows that a counter stops at 63, and that a scan may end in the middle of the noise.
"""

from __future__ import annotations

import lzma
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detectors.velo.channels import COLUMNS, N_PIXELS, ROWS
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = [
    "FITS",
    "FIT_STATUS",
    "GROUPS",
    "POINT_BYTES",
    "Moments",
    "NoiseName",
    "NoiseScan",
    "decode",
    "fit_noise",
    "moments",
    "parse_name",
    "warm_up",
    "width_groups",
]

SHAPE = (ROWS, COLUMNS)
TOP = 63
POINT_BYTES = 256 * 192
"""Size of one threshold of a raw scan."""

_NAME = re.compile(
    r"(?P<stem>.+)_(?P<first>\d+)_(?P<step>\d+)_(?P<points>\d+)"
    r"(?:_(?:(?P<part>\d+)of(?P<parts>\d+)|(?P<label>[^_]+)))?\.dat(?P<packed>\.xz)?"
)
_CHIP = re.compile(r"Module\d+_VP\d+-\d+")
_PATTERN = (
    "Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_1of1.dat: first threshold, step down, points, part of parts"
)
# Widths that a mean must lie inside the scan. Closer to its end, where only one flank is seen, those fits come through
# that were lucky: they are off by one to four of their errors on average.
_INSIDE = 0.75
_BLOCK = 4096  # pixels in a task of a thread

FIT_STATUS = ("ok", "mean at the edge of the scan", "not constrained", "no convergence", "no hits")
"""What can become of the fit of a pixel."""

FITS = TableSchema(
    "pixels",
    (
        Column("channel", pl.Int32, "pixel", minimum=0, maximum=N_PIXELS - 1),
        Column("row", pl.Int16, "row", minimum=0, maximum=255),
        Column("column", pl.Int16, "column", minimum=0, maximum=255),
        Column("hits", pl.Int64, "hits at all thresholds", minimum=0),
        Column("n_saturated", pl.Int16, "thresholds at which the counter stopped", minimum=0),
        Column("truncated_low", pl.Boolean, "still counting at the lowest threshold"),
        Column("truncated_high", pl.Boolean, "counting at the highest threshold already"),
        Column("moment_mean", pl.Float64, "hit-weighted mean threshold", "DAC", nullable=True),
        Column("moment_width", pl.Float64, "hit-weighted standard deviation", "DAC", nullable=True),
        Column(
            "amplitude",
            pl.Float64,
            "expected hits at the mean, had the counter not stopped",
            "",
            nullable=True,
        ),
        Column("amplitude_error", pl.Float64, "its statistical error", "", nullable=True),
        Column("mean", pl.Float64, "mean of the noise", "DAC", nullable=True),
        Column("mean_error", pl.Float64, "its statistical error", "DAC", nullable=True),
        Column("width", pl.Float64, "standard deviation of the noise", "DAC", nullable=True),
        Column("width_error", pl.Float64, "its statistical error", "DAC", nullable=True),
        Column("mean_width_covariance", pl.Float64, "covariance of mean and width", "DAC^2", nullable=True),
        Column("points", pl.Int16, "thresholds that were used", minimum=0),
        Column("hits_outside", pl.Int32, "hits at thresholds that were not used", minimum=0),
        Column("deviance", pl.Float64, "twice the likelihood ratio to a perfect fit", "", nullable=True),
        Column("ndf", pl.Float64, "degrees of freedom that the deviance is worth", "", nullable=True),
        Column("p_value", pl.Float64, "probability of a worse fit", "", nullable=True),
        Column("status", pl.String, "ok, or why there is no mean"),
    ),
    "one pixel of a noise scan",
)

GROUPS = TableSchema(
    "groups",
    (
        Column("group", pl.String, "pixels that are averaged"),
        Column("n_pixels", pl.Int32, "pixels whose width is known to a tenth", minimum=0),
        Column("width", pl.Float64, "mean fitted width", "DAC", nullable=True),
        Column("width_spread", pl.Float64, "standard deviation between pixels", "DAC", nullable=True),
        Column("width_error", pl.Float64, "error of the mean", "DAC", nullable=True),
        Column(
            "moment_width",
            pl.Float64,
            "mean hit-weighted width, without truncated pixels",
            "DAC",
            nullable=True,
        ),
    ),
    "one group of pixels",
)


@dataclass(frozen=True)
class NoiseName:
    """What the name of a noise-scan file says.

    Parameters
    ----------
    stem : str
        All before the first threshold.
    chip : str
        Module and chip, ``"Module1_VP0-0"``; empty where the name has none.
    trim : str
        Which trim, ``"Trim0"``; the last word of the stem.
    first, step, points : int
        First threshold [DAC], step downwards [DAC], number of thresholds.
    part, parts : int
        Which part of how many: pixels may be scanned in several masks.
    label : str
        A word in the place of the part.
    """

    stem: str
    chip: str
    trim: str
    first: int
    step: int
    points: int
    part: int
    parts: int
    label: str

    @property
    def thresholds(self) -> NDArray[np.int64]:
        """Thresholds [DAC] in the order of the file, of shape (points,)."""
        return self.first - self.step * np.arange(self.points)

    @property
    def short(self) -> str:
        """Name of the products, as the original has it: chip and trim."""
        words = [self.chip, self.trim] if self.chip and self.trim else [self.stem, *self._numbers]
        return "_".join([*words, self.label] if self.label else words)

    @property
    def full(self) -> str:
        """Name of the scan without its part."""
        return "_".join([self.stem, *self._numbers, *([self.label] if self.label else [])])

    @property
    def _numbers(self) -> tuple[str, ...]:
        return str(self.first), str(self.step), str(self.points)

    def part_names(self, part: int) -> tuple[str, str]:
        """Return the names that a part may have, plain and compressed."""
        name = "_".join([self.stem, *self._numbers, f"{part}of{self.parts}"]) + ".dat"
        return name, name + ".xz"


@dataclass(frozen=True)
class NoiseScan:
    """A decoded noise scan.

    Parameters
    ----------
    name : NoiseName
        What the file name says.
    thresholds : ndarray of int64, shape (n_points,)
        In the order of the scan, downwards [DAC].
    counts : ndarray of uint8, shape (n_points, 256, 256)
        Hits at each threshold, row and column; 63 stands for 63 or more.
    files : tuple of str
        What was read.
    notes : tuple of str
        What is worth knowing.
    """

    name: NoiseName
    thresholds: NDArray[np.int64]
    counts: NDArray[np.uint8]
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Number of hits."""
        return int(self.counts.sum(dtype=np.int64))

    @property
    def n_silent(self) -> int:
        """Number of pixels without any hit."""
        return int((~self.counts.any(axis=0)).sum())

    @property
    def n_saturated(self) -> int:
        """Number of readings at which a counter had stopped."""
        return int((self.counts >= TOP).sum())

    def __repr__(self) -> str:
        span = f"{self.thresholds[0]} to {self.thresholds[-1]} DAC"
        return f"NoiseScan({self.name.short}, {self.thresholds.size} thresholds {span}, {self.total:,} hits)"


@dataclass(frozen=True)
class Moments:
    """Hit-weighted mean and width of each pixel.

    Parameters
    ----------
    hits : ndarray of int64, shape (65536,)
        Hits at all thresholds.
    mean, width : ndarray of float64, shape (65536,)
        Mean and standard deviation [DAC], with ``n - 1``; NaN without hits, the width also with one.
    whole_mean : ndarray of int64, shape (65536,)
        The mean as the original has it: cut to a whole number, 0 without hits. On average 0.5 DAC low.
    whole_width : ndarray of float64, shape (65536,)
        The width as the original has it: about the cut mean, 0 without hits, NaN with one.
    truncated_low, truncated_high : ndarray of bool, shape (65536,)
        Hits at the lowest or the highest threshold: a part of the noise lies outside, the mean is drawn inwards.
    """

    hits: NDArray[np.int64]
    mean: NDArray[np.float64]
    width: NDArray[np.float64]
    whole_mean: NDArray[np.int64]
    whole_width: NDArray[np.float64]
    truncated_low: NDArray[np.bool_]
    truncated_high: NDArray[np.bool_]

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Truncated at either end, of shape (65536,)."""
        return self.truncated_low | self.truncated_high


def parse_name(name: str) -> NoiseName:
    """Return what the name of a noise-scan file says.

    Parameters
    ----------
    name : str
        File name without folder.

    Raises
    ------
    InputError
        If first threshold, step and number of points cannot be read from it, or make no sense.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        what = "the name does not say which thresholds the file holds"
        raise InputError(what, where=name, known=[_PATTERN], hint="rename the file to this pattern")
    first, step, points = (int(found[key]) for key in ("first", "step", "points"))
    part, parts = (int(found[key] or 1) for key in ("part", "parts"))
    what = ""
    if step < 1 or points < 3:
        what = f"the name says {points} thresholds in steps of {step}; at least 3 in steps of 1 make a scan"
    elif first - step * (points - 1) < 0:
        what = f"the name says {points} thresholds from {first} down in steps of {step}: the last is below 0"
    elif not 1 <= part <= parts:
        what = f"the name says part {part} of {parts}"
    if what:
        raise InputError(what, where=name, known=[_PATTERN])
    stem = found["stem"]
    chip = _CHIP.search(stem)
    last = stem.rsplit("_", 1)[-1]
    trim = "" if last.lower() == "scan" or _CHIP.fullmatch(stem) else last
    return NoiseName(
        stem, chip[0] if chip else "", trim, first, step, points, part, parts, found["label"] or ""
    )


def decode(path: Path | str) -> NoiseScan:
    """Read a raw noise scan, all its parts together.

    Each threshold is 256 columns of 192 bytes; three bytes hold the counters of four rows, the most significant
    bits first, as states of a shift register.

    Parameters
    ----------
    path : Path or str
        A file ``*.dat`` or ``*.dat.xz``, or one part of a scan; the other parts stand in the same folder.

    Returns
    -------
    NoiseScan
        With the counts of all parts added.

    Raises
    ------
    InputError
        If the name does not say which thresholds there are, a part is missing, or a file does not have the size
        that its name promises: says how many thresholds are complete.
    """
    from firstlight.detectors.velo.noise_kernels import counter_table, unpack

    path = Path(path)
    try:
        name = parse_name(path.name)
    except InputError as error:
        raise InputError(error.what, where=path, known=error.known, hint=error.hint) from error
    paths = _parts(path, name)
    table = counter_table()
    counts: NDArray[np.uint8] | None = None
    shared = np.zeros(SHAPE, dtype=np.int64)
    for one in paths:
        raw = np.frombuffer(_content(one, name), dtype=np.uint8)
        part = np.empty((name.points, *SHAPE), dtype=np.uint8)
        unpack(raw, table, part)
        shared += part.any(axis=0)
        counts = part if counts is None else np.minimum(counts + part, TOP)
    if counts is None:
        what = "no part of the scan was found"
        raise InputError(what, where=path)
    notes = []
    several = int((shared > 1).sum())
    if several:
        notes.append(f"{several:,} pixels have hits in more than one part; their readings were added")
    return NoiseScan(name, name.thresholds, counts, tuple(one.name for one in paths), tuple(notes))


def _parts(path: Path, name: NoiseName) -> list[Path]:
    if not path.is_file():
        beside = sorted(other.name for other in path.parent.glob("*.dat*")) if path.parent.is_dir() else []
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(what, where=path, known=beside or None)
    if name.parts == 1:
        return [path]
    found, missing = [], []
    for part in range(1, name.parts + 1):
        places = [path] if part == name.part else [path.with_name(other) for other in name.part_names(part)]
        there = [place for place in places if place.is_file()]
        found += there[:1]
        missing += [] if there else [places[0].name]
    if missing:
        what = f"{len(missing)} of {name.parts} parts of the scan are missing: {', '.join(missing)}"
        raise InputError(
            what,
            where=path.parent,
            known=[part.name for part in found],
            hint="each part holds other pixels: put all of them in one folder",
        )
    return found


def _content(path: Path, name: NoiseName) -> bytes:
    """Return the bytes of a file, which must be as many as its name promises."""
    expected = name.points * POINT_BYTES
    content = bytearray()
    ends = ""
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as stream:
            # one byte too many is enough to know that there are more
            while len(content) <= expected and (
                more := stream.read(min(1 << 20, expected + 1 - len(content)))
            ):
                content += more
    except EOFError:
        ends = "the compressed file ends early: "
    except lzma.LZMAError as error:
        what = f"cannot be unpacked: {error}"
        raise InputError(
            what, where=path, hint="copy it again; a file that is not compressed ends in .dat"
        ) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(what, where=path) from error
    if len(content) == expected:
        return bytes(content)
    promised = f"the name promises {name.points} thresholds, {expected:,} bytes"
    if len(content) > expected:
        size = "more" if path.suffix == ".xz" else f"{path.stat().st_size:,}"
        what = f"{promised}, and there are {size}"
        raise InputError(what, where=path, hint="correct the numbers in the name")
    whole = len(content) // POINT_BYTES
    which = (
        f"{whole} are complete, {name.first} to {name.first - name.step * (whole - 1)} DAC"
        if whole
        else "none is complete"
    )
    what = f"{ends}{promised}, and there are {len(content):,}: {which}"
    hint = "copy the file again"
    if whole >= 3 and not ends:
        hint += f", or cut a copy to {whole * POINT_BYTES} bytes and write {whole} thresholds into its name"
    raise InputError(what, where=path, hint=hint)


def moments(scan: NoiseScan) -> Moments:
    """Return hit-weighted mean and width of each pixel, exact and as the original rounds them.

    Parameters
    ----------
    scan : NoiseScan
        The scan.
    """
    from firstlight.detectors.velo.noise_kernels import pixel_moments

    origin = int(scan.thresholds[scan.thresholds.size // 2])
    sums = np.zeros((3, N_PIXELS))
    flat = scan.counts.reshape(scan.thresholds.size, N_PIXELS)
    pixel_moments(flat, (scan.thresholds - origin).astype(np.float64), sums)
    hits = sums[0].astype(np.int64)
    some = hits > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = sums[1] / sums[0]
        mean = origin + relative
        width = np.sqrt(np.maximum(sums[2] - relative * sums[1], 0.0) / (hits - 1))
        whole = np.where(some, np.floor(np.where(some, mean, 0.0)), 0.0)
        # sums of whole numbers, exact: a mean that is a whole number is not cut to the one below
        whole = np.where(some, (sums[1] + origin * sums[0]) // np.maximum(sums[0], 1.0), whole)
        shift = whole - origin
        about = sums[2] - 2 * shift * sums[1] + shift * shift * sums[0]
        whole_width = np.where(some, np.sqrt(about / (hits - 1)), 0.0)
    width[hits < 2] = np.nan
    whole_width[hits == 1] = np.nan
    return Moments(hits, mean, width, whole.astype(np.int64), whole_width, flat[-1] > 0, flat[0] > 0)


def fit_noise(scan: NoiseScan, *, window: float = 3.5, threads: int | None = None) -> Table:
    """Fit the noise of each pixel with a Gaussian rate, counts being Poisson below 63 and "63 or more" at 63.

    Maximum likelihood, with the first-order bias of mean and width taken off, errors from the expected
    information. The p-value is that of the deviance, whose expectation and variance are known exactly for each
    reading; three parameters cost 3 of the one and 6 of the other.

    Parameters
    ----------
    scan : NoiseScan
        The scan.
    window : float
        Readings further from the mean than so many widths are not used: real noise has tails, and a single stray
        hit six widths away would move the width by its error. Infinite for all.
    threads : int, optional
        Threads; all processors by default. The result does not depend on it.

    Returns
    -------
    Table
        A row for each pixel, `FITS`. Values are null where the status is neither ``"ok"`` nor ``"mean at the edge of
        the scan"``; the latter is said where the mean is less than 0.75 widths inside the scan, or outside: such
        means are drawn inwards, and their errors are too small.

    Raises
    ------
    UsageError
        If the window is too narrow for three parameters.
    """
    from scipy.special import gammaln
    from scipy.stats import chi2

    from firstlight.detectors.velo import noise_fit

    if not window >= 1.5:
        what = f"a window of {window:g} widths leaves too few readings for a mean, a width and an amplitude"
        raise UsageError(what, hint="3 or more")
    n_points = scan.thresholds.size
    counts = np.ascontiguousarray(scan.counts.reshape(n_points, N_PIXELS).T)
    thresholds = scan.thresholds.astype(np.float64)
    log_factorial = np.asarray(gammaln(np.arange(TOP + 1) + 1.0))
    table = noise_fit.deviance_moments(TOP)
    result = np.empty((N_PIXELS, noise_fit.N_QUANTITIES))
    state = np.empty(N_PIXELS, dtype=np.uint8)

    def block(start: int) -> None:
        part = slice(start, start + _BLOCK)
        noise_fit.fit_pixels(
            counts[part], thresholds, float(window), TOP, log_factorial, table, result[part], state[part]
        )

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        list(pool.map(block, range(0, N_PIXELS, _BLOCK)))
    mean = result[:, 2]
    outside = np.minimum(mean - thresholds.min(), thresholds.max() - mean) < _INSIDE * result[:, 4]
    status = np.select(
        [
            state == noise_fit.NO_HITS,
            state == noise_fit.UNCONSTRAINED,
            state == noise_fit.MAX_ITERATIONS,
            outside,
        ],
        [4, 2, 3, 1],
        0,
    )
    result[status == 3] = np.nan
    expected, variance = result[:, 8] - 3.0, result[:, 9] - 6.0
    enough = (expected > 0) & (variance > 0)
    expected, variance = np.where(enough, expected, np.nan), np.where(enough, variance, np.nan)
    ndf = 2.0 * expected**2 / variance
    found = moments(scan)
    channel = np.arange(N_PIXELS)
    arrays: dict[str, Any] = {
        "channel": channel, "row": channel // SHAPE[1], "column": channel % SHAPE[1], "hits": found.hits,
        "n_saturated": (counts >= TOP).sum(axis=1), "truncated_low": found.truncated_low,
        "truncated_high": found.truncated_high, "moment_mean": found.mean, "moment_width": found.width,
        "amplitude": result[:, 0], "amplitude_error": result[:, 1], "mean": mean, "mean_error": result[:, 3],
        "width": result[:, 4], "width_error": result[:, 5], "mean_width_covariance": result[:, 6],
        "points": np.nan_to_num(result[:, 10]).astype(np.int16),
        "hits_outside": np.nan_to_num(result[:, 11]).astype(np.int32),
        "deviance": result[:, 7], "ndf": ndf,
        "p_value": chi2.sf(result[:, 7] * 2.0 * expected / variance, ndf),
        "status": np.asarray(FIT_STATUS)[status],
    }  # fmt: skip
    return Table.from_frame(FITS, pl.DataFrame(arrays))


def width_groups(fits: Table) -> Table:
    """Return the mean width of the noise in groups of pixels: columns, rows, edges of the chip.

    Only pixels whose width is fitted to a tenth or better; hit-weighted widths only of those whose noise lies inside
    the scan. Rows 0 and 255 and columns 0 and 255 are groups of their own, and in no other but "all": their noise is
    up to three times as wide, and rows 0 and 15 of every 16 seem wider than others as long as these two are in them.

    Parameters
    ----------
    fits : Table
        As `fit_noise` gives it.
    """
    frame = fits.frame.filter((pl.col("status") == "ok") & (pl.col("width_error") < 0.1 * pl.col("width")))
    row, column = pl.col("row"), pl.col("column")
    inner = row.is_between(1, 254) & column.is_between(1, 254)
    period = (row % 16).is_in([0, 15])
    whole = ~pl.col("truncated_low") & ~pl.col("truncated_high")
    groups: Iterable[tuple[str, pl.Expr]] = (
        ("all", pl.lit(value=True)),
        ("inner", inner),
        ("even columns", inner & (column % 2 == 0)),
        ("odd columns", inner & (column % 2 == 1)),
        ("rows 0 and 15 of 16", inner & period),
        ("other rows", inner & ~period),
        ("edge rows", row.is_in([0, 255])),
        ("edge columns", column.is_in([0, 255]) & row.is_between(1, 254)),
    )
    rows = []
    for name, chosen in groups:
        part = frame.filter(chosen)
        width = part["width"].to_numpy()
        spread = float(width.std(ddof=1)) if width.size > 1 else float("nan")
        rows.append(
            {
                "group": name,
                "n_pixels": width.size,
                "width": float(width.mean()) if width.size else None,
                "width_spread": spread,
                "width_error": spread / np.sqrt(width.size) if width.size > 1 else None,
                "moment_width": part.filter(whole)["moment_width"].mean(),
            }
        )
    return Table.from_rows(GROUPS, rows)


def warm_up() -> None:
    """Compile the kernels for the types in use."""
    counts = np.zeros((3, *SHAPE), dtype=np.uint8)
    counts[:, 0, 0] = (1, 5, 1)
    scan = NoiseScan(parse_name("x_3_1_3.dat"), np.array([3, 2, 1]), counts)
    fit_noise(scan, threads=1)
    from firstlight.detectors.velo.noise_kernels import counter_table, unpack

    unpack(np.frombuffer(bytes(3 * POINT_BYTES), dtype=np.uint8), counter_table(), counts)
