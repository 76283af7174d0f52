"""The tests that need a GPU, by pytest in a process of its own."""

from __future__ import annotations

import collections
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.driver import ROOT
from benchmarks.gpu.session import Session

_MARK = re.compile(r"\bmark\.gpu\b")
# With pytest-xdist ``[gw0] [ 10%] PASSED tests/a.py::b``, without ``tests/a.py::b PASSED [ 10%]``.
_OUTCOME = re.compile(r"(?:^|\s)(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)(?:\s|$)")
_TEST = re.compile(r"tests/\S+\.py::.*?(?=\s(?:PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)|\s*$)")
_WORKERS = 4
_NEEDED_S = 40.0
_EVERY = 5  # outcomes between two writes
_FOR_THE_SUMMARY_S = 15.0


def measure(session: Session) -> None:
    """``so_far``, brought up to date as tests end; then ``outcomes``, the same with ``exit``."""
    found = session.measure("outcomes", partial(_outcomes, session), needs_s=_NEEDED_S)
    if found is not None and found["exit"] != 0:
        session.fail("pytest", f"exit code {found['exit']}")


def _outcomes(session: Session) -> dict[str, Any]:
    command, variables = pytest_command(session.smoke, session.file.path.parent)
    print(" ".join(command), flush=True)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **variables}, preexec_fn=_interruptible,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        # Interrupted, pytest prints what has failed until then and why; killed, it says nothing.
        left_s = max(1.0, session.left() - _FOR_THE_SUMMARY_S)
        timer = threading.Timer(left_s, process.send_signal, (signal.SIGINT,))
        timer.start()
        try:
            found = count(_printed(process.stdout), partial(session.keep, "so_far"))
        finally:
            timer.cancel()
    session.entries.pop("so_far", None)
    return {**found, "exit": process.returncode}


def _interruptible() -> None:
    """In the child: what a shell starts with "&" ignores it, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def gpu_files() -> list[str]:
    """The files that hold GPU tests; to collect all others takes half a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    return [str(file.relative_to(ROOT)) for file, text in texts.items() if _MARK.search(text)]


def pytest_command(smoke: bool, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command, and what it wants in its environment.

    Args:
        smoke: One small file that needs no GPU.
        folder: For what pytest and hypothesis would otherwise leave in the checkout.
    """
    files = ["tests/system/test_staging.py"] if smoke else [*gpu_files(), "-m", "gpu"]
    command = [
        sys.executable, "-m", "pytest", *files,
        # cuDNN warns of plans that failed before it takes another; elsewhere warnings are errors.
        # An option of a plugin that a bare machine lacks is a warning, too.
        "-W", "default", "-p", "no:cacheprovider", "-vv", "-rfE", "--tb=short", "--no-header",
        "--maxfail=25",
    ]  # fmt: skip
    if importlib.util.find_spec("xdist") and not smoke:
        command += ["-n", str(_WORKERS), "--dist", "worksteal"]
    variables = {
        # cuBLAS looks at it once, at the process's first product.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        "TORCHINDUCTOR_COMPILE_THREADS": "3",
    }
    return command, variables


def count(lines: Iterable[str], keep: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Outcomes by kind and the names of the failures, from what ``pytest -vv`` prints."""
    kinds: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    found: dict[str, Any] = {}
    for line in lines:
        if line.startswith(("FAILED ", "ERROR ")):  # the summary at the end repeats them
            continue
        outcome, test = _OUTCOME.search(line), _TEST.search(line)
        if outcome is None or test is None:
            continue
        kind = outcome[1].lower()
        kinds[kind] += 1
        if kind in ("failed", "error"):
            failures.append(test[0].strip())
        found = {**kinds, "failures": failures}
        if kinds.total() % _EVERY == 0:
            keep(found)
    return found


def _printed(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        print(line, end="", flush=True)
        yield line
