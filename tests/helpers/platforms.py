"""What other systems lack, taken away from a process before it imports fastdqn; then a short run.

``python platforms.py FOLDER NAME ...`` imports torch once and forks a process for each name, which
takes that away, trains from the command line, goes on, and is stopped by a signal. It prints what
became of each as JSON.
"""

import _thread
import builtins
import contextlib
import ctypes
import enum
import errno
import importlib
import io
import json
import multiprocessing
import os
import select
import selectors
import shutil
import signal
import sys
import traceback
from pathlib import Path

WINDOWS_SIGNALS = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM")
ABSENCES = {}


def absence(take):
    ABSENCES[take.__name__] = take
    return take


def without(owner, *names):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)


def without_modules(*names):
    for name in names:
        sys.modules[name] = None  # importing it is an ImportError


def refusing(owner, name, when, error):
    """Let ``owner.<name>`` raise ``error(path)`` where ``when(its first argument)``."""
    really = getattr(owner, name)

    def call(first, *args, **kwargs):
        if when(first):
            raise error(first)
        return really(first, *args, **kwargs)

    setattr(owner, name, call)


@absence
def no_fcntl():
    without_modules("fcntl")
    for name in [name for name in sys.modules if name.partition(".")[0] == "filelock"]:
        del sys.modules[name]


@absence
def no_resource():
    without_modules("resource")


@absence
def only_spawn():
    multiprocessing.get_all_start_methods = lambda: ["spawn"]
    without(os, "fork", "forkpty", "register_at_fork")


@absence
def no_opening_of_directories():
    def denied(path):
        return PermissionError(errno.EACCES, "Permission denied", str(path))

    refusing(os, "open", os.path.isdir, denied)
    shutil._use_fd_functions = False  # rmtree's way elsewhere


@absence
def no_fsync_of_directories():
    def is_directory(descriptor):
        return os.path.isdir(f"/proc/self/fd/{descriptor}")

    refusing(os, "fsync", is_directory, lambda _: OSError(errno.EBADF, "Bad file descriptor"))


@absence
def no_proc():
    def lies_there(path):
        return isinstance(path, str | Path) and str(path).startswith(("/proc", "/sys"))

    for owner in (io, builtins, os):
        refusing(owner, "open", lies_there, lambda path: FileNotFoundError(2, "none", str(path)))


@absence
def no_affinity():
    without(os, "sched_getaffinity", "sched_setaffinity")


@absence
def windows_signals():
    """Neither SIGUSR1 nor SIGKILL, nor masks of threads; nor pipes that do not block."""
    for known in list(signal.Signals):
        if known.name not in WINDOWS_SIGNALS:
            without(signal, known.name)
    numbers = {known.name: int(known) for known in signal.Signals if known.name in WINDOWS_SIGNALS}
    signal.Signals = enum.IntEnum("Signals", numbers)
    without(signal, "pthread_sigmask", "pthread_kill", "sigwait", "sigpending", "setitimer",
            "getitimer", "alarm", "pause", "siginterrupt", "SIG_BLOCK", "SIG_SETMASK",
            "SIG_UNBLOCK")  # fmt: skip
    # Windows has set_blocking since Python 3.12, and wakes by pipes that block.
    set_blocking, set_wakeup_fd = os.set_blocking, signal.set_wakeup_fd
    without(os, "set_blocking", "get_blocking")

    def wake(descriptor, **kwargs):
        if descriptor >= 0:
            set_blocking(descriptor, False)
        return set_wakeup_fd(descriptor, **kwargs)

    signal.set_wakeup_fd = wake


@absence
def no_users():
    without(os, "getuid", "geteuid", "getgid", "getegid", "getgroups", "getlogin", "chown")
    without_modules("pwd", "grp")


@absence
def no_poll():
    without(select, "poll", "epoll")
    without(selectors, "PollSelector", "EpollSelector")
    selectors.DefaultSelector = selectors.SelectSelector


@absence
def no_process_groups():
    without(os, "killpg", "getpgid", "setpgid", "getpgrp", "setsid", "getsid", "getppid", "uname",
            "getloadavg", "nice", "wait3", "wait4", "waitid", "getpriority")  # fmt: skip


@absence
def no_libc():
    """As on Windows, where the process itself is no library; nor is there sysconf."""
    really = ctypes.CDLL

    def library(name, *args, **kwargs):
        if name is None:
            raise TypeError("argument of type 'NoneType' is not iterable")
        return really(name, *args, **kwargs)

    ctypes.CDLL = library
    without(os, "sysconf", "confstr", "sysconf_names")


@absence
def another_libc():
    """As on macOS: the process is a library, but has neither of the two calls."""
    ctypes.CDLL = lambda name, *args, **kwargs: object()


@absence
def no_terminals():
    without_modules("termios", "tty", "pty")
    refusing(os, "get_terminal_size", lambda _: True, lambda _: OSError(errno.ENOTTY, "none"))


