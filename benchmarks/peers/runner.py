"""Runs jobs in turn, each in a process of its own, and keeps what they found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.measure import MARK, TURNS
from benchmarks.peers.rows import Group, Job

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".peers-venv"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
# No stable torchrl has an extension that loads with torch 2.13; this nightly does. It asks for
# tensordict-nightly, whose files would take the place of tensordict's, hence without dependencies;
# the one that nothing else here brings is named.
TORCHRL = ("torchrl-nightly==2026.7.19", "hoptorch==0.1.4")
HERE = ("ours", "plain")  # run in this environment; the others in the peers'
TIMEOUT_S = 900
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}

Measure = Callable[[str, Job], dict[str, Any]]


class JobFailedError(Exception):
    """A process that gave no result; says why in one line."""


@dataclass(frozen=True)
class Runner:
    """Starts the processes.

    Args:
        venv: Of the peers.
        seconds: Of steady state per measurement.
        device: For every system.
        threads: Of torch, for every system that does not choose by itself.
        size: Less than 1 shrinks what is filled before measuring.
    """

    venv: Path = VENV
    seconds: float = 4.0
    device: str = "cpu"
    threads: int = 2
    size: float = 1.0

    def command(self, group: str, job: Job) -> list[str]:
        """What runs a job."""
        python = sys.executable if job.system in HERE else str(self.venv / "bin" / "python")
        return [
            python, "-m", f"benchmarks.peers.{job.system}", group,
            "--variant", job.variant, "--seconds", str(self.seconds), "--device", self.device,
            "--threads", str(self.threads), "--size", str(self.size),
        ]  # fmt: skip

    def measure(self, group: str, job: Job) -> dict[str, Any]:
        """Run a job; JobFailedError where it gives no result."""
        environment = {**os.environ, **(MALLOC if job.malloc else {})}
        try:
            done = subprocess.run(
                self.command(group, job),
                cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise JobFailedError(f"no result within {TIMEOUT_S} s") from None
        except OSError as error:
            raise JobFailedError(
                f"{error.filename} is not there; run python -m benchmarks.peers --install"
            ) from None
        return parse(done.returncode, done.stdout, done.stderr)

    def measure_in_turns(
        self, group: str, jobs: Sequence[Job], turns: int, say: Callable[[str], None] = print
    ) -> dict[Job, dict[str, Any] | JobFailedError]:
        """Start all jobs, one after the other until it is warm; then each runs when its turn comes.

        A job stops itself when it is warm and after each window (see measure.Pace).
        """
        found: dict[Job, dict[str, Any] | JobFailedError] = {}
        running: dict[Job, subprocess.Popen[str]] = {}
        with tempfile.TemporaryDirectory() as scratch:
            try:
                for number, job in enumerate(jobs):
                    out = Path(scratch) / str(number)
                    environment = {
                        **os.environ, **(MALLOC if job.malloc else {}), TURNS: str(turns),
                    }  # fmt: skip
                    with out.open("w") as stdout, out.with_suffix(".err").open("w") as stderr:
                        running[job] = subprocess.Popen(
                            self.command(group, job), cwd=ROOT, env=environment, text=True,
                            stdout=stdout, stderr=stderr,
                        )  # fmt: skip
                    say(f"{group}, {job.label}: {'warm' if _stopped(running[job]) else 'ended'}")
                for _ in range(turns):
                    for process in running.values():
                        if process.returncode is None:
                            os.kill(process.pid, signal.SIGCONT)
                            _stopped(process)
                for number, (job, process) in enumerate(running.items()):
                    out = Path(scratch) / str(number)
                    try:
                        if process.returncode is None:
                            raise JobFailedError("still running after its turns")
                        found[job] = parse(
                            process.returncode,
                            out.read_text(),
                            out.with_suffix(".err").read_text(),
                        )
                    except JobFailedError as error:
                        found[job] = error
            finally:
                for process in running.values():
                    if process.returncode is None:
                        process.kill()
                        process.wait()
        return found


def _stopped(process: subprocess.Popen[str]) -> bool:
    """Wait until a process stops itself (True) or ends (False, with its return code set)."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        pid, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
        if pid and os.WIFSTOPPED(status):
            return True
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return False
        time.sleep(0.005)
    process.kill()
    process.wait()
    return False


