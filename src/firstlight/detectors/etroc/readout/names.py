"""What names of files and folders say: pixels, charges, thresholds, splits, dies.

A template is a `firstlight.data.patterns.FilePattern`. Fields of a board end in its number (``{threshold_3:d}``); a part
in square brackets stands for all boards, one after the other: ``[{pixel}_QSel{charge:f}_DAC{threshold:f}_]`` is, for
boards 0 and 1, ``{pixel_0}_QSel{charge_0:f}_DAC{threshold_0:f}_{pixel_1}_...``. The first template that fits the whole
name, and gives pixels that can be, decides. A name that fits none gives nothing.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firstlight.data.patterns import FilePattern
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BOARDS",
    "TEMPLATES",
    "BoardFields",
    "NameFields",
    "checked_template",
    "no_template",
    "pixel_place",
    "read_name",
]

BOARDS = (0, 1, 3)
"""Boards of the ETROC1 telescope, in the order in which names have them."""

_EACH = "[{pixel}_QSel{charge:f}_DAC{threshold:f}_]"
TEMPLATES: tuple[tuple[str, str], ...] = (
    ("injection", f"TDC_Data_PhaseAdj{{phase:d}}_{_EACH}Split_{{split:d}}.dat"),
    ("raw32", f"TDC_Data_PhaseAdj{{phase:d}}_{_EACH}{{number:d}}.dat"),
    ("beam", "[{pixel}_]Beam_HV{bias:f}_{number:d}.txt"),
    ("beam", "[{pixel}_]Beam_{number:d}.txt"),
    ("beam", "[{pixel}_]Beam{note}_{number:d}.txt"),
    ("tamalero", "output_run_{number:d}_rb{readout_board:d}.dat"),
    ("kc705", "TDC_Data_{number:d}.dat"),
    ("nem", "TDC_Data_translated_{number:d}.nem"),
    ("nem", "TDC_Data_translated_{number:d}.sem"),
    ("kc705", "file_{number:d}.bin"),
    ("probe", "{date}__*_{wafer}_C{die_col:d}R{die_row:d}_R{row:d}_C{col:d}_qinj"),
    ("probe", "*_{wafer}_C{die_col:d}R{die_row:d}_R{row:d}_C{col:d}_qinj"),
)
"""Kind and template of the names that are known, in the order in which they are tried."""

_GROUP = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)")
_OF_BOARD = re.compile(r"(pixel|charge|threshold)_(\d+)")
# fields of templates and their kinds
_MEANINGS = {
    "pixel": "s", "charge": "f", "threshold": "f", "split": "d", "phase": "d", "bias": "f", "number": "d", "run": "s",
    "readout_board": "d", "row": "d", "col": "d", "wafer": "s", "die_row": "d", "die_col": "d", "date": "s", "note": "s",
}  # fmt: skip
_EACH_BOARD = {"pixel", "charge", "threshold"}
_UNTYPED = re.compile(
    r"\{((?:charge|threshold)(?:_\d+)?|split|phase|bias|number|readout_board|row|col|die_row|die_col)\}"
)
_PIXEL = re.compile(r"[A-Z]+(\d+)P(\d+)", re.IGNORECASE)
_WORDS = {"pixel", "wafer", "note"}  # text without underscore
_DEBUG = re.compile(
    r"(?P<head>.*?Pixel=.*)_B(?P<board>\d+)_(?P<points>\d+)_(?P<date>\d+-\d+)_(?P<time>\d+-\d+-\d+)\.dat"
)
_SETTING = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9]*(?:_P\d+)?)=(?P<value>[^_=]+)")


@dataclass(frozen=True)
class BoardFields:
    """What a name says about one board.

    Parameters
    ----------
    board : int
        Number of the board.
    pixel : str or None
        Pixel, as in the name: ``F9P5``.
    charge : float or None
        Injected charge in fC.
    threshold : float or None
        Discriminator threshold in DAC codes.
    """

    board: int
    pixel: str | None = None
    charge: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class NameFields:
    """What the name of a file or folder says.

    Parameters
    ----------
    run : str
        Name of the run: of a charge-injection file the name without its split, else without its ending.
    split, phase : int or None
        Split of the run; phase of the charge injection.
    boards : tuple of BoardFields
        In the order of the name.
    bias : float or None
        Bias voltage in V.
    kind : str or None
        ``"injection"``, ``"raw32"``, ``"beam"``, ``"debug"``, ``"tamalero"``, ``"kc705"``, ``"nem"``, ``"probe"``; "custom" for
        templates without a kind.
    matched : str or None
        The template that fits.
    extra : mapping of str to object
        All other fields: ``number``, ``wafer``, ``die_row``, settings of the debug format.
    """

    run: str
    split: int | None = None
    phase: int | None = None
    boards: tuple[BoardFields, ...] = ()
    bias: float | None = None
    kind: str | None = None
    matched: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def _stem(name: str) -> str:
    head, dot, ending = name.rpartition(".")
    return head if dot and head and ending.isalnum() else name


@functools.lru_cache(maxsize=256)
def _expand(template: str, boards: tuple[int, ...]) -> FilePattern:
    """Return the pattern with the part in brackets written out for every board.

    Raises
    ------
    UsageError
        If the template cannot be.
    """

    def for_each(group: re.Match[str]) -> str:
        return "".join(_FIELD.sub(rf"{{\1_{board}", group[1]) for board in boards)

    pattern = FilePattern(_GROUP.sub(for_each, template))
    try:
        fields = pattern.fields
    except re.error as error:
        what = f"template {template!r} cannot be read: {error}"
        raise UsageError(what, hint="give every field once") from error
    if not fields:
        what = f"template {template!r} has no field"
        raise UsageError(
            what, hint="for example [{pixel}_QSel{charge:f}_DAC{threshold:f}_]Split_{split:d}.dat"
        )
    return pattern


def read_name(
    name: str,
    templates: Sequence[str | tuple[str, str]] | None = None,
    *,
    boards: Sequence[int] = BOARDS,
) -> NameFields:
    """Return what a name says.

    Parameters
    ----------
    name : str
        Name of a file or folder, without the folders before it.
    templates : sequence of str or (str, str), optional
        Templates, or kinds and templates, tried in order before those that are known (`TEMPLATES`).
    boards : sequence of int
        Boards that parts in square brackets stand for; a name with another number of boards does not fit.

    Returns
    -------
    NameFields
        With ``matched`` None where no template fits; then nothing but `run` is set.

    Raises
    ------
    UsageError
        If a template cannot be.
    """
    for kind, template in (*_own(templates), *TEMPLATES):
        pattern = _expand(template, tuple(boards))
        fields = pattern.match(name)
        if fields is not None and _can_be(fields, strict=(kind, template) in TEMPLATES):
            return _named(name, kind, template, pattern, fields)
    return _debug(name) or NameFields(run=_stem(name))


def checked_template(template: str) -> str:
    """Return a template of one's own; numbers may be written without their kind (``{split}`` for ``{split:d}``).

    Raises
    ------
    UsageError
        If it has a field without a meaning, or a field of a board that does not say which.
    """
    inside = {found for group in _GROUP.findall(template) for found in _FIELD.findall(group)}
    for name in _FIELD.findall(template):
        word = _OF_BOARD.fullmatch(name)
        base = word[1] if word else name
        if base not in _MEANINGS:
            raise UsageError.unknown("field", name, _MEANINGS, where=f"template {template!r}")
        if base in _EACH_BOARD and word is None and name not in inside:
            what = f"the field {{{name}}} does not say of which board it is"
            hint = f"{{{name}_1}} for board 1, or a part in square brackets for all boards: [{{{name}}}_]"
            raise UsageError(what, where=f"template {template!r}", hint=hint)
    typed = _UNTYPED.sub(lambda found: f"{{{found[1]}:{_MEANINGS[_base(found[1])]}}}", template)
    _expand(typed, BOARDS)
    return typed


def _base(name: str) -> str:
    word = _OF_BOARD.fullmatch(name)
    return word[1] if word else name


def _own(templates: Sequence[str | tuple[str, str]] | None) -> list[tuple[str, str]]:
    return [("custom", each) if isinstance(each, str) else each for each in templates or ()]


def _can_be(fields: Mapping[str, Any], *, strict: bool) -> bool:
    """Whether text fields are single words (a pattern would take two pixels for one), and pixels such of ETROC1."""
    for key, value in fields.items():
        word = key.rstrip("0123456789").rstrip("_")
        if isinstance(value, str) and word in _WORDS and ("_" in value or not value):
            return False
        if strict and word == "pixel" and pixel_place(str(value)) is None:
            return False
    return True


def _without_split(name: str, pattern: FilePattern, split: int) -> str:
    """Return a name without its split, and without the word and the marks before that."""
    before, _, after = pattern.text.partition("{split")
    head, tail = FilePattern(before), FilePattern(after.partition("}")[2])
    for number in re.finditer(r"\d+", name):
        first, rest = name[: number.start()], name[number.end() :]
        if int(number[0]) == split and head.match(first) is not None and tail.match(rest) is not None:
            return _stem(re.sub(r"[_.-]?[A-Za-z]*[_.-]?$", "", first) + rest)
    return _stem(name)


def _named(
    name: str, kind: str, template: str, pattern: FilePattern, fields: Mapping[str, Any]
) -> NameFields:  # fmt: skip
    of_board: dict[int, dict[str, Any]] = {}
    extra = dict(fields)
    for key, value in fields.items():
        found = _OF_BOARD.fullmatch(key)
        if found:
            of_board.setdefault(int(found[2]), {})[found[1]] = value
            del extra[key]
    split, phase, bias = (extra.pop(key, None) for key in ("split", "phase", "bias"))
    for key in ("charge", "threshold"):
        for values in of_board.values():
            if key in values:
                values[key] = float(values[key])
    run = _stem(name) if split is None else _without_split(name, pattern, int(split))
    run = str(extra.pop("run", run))
    return NameFields(
        run=run,
        split=None if split is None else int(split),
        phase=None if phase is None else int(phase),
        boards=tuple(BoardFields(board, **values) for board, values in of_board.items()),
        bias=None if bias is None else float(bias),
        kind=kind,
        matched=template,
        extra=extra,
    )


def _debug(name: str) -> NameFields | None:
    """Read the name of a single-board file: ``key=value`` fields, whose number and order are free."""
    found = _DEBUG.fullmatch(name)
    if found is None:
        return None
    settings: dict[str, Any] = {key: _value(value) for key, value in _SETTING.findall(found["head"])}
    pixel = settings.get("Pixel")
    charge, phase = settings.get("QSel"), settings.get("PhaseAdj")
    threshold = settings.get(f"DAC_P{pixel}", settings.get("DAC"))
    numbers = {"charge": charge, "threshold": threshold}
    board = BoardFields(
        int(found["board"]),
        None if pixel is None else f"P{pixel}",
        **{key: float(value) for key, value in numbers.items() if isinstance(value, (int, float))},
    )
    return NameFields(
        run=_stem(name),
        phase=phase if isinstance(phase, int) else None,
        boards=(board,),
        kind="debug",
        matched="*Pixel=<n>_<key>=<value>..._B<board>_<points>_<mm-dd>_<HH-MM-SS>.dat",
        extra={**settings, "points": int(found["points"]), "date": found["date"], "time": found["time"]},
    )


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def no_template(
    name: str, templates: Sequence[str | tuple[str, str]] | None = None, *, boards: Sequence[int] = BOARDS
) -> str:
    """Return a sentence saying that no template fits a name, and which were tried.

    Parameters
    ----------
    name, templates, boards
        As for `read_name`.
    """
    tried = [template for _, template in (*_own(templates), *TEMPLATES)]
    listed = ", ".join(str(board) for board in boards)
    return (
        f"the name {name!r} fits none of {len(tried)} templates, so pixels, charges and thresholds are not known; tried "
        f"for boards {listed}: {'; '.join(tried)}"
    )


def pixel_place(pixel: str) -> tuple[int, int, int] | None:
    """Return chip, row and column of an ETROC1 pixel.

    Parameters
    ----------
    pixel : str
        ``F9P5`` is pixel 5 of chip 9.

    Returns
    -------
    (chip, row, col) or None
        Pixel p is in row p % 4 and column p // 4 (select table of the DMRO in weizhangccnu/ETROC1_Test). None where the
        text is no such pixel, or has a number above 15.
    """
    found = _PIXEL.fullmatch(pixel)
    if found is None or int(found[2]) > 15:
        return None
    number = int(found[2])
    return int(found[1]), number % 4, number // 4
