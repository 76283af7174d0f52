"""A line on a terminal that says what is being waited for, and goes when it is there."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from types import TracebackType
from typing import Any, TextIO


class StatusLine:
    """Says what takes so long, and leaves nothing behind.

    Args:
        stream: Where to write; None: standard error, since a command's result is on the other.
        in_a_pipe: Print a line for good where there is no terminal; else this is silent there.
    """

    def __init__(self, stream: TextIO | None = None, *, in_a_pipe: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._in_a_pipe = in_a_pipe
        self._shown = False

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def say(self, text: str) -> None:
        """Show this in the place of what was shown."""
        if is_terminal(self._stream):
            width = shutil.get_terminal_size((80, 24)).columns - 1  # one that is full would wrap
            self._shown = True
            self._write(f"\r\x1b[K{text[:width]}")
        elif self._in_a_pipe:
            self._write(f"{text}\n")

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it; it is closed
            self._stream.write(text)
            self._stream.flush()


def is_terminal(stream: Any) -> bool:
    """Whether it is one on which lines can be drawn over."""
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False