@absence
def no_open_flags():
    without(os, "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "O_SYNC", "O_NOATIME")


@absence
def text_mode():
    """Descriptors write line ends of two characters unless they were opened with ``O_BINARY``."""
    os.O_BINARY, text = 1 << 40, set()
    opens, writes, closes = os.open, os.write, os.close

    def open_(path, flags, *args, **kwargs):
        descriptor = opens(path, flags & ~os.O_BINARY, *args, **kwargs)
        text.discard(descriptor) if flags & os.O_BINARY else text.add(descriptor)
        return descriptor

    def write(descriptor, data):
        if descriptor not in text:
            return writes(descriptor, data)
        writes(descriptor, data.replace(b"\n", b"\r\n"))
        return len(data)

    def close(descriptor):
        text.discard(descriptor)
        closes(descriptor)

    os.open, os.write, os.close = open_, write, close


@absence
def open_files_stay():
    """Nothing that is open, or holds what is, can be renamed, replaced or deleted."""

    def in_use(path):
        path = os.path.realpath(path)
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{name}")
                if target == path or target.startswith(f"{path}/"):
                    return True
        return False

    def busy(path):
        return PermissionError(errno.EACCES, "The file is in use", str(path))

    for name in ("replace", "rename", "unlink", "remove"):
        really = getattr(os, name)

        def call(*paths, really=really, **kwargs):
            if "dir_fd" not in kwargs and any(map(in_use, paths)):
                raise busy(paths[0])
            return really(*paths, **kwargs)

        setattr(os, name, call)


@absence
def windows_names():
    """No file's name may hold a colon or its like."""

    def has_colon(path):
        return isinstance(path, str | Path) and any(mark in str(path) for mark in '<>:"|?*')

    for owner, name in ((io, "open"), (builtins, "open"), (os, "open"), (os, "mkdir")):
        refusing(owner, name, has_colon, lambda path: OSError(errno.EINVAL, "Invalid", str(path)))


@absence
def narrow_output():
    """Redirected on Windows, the standard streams know the letters of one region."""
    for name in ("stdout", "stderr"):
        buffer = getattr(sys, name).buffer
        errors = "strict" if name == "stdout" else "backslashreplace"
        setattr(sys, name, io.TextIOWrapper(buffer, encoding="cp1252", errors=errors))


@absence
def everything_that_windows_lacks():
    for take in (no_fcntl, no_resource, only_spawn, no_opening_of_directories, no_proc,
                 no_affinity, windows_signals, no_users, no_poll, no_process_groups, no_libc,
                 no_terminals, no_open_flags, text_mode, windows_names, narrow_output):  # fmt: skip
        take()


@absence
def everything_that_macos_lacks():
    for take in (no_proc, no_affinity, another_libc):
        take()


@absence
def everything_that_a_share_or_a_container_lacks():
    for take in (open_files_stay, no_fsync_of_directories, no_users, no_proc):
        take()


@absence
def nothing():
    pass


WORDS = (
    "train --num-envs 4 --learning-starts-env-steps 80 --update-period-env-steps 8 --batch-size 16 "
    "--hidden-sizes 16 --replay-capacity 1000 --learning-rate-final None --eval-episodes 2 "
    "--eval-num-envs 2 --mode eager --log-period-env-steps 100 --device cpu --torch-threads 1 "
    "--resume auto"
)


def short_run(folder):
    """Train, go on, and be stopped: what each ended with, and the rows of metrics.csv."""
    from fastdqn.__main__ import main

    run = folder / "run-漢"  # letters that few regions have
    found = {}
    for name, steps in (("first", "200"), ("resumed", "300")):
        words = f"{WORDS} --total-env-steps {steps} --run-dir {run}"
        sys.argv = ["fastdqn", *words.split(" ")]
        found[name] = main()
    from fastdqn import Config, train
    from fastdqn.system import host
    from fastdqn.system.info import environment

    config = Config.load(run / "config.json").replace(total_env_steps=900, resume="auto")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on a script's
    try:
        train(config, on_log=lambda row: _thread.interrupt_main(signal.SIGINT))
        found["stopped"] = "by nothing"
    except KeyboardInterrupt:
        found["stopped"] = "SIGINT"
    host.keep_freed_memory()
    found["cpus"] = environment()["cpus_usable"]
    found["metrics"] = (run / "metrics.csv").read_bytes().decode()
    found["checkpoints"] = sorted(path.name for path in (run / "checkpoints").iterdir())
    found["files"] = sorted(path.name for path in run.iterdir())
    return found


def in_a_fork(name, folder):
    """Take ``name`` away in a process of its own; its id, which leaves its report in a file."""
    folder.mkdir()
    if process := os.fork():
        return process
    report = {}
    sink = os.open(folder / "printed", os.O_WRONLY | os.O_CREAT)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    out = (folder / "report.json").open("w", encoding="utf-8")
    try:
        ABSENCES[name]()
        report = short_run(folder)
    except BaseException:
        report["traceback"] = traceback.format_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    json.dump(report, out)
    out.close()
    os._exit(0)


if __name__ == "__main__":
    for name in ("torch", "gymnasium", "numba", "tensordict", "tyro", "matplotlib.figure"):
        importlib.import_module(name)  # what the package stands on, but not the package

    folder, names = Path(sys.argv[1]), sys.argv[2:]
    waiting, running, reports = list(names), {}, {}
    while waiting or running:
        while waiting and len(running) < 2:
            name = waiting.pop(0)
            running[in_a_fork(name, folder / name)] = name
        process, _ = os.wait()
        name = running.pop(process)
        reports[name] = json.loads((folder / name / "report.json").read_text())
        reports[name]["printed"] = (folder / name / "printed").read_text(encoding="cp1252")
    print(json.dumps(reports))
