"""Verbs on files and runs: simulated data, sums of runs and histograms, pictures of chosen pixels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import progress_from, progress_options
from firstlight.detectors.digicam.commands_steps import whole_numbers
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firstlight.run.finishing import Settings

__all__ = ["FILES"]


def _settings(options: dict[str, Any]) -> Settings:
    from firstlight.run.finishing import Settings

    return Settings(
        progress=progress_from(options),
        plots=not options.get("no_plots", False),
        command=("firstlight", *sys.argv[1:]),
    )


@click.command("merge")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Run directory or file of the sum."
)
@click.option("--no-plots", is_flag=True, help="No figures and no report.")
@progress_options
def merge(inputs: tuple[Path, ...], output: Path, **options: Any) -> None:
    """Add up run directories, histogram files of the original's layout (.npz), or cubes of runs (.h5).

    INPUTS are of one kind. Of runs all that was counted is added, and all fits are made again; histograms of another
    camera, or with other bins, are refused.

    \b
    Examples:
      firstlight digicam merge night1 night2 -o both
      firstlight digicam merge a/adc_hv_on.npz b/adc_hv_on.npz -o adc_hv_on.npz
      firstlight digicam merge a/products/samples/dark.h5 b/products/samples/dark.h5 -o dark.h5
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.legacy.merging import kind_of_input, merge_cubes, merge_npz

    kinds = [kind_of_input(path) for path in inputs]
    if len(inputs) < 2:
        what = "two inputs or more are needed"
        raise UsageError(what)
    if len(set(kinds)) > 1:
        names = {"run": "a run", "npz": "a histogram file", "cube": "a cube"}
        what = f"{inputs[0].name} is {names[kinds[0]]}, and not all others are"
        raise UsageError(what, hint="runs with runs, .npz with .npz, .h5 with .h5")
    if output in inputs:
        what = "the output is one of the inputs"
        raise UsageError(what, where=output)
    if kinds[0] == "npz":
        key, total = merge_npz(inputs, output)
        _say(options, f"  wrote {output}: {key}, {total:,.0f} entries of {len(inputs)} files")
    elif kinds[0] == "cube":
        cube = merge_cubes(inputs, output)
        _say(options, f"  wrote {output}: {cube!r} of {len(inputs)} files")
    else:
        _merge_runs(inputs, output, options)


def _merge_runs(inputs: Sequence[Path], output: Path, options: dict[str, Any]) -> None:
    from firstlight.cli.common import tell
    from firstlight.detectors.digicam.legacy.merged_runs import merge_runs
    from firstlight.run.store import open_run

    run = merge_runs([open_run(path) for path in inputs], output, _settings(options))
    if not options["quiet"]:
        for note in run.record["notes"]:
            click.echo(f"  {note}")
    tell(run, as_json=False, quiet=options["quiet"], fail_on=None)


def _say(options: dict[str, Any], line: str) -> None:
    if not options["quiet"]:
        click.echo(line)


