"""Several whole updates as one pure function: what a CPU compiles into a single graph.

On a small network the way into compiled code, the optimizer's and the other small operations cost
as much as the update's arithmetic; in one graph of K updates that is paid once. On CUDA a captured
graph does the same for code as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fastdqn.learning.draws import UpdateDraws
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.objectives import Forward, Objective
from fastdqn.learning.optimizers import Optimizer
from fastdqn.learning.update import STATISTICS, attached, gradients_of, weighted_loss
from fastdqn.networks.forward import forward_output, to_q

Tensors = list[Tensor]


class FusedUpdates:
    """K updates as one call, on parameters and moments that lie flat.

    Args:
        updates: What :func:`make_updates` made, compiled.
        flat: The parameters.
        optimizer: Their moments.
    """

    def __init__(
        self, updates: Callable[..., Any], flat: FlatParameters, optimizer: Optimizer
    ) -> None:
        self._updates, self._optimizer = updates, optimizer
        self._parameters = flat.views(flat.data)
        self._moments = {
            name: flat.views(moment) if moment.shape == flat.data.shape else [moment]
            for name, moment in optimizer.moments.items()
        }

    @torch.no_grad()
    def __call__(
        self, fields: Sequence[Tensor], randoms: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Update in place.

        Args:
            fields: The first six fields of a batch of K B transitions.
            randoms: Of K updates, one after another.

        Returns:
            The sum of the K statistics, and the last update's statistics, TD errors, priorities.
        """
        rate = self._optimizer.learning_rate
        rate = rate if isinstance(rate, Tensor) else torch.tensor(rate)
        with torch.enable_grad():
            parameters, moments, *told = self._updates(
                fields, randoms, self._parameters, self._moments, rate
            )
        torch._foreach_copy_(self._parameters, parameters)
        for name, values in moments.items():
            torch._foreach_copy_(self._moments[name], values)
        return tuple(told)  # type: ignore[return-value]


def make_updates(
    network: nn.Module,
    acting_network: nn.Module,
    target_network: nn.Module | None,
    optimizer: Optimizer,
    *,
    launch: int,
    objective: Objective,
    max_grad_norm: float | None,
    max_grad_value: float | None,
) -> Callable[..., tuple[Tensors, dict[str, Tensors], Tensor, Tensor, Tensor, Tensor]]:
    """The function, for float32 networks.

    Args:
        network: In training mode; its own parameters serve only as names.
        acting_network: The same in evaluation mode.
        target_network: None bootstraps from the online parameters of the moment.
        optimizer: Whose :meth:`pure_step` moves them.
        launch: K.
        objective: What each update's gradient is of.
        max_grad_norm: As for the learner.
        max_grad_value: As for the learner.

    Returns:
        A function of the first six fields of a batch of K B transitions, the random numbers of
        K updates one after another, the parameters, the optimizer's moments (for each name one
        tensor per parameter, or one) and the learning rate, 0-d. It returns the new parameters and
        moments, the sum of the K statistics, and the last update's statistics, TD errors and
        priorities.
    """
    names = [name for name, _ in network.named_parameters()]
    trained = [parameter.requires_grad for parameter in network.parameters()]
    zero = torch.zeros((), requires_grad=True)
    draws = UpdateDraws(network, objective)

    def output_of(
        module: nn.Module,
        parameters: Sequence[Tensor],
        observation: Tensor,
        randoms: Mapping[str, Tensor] | None,
    ) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        given = {"randoms": randoms} if randoms else {}
        output: Tensor = functional_call(module, named, (observation,), given)
        return output.float()

    def clipped(gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        if max_grad_norm is not None:
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            scale = (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            return [g * scale for g in gradients]
        if max_grad_value is not None:
            return [g.clamp(-max_grad_value, max_grad_value) for g in gradients]
        return gradients

    def update(
        fields: Sequence[Tensor], randoms: Sequence[Tensor], parameters: Tensors
    ) -> tuple[Sequence[Tensor], Tensor, Tensor, Tensor]:
        """Gradients, statistics, TD errors and priorities at these parameters."""
        leaves = [attached(p.detach(), zero) for p in parameters]
        online = [p.detach() for p in parameters]
        given = draws.by_forward(randoms, len(fields[1]))

        def run(forward: Forward) -> Tensor:
            observation = fields[4] if forward[1] == "s2" else fields[0]
            mine = given.get(forward)
            if forward[0] == "target" and target_network is not None:
                return forward_output(target_network, observation, False, mine)
            if forward[0] == "target" or forward[1] == "s2":
                return output_of(acting_network, online, observation, mine)
            return output_of(network, leaves, observation, mine)

        mean_loss, summary, td, priority = weighted_loss(
            objective, run, partial(to_q, network), fields, given
        )
        return clipped(gradients_of(mean_loss, leaves, trained)), summary, td, priority

    def updates(
        fields: Sequence[Tensor],
        randoms: Sequence[Tensor],
        parameters: Tensors,
        moments: dict[str, Tensors],
        learning_rate: Tensor,
    ) -> tuple[Tensors, dict[str, Tensors], Tensor, Tensor, Tensor, Tensor]:
        total = torch.zeros(len(STATISTICS))
        each = len(randoms) // launch
        batches = zip(*(field.chunk(launch) for field in fields), strict=True)
        for number, batch in enumerate(batches):
            mine = randoms[number * each : (number + 1) * each]
            gradients, summary, td, priority = update(batch, mine, parameters)
            with torch.no_grad():
                parameters, moments = optimizer.pure_step(
                    parameters, gradients, moments, learning_rate
                )
                total = total + summary
        return parameters, moments, total, summary, td, priority

    return updates
