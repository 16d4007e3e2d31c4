"""The verb `plot` of the original scripts, with options where the original asked."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import progress_options
from firstlight.detectors.velo.commands_analysis import dataset_options, datasets_of, run_folder
from firstlight.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure as Canvas

    from firstlight.detectors.velo.dataset import Dataset
    from firstlight.detectors.velo.views.scene import Scene

__all__ = ["PARAMETERS", "plot"]

# the original's names of what is drawn, and those of `views.scene.QUANTITIES`
PARAMETERS = {
    "E0": "E0", "f": "f", "s": "sigma", "target": "target", "Fittype": "Fittype", "totalflux": "totalflux",
    "K": "K", "A": "A", "N": "N", "C": "C", "sigma": "sigma", "p-value": "p-value", "saturated": "saturated",
}  # fmt: skip
_SIDE_BY_SIDE = ("E0", "N", "C", "sigma", "target", "K")
_OPTIONS = ("None", "discrepancy", "QQ", "summary")
_SUMMARIES = ("gain", "pixels", "energy", "all")


@dataclass(frozen=True)
class Asked:
    """What the options of a `plot` say.

    Parameters
    ----------
    kinds : tuple of str
        Of ``heatmap``, ``distribution``, ``collection``, ``flux``.
    option : str
        ``discrepancy``, ``QQ``, ``summary`` or nothing.
    parameters : tuple of str
        What is drawn; empty for all.
    separation : str
        Group of pixels.
    options : dict
        The others, by name.
    """

    kinds: tuple[str, ...]
    option: str
    parameters: tuple[str, ...]
    separation: str
    options: dict[str, Any]


def _pair(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
    numbers = _numbers(value, 2, "--pixel", "ROW,COLUMN: 127,151")
    return None if numbers is None else (int(numbers[0]), int(numbers[1]))


def _area(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int, float] | None:
    numbers = _numbers(value, 3, "--area", "ROW,COLUMN,RADIUS: 127,151,5")
    return None if numbers is None else (int(numbers[0]), int(numbers[1]), numbers[2])


def _numbers(text: str | None, count: int, option: str, form: str) -> list[float] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        what = f"{option} {text!r} must be {form}"
        raise UsageError(what)
    return numbers


@click.command()
@click.option("--plot_heatmap", "-plot_heatmap", "-hm", "heatmap", is_flag=True, help="Maps of parameters.")
@click.option(
    "--distribution", "-distribution", "-d", "distribution", is_flag=True, help="Distributions of parameters."
)
@click.option(
    "--plot_results_collection",
    "-plot_results_collection",
    "-rc",
    "collection",
    is_flag=True,
    help="Target and K of several datasets together.",
)
@click.option(
    "--flux_over_thresholdscan",
    "-flux_over_thresholdscan",
    "-flux_vs_thr",
    "flux",
    is_flag=True,
    help="Flux over threshold with fits.",
)
@click.option("--all", "-a", "everything", is_flag=True, help="All plots.")
@click.option(
    "--option",
    "-opt",
    "-o",
    "option",
    type=click.Choice(_OPTIONS),
    default="None",
    help="discrepancy from the chip's value, QQ (normal probability plot), or summary of K.",
)
@click.option(
    "--param",
    "-p",
    "parameter",
    type=click.Choice(list(PARAMETERS)),
    help="What is drawn; everything by default.",
)
@dataset_options
@click.option(
    "--pixel", callback=_pair, metavar="R,C", help="Flux of this pixel: row and column, counted from 0."
)
@click.option("--area", callback=_area, metavar="R,C,RADIUS", help="Flux of the pixels within a radius.")
@click.option("--asic/--no-asic", default=True, help="With the flux of all and of good pixels.")
@click.option(
    "--baseline",
    type=click.Choice(["before", "after"]),
    default="after",
    help="Flux over the distance from the baseline, or over the threshold.",
)
@click.option("--residuals", is_flag=True, help="With the differences of data and fit.")
@click.option("--pulls", is_flag=True, help="With the differences in standard errors.")
@click.option(
    "--compare-to",
    type=click.Choice(["ASIC", "ASICgood"]),
    default="ASICgood",
    show_default=True,
    help="What a discrepancy is from.",
)
@click.option(
    "--summary", type=click.Choice(_SUMMARIES), default="all", show_default=True, help="What a summary shows."
)
@click.option(
    "--collection",
    "collection_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Collection of results; that of the dataset by default.",
)
@click.option(
    "--output",
    "-O",
    type=click.Path(path_type=Path),
    help="Folder of the pictures; plots/ in the results by default.",
)
@click.option("--pdf", is_flag=True, help="PDF in place of PNG.")
@progress_options
def plot(**options: Any) -> None:
    """Draw what `analysis` found.

    Nothing is asked: where the original did, an option says what is wanted.
    """
    from firstlight.cli.common import progress_from

    kinds = tuple(
        name
        for name in ("heatmap", "distribution", "collection", "flux")
        if options[name] or options["everything"]
    )
    if not kinds:
        what = "which plot? -hm, -d, -rc, -flux_vs_thr, or -a for all"
        raise UsageError(what, hint="firstlight velo plot --help")
    option = "" if options["option"] == "None" else options["option"]
    chosen = (options["parameter"],) if options["parameter"] else ()
    asked = Asked(kinds, option, chosen, options["separation"] or "", options)
    found = _datasets(asked)
    progress = progress_from(options)
    pictures = list(_pictures(found, asked))
    if not pictures:
        what = "nothing is left to draw"
        raise UsageError(what, hint="--pixel, --area, or without --no-asic")
    with progress.bar("drawing", len(pictures), "pictures") as advance:
        for path, draw in pictures:
            _save(path.with_suffix(".pdf" if options["pdf"] else ".png"), draw)
            advance(1, path.name)
    if not options["quiet"]:
        for folder in dict.fromkeys(path.parent for path, _ in pictures):
            names = [path.stem for path, _ in pictures if path.parent == folder]
            click.echo(f"{folder}: {', '.join(names)}")


def _datasets(asked: Asked) -> list[Dataset]:
    """Return the datasets that are drawn: for a collection without a name, all of the file."""
    from firstlight.detectors.velo.dataset import find_dataset_file, load_datasets

    options = asked.options
    if options["name"] is None and set(asked.kinds) == {"collection"}:
        with contextlib.suppress(UsageError):
            found = load_datasets(find_dataset_file(options["file"]))
            return [one for one in found if options["label"] in (None, one.label)]
        if options["collection_file"] is not None:
            return []
    return datasets_of(options["name"], options["label"], options["file"])


def _save(path: Path, draw: Callable[[], Canvas]) -> None:
    from firstlight.files import atomic
    from firstlight.view.style import styled

    path.parent.mkdir(parents=True, exist_ok=True)
    with styled():
        canvas = draw()
        with atomic(path) as temporary:
            canvas.savefig(temporary, format=path.suffix[1:], dpi=130)


def _scene(dataset: Dataset) -> Scene:
    """Return the products of a dataset.

    Raises
    ------
    StoreError
        If it has not been analysed.
    """
    from firstlight.detectors.velo import detector
    from firstlight.detectors.velo.views.scene import Scene
    from firstlight.run.chain import Products
    from firstlight.run.finished import context_of
    from firstlight.run.store import open_run

    folder = run_folder(dataset)
    if not (folder / "run.json").is_file():
        what = f"dataset {dataset} has not been analysed"
        hint = f"firstlight velo analysis matrices -dt {dataset.name}"
        raise StoreError(what, where=folder, hint=hint)
    run = open_run(folder)
    scene = Scene(Products(run), context_of(run, detector))
    if not scene.has("calibration/pixels"):
        what = f"of dataset {dataset} only {', '.join(sorted({name.split('/')[0] for name in run}))} is there"
        raise StoreError(what, where=folder, hint=f"firstlight velo analysis matrices -dt {dataset.name}")
    return scene


def _pictures(found: list[Dataset], asked: Asked) -> Iterator[tuple[Path, Callable[[], Canvas]]]:
    """Yield where each picture goes, and how it is drawn."""
    from firstlight.detectors.velo import pictures

    scenes = {}
    for dataset in found:
        try:
            scenes[dataset.name, dataset.label] = _scene(dataset)
        except StoreError:
            # a collection is of what has been analysed
            if set(asked.kinds) != {"collection"}:
                raise
    for dataset in found:
        if (dataset.name, dataset.label) not in scenes:
            continue
        scene = scenes[dataset.name, dataset.label]
        place = asked.options["output"] or dataset.results / (asked.separation or ".") / "plots"
        label = dataset.label or "scan"
        about = f"{dataset.name}, {label}" + (f", {asked.separation}" if asked.separation else "")
        makers = {"heatmap": pictures.maps, "distribution": pictures.distributions, "flux": pictures.fluxes}
        for kind in asked.kinds:
            if kind in makers:
                for name, draw in makers[kind](scene, asked, label, about).items():
                    yield place / name, draw
    if "collection" in asked.kinds:
        if not scenes and asked.options["collection_file"] is None:
            what = "none of the datasets has been analysed"
            raise StoreError(what, hint="firstlight velo analysis matrices -dt NAME")
        yield from pictures.collections(found, scenes, asked)
