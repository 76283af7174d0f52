"""How the weights of a network are drawn at first, by the name that ``init`` has for it."""

from __future__ import annotations

import math

import torch
from torch import nn

from fastdqn.networks.noisy_linear import NoisyLinear

INITS = ("torch", "xavier", "fan_in", "orthogonal")


@torch.no_grad()
def draw_first_weights(network: nn.Module, init: str) -> None:
    """Draw the weights of convolutions and linear layers anew, from torch's default generator.

    ``torch`` leaves them: uniform in +-1 / sqrt(fan in), biases too. ``xavier`` (Glorot 2010, eq.
    16) is uniform in +-sqrt(6 / (fan in + fan out)) with biases of 0, as in Dopamine's DQN.
    ``fan_in`` is uniform in +-sqrt(sqrt(3) / fan in) with biases of 0, as in Dopamine's C51,
    QR-DQN and IQN (variance scaling by 1 / sqrt(3)).
    ``orthogonal`` (Saxe 2014, arXiv 1312.6120) has a gain of sqrt(2), and 1 in the head, with
    biases of 0. Noisy layers keep their own.
    """
    if init == "torch":
        return
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or isinstance(layer, NoisyLinear):
            continue
        if layer.weight.is_meta:  # shapes are all that is asked for
            continue
        if init == "xavier":
            nn.init.xavier_uniform_(layer.weight)
        elif init == "fan_in":
            bound = (math.sqrt(3) / layer.weight[0].numel()) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)
        else:
            nn.init.orthogonal_(layer.weight, 1.0 if name.startswith("head.") else math.sqrt(2))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
