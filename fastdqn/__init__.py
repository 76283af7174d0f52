"""fastdqn: a DQN trainer limited by the hardware and by nothing else.

Every public name is loaded on first use, so that ``import fastdqn``, the command line's
``--help`` and the checks of a :class:`Config` need no torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastdqn._lazy import attach
from fastdqn._version import __version__

# torch looks once, at a process's first product on CUDA, whether cuBLAS will repeat its results;
# by the time a Config asks for `deterministic` that may be long past.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_HOME = {
    "Config": "config.config",
    "presets": "config.presets",
    "config_for": "training.starting_point",
    "train": "training.train",
    "Callback": "callbacks.callback",
    "Episode": "callbacks.callback",
    "LiveRun": "callbacks.callback",
    "TrainResult": "training.trainer",
    "load": "training.load",
    "evaluate": "acting.evaluation",
    "EvalResult": "acting.evaluation",
    "Policy": "acting.policy",
    "input_gradient": "learning.input_gradients",
    "Actor": "acting.actor",
    "Learner": "learning.learner",
    "UpdateResult": "learning.learner",
    "QNetwork": "networks.q_network",
    "make_network": "networks.make",
    "ReplayBuffer": "replay.buffer",
    "SumTree": "replay.sum_tree",
    "Batch": "types",
    "TimeStep": "types",
    "EnvStream": "envs",
    "AtariProtocol": "envs",
    "make_envs": "envs",
    "EpisodeStatistics": "training.episode_statistics",
    "linear_schedule": "training.schedules",
    "exponential_schedule": "training.schedules",
    "MemoryPlan": "replay.memory_plan",
    "FastDQNError": "errors",
    "ConfigError": "errors",
    "EnvError": "errors",
    "MemoryPlanError": "errors",
    "CheckpointError": "errors",
    "TrainingError": "errors",
    "EnvFailure": "errors",
}
_MODULES = ("learning", "networks")

__all__ = [
    "Actor",
    "AtariProtocol",
    "Batch",
    "Callback",
    "CheckpointError",
    "Config",
    "ConfigError",
    "EnvError",
    "EnvFailure",
    "EnvStream",
    "Episode",
    "EpisodeStatistics",
    "EvalResult",
    "FastDQNError",
    "Learner",
    "LiveRun",
    "MemoryPlan",
    "MemoryPlanError",
    "Policy",
    "QNetwork",
    "ReplayBuffer",
    "SumTree",
    "TimeStep",
    "TrainResult",
    "TrainingError",
    "UpdateResult",
    "__version__",
    "config_for",
    "evaluate",
    "exponential_schedule",
    "input_gradient",
    "linear_schedule",
    "load",
    "make_envs",
    "make_network",
    "presets",
    "train",
]

if TYPE_CHECKING:
    from fastdqn import learning as learning
    from fastdqn import networks as networks
    from fastdqn.acting.actor import Actor
    from fastdqn.acting.evaluation import EvalResult, evaluate
    from fastdqn.acting.policy import Policy
    from fastdqn.callbacks.callback import Callback, Episode, LiveRun
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
    from fastdqn.networks.make import make_network
    from fastdqn.networks.q_network import QNetwork
    from fastdqn.replay.buffer import ReplayBuffer
    from fastdqn.replay.memory_plan import MemoryPlan
    from fastdqn.replay.sum_tree import SumTree
    from fastdqn.training.episode_statistics import EpisodeStatistics
    from fastdqn.training.load import load
    from fastdqn.training.schedules import exponential_schedule, linear_schedule
    from fastdqn.training.starting_point import config_for
    from fastdqn.training.train import train
    from fastdqn.training.trainer import TrainResult
    from fastdqn.types import Batch, TimeStep
else:
    __getattr__, __dir__ = attach(__name__, _HOME, _MODULES)
