"""Two processes want one run directory: beside a living run, after a killed one, at one instant.

The runs are children of a process that imports once, forks and calls ``fastdqn``'s main; the second
process beside a living run is a command of its own.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reliability import Outcome

FIGURE = "50 of 50: one process at a time, the second names the first and harms nothing"
TOTAL, LONG_TOTAL = 1_000, 8_000

# kind: trials, trials of the short form
KINDS = {
    "beside": (14, 1),  # a second command beside a living run
    "killed": (6, 0),  # SIGKILL, then the same command
    "killed, fork": (7, 0),  # with env workers forked by the run
    "killed, forkserver": (7, 1),  # with env workers of a fork server
    "at once, never": (4, 0),  # two at one instant in one new directory
    "at once, auto": (4, 1),
    "at once, waiting": (4, 0),  # the second waits for the first to end
    "at once, unnamed": (4, 1),  # each makes a directory
}
BASE = [
    "train", "--device", "cpu", "--mode", "eager", "--num-envs", "2", "--hidden-sizes", "16",
    "--batch-size", "16", "--learning-starts-env-steps", "200", "--replay-capacity", "5000",
    "--learning-rate-final", "None", "--eval-episodes", "0", "--log-period-env-steps", "100",
    "--checkpoint-period-env-steps", "200", "--checkpoint-replay", "every",
]  # fmt: skip
LAUNCHER = """
import json, os, sys
import torch
import fastdqn.training.train
from fastdqn.cli.main import main
torch.set_num_threads(1)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        continue
    reader, writer = os.pipe()
    children = []
    for number, command in enumerate(order["commands"]):
        child = os.fork()
        if not child:
            os.setsid()
            os.chdir(order["directory"])
            for stream in (1, 2):
                os.dup2(os.open(f"said-{number}-{stream}", os.O_WRONLY | os.O_CREAT), stream)
            os.read(reader, 1)
            code = main(command)
            sys.stdout.flush()
            os._exit(code)
        children.append(child)
    os.write(writer, b"go")
    print(json.dumps(children), flush=True)
"""


@dataclass
class Trial:
    """One meeting of two processes and what came of it."""

    kind: str
    codes: list[int] = field(default_factory=list)
    from_env_steps: int | None = None  # where the second went on after a kill
    faults: list[str] = field(default_factory=list)


class Launcher:
    """Starts runs without the seconds that importing takes.

    Args:
        directory: Where the runs are at work, and what they say lies.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, *commands: list[str]) -> list[int]:
        """Start them at one instant, each in a session of its own; their process ids."""
        for number in range(len(commands)):
            for stream in (1, 2):
                (self.directory / f"said-{number}-{stream}").write_text("")
        return self._ask({"commands": commands, "directory": str(self.directory)})

    def wait(self, process_id: int) -> int:
        """The exit code."""
        return self._ask({"wait": process_id})

    def stderr(self, number: int = 0) -> str:
        """What a command has said."""
        return (self.directory / f"said-{number}-2").read_text(encoding="utf-8")

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def run(short: bool) -> Outcome:
    """Every kind so many times, in random order."""
    rng = random.Random(7)
    kinds = [kind for kind, (count, few) in KINDS.items() for _ in range(few if short else count)]
    rng.shuffle(kinds)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as name:
        launcher = Launcher(Path(name))
        for number, kind in enumerate(kinds):
            trials.append(Trial(kind))
            run_dir = Path(name) / f"run-{number}"
            if kind == "beside":
                beside(trials[-1], launcher, run_dir)
            elif kind.startswith("killed"):
                killed(trials[-1], launcher, run_dir, rng.random())
            else:
                at_once(trials[-1], launcher, run_dir)
            if trials[-1].faults:
                print(f"  {trials[-1]}", flush=True)
        launcher.close()
    good = sum(not trial.faults for trial in trials)
    count = {word: sum(k.startswith(word) for k in kinds) for word in ("beside", "killed", "at")}
    return Outcome(
        f"{good} of {len(trials)}: {count['beside']} refused beside a living run, "
        f"{count['killed']} taken over from a killed one, {count['at']} at one instant",
        good == len(trials),
        {"trials": [vars(trial) for trial in trials]},
    )


def flags(run_dir: Path, total: int, kind: str = "", lock_timeout_s: float = 0.2) -> list[str]:
    """A command line."""
    args = [*BASE, "--run-dir", str(run_dir), "--resume", "auto", "--total-env-steps", str(total)]
    args += ["--lock-timeout-s", str(lock_timeout_s)]
    context = kind.rpartition(", ")[2]
    if context in ("fork", "forkserver"):
        kwargs = json.dumps({"vector_kwargs": {"context": context}})
        args += ["--env-vectorization", "async", "--env-kwargs", kwargs]
    return args


