"""The verbs that write and list dataset files: `init`, `convert`, `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import json_option
from firstlight.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firstlight.detectors.velo.dataset import Dataset
    from firstlight.detectors.velo.dataset_writer import Draft

__all__ = ["convert", "datasets", "init"]

Command = Any


def _output_options(command: Command) -> Command:
    """Add where the dataset file goes."""
    command = click.option("--quiet", "-q", is_flag=True, help="Say nothing that is not a problem.")(command)
    command = click.option("--force", is_flag=True, help="Overwrite the file if it is there.")(command)
    return click.option(
        "--output", "-o", type=click.Path(path_type=Path), default="velo.toml", show_default=True,
        help="Dataset file to write.",
    )(command)  # fmt: skip


def _refuse_to_overwrite(output: Path, *, force: bool) -> None:
    if output.is_dir():
        what = "is a folder, not a dataset file"
        raise UsageError(what, where=output, hint=f"-o {output / 'velo.toml'}")
    if output.suffix != ".toml":
        what = f"a dataset file ends in .toml, not in {output.suffix!r}"
        raise UsageError(what, where=output, hint=f"-o {output.with_suffix('.toml')}")
    if output.exists() and not force:
        what = "exists already"
        raise UsageError(what, where=output, hint="--force overwrites it; another -o FILE keeps it")


def _refuse_odd_words(option: str, words: Sequence[str]) -> None:
    from firstlight.detectors.velo.dataset_writer import word_of

    for word in words:
        if word_of(word) != word:
            what = f"{option} {word!r} stands in names of files: letters, digits and _ . + - only"
            raise UsageError(what, hint=f"{option} {word_of(word)}")


def _write(output: Path, drafts: Sequence[Draft], head: Sequence[str], *, explain_all: bool) -> list[Dataset]:
    """Write a dataset file that can be read again, or none."""
    import tempfile

    from firstlight.detectors.velo.dataset import load_datasets
    from firstlight.detectors.velo.dataset_writer import dataset_text
    from firstlight.files import write_text

    text = dataset_text(drafts, head, explain_all=explain_all)
    with tempfile.TemporaryDirectory() as folder:
        # a file that cannot be read is told now rather than at the first fit
        trial = Path(folder) / output.name
        trial.write_text(text, encoding="utf-8")
        try:
            load_datasets(trial)
        except ConfigError as error:
            what = f"is not written, it could not be read again: {error.what}"
            raise ConfigError(what, where=output, known=error.known, hint=error.hint) from error
    write_text(output, text)
    return load_datasets(output)


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path(path_type=Path))
@click.option("--name", default="calibration", show_default=True, metavar="NAME", help="Name of the dataset.")
@click.option(
    "--label", "labels", multiple=True, metavar="LABEL",
    help="Temperature label; one for each folder in their order. From the names of the folders by default.",
)  # fmt: skip
@_output_options
def init(
    folders: tuple[Path, ...], name: str, labels: tuple[str, ...], output: Path, force: bool, quiet: bool
) -> None:
    """Write a dataset file from what is in one or several folders of frames.

    Chip, shutter, acquisitions and thresholds come from the names of the files. Every key is explained in the file,
    with its alternatives.
    """
    from firstlight.detectors.velo.dataset_writer import scan_drafts

    _refuse_to_overwrite(output, force=force)
    _refuse_odd_words("--name", (name,))
    _refuse_odd_words("--label", labels)
    if labels and len(labels) != len(folders):
        what = f"--label is there {len(labels)} times for {len(folders)} folders"
        raise UsageError(what, hint="one --label for each folder, in their order")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        what = f"--label {twice[0]} is there twice"
        raise UsageError(what, hint="name and label together say which dataset is meant")
    drafts = scan_drafts(folders, output, name, labels)
    written = _write(output, drafts, (), explain_all=True)
    if quiet:
        return
    for draft, dataset in zip(drafts, written, strict=True):
        scan = draft.values["scan"]
        thresholds = scan["threshold"]
        click.echo(
            f"{dataset}: {dataset.prefix}, thresholds {thresholds['start']} to {thresholds['stop']} in steps of"
            f" {thresholds['step']} DAC, {scan['acquisitions']} acquisitions of {scan['shutter']}"
        )
        for line in (*draft.comments.get("baseline.choice", ()), *draft.notes):
            click.echo(f"  {line}")
    click.echo(f"written: {output}")
    click.echo(f"next:    firstlight velo analysis flux -dt {written[0].name}")


@click.command()
@click.argument("source", metavar="DATAINFO", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, metavar="NAME", help="Only this dataset; may be repeated.")
@click.option(
    "--name",
    default="calibration",
    show_default=True,
    metavar="NAME",
    help="Name of the dataset of a dataset.json.",
)
@click.option(
    "--legacy", is_flag=True,
    help="Everything as in the original: least squares, its baseline, uncertainties, rows and energy.",
)  # fmt: skip
@_output_options
def convert(
    source: Path, only: tuple[str, ...], name: str, legacy: bool, output: Path, force: bool, quiet: bool
) -> None:
    """Take the datasets of the original's datainfo.py over into a dataset file.

    DATAINFO is that file, which is read and not executed, or the dataset.json of one scan. Flux equations and start
    values stay those of the original. What was not understood is told with its line.
    """
    from firstlight.detectors.velo.convert import convert as convert_file

    _refuse_to_overwrite(output, force=force)
    _refuse_odd_words("--name", (name,))
    found = convert_file(source, output, only, name=name, legacy=legacy)
    kind = (
        "as the original analysed them"
        if legacy
        else "the fit is by likelihood unless fit.estimator says otherwise"
    )
    head = [f"Taken over from {source.name}: {kind}."]
    written = _write(output, found.drafts, head, explain_all=False)
    for problem in found.problems:
        click.echo(f"{source}: {problem}", err=True)
    if quiet:
        return
    for dataset in written:
        there = "" if dataset.data.is_dir() else "  (not on this machine)"
        click.echo(f"{dataset}: {dataset.fit.model}, {dataset.data}{there}")
    told = f", {_number(len(found.problems), 'note')} above" if found.problems else ""
    click.echo(f"written: {output}, {_number(len(written))}{told}")


@click.command()
@click.option(
    "--datasets", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="File of datasets; velo.toml here or in a folder above by default.",
)  # fmt: skip
@json_option
def datasets(file: Path | None, as_json: bool) -> None:
    """List the datasets of a file, and whether their data and results are there."""
    import json

    from firstlight.detectors.velo.dataset import find_dataset_file, load_datasets

    path = find_dataset_file(file)
    found = load_datasets(path)
    rows = [_row(dataset) for dataset in found]
    if as_json:
        click.echo(json.dumps({"file": str(path.absolute()), "datasets": rows}, indent=1))
        return
    click.echo(f"{path}: {_number(len(found))}")
    for dataset, row in zip(found, rows, strict=True):
        click.secho(f"{dataset}", bold=True)
        click.echo(f"  model    {dataset.fit.model}, baseline {dataset.baseline.choice}")
        for kind in ("data", "results"):
            colour = {"there": None, "missing": "red", "no frames": "red"}.get(str(row[f"{kind}_state"]))
            state = click.style(f"{row[f'{kind}_state']:<9}", fg=colour)
            click.echo(f"  {kind:<8} {state} {row[kind]}")


def _number(count: int, noun: str = "dataset") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _row(dataset: Dataset) -> dict[str, Any]:
    """Return one dataset as it is listed."""
    from firstlight.detectors.velo.frames import has_frames

    data = "missing"
    if dataset.data.is_dir():
        data = "there" if has_frames(dataset.data) else "no frames"
    results = "missing"
    if dataset.results.is_dir():
        results = "there" if any(dataset.results.iterdir()) else "empty"
    elif not dataset.results.exists():
        results = "not yet"
    return {
        "name": dataset.name,
        "label": dataset.label,
        "prefix": dataset.prefix,
        "data": str(dataset.data),
        "data_state": data,
        "results": str(dataset.results),
        "results_state": results,
        "collection": str(dataset.collection),
        "collection_state": "there" if dataset.collection.is_file() else "not yet",
        "model": dataset.fit.model,
        "baseline": dataset.baseline.choice,
        "separation": dataset.selection.separation,
    }
