"""Options that mean the same everywhere, and how the end of a run is told."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.errors import CheckFailedError, ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firstlight.run.chain import Settings
    from firstlight.run.progress import Progress
    from firstlight.run.store import Run

__all__ = [
    "Group",
    "fail_on_option",
    "json_option",
    "progress_options",
    "run_options",
    "settings_from",
    "tell",
    "values_from",
]

Command = Any


class Group(click.Group):
    """A group of verbs that names the nearest one where a verb is mistyped."""

    def verbs(self, ctx: click.Context) -> list[str]:
        """Return the verbs that exist."""
        return self.list_commands(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that was typed."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from firstlight.errors import nearest

            known = self.verbs(ctx)
            close = nearest(args[0], known)
            guess = f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(known)}."
            message = f"No such command {args[0]!r}. {guess}"
            raise click.UsageError(message, ctx) from error


_FAIL = {"warn": ("warn", "bad"), "bad": ("bad",), "error": ("bad",)}

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
fail_on_option = click.option(
    "--fail-on",
    type=click.Choice(["warn", "bad", "error"]),
    help="Exit with status 4 if a check is this bad or worse (error means bad).",
)


def progress_options(command: Command) -> Command:
    """Add `--quiet` and `--verbose`."""
    command = click.option("--verbose", is_flag=True, help="Say more: the log as it is written.")(command)
    return click.option("--quiet", "-q", is_flag=True, help="No progress, no summary.")(command)


def execution_options(command: Command) -> Command:
    """Add `--jobs` and `--dask`."""
    command = click.option("--dask", metavar="ADDRESS", help="Dask scheduler to work on, tcp://host:8786.")(
        command
    )
    return click.option(
        "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes."
    )(command)


def run_options(default_output: str) -> Callable[[Command], Command]:
    """Add the options of a command that writes a run directory."""

    def add(command: Command) -> Command:
        options = (
            click.option(
                "--output", "-o", type=click.Path(path_type=Path), default=default_output, show_default=True,
                help="Run directory.",
            ),
            click.option("--config", type=click.Path(path_type=Path), help="TOML file with options and step parameters."),
            click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One parameter: quality.hot_ratio=4."),
            click.option("--force", is_flag=True, help="Make all products again."),
            execution_options,
            click.option(
                "--allow-bad", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
                help="Exit with status 0 although up to N inputs were refused.",
            ),
            click.option("--no-plots", is_flag=True, help="No figures and no report."),
            click.option("--pdf", is_flag=True, help="Figures as PDF too."),
            fail_on_option,
            json_option,
            progress_options,
        )  # fmt: skip
        for option in reversed(options):
            command = option(command)
        return command

    return add


def progress_from(options: Mapping[str, Any]) -> Progress:
    """Return where progress is shown."""
    from firstlight.run.progress import Progress

    if options.get("verbose"):
        import logging

        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log = logging.getLogger("firstlight")
        log.addHandler(handler)
        context = click.get_current_context(silent=True)
        if context is not None:
            context.find_root().call_on_close(lambda: log.removeHandler(handler))
    return Progress(quiet=bool(options.get("quiet")))


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Return how a chain is run, from the options that `run_options` added."""
    from firstlight.run.chain import Settings
    from firstlight.run.execution import Executor

    return Settings(
        executor=Executor(jobs=options["jobs"], dask=options["dask"]),
        progress=progress_from(options),
        force=options["force"],
        allow_bad=options["allow_bad"],
        plots=not options["no_plots"],
        formats=("png", "pdf") if options["pdf"] else ("png",),
        command=("firstlight", *sys.argv[1:]),
    )


def values_from(config: Path | None, settings: tuple[str, ...] = (), **given: Any) -> dict[str, Any]:
    """Return the configuration: the file, overridden by `--set`, overridden by options that were given.

    Parameters
    ----------
    config : Path or None
        TOML or JSON file.
    settings : tuple of str
        ``key=value`` or ``step.key=value``; values as in TOML, plain words as text.
    **given
        Options by key; None and empty ones were not given. A double underscore stands for a dot.
    """
    from firstlight.run.config import load_config

    values = load_config(config) if config is not None else {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            what = f"--set {setting!r} must be KEY=VALUE"
            raise UsageError(what)
        _put(values, key.strip().split("."), _value(text.strip()), setting)
    for key, value in given.items():
        if value is None or value == () or value is False:
            continue
        _put(values, key.split("__"), value, key)
    return values


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], keys: list[str], value: Any, where: str) -> None:
    for key in keys[:-1]:
        inner: Any = values.setdefault(key, {})
        if not isinstance(inner, dict):
            what = f"{key!r} is a value, not a table of keys"
            raise ConfigError(what, where=where)
        values = inner
    values[keys[-1]] = value


def tell(run: Run, *, as_json: bool, quiet: bool, fail_on: str | None) -> None:
    """Say how a run ended.

    Raises
    ------
    CheckFailedError
        If a check is as bad as `fail_on` or worse.
    """
    record = run.record
    if as_json:
        keys = ("detector", "verdict", "summary", "checks", "cut_flow", "exports", "notes", "inputs")
        content = {"run": str(run.folder), **{key: record.get(key) for key in keys}}
        click.echo(json.dumps(content, indent=1))
    elif not quiet:
        _say(run)
    if fail_on is not None:
        failed = [check for check in record.get("checks", []) if check["verdict"] in _FAIL[fail_on]]
        if failed:
            lines = "".join(
                f"\n  {check['verdict']}: {check['subject'] or check['name']}: {check['rule']}"
                for check in failed[:20]
            )
            checks = "1 check" if len(failed) == 1 else f"{len(failed)} checks"
            what = f"{checks} failed (--fail-on {fail_on}):{lines}"
            raise CheckFailedError(what)


def _say(run: Run) -> None:
    record = run.record
    for entry in record.get("summary", []):
        value = entry["value"]
        number = f"{value:,}" if isinstance(value, int) else str(value)
        click.echo(f"  {entry['label']:<28} {number} {entry.get('unit', '')}".rstrip())
    refused = [entry for entry in record.get("inputs", []) if entry["status"] == "refused"]
    for entry in refused[:10]:
        click.echo(f"  refused {Path(entry['path']).name}: {entry['reason']}")
    order = ("bad", "warn")
    attention = [check for check in record.get("checks", []) if check["verdict"] in order]
    attention.sort(key=lambda check: order.index(check["verdict"]))
    colours = {"bad": "red", "warn": "yellow"}
    for check in attention[:15]:
        label = click.style(f"  {check['verdict']:<5}", fg=colours[check["verdict"]])
        subject = f"{check['subject']}: " if check["subject"] else ""
        click.echo(f"{label} {subject}{check['rule']}")
    if len(attention) > 15:
        click.echo(f"        ... and {len(attention) - 15} more, see the report")
    verdict = record.get("verdict")
    if verdict:
        click.echo(f"verdict: {verdict}")
    report = run.folder / "report" / "index.html"
    click.echo(f"report:  {report}" if report.exists() else f"run:     {run.folder}")
