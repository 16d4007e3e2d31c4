"""The verb `export`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["export"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder; RUN/export by default.")
@click.option(
    "--product", "names", multiple=True, metavar="STEP/PRODUCT", help="Only this product; may be repeated."
)
@click.option("--quiet", "-q", is_flag=True, help="Do not name the files.")
def export(run: Path, output: Path | None, names: tuple[str, ...], quiet: bool) -> None:
    """Write the products of a run as CSV (tables) and npz (arrays and histograms).

    RUN is a run directory.
    """
    from firstlight.run.export import export_run
    from firstlight.run.store import open_run

    opened = open_run(run)
    for path in export_run(opened, output or opened.folder / "export", names):
        if not quiet:
            click.echo(path)
