"""Several datasets beside each other: K of each with its error budget, good pixels, warm against cold, energies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.detectors.velo.views.scene import EXPECTED_GAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = [
    "draw_collected",
    "draw_correlation",
    "draw_energy",
    "draw_gain_summary",
    "draw_good_pixels",
]

_SIZE = 11.0
LABEL_COLOURS = {"warm": "#c8502a", "cold": "#1f5f99"}
_PARTS = {
    "gain_statistical": "statistical",
    "gain_baseline": "baseline",
    "gain_common": "common (energy per pair)",
}


def _heading(canvas: Canvas, title: str, about: str) -> None:
    height = canvas.get_size_inches()[1]
    canvas.text(0.015, 1 - 0.1 / height, title, fontsize=_SIZE + 2, weight="bold", va="top")
    canvas.text(0.015, 1 - 0.38 / height, about, fontsize=_SIZE - 1, color="#3a4149", va="top")


def _names(frame: pl.DataFrame) -> list[str]:
    if "label" not in frame.columns:
        return [str(name) for name in frame["dataset"]]
    pairs = zip(frame["dataset"].to_list(), frame["label"].to_list(), strict=True)
    return [f"{dataset}, {label}" if label else str(dataset) for dataset, label in pairs]


def _colour(frame: pl.DataFrame, row: int) -> str:
    label = str(frame["label"][row]) if "label" in frame.columns else ""
    return LABEL_COLOURS.get(label, "#20262c")


def draw_gain_summary(
    results: pl.DataFrame,
    *,
    reference: tuple[float, float] | None = EXPECTED_GAIN,
    title: str = "K of each dataset",
    about: str = "",
) -> Canvas:
    """Draw the mean K of each dataset with its error budget, with ASIC and ASICgood, and what is expected.

    Parameters
    ----------
    results : polars.DataFrame
        One row for each dataset: ``dataset``, ``gain_mean`` [e-/DAC], and where known ``label``,
        ``gain_statistical``, ``gain_baseline``, ``gain_common`` (uncertainties of the mean), ``gain_asic``,
        ``gain_asicgood``.
    reference : (float, float), optional
        Expected K and its uncertainty: a band.
    title, about : str
        Title and second line.
    """
    from firstlight.view import draw
    from firstlight.view.draw_groups import Budget, draw_budgets

    marks = {"gain_asic": "ASIC", "gain_asicgood": "ASICgood"}
    entries = []
    for row, name in enumerate(_names(results)):
        values = results.row(row, named=True)
        parts = {words: _number(values.get(column)) for column, words in _PARTS.items()}
        others = {words: _number(values.get(column)) for column, words in marks.items()}
        entries.append(Budget(name, _number(values["gain_mean"]), parts, others, _colour(results, row)))
    longest = max((len(entry.label) for entry in entries), default=8)
    left = 0.4 + 0.082 * min(longest, 40)
    height = 2.35 + 0.8 * max(len(entries), 1)
    canvas = draw.sheet(6.6 + left, height)
    _heading(canvas, title, about)
    ax = draw.place(canvas, left, 1.5, 1.35, 0.75, _SIZE)
    words = None if reference is None else (*reference, f"expected {reference[0]} ± {reference[1]}")
    draw_budgets(ax, entries, label="K [e⁻/DAC]", reference=words)
    key = ax.get_legend()
    if key is not None:
        handles = key.legend_handles
        key.remove()
        canvas.legend(
            handles=handles,
            loc="lower left",
            ncols=3,
            fontsize=_SIZE - 1.5,
            columnspacing=1.1,
            handlelength=1.5,
        )
    return canvas


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def draw_good_pixels(results: pl.DataFrame, *, about: str = "") -> Canvas:
    """Draw the share of pixels with a good fit in each dataset.

    Parameters
    ----------
    results : polars.DataFrame
        ``dataset``, ``n_pixels`` (all that are not masked), ``n_good``, and where known ``label``.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw

    names = _names(results)
    longest = max((len(name) for name in names), default=8)
    left = 0.4 + 0.082 * min(longest, 40)
    canvas = draw.sheet(6.8 + left, 1.7 + 0.45 * max(len(names), 1))
    _heading(canvas, "Pixels with a good fit", about)
    ax = draw.place(canvas, left, 0.68, 1.9, 0.75, _SIZE)
    if not names:
        draw.no_data(ax, "no dataset")
        return canvas
    n, good = (results[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("n_pixels", "n_good"))
    share = 100 * good / np.where(n > 0, n, np.nan)
    place = np.arange(len(names))[::-1]
    ax.barh(place, np.full(len(names), 100.0), color="#eceff2", height=0.66)
    ax.barh(
        place, np.nan_to_num(share), color=[_colour(results, row) for row in range(len(names))], height=0.66
    )
    for y, part, number, total in zip(place, share, good, n, strict=True):
        text = f"{part:.2f} %  ({number:,.0f} of {total:,.0f})" if np.isfinite(part) else "not known"
        ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=_SIZE - 2)
    ax.set_yticks(place, names)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 100), ylim=(-0.6, len(names) - 0.4), xlabel="pixels with a good fit [%]")
    return canvas


