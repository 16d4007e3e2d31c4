"""The verbs of SpinQuest that do not write a run directory: event displays, conversion, simulation, geometry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from firstlight.cli.common import progress_from, progress_options
from firstlight.detectors.spinquest import detector
from firstlight.errors import InputsRefusedError, UsageError

if TYPE_CHECKING:
    from firstlight.detectors.spinquest.convert import Conversion

__all__ = ["convert", "geometry", "plot", "simulate"]

VIEWS = ("map", "xz", "yz", "station", "wires")
_FORMATS = ("parquet", "root", "csv")
_geometry_option = click.option(
    "--geometry",
    default="auto",
    show_default=True,
    metavar="NAME|FILE",
    help="auto, E1039, E906, original, or a table of planes.",
)


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--input", "named", type=click.Path(path_type=Path), help="The same as FILE.")
@click.option(
    "--event",
    "--events",
    "events",
    default="0",
    show_default=True,
    metavar="N|A:B",
    help="Entry in the file, from 0; or from A up to and without B.",
)
@click.option(
    "--view",
    "views",
    multiple=True,
    type=click.Choice([*VIEWS, "all"]),
    help="What to draw; may be repeated.  [default: map]",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="spinquest-events",
    show_default=True,
    help="Folder.",
)
@_geometry_option
@click.option("--in-time", is_flag=True, help="Only hits whose in-time flag is set.")
@click.option(
    "--dpi", type=click.IntRange(30, 600), default=110, show_default=True, help="Resolution of the pictures."
)
@click.option("--no-interactive", is_flag=True, help="No HTML page.")
@click.option(
    "--watch",
    "folder",
    type=click.Path(path_type=Path),
    help="Follow this folder: draw each new file when it is complete.",
)
@click.option(
    "--once",
    is_flag=True,
    help="With --watch: draw the newest complete file and stop, without waiting for another.",
)
@click.option(
    "--poll",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    help="With --watch: seconds between looks.",
)
@progress_options
def plot(
    file: Path | None, named: Path | None, events: str, views: tuple[str, ...], output: Path, geometry: str,
    in_time: bool, dpi: int, no_interactive: bool, folder: Path | None, once: bool, poll: float,
    quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Draw events: pictures, and one interactive page that needs no network.

    With --watch DIR the newest complete file of a folder is drawn, and every file that is completed after it,
    into latest.png and an index.html that loads itself again. Stop with Ctrl-C.
    """
    from firstlight.detectors.spinquest.display import plot_events

    chosen = VIEWS if "all" in views else tuple(dict.fromkeys(views)) or ("map",)
    if folder is not None:
        _follow(
            folder, output, chosen[0], geometry, in_time=in_time, dpi=dpi, once=once, poll=poll, quiet=quiet
        )
        return
    path = file or named
    if path is None:
        what = "no FILE given"
        raise UsageError(what, hint="name a ROOT file, or a folder with --watch")
    if path.is_dir():
        what = "is a folder, not a file"
        raise UsageError(what, where=path, hint="name one of its files, or follow the folder with --watch")
    progress = progress_from({"quiet": quiet, "verbose": verbose})
    written = plot_events(
        path, events, chosen, output, geometry=geometry, interactive=not no_interactive, dpi=dpi,
        in_time=in_time, progress=progress,
    )  # fmt: skip
    if not quiet:
        for picture in written:
            click.echo(picture)


