"""Verbs on shapes: features, quest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import progress_from, progress_options
from firstlight.detectors.lartpc.commands_common import (
    chosen,
    depth_options,
    energy_option,
    finish,
    hits_of,
    medium_from,
    medium_options,
    one_energy,
    particle_option,
    say,
)
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.detectors.lartpc.readout.designs import Design
    from firstlight.detectors.lartpc.track import Track
    from firstlight.run.progress import Progress

__all__ = ["SHAPES"]


def _whose(track: Track, row: dict[str, Any]) -> dict[str, Any]:
    """Return name, particle and energy of a track: by its truth record, or else by its folder."""
    if track.truth is not None:
        return {"track": track.name, "particle": track.truth.particle, "energy": track.truth.energy}
    return {"track": track.name, "particle": row["particle"] or "", "energy": row["energy_keV"]}


def _measure_all(
    frame: pl.DataFrame,
    design: Design | None,
    medium: Medium | None,
    options: dict[str, Any],
    progress: Progress,
) -> tuple[pl.DataFrame, pl.DataFrame, list[InputError]]:
    """Return the tables of features and of truth features of a catalogue, and why tracks were left out."""
    import polars as pl

    from firstlight.detectors.lartpc.features.columns import FEATURES, TRUTH_FEATURES
    from firstlight.detectors.lartpc.features.measure import measure, measure_hits
    from firstlight.detectors.lartpc.features.truth import truth_features
    from firstlight.detectors.lartpc.reading.tracks import load
    from firstlight.detectors.lartpc.readout.step import drift_and_read, placed

    features, recorded, refused = [], [], []
    with progress.bar("measuring", frame.height, "tracks") as advance:
        for row in frame.iter_rows(named=True):
            advance(1, row["name"])
            try:
                track = load(row["path"])
            except InputError as error:
                refused.append(error)
                continue
            own = _whose(track, row)
            if design is None or medium is None:
                found = measure(track.positions, track.num_e)
            else:
                moved, _ = placed(track, design, options["seed"])
                _, read = drift_and_read(
                    moved,
                    design,
                    medium,
                    depth=options["depth"],
                    seed=options["seed"],
                    naive=options["distance"] == "common",
                )
                found = measure_hits(hits_of(read, "--readout GAMPixG, GAMPixD or LArPix"))
            features.append({**own, **found.row()})
            truth = truth_features(track)
            if truth is not None:
                recorded.append({**own, **truth.row()})
    tables = (
        pl.DataFrame(features, schema=FEATURES.dtypes),
        pl.DataFrame(recorded, schema=TRUTH_FEATURES.dtypes),
    )
    return *tables, refused


@click.command("features")
@click.argument("root", type=click.Path(path_type=Path), default=Path("Tracks"))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("features.csv"), show_default=True
)
@click.option("--truth", type=click.Path(path_type=Path), help="A second table, of the truth records.")
@click.option("--readout", "name", help="Measure the hits of this read-out in place of the freed charge.")
@depth_options
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@particle_option
@energy_option
@medium_options
@progress_options
def features(
    root: Path,
    output: Path,
    truth: Path | None,
    name: str | None,
    particles: tuple[str, ...],
    energies: tuple[float, ...],
    **options: Any,
) -> None:
    """Measure the shape of every track below a folder: a row each, CSV or Parquet by the ending of the name.

    \b
    Examples:
      firstlight lartpc features Tracks -o features.csv
      firstlight lartpc features Tracks --readout GAMPixG --depth 0.175 -o hits.parquet --truth truth.csv
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.lartpc.readout.designs import design as named

    medium = medium_from(options)
    chosen_design = None if name is None else named(name)
    progress = progress_from(options)
    frame = chosen(root, particles, energies)
    found, recorded, refused = _measure_all(frame, chosen_design, medium, options, progress)
    for table, path in ((found, output), (recorded, truth)):
        if path is not None:
            _write(table, path)
            say(options, f"  {path}: {table.height} tracks, {table.width} columns")
    finish(refused, frame.height)


