"""A run directory belongs to one process: a lock on ``RUN/lock``, held until the run ends.

The kernel lets go of the lock of an open file when its process ends, however it ends, so a dead
process leaves none to break. The file stays: if it were deleted, two processes could lock two files
of one name. While the lock is held, it says who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastdqn.errors import ConfigError, TrainingError
from fastdqn.system.file_systems import NO_LOCKS, warn_once
from fastdqn.system.signals import leave_if_any_asked

LOCK_NAME = "lock"
_POLL_S = 0.05
_TRIES = 20  # to lock the file that has the name; others may delete it meanwhile
_MOST_BYTES = 4096

# A fork copies descriptors, and the lock lives as long as any copy: a child closes its own, which
# unlocks nothing. No fork comes between the opening of one and its entry here.
_guard = threading.RLock()
_descriptors: set[int] = set()
_held: set[str] = set()  # real paths of this process's run directories, locks or none


class RunLock:
    """The lock of one run directory, taken when this is made.

    Threads of one process exclude each other, too. Where the file system has no locks, a warning
    says so and only they do.

    Args:
        run_dir: The directory, which exists.
        timeout_s: How long to wait for another process to let go of it.

    Raises:
        ConfigError: Where another process or thread keeps it for longer, or ``RUN/lock`` is no
            plain file.
        OSError: Where the file cannot be made or opened.
        Stopped: Where a signal asks a run of this process to stop meanwhile.
    """

    def __init__(self, run_dir: Path, timeout_s: float) -> None:
        self._run_dir, self._path = run_dir, run_dir / LOCK_NAME
        self._key = os.path.realpath(run_dir)
        self._process_id = os.getpid()
        self._descriptor: int | None = None  # None: no locks here, or not held
        self._signed = False
        self._has_name = False  # whether it can be told that RUN/lock is still the locked file
        _wait(self._reserve, run_dir, timeout_s)

    def sign(self) -> None:
        """Say in the file who holds it: the one thing that a lock changes in a directory."""
        if self._descriptor is None:
            return
        body = {
            "host": socket.gethostname(),
            "process_id": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(body).encode() + b"\n"
        with contextlib.suppress(OSError):  # nobody but a reader misses it
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text)
            os.ftruncate(self._descriptor, len(text))
        self._signed = True

    def release(self) -> None:
        """Let go of the directory; nothing the second time, and nothing in a forked child."""
        with _guard:
            if self._process_id == os.getpid():
                self._let_go()
                _held.discard(self._key)
                self._process_id = -1

    def keep(self) -> None:
        """Before something is written: take the lock anew where its file has been deleted.

        Raises:
            TrainingError: Where another process has the directory now.
        """
        if self._process_id != os.getpid() or not self._has_name or self._is_at_its_place():
            return
        with _guard:
            self._let_go()
            try:
                self._run_dir.mkdir(parents=True, exist_ok=True)
                taken = self._try()
            except OSError:
                return  # nothing can be written there, as the writing will say
        if not taken:
            raise TrainingError(
                f"{self._path} was deleted, and {_holder(self._path)} has run_dir = "
                f"{str(self._run_dir)!r} now; this run writes no more. Leave that file alone: the "
                f"lock of a dead process holds nobody up."
            )
        self.sign()

    def _reserve(self) -> bool:
        with _guard:
            if self._key in _held or not self._try():
                return False
            _held.add(self._key)
            return True

    def _try(self) -> bool:
        """Lock the file of that name, once; whether that went well."""
        for left in reversed(range(_TRIES)):
            descriptor = _open(self._path, os.O_CREAT)
            try:
                locked = _lock(descriptor)
            except OSError as error:
                _close(descriptor)
                if error.errno not in NO_LOCKS:
                    raise
                so = "nothing keeps a second process out of the run's directory"
                warn_once(self._run_dir, "locks", error, so)
                return True
            if not locked:
                _close(descriptor)
                return False
            self._descriptor = descriptor
            self._has_name = self._is_at_its_place()
            if self._has_name or not left:  # not left: files have no lasting identity here
                break
            self._let_go()
        return True

    def _is_at_its_place(self) -> bool:
        try:
            assert self._descriptor is not None
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except OSError:
            return False

    def _let_go(self) -> None:
        if self._descriptor is None:
            return
        if self._signed:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)  # who reads it need not wonder
        _close(self._descriptor, unlock=True)
        self._descriptor = None


def refuse_locked(run_dir: Path, timeout_s: float) -> None:
    """Wait until no process holds an existing directory. Changes nothing in it, and needs no torch.

    Raises:
        ConfigError: Where one holds it for longer than ``timeout_s``.
    """

    def is_free() -> bool:
        try:
            descriptor = _open(run_dir / LOCK_NAME)
        except (OSError, ConfigError):
            return True  # none there, or a matter for the real opening
        try:
            free = _lock(descriptor)
        except OSError:
            free = True
        _close(descriptor, unlock=free)
        return free

    _wait(is_free, run_dir, timeout_s)


def _wait(attempt: Callable[[], bool], run_dir: Path, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    said = False
    while not attempt():
        if (left := until - time.monotonic()) <= 0:
            raise ConfigError(
                f"run_dir = {str(run_dir)!r} belongs to {_holder(run_dir / LOCK_NAME)}, and "
                f"lock_timeout_s = {timeout_s:g} is over; let that run end or stop it, wait for it "
                f"with a larger lock_timeout_s, or name another directory."
            )
        if not said:
            said = True
            _say(f"waiting up to {timeout_s:g} s for {_holder(run_dir / LOCK_NAME)} in {run_dir}")
        leave_if_any_asked()
        time.sleep(min(_POLL_S, left))


def _holder(path: Path) -> str:
    """Who holds a lock, in words. Nothing in the file is believed but short text."""
    body: Any = None
    for _ in range(3):
        try:
            with _guard:
                descriptor = _open(path)
                try:
                    text = os.read(descriptor, _MOST_BYTES)
                finally:
                    _close(descriptor)
            body = json.loads(text)
            break
        except (OSError, ValueError, RecursionError, ConfigError):
            time.sleep(0.02)  # it has the lock, and has not said so yet
    if not isinstance(body, dict):
        return "another process"
    host, process_id, since = (body.get(name) for name in ("host", "process_id", "since"))
    words = f"{host} {since}"
    if type(process_id) is not int or not words.isprintable() or len(words) > 300:
        return "another process"
    if host == socket.gethostname():
        if process_id == os.getpid():
            return f"another run of this process ({process_id}), since {since}"
        if not _lives(process_id):  # the one before, which had no time to say good-bye
            return "another process"
    return f"process {process_id} on host {host}, since {since}"


def _lives(process_id: int) -> bool:
    if os.name != "posix":  # where signal 0 is none
        return True
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # somebody else's
    return True


def _open(path: Path, create: int = 0) -> int:
    """A descriptor of a plain file that no child keeps; ConfigError where it is none."""
    flags = os.O_RDWR | create
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    wrong = f"{path} is a link or no plain file; remove it, or name another run_dir."
    with _guard:
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise ConfigError(wrong) from None
            raise
        _descriptors.add(descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        _close(descriptor)
        raise ConfigError(wrong)
    return descriptor


def _lock(descriptor: int) -> bool:
    from filelock import lock_descriptor  # takes longer to import than most mistakes to refuse

    return lock_descriptor(descriptor, blocking=False)


def _close(descriptor: int, *, unlock: bool = False) -> None:
    with _guard:
        _descriptors.discard(descriptor)
        if unlock:  # closing would do, but for a child that is just being forked
            from filelock import unlock_descriptor

            with contextlib.suppress(OSError):
                unlock_descriptor(descriptor)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"fastdqn: {line}", file=sys.stderr, flush=True)


def _after_fork_in_child() -> None:
    global _guard
    _guard = threading.RLock()
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _guard.acquire(),
        after_in_parent=lambda: _guard.release(),
        after_in_child=_after_fork_in_child,
    )