def _follow(
    folder: Path, output: Path, view: str, geometry: str, *, in_time: bool, dpi: int, once: bool, poll: float, quiet: bool
) -> None:  # fmt: skip
    from firstlight.detectors.spinquest.display.watch import follow

    if not folder.is_dir():
        what = "is not a folder"
        raise UsageError(what, where=folder)
    if not quiet:
        click.echo(f"following {folder}; open {(output / 'index.html').resolve().as_uri()}; stop with Ctrl-C")
    follow(
        folder, output, view=view, geometry=geometry, in_time=in_time, dpi=dpi, once=once, poll=poll,
        on_picture=None if quiet else click.echo,
        on_problem=lambda path, reason: click.echo(f"refused {path}: {reason}", err=True),
    )  # fmt: skip


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--to", "kind", type=click.Choice(_FORMATS), default="parquet", show_default=True, help="Format."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="spinquest-converted",
    show_default=True,
    help="Folder.",
)
@click.option("--merged", is_flag=True, help="One pair of Parquet files for all inputs.")
@_geometry_option
@click.option(
    "--allow-bad",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Tolerate N refused inputs.",
)
@progress_options
def convert(
    paths: tuple[Path, ...], kind: str, output: Path, merged: bool, geometry: str, allow_bad: int, quiet: bool, verbose: bool
) -> None:  # fmt: skip
    """Write hits and events as Parquet, CSV, or flat ROOT that the original scripts read.

    PATHS are ROOT files or folders.
    """
    from firstlight.data.patterns import find_files
    from firstlight.detectors.spinquest import convert as room

    if merged and kind != "parquet":
        what = "--merged goes with --to parquet"
        raise UsageError(what)
    files = find_files(paths, suffixes=detector.suffixes)
    progress = progress_from({"quiet": quiet, "verbose": verbose})
    done: Conversion
    if kind == "parquet":
        done = room.to_parquet(files, output, merged=merged, geometry=geometry, progress=progress)
    elif kind == "root":
        done = room.to_flat_root(files, output, geometry=geometry, progress=progress)
    else:
        done = room.to_csv(files, output, geometry=geometry, progress=progress)
    if not quiet:
        for entry in done.converted:
            click.echo(f"{Path(entry.input).name}: {entry.n_events:,} events, {entry.n_hits:,} hits")
        for path in done.outputs:
            click.echo(f"  {path}")
    if len(done.refused) > allow_bad:
        reasons = "".join(f"\n  {path}: {reason}" for path, reason in done.refused.items())
        what = f"{len(done.refused)} of {len(files)} inputs were refused:{reasons}"
        raise InputsRefusedError(what, hint=f"--allow-bad {len(done.refused)} to tolerate them")


@click.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="spinquest-simulated",
    show_default=True,
    help="Folder.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the random numbers.")
@click.option(
    "--spills",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Number of spills, a file each.",
)
@click.option(
    "--events", type=click.IntRange(min=1), default=400, show_default=True, help="Events of each spill."
)
@click.option(
    "--faults",
    default="demo",
    show_default=True,
    metavar="demo|standard|none|FILE",
    help="What is planted: a TOML file, or these.",
)
@click.option(
    "--fault",
    "single",
    multiple=True,
    metavar="KIND:PLANE[:ELEMENTS[:VALUE]]",
    help="One fault, in all spills, in place of --faults; may be repeated: hot:D0X:74:40.",
)
@click.option("--mean-hits", type=click.FloatRange(min=1), help="Mean number of hits of an event.")
@click.option("--tracks", "n_tracks", type=click.FloatRange(min=0), help="Mean number of muons of an event.")
@click.option("--quiet", "-q", is_flag=True, help="Do not name the files.")
def simulate(
    output: Path, seed: int, spills: int, events: int, faults: str, single: tuple[str, ...],
    mean_hits: float | None, n_tracks: float | None, quiet: bool,
) -> None:  # fmt: skip
    """Write simulated spills: muons, noise, planted faults; the truth stands beside each file."""
    from firstlight.detectors.spinquest.simulate import simulate as make

    more = {
        key: value for key, value in (("mean_hits", mean_hits), ("n_tracks", n_tracks)) if value is not None
    }
    chosen = list(single) if single else faults
    for path in make(output, seed=seed, n_spills=spills, n_events=events, faults=chosen, **more):
        if not quiet:
            click.echo(path)


@click.command()
@click.argument("name", default="E1039")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write; shown where not given.")
def geometry(name: str, output: Path | None) -> None:
    """Show or save a table of planes, to start your own from.

    NAME is E1039, E906, original, or the path of a table, which is checked.
    """
    from firstlight.detectors.spinquest.geometry import FOLDER, load_geometry
    from firstlight.files import write_text

    found = load_geometry(name)
    path = FOLDER / f"{found.version}.csv" if found.source == "built in" else Path(name)
    text = path.read_text(encoding="utf-8")
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists():
        what = "exists already"
        raise UsageError(what, where=output, hint="another --output")
    click.echo(write_text(output, text))
