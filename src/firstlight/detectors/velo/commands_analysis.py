"""The verb `analysis` of the original scripts: flux, fitter, matrices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import execution_options, json_option, progress_from, progress_options
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firstlight.detectors.velo.dataset import Dataset
    from firstlight.run.store import Run

__all__ = ["analysis", "dataset_options", "datasets_of", "run_folder"]

Command = Any
_STAGES = {"flux": "scan", "fitter": "fit", "matrices": "calibration"}


def dataset_options(command: Command) -> Command:
    """Add what says which dataset: its name, its label, the group of pixels, the file in which it stands."""
    options = (
        click.option("--dataset", "-dt", "name", metavar="NAME", help="Dataset; may be left out where there is only one."),
        click.option("--temperature", "-t", "label", metavar="LABEL", help="One label of it: warm, cold; all by default."),
        click.option(
            "--separation", "-sep", "separation", metavar="GROUP", callback=_known_group,
            help="even or odd columns, rows 0 and 15 of 16, superpixel_even, superpixel_odd.",
        ),
        click.option(
            "--datasets", "file", type=click.Path(path_type=Path), metavar="FILE",
            help="File of datasets; velo.toml here or in a folder above by default.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _known_group(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from firstlight.detectors.velo.selections import GROUPS

    if value and value not in GROUPS:
        raise UsageError.unknown("group of pixels", value, GROUPS, where="-sep")
    return value


def datasets_of(name: str | None, label: str | None, file: Path | None) -> list[Dataset]:
    """Return the datasets that the options of a verb name."""
    from firstlight.detectors.velo.dataset import find_dataset_file, load_datasets, select

    return select(load_datasets(find_dataset_file(file)), name, label)


def run_folder(dataset: Dataset) -> Path:
    """Return the run directory of a dataset."""
    return dataset.results / (dataset.label or "run")


def _changes(dataset: Dataset, options: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of the configuration that options ask for."""
    from firstlight.detectors.velo.options import MODELS

    fit: dict[str, Any] = {}
    if options.get("legacy"):
        fit.update(estimator="legacy", model="legacy")
    if options.get("two_widths"):
        fit["model"] = "legacy_two_widths"
    if fit and dataset.fit.start and len(dataset.fit.start) != len(MODELS[fit["model"]]):
        # the original begins with a second width of 8 DAC
        start = list(dataset.fit.start)
        fit["start"] = [*start[:3], 8.0, start[-1]] if len(start) == 4 else []
    changes: dict[str, Any] = {"fit": fit} if fit else {}
    if options.get("baseline_rule"):
        changes["baseline"] = {"choice": options["baseline_rule"]}
    return changes


def _analyse(stage: str, options: dict[str, Any]) -> None:
    """Do one stage for all datasets that are named, those that cannot be read last."""
    import json

    from firstlight.errors import InputError

    found = datasets_of(options["name"], options["label"], options["file"])
    failed: list[InputError] = []
    told = []
    for dataset in found:
        try:
            run, written = _one(stage, dataset, options)
        except InputError as error:
            failed.append(error)
            continue
        told.append(
            {
                "dataset": dataset.name,
                "label": dataset.label,
                "run": str(run.folder),
                "files": [str(path) for path in written],
            }
        )
        if not options["as_json"] and not options["quiet"]:
            _say(stage, dataset, run, written)
    if options["as_json"]:
        click.echo(json.dumps(told, indent=1))
    if failed:
        if len(failed) == 1:
            raise failed[0]
        what = f"{len(failed)} of {len(found)} datasets cannot be read:" + "".join(
            f"\n  {error}" for error in failed
        )
        raise InputError(what)


def _say(stage: str, dataset: Dataset, run: Run, written: Sequence[Path]) -> None:
    click.secho(f"{dataset}: {stage}", bold=True)
    for entry in run.record.get("summary", []):
        click.echo(f"  {entry['label']:<28} {entry['value']} {entry.get('unit', '')}".rstrip())
    for check in run.record.get("checks", []):
        if check["verdict"] in {"bad", "warn"}:
            colour = {"bad": "red", "warn": "yellow"}[check["verdict"]]
            click.echo(f"  {click.style(check['verdict'], fg=colour):<5} {check['name']}: {check['rule']}")
    folders = sorted({path.parent for path in written})
    for folder in folders:
        names = [path.name for path in written if path.parent == folder]
        files = "1 file" if len(names) == 1 else f"{len(names)} files"
        click.echo(f"  {files} in {folder}: {names[0]}" + (" ..." if len(names) > 1 else ""))
    report = run.folder / "report" / "index.html"
    if report.exists():
        click.echo(f"  report: {report}")


