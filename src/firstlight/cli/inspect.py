"""The verbs `inspect` and `detectors`."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import json_option
from firstlight.errors import InputError

if TYPE_CHECKING:
    from firstlight.detector import Description

__all__ = ["detectors", "inspect"]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--detector", "name", help="Ask only this detector.")
@json_option
def inspect(files: tuple[Path, ...], name: str | None, as_json: bool) -> None:
    """Say what files hold and who can read them.

    FILES may be folders too. A file that nobody can read is named with the reason, and the exit status is 3.
    """
    from firstlight.data.patterns import find_files
    from firstlight.detector import get_detector, installed_detectors, meant
    from firstlight.face import claims_of

    asked = [get_detector(name)] if name else installed_detectors()
    suffixes = tuple({suffix for detector in asked for suffix in detector.suffixes})
    results: list[dict[str, Any]] = []
    found = find_files(
        files, suffixes=suffixes, claims=claims_of(asked), accepts=lambda path: meant(path, asked)
    )
    for path in found:
        results.append(_describe(path, asked))
        if not as_json:
            _print(path, results[-1])
    if as_json:
        click.echo(json.dumps(results, indent=1, default=str))
    bad = [result for result in results if "refused" in result]
    if bad:
        what = f"{len(bad)} of {len(results)} files cannot be read"
        raise InputError(what)


def _describe(path: Path, asked: list[Any]) -> dict[str, Any]:
    reasons: dict[str, str] = {}
    from firstlight.detector import may_read

    sources = [
        (detector, source)
        for detector in asked
        for source in detector.load("sources")
        if may_read(source, path)
    ]
    # who takes the file for its own is asked first; the others may say why they do not
    for detector, source in sorted(sources, key=lambda pair: not pair[1].sniff(path)):
        try:
            found: Description = source.describe(path)
        except InputError as error:
            hint = f"; try: {error.hint}" if error.hint else ""
            reasons[f"{detector.name} ({source.title})"] = error.what + hint
            continue
        # not asdict(): facts may be objects that say best what they are as text
        shown = {part.name: getattr(found, part.name) for part in fields(found)}
        return {
            "detector": detector.name,
            "reader": source.title,
            "unit": getattr(source, "unit", "events"),
            **shown,
        }
    return {"path": str(path), "refused": reasons}


def _print(path: Path, result: dict[str, Any]) -> None:
    from firstlight.run.provenance import size_of

    click.secho(str(path), bold=True)
    if "refused" in result:
        for reader, reason in result["refused"].items():
            click.echo(f"  {reader}: {click.style(reason, fg='red')}")
        return
    size = size_of(path)
    click.echo(f"  detector    {result['detector']}")
    click.echo(f"  kind        {result['kind']}")
    click.echo(f"  {result['unit']:<11} {result['n_events']:,}   ({size / 1e6:,.1f} MB)")
    for table, columns in result["tables"].items():
        click.echo(f"  {table:<11} {', '.join(columns)}")
    for key, value in {**result["facts"], **result["conditions"]}.items():
        words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        click.echo(f"  {key.replace('_', ' '):<11} {words}")
    for note in result["notes"]:
        click.echo(f"  note        {note}")


@click.command()
@json_option
def detectors(as_json: bool) -> None:
    """List the detectors: built-in ones and those of installed packages."""
    from firstlight.detector import detector_names, get_detector, origin_of
    from firstlight.errors import DetectorError

    rows = []
    for name in detector_names():
        origin = origin_of(name)
        try:
            found = get_detector(name)
            reads = "; ".join(source.title for source in found.load("sources"))
        except DetectorError as error:
            rows.append(
                {"name": name, "title": str(error), "maturity": "broken", "origin": origin, "reads": ""}
            )
            continue
        rows.append(
            {"name": name, "title": found.title, "maturity": found.maturity, "origin": origin, "reads": reads}
        )
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.secho(f"{row['name']:<12}", bold=True, nl=False)
        click.echo(f" {row['title']}  [{row['maturity']}, {row['origin']}]")
        click.echo(f"{'':<13}reads {row['reads']}")
