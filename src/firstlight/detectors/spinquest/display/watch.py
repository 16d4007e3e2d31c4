"""Follow a folder into which files are written, and draw the newest event as it comes."""

from __future__ import annotations

import fnmatch
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Signature = tuple[int, int]  # size and time of the last change [ns]

__all__ = ["follow", "watch"]

log = logging.getLogger("firstlight")

_SEARCHED = 50  # events searched from the end of a file for one with hits


@dataclass
class _Seen:
    """What is known of one file."""

    signature: Signature
    n_same: int = 0  # polls since its last change
    done: bool = False


class _Folder:
    """Files of a folder and how long each has been unchanged."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder = folder
        self.pattern = pattern
        self.files: dict[Path, _Seen] = {}

    def poll(self) -> None:
        """Look at all files once."""
        found = {}
        for path in self._paths():
            try:
                status = path.stat()
            except OSError:  # removed or renamed since it was listed
                continue
            found[path] = (status.st_size, status.st_mtime_ns)
        for path in self.files.keys() - found.keys():
            del self.files[path]
        for path, signature in found.items():
            seen = self.files.get(path)
            if seen is None or seen.signature != signature:
                self.files[path] = _Seen(signature)
            else:
                seen.n_same += 1

    def _paths(self) -> list[Path]:
        found = []
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            own = (name for name in names if not name.startswith("."))  # (also files being copied by rsync)
            found += [Path(place, name) for name in own if fnmatch.fnmatch(name, self.pattern)]
        return found

    def complete(self, settle: int) -> list[Path]:
        """Return files that are complete and have not been reported, the oldest first."""
        ready = [
            path
            for path, seen in self.files.items()
            if not seen.done and seen.n_same >= settle and seen.signature[0] > 0
        ]
        return sorted(ready, key=lambda path: (self.files[path].signature[1], path))


def watch(
    folder: str | Path,
    on_file: Callable[[Path], object],
    *,
    pattern: str = "*.root",
    poll: float = 1.0,
    settle: int = 2,
    once: bool = False,
    stop: Callable[[], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    on_problem: Callable[[Path, str], object] | None = None,
) -> int:
    """Call a function for each new file of a folder when it is complete.

    A file is complete when its size and time have not changed for some polls. Of the files that are there at
    the beginning only the newest complete one is reported; those that are still being written are reported
    when they are complete, and so is a file that changes again later. Others follow in the order of their
    times.

    Parameters
    ----------
    folder : str or Path
        With all folders in it, except hidden ones.
    on_file : callable
        ``on_file(path)``; it may raise `InputError` or `OSError` where the file cannot be read: the file is
        named with the reason and tried again when it has changed.
    pattern : str
        File names, as in a shell.
    poll : float
        Time between two looks [s].
    settle : int
        So many looks without a change make a file complete.
    once : bool
        Report what is complete now, and return.
    stop : callable, optional
        Return when it says True; asked before each look and after each file.
    sleep : callable
        Waits; takes seconds.
    on_problem : callable, optional
        ``on_problem(path, reason)``; the log of the package by default.

    Returns
    -------
    int
        Number of files that were reported and could be read.

    Raises
    ------
    UsageError
        There is no such folder, or `settle` is below 1.
    """
    place = Path(folder)
    if not place.is_dir():
        what = "no such folder" if not place.exists() else "not a folder"
        raise UsageError(what, where=place)
    if settle < 1:
        what = f"a file must be unchanged for at least 1 poll, not {settle}"
        raise UsageError(what)
    problem = on_problem or _log_problem
    files = _Folder(place, pattern)
    files.poll()
    first, n_good = True, 0
    for turn in _turns(stop):
        sleep(poll)
        files.poll()
        if first and turn + 1 < settle:
            continue
        ready = files.complete(settle)
        if first:
            # the newest one that can be read; older ones have been there before
            ready.reverse()
        for path in ready:
            seen = files.files[path]
            seen.done = True
            if first and n_good:
                continue
            n_good += _reported(path, on_file, problem)
            if stop is not None and stop():
                return n_good
        first = False
        if once:
            return n_good
    return n_good


def _turns(stop: Callable[[], bool] | None) -> Any:
    turn = 0
    while stop is None or not stop():
        yield turn
        turn += 1


def _reported(path: Path, on_file: Callable[[Path], object], problem: Callable[[Path, str], object]) -> bool:
    try:
        on_file(path)
    except InputError as error:
        problem(path, error.what)
    except OSError as error:
        problem(path, error.strerror or str(error))
    else:
        return True
    return False


def _log_problem(path: Path, reason: str) -> None:
    log.warning("%s: %s", path, reason)


def follow(
    folder: str | Path,
    output: str | Path,
    *,
    view: str = "map",
    n_events: int = 1,
    geometry: Any = "auto",
    dpi: int = 110,
    in_time: bool = False,
    refresh: int = 5,
    on_picture: Callable[[Path], object] | None = None,
    on_problem: Callable[[Path, str], object] | None = None,
    **watching: Any,
) -> int:
    """Draw the last events of each new file of a folder; a page shows them and loads itself again.

    Parameters
    ----------
    folder, output : str or Path
        What is followed, and where ``latest.png`` (``latest_2.png`` ...) and ``index.html`` are written,
        always over the old ones: the folder does not grow.
    view : str
        One of `display.VIEWS`.
    n_events : int
        Number of events of each file: the last ones with hits.
    geometry, dpi, in_time
        As of `display.plot_events`.
    refresh : int
        The page loads itself again after this time [s].
    on_picture, on_problem : callable, optional
        Called with the file that was drawn; with the file that cannot be read, and the reason.
    **watching
        Further parameters of `watch`.

    Returns
    -------
    int
        Number of files that were drawn.
    """
    from firstlight.detectors.spinquest.display.pictures import VIEWS

    if view not in VIEWS:
        raise UsageError.unknown("view", view, VIEWS)
    if n_events < 1:
        what = f"at least 1 event must be drawn, not {n_events}"
        raise UsageError(what)
    place = Path(output)
    page = _Page(place, refresh)
    page.write([], "Waiting for the first complete file.")

    def draw(path: Path) -> None:
        pictures = _draw_last(path, place, view, n_events, geometry, dpi, in_time)
        page.write(pictures, f"{path.name}, drawn {time.strftime('%Y-%m-%d %H:%M:%S')}")
        if on_picture is not None:
            on_picture(path)

    def problem(path: Path, reason: str) -> None:
        page.problem = f"{path.name}: {reason}"
        page.write()
        (on_problem or _log_problem)(path, reason)

    return watch(folder, draw, on_problem=problem, **watching)


def _draw_last(
    path: Path, output: Path, view: str, n_events: int, geometry: Any, dpi: int, in_time: bool
) -> list[tuple[str, str]]:
    """Draw the last events with hits, the very last first; return file names and words."""
    from firstlight.detectors.spinquest.display import draw, only_in_time, open_events, read_events
    from firstlight.view.save import save_canvas

    about, table = open_events(path, geometry)
    if about.n_events == 0:
        what = "the file has no events"
        raise InputError(what, where=path)
    first = max(about.n_events - max(_SEARCHED, n_events), 0)
    events = read_events(path, range(first, about.n_events), geometry=table)
    chosen = [event for event in reversed(events) if event.n_hits][:n_events] or events[-1:]
    pictures = []
    for index, event in enumerate(chosen, start=1):
        name = "latest.png" if index == 1 else f"latest_{index}.png"
        shown = only_in_time(event) if in_time else event
        save_canvas(draw(view, shown, table), output / name, dpi)
        pictures.append((name, event.title))
    return pictures


@dataclass
class _Page:
    """The page with the newest pictures."""

    folder: Path
    refresh: int
    status: str = ""
    problem: str = ""
    pictures: tuple[tuple[str, str], ...] = ()
    n_written: int = 0

    def write(self, pictures: list[tuple[str, str]] | None = None, status: str = "") -> None:
        """Write the page; without arguments with the same pictures as before."""
        from firstlight.files import write_text
        from firstlight.view.markup import as_text

        if pictures is not None:
            self.pictures, self.status, self.problem = tuple(pictures), status, ""
        self.n_written += 1
        # the number makes browsers load the picture again
        number = f"{time.time_ns()}-{self.n_written}"
        shown = "\n".join(
            f'<img src="{as_text(name)}?{number}" alt="{as_text(title)}">' for name, title in self.pictures
        )
        problem = f'<p class="bad">Cannot be read: {as_text(self.problem)}</p>' if self.problem else ""
        write_text(
            self.folder / "index.html",
            f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{self.refresh:d}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>firstlight: newest event</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:1rem;color:#22303c}}img{{width:100%;max-width:1650px;
display:block;margin:0 0 1.5rem}}.bad{{color:#b3261e}}</style></head>
<body><p>{as_text(self.status)}</p>{problem}
{shown}
</body></html>
""",
        )
