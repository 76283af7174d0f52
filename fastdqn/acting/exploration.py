"""Exploration: the greedy action, or now and then any other."""

from __future__ import annotations

import torch
from torch import Tensor

from fastdqn.errors import ConfigError


def check_chances(epsilon: Tensor, num_envs: int) -> None:
    """Refuse, by a ConfigError, what is neither one chance nor one for each env."""
    if list(epsilon.shape) not in ([], [num_envs]):
        raise ConfigError(
            f"epsilon has shape {list(epsilon.shape)}; use one chance, or one for each of the "
            f"{num_envs} envs, [{num_envs}]."
        )


@torch.no_grad()
def epsilon_greedy(q: Tensor, epsilon: Tensor | float, uniform: Tensor) -> Tensor:
    """The greedy action, or with chance epsilon any action; a coin for every env.

    Args:
        q: [N, A].
        epsilon: A chance, or one for each env, [N].
        uniform: float32 [2, N] in [0, 1): the coin and the action.

    Returns:
        int64 [N] in [0, A).
    """
    num_actions = q.shape[1]
    # The product rounds to below A for uniform < 1; the clamp holds whatever was passed in.
    anything = (uniform[1] * num_actions).long().clamp_(0, num_actions - 1)
    if isinstance(epsilon, Tensor):  # in the precision of the coins, as in Numba
        epsilon = epsilon.to(uniform.dtype)
    return torch.where(uniform[0] < epsilon, anything, q.argmax(dim=1))
