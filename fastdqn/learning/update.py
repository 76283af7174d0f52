"""The pure part of an update: parameters and a batch in, the gradient and statistics out.

This is what gets compiled. It writes to nothing but the running statistics of normalising layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastdqn.learning import losses
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.networks.q_network import forward_q

# A function of the first six fields of a Batch; see :func:`make_gradients`.
Gradients = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]

# What every update adds to `Learner.statistics`, in this order; the last counts finite losses.
STATISTICS = ("loss", "td_error_abs", "q_mean", "finite")


def make_gradients(
    network: nn.Module,
    acting_network: nn.Module,
    target_network: nn.Module,
    flat: FlatParameters,
    *,
    loss: Callable[[Tensor], Tensor],
    double: bool,
    autocast: bool,
    compiled: Callable[[Callable[..., Any]], Any],
) -> Gradients:
    """The function, over networks whose parameters stay where they are.

    Args:
        network: In training mode; its parameters correspond to those of ``flat``. Frozen ones
            (``requires_grad = False``) have a gradient of zeros.
        acting_network: The same parameters in evaluation mode: chooses a' of double Q-learning.
        target_network: Values a'.
        flat: Packs the gradient.
        loss: Of TD errors [B], per sample.
        double: Double Q-learning.
        autocast: Run the networks under autocast to bfloat16.
        compiled: Makes a pure function fast.

    Returns:
        A function of the first six fields of a Batch, which returns the flat gradient, float32;
        :data:`STATISTICS`, [4]; the TD errors, [B]; and the priorities, [B].
    """
    parameters = list(network.parameters())
    trained = [parameter.requires_grad for parameter in parameters]
    q, q_acting, q_target = (
        partial(forward_q, module, autocast=autocast)
        for module in (network, acting_network, target_network)
    )

    def gradients(*batch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_loss, values, td = temporal_difference(
            q, q_acting, q_target, *batch, loss=loss, double=double
        )
        gradient = flat.pack(gradients_of(mean_loss, parameters, trained))
        summary, priority = summarize(mean_loss, values, td)
        return gradient, summary, td.detach(), priority

    fast: Gradients = compiled(gradients)
    return fast


def temporal_difference(
    q: Callable[[Tensor], Tensor],
    q_acting: Callable[[Tensor], Tensor],
    q_target: Callable[[Tensor], Tensor],
    observation: Tensor,
    action: Tensor,
    reward: Tensor,
    discount: Tensor,
    next_observation: Tensor,
    weight: Tensor,
    *,
    loss: Callable[[Tensor], Tensor],
    double: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted mean loss, 0-d, Q of the observations, [B, A], and the TD errors, [B]."""
    with torch.no_grad():
        following = q_target(next_observation)
        if double:
            target = losses.double_q_target(q_acting(next_observation), following, reward, discount)
        else:
            target = losses.q_target(following, reward, discount)
    values = q(observation)
    td = losses.td_error(values, action, target)
    return (weight * loss(td)).mean(), values, td


def gradients_of(
    mean_loss: Tensor, parameters: Sequence[Tensor], trained: Sequence[bool]
) -> Sequence[Tensor]:
    """The loss's gradient of each parameter, shaped like it; zeros for those not trained."""
    if all(trained):
        return torch.autograd.grad(mean_loss, parameters)
    wanted = [p for p, counts in zip(parameters, trained, strict=True) if counts]
    found = iter(torch.autograd.grad(mean_loss, wanted))
    return [
        next(found) if counts else torch.zeros_like(p)
        for p, counts in zip(parameters, trained, strict=True)
    ]


def attached(values: Tensor, zero: Tensor) -> Tensor:
    """``values`` as something that gradients can be asked for, in functions that are compiled.

    Args:
        values: Detached.
        zero: 0-d, requires a gradient, made outside: torch 2.11 cannot trace ``requires_grad_()``.
    """
    return values + zero


def summarize(mean_loss: Tensor, values: Tensor, td: Tensor) -> tuple[Tensor, Tensor]:
    """:data:`STATISTICS` of one update, [4], and the priorities, [B]."""
    mean_loss, priority = mean_loss.detach(), td.detach().abs()
    finite = torch.isfinite(mean_loss).to(mean_loss.dtype)
    return torch.stack((mean_loss, priority.mean(), values.detach().mean(), finite)), priority
