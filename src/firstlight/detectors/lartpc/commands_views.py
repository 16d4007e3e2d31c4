"""Verbs that draw: plot, gallery, compare."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import progress_from, progress_options
from firstlight.detectors.lartpc.commands_common import (
    Names,
    Tracks,
    chosen,
    depth_options,
    energy_option,
    finish,
    hits_of,
    medium_from,
    medium_options,
    particle_option,
    say,
)
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from firstlight.detectors.lartpc.track import Track
    from firstlight.detectors.lartpc.views.scene import Scene

__all__ = ["VIEWS"]

_UNITS = click.Choice(["um", "mm", "cm", "m"])


def _scene(track: Track, options: dict[str, Any], *, stages: bool) -> Scene:
    """Return a track as it is drawn: with clusters, and with `stages` drifted and read out, too."""
    from firstlight.detectors.lartpc.features.measure import measure
    from firstlight.detectors.lartpc.readout.designs import design
    from firstlight.detectors.lartpc.readout.step import drift_and_read
    from firstlight.detectors.lartpc.views.scene import length_text, scene_of

    topology = measure(track.positions, track.num_e).topology
    inside = topology.voxels.label
    clusters = topology.cluster[inside.clip(0)] if topology.cluster.size else inside
    labels = {"raw": clusters}
    facts = [("points", f"{len(track):,}"), ("electrons", f"{track.charge:,}")]
    drifted = hits = None
    if stages:
        drifted, read = drift_and_read(
            track, design(options["readout"]), options["medium"], depth=options["depth"],
            seed=options["seed"], naive=options["distance"] == "common",
        )  # fmt: skip
        hits = hits_of(read, "--readout GAMPixG, GAMPixD or LArPix; or --raw-only")
        facts += [
            ("arrived", f"{drifted.charge:,} electrons after {length_text(options['depth'])}"),
            (options["readout"], f"{read.n_triggered:,} samples, {read.charge:,.0f} electrons"),
        ]
    return scene_of(track, drifted, hits, labels=labels, facts=facts)


def _projections(track: Track, scene: Scene, colour_by: str, **options: Any) -> Figure:
    """Return a track along x, y and z, coloured by charge, cluster, particle or drift time."""
    from firstlight.detectors.lartpc.views.projections import draw_projections
    from firstlight.detectors.lartpc.views.scene import particle_labels, scene_of

    if colour_by == "particle":
        scene = scene_of(track, labels={"raw": particle_labels(track)})
        return draw_projections(scene, colour_by="label", words="particle", **options)
    layer = "drifted" if colour_by == "time" else None
    return draw_projections(
        scene, layer=layer, colour_by="label" if colour_by == "cluster" else colour_by, **options
    )


def _profiles(tracks: Sequence[Track]) -> Figure:
    """Return a picture of dQ/dx along the paths of some tracks."""
    from firstlight.detectors.lartpc.features.measure import measure
    from firstlight.detectors.lartpc.inventory import available
    from firstlight.detectors.lartpc.views.scene import energy_text
    from firstlight.detectors.lartpc.views.summaries import draw_profiles, minimum_ionising

    curves, scales = [], []
    for track in tracks:
        shape, truth = measure(track.positions, track.num_e).topology, track.truth
        words = f"{energy_text(truth.energy)} {truth.particle}, " if truth else ""
        curves.append((words + track.name[-11:], (1e3 * shape.along, shape.density)))
        if truth is not None:
            scales.append(track.charge / available(truth.particle, truth.energy))
    expected = minimum_ionising(statistics.median(scales)) if scales else None
    return draw_profiles(curves, expected=expected)


def _zoom(text: str) -> Any:
    if text in ("core", "all"):
        return text
    try:
        return float(text)
    except ValueError as error:
        what = f"--zoom {text!r} is none of core, all and a share of the charge"
        raise UsageError(what, hint="--zoom 0.95") from error


def _detector_options(command: Any) -> Any:
    options = (
        click.option("--readout", default="GAMPixG", show_default=True, help="Read-out for the hits."),
        depth_options,
        click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True),
        medium_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("plot")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("pictures"), show_default=True)
@click.option("--raw-only", is_flag=True, help="The freed charge alone: no drift, no read-out.")
@click.option("--projections", is_flag=True, help="Draw along x, y and z too.")
@click.option(
    "--profile", is_flag=True, help="Draw dQ/dx along the path through the main cluster of all tracks."
)
@click.option(
    "--colour-by", type=click.Choice(["charge", "cluster", "particle", "time"]), default="charge", show_default=True,
    help="What colours mean in projections.",
)  # fmt: skip
@click.option(
    "--html", is_flag=True, help="Write a page on which the events can be turned; needs no network."
)
@click.option("--points", is_flag=True, help="On the page every point too, not voxels alone.")
@click.option(
    "--zoom", default="core", show_default=True, help="core, all, or the share of the charge to be shown."
)
@click.option("--units", type=_UNITS, default="mm", show_default=True)
@_detector_options
@progress_options
def plot(
    paths: tuple[Path, ...],
    output: Path,
    raw_only: bool,
    projections: bool,
    profile: bool,
    colour_by: str,
    html: bool,
    points: bool,
    zoom: str,
    units: str,
    **options: Any,
) -> None:
    """Tracks in three dimensions: freed, drifted and read out, side by side at one scale.

    PATHS are tracks with or without their ending, or folders of them.

    \b
    Examples:
      firstlight lartpc plot Tracks/LAr/photons/E0010000/TrackE0010000_D20250527_T1333526475.npz
      firstlight lartpc plot Tracks/LAr/electrons/E0005000 --html --depth 1.0
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.lartpc.views.page import event_page
    from firstlight.detectors.lartpc.views.three import draw_panels
    from firstlight.view.save import save_canvas

    options["medium"] = medium_from(options)
    given, names = Tracks(paths), Names()
    tracks, scenes = [], []
    with progress_from(options).bar("drawing", len(given), "tracks") as advance:
        for _, track in given:
            tracks.append(track)
            scene = _scene(track, options, stages=not raw_only)
            scenes.append(scene)
            canvas, name = draw_panels(scene, zoom=_zoom(zoom), units=units), names.of(track.name)
            say(options, str(save_canvas(canvas, output / f"{name}.png", 130)))
            if projections:
                path = output / f"{name}_projections.png"
                canvas = _projections(track, scene, colour_by, zoom=_zoom(zoom), units=units)
                say(options, str(save_canvas(canvas, path, 130)))
            advance(1, track.name)
    if profile and tracks:
        say(options, str(save_canvas(_profiles(tracks), output / "profile.png", 130)))
    if html and scenes:
        page = output / (f"{tracks[0].name}.html" if len(tracks) == 1 else "events.html")
        say(options, str(event_page(scenes, page, points=tracks if points else None)))
    given.finish()


