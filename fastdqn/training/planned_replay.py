"""The plan of a run's replay, and a smaller one where nobody chose the size and it does not fit."""

from __future__ import annotations

import warnings

import torch

from fastdqn.config.config import Config
from fastdqn.envs import EnvStream
from fastdqn.errors import ConfigError, MemoryPlanError
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.memory_plan import MemoryPlan
from fastdqn.training.build import replay_arguments


def plan_replay(
    config: Config, envs: EnvStream, device: torch.device, *, lower: bool
) -> tuple[Config, MemoryPlan]:
    """The plan, and the configuration that it is for.

    Args:
        config: Of the run.
        envs: Whose frames it stores.
        device: Where.
        lower: Whether ``replay_capacity`` may be lowered to what fits, with a warning.

    Raises:
        MemoryPlanError: Where it does not fit.
    """
    drawn = config.drawn_at_once(config.launch_on(device.type))
    try:
        return config, ReplayBuffer.plan(**replay_arguments(config, envs, device), batch_size=drawn)
    except MemoryPlanError as error:
        if not lower or not error.fits:
            raise
        try:
            lowered = config.replace(replay_capacity=error.fits)
        except ConfigError:  # too small for batches, stacks or envs
            raise error from None
        warnings.warn(
            f"{error} It is lowered to that; set replay_capacity to choose another.", stacklevel=2
        )
    return lowered, ReplayBuffer.plan(**replay_arguments(lowered, envs, device), batch_size=drawn)
