"""Progress: plain lines in a pipe, a live display on a terminal, and never an exception."""

import io
import math
import re
import types

import pytest
from helpers.shown_run import ShownRun

from fastdqn.cli import progress as module
from fastdqn.cli.progress import Progress

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def row(env_steps: float, **changes: float) -> dict[str, float]:
    return {
        "env_steps": env_steps,
        "updates": env_steps / 4,
        "episodes": 10,
        "return_mean": 123.45,
        "length_mean": 123.45,
        "epsilon": 0.25,
        "loss": 0.1,
        "td_error_abs": 0.2,
        "q_mean": 3.0,
        "env_steps_per_s": 2_000.0,
        "updates_per_s": 500.0,
        "wall_s": 1.0,
        **changes,
    }


def evaluation(env_steps: float, mean: float, unfinished: int = 0) -> dict[str, float]:
    return {"env_steps": env_steps, "mean": mean, "episodes": 10, "unfinished": unfinished}


def run(stream, clock, *, seconds, total=100_000, rows=100, frame_skip=1):
    with Progress(total, title="CartPole-v1", frame_skip=frame_skip, stream=stream) as progress:
        for index in range(1, rows + 1):
            clock.now += seconds / rows
            progress.on_log(row(index * total / rows))
    return stream.getvalue()


# --- in a pipe -----------------------------------------------------------------------------------


def test_a_plain_line_has_everything():
    stream = io.StringIO()
    with Progress(100_000, title="Pong", frame_skip=4, stream=stream) as progress:
        progress.on_log(row(10_000))
    assert stream.getvalue() == (
        "Pong\n"
        " 10,000/100,000 ( 10%)  return 123.5  epsilon 0.250  2,000 steps/s  8,000 frames/s  "
        "500 updates/s  ETA 0:00:45\n"
    )


def test_without_frame_skip_there_are_no_frames():
    stream = io.StringIO()
    with Progress(100, title="x", stream=stream) as progress:
        progress.on_log(row(10))
    assert "frames" not in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "fewest", "most"), [(1, 5, 22), (5, 5, 22), (60, 20, 60), (86_400, 20, 102)]
)
def test_short_runs_print_some_lines_and_long_runs_not_too_many(clock, seconds, fewest, most):
    lines = run(io.StringIO(), clock, seconds=seconds).splitlines()
    assert fewest <= len(lines) <= most
    assert lines[-1].startswith("100,000/100,000 (100%)")


def test_a_day_with_many_rows_stays_readable(clock):
    lines = run(io.StringIO(), clock, seconds=86_400, rows=50_000).splitlines()
    assert len(lines) < 600


