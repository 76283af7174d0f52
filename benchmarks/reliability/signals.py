"""Signals at random moments in the life of ``fastdqn train``; then the same command line goes on.

The life is the whole of it: the interpreter's start, imports, the making of envs, compilation,
steps, evaluations, saves, the plot, the interpreter's end. SIGINT and SIGUSR1 go to the process
group, as a terminal and SLURM send them; SIGTERM goes to the process.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.reliability import Outcome

FIGURE = "50 of 50 valid: exit code, no traceback, a checkpoint that loads, resumed to the end"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
COUNT, SHORT_COUNT = 50, 4
TOTAL = 3_000

# Often at work on what takes long: every tenth of the run an evaluation and a save.
BASE = [
    "train", "--resume", "auto", "--device", "cpu", "--total-env-steps", str(TOTAL),
    "--learning-starts-env-steps", "200", "--hidden-sizes", "16", "--batch-size", "16",
    "--replay-capacity", "5000", "--eval-period-env-steps", "300", "--eval-episodes", "4",
    "--eval-num-envs", "2", "--checkpoint-period-env-steps", "250",
    "--checkpoint-replay", "every", "--log-period-env-steps", "100",
]  # fmt: skip
KINDS = {
    "eager": [],
    "compile": ["--mode", "compile", "--prioritized"],
    "cold compile": ["--mode", "compile", "--dueling"],  # with an empty cache: g++ is at work
    "workers": ["--env-vectorization", "async", "--num-envs", "2"],
}


@dataclass
class Trial:
    """One signal and what came of it."""

    kind: str
    signal: str
    delay_s: float
    came: bool = True  # False: the run was over before
    code: int = 0
    stop_s: float = 0.0  # from the signal to the end
    env_steps: int | None = None  # of the newest checkpoint
    stage: str = ""  # outside, run or complete
    faults: list[str] = field(default_factory=list)


def run(short: bool) -> Outcome:
    """Draw moments until enough signals have met a living process."""
    rng = random.Random(5)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        life: dict[str, float] = {}
        kinds = ["eager", "workers"] if short else list(KINDS)
        for kind in kinds:
            began = time.perf_counter()
            whole = scratch / f"whole-{len(life)}"  # no blank in it: TorchInductor's g++ fails
            code, _, err = finish(start(kind, whole, scratch))
            life[kind] = time.perf_counter() - began
            if code != 0:
                return Outcome(f"the {kind} run without a signal failed: {err[-300:]}", False)
        number = 0
        while sum(trial.came for trial in trials) < (SHORT_COUNT if short else COUNT):
            # A cold compilation takes as long as ten other runs.
            kind = rng.choices(kinds, [1 if "cold" in kind else 5 for kind in kinds])[0]
            delay = rng.uniform(0.0, life[kind])
            run_dir = scratch / f"{len(trials)}"
            trials.append(interrupt(kind, SIGNALS[number % 3], delay, run_dir, scratch))
            number += trials[-1].came
            if trials[-1].faults:
                print(f"  {trials[-1]}", flush=True)
    met = [trial for trial in trials if trial.came]
    good = [trial for trial in met if not trial.faults]
    stages = {s: sum(t.stage == s for t in met) for s in ("outside", "run", "complete")}
    slowest = max(trial.stop_s for trial in met)
    return Outcome(
        f"{len(good)} of {len(met)} valid ({stages['outside']} before or after the run, "
        f"{stages['run']} in it, {stages['complete']} while its last files were written); the "
        f"slowest stop took {slowest:.1f} s",
        len(good) == len(met),
        {"life_s": life, "stages": stages, "slowest_stop_s": slowest,
         "trials": [vars(trial) for trial in met]},
    )  # fmt: skip


def start(kind: str, run_dir: Path, scratch: Path) -> subprocess.Popen[str]:
    """The command line in a process group of its own."""
    # Also the cold one's first resumption finds what the interrupted run has compiled.
    cache = run_dir / "cache" if kind == "cold compile" else scratch / "cache"
    return subprocess.Popen(
        [sys.executable, "-m", "fastdqn", *BASE, "--run-dir", str(run_dir / "run"), *KINDS[kind]],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; -9 after five minutes."""
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return process.returncode, out, err


def interrupt(
    kind: str, number: signal.Signals, delay: float, run_dir: Path, scratch: Path
) -> Trial:
    """Send one signal after ``delay`` seconds, look at what is left, and run it to its end."""
    trial = Trial(kind, number.name, round(delay, 3))
    process = start(kind, run_dir, scratch)
    time.sleep(delay)
    if process.poll() is not None:
        trial.code, _, err = finish(process)
        trial.came = trial.code != 0
        trial.faults += [f"failed on its own: {err[-300:]}"] * trial.came
        return trial
    sent = time.perf_counter()
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)
    trial.code, _, err = finish(process)
    trial.stop_s = round(time.perf_counter() - sent, 2)
    look(trial, number, run_dir / "run", err)
    code, _, err = finish(start(kind, run_dir, scratch))
    if code != 0 or "Traceback" in err:
        trial.faults.append(f"resuming: exit code {code}: {err[-300:]}")
    else:
        look_at_the_end(trial, run_dir / "run")
    return trial


def look(trial: Trial, number: signal.Signals, run_dir: Path, err: str) -> None:
    """What the interrupted process left behind."""
    from fastdqn.checkpoints.store import latest_checkpoint, load_checkpoint

    summary = _summary(run_dir)
    in_run = "stopping after this step and saving" in err
    complete = summary.get("stopped_by") == "total_env_steps"
    trial.stage = "complete" if complete else "run" if in_run else "outside"
    # Killed by the signal itself, before our first line or after our last: a shell says 128 + n.
    allowed = {128 + number, -number} | ({0} if complete else set())
    if trial.code not in allowed:
        trial.faults.append(f"exit code {trial.code}: {err[-300:]}")
    if "Traceback" in err:
        trial.faults.append(err[-300:])
    if trial.code == 0 and not in_run:
        trial.faults.append("the signal was lost")
    try:
        path = latest_checkpoint(run_dir / "checkpoints")
        if path is not None:
            trial.env_steps = load_checkpoint(path)["run"]["env_steps"]
    except Exception as error:
        trial.faults.append(f"the checkpoint does not load: {error}")
    if path is None and (in_run or complete):
        trial.faults.append("no checkpoint")
    if summary and not complete and summary.get("stopped_by") != number.name:
        trial.faults.append(f"stopped by {summary.get('stopped_by')}")
    trial.faults += [f"left {path.name}" for path in run_dir.rglob("*tmp*")]


def look_at_the_end(trial: Trial, run_dir: Path) -> None:
    """What the same command line made of it."""
    summary = _summary(run_dir)
    if (summary.get("stopped_by"), summary.get("env_steps")) != ("total_env_steps", TOTAL):
        trial.faults.append(f"resumed to {summary.get('env_steps')} ({summary.get('stopped_by')})")
    with (run_dir / "metrics.csv").open() as file:
        steps = [float(row["env_steps"]) for row in csv.DictReader(file)]
    if steps != sorted(set(steps)) or steps[-1] != TOTAL:
        trial.faults.append("metrics.csv repeats or lacks rows")


def _summary(run_dir: Path) -> dict[str, object]:
    path = run_dir / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