def _write(table: pl.DataFrame, path: Path) -> None:
    from firstlight.files import atomic

    writers: dict[str, Any] = {
        ".csv": table.write_csv,
        ".parquet": table.write_parquet,
        ".json": table.write_json,
    }
    if path.suffix not in writers:
        what = f"a table cannot be written as {path.suffix or 'a file without an ending'}"
        raise UsageError(what, where=path, known=list(writers))
    with atomic(path) as temporary:
        writers[path.suffix](temporary)


@click.command("quest")
@click.argument("root", type=click.Path(path_type=Path), default=Path("Tracks"))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("quest"), show_default=True,
    help="Folder of the pictures, or the name of the page, which then stands in its folder with them.",
)  # fmt: skip
@click.option(
    "--by", type=click.Choice(["observable", "truth"]), default="observable", show_default=True,
    help="Rank by the shape alone, or by the truth record.",
)  # fmt: skip
@click.option(
    "--kinds", type=click.Choice(["given", "unknown"]), default="given", show_default=True,
    help="Whether folders and records may say what is an electron and what a photon.",
)  # fmt: skip
@click.option(
    "--minimum-energy", callback=one_energy, default="3MeV", show_default=True,
    help="Tracks below it take no part.",
)  # fmt: skip
@click.option("--runners-up", type=click.IntRange(min=0), default=4, show_default=True)
@progress_options
def quest(
    root: Path, output: Path, by: Any, kinds: Any, minimum_energy: float, runners_up: int, **options: Any
) -> None:
    """Find a neat electron, one with bremsstrahlung all around, a symmetric pair and a weird pair.

    Writes a picture of each, one of all four with their numbers, a page on which they can be turned, and the ranking.

    \b
    Examples:
      firstlight lartpc quest Tracks
      firstlight lartpc quest Tracks --by truth -o quest/report.html
    """  # noqa: D301  (\b keeps lines as they are)
    import polars as pl

    from firstlight.detectors.lartpc.quest import CATEGORIES, rank
    from firstlight.detectors.lartpc.views.winners import save_quest

    progress = progress_from(options)
    frame = chosen(root, (), ())
    found, recorded, refused = _measure_all(frame, None, None, options, progress)
    ranking = rank(
        found,
        recorded,
        by=by,
        kinds=kinds,
        minimum_energy=minimum_energy,
        runners_up=runners_up,
    )
    if not found.height:
        finish(refused, frame.height)
    if not ranking.height:
        largest: Any = found["energy"].max()
        what = f"no track of {minimum_energy / 1000:g} MeV or more fits any category"
        raise InputError(
            what, where=root, known=[f"tracks up to {float(largest or 0.0) / 1000:g} MeV"],
            hint="--minimum-energy 1MeV",
        )  # fmt: skip
    folder, page = (output.parent, output) if output.suffix == ".html" else (output, output / "quest.html")
    _write(ranking, folder / "ranking.csv")
    paths = dict(zip(frame["name"], frame["path"], strict=True))
    for path in save_quest(ranking, paths, folder, page, progress):
        say(options, str(path))
    for name, category in CATEGORIES.items():
        rows: Sequence[dict[str, Any]] = ranking.filter(pl.col("category") == name).to_dicts()
        if not rows:
            say(options, f"  {category.title}: none")
            continue
        first = rows[0]
        holds = {True: ", the truth record agrees", False: ", the truth record does not agree", None: ""}[
            first["holds"]
        ]
        say(options, f"  {category.title}: {first['track']}, score {first['score']:.2f}{holds}")
        say(options, f"      {first['numbers']}")
        for row in rows[1:]:
            say(options, f"      {row['rank']}. {row['track']}, score {row['score']:.2f}")
    finish(refused, frame.height)


SHAPES = (features, quest)
