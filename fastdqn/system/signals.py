"""A clean stop on Ctrl-C, SIGTERM and SIGUSR1: the first asks, the second ends the process.

SIGUSR1 is what schedulers send ahead of a pre-emption (SLURM's ``--signal=USR1@60``): it means the
same as the others, save and stop, so that the requeued job goes on. Exit codes are 128 + number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

_STOPS = [
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]
EXIT_CODES = {number.name: 128 + number for number in _STOPS}
# What a terminal or a scheduler sends to every process of a job, children included. Those must
# live on to answer, and are closed by us; SIGTERM stays, because that is how we end them.
_NOT_FOR_CHILDREN = [number for number in _STOPS if number != signal.SIGTERM]
# timeout(1) and some launchers send to the process and to its group: twice, and meant once.
_ECHO_S = 0.1


class Stopped(BaseException):
    """A signal that came where nothing is to be saved; passes all clean-up code."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopSignals:
    """Turns the first of the signals into a name that a loop can look at.

    A thread of its own serves them, so that a second one ends the process even while the main
    thread waits in C++ code, for an env or a compiler. Child processes started meanwhile are kept
    from Ctrl-C and SIGUSR1, which reach a whole process group.

    Python only lets the main thread install handlers; in any other thread this does nothing, and
    :attr:`name` stays None.

    Args:
        answer: What the first signal leads to, for the user.

    Example:
        >>> with StopSignals() as stop:
        ...     while stop.name is None:
        ...         break  # one step of the work
    """

    def __init__(self, answer: str = "stopping after this step and saving") -> None:
        self._answer = answer
        self.name: str | None = None
        """``"SIGINT"``, ``"SIGTERM"`` or ``"SIGUSR1"`` once one has arrived."""
        self._put_back = contextlib.ExitStack()

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        reader, writer = os.pipe()
        if hasattr(os, "set_blocking"):  # Windows has it since Python 3.12, and does not ask for it
            os.set_blocking(writer, False)
        thread = threading.Thread(
            target=self._serve, args=(reader,), name="fastdqn-signals", daemon=True
        )
        thread.start()

        def end() -> None:
            os.write(writer, b"\0")
            thread.join()
            os.close(reader)
            os.close(writer)

        self._put_back.callback(end)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._put_back.callback(signal.set_wakeup_fd, wakeup)
        self._put_back.enter_context(_handlers(self._ask))
        _serving.append(self)
        self._put_back.callback(_serving.remove, self)
        if hasattr(signal, "pthread_sigmask"):
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            self._put_back.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            _block()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back.close()

    def came(self, within_s: float = 0.5) -> bool:
        """Whether one has arrived, or does so soon: to tell why a child process has died.

        A scheduler's SIGTERM goes to every process of a job, in any order.
        """
        until = time.monotonic() + within_s
        while self.name is None and time.monotonic() < until:
            time.sleep(0.01)
        return self.name is not None

    def leave_if_asked(self) -> None:
        """Raise :class:`Stopped` if one has arrived: where nothing is to be saved."""
        if self.name is not None:
            raise Stopped(signal.Signals[self.name])

    def pass_on(self) -> None:
        """Give the signal, if one has arrived, to whom it was meant for; after the with block.

        A handler of the caller's is called; Python's own raises KeyboardInterrupt. Where there is
        none SIGINT raises that too, and the others raise SystemExit with their exit code: unlike
        the system's own way to end a process, that runs its clean-up code.
        """
        if self.name is None:
            return
        number = signal.Signals[self.name]
        if callable(signal.getsignal(number)):
            signal.raise_signal(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.name is None:
            self.name = signal.Signals(number).name

    def _serve(self, reader: int) -> None:
        """In the thread: one byte arrives per signal, whatever the main thread does."""
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        asked: float | None = None
        while (number := os.read(reader, 1)[0]) != 0:
            if number not in _STOPS:
                continue
            if asked is None:
                asked = time.monotonic()
                self._ask(number, None)
                _say(f"{self.name}: {self._answer}; again to quit at once")
            elif time.monotonic() - asked > _ECHO_S:
                os._exit(128 + number)


_serving: list[StopSignals] = []


def _block() -> None:
    """Children inherit it; the kernel now hands these signals to our thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_CHILDREN)


def before_workers() -> None:
    """Call before multiprocessing starts anything, so that a group's signals spare that, too.

    Its resource tracker unblocks SIGINT in the process that starts it, just before the workers.
    """
    if _serving and hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
        _block()


def leave_if_any_asked() -> None:
    """Raise :class:`Stopped` if a signal asks a run of this process to stop: where one waits."""
    for stop in _serving:
        stop.leave_if_asked()


def _after_fork_in_child() -> None:
    """A forked env worker shares our pipe: its end by SIGTERM must end it, and not reach us."""
    if _serving:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let each of the signals end the process as :class:`Stopped`: through the clean-up code.

    Also where it came in the middle of a library that turns whatever it meets into an error of its
    own, as torch's exporters do.
    """
    came: int | None = None

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = number
        raise Stopped(number)

    with _handlers(leave):
        try:
            yield
        except Exception:
            if came is None:
                raise
            raise Stopped(came) from None


@contextlib.contextmanager
def exit_at_once() -> Iterator[None]:
    """Let each of the signals end the process without clean-up, while there is nothing to clean.

    An exception out of a handler would surface anywhere within an import, or get lost there.
    """
    with _handlers(_leave_at_once):
        yield


def exit_at_once_from_now_on() -> None:
    """The same for the rest of the process's life."""
    for number in _STOPS:
        signal.signal(number, _leave_at_once)


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    _say(f"fastdqn: stopped by {signal.Signals(number).name}")
    os._exit(128 + number)


@contextlib.contextmanager
def _handlers(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Install one handler for all the signals, in the main thread, and put the old ones back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in _STOPS}
    try:
        yield
    finally:
        for number, old in previous.items():
            # None: the old handler was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if old is None else old)


def _say(line: str) -> None:
    # Not print(): the signal may have interrupted one, and buffers are not reentrant.
    with contextlib.suppress(OSError):  # a closed stderr must not keep us from stopping
        # A terminal has just echoed "^C", or shows a half-drawn progress line.
        os.write(2, (("\n" if os.isatty(2) else "") + line + "\n").encode())
