"""What each file was taken with: without high voltage, in the dark, with flashes or continuous light of which level.

A header or a name says so, or the data do. What is found is a condition of the input: it stands in ``run.json`` beside
the file, and in the report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.schema import Span
from firstlight.data.select import Cut, Selection
from firstlight.detector import Description, Plan
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.channels import channel_map
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.detectors.digicam.options import Options

__all__ = ["Look", "kind_of", "level_index", "look_at", "plan", "said_kind"]

_LOOK = 100  # events at the beginning of a file
# words that headers (RUNTYPE) and names have for what a file was taken with
_WORDS = {
    "hv_off": re.compile(r"hv_?off", re.IGNORECASE),
    "dark": re.compile(r"dark", re.IGNORECASE),
    "led": re.compile(r"(?<![a-z])(ac_?)?led|ac_?scan|ac_?dac|flash", re.IGNORECASE),
    "dc": re.compile(r"(?<![a-z])dc(_?led|_?scan|_\d|\b)|nsb", re.IGNORECASE),
    "sky": re.compile(r"science|sky|cosmic", re.IGNORECASE),
}


@dataclass(frozen=True)
class Look:
    """What the first events of a file look like.

    Parameters
    ----------
    path : str
        The file.
    n_events : int
        Events that were looked at.
    median : ndarray, shape (1296,)
        Of all samples of a pixel [LSB].
    width : ndarray, shape (1296,)
        Standard deviation of the samples of a pixel [LSB].
    mean : ndarray, shape (1296, n_samples)
        Mean waveform less the median [LSB].
    samples : ndarray of uint16, shape (n_events, 1296, n_samples)
        The waveforms.
    """

    path: str
    n_events: int
    median: NDArray[np.float64]
    width: NDArray[np.float64]
    mean: NDArray[np.float64] = field(repr=False)
    samples: NDArray[np.uint16] = field(repr=False)

    @cached_property
    def skewness(self) -> float:
        """Of the samples of a typical pixel."""
        by_pixel = _by_pixel(self.samples)
        centred = by_pixel - by_pixel.mean(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (centred**3).mean(axis=1) / self.width**3
        return float(np.nanmedian(found)) if (self.width > 0).any() else 0.0

    @property
    def flash(self) -> float:
        """Height of the mean pulse in the brightest tenth of the pixels, in its own errors."""
        error = np.maximum(self.width, 0.3)[:, None] / np.sqrt(max(self.n_events, 1))
        above = (self.mean.max(axis=1, keepdims=True) - np.median(self.mean, axis=1, keepdims=True)) / error
        return float(np.quantile(above, 0.9))


def look_at(description: Description, n_events: int = _LOOK, start: int = 0) -> Look | None:
    """Return what the first events of a file look like; None where there are none."""
    from firstlight.detectors.digicam.source import SOURCES

    source = next(one for one in SOURCES if one.name == description.source)
    stop = min(start + n_events, description.n_events)
    if stop <= start:
        return None
    span = Span(description.path, 0, start, stop)
    chunks = list(source.read(span, {"waveforms": ()}, channel_map(), chunk_events=n_events))
    samples = np.concatenate([chunk.block("waveforms").values for chunk in chunks])
    if samples.size == 0:
        return None
    by_pixel = _by_pixel(samples)
    median = np.median(by_pixel, axis=1)
    mean = samples.mean(axis=0) - median[:, None]
    return Look(description.path, samples.shape[0], median, by_pixel.std(axis=1), mean, samples)


def _by_pixel(samples: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return all samples of each pixel, shape (1296, n)."""
    return np.moveaxis(samples, 1, 0).reshape(N_PIXELS, -1).astype(np.float64)


def said_kind(description: Description) -> tuple[str, str] | None:
    """Return what header or name say a file was taken with, and which of them; the header goes before the name."""
    said = str(description.facts.get("run_type") or "")
    for text, what in ((said, f"header: {said}"), (Path(description.path).name, "name")):
        for kind, words in _WORDS.items():
            if text and words.search(text):
                return kind, what
    return None