@click.command("display")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--pixels",
    metavar="NUMBERS",
    callback=whole_numbers("--pixels"),
    help="Pixels whose spectra are drawn, with commas.",
)
@click.option("--level", type=float, help="Light level whose spectra are drawn [DAC].")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Directory of pictures of files; beside each file by default.",
)
@progress_options
def display(
    inputs: tuple[Path, ...],
    pixels: tuple[int, ...],
    level: float | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Pictures of runs, histogram files or fit files, of chosen pixels and levels.

    Figures and report of a run are drawn again; of a file (.npz, of ours or of the original tool) pictures are written
    into the directory figures.

    \b
    Examples:
      firstlight digicam display run --pixels 10,700 --level 300
      firstlight digicam display adc_hv_on.npz adc_hv_on_fit.npz --pixels 10,700
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.legacy.pictures import Choice, figures_of_file, save
    from firstlight.run.finished import derive_again
    from firstlight.run.store import open_run

    choice = Choice(pixels, level)
    for path in inputs:
        if (path / "run.json").is_file():
            view: dict[str, Any] = {"pixels": pixels} if pixels else {}
            changes = {"view": view | ({} if level is None else {"level": level})}
            derive_again(open_run(path), changes, _settings(options), steps=_made(path))
            _say(options, f"report:  {path / 'report' / 'index.html'}")
            continue
        if path.suffix != ".npz":
            what = "this is no run directory and no histogram or fit file (.npz)"
            raise InputError(what, where=path)
        pictures = save(figures_of_file(path, choice), output or path.parent, progress_from(options))
        for picture in pictures:
            _say(options, f"  wrote {picture}")


def _made(folder: Path) -> list[str]:
    """Return the steps that a run has: none is made that was not asked for."""
    from firstlight.run.store import open_run

    return list(open_run(folder).record.get("steps", {}))


_KIND = {"hv-off": "hv_off", "dark": "dark", "led": "led", "dc": "dc"}


@click.command("simulate")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="digicam-simulated",
    show_default=True,
    help="Where files go.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="With the other options it fixes every byte."
)
@click.option("--events", "-e", "n_events", type=click.IntRange(0), help="Events of every level.")
@click.option(
    "--hv-off-events", type=click.IntRange(0), help="Events without high voltage, where other than --events."
)
@click.option("--dark-events", type=click.IntRange(0), help="Dark events.")
@click.option("--led-events", type=click.IntRange(0), help="Flashes of every level.")
@click.option("--dc-events", type=click.IntRange(0), help="Events under continuous light of every level.")
@click.option("--kinds", metavar="KINDS", help="Some of hv_off,dark,led,dc, with commas.")
@click.option(
    "--levels",
    metavar="LEVELS",
    help="Levels of flashes [DAC] with commas; exactly three are first,last,step.",
)
@click.option("--dc-levels", metavar="LEVELS", help="Levels of continuous light [DAC].")
@click.option(
    "--samples", "n_samples", type=click.IntRange(1), help="Samples of a trace: 50, or 92 as in March 2017."
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["zfits", "toy", "arrays"]),
    help="Raw files of the camera, HDF5 of digicamtoy, arrays of numpy.",
)
@click.option(
    "--layout",
    type=click.Choice(["levels", "scan"]),
    help="A file for each level, or numbered files as for the original scripts.",
)
@click.option("--files", "n_files", type=click.IntRange(1), help="Numbered files of each kind.")
@click.option("--faults", help="What is broken: all, none, or names with commas.")
@click.option(
    "--cts_sector",
    "sector",
    type=click.IntRange(1, 3),
    help="Sector in front of which the light source stands.",
)
@click.option("--cts_version", type=click.Choice(["1", "2"]), help="Light source of 2016 or of 2018.")
@click.option(
    "--baseline-scale", type=click.Choice(["1", "16"]), help="Unit of baselines in files: LSB, or sixteenths."
)
@click.option(
    "--random-phase", is_flag=True, default=None, help="The trigger comes at any time between two samples."
)
@click.option(
    "--noise-correlation",
    type=click.FloatRange(-1, 1, min_open=True, max_open=True),
    help="Of the noise of neighbouring samples.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any argument of the simulator, values as in TOML; --set help lists them.",
)
@click.option("--quiet", "-q", is_flag=True, help="Do not name the files.")
def simulate(output: Path, seed: int, settings: tuple[str, ...], quiet: bool, **options: Any) -> None:
    """Write raw files with known truth: truth.parquet and truth.json stand beside them.

    \b
    Examples:
      firstlight digicam simulate -o raw --events 500
      firstlight digicam simulate -o raw --layout scan --levels 0,600,10 --led-events 1000 --files 3
      firstlight digicam simulate -o raw --kinds dark --dark-events 5000 --faults none --set jitter=0.2
    """  # noqa: D301  (\b keeps lines as they are)
    import inspect

    from firstlight.cli.common import values_from
    from firstlight.detectors.digicam.simulate import simulate as make

    if settings == ("help",):
        click.echo(inspect.cleandoc(make.__doc__ or "").split("Returns\n")[0].rstrip())
        return
    values = {**_arguments(options), **values_from(None, settings)}
    known = list(inspect.signature(make).parameters)[2:]
    for name in values:
        if name not in known:
            raise UsageError.unknown("argument", name, known, where="--set")
    try:
        made = make(output, seed=seed, **values)
    except TypeError as error:
        what = f"--set: {error}"
        raise UsageError(what, known=known, hint="--set help") from error
    for path in made:
        if not quiet:
            click.echo(path)


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the simulator that options stand for."""
    from firstlight.detectors.digicam.legacy.file_names import parse_levels

    by_kind = {_KIND[kind]: options.pop(f"{kind.replace('-', '_')}_events") for kind in _KIND}
    values = {name: value for name, value in options.items() if value is not None}
    named = {kind: number for kind, number in by_kind.items() if number is not None}
    if named:
        every = values.pop("n_events", None)
        values["n_events"] = {**({} if every is None else dict.fromkeys(_KIND.values(), every)), **named}
    for name in ("levels", "dc_levels"):
        if name in values:
            values[name] = parse_levels(values[name], f"--{name.replace('_', '-')}")
    if "kinds" in values:
        values["kinds"] = tuple(word.strip() for word in values["kinds"].split(","))
    if "faults" in values and values["faults"] not in ("all", "none"):
        values["faults"] = tuple(word.strip() for word in values["faults"].split(","))
    for name in ("cts_version", "baseline_scale"):
        if name in values:
            values[name] = int(values[name])
    return values


FILES = (simulate, merge, display)
