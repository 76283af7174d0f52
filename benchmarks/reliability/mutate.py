"""Damage of every kind to a run's newest checkpoint: it must be seen, named, and gone around."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

import fastdqn
from benchmarks.reliability import Outcome
from fastdqn import Config
from fastdqn.checkpoints.state_tree import materialize
from fastdqn.checkpoints.store import load_checkpoint, open_newest
from fastdqn.errors import CheckpointError
from fastdqn.training.train import train

FIGURE = "1,000 mutations: 0 silent loads; the checkpoint before is taken, the bad file named"
COUNT, SHORT_COUNT = 1_000, 60
KINDS = ("truncate", "flip", "zero", "swap", "delete", "append", "edit manifest", "edit state")


def run(short: bool) -> Outcome:
    rng = random.Random(0)
    count = SHORT_COUNT if short else COUNT
    silent: list[str] = []
    unnamed: list[str] = []
    not_taken: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = Path(scratch) / "run"
        _make_run(run_dir)
        older, newest = sorted((run_dir / "checkpoints").glob("step_*"))
        kept = Path(scratch) / "kept"
        shutil.copytree(newest, kept)
        before = load_checkpoint(older)
        for trial in range(count):
            kind = KINDS[trial % len(KINDS)]
            while content(newest) == content(kept):  # zeros over zeros are no damage
                names = damage(newest, kind, rng)
            what = f"{trial}: {kind} {' '.join(names)}"
            try:
                load_checkpoint(newest)
                silent.append(what)
            except CheckpointError as error:
                if not any(name in str(error) for name in names):
                    unnamed.append(f"{what}: {error}")
                _fall_back(run_dir, older, before, names, what, not_taken)
            shutil.rmtree(newest)
            shutil.copytree(kept, newest)
    return Outcome(
        f"{count} mutations: {len(silent)} silent loads, {len(unnamed)} without the bad file's "
        f"name, {len(not_taken)} without the one before",
        not (silent or unnamed or not_taken),
        {
            "mutations": count,
            "silent": silent,
            "unnamed": unnamed,
            "not_taken": not_taken,
        },
    )


def _fall_back(
    run_dir: Path, older: Path, before: Any, names: list[str], what: str, faults: list[str]
) -> None:
    """Whether resuming and loading find the one before, and say why."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path, state = open_newest(run_dir / "checkpoints")
        first = [str(warning.message) for warning in caught]
        fastdqn.load(run_dir, device="cpu")
    if path != older or not same(materialize(state), before):
        faults.append(f"{what}: took {path.name}")
    if len(first) != 1 or not any(name in first[0] for name in names) or len(caught) > 2:
        faults.append(f"{what}: said {[str(warning.message) for warning in caught]}")


def _make_run(run_dir: Path) -> None:
    config = Config(
        total_env_steps=1_200,
        num_envs=4,
        learning_starts_env_steps=200,
        hidden_sizes=(16,),
        batch_size=16,
        replay_capacity=2_000,
        prioritized=True,
        eval_episodes=0,
        checkpoint_period_env_steps=800,
        checkpoint_replay="every",
        device="cpu",
        torch_threads=1,
        run_dir=str(run_dir),
    )
    train(config)


def damage(path: Path, kind: str, rng: random.Random) -> list[str]:
    """Do it; the names of the files of which one must be named."""
    files = sorted(path.iterdir())
    victim = rng.choice(files)
    data = bytearray(victim.read_bytes())
    if kind == "truncate":
        victim.write_bytes(data[: rng.choice([0, rng.randrange(len(data)), len(data) - 1])])
    elif kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        victim.write_bytes(data)
    elif kind == "zero":
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice([1, 512, 4096]))
        data[start:end] = bytes(end - start)
        victim.write_bytes(data)
    elif kind == "swap":
        other = rng.choice([file for file in files if file != victim])
        victim.write_bytes(other.read_bytes())
        other.write_bytes(data)
        return [victim.name, other.name]
    elif kind == "delete":
        victim.unlink()
    elif kind == "append":
        victim.write_bytes(bytes(data) + rng.randbytes(rng.choice([1, 8, 4096])))
    else:  # a value changed by hand, in a file that parses
        victim = path / ("manifest.json" if kind == "edit manifest" else "state.json")
        body = json.loads(victim.read_text())
        _edit(body, rng)
        victim.write_text(json.dumps(body))
    return [victim.name]


def _edit(body: dict[str, Any], rng: random.Random) -> None:
    """Change one value, somewhere."""
    while True:
        name = rng.choice(list(body))
        if isinstance(body[name], dict) and body[name]:
            body = body[name]
            continue
        change = rng.choice(["remove", "replace", "add"])
        if change == "remove":
            del body[name]
        elif change == "add":
            body[f"{name}x"] = 1
        else:
            value = body[name]
            numbers = type(value) in (int, float)
            body[name] = value + 1 if numbers else {"__tensor__": "learner/statistics", "x": 1}
        return


def content(path: Path) -> dict[str, bytes]:
    """All bytes of a checkpoint."""
    return {file.name: file.read_bytes() for file in path.iterdir()}


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b
