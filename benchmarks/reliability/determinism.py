"""The same seed twice, in two processes: the same metrics and parameters, bit for bit."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.reliability import Outcome

FIGURE = "same seed twice is bit-equal on a CPU: 3 configurations, 1 and 4 env threads"
TESTS = Path(__file__).parents[2] / "tests"
# Of losses and of parameters after the same batches: eager and compiled sum in another order.
TOLERANCE = 1e-3

_CHILD = """
import json, sys
from fastdqn import Config, train
changes, tests = json.loads(sys.argv[1]), sys.argv[2]
envs = None
if changes["env_id"] == "scripted":
    sys.path.insert(0, tests)
    from helpers.scripted_env import Script, ScriptedVectorEnv
    envs = ScriptedVectorEnv(Script(4, seed=5), "SAME_STEP")
train(Config(**changes), envs=envs)
"""
CARTPOLE = {
    "env_id": "CartPole-v1", "num_envs": 8, "total_env_steps": 6_000, "prioritized": True,
    "hidden_sizes": [64, 64], "eval_period_env_steps": 2_000, "eval_episodes": 4,
    "eval_num_envs": 2, "log_period_env_steps": 200,
}  # fmt: skip
SCRIPTED = {
    "env_id": "scripted", "num_envs": 4, "total_env_steps": 4_000, "dueling": True, "n_step": 3,
    "hidden_sizes": [32], "eval_episodes": 0, "log_period_env_steps": 200,
}  # fmt: skip
PONG = {
    "env_id": "ALE/Pong-v5", "num_envs": 8, "frame_stack": 4, "total_env_steps": 1_200,
    "learning_starts_env_steps": 400, "update_period_env_steps": 8.0, "batch_size": 32,
    "replay_capacity": 4_000, "reward_clip": 1.0, "hidden_sizes": [512], "prioritized": True,
    "dueling": True, "atari_max_episode_frames": 600, "eval_episodes": 2, "eval_num_envs": 2,
    "log_period_env_steps": 80, "torch_threads": 1, "env_threads": 1,
}  # fmt: skip
# Actions from the epsilon alone, so that rounding changes no batch.
SAME_BATCHES = {**CARTPOLE, "total_env_steps": 3_000, "epsilon_end": 1.0, "prioritized": False}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CartPole": (CARTPOLE, {}),
    "scripted env": (SCRIPTED, {}),
    "ALE Pong": (PONG, {}),
    "ALE Pong, 1 and 4 env threads": (PONG, {"env_threads": 4}),
}


def run(short: bool) -> Outcome:
    """Two processes for each pair; their hash seeds differ."""
    pairs = {"scripted env": PAIRS["scripted env"]} if short else PAIRS
    equal: dict[str, bool] = {}
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for number, (pair, (config, changes)) in enumerate(pairs.items()):
            first = train(config, scratch / f"{number}a")
            second = train({**config, **changes}, scratch / f"{number}b")
            rows = metrics(first)
            equal[pair] = rows == metrics(second) and parameters(first) == parameters(second)
            equal[pair] &= len(rows) > 10
            details[pair] = {"rows": len(rows), "bit_equal": equal[pair]}
        worst = 0.0
        if not short:
            eager = train({**SAME_BATCHES, "mode": "eager"}, scratch / "eager")
            compiled = train({**SAME_BATCHES, "mode": "compile"}, scratch / "compiled")
            worst = max(
                furthest(losses(eager), losses(compiled)),
                furthest(parameters(eager), parameters(compiled)),
            )
            details["eager and compiled"] = {"relative_difference": worst}
    said = "" if short else f"; compiled differs from eager by {worst:.1e} (relative)"
    return Outcome(
        f"{sum(equal.values())} of {len(equal)} pairs bit-equal{said}",
        all(equal.values()) and worst <= TOLERANCE,
        details,
    )


def train(changes: dict[str, Any], run_dir: Path) -> Path:
    """One run in a process of its own; its directory."""
    body = {"device": "cpu", "learning_starts_env_steps": 400, "replay_capacity": 5_000, **changes}
    subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps({**body, "run_dir": str(run_dir)}), str(TESTS)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONHASHSEED": str(len(run_dir.name) + ord(run_dir.name[-1]))},
        timeout=600,
    )
    return run_dir


def metrics(run_dir: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv as they are written, without the columns that tell the time."""
    from fastdqn.training.speed import TIME_COLUMNS

    with (run_dir / "metrics.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name not in TIME_COLUMNS}
            for row in csv.DictReader(file)
        ]


def parameters(run_dir: Path) -> list[float]:
    """All that the network learned."""
    import fastdqn

    state = fastdqn.load(run_dir, device="cpu").network.state_dict()
    return [x for tensor in state.values() for x in tensor.double().flatten().tolist()]


def losses(run_dir: Path) -> list[float]:
    """The losses that metrics.csv holds."""
    found = [float(row["loss"] or "nan") for row in metrics(run_dir)]
    return [loss for loss in found if math.isfinite(loss)]


def furthest(left: list[float], right: list[float]) -> float:
    """The largest difference, relative to the largest value."""
    scale = max(abs(x) for x in left)
    return max(abs(x - y) for x, y in zip(left, right, strict=True)) / scale
