"""Spectra of single pixels and of the camera, each with its fit and the pulls of its bins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.options import DarkParameters
from firstlight.detectors.digicam.views.sheet import SIZE, WIDTH, heading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.data.cube import HistogramCube
    from firstlight.detectors.digicam.scene import Scene
    from firstlight.fit.model import Model

    Values = NDArray[np.float64]

__all__ = [
    "Spectrum",
    "camera_spectrum",
    "dark_spectrum",
    "draw_camera_spectrum",
    "draw_dark",
    "draw_hv_off",
    "draw_light",
    "draw_pulses",
    "hv_off_spectrum",
    "light_spectra",
]

_EXPECTED = 5.0  # entries from which the pull of a bin is near a normal one
_BETWEEN = 4  # points of a curve for each bin
_ACROSS = 3
_CELL, _TOP = 3.62, 0.62  # inches: height of a spectrum with its pulls; of headings
_SMALL = 0.84 * SIZE
_DARK = ("rate", "crosstalk", "baseline", "gain", "electronics_noise", "gain_smearing")


@dataclass(frozen=True)
class Spectrum:
    """Counts of one spectrum and what a fit expects.

    Parameters
    ----------
    title : str
        Above it.
    x : ndarray, shape (n,)
        Centres of the bins.
    counts : ndarray, shape (n,)
        Entries.
    expected : ndarray, shape (n,)
        Of the fit; NaN without one.
    curve : tuple of ndarray
        x and height of the fit between the centres: integrals over a bin that is moved.
    label : str
        Of x, with the unit.
    lines : tuple of str
        What was fitted.
    peaks : tuple of float
        Where pulses of 0, 1, 2 ... avalanches are expected.
    dashed : bool
        Whether the fit did not end well.
    """

    title: str
    x: Values
    counts: Values
    expected: Values
    curve: tuple[Values, Values]
    label: str
    lines: tuple[str, ...] = ()
    peaks: tuple[float, ...] = field(default=())
    dashed: bool = False

    @property
    def pulls(self) -> Values:
        """(counts - expected) / sqrt(expected) of bins with at least 5 expected, NaN for others, shape (n,)."""
        enough = np.nan_to_num(self.expected) >= _EXPECTED
        size = np.sqrt(np.where(enough, self.expected, 1.0))
        return np.where(enough, (self.counts - self.expected) / size, np.nan)


def _expected(model: Model, edges: Values, values: Sequence[float], exposure: float) -> Values:
    """Return what a model expects in each bin, shape (n,); NaN where a parameter is not known."""
    from firstlight.fit.blocks import expected_counts
    from firstlight.fit.data import FitData

    data = FitData(np.zeros((1, edges.size - 1)), edges, np.asarray(float(exposure)), edges=True)
    row = np.asarray([values], dtype=np.float64)
    return np.asarray(expected_counts(model, data, row)[0])


def _with_fit(
    model: Model, edges: Values, values: Sequence[float], exposure: float
) -> tuple[Values, tuple[Values, Values]]:
    """Return what a model expects in each bin, and a smooth curve of it."""
    width = edges[1] - edges[0]
    shifts = width * np.arange(_BETWEEN) / _BETWEEN
    heights = np.stack([_expected(model, edges + shift, values, exposure) for shift in shifts])
    centres = 0.5 * (edges[1:] + edges[:-1])
    return heights[0], ((centres[:, None] + shifts).ravel(), heights.T.ravel())


def _row(scene: Scene, product: str, pixel: int) -> dict[str, Any]:
    frame = scene.frame(product)
    return frame.row(int(np.flatnonzero(frame["channel"].to_numpy() == pixel)[0]), named=True)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _told(row: dict[str, Any], name: str, words: str, unit: str = "") -> str:
    """Return a parameter with its error as words."""
    from firstlight.view.draw_fits import with_error

    value, error = _number(row[name]), _number(row.get(f"{name}_error"))
    text = f"{words} {with_error(value, error)} {unit}".rstrip()
    if np.isfinite(error) or not np.isfinite(value):
        return text
    return f"{text} ({'no error' if row.get('status') == 'at_bound' else 'fixed'})"


def _goodness(row: dict[str, Any]) -> str:
    deviance, p_value = _number(row["deviance"]), _number(row["p_value"])
    state = "" if row["status"] == "ok" else f", {row['status'].replace('_', ' ')}"
    p_text = f", p {p_value:.2g}" if np.isfinite(p_value) else ""
    return (
        f"deviance {deviance:.4g} / {row['ndf']}{p_text}{state}"
        if np.isfinite(deviance)
        else f"no fit{state}"
    )


def _filled(counts: NDArray[Any], margin: int = 4) -> slice:
    """Return which bins to draw: those from the first to the last entry, and some beyond."""
    found = np.flatnonzero(counts)
    if not found.size:
        return slice(0, min(counts.size, 20))
    return slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + margin + 1, counts.size))


def _samples_of(cube: HistogramCube, pixel: int, scene: Scene) -> tuple[Values, Values]:
    """Return edges and counts of the samples of a pixel near its reference: those that are fitted."""
    from firstlight.detectors.digicam.channels import LOWEST, WINDOW

    low = int(scene.context.channels.column("reference")[pixel]) - LOWEST
    axis = cube.axes[1]
    first, last = max(low, 0), min(low + WINDOW, axis.bins)
    counts = cube.values[pixel, first:last].astype(np.float64)
    shown = _filled(counts)
    return axis.edges[first : last + 1][shown.start : shown.stop + 1], counts[shown]


def hv_off_spectrum(scene: Scene, pixel: int, what: str = "") -> Spectrum:
    """Return the samples of a pixel without high voltage, with the normal distribution that was fitted."""
    from firstlight.fit.model import get_model

    edges, counts = _samples_of(scene.products["samples/hv_off"], pixel, scene)
    row = _row(scene, "hv_off/pixels", pixel)
    values = [_number(row[name]) for name in ("area", "baseline", "electronics_noise")]
    expected, curve = _with_fit(get_model("gaussian"), edges, values, 1.0)
    lines = (
        _told(row, "baseline", "baseline", "LSB"), _told(row, "electronics_noise", "noise", "LSB"), _goodness(row),
    )  # fmt: skip
    return Spectrum(
        _title(pixel, what), _centres(edges), counts, expected, curve, "sample [LSB]", lines, dashed=row["status"] != "ok"
    )  # fmt: skip


def dark_spectrum(scene: Scene, pixel: int, what: str = "") -> Spectrum:
    """Return the samples of a pixel in the dark, with the spectrum of pulses at random times that was fitted."""
    from firstlight.detectors.digicam.spectra import dark_model

    edges, counts = _samples_of(scene.products["samples/dark"], pixel, scene)
    row = _row(scene, "dark/pixels", pixel)
    values = [_number(row[name]) for name in (*_DARK, "photo_electrons")]
    model = dark_model(scene.parameters("dark", DarkParameters).template)
    expected, curve = _with_fit(model, edges, values, counts.sum())
    lines = (
        _told(row, "rate", "rate", "MHz"),
        _told(row, "crosstalk", "crosstalk"),
        _told(row, "gain", "gain", "LSB"),
        _told(row, "electronics_noise", "noise", "LSB"),
        _goodness(row),
    )
    return Spectrum(
        _title(pixel, what), _centres(edges), counts, expected, curve, "sample [LSB]", lines,
        _peaks(values[2], values[3], edges), row["status"] != "ok",
    )  # fmt: skip


def light_spectra(scene: Scene, pixel: int) -> list[Spectrum]:
    """Return the charges of a pixel at the levels that were fitted together, with what the fit expects."""
    from firstlight.detectors.digicam.light_fits import SHARED, Charges, pulse_model

    light, parameters = scene.light_parameters, scene.gain_parameters
    charges = Charges.of(scene.products["light/charge"], scene.products["light/levels"], light)
    row = _row(scene, "gain/pixels", pixel)
    chosen = scene.products["gain/chosen"].values
    reference = int(scene.context.channels.column("reference")[pixel]) * light.n_samples
    shared = [_number(row[name]) for name in SHARED]
    shared[SHARED.index("baseline")] -= reference
    model = pulse_model(1, 0.0, light, parameters.template)
    found = []
    for index in chosen:
        level = f"{charges.level[index]:g}"
        name = f"light_{level}" if f"light_{level}" in row else "photo_electrons"
        counts = charges.counts[pixel, index].astype(np.float64)
        shown = _filled(counts)
        edges = charges.edges()[shown.start : shown.stop + 1]
        values = [*shared, _number(row[name])]
        expected, curve = _with_fit(model, edges, values, float(charges.entries[pixel, index]))
        lines = (_told(row, name, "light", "p.e."),)
        found.append(
            Spectrum(
                f"level {level} DAC, {int(charges.entries[pixel, index]):,} flashes", _centres(edges), counts[shown],
                expected, curve, "charge above the reference [LSB]", lines, _peaks(shared[2], shared[3], edges),
                row["status"] != "ok",
            )
        )  # fmt: skip
    return found


def camera_spectrum(scene: Scene) -> Spectrum:
    """Return the samples of all pixels above the baselines of their events, with the fit to all of them."""
    from firstlight.detectors.digicam.spectra import dark_model

    cube: HistogramCube = scene.products["samples/dark_residual"]
    counts = cube.values.astype(np.float64)
    # a few pixels far from the others must not hide the camera
    running = np.cumsum(counts) / max(counts.sum(), 1)
    bulk = np.where((running > 1e-7) & (running < 1 - 1e-7), counts, 0.0)
    shown = _filled(bulk, 8)
    edges = cube.axes[0].edges[shown.start : shown.stop + 1]
    table = scene.frame("dark/camera")
    rows = {
        name: (value, error) for name, value, error in table.select("parameter", "value", "error").iter_rows()
    }
    row: dict[str, Any] = {name: value for name, (value, _) in rows.items()}
    row |= {f"{name}_error": error for name, (_, error) in rows.items()}
    values = [*(_number(row[name]) for name in _DARK), 0.0]
    model = dark_model(scene.parameters("dark", DarkParameters).template)
    expected, curve = _with_fit(model, edges, values, float(cube.total))
    converged = _number(row["converged"]) > 0
    told = [
        _told(row, "rate", "rate", "MHz"), _told(row, "crosstalk", "crosstalk"), _told(row, "gain", "gain", "LSB"),
        _told(row, "electronics_noise", "noise", "LSB"), _told(row, "baseline", "baseline", "LSB"),
        f"deviance {_number(row['deviance']):.4g} / {_number(row['ndf']):.0f}",
    ]  # fmt: skip
    lines = (", ".join(told[:4]), ", ".join([*told[4:], *([] if converged else ["not converged"])]))
    return Spectrum(
        "", _centres(edges), counts[shown], expected, curve, "sample above the baseline of its event [LSB]", lines,
        _peaks(values[2], values[3], edges), not converged,
    )  # fmt: skip


def _centres(edges: Values) -> Values:
    return np.asarray(0.5 * (edges[1:] + edges[:-1]))


def _title(pixel: int, what: str) -> str:
    return f"pixel {pixel}" + (f": {what}" if what else "")


def _peaks(baseline: float, gain: float, edges: Values) -> tuple[float, ...]:
    """Return where the first peaks are, as far as they are drawn and stand apart."""
    if not (np.isfinite(baseline) and gain > 0.02 * (edges[-1] - edges[0])):
        return ()
    places = baseline + gain * np.arange(8)
    return tuple(float(place) for place in places if edges[0] < place < edges[-1])


# -- drawing -------------------------------------------------------------------------------------------------------


def draw_hv_off(scene: Scene) -> Canvas:
    """Draw spectra of samples without high voltage: typical and odd pixels."""
    chosen = scene.examples("hv_off/pixels", ("electronics_noise",))
    spectra = [hv_off_spectrum(scene, pixel, what) for what, pixel in chosen]
    return _sheet(
        "Samples without high voltage",
        "Points: samples; line: normal distribution, integrated over bins",
        spectra,
    )


def draw_dark(scene: Scene) -> Canvas:
    """Draw spectra of samples in the dark: typical and odd pixels."""
    chosen = scene.examples("dark/pixels", ("rate", "crosstalk", "gain", "electronics_noise"))
    spectra = [dark_spectrum(scene, pixel, what) for what, pixel in chosen]
    return _sheet(
        "Samples in the dark", "Points: samples; line: pulses at random times (compound Poisson)", spectra
    )


def draw_light(scene: Scene, pixel: int, what: str) -> Canvas:
    """Draw the charges of a pixel at the levels that were fitted together."""
    row = _row(scene, "gain/pixels", pixel)
    shared = [
        _told(row, "gain", "gain", "LSB/p.e."), _told(row, "crosstalk", "crosstalk"), _told(row, "baseline", "baseline", "LSB"),
        _told(row, "electronics_noise", "noise", "LSB"), _told(row, "gain_smearing", "smearing", "LSB"),
        _told(row, "rate", "dark rate", "MHz"),
    ]  # fmt: skip
    about = f"{', '.join(shared[:3])}\n{', '.join([*shared[3:], _goodness(row)])}"
    return _sheet(f"Flashes, {_title(pixel, what)}", about, light_spectra(scene, pixel), extra=0.22)


def draw_camera_spectrum(scene: Scene) -> Canvas:
    """Draw the samples of all pixels in the dark above the baselines of their events."""
    from firstlight.view import draw
    from firstlight.view.draw_layouts import FRAME

    spectrum = camera_spectrum(scene)
    canvas = draw.sheet(WIDTH, 5.2)
    heading(canvas, "All pixels in the dark", "\n".join(spectrum.lines))
    ax = draw.place(canvas, 0.85, 2.0, 0.2, 0.95, SIZE)
    low = draw.place(canvas, 0.85, 0.6, 0.2, 3.35, SIZE)
    _one(ax, low, spectrum)
    low.clear()
    # of so many samples even a small imperfection has a large pull: what counts is its size
    enough = np.isfinite(spectrum.pulls)
    ratio = np.where(enough, spectrum.counts / np.where(enough, spectrum.expected, 1.0), np.nan) - 1
    error = np.where(enough, np.sqrt(spectrum.counts) / np.where(enough, spectrum.expected, 1.0), np.nan)
    low.axhline(0, color=FRAME, linewidth=0.9)
    low.errorbar(spectrum.x, 100 * ratio, 100 * error, fmt="o", markersize=2.4, elinewidth=0.8)
    low.set(xlim=ax.get_xlim(), ylim=(-30, 30), xlabel=spectrum.label, ylabel="data / fit − 1 [%]")
    return canvas


def _sheet(title: str, about: str, spectra: Sequence[Spectrum], *, extra: float = 0.0) -> Canvas:
    """Draw some spectra beside and below each other."""
    from firstlight.view import draw

    n_rows = max(-(-len(spectra) // _ACROSS), 1)
    above = 0.2 + 0.16 * max((len(spectrum.lines) for spectrum in spectra), default=1)
    cell, top = _CELL + above, _TOP + extra
    height = top + n_rows * cell
    canvas = draw.sheet(WIDTH, height)
    heading(canvas, title, about)
    width = WIDTH / _ACROSS
    for number, spectrum in enumerate(spectra):
        left = (number % _ACROSS) * width + 0.62
        right = WIDTH - left - width + 0.7
        down = top + (number // _ACROSS) * cell
        bottom = height - down - cell
        ax = draw.place(canvas, left, bottom + 1.55, right, down + above, 0.92 * SIZE)
        low = draw.place(canvas, left, bottom + 0.55, right, down + cell - 1.42, 0.92 * SIZE)
        _one(ax, low, spectrum, show_y=number % _ACROSS == 0)
        x = left / WIDTH
        title_at, text_at = (1 - (down + inches) / height for inches in (0.14, above - 0.05))
        canvas.text(x, title_at, spectrum.title, fontsize=SIZE, weight="bold")
        canvas.text(x, text_at, "\n".join(spectrum.lines), fontsize=_SMALL, color="#3a4149", linespacing=1.25)
    return canvas


def _one(ax: Axes, low: Axes, spectrum: Spectrum, *, show_y: bool = True) -> None:
    """Draw a spectrum with its fit, and the pulls of its bins below."""
    from firstlight.view.draw import no_data
    from firstlight.view.draw_fits import draw_differences, draw_fit, poisson_interval

    if not spectrum.counts.any():
        no_data(ax, "no entries")
        low.set_axis_off()
        return
    for number, place in enumerate(spectrum.peaks):
        for axes in (ax, low):
            axes.axvline(place, color="#b9c4cf", linewidth=0.8, zorder=0)
        ax.text(place, 0.985, str(number), transform=ax.get_xaxis_transform(), fontsize=0.78 * SIZE, ha="center", va="top",
                color="#56616c", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip
    counts = np.where(spectrum.counts > 0, spectrum.counts, np.nan)
    errors = poisson_interval(spectrum.counts)
    known = np.isfinite(spectrum.curve[1]).any()
    draw_fit(
        ax, spectrum.x, counts, np.where(np.isfinite(counts), errors, np.nan), curve=spectrum.curve if known else None,
        labels=("", "entries" if show_y else ""), log=True, legend=False, dashed=spectrum.dashed,
    )  # fmt: skip
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, 0.4), 2.2 * top)
    ax.tick_params(labelbottom=False)
    # bins that share a pulse, or of which little is expected, have no normal pull
    size = np.sqrt(np.where(np.isfinite(spectrum.pulls), spectrum.expected, 0.0))
    draw_differences(
        low, spectrum.x, spectrum.counts, np.nan_to_num(spectrum.expected), size, pulls=True,
        labels=(spectrum.label, "pull" if show_y else ""),
    )  # fmt: skip
    low.set_xlim(ax.get_xlim())


def draw_pulses(scene: Scene) -> Canvas:
    """Draw the spectrum of pulses found in the dark: of typical pixels, and of all in units of their gain."""
    from firstlight.view import draw
    from firstlight.view.draw_histograms import draw_spectrum

    cube: HistogramCube = scene.products["pulses/charge"]
    axis = cube.axis("charge")
    canvas = draw.sheet(WIDTH, 4.1)
    heading(canvas, "Pulses found in the dark", scene.about)
    left = draw.place(canvas, 0.85, 0.62, 5.2, 0.75, SIZE)
    right = draw.place(canvas, 5.85, 0.62, 0.2, 0.75, SIZE)
    chosen = (
        scene.examples("spe/pixels", ("gain", "crosstalk_probability")) if scene.has("spe/pixels") else []
    )
    rows = [cube.values[pixel].astype(np.float64) for _, pixel in chosen] or [
        cube.values.sum(axis=0).astype(np.float64)
    ]
    shown = _filled(np.sum(rows, axis=0))
    names = [_title(pixel, what) for what, pixel in chosen] or ["all pixels"]
    edges = axis.edges[shown.start : shown.stop + 1]
    draw_spectrum(
        left, edges, [row[shown] for row in rows], names=names, labels=("charge of the window [LSB]", "pulses"), log=True
    )  # fmt: skip
    _aligned(right, scene, cube)
    return canvas


def _aligned(ax: Axes, scene: Scene, cube: HistogramCube) -> None:
    """Draw the charges of all good pixels, each over its own gain."""
    from firstlight.view.draw import no_data
    from firstlight.view.draw_fits import text_box
    from firstlight.view.draw_histograms import draw_spectrum

    gain = scene.column("spe/pixels", "gain")
    usable = np.isfinite(gain) & (gain > 0) & ~scene.flagged
    if not usable.any():
        no_data(ax, "no pixel has a gain from pulses")
        return
    centres = cube.axis("charge").centers
    edges = np.arange(0.0, 6.0001, 0.05)
    # a bin of one LSB is wider than a bin here: its entries are spread over it, whatever the gain
    parts = (np.arange(8) + 0.5) / 8 - 0.5
    counts = np.zeros(edges.size - 1)
    for pixel in np.flatnonzero(usable):
        places = ((centres[:, None] + parts) / gain[pixel]).ravel()
        counts += np.histogram(places, edges, weights=np.repeat(cube.values[pixel] / parts.size, parts.size))[
            0
        ]
    draw_spectrum(ax, edges, counts, labels=("charge / gain [p.e.]", "pulses"), log=True)
    for number in range(1, 6):
        ax.axvline(number, color="#b9c4cf", linewidth=0.8, zorder=0)
    crosstalk = scene.column("spe/pixels", "crosstalk_probability")[usable]
    lines = [
        f"pixels {int(usable.sum()):,}", f"gain, median {np.median(gain[usable]):.2f} LSB/p.e.",
        f"P(more than one), median {np.nanmedian(crosstalk):.3f}",
    ]  # fmt: skip
    text_box(ax, lines, size=0.95)
