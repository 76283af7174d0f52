"""The line that says what is waited for: seen on a terminal, gone afterwards, never in a result."""

import io
import sys

import pytest
from helpers.command_line import Terminal
from helpers.shown_run import ShownRun

from fastdqn.cli.progress import Progress
from fastdqn.cli.status_line import StatusLine


def screen(text):
    """The line that stands there, by a terminal written out: CR and "erase to the end"."""
    line, column = "", 0
    for part in text.replace("\x1b[K", "\x00"):
        if part == "\r":
            column = 0
        elif part == "\x00":
            line = line[:column]
        else:
            line = line[:column] + part + line[column + 1 :]
            column += 1
    return line


def test_it_is_shown_replaced_and_taken_away():
    stream = Terminal()
    with StatusLine(stream) as status:
        status.say("loading torch ...")
        assert screen(stream.getvalue()) == "loading torch ..."
        status.say("playing ...")
        assert screen(stream.getvalue()) == "playing ..."
    assert screen(stream.getvalue()) == "" and "\n" not in stream.getvalue()


def test_it_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    StatusLine(stream).say("x" * 100)
    assert screen(stream.getvalue()) == "x" * 39


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_it_goes_when_something_fails(error):
    stream = Terminal()
    with pytest.raises(error), StatusLine(stream) as status:
        status.say("loading torch ...")
        raise error
    assert screen(stream.getvalue()) == ""


def test_in_a_pipe_it_is_silent_or_a_plain_line():
    stream = io.StringIO()
    StatusLine(stream).say("loading torch ...")
    assert stream.getvalue() == ""
    with StatusLine(stream, in_a_pipe=True) as status:
        status.say("loading torch ...")
    assert stream.getvalue() == "loading torch ...\n"


def test_a_dumb_terminal_counts_as_a_pipe(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    StatusLine(stream).say("loading torch ...")
    assert stream.getvalue() == ""


def test_where_nobody_listens_it_is_silent(monkeypatch):
    stream = Terminal()
    stream.close()
    StatusLine(stream).say("x")
    monkeypatch.setattr(sys, "stderr", None)
    with StatusLine() as status:
        status.say("x")


@pytest.mark.parametrize("refused", [True, False])
def test_a_run_is_announced_and_a_refused_one_leaves_nothing_on_a_terminal(refused):
    stream = Terminal()
    with Progress(100, title="Pong, seed 1", stream=stream) as progress:
        progress.announce("preset pong; loading torch ...")
        assert screen(stream.getvalue()) == "Pong, seed 1: preset pong; loading torch ..."
        if not refused:
            progress.on_start(ShownRun("Pong, seed 1", "envs  Pong"))
    after = stream.getvalue().partition("...\r\x1b[K")[2]
    assert ("envs  Pong" in after) != refused
    assert not refused or screen(stream.getvalue()) == ""


def test_in_a_pipe_the_announcement_is_the_title():
    stream = io.StringIO()
    with Progress(100, title="Pong, seed 1", stream=stream) as progress:
        progress.announce("preset pong; loading torch ...")
        progress.on_start(ShownRun("Pong, seed 1", "envs  Pong"))
    assert stream.getvalue() == "Pong, seed 1: preset pong; loading torch ...\nenvs  Pong\n"
