"""What the original scripts do: raw files to histogram files, histogram files to fit files, and pictures of both.

Beside each histogram file stands the run directory from which it was written, under its name without the ending. A fit is made in
that run if the file is still the one that was written from it, because a run knows more than the file: which samples belong to one
event. Any other file, one that the original tool made, or one that was added up, is imported into a run of its own
(``..._imported``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.legacy import fit_files, histograms
from firstlight.detectors.digicam.source import EventFiles
from firstlight.errors import InputError, InputsRefusedError
from firstlight.run.finishing import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.schema import Chunk, Span
    from firstlight.detector import Detector
    from firstlight.fit.result import FitResult
    from firstlight.run.store import Run
    from firstlight.steps.step import Product

    FloatArray = NDArray[np.float64]

__all__ = [
    "Raw",
    "Script",
    "analyse_pulses",
    "analyse_samples",
    "configuration_for",
    "detector_for",
    "own_parameters",
    "read_raw",
    "remember",
    "require_product",
    "run_folder",
    "run_imported",
    "run_of",
]

_RECORD = "original_files"  # in run.json: digests of the histogram files that were written from a run


@dataclass(frozen=True)
class Raw:
    """Raw files, and how they are read.

    Parameters
    ----------
    files : tuple of Path
        In order.
    evt_max : int, optional
        Events that are read at most, of all files together.
    evt_min : int
        The first event that is used, counted from the first one by event numbers.
    per_batch : int, optional
        Events that are read at a time; the numbers do not depend on it.
    configuration : mapping
        Options and parameters of reading.
    """

    files: tuple[Path, ...]
    evt_max: int | None = None
    evt_min: int = 0
    per_batch: int | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Script:
    """What a script of the original was asked for.

    Parameters
    ----------
    output : Path
        Directory of histogram and fit files.
    histogram, fit : str
        Names of these files.
    create, perform : bool
        Whether the histogram is made of raw files, and the fit made of the histogram.
    raw : callable, optional
        Returns the raw files: they are only looked for where they are needed.
    settings : Settings
        How to run.
    parameters : mapping
        Parameters of fits, by step.
    say : callable
        Told what was done, a line at a time.
    """

    output: Path
    histogram: str
    fit: str
    create: bool = False
    perform: bool = False
    raw: Callable[[], Raw] | None = None
    settings: Settings = field(default_factory=lambda: Settings(plots=False))
    parameters: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None
    refused: InputsRefusedError | None = field(default=None, init=False)

    @property
    def histogram_path(self) -> Path:
        """The histogram file."""
        return self.output / self.histogram

    @property
    def fit_path(self) -> Path:
        """The fit file."""
        return self.output / self.fit

    @property
    def acts(self) -> bool:
        """Whether anything is to be made: the original only displays what is there otherwise."""
        return self.create or self.perform

    def end(self) -> None:
        """Say that some raw files were refused, when all else is done.

        Raises
        ------
        InputsRefusedError
            If some were.
        """
        if self.refused is not None:
            raise self.refused

    def wrote(self, path: Path, what: str) -> None:
        """Tell of a file that was written."""
        self.say(f"  wrote {path}: {what}")


# ---------------------------------------------------------------- raw files to a run


@dataclass(frozen=True)
class _InBatches(EventFiles):
    """A source that reads so many events at a time."""

    batch: int = 0

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield the data of a stretch of a file, some events at a time."""
        return super().read(span, columns, channels, chunk_events=chunk_events or self.batch)


def detector_for(per_batch: int | None) -> Detector:
    """Return the detector, with sources that read so many events at a time."""
    from firstlight.detector import get_detector

    detector = get_detector("digicam")
    if per_batch is None:
        return detector
    sources = tuple(
        _InBatches(**{one.name: getattr(source, one.name) for one in fields(source)}, batch=per_batch)
        for source in detector.load("sources")
    )
    return replace(detector, sources=sources)


def read_raw(script: Script, kind: str, changes: Mapping[str, Any]) -> Run:
    """Return the run of the raw files of a script."""
    from firstlight.run.chain import process

    if script.raw is None:
        message = "no raw files are given"
        raise InputError(message, hint="-d DIRECTORY -f NUMBERS")
    raw = script.raw()
    detector = detector_for(raw.per_batch)
    configuration = {"kind": kind, **configuration_for(raw, detector), **changes}
    folder = run_folder(script.histogram_path)
    try:
        run = process(
            detector, list(raw.files), folder, configuration, script.settings, max_events=raw.evt_max, steps=()
        )  # fmt: skip
    except InputsRefusedError as error:
        script.refused = error
        run = error.run  # type: ignore[assignment]
    used = [entry for entry in run.record["inputs"] if entry["status"] == "used"]
    script.say(f"read {len(used)} raw file{'s' * (len(used) != 1)} into the run {folder}")
    return run


def configuration_for(raw: Raw, detector: Detector) -> dict[str, Any]:
    """Return the configuration of reading, with the cut that leaves out the first events."""
    found = dict(raw.configuration)
    if raw.evt_min:
        first = _first_number(detector, raw.files[0])
        found["cuts"] = (*found.get("cuts", ()), f"number >= {first + raw.evt_min}")
    return found


