"""What the verbs have in common: tracks given by path, liquid argon, energies as people write them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.detectors.lartpc.reading.names import FOLDERS
from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import polars as pl

    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.detectors.lartpc.readout.hits import Hits
    from firstlight.detectors.lartpc.readout.read import Readout
    from firstlight.detectors.lartpc.track import Track

__all__ = [
    "Names", "Tracks", "chosen", "depth_options", "distance_option", "energies_of", "energy_of", "energy_option", "finish",
    "hits_of", "json_text", "medium_from", "medium_options", "numbers", "one_energy", "particle_option", "say",
]  # fmt: skip

_ENERGY = re.compile(r"\s*(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*(?P<unit>[a-zA-Z]*)\s*")
_UNITS = {"": 1.0, "ev": 1e-3, "kev": 1.0, "mev": 1e3, "gev": 1e6}


def medium_options(command: Any) -> Any:
    """Add the options that describe liquid argon and its field."""
    options = (
        click.option(
            "--medium", "preset", type=click.Choice(["dune87K", "gampy110K"]), default="dune87K", show_default=True,
            help="Liquid argon at 87 K, or at 110 K with the numbers of the original tool.",
        ),
        click.option("--temperature", type=float, help="Temperature [K]."),
        click.option("--field", type=float, help="Drift field [kV/cm]."),
        click.option("--lifetime", type=float, help="Lifetime of drifting electrons [ms]."),
        click.option("--velocity", metavar="MODEL", help="Drift velocity: bnl, bnl-gampy, walkowiak, icarus, larsoft; or a file of field [kV/cm] and velocity [mm/us]."),
        click.option("--extrapolate", is_flag=True, help="Use a velocity model outside its range."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


particle_option = click.option(
    "--particle", "particles", multiple=True, type=click.Choice(list(FOLDERS.values())),
    help="Only these; may be repeated.",
)  # fmt: skip
distance_option = click.option(
    "--distance", type=click.Choice(["common", "box"]), default="common", show_default=True,
    help="All charge drifts the depth; or the anode is at the top of the box around each track, and the depth is "
    "added, as in the original.",
)  # fmt: skip


def depth_options(command: Any) -> Any:
    """Add `--depth` and `--distance`: how far the charge drifts."""
    depth = click.option(
        "--depth", type=click.FloatRange(min=0), default=0.175, show_default=True, help="Drift length [m]."
    )
    return depth(distance_option(command))


def medium_from(options: dict[str, Any]) -> Medium:
    """Return the medium of the options that `medium_options` added, which are taken out."""
    from firstlight.detectors.lartpc.options import MediumOptions
    from firstlight.run.config import build

    names = ("preset", "temperature", "field", "lifetime")
    given = {name: value for name in names if (value := options.pop(name)) is not None}
    if options.pop("extrapolate"):
        given["extrapolate"] = True
    velocity = options.pop("velocity")
    if velocity is None or not Path(velocity).is_file():
        return build(MediumOptions, given | ({} if velocity is None else {"velocity": velocity})).medium()
    # a table may allow what no built-in model does: it is there before anything is checked
    from firstlight.detectors.lartpc.velocity import read_velocity_table

    return build(MediumOptions, given).medium(read_velocity_table(velocity))


def energy_of(text: str) -> float:
    """Return an energy [keV]: ``10MeV``, ``500 keV``; a bare number is in keV.

    Raises
    ------
    UsageError
        If it is none.
    """
    found = _ENERGY.fullmatch(text)
    if found is None or found["unit"].lower() not in _UNITS:
        what = f"{text!r} is not an energy"
        raise UsageError(what, hint="for example 10MeV, 500keV; a bare number is in keV")
    return float(found["number"]) * _UNITS[found["unit"].lower()]


def one_energy(_: click.Context, __: click.Parameter, value: str) -> float:
    """Return the energy [keV] of an option."""
    return energy_of(value)


def energies_of(
    _: click.Context, __: click.Parameter, value: str | Sequence[str] | None
) -> tuple[float, ...]:
    """Return the energies [keV] of an option: one, several with commas, or the option repeated."""
    texts = [value] if isinstance(value, str) else list(value or ())
    return tuple(energy_of(part) for text in texts for part in text.split(",") if part.strip())


energy_option = click.option(
    "--energy", "energies", multiple=True, callback=energies_of, help="Only these: 1MeV,10MeV."
)


def numbers(
    unit: str, *, zero: bool = False
) -> Callable[[click.Context, click.Parameter, str | None], tuple[float, ...]]:
    """Return what turns an option into numbers above 0, or also 0: several with commas, all in `unit`."""

    def read(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
        try:
            found = tuple(float(part) for part in (value or "").split(",") if part.strip())
        except ValueError:
            found = (math.nan,)
        if not all(math.isfinite(number) and (number > 0 or (zero and number == 0)) for number in found):
            what = f"--{parameter.name}: {value!r} are not numbers {'of 0 or more' if zero else 'above 0'} [{unit}]"
            raise UsageError(what, hint=f"--{parameter.name} 0.1,0.5,1")
        return found

    return read


class Names:
    """Names of files that are written: of two tracks of one name the second gets a number, so that none is lost."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def of(self, name: str) -> str:
        """Return the name, with a number if it was given before."""
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found