@click.command("gallery")
@click.argument("root", type=click.Path(path_type=Path), default=Path("Tracks"))
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("gallery"), show_default=True)
@particle_option
@energy_option
@click.option(
    "-n", "--columns", type=click.IntRange(min=1), default=6, show_default=True, help="Tracks in a row."
)
@click.option(
    "--zoom", default="core", show_default=True, help="core, all, or the share of the charge to be shown."
)
@click.option("--each", is_flag=True, help="Save a picture of every track, too.")
@click.option("--each-with-readout", is_flag=True, help="The same, with drift and hits.")
@click.option(
    "--html", is_flag=True, help="Write a page on which the events can be turned; needs no network."
)
@_detector_options
@progress_options
def gallery(
    root: Path,
    output: Path,
    particles: tuple[str, ...],
    energies: tuple[float, ...],
    columns: int,
    zoom: str,
    each: bool,
    each_with_readout: bool,
    html: bool,
    **options: Any,
) -> None:
    """Sheets of all tracks below a folder: a row for each energy, as many tracks as fit.

    \b
    Examples:
      firstlight lartpc gallery Tracks
      firstlight lartpc gallery Tracks --energy 10MeV --each --html
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.lartpc.views.gallery import draw_gallery, entries_of, save_pictures
    from firstlight.detectors.lartpc.views.page import event_page
    from firstlight.detectors.lartpc.views.three import draw_panels
    from firstlight.view.save import save_canvas

    options["medium"] = medium_from(options)
    progress = progress_from(options)
    frame = chosen(root, particles, energies).drop_nulls(["particle", "energy_keV"])
    if not frame.height:
        what = "neither names of files nor of folders say particle and energy of these tracks"
        raise InputError(what, where=root, hint="firstlight lartpc plot draws any track")
    entries = entries_of(frame.to_dicts())
    refused: list[InputError] = []
    canvas = draw_gallery(entries, columns=columns, zoom=_zoom(zoom), progress=progress, refused=refused)
    say(options, str(save_canvas(canvas, output / "gallery.png", 130)))
    if each or each_with_readout:

        def draw(track: Track) -> Any:
            return draw_panels(_scene(track, options, stages=each_with_readout), zoom=_zoom(zoom))

        # those in the sheet have been told
        refused.clear()
        for path in save_pictures(entries, output, draw=draw, progress=progress, refused=refused):
            say(options, str(path))
    if html:
        few = entries_of(frame.to_dicts(), per_energy=columns)
        tracks = Tracks([entry.source for entry in few if isinstance(entry.source, Path)])
        scenes = [_scene(track, options, stages=False) for _, track in tracks]
        say(options, str(event_page(scenes, output / "events.html", title=f"Tracks of {root.name}")))
    finish(refused, len(entries))


@click.command("compare")
@click.argument("root", type=click.Path(path_type=Path), default=Path("Tracks"))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("electrons-and-photons.png"),
    show_default=True,
)
@energy_option
@click.option(
    "--track",
    "number",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which of each folder.",
)
@progress_options
def compare(root: Path, output: Path, energies: tuple[float, ...], number: int, **options: Any) -> None:
    """Draw an electron beside a photon at every energy, at the same scale.

    \b
    Example:
      firstlight lartpc compare Tracks --energy 1MeV,10MeV --track 1
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.lartpc.reading.tracks import load
    from firstlight.detectors.lartpc.views.compare import draw_comparison
    from firstlight.view.save import save_canvas

    frame = chosen(root, ("electron", "photon"), energies).drop_nulls("energy_keV")
    most = int(frame.group_by("energy_keV", "particle").len()["len"].max() or 0)  # type: ignore[arg-type]
    if number >= most:
        what = f"--track {number}: the largest folder has {most} tracks, which count from 0"
        raise UsageError(what, where=root)
    rows: dict[float, dict[str, Track]] = {}
    for (energy, particle), part in frame.group_by("energy_keV", "particle", maintain_order=True):
        paths = part["path"].to_list()
        if number >= len(paths):
            say(
                options,
                f"  {float(str(energy)) / 1000:g} MeV {particle}s: only {len(paths)}, the last is drawn",
            )
        rows.setdefault(float(str(energy)), {})[str(particle)] = load(paths[min(number, len(paths) - 1)])
    both = {energy: pair for energy, pair in sorted(rows.items()) if len(pair) == 2}
    if not both:
        known = [f"{energy / 1000:g} MeV: {', '.join(pair)}" for energy, pair in sorted(rows.items())]
        what = "holds no energy with both electrons and photons"
        raise InputError(what, where=root, known=known)
    alone = [f"{energy / 1000:g} MeV" for energy in sorted(rows) if energy not in both]
    if alone:
        say(options, f"  left out, of one particle alone: {', '.join(alone)}")
    say(options, str(save_canvas(draw_comparison(both), output, 130)))


VIEWS = (plot, gallery, compare)