def kind_of(description: Description, look: Look | None) -> tuple[str, str]:
    """Return what a file was taken with, and what says so, from its data.

    Light that comes at the same time in every event is a flash; samples that lean to higher values have pulses.
    """
    if look is None:
        return "sky", "no events"
    if look.flash > 8 and look.n_events >= 10:
        return "led", f"a pulse at the same time in every event, {look.flash:.0f} errors high"
    # errors of the skewness of a normal sample: sqrt(6 / n), of the median pixel a fortieth of it
    n_samples = look.n_events * look.mean.shape[1]
    if look.skewness > max(0.05, 3 * np.sqrt(6 / n_samples) / 40):
        types = description.facts.get("event_types", ())
        if types and set(types) - {8}:
            return "sky", f"triggered events, types {', '.join(map(str, sorted(types)))}"
        return "dark", f"samples lean to higher values: skewness {look.skewness:.2f}"
    return "hv_off", f"samples are symmetric: skewness {look.skewness:.2f}"


def level_index(number: NDArray[np.int64], first_number: int, options: Options) -> NDArray[np.int64]:
    """Return which level of a scan each event belongs to, by its number; -1 for events after the last one.

    A lost event shifts nothing: numbers count, not events.

    Parameters
    ----------
    number : ndarray, shape (n_events,)
        Event numbers.
    first_number : int
        Of the scan.
    options : Options
        Levels, and events of each.
    """
    index = (number - first_number) // options.events_per_level
    return np.where((index >= 0) & (index < len(options.scan_levels)), index, -1)


def plan(options: Options, descriptions: Sequence[Description]) -> Plan:
    """Return how the files of one run are to be read.

    The first events of files are looked at: for what they were taken with where nothing else says so, for the level near
    which the samples of each pixel lie, and for the sample in which light arrives.

    Raises
    ------
    UsageError
        If positions of the light are not those of this camera.
    """
    looks: dict[str, Look | None] = {}

    def look(description: Description) -> Look | None:
        if description.path not in looks:
            looks[description.path] = look_at(description)
        return looks[description.path]

    conditions: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for found in descriptions:
        given = (str(options.kind), "option") if options.kind != "auto" else said_kind(found)
        kind, why = given or kind_of(found, look(found))
        conditions[found.path] = {"kind": kind, "kind_from": why}
        if kind in ("led", "dc"):
            level = found.conditions.get("level", found.facts.get("level"))
            if level is not None:
                conditions[found.path]["level"] = float(level)
            elif not options.scan_levels:
                # all events of one unknown level
                conditions[found.path]["level"] = 0.0
                notes.append(
                    f"{Path(found.path).name}: no level is known, taken as 0 (--set scan_levels=...)"
                )
    _number_scans(descriptions, conditions)
    refused = _refuse_mixed_lengths(descriptions)
    usable = [found for found in descriptions if found.path not in refused]
    reference = _reference(usable, conditions, look)
    light = _light_sample(options, usable, conditions, look, notes)
    lit: Any = True
    if options.cts_sector is not None:
        from firstlight.detectors.digicam.light_source import lit_pixels

        lit = lit_pixels(sector=options.cts_sector, version=options.cts_version)
    return Plan(channel_map(reference, light, lit), _selection(options), refused, tuple(notes), conditions)


def _number_scans(descriptions: Sequence[Description], conditions: dict[str, dict[str, Any]]) -> None:
    """Give all files of a scan that is one sequence of events the number with which it begins."""
    for kind in ("led", "dc"):
        own = [one for one in descriptions if conditions[one.path]["kind"] == kind]
        own = [one for one in own if "level" not in conditions[one.path]]
        firsts = [int(one.facts.get("first_number", 0)) for one in own]
        for one in own:
            conditions[one.path]["first_number"] = min(firsts)