def json_text(content: Any) -> str:
    """Return JSON; what is infinite or not a number is null, since JSON has no word for it."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [finite(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(content), indent=1, default=str, allow_nan=False)


class Tracks:
    """The tracks that a verb works on; those that cannot be read do not stop it.

    Parameters
    ----------
    paths : sequence of Path
        Single tracks however they are spelled, and folders, below which all are taken.

    Raises
    ------
    InputError
        If a folder holds no track.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths: list[Path] = []
        for path in paths:
            inside = chosen(path, (), ())["path"].to_list() if path.is_dir() else [path]
            self.paths += [Path(each) for each in inside]
        self.refused: list[InputError] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[tuple[Path, Track]]:
        from firstlight.detectors.lartpc.source import EventFiles

        for path in self.paths:
            if EventFiles().sniff(path):
                yield from self._events(path)
                continue
            track = self.load(path)
            if track is not None:
                yield path, track

    def _events(self, path: Path) -> Iterator[tuple[Path, Track]]:
        """Yield all events of a file of many."""
        from firstlight.detectors.lartpc.reading.segments import open_events

        for event in open_events(path).events:
            track = self.load(path, event)
            if track is not None:
                yield path, track

    def load(self, path: Path, event: int | None = None) -> Track | None:
        """Return a track, or None for one that is refused."""
        from firstlight.detectors.lartpc.reading.tracks import load

        try:
            track = load(path, event=event)
            if not len(track):
                what = "holds no point of charge"
                raise InputError(what, where=path)
        except InputError as error:
            self.refused.append(error)
            return None
        return track

    def finish(self) -> None:
        """Raise `InputError` if any track was refused: all are named, the others have been processed."""
        finish(self.refused, len(self))


def finish(refused: Sequence[InputError], total: int) -> None:
    """Raise `InputError` if any of so many tracks was refused, with the reasons."""
    if not refused:
        return
    if total == 1:
        raise refused[0]
    for error in refused:
        click.echo(f"  refused {error}", err=True)
    what = f"{len(refused)} of {total} tracks were refused, the others have been processed"
    raise InputError(what)


def chosen(root: Path, particles: Sequence[str], energies: Sequence[float]) -> pl.DataFrame:
    """Return the catalogue of a tree, or of those of its tracks that have some particle and energy [keV].

    Raises
    ------
    InputError
        If none is left; what exists is named.
    """
    import polars as pl

    from firstlight.detectors.lartpc.reading.catalogue import catalogue

    frame = catalogue(root)
    found = frame
    if particles:
        found = found.filter(pl.col("particle").is_in(list(particles)))
    if energies:
        found = found.filter(pl.col("energy_keV").is_in(list(energies)))
    if not found.height:
        there = (
            frame.select("particle", "energy_keV").unique().sort("particle", "energy_keV", nulls_last=True)
        )
        known = [f"{row[0] or 'particle not known'} {_mev(row[1])}" for row in there.iter_rows()]
        what = "holds no track" if not frame.height else "holds no track of that particle and energy"
        raise InputError(what, where=root, known=known)
    return found


def _mev(energy: float | None) -> str:
    return "of unknown energy" if energy is None else f"{energy / 1000:g} MeV"


def hits_of(read: Readout, hint: str) -> Hits:
    """Return the hits of a read-out in space.

    Raises
    ------
    UsageError
        If it has none, but wires.
    """
    if read.hits is None:
        what = f"{read.design.name} has wires and no pixels: it gives no places in three dimensions"
        raise UsageError(what, hint=hint)
    return read.hits


def say(options: dict[str, Any], line: str) -> None:
    """Print a line unless `--quiet` was given."""
    if not options.get("quiet"):
        click.echo(line)
