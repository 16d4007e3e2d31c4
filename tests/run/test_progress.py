"""Progress: a line now and then, a bar on a terminal, nothing if nothing is wanted."""

from __future__ import annotations

import io

import pytest

from firstlight.run.progress import Progress, lines, silent, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_shows_nothing():
    stream = io.StringIO()
    with Progress(quiet=True, stream=stream).bar("reading", 3) as advance:
        advance(3)
    assert stream.getvalue() == ""
    with silent().bar("reading", 3) as advance:
        advance(1, "note")


def test_lines_tell_rate_and_time_left():
    stream = io.StringIO()
    with Progress(stream=stream, interval=0.0).bar("reading", 20_000, "events") as advance:
        advance(10_000, "a.root")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("reading: 10 k of 20 k events, ")
    assert line.endswith("s left  a.root")


def test_lines_come_only_now_and_then():
    stream = io.StringIO()
    with lines(stream).bar("reading", 1000) as advance:
        for _ in track(range(1000), advance):
            pass
    assert stream.getvalue() == ""


def test_bar_on_a_terminal():
    stream = Terminal()
    with Progress(stream=stream).bar("reading", 2, "files") as advance:
        advance(1, "a.root")
        advance(1, "b.root")
    assert "reading" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_no_work_is_no_bar():
    stream = Terminal()
    with Progress(stream=stream).bar("reading", 0) as advance:
        advance()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_error_inside_the_work_comes_out_as_it_is(stream):
    def work() -> None:
        with Progress(stream=stream()).bar("reading", 2) as advance:
            advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (1.5, "1.5"), (12_000, "12 k"), (1.2e6, "1.2 M"), (3e9, "3 G"), (9_999, "9999")],
)
def test_numbers_are_short(number, text):
    stream = io.StringIO()
    with Progress(stream=stream, interval=0.0).bar("x", number) as advance:
        advance(number)
    assert f"x: {text} of {text}" in stream.getvalue()
