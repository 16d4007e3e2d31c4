"""Progress of long work: a bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO, TypeVar

    Item = TypeVar("Item")

__all__ = ["Progress", "lines", "silent", "track"]


class Advance(Protocol):
    """What is called when some of the work is done."""

    def __call__(self, amount: float = 1, note: str = "") -> None:
        """Say that `amount` more is done."""
        ...


class Progress:
    """Where progress is shown.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    stream : text stream, optional
        Standard error by default.
    interval : float
        Seconds between lines where the stream is not a terminal.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None, interval: float = 5.0) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.quiet = quiet
        self.interval = interval

    @contextmanager
    def bar(self, what: str, total: float, unit: str = "") -> Iterator[Advance]:
        """Show how far some work is.

        Parameters
        ----------
        what : str
            The work, as a participle: ``"reading"``.
        total : float
            How much there is.
        unit : str
            What is counted.

        Yields
        ------
        callable
            ``advance(amount, note)``.
        """
        if self.quiet or total <= 0:
            yield _nothing
        elif self.stream.isatty():
            with self._rich(what, total, unit) as advance:
                yield advance
        else:
            yield from self._lines(what, total, unit)

    @contextmanager
    def _rich(self, what: str, total: float, unit: str) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        console = Console(file=self.stream)
        with RichProgress(*columns, console=console, transient=False) as shown:
            task = shown.add_task(what, total=total, note="", rate="")
            start = time.monotonic()

            def advance(amount: float = 1, note: str = "") -> None:
                done = shown.tasks[0].completed + amount
                rate = done / max(time.monotonic() - start, 1e-9)
                shown.update(
                    task, advance=amount, note=note[-48:], rate=f"{_short(rate)} {unit}/s" if unit else ""
                )

            yield advance

    def _lines(self, what: str, total: float, unit: str) -> Iterator[Advance]:
        start = last = time.monotonic()
        done = 0.0

        def advance(amount: float = 1, note: str = "") -> None:
            nonlocal done, last
            done += amount
            now = time.monotonic()
            if now - last < self.interval:
                return
            last = now
            rate = done / (now - start)
            left = (total - done) / rate if rate else float("inf")
            counted = f"{_short(done)} of {_short(total)} {unit}".rstrip()
            line = f"{what}: {counted}, {_short(rate)}/s, {left:.0f} s left"
            self.stream.write(f"{line}  {note}".rstrip() + "\n")
            self.stream.flush()

        yield advance


def _nothing(amount: float = 1, note: str = "") -> None:
    """Show nothing."""


def _short(number: float) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / limit * (10 if limit == 1e4 else 1):.3g} {suffix}"
    return f"{number:.3g}" if number != int(number) else str(int(number))


def track(items: Iterable[Item], advance: Advance, note: str = "") -> Iterator[Item]:
    """Yield items and advance by one after each."""
    for item in items:
        yield item
        advance(1, note)


def silent() -> Progress:
    """Return a progress that shows nothing."""
    return Progress(quiet=True)


def lines(stream: TextIO) -> Progress:
    """Return a progress that writes lines to a stream."""
    return Progress(stream=stream)
