"""The verbs `demo` and `warmup`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from firstlight.cli.common import progress_options
from firstlight.errors import DetectorError

__all__ = ["demo", "warmup"]


@click.command()
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default="firstlight-demo", show_default=True,
    help="Folder for raw files, runs and the index page.",
)  # fmt: skip
@click.argument("detectors", nargs=-1)
@click.option("--detector", "options", multiple=True, help="The same as an option; may be repeated.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the simulations.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes.")
@progress_options
def demo(
    detectors: tuple[str, ...],
    options: tuple[str, ...],
    output: Path,
    seed: int,
    jobs: int,
    quiet: bool,
    verbose: bool,
) -> None:
    """Simulate, process and report a small data set of every detector.

    DETECTORS are names; all detectors by default.
    The simulated files have faults planted in them; the report should find them.
    """
    from firstlight.cli.common import progress_from
    from firstlight.detector import get_detector, installed_detectors
    from firstlight.run.chain import Settings, process
    from firstlight.run.execution import Executor
    from firstlight.view.report import write_index

    progress = progress_from({"quiet": quiet, "verbose": verbose})
    names = tuple(dict.fromkeys(detectors + options))
    runs = []
    for detector in [get_detector(name) for name in names] or installed_detectors():
        name = detector.name
        if detector.simulate is None:
            if name in names:
                what = f"the detector {name} has no simulator"
                raise DetectorError(what)
            continue
        start = time.monotonic()
        if not quiet:
            click.secho(detector.title, bold=True)
        with progress.bar("simulating", 1) as advance:
            files = detector.load("simulate")(output / name / "raw", seed=seed, **detector.demo)
            advance(1)
        settings = Settings(
            executor=Executor(jobs=jobs),
            progress=progress,
            command=("firstlight", "demo", name, "--seed", str(seed)),
        )
        runs.append(process(detector, files, output / name / "run", {}, settings))
        if not quiet:
            click.echo(
                f"  {len(files)} files, {time.monotonic() - start:.0f} s, verdict {runs[-1].record['verdict']}"
            )
    if not runs:
        what = "no detector could be simulated"
        raise DetectorError(what, hint="firstlight detectors says which there are, and why not")
    page = write_index(output, runs, "firstlight demo")
    if not quiet:
        click.echo(f"\nopen in a browser: {page.resolve().as_uri()}")
        click.echo(f"or look at it from here: python -m http.server --bind 127.0.0.1 --directory {output}")


@click.command()
@progress_options
def warmup(quiet: bool, verbose: bool) -> None:
    """Compile all kernels now, so that no later command waits for it."""
    from firstlight.cli.common import progress_from
    from firstlight.data import kernels
    from firstlight.detector import installed_detectors

    detectors = installed_detectors()
    jobs = [kernels.warm_up, *(d.load("warm_up") for d in detectors if d.warm_up is not None)]
    progress = progress_from({"quiet": quiet, "verbose": verbose})
    start = time.monotonic()
    with progress.bar("compiling", len(jobs), "modules") as advance:
        for job in jobs:
            job()
            advance()
    if not quiet:
        click.echo(f"compiled in {time.monotonic() - start:.1f} s; kept for later runs")
