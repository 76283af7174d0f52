"""Short runs, and whether two left the same behind."""

import csv
from pathlib import Path

import torch
from helpers.scripted_env import Script, ScriptedVectorEnv
from torch import nn

from fastdqn.checkpoints.store import load_checkpoint
from fastdqn.config.config import Config
from fastdqn.training.speed import TIME_COLUMNS


def small(tmp_path, **changes):
    base = Config(
        num_envs=4,
        total_env_steps=2_000,
        learning_starts_env_steps=200,
        update_period_env_steps=8.0,
        batch_size=16,
        hidden_sizes=(16,),
        replay_capacity=1_000,
        eval_episodes=4,
        eval_num_envs=2,
        eval_period_env_steps=0,
        target_period_updates=50,
        log_period_env_steps=400,
        run_dir=str(tmp_path / "run"),
    )
    return base.replace(**changes)


def scripted(n=4):
    return ScriptedVectorEnv(Script(n, seed=5), "NEXT_STEP")


def read_rows(run_dir):
    with (Path(run_dir) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def same_numbers(rows):
    skip = {*TIME_COLUMNS, "eval_return_mean"}
    return [{k: v for k, v in row.items() if k not in skip} for row in rows]


def flatten(value, path=""):
    if isinstance(value, dict):
        return {k2: v2 for k, v in value.items() for k2, v2 in flatten(v, f"{path}/{k}").items()}
    return {path: value}


def assert_same_checkpoint(one, other):
    one, other = flatten(load_checkpoint(one)), flatten(load_checkpoint(other))
    assert one.keys() == other.keys()
    different = []
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            same = torch.equal(value, other[name])
        else:
            same = value == other[name]
        if not same:
            different.append(name)
    ignored = ("/run/report/clock", "/run/config", "/run/report/last/train_s")
    assert [name for name in different if not name.startswith(ignored)] == []


def tiny(path, **changes):
    changes = {"total_env_steps": 240, "learning_starts_env_steps": 80, "eval_episodes": 0,
               "log_period_env_steps": 120, "run_dir": str(path), **changes}  # fmt: skip
    return small(path, **changes)


def envs(actions=5, shape=(3,), dtype="float32", n=4):
    return ScriptedVectorEnv(Script(n, num_actions=actions, frame_shape=shape, dtype=dtype))


def pictures(actions=5):
    return envs(actions, (36, 36), "uint8")


NATURE = {"frame_stack": 2, "precision": "bf16", "hidden_sizes": (16,), "batch_size": 2,
          "torch_threads": 1, "total_env_steps": 100, "replay_capacity": 100}  # fmt: skip


class Own(nn.Module):
    """Two layers; the last one is called as it likes."""

    def __init__(self, last="head", actions=2, width=16):
        super().__init__()
        self.body = nn.Linear(4, width)
        self.last = last
        self.add_module(last, nn.Linear(width, actions))

    def forward(self, observation):
        return getattr(self, self.last)(self.body(observation).relu())
