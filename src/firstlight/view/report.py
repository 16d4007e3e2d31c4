"""The report of a run: one HTML file that needs nothing else.

It is made from the run directory alone, so that it can be made again at any time; pictures, style and
script are inside, and the page forbids itself to load anything. What is missing or damaged in the run
directory is said at its place in the page, it never stops the report.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import shlex
from collections import Counter
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.files import write_text
from firstlight.steps.step import worst
from firstlight.view.markup import (
    Head,
    Part,
    Plain,
    as_duration,
    as_number,
    as_size,
    as_text,
    badge,
    breakable,
    counted,
    fact_list,
    html_table,
    numeric,
)
from firstlight.view.report_provenance import (
    NAME_WIDTH,
    cut_flow_part,
    inputs_part,
    notes_of,
    provenance_part,
    state_of,
)
from firstlight.view.report_results import (
    as_address,
    embedded,
    mapping_of,
    read_picture,
    result_parts,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firstlight.run.store import Run

__all__ = ["write_index", "write_report"]

# word, symbol, class; in the order in which a reader wants to see them
_VERDICTS = {
    "bad": ("bad", "✕", "bad"),
    "warn": ("warning", "!", "warn"),
    "no-statistics": ("no statistics", "–", ""),
    "ok": ("ok", "✓", "ok"),
}
_NO_CHECKS = ("not checked", "–", "")
_ISSUES, _DETAILS = 6, 12
_LONG_VALUE, _LONG_UNIT = 11, 14  # letters


def _verdict(check: Plain) -> Any:
    # a verdict of a later version is unknown here: not passed over
    verdict = str(check.get("verdict"))
    return verdict if verdict in _VERDICTS else "warn"


def _overall(checks: Sequence[Plain]) -> tuple[str, str, str]:
    return _VERDICTS[worst([_verdict(check) for check in checks])] if checks else _NO_CHECKS


def _tally(checks: Sequence[Plain]) -> str:
    counts = Counter(_verdict(check) for check in checks)
    words = {name: word for name, (word, _, _) in _VERDICTS.items()}
    words["warn"] += "s" if counts["warn"] > 1 else ""
    return ", ".join(f"{counts[name]} {word}" for name, word in words.items() if counts[name])


def _tiles(record: Plain) -> str:
    tiles = []
    for row in rows_of(record, "summary"):
        value, unit = row.get("value"), str(row.get("unit") or "")
        shown = breakable(value) if isinstance(value, str) else as_number(value)
        long = isinstance(value, str) and len(value) > _LONG_VALUE
        kind = "name" if long else "" if isinstance(value, str) else "n"
        # a unit stands beside its number, a remark below all
        beside = f" <small>{as_text(unit)}</small>" if unit and len(unit) <= _LONG_UNIT and not long else ""
        below = f'<dd class="remark">{as_text(unit)}</dd>' if unit and not beside else ""
        value = f'<dd class="{kind}">{shown}{beside}</dd>{below}'
        tiles.append(f'<div class="card"><dt>{as_text(row.get("label", ""))}</dt>{value}</div>')
    n_rows = -(-len(tiles) // 5)
    columns = max(-(-len(tiles) // n_rows), 3) if tiles else 0
    return f'<dl class="tiles" style="--columns:{columns}">{"".join(tiles)}</dl>\n' if tiles else ""


def _attention(record: Plain) -> Part:
    checks = rows_of(record, "checks")
    counts = Counter(_verdict(check) for check in checks)
    serious = [check for check in checks if _verdict(check) in ("bad", "warn")]
    of_name = Counter(str(check.get("name", "")) for check in checks)
    items = []
    for verdict in ("bad", "warn"):
        groups: dict[str, list[Plain]] = {}
        for check in serious:
            if _verdict(check) == verdict:
                groups.setdefault(str(check.get("name", "")), []).append(check)
        for name, group in groups.items():
            items.append(_issue(verdict, name, group, of_name[name]))
    if items:
        content = f'<ul class="issues card">{"".join(items)}</ul>'
    elif not checks:
        content = f'<p class="calm card">{badge(_NO_CHECKS)} This run made no checks.</p>'
    elif counts["ok"]:
        share = f"{as_number(counts['ok'])} of {counted(len(checks), 'check')}"
        content = f'<p class="calm card">{badge(_VERDICTS["ok"])} Nothing: {share} came out ok.</p>'
    else:
        content = f'<p class="calm card">{badge(_VERDICTS["no-statistics"])} Nothing could be judged.</p>'
    if counts["no-statistics"]:
        number = counted(counts["no-statistics"], "check")
        content += (
            f'<p class="after">{number} had too few data to judge; see <a href="#checks">all checks</a>.</p>'
        )
    notes = record.get("notes")
    if isinstance(notes, list) and notes:
        content += f'<ul class="notes">{"".join(f"<li>{as_text(note)}</li>" for note in notes)}</ul>'
    return Part("attention", "What needs attention", content, len(serious) or None)


def _issue(verdict: str, name: str, group: Sequence[Plain], of_name: int) -> str:
    plain = not any(check.get("subject") for check in group)
    lines = []
    for check in group[:_ISSUES]:
        subject = "" if plain else f"<dt>{as_text(check.get('subject') or 'whole run')}</dt>"
        lines.append(f"{subject}<dd>{as_text(check.get('rule', ''))}{_details(check)}</dd>")
    if len(group) > _ISSUES:
        more = f'<dd><a href="#checks">and {len(group) - _ISSUES} more in the table of checks</a></dd>'
        lines.append(more)
    count = f" <span>({len(group)} of {of_name})</span>" if of_name > 1 else ""
    return (
        f"<li>{badge(_VERDICTS[verdict])}<div><h3>{as_text(name)}{count}</h3>"
        f'<dl class="{"plain" if plain else ""}">{"".join(lines)}</dl></div></li>'
    )


def _details(check: Plain) -> str:
    details = check.get("details")
    if not isinstance(details, list) or not details:
        return ""
    first = ", ".join(as_text(detail) for detail in details[:_DETAILS])
    if len(details) <= _DETAILS:
        return f'<div class="small muted">{first}</div>'
    rest = ", ".join(as_text(detail) for detail in details[_DETAILS:])
    more = f"<summary>{first}, … ({as_number(len(details))} in all)</summary>{rest}"
    return f'<details class="small muted">{more}</details>'


def _refused(record: Plain) -> Part | None:
    refused = [row for row in rows_of(record, "inputs") if row.get("status") == "refused"]
    if not refused:
        return None
    width = min(max(len(str(row.get("path", ""))) for row in refused), NAME_WIDTH)
    heads = (Head("File", "name", width=width), Head("Reason", "text"), Head("Size", "n"))
    rows = [
        (f"<code>{as_text(row.get('path', ''))}</code>", as_text(row.get("reason") or "not said") + notes_of(row),
         (as_size(row.get("size")), as_text(row.get("size", ""))))
        for row in refused
    ]  # fmt: skip
    table = html_table("Refused files", heads, rows)
    return Part("refused", "Refused files", f'<div class="block bare card alert">{table}</div>', len(refused))


def _checks(record: Plain) -> Part | None:
    checks = sorted(rows_of(record, "checks"), key=lambda check: list(_VERDICTS).index(_verdict(check)))
    if not checks:
        return None
    heads = (Head("Verdict"), Head("Check", "name"), Head("Subject"), Head("Value", "n"), Head("Limit", "n"),
             Head("Rule", "text"))  # fmt: skip
    rows = [
        ((badge(_VERDICTS[_verdict(check)]), str(list(_VERDICTS).index(_verdict(check)))),
         as_text(check.get("name", "")), as_text(check.get("subject") or ""),
         numeric(check.get("value")), numeric(check.get("limit")), as_text(check.get("rule", "")) + _details(check))
        for check in checks
    ]  # fmt: skip
    marks = [f' data-verdict="{_verdict(check)}"' for check in checks]
    counts = Counter(_verdict(check) for check in checks)
    buttons = f'<button type="button" value="" aria-pressed="true">all {len(checks)}</button>' + "".join(
        f'<button type="button" value="{name}" aria-pressed="false">{word} {counts[name]}</button>'
        for name, (word, _, _) in _VERDICTS.items() if counts[name]
    )  # fmt: skip
    filters = (
        f'<div class="filters" data-of="check-table" role="group" aria-label="Show" hidden>{buttons}</div>'
    )
    table = html_table("All checks", heads, rows, "check-table", marks)
    return Part("checks", "All checks", f'{filters}<div class="block bare card">{table}</div>', len(checks))


@functools.cache
def _resource(name: str) -> str:
    return files("firstlight.view").joinpath(name).read_text(encoding="utf-8")


def _page(title: str, body: str, script: bool) -> str:
    """Return the whole file; its security policy lets nothing in but what is in it."""
    code = _resource("report.js") if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
    allowed = f"'sha256-{digest}'" if script else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_resource('report.css')}</style>\n</head>\n<body>\n{body}"
        + (f"<script>{code}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def _name(run: Run) -> str:
    return as_text(run.folder.resolve().name)


def _title(record: Plain) -> str:
    return as_text(record.get("title") or record.get("detector") or "Run")


def _when(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _header(run: Run) -> str:
    record = run.record
    checks = rows_of(record, "checks")
    maturity = f" · maturity: {as_text(record['maturity'])}" if record.get("maturity") else ""
    return (
        f'<header class="top"><div><div class="head"><div><h1>{_title(record)}</h1><p class="run">{_name(run)}'
        f'{maturity}</p></div><div class="state">{badge(_overall(checks), large=True)}<span class="small muted">'
        f"{_tally(checks)}</span></div></div>{fact_list(_what_was_run(record))}</div></header>\n"
    )


def _what_was_run(record: Plain) -> list[tuple[str, str]]:
    activity, channels = mapping_of(record, "activity"), mapping_of(record, "channels")
    command = activity.get("command")
    words = [as_text(shlex.quote(str(word))) for word in command] if isinstance(command, list) else []
    line = " ".join(f"<span>{word}</span>" for word in words)
    start, end = _when(activity.get("started")), _when(activity.get("ended"))
    when = f"{start:%Y-%m-%d %H:%M} UTC" if start else as_text(activity.get("started") or "")
    if start and end:
        when += f", took {as_duration((end - start).total_seconds())}"
    agent = mapping_of(activity, "agent")
    by = [as_text(agent[key]) for key in ("name", "version") if agent.get(key)]
    by += [f"on {as_text(activity['host'])}"] if activity.get("host") else []
    layout = [as_text(channels["name"])] if channels.get("name") else []
    layout += [f"version {as_text(channels['version'])}"] if channels.get("version") else []
    layout += [f"{as_number(channels['n_channels'])} channels"] if channels.get("n_channels") else []
    layout += [as_text(channels["layout"])] if channels.get("layout") else []
    return [
        ("Command", f'<code class="command">{line}</code>' if line else ""),
        ("Run", when),
        ("Made by", " ".join(by)),
        ("Channels", ", ".join(layout)),
        ("Input", _what_went_in(rows_of(record, "inputs"))),
    ]


def _what_went_in(inputs: Sequence[Plain]) -> str:
    if not inputs:
        return ""
    states = Counter(state_of(row) for row in inputs)
    sizes = [row["size"] for row in inputs if isinstance(row.get("size"), int)]
    size = f", {as_size(sum(sizes))}" if sizes else ""
    parts = [f"{as_number(states[name])} {name}" for name in ("used", "skipped") if states[name]]
    if states["refused"]:
        parts.append(f'<a class="alarm" href="#refused">{as_number(states["refused"])} refused</a>')
    return f"{counted(len(inputs), 'input')}{size}: {', '.join(parts)}"


def write_report(run: Run) -> Path:
    """Write the report of a run from what is in its directory.

    Parameters
    ----------
    run : Run
        Its record says which figures, tables and checks there are; every part may be absent.

    Returns
    -------
    Path
        ``RUN/report/index.html``, a single file that works without the network.
    """
    record = run.record
    parts = [_attention(record), _refused(record), *result_parts(run), _checks(record), cut_flow_part(record)]
    parts += [inputs_part(record), provenance_part(run)]
    there = [part for part in parts if part is not None and part.content]
    contents = "".join(part.contents() for part in there)
    body = (
        f'{_header(run)}<div class="page"><nav aria-label="On this page"><h2>On this page</h2><ul>{contents}</ul></nav>'
        f"<main>\n{_tiles(record)}{''.join(part.html() for part in there)}</main></div>\n"
        '<dialog aria-label="Picture"><div><strong></strong><button type="button" aria-label="Previous picture">←'
        '</button><button type="button" aria-label="Next picture">→</button><button type="button" autofocus>Close</button>'
        '</div><img alt=""><p></p></dialog>\n'
    )
    page = _page(f"{_title(record)}: {_name(run)}", body, script=True)
    return write_text(run.folder / "report" / "index.html", page)


def write_index(folder: Path, runs: Sequence[Run], title: str) -> Path:
    """Write a page with a card for each of some runs.

    Parameters
    ----------
    folder : Path
        Where the page goes; links to the reports are relative to it.
    runs : sequence of Run
        In the order of the page.
    title : str
        Its heading.

    Returns
    -------
    Path
        ``folder/index.html``.
    """
    cards = "".join(_card(folder, run) for run in runs)
    checks = [check for run in runs for check in rows_of(run.record, "checks")]
    body = (
        f'<header class="top"><div><div class="head"><div><h1>{as_text(title)}</h1><p class="run">'
        f'{counted(len(runs), "run")}</p></div><div class="state">{badge(_overall(checks), large=True)}'
        f'<span class="small muted">{_tally(checks)}</span></div></div></div></header>\n'
        f'<main class="runs">{cards}</main>\n'
    )  # fmt: skip
    return write_text(Path(folder) / "index.html", _page(as_text(title), body, script=False))


def _card(folder: Path, run: Run) -> str:
    record = run.record
    checks = rows_of(record, "checks")
    pictures = (read_picture(run, figure) for figure in rows_of(record, "figures"))
    lead = next((picture for picture in pictures if not isinstance(picture, str)), None)
    picture = "<span>no picture</span>"
    if lead:
        picture = f'<img alt="" src="{embedded(lead[0])}">'
    facts = [
        (
            as_text(row.get("label", "")),
            f"{as_number(row.get('value'))} <small>{as_text(row.get('unit') or '')}</small>",
        )
        for row in rows_of(record, "summary")[:5]
    ]
    refused = sum(state_of(row) == "refused" for row in rows_of(record, "inputs"))
    remarks = [_tally(checks), f"{counted(refused, 'file')} refused" if refused else ""]
    report = run.folder / "report" / "index.html"
    link = '<span class="muted">no report</span>'
    if report.is_file():
        address = os.path.relpath(report.resolve(), Path(folder).resolve())
        link = f'<a href="{as_address(address)}">Open the report<span class="out"> of {_name(run)}</span></a>'
    started = _when(mapping_of(record, "activity").get("started"))
    when = f" · {started:%Y-%m-%d %H:%M} UTC" if started else ""
    return (
        f'<article class="card"><div class="lead">{picture}</div><div class="body"><div class="head"><h2>'
        f"{_title(record)}</h2>{badge(_overall(checks))}</div>"
        f'<p class="small muted">{_name(run)}{when}</p>{fact_list(facts)}<div class="more"><span class="small muted">'
        f"{'; '.join(filter(None, remarks))}</span>{link}</div></div></article>\n"
    )
