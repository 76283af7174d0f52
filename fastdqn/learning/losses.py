"""Targets, TD errors and losses, as in the papers: per sample, no reduction.

None of them knows ``done`` or ``gamma``: a batch carries a ``discount`` per sample, which is 0
where the episode terminated and gamma^m otherwise (rlax's convention). Targets carry no gradient.
All raise ConfigError where shapes do not belong together: [B] and [B, 1] would make [B, B].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import ABOVE_ZERO
from fastdqn.errors import ConfigError


def q_target(next_q_target: Tensor, reward: Tensor, discount: Tensor) -> Tensor:
    """``r + discount * max_a Q_target(s', a)`` (Mnih 2015, eq. in "Algorithm").

    Args:
        next_q_target: Q_target(s', .), [B, A].
        reward: [B].
        discount: [B].

    Returns:
        The target, [B].
    """
    if not (
        isinstance(next_q_target, Tensor)
        and isinstance(reward, Tensor)
        and isinstance(discount, Tensor)
        and reward.shape == discount.shape == next_q_target.shape[:-1]
    ):
        _refuse({"next_q_target": next_q_target}, {"reward": reward, "discount": discount})
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
    if not (
        isinstance(next_q_online, Tensor)
        and isinstance(next_q_target, Tensor)
        and isinstance(reward, Tensor)
        and isinstance(discount, Tensor)
        and next_q_online.shape == next_q_target.shape
        and reward.shape == discount.shape == next_q_target.shape[:-1]
    ):
        _refuse(
            {"next_q_online": next_q_online, "next_q_target": next_q_target},
            {"reward": reward, "discount": discount},
        )
    best = next_q_online.argmax(dim=-1, keepdim=True)
    return (reward + discount * next_q_target.gather(-1, best).squeeze(-1)).detach()


def td_error(q: Tensor, action: Tensor, target: Tensor) -> Tensor:
    """``Q(s, a) - target``, [B]: positive where Q is too high.

    Args:
        q: Q(s, .), [B, A].
        action: int64 [B].
        target: [B].
    """
    if not (
        isinstance(q, Tensor)
        and isinstance(action, Tensor)
        and isinstance(target, Tensor)
        and action.shape == target.shape == q.shape[:-1]
        and action.dtype == torch.int64
    ):
        _refuse({"q": q}, {"action": action, "target": target})
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1) - target


def huber_loss(td_error: Tensor, delta: float = 1.0) -> Tensor:
    """``td^2 / 2`` where ``|td| <= delta``, else ``delta (|td| - delta / 2)`` (Huber 1964), [B]."""
    if not isinstance(td_error, Tensor):
        _refuse({"td_error": td_error}, {})
    if type(delta) is not float or not delta > 0:
        delta = check_argument("delta", delta, float, ABOVE_ZERO)
    return F.huber_loss(td_error, torch.zeros_like(td_error), reduction="none", delta=delta)


def mse_loss(td_error: Tensor) -> Tensor:
    """``td^2``, [B]."""
    if not isinstance(td_error, Tensor):
        _refuse({"td_error": td_error}, {})
    return torch.square(td_error)


def _refuse(qs: dict[str, Any], per_sample: dict[str, Any]) -> None:
    """Say which of the arguments does not fit, and how.

    Args:
        qs: [B, A] each.
        per_sample: [B] each, integers where they are actions.
    """
    for name, value in {**qs, **per_sample}.items():
        if not isinstance(value, Tensor):
            raise ConfigError(f"{name} is {type(value).__name__}; pass a tensor.")
    shape = next(iter(qs.values())).shape
    for name, value in qs.items():
        if value.dim() < 2 or value.shape != shape:
            raise ConfigError(
                f"{name} has shape {list(value.shape)}; use Q of every action, [B, A]"
                f"{'' if value.dim() < 2 else f', here {list(shape)}'}."
            )
    for name, value in per_sample.items():
        if value.shape != shape[:-1]:
            raise ConfigError(
                f"{name} has shape {list(value.shape)}, where Q has shape {list(shape)}; use one "
                f"number for each sample, {list(shape[:-1])}."
            )
    raise ConfigError(f"action is {per_sample['action'].dtype}; make it int64 with .long().")
