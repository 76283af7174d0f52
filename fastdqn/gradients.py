"""The pure part of an update: parameters and a batch in, the gradient and statistics out.

This is what gets compiled. It writes to nothing but the running statistics of normalising layers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from fastdqn.flat import FlatParameters
from fastdqn.losses import double_q_target, q_target, td_error

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
    device_type: str,
) -> Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The function, over networks whose parameters stay where they are.

    Args:
        network: In training mode; its parameters correspond to those of ``flat``.
        acting_network: The same parameters in evaluation mode: chooses a' of double Q-learning.
        target_network: Values a'.
        flat: Packs the gradient.
        loss: Of TD errors [B], per sample.
        double: Double Q-learning.
        autocast: Run the networks under autocast to bfloat16.
        device_type: Where they live.

    Returns:
        A function of the first six fields of a Batch, which returns the flat gradient, float32;
        :data:`STATISTICS`, [4]; the TD errors, [B]; and the priorities, [B].
    """
    parameters = list(network.parameters())
    q_values = getattr(network, "q_values", None) or (lambda output: output)

    def q(module: nn.Module, observation: Tensor) -> Tensor:
        # A context per forward: autocast caches lowered weights, and those made without grad
        # must not serve the forward that needs it.
        context = torch.autocast(device_type, dtype=torch.bfloat16) if autocast else nullcontext()
        with context:
            output = module(observation)
        return q_values(output.float())

    def gradients(
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_observation: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with torch.no_grad():
            following = q(target_network, next_observation)
            if double:
                chooser = q(acting_network, next_observation)
                target = double_q_target(chooser, following, reward, discount)
            else:
                target = q_target(following, reward, discount)
        values = q(network, observation)
        td = td_error(values, action, target)
        mean_loss = (weight * loss(td)).mean()
        gradient = flat.pack(torch.autograd.grad(mean_loss, parameters))
        td, mean_loss = td.detach(), mean_loss.detach()
        priority = td.abs()
        finite = torch.isfinite(mean_loss).to(mean_loss.dtype)
        summary = torch.stack((mean_loss, priority.mean(), values.detach().mean(), finite))
        return gradient, summary, td, priority

    return gradients
