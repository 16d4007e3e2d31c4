"""The pixels of a VeloPix with what its equalisation says of them, and which scans belong to one run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.channels import ChannelMap
from firstlight.data.select import Selection
from firstlight.detector import Description, Plan
from firstlight.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.velo.equalisation import Equalisation

__all__ = [
    "COLUMNS",
    "N_PIXELS",
    "ROWS",
    "channel_map",
    "divide",
    "equalisation_of",
    "label_of",
    "masked",
    "plan",
]

ROWS = COLUMNS = 256
N_PIXELS = ROWS * COLUMNS

_LABEL = re.compile(r"(?:^|[^a-z])(warm|cold)", re.IGNORECASE)
# columns of the channel map and the fields of an `Equalisation` that they come from
_CODES = ("mask", "trim")
_MEANS = ("trim0_mean", "trimF_mean", "trim0_width", "control_mean", "predicted_mean")


def channel_map(prefix: str, equalisation: Equalisation | None = None) -> ChannelMap:
    """Return the channel map of a chip.

    Parameters
    ----------
    prefix : str
        Module and chip as in file names: ``"Module0_VP3-1"``.
    equalisation : Equalisation, optional
        What is known of each pixel from the equalisation; nothing where not given.

    Returns
    -------
    ChannelMap
        65,536 pixels, channel = 256 row + column, with ``row``, ``col`` and, null where not known: ``mask``
        (code, 0 is good), ``trim`` (0-15), ``trim0_mean``, ``trimF_mean``, ``trim0_width``, ``control_mean``
        and ``predicted_mean`` [DAC].
    """
    channel = np.arange(N_PIXELS, dtype=np.int32)
    frame = pl.DataFrame(
        {
            "channel": channel,
            "row": (channel // COLUMNS).astype(np.int16),
            "col": (channel % COLUMNS).astype(np.int16),
        }
    )
    columns = []
    for name in _CODES:
        values = None if equalisation is None else getattr(equalisation, name)
        column = pl.Series(name, [None] * N_PIXELS if values is None else values, dtype=pl.Int8)
        columns.append(column)
    for name in _MEANS:
        values = None if equalisation is None else getattr(equalisation, name)
        column = pl.Series(name, [None] * N_PIXELS if values is None else values, dtype=pl.Float64)
        columns.append(column.fill_nan(None))
    frame = frame.with_columns(columns)
    masked_ = frame["mask"].fill_null(0) > 0
    frame = frame.with_columns(masked_.alias("optional"))
    return ChannelMap(
        prefix, "VeloPix", frame, "grid", labels={"row": "row", "col": "column", "channel": "pixel"}
    )


def equalisation_of(channels: ChannelMap) -> Equalisation:
    """Return the equalisation that a channel map was made with."""
    from firstlight.detectors.velo.equalisation import Equalisation

    found: dict[str, Any] = {}
    for name in (*_CODES, *_MEANS):
        series = channels.frame[name]
        if series.null_count() == len(series):
            found[name] = None
        elif name in _CODES:
            found[name] = series.fill_null(0).to_numpy()
        else:
            found[name] = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return Equalisation(prefix=channels.name, **found)


def masked(channels: ChannelMap) -> NDArray[np.bool_]:
    """Return which pixels the mask takes out, of shape (65536,)."""
    return np.asarray(channels.frame["mask"].fill_null(0).to_numpy() > 0)


def label_of(path: Path) -> str:
    """Return the temperature label that the name of a folder says: ``"warm"``, ``"cold"`` or nothing."""
    for name in (path.name, path.parent.name):
        found = _LABEL.search(name)
        if found:
            return found[1].lower()
    return ""


def divide(paths: Sequence[Path]) -> Mapping[str, list[Path]]:
    """Return which scan folders are added up, by the name of their run.

    Folders of one chip, one label and the same equalisation are parts of one scan. Noise scans of one chip
    belong to it as well.

    Parameters
    ----------
    paths : sequence of Path
        Scan folders and files of noise scans.
    """
    from firstlight.detectors.velo.equalisation import digest_of
    from firstlight.detectors.velo.frames import list_frames

    groups: dict[tuple[Any, ...], list[Path]] = {}
    for path in paths:
        if path.is_dir():
            prefixes = tuple(sorted(set(list_frames(path).prefixes)))
            key = ("scan", prefixes, label_of(path), tuple(digest_of(path, prefix) for prefix in prefixes))
        else:
            # the name says neither temperature nor date: what stands in another folder is another scan
            key = ("noise", (str(path.absolute().parent),), re.sub(r"_\d+of\d+(?=\.dat)", "", path.name), ())
        groups.setdefault(key, []).append(path)
    if len(groups) == 1:
        return {"": list(paths)}
    named: dict[str, list[Path]] = {}
    for (kind, *_), members in groups.items():
        base = members[0].name if kind == "scan" else members[0].name.split(".")[0]
        name, number = base, 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = members
    return named


def plan(options: Any, descriptions: Sequence[Description]) -> Plan:
    """Return the channel map of the chip, and which inputs belong to another one.

    Parameters
    ----------
    options : StrictModel
        The configuration of the run.
    descriptions : sequence of Description
        What the inputs hold.

    Raises
    ------
    ConfigError
        If frames of several chips are there and none was chosen, or the chosen one is not there.
    """
    from pathlib import Path

    from firstlight.detectors.velo.equalisation import digest_of, read_equalisation

    prefix = _prefix_of(options.prefix, descriptions)
    refused: dict[str, str] = {}
    notes: list[str] = []
    first: tuple[str, str] | None = None
    equalisation: Equalisation | None = None
    for found in descriptions:
        if prefix not in found.facts["chips"]:
            refused[found.path] = f"has no data of {prefix} but of {', '.join(found.facts['chips'])}"
            continue
        if found.source != "scan":
            continue
        folder = Path(found.path)
        kind = (label_of(folder), digest_of(folder, prefix))
        if first is None:
            first = kind
            equalisation = read_equalisation(folder, prefix)
            notes += [f"{folder.name}: {note}" for note in equalisation.notes]
        elif kind != first:
            reason = "another temperature label" if kind[0] != first[0] else "another mask or equalisation"
            refused[found.path] = f"belongs to another scan ({reason}): make a run of it by itself"
    return Plan(channel_map(prefix, equalisation), Selection(), refused, tuple(notes))


def _prefix_of(wanted: str, descriptions: Sequence[Description]) -> str:
    known = sorted({chip for found in descriptions for chip in found.facts["chips"]})
    if wanted:
        if wanted not in known:
            raise ConfigError.unknown("chip", wanted, known, where="option prefix")
        return wanted
    # chips of which a scan is there come first: a noise scan beside it does not decide
    scanned = sorted(
        {chip for found in descriptions if found.source == "scan" for chip in found.facts["chips"]}
    )
    chips = scanned or known
    if len(chips) > 1:
        what = f"there are data of {len(chips)} chips, and one run is of one chip"
        raise UsageError(what, known=chips, hint=f"--set prefix={chips[0]}")
    return str(chips[0])
