"""Several whole updates as one pure function: what a CPU compiles into a single graph.

On a small network the way into compiled code, the optimizer's and the other small operations cost
as much as the update's arithmetic; in one graph of K updates that is paid once. On CUDA a captured
graph does the same for code as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fastdqn.learning.optimizers import Optimizer
from fastdqn.learning.update import attached, gradients_of, summarize, temporal_difference
from fastdqn.networks.q_network import forward_q, to_q

Tensors = list[Tensor]


def make_launch(
    network: nn.Module,
    acting_network: nn.Module,
    target_network: nn.Module | None,
    optimizer: Optimizer,
    *,
    launch: int,
    loss: Callable[[Tensor], Tensor],
    double: bool,
    max_grad_norm: float | None,
    max_grad_value: float | None,
) -> Callable[..., tuple[Tensors, dict[str, Tensors], Tensor, Tensor, Tensor]]:
    """The function, for float32 networks.

    Args:
        network: In training mode; its own parameters serve only as names.
        acting_network: The same in evaluation mode.
        target_network: None bootstraps from the online parameters of the moment.
        optimizer: Whose :meth:`pure_step` moves them.
        launch: K.
        loss: Of TD errors [B], per sample.
        double: Double Q-learning.
        max_grad_norm: As for the learner.
        max_grad_value: As for the learner.

    Returns:
        A function of the first six fields of a batch of K B transitions, the parameters, the
        optimizer's moments (for each name one tensor per parameter, or one) and the learning rate,
        0-d. It returns the new parameters and moments, the sum of the K statistics, and the last
        update's summary and TD errors.
    """
    q_target = (
        None if target_network is None else partial(forward_q, target_network, autocast=False)
    )
    names = [name for name, _ in network.named_parameters()]
    trained = [parameter.requires_grad for parameter in network.parameters()]
    zero = torch.zeros((), requires_grad=True)

    def q_with(module: nn.Module, parameters: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        named = dict(zip(names, parameters, strict=True))
        return lambda observation: to_q(module, functional_call(module, named, (observation,)))

    def clipped(gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        if max_grad_norm is not None:
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            scale = (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            return [g * scale for g in gradients]
        if max_grad_value is not None:
            return [g.clamp(-max_grad_value, max_grad_value) for g in gradients]
        return gradients

    def updates(
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_observation: Tensor,
        weight: Tensor,
        parameters: Tensors,
        moments: dict[str, Tensors],
        learning_rate: Tensor,
    ) -> tuple[Tensors, dict[str, Tensors], Tensor, Tensor, Tensor]:
        fields = (observation, action, reward, discount, next_observation, weight)
        total = torch.zeros(4)
        for batch in zip(*(field.chunk(launch) for field in fields), strict=True):
            leaves = [attached(p.detach(), zero) for p in parameters]
            q_acting = q_with(acting_network, [p.detach() for p in parameters])
            mean_loss, values, td = temporal_difference(
                q_with(network, leaves),
                q_acting,
                q_acting if q_target is None else q_target,
                *batch,
                loss=loss,
                double=double,
            )
            gradients = clipped(gradients_of(mean_loss, leaves, trained))
            with torch.no_grad():
                parameters, moments = optimizer.pure_step(
                    parameters, gradients, moments, learning_rate
                )
                summary, _ = summarize(mean_loss, values, td)
                total = total + summary
        return parameters, moments, total, summary, td.detach()

    return updates
