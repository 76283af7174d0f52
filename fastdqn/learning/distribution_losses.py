"""Targets and losses of distributions, as in the papers: per sample, no reduction.

As in :mod:`fastdqn.learning.losses`, none of them knows ``done`` or ``gamma``, targets carry no
gradient, and all raise ConfigError where shapes do not belong together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import ABOVE_ZERO
from fastdqn.errors import ConfigError
from fastdqn.learning.shapes import check_numbers, check_shapes
from fastdqn.learning.sorted_quantile_huber import pays, sorted_quantile_huber_loss


@torch.no_grad()
def categorical_target(
    probabilities: Tensor,
    reward: Tensor,
    discount: Tensor,
    value_min: float,
    value_max: float,
) -> Tensor:
    """The distribution of ``r + discount Z'``, projected onto the atoms (Bellemare 2017, eq. 7).

    ``m_i = sum_j [1 - |clip(r + discount z_j) - z_i| / dz]_0^1 p_j``. Places are counted in atoms
    here, which makes it exact where one falls on an atom.

    Args:
        probabilities: Of Z' at the atoms, [B, N], N >= 2.
        reward: [B].
        discount: [B].
        value_min: z of the first atom.
        value_max: z of the last.

    Returns:
        Probabilities, [B, N].

    Raises:
        ConfigError: Where shapes do not fit, or ``value_min`` is not below ``value_max``.
    """
    check_shapes(
        probabilities=(probabilities, "B N"), reward=(reward, "B"), discount=(discount, "B")
    )
    check_numbers(value_min=value_min, value_max=value_max)
    reward, discount = reward.to(probabilities.dtype), discount.to(probabilities.dtype)
    atoms = probabilities.shape[1]
    if not value_min < value_max or atoms < 2:
        raise ConfigError(
            f"value_min = {value_min} must be below value_max = {value_max}, with two atoms or "
            f"more between them, not {atoms}."
        )
    step = (value_max - value_min) / (atoms - 1)
    place = torch.arange(atoms, device=probabilities.device, dtype=probabilities.dtype)
    first = (reward + (discount - 1) * value_min) / step
    moved = (first.unsqueeze(1) + discount.unsqueeze(1) * place).clamp(0, atoms - 1)
    share = (1 - (moved.unsqueeze(1) - place.unsqueeze(1)).abs()).clamp(min=0)  # [B, i, j]
    return torch.matmul(share, probabilities.unsqueeze(2)).squeeze(2)


def cross_entropy_loss(logits: Tensor, target: Tensor) -> Tensor:
    """``-sum_i m_i log softmax(logits)_i``, [B] (Bellemare 2017, Algorithm 1).

    Args:
        logits: Of the atoms, [B, N].
        target: m, probabilities, [B, N].
    """
    check_shapes(logits=(logits, "B N"), target=(target, "B N"))
    return -(target.detach() * logits.log_softmax(dim=1)).sum(dim=1)


def quantile_huber_loss(
    quantiles: Tensor, target: Tensor, fractions: Tensor, delta: float = 1.0
) -> Tensor:
    """``sum_i mean_j |tau_i - 1{u_ij < 0}| Huber(u_ij) / delta``, ``u_ij = y_j - theta_i``, [B].

    Dabney 2018b, eq. 3; the same as Dabney 2018a, eq. 10, where delta is 1, for that does not
    divide by it. The sum goes over the quantiles that are learned, the mean over the target's.

    Args:
        quantiles: theta, [B, N].
        target: y, samples or quantiles of the target, [B, M].
        fractions: tau, [N] or [B, N].
        delta: kappa of the papers: where the Huber loss turns linear.
    """
    shared = isinstance(fractions, Tensor) and fractions.dim() == 1
    check_shapes(
        quantiles=(quantiles, "B N"),
        target=(target, "B M"),
        fractions=(fractions, "N" if shared else "B N"),
    )
    if type(delta) is not float or not 0 < delta < math.inf:
        delta = float(check_argument("delta", delta, float, ABOVE_ZERO))
    delta = max(delta, 1e-30)  # float32 has no reciprocal of less; |u| is all that is left by then
    if pays(quantiles, target):
        return sorted_quantile_huber_loss(quantiles, target, fractions, delta)
    error = target.detach().unsqueeze(1) - quantiles.unsqueeze(2)  # [B, N, M]
    weight = (fractions.unsqueeze(-1) - (error.detach() < 0).to(error.dtype)).abs()
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
    return (weight * huber).mean(dim=2).sum(dim=1) / delta
