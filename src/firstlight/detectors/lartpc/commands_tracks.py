"""Verbs on tracks as they are: list, info, convert, simulate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import json_option, progress_from, progress_options
from firstlight.detectors.lartpc.commands_common import (
    Tracks,
    chosen,
    energies_of,
    energy_option,
    finish,
    json_text,
    particle_option,
    say,
)
from firstlight.detectors.lartpc.reading.names import FOLDERS, stem_of
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from firstlight.detectors.lartpc.track import Track

__all__ = ["TRACKS"]


@click.command("list")
@click.argument("root", type=click.Path(path_type=Path), default=Path("Tracks"))
@particle_option
@energy_option
@click.option("--files", is_flag=True, help="A line for each track in place of one for each energy.")
@json_option
def list_tracks(
    root: Path, particles: tuple[str, ...], energies: tuple[float, ...], files: bool, as_json: bool
) -> None:
    """Which tracks there are below a folder; no file is opened.

    ROOT is a tree Tracks/LAr/electrons/E0001000/..., or any folder in it; the folder Tracks by default.
    """
    import polars as pl

    frame = chosen(root, particles, energies)
    if as_json:
        rows = frame.with_columns(pl.col("date").cast(pl.String)) if "date" in frame.columns else frame
        click.echo(json.dumps(rows.to_dicts(), indent=1, default=str))
        return
    if files:
        for row in frame.iter_rows(named=True):
            truth = "" if row["has_truth"] else "  no truth record"
            click.echo(f"{row['path']}  {row['size'] / 1e6:.2f} MB{truth}")
        return
    groups = frame.group_by("material", "particle", "energy_keV", "tag", maintain_order=True).agg(
        pl.len().alias("n"),
        pl.col("has_truth").sum().alias("truth"),
        (pl.col("size").sum() / 1e6).alias("MB"),
    )
    click.echo(
        f"{'material':<10} {'particle':<10} {'energy':>10}  {'tracks':>7} {'with truth':>10} {'MB':>9}"
    )
    for row in groups.iter_rows(named=True):
        energy = "?" if row["energy_keV"] is None else f"{row['energy_keV'] / 1000:g} MeV"
        tag = f"  {row['tag']}" if row["tag"] else ""
        words = f"{row['material'] or '-':<10} {row['particle'] or '-':<10} {energy:>10}"
        click.echo(f"{words}  {row['n']:>7,} {row['truth']:>10,} {row['MB']:>9.1f}{tag}")
    click.echo(f"{frame.height:,} tracks")


def _facts(path: Path, track: Track) -> dict[str, Any]:
    from firstlight.detectors.lartpc.features.measure import measure
    from firstlight.detectors.lartpc.features.truth import truth_features
    from firstlight.detectors.lartpc.inventory import available

    low, high = track.positions.min(axis=1, initial=0.0), track.positions.max(axis=1, initial=0.0)
    facts: dict[str, Any] = {
        "path": str(path),
        "points": len(track),
        "electrons": track.charge,
        "box [mm]": [round(1e3 * float(size), 3) for size in high - low],
    }
    if track.truth is not None:
        truth, found = track.truth, truth_features(track)
        facts |= {
            "particle": truth.particle,
            "energy [keV]": truth.energy,
            "electrons per keV": round(track.charge / available(truth.particle, truth.energy), 3),
            "origin [mm]": [round(1e3 * float(place), 3) for place in truth.origin],
            "direction": [round(float(part), 4) for part in truth.direction],
            "first interaction": truth.first_interaction or "-",
            "truth": {} if found is None else found.row(),
        }
    features = measure(track.positions, track.num_e).row()
    facts["shape"] = {
        name: round(value, 4) if isinstance(value, float) else value for name, value in features.items()
    }
    facts["notes"] = list(track.meta.get("notes", []))
    facts["meta"] = {name: value for name, value in track.meta.items() if name not in ("original", "notes")}
    return facts


@click.command("info")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def info(paths: tuple[Path, ...], as_json: bool) -> None:
    """All that is known of tracks: charge, truth, shape.

    PATHS are tracks with or without their ending, or folders of them.
    """
    tracks = Tracks(paths)
    found = [_facts(path, track) for path, track in tracks]
    if as_json:
        click.echo(json_text(found))
    for facts in [] if as_json else found:
        click.secho(str(facts.pop("path")), bold=True)
        for name, value in facts.items():
            if isinstance(value, dict):
                inside = ", ".join(
                    f"{key} {_short(each)}" for key, each in value.items() if each not in (None, "")
                )
                click.echo(f"  {name:<20} {inside}")
            elif value or value == 0:
                click.echo(f"  {name:<20} {_short(value)}")
    tracks.finish()


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.5g}"
    return ", ".join(_short(each) for each in value) if isinstance(value, list) else str(value)


@click.command("convert")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder of the new files."
)
@click.option(
    "--to", "form", type=click.Choice(["own", "original", "compressed"]), default="own", show_default=True,
    help="npz with JSON; npz with a pickle, as the original reads it; the same with points put together in cubes.",
)  # fmt: skip
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=200.0,
    show_default=True,
    help="Edge of these cubes [um].",
)
@click.option(
    "--rescale-charge",
    is_flag=True,
    help="Bring charges per energy of PENELOPE files of all energies to one scale.",
)
@progress_options
def convert(
    inputs: tuple[Path, ...], output: Path, form: str, scale: float, rescale_charge: bool, **options: Any
) -> None:
    """Rewrite tracks: of the original, of GAMPixPy, of edep-sim or of PENELOPE.

    INPUTS are tracks, files of many events, or folders of tracks, whose folders are kept.

    \b
    Examples:
      firstlight lartpc convert Tracks -o own                        # npz + JSON, no pickle
      firstlight lartpc convert own/Tracks -o back --to original     # what the original reads
      firstlight lartpc convert edep.h5 -o Tracks
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.lartpc.reading.charge_scale import rescale_charge as rescaled
    from firstlight.detectors.lartpc.reading.tracks import save, save_original

    refused: list[InputError] = []
    jobs = [job for path in inputs for job in _jobs(path, output)]
    repeated = sorted({stem.name for _, _, stem in jobs if [other for *_, other in jobs].count(stem) > 1})
    if repeated:
        what = "tracks of one name would be written over each other"
        raise UsageError(
            what,
            where=output,
            known=repeated,
            hint="give their folders, which are kept; or convert one by one",
        )
    with progress_from(options).bar("converting", len(jobs), "tracks") as advance:
        for source, event, stem in jobs:
            try:
                track = _load(source, event)
                track = rescaled(track) if rescale_charge else track
                if form == "own":
                    save(track, stem, flush=False)
                else:
                    squeezed = _compressed(track, 1e-6 * scale) if form == "compressed" else track
                    save_original(squeezed, stem, compressed=form == "compressed", flush=False)
            except InputError as error:
                refused.append(error)
            advance(1, source.name)
    say(options, f"  wrote {len(jobs) - len(refused)} of {len(jobs)} tracks to {output}")
    finish(refused, len(jobs))