def _kept(folder: Path, stage: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes that options of this stage ask for, over those of the fitter before it."""
    from firstlight.run.store import open_run

    if stage == "fitter" or not (folder / "run.json").is_file():
        return changes
    choices = open_run(folder).record.get("choices", {})
    if any(key != "written" for key in choices):
        told = ", ".join(f"{key}: {value}" for key, value in choices.items() if key != "written")
        click.echo(f"as asked of the fitter before: {told} (fitter without options undoes it)", err=True)
    return {**choices, **changes}


def _keep(run: Run, changes: dict[str, Any], stage: str) -> None:
    """Write down what the fitter was asked for: what follows from its files goes with it."""
    from firstlight.files import locked

    if stage == "fitter":
        with locked(run.folder):
            run.record["choices"] = changes
            run.save()


def _one(stage: str, dataset: Dataset, options: dict[str, Any]) -> tuple[Run, list[Path]]:
    """Bring the run of a dataset up to a stage, and write the files of the original for it."""
    import sys

    from firstlight.detectors.velo import detector, legacy
    from firstlight.detectors.velo.chain import CHAIN
    from firstlight.run.chain import Products, Settings, process
    from firstlight.run.execution import Executor
    from firstlight.run.finished import context_of
    from firstlight.run.store import open_run

    folder = run_folder(dataset)
    done: set[str] = set()
    if (folder / "run.json").is_file():
        done = set(open_run(folder).record.get("steps", {}))
    names = [step.name for step in CHAIN]
    last = max(names.index(name) for name in (_STAGES[stage], *(done & set(names))))
    chain = CHAIN[: last + 1]
    changes = _kept(folder, stage, _changes(dataset, options))
    earlier = changes.pop("written", None)
    baseline = options.get("baseline") or earlier or dataset.fit.baseline
    if baseline != dataset.fit.baseline:
        changes.setdefault("fit", {})["baseline"] = baseline
    configuration = dataset.configuration(changes, steps={step.name for step in chain})
    partial = replace(detector, chain=chain, exports=None)
    plots = stage == "matrices" and not options["no_plots"]
    settings = Settings(
        executor=Executor(jobs=options["jobs"], dask=options["dask"]),
        progress=progress_from(options),
        force=options["redo"],
        plots=plots,
        command=("firstlight", *sys.argv[1:]),
    )
    run = process(partial, [dataset.require_data()], folder, configuration, settings, where=dataset.where)
    products, context = Products(run), context_of(run, detector)
    separation = options["separation"] or dataset.selection.separation
    before = baseline == "before"
    if stage != "flux":
        _keep(run, {**_changes(dataset, options), "written": baseline}, stage)
    naming = legacy.naming_of(products, context, separation=separation, before=before)
    if dataset.label:
        naming = replace(naming, label=dataset.label)
    place = dataset.results / separation if separation else dataset.results
    if stage == "flux":
        return run, legacy.write_flux(products, context, place, naming)
    if stage == "fitter":
        return run, legacy.write_parameters(products, context, place, naming)
    results = dataset.results.name
    written = legacy.write_matrices(products, context, place, naming, curves=options["asic"])
    written.append(legacy.write_log(products, place, naming, results))
    row = legacy.collection_row(products, naming, results, curves=options["asic"])
    return run, [*written, legacy.collect(dataset.collection, row)]


@click.group()
def analysis() -> None:
    """From frames to matrices, step by step, with the files of the original scripts."""


def _common(command: Command) -> Command:
    options = (
        dataset_options,
        click.option("--redo", is_flag=True, help="Do all again, although nothing changed."),
        execution_options,
        json_option,
        progress_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


_baseline_option = click.option(
    "--baseline", type=click.Choice(["before", "after"]),
    help="Take the baseline off before or after the fit; for a pixel both are the same.",
)  # fmt: skip
_rule_option = click.option(
    "--baseline-rule", metavar="RULE", help="control, cubic, linear15, legacy16, predicted, or a file."
)


@analysis.command()
@_common
def flux(**options: Any) -> None:
    """Add up frames to the flux of every pixel at every threshold.

    Frames that are missing, broken or excluded are listed in the run and in its report.
    """
    _analyse("flux", {**options, "no_plots": True})


@analysis.command()
@_common
@click.option("--two-widths", "-s2", is_flag=True, help="The original's equation with two widths.")
@click.option("--legacy", is_flag=True, help="Least squares as in the original: one zero spoils a pixel.")
@_baseline_option
@_rule_option
def fitter(**options: Any) -> None:
    """Fit the flux equation to every pixel: matrices of parameters and of fit types."""
    _analyse("fitter", {**options, "no_plots": True})


@analysis.command()
@_common
@click.option("--two-widths", "-s2", is_flag=True, help="The original's equation with two widths.")
@click.option("--legacy", is_flag=True, help="Least squares as in the original: one zero spoils a pixel.")
@_baseline_option
@_rule_option
@click.option(
    "--asic/--no-asic", default=True, show_default=True, help="With the curves of all and of good pixels."
)
@click.option("--no-plots", is_flag=True, help="No figures and no report.")
def matrices(**options: Any) -> None:
    """Target and gain of every pixel, of the chip, and the row in the collection of results."""
    _analyse("matrices", options)