def draw_correlation(
    first: ArrayLike,
    second: ArrayLike,
    *,
    labels: tuple[str, str],
    title: str,
    about: str = "",
) -> Canvas:
    """Draw a value of every pixel in one scan against that in another, such as warm against cold.

    Parameters
    ----------
    first, second : array, same shape
        NaN where there is none.
    labels : (str, str)
        Of x and y, with units.
    title, about : str
        Title and second line.
    """
    from firstlight.view import draw
    from firstlight.view.draw_groups import draw_joint

    canvas = draw.sheet(7.2, 6.0)
    _heading(canvas, title, about)
    ax = draw.place(canvas, 0.95, 0.68, 0.3, 0.75, _SIZE)
    draw_joint(ax, first, second, labels=labels, colour_label="pixels")
    return canvas


def draw_collected(
    values: Mapping[str, Mapping[str, ArrayLike]], *, labels: Mapping[str, str], title: str, about: str = ""
) -> Canvas:
    """Draw the distributions of several scans over one another: target on the left, K on the right.

    Parameters
    ----------
    values : mapping of str to mapping of str to array
        For each quantity (``"target"``, ``"K"``) the values of each scan by name.
    labels : mapping of str to str
        Label of x of each quantity, with the unit.
    title, about : str
        Title and second line.
    """
    from firstlight.view import draw
    from firstlight.view.draw_groups import draw_overlaid

    n = max(len(values), 1)
    canvas = draw.sheet(6.2 * n, 5.0)
    _heading(canvas, title, about)
    for number, (name, scans) in enumerate(values.items()):
        ax = draw.place(canvas, 0.95 + 6.2 * number, 0.68, 6.2 * (n - 1 - number) + 0.2, 0.75, _SIZE)
        draw_overlaid(ax, scans, bins=70, labels=(labels[name], "share of pixels"), colours=LABEL_COLOURS)
    return canvas


def draw_energy(
    energies: ArrayLike,
    targets: ArrayLike,
    errors: ArrayLike,
    *,
    pair_energy: float,
    names: Sequence[str] = (),
    labels: Sequence[str] = (),
    about: str = "",
) -> Canvas:
    """Draw the energy of source lines against target; a straight line through several gives K without a baseline.

    Parameters
    ----------
    energies : array, shape (n,)
        Of each line [eV].
    targets, errors : array, shape (n,)
        Mean target and its uncertainty [DAC].
    pair_energy : float
        Energy for an electron-hole pair [eV].
    names : sequence of str
        Of each line: ``"Mn Kα"``.
    labels : sequence of str
        Of the scan each point is from; points of one scan have one colour and one line.
    about : str
        Second line of the title.
    """
    from firstlight.view import draw

    energy, target, error = (np.asarray(values, dtype=np.float64) for values in (energies, targets, errors))
    scans = np.asarray(labels if len(labels) else [""] * energy.size)
    canvas = draw.sheet(7.7, 5.4)
    _heading(canvas, "Energy of the source lines against target", about)
    ax = draw.place(canvas, 0.95, 0.68, 1.5, 0.8, _SIZE)
    usable = np.isfinite(energy) & np.isfinite(target)
    if not usable.any():
        draw.no_data(ax, "no dataset has a target")
        return canvas
    end = 1.15 * float(target[usable].max())
    for number, scan in enumerate(dict.fromkeys(scans[usable].tolist())):
        of_scan = usable & (scans == scan)
        colour = LABEL_COLOURS.get(scan, f"C{number}")
        slope, start, words = _line(target[of_scan], energy[of_scan], error[of_scan], pair_energy)
        ax.errorbar(
            target[of_scan], energy[of_scan] / 1e3, xerr=error[of_scan], fmt="o", color=colour, capsize=3
        )
        x = np.array([0.0, end])
        ax.plot(x, (start + slope * x) / 1e3, color=colour, linewidth=1.2, label=f"{scan} {words}".strip())
    top = 1.2 * float(energy[usable].max()) / 1e3
    written: list[float] = []
    for index, value in sorted(enumerate(energy), key=lambda item: item[1]):
        if (
            index < len(names)
            and usable[index]
            and all(abs(value / 1e3 - other) > 0.03 * top for other in written)
        ):
            ax.axhline(value / 1e3, color="#7d8894", linewidth=0.8, linestyle=":")
            text = f"{names[index]} {value / 1e3:.4g} keV"
            place = ax.get_yaxis_transform()
            ax.text(1.01, value / 1e3, text, transform=place, va="center", fontsize=_SIZE - 2)
            written.append(value / 1e3)
    ax.set(xlim=(0, end), ylim=(0, top), xlabel="target [DAC]", ylabel="energy [keV]")
    ax.legend(loc="upper left")
    return canvas


def _line(target: Values, energy: Values, error: Values, pair_energy: float) -> tuple[float, float, str]:
    """Return slope [eV/DAC], energy at target 0 [eV] and words: a fit, or through 0 where there is one energy."""
    from firstlight.view.draw_fits import with_error

    if np.unique(energy).size < 2:
        slope = float(np.mean(energy / target))
        return slope, 0.0, f"through 0: K {slope / pair_energy:.2f} e⁻/DAC"
    # the uncertainty is that of the target: fit target = a + b energy, and turn the line round
    weight = 1 / np.where(error > 0, error, np.nanmedian(error[error > 0]) if (error > 0).any() else 1.0)
    b, a = (float(value) for value in np.polyfit(energy, target, 1, w=weight))
    covariance = np.linalg.inv(np.stack([energy * weight, weight]) @ np.stack([energy * weight, weight]).T)
    gain = 1 / (b * pair_energy)
    spread = gain * float(np.sqrt(covariance[0, 0])) / abs(b)
    offset = with_error(a, float(np.sqrt(covariance[1, 1])))
    words = f"line: K {with_error(gain, spread)} e⁻/DAC, offset {offset} DAC"
    return 1 / b, -a / b, words
