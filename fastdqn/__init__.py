"""fastdqn: a DQN trainer limited by the hardware and by nothing else.

Every public name is loaded on first use, so that ``import fastdqn``, the command line's
``--help`` and the checks of a :class:`Config` need no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from fastdqn._version import __version__

# torch looks once, at a process's first product on CUDA, whether cuBLAS will repeat its results;
# by the time a Config asks for `deterministic` that may be long past.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_HOME = {
    "Config": "config.config",
    "presets": "config.presets",
    "config_for": "training.starting_point",
    "train": "training.train",
    "TrainResult": "training.trainer",
    "load": "training.load",
    "evaluate": "acting.evaluation",
    "EvalResult": "acting.evaluation",
    "Policy": "acting.policy",
    "input_gradient": "learning.input_gradients",
    "Actor": "acting.actor",
    "Learner": "learning.learner",
    "UpdateResult": "learning.learner",
    "ReplayBuffer": "replay.buffer",
    "SumTree": "replay.sum_tree",
    "Batch": "types",
    "TimeStep": "types",
    "EnvStream": "envs",
    "AtariProtocol": "envs",
    "make_envs": "envs",
    "MemoryPlan": "replay.memory_plan",
    "FastDQNError": "errors",
    "ConfigError": "errors",
    "EnvError": "errors",
    "MemoryPlanError": "errors",
    "CheckpointError": "errors",
    "TrainingError": "errors",
    "EnvFailure": "errors",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
    from fastdqn.acting.actor import Actor
    from fastdqn.acting.evaluation import EvalResult, evaluate
    from fastdqn.acting.policy import Policy
    from fastdqn.config.config import Config
    from fastdqn.config.presets import presets
    from fastdqn.envs import AtariProtocol, EnvStream, make_envs
    from fastdqn.errors import (
        CheckpointError,
        ConfigError,
        EnvError,
        EnvFailure,
        FastDQNError,
        MemoryPlanError,
        TrainingError,
    )
    from fastdqn.learning.input_gradients import input_gradient
    from fastdqn.learning.learner import Learner, UpdateResult
    from fastdqn.replay.buffer import ReplayBuffer
    from fastdqn.replay.memory_plan import MemoryPlan
    from fastdqn.replay.sum_tree import SumTree
    from fastdqn.training.load import load
    from fastdqn.training.starting_point import config_for
    from fastdqn.training.train import train
    from fastdqn.training.trainer import TrainResult
    from fastdqn.types import Batch, TimeStep


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastdqn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastdqn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
