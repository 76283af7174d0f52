"""Munchausen Q-learning (Vieillard 2020, arXiv 2007.14430): soft policies, and what they say of r.

The policy is ``pi = softmax(q / t)``; everything here is made of ``t log pi``, in float32, with the
largest q taken out first: at t = 0.03 and |q| of 10 the exponents are in the hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastdqn.config.arguments import check_argument, check_like_fields
from fastdqn.config.checks import shown
from fastdqn.config.groups import LearningFields
from fastdqn.config.ranges import TEMPERATURES
from fastdqn.errors import ConfigError
from fastdqn.learning.losses import of_actions
from fastdqn.learning.shapes import check_numbers, check_shapes


@dataclass(frozen=True, kw_only=True)
class Munchausen:
    """What Munchausen Q-learning needs to know.

    Attributes:
        alpha: Share of the log-policy that is added to the reward.
        temperature: t of the soft policies.
        clip: The least that ``t log pi`` counts as; l0 of the paper.
        policy: Whose log-policy it is: ``target``, as published, or ``online``.

    Raises:
        ConfigError: Where one is of another type or out of range.
    """

    alpha: float = 0.9
    temperature: float = 0.03
    clip: float = -1.0
    policy: str = "target"

    def __post_init__(self) -> None:
        """Check all of them, and make the numbers Python's own."""
        named = {f"munchausen_{name}": value for name, value in vars(self).items()}
        for name, value in check_like_fields(LearningFields, **named).items():
            number = value if isinstance(value, str) else float(value)
            object.__setattr__(self, name.removeprefix("munchausen_"), number)


def check_munchausen(munchausen: Any) -> None:
    """Refuse, by a ConfigError, what is neither a :class:`Munchausen` nor None."""
    if munchausen is not None and not isinstance(munchausen, Munchausen):
        raise ConfigError(
            f"munchausen = {shown(munchausen)} has the wrong type; use "
            f"fastdqn.learning.munchausen.Munchausen(alpha=0.9), or leave it out."
        )


def scaled_log_policy(q: Tensor, temperature: float) -> Tensor:
    """``t log softmax(q / t)``, [B, A] of [B, A] (section 3, "Munchausen-DQN")."""
    check_shapes(q=(q, "B A"))
    temperature = _checked_temperature(temperature)
    below = q - q.amax(dim=1, keepdim=True)
    return below - temperature * (below / temperature).logsumexp(dim=1, keepdim=True)


@torch.no_grad()
def munchausen_bonus(
    q: Tensor, action: Tensor, alpha: float = 0.9, temperature: float = 0.03, clip: float = -1.0
) -> Tensor:
    """``alpha [t log pi(a|s)]_clip^0``, what is added to the reward, [B] (eq. 1).

    Args:
        q: Q(s, .), [B, A].
        action: int64 [B].
        alpha: Share.
        temperature: t.
        clip: The least that ``t log pi`` counts as.
    """
    check_shapes(q=(q, "B A"), action=(action, "B"))
    check_numbers(alpha=alpha, clip=clip)
    alpha, clip = float(alpha), float(clip)
    taken = of_actions(scaled_log_policy(q, temperature), action)
    return alpha * taken.clamp(clip, 0.0)


@torch.no_grad()
def soft_value(q: Tensor, values: Tensor, temperature: float = 0.03) -> Tensor:
    """``sum_a pi(a|s) (Z(s, a) - t log pi(a|s))``, with ``pi = softmax(q / t)`` (eq. 1, right).

    Args:
        q: Of the policy, [B, A].
        values: What is averaged over the actions, [B, A], or [B, A, N] of distributions.
        temperature: t.

    Returns:
        [B] or [B, N].
    """
    scalar = isinstance(values, Tensor) and values.dim() == 2
    check_shapes(q=(q, "B A"), values=(values, "B A" if scalar else "B A N"))
    temperature = _checked_temperature(temperature)
    log_policy = scaled_log_policy(q, temperature)
    policy = (log_policy / temperature).exp()
    entropy = -(policy * log_policy).sum(dim=1)
    if scalar:
        return (policy * values).sum(dim=1) + entropy
    return (policy.unsqueeze(2) * values).sum(dim=1) + entropy.unsqueeze(1)


def _checked_temperature(temperature: float) -> float:
    low, high = TEMPERATURES.low, TEMPERATURES.high
    if type(temperature) is not float or not low <= temperature <= high:
        temperature = float(check_argument("temperature", temperature, float, TEMPERATURES))
    return temperature
