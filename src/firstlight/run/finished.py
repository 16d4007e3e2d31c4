"""Finished runs: opened with their context, judged again, drawn again; and runs of imported products."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.data.channels import ChannelMap
from firstlight.detector import get_detector
from firstlight.errors import StoreError, UsageError
from firstlight.files import locked
from firstlight.run.chain import Chain, configuration_of, logged
from firstlight.run.config import build
from firstlight.run.finishing import Products, Settings, draw
from firstlight.run.store import Run
from firstlight.steps.step import Context

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from firstlight.detector import Detector, Plan
    from firstlight.run.progress import Progress
    from firstlight.steps.step import Product

__all__ = ["context_of", "derive_again", "import_products", "redraw_run"]


def import_products(
    detector: Detector,
    path: Path,
    plan: Plan,
    products: Mapping[str, Product],
    output: Path,
    configuration: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    *,
    steps: Collection[str] | None = None,
) -> Run:
    """Return a run of products that were made elsewhere, with all that a chain derives from them.

    Parameters
    ----------
    detector : Detector
        Whose chain.
    path : Path
        The file or folder that the products come from.
    plan : Plan
        Its channel map.
    products : mapping of str to product
        By ``"step/product"``.
    output, configuration, settings, steps
        As of `process`.
    """
    config = build(configuration_of(detector), configuration or {})
    with Run.writing(output, detector.name) as run, logged(run.folder / "run.log"):
        return Chain(detector, run, config, settings or Settings()).run_imported(path, plan, products, steps)


def context_of(run: Run, detector: Detector) -> Context:
    """Return the context of a finished run, from its directory alone."""
    if "channels/map" not in run:
        what = "has no channel map: it is a comparison, or was written by something else"
        raise StoreError(what, where=run.folder, hint="the run that was compared")
    stored = run.record["channels"]
    groups = run["channels/groups"].to_polars() if "channels/groups" in run else pl.DataFrame()
    channels = ChannelMap(
        stored["name"],
        stored["version"],
        run["channels/map"].to_polars(),
        stored["layout"],
        groups,
        stored["labels"],
    )
    options = build(configuration_of(detector), run.record["configuration"], run.folder / "run.json")
    conditions = tuple(entry.get("conditions", {}) for entry in run.record.get("inputs", []))
    return Context(channels, options, tuple(run.record["files"]), bool(run.record["cut"]), conditions)


def derive_again(
    run: Run,
    changes: Mapping[str, Any],
    settings: Settings,
    where: str | Path | None = None,
    *,
    steps: Collection[str] | None = None,
) -> Run:
    """Make the products of a finished run that follow from other products again, with other parameters.

    Nothing is read again: the inputs of the run need not exist any more. What reading depends on (the options
    of the detector) cannot be changed.

    Parameters
    ----------
    run : Run
        A finished run; it is changed.
    changes : mapping
        Step parameters, over those of the run; options that only matter for drawing.
    settings : Settings
        How to run.
    where : str or Path, optional
        Where the changes come from, for messages.
    steps : collection of str, optional
        Only these steps are made; products of others stay while they are up to date. All by default.

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    UsageError
        If an option would need the raw files again.
    """
    detector = get_detector(run.record["detector"])
    merged = dict(run.record["configuration"])
    for key, value in changes.items():
        # one parameter of a step that is given leaves its others as they were
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    context = context_of(run, detector)
    config = build(configuration_of(detector), merged, where)
    chain = Chain(detector, run, config, settings)
    chain.context = replace(context, options=config)
    old = Chain(detector, run, context.options, settings).option_values()
    changed = [key for key, value in chain.option_values().items() if old.get(key) != value]
    if changed:
        what = f"{', '.join(changed)} matter for reading and cannot be changed in a finished run"
        raise UsageError(what, where=run.folder, hint="give the raw files rather than the run")
    with locked(run.folder), logged(run.folder / "run.log"):
        return chain.run_again(steps)


def redraw_run(run: Run, progress: Progress, formats: tuple[str, ...] = ("png",)) -> None:
    """Draw the figures of a finished run again, from its directory alone."""
    detector = get_detector(run.record["detector"])
    context = context_of(run, detector)
    with locked(run.folder):
        draw(detector, Products(run), context, Settings(progress=progress, formats=formats))
        run.save()
