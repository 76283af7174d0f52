"""The progress of a run: one live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from fastdqn.callbacks.callback import Callback, LiveRun
from fastdqn.cli.status_line import StatusLine, is_terminal
from fastdqn.plotting.sparkline import sparkline

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_REDRAW_S = 0.1
_LINE_S = 2.0
_FIRST_LOOK_S = 0.5
_LOOK_S = 1.0
_LINE_FRACTION = 0.05
_HISTORY = 240  # rows whose returns are drawn
_CURVE, _LEAST_CURVE = 60, 8  # characters


class Progress(Callback):
    """Shows what a run is, and how far it has come.

    Before the run has begun only :meth:`announce` shows something: on a terminal a line that goes
    again, so that a run which is refused leaves nothing but its error. Rows of ``metrics.csv`` are
    shown as they come; while there is none, or the next takes long, what the clock knows. A run
    must not die of its display: when the stream is closed, or its reader has gone, this falls
    silent.

    Args:
        total_env_steps: Length of the run.
        title: What runs, in a few words.
        frame_skip: Emulator frames per env step; above 1, frames/s are shown, too.
        stream: Where to write; None: standard output.
    """

    def __init__(
        self,
        total_env_steps: int,
        *,
        title: str,
        frame_skip: int = 1,
        stream: TextIO | None = None,
    ) -> None:
        self._total = max(1, total_env_steps)
        self._title = title
        self._frame_skip = frame_skip
        self._stream = sys.stdout if stream is None else stream
        self._live: Live | None = None
        self._status = StatusLine(self._stream, in_a_pipe=True)
        self._announced = False
        self._row: dict[str, float] = {}
        self._shown_at = -math.inf  # seconds
        self._shown_env_steps = 0.0
        self._started_at: float | None = None  # None: nothing shown yet
        self._pending = False  # the newest row is not on display yet
        self._looked = False  # at a step
        self._next_look = 0.0  # seconds; before that a step is not looked at
        self._speed_from: tuple[float, float, float] | None = None  # seconds, env steps, updates
        self._returns: deque[float] = deque(maxlen=_HISTORY)
        self._silent = self._stream is None  # as under pythonw, or after ">&-"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def announce(self, waiting_for: str) -> None:
        """Say what is about to run, and what is waited for until then."""
        self._announced = not is_terminal(self._stream)
        self._status.say(f"{self._title}: {waiting_for}")

    def on_start(self, run: LiveRun) -> None:
        """Show what runs."""
        self._title = run.title
        self._start()
        self.message(run.header())

    def on_step(self, env_steps: int, updates: int) -> None:
        """Show how far the run is, if nothing else was shown for a while."""
        now = time.monotonic()
        if now < self._next_look:
            return
        if self._shown_env_steps < env_steps:
            self._row["env_steps"] = env_steps
            if self._speed_from is not None:
                since, steps_then, updates_then = self._speed_from
                seconds = max(now - since, 1e-9)
                self._row["env_steps_per_s"] = (env_steps - steps_then) / seconds
                self._row["updates_per_s"] = (updates - updates_then) / seconds
            self._show()
        self._speed_from = now, env_steps, updates
        self._look_again(None if self._looked else _FIRST_LOOK_S)
        self._looked = True

    def on_evaluation_start(self, episodes: int) -> None:
        """Say what takes so long."""
        self.message(f"evaluating the final parameters over {episodes} episodes")

    def on_evaluation(self, row: Mapping[str, float]) -> None:
        """Say what an evaluation has found."""
        self._speed_from = None  # the time it took is not that of the steps
        env_steps, cut = _count(row["env_steps"]), row["unfinished"]
        self.message(
            f"evaluation at {env_steps} env steps: mean return {row['mean']:.1f} over "
            f"{row['episodes']:.0f} episodes" + (f" ({cut:.0f} of them cut short)" if cut else "")
        )

    def on_log(self, row: Mapping[str, Any]) -> None:
        """Take a row of metrics.csv; show it if the last one has been on display long enough."""
        self._start()
        self._row = {key: _number(value) for key, value in row.items()}
        self._pending = True
        if math.isfinite(mean := self._value("return_mean")):
            self._returns.append(mean)
        if self._is_due():
            self._show()

    def message(self, text: str) -> None:
        """Print a line; on a terminal it stands above the live display."""
        self._start()
        if self._live is not None:
            live = self._live
            self._safely(lambda: live.console.print(text, markup=False, highlight=False))
        else:
            self._safely(lambda: print(text, file=self._stream, flush=True))

    def close(self) -> None:
        """Show the last row and give the terminal back; may be called twice."""
        self._status.clear()
        if self._pending:
            self._show()
        if self._live is not None:
            live, self._live = self._live, None
            self._safely(live.stop)

    def _start(self) -> None:
        if self._started_at is not None:
            return
        self._started_at = time.monotonic()
        self._status.clear()
        if not self._silent and is_terminal(self._stream):
            self._safely(self._open_live)
        elif not self._announced:
            self.message(self._title)

    def _is_due(self) -> bool:
        now = time.monotonic()
        waited = now - self._shown_at
        if self._live is not None:
            return waited >= _REDRAW_S
        env_steps = self._row.get("env_steps", 0.0)
        far = env_steps - self._shown_env_steps >= _LINE_FRACTION * self._total
        return waited >= self._pause(now) or far or env_steps >= self._total

    def _pause(self, now: float) -> float:
        """Seconds between plain lines; grows, so that the log of a day stays readable."""
        return max(_LINE_S, (now - (self._started_at or now)) / 50)

    def _look_again(self, seconds: float | None = None) -> None:
        """Leave steps alone for so long: as long as a row is shown."""
        now = time.monotonic()
        if seconds is None:
            seconds = _LOOK_S if self._live is not None else 1.5 * self._pause(now)
        self._next_look = now + seconds

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        self._look_again()
        self._shown_env_steps = self._row.get("env_steps", 0.0)
        self._pending = False
        if self._live is not None:
            live = self._live
            self._safely(lambda: live.update(self._render(), refresh=True))
        else:
            done = self._done()
            text = f"{_count(self._value('env_steps')):>{len(_count(self._total))}}"
            parts = [f"{text}/{_count(self._total)} ({done:4.0%})", *self._figures(), self._eta()]
            self._safely(lambda: print("  ".join(parts), file=self._stream, flush=True))

    def _value(self, key: str) -> float:
        return self._row.get(key, math.nan)

    def _done(self) -> float:
        env_steps = self._row.get("env_steps", 0.0)
        return 0.0 if math.isnan(env_steps) else min(1.0, env_steps / self._total)

    def _figures(self) -> list[str]:
        speed = self._value("env_steps_per_s")
        figures = [
            f"return {_decimal(self._value('return_mean'), '.1f')}",
            f"epsilon {_decimal(self._value('epsilon'), '.3f')}",
            f"{_count(speed)} steps/s",
        ]
        if self._frame_skip > 1:
            figures.append(f"{_count(speed * self._frame_skip)} frames/s")
        figures.append(f"{_count(self._value('updates_per_s'))} updates/s")
        return figures

    def _eta(self) -> str:
        speed = self._value("env_steps_per_s")
        left = self._total - self._row.get("env_steps", 0.0)
        # Before the first updates a run is many times faster than it will be.
        if math.isnan(left) or not 0 < speed < math.inf or self._value("updates_per_s") == 0:
            return "ETA -"
        minutes, seconds = divmod(math.ceil(max(0.0, left) / speed), 60)
        hours, minutes = divmod(minutes, 60)
        return f"ETA {hours}:{minutes:02d}:{seconds:02d}"

    def _open_live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # is_terminal has decided; rich would also take FORCE_COLOR in a pipe for a terminal.
        # auto_refresh=False: no second thread, which would compete with the env threads.
        console = Console(file=self._stream, force_terminal=True)
        self._live = Live(self._render(), console=console, auto_refresh=False)
        self._live.start(refresh=True)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        first = Table.grid(expand=True, padding=(0, 1))
        first.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
        first.add_column(ratio=1)
        first.add_column(no_wrap=True, justify="right")
        first.add_column(no_wrap=True, justify="right")
        done = self._done()
        at = f"{_count(self._row.get('env_steps', 0.0))}/{_count(self._total)}"
        first.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=1.0, completed=done, finished_style="green"),
            Text(f"{at} {done:4.0%}"),
            Text(self._eta(), style="dim"),
        )
        lines: list[RenderableType] = [first, Text("  ".join(self._figures()), style="cyan")]
        if curve := self._curve():
            lines.append(Text(curve, style="cyan", no_wrap=True, overflow="crop"))
        return Group(*lines)

    def _curve(self) -> str:
        """The recent returns as a sparkline between the first and the last; empty without room."""
        if self._live is None or len(self._returns) < 2:
            return ""
        first, last = (f"{self._returns[k]:.1f}" for k in (0, -1))
        room = self._live.console.width - len(f"returns {first}  {last}")
        marks = sparkline(self._returns, min(room, _CURVE), stream=self._stream)
        return f"returns {first} {marks} {last}" if room >= _LEAST_CURVE else ""

    def _safely(self, write: Callable[[], Any]) -> None:
        if self._silent:
            return
        try:
            write()
        except (OSError, ValueError):  # the reader has gone; the file is closed
            self._silent = True
            self._live = None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # None or "": not measured yet
        return math.nan


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def _decimal(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "-"
