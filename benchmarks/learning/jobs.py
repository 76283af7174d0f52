"""Learning runs, each in a process of its own, and a result file that keeps what is done.

A module of such runs has a function ``run(name, seed, scratch)`` that trains one seed in a
directory and returns its row, with ``task`` and ``seed`` and what the row is of.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import fastdqn
from fastdqn import Config

Row = dict[str, Any]
KEPT = (
    "env_steps", "updates", "episodes", "train_return_mean", "eval_return_mean",
    "eval_return_std", "eval_episodes", "wall_s", "train_s", "env_steps_per_s", "updates_per_s",
    "replay_ratio", "precision", "mode", "torch_threads", "device",
)  # fmt: skip
"""Of a run's summary."""


def shortened(config: Config) -> Config:
    """A run of about a second that goes through everything."""
    return config.replace(
        total_env_steps=640,
        learning_starts_env_steps=512,
        replay_capacity=4_096,
        eval_episodes=2,
        eval_num_envs=2,
        eval_max_env_steps=64,
    )


def identity(config: Config) -> dict[str, Any]:
    """What a run must share with another to count as the same: code of fastdqn, configuration."""
    return {"code": code(), "config": json.loads(config.to_json())}


@cache
def code() -> str:
    """A digest of every source file of fastdqn."""
    root = Path(fastdqn.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def is_done(rows: Sequence[Row], name: str, seed: int, config: Config) -> bool:
    """Whether a row of this run is there, of the same code and configuration."""
    wanted = {"task": name, "seed": seed, **identity(config)}
    return any(all(row[key] == value for key, value in wanted.items()) for row in rows)


def with_row(rows: Sequence[Row], new: Row, order: Sequence[str]) -> list[Row]:
    """The rows with the new one in the place of an older one of its run, in the table's order."""
    kept = [row for row in rows if (row["task"], row["seed"]) != (new["task"], new["seed"])]
    return sorted([*kept, new], key=lambda row: (order.index(row["task"]), row["seed"]))


def run_apart(module: str, name: str, seed: int) -> Row:
    """``run`` of a module in a new process."""
    code = (
        f"import json, sys; from {module} import run; "
        f"print(json.dumps(run(sys.argv[1], int(sys.argv[2]), sys.argv[3])))"
    )
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", code, name, str(seed), scratch]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def run_all(
    one: Callable[[str, int], Row], todo: Sequence[tuple[str, int]], jobs: int
) -> Iterator[Row]:
    """The row of each run as it ends, that many of them side by side."""
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(one, name, seed) for name, seed in todo]
        for future in as_completed(runs):
            yield future.result()
