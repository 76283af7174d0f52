"""Targets, TD errors and losses, as in the papers: per sample, no reduction.

None of them knows ``done`` or ``gamma``: a batch carries a ``discount`` per sample, which is 0
where the episode terminated and gamma^m otherwise (rlax's convention). Targets carry no gradient.
All raise ConfigError where shapes do not belong together: [B] and [B, 1] would make [B, B].
"""

from __future__ import annotations

import math
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
        and _alike(next_q_target, reward, discount)
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
        and _alike(next_q_online, next_q_target, reward, discount)
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
        and action.device == q.device
        and _alike(q, target)
    ):
        _refuse({"q": q}, {"action": action, "target": target})
    return of_actions(q, action) - target


def of_actions(q: Tensor, action: Tensor) -> Tensor:
    """Q of the actions, [B]; ConfigError, where it costs no wait, if one is not in Q.

    Args:
        q: [B, A].
        action: int64 [B].
    """
    index = action.unsqueeze(-1)
    if torch.compiler.is_compiling() or action.device.type != "cpu":
        return q.gather(-1, index).squeeze(-1)
    try:
        return q.gather(-1, index).squeeze(-1)
    except RuntimeError:  # free where all is right, which looking is not
        low, high = int(action.min()), int(action.max())
        if low >= 0 and high < q.shape[-1]:
            raise
        raise ConfigError(
            f"action holds {low if low < 0 else high}, where Q has {q.shape[-1]} actions; count "
            f"them from 0 to {q.shape[-1] - 1}."
        ) from None


def huber_loss(td_error: Tensor, delta: float = 1.0) -> Tensor:
    """``td^2 / 2`` where ``|td| <= delta``, else ``delta (|td| - delta / 2)`` (Huber 1964), [B].

    Args:
        td_error: float [B], or of any shape.
        delta: Where it turns linear; above 0.

    Raises:
        ConfigError: Where one is of another type or out of range.
    """
    _check_td_error(td_error)
    if type(delta) is not float or not 0 < delta < math.inf:
        delta = float(check_argument("delta", delta, float, ABOVE_ZERO))
    return F.huber_loss(td_error, torch.zeros_like(td_error), reduction="none", delta=delta)


def mse_loss(td_error: Tensor) -> Tensor:
    """``td^2``, [B].

    Args:
        td_error: float [B], or of any shape.

    Raises:
        ConfigError: Where it is no tensor of floats.
    """
    _check_td_error(td_error)
    return torch.square(td_error)


def _alike(first: Tensor, *rest: Tensor) -> bool:
    """Whether all are floating point, on one device."""
    device = first.device
    for tensor in rest:
        if tensor.device != device or not tensor.is_floating_point():
            return False
    return first.is_floating_point()


def _check_td_error(td_error: Any) -> None:
    if not isinstance(td_error, Tensor):
        raise ConfigError(f"td_error is {type(td_error).__name__}; pass a tensor.")
    if not td_error.is_floating_point():
        raise ConfigError(f"td_error is {td_error.dtype}; make it float32 with .float().")


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
    device = next(iter(qs.values())).device
    for name, value in {**qs, **per_sample}.items():
        if name == "action" and value.dtype != torch.int64:
            raise ConfigError(f"action is {value.dtype}; make it int64 with .long().")
        if name != "action" and not value.is_floating_point():
            raise ConfigError(f"{name} is {value.dtype}; make it float32 with .float().")
        if value.device != device:
            raise ConfigError(
                f"{name} is on {value.device}, where Q is on {device}; move it with "
                f".to({str(device)!r})."
            )
