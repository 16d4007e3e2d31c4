"""The folders and reports of the original's run manager: read tolerantly, written without secrets.

A run is a folder with ``run_info.txt``; a task is a folder in it, with ``task_report.txt``. The layout is that of
lip-pps-run-manager 0.2 to 0.3 (MIT licence), whose `task_completed` says the same about our folders as about its own.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from firstlight import __version__
from firstlight.errors import ConfigError, InputError, StoreError, UsageError
from firstlight.files import write_json, write_text
from firstlight.run.provenance import digest_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

__all__ = [
    "RunLayout",
    "TaskReport",
    "TaskWriter",
    "is_layout",
    "open_layout",
    "require_task",
    "write_run_info",
]

RUN_INFO = "run_info.txt"
REPORT = "task_report.txt"
REPORT_JSON = "task_report.json"
NO_ERRORS = "no errors"
INCOMPLETE = "incomplete"
ERRORS = "there were errors"
NOT_FINISHED = "not finished"
UNKNOWN = "unknown"
_STATUSES = (NO_ERRORS, INCOMPLETE, ERRORS)
_FORMAT = "etroc-task"
_FORMAT_VERSION = 1
# folders of a run that are no tasks: a task wipes its own folder
_RESERVED = ("data", "backup", "products", "figures", "Individual_Runs")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d:?\d\d|Z)?")
_VERSION = re.compile(r"\bv ?(\d[\w.+-]*)")
_SECRET_NAMES = re.compile(r"token|secret|passw|credential|api_?key|private_?key|chat_?id", re.IGNORECASE)
# 123456789:AAF... is what a messenger bot signs with
_SECRETS = re.compile(r"\d{6,12}:[A-Za-z0-9_-]{20,}|(?i:bearer)\s+\S+|\bgh[pousr]_\w{20,}")
_WITHHELD = "(not kept)"


@dataclass(frozen=True)
class TaskReport:
    """How a task ended.

    Parameters
    ----------
    name : str
        Name of the task and of its folder.
    status : str
        ``"no errors"``, ``"incomplete"`` (fewer steps than announced), ``"there were errors"``, ``"not finished"`` (begun
        and neither ended nor failed: running, or killed), or ``"unknown"`` for a report without a status.
    text : str
        The whole report.
    started, ended : datetime, optional
        As reported; the original does not tell when a task began.
    traceback : str
        Of a failed task.
    version : str
        What wrote the report.
    parameters : mapping
        What the task was given; empty for reports of the original.
    """

    name: str
    status: str
    text: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    traceback: str = ""
    version: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def completed(self) -> bool:
        """Whether the task ended without errors, with all its steps."""
        return self.status == NO_ERRORS


@dataclass(frozen=True)
class RunLayout:
    """A run directory of the original, or one of ours in its layout.

    Parameters
    ----------
    folder : Path
        The run directory.
    name : str
        Name of the run.
    created : datetime, optional
        When it was made.
    version : str
        Version of what made it.
    tasks : mapping of str to TaskReport
        In the order in which they ended.
    """

    folder: Path
    name: str
    created: datetime | None
    version: str
    tasks: Mapping[str, TaskReport]

    def completed(self, *names: str) -> bool:
        """Return whether one of some tasks ended without errors."""
        return any(name in self.tasks and self.tasks[name].completed for name in names)


def is_layout(folder: Path) -> bool:
    """Return whether a folder has a ``run_info.txt``."""
    return (folder / RUN_INFO).is_file()


def open_layout(folder: Path) -> RunLayout:
    """Return the run that a folder holds, with the reports of its tasks.

    Parameters
    ----------
    folder : Path
        With ``run_info.txt``, of the original (0.1 to 0.3) or ours.

    Raises
    ------
    InputError
        If the folder is no run, or a report cannot be read.
    """
    folder = Path(folder)
    path = folder / RUN_INFO
    if not path.is_file():
        runs = sorted(found.parent.name for found in folder.glob(f"*/{RUN_INFO}")) if folder.is_dir() else []
        what = f"is not a run directory (it has no {RUN_INFO})"
        raise InputError(what, where=folder, known=runs or None, hint="the folder that was given as -o")
    text = _text_of(path)
    # the name may hold quotes itself: up to the last one before the version
    named = re.search(r"run '(?P<name>.*)'", text, re.DOTALL)
    version = _VERSION.search(text, named.end() if named else 0)
    reports = [
        _report_of(found)
        for found in sorted(folder.iterdir())
        if found.is_dir() and ((found / REPORT).is_file() or (found / REPORT_JSON).is_file())
    ]
    reports.sort(key=lambda report: (_moment(report.ended or report.started), report.name))
    return RunLayout(
        folder,
        named["name"] if named else folder.resolve().name,
        _last_stamp(text),
        version[1] if version else "",
        {report.name: report for report in reports},
    )


def require_task(folder: Path, *names: str) -> TaskReport:
    """Return the report of a task that has to be completed before the next one.

    Parameters
    ----------
    folder : Path
        Run directory.
    *names : str
        Any of these tasks will do.

    Raises
    ------
    InputError
        If none was completed; says how the last one ended.
    """
    layout = open_layout(folder)
    for name in names:
        if layout.completed(name):
            return layout.tasks[name]
    wanted = " or ".join(names)
    there = [layout.tasks[name] for name in names if name in layout.tasks]
    if not there:
        what = f"task {wanted} was not run"
        raise InputError(what, where=folder, known=list(layout.tasks), hint="the step before")
    report = there[-1]
    reason = report.traceback.strip().splitlines()[-1:] or [""]
    what = f"task {report.name} ended with status {report.status!r}"
    if reason[0]:
        what += f": {reason[0]}"
    hint = "run that step again after the cause is gone"
    raise InputError(what, where=folder / report.name / REPORT, hint=hint)


def write_run_info(folder: Path, name: str = "", *, flush: bool = True) -> Path:
    """Make a folder a run directory; one that is there keeps its ``run_info.txt``.

    Parameters
    ----------
    folder : Path
        Run directory; made where it is missing.
    name : str
        Name of the run; by default that of the folder.
    flush : bool
        Wait until it is on the disk.

    Returns
    -------
    Path
        ``run_info.txt``.
    """
    path = Path(folder) / RUN_INFO
    if not path.is_file():
        shown = name or Path(folder).resolve().name
        text = f"run '{shown}'\nwritten by firstlight v{__version__} on {_now()}\n"
        write_text(path, text, flush=flush)
    return path


class TaskWriter:
    """A task while it is done: a context manager that leaves a report whatever happens.

    What the folder held before is wiped on entry. On exit ``task_report.txt`` and ``task_report.json`` say how the task
    ended; an error goes on to the caller. Only the parameters that are given are kept: no variables of the caller, no
    environment, and nothing that looks like a token.

    Parameters
    ----------
    folder : Path
        Run directory.
    name : str
        Name of the task.
    total : int, optional
        Steps that are announced; with fewer `tick` the task is incomplete.
    parameters : mapping, optional
        What the task was given: plain values.
    inputs : sequence of Path
        Files that it reads, kept by name, size and digest.
    flush : bool
        Wait until the reports are on the disk.

    Examples
    --------
    >>> with TaskWriter(Path("out"), "apply_event_cuts") as task:    # doctest: +SKIP
    ...     write_filter(task.path / "event_filter.fd", events, accepted)
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        total: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        inputs: Sequence[Path] = (),
        flush: bool = True,
    ) -> None:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            what = f"{name!r} cannot be the name of a task"
            raise UsageError(what, where=folder, hint="letters, digits and underscores")
        self.folder = Path(folder)
        self.name = name
        self.total = total
        self.parameters = _plain(parameters or {})
        self.inputs = tuple(inputs)
        self.flush = flush
        self.done = 0
        self.notes: list[str] = []

    @property
    def path(self) -> Path:
        """Folder of the task."""
        return self.folder / self.name

    def tick(self, count: int = 1) -> None:
        """Tell that some of the announced steps are done."""
        self.done += count

    def note(self, text: str) -> None:
        """Keep a remark for the report."""
        self.notes.append(_without_secrets(text))

    def __enter__(self) -> Self:
        inside = [path for path in self.inputs if self.path.resolve() in path.resolve().parents]
        if inside:
            what = f"the task {self.name} would wipe its own input {inside[0].name}"
            raise UsageError(
                what, where=self.path, hint="copy the file elsewhere, or another output directory"
            )
        _wipe(self.path)
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            what = f"cannot be made: {error.strerror or error}"
            raise StoreError(what, where=self.path, hint="another output directory") from error
        self.started = _now()
        self._write_json(NOT_FINISHED, None, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = _now()
        if error is None:
            whole = self.total is None or self.done == self.total
            status, trouble = (NO_ERRORS if whole else INCOMPLETE), None
        else:
            lines = traceback.format_exception(kind, error, trace)
            status, trouble = ERRORS, _without_secrets("".join(lines))
        write_text(self.path / REPORT, self._text(status, ended, trouble), flush=self.flush)
        self._write_json(status, ended, trouble)

    def _text(self, status: str, ended: str, trouble: str | None) -> str:
        lines = [f"task_status: {status}", f"started on: {self.started}", f"finished on: {ended}"]
        if self.total is not None:
            lines.append(f"steps: {self.done} of {self.total}")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"written by firstlight v{__version__}")
        if trouble is not None:
            lines += ["--------", trouble.rstrip()]
        return "\n".join(lines) + "\n"

    def _write_json(self, status: str, ended: str | None, trouble: str | None) -> None:
        content = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "task": self.name,
            "status": status,
            "started": self.started,
            "ended": ended,
            "version": __version__,
            "steps": {"done": self.done, "announced": self.total},
            "parameters": self.parameters,
            "inputs": [] if ended is None else [_input_of(path) for path in self.inputs],
            "notes": self.notes,
            "traceback": trouble,
        }
        write_json(self.path / REPORT_JSON, content, flush=self.flush)