def parse(returncode: int, stdout: str, stderr: str) -> dict[str, Any]:
    """The result that a process printed; JobFailedError where it gave none."""
    lines = [line for line in stdout.splitlines() if line.startswith(MARK)]
    if returncode or not lines:
        said = stderr.strip().splitlines() or ["no output"]
        raise JobFailedError(f"{said[-1][:300]} (exit code {returncode})")
    return json.loads(lines[-1].removeprefix(MARK))


def schedule(jobs: Sequence[Job], rounds: int) -> Iterator[tuple[int, Job]]:
    """Every job once, then every job again: a slow minute hits all alike."""
    for number in range(rounds):
        for job in jobs:
            if job.rounds is None or number < job.rounds:
                yield number, job


def run_group(
    name: str,
    group: Group,
    jobs: Sequence[Job],
    rounds: int,
    measure: Measure,
    say: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Results of each row of a group by label: ``values`` and ``details``, or ``failed``.

    A job that fails is not tried again; the others go on.
    """
    rows: dict[str, dict[str, Any]] = {row: {} for row in group.rows}
    failed: set[Job] = set()
    for number, job in schedule(jobs, rounds):
        if job in failed:
            continue
        began = time.perf_counter()
        title = job.label or job.system
        try:
            found = measure(name, job)
        except JobFailedError as error:
            failed.add(job)
            for results in rows.values():
                results[title] = {"system": job.system, "failed": str(error)}
            say(f"{name}, round {number + 1}, {title}: failed: {error}")
            continue
        details = {key: value for key, value in found.items() if key not in ("values", "versions")}
        shown = []
        for row, values in found["values"].items():
            for suffix, value in values.items():
                label = full_label(job.label, suffix)
                result = rows[row].setdefault(
                    label, {"system": job.system, "variant": job.variant, "values": []}
                )
                result["values"].append(value)
                result["versions"] = found.get("versions")
                result.setdefault("details", []).append(details)
                shown.append(f"{row} {suffix} {value:,.4g}".replace("  ", " "))
        took = time.perf_counter() - began
        say(f"{name}, round {number + 1}, {title}: {'; '.join(shown)}  [{took:.0f} s]")
    return rows


def run_in_turns(
    name: str,
    jobs: Sequence[Job],
    turns: int,
    measure: Callable[..., dict[Job, dict[str, Any] | JobFailedError]],
    say: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Results of a row of training loops, one value per window, as :func:`run_group`."""
    row: dict[str, Any] = {}
    for job, found in measure(name, jobs, turns, say).items():
        if isinstance(found, JobFailedError):
            row[job.label] = {"system": job.system, "failed": str(found)}
            say(f"{name}, {job.label}: failed: {found}")
            continue
        ((_, values),) = found["values"].items()
        # The value over the whole may leave resets out; so do then those of the windows.
        share = values[""] / found["env_steps_per_s"]
        windows = [share * speed for speed in found["windows_env_steps_per_s"]]
        details = {key: value for key, value in found.items() if key not in ("values", "versions")}
        row[job.label] = {
            "system": job.system, "variant": job.variant, "values": windows,
            "versions": found.get("versions"), "details": [details],
        }  # fmt: skip
        say(f"{name}, {job.label}: {' '.join(f'{value:,.4g}' for value in windows)}")
    return {name: row}


def full_label(label: str, suffix: str) -> str:
    """``label suffix``; a whole label from the process comes before the job's addition."""
    parts = (label, suffix) if not label.startswith("+") else (suffix, label)
    return " ".join(part for part in parts if part)


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of both; a label measured anew replaces the old one, other labels stay."""
    rows = {name: dict(row) for name, row in old.items()}
    for name, row in new.items():
        results = {**rows.get(name, {}).get("results", {}), **row["results"]}
        rows[name] = {**row, "results": results}
    return rows


def install(venv: Path, say: Callable[[str], None] = print) -> None:
    """Make the peers' environment; torch's version is pinned among the requirements."""
    python = venv / "bin" / "python"
    if not python.exists():
        say(f"making {venv}")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    say(f"installing {REQUIREMENTS.name}")
    pip = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
    subprocess.run([*pip, "--no-deps", *TORCHRL], check=True)
    check = "import torch, torchrl._torchrl, stable_baselines3, tianshou, cpprb"
    subprocess.run([str(python), "-c", check], check=True, cwd=venv)
