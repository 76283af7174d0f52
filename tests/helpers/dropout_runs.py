"""Runs that draw from torch's default generators."""

import torch
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import small
from torch import nn

from fastdqn.checkpoints.store import find_checkpoint
from fastdqn.training.train import train


def with_dropout():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5))


class Noisy(ScriptedVectorEnv):
    """Rewards with noise from torch's default generator."""

    def step(self, actions):
        obs, reward, *rest = super().step(actions)
        return obs, reward + torch.rand(len(reward)).numpy(), *rest


def run(path, kind="dropout", stop=0, **changes):
    """One run, whatever the caller's generator stands at; its newest checkpoint."""
    changes = {
        "total_env_steps": 300, "log_period_env_steps": 20, "learning_starts_env_steps": 60,
        "eval_episodes": 2, **changes,
    }  # fmt: skip
    torch.rand(7)  # of the caller, from the seed of chance
    envs = Noisy(Script(4, seed=5)) if kind == "noise" else ScriptedVectorEnv(Script(4, seed=5))
    train(
        small(path, **changes),
        envs=envs,
        eval_envs=Noisy(Script(2, seed=6)),
        network=None if kind == "noise" else with_dropout(),
        on_log=lambda row: bool(stop) and row["env_steps"] >= stop,
    )
    return find_checkpoint(path / "run")