def _wipe(path: Path) -> None:
    """Remove a folder of a task with all that is in it."""
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    except OSError as error:
        what = f"cannot be wiped: {error.strerror or error}"
        raise StoreError(what, where=path, hint="another output directory") from error


def _report_of(folder: Path) -> TaskReport:
    content = _json_of(folder / REPORT_JSON)
    path = folder / REPORT
    text = _text_of(path) if path.is_file() else ""
    # only a line of its own tells: a traceback may quote one of another task
    head, _, tail = text.partition("--------\n")
    told = re.search(r"^task_status: *(.*?) *$", head, re.MULTILINE)
    status = told[1] if told else str(content.get("status", UNKNOWN))
    if status not in (*_STATUSES, NOT_FINISHED):
        status = UNKNOWN
    version = re.findall(_VERSION, tail if "was used" in tail else head)
    trouble = re.sub(r"\n*\S+ v \S+ was used [^\n]*\n*\Z", "", tail).strip()
    ended = _stamp(content.get("ended")) or (_last_stamp(head) if text else None)
    parameters = content.get("parameters")
    return TaskReport(
        folder.name,
        status,
        text,
        _stamp(content.get("started")),
        ended,
        trouble or str(content.get("traceback") or ""),
        version[-1] if version else str(content.get("version", "")),
        parameters if isinstance(parameters, Mapping) else {},
    )