def test_plain_lines_have_no_control_characters(clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich would take that for a terminal
    assert not CONTROL.search(run(io.StringIO(), clock, seconds=10))


def test_a_dumb_terminal_gets_plain_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not CONTROL.search(run(Terminal(), clock, seconds=10))


def test_what_is_not_known_yet_is_a_dash():
    stream = io.StringIO()
    with Progress(1_000, title="x", frame_skip=4, stream=stream) as progress:
        progress.on_log({"env_steps": 8, **dict.fromkeys(("return_mean", "epsilon"), math.nan)})
        progress.on_log({})
        progress.on_log({"env_steps": 16, "return_mean": "", "env_steps_per_s": None})
        progress.on_log(row(1_000, env_steps_per_s=0.0))
        progress.on_log(row(2_000, env_steps_per_s=math.inf, return_mean=-math.inf))
    lines = stream.getvalue().splitlines()
    dashes = "return -  epsilon -  - steps/s  - frames/s  - updates/s  ETA -"
    assert lines[1] == f"    8/1,000 (  1%)  {dashes}"
    assert "nan" not in stream.getvalue()
    assert lines[-1].startswith("2,000/1,000 (100%)  return -  ")


def test_no_end_is_foretold_before_the_first_updates(clock):
    """Filling the replay is many times faster than what comes after it."""
    stream = io.StringIO()
    with Progress(1_000, title="x", stream=stream) as progress:
        progress.on_log(row(100, updates_per_s=0.0))
        progress.on_log(row(200))
    assert [line.split("ETA")[1] for line in stream.getvalue().splitlines()[1:]] == [
        " -",
        " 0:00:01",
    ]


def test_a_row_that_was_not_due_is_shown_at_the_end(clock):
    stream = io.StringIO()
    with Progress(1_000, title="x", stream=stream) as progress:
        progress.on_log(row(10))
        progress.on_log(row(20))
        assert stream.getvalue().count("\n") == 2
    assert stream.getvalue().splitlines()[-1].startswith("   20/1,000")
    progress.close()  # again: nothing more
    assert stream.getvalue().count("\n") == 3


def test_an_evaluation_is_a_line_of_its_own():
    stream = io.StringIO()
    with Progress(1_000, title="x", stream=stream) as progress:
        progress.on_evaluation(evaluation(500, 475.25))
        progress.on_log(row(510, eval_return_mean=475.25))
        progress.on_evaluation(evaluation(600, 1.0, unfinished=2))
    lines = [line for line in stream.getvalue().splitlines() if "evaluation" in line]
    assert lines == [
        "evaluation at 500 env steps: mean return 475.2 over 10 episodes",
        "evaluation at 600 env steps: mean return 1.0 over 10 episodes (2 of them cut short)",
    ]


def test_a_message_is_printed_as_it_is():
    stream = io.StringIO()
    with Progress(1_000, title="[bold]x", stream=stream) as progress:
        progress.message("[red]not markup[/red]")
    assert stream.getvalue() == "[bold]x\n[red]not markup[/red]\n"


# --- on a terminal -------------------------------------------------------------------------------


def _screen(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_on_a_terminal_the_display_is_live(clock):
    text = run(Terminal(), clock, seconds=10, frame_skip=4)
    assert "\x1b[1A" in text  # the cursor goes up: lines are drawn over
    last = _screen(text[text.rindex("\x1b[1A") :])
    assert "CartPole-v1" in last
    assert "100,000/100,000 100%" in last
    assert "return 123.5  epsilon 0.250  2,000 steps/s  8,000 frames/s  500 updates/s" in last
    assert "ETA 0:00:00" in last
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor comes back


def test_on_a_terminal_it_draws_at_most_ten_times_a_second(clock):
    text = run(Terminal(), clock, seconds=1.0, rows=1_000)
    assert 8 <= text.count("CartPole-v1") <= 13


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = run(Terminal(), clock, seconds=10, total=10_000_000, frame_skip=4)
    lines = _screen(text).replace("\r", "\n").split("\n")
    assert max(len(line) for line in lines) <= columns


@pytest.mark.parametrize("columns", [20, 30, 40, 80, 200])
def test_the_returns_so_far_are_a_sparkline_where_there_is_room(clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    with Progress(1_000, title="x", stream=stream) as progress:
        for k, mean in enumerate([math.nan, *range(1, 101)]):
            clock.now += 1
            progress.on_log(row(10 * k, return_mean=mean))
    lines = _screen(stream.getvalue()).replace("\r", "\n").split("\n")
    assert max(len(line) for line in lines) <= columns
    shown = [line.split() for line in lines if line.startswith("returns ")]
    if columns == 20:  # eight characters for the words, and nine for the numbers
        assert shown == []
        return
    label, first, marks, last = shown[-1]
    assert (label, first, last) == ("returns", "1.0", "100.0")
    assert len(marks) == min(60, columns - len("returns 1.0  100.0"))
    assert list(marks) == sorted(marks) and marks[0] == "▁" and marks[-1] == "█"
    assert len(shown) >= 99  # from the second return on


def test_the_sparkline_is_of_the_recent_returns(clock):
    stream = Terminal()
    with Progress(1_000, title="x", stream=stream) as progress:
        for k in range(1_000):
            clock.now += 1
            progress.on_log(row(k, return_mean=float(k)))
    last = [line for line in _screen(stream.getvalue()).split("\n") if "returns " in line][-1]
    assert last.startswith("returns 760.0 ") and last.rstrip().endswith(" 999.0")


def test_a_terminal_without_blocks_gets_an_ascii_sparkline(clock):
    class Old(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    stream = Old(raw, encoding="ascii")
    with Progress(1_000, title="x", stream=stream) as progress:
        for k in range(3):
            clock.now += 1
            progress.on_log(row(k, return_mean=float(k)))
    stream.flush()
    assert "returns 0.0 _=# 2.0" in raw.getvalue().decode("ascii")


def test_in_a_pipe_there_is_no_sparkline(clock):
    text = run(io.StringIO(), clock, seconds=100)
    assert text.isascii() and "returns" not in text


def test_no_color_is_honoured(clock, monkeypatch):
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", run(Terminal(), clock, seconds=10))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", run(Terminal(), clock, seconds=10))


def test_a_message_stands_above_the_display(clock):
    stream = Terminal()
    with Progress(1_000, title="x", stream=stream) as progress:
        progress.on_evaluation(evaluation(500, 475.25))
        progress.message("[red]not markup[/red]")
    text = _screen(stream.getvalue())
    assert "evaluation at 500 env steps: mean return 475.2" in text
    assert "[red]not markup[/red]" in text


def test_an_exception_gives_the_terminal_back(clock):
    stream = Terminal()
    with pytest.raises(KeyError), Progress(1_000, title="x", stream=stream) as progress:
        progress.on_log(row(500))
        raise KeyError
    assert stream.getvalue().rstrip().endswith("\x1b[?25h")


# --- where nobody listens ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
@pytest.mark.parametrize("early", [True, False])
def test_a_closed_stream_is_silence(clock, kind, early):
    stream = kind()
    if early:
        stream.close()
    with Progress(1_000, title="x", stream=stream) as progress:
        progress.on_log(row(100))
        stream.close()
        clock.now += 10
        progress.on_log(row(200))
        progress.message("hello")


def test_a_reader_that_has_gone_is_silence(clock):
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    run(Broken(), clock, seconds=10)


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_without_a_row_nothing_is_shown(kind):
    stream = kind()
    with pytest.raises(KeyError), Progress(1_000, title="x", stream=stream):
        raise KeyError  # as when the run is refused
    assert stream.getvalue() == ""


def test_no_stdout_at_all_is_silence(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with Progress(1_000, title="x") as progress:
        progress.on_log(row(100))
        progress.message("hello")


def test_by_default_it_writes_to_stdout(capsys):
    with Progress(1_000, title="x") as progress:
        progress.on_log(row(1_000))
    assert capsys.readouterr().out.startswith("x\n1,000/1,000 (100%)")


# --- before there is a row -----------------------------------------------------------------------


def steps(stream, clock, *, seconds, every=0.01, per_step=8, total=1_000_000):
    """Steps without a row, each taking ``every`` seconds."""
    with Progress(total, title="x", stream=stream) as progress:
        progress.on_start(ShownRun("Pong, seed 1", "envs   Pong\nfiles  runs/a"))
        for step in range(1, round(seconds / every) + 1):
            clock.now += every
            progress.on_step(step * per_step, 0)
    return stream.getvalue().splitlines()


def test_the_header_and_the_first_step_come_at_once(clock):
    lines = steps(io.StringIO(), clock, seconds=0.01)
    assert lines[:3] == ["Pong, seed 1", "envs   Pong", "files  runs/a"]
    assert re.match(r" +8/1,000,000 .*return -  epsilon -  - steps/s  - updates/s  ETA -", lines[3])


def test_steps_are_shown_from_the_first_second_with_their_speed(clock):
    lines = steps(io.StringIO(), clock, seconds=1.0)
    assert len(lines) == 5 and "800 steps/s  0 updates/s  ETA -" in lines[4]


@pytest.mark.parametrize(("seconds", "fewest", "most"), [(60, 15, 35), (3_000, 60, 170)])
def test_a_day_without_a_row_stays_readable(clock, seconds, fewest, most):
    assert fewest <= len(steps(io.StringIO(), clock, seconds=seconds, every=0.05)) <= most


def test_a_row_and_an_evaluation_start_the_measure_of_speed_anew(clock):
    stream = io.StringIO()
    with Progress(1_000_000, title="x", stream=stream) as progress:
        progress.on_start(ShownRun("x", "y"))
        progress.on_step(8, 0)
        clock.now += 100.0  # of an evaluation
        progress.on_evaluation(evaluation(8, 1.0))
        for step in range(2, 1_000):
            clock.now += 0.01
            progress.on_step(8 * step, step)
    shown = re.findall(r"([0-9,]+) steps/s  ([0-9]+) updates/s", stream.getvalue())
    assert shown and all(found == ("800", "100") for found in shown)


def test_the_end_says_that_it_evaluates(clock):
    stream = io.StringIO()
    with Progress(10, title="x", stream=stream) as progress:
        progress.on_evaluation_start(100)
    assert "evaluating the final parameters over 100 episodes\n" in stream.getvalue()