def _first_number(detector: Detector, path: Path) -> int:
    """Return the number of the first event of a file."""
    source = detector.source_for(path)
    if source is None:
        return 0
    return int(source.describe(path).facts.get("first_number") or 0)


def remember(run: Run, path: Path) -> None:
    """Write down that a histogram file is that of a run."""
    from firstlight.files import locked
    from firstlight.run.provenance import digest_file

    with locked(run.folder):
        run.record.setdefault(_RECORD, {})[path.name] = digest_file(path)
        run.save()


def run_folder(path: Path) -> Path:
    """Return the run directory that belongs to a histogram file: its name without ``.npz``."""
    return path.with_suffix("") if path.suffix == ".npz" else path.with_name(f"{path.name}_run")


def run_of(path: Path) -> Run | None:
    """Return the run that a histogram file was written from, if it still is what was written."""
    from firstlight.run.provenance import digest_file
    from firstlight.run.store import open_run

    folder = run_folder(path)
    if not (path.is_file() and (folder / "run.json").is_file()):
        return None
    run = open_run(folder)
    return run if run.record.get(_RECORD, {}).get(path.name) == digest_file(path) else None


def run_imported(
    script: Script,
    path: Path,
    products: Mapping[str, Product],
    reference: NDArray[np.int64],
    configuration: Mapping[str, Any],
    steps: Collection[str],
) -> Run:
    """Return a run of what stands in a histogram file."""
    from firstlight.data.select import Selection
    from firstlight.detector import Plan, get_detector
    from firstlight.detectors.digicam.channels import channel_map
    from firstlight.run.finished import import_products

    folder = path.with_name(f"{path.stem}_imported")
    script.say(f"  {path.name} is imported into the run {folder}")
    plan = Plan(
        channel_map(reference),
        Selection(),
        {},
        (f"imported from {path.name}: nothing is known of single events",),
    )
    return import_products(
        get_detector("digicam"), path, plan, products, folder, configuration, script.settings, steps=steps
    )  # fmt: skip


# ---------------------------------------------------------------- analyse_hvoff, analyse_dark


def analyse_samples(script: Script, kind: str) -> None:
    """Do what ``analyse_hvoff`` (kind ``"hv_off"``) and ``analyse_dark`` (``"dark"``) do.

    Raises
    ------
    InputError
        If raw files, or the histogram for a fit, cannot be used.
    """
    layout = fit_files.HV_OFF if kind == "hv_off" else fit_files.DARK
    path = script.histogram_path
    if script.create:
        run = read_raw(script, kind, {})
        require_product(run, f"samples/{kind}", path)
        cube = run[f"samples/{kind}"].value
        histograms.write_samples(path, cube, run["channels/map"].to_polars()["reference"].to_numpy())  # type: ignore[arg-type]
        remember(run, path)
        script.wrote(path, f"adcs (1296, 4096), {cube.total:,} samples")  # type: ignore[union-attr]
    if script.perform:
        run = _fit_samples(script, kind)
        values, errors, beside = fit_files.of_table(layout, run[f"{kind}/pixels"].value)  # type: ignore[arg-type]
        fit_files.write_fit(script.fit_path, layout, values, errors, beside)
        done = int(np.isfinite(values).all(axis=1).sum())
        script.wrote(script.fit_path, f"{layout.key} {(*values.shape, 2)}, {done} pixels")
        for name, unit in layout.parameters.items():
            column = values[:, list(layout.parameters).index(name)]
            if done and name != "norm":
                script.say(f"  {name:<10} {np.nanmedian(column):.4g} {unit} (median)".rstrip())
        if "dark/camera" in run:
            _say_camera(script, run)


def _say_camera(script: Script, run: Run) -> None:
    """Tell the fit of all pixels together, which a few events are enough for."""
    rows = {row["parameter"]: row for row in run["dark/camera"].to_polars().iter_rows(named=True)}
    parts = [
        f"{name} {rows[name]['value']:.4g} ± {rows[name]['error']:.2g} {rows[name]['unit']}".rstrip()
        for name in ("rate", "crosstalk", "gain")
        if name in rows and rows[name]["value"] is not None and rows[name]["error"] is not None
    ]
    if parts:
        script.say(f"  all pixels together: {', '.join(parts)}")


def require_product(run: Run, product: str, path: Path) -> None:
    """Refuse to write an empty histogram."""
    if product not in run:
        what = "the raw files have no events for this histogram"
        raise InputError(what, where=path, hint=f"firstlight status {run.folder}")


def _fit_samples(script: Script, kind: str) -> Run:
    """Return the run with the fit of a histogram of samples."""
    from firstlight.run.finished import derive_again

    path = script.histogram_path
    run = run_of(path)
    if run is not None:
        return derive_again(run, script.parameters, script.settings, steps=(kind, "calibration"))
    counts, reference = histograms.read_adcs(path)
    products = histograms.samples_products(kind, counts, reference)
    result, table = _fit_imported(kind, products, reference, script.parameters)
    products |= {f"{kind}/pixels": table, f"{kind}/covariance": result.covariance_block()}
    return run_imported(
        script, path, products, reference, {"kind": kind, **script.parameters}, ("calibration",)
    )


