"""The n-step return of a window of rows."""

from __future__ import annotations

import torch
from torch import Tensor


def n_step_return(
    reward: Tensor, terminated: Tensor, end: Tensor, gamma_powers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum the rewards up to the end of the episode, at most n of them (Sutton 1988).

    With ``m = min(n, first k >= 1 with end[k])``, the reward is the sum of ``gamma^(k-1) r[k]``
    over ``k <= m`` and the discount ``gamma^m (1 - terminated[m])``. Column j holds step k = j+1.

    Args:
        reward: [B, n] float.
        terminated: [B, n] bool; the last column used decides whether s' is bootstrapped.
        end: [B, n - 1] bool; whether nothing after that step belongs to the episode.
        gamma_powers: gamma^0 .. gamma^n, [n + 1].

    Returns:
        The reward [B], the discount [B], and m, int64 [B].
    """
    n = reward.shape[1]
    if n == 1:
        steps = torch.ones_like(terminated[:, 0], dtype=torch.int64)
        return reward[:, 0], gamma_powers[1] * ~terminated[:, 0], steps
    ended = end.to(torch.int32).cumsum(dim=1) > 0
    alive = torch.cat((torch.ones_like(terminated[:, :1]), ~ended), dim=1)  # [B, n]
    steps = alive.sum(dim=1)
    # where, not a product: a later episode's non-finite reward must not leak in as 0 * inf.
    total = torch.where(alive, reward * gamma_powers[:-1], 0).sum(dim=1)
    terminal = terminated.gather(1, steps.unsqueeze(1) - 1).squeeze(1)
    return total, gamma_powers.index_select(0, steps) * ~terminal, steps
