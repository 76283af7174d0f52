"""Env workers killed and envs that raise: the run ends, and says which env and why."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

from benchmarks.reliability import Outcome
from benchmarks.reliability.faulty import Run

FIGURE = "20/20: exit code 1, names the env and the cause, 0 processes after 5 s, checkpoint intact"
KILLS = 12
# Order, and how the envs run.
RAISES = [(order, how) for order in ("raise-step", "raise-reset") for how in ("async", "sync")] * 2


def run(short: bool) -> Outcome:
    """SIGKILL workers at random moments; then let envs raise."""
    rng = random.Random(3)
    cases: list[tuple[str, str]] = [("kill", "async")] * KILLS + RAISES
    if short:
        cases = [("kill", "async")]
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (fault, how) in enumerate(cases):
            env = rng.randrange(3)
            wait = 0.0 if short else rng.uniform(0.0, 2.0)
            found.append(trial(Path(scratch) / str(number), fault, how, env, wait))
            if found[-1]["faults"]:
                print(f"  {found[-1]}", flush=True)
    good = sum(not trial["faults"] for trial in found)
    kills = sum(trial["fault"] == "kill" for trial in found)
    return Outcome(
        f"{good}/{len(found)} ({kills} SIGKILLs, {len(found) - kills} exceptions)",
        good == len(found),
        {"trials": found},
    )


def trial(scratch: Path, fault: str, how: str, env: int, wait: float) -> dict[str, object]:
    """One run, one fault, and what was wrong with its end."""
    process = Run(scratch, "--env-vectorization", how)
    faults = []
    try:
        process.wait_for_checkpoint()
        time.sleep(wait)
        if fault == "kill":
            os.kill(process.pid_of(env), signal.SIGKILL)
            says = f"env {env} of", "was killed by SIGKILL"
        else:
            process.order(fault, env)
            says = f"Env {env} of", "ZeroDivisionError: ordered to fail"
        code = process.end(30)
    finally:
        left = process.orphans()
    err = process.stderr()
    last = err.strip().splitlines()[-1] if err.strip() else ""
    if code != 1:
        faults.append(f"exit code {code}")
    if not last.startswith("fastdqn: error:") or not all(words in last for words in says):
        faults.append(f"the last line does not say {says}: {err[-800:]}")
    if fault != "kill" and "faulty.py" not in err:
        faults.append(f"no place in the env's code: {err[-800:]}")
    if left:
        faults.append(f"{left} processes left")
    if damage := process.checkpoint_fault():
        faults.append(damage)
    return {"fault": fault, "envs": how, "env": env, "exit_code": code, "faults": faults}
