"""Observations as a policy's network sees them while it plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastdqn.acting.evaluation import evaluate
from fastdqn.acting.policy import Policy
from fastdqn.envs import EnvStream


def played_observations(
    policy: Policy,
    envs: EnvStream,
    count: int,
    *,
    seed: int,
    epsilon: float = 0.1,
    stop: Callable[[], bool] | None = None,
) -> Tensor:
    """Play, and keep what the network is given, [count, ...] on the CPU.

    Args:
        policy: Acts.
        envs: Their state is lost.
        count: Observations, over all envs.
        seed: Of the envs and of the random actions.
        epsilon: Chance of a random action: what the network meets should differ.
        stop: Asked before every step; raises to give up.
    """
    kept: list[Tensor] = []

    def keep(network: Any, inputs: tuple[Tensor, ...]) -> None:
        kept.append(inputs[0].detach().cpu().clone())

    handle = policy.acting_network.register_forward_pre_hook(keep)
    try:
        evaluate(
            policy,
            envs,
            episodes_per_env=count,
            epsilon=epsilon,
            max_env_steps=count,
            seed=seed,
            stop=stop,
        )
    finally:
        handle.remove()
    return torch.cat(kept)[:count]
