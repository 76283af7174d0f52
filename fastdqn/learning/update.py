"""The pure part of an update: parameters and a batch in, the gradient and statistics out.

This is what gets compiled. It writes to nothing but the running statistics of normalising layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastdqn.learning.draws import UpdateDraws
from fastdqn.learning.flat_parameters import FlatParameters
from fastdqn.learning.objectives import (
    Forward,
    Objective,
    Randoms,
    Transitions,
    check_terms,
    check_trainable_terms,
    first_trained,
    run_forwards,
)
from fastdqn.networks.forward import forward_output, to_q

# A function of the first six fields of a Batch and of an update's random numbers; see
# :func:`make_gradients`.
Gradients = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]

# What every update adds to `Learner.statistics`, in this order; the last counts finite losses.
STATISTICS = ("loss", "td_error_abs", "q_mean", "finite")

Fields = Sequence[Tensor]
"""The first six fields of a Batch."""


def make_gradients(
    network: nn.Module,
    acting_network: nn.Module,
    target_network: nn.Module,
    flat: FlatParameters,
    *,
    objective: Objective,
    autocast: bool,
    compiled: Callable[[Callable[..., Any]], Any],
) -> Gradients:
    """The function, over networks whose parameters stay where they are.

    Args:
        network: Online on s, in training mode; its parameters correspond to those of ``flat``.
            Frozen ones (``requires_grad = False``) have a gradient of zeros.
        acting_network: The same parameters in evaluation mode: online on s2.
        target_network: In evaluation mode.
        flat: Packs the gradient.
        objective: What the gradient is of.
        autocast: Run the networks under autocast to bfloat16.
        compiled: Makes a pure function fast.

    Returns:
        A function of the first six fields of a Batch and the random numbers that
        :class:`fastdqn.learning.draws.UpdateDraws` draws, which returns the flat gradient,
        float32; :data:`STATISTICS`, [4]; the TD errors, [B]; and the priorities, [B].
    """
    parameters = list(network.parameters())
    trained = [parameter.requires_grad for parameter in parameters]
    draws = UpdateDraws(network, objective)

    def gradients(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        fields = inputs[:6]
        randoms = draws.by_forward(inputs[6:], len(fields[1]))

        def run(forward: Forward) -> Tensor:
            online = acting_network if forward[1] == "s2" else network
            module = target_network if forward[0] == "target" else online
            observation = fields[4] if forward[1] == "s2" else fields[0]
            return forward_output(module, observation, autocast, randoms.get(forward))

        mean_loss, summary, td, priority = weighted_loss(
            objective, run, partial(to_q, network), fields, randoms
        )
        gradient = flat.pack(gradients_of(mean_loss, parameters, trained))
        return gradient, summary, td, priority

    fast: Gradients = compiled(gradients)
    return fast


def weighted_loss(
    objective: Objective,
    run: Callable[[Forward], Tensor],
    to_q: Callable[[Tensor], Tensor],
    fields: Fields,
    randoms: Randoms,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An objective weighted and reduced, the one place where that happens.

    Args:
        objective: Per sample.
        run: One forward to a head's output.
        to_q: A head's output to Q, [B, A].
        fields: The first six fields of a Batch; the last weighs.
        randoms: By forward.

    Returns:
        The weighted mean loss, 0-d, with its gradient; :data:`STATISTICS`, [4]; the TD errors and
        the priorities, [B].
    """
    outputs = run_forwards(objective, run, to_q)
    loss, td, priority = objective(outputs, Transitions(*fields[:5]), randoms)
    mean_loss, td = (fields[5] * loss).mean(), td.detach()
    q, mean = outputs.q(first_trained(objective)).detach(), mean_loss.detach()
    finite = torch.isfinite(mean).to(mean.dtype)
    summary = torch.stack((mean, td.abs().mean(), q.mean(), finite))
    return mean_loss, summary, td, priority.detach()


def try_objective(
    objective: Objective,
    acting_network: nn.Module,
    target_network: nn.Module,
    batch: Fields,
    randoms: Sequence[Tensor],
    autocast: bool,
) -> None:
    """Show an objective one batch before it trains on any; nothing is kept.

    Raises:
        ConfigError: Where it does not return a loss, a TD error and a priority for each sample, in
            float32 and the loss with a gradient.
    """
    draws = UpdateDraws(acting_network, objective)
    given = draws.by_forward(randoms, len(batch[1]))

    def run(forward: Forward) -> Tensor:
        module = target_network if forward[0] == "target" else acting_network
        observation = batch[4] if forward[1] == "s2" else batch[0]
        return forward_output(module, observation, autocast, given.get(forward))

    outputs = run_forwards(objective, run, partial(to_q, acting_network))
    terms = objective(outputs, Transitions(*batch[:5]), given)
    check_terms(objective, terms, len(batch[1]))
    check_trainable_terms(objective, terms, outputs)


def gradients_of(
    mean_loss: Tensor, parameters: Sequence[Tensor], trained: Sequence[bool]
) -> Sequence[Tensor]:
    """The loss's gradient of each parameter, shaped like it.

    Zeros for those that are not trained, and for those that the loss does not depend on: no
    optimizer here moves what has never had another gradient.
    """
    wanted = [p for p, counts in zip(parameters, trained, strict=True) if counts]
    found = iter(torch.autograd.grad(mean_loss, wanted, materialize_grads=True))
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
