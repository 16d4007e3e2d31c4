"""Boards and pixels: which link belongs to which board, which files make one run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.data.channels import ChannelMap
from firstlight.data.select import Selection
from firstlight.detector import Description, Plan
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.detectors.etroc.readout.names import NameFields
    from firstlight.detectors.etroc.source import Link

__all__ = [
    "ETROC1_SIDE",
    "ETROC2_SIDE",
    "Board",
    "board_of_link",
    "channel_map",
    "channel_of",
    "divide",
    "fields_of",
    "plan",
]

ETROC1_SIDE = 4
ETROC2_SIDE = 16
_HALF = 8  # columns 0 to 7 of an ETROC2 are its right half, with the digital supply
_NONE = 255


@dataclass(frozen=True)
class Board:
    """A board of the telescope, with one chip.

    Parameters
    ----------
    number : int
        The board.
    links : tuple of int
        Links over which it is read.
    chip_id : int or None
        Number that the chip tells.
    chip : {"ETROC1", "ETROC2"}
        Kind of chip.
    pixels : tuple of str
        Names of the pixels that are read out, where file names tell: ``"F9P5"``.
    """

    number: int
    links: tuple[int, ...]
    chip_id: int | None
    chip: str
    pixels: tuple[str, ...] = ()


def channel_map(boards: Sequence[Board]) -> ChannelMap:
    """Return the pixels of some boards.

    Returns
    -------
    ChannelMap
        A row for each pixel: 256 of an ETROC2; of an ETROC1 those that file names tell, else one for the whole board.
        Columns ``board``, ``group``, ``pixel``, ``row``, ``col``, ``position``; ``optional`` for an ETROC2 pixel of a half
        that is not read. Groups are boards, with ``links`` and ``chip_id``.
    """
    rows: list[dict[str, Any]] = []
    groups = []
    for board in boards:
        name = f"board {board.number}"
        groups.append(
            {
                "group": name, "board": board.number, "links": "+".join(map(str, board.links)), "chip_id": board.chip_id,
                "chip": board.chip, "pixels": ", ".join(board.pixels),
            }
        )  # fmt: skip
        rows += [{"group": name, "board": board.number, **pixel} for pixel in _pixels(board)]
    frame = pl.DataFrame(rows, schema=_COLUMNS).with_row_index("channel").cast({"channel": pl.Int32})
    grid = len(boards) == 1 and boards[0].chip == "ETROC2"
    chips = "+".join(dict.fromkeys(board.chip for board in boards)) or "ETROC"
    labels = {"row": "row", "col": "column", "channel": "pixel", "group": "board", "position": "pixel"}
    group_frame = pl.DataFrame(groups, schema=_GROUPS)
    layout = "grid" if grid else "planes"
    numbers = ", ".join(str(board.number) for board in boards)
    return ChannelMap(chips, f"board{'s' * (len(boards) > 1)} {numbers}", frame, layout, group_frame, labels)  # type: ignore[arg-type]


_COLUMNS: dict[str, Any] = {
    "group": pl.String, "board": pl.UInt8, "pixel": pl.String, "row": pl.UInt8, "col": pl.UInt8, "position": pl.Int32,
    "optional": pl.Boolean,
}  # fmt: skip
_GROUPS: dict[str, Any] = {
    "group": pl.String, "board": pl.UInt8, "links": pl.String, "chip_id": pl.UInt32, "chip": pl.String, "pixels": pl.String,
}  # fmt: skip


def _pixels(board: Board) -> list[dict[str, Any]]:
    from firstlight.detectors.etroc.readout.names import pixel_place

    if board.chip == "ETROC2":
        side = range(ETROC2_SIDE)
        return [
            {
                "pixel": f"{row}-{col}",
                "row": row,
                "col": col,
                "position": ETROC2_SIDE * row + col,
                "optional": False,
            }
            for row in side
            for col in side
        ]
    found = []
    for position, name in enumerate(board.pixels or ("",)):
        place = pixel_place(name)
        row, col = (None, None) if place is None else place[1:]
        found.append({"pixel": name, "row": row, "col": col, "position": position, "optional": False})
    return found


def board_of_link(channels: ChannelMap) -> NDArray[np.int64]:
    """Return the board of each link, shape (256,); -1 for links that belong to none."""
    found = np.full(256, -1, dtype=np.int64)
    for board, links in channels.groups.select("board", "links").iter_rows():
        for link in links.split("+"):
            if link:
                found[int(link)] = board
    return found


def channel_of(channels: ChannelMap) -> NDArray[np.int32]:
    """Return the channel of each board, row and column, shape (256, 17, 17); -1 for none.

    Index 16 stands for a row or column that is not known: the only pixel of that board, where it has only one.
    """
    found = np.full((256, ETROC2_SIDE + 1, ETROC2_SIDE + 1), -1, dtype=np.int32)
    frame = channels.frame
    row = frame["row"].fill_null(ETROC2_SIDE).to_numpy()
    col = frame["col"].fill_null(ETROC2_SIDE).to_numpy()
    board = frame["board"].to_numpy()
    channel = frame["channel"].to_numpy()
    found[board, row, col] = channel
    for number in np.unique(board):
        own = channel[board == number]
        if own.size == 1:
            found[number, ETROC2_SIDE, ETROC2_SIDE] = own[0]
    return found


def plan(options: Any, descriptions: Sequence[Description]) -> Plan:
    """Return the boards and pixels of a run.

    Parameters
    ----------
    options : StrictModel
        The configuration of the run.
    descriptions : sequence of Description
        What the inputs hold.

    Raises
    ------
    ConfigError
        If the option `boards` names a link that no input has, or one board for two kinds of chip.
    """
    notes = []
    links: dict[int, list[Link]] = {}
    chips: dict[int, str] = {}
    pixels: dict[int, set[str]] = {}
    hit = {link.link for found in descriptions for link in found.facts["links"] if link.hits}
    for found in descriptions:
        for link in found.facts["links"]:
            links.setdefault(link.link, []).append(link)
            chips[link.link] = found.facts["chip"]
        if found.facts["chip"] == "ETROC1":
            for board in fields_of(Path(found.path).name, options, hit).boards:
                if board.pixel is not None:
                    pixels.setdefault(board.board, set()).add(board.pixel)
                # a board that is named is there, although no threshold of the scan has a hit of it
                links.setdefault(board.board, [])
                chips.setdefault(board.board, "ETROC1")
    _check_templates(options, descriptions, hit)
    boards_of = _given(options.boards, links) or _found(links, chips)
    grouped: dict[int, list[int]] = {}
    for number, of_link in boards_of.items():
        grouped.setdefault(of_link, []).append(number)
    boards = [
        Board(
            board, tuple(sorted(members)), _chip_id(links, members), chips.get(members[0], "ETROC2"),
            tuple(sorted(pixels.get(board, ()), key=_natural)),
        )
        for board, members in sorted(grouped.items())
    ]  # fmt: skip
    if not boards:
        notes.append("no input has a hit or packet: one board is assumed")
        boards = [Board(0, (0,), None, descriptions[0].facts["chip"])]
    notes += [
        f"links {' and '.join(map(str, board.links))} are the halves of one chip ({board.chip_id}): board {board.number}"
        for board in boards
        if len(board.links) > 1 and not options.boards
    ]
    return Plan(channel_map(boards), Selection(), {}, tuple(notes))


def _check_templates(options: Any, descriptions: Sequence[Description], boards: Iterable[int]) -> None:
    """Refuse templates of one's own that no file fits: the run would be made as if they had not been given."""
    names = [Path(found.path).name for found in descriptions]
    used = {fields_of(name, options, boards).matched for name in names}
    for template in options.name_templates:
        if template not in used:
            what = f"no file fits the template {template!r}"
            hint = (
                f"names are {', '.join(names[:2])}; fields take the place of what differs, * of anything else"
            )
            raise ConfigError(what, where="option name_templates", hint=hint)


