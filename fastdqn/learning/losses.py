"""Targets, TD errors and losses, as in the papers: per sample, no reduction.

None of them knows ``done`` or ``gamma``: a batch carries a ``discount`` per sample, which is 0
where the episode terminated and gamma^m otherwise (rlax's convention). Targets carry no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def q_target(next_q_target: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
    """``r + discount * max_a Q_target(s', a)`` (Mnih 2015, eq. in "Algorithm").

    Args:
        next_q_target: Q_target(s', .), [B, A].
        reward: [B].
        discount: [B].

    Returns:
        The target, [B].
    """
    return (reward + discount * next_q_target.amax(dim=-1)).detach()


def double_q_target(
    next_q_online: Tensor, next_q_target: Tensor, reward: Tensor, discount: Tensor
) -> Tensor:
    """``r + discount * Q_target(s', argmax_a Q_online(s', a))`` (van Hasselt 2016, eq. 4).

    Args:
        next_q_online: Q_online(s', .), [B, A]; chooses the action.
        next_q_target: Q_target(s', .), [B, A]; values it.
        reward: [B].
        discount: [B].

    Returns:
        The target, [B].
    """
    best = next_q_online.argmax(dim=-1, keepdim=True)
    return (reward + discount * next_q_target.gather(-1, best).squeeze(-1)).detach()


def td_error(q: Tensor, action: Tensor, target: Tensor) -> Tensor:
    """``Q(s, a) - target``, [B]: positive where Q is too high.

    Args:
        q: Q(s, .), [B, A].
        action: int64 [B].
        target: [B].
    """
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1) - target


def huber_loss(td_error: Tensor, delta: float = 1.0) -> Tensor:
    """``td^2 / 2`` where ``|td| <= delta``, else ``delta (|td| - delta / 2)`` (Huber 1964), [B]."""
    return F.huber_loss(td_error, torch.zeros_like(td_error), reduction="none", delta=delta)


def mse_loss(td_error: Tensor) -> Tensor:
    """``td^2``, [B]."""
    return torch.square(td_error)
