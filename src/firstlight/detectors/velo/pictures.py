"""The pictures that the verb `plot` makes, under the names of the original scripts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.velo.channels import COLUMNS, ROWS
from firstlight.detectors.velo.selections import groups
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.detectors.velo.commands_plot import Asked
    from firstlight.detectors.velo.dataset import Dataset
    from firstlight.detectors.velo.views.curve_data import Curve
    from firstlight.detectors.velo.views.scene import Scene

    Draw = Callable[[], Canvas]

__all__ = ["collections", "distributions", "fluxes", "maps"]

_ROOT_2PI = np.sqrt(2 * np.pi)
# the original's names of parameters, and those of `views.scene.QUANTITIES`
_KEYS = {"s": "sigma"}
_DERIVED = ("f", "A")  # of the default equation of the original; there whatever equation was fitted
_EVERY = ("E0", "f", "s", "target", "Fittype", "totalflux", "K")
_DISTRIBUTED = ("E0", "f", "s", "target", "K", "totalflux", "p-value")
_COMPARED = ("E0", "target", "K")


def _group_of(scene: Scene, separation: str, about: str) -> Scene:
    """Return the scene with its title, and the pixels outside a group taken out as if they were masked."""
    if not separation:
        return replace(scene, title=about)
    inside = groups(scene.legacy_rows)[separation].reshape(ROWS, COLUMNS)
    return replace(scene, outside=~inside, title=about)


def _values(scene: Scene, name: str) -> NDArray[np.float64]:
    """Return a parameter of every pixel by the original's name.

    Raises
    ------
    UsageError
        If the flux equation of the run has no such parameter.
    """
    key = _KEYS.get(name, name)
    found = scene.quantity(key) if key != "Fittype" else scene.image("fit/pixels", "fit_type")
    if found is None and name in {"f", "A"}:
        step, slope, width = (scene.quantity(part) for part in ("N", "C", "sigma"))
        if step is not None and slope is not None and width is not None:
            # C = f A and N = (1 - f) A / (sqrt(2 pi) s) of the default equation
            amplitude = slope + _ROOT_2PI * width * step
            with np.errstate(invalid="ignore", divide="ignore"):
                found = amplitude if name == "A" else slope / amplitude
    if found is None:
        what = f"the flux equation of this run has no parameter {name!r}"
        raise UsageError(what, where="-p", hint="--param E0, target or K; or another model in the dataset")
    return found


def _has(scene: Scene, name: str) -> bool:
    try:
        return bool(np.isfinite(_values(scene, name)).any())
    except UsageError:
        return False


def _label(name: str) -> str:
    from firstlight.detectors.velo.views.scene import QUANTITIES

    own = {"f": "f: fraction of the linear part", "A": "A: amplitude [hits/s/DAC]"}
    return own.get(name) or QUANTITIES[_KEYS.get(name, name)].label


def maps(scene: Scene, asked: Asked, label: str, about: str) -> dict[str, Draw]:
    """Return maps of parameters by their place below the folder of plots."""
    from firstlight.detectors.velo.views.maps import draw_fit_types, draw_parameter_map
    from firstlight.detectors.velo.views.pages import map_figure

    scene = _group_of(scene, asked.separation, about)
    names = asked.parameters or tuple(name for name in _EVERY if name == "Fittype" or _has(scene, name))
    found: dict[str, Draw] = {}
    for name in names:
        place = f"heat_map_plots/{name}/{name}_heatmap_{label}"
        if name == "Fittype":
            kinds = _values(scene, name)
            found[place] = partial(draw_fit_types, kinds, masked=scene.masked, dead=scene.dead, about=about)
            continue
        values = _values(scene, name)
        figure = None if name in _DERIVED else map_figure(scene, _KEYS.get(name, name))
        found[place] = (
            figure.draw
            if figure is not None
            else partial(
                draw_parameter_map, values, title=name, label=_label(name), masked=scene.masked,
                good=scene.good, dead=scene.dead, about=about,
            )
        )  # fmt: skip
    return found


def distributions(scene: Scene, asked: Asked, label: str, about: str) -> dict[str, Draw]:
    """Return distributions of parameters, or discrepancies, by their place below the folder of plots."""
    scene = _group_of(scene, asked.separation, about)
    every = asked.options["everything"]
    found: dict[str, Draw] = {}
    if asked.option in {"", "summary"} or every:
        names = asked.parameters or tuple(name for name in _DISTRIBUTED if _has(scene, name))
        for name in names:
            found[f"{name}_distribution_{label}"] = _distribution(scene, name, about)
    if asked.option == "discrepancy" or every:
        reference = asked.options["compare_to"]
        for name in asked.parameters or _COMPARED:
            place = f"discrepancy/{name}_discrepancy_{reference}_{label}"
            found[place] = _discrepancy(scene, name, reference, asked.separation)
    if asked.option == "QQ" or every:
        found[f"QQ_{label}"] = _quantiles(scene, asked.parameters or ("target", "K"), about)
    return found


def _good(scene: Scene, name: str) -> NDArray[np.float64]:
    values = _values(scene, name)
    return values if scene.good is None else np.where(scene.good, values, np.nan)


def _distribution(scene: Scene, name: str, about: str) -> Draw:
    from firstlight.detectors.velo.views.distributions import draw_distribution
    from firstlight.detectors.velo.views.maps import draw_reasons
    from firstlight.detectors.velo.views.pages import distribution_figure

    if name == "Fittype":
        kinds = scene.image("fit/pixels", "fit_type")
        words = {"good": 1, "bad": 0, "no convergence": -1, "too few hits": -2}
        counts = {word: int(np.sum((kinds == code) & ~scene.masked)) for word, code in words.items()}
        return partial(draw_reasons, counts, int((~scene.masked).sum()), about=about, title="Types of fit")
    figure = None if name in _DERIVED else distribution_figure(scene, _KEYS.get(name, name))
    if figure is not None:
        draw: Draw = figure.draw
        return draw
    return partial(
        draw_distribution, _values(scene, name), label=_label(name), title=name, good=scene.good, about=about
    )


def _discrepancy(scene: Scene, name: str, reference: str, separation: str) -> Draw:
    from firstlight.detectors.velo.views.pages import discrepancy_figure

    good = reference == "ASICgood"
    selection = _selection(separation, good)
    key = _KEYS.get(name, name)
    figure = None if key in {"Fittype", *_DERIVED} else discrepancy_figure(scene, key, selection)
    if figure is None:
        what = f"{name} has no value of the summed curve, or no uncertainty of a pixel, to be compared with"
        raise UsageError(what, where="-p", known=list(_COMPARED))
    draw: Draw = figure.draw
    return draw


def _selection(separation: str, good: bool) -> str:
    if separation:
        return f"{separation} good" if good else separation
    return "good" if good else "all"


def _quantiles(scene: Scene, names: Sequence[str], about: str) -> Draw:
    from firstlight.detectors.velo.views.distributions import draw_probability_plots

    return partial(draw_probability_plots, {_label(name): _good(scene, name) for name in names}, about=about)


def fluxes(scene: Scene, asked: Asked, label: str, about: str) -> dict[str, Draw]:
    """Return flux curves by their place below the folder of plots: chip, good pixels, a pixel, an area."""
    from firstlight.detectors.velo.views import curves
    from firstlight.detectors.velo.views.pages import example

    options = asked.options
    every = options["everything"]
    panels = {"residuals": options["residuals"] or every, "pulls": options["pulls"] or every, "about": about}
    before = options["baseline"] == "before"
    tail = label + "".join(f"_{name}" for name in ("residuals", "pulls") if panels[name])
    tail += "_baseline" if before else ""
    found: dict[str, Draw] = {}
    if options["asic"]:
        make = curves.curve_of_aligned if before else curves.curve_of_selection
        for word, good in (("ASIC", False), ("ASICgood", True)):
            curve = partial(make, scene, _selection(asked.separation, good))
            found[f"flux_vs_thr_{word}_{tail}"] = partial(_draw_curve, curve, panels)
    pixel: tuple[int, int] | None = options["pixel"] or (example(scene) if every else None)
    if pixel is not None:
        place = f"ind_pixel_plots/flux_vs_thr_{pixel[0]}x{pixel[1]}_{tail}"
        found[place] = partial(_draw_curve, partial(_pixel, scene, pixel[0], pixel[1], before), panels)
    if options["area"] is not None:
        row, column, radius = options["area"]
        place = f"ind_pixel_plots/flux_vs_thr_{row}x{column}_r{radius:g}_{tail}"
        curve = partial(_area, scene, row, column, radius, before)
        found[place] = partial(_draw_curve, curve, panels)
    return found


def _area(scene: Scene, row: int, column: int, radius: float, before: bool) -> Curve:
    from firstlight.detectors.velo.views.curves import curve_of_area

    curve = curve_of_area(scene, row, column, radius)
    baseline = scene.image("baseline/pixels", "baseline")
    if not before or baseline is None:
        return curve
    y, x = np.indices(baseline.shape)
    near = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    # the curves of the pixels are added as they are, and the sum is shifted by their mean baseline
    return curve.from_baseline(float(np.nanmean(baseline[near])))


def _pixel(scene: Scene, row: int, column: int, before: bool) -> Curve:
    from firstlight.detectors.velo.views.curves import curve_of_pixel

    curve = curve_of_pixel(scene, row, column)
    baseline = scene.image("baseline/pixels", "baseline")
    if not before:
        return curve
    if baseline is None or not np.isfinite(baseline[row, column]):
        what = f"pixel {row},{column} has no baseline"
        raise UsageError(what, where="--pixel", hint="--baseline after")
    return curve.from_baseline(float(baseline[row, column]))


def _draw_curve(make: Callable[[], Curve], panels: Mapping[str, Any]) -> Canvas:
    from firstlight.detectors.velo.views.curves import draw_flux_curve

    return draw_flux_curve(make(), **panels)


# -- collections of datasets -----------------------------------------------------------------------------------


def collections(
    found: Sequence[Dataset], scenes: Mapping[tuple[str, str], Scene], asked: Asked
) -> Iterator[tuple[Path, Draw]]:
    """Yield pictures of several datasets together, with the places where they go."""
    by_name: dict[str, dict[str, Scene]] = {}
    for (name, label), scene in scenes.items():
        by_name.setdefault(name, {})[label or "scan"] = _group_of(scene, asked.separation, f"{name}, {label}")
    file = asked.options["collection_file"] or (found[0].collection if found else None)
    place = asked.options["output"] or (file.parent / "plots" if file is not None else None)
    if file is None or place is None:
        return
    for name, labelled in by_name.items():
        for stem, draw in _of_dataset(name, labelled, asked).items():
            yield place / stem, draw
    if asked.option == "summary" or asked.options["everything"]:
        yield from _summaries(file, place, asked)


def _of_dataset(name: str, labelled: Mapping[str, Scene], asked: Asked) -> dict[str, Draw]:
    """Return pictures of all labels of one dataset together, by their names."""
    from firstlight.detectors.velo.views import collection

    every = asked.options["everything"]
    tail = "_".join(labelled)
    values = {key: {label: _good(scene, key) for label, scene in labelled.items()} for key in ("target", "K")}
    texts = {key: _label(key) for key in ("target", "K")}
    found: dict[str, Draw] = {}
    if asked.option == "" or every:
        found[f"{name}_target_eDAC_histograms_{tail}"] = partial(
            collection.draw_collected, values, labels=texts, title="Target and K of good pixels", about=name
        )
        for label, scene in labelled.items():
            found[f"{name}_countsdiff_{label}"] = partial(_differences, scene, f"{name}, {label}")
        if len(labelled) > 1:
            one, other = list(labelled)[:2]
            found[f"{name}_K_{one}_{other}"] = partial(
                collection.draw_correlation, values["K"][one], values["K"][other],
                labels=(f"K, {one} [e⁻/DAC]", f"K, {other} [e⁻/DAC]"), title="K of every pixel at two temperatures",
                about=name,
            )  # fmt: skip
    if asked.option == "QQ" or every:
        flat = {f"{texts[key]}, {label}": own for key in values for label, own in values[key].items()}
        found[f"{name}_target_eDAC_QQ_{tail}"] = partial(_probability, flat, name)
    if asked.option == "discrepancy" or every:
        for label, scene in labelled.items():
            for key in ("target", "K"):
                draw = _discrepancy(scene, key, asked.options["compare_to"], asked.separation)
                found[f"{name}_{key}_discrepancy_{label}"] = draw
    return found


def _probability(values: Mapping[str, NDArray[np.float64]], about: str) -> Canvas:
    from firstlight.detectors.velo.views.distributions import draw_probability_plots

    return draw_probability_plots(values, about=about)


def _differences(scene: Scene, about: str) -> Canvas:
    from firstlight.detectors.velo.views.distributions import draw_groups
    from firstlight.detectors.velo.views.scene import groups_of

    return draw_groups(
        _good(scene, "K"), label=_label("K"), title="K of even and odd columns",
        groups=groups_of(scene.legacy_rows), about=about,
    )  # fmt: skip


def _summaries(file: Path, place: Path, asked: Asked) -> Iterator[tuple[Path, Draw]]:
    """Yield summaries of all rows of a collection of results."""
    from firstlight.detectors.velo.views import collection

    results = summary_of(file)
    if asked.options["name"] is not None and asked.options["label"] is not None:
        results = results.filter(pl.col("label") == asked.options["label"])
    wanted = asked.options["summary"]
    if wanted in {"gain", "all"}:
        yield place / "results_summary", partial(collection.draw_gain_summary, results)
    counted = results.filter(pl.col("n_pixels") > 0) if "n_pixels" in results.columns else results.head(0)
    if wanted in {"pixels", "all"} and counted.height:
        yield place / "results_summary_pixels", partial(collection.draw_good_pixels, counted)
    if wanted in {"energy", "all"}:
        yield place / "results_summary_energy_vs_target", partial(_energy, results)


def summary_of(file: Path) -> pl.DataFrame:
    """Return a collection of results as a table with the names of this package.

    Raises
    ------
    UsageError
        If the file is not there.
    """
    from firstlight.detectors.velo.legacy import read_collection

    if not file.is_file():
        what = "there is no collection of results"
        raise UsageError(what, where=file, hint="firstlight velo analysis matrices -dt NAME")
    names = {
        "targetmean": "target_mean", "utargetmean": "target_spread", "Kmean": "gain_mean", "Kstd": "gain_spread",
        "KASIC": "gain_asic", "KASICgood": "gain_asicgood", "pixels": "n_pixels", "good": "n_good",
        "Kstatistical": "gain_statistical", "Kbaseline": "gain_baseline", "Kcommon": "gain_common",
    }  # fmt: skip
    rows = read_collection(file)
    frame = pl.DataFrame(
        {
            "dataset": [_short(row) for row in rows],
            "label": [row["label"] for row in rows],
            **{new: [_float(row.get(old)) for row in rows] for old, new in names.items()},
        }
    )
    return frame.filter(pl.col("gain_mean").is_not_nan())


def _short(row: Mapping[str, str]) -> str:
    return row["Results"] + (", baseline before" if row["baseline"] == "before" else "")


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _energy(results: pl.DataFrame) -> Canvas:
    from firstlight.detectors.velo.options import CalibrationParameters
    from firstlight.detectors.velo.views.collection import draw_energy

    parameters = CalibrationParameters()
    # the energy of a row is what its target and gain stand for
    pairs = results["gain_mean"].to_numpy() * results["target_mean"].to_numpy()
    errors = results["target_spread"].to_numpy() / np.sqrt(np.maximum(results["n_good"].to_numpy(), 1))
    return draw_energy(
        pairs * parameters.energy_per_pair, results["target_mean"].to_numpy(), errors,
        pair_energy=parameters.energy_per_pair, labels=results["label"].to_list(),
    )  # fmt: skip
