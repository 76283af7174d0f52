"""Observations shifted and scaled by their running mean and deviation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CLIP = 10.0  # deviations
_LEAST = 1e-4  # deviation: what never changes stays 0 instead of being blown up


class Normalizer(nn.Module):
    """``(x - mean) / deviation``, clipped to +-10, over all that it was shown.

    The statistics are exact, not a moving average, and belong to the network: they are saved with
    it and act with it. Copies of the network share them, so that a target network sees what the
    online one sees. Counted in float64, for float32 stops to count at 16,777,216.

    Args:
        size: Numbers in a vector.
    """

    mean: Tensor
    scale: Tensor
    count: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Take in vectors [N, size] (Chan 1983: means and squares of two parts, joined)."""
        x = x.double()
        count = self.count + len(x)
        mean = x.mean(0)
        delta = mean - self.mean
        between = delta.square() * (self.count * len(x) / count)
        self.squares += (x - mean).square().sum(0) + between
        self.mean += delta * (len(x) / count)
        self.count.copy_(count)
        deviation = (self.squares / count).sqrt()
        self.scale.copy_(torch.where(deviation > _LEAST, 1 / deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] float32, normalised."""
        return ((x - self.mean.float()) * self.scale).clamp(-_CLIP, _CLIP)
