"""Linear layers whose sums are normalised, row by row (Ba 2016, arXiv 1607.06450)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastdqn.networks.noisy_linear import NoisyLinear
from fastdqn.networks.onednn import Linear


class NormalizedLinear(Linear):
    """``g * (z - mean z) / sqrt(var z + 1e-5) + h`` of ``z = W x + b``, before a ReLU (section 3).

    In each row some units stay above 0, whatever large steps did to the weights.

    Args:
        in_features: Numbers in a row.
        out_features: Numbers made of them, over which mean and variance are taken.
        options: Of the layer that makes the sums.
    """

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features, out_features, **options)
        self.norm = nn.LayerNorm(out_features)

    def forward(self, input: Tensor, randoms: Any = None) -> Tensor:
        """[B, in] to [B, out], with the noise of the layer, if it has any."""
        normalized: Tensor = self.norm(super().forward(input, randoms))
        return normalized


class NormalizedNoisyLinear(NormalizedLinear, NoisyLinear):
    """The same of a layer with noise."""
