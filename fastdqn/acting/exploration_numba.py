"""Exploration on a CPU in one loop: for the actor of a training run, which acts at every step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastdqn.system.loops import compiled, to_array


@torch.no_grad()
def epsilon_greedy(q: Tensor, epsilon: Tensor | float, uniform: Tensor) -> Tensor:
    """As :func:`fastdqn.acting.exploration.epsilon_greedy`."""
    chance = np.empty(len(q), np.float32)
    chance[:] = epsilon
    return torch.from_numpy(_epsilon_greedy(to_array(q), chance, to_array(uniform)))


@compiled
def _epsilon_greedy(q, epsilon, uniform):  # type: ignore[no-untyped-def]
    """Actions [N]; ``epsilon`` [N]."""
    count, num_actions = q.shape
    action = np.empty(count, np.int64)
    for i in range(count):
        if uniform[0, i] < epsilon[i]:
            action[i] = min(np.int64(uniform[1, i] * np.float32(num_actions)), num_actions - 1)
            continue
        best = 0
        for j in range(num_actions):  # a NaN counts as the largest, as for torch
            if q[i, j] > q[i, best] or (np.isnan(q[i, j]) and not np.isnan(q[i, best])):
                best = j
        action[i] = best
    return action
