"""fastdqn: a DQN trainer limited by the hardware and by nothing else.

Every public name is loaded on first use, so that ``import fastdqn``, the command line's
``--help`` and the checks of a :class:`Config` need no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch looks once, at a process's first product on CUDA, whether cuBLAS will repeat its results;
# by the time a Config asks for `deterministic` that may be long past.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_HOME = {
    "Config": "config",
    "presets": "recipes",
    "train": "trainer",
    "TrainResult": "trainer",
    "load": "saved_policy",
    "evaluate": "evaluation",
    "EvalResult": "evaluation",
    "Policy": "policy",
    "input_gradient": "saliency",
    "Actor": "actor",
    "Learner": "learner",
    "UpdateResult": "learner",
    "ReplayBuffer": "replay",
    "SumTree": "sum_tree",
    "Batch": "types",
    "TimeStep": "types",
    "EnvStream": "envs",
    "AtariProtocol": "envs",
    "make_envs": "envs",
    "MemoryPlan": "memory",
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
    from fastdqn.actor import Actor
    from fastdqn.config import Config
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
    from fastdqn.evaluation import EvalResult, evaluate
    from fastdqn.learner import Learner, UpdateResult
    from fastdqn.memory import MemoryPlan
    from fastdqn.policy import Policy
    from fastdqn.recipes import presets
    from fastdqn.replay import ReplayBuffer
    from fastdqn.saliency import input_gradient
    from fastdqn.saved_policy import load
    from fastdqn.sum_tree import SumTree
    from fastdqn.trainer import TrainResult, train
    from fastdqn.types import Batch, TimeStep


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastdqn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastdqn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
