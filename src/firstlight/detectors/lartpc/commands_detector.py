"""Verbs on what a detector makes of tracks: drift, readout, scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from firstlight.cli.common import json_option, progress_from, progress_options
from firstlight.detectors.lartpc.commands_common import (
    Names,
    Tracks,
    depth_options,
    distance_option,
    json_text,
    medium_from,
    medium_options,
    numbers,
    say,
)
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.drift import Drifted
    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.detectors.lartpc.readout.designs import Design

__all__ = ["DETECTOR"]

_seed = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Each track has its own numbers, by its points.",
)
_output = click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder of the arrays, an .npz for each track."
)
_bunch = click.option(
    "--bunch",
    type=click.FloatRange(min=1),
    default=1.0,
    show_default=True,
    help="Most electrons moved together; 1 moves every one.",
)
_settings = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="A value of the read-out: pixels.noise=50, coarse_grids.threshold_sigma=3.",
)  # fmt: skip


def _design(name: str, settings: Sequence[str]) -> Design:
    from firstlight.cli.common import values_from
    from firstlight.detectors.lartpc.readout.designs import design

    values = values_from(None, tuple(settings))
    changes: dict[str, Any] = {}
    for part, value in values.items():
        if isinstance(value, dict):
            changes |= {f"{part}.{key}": inner for key, inner in value.items()}
        else:
            changes[part] = value
    return design(name, changes)


def _say_medium(options: dict[str, Any], medium: Medium) -> None:
    say(
        options,
        f"  argon at {medium.temperature:g} K, {medium.field:g} kV/cm: {medium.velocity:.4f} mm/us ({medium.model_name}), "
        f"D_L {medium.longitudinal_diffusion:.2f}, D_T {medium.transverse_diffusion:.2f} cm2/s, "
        f"lifetime {medium.lifetime:g} ms",
    )
    for note in medium.notes:
        say(options, f"  note: {note}")


def _keep(folder: Path | None, names: Names, name: str, arrays: dict[str, Any]) -> None:
    from firstlight.files import atomic

    if folder is None:
        return
    with atomic(folder / f"{names.of(name)}.npz") as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


@click.command("drift")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@depth_options
@_bunch
@_seed
@_output
@medium_options
@json_option
@progress_options
def drift_tracks(
    paths: tuple[Path, ...],
    depth: float,
    distance: str,
    bunch: float,
    seed: int,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Drift the charge of tracks to the anode: how much arrives, how wide, when.

    The arrays are called drift_TRACK.npz and have positions (3, n) [m], electrons (n,), time (n,) [us] and source (n,), the
    point that each bunch comes from.
    """
    from firstlight.detectors.lartpc.drift import drift, stream
    from firstlight.detectors.lartpc.readout.cells import cell_around
    from firstlight.detectors.lartpc.readout.designs import DESIGNS
    from firstlight.detectors.lartpc.readout.step import event_seed

    medium = medium_from(options)
    rows = []
    if not as_json:
        _say_medium(options, medium)
    tracks, names = Tracks(paths), Names()
    for _, track in tracks:
        anode = cell_around(track.positions, DESIGNS["GAMPixG"]).z_anode
        rng = stream(seed, event_seed(track))
        found = drift(
            track.positions,
            track.num_e,
            medium,
            rng,
            anode=anode,
            depth=depth,
            bunch=bunch,
            naive=distance == "common",
        )
        shift = found.positions - track.positions[:, found.source]
        weight = found.num_e / max(found.charge, 1)
        widths = [float(1e3 * np.sqrt(np.sum(weight * each**2))) for each in shift]
        mean_time = float(np.sum(weight * found.time))
        row = {
            "track": track.name,
            "electrons": track.charge,
            "arrived": found.charge,
            "share": found.charge / max(track.charge, 1),
            "sigma_x [mm]": widths[0],
            "sigma_y [mm]": widths[1],
            "sigma_z [mm]": widths[2],
            "time [us]": mean_time,
        }
        rows.append(row)
        _keep(
            output,
            names,
            f"drift_{track.name}",
            {
                "positions": found.positions,
                "electrons": found.num_e,
                "time": found.time,
                "source": found.source,
            },
        )
        if not as_json:
            say(
                options,
                f"  {track.name}: {found.charge:,} of {track.charge:,} electrons arrive ({row['share']:.2%}) after "
                f"{mean_time:.1f} us, spread {widths[0]:.3f}, {widths[1]:.3f}, {widths[2]:.3f} mm in x, y, z",
            )
    if as_json:
        click.echo(json_text({"medium": medium.record(), "tracks": rows}))
    tracks.finish()