def _refuse_mixed_lengths(descriptions: Sequence[Description]) -> dict[str, str]:
    """Return which files have traces of another length than most, with the reason."""
    lengths = {one.path: one.facts.get("n_samples") for one in descriptions}
    known = [length for length in lengths.values() if length is not None]
    if len(set(known)) < 2:
        return {}
    usual = max(sorted(set(known)), key=known.count)
    return {
        path: f"traces of {length} samples, the other files have {usual}: give them as runs of their own"
        for path, length in lengths.items()
        if length is not None and length != usual
    }


def _reference(
    descriptions: Sequence[Description], conditions: Mapping[str, Mapping[str, Any]], look: Any
) -> NDArray[np.int64]:
    """Return a whole number near the baseline of each pixel: its median where there is least light."""
    order = {"hv_off": 0, "dark": 1, "led": 2, "sky": 3, "dc": 4}
    ranked = sorted(
        descriptions,
        key=lambda one: (
            order[conditions[one.path]["kind"]], conditions[one.path].get("level", 0.0), one.path
        ),
    )  # fmt: skip
    for one in ranked:
        found = look(one)
        if found is not None:
            return np.asarray(np.rint(found.median), dtype=np.int64)
    return np.full(N_PIXELS, 284)


def _light_sample(
    options: Options,
    descriptions: Sequence[Description],
    conditions: Mapping[str, Mapping[str, Any]],
    look: Any,
    notes: list[str],
) -> NDArray[np.int64]:
    """Return the sample in which the light of a flash arrives in each pixel."""
    if options.positions:
        return _read_positions(Path(options.positions))
    if options.sample is not None:
        return np.full(N_PIXELS, options.sample)
    flashes = [one for one in descriptions if conditions[one.path]["kind"] == "led" and one.n_events]
    if not flashes:
        return np.full(N_PIXELS, -1)
    brightest = max(flashes, key=lambda one: (conditions[one.path].get("level", 0.0), one.path))
    found = look(brightest)
    if "first_number" in conditions[brightest.path]:
        # one sequence of events: the light is at its end
        begin = max(brightest.n_events - _LOOK, 0)
        found = look_at(brightest, start=begin)
    if found is None:
        return np.full(N_PIXELS, -1)
    peak = found.mean.argmax(axis=1)
    error = np.maximum(found.width, 0.3) / np.sqrt(found.n_events)
    clear = (found.mean.max(axis=1) - np.median(found.mean, axis=1)) > 8 * error
    if not clear.any():
        notes.append(
            "no flash was found: the light is looked for in the middle of the trace (option `sample`)"
        )
        return np.full(N_PIXELS, found.mean.shape[1] // 2)
    usual = int(np.median(peak[clear]))
    # a pixel with one odd event must not be led astray: light arrives everywhere within a few samples
    near = clear & (np.abs(peak - usual) <= 3)
    return np.where(near, peak, usual)


def _read_positions(path: Path) -> NDArray[np.int64]:
    """Return the sample of the light in each pixel from a file."""
    if not path.is_file():
        what = "file with the positions of the light does not exist"
        raise UsageError(what, where=path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                if "peaks" not in content:
                    raise UsageError.unknown("array", "peaks", list(content), where=path)
                table = content["peaks"]
            found = table.argmax(axis=-1) if table.ndim == 2 else table
        else:
            found = np.loadtxt(path, comments="#", ndmin=1)
    except (ValueError, OSError) as error:
        what = f"positions of the light cannot be read: {error}"
        raise UsageError(what, where=path) from error
    if found.shape != (N_PIXELS,):
        what = f"positions have the shape {found.shape}, the camera has {N_PIXELS} pixels"
        raise UsageError(what, where=path, hint="peaks (1296, 51) of the original, or 1296 whole numbers")
    return np.asarray(found, dtype=np.int64)


def _selection(options: Options) -> Selection:
    cuts = [Cut(cut, "events", cut) for cut in options.cuts]
    if options.event_types:
        flags = int(np.bitwise_or.reduce(options.event_types))
        wanted = [value for value in range(256) if value & flags]
        types = ", ".join(map(str, options.event_types))
        cuts.insert(
            0, Cut(f"event types {types}", "events", f"event_type in ({', '.join(map(str, wanted))})")
        )
    return Selection(tuple(cuts))
