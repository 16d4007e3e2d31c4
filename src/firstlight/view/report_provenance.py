"""What stands behind the results in the report of a run: cuts, input files, software, steps, files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING

from firstlight.view.markup import (
    Cell,
    Head,
    Part,
    Plain,
    as_duration,
    as_size,
    as_text,
    as_value,
    badge,
    fact_list,
    html_table,
    numeric,
    toml,
)
from firstlight.view.report_results import inside, link_to, mapping_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firstlight.run.store import Run

__all__ = ["NAME_WIDTH", "STATES", "cut_flow_part", "inputs_part", "notes_of", "provenance_part", "state_of"]

# word, symbol, class; in the order in which a reader wants to see them
STATES = {
    "refused": ("refused", "✕", "bad"),
    "skipped": ("skipped", "–", "warn"),
    "used": ("used", "✓", "ok"),
}
_CONDITIONS = 5
NAME_WIDTH = 44


def cut_flow_part(record: Plain) -> Part | None:
    """Return what each cut saw, passed and left."""
    cuts = rows_of(record, "cut_flow")
    if not cuts:
        return None
    heads = (Head("Cut", "name"), Head("Table"), Head("Rows", "n"), Head("Pass this cut alone", "n"),
             Head("Left after it", "n"), Head("Left of all", "n"), Head("", ""))  # fmt: skip
    rows = []
    for cut in cuts:
        left = cut.get("fraction_left")
        known = isinstance(left, int | float) and math.isfinite(left)
        share = 100 * min(max(float(left), 0.0), 1.0) if known and left is not None else 0.0
        fraction = (f"{share:.3g} %", repr(left)) if known else ("–", "")
        bar = f'<span class="bar" aria-hidden="true"><i style="width:{share:.1f}%"></i></span>'
        counts = [numeric(cut.get(name)) for name in ("rows", "passed_alone", "left")]
        rows.append((as_text(cut.get("cut", "")), as_text(cut.get("table", "")), *counts, fraction, bar))
    table = html_table("Cut flow", heads, rows)
    return Part("cuts", "Cut flow", f'<div class="block bare card">{table}</div>', len(cuts))


def inputs_part(record: Plain) -> Part | None:
    """Return every file that was given to the run, with what became of it."""
    inputs = sorted(rows_of(record, "inputs"), key=lambda row: list(STATES).index(state_of(row)))
    if not inputs:
        return None
    prefix = _common_folder([str(row.get("path", "")) for row in inputs])
    conditions = [mapping_of(row, "conditions") for row in inputs]
    keys = list(dict.fromkeys(key for own in conditions for key in own))
    first = conditions[0]
    same = {key: first[key] for key in keys if all(own.get(key, own) == first.get(key) for own in conditions)}
    same = same if len(inputs) > 1 else {}
    own_keys = [key for key in keys if key not in same]
    # a few conditions have a column each, many share one
    groups = [[key] for key in own_keys] if len(own_keys) <= _CONDITIONS else [own_keys]
    width = min(max(len(str(row.get("path", ""))) - len(prefix) for row in inputs), NAME_WIDTH)
    heads = [Head("File", "name", width=width), Head("Status"), Head("Events", "n"), Head("Size", "n")]
    heads += [*(_condition_head(conditions, group) for group in groups), Head("Digest", "code")]
    rows = []
    for row, own in zip(inputs, conditions, strict=True):
        state, digest = state_of(row), str(row.get("digest") or "")
        tip, short = as_text(digest), as_text(digest.rpartition(":")[2][:8])
        path = as_text(str(row.get("path", "")).removeprefix(prefix))
        reason = f'<div class="small">{as_text(row["reason"])}</div>' if row.get("reason") else ""
        rows.append([
            (f"<code>{path}</code>{reason}{notes_of(row)}", path),
            (badge(STATES[state]), str(list(STATES).index(state))),
            numeric(row.get("n_events") or (0 if state == "used" else None)),
            (as_size(row.get("size")), as_text(row.get("size", ""))),
            *(_condition(own, group) for group in groups),
            f'<code title="{tip}">{short}</code>' if digest else "–",
        ])  # fmt: skip
    lead = f"<p>All below <code>{as_text(prefix)}</code>, seen from the run directory.</p>" if prefix else ""
    lead += f"<p>The same for all: {as_value(same)}.</p>" if same else ""
    table = html_table("Input files", heads, rows)
    block = f'<div class="block {"lead" if lead else "bare"} card">{lead}{table}</div>'
    return Part("inputs", "Input files", block, len(inputs))


def _common_folder(paths: Sequence[str]) -> str:
    folders = [path.split("/")[:-1] for path in paths]
    common = [
        parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    ]
    return "/".join(common) + "/" if any(common) else ""


def _condition_head(conditions: Sequence[Plain], keys: Sequence[str]) -> Head:
    if len(keys) > 1:
        return Head("Conditions")
    known = [own[keys[0]] for own in conditions if own.get(keys[0]) is not None]
    return Head(keys[0], "n" if all(type(value) in (int, float) for value in known) else "")


def _condition(own: Plain, keys: Sequence[str]) -> Cell:
    if len(keys) > 1:
        return as_value({key: own[key] for key in keys if key in own})
    value = own.get(keys[0])
    return ("–", "") if value is None else (as_value(value), as_text(value))


def notes_of(row: Plain) -> str:
    """Return the notes on a file as HTML."""
    notes = row.get("notes")
    text = "; ".join(as_text(note) for note in notes) if isinstance(notes, list) else ""
    return f'<div class="small muted">{text}</div>' if text else ""


def state_of(row: Plain) -> str:
    """Return what became of a file; a status of a later version counts as skipped."""
    status = str(row.get("status"))
    return status if status in STATES else "skipped"


def provenance_part(run: Run) -> Part:
    """Return software, configuration, steps and files, folded."""
    folds = [_software(run.record), _configuration(run.record), _steps(run.record), _files(run)]
    return Part("provenance", "Provenance", "".join(folds))


def _fold(title: str, remark: str, content: str) -> str:
    return f'<details class="fold card"><summary>{title} <small>{remark}</small></summary>{content}</details>'


def _software(record: Plain) -> str:
    activity = mapping_of(record, "activity")
    agent, packages = mapping_of(activity, "agent"), mapping_of(activity, "packages")
    facts = [(name, as_text(activity.get(name.lower()) or "")) for name in ("Host", "Platform", "Python")]
    facts += [
        ("Started", as_text(activity.get("started") or "")),
        ("Ended", as_text(activity.get("ended") or "")),
    ]
    facts += [(as_text(name), as_text(number)) for name, number in packages.items()]
    if not any(value for _, value in facts):
        return ""
    remark = f"{as_text(agent.get('name', ''))} {as_text(agent.get('version', ''))}"
    return _fold("Software", remark, fact_list(facts))


def _configuration(record: Plain) -> str:
    content = mapping_of(record, "configuration")
    text = as_text(toml(content))
    return _fold("Configuration", "as it was in effect", f"<pre>{text}</pre>") if content else ""


def _steps(record: Plain) -> str:
    steps = {name: step for name, step in mapping_of(record, "steps").items() if isinstance(step, Mapping)}
    if not steps:
        return ""
    heads = (Head("Step", "name"), Head("Version", "n"), Head("Time", "n"), Head("Result"),
             Head("Parameters", "text"), Head("Products"), Head("Key"))  # fmt: skip
    rows = [
        (as_text(name), as_value(step.get("version")), (as_duration(step.get("seconds")), as_text(step.get("seconds", ""))),
         "reused" if step.get("reused") else "computed", as_value(mapping_of(step, "parameters")),
         as_value(step.get("products") or []), f"<code>{as_text(str(step.get('key', ''))[:10])}</code>")
        for name, step in steps.items()
    ]  # fmt: skip
    times = [step.get("seconds") for step in steps.values() if not step.get("reused")]
    total = as_duration(sum(time for time in times if isinstance(time, int | float)))
    return _fold("Steps", f"{len(steps)}, {total} of computing", html_table("Steps", heads, rows))


def _files(run: Run) -> str:
    found = [("run.json", "record of the run", "", "")] if inside(run, "run.json") else []
    found += [("run.log", "log", "", "")] if inside(run, "run.log") else []
    for name, entry in run.record.get("products", {}).items():
        found.append(
            (str(entry.get("file", "")), str(entry.get("kind", "")), name, str(entry.get("key", "")))
        )
    exports = run.record.get("exports")
    found += [(str(file), "export", "", "") for file in exports] if isinstance(exports, list) else []
    rows = []
    for file, kind, name, key in found:
        path = inside(run, file)
        size = path.stat().st_size if path else None
        rows.append((link_to(run, file), as_text(kind), as_text(name), (as_size(size), str(size or "")),
                     f"<code>{as_text(key[:10])}</code>"))  # fmt: skip
    heads = (Head("File", "name"), Head("What"), Head("Product"), Head("Size", "n"), Head("Key"))
    return (
        _fold("Files of this run", str(len(rows)), html_table("Files of this run", heads, rows))
        if rows
        else ""
    )