def _json_of(path: Path) -> Mapping[str, Any]:
    """Return a report of ours; nothing where it is missing, damaged or not ours: the text tells the rest."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("format") == _FORMAT else {}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InputError(what, where=path) from error


def _input_of(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"name": path.name, "size": None, "digest": ""}
    return {"name": path.name, "size": path.stat().st_size, "digest": digest_file(path)}


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as plain values, without secrets.

    Raises
    ------
    ConfigError
        If a value is no plain value: an object may hold anything.
    """
    return {str(key): _plain_value(str(key), value) for key, value in parameters.items()}


def _plain_value(name: str, value: Any) -> Any:
    if _SECRET_NAMES.search(name):
        return _WITHHELD
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str | Path):
        return _without_secrets(str(value))
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, list | tuple | set | frozenset):
        items: Iterable[Any] = sorted(value) if isinstance(value, set | frozenset) else value
        return [_plain_value(name, item) for item in items]
    what = f"parameter {name!r} is a {type(value).__name__}, not a plain value"
    raise ConfigError(what, hint="a number, a text, a list of them or nothing")


def _without_secrets(text: str) -> str:
    return _SECRETS.sub(_WITHHELD, text)


def _now() -> str:
    # local time as the original writes it, with the offset that it leaves out
    return datetime.now().astimezone().isoformat(sep=" ", timespec="microseconds")


def _stamp(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _last_stamp(text: str) -> datetime | None:
    found = _STAMP.findall(text)
    return _stamp(found[-1]) if found else None


def _moment(stamp: datetime | None) -> float:
    """Return a moment that can be compared: local time where no offset is told."""
    return 0.0 if stamp is None else stamp.timestamp()
