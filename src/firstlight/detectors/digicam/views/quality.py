"""Whether fits describe the data, and what different fits and parameters have to do with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.detectors.digicam.checks import FITS
from firstlight.detectors.digicam.light_fits import SHARED
from firstlight.detectors.digicam.scene import QUANTITIES, column
from firstlight.detectors.digicam.views.sheet import SIZE, WIDTH, heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.digicam.scene import Scene

    Values = NDArray[np.float64]

__all__ = [
    "draw_comparison",
    "draw_p_values",
    "draw_pairs",
    "draw_rates",
    "fits_of",
    "other_rates",
    "pairs_of",
]

_PAIRS = (
    ("gain", "crosstalk"),
    ("gain", "dark_rate"),
    ("crosstalk", "dark_rate"),
    ("gain", "light"),
    ("gain", "electronics_noise"),
)


def fits_of(scene: Scene) -> list[str]:
    """Return the tables of fits that are there and have a p-value of a pixel."""
    return [name for name in FITS if scene.has(name) and scene.frame(name)["p_value"].drop_nulls().len()]


def draw_p_values(scene: Scene) -> Canvas:
    """Draw the p-values of all fits of pixels that are neither dead nor unlit."""
    from firstlight.view import draw
    from firstlight.view.draw_fits import draw_p_values as draw_distribution

    names = fits_of(scene)
    n_rows = max(-(-len(names) // 3), 1)
    width, height = 3.33 * min(max(len(names), 2), 3), 0.75 + 3.1 * n_rows
    canvas = draw.sheet(width, height)
    heading(canvas, "p-values of the fits", scene.about)
    for number, name in enumerate(names):
        left, down = 0.62 + 3.33 * (number % 3), 0.85 + 3.1 * (number // 3)
        ax = draw.place(canvas, left, height - down - 2.42, width - left - 2.62, down + 0.1, 0.9 * SIZE)
        draw_distribution(
            ax, judged(scene, name), bins=25, limit=0.01, y_label="fits" if number % 3 == 0 else ""
        )
        ax.set_title(FITS[name][0], fontsize=SIZE)
    return canvas


def judged(scene: Scene, product: str) -> Values:
    """Return the p-values of a table of fits, NaN for pixels that have nothing to fit, or are noisy."""
    frame = scene.frame(product)
    left_out = scene.without_fit(product) | scene.flags["noisy"]
    return np.where(left_out[frame["channel"].to_numpy()], np.nan, column(frame, "p_value"))


def pairs_of(scene: Scene) -> list[tuple[str, str]]:
    """Return pairs of quantities of which there are enough values, at most four."""
    known = {
        key: np.count_nonzero(np.isfinite(_values(scene, key)[0])) > 20 for pair in _PAIRS for key in pair
    }
    return [pair for pair in _PAIRS if known[pair[0]] and known[pair[1]]][:4]


def _values(scene: Scene, key: str) -> tuple[Values, Values, str]:
    """Return values, errors and label of a quantity, or of the relative light yield."""
    if key == "light":
        if not scene.has("levels/light"):
            nothing = np.full(scene.flagged.shape, np.nan)
            return nothing, nothing, ""
        return (
            np.where(scene.usable_light, scene.relative_light, np.nan),
            np.full(scene.flagged.shape, np.nan),
            "relative light yield",
        )
    unlit = scene.without_light(key)
    return np.where(unlit, np.nan, scene.values(key)), scene.errors(key), QUANTITIES[key].label


def draw_pairs(scene: Scene) -> Canvas:
    """Draw parameters of the pixels against each other."""
    from firstlight.view import draw
    from firstlight.view.draw_groups import draw_scatter

    pairs = pairs_of(scene)
    n_rows = max(-(-len(pairs) // 2), 1)
    height = 0.75 + 3.55 * n_rows
    canvas = draw.sheet(WIDTH, height)
    heading(canvas, "Parameters against each other", scene.about)
    for number, (one, other) in enumerate(pairs):
        left, down = 0.8 + 5.0 * (number % 2), 0.75 + 3.55 * (number // 2)
        ax = draw.place(canvas, left, height - down - 2.95, WIDTH - left - 4.05, down, SIZE)
        x, x_error, x_label = _values(scene, one)
        y, y_error, y_label = _values(scene, other)
        draw_scatter(
            ax, x, y, errors=(x_error, y_error), common=_common(scene, one, other), marked=scene.flagged, labels=(x_label, y_label)
        )  # fmt: skip
    return canvas


def _common(scene: Scene, one: str, other: str) -> Values | None:
    """Return the covariance of the errors of two parameters where both are of the fit of flashes."""
    if not (scene.has("gain/covariance") and {one, other} <= set(SHARED)):
        return None
    places = [SHARED.index(name) for name in (one, other)]
    return np.asarray(scene.products["gain/covariance"].values[:, places[0], places[1]], dtype=np.float64)


def draw_comparison(scene: Scene) -> Canvas:
    """Draw gain and crosstalk of flashes against those of the dark run, and their differences in standard errors."""
    from firstlight.view import draw
    from firstlight.view.draw_fits import draw_pulls
    from firstlight.view.draw_groups import draw_scatter

    height = 7.85
    canvas = draw.sheet(WIDTH, height)
    heading(canvas, "Dark run against flashes", scene.about)
    usable = ~(scene.flags["dead"] | scene.flags["no_pulses"] | scene.flags["unlit"])
    for number, (name, words, unit) in enumerate(
        (("gain", "gain", " [LSB/p.e.]"), ("crosstalk", "crosstalk", ""))
    ):
        down = 0.75 + 3.55 * number
        ax = draw.place(canvas, 0.8, height - down - 2.95, WIDTH - 0.8 - 4.05, down, SIZE)
        right = draw.place(canvas, 5.8, height - down - 2.95, 0.15, down, SIZE)
        x, x_error = (scene.column("dark/pixels", column) for column in (name, f"{name}_error"))
        y, y_error = (
            scene.flash_gain
            if name == "gain"
            else (scene.column("gain/pixels", name), scene.column("gain/pixels", f"{name}_error"))
        )
        x, y = np.where(usable, x, np.nan), np.where(usable, y, np.nan)
        draw_scatter(
            ax, x, y, errors=(x_error, y_error), marked=scene.flagged, line=1.0, name="equal",
            labels=(f"{words}, dark run{unit}", f"{words}, flashes{unit}"),
        )  # fmt: skip
        good = usable & ~scene.flagged & np.isfinite(x) & np.isfinite(y)
        with np.errstate(invalid="ignore", divide="ignore"):
            pulls = np.where(good, (y - x) / np.hypot(x_error, y_error), np.nan)
            ratio = float(np.median(y[good] / x[good])) if good.any() else float("nan")
        notes = [f"median ratio {ratio:.4f}"] if np.isfinite(ratio) else []
        draw_pulls(
            right,
            pulls,
            bins=32,
            reach=8.0,
            labels=(f"({words} of flashes − dark) / error", "pixels"),
            notes=notes,
        )
        right.set_ylim(0, 1.25 * right.get_ylim()[1])
    return canvas


_RATES = {
    "spe/pixels": "rate of traces without a pulse [MHz]",
    "pulses/pixels": "pulses found by the search [MHz]",
}


def other_rates(scene: Scene) -> list[str]:
    """Return the tables that have a dark rate beside that of the fit."""
    return [name for name in _RATES if np.isfinite(scene.column(name, "rate")).any()]


def draw_rates(scene: Scene) -> Canvas:
    """Draw the dark rate of traces without a pulse, and of the search for pulses, against that of the fit."""
    from firstlight.view import draw
    from firstlight.view.draw_groups import draw_scatter

    canvas = draw.sheet(WIDTH, 4.3)
    heading(canvas, "Dark rate by other methods", scene.about)
    rate, error = scene.column("dark/pixels", "rate"), scene.column("dark/pixels", "rate_error")
    for number, name in enumerate(other_rates(scene)):
        left = 0.8 + 5.0 * number
        ax = draw.place(canvas, left, 0.6, WIDTH - left - 4.05, 0.75, SIZE)
        draw_scatter(
            ax, rate, scene.column(name, "rate"), errors=(error, scene.column(name, "rate_error")),
            marked=scene.flagged, line=1.0, name="equal", labels=("rate of the dark fit [MHz]", _RATES[name]),
        )  # fmt: skip
    return canvas
