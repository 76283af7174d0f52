"""A clean stop on Ctrl-C and SIGTERM: the first signal asks, the second one ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a name that a loop can look at.

    Python only lets the main thread install handlers; in any other thread this does nothing, and
    :attr:`name` stays None.

    Example:
        >>> with StopSignals() as stop:
        ...     while stop.name is None:
        ...         break  # one step of the work
    """

    def __init__(self) -> None:
        self.name: str | None = None
        """``"SIGINT"`` or ``"SIGTERM"`` once one has arrived."""
        self._previous: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _EXIT_CODES:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # None: the old handler was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None:
            os._exit(_EXIT_CODES[signal.Signals(number)])
        self.name = signal.Signals(number).name
        # Not print(): the signal may have interrupted one, and buffers are not reentrant.
        line = f"{self.name}: stopping after this step and saving; again to quit at once\n"
        with contextlib.suppress(OSError):  # a closed stderr must not keep us from stopping
            # A terminal has just echoed "^C", or shows a half-drawn progress line.
            os.write(2, (("\n" if os.isatty(2) else "") + line).encode())


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl-C does: through the clean-up code, with exit code 143."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(_EXIT_CODES[signal.SIGTERM])

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
