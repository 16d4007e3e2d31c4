"""The verb `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from firstlight.cli.common import (
    fail_on_option,
    json_option,
    progress_from,
    progress_options,
    tell,
    values_from,
)

__all__ = ["compare"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("reference", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default="firstlight-comparison", show_default=True,
    help="Run directory of the comparison.",
)  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with the limits.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One limit: pull_limit=5.")
@click.option("--no-plots", is_flag=True, help="No figures and no report.")
@fail_on_option
@json_option
@progress_options
def compare(run: Path, reference: Path, output: Path, **options: Any) -> None:
    """Compare the channels of a run with those of a reference run.

    RUN and REFERENCE are run directories of the same detector. Of counts: ratio and pull of every channel, with
    the dispersion fitted, and the scale of every group. Of constants with errors: shift of the mean, channels and
    regions that changed, channels that are lost or new. Written as a run directory with a report.
    """
    import sys

    from firstlight.run.chain import Settings
    from firstlight.run.comparison import compare_runs
    from firstlight.run.config import build
    from firstlight.run.store import open_run
    from firstlight.steps.compare import CompareParameters

    values = values_from(options["config"], options["settings"])
    parameters = build(CompareParameters, values, options["config"])
    settings = Settings(
        progress=progress_from(options), plots=not options["no_plots"], command=("firstlight", *sys.argv[1:])
    )
    result = compare_runs(open_run(run), open_run(reference), output, parameters, settings)
    tell(result, as_json=options["as_json"], quiet=options["quiet"], fail_on=options["fail_on"])
