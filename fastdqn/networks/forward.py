"""How others call a network, whoever made it: Q or raw output in float32, and its mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from fastdqn.networks.draws import Randoms


def to_q(network: nn.Module, output: Tensor) -> Tensor:
    """Q, [B, A], of what a network's forward returned; one without ``q_values`` returns Q."""
    q_values = getattr(network, "q_values", None)
    return output if q_values is None else q_values(output)


def forward_output(
    network: nn.Module,
    observation: Tensor,
    autocast: bool,
    randoms: Randoms | None = None,
) -> Tensor:
    """What the network's head makes, float32.

    Args:
        network: Any module that takes observations.
        observation: [B, ...].
        autocast: Run it under autocast to bfloat16.
        randoms: Random numbers by name, for a network that has ``random_shapes``; others, and all
            without, are called with the observation alone.
    """
    # A context per forward: autocast caches lowered weights, and those made without grad must not
    # serve a forward that needs it.
    kind = observation.device.type
    with torch.autocast(kind, dtype=torch.bfloat16) if autocast else nullcontext():
        if randoms and hasattr(network, "random_shapes"):
            output = network(observation, randoms=randoms)
        else:
            output = network(observation)
    return output.float()


def forward_q(
    network: nn.Module,
    observation: Tensor,
    autocast: bool,
    randoms: Randoms | None = None,
) -> Tensor:
    """Q values, float32 [B, A]; arguments as for :func:`forward_output`."""
    return to_q(network, forward_output(network, observation, autocast, randoms))


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards every submodule in the mode that it had."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
