"""Envs that never answer: the run ends with the stacks, a sentence and an exit code of its own."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from benchmarks.reliability import Outcome
from benchmarks.reliability.faulty import Run

FIGURE = "10/10: ended within step_timeout_s + 5 s, stacks and env named, last checkpoint intact"
TIMEOUT_S, SHORT_TIMEOUT_S = 3.0, 1.0
ALLOWED_S = 5.0

# Name: order, flags, signal, exit code, what the message names.
_ASYNC = ("--env-vectorization", "async")
_EVAL = ("--eval-episodes", "2", "--eval-num-envs", "2", "--eval-period-env-steps", "1800")
CASES: dict[str, tuple[str, tuple[str, ...], int | None, int, str]] = {
    "step sleeps": ("hang-step", (), None, 70, "A step of"),
    "ALE, SIGTERM": ("ale-action", (), signal.SIGTERM, 143, "A step of"),
    "ALE, wrong action": ("ale-action", (), None, 70, "A step of"),
    "ALE, recv without send": ("ale-silence", (), None, 70, "A step of"),
    "step spins": ("busy-step", (), None, 70, "A step of"),
    "reset sleeps": ("hang-reset", (), None, 70, "A step of"),
    "evaluation sleeps": ("eval-hang-step", _EVAL, None, 70, "the evaluation envs of"),
    "worker sleeps in step": ("hang-step", _ASYNC, None, 1, "gave no answer"),
    "worker sleeps in reset": ("hang-reset", _ASYNC, None, 1, "gave no answer"),
    "step sleeps, SIGTERM": ("hang-step", (), signal.SIGTERM, 143, "A step of"),
}
SHORT = ("step sleeps", "ALE, SIGTERM")


def run(short: bool) -> Outcome:
    """One run per case; the order to hang comes once there is a checkpoint."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(SHORT if short else CASES):
            found[name] = trial(name, Path(scratch) / str(number), short)
            if found[name]["faults"]:
                print(f"  {name}: {found[name]}", flush=True)
    good = sum(not trial["faults"] for trial in found.values())
    slowest = max(float(trial["seconds"]) for trial in found.values())  # type: ignore[arg-type]
    timeout = SHORT_TIMEOUT_S if short else TIMEOUT_S
    return Outcome(
        f"{good}/{len(found)}; the slowest took {slowest:.1f} s with step_timeout_s = {timeout:g}",
        good == len(found),
        {"cases": found},
    )


def trial(name: str, scratch: Path, short: bool) -> dict[str, object]:
    """What came of one case, and what was wrong."""
    order, flags, number, code, says = CASES[name]
    timeout = SHORT_TIMEOUT_S if short else TIMEOUT_S
    if order.startswith("ale"):
        process = Run(scratch, str(timeout), ale=True)
    else:
        process = Run(scratch, *flags, "--step-timeout-s", str(timeout))
    faults = []
    try:
        process.wait_for_checkpoint()
        process.order(order, 1 if order == "hang-step" and flags else None)
        began = time.monotonic()
        if number is not None:
            time.sleep(0.5)
            os.kill(process.process.pid, number)
        got = process.end(60)
        seconds = time.monotonic() - began
    finally:
        left = process.orphans()
    err = process.stderr()
    if got != code:
        faults.append(f"exit code {got}, not {code}: {err[-600:]}")
    # A loaded machine counts less time than goes by; that is by design, and not a fault.
    if seconds > timeout + ALLOWED_S and not short:
        faults.append(f"took {seconds:.1f} s")
    if says not in err or (code != 1 and "most recent call first" not in err):
        faults.append(f"does not say {says!r} with stacks: {err[-600:]}")
    if left:
        faults.append(f"{left} processes left")
    if fault := process.checkpoint_fault():
        faults.append(fault)
    return {"exit_code": got, "seconds": round(seconds, 2), "faults": faults}