def _jobs(path: Path, output: Path) -> list[tuple[Path, int | None, Path]]:
    """Return what is to be read, which event of it, and where it goes without an ending."""
    from firstlight.detectors.lartpc.reading.segments import open_events
    from firstlight.detectors.lartpc.source import EventFiles

    if path.is_dir():
        if (
            (output / path.name).resolve() == path.resolve()
            or path.resolve() in output.resolve().parents
            or (output.resolve() == path.resolve())
        ):
            what = "the output is the folder that is converted, or in it"
            raise UsageError(what, where=output, hint="another --output")
        stems = [stem_of(Path(row["path"])) for row in chosen(path, (), ()).iter_rows(named=True)]
        return [(stem, None, output / path.name / stem.relative_to(path)) for stem in stems]
    if EventFiles().sniff(path):
        file = open_events(path)
        return [(path, event, output / file.name_of(event)) for event in file.events]
    if (output / stem_of(path).name).resolve() == stem_of(path).resolve():
        what = "the track would be written over itself"
        raise UsageError(what, where=path, hint="another --output")
    return [(path, None, output / stem_of(path).name)]


def _load(source: Path, event: int | None) -> Track:
    from firstlight.detectors.lartpc.reading.tracks import load

    return load(source, event=event)


def _compressed(track: Track, edge: float) -> Track:
    from firstlight.detectors.lartpc.tracks_tools import compressed

    return compressed(track, edge)


@click.command("simulate")
@click.option(
    "--particle", "particles", multiple=True, type=click.Choice(list(FOLDERS.values())),
    help="May be repeated; electrons and photons by default.",
)  # fmt: skip
@click.option(
    "--energy", "energies", multiple=True, callback=energies_of, help="1MeV,10MeV; may be repeated."
)
@click.option("-n", "--n-tracks", type=click.IntRange(min=1), help="Tracks of each particle and energy.")
@click.option(
    "--output", "-o", "--out", type=click.Path(path_type=Path), default=Path("Tracks"), show_default=True
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--original", is_flag=True, help="Write the files of the original (npz with a pickle).")
@click.option("--faults", is_flag=True, help="Plant faults for the checks of a run to find.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Another argument of the simulator, values as in TOML; --set help lists them.",
)  # fmt: skip
@progress_options
def simulate(
    particles: tuple[str, ...],
    energies: tuple[float, ...],
    n_tracks: int | None,
    output: Path,
    seed: int,
    original: bool,
    faults: bool,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Tracks with known truth: electrons, positrons and photons in liquid argon.

    \b
    Examples:
      firstlight lartpc simulate --particle photon --energy 10MeV -n 100 --seed 1 --out Tracks
      firstlight lartpc simulate --energy 1MeV,5MeV,10MeV -n 20
    """  # noqa: D301  (\b keeps lines as they are)
    import inspect

    from firstlight.cli.common import values_from
    from firstlight.detectors.lartpc.simulate import simulate as make

    if settings == ("help",):
        click.echo(inspect.cleandoc(make.__doc__ or "").split("Returns\n")[0].rstrip())
        return
    values: dict[str, Any] = {"faults": faults, "form": "original" if original else "own"}
    if particles:
        values["particles"] = particles
    if energies:
        values["energies"] = tuple(energy / 1000 for energy in energies)
    if n_tracks:
        values["n_tracks"] = n_tracks
    values |= values_from(None, settings)
    try:
        made = make(output, seed=seed, **values)
    except TypeError as error:
        known = list(inspect.signature(make).parameters)[2:]
        what = f"--set: {error}"
        raise UsageError(what, known=known, hint="--set help") from error
    for folder in made:
        say(options, str(folder))


TRACKS = (list_tracks, info, convert, simulate)