def fields_of(name: str, options: Any, boards: Iterable[int]) -> NameFields:
    """Return what the name of a file tells, for the boards that a run has.

    The boards of a name are those of the option ``name_boards``; where the run has others, or the name another number of
    them, they are the boards of the run in rising order.

    Parameters
    ----------
    name : str
        Name of the file.
    options : Options
        Templates and boards of names.
    boards : iterable of int
        Boards of the run.
    """
    from firstlight.detectors.etroc.readout.names import read_name

    own = tuple(sorted(boards))
    found = read_name(name, options.name_templates, boards=options.name_boards)
    if found.boards and set(own) <= set(options.name_boards):
        return found
    other = read_name(name, options.name_templates, boards=own) if own else found
    return other if other.boards or set(own) - set(options.name_boards) else found


def _given(told: Mapping[str, int], links: Mapping[int, Any]) -> dict[int, int]:
    for link in told:
        if int(link) not in links:
            known = [str(number) for number in sorted(links)]
            raise ConfigError.unknown("link", link, known, where="option boards")
    left_out = [str(link) for link in sorted(links) if told and str(link) not in told]
    if left_out:
        what = f"link {' and '.join(left_out)} is of no board"
        hint = ", ".join(
            f"{link} = {board}" for link, board in [*told.items(), (left_out[0], max(told.values()) + 1)]
        )
        raise ConfigError(what, where="option boards", hint=hint)
    return {int(link): board for link, board in told.items()}


