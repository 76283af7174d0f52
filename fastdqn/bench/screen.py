"""What is seen while the bench runs: rows as they come, and what is being timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TextIO

from fastdqn.bench.figures import wall


class Screen:
    """Rows go to ``out``; progress is a line below them on a terminal, lines on ``err`` elsewhere.

    The line is drawn when a family begins, and never by a thread of its own: that would run while
    a case is timed.

    Args:
        out: For rows.
        err: For progress, where ``out`` is no terminal.
        costs: Expected seconds of each case, in the order in which they run.
    """

    def __init__(self, out: TextIO, err: TextIO, costs: Sequence[float] = ()) -> None:
        self._out, self._err, self._costs = out, err, costs
        self._began = time.perf_counter()
        self._console: Any = None
        self._live: Any = None
        terminal = out if out.isatty() else err if err.isatty() else None
        if terminal is not None:
            from rich.console import Console

            self._console = Console(file=terminal, highlight=False)

    @property
    def width(self) -> int | None:
        """Of the terminal that the rows go to; None: they go elsewhere."""
        return self._console.width if self._out.isatty() else None

    def __enter__(self) -> Screen:
        if self._console is not None:
            from rich.live import Live

            self._live = Live(
                console=self._console, transient=True, auto_refresh=False,
                redirect_stdout=False, redirect_stderr=self._err.isatty(),
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def write(self, line: str, style: str = "") -> None:
        """A line of the result, now."""
        if self._out.isatty():
            from rich.text import Text

            self._console.print(Text(line, style=style), soft_wrap=True)
        else:
            print(line, file=self._out, flush=True)

    def tell(self, done: int, total: int, following: str) -> None:
        """Show how far it is, and what comes next."""
        if not following:
            return
        elapsed = time.perf_counter() - self._began
        text = f"[{done + 1}/{total}] {following}"
        if self._live is None:
            print(f"{text} ({elapsed:.0f} s)", file=self._err, flush=True)
            return
        from rich.text import Text

        left = self._left(done, elapsed)
        line = Text(f"{text}, about {wall(left)} left", "dim", no_wrap=True, overflow="ellipsis")
        self._live.update(line, refresh=True)

    def _left(self, done: int, elapsed: float) -> float:
        """Expected, and corrected by how the cases so far did."""
        behind, ahead = sum(self._costs[:done]), sum(self._costs[done:])
        return ahead * (elapsed / behind if behind > 5 else 1.0)
