"""Fully connected layers, for observations that are vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdqn.config.arguments import check_sizes
from fastdqn.config.checks import shown
from fastdqn.errors import ConfigError
from fastdqn.networks.draws import Randoms
from fastdqn.networks.onednn import Linear
from fastdqn.networks.torso import MakeLayer, Torso

if TYPE_CHECKING:
    from fastdqn.networks.spec import NetworkSpec


class MLP(Torso):
    """Fully connected ReLU layers on the flattened observation (stack included).

    The body is all layers but the last.

    Args:
        inputs: Numbers in the flattened observation.
        hidden_sizes: Of the layers; one or more.
        norm: Makes what comes between each layer and its ReLU, of a layer's size: batch
            normalisation (Ioffe 2015) or layer normalisation (Ba 2016); None: nothing does.
        linear: Makes the last layer.

    Raises:
        ConfigError: Where there are no layers, or a size is no whole number from 1.
    """

    def __init__(
        self,
        inputs: int,
        hidden_sizes: Sequence[int],
        *,
        norm: Callable[[int], nn.Module] | None = None,
        linear: MakeLayer = Linear,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs)
        if isinstance(hidden_sizes, str | bytes) or not isinstance(hidden_sizes, Sequence):
            raise ConfigError(
                f"hidden_sizes = {shown(hidden_sizes)} is no sequence; use (256, 256)."
            )
        for size in hidden_sizes:
            check_sizes(hidden_sizes=size)
        if norm is not None and not callable(norm):
            raise ConfigError(f"norm = {shown(norm)} is no function; pass one, such as a class.")
        if not hidden_sizes:
            raise ConfigError(
                "hidden_sizes = () must be one or more sizes for network = 'mlp'; use (256, 256)."
            )
        sizes = [inputs, *hidden_sizes]
        makers: list[MakeLayer] = [*[Linear] * (len(hidden_sizes) - 1), linear]
        self.layers = nn.ModuleList(
            make(*size) for make, size in zip(makers, pairwise(sizes), strict=True)
        )
        self.norms = nn.ModuleList(norm(size) for size in sizes[1:] if norm is not None)
        *_, self.body_features, self.features = sizes

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> Self:
        """See :meth:`Torso.from_spec`."""
        norm = nn.BatchNorm1d if spec.batch_norm else nn.LayerNorm if spec.layer_norm else None
        return cls(spec.flat_inputs, spec.torso_sizes, norm=norm, linear=spec.linear)

    def forward(self, observation: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, ...] to [B, H]; each layer is looked up once, for that costs as much as a ReLU."""
        layers = list(self.layers)
        return self._through(layers, list(self.norms), _flat(observation, layers[0]), randoms)

    def body(self, observation: Tensor) -> Tensor:
        """[B, ...] to [B, F]."""
        layers = list(self.layers)
        x = _flat(observation, layers[0])
        return self._through(layers[:-1], list(self.norms)[:-1], x)

    def to_hidden(self, features: Tensor, randoms: Randoms | None = None) -> Tensor:
        """[B, F] to [B, H]."""
        return self._through(list(self.layers)[-1:], list(self.norms)[-1:], features, randoms)

    @staticmethod
    def _through(
        layers: Sequence[nn.Module],
        norms: Sequence[nn.Module],
        x: Tensor,
        randoms: Randoms | None = None,
    ) -> Tensor:
        if not norms:
            for layer in layers:
                x = F.relu(layer(x, randoms))
            return x
        for layer, norm in zip(layers, norms, strict=True):
            x = F.relu(norm(layer(x, randoms)))
        return x


def _flat(observation: Tensor, first: nn.Module) -> Tensor:
    """[B, inputs] in the precision of the first layer; bytes become 0..1."""
    x = observation.flatten(1)
    if x.dtype == torch.uint8:
        x = x.float() / 255
    assert isinstance(first, nn.Linear)
    return x.to(first.weight.dtype)
