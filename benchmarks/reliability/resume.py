"""Stopped in mid-episode and resumed in a new process: the same to the last bit as uninterrupted.

Tests of the repository give the envs whose state can be saved (``tests/helpers/scripted_env.py``).
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import fastdqn
from benchmarks.reliability import Outcome
from benchmarks.reliability.mutate import same
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint
from fastdqn.training.speed import TIME_COLUMNS

FIGURE = "12 of 12: every tensor torch.equal, metrics and the next 1,000 actions equal"
TESTS = Path(__file__).parents[2] / "tests"

# What differs from the base, with the autoreset mode of the envs.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "uniform 1-step": {"n_step": 1, "double": False},
    "per 3-step dueling": {"prioritized": True, "dueling": True, "n_step": 3},
    "uniform 3-step double": {"n_step": 3, "double": True},
    "per 1-step wrapped": {"prioritized": True, "n_step": 1, "replay_capacity": 120},
    "rmsprop mse": {"optimizer": "rmsprop", "loss": "mse", "max_grad_norm": 1.0},
    "polyak": {"target_period_updates": 1, "target_tau": 0.05, "dueling": True},
    "no target": {"target_period_updates": None, "double": False, "max_grad_norm": None,
                  "max_grad_value": 1.0},
    "stack per": {"frame_stack": 4, "prioritized": True, "n_step": 3, "replay_capacity": 160},
    "exponential epsilon": {"epsilon_schedule": "exponential", "learning_rate_final": None},
    "same step per": {"mode": "SAME_STEP", "prioritized": True, "n_step": 3, "reward_clip": 1.0},
    "same step stack": {"mode": "SAME_STEP", "frame_stack": 3, "n_step": 1},
    "disabled per 5-step": {"mode": "DISABLED", "prioritized": True, "n_step": 5},
}  # fmt: skip

# Two of these: one runs everything whole and stops it, the other, a new process, resumes it.
CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from helpers.scripted_env import Script, ScriptedVectorEnv
from fastdqn import Config
from fastdqn.training.train import train
base = Config(num_envs=4, total_env_steps=2_000, learning_starts_env_steps=200,
              update_period_env_steps=8.0, batch_size=16, hidden_sizes=(16,),
              replay_capacity=1_000, eval_episodes=0, target_period_updates=50,
              log_period_env_steps=4, checkpoint_replay="every", device="cpu", torch_threads=1)
middle = []
for changes, mode, stop in json.loads(sys.argv[2]):
    envs = ScriptedVectorEnv(Script(4, seed=5), mode)
    train(base.replace(**changes), envs=envs,
          on_log=lambda row: stop and row["env_steps"] >= stop)
    middle.append(bool((envs.state_dict()["t"] > 0).any()))
print(json.dumps(middle))
"""
STOP = 1_204


def run(short: bool) -> Outcome:
    names = list(CONFIGURATIONS)[1 if short else 0 : None : 8 if short else 1]
    faults: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        first: list[Any] = []
        second: list[Any] = []
        for name in names:
            changes = dict(CONFIGURATIONS[name])
            mode = changes.pop("mode", "NEXT_STEP")
            whole, parts = (f"{scratch}/{name}/{part}" for part in ("whole", "parts"))
            first.append(({**changes, "run_dir": whole}, mode, 0))
            first.append(({**changes, "run_dir": parts}, mode, STOP))
            second.append(({**changes, "run_dir": parts, "resume": "require"}, mode, 0))
        middle = _child(first)[1::2]
        for name, inside in zip(names, middle, strict=True):
            parts = find_checkpoint(Path(scratch) / name / "parts")
            faults[name] = [] if inside else ["no env was in mid-episode at the stop"]
            if parts.name != f"step_{STOP:012d}":
                faults[name].append(f"stopped at {parts.name}")
        _child(second)
        for name in names:
            faults[name] += _differences(Path(scratch) / name)
    good = sum(not found for found in faults.values())
    return Outcome(
        f"{good} of {len(names)} configurations bit-equal after a resume in a new process",
        good == len(names),
        {"faults": faults, "stopped_at_env_step": STOP, "of": 2_000},
    )


def _differences(path: Path) -> list[str]:
    one, other = (_flat(load_checkpoint(find_checkpoint(path / p))) for p in ("whole", "parts"))
    skip = ("run/report/clock", "run/config", "run/report/last/train_s")
    names = [name for name in one.keys() | other.keys() if not name.startswith(skip)]
    faults = [n for n in sorted(names) if not same(one.get(n, "none"), other.get(n, "none"))]
    if _rows(path / "whole") != _rows(path / "parts"):
        faults.append("metrics.csv")
    frames = np.random.default_rng(1).standard_normal((1_000, 3)).astype(np.float32) * 9
    policies = [fastdqn.load(path / part, device="cpu") for part in ("whole", "parts")]
    if not np.array_equal(*(policy.act(frames, epsilon=0.5) for policy in policies)):
        faults.append("the next 1,000 actions")
    return faults


def _child(jobs: list[Any]) -> list[bool]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(TESTS), json.dumps(jobs)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        prefix = f"{path}/" if path else ""
        return {n: v for k, item in value.items() for n, v in _flat(item, prefix + k).items()}
    return {path: value}


def _rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in rows]
