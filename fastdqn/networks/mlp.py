"""Fully connected layers, for observations that are vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.errors import ConfigError
from fastdqn.networks.onednn import Linear
from fastdqn.networks.torso import Torso

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec


class MLP(Torso):
    """Fully connected ReLU layers on the flattened observation (stack included).

    The body is all layers but the last.

    Args:
        inputs: Numbers in the flattened observation.
        hidden_sizes: Of the layers; one or more.
        batch_norm: Batch normalisation (Ioffe 2015) between each layer and its ReLU.

    Raises:
        ConfigError: Where there are no layers.
    """

    def __init__(
        self, inputs: int, hidden_sizes: Sequence[int], *, batch_norm: bool = False
    ) -> None:
        super().__init__()
        if not hidden_sizes:
            raise ConfigError(
                "hidden_sizes = () must be one or more sizes for network = 'mlp'; use (256, 256)."
            )
        sizes = [inputs, *hidden_sizes]
        self.layers = nn.ModuleList(Linear(inward, outward) for inward, outward in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:] if batch_norm)
        *_, self.body_features, self.features = sizes

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """See :meth:`Torso.from_spec`."""
        inputs = math.prod(spec.frame_shape) * (spec.frame_stack or 1)
        return cls(inputs, spec.torso_sizes, batch_norm=spec.batch_norm)

    def body(self, observation: Tensor) -> Tensor:
        """[B, ...] to [B, F]."""
        x = observation.flatten(1)
        if x.dtype == torch.uint8:
            x = x.float() / 255
        layers = list(self.layers)
        assert isinstance(layers[0], nn.Linear)
        x = x.to(layers[0].weight.dtype)
        norms = list(self.norms)
        for index, layer in enumerate(layers[:-1]):
            x = layer(x)
            x = F.relu(norms[index](x) if norms else x)
        return x

    def to_hidden(self, features: Tensor) -> Tensor:
        """[B, F] to [B, H]."""
        x = self.layers[-1](features)
        return F.relu(self.norms[-1](x) if self.norms else x)
