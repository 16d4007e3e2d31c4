"""Pieces of HTML for the pages that the package writes: text, numbers, badges, tables, sections.

Everything that comes from outside goes through `as_text`: names of files and columns can be hostile.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Cell",
    "Head",
    "Part",
    "Plain",
    "as_duration",
    "as_number",
    "as_size",
    "as_text",
    "as_value",
    "badge",
    "breakable",
    "counted",
    "fact_list",
    "html_table",
    "numeric",
    "toml",
    "trouble",
]

Plain = Mapping[str, Any]
Cell = str | tuple[str, str]  # HTML, and what the column is sorted by where that is not its text

# characters that a terminal or a browser obeys instead of showing them
_UNSEEN = (
    {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)}
    | dict.fromkeys([*range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
)  # fmt: skip


def as_text(value: object) -> str:
    """Return any value as HTML text that shows what it is and does nothing."""
    visible = str(value).encode("utf-8", "backslashreplace").decode().translate(_UNSEEN)
    return escape(visible)


def breakable(value: object) -> str:
    """Return `as_text` of a name with the places where a line may end: after an underscore or a slash."""
    return re.sub(r"(?<=\w)([_/])(?=\w)", r"\1<wbr>", as_text(value))


def as_number(value: object, decimals: int | None = None) -> str:
    """Return a number as HTML, with four significant digits unless `decimals` are given."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if not isinstance(value, int | float):
        return as_text(value)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if decimals is None and value == int(value) and abs(value) < 1e15:
        text = f"{int(value):,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(int(value))
    elif decimals is not None or 1e-4 <= abs(value) < 1e7:
        places = max(3 - math.floor(math.log10(abs(value))), 0) if decimals is None else decimals
        text = f"{value:.{places}f}"
        text = text.rstrip("0").rstrip(".") if decimals is None and places else text
    else:
        mantissa, exponent = f"{value:.3e}".split("e")
        text = f"{mantissa}×10<sup>{int(exponent)}</sup>"
    return text.replace("-", "−")


