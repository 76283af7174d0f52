"""Ends a process whose envs have stopped answering, and says where they hang.

C++ that waits for ever, as ALE's recv() does, can neither be interrupted nor unwound; only another
thread can help. This one looks a few times per second at a number that the main thread writes
before an env call and takes back after it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType

from fastdqn.system.clock import Awake

EXIT_HANG = 70
"""Exit code of a run whose envs gave no answer within ``step_timeout_s``."""

_TICK_S = 0.25
_GRACE_S = 2.0  # an AsyncVectorEnv times out by itself, with an error that closes files; let it
_SIGNAL_GRACE_S = 10.0  # a preempted job is killed soon, and a hanging env leaves nothing to save


class Watchdog:
    """A thread that ends the process when a watched call takes too long.

    Time in which the whole process was stopped (Ctrl-Z, a suspended machine) does not count. After
    a signal that asks the run to stop, a call has ten seconds left, and the exit code is the
    signal's. What this cannot end: an extension module that hangs without releasing Python's lock.

    Args:
        timeout_s: Seconds for one call; None: any time, until a signal comes.
        signal_name: Asked for the name of the signal that wants the run to stop, or None.
    """

    def __init__(
        self, timeout_s: float | None, signal_name: Callable[[], str | None] = lambda: None
    ) -> None:
        self.timeout_s, self.signal_name = timeout_s, signal_name
        self.now = 0.0
        """Seconds that the thread has seen go by; cheaper to read than a clock."""
        self.since: float | None = None
        """``now`` when the call under way began; None: no call is."""
        self.what = ""
        """What is called, for the message."""
        self._limit = math.inf if timeout_s is None else timeout_s + min(_GRACE_S, timeout_s)
        self._tick = min(_TICK_S, self._limit / 4)
        self._signal: tuple[str, float] | None = None  # name, and when it was first seen
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fastdqn-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        awake = Awake(self._tick)  # while the process is stopped, nobody waits for the envs
        while not self._closed.wait(self._tick):
            self.now = awake.look()
            name = self.signal_name()
            if name is not None and self._signal is None:
                self._signal = name, self.now
            since = self.since
            if since is not None:
                self._check(since)

    def _check(self, since: float) -> None:
        over = self.now - since > self._limit
        if self._signal is not None:
            name, when = self._signal
            # A call that began after the signal, before the loop looked for one, has as long.
            if over or self.now - max(since, when) > _SIGNAL_GRACE_S:
                self._end(128 + getattr(signal, name), f"{name} wants to stop the run")
        elif over:
            self._end(EXIT_HANG, f"step_timeout_s = {self.timeout_s:g} is over")

    def _end(self, code: int, why: str) -> None:
        """Stacks, one sentence, workers killed, and out: the main thread cannot be unwound."""
        _say("\nfastdqn: the stacks of all threads:\n")
        with contextlib.suppress(Exception):
            faulthandler.dump_traceback(file=2, all_threads=True)
        _say(
            f"fastdqn: error: {self.what} does not return ({why}); mend the env where the stacks "
            f"above show it waiting, or raise step_timeout_s if it is only slow. The last "
            f"checkpoint is intact (exit code {code}).\n"
        )
        for child in multiprocessing.active_children():
            with contextlib.suppress(Exception):
                child.kill()
        os._exit(code)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed stderr must not keep the process alive
        os.write(2, text.encode())
