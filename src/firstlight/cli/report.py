"""The verb `report`."""

from __future__ import annotations

from pathlib import Path

import click

from firstlight.cli.common import progress_options

__all__ = ["report"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--redraw", is_flag=True, help="Draw the figures again from the products.")
@progress_options
def report(run: Path, redraw: bool, quiet: bool, verbose: bool) -> None:
    """Write the report of a run again, from its directory alone.

    RUN is a run directory, wherever it was moved to.
    """
    from firstlight.cli.common import progress_from
    from firstlight.run.finished import redraw_run
    from firstlight.run.store import open_run
    from firstlight.view.report import write_report

    opened = open_run(run)
    if redraw or not opened.record.get("figures"):
        redraw_run(opened, progress_from({"quiet": quiet, "verbose": verbose}))
    page = write_report(opened)
    if not quiet:
        click.echo(page)