def as_value(value: object) -> str:
    """Return any plain value as HTML text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{as_text(key)} = {as_value(inner)}" for key, inner in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(as_value(inner) for inner in value) or "–"
    # numbers of runs, channels and boards are names: they are not grouped
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value).replace("-", "−") if whole else as_number(value)


def as_size(n_bytes: object) -> str:
    """Return a size in decimal units: ``3.77 GB``."""
    if not isinstance(n_bytes, int | float) or n_bytes < 0:
        return "–"
    size, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def as_duration(seconds: object) -> str:
    """Return a time as a person says it: ``7 min 38 s``."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds >= 0.01 or seconds == 0 else "< 0.01 s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 file``, ``3 files``."""
    return f"{as_number(number)} {noun}{'' if number == 1 else 's'}"


def badge(kind: tuple[str, str, str], large: bool = False) -> str:
    """Return a mark made of word, symbol and colour (a class of the style sheet): never colour alone."""
    word, symbol, name = kind
    return (
        f'<span class="badge {name}{" large" * large}"><span aria-hidden="true">{symbol}</span>{word}</span>'
    )


def toml(content: Plain, path: tuple[str, ...] = ()) -> str:
    """Return nested plain values as TOML, so that a configuration can be copied out of the page."""
    lines = [
        f"# {_toml_key(key)} is not set" if value is None else f"{_toml_key(key)} = {_toml_value(value)}"
        for key, value in content.items()
        if not isinstance(value, Mapping)
    ]
    head = [f"[{'.'.join(map(_toml_key, path))}]"] if path and (lines or not content) else []
    blocks = ["\n".join(head + lines)] if head or lines else []
    blocks += [toml(value, (*path, key)) for key, value in content.items() if isinstance(value, Mapping)]
    return "\n\n".join(blocks)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return (
            f"{{ {', '.join(f'{_toml_key(key)} = {_toml_value(inner)}' for key, inner in value.items())} }}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Part:
    """A section of the page: anchor, heading, content, and what the table of contents says of it."""

    ident: str
    title: str
    content: str
    count: int | None = None
    entries: tuple[tuple[str, str], ...] = ()

    def html(self) -> str:
        """Return the section."""
        head = f'<h2 id="{self.ident}-title">{self.title}</h2>'
        return f'<section id="{self.ident}" aria-labelledby="{self.ident}-title">{head}{self.content}</section>\n'

    def contents(self) -> str:
        """Return its entry of the table of contents."""
        count = "" if self.count is None else f" <span>{as_number(self.count)}</span>"
        inner = "".join(f'<li><a href="#{ident}">{title}</a></li>' for ident, title in self.entries)
        inner = f"<ul>{inner}</ul>" if inner else ""
        return f'<li><a href="#{self.ident}">{self.title}{count}</a>{inner}</li>'


@dataclass(frozen=True)
class Head:
    """A column of an HTML table.

    Parameters
    ----------
    label, unit, tip : str
        What stands in its head, below that, and what shows when the mouse is there.
    kind : {"", "n", "text", "code", "name"}
        Numbers stand right; a name heads its row.
    width : int
        Characters that it takes at least.
    """

    label: str
    kind: str = ""
    unit: str = ""
    tip: str = ""
    width: int = 0

    def html(self, units: bool = False) -> str:
        """Return the head of the column, with a line for units where any column has one."""
        tip = f' title="{as_text(self.tip)}"' if self.tip else ""
        unit = f"<small>{as_text(self.unit) or '&nbsp;'}</small>" if units else ""
        width = f' style="min-width:{self.width}ch"' if self.width else ""
        label = as_text(self.label).replace("_", "_<wbr>")
        return f'<th scope="col" class="{self.kind}"{tip}{width}><span>{label}</span>{unit}</th>'

    def cell(self, content: Cell) -> str:
        """Return one cell of the column."""
        html, key = content if isinstance(content, tuple) else (content, None)
        mark = "" if key is None else f' data-v="{key}"'
        if self.kind == "name":
            return f'<th scope="row"{mark}>{html}</th>'
        return f'<td class="{self.kind}"{mark}>{html}</td>' if self.kind else f"<td{mark}>{html}</td>"


def html_table(
    caption: str,
    heads: Sequence[Head],
    rows: Iterable[Sequence[Cell]],
    ident: str = "",
    marks: Sequence[str] = (),
) -> str:
    """Return a sortable table that scrolls in itself.

    Parameters
    ----------
    caption : str
        HTML; for those who do not see the heading above.
    heads : sequence of Head
        The columns.
    rows : iterable of sequences of Cell
        Their content.
    ident : str
        Anchor.
    marks : sequence of str
        Attributes, one entry a row.
    """
    lines = ["".join(head.cell(cell) for head, cell in zip(heads, row, strict=True)) for row in rows]
    marks = marks or [""] * len(lines)
    body = "".join(f"<tr{mark}>{line}</tr>\n" for mark, line in zip(marks, lines, strict=True))
    units = any(column.unit for column in heads)
    head = "".join(column.html(units) for column in heads)
    name = f' id="{ident}"' if ident else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="sortable"{name}>'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )  # fmt: skip


def fact_list(facts: Iterable[tuple[str, str]]) -> str:
    """Return names with values, both HTML; those without a value are left out."""
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value)
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def trouble(text: str) -> str:
    """Return what is wrong, at the place where it is."""
    return f'<p class="trouble bad">{text}</p>'


def numeric(value: object, decimals: int | None = None) -> Cell:
    """Return a number as a cell that sorts as a number; what is none sorts last."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return as_number(value), ""
    key = f"{value:.9g}" if isinstance(value, float) else str(value)
    return as_number(value, decimals), key.replace("inf", "Infinity")
