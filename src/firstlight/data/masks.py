"""Lists of known-bad channels.

A text file, one line for some channels of one group::

    D0X   74            # hot since run 5990, ticket 12
    P1X1  65-72         # module without gas
    D0Vp  *

Positions count as in the channel map. ``#`` begins a comment, which is kept as the reason.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import ConfigError, FirstlightError
from firstlight.files import write_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap

__all__ = ["read_mask", "write_mask"]

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_DASH = re.compile(r"\s*(?:-|\.\.)\s*")


def read_mask(path: Path | str, channels: ChannelMap) -> tuple[NDArray[np.bool_], dict[int, str]]:
    """Return which channels a mask file names, and why.

    Parameters
    ----------
    path : Path or str
        The file.
    channels : ChannelMap
        With the columns ``group`` and ``position``.

    Returns
    -------
    masked : ndarray of bool, shape (n_channels,)
        True for masked channels.
    reasons : dict of int to str
        Comment of each masked channel.

    Raises
    ------
    ConfigError
        If the file is missing or malformed; names the line, what is wrong and what exists.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = f"mask file cannot be read: {error}"
        raise ConfigError(what, where=path) from error
    masked = np.zeros(len(channels), dtype=bool)
    reasons: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content, _, comment = line.partition("#")
        if not content.strip():
            continue
        for channel in _channels(content.split(maxsplit=1), channels, f"{path}, line {number}"):
            masked[channel] = True
            reasons[channel] = comment.strip()
    return masked, reasons


def _channels(words: list[str], channels: ChannelMap, where: str) -> list[int]:
    try:
        members = channels.channels_of(words[0])
    except FirstlightError as error:
        raise ConfigError(error.what, where=where, known=error.known, hint=error.hint) from None
    position = channels.column("position")[members]
    low, high = int(position.min()), int(position.max())
    if len(words) == 1:
        what = f"{words[0]} is named without positions"
        raise ConfigError(what, where=where, hint=f"{words[0]} * for all, {words[0]} {low}-{high} for some")
    wanted: set[int] = set()
    for part in _DASH.sub("-", words[1]).replace(",", " ").split():
        found = _RANGE.fullmatch(part)
        if part != "*" and found is None:
            what = f"{part!r} is not a position, a range like 65-72, or *"
            raise ConfigError(what, where=where)
        first, last = (low, high) if found is None else (int(found[1]), int(found[2] or found[1]))
        if not low <= first <= last <= high:
            what = f"{part!r} is outside of {words[0]}, which has positions {low} to {high}"
            raise ConfigError(what, where=where)
        wanted |= set(range(first, last + 1))
    return [int(channel) for channel, place in zip(members, position, strict=True) if int(place) in wanted]


def write_mask(path: Path, channels: ChannelMap, reasons: dict[int, str], title: str) -> Path:
    """Write a mask file.

    Parameters
    ----------
    path : Path
        Where.
    channels : ChannelMap
        With the columns ``group`` and ``position``.
    reasons : dict of int to str
        Why, by channel.
    title : str
        First comment line.
    """
    group, position = channels.column("group"), channels.column("position")
    lines = [f"# {title}"]
    run: list[int] = []
    for channel in [*sorted(reasons), -1]:
        follows = run and channel == run[-1] + 1 and group[channel] == group[run[-1]]
        follows = follows and position[channel] == position[run[-1]] + 1
        if run and not (follows and reasons[channel] == reasons[run[0]]):
            first, last = position[run[0]], position[run[-1]]
            places = str(first) if first == last else f"{first}-{last}"
            lines.append(f"{group[run[0]]:<8} {places:<10} # {reasons[run[0]]}")
            run = []
        if channel >= 0:
            run.append(channel)
    return write_text(path, "\n".join(lines) + "\n")
