"""Disks that fill up, turn read-only or lose the run's directory under a run."""

from __future__ import annotations

import csv
import ctypes
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

from benchmarks.reliability import Outcome
from benchmarks.reliability.faulty import Run

FIGURE = "20/20: the run goes on and warns once, earlier checkpoint intact, no torn row, exit code"
_CAP_DAC_OVERRIDE, _PR_CAPBSET_DROP = 1, 24

# (fault, file size limit in bytes, whether it is mended before the run is stopped)
CASES = [
    *(("full", size, mended) for size in (0, 100, 1_000, 4_096, 9_999) for mended in (False, True)),
    *(("read-only", 0, mended) for mended in (False, True, False, True)),
    *(("vanished", 0, False) for _ in range(3)),
    *(("checkpoints is a file", 0, mended) for mended in (False, True, True)),
]  # fmt: skip
SHORT = [("full", 100, True)]
STEPS, SHORT_STEPS = 3_000, 900  # env steps to see with the fault


def run(short: bool) -> Outcome:
    """One run per case: the fault comes after a checkpoint, SIGTERM after more steps."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (fault, size, mended) in enumerate(SHORT if short else CASES):
            wanted = SHORT_STEPS if short else STEPS
            found.append(trial(Path(scratch) / str(number), fault, size, mended, wanted))
            if found[-1]["faults"]:
                print(f"  {found[-1]}", flush=True)
    good = sum(not trial["faults"] for trial in found)
    went_on = min(int(trial["env_steps_with_fault"]) for trial in found)  # type: ignore[call-overload]
    return Outcome(
        f"{good}/{len(found)}; each went on for {went_on:,} env steps or more",
        good == len(found),
        {"trials": found},
    )


def trial(scratch: Path, fault: str, size: int, mended: bool, wanted: int) -> dict[str, object]:
    """One run, one fault, and what was wrong with what it left."""
    process = Run(scratch, "--checkpoint-replay", "every", before=obey_file_modes)
    faults = []
    try:
        process.wait_for_checkpoint()
        before = process.checkpoints()[-1]
        break_disk(process, fault, size)
        warned_from = len(process.stderr())
        began = shown_steps(process)
        # Saves and rows are tried again and again meanwhile.
        process.wait_for(lambda: "warning: checkpoint" in process.stderr() or fault == "vanished")
        process.wait_for(lambda: shown_steps(process) >= began + wanted)
        steps = shown_steps(process) - began
        if mended:
            mend_disk(process, fault)
        os.kill(process.process.pid, signal.SIGTERM)
        code = process.end(60)
    finally:
        left = process.orphans()
        mend_disk(process, fault)
    err = process.stderr()
    for kind in ("checkpoint", "metrics.csv", "summary.json", "returns.png"):
        if err.count(f"warning: {kind} could not") > 1:
            faults.append(f"warned more than once: {err[-800:]}")
    if "Traceback" in err[warned_from:]:
        faults.append(f"a traceback: {err[-800:]}")
    # A directory that vanished is made again by the next checkpoint; rows of then are lost.
    expected = 143 if mended else 1
    if code != expected:
        faults.append(f"exit code {code}, not {expected}: {err[-800:]}")
    if code == 1 and "fastdqn: error: The run came to its end" not in err:
        faults.append(f"no sentence: {err[-800:]}")
    if (damage := process.checkpoint_fault()) is not None:
        faults.append(damage)
    after = process.checkpoints()
    if (after[-1] > before) != (mended or fault == "vanished"):
        faults.append(f"checkpoints {before} before, {after} after")
    if torn := torn_rows(process.directory / "metrics.csv"):
        faults.append(torn)
    if left:
        faults.append(f"{left} processes left")
    return {
        "fault": fault, "limit_bytes": size, "mended": mended, "exit_code": code,
        "env_steps_with_fault": steps, "faults": faults,
    }  # fmt: skip


def obey_file_modes() -> None:
    """In the child: root, too, may not write where the mode forbids it."""
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


def break_disk(process: Run, fault: str, size: int) -> None:
    """Take the disk away from a run."""
    checkpoints = process.directory / "checkpoints"
    if fault == "full":
        pid = process.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    elif fault == "read-only":
        checkpoints.chmod(0o555)
        process.directory.chmod(0o555)
    elif fault == "vanished":
        shutil.rmtree(process.directory)
    else:
        checkpoints.rename(checkpoints.with_name("elsewhere"))
        checkpoints.write_text("in the way")


def mend_disk(process: Run, fault: str) -> None:
    """Give it back; nothing happens the second time."""
    checkpoints = process.directory / "checkpoints"
    if fault == "full" and process.process.poll() is None:
        pid = process.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    elif fault == "read-only":
        checkpoints.chmod(0o755)
        process.directory.chmod(0o755)
    elif checkpoints.is_file():
        checkpoints.unlink()
        checkpoints.with_name("elsewhere").rename(checkpoints)


def shown_steps(process: Run) -> int:
    """Env steps of the newest line of progress."""
    for line in reversed(process.stdout().splitlines()):
        head = line.split("/")[0].strip().replace(",", "")
        if head.isdecimal():
            return int(head)
    return 0


def torn_rows(path: Path) -> str | None:
    """What is wrong with metrics.csv, if it is there."""
    if not path.exists():
        return None
    text = path.read_bytes().decode()
    rows = list(csv.reader(text.splitlines()))
    if not text.endswith("\n") or any(len(row) != len(rows[0]) for row in rows):
        return f"metrics.csv is torn: {text[-200:]!r}"
    steps = [int(row[0]) for row in rows[1:]]
    return None if steps == sorted(set(steps)) else f"metrics.csv is out of order: {steps}"