def _found(links: Mapping[int, Sequence[Link]], chips: Mapping[int, str]) -> dict[int, int]:
    """Return the board of each link: e-links of one chip that read different columns make one board."""
    if all(chips.get(link) == "ETROC1" for link in links) or not any(
        _has_chip(found) for found in links.values()
    ):
        return {link: link for link in sorted(links)}
    boards: dict[int, int] = {}
    members: list[list[int]] = []
    for link in sorted(links):
        for group in members:
            if _chip_id(links, group) is not None and _are_halves(links, [*group, link]):
                group.append(link)
                break
        else:
            members.append([link])
    # with one link a board, boards keep the numbers of their links; halves have no number in common
    if all(len(group) == 1 for group in members):
        return {link: link for link in sorted(links)}
    for number, group in enumerate(members):
        boards.update(dict.fromkeys(group, number))
    return boards


def _has_chip(found: Sequence[Link]) -> bool:
    return any(link.chip_id is not None for link in found)


def _chip_id(links: Mapping[int, Sequence[Link]], members: Sequence[int]) -> int | None:
    told = {link.chip_id for member in members for link in links[member] if link.chip_id is not None}
    return told.pop() if len(told) == 1 else None


def _are_halves(links: Mapping[int, Sequence[Link]], members: Sequence[int]) -> bool:
    """Return whether some links are of one chip and each reads another half of its columns."""
    if _chip_id(links, members) is None or len(members) > 2:
        return False
    halves = []
    for member in members:
        columns = [
            (link.first_column, link.last_column) for link in links[member] if link.first_column is not None
        ]
        if not columns:
            # without a hit nothing speaks against it
            continue
        low, high = min(first for first, _ in columns), max(last for _, last in columns)  # type: ignore[type-var]
        halves.append((low // _HALF, high // _HALF))  # type: ignore[operator]
    return all(low == high for low, high in halves) and len(set(halves)) == len(halves)


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def divide(paths: Sequence[Path]) -> Mapping[str, list[Path]]:
    """Return which files are added up, by the name of their run.

    Files of one format in one folder make one run; ETROC1 beam files and charge injection of the same pixels. A
    translation beside raw files makes a run of its own: its hits are the same ones.

    Parameters
    ----------
    paths : sequence of Path
        Input files.
    """
    from firstlight.detectors.etroc.source import SOURCES

    groups: dict[tuple[str, str, str], list[Path]] = {}
    for path in paths:
        kind = next((source.name for source in SOURCES if source.sniff(path)), "")
        groups.setdefault((str(path.absolute().parent), kind, _pixels_of(path, kind)), []).append(path)
    unknown = {key: members for key, members in groups.items() if not key[1]}
    known = {key: members for key, members in groups.items() if key[1]}
    for (folder, _, _), members in unknown.items():
        # what nobody recognises goes with the files beside it, and is refused there by name
        beside = next((key for key in known if key[0] == folder), next(iter(known), None))
        if beside is None:
            return {"": list(paths)}
        known[beside] = [path for path in paths if path in members or path in known[beside]]
    if len(known) == 1:
        return {"": list(paths)}
    named: dict[str, list[Path]] = {}
    for (folder, kind, pixels), members in known.items():
        alike = [key for key in known if key[0] == folder]
        parts = [Path(folder).name]
        if len({key[1] for key in alike}) > 1:
            parts.append(kind)
        if len({key[2] for key in alike if key[1] == kind}) > 1:
            parts.append(pixels)
        base = "-".join(part for part in parts if part)
        name, number = base, 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = members
    return named


def _pixels_of(path: Path, kind: str) -> str:
    """Return the pixels that the name of an ETROC1 file tells: other pixels make another run."""
    from firstlight.detectors.etroc.readout.names import read_name

    if kind not in {"beam", "injection", "raw32"}:
        return ""
    return "_".join(board.pixel or "" for board in read_name(path.name).boards)
