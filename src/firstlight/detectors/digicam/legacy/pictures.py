"""Pictures of histogram and fit files, ours or the original's: maps and distributions of parameters, spectra of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.legacy import fit_files, histograms, scan_files
from firstlight.detectors.digicam.legacy.npz import NpzFile
from firstlight.errors import InputError, UsageError
from firstlight.view.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.digicam.legacy.scripts import Script
    from firstlight.detectors.digicam.legacy.scripts_scan import Scan
    from firstlight.fit.model import Model
    from firstlight.run.progress import Progress

    FloatArray = NDArray[np.float64]

__all__ = ["Choice", "draw_files", "figures_of_file", "save"]

_SHOWN = (10, 485, 700, 1295)  # pixels where none are chosen
_TYPICAL = 2.0  # photo-electrons of the level that is drawn where none is chosen


@dataclass(frozen=True)
class Choice:
    """What is drawn.

    Parameters
    ----------
    pixels : tuple of int
        Spectra of these; of some where empty.
    level : float, optional
        Level of the spectra [DAC]; the nearest one is taken. One with some 2 photo-electrons by default.

    Raises
    ------
    UsageError
        If there is no such pixel.
    """

    pixels: tuple[int, ...] = ()
    level: float | None = None

    def __post_init__(self) -> None:
        wrong = [pixel for pixel in self.pixels if not 0 <= pixel < N_PIXELS]
        if wrong:
            what = f"there is no pixel {wrong[0]}"
            raise UsageError(what, hint=f"0 to {N_PIXELS - 1}")

    def of(self, counts: NDArray[Any]) -> tuple[int, ...]:
        """Return the pixels whose spectra are drawn: the chosen ones, else some of those with entries."""
        if self.pixels:
            return self.pixels
        filled = np.flatnonzero(counts.any(axis=1))
        usual = [pixel for pixel in _SHOWN if pixel in filled]
        return tuple(usual or filled[:4].tolist())


def draw_files(script: Script, kind: str, choice: Choice | None = None, *, input_fit: str = "") -> list[Path]:
    """Draw the files of a script that are there, into ``figures`` of the output directory.

    Parameters
    ----------
    script : Script
        With the names of the files.
    kind : {"hv_off", "dark", "spe", "scan"}
        What they are.
    choice : Choice, optional
        Pixels and level.
    input_fit : str
        Of dark pulses: the fit without high voltage, which has their baselines.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    InputError
        If there is nothing to draw.
    """
    choice = choice or Choice()
    if kind == "scan":
        figures = _scan_figures(script, choice)  # type: ignore[arg-type]
    else:
        baseline = script.output / input_fit if input_fit else None
        figures = _sample_figures(script.histogram_path, script.fit_path, kind, choice, baseline)
    return save(figures, script.output, script.settings.progress)


def save(figures: Sequence[Figure], folder: Path, progress: Progress) -> list[Path]:
    """Draw figures into ``figures`` of a folder and return the files.

    Raises
    ------
    UsageError
        If one cannot be drawn.
    """
    from firstlight.view.save import save_figures

    records = save_figures(figures, folder, ("png",), progress)
    for record in records:
        if "problem" in record:
            what = f"{record['name']} {record['problem']}"
            raise UsageError(what, where=folder)
    return [folder / record["file"] for record in records]


def figures_of_file(path: Path, choice: Choice) -> list[Figure]:
    """Return the figures of any histogram or fit file.

    Raises
    ------
    InputError
        If it is none.
    """
    with NpzFile(path) as file:
        keys = file.keys
    stem = path.stem
    if "adcs" in keys:
        return _sample_figures(path, path.with_name(f"{stem}_fit.npz"), "", choice, None)
    if "mpes" in keys:
        return _level_figures(path, None, choice)
    if "full_mpe" in keys:
        return _full_figures(path, None, choice)
    if "peaks" in keys:
        return _peak_figures(path)
    for layout in (fit_files.HV_OFF, fit_files.DARK, fit_files.SPE, fit_files.FULL):
        if layout.key in keys:
            try:
                return _parameter_figures(stem, fit_files.read_fit(path, layout))
            except InputError:
                continue
    if fit_files.MPE.key in keys:
        return _light_figures(stem, fit_files.read_fit(path, fit_files.MPE), None, (), choice)
    what = "this is no histogram or fit file that can be drawn"
    raise InputError(what, where=path, known=keys)


# ---------------------------------------------------------------- samples and pulses


def _sample_figures(
    path: Path, fit_path: Path, kind: str, choice: Choice, baseline: Path | None
) -> list[Figure]:
    counts, reference = histograms.read_adcs(path)
    layouts = {"hv_off": (fit_files.HV_OFF,), "dark": (fit_files.DARK,), "spe": (fit_files.SPE,)}
    every = (fit_files.HV_OFF, fit_files.DARK, fit_files.SPE)
    fit = _read_any(fit_path, layouts.get(kind, every))
    curve: Callable[[int, FloatArray], FloatArray | None] | None = None
    if fit is not None:
        zero = _baseline_of(baseline, reference)
        curve = partial(_sample_curve, fit, zero, counts.sum(axis=1))
    pixels = choice.of(counts)
    figures = [
        Figure(
            f"{path.stem}_spectra", "Spectra of pixels", f"{path.name}, with what the fit expects.", "histograms",
            partial(_draw_spectra, counts, np.arange(counts.shape[1], dtype=np.float64), pixels, curve, "sample [LSB]"),
        )
    ]  # fmt: skip
    if fit is None:
        entries = counts @ np.arange(counts.shape[1], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            mean = entries / counts.sum(axis=1)
        figures.append(_map_figure(f"{path.stem}_mean", "Mean", mean, "mean [LSB]"))
        return figures
    return figures + _parameter_figures(path.stem, fit)


def _read_any(path: Path, layouts: Sequence[fit_files.Layout]) -> fit_files.FitFile | None:
    """Return a fit file of one of some layouts; None where it is not there."""
    return fit_files.read_first(path, layouts) if path.is_file() else None


def _baseline_of(path: Path | None, reference: NDArray[np.int64]) -> FloatArray:
    if path is None or not path.is_file():
        return reference.astype(np.float64)
    found = fit_files.read_fit(path, fit_files.HV_OFF).value("mean")
    return np.where(np.isfinite(found), found, reference)


def _sample_curve(
    fit: fit_files.FitFile, zero: FloatArray, entries: NDArray[Any], pixel: int, edges: FloatArray
) -> FloatArray | None:
    """Return what a fit expects in some bins of a pixel."""
    from firstlight.fit.model import get_model
    from firstlight.fit.models.comb import make_gaussian_comb

    values = fit.values[pixel]
    if not np.isfinite(values).all():
        return None
    if fit.layout is fit_files.HV_OFF:
        return _expected(get_model("gaussian"), values, edges)
    if fit.layout is fit_files.DARK:
        from firstlight.detectors.digicam.spectra import dark_model

        parameters = np.append(values, 0.0)
        parameters[2] -= zero[pixel]
        return np.asarray(entries[pixel] * _expected(dark_model(), parameters, edges - zero[pixel]))
    noise, smearing, gain = values[:3]
    areas = values[[3, 4, 5, 7, 8]]
    comb = np.concatenate([[zero[pixel] + values[6], gain, noise, smearing, 0.0], areas])
    return _expected(make_gaussian_comb(6), comb, edges)


def _expected(model: Model, values: FloatArray, edges: FloatArray) -> FloatArray:
    value, derivative = np.empty(edges.size - 1), np.empty((len(model), edges.size - 1))
    constants = np.array(model.constants, dtype=np.float64)
    model.integral(np.ascontiguousarray(edges), np.ascontiguousarray(values), constants, value, derivative)
    return value


# ---------------------------------------------------------------- scans of levels


def _scan_figures(script: Scan, choice: Choice) -> list[Figure]:
    figures: list[Figure] = []
    light = _read_any(script.fit_path, (fit_files.MPE,))
    if script.histogram_path.is_file():
        figures += _level_figures(script.histogram_path, light, choice)
    if script.full_path.is_file():
        full = _read_any(script.full_fit_path, (fit_files.FULL,))
        figures += _full_figures(script.full_path, full, choice)
    if script.peaks_path.is_file():
        figures += _peak_figures(script.peaks_path)
    if light is not None:
        led = _read_any(script.led_path, (fit_files.LED,))
        figures += _light_figures(script.fit_path.stem, light, led, script.levels, choice)
    if not figures:
        what = "there is no histogram file and no fit file of this scan"
        raise InputError(what, where=script.histogram_path, hint="make them with -c and -p")
    return figures


def _level_figures(path: Path, light: fit_files.FitFile | None, choice: Choice) -> list[Figure]:
    """Return the spectra of one level."""
    with NpzFile(path, "histogram file") as file:
        file.require("mpes")
        shape = file.shape("mpes")
        histograms.check_camera(shape, 1, None, "mpes", path)
        centres = file.array("mpes_bin_centers").astype(np.float64)
        levels = file.array("mpes_levels") if "mpes_levels" in file else np.arange(shape[0], dtype=np.float64)
        index = _row(levels, light, choice)
        counts = next(row for k, row in enumerate(file.rows("mpes")) if k == index)
    curve = (
        None if light is None or light.values.shape[0] != shape[0] else partial(_level_curve, light, index)
    )
    text = f"{path.name}, level {levels[index]:g}" + (
        "" if curve is None else ": the fit, without dark counts."
    )
    draw = partial(_draw_spectra, counts, centres, choice.of(counts), curve, "light [LSB]")
    return [Figure(f"{path.stem}_spectra", f"Light at level {levels[index]:g}", text, "histograms", draw)]


def _row(levels: FloatArray, light: fit_files.FitFile | None, choice: Choice) -> int:
    if choice.level is not None:
        return int(np.argmin(np.abs(levels - choice.level)))
    if light is not None and light.values.shape[0] == levels.size:
        known = np.isfinite(light.value("mu"))
        typical = [
            np.median(row[ok]) if ok.any() else np.inf
            for row, ok in zip(light.value("mu"), known, strict=True)
        ]
        return int(np.argmin(np.abs(np.array(typical) - _TYPICAL)))
    return levels.size // 2


def _level_curve(light: fit_files.FitFile, index: int, pixel: int, edges: FloatArray) -> FloatArray | None:
    from firstlight.fit.model import get_model

    mu, crosstalk, gain, baseline, noise, smearing, amplitude, offset = light.values[index, pixel]
    values = np.array([mu, crosstalk, baseline + offset, gain, noise, smearing])
    if not np.isfinite(values).all():
        return None
    return np.asarray(amplitude * _expected(get_model("generalised_poisson"), values, edges))


def _full_figures(path: Path, fit: fit_files.FitFile | None, choice: Choice) -> list[Figure]:
    counts, centres = scan_files.read_full(path)
    curve = None if fit is None else partial(_comb_curve, fit)
    draw = partial(_draw_spectra, counts, centres, choice.of(counts), curve, "light [LSB]", most=140)
    figure = Figure(
        f"{path.stem}_spectra", "All levels", f"{path.name}, with the comb of the fit.", "histograms", draw
    )
    return [figure] + ([] if fit is None else _parameter_figures(path.stem, fit))


def _comb_curve(fit: fit_files.FitFile, pixel: int, edges: FloatArray) -> FloatArray | None:
    from firstlight.fit.models.comb import make_gaussian_comb

    values = fit.values[pixel]
    if not np.isfinite(values).all():
        return None
    return _expected(make_gaussian_comb(values.size - 4), values, edges)


def _peak_figures(path: Path) -> list[Figure]:
    counts = scan_files.read_peaks(path)
    place = np.where(counts.any(axis=1), counts.argmax(axis=1), np.nan)
    return [
        _map_figure(f"{path.stem}_map", "Sample of the light", place, "sample that is the highest most often")
    ]


def _light_figures(
    stem: str,
    light: fit_files.FitFile,
    led: fit_files.FitFile | None,
    given: Sequence[float],
    choice: Choice,
) -> list[Figure]:
    """Return the light of one level as a map, and the light against the level of some pixels."""
    levels = np.asarray(light.beside.get("levels", given), dtype=np.float64)
    if levels.shape != (light.values.shape[0],):
        levels = np.arange(light.values.shape[0], dtype=np.float64)
    index = _row(levels, light, choice)
    mu = light.value("mu")
    pixels = choice.of(np.isfinite(mu).T)
    return [
        _map_figure(f"{stem}_light", f"Light at level {levels[index]:g}", mu[index], "photo-electrons"),
        Figure(
            f"{stem}_curves", "Light against level", "Photo-electrons of each level, and the polynomial of degree 4.", "fits",
            partial(_draw_curves, levels, mu, light.error("mu"), led, pixels),
        ),
    ]  # fmt: skip


# ---------------------------------------------------------------- drawing


def _parameter_figures(stem: str, fit: fit_files.FitFile) -> list[Figure]:
    """Return a figure of each parameter: its map and its distribution."""
    names = [
        name for name in fit.layout.parameters if name not in ("norm", "A1", "A2", "A3", "A4", "A5", "offset")
    ]
    figures = []
    for name in names:
        unit = fit.layout.parameters[name]
        label = f"{name} [{unit}]" if unit else name
        figures.append(_map_figure(f"{stem}_{name}", f"{fit.layout.title}: {name}", fit.value(name), label))
    return figures


def _map_figure(name: str, title: str, values: FloatArray, label: str) -> Figure:
    text = (
        f"{label}: every pixel at its place in the frame of the camera software, and how it is distributed."
    )
    return Figure(name, title, text, "fits", partial(_draw_map, values, title, label))


def _draw_map(values: FloatArray, title: str, label: str) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    from firstlight.detectors.digicam.channels import channel_map
    from firstlight.view.draw_histograms import draw_distribution
    from firstlight.view.draw_maps import draw_channel_map
    from firstlight.view.draw_pixels import robust_range

    limits = robust_range(values) if np.isfinite(values).any() else None
    canvas = Canvas(figsize=(11, 5))
    left, right = canvas.subplots(1, 2, width_ratios=(1.25, 1))
    draw_channel_map(left, values, channel_map(), colour_label=label, zero_is_empty=False, limits=limits)
    draw_distribution(right, values, labels=(label, "pixels"))
    canvas.suptitle(title, x=0.01, ha="left")
    return canvas


def _draw_spectra(
    counts: NDArray[Any],
    centres: FloatArray,
    pixels: Sequence[int],
    curve: Callable[[int, FloatArray], FloatArray | None] | None,
    label: str,
    most: int = 400,
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    from firstlight.view.draw_fits import draw_fit

    n_columns = 2 if len(pixels) > 1 else 1
    n_rows = max(-(-len(pixels) // n_columns), 1)
    canvas = Canvas(figsize=(5.5 * n_columns, 3.4 * n_rows))
    axes = np.atleast_1d(canvas.subplots(n_rows, n_columns, squeeze=False)).ravel()
    for ax, pixel in zip(axes, pixels, strict=False):
        row = np.asarray(counts[pixel], dtype=np.float64)
        filled = np.flatnonzero(row)
        first = max(int(filled[0]) - 3, 0) if filled.size else 0
        last = min(int(filled[-1]) + 4, first + most, row.size) if filled.size else min(8, row.size)
        x, y = centres[first:last], row[first:last]
        expected = None if curve is None else curve(pixel, np.append(x - 0.5, x[-1] + 0.5))
        draw_fit(
            ax, x, np.where(y > 0, y, np.nan), np.sqrt(y), curve=None if expected is None else (x, np.maximum(expected, 1e-3)),
            labels=(label, "entries"), log=True,
        )  # fmt: skip
        ax.set_title(f"pixel {pixel}")
    for ax in axes[len(pixels) :]:
        ax.set_axis_off()
    return canvas


def _draw_curves(
    levels: FloatArray,
    light: FloatArray,
    errors: FloatArray,
    led: fit_files.FitFile | None,
    pixels: Sequence[int],
) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 5))
    ax = canvas.subplots()
    fine = np.linspace(levels.min(), levels.max(), 200)
    for number, pixel in enumerate(pixels):
        colour = f"C{number % 8}"
        ax.errorbar(
            levels,
            light[:, pixel],
            errors[:, pixel],
            fmt="o",
            markersize=3,
            color=colour,
            label=f"pixel {pixel}",
        )
        if led is not None and np.isfinite(led.values[pixel]).all():
            ax.plot(fine, np.polyval(led.values[pixel], fine), color=colour, linewidth=1)
    ax.set(xlabel="level [DAC]", ylabel="photo-electrons")
    if len(pixels):
        ax.legend()
    return canvas
