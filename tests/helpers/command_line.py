"""The command line under test: in this process, and in one of its own."""

import importlib
import io
import os
import subprocess
import sys
import types

from fastdqn.cli.main import main

SHORT = ["--total-env-steps", "600", "--learning-starts-env-steps", "100", "--eval-episodes", "4",
         "--eval-num-envs", "2", "--device", "cpu"]  # fmt: skip


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        """It is."""
        return True


def environment() -> dict[str, str]:
    """For a process that imports this fastdqn."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def python(*args: str, **kwargs) -> subprocess.CompletedProcess:
    """What a Python process of these arguments printed, and its exit code."""
    return subprocess.run(
        [sys.executable, *args],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        **kwargs,
    )


def install(monkeypatch, name: str, **members) -> types.ModuleType:
    """Put a module of our own in the place of ``fastdqn.<name>``."""
    parent, _, last = f"fastdqn.{name}".rpartition(".")
    module = types.ModuleType(f"{parent}.{last}")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(importlib.import_module(parent), last, module, raising=False)
    return module


def refusal(args: list[str], capsys, code: int = 2) -> str:
    """The message of a refused command line, without the prefix."""
    assert main(args) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastdqn: error: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("fastdqn: error: ").rstrip("\n")
