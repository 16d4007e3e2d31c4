"""The results in the report of a run: its figures and tables, section by section."""

from __future__ import annotations

import base64
import math
import os
import re
import statistics
import struct
from collections.abc import Mapping
from html import escape
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from firstlight.data.schema import Table
from firstlight.errors import FirstlightError, StoreError, shown
from firstlight.view.markup import (
    Cell,
    Head,
    Part,
    Plain,
    as_number,
    as_text,
    as_value,
    counted,
    html_table,
    numeric,
    trouble,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import polars as pl

    from firstlight.run.store import Run

__all__ = [
    "as_address",
    "embedded",
    "inside",
    "link_to",
    "mapping_of",
    "read_picture",
    "result_parts",
    "rows_of",
]

_WIDE = 1.85
_LARGE, _UPRIGHT = 900, 1.1  # pixels; width / height
_SENTENCE = 40  # letters
_PNG = b"\x89PNG\r\n\x1a\n"


def mapping_of(record: Plain, name: str) -> Plain:
    """Return a mapping of a record; an empty one where there is none."""
    content = record.get(name)
    return content if isinstance(content, Mapping) else {}


def rows_of(record: Plain, name: str) -> list[Plain]:
    """Return a list of mappings of a record; an empty one where there is none."""
    content = record.get(name)
    return [row for row in content if isinstance(row, Mapping)] if isinstance(content, list) else []


def inside(run: Run, file: object) -> Path | None:
    """Return a file of the run directory, or None where it is missing or outside."""
    path = PurePosixPath(str(file))
    if not file or path.is_absolute() or ".." in path.parts or "\0" in str(file):
        return None
    found = run.folder / path
    return found if found.is_file() else None


def link_to(run: Run, file: object) -> str:
    """Return a link from the report to a file of the run directory, or its name where it is missing."""
    label = f"<code>{as_text(file)}</code>"
    if inside(run, file) is None:
        return f'{label} <span class="muted">(missing)</span>'
    return f'<a href="../{as_address(str(file))}">{label}</a>'


def as_address(path: str) -> str:
    """Return a relative path as it stands in a link."""
    return escape(quote(os.fsencode(path.replace(os.sep, "/"))))


def embedded(data: bytes) -> str:
    """Return a PNG as the address of itself."""
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def result_parts(run: Run) -> list[Part]:
    """Return figures and tables under the headings in the order in which these first appear."""
    sections: dict[str, tuple[list[Plain], list[Plain]]] = {}
    for index, kind in enumerate(("figures", "tables")):
        for row in rows_of(run.record, kind):
            sections.setdefault(str(row.get("section") or "Results"), ([], []))[index].append(row)
    parts = []
    for number, (title, (figures, tables)) in enumerate(sections.items(), 1):
        entries = [
            (_anchor("figure", row.get("name")), as_text(row.get("title") or row.get("name")))
            for row in figures
        ]
        entries += [(_anchor("table", row.get("product")), as_text(row.get("title") or row.get("product")))
                    for row in tables]  # fmt: skip
        content = _figures(run, figures) + "".join(_product_table(run, row) for row in tables)
        parts.append(Part(f"section-{number}", as_text(title), content, len(entries), tuple(entries)))
    return parts


def _anchor(kind: str, name: object) -> str:
    return f"{kind}-{re.sub(r'[^A-Za-z0-9_+-]+', '-', str(name))}"


def read_picture(run: Run, figure: Plain) -> tuple[bytes, int, int] | str:
    """Return a PNG with its width and height, or what is wrong with it."""
    if figure.get("problem"):
        return as_text(figure["problem"])
    path = inside(run, figure.get("file"))
    try:
        data = path.read_bytes() if path else b""
    except OSError as error:
        return str(error.strerror)
    if path is None:
        return "is missing"
    if len(data) < 24 or not data.startswith(_PNG):
        return "is not a PNG"
    width, height = struct.unpack(">II", data[16:24])
    return (data, width, height) if width and height else "is empty"


def _figures(run: Run, figures: Sequence[Plain]) -> str:
    if not figures:
        return ""
    pictures = [read_picture(run, figure) for figure in figures]
    layout: list[str] = []
    # two to a row: an odd one before a wide one, or at the end, has the row for itself
    for wide, group in groupby(not isinstance(p, str) and _is_wide(*p[1:]) for p in pictures):
        size = len(list(group))
        layout += ["wide"] * size if wide else [""] * (size - size % 2) + ["solo"] * (size % 2)
    html = [_figure(*content) for content in zip(figures, pictures, layout, strict=True)]
    return f'<div class="figures">{"".join(html)}</div>'


def _is_wide(width: int, height: int) -> bool:
    """Return whether a picture needs the row for itself: its letters could not be read at half its width."""
    return width / height >= _WIDE or (width >= _LARGE and width > _UPRIGHT * height)


def _figure(figure: Plain, picture: tuple[bytes, int, int] | str, layout: str) -> str:
    title = as_text(figure.get("title") or figure.get("name") or "")
    caption = as_text(figure.get("caption", ""))
    file = str(figure.get("file", ""))
    if isinstance(picture, str):
        content = trouble(f"<code>{as_text(file)}</code> {picture}")
    else:
        data, width, height = picture
        content = (
            f'<a class="picture" href="../{as_address(file)}" title="Enlarge"><img alt="{title}. {caption}" width="{width}" '
            f'height="{height}" style="max-width:{width}px" src="{embedded(data)}"></a>'
        )
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    order = (content, f"<h3>{title}</h3>") if layout == "solo" else (f"<h3>{title}</h3>", content)
    ident = _anchor("figure", figure.get("name"))
    return f'<figure class="card {layout}" id="{ident}">{"".join(order)}{caption}</figure>\n'


def _product_table(run: Run, row: Plain) -> str:
    product = str(row.get("product", ""))
    title = as_text(row.get("title") or product)
    try:
        content = _table_content(run, row, product, title)
    except FirstlightError as error:
        # without the place: the directory can be moved
        parts = [error.what, f"what exists: {shown(error.known)}" if error.known else "", error.hint or ""]
        content = trouble("<br>".join(as_text(part) for part in parts if part))
    caption = f"<p>{as_text(row['caption'])}</p>" if row.get("caption") else ""
    return (
        f'<div class="block card" id="{_anchor("table", product)}"><h3>{title}</h3>{caption}{content}</div>'
    )


def _table_content(run: Run, row: Plain, product: str, title: str) -> str:
    import polars as pl

    from firstlight.data.select import parse

    where, limit = str(row.get("where") or ""), row.get("limit")
    try:
        table = run[product].value
        if not isinstance(table, Table):
            what = "is not a table"
            raise StoreError(what, where=product)
        frame = table.frame.filter(parse(where)) if where else table.frame
    except pl.exceptions.PolarsError as error:
        raise StoreError(str(error), where=product) from error
    wanted = row.get("columns") or frame.columns
    missing = [str(name) for name in wanted if name not in frame.columns]
    warning = trouble(f"There is no column {as_text(', '.join(missing))}.") if missing else ""
    seen = frame.select([name for name in wanted if name in frame.columns]).head(
        limit if isinstance(limit, int) and limit > 0 else 200
    )
    condition = f" with <code>{as_text(where)}</code>" if where else ""
    count = f"{as_number(frame.height)} of {counted(table.frame.height, 'row')}{condition}"
    if seen.height < frame.height:
        count += f"; the first {as_number(seen.height)} are shown"
    count = f'<p class="count">{count}</p>'
    if not seen.height:
        return warning + count
    described = [table.schema.column(name) for name in seen.columns]
    heads = [
        Head(column.name, _kind(seen[column.name]), column.unit, column.description) for column in described
    ]
    rows = zip(*(_cells(series) for series in seen.get_columns()), strict=True)
    terms = "".join(
        f"<dt><code>{as_text(column.name)}</code></dt><dd>{as_text(column.description)}</dd>"
        for column in described if column.description
    )  # fmt: skip
    legend = f'<details><summary>What the columns mean</summary><dl class="terms">{terms}</dl></details>'
    return warning + count + html_table(title, heads, rows) + (legend if terms else "")


def _kind(series: pl.Series) -> str:
    """Return the kind of a column for `Head`: numbers, sentences, or anything else."""
    if series.dtype.is_numeric():
        return "n"
    texts = [value for value in series.to_list() if isinstance(value, str)]
    return "text" if any(len(text) > _SENTENCE and " " in text for text in texts) else ""


def _cells(series: pl.Series) -> list[Cell]:
    values = series.to_list()
    if series.dtype.is_float():
        decimals = _decimals(values)
        return [numeric(value, decimals) for value in values]
    return [
        (("–" if value is None else as_value(value)), "" if value is None else as_text(value))
        for value in values
    ]


def _decimals(values: Sequence[float | None]) -> int | None:
    """Return after how many decimals a column is rounded so that its points stand below each other.

    None where small values would vanish or large ones be too long: then each has its own.
    """
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and value]
    if not sizes or max(sizes) >= 1e7:
        return 0 if not sizes else None
    if all(size == int(size) for size in sizes):
        return 0
    decimals = min(max(3 - math.floor(math.log10(statistics.median(sizes))), 0), 6)
    return decimals if min(sizes) >= 10.0**-decimals else None
