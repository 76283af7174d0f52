"""Learning runs, each in a process of its own, and a result file that keeps what is done.

A module of such runs has a function ``run(name, seed, scratch)`` that trains one seed in a
directory and returns its row, with ``task`` and ``seed`` and what the row is of.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import fastdqn
from benchmarks.result_file import RESULTS, write_result
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


def parser(module: str, line: str, names: Sequence[str]) -> argparse.ArgumentParser:
    """The command line of a module of runs.

    Args:
        module: Its full name.
        line: What it answers.
        names: Of its tasks.
    """
    found = argparse.ArgumentParser(prog=f"python -m {module}", description=line)
    found.add_argument("--only", nargs="+", choices=names, default=list(names))
    found.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    found.add_argument("--jobs", type=int, default=1, help="runs side by side")
    found.add_argument("--again", action="store_true", help="repeat what the file has already")
    found.add_argument("--report", action="store_true", help="run nothing, show what the file has")
    found.add_argument("--smoke", action="store_true", help="some seconds, no claim, no file")
    found.add_argument("--out", help="where to write the JSON")
    return found


def measure(
    name: str,
    args: Any,
    one: Callable[[str, int], Row],
    configs: Mapping[str, Config],
    reached: str,
    more: Mapping[str, Any] | None = None,
    *,
    seeds: Mapping[str, Sequence[int]] | None = None,
    done: Callable[[Sequence[Row], str, int, Config], bool] = is_done,
) -> list[Row]:
    """Run what the result file lacks, and write it as each run ends; with --report run nothing.

    Args:
        name: Of the result file.
        args: What :func:`parser` made of the command line.
        one: From a task and a seed to the row of its run.
        configs: Of the tasks, in the order of the table.
        reached: The number of a row that its bar is about.
        more: What else the file holds.
        seeds: Of each task; None: ``args.seeds``.
        done: Whether a run is among those rows.

    Returns:
        All rows of the file.
    """
    path = Path(args.out) if args.out else RESULTS / f"{name}.json"
    if args.report and not path.exists():
        raise SystemExit(f"There is no {path} yet; leave --report out.")
    rows = json.loads(path.read_text())["runs"] if path.exists() else []
    if args.report:
        return rows
    todo = [
        (task, seed)
        for task in args.only
        for seed in (seeds[task] if seeds else args.seeds)
        if args.again or not done(rows, task, seed, configs[task])
    ]
    for row in run_all(one, todo, args.jobs):
        met = {True: "met", False: "not met", None: "stated"}[row["met"]]
        print(
            f"{row['task']}, seed {row['seed']}: {row[reached]:.2f}, {met}, {row['wall_s']:.0f} s",
            flush=True,
        )
        rows = with_row(rows, row, list(configs))
        write_result(f"learning.{name}", {**(more or {}), "runs": rows}, args.out)
    return rows