def _fit_imported(
    kind: str, products: Mapping[str, Any], reference: NDArray[np.int64], parameters: Mapping[str, Any]
) -> tuple[FitResult, Any]:
    """Return the fit of samples whose events are not known: errors are those of independent samples."""
    from firstlight.detectors.digicam import spectra as fits
    from firstlight.detectors.digicam.channels import channel_map
    from firstlight.detectors.digicam.options import DarkParameters, HvOffParameters, Options
    from firstlight.run.config import build
    from firstlight.steps.step import Context

    context = Context(channel_map(reference), Options())
    spectra = fits.Spectra.of(products[f"samples/{kind}"], products[f"samples/{kind}_groups"], context)
    if kind == "hv_off":
        result = fits.fit_hv_off(spectra, build(HvOffParameters, parameters.get(kind, {})))
        names, shifted = {"mean": "baseline", "width": "electronics_noise"}, "mean"
    else:
        result = fits.fit_dark(spectra, build(DarkParameters, parameters.get(kind, {})))
        names, shifted = {}, "baseline"
    result = _with_errors(result)
    values = result.values.copy()
    values[:, result.model.index(shifted)] += reference
    return result, fits.renamed(replace(result, values=values).table(x_unit="LSB"), names)


def _with_errors(result: FitResult) -> FitResult:
    """Return a result with the errors from the curvature of the likelihood, where groups of events gave none."""
    from firstlight.fit import fit_many

    if np.isfinite(result.errors).any():
        return result
    data = result.data
    start = np.where(np.isfinite(result.values), result.values, result.start)
    again = fit_many(
        data.counts, data.x, result.model, exposure=data.exposure, mask=data.mask, edges=data.edges,
        fixed=dict(data.fixed), bounds=dict(data.bounds), start=np.nan_to_num(start), rescue=False,
    )  # fmt: skip
    close = np.isclose(again.values, result.values, rtol=1e-3, atol=1e-3, equal_nan=True)
    same = np.asarray(np.all(close, axis=1))
    return replace(
        result,
        errors=np.where(same[:, None], again.errors, np.nan),
        covariance=np.where(same[:, None, None], again.covariance, np.nan),
    )


# ---------------------------------------------------------------- analyse_dark_spe


def analyse_pulses(script: Script, input_fit: str) -> None:
    """Do what ``analyse_dark_spe`` does.

    Parameters
    ----------
    script : Script
        What is asked for.
    input_fit : str
        Name of the fit file without high voltage.

    Raises
    ------
    InputError
        If raw files, the histogram for a fit, or the fit without high voltage cannot be used.
    """
    from firstlight.detectors.digicam.legacy.combs import fit_pulses, spe_arrays

    path = script.histogram_path
    # missing or of something else: that is said before hours of reading
    hv_off = fit_files.read_fit(script.output / input_fit, fit_files.HV_OFF) if script.acts else None
    if script.create:
        # one sample: the height of a pulse
        run = read_raw(
            script,
            "dark",
            {"pulses": {"window_width": 1, "window_start": 0, **own_parameters(script, "pulses")}},
        )
        require_product(run, "pulses/charge", path)
        cube = run["pulses/charge"].value
        histograms.write_spe(path, cube, run["channels/map"].to_polars()["reference"].to_numpy())  # type: ignore[arg-type]
        remember(run, path)
        script.wrote(path, f"adcs (1296, 4096), {cube.total:,} pulses")  # type: ignore[union-attr]
    if script.perform and hv_off is not None:
        counts, reference = histograms.read_adcs(path)
        baseline = hv_off.value("mean")
        result = fit_pulses(counts, reference, baseline, hv_off.value("sigma"))
        values, errors, beside = spe_arrays(result, reference, baseline)
        own = run_of(path)
        if own is not None:
            beside["dark_rate"] = _pulse_rate(own)
        fit_files.write_fit(script.fit_path, fit_files.SPE, values, errors, beside)
        done = np.isfinite(values[:, 2])
        script.wrote(script.fit_path, f"adcs_fit_result (1296, 9, 2), {int(done.sum())} pixels")
        if done.any():
            script.say(f"  gain       {np.nanmedian(values[:, 2]):.4g} LSB/p.e. (median)")
            script.say(
                f"  crosstalk  {np.nanmedian(beside['crosstalk_probability']):.3g} of the pulses (median)"
            )


def own_parameters(script: Script, step: str) -> dict[str, Any]:
    """Return the parameters of a step that a script was given."""
    return dict(script.parameters.get(step, {}))


def _pulse_rate(run: Run) -> FloatArray:
    """Return the rate of the pulses that were found and its error, shape (1296, 2) [MHz]."""
    import polars as pl

    frame = run["pulses/pixels"].to_polars()
    rate = frame["rate"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    number = frame["n_pulses"].to_numpy()
    return np.stack([rate, rate / np.sqrt(np.maximum(number, 1))], axis=1)
