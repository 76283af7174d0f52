"""Progress while the bench runs: one moving line on a terminal, a line per family elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, TextIO


class Progress:
    """Called with cases done, cases in all, and what comes next.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.perf_counter()
        self._status: Any = None

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            from rich.console import Console

            self._status = Console(file=self._stream).status("")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, done: int, total: int, following: str) -> None:
        """Show it."""
        if not following:
            return
        text = f"[{done + 1}/{total}] {following}"
        if self._status is not None:
            self._status.update(text.replace("[", r"\["))
        else:
            seconds = time.perf_counter() - self._began
            print(f"{text} ({seconds:.0f} s)", file=self._stream, flush=True)
