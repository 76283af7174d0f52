"""Runs stages one after another, each a process with a hard limit, and merges what they find.

A stage's own file and log lie in a working folder of this checkout, outside it, and stay: another
call on the same machine passes over what is finished. To the folder asked for go two files,
``results.json`` and ``logs.txt``, written anew after every entry: whatever ends the call, they hold
what was found until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.stage import DEVICE_LOST
from benchmarks.gpu.stage_file import StageFile, write_json

ROOT = Path(__file__).parents[2]
_LEAST_S = 15.0  # a stage is not started with less: it would not get past its imports
_POLL_S = 0.25
_FOR_THE_END_S = 3.0  # of a stage's limit: its own clock stops earlier, so that it ends by itself
_STARTS = 3  # of a stage whose process has lost the device
_LOG_BYTES = 400_000  # kept of each stage's log, its end


@dataclass(frozen=True)
class Task:
    """A stage as the driver sees it: a command that fills a file within a limit.

    The command gets the file and ``--limit SECONDS``, and ``--retry`` when it is first started.
    """

    name: str
    limit_s: float
    command: tuple[str, ...]


def working_folder() -> Path:
    """Where the stages of this checkout keep their files, their caches and the run that learns."""
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"fastdqn-gpu-{os.getuid()}-{checkout}"


def environment(folder: Path) -> dict[str, str]:
    """Of the stages: caches that a second call finds, and this checkout first on the path."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_COMPILE_THREADS": str(min(8, os.cpu_count() or 1)),
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }


@dataclass
class Driver:
    """One call.

    Args:
        folder: For the stages' own files.
        out: For ``results.json`` and ``logs.txt``.
        total_s: For all of it.
        head: What ``results.json`` begins with.
        summarise: Of the stages' records: what it ends with.
        tell: Gets the name of a stage that has ended, and all records.
    """

    folder: Path
    out: Path
    total_s: float
    head: Mapping[str, Any] = field(default_factory=dict)
    summarise: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {}
    tell: Callable[[str, Mapping[str, Any]], None] = lambda *_: None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.out.mkdir(parents=True, exist_ok=True)
        self._ends = time.monotonic() + self.total_s
        self.records: dict[str, dict[str, Any]] = {}

    def run(self, tasks: Sequence[Task], *, again: bool = False) -> bool:
        """Run what is not finished.

        Args:
            tasks: In this order.
            again: Measure also anew what is finished.

        Returns:
            Whether all of it is finished, and nothing failed.
        """
        # What earlier calls found of other stages belongs to the results as well.
        self.records = {file.stem: StageFile(file).record for file in self.folder.glob("*.json")}
        clean = True
        for task in tasks:
            file = self._file(task)
            if again and file.exists():
                file.unlink()
            known = StageFile(file)
            left = self._ends - time.monotonic()
            if known.finished:
                how = "finished by an earlier call (--again measures anew)"
                self.records[task.name] = known.record
            elif left < _LEAST_S:
                how = f"not started: {max(0.0, left):.0f} s left"
                # What an earlier call found of it stays.
                known.record["status"] = how
                self.records[task.name] = known.record
            else:
                how = self._run(task, min(task.limit_s, left))
            clean &= StageFile(file).clean
            print(f"== {task.name}: {how}, {self._ends - time.monotonic():.0f} s left", flush=True)
            self.tell(task.name, self.records)
            self.merge()
        return clean

    def merge(self) -> None:
        """Write the two files."""
        body = {**self.head, "stages": self.records, **self.summarise(self.records)}
        write_json(self.out / "results.json", body)
        logs = []
        for log in sorted(self.folder.glob("*.log"), key=lambda log: log.stat().st_mtime):
            text = log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
            logs.append(f"##### {log.stem}\n{text}")
        (self.out / "logs.txt").write_text("\n".join(logs), encoding="utf-8")

    def _file(self, task: Task) -> Path:
        return self.folder / f"{task.name}.json"

    def _log(self, task: Task) -> Path:
        return self.folder / f"{task.name}.log"

    def _run(self, task: Task, limit_s: float) -> str:
        """Start it, anew while it loses the device; how it ended."""
        print(f"== {task.name}: at most {limit_s:.0f} s", flush=True)
        ends = time.monotonic() + limit_s
        code: int | None = None
        with open(self._log(task), "wb") as log:
            for start in range(_STARTS):
                left = ends - time.monotonic()
                if start and left < _LEAST_S:
                    break
                retry = ("--retry",) if start == 0 else ()
                limit = ("--limit", f"{max(1.0, left - _FOR_THE_END_S):.1f}")
                command = [*task.command, str(self._file(task)), *limit, *retry]
                code = self._process(task, command, log, ends)
                if code != DEVICE_LOST:
                    break
        file = StageFile(self._file(task))
        if code is None:
            file.record["status"] = f"stopped at its limit of {limit_s:.0f} s"
        elif code == DEVICE_LOST:
            file.record["status"] = "stopped: its processes lost the device"
        elif code != 0:
            file.record["status"] = f"failed with exit code {code}"
        if code != 0:  # by itself it has said how it ended
            file.save()
        self.records[task.name] = file.record
        errors = len(file.record["errors"])
        return file.record["status"] + (f" with {errors} errors" if errors else "")

    def _process(self, task: Task, command: list[str], log: Any, ends: float) -> int | None:
        """Exit code; None where it was stopped. Nothing that it has started lives on."""
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            env=environment(self.folder), start_new_session=True,
        )  # fmt: skip
        seen = 0.0
        try:
            while time.monotonic() < ends:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL_S)
                with contextlib.suppress(OSError):
                    written = self._file(task).stat().st_mtime
                    if written != seen:
                        seen = written
                        self.records[task.name] = StageFile(self._file(task)).record
                        self.merge()
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the compilers' workers, too
            process.wait()


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command of a module."""
    return (sys.executable, "-m", module, *arguments)