@click.command("readout")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--readout",
    "name",
    default="GAMPixG",
    show_default=True,
    help="GAMPixG, GAMPixD, LArPix, AnodeGridD, AnodeGridG.",
)
@depth_options
@click.option(
    "--coarse-trigger", is_flag=True, help="Read pixels only where wires or tiles are above threshold."
)
@click.option(
    "--waveforms",
    is_flag=True,
    help="With the clock: tiles trigger by themselves, pixels are read as waveforms.",
)
@_settings
@_bunch
@_seed
@_output
@medium_options
@json_option
@progress_options
def readout_tracks(
    paths: tuple[Path, ...],
    name: str,
    depth: float,
    distance: str,
    coarse_trigger: bool,
    waveforms: bool,
    settings: tuple[str, ...],
    bunch: float,
    seed: int,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Drift tracks and read them out: pixels, tiles and wires, with noise and thresholds.

    The arrays are called readout_TRACK.npz and have one entry for each sample: positions (3, n) [m], charge (n,),
    charge_true (n,), triggered (n,).

    \b
    Examples:
      firstlight lartpc readout Tracks/LAr/electrons/E0010000 --depth 0.175
      firstlight lartpc readout TRACK --readout LArPix --set pixels.pitch=0.004 -o samples
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.lartpc.readout.step import drift_and_read

    medium, design = medium_from(options), _design(name, settings)
    if not as_json:
        _say_medium(options, medium)
    rows = []
    tracks, names = Tracks(paths), Names()
    for _, track in tracks:
        drifted, read = drift_and_read(
            track,
            design,
            medium,
            depth=depth,
            seed=seed,
            coarse_trigger=coarse_trigger,
            bunch=bunch,
            naive=distance == "common",
        )
        samples = read.collected
        row = {
            "track": track.name,
            "electrons": track.charge,
            "arrived": drifted.charge,
            "voxels": read.n_voxels,
            "triggered": read.n_triggered,
            "of noise alone": read.n_noise,
            "charge above threshold": read.charge,
        }
        rows.append(row)
        arrays = {
            "positions": samples.positions,
            "charge": samples.charge,
            "charge_true": samples.charge_true,
            "triggered": samples.triggered,
        }
        line = (
            f"  {track.name}: {drifted.charge:,} of {track.charge:,} electrons arrive in {read.n_voxels:,} samples; "
            f"{read.n_triggered:,} above {samples.threshold:g} electrons hold {read.charge:,.0f}, {read.n_noise} are noise"
        )
        if waveforms:
            arrays, more = _waveforms(drifted, design, seed)
            line += more
        _keep(output, names, f"readout_{track.name}", arrays)
        if not as_json:
            say(options, line)
    if as_json:
        click.echo(json_text({"design": design.record(), "medium": medium.record(), "tracks": rows}))
    tracks.finish()


def _waveforms(drifted: Drifted, design: Design, seed: int) -> tuple[dict[str, NDArray[Any]], str]:
    from firstlight.detectors.lartpc.readout.waveforms import read_waveforms

    found = read_waveforms(drifted, design, seed)
    pixels = found.pixels
    arrays = {
        "xy": pixels.positions,
        "time": pixels.time,
        "charge": pixels.charge,
        "charge_true": pixels.charge_true,
        "tile": pixels.tile,
        "tile_xy": found.tiles.positions,
        "tile_time": found.tiles.time,
        "tile_charge": found.tiles.charge,
    }
    more = (
        f"; with the clock {len(found.tiles)} waveforms of tiles, {len(pixels)} of pixels with "
        f"{pixels.charge.sum():,.0f} electrons"
    )
    return arrays, more


def _with_error(row: dict[str, Any], name: str) -> str:
    error = row[f"{name}_error"]
    return f"{row[name]:.3f}" + ("" if error is None else f" ± {error:.3f}")


@click.command("scan")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--readout", "name", default="GAMPixG", show_default=True, help="Read-out that is changed.")
@click.option("--pitch", callback=numbers("mm"), metavar="MM,MM", help="Pitches of pixels [mm].")
@click.option(
    "--noise", callback=numbers("electrons", zero=True), metavar="E,E", help="Noise of pixels [electrons]."
)
@click.option("--depth", callback=numbers("m", zero=True), metavar="M,M", help="Drift lengths [m].")
@distance_option
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("scan"), show_default=True)
@_seed
@medium_options
@progress_options
def scan(
    paths: tuple[Path, ...],
    name: str,
    pitch: tuple[float, ...],
    noise: tuple[float, ...],
    depth: tuple[float, ...],
    distance: str,
    output: Path,
    seed: int,
    **options: Any,
) -> None:
    """Show what pitch, noise and drift length do to the charge that is seen: a table and a picture.

    \b
    Example:
      firstlight lartpc scan Tracks/LAr/electrons/E0001000 --pitch 0.3,0.5,1,2 --depth 0.05,0.175,0.5,1
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.lartpc.readout.designs import design
    from firstlight.detectors.lartpc.scan import scan_design
    from firstlight.detectors.lartpc.views.scan import draw_scan
    from firstlight.files import atomic
    from firstlight.view.save import save_canvas

    medium = medium_from(options)
    if not (pitch or noise or depth):
        what = "nothing to scan"
        raise UsageError(what, hint="--pitch 0.5,1,2 or --noise 10,25,50 or --depth 0.05,0.175,1")
    given = Tracks(paths)
    tracks = [track for _, track in given]
    frame: pl.DataFrame = scan_design(
        tracks, design(name), medium, pitches=[1e-3 * value for value in pitch], noises=noise, depths=depth,
        seed=seed, naive=distance == "common", progress=progress_from(options),
    )  # fmt: skip
    with atomic(output / "scan.csv") as temporary:
        frame.write_csv(temporary)
    save_canvas(draw_scan(frame, name), output / "scan.png", 130)
    for row in frame.iter_rows(named=True):
        say(
            options,
            f"  pitch {row['pitch']:>6g} mm  noise {row['noise']:>6g} e  depth {row['depth']:>6g} m:  "
            f"{_with_error(row, 'seen')} of the charge that arrives, {row['samples']:,.1f} samples",
        )
    say(options, f"  {output / 'scan.csv'}\n  {output / 'scan.png'}")
    given.finish()


DETECTOR = (drift_tracks, readout_tracks, scan)