def beside(trial: Trial, launcher: Launcher, run_dir: Path) -> None:
    """A second command while the first is at work: refused, and the first comes to its end."""
    args = flags(run_dir, LONG_TOTAL)
    (first,) = launcher.start(args)
    wait_for_checkpoint(run_dir)
    second = subprocess.run(
        [sys.executable, "-m", "fastdqn", *args], capture_output=True, text=True, timeout=120
    )
    alive = not (run_dir / "summary.json").exists()
    trial.codes = [launcher.wait(first), second.returncode]
    check_refusal(trial, second.returncode, second.stderr, first)
    trial.faults += [] if alive else ["the first run was too short"]
    trial.faults += [f"the first one: {launcher.stderr()[-300:]}"] * (trial.codes[0] != 0)
    look(trial, run_dir, LONG_TOTAL)


def killed(trial: Trial, launcher: Launcher, run_dir: Path, delay: float) -> None:
    """SIGKILL at a random moment; the same command at once takes the directory and goes on."""
    from fastdqn.checkpoints.store import latest_checkpoint

    (first,) = launcher.start(flags(run_dir, 10**9, trial.kind))
    wait_for_checkpoint(run_dir)
    time.sleep(delay)
    os.kill(first, signal.SIGKILL)
    launcher.wait(first)
    newest = latest_checkpoint(run_dir / "checkpoints")
    at = int(newest.name[5:17]) if newest else -1
    (second,) = launcher.start(flags(run_dir, at + TOTAL, trial.kind, lock_timeout_s=0))
    trial.codes = [launcher.wait(second)]
    kill_session(first)  # env workers, if they have not noticed
    if trial.codes != [0]:
        trial.faults.append(f"not taken over: {launcher.stderr()[-300:]}")
    sessions = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["sessions"]
    trial.from_env_steps = sessions[-1]["from_env_steps"]
    if len(sessions) != 2 or trial.from_env_steps != at:
        trial.faults.append(f"went on from {trial.from_env_steps} instead of {at}")
    look(trial, run_dir, at + TOTAL)


def at_once(trial: Trial, launcher: Launcher, run_dir: Path) -> None:
    """Two commands at one instant: one gets the directory, or each its own."""
    args = flags(run_dir, TOTAL, lock_timeout_s=60 if "waiting" in trial.kind else 0)
    if "never" in trial.kind:
        args[args.index("--resume") + 1] = "never"
    if "unnamed" in trial.kind:
        args = [*BASE, "--total-env-steps", str(TOTAL), "--seed", run_dir.name.rpartition("-")[2]]
    pair = launcher.start(args, args)
    trial.codes = [launcher.wait(process_id) for process_id in pair]
    said = [launcher.stderr(number) for number in (0, 1)]
    wanted = [0, 0] if "waiting" in trial.kind or "unnamed" in trial.kind else [0, 2]
    if sorted(trial.codes) != wanted or any("Traceback" in text for text in said):
        trial.faults.append(f"exit codes {trial.codes}: {said}")
    elif wanted == [0, 2]:
        loser = trial.codes.index(2)
        if " belongs to " not in said[loser] and " is not empty" not in said[loser]:
            trial.faults.append(f"refused for another reason: {said[loser]}")
    if "unnamed" in trial.kind:
        found = list(launcher.directory.glob(f"runs/*-seed{args[-1]}-*"))
        trial.faults += [] if len(found) == 2 else [f"{len(found)} directories of two runs"]
        for path in found:
            look(trial, path, TOTAL)
    else:
        look(trial, run_dir, TOTAL)


def wait_for_checkpoint(run_dir: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not list(run_dir.glob("checkpoints/step_" + "[0-9]" * 12)):
        if time.monotonic() > end:
            raise RuntimeError(f"no checkpoint in {run_dir}")
        time.sleep(0.01)


def kill_session(process_id: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


def check_refusal(trial: Trial, code: int, err: str, holder: int) -> None:
    """Exit code 2 and one sentence that names the holder."""
    name = f"belongs to process {holder} on host {socket.gethostname()}, since "
    errors = [line for line in err.splitlines() if line.startswith("fastdqn: error: ")]
    if code != 2 or "Traceback" in err or len(errors) != 1 or name not in errors[0]:
        trial.faults.append(f"not refused as it should: exit code {code}, {err[-300:]}")


def look(trial: Trial, run_dir: Path, total: int) -> None:
    """What is wrong with the files of a run that has come to its end."""
    from fastdqn.checkpoints.store import load_checkpoint

    try:
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
        if (summary["stopped_by"], summary["env_steps"]) != ("total_env_steps", total):
            trial.faults.append(f"ended by {summary['stopped_by']} at {summary['env_steps']}")
        with (run_dir / "metrics.csv").open() as file:
            steps = [int(row["env_steps"]) for row in csv.DictReader(file)]
        if steps != sorted(set(steps)) or steps[-1] != total:
            trial.faults.append(f"metrics.csv repeats or lacks rows: {steps}")
        checkpoints = sorted((run_dir / "checkpoints").iterdir())
        loaded = [load_checkpoint(path)["run"]["env_steps"] for path in checkpoints]
        if len(loaded) != 2 or loaded[-1] != total:
            trial.faults.append(f"checkpoints of {loaded}")
    except Exception as error:
        trial.faults.append(f"{type(error).__name__}: {error}")
    trial.faults += [f"left {path.name}" for path in run_dir.rglob("*.tmp*")]
